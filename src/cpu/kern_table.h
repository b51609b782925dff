/* Every family, compiled for the ISA whose vec_*.h came before, and what it puts into the table. */
#ifndef AHA_CPU_KERN_TABLE_H
#define AHA_CPU_KERN_TABLE_H

#include "kern_attn_back.h"
#ifdef DOT_MR /* the ISA spells integers */
#include "kern_dot.h"
#define VEC_DOT(X) X(act) X(dot)
#else
#define VEC_DOT(X)
#endif
#include "kern_gemm.h"
#include "kern_rows.h"

#define VEC_KERNELS(X)                                                                                                \
    X(gemm) VEC_DOT(X) X(attn) X(attn_delta) X(attn_back_q) X(attn_back_kv) X(rmsnorm) X(rmsnorm_back_x) X(rmsnorm_back_gain) \
    X(add) X(col_sum) X(rope) X(swiglu) X(swiglu_back) X(combine) X(combine_back) X(xent) X(xent_back)

void VEC_NAME1(kernels_init, VEC_ISA)(Kernels *k)
{
#define X(name) k->name = VEC_NAME1(name, VEC_ISA);
    VEC_KERNELS(X)
#undef X
}

#endif
