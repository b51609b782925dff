/* Causal attention, forward.  An item is a tile of query rows and some heads of one key head: `n` pairs (row, head), heads fastest.
 * Scores are kept transposed, [key][pair], so that a lane is one query: the keys are broadcast from a page, the queries
 * are packed once, the softmax needs no sums across lanes, and the probabilities are then the broadcast side of P V. */
#ifndef AHA_CPU_KERN_ATTN_H
#define AHA_CPU_KERN_ATTN_H

#include "kern_tile.h"

typedef struct Pairs {
    const KeySpan *span;
    int            row, pos; /* of the first pair: in the batch, in the sequence */
    int            rows, per, g, n; /* per: heads of a row, the g-th such group */
    int            kg;              /* key head */
} Pairs;

static Pairs pairs_of(const AttnArgs *a, const KeySpan *s, int r0, int r1, int g)
{
    int per = a->heads, rows = min_int(r1, s->n) - r0;
    return (Pairs){s, s->row0 + r0, s->pos0 + r0, rows, per, g, rows * per, g * per / (a->H / a->G)};
}
/* where pair x starts in a matrix of rows and heads, of element (row 0, head 0) at base */
static INLINE int64_t pair_at(const Pairs *p, int x, int64_t row, int64_t head)
{
    return (p->row + x / p->per) * row + (int64_t)(p->g * p->per + x % p->per) * head;
}

/* n pairs of `cols` columns each, transposed: panels of [cols][GEMM_NR]; pairs beyond n are 0.  Writes up to
 * 16 * GEMM_NR floats beyond. */
static void pack_pairs(const Pairs *p, const float *base, int64_t row, int64_t head, int cols, float *dst)
{
    _Alignas(64) float tmp[16 * 16];
    for (int x0 = 0; x0 < (p->n + GEMM_NR - 1) / GEMM_NR * GEMM_NR; x0 += 16) {
        const float *src[16];
        float       *d = dst + (int64_t)(x0 / GEMM_NR) * cols * GEMM_NR + x0 % GEMM_NR;
        for (int r = 0; r < 16; r++) src[r] = x0 + r < p->n ? base + pair_at(p, x0 + r, row, head) : NULL;
        for (int k = 0; k < cols; k += 16) {
            for (int r = 0; r < 16; r++)
                v_store(tmp + 16 * r, !src[r]              ? v_zero()
                                      : cols - k >= 16 ? v_load(src[r] + k)
                                                       : v_load_m(src[r] + k, m_first(cols - k)));
            v_transpose(DT_F32, tmp, 16, d + (int64_t)k * GEMM_NR, GEMM_NR);
        }
    }
}

/* n rows of `cols` elements of type t as packed floats */
static INLINE void rows_typed(Dtype t, const void *src, int64_t row, int64_t off, int n, int cols, float *dst)
{
    for (int r = 0; r < n; r++, dst += cols) {
        int64_t at = r * row + off;
        int     i = 0;
        for (; i + 16 <= cols; i += 16) v_store(dst + i, v_load_t(t, src, at + i));
        if (i < cols) v_store_m(dst + i, m_first(cols - i), v_load_tn(t, src, at + i, cols - i));
    }
}
static void rows_q8(const void *src, int64_t row, int64_t off, int n, int cols, float *dst)
{
    for (int r = 0; r < n; r++, dst += cols) {
        const uint8_t *b = (const uint8_t *)src + (r * row + off) / KV_Q8_COLS * KV_Q8_BYTES;
        for (int i = 0; i < cols; i += KV_Q8_COLS, b += KV_Q8_BYTES) {
            v16 d = v_set(half_to_float(b));
            v_store(dst + i, v_mul(v_load_i8(b + 2), d));
            v_store(dst + i + 16, v_mul(v_load_i8(b + 18), d));
        }
    }
}
static void rows_floats(Dtype t, const void *src, int64_t row, int64_t off, int n, int cols, float *dst)
{
    switch (t) {
    case DT_F16: rows_typed(DT_F16, src, row, off, n, cols, dst); break;
    case DT_BF16: rows_typed(DT_BF16, src, row, off, n, cols, dst); break;
    case DT_Q8_0: rows_q8(src, row, off, n, cols, dst); break;
    default: rows_typed(DT_F32, src, row, off, n, cols, dst); break;
    }
}

/* out[m][GEMM_NR] = A[m, :] . panel for `rows` packed rows of A; the chain is cut every `cut` */
static void dot_panel(const float *a, int rows, int cols, int cut, const float *panel, float *out)
{
    for (int k0 = 0; k0 < cols; k0 += cut)
        for (int m = 0; m < rows; m += GEMM_MR) {
            TileOut o = {out + m * GEMM_NR, GEMM_NR, NULL, GEMM_NR, k0 > 0};
            tile_any(min_int(GEMM_MR, rows - m), a + (int64_t)m * cols + k0, cols, 1, panel + (int64_t)k0 * GEMM_NR, GEMM_NR,
                     min_int(cut, cols - k0), &o);
        }
}

/* how many of a page's keys (positions j0 and up, `keys` of them) pair x sees */
static INLINE int pair_sees(const Pairs *p, int x, int j0, int keys)
{
    return max_int(0, min_int(keys, p->pos + x / p->per + 1 - j0));
}

/* One page's step of the online softmax for the 16 pairs from x0 on: s[key][GEMM_NR] becomes exp(scale s - m'), the
 * running maximum m and sum l move on, fix = exp(m - m').  Keys that a pair does not see count as nothing. */
static INLINE void softmax_page(const Pairs *p, int x0, int j0, int keys, float scale, float *s, float *m, float *l, float *fix)
{
    v16 m0 = v_load(m), m1 = m0, sum = v_zero(), f;
    int full = pair_sees(p, x0, j0, keys); /* keys that all sixteen see */
    for (int j = 0; j < keys; j++) {
        v16 x = v_mul(v_set(scale), v_load(s + j * GEMM_NR));
        if (j >= full) x = v_pick(m_first((j0 + j - p->pos) * p->per - x0), v_set(-INFINITY), x);
        v_store(s + j * GEMM_NR, x);
        m1 = v_max(x, m1);
    }
    f = v_exp(v_sub(m0, m1));
    for (int j = 0; j < keys; j++) {
        v16 x = v_exp(v_sub(v_load(s + j * GEMM_NR), m1));
        if (j >= full) x = v_pick(m_first((j0 + j - p->pos) * p->per - x0), v_zero(), x);
        v_store(s + j * GEMM_NR, x);
        sum = v_add(sum, x);
    }
    v_store(fix, f);
    v_store(l, v_fma(v_load(l), f, sum));
    v_store(m, m1);
}

/* c(pair)[cols] = c * fix + sum over the keys that the pair sees of s[key][pair] * b[key][cols], for the pairs [x0, x1) */
static void add_page(const Pairs *p, int x0, int x1, int j0, int keys, const float *s, const float *b, int cols, float *c,
                     int64_t c_row, int64_t c_head, const float *fix)
{
    for (int x = x0; x < x1; x += GEMM_MR) {
        int       mr = min_int(GEMM_MR, x1 - x);
        RangeTile t = {.a = s + x - x0, .a_k = GEMM_NR, .b = b, .b_step = cols, .fix = fix ? fix + x - x0 : NULL};
        for (int m = 0; m < mr; m++) {
            t.hi[m] = pair_sees(p, x + m, j0, keys);
            t.c[m] = c + pair_at(p, x + m, c_row, c_head);
        }
        range_any(&t, mr, cols);
    }
}

static void attend_tile(const AttnArgs *a, const Pairs *p, float *mem)
{
    int    rp = (p->n + 31) / 32 * 32, last = p->pos + p->rows - 1;
    float *m = mem, *l = m + rp, *fix = l + rp, *s = fix + GEMM_NR, *qt = s + KV_PAGE * GEMM_NR;
    float *kb = qt + (int64_t)rp * a->dk + 16 * GEMM_NR, *vb = kb + KV_PAGE * a->dk + 32;
    pack_pairs(p, a->q, a->q_row, a->q_head, a->dk, qt);
    for (int x = 0; x < rp; x++) m[x] = -INFINITY, l[x] = 0;
    for (int x = 0; x < p->n; x++) memset(a->out + pair_at(p, x, a->out_row, a->dv), 0, (size_t)a->dv * sizeof(float));
    for (int j0 = 0; j0 <= last; j0 += KV_PAGE) {
        int keys = min_int(KV_PAGE, last + 1 - j0);
        rows_floats(a->type, p->span->key[j0 / KV_PAGE], a->key_row, (int64_t)p->kg * a->dk, keys, a->dk, kb);
        rows_floats(a->type, p->span->val[j0 / KV_PAGE], a->val_row, (int64_t)p->kg * a->dv, keys, a->dv, vb);
        for (int x = 0; x < p->n; x += GEMM_NR) {
            int seen = pair_sees(p, min_int(p->n, x + GEMM_NR) - 1, j0, keys); /* by the panel's last */
            if (seen == 0) continue;
            dot_panel(kb, seen, a->dk, GEMM_KC, qt + (int64_t)x * a->dk, s);
            for (int v = 0; v < GEMM_NV && x + 16 * v < p->n; v++)
                softmax_page(p, x + 16 * v, j0, seen, a->scale, s + 16 * v, m + x + 16 * v, l + x + 16 * v, fix + 16 * v);
            add_page(p, x, min_int(p->n, x + GEMM_NR), j0, seen, s, vb, a->dv, a->out, a->out_row, a->dv, fix);
        }
    }
    for (int x = 0; x < p->n; x++) {
        float *o = a->out + pair_at(p, x, a->out_row, a->dv);
        for (int d = 0; d < a->dv; d += 16) {
            m16 mask = m_first(a->dv - d);
            v_store_m(o + d, mask, v_div(v_load_m(o + d, mask), v_set(l[x])));
        }
        if (a->lse) a->lse[pair_at(p, x, a->H, 1)] = m[x] + r_log(l[x]);
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

/* dq += sum_j ds_j k_j */
static void back_q_tile(const AttnArgs *a, const Pairs *p, float *mem)
{
    int    rp = (p->n + 31) / 32 * 32, last = p->pos + p->rows - 1;
    float *lse = mem, *delta = lse + rp, *s = delta + rp, *dp = s + KV_PAGE * GEMM_NR, *qt = dp + KV_PAGE * GEMM_NR;
    float *ot = qt + (int64_t)rp * a->dk + 16 * GEMM_NR, *kb = ot + (int64_t)rp * a->dv + 16 * GEMM_NR;
    float *vb = kb + KV_PAGE * a->dk + 32;
    pack_pairs(p, a->q, a->q_row, a->q_head, a->dk, qt);
    pack_pairs(p, a->dout, a->out_row, a->dv, a->dv, ot);
    for (int x = 0; x < rp; x++) {
        lse[x] = x < p->n ? a->lse[pair_at(p, x, a->H, 1)] : 0;
        delta[x] = x < p->n ? a->delta[pair_at(p, x, a->H, 1)] : 0;
    }
    for (int j0 = 0; j0 <= last; j0 += KV_PAGE) {
        int keys = min_int(KV_PAGE, last + 1 - j0);
        rows_floats(a->type, p->span->key[j0 / KV_PAGE], a->key_row, (int64_t)p->kg * a->dk, keys, a->dk, kb);
        rows_floats(a->type, p->span->val[j0 / KV_PAGE], a->val_row, (int64_t)p->kg * a->dv, keys, a->dv, vb);
        for (int x = 0; x < p->n; x += GEMM_NR) {
            int seen = pair_sees(p, min_int(p->n, x + GEMM_NR) - 1, j0, keys);
            if (seen == 0) continue;
            dot_panel(kb, seen, a->dk, GEMM_KC, qt + (int64_t)x * a->dk, s);
            dot_panel(vb, seen, a->dv, a->dv, ot + (int64_t)x * a->dv, dp);
            for (int v = 0; v < GEMM_NV; v++) {
                v16 e = v_load(lse + x + 16 * v), f = v_load(delta + x + 16 * v), scale = v_set(a->scale);
                for (int j = 16 * v; j < seen * GEMM_NR; j += GEMM_NR) {
                    v16 pr = v_exp(v_sub(v_mul(scale, v_load(s + j)), e));
                    v_store(s + j, v_mul(v_mul(pr, v_sub(v_load(dp + j), f)), scale));
                }
            }
            add_page(p, x, min_int(p->n, x + GEMM_NR), j0, seen, s, kb, a->dk, a->dq, a->q_row, a->q_head, NULL);
        }
    }
}

KERNEL(attn_back_q)
{
    const AttnArgs *a = args;
    for (int64_t i = i0; i < i1; i++) {
        const int *it = a->item + 3 * i;
        Pairs      p = pairs_of(a, &a->span[it[0]], it[1], it[1] + a->tile, it[2]);
        back_q_tile(a, &p, align64(scratch));
    }
}

/* c[key][cols] += sum over the pairs that see the key of s[pair][key] * b[pair][cols], for keys j0+[y0, y1) */
static void add_pairs(const Pairs *p, int j0, int y0, int y1, const float *s, const float *b, int cols, float *c, int64_t c_row)
{
    for (int y = y0; y < y1; y += GEMM_MR) {
        int       mr = min_int(GEMM_MR, y1 - y);
        RangeTile t = {.a = s + y - y0, .a_k = GEMM_NR, .b = b, .b_step = cols};
        for (int m = 0; m < mr; m++) {
            t.lo[m] = max_int(0, min_int(p->n, (j0 + y + m - p->pos) * p->per));
            t.hi[m] = p->n;
            t.c[m] = c + (y + m) * c_row;
        }
        range_any(&t, mr, cols);
    }
}

/* dk += sum ds q, dv += sum p dout for one page of keys: here a lane is a key, and the pairs are broadcast */
static void back_kv_page(const AttnArgs *a, const KeySpan *sp, int j0, int g, float *mem)
{
    int    keys = min_int(KV_PAGE, sp->n - j0), rows = a->tile * (a->H / a->G);
    float *s = mem, *dp = s + (int64_t)rows * GEMM_NR, *kt = dp + (int64_t)rows * GEMM_NR;
    float *vt = kt + KV_PAGE * a->dk + 16 * GEMM_NR, *qb = vt + KV_PAGE * a->dv + 16 * GEMM_NR;
    float *ob = qb + (int64_t)rows * a->dk + 32;
    Pairs  k = {sp, 0, j0, keys, 1, g, keys, g}; /* the page's rows, as pairs of one head each */
    pack_pairs(&k, sp->key[j0 / KV_PAGE], a->key_row, a->dk, a->dk, kt);
    pack_pairs(&k, sp->val[j0 / KV_PAGE], a->val_row, a->dv, a->dv, vt);
    for (int r0 = j0 / a->tile * a->tile; r0 < sp->n; r0 += a->tile) {
        Pairs p = pairs_of(a, sp, max_int(r0, j0), r0 + a->tile, g);
        for (int x = 0; x < p.n; x++) {
            memcpy(qb + (int64_t)x * a->dk, a->q + pair_at(&p, x, a->q_row, a->q_head), (size_t)a->dk * sizeof(float));
            memcpy(ob + (int64_t)x * a->dv, a->dout + pair_at(&p, x, a->out_row, a->dv), (size_t)a->dv * sizeof(float));
        }
        for (int y = 0; y < keys; y += GEMM_NR) {
            int y1 = min_int(keys, y + GEMM_NR);
            dot_panel(qb, p.n, a->dk, GEMM_KC, kt + (int64_t)y * a->dk, s);
            dot_panel(ob, p.n, a->dv, a->dv, vt + (int64_t)y * a->dv, dp);
            for (int x = 0; x < p.n; x++) {
                int64_t at = pair_at(&p, x, a->H, 1);
                v16     lse = v_set(a->lse[at]), delta = v_set(a->delta[at]), scale = v_set(a->scale);
                for (int i = x * GEMM_NR; i < (x + 1) * GEMM_NR; i += 16) {
                    v16 pr = v_exp(v_sub(v_mul(scale, v_load(s + i)), lse));
                    v_store(s + i, pr);
                    v_store(dp + i, v_mul(v_mul(pr, v_sub(v_load(dp + i), delta)), scale));
                }
            }
            add_pairs(&p, j0, y, y1, dp, qb, a->dk, a->dk_out + (int64_t)(sp->row0 + j0) * a->key_row + (int64_t)g * a->dk,
                      a->key_row);
            add_pairs(&p, j0, y, y1, s, ob, a->dv, a->dv_out + (int64_t)(sp->row0 + j0) * a->val_row + (int64_t)g * a->dv,
                      a->val_row);
        }
    }
}

KERNEL(attn_back_kv)
{
    const AttnArgs *a = args;
    for (int64_t i = i0; i < i1; i++) {
        const int *it = a->item + 3 * i;
        back_kv_page(a, &a->span[it[0]], it[1] * KV_PAGE, it[2], align64(scratch));
    }
}

#endif
