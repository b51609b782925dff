/* What a repository holds, by the hub's own interface:
 *   GET /api/models/REPO/revision/REV            which commit that is
 *   GET /api/models/REPO/tree/COMMIT?recursive=1 its files with sizes and hashes, page by page (Link: rel="next") */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../format/format.h"
#include "pull.h"

enum { PAGES_MAX = 2000, NEAR_MAX = 200 };

/* ---- the nearest name, when there is none of that name ---- */
/* Fetches a list and looks in the texts under `key` for the one nearest to `name`.  What goes wrong here is not worth a word. */
static bool nearest_at_hub(const HubEnv *v, const char *url, const char *list, const char *key, const char *name, char *dst, size_t cap)
{
    Buf         body = {0};
    Reply       r;
    Json       *j = NULL;
    HubEnv      once = *v;
    long        status = 0;
    const char *names[NEAR_MAX], *near = NULL, *s;
    int         n = 0;
    once.tries = 1;
    if (!http_get(&once, url, &body, &r, &status, NULL) && status == 200 && !json_parse(&j, body.data, body.n, "list", NULL)) {
        const Json *a = list ? json_field(j, list) : j;
        for (size_t i = 0; i < json_array_size(a) && n < NEAR_MAX; i++)
            if ((s = json_string_value(json_field(json_array_get(a, i), key))) != NULL) names[n++] = s;
        near = name_nearest(name, names, n);
        if (near) error_quote(dst, cap, near, strlen(near));
    }
    json_free(j);
    buf_free(&body);
    return near != NULL;
}

static bool nearest_repo(const HubEnv *v, const char *repo, char *dst, size_t cap)
{
    const char *slash = strchr(repo, '/'), *name = slash ? slash + 1 : repo;
    Buf         url = {0};
    bool        found = false;
    if (slash) {
        buf_fmt(&url, "%s/api/models?limit=%d&author=%.*s", v->endpoint, NEAR_MAX, (int)(slash - repo), repo);
        if (!url.failed) found = nearest_at_hub(v, url.data, NULL, "id", repo, dst, cap);
    }
    /* searched by the name's beginning, so that a slip further on does not matter */
    for (size_t part = strlen(name); !found && part >= 3; part = part * 2 / 3) {
        char head[HUB_REPO_CAP];
        snprintf(head, sizeof head, "%.*s", (int)part, name);
        buf_reset(&url);
        buf_fmt(&url, "%s/api/models?limit=%d&search=", v->endpoint, NEAR_MAX);
        url_escape(&url, head, false);
        if (url.failed) break;
        found = nearest_at_hub(v, url.data, NULL, "id", repo, dst, cap);
    }
    buf_free(&url);
    return found;
}

static bool nearest_revision(const HubEnv *v, const char *repo, const char *rev, char *dst, size_t cap)
{
    Buf  url = {0};
    bool found = false;
    buf_fmt(&url, "%s/api/models/%s/refs", v->endpoint, repo);
    if (!url.failed) found = nearest_at_hub(v, url.data, "branches", "name", rev, dst, cap);
    if (!url.failed && !found) found = nearest_at_hub(v, url.data, "tags", "name", rev, dst, cap);
    buf_free(&url);
    return found;
}

/* ---- refusals ---- */
static int refused_access(const HubEnv *v, const HubList *l, long status, const Reply *r, aha_error *e)
{
    char near[HUB_REPO_CAP];
    if (!strcmp(r->error_code, "GatedRepo"))
        return error_set(e, AHA_ERR_IO, "%s is gated: accept its terms at %s/%s, then set HF_TOKEN to a token of that account (%s/settings/tokens)%s", l->repo,
                         v->endpoint, l->repo, v->endpoint, v->token[0] ? "; the token that was sent has no access" : "");
    if (v->token[0] && status == 401)
        return error_set(e, AHA_ERR_IO, "the hub does not take the token (401): it expired, is mistyped, or %s is not there; HF_TOKEN or $HF_HOME/token holds it", l->repo);
    if (v->token[0])
        return error_set(e, AHA_ERR_IO, "%s: the hub refuses access with this token (403)%s%s", l->repo, r->error_text[0] ? ": " : "", r->error_text);
    if (nearest_repo(v, l->repo, near, sizeof near))
        return error_set(e, AHA_ERR_IO, "there is no public %s (%ld); did you mean %s? A private one needs HF_TOKEN", l->repo, status, near);
    return error_set(e, AHA_ERR_IO, "there is no public %s (%ld): the name is mistyped, or it is private and needs HF_TOKEN", l->repo, status);
}

int hub_refused(const HubEnv *v, const HubList *l, const char *what, long status, const Reply *r, aha_error *e)
{
    char near[HUB_REPO_CAP];
    if (status == 401 || status == 403) return refused_access(v, l, status, r, e);
    if (status == 404 && what)
        return error_set(e, AHA_ERR_IO, "%.300s: the list of %s names it, but the hub does not have it (404)", what, l->repo);
    if (status == 404 && !strcmp(r->error_code, "RepoNotFound") && nearest_repo(v, l->repo, near, sizeof near))
        return error_set(e, AHA_ERR_IO, "there is no %s; did you mean %s?", l->repo, near);
    if (status == 404 && strcmp(r->error_code, "RepoNotFound") != 0) {
        if (nearest_revision(v, l->repo, l->rev, near, sizeof near))
            return error_set(e, AHA_ERR_IO, "%s has no revision '%s'; did you mean %s?", l->repo, l->rev, near);
        if (!strcmp(r->error_code, "RevisionNotFound")) return error_set(e, AHA_ERR_IO, "%s has no revision '%s'", l->repo, l->rev);
        if (nearest_repo(v, l->repo, near, sizeof near) && strcmp(near, l->repo) != 0)
            return error_set(e, AHA_ERR_IO, "there is no %s; did you mean %s?", l->repo, near);
    }
    if (status == 404) return error_set(e, AHA_ERR_IO, "%s has no repository '%s' (404)", v->endpoint, l->repo);
    return error_set(e, AHA_ERR_IO, "%.300s: the hub answers %ld%s%s", what ? what : l->repo, status, r->error_text[0] ? ": " : "", r->error_text);
}

/* ---- the list ---- */
int hub_list_add(HubList *l, const HubFile *f, aha_error *e)
{
    int      cap = l->cap ? 2 * l->cap : 64;
    HubFile *p;
    if (l->n >= HUB_FILES_MAX) return error_set(e, AHA_ERR_LIMIT, "%s has more than %d files", l->title, HUB_FILES_MAX);
    if (l->n == l->cap) {
        p = mem_realloc(l->file, (size_t)cap * sizeof *p);
        if (!p) return error_set(e, AHA_ERR_NOMEM, "no memory for a list of %d files", cap);
        l->file = p;
        l->cap = cap;
    }
    l->file[l->n++] = *f;
    return 0;
}

static int take_hashes(HubFile *f, const Json *j, const char *what, aha_error *e)
{
    const Json *lfs = json_field(j, "lfs");
    const char *oid = NULL;
    int64_t     size = f->size;
    int         rc = json_get_str(lfs ? lfs : j, what, "oid", true, &oid, e);
    char        q[80];
    if (rc == 0 && lfs) rc = json_get_int(lfs, what, "size", false, 0, HUB_SIZE_MAX, &size, e);
    if (rc) return rc;
    f->lfs = lfs != NULL;
    if (!hex_is(oid, f->lfs ? 64 : 40))
        return error_set(e, AHA_ERR_FORMAT, "%s: oid is '%s', %d hexadecimal digits are expected", what, error_quote(q, sizeof q, oid, strlen(oid)), f->lfs ? 64 : 40);
    if (size != f->size)
        return error_set(e, AHA_ERR_FORMAT, "%s: size is %lld and lfs.size is %lld: they must be equal", what, (long long)f->size, (long long)size);
    memcpy(f->oid, oid, strlen(oid) + 1);
    return 0;
}

static int take_file(HubList *l, const Json *j, aha_error *e)
{
    const char *path = NULL, *type = NULL, *fault;
    char        what[360], q[120];
    HubFile     f = {0};
    int         rc = json_get_str(j, l->repo, "type", true, &type, e);
    if (rc == 0) rc = json_get_str(j, l->repo, "path", true, &path, e);
    if (rc) return rc;
    error_quote(q, sizeof q, path, strlen(path));
    if ((fault = hub_path_fault(path, strlen(path))) != NULL)
        return error_set(e, AHA_ERR_FORMAT, "%s lists a file named '%s': %s; such a repository is not pulled", l->repo, q, fault);
    if (strcmp(type, "file") != 0) return 0;
    snprintf(what, sizeof what, "%s's list, '%s'", l->repo, q);
    rc = json_get_int(j, what, "size", true, 0, HUB_SIZE_MAX, &f.size, e);
    if (rc == 0) rc = take_hashes(&f, j, what, e);
    if (rc == 0 && !(f.path = mem_strdup(path))) rc = error_set(e, AHA_ERR_NOMEM, "no memory for a list of files");
    if (rc == 0) rc = hub_list_add(l, &f, e);
    if (rc) mem_free(f.path);
    return rc;
}

static int take_page(HubList *l, const Buf *body, aha_error *e)
{
    Json *j = NULL;
    int   rc = json_parse(&j, body->data, body->n, "the hub's list of files", e);
    if (rc == 0 && !json_is_array(j)) rc = error_set(e, AHA_ERR_FORMAT, "the hub's list of files is no list");
    for (size_t i = 0; rc == 0 && i < json_array_size(j); i++) rc = take_file(l, json_array_get(j, i), e);
    json_free(j);
    return rc;
}

static int by_path(const void *a, const void *b) { return strcmp(((const HubFile *)a)->path, ((const HubFile *)b)->path); }

static int by_oid(const void *a, const void *b) { return strcmp((*(HubFile *const *)a)->oid, (*(HubFile *const *)b)->oid); }

void hub_list_sort(HubList *l)
{
    if (l->n) qsort(l->file, (size_t)l->n, sizeof *l->file, by_path);
}

/* No path twice, and one content has one size. */
static int check_list(HubList *l, aha_error *e)
{
    HubFile **f = l->n ? mem_alloc((size_t)l->n * sizeof *f) : NULL;
    int       rc = 0;
    if (l->n && !f) return error_set(e, AHA_ERR_NOMEM, "no memory for a list of files");
    hub_list_sort(l);
    for (int i = 0; i < l->n; i++) {
        f[i] = &l->file[i];
        if (i && rc == 0 && !strcmp(l->file[i - 1].path, l->file[i].path)) rc = error_set(e, AHA_ERR_FORMAT, "%s lists '%.300s' twice", l->repo, l->file[i].path);
    }
    if (l->n) qsort(f, (size_t)l->n, sizeof *f, by_oid);
    for (int i = 1; i < l->n && rc == 0; i++)
        if (!strcmp(f[i - 1]->oid, f[i]->oid) && f[i - 1]->size != f[i]->size)
            rc = error_set(e, AHA_ERR_FORMAT, "%s lists '%.200s' and '%.200s' with one hash and two sizes", l->repo, f[i - 1]->path, f[i]->path);
    mem_free(f);
    return rc;
}

static int read_commit(HubList *l, const HubEnv *v, Buf *url, Buf *body, aha_error *e)
{
    Reply       r;
    Json       *j = NULL;
    const char *sha = NULL;
    long        status;
    int         rc;
    char        q[80];
    buf_fmt(url, "%s/api/models/%s/revision/", v->endpoint, l->repo);
    url_escape(url, l->rev, false);
    if (url->failed) return error_set(e, AHA_ERR_NOMEM, "no memory for an address");
    if ((rc = http_get(v, url->data, body, &r, &status, e)) != 0) return rc;
    if (status != 200) return hub_refused(v, l, NULL, status, &r, e);
    rc = json_parse(&j, body->data, body->n, "the hub's answer about the revision", e);
    if (rc == 0) rc = json_get_str(j, "the hub's answer about the revision", "sha", true, &sha, e);
    if (rc == 0 && !hex_is(sha, 40))
        rc = error_set(e, AHA_ERR_FORMAT, "the hub's answer about the revision: sha is '%s', 40 hexadecimal digits are expected", error_quote(q, sizeof q, sha, strlen(sha)));
    if (rc == 0) memcpy(l->commit, sha, 41);
    json_free(j);
    return rc;
}

static int read_pages(HubList *l, const HubEnv *v, Buf *url, Buf *body, aha_error *e)
{
    Buf next = {0};
    int rc = 0, pages = 0;
    buf_reset(url);
    buf_fmt(url, "%s/api/models/%s/tree/%s?recursive=1", v->endpoint, l->repo, l->commit);
    while (rc == 0) {
        Reply r;
        long  status;
        if (url->failed) rc = error_set(e, AHA_ERR_NOMEM, "no memory for an address");
        if (rc == 0) rc = http_get(v, url->data, body, &r, &status, e);
        if (rc == 0 && status != 200) rc = hub_refused(v, l, NULL, status, &r, e);
        if (rc == 0) rc = take_page(l, body, e);
        if (rc || !r.next[0]) break;
        buf_reset(&next);
        rc = url_at_hub(v, r.next, &next, e);
        if (rc == 0 && (next.failed || ++pages > PAGES_MAX || !strcmp(next.data, url->data)))
            rc = error_set(e, AHA_ERR_LIMIT, "%s: the list of files does not end (%d pages)", l->repo, pages);
        buf_reset(url);
        if (rc == 0) buf_str(url, next.data);
    }
    buf_free(&next);
    return rc;
}

int hub_list(HubList *l, const HubEnv *v, const char *repo, const char *rev, aha_error *e)
{
    Buf url = {0}, body = {0};
    int rc;
    memset(l, 0, sizeof *l);
    snprintf(l->repo, sizeof l->repo, "%s", repo);
    snprintf(l->rev, sizeof l->rev, "%s", rev);
    snprintf(l->title, sizeof l->title, "%s", repo);
    rc = read_commit(l, v, &url, &body, e);
    if (rc == 0) rc = read_pages(l, v, &url, &body, e);
    if (rc == 0) rc = check_list(l, e);
    buf_free(&url);
    buf_free(&body);
    return rc;
}

void hub_list_free(HubList *l)
{
    for (int i = 0; i < l->n; i++) mem_free(l->file[i].path);
    mem_free(l->file);
    memset(l, 0, sizeof *l);
}
