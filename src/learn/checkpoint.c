/* Checkpoints: a safetensors file beside a JSON manifest that is moved last. */
#include "checkpoint.h"

#include <stdio.h>
#include <string.h>

enum { PATH_CAP = 4096, MANIFEST_MAX = 1 << 16 };
#define FORMAT "aha-checkpoint-1"

/* ---- the tensors of a state ---- */
typedef struct Part {
    char  name[160];
    void *data;
    int   rows, cols;
} Part;

typedef struct Parts {
    Part *part;
    int   n;
} Parts;

static void put(Parts *p, const char *prefix, const char *name, const void *data, int rows, int cols)
{
    Part *x = &p->part[p->n++];
    snprintf(x->name, sizeof x->name, "%s%s", prefix, name);
    x->data = (void *)(uintptr_t)data;
    x->rows = rows;
    x->cols = cols;
}

static void put_model(Parts *p, const char *prefix, const Model *m)
{
    for (int i = 0; i < m->n_weight; i++) put(p, prefix, m->weight[i]->name, m->weight[i]->data, m->weight[i]->rows, m->weight[i]->cols);
}

static int parts_of(Parts *p, const Trainer *t, const Model *ref, aha_error *e)
{
    p->n = 0;
    p->part = mem_zalloc((size_t)t->m->n_weight + 2 + (size_t)(ref ? ref->n_weight : 0), sizeof *p->part);
    if (!p->part) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a checkpoint");
    put_model(p, "model.", t->m);
    put(p, "", "optim.0", t->optim.state[0], 1, (int)t->optim.n);
    put(p, "", "optim.1", t->optim.state[1], 1, (int)t->optim.n);
    if (ref) put_model(p, "ref.", ref);
    return 0;
}

static size_t part_bytes(const Part *p)
{
    return (size_t)p->rows * (size_t)p->cols * sizeof(float);
}

static uint64_t parts_hash(const Parts *p)
{
    uint64_t h = 0;
    for (int i = 0; i < p->n; i++) h = hash64(p->part[i].data, part_bytes(&p->part[i]), h + (uint64_t)i);
    return h;
}

static int parts_write(const Parts *p, const char *path, aha_error *e)
{
    TensorInfo *t = mem_zalloc((size_t)p->n, sizeof *t);
    int         rc;
    if (!t) return error_set(e, AHA_ERR_NOMEM, "cannot get memory to write %s", path);
    for (int i = 0; i < p->n; i++) {
        t[i] = (TensorInfo){.name = p->part[i].name, .dtype = DT_F32, .n_dims = 2, .data = p->part[i].data, .bytes = part_bytes(&p->part[i])};
        t[i].dim[0] = p->part[i].rows;
        t[i].dim[1] = p->part[i].cols;
    }
    rc = safetensors_write(path, t, p->n, NULL, e);
    mem_free(t);
    return rc;
}

/* Fills the parts from the file, or, with `compare`, says which of them the file does not hold bit for bit. */
static int parts_read(const Parts *p, const char *path, bool compare, aha_error *e)
{
    WeightFile *f;
    int         rc = weights_open(&f, path, e);
    if (rc) return rc;
    weights_expect_all(f);
    for (int i = 0; i < p->n && rc == 0; i++) {
        const TensorInfo *t = weights_find(f, p->part[i].name);
        if (!t || t->dtype != DT_F32 || t->bytes != part_bytes(&p->part[i]))
            rc = error_set(e, AHA_ERR_FORMAT, "%s: %s is %s, expected F32 [%d, %d]", path, p->part[i].name, t ? "of another shape" : "absent",
                           p->part[i].rows, p->part[i].cols);
        else if (compare && memcmp(p->part[i].data, t->data, t->bytes) != 0)
            rc = error_set(e, AHA_ERR_IO, "%s: %s reads back other than it was written", path, p->part[i].name);
        else if (!compare)
            memcpy(p->part[i].data, t->data, t->bytes);
    }
    weights_close(f);
    return rc;
}

int weights_save_f32(const Model *m, const char *path, aha_error *e)
{
    Parts p = {mem_zalloc((size_t)m->n_weight, sizeof(Part)), 0};
    int   rc;
    if (!p.part) return error_set(e, AHA_ERR_NOMEM, "cannot get memory to write %s", path);
    put_model(&p, "", m);
    rc = parts_write(&p, path, e);
    mem_free(p.part);
    return rc;
}

int weights_load_f32(Model *m, const char *path, aha_error *e)
{
    Parts p = {mem_zalloc((size_t)m->n_weight, sizeof(Part)), 0};
    int   rc;
    if (!p.part) return error_set(e, AHA_ERR_NOMEM, "cannot get memory to read %s", path);
    put_model(&p, "", m);
    rc = parts_read(&p, path, false, e);
    mem_free(p.part);
    return rc;
}

/* ---- the manifest ---- */
typedef struct Manifest {
    RunState s;
    char     file[80];
    uint64_t hash;
    int64_t  optim_step, skips;
    double   norm_mean;
} Manifest;

/* 64-bit words as hexadecimal text: JSON numbers are doubles elsewhere.  Doubles as their bits, so that none is rounded. */
static void manifest_write(const Manifest *m, Buf *b)
{
    uint64_t elapsed, norm;
    memcpy(&elapsed, &m->s.elapsed_s, 8);
    memcpy(&norm, &m->norm_mean, 8);
    buf_fmt(b, "{\"format\":\"" FORMAT "\",\"file\":\"%s\",\"hash\":\"%016llx\",\"recipe\":\"%016llx\",\n", m->file,
            (unsigned long long)m->hash, (unsigned long long)m->s.recipe_hash);
    buf_fmt(b, " \"stage\":%d,\"step\":%lld,\"item\":%lld,\"tokens\":%lld,\"checked\":%lld,\"metrics_bytes\":%lld,\n", m->s.stage,
            (long long)m->s.step, (long long)m->s.item, (long long)m->s.tokens, (long long)m->s.checked, (long long)m->s.metrics_bytes);
    buf_fmt(b, " \"has_model\":%s,\"optim_step\":%lld,\"skips\":%lld,\"elapsed_bits\":\"%016llx\",\"norm_mean_bits\":\"%016llx\"}\n",
            m->s.has_model ? "true" : "false", (long long)m->optim_step, (long long)m->skips, (unsigned long long)elapsed,
            (unsigned long long)norm);
}

static int get_hex(const Json *j, const char *what, const char *key, uint64_t *out, aha_error *e)
{
    const char *s;
    uint64_t    v = 0;
    int         rc = json_get_str(j, what, key, true, &s, e);
    if (rc) return rc;
    for (int i = 0; i < 16; i++) {
        const char *at = strchr("0123456789abcdef", s[i]);
        if (!s[i] || !at) return error_set(e, AHA_ERR_FORMAT, "%s: %s is no 16-digit hexadecimal number", what, key);
        v = v << 4 | (uint64_t)(at - "0123456789abcdef");
    }
    if (s[16]) return error_set(e, AHA_ERR_FORMAT, "%s: %s is no 16-digit hexadecimal number", what, key);
    memcpy(out, &v, 8);
    return 0;
}

static int manifest_fields(Manifest *m, const Json *j, const char *what, aha_error *e)
{
    const int64_t big = INT64_MAX >> 1;
    const char   *format, *file;
    int64_t       stage = 0;
    uint64_t      bits[2];
    int           rc = json_get_str(j, what, "format", true, &format, e);
    if (rc == 0 && strcmp(format, FORMAT) != 0) rc = error_set(e, AHA_ERR_UNSUPPORTED, "%s: format is not " FORMAT, what);
    if (rc == 0) rc = json_get_str(j, what, "file", true, &file, e);
    if (rc == 0) rc = get_hex(j, what, "hash", &m->hash, e);
    if (rc == 0) rc = get_hex(j, what, "recipe", &m->s.recipe_hash, e);
    if (rc == 0) rc = json_get_int(j, what, "stage", true, 0, 1000, &stage, e);
    if (rc == 0) rc = json_get_int(j, what, "step", true, 0, big, &m->s.step, e);
    if (rc == 0) rc = json_get_int(j, what, "item", true, 0, big, &m->s.item, e);
    if (rc == 0) rc = json_get_int(j, what, "tokens", true, 0, big, &m->s.tokens, e);
    if (rc == 0) rc = json_get_int(j, what, "metrics_bytes", true, 0, big, &m->s.metrics_bytes, e);
    if (rc == 0) rc = json_get_int(j, what, "optim_step", true, 0, big, &m->optim_step, e);
    if (rc == 0) rc = json_get_int(j, what, "skips", true, 0, 1000, &m->skips, e);
    if (rc == 0) rc = json_get_bool(j, what, "has_model", true, &m->s.has_model, e);
    m->s.checked = m->s.has_model ? m->s.step : -1; /* what older manifests mean: they were written behind a check only */
    if (rc == 0) rc = json_get_int(j, what, "checked", false, -1, big, &m->s.checked, e);
    if (rc == 0) rc = get_hex(j, what, "elapsed_bits", &bits[0], e);
    if (rc == 0) rc = get_hex(j, what, "norm_mean_bits", &bits[1], e);
    if (rc) return rc;
    if (strlen(file) >= sizeof m->file || (file[0] && !file_name_is_plain(file, strlen(file))))
        return error_set(e, AHA_ERR_FORMAT, "%s: \"file\" is no plain file name", what);
    snprintf(m->file, sizeof m->file, "%s", file);
    m->s.stage = (int)stage;
    memcpy(&m->s.elapsed_s, &bits[0], 8);
    memcpy(&m->norm_mean, &bits[1], 8);
    return 0;
}

static int manifest_read(Manifest *m, const char *dir, bool *found, aha_error *e)
{
    char  path[PATH_CAP];
    Json *j;
    int   rc = path_join(path, sizeof path, dir, "latest.json", e);
    memset(m, 0, sizeof *m);
    *found = rc == 0 && file_exists(path);
    if (!*found) return rc;
    if ((rc = json_read(&j, path, MANIFEST_MAX, e)) != 0) return rc;
    rc = manifest_fields(m, j, path, e);
    json_free(j);
    return rc;
}

int checkpoint_peek(const char *dir, RunState *s, bool *found, aha_error *e)
{
    Manifest m;
    int      rc = manifest_read(&m, dir, found, e);
    *s = m.s;
    return rc;
}

static void remove_others(const char *dir, const char *keep)
{
    char **names, path[PATH_CAP];
    int    n;
    if (dir_list(dir, &names, &n, NULL) != 0) return;
    for (int i = 0; i < n; i++)
        if (strncmp(names[i], "step-", 5) == 0 && strcmp(names[i], keep) != 0 && path_join(path, sizeof path, dir, names[i], NULL) == 0)
            file_remove(path, NULL);
    mem_free(names);
}

/* write, read back and compare, then move the manifest, then forget the older file */
static int save_file(const char *dir, Manifest *m, const Trainer *t, const Model *ref, aha_error *e)
{
    char  path[PATH_CAP];
    Parts p;
    int   rc = parts_of(&p, t, ref, e);
    if (rc) return rc;
    snprintf(m->file, sizeof m->file, "step-%d-%lld.safetensors", m->s.stage, (long long)m->s.step);
    rc = path_join(path, sizeof path, dir, m->file, e);
    m->hash = parts_hash(&p);
    if (rc == 0) rc = parts_write(&p, path, e);
    if (rc == 0) rc = parts_read(&p, path, true, e);
    mem_free(p.part);
    return rc;
}

int checkpoint_save(const char *dir, const RunState *s, const Trainer *t, const Model *ref, aha_error *e)
{
    Manifest m = {.s = *s};
    char     path[PATH_CAP];
    Buf      b = {0};
    int      rc = dir_make(dir, e);
    if (rc == 0 && s->has_model) {
        m.optim_step = t->optim.step;
        m.skips = t->skips;
        m.norm_mean = t->norm_mean;
        rc = save_file(dir, &m, t, ref, e);
    }
    if (rc == 0) rc = path_join(path, sizeof path, dir, "latest.json", e);
    manifest_write(&m, &b);
    if (rc == 0 && b.failed) rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for %s", path);
    if (rc == 0) rc = file_write_atomic(path, b.data, b.n, e);
    if (rc == 0) remove_others(dir, m.file);
    buf_free(&b);
    return rc;
}

int checkpoint_load(const char *dir, Trainer *t, Model *ref, aha_error *e)
{
    Manifest m;
    Parts    p;
    char     path[PATH_CAP];
    bool     found;
    int      rc = manifest_read(&m, dir, &found, e);
    if (rc == 0 && (!found || !m.s.has_model)) rc = error_set(e, AHA_ERR_STATE, "%s holds no checkpoint of a model", dir);
    if (rc == 0) rc = path_join(path, sizeof path, dir, m.file, e);
    if (rc == 0) rc = parts_of(&p, t, ref, e);
    if (rc) return rc;
    rc = parts_read(&p, path, false, e);
    if (rc == 0 && parts_hash(&p) != m.hash) rc = error_set(e, AHA_ERR_FORMAT, "%s: the bytes are not those that were written", path);
    mem_free(p.part);
    if (rc) return rc;
    t->optim.step = m.optim_step;
    t->skips = (int)m.skips;
    t->norm_mean = m.norm_mean;
    return 0;
}
