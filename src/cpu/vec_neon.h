/* v16, sixteen floats, as four q registers: the operations of vec_avx512.h, lane for lane. */
#ifndef AHA_CPU_VEC_NEON_H
#define AHA_CPU_VEC_NEON_H

#include <arm_neon.h>

#include "vec.h"

#define VEC_ISA neon
/* 24 accumulators, 4 of B, 1 of A: 29 of 32 registers */
#define GEMM_MR 6
#define GEMM_NV 1

typedef struct v16 {
    float32x4_t a, b, c, d;
} v16;
/* NEON masks no loads and stores: what is in is told by their number */
typedef struct m16 {
    int n;
} m16;

static INLINE m16 m_first(int n) { return (m16){n}; }

/* an operation on each register; a register four times */
#define EACH(f, x) ((v16){f((x).a), f((x).b), f((x).c), f((x).d)})
#define EACH2(f, x, y) ((v16){f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)})
#define ALL(x) ((v16){x, x, x, x})

static INLINE v16 v_set(float x) { return ALL(vdupq_n_f32(x)); }
static INLINE v16 v_zero(void) { return v_set(0); }
static INLINE v16 v_load(const float *p) { return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
static INLINE void v_store(float *p, v16 x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}

/* the first n of four, the rest 0 */
static INLINE float32x4_t load_first(const float *p, int n)
{
    float32x4_t x = vdupq_n_f32(0);
    if (n >= 4) return vld1q_f32(p);
    if (n > 0) x = vld1q_lane_f32(p, x, 0);
    if (n > 1) x = vld1q_lane_f32(p + 1, x, 1);
    if (n > 2) x = vld1q_lane_f32(p + 2, x, 2);
    return x;
}
static INLINE void store_first(float *p, int n, float32x4_t x)
{
    if (n >= 4) {
        vst1q_f32(p, x);
        return;
    }
    if (n > 0) vst1q_lane_f32(p, x, 0);
    if (n > 1) vst1q_lane_f32(p + 1, x, 1);
    if (n > 2) vst1q_lane_f32(p + 2, x, 2);
}
static INLINE v16 v_load_m(const float *p, m16 m)
{
    return (v16){load_first(p, m.n), load_first(p + 4, m.n - 4), load_first(p + 8, m.n - 8), load_first(p + 12, m.n - 12)};
}
static INLINE void v_store_m(float *p, m16 m, v16 x)
{
    store_first(p, m.n, x.a);
    store_first(p + 4, m.n - 4, x.b);
    store_first(p + 8, m.n - 8, x.c);
    store_first(p + 12, m.n - 12, x.d);
}

static INLINE v16 v_add(v16 x, v16 y) { return EACH2(vaddq_f32, x, y); }
static INLINE v16 v_sub(v16 x, v16 y) { return EACH2(vsubq_f32, x, y); }
static INLINE v16 v_mul(v16 x, v16 y) { return EACH2(vmulq_f32, x, y); }
static INLINE v16 v_div(v16 x, v16 y) { return EACH2(vdivq_f32, x, y); }
static INLINE v16 v_neg(v16 x) { return EACH(vnegq_f32, x); }
/* x y + z */
static INLINE v16 v_fma(v16 x, v16 y, v16 z)
{
    return (v16){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}
static INLINE float32x4_t xor4(float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
static INLINE v16 v_xor(v16 x, v16 y) { return EACH2(xor4, x, y); }
/* lanes 1,0,3,2,... */
static INLINE v16 v_swap(v16 x) { return EACH(vrev64q_f32, x); }
/* lanes 0,0,1,1,...,7,7 */
static INLINE v16 v_twice(v16 x)
{
    return (v16){vzip1q_f32(x.a, x.a), vzip2q_f32(x.a, x.a), vzip1q_f32(x.b, x.b), vzip2q_f32(x.b, x.b)};
}
/* x > m ? x : m: a NaN in x leaves m, as the references' comparison does; vmaxq would give the NaN */
static INLINE float32x4_t max4(float32x4_t x, float32x4_t m) { return vbslq_f32(vcgtq_f32(x, m), x, m); }
static INLINE v16         v_max(v16 x, v16 m) { return EACH2(max4, x, m); }
/* m ? x : y */
static INLINE v16 v_pick(m16 m, v16 x, v16 y)
{
    static const int32_t LANE[4] = {0, 1, 2, 3};
    int32x4_t            lane = vld1q_s32(LANE), n = vdupq_n_s32(m.n);
    return (v16){vbslq_f32(vcgtq_s32(n, lane), x.a, y.a), vbslq_f32(vcgtq_s32(n, vaddq_s32(lane, vdupq_n_s32(4))), x.b, y.b),
                 vbslq_f32(vcgtq_s32(n, vaddq_s32(lane, vdupq_n_s32(8))), x.c, y.c),
                 vbslq_f32(vcgtq_s32(n, vaddq_s32(lane, vdupq_n_s32(12))), x.d, y.d)};
}

/* lanes 0+8, 1+9, ...; then 4; 2; 1 */
static INLINE float v_sum(v16 x)
{
    float32x4_t y = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t z = vadd_f32(vget_low_f32(y), vget_high_f32(y));
    return vget_lane_f32(z, 0) + vget_lane_f32(z, 1);
}

/* the operations of r_exp (tensor/rmath.h), lane by lane */
static INLINE float32x4_t exp4(float32x4_t x)
{
    float32x4_t magic = vdupq_n_f32(EXP_MAGIC), hi = vdupq_n_f32(EXP_HI), p = vdupq_n_f32(EXP_C0);
    float32x4_t xc = vbslq_f32(vcgtq_f32(x, hi), hi, x);
    float32x4_t n = vsubq_f32(vfmaq_f32(magic, xc, vdupq_n_f32(EXP_LOG2E)), magic);
    float32x4_t r = vfmaq_f32(xc, n, vdupq_n_f32(-EXP_LN2_HI));
    int32x4_t   bits = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
    uint32x4_t  in = vcgeq_f32(x, vdupq_n_f32(EXP_LO)), number = vceqq_f32(x, x);
    r = vfmaq_f32(r, n, vdupq_n_f32(-EXP_LN2_LO));
    p = vfmaq_f32(vdupq_n_f32(EXP_C1), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_C2), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_C5), p, r);
    p = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0f));
    p = vmulq_f32(p, vreinterpretq_f32_s32(bits));
    return vbslq_f32(number, vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(p), in)), x);
}
static INLINE v16 v_exp(v16 x) { return EACH(exp4, x); }

/* four elements of type t, as floats */
static INLINE float32x4_t load4(Dtype t, const void *p)
{
    if (t == DT_F16) return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
    if (t == DT_BF16) return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
    return vld1q_f32(p);
}
/* sixteen elements from element i of data of type t, as floats */
static INLINE v16 v_load_t(Dtype t, const void *p, int64_t i)
{
    int64_t     size = t == DT_F32 ? 4 : 2;
    const char *b = (const char *)p + i * size;
    return (v16){load4(t, b), load4(t, b + 4 * size), load4(t, b + 8 * size), load4(t, b + 12 * size)};
}
/* the first n of them, the rest 0 */
static INLINE v16 v_load_tn(Dtype t, const void *p, int64_t i, int n)
{
    uint16_t h[16] = {0};
    if (t == DT_F32) return v_load_m((const float *)p + i, m_first(n));
    if (n > 0) memcpy(h, (const uint16_t *)p + i, sizeof(uint16_t) * (size_t)(n < 16 ? n : 16));
    return v_load_t(t, h, 0);
}

/* the f16 at p */
static INLINE float half_to_float(const void *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}
/* sixteen numbers of 8 bits, as floats */
static INLINE v16 v_load_i8(const void *p)
{
    int8x16_t x = vld1q_s8(p);
    int16x8_t lo = vmovl_s8(vget_low_s8(x)), hi = vmovl_s8(vget_high_s8(x));
    return (v16){vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
                 vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))};
}

/* columns of a transpose step */
static INLINE int transpose_cols(Dtype t)
{
    (void)t;
    return 16;
}

/* x[j] becomes column j of the four rows */
static INLINE void square_transpose(float32x4_t x[4])
{
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(x[0], x[1])), b = vreinterpretq_f64_f32(vtrn1q_f32(x[2], x[3]));
    float64x2_t c = vreinterpretq_f64_f32(vtrn2q_f32(x[0], x[1])), d = vreinterpretq_f64_f32(vtrn2q_f32(x[2], x[3]));
    x[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, b));
    x[1] = vreinterpretq_f32_f64(vtrn1q_f64(c, d));
    x[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, b));
    x[3] = vreinterpretq_f32_f64(vtrn2q_f64(c, d));
}

/* dst[k * step + r] = row r, column k of src for 16 rows and 16 columns; rows are `row` elements apart */
static INLINE void v_transpose(Dtype t, const void *src, int64_t row, float *dst, int64_t step)
{
    int64_t size = t == DT_F32 ? 4 : 2;
    for (int r = 0; r < 16; r += 4) {
        UNROLL
        for (int c = 0; c < 16; c += 4) {
            const char *p = (const char *)src + (r * row + c) * size;
            float32x4_t x[4];
            UNROLL
            for (int i = 0; i < 4; i++) x[i] = load4(t, p + i * row * size);
            square_transpose(x);
            UNROLL
            for (int j = 0; j < 4; j++) vst1q_f32(dst + (c + j) * step + r, x[j]);
        }
    }
}

#undef EACH
#undef EACH2
#undef ALL
#endif
