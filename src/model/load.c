/* Opening, initialising and saving a model: three walks over the table of names. */
#include "bind.h"

#include <stdio.h>

/* ---- counting: how many weights, how much memory of our own ---- */
typedef struct Plan {
    Model            *m;
    const WeightFile *file; /* NULL: random weights */
    bool              trainable;
    int               n;
    size_t            own; /* bytes */
} Plan;

static bool usable_in_place(const TensorInfo *t, bool trainable)
{
    if (trainable || t->n_dims != 2) return false;
    return (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16) &&
           (uintptr_t)t->data % (size_t)dtype_info(t->dtype)->block_bytes == 0 && sizeof(real) == sizeof(float);
}

static int check_shape(const TensorInfo *t, const BindItem *b, aha_error *e)
{
    bool vector = b->flags & BIND_VECTOR;
    if (vector ? t->n_dims == 1 && t->dim[0] == b->cols : t->n_dims == 2 && t->dim[0] == b->rows && t->dim[1] == b->cols) {
        if (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16) return 0;
        return error_set(e, AHA_ERR_UNSUPPORTED, "%s is of type %s, expected F32, F16 or BF16", b->name, dtype_info(t->dtype)->name);
    }
    char got[96] = "";
    for (int i = 0, at = 0; i < t->n_dims && at < 80; i++)
        at += snprintf(got + at, sizeof got - (size_t)at, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    if (vector) return error_set(e, AHA_ERR_FORMAT, "%s has shape [%s], expected [%d] by config.json", b->name, got, b->cols);
    return error_set(e, AHA_ERR_FORMAT, "%s has shape [%s], expected [%d, %d] by config.json", b->name, got, b->rows, b->cols);
}

static int plan_item(void *user, const BindItem *b, aha_error *e)
{
    Plan  *p = user;
    size_t bytes;
    p->n++;
    if (p->file) {
        const TensorInfo *t = weights_find(p->file, b->name);
        int               rc;
        if (!t) return error_set(e, AHA_ERR_FORMAT, "the weights lack %s", b->name);
        if ((rc = check_shape(t, b, e)) != 0) return rc;
        if (usable_in_place(t, p->trainable)) return 0;
    }
    if (!size_mul((size_t)b->rows, (size_t)b->cols, &bytes) || !size_mul(bytes, sizeof(real), &bytes) ||
        !size_add(p->own, (bytes + 63) & ~(size_t)63, &p->own))
        return error_set(e, AHA_ERR_LIMIT, "%s [%d, %d] does not fit into an address", b->name, b->rows, b->cols);
    return 0;
}

static int allocate(Plan *p, aha_error *e)
{
    Model *m = p->m;
    int    rc = bind_walk(m, plan_item, p, e);
    if (rc) return rc;
    m->weight = mem_zalloc((size_t)p->n, sizeof *m->weight);
    m->owned = p->own ? mem_pages(p->own) : NULL;
    m->owned_bytes = p->own;
    if (!m->weight || (p->own && !m->owned))
        return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes for %d weights", p->own, p->n);
    return 0;
}

/* ---- filling ---- */
typedef struct Fill {
    Model                *m;
    const WeightFile     *file;
    bool                  trainable;
    uint64_t              seed;
    size_t                used; /* of m->owned */
} Fill;

static real *own_memory(Fill *f, size_t n)
{
    real *p = (real *)(void *)((uint8_t *)f->m->owned + f->used);
    f->used += (n * sizeof(real) + 63) & ~(size_t)63;
    return p;
}

static int add_weight(Fill *f, const BindItem *b, aha_error *e)
{
    char *name = mem_strdup(b->name);
    if (!name) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for the name %s", b->name);
    *b->w = (Weight){NULL, DT_F32, b->rows, b->cols, f->m->n_weight, name};
    f->m->weight[f->m->n_weight++] = b->w;
    return 0;
}

static int load_item(void *user, const BindItem *b, aha_error *e)
{
    Fill             *f = user;
    const TensorInfo *t = weights_find(f->file, b->name);
    int               rc = add_weight(f, b, e);
    size_t            n = (size_t)b->rows * (size_t)b->cols, size;
    real             *to;
    if (rc) return rc;
    if (usable_in_place(t, f->trainable)) {
        b->w->data = t->data;
        b->w->dtype = t->dtype;
        return 0;
    }
    to = own_memory(f, n);
    b->w->data = to;
    size = (size_t)dtype_info(t->dtype)->block_bytes;
    for (size_t i = 0; i < n; i++) {
        float v;
        dtype_to_f32(t->dtype, (const uint8_t *)t->data + i * size, &v, 1);
        to[i] = (real)v;
    }
    return 0;
}

static int random_item(void *user, const BindItem *b, aha_error *e)
{
    Fill  *f = user;
    int    rc = add_weight(f, b, e);
    size_t n = (size_t)b->rows * (size_t)b->cols;
    double std = 1 / sqrt((double)b->cols);
    Rng    rng = {f->seed, (uint64_t)(b->w->id < 0 ? 0 : b->w->id), 0};
    real  *to;
    if (rc) return rc;
    to = own_memory(f, n);
    b->w->data = to;
    if (b->flags & BIND_RESIDUAL_OUT) std /= sqrt(2.0 * f->m->cfg.n_layer);
    for (size_t i = 0; i < n; i++)
        to[i] = b->flags & BIND_VECTOR ? (real)(strstr(b->name, "norm") ? 1 : 0) : (real)(rng_normal(&rng) * std);
    return 0;
}

static int build(Model **out, const Config *cfg, WeightFile *file, const ModelOptions *o, uint64_t seed, aha_error *e)
{
    bool   trainable = !file || (o && o->trainable);
    Model *m = mem_zalloc(1, sizeof *m);
    Plan   p = {m, file, trainable, 0, 0};
    Fill   f = {m, file, trainable, seed, 0};
    int    rc;
    *out = NULL;
    if (!m) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a model");
    m->cfg = *cfg;
    rc = bind_allocate(m, e);
    if (rc == 0) rc = allocate(&p, e);
    if (rc == 0) rc = bind_walk(m, file ? load_item : random_item, &f, e);
    if (rc == 0) rc = bind_finish(m, o, e);
    if (rc) {
        model_free(m);
        return rc;
    }
    m->file = file;
    *out = m;
    return 0;
}

int model_bind(Model **out, const Config *cfg, WeightFile *file, const ModelOptions *o, aha_error *e)
{
    Config c = *cfg;
    char   name[64];
    *out = NULL;
    if (c.fp8) return error_set(e, AHA_ERR_UNSUPPORTED, "FP8 weights cannot be computed with yet; expected F32, F16 or BF16");
    if ((int64_t)c.n_expert * (c.n_layer - c.n_dense_first) * 3 > weights_count(file))
        return error_set(e, AHA_ERR_FORMAT, "config.json asks for %d experts in %d layers, the weights are only %d tensors", c.n_expert,
                         c.n_layer - c.n_dense_first, weights_count(file));
    if (c.n_mtp > 1) c.n_mtp = 1; /* further ones would draft further ahead; only the first is used */
    snprintf(name, sizeof name, "model.layers.%d.eh_proj.weight", c.n_layer);
    if (c.n_mtp && !weights_find(file, name)) {
        log_msg(LOG_INFO, "config.json names a draft layer (MTP), the weights lack it: running without");
        c.n_mtp = 0;
    }
    return build(out, &c, file, o, 0, e);
}

int model_open(Model **out, const char *path, const ModelOptions *o, aha_error *e)
{
    WeightFile *file = NULL;
    Config      cfg;
    char        config[4096];
    int         rc = path_join(config, sizeof config, path, "config.json", e);
    *out = NULL;
    if (rc == 0) rc = config_read(&cfg, config, e);
    if (rc == 0) rc = weights_open(&file, path, e);
    if (rc == 0 && (rc = model_bind(out, &cfg, file, o, e)) != 0) {
        weights_close(file);
        rc = error_prefix(e, rc, "%s", path);
    }
    return rc;
}

int model_init_random(Model **out, const Config *cfg, const ModelOptions *o, uint64_t seed, aha_error *e)
{
    return build(out, cfg, NULL, o, seed, e);
}

/* ---- saving ---- */
typedef struct Saving {
    TensorInfo *t;
    int         n;
    uint8_t    *data; /* converted */
    Dtype       type;
} Saving;

/* the router's bias stays f32, as published */
static Dtype saved_type(const Weight *w, Dtype type)
{
    return strstr(w->name, "e_score_correction_bias") ? DT_F32 : type;
}

static void save_weight(Saving *s, const Weight *w)
{
    TensorInfo *t = &s->t[s->n++];
    size_t      n = (size_t)w->rows * (size_t)w->cols;
    memset(t, 0, sizeof *t);
    t->name = w->name;
    t->dtype = saved_type(w, s->type);
    t->n_dims = w->rows == 1 && (strstr(w->name, "norm") || strstr(w->name, "bias")) ? 1 : 2;
    t->dim[0] = t->n_dims == 1 ? w->cols : w->rows;
    t->dim[1] = t->n_dims == 1 ? 0 : w->cols;
    t->data = s->data;
    t->bytes = n * (size_t)dtype_info(t->dtype)->block_bytes;
    for (size_t i = 0; i < n; i++) {
        float v;
        if (w->dtype == DT_F32)
            v = (float)((const real *)w->data)[i];
        else
            dtype_to_f32(w->dtype, (const uint8_t *)w->data + 2 * i, &v, 1);
        dtype_from_f32(t->dtype, &v, s->data + i * (size_t)dtype_info(t->dtype)->block_bytes, 1);
    }
    s->data += (t->bytes + 7) & ~(size_t)7;
}

static int save_weights(const Model *m, const char *dir, Dtype type, aha_error *e)
{
    Saving   s = {NULL, 0, NULL, type};
    size_t   bytes = 0;
    uint8_t *data;
    char     path[4096];
    int      rc = path_join(path, sizeof path, dir, "model.safetensors", e);
    if (rc) return rc;
    for (int i = 0; i < m->n_weight; i++) bytes += ((size_t)m->weight[i]->rows * (size_t)m->weight[i]->cols * 4 + 7) & ~(size_t)7;
    s.t = mem_zalloc((size_t)m->n_weight, sizeof *s.t);
    data = s.data = mem_alloc(bytes);
    if (!s.t || !data) {
        mem_free(s.t);
        mem_free(data);
        return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes to save %s", bytes, path);
    }
    for (int i = 0; i < m->n_weight; i++) save_weight(&s, m->weight[i]);
    rc = safetensors_write(path, s.t, s.n, (const char *const[]){"format", "pt", NULL}, e);
    mem_free(s.t);
    mem_free(data);
    return rc;
}

int model_save(const Model *m, const char *dir, Dtype type, aha_error *e)
{
    char  path[4096], *json = NULL;
    int   rc = dir_make(dir, e);
    if (rc == 0) rc = path_join(path, sizeof path, dir, "config.json", e);
    if (rc == 0) rc = config_write(&m->cfg, type, &json, e);
    if (rc == 0) rc = file_write_atomic(path, json, strlen(json), e);
    mem_free(json);
    return rc ? rc : save_weights(m, dir, type, e);
}
