/* C[m,n] = sum_k A[m,k] B[n,k]: the order that every ISA keeps. */
#include "ref.h"
#include "../tensor/stripe.h"

void gemm_decode(const GemmArgs *a, int64_t row, int64_t col0, int n, float *dst)
{
    const DtypeInfo *d = dtype_info(a->b_type);
    int64_t          cols = a->b_rows_k ? a->b_k : a->b_row;
    const float     *scale = a->b_scale ? a->b_scale + (a->b_row0 + row) / F8_BLOCK * a->b_scale_row : NULL;
    dtype_row_to_f32(a->b_type, (const uint8_t *)a->b + row * (cols / d->block) * d->block_bytes, scale, col0, n, dst);
}

/* Row n of a striped B, ks [k0, k0 + kc), as a file has it; room for it */
static const void *unstripe(const GemmArgs *a, int64_t n, int k0, int kc, uint8_t room[GEMM_KC * 4])
{
    const StripeForm f = stripe_form(a->b_type);
    const int        cols = stripe_cols(a->b_type), bytes = 4 * f.words + f.odd;
    const int64_t    first = n / STRIPE_ROWS * STRIPE_ROWS, row = a->b_row / cols * bytes;
    const uint8_t   *b = (const uint8_t *)a->b + first * row;
    if (first + STRIPE_ROWS > a->N) return b + (n - first) * row + k0 / cols * bytes;
    for (int k = 0; k < kc / cols; k++)
        stripe_row(a->b_type, stripe_block(f, (StripeRows){b, a->b_row / cols}, k0 / cols + k), (int)(n - first), room + k * bytes);
    return room;
}

/* a panel of it, as below */
static void panel_striped(const GemmArgs *a, int64_t n0, int n, int k0, int kc, real *dst)
{
    uint8_t room[GEMM_KC * 4];
    float   part[GEMM_KC];
    for (int i = 0; i < n; i++) {
        const void  *row = unstripe(a, n0 + i, k0, kc, room);
        const float *scale = a->b_scale ? a->b_scale + (a->b_row0 + n0 + i) / F8_BLOCK * a->b_scale_row + k0 / F8_BLOCK : NULL;
        dtype_row_to_f32(a->b_type, row, scale, 0, kc, part);
        for (int k = 0; k < kc; k++) dst[i * GEMM_KC + k] = (real)part[k];
    }
}

/* B's columns [n0, n0 + n) and ks [k0, k0 + kc), as [n][GEMM_KC] */
static void panel(const GemmArgs *a, int64_t n0, int n, int k0, int kc, real *dst)
{
    float part[GEMM_KC];
    if (a->striped) {
        panel_striped(a, n0, n, k0, kc, dst);
    } else if (!dtype_is_coded(a->b_type)) {
        for (int i = 0; i < n; i++)
            for (int k = 0; k < kc; k++) dst[i * GEMM_KC + k] = ref_load(a->b_type, a->b, (n0 + i) * a->b_row + (k0 + k) * a->b_k);
    } else if (a->b_rows_k) {
        for (int k = 0; k < kc; k++) {
            gemm_decode(a, k0 + k, n0, n, part);
            for (int i = 0; i < n; i++) dst[i * GEMM_KC + k] = (real)part[i];
        }
    } else {
        for (int i = 0; i < n; i++) {
            gemm_decode(a, n0 + i, k0, kc, part);
            for (int k = 0; k < kc; k++) dst[i * GEMM_KC + k] = (real)part[k];
        }
    }
}

static real chain(const real *a, int64_t a_k, const real *b, int kc)
{
    real sum = 0;
    for (int k = 0; k < kc; k++) sum = r_fma(a[k * a_k], b[k], sum);
    return sum;
}

/* rows [m0, m1) and columns [n0, n0 + n) of C; b: a panel */
static void tile(const GemmArgs *a, int64_t m0, int64_t m1, int64_t n0, int n, real *b)
{
    for (int k0 = 0; k0 == 0 || k0 < a->K; k0 += GEMM_KC) { /* with no ks at all the sum is an empty block's, 0 */
        int kc = a->K - k0 < GEMM_KC ? a->K - k0 : GEMM_KC;
        panel(a, n0, n, k0, kc, b);
        for (int64_t m = m0; m < m1; m++)
            for (int i = 0; i < n; i++) {
                real *c = &a->c[m * a->c_row + n0 + i], block = chain(a->a + m * a->a_row + k0 * a->a_k, a->a_k, b + i * GEMM_KC, kc);
                if (kc > 0 || !a->accumulate) *c = k0 == 0 && !a->accumulate ? block : *c + block;
                if (a->bias && k0 + kc >= a->K) *c += a->bias[n0 + i];
            }
    }
}

REF(gemm)
{
    const GemmArgs *a = args;
    int64_t         cols = (a->N + GEMM_TILE_N - 1) / GEMM_TILE_N;
    for (int64_t i = i0; i < i1; i++) {
        int64_t m0 = i / cols * GEMM_TILE_M, n0 = i % cols * GEMM_TILE_N;
        int64_t m1 = m0 + GEMM_TILE_M < a->M ? m0 + GEMM_TILE_M : a->M;
        tile(a, m0, m1, n0, (int)(n0 + GEMM_TILE_N < a->N ? GEMM_TILE_N : a->N - n0), scratch);
    }
}
