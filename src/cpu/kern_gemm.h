/* Matrix product.  A panel of GEMM_NR columns of B is packed as [k][GEMM_NR] floats for a block of GEMM_KC ks, whatever
 * B's type and orientation; register tiles of GEMM_MR rows then broadcast A from where it lies and add whole vectors of
 * the panel.  A lane holds one element of C, so its chain of multiply-adds is the reference's. */
#ifndef AHA_CPU_KERN_GEMM_H
#define AHA_CPU_KERN_GEMM_H

#include "../tensor/stripe.h"
#include "kern_tile.h"

/* F8: the factors of sixteen rows of B from n on, of which `rows` exist, at column k.  They lie in one band of blocks, or two. */
static INLINE v16 f8_factor(const GemmArgs *g, int64_t n, int rows, int k, float times)
{
    int64_t row = g->b_row0 + n, left = F8_BLOCK - row % F8_BLOCK;
    if (!g->b_scale) return v_set(times);
    const float *s = g->b_scale + row / F8_BLOCK * g->b_scale_row + k / F8_BLOCK;
    return v_pick(m_first(left < 16 ? (int)left : 16), v_set(s[0] * times), v_set(s[left < rows ? g->b_scale_row : 0] * times));
}

/* F8: 16 rows and 64 columns of B, which begin at b and have one factor each: as v_transpose */
static INLINE void pack_f8(const char *b, int64_t bytes, v16 factor, float *dst, int64_t step)
{
    v16 x[16], y[4], most = v_zero();
    v_units(b, bytes, x);
    UNROLL
    for (int i = 0; i < 16; i++) {
        v_of_units(DT_F8_E4M3, x[i], y);
        most = f8_most(most, x[i]);
        UNROLL
        for (int j = 0; j < 4; j++) v_store(dst + (4 * i + j) * step, v_mul(v_mul(y[j], v_set(F8_LARGE)), factor));
    }
    v_store(dst, f8_mend(most, v_load(dst))); /* one is enough: the row's sums are none then */
}

/* ---- stripes ---- of B's rows (tensor/stripe.h): a column of sixteen rows is a vector, of F8 four are */
static INLINE const char *stripe_from(Dtype t, const GemmArgs *g, int64_t n, int k)
{
    return (const char *)g->b + (n * g->b_row + (int64_t)k * STRIPE_ROWS) * type_size(t);
}
/* one block of them, as v_of_units; the next is cols * STRIPE_ROWS elements on */
static INLINE void stripe_units(Dtype t, const char *b, v16 out[4])
{
    if (t == DT_F8_E4M3)
        v_of_units(t, v_load((const void *)b), out);
    else
        out[0] = v_load_t(t, b, 0);
}
/* F8: the factor of a stripe at column k; no band of blocks ends inside it */
static INLINE v16 stripe_factor(const GemmArgs *g, int64_t n, int k, float times)
{
    return v_set(g->b_scale ? g->b_scale[(g->b_row0 + n) / F8_BLOCK * g->b_scale_row + k / F8_BLOCK] * times : times);
}

static INLINE void pack_stripe(Dtype t, const GemmArgs *g, int64_t n, int k0, int kc, float *dst, int64_t step)
{
    const int   cols = stripe_cols(t);
    const char *b = stripe_from(t, g, n, k0);
    v16         y[4], factor = v_zero();
    for (int k = 0; k < kc; k += cols, b += cols * STRIPE_ROWS * type_size(t)) {
        stripe_units(t, b, y);
        if (t == DT_F8_E4M3 && (k == 0 || (k0 + k) % F8_BLOCK == 0)) factor = stripe_factor(g, n, k0 + k, 1);
        UNROLL
        for (int j = 0; j < cols; j++) v_store(dst + (k + j) * step, t == DT_F8_E4M3 ? v_mul(v_mul(y[j], v_set(F8_LARGE)), factor) : y[j]);
    }
}

/* 16 rows (n of them exist) of B from row n0 and column k0 on, kc columns, into dst[k][step] */
static INLINE void pack_rows16(Dtype t, const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst, int64_t step)
{
    int         k = 0, cols = transpose_cols(t), size = type_size(t);
    const char *b = (const char *)g->b + (n0 * g->b_row + k0) * size;
    _Alignas(64) float tmp[16 * 16];
    if (g->striped && n >= STRIPE_ROWS) {
        pack_stripe(t, g, n0, k0, kc, dst, step);
        return;
    }
    for (; n >= 16 && k + cols <= kc; k += cols)
        if (t == DT_F8_E4M3)
            pack_f8(b + k, g->b_row, f8_factor(g, n0, n, k0 + k, 1), dst + k * step, step);
        else
            v_transpose(t, b + (int64_t)k * size, g->b_row, dst + k * step, step);
    for (; k < kc; k += 16) { /* ragged: through a square that is as large as needed */
        for (int r = 0; r < 16; r++)
            v_store(tmp + 16 * r, r < n ? v_load_tn(t, b, r * g->b_row + k, kc - k) : v_zero());
        v_transpose(DT_F32, tmp, 16, dst + k * step, step);
        if (t == DT_F8_E4M3)
            for (int i = 0; i < 16; i++)
                v_store(dst + (k + i) * step, v_mul(v_load(dst + (k + i) * step), f8_factor(g, n0, n, k0 + k, 1)));
    }
}

/* rows of B lie side by side: copies */
static INLINE void pack_copy(Dtype t, const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst)
{
    const char *b = (const char *)g->b + (n0 + k0 * g->b_k) * type_size(t);
    for (int k = 0; k < kc; k++)
        for (int v = 0; v < GEMM_NV && 16 * v < n; v++) {
            v16 x = n >= 16 * v + 16 ? v_load_t(t, b, k * g->b_k + 16 * v) : v_load_tn(t, b, k * g->b_k + 16 * v, n - 16 * v);
            if (t == DT_F8_E4M3 && g->b_scale)
                x = v_mul(x, v_set(g->b_scale[(g->b_row0 + k0 + k) / F8_BLOCK * g->b_scale_row + (n0 + 16 * v) / F8_BLOCK]));
            v_store(dst + k * GEMM_NR + 16 * v, x);
        }
}

static INLINE void pack_typed(Dtype t, const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst)
{
    if (t == DT_F8_E4M3 ? !g->b_rows_k : g->b_k == 1) {
        for (int v = 0; v < GEMM_NV; v++)
            if (n > 16 * v) pack_rows16(t, g, n0 + 16 * v, n - 16 * v, k0, kc, dst + 16 * v, GEMM_NR);
    } else if (t == DT_F8_E4M3 || g->b_row == 1) {
        pack_copy(t, g, n0, n, k0, kc, dst);
    } else {
        for (int k = 0; k < kc; k++)
            for (int i = 0; i < n; i++) dst[k * GEMM_NR + i] = ref_load(t, g->b, (n0 + i) * g->b_row + (k0 + k) * g->b_k);
    }
}

/* columns [n0, n0+n) and ks [k0, k0+kc) of B as [k][GEMM_NR]; writes whole rows of 16 ks */
static __attribute__((noinline)) void pack_panel(const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst)
{
    switch (g->b_type) {
    case DT_F16: pack_typed(DT_F16, g, n0, n, k0, kc, dst); break;
    case DT_BF16: pack_typed(DT_BF16, g, n0, n, k0, kc, dst); break;
    case DT_F8_E4M3: pack_typed(DT_F8_E4M3, g, n0, n, k0, kc, dst); break;
    default: pack_typed(DT_F32, g, n0, n, k0, kc, dst); break;
    }
}

/* The same of a B in blocks: its rows are decoded whole, then packed as f32 ones are.  tmp: [16][GEMM_KC] */
static void pack_blocked(const GemmArgs *g, int64_t n0, int n, int k0, int kc, float *dst, float *tmp)
{
    GemmArgs part = {.b = tmp, .b_row = GEMM_KC};
    if (g->b_rows_k) {
        if (n < GEMM_NR) memset(dst, 0, sizeof *dst * GEMM_NR * (size_t)kc);
        for (int k = 0; k < kc; k++) gemm_decode(g, k0 + k, n0, n, dst + k * GEMM_NR);
        return;
    }
    for (int i = 0; i < n; i += 16) {
        for (int r = 0; r < min_int(16, n - i); r++) gemm_decode(g, n0 + i + r, k0, kc, tmp + r * GEMM_KC);
        pack_rows16(DT_F32, &part, 0, n - i, 0, kc, dst + i, GEMM_NR);
    }
}

/* ---- few rows (decoding) ----
 * Every weight is used once or a few times, so reading it is what counts.  A tile's rows of B are more streams than hardware
 * prefetchers follow: each line is asked for FEW_AHEAD ks before it is used, into the second cache (into the first: half as
 * fast).  Up to FEW_DIRECT rows of A take the weights from registers, more of them from a panel of a line's ks.  Stripes are read
 * from one end to the other, so there hardware is left to it. */
enum { FEW_AHEAD = 256, FEW_DIRECT = 4, FEW_STRIPES = 4 };

/* F8: f8_small and the factors are multiplied in one step where that cannot overflow; false: it can */
static INLINE bool few_factors(const GemmArgs *g, int64_t n, int k, v16 factor[GEMM_NV])
{
    int64_t      row = g->b_row0 + n;
    const float *s = g->b_scale + row / F8_BLOCK * g->b_scale_row + k / F8_BLOCK;
    bool         fits = !g->b_scale || (fabsf(s[0]) < 64 && fabsf(s[row % F8_BLOCK > F8_BLOCK - GEMM_NR ? g->b_scale_row : 0]) < 64);
    for (int v = 0; fits && v < GEMM_NV; v++) factor[v] = f8_factor(g, n + 16 * v, 16, k, F8_LARGE);
    return fits;
}

/* one line of GEMM_NR rows, which begin at b, times mr rows of A */
static INLINE void few_line(int mr, Dtype t, const char *b, int64_t bytes, const float *a, int64_t a_row, const v16 factor[GEMM_NV],
                            v16 most[GEMM_NV], v16 acc[GEMM_MR][GEMM_NV])
{
    int sub = 4 / type_size(t);
    v16 x[GEMM_NV][16], w[4];
    UNROLL
    for (int v = 0; v < GEMM_NV; v++) v_units(b + 16 * v * bytes, bytes, x[v]);
    UNROLL
    for (int i = 0; i < 16; i++) {
        UNROLL
        for (int v = 0; v < GEMM_NV; v++) {
            v_of_units(t, x[v][i], w);
            if (t == DT_F8_E4M3) most[v] = f8_most(most[v], x[v][i]);
            UNROLL
            for (int j = 0; j < sub; j++) {
                if (t == DT_F8_E4M3) w[j] = v_mul(w[j], factor[v]);
                UNROLL
                for (int m = 0; m < mr; m++) acc[m][v] = v_fma(v_set(a[m * a_row + i * sub + j]), w[j], acc[m][v]);
            }
        }
    }
}

/* Asks for the line at column k + FEW_AHEAD of a tile's rows, or where these end, of those of the next tile, if any. */
static INLINE void few_prefetch(const char *b, const char *next, int64_t bytes, int64_t at, int64_t row)
{
    const char *ahead = at < row ? b + at : next + (at - row);
    if (at >= row && !next) return;
    UNROLL
    for (int r = 0; r < GEMM_NR; r++, ahead += bytes) __builtin_prefetch(ahead, 0, 2);
}

/* One tile of GEMM_NR columns or fewer over one block of ks.  t is B's type where mr is at most FEW_DIRECT, else unused. */
static INLINE void few_tile(int mr, Dtype t, const GemmArgs *g, const float *a, int64_t n0, int k0, int kc, const char *next, const TileOut *o)
{
    v16         acc[GEMM_MR][GEMM_NV], factor[GEMM_NV], most[GEMM_NV];
    bool        direct = mr <= FEW_DIRECT && o->cols == GEMM_NR && !g->striped, fits = true;
    int         size = type_size(mr <= FEW_DIRECT ? t : g->b_type), line = 64 / size;
    int64_t     bytes = g->b_row * size;
    const char *b = (const char *)g->b + n0 * bytes;
    _Alignas(64) float panel[64 * GEMM_NR];
    tile_clear(mr, GEMM_NV, acc);
    for (int v = 0; v < GEMM_NV; v++) factor[v] = most[v] = v_zero();
    for (int k = 0; k < kc; k += line) {
        int     n = min_int(line, kc - k);
        int64_t at = (int64_t)(k0 + k) * size;
        if (o->cols == GEMM_NR && !g->striped) few_prefetch(b, next, bytes, at + FEW_AHEAD * size, (int64_t)g->K * size);
        if (direct && t == DT_F8_E4M3 && k % F8_BLOCK == 0) fits = few_factors(g, n0, k0 + k, factor);
        if (direct && n == line && fits) {
            few_line(mr, t, b + at, bytes, a + k, g->a_row, factor, most, acc);
        } else {
            pack_panel(g, n0, o->cols, k0 + k, n, panel);
            tile_sum(mr, GEMM_NV, false, a + k, g->a_row, 1, panel, GEMM_NR, n, acc);
        }
    }
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < GEMM_NV; v++)
            tile_put(o, m, v, false, mr <= FEW_DIRECT && t == DT_F8_E4M3 ? f8_mend(most[v], acc[m][v]) : acc[m][v]);
    }
}

/* mr rows of A and C, which begin at a and c, and columns [n0, n1) */
static INLINE void few_run(int mr, Dtype t, const GemmArgs *g, const float *a, float *c, int64_t n0, int64_t n1)
{
    for (int64_t n = n0; n < n1; n += GEMM_NR) {
        const char *next = n + 2 * GEMM_NR <= n1 ? (const char *)g->b + (n + GEMM_NR) * g->b_row * type_size(g->b_type) : NULL;
        for (int k0 = 0; k0 < g->K; k0 += GEMM_KC) {
            int     kc = min_int(g->K - k0, GEMM_KC);
            TileOut o = {c + n, g->c_row, g->bias && k0 + kc == g->K ? g->bias + n : NULL, (int)(n1 - n < GEMM_NR ? n1 - n : GEMM_NR),
                         k0 > 0 || g->accumulate};
            few_tile(mr, t, g, a + k0, n, k0, kc, next, &o);
        }
    }
}

/* F8: as few_factors, of all factors that columns [n0, n1) have */
static bool stripes_fit(const GemmArgs *g, int64_t n0, int64_t n1)
{
    int64_t first = (g->b_row0 + n0) / F8_BLOCK, last = (g->b_row0 + n1 - 1) / F8_BLOCK;
    bool    fits = true;
    for (int64_t i = first; g->b_scale && i <= last; i++)
        for (int k = 0; k < f8_blocks(g->K); k++) fits &= fabsf(g->b_scale[i * g->b_scale_row + k]) < 64;
    return fits;
}

/* mr rows times nv stripes, over one block of ks */
static INLINE void stripes_sum(int mr, int nv, Dtype t, const GemmArgs *g, const float *a, int64_t n, int k0, int kc, v16 acc[FEW_DIRECT][FEW_STRIPES])
{
    const int     cols = stripe_cols(t), bytes = STRIPE_ROWS * type_size(t);
    const int64_t stripe = g->b_row * bytes;
    const char   *b = stripe_from(t, g, n, k0);
    v16           factor[FEW_STRIPES], w[4];
    for (int k = 0; k < kc;) {
        int end = t == DT_F8_E4M3 ? min_int(kc, k + F8_BLOCK) : kc;
        UNROLL
        for (int v = 0; v < nv; v++) factor[v] = t == DT_F8_E4M3 ? stripe_factor(g, n + v * STRIPE_ROWS, k0 + k, F8_LARGE) : v_zero();
        for (; k < end; k += cols, b += cols * bytes) {
            UNROLL
            for (int v = 0; v < nv; v++) {
                stripe_units(t, b + v * stripe, w);
                UNROLL
                for (int j = 0; j < cols; j++) {
                    if (t == DT_F8_E4M3) w[j] = v_mul(w[j], factor[v]);
                    UNROLL
                    for (int m = 0; m < mr; m++) acc[m][v] = v_fma(v_set(a[m * g->a_row + k + j]), w[j], acc[m][v]);
                }
            }
        }
    }
}

/* The same of all ks, nv stripes at once while there are as many: a chain of multiply-adds waits for itself.  The first column that is left. */
static INLINE int64_t stripes_run(int mr, int nv, Dtype t, const GemmArgs *g, const float *a, float *c, int64_t n, int64_t n1)
{
    v16 acc[FEW_DIRECT][FEW_STRIPES];
    for (; n + nv * STRIPE_ROWS <= n1; n += nv * STRIPE_ROWS)
        for (int k0 = 0; k0 < g->K; k0 += GEMM_KC) {
            int     kc = min_int(g->K - k0, GEMM_KC);
            TileOut o = {c + n, g->c_row, g->bias && k0 + kc == g->K ? g->bias + n : NULL, nv * STRIPE_ROWS, k0 > 0 || g->accumulate};
            UNROLL
            for (int m = 0; m < mr; m++) {
                UNROLL
                for (int v = 0; v < nv; v++) acc[m][v] = v_zero();
            }
            stripes_sum(mr, nv, t, g, a + k0, n, k0, kc, acc);
            UNROLL
            for (int m = 0; m < mr; m++) {
                UNROLL
                for (int v = 0; v < nv; v++) tile_put(&o, m, v, true, acc[m][v]);
            }
        }
    return n;
}

/* mr rows, 1 to FEW_DIRECT, of the whole stripes, and of what else there is */
static INLINE void few_typed(int mr, Dtype t, const GemmArgs *g, const float *a, float *c, int64_t n, int64_t n1)
{
    if (g->striped && (t != DT_F8_E4M3 || stripes_fit(g, n, n1))) {
        n = stripes_run(mr, mr > 2 ? GEMM_NV : FEW_STRIPES / mr, t, g, a, c, n, n1);
        n = stripes_run(mr, 1, t, g, a, c, n, n1);
    }
    few_run(mr, t, g, a, c, n, n1);
}

#define FEW(name, t)                                                                                                  \
    static void name(int mr, const GemmArgs *g, const float *a, float *c, int64_t n0, int64_t n1)                     \
    {                                                                                                                 \
        switch (mr) {                                                                                                 \
        case 1: few_typed(1, t, g, a, c, n0, n1); break;                                                              \
        case 2: few_typed(2, t, g, a, c, n0, n1); break;                                                              \
        case 3: few_typed(3, t, g, a, c, n0, n1); break;                                                              \
        default: few_typed(FEW_DIRECT, t, g, a, c, n0, n1); break;                                                    \
        }                                                                                                             \
    }
FEW(few_f32, DT_F32)
FEW(few_f16, DT_F16)
FEW(few_bf16, DT_BF16)
FEW(few_f8, DT_F8_E4M3)
#undef FEW

static void few_any(int mr, const GemmArgs *g, const float *a, float *c, int64_t n0, int64_t n1)
{
    if (mr > FEW_DIRECT) {
#define ROWS(n)                                                                                                       \
    case n:                                                                                                           \
        if (n > FEW_DIRECT) few_run(n > FEW_DIRECT ? n : FEW_DIRECT + 1, DT_F32, g, a, c, n0, n1);                    \
        break;
        switch (mr) { TILE_ROWS(ROWS) }
#undef ROWS
        return;
    }
    switch (g->b_type) {
    case DT_F16: few_f16(mr, g, a, c, n0, n1); break;
    case DT_BF16: few_bf16(mr, g, a, c, n0, n1); break;
    case DT_F8_E4M3: few_f8(mr, g, a, c, n0, n1); break;
    default: few_f32(mr, g, a, c, n0, n1); break;
    }
}

/* Asks for part i of `parts` of the next panel, n columns and kc ks of B from b on, while the tiles of this one run. */
static INLINE void panel_prefetch(const GemmArgs *g, int64_t n0, int k0, int kc, int64_t i, int64_t parts)
{
    bool        rows = g->b_k == 1;
    int64_t     size = type_size(g->b_type), step = size * (rows ? g->b_row : g->b_k), n = rows ? GEMM_NR : kc;
    const char *b = (const char *)g->b + (n0 * g->b_row + k0 * g->b_k) * size;
    if (g->striped) {
        n = kc * STRIPE_ROWS * size / 64;
        for (int v = 0; v < GEMM_NV; v++)
            for (int64_t x = n * i / parts; x < n * (i + 1) / parts; x++)
                __builtin_prefetch(stripe_from(g->b_type, g, n0 + v * STRIPE_ROWS, k0) + 64 * x, 0, 2);
        return;
    }
    for (int64_t r = n * i / parts; r < n * (i + 1) / parts; r++)
        for (int64_t x = 0; x < (rows ? kc : GEMM_NR) * size; x += 64) __builtin_prefetch(b + r * step + x, 0, 2);
}

/* rows [m0, m1) and columns [n0, n1) of C.  Blocks of ks go outermost: the block of A stays in the second cache while
 * the panels pass. */
static void gemm_block(const GemmArgs *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1, float *panel)
{
    int64_t tiles = (m1 - m0 + GEMM_MR - 1) / GEMM_MR, mr = (m1 - m0 + tiles - 1) / tiles; /* alike: 8 + 8 rows, not 12 + 4 */
    bool    blocked = dtype_is_blocked(g->b_type);
    if (m1 - m0 <= GEMM_MR && g->a_k == 1 && g->b_k == 1 && !blocked && !g->b_rows_k) {
        few_any((int)(m1 - m0), g, g->a + m0 * g->a_row, g->c + m0 * g->c_row, n0, n1);
        return;
    }
    for (int k0 = 0; k0 < g->K; k0 += GEMM_KC) {
        int kc = g->K - k0 < GEMM_KC ? g->K - k0 : GEMM_KC;
        for (int64_t n = n0; n < n1; n += GEMM_NR) {
            TileOut o = {NULL, g->c_row, NULL, (int)(n1 - n < GEMM_NR ? n1 - n : GEMM_NR), k0 > 0 || g->accumulate};
            if (g->bias && k0 + kc == g->K) o.bias = g->bias + n;
            if (blocked)
                pack_blocked(g, n, o.cols, k0, kc, panel, panel + GEMM_KC * GEMM_NR);
            else
                pack_panel(g, n, o.cols, k0, kc, panel);
            for (int64_t i = 0; i < tiles; i++) {
                int64_t m = m0 + i * mr;
                o.c = g->c + m * g->c_row + n;
                if (n + 2 * GEMM_NR <= n1 && !blocked) panel_prefetch(g, n + GEMM_NR, k0, kc, i, tiles);
                tile_any((int)(m1 - m < mr ? m1 - m : mr), g->a + m * g->a_row + k0 * g->a_k, g->a_row, g->a_k,
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
