/* The loops of peak.h for AVX2, AVX-512 and their instructions for bytes.  One file, compiled for any processor: each function
 * names what it needs. */
#include "../peak.h"

#include <immintrin.h>
#include <string.h>

#define TARGET(isa) __attribute__((target(isa))) static

/* ---- f32 ---- */
#define START_256(n) _mm256_set1_ps(n)
#define STEP_256(s) _mm256_fmadd_ps(s, a, b)
#define SUM_256(s) _mm256_cvtss_f32(s)
TARGET("avx2,fma") void fma_avx2(int rounds, float *out)
{
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.5f);
    PEAK_CHAINS(__m256, START_256, STEP_256, SUM_256);
}

#define START_512(n) _mm512_set1_ps(n)
#define STEP_512(s) _mm512_fmadd_ps(s, a, b)
#define SUM_512(s) _mm512_cvtss_f32(s)
TARGET("avx512f") void fma_avx512(int rounds, float *out)
{
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.5f);
    PEAK_CHAINS(__m512, START_512, STEP_512, SUM_512);
}

/* ---- bytes ---- without VNNI three instructions: products of pairs, sums of pairs, the sum */
#define START_256I(n) _mm256_set1_epi32(n)
#define SUM_256I(s) (uint32_t)_mm256_extract_epi32(s, 0)
#define STEP_MADDUBS_256(s) _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, s), ones))
TARGET("avx2") void dot8_avx2(int rounds, uint32_t *out)
{
    const __m256i a = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    PEAK_CHAINS(__m256i, START_256I, STEP_MADDUBS_256, SUM_256I);
}

#define START_512I(n) _mm512_set1_epi32(n)
#define SUM_512I(s) (uint32_t)_mm_cvtsi128_si32(_mm512_castsi512_si128(s))
#define STEP_MADDUBS_512(s) _mm512_add_epi32(s, _mm512_madd_epi16(_mm512_maddubs_epi16(a, s), ones))
TARGET("avx512f,avx512bw") void dot8_avx512(int rounds, uint32_t *out)
{
    const __m512i a = _mm512_set1_epi8(3), ones = _mm512_set1_epi16(1);
    PEAK_CHAINS(__m512i, START_512I, STEP_MADDUBS_512, SUM_512I);
}

#define STEP_VNNI_256(s) _mm256_dpbusd_avx_epi32(s, a, b)
TARGET("avx2,avxvnni") void dot8_avxvnni(int rounds, uint32_t *out)
{
    const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-5);
    PEAK_CHAINS(__m256i, START_256I, STEP_VNNI_256, SUM_256I);
}

#define STEP_VNNI_512(s) _mm512_dpbusd_epi32(s, a, b)
TARGET("avx512f,avx512vnni") void dot8_avx512vnni(int rounds, uint32_t *out)
{
    const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
    PEAK_CHAINS(__m512i, START_512I, STEP_VNNI_512, SUM_512I);
}

/* ---- memory ---- */
TARGET("avx2") uint64_t read_avx2(const void *p, size_t n) { PEAK_READ(p, n); }
TARGET("avx512f") uint64_t read_avx512(const void *p, size_t n) { PEAK_READ(p, n); }

/* what the names of the tables have in common says which registers and which instruction (cpu.c) */
void peak_x86(Peak *p, const char *isa)
{
    bool wide = !strncmp(isa, "avx512", 6), vnni = strstr(isa, "vnni") || strstr(isa, "vbmi");
    int  lanes = wide ? 16 : 8;
    if (strncmp(isa, "avx", 3) != 0) return;
    p->fma_ops = 2 * lanes * PEAK_N_CHAINS;
    p->dot8_ops = 8 * lanes * PEAK_N_CHAINS;
    p->dot8_name = vnni ? "vpdpbusd" : "vpmaddubsw";
    p->fma = wide ? fma_avx512 : fma_avx2;
    p->dot8 = wide ? vnni ? dot8_avx512vnni : dot8_avx512 : vnni ? dot8_avxvnni : dot8_avx2;
    p->read = wide ? read_avx512 : read_avx2;
}
