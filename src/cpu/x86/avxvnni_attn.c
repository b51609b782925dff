/* Attention for AVX-VNNI. */
#define VEC_ISA avxvnni
#include "../vec_avx2.h"

#include "../kern_attn.h"
