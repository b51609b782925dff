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

/* One page's step of the online softmax for mr pairs from x on, which see the first `seen` > 0 of its keys: u and v, scores of positions 0 to
 * 15 and 16 to 31, become exp(scale s - m), 0 where nothing is seen, as shares of big if `shares`; fix exp(m before - m).  Four pairs' steps
 * at once: one pair's wait for each other, and their maxima are lanes of one vector.  true: fix is 1 for all of them, as it mostly is. */
static INLINE bool softmax_step(int mr, bool whole, const AttnWork *w, int x, int seen, float scale, bool shares, v16 u[SOFTMAX_ROWS],
                                v16 v[SOFTMAX_ROWS])
{
    const m16 in0 = m_first(seen), in1 = m_first(seen - 16);
    const v16 none = v_set(-INFINITY), f = v_set(scale);
    v16       top[SOFTMAX_ROWS], was = v_load(w->m + x), now, fix;
    _Alignas(64) float m[16], fixes[16], big[16], by[16];
    UNROLL
    for (int i = 0; i < SOFTMAX_ROWS; i++) {
        if (i < mr) {
            u[i] = v_mul(f, u[i]);
            v[i] = v_mul(f, v[i]);
            if (!whole) {
                u[i] = v_pick(in0, u[i], none);
                v[i] = v_pick(in1, v[i], none);
            }
        }
        top[i] = i < mr ? v_max(v[i], v_max(u[i], none)) : none;
    }
    top[0] = v_tops(top);
    now = v_max(top[0], was);
    fix = v_exp(v_sub(was, now));
    v_store(m, now);
    v_store(fixes, fix);
    memcpy(w->m + x, m, (size_t)mr * sizeof *m);
    memcpy(w->fix + x, fixes, (size_t)mr * sizeof *fixes);
    if (shares) { /* kv_weight_unit */
        v16 y = v_add(v_mul(v_sub(top[0], now), v_set(1.44269504f)), v_set(0.5f));
        w16 n = w_round(v_max(y, v_set(-126)));
        w_store(big, w_shl(w_add(n, w_set(127)), 23));
        w_store(by, w_shl(w_add(w_xor(n, w_set(-1)), w_set(128)), 23));
        memcpy(w->big + x, big, (size_t)mr * sizeof *big);
    }
    UNROLL
    for (int i = 0; i < mr; i++) {
        v16    now1 = v_set(m[i]);
        float *l = w->l + (x + i) * 16;
        u[i] = v_exp(v_sub(u[i], now1));
        v[i] = v_exp(v_sub(v[i], now1));
        if (!whole) {
            u[i] = v_pick(in0, u[i], v_zero());
            v[i] = v_pick(in1, v[i], v_zero());
        }
        v_store(l, v_fma(v_load(l), v_set(fixes[i]), v_add(u[i], v[i])));
        if (shares) {
            u[i] = v_mul(u[i], v_set(by[i]));
            v[i] = v_mul(v[i], v_set(by[i]));
        }
    }
    return (w_above(w_xor(w_bits(fix), w_bits(v_set(1))), 0) & ((1u << mr) - 1)) == 0;
}
static INLINE bool softmax_rows(int mr, bool whole, const AttnWork *w, int x, int seen, float scale, bool shares)
{
    float *s = w->s + x * KV_PAGE;
    v16    u[SOFTMAX_ROWS], v[SOFTMAX_ROWS];
    bool   same;
    UNROLL
    for (int i = 0; i < mr; i++) u[i] = v_load(s + i * KV_PAGE), v[i] = v_load(s + i * KV_PAGE + 16);
    same = softmax_step(mr, whole, w, x, seen, scale, shares, u, v);
    UNROLL
    for (int i = 0; i < mr; i++) v_store(s + i * KV_PAGE, u[i]), v_store(s + i * KV_PAGE + 16, v[i]);
    return same;
}
static INLINE bool softmax_pairs(bool whole, const AttnWork *w, int x, int end, int seen, float scale, bool shares)
{
    bool same = true;
    for (; x + SOFTMAX_ROWS <= end; x += SOFTMAX_ROWS) same &= softmax_rows(SOFTMAX_ROWS, whole, w, x, seen, scale, shares);
    if (x + 2 <= end) same &= softmax_rows(2, whole, w, x, seen, scale, shares), x += 2;
    if (x < end) same &= softmax_rows(1, whole, w, x, seen, scale, shares);
    return same;
}
/* of all pairs from x on; false: some are to be multiplied with their fix */
static bool softmax_page(const AttnArgs *a, const Pairs *p, const AttnWork *w, int x, int j0, int keys)
{
    bool same = true;
    for (int end; x < p->n; x = end) {
        int seen = pair_sees(p, x, j0, keys);
        end = seen == KV_PAGE ? p->n : min_int(p->n, x + p->per - x % p->per); /* later rows see as much */
        same &= seen == KV_PAGE ? softmax_pairs(true, w, x, end, seen, a->scale, a->type == DT_Q8_0)
                                : softmax_pairs(false, w, x, end, seen, a->scale, a->type == DT_Q8_0);
    }
    return same;
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

/* same: every fix is 1 */
static void values(const AttnArgs *a, const Pairs *p, const AttnWork *w, int x, int j0, int keys, bool same, const Part *part)
{
    switch (part->type) {
    case DT_F16: value_all(DT_F16, a, p, w, x, j0, keys, part); break;
    case DT_BF16: value_all(DT_BF16, a, p, w, x, j0, keys, part); break;
    case DT_Q8_0:
        if (part->coded) value_q8(true, a, p, w, x, j0, keys, same, part);
        else value_q8(false, a, p, w, x, j0, keys, same, part);
        break;
    default: value_all(DT_F32, a, p, w, x, j0, keys, part); break;
    }
}

/* Page j of Q8_0, which the four queries of a key head see whole: what generating a token mostly is.  Scores stay in registers, for Zen 4
 * stores where it multiplies (366 ns a page in its caches instead of 393); what the values' factors are is found out while scores wait. */
static void attend_four(const AttnArgs *a, const Pairs *p, const AttnWork *w, int j)
{
    enum { MR = SOFTMAX_ROWS };
    Part      k = keys_part(a, p, j, KV_PAGE, w), part = values_part(a, p, j, KV_PAGE, w);
    QueryTile q = query_tile(w, 0, a->dk);
    v16       s0[MR], s1[MR];
    Shares    f[ATTN_BLOCKS];
    bool      same;
    UNROLL
    for (int i = 0; i < KV_PAGE; i += GEMM_NR) {
        v16 sum[GEMM_MR][GEMM_NV];
        score_q8_sums(MR, &q, &k, i, k.ahead, sum);
        UNROLL
        for (int m = 0; m < MR; m++) {
            if (i == 0) s0[m] = sum[m][0];
            if (i + GEMM_NR == KV_PAGE) s1[m] = sum[m][GEMM_NV - 1];
        }
    }
    shares_of(ATTN_BLOCKS, true, part.factor, KV_PAGE, f);
    same = softmax_step(MR, true, w, 0, KV_PAGE, a->scale, true, s0, s1);
    for (int d = 0; d < a->dv; d += KV_Q8_COLS) {
        int         i = d / KV_Q8_COLS % ATTN_BLOCKS;
        const char *block = part.factor + d / KV_Q8_COLS * KV_Q8_BLOCK;
        if (i == 0) {
            if (d > 0) shares_of(ATTN_BLOCKS, true, block, KV_PAGE, f);
            UNROLL
            for (int n = 0; n < ATTN_BLOCKS; n++) v_store(w->unit + n * w->unit_row, v_mul(v_load(w->big), v_set(f[n].unit)));
        }
        UNROLL
        for (int m = 0; m < MR; m++) w_store(w->w + (i * w->rp + m) * 16, weights_pairs(s0[m], s1[m], f + i));
        __builtin_prefetch(block + part.ahead, 0, 2);
        UNROLL
        for (int v = 0; v < KV_Q8_COLS; v += GEMM_NR)
            value_q8_rows(true, MR, w->w + i * w->rp * 16, w->unit + i * w->unit_row, same ? NULL : w->fix, block + KV_Q8_NUMBERS + 2 * v, part.step,
                          part.ahead, w->out, d + v);
    }
}

static void attend_tile(const AttnArgs *a, const Pairs *p, float *mem)
{
    AttnWork w = work_of(a, p, mem);
    int      last = p->pos + p->rows - 1;
    bool     four = p->n == SOFTMAX_ROWS && p->rows == 1 && a->type == DT_Q8_0 && !a->v_in_k && a->dv % (ATTN_BLOCKS * KV_Q8_COLS) == 0;
    pack_queries(a, p, &w);
    for (int x = 0; x < w.rp; x++) w.m[x] = -INFINITY, w.big[x] = 0;
    memset(w.l, 0, (size_t)w.rp * 16 * sizeof *w.l);
    for (int x = 0; x < p->n; x++) {
        w.out[x] = a->out + pair_at(p, x, a->out_row, a->dv);
        memset(w.out[x], 0, (size_t)a->dv * sizeof(float));
    }
    for (int j0 = 0; j0 <= last; j0 += KV_PAGE) {
        if (four && last + 1 - j0 >= KV_PAGE) {
            attend_four(a, p, &w, j0 / KV_PAGE);
            continue;
        }
        int  keys = min_int(KV_PAGE, last + 1 - j0), x0 = max_int(0, j0 - p->pos) * p->per; /* the first pair that sees one of them */
        Part part = keys_part(a, p, j0 / KV_PAGE, keys, &w);
        scores(&w, x0, p->n, a->dk, &part);
        bool same = softmax_page(a, p, &w, x0, j0, keys);
        part = values_part(a, p, j0 / KV_PAGE, keys, &w);
        values(a, p, &w, x0, j0, keys, same, &part);
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
