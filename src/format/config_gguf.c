/* A GGUF file's metadata as a config.json: its keys are put under the published names, so that one set of bounds judges both.
 *
 * Key names: the `Keys` of the gguf package.  What files in use lack has a default here, and each default that is taken is
 * logged.  A message about a key that came from the metadata says what it is called there. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

typedef struct Source {
    const WeightFile *w;
    const char       *what, *arch;
    aha_error        *e;
    Buf               json;
} Source;

typedef struct KeyPair {
    const char *gguf; /* behind "ARCH." */
    const char *config;
} KeyPair;
static const KeyPair COMMON[] = { /* integers that must be there */
    {"embedding_length", "hidden_size"},          {"attention.head_count", "num_attention_heads"},
    {"feed_forward_length", "intermediate_size"}, {"context_length", "max_position_embeddings"},
};
static const KeyPair EXPERTS[] = {
    {"expert_used_count", "num_experts_per_tok"},
    {"expert_feed_forward_length", "moe_intermediate_size"},
    {"leading_dense_block_count", "first_k_dense_replace"},
};
/* for messages only: what is put by hand below */
static const KeyPair OTHERS[] = {
    {"block_count", "num_hidden_layers"},
    {"attention.head_count_kv", "num_key_value_heads"},
    {"attention.key_length", "head_dim"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
    {"rope.freq_base", "rope_theta"},
    {"rope.scaling.factor", "factor"},
    {"rope.scaling.original_context_length", "original_max_position_embeddings"},
    {"rope.dimension_count", "qk_rope_head_dim"},
    {"attention.kv_lora_rank", "kv_lora_rank"},
    {"attention.q_lora_rank", "q_lora_rank"},
    {"expert_count", "n_routed_experts"},
    {"expert_shared_count", "n_shared_experts"},
    {"expert_group_count", "n_group"},
    {"expert_group_used_count", "topk_group"},
    {"expert_weights_scale", "routed_scaling_factor"},
    {"nextn_predict_layers", "num_nextn_predict_layers"},
};

/* ---- one key ---- */
static const char *full_key(const Source *s, const char *key, char dst[128])
{
    snprintf(dst, 128, "%s.%s", s->arch, key);
    return dst;
}

static bool has(const Source *s, const char *key)
{
    char full[128];
    return gguf_kv_find(s->w, full_key(s, key, full)) != NULL;
}

static int get_int(const Source *s, const char *key, bool required, int64_t *out)
{
    char full[128];
    return gguf_get_int(s->w, s->what, full_key(s, key, full), required, INT32_MIN, UINT32_MAX, out, s->e);
}

static int get_num(const Source *s, const char *key, bool required, double *out)
{
    char full[128];
    return gguf_get_num(s->w, s->what, full_key(s, key, full), required, -1e30, 1e30, out, s->e);
}

static void PRINTF_LIKE(3, 4) log_default(const Source *s, const char *key, const char *fmt, ...)
{
    char    words[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    log_msg(LOG_INFO, "%s: %s.%s is absent: taken to be %s", s->what, s->arch, key, words);
}

/* an integer with a default */
static int int_or(const Source *s, const char *key, int64_t def, int64_t *out)
{
    *out = def;
    if (!has(s, key)) log_default(s, key, "%lld", (long long)def);
    return get_int(s, key, false, out);
}

static int refuse(const Source *s, const char *key, int64_t got, int64_t want, const char *why)
{
    char full[128];
    return error_set(s->e, AHA_ERR_FORMAT, "%s: %s: got %lld, expected %lld, %s", s->what, full_key(s, key, full), (long long)got, (long long)want, why);
}

static int put_ints(Source *s, const KeyPair *k, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t v;
        int     rc = get_int(s, k[i].gguf, true, &v);
        if (rc) return rc;
        config_put_int(&s->json, k[i].config, v);
    }
    return 0;
}

static void put_num(Source *s, const char *key, double v)
{
    config_put_num(&s->json, key, v);
}

/* ---- rope ---- */
/* What cosine and sine are multiplied by beside YaRN's own factor; two keys, whose product counts. */
static int put_attn_factor(Source *s, bool mla)
{
    static const char KEY[] = "rope.scaling.attn_factor", YARN[] = "rope.scaling.yarn_attn_factor", EXT[] = "rope.scaling.yarn_ext_factor";
    double a = 1, b = 1, ext = 1;
    char   full[128];
    int    rc = get_num(s, KEY, false, &a);
    if (!rc) rc = get_num(s, YARN, false, &b);
    if (!rc) rc = get_num(s, EXT, false, &ext);
    if (rc) return rc;
    if (ext != 1) return error_set(s->e, AHA_ERR_UNSUPPORTED, "%s: %s: got %g, expected 1", s->what, full_key(s, EXT, full), ext);
    if (mla && a * b != 1) return error_set(s->e, AHA_ERR_UNSUPPORTED, "%s: %s: got %g, expected 1", s->what, full_key(s, KEY, full), a * b);
    if (!mla && (has(s, KEY) || has(s, YARN))) put_num(s, "attn_factor", a * b);
    return 0;
}

static int put_yarn(Source *s, bool mla)
{
    static const KeyPair NUMS[] = {{"rope.scaling.yarn_beta_fast", "beta_fast"}, {"rope.scaling.yarn_beta_slow", "beta_slow"}};
    int64_t len = 0;
    double  v = 0;
    int     rc = get_int(s, "rope.scaling.original_context_length", true, &len);
    if (rc) return rc;
    config_put_int(&s->json, "original_max_position_embeddings", len);
    if ((rc = put_attn_factor(s, mla))) return rc;
    for (size_t i = 0; i < ARRAY_LEN(NUMS); i++) {
        if (!has(s, NUMS[i].gguf)) continue;
        if ((rc = get_num(s, NUMS[i].gguf, true, &v))) return rc;
        put_num(s, NUMS[i].config, v);
    }
    if (!mla) return 0;
    /* 0.1 mscale_all_dim; mscale is the same in what is published, so cosine and sine stay unscaled.  In f32 0.1 x 10 is 1. */
    v = 0;
    if (!has(s, "rope.scaling.yarn_log_multiplier")) log_default(s, "rope.scaling.yarn_log_multiplier", "0");
    if ((rc = get_num(s, "rope.scaling.yarn_log_multiplier", false, &v))) return rc;
    put_num(s, "mscale", (double)((float)v * 10.0f));
    put_num(s, "mscale_all_dim", (double)((float)v * 10.0f));
    return 0;
}

static int put_rope(Source *s, bool mla)
{
    const char *type = "none";
    size_t      n = 4;
    double      v = 10000;
    char        full[128], got[48];
    int         rc = get_num(s, "rope.freq_base", false, &v);
    if (!rc && !has(s, "rope.freq_base")) log_default(s, "rope.freq_base", "10000");
    if (rc) return rc;
    put_num(s, "rope_theta", v);
    rc = gguf_get_str(s->w, s->what, full_key(s, "rope.scaling.type", full), false, &type, &n, s->e);
    if (rc || (n == 4 && memcmp(type, "none", 4) == 0)) return rc;
    bool yarn = n == 4 && memcmp(type, "yarn", 4) == 0;
    if (!yarn && !(n == 6 && memcmp(type, "linear", 6) == 0))
        return error_set(s->e, AHA_ERR_UNSUPPORTED, "%s: %s: got \"%s\", expected none, linear or yarn", s->what, full, error_quote(got, sizeof got, type, n));
    if ((rc = get_num(s, "rope.scaling.factor", true, &v))) return rc;
    config_put_raw(&s->json, "rope_scaling", yarn ? "{" : "{\"type\": \"linear\"");
    if (yarn) config_put_raw(&s->json, "type", "\"yarn\"");
    put_num(s, "factor", v);
    if (yarn && (rc = put_yarn(s, mla))) return rc;
    buf_str(&s->json, "}");
    return 0;
}

/* ---- attention ---- */
static int put_dense(Source *s)
{
    int64_t heads = 0, kv, dim = 0, other, none = 0;
    int     rc = get_int(s, "attention.head_count", true, &heads);
    if (!rc) rc = int_or(s, "attention.head_count_kv", heads, &kv);
    if (!rc) rc = get_int(s, "expert_count", false, &none);
    if (rc) return rc;
    if (none) return refuse(s, "expert_count", none, 0, "as experts are computed for deepseek2 only");
    config_put_int(&s->json, "num_key_value_heads", kv);
    if (!has(s, "attention.key_length")) {
        int64_t width = 0;
        if ((rc = get_int(s, "embedding_length", true, &width))) return rc;
        dim = heads > 0 && width % heads == 0 ? width / heads : 0;
        log_default(s, "attention.key_length", "%lld", (long long)dim);
    }
    rc = get_int(s, "attention.key_length", false, &dim);
    other = dim;
    if (!rc) rc = get_int(s, "attention.value_length", false, &other);
    if (!rc && other != dim) rc = refuse(s, "attention.value_length", other, dim, "attention.key_length");
    other = dim;
    if (!rc) rc = get_int(s, "rope.dimension_count", false, &other);
    if (!rc && other != dim) rc = refuse(s, "rope.dimension_count", other, dim, "the columns of a head");
    if (!rc) config_put_int(&s->json, "head_dim", dim);
    return rc;
}

/* The heads' columns, key and value, in either layout: with keys of their own (_mla), where the plain ones describe the one
 * absorbed head, or as the plain ones. */
static int mla_lengths(const Source *s, int64_t latent, int64_t rope, int64_t *key, int64_t *value)
{
    int64_t heads = 0, kv = 0, k = 0, v = 0;
    bool    absorbed = has(s, "attention.key_length_mla");
    int     rc = get_int(s, "attention.head_count", true, &heads);
    if (!rc) rc = int_or(s, "attention.head_count_kv", absorbed ? 1 : heads, &kv);
    if (!rc) rc = get_int(s, "attention.key_length", true, &k);
    if (!rc) rc = get_int(s, "attention.value_length", true, &v);
    if (rc) return rc;
    *key = k;
    *value = v;
    if (!absorbed) return kv == heads ? 0 : refuse(s, "attention.head_count_kv", kv, heads, "attention.head_count");
    if (kv != 1) return refuse(s, "attention.head_count_kv", kv, 1, "beside key_length_mla");
    if (k != latent + rope) return refuse(s, "attention.key_length", k, latent + rope, "kv_lora_rank + rope.dimension_count");
    if (v != latent) return refuse(s, "attention.value_length", v, latent, "kv_lora_rank");
    rc = get_int(s, "attention.key_length_mla", true, key);
    return rc ? rc : get_int(s, "attention.value_length_mla", true, value);
}

static int put_mla(Source *s)
{
    int64_t latent = 0, rope = 0, key = 0, value = 0, q = 0, heads = 0;
    int     rc = get_int(s, "attention.kv_lora_rank", true, &latent);
    if (!rc) rc = get_int(s, "rope.dimension_count", true, &rope);
    if (!rc) rc = get_int(s, "attention.head_count", true, &heads);
    if (!rc) rc = get_int(s, "attention.q_lora_rank", false, &q);
    if (!rc) rc = mla_lengths(s, latent, rope, &key, &value);
    if (rc) return rc;
    if (key <= rope) return refuse(s, "rope.dimension_count", rope, key - 1, "or less, to be a part of a key");
    config_put_int(&s->json, "num_key_value_heads", heads);
    config_put_int(&s->json, "kv_lora_rank", latent);
    config_put_int(&s->json, "qk_rope_head_dim", rope);
    config_put_int(&s->json, "qk_nope_head_dim", key - rope);
    config_put_int(&s->json, "v_head_dim", value);
    if (q) config_put_int(&s->json, "q_lora_rank", q);
    else config_put_raw(&s->json, "q_lora_rank", "null");
    return 0;
}

/* ---- experts ---- */
static bool has_router_bias(const Source *s)
{
    char    name[64];
    int64_t layer = 0;
    get_int(s, "leading_dense_block_count", false, &layer);
    snprintf(name, sizeof name, "blk.%lld.exp_probs_b.bias", (long long)layer);
    return weights_find(s->w, name) != NULL;
}

static int put_groups(Source *s, int64_t experts, bool sigmoid, bool bias)
{
    bool    r1 = experts == 256 && sigmoid; /* whose files lack these keys */
    int64_t groups, used;
    int     rc = int_or(s, "expert_group_count", r1 ? 8 : 1, &groups);
    if (!rc) rc = int_or(s, "expert_group_used_count", r1 ? 4 : 1, &used);
    if (rc) return rc;
    config_put_int(&s->json, "n_group", groups);
    config_put_int(&s->json, "topk_group", used);
    config_put_raw(&s->json, "topk_method", bias ? "\"noaux_tc\"" : groups != 1 ? "\"group_limited_greedy\"" : "\"greedy\"");
    return 0;
}

static int put_moe(Source *s)
{
    int64_t experts = 0, shared, gating = 0;
    double  scale = 1;
    bool    bias = has_router_bias(s), norm;
    char    full[128];
    int     rc = get_int(s, "expert_count", false, &experts);
    if (rc) return rc;
    if (!experts) config_put_raw(&s->json, "n_routed_experts", "null");
    if (!experts) return 0;
    config_put_int(&s->json, "n_routed_experts", experts);
    rc = put_ints(s, EXPERTS, ARRAY_LEN(EXPERTS));
    if (!rc) rc = int_or(s, "expert_shared_count", 0, &shared);
    if (!rc) rc = int_or(s, "expert_gating_func", bias ? 2 : 1, &gating);
    if (!rc && gating != 1 && gating != 2) rc = refuse(s, "expert_gating_func", gating, 1, "softmax, or 2, sigmoid");
    if (!rc) rc = get_num(s, "expert_weights_scale", false, &scale);
    norm = gating == 2;
    if (!rc) rc = gguf_get_bool(s->w, s->what, full_key(s, "expert_weights_norm", full), false, &norm, s->e);
    if (rc) return rc;
    if (!has(s, "expert_weights_scale")) log_default(s, "expert_weights_scale", "1");
    if (!has(s, "expert_weights_norm")) log_default(s, "expert_weights_norm", "%s", norm ? "true" : "false");
    if (scale == 0) scale = 1; /* as written for models without one */
    config_put_int(&s->json, "n_shared_experts", shared);
    config_put_raw(&s->json, "scoring_func", gating == 2 ? "\"sigmoid\"" : "\"softmax\"");
    put_num(s, "routed_scaling_factor", scale);
    config_put_bool(&s->json, "norm_topk_prob", norm);
    return put_groups(s, experts, gating == 2, bias);
}

/* ---- all of it ---- */
static int put_token(Source *s, const char *key, const char *config)
{
    int64_t id = -1;
    int     rc = gguf_get_int(s->w, s->what, key, false, 0, INT32_MAX, &id, s->e);
    if (!rc) config_put_int(&s->json, config, id);
    return rc;
}

static int put_vocab(Source *s)
{
    const TensorInfo *t = weights_find(s->w, "token_embd.weight");
    int64_t           v = t && t->n_dims == 2 ? t->dim[0] : 0;
    int               rc = get_int(s, "vocab_size", false, &v);
    if (!rc) config_put_int(&s->json, "vocab_size", v);
    if (!rc) config_put_bool(&s->json, "tie_word_embeddings", !weights_find(s->w, "output.weight"));
    if (!rc) rc = put_token(s, "tokenizer.ggml.bos_token_id", "bos_token_id");
    return rc ? rc : put_token(s, "tokenizer.ggml.eos_token_id", "eos_token_id");
}

static int put_all(Source *s, const char *type, bool mla)
{
    int64_t layers = 0, draft = 0;
    double  eps = 0;
    buf_str(&s->json, "{\"model_type\": ");
    buf_json(&s->json, type, strlen(type));
    int rc = get_int(s, "block_count", true, &layers);
    if (!rc && mla) rc = get_int(s, "nextn_predict_layers", false, &draft);
    if (!rc) rc = get_num(s, "attention.layer_norm_rms_epsilon", true, &eps);
    if (rc) return rc;
    config_put_int(&s->json, "num_hidden_layers", layers - draft); /* the draft layers are counted as blocks */
    if (mla) config_put_int(&s->json, "num_nextn_predict_layers", draft);
    put_num(s, "rms_norm_eps", eps);
    rc = put_ints(s, COMMON, ARRAY_LEN(COMMON));
    if (!rc) rc = put_vocab(s);
    if (!rc) rc = mla ? put_mla(s) : put_dense(s);
    if (!rc && mla) rc = put_moe(s);
    if (!rc) rc = put_rope(s, mla);
    buf_str(&s->json, "}");
    return rc;
}

/* The message speaks of config.json's key: says what it is called in the metadata. */
static void name_key(const Source *s)
{
    static const struct {
        const KeyPair *k;
        size_t         n;
    } ALL[] = {{COMMON, ARRAY_LEN(COMMON)}, {EXPERTS, ARRAY_LEN(EXPERTS)}, {OTHERS, ARRAY_LEN(OTHERS)}};
    char old[sizeof s->e->text], find[96];
    if (!s->e) return;
    memcpy(old, s->e->text, sizeof old);
    for (size_t a = 0; a < ARRAY_LEN(ALL); a++)
        for (size_t i = 0; i < ALL[a].n; i++) {
            snprintf(find, sizeof find, ": %s: ", ALL[a].k[i].config);
            if (!strstr(old, find)) continue;
            error_set(s->e, s->e->code, "%s (%s is %s.%s here)", old, ALL[a].k[i].config, s->arch, ALL[a].k[i].gguf);
            return;
        }
}

static int parse(Source *s, Config *c)
{
    if (s->json.failed) return error_set(s->e, AHA_ERR_NOMEM, "%s: out of memory", s->what);
    int rc = config_parse(c, s->json.data, s->json.n, s->what, s->e);
    if (rc) name_key(s);
    return rc;
}

int config_from_gguf(Config *c, const WeightFile *w, const char *what, aha_error *e)
{
    static const struct {
        const char *arch, *type;
    } ARCHS[] = {{"llama", "llama"}, {"qwen2", "qwen2"}, {"qwen3", "qwen3"}, {"deepseek2", "deepseek_v3"}};
    const char *name = NULL;
    char        got[48];
    size_t      n = 0;
    memset(c, 0, sizeof *c);
    if (!weights_is_gguf(w)) return error_set(e, AHA_ERR_FORMAT, "%s: is a file of weights alone, expected a model's folder or a GGUF file", what);
    int rc = gguf_get_str(w, what, "general.architecture", true, &name, &n, e);
    if (rc) return rc;
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++) {
        if (strlen(ARCHS[i].arch) != n || memcmp(ARCHS[i].arch, name, n) != 0) continue;
        Source s = {.w = w, .what = what, .arch = ARCHS[i].arch, .e = e};
        bool   mla = i == 3;
        /* V2 is V3 without a bias on the router, scored by softmax */
        rc = put_all(&s, mla && !has_router_bias(&s) ? "deepseek_v2" : ARCHS[i].type, mla);
        if (!rc) rc = parse(&s, c);
        if (!rc && i == 0) c->rope.interleaved = true; /* the rows of q and k were permuted for it */
        buf_free(&s.json);
        return rc;
    }
    return error_set(e, AHA_ERR_UNSUPPORTED, "%s: general.architecture: got \"%s\", expected llama, qwen2, qwen3 or deepseek2", what,
                     error_quote(got, sizeof got, name, n));
}
