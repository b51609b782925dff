/* Activations in 8 bits (tensor/kernels.h): 128 columns of a row at a time are eight vectors, of which the largest is found, the
 * columns that would leave the others no digits put aside, the rest rounded: 4 bytes read and 1.4 written for a column, four operations. */
#ifndef AHA_CPU_KERN_ACT_H
#define AHA_CPU_KERN_ACT_H

#include "../tensor/kernels.h"
#include "vec.h"

/* the sizes of n columns, as the bits of floats */
static INLINE void act_sizes(const float *x, int n, w16 sizes[ACT_GROUP / 16])
{
    sizes[0] = w_and(w_bits(v_load(x)), w_set(0x7fffffff));
    UNROLL
    for (int i = 1; i < n / 16; i++) sizes[i] = w_and(w_bits(v_load(x + 16 * i)), w_set(0x7fffffff));
}
/* whether more columns than may be kept aside are larger than a part of the largest: then none is */
static INLINE bool act_alike(const w16 *sizes, int n, float max)
{
    float   part = max * (1.0f / ACT_LARGE);
    int32_t bits, above = 0;
    memcpy(&bits, &part, sizeof bits);
    UNROLL
    for (int i = 0; i < n / 16; i++) above += __builtin_popcount(w_above(sizes[i], bits));
    return above > ACT_ASIDE;
}

static INLINE float act_largest(const w16 *sizes, int n)
{
    w16     most = sizes[0];
    int32_t bits;
    float   max;
    UNROLL
    for (int i = 1; i < n / 16; i++) most = w_max(most, sizes[i]);
    bits = w_largest(most); /* a NaN is larger than any number */
    memcpy(&max, &bits, sizeof max);
    return max;
}

/* n columns, 32, 64, 96 or 128 */
static INLINE ActGroup act_group_v(const float *from, int n, int8_t *q)
{
    ActGroup g = {.at = {-1, -1, -1, -1}};
    float    aside[ACT_GROUP], max;
    int8_t   at[ACT_ASIDE];
    w16      sizes[ACT_GROUP / 16];
    act_sizes(from, n, sizes);
    max = act_largest(sizes, n);
    if (!(max < INFINITY)) {
        memset(q, 0, (size_t)n);
        g.d = __builtin_nanf("");
        return g;
    }
    int large = max < 0x1p-100f || act_alike(sizes, n, max) ? 0 : act_large(from, n, at);
    if (large) {
        memcpy(aside, from, (size_t)n * sizeof *aside);
        for (int i = 0; i < large; i++) {
            g.at[i] = at[i];
            g.x[i] = from[at[i]];
            aside[at[i]] = 0;
        }
        from = aside;
        act_sizes(from, n, sizes);
        max = act_largest(sizes, n);
    }
    if (max < 0x1p-100f) {
        memset(q, 0, (size_t)n);
        return g;
    }
    g.d = max / 127.0f;
    v16 inverse = v_set(127.0f / max);
    UNROLL
    for (int i = 0; i < n / 16; i++) {
        w16 x = w_round(v_mul(v_load(from + 16 * i), inverse));
        w_store_bytes(q + 16 * i, x);
        g.half[i] = (int16_t)w_sum(x);
    }
    UNROLL
    for (int i = 0; i < n / 32; i++) g.sum[i] = (int16_t)(g.half[2 * i] + g.half[2 * i + 1]);
    return g;
}

KERNEL(act)
{
    const ActArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int h = 0; h < a->H; h++) {
            int64_t      row = t * a->H + h;
            const float *x = a->x + t * a->x_row + h * a->x_head;
            int8_t      *q = a->q + row * a->K;
            ActGroup    *g = a->g + row * act_groups(a->K);
            int          k = 0;
            for (; k + ACT_GROUP <= a->K; k += ACT_GROUP) *g++ = act_group_v(x + k, ACT_GROUP, q + k);
            if (k < a->K) *g = act_group_v(x + k, a->K - k, q + k);
        }
}

#endif
