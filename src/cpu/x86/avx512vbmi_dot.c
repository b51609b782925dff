/* Products with 8-bit activations for AVX-512 VNNI and VBMI. */
#define VEC_ISA avx512vbmi
#include "../vec_avx512.h"

#include "../kern_dot.h"
