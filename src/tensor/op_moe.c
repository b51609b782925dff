/* Mixture of experts.
 *
 * route (DeepSeek-V3 report, section 2.1.2; V2 for the softmax forms): s = sigmoid or softmax of the gate's logits; for
 * choosing, b = s + bias (noaux_tc) or s; groups of E/n_group experts are ranked by the sum of their two best b (V2: the
 * best), topk_group of them stay, and the K best b inside them are chosen; their weights are s without the bias, divided
 * by their sum when norm_topk, times scale.  Gradients flow through the weights, not through the choice.
 *
 * moe_ffn: y[t] = sum over chosen experts e, ascending, of w[t,e] down_e(silu(gate_e x) * up_e x).  Rows are grouped by
 * expert, so each expert's weights are read once for a batch. */
#include "linear.h"

typedef struct RouteNode {
    TapeNode  head;
    RouteArgs args;
    Tensor    logits, weight;
} RouteNode;

static void route_back(Ctx *c, const TapeNode *node)
{
    const RouteNode *n = (const RouteNode *)node;
    RouteArgs        a = n->args;
    a.dweight = tape_grad(c, n->weight.data);
    a.dlogits = tape_grad(c, n->logits.data);
    ctx_run(c, c->k->route_back, &a, n->logits.rows, 32, (size_t)a.E * sizeof(real));
}

static void count_load(Ctx *c, const Routes *r, int rows, int layer)
{
    if (!c->stats || c->recomputing || ctx_dry(c) || ctx_failed(c)) return;
    for (int64_t i = 0; i < (int64_t)rows * r->K; i++) c->stats->load[(int64_t)layer * c->stats->E + r->id[i]]++;
}

Routes route(Ctx *c, RouteShape s, Tensor logits, const Weight *bias, int layer)
{
    int       T = logits.rows;
    Routes    r = {s.K, ctx_alloc(c, (size_t)T * (size_t)s.K, sizeof(int32_t)), tensor_new(c, T, s.K)};
    Tensor    score = tensor_new(c, T, s.E);
    RouteArgs a = {logits.data, bias ? bias->data : NULL, s.E, s.K, s.n_group, s.topk_group, (int)s.mode, (int)s.score,
                   s.norm_topk, (real)s.scale, r.id, r.weight.data, score.data, NULL, NULL};
    if (logits.cols != s.E || !tensor_packed(logits))
        ctx_fail(c, AHA_ERR_INTERNAL, "route: %d logits for %d experts", logits.cols, s.E);
    ctx_run(c, c->k->route, &a, T, 32, 0);
    count_load(c, &r, T, layer);
    if (tape_on(c)) {
        RouteNode *n = tape_push(c, sizeof *n, route_back);
        ctx_scratch(c, (size_t)s.E * sizeof(real));
        n->args = a;
        n->logits = logits;
        n->weight = r.weight;
    }
    return r;
}

/* ---- the experts ---- */
typedef struct Grouped { /* slot s of T*K belongs to one (row, k); slots of an expert are contiguous */
    int32_t *slot;  /* [T, K] -> slot */
    int32_t *row;   /* [slot] -> row */
    int32_t *start; /* [E + 1] first slot of each expert */
    int32_t *used;  /* experts with at least one row, ascending */
    int      n_used;
} Grouped;

static Grouped group_by_expert(Ctx *c, const Routes *r, int T, int E)
{
    size_t  n = (size_t)T * (size_t)r->K;
    Grouped g = {ctx_alloc(c, n, sizeof(int32_t)), ctx_alloc(c, n, sizeof(int32_t)),
                 ctx_alloc(c, (size_t)E + 1, sizeof(int32_t)), ctx_alloc(c, (size_t)E, sizeof(int32_t)), 0};
    if (ctx_failed(c) || ctx_dry(c)) return g;
    memset(g.start, 0, ((size_t)E + 1) * sizeof(int32_t));
    for (size_t i = 0; i < n; i++) g.start[r->id[i] + 1]++;
    for (int e = 0; e < E; e++) {
        if (g.start[e + 1]) g.used[g.n_used++] = e;
        g.start[e + 1] += g.start[e];
    }
    for (size_t i = 0; i < n; i++) { /* start[e] moves to the expert's end ... */
        g.slot[i] = g.start[r->id[i]]++;
        g.row[g.slot[i]] = (int32_t)(i / (size_t)r->K);
    }
    for (int e = E; e > 0; e--) g.start[e] = g.start[e - 1]; /* ... and back */
    g.start[0] = 0;
    return g;
}

typedef struct MoeNode {
    TapeNode     head;
    Tensor       x, y, xg, gate, up, act, yg, weight;
    Grouped      g;
    Act          xa, aa; /* xg and act in 8 bits */
    int          K, layer;
    ExpertStore *store;
} MoeNode;

/* Several experts at once: their products run together, so that a few rows, each with experts of its own, keep all threads busy. */
enum { EXPERTS_AT_ONCE = DOTS_MAX / 2 };
typedef struct Held {
    Expert  w[EXPERTS_AT_ONCE];
    int32_t id[EXPERTS_AT_ONCE];
    int     n;
} Held;

static bool experts_get(Ctx *c, const MoeNode *n, Held *h)
{
    aha_error e = {0};
    if (ctx_failed(c)) return false;
    if (n->store->acquire(n->store, n->layer, h->id, h->n, h->w, &e) == 0) return true;
    ctx_fail(c, e.code ? e.code : AHA_ERR_IO, "%s", e.text);
    return false;
}

typedef struct Rows { /* of an expert, in the grouped tensors */
    int s0, n;
} Rows;
static Rows expert_rows(const MoeNode *n, int32_t e) { return (Rows){n->g.start[e], n->g.start[e + 1] - n->g.start[e]}; }

static void expert_product(Ctx *c, const Act *x, int T, const Weight *w, Tensor y, int s0, DotArgs *dot, int *n_dot)
{
    linear_watch(c, w, 0, false, x->x, (int)x->x_row, T);
    if (act_wanted(c, w)) dot[(*n_dot)++] = dot_args(x, T, w, NULL, tensor_row(y, s0), y.stride);
    else linear_rows(c, x, T, w, NULL, tensor_row(y, s0), y.stride);
}

static void experts_forward(Ctx *c, const MoeNode *n, const Held *h)
{
    DotArgs dot[DOTS_MAX];
    int     n_dot = 0;
    for (int i = 0; i < h->n; i++) {
        Rows r = expert_rows(n, h->id[i]);
        Act  x = act_rows(&n->xa, r.s0);
        if (act_wanted(c, h->w[i].gate) || act_wanted(c, h->w[i].up)) act_fill(c, &x, 0, 0, r.n, 1, n->xg.cols);
        expert_product(c, &x, r.n, h->w[i].gate, n->gate, r.s0, dot, &n_dot);
        expert_product(c, &x, r.n, h->w[i].up, n->up, r.s0, dot, &n_dot);
    }
    if (n_dot) dot_run_all(c, dot, n_dot);
    n_dot = 0;
    for (int i = 0; i < h->n; i++) {
        Rows       r = expert_rows(n, h->id[i]);
        Act        act = act_rows(&n->aa, r.s0);
        SwigluArgs a = {tensor_row(n->gate, r.s0), tensor_row(n->up, r.s0), NULL, tensor_row(n->act, r.s0), NULL, NULL, n->act.stride, n->act.cols};
        ctx_run(c, c->k->swiglu, &a, r.n, 16, 0);
        if (act_wanted(c, h->w[i].down)) act_fill(c, &act, 0, 0, r.n, 1, n->act.cols);
        expert_product(c, &act, r.n, h->w[i].down, n->yg, r.s0, dot, &n_dot);
    }
    if (n_dot) dot_run_all(c, dot, n_dot);
}

static void grad_of(Ctx *c, const Weight *w, const real *dy, int dy_row, const real *x, int x_row, int rows)
{
    real *dw = tape_wgrad(c, w);
    if (dw) linear_grad_w(c, dy, dy_row, x, x_row, rows, w->rows, w->cols, dw);
}

static void expert_backward(Ctx *c, const MoeNode *n, const Expert *w, int s0, int rows)
{
    real *gate = tensor_row(n->gate, s0), *up = tensor_row(n->up, s0), *act = tensor_row(n->act, s0);
    real *x = tensor_row(n->xg, s0), *y = tensor_row(n->yg, s0), *dy = tape_grad(c, y), *dx = tape_grad(c, x);
    int   F = n->act.stride, D = n->xg.stride;
    SwigluArgs a = {gate, up, tape_grad(c, act), NULL, tape_grad(c, gate), tape_grad(c, up), F, n->act.cols};
    linear_grad_x(c, dy, D, rows, w->down, tape_grad(c, act), F);
    grad_of(c, w->down, dy, D, act, F, rows);
    ctx_run(c, c->k->swiglu_back, &a, rows, 16, 0);
    linear_grad_x(c, a.dgate, F, rows, w->gate, dx, D);
    linear_grad_x(c, a.dup, F, rows, w->up, dx, D);
    grad_of(c, w->gate, a.dgate, F, x, D, rows);
    grad_of(c, w->up, a.dup, F, x, D, rows);
}

static void experts_backward(Ctx *c, const MoeNode *n, const Held *h)
{
    for (int i = 0; i < h->n; i++) {
        Rows r = expert_rows(n, h->id[i]);
        expert_backward(c, n, &h->w[i], r.s0, r.n);
    }
}

static void for_all_experts(Ctx *c, const MoeNode *n, void (*fn)(Ctx *, const MoeNode *, const Held *))
{
    if (n->store->prefetch) n->store->prefetch(n->store, n->layer, n->g.used, n->g.n_used);
    for (int i = 0; i < n->g.n_used; i += EXPERTS_AT_ONCE) {
        Held h = {.n = n->g.n_used - i < EXPERTS_AT_ONCE ? n->g.n_used - i : EXPERTS_AT_ONCE};
        memcpy(h.id, n->g.used + i, (size_t)h.n * sizeof *h.id);
        if (!experts_get(c, n, &h)) return;
        fn(c, n, &h);
        n->store->release(n->store, n->layer, h.id, h.n);
    }
}

static void moe_back(Ctx *c, const TapeNode *node)
{
    const MoeNode *n = (const MoeNode *)node;
    const real    *dy = tape_grad(c, n->y.data);
    CombineArgs    a = {n->yg.data, n->g.slot, n->weight.data, NULL, n->y.stride, n->K, n->y.cols, false, dy,
                        tape_grad(c, n->yg.data), tape_grad(c, n->weight.data)};
    CombineArgs    back = {tape_grad(c, n->xg.data), n->g.slot, NULL, tape_grad(c, n->x.data), n->x.stride, n->K, n->x.cols, true,
                           NULL, NULL, NULL};
    ctx_run(c, c->k->combine_back, &a, n->x.rows, 16, 0);
    for_all_experts(c, n, experts_backward);
    ctx_run(c, c->k->combine, &back, n->x.rows, 16, 0);
}

Tensor moe_ffn(Ctx *c, Tensor x, Routes r, ExpertStore *store, int layer, int E, int F)
{
    int         T = x.rows, n_slots = T * r.K;
    MoeNode     n = {.x = x, .K = r.K, .layer = layer, .store = store, .weight = r.weight};
    GatherArgs  ga;
    CombineArgs ca;
    n.g = group_by_expert(c, &r, T, E);
    n.y = tensor_new(c, T, x.cols);
    n.xg = tensor_new(c, n_slots, x.cols);
    n.gate = tensor_new(c, n_slots, F);
    n.up = tensor_new(c, n_slots, F);
    n.act = tensor_new(c, n_slots, F);
    n.yg = tensor_new(c, n_slots, x.cols);
    n.xa = act_new(c, n.xg.data, n.xg.stride, n_slots, 1, x.cols);
    n.aa = act_new(c, n.act.data, n.act.stride, n_slots, 1, F);
    ga = (GatherArgs){x.data, x.stride, n.g.row, n.xg.data, x.cols};
    ca = (CombineArgs){n.yg.data, n.g.slot, r.weight.data, n.y.data, n.y.stride, r.K, x.cols, false, NULL, NULL, NULL};
    ctx_scratch(c, gemm_scratch() > dot_scratch() ? gemm_scratch() : dot_scratch()); /* for the experts, which a dry run has no routes to */
    ctx_run(c, c->k->gather, &ga, n_slots, 32, 0);
    if (!ctx_failed(c) && !ctx_dry(c)) for_all_experts(c, &n, experts_forward);
    ctx_run(c, c->k->combine, &ca, T, 16, 0);
    if (tape_on(c)) {
        MoeNode *node = tape_push(c, sizeof *node, moe_back);
        TapeNode head = node->head;
        *node = n;
        node->head = head;
    }
    return n.y;
}
