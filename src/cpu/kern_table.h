/* Which kernels each family has, and an ISA's row of them.  A family is compiled for an ISA as an object of its own (x86/, arm/:
 * <isa>_<family>.c), so that they are compiled side by side and again only when they change. */
#ifndef AHA_CPU_KERN_TABLE_H
#define AHA_CPU_KERN_TABLE_H

#include "cpu.h"

#define KERN_GEMM(X, isa) X(gemm, isa)
#define KERN_ROWS(X, isa)                                                                                             \
    X(rmsnorm, isa) X(rmsnorm_back_x, isa) X(rmsnorm_back_gain, isa) X(add, isa) X(col_sum, isa) X(rope, isa) X(swiglu, isa)         \
    X(swiglu_back, isa) X(combine, isa) X(combine_back, isa) X(attn_delta, isa) X(xent, isa) X(xent_back, isa)
#define KERN_ATTN(X, isa) X(attn, isa)
#define KERN_ATTN_BACK(X, isa) X(attn_back_q, isa) X(attn_back_kv, isa)
#define KERN_DOT(X, isa) X(act, isa) X(dot, isa)

#define KERN_ALL(X, isa) KERN_GEMM(X, isa) KERN_ROWS(X, isa) KERN_ATTN(X, isa) KERN_ATTN_BACK(X, isa) KERN_DOT(X, isa)
#define KERN_INTEGERS(X, isa) KERN_ATTN(X, isa) KERN_DOT(X, isa)

#define KERN_DECLARE(name, isa) KernelFn name##_##isa;
#define KERN_PUT(name, isa) k->name = name##_##isa;
/* void kernels_init_<isa>(k): what the ISA does better than those before it */
#define KERNELS_INIT(isa, FAMILIES)                                                                                   \
    FAMILIES(KERN_DECLARE, isa)                                                                                       \
    void kernels_init_##isa(Kernels *k) { FAMILIES(KERN_PUT, isa) }

#endif
