/* Products with 8-bit activations for AVX-VNNI. */
#define VEC_ISA avxvnni
#include "../vec_avx2.h"

#include "../kern_dot.h"
