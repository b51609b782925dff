/* The seam, for files that are filled at random places over many runs: locks, links, free space. */
#include "os_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int io_error(aha_error *e, const char *verb, const char *path)
{
    int code = errno == ENOMEM ? AHA_ERR_NOMEM : AHA_ERR_IO;
    return error_set(e, code, "cannot %s '%.380s': %s", verb, path, strerror(errno));
}

int file_open_rw(File *f, const char *path, aha_error *e)
{
    struct stat st;
    int         fd = -1, fl;
    *f = (File){.fd = -1};
    if (os_fault(OS_FAULT_OPEN))
        errno = EIO;
    else
        do fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0644);
        while (fd < 0 && errno == EINTR);
    if (fd < 0) return io_error(e, "open", path);
    fl = fcntl(fd, F_GETFL);
    if (fl < 0 || fcntl(fd, F_SETFL, fl & ~O_NONBLOCK) < 0 || fstat(fd, &st)) {
        int rc = io_error(e, "open", path);
        close(fd);
        return rc;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(e, AHA_ERR_FORMAT, "'%.400s' is no regular file, one is expected", path);
    }
    *f = (File){.fd = fd, .size = st.st_size};
    return 0;
}

int file_make_private(const char *path, aha_error *e)
{
    const char *slash = strrchr(path, '/');
    char        folder[PATH_MAX];
    int         fd = -1, rc;
    if (slash && slash != path) {
        if ((size_t)(slash - path) >= sizeof folder) return error_set(e, AHA_ERR_LIMIT, "path of %zu bytes, at most %d expected", strlen(path), PATH_MAX - 1);
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = 0;
        if ((rc = dir_make(folder, e)) != 0) return rc;
    }
    if (os_fault(OS_FAULT_OPEN))
        errno = EIO;
    else
        do fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
        while (fd < 0 && errno == EINTR);
    if (fd < 0) return errno == EEXIST ? 0 : io_error(e, "make", path);
    close(fd);
    return 0;
}

int file_pwrite(const File *f, const void *buf, size_t n, int64_t off, aha_error *e)
{
    const char *p = buf;
    bool        fault = os_fault(OS_FAULT_WRITE); /* a full disk: half is written */
    size_t      left = fault ? n / 2 : n;
    if (off < 0 || n > (uint64_t)(INT64_MAX - off)) return error_set(e, AHA_ERR_ARG, "write of %zu bytes at offset %lld", n, (long long)off);
    while (left) {
        ssize_t w = pwrite(f->fd, p, left > 1 << 30 ? 1 << 30 : left, (off_t)off);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return error_set(e, AHA_ERR_IO, "writing %zu bytes at offset %lld: %s", n, (long long)off, strerror(errno));
        p += w;
        off += w;
        left -= (size_t)w;
    }
    return fault ? error_set(e, AHA_ERR_IO, "writing %zu bytes at offset %lld: %s", n, (long long)off, strerror(ENOSPC)) : 0;
}

int file_lock(const File *f, const char *path, bool *got, aha_error *e)
{
    struct stat mine, there;
    int         r;
    *got = false;
    do r = flock(f->fd, LOCK_EX | LOCK_NB);
    while (r && errno == EINTR);
    if (r && errno == EWOULDBLOCK) return 0;
    /* A file system without locks is used without: two at once only fetch twice there. */
    if (r && errno != ENOLCK && errno != ENOTSUP && errno != ENOSYS && errno != EINVAL) return io_error(e, "lock", path);
    if (fstat(f->fd, &mine)) return io_error(e, "lock", path);
    *got = !lstat(path, &there) && there.st_ino == mine.st_ino && there.st_dev == mine.st_dev;
    return 0;
}

/* Where the target of a link at `path` is, seen from here. */
static int target_from_here(char *dst, size_t cap, const char *target, const char *path, aha_error *e)
{
    const char *slash = strrchr(path, '/');
    char        folder[PATH_MAX];
    if (target[0] == '/' || !slash) return path_join(dst, cap, target[0] == '/' ? "/" : ".", target + (target[0] == '/'), e);
    if ((size_t)(slash - path) >= sizeof folder) return error_set(e, AHA_ERR_LIMIT, "path of %zu bytes", strlen(path));
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = 0;
    return path_join(dst, cap, folder[0] ? folder : "/", target, e);
}

int link_make(const char *target, const char *path, aha_error *e)
{
    char    tmp[PATH_MAX], there[PATH_MAX];
    ssize_t n = readlink(path, there, sizeof there - 1);
    int     len = snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid()), rc;
    if (n > 0 && (size_t)n == strlen(target) && !memcmp(there, target, (size_t)n)) return 0; /* as it should be */
    if (len < 0 || (size_t)len >= sizeof tmp) return error_set(e, AHA_ERR_LIMIT, "path of %zu bytes, at most %d expected", strlen(path), PATH_MAX - 32);
    (void)unlink(tmp);
    if (symlink(target, tmp)) {
        if (errno != EPERM && errno != ENOTSUP && errno != ENOSYS) return io_error(e, "make a link at", path);
        if ((rc = target_from_here(there, sizeof there, target, path, e)) != 0) return rc;
        if (link(there, tmp)) return io_error(e, "make a link at", path);
    }
    rc = file_rename(tmp, path, e);
    if (rc) (void)unlink(tmp);
    return rc;
}

int disk_free(const char *path, uint64_t *bytes, aha_error *e)
{
    struct statvfs s;
    int            r;
    do r = statvfs(path, &s);
    while (r && errno == EINTR);
    if (r) return io_error(e, "ask for the free space of", path);
    *bytes = (uint64_t)s.f_bavail * (uint64_t)(s.f_frsize ? s.f_frsize : s.f_bsize);
    return 0;
}
