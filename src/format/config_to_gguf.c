/* A config as a GGUF file's metadata: the keys that config_gguf.c reads, and those that other readers want. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

typedef struct Sink {
    GgufMeta   *m;
    const char *arch, *what;
    aha_error  *e;
} Sink;

static void put_int(const Sink *s, const char *key, int64_t v)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", s->arch, key);
    gguf_put_int(s->m, full, v);
}

static void put_num(const Sink *s, const char *key, double v)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", s->arch, key);
    gguf_put_num(s->m, full, v);
}

static void put_scaling(const Sink *s, const char *type, double factor)
{
    char full[128];
    snprintf(full, sizeof full, "%s.rope.scaling.type", s->arch);
    gguf_put_str(s->m, full, type, strlen(type));
    put_num(s, "rope.scaling.factor", factor);
}

static int put_rope(const Sink *s, const Config *c)
{
    const Rope *r = &c->rope;
    bool        mla = c->arch == ARCH_DEEPSEEK_V3;
    put_num(s, "rope.freq_base", r->theta);
    if (r->kind == ROPE_LINEAR) put_scaling(s, "linear", r->factor);
    if (r->kind != ROPE_YARN) return 0; /* Llama 3's scaling is a tensor, rope_freqs.weight */
    put_scaling(s, "yarn", r->factor);
    put_int(s, "rope.scaling.original_context_length", r->original_len);
    put_num(s, "rope.scaling.yarn_beta_fast", r->beta_fast);
    put_num(s, "rope.scaling.yarn_beta_slow", r->beta_slow);
    if (mla) {
        if (r->mscale != r->mscale_all_dim || r->cos_sin_factor != yarn_factor_default(r, true))
            return error_set(s->e, AHA_ERR_UNSUPPORTED, "%s: rope_scaling: got mscale %g and mscale_all_dim %g, expected equal ones: GGUF has one key for both",
                             s->what, r->mscale, r->mscale_all_dim);
        put_num(s, "rope.scaling.yarn_log_multiplier", 0.1 * r->mscale_all_dim);
        return 0;
    }
    double own = yarn_mscale(r->factor, 1); /* readers multiply by this */
    if (r->cos_sin_factor != own) put_num(s, "rope.scaling.attn_factor", r->cos_sin_factor / own);
    return 0;
}

static void put_mla(const Sink *s, const Config *c, bool split_kv_b)
{
    int key = c->nope + c->rope_dim;
    put_int(s, "attention.head_count_kv", split_kv_b ? 1 : c->n_head);
    put_int(s, "attention.key_length", split_kv_b ? c->kv_lora + c->rope_dim : key);
    put_int(s, "attention.value_length", split_kv_b ? c->kv_lora : c->v_dim);
    if (split_kv_b) {
        put_int(s, "attention.key_length_mla", key);
        put_int(s, "attention.value_length_mla", c->v_dim);
    }
    if (c->q_lora) put_int(s, "attention.q_lora_rank", c->q_lora);
    put_int(s, "attention.kv_lora_rank", c->kv_lora);
    put_int(s, "rope.dimension_count", c->rope_dim);
    put_int(s, "leading_dense_block_count", c->n_expert ? c->n_dense_first : c->n_layer + c->n_mtp);
    if (c->n_mtp) put_int(s, "nextn_predict_layers", c->n_mtp);
    if (!c->n_expert) return;
    char full[64];
    put_int(s, "expert_count", c->n_expert);
    put_int(s, "expert_used_count", c->n_expert_used);
    put_int(s, "expert_shared_count", c->n_shared);
    put_int(s, "expert_feed_forward_length", c->d_expert);
    put_num(s, "expert_weights_scale", c->route_scale);
    snprintf(full, sizeof full, "%s.expert_weights_norm", s->arch);
    gguf_put_bool(s->m, full, c->norm_topk);
    put_int(s, "expert_gating_func", c->scoring == SCORING_SIGMOID ? 2 : 1);
    put_int(s, "expert_group_count", c->n_group);
    put_int(s, "expert_group_used_count", c->topk_group);
}

const char *gguf_arch_name(Arch a)
{
    static const char *const NAME[] = {[ARCH_LLAMA] = "llama", [ARCH_QWEN2] = "qwen2", [ARCH_QWEN3] = "qwen3", [ARCH_DEEPSEEK_V3] = "deepseek2"};
    return NAME[a];
}

int config_to_gguf(const Config *c, bool split_kv_b, GgufMeta *m, const char *what, aha_error *e)
{
    Sink s = {m, gguf_arch_name(c->arch), what, e};
    gguf_put_str(m, "general.architecture", s.arch, strlen(s.arch));
    put_int(&s, "block_count", c->n_layer + c->n_mtp);
    put_int(&s, "context_length", c->max_pos);
    put_int(&s, "embedding_length", c->d_model);
    put_int(&s, "feed_forward_length", c->d_ff);
    put_int(&s, "attention.head_count", c->n_head);
    put_num(&s, "attention.layer_norm_rms_epsilon", c->rms_eps);
    put_int(&s, "vocab_size", c->vocab);
    if (c->arch == ARCH_DEEPSEEK_V3) {
        put_mla(&s, c, split_kv_b);
    } else {
        put_int(&s, "attention.head_count_kv", c->n_kv_head);
        put_int(&s, "attention.key_length", c->head_dim);
        put_int(&s, "attention.value_length", c->head_dim);
        put_int(&s, "rope.dimension_count", c->head_dim);
    }
    if (c->bos >= 0) gguf_put_int(m, "tokenizer.ggml.bos_token_id", c->bos);
    if (c->n_eos > 0) gguf_put_int(m, "tokenizer.ggml.eos_token_id", c->eos[0]);
    return put_rope(&s, c);
}
