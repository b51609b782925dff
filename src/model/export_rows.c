/* The rows of a written tensor: fetched, encoded and handed on some at a time, so memory does not grow with the model. */
#include "export.h"

#include <math.h>

enum { PIECE = 1 << 20 };

static void weight_row(const Weight *w, int r, int col, int n, float *dst)
{
    const float *scale = w->scale ? w->scale + (size_t)(r / F8_BLOCK) * (size_t)f8_blocks(w->cols) : NULL;
    if (w->dtype != DT_F32) dtype_row_to_f32(w->dtype, (const uint8_t *)w->data + (size_t)r * weight_row_bytes(w), scale, col, n, dst);
    for (int i = 0; w->dtype == DT_F32 && i < n; i++) dst[i] = (float)((const real *)w->data)[(size_t)r * (size_t)w->cols + (size_t)(col + i)];
}

/* Row r of pairs is this one of halves, and the other way */
static int paired(const Source *s, int r)
{
    int in = r % s->head, still = s->head - s->turned, k = in - still;
    return k < 0 ? r : r - in + still + (k % 2 ? s->turned / 2 + k / 2 : k / 2);
}

static int halved(const Source *s, int r)
{
    int in = r % s->head, still = s->head - s->turned, k = in - still, half = s->turned / 2;
    return k < 0 ? r : r - in + still + (k < half ? 2 * k : 2 * (k - half) + 1);
}

static void fetch(const Export *x, const Source *s, int64_t row, float *dst)
{
    const Config *c = &x->m->cfg;
    int           part = (int)(row / s->rows), r = (int)(row % s->rows), base = part * (c->nope + c->v_dim);
    int           head = r / (c->nope + c->v_dim ? c->nope + c->v_dim : 1), in = r - head * (c->nope + c->v_dim); /* of kv_b */
    switch (s->kind) {
    case PLAIN: weight_row(s->w + part, r, 0, s->cols, dst); break;
    case PAIRS: weight_row(s->w, paired(s, r), 0, s->cols, dst); break;
    case HALVES: weight_row(s->w, halved(s, r), 0, s->cols, dst); break;
    case KEYS:
        for (int i = 0; i < s->cols; i++) weight_row(s->w, base + i, r, 1, dst + i);
        break;
    case VALUES: weight_row(s->w, base + c->nope + r, 0, s->cols, dst); break;
    case JOINED:
        for (int i = 0; i < s->cols && in < c->nope; i++) weight_row(s->w, head * c->kv_lora + i, in, 1, dst + i);
        if (in >= c->nope) weight_row(s->v, head * c->v_dim + in - c->nope, 0, s->cols, dst);
        break;
    case FACTORS:
        for (int i = 0; i < s->cols; i++) dst[i] = (float)(pow(c->rope.theta, -2.0 * i / x->m->rope_cols) / x->m->inv_freq[i]);
        break;
    case BYTES: break;
    }
}

static void encode_row(void *user, int task, int worker)
{
    Export           *x = user;
    const Source     *s = &x->s[x->tensor];
    const TensorInfo *t = &x->t[x->tensor];
    const DtypeInfo  *d = dtype_info(t->dtype);
    float            *row = x->row + (size_t)worker * (size_t)x->cols_max;
    size_t            bytes = (size_t)(s->cols / d->block) * (size_t)d->block_bytes;
    int64_t           at = x->from + task;
    bool              as_is = s->kind == PLAIN && dtype_is_blocked(t->dtype) && s->w->dtype == t->dtype; /* encoding again would round again */
    fetch(x, s, at, row);
    x->bad[task] = dtype_row_unfit(as_is ? DT_F32 : t->dtype, row, s->cols);
    if (x->bad[task] >= 0) return;
    int64_t      rows = t->n_dims == 3 ? t->dim[1] : s->rows; /* of one matrix: a file's heads lie in one weight */
    const float *weight = x->weight ? x->weight + (size_t)(at / rows) * (size_t)s->cols : NULL;
    if (as_is) memcpy(x->out + (size_t)task * bytes, (const uint8_t *)s->w[at / s->rows].data + (size_t)(at % s->rows) * bytes, bytes);
    else dtype_row_from_f32(t->dtype, row, weight, x->out + (size_t)task * bytes, s->cols);
}

/* The columns' weights of tensor i into x->weight; *found: there are any */
static int weigh(Export *x, int i, bool *found, aha_error *e)
{
    const Source     *s = &x->s[i];
    const TensorInfo *t = &x->t[i];
    int               mats = t->n_dims == 3 ? (int)t->dim[0] : 1;
    mem_free(x->weight);
    x->weight = NULL;
    if (!x->o->importance || !dtype_is_blocked(t->dtype) || s->kind == BYTES) return 0;
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

/* What was read of the source need not stay in memory: rows [from, from + n) where they lie in a row, else the matrix when it is done with. */
static void release(const Export *x, const Source *s, int64_t from, int64_t n, bool last)
{
    const WeightFile *f = x->m->file;
    if (!f || s->kind == FACTORS) return;
    for (int64_t r = from, step; s->kind == PLAIN && n > 0; r += step, n -= step) {
        const Weight *w = s->w + r / s->rows;
        int64_t       in = r % s->rows;
        step = s->rows - in < n ? s->rows - in : n;
        weights_done_with(f, (const uint8_t *)w->data + (size_t)in * weight_row_bytes(w), (size_t)step * weight_row_bytes(w));
    }
    if (s->kind != PLAIN && last) weights_done_with(f, s->w->data, (size_t)s->w->rows * weight_row_bytes(s->w));
    if (s->v && last) weights_done_with(f, s->v->data, (size_t)s->v->rows * weight_row_bytes(s->v));
}

static int say_progress(Export *x, int64_t numbers, aha_error *e)
{
    x->done += numbers;
    return x->o->on_progress && x->o->on_progress(x->o->user, x->done, x->total) ? error_set(e, AHA_ERR_CANCELLED, "interrupted") : 0;
}

static int write_bytes(Export *x, const TensorInfo *t, Output *o, aha_error *e)
{
    int rc = 0;
    for (size_t at = 0; at < t->bytes && !rc; at += PIECE) {
        size_t n = t->bytes - at < PIECE ? t->bytes - at : PIECE;
        rc = output_put(o, (const uint8_t *)t->data + at, n, e);
        weights_done_with(x->m->file, (const uint8_t *)t->data + at, n);
        if (!rc) rc = say_progress(x, 0, e);
    }
    x->done++;
    return rc;
}

int export_write(void *user, int i, Output *o, aha_error *e)
{
    Export           *x = user;
    const Source     *s = &x->s[i];
    const TensorInfo *t = &x->t[i];
    int64_t           rows = export_rows(s, t);
    size_t            bytes = t->bytes / (size_t)rows;
    bool              found;
    int               rc = weigh(x, i, &found, e);
    x->tensor = i;
    if (s->kind == BYTES) return write_bytes(x, s->stored, o, e);
    for (x->from = 0; x->from < rows && !rc; x->from += ROWS_AT_ONCE) {
        int n = rows - x->from < ROWS_AT_ONCE ? (int)(rows - x->from) : ROWS_AT_ONCE;
        pool_run(x->o->pool, n, encode_row, x);
        for (int k = 0; k < n && !rc; k++)
            if (x->bad[k] >= 0)
                rc = error_set(e, AHA_ERR_FORMAT, "%s: row %lld, column %lld: no number that %s can hold, expected finite ones%s", s->name,
                               (long long)(x->from + k), (long long)x->bad[k], dtype_info(t->dtype)->name,
                               t->dtype == DT_F32 || t->dtype == DT_BF16 ? "" : " of at most 65504");
        if (!rc) rc = output_put(o, x->out, (size_t)n * bytes, e);
        release(x, s, x->from, n, x->from + n == rows);
        if (!rc) rc = say_progress(x, (int64_t)n * s->cols, e);
    }
    return rc;
}

void export_whole(void *user, int i)
{
    Export *x = user;
    x->done += export_numbers(&x->s[i], &x->t[i]);
}

int export_rows_begin(Export *x, aha_error *e)
{
    x->row = mem_alloc((size_t)(x->o->pool ? pool_threads(x->o->pool) : 1) * (size_t)x->cols_max * sizeof *x->row);
    x->out = mem_alloc((size_t)ROWS_AT_ONCE * (size_t)x->cols_max * 4 + 64);
    return x->row && x->out ? check_importance(x, e) : error_set(e, AHA_ERR_NOMEM, "cannot get memory for rows of %d", x->cols_max);
}
