/* Where files end.  The cache that other tools share:
 *
 *   CACHE/models--ORG--NAME/blobs/HASH                 the contents
 *                           snapshots/COMMIT/PATH      links to them
 *                           refs/REVISION              the commit that it was at last
 *
 * Parts of files are blobs/HASH.aha.incomplete and not blobs/HASH.incomplete: other tools append to that name without a look
 * at what it holds, and ours have gaps. */
#include <stdio.h>
#include <string.h>

#include "pull.h"

#define ROOM_SPARE INT64_C(67108864) /* a disk filled to the last byte serves nobody */

int place_names(Place *p, const HubEnv *v, const HubList *l, const char *to, aha_error *e)
{
    Buf  name = {0};
    char folder[PULL_PATH_CAP];
    int  rc;
    memset(p, 0, sizeof *p);
    p->list = l;
    p->to = to;
    if (to) {
        rc = path_join(p->root, sizeof p->root, to[0] == '/' ? "/" : ".", to + (to[0] == '/'), e);
        if (rc == 0) snprintf(p->folder, sizeof p->folder, "%s", to);
        return rc;
    }
    buf_str(&name, "models");
    for (const char *s = l->repo; *s;) {
        size_t n = strcspn(s, "/");
        buf_fmt(&name, "--%.*s", (int)n, s);
        s += n + (s[n] == '/');
    }
    rc = name.failed ? error_set(e, AHA_ERR_NOMEM, "no memory for a name") : path_join(p->root, sizeof p->root, v->cache, name.data, e);
    buf_free(&name);
    if (rc == 0) rc = path_join(folder, sizeof folder, p->root, "snapshots", e);
    if (rc == 0) rc = path_join(p->folder, sizeof p->folder, folder, l->commit, e);
    return rc;
}

int place_init(Place *p, const HubEnv *v, const HubList *l, const char *to, aha_error *e)
{
    char blobs[PULL_PATH_CAP];
    int  rc = place_names(p, v, l, to, e);
    if (rc || to) return rc ? rc : dir_make(p->root, e);
    rc = path_join(blobs, sizeof blobs, p->root, "blobs", e);
    return rc ? rc : dir_make(blobs, e);
}

int place_path(const Place *p, const HubFile *f, char dst[PULL_PATH_CAP], aha_error *e) { return path_join(dst, PULL_PATH_CAP, p->folder, f->path, e); }

/* the folder that a path lies in */
static int make_parent(const char *path, aha_error *e)
{
    char        folder[PULL_PATH_CAP];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return 0;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    return dir_make(folder, e);
}

int place_blob(const Place *p, const HubEnv *v, const HubFile *f, Blob *b, aha_error *e)
{
    char final[PULL_PATH_CAP], part[PULL_PATH_CAP];
    Buf  url = {0};
    int  rc, n;
    if (p->to) {
        rc = path_join(final, sizeof final, p->root, f->path, e);
        if (rc == 0) rc = make_parent(final, e);
        n = rc ? 0 : snprintf(part, sizeof part, "%s.incomplete", final);
    } else {
        n = snprintf(final, sizeof final, "%s/blobs/%s", p->root, f->oid);
        rc = n < 0 || (size_t)n >= sizeof final ? error_set(e, AHA_ERR_LIMIT, "the cache's path is too long: '%.200s'", p->root) : 0;
        n = rc ? 0 : snprintf(part, sizeof part, "%s.aha.incomplete", final);
    }
    if (rc == 0 && (size_t)n >= sizeof part) rc = error_set(e, AHA_ERR_LIMIT, "the path is too long: '%.200s'", final);
    if (rc) return rc;
    buf_fmt(&url, "%s/%s/resolve/%s/", v->endpoint, p->list->repo, p->list->commit);
    url_escape(&url, f->path, true);
    rc = url.failed ? error_set(e, AHA_ERR_NOMEM, "no memory for an address") : blob_init(b, f, final, part, url.data, e);
    if (rc == 0) b->named_by_hash = !p->to;
    buf_free(&url);
    return rc;
}

int place_room(const Place *p, int64_t missing, aha_error *e)
{
    uint64_t free_bytes;
    char     a[32], b[32];
    int      rc = missing ? disk_free(p->root, &free_bytes, e) : 0;
    if (rc || !missing || free_bytes >= (uint64_t)(missing + ROOM_SPARE)) return rc;
    return error_set(e, AHA_ERR_IO, "%s are missing, and '%.250s' has room for %s: free some, or choose another place (HF_HOME, --to)", bytes_words(a, (double)missing), p->root,
                     bytes_words(b, (double)free_bytes));
}

static int make_link(const Place *p, const HubFile *f, aha_error *e)
{
    char path[PULL_PATH_CAP];
    Buf  target = {0};
    int  rc = place_path(p, f, path, e);
    if (rc == 0) rc = make_parent(path, e);
    buf_str(&target, "../../");
    for (const char *s = f->path; *s; s++)
        if (*s == '/') buf_str(&target, "../");
    buf_fmt(&target, "blobs/%s", f->oid);
    if (rc == 0 && target.failed) rc = error_set(e, AHA_ERR_NOMEM, "no memory for a link");
    if (rc == 0) rc = link_make(target.data, path, e);
    buf_free(&target);
    return rc;
}

int place_finish(const Place *p, aha_error *e)
{
    const HubList *l = p->list;
    char           refs[PULL_PATH_CAP], path[PULL_PATH_CAP];
    int            rc = 0;
    if (p->to) return 0;
    for (int i = 0; i < l->n && rc == 0; i++)
        if (l->file[i].wanted) rc = make_link(p, &l->file[i], e);
    if (rc || !strcmp(l->rev, l->commit)) return rc;
    rc = path_join(refs, sizeof refs, p->root, "refs", e);
    if (rc == 0) rc = path_join(path, sizeof path, refs, l->rev, e);
    if (rc == 0) rc = make_parent(path, e);
    if (rc == 0) rc = file_write_atomic(path, l->commit, strlen(l->commit), e);
    return rc;
}
