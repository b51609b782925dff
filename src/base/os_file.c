/* The seam, files.  A call is tried again after EINTR; every failure names the file and the system's reason. */
#include "os_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_CAP = 4096 };

/* strerror: a constant string for every errno that the system returns, hence safe from several threads. */
static int io_error(aha_error *e, const char *verb, const char *path)
{
    int code = errno == ENOMEM ? AHA_ERR_NOMEM : AHA_ERR_IO;
    return error_set(e, code, "cannot %s '%.380s': %s", verb, path, strerror(errno));
}

static bool faulted(unsigned kind, int err)
{
    if (!os_fault(kind)) return false;
    errno = err;
    return true;
}

static int fd_open(const char *path, int flags)
{
    if (faulted(OS_FAULT_OPEN, EIO)) return -1;
    int fd;
    do fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0644);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static const char *kind_name(mode_t m)
{
    return S_ISDIR(m)    ? "a folder"
           : S_ISFIFO(m) ? "a FIFO"
           : S_ISCHR(m)  ? "a character device"
           : S_ISBLK(m)  ? "a block device"
           : S_ISSOCK(m) ? "a socket"
                         : "no regular file";
}

static int kind_check(const struct stat *st, const char *path, aha_error *e)
{
    if (S_ISREG(st->st_mode)) return 0;
    return error_set(e, AHA_ERR_FORMAT, "'%.400s' is %s, a regular file is expected", path, kind_name(st->st_mode));
}

/* ---- open and close ---- */
int file_open(File *f, const char *path, aha_error *e)
{
    *f = (File){.fd = -1};
    struct stat st;
    /* Looked at before it is opened, as opening a device can have an effect of its own; and again after, as the name
     * may have changed hands.  O_NONBLOCK: opening a FIFO would wait for a writer. */
    if (stat(path, &st)) return io_error(e, "open", path);
    int rc = kind_check(&st, path, e);
    if (rc) return rc;
    int fd = fd_open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return io_error(e, "open", path);
    rc = fstat(fd, &st) ? io_error(e, "open", path) : kind_check(&st, path, e);
    if (rc) {
        close(fd);
        return rc;
    }
    *f = (File){.fd = fd, .size = st.st_size};
    return 0;
}

/* Writing may go to a device (/dev/null, /dev/stdout), yet opening never waits for the reader of a FIFO. */
static int open_write(File *f, const char *path, int flags, aha_error *e)
{
    *f = (File){.fd = -1};
    int fd = fd_open(path, O_WRONLY | O_CREAT | O_NONBLOCK | flags);
    struct stat st;
    if (fd < 0) return io_error(e, "write", path);
    int fl = fcntl(fd, F_GETFL);
    if (fl < 0 || fcntl(fd, F_SETFL, fl & ~O_NONBLOCK) < 0 || fstat(fd, &st)) {
        int rc = io_error(e, "write", path);
        close(fd);
        return rc;
    }
    *f = (File){.fd = fd, .size = S_ISREG(st.st_mode) ? st.st_size : 0};
    return 0;
}

int file_create(File *f, const char *path, aha_error *e)
{
    return open_write(f, path, O_TRUNC, e);
}

int file_append(File *f, const char *path, aha_error *e)
{
    return open_write(f, path, O_APPEND, e);
}

void file_close(File *f)
{
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
}

/* ---- read and write ---- */
static ssize_t fd_pread(int fd, void *buf, size_t n, int64_t off)
{
    if (faulted(OS_FAULT_READ, EIO)) return -1;
    ssize_t r;
    if (n > 1 << 30) n = 1 << 30; /* systems cap one call at 2 GiB, some fail above it */
    do r = pread(fd, buf, n, (off_t)off);
    while (r < 0 && errno == EINTR);
    return r;
}

int file_pread(const File *f, void *buf, size_t n, int64_t off, aha_error *e)
{
    if (off < 0 || n > (uint64_t)(INT64_MAX - off))
        return error_set(e, AHA_ERR_ARG, "read of %zu bytes at offset %lld", n, (long long)off);
    size_t done = 0;
    while (done < n) {
        ssize_t r = fd_pread(f->fd, (char *)buf + done, n - done, off + (int64_t)done);
        if (r < 0)
            return error_set(e, AHA_ERR_IO, "reading %zu bytes at offset %lld: %s", n, (long long)off, strerror(errno));
        if (r == 0)
            return error_set(e, AHA_ERR_IO, "file ends at byte %lld, %zu bytes at offset %lld are expected",
                             (long long)off + (long long)done, n, (long long)off);
        done += (size_t)r;
    }
    return 0;
}

int file_write(const File *f, const void *buf, size_t n, aha_error *e)
{
    const char *p = buf;
    /* An injected failure is a full disk: half is written. */
    bool fail = os_fault(OS_FAULT_WRITE);
    size_t left = fail ? n / 2 : n;
    while (left) {
        ssize_t w = write(f->fd, p, left > 1 << 30 ? 1 << 30 : left);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return error_set(e, AHA_ERR_IO, "writing %zu bytes: %s", n, strerror(errno));
        p += w;
        left -= (size_t)w;
    }
    return fail ? error_set(e, AHA_ERR_IO, "writing %zu bytes: %s", n, strerror(ENOSPC)) : 0;
}

int file_truncate(const File *f, int64_t size, aha_error *e)
{
    int r;
    if (faulted(OS_FAULT_WRITE, EIO)) r = -1;
    else do r = ftruncate(f->fd, (off_t)size);
        while (r && errno == EINTR);
    return r ? error_set(e, AHA_ERR_IO, "cutting a file to %lld bytes: %s", (long long)size, strerror(errno)) : 0;
}

int file_sync(const File *f, aha_error *e)
{
    int r;
    if (faulted(OS_FAULT_SYNC, EIO)) r = -1;
    else do r = fsync(f->fd);
        while (r && errno == EINTR);
    /* EINVAL: a device or a file system that has nothing to synchronise */
    if (r && errno != EINVAL && errno != ENOTSUP) return error_set(e, AHA_ERR_IO, "fsync: %s", strerror(errno));
    return 0;
}

static int64_t written_ns(const File *f)
{
    struct stat st;
    return fstat(f->fd, &st) ? 0 : (int64_t)st.st_mtime * 1000000000 + st.st_mtim.tv_nsec;
}

int file_map(Map *m, const char *path, aha_error *e)
{
    static const uint8_t empty[1];
    *m = (Map){.data = empty};
    File f;
    int rc = file_open(&f, path, e);
    if (rc) return rc;
    if (f.size > 0) {
        void *p = MAP_FAILED;
        if ((uint64_t)f.size > SIZE_MAX) errno = ENOMEM;
        else if (!faulted(OS_FAULT_MAP, ENOMEM)) p = mmap(NULL, (size_t)f.size, PROT_READ, MAP_SHARED, f.fd, 0);
        if (p == MAP_FAILED) rc = io_error(e, "map", path);
        else *m = (Map){.data = p, .size = (size_t)f.size, .written_ns = written_ns(&f)};
    }
    file_close(&f);
    return rc;
}

void map_expect(const void *data, size_t n, MapUse use)
{
    static const int ADVICE[] = {MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED, MADV_DONTNEED};
    uintptr_t        from = (uintptr_t)data & ~(uintptr_t)4095; /* of larger pages the system refuses some: then nothing is lost */
    if (n) (void)madvise((void *)from, n + ((uintptr_t)data - from), ADVICE[use]);
}

void file_unmap(Map *m)
{
    if (m->size) munmap((void *)(uintptr_t)m->data, m->size);
    *m = (Map){0};
}

/* Reads to the end rather than to f->size: files of /proc say 0, and a file may grow meanwhile. */
static int read_to_end(const File *f, size_t max_bytes, char **out, size_t *n_out, aha_error *e)
{
    size_t n = 0, cap = (size_t)f->size + 2; /* one for the NUL, one to see the end without growing */
    char *buf = mem_alloc(cap);
    if (!buf) return error_set(e, AHA_ERR_NOMEM, "no memory to read %zu bytes", cap);
    for (;;) {
        ssize_t r = fd_pread(f->fd, buf + n, cap - 1 - n, (int64_t)n);
        int rc = r < 0 ? error_set(e, AHA_ERR_IO, "reading at offset %zu: %s", n, strerror(errno)) : 0;
        if (r == 0) break;
        if (!rc) {
            n += (size_t)r;
            if (n > max_bytes) rc = error_set(e, AHA_ERR_LIMIT, "more than the limit of %zu bytes", max_bytes);
        }
        if (!rc && n + 1 == cap) {
            size_t grown = cap < (max_bytes + 2) / 2 ? cap * 2 : max_bytes + 2;
            char *p = mem_realloc(buf, grown);
            if (!p) rc = error_set(e, AHA_ERR_NOMEM, "no memory to read %zu bytes", grown);
            else {
                buf = p;
                cap = grown;
            }
        }
        if (rc) {
            mem_free(buf);
            return rc;
        }
    }
    buf[n] = 0;
    *out = buf;
    *n_out = n;
    return 0;
}

int file_read_all(const char *path, size_t max_bytes, char **out, size_t *n, aha_error *e)
{
    *out = NULL;
    *n = 0;
    File f;
    if (max_bytes > SIZE_MAX / 2) max_bytes = SIZE_MAX / 2;
    int rc = file_open(&f, path, e);
    if (rc) return rc;
    if ((uint64_t)f.size > max_bytes)
        rc = error_set(e, AHA_ERR_LIMIT, "'%.300s': %lld bytes, at most %zu expected", path, (long long)f.size, max_bytes);
    else if ((rc = read_to_end(&f, max_bytes, out, n, e)) != 0)
        rc = error_prefix(e, rc, "'%.300s'", path);
    file_close(&f);
    return rc;
}

/* ---- atomic replacement ----
 * The temporary name is fixed, so that a killed process leaves at most one behind and the next write takes it over; a
 * lock on the file keeps two writers apart, and dies with its process. */
static int tmp_take(File *f, const char *tmp, aha_error *e)
{
    *f = (File){.fd = -1};
    for (;;) {
        struct stat mine, there;
        int rc = 0, fd = fd_open(tmp, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) return io_error(e, "write", tmp);
        int r;
        do r = flock(fd, LOCK_EX);
        while (r && errno == EINTR);
        /* A file system without locks is used without: only two simultaneous writers would notice. */
        if (fstat(fd, &mine)) rc = io_error(e, "write", tmp);
        else rc = kind_check(&mine, tmp, e);
        if (rc) {
            close(fd);
            return rc;
        }
        /* While we waited, the previous owner renamed the file into place or removed it: take the new one. */
        if (!lstat(tmp, &there) && there.st_ino == mine.st_ino && there.st_dev == mine.st_dev) {
            *f = (File){.fd = fd};
            return 0;
        }
        close(fd);
    }
}

static int tmp_fill(const File *f, const char *path, const void *data, size_t n, aha_error *e)
{
    struct stat st;
    int rc = file_truncate(f, 0, e);
    /* What was private stays private. */
    if (!rc && !stat(path, &st) && S_ISREG(st.st_mode) && fchmod(f->fd, st.st_mode & 0777)) rc = io_error(e, "chmod", path);
    if (!rc) rc = file_write(f, data, n, e);
    if (!rc) rc = file_sync(f, e);
    if (!rc && (fstat(f->fd, &st) || (uint64_t)st.st_size != n))
        rc = error_set(e, AHA_ERR_IO, "%lld bytes after writing, %zu expected", (long long)st.st_size, n);
    return rc;
}

int file_write_atomic(const char *path, const void *data, size_t n, aha_error *e)
{
    char tmp[PATH_CAP];
    int len = snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (len < 0 || (size_t)len >= sizeof tmp)
        return error_set(e, AHA_ERR_LIMIT, "path of %zu bytes, at most %d expected", strlen(path), PATH_CAP - 5);
    File f;
    int rc = tmp_take(&f, tmp, e);
    if (rc) return rc;
    rc = tmp_fill(&f, path, data, n, e);
    if (rc) rc = error_prefix(e, rc, "'%.300s'", path);
    else rc = file_rename(tmp, path, e);
    if (rc) {
        /* Only if it is still ours: after the rename another writer may own the name. */
        struct stat mine, there;
        if (!fstat(f.fd, &mine) && !lstat(tmp, &there) && mine.st_ino == there.st_ino && mine.st_dev == there.st_dev)
            (void)unlink(tmp);
    }
    file_close(&f); /* and with it the lock */
    return rc;
}

/* The folder part of a path: "a/b" -> "a", "/b" -> "/", "b" -> "." */
static int folder_of(char *dst, size_t cap, const char *path, aha_error *e)
{
    const char *slash = strrchr(path, '/');
    size_t n = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (n >= cap) return error_set(e, AHA_ERR_LIMIT, "path of %zu bytes, at most %zu expected", strlen(path), cap - 1);
    memcpy(dst, slash ? path : ".", n);
    dst[n] = 0;
    return 0;
}

int file_rename(const char *from, const char *to, aha_error *e)
{
    char folder[PATH_CAP];
    int rc = folder_of(folder, sizeof folder, to, e);
    if (rc) return rc;
    if (faulted(OS_FAULT_RENAME, EIO) || rename(from, to))
        return error_set(e, AHA_ERR_IO, "cannot rename '%.200s' to '%.200s': %s", from, to, strerror(errno));
    return dir_sync(folder, e);
}

int file_remove(const char *path, aha_error *e)
{
    if (!unlink(path) || errno == ENOENT) return 0;
    return io_error(e, "remove", path);
}

bool path_is_special(const char *path, aha_error *e)
{
    struct stat st;
    if (stat(path, &st) || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) return false;
    (void)kind_check(&st, path, e);
    return true;
}

bool file_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}
