/* config.json, written with the published key names, so that transformers loads it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

static void put_key(Buf *b, const char *key)
{
    if (b->n && b->data[b->n - 1] != '{') buf_str(b, ", ");
    buf_fmt(b, "\"%s\": ", key);
}

void config_put_int(Buf *b, const char *key, int64_t v)
{
    put_key(b, key);
    buf_fmt(b, "%lld", (long long)v);
}

static void put_str(Buf *b, const char *key, const char *v)
{
    put_key(b, key);
    buf_json(b, v, strlen(v));
}

void config_put_raw(Buf *b, const char *key, const char *v)
{
    put_key(b, key);
    buf_str(b, v);
}

void config_put_bool(Buf *b, const char *key, bool v)
{
    config_put_raw(b, key, v ? "true" : "false");
}

/* The shortest digits that read back as the same double, always recognisable as no integer. */
void config_put_num(Buf *b, const char *key, double v)
{
    char s[40];
    int  digits = 6;
    do {
        snprintf(s, sizeof s, "%.*g", digits, v);
        for (char *p = s; *p; p++)
            if (!strchr("0123456789+-e", *p)) *p = '.'; /* whatever the locale's decimal point is */
    } while (number_read(s, NULL) != v && ++digits <= 17);
    if (!strpbrk(s, ".e")) strcat(s, ".0");
    config_put_raw(b, key, s);
}

static void put_rope(Buf *b, const Config *c)
{
    const Rope *p = &c->rope;
    bool        mla = c->arch == ARCH_DEEPSEEK_V3;
    config_put_num(b, "rope_theta", p->theta);
    if (p->kind == ROPE_NONE) {
        config_put_raw(b, "rope_scaling", "null");
        return;
    }
    config_put_raw(b, "rope_scaling", "{");
    put_str(b, mla ? "type" : "rope_type", p->kind == ROPE_YARN ? "yarn" : p->kind == ROPE_LLAMA3 ? "llama3" : "linear");
    config_put_num(b, "factor", p->factor);
    if (p->kind != ROPE_LINEAR) config_put_int(b, "original_max_position_embeddings", p->original_len);
    if (p->kind == ROPE_LLAMA3) {
        config_put_num(b, "low_freq_factor", p->low_freq_factor);
        config_put_num(b, "high_freq_factor", p->high_freq_factor);
    }
    if (p->kind == ROPE_YARN) {
        config_put_num(b, "beta_fast", p->beta_fast);
        config_put_num(b, "beta_slow", p->beta_slow);
        if (mla || p->mscale != 0) config_put_num(b, "mscale", p->mscale);
        if (mla || p->mscale_all_dim != 0) config_put_num(b, "mscale_all_dim", p->mscale_all_dim);
        /* said outright where readers would come to another value */
        if (p->cos_sin_factor != yarn_factor_default(p, mla)) config_put_num(b, "attention_factor", p->cos_sin_factor);
    }
    buf_str(b, "}");
}

static bool v2(const Config *c)
{
    return strcmp(c->model_type, "deepseek_v2") == 0;
}

static void put_deepseek(Buf *b, const Config *c)
{
    static const char *const ROUTE_NAME[] = {"greedy", "group_limited_greedy", "noaux_tc"};
    config_put_int(b, "kv_lora_rank", c->kv_lora);
    if (c->q_lora) config_put_int(b, "q_lora_rank", c->q_lora);
    else config_put_raw(b, "q_lora_rank", "null");
    config_put_int(b, "qk_nope_head_dim", c->nope);
    config_put_int(b, "qk_rope_head_dim", c->rope_dim);
    config_put_int(b, "v_head_dim", c->v_dim);
    if (!c->rope.interleaved) config_put_bool(b, "rope_interleave", false);
    config_put_int(b, "first_k_dense_replace", c->n_expert ? c->n_dense_first : c->n_layer + c->n_mtp);
    config_put_int(b, "moe_layer_freq", 1);
    if (c->n_mtp || !v2(c)) config_put_int(b, "num_nextn_predict_layers", c->n_mtp);
    if (!c->n_expert) return; /* every layer is dense; transformers accepts no null for the rest */
    config_put_int(b, "n_routed_experts", c->n_expert);
    config_put_int(b, "num_experts_per_tok", c->n_expert_used);
    config_put_int(b, "n_shared_experts", c->n_shared);
    config_put_int(b, "moe_intermediate_size", c->d_expert);
    config_put_int(b, "n_group", c->n_group);
    config_put_int(b, "topk_group", c->topk_group);
    put_str(b, "scoring_func", c->scoring == SCORING_SIGMOID ? "sigmoid" : "softmax");
    put_str(b, "topk_method", ROUTE_NAME[c->route]);
    config_put_bool(b, "norm_topk_prob", c->norm_topk);
    config_put_num(b, "routed_scaling_factor", c->route_scale);
}

static void put_tokens(Buf *b, const Config *c)
{
    if (c->bos >= 0) config_put_int(b, "bos_token_id", c->bos);
    else config_put_raw(b, "bos_token_id", "null");
    if (c->n_eos == 0) config_put_raw(b, "eos_token_id", "null");
    if (c->n_eos == 1) config_put_int(b, "eos_token_id", c->eos[0]);
    if (c->n_eos < 2) return;
    config_put_raw(b, "eos_token_id", "[");
    for (int i = 0; i < c->n_eos; i++) buf_fmt(b, "%s%d", i ? ", " : "", c->eos[i]);
    buf_str(b, "]");
}

static const char *architecture(const Config *c)
{
    if (c->arch == ARCH_LLAMA) return "[\"LlamaForCausalLM\"]";
    if (c->arch == ARCH_QWEN2) return "[\"Qwen2ForCausalLM\"]";
    if (c->arch == ARCH_QWEN3) return "[\"Qwen3ForCausalLM\"]";
    return v2(c) ? "[\"DeepseekV2ForCausalLM\"]" : "[\"DeepseekV3ForCausalLM\"]";
}

static void put_all(Buf *b, const Config *c, Dtype dtype)
{
    bool mla = c->arch == ARCH_DEEPSEEK_V3;
    buf_str(b, "{");
    config_put_raw(b, "architectures", architecture(c));
    put_str(b, "model_type", c->model_type);
    put_str(b, "torch_dtype", dtype == DT_F32 ? "float32" : dtype == DT_F16 ? "float16" : "bfloat16");
    config_put_int(b, "vocab_size", c->vocab);
    config_put_int(b, "hidden_size", c->d_model);
    config_put_int(b, "intermediate_size", c->d_ff);
    config_put_int(b, "num_hidden_layers", c->n_layer);
    config_put_int(b, "num_attention_heads", c->n_head);
    config_put_int(b, "num_key_value_heads", c->n_kv_head);
    if (!mla) config_put_int(b, "head_dim", c->head_dim);
    put_str(b, "hidden_act", "silu");
    if (c->arch != ARCH_QWEN2) config_put_bool(b, "attention_bias", false); /* qwen2 has none to choose: q, k, v do, o does not */
    config_put_num(b, "attention_dropout", 0);
    config_put_int(b, "max_position_embeddings", c->max_pos);
    config_put_num(b, "rms_norm_eps", c->rms_eps);
    config_put_bool(b, "tie_word_embeddings", c->tied_embeddings);
    config_put_bool(b, "use_cache", true);
    if (c->arch == ARCH_LLAMA) config_put_bool(b, "mlp_bias", false);
    if (c->arch == ARCH_QWEN2 || c->arch == ARCH_QWEN3) config_put_bool(b, "use_sliding_window", false);
    if (mla) put_deepseek(b, c);
    put_rope(b, c);
    put_tokens(b, c);
    if (c->fp8)
        config_put_raw(b, "quantization_config",
                "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128]}");
    buf_str(b, "}\n");
}

int config_write(const Config *c, Dtype dtype, char **out, aha_error *e)
{
    Buf b = {0};
    *out = NULL;
    put_all(&b, c, dtype);
    if (b.failed) {
        buf_free(&b);
        return format_nomem("config.json", e);
    }
    *out = b.data;
    return 0;
}
