/* Causal attention, forward.  An item is a tile of query rows and some heads of one key head: `n` pairs (row, head), heads fastest,
 * over the sequence's pages.  A page of a head, as the cache has it (tensor/kernels.h):
 *
 *        position 0 .. 31                     column 0 ............ dv-1
 *     +--------------------+               +----------------------------+
 *     | column 0           |               | position 0                 |
 *     | ...        keys    |               | ...               values   |
 *     | column dk-1        |               | position 31                |
 *     +--------------------+               +----------------------------+
 *
 * Scores: a lane is a position; a row of the page is loaded once and multiplied with a number of each of up to GEMM_MR queries.
 * Values: a lane is a column; weights are broadcast the same way.  So one row or many, nothing is transposed, and the page is
 * decoded as it is loaded.  A packed batch has rows of both: its keys are transposed, a page at a time; of MLA, whose values are
 * columns of the keys, the cache's values are.
 *
 * Per page and head: 32 (dk + dv) numbers of 4, 2 or 34/32 bytes; per pair 32 dk + 32 dv multiply-adds and 33 exponentials.
 * With dk = dv = 128 and four queries of a key head a page of Q8_0 is 8,704 bytes for 32,768 multiply-adds.  In vectors of sixteen:
 * values 1,024, and keys 1,024 if they were floats; as 16-bit integers, two columns to a lane, half of it, and nothing is
 * converted but each block's sums. */
#ifndef AHA_CPU_KERN_ATTN_H
#define AHA_CPU_KERN_ATTN_H

#include "kern_pairs.h"

/* An item's memory.  Rows of pairs are [n][...]; what has one number a pair is rounded up to whole vectors. */
enum { ATTN_BLOCKS = 4 }; /* of values of Q8_0, whose weights are made at a time: they do not wait for each other */
typedef struct AttnWork {
    float   *m, *l, *fix;  /* maximum and sum so far; exp(maximum before - with this page) */
    float   *s;            /* [n][KV_PAGE] scores, then weights */
    float   *big;          /* values of Q8_0: the largest weight; and of ATTN_BLOCKS blocks of columns: */
    float   *unit;         /* what integers are multiplied with, [n] each */
    int32_t *w;            /* the weights, pairs of integers [n][KV_PAGE / 2] each */
    float   *q;            /* [n][dk]; of keys of Q8_0 instead of it: */
    float   *dq;           /* [n][dk / 32] */
    int16_t *code;         /* [n][dk] */
    float   *kt, *vb;      /* a page's keys [dk][KV_PAGE], its values [KV_PAGE][v_cols], where they do not lie so */
    int      v_cols, rp;   /* dv in whole tiles, n in whole vectors */
} AttnWork;

static AttnWork work_of(const AttnArgs *a, const Pairs *p, float *mem)
{
    int64_t  rp = (p->n + 15) / 16 * 16;
    AttnWork w = {.m = mem, .l = mem + rp, .fix = mem + 2 * rp, .s = mem + 3 * rp, .rp = (int)rp};
    w.v_cols = (a->dv + GEMM_NR - 1) / GEMM_NR * GEMM_NR;
    mem += rp * (KV_PAGE + 3);
    if (a->type == DT_Q8_0) {
        w.big = mem;
        w.unit = mem + rp;
        w.w = (int32_t *)(void *)(mem + (1 + ATTN_BLOCKS) * rp);
        w.dq = mem + (1 + ATTN_BLOCKS + ATTN_BLOCKS * KV_PAGE / 2) * rp;
        w.code = (int16_t *)(void *)(w.dq + rp * (a->dk / KV_Q8_COLS));
        mem = w.dq + rp * (a->dk / KV_Q8_COLS + a->dk / 2);
    } else {
        w.q = mem;
        mem += rp * a->dk;
    }
    w.kt = align64(mem);
    w.vb = w.kt + (a->dk + 15) / 16 * 16 * KV_PAGE;
    return w;
}

static void pack_queries(const AttnArgs *a, const Pairs *p, const AttnWork *w)
{
    for (int x = 0; x < p->n; x++) {
        const float *q = a->q + pair_at(p, x, a->q_row, a->q_head);
        if (a->type != DT_Q8_0) memcpy(w->q + (int64_t)x * a->dk, q, (size_t)a->dk * sizeof *q);
        else
            for (int d = 0; d < a->dk; d += KV_Q8_COLS)
                w->dq[x * (a->dk / KV_Q8_COLS) + d / KV_Q8_COLS] = kv_code_query(q + d, w->code + (int64_t)x * a->dk + d);
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
        for (int i = 0; i < KV_Q8_COLS; i += 2, at += 2 * KV_PAGE) {
            w16 x = w_load_pairs(at), y = w_load_pairs(at + KV_PAGE);
            w_store(column + i * 16, w_firsts(x, y));
            w_store(column + (i + 1) * 16, w_seconds(x, y));
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
        const char *at = page + kv_bytes(a->type, (size_t)p->kg * (size_t)a->dk * KV_PAGE);
        return (Part){.type = a->type, .at = at, .step = KV_PAGE, .ahead = part_ahead(p, p->span->key, j)};
    }
    transpose_rows((const float *)(const void *)page + (int64_t)p->kg * a->dk, a->key_row, keys, a->dk, w->kt, KV_PAGE);
    return (Part){.type = DT_F32, .at = (const char *)w->kt, .step = KV_PAGE};
}

static Part values_part(const AttnArgs *a, const Pairs *p, int j, int keys, const AttnWork *w)
{
    const char *page = p->span->val[j], *at = page + kv_bytes(a->type, (size_t)p->kg * (size_t)(a->v_in_k ? a->dk : a->dv) * KV_PAGE);
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

/* ---- tiles: some rows of A, [m][a_row] broadcast, and nv vectors of a page's rows ---- */
#if GEMM_MR == 12
#define ATTN_ROWS(X) X(1) X(2) X(4) X(6) X(8) X(12)
#else
#define ATTN_ROWS(X) X(1) X(2) X(4) X(6)
#endif
static INLINE int attn_rows(int n)
{
    return n >= 12 && GEMM_MR >= 12 ? 12 : n >= 8 && GEMM_MR >= 8 ? 8 : n >= 6 ? 6 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

static INLINE int part_bytes(Dtype t, int n) { return t == DT_F32 ? 4 * n : 2 * n; }

/* acc += A B over kc rows of B */
static INLINE void part_sum(Dtype t, int mr, const float *a, int64_t a_row, const char *b, int64_t step, int kc, int64_t ahead,
                            v16 acc[GEMM_MR][GEMM_NV])
{
    for (int k = 0; k < kc; k++) {
        v16 bv[GEMM_NV];
        if (ahead)
            for (int i = 0; i < part_bytes(t, GEMM_NR); i += 64) __builtin_prefetch(b + ahead + i, 0, 2);
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) bv[v] = v_load_t(t, b, 16 * v);
        UNROLL
        for (int m = 0; m < mr; m++) {
            v16 x = v_set(a[m * a_row + k]);
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) acc[m][v] = v_fma(x, bv[v], acc[m][v]);
        }
        b += part_bytes(t, (int)step);
    }
}

/* s[m][KV_PAGE] = q[m] . keys */
static INLINE void score_rows(Dtype t, int mr, const float *q, int dk, const Part *k, int64_t ahead, float *s)
{
    for (int j = 0; j < KV_PAGE; j += GEMM_NR)
        for (int d = 0; d < dk; d += GEMM_KC) {
            v16 acc[GEMM_MR][GEMM_NV];
            tile_clear(mr, GEMM_NV, acc);
            part_sum(t, mr, q + d, dk, k->at + part_bytes(t, d * KV_PAGE + j), KV_PAGE, min_int(GEMM_KC, dk - d), ahead, acc);
            UNROLL
            for (int m = 0; m < mr; m++) {
                UNROLL
                for (int v = 0; v < GEMM_NV; v++) {
                    float *to = s + m * KV_PAGE + j + 16 * v;
                    v_store(to, d > 0 ? v_add(v_load(to), acc[m][v]) : acc[m][v]);
                }
            }
        }
}
static INLINE void score_all(Dtype t, const AttnWork *w, int x, int n, int dk, const Part *k)
{
    int64_t ahead = k->ahead;
    for (int mr; x < n; x += mr, ahead = 0)
        switch (mr = attn_rows(n - x)) {
#define ROWS(r)                                                                                                       \
    case r: score_rows(t, r, w->q + (int64_t)x * dk, dk, k, ahead, w->s + x * KV_PAGE); break;
            ATTN_ROWS(ROWS)
#undef ROWS
        }
}

/* the same of Q8_0: two columns' products a lane, a block at a time */
static INLINE void score_q8_rows(int mr, const int16_t *code, const float *dq, int dk, const Part *k, int64_t ahead, float *s)
{
    for (int j = 0; j < KV_PAGE; j += GEMM_NR)
        for (int d = 0; d < dk; d += KV_Q8_COLS) {
            const char *block = k->at + d / KV_Q8_COLS * KV_Q8_BLOCK, *b = block + KV_Q8_NUMBERS + 2 * j;
            w16         acc[GEMM_MR][GEMM_NV], bv[GEMM_NV];
            v16         factor[GEMM_NV];
            if (ahead) __builtin_prefetch(block + ahead, 0, 2);
            UNROLL
            for (int m = 0; m < mr; m++) {
                UNROLL
                for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_zero();
            }
            for (int c = 0; c < KV_Q8_COLS; c += 2, b += 2 * KV_PAGE) {
                if (ahead) __builtin_prefetch(b + ahead, 0, 2);
                UNROLL
                for (int v = 0; v < GEMM_NV; v++) bv[v] = w_load_pairs(b + 32 * v);
                UNROLL
                for (int m = 0; m < mr; m++) {
                    int32_t two;
                    memcpy(&two, code + m * dk + d + c, sizeof two);
                    UNROLL
                    for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_dot_pairs(acc[m][v], bv[v], w_set(two));
                }
            }
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) factor[v] = v_load_t(DT_F16, block, j + 16 * v);
            UNROLL
            for (int m = 0; m < mr; m++) {
                UNROLL
                for (int v = 0; v < GEMM_NV; v++) {
                    float *to = s + m * KV_PAGE + j + 16 * v;
                    v16    f = v_mul(factor[v], v_set(dq[m * (dk / KV_Q8_COLS) + d / KV_Q8_COLS]));
                    v_store(to, v_fma(w_float(acc[m][v]), f, d > 0 ? v_load(to) : v_zero()));
                }
            }
        }
}
static void score_q8(const AttnWork *w, int x, int n, int dk, const Part *k)
{
    int64_t ahead = k->ahead;
    for (int mr; x < n; x += mr, ahead = 0)
        switch (mr = attn_rows(n - x)) {
#define ROWS(r)                                                                                                       \
    case r: score_q8_rows(r, w->code + (int64_t)x * dk, w->dq + x * (dk / KV_Q8_COLS), dk, k, ahead, w->s + x * KV_PAGE); break;
            ATTN_ROWS(ROWS)
#undef ROWS
        }
}

static void scores(const AttnWork *w, int x, int n, int dk, const Part *k)
{
    switch (k->type) {
    case DT_F16: score_all(DT_F16, w, x, n, dk, k); break;
    case DT_BF16: score_all(DT_BF16, w, x, n, dk, k); break;
    case DT_Q8_0: score_q8(w, x, n, dk, k); break;
    default: score_all(DT_F32, w, x, n, dk, k); break;
    }
}

/* One page's step of the online softmax for pair x, of which it sees `seen` > 0 keys: s becomes exp(scale s - m), 0 where nothing
 * is seen; fix exp(m before - m). */
static INLINE void softmax_row(const AttnWork *w, int x, int seen, float scale)
{
    float *s = w->s + x * KV_PAGE, m = w->m[x], m1;
    m16    in0 = m_first(seen), in1 = m_first(seen - 16);
    v16    none = v_set(-INFINITY), f = v_set(scale);
    v16    x0 = v_pick(in0, v_mul(f, v_load(s)), none), x1 = v_pick(in1, v_mul(f, v_load(s + 16)), none);
    w->m[x] = m1 = v_top(v_max(x1, v_max(x0, v_set(m))));
    x0 = v_pick(in0, v_exp(v_sub(x0, v_set(m1))), v_zero());
    x1 = v_pick(in1, v_exp(v_sub(x1, v_set(m1))), v_zero());
    v_store(s, x0);
    v_store(s + 16, x1);
    w->fix[x] = m1 == m ? 1 : r_exp(m - m1); /* mostly 1, which exp(0) is */
    w->l[x] = r_fma(w->l[x], w->fix[x], v_sum(v_add(x0, x1)));
}

/* ---- values ---- */
typedef struct ValueTile {
    const float *a;   /* [mr][KV_PAGE] weights */
    const float *fix; /* [mr] */
    const char  *b;
    int64_t      step, ahead;
    int          cols;          /* valid columns */
    int          seen[GEMM_MR]; /* ascending */
    float       *c[GEMM_MR];
} ValueTile;

/* c[m] = c[m] * fix[m] + sum over the positions that the row sees of a[m][j] b[j] */
static INLINE void value_rows(Dtype t, int mr, const ValueTile *v)
{
    v16 acc[GEMM_MR][GEMM_NV];
    tile_clear(mr, GEMM_NV, acc);
    part_sum(t, mr, v->a, KV_PAGE, v->b, v->step, v->seen[0], v->ahead, acc);
    if (v->seen[mr - 1] > v->seen[0]) { /* on the diagonal */
        UNROLL
        for (int m = 0; m < mr; m++)
            for (int j = v->seen[0]; j < v->seen[m]; j++) {
                UNROLL
                for (int i = 0; i < GEMM_NV; i++)
                    acc[m][i] = v_fma(v_set(v->a[m * KV_PAGE + j]), v_load_t(t, v->b, j * v->step + 16 * i), acc[m][i]);
            }
    }
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int i = 0; i < GEMM_NV; i++) {
            float *c = v->c[m] + 16 * i;
            m16    mask = m_first(v->cols - 16 * i);
            v_store_m(c, mask, v_fma(v_load_m(c, mask), v_set(v->fix[m]), acc[m][i]));
        }
    }
}

static INLINE void value_all(Dtype t, const AttnArgs *a, const Pairs *p, const AttnWork *w, int x0, int j0, int keys, const Part *part)
{
    for (int d = 0; d < a->dv; d += GEMM_NR) {
        ValueTile v = {.b = part->at + part_bytes(t, d), .step = part->step, .ahead = part->ahead, .cols = a->dv - d};
        for (int x = x0, mr; x < p->n; x += mr, v.ahead = 0) {
            mr = attn_rows(p->n - x);
            v.a = w->s + x * KV_PAGE;
            v.fix = w->fix + x;
            for (int m = 0; m < mr; m++) {
                v.seen[m] = pair_sees(p, x + m, j0, keys);
                v.c[m] = a->out + pair_at(p, x + m, a->out_row, a->dv) + d;
            }
            switch (mr) {
#define ROWS(r)                                                                                                       \
    case r: value_rows(t, r, &v); break;
                ATTN_ROWS(ROWS)
#undef ROWS
            }
        }
    }
}

/* Weights of Q8_0's values.  First every pair's are divided by their largest. */
static INLINE void weights_scale(const AttnWork *w, int x)
{
    float *s = w->s + x * KV_PAGE, big = v_top(v_max(v_load(s), v_max(v_load(s + 16), v_zero())));
    v16    inv = v_set(big > 0 ? 1 / big : 0);
    w->big[x] = big;
    v_store(s, v_mul(v_load(s), inv));
    v_store(s + 16, v_mul(v_load(s + 16), inv));
}
/* Then, for each block of 32 columns, they are multiplied with its factors, as shares of the largest that the pair sees. */
static INLINE void weights_code(const Pairs *p, const AttnWork *w, int x, int j0, int keys, const char *block, int slot)
{
    v16   f0 = v_load_t(DT_F16, block, 0), f1 = v_load_t(DT_F16, block, 16), g0 = f0, g1 = f1;
    float most = 0, none = 0;
    for (int seen = 0; x < p->n; x++) {
        int now = pair_sees(p, x, j0, keys), to = slot * w->rp + x;
        w16 low;
        if (now != seen) {
            v16   y0 = v_pick(m_first(now), f0, v_zero()), y1 = v_pick(m_first(now - 16), f1, v_zero());
            float f;
            most = v_top(v_max(v_abs(y0), v_max(v_abs(y1), v_zero())));
            none = v_sum(v_mul(v_add(v_abs(y0), v_abs(y1)), v_zero()));
            f = most > 0 ? 32767 / most : 0;
            g0 = v_mul(y0, v_set(f));
            g1 = v_mul(y1, v_set(f));
            seen = now;
        }
        w->unit[to] = w->big[x] * (most / 32767) + none;
        low = w_round(v_mul(v_load(w->s + x * KV_PAGE), g0));
        w_store(w->w + to * 16, w_firsts(low, w_round(v_mul(v_load(w->s + x * KV_PAGE + 16), g1))));
    }
}

/* c[m] = c[m] * fix[m] + unit[m] * sum of w[m][i] b[i], pairs of integers, GEMM_NR columns */
static INLINE void value_q8_rows(bool coded, int mr, const int32_t *w, const float *unit, const float *fix, const char *b, int64_t step,
                                 int64_t ahead, float *const *c)
{
    w16 acc[GEMM_MR][GEMM_NV], bv[GEMM_NV];
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_zero();
    }
    for (int i = 0; i < KV_PAGE / 2; i++, b += (coded ? 2 : 4) * step) {
        if (ahead) __builtin_prefetch(b + ahead, 0, 2);
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) bv[v] = coded ? w_load_pairs(b + 32 * v) : w_load(b + 64 * v);
        UNROLL
        for (int m = 0; m < mr; m++) {
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_dot_pairs(acc[m][v], bv[v], w_set(w[m * 16 + i]));
        }
    }
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) {
            float *to = c[m] + 16 * v;
            v_store(to, v_fma(v_load(to), v_set(fix[m]), v_mul(w_float(acc[m][v]), v_set(unit[m]))));
        }
    }
}
static INLINE void value_q8(bool coded, const AttnArgs *a, const Pairs *p, const AttnWork *w, int x0, int j0, int keys,
                            const Part *part)
{
    enum { GROUP = ATTN_BLOCKS * KV_Q8_COLS };
    for (int x = x0; x < p->n; x++) weights_scale(w, x);
    for (int d = 0; d < a->dv; d += GEMM_NR) {
        int         block = d / KV_Q8_COLS * KV_Q8_BLOCK, slot = d % GROUP / KV_Q8_COLS * w->rp;
        const char *b = part->at + (coded ? block + d % KV_Q8_COLS * 2 : 4 * d);
        int64_t     ahead = part->ahead;
        float      *c[GEMM_MR];
        for (int e = d; d % GROUP == 0 && e < d + GROUP && e < a->dv; e += KV_Q8_COLS) {
            const char *f = part->factor + e / KV_Q8_COLS * KV_Q8_BLOCK;
            if (ahead) __builtin_prefetch(f + ahead, 0, 2);
            weights_code(p, w, x0, j0, keys, f, e % GROUP / KV_Q8_COLS);
        }
        for (int x = x0, mr; x < p->n; x += mr, ahead = 0) {
            mr = attn_rows(p->n - x);
            for (int m = 0; m < mr; m++) c[m] = a->out + pair_at(p, x + m, a->out_row, a->dv) + d;
            switch (mr) {
#define ROWS(r)                                                                                                       \
    case r: value_q8_rows(coded, r, w->w + (slot + x) * 16, w->unit + slot + x, w->fix + x, b, part->step, ahead, c); break;
                ATTN_ROWS(ROWS)
#undef ROWS
            }
        }
    }
}

static void values(const AttnArgs *a, const Pairs *p, const AttnWork *w, int x, int j0, int keys, const Part *part)
{
    switch (part->type) {
    case DT_F16: value_all(DT_F16, a, p, w, x, j0, keys, part); break;
    case DT_BF16: value_all(DT_BF16, a, p, w, x, j0, keys, part); break;
    case DT_Q8_0:
        if (part->coded) value_q8(true, a, p, w, x, j0, keys, part);
        else value_q8(false, a, p, w, x, j0, keys, part);
        break;
    default: value_all(DT_F32, a, p, w, x, j0, keys, part); break;
    }
}

static void attend_tile(const AttnArgs *a, const Pairs *p, float *mem)
{
    AttnWork w = work_of(a, p, mem);
    int      last = p->pos + p->rows - 1;
    pack_queries(a, p, &w);
    for (int x = 0; x < w.rp; x++) w.m[x] = -INFINITY, w.l[x] = 0;
    for (int x = 0; x < p->n; x++) memset(a->out + pair_at(p, x, a->out_row, a->dv), 0, (size_t)a->dv * sizeof(float));
    for (int j0 = 0; j0 <= last; j0 += KV_PAGE) {
        int  keys = min_int(KV_PAGE, last + 1 - j0), x0 = max_int(0, j0 - p->pos) * p->per; /* the first pair that sees one of them */
        Part part = keys_part(a, p, j0 / KV_PAGE, keys, &w);
        scores(&w, x0, p->n, a->dk, &part);
        for (int x = x0; x < p->n; x++) softmax_row(&w, x, pair_sees(p, x, j0, keys), a->scale);
        part = values_part(a, p, j0 / KV_PAGE, keys, &w);
        values(a, p, &w, x0, j0, keys, &part);
    }
    for (int x = 0; x < p->n; x++) {
        float *o = a->out + pair_at(p, x, a->out_row, a->dv);
        for (int d = 0; d < a->dv; d += 16) {
            m16 mask = m_first(a->dv - d);
            v_store_m(o + d, mask, v_div(v_load_m(o + d, mask), v_set(w.l[x])));
        }
        if (a->lse) a->lse[pair_at(p, x, a->H, 1)] = w.m[x] + r_log(w.l[x]);
    }
}

KERNEL(attn)
{
    const AttnArgs *a = args;
    for (int64_t i = i0; i < i1; i++) {
        const int *it = a->item + 3 * i;
        Pairs      p = pairs_of(a, &a->span[it[0]], it[1], it[1] + a->tile, it[2]);
        attend_tile(a, &p, align64(scratch));
    }
}

#endif
