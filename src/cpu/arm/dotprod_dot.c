/* Products with 8-bit activations for the dot products of bytes of ARMv8.2. */
#define VEC_ISA dotprod
#include "../vec_neon.h"

#include "../kern_dot.h"
