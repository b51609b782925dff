/* Ops that add, pick and scope. */
#include "tensor.h"

enum { ROW_GRAIN = 32 }; /* rows a task: enough work to be worth a hand-over */

/* ---- add: y = a + b; da += dy, db += dy ---- */
typedef struct AddNode {
    TapeNode head;
    Tensor   a, b, y;
} AddNode;

static void accumulate(Ctx *c, Tensor x, const real *dy, int dy_row)
{
    real   *dx = tape_grad(c, x.data);
    AddArgs a = {dx, dy, dx, x.stride, dy_row, x.stride, x.cols, 1};
    ctx_run(c, c->k->add, &a, x.rows, ROW_GRAIN, 0);
}

static void add_back(Ctx *c, const TapeNode *node)
{
    const AddNode *n = (const AddNode *)node;
    const real    *dy = tape_grad(c, n->y.data);
    accumulate(c, n->a, dy, n->y.stride);
    accumulate(c, n->b, dy, n->y.stride);
}

Tensor add(Ctx *c, Tensor a, Tensor b)
{
    Tensor  y = tensor_new(c, a.rows, a.cols);
    AddArgs k = {a.data, b.data, y.data, a.stride, b.stride, y.stride, a.cols, 1};
    if (a.rows != b.rows || a.cols != b.cols)
        ctx_fail(c, AHA_ERR_INTERNAL, "add: %d x %d to %d x %d", a.rows, a.cols, b.rows, b.cols);
    ctx_run(c, c->k->add, &k, a.rows, ROW_GRAIN, 0);
    if (tape_on(c)) {
        AddNode *n = tape_push(c, sizeof *n, add_back);
        n->a = a;
        n->b = b;
        n->y = y;
    }
    return y;
}

/* ---- gather: y[i] = x[row[i]]; dx[row[i]] += dy[i], i ascending ---- */
typedef struct GatherNode {
    TapeNode       head;
    Tensor         x, y;
    const int32_t *row;
} GatherNode;

static void gather_back(Ctx *c, const TapeNode *node)
{
    const GatherNode *n = (const GatherNode *)node;
    for (int i = 0; i < n->y.rows; i++) {
        real   *dx = tape_grad(c, tensor_row(n->x, n->row[i]));
        AddArgs a = {dx, tape_grad(c, tensor_row(n->y, i)), dx, 0, 0, 0, n->x.cols, 1};
        ctx_run(c, c->k->add, &a, 1, 1, 0);
    }
}

Tensor gather(Ctx *c, Tensor x, const int32_t *row, int n)
{
    Tensor     y = tensor_new(c, n, x.cols);
    int32_t   *keep = tape_on(c) ? ctx_alloc(c, (size_t)n, sizeof *keep) : NULL;
    GatherArgs a = {x.data, x.stride, row, y.data, x.cols};
    ctx_run(c, c->k->gather, &a, n, ROW_GRAIN, 0);
    if (tape_on(c)) {
        GatherNode *g = tape_push(c, sizeof *g, gather_back);
        if (keep && !ctx_dry(c)) memcpy(keep, row, (size_t)n * sizeof *keep);
        g->x = x;
        g->y = y;
        g->row = keep;
    }
    return y;
}

/* ---- allreduce: the identity on one device ---- kept in the definition, so that shards need no other one */
Tensor allreduce(Ctx *c, Tensor x)
{
    (void)c;
    return x;
}

Tensor constant(Ctx *c, const real *data, int rows, int cols)
{
    Tensor t = tensor_new(c, rows, cols);
    if (!ctx_failed(c) && !ctx_dry(c)) memcpy(t.data, data, (size_t)rows * (size_t)cols * sizeof(real));
    return t;
}

/* ---- scoped ---- */
typedef struct ScopeNode {
    TapeNode head;
    ScopeFn *fn;
    Tensor   x, y;
    size_t   arg_bytes;
    uint8_t  arg[128];
} ScopeNode;

/* fn's result, moved to out; what fn allocated is given back */
static void run_scope(Ctx *c, ScopeFn *fn, const void *arg, Tensor x, Tensor out)
{
    size_t mark = arena_mark(&c->arena);
    Tensor y = fn(c, arg, x);
    if (y.rows != out.rows || y.cols != out.cols || !tensor_packed(y))
        ctx_fail(c, AHA_ERR_INTERNAL, "scoped: %d x %d came out, expected %d x %d", y.rows, y.cols, out.rows, out.cols);
    if (!ctx_failed(c) && !ctx_dry(c)) memcpy(out.data, y.data, (size_t)y.rows * (size_t)y.cols * sizeof(real));
    arena_reset(&c->arena, mark);
}

static void scope_back(Ctx *c, const TapeNode *node)
{
    const ScopeNode *n = (const ScopeNode *)node;
    size_t           mark = arena_mark(&c->arena);
    Tensor           y;
    TapeNode        *outer = c->tape->last;
    c->tape->last = NULL;
    c->recomputing++;
    y = n->fn(c, n->arg, n->x);
    c->recomputing--;
    if (c->arena.used > c->tape->cap) ctx_fail(c, AHA_ERR_INTERNAL, "scoped: the tape's gradients are full");
    if (!ctx_failed(c)) {
        memset(c->tape->grad + mark, 0, c->arena.used - mark);
        memcpy(tape_grad(c, y.data), tape_grad(c, n->y.data), (size_t)y.rows * (size_t)y.cols * sizeof(real));
        tape_backward(c);
    }
    c->tape->last = outer;
    arena_reset(&c->arena, mark);
}

Tensor scoped(Ctx *c, ScopeFn *fn, const void *arg, size_t arg_bytes, Tensor x)
{
    Tape      *tape = c->tape;
    ScopeNode *n;
    Tensor     y = x;
    if (tape && tape->keep) return fn(c, arg, x);
    if (tape) {
        y = tensor_new(c, x.rows, x.cols);
        n = tape_push(c, sizeof *n, scope_back);
        if (arg_bytes > sizeof n->arg) {
            ctx_fail(c, AHA_ERR_INTERNAL, "scoped: argument of %zu bytes", arg_bytes);
            return y;
        }
        n->fn = fn;
        n->x = x;
        n->y = y;
        n->arg_bytes = arg_bytes;
        memcpy(n->arg, arg, arg_bytes);
    }
    if (tape && ctx_dry(c)) { /* the backward's second run is what counts for memory */
        size_t mark = arena_mark(&c->arena);
        fn(c, arg, x);
        arena_reset(&c->arena, mark);
        return y;
    }
    c->tape = NULL;
    run_scope(c, fn, arg, x, y);
    c->tape = tape;
    return y;
}
