/* Causal attention over pages of keys, forward and backward. */
#include "ref.h"

typedef struct Item { /* one query row's view of its keys */
    const KeySpan *span;
    int64_t        row;  /* in the batch */
    int            pos, h, g;
    const real    *q;
    const KvQuery *block; /* of keys of Q8_0: the query's blocks, and their numbers */
    const int8_t  *high, *low;
} Item;

/* a page's part of a head, and its block of column d */
static const uint8_t *head_at(const AttnArgs *a, const void *page, int g) { return (const uint8_t *)page + (size_t)g * a->head_step; }
static const uint8_t *block_at(const AttnArgs *a, const void *page, int g, int d)
{
    return head_at(a, page, g) + d / KV_Q8_COLS * KV_Q8_BLOCK;
}
static real factor_at(const uint8_t *block, int j) { return ref_load(DT_F16, block, j % KV_PAGE); }

static real key_at(const AttnArgs *a, const Item *it, int j, int d)
{
    const void *page = it->span->key[j / KV_PAGE];
    if (a->paged) return ref_load(a->type, head_at(a, page, it->g), kv_key_at(a->type, j % KV_PAGE, d));
    return ((const real *)page)[(j % KV_PAGE) * a->key_row + (int64_t)it->g * a->dk + d];
}
static real val_at(const AttnArgs *a, const Item *it, int j, int d)
{
    const void *page = it->span->val[j / KV_PAGE];
    if (a->paged && a->v_in_k) return key_at(a, it, j, d);
    if (a->paged) return ref_load(a->type, head_at(a, page, it->g), kv_val_at(a->type, a->dv, j % KV_PAGE, d));
    return ((const real *)page)[(j % KV_PAGE) * a->val_row + (int64_t)it->g * a->dv + d];
}

/* scale * q.k_j; the chain is cut every GEMM_KC as in gemm */
static real score(const AttnArgs *a, const Item *it, int j)
{
    real sum = 0;
    for (int d0 = 0; d0 < a->dk; d0 += GEMM_KC) {
        real block = 0;
        for (int d = d0; d < a->dk && d < d0 + GEMM_KC; d++) block = r_fma(it->q[d], key_at(a, it, j, d), block);
        sum = d0 == 0 ? block : sum + block;
    }
    return a->scale * sum;
}
/* the same of coded keys and a coded query */
static real score_q8(const AttnArgs *a, const Item *it, int j)
{
    real sum = 0;
    for (int d0 = 0; d0 < a->dk; d0 += KV_Q8_COLS) {
        const uint8_t *block = block_at(a, it->span->key[j / KV_PAGE], it->g, d0);
        int32_t        n = 0;
        for (int d = d0; d < d0 + KV_Q8_COLS; d++)
            n += (it->block[d0 / KV_Q8_COLS].times * it->high[d] + it->low[d]) * (int8_t)block[kv_key_at(DT_Q8_0, j % KV_PAGE, d)];
        sum = r_fma((real)n, factor_at(block, j) * (real)it->block[d0 / KV_Q8_COLS].d, sum);
    }
    return a->scale * sum;
}

/* sum of s_j v_j over n positions from j0 on */
static real weighted(const AttnArgs *a, const Item *it, int j0, int n, const real *s, int d)
{
    real sum = 0;
    for (int j = 0; j < n; j++) sum = r_fma(s[j], val_at(a, it, j0 + j, d), sum);
    return sum;
}
/* the largest power of two that is not above x, a number or infinite */
static float power_below(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0x7f800000;
    memcpy(&x, &bits, sizeof bits);
    return x;
}
/* The same of values of Q8_0 for 32 columns from d0 on: integers, to be multiplied with what is returned; weights are shares of big,
 * 1 / inv. */
static real weighted_q8(const AttnArgs *a, const Item *it, int j0, int n, const real *s, real big, real inv, int d0, int32_t *out)
{
    const uint8_t *block = block_at(a, it->span->val[j0 / KV_PAGE], it->g, d0);
    real           most = 0x1p-24f, none = 0;
    float          unit;
    int16_t        w[KV_PAGE];
    for (int j = 0; j < n; j++) {
        real factor = factor_at(block, j), size = factor < 0 ? -factor : factor;
        if (size > most) most = size;
        none += factor * 0;
    }
    unit = power_below((float)most) / 0x1p14f;
    for (int j = 0; j < n; j++) {
        float x = (float)((s[j] * inv) * (factor_at(block, j) / unit));
        w[j] = x >= -32767.5f && x <= 32767.5f ? (int16_t)(x + 0x1.8p23f - 0x1.8p23f) : 0;
    }
    for (int d = 0; d < KV_Q8_COLS; d++) {
        int32_t sum = 0;
        for (int j = 0; j < n; j++)
            sum += w[j] * (int8_t)block[a->v_in_k ? kv_key_at(DT_Q8_0, j, d) : kv_val_at(DT_Q8_0, a->dv, j, d)];
        out[d] = sum;
    }
    return big * unit + none;
}

static Item item_of(const AttnArgs *a, const KeySpan *s, int i, int h)
{
    int64_t row = s->row0 + i;
    return (Item){s, row, s->pos0 + i, h, (int)((int64_t)h * a->G / a->H), a->q + row * a->q_row + h * a->q_head, NULL, NULL, NULL};
}

static void code_query(const AttnArgs *a, Item *it, void *scratch)
{
    KvQuery *block = scratch;
    int8_t  *high = (int8_t *)(block + a->dk / KV_Q8_COLS), *low = high + a->dk;
    for (int d = 0; d < a->dk; d += KV_Q8_COLS) block[d / KV_Q8_COLS] = kv_code_query(it->q + d, high + d, low + d);
    it->block = block;
    it->high = high;
    it->low = low;
}

static void attend(const AttnArgs *a, const Item *it)
{
    real *o = a->out + it->row * a->out_row + (int64_t)it->h * a->dv, m = -REAL_INF, l, sum[16] = {0};
    for (int d = 0; d < a->dv; d++) o[d] = 0;
    for (int j0 = 0; j0 <= it->pos; j0 += KV_PAGE) {
        int  n = it->pos + 1 - j0 < KV_PAGE ? it->pos + 1 - j0 : KV_PAGE;
        real s[KV_PAGE], lane[16] = {0}, top = -REAL_INF, m1, fix;
        float big, inv;
        for (int j = 0; j < n; j++) {
            s[j] = a->type == DT_Q8_0 ? score_q8(a, it, j0 + j) : score(a, it, j0 + j);
            if (s[j] > top) top = s[j];
        }
        m1 = top > m ? top : m;
        fix = r_exp(m - m1);
        big = kv_weight_unit((float)(top - m1), &inv);
        for (int j = 0; j < n; j++) {
            s[j] = r_exp(s[j] - m1);
            lane[j % 16] += s[j];
        }
        for (int i = 0; i < 16; i++) sum[i] = r_fma(sum[i], fix, lane[i]);
        for (int d0 = 0; d0 < a->dv; d0 += KV_Q8_COLS) {
            int32_t part[KV_Q8_COLS];
            real    unit = a->type == DT_Q8_0 ? weighted_q8(a, it, j0, n, s, big, inv, d0, part) : 0;
            for (int d = d0; d < d0 + KV_Q8_COLS && d < a->dv; d++)
                o[d] = a->type == DT_Q8_0 ? r_fma((real)part[d - d0], unit, o[d] * fix) : r_fma(o[d], fix, weighted(a, it, j0, n, s, d));
        }
        m = m1;
    }
    l = ref_lanes_sum(sum);
    for (int d = 0; d < a->dv; d++) o[d] /= l;
    if (a->lse) a->lse[it->row * a->H + it->h] = m + r_log(l);
}

REF(attn)
{
    const AttnArgs *a = args;
    for (int64_t n = i0; n < i1; n++) {
        const KeySpan *s = &a->span[a->item[3 * n]];
        int            r0 = a->item[3 * n + 1], g = a->item[3 * n + 2];
        for (int i = r0; i < r0 + a->tile && i < s->n; i++)
            for (int h = g * a->heads; h < (g + 1) * a->heads; h++) {
                Item it = item_of(a, s, i, h);
                if (a->type == DT_Q8_0) code_query(a, &it, scratch);
                attend(a, &it);
            }
    }
}

REF(attn_delta)
{
    const AttnArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int h = 0; h < a->H; h++) {
            real lane[16] = {0};
            for (int64_t d = 0, o = t * a->out_row + (int64_t)h * a->dv; d < a->dv; d++)
                lane[d & 15] = r_fma(a->out[o + d], a->dout[o + d], lane[d & 15]);
            a->delta[t * a->H + h] = ref_lanes_sum(lane);
        }
}

/* p = exp(s - lse), dp = dout . v, ds = p (dp - delta) * scale */
static real d_score(const AttnArgs *a, const Item *it, int j, real *p)
{
    const real *dout = a->dout + it->row * a->out_row + (int64_t)it->h * a->dv;
    real        dp = 0;
    *p = r_exp(score(a, it, j) - a->lse[it->row * a->H + it->h]);
    for (int d = 0; d < a->dv; d++) dp = r_fma(dout[d], val_at(a, it, j, d), dp);
    return *p * (dp - a->delta[it->row * a->H + it->h]) * a->scale;
}

/* dq += sum_j ds_j k_j: pages ascending, a chain inside a page */
REF(attn_back_q)
{
    const AttnArgs *a = args;
    (void)scratch;
    for (int64_t n = i0; n < i1; n++) {
        const KeySpan *s = &a->span[a->item[3 * n]];
        int            r0 = a->item[3 * n + 1], g = a->item[3 * n + 2];
        for (int i = r0; i < r0 + a->tile && i < s->n; i++)
            for (int h = g * a->heads; h < (g + 1) * a->heads; h++) {
                Item  it = item_of(a, s, i, h);
                real *dq = a->dq + it.row * a->q_row + it.h * a->q_head;
                for (int j0 = 0; j0 <= it.pos; j0 += KV_PAGE) {
                    int  m = it.pos + 1 - j0 < KV_PAGE ? it.pos + 1 - j0 : KV_PAGE;
                    real ds[KV_PAGE], p;
                    for (int j = 0; j < m; j++) ds[j] = d_score(a, &it, j0 + j, &p);
                    for (int d = 0; d < a->dk; d++) {
                        real block = 0;
                        for (int j = 0; j < m; j++) block = r_fma(ds[j], key_at(a, &it, j0 + j, d), block);
                        dq[d] += block;
                    }
                }
            }
    }
}

/* ds and p of key j for a tile's (row, head) pairs, heads fastest; rows before j count nothing */
static void tile_scores(const AttnArgs *a, const KeySpan *s, int r0, int r1, int g, int j, real *ds, real *p)
{
    int per = a->H / a->G;
    for (int i = r0; i < r1; i++)
        for (int h = 0; h < per; h++) {
            Item it = item_of(a, s, i, g * per + h);
            int  n = (i - r0) * per + h;
            ds[n] = p[n] = 0;
            if (i >= j) ds[n] = d_score(a, &it, j, &p[n]);
        }
}

/* An item is a page of keys of one key head.  dk_j += sum ds q, then dv_j += sum p dout: query tiles of `tile` rows
 * ascending, inside a tile a chain over (row, head), heads fastest; a tile's sum is added to what is there. */
REF(attn_back_kv)
{
    const AttnArgs *a = args;
    int             per = a->H / a->G;
    real           *ds = scratch, *p = ds + (int64_t)a->tile * per;
    for (int64_t n = i0; n < i1; n++) {
        const KeySpan *s = &a->span[a->item[3 * n]];
        int            j0 = a->item[3 * n + 1] * KV_PAGE, g = a->item[3 * n + 2];
        int            j1 = j0 + KV_PAGE < s->n ? j0 + KV_PAGE : s->n;
        for (int r0 = j0 / a->tile * a->tile; r0 < s->n; r0 += a->tile)
            for (int j = j0; j < j1; j++) {
                int   r1 = r0 + a->tile < s->n ? r0 + a->tile : s->n;
                real *dk = a->dk_out + (s->row0 + j) * a->key_row + (int64_t)g * a->dk;
                real *dv = a->dv_out + (s->row0 + j) * a->val_row + (int64_t)g * a->dv;
                tile_scores(a, s, r0, r1, g, j, ds, p);
                for (int d = 0; d < a->dk; d++) {
                    real sum = 0;
                    for (int i = 0; i < (r1 - r0) * per; i++)
                        sum = r_fma(ds[i], a->q[(s->row0 + r0 + i / per) * a->q_row + (g * per + i % per) * a->q_head + d], sum);
                    dk[d] += sum;
                }
                for (int d = 0; d < a->dv; d++) {
                    real sum = 0;
                    for (int i = 0; i < (r1 - r0) * per; i++)
                        sum = r_fma(p[i], a->dout[(s->row0 + r0 + i / per) * a->out_row + (int64_t)(g * per + i % per) * a->dv + d], sum);
                    dv[d] += sum;
                }
            }
    }
}
