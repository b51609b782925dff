/* Every kernel of every ISA against the plain C reference: random shapes, strides, orientations and types, extreme data,
 * parts of the items, memory that faults beyond its end.  The order of summation is fixed, so equality is demanded: the
 * same value, or both NaN (the sign of a zero may differ).
 * `test_kernels --bench [KERNEL]` times the same cases, once each is checked; bench/bench_kernels has the shapes of models. */
#include "kernlib.h"
#include "quantlib.h"
#include "tensor/stripe.h"
#include "tensor/tensor.h"

enum { ROUNDS = 48 };
typedef void CheckFn(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind);

/* a width that is likely near a vector's or a tile's edge */
static int width(int max)
{
    static const int EDGE[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 128, 130, 255, 256, 257};
    int              w = coin() ? EDGE[rng_below(&rnd, ARRAY_LEN(EDGE))] : pick(1, max);
    return w < max ? w : max;
}

static int64_t gemm_items(int M, int N)
{
    return (int64_t)((M + GEMM_TILE_M - 1) / GEMM_TILE_M) * ((N + GEMM_TILE_N - 1) / GEMM_TILE_N);
}

/* B's rows become stripes: of the one that is compared, or of both */
static void stripe_some(GemmArgs g[2])
{
    Dtype    t = g[0].b_type;
    size_t   bytes = (size_t)g[0].N * (size_t)g[0].K * (size_t)dtype_info(t)->block_bytes;
    uint8_t *s = guarded(bytes);
    stripe_matrix(t, g[0].b, g[0].N, g[0].K / stripe_cols(t), s);
    for (int i = coin(); i < 2; i++) {
        g[i].b = s;
        g[i].striped = true;
    }
}

/* B of a block type: whole rows along n or along k */
static void check_gemm_blocked(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int      type = pick(0, QUANT_TYPES - 1), rows = width(140), M = rng_below(&rnd, 4) ? width(30) : pick(380, 400);
    Dtype    t = QUANT_SCALES[type].type;
    int      block = dtype_info(t)->block, cols = block * pick(1, 600 / block + 1);
    bool     along_k = coin();
    int      N = along_k ? cols : rows, K = along_k ? rows : cols;
    size_t   n = (size_t)rows * (size_t)(cols / block);
    uint8_t *b = guarded(n * (size_t)dtype_info(t)->block_bytes);
    Out     *c = output((size_t)M * (size_t)N, kind);
    GemmArgs g[2];
    quant_random(&rnd, type, b, n);
    g[0] = (GemmArgs){.M = M, .N = N, .K = K, .a = input((size_t)M * (size_t)K, kind), .a_row = K, .a_k = 1, .b = b, .b_row = along_k ? 1 : cols,
                      .b_k = along_k ? cols : 1, .b_type = t, .c = c->p[0], .c_row = N, .bias = coin() ? input((size_t)N, kind) : NULL,
                      .accumulate = coin(), .b_rows_k = along_k};
    g[1] = g[0];
    g[1].c = c->p[1];
    run_both(ref, fast, &g[0], &g[1], gemm_items(M, N), gemm_scratch(), what);
}

/* Factors of all sorts: a model's, none, beyond the largest that a kernel may fold, infinite, none at all. */
static float *f8_factors(size_t n)
{
    static const float ODD[] = {0, -0.5f, 63.9f, 64, 127, 128, 1e20f, 3e38f, 1e-40f, INFINITY, NAN};
    float *scale = input(n, NUM_UNIT);
    int    odd = pick(0, 2);
    for (size_t i = 0; i < n && odd; i++)
        if (odd == 1 || rng_below(&rnd, 8) == 0) scale[i] = ODD[rng_below(&rnd, odd == 1 ? 9 : (uint32_t)ARRAY_LEN(ODD))];
    return scale;
}

/* B of F8: a part of the weight's rows, so that blocks of 128 are cut on every side; with and without factors.  A code that is
 * no number makes a whole row of results none, so there are few or none of them; none in stripes. */
static void check_gemm_f8(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int      rows = width(300), row0 = pick(0, 300), cols = width(700), M = rng_below(&rnd, 4) ? width(30) : pick(380, 400);
    bool     striped = coin(), along_k = !striped && coin();
    if (striped) {
        row0 = row0 / STRIPE_ROWS * STRIPE_ROWS;
        cols = (cols + 3) / 4 * 4;
    }
    int      N = along_k ? cols : rows, K = along_k ? rows : cols, cs = N + pick(0, 5);
    size_t   n = (size_t)rows * (size_t)cols;
    uint8_t *b = guarded(n);
    Out     *c = output((size_t)(M - 1) * (size_t)cs + (size_t)N, kind);
    int      nans = striped ? 0 : pick(0, 3);
    GemmArgs g[2];
    for (size_t i = 0; i < n; i++) {
        b[i] = (uint8_t)rng_u32(&rnd);
        if ((b[i] & 0x7f) == 0x7f) b[i] ^= 1;
    }
    for (int i = 0; i < nans; i++) b[rng_below(&rnd, (uint32_t)n)] = coin() ? 0x7f : 0xff;
    g[0] = (GemmArgs){.M = M, .N = N, .K = K, .a = input((size_t)M * (size_t)K, kind), .a_row = K, .a_k = 1, .b = b, .b_row = along_k ? 1 : cols,
                      .b_k = along_k ? cols : 1, .b_type = DT_F8_E4M3, .c = c->p[0], .c_row = cs, .bias = coin() ? input((size_t)N, kind) : NULL,
                      .accumulate = coin(), .b_rows_k = along_k, .b_scale_row = f8_blocks(cols), .b_row0 = row0};
    if (rng_below(&rnd, 4)) g[0].b_scale = f8_factors((size_t)f8_blocks(row0 + rows) * (size_t)f8_blocks(cols));
    g[1] = g[0];
    g[1].c = c->p[1];
    if (striped) stripe_some(g);
    run_both(ref, fast, &g[0], &g[1], gemm_items(M, N), gemm_scratch(), what);
}

static void check_gemm(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    if (coin()) {
        (coin() ? check_gemm_f8 : check_gemm_blocked)(ref, fast, what, kind);
        return;
    }
    static const Dtype TYPES[] = {DT_F32, DT_F16, DT_BF16};
    bool               at = coin(), bt = coin(), tall = rng_below(&rnd, 4) == 0, striped = !bt && coin();
    int                M = tall ? pick(380, 400) : width(64), N = width(tall ? 40 : 140), K = rng_below(&rnd, 16) ? width(600) : 0;
    int                as = (at ? M : K) + pick(0, 5), bs = (bt ? N : K) + (striped ? 0 : pick(0, 5)), cs = N + pick(0, 5);
    Dtype              type = TYPES[rng_below(&rnd, 3)];
    size_t             an = at ? (size_t)(K ? K - 1 : 0) * (size_t)as + (size_t)M : (size_t)(M - 1) * (size_t)as + (size_t)K;
    size_t             bn = bt ? (size_t)(K ? K - 1 : 0) * (size_t)bs + (size_t)N : (size_t)(N - 1) * (size_t)bs + (size_t)K;
    Out               *c = output((size_t)(M - 1) * (size_t)cs + (size_t)N, kind);
    GemmArgs           g[2];
    g[0] = (GemmArgs){.M = M, .N = N, .K = K, .a = input(an, kind), .a_row = at ? 1 : as, .a_k = at ? as : 1, .b = input_typed(type, bn, kind),
                      .b_row = bt ? 1 : bs, .b_k = bt ? bs : 1, .b_type = type, .c = c->p[0], .c_row = cs,
                      .bias = coin() ? input((size_t)N, kind) : NULL, .accumulate = coin()};
    g[1] = g[0];
    g[1].c = c->p[1];
    if (striped) stripe_some(g);
    run_both(ref, fast, &g[0], &g[1], gemm_items(M, N), gemm_scratch(), what);
}

/* groups of 128 columns and fewer: heads, strides, sizes that quantise to nothing, to NaN */
static void check_act(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int     rows = pick(1, 4), H = pick(1, 3), K = 32 * pick(1, 9), head = K + pick(0, 5), s = H * head + pick(0, 5);
    size_t  n = (size_t)rows * (size_t)(H * K), groups = (size_t)(rows * H * act_groups(K));
    Out    *d = output(groups * sizeof(ActGroup) / sizeof(float), NUM_UNIT), *q = output(n / 4, NUM_UNIT); /* bytes and words, compared as such */
    ActArgs a[2];
    a[0] = (ActArgs){input((size_t)(rows - 1) * (size_t)s + (size_t)((H - 1) * head + K), kind), s, head, H, K, (int8_t *)q->p[0], (ActGroup *)(void *)d->p[0]};
    for (int i = pick(0, 2 * ACT_ASIDE); i > 0; i--) ((real *)(uintptr_t)a[0].x)[rng_below(&rnd, (uint32_t)K)] *= 100;
    a[1] = a[0];
    a[1].q = (int8_t *)q->p[1];
    a[1].g = (ActGroup *)(void *)d->p[1];
    run_both(ref, fast, &a[0], &a[1], rows, 0, what);
    assert_memory_equal(q->p[0], q->p[1], n);
}

static void check_dot(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int         k = pick(0, QUANT_TYPES - 1), M = rng_below(&rnd, 8) ? width(36) : pick(250, 260), N = width(M > 20 ? 40 : 100), H = pick(1, 3);
    Dtype       t = QUANT_SCALES[k].type;
    int         block = dtype_info(t)->block, K = block * pick(1, 600 / block + 1), head = N + pick(0, 5), cs = H * head + pick(0, 5);
    size_t      numbers = (size_t)M * (size_t)(H * K), groups = (size_t)(M * H * act_groups(K)), blocks = (size_t)(H * N) * (size_t)(K / block);
    size_t      bytes = (size_t)dtype_info(t)->block_bytes;
    int8_t     *q = guarded(numbers);
    ActGroup   *g = guarded(groups * sizeof *g);
    uint8_t    *b = guarded(blocks * bytes);
    Out        *c = output((size_t)(M - 1) * (size_t)cs + (size_t)((H - 1) * head + N), kind);
    DotArgs     a[2];
    float      *x = input(numbers, kind);
    const Kernels *r = cpu_kernels("ref", NULL);
    for (size_t i = coin() ? numbers / 64 : 0; i > 0; i--) x[rng_below(&rnd, (uint32_t)numbers)] *= 100; /* columns to be kept aside, or too many */
    r->act(&(ActArgs){x, H * K, K, H, K, q, g}, 0, M, NULL);
    quant_random(&rnd, k, b, blocks);
    for (size_t i = 0; rng_below(&rnd, 4) == 0 && i < blocks * bytes; i++) b[i] = (uint8_t)rng_u32(&rnd); /* hostile scales */
    a[0] = (DotArgs){M, N, K, H, q, g, b, t, (int64_t)(K / block) * (int64_t)bytes, (int64_t)N * (K / block) * (int64_t)bytes, c->p[0], cs, head,
                     coin() ? input((size_t)N, kind) : NULL, false};
    a[1] = a[0];
    if (coin()) { /* stripes: of the one that is compared, or of both */
        uint8_t *stripes = guarded(blocks * bytes);
        for (int h = 0; h < H; h++) stripe_matrix(t, b + h * a[0].b_head, N, K / block, stripes + h * a[0].b_head);
        for (int i = coin(); i < 2; i++) {
            a[i].b = stripes;
            a[i].striped = true;
        }
    }
    a[1].c = c->p[1];
    run_both(ref, fast, &a[0], &a[1], (int64_t)H * ((M + DOT_TILE_M - 1) / DOT_TILE_M) * ((N + DOT_TILE_N - 1) / DOT_TILE_N), dot_scratch(), what);
}

static void check_rmsnorm(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int      rows = pick(1, 5), groups = pick(1, 3), N = width(300), xs = groups * N + pick(0, 5), ys = groups * N + pick(0, 5);
    Out     *y = output((size_t)(rows - 1) * (size_t)ys + (size_t)(groups * N), kind), *rstd = output((size_t)(rows * groups), kind);
    bool     keep = coin();
    NormArgs a[2];
    a[0] = (NormArgs){input((size_t)(rows - 1) * (size_t)xs + (size_t)(groups * N), kind), y->p[0], input((size_t)N, kind),
                      keep ? rstd->p[0] : NULL, xs, ys, groups, N, 1e-6f};
    a[1] = a[0];
    a[1].y = y->p[1];
    a[1].rstd = keep ? rstd->p[1] : NULL;
    run_both(ref, fast, &a[0], &a[1], rows, 0, what);
}

static void check_rmsnorm_back(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind, bool gain)
{
    int          rows = pick(1, 6), groups = pick(1, 3), N = width(300), xs = groups * N + pick(0, 5), ys = groups * N + pick(0, 5);
    size_t       xn = (size_t)(rows - 1) * (size_t)xs + (size_t)(groups * N), yn = (size_t)(rows - 1) * (size_t)ys + (size_t)(groups * N);
    Out         *dx = output(xn, kind), *dgain = output((size_t)N, kind);
    NormBackArgs a[2];
    a[0] = (NormBackArgs){input(xn, kind), input(yn, kind), input((size_t)N, kind), input((size_t)(rows * groups), kind),
                          dx->p[0], dgain->p[0], xs, ys, rows, groups, N};
    a[1] = a[0];
    a[1].dx = dx->p[1];
    a[1].dgain = dgain->p[1];
    run_both(ref, fast, &a[0], &a[1], gain ? N : rows, 0, what);
}
static void check_rmsnorm_back_x(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    check_rmsnorm_back(ref, fast, what, kind, false);
}
static void check_rmsnorm_back_gain(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    check_rmsnorm_back(ref, fast, what, kind, true);
}

static void check_add(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int     rows = pick(1, 5), cols = width(200), s = cols + pick(0, 5), bs = cols + pick(0, 5);
    size_t  n = (size_t)(rows - 1) * (size_t)s + (size_t)cols;
    Out    *y = output(n, kind);
    bool    place = coin();
    AddArgs a[2];
    a[0] = (AddArgs){place ? y->p[0] : input(n, kind), input((size_t)(rows - 1) * (size_t)bs + (size_t)cols, kind), y->p[0], s, bs, s, cols,
                     coin() ? 1.0f : number(kind)};
    a[1] = a[0];
    if (place) a[1].a = y->p[1];
    a[1].y = y->p[1];
    run_both(ref, fast, &a[0], &a[1], rows, 0, what);
}

static void check_col_sum(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int        rows = pick(1, 40), cols = width(300), s = cols + pick(0, 5);
    Out       *y = output((size_t)cols, kind);
    ColSumArgs a[2];
    a[0] = (ColSumArgs){input((size_t)(rows - 1) * (size_t)s + (size_t)cols, kind), s, rows, y->p[0]};
    a[1] = a[0];
    a[1].y = y->p[1];
    run_both(ref, fast, &a[0], &a[1], cols, 0, what);
}

static void check_rope(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int      rows = pick(1, 4), heads = pick(1, 4), R = 2 * width(64), head = R + pick(0, 5), s = heads * head + pick(0, 5);
    size_t   n = (size_t)(rows - 1) * (size_t)s + (size_t)((heads - 1) * head + R);
    Out     *y = output(n, kind);
    bool     place = coin();
    RopeArgs a[2];
    a[0] = (RopeArgs){place ? y->p[0] : input(n, kind), y->p[0], input((size_t)(rows * R), NUM_UNIT), s, head, s, head, heads, R, coin(),
                      coin(), !place && coin()};
    a[1] = a[0];
    if (place) a[1].x = y->p[1];
    a[1].y = y->p[1];
    run_both(ref, fast, &a[0], &a[1], rows, 0, what);
}

static void check_swiglu(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int        rows = pick(1, 5), cols = width(200), s = cols + pick(0, 5);
    size_t     n = (size_t)(rows - 1) * (size_t)s + (size_t)cols;
    float     *gate = input(n, kind);
    Out       *y = output(n, kind), *dgate = output(n, kind), *dup = output(n, kind);
    SwigluArgs a[2];
    for (size_t i = 0; i < n; i += 3) gate[i] *= 100; /* the exponential's ends */
    a[0] = (SwigluArgs){gate, input(n, kind), input(n, kind), y->p[0], dgate->p[0], dup->p[0], s, cols};
    a[1] = a[0];
    a[1].y = y->p[1];
    a[1].dgate = dgate->p[1];
    a[1].dup = dup->p[1];
    run_both(ref, fast, &a[0], &a[1], rows, 0, what);
}

static void check_combine(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int         T = pick(1, 5), K = pick(1, 8), cols = width(200), s = cols + pick(0, 5);
    int32_t    *slot = guarded((size_t)(T * K) * sizeof *slot);
    Out        *y = output((size_t)(T - 1) * (size_t)s + (size_t)cols, kind), *dx = output((size_t)(T * K * cols), kind);
    Out        *dw = output((size_t)(T * K), kind);
    CombineArgs a[2];
    for (int i = 0; i < T * K; i++) slot[i] = i;
    for (int i = T * K - 1; i > 0; i--) {
        int j = pick(0, i), t = slot[i];
        slot[i] = slot[j];
        slot[j] = t;
    }
    a[0] = (CombineArgs){input((size_t)(T * K * cols), kind), slot, input((size_t)(T * K), kind), y->p[0], s, K, cols, coin(),
                         input((size_t)(T - 1) * (size_t)s + (size_t)cols, kind), dx->p[0], dw->p[0]};
    if (!strstr(what, "back") && coin()) a[0].weight = NULL;
    a[1] = a[0];
    a[1].y = y->p[1];
    a[1].dx = dx->p[1];
    a[1].dweight = dw->p[1];
    run_both(ref, fast, &a[0], &a[1], T, 0, what);
}

static void check_xent(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    int      rows = pick(1, 4), V = width(600);
    Out     *x = output((size_t)(rows * V), kind), *logp = output((size_t)(2 * rows), NUM_UNIT);
    int32_t *target = guarded((size_t)rows * sizeof *target);
    XentArgs a[2];
    for (int r = 0; r < rows; r++) target[r] = pick(0, V - 1);
    if (coin())
        for (size_t i = 0; i < x->n; i++) x->p[1][i] = x->p[0][i] *= 30;
    a[0] = (XentArgs){x->p[0], V, target, logp->p[0], input((size_t)(2 * rows), NUM_UNIT)};
    a[1] = a[0];
    a[1].logits = x->p[1];
    a[1].logp = logp->p[1];
    run_both(ref, fast, &a[0], &a[1], rows, 0, what);
}

/* ---- attention ---- */
typedef struct AttnCase {
    AttnArgs a[2];
    int     *item;
    int64_t  items, page_items;
    int      T;
} AttnCase;

/* Pages of a cache: whole pages whose positions beyond the last hold NaN, which may not come near a result. */
static const void **pages_cached(const AttnArgs *a, int len, int heads, int cols, bool keys, NumKind kind)
{
    int          n = (len + KV_PAGE - 1) / KV_PAGE;
    const void **p = guarded((size_t)n * sizeof *p);
    size_t       head = kv_bytes(a->type, (size_t)(KV_PAGE * cols));
    for (int i = 0; i < n; i++) {
        int      rows = len - i * KV_PAGE < KV_PAGE ? len - i * KV_PAGE : KV_PAGE;
        size_t   bytes = (size_t)(heads - 1) * a->head_step + head;
        uint8_t *page = guarded(bytes);
        memset(page, 0xff, bytes);
        for (int h = 0; h < heads; h++)
            for (int j = 0; j < rows; j++)
                for (int d = 0; d < cols; d++) {
                    uint8_t *at = page + (size_t)h * a->head_step + (a->type == DT_Q8_0 ? d / KV_Q8_COLS * KV_Q8_BLOCK : 0);
                    int64_t  to = keys ? kv_key_at(a->type, j, d) : kv_val_at(a->type, cols, j, d);
                    if (a->type != DT_Q8_0) fill_typed(a->type, at + to * (a->type == DT_F32 ? 4 : 2), 1, kind);
                    else at[to] = (uint8_t)rng_u32(&rnd);
                    if (a->type == DT_Q8_0 && d % KV_Q8_COLS == 0) fill_typed(DT_F16, at + 2 * j, 1, kind);
                }
        p[i] = page;
    }
    return p;
}
static const void **pages_packed(const float *x, int64_t row, int row0, int len)
{
    int          n = (len + KV_PAGE - 1) / KV_PAGE;
    const void **p = guarded((size_t)n * sizeof *p);
    for (int i = 0; i < n; i++) p[i] = x + (row0 + i * KV_PAGE) * row;
    return p;
}

static AttnCase attn_case(NumKind kind, bool backward)
{
    static const Dtype TYPES[] = {DT_F32, DT_F16, DT_BF16, DT_Q8_0};
    Dtype              type = !backward && coin() ? TYPES[rng_below(&rnd, 4)] : DT_COUNT; /* COUNT: a packed batch */
    bool               cached = type != DT_COUNT, in_k = rng_below(&rnd, 4) == 0, wide = rng_below(&rnd, 12) == 0;
    bool               four = type == DT_Q8_0 && !in_k && coin(); /* queries of a key head, of a row: kernels have a way of their own */
    int                G = in_k ? 1 : pick(1, 3), per = four ? 4 : rng_below(&rnd, 8) ? pick(1, 8) : pick(60, 70), H = G * per;
    int                dk = wide ? 300 : width(70), dv = in_k ? pick(1, dk) : width(wide ? 300 : 70), spans = pick(1, 3), T = 0, n = 0;
    if (type == DT_Q8_0) { /* whole blocks */
        dk = (dk + 31) / 32 * 32;
        dv = four ? 128 * pick(1, 2) : (dv + 31) / 32 * 32;
    }
    AttnCase           c = {.item = guarded(sizeof(int) * 3 * 65536)};
    AttnArgs          *a = &c.a[0];
    KeySpan           *s = guarded((size_t)spans * sizeof *s);
    Out               *out, *lse, *delta, *dq, *dko, *dvo = NULL;
    *a = (AttnArgs){.H = H, .G = G, .dk = dk, .dv = dv, .scale = 1 / sqrtf((float)dk), .span = s, .n_span = spans};
    a->heads = per;
    for (int h = pick(1, per); !four && !backward && coin() && h <= per; h++)
        if (per % h == 0) a->heads = h;
    a->tile = a->heads >= 64 ? 1 : rng_below(&rnd, 4) ? 64 / a->heads : pick(1, 64 / a->heads);
    a->type = cached ? type : DT_F32;
    a->paged = cached;
    a->v_in_k = in_k;
    a->head_step = kv_bytes(a->type, (size_t)(KV_PAGE * (dk > dv ? dk : dv))) + 64 * (size_t)pick(0, 2);
    a->q_head = dk + (G == 1 || cached ? pick(0, 3) : 0);
    a->q_row = H * a->q_head + pick(0, 3);
    a->key_row = G * dk + pick(0, 3);
    a->val_row = in_k ? a->key_row : G * dv + pick(0, 3);
    a->out_row = H * dv + pick(0, 3);
    for (int i = 0; i < spans; i++) {
        s[i] = (KeySpan){T, four ? 1 : per > 8 ? pick(1, 40) : pick(1, 100), cached ? pick(0, 70) * (four ? 3 : 1) : 0, NULL, NULL};
        T += s[i].n;
        for (int g = 0; g < H / a->heads; g++)
            for (int r = 0; r < s[i].n; r += a->tile, n++) memcpy(c.item + 3 * n, (int[]){i, r, g}, 3 * sizeof(int));
    }
    c.T = T;
    c.items = n;
    size_t kn = (size_t)(T - 1) * (size_t)a->key_row + (size_t)(G * dk), vn = (size_t)(T - 1) * (size_t)a->val_row + (size_t)(G * dv);
    float *k = input(cached ? 0 : kn, kind), *v = in_k ? k : input(cached ? 0 : vn, kind);
    for (int i = 0; i < spans; i++) {
        int len = s[i].pos0 + s[i].n;
        s[i].key = cached ? pages_cached(a, len, G, dk, true, kind) : pages_packed(k, a->key_row, s[i].row0, len);
        s[i].val = in_k ? s[i].key : cached ? pages_cached(a, len, G, dv, false, kind) : pages_packed(v, a->val_row, s[i].row0, len);
    }
    a->q = input((size_t)(T - 1) * (size_t)a->q_row + (size_t)((H - 1) * a->q_head + dk), kind);
    a->dout = input((size_t)(T - 1) * (size_t)a->out_row + (size_t)(H * dv), kind);
    out = output((size_t)(T - 1) * (size_t)a->out_row + (size_t)(H * dv), kind);
    lse = output((size_t)(T * H), kind);
    delta = output((size_t)(T * H), kind);
    dq = output((size_t)(T - 1) * (size_t)a->q_row + (size_t)((H - 1) * a->q_head + dk), kind);
    dko = output(kn, kind);
    if (!in_k) dvo = output(vn, kind);
    c.a[1] = *a;
    for (int w = 0; w < 2; w++) {
        AttnArgs *b = &c.a[w];
        b->item = c.item;
        b->out = out->p[w];
        b->lse = backward || coin() ? lse->p[w] : NULL;
        b->delta = delta->p[w];
        b->dq = dq->p[w];
        b->dk_out = dko->p[w];
        b->dv_out = in_k ? dko->p[w] : dvo->p[w];
    }
    if (c.a[1].lse == NULL || c.a[0].lse == NULL) c.a[0].lse = c.a[1].lse = NULL;
    return c;
}

static void check_attn(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    AttnCase c = attn_case(kind, false);
    run_both(ref, fast, &c.a[0], &c.a[1], c.items, attn_scratch(c.a[0].tile, c.a[0].heads, c.a[0].dk, c.a[0].dv), what);
}
static void check_attn_delta(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    AttnCase c = attn_case(kind, true);
    run_both(ref, fast, &c.a[0], &c.a[1], c.T, 0, what);
}
/* the backward of a forward that the reference ran */
static AttnCase attn_forwarded(NumKind kind)
{
    const Kernels *k = cpu_kernels("ref", NULL);
    AttnCase       c = attn_case(kind, true);
    void          *s = guarded(attn_scratch(c.a[0].tile, c.a[0].heads, c.a[0].dk, c.a[0].dv));
    for (int w = 0; w < 2; w++) {
        k->attn(&c.a[w], 0, c.items, s);
        k->attn_delta(&c.a[w], 0, c.T, s);
    }
    return c;
}
static void check_attn_back_q(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    AttnCase c = attn_forwarded(kind);
    run_both(ref, fast, &c.a[0], &c.a[1], c.items, attn_scratch(c.a[0].tile, c.a[0].heads, c.a[0].dk, c.a[0].dv), what);
}
static void check_attn_back_kv(KernelFn *ref, KernelFn *fast, const char *what, NumKind kind)
{
    /* the reference multiplies rows before a key by 0, which an infinity would turn into NaN */
    AttnCase c = attn_forwarded(kind == NUM_INF ? NUM_UNIT : kind);
    int64_t  n = 0;
    for (int i = 0; i < c.a[0].n_span; i++)
        for (int g = 0; g < c.a[0].G; g++)
            for (int p = 0; p * KV_PAGE < c.a[0].span[i].n; p++, n++) memcpy(c.item + 3 * n, (int[]){i, p, g}, 3 * sizeof(int));
    run_both(ref, fast, &c.a[0], &c.a[1], n, attn_scratch(c.a[0].tile, c.a[0].heads, c.a[0].dk, c.a[0].dv), what);
}

static const struct {
    const char *name;
    CheckFn    *fn;
} CHECKS[] = {
    {"gemm", check_gemm},
    {"act", check_act},
    {"dot", check_dot},
    {"rmsnorm", check_rmsnorm},
    {"rmsnorm_back_x", check_rmsnorm_back_x},
    {"rmsnorm_back_gain", check_rmsnorm_back_gain},
    {"add", check_add},
    {"col_sum", check_col_sum},
    {"rope", check_rope},
    {"swiglu", check_swiglu},
    {"swiglu_back", check_swiglu},
    {"attn", check_attn},
    {"attn_delta", check_attn_delta},
    {"attn_back_q", check_attn_back_q},
    {"attn_back_kv", check_attn_back_kv},
    {"combine", check_combine},
    {"combine_back", check_combine},
    {"xent", check_xent},
    {"xent_back", check_xent},
};

static CheckFn *check_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(CHECKS); i++)
        if (strcmp(CHECKS[i].name, name) == 0) return CHECKS[i].fn;
    return NULL;
}

static const Kernels *table[8];
static int            n_tables;

/* A kernel that wants a vector version has one in every table but the first, and every kernel that differs has a check. */
static void test_no_holes(void **state)
{
    int                n;
    const char *const *name = kernel_names(&n);
    (void)state;
    for (int t = 1; t < n_tables; t++)
        for (int i = 0; i < n; i++) {
            KernelFn *fn = kernel_named(table[t], name[i]);
            assert_non_null(fn);
            if (kernel_wants_isa(name[i]) && fn == kernel_named(table[0], name[i])) fail_msg("%s has no %s version", name[i], table[t]->isa);
            if (fn != kernel_named(table[0], name[i]) && !check_named(name[i])) fail_msg("nothing checks %s", name[i]);
        }
}

static void test_against_reference(void **state)
{
    int                n;
    const char *const *name = kernel_names(&n);
    (void)state;
    for (int t = 1; t < n_tables; t++)
        for (int i = 0; i < n; i++) {
            KernelFn *ref = kernel_named(table[0], name[i]), *fast = kernel_named(table[t], name[i]);
            if (fast == ref || fast == kernel_named(table[t - 1], name[i])) continue;
            rnd = (Rng){(uint64_t)i, (uint64_t)t, 0};
            for (int r = 0, rounds = ROUNDS; r < rounds; r++) {
                char    what[96];
                NumKind kind = r % 2 ? NUM_UNIT : (NumKind)(r / 2 % NUM_KINDS);
                if (r == 0 && (strcmp(name[i], "gemm") == 0 || strcmp(name[i], "dot") == 0 || strcmp(name[i], "attn") == 0)) rounds = 4 * ROUNDS; /* types are many */
                snprintf(what, sizeof what, "%s_%s, round %d, numbers %d", name[i], table[t]->isa, r, (int)kind);
                check_named(name[i])(ref, fast, what, kind);
                guards_free();
            }
        }
}

/* The vector exponential at every float of a dense grid, through swiglu, whose value is gate * sigmoid(gate) * up. */
static void test_exp(void **state)
{
    enum { N = 4096 };
    static float gate[N], up[N], y[2][N];
    (void)state;
    for (int t = 1; t < n_tables; t++)
        for (uint64_t base = 0; base < 0xfff00000u; base += 0x00200000u) { /* 64 bits: the last step must not wrap */
            SwigluArgs a = {.gate = gate, .up = up, .row = N, .cols = N};
            for (uint32_t i = 0; i < N; i++) {
                uint32_t bits = (uint32_t)base + i * 251;
                memcpy(&gate[i], &bits, 4);
                up[i] = 1;
            }
            for (int w = 0; w < 2; w++) {
                a.y = y[w];
                table[w ? t : 0]->swiglu(&a, 0, 1, NULL);
            }
            for (int i = 0; i < N; i++)
                if (!same(y[0][i], y[1][i]))
                    fail_msg("%s: swiglu(%a) is %a, the reference has %a", table[t]->isa, (double)gate[i], (double)y[1][i], (double)y[0][i]);
        }
}

/* Every code in every place of a line, times 1: the decoding alone, of every ISA and every number of rows. */
static void test_f8_codes(void **state)
{
    enum { K = 256, N = 32 };
    static uint8_t b[N * K];
    static float   a[13 * K], c[2][13 * N];
    const float    scale[2] = {0.7f, 1e-3f};
    void          *scratch = mem_pages(gemm_scratch());
    (void)state;
    assert_non_null(scratch);
    for (int t = 1; t < n_tables; t++)
        for (int M = 1; M <= 13; M += M < 5 ? 1 : 4)
            for (int at = 0; at < K; at++) {
                GemmArgs g = {.M = M, .N = N, .K = K, .a = a, .a_row = K, .a_k = 1, .b = b, .b_row = K, .b_k = 1, .b_type = DT_F8_E4M3, .c_row = N,
                              .b_scale = scale, .b_scale_row = 2};
                memset(b, 0, sizeof b);
                memset(a, 0, sizeof a);
                for (int n = 0; n < N; n++) b[n * K + at] = (uint8_t)(at + 8 * n);
                for (int m = 0; m < M; m++) a[m * K + at] = 1;
                for (int w = 0; w < 2; w++) {
                    g.c = c[w];
                    table[w ? t : 0]->gemm(&g, 0, 1, scratch);
                }
                for (int i = 0; i < M * N; i++)
                    if (!same(c[0][i], c[1][i]))
                        fail_msg("%s: code %d in column %d gives %a, the reference has %a", table[t]->isa, (at + 8 * (i % N)) & 255, at,
                                 (double)c[1][i], (double)c[0][i]);
            }
    mem_pages_free(scratch, gemm_scratch());
}

/* A row per kernel and ISA: the reference's time over the kernel's, over cases that are checked on the way. */
static int bench(const char *only)
{
    int                n, found = 0;
    const char *const *name = kernel_names(&n);
    timing.on = true;
    for (int i = 0; i < n; i++)
        for (int t = 1; t < n_tables; t++) {
            KernelFn *ref = kernel_named(table[0], name[i]), *fast = kernel_named(table[t], name[i]);
            if (fast == ref || (only && strcmp(only, name[i]) != 0)) continue;
            rnd = (Rng){(uint64_t)i, 0, 0}; /* the same cases for every ISA */
            timing.s[0] = timing.s[1] = 0;
            for (int r = 0; r < ROUNDS; r++) {
                check_named(name[i])(ref, fast, name[i], NUM_UNIT);
                guards_free();
            }
            printf("%-18s %-7s %6.2f x plain C  (%.3f ms for %.3f, %d cases)\n", name[i], table[t]->isa, timing.s[0] / timing.s[1],
                   timing.s[1] * 1e3, timing.s[0] * 1e3, ROUNDS);
            found++;
        }
    if (!found) fprintf(stderr, "test_kernels: no kernel %s that has a version of its own\n", only ? only : "");
    return found ? 0 : 2;
}

/* The loops that kernels are measured against do what they count: all bytes are read, all chains run. */
static void test_peak(void **state)
{
    uint64_t *p = mem_pages(1 << 20), want = 0;
    (void)state;
    for (int i = 0; i < 1 << 17; i++) want += p[i] = (uint64_t)rng_u32(&rnd) << 32 | rng_u32(&rnd);
    for (int i = 0; i < n_tables; i++) {
        Peak     k = cpu_peak(table[i]);
        float    f = 0;
        uint32_t u = 0;
        assert_true(k.read(p, 1 << 20) == want);
        assert_true(k.read(p, 128) != k.read(p, 256));
        k.fma(1000, &f);
        k.dot8(1000, &u);
        assert_true(f > 0 && f < 1e6f && u != 0 && k.fma_ops > 0 && k.dot8_ops > 0 && *k.dot8_name);
    }
    mem_pages_free(p, 1 << 20);
}

/* What is kept aside: more than 8 times the fifth largest, four at most, wherever in the group; exactly 8 times is not. */
static void test_aside(void **state)
{
    static const struct {
        int   n, found, q; /* q of the others, which are 1 or -1 */
        float large[5];
        int   at[5];
    } CASE[] = {
        {128, 0, 16, {8}, {5}}, {128, 1, 127, {8.5f}, {127}}, {32, 2, 127, {-9, 9}, {0, 1}}, {128, 3, 127, {9, 90000, -900}, {5, 70, 100}},
        {96, 4, 127, {9, 10, 90, 100}, {92, 93, 94, 95}}, {128, 0, 10, {9, 10, 11, 12, 13}, {1, 2, 3, 4, 5}},
        {64, 3, 16, {99, 99, 99, 8, 8}, {3, 5, 7, 9, 11}},
    };
    (void)state;
    for (int t = 0; t < n_tables; t++)
        for (size_t c = 0; c < sizeof CASE / sizeof *CASE; c++) {
            float    x[ACT_GROUP];
            int8_t   q[ACT_GROUP];
            ActGroup g;
            for (int i = 0; i < CASE[c].n; i++) x[i] = i % 2 ? 1 : -1;
            for (int i = 0; i < 5 && CASE[c].large[i] != 0; i++) x[CASE[c].at[i]] = CASE[c].large[i];
            table[t]->act(&(ActArgs){x, CASE[c].n, CASE[c].n, 1, CASE[c].n, q, &g}, 0, 1, NULL);
            for (int i = 0; i < ACT_ASIDE; i++) assert_int_equal(g.at[i], i < CASE[c].found ? CASE[c].at[i] : -1);
            for (int i = 0; i < CASE[c].found; i++) {
                assert_true(g.x[i] == CASE[c].large[i]);
                assert_int_equal(q[g.at[i]], 0);
            }
            assert_int_equal(q[20], -CASE[c].q);
            assert_int_equal(q[21], CASE[c].q);
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_holes),
        cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_aside),
        cmocka_unit_test(test_f8_codes),
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_peak),
    };
    n_tables = cpu_kernels_all(table, (int)ARRAY_LEN(table));
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(argc > 2 ? argv[2] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
