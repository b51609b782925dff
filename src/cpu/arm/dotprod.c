/* Products with 8-bit activations for the dot products of bytes of ARMv8.2: everything else is NEON's. */
#define VEC_ISA dotprod
#include "../vec_neon.h"

#include "../kern_dot.h"

void kernels_init_dotprod(Kernels *k)
{
    k->act = act_dotprod;
    k->dot = dot_dotprod;
}
