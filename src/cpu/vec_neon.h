/* v16, sixteen floats, as four q registers: the operations of vec_avx512.h, lane for lane. */
#ifndef AHA_CPU_VEC_NEON_H
#define AHA_CPU_VEC_NEON_H

#include <arm_neon.h>

#include "vec.h"

#ifndef VEC_ISA
#define VEC_ISA neon
#endif
/* 24 accumulators, 4 of B, 1 of A: 29 of 32 registers */
#define GEMM_MR 6
#define GEMM_NV 1
/* integers: 8 sums, as many of floats, 4 of B, 1 of A */
#define DOT_MR 2
#define DOT_NV 1
#define DOT_FEW 2

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
static INLINE v16 v_abs(v16 x) { return EACH(vabsq_f32, x); }
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

/* lanes 0 to 3: the largest lane of each x; none may be NaN */
static INLINE float v_top(v16 x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d))); }
static INLINE v16 v_tops(const v16 x[4]) { return (v16){.a = {v_top(x[0]), v_top(x[1]), v_top(x[2]), v_top(x[3])}}; }

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

/* as vec_avx512.h has them */
static INLINE float32x4_t f8_small4(int32x4_t top)
{
    return vreinterpretq_f32_s32(vandq_s32(vshrq_n_s32(top, 4), vdupq_n_s32((int32_t)0x87f00000u)));
}
static INLINE float32x4_t f8_values4(uint32x4_t top)
{
    uint32x4_t most = vdupq_n_u32(0x7f000000u), nan = vceqq_u32(vandq_u32(top, most), most);
    return vbslq_f32(nan, vdupq_n_f32(NAN), vmulq_n_f32(f8_small4(vreinterpretq_s32_u32(top)), F8_LARGE));
}

/* four elements of type t, as floats */
static INLINE float32x4_t load4(Dtype t, const void *p)
{
    if (t == DT_F8_E4M3) {
        uint32_t four;
        memcpy(&four, p, sizeof four);
        return f8_values4(vshlq_n_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four))))), 24));
    }
    if (t == DT_F16) return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
    if (t == DT_BF16) return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
    return vld1q_f32(p);
}
/* sixteen elements from element i of data of type t, as floats */
static INLINE v16 v_load_t(Dtype t, const void *p, int64_t i)
{
    int64_t     size = type_size(t);
    const char *b = (const char *)p + i * size;
    return (v16){load4(t, b), load4(t, b + 4 * size), load4(t, b + 8 * size), load4(t, b + 12 * size)};
}
/* the first n of them, the rest 0 */
static INLINE v16 v_load_tn(Dtype t, const void *p, int64_t i, int n)
{
    uint16_t part[16] = {0};
    if (t == DT_F32) return v_load_m((const float *)p + i, m_first(n));
    if (n > 0) memcpy(part, (const char *)p + i * type_size(t), (size_t)(type_size(t) * (n < 16 ? n : 16)));
    return v_load_t(t, part, 0);
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

/* 64 bytes of each of sixteen rows that are `bytes` apart: x[i] holds the i-th 32-bit unit of every row */
static INLINE void rows4(const char *p, int64_t bytes, float32x4_t x[4])
{
    UNROLL
    for (int i = 0; i < 4; i++) x[i] = vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p + i * bytes));
    square_transpose(x);
}
static INLINE void v_units(const char *p, int64_t bytes, v16 x[16])
{
    for (int c = 0; c < 4; c++, p += 16) {
        float32x4_t q[4][4];
        UNROLL
        for (int r = 0; r < 4; r++) rows4(p + 4 * r * bytes, bytes, q[r]);
        UNROLL
        for (int j = 0; j < 4; j++) x[4 * c + j] = (v16){q[0][j], q[1][j], q[2][j], q[3][j]};
    }
}

/* The elements of units of type t as floats, in order: 4 / type_size(t) of them.  Of F8 times 2^-120, and see f8_small4. */
static INLINE void of_units4(Dtype t, float32x4_t x, float32x4_t out[4])
{
    uint32x4_t u = vreinterpretq_u32_f32(x);
    if (t == DT_F8_E4M3) {
        int32x4_t code = vdupq_n_s32((int32_t)0x87f00000u);
        int16x8_t bytes = vreinterpretq_s16_u32(u);
        int32x4_t odd = vreinterpretq_s32_s16(vshrq_n_s16(bytes, 4)), even = vreinterpretq_s32_s16(vshrq_n_s16(vshlq_n_s16(bytes, 8), 4));
        out[0] = vreinterpretq_f32_s32(vandq_s32(vshlq_n_s32(even, 16), code));
        out[1] = vreinterpretq_f32_s32(vandq_s32(vshlq_n_s32(odd, 16), code));
        out[2] = vreinterpretq_f32_s32(vandq_s32(even, code));
        out[3] = vreinterpretq_f32_s32(vandq_s32(odd, code));
    } else if (t == DT_BF16) {
        out[0] = vreinterpretq_f32_u32(vshlq_n_u32(u, 16));
        out[1] = vreinterpretq_f32_u32(vandq_u32(u, vdupq_n_u32(0xffff0000u)));
    } else if (t == DT_F16) {
        out[0] = vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(u)));
        out[1] = vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(u, 16)));
    } else {
        out[0] = x;
    }
}
static INLINE void v_of_units(Dtype t, v16 x, v16 out[4])
{
    float32x4_t a[4], b[4], c[4], d[4];
    of_units4(t, x.a, a);
    of_units4(t, x.b, b);
    of_units4(t, x.c, c);
    of_units4(t, x.d, d);
    UNROLL
    for (int i = 0; i < 4 / type_size(t); i++) out[i] = (v16){a[i], b[i], c[i], d[i]};
}

/* Which rows have a code that is no number: most holds, byte by byte, the largest code of each so far, without its sign. */
static INLINE float32x4_t f8_most4(float32x4_t most, float32x4_t x)
{
    uint8x16_t code = vandq_u8(vreinterpretq_u8_f32(x), vdupq_n_u8(0x7f));
    return vreinterpretq_f32_u8(vmaxq_u8(vreinterpretq_u8_f32(most), code));
}
static INLINE v16 f8_most(v16 most, v16 x) { return EACH2(f8_most4, most, x); }
/* x with NaN in those rows */
static INLINE float32x4_t f8_mend4(float32x4_t most, float32x4_t x)
{
    uint8x16_t full = vceqq_u8(vreinterpretq_u8_f32(most), vdupq_n_u8(0x7f));
    return vbslq_f32(vceqq_u32(vreinterpretq_u32_u8(full), vdupq_n_u32(0)), x, vdupq_n_f32(NAN));
}
static INLINE v16 f8_mend(v16 most, v16 x) { return EACH2(f8_mend4, most, x); }

/* ---- sixteen words of 32 bits ---- */
typedef struct w16 {
    uint32x4_t a, b, c, d;
} w16;

#define WEACH(f, x) ((w16){f((x).a), f((x).b), f((x).c), f((x).d)})
#define WEACH2(f, x, y) ((w16){f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)})
#define BYTES(f, x, y) vreinterpretq_u32_u8(f(vreinterpretq_u8_u32(x), vreinterpretq_u8_u32(y)))

static INLINE w16 w_set(int32_t x)
{
    uint32x4_t w = vreinterpretq_u32_s32(vdupq_n_s32(x));
    return (w16){w, w, w, w};
}
static INLINE w16 w_zero(void) { return w_set(0); }
/* the number of 16 bits at p times x; two bytes behind it may be read, too */
static INLINE w16 w_set_times(const int16_t *p, int x) { return w_set(*p * x); }
static INLINE w16 w_load(const void *p)
{
    const uint8_t *b = p;
    return (w16){vreinterpretq_u32_u8(vld1q_u8(b)), vreinterpretq_u32_u8(vld1q_u8(b + 16)), vreinterpretq_u32_u8(vld1q_u8(b + 32)),
                 vreinterpretq_u32_u8(vld1q_u8(b + 48))};
}
static INLINE void w_store(void *p, w16 x)
{
    uint8_t *b = p;
    vst1q_u8(b, vreinterpretq_u8_u32(x.a));
    vst1q_u8(b + 16, vreinterpretq_u8_u32(x.b));
    vst1q_u8(b + 32, vreinterpretq_u8_u32(x.c));
    vst1q_u8(b + 48, vreinterpretq_u8_u32(x.d));
}
static INLINE w16 w_and(w16 x, w16 y) { return WEACH2(vandq_u32, x, y); }
static INLINE w16 w_or(w16 x, w16 y) { return WEACH2(vorrq_u32, x, y); }
static INLINE w16 w_xor(w16 x, w16 y) { return WEACH2(veorq_u32, x, y); }
/* the compilers' own shifts: n is a constant only once this is inlined */
static INLINE w16 w_shl(w16 x, int n) { return (w16){x.a << (uint32_t)n, x.b << (uint32_t)n, x.c << (uint32_t)n, x.d << (uint32_t)n}; }
static INLINE w16 w_shr(w16 x, int n) { return (w16){x.a >> (uint32_t)n, x.b >> (uint32_t)n, x.c >> (uint32_t)n, x.d >> (uint32_t)n}; }
static INLINE w16 w_add(w16 x, w16 y) { return WEACH2(vaddq_u32, x, y); }
static INLINE w16 w_mul(w16 x, w16 y) { return WEACH2(vmulq_u32, x, y); }
static INLINE uint32x4_t max4_s32(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(x), vreinterpretq_s32_u32(y)));
}
static INLINE w16        w_max(w16 x, w16 y) { return WEACH2(max4_s32, x, y); } /* signed */
static INLINE uint32x4_t add_bytes4(uint32x4_t x, uint32x4_t y) { return BYTES(vaddq_u8, x, y); }
static INLINE uint32x4_t sub_bytes4(uint32x4_t x, uint32x4_t y) { return BYTES(vsubq_u8, x, y); }
static INLINE w16        w_add_bytes(w16 x, w16 y) { return WEACH2(add_bytes4, x, y); }
static INLINE w16        w_sub_bytes(w16 x, w16 y) { return WEACH2(sub_bytes4, x, y); }
/* every byte of i, 0 to 15, as the table's */
static INLINE w16 w_lookup(const uint8_t table[16], w16 i)
{
    uint32x4_t t = vreinterpretq_u32_u8(vld1q_u8(table));
    return (w16){BYTES(vqtbl1q_u8, t, i.a), BYTES(vqtbl1q_u8, t, i.b), BYTES(vqtbl1q_u8, t, i.c), BYTES(vqtbl1q_u8, t, i.d)};
}
/* each four words' bytes by their places; 255: 0 */
static INLINE w16 w_shuffle(w16 x, const uint8_t from[16])
{
    uint32x4_t t = vreinterpretq_u32_u8(vld1q_u8(from));
    return (w16){BYTES(vqtbl1q_u8, x.a, t), BYTES(vqtbl1q_u8, x.b, t), BYTES(vqtbl1q_u8, x.c, t), BYTES(vqtbl1q_u8, x.d, t)};
}
/* The four bytes of each word of x are columns 4 j to 4 j + 3 of a group; where that bit of `signs` is set, u becomes twice - u. */
static INLINE uint32x4_t flip4(uint32x4_t u, uint32x4_t signs, int j, int twice)
{
    static const uint8_t FROM[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    uint8x16_t           byte = vqtbl1q_u8(vreinterpretq_u8_u32(signs), vaddq_u8(vld1q_u8(FROM), vdupq_n_u8((uint8_t)(j / 2))));
    uint8x16_t           set = vtstq_u8(byte, vreinterpretq_u8_u32(vdupq_n_u32(j % 2 ? 0x80402010 : 0x08040201))), v = vreinterpretq_u8_u32(u);
    return vreinterpretq_u32_u8(vbslq_u8(set, vsubq_u8(vdupq_n_u8((uint8_t)twice), v), v));
}
static INLINE w16 w_flip(w16 u, w16 signs, int j, int twice)
{
    return (w16){flip4(u.a, signs.a, j, twice), flip4(u.b, signs.b, j, twice), flip4(u.c, signs.c, j, twice), flip4(u.d, signs.d, j, twice)};
}
static INLINE float32x4_t float4(uint32x4_t x) { return vcvtq_f32_s32(vreinterpretq_s32_u32(x)); }
static INLINE v16         w_float(w16 x) { return EACH(float4, x); }
static INLINE w16         w_bits(v16 x) { return WEACH(vreinterpretq_u32_f32, x); }
static INLINE uint32x4_t  round4(float32x4_t x) { return vreinterpretq_u32_s32(vcvtnq_s32_f32(x)); }
static INLINE w16         w_round(v16 x) { return WEACH(round4, x); } /* halves to even */
/* the low half of each word, an f16 */
static INLINE float32x4_t half4(uint32x4_t x) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(x))); }
static INLINE v16         w_half(w16 x) { return EACH(half4, x); }
static INLINE void        w_store_halves(void *p, w16 x) /* the low half of each word */
{
    uint16_t *h = p;
    vst1q_u16(h, vcombine_u16(vmovn_u32(x.a), vmovn_u32(x.b)));
    vst1q_u16(h + 8, vcombine_u16(vmovn_u32(x.c), vmovn_u32(x.d)));
}
/* sixteen pairs of words at p: the first of each, the second of each */
static INLINE void w_pairs(const void *p, w16 out[2])
{
    const uint32_t *w = p;
    uint32x4x2_t    a = vld2q_u32(w), b = vld2q_u32(w + 8), c = vld2q_u32(w + 16), d = vld2q_u32(w + 24);
    UNROLL
    for (int i = 0; i < 2; i++) out[i] = (w16){a.val[i], b.val[i], c.val[i], d.val[i]};
}
static INLINE int32_t w_sum(w16 x)
{
    return vaddvq_s32(vreinterpretq_s32_u32(vaddq_u32(vaddq_u32(x.a, x.b), vaddq_u32(x.c, x.d))));
}
static INLINE int32_t w_largest(w16 x)
{
    return vmaxvq_s32(vreinterpretq_s32_u32(max4_s32(max4_s32(x.a, x.b), max4_s32(x.c, x.d))));
}
static INLINE w16 w_largests(const w16 x[4]) { return (w16){.a = (uint32x4_t)(int32x4_t){w_largest(x[0]), w_largest(x[1]), w_largest(x[2]), w_largest(x[3])}}; }
/* a bit for every lane above x, with signs */
static INLINE uint32_t above4(uint32x4_t a, int32x4_t x)
{
    static const uint32_t BIT[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgtq_s32(vreinterpretq_s32_u32(a), x), vld1q_u32(BIT)));
}
static INLINE uint32_t w_above(w16 a, int32_t x)
{
    int32x4_t v = vdupq_n_s32(x);
    return above4(a.a, v) | above4(a.b, v) << 4 | above4(a.c, v) << 8 | above4(a.d, v) << 12;
}
/* the low byte of each word */
static INLINE void w_store_bytes(void *p, w16 x)
{
    uint16x8_t lo = vcombine_u16(vmovn_u32(x.a), vmovn_u32(x.b)), hi = vcombine_u16(vmovn_u32(x.c), vmovn_u32(x.d));
    vst1q_u8(p, vcombine_u8(vmovn_u16(lo), vmovn_u16(hi)));
}
static INLINE uint32_t word_at(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}
static INLINE uint32x4_t word4(const uint8_t *p, int64_t row)
{
    uint32x4_t x = vdupq_n_u32(word_at(p));
    x = vsetq_lane_u32(word_at(p + row), x, 1);
    x = vsetq_lane_u32(word_at(p + 2 * row), x, 2);
    return vsetq_lane_u32(word_at(p + 3 * row), x, 3);
}
/* four bytes at p of each of 16 rows, `row` bytes apart */
static INLINE w16 w_word(const uint8_t *p, int64_t row)
{
    return (w16){word4(p, row), word4(p + 4 * row, row), word4(p + 8 * row, row), word4(p + 12 * row, row)};
}
/* sixteen bytes at p of each of 16 rows: out[j] holds word j of every row */
static INLINE void w_rows(const uint8_t *p, int64_t row, w16 out[4])
{
    float32x4_t x[4][4];
    UNROLL
    for (int r = 0; r < 4; r++) {
        UNROLL
        for (int i = 0; i < 4; i++) x[r][i] = vreinterpretq_f32_u8(vld1q_u8(p + (4 * r + i) * row));
        square_transpose(x[r]);
    }
    UNROLL
    for (int j = 0; j < 4; j++)
        out[j] = (w16){vreinterpretq_u32_f32(x[0][j]), vreinterpretq_u32_f32(x[1][j]), vreinterpretq_u32_f32(x[2][j]), vreinterpretq_u32_f32(x[3][j])};
}

/* acc + the products of four bytes each, u without and x with a sign.  w_dot: u is at most 127. */
static INLINE uint32x4_t dot4(uint32x4_t acc, uint32x4_t u, uint32x4_t x)
{
    int32x4_t sum = vreinterpretq_s32_u32(acc);
    int8x16_t p = vreinterpretq_s8_u32(u), q = vreinterpretq_s8_u32(x);
#ifdef __ARM_FEATURE_DOTPROD
    sum = vdotq_s32(sum, p, q);
#else /* a pair's sum fits into 16 bits: at most 2 * 128 * 127 */
    sum = vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(p), vget_low_s8(q)), vmull_high_s8(p, q)));
#endif
    return vreinterpretq_u32_s32(sum);
}
static INLINE uint32x4_t dot4_wide(uint32x4_t acc, uint32x4_t u, uint32x4_t x)
{
#ifdef __ARM_FEATURE_MATMUL_INT8
    return vreinterpretq_u32_s32(vusdotq_s32(vreinterpretq_s32_u32(acc), vreinterpretq_u8_u32(u), vreinterpretq_s8_u32(x)));
#else /* u x = (u - 128) x + 128 x */
    int32x4_t lift = vshlq_n_s32(vpaddlq_s16(vpaddlq_s8(vreinterpretq_s8_u32(x))), 7);
    return dot4(vaddq_u32(acc, vreinterpretq_u32_s32(lift)), veorq_u32(u, vdupq_n_u32(0x80808080)), x);
#endif
}
static INLINE w16 w_dot(w16 acc, w16 u, w16 x)
{
    return (w16){dot4(acc.a, u.a, x.a), dot4(acc.b, u.b, x.b), dot4(acc.c, u.c, x.c), dot4(acc.d, u.d, x.d)};
}
enum { WIDE_LIFT = 128 };
static INLINE w16 w_dot_wide(w16 acc, w16 u, w16 x)
{
    return (w16){dot4_wide(acc.a, u.a, x.a), dot4_wide(acc.b, u.b, x.b), dot4_wide(acc.c, u.c, x.c), dot4_wide(acc.d, u.d, x.d)};
}

/* ---- words as pairs of 16-bit integers: as vec_avx512.h ---- */
static INLINE uint32x4_t load_pairs4(const int8_t *p) { return vreinterpretq_u32_s16(vmovl_s8(vld1_s8(p))); }
static INLINE w16 w_load_pairs(const void *p)
{
    const int8_t *q = p;
    return (w16){load_pairs4(q), load_pairs4(q + 8), load_pairs4(q + 16), load_pairs4(q + 24)};
}
static INLINE uint32x4_t dot_pairs4(uint32x4_t acc, uint32x4_t x, uint32x4_t y)
{
    int16x8_t p = vreinterpretq_s16_u32(x), q = vreinterpretq_s16_u32(y);
    int32x4_t two = vpaddq_s32(vmull_s16(vget_low_s16(p), vget_low_s16(q)), vmull_high_s16(p, q));
    return vaddq_u32(acc, vreinterpretq_u32_s32(two));
}
static INLINE w16 w_dot_pairs(w16 acc, w16 x, w16 y)
{
    return (w16){dot_pairs4(acc.a, x.a, y.a), dot_pairs4(acc.b, x.b, y.b), dot_pairs4(acc.c, x.c, y.c), dot_pairs4(acc.d, x.d, y.d)};
}
static INLINE uint32x4_t firsts4(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_u16(vtrn1q_u16(vreinterpretq_u16_u32(x), vreinterpretq_u16_u32(y)));
}
static INLINE uint32x4_t seconds4(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_u16(vtrn2q_u16(vreinterpretq_u16_u32(x), vreinterpretq_u16_u32(y)));
}
static INLINE w16 w_firsts(w16 x, w16 y) { return WEACH2(firsts4, x, y); }
static INLINE w16 w_seconds(w16 x, w16 y) { return WEACH2(seconds4, x, y); }
static INLINE uint32x4_t low_bytes4(uint32x4_t x)
{
    return vreinterpretq_u32_s16(vshrq_n_s16(vshlq_n_s16(vreinterpretq_s16_u32(x), 8), 8));
}
static INLINE uint32x4_t high_bytes4(uint32x4_t x) { return vreinterpretq_u32_s16(vshrq_n_s16(vreinterpretq_s16_u32(x), 8)); }
static INLINE w16        w_low_bytes(w16 x) { return WEACH(low_bytes4, x); }
static INLINE w16        w_high_bytes(w16 x) { return WEACH(high_bytes4, x); }

/* ---- words as four bytes with signs: as vec_avx512.h ---- */
enum { BYTES_LIFT = 0 };
static INLINE w16 w_bytes(const void *p) { return w_load(p); }
static INLINE w16 w_dot_bytes(w16 acc, w16 x, w16 y) { return w_dot(acc, x, y); }

#undef EACH
#undef EACH2
#undef ALL
#undef WEACH
#undef WEACH2
#undef BYTES
#endif
