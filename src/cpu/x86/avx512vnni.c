/* Products with 8-bit activations for AVX-512 VNNI: everything else is AVX-512's. */
#define VEC_ISA avx512vnni
#include "../vec_avx512.h"

#include "../kern_dot.h"

void kernels_init_avx512vnni(Kernels *k)
{
    k->act = act_avx512vnni;
    k->dot = dot_avx512vnni;
}
