/* Opening and initialising a model: two walks over the table of names. */
#include "bind.h"
#include "settle.h"

#include <float.h>
#include <stdio.h>

/* ---- counting: how many weights, how much memory of our own ---- */
typedef struct Plan {
    Model            *m;
    const WeightFile *file; /* NULL: random weights */
    bool              decode;
    int               n;
    size_t            own; /* bytes */
} Plan;

/* Coded weights are decoded where they are used; the double-precision build has no kernels for what is not `real`. */
bool bind_in_place(const TensorInfo *t, bool decode)
{
    if (decode || t->n_dims < 2 || sizeof(real) != sizeof(float)) return false;
    return dtype_is_coded(t->dtype) || (uintptr_t)t->data % (size_t)dtype_info(t->dtype)->block_bytes == 0;
}

static bool shape_fits(const TensorInfo *t, const BindItem *b)
{
    if (b->flags & BIND_VECTOR) return t->n_dims == 1 && t->dim[0] == b->cols;
    if (!b->stack) return t->n_dims == 2 && t->dim[0] == b->rows && t->dim[1] == b->cols;
    return t->n_dims == 3 && t->dim[0] == b->stack && t->dim[1] == (b->part < 0 ? b->rows / b->stack : b->rows) && t->dim[2] == b->cols;
}

static int check_shape(const TensorInfo *t, const BindItem *b, bool gguf, aha_error *e)
{
    const char *by = gguf ? "the file's metadata" : "config.json";
    bool        vector = b->flags & BIND_VECTOR;
    if (shape_fits(t, b)) {
        if (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16 || (!vector && dtype_is_coded(t->dtype))) return 0;
        return error_set(e, AHA_ERR_UNSUPPORTED, "%s is of type %s, expected %s", b->stored, dtype_info(t->dtype)->name,
                         vector ? "F32, F16 or BF16" : "F32, F16, BF16, F8_E4M3 or a block type");
    }
    char got[96] = "";
    for (int i = 0, at = 0; i < t->n_dims && at < 80; i++)
        at += snprintf(got + at, sizeof got - (size_t)at, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    if (vector) return error_set(e, AHA_ERR_FORMAT, "%s has shape [%s], expected [%d] by %s", b->stored, got, b->cols, by);
    if (!b->stack) return error_set(e, AHA_ERR_FORMAT, "%s has shape [%s], expected [%d, %d] by %s", b->stored, got, b->rows, b->cols, by);
    return error_set(e, AHA_ERR_FORMAT, "%s has shape [%s], expected [%d, %d, %d] by %s", b->stored, got, b->stack,
                     b->part < 0 ? b->rows / b->stack : b->rows, b->cols, by);
}

/* ---- the factors of F8 weights: "NAME_scale_inv", one per 128 x 128, multiplied ---- */
static const TensorInfo *scale_of(const WeightFile *file, const BindItem *b, char name[160])
{
    snprintf(name, 160, "%s_scale_inv", b->stored);
    return weights_find(file, name);
}

static int check_scale(const WeightFile *file, const BindItem *b, aha_error *e)
{
    char              name[160];
    const TensorInfo *t = scale_of(file, b, name);
    int               rows = f8_blocks(b->rows), cols = f8_blocks(b->cols);
    if (!t) return error_set(e, AHA_ERR_FORMAT, "%s is of type F8_E4M3, and the weights lack %s", b->stored, name);
    if (t->dtype != DT_F32) return error_set(e, AHA_ERR_FORMAT, "%s is of type %s, expected F32", name, dtype_info(t->dtype)->name);
    if (t->n_dims == 2 && t->dim[0] == rows && t->dim[1] == cols) return 0;
    return error_set(e, AHA_ERR_FORMAT, "%s has %d dimensions [%lld, %lld], expected [%d, %d] for [%d, %d]", name, t->n_dims, (long long)t->dim[0],
                     (long long)t->dim[1], rows, cols, b->rows, b->cols);
}

bool bind_own(size_t *own, size_t rows, size_t cols, size_t size)
{
    size_t bytes;
    return size_mul(rows, cols, &bytes) && size_mul(bytes, size, &bytes) && size_add(bytes, 63, &bytes) &&
           size_add(*own, bytes & ~(size_t)63, own);
}

static bool scale_in_place(const TensorInfo *t) { return (uintptr_t)t->data % sizeof(float) == 0; }

/* All scales are read soon (load_scale): asked for here, many are on their way at once. */
static bool plan_scale(Plan *p, const BindItem *b)
{
    char              name[160];
    const TensorInfo *t = scale_of(p->file, b, name);
    map_expect(t->data, t->bytes, MAP_USE_SOON);
    return scale_in_place(t) || bind_own(&p->own, (size_t)f8_blocks(b->rows), (size_t)f8_blocks(b->cols), sizeof(float));
}

static int plan_item(void *user, const BindItem *b, aha_error *e)
{
    Plan             *p = user;
    const TensorInfo *t = p->file ? weights_find(p->file, b->stored) : NULL;
    bool              room = true;
    int               rc;
    p->n++;
    if (p->file) {
        if (!t) return error_set(e, AHA_ERR_FORMAT, "the weights lack %s", b->stored);
        if ((rc = check_shape(t, b, p->m->gguf, e)) != 0) return rc;
        if (t->dtype == DT_F8_E4M3 && (rc = check_scale(p->file, b, e)) != 0) return rc;
        if (t->dtype == DT_F8_E4M3) room = plan_scale(p, b);
    }
    if (room && !(t && bind_in_place(t, p->decode))) room = bind_own(&p->own, (size_t)b->rows, (size_t)b->cols, sizeof(real));
    return room ? 0 : error_set(e, AHA_ERR_LIMIT, "%s [%d, %d] does not fit into an address", b->stored, b->rows, b->cols);
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
    bool                  decode;
    uint64_t              seed;
    size_t                used; /* of m->owned */
} Fill;

static void *own_memory(Fill *f, size_t bytes)
{
    void *p = (uint8_t *)f->m->owned + f->used;
    f->used += (bytes + 63) & ~(size_t)63;
    return p;
}

int bind_add(Model *m, const BindItem *b, aha_error *e)
{
    char *name = mem_strdup(b->name);
    if (!name) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for the name %s", b->name);
    *b->w = (Weight){NULL, DT_F32, b->rows, b->cols, m->n_weight, name, NULL, NULL};
    m->weight[m->n_weight++] = b->w;
    return 0;
}

/* Every factor is checked, so they are read now, 166 MB of R1's 641 GiB.  They stay in the file where they are aligned there, as
 * Hugging Face writes them. */
static int load_scale(Fill *f, const BindItem *b, aha_error *e)
{
    char              name[160];
    const TensorInfo *t = scale_of(f->file, b, name);
    int               cols = f8_blocks(b->cols), n = f8_blocks(b->rows) * cols;
    const float      *v = t->data;
    if (!scale_in_place(t)) v = memcpy(own_memory(f, t->bytes), t->data, t->bytes);
    else f->m->mapped_bytes += t->bytes;
    for (int i = 0; i < n; i++)
        if (!(v[i] >= 0 && v[i] <= FLT_MAX))
            return error_set(e, AHA_ERR_FORMAT, "%s: got %g in [%d, %d], expected a finite number of at least 0", name, (double)v[i], i / cols, i % cols);
    b->w->scale = v;
    return 0;
}

/* rows as real, 256 columns at a time */
static void decode_rows(const BindItem *b, Dtype type, const uint8_t *data, real *to)
{
    const DtypeInfo *d = dtype_info(type);
    size_t           row_bytes = (size_t)(b->cols / d->block) * (size_t)d->block_bytes;
    float            part[256];
    for (int r = 0; r < b->rows; r++) {
        const float *scale = b->w->scale ? b->w->scale + (size_t)(r / F8_BLOCK) * (size_t)f8_blocks(b->cols) : NULL;
        for (int k = 0; k < b->cols; k += 256) {
            int n = b->cols - k < 256 ? b->cols - k : 256;
            dtype_row_to_f32(type, data + (size_t)r * row_bytes, scale, k, n, part);
            for (int i = 0; i < n; i++) to[(size_t)r * (size_t)b->cols + (size_t)(k + i)] = (real)part[i];
        }
    }
}

static int load_item(void *user, const BindItem *b, aha_error *e)
{
    Fill             *f = user;
    const TensorInfo *t = weights_find(f->file, b->stored);
    const uint8_t    *data = t->data;
    real             *to;
    int               rc = bind_add(f->m, b, e);
    if (rc == 0 && t->dtype == DT_F8_E4M3) rc = load_scale(f, b, e);
    if (rc) return rc;
    if (b->part >= 0 && b->stack) data += (size_t)b->part * (t->bytes / (size_t)b->stack);
    if (bind_in_place(t, f->decode)) {
        b->w->data = data;
        b->w->dtype = t->dtype;
        f->m->mapped_bytes += t->bytes / (size_t)(b->part >= 0 && b->stack ? b->stack : 1);
        return 0;
    }
    to = own_memory(f, (size_t)b->rows * (size_t)b->cols * sizeof *to);
    b->w->data = to;
    decode_rows(b, t->dtype, data, to);
    b->w->scale = NULL; /* it is in the numbers now */
    return 0;
}

static int random_item(void *user, const BindItem *b, aha_error *e)
{
    Fill  *f = user;
    int    rc = bind_add(f->m, b, e);
    size_t n = (size_t)b->rows * (size_t)b->cols;
    double std = 1 / sqrt((double)b->cols);
    Rng    rng = {f->seed, (uint64_t)(b->w->id < 0 ? 0 : b->w->id), 0};
    real  *to;
    if (rc) return rc;
    to = own_memory(f, n * sizeof *to);
    b->w->data = to;
    if (b->flags & BIND_RESIDUAL_OUT) std /= sqrt(2.0 * f->m->cfg.n_layer);
    for (size_t i = 0; i < n; i++)
        to[i] = b->flags & BIND_VECTOR ? (real)(strstr(b->name, "norm") ? 1 : 0) : (real)(rng_normal(&rng) * std);
    return 0;
}

static const char ROPE_FACTORS[] = "rope_freqs.weight";

/* GGUF's form of Llama 3's scaling: what each frequency is divided by. */
static int rope_factors(Model *m, const WeightFile *file, aha_error *e)
{
    const TensorInfo *t = weights_find(file, ROPE_FACTORS);
    int               n = m->rope_cols / 2;
    if (!t) return 0;
    if (t->dtype != DT_F32 || t->n_dims != 1 || t->dim[0] != n)
        return error_set(e, AHA_ERR_FORMAT, "%s is of type %s with %d dimensions [%lld], expected F32 [%d]", ROPE_FACTORS, dtype_info(t->dtype)->name,
                         t->n_dims, (long long)t->dim[0], n);
    for (int i = 0; i < n; i++) {
        float f;
        dtype_to_f32(DT_F32, (const uint8_t *)t->data + (size_t)i * sizeof f, &f, 1);
        if (!(f >= 1e-6f && f <= 1e6f)) return error_set(e, AHA_ERR_FORMAT, "%s: got %g at %d, expected 1e-6..1e6", ROPE_FACTORS, (double)f, i);
        m->inv_freq[i] /= (double)f;
    }
    return 0;
}

static int build(Model **out, const Config *cfg, WeightFile *file, const ModelOptions *o, uint64_t seed, aha_error *e)
{
    bool   decode = !file || (o && (o->trainable || o->decoded));
    Model *m = mem_zalloc(1, sizeof *m);
    Plan   p = {m, file, decode, 0, 0};
    Fill   f = {m, file, decode, seed, 0};
    int    rc;
    *out = NULL;
    if (!m) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a model");
    m->cfg = *cfg;
    if (decode) m->cfg.fp8 = false;
    m->gguf = file && weights_is_gguf(file);
    m->split_kv_b = m->gguf && !weights_find(file, "blk.0.attn_kv_b.weight") && weights_find(file, "blk.0.attn_k_b.weight");
    if (file && decode) weights_expect_all(file);
    rc = bind_allocate(m, e);
    if (rc == 0) rc = allocate(&p, e);
    if (rc == 0) rc = bind_walk(m, file ? load_item : random_item, &f, e);
    if (rc == 0) rc = bind_finish(m, o, e);
    if (rc == 0 && m->gguf) rc = rope_factors(m, file, e);
    if (rc == 0 && file) rc = settler_new(m, e);
    if (rc) {
        model_free(m);
        return rc;
    }
    if (file) weights_expect_all(file);
    m->file = file;
    *out = m;
    return 0;
}

/* Enough weights for the experts that the config asks for: their arrays are not allocated on its word alone. */
static int check_experts(const Config *c, const WeightFile *file, aha_error *e)
{
    int64_t want = (int64_t)c->n_expert * (c->n_layer - c->n_dense_first) * 3;
    if (!weights_is_gguf(file) && want > weights_count(file))
        return error_set(e, AHA_ERR_FORMAT, "config.json asks for %d experts in %d layers, the weights are only %d tensors", c->n_expert,
                         c->n_layer - c->n_dense_first, weights_count(file));
    if (weights_is_gguf(file) && (uint64_t)want > weights_bytes(file) / 16) /* the smallest block has 17 */
        return error_set(e, AHA_ERR_FORMAT, "the metadata asks for %d experts in %d layers, the weights are only %zu bytes", c->n_expert,
                         c->n_layer - c->n_dense_first, weights_bytes(file));
    return 0;
}

int model_bind(Model **out, const Config *cfg, WeightFile *file, const ModelOptions *o, aha_error *e)
{
    Config c = *cfg;
    char   name[64];
    bool   gguf = weights_is_gguf(file);
    int    rc = check_experts(&c, file, e);
    *out = NULL;
    if (rc) return rc;
    if (gguf && o && o->trainable) return error_set(e, AHA_ERR_UNSUPPORTED, "a GGUF file's weights cannot be trained; expected a Hugging Face folder");
    if (c.n_mtp > 1) c.n_mtp = 1; /* further ones would draft further ahead; only the first is used */
    snprintf(name, sizeof name, gguf ? "blk.%d.nextn.eh_proj.weight" : "model.layers.%d.eh_proj.weight", c.n_layer);
    if (c.n_mtp && !weights_find(file, name)) {
        log_msg(LOG_INFO, "the config names a draft layer (MTP), the weights lack it: running without");
        c.n_mtp = 0;
    }
    return build(out, &c, file, o, 0, e);
}

int model_open(Model **out, const char *path, const ModelOptions *o, aha_error *e)
{
    WeightFile *file = NULL;
    Config      cfg;
    char        config[4096];
    bool        folder = dir_exists(path) || !file_exists(path);
    int         rc = folder ? path_join(config, sizeof config, path, "config.json", e) : 0;
    *out = NULL;
    if (rc == 0 && folder) rc = config_read(&cfg, config, e);
    if (rc == 0) rc = weights_open(&file, path, e);
    if (rc == 0 && !folder) rc = config_from_gguf(&cfg, file, path, e);
    if (rc) {
        weights_close(file);
        return rc;
    }
    if ((rc = model_bind(out, &cfg, file, o, e)) != 0) {
        weights_close(file);
        rc = error_prefix(e, rc, "%s", path);
    }
    return rc;
}

/* ---- what is read ---- */
typedef struct Marks {
    const WeightFile *file;
    bool             *used;
} Marks;

static void mark(const Marks *k, const char *name)
{
    const TensorInfo *t = weights_find(k->file, name);
    if (t) k->used[t - weights_at(k->file, 0)] = true;
}

static int mark_item(void *user, const BindItem *b, aha_error *e)
{
    char name[160];
    (void)e;
    mark(user, b->stored);
    if (scale_of(((const Marks *)user)->file, b, name)) mark(user, name);
    return 0;
}

int model_mark_used(const Model *m, bool *used, aha_error *e)
{
    Model copy = *m; /* the walk hands out places to write to; nothing here writes */
    Marks k = {m->file, used};
    if (!m->file) return 0;
    memset(used, 0, (size_t)weights_count(m->file) * sizeof *used);
    if (m->gguf) mark(&k, ROPE_FACTORS);
    return bind_walk(&copy, mark_item, &k, e);
}

int model_init_random(Model **out, const Config *cfg, const ModelOptions *o, uint64_t seed, aha_error *e)
{
    return build(out, cfg, NULL, o, seed, e);
}
