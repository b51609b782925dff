/* Products with 8-bit activations for AVX-512 F, BW, VL and DQ. */
#include "../vec_avx512.h"

#include "../kern_dot.h"
