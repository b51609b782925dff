/* How the loops of Peak (cpu.h) are written: ten independent chains, enough to fill every unit.  Results are wanted, or nothing would
 * be computed. */
#ifndef AHA_CPU_PEAK_H
#define AHA_CPU_PEAK_H

#include "cpu.h"

/* start(n), step(s) and sum(s) are macros of each ISA */
#define PEAK_CHAINS(Vec, start, step, sum)                                                                             \
    Vec s0 = start(0), s1 = start(1), s2 = start(2), s3 = start(3), s4 = start(4), s5 = start(5), s6 = start(6);       \
    Vec s7 = start(7), s8 = start(8), s9 = start(9);                                                                   \
    for (int i = 0; i < rounds; i++) {                                                                                 \
        s0 = step(s0), s1 = step(s1), s2 = step(s2), s3 = step(s3), s4 = step(s4), s5 = step(s5), s6 = step(s6);       \
        s7 = step(s7), s8 = step(s8), s9 = step(s9);                                                                   \
    }                                                                                                                  \
    *out += sum(s0) + sum(s1) + sum(s2) + sum(s3) + sum(s4) + sum(s5) + sum(s6) + sum(s7) + sum(s8) + sum(s9)
enum { PEAK_N_CHAINS = 10 };

/* Two streams of vectors of 64 bytes, a KiB ahead: the fastest of 1 to 16 streams here (28.2 GB/s; one linear stream 20.4, eight
 * 25.3, two without asking ahead 28.0 to 25.2; EPYC of Zen 4, two threads, 2026-11-26). */
#define PEAK_READ(p, n)                                                                                                \
    typedef uint64_t Line __attribute__((vector_size(64)));                                                            \
    const Line *x = (p), *y = x + (n) / 2 / sizeof *x;                                                                 \
    Line        a = {0}, b = {0};                                                                                      \
    for (size_t i = 0; i < (n) / 2 / sizeof *x; i++) {                                                                 \
        a += x[i];                                                                                                     \
        b += y[i];                                                                                                     \
        __builtin_prefetch(x + i + 16);                                                                                \
        __builtin_prefetch(y + i + 16);                                                                                \
    }                                                                                                                  \
    a += b;                                                                                                            \
    return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7]

void peak_x86(Peak *p, const char *isa); /* x86/peak.c: what it knows better than plain C */
void peak_arm(Peak *p, const char *isa); /* arm/peak.c */

#endif
