/* What the writers of model files share: a file grows beside its target and is renamed into its place when it is whole. */
#include <stdio.h>

#include "inner.h"

enum { WRITE_PIECE = 64 << 20, PATH_MAX_BYTES = 4096 };

int write_all(const File *f, const void *data, size_t n, aha_error *e)
{
    const uint8_t *p = data;
    int            rc = 0;
    for (size_t step; n && !rc; p += step, n -= step) {
        step = n < WRITE_PIECE ? n : WRITE_PIECE;
        rc = file_write(f, p, step, e);
    }
    return rc;
}

static int check_size(const char *tmp, uint64_t bytes, aha_error *e)
{
    File f;
    int  rc = file_open(&f, tmp, e);
    if (rc) return rc;
    file_close(&f);
    return (uint64_t)f.size == bytes
               ? 0
               : error_set(e, AHA_ERR_IO, "%lld bytes after writing, %llu expected", (long long)f.size, (unsigned long long)bytes);
}

int write_beside(const char *path, WriteBodyFn *body, void *user, uint64_t bytes, aha_error *e)
{
    char tmp[PATH_MAX_BYTES];
    File f;
    int  len = snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (len < 0 || (size_t)len >= sizeof tmp) return error_set(e, AHA_ERR_LIMIT, "the path is longer than %d bytes", PATH_MAX_BYTES - 5);
    int rc = file_create(&f, tmp, e);
    if (rc) return rc;
    rc = body(user, &f, e);
    if (!rc) rc = file_sync(&f, e);
    file_close(&f);
    if (!rc) rc = check_size(tmp, bytes, e);
    if (rc && rc != AHA_ERR_CANCELLED) error_prefix(e, rc, "%s", tmp);
    if (!rc) rc = file_rename(tmp, path, e);
    if (rc) file_remove(tmp, NULL); /* where the folder's fsync failed after the rename, the new file is whole and stays */
    return rc;
}
