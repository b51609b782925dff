/* Products with 8-bit activations for AVX2 with FMA and F16C. */
#include "../vec_avx2.h"

#include "../kern_dot.h"
