/* What is planned before there is an engine, or a weight, is what is allocated. */
#include "cachelib.h"

#include <dirent.h>

static Kernels const *g_k;
static Pool *g_pool;

static void same_memory(const char *what, EngineMemory a, EngineMemory b)
{
    if (a.kv != b.kv || a.activations != b.activations || a.scratch != b.scratch || a.batch != b.batch)
        fail_msg("%s: planned kv %zu, activations %zu, scratch %zu, batch %zu; allocated %zu, %zu, %zu, %zu", what, a.kv, a.activations, a.scratch,
                 a.batch, b.kv, b.activations, b.scratch, b.batch);
}

/* m: what is planned with; run: what runs */
static void plan_equals_engine(const char *what, const Model *m, const Model *run)
{
    static const EngineOptions OPTIONS[] = {{0}, {.ctx_max = 64, .seqs_max = 1}, {.batch_max = 40, .seqs_max = 3, .chunk = 16, .ctx_max = 96, .draft = true}};
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        aha_error    e = {0};
        EngineMemory planned;
        Engine      *g;
        ASSERT_OK(engine_plan(&planned, m, g_k, pool_threads(g_pool), &OPTIONS[i], &e), e);
        ASSERT_OK(engine_new(&g, run, g_k, g_pool, &OPTIONS[i], &e), e);
        same_memory(what, planned, engine_memory(g));
        engine_free(g);
    }
}

static void test_golden_models(void **state)
{
    (void)state;
    for (int i = 0; i < N_GOLDEN; i++) {
        Model *m = golden_model(GOLDEN[i], i % 2 ? DT_BF16 : DT_F32, false);
        plan_equals_engine(GOLDEN[i], m, m);
        model_free(m);
    }
}

static void test_kv_types(void **state)
{
    (void)state;
    for (int t = 0; t < N_KV; t++)
        for (int latent = 0; latent < 2; latent++) {
            Model *m = wide_model(latent, KV_ALL[t].type);
            plan_equals_engine(KV_ALL[t].name, m, m);
            model_free(m);
        }
}

static Model *shape_of(const Model *m, Dtype type, bool whole, ModelFileSize *size)
{
    aha_error    e = {0};
    Model       *s;
    ModelShape   want = {.mix = weight_mix_of(type), .gguf = dtype_is_blocked(type), .whole_kv_b = whole};
    ModelOptions o = {.kv_type = m->kv_shape.type};
    ASSERT_OK(model_shape(&s, &m->cfg, &want, &o, size, &e), e);
    return s;
}

/* Folders of one type: shapes alone tell what opening them takes, and what an engine over them takes. */
static void shapes_equal(const char *path)
{
    aha_error     e = {0};
    Model        *m, *s;
    ModelFileSize size;
    ModelOptions  o = {.kv_type = DT_BF16};
    ASSERT_OK(model_open(&m, path, &o, &e), e);
    s = shape_of(m, m->layer[0].o.dtype, false, &size);
    assert_int_equal(s->n_weight, m->n_weight);
    assert_int_equal(s->owned_bytes, m->owned_bytes);
    assert_int_equal(s->mapped_bytes, m->mapped_bytes);
    for (int i = 0; i < m->n_weight; i++) {
        assert_string_equal(s->weight[i]->name, m->weight[i]->name);
        assert_int_equal(s->weight[i]->dtype, m->weight[i]->dtype);
    }
    assert_int_equal(size.tensors, weights_count(m->file));
    assert_int_equal(size.bytes, weights_bytes(m->file));
    plan_equals_engine(path, s, m);
    model_free(s);
    model_free(m);
}

static void test_shapes(void **state)
{
    (void)state;
    shapes_equal("models/aha-tiny");
    shapes_equal("tests/golden/llama");
    shapes_equal("tests/golden/qwen2-tied");
    shapes_equal("tests/golden/qwen3");
    shapes_equal("tests/golden/deepseek_v3");
    shapes_equal("tests/golden/deepseek_v3-no-q-latent");
    shapes_equal("tests/golden/deepseek_v3-fp8");
    shapes_equal("tests/golden/deepseek_v3-wide");
}

/* GGUF files: an engine over them, whichever types and layout they have. */
static void test_gguf_models(void **state)
{
    DIR                 *d = opendir("tests/gguf");
    const struct dirent *f;
    int                  n = 0;
    (void)state;
    assert_non_null(d);
    while ((f = readdir(d))) {
        char      path[512];
        aha_error e = {0};
        Model    *m;
        if (!strstr(f->d_name, ".gguf") || (strstr(f->d_name, "-of-") && !strstr(f->d_name, "-00001-of-"))) continue;
        snprintf(path, sizeof path, "tests/gguf/%s", f->d_name);
        if (model_open(&m, path, NULL, &e)) continue; /* a file of blocks, no model */
        plan_equals_engine(path, m, m);
        model_free(m);
        n++;
    }
    closedir(d);
    assert_true(n > 4);
}

/* A shape in every type and layout can be counted. */
static void test_every_type(void **state)
{
    Model *m = golden_model("deepseek_v3", DT_F32, false);
    (void)state;
    for (Dtype t = 0; t < DT_COUNT; t++) {
        if (!dtype_info(t)->weight) continue;
        for (int whole = 0; whole < 2; whole++) {
            ModelFileSize size;
            EngineMemory  memory;
            aha_error     e = {0};
            Model        *s = shape_of(m, t, whole, &size);
            ASSERT_OK(engine_plan(&memory, s, g_k, 1, NULL, &e), e);
            assert_true(size.bytes > 0 && size.tensors > 0 && s->mapped_bytes + s->owned_bytes > 0 && memory.activations > 0);
            model_free(s);
        }
    }
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden_models), cmocka_unit_test(test_kv_types), cmocka_unit_test(test_shapes),
                                       cmocka_unit_test(test_gguf_models), cmocka_unit_test(test_every_type)};
    aha_error e = {0};
    int       rc;
    g_k = cpu_kernels(NULL, &e);
    g_pool = pool_new(3, &e);
    if (!g_k || !g_pool) return 1;
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    pool_free(g_pool);
    return rc;
}
