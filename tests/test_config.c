/* config.json: the published models, defaults, what is refused and how it is said, writing and reading back. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/inner.h"

static const char *const PUBLISHED[] = {
    "DeepSeek-R1", "DeepSeek-R1-0528", "DeepSeek-R1-0528-Qwen3-8B", "DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek-R1-Distill-Qwen-7B",
    "DeepSeek-R1-Distill-Qwen-14B", "DeepSeek-R1-Distill-Qwen-32B", "DeepSeek-R1-Distill-Llama-8B", "DeepSeek-R1-Distill-Llama-70B",
};

/* $AHA_DATA/configs, or the copies beside the tests */
static const char *config_path(const char *model)
{
    static char path[512];
    const char *data = getenv("AHA_DATA");
    snprintf(path, sizeof path, "%s/configs/%s.config.json", data ? data : "tests/data", model);
    return path;
}

static Config read_model(const char *model)
{
    Config    c;
    aha_error e = {0};
    if (config_read(&c, config_path(model), &e)) fail_msg("%s", e.text);
    return c;
}

static int parse(Config *c, const char *text, aha_error *e)
{
    *e = (aha_error){0};
    return config_parse(c, text, strlen(text), "config.json", e);
}

static Config parse_good(const char *text)
{
    Config    c;
    aha_error e;
    if (parse(&c, text, &e)) fail_msg("%s: %s", text, e.text);
    return c;
}

/* The text of a model's config with some keys replaced by those of `change`; "key": "-" removes one. */
static char *changed(const char *model, const char *change)
{
    json_t     *base = json_load_file(config_path(model), 0, NULL), *with = json_loads(change, JSON_ALLOW_NUL, NULL), *v;
    const char *key;
    assert_true(base && with);
    json_object_foreach(with, key, v)
    {
        if (json_is_string(v) && strcmp(json_string_value(v), "-") == 0) json_object_del(base, key);
        else json_object_set(base, key, v);
    }
    char *text = json_dumps(base, 0);
    json_decref(base);
    json_decref(with);
    return text;
}

static int parse_changed(Config *c, const char *model, const char *change, aha_error *e)
{
    char *text = changed(model, change);
    int   rc = parse(c, text, e);
    free(text);
    return rc;
}

static void r1(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        Config c = read_model(PUBLISHED[i]);
        assert_true(c.arch == ARCH_DEEPSEEK_V3 && c.n_layer == 61 && c.d_model == 7168 && c.n_head == 128 && c.n_kv_head == 128);
        assert_true(c.d_ff == 18432 && c.vocab == 129280 && c.max_pos == 163840 && c.rms_eps == 1e-6);
        assert_true(c.q_lora == 1536 && c.kv_lora == 512 && c.nope == 128 && c.rope_dim == 64 && c.v_dim == 128);
        assert_true(c.n_expert == 256 && c.n_expert_used == 8 && c.n_shared == 1 && c.d_expert == 2048 && c.n_dense_first == 3);
        assert_true(c.n_group == 8 && c.topk_group == 4 && c.scoring == SCORING_SIGMOID && c.route == ROUTE_NOAUX);
        assert_true(c.norm_topk && c.route_scale == 2.5 && c.n_mtp == 1 && c.fp8 && !c.tied_embeddings && !c.qkv_bias && !c.qk_norm);
        assert_true(c.rope.kind == ROPE_YARN && c.rope.theta == 10000 && c.rope.factor == 40 && c.rope.original_len == 4096);
        assert_true(c.rope.beta_fast == 32 && c.rope.beta_slow == 1 && c.rope.mscale == 1 && c.rope.mscale_all_dim == 1);
        assert_true(c.rope.cos_sin_factor == 1 && c.rope.interleaved && c.bos == 0 && c.n_eos == 1 && c.eos[0] == 1);
    }
}

static void distills(void **state)
{
    Config c = read_model("DeepSeek-R1-0528-Qwen3-8B");
    (void)state;
    assert_true(c.arch == ARCH_QWEN3 && c.qk_norm && !c.qkv_bias && c.head_dim == 128 && c.n_head == 32 && c.n_kv_head == 8);
    assert_true(c.rope.kind == ROPE_YARN && c.rope.theta == 1e6 && c.rope.factor == 4 && c.rope.original_len == 32768 && !c.rope.interleaved);
    assert_true(fabs(c.rope.cos_sin_factor - 1) < 1e-12); /* attn_factor undoes the scaling */
    c = read_model("DeepSeek-R1-Distill-Qwen-1.5B");
    assert_true(c.arch == ARCH_QWEN2 && c.qkv_bias && !c.qk_norm && c.head_dim == 128 && c.n_kv_head == 2 && c.rope.kind == ROPE_NONE);
    assert_true(c.rope.theta == 10000 && c.rms_eps == 1e-6 && c.n_expert == 0 && !c.fp8 && c.n_layer == 28 && c.bos == 151643);
    c = read_model("DeepSeek-R1-Distill-Qwen-32B");
    assert_true(c.rope.theta == 1e6 && c.rms_eps == 1e-5 && c.d_ff == 27648 && c.vocab == 152064);
    c = read_model("DeepSeek-R1-Distill-Llama-8B");
    assert_true(c.arch == ARCH_LLAMA && !c.qkv_bias && c.rope.kind == ROPE_LLAMA3 && c.rope.factor == 8 && c.rope.original_len == 8192);
    assert_true(c.rope.low_freq_factor == 1 && c.rope.high_freq_factor == 4 && c.rope.cos_sin_factor == 1 && c.vocab == 128256);
}

static void defaults(void **state)
{
    Config c = parse_good("{\"model_type\":\"llama\"}");
    (void)state;
    assert_true(c.d_model == 4096 && c.vocab == 32000 && c.d_ff == 11008 && c.n_kv_head == 32 && c.head_dim == 128 && c.bos == 1 && c.eos[0] == 2);
    c = parse_good("{\"model_type\":\"qwen2\",\"num_attention_heads\":16,\"attention_bias\":true}");
    assert_true(c.n_kv_head == 16 && c.head_dim == 256 && c.bos == -1 && c.n_eos == 0 && c.qkv_bias && c.max_pos == 32768);
    c = parse_good("{\"model_type\":\"qwen3\",\"hidden_size\":1024,\"num_attention_heads\":16}");
    assert_true(c.head_dim == 128 && c.d_ff == 22016);
    c = parse_good("{\"model_type\":\"deepseek_v3\"}");
    assert_true(c.n_layer == 61 && c.n_expert == 256 && c.n_group == 8 && c.topk_group == 4 && c.q_lora == 1536 && c.n_mtp == 0);
    assert_true(c.rope.kind == ROPE_NONE && c.rope.interleaved && c.max_pos == 4096 && c.route_scale == 2.5 && c.norm_topk && !c.fp8);
    c = parse_good("{\"model_type\":\"deepseek_v2\",\"num_experts_per_tok\":6}");
    assert_true(c.arch == ARCH_DEEPSEEK_V3 && c.scoring == SCORING_SOFTMAX && c.route == ROUTE_GREEDY && !c.norm_topk && c.route_scale == 1);
    assert_true(c.n_expert == 64 && c.n_group == 1 && c.topk_group == 1 && c.n_shared == 2 && c.d_expert == 1407 && c.vocab == 102400);
    c = parse_good("{\"model_type\":\"deepseek_v2\",\"num_experts_per_tok\":6,\"topk_method\":\"group_limited_greedy\",\"n_group\":8,\"topk_group\":3}");
    assert_true(c.route == ROUTE_GROUP_MAX && c.n_group == 8 && c.topk_group == 3);
    c = parse_good("{\"model_type\":\"deepseek_v3\",\"q_lora_rank\":null,\"n_shared_experts\":null,\"n_group\":null,\"topk_group\":null,\"rope_interleave\":false}");
    assert_true(c.q_lora == 0 && c.n_shared == 0 && c.n_group == 1 && c.topk_group == 1 && !c.rope.interleaved);
    /* no layer left to hold experts */
    c = parse_good("{\"model_type\":\"deepseek_v3\",\"num_hidden_layers\":2}");
    assert_true(c.n_expert == 0 && c.n_dense_first == 2);
    c = parse_good("{\"model_type\":\"deepseek_v3\",\"n_routed_experts\":null,\"num_nextn_predict_layers\":1}");
    assert_true(c.n_expert == 0 && c.n_dense_first == 61 && c.n_mtp == 1);
}

#define L8 "DeepSeek-R1-Distill-Llama-8B"
#define Q1 "DeepSeek-R1-Distill-Qwen-1.5B"
#define Q8 "DeepSeek-R1-0528-Qwen3-8B"
static void ropes(void **state)
{
    static const struct {
        const char *model, *change;
        RopeKind    kind;
        double      theta, cos_sin;
    } CASE[] = {
        {Q1, "{\"rope_theta\":\"-\"}", ROPE_NONE, 10000, 1},
        {Q1, "{\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"default\"},\"rope_theta\":\"-\"}", ROPE_NONE, 5e5, 1},
        {Q1, "{\"rope_scaling\":{},\"rope_parameters\":{\"rope_theta\":7,\"type\":\"linear\",\"factor\":2}}", ROPE_LINEAR, 7, 1},
        {Q1, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}}", ROPE_LINEAR, 10000, 1},
        {Q1, "{\"rope_scaling\":{\"type\":\"yarn\",\"rope_type\":\"yarn\",\"factor\":4}}", ROPE_YARN, 10000, 1.1386294361119891},
        {Q1, "{\"rope_scaling\":{\"type\":\"yarn\",\"original_max_position_embeddings\":32768}}", ROPE_YARN, 10000, 1.1386294361119891},
        {Q1, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"attention_factor\":0.5,\"attn_factor\":7}}", ROPE_YARN, 10000, 0.5},
        {Q1, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":1,\"mscale_all_dim\":1}}", ROPE_YARN, 10000, 1},
        {Q1, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":1}}", ROPE_YARN, 10000, 1.1386294361119891},
        {Q8, "{\"rope_parameters\":{\"rope_theta\":2000,\"rope_type\":\"yarn\",\"factor\":1.0},\"rope_scaling\":null}", ROPE_YARN, 2000, 1},
        {"DeepSeek-R1", "{\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"mscale\":1,\"mscale_all_dim\":0.5}}", ROPE_YARN, 10000,
         1.3688879454113936 / 1.1844439727056968},
        {"DeepSeek-R1", "{\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40}}", ROPE_YARN, 10000, 1.3688879454113936},
        {"DeepSeek-R1", "{\"rope_scaling\":null}", ROPE_NONE, 10000, 1},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        Config    c;
        aha_error e;
        if (parse_changed(&c, CASE[i].model, CASE[i].change, &e)) fail_msg("%s: %s", CASE[i].change, e.text);
        assert_true(c.rope.kind == CASE[i].kind && c.rope.theta == CASE[i].theta);
        if (fabs(c.rope.cos_sin_factor - CASE[i].cos_sin) > 1e-14) fail_msg("%s: %.17g", CASE[i].change, c.rope.cos_sin_factor);
    }
}

static void token_ids(void **state)
{
    Config    c;
    aha_error e;
    (void)state;
    assert_int_equal(parse_changed(&c, L8, "{\"eos_token_id\":[128001,128008,128009],\"bos_token_id\":null}", &e), 0);
    assert_true(c.n_eos == 3 && c.eos[0] == 128001 && c.eos[2] == 128009 && c.bos == -1);
    assert_int_equal(parse_changed(&c, L8, "{\"eos_token_id\":null,\"bos_token_id\":-1}", &e), 0);
    assert_true(c.n_eos == 0 && c.bos == -1);
    assert_int_equal(parse_changed(&c, L8, "{\"eos_token_id\":[],\"bos_token_id\":\"-\"}", &e), 0);
    assert_true(c.n_eos == 0 && c.bos == 1);
}

static const struct {
    const char *model, *change;
    int         code;
    const char *words;
} REFUSED[] = {
    {L8, "{\"model_type\":\"-\"}", AHA_ERR_FORMAT, "model_type: absent"},
    {L8, "{\"model_type\":\"mamba\"}", AHA_ERR_UNSUPPORTED, "model_type: got \"mamba\", expected llama"},
    {L8, "{\"model_type\":3}", AHA_ERR_FORMAT, "model_type: got 3"},
    {L8, "{\"hidden_act\":\"gelu\"}", AHA_ERR_UNSUPPORTED, "hidden_act: got \"gelu\", expected silu"},
    {L8, "{\"attention_bias\":true}", AHA_ERR_UNSUPPORTED, "attention_bias: got true, expected false"},
    {L8, "{\"mlp_bias\":true}", AHA_ERR_UNSUPPORTED, "mlp_bias"},
    {L8, "{\"mlp_bias\":1}", AHA_ERR_FORMAT, "mlp_bias: got 1, expected true or false"},
    {Q1, "{\"use_sliding_window\":true}", AHA_ERR_UNSUPPORTED, "use_sliding_window: got true, expected false"},
    {Q8, "{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", AHA_ERR_UNSUPPORTED, "layer_types: got \"sliding_attention\""},
    {Q8, "{\"layer_types\":{}}", AHA_ERR_FORMAT, "layer_types"},
    {L8, "{\"num_key_value_heads\":5}", AHA_ERR_FORMAT, "num_key_value_heads: got 5, expected a divisor of num_attention_heads, 32"},
    {L8, "{\"num_key_value_heads\":64}", AHA_ERR_FORMAT, "num_key_value_heads: got 64"},
    {L8, "{\"head_dim\":127}", AHA_ERR_FORMAT, "head_dim: got 127, expected an even number"},
    {L8, "{\"head_dim\":null,\"num_attention_heads\":33,\"num_key_value_heads\":33}", AHA_ERR_FORMAT, "hidden_size: got 4096, expected a multiple"},
    {L8, "{\"head_dim\":null,\"hidden_size\":96}", AHA_ERR_FORMAT, "got 3, expected an even number"},
    {L8, "{\"hidden_size\":null}", AHA_ERR_FORMAT, "hidden_size: got nothing"},
    {L8, "{\"rms_norm_eps\":0}", AHA_ERR_FORMAT, "rms_norm_eps: got 0"},
    {L8, "{\"rms_norm_eps\":-1e-6}", AHA_ERR_FORMAT, "rms_norm_eps"},
    {L8, "{\"bos_token_id\":128256}", AHA_ERR_FORMAT, "bos_token_id: got 128256, expected an id of 0..128255"},
    {L8, "{\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", AHA_ERR_FORMAT, "at most 8"},
    {L8, "{\"eos_token_id\":[1,\"x\"]}", AHA_ERR_FORMAT, "eos_token_id: got \"x\""},
    {L8, "{\"eos_token_id\":-2}", AHA_ERR_FORMAT, "eos_token_id: got -2"},
    {L8, "{\"eos_token_id\":[[1]]}", AHA_ERR_FORMAT, "eos_token_id: got a list"},
    {L8, "{\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2}}", AHA_ERR_UNSUPPORTED, "rope_scaling: rope_type: got \"dynamic\""},
    {L8, "{\"rope_scaling\":{\"type\":\"longrope\"}}", AHA_ERR_UNSUPPORTED, "rope_scaling: type: got \"longrope\""},
    {L8, "{\"rope_scaling\":{\"type\":\"yarn\",\"rope_type\":\"linear\"}}", AHA_ERR_FORMAT, "rope_scaling: type: got \"yarn\", expected the same as rope_type"},
    {Q1, "{\"use_mrope\":true}", AHA_ERR_UNSUPPORTED, "use_mrope: got true"},
    {L8, "{\"rope_scaling\":{\"factor\":8}}", AHA_ERR_FORMAT, "rope_scaling: rope_type: got nothing"},
    {Q8, "{\"rope_scaling\":null,\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"yarn\",\"factor\":4}}}", AHA_ERR_UNSUPPORTED, "the same for all layers"},
    {Q8, "{\"rope_scaling\":null,\"rope_parameters\":[]}", AHA_ERR_FORMAT, "rope_parameters: got a list"},
    {L8, "{\"rope_scaling\":7}", AHA_ERR_FORMAT, "rope_scaling: got 7"},
    {L8, "{\"rope_scaling\":{\"type\":[]}}", AHA_ERR_FORMAT, "type: got a list"},
    {L8, "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", AHA_ERR_FORMAT, "original_max_position_embeddings: absent"},
    {L8, "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":8192,\"low_freq_factor\":4,\"high_freq_factor\":4}}",
     AHA_ERR_FORMAT, "high_freq_factor: got 4"},
    {L8, "{\"rope_scaling\":{\"rope_type\":\"linear\"}}", AHA_ERR_FORMAT, "factor: absent"},
    {L8, "{\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":0}}", AHA_ERR_FORMAT, "factor: got 0"},
    {Q8, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":-4}}", AHA_ERR_FORMAT, "factor: got -4"},
    {Q8, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":0}}", AHA_ERR_FORMAT, "original_max"},
    {Q8, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"original_max_position_embeddings\":1000000}}", AHA_ERR_FORMAT, "factor"},
    {Q8, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"beta_fast\":1,\"beta_slow\":32}}", AHA_ERR_FORMAT, "beta_fast: got 1"},
    {Q8, "{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"truncate\":false}}", AHA_ERR_UNSUPPORTED, "truncate: got false"},
    {Q8, "{\"partial_rotary_factor\":0.5}", AHA_ERR_UNSUPPORTED, "partial_rotary_factor: got 0.5"},
    {Q8, "{\"rope_theta\":1}", AHA_ERR_FORMAT, "rope_theta: got 1"},
    {Q8, "{\"rope_theta\":0}", AHA_ERR_FORMAT, "rope_theta: got 0"},
    {Q8, "{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4}}", AHA_ERR_UNSUPPORTED, "quant_method: got \"awq\", expected fp8"},
    {Q8, "{\"quantization_config\":{}}", AHA_ERR_FORMAT, "quant_method: absent"},
    {Q8, "{\"quantization_config\":[]}", AHA_ERR_FORMAT, "quantization_config: got a list"},
    {Q8, "{\"quantization_config\":{\"quant_method\":\"fp8\"}}", AHA_ERR_UNSUPPORTED, "weight_block_size: got nothing"},
    {Q8, "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,64]}}", AHA_ERR_UNSUPPORTED, "weight_block_size: got 64"},
    {Q8, "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}}", AHA_ERR_UNSUPPORTED, "weight_block_size"},
    {Q8, "{\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}}", AHA_ERR_UNSUPPORTED, "fmt: got \"e5m2\""},
    {Q8, "{\"quantization_config\":{\"quant_method\":\"fp8\",\"activation_scheme\":\"static\"}}", AHA_ERR_UNSUPPORTED, "activation_scheme"},
    {"DeepSeek-R1", "{\"num_experts_per_tok\":257,\"n_group\":1,\"topk_group\":1}", AHA_ERR_FORMAT, "num_experts_per_tok: got 257, expected 1..n_routed_experts, 256"},
    {"DeepSeek-R1", "{\"num_experts_per_tok\":129}", AHA_ERR_FORMAT, "num_experts_per_tok: got 129, expected at most the 128 experts of 4 groups"},
    {"DeepSeek-R1", "{\"n_group\":7}", AHA_ERR_FORMAT, "n_group: got 7, expected a divisor of n_routed_experts, 256"},
    {"DeepSeek-R1", "{\"topk_group\":9}", AHA_ERR_FORMAT, "topk_group: got 9, expected at most n_group, 8"},
    {"DeepSeek-R1", "{\"n_group\":256,\"topk_group\":8}", AHA_ERR_FORMAT, "n_group: got 256"},
    {"DeepSeek-R1", "{\"n_routed_experts\":65536,\"moe_intermediate_size\":1048576}", AHA_ERR_FORMAT, "n_routed_experts: got 65536"},
    {"DeepSeek-R1", "{\"scoring_func\":\"tanh\"}", AHA_ERR_UNSUPPORTED, "scoring_func: got \"tanh\""},
    {"DeepSeek-R1", "{\"topk_method\":\"dice\"}", AHA_ERR_UNSUPPORTED, "topk_method: got \"dice\""},
    {"DeepSeek-R1", "{\"moe_layer_freq\":2}", AHA_ERR_UNSUPPORTED, "moe_layer_freq: got 2, expected 1"},
    {"DeepSeek-R1", "{\"num_key_value_heads\":64}", AHA_ERR_FORMAT, "num_key_value_heads: got 64, expected num_attention_heads, 128"},
    {"DeepSeek-R1", "{\"qk_rope_head_dim\":63}", AHA_ERR_FORMAT, "qk_rope_head_dim: got 63, expected an even number"},
    {"DeepSeek-R1", "{\"num_nextn_predict_layers\":2,\"first_k_dense_replace\":62}", AHA_ERR_FORMAT, "first_k_dense_replace: got 62"},
    {"DeepSeek-R1", "{\"routed_scaling_factor\":0}", AHA_ERR_FORMAT, "routed_scaling_factor"},
    {"DeepSeek-R1", "{\"model_type\":\"deepseek_v2\",\"num_experts_per_tok\":\"-\"}", AHA_ERR_FORMAT, "num_experts_per_tok: got 0"},
};

static void refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(REFUSED); i++) {
        Config    c, none = {0};
        aha_error e;
        int       rc = parse_changed(&c, REFUSED[i].model, REFUSED[i].change, &e);
        if (rc != REFUSED[i].code || !strstr(e.text, REFUSED[i].words)) fail_msg("%s\n  gave %d: %s\n  not %d: %s", REFUSED[i].change, rc, e.text, REFUSED[i].code, REFUSED[i].words);
        assert_int_equal(strncmp(e.text, "config.json: ", 13), 0);
        assert_memory_equal(&c, &none, sizeof c);
    }
}

/* Every count of every family: 0, -1, 10^9 and what is no integer at all. */
static void every_count(void **state)
{
    static const char *const KEY[] = {
        "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings", "num_key_value_heads",
        "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_routed_experts", "num_experts_per_tok",
        "moe_intermediate_size", "n_group", "topk_group", "moe_layer_freq", "n_shared_experts", "first_k_dense_replace", "num_nextn_predict_layers",
        "head_dim",
    };
    static const char *const VALUE[] = {
        "-1", "1000000000", "9223372036854775807", "-9223372036854775808", "1e308", "1.5", "\"8\"", "true", "[]", "{}", "2147483648", "4294967297", "0",
    };
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(KEY); k++) {
        bool dense = strcmp(KEY[k], "head_dim") == 0;
        bool may_be_0 = k >= 18 && k <= 20;
        for (size_t v = 0; v < ARRAY_LEN(VALUE) - may_be_0; v++) {
            Config    c;
            aha_error e;
            char      change[80];
            snprintf(change, sizeof change, "{\"%s\":%s}", KEY[k], VALUE[v]);
            int rc = parse_changed(&c, dense ? L8 : "DeepSeek-R1", change, &e);
            if (rc != AHA_ERR_FORMAT || !strstr(e.text, KEY[k])) fail_msg("%s gave %d: %s", change, rc, e.text);
        }
    }
}

static void not_json(void **state)
{
    static const char *const TEXT[] = {"", "[]", "[{}]", "{", "null", "{\"model_type\":\"llama\",\"model_type\":\"qwen2\"}", "{\"vocab_size\":NaN}"};
    Config    c;
    aha_error e = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXT); i++) assert_int_equal(parse(&c, TEXT[i], &e), AHA_ERR_FORMAT);
    assert_int_equal(config_parse(&c, "{}", 2 << 20, "config.json", &e), AHA_ERR_LIMIT);
    assert_int_equal(config_read(&c, "/dev/zero", &e), AHA_ERR_FORMAT);
    assert_int_equal(config_read(&c, "/nonexistent/config.json", &e), AHA_ERR_IO);
}

/* Any key may be missing: another default, or an error, and never anything else. */
static void every_key_missing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(PUBLISHED); i++) {
        json_t     *base = json_load_file(config_path(PUBLISHED[i]), 0, NULL), *v;
        const char *key;
        json_object_foreach(base, key, v)
        {
            char      change[100];
            Config    c;
            aha_error e;
            snprintf(change, sizeof change, "{\"%s\":\"-\"}", key);
            int rc = parse_changed(&c, PUBLISHED[i], change, &e);
            assert_true(rc == 0 || rc == AHA_ERR_FORMAT);
        }
        json_decref(base);
    }
}

static void write_and_read(const Config *c, const char *from)
{
    aha_error e = {0};
    char     *text;
    Config    again;
    assert_int_equal(config_write(c, DT_BF16, &text, &e), 0);
    if (parse(&again, text, &e)) fail_msg("%s: %s\n%s", from, e.text, text);
    if (memcmp(c, &again, sizeof again)) fail_msg("%s comes back changed:\n%s", from, text);
    assert_non_null(strstr(text, "\"torch_dtype\": \"bfloat16\""));
    mem_free(text);
}

static void written_as_read(void **state)
{
    static const char *const TEXT[] = {
        "{\"model_type\":\"deepseek_v3\",\"q_lora_rank\":null,\"rope_interleave\":false,\"num_hidden_layers\":4,\"eos_token_id\":[1,2]}",
        "{\"model_type\":\"deepseek_v3\",\"n_routed_experts\":null,\"num_nextn_predict_layers\":2}",
        "{\"model_type\":\"deepseek_v3\",\"num_hidden_layers\":2}",
        "{\"model_type\":\"deepseek_v2\",\"num_experts_per_tok\":6,\"bos_token_id\":null}",
        "{\"model_type\":\"qwen2\",\"rope_scaling\":{\"type\":\"linear\",\"factor\":1.1},\"tie_word_embeddings\":true,\"rms_norm_eps\":1.0000000000000002e-5}",
        "{\"model_type\":\"qwen3\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":3,\"attention_factor\":0.1},\"rope_theta\":12345.678901234567}",
        "{\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":3,\"mscale\":0.707,\"mscale_all_dim\":0.6}}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(PUBLISHED); i++) {
        Config c = read_model(PUBLISHED[i]);
        write_and_read(&c, PUBLISHED[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(TEXT); i++) {
        Config c = parse_good(TEXT[i]);
        write_and_read(&c, TEXT[i]);
    }
}

static void golden_configs(void **state)
{
    char    **names;
    int       n;
    aha_error e = {0};
    (void)state;
    if (!dir_exists("tests/golden")) skip();
    assert_int_equal(dir_list("tests/golden", &names, &n, &e), 0);
    for (int i = 0; i < n; i++) {
        char   path[512];
        Config c;
        snprintf(path, sizeof path, "tests/golden/%s/config.json", names[i]);
        if (!file_exists(path)) continue;
        if (config_read(&c, path, &e)) fail_msg("%s", e.text);
        write_and_read(&c, path);
    }
    mem_free(names);
}

static void faults(void **state)
{
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s", config_path("DeepSeek-R1"));
    for (uint64_t nth = 1, more = 1; more; nth++) {
        Config    c;
        aha_error e = {0};
        char     *text = NULL;
        os_fault_arm(OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_READ, nth);
        int rc = config_read(&c, path, &e);
        if (!rc) rc = config_write(&c, DT_F32, &text, &e);
        more = os_fault_seen() >= nth;
        os_fault_arm(0, 0);
        assert_int_equal(rc, more ? e.code : 0);
        assert_true(rc == 0 || rc == AHA_ERR_NOMEM || rc == AHA_ERR_IO);
        mem_free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r1),       cmocka_unit_test(distills),          cmocka_unit_test(defaults),        cmocka_unit_test(ropes),
        cmocka_unit_test(refused),  cmocka_unit_test(every_count),       cmocka_unit_test(token_ids),       cmocka_unit_test(not_json),
        cmocka_unit_test(faults),   cmocka_unit_test(every_key_missing), cmocka_unit_test(written_as_read), cmocka_unit_test(golden_configs),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
