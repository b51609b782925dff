/* What the vector headers share.  A kernel family (kern_*.h) is written once over v16, a vector of sixteen floats, and
 * compiled by each ISA's file with its own vec_<isa>.h: the lanes are fixed by tensor/kernels.h, so every ISA adds in the
 * same order and gives the reference's bits. */
#ifndef AHA_CPU_VEC_H
#define AHA_CPU_VEC_H

#include "ref.h"

#define INLINE inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#define VEC_NAME2(name, isa) name##_##isa
#define VEC_NAME1(name, isa) VEC_NAME2(name, isa)
/* void <name>_<isa>(args, i0, i1, scratch), which kern_table.h declares */
#define KERNEL(name) void VEC_NAME1(name, VEC_ISA)(const void *args, int64_t i0, int64_t i1, void *scratch)

/* bytes of an element of the types whose elements have an address */
static INLINE int type_size(Dtype t) { return t == DT_F32 ? 4 : t == DT_F8_E4M3 ? 1 : 2; }
#define F8_LARGE 0x1p120f /* what brings the vector headers' f8_small to its values */

static INLINE void *align64(void *p) { return (void *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

#endif
