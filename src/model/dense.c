/* The dense families: Llama, Qwen2 (biases on q, k, v), Qwen3 (norms on the heads of q and k).
 * Grouped-query attention with half-rotated rope, SwiGLU feed-forward, pre-norm residual stream. */
#include "model.h"

static const Weight *opt(const Weight *w) { return w->data ? w : NULL; }

static Tensor gqa(Ctx *c, const LayerArgs *a, Tensor x)
{
    const Config *f = &a->m->cfg;
    const Layer  *l = &a->m->layer[a->layer];
    int           N = f->head_dim, H = f->n_head, G = f->n_kv_head;
    AttnShape     shape = {H, G, N, N, a->m->attn_scale, false};
    Tensor        p[3], q, k, o; /* [T, H*N] [T, G*N] [T, G*N] */
    linear_n(c, x, 3, (const Weight *const[]){&l->q, &l->k, &l->v},
             (const Weight *const[]){opt(&l->q_bias), opt(&l->k_bias), opt(&l->v_bias)}, p);
    q = l->q_norm.data ? rmsnorm(c, p[0], &l->q_norm, f->rms_eps) : p[0];
    k = l->k_norm.data ? rmsnorm(c, p[1], &l->k_norm, f->rms_eps) : p[1];
    rope(c, q, N, q, N, H, a->angles, f->rope.interleaved);
    rope(c, k, N, k, N, G, a->angles, f->rope.interleaved);
    o = attn(c, shape, q, k, p[2], a->b, a->kv, a->layer);
    return allreduce(c, linear(c, o, &l->o, NULL));
}

Tensor dense_layer(Ctx *c, const void *args, Tensor x)
{
    const LayerArgs *a = args;
    const Layer     *l = &a->m->layer[a->layer];
    Tensor           h = rmsnorm(c, x, &l->attn_norm, a->m->cfg.rms_eps);
    x = add(c, x, gqa(c, a, h));
    h = rmsnorm(c, x, &l->ffn_norm, a->m->cfg.rms_eps);
    return add(c, x, mlp(c, h, &l->gate, &l->up, &l->down));
}
