/* What the cache holds of a repository, without a network: files that aha pull or another tool has left there, perhaps not all of them. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../format/format.h"
#include "pull.h"

enum { DEPTH_MAX = 16, HASHED_MAX = 16 << 20, NAMED_MAX = 8 };

/* ---- which files ---- */
static int no_snapshot(const HubList *l, const HubEnv *v, const char *why, aha_error *e)
{
    return error_set(e, AHA_ERR_IO, "offline, and the cache '%.250s' has no %s at '%.80s'%s", v->cache, l->repo, l->rev, why);
}

static int read_ref(HubList *l, const HubEnv *v, const Place *p, aha_error *e)
{
    char   refs[PULL_PATH_CAP], path[PULL_PATH_CAP], *text = NULL;
    size_t n = 0;
    int    rc = path_join(refs, sizeof refs, p->root, "refs", e);
    if (rc == 0) rc = path_join(path, sizeof path, refs, l->rev, e);
    if (rc) return rc;
    if (path_is_special(path, e)) return AHA_ERR_FORMAT;
    if (!file_exists(path)) return no_snapshot(l, v, "", e);
    if ((rc = file_read_all(path, 4096, &text, &n, e)) != 0) return rc;
    n = strcspn(text, " \r\n");
    text[n] = 0;
    if (hex_is(text, 40)) memcpy(l->commit, text, 41);
    else rc = error_set(e, AHA_ERR_FORMAT, "offline, and '%.300s' is damaged: 40 hexadecimal digits of a commit are expected", path);
    mem_free(text);
    return rc;
}

/* A link's target ends in the blob's hash; a file that is no link has none. */
static void read_oid(HubFile *f, const char *path)
{
    char        target[PULL_PATH_CAP];
    const char *slash;
    ssize_t     n = readlink(path, target, sizeof target - 1);
    if (n < 0) return;
    target[n] = 0;
    if (!(slash = strrchr(target, '/'))) return;
    f->lfs = hex_is(slash + 1, 64);
    if (f->lfs || hex_is(slash + 1, 40)) memcpy(f->oid, slash + 1, strlen(slash + 1) + 1);
}

static int add_file(HubList *l, const char *path, const char *name, aha_error *e)
{
    HubFile f = {0};
    File    file;
    int     rc;
    if (hub_path_fault(name, strlen(name))) return 0;
    if (!file_open(&file, path, NULL)) {
        f.size = file.size < HUB_SIZE_MAX ? file.size : HUB_SIZE_MAX;
        file_close(&file);
    }
    read_oid(&f, path);
    if (!(f.path = mem_strdup(name))) return error_set(e, AHA_ERR_NOMEM, "no memory for a list of files");
    if ((rc = hub_list_add(l, &f, e)) != 0) mem_free(f.path);
    return rc;
}

static int walk(HubList *l, const char *dir, const char *prefix, int depth, aha_error *e)
{
    char **names, path[PULL_PATH_CAP], name[PULL_PATH_CAP];
    int    n, rc = dir_list(dir, &names, &n, e);
    for (int i = 0; i < n && rc == 0; i++) {
        rc = path_join(path, sizeof path, dir, names[i], e);
        if (rc == 0 && (size_t)snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "/" : "", names[i]) >= sizeof name) continue;
        if (rc == 0 && !dir_exists(path)) rc = add_file(l, path, name, e);
        else if (rc == 0 && depth < DEPTH_MAX) rc = walk(l, path, name, depth + 1, e);
    }
    mem_free(names);
    return rc;
}

int cache_list(HubList *l, const HubEnv *v, const char *repo, const char *rev, aha_error *e)
{
    Place p;
    int   rc;
    memset(l, 0, sizeof *l);
    snprintf(l->repo, sizeof l->repo, "%s", repo);
    snprintf(l->rev, sizeof l->rev, "%s", rev);
    snprintf(l->title, sizeof l->title, "the cached %s", repo);
    rc = place_names(&p, v, l, NULL, e);
    if (rc == 0 && hex_is(rev, 40)) memcpy(l->commit, rev, 41);
    else if (rc == 0) rc = read_ref(l, v, &p, e);
    if (rc == 0) rc = place_names(&p, v, l, NULL, e);
    if (rc == 0 && !dir_exists(p.folder)) rc = no_snapshot(l, v, ": the commit's files are not there", e);
    if (rc == 0) rc = walk(l, p.folder, "", 0, e);
    hub_list_sort(l);
    return rc;
}

/* ---- are they whole ---- */
typedef struct Faults {
    Buf text; /* "a is missing, b is damaged" */
    int n;
} Faults;

static void fault(Faults *f, const char *name, const char *what)
{
    char q[200];
    if (f->n++ < NAMED_MAX) buf_fmt(&f->text, "%s'%s' %s", f->text.n ? ", " : "", error_quote(q, sizeof q, name, strlen(name)), what);
}

static const HubFile *find(const HubList *l, const char *path)
{
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->file[i].path, path)) return &l->file[i];
    return NULL;
}

/* Small files are what their name's hash says; of large ones the weights' own headers tell the size. */
static int check_file(const HubFile *f, const char *path, Faults *faults, aha_error *e)
{
    File      file;
    aha_error why = {0};
    int       rc;
    if (!file_exists(path) && !path_is_special(path, NULL)) {
        fault(faults, f->path, "is missing");
        return 0;
    }
    if ((rc = file_open(&file, path, &why)) != 0) {
        fault(faults, f->path, "cannot be read");
        return rc == AHA_ERR_NOMEM ? error_set(e, rc, "%s", why.text) : 0;
    }
    file_close(&file);
    if (!f->oid[0] || f->size > HASHED_MAX) return 0;
    rc = blob_file_matches(f, path, &why);
    if (rc == 1) return 0;
    if (rc < 0 && rc != AHA_ERR_STATE) return error_set(e, rc, "%s", why.text);
    fault(faults, f->path, "is damaged");
    return 0;
}

/* The shards that an index names. */
static int check_index(const HubList *l, const char *path, Faults *faults, aha_error *e)
{
    char       *text = NULL;
    size_t      n;
    Json       *j = NULL;
    const char *key, *last = "";
    Json       *value;
    int         rc = file_read_all(path, HASHED_MAX, &text, &n, e);
    if (rc == 0) rc = json_parse(&j, text, n, "model.safetensors.index.json", e);
    json_object_foreach((Json *)json_field(j, "weight_map"), key, value)
    {
        const char *shard = json_string_value(value);
        bool        told = false;
        if (!shard || !strcmp(shard, last)) continue;
        last = shard;
        if (find(l, shard)) continue;
        for (int i = 0; i < faults->n && !told && faults->text.data; i++) told = strstr(faults->text.data, shard) != NULL;
        if (!told) fault(faults, shard, "is missing");
    }
    mem_free(text);
    json_free(j);
    return rc;
}

/* What a folder needs that the list may lack altogether. */
static int check_folder(const HubList *l, const Place *p, Faults *faults, aha_error *e)
{
    static const char *const NEEDED[] = {"config.json", "tokenizer.json"}, INDEX[] = "model.safetensors.index.json";
    const HubFile *index = find(l, INDEX);
    char           path[PULL_PATH_CAP];
    int            rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(NEEDED); i++)
        if (!find(l, NEEDED[i])) fault(faults, NEEDED[i], "is missing");
    if (!index && !find(l, "model.safetensors"))
        for (int i = 0; i < l->n; i++)
            if (l->file[i].wanted && strstr(l->file[i].path, "-of-")) {
                fault(faults, INDEX, "is missing");
                break;
            }
    if (index) rc = place_path(p, index, path, e);
    return index && rc == 0 && file_exists(path) ? check_index(l, path, faults, e) : rc;
}

/* Sizes by the weights' own headers */
static int check_weights(const HubList *l, const Place *p, const Selection *s, Faults *faults, aha_error *e)
{
    char        path[PULL_PATH_CAP];
    WeightFile *w = NULL;
    aha_error   why = {0};
    bool        large = false;
    int         rc = 0;
    for (int i = 0; i < l->n; i++) large = large || (l->file[i].wanted && (!l->file[i].oid[0] || l->file[i].size > HASHED_MAX));
    if (!large || s->pattern || faults->n) return 0;
    if (s->gguf >= 0) rc = place_path(p, &l->file[s->gguf], path, e);
    else snprintf(path, sizeof path, "%s", p->folder);
    if (rc == 0 && (rc = weights_open(&w, path, &why)) == 0) weights_close(w);
    else if (rc == AHA_ERR_FORMAT || rc == AHA_ERR_IO) rc = error_set(e, AHA_ERR_IO, "offline, and the cached %s is damaged: %.400s", l->repo, why.text);
    else if (rc == AHA_ERR_NOMEM) rc = error_set(e, rc, "%s", why.text);
    else rc = 0; /* a model that this program does not know is no fault of the cache */
    return rc;
}

int cache_check(const HubList *l, const Place *p, const Selection *s, aha_error *e)
{
    Faults f = {0};
    char   path[PULL_PATH_CAP];
    int    rc = 0;
    for (int i = 0; i < l->n && rc == 0; i++) {
        if (!l->file[i].wanted) continue;
        rc = place_path(p, &l->file[i], path, e);
        if (rc == 0) rc = check_file(&l->file[i], path, &f, e);
    }
    if (rc == 0 && s->gguf < 0 && !s->pattern) rc = check_folder(l, p, &f, e);
    if (rc == 0) rc = check_weights(l, p, s, &f, e);
    if (rc == 0 && f.n) {
        if (f.n > NAMED_MAX) buf_fmt(&f.text, " and %d more", f.n - NAMED_MAX);
        rc = error_set(e, AHA_ERR_IO, "offline, and of %s in '%.200s' %s: online aha pull fetches what is not whole", l->repo, p->folder, f.text.failed ? "files are missing" : f.text.data);
    }
    buf_free(&f.text);
    return rc;
}
