/* Binds names to weights by table and checks every shape once. */
#include "bind.h"

#include "settle.h"

#include <stdio.h>

/* sizes by the project's alphabet */
typedef enum Dim { ONE, D, HN, GN, N, QL, Q_OUT, KV_A, C, KV_B, K_B, NOPE, V_B, O_IN, F, E, F_EXPERT, F_SHARED, D2 } Dim;

static int dim_value(const Config *c, Dim d)
{
    bool mla = c->arch == ARCH_DEEPSEEK_V3;
    switch (d) {
    case ONE: return 1;
    case D: return c->d_model;
    case HN: return c->n_head * c->head_dim;
    case GN: return c->n_kv_head * c->head_dim;
    case N: return c->head_dim;
    case QL: return c->q_lora;
    case Q_OUT: return c->n_head * (c->nope + c->rope_dim);
    case KV_A: return c->kv_lora + c->rope_dim;
    case C: return c->kv_lora;
    case KV_B: return c->n_head * (c->nope + c->v_dim);
    case K_B: return c->n_head * c->kv_lora;
    case NOPE: return c->nope;
    case V_B: return c->n_head * c->v_dim;
    case O_IN: return mla ? c->n_head * c->v_dim : c->n_head * c->head_dim;
    case F: return c->d_ff;
    case E: return c->n_expert;
    case F_EXPERT: return c->d_expert;
    case F_SHARED: return c->n_shared * c->d_expert;
    case D2: return 2 * c->d_model;
    }
    return 0;
}

/* when a layer has a weight */
typedef enum When { ALWAYS, GQA, BIAS, QK_NORM, MLA, ONE_KV_B, SPLIT_KV_B, Q_LATENT, NO_Q_LATENT, DENSE_FFN, MOE, ROUTE_BIAS, SHARED, MTP } When;

static bool layer_has(const Model *m, int layer, When w)
{
    const Config *c = &m->cfg;
    bool mla = c->arch == ARCH_DEEPSEEK_V3, moe = c->n_expert > 0 && layer >= c->n_dense_first;
    switch (w) {
    case ALWAYS: return true;
    case GQA: return !mla;
    case BIAS: return !mla && c->qkv_bias;
    case QK_NORM: return !mla && c->qk_norm;
    case MLA: return mla;
    case ONE_KV_B: return mla && !m->split_kv_b;
    case SPLIT_KV_B: return mla && m->split_kv_b;
    case Q_LATENT: return mla && c->q_lora > 0;
    case NO_Q_LATENT: return mla && c->q_lora == 0;
    case DENSE_FFN: return !moe;
    case MOE: return moe;
    case ROUTE_BIAS: return moe && c->route == ROUTE_NOAUX;
    case SHARED: return moe && c->n_shared > 0;
    case MTP: return layer >= c->n_layer;
    }
    return false;
}

enum { HF, GGUF, NAMINGS };
static const char *const LAYER_NAME[NAMINGS] = {"model.layers.%d.%s", "blk.%d.%s"};

typedef struct Row {
    const char *name[NAMINGS]; /* behind the layer's */
    size_t      offset;
    Dim         rows, cols;
    When        when;
    unsigned    flags;
} Row;
#define AT(field) offsetof(Layer, field)

static const Row ROWS[] = {
    {{"enorm.weight", "nextn.enorm.weight"}, AT(mtp_embed_norm), ONE, D, MTP, BIND_VECTOR},
    {{"hnorm.weight", "nextn.hnorm.weight"}, AT(mtp_hidden_norm), ONE, D, MTP, BIND_VECTOR},
    {{"eh_proj.weight", "nextn.eh_proj.weight"}, AT(mtp_proj), D, D2, MTP, 0},
    {{"input_layernorm.weight", "attn_norm.weight"}, AT(attn_norm), ONE, D, ALWAYS, BIND_VECTOR},
    {{"self_attn.q_proj.weight", "attn_q.weight"}, AT(q), HN, D, GQA, 0},
    {{"self_attn.k_proj.weight", "attn_k.weight"}, AT(k), GN, D, GQA, 0},
    {{"self_attn.v_proj.weight", "attn_v.weight"}, AT(v), GN, D, GQA, 0},
    {{"self_attn.q_proj.bias", "attn_q.bias"}, AT(q_bias), ONE, HN, BIAS, BIND_VECTOR},
    {{"self_attn.k_proj.bias", "attn_k.bias"}, AT(k_bias), ONE, GN, BIAS, BIND_VECTOR},
    {{"self_attn.v_proj.bias", "attn_v.bias"}, AT(v_bias), ONE, GN, BIAS, BIND_VECTOR},
    {{"self_attn.q_norm.weight", "attn_q_norm.weight"}, AT(q_norm), ONE, N, QK_NORM, BIND_VECTOR},
    {{"self_attn.k_norm.weight", "attn_k_norm.weight"}, AT(k_norm), ONE, N, QK_NORM, BIND_VECTOR},
    {{"self_attn.q_a_proj.weight", "attn_q_a.weight"}, AT(q_a), QL, D, Q_LATENT, 0},
    {{"self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"}, AT(q_a_norm), ONE, QL, Q_LATENT, BIND_VECTOR},
    {{"self_attn.q_b_proj.weight", "attn_q_b.weight"}, AT(q_b), Q_OUT, QL, Q_LATENT, 0},
    {{"self_attn.q_proj.weight", "attn_q.weight"}, AT(q), Q_OUT, D, NO_Q_LATENT, 0},
    {{"self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight"}, AT(kv_a), KV_A, D, MLA, 0},
    {{"self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"}, AT(kv_a_norm), ONE, C, MLA, BIND_VECTOR},
    {{"self_attn.kv_b_proj.weight", "attn_kv_b.weight"}, AT(kv_b), KV_B, C, ONE_KV_B, 0},
    {{"self_attn.k_b_proj.weight", "attn_k_b.weight"}, AT(k_b), K_B, NOPE, SPLIT_KV_B, BIND_PER_HEAD}, /* Hugging Face has no names for these two */
    {{"self_attn.v_b_proj.weight", "attn_v_b.weight"}, AT(v_b), V_B, C, SPLIT_KV_B, BIND_PER_HEAD},
    {{"self_attn.o_proj.weight", "attn_output.weight"}, AT(o), D, O_IN, ALWAYS, BIND_RESIDUAL_OUT},
    {{"post_attention_layernorm.weight", "ffn_norm.weight"}, AT(ffn_norm), ONE, D, ALWAYS, BIND_VECTOR},
    {{"mlp.gate_proj.weight", "ffn_gate.weight"}, AT(gate), F, D, DENSE_FFN, 0},
    {{"mlp.up_proj.weight", "ffn_up.weight"}, AT(up), F, D, DENSE_FFN, 0},
    {{"mlp.down_proj.weight", "ffn_down.weight"}, AT(down), D, F, DENSE_FFN, BIND_RESIDUAL_OUT},
    {{"mlp.gate.weight", "ffn_gate_inp.weight"}, AT(route), E, D, MOE, 0},
    {{"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"}, AT(route_bias), ONE, E, ROUTE_BIAS, BIND_VECTOR},
    {{"mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight"}, AT(shared_gate), F_SHARED, D, SHARED, 0},
    {{"mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight"}, AT(shared_up), F_SHARED, D, SHARED, 0},
    {{"mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight"}, AT(shared_down), D, F_SHARED, SHARED, BIND_RESIDUAL_OUT},
    {{"shared_head.norm.weight", "nextn.shared_head_norm.weight"}, AT(mtp_head_norm), ONE, D, MTP, BIND_VECTOR},
};

/* GGUF stacks the experts of a layer in one tensor */
static const struct {
    const char *name[NAMINGS];
    size_t      offset;
    Dim         rows, cols;
    unsigned    flags;
} EXPERT_ROWS[] = {
    {{"gate_proj.weight", "ffn_gate_exps.weight"}, AT(expert_gate), F_EXPERT, D, 0},
    {{"up_proj.weight", "ffn_up_exps.weight"}, AT(expert_up), F_EXPERT, D, 0},
    {{"down_proj.weight", "ffn_down_exps.weight"}, AT(expert_down), D, F_EXPERT, BIND_RESIDUAL_OUT},
};

static Weight **expert_array(Layer *l, size_t offset)
{
    return (Weight **)(void *)((char *)l + offset);
}

static int visit_row(Model *m, int layer, const Row *row, BindFn *fn, void *user, aha_error *e)
{
    const Config *c = &m->cfg;
    BindItem      item = {.w = (Weight *)(void *)((char *)&m->layer[layer] + row->offset), .rows = dim_value(c, row->rows),
                          .cols = dim_value(c, row->cols), .part = -1, .flags = row->flags};
    if (!layer_has(m, layer, row->when)) return 0;
    if (row->flags & BIND_PER_HEAD) item.stack = c->n_head;
    snprintf(item.name, sizeof item.name, LAYER_NAME[HF], layer, row->name[HF]);
    snprintf(item.stored, sizeof item.stored, LAYER_NAME[m->gguf], layer, row->name[m->gguf]);
    return fn(user, &item, e);
}

static int visit_expert(Model *m, int layer, int x, size_t r, BindFn *fn, void *user, aha_error *e)
{
    const Config *c = &m->cfg;
    BindItem      item = {.w = *expert_array(&m->layer[layer], EXPERT_ROWS[r].offset) + x, .rows = dim_value(c, EXPERT_ROWS[r].rows),
                          .cols = dim_value(c, EXPERT_ROWS[r].cols), .part = x, .flags = EXPERT_ROWS[r].flags};
    snprintf(item.name, sizeof item.name, "model.layers.%d.mlp.experts.%d.%s", layer, x, EXPERT_ROWS[r].name[HF]);
    if (m->gguf) item.stack = c->n_expert;
    if (m->gguf) snprintf(item.stored, sizeof item.stored, LAYER_NAME[GGUF], layer, EXPERT_ROWS[r].name[GGUF]);
    else memcpy(item.stored, item.name, sizeof item.stored);
    return fn(user, &item, e);
}

static int walk_layer(Model *m, int i, BindFn *fn, void *user, aha_error *e)
{
    int rc = 0;
    for (size_t r = 0; rc == 0 && r < ARRAY_LEN(ROWS); r++) rc = visit_row(m, i, &ROWS[r], fn, user, e);
    for (int x = 0; m->layer[i].expert_gate && x < m->cfg.n_expert; x++)
        for (size_t r = 0; rc == 0 && r < ARRAY_LEN(EXPERT_ROWS); r++) rc = visit_expert(m, i, x, r, fn, user, e);
    return rc;
}

static int visit(Model *m, Weight *w, int rows, unsigned flags, const char *const name[NAMINGS], BindFn *fn, void *user, aha_error *e)
{
    BindItem item = {.w = w, .rows = rows, .cols = m->cfg.d_model, .part = -1, .flags = flags};
    snprintf(item.name, sizeof item.name, "%s", name[HF]);
    snprintf(item.stored, sizeof item.stored, "%s", name[m->gguf]);
    return fn(user, &item, e);
}

int bind_walk(Model *m, BindFn *fn, void *user, aha_error *e)
{
    static const char *const EMBED[NAMINGS] = {"model.embed_tokens.weight", "token_embd.weight"};
    static const char *const NORM[NAMINGS] = {"model.norm.weight", "output_norm.weight"};
    static const char *const HEAD[NAMINGS] = {"lm_head.weight", "output.weight"};
    const Config *c = &m->cfg;
    int           rc = visit(m, &m->embed, c->vocab, BIND_EMBED, EMBED, fn, user, e);
    for (int i = 0; rc == 0 && i < c->n_layer + c->n_mtp; i++) rc = walk_layer(m, i, fn, user, e);
    if (rc == 0) rc = visit(m, &m->norm, 1, BIND_VECTOR, NORM, fn, user, e);
    if (rc == 0 && !c->tied_embeddings) rc = visit(m, &m->head, c->vocab, 0, HEAD, fn, user, e);
    return rc;
}

int bind_allocate(Model *m, aha_error *e)
{
    const Config *c = &m->cfg;
    m->layer = mem_zalloc((size_t)(c->n_layer + c->n_mtp), sizeof *m->layer);
    if (!m->layer) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d layers", c->n_layer);
    for (int i = 0; i < c->n_layer + c->n_mtp; i++) {
        if (!layer_has(m, i, MOE)) continue;
        for (size_t r = 0; r < ARRAY_LEN(EXPERT_ROWS); r++) {
            Weight *w = mem_zalloc((size_t)c->n_expert, sizeof *w);
            if (!w) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d experts", c->n_expert);
            *expert_array(&m->layer[i], EXPERT_ROWS[r].offset) = w;
        }
    }
    return 0;
}

/* ---- the store of experts that are in memory ---- */
typedef struct Resident {
    ExpertStore   store;
    const Model  *m;
} Resident;

static int resident_acquire(ExpertStore *s, int layer, const int32_t *id, int n, Expert *out, aha_error *e)
{
    const Layer *l = &((const Resident *)s)->m->layer[layer];
    (void)e;
    for (int i = 0; i < n; i++) out[i] = (Expert){&l->expert_gate[id[i]], &l->expert_up[id[i]], &l->expert_down[id[i]]};
    return 0;
}
static void resident_release(ExpertStore *s, int layer, const int32_t *id, int n)
{
    (void)s, (void)layer, (void)id, (void)n;
}

int bind_finish(Model *m, const ModelOptions *o, aha_error *e)
{
    const Config *c = &m->cfg;
    bool          mla = c->arch == ARCH_DEEPSEEK_V3;
    Resident     *r = mem_zalloc(1, sizeof *r);
    if (!r) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for the expert store");
    r->store = (ExpertStore){resident_acquire, resident_release, NULL};
    r->m = m;
    m->store = &r->store;
    if (c->tied_embeddings) m->head = m->embed;
    m->rope_cols = mla ? c->rope_dim : c->head_dim;
    m->inv_freq = mem_zalloc((size_t)m->rope_cols, sizeof *m->inv_freq);
    if (!m->inv_freq) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d frequencies", m->rope_cols);
    rope_inv_freq(&c->rope, m->rope_cols, m->inv_freq);
    m->attn_scale = attn_softmax_scale(c);
    m->act_q8 = !(o && o->act_f32);
    m->kv_shape = (Kv){.type = o ? o->kv_type : DT_F32, .n_layer = c->n_layer + c->n_mtp,
                       .key_cols = mla ? c->kv_lora + c->rope_dim : c->n_kv_head * c->head_dim,
                       .val_cols = mla ? 0 : c->n_kv_head * c->head_dim,
                       .heads = mla ? 1 : c->n_kv_head};
    if (m->kv_shape.type == DT_Q8_0 && (mla ? (c->kv_lora | c->rope_dim) % KV_Q8_COLS : c->head_dim % KV_Q8_COLS))
        return error_set(e, AHA_ERR_UNSUPPORTED, mla ? "q8_0 keys are kept in blocks of %d columns, but this model's latent has %d and its rope %d: take f16 or bf16"
                                                     : "q8_0 keys and values are kept in blocks of %d columns, but this model's heads have %d: take f16 or bf16",
                         KV_Q8_COLS, mla ? c->kv_lora : c->head_dim, c->rope_dim);
    if (!kv_layout(&m->kv_shape)) return error_set(e, AHA_ERR_LIMIT, "a page of the key cache does not fit into an address");
    return 0;
}

void model_free(Model *m)
{
    if (!m) return;
    settler_free(m->settler);
    for (int i = 0; i < m->n_weight; i++) mem_free((void *)(uintptr_t)m->weight[i]->name);
    for (int i = 0; m->layer && i < m->cfg.n_layer + m->cfg.n_mtp; i++)
        for (size_t r = 0; r < ARRAY_LEN(EXPERT_ROWS); r++) mem_free(*expert_array(&m->layer[i], EXPERT_ROWS[r].offset));
    mem_free(m->layer);
    mem_free(m->weight);
    mem_free(m->store);
    mem_free(m->inv_freq);
    if (m->owned) mem_pages_free(m->owned, m->owned_bytes);
    weights_close(m->file);
    mem_free(m);
}
