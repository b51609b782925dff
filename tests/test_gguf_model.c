/* Models from GGUF: the golden checkpoints as gguf files (tools/gguf_golden.py) give transformers' logits; models of every
 * block type, made here, give the bits of their decoded weights; the scales of F8. */
#include <math.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "blocklib.h"
#include "model/model.h"
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
        b.n = n - 1;
        b.hidden = normed.data;
        logits = model_logits(&c, m, model_draft(&c, m, &b, NULL));
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
static void same_bits(const uint8_t *b, size_t n, const char *what)
{
    static const int32_t TOKEN[] = {1, 63, 0, 17, 17, 40, 2, 3, 5, 8, 13, 21, 34, 55, 60};
    const Kernels       *k[8];
    int                  n_k = cpu_kernels_all(k, 8), T = ARRAY_LEN(TOKEN);
    Model               *coded = block_model_open(b, n, false), *plain = block_model_open(b, n, true);
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
            uint8_t *b = form == 0 ? block_model_dense(k, &n) : block_model_moe(k, form == 1, &n);
            char     what[64];
            snprintf(what, sizeof what, "%s, form %d", dtype_info(QUANT_SCALES[k].type)->name, form);
            same_bits(b, n, what);
            free(b);
        }
}

/* d(sum of log p) / d(each weight), into buffers by id */
static float **gradients_of(const Model *m)
{
    static const int32_t TOKEN[] = {1, 63, 0, 17, 17, 40, 2}, NEXT[] = {63, 0, 17, 17, 40, 2, 5}, POS[] = {0, 1, 2, 3, 4, 5, 6}, SEQ[7] = {0};
    const Kernels       *k[8];
    int                  n = cpu_kernels_all(k, 8);
    Batch                b = {.n = 7, .token = TOKEN, .pos = POS, .seq = SEQ};
    float              **g = mem_zalloc((size_t)m->n_weight, sizeof *g);
    Ctx                  c;
    Tape                 t;
    aha_error            e = {0};
    for (int i = 0; i < m->n_weight; i++) g[i] = mem_zalloc((size_t)m->weight[i]->rows * (size_t)m->weight[i]->cols, sizeof(float));
    ASSERT_OK(ctx_init(&c, k[n - 1], g_pool, (size_t)16 << 20, (size_t)8 << 20, &e), e);
    ASSERT_OK(tape_init(&t, c.arena.cap, g, m->n_weight, true, &e), e);
    c.tape = &t;
    Tensor logp = logprob(&c, model_final_norm(&c, m, model_hidden(&c, m, &b, NULL)), &m->head, NEXT);
    tape_zero(&c);
    for (int i = 0; i < 7; i++) tape_grad(&c, logp.data)[2 * i] = 1;
    tape_backward(&c);
    if (ctx_failed(&c)) fail_msg("%s", c.err.text);
    tape_free(&t);
    ctx_free(&c);
    return g;
}

/* Through coded weights the same gradients reach the others as through decoded ones; coded weights keep none. */
static void check_frozen(const Model *coded, const Model *plain)
{
    float **a = gradients_of(coded), **b = gradients_of(plain);
    int     kept = 0, frozen = 0;
    assert_int_equal(coded->n_weight, plain->n_weight);
    for (int i = 0; i < coded->n_weight; i++) {
        const Weight *w = coded->weight[i];
        bool          f = dtype_is_coded(w->dtype);
        double        size = 0;
        for (int64_t j = 0; j < (int64_t)w->rows * w->cols; j++) {
            if (f ? a[i][j] != 0 : a[i][j] != b[i][j]) fail_msg("%s: gradient %g, through decoded weights %g", w->name, (double)a[i][j], (double)b[i][j]);
            size += fabs((double)a[i][j]);
        }
        kept += !f && size > 0;
        frozen += f;
        mem_free(a[i]);
        mem_free(b[i]);
    }
    assert_true(kept >= 5 && frozen >= 8);
    mem_free(a);
    mem_free(b);
}

static void frozen(void **state)
{
    static const char FP8[] = "tests/golden/deepseek_v3-fp8";
    Model            *coded = open_path(FP8), *plain;
    aha_error         e = {0};
    (void)state;
    ASSERT_OK(model_open(&plain, FP8, &(ModelOptions){.decoded = true}, &e), e);
    check_frozen(coded, plain);
    model_free(coded);
    model_free(plain);
    for (int whole = 0; whole < 2; whole++) {
        size_t   n;
        uint8_t *bytes = block_model_moe(7 + whole, whole, &n); /* Q4_K, Q5_K */
        coded = block_model_open(bytes, n, false);
        plain = block_model_open(bytes, n, true);
        check_frozen(coded, plain);
        model_free(coded);
        model_free(plain);
        free(bytes);
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
    char            path[64];
    (void)state;
    snprintf(path, sizeof path, "/tmp/aha-f8-%d.safetensors", (int)getpid());
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
        ASSERT_OK(safetensors_write(path, t, n, NULL, &e), e);
        WeightFile *w;
        Model      *m;
        ASSERT_OK(weights_open(&w, path, &e), e);
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
    unlink(path);
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
        cmocka_unit_test(goldens),     cmocka_unit_test(layouts_agree),         cmocka_unit_test(block_types),
        cmocka_unit_test(not_trained_not_saved), cmocka_unit_test(frozen), cmocka_unit_test(f8_scales),   cmocka_unit_test(each_call_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
