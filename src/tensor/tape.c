/* The tape: what the ops left behind, walked backwards. */
#include "tensor.h"

int tape_init(Tape *t, size_t arena_bytes, real **wgrad, int n_wgrad, bool keep, aha_error *e)
{
    memset(t, 0, sizeof *t);
    t->grad = mem_pages(arena_bytes);
    if (!t->grad) return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes for gradients of activations", arena_bytes);
    t->cap = arena_bytes;
    t->wgrad = wgrad;
    t->n_wgrad = n_wgrad;
    t->keep = keep;
    return 0;
}

void tape_free(Tape *t)
{
    if (t->grad) mem_pages_free(t->grad, t->cap);
    memset(t, 0, sizeof *t);
}

void *tape_push(Ctx *c, size_t bytes, void (*back)(Ctx *, const TapeNode *))
{
    static _Thread_local _Alignas(16) uint8_t sink[512]; /* a dry run's nodes: written, never read */
    TapeNode                    *n = ctx_alloc(c, 1, bytes);
    if (!n || ctx_dry(c)) {
        if (bytes > sizeof sink) ctx_fail(c, AHA_ERR_INTERNAL, "tape node of %zu bytes", bytes);
        return sink;
    }
    n->back = back;
    n->prev = c->tape->last;
    c->tape->last = n;
    return n;
}

real *tape_grad(const Ctx *c, const real *x)
{
    return (real *)(void *)(c->tape->grad + ((const uint8_t *)x - c->arena.base));
}

real *tape_wgrad(const Ctx *c, const Weight *w)
{
    return !dtype_is_coded(w->dtype) && w->id >= 0 && w->id < c->tape->n_wgrad ? c->tape->wgrad[w->id] : NULL;
}

void tape_zero(Ctx *c)
{
    if (ctx_failed(c) || ctx_dry(c)) return;
    if (c->arena.used > c->tape->cap) {
        ctx_fail(c, AHA_ERR_INTERNAL, "the tape has %zu bytes for gradients, %zu are needed", c->tape->cap, c->arena.used);
        return;
    }
    memset(c->tape->grad, 0, c->arena.used);
}

void tape_backward(Ctx *c)
{
    const TapeNode *n = ctx_failed(c) ? NULL : c->tape->last;
    for (; n && !ctx_failed(c); n = n->prev) n->back(c, n);
    c->tape->last = NULL;
}
