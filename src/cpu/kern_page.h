/* Attention's memory, and a page's keys or values as its products want them: mostly where they lie. */
#ifndef AHA_CPU_KERN_PAGE_H
#define AHA_CPU_KERN_PAGE_H

#include "kern_pairs.h"

/* An item's memory.  Rows of pairs are [n][...]; what has one number a pair is rounded up to whole vectors. */
enum {
    ATTN_BLOCKS = 4, /* of values of Q8_0, whose weights are made at a time: they do not wait for each other */
    SOFTMAX_ROWS = 4 /* pairs, for the same reason; what v_tops takes */
};
typedef struct QueryBlock { /* of a query beside keys of Q8_0 */
    float   d;
    int32_t times, high, low; /* KvQuery; what the sums of both parts' products begin with (w_bytes) */
} QueryBlock;
typedef struct AttnWork {
    float     **out;       /* a pair's row of the result */
    float      *m, *l;     /* maximum so far; sum so far, [n][16] lanes */
    float      *fix, *big; /* exp(maximum before - with this page), exp(the page's largest score - maximum) */
    float      *s;         /* [n][KV_PAGE] scores, then weights */
    float      *unit;      /* values of Q8_0, ATTN_BLOCKS blocks of columns: what integers are multiplied with, [unit_row] each, n used */
    int32_t    *w;         /* the weights, pairs of integers [n][KV_PAGE / 2] each */
    float      *q;         /* [n][dk]; of keys of Q8_0 instead of it: */
    QueryBlock *block;     /* [n][dk / 32] */
    int8_t     *high, *low; /* [n][dk] */
    bool       *fine;      /* [dk / 32] does any pair's block have two parts? */
    float      *kt, *vb;   /* a page's keys [dk][KV_PAGE], its values [KV_PAGE][v_cols], where they do not lie so */
    int         v_cols, rp, unit_row; /* dv in whole tiles, n in whole vectors, a vector more */
} AttnWork;

static AttnWork work_of(const AttnArgs *a, const Pairs *p, float *mem)
{
    int64_t  rp = (p->n + 15) / 16 * 16, blocks = a->dk / KV_Q8_COLS;
    AttnWork w = {.m = mem, .fix = mem + rp, .big = mem + 2 * rp, .l = mem + 3 * rp, .s = mem + 19 * rp, .rp = (int)rp, .unit_row = (int)rp + 16};
    w.v_cols = (a->dv + GEMM_NR - 1) / GEMM_NR * GEMM_NR;
    mem += rp * (KV_PAGE + 19);
    w.out = (float **)(void *)mem;
    mem += rp * (int64_t)sizeof(float *) / 4;
    if (a->type == DT_Q8_0) {
        w.unit = mem;
        w.w = (int32_t *)(void *)(mem + ATTN_BLOCKS * w.unit_row);
        w.block = (QueryBlock *)(void *)(w.w + ATTN_BLOCKS * KV_PAGE / 2 * rp);
        w.high = (int8_t *)(w.block + rp * blocks);
        w.low = w.high + rp * a->dk;
        w.fine = (bool *)(w.low + rp * a->dk);
        mem = (float *)(void *)(w.fine + (blocks + 3) / 4 * 4);
    } else {
        w.q = mem;
        mem += rp * a->dk;
    }
    w.kt = align64(mem);
    w.vb = w.kt + (a->dk + 15) / 16 * 16 * KV_PAGE;
    return w;
}

static void pack_query_q8(const AttnArgs *a, const float *q, int x, const AttnWork *w)
{
    int blocks = a->dk / KV_Q8_COLS;
    for (int i = 0; i < blocks; i++) {
        int8_t     *high = w->high + (int64_t)x * a->dk + i * KV_Q8_COLS, *low = w->low + (int64_t)x * a->dk + i * KV_Q8_COLS;
        QueryBlock *b = w->block + x * blocks + i;
        KvQuery     code = kv_code_query(q + i * KV_Q8_COLS, high, low);
        *b = (QueryBlock){code.d, code.times, 0, 0};
        for (int d = 0; d < KV_Q8_COLS; d++) b->high -= BYTES_LIFT * high[d], b->low -= BYTES_LIFT * low[d];
        w->fine[i] = (x > 0 && w->fine[i]) || code.times > 1;
    }
}
static void pack_queries(const AttnArgs *a, const Pairs *p, const AttnWork *w)
{
    for (int x = 0; x < p->n; x++) {
        const float *q = a->q + pair_at(p, x, a->q_row, a->q_head);
        if (a->type == DT_Q8_0) pack_query_q8(a, q, x, w);
        else memcpy(w->q + (int64_t)x * a->dk, q, (size_t)a->dk * sizeof *q);
    }
}

/* ---- where a page's keys or values lie ---- */
typedef struct Part {
    Dtype       type;
    const char *at;     /* of Q8_0 the first block; of its values the first row of pairs */
    int64_t     step;   /* elements from a row to the next; of values of Q8_0 pairs */
    int64_t     ahead;  /* bytes from here to the same part of the page after the next; 0: there is none, or no need */
    const char *factor; /* of values of Q8_0 the first block; KV_Q8_BLOCK to the next */
    bool        coded;  /* and their pairs are of 8 bits, in blocks, else of 16 bits, in rows */
} Part;

/* dst[k][step] = column k of n <= step rows of floats; others 0.  Whole vectors are written. */
static void transpose_rows(const float *src, int64_t row, int n, int cols, float *dst, int64_t step)
{
    _Alignas(64) float tmp[16 * 16];
    for (int r0 = 0; r0 < step; r0 += 16)
        for (int k = 0; k < cols; k += 16) {
            if (n - r0 >= 16 && cols - k >= 16) {
                v_transpose(DT_F32, src + r0 * row + k, row, dst + k * step + r0, step);
                continue;
            }
            for (int r = 0; r < 16; r++)
                v_store(tmp + 16 * r, r0 + r < n ? v_load_m(src + (r0 + r) * row + k, m_first(cols - k)) : v_zero());
            v_transpose(DT_F32, tmp, 16, dst + k * step + r0, step);
        }
}

/* floats of type t, [cols][KV_PAGE] in, [KV_PAGE][step] out */
static void transpose_page(Dtype t, const char *src, int cols, float *dst, int64_t step)
{
    int size = t == DT_F32 ? 4 : 2, k = 0;
    for (; k + 16 <= cols; k += 16)
        for (int j = 0; j < KV_PAGE; j += transpose_cols(t))
            v_transpose(t, src + (k * KV_PAGE + j) * size, KV_PAGE, dst + j * step + k, step);
    for (; k < cols; k++) { /* a vector's rest */
        _Alignas(64) float column[KV_PAGE];
        for (int j = 0; j < KV_PAGE; j += 16) v_store(column + j, v_load_t(t, src, k * KV_PAGE + j));
        for (int j = 0; j < KV_PAGE; j++) dst[j * step + k] = column[j];
    }
}
/* the same of keys of Q8_0: pairs of positions i and i + 16 out, [16][step] */
static void transpose_q8(const char *src, int cols, float *dst, int64_t step)
{
    _Alignas(64) float column[KV_Q8_COLS * 16];
    for (int k = 0; k < cols; k += KV_Q8_COLS, src += KV_Q8_BLOCK) {
        const char *at = src + KV_Q8_NUMBERS;
        for (int i = 0; i < KV_Q8_COLS; i += 4, at += 4 * KV_PAGE) {
            w16 x = w_load(at), y = w_load(at + 2 * KV_PAGE), low = w_firsts(x, y), high = w_seconds(x, y);
            w_store(column + i * 16, w_low_bytes(low));
            w_store(column + (i + 1) * 16, w_high_bytes(low));
            w_store(column + (i + 2) * 16, w_low_bytes(high));
            w_store(column + (i + 3) * 16, w_high_bytes(high));
        }
        for (int i = 0; i < KV_Q8_COLS; i += 16) v_transpose(DT_F32, column + i * 16, 16, dst + k + i, step);
    }
}
/* n rows of floats of type t as rows of whole vectors */
static void widen_rows(Dtype t, const void *src, int64_t row, int n, int cols, float *dst, int64_t step)
{
    for (int r = 0; r < n; r++)
        for (int i = 0; i < cols; i += 16)
            v_store(dst + r * step + i, cols - i >= 16 ? v_load_t(t, src, r * row + i) : v_load_tn(t, src, r * row + i, cols - i));
}

/* from a head's part of page j to that of page j + 2, which is far enough for memory to answer while a page is computed */
static INLINE int64_t part_ahead(const Pairs *p, const void **page, int j)
{
    int64_t last = (p->pos + p->rows - 1) / KV_PAGE;
    return (const char *)page[j + 2 <= last ? j + 2 : last] - (const char *)page[j];
}

static Part keys_part(const AttnArgs *a, const Pairs *p, int j, int keys, const AttnWork *w)
{
    const char *page = p->span->key[j];
    if (a->paged) {
        const char *at = page + (size_t)p->kg * a->head_step;
        return (Part){.type = a->type, .at = at, .step = KV_PAGE, .ahead = part_ahead(p, p->span->key, j)};
    }
    transpose_rows((const float *)(const void *)page + (int64_t)p->kg * a->dk, a->key_row, keys, a->dk, w->kt, KV_PAGE);
    return (Part){.type = DT_F32, .at = (const char *)w->kt, .step = KV_PAGE};
}

static Part values_part(const AttnArgs *a, const Pairs *p, int j, int keys, const AttnWork *w)
{
    const char *page = p->span->val[j], *at = page + (size_t)p->kg * a->head_step;
    Part        v = {.type = a->type, .at = (const char *)w->vb, .step = w->v_cols, .factor = at};
    if (!a->paged)
        widen_rows(DT_F32, (const float *)(const void *)page + (int64_t)p->kg * a->dv, a->val_row, keys, a->dv, w->vb, w->v_cols);
    else if (a->v_in_k && a->type == DT_Q8_0) {
        transpose_q8(at, a->dv, w->vb, w->v_cols);
        return v;
    } else if (a->v_in_k)
        switch (a->type) {
        case DT_F16: transpose_page(DT_F16, at, a->dv, w->vb, w->v_cols); break;
        case DT_BF16: transpose_page(DT_BF16, at, a->dv, w->vb, w->v_cols); break;
        default: transpose_page(DT_F32, at, a->dv, w->vb, w->v_cols); break;
        }
    else if (a->dv % GEMM_NR == 0 || a->type == DT_Q8_0)
        return (Part){a->type, a->type == DT_Q8_0 ? at + KV_Q8_NUMBERS : at, a->type == DT_Q8_0 ? KV_Q8_COLS : a->dv,
                      part_ahead(p, p->span->val, j), at, true};
    else
        switch (a->type) { /* a row's end lies within a tile */
        case DT_F16: widen_rows(DT_F16, at, a->dv, keys, a->dv, w->vb, w->v_cols); break;
        case DT_BF16: widen_rows(DT_BF16, at, a->dv, keys, a->dv, w->vb, w->v_cols); break;
        default: widen_rows(DT_F32, at, a->dv, keys, a->dv, w->vb, w->v_cols); break;
        }
    v.type = DT_F32;
    return v;
}

#endif
