/* Attention for AVX-512 F, BW, VL and DQ. */
#include "../vec_avx512.h"

#include "../kern_attn.h"
