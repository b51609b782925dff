/* Products with 8-bit activations for AVX-512 VNNI. */
#define VEC_ISA avx512vnni
#include "../vec_avx512.h"

#include "../kern_dot.h"
