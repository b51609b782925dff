/* The seam, folders. */
#include "os_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_CAP = 4096 };

static int io_error(aha_error *e, const char *verb, const char *path)
{
    return error_set(e, AHA_ERR_IO, "cannot %s folder '%.380s': %s", verb, path, strerror(errno));
}

bool dir_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int dir_make(const char *path, aha_error *e)
{
    char part[PATH_CAP];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part)
        return error_set(e, n ? AHA_ERR_LIMIT : AHA_ERR_ARG, "folder name of %zu bytes, 1 to %d expected", n, PATH_CAP - 1);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        char c = part[i];
        part[i] = 0;
        /* Tried first, judged after: another process may make the same folder, and a parent may be unreadable. */
        if (mkdir(part, 0755) && !dir_exists(part)) return io_error(e, "make", part);
        part[i] = c;
    }
    return 0;
}

int dir_sync(const char *path, aha_error *e)
{
    int fd = -1, r = -1;
    if (os_fault(OS_FAULT_OPEN)) errno = EIO;
    else fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_error(e, "open", path);
    if (os_fault(OS_FAULT_SYNC)) errno = EIO;
    else do r = fsync(fd);
        while (r && errno == EINTR);
    /* EINVAL: network and user-space file systems that know no fsync of folders */
    int rc = r && errno != EINVAL && errno != ENOTSUP ? io_error(e, "fsync", path) : 0;
    close(fd);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names, each with its NUL, in one buffer. */
static int names_read(const char *path, Buf *all, int *n, aha_error *e)
{
    DIR *d = NULL;
    if (os_fault(OS_FAULT_OPEN)) errno = EIO;
    else d = opendir(path);
    if (!d) return io_error(e, "list", path);
    int rc = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (!entry) {
            if (errno) rc = io_error(e, "list", path);
            break;
        }
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (*n == INT_MAX) {
            rc = error_set(e, AHA_ERR_LIMIT, "folder '%.300s': more than %d names", path, INT_MAX);
            break;
        }
        buf_add(all, entry->d_name, strlen(entry->d_name) + 1);
        ++*n;
    }
    closedir(d);
    if (!rc && all->failed) rc = error_set(e, AHA_ERR_NOMEM, "no memory for the names in folder '%.300s'", path);
    return rc;
}

int dir_list(const char *path, char ***names, int *n, aha_error *e)
{
    Buf all = {0};
    int count = 0, rc = names_read(path, &all, &count, e);
    *names = NULL;
    *n = 0;
    if (rc) goto done;
    size_t bytes;
    char **block = NULL;
    if (size_mul((size_t)count, sizeof *block, &bytes) && size_add(bytes, all.n, &bytes)) block = mem_alloc(bytes);
    if (!block) {
        rc = error_set(e, AHA_ERR_NOMEM, "no memory for %d names in folder '%.300s'", count, path);
        goto done;
    }
    char *text = (char *)(block + count);
    if (all.n) memcpy(text, all.data, all.n);
    for (int i = 0; i < count; i++, text += strlen(text) + 1) block[i] = text;
    if (count > 1) qsort(block, (size_t)count, sizeof *block, by_name);
    *names = block;
    *n = count;
done:
    buf_free(&all);
    return rc;
}

/* Symbolic links are removed, never followed; `depth` levels of folders are entered. */
static int remove_tree(const char *path, int depth, aha_error *e)
{
    char **names;
    int n, rc = dir_list(path, &names, &n, e);
    if (rc) return rc;
    for (int i = 0; i < n && !rc; i++) {
        char child[PATH_CAP];
        struct stat st;
        rc = path_join(child, sizeof child, path, names[i], e);
        if (rc) break;
        if (lstat(child, &st)) rc = errno == ENOENT ? 0 : io_error(e, "look into", child);
        else if (S_ISDIR(st.st_mode) && depth > 0) rc = remove_tree(child, depth - 1, e);
        else if (S_ISDIR(st.st_mode)) rc = rmdir(child) ? io_error(e, "remove", child) : 0;
        else rc = file_remove(child, e);
    }
    mem_free(names);
    if (!rc && rmdir(path)) rc = io_error(e, "remove", path);
    return rc;
}

int dir_remove_all(const char *path, aha_error *e)
{
    struct stat st;
    if (lstat(path, &st)) return errno == ENOENT ? 0 : io_error(e, "remove", path);
    if (!S_ISDIR(st.st_mode)) return error_set(e, AHA_ERR_ARG, "'%.400s' is no folder", path);
    return remove_tree(path, 1, e);
}

bool file_name_is_plain(const char *s, size_t n)
{
    if (n == 0 || n > 255 || memchr(s, 0, n) || memchr(s, '/', n)) return false;
    return !(s[0] == '.' && (n == 1 || (n == 2 && s[1] == '.')));
}
