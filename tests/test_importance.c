/* Importance: what is collected is what the matrices were multiplied with; files, ours and hostile ones; export that heeds it. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "judge/judge.h"
#include "testlib.h"

enum { PASSAGES = 3, LEN = 40 };
static const char PATH[] = "/tmp/aha-test-importance.gguf", OTHER[] = "/tmp/aha-test-importance.dat", OUT[] = "/tmp/aha-test-importance-out.gguf";
static Pool   *g_pool;
static int32_t g_token[PASSAGES][LEN];
static Passage g_passage[PASSAGES];

static Model *open_model(const char *path)
{
    Model    *m;
    aha_error e = {0};
    ASSERT_OK(model_open(&m, path, NULL, &e), e);
    for (int i = 0; i < PASSAGES; i++) {
        for (int k = 0; k < LEN; k++) g_token[i][k] = (7 * i + 11 * k + k * k) % m->cfg.vocab;
        g_passage[i] = (Passage){g_token[i], LEN - 5 * i, 1};
    }
    return m;
}

static double run(const Model *m, Observer *o)
{
    const Kernels *k[8];
    TextScore      r;
    aha_error      e = {0};
    int            n = cpu_kernels_all(k, 8);
    TextOptions    t = {.k = k[n - 1], .pool = g_pool, .rows = 64, .observer = o};
    ASSERT_OK(text_score(&r, m, NULL, g_passage, PASSAGES, &t, &e), e);
    return r.nll.mean;
}

static ImportanceSeen collect(const char *model, const char *path)
{
    Model          *m = open_model(model);
    ImportanceSums *s;
    aha_error       e = {0};
    ASSERT_OK(importance_sums_new(&s, m, &e), e);
    assert_int_equal(importance_write(s, path, "nothing", 0, 0, &e), AHA_ERR_ARG); /* nothing was seen yet */
    double plain = run(m, NULL), watched = run(m, importance_observer(s));
    assert_true(plain == watched);
    ASSERT_OK(importance_write(s, path, "text", PASSAGES, LEN, &e), e);
    ImportanceSeen seen = importance_seen(s);
    importance_sums_free(s);
    model_free(m);
    return seen;
}

static double at(const WeightFile *w, const char *name, const char *suffix, int mat, int col)
{
    char  key[128];
    float v;
    snprintf(key, sizeof key, "%s%s", name, suffix);
    const TensorInfo *t = weights_find(w, key);
    if (!t) fail_msg("there is no %s", key);
    assert_true(t->n_dims == 2 && mat < t->dim[0] && col < t->dim[1]);
    dtype_to_f32(DT_F32, (const uint8_t *)t->data + 4 * (size_t)(mat * t->dim[1] + col), &v, 1);
    return (double)v;
}

static void near(double got, double want, const char *what)
{
    if (fabs(got - want) > 1e-5 * fabs(want) + 1e-12) fail_msg("%s: got %.9g, expected %.9g", what, got, want);
}

/* The first layer's input is known: the rows of the embedding, normed. */
static void check_first(const WeightFile *w, const Model *m, int tokens)
{
    int     D = m->cfg.d_model;
    double *want = mem_zalloc((size_t)D, sizeof *want);
    for (int i = 0; i < PASSAGES; i++)
        for (int t = 0; t + 1 < g_passage[i].n; t++) {
            const real *x = (const real *)m->embed.data + (size_t)g_token[i][t] * (size_t)D;
            double      sq = 0;
            for (int k = 0; k < D; k++) sq += (double)x[k] * (double)x[k];
            for (int k = 0; k < D; k++) {
                double y = (double)x[k] / sqrt(sq / D + m->cfg.rms_eps) * (double)((const real *)m->layer[0].attn_norm.data)[k];
                want[k] += y * y;
            }
        }
    for (int k = 0; k < D; k++) {
        near(at(w, "blk.0.attn_q_a.weight", ".in_sum2", 0, k), want[k], "q_a");
        near(at(w, "blk.0.attn_kv_a_mqa.weight", ".in_sum2", 0, k), want[k], "kv_a");
    }
    assert_true(at(w, "blk.0.attn_q_a.weight", ".counts", 0, 0) == tokens);
    mem_free(want);
}

/* Every token goes to the shared experts once and to K experts: their sums of one input are K times the shared one's. */
static void check_experts(const WeightFile *w, const Model *m, int tokens)
{
    const Config *c = &m->cfg;
    for (int i = c->n_dense_first; i < c->n_layer; i++) {
        char gate[64], shared[64], down[64], up[64];
        snprintf(gate, sizeof gate, "blk.%d.ffn_gate_exps.weight", i);
        snprintf(up, sizeof up, "blk.%d.ffn_up_exps.weight", i);
        snprintf(down, sizeof down, "blk.%d.ffn_down_exps.weight", i);
        snprintf(shared, sizeof shared, "blk.%d.ffn_gate_shexp.weight", i);
        double all = 0;
        for (int k = 0; k < c->d_model; k++) {
            double sum = 0;
            for (int x = 0; x < c->n_expert; x++) {
                sum += at(w, gate, ".in_sum2", x, k);
                near(at(w, up, ".in_sum2", x, k), at(w, gate, ".in_sum2", x, k), up);
            }
            near(sum, c->n_expert_used * at(w, shared, ".in_sum2", 0, k), gate);
        }
        for (int x = 0; x < c->n_expert; x++) {
            all += at(w, gate, ".counts", x, 0);
            assert_true(at(w, down, ".counts", x, 0) == at(w, gate, ".counts", x, 0));
        }
        assert_true(all == (double)c->n_expert_used * tokens);
    }
}

static void sums(void **state)
{
    Model      *m = open_model("tests/golden/deepseek_v3");
    WeightFile *w;
    aha_error   e = {0};
    int64_t     n = 0;
    int         tokens = 0;
    (void)state;
    ImportanceSeen seen = collect("tests/golden/deepseek_v3", PATH);
    for (int i = 0; i < PASSAGES; i++) tokens += g_passage[i].n - 1;
    ASSERT_OK(weights_open(&w, PATH, &e), e);
    ASSERT_OK(gguf_get_int(w, "f", "imatrix.chunk_count", true, PASSAGES, PASSAGES, &n, &e), e);
    ASSERT_OK(gguf_get_int(w, "f", "imatrix.chunk_size", true, LEN, LEN, &n, &e), e);
    assert_non_null(gguf_kv_find(w, "imatrix.datasets"));
    check_first(w, m, tokens);
    check_experts(w, m, tokens);
    assert_null(weights_find(w, "token_embd.weight.in_sum2"));
    assert_true(at(w, "output.weight", ".counts", 0, 0) == tokens);
    assert_true(at(w, "blk.1.attn_k_b.weight", ".counts", m->cfg.n_head - 1, 0) == tokens && at(w, "blk.1.attn_v_b.weight", ".in_sum2", m->cfg.n_head - 1, m->cfg.kv_lora - 1) > 0);
    /* q_a q_b kv_a o, H k_b, H v_b; gate up down of the dense layer, the shared and the chosen experts; the head */
    assert_int_equal(seen.matrices + seen.unseen, 3 * (4 + 2 * m->cfg.n_head) + 3 + 2 * 3 * (1 + m->cfg.n_expert) + 1);
    weights_close(w);
    model_free(m);
}

/* The folder, and GGUF files with k_b and v_b or a whole kv_b, say the same. */
static void layouts(void **state)
{
    static const char *const NAME[] = {"blk.0.attn_k_b.weight", "blk.2.attn_v_b.weight", "blk.1.ffn_down_exps.weight", "blk.2.attn_output.weight"};
    static const char *const FILES[] = {"tests/gguf/deepseek_v3.gguf", "tests/gguf/deepseek_v3-kv_b.gguf"};
    WeightFile *a, *b;
    aha_error   e = {0};
    (void)state;
    collect("tests/golden/deepseek_v3", PATH);
    ASSERT_OK(weights_open(&a, PATH, &e), e);
    for (size_t f = 0; f < ARRAY_LEN(FILES); f++) {
        collect(FILES[f], OTHER);
        ASSERT_OK(weights_open(&b, OTHER, &e), e);
        assert_int_equal(weights_count(a), weights_count(b));
        for (size_t i = 0; i < ARRAY_LEN(NAME); i++)
            for (int k = 0; k < 3; k++) near(at(b, NAME[i], ".in_sum2", k && i < 3, 2 * k), at(a, NAME[i], ".in_sum2", k && i < 3, 2 * k), NAME[i]);
        weights_close(b);
    }
    weights_close(a);
}

/* ---- files ---- */
typedef struct File1 {
    float sums[6], counts[3];
} File1;
static TensorInfo g_t[2];

static int put(void *user, int i, const File *f, aha_error *e)
{
    const File1 *v = user;
    return file_write(f, i ? v->counts : v->sums, g_t[i].bytes, e);
}

/* "a.weight" with 6 sums and n_counts counts; suffix of the second tensor */
static void write_file(const File1 *v, int n_counts, const char *second, Dtype type)
{
    GgufMeta  m = {0};
    aha_error e = {0};
    File1     copy = *v;
    g_t[0] = (TensorInfo){.name = "a.weight.in_sum2", .dtype = DT_F32, .n_dims = 2, .dim = {2, 3}, .bytes = 24};
    g_t[1] = (TensorInfo){.name = second, .dtype = type, .n_dims = 2, .dim = {n_counts, 1}, .bytes = (size_t)n_counts * (type == DT_F32 ? 4 : 2)};
    ASSERT_OK(gguf_write(PATH, &m, g_t, 2, put, &copy, &e), e);
}

static int get(const char *path, const char *name, float w[6], bool *found, aha_error *e)
{
    Importance *im;
    int         rc = importance_open(&im, path, e);
    if (!rc) rc = importance_get(im, name, 2, 3, w, found, e);
    importance_close(im);
    return rc;
}

static void refused(const char *path, const char *word)
{
    float     w[6];
    bool      found;
    aha_error e = {0};
    assert_int_equal(get(path, "a.weight", w, &found, &e), AHA_ERR_FORMAT);
    if (!strstr(e.text, word)) fail_msg("'%s' is not in: %s", word, e.text);
}

static void reads(void **state)
{
    const File1 good = {{1, 2, 3, 10, 0, 20}, {5, 10, 7}};
    File1       v = good;
    float       w[6];
    bool        found;
    aha_error   e = {0};
    (void)state;
    for (int one = 0; one < 2; one++) {
        write_file(&v, one ? 1 : 2, "a.weight.counts", DT_F32);
        ASSERT_OK(get(PATH, "a.weight", w, &found, &e), e);
        const float want[] = {0.5f, 1, 1.5f, 1, 1e-6f, 2};
        assert_true(found);
        for (int i = 0; i < 6; i++) near((double)w[i], (double)want[i], "weight");
    }
    ASSERT_OK(get(PATH, "b.weight", w, &found, &e), e);
    assert_true(!found && w[0] == 1 && w[5] == 1);
    v.counts[1] = 0; /* an expert that nobody chose */
    write_file(&v, 2, "a.weight.counts", DT_F32);
    ASSERT_OK(get(PATH, "a.weight", w, &found, &e), e);
    assert_true(found && w[0] == 0.5f && w[3] == 1 && w[4] == 1 && w[5] == 1);
    write_file(&good, 3, "a.weight.counts", DT_F32);
    refused(PATH, "another model");
    write_file(&good, 2, "a.weight.count", DT_F32);
    refused(PATH, "without .counts");
    write_file(&good, 2, "a.weight.counts", DT_F16);
    refused(PATH, "expected F32");
    for (int i = 0; i < 3; i++) {
        v = good;
        v.sums[4] = i == 0 ? -1 : i == 1 ? NAN : INFINITY;
        write_file(&v, 2, "a.weight.counts", DT_F32);
        refused(PATH, "matrix 1");
        v = good;
        v.counts[1] = v.sums[4] = i == 0 ? -1 : i == 1 ? NAN : INFINITY;
        write_file(&v, 2, "a.weight.counts", DT_F32);
        refused(PATH, "count 1");
    }
}

/* The older form: whole, cut at every byte, with lengths that do not fit. */
static void old_form(void **state)
{
    uint8_t   b[256];
    size_t    n = 0;
    float     w[6];
    bool      found;
    aha_error e = {0};
    (void)state;
#define PUT(type, v)                                                                                                       \
    do {                                                                                                              \
        type v_ = (v);                                                                                                \
        memcpy(b + n, &v_, sizeof v_);                                                                                 \
        n += sizeof v_;                                                                                                \
    } while (0)
    PUT(int32_t, 2);
    for (int k = 0; k < 2; k++) {
        PUT(int32_t, 8);
        memcpy(b + n, k ? "a.weight" : "b.weight", 8);
        n += 8;
        PUT(int32_t, 4);
        PUT(int32_t, 6);
        for (int i = 0; i < 6; i++) PUT(float, (float)(k ? i : 1));
    }
    size_t end = n;
    PUT(int32_t, 4); /* what follows is not read */
    for (size_t cut = 0; cut <= n; cut++) {
        ASSERT_OK(file_write_atomic(OTHER, b, cut, &e), e);
        if (cut < end) {
            refused(OTHER, cut < 4 ? "entries" : "");
            continue;
        }
        ASSERT_OK(get(OTHER, "a.weight", w, &found, &e), e);
        assert_true(found && w[0] == 1e-6f && w[1] == 1 && w[2] == 2 && w[5] == 1.25f);
    }
    for (size_t place = 0; place < 24; place += 4) { /* number of entries; length; its name; calls; numbers */
        static const int32_t BAD[] = {-1, 0, INT32_MAX, 1 << 20};
        if (place == 8 || place == 12) continue;
        for (size_t k = 0; k < ARRAY_LEN(BAD); k++) {
            uint8_t copy[256];
            if (place == 16 && k) continue; /* any number of calls is fine */
            memcpy(copy, b, n);
            memcpy(copy + place, &BAD[k], 4);
            ASSERT_OK(file_write_atomic(OTHER, copy, n, &e), e);
            refused(OTHER, "");
        }
    }
    assert_int_equal(get("/nowhere/im", "a.weight", w, &found, &e), AHA_ERR_IO);
}

/* ---- export ---- */
static double weighted_error(const Importance *im, const Model *m, const char *path)
{
    enum { D = 256 }; /* blk.1.ffn_gate_exps of aha-tiny: rows of that in Q4_0 */
    WeightFile *w;
    aha_error   e = {0};
    float       weight[8 * D], row[D];
    bool        found;
    double      sum = 0;
    ASSERT_OK(weights_open(&w, path, &e), e);
    const TensorInfo *t = weights_find(w, "blk.1.ffn_gate_exps.weight");
    assert_true(t && t->dtype == DT_Q4_0 && t->dim[0] == 8 && t->dim[2] == D);
    ASSERT_OK(importance_get(im, "blk.1.ffn_gate_exps.weight", 8, D, weight, &found, &e), e);
    for (int x = 0; x < 8; x++)
        for (int r = 0; r < (int)t->dim[1]; r++) {
            float    want[D];
            const Weight *g = &m->layer[1].expert_gate[x];
            dtype_row_to_f32(g->dtype, (const uint8_t *)g->data + (size_t)r * D * (size_t)dtype_info(g->dtype)->block_bytes, NULL, 0, D, want);
            dtype_row_to_f32(DT_Q4_0, (const uint8_t *)t->data + (size_t)(x * t->dim[1] + r) * (D / 32 * 18), NULL, 0, D, row);
            for (int k = 0; k < D; k++) sum += (double)weight[D * x + k] * pow((double)(row[k] - want[k]), 2);
        }
    weights_close(w);
    return sum;
}

static void exports(void **state)
{
    Importance   *im;
    aha_error     e = {0};
    GgufMeta      meta = {0};
    ExportOptions o = {.mix = weight_mix_of(DT_Q4_0), .replace = true, .pool = g_pool};
    double        plain, weighted;
    (void)state;
    collect("models/aha-tiny", PATH);
    Model *m = open_model("models/aha-tiny");
    ASSERT_OK(importance_open(&im, PATH, &e), e);
    ASSERT_OK(model_export_gguf(m, OUT, &meta, &o, &e), e);
    plain = weighted_error(im, m, OUT);
    gguf_meta_free(&meta);
    o.importance = im;
    ASSERT_OK(model_export_gguf(m, OUT, &meta, &o, &e), e);
    weighted = weighted_error(im, m, OUT);
    gguf_meta_free(&meta);
    print_message("weighted error of an expert: %.5f, told so %.5f\n", sqrt(plain), sqrt(weighted));
    assert_true(weighted < 0.95 * plain);
    unlink(OUT);
    importance_close(im);
    /* another model's: the same names, other widths; other names */
    static const char *const OTHERS[] = {"tests/golden/deepseek_v3", "tests/golden/qwen3"}, *const WORD[] = {"another model", ""};
    for (int i = 0; i < 2; i++) {
        Model *other = open_model(OTHERS[i]);
        model_free(other);
        collect(OTHERS[i], PATH);
        ASSERT_OK(importance_open(&im, PATH, &e), e);
        o.importance = im;
        assert_int_equal(model_export_gguf(m, OUT, &meta, &o, &e), AHA_ERR_FORMAT);
        assert_non_null(strstr(e.text, WORD[i]));
        assert_false(file_exists(OUT));
        gguf_meta_free(&meta);
        importance_close(im);
    }
    const File1 nothing = {{1, 1, 1, 1, 1, 1}, {1, 1, 1}};
    write_file(&nothing, 2, "a.weight.counts", DT_F32);
    ASSERT_OK(importance_open(&im, PATH, &e), e);
    o.importance = im;
    assert_int_equal(model_export_gguf(m, OUT, &meta, &o, &e), AHA_ERR_FORMAT);
    assert_non_null(strstr(e.text, "no entry for any matrix"));
    gguf_meta_free(&meta);
    importance_close(im);
    model_free(m);
}

/* ---- every call of the system failing in turn ---- */
static int whole(const Model *m, const Model *base, aha_error *e)
{
    const Kernels  *k[8];
    int             n = cpu_kernels_all(k, 8);
    TextOptions     t = {.k = k[n - 1], .pool = g_pool};
    TextScore       r;
    ImportanceSums *s = NULL;
    Importance     *im = NULL;
    float           w[64];
    bool            found = false;
    int             rc = importance_sums_new(&s, m, e);
    assert_true(!rc == (s != NULL));
    if (!rc) t.observer = importance_observer(s);
    if (!rc) rc = text_score(&r, m, base, g_passage, PASSAGES, &t, e);
    if (!rc) rc = importance_write(s, PATH, "text", 1, 1, e);
    importance_sums_free(s);
    if (!rc) rc = importance_open(&im, PATH, e);
    if (!rc) rc = importance_get(im, "blk.0.attn_q_a.weight", 1, m->cfg.d_model, w, &found, e);
    importance_close(im);
    assert_true(rc || found);
    return rc;
}

static void faults(void **state)
{
    Model   *m = open_model("tests/golden/deepseek_v3"), *base = open_model("tests/gguf/deepseek_v3.gguf");
    uint64_t n = 0;
    int      rc;
    (void)state;
    assert_true(m->cfg.d_model <= 64);
    do {
        aha_error e = {0};
        unlink(PATH);
        os_fault_arm(OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_WRITE | OS_FAULT_SYNC | OS_FAULT_MAP | OS_FAULT_RENAME, ++n);
        rc = whole(m, base, &e);
        os_fault_arm(0, 0);
        if (rc && !(e.code == rc && e.text[0])) fail_msg("call %llu: %d, %s", (unsigned long long)n, rc, e.text);
        assert_false(file_exists("/tmp/aha-test-importance.gguf.tmp"));
    } while (rc);
    print_message("%llu calls that may fail\n", (unsigned long long)n - 1);
    assert_true(n > 100);
    model_free(m);
    model_free(base);
}

static int end(void **state)
{
    (void)state;
    unlink(PATH);
    unlink(OTHER);
    unlink(OUT);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums), cmocka_unit_test(layouts), cmocka_unit_test(reads), cmocka_unit_test(old_form),
                                       cmocka_unit_test(exports), cmocka_unit_test(faults)};
    g_pool = pool_new(1, NULL);
    int rc = cmocka_run_group_tests(tests, NULL, end);
    pool_free(g_pool);
    return rc;
}
