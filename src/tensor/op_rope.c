/* rope (Su et al. 2021): each pair (u, v) of a head is turned by the angle pos * inv_freq[i]:
 * (u cos - v sin, v cos + u sin).  Pairs are neighbours (DeepSeek) or halves (Qwen, Llama).  Backward: turned back. */
#include "tensor.h"

/* Angles as the published models compute them: the product of position and frequency rounded to f32, then cos and sin. */
Tensor rope_angles(Ctx *c, const int32_t *pos, int n, const double *inv_freq, int R, double factor)
{
    Tensor t = tensor_new(c, n, R);
    if (ctx_failed(c) || ctx_dry(c)) return t;
    for (int r = 0; r < n; r++)
        for (int i = 0; i < R / 2; i++) {
            double angle = (double)((real)pos[r] * (real)inv_freq[i]);
            t.data[(int64_t)r * R + i] = (real)(cos(angle) * factor);
            t.data[(int64_t)r * R + R / 2 + i] = (real)(sin(angle) * factor);
        }
    return t;
}

typedef struct RopeNode {
    TapeNode head;
    RopeArgs args;
    int      rows;
} RopeNode;

static void rope_back(Ctx *c, const TapeNode *node)
{
    const RopeNode *n = (const RopeNode *)node;
    RopeArgs        a = n->args;
    bool            in_place = a.x == a.y;
    const real     *dy = tape_grad(c, n->args.y);
    a.y = tape_grad(c, n->args.x);
    a.x = dy;
    a.y_row = n->args.x_row;
    a.y_head = n->args.x_head;
    a.x_row = n->args.y_row;
    a.x_head = n->args.y_head;
    a.inverse = true;
    a.accumulate = !in_place;
    ctx_run(c, c->k->rope, &a, n->rows, 32, 0);
}

void rope(Ctx *c, Tensor x, int x_head, Tensor y, int y_head, int H, Tensor angles, bool interleaved)
{
    RopeArgs a = {x.data, y.data, angles.data, x.stride, x_head, y.stride, y_head, H, angles.cols, interleaved, false, false};
    if (x.rows != angles.rows || y.rows != x.rows)
        ctx_fail(c, AHA_ERR_INTERNAL, "rope: %d rows, %d angles", x.rows, angles.rows);
    ctx_run(c, c->k->rope, &a, x.rows, 32, 0);
    if (tape_on(c)) {
        RopeNode *n = tape_push(c, sizeof *n, rope_back);
        n->args = a;
        n->rows = x.rows;
    }
}
