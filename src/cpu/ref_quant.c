/* Activations in 8 bits, and products of them with block types: what every ISA computes (tensor/kernels.h has the order). */
#include <math.h>

#include "../tensor/quant.h"
#include "../tensor/stripe.h"
#include "ref.h"

static uint32_t largest_bits(const float *x, int n) /* of |x|: a NaN is larger than any number */
{
    uint32_t largest = 0, u;
    for (int i = 0; i < n; i++) {
        float f = fabsf(x[i]);
        memcpy(&u, &f, sizeof u);
        if (u > largest) largest = u;
    }
    return largest;
}

int act_large(const float *x, int n, int8_t at[ACT_ASIDE])
{
    float most[ACT_ASIDE + 1] = {0}; /* descending */
    int   found = 0;
    for (int i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        for (int j = 0; j <= ACT_ASIDE; j++)
            if (size > most[j]) {
                float smaller = most[j];
                most[j] = size;
                size = smaller;
            }
    }
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > ACT_LARGE * most[ACT_ASIDE]) at[found++] = (int8_t)i;
    return found;
}

static ActGroup act_group(const real *from, int n, int8_t *q)
{
    ActGroup g = {.at = {-1, -1, -1, -1}};
    float    x[ACT_GROUP], max;
    int8_t   at[ACT_ASIDE];
    uint32_t largest;
    memset(q, 0, (size_t)n);
    for (int i = 0; i < n; i++) x[i] = (float)from[i];
    largest = largest_bits(x, n);
    if (largest >= 0x7f800000u) {
        g.d = NAN;
        return g;
    }
    memcpy(&max, &largest, sizeof max);
    if (max < 0x1p-100f) return g;
    for (int i = act_large(x, n, at) - 1; i >= 0; i--) {
        g.at[i] = at[i];
        g.x[i] = x[at[i]];
        x[at[i]] = 0;
    }
    largest = largest_bits(x, n);
    memcpy(&max, &largest, sizeof max);
    if (max < 0x1p-100f) return g;
    g.d = max / 127.0f;
    float inverse = 127.0f / max;
    for (int i = 0; i < n; i++) {
        q[i] = (int8_t)lrintf(x[i] * inverse);
        g.half[i / 16] = (int16_t)(g.half[i / 16] + q[i]);
        g.sum[i / 32] = (int16_t)(g.sum[i / 32] + q[i]);
    }
    return g;
}

REF(act)
{
    const ActArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int h = 0; h < a->H; h++)
            for (int k = 0; k < a->K; k += ACT_GROUP) {
                int64_t row = t * a->H + h;
                int     n = a->K - k < ACT_GROUP ? a->K - k : ACT_GROUP;
                a->g[row * act_groups(a->K) + k / ACT_GROUP] = act_group(a->x + t * a->x_row + h * a->x_head + k, n, a->q + row * a->K + k);
            }
}

/* c plus a group's part without what is kept aside: n columns, of B's row in groups of 32 at w */
static float dot_group(const QuantForm *f, const QuantGroup *w, int n, const int8_t *q, const ActGroup *g, float c)
{
    int     width = f->halves ? 16 : 32;
    float   t = 0;
    int32_t minima = 0;
    for (int run = 0; run < n / width; run++) {
        const QuantGroup *of = w + run * width / 32;
        int               h = run * width / 16 % 2;
        int32_t           sum = 0, x = f->halves ? g->half[run] : g->sum[run];
        for (int i = run * width; i < (run + 1) * width; i++) sum += of->v[i % 32] * q[i];
        t = fmaf((float)sum, of->s[h], t);
        if (f->min && f->big) minima += x * (int32_t)of->m[h];
        else if (f->min) t = fmaf((float)x, -of->m[h], t);
    }
    if (f->big) t *= w->d;
    if (f->big && f->min) t = fmaf((float)minima, -w->e, t);
    return fmaf(t, g->d, c);
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

/* c plus what is kept aside of a row's group, n the row of b */
static float dot_aside(const DotArgs *a, const uint8_t *b, int64_t n, int k0, const ActGroup *g, float c)
{
    const QuantForm *f = quant_form(a->b_type);
    const DtypeInfo *d = dtype_info(a->b_type);
    for (int i = 0; i < ACT_ASIDE && g->at[i] >= 0; i++) {
        QuantGroup w;
        uint8_t    room[256];
        int        k = k0 + g->at[i], h = k / 16 % 2;
        f->group(block_of(a, d, b, n, k, room), k % d->block / QUANT_GROUP, &w);
        float v = w.d * w.s[h] * (float)w.v[k % QUANT_GROUP];
        c = fmaf(f->min ? v - w.e * w.m[h] : v, g->x[i], c);
    }
    return c;
}

void dot_columns(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1)
{
    const QuantForm *f = quant_form(a->b_type);
    const DtypeInfo *d = dtype_info(a->b_type);
    const uint8_t   *b = a->b + head * a->b_head;
    int              groups = d->block / QUANT_GROUP, of_row = act_groups(a->K);
    for (int64_t n = n0; n < n1; n++) {
        for (int k = 0; k < a->K; k += ACT_GROUP) {
            QuantGroup w[ACT_GROUP / QUANT_GROUP];
            uint8_t    room[256];
            int        cols = a->K - k < ACT_GROUP ? a->K - k : ACT_GROUP;
            for (int i = 0; i < cols; i += QUANT_GROUP)
                f->group(block_of(a, d, b, n, k + i, room), (k + i) / QUANT_GROUP % groups, &w[i / QUANT_GROUP]);
            for (int64_t m = m0; m < m1; m++) {
                int64_t row = m * a->H + head;
                real   *c = a->c + m * a->c_row + head * a->c_head + n;
                *c = (real)dot_group(f, w, cols, a->q + row * a->K + k, a->g + row * of_row + k / ACT_GROUP, k ? (float)*c : 0);
            }
        }
        for (int64_t m = m0; m < m1; m++) {
            real *c = a->c + m * a->c_row + head * a->c_head + n;
            for (int i = 0; i < of_row; i++) *c = (real)dot_aside(a, b, n, i * ACT_GROUP, a->g + (m * a->H + head) * of_row + i, (float)*c);
            if (a->bias) *c += a->bias[n];
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
