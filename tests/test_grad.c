/* Every op's backward against finite differences, in double precision, with the reference kernels.
 *
 * A case is a function of inputs and weights that calls one op.  The loss is the sum of random weights times everything
 * that comes out, and times the inputs themselves, so that gradients must be added to what is there.  Its derivative by
 * every element of every input and weight is taken by a five-point difference and compared with the tape's.  The tape runs
 * four times, with one thread and three, keeping scopes and running them again: the same bits each time.  Its memory is what
 * a dry run of the same function asked for. */
#include "cpu/cpu.h"
#include "tensor/tensor.h"
#include "testlib.h"

#include <math.h>

enum { X_MAX = 3, W_MAX = 12, Y_MAX = 8 };

typedef struct Problem Problem;
/* Runs the op on p->x and p->w; leaves what comes out in p->y. */
typedef void CaseFn(Ctx *c, Problem *p);

typedef struct Case {
    const char *op, *what;
    CaseFn     *fn;
    int         x[X_MAX][2], w[W_MAX][2]; /* rows, columns; 0: no more */
    int         par[6];                   /* what fn makes of them */
    double      size;                     /* of inputs, 0: 1 */
} Case;

struct Problem {
    const Case *cs;
    real       *x_data[X_MAX], *w_data[W_MAX], *w_grad[W_MAX];
    Tensor      x[X_MAX]; /* copies of x_data at the start of the arena */
    Weight      w[W_MAX], frozen;
    Tensor      y[Y_MAX];
    int         n_x, n_w, n_y;
    uint64_t    choice; /* hash of what was chosen: a step may not change it */
    ExpertStore store;
};

static real random_real(Rng *r) { return (real)rng_normal(r); }

static void problem_init(Problem *p, const Case *cs)
{
    Rng r = {hash64(cs->op, strlen(cs->op), 7), hash64(cs->what, strlen(cs->what), 7), 0};
    memset(p, 0, sizeof *p);
    p->cs = cs;
    for (; p->n_x < X_MAX && cs->x[p->n_x][0]; p->n_x++) {
        int n = cs->x[p->n_x][0] * cs->x[p->n_x][1];
        p->x_data[p->n_x] = mem_alloc((size_t)n * sizeof(real));
        for (int i = 0; i < n; i++) p->x_data[p->n_x][i] = random_real(&r) * (cs->size > 0 ? cs->size : 1);
    }
    for (; p->n_w < W_MAX && cs->w[p->n_w][0]; p->n_w++) {
        int k = p->n_w, rows = cs->w[k][0], cols = cs->w[k][1];
        p->w_data[k] = mem_alloc((size_t)rows * (size_t)cols * sizeof(real));
        p->w_grad[k] = mem_zalloc((size_t)rows * (size_t)cols, sizeof(real));
        for (int i = 0; i < rows * cols; i++) p->w_data[k][i] = random_real(&r);
        p->w[k] = (Weight){p->w_data[k], DT_F32, rows, cols, k, "w", NULL, NULL};
    }
}

static void problem_free(Problem *p)
{
    for (int i = 0; i < p->n_x; i++) mem_free(p->x_data[i]);
    for (int i = 0; i < p->n_w; i++) {
        mem_free(p->w_data[i]);
        mem_free(p->w_grad[i]);
    }
}

static void put(Problem *p, Tensor y) { p->y[p->n_y++] = y; }

static void run_case(Ctx *c, Problem *p)
{
    p->choice = 0;
    p->n_y = 0;
    for (int i = 0; i < p->n_x; i++) {
        const int *s = p->cs->x[i];
        p->x[i] = constant(c, p->x_data[i], s[0], s[1]);
    }
    p->cs->fn(c, p);
    for (int i = 0; i < p->n_x; i++) put(p, p->x[i]); /* an input has other readers too */
}

/* the loss's weight of element (r, i) of output k: anything but regular */
static real loss_weight(int k, int r, int i)
{
    return (real)sin(1 + 3.7 * k + 1.3 * r + 0.7 * i + 0.011 * r * i);
}

static double loss(const Problem *p)
{
    double sum = 0;
    for (int k = 0; k < p->n_y; k++)
        for (int r = 0; r < p->y[k].rows; r++)
            for (int i = 0; i < p->y[k].cols; i++) sum += (double)(loss_weight(k, r, i) * tensor_row(p->y[k], r)[i]);
    return sum;
}

static const Kernels *ref_kernels(void)
{
    aha_error      e = {0};
    const Kernels *k = cpu_kernels("ref", &e);
    assert_non_null(k);
    return k;
}

static void ctx_sized(Ctx *c, Problem *p, Pool *pool, Tape *t)
{
    Ctx       dry;
    aha_error e = {0};
    ctx_init_dry(&dry, ref_kernels(), 1);
    dry.tape = t;
    run_case(&dry, p);
    if (ctx_failed(&dry)) fail_msg("dry run: %s", dry.err.text);
    /* a scope that is run again lies above all the others, and not where the dry run met it */
    if (t && !t->keep) dry.arena.peak += dry.arena.peak;
    ASSERT_OK(ctx_init_like(c, &dry, pool, &e), e);
}

/* ---- the tape's gradients ---- */
#define W_GRAD_BEFORE ((real)0.5) /* gradients of weights are added to what earlier batches left */

typedef struct Gradients {
    real *x[X_MAX], *w[W_MAX];
} Gradients;

static real *copy_of(const real *p, int n)
{
    real *q = mem_alloc((size_t)n * sizeof *q);
    memcpy(q, p, (size_t)n * sizeof *q);
    return q;
}

static Gradients tape_gradients(Problem *p, int threads, bool keep)
{
    Gradients g = {{NULL}, {NULL}};
    Ctx       c;
    Tape      t = {.wgrad = p->w_grad, .n_wgrad = p->n_w, .keep = keep};
    aha_error e = {0};
    Pool     *pool = threads > 1 ? pool_new(threads, &e) : NULL;
    ctx_sized(&c, p, pool, &t);
    ASSERT_OK(tape_init(&t, c.arena.cap, p->w_grad, p->n_w, keep, &e), e);
    c.tape = &t;
    for (int i = 0; i < p->n_w; i++)
        for (int k = 0; k < p->w[i].rows * p->w[i].cols; k++) p->w_grad[i][k] = W_GRAD_BEFORE;
    run_case(&c, p);
    tape_zero(&c);
    if (ctx_failed(&c)) fail_msg("forward: %s", c.err.text);
    for (int k = 0; k < p->n_y; k++)
        for (int r = 0; r < p->y[k].rows; r++)
            for (int i = 0; i < p->y[k].cols; i++) tape_grad(&c, tensor_row(p->y[k], r))[i] += loss_weight(k, r, i);
    tape_backward(&c);
    if (ctx_failed(&c)) fail_msg("backward: %s", c.err.text);
    for (int i = 0; i < p->n_x; i++) g.x[i] = copy_of(tape_grad(&c, p->x[i].data), p->x[i].rows * p->x[i].cols);
    for (int i = 0; i < p->n_w; i++) {
        g.w[i] = copy_of(p->w_grad[i], p->w[i].rows * p->w[i].cols);
        for (int k = 0; k < p->w[i].rows * p->w[i].cols; k++) g.w[i][k] -= W_GRAD_BEFORE;
    }
    tape_free(&t);
    ctx_free(&c);
    pool_free(pool);
    return g;
}

static void gradients_free(const Problem *p, Gradients *g)
{
    for (int i = 0; i < p->n_x; i++) mem_free(g->x[i]);
    for (int i = 0; i < p->n_w; i++) mem_free(g->w[i]);
}

static void same_bits(const Problem *p, const Gradients *a, const Gradients *b)
{
    for (int i = 0; i < p->n_x; i++)
        assert_memory_equal(a->x[i], b->x[i], (size_t)p->cs->x[i][0] * (size_t)p->cs->x[i][1] * sizeof(real));
    for (int i = 0; i < p->n_w; i++)
        assert_memory_equal(a->w[i], b->w[i], (size_t)p->w[i].rows * (size_t)p->w[i].cols * sizeof(real));
}

/* ---- finite differences ---- */
static double loss_at(Ctx *c, Problem *p, real *v, real x, uint64_t choice)
{
    real   was = *v;
    double l;
    *v = x;
    ctx_reset(c);
    run_case(c, p);
    if (ctx_failed(c)) fail_msg("forward: %s", c->err.text);
    if (p->choice != choice) fail_msg("a step of the difference changed what was chosen: pick another point");
    l = loss(p);
    *v = was;
    return l;
}

/* every element of v against grad; the error is measured beside the largest gradient of the leaf */
static void check_leaf(Ctx *c, Problem *p, const char *leaf, int k, real *v, const real *grad, int n, uint64_t choice)
{
    const double h = 5e-4;
    double       size = 1e-3;
    for (int i = 0; i < n; i++)
        if (fabs((double)grad[i]) > size) size = fabs((double)grad[i]);
    for (int i = 0; i < n; i++) {
        real   x = v[i], s = (real)h;
        double near = loss_at(c, p, &v[i], x + s, choice) - loss_at(c, p, &v[i], x - s, choice);
        double far = loss_at(c, p, &v[i], x + 2 * s, choice) - loss_at(c, p, &v[i], x - 2 * s, choice);
        double want = (8 * near - far) / (12 * h), got = (double)grad[i];
        if (!(fabs(got - want) <= 1e-7 * size))
            fail_msg("%s: %s: %s %d, element %d: the tape has %.12g, the difference quotient %.12g", p->cs->op, p->cs->what, leaf, k,
                     i, got, want);
    }
}

static void check_case(void **state)
{
    const Case *cs = *state;
    Problem     p;
    Gradients   g;
    Ctx         c;
    uint64_t    choice;
    problem_init(&p, cs);
    g = tape_gradients(&p, 1, true);
    choice = p.choice;
    for (int run = 1; run < 4; run++) {
        Gradients other = tape_gradients(&p, run & 1 ? 3 : 1, run < 2);
        same_bits(&p, &g, &other);
        gradients_free(&p, &other);
    }
    ctx_sized(&c, &p, NULL, NULL);
    for (int i = 0; i < p.n_x; i++) check_leaf(&c, &p, "input", i, p.x_data[i], g.x[i], cs->x[i][0] * cs->x[i][1], choice);
    for (int i = 0; i < p.n_w; i++) check_leaf(&c, &p, "weight", i, p.w_data[i], g.w[i], p.w[i].rows * p.w[i].cols, choice);
    gradients_free(&p, &g);
    ctx_free(&c);
    problem_free(&p);
}

/* ---- the ops ---- */
static void case_add(Ctx *c, Problem *p)
{
    put(p, add(c, p->x[0], p->x[1]));
}
static void case_add_views(Ctx *c, Problem *p) /* overlapping views of one tensor, one of them used twice */
{
    Tensor a = tensor_cols(p->x[0], 1, 3), b = tensor_cols(p->x[0], 2, 3);
    put(p, add(c, a, b));
    put(p, add(c, b, b));
}

static void case_gather(Ctx *c, Problem *p)
{
    static const int32_t row[] = {2, 0, 2, 2, 4, 1, 0};
    put(p, gather(c, p->x[0], row, 7));
    put(p, gather(c, tensor_cols(p->x[0], 1, 2), row + 1, 3));
}

static void case_embed(Ctx *c, Problem *p)
{
    static const int32_t token[] = {3, 0, 3, 6, 3, 1};
    put(p, embed(c, &p->w[0], token, 6));
}

static void case_linear(Ctx *c, Problem *p)
{
    put(p, linear(c, p->x[0], &p->w[0], p->n_w > 1 ? &p->w[1] : NULL));
}
static void case_linear_views(Ctx *c, Problem *p) /* several weights on one view; one of them without a gradient */
{
    static const real values[] = {1, -2, 3, (real)0.5, 7, -1};
    Tensor y[3];
    p->frozen = (Weight){values, DT_F32, 2, 3, -1, "frozen", NULL, NULL};
    linear_n(c, tensor_cols(p->x[0], 2, 3), 2, (const Weight *const[]){&p->w[0], &p->w[1]},
             (const Weight *const[]){&p->w[2], NULL}, y);
    y[2] = linear(c, p->x[1], &p->frozen, NULL);
    put(p, y[0]);
    put(p, tensor_cols(y[1], 1, 2));
    put(p, y[2]);
}

/* par: H, row0, step, rows, x_head, y_head */
static void case_heads(Ctx *c, Problem *p)
{
    const int *a = p->cs->par;
    HeadCut    cut = {a[0], a[1], a[2], a[3], a[4], a[5]};
    bool       t = strcmp(p->cs->op, "linear_heads_t") == 0;
    int        cols = t ? p->w[0].cols : cut.rows;
    Tensor     y = tensor_new(c, p->x[0].rows, (cut.H - 1) * cut.y_head + cols + 1);
    (t ? linear_heads_t : linear_heads)(c, tensor_cols(p->x[0], 1, p->x[0].cols - 1), &p->w[0], cut, y);
    for (int h = 0; h < cut.H; h++) put(p, tensor_cols(y, h * cut.y_head, cols));
}

static void case_rmsnorm(Ctx *c, Problem *p)
{
    put(p, rmsnorm(c, p->x[0], &p->w[0], 1e-2));
}
static void case_rmsnorm_views(Ctx *c, Problem *p) /* two norms beside each other in one tensor, as before a draft layer */
{
    int    n = p->w[0].cols;
    Tensor y = tensor_new(c, p->x[0].rows, 2 * n + 1);
    rmsnorm_to(c, tensor_cols(p->x[0], 1, n), &p->w[0], 1e-6, tensor_cols(y, n, n));
    rmsnorm_to(c, tensor_cols(p->x[0], 0, n), &p->w[0], 1e-6, tensor_cols(y, 0, n));
    put(p, tensor_cols(y, 0, 2 * n));
}

static Tensor angles(Ctx *c, int rows, int R)
{
    int32_t pos[64];
    double  freq[32];
    for (int i = 0; i < rows; i++) pos[i] = (7 * i) % 50;
    for (int i = 0; i < R / 2; i++) freq[i] = pow(100, -2.0 * i / R);
    return rope_angles(c, pos, rows, freq, R, 1.3);
}
/* par: H, R, x_head, interleaved */
static void case_rope_in_place(Ctx *c, Problem *p)
{
    const int *a = p->cs->par;
    Tensor     x = p->x[0], before = add(c, x, x); /* an earlier reader sees what was there before */
    rope(c, x, a[2], x, a[2], a[0], angles(c, x.rows, a[1]), a[3] != 0); /* x, turned, is among the outputs */
    put(p, before);
}
/* par: H, R, x_head, interleaved, y_head: into other columns of another tensor */
static void case_rope_to(Ctx *c, Problem *p)
{
    const int *a = p->cs->par;
    Tensor     x = tensor_cols(p->x[0], 1, p->x[0].cols - 1), y = tensor_new(c, x.rows, 2 + (a[0] - 1) * a[4] + a[1]);
    rope(c, x, a[2], tensor_cols(y, 2, y.cols - 2), a[4], a[0], angles(c, x.rows, a[1]), a[3] != 0);
    for (int h = 0; h < a[0]; h++) put(p, tensor_cols(y, 2 + h * a[4], a[1]));
}

/* A packed batch of the given lengths. */
typedef struct Packed {
    int32_t pos[128], seq[128];
    Batch   b;
} Packed;
static void pack(Packed *k, int n, const int *len)
{
    memset(k, 0, sizeof *k);
    for (int s = 0; s < n; s++)
        for (int i = 0; i < len[s]; i++, k->b.n++) {
            k->pos[k->b.n] = i;
            k->seq[k->b.n] = s;
        }
    k->b.pos = k->pos;
    k->b.seq = k->seq;
}

/* par: H, G, dk, dv, v_in_k, a number for the lengths */
static void case_attn(Ctx *c, Problem *p)
{
    static const int len[][3] = {{5, 0, 0}, {1, 70, 33}, {2, 40, 1}};
    const int *a = p->cs->par;
    AttnShape  s = {a[0], a[1], a[2], a[3], 0.4, a[4] != 0};
    Packed     k;
    pack(&k, 3, len[a[5]]);
    put(p, attn(c, s, p->x[0], p->x[1], s.v_in_k ? p->x[1] : p->x[2], &k.b, NULL, 0));
}
static void case_attn_views(Ctx *c, Problem *p) /* keys and values in one tensor; H 2, G 1, dk 3, dv 2 */
{
    AttnShape s = {2, 1, 3, 2, 0.6, false};
    Packed    k;
    pack(&k, 2, (const int[]){4, 3});
    put(p, attn(c, s, tensor_cols(p->x[0], 1, 6), tensor_cols(p->x[1], 0, 3), tensor_cols(p->x[1], 3, 2), &k.b, NULL, 0));
}

static void case_swiglu(Ctx *c, Problem *p)
{
    put(p, swiglu(c, p->x[0], p->x[1]));
}

/* par: K, n_group, topk_group, RouteScore, RouteMode, norm_topk */
static void case_route(Ctx *c, Problem *p)
{
    const int *a = p->cs->par;
    RouteShape s = {p->x[0].cols, a[0], a[1], a[2], (RouteScore)a[3], (RouteMode)a[4], a[5] != 0, 2.5};
    Routes     r = route(c, s, p->x[0], p->n_w ? &p->w[0] : NULL, 0);
    if (!ctx_failed(c) && !ctx_dry(c)) p->choice = hash64(r.id, (size_t)p->x[0].rows * (size_t)r.K * sizeof *r.id, 1);
    put(p, r.weight);
}

static int store_acquire(ExpertStore *s, int layer, const int32_t *id, int n, Expert *out, aha_error *e)
{
    const Problem *p = (const Problem *)(void *)((char *)s - offsetof(Problem, store));
    (void)layer, (void)e;
    for (int i = 0; i < n; i++) out[i] = (Expert){&p->w[3 * id[i]], &p->w[3 * id[i] + 1], &p->w[3 * id[i] + 2]};
    return 0;
}
static void store_release(ExpertStore *s, int layer, const int32_t *id, int n)
{
    (void)s, (void)layer, (void)id, (void)n;
}
static void case_moe(Ctx *c, Problem *p) /* four experts: one gets no row, one gets every row; par: K */
{
    static const int32_t two[] = {0, 3, 2, 3, 0, 3, 2, 3, 0, 3}, one[] = {3, 3, 0, 3, 0};
    int       K = p->cs->par[0], T = p->x[0].rows;
    Routes    r = {K, ctx_alloc(c, (size_t)T * (size_t)K, sizeof(int32_t)), p->x[1]};
    if (!ctx_failed(c) && !ctx_dry(c)) memcpy(r.id, K == 2 ? two : one, (size_t)T * (size_t)K * sizeof(int32_t));
    p->store = (ExpertStore){store_acquire, store_release, NULL};
    put(p, moe_ffn(c, p->cs->par[1] ? tensor_cols(p->x[0], 1, p->w[0].cols) : p->x[0], r, &p->store, 0, 4, p->w[0].rows));
}

static void case_logprob(Ctx *c, Problem *p)
{
    int32_t target[160];
    Tensor  h = tensor_cols(p->x[0], p->x[0].cols - p->w[0].cols, p->w[0].cols);
    for (int i = 0; i < h.rows; i++) target[i] = (5 * i + 1) % p->w[0].rows;
    put(p, logprob(c, h, &p->w[0], target));
}

/* x' = x + down(swiglu(gate norm(x), up norm(x))), in scopes, and one scope inside another */
static Tensor scope_body(Ctx *c, const void *arg, Tensor x)
{
    const Problem *p = *(const Problem *const *)arg;
    Tensor         h = rmsnorm(c, x, &p->w[0], 1e-6);
    return add(c, x, linear(c, swiglu(c, linear(c, h, &p->w[1], NULL), linear(c, h, &p->w[2], NULL)), &p->w[3], NULL));
}
static Tensor scope_outer(Ctx *c, const void *arg, Tensor x)
{
    return add(c, scoped(c, scope_body, arg, sizeof(void *), scope_body(c, arg, x)), x);
}
static void case_scoped(Ctx *c, Problem *p)
{
    const Problem *const arg = p;
    Tensor x = add(c, p->x[0], p->x[0]); /* without a tape a scope takes its input's memory */
    for (int i = 0; i < 3; i++) x = scoped(c, p->cs->par[0] ? scope_outer : scope_body, &arg, sizeof arg, x);
    put(p, rmsnorm(c, x, &p->w[0], 1e-6));
}

#define SM ROUTE_SCORE_SOFTMAX
#define SG ROUTE_SCORE_SIGMOID
static const Case CASES[] = {
    {"add", "two tensors", case_add, {{3, 5}, {3, 5}}, {{0}}, {0}, 0},
    {"add", "many rows", case_add, {{70, 1}, {70, 1}}, {{0}}, {0}, 0},
    {"add", "views that overlap, and twice the same", case_add_views, {{4, 6}}, {{0}}, {0}, 0},
    {"gather", "repeated rows, a view", case_gather, {{5, 4}}, {{0}}, {0}, 0},
    {"scoped", "three in a row", case_scoped, {{5, 6}}, {{1, 6}, {4, 6}, {4, 6}, {6, 4}}, {0}, 0},
    {"scoped", "wider", case_scoped, {{24, 40}}, {{1, 40}, {20, 40}, {20, 40}, {40, 20}}, {0}, 0},
    {"scoped", "one inside another", case_scoped, {{3, 4}}, {{1, 4}, {3, 4}, {3, 4}, {4, 3}}, {1}, 0},
    {"embed", "repeated tokens", case_embed, {{0}}, {{7, 5}}, {0}, 0},
    {"embed", "wide", case_embed, {{0}}, {{7, 131}}, {0}, 0},
    {"linear", "no bias", case_linear, {{5, 7}}, {{3, 7}}, {0}, 0},
    {"linear", "bias, one row", case_linear, {{1, 9}}, {{33, 9}, {1, 33}}, {0}, 0},
    {"linear", "one by one", case_linear, {{1, 1}}, {{1, 1}, {1, 1}}, {0}, 0},
    {"linear", "more than a block of the sum", case_linear, {{2, 300}}, {{3, 300}, {1, 3}}, {0}, 0},
    {"linear", "more than a tile of rows", case_linear, {{385, 2}}, {{34, 2}, {1, 34}}, {0}, 0},
    {"linear", "views, several weights, one frozen", case_linear_views, {{4, 6}, {2, 3}}, {{5, 3}, {4, 3}, {1, 5}}, {0}, 0},
    {"linear_heads", "three heads of a weight", case_heads, {{4, 15}}, {{17, 4}}, {3, 2, 5, 3, 5, 4}, 0},
    {"linear_heads", "one head, one row", case_heads, {{1, 5}}, {{3, 4}}, {1, 0, 3, 3, 4, 3}, 0},
    {"linear_heads_t", "three heads of a weight", case_heads, {{4, 15}}, {{17, 4}}, {3, 2, 5, 3, 5, 6}, 0},
    {"linear_heads_t", "one head, one row", case_heads, {{1, 4}}, {{3, 4}}, {1, 0, 3, 3, 3, 4}, 0},
    {"rmsnorm", "one group", case_rmsnorm, {{3, 17}}, {{1, 17}}, {0}, 0},
    {"rmsnorm", "heads of five", case_rmsnorm, {{19, 15}}, {{1, 5}}, {0}, 0},
    {"rmsnorm", "a group of one, small values", case_rmsnorm, {{3, 2}}, {{1, 1}}, {0}, 0.2},
    {"rmsnorm", "views that overlap", case_rmsnorm_views, {{4, 36}}, {{1, 33}}, {0}, 0},
    {"rope", "pairs, in place", case_rope_in_place, {{5, 12}}, {{0}}, {3, 4, 4, 1}, 0},
    {"rope", "halves, in place", case_rope_in_place, {{35, 12}}, {{0}}, {2, 6, 6, 0}, 0},
    {"rope", "pairs, part of each head, to another tensor", case_rope_to, {{5, 19}}, {{0}}, {3, 4, 6, 1, 5}, 0},
    {"rope", "halves, one head, to another tensor", case_rope_to, {{3, 3}}, {{0}}, {1, 2, 2, 0, 2}, 0},
    {"attn", "one head", case_attn, {{5, 3}, {5, 3}, {5, 2}}, {{0}}, {1, 1, 3, 2, 0, 0}, 0},
    {"attn", "grouped queries, three sequences over pages", case_attn, {{104, 12}, {104, 6}, {104, 4}}, {{0}}, {4, 2, 3, 2, 0, 1}, 0},
    {"attn", "every head its key", case_attn, {{43, 6}, {43, 6}, {43, 9}}, {{0}}, {3, 3, 2, 3, 0, 2}, 0},
    {"attn", "values in the keys, three heads", case_attn, {{104, 15}, {104, 5}}, {{0}}, {3, 1, 5, 3, 1, 1}, 0},
    {"attn", "values in the keys, all of them", case_attn, {{43, 8}, {43, 4}}, {{0}}, {2, 1, 4, 4, 1, 2}, 0},
    {"attn", "more heads than a tile has", case_attn, {{5, 130}, {5, 2}, {5, 1}}, {{0}}, {65, 1, 2, 1, 0, 0}, 0},
    {"attn", "keys longer than a block of the sum", case_attn, {{5, 260}, {5, 260}, {5, 17}}, {{0}}, {1, 1, 260, 17, 0, 0}, 0.3},
    {"attn", "views", case_attn_views, {{7, 8}, {7, 6}}, {{0}}, {0}, 0},
    {"swiglu", "one row", case_swiglu, {{1, 1}, {1, 1}}, {{0}}, {0}, 0},
    {"swiglu", "many rows, large values", case_swiglu, {{19, 5}, {19, 5}}, {{0}}, {0}, 6},
    {"route", "softmax, greedy", case_route, {{5, 7}}, {{0}}, {3, 1, 1, SM, ROUTE_MODE_GREEDY, 0}, 2},
    {"route", "softmax, greedy, normed", case_route, {{5, 7}}, {{0}}, {3, 1, 1, SM, ROUTE_MODE_GREEDY, 1}, 2},
    {"route", "softmax, best groups", case_route, {{5, 8}}, {{0}}, {2, 4, 2, SM, ROUTE_MODE_GROUP_MAX, 0}, 2},
    {"route", "softmax, best groups, normed", case_route, {{33, 8}}, {{0}}, {2, 4, 2, SM, ROUTE_MODE_GROUP_MAX, 1}, 2},
    {"route", "softmax, noaux", case_route, {{5, 9}}, {{1, 9}}, {4, 3, 2, SM, ROUTE_MODE_NOAUX, 1}, 2},
    {"route", "sigmoid, greedy", case_route, {{5, 7}}, {{0}}, {3, 1, 1, SG, ROUTE_MODE_GREEDY, 0}, 2},
    {"route", "sigmoid, greedy, normed, one chosen", case_route, {{5, 4}}, {{0}}, {1, 1, 1, SG, ROUTE_MODE_GREEDY, 1}, 2},
    {"route", "sigmoid, best groups, normed", case_route, {{5, 8}}, {{0}}, {3, 4, 3, SG, ROUTE_MODE_GROUP_MAX, 1}, 2},
    {"route", "sigmoid, noaux", case_route, {{5, 8}}, {{1, 8}}, {3, 4, 2, SG, ROUTE_MODE_NOAUX, 0}, 2},
    {"route", "sigmoid, noaux, normed, many rows", case_route, {{33, 8}}, {{1, 8}}, {3, 4, 2, SG, ROUTE_MODE_NOAUX, 1}, 2},
    {"route", "every expert chosen", case_route, {{2, 4}}, {{1, 4}}, {4, 1, 1, SG, ROUTE_MODE_NOAUX, 1}, 2},
    {"moe_ffn", "two experts a row", case_moe, {{5, 4}, {5, 2}},
     {{3, 4}, {3, 4}, {4, 3}, {3, 4}, {3, 4}, {4, 3}, {3, 4}, {3, 4}, {4, 3}, {3, 4}, {3, 4}, {4, 3}}, {2, 0}, 0},
    {"moe_ffn", "one expert a row, a view", case_moe, {{5, 6}, {5, 1}},
     {{2, 5}, {2, 5}, {5, 2}, {2, 5}, {2, 5}, {5, 2}, {2, 5}, {2, 5}, {5, 2}, {2, 5}, {2, 5}, {5, 2}}, {1, 1}, 0},
    {"logprob", "some rows", case_logprob, {{3, 5}}, {{33, 4}}, {0}, 0},
    {"logprob", "more rows than a chunk", case_logprob, {{131, 2}}, {{5, 2}}, {0}, 0},
    {"logprob", "a vocabulary of one", case_logprob, {{2, 2}}, {{1, 2}}, {0}, 0},
};
enum { N_CASE = sizeof(CASES) / sizeof(CASES[0]) };

/* ---- the table has no holes ---- */
static const OpRow *op_named(const char *name)
{
    int          n;
    const OpRow *row = op_table(&n);
    for (int i = 0; i < n; i++)
        if (strcmp(row[i].name, name) == 0) return &row[i];
    return NULL;
}

static void test_ops_have_cases(void **state)
{
    int          n, found;
    const OpRow *row = op_table(&n);
    (void)state;
    for (int i = 0; i < n; i++) {
        found = 0;
        for (int k = 0; k < N_CASE; k++) found += strcmp(CASES[k].op, row[i].name) == 0;
        if (!row[i].no_backward && !found) fail_msg("op %s has a backward and no case here", row[i].name);
        if (row[i].no_backward && !*row[i].no_backward) fail_msg("op %s does not say why it has no backward", row[i].name);
        if (op_named(row[i].name) != &row[i]) fail_msg("op %s stands in the table twice", row[i].name);
    }
    for (int k = 0; k < N_CASE; k++) {
        const OpRow *op = op_named(CASES[k].op);
        if (!op) fail_msg("case \"%s: %s\" is of no op in the table", CASES[k].op, CASES[k].what);
        if (op->no_backward) fail_msg("case \"%s: %s\": the table says that there is no backward", CASES[k].op, CASES[k].what);
    }
}

/* marks the kernels of a list as used; fails on a name that is none */
static void use_kernels(const char *op, const char *const *list, const char *const *name, int n, bool *used)
{
    for (int i = 0; i < 4 && list[i]; i++) {
        int k = 0;
        while (k < n && strcmp(name[k], list[i]) != 0) k++;
        if (k == n) fail_msg("op %s runs a kernel %s, which is not in the kernel table", op, list[i]);
        used[k] = true;
    }
}

static void test_kernels_are_used(void **state)
{
    int                n_op, n;
    const OpRow       *row = op_table(&n_op);
    const char *const *name = kernel_names(&n);
    bool               used[64] = {false};
    (void)state;
    assert_true(n <= 64);
    for (int i = 0; i < n_op; i++) {
        use_kernels(row[i].name, row[i].forward, name, n, used);
        use_kernels(row[i].name, row[i].backward, name, n, used);
    }
    for (int k = 0; k < n; k++) {
        if (!used[k]) fail_msg("no op runs kernel %s", name[k]);
        if (!kernel_named(ref_kernels(), name[k])) fail_msg("kernel %s has no reference", name[k]);
    }
    assert_null(kernel_named(ref_kernels(), "no such kernel"));
}

int main(void)
{
    static struct CMUnitTest tests[N_CASE + 2];
    static char              names[N_CASE][128];
    tests[0] = (struct CMUnitTest)cmocka_unit_test(test_ops_have_cases);
    tests[1] = (struct CMUnitTest)cmocka_unit_test(test_kernels_are_used);
    for (int i = 0; i < N_CASE; i++) {
        snprintf(names[i], sizeof names[i], "%s: %s", CASES[i].op, CASES[i].what);
        tests[i + 2] = (struct CMUnitTest){names[i], check_case, NULL, NULL, (void *)(uintptr_t)&CASES[i]};
    }
    return _cmocka_run_group_tests("gradients", tests, N_CASE + 2, NULL, NULL);
}
