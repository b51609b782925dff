/* The kernels for AVX2 with FMA and F16C. */
#include "../vec_avx2.h"

#include "../kern_gemm.h"
#include "../kern_rows.h"

void kernels_init_avx2(Kernels *k)
{
    k->gemm = gemm_avx2;
    rows_init_avx2(k);
}
