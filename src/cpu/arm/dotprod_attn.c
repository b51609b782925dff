/* Attention for the dot products of bytes of ARMv8.2. */
#define VEC_ISA dotprod
#include "../vec_neon.h"

#include "../kern_attn.h"
