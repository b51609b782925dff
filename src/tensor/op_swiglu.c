/* swiglu (Shazeer 2020): y = silu(gate) * up, silu(g) = g sigmoid(g), sigma = sigmoid(g):
 * dup += dy silu;  dgate += dy up (sigma + silu (1 - sigma)). */
#include "tensor.h"

typedef struct SwigluNode {
    TapeNode head;
    Tensor   gate, up, y;
} SwigluNode;

static void swiglu_back(Ctx *c, const TapeNode *node)
{
    const SwigluNode *n = (const SwigluNode *)node;
    SwigluArgs a = {n->gate.data, n->up.data, tape_grad(c, n->y.data), NULL, tape_grad(c, n->gate.data), tape_grad(c, n->up.data),
                    n->y.stride, n->y.cols};
    ctx_run(c, c->k->swiglu_back, &a, n->y.rows, 16, 0);
}

Tensor swiglu(Ctx *c, Tensor gate, Tensor up)
{
    Tensor     y = tensor_new(c, gate.rows, gate.cols);
    SwigluArgs a = {gate.data, up.data, NULL, y.data, NULL, NULL, y.stride, y.cols};
    if (gate.cols != up.cols || !tensor_packed(gate) || !tensor_packed(up))
        ctx_fail(c, AHA_ERR_INTERNAL, "swiglu: gate of %d columns, up of %d", gate.cols, up.cols);
    ctx_run(c, c->k->swiglu, &a, y.rows, 16, 0);
    if (tape_on(c)) {
        SwigluNode *n = tape_push(c, sizeof *n, swiglu_back);
        n->gate = gate;
        n->up = up;
        n->y = y;
    }
    return y;
}
