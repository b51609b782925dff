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
 * With dk = dv = 128 and four queries of a key head that is 2,048 multiply-adds of vectors of sixteen floats; keys and values of Q8_0,
 * 8,704 bytes, are multiplied as integers (kern_attn_q8.h): 768. */
#ifndef AHA_CPU_KERN_ATTN_H
#define AHA_CPU_KERN_ATTN_H

#include "kern_attn_q8.h"

/* ---- scores ---- */
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

static void scores(const AttnWork *w, int x, int n, int dk, const Part *k)
{
    switch (k->type) {
    case DT_F16: score_all(DT_F16, w, x, n, dk, k); break;
    case DT_BF16: score_all(DT_BF16, w, x, n, dk, k); break;
    case DT_Q8_0: score_q8(w, x, n, dk, k); break;
    default: score_all(DT_F32, w, x, n, dk, k); break;
    }
}

/* One page's step of the online softmax for mr pairs of one row from x on, which sees `seen` > 0 of its keys: s becomes exp(scale s - m),
 * 0 where nothing is seen, as shares of big if `shares`; fix exp(m before - m).  Step by step for all of them: one pair's steps
 * wait for each other. */
static INLINE void softmax_rows(int mr, const AttnWork *w, int x, int seen, float scale, bool shares)
{
    const m16 in0 = m_first(seen), in1 = m_first(seen - 16);
    const v16 none = v_set(-INFINITY), f = v_set(scale);
    float    *s = w->s + x * KV_PAGE, by[SOFTMAX_ROWS];
    v16       u[SOFTMAX_ROWS], v[SOFTMAX_ROWS];
    UNROLL
    for (int i = 0; i < mr; i++) {
        u[i] = v_pick(in0, v_mul(f, v_load(s + i * KV_PAGE)), none);
        v[i] = v_pick(in1, v_mul(f, v_load(s + i * KV_PAGE + 16)), none);
    }
    UNROLL
    for (int i = 0; i < mr; i++) {
        float m = w->m[x + i], top = v_top(v_max(v[i], v_max(u[i], none))), m1 = top > m ? top : m;
        w->m[x + i] = m1;
        w->fix[x + i] = m1 == m ? 1 : r_exp(m - m1); /* mostly 1, which exp(0) is */
        if (shares) w->big[x + i] = kv_weight_unit(top - m1, &by[i]);
    }
    UNROLL
    for (int i = 0; i < mr; i++) {
        v16    m = v_set(w->m[x + i]);
        float *l = w->l + (x + i) * 16;
        u[i] = v_pick(in0, v_exp(v_sub(u[i], m)), v_zero());
        v[i] = v_pick(in1, v_exp(v_sub(v[i], m)), v_zero());
        v_store(l, v_fma(v_load(l), v_set(w->fix[x + i]), v_add(u[i], v[i])));
        v_store(s + i * KV_PAGE, shares ? v_mul(u[i], v_set(by[i])) : u[i]);
        v_store(s + i * KV_PAGE + 16, shares ? v_mul(v[i], v_set(by[i])) : v[i]);
    }
}
static void softmax_page(const AttnArgs *a, const Pairs *p, const AttnWork *w, int x, int j0, int keys)
{
    while (x < p->n) {
        int seen = pair_sees(p, x, j0, keys), end = min_int(p->n, x + p->per - x % p->per);
        for (; x + SOFTMAX_ROWS <= end; x += SOFTMAX_ROWS) softmax_rows(SOFTMAX_ROWS, w, x, seen, a->scale, a->type == DT_Q8_0);
        for (; x < end; x++) softmax_rows(1, w, x, seen, a->scale, a->type == DT_Q8_0);
    }
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
                v.c[m] = w->out[x + m] + d;
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
    for (int x = 0; x < w.rp; x++) w.m[x] = -INFINITY;
    memset(w.l, 0, (size_t)w.rp * 16 * sizeof *w.l);
    for (int x = 0; x < p->n; x++) {
        w.out[x] = a->out + pair_at(p, x, a->out_row, a->dv);
        memset(w.out[x], 0, (size_t)a->dv * sizeof(float));
    }
    for (int j0 = 0; j0 <= last; j0 += KV_PAGE) {
        int  keys = min_int(KV_PAGE, last + 1 - j0), x0 = max_int(0, j0 - p->pos) * p->per; /* the first pair that sees one of them */
        Part part = keys_part(a, p, j0 / KV_PAGE, keys, &w);
        scores(&w, x0, p->n, a->dk, &part);
        softmax_page(a, p, &w, x0, j0, keys);
        part = values_part(a, p, j0 / KV_PAGE, keys, &w);
        values(a, p, &w, x0, j0, keys, &part);
    }
    for (int x = 0; x < p->n; x++) {
        float *o = w.out[x], l = v_sum(v_load(w.l + x * 16));
        for (int d = 0; d < a->dv; d += 16) {
            m16 mask = m_first(a->dv - d);
            v_store_m(o + d, mask, v_div(v_load_m(o + d, mask), v_set(l)));
        }
        if (a->lse) a->lse[pair_at(p, x, a->H, 1)] = w.m[x] + r_log(l);
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
