/* Hugging Face to GGUF and back: every golden checkpoint, written as F32, gives the folder's own logits, and comes back bit for bit; every
 * GGUF file becomes a folder with its logits. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "model/model.h"
#include "testlib.h"

enum { TOKENS = 24 };
static const char PATH[] = "/tmp/aha-test-export.gguf", PARTIAL[] = "/tmp/aha-test-export.gguf.partial";
static const char FOLDER[] = "/tmp/aha-test-export", AGAIN[] = "/tmp/aha-test-export-again.gguf";
/* for aha-tiny: the beginning of a thought about "Using 8, 13 and 2, make 29." */
static const int32_t TEXT[TOKENS] = {0, 1349, 1252, 77, 32, 201, 1326, 223, 26, 14, 223, 262, 1341, 223, 20, 14, 1321, 223, 278, 16, 1350, 1347, 201, 262};
static Pool *g_pool;

static Model *open_path(const char *path)
{
    Model    *m;
    aha_error e = {0};
    ASSERT_OK(model_open(&m, path, NULL, &e), e);
    return m;
}

/* logits [TOKENS, V], and behind them the draft layer's [TOKENS - 1, V] */
static float *logits_of(const Model *m, size_t *n)
{
    const Kernels *k[8];
    int            last = cpu_kernels_all(k, 8) - 1;
    Ctx            c;
    aha_error      e = {0};
    int32_t        token[TOKENS], pos[TOKENS], seq[TOKENS] = {0};
    Batch          b = {.n = TOKENS, .token = token, .pos = pos, .seq = seq};
    for (int i = 0; i < TOKENS; i++) {
        pos[i] = i;
        token[i] = TEXT[i] % m->cfg.vocab;
    }
    ASSERT_OK(ctx_init(&c, k[last], g_pool, (size_t)64 << 20, (size_t)8 << 20, &e), e);
    Tensor normed = model_final_norm(&c, m, model_hidden(&c, m, &b, NULL)), logits = model_logits(&c, m, normed);
    size_t first = (size_t)TOKENS * (size_t)m->cfg.vocab, more = m->cfg.n_mtp ? first - (size_t)m->cfg.vocab : 0;
    float *out = mem_alloc((first + more) * sizeof *out);
    memcpy(out, logits.data, first * sizeof *out);
    if (more) {
        b.token++;
        b.n = TOKENS - 1;
        b.hidden = normed.data;
        memcpy(out + first, model_logits(&c, m, model_draft(&c, m, &b, NULL)).data, more * sizeof *out);
    }
    if (ctx_failed(&c)) fail_msg("%s", c.err.text);
    ctx_free(&c);
    *n = first + more;
    return out;
}

static ExportOptions all_of(Dtype t)
{
    return (ExportOptions){.mix = weight_mix_of(t), .draft = true, .replace = true, .pool = g_pool};
}

static void to_gguf(const Model *m, const char *path, Dtype type)
{
    ExportOptions o = all_of(type);
    GgufMeta      meta = {0};
    aha_error     e = {0};
    if (m->gguf) gguf_put_all(&meta, m->file);
    ASSERT_OK(model_export_gguf(m, path, &meta, &o, &e), e);
    gguf_meta_free(&meta);
}

static void to_folder(const Model *m, Dtype type)
{
    ExportOptions o = all_of(type);
    aha_error     e = {0};
    ASSERT_OK(dir_remove_all(FOLDER, &e), e);
    ASSERT_OK(model_export_folder(m, FOLDER, NULL, 0, &o, &e), e);
}

/* of the logits, relative */
static double apart(const Model *m, const Model *g)
{
    size_t n, k;
    double diff = 0, size = 0;
    float *want = logits_of(m, &n), *got = logits_of(g, &k);
    assert_true(n == k && g->cfg.n_mtp == m->cfg.n_mtp);
    for (size_t i = 0; i < n; i++) {
        double d = (double)want[i] - (double)got[i];
        diff += d * d;
        size += (double)want[i] * (double)want[i];
    }
    mem_free(want);
    mem_free(got);
    return sqrt(diff / size);
}

/* every_expert: both use all that there are, so that rounding cannot change the choice */
static double distance(const char *folder, Dtype type, bool every_expert)
{
    Model *m = open_path(folder);
    to_gguf(m, PATH, type);
    Model *g = open_path(PATH);
    if (every_expert) m->cfg.n_expert_used = g->cfg.n_expert_used = m->cfg.n_expert;
    if (every_expert) m->cfg.topk_group = g->cfg.topk_group = m->cfg.n_group;
    double d = apart(m, g);
    model_free(m);
    model_free(g);
    unlink(PATH);
    return d;
}

static void goldens(void **state)
{
    static const struct {
        const char *name;
        double      most; /* 0: the same bits */
    } CASE[] = {
        {"llama", 1e-6 /* pairs are summed in another order than halves */}, {"llama-llama3-tied", 1e-6 /* the scaling is f32 in GGUF */}, {"qwen2-sharded", 0}, {"qwen2-tied", 0}, {"qwen2-yarn", 0},
        {"qwen3", 0}, {"qwen3-attn-factor", 1e-6 /* so is this factor */}, {"qwen3-yarn", 0}, {"deepseek_v2", 0}, {"deepseek_v2-groups", 0},
        {"deepseek_v3", 0}, {"deepseek_v3-fp8", 0}, {"deepseek_v3-halves-tied", 1e-6}, {"deepseek_v3-mtp", 0}, {"deepseek_v3-no-q-latent", 0},
        {"deepseek_v3-softmax", 0}, {"deepseek_v3-unnormalised", 0}, {"deepseek_v3-wide", 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        char path[96];
        snprintf(path, sizeof path, "tests/golden/%s", CASE[i].name);
        double d = distance(path, DT_F32, false);
        print_message("%-26s %.1e\n", CASE[i].name, d);
        if (d > CASE[i].most) fail_msg("%s: logits %.2e apart, expected at most %.0e", CASE[i].name, d, CASE[i].most);
    }
}

static void types(void **state)
{
    static const struct {
        Dtype  type;
        double most; /* a tenth above what was measured; the attention of these random weights is sharp */
    } CASE[] = {{DT_BF16, 0},    {DT_F16, 1e-4},  {DT_Q8_0, 0.025},  {DT_Q6_K, 0.075}, {DT_Q5_K, 0.145},
                {DT_Q4_K, 0.335}, {DT_Q4_0, 0.425}, {DT_IQ4_XS, 0.32}, {DT_Q3_K, 0.59},  {DT_Q2_K, 0.83}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        double d = distance("tests/golden/deepseek_v3-wide", CASE[i].type, true);
        print_message("%-6s logits %.5f\n", dtype_info(CASE[i].type)->name, d);
        if (d > CASE[i].most) fail_msg("%s: logits %.5f apart, expected at most %.5f", dtype_info(CASE[i].type)->name, d, CASE[i].most);
    }
    assert_true(distance("models/aha-tiny", DT_BF16, true) == 0);
    assert_true(export_type(DT_Q4_K, 512) == DT_Q4_K && export_type(DT_Q4_K, 128) == DT_Q8_0 && export_type(DT_Q4_0, 48) == DT_BF16 &&
                export_type(DT_F16, 7) == DT_F16);
}

static void refuses(void **state)
{
    Model        *m = open_path("tests/golden/deepseek_v3-mscale");
    ExportOptions o = all_of(DT_F32);
    GgufMeta      meta = {0};
    aha_error     e = {0};
    (void)state;
    assert_int_equal(model_export_gguf(m, PATH, &meta, &o, &e), AHA_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "mscale"));
    assert_int_equal(model_export_gguf(m, FOLDER, &meta, &o, &e), AHA_ERR_ARG); /* no name of a GGUF file */
    o.mix.other = DT_Q8_0;
    assert_int_equal(model_export_folder(m, FOLDER, NULL, 0, &o, &e), AHA_ERR_ARG);
    o.mix.other = DT_F32;
    model_free(m);
    gguf_meta_free(&meta);
    m = open_path("tests/golden/qwen3");
    float bad[4096];
    m->layer[0].attn_norm.data = bad; /* a number that is none */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) bad[i] = i == 3 ? NAN : 1;
    meta = (GgufMeta){0};
    assert_int_equal(model_export_gguf(m, PATH, &meta, &o, &e), AHA_ERR_FORMAT);
    assert_non_null(strstr(e.text, "blk.0.attn_norm.weight: row 0, column 3"));
    assert_false(file_exists(PATH) || dir_exists(PARTIAL));
    gguf_meta_free(&meta);
    model_free(m);
}

/* ---- and back ---- */
static Dtype most_used(const WeightFile *w)
{
    int n[DT_COUNT] = {0};
    for (int i = 0; i < weights_count(w); i++) n[weights_at(w, i)->dtype] += weights_at(w, i)->n_dims == 2;
    return n[DT_BF16] > n[DT_F32] ? DT_BF16 : n[DT_F16] > n[DT_F32] ? DT_F16 : DT_F32;
}

static bool copy_of_main(const char *name) { return strstr(name, ".embed_tokens.") ? strstr(name, "layers") != NULL : strstr(name, "shared_head.head") != NULL; }

/* every tensor of the golden folder is in the new one, the same bits; the draft layer's copies of embedding and head aside */
static void same_weights(const char *golden, const WeightFile *got)
{
    WeightFile *want;
    aha_error   e = {0};
    int         n = 0;
    ASSERT_OK(weights_open(&want, golden, &e), e);
    for (int i = 0; i < weights_count(want); i++) {
        const TensorInfo *a = weights_at(want, i), *b = weights_find(got, a->name);
        if (copy_of_main(a->name)) continue;
        n++;
        if (!b || a->dtype != b->dtype || a->n_dims != b->n_dims || a->bytes != b->bytes || memcmp(a->dim, b->dim, sizeof a->dim) || memcmp(a->data, b->data, a->bytes))
            fail_msg("%s: %s: another tensor", golden, a->name);
    }
    assert_int_equal(n, weights_count(got));
    weights_close(want);
}

static void same_file(const char *a, const char *b)
{
    char     *x, *y;
    size_t    n, k;
    aha_error e = {0};
    ASSERT_OK(file_read_all(a, 1 << 26, &x, &n, &e), e);
    ASSERT_OK(file_read_all(b, 1 << 26, &y, &k, &e), e);
    if (n != k || memcmp(x, y, n)) fail_msg("%s and %s: %zu and %zu bytes, or others", a, b, n, k);
    mem_free(x);
    mem_free(y);
}

/* folder -> GGUF -> folder -> GGUF in the folder's own type: the two folders' weights and the two files are the same bits */
static void there_and_back(void **state)
{
    static const struct {
        const char *name;
        bool        pairs; /* comes back with rope in pairs, which is all that GGUF has */
    } CASE[] = {
        {"llama", 0}, {"llama-llama3-tied", 0}, {"qwen2-sharded", 0}, {"qwen2-tied", 0}, {"qwen2-yarn", 0}, {"qwen3", 0}, {"qwen3-yarn", 0},
        {"qwen3-attn-factor", 0}, {"deepseek_v2", 0}, {"deepseek_v2-groups", 0}, {"deepseek_v3", 0}, {"deepseek_v3-halves-tied", 1},
        {"deepseek_v3-mtp", 0}, {"deepseek_v3-no-q-latent", 0}, {"deepseek_v3-softmax", 0}, {"deepseek_v3-unnormalised", 0}, {"deepseek_v3-wide", 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        char path[96];
        snprintf(path, sizeof path, "tests/golden/%s", CASE[i].name);
        Model *m = open_path(path);
        Dtype  type = most_used(m->file);
        to_gguf(m, PATH, type);
        Model *g = open_path(PATH);
        to_folder(g, type);
        Model *f = open_path(FOLDER);
        if (!CASE[i].pairs) same_weights(path, f->file);
        if (CASE[i].pairs) assert_true(f->cfg.rope.interleaved);
        assert_true(f->cfg.rope.kind == m->cfg.rope.kind && f->cfg.rms_eps == m->cfg.rms_eps && f->cfg.n_mtp == m->cfg.n_mtp);
        assert_string_equal(f->cfg.model_type, m->cfg.model_type);
        double d = apart(m, f);
        print_message("%-26s %s there and back %.1e\n", CASE[i].name, dtype_info(type)->name, d);
        if (!(d <= (CASE[i].pairs || strstr(path, "llama3") || strstr(path, "attn-factor") ? 1e-6 : 0))) fail_msg("%s: logits %.2e apart", path, d);
        to_gguf(f, AGAIN, type);
        if (!strstr(path, "llama3")) same_file(PATH, AGAIN); /* its factors are computed again and rounded again */
        model_free(m);
        model_free(g);
        model_free(f);
    }
}

/* GGUF files of another writer, both layouts of kv_b, split, tied, F16: the folder has the file's logits */
static void from_others(void **state)
{
    static const char *const NAME[] = {"deepseek_v2-groups", "deepseek_v2", "deepseek_v3-halves-tied", "deepseek_v3-kv_b", "deepseek_v3-mtp", "deepseek_v3-no-q-latent",
                                       "deepseek_v3-softmax", "deepseek_v3-unnormalised", "deepseek_v3", "llama-llama3-tied", "llama", "qwen2-00001-of-00003",
                                       "qwen2-tied", "qwen2-yarn", "qwen3-attn-factor", "qwen3"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAME); i++) {
        char path[96];
        snprintf(path, sizeof path, "tests/gguf/%s.gguf", NAME[i]);
        Model *g = open_path(path);
        to_folder(g, DT_F32);
        Model *f = open_path(FOLDER);
        double d = apart(g, f);
        print_message("%-26s as a folder %.1e\n", NAME[i], d);
        if (!(d <= (strstr(path, "llama") ? 1e-6 : 0))) fail_msg("%s: logits %.2e apart", path, d); /* halves are summed in another order */
        to_gguf(g, AGAIN, DT_F32); /* to GGUF again: the same logits, and twice is once */
        Model *h = open_path(AGAIN);
        assert_true(apart(g, h) == 0);
        to_gguf(h, PATH, DT_F32);
        same_file(PATH, AGAIN);
        model_free(g);
        model_free(f);
        model_free(h);
    }
}

/* coded types come out decoded: what is in the folder is what the kernels compute with */
static void coded(void **state)
{
    static const Dtype TYPE[] = {DT_Q8_0, DT_Q4_K, DT_Q2_K, DT_IQ4_XS};
    Model             *m = open_path("models/aha-tiny");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TYPE); i++) {
        to_gguf(m, PATH, TYPE[i]);
        Model *g = open_path(PATH);
        to_folder(g, DT_F32);
        Model *f = open_path(FOLDER);
        assert_true(apart(g, f) == 0);
        to_gguf(g, AGAIN, TYPE[i]); /* in the type already: not rounded again */
        same_file(PATH, AGAIN);
        model_free(g);
        model_free(f);
    }
    model_free(m);
}

/* Llama 3's scaling is found from the frequencies alone */
static void scaling_found(void **state)
{
    static const struct {
        double theta, factor, high;
        int    original, cols;
    } CASE[] = {{500000, 8, 4, 8192, 128}, {500000, 32, 4, 8192, 64}, {20, 8, 2, 16, 10}, {500000, 8, 3.5, 6000, 128}, {10000, 2, 4, 8192, 64}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        Rope   r = {.kind = ROPE_LLAMA3, .theta = CASE[i].theta, .factor = CASE[i].factor, .low_freq_factor = 1, .high_freq_factor = CASE[i].high, .original_len = CASE[i].original};
        Rope   got = {.theta = r.theta, .factor = 1, .cos_sin_factor = 1};
        double f[64], plain;
        rope_inv_freq(&r, CASE[i].cols, f);
        for (int k = 0; k < CASE[i].cols / 2; k++) { /* as GGUF keeps them: an f32 */
            plain = pow(r.theta, -2.0 * k / CASE[i].cols);
            f[k] = plain / (double)(float)(plain / f[k]);
        }
        assert_true(rope_fit_llama3(&got, CASE[i].cols, f));
        assert_true(got.kind == ROPE_LLAMA3 && got.factor == r.factor && got.high_freq_factor == r.high_freq_factor && got.original_len == r.original_len);
        f[CASE[i].cols / 4] *= 1.1;
        got = (Rope){.theta = r.theta, .factor = 1, .cos_sin_factor = 1};
        assert_false(rope_fit_llama3(&got, CASE[i].cols, f));
        assert_true(got.kind == ROPE_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(goldens), cmocka_unit_test(there_and_back), cmocka_unit_test(from_others), cmocka_unit_test(coded),
                                       cmocka_unit_test(scaling_found), cmocka_unit_test(types), cmocka_unit_test(refuses)};
    g_pool = pool_new(1, NULL);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    pool_free(g_pool);
    unlink(PATH);
    unlink(AGAIN);
    dir_remove_all(FOLDER, NULL);
    return rc;
}
