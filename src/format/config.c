/* config.json: the shape of a model.  Every count is bounded here, so that products of them fit behind this border.
 * A key that is absent means what it means to transformers for that family. */
#include "config.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 1 << 20, HEAD_DIM_MAX = 4096, WIDTH_MAX = 65536, FF_MAX = 1 << 20 };

static const struct {
    const char *model_type;
    Arch        arch;
    int         bos, eos; /* defaults; -1: none */
} FAMILY[FAM_COUNT] = {
    [FAM_LLAMA] = {"llama", ARCH_LLAMA, 1, 2},
    [FAM_QWEN2] = {"qwen2", ARCH_QWEN2, -1, -1},
    [FAM_QWEN3] = {"qwen3", ARCH_QWEN3, -1, -1},
    [FAM_DEEPSEEK_V3] = {"deepseek_v3", ARCH_DEEPSEEK_V3, 0, 1},
    [FAM_DEEPSEEK_V2] = {"deepseek_v2", ARCH_DEEPSEEK_V3, 1, 2},
};

typedef struct IntField {
    const char *key;
    size_t      at; /* of an int in Config */
    int         lo, hi;
    int         def[FAM_COUNT]; /* llama, qwen2, qwen3, deepseek_v3, deepseek_v2 */
} IntField;
static const IntField COMMON[] = {
    {"num_hidden_layers", offsetof(Config, n_layer), 1, 1024, {32, 32, 32, 61, 32}},
    {"hidden_size", offsetof(Config, d_model), 1, WIDTH_MAX, {4096, 4096, 4096, 7168, 4096}},
    {"num_attention_heads", offsetof(Config, n_head), 1, 1024, {32, 32, 32, 128, 32}},
    {"intermediate_size", offsetof(Config, d_ff), 1, FF_MAX, {11008, 22016, 22016, 18432, 11008}},
    {"vocab_size", offsetof(Config, vocab), 1, 1 << 22, {32000, 151936, 151936, 129280, 102400}},
    {"max_position_embeddings", offsetof(Config, max_pos), 1, 1 << 24, {2048, 32768, 32768, 4096, 2048}},
};
static const IntField MLA[] = {
    {"kv_lora_rank", offsetof(Config, kv_lora), 1, WIDTH_MAX, {0, 0, 0, 512, 512}},
    {"qk_nope_head_dim", offsetof(Config, nope), 1, HEAD_DIM_MAX, {0, 0, 0, 128, 128}},
    {"qk_rope_head_dim", offsetof(Config, rope_dim), 2, HEAD_DIM_MAX, {0, 0, 0, 64, 64}},
    {"v_head_dim", offsetof(Config, v_dim), 1, HEAD_DIM_MAX, {0, 0, 0, 128, 128}},
    {"first_k_dense_replace", offsetof(Config, n_dense_first), 0, 1024, {0, 0, 0, 3, 0}},
    {"num_nextn_predict_layers", offsetof(Config, n_mtp), 0, 16, {0}},
};
/* null is a value here: none of it, or one group */
static const IntField NULLABLE[] = {
    {"q_lora_rank", offsetof(Config, q_lora), 1, WIDTH_MAX, {0, 0, 0, 1536, 1536}},
    {"n_routed_experts", offsetof(Config, n_expert), 1, 65536, {0, 0, 0, 256, 64}},
};
static const IntField MOE[] = {
    {"moe_intermediate_size", offsetof(Config, d_expert), 1, FF_MAX, {0, 0, 0, 2048, 1407}},
    {"num_experts_per_tok", offsetof(Config, n_expert_used), 1, 1024, {0, 0, 0, 8, 0}},
    {"n_shared_experts", offsetof(Config, n_shared), 0, 1024, {0, 0, 0, 1, 2}},
    {"n_group", offsetof(Config, n_group), 1, 1024, {0, 0, 0, 8, 1}},
    {"topk_group", offsetof(Config, topk_group), 1, 1024, {0, 0, 0, 4, 1}},
};

int config_refuse(const Reader *r, int code, const char *what, const char *key, const Json *v, const char *want)
{
    char got[64];
    return error_set(r->e, code, "%s: %s: got %s, expected %s", what, key, json_describe(v, got, sizeof got), want);
}

static int refuse(const Reader *r, const char *key, const char *want)
{
    return config_refuse(r, AHA_ERR_FORMAT, r->what, key, json_field(r->root, key), want);
}

static int unsupported(const Reader *r, const char *key, const char *want)
{
    return config_refuse(r, AHA_ERR_UNSUPPORTED, r->what, key, json_field(r->root, key), want);
}

static int PRINTF_LIKE(4, 5) refuse_int(const Reader *r, const char *key, int64_t got, const char *fmt, ...)
{
    char    want[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(want, sizeof want, fmt, ap);
    va_end(ap);
    return error_set(r->e, AHA_ERR_FORMAT, "%s: %s: got %lld, expected %s", r->what, key, (long long)got, want);
}

/* Absent: the family's default.  null: `none`, or refused when that is negative. */
static int read_ints(const Reader *r, const IntField *f, size_t n, int none)
{
    for (size_t i = 0; i < n; i++) {
        int64_t     v = f[i].def[r->family];
        const Json *raw = json_object_get(r->root, f[i].key);
        if (json_is_null(raw) && none < 0) return refuse(r, f[i].key, "an integer");
        if (json_is_null(raw)) v = none;
        int rc = json_get_int(r->root, r->what, f[i].key, false, f[i].lo, f[i].hi, &v, r->e);
        if (rc) return rc;
        *(int *)((char *)r->c + f[i].at) = (int)v;
    }
    return 0;
}

/* The keys whose other values this build does not compute. */
static int read_unsupported(const Reader *r)
{
    static const char *const NEVER[] = {"use_sliding_window", "attention_bias", "mlp_bias", "use_mrope"};
    const Json *layers = json_field(r->root, "layer_types");
    const char *act = "silu";
    int         rc = json_get_str(r->root, r->what, "hidden_act", false, &act, r->e);
    if (rc) return rc;
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) return unsupported(r, "hidden_act", "silu");
    for (size_t i = 0; i < ARRAY_LEN(NEVER); i++) {
        bool on = false;
        if ((rc = json_get_bool(r->root, r->what, NEVER[i], false, &on, r->e))) return rc;
        if (on && !(i == 1 && r->family == FAM_QWEN2)) return unsupported(r, NEVER[i], "false");
    }
    if (layers && !json_is_array(layers)) return refuse(r, "layer_types", "a list");
    for (size_t i = 0; layers && i < json_array_size(layers); i++) {
        const Json *kind = json_array_get(layers, i);
        if (!json_is_string(kind) || strcmp(json_string_value(kind), "full_attention") != 0)
            return config_refuse(r, AHA_ERR_UNSUPPORTED, r->what, "layer_types", kind, "full_attention");
    }
    if (r->mla) {
        int64_t freq = 1;
        rc = json_get_int(r->root, r->what, "moe_layer_freq", false, 1, 1024, &freq, r->e);
        if (!rc && freq != 1) rc = unsupported(r, "moe_layer_freq", "1");
    }
    return rc;
}

static int read_dense(const Reader *r)
{
    Config     *c = r->c;
    int64_t     kv = c->n_head, dim = 0;
    const char *key = "head_dim";
    int         rc = json_get_int(r->root, r->what, "num_key_value_heads", false, 1, 1024, &kv, r->e);
    if (!rc) rc = json_get_int(r->root, r->what, key, false, 1, HEAD_DIM_MAX, &dim, r->e);
    if (rc) return rc;
    if (c->n_head % kv) return refuse_int(r, "num_key_value_heads", kv, "a divisor of num_attention_heads, %d", c->n_head);
    if (!dim && r->family == FAM_QWEN3) dim = 128; /* the class's default, whatever the width */
    if (!dim) {
        if (c->d_model % c->n_head) return refuse_int(r, "hidden_size", c->d_model, "a multiple of num_attention_heads, %d", c->n_head);
        dim = c->d_model / c->n_head;
        key = "hidden_size / num_attention_heads";
    }
    if (dim % 2 || dim > HEAD_DIM_MAX) return refuse_int(r, key, dim, "an even number of at most %d", HEAD_DIM_MAX);
    c->n_kv_head = (int)kv;
    c->head_dim = (int)dim;
    c->qkv_bias = r->family == FAM_QWEN2;
    c->qk_norm = r->family == FAM_QWEN3;
    return 0;
}

static int read_choice(const Reader *r, const char *key, const char *def, const char *const *names, int n, const char *want, int *out)
{
    const char *s = def;
    int         rc = json_get_str(r->root, r->what, key, false, &s, r->e);
    if (rc) return rc;
    for (*out = 0; *out < n; ++*out)
        if (strcmp(s, names[*out]) == 0) return 0;
    return unsupported(r, key, want);
}

static int read_groups(const Reader *r)
{
    Config *c = r->c;
    int     e = c->n_expert;
    if (c->n_expert_used < 1 || c->n_expert_used > e)
        return refuse_int(r, "num_experts_per_tok", c->n_expert_used, "1..n_routed_experts, %d", e);
    if (c->route == ROUTE_GREEDY) c->n_group = c->topk_group = 1; /* groups play no part */
    if (e % c->n_group) return refuse_int(r, "n_group", c->n_group, "a divisor of n_routed_experts, %d", e);
    if (c->topk_group > c->n_group) return refuse_int(r, "topk_group", c->topk_group, "at most n_group, %d", c->n_group);
    int each = e / c->n_group, open = each * c->topk_group;
    if (c->n_expert_used > open)
        return refuse_int(r, "num_experts_per_tok", c->n_expert_used, "at most the %d experts of %d groups", open, c->topk_group);
    if (c->route == ROUTE_NOAUX && c->n_group > 1 && each < 2)
        return refuse_int(r, "n_group", c->n_group, "groups of at least 2 of the %d experts, as two are summed", e);
    if ((int64_t)e * c->d_expert > INT_MAX)
        return refuse_int(r, "n_routed_experts", e, "less than 2^31 in all with moe_intermediate_size %d", c->d_expert);
    return 0;
}

static int read_moe(const Reader *r)
{
    static const char *const SCORING_NAME[] = {"softmax", "sigmoid"};
    static const char *const ROUTE_NAME[] = {"greedy", "group_limited_greedy", "noaux_tc"};
    Config *c = r->c;
    bool    v3 = r->family == FAM_DEEPSEEK_V3;
    int     scoring, route, first = c->n_dense_first, rc;
    if (first >= c->n_layer + c->n_mtp) c->n_expert = 0; /* there is no layer to hold them */
    if (!c->n_expert) {
        c->n_dense_first = c->n_layer;
        return 0;
    }
    if (first > c->n_layer) return refuse_int(r, "first_k_dense_replace", first, "at most num_hidden_layers, %d", c->n_layer);

    c->norm_topk = v3;
    c->route_scale = v3 ? 2.5 : 1;
    rc = read_ints(r, MOE, 2, -1);
    if (!rc) rc = read_ints(r, MOE + 2, 1, 0);
    if (!rc) rc = read_ints(r, MOE + 3, 2, 1);
    if (!rc) rc = read_choice(r, "scoring_func", v3 ? "sigmoid" : "softmax", SCORING_NAME, 2, "softmax or sigmoid", &scoring);
    if (!rc) rc = read_choice(r, "topk_method", v3 ? "noaux_tc" : "greedy", ROUTE_NAME, 3, "greedy, group_limited_greedy or noaux_tc", &route);
    if (!rc) rc = json_get_bool(r->root, r->what, "norm_topk_prob", false, &c->norm_topk, r->e);
    if (!rc) rc = json_get_num(r->root, r->what, "routed_scaling_factor", false, 1e-6, 1e6, &c->route_scale, r->e);
    if (rc) return rc;
    c->scoring = (Scoring)scoring;
    c->route = (RouteKind)route;
    return read_groups(r);
}

static int read_mla(const Reader *r)
{
    Config *c = r->c;
    int64_t kv = c->n_head;
    int     rc = read_ints(r, MLA, ARRAY_LEN(MLA), -1);
    if (!rc) rc = read_ints(r, NULLABLE, ARRAY_LEN(NULLABLE), 0);
    if (!rc) rc = json_get_int(r->root, r->what, "num_key_value_heads", false, 1, 1024, &kv, r->e);
    if (rc) return rc;
    if (kv != c->n_head) return refuse_int(r, "num_key_value_heads", kv, "num_attention_heads, %d", c->n_head);
    if (c->rope_dim % 2) return refuse_int(r, "qk_rope_head_dim", c->rope_dim, "an even number");
    c->n_kv_head = c->n_head;
    return read_moe(r);
}

static int read_fp8(const Reader *r)
{
    const Json *q = json_field(r->root, "quantization_config");
    const char *method = NULL, *fmt = "e4m3", *scheme = "dynamic";
    char        what[512];
    if (json_field(r->root, "compression_config")) return unsupported(r, "compression_config", "no quantisation but fp8");
    if (!q) return 0;
    if (!json_is_object(q)) return refuse(r, "quantization_config", "an object");
    snprintf(what, sizeof what, "%s: quantization_config", r->what);
    int rc = json_get_str(q, what, "quant_method", true, &method, r->e);
    if (rc) return rc;
    if (strcmp(method, "fp8") != 0) return config_refuse(r, AHA_ERR_UNSUPPORTED, what, "quant_method", json_field(q, "quant_method"), "fp8");
    rc = json_get_str(q, what, "fmt", false, &fmt, r->e);
    if (!rc) rc = json_get_str(q, what, "activation_scheme", false, &scheme, r->e);
    if (rc) return rc;
    if (strcmp(fmt, "e4m3") != 0) return config_refuse(r, AHA_ERR_UNSUPPORTED, what, "fmt", json_field(q, "fmt"), "e4m3");
    if (strcmp(scheme, "dynamic") != 0)
        return config_refuse(r, AHA_ERR_UNSUPPORTED, what, "activation_scheme", json_field(q, "activation_scheme"), "dynamic");
    const Json *block = json_field(q, "weight_block_size");
    for (size_t i = 0; i < 2; i++) {
        const Json *side = json_array_get(block, i);
        if (json_array_size(block) != 2 || !json_is_integer(side) || json_integer_value(side) != 128)
            return config_refuse(r, AHA_ERR_UNSUPPORTED, what, "weight_block_size", side ? side : block, "[128, 128]");
    }
    r->c->fp8 = true;
    return 0;
}

/* A token id, within the vocabulary.  -1 is written by some tools for "none". */
static int token_id(const Reader *r, const char *key, const Json *v, int *out)
{
    int64_t id = json_integer_value(v);
    if (!json_is_integer(v) || id < -1 || id >= r->c->vocab) {
        char want[64];
        snprintf(want, sizeof want, "an id of 0..%d", r->c->vocab - 1);
        return config_refuse(r, AHA_ERR_FORMAT, r->what, key, v, want);
    }
    *out = (int)id;
    return 0;
}

static int read_tokens(const Reader *r)
{
    Config     *c = r->c;
    const Json *bos = json_object_get(r->root, "bos_token_id"), *eos = json_object_get(r->root, "eos_token_id");
    int         id = FAMILY[r->family].eos, rc = 0;
    c->bos = bos || FAMILY[r->family].bos >= c->vocab ? -1 : FAMILY[r->family].bos;
    if (bos && !json_is_null(bos)) rc = token_id(r, "bos_token_id", bos, &c->bos);
    if (rc) return rc;
    if (!eos && id >= 0 && id < c->vocab) c->eos[c->n_eos++] = id;
    if (!eos || json_is_null(eos)) return 0;
    size_t n = json_is_array(eos) ? json_array_size(eos) : 1;
    if (n > ARRAY_LEN(c->eos)) return refuse(r, "eos_token_id", "at most 8 ids");
    for (size_t i = 0; i < n; i++) {
        rc = token_id(r, "eos_token_id", json_is_array(eos) ? json_array_get(eos, i) : eos, &id);
        if (rc) return rc;
        if (id >= 0) c->eos[c->n_eos++] = id;
    }
    return 0;
}

static int read_family(Reader *r)
{
    const char *type = NULL;
    int         rc = json_get_str(r->root, r->what, "model_type", true, &type, r->e);
    if (rc) return rc;
    for (int i = 0; i < FAM_COUNT; i++) {
        if (strcmp(type, FAMILY[i].model_type) != 0) continue;
        r->family = (Family)i;
        r->mla = FAMILY[i].arch == ARCH_DEEPSEEK_V3;
        r->c->arch = FAMILY[i].arch;
        snprintf(r->c->model_type, sizeof r->c->model_type, "%s", type);
        return 0;
    }
    return unsupported(r, "model_type", "llama, qwen2, qwen3, deepseek_v2 or deepseek_v3");
}

static int read_all(Reader *r)
{
    Config *c = r->c;
    if (!json_is_object(r->root)) return error_set(r->e, AHA_ERR_FORMAT, "%s: got a list, expected an object", r->what);
    int rc = read_family(r);
    if (!rc) rc = read_ints(r, COMMON, ARRAY_LEN(COMMON), -1);
    if (!rc) rc = read_unsupported(r);
    c->rms_eps = 1e-6;
    if (!rc) rc = json_get_num(r->root, r->what, "rms_norm_eps", false, 1e-12, 1, &c->rms_eps, r->e);
    if (!rc) rc = json_get_bool(r->root, r->what, "tie_word_embeddings", false, &c->tied_embeddings, r->e);
    if (!rc) rc = r->mla ? read_mla(r) : read_dense(r);
    if (!rc) rc = config_rope(r);
    if (!rc) rc = read_fp8(r);
    return rc ? rc : read_tokens(r);
}

int config_parse(Config *c, const char *text, size_t n, const char *what, aha_error *e)
{
    Json *root = NULL;
    memset(c, 0, sizeof *c);
    if (n > CONFIG_BYTES_MAX) return error_set(e, AHA_ERR_LIMIT, "%s: got %zu bytes, expected at most %d", what, n, CONFIG_BYTES_MAX);
    int rc = json_parse(&root, text, n, what, e);
    if (rc) return rc;
    Config got = {0};
    Reader r = {.root = root, .what = what, .e = e, .c = &got};
    rc = read_all(&r);
    json_free(root);
    if (!rc) *c = got;
    return rc;
}

int config_read(Config *c, const char *path, aha_error *e)
{
    char  *text = NULL;
    size_t n = 0;
    memset(c, 0, sizeof *c);
    int rc = file_read_all(path, CONFIG_BYTES_MAX, &text, &n, e);
    if (!rc) rc = config_parse(c, text, n, path, e);
    mem_free(text);
    return rc;
}
