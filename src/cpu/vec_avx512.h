/* v16, sixteen floats, as one zmm register.  vec_avx2.h spells the same operations for two ymm registers. */
#ifndef AHA_CPU_VEC_AVX512_H
#define AHA_CPU_VEC_AVX512_H

#include <immintrin.h>

#include "vec.h"

#ifndef VEC_ISA
#define VEC_ISA avx512
#endif
/* 24 accumulators, 2 of B, 1 of A: 27 of 32 registers */
#define GEMM_MR 12
#define GEMM_NV 2
/* integers: 12 sums, as many of floats, 2 of B, 1 of A */
#define DOT_MR 6
#define DOT_NV 2
#define DOT_FEW 4 /* rows of A that take weights from registers */

typedef __m512    v16;
typedef __mmask16 m16;

static INLINE m16 m_first(int n) { return (m16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }

static INLINE v16 v_zero(void) { return _mm512_setzero_ps(); }
static INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
static INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
static INLINE v16 v_load_m(const float *p, m16 m) { return _mm512_maskz_loadu_ps(m, p); }
static INLINE void v_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
static INLINE void v_store_m(float *p, m16 m, v16 x) { _mm512_mask_storeu_ps(p, m, x); }
static INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static INLINE v16 v_neg(v16 a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
static INLINE v16 v_xor(v16 a, v16 b) { return _mm512_xor_ps(a, b); }
/* lanes 1,0,3,2,... */
static INLINE v16 v_swap(v16 x) { return _mm512_permute_ps(x, 0xb1); }
/* lanes 0,0,1,1,...,7,7 */
static INLINE v16 v_twice(v16 x)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), x);
}
/* x > m ? x : m: a NaN in x leaves m, as the references' comparison does */
static INLINE v16 v_max(v16 x, v16 m) { return _mm512_max_ps(x, m); }
static INLINE v16 v_abs(v16 x) { return _mm512_abs_ps(x); }
/* m ? a : b */
static INLINE v16 v_pick(m16 m, v16 a, v16 b) { return _mm512_mask_mov_ps(b, m, a); }

/* lanes 0+8, 1+9, ...; then 4; 2; 1 */
static INLINE float v_sum(v16 x)
{
    __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_add_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
}

/* lanes 0 to 3: the largest lane of each x; none may be NaN */
static INLINE v16 v_tops(const v16 x[4])
{
    __m256 y[4], ab, cd;
    UNROLL
    for (int i = 0; i < 4; i++) y[i] = _mm256_max_ps(_mm512_castps512_ps256(x[i]), _mm512_extractf32x8_ps(x[i], 1));
    ab = _mm256_max_ps(_mm256_unpacklo_ps(y[0], y[1]), _mm256_unpackhi_ps(y[0], y[1]));
    cd = _mm256_max_ps(_mm256_unpacklo_ps(y[2], y[3]), _mm256_unpackhi_ps(y[2], y[3]));
    ab = _mm256_max_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    return _mm512_zextps128_ps512(_mm_max_ps(_mm256_castps256_ps128(ab), _mm256_extractf128_ps(ab, 1)));
}

/* the operations of r_exp (tensor/rmath.h), lane by lane */
static INLINE v16 v_exp(v16 x)
{
    v16       xc = _mm512_min_ps(v_set(EXP_HI), x);
    v16       m = v_fma(xc, v_set(EXP_LOG2E), v_set(EXP_MAGIC)), n = v_sub(m, v_set(EXP_MAGIC));
    v16       r = v_fma(n, v_set(-EXP_LN2_LO), v_fma(n, v_set(-EXP_LN2_HI), xc));
    v16       p = v_set(EXP_C0);
    __m512i   bits = _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(m), _mm512_set1_epi32(127)), 23); /* n in m's last bits */
    __mmask16 in = _mm512_cmp_ps_mask(x, v_set(EXP_LO), _CMP_NLT_UQ); /* NaN stays so on its way */
    p = v_fma(p, r, v_set(EXP_C1));
    p = v_fma(p, r, v_set(EXP_C2));
    p = v_fma(p, r, v_set(EXP_C3));
    p = v_fma(p, r, v_set(EXP_C4));
    p = v_fma(p, r, v_set(EXP_C5));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set(1.0f));
    return _mm512_maskz_mul_ps(in, p, _mm512_castsi512_ps(bits));
}

/* Codes of E4M3 in the top bytes of 32-bit units, as floats times 2^-120, exact: the code's seven bits are put where a
 * float has its exponent's and mantissa's last.  The codes 0x7f and 0xff, no numbers, come out as 480 * 2^-120. */
static INLINE v16 f8_small(__m512i top)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_srai_epi32(top, 4), _mm512_set1_epi32((int)0x87f00000u)));
}
/* their values */
static INLINE v16 f8_values(__m512i top)
{
    __mmask16 nan = _mm512_cmpeq_epi32_mask(_mm512_and_si512(top, _mm512_set1_epi32(0x7f000000)), _mm512_set1_epi32(0x7f000000));
    return _mm512_mask_mov_ps(v_mul(f8_small(top), v_set(F8_LARGE)), nan, v_set(NAN));
}

/* sixteen elements from element i of data of type t, as floats */
static INLINE v16 v_load_t(Dtype t, const void *p, int64_t i)
{
    const uint16_t *h = p;
    if (t == DT_F8_E4M3)
        return f8_values(_mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)((const uint8_t *)p + i))), 24));
    if (t == DT_F16) return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(h + i)));
    if (t == DT_BF16)
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(h + i))), 16));
    return v_load((const float *)p + i);
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
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
/* the first n of them, the rest 0 */
static INLINE v16 v_load_tn(Dtype t, const void *p, int64_t i, int n)
{
    const uint16_t *h = p;
    m16             m = m_first(n);
    if (t == DT_F8_E4M3)
        return f8_values(_mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, (const uint8_t *)p + i)), 24));
    if (t == DT_F16) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, h + i));
    if (t == DT_BF16)
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, h + i)), 16));
    return v_load_m((const float *)p + i, m);
}

/* Four 4x4 transposes side by side: x[i] holds in lane L four columns of row 4L+i; afterwards x[j] holds column j of all
 * sixteen rows. */
static INLINE void lanes_transpose(__m512 x[4])
{
    __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(x[0], x[1])), b = _mm512_castps_pd(_mm512_unpacklo_ps(x[2], x[3]));
    __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(x[0], x[1])), d = _mm512_castps_pd(_mm512_unpackhi_ps(x[2], x[3]));
    x[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    x[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    x[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
    x[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
}

/* four 32-bit units of row r (rows are `bytes` apart), in the lanes: rows r, r+4, r+8, r+12 */
static INLINE __m512 lanes_load(const char *p, int64_t bytes)
{
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps((const void *)p));
    /* a masked broadcast from memory is a load and a blend: an insert takes one of the two ports that shuffle */
    x = _mm512_mask_broadcast_f32x4(x, 0x00f0, _mm_loadu_ps((const void *)(p + 4 * bytes)));
    x = _mm512_mask_broadcast_f32x4(x, 0x0f00, _mm_loadu_ps((const void *)(p + 8 * bytes)));
    return _mm512_mask_broadcast_f32x4(x, 0xf000, _mm_loadu_ps((const void *)(p + 12 * bytes)));
}

/* 64 bytes of each of sixteen rows that are `bytes` apart: x[i] holds the i-th 32-bit unit of every row.  A line is loaded
 * once and whole: rows that lie a multiple of 4 KiB apart share a set of the first cache, which holds 8 of them. */
static INLINE void v_units(const char *p, int64_t bytes, v16 x[16])
{
    UNROLL
    for (int r = 0; r < 16; r++, p += bytes) x[r] = v_load((const void *)p); /* p + r * bytes: sixteen offsets in memory */
    UNROLL
    for (int i = 0; i < 4; i++) { /* rows to lanes: afterwards x[4c + i] has in lane L units 4c to 4c + 3 of row 4L + i */
        __m512 a = _mm512_shuffle_f32x4(x[i], x[4 + i], 0x44), b = _mm512_shuffle_f32x4(x[8 + i], x[12 + i], 0x44);
        __m512 d = _mm512_shuffle_f32x4(x[i], x[4 + i], 0xee), e = _mm512_shuffle_f32x4(x[8 + i], x[12 + i], 0xee);
        x[i] = _mm512_shuffle_f32x4(a, b, 0x88);
        x[4 + i] = _mm512_shuffle_f32x4(a, b, 0xdd);
        x[8 + i] = _mm512_shuffle_f32x4(d, e, 0x88);
        x[12 + i] = _mm512_shuffle_f32x4(d, e, 0xdd);
    }
    UNROLL
    for (int c = 0; c < 4; c++) lanes_transpose(x + 4 * c);
}

/* The elements of units of type t as floats, in order: 4 / type_size(t) of them.  Of F8 times 2^-120, and see f8_small: two
 * codes are moved by one shift, of the upper bytes of both halves or of the lower ones. */
static INLINE void v_of_units(Dtype t, v16 x, v16 out[4])
{
    __m512i u = _mm512_castps_si512(x), high = _mm512_set1_epi32((int)0xffff0000u);
    if (t == DT_F8_E4M3) {
        __m512i code = _mm512_set1_epi32((int)0x87f00000u), odd = _mm512_srai_epi16(u, 4);
        __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(u, 8), 4);
        out[0] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32(even, 16), code));
        out[1] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32(odd, 16), code));
        out[2] = _mm512_castsi512_ps(_mm512_and_si512(even, code));
        out[3] = _mm512_castsi512_ps(_mm512_and_si512(odd, code));
    } else if (t == DT_BF16) {
        out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
        out[1] = _mm512_castsi512_ps(_mm512_and_si512(u, high));
    } else if (t == DT_F16) {
        static const uint16_t order[32] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                           1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
        u = _mm512_permutexvar_epi16(_mm512_loadu_si512(order), u);
        out[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(u));
        out[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(u, 1));
    } else {
        out[0] = x;
    }
}

/* Which rows have a code that is no number: most holds, byte by byte, the largest code of each so far, without its sign. */
static INLINE v16 f8_most(v16 most, v16 x)
{
    __m512i code = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi8(0x7f));
    return _mm512_castsi512_ps(_mm512_max_epu8(_mm512_castps_si512(most), code));
}
/* x with NaN in those rows */
static INLINE v16 f8_mend(v16 most, v16 x)
{
    __m512i full = _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(_mm512_castps_si512(most), _mm512_set1_epi8(0x7f)));
    return _mm512_mask_mov_ps(x, _mm512_test_epi32_mask(full, full), v_set(NAN));
}

/* ---- sixteen words of 32 bits ---- */
typedef __m512i w16;

static INLINE w16 w_zero(void) { return _mm512_setzero_si512(); }
static INLINE w16 w_set(int32_t x) { return _mm512_set1_epi32(x); }
static INLINE w16 w_load(const void *p) { return _mm512_loadu_si512(p); }
static INLINE void w_store(void *p, w16 x) { _mm512_storeu_si512(p, x); }
static INLINE w16 w_and(w16 a, w16 b) { return _mm512_and_si512(a, b); }
static INLINE w16 w_or(w16 a, w16 b) { return _mm512_or_si512(a, b); }
static INLINE w16 w_xor(w16 a, w16 b) { return _mm512_xor_si512(a, b); }
static INLINE w16 w_shl(w16 x, int n) { return _mm512_slli_epi32(x, (unsigned)n); }
static INLINE w16 w_shr(w16 x, int n) { return _mm512_srli_epi32(x, (unsigned)n); }
/* the number of 16 bits at p times x; two bytes behind it are read, too */
static INLINE w16 w_set_times(const void *p, int x)
{
    int32_t both;
    memcpy(&both, p, sizeof both);
    return _mm512_madd_epi16(_mm512_set1_epi32(both), _mm512_set1_epi32(x & 0xffff));
}
static INLINE w16 w_add(w16 a, w16 b) { return _mm512_add_epi32(a, b); }
static INLINE w16 w_mul(w16 a, w16 b) { return _mm512_mullo_epi32(a, b); }
static INLINE w16 w_max(w16 a, w16 b) { return _mm512_max_epi32(a, b); } /* signed */
static INLINE w16 w_add_bytes(w16 a, w16 b) { return _mm512_add_epi8(a, b); }
static INLINE w16 w_sub_bytes(w16 a, w16 b) { return _mm512_sub_epi8(a, b); }
/* every byte of i, 0 to 15, as the table's */
static INLINE w16 w_lookup(const uint8_t table[16], w16 i)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), i);
}
/* each four words' bytes by their places; 255: 0 */
static INLINE w16 w_shuffle(w16 x, const uint8_t from[16])
{
    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)from)));
}
static INLINE v16 w_float(w16 x) { return _mm512_cvtepi32_ps(x); }
static INLINE w16 w_bits(v16 x) { return _mm512_castps_si512(x); }
static INLINE w16 w_round(v16 x) { return _mm512_cvtps_epi32(x); } /* halves to even */
/* the low half of each word, an f16 */
static INLINE v16 w_half(w16 x) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)); }
static INLINE int32_t w_sum(w16 x) { return _mm512_reduce_add_epi32(x); }
static INLINE int32_t w_largest(w16 x) { return _mm512_reduce_max_epi32(x); }
/* words 0 to 3: the largest of each x */
static INLINE w16 w_largests(const w16 x[4])
{
    __m256i y[4], ab, cd;
    UNROLL
    for (int i = 0; i < 4; i++) y[i] = _mm256_max_epi32(_mm512_castsi512_si256(x[i]), _mm512_extracti64x4_epi64(x[i], 1));
    ab = _mm256_max_epi32(_mm256_unpacklo_epi32(y[0], y[1]), _mm256_unpackhi_epi32(y[0], y[1]));
    cd = _mm256_max_epi32(_mm256_unpacklo_epi32(y[2], y[3]), _mm256_unpackhi_epi32(y[2], y[3]));
    ab = _mm256_max_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    return _mm512_zextsi128_si512(_mm_max_epi32(_mm256_castsi256_si128(ab), _mm256_extracti128_si256(ab, 1)));
}
/* a bit for every lane above x, with signs */
static INLINE uint32_t w_above(w16 a, int32_t x) { return _mm512_cmpgt_epi32_mask(a, _mm512_set1_epi32(x)); }
/* the low byte of each word */
static INLINE void w_store_bytes(void *p, w16 x) { _mm_storeu_si128(p, _mm512_cvtepi32_epi8(x)); }
/* the low half of each word */
static INLINE void w_store_halves(void *p, w16 x) { _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(x)); }
/* sixteen pairs of words at p: the first of each, the second of each */
static INLINE void w_pairs(const void *p, w16 out[2])
{
    __m512i a = w_load(p), b = w_load((const char *)p + 64);
    __m512i first = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    out[0] = _mm512_permutex2var_epi32(a, first, b);
    out[1] = _mm512_permutex2var_epi32(a, _mm512_add_epi32(first, w_set(1)), b);
}
/* four bytes at p of each of 16 rows, `row` bytes apart; row < 2^27 */
static INLINE __m128i four_words(const uint8_t *p, int64_t row)
{
    __m128i a = _mm_unpacklo_epi32(_mm_loadu_si32(p), _mm_loadu_si32(p + row));
    return _mm_unpacklo_epi64(a, _mm_unpacklo_epi32(_mm_loadu_si32(p + 2 * row), _mm_loadu_si32(p + 3 * row)));
}
static INLINE w16 w_word(const uint8_t *p, int64_t row) /* a gather takes three times as long on some processors */
{
    __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(four_words(p, row)), four_words(p + 4 * row, row), 1);
    __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(four_words(p + 8 * row, row)), four_words(p + 12 * row, row), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
/* The four bytes of each word of x are columns 4 j to 4 j + 3 of a group; where that bit of `signs` is set, u becomes twice - u. */
static INLINE w16 w_flip(w16 u, w16 signs, int j, int twice)
{
    __m128i from = _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12), _mm_set1_epi8((char)(j / 2)));
    w16     byte = _mm512_shuffle_epi8(signs, _mm512_broadcast_i32x4(from));
    return _mm512_mask_sub_epi8(u, _mm512_test_epi8_mask(byte, _mm512_set1_epi32(j % 2 ? (int)0x80402010 : 0x08040201)), _mm512_set1_epi8((char)twice), u);
}
/* sixteen bytes at p of each of 16 rows: out[j] holds word j of every row */
static INLINE void w_rows(const uint8_t *p, int64_t row, w16 out[4])
{
    __m512 x[4];
    UNROLL
    for (int i = 0; i < 4; i++) x[i] = lanes_load((const char *)p + i * row, row);
    lanes_transpose(x);
    UNROLL
    for (int j = 0; j < 4; j++) out[j] = _mm512_castps_si512(x[j]);
}

/* acc + the products of four bytes each, u without and x with a sign, which is not -128.  w_dot: u is at most 127.  w_dot_wide: u is what
 * has a sign plus 128, of which the products count WIDE_LIFT. */
#ifdef __AVX512VNNI__
static INLINE w16 w_dot(w16 acc, w16 u, w16 x) { return _mm512_dpbusd_epi32(acc, u, x); }
enum { WIDE_LIFT = 128 };
static INLINE w16 w_dot_wide(w16 acc, w16 u, w16 x) { return _mm512_dpbusd_epi32(acc, u, x); }
#else
static INLINE w16 w_dot(w16 acc, w16 u, w16 x)
{
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(u, x), _mm512_set1_epi16(1)));
}
enum { WIDE_LIFT = 0 };
static INLINE w16 w_dot_wide(w16 acc, w16 u, w16 x) /* the sign goes to x: a pair's sum fits into 16 bits */
{
    w16 v = _mm512_xor_si512(u, _mm512_set1_epi8((char)128));
    return w_dot(acc, _mm512_abs_epi8(v), _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(v), _mm512_setzero_si512(), x));
}
#endif

#ifdef __AVX512VBMI__
/* ---- bits and bytes by number ---- */
#define W_FIELDS
typedef __mmask64 b64; /* a bit a byte */
/* Fields `step` apart from bit `at` of each word on: one in the low bits of each byte, above its `bits` anything.  Fields may lie before or
 * behind the word: those are anything. */
static INLINE w16 w_fields(w16 x, int at, int step, int bits)
{
    uint64_t from = 0;
    (void)bits;
    UNROLL
    for (int i = 0; i < 8; i++) from |= (uint64_t)((32 * (i / 4) + at + step * (i % 4)) & 63) << 8 * i;
    return _mm512_multishift_epi64_epi8(_mm512_set1_epi64((int64_t)from), x);
}
/* the lower half of each word of `low`, the upper of `up` */
static INLINE w16 w_upper_from(w16 up, w16 low) { return _mm512_mask_mov_epi16(low, 0xaaaaaaaa, up); }
/* of each byte the lowest bits of x, the others of y */
static INLINE w16 w_below(w16 x, int bits, w16 y) { return _mm512_ternarylogic_epi32(x, _mm512_set1_epi8((char)((1 << bits) - 1)), y, 0xe2); }
static INLINE w16 w_shift(w16 x, int up) { return up < 0 ? w_shr(x, -up) : up ? w_shl(x, up) : x; }
/* table[the low 6 bits of each byte] */
static INLINE w16 w_look64(const void *table, w16 i) { return _mm512_permutexvar_epi8(i, w_load(table)); }
typedef struct w16x2 {
    w16 low, high;
} w16x2;
static INLINE w16x2 w_table128(const uint8_t table[128]) { return (w16x2){w_load(table), w_load(table + 64)}; }
/* table[the low 7 bits of each byte]; i itself in bytes that are not in */
static INLINE w16 w_look128(w16x2 t, w16 i) { return _mm512_permutex2var_epi8(t.low, i, t.high); }
static INLINE w16 w_look128_in(w16x2 t, w16 i, b64 in) { return _mm512_mask2_permutex2var_epi8(t.low, i, in, t.high); }
/* bytes 0 and 1 of each word of a, each with b's behind it; or bytes 2 and 3 */
static INLINE w16 w_weave(w16 a, w16 b, int upper)
{
    static const uint32_t LOW[16] = {0x41014000, 0x45054404, 0x49094808, 0x4d0d4c0c, 0x51115010, 0x55155414, 0x59195818, 0x5d1d5c1c, 0x61216020, 0x65256424, 0x69296828, 0x6d2d6c2c, 0x71317030, 0x75357434, 0x79397838, 0x7d3d7c3c};
    return _mm512_permutex2var_epi8(a, w_add_bytes(w_load(LOW), _mm512_set1_epi8(upper ? 2 : 0)), b);
}
/* bytes whose bit 7 is set; which are x */
static INLINE b64 w_tops(w16 x) { return _mm512_movepi8_mask(x); }
static INLINE b64 w_bytes_are(w16 i, int x) { return _mm512_cmpeq_epi8_mask(i, _mm512_set1_epi8((char)x)); }
/* bit 7 of each byte of low, and over it those of high from bit 0 on: `bits` in all */
static INLINE w16 w_above_7(w16 low, w16 high, int bits)
{
    w16 all = _mm512_ternarylogic_epi32(_mm512_set1_epi8(1), _mm512_srli_epi16(low, 7), w_add_bytes(high, high), 0xca);
    return w_and(all, _mm512_set1_epi8((char)((1 << bits) - 1)));
}
#endif

/* ---- words as pairs of 16-bit integers ---- */
/* 32 numbers of 8 bits */
static INLINE w16 w_load_pairs(const void *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(p)); }
/* acc plus the two products of each pair */
static INLINE w16 w_dot_pairs(w16 acc, w16 x, w16 y)
{
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(acc, x, y);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(x, y));
#endif
}
/* pairs of the first, or second, of each pair in x and the same in y.  Zen 4 moves under a mask where it multiplies, and bits anywhere. */
static INLINE w16 w_firsts(w16 x, w16 y) { return _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xffff), x, _mm512_slli_epi32(y, 16), 0xca); }
static INLINE w16 w_seconds(w16 x, w16 y) { return _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xffff), _mm512_srli_epi32(x, 16), y, 0xca); }
/* the low, or high, byte of each number, with its sign */
static INLINE w16 w_low_bytes(w16 x) { return _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8); }
static INLINE w16 w_high_bytes(w16 x) { return _mm512_srai_epi16(x, 8); }

/* ---- words as four bytes with signs ---- a first factor at p; acc plus its products with y, no byte of which is -128.  The first
 * factor's bytes count BYTES_LIFT too much */
#ifdef __AVX512VNNI__
enum { BYTES_LIFT = 128 };
static INLINE w16 w_bytes(const void *p) { return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8((char)0x80)); }
static INLINE w16 w_dot_bytes(w16 acc, w16 x, w16 y) { return _mm512_dpbusd_epi32(acc, x, y); }
#else
enum { BYTES_LIFT = 0 };
static INLINE w16 w_bytes(const void *p) { return _mm512_loadu_si512(p); }
static INLINE w16 w_dot_bytes(w16 acc, w16 x, w16 y)
{
    return w_dot(acc, _mm512_abs_epi8(x), _mm512_mask_sub_epi8(y, _mm512_movepi8_mask(x), _mm512_setzero_si512(), y));
}
#endif

#endif
