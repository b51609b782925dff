/* The decoder around the layers: embedding, the stack, the last norm, the head, the draft layer. */
#include "model.h"

Tensor mlp(Ctx *c, Tensor x, const Weight *gate, const Weight *up, const Weight *down)
{
    Tensor p[2]; /* [T, F] each */
    linear_n(c, x, 2, (const Weight *const[]){gate, up}, NULL, p);
    return linear(c, swiglu(c, p[0], p[1]), down, NULL);
}

static ScopeFn *layer_fn(const Model *m)
{
    return m->cfg.arch == ARCH_DEEPSEEK_V3 ? deepseek_v3_layer : dense_layer;
}

static void check_batch(Ctx *c, const Batch *b)
{
    if (b->adapter) ctx_fail(c, AHA_ERR_UNSUPPORTED, "a batch names adapters, expected none: this build loads none");
}

Tensor model_hidden(Ctx *c, const Model *m, const Batch *b, Kv *kv)
{
    check_batch(c, b);
    LayerArgs a = {m, b, kv, 0, rope_angles(c, b->pos, b->n, m->inv_freq, m->rope_cols, m->cfg.rope.cos_sin_factor)};
    Tensor    x = embed(c, &m->embed, b->token, b->n); /* [T, D] */
    for (a.layer = 0; a.layer < m->cfg.n_layer; a.layer++) x = scoped(c, layer_fn(m), &a, sizeof a, x);
    return x;
}

Tensor model_final_norm(Ctx *c, const Model *m, Tensor hidden)
{
    return rmsnorm(c, hidden, &m->norm, m->cfg.rms_eps);
}

Tensor model_wanted(Ctx *c, const Batch *b, Tensor x)
{
    int32_t *row;
    int      n = 0, at = 0;
    if (!b->out) return x;
    for (int i = 0; i < b->n; i++) n += b->out[i] != 0;
    row = ctx_alloc(c, (size_t)n, sizeof *row);
    for (int i = 0; i < b->n && row && !ctx_dry(c); i++)
        if (b->out[i]) row[at++] = i;
    return gather(c, x, row, n);
}

Tensor model_logits(Ctx *c, const Model *m, Tensor normed)
{
    return linear(c, normed, &m->head, NULL);
}

/* DeepSeek-V3 report, section 2.2, with the published weights' order: embedding first, hidden state second. */
Tensor model_draft(Ctx *c, const Model *m, const Batch *b, Kv *kv)
{
    const Layer *l = &m->layer[m->cfg.n_layer];
    double       eps = m->cfg.rms_eps;
    int          D = m->cfg.d_model;
    LayerArgs    a = {m, b, kv, m->cfg.n_layer, rope_angles(c, b->pos, b->n, m->inv_freq, m->rope_cols, m->cfg.rope.cos_sin_factor)};
    Tensor       normed = {(real *)(uintptr_t)b->hidden, b->n, D, D}, x = tensor_new(c, b->n, 2 * D); /* [T, D], [T, 2D] */
    check_batch(c, b);
    if (!b->hidden && !ctx_dry(c)) ctx_fail(c, AHA_ERR_INTERNAL, "a draft layer's batch without hidden states");
    rmsnorm_to(c, embed(c, &m->embed, b->token, b->n), &l->mtp_embed_norm, eps, tensor_cols(x, 0, D));
    rmsnorm_to(c, normed, &l->mtp_hidden_norm, eps, tensor_cols(x, D, D));
    x = scoped(c, layer_fn(m), &a, sizeof a, linear(c, x, &l->mtp_proj, NULL));
    return rmsnorm(c, x, &l->mtp_head_norm, eps);
}
