/* The loops of peak.h in plain C, and which of them is whose. */
#include "peak.h"

#include <string.h>

#define FMA_START(n) (float)(n)
#define FMA_STEP(s) (s * 0.999f + 0.5f)
#define SUM(s) (s)
static void fma_plain(int rounds, float *out) { PEAK_CHAINS(float, FMA_START, FMA_STEP, SUM); }

#define DOT8_START(n) (uint32_t)(n)
#define DOT8_STEP(s) (s + (uint32_t)((int8_t)s * 3))
static void dot8_plain(int rounds, uint32_t *out) { PEAK_CHAINS(uint32_t, DOT8_START, DOT8_STEP, SUM); }

static uint64_t read_plain(const void *p, size_t n) { PEAK_READ(p, n); }

Peak cpu_peak(const Kernels *k)
{
    Peak p = {"multiplications", 2 * PEAK_N_CHAINS, 2 * PEAK_N_CHAINS, fma_plain, dot8_plain, read_plain};
#if defined(__x86_64__) && !defined(AHA_REAL_DOUBLE)
    peak_x86(&p, k->isa);
#elif defined(__aarch64__) && !defined(AHA_REAL_DOUBLE)
    if (strcmp(k->isa, "ref") != 0) peak_arm(&p, k->isa);
#else
    (void)k;
#endif
    return p;
}
