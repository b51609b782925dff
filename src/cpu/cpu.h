/* cpu: the kernel table filled for this processor.  Plain C fills every entry (ref_*.c); each ISA's file overwrites what
 * it does better, oldest first. */
#ifndef AHA_CPU_CPU_H
#define AHA_CPU_CPU_H

#include "../base/base.h"
#include "../tensor/kernels.h"

/* The ISAs that this build has kernels for, oldest first, "ref" always; NULL ends them. */
extern const char *const CPU_NAMES[];
/* The table for this processor; mask, one of CPU_NAMES, is the newest ISA allowed, NULL or "" the best.  NULL with an error
 * for an unknown name or one that this processor lacks.  The tables live as long as the program. */
const Kernels *cpu_kernels(const char *mask, aha_error *e);
/* Every table that this processor can run, ref first; returns how many (at most max). */
int cpu_kernels_all(const Kernels **out, int max);

/* ---- the fastest that a processor can be (peak.c) ---- loops that do nothing else: what kernels are measured against */
typedef struct Peak {
    const char *dot8_name;         /* the instruction that multiplies bytes and adds up */
    int         fma_ops, dot8_ops; /* operations a round, a multiplication and an addition being two */
    void      (*fma)(int rounds, float *out); /* multiply-adds in f32, in registers */
    void      (*dot8)(int rounds, uint32_t *out);
    uint64_t  (*read)(const void *p, size_t n); /* n bytes, a multiple of 128, as two streams; p aligned to 64.  A sum of them */
} Peak;

Peak cpu_peak(const Kernels *k); /* of a table's instruction set */

void kernels_init_ref(Kernels *k);
void kernels_init_avx2(Kernels *k);
void kernels_init_avxvnni(Kernels *k);
void kernels_init_avx512(Kernels *k);
void kernels_init_avx512vnni(Kernels *k);
void kernels_init_avx512vbmi(Kernels *k);
void kernels_init_neon(Kernels *k);
void kernels_init_dotprod(Kernels *k);
void kernels_init_i8mm(Kernels *k);

#endif
