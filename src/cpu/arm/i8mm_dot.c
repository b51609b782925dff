/* Products with 8-bit activations for the matrix products of bytes of ARMv8.6. */
#define VEC_ISA i8mm
#include "../vec_i8mm.h"

#include "../kern_dot.h"
