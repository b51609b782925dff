/* The register tile that gemm and attention share: up to GEMM_MR rows of A times GEMM_NV vectors of B's columns.
 * A is broadcast from where it lies; B is [k][step] floats.  A lane is one element of the result: one chain of
 * multiply-adds from 0 in ascending k. */
#ifndef AHA_CPU_KERN_TILE_H
#define AHA_CPU_KERN_TILE_H

enum { GEMM_NR = 16 * GEMM_NV };

/* X(n) for every number of rows a tile may have; each is compiled with its accumulators in registers */
#if GEMM_MR == 12
#define TILE_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define TILE_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif

static INLINE int min_int(int a, int b) { return a < b ? a : b; }
static INLINE int max_int(int a, int b) { return a > b ? a : b; }

/* dst[k * step + r] = row r, column k of src for 16 rows, `row` elements apart, and as many columns as 64 bytes hold */
static INLINE int transpose_cols(Dtype t) { return 64 / type_size(t); }
static INLINE void transpose_typed(Dtype t, const void *src, int64_t row, float *dst, int64_t step)
{
    int sub = 4 / type_size(t);
    v16 x[16], y[4];
    v_units(src, row * type_size(t), x);
    UNROLL
    for (int i = 0; i < 16; i++) {
        v_of_units(t, x[i], y);
        UNROLL
        for (int j = 0; j < sub; j++) v_store(dst + (i * sub + j) * step, y[j]);
    }
}
static INLINE void v_transpose(Dtype t, const void *src, int64_t row, float *dst, int64_t step)
{
    switch (t) { /* each compiled for its type, where the caller's is not a constant too */
    case DT_F16: transpose_typed(DT_F16, src, row, dst, step); break;
    case DT_BF16: transpose_typed(DT_BF16, src, row, dst, step); break;
    default: transpose_typed(DT_F32, src, row, dst, step); break;
    }
}

static INLINE void tile_clear(int mr, int nv, v16 acc[GEMM_MR][GEMM_NV])
{
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < nv; v++) acc[m][v] = v_zero();
    }
}

/* acc += A B over kc ks; mr, nv and far are constants.  far: A's ks lie so far apart that no hardware prefetcher follows
 * (asking 16 ks ahead: 95 -> 129 GF/s at [1500, 3000] transposed). */
static INLINE void tile_sum(int mr, int nv, bool far, const float *a, int64_t a_row, int64_t a_k, const float *b,
                            int64_t b_step, int kc, v16 acc[GEMM_MR][GEMM_NV])
{
    for (int k = 0; k < kc; k++) {
        v16 bv[GEMM_NV];
        if (far) {
            __builtin_prefetch(a + 16 * a_k);
            __builtin_prefetch(a + 16 * a_k + mr - 1);
        }
        UNROLL
        for (int v = 0; v < nv; v++) bv[v] = v_load(b + 16 * v);
        UNROLL
        for (int m = 0; m < mr; m++) {
            v16 x = v_set(a[m * a_row]);
            UNROLL
            for (int v = 0; v < nv; v++) acc[m][v] = v_fma(x, bv[v], acc[m][v]);
        }
        a += a_k;
        b += b_step;
    }
}

/* what happens to a tile's sums after a block of ks */
typedef struct TileOut {
    float       *c;
    int64_t      c_row;
    const float *bias; /* NULL unless this is the last block */
    int          cols; /* valid columns */
    bool         add;  /* to what C holds */
} TileOut;

static INLINE void tile_put(const TileOut *o, int m, int v, bool full, v16 x)
{
    float *c = o->c + m * o->c_row + 16 * v;
    m16    mask = m_first(full ? 16 : o->cols - 16 * v);
    if (o->add) x = v_add(full ? v_load(c) : v_load_m(c, mask), x);
    if (o->bias) x = v_add(x, full ? v_load(o->bias + 16 * v) : v_load_m(o->bias + 16 * v, mask));
    if (full)
        v_store(c, x);
    else
        v_store_m(c, mask, x);
}

static INLINE void tile_run(int mr, const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t b_step, int kc,
                            const TileOut *o)
{
    v16 acc[GEMM_MR][GEMM_NV];
    for (int m = 0; o->add && m < mr; m++) __builtin_prefetch(o->c + m * o->c_row, 1, 3);
    tile_clear(mr, GEMM_NV, acc);
    tile_sum(mr, GEMM_NV, a_k != 1, a, a_row, a_k, b, b_step, kc, acc);
    if (o->cols >= GEMM_NR) {
        UNROLL
        for (int m = 0; m < mr; m++) {
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) tile_put(o, m, v, true, acc[m][v]);
        }
    } else {
        UNROLL
        for (int m = 0; m < mr; m++) {
            UNROLL
            for (int v = 0; v < GEMM_NV; v++) tile_put(o, m, v, false, acc[m][v]);
        }
    }
}

/* C = or += A B for mr rows, 1 to GEMM_MR */
__attribute__((unused)) static void tile_any(int mr, const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t b_step, int kc,
                     const TileOut *o)
{
#define ROWS(n)                                                                                                       \
    case n:                                                                                                           \
        if (a_k == 1)                                                                                                 \
            tile_run(n, a, a_row, 1, b, b_step, kc, o);                                                               \
        else                                                                                                          \
            tile_run(n, a, a_row, a_k, b, b_step, kc, o);                                                             \
        break;
    switch (mr) { TILE_ROWS(ROWS) }
#undef ROWS
}

/* A tile whose rows sum over ranges of their own, [lo[m], hi[m]), both ascending in m: what lies outside is not read as
 * a factor, so a value that must not count may be anything.  c[m] += sum. */
typedef struct RangeTile {
    const float *a; /* element (m, k) at a[m + k * a_k] */
    int64_t      a_k;
    const float *b;
    int64_t      b_step;
    int          lo[GEMM_MR], hi[GEMM_MR];
    float       *c[GEMM_MR];
    int          cols;
} RangeTile;

static INLINE void range_chain(const RangeTile *t, int m, int nv, int k0, int k1, v16 acc[GEMM_NV])
{
    for (int k = k0; k < k1; k++)
        for (int v = 0; v < nv; v++) acc[v] = v_fma(v_set(t->a[m + k * t->a_k]), v_load(t->b + k * t->b_step + 16 * v), acc[v]);
}

static INLINE void range_run(const RangeTile *t, int mr, int nv)
{
    v16 acc[GEMM_MR][GEMM_NV];
    int k0 = t->lo[mr - 1], k1 = max_int(t->hi[0], k0);
    tile_clear(mr, nv, acc);
    if (t->lo[0] < k0) {
        UNROLL
        for (int m = 0; m < mr; m++) range_chain(t, m, nv, t->lo[m], min_int(k0, t->hi[m]), acc[m]);
    }
    if (k1 > k0) tile_sum(mr, nv, false, t->a + k0 * t->a_k, 1, t->a_k, t->b + k0 * t->b_step, t->b_step, k1 - k0, acc);
    if (t->hi[mr - 1] > k1) {
        UNROLL
        for (int m = 0; m < mr; m++) range_chain(t, m, nv, max_int(k1, t->lo[m]), t->hi[m], acc[m]);
    }
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < nv; v++) {
            float *c = t->c[m] + 16 * v;
            m16    mask = m_first(t->cols - 16 * v);
            v_store_m(c, mask, v_add(v_load_m(c, mask), acc[m][v]));
        }
    }
}

/* mr rows of all `cols` columns, a vector or a panel at a time */
__attribute__((unused)) static void range_any(RangeTile *t, int mr, int cols)
{
    for (int n = 0; n < cols; n += GEMM_NR) {
        t->cols = min_int(cols - n, GEMM_NR);
#define ROWS(r)                                                                                                       \
    case r:                                                                                                           \
        if (t->cols > 16)                                                                                             \
            range_run(t, r, GEMM_NV);                                                                                 \
        else                                                                                                          \
            range_run(t, r, 1);                                                                                       \
        break;
        switch (mr) { TILE_ROWS(ROWS) }
#undef ROWS
        t->b += t->cols;
        for (int m = 0; m < mr; m++) t->c[m] += t->cols;
    }
}

#endif
