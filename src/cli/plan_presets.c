/* The models of the DeepSeek-R1 family by name: what their config.json says that decides shapes, sizes and memory. */
#include <string.h>

#include "plan.h"

#define R1_CONFIG                                                                                                      \
    "{\"architectures\":[\"DeepseekV3ForCausalLM\"],\"model_type\":\"deepseek_v3\",\"hidden_size\":7168,\"intermediate_size\":18432,"  \
    "\"moe_intermediate_size\":2048,\"num_hidden_layers\":61,\"num_attention_heads\":128,\"num_key_value_heads\":128,\"vocab_size\":129280,"  \
    "\"max_position_embeddings\":163840,\"rms_norm_eps\":1e-06,\"hidden_act\":\"silu\",\"attention_bias\":false,\"tie_word_embeddings\":false," \
    "\"q_lora_rank\":1536,\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,\"v_head_dim\":128,"  \
    "\"first_k_dense_replace\":3,\"moe_layer_freq\":1,\"n_routed_experts\":256,\"n_shared_experts\":1,\"num_experts_per_tok\":8," \
    "\"n_group\":8,\"topk_group\":4,\"topk_method\":\"noaux_tc\",\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,"  \
    "\"routed_scaling_factor\":2.5,\"num_nextn_predict_layers\":1,\"bos_token_id\":0,\"eos_token_id\":1,\"rope_theta\":10000,"  \
    "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"original_max_position_embeddings\":4096,\"beta_fast\":32,\"beta_slow\":1,"  \
    "\"mscale\":1.0,\"mscale_all_dim\":1.0},\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\","         \
    "\"activation_scheme\":\"dynamic\",\"weight_block_size\":[128,128]},\"torch_dtype\":\"bfloat16\"}"

#define DENSE_CONFIG(arch, type, d, f, layers, heads, kv, vocab, eps, theta, more)                                     \
    "{\"architectures\":[\"" arch "\"],\"model_type\":\"" type "\",\"hidden_size\":" #d ",\"intermediate_size\":" #f   \
    ",\"num_hidden_layers\":" #layers ",\"num_attention_heads\":" #heads ",\"num_key_value_heads\":" #kv ",\"head_dim\":128," \
    "\"vocab_size\":" #vocab ",\"max_position_embeddings\":131072,\"rms_norm_eps\":" #eps ",\"rope_theta\":" #theta    \
    ",\"hidden_act\":\"silu\",\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\"" more "}"
#define QWEN2_CONFIG(d, f, layers, heads, kv, vocab, eps, theta)                                                       \
    DENSE_CONFIG("Qwen2ForCausalLM", "qwen2", d, f, layers, heads, kv, vocab, eps, theta,                              \
                 ",\"use_sliding_window\":false,\"bos_token_id\":151643,\"eos_token_id\":151643")
#define LLAMA_CONFIG(d, f, layers, heads)                                                                              \
    DENSE_CONFIG("LlamaForCausalLM", "llama", d, f, layers, heads, 8, 128256, 1e-05, 500000,                           \
                 ",\"attention_bias\":false,\"bos_token_id\":128000,\"eos_token_id\":128001,\"rope_scaling\":{\"rope_type\":\"llama3\"," \
                 "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}")

static const Preset PRESETS[] = {
    {"r1-671b", "DeepSeek-R1", R1_CONFIG, true},
    {"r1-zero", "DeepSeek-R1-Zero", R1_CONFIG, true},
    {"r1-0528", "DeepSeek-R1-0528", R1_CONFIG, true},
    {"0528-qwen3-8b", "DeepSeek-R1-0528-Qwen3-8B",
     DENSE_CONFIG("Qwen3ForCausalLM", "qwen3", 4096, 12288, 36, 32, 8, 151936, 1e-06, 1000000,
                  ",\"attention_bias\":false,\"use_sliding_window\":false,\"bos_token_id\":151643,\"eos_token_id\":151645,\"rope_scaling\":"
                  "{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":32768,\"attn_factor\":0.8782488562869419}"), false},
    {"distill-qwen-1.5b", "DeepSeek-R1-Distill-Qwen-1.5B", QWEN2_CONFIG(1536, 8960, 28, 12, 2, 151936, 1e-06, 10000), false},
    {"distill-qwen-7b", "DeepSeek-R1-Distill-Qwen-7B", QWEN2_CONFIG(3584, 18944, 28, 28, 4, 152064, 1e-06, 10000), false},
    {"distill-qwen-14b", "DeepSeek-R1-Distill-Qwen-14B", QWEN2_CONFIG(5120, 13824, 48, 40, 8, 152064, 1e-05, 1000000), false},
    {"distill-qwen-32b", "DeepSeek-R1-Distill-Qwen-32B", QWEN2_CONFIG(5120, 27648, 64, 40, 8, 152064, 1e-05, 1000000), false},
    {"distill-llama-8b", "DeepSeek-R1-Distill-Llama-8B", LLAMA_CONFIG(4096, 14336, 32, 32), false},
    {"distill-llama-70b", "DeepSeek-R1-Distill-Llama-70B", LLAMA_CONFIG(8192, 28672, 80, 64), false},
    {"aha-tiny", "aha-tiny", NULL, false},
};

const Preset *preset_table(int *n)
{
    *n = ARRAY_LEN(PRESETS);
    return PRESETS;
}

int preset_find(const Preset **out, const char *name, aha_error *e)
{
    const char *names[ARRAY_LEN(PRESETS)], *near;
    char        q[80];
    Buf         all = {0};
    for (size_t i = 0; i < ARRAY_LEN(PRESETS); i++) {
        names[i] = PRESETS[i].name;
        *out = &PRESETS[i];
        if (!strcmp(name, names[i])) return 0;
        buf_fmt(&all, "%s%s", i ? ", " : "", names[i]);
    }
    *out = NULL;
    near = name_nearest(name, names, ARRAY_LEN(PRESETS));
    error_quote(q, sizeof q, name, strlen(name));
    if (near) error_set(e, AHA_ERR_ARG, "--preset: there is no '%s'; did you mean %s?", q, near);
    else error_set(e, AHA_ERR_ARG, "--preset: there is no '%s', expected one of %s", q, all.failed ? "" : all.data);
    buf_free(&all);
    return AHA_ERR_ARG;
}

int preset_config(Config *c, const Preset *p, aha_error *e)
{
    return p->config ? config_parse(c, p->config, strlen(p->config), p->name, e) : model_builtin_config(c, e);
}
