/* linear: y = x W^T + b;  dx += dy W;  dW += dy^T x;  db += column sums of dy.
 * linear_heads, linear_heads_t: the same with a weight cut into heads (MLA's absorbed products). */
#include "linear.h"

#include "stripe.h"

/* A task should be worth some tens of microseconds: about 2^19 multiply-adds.  With few rows, tasks are long stretches of the
 * weights; with many, a task's columns of C stay in the second cache. */
static int64_t gemm_tiles(const GemmArgs *a)
{
    if (a->M <= 0 || a->N <= 0) return 0;
    return (int64_t)((a->M + GEMM_TILE_M - 1) / GEMM_TILE_M) * ((a->N + GEMM_TILE_N - 1) / GEMM_TILE_N);
}
static int64_t gemm_least(const GemmArgs *a)
{
    int64_t rows = a->M < GEMM_TILE_M ? a->M : GEMM_TILE_M;
    return 1 + (1 << 18) / ((rows + 8) * GEMM_TILE_N * a->K + 1); /* 8 rows' worth for packing */
}
static void run_gemm(Ctx *c, const GemmArgs *a)
{
    int64_t tiles = gemm_tiles(a), least = gemm_least(a), grain = tiles / (8 * pool_threads(c->pool));
    if (grain > 8) grain = 8;
    if (tiles == 0) return;
    if (a->M <= 64) ctx_run_parts(c, &(RunPart){c->k->gemm, a, tiles}, 1, least, gemm_scratch());
    else ctx_run(c, c->k->gemm, a, tiles, grain > least ? grain : least, gemm_scratch());
}

/* its stripes; NULL: it has none */
static const uint8_t *stripes(const Weight *w) { return atomic_load_explicit(&w->settled, memory_order_acquire); }

/* B = the rows [row0, row0 + rows) of w; where rows lie along k, or are parts of stripes, they are read as in the file */
static void weight_rows(GemmArgs *a, const Weight *w, int64_t row0, int64_t rows, bool along_k)
{
    bool           whole = row0 % STRIPE_ROWS == 0 && (rows % STRIPE_ROWS == 0 || row0 + rows == w->rows);
    const uint8_t *s = along_k || !whole || dtype_is_blocked(w->dtype) ? NULL : stripes(w);
    a->b = (s ? s : (const uint8_t *)w->data) + (size_t)row0 * weight_row_bytes(w);
    a->striped = s != NULL;
    a->b_type = w->dtype;
    a->b_row = along_k ? 1 : w->cols;
    a->b_k = along_k ? w->cols : 1;
    a->b_rows_k = along_k;
    a->b_scale = w->scale;
    a->b_scale_row = f8_blocks(w->cols);
    a->b_row0 = row0;
}

/* y (+)= x W^T for the rows [row0, row0 + rows) of w */
static void times_wt(Ctx *c, const real *x, int x_row, int T, const Weight *w, int64_t row0, int rows, const real *bias,
                     real *y, int y_row, bool accumulate)
{
    GemmArgs a = {.M = T, .N = rows, .K = w->cols, .a = x, .a_row = x_row, .a_k = 1, .c = y, .c_row = y_row, .bias = bias, .accumulate = accumulate};
    weight_rows(&a, w, row0, rows, false);
    run_gemm(c, &a);
}

/* y (+)= x W for the same rows */
static void times_w(Ctx *c, const real *x, int x_row, int T, const Weight *w, int64_t row0, int rows, real *y, int y_row,
                    bool accumulate)
{
    GemmArgs a = {.M = T, .N = w->cols, .K = rows, .a = x, .a_row = x_row, .a_k = 1, .c = y, .c_row = y_row, .accumulate = accumulate};
    weight_rows(&a, w, row0, rows, true);
    run_gemm(c, &a);
}

void linear_grad_w(Ctx *c, const real *dy, int dy_row, const real *x, int x_row, int T, int rows, int cols, real *dw)
{
    GemmArgs a = {.M = rows, .N = cols, .K = T, .a = dy, .a_row = 1, .a_k = dy_row, .b = x, .b_row = 1, .b_k = x_row, .b_type = DT_F32,
                  .c = dw, .c_row = cols, .accumulate = true};
    run_gemm(c, &a);
}
void linear_grad_x(Ctx *c, const real *dy, int dy_row, int T, const Weight *w, real *dx, int dx_row)
{
    times_w(c, dy, dy_row, T, w, 0, w->rows, dx, dx_row, true);
}

/* ---- activations in 8 bits, for block types ---- */
bool act_wanted(const Ctx *c, const Weight *w) { return c->act_q8 && !tape_on(c) && dtype_is_blocked(w->dtype); }

Act act_new(Ctx *c, const real *x, int64_t x_row, int T, int H, int K)
{
    Act a = {x, x_row, NULL, NULL, H * K, H * act_groups(K)};
    if (!c->act_q8 || tape_on(c) || K % QUANT_GROUP) return a;
    a.q = ctx_alloc(c, (size_t)T * (size_t)a.q_row, 1);
    a.g = ctx_alloc(c, (size_t)T * (size_t)a.g_row, sizeof *a.g);
    return a;
}

void act_fill(Ctx *c, const Act *a, int64_t x_head, int t0, int T, int H, int K)
{
    Act     from = act_rows(a, t0);
    ActArgs args = {from.x, from.x_row, x_head, H, K, from.q, from.g};
    ctx_run(c, c->k->act, &args, T, 1 + (1 << 15) / (H * K + 1), 0);
}

Act act_rows(const Act *a, int t0)
{
    Act rows = *a;
    rows.x += t0 * a->x_row;
    if (a->q) rows.q += (int64_t)t0 * a->q_row;
    if (a->g) rows.g += (int64_t)t0 * a->g_row;
    return rows;
}

static int64_t dot_items(const DotArgs *a)
{
    if (a->M <= 0 || a->N <= 0) return 0;
    return (int64_t)a->H * ((a->M + DOT_TILE_M - 1) / DOT_TILE_M) * ((a->N + DOT_TILE_N - 1) / DOT_TILE_N);
}

void dot_run_all(Ctx *c, const DotArgs *a, int n)
{
    RunPart part[DOTS_MAX];
    int64_t least = 1;
    for (int i = 0; i < n; i++) { /* a task should be worth 16 KB of weights at least, times rows some ten microseconds */
        part[i] = (RunPart){c->k->dot, &a[i], dot_items(&a[i])};
        least = 1 + (1 << 14) / (a[i].b_row * DOT_TILE_N * (1 + a[i].M / 8) + 1);
    }
    ctx_run_parts(c, part, n, least, dot_scratch());
}

DotArgs dot_args(const Act *a, int T, const Weight *w, const real *bias, real *y, int y_row)
{
    const uint8_t *s = stripes(w);
    return (DotArgs){T, w->rows, w->cols, 1, a->q, a->g, s ? s : w->data, w->dtype, (int64_t)weight_row_bytes(w), 0, y, y_row, 0, bias, s != NULL};
}

void linear_rows(Ctx *c, const Act *x, int T, const Weight *w, const real *bias, real *y, int y_row)
{
    Act a = *x;
    if (!act_wanted(c, w)) {
        times_wt(c, a.x, (int)a.x_row, T, w, 0, w->rows, bias, y, y_row, false);
        return;
    }
    if (!a.q) {
        a = act_new(c, a.x, a.x_row, T, 1, w->cols);
        act_fill(c, &a, 0, 0, T, 1, w->cols);
    }
    DotArgs d = dot_args(&a, T, w, bias, y, y_row);
    dot_run_all(c, &d, 1);
}

typedef struct LinearNode {
    TapeNode      head;
    Tensor        x, y;
    const Weight *w, *bias;
} LinearNode;

static void linear_back(Ctx *c, const TapeNode *node)
{
    const LinearNode *n = (const LinearNode *)node;
    const real       *dy = tape_grad(c, n->y.data);
    real             *dw = tape_wgrad(c, n->w), *db = n->bias ? tape_wgrad(c, n->bias) : NULL;
    linear_grad_x(c, dy, n->y.stride, n->x.rows, n->w, tape_grad(c, n->x.data), n->x.stride);
    if (dw) linear_grad_w(c, dy, n->y.stride, n->x.data, n->x.stride, n->x.rows, n->w->rows, n->w->cols, dw);
    if (db) {
        ColSumArgs a = {dy, n->y.stride, n->x.rows, db};
        ctx_run(c, c->k->col_sum, &a, n->w->rows, 256, 0);
    }
}

static void check_linear(Ctx *c, Tensor x, const Weight *w)
{
    if (x.cols != w->cols)
        ctx_fail(c, AHA_ERR_INTERNAL, "linear: %d columns into %s [%d, %d]", x.cols, w->name, w->rows, w->cols);
    linear_watch(c, w, 0, false, x.data, x.stride, x.rows);
}

Tensor linear(Ctx *c, Tensor x, const Weight *w, const Weight *bias)
{
    Tensor y = tensor_new(c, x.rows, w->rows);
    check_linear(c, x, w);
    linear_rows(c, &(Act){.x = x.data, .x_row = x.stride}, x.rows, w, bias ? bias->data : NULL, y.data, y.stride);
    if (tape_on(c)) {
        LinearNode *n = tape_push(c, sizeof *n, linear_back);
        n->x = x;
        n->y = y;
        n->w = w;
        n->bias = bias;
    }
    return y;
}

/* Those of block types in one run over all of them. */
void linear_n(Ctx *c, Tensor x, int n, const Weight *const *w, const Weight *const *bias, Tensor *y)
{
    Act     a = {.x = x.data, .x_row = x.stride};
    DotArgs dot[DOTS_MAX];
    int     n_dot = 0;
    for (int i = 0; i < n; i++) {
        const Weight *b = bias ? bias[i] : NULL;
        if (!act_wanted(c, w[i]) || n_dot == DOTS_MAX) {
            y[i] = linear(c, x, w[i], b);
            continue;
        }
        if (!a.q) {
            a = act_new(c, x.data, x.stride, x.rows, 1, x.cols);
            act_fill(c, &a, 0, 0, x.rows, 1, x.cols);
        }
        y[i] = tensor_new(c, x.rows, w[i]->rows);
        check_linear(c, x, w[i]);
        dot[n_dot++] = dot_args(&a, x.rows, w[i], b ? b->data : NULL, y[i].data, y[i].stride);
    }
    if (n_dot) dot_run_all(c, dot, n_dot);
}

/* ---- heads ---- */
typedef struct HeadsNode {
    TapeNode      head;
    Tensor        x, y;
    const Weight *w;
    HeadCut       cut;
} HeadsNode;

static HeadsNode *push_heads(Ctx *c, Tensor x, const Weight *w, HeadCut cut, Tensor y, void (*back)(Ctx *, const TapeNode *))
{
    HeadsNode *n = tape_push(c, sizeof *n, back);
    n->x = x;
    n->y = y;
    n->w = w;
    n->cut = cut;
    return n;
}

static void check_heads(Ctx *c, Tensor x, const Weight *w, HeadCut cut, Tensor y, int x_cols, int y_cols)
{
    if (x.cols < (cut.H - 1) * cut.x_head + x_cols || y.cols < (cut.H - 1) * cut.y_head + y_cols || x.rows != y.rows ||
        w->rows < cut.row0 + (cut.H - 1) * cut.step + cut.rows)
        ctx_fail(c, AHA_ERR_INTERNAL, "heads of %s: %d x %d into %d x %d", w->name, x.rows, x.cols, y.rows, y.cols);
}

static void heads_back(Ctx *c, const TapeNode *node)
{
    const HeadsNode *n = (const HeadsNode *)node;
    real            *dw = tape_wgrad(c, n->w);
    for (int h = 0; h < n->cut.H; h++) {
        int64_t     row0 = n->cut.row0 + (int64_t)h * n->cut.step;
        const real *x = n->x.data + h * n->cut.x_head, *dy = tape_grad(c, n->y.data + h * n->cut.y_head);
        times_w(c, dy, n->y.stride, n->x.rows, n->w, row0, n->cut.rows, tape_grad(c, x), n->x.stride, true);
        if (dw)
            linear_grad_w(c, dy, n->y.stride, x, n->x.stride, n->x.rows, n->cut.rows, n->w->cols, dw + row0 * n->w->cols);
    }
}

/* y = x W^T, or x W, of every head, in one run: a head alone is too little work for one. */
static void heads_gemm(Ctx *c, Tensor x, const Weight *w, HeadCut cut, bool along_k, Tensor y)
{
    GemmArgs *a = ctx_alloc(c, (size_t)cut.H, sizeof *a);
    RunPart  *part = ctx_alloc(c, (size_t)cut.H, sizeof *part);
    ctx_scratch(c, gemm_scratch());
    if (ctx_failed(c) || ctx_dry(c)) return;
    for (int h = 0; h < cut.H; h++) {
        a[h] = (GemmArgs){.M = x.rows, .N = along_k ? w->cols : cut.rows, .K = along_k ? cut.rows : w->cols, .a = x.data + h * cut.x_head,
                          .a_row = x.stride, .a_k = 1, .c = y.data + h * cut.y_head, .c_row = y.stride};
        weight_rows(&a[h], w, cut.row0 + (int64_t)h * cut.step, cut.rows, along_k);
        part[h] = (RunPart){c->k->gemm, &a[h], gemm_tiles(&a[h])};
    }
    ctx_run_parts(c, part, cut.H, gemm_least(a), gemm_scratch());
}

void linear_heads(Ctx *c, Tensor x, const Weight *w, HeadCut cut, Tensor y)
{
    bool q8 = act_wanted(c, w);
    check_heads(c, x, w, cut, y, w->cols, cut.rows);
    if (q8) {
        Act     a = act_new(c, x.data, x.stride, x.rows, cut.H, w->cols);
        int64_t row = (int64_t)weight_row_bytes(w);
        const uint8_t *s = (cut.row0 | cut.step | cut.rows) % STRIPE_ROWS ? NULL : stripes(w);
        DotArgs d = {x.rows, cut.rows, w->cols, cut.H, a.q, a.g, (s ? s : (const uint8_t *)w->data) + cut.row0 * row, w->dtype, row, cut.step * row,
                     y.data, y.stride, cut.y_head, NULL, s != NULL};
        act_fill(c, &a, cut.x_head, 0, x.rows, cut.H, w->cols);
        dot_run_all(c, &d, 1);
    }
    for (int h = 0; h < cut.H; h++) linear_watch(c, w, h, false, x.data + h * cut.x_head, x.stride, x.rows);
    if (!q8) heads_gemm(c, x, w, cut, false, y);
    if (tape_on(c)) push_heads(c, x, w, cut, y, heads_back);
}

static void heads_t_back(Ctx *c, const TapeNode *node)
{
    const HeadsNode *n = (const HeadsNode *)node;
    real            *dw = tape_wgrad(c, n->w);
    for (int h = 0; h < n->cut.H; h++) {
        int64_t     row0 = n->cut.row0 + (int64_t)h * n->cut.step;
        const real *x = n->x.data + h * n->cut.x_head, *dy = tape_grad(c, n->y.data + h * n->cut.y_head);
        times_wt(c, dy, n->y.stride, n->x.rows, n->w, row0, n->cut.rows, NULL, tape_grad(c, x), n->x.stride, true);
        if (dw)
            linear_grad_w(c, x, n->x.stride, dy, n->y.stride, n->x.rows, n->cut.rows, n->w->cols, dw + row0 * n->w->cols);
    }
}

void linear_heads_t(Ctx *c, Tensor x, const Weight *w, HeadCut cut, Tensor y)
{
    check_heads(c, x, w, cut, y, cut.rows, w->cols);
    for (int h = 0; h < cut.H; h++) linear_watch(c, w, h, true, x.data + h * cut.x_head, x.stride, x.rows);
    heads_gemm(c, x, w, cut, true, y);
    if (tape_on(c)) push_heads(c, x, w, cut, y, heads_t_back);
}
