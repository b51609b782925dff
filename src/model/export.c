/* Writing a model as a GGUF file: a walk over the table of names says which tensors there are, rows are fetched, encoded and
 * written some at a time, so memory does not grow with the model. */
#include "bind.h"

#include <math.h>
#include <stdio.h>

enum { ROWS_AT_ONCE = 256 };
typedef enum Kind { PLAIN, PAIRS, KEYS, VALUES, FACTORS } Kind; /* PAIRS: rope's halves become pairs */

typedef struct Source {
    const Weight *w; /* of the first expert where experts are stacked */
    char          name[128];
    Kind          kind;
    int           rows, cols; /* of one matrix */
    int           head, turned; /* rows of a head, and how many of its last ones rope turns */
} Source;

typedef struct Export {
    const Model         *m;
    const ExportOptions *o;
    TensorInfo          *t;
    Source              *s;
    int                  n, cap;
    int64_t              done, total; /* numbers */
    float               *row;         /* [workers][cols_max] */
    float               *weight;      /* columns' weights of the tensor in hand, [matrices, cols]; NULL: all alike */
    uint8_t             *out;
    int64_t              bad[ROWS_AT_ONCE];
    int                  tensor, cols_max;
    int64_t              from; /* the first row of those in hand */
} Export;

/* ---- which type ---- */
static Dtype wanted(const ExportOptions *o, const char *name)
{
    if (strstr(name, ".mlp.experts.")) return strstr(name, "down_proj") ? o->expert_down : o->expert;
    if (!strncmp(name, "lm_head", 7)) return o->head;
    return !strncmp(name, "model.embed", 11) ? o->embed : o->other;
}

Dtype export_type(Dtype want, int64_t cols)
{
    if (cols % dtype_info(want)->block == 0) return want;
    return cols % dtype_info(DT_Q8_0)->block == 0 ? DT_Q8_0 : DT_BF16;
}

/* ---- which tensors ---- */
static void classify(const Model *m, const BindItem *b, Source *s)
{
    const Config *c = &m->cfg;
    bool          q = strstr(b->name, "q_proj.weight") || strstr(b->name, "q_b_proj"), mla = c->arch == ARCH_DEEPSEEK_V3;
    int           layer = 0;
    if (b->flags & BIND_PER_HEAD && sscanf(b->name, "model.layers.%d.", &layer) == 1) {
        s->kind = b->w == &m->layer[layer].k_b ? KEYS : VALUES;
        s->w = &m->layer[layer].kv_b;
    } else if (mla && !c->rope.interleaved && (q || strstr(b->name, "kv_a_proj"))) {
        s->kind = PAIRS;
        s->head = q ? c->nope + c->rope_dim : b->rows;
        s->turned = c->rope_dim;
    } else if (c->arch == ARCH_LLAMA && (q || strstr(b->name, "k_proj.weight"))) {
        s->kind = PAIRS;
        s->head = s->turned = c->head_dim;
    }
}

static int add_tensor(Export *x, const Source *s, const TensorInfo *t, aha_error *e)
{
    if (x->n == x->cap) {
        int         cap = x->cap ? 2 * x->cap : 256;
        TensorInfo *nt = mem_realloc(x->t, (size_t)cap * sizeof *nt);
        if (nt) x->t = nt;
        Source *ns = nt ? mem_realloc(x->s, (size_t)cap * sizeof *ns) : NULL;
        if (!ns) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d tensors", cap);
        x->s = ns;
        x->cap = cap;
    }
    x->s[x->n] = *s;
    x->t[x->n] = *t;
    x->total += (int64_t)s->rows * s->cols * (t->n_dims == 3 ? t->dim[0] : 1);
    if (s->cols > x->cols_max) x->cols_max = s->cols;
    x->n++;
    return 0;
}

static int add_item(void *user, const BindItem *b, aha_error *e)
{
    Export    *x = user;
    Source     s = {.w = b->w, .rows = b->rows, .cols = b->cols};
    TensorInfo t = {.dtype = DT_F32, .n_dims = 1, .dim = {b->cols}};
    if (b->part > 0) return 0; /* it lies in the tensor of the first */
    snprintf(s.name, sizeof s.name, "%s", b->stored);
    classify(x->m, b, &s);
    if (s.kind == KEYS || s.kind == VALUES) s.rows = b->rows / b->stack;
    if (!(b->flags & BIND_VECTOR)) {
        if (!strstr(b->name, ".mlp.gate.weight")) t.dtype = export_type(wanted(x->o, b->name), b->cols);
        t.n_dims = b->stack ? 3 : 2;
        memcpy(t.dim, b->stack ? (int64_t[]){b->stack, s.rows, s.cols, 0} : (int64_t[]){s.rows, s.cols, 0, 0}, sizeof t.dim);
    }
    if (!dtype_bytes(t.dtype, b->stack ? (int64_t)b->stack * s.rows : s.rows, s.cols, &t.bytes))
        return error_set(e, AHA_ERR_LIMIT, "%s does not fit into an address", b->stored);
    return add_tensor(x, &s, &t, e);
}

static int add_factors(Export *x, aha_error *e)
{
    Source     s = {.name = "rope_freqs.weight", .kind = FACTORS, .rows = 1, .cols = x->m->rope_cols / 2};
    TensorInfo t = {.dtype = DT_F32, .n_dims = 1, .dim = {s.cols}, .bytes = (size_t)s.cols * 4};
    return x->m->cfg.rope.kind == ROPE_LLAMA3 ? add_tensor(x, &s, &t, e) : 0;
}

/* ---- rows ---- */
static void weight_row(const Weight *w, int r, int col, int n, float *dst)
{
    const DtypeInfo *d = dtype_info(w->dtype);
    const float     *scale = w->scale ? w->scale + (size_t)(r / F8_BLOCK) * (size_t)f8_blocks(w->cols) : NULL;
    size_t           bytes = (size_t)(w->cols / d->block) * (size_t)d->block_bytes;
    if (w->dtype != DT_F32) dtype_row_to_f32(w->dtype, (const uint8_t *)w->data + (size_t)r * bytes, scale, col, n, dst);
    for (int i = 0; w->dtype == DT_F32 && i < n; i++) dst[i] = (float)((const real *)w->data)[(size_t)r * (size_t)w->cols + (size_t)(col + i)];
}

static int paired(const Source *s, int r)
{
    int in = r % s->head, still = s->head - s->turned, k = in - still;
    return k < 0 ? r : r - in + still + (k % 2 ? s->turned / 2 + k / 2 : k / 2);
}

static void fetch(const Export *x, const Source *s, int64_t row, float *dst)
{
    const Config *c = &x->m->cfg;
    int           part = (int)(row / s->rows), r = (int)(row % s->rows), base = part * (c->nope + c->v_dim);
    switch (s->kind) {
    case PLAIN: weight_row(s->w + part, r, 0, s->cols, dst); break;
    case PAIRS: weight_row(s->w, paired(s, r), 0, s->cols, dst); break;
    case KEYS:
        for (int i = 0; i < s->cols; i++) weight_row(s->w, base + i, r, 1, dst + i);
        break;
    case VALUES: weight_row(s->w, base + c->nope + r, 0, s->cols, dst); break;
    case FACTORS:
        for (int i = 0; i < s->cols; i++) dst[i] = (float)(pow(c->rope.theta, -2.0 * i / x->m->rope_cols) / x->m->inv_freq[i]);
    }
}

static void encode_row(void *user, int task, int worker)
{
    Export           *x = user;
    const Source     *s = &x->s[x->tensor];
    const TensorInfo *t = &x->t[x->tensor];
    const DtypeInfo  *d = dtype_info(t->dtype);
    float            *row = x->row + (size_t)worker * (size_t)x->cols_max;
    fetch(x, s, x->from + task, row);
    x->bad[task] = dtype_row_unfit(t->dtype, row, s->cols);
    const float *weight = x->weight ? x->weight + (size_t)((x->from + task) / s->rows) * (size_t)s->cols : NULL;
    if (x->bad[task] < 0) dtype_row_from_f32(t->dtype, row, weight, x->out + (size_t)task * (size_t)(s->cols / d->block) * (size_t)d->block_bytes, s->cols);
}

/* The columns' weights of tensor i into x->weight; *found: there are any */
static int weigh(Export *x, int i, bool *found, aha_error *e)
{
    const Source     *s = &x->s[i];
    const TensorInfo *t = &x->t[i];
    int               mats = t->n_dims == 3 ? (int)t->dim[0] : 1;
    mem_free(x->weight);
    x->weight = NULL;
    if (!x->o->importance || !dtype_is_blocked(t->dtype)) return 0;
    x->weight = mem_alloc((size_t)mats * (size_t)s->cols * sizeof *x->weight);
    if (!x->weight) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for the importance of %s", s->name);
    return importance_get(x->o->importance, s->name, mats, s->cols, x->weight, found, e);
}

/* Before anything is written: is it of this model?  The embedding is looked up, not multiplied, and has none. */
static int check_importance(Export *x, aha_error *e)
{
    const char *first = NULL;
    int         with = 0, without = 0, rc = 0;
    for (int i = 0; i < x->n && !rc; i++) {
        bool found = false;
        rc = weigh(x, i, &found, e);
        with += found;
        if (found || !x->weight || !strcmp(x->s[i].name, "token_embd.weight")) continue;
        without++;
        if (!first) first = x->s[i].name;
    }
    if (rc || !without) return rc;
    if (!with) return error_set(e, AHA_ERR_FORMAT, "the importance has no entry for any matrix of this model, as %s", first);
    log_msg(LOG_WARN, "%d of %d tensors have no importance, as %s: their columns weigh alike", without, with + without, first);
    return 0;
}

static int write_tensor(void *user, int i, const File *f, aha_error *e)
{
    Export           *x = user;
    const Source     *s = &x->s[i];
    const TensorInfo *t = &x->t[i];
    int64_t           rows = t->n_dims == 3 ? t->dim[0] * s->rows : s->rows;
    size_t            bytes = t->bytes / (size_t)rows;
    bool              found;
    int               rc = weigh(x, i, &found, e);
    x->tensor = i;
    for (x->from = 0; x->from < rows && !rc; x->from += ROWS_AT_ONCE) {
        int n = rows - x->from < ROWS_AT_ONCE ? (int)(rows - x->from) : ROWS_AT_ONCE;
        pool_run(x->o->pool, n, encode_row, x);
        for (int k = 0; k < n && !rc; k++)
            if (x->bad[k] >= 0)
                rc = error_set(e, AHA_ERR_FORMAT, "%s: row %lld, column %lld: no number that %s can hold, expected finite ones%s", s->name,
                               (long long)(x->from + k), (long long)x->bad[k], dtype_info(t->dtype)->name,
                               t->dtype == DT_F32 || t->dtype == DT_BF16 ? "" : " of at most 65504");
        if (!rc) rc = file_write(f, x->out, (size_t)n * bytes, e);
        x->done += (int64_t)n * s->cols;
        if (!rc && x->o->on_progress && x->o->on_progress(x->o->user, x->done, x->total)) rc = error_set(e, AHA_ERR_CANCELLED, "interrupted");
    }
    return rc;
}

int model_export_gguf(const Model *m, const char *path, GgufMeta *meta, const ExportOptions *o, aha_error *e)
{
    Model  copy = *m; /* under GGUF's names; the walk hands out places to write to, nothing here writes */
    Export x = {.m = &copy, .o = o};
    if (m->gguf) return error_set(e, AHA_ERR_UNSUPPORTED, "a GGUF file is not converted; expected a Hugging Face folder");
    copy.gguf = copy.split_kv_b = true;
    if (!o->draft) copy.cfg.n_mtp = 0;
    int rc = config_to_gguf(&copy.cfg, true, meta, path, e);
    if (!rc) rc = bind_walk(&copy, add_item, &x, e);
    if (!rc) rc = add_factors(&x, e);
    for (int i = 0; i < x.n; i++) x.t[i].name = x.s[i].name;
    if (!rc) rc = check_importance(&x, e);
    if (!rc) {
        x.row = mem_alloc((size_t)(o->pool ? pool_threads(o->pool) : 1) * (size_t)x.cols_max * sizeof *x.row);
        x.out = mem_alloc((size_t)ROWS_AT_ONCE * (size_t)x.cols_max * 4 + 64);
        if (!x.row || !x.out) rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for rows of %d", x.cols_max);
    }
    if (!rc) rc = gguf_write(path, meta, x.t, x.n, write_tensor, &x, e);
    mem_free(x.row);
    mem_free(x.weight);
    mem_free(x.out);
    mem_free(x.t);
    mem_free(x.s);
    return rc;
}
