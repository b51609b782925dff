/* Activations in 8 bits, and products of them with block types: what every ISA computes (tensor/kernels.h has the order). */
#include <math.h>

#include "../tensor/quant.h"
#include "ref.h"

static ActGroup act_group(const real *x, int8_t *q)
{
    uint32_t largest = 0; /* of the bits of |x|: a NaN is larger than any number */
    ActGroup g = {0, {0, 0, 0}};
    float    max;
    memset(q, 0, QUANT_GROUP);
    for (int i = 0; i < QUANT_GROUP; i++) {
        float    f = fabsf((float)x[i]);
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        if (u > largest) largest = u;
    }
    memcpy(&max, &largest, sizeof max);
    if (max < 0x1p-100f) return g;
    if (largest >= 0x7f800000u) return (ActGroup){NAN, {0, 0, 0}};
    g.d = max / 127.0f;
    float inverse = 127.0f / max;
    for (int i = 0; i < QUANT_GROUP; i++) {
        q[i] = (int8_t)lrintf((float)x[i] * inverse);
        g.sum[i / 16] += q[i];
    }
    g.sum[2] = g.sum[0] + g.sum[1];
    return g;
}

REF(act)
{
    const ActArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int h = 0; h < a->H; h++)
            for (int k = 0; k < a->K; k += QUANT_GROUP) {
                int64_t at = (t * a->H + h) * a->K + k;
                a->g[at / QUANT_GROUP] = act_group(a->x + t * a->x_row + h * a->x_head + k, a->q + at);
            }
}

/* one group's part of an output */
static float dot_group(const QuantForm *f, const QuantGroup *w, const int8_t *q, const ActGroup *g, float c)
{
    for (int h = 0; h < (f->halves ? 2 : 1); h++) {
        int32_t sum = 0;
        for (int i = f->halves ? 16 * h : 0; i < (f->halves ? 16 * h + 16 : 32); i++) sum += w->v[i] * q[i];
        float t = (float)sum * w->s[h];
        if (f->min) t = fmaf((float)g->sum[f->halves ? h : 2], -w->m[h], t);
        c = fmaf(t, g->d, c);
    }
    return c;
}

void dot_columns(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1)
{
    const QuantForm *f = quant_form(a->b_type);
    const DtypeInfo *d = dtype_info(a->b_type);
    int              groups = d->block / QUANT_GROUP;
    for (int64_t n = n0; n < n1; n++)
        for (int k = 0; k < a->K; k += QUANT_GROUP) {
            QuantGroup w;
            int64_t    block = k / d->block;
            f->group(a->b + head * a->b_head + n * a->b_row + block * d->block_bytes, k / QUANT_GROUP % groups, &w);
            for (int64_t m = m0; m < m1; m++) {
                int64_t at = (m * a->H + head) * a->K + k;
                real   *c = a->c + m * a->c_row + head * a->c_head + n;
                *c = (real)dot_group(f, &w, a->q + at, a->g + at / QUANT_GROUP, k ? (float)*c : 0);
                if (a->bias && k + QUANT_GROUP == a->K) *c += a->bias[n];
            }
        }
}

REF(dot)
{
    const DotArgs *a = args;
    int64_t        rows = (a->M + DOT_TILE_M - 1) / DOT_TILE_M, cols = (a->N + DOT_TILE_N - 1) / DOT_TILE_N;
    (void)scratch;
    for (int64_t i = i0; i < i1; i++) {
        int64_t head = i / (rows * cols), m0 = i / cols % rows * DOT_TILE_M, n0 = i % cols * DOT_TILE_N;
        dot_columns(a, head, m0, m0 + DOT_TILE_M < a->M ? m0 + DOT_TILE_M : a->M, n0, n0 + DOT_TILE_N < a->N ? n0 + DOT_TILE_N : a->N);
    }
}
