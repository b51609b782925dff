/* logprob: log softmax(h W^T)[target] and the entropy of that distribution, for a chunk of rows at a time, so that
 * rows x vocabulary logits never exist at once; the backward computes a chunk's logits again.
 * With p = softmax:  dlogits = dlogp (onehot - p) - dentropy p (log p + entropy). */
#include "tensor.h"

#include "linear.h"

enum { CHUNK = 128 };

typedef struct LogprobNode {
    TapeNode       head;
    Tensor         h, y;
    const Weight  *w;
    const int32_t *target;
    real          *logits; /* [CHUNK, V] */
} LogprobNode;

static void logprob_back(Ctx *c, const TapeNode *node)
{
    const LogprobNode *n = (const LogprobNode *)node;
    int                V = n->w->rows;
    real              *dw = tape_wgrad(c, n->w);
    for (int r = 0; r < n->h.rows; r += CHUNK) {
        int         m = n->h.rows - r < CHUNK ? n->h.rows - r : CHUNK;
        const real *h = tensor_row(n->h, r);
        XentArgs    a = {n->logits, V, n->target + r, NULL, tape_grad(c, n->y.data) + 2 * (int64_t)r};
        linear_rows(c, &(Act){.x = h, .x_row = n->h.stride}, m, n->w, NULL, n->logits, V);
        ctx_run(c, c->k->xent_back, &a, m, 4, 0);
        linear_grad_x(c, n->logits, V, m, n->w, tape_grad(c, h), n->h.stride);
        if (dw) linear_grad_w(c, n->logits, V, h, n->h.stride, m, V, n->w->cols, dw);
    }
}

Tensor logprob(Ctx *c, Tensor h, const Weight *head, const int32_t *target)
{
    int      V = head->rows, chunk = h.rows < CHUNK ? h.rows : CHUNK;
    Tensor   y = tensor_new(c, h.rows, 2);
    real    *logits = ctx_alloc(c, (size_t)chunk * (size_t)V, sizeof(real));
    int32_t *keep = tape_on(c) ? ctx_alloc(c, (size_t)h.rows, sizeof *keep) : NULL;
    if (h.cols != head->cols) ctx_fail(c, AHA_ERR_INTERNAL, "logprob: %d columns, head of %d", h.cols, head->cols);
    for (int r = 0; r < h.rows && !ctx_failed(c); r += CHUNK) {
        int      m = h.rows - r < CHUNK ? h.rows - r : CHUNK;
        XentArgs a = {logits, V, target + r, y.data + 2 * (int64_t)r, NULL};
        linear_rows(c, &(Act){.x = tensor_row(h, r), .x_row = h.stride}, m, head, NULL, logits, V);
        ctx_run(c, c->k->xent, &a, m, 4, 0);
    }
    if (tape_on(c)) {
        LogprobNode *n = tape_push(c, sizeof *n, logprob_back);
        if (keep && !ctx_dry(c)) memcpy(keep, target, (size_t)h.rows * sizeof *keep);
        n->h = h;
        n->y = y;
        n->w = head;
        n->target = keep;
        n->logits = logits;
    }
    return y;
}

void logprob_row(const Ctx *c, const real *logits, int V, int32_t target, real *logp, real *entropy)
{
    real     out[2];
    XentArgs a = {(real *)(uintptr_t)logits, V, &target, out, NULL}; /* forward only reads logits */
    c->k->xent(&a, 0, 1, NULL);
    *logp = out[0];
    if (entropy) *entropy = out[1];
}
