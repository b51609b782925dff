/* Products of integers for AVX-512 VNNI, attention's over keys of Q8_0 among them: everything else is AVX-512's. */
#define VEC_ISA avx512vnni
#include "../vec_avx512.h"

#include "../kern_attn.h"
#include "../kern_dot.h"

void kernels_init_avx512vnni(Kernels *k)
{
    k->attn = attn_avx512vnni;
    k->act = act_avx512vnni;
    k->dot = dot_avx512vnni;
}
