/* Beside vec_neon.h: eight ks of two columns times eight ks of two rows, an instruction (kern_dot.h). */
#ifndef AHA_CPU_VEC_I8MM_H
#define AHA_CPU_VEC_I8MM_H

#include "vec_neon.h"

#define DOT_PAIRED
typedef struct w16pair {
    int32x4_t two[8]; /* columns 2j and 2j + 1, each with the first and the second row */
} w16pair;

/* two words of 16 columns, at p and behind it: afterwards a column's lie side by side */
static INLINE void w_pair(uint8_t *p)
{
    uint32x4_t x[8];
    UNROLL
    for (int j = 0; j < 8; j++) x[j] = vreinterpretq_u32_u8(vld1q_u8(p + 16 * j));
    UNROLL
    for (int j = 0; j < 4; j++) {
        vst1q_u8(p + 32 * j, vreinterpretq_u8_u32(vzip1q_u32(x[j], x[4 + j])));
        vst1q_u8(p + 32 * j + 16, vreinterpretq_u8_u32(vzip2q_u32(x[j], x[4 + j])));
    }
}
/* the first of them, or the second */
static INLINE uint32x4_t unpair4(const uint8_t *p, int second)
{
    uint32x4_t x = vreinterpretq_u32_u8(vld1q_u8(p)), y = vreinterpretq_u32_u8(vld1q_u8(p + 16));
    return second ? vuzp2q_u32(x, y) : vuzp1q_u32(x, y);
}
static INLINE w16 w_unpair(const uint8_t *p, int second)
{
    return (w16){unpair4(p, second), unpair4(p + 32, second), unpair4(p + 64, second), unpair4(p + 96, second)};
}
static INLINE w16pair w_pair_zero(void)
{
    w16pair x;
    UNROLL
    for (int j = 0; j < 8; j++) x.two[j] = vdupq_n_s32(0);
    return x;
}
/* acc + the products of a pair of words, without signs, with eight numbers of two rows, with signs */
static INLINE w16pair w_dot_pair(w16pair acc, const uint8_t *u, const int8_t *q0, const int8_t *q1)
{
    int8x16_t x = vcombine_s8(vld1_s8(q0), vld1_s8(q1));
    UNROLL
    for (int j = 0; j < 8; j++) acc.two[j] = vusmmlaq_s32(acc.two[j], vld1q_u8(u + 16 * j), x);
    return acc;
}
static INLINE uint32x4_t pair_row4(int32x4_t x, int32x4_t y, int m)
{
    return vreinterpretq_u32_s32(m ? vuzp2q_s32(x, y) : vuzp1q_s32(x, y));
}
static INLINE w16 w_pair_row(w16pair x, int m)
{
    return (w16){pair_row4(x.two[0], x.two[1], m), pair_row4(x.two[2], x.two[3], m), pair_row4(x.two[4], x.two[5], m), pair_row4(x.two[6], x.two[7], m)};
}
#endif
