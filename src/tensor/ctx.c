/* The context of one forward pass: arena, kernels, threads, the sticky error. */
#include "tensor.h"

#include <stdio.h>

void ctx_init_dry(Ctx *c, const Kernels *k, int threads)
{
    memset(c, 0, sizeof *c);
    (void)threads;
    arena_init_dry(&c->arena);
    c->k = k;
}

static size_t scratch_rounded(size_t bytes) { return (bytes + 4095) & ~(size_t)4095; } /* workers never share a cache line */

int ctx_init(Ctx *c, const Kernels *k, Pool *pool, size_t arena_bytes, size_t scratch_bytes, aha_error *e)
{
    size_t all;
    int    rc;
    memset(c, 0, sizeof *c);
    scratch_bytes = scratch_rounded(scratch_bytes);
    if (!size_mul(scratch_bytes, (size_t)(pool ? pool_threads(pool) : 1), &all))
        return error_set(e, AHA_ERR_LIMIT, "scratch memory for the threads does not fit into an address");
    if ((rc = arena_init(&c->arena, arena_bytes, e)) != 0) return rc;
    c->scratch = mem_pages(all ? all : 1);
    if (!c->scratch) {
        arena_free(&c->arena);
        return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes of scratch memory", all);
    }
    c->k = k;
    c->pool = pool;
    c->scratch_bytes = scratch_bytes;
    return 0;
}

size_t ctx_like_arena(const Ctx *dry) { return (dry->arena.peak + 4096 + 63) & ~(size_t)63; }
size_t ctx_like_scratch(const Ctx *dry) { return scratch_rounded(dry->scratch_peak); }

int ctx_init_like(Ctx *c, const Ctx *dry, Pool *pool, aha_error *e)
{
    int rc = ctx_init(c, dry->k, pool, ctx_like_arena(dry), dry->scratch_peak, e);
    if (rc) return rc;
    c->kv_type = dry->kv_type;
    c->act_q8 = dry->act_q8;
    return 0;
}

void ctx_free(Ctx *c)
{
    size_t all = c->scratch_bytes * (size_t)(c->pool ? pool_threads(c->pool) : 1);
    arena_free(&c->arena);
    if (c->scratch) mem_pages_free(c->scratch, all ? all : 1);
    memset(c, 0, sizeof *c);
}

void ctx_fail(Ctx *c, int code, const char *fmt, ...)
{
    va_list ap;
    if (c->err.code) return;
    va_start(ap, fmt);
    vsnprintf(c->err.text, sizeof c->err.text, fmt, ap);
    va_end(ap);
    c->err.code = code;
}

void ctx_reset(Ctx *c)
{
    arena_reset(&c->arena, 0);
    memset(&c->err, 0, sizeof c->err);
    if (c->tape) c->tape->last = NULL;
}

void *ctx_alloc(Ctx *c, size_t count, size_t bytes)
{
    size_t n;
    void  *p;
    if (ctx_failed(c)) return NULL;
    if (!size_mul(count, bytes, &n) || !(p = arena_alloc(&c->arena, n))) {
        ctx_fail(c, AHA_ERR_NOMEM, "the context's memory is full: %zu x %zu bytes wanted, %zu of %zu used", count, bytes,
                 c->arena.used, c->arena.cap);
        return NULL;
    }
    return p;
}

typedef struct RunArgs {
    KernelFn   *fn;
    const void *args;
    int64_t     n, grain;
    uint8_t    *scratch;
    size_t      scratch_bytes;
} RunArgs;

static void run_task(void *arg, int task, int worker)
{
    const RunArgs *r = arg;
    int64_t        i0 = task * r->grain, i1 = i0 + r->grain < r->n ? i0 + r->grain : r->n;
    r->fn(r->args, i0, i1, r->scratch + (size_t)worker * r->scratch_bytes);
}

void ctx_scratch(Ctx *c, size_t bytes)
{
    if (bytes > c->scratch_peak) c->scratch_peak = bytes;
}

void ctx_run(Ctx *c, KernelFn *fn, const void *args, int64_t n, int64_t grain, size_t scratch_bytes)
{
    RunArgs r = {fn, args, n, grain, c->scratch, c->scratch_bytes};
    if (ctx_failed(c) || n <= 0) return;
    ctx_scratch(c, scratch_bytes);
    if (ctx_dry(c)) return;
    if (scratch_bytes > c->scratch_bytes) {
        ctx_fail(c, AHA_ERR_INTERNAL, "a kernel wants %zu bytes of scratch memory, the dry run saw %zu", scratch_bytes,
                 c->scratch_bytes);
        return;
    }
    if (grain < 1) grain = r.grain = 1;
    if ((n + grain - 1) / grain > INT32_MAX) grain = r.grain = (n + INT32_MAX - 1) / INT32_MAX;
    if (n <= grain)
        fn(args, 0, n, c->scratch);
    else
        pool_run(c->pool, (int)((n + grain - 1) / grain), run_task, &r);
}

typedef struct PartsArgs {
    const RunPart *part;
    int            n_parts, threads, tasks;
    int64_t        n; /* items of all */
    uint8_t       *scratch;
    size_t         scratch_bytes;
} PartsArgs;

/* the first item of a task, of `tasks` or, when there are four rounds of them, of shares of 1/2, 1/4, 1/8 and 1/8 */
static int64_t task_start(const PartsArgs *r, int task)
{
    static const int BEFORE[] = {0, 4, 6, 7, 8}; /* eighths */
    int              round = task / r->threads, i = task % r->threads;
    if (r->tasks != 4 * r->threads) return r->n * task / r->tasks;
    if (round == 4) return r->n;
    return r->n * (BEFORE[round] * r->threads + (BEFORE[round + 1] - BEFORE[round]) * i) / (8 * (int64_t)r->threads);
}

static void parts_task(void *arg, int task, int worker)
{
    const PartsArgs *r = arg;
    int64_t          from = task_start(r, task), to = task_start(r, task + 1);
    for (int p = 0; p < r->n_parts; p++) {
        int64_t n = r->part[p].n, i0 = from > 0 ? from : 0, i1 = to < n ? to : n;
        if (i0 < i1) r->part[p].fn(r->part[p].args, i0, i1, r->scratch + (size_t)worker * r->scratch_bytes);
        from -= n;
        to -= n;
    }
}

void ctx_run_parts(Ctx *c, const RunPart *part, int n_parts, int64_t least, size_t scratch_bytes)
{
    PartsArgs r = {part, n_parts, pool_threads(c->pool), 0, 0, c->scratch, c->scratch_bytes};
    if (ctx_failed(c)) return;
    for (int p = 0; p < n_parts; p++) r.n += part[p].n;
    if (r.n > 0) ctx_scratch(c, scratch_bytes);
    if (r.n <= 0 || ctx_dry(c)) return;
    if (scratch_bytes > c->scratch_bytes) {
        ctx_fail(c, AHA_ERR_INTERNAL, "a kernel wants %zu bytes of scratch memory, the dry run saw %zu", scratch_bytes, c->scratch_bytes);
        return;
    }
    int64_t even = least > 0 ? r.n / least : r.n;
    r.tasks = even >= 8 * (int64_t)r.threads ? 4 * r.threads : even < 1 ? 1 : even < 2 * r.threads ? (int)even : 2 * r.threads;
    if (r.threads == 1) r.tasks = 1;
    if (r.tasks == 1) parts_task(&r, 0, 0);
    else pool_run(c->pool, r.tasks, parts_task, &r);
}

Tensor tensor_new(Ctx *c, int rows, int cols)
{
    Tensor t = {NULL, rows, cols, cols};
    if (rows < 0 || cols <= 0) {
        ctx_fail(c, AHA_ERR_INTERNAL, "tensor of %d x %d", rows, cols);
        return t;
    }
    t.data = ctx_alloc(c, (size_t)rows * (size_t)cols, sizeof(real));
    return t;
}
