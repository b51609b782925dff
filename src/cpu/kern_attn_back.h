/* Causal attention, backward.  Scores are kept transposed, [key][pair], so that a lane is one query: keys are broadcast, queries
 * packed once, and what was summed is the broadcast side of the products that follow.  Keys and values are f32 rows of a packed
 * batch. */
#ifndef AHA_CPU_KERN_ATTN_BACK_H
#define AHA_CPU_KERN_ATTN_BACK_H

#include "kern_pairs.h"

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

/* n rows of `cols` floats, packed */
static void pack_rows(const float *src, int64_t row, int n, int cols, float *dst)
{
    for (int r = 0; r < n; r++) memcpy(dst + (int64_t)r * cols, src + r * row, (size_t)cols * sizeof *dst);
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

/* c(pair)[cols] += sum over the keys that the pair sees of s[key][pair] * b[key][cols], for the pairs [x0, x1) */
static void add_page(const Pairs *p, int x0, int x1, int j0, int keys, const float *s, const float *b, int cols, float *c,
                     int64_t c_row, int64_t c_head)
{
    for (int x = x0; x < x1; x += GEMM_MR) {
        int       mr = min_int(GEMM_MR, x1 - x);
        RangeTile t = {.a = s + x - x0, .a_k = GEMM_NR, .b = b, .b_step = cols};
        for (int m = 0; m < mr; m++) {
            t.hi[m] = pair_sees(p, x + m, j0, keys);
            t.c[m] = c + pair_at(p, x + m, c_row, c_head);
        }
        range_any(&t, mr, cols);
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
        pack_rows((const float *)p->span->key[j0 / KV_PAGE] + (int64_t)p->kg * a->dk, a->key_row, keys, a->dk, kb);
        pack_rows((const float *)p->span->val[j0 / KV_PAGE] + (int64_t)p->kg * a->dv, a->val_row, keys, a->dv, vb);
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
            add_page(p, x, min_int(p->n, x + GEMM_NR), j0, seen, s, kb, a->dk, a->dq, a->q_row, a->q_head);
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
