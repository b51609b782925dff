/* What the reference kernels share.  They follow tensor/kernels.h to the letter and are the check of every fast kernel. */
#ifndef AHA_CPU_REF_H
#define AHA_CPU_REF_H

#include "cpu.h"

/* Columns [col0, col0 + n) of the stored row `row` of a coded B, row 0 being where b points (ref_gemm.c) */
void gemm_decode(const GemmArgs *a, int64_t row, int64_t col0, int n, float *dst);

/* Which of a group's n columns, all of them numbers, are kept aside, ascending; how many (ref_quant.c) */
int act_large(const float *x, int n, int8_t at[ACT_ASIDE]);

/* Rows [m0, m1) and columns [n0, n1) of a head's C (ref_quant.c) */
void dot_columns(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1);

static inline float ref_load_q8(const void *p, int64_t i)
{
    const uint8_t *b = (const uint8_t *)p + i / KV_Q8_COLS * KV_Q8_BYTES;
    uint16_t       d;
    memcpy(&d, b, sizeof d);
    return (float)(int8_t)b[2 + i % KV_Q8_COLS] * f16_to_f32(d);
}

/* element i of data of a type that linear, embed or the cache may hold; of the coded ones only of the cache's Q8_0 */
static inline real ref_load(Dtype t, const void *p, int64_t i)
{
    switch (t) {
    case DT_F16: return (real)f16_to_f32(((const uint16_t *)p)[i]);
    case DT_BF16: return (real)bf16_to_f32(((const uint16_t *)p)[i]);
    case DT_Q8_0: return (real)ref_load_q8(p, i);
    default: return ((const real *)p)[i];
    }
}

/* Sums in 16 lanes: element i goes into lane i mod 16, then the lanes are added as a binary tree (0+8, 1+9, ...). */
static inline real ref_lanes_sum(real lane[16])
{
    for (int w = 8; w >= 1; w /= 2)
        for (int i = 0; i < w; i++) lane[i] += lane[i + w];
    return lane[0];
}

#define REF(name) void name##_ref(const void *args, int64_t i0, int64_t i1, void *scratch)
#define X(name, isa) REF(name);
KERNEL_TABLE(X)
#undef X

#endif
