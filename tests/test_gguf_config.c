/* Configs from GGUF's metadata: the defaults that files in use need, and what is refused. */
#include <math.h>

#include "gguflib.h"
#include "model/model.h"
#include "testlib.h"

enum { VOCAB = 64 };

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
    put_shape(&g, "llama", 256, 2);
    put_kv_u32(&g, "llama.vocab_size", VOCAB);
    put_kv_str(&g, "llama.rope.scaling.type", "longrope");
    assert_int_equal(try_model(&g, &e), AHA_ERR_UNSUPPORTED);
    assert_true(strstr(e.text, "longrope"));
    gguf_start(&g); /* no tensors, which alone is missing */
    put_shape(&g, "llama", 256, 2);
    put_kv_u32(&g, "llama.vocab_size", VOCAB);
    assert_int_equal(try_model(&g, &e), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "the weights lack token_embd.weight");
    gguf_start(&g); /* more experts than there are bytes */
    put_shape(&g, "deepseek2", 256, 2);
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

/* deepseek2: one key of a sound set changed at a time; value -1: left out */
static void metadata_mla(void **state)
{
    static const struct {
        const char *key;
        int64_t     v;
    } GOOD[] = {
        {"attention.kv_lora_rank", 32}, {"attention.q_lora_rank", 16}, {"rope.dimension_count", 4}, {"attention.head_count_kv", 1}, {"attention.key_length", 36},
        {"attention.value_length", 32}, {"attention.key_length_mla", 12}, {"attention.value_length_mla", 8}, {"leading_dense_block_count", 0}, {"expert_count", 8},
        {"expert_used_count", 2}, {"expert_shared_count", 1}, {"expert_feed_forward_length", 32}, {"expert_gating_func", 2}, {"expert_group_count", 4},
        {"expert_group_used_count", 2}, {"vocab_size", 64},
    };
    static const struct {
        const char *key;
        int64_t     v;
        const char *says; /* NULL: taken */
    } CASES[] = {
        {"vocab_size", 64, NULL}, {"attention.q_lora_rank", -1, NULL}, {"attention.head_count_kv", -1, NULL}, {"expert_shared_count", -1, NULL},
        {"expert_count", 0, NULL}, {"expert_count", -1, NULL}, {"expert_gating_func", -1, NULL}, {"attention.kv_lora_rank", -1, "kv_lora_rank: absent"},
        {"attention.kv_lora_rank", 0, "key_length: got 36"}, {"rope.dimension_count", 3, "key_length: got 36"}, {"rope.dimension_count", -1, "dimension_count: absent"},
        {"attention.head_count_kv", 2, "head_count_kv: got 2, expected 1"}, {"attention.key_length", 12, "key_length: got 12, expected 36"},
        {"attention.value_length", 8, "value_length: got 8, expected 32"}, {"attention.key_length_mla", 4, "dimension_count: got 4, expected 3"},
        {"attention.value_length_mla", -1, "value_length_mla: absent"}, {"attention.value_length_mla", 0, "v_head_dim"}, {"expert_used_count", 9, "expert_used_count here"},
        {"expert_used_count", 0, "expert_used_count here"}, {"expert_used_count", -1, "expert_used_count: absent"}, {"expert_count", 1000000000, "expert_count here"},
        {"expert_count", 7, "expert_group_count here"}, {"expert_group_count", 3, "expert_group_count here"}, {"expert_group_count", 0, "expert_group_count here"},
        {"expert_group_used_count", 5, "expert_group_used_count here"}, {"expert_gating_func", 3, "expert_gating_func: got 3"},
        {"expert_feed_forward_length", 0, "expert_feed_forward_length here"}, {"leading_dense_block_count", 5000, "leading_dense_block_count here"},
        {"nextn_predict_layers", 1, "block_count here"}, {"block_count", 0, "twice"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        Gguf        g;
        WeightFile *w;
        Config      c;
        aha_error   e = {0};
        size_t      n;
        bool        known = false;
        char        key[96];
        gguf_start(&g);
        put_shape(&g, "deepseek2", 64, 2);
        for (size_t k = 0; k < ARRAY_LEN(GOOD); k++) {
            bool    it = strcmp(GOOD[k].key, CASES[i].key) == 0;
            int64_t v = it ? CASES[i].v : GOOD[k].v;
            known |= it;
            snprintf(key, sizeof key, "deepseek2.%s", GOOD[k].key);
            if (v >= 0) put_kv_u32(&g, key, (uint32_t)v);
        }
        snprintf(key, sizeof key, "deepseek2.%s", CASES[i].key);
        if (!known) put_kv_u32(&g, key, (uint32_t)CASES[i].v);
        put_tensor(&g, "blk.0.exp_probs_b.bias", DT_F32, 0, 0, 8, (const float[8]){0}, 32);
        uint8_t *b = gguf_finish(&g, &n, NULL);
        int      rc = weights_open_memory(&w, "made.gguf", b, n, &e);
        if (rc == 0) rc = config_from_gguf(&c, w, "made.gguf", &e);
        if ((rc == 0) != !CASES[i].says || (rc && !strstr(e.text, CASES[i].says)))
            fail_msg("%s %lld: got %d \"%s\", expected \"%s\"", CASES[i].key, (long long)CASES[i].v, rc, e.text, CASES[i].says ? CASES[i].says : "");
        weights_close(w);
        free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(metadata), cmocka_unit_test(metadata_mla), cmocka_unit_test(strings_and_kinds), cmocka_unit_test(r1_defaults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
