/* The kernels for AVX-512 F, BW, VL and DQ. */
#include "../vec_avx512.h"

#include "../kern_gemm.h"
#include "../kern_rows.h"

void kernels_init_avx512(Kernels *k)
{
    k->gemm = gemm_avx512;
    rows_init_avx512(k);
}
