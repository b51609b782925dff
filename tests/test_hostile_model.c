/* Whole models from hostile hands: every scale of an F8 model, every count of GGUF's metadata, templates that nobody knows, and
 * every call on the way in failing in turn, for each form that a model comes in. */
#include <dirent.h>
#include <math.h>
#include <unistd.h>

#include "gguflib.h"
#include "infer/infer.h"
#include "testlib.h"

static char g_dir[64];

static const char *in_dir(const char *name)
{
    static char path[4][160];
    static int  k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", g_dir, name);
    return path[k];
}

/* ---- F8 ---- */
static const char FP8[] = "tests/golden/deepseek_v3-fp8";

/* The model out of these bytes: refused, with a message that names the tensor. */
static void scale_refused(const Config *c, const uint8_t *b, size_t n, const char *name, const char *what)
{
    WeightFile *w;
    Model      *m = NULL;
    aha_error   e = {0};
    ASSERT_OK(weights_open_memory(&w, "fp8", b, n, &e), e);
    assert_int_equal(model_bind(&m, c, w, NULL, &e), AHA_ERR_FORMAT);
    if (m || !strstr(e.text, name)) fail_msg("%s, %s: \"%s\"", name, what, e.text);
    weights_close(w);
}

/* Each scale of the file in turn: no number, infinite, negative, at either end; of another shape; absent. */
static void every_scale(void **state)
{
    static const float BAD[] = {NAN, INFINITY, -INFINITY, -1e-30f};
    char               path[128], *text;
    size_t             n;
    aha_error          e = {0};
    Config             c;
    WeightFile        *w;
    int                seen = 0;
    (void)state;
    snprintf(path, sizeof path, "%s/model.safetensors", FP8);
    ASSERT_OK(file_read_all(path, 1 << 20, &text, &n, &e), e);
    snprintf(path, sizeof path, "%s/config.json", FP8);
    ASSERT_OK(config_read(&c, path, &e), e);
    ASSERT_OK(weights_open_memory(&w, "fp8", text, n, &e), e);
    uint8_t *b = malloc(n);
    for (int i = 0; i < weights_count(w); i++) {
        const TensorInfo *t = weights_at(w, i);
        size_t            at = (size_t)((const char *)t->data - text), count = t->bytes / sizeof(float);
        char              key[200], shape[32];
        if (!strstr(t->name, "_scale_inv")) continue;
        seen++;
        for (size_t v = 0; v < ARRAY_LEN(BAD); v++)
            for (size_t last = 0; last < 2; last++) {
                memcpy(b, text, n);
                memcpy(b + at + last * (count - 1) * sizeof(float), &BAD[v], sizeof(float));
                scale_refused(&c, b, n, t->name, "a number");
            }
        memcpy(b, text, n);
        snprintf(key, sizeof key, "\"%s\"", t->name);
        char *in = memmem(b, n, key, strlen(key));
        assert_non_null(in);
        in[strlen(key) - 2] = 'w'; /* ..._scale_inw */
        scale_refused(&c, b, n, t->name, "absent");
        in[strlen(key) - 2] = 'v';
        snprintf(shape, sizeof shape, "[%lld,%lld]", (long long)t->dim[0], (long long)t->dim[1]);
        char *dims = strstr(in, shape);
        assert_non_null(dims);
        if (t->dim[0] == t->dim[1]) memcpy(dims, "[  ", 3); /* one dimension */
        else snprintf(shape, sizeof shape, "[%lld,%lld]", (long long)t->dim[1], (long long)t->dim[0]), memcpy(dims, shape, strlen(shape));
        scale_refused(&c, b, n, t->name, "another shape");
    }
    assert_true(seen >= 20);
    weights_close(w);
    free(b);
    mem_free(text);
}

/* ---- GGUF's counts ---- */
typedef struct Count {
    const char *key;
    uint32_t    good;
    bool        may_be_0;
} Count;
static const Count DENSE[] = {{"block_count", 1, false}, {"embedding_length", 64, false}, {"attention.head_count", 4, false}, {"attention.head_count_kv", 2, false},
                              {"feed_forward_length", 64, false}, {"context_length", 64, false}, {"attention.key_length", 16, false},
                              {"attention.value_length", 16, false}, {"rope.dimension_count", 16, false}, {"vocab_size", 64, false}, {"expert_count", 0, true}};
static const Count MLA[] = {{"block_count", 2, false}, {"embedding_length", 64, false}, {"attention.head_count", 2, false}, {"feed_forward_length", 64, false},
                            {"context_length", 64, false}, {"attention.kv_lora_rank", 32, false}, {"attention.q_lora_rank", 16, true},
                            {"rope.dimension_count", 4, false}, {"attention.head_count_kv", 1, false}, {"attention.key_length", 36, false},
                            {"attention.value_length", 32, false}, {"attention.key_length_mla", 12, false}, {"attention.value_length_mla", 8, false},
                            {"leading_dense_block_count", 0, true}, {"expert_count", 8, true}, {"expert_used_count", 2, false}, {"expert_shared_count", 1, true},
                            {"expert_feed_forward_length", 32, false}, {"expert_group_count", 4, false}, {"expert_group_used_count", 2, false},
                            {"expert_gating_func", 2, false}, {"nextn_predict_layers", 0, true}, {"vocab_size", 64, false}};
static const struct Value {
    uint32_t type;
    uint64_t v;
} VALUES[] = {{GGUF_U32, 0}, {GGUF_I32, 0xffffffff}, {GGUF_I64, UINT64_MAX}, {GGUF_U32, 0xffffffff}, {GGUF_U32, 1000000000}, {GGUF_I64, (uint64_t)1 << 63},
              {GGUF_U64, (uint64_t)1 << 32}, {GGUF_U64, UINT64_MAX}, {GGUF_F32, 0x40000000}, {GGUF_BOOL, 1}, {GGUF_STRING, 0}, {GGUF_ARRAY, 0}};

static int config_with(const char *arch, const Count *count, size_t n, size_t changed, const struct Value *v, aha_error *e)
{
    Gguf        g;
    WeightFile *w;
    Config      c;
    size_t      bytes;
    char        key[96];
    gguf_start(&g);
    put_kv_str(&g, "general.architecture", arch);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    put_kv_f32(&g, key, 1e-6f);
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, count[i].key);
        if (i != changed) {
            put_kv_u32(&g, key, count[i].good);
            continue;
        }
        put_key_type(&g, key, v->type);
        if (v->type == GGUF_ARRAY) put_u32(&g.kv, GGUF_U8); /* of no elements */
        buf_add(&g.kv, &v->v, v->type == GGUF_BOOL ? 1 : v->type == GGUF_U32 || v->type == GGUF_I32 || v->type == GGUF_F32 ? 4 : 8);
    }
    put_tensor(&g, "blk.0.exp_probs_b.bias", DT_F32, 0, 0, 8, (const float[8]){0}, 32);
    uint8_t *b = gguf_finish(&g, &bytes, NULL);
    *e = (aha_error){0};
    int rc = weights_open_memory(&w, "made.gguf", b, bytes, e);
    if (rc) fail_msg("%s", e->text);
    rc = config_from_gguf(&c, w, "made.gguf", e);
    weights_close(w);
    free(b);
    return rc;
}

static void every_count_of(const char *arch, const Count *count, size_t n)
{
    aha_error e;
    ASSERT_OK(config_with(arch, count, n, n, NULL, &e), e);
    for (size_t i = 0; i < n; i++)
        for (size_t v = 0; v < ARRAY_LEN(VALUES); v++) {
            if (VALUES[v].type == GGUF_U32 && VALUES[v].v == 0 && count[i].may_be_0) continue;
            int rc = config_with(arch, count, n, i, &VALUES[v], &e);
            if (rc != AHA_ERR_FORMAT && rc != AHA_ERR_UNSUPPORTED && rc != AHA_ERR_LIMIT)
                fail_msg("%s.%s of type %u, %llu: %d", arch, count[i].key, VALUES[v].type, (unsigned long long)VALUES[v].v, rc);
            if (!strstr(e.text, "made.gguf")) fail_msg("%s.%s: \"%s\"", arch, count[i].key, e.text);
        }
}

static void every_count(void **state)
{
    (void)state;
    every_count_of("llama", DENSE, ARRAY_LEN(DENSE));
    every_count_of("qwen2", DENSE, ARRAY_LEN(DENSE));
    every_count_of("qwen3", DENSE, ARRAY_LEN(DENSE));
    every_count_of("deepseek2", MLA, ARRAY_LEN(MLA));
}

/* ---- templates ---- */
static char g_line[512];
static void hear(void *user, LogLevel level, const char *line)
{
    (void)user;
    if (level == LOG_WARN) snprintf(g_line, sizeof g_line, "%s", line);
}

static char *tokenizer_text(size_t *n)
{
    char     *text;
    aha_error e = {0};
    ASSERT_OK(file_read_all("tests/fuzz/corpus/tokenizer/deepseek.json", 1 << 20, &text, n, &e), e);
    return text;
}

/* A template that would never end, reads files, or is no template at all: the form that is usual for the architecture, said so. */
static void unknown_templates(void **state)
{
    static const char *const JINJA[] = {"{% for i in range(10**12) %}{{ i }}{% endfor %}", "{% include '/etc/passwd' %}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
                                        "", "\xff\xfe", "{%", "{{ messages[0].content }}"};
    static const ChatTemplate FORM[] = {[ARCH_LLAMA] = CHAT_R1_DISTILL, [ARCH_QWEN2] = CHAT_R1_DISTILL, [ARCH_QWEN3] = CHAT_R1_0528, [ARCH_DEEPSEEK_V3] = CHAT_R1};
    size_t    n;
    char     *text = tokenizer_text(&n);
    aha_error e = {0};
    (void)state;
    log_set(hear, NULL, LOG_WARN);
    for (int arch = 0; arch < (int)ARRAY_LEN(FORM); arch++)
        for (size_t i = 0; i < ARRAY_LEN(JINJA); i++) {
            const Config c = {.arch = (Arch)arch, .vocab = 300};
            WordFiles    f = {.tokenizer = text, .n_tokenizer = n, .chat_template = JINJA[i], .n_chat_template = strlen(JINJA[i])};
            Words        w;
            g_line[0] = 0;
            ASSERT_OK(words_parse(&w, &f, &c, &e), e);
            assert_int_equal(w.form, FORM[arch]);
            assert_false(w.form_known);
            if (!strstr(g_line, chat_template_name(FORM[arch]))) fail_msg("said: \"%s\"", g_line);
            words_free(&w);
        }
    log_set(NULL, NULL, LOG_ERROR);
    mem_free(text);
}

/* ---- every call fails ---- */
static void write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char      path[256];
    aha_error e = {0};
    ASSERT_OK(path_join(path, sizeof path, dir, name, &e), e);
    ASSERT_OK(file_write_atomic(path, text, n, &e), e);
}

/* A dense model of 300 ids with the words of the fuzz corpus: a folder, the same in two shards, a GGUF file. */
static void make_models(void)
{
    static const char CONFIG[] = "{\"model_type\": \"qwen2\", \"hidden_size\": 16, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"intermediate_size\": 16,"
                                 "\"vocab_size\": 300, \"max_position_embeddings\": 64, \"eos_token_id\": 263}";
    static const char BESIDE[] = "{\"chat_template\": \"x\"}", STOPS[] = "{\"eos_token_id\": [263, 264]}";
    char       index[8192] = "{\"weight_map\":{";
    Config     c;
    Model     *m;
    Words      words;
    aha_error  e = {0};
    size_t     n, at = strlen(index);
    char      *text = tokenizer_text(&n);
    ASSERT_OK(config_parse(&c, CONFIG, sizeof CONFIG - 1, "c", &e), e);
    ASSERT_OK(model_init_random(&m, &c, NULL, 5, &e), e);
    ASSERT_OK(model_save(m, in_dir("one"), DT_BF16, &e), e);
    ASSERT_OK(dir_make(in_dir("two"), &e), e);
    model_free(m);
    ASSERT_OK(model_open(&m, in_dir("one"), NULL, &e), e);
    int         half = weights_count(m->file) / 2, all = weights_count(m->file);
    TensorInfo *t = calloc((size_t)all, sizeof *t);
    for (int i = 0; i < all; i++) {
        t[i] = *weights_at(m->file, i);
        at += (size_t)snprintf(index + at, sizeof index - at, "%s\"%s\":\"%s.safetensors\"", i ? "," : "", t[i].name, i < half ? "a" : "b");
    }
    snprintf(index + at, sizeof index - at, "}}");
    ASSERT_OK(safetensors_write(in_dir("two/a.safetensors"), t, half, NULL, &e), e);
    ASSERT_OK(safetensors_write(in_dir("two/b.safetensors"), t + half, all - half, NULL, &e), e);
    write_text(in_dir("two"), "model.safetensors.index.json", index, strlen(index));
    write_text(in_dir("two"), "config.json", CONFIG, sizeof CONFIG - 1);
    for (int i = 0; i < 2; i++) {
        const char *dir = in_dir(i ? "two" : "one");
        write_text(dir, "tokenizer.json", text, n);
        write_text(dir, "tokenizer_config.json", BESIDE, sizeof BESIDE - 1);
        write_text(dir, "generation_config.json", STOPS, sizeof STOPS - 1);
    }
    GgufMeta meta = {0};
    ASSERT_OK(words_open(&words, in_dir("one"), &c, &e), e);
    ASSERT_OK(tokenizer_to_gguf(words.tok, c.vocab, &meta, "m", &e), e);
    gguf_put_str(&meta, "tokenizer.chat_template", "x", 1);
    ExportOptions o = {.mix = weight_mix_of(DT_F16)};
    ASSERT_OK(model_export_gguf(m, in_dir("m.gguf"), &meta, &o, &e), e);
    gguf_meta_free(&meta);
    words_free(&words);
    model_free(m);
    free(t);
    mem_free(text);
}

static int open_files(void)
{
    int  n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d) return -1;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static int maps(void)
{
    int   n = 0;
    char  line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    if (!f) return -1;
    while (fgets(line, sizeof line, f)) n += strstr(line, g_dir) != NULL;
    fclose(f);
    return n;
}

static uint64_t fail_each(const char *path, unsigned kind)
{
    aha_options o = AHA_OPTIONS_INIT;
    uint64_t    failed = 0;
    o.threads = 1;
    o.ctx = 32;
    o.seqs = 1;
    for (uint64_t nth = 1;; nth++) {
        aha_error   e = {0};
        aha_engine *g = NULL;
        os_fault_arm(kind, nth);
        int  rc = aha_engine_open(&g, path, &o, &e);
        bool met = os_fault_seen() >= nth;
        os_fault_arm(0, 0);
        assert_true((rc == 0) == (g != NULL));
        if (rc) assert_true(rc == e.code && strlen(e.text) > 10);
        if (rc && kind == OS_FAULT_ALLOC && rc != AHA_ERR_NOMEM) fail_msg("%s: allocation %llu: %d %s", path, (unsigned long long)nth, rc, e.text);
        if (rc && kind != OS_FAULT_ALLOC && rc != AHA_ERR_IO && rc != AHA_ERR_NOMEM) fail_msg("%s: call %llu of kind %u: %d %s", path, (unsigned long long)nth, kind, rc, e.text);
        aha_engine_free(g);
        failed += rc != 0;
        if (!met) return failed;
    }
}

/* Memory that leaks is seen by the sanitizer's build; descriptors and mappings are counted here. */
static void every_call_fails(void **state)
{
    static const char *const FORM[] = {"one", "two", "m.gguf"};
    static const unsigned    KIND[] = {OS_FAULT_ALLOC, OS_FAULT_OPEN, OS_FAULT_READ, OS_FAULT_MAP};
    (void)state;
    make_models();
    for (size_t i = 0; i < ARRAY_LEN(FORM); i++) {
        int fds = open_files(), mapped = maps();
        for (size_t k = 0; k < ARRAY_LEN(KIND); k++) {
            uint64_t failed = fail_each(in_dir(FORM[i]), KIND[k]);
            bool     reads = i < 2 || KIND[k] != OS_FAULT_READ; /* a GGUF file is mapped */
            if (failed < (KIND[k] == OS_FAULT_ALLOC ? 100 : reads ? 1 : 0))
                fail_msg("%s: only %llu failures of kind %u", FORM[i], (unsigned long long)failed, KIND[k]);
        }
        assert_int_equal(open_files(), fds);
        assert_int_equal(maps(), mapped);
    }
}

static int setup(void **state)
{
    (void)state;
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-hostile-XXXXXX");
    return mkdtemp(g_dir) ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    return dir_remove_all(g_dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_scale), cmocka_unit_test(every_count), cmocka_unit_test(unknown_templates),
                                       cmocka_unit_test(every_call_fails)};
    alarm(600);
    return cmocka_run_group_tests(tests, setup, teardown);
}
