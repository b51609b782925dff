/* Same answer, with activations in 8 bits: whatever the chunks, the company, the cache, the threads and the instruction set, a
 * sequence gets the same tokens and log-probabilities to the last bit, for every block type in dense and expert models; and for float
 * types, whose activations are f32. */
#include <math.h>

#include "blocklib.h"
#include "enginelib.h"

enum { PROMPT = 41, NEW = 10, STRANGERS = 3 };

typedef struct Answer {
    int32_t token[NEW];
    float   logp[NEW];
} Answer;

typedef struct Way {
    const Kernels *k;
    int            threads, chunk, strangers;
    bool           twice; /* the second time the prompt is in the cache */
} Way;

static SeqRequest request(int32_t *prompt, int n, uint64_t seed)
{
    random_tokens(prompt, n, VOCAB, seed);
    return (SeqRequest){.prompt = prompt, .n_prompt = n, .max_new = NEW, .sample = {.temperature = 1, .top_p = 1, .seed = 3}, .want_logp = true};
}

static Answer answer(const Model *m, Way w)
{
    aha_error  e = {0};
    Pool      *pool = pool_new(w.threads, &e);
    Engine    *g = engine_open(m, w.k, pool, (EngineOptions){.batch_max = 64, .chunk = w.chunk, .seqs_max = 8, .pages = 64, .ctx_max = 64});
    int32_t    prompt[PROMPT], other[STRANGERS][PROMPT];
    SeqRequest r = request(prompt, PROMPT, 1);
    Answer     a;
    for (int i = 0; i <= (w.twice ? 1 : 0); i++) {
        Seq        *s = submit(g, &r), *strange[STRANGERS];
        int         n;
        for (int j = 0; j < w.strangers; j++) {
            SeqRequest o = request(other[j], PROMPT - 9 * j, 10 + (uint64_t)j);
            strange[j] = submit(g, &o);
        }
        run_guarded(g);
        const int32_t *t = seq_tokens(s, &n);
        assert_int_equal(n, NEW);
        memcpy(a.token, t, sizeof a.token);
        memcpy(a.logp, seq_logp(s), sizeof a.logp);
        for (int j = 0; j < w.strangers; j++) seq_free(strange[j]);
        seq_free(s);
    }
    engine_free(g);
    pool_free(pool);
    return a;
}

/* *want: what it must be, or, where NULL, what the plainest way gives */
static Answer check(const Model *m, const char *what, const Answer *expected)
{
    const Kernels *k[8];
    int            n = cpu_kernels_all(k, 8);
    Way            plain = {k[n - 1], 1, 64, 0, false}, ways[16];
    int            n_ways = 0;
    ways[n_ways++] = (Way){k[n - 1], 1, 1, 0, false};
    ways[n_ways++] = (Way){k[n - 1], 2, 7, STRANGERS, false};
    ways[n_ways++] = (Way){k[n - 1], 3, 64, 1, true};
    for (int i = 0; i < n - 1; i++) ways[n_ways++] = (Way){k[i], 2, i ? 16 : 64, i ? 2 : 0, false};
    Answer want = expected ? *expected : answer(m, plain);
    if (expected) ways[n_ways++] = plain;
    for (int i = 0; i < NEW; i++)
        if (!isfinite(want.logp[i])) fail_msg("%s: log-probability %d is %g", what, i, (double)want.logp[i]);
    for (int i = 0; i < n_ways; i++) {
        Answer got = answer(m, ways[i]);
        if (memcmp(&got, &want, sizeof got) != 0)
            fail_msg("%s: %s, %d threads, chunks of %d, %d strangers%s give another answer", what, ways[i].k->isa, ways[i].threads, ways[i].chunk,
                     ways[i].strangers, ways[i].twice ? ", cached," : "");
    }
    return want;
}

/* Weights to stripes; meanwhile answers are the same too. */
static void settle(const Model *m, const Answer *want)
{
    const Kernels *k[8];
    Way            way = {k[cpu_kernels_all(k, 8) - 1], 2, 16, 1, false};
    int            n = 0;
    model_settle(m, 0);
    model_settle_go(m);
    while (!model_settled(m)) {
        Answer got = answer(m, way);
        assert_memory_equal(&got, want, sizeof got);
    }
    for (int i = 0; i < m->n_weight; i++) n += m->weight[i]->settled != NULL;
    if (n < 7 || !m->head.settled) fail_msg("only %d of %d weights settled", n, m->n_weight);
}

static void every_type(void **state)
{
    (void)state;
    for (int k = -(int)ARRAY_LEN(BLOCK_FLOATS); k < QUANT_TYPES; k++)
        for (int form = 0; form < 3; form++) {
            size_t   n;
            uint8_t *b = form == 0 ? block_model_dense(k, &n) : block_model_moe(k, form == 1, &n);
            Model   *m = block_model_open(b, n, false);
            char     what[64];
            snprintf(what, sizeof what, "%s, form %d", dtype_info(block_type(k))->name, form);
            assert_true(m->act_q8);
            Answer want = check(m, what, NULL);
            settle(m, &want);
            check(m, what, &want);
            model_free(m);
            free(b);
        }
}

/* FP8 in a folder, of widths that are no multiples of sixteen, or of four: those stay as they are */
static void f8(void **state)
{
    (void)state;
    Model    *m;
    aha_error e = {0};
    int       n = 0, striped = 0;
    ASSERT_OK(model_open(&m, "tests/golden/deepseek_v3-fp8", &(ModelOptions){0}, &e), e);
    Answer want = check(m, "F8", NULL);
    settle(m, &want);
    for (int i = 0; i < m->n_weight; i++)
        if (m->weight[i]->dtype == DT_F8_E4M3) n++, striped += m->weight[i]->settled != NULL;
    if (striped == 0 || striped == n) fail_msg("%d of %d weights of F8 as stripes", striped, n);
    check(m, "F8", &want);
    model_free(m);
}

/* the two ways to multiply are near each other, and not the same */
static void near_f32(void **state)
{
    (void)state;
    const Kernels *k[8];
    int            n_k = cpu_kernels_all(k, 8);
    for (int t = 0; t < QUANT_TYPES; t++) {
        size_t   n;
        uint8_t *b = block_model_dense(t, &n);
        Model   *m = block_model_open(b, n, false);
        Way      w = {k[n_k - 1], 1, 64, 0, false};
        Answer   q8 = answer(m, w), f32;
        m->act_q8 = false;
        f32 = answer(m, w);
        if (memcmp(&q8.logp, &f32.logp, sizeof q8.logp) == 0) fail_msg("%s: activations were not rounded", dtype_info(QUANT_SCALES[t].type)->name);
        for (int i = 0; i < NEW && q8.token[i] == f32.token[i]; i++)
            if (fabsf(q8.logp[i] - f32.logp[i]) > 0.3f) /* at most 0.17 here, of IQ1_M, whose random weights are large */
                fail_msg("%s: log-probability %d is %.5f, of f32 activations %.5f", dtype_info(QUANT_SCALES[t].type)->name, i, (double)q8.logp[i],
                         (double)f32.logp[i]);
        model_free(m);
        free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type), cmocka_unit_test(f8), cmocka_unit_test(near_f32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
