/* v16, sixteen floats, as two ymm registers: the operations of vec_avx512.h, lane for lane. */
#ifndef AHA_CPU_VEC_AVX2_H
#define AHA_CPU_VEC_AVX2_H

#include <immintrin.h>

#include "vec.h"

#ifndef VEC_ISA
#define VEC_ISA avx2
#endif
/* 12 accumulators, 2 of B, 1 of A: 15 of 16 registers */
#define GEMM_MR 6
#define GEMM_NV 1
/* integers: 4 sums, as many of floats, 2 of B, 2 of A */
#define DOT_MR 2
#define DOT_NV 1
#define DOT_FEW 2

typedef struct v16 {
    __m256 lo, hi;
} v16;
typedef struct m16 { /* all bits of a lane set: in */
    __m256i lo, hi;
} m16;

static INLINE m16 m_first(int n)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return (m16){_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lane)};
}

static INLINE v16 v_zero(void) { return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static INLINE v16 v_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static INLINE v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static INLINE v16 v_load_m(const float *p, m16 m)
{
    return (v16){_mm256_maskload_ps(p, m.lo), _mm256_maskload_ps(p + 8, m.hi)};
}
static INLINE void v_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
static INLINE void v_store_m(float *p, m16 m, v16 x)
{
    _mm256_maskstore_ps(p, m.lo, x.lo);
    _mm256_maskstore_ps(p + 8, m.hi, x.hi);
}
static INLINE v16 v_add(v16 a, v16 b) { return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static INLINE v16 v_sub(v16 a, v16 b) { return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
static INLINE v16 v_mul(v16 a, v16 b) { return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static INLINE v16 v_div(v16 a, v16 b) { return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static INLINE v16 v_neg(v16 a)
{
    __m256 s = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_xor_ps(a.lo, s), _mm256_xor_ps(a.hi, s)};
}
static INLINE v16 v_xor(v16 a, v16 b) { return (v16){_mm256_xor_ps(a.lo, b.lo), _mm256_xor_ps(a.hi, b.hi)}; }
/* lanes 1,0,3,2,... */
static INLINE v16 v_swap(v16 x) { return (v16){_mm256_permute_ps(x.lo, 0xb1), _mm256_permute_ps(x.hi, 0xb1)}; }
/* lanes 0,0,1,1,...,7,7 */
static INLINE v16 v_twice(v16 x)
{
    return (v16){_mm256_permutevar8x32_ps(x.lo, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
                 _mm256_permutevar8x32_ps(x.lo, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}
/* x > m ? x : m: a NaN in x leaves m, as the references' comparison does */
static INLINE v16 v_max(v16 x, v16 m) { return (v16){_mm256_max_ps(x.lo, m.lo), _mm256_max_ps(x.hi, m.hi)}; }
static INLINE v16 v_abs(v16 x)
{
    __m256 s = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(s, x.lo), _mm256_andnot_ps(s, x.hi)};
}
/* m ? a : b */
static INLINE v16 v_pick(m16 m, v16 a, v16 b)
{
    return (v16){_mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(m.lo)),
                 _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(m.hi))};
}

/* lanes 0+8, 1+9, ...; then 4; 2; 1 */
static INLINE float v_sum(v16 x)
{
    __m256 y = _mm256_add_ps(x.lo, x.hi);
    __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_add_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
}

/* the largest lane; none may be NaN */
static INLINE v16 v_tops(const v16 x[4])
{
    __m256 y[4], ab, cd;
    UNROLL
    for (int i = 0; i < 4; i++) y[i] = _mm256_max_ps(x[i].lo, x[i].hi);
    ab = _mm256_max_ps(_mm256_unpacklo_ps(y[0], y[1]), _mm256_unpackhi_ps(y[0], y[1]));
    cd = _mm256_max_ps(_mm256_unpacklo_ps(y[2], y[3]), _mm256_unpackhi_ps(y[2], y[3]));
    ab = _mm256_max_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    return (v16){_mm256_zextps128_ps256(_mm_max_ps(_mm256_castps256_ps128(ab), _mm256_extractf128_ps(ab, 1))), _mm256_setzero_ps()};
}

/* the operations of r_exp (tensor/rmath.h), lane by lane */
static INLINE __m256 exp8(__m256 x)
{
    __m256  magic = _mm256_set1_ps(EXP_MAGIC), p = _mm256_set1_ps(EXP_C0);
    __m256  xc = _mm256_min_ps(_mm256_set1_ps(EXP_HI), x);
    __m256  n = _mm256_sub_ps(_mm256_fmadd_ps(xc, _mm256_set1_ps(EXP_LOG2E), magic), magic);
    __m256  r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_HI), xc);
    __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    __m256  in = _mm256_cmp_ps(x, _mm256_set1_ps(EXP_LO), _CMP_GE_OQ), nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_LO), r);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C5));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
    p = _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(bits)), in);
    return _mm256_blendv_ps(p, x, nan);
}
static INLINE v16 v_exp(v16 x) { return (v16){exp8(x.lo), exp8(x.hi)}; }

/* as vec_avx512.h has them */
static INLINE __m256 f8_small8(__m256i top)
{
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_srai_epi32(top, 4), _mm256_set1_epi32((int)0x87f00000u)));
}
static INLINE __m256 f8_values8(__m256i top)
{
    __m256i most = _mm256_set1_epi32(0x7f000000), nan = _mm256_cmpeq_epi32(_mm256_and_si256(top, most), most);
    return _mm256_blendv_ps(_mm256_mul_ps(f8_small8(top), _mm256_set1_ps(F8_LARGE)), _mm256_set1_ps(NAN), _mm256_castsi256_ps(nan));
}

/* eight elements of type t, as floats */
static INLINE __m256 load8(Dtype t, const void *p)
{
    if (t == DT_F8_E4M3) return f8_values8(_mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)), 24));
    if (t == DT_F16) return _mm256_cvtph_ps(_mm_loadu_si128(p));
    if (t == DT_BF16) return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
    return _mm256_loadu_ps(p);
}
/* sixteen elements from element i of data of type t, as floats */
static INLINE v16 v_load_t(Dtype t, const void *p, int64_t i)
{
    const char *b = (const char *)p + i * type_size(t);
    return (v16){load8(t, b), load8(t, b + 8 * type_size(t))};
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
    return _cvtsh_ss(h);
}
/* sixteen numbers of 8 bits, as floats */
static INLINE v16 v_load_i8(const void *p)
{
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p))),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)((const char *)p + 8))))};
}

/* Two 4x4 transposes side by side: x[i] holds in lane L four columns of row 4L+i; afterwards x[j] holds column j of all
 * eight rows. */
static INLINE void lanes_transpose(__m256 x[4])
{
    __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(x[0], x[1])), b = _mm256_castps_pd(_mm256_unpacklo_ps(x[2], x[3]));
    __m256d c = _mm256_castps_pd(_mm256_unpackhi_ps(x[0], x[1])), d = _mm256_castps_pd(_mm256_unpackhi_ps(x[2], x[3]));
    x[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
    x[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    x[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c, d));
    x[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(c, d));
}

/* 64 bytes of each of sixteen rows that are `bytes` apart: x[i] holds the i-th 32-bit unit of every row */
static INLINE void v_units(const char *p, int64_t bytes, v16 x[16])
{
    for (int c = 0; c < 4; c++, p += 16) {
        __m256 half[2][4];
        UNROLL
        for (int h = 0; h < 2; h++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                half[h][i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const void *)(p + (8 * h + i) * bytes))),
                                                  _mm_loadu_ps((const void *)(p + (8 * h + 4 + i) * bytes)), 1);
            lanes_transpose(half[h]);
        }
        UNROLL
        for (int i = 0; i < 4; i++) x[4 * c + i] = (v16){half[0][i], half[1][i]};
    }
}

/* The elements of units of type t as floats, in order: 4 / type_size(t) of them.  Of F8 times 2^-120, and see f8_small8. */
static INLINE void of_units8(Dtype t, __m256 x, __m256 out[4])
{
    __m256i u = _mm256_castps_si256(x), high = _mm256_set1_epi32((int)0xffff0000u);
    if (t == DT_F8_E4M3) {
        __m256i code = _mm256_set1_epi32((int)0x87f00000u), odd = _mm256_srai_epi16(u, 4);
        __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(u, 8), 4);
        out[0] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(even, 16), code));
        out[1] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(odd, 16), code));
        out[2] = _mm256_castsi256_ps(_mm256_and_si256(even, code));
        out[3] = _mm256_castsi256_ps(_mm256_and_si256(odd, code));
    } else if (t == DT_BF16) {
        out[0] = _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
        out[1] = _mm256_castsi256_ps(_mm256_and_si256(u, high));
    } else if (t == DT_F16) {
        __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        u = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(u, order), 0xd8);
        out[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(u));
        out[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(u, 1));
    } else {
        out[0] = x;
    }
}
static INLINE void v_of_units(Dtype t, v16 x, v16 out[4])
{
    __m256 lo[4], hi[4];
    of_units8(t, x.lo, lo);
    of_units8(t, x.hi, hi);
    UNROLL
    for (int i = 0; i < 4 / type_size(t); i++) out[i] = (v16){lo[i], hi[i]};
}

/* Which rows have a code that is no number: most holds, byte by byte, the largest code of each so far, without its sign. */
static INLINE __m256 f8_most8(__m256 most, __m256 x)
{
    __m256i code = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi8(0x7f));
    return _mm256_castsi256_ps(_mm256_max_epu8(_mm256_castps_si256(most), code));
}
static INLINE v16 f8_most(v16 most, v16 x) { return (v16){f8_most8(most.lo, x.lo), f8_most8(most.hi, x.hi)}; }
/* x with NaN in those rows */
static INLINE __m256 f8_mend8(__m256 most, __m256 x)
{
    __m256i full = _mm256_cmpeq_epi8(_mm256_castps_si256(most), _mm256_set1_epi8(0x7f)), none = _mm256_setzero_si256();
    return _mm256_blendv_ps(_mm256_set1_ps(NAN), x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(full, none)));
}
static INLINE v16 f8_mend(v16 most, v16 x) { return (v16){f8_mend8(most.lo, x.lo), f8_mend8(most.hi, x.hi)}; }

/* ---- sixteen words of 32 bits ---- */
typedef struct w16 {
    __m256i lo, hi;
} w16;

static INLINE w16 w_zero(void) { return (w16){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static INLINE w16 w_set(int32_t x) { return (w16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static INLINE w16 w_load(const void *p) { return (w16){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)}; }
static INLINE void w_store(void *p, w16 x)
{
    _mm256_storeu_si256(p, x.lo);
    _mm256_storeu_si256((__m256i *)p + 1, x.hi);
}
static INLINE w16 w_and(w16 a, w16 b) { return (w16){_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
static INLINE w16 w_or(w16 a, w16 b) { return (w16){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
static INLINE w16 w_xor(w16 a, w16 b) { return (w16){_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
static INLINE w16 w_shl(w16 x, int n) { return (w16){_mm256_slli_epi32(x.lo, n), _mm256_slli_epi32(x.hi, n)}; }
static INLINE w16 w_shr(w16 x, int n) { return (w16){_mm256_srli_epi32(x.lo, n), _mm256_srli_epi32(x.hi, n)}; }
/* the number of 16 bits at p times x; two bytes behind it are read, too */
static INLINE w16 w_set_times(const void *p, int x)
{
    int32_t both;
    memcpy(&both, p, sizeof both);
    __m256i y = _mm256_madd_epi16(_mm256_set1_epi32(both), _mm256_set1_epi32(x & 0xffff));
    return (w16){y, y};
}
static INLINE w16 w_add(w16 a, w16 b) { return (w16){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
static INLINE w16 w_mul(w16 a, w16 b) { return (w16){_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
static INLINE w16 w_max(w16 a, w16 b) { return (w16){_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)}; } /* signed */
static INLINE w16 w_add_bytes(w16 a, w16 b) { return (w16){_mm256_add_epi8(a.lo, b.lo), _mm256_add_epi8(a.hi, b.hi)}; }
static INLINE w16 w_sub_bytes(w16 a, w16 b) { return (w16){_mm256_sub_epi8(a.lo, b.lo), _mm256_sub_epi8(a.hi, b.hi)}; }
/* every byte of i, 0 to 15, as the table's */
static INLINE w16 w_lookup(const uint8_t table[16], w16 i)
{
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));
    return (w16){_mm256_shuffle_epi8(t, i.lo), _mm256_shuffle_epi8(t, i.hi)};
}
/* each four words' bytes by their places; 255: 0 */
static INLINE w16 w_shuffle(w16 x, const uint8_t from[16])
{
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)from));
    return (w16){_mm256_shuffle_epi8(x.lo, t), _mm256_shuffle_epi8(x.hi, t)};
}
static INLINE v16 w_float(w16 x) { return (v16){_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)}; }
static INLINE w16 w_bits(v16 x) { return (w16){_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)}; }
static INLINE w16 w_round(v16 x) { return (w16){_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}; } /* halves to even */
/* the low half of each word */
static INLINE __m128i halves8(__m256i x)
{
    __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    return _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}
static INLINE void w_store_halves(void *p, w16 x)
{
    _mm_storeu_si128(p, halves8(x.lo));
    _mm_storeu_si128((__m128i *)p + 1, halves8(x.hi));
}
/* as an f16 */
static INLINE v16 w_half(w16 x) { return (v16){_mm256_cvtph_ps(halves8(x.lo)), _mm256_cvtph_ps(halves8(x.hi))}; }
/* sixteen pairs of words at p: the first of each, the second of each */
static INLINE void pairs8(const void *p, __m256i *first, __m256i *second)
{
    __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps((const float *)p + 8);
    *first = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)), 0xd8);
    *second = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8);
}
static INLINE void w_pairs(const void *p, w16 out[2])
{
    pairs8(p, &out[0].lo, &out[1].lo);
    pairs8((const char *)p + 64, &out[0].hi, &out[1].hi);
}
static INLINE int32_t w_sum(w16 x)
{
    __m256i y = _mm256_add_epi32(x.lo, x.hi);
    __m128i z = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    z = _mm_add_epi32(z, _mm_shuffle_epi32(z, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(z, _mm_shuffle_epi32(z, 0xb1)));
}
static INLINE int32_t w_largest(w16 x)
{
    __m256i y = _mm256_max_epi32(x.lo, x.hi);
    __m128i z = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    z = _mm_max_epi32(z, _mm_shuffle_epi32(z, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(z, _mm_shuffle_epi32(z, 0xb1)));
}
static INLINE w16 w_largests(const w16 x[4])
{
    __m256i y[4], ab, cd;
    UNROLL
    for (int i = 0; i < 4; i++) y[i] = _mm256_max_epi32(x[i].lo, x[i].hi);
    ab = _mm256_max_epi32(_mm256_unpacklo_epi32(y[0], y[1]), _mm256_unpackhi_epi32(y[0], y[1]));
    cd = _mm256_max_epi32(_mm256_unpacklo_epi32(y[2], y[3]), _mm256_unpackhi_epi32(y[2], y[3]));
    ab = _mm256_max_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    return (w16){_mm256_zextsi128_si256(_mm_max_epi32(_mm256_castsi256_si128(ab), _mm256_extracti128_si256(ab, 1))), _mm256_setzero_si256()};
}
/* a bit for every lane above x, with signs */
static INLINE uint32_t w_above(w16 a, int32_t x)
{
    __m256i v = _mm256_set1_epi32(x);
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.lo, v))) |
           (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.hi, v))) << 8;
}
/* the low byte of each word, which has no more than a byte with a sign */
static INLINE void w_store_bytes(void *p, w16 x)
{
    __m256i pairs = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.lo, x.hi), 0xd8);
    _mm_storeu_si128(p, _mm_packs_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1)));
}
/* four bytes at p of each of 16 rows, `row` bytes apart; row < 2^27 */
static INLINE w16 w_word(const uint8_t *p, int64_t row)
{
    __m256i at = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((int)row));
    return (w16){_mm256_i32gather_epi32((const void *)p, at, 1), _mm256_i32gather_epi32((const void *)(p + 8 * row), at, 1)};
}
/* The four bytes of each word of x are columns 4 j to 4 j + 3 of a group; where that bit of `signs` is set, u becomes twice - u. */
static INLINE __m256i flip8(__m256i u, __m256i signs, int j, int twice)
{
    __m128i from = _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12), _mm_set1_epi8((char)(j / 2)));
    __m256i bit = _mm256_set1_epi32(j % 2 ? (int)0x80402010 : 0x08040201);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(signs, _mm256_broadcastsi128_si256(from)), bit), bit);
    return _mm256_add_epi8(_mm256_xor_si256(u, set), _mm256_and_si256(set, _mm256_set1_epi8((char)(twice + 1)))); /* -u = ~u + 1 */
}
static INLINE w16 w_flip(w16 u, w16 signs, int j, int twice)
{
    return (w16){flip8(u.lo, signs.lo, j, twice), flip8(u.hi, signs.hi, j, twice)};
}
/* sixteen bytes at p of each of 16 rows: out[j] holds word j of every row */
static INLINE void w_rows8(const uint8_t *p, int64_t row, __m256 x[4])
{
    UNROLL
    for (int i = 0; i < 4; i++)
        x[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const void *)(p + i * row))), _mm_loadu_ps((const void *)(p + (4 + i) * row)), 1);
    lanes_transpose(x);
}
static INLINE void w_rows(const uint8_t *p, int64_t row, w16 out[4])
{
    __m256 lo[4], hi[4];
    w_rows8(p, row, lo);
    w_rows8(p + 8 * row, row, hi);
    UNROLL
    for (int j = 0; j < 4; j++) out[j] = (w16){_mm256_castps_si256(lo[j]), _mm256_castps_si256(hi[j])};
}

/* acc + the products of four bytes each, u without and x with a sign.  w_dot: u is at most 127. */
#ifdef __AVXVNNI__
static INLINE w16 w_dot(w16 acc, w16 u, w16 x)
{
    return (w16){_mm256_dpbusd_avx_epi32(acc.lo, u.lo, x.lo), _mm256_dpbusd_avx_epi32(acc.hi, u.hi, x.hi)};
}
enum { WIDE_LIFT = 128 };
static INLINE w16 w_dot_wide(w16 acc, w16 u, w16 x) { return w_dot(acc, u, x); }
#else
static INLINE __m256i dot8(__m256i acc, __m256i u, __m256i x)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, x), _mm256_set1_epi16(1)));
}
static INLINE w16 w_dot(w16 acc, w16 u, w16 x) { return (w16){dot8(acc.lo, u.lo, x.lo), dot8(acc.hi, u.hi, x.hi)}; }
static INLINE __m256i dot8_wide(__m256i acc, __m256i u, __m256i x) /* the sign goes to x: a pair's sum fits into 16 bits */
{
    __m256i v = _mm256_xor_si256(u, _mm256_set1_epi8((char)128));
    return dot8(acc, _mm256_abs_epi8(v), _mm256_sign_epi8(x, v));
}
enum { WIDE_LIFT = 0 };
static INLINE w16 w_dot_wide(w16 acc, w16 u, w16 x) { return (w16){dot8_wide(acc.lo, u.lo, x.lo), dot8_wide(acc.hi, u.hi, x.hi)}; }
#endif

/* ---- words as pairs of 16-bit integers: as vec_avx512.h ---- */
static INLINE w16 w_load_pairs(const void *p)
{
    return (w16){_mm256_cvtepi8_epi16(_mm_loadu_si128(p)), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p + 1))};
}
static INLINE w16 w_dot_pairs(w16 acc, w16 x, w16 y)
{
    return (w16){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(x.lo, y.lo)), _mm256_add_epi32(acc.hi, _mm256_madd_epi16(x.hi, y.hi))};
}
static INLINE w16 w_firsts(w16 x, w16 y)
{
    return (w16){_mm256_blend_epi16(x.lo, _mm256_slli_epi32(y.lo, 16), 0xaa), _mm256_blend_epi16(x.hi, _mm256_slli_epi32(y.hi, 16), 0xaa)};
}
static INLINE w16 w_seconds(w16 x, w16 y)
{
    return (w16){_mm256_blend_epi16(y.lo, _mm256_srli_epi32(x.lo, 16), 0x55), _mm256_blend_epi16(y.hi, _mm256_srli_epi32(x.hi, 16), 0x55)};
}
static INLINE w16 w_low_bytes(w16 x)
{
    return (w16){_mm256_srai_epi16(_mm256_slli_epi16(x.lo, 8), 8), _mm256_srai_epi16(_mm256_slli_epi16(x.hi, 8), 8)};
}
static INLINE w16 w_high_bytes(w16 x) { return (w16){_mm256_srai_epi16(x.lo, 8), _mm256_srai_epi16(x.hi, 8)}; }

/* ---- words as four bytes with signs: as vec_avx512.h ---- */
#ifdef __AVXVNNI__
enum { BYTES_LIFT = 128 };
static INLINE w16 w_bytes(const void *p) { return w_xor(w_load(p), w_set((int)0x80808080)); }
static INLINE w16 w_dot_bytes(w16 acc, w16 x, w16 y) { return w_dot(acc, x, y); }
#else
enum { BYTES_LIFT = 0 };
static INLINE w16 w_bytes(const void *p) { return w_load(p); }
static INLINE w16 w_dot_bytes(w16 acc, w16 x, w16 y)
{
    w16 size = {_mm256_abs_epi8(x.lo), _mm256_abs_epi8(x.hi)}, turned = {_mm256_sign_epi8(y.lo, x.lo), _mm256_sign_epi8(y.hi, x.hi)};
    return w_dot(acc, size, turned);
}
#endif

#endif
