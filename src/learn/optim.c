/* AdamW and Muon. */
#include "optim.h"

#include <string.h>

bool optim_trains(const Weight *w)
{
    return !strstr(w->name, "e_score_correction_bias");
}

/* Matrices inside the layers; not the embedding, the head, the router (whose rows are compared with each other). */
static bool is_matrix(const Optim *o, const Weight *w)
{
    return o->o.muon_lr > 0 && w->rows > 1 && w != &o->m->embed && w != &o->m->head && !strstr(w->name, "mlp.gate.weight");
}

/* X, the next X, A, B, then what a gemm needs */
static size_t muon_floats(const Weight *w)
{
    size_t small = (size_t)(w->rows < w->cols ? w->rows : w->cols);
    return 2 * (size_t)w->rows * (size_t)w->cols + 2 * small * small + 64;
}

int optim_init(Optim *o, Model *m, const OptimOptions *opt, int threads, aha_error *e)
{
    size_t most = 0;
    memset(o, 0, sizeof *o);
    o->m = m;
    o->o = *opt;
    o->threads = threads;
    o->offset = mem_zalloc((size_t)m->n_weight, sizeof *o->offset);
    if (!o->offset) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for the optimiser");
    for (int i = 0; i < m->n_weight; i++) {
        const Weight *w = m->weight[i];
        o->offset[i] = o->n;
        o->n += ((size_t)w->rows * (size_t)w->cols + 15) & ~(size_t)15;
        if (is_matrix(o, w) && muon_floats(w) > most) most = muon_floats(w);
    }
    o->scratch_bytes = (most * sizeof(float) + gemm_scratch() + 4095) & ~(size_t)4095;
    o->scratch = mem_pages(o->scratch_bytes * (size_t)threads);
    for (int i = 0; i < 2; i++) o->state[i] = mem_pages(o->n * sizeof(float));
    if (!o->scratch || !o->state[0] || !o->state[1]) {
        optim_free(o);
        return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes for the optimiser's state", 2 * o->n * sizeof(float));
    }
    return 0;
}

void optim_free(Optim *o)
{
    mem_free(o->offset);
    if (o->scratch) mem_pages_free(o->scratch, o->scratch_bytes * (size_t)o->threads);
    for (int i = 0; i < 2; i++)
        if (o->state[i]) mem_pages_free(o->state[i], o->n * sizeof(float));
    memset(o, 0, sizeof *o);
}

/* ---- the norm ---- */
typedef struct NormRun {
    const Optim *o;
    const float *grad;
    double      *sum; /* [n_weight] */
} NormRun;

static void norm_task(void *arg, int i, int worker)
{
    const NormRun *r = arg;
    const Weight  *w = r->o->m->weight[i];
    const float   *g = r->grad + r->o->offset[i];
    size_t         n = (size_t)w->rows * (size_t)w->cols;
    double         s[4] = {0};
    (void)worker;
    for (size_t j = 0; j < n; j++) s[j & 3] += (double)g[j] * (double)g[j];
    r->sum[i] = (s[0] + s[1]) + (s[2] + s[3]);
}

double optim_norm(const Optim *o, const float *grad, Pool *pool)
{
    NormRun r = {o, grad, mem_zalloc((size_t)o->m->n_weight, sizeof(double))};
    double  sum = 0;
    if (!r.sum) return NAN;
    pool_run(pool, o->m->n_weight, norm_task, &r);
    for (int i = 0; i < o->m->n_weight; i++) sum += r.sum[i];
    mem_free(r.sum);
    return sqrt(sum);
}

/* ---- one update ---- */
typedef struct StepRun {
    Optim         *o;
    const float   *grad;
    double         grad_scale, lr_scale;
    const Kernels *k;
} StepRun;

static void adamw(const StepRun *r, const Weight *w, float *p, const float *g, float *m1, float *m2)
{
    const OptimOptions *o = &r->o->o;
    size_t              n = (size_t)w->rows * (size_t)w->cols;
    float  b1 = (float)o->beta1, b2 = (float)o->beta2, gs = (float)r->grad_scale, eps = (float)o->eps;
    double t = (double)r->o->step, lr = o->lr * r->lr_scale;
    float  c1 = (float)(lr / (1 - pow(o->beta1, t))), c2 = (float)(1 / (1 - pow(o->beta2, t)));
    float  decay = (float)(w->rows > 1 ? 1 - lr * o->weight_decay : 1);
    for (size_t i = 0; i < n; i++) {
        float x = g[i] * gs;
        m1[i] = b1 * m1[i] + (1 - b1) * x;
        m2[i] = b2 * m2[i] + (1 - b2) * x * x;
        p[i] = p[i] * decay - c1 * m1[i] / (sqrtf(m2[i] * c2) + eps);
    }
}

typedef struct Ns { /* Newton-Schulz works on the wide orientation: n <= m */
    float *x, *y, *a, *b;
    int    n, m;
    void  *scratch;
} Ns;

static void product(const Kernels *k, int M, int N, int K, const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t b_row,
                    int64_t b_k, float *c, int64_t c_row, void *scratch)
{
    GemmArgs g = {.M = M, .N = N, .K = K, .a = a, .a_row = a_row, .a_k = a_k, .b = b, .b_row = b_row, .b_k = b_k, .b_type = DT_F32, .c = c, .c_row = c_row};
    int64_t  tiles = (int64_t)((M + GEMM_TILE_M - 1) / GEMM_TILE_M) * ((N + GEMM_TILE_N - 1) / GEMM_TILE_N);
    k->gemm(&g, 0, tiles, scratch);
}

/* c = a b^T where that is symmetric [n, n]: the columns right of the diagonal by blocks of rows, the rest mirrored */
static void product_symmetric(const Kernels *k, int n, int K, const float *a, const float *b, float *c, void *scratch)
{
    enum { BLOCK = 48 }; /* whole register tiles of every ISA */
    for (int m = 0; m < n; m += BLOCK) {
        int rows = n - m < BLOCK ? n - m : BLOCK, from = m / GEMM_TILE_N * GEMM_TILE_N;
        product(k, rows, n - from, K, a + (size_t)m * (size_t)K, K, 1, b + (size_t)from * (size_t)K, K, 1, c + (size_t)m * (size_t)n + from, n, scratch);
    }
    for (int i = 1; i < n; i++)
        for (int j = 0; j < i; j++) c[(size_t)i * (size_t)n + (size_t)j] = c[(size_t)j * (size_t)n + (size_t)i];
}

/* x <- a x + (b A + c A^2) x, A = x x^T, five times; coefficients of the Muon write-up (quintic, singular values to about 1) */
static void newton_schulz(const Kernels *k, Ns *s)
{
    const float ca = 3.4445f, cb = -4.7750f, cc = 2.0315f;
    for (int it = 0; it < 5; it++) {
        float *swap;
        product_symmetric(k, s->n, s->m, s->x, s->x, s->a, s->scratch);
        product_symmetric(k, s->n, s->n, s->a, s->a, s->b, s->scratch); /* A A^T, for A is symmetric */
        for (int i = 0; i < s->n * s->n; i++) s->b[i] = cb * s->a[i] + cc * s->b[i];
        product(k, s->n, s->m, s->n, s->b, s->n, 1, s->x, 1, s->m, s->y, s->m, s->scratch);
        for (int i = 0; i < s->n * s->m; i++) s->y[i] += ca * s->x[i];
        swap = s->x;
        s->x = s->y;
        s->y = swap;
    }
}

static void muon(const StepRun *r, const Weight *w, float *p, const float *g, float *mom, uint8_t *scratch)
{
    const OptimOptions *o = &r->o->o;
    bool    tall = w->rows > w->cols;
    int     n = tall ? w->cols : w->rows, m = tall ? w->rows : w->cols, count = n * m;
    float  *f = (float *)(void *)scratch, beta = (float)o->momentum, gs = (float)r->grad_scale;
    Ns      s = {f, f + count, f + 2 * (size_t)count, f + 2 * (size_t)count + (size_t)n * (size_t)n, n, m, NULL};
    double  sum = 0, lr = o->muon_lr * r->lr_scale;
    float   decay = (float)(1 - lr * o->weight_decay), step, inv;
    s.scratch = s.b + (((size_t)n * (size_t)n + 15) & ~(size_t)15);
    for (int i = 0; i < count; i++) {
        float x = g[i] * gs, u;
        mom[i] = beta * mom[i] + (1 - beta) * x;
        u = beta * mom[i] + (1 - beta) * x; /* Nesterov */
        s.x[tall ? (i % n) * m + i / n : i] = u;
        sum += (double)u * (double)u;
    }
    inv = (float)(1 / (sqrt(sum) + 1e-7));
    for (int i = 0; i < count; i++) s.x[i] *= inv;
    newton_schulz(r->k, &s);
    step = (float)(lr * sqrt(w->rows > w->cols ? (double)w->rows / w->cols : 1));
    for (int i = 0; i < count; i++) p[i] = p[i] * decay - step * s.x[tall ? (i % n) * m + i / n : i];
}

static void step_task(void *arg, int i, int worker)
{
    const StepRun *r = arg;
    Optim         *o = r->o;
    const Weight  *w = o->m->weight[i];
    float         *p = (float *)(uintptr_t)w->data; /* the trainer owns trainable weights */
    size_t         at = o->offset[i];
    if (!optim_trains(w)) return;
    if (is_matrix(o, w))
        muon(r, w, p, r->grad + at, o->state[0] + at, o->scratch + (size_t)worker * o->scratch_bytes);
    else
        adamw(r, w, p, r->grad + at, o->state[0] + at, o->state[1] + at);
}

void optim_step(Optim *o, const float *grad, double grad_scale, double lr_scale, const Kernels *k, Pool *pool)
{
    StepRun r = {o, grad, grad_scale, lr_scale, k};
    o->step++;
    pool_run(pool, o->m->n_weight, step_task, &r);
}
