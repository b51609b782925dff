/* Products with 8-bit activations for AVX-VNNI (the same instructions on 256 bits): everything else is AVX2's. */
#define VEC_ISA avxvnni
#include "../vec_avx2.h"

#include "../kern_dot.h"

void kernels_init_avxvnni(Kernels *k)
{
    k->act = act_avxvnni;
    k->dot = dot_avxvnni;
}
