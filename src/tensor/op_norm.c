/* rmsnorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * gain, over groups of gain's length.
 * With r = 1/sqrt(mean(x^2) + eps): dx += r (g dy - x r^2 mean(g dy x)), dgain += sum_rows dy x r. */
#include "tensor.h"

enum { ROW_GRAIN = 16 };

typedef struct NormNode {
    TapeNode      head;
    Tensor        x, y;
    const Weight *gain;
    real         *rstd;
} NormNode;

static void norm_back(Ctx *c, const TapeNode *node)
{
    const NormNode *n = (const NormNode *)node;
    NormBackArgs    a = {n->x.data, tape_grad(c, n->y.data), n->gain->data, n->rstd, tape_grad(c, n->x.data),
                         tape_wgrad(c, n->gain), n->x.stride, n->y.stride, n->x.rows, n->x.cols / n->gain->cols, n->gain->cols};
    ctx_run(c, c->k->rmsnorm_back_x, &a, n->x.rows, ROW_GRAIN, 0);
    if (a.dgain) ctx_run(c, c->k->rmsnorm_back_gain, &a, a.N, 64, 0);
}

void rmsnorm_to(Ctx *c, Tensor x, const Weight *gain, double eps, Tensor y)
{
    int      groups = gain->cols > 0 ? x.cols / gain->cols : 0;
    real    *rstd = tape_on(c) ? ctx_alloc(c, (size_t)x.rows * (size_t)groups, sizeof(real)) : NULL;
    NormArgs a = {x.data, y.data, gain->data, rstd, x.stride, y.stride, groups, gain->cols, (real)eps};
    if (x.cols != groups * gain->cols || y.cols != x.cols || y.rows != x.rows)
        ctx_fail(c, AHA_ERR_INTERNAL, "rmsnorm: %d columns with %s [%d]", x.cols, gain->name, gain->cols);
    ctx_run(c, c->k->rmsnorm, &a, x.rows, ROW_GRAIN, 0);
    if (tape_on(c)) {
        NormNode *n = tape_push(c, sizeof *n, norm_back);
        n->x = x;
        n->y = y;
        n->gain = gain;
        n->rstd = rstd;
    }
}

Tensor rmsnorm(Ctx *c, Tensor x, const Weight *gain, double eps)
{
    Tensor y = tensor_new(c, x.rows, x.cols);
    rmsnorm_to(c, x, gain, eps, y);
    return y;
}
