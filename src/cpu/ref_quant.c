/* Activations in 8 bits, and products of them with block types: what every ISA computes (tensor/kernels.h has the order). */
#include <math.h>

#include "../tensor/quant.h"
#include "../tensor/stripe.h"
#include "ref.h"

static uint32_t largest_bits(const float *x) /* of |x|: a NaN is larger than any number */
{
    uint32_t largest = 0, u;
    for (int i = 0; i < QUANT_GROUP; i++) {
        float f = fabsf(x[i]);
        memcpy(&u, &f, sizeof u);
        if (u > largest) largest = u;
    }
    return largest;
}

/* the only column above a part of the largest, or -1 */
static int lone_column(const float *x, float max)
{
    int at = -1, n = 0;
    for (int i = 0; i < QUANT_GROUP; i++)
        if (fabsf(x[i]) > max * (1.0f / ACT_ASIDE)) {
            at = i;
            n++;
        }
    return n == 1 ? at : -1;
}

static ActGroup act_group(const real *from, int8_t *q)
{
    ActGroup g = {0, 0, 0, 0, -1};
    float    x[QUANT_GROUP], max;
    uint32_t largest;
    memset(q, 0, QUANT_GROUP);
    for (int i = 0; i < QUANT_GROUP; i++) x[i] = (float)from[i];
    largest = largest_bits(x);
    if (largest >= 0x7f800000u) return (ActGroup){NAN, 0, 0, 0, -1};
    memcpy(&max, &largest, sizeof max);
    g.at = (int16_t)lone_column(x, max);
    if (g.at >= 0) {
        g.x = x[g.at];
        x[g.at] = 0;
        largest = largest_bits(x);
        memcpy(&max, &largest, sizeof max);
    }
    if (max < 0x1p-100f) return g;
    g.d = max / 127.0f;
    float inverse = 127.0f / max;
    for (int i = 0; i < QUANT_GROUP; i++) {
        q[i] = (int8_t)lrintf(x[i] * inverse);
        g.sum += q[i];
        if (i < 16) g.half = (int16_t)(g.half + q[i]);
    }
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
    int width = f->halves ? 16 : 32;
    for (int h = 0; h < 32 / width; h++) {
        int32_t sum = 0, x = !f->halves ? g->sum : h == 0 ? g->half : g->sum - g->half;
        for (int i = width * h; i < width * (h + 1); i++) sum += w->v[i] * q[i];
        float t = (float)sum * w->s[h];
        if (f->min) t = fmaf((float)x, -w->m[h], t);
        c = fmaf(t, g->d, c);
        if (g->at < 0 || g->at / width != h) continue;
        t = (float)w->v[g->at] * w->s[h];
        c = fmaf(f->min ? t - w->m[h] : t, g->x, c);
    }
    return c;
}

/* the block that holds column k of row n of b */
static const uint8_t *block_of(const DotArgs *a, const DtypeInfo *d, const uint8_t *b, int64_t n, int k, uint8_t room[256])
{
    int64_t first = n / STRIPE_ROWS * STRIPE_ROWS;
    if (!a->striped || first + STRIPE_ROWS > a->N) return b + n * a->b_row + k / d->block * d->block_bytes;
    StripeRows rows = {b + first * a->b_row, a->K / d->block};
    stripe_row(a->b_type, stripe_block(stripe_form(a->b_type), rows, k / d->block), (int)(n - first), room);
    return room;
}

void dot_columns(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1)
{
    const QuantForm *f = quant_form(a->b_type);
    const DtypeInfo *d = dtype_info(a->b_type);
    int              groups = d->block / QUANT_GROUP;
    for (int64_t n = n0; n < n1; n++)
        for (int k = 0; k < a->K; k += QUANT_GROUP) {
            QuantGroup w;
            uint8_t    room[256];
            f->group(block_of(a, d, a->b + head * a->b_head, n, k, room), k / QUANT_GROUP % groups, &w);
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
