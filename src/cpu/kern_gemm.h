/* Matrix product.  A panel of GEMM_NR columns of B is packed as [k][GEMM_NR] floats for a block of GEMM_KC ks, whatever
 * B's type and orientation; register tiles of GEMM_MR rows then broadcast A from where it lies and add whole vectors of
 * the panel.  A lane holds one element of C, so its chain of multiply-adds is the reference's. */
#ifndef AHA_CPU_KERN_GEMM_H
#define AHA_CPU_KERN_GEMM_H

#include "kern_tile.h"

/* 16 rows (n of them exist) of B from k0 on, kc columns, into dst[k][step] */
static INLINE void pack_rows16(Dtype t, const char *b, int64_t b_row, int n, int kc, float *dst, int64_t step)
{
    int     k = 0, cols = transpose_cols(t), size = t == DT_F32 ? 4 : 2;
    _Alignas(64) float tmp[16 * 16];
    for (; n >= 16 && k + cols <= kc; k += cols) v_transpose(t, b + (int64_t)k * size, b_row, dst + k * step, step);
    for (; k < kc; k += 16) { /* ragged: through a square that is as large as needed */
        for (int r = 0; r < 16; r++)
            v_store(tmp + 16 * r, r < n ? v_load_tn(t, b, r * b_row + k, kc - k) : v_zero());
        v_transpose(DT_F32, tmp, 16, dst + k * step, step);
    }
}

/* rows of B lie side by side: copies */
static INLINE void pack_copy(Dtype t, const char *b, int64_t b_k, int n, int kc, float *dst)
{
    for (int k = 0; k < kc; k++)
        for (int v = 0; v < GEMM_NV; v++)
            v_store(dst + k * GEMM_NR + 16 * v, n >= 16 * v + 16 ? v_load_t(t, b, k * b_k + 16 * v)
                                                                 : v_load_tn(t, b, k * b_k + 16 * v, n - 16 * v));
}

static INLINE void pack_typed(Dtype t, const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst)
{
    const char *b = (const char *)g->b + (n0 * g->b_row + k0 * g->b_k) * (t == DT_F32 ? 4 : 2);
    if (g->b_k == 1) {
        for (int v = 0; v < GEMM_NV; v++)
            if (n > 16 * v)
                pack_rows16(t, b + 16 * v * g->b_row * (t == DT_F32 ? 4 : 2), g->b_row, n - 16 * v, kc, dst + 16 * v, GEMM_NR);
    } else if (g->b_row == 1) {
        pack_copy(t, b, g->b_k, n, kc, dst);
    } else {
        for (int k = 0; k < kc; k++)
            for (int i = 0; i < n; i++) dst[k * GEMM_NR + i] = ref_load(t, b, i * g->b_row + k * g->b_k);
    }
}

/* columns [n0, n0+n) and ks [k0, k0+kc) of B as [k][GEMM_NR] */
static void pack_panel(const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst)
{
    switch (g->b_type) {
    case DT_F16: pack_typed(DT_F16, g, n0, n, k0, kc, dst); break;
    case DT_BF16: pack_typed(DT_BF16, g, n0, n, k0, kc, dst); break;
    default: pack_typed(DT_F32, g, n0, n, k0, kc, dst); break;
    }
}

/* The same of a coded B: its rows are decoded whole, then packed as f32 ones are.  tmp: [16][GEMM_KC] */
static void pack_coded(const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst, float *tmp)
{
    if (g->b_rows_k) {
        if (n < GEMM_NR) memset(dst, 0, sizeof *dst * GEMM_NR * (size_t)kc);
        for (int k = 0; k < kc; k++) gemm_decode(g, k0 + k, n0, n, dst + k * GEMM_NR);
        return;
    }
    for (int i = 0; i < n; i += 16) {
        for (int r = 0; r < min_int(16, n - i); r++) gemm_decode(g, n0 + i + r, k0, kc, tmp + r * GEMM_KC);
        pack_rows16(DT_F32, (const char *)tmp, GEMM_KC, n - i, kc, dst + i, GEMM_NR);
    }
}

/* Few rows (decoding): packing is most of the work, and the chains of a tile are short of company.  Both are done a step
 * of the transpose at a time, so that the processor overlaps the next step's shuffles with this one's chains. */
static INLINE void few_run(int mr, Dtype t, const GemmArgs *g, const float *a, int64_t n0, int k0, int kc, const TileOut *o)
{
    v16         acc[GEMM_MR][GEMM_NV];
    int         k = 0, cols = transpose_cols(t), size = t == DT_F32 ? 4 : 2;
    const char *b = (const char *)g->b + (n0 * g->b_row + k0) * size;
    _Alignas(64) float step[32 * GEMM_NR];
    tile_clear(mr, GEMM_NV, acc);
    for (; o->cols == GEMM_NR && k + cols <= kc; k += cols) {
        for (int v = 0; v < GEMM_NV; v++) v_transpose(t, b + (16 * v * g->b_row + k) * size, g->b_row, step + 16 * v, GEMM_NR);
        tile_sum(mr, GEMM_NV, false, a + k, g->a_row, 1, step, GEMM_NR, cols, acc);
    }
    for (; k < kc; k += 16) {
        pack_panel(g, n0, o->cols, k0 + k, min_int(16, kc - k), step);
        tile_sum(mr, GEMM_NV, false, a + k, g->a_row, 1, step, GEMM_NR, min_int(16, kc - k), acc);
    }
    for (int m = 0; m < mr; m++)
        for (int v = 0; v < GEMM_NV; v++) tile_put(o, m, v, false, acc[m][v]);
}

static void few_any(int mr, const GemmArgs *g, const float *a, int64_t n0, int k0, int kc, const TileOut *o)
{
#define ROWS(n)                                                                                                       \
    case n:                                                                                                           \
        switch (g->b_type) {                                                                                          \
        case DT_F16: few_run(n, DT_F16, g, a, n0, k0, kc, o); break;                                                  \
        case DT_BF16: few_run(n, DT_BF16, g, a, n0, k0, kc, o); break;                                                \
        default: few_run(n, DT_F32, g, a, n0, k0, kc, o); break;                                                      \
        }                                                                                                             \
        break;
    switch (mr) { TILE_ROWS(ROWS) }
#undef ROWS
}

/* Asks for part i of `parts` of the next panel, n columns and kc ks of B from b on, while the tiles of this one run. */
static INLINE void panel_prefetch(const GemmArgs *g, int64_t n0, int k0, int kc, int64_t i, int64_t parts)
{
    bool        rows = g->b_k == 1;
    int64_t     size = g->b_type == DT_F32 ? 4 : 2, step = size * (rows ? g->b_row : g->b_k), n = rows ? GEMM_NR : kc;
    const char *b = (const char *)g->b + (n0 * g->b_row + k0 * g->b_k) * size;
    for (int64_t r = n * i / parts; r < n * (i + 1) / parts; r++)
        for (int64_t x = 0; x < (rows ? kc : GEMM_NR) * size; x += 64) __builtin_prefetch(b + r * step + x, 0, 2);
}

/* rows [m0, m1) and columns [n0, n1) of C.  Blocks of ks go outermost: the block of A stays in the second cache while
 * the panels pass. */
static void gemm_block(const GemmArgs *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1, float *panel)
{
    int64_t tiles = (m1 - m0 + GEMM_MR - 1) / GEMM_MR;
    bool    coded = dtype_is_coded(g->b_type);
    for (int k0 = 0; k0 < g->K; k0 += GEMM_KC) {
        int kc = g->K - k0 < GEMM_KC ? g->K - k0 : GEMM_KC;
        for (int64_t n = n0; n < n1; n += GEMM_NR) {
            TileOut o = {NULL, g->c_row, NULL, (int)(n1 - n < GEMM_NR ? n1 - n : GEMM_NR), k0 > 0 || g->accumulate};
            if (g->bias && k0 + kc == g->K) o.bias = g->bias + n;
            if (m1 - m0 <= GEMM_MR && g->a_k == 1 && g->b_k == 1 && !coded) {
                o.c = g->c + m0 * g->c_row + n;
                few_any((int)(m1 - m0), g, g->a + m0 * g->a_row + k0, n, k0, kc, &o);
                continue;
            }
            if (coded)
                pack_coded(g, n, o.cols, k0, kc, panel, panel + GEMM_KC * GEMM_NR);
            else
                pack_panel(g, n, o.cols, k0, kc, panel);
            for (int64_t i = 0; i < tiles; i++) {
                int64_t m = m0 + i * GEMM_MR;
                o.c = g->c + m * g->c_row + n;
                if (n + 2 * GEMM_NR <= n1 && !coded) panel_prefetch(g, n + GEMM_NR, k0, kc, i, tiles);
                tile_any((int)(m1 - m < GEMM_MR ? m1 - m : GEMM_MR), g->a + m * g->a_row + k0 * g->a_k, g->a_row, g->a_k,
                         panel, GEMM_NR, kc, &o);
            }
        }
    }
}

KERNEL(gemm)
{
    const GemmArgs *g = args;
    int64_t         cols = (g->N + GEMM_TILE_N - 1) / GEMM_TILE_N;
    float          *panel = align64(scratch);
    if (g->K <= 0) {
        gemm_ref(args, i0, i1, scratch);
        return;
    }
    while (i0 < i1) { /* the items that lie in one row of tiles go together */
        int64_t row = i0 / cols, end = (row + 1) * cols < i1 ? (row + 1) * cols : i1;
        int64_t m1 = (row + 1) * GEMM_TILE_M, n1 = (end - row * cols) * GEMM_TILE_N;
        gemm_block(g, row * GEMM_TILE_M, m1 < g->M ? m1 : g->M, (i0 - row * cols) * GEMM_TILE_N, n1 < g->N ? n1 : g->N, panel);
        i0 = end;
    }
}

#endif
