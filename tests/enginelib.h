/* What the tests of src/infer share: the golden checkpoints, engines over them, packed batches to compare with. */
#ifndef AHA_ENGINELIB_H
#define AHA_ENGINELIB_H

#include "cpu/cpu.h"
#include "infer/inner.h"
#include "testlib.h"

static const char *const GOLDEN[] = {
    "llama", "llama-llama3-tied", "qwen2-sharded", "qwen2-tied", "qwen2-yarn", "qwen3", "qwen3-attn-factor", "qwen3-yarn",
    "deepseek_v2", "deepseek_v2-groups", "deepseek_v3", "deepseek_v3-halves-tied", "deepseek_v3-mscale", "deepseek_v3-mtp",
    "deepseek_v3-no-q-latent", "deepseek_v3-softmax", "deepseek_v3-unnormalised",
};
enum { N_GOLDEN = sizeof(GOLDEN) / sizeof(GOLDEN[0]), GOLDEN_PROMPT = 11, GOLDEN_NEW = 64 };

static inline Model *golden_model(const char *name, Dtype kv_type, bool trainable)
{
    char         path[512];
    aha_error    e = {0};
    Model       *m;
    ModelOptions o = {.kv_type = kv_type, .trainable = trainable};
    snprintf(path, sizeof path, "tests/golden/%s", name);
    ASSERT_OK(model_open(&m, path, &o, &e), e);
    return m;
}

static inline WeightFile *golden_expect(const char *name)
{
    char        path[512];
    aha_error   e = {0};
    WeightFile *w;
    snprintf(path, sizeof path, "tests/golden/%s/expect.safetensors", name);
    ASSERT_OK(weights_open(&w, path, &e), e);
    return w;
}

static inline const TensorInfo *expected(const WeightFile *w, const char *name)
{
    const TensorInfo *t = weights_find(w, name);
    if (!t) fail_msg("expect.safetensors lacks %s", name);
    return t;
}

/* An engine whose pages hold NaN: nothing may be read that was not written. */
static inline Engine *engine_open(const Model *m, const Kernels *k, Pool *pool, EngineOptions o)
{
    aha_error e = {0};
    Engine   *g;
    ASSERT_OK(engine_new(&g, m, k, pool, &o, &e), e);
    memset(kvcache_kv(g->kv)->base, 0xff, kvcache_bytes(m, kvcache_pages_total(g->kv)));
    return g;
}

static inline Seq *submit(Engine *g, const SeqRequest *r)
{
    aha_error e = {0};
    Seq      *s;
    ASSERT_OK(engine_submit(g, r, &s, &e), e);
    return s;
}

/* One step, in which nothing may be allocated. */
static inline int step_guarded(Engine *g)
{
    aha_error e = {0};
    int       left;
    os_alloc_guard(true);
    left = engine_step(g, &e);
    assert_int_equal(os_alloc_guard(false), 0);
    if (left < 0) fail_msg("engine_step: %s", e.text);
    return left;
}
static inline void run_guarded(Engine *g)
{
    while (step_guarded(g) > 0) continue;
}

/* no sequence holds a page */
static inline void assert_all_free(const Engine *g)
{
    assert_int_equal(kvcache_pages_free(g->kv), kvcache_pages_total(g->kv));
}

static inline void random_tokens(int32_t *t, int n, int vocab, uint64_t seed)
{
    Rng r = {seed, 77, 0};
    for (int i = 0; i < n; i++) t[i] = (int32_t)rng_below(&r, (uint32_t)vocab);
}

#endif
