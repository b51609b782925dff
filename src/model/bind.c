/* Binds names to weights by table and checks every shape once. */
#include "bind.h"

#include <stdio.h>

/* sizes by the project's alphabet */
typedef enum Dim { ONE, D, HN, GN, N, QL, Q_OUT, KV_A, C, KV_B, O_IN, F, E, F_EXPERT, F_SHARED, D2 } Dim;

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
typedef enum When { ALWAYS, GQA, BIAS, QK_NORM, MLA, Q_LATENT, NO_Q_LATENT, DENSE_FFN, MOE, ROUTE_BIAS, SHARED, MTP } When;

static bool layer_has(const Config *c, int layer, When w)
{
    bool mla = c->arch == ARCH_DEEPSEEK_V3, moe = c->n_expert > 0 && layer >= c->n_dense_first;
    switch (w) {
    case ALWAYS: return true;
    case GQA: return !mla;
    case BIAS: return !mla && c->qkv_bias;
    case QK_NORM: return !mla && c->qk_norm;
    case MLA: return mla;
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

typedef struct Row {
    const char *name; /* after "model.layers.N." */
    size_t      offset;
    Dim         rows, cols;
    When        when;
    unsigned    flags;
} Row;
#define AT(field) offsetof(Layer, field)

static const Row ROWS[] = {
    {"enorm.weight", AT(mtp_embed_norm), ONE, D, MTP, BIND_VECTOR},
    {"hnorm.weight", AT(mtp_hidden_norm), ONE, D, MTP, BIND_VECTOR},
    {"eh_proj.weight", AT(mtp_proj), D, D2, MTP, 0},
    {"input_layernorm.weight", AT(attn_norm), ONE, D, ALWAYS, BIND_VECTOR},
    {"self_attn.q_proj.weight", AT(q), HN, D, GQA, 0},
    {"self_attn.k_proj.weight", AT(k), GN, D, GQA, 0},
    {"self_attn.v_proj.weight", AT(v), GN, D, GQA, 0},
    {"self_attn.q_proj.bias", AT(q_bias), ONE, HN, BIAS, BIND_VECTOR},
    {"self_attn.k_proj.bias", AT(k_bias), ONE, GN, BIAS, BIND_VECTOR},
    {"self_attn.v_proj.bias", AT(v_bias), ONE, GN, BIAS, BIND_VECTOR},
    {"self_attn.q_norm.weight", AT(q_norm), ONE, N, QK_NORM, BIND_VECTOR},
    {"self_attn.k_norm.weight", AT(k_norm), ONE, N, QK_NORM, BIND_VECTOR},
    {"self_attn.q_a_proj.weight", AT(q_a), QL, D, Q_LATENT, 0},
    {"self_attn.q_a_layernorm.weight", AT(q_a_norm), ONE, QL, Q_LATENT, BIND_VECTOR},
    {"self_attn.q_b_proj.weight", AT(q_b), Q_OUT, QL, Q_LATENT, 0},
    {"self_attn.q_proj.weight", AT(q), Q_OUT, D, NO_Q_LATENT, 0},
    {"self_attn.kv_a_proj_with_mqa.weight", AT(kv_a), KV_A, D, MLA, 0},
    {"self_attn.kv_a_layernorm.weight", AT(kv_a_norm), ONE, C, MLA, BIND_VECTOR},
    {"self_attn.kv_b_proj.weight", AT(kv_b), KV_B, C, MLA, 0},
    {"self_attn.o_proj.weight", AT(o), D, O_IN, ALWAYS, BIND_RESIDUAL_OUT},
    {"post_attention_layernorm.weight", AT(ffn_norm), ONE, D, ALWAYS, BIND_VECTOR},
    {"mlp.gate_proj.weight", AT(gate), F, D, DENSE_FFN, 0},
    {"mlp.up_proj.weight", AT(up), F, D, DENSE_FFN, 0},
    {"mlp.down_proj.weight", AT(down), D, F, DENSE_FFN, BIND_RESIDUAL_OUT},
    {"mlp.gate.weight", AT(route), E, D, MOE, 0},
    {"mlp.gate.e_score_correction_bias", AT(route_bias), ONE, E, ROUTE_BIAS, BIND_VECTOR},
    {"mlp.shared_experts.gate_proj.weight", AT(shared_gate), F_SHARED, D, SHARED, 0},
    {"mlp.shared_experts.up_proj.weight", AT(shared_up), F_SHARED, D, SHARED, 0},
    {"mlp.shared_experts.down_proj.weight", AT(shared_down), D, F_SHARED, SHARED, BIND_RESIDUAL_OUT},
    {"shared_head.norm.weight", AT(mtp_head_norm), ONE, D, MTP, BIND_VECTOR},
};

static const struct {
    const char *name;
    size_t      offset;
    Dim         rows, cols;
    unsigned    flags;
} EXPERT_ROWS[] = {
    {"gate_proj.weight", AT(expert_gate), F_EXPERT, D, 0},
    {"up_proj.weight", AT(expert_up), F_EXPERT, D, 0},
    {"down_proj.weight", AT(expert_down), D, F_EXPERT, BIND_RESIDUAL_OUT},
};

static int visit(BindFn *fn, void *user, Weight *w, int rows, int cols, unsigned flags, aha_error *e, const char *fmt, ...)
    PRINTF_LIKE(8, 9);
static int visit(BindFn *fn, void *user, Weight *w, int rows, int cols, unsigned flags, aha_error *e, const char *fmt, ...)
{
    BindItem item = {.w = w, .rows = rows, .cols = cols, .flags = flags};
    va_list  ap;
    va_start(ap, fmt);
    vsnprintf(item.name, sizeof item.name, fmt, ap);
    va_end(ap);
    return fn(user, &item, e);
}

static Weight **expert_array(Layer *l, size_t offset)
{
    return (Weight **)(void *)((char *)l + offset);
}

static int walk_layer(Model *m, int i, BindFn *fn, void *user, aha_error *e)
{
    const Config *c = &m->cfg;
    Layer        *l = &m->layer[i];
    int           rc;
    for (size_t r = 0; r < ARRAY_LEN(ROWS); r++) {
        const Row *row = &ROWS[r];
        Weight    *w = (Weight *)(void *)((char *)l + row->offset);
        if (!layer_has(c, i, row->when)) continue;
        rc = visit(fn, user, w, dim_value(c, row->rows), dim_value(c, row->cols), row->flags, e, "model.layers.%d.%s", i, row->name);
        if (rc) return rc;
    }
    for (int x = 0; l->expert_gate && x < c->n_expert; x++)
        for (size_t r = 0; r < ARRAY_LEN(EXPERT_ROWS); r++) {
            Weight *w = *expert_array(l, EXPERT_ROWS[r].offset) + x;
            rc = visit(fn, user, w, dim_value(c, EXPERT_ROWS[r].rows), dim_value(c, EXPERT_ROWS[r].cols), EXPERT_ROWS[r].flags, e,
                       "model.layers.%d.mlp.experts.%d.%s", i, x, EXPERT_ROWS[r].name);
            if (rc) return rc;
        }
    return 0;
}

int bind_walk(Model *m, BindFn *fn, void *user, aha_error *e)
{
    const Config *c = &m->cfg;
    int           rc = visit(fn, user, &m->embed, c->vocab, c->d_model, BIND_EMBED, e, "model.embed_tokens.weight");
    for (int i = 0; rc == 0 && i < c->n_layer + c->n_mtp; i++) rc = walk_layer(m, i, fn, user, e);
    if (rc == 0) rc = visit(fn, user, &m->norm, 1, c->d_model, BIND_VECTOR, e, "model.norm.weight");
    if (rc == 0 && !c->tied_embeddings) rc = visit(fn, user, &m->head, c->vocab, c->d_model, 0, e, "lm_head.weight");
    return rc;
}

int bind_allocate(Model *m, aha_error *e)
{
    const Config *c = &m->cfg;
    m->layer = mem_zalloc((size_t)(c->n_layer + c->n_mtp), sizeof *m->layer);
    if (!m->layer) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d layers", c->n_layer);
    for (int i = 0; i < c->n_layer + c->n_mtp; i++) {
        if (!layer_has(c, i, MOE)) continue;
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
    m->kv_shape = (Kv){.type = o ? o->kv_type : DT_F32, .n_layer = c->n_layer + c->n_mtp,
                       .key_cols = mla ? c->kv_lora + c->rope_dim : c->n_kv_head * c->head_dim,
                       .val_cols = mla ? 0 : c->n_kv_head * c->head_dim};
    if (!kv_layout(&m->kv_shape)) return error_set(e, AHA_ERR_LIMIT, "a page of the key cache does not fit into an address");
    return 0;
}

void model_free(Model *m)
{
    if (!m) return;
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
