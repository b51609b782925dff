/* DeepSeek-V3 / R1 (arXiv 2412.19437, section 2.1): multi-head latent attention and a mixture of experts.
 *
 * MLA in its absorbed form, which is the definition here, in training too.  Per position the cache holds c [C], the normed
 * latent, and k_pe [R], the rotated part that all heads share.  With W_uk, W_uv the key and value rows of kv_b per head:
 *   q_c = q_nope W_uk [C],   score = (q_c . c + q_pe . k_pe) * scale,   o = (sum_j p_j c_j) W_uv^T.
 * So attention is one key head of C+R columns whose first C are the values. */
#include "model.h"

/* q [T, H*(N+R)] from x, through the query latent where there is one */
static Tensor queries(Ctx *c, const Config *f, const Layer *l, Tensor x)
{
    if (!f->q_lora) return linear(c, x, &l->q, NULL);
    return linear(c, rmsnorm(c, linear(c, x, &l->q_a, NULL), &l->q_a_norm, f->rms_eps), &l->q_b, NULL);
}

/* q_c = q_nope W_uk into the first C columns of each head of qa.  k_b holds W_uk transposed: the same chains over N. */
static void absorb(Ctx *c, const Config *f, const Layer *l, Tensor q, Tensor qa)
{
    int H = f->n_head, N = f->nope, R = f->rope_dim, C = f->kv_lora, V = f->v_dim;
    if (l->k_b.data) linear_heads(c, q, &l->k_b, (HeadCut){H, 0, C, C, N + R, C + R}, qa);
    else linear_heads_t(c, q, &l->kv_b, (HeadCut){H, 0, N + V, N, N + R, C + R}, qa);
}

/* o W_uv^T: [T, H*C] -> [T, H*V'] */
static void expand(Ctx *c, const Config *f, const Layer *l, Tensor o, Tensor v)
{
    int H = f->n_head, N = f->nope, C = f->kv_lora, V = f->v_dim;
    if (l->v_b.data) linear_heads(c, o, &l->v_b, (HeadCut){H, 0, V, V, C, V}, v);
    else linear_heads(c, o, &l->kv_b, (HeadCut){H, N, N + V, V, C, V}, v);
}

static Tensor mla(Ctx *c, const LayerArgs *a, Tensor x)
{
    const Config *f = &a->m->cfg;
    const Layer  *l = &a->m->layer[a->layer];
    int           H = f->n_head, N = f->nope, R = f->rope_dim, C = f->kv_lora, V = f->v_dim;
    AttnShape     shape = {H, 1, C + R, C, a->m->attn_scale, true};
    Tensor        q = queries(c, f, l, x);                 /* [T, H*(N+R)] */
    Tensor        kv = linear(c, x, &l->kv_a, NULL);       /* [T, C+R] */
    Tensor        qa = tensor_new(c, x.rows, H * (C + R)); /* absorbed queries */
    Tensor        key = tensor_new(c, x.rows, C + R);
    Tensor        o, v = tensor_new(c, x.rows, H * V);
    absorb(c, f, l, q, qa);
    rope(c, tensor_cols(q, N, q.cols - N), N + R, tensor_cols(qa, C, qa.cols - C), C + R, H, a->angles, f->rope.interleaved);
    rmsnorm_to(c, tensor_cols(kv, 0, C), &l->kv_a_norm, f->rms_eps, tensor_cols(key, 0, C));
    rope(c, tensor_cols(kv, C, R), R, tensor_cols(key, C, R), R, 1, a->angles, f->rope.interleaved);
    o = attn(c, shape, qa, key, key, a->b, a->kv, a->layer); /* [T, H*C] */
    expand(c, f, l, o, v);
    return allreduce(c, linear(c, v, &l->o, NULL));
}

static RouteShape route_shape(const Config *f)
{
    static const RouteMode mode[] = {
        [ROUTE_GREEDY] = ROUTE_MODE_GREEDY, [ROUTE_GROUP_MAX] = ROUTE_MODE_GROUP_MAX, [ROUTE_NOAUX] = ROUTE_MODE_NOAUX};
    return (RouteShape){f->n_expert, f->n_expert_used, f->n_group, f->topk_group,
                        f->scoring == SCORING_SIGMOID ? ROUTE_SCORE_SIGMOID : ROUTE_SCORE_SOFTMAX, mode[f->route],
                        f->norm_topk, f->route_scale};
}

static Tensor moe(Ctx *c, const LayerArgs *a, Tensor x)
{
    const Config *f = &a->m->cfg;
    const Layer  *l = &a->m->layer[a->layer];
    Routes        r = route(c, route_shape(f), linear(c, x, &l->route, NULL), l->route_bias.data ? &l->route_bias : NULL, a->layer);
    Tensor        y = moe_ffn(c, x, r, a->m->store, a->layer, f->n_expert, f->d_expert);
    if (l->shared_gate.data) y = add(c, y, mlp(c, x, &l->shared_gate, &l->shared_up, &l->shared_down));
    return allreduce(c, y);
}

Tensor deepseek_v3_layer(Ctx *c, const void *args, Tensor x)
{
    const LayerArgs *a = args;
    const Layer     *l = &a->m->layer[a->layer];
    Tensor           h = rmsnorm(c, x, &l->attn_norm, a->m->cfg.rms_eps);
    x = add(c, x, mla(c, a, h));
    h = rmsnorm(c, x, &l->ffn_norm, a->m->cfg.rms_eps);
    return add(c, x, l->expert_gate ? moe(c, a, h) : mlp(c, h, &l->gate, &l->up, &l->down));
}
