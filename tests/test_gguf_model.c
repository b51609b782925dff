/* Models from GGUF: the golden checkpoints as gguf files (tools/gguf_golden.py) give transformers' logits; models of every
 * block type, made here, give the bits of their decoded weights; configs from metadata; what is refused. */
#include <math.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "gguflib.h"
#include "model/model.h"
#include "quantlib.h"
#include "testlib.h"

enum { TOKENS_MAX = 64 };

static Pool *g_pool;

/* logits [n, V] of a packed batch; *draft: those of the draft layer [n-1, V], or NULL */
static float *logits_of(const Model *m, const Kernels *k, const int32_t *token, int n, float **draft)
{
    Ctx       c;
    aha_error e = {0};
    int32_t   pos[TOKENS_MAX], seq[TOKENS_MAX] = {0};
    Batch     b = {.n = n, .token = token, .pos = pos, .seq = seq};
    size_t    row = (size_t)m->cfg.vocab * sizeof(float);
    for (int i = 0; i < n; i++) pos[i] = i;
    ASSERT_OK(ctx_init(&c, k, g_pool, (size_t)64 << 20, (size_t)8 << 20, &e), e);
    Tensor normed = model_final_norm(&c, m, model_hidden(&c, m, &b, NULL)), logits = model_logits(&c, m, normed);
    if (ctx_failed(&c)) fail_msg("%s", c.err.text);
    float *out = mem_alloc((size_t)n * row);
    memcpy(out, logits.data, (size_t)n * row);
    if (draft) *draft = NULL;
    if (draft && m->cfg.n_mtp) {
        b.token++;
        b.n = normed.rows = n - 1;
        logits = model_logits(&c, m, model_draft(&c, m, &b, normed, NULL));
        if (ctx_failed(&c)) fail_msg("%s", c.err.text);
        *draft = mem_alloc((size_t)(n - 1) * row);
        memcpy(*draft, logits.data, (size_t)(n - 1) * row);
    }
    ctx_free(&c);
    return out;
}

static Model *open_path(const char *path)
{
    Model    *m;
    aha_error e = {0};
    ASSERT_OK(model_open(&m, path, &(ModelOptions){.kv_type = DT_F32}, &e), e);
    return m;
}

static double distance(const float *a, const TensorInfo *want)
{
    double  diff = 0, size = 1e-30;
    int64_t n = want->dim[0] * want->dim[1];
    for (int64_t i = 0; i < n; i++) {
        float w;
        memcpy(&w, (const uint8_t *)want->data + 4 * i, 4);
        if (!(fabs((double)a[i] - (double)w) <= diff)) diff = fabs((double)a[i] - (double)w);
        size = fmax(size, fabs((double)w));
    }
    return diff / size;
}

static void goldens(void **state)
{
    static const char *const NAME[][2] = {
        {"llama", "llama"}, {"llama-llama3-tied", "llama-llama3-tied"}, {"qwen2-00001-of-00003", "qwen2-sharded"}, {"qwen2-tied", "qwen2-tied"},
        {"qwen2-yarn", "qwen2-yarn"}, {"qwen3", "qwen3"}, {"qwen3-attn-factor", "qwen3-attn-factor"}, {"deepseek_v2", "deepseek_v2"},
        {"deepseek_v2-groups", "deepseek_v2-groups"}, {"deepseek_v3", "deepseek_v3"}, {"deepseek_v3-kv_b", "deepseek_v3"},
        {"deepseek_v3-halves-tied", "deepseek_v3-halves-tied"}, {"deepseek_v3-mtp", "deepseek_v3-mtp"},
        {"deepseek_v3-no-q-latent", "deepseek_v3-no-q-latent"}, {"deepseek_v3-softmax", "deepseek_v3-softmax"},
        {"deepseek_v3-unnormalised", "deepseek_v3-unnormalised"},
    };
    const Kernels *k[8];
    int            n = cpu_kernels_all(k, 8);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAME); i++) {
        char        path[160];
        WeightFile *w;
        aha_error   e = {0};
        float      *draft;
        snprintf(path, sizeof path, "tests/gguf/%s.gguf", NAME[i][0]);
        Model *m = open_path(path);
        snprintf(path, sizeof path, "tests/golden/%s/expect.safetensors", NAME[i][1]);
        ASSERT_OK(weights_open(&w, path, &e), e);
        const TensorInfo *tok = weights_find(w, "tokens"), *want = weights_find(w, "logits");
        float            *y = logits_of(m, k[n - 1], tok->data, (int)tok->dim[0], &draft);
        double            d = distance(y, want), dd = draft ? distance(draft, weights_find(w, "mtp.logits")) : 0;
        print_message("%-28s logits within %.1e, draft %.1e\n", NAME[i][0], d, dd);
        assert_true(d < 1e-4 && dd < 1e-4 && (draft != NULL) == (weights_find(w, "mtp.logits") != NULL));
        mem_free(y);
        mem_free(draft);
        weights_close(w);
        model_free(m);
    }
}

/* kv_b, and k_b transposed with v_b, and the Hugging Face folder: the same chains, so the same bits */
static void layouts_agree(void **state)
{
    static const char *const PATH[] = {"tests/golden/deepseek_v3", "tests/gguf/deepseek_v3-kv_b.gguf", "tests/gguf/deepseek_v3.gguf"};
    static const int32_t     TOKEN[] = {5, 0, 63, 17, 9, 9, 30};
    const Kernels           *k[8];
    int                      n = cpu_kernels_all(k, 8);
    float                   *y[3];
    (void)state;
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < 3; i++) {
            Model *m = open_path(PATH[i]);
            assert_true(m->split_kv_b == (i == 2) && m->gguf == (i > 0));
            y[i] = logits_of(m, k[j], TOKEN, 7, NULL);
            model_free(m);
        }
        assert_memory_equal(y[0], y[1], 7 * 64 * sizeof(float));
        assert_memory_equal(y[0], y[2], 7 * 64 * sizeof(float));
        for (int i = 0; i < 3; i++) mem_free(y[i]);
    }
}

/* ---- models of block types ---- */
enum { WIDTH = 256, VOCAB = 64, HEADS = 2, EXPERTS = 4 };

static void put_norm(Gguf *g, const char *name, int n)
{
    float v[512];
    for (int i = 0; i < n; i++) v[i] = 1 + 0.01f * (float)(i % 7);
    put_tensor(g, name, DT_F32, 0, 0, (uint64_t)n, v, (size_t)n * 4);
}

/* [d0, d1, d2] of type k of QUANT_SCALES, or F32 when k < 0 */
static void put_random(Gguf *g, Rng *r, int k, const char *name, int d0, int d1, int d2)
{
    Dtype    t = k < 0 ? DT_F32 : QUANT_SCALES[k].type;
    size_t   rows = (size_t)(d0 ? d0 : 1) * (size_t)d1, n = rows * (size_t)(d2 / dtype_info(t)->block), bytes = n * (size_t)dtype_info(t)->block_bytes;
    uint8_t *data = mem_alloc(bytes);
    if (k >= 0) quant_random(r, k, data, n);
    for (size_t i = 0; k < 0 && i < n; i++) {
        float f = rng_normal(r) / 16;
        memcpy(data + 4 * i, &f, 4);
    }
    put_tensor(g, name, t, (uint64_t)d0, (uint64_t)d1, (uint64_t)d2, data, bytes);
    mem_free(data);
}

static void put_shape(Gguf *g, const char *arch)
{
    static const struct {
        const char *key;
        uint32_t    v;
    } INTS[] = {{"block_count", 1}, {"embedding_length", WIDTH}, {"attention.head_count", HEADS}, {"feed_forward_length", WIDTH}, {"context_length", 64}};
    char key[96];
    put_kv_str(g, "general.architecture", arch);
    for (size_t i = 0; i < ARRAY_LEN(INTS); i++) {
        snprintf(key, sizeof key, "%s.%s", arch, INTS[i].key);
        put_kv_u32(g, key, INTS[i].v);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    put_kv_f32(g, key, 1e-6f);
}

static uint8_t *dense_model(int k, size_t *n)
{
    Gguf g;
    Rng  r = {7, (uint64_t)(k + 1), 0};
    gguf_start(&g);
    put_shape(&g, "llama");
    put_kv_u32(&g, "llama.attention.head_count_kv", 1);
    put_random(&g, &r, k, "token_embd.weight", 0, VOCAB, WIDTH);
    put_norm(&g, "output_norm.weight", WIDTH);
    put_norm(&g, "blk.0.attn_norm.weight", WIDTH);
    put_norm(&g, "blk.0.ffn_norm.weight", WIDTH);
    put_random(&g, &r, k, "blk.0.attn_q.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_k.weight", 0, WIDTH / HEADS, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_v.weight", 0, WIDTH / HEADS, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_output.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_gate.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_up.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_down.weight", 0, WIDTH, WIDTH);
    return gguf_finish(&g, n, NULL); /* no output.weight: tied */
}

/* latents and value heads of 256, rope 32; k_b and v_b, or kv_b */
static uint8_t *moe_model(int k, bool whole, size_t *n)
{
    static const struct {
        const char *key;
        uint32_t    v;
    } INTS[] = {{"attention.q_lora_rank", 256}, {"attention.kv_lora_rank", 256}, {"rope.dimension_count", 32}, {"expert_count", EXPERTS},
                {"expert_used_count", 2}, {"expert_shared_count", 1}, {"expert_feed_forward_length", WIDTH}, {"leading_dense_block_count", 0}};
    Gguf g;
    Rng  r = {8, (uint64_t)(k + 1), 0};
    char key[96];
    gguf_start(&g);
    put_shape(&g, "deepseek2");
    for (size_t i = 0; i < ARRAY_LEN(INTS); i++) {
        snprintf(key, sizeof key, "deepseek2.%s", INTS[i].key);
        put_kv_u32(&g, key, INTS[i].v);
    }
    put_kv_u32(&g, "deepseek2.attention.key_length", 256 + 32); /* absorbed and per head the same here */
    put_kv_u32(&g, "deepseek2.attention.value_length", 256);
    if (!whole) put_kv_u32(&g, "deepseek2.attention.key_length_mla", 256 + 32);
    if (!whole) put_kv_u32(&g, "deepseek2.attention.value_length_mla", 256);
    put_random(&g, &r, k, "token_embd.weight", 0, VOCAB, WIDTH);
    put_random(&g, &r, k, "output.weight", 0, VOCAB, WIDTH);
    put_norm(&g, "output_norm.weight", WIDTH);
    put_norm(&g, "blk.0.attn_norm.weight", WIDTH);
    put_norm(&g, "blk.0.ffn_norm.weight", WIDTH);
    put_norm(&g, "blk.0.attn_q_a_norm.weight", 256);
    put_norm(&g, "blk.0.attn_kv_a_norm.weight", 256);
    put_norm(&g, "blk.0.exp_probs_b.bias", EXPERTS);
    put_random(&g, &r, k, "blk.0.attn_q_a.weight", 0, 256, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_q_b.weight", 0, HEADS * (256 + 32), 256);
    put_random(&g, &r, k, "blk.0.attn_kv_a_mqa.weight", 0, 256 + 32, WIDTH);
    if (whole) put_random(&g, &r, k, "blk.0.attn_kv_b.weight", 0, HEADS * (256 + 256), 256);
    if (!whole) put_random(&g, &r, k, "blk.0.attn_k_b.weight", HEADS, 256, 256);
    if (!whole) put_random(&g, &r, k, "blk.0.attn_v_b.weight", HEADS, 256, 256);
    put_random(&g, &r, k, "blk.0.attn_output.weight", 0, WIDTH, HEADS * 256);
    put_random(&g, &r, -1, "blk.0.ffn_gate_inp.weight", 0, EXPERTS, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_gate_exps.weight", EXPERTS, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_up_exps.weight", EXPERTS, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_down_exps.weight", EXPERTS, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_gate_shexp.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_up_shexp.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_down_shexp.weight", 0, WIDTH, WIDTH);
    return gguf_finish(&g, n, NULL);
}

static Model *open_bytes(const uint8_t *b, size_t n, bool decoded)
{
    WeightFile *w;
    Config      c;
    Model      *m;
    aha_error   e = {0};
    ASSERT_OK(weights_open_memory(&w, "made.gguf", b, n, &e), e);
    ASSERT_OK(config_from_gguf(&c, w, "made.gguf", &e), e);
    ASSERT_OK(model_bind(&m, &c, w, &(ModelOptions){.decoded = decoded}, &e), e);
    return m;
}

static void same_bits(const uint8_t *b, size_t n, const char *what)
{
    static const int32_t TOKEN[] = {1, 63, 0, 17, 17, 40, 2, 3, 5, 8, 13, 21, 34, 55, 60};
    const Kernels       *k[8];
    int                  n_k = cpu_kernels_all(k, 8), T = ARRAY_LEN(TOKEN);
    Model               *coded = open_bytes(b, n, false), *plain = open_bytes(b, n, true);
    assert_true(dtype_is_coded(coded->embed.dtype) && plain->embed.dtype == DT_F32);
    float *want = logits_of(plain, k[0], TOKEN, T, NULL);
    for (int i = 0; i < T * VOCAB; i++)
        if (!isfinite(want[i])) fail_msg("%s: logit %d is %g", what, i, (double)want[i]);
    for (int j = 0; j < n_k; j++) {
        float *y = logits_of(coded, k[j], TOKEN, T, NULL);
        for (int i = 0; i < T * VOCAB; i++)
            if (y[i] != want[i]) fail_msg("%s, %s: logit %d is %.9g, of decoded weights %.9g", what, k[j]->isa, i, (double)y[i], (double)want[i]);
        mem_free(y);
    }
    mem_free(want);
    model_free(coded);
    model_free(plain);
}

static void block_types(void **state)
{
    (void)state;
    for (int k = 0; k < QUANT_TYPES; k++)
        for (int form = 0; form < 3; form++) {
            size_t   n;
            uint8_t *b = form == 0 ? dense_model(k, &n) : moe_model(k, form == 1, &n);
            char     what[64];
            snprintf(what, sizeof what, "%s, form %d", dtype_info(QUANT_SCALES[k].type)->name, form);
            same_bits(b, n, what);
            free(b);
        }
}

/* ---- refusals ---- */
static int try_model(Gguf *g, aha_error *e)
{
    WeightFile *w = NULL;
    Config      c;
    Model      *m = NULL;
    size_t      n;
    uint8_t    *b = gguf_finish(g, &n, NULL);
    *e = (aha_error){0};
    int rc = weights_open_memory(&w, "made.gguf", b, n, e);
    if (rc == 0) rc = config_from_gguf(&c, w, "made.gguf", e);
    if (rc == 0) rc = model_bind(&m, &c, w, NULL, e);
    if (rc) weights_close(w);
    model_free(m);
    free(b);
    return rc;
}

/* a metadata key of a llama model: u32 values that are refused, and what the message says */
static void metadata(void **state)
{
    static const struct {
        const char *key;
        uint32_t    v;
        const char *says;
    } BAD[] = {
        {"block_count", 0, "llama.block_count here"}, {"block_count", UINT32_MAX, "block_count"}, {"block_count", 1000000000, "llama.block_count here"},
        {"embedding_length", 0, "embedding_length here"}, {"attention.head_count", 0, "head_count here"}, {"attention.head_count", 1000000, "head_count here"},
        {"attention.head_count_kv", 0, "head_count_kv here"}, {"attention.head_count_kv", 3, "head_count_kv here"}, {"feed_forward_length", 0, "feed_forward_length here"},
        {"context_length", 0, "context_length here"}, {"attention.key_length", 0, "key_length here"}, {"attention.key_length", 7, "key_length"},
        {"attention.value_length", 64, "llama.attention.value_length: got 64"}, {"rope.dimension_count", 64, "llama.rope.dimension_count: got 64"},
        {"expert_count", 8, "llama.expert_count: got 8"}, {"vocab_size", 0, "vocab_size"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        static const char *const KEY[] = {"block_count", "embedding_length", "attention.head_count", "attention.head_count_kv", "feed_forward_length", "context_length", "vocab_size"};
        static const uint32_t    VALUE[] = {1, 64, 4, 2, 64, 64, 32};
        Gguf      g;
        aha_error e;
        char      key[96];
        bool      put = false;
        for (int absent = 0; absent < 2; absent++) {
            gguf_start(&g);
            put_kv_str(&g, "general.architecture", "llama");
            put_kv_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
            for (size_t k = 0; k < ARRAY_LEN(KEY); k++) {
                bool it = strcmp(KEY[k], BAD[i].key) == 0;
                snprintf(key, sizeof key, "llama.%s", KEY[k]);
                if (!it || !absent) put_kv_u32(&g, key, it ? BAD[i].v : VALUE[k]);
                put |= it;
            }
            snprintf(key, sizeof key, "llama.%s", BAD[i].key);
            if (!put) put_kv_u32(&g, key, BAD[i].v);
            int rc = try_model(&g, &e);
            if (!rc || (!absent && !strstr(e.text, BAD[i].says))) fail_msg("%s %u: got %d \"%s\", expected \"%s\"", BAD[i].key, BAD[i].v, rc, e.text, BAD[i].says);
        }
    }
}

static void strings_and_kinds(void **state)
{
    Gguf      g;
    aha_error e;
    (void)state;
    gguf_start(&g);
    put_kv_str(&g, "general.architecture", "gpt2");
    assert_int_equal(try_model(&g, &e), AHA_ERR_UNSUPPORTED);
    assert_string_equal(e.text, "made.gguf: general.architecture: got \"gpt2\", expected llama, qwen2, qwen3 or deepseek2");
    gguf_start(&g);
    put_kv_u32(&g, "general.architecture", 1);
    assert_int_equal(try_model(&g, &e), AHA_ERR_FORMAT);
    gguf_start(&g);
    assert_int_equal(try_model(&g, &e), AHA_ERR_FORMAT);
    assert_true(strstr(e.text, "absent"));
    gguf_start(&g); /* a scaling that is not computed */
    put_shape(&g, "llama");
    put_kv_u32(&g, "llama.vocab_size", VOCAB);
    put_kv_str(&g, "llama.rope.scaling.type", "longrope");
    assert_int_equal(try_model(&g, &e), AHA_ERR_UNSUPPORTED);
    assert_true(strstr(e.text, "longrope"));
    gguf_start(&g); /* no tensors, which alone is missing */
    put_shape(&g, "llama");
    put_kv_u32(&g, "llama.vocab_size", VOCAB);
    assert_int_equal(try_model(&g, &e), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "the weights lack token_embd.weight");
    gguf_start(&g); /* more experts than there are bytes */
    put_shape(&g, "deepseek2");
    put_kv_u32(&g, "deepseek2.vocab_size", VOCAB);
    put_kv_u32(&g, "deepseek2.attention.kv_lora_rank", 8);
    put_kv_u32(&g, "deepseek2.attention.key_length", 12);
    put_kv_u32(&g, "deepseek2.attention.value_length", 8);
    put_kv_u32(&g, "deepseek2.rope.dimension_count", 4);
    put_kv_u32(&g, "deepseek2.expert_count", 65536);
    put_kv_u32(&g, "deepseek2.expert_used_count", 2);
    put_kv_u32(&g, "deepseek2.expert_feed_forward_length", 8);
    put_kv_u32(&g, "deepseek2.leading_dense_block_count", 0);
    put_tensor(&g, "token_embd.weight", DT_F32, 0, 8, 8, (const float[64]){0}, 256);
    assert_int_equal(try_model(&g, &e), AHA_ERR_FORMAT);
    assert_true(strstr(e.text, "65536 experts"));
}

/* The defaults that R1's files need, and both layouts of the heads' lengths. */
static void r1_defaults(void **state)
{
    for (int absorbed = 0; absorbed < 2; absorbed++) {
        Gguf        g;
        size_t      n;
        WeightFile *w;
        Config      c;
        aha_error   e = {0};
        static const struct {
            const char *key;
            uint32_t    v[2];
        } INTS[] = {
            {"block_count", {61, 61}}, {"context_length", {163840, 163840}}, {"embedding_length", {7168, 7168}}, {"feed_forward_length", {18432, 18432}},
            {"leading_dense_block_count", {3, 3}}, {"vocab_size", {129280, 129280}}, {"expert_count", {256, 256}}, {"expert_used_count", {8, 8}},
            {"expert_shared_count", {1, 1}}, {"expert_feed_forward_length", {2048, 2048}}, {"expert_gating_func", {2, 2}},
            {"attention.head_count", {128, 128}}, {"attention.q_lora_rank", {1536, 1536}}, {"attention.kv_lora_rank", {512, 512}},
            {"rope.dimension_count", {64, 64}}, {"attention.head_count_kv", {128, 1}}, {"attention.key_length", {192, 576}},
            {"attention.value_length", {128, 512}}, {"rope.scaling.original_context_length", {4096, 4096}},
        };
        gguf_start(&g);
        put_kv_str(&g, "general.architecture", "deepseek2");
        for (size_t i = 0; i < ARRAY_LEN(INTS); i++) {
            char key[96];
            snprintf(key, sizeof key, "deepseek2.%s", INTS[i].key);
            put_kv_u32(&g, key, INTS[i].v[absorbed]);
        }
        if (absorbed) put_kv_u32(&g, "deepseek2.attention.key_length_mla", 192);
        if (absorbed) put_kv_u32(&g, "deepseek2.attention.value_length_mla", 128);
        put_kv_f32(&g, "deepseek2.attention.layer_norm_rms_epsilon", 1e-6f);
        put_kv_f32(&g, "deepseek2.expert_weights_scale", 2.5f);
        put_kv_bool(&g, "deepseek2.expert_weights_norm", true);
        put_kv_f32(&g, "deepseek2.rope.freq_base", 10000);
        put_kv_str(&g, "deepseek2.rope.scaling.type", "yarn");
        put_kv_f32(&g, "deepseek2.rope.scaling.factor", 40);
        put_kv_f32(&g, "deepseek2.rope.scaling.yarn_log_multiplier", 0.1f);
        put_kv_u32(&g, "tokenizer.ggml.bos_token_id", 0);
        put_kv_u32(&g, "tokenizer.ggml.eos_token_id", 1);
        put_tensor(&g, "blk.3.exp_probs_b.bias", DT_F32, 0, 0, 256, (const float[256]){0}, 1024);
        put_tensor(&g, "output.weight", DT_F32, 0, 0, 1, &(float){0}, 4);
        uint8_t *b = gguf_finish(&g, &n, NULL);
        (void)state;
        ASSERT_OK(weights_open_memory(&w, "r1.gguf", b, n, &e), e);
        ASSERT_OK(config_from_gguf(&c, w, "r1.gguf", &e), e);
        Config want;
        ASSERT_OK(config_read(&want, "tests/data/configs/DeepSeek-R1.config.json", &e), e);
        assert_true(fabs(c.rms_eps - 1e-6) < 1e-13);
        c.rms_eps = want.rms_eps; /* f32 in the file */
        want.n_mtp = 0;           /* not in these files */
        want.fp8 = false;
        assert_true(fabs(attn_softmax_scale(&c) - 0.1352337789) < 1e-9);
        assert_memory_equal(&c, &want, sizeof c);
        weights_close(w);
        free(b);
    }
}

static void not_trained_not_saved(void **state)
{
    Model    *m = NULL;
    aha_error e = {0};
    (void)state;
    assert_int_equal(model_open(&m, "tests/gguf/llama.gguf", &(ModelOptions){.trainable = true}, &e), AHA_ERR_UNSUPPORTED);
    assert_null(m);
    m = open_path("tests/gguf/llama.gguf");
    assert_int_equal(model_save(m, "/tmp/aha-gguf-never", DT_F32, &e), AHA_ERR_UNSUPPORTED);
    assert_false(dir_exists("/tmp/aha-gguf-never"));
    bool used[256];
    ASSERT_OK(model_mark_used(m, used, &e), e);
    for (int i = 0; i < weights_count(m->file); i++) assert_true(used[i]);
    model_free(m);
    assert_int_equal(model_open(&m, "tests/golden/llama/model.safetensors", NULL, &e), AHA_ERR_FORMAT);
}

/* ---- F8 scales ---- */
typedef struct F8Case {
    const char *says;
    float       scale[4];
    int         rows, cols; /* of the scales; 0: absent */
} F8Case;

static void f8_scales(void **state)
{
    static const F8Case CASES[] = {
        {NULL, {1, 2, 0.5f, 0}, 2, 2}, {"lack", {0}, 0, 0}, {"[1, 2]", {1, 1}, 1, 2}, {"[2, 1]", {1, 1}, 2, 1}, {"nan", {1, 1, NAN, 1}, 2, 2},
        {"inf", {1, INFINITY, 1, 1}, 2, 2}, {"-1", {1, 1, 1, -1}, 2, 2},
    };
    static uint8_t  f8[130 * 130];
    static uint16_t bf[130];
    aha_error       e = {0};
    Config          c;
    (void)state;
    static const char CONFIG[] = "{\"model_type\": \"llama\", \"hidden_size\": 130, \"num_hidden_layers\": 1, \"num_attention_heads\": 1, \"intermediate_size\": 130, \"vocab_size\": 130}";
    static const char *const F8[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    ASSERT_OK(config_parse(&c, CONFIG, strlen(CONFIG), "c", &e), e);
    for (size_t i = 0; i < sizeof f8; i++) f8[i] = (uint8_t)(i % 100);
    for (size_t i = 0; i < ARRAY_LEN(bf); i++) bf[i] = 0x3f80;
    for (size_t k = 0; k < ARRAY_LEN(CASES); k++) {
        TensorInfo  t[24];
        char        name[24][96];
        int         n = 0;
        const float one[4] = {1, 1, 1, 1};
        for (size_t i = 0; i < ARRAY_LEN(F8); i++) {
            snprintf(name[n], 96, "model.layers.0.%s.weight", F8[i]);
            t[n] = (TensorInfo){.name = name[n], .dtype = DT_F8_E4M3, .n_dims = 2, .dim = {130, 130}, .data = f8, .bytes = sizeof f8}, n++;
            const F8Case *s = &CASES[i == 2 ? k : 0];
            if (!s->rows) continue;
            snprintf(name[n], 96, "model.layers.0.%s.weight_scale_inv", F8[i]);
            t[n] = (TensorInfo){.name = name[n], .dtype = DT_F32, .n_dims = 2, .dim = {s->rows, s->cols}, .data = i == 2 ? s->scale : one,
                                .bytes = (size_t)(s->rows * s->cols) * 4}, n++;
        }
        static const char *const VEC[] = {"model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight", "model.norm.weight"};
        for (size_t i = 0; i < ARRAY_LEN(VEC); i++) t[n++] = (TensorInfo){.name = VEC[i], .dtype = DT_BF16, .n_dims = 1, .dim = {130}, .data = bf, .bytes = 260};
        static const char *const TOP[] = {"model.embed_tokens.weight", "lm_head.weight"};
        static float             top[130 * 130];
        for (size_t i = 0; i < ARRAY_LEN(TOP); i++)
            t[n++] = (TensorInfo){.name = TOP[i], .dtype = DT_F32, .n_dims = 2, .dim = {130, 130}, .data = top, .bytes = sizeof top};
        ASSERT_OK(safetensors_write("/tmp/aha-f8.safetensors", t, n, NULL, &e), e);
        WeightFile *w;
        Model      *m;
        ASSERT_OK(weights_open(&w, "/tmp/aha-f8.safetensors", &e), e);
        int rc = model_bind(&m, &c, w, NULL, &e);
        if (CASES[k].says) {
            assert_int_equal(rc, AHA_ERR_FORMAT);
            if (!strstr(e.text, CASES[k].says) || !strstr(e.text, "self_attn.v_proj.weight_scale_inv")) fail_msg("case %zu: \"%s\"", k, e.text);
            weights_close(w);
        } else {
            ASSERT_OK(rc, e);
            assert_true(m->layer[0].v.dtype == DT_F8_E4M3 && m->layer[0].v.scale[1] == 2);
            model_free(m);
        }
    }
    unlink("/tmp/aha-f8.safetensors");
}

static void each_call_fails(void **state)
{
    static const char *const PATH[] = {"tests/gguf/llama-llama3-tied.gguf", "tests/golden/deepseek_v3-fp8"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(PATH); i++)
        for (uint64_t nth = 1;; nth++) {
            Model    *m = NULL;
            aha_error e = {0};
            os_fault_arm(OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_READ | OS_FAULT_MAP, nth);
            int      rc = model_open(&m, PATH[i], NULL, &e);
            uint64_t seen = os_fault_seen();
            os_fault_arm(0, 0);
            assert_true((rc == 0) == (m != NULL));
            model_free(m);
            if (seen < nth) break;
            assert_true(rc == 0 || e.text[0]);
        }
}

static int setup(void **state)
{
    aha_error e = {0};
    (void)state;
    return (g_pool = pool_new(2, &e)) ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    pool_free(g_pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),     cmocka_unit_test(layouts_agree),         cmocka_unit_test(block_types), cmocka_unit_test(metadata), cmocka_unit_test(strings_and_kinds),
        cmocka_unit_test(r1_defaults), cmocka_unit_test(not_trained_not_saved), cmocka_unit_test(f8_scales),   cmocka_unit_test(each_call_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
