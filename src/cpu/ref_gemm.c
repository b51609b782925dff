/* C[m,n] = sum_k A[m,k] B[n,k]: the order that every ISA keeps. */
#include "ref.h"

static real element(const GemmArgs *a, int64_t m, int64_t n)
{
    real sum = a->accumulate ? a->c[m * a->c_row + n] : 0;
    for (int k0 = 0; k0 < a->K; k0 += GEMM_KC) {
        int  k1 = k0 + GEMM_KC < a->K ? k0 + GEMM_KC : a->K;
        real block = 0;
        for (int64_t k = k0; k < k1; k++)
            block = r_fma(a->a[m * a->a_row + k * a->a_k], ref_load(a->b_type, a->b, n * a->b_row + k * a->b_k), block);
        sum = k0 == 0 && !a->accumulate ? block : sum + block;
    }
    return a->bias ? sum + a->bias[n] : sum;
}

REF(gemm)
{
    const GemmArgs *a = args;
    int64_t         cols = (a->N + GEMM_TILE_N - 1) / GEMM_TILE_N;
    (void)scratch;
    for (int64_t i = i0; i < i1; i++) {
        int64_t m0 = i / cols * GEMM_TILE_M, n0 = i % cols * GEMM_TILE_N;
        int64_t m1 = m0 + GEMM_TILE_M < a->M ? m0 + GEMM_TILE_M : a->M;
        int64_t n1 = n0 + GEMM_TILE_N < a->N ? n0 + GEMM_TILE_N : a->N;
        for (int64_t m = m0; m < m1; m++)
            for (int64_t n = n0; n < n1; n++) a->c[m * a->c_row + n] = element(a, m, n);
    }
}
