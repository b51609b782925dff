/* Attention over pages of Q8_0: products of integers, which are added exactly.  A block of 32 columns of a page:
 *
 *     keys    32 factors f16 | [8] rows of 32 positions, four columns each    a lane is a position: four products a step
 *     values  32 factors f16 | [16] rows of 32 columns, two positions each    a lane is a column: two products a step
 *
 * A page of 8 KV_Q8_BLOCK bytes (dk = dv = 128) and four queries are 256 steps of keys and 512 of values in vectors of sixteen. */
#ifndef AHA_CPU_KERN_ATTN_Q8_H
#define AHA_CPU_KERN_ATTN_Q8_H

#include "kern_page.h"

/* how many pairs a tile may have */
#if GEMM_MR == 12
#define ATTN_ROWS(X) X(1) X(2) X(4) X(6) X(8) X(12)
#else
#define ATTN_ROWS(X) X(1) X(2) X(4) X(6)
#endif
static INLINE int attn_rows(int n)
{
    return n >= 12 && GEMM_MR >= 12 ? 12 : n >= 8 && GEMM_MR >= 8 ? 8 : n >= 6 ? 6 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

/* ---- keys ---- */
typedef struct QueryTile {
    const int8_t     *high, *low; /* of its first pair */
    const QueryBlock *block;
    const bool       *fine;
    int               dk;
} QueryTile;

/* acc[m] += q[m] . keys, one block: [KV_Q8_COLS / 4][KV_PAGE] words at b */
static INLINE void score_q8_block(int mr, const int8_t *q, int dk, const char *b, int64_t ahead, w16 acc[GEMM_MR][GEMM_NV])
{
    UNROLL
    for (int c = 0; c < KV_Q8_COLS; c += 4, b += 4 * KV_PAGE) {
        w16 bv[GEMM_NV];
        UNROLL
        for (int i = 0; i < 64 * GEMM_NV; i += 64) __builtin_prefetch(b + ahead + i, 0, 2);
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) bv[v] = w_bytes(b + 64 * v);
        UNROLL
        for (int m = 0; m < mr; m++) {
            int32_t four;
            memcpy(&four, q + m * dk + c, sizeof four);
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_dot_bytes(acc[m][v], bv[v], w_set(four));
        }
    }
}

/* acc[m] = acc[m] * times + the products of the low parts */
static __attribute__((noinline)) void score_q8_low(int mr, const QueryTile *q, int i, const char *b, w16 acc[GEMM_MR][GEMM_NV])
{
    for (int m = 0; m < mr; m++) {
        const QueryBlock *qb = q->block + m * (q->dk / KV_Q8_COLS) + i;
        w16               low[GEMM_MR][GEMM_NV];
        for (int v = 0; v < GEMM_NV; v++) low[0][v] = w_set(qb->low);
        score_q8_block(1, q->low + m * q->dk + i * KV_Q8_COLS, q->dk, b, 0, low);
        for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_add(w_mul(acc[m][v], w_set(qb->times)), low[0][v]);
    }
}

/* sum[m] = q[m] . keys of GEMM_NR positions from j on */
static INLINE void score_q8_sums(int mr, const QueryTile *q, const Part *k, int j, int64_t ahead, v16 sum[GEMM_MR][GEMM_NV])
{
    const int blocks = q->dk / KV_Q8_COLS;
    tile_clear(mr, GEMM_NV, sum);
    for (int i = 0; i < blocks; i++) {
        const char *block = k->at + (int64_t)i * KV_Q8_BLOCK, *b = block + KV_Q8_NUMBERS + 4 * j;
        w16         acc[GEMM_MR][GEMM_NV];
        if (ahead) __builtin_prefetch(block + ahead, 0, 2);
        UNROLL
        for (int m = 0; m < mr; m++) {
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_set(q->block[m * blocks + i].high);
        }
        score_q8_block(mr, q->high + i * KV_Q8_COLS, q->dk, b, ahead, acc);
        if (__builtin_expect(q->fine[i], 0)) {
            w16 both[GEMM_MR][GEMM_NV];
            memcpy(both, acc, sizeof both);
            score_q8_low(mr, q, i, b, both);
            memcpy(acc, both, sizeof acc);
        }
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) {
            v16 factor = v_load_t(DT_F16, block, j + 16 * v);
            UNROLL
            for (int m = 0; m < mr; m++)
                sum[m][v] = v_fma(w_float(acc[m][v]), v_mul(factor, v_set(q->block[m * blocks + i].d)), sum[m][v]);
        }
    }
}
/* s[m][KV_PAGE] = q[m] . keys */
static INLINE void score_q8_rows(int mr, const QueryTile *q, const Part *k, int64_t ahead, float *s)
{
    for (int j = 0; j < KV_PAGE; j += GEMM_NR) {
        v16 sum[GEMM_MR][GEMM_NV];
        score_q8_sums(mr, q, k, j, ahead, sum);
        UNROLL
        for (int m = 0; m < mr; m++) {
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) v_store(s + m * KV_PAGE + j + 16 * v, sum[m][v]);
        }
    }
}
static QueryTile query_tile(const AttnWork *w, int x, int dk)
{
    return (QueryTile){w->high + (int64_t)x * dk, w->low + (int64_t)x * dk, w->block + x * (dk / KV_Q8_COLS), w->fine, dk};
}
static void score_q8(const AttnWork *w, int x, int n, int dk, const Part *k)
{
    int64_t ahead = k->ahead;
    for (int mr; x < n; x += mr, ahead = 0) {
        QueryTile q = query_tile(w, x, dk);
        switch (mr = attn_rows(n - x)) {
#define ROWS(r)                                                                                                       \
    case r: score_q8_rows(r, &q, k, ahead, w->s + x * KV_PAGE); break;
            ATTN_ROWS(ROWS)
#undef ROWS
        }
    }
}

/* ---- values ---- */
/* A block's factors times 2^14 / D, D being the power of two of the largest that a pair sees, and D / 2^14; NaN where a factor is infinite or
 * none. */
typedef struct Shares {
    v16   a, b; /* positions 0 to 15, 16 to 31 */
    float unit;
} Shares;
/* of n blocks: what one waits for, the others do at the same time */
static INLINE void shares_of(int n, bool whole, const char *block, int seen, Shares *f)
{
    w16 most[ATTN_BLOCKS], bits, d;
    _Alignas(64) float up[16], unit[16];
    UNROLL
    for (int i = 0; i < ATTN_BLOCKS; i++) most[i] = w_zero();
    UNROLL
    for (int i = 0; i < n; i++) {
        f[i].a = v_load_t(DT_F16, block + i * KV_Q8_BLOCK, 0);
        f[i].b = v_load_t(DT_F16, block + i * KV_Q8_BLOCK, 16);
        if (!whole) {
            f[i].a = v_pick(m_first(seen), f[i].a, v_zero());
            f[i].b = v_pick(m_first(seen - 16), f[i].b, v_zero());
        }
        most[i] = w_max(w_bits(v_abs(f[i].a)), w_bits(v_abs(f[i].b))); /* infinity and NaN are larger than any number */
    }
    bits = w_largests(most);
    d = w_and(w_max(bits, w_bits(v_set(0x1p-24f))), w_bits(v_set(INFINITY)));
    w_store(up, w_add(w_xor(d, w_set(-1)), w_set((int32_t)(((2u * 127 + 14) << 23) + 1))));
    w_store(unit, w_add(d, w_set(-(14 << 23))));
    for (uint32_t bad = w_above(bits, 0x7f7fffff) & 0xf, i = 0; bad; bad >>= 1, i++)
        if (bad & 1) unit[i] = NAN;
    UNROLL
    for (int i = 0; i < n; i++) {
        f[i].a = v_mul(f[i].a, v_set(up[i]));
        f[i].b = v_mul(f[i].b, v_set(up[i]));
        f[i].unit = unit[i];
    }
}

static INLINE w16 weights_pairs(v16 s0, v16 s1, const Shares *f) { return w_firsts(w_round(v_mul(s0, f->a)), w_round(v_mul(s1, f->b))); }
/* The weights of pairs [x, end) for n blocks of columns, of those under way from the slot-th on; s has them as shares of big. */
static INLINE void weights_rows(const AttnWork *w, int x, int end, int slot, int n, const Shares *f)
{
    const float *s = w->s, *big = w->big;
    float       *unit = w->unit + slot * w->unit_row;
    int32_t     *to = w->w + slot * w->rp * 16;
    const int    row = w->rp * 16, unit_row = w->unit_row;
    for (int y = x; y < end; y += 16) { /* what is written behind them is still to come, or nobody's */
        UNROLL
        for (int i = 0; i < n; i++) v_store(unit + i * unit_row + y, v_mul(v_load(big + y), v_set(f[i].unit)));
    }
    for (; x < end; x++) {
        v16 s0 = v_load(s + x * KV_PAGE), s1 = v_load(s + x * KV_PAGE + 16);
        UNROLL
        for (int i = 0; i < n; i++) w_store(to + i * row + x * 16, weights_pairs(s0, s1, f + i));
    }
}
/* The same of the pairs from x on, for n <= ATTN_BLOCKS blocks. */
static void weights_code(const Pairs *p, const AttnWork *w, int x, int j0, int keys, const char *block, int64_t ahead, int n)
{
    Shares f[ATTN_BLOCKS];
    for (int seen = 0, end; x < p->n; x = end) {
        int now = pair_sees(p, x, j0, keys);
        end = now == keys ? p->n : x + p->per - x % p->per; /* later rows see as much */
        if (now != seen && n < ATTN_BLOCKS) shares_of(n, false, block, now, f);
        else if (now != seen && now < KV_PAGE) shares_of(ATTN_BLOCKS, false, block, now, f);
        else if (now != seen) shares_of(ATTN_BLOCKS, true, block, now, f);
        for (int i = 0; i < n && n < ATTN_BLOCKS; i++) weights_rows(w, x, end, i, 1, f + i);
        if (n == ATTN_BLOCKS) weights_rows(w, x, end, 0, ATTN_BLOCKS, f);
        seen = now;
    }
    for (int i = 0; i < n && ahead; i++) __builtin_prefetch(block + i * KV_Q8_BLOCK + ahead, 0, 2);
}

/* c[m] = c[m] * fix[m] + unit[m] * sum of w[m][i] b[i], pairs of integers, GEMM_NR columns; no fix: 1 */
static INLINE void value_q8_rows(bool coded, int mr, const int32_t *w, const float *unit, const float *fix, const char *b, int64_t step,
                                 int64_t ahead, float *const *out, int d)
{
    w16 acc[GEMM_MR][GEMM_NV];
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) acc[m][v] = w_zero();
    }
    for (int i = 0; i < KV_PAGE / 2; i++, b += (coded ? 2 : 4) * step) {
        w16 bv[GEMM_NV];
        __builtin_prefetch(b + ahead, 0, 2);
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
            float *to = out[m] + d + 16 * v;
            v16    c = v_load(to);
            if (fix) c = v_mul(c, v_set(fix[m]));
            v_store(to, v_fma(w_float(acc[m][v]), v_set(unit[m]), c));
        }
    }
}
static INLINE void value_q8(bool coded, const AttnArgs *a, const Pairs *p, const AttnWork *w, int x0, int j0, int keys,
                            bool same, const Part *part)
{
    enum { GROUP = ATTN_BLOCKS * KV_Q8_COLS };
    for (int d = 0; d < a->dv; d += GEMM_NR) {
        int         block = d / KV_Q8_COLS * KV_Q8_BLOCK, slot = d % GROUP / KV_Q8_COLS;
        const char *b = part->at + (coded ? block + d % KV_Q8_COLS * 2 : 4 * d);
        int64_t     ahead = part->ahead;
        if (d % GROUP == 0)
            weights_code(p, w, x0, j0, keys, part->factor + d / KV_Q8_COLS * KV_Q8_BLOCK, ahead, min_int(a->dv - d, GROUP) / KV_Q8_COLS);
        for (int x = x0, mr; x < p->n; x += mr, ahead = 0)
            switch (mr = attn_rows(p->n - x)) {
#define ROWS(r)                                                                                                       \
    case r: value_q8_rows(coded, r, w->w + (slot * w->rp + x) * 16, w->unit + slot * w->unit_row + x, same ? NULL : w->fix + x, b, part->step, ahead, w->out + x, d); break;
                ATTN_ROWS(ROWS)
#undef ROWS
            }
    }
}

#endif
