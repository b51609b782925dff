/* The engine where things go wrong or change: limits, cancelling, callbacks, exhausted memory, broken weights, new weights,
 * the engine's own stopwatch. */
#include "enginelib.h"

#include <math.h>

static Model        *g_model;
static const Kernels *g_kernels;

static int setup(void **state)
{
    aha_error e = {0};
    (void)state;
    g_kernels = cpu_kernels(NULL, &e);
    g_model = golden_model("deepseek_v3-mtp", DT_F32, false);
    return g_kernels ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    model_free(g_model);
    return 0;
}

static const int32_t PROMPT[100] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static SeqRequest plain(int n_prompt, int max_new)
{
    return (SeqRequest){.prompt = PROMPT, .n_prompt = n_prompt, .max_new = max_new};
}

/* ---- limits ---- */
static void refuse(Engine *g, SeqRequest r, int code)
{
    aha_error e = {0};
    Seq      *s = (Seq *)1;
    assert_int_equal(engine_submit(g, &r, &s, &e), code);
    assert_int_equal(e.code, code);
    assert_true(strlen(e.text) > 10);
    assert_null(s);
}

static void test_limits(void **state)
{
    Engine    *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){0});
    int32_t    bad[] = {3, -1, 64}, too_high[] = {0, g_model->cfg.vocab};
    SeqRequest r;
    aha_error  e = {0};
    float      logp[4];
    (void)state;
    refuse(g, plain(0, 4), AHA_ERR_ARG);
    refuse(g, plain(4, 0), AHA_ERR_ARG);
    refuse(g, plain(4, INT32_MAX), AHA_ERR_LIMIT);
    refuse(g, plain(INT32_MAX, INT32_MAX), AHA_ERR_LIMIT);
    refuse(g, plain(100, 29), AHA_ERR_LIMIT);
    r = plain(3, 4), r.prompt = bad, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.prompt = too_high, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.stop = too_high, r.n_stop = 2, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.n_stop = -1, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.n_stop = 1 << 20, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.sample.temperature = -1, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.sample.temperature = NAN, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.sample.temperature = INFINITY, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.sample = (SampleParams){1, 0, 0, 0, 0, 0}, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.sample = (SampleParams){1, 1.5f, 0, 0, 0, 0}, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.sample = (SampleParams){1, 1, -3, 0, 0, 0}, refuse(g, r, AHA_ERR_ARG);
    r = plain(2, 4), r.sample = (SampleParams){1, 1, 0, NAN, 0, 0}, refuse(g, r, AHA_ERR_ARG);
    assert_int_equal(engine_score(g, bad, 3, logp, NULL, NULL, &e), AHA_ERR_ARG);
    assert_int_equal(engine_score(g, PROMPT, 0, logp, NULL, NULL, &e), AHA_ERR_ARG);
    assert_int_equal(engine_score(g, PROMPT, 129, logp, NULL, NULL, &e), AHA_ERR_LIMIT);
    ASSERT_OK(engine_score(g, PROMPT, 1, NULL, NULL, NULL, &e), e);
    assert_int_equal(engine_step(g, &e), 0);
    assert_int_equal(engine_run(g, &e), 0);
    engine_free(g);
}

static void test_options(void **state)
{
    static const EngineOptions BAD[] = {{.batch_max = -1}, {.chunk = -5}, {.seqs_max = 1 << 20}, {.ctx_max = 129}, {.pages = -1}};
    aha_error e = {0};
    Engine   *g;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_int_equal(engine_new(&g, g_model, g_kernels, NULL, &BAD[i], &e), AHA_ERR_ARG);
        assert_null(g);
    }
    g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.pages = 1, .batch_max = 1, .seqs_max = 1});
    refuse(g, plain(30, 3), AHA_ERR_LIMIT); /* fits into the context, not into the page */
    Seq *s[3];
    for (int i = 0; i < 3; i++) {
        SeqRequest r = plain(30, 2);
        s[i] = submit(g, &r);
    }
    run_guarded(g);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(seq_finish(s[i]), SEQ_FINISH_LENGTH);
        seq_free(s[i]);
    }
    assert_all_free(g);
    engine_free(g);
}

/* ---- stopping ---- */
static void test_stop(void **state)
{
    Engine     *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.draft = true});
    SeqRequest  r = plain(12, 20);
    Seq        *whole, *cut;
    const int32_t *t, *u;
    int32_t     stop[2];
    int         n, m, first = 0;
    (void)state;
    whole = submit(g, &r);
    run_guarded(g);
    t = seq_tokens(whole, &n);
    assert_int_equal(n, 20);
    assert_int_equal(seq_stop_token(whole), -1);
    while (t[first] != t[7]) first++;
    stop[0] = t[7];
    stop[1] = 63;
    r.stop = stop;
    r.n_stop = 2;
    r.want_logp = true;
    cut = submit(g, &r);
    stop[0] = 0; /* it has its own copy */
    run_guarded(g);
    u = seq_tokens(cut, &m);
    assert_int_equal(seq_finish(cut), SEQ_FINISH_STOP);
    assert_true(m <= first);
    assert_memory_equal(u, t, (size_t)m * sizeof *t);
    assert_int_equal(seq_stop_token(cut), t[m]);
    for (int i = 0; i <= m; i++) assert_true(seq_logp(cut)[i] < 0);
    seq_free(whole);
    seq_free(cut);
    assert_all_free(g);
    engine_free(g);
}

/* ---- callbacks ---- */
typedef struct Watch {
    Engine *g;
    Seq    *victim; /* cancelled at the second token */
    int     tokens, dones, more;
    bool    free_done;
    SeqFinish last;
} Watch;
static void watch_done(void *user, Seq *s)
{
    Watch *w = user;
    w->dones++;
    w->last = seq_finish(s);
    assert_int_equal(seq_state(s), SEQ_DONE);
    if (w->free_done) seq_free(s);
}
static void watch_token(void *user, Seq *s, int32_t token, float logp)
{
    Watch        *w = user;
    int           n;
    const int32_t *t = seq_tokens(s, &n);
    aha_error     e = {0};
    (void)logp;
    assert_int_equal(t[n - 1], token);
    assert_int_equal(engine_step(w->g, &e), AHA_ERR_STATE);
    assert_int_equal(engine_score(w->g, PROMPT, 3, NULL, NULL, NULL, &e), AHA_ERR_STATE);
    if (++w->tokens == 2 && w->victim) engine_cancel(w->g, w->victim);
    if (w->more > 0) { /* another one, from inside */
        SeqRequest r = plain(5 + w->more, 3);
        r.on_done = watch_done;
        r.user = w;
        w->more--;
        submit(w->g, &r);
    }
}

static void test_callbacks(void **state)
{
    Engine    *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.seqs_max = 2});
    Watch      w = {.g = g, .more = 3, .free_done = true};
    SeqRequest r = plain(40, 6);
    aha_error  e = {0};
    (void)state;
    r.on_token = watch_token;
    r.on_done = watch_done;
    r.user = &w;
    submit(g, &r);
    ASSERT_OK(engine_run(g, &e), e);
    assert_int_equal(w.tokens, 6);
    assert_int_equal(w.dones, 4);
    assert_all_free(g);
    engine_free(g);
}

/* cancelled from a callback: itself, one that runs (before it and after it in the batch), one that waits */
static void test_cancel(void **state)
{
    (void)state;
    for (int which = 0; which < 4; which++) {
        Engine    *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.seqs_max = 3, .draft = which % 2});
        Watch      w[4];
        Seq       *s[4];
        aha_error  e = {0};
        for (int i = 0; i < 4; i++) {
            SeqRequest r = plain(10 + i, 9);
            w[i] = (Watch){.g = g};
            r.on_token = watch_token;
            r.on_done = watch_done;
            r.user = &w[i];
            s[i] = submit(g, &r);
        }
        w[1].victim = s[which];
        ASSERT_OK(engine_run(g, &e), e);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(w[i].dones, 1);
            assert_int_equal(seq_finish(s[i]), i == which ? SEQ_FINISH_CANCELLED : SEQ_FINISH_LENGTH);
            if (i != which) assert_int_equal(w[i].tokens, 9);
            engine_cancel(g, s[i]); /* done already: nothing */
            assert_int_equal(w[i].dones, 1);
            seq_free(s[i]);
        }
        assert_all_free(g);
        engine_free(g);
    }
}

static void test_cancel_outside(void **state)
{
    Engine    *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.seqs_max = 2, .chunk = 4});
    Watch      w = {.g = g};
    SeqRequest r = plain(50, 9);
    Seq       *a, *b, *c;
    (void)state;
    r.on_done = watch_done;
    r.user = &w;
    a = submit(g, &r);
    engine_cancel(g, a); /* waiting */
    assert_int_equal(w.dones, 1);
    b = submit(g, &r);
    c = submit(g, &r);
    submit(g, &r); /* stays, and is cancelled when the engine goes */
    step_guarded(g);
    assert_int_equal(seq_state(b), SEQ_PREFILL);
    assert_int_equal(seq_prompt_done(b), 4);
    engine_cancel(g, b); /* in the middle of its prompt */
    assert_int_equal(seq_finish(b), SEQ_FINISH_CANCELLED);
    assert_int_equal(w.dones, 2);
    for (int i = 0; i < 16; i++) step_guarded(g);
    assert_int_equal(seq_state(c), SEQ_DECODING);
    assert_int_equal(seq_prompt_done(c), 50);
    seq_free(c); /* not done: gone without a word */
    assert_int_equal(w.dones, 2);
    w.free_done = true;
    seq_free(a);
    seq_free(b);
    engine_free(g);
    assert_int_equal(w.dones, 3);
    assert_int_equal(w.last, SEQ_FINISH_CANCELLED);
}

/* ---- memory that runs out ---- */
static void test_faults_new(void **state)
{
    aha_error     e = {0};
    Engine       *g = NULL;
    EngineOptions o = {.draft = true};
    Pool         *pool = pool_new(2, &e);
    int           rc = -1;
    (void)state;
    for (uint64_t n = 1; rc; n++) {
        memset(&e, 0, sizeof e);
        os_fault_arm(OS_FAULT_ALLOC, n);
        rc = engine_new(&g, g_model, g_kernels, pool, &o, &e);
        os_fault_arm(0, 0);
        assert_true(n < 200);
        if (rc == 0) break;
        assert_int_equal(rc, AHA_ERR_NOMEM);
        assert_int_equal(e.code, AHA_ERR_NOMEM);
        assert_true(strlen(e.text) > 10);
        assert_null(g);
    }
    rc = -1;
    for (uint64_t n = 1; rc; n++) {
        SeqRequest r = plain(40, 5);
        int32_t    stop = 1;
        Seq       *s;
        r.want_logp = true;
        r.stop = &stop;
        r.n_stop = 1;
        os_fault_arm(OS_FAULT_ALLOC, n);
        rc = engine_submit(g, &r, &s, &e);
        os_fault_arm(0, 0);
        assert_true(n < 50);
        if (rc) {
            assert_int_equal(rc, AHA_ERR_NOMEM);
            assert_null(s);
            continue;
        }
        os_fault_arm(OS_FAULT_ALLOC, 0); /* counts */
        run_guarded(g);
        assert_int_equal(os_fault_seen(), 0);
        os_fault_arm(0, 0);
        assert_int_equal(seq_finish(s), SEQ_FINISH_LENGTH);
        seq_free(s);
    }
    os_fault_arm(OS_FAULT_ALLOC, 1);
    assert_int_equal(engine_score(g, PROMPT, 9, NULL, NULL, NULL, &e), AHA_ERR_NOMEM);
    os_fault_arm(0, 0);
    assert_all_free(g);
    engine_free(g);
    pool_free(pool);
}

/* an expert store whose reads fail now and then: the sequences of that batch end, the engine lives on */
static ExpertStore *g_inner;
static int          g_fail_at, g_acquired;
static int failing_acquire(ExpertStore *s, int layer, const int32_t *id, int n, Expert *out, aha_error *e)
{
    (void)s;
    if (++g_acquired == g_fail_at) return error_set(e, AHA_ERR_IO, "the disk is gone");
    return g_inner->acquire(g_inner, layer, id, n, out, e);
}
static void failing_release(ExpertStore *s, int layer, const int32_t *id, int n) { (void)s, (void)layer, (void)id, (void)n; }

static void test_failing_store(void **state)
{
    ExpertStore failing = {failing_acquire, failing_release, NULL};
    Engine     *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.draft = true});
    SeqRequest  r = plain(40, 8);
    Seq        *good, *bad, *waiting;
    aha_error   e = {0};
    int         n;
    (void)state;
    good = submit(g, &r);
    run_guarded(g);
    for (g_fail_at = 1; g_fail_at < 400; g_fail_at += 13) {
        Seq *again;
        int  rc;
        g_inner = g_model->store;
        g_model->store = &failing;
        g_acquired = 0;
        r.no_cache = false;
        bad = submit(g, &r);
        rc = engine_run(g, &e);
        waiting = submit(g, &r);
        g_model->store = g_inner;
        if (rc) {
            assert_int_equal(rc, AHA_ERR_IO);
            assert_string_equal(e.text, "the disk is gone");
            assert_int_equal(seq_finish(bad), SEQ_FINISH_ERROR);
        }
        again = submit(g, &r);
        run_guarded(g); /* what the failed one left in the cache is sound */
        assert_memory_equal(seq_tokens(again, &n), seq_tokens(good, &n), 8 * sizeof(int32_t));
        assert_memory_equal(seq_tokens(waiting, &n), seq_tokens(good, &n), 8 * sizeof(int32_t));
        seq_free(bad);
        seq_free(again);
        seq_free(waiting);
        assert_all_free(g);
    }
    seq_free(good);
    engine_free(g);
}

/* ---- weights ---- */
static void test_broken_weights(void **state)
{
    Model     *m = golden_model("deepseek_v3-mtp", DT_F32, true);
    float     *head = (float *)(uintptr_t)m->head.data;
    SeqRequest r = plain(5, 5);
    (void)state;
    for (int i = 0; i < m->head.rows * m->head.cols; i++) head[i] = NAN;
    for (int draft = 0; draft < 2; draft++) {
        Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){.draft = draft});
        Seq    *s = submit(g, &r);
        run_guarded(g);
        assert_int_equal(seq_finish(s), SEQ_FINISH_ERROR);
        seq_free(s);
        assert_all_free(g);
        engine_free(g);
    }
    model_free(m);
}

static void test_new_weights(void **state)
{
    Model     *m = golden_model("qwen3", DT_F32, true);
    float     *w = (float *)(uintptr_t)m->layer[0].k.data, *h = (float *)(uintptr_t)m->head.data;
    Engine    *g = engine_open(m, g_kernels, NULL, (EngineOptions){0}), *fresh;
    SeqRequest r = plain(70, 10);
    Seq       *before, *during, *after, *want;
    int        n;
    (void)state;
    r.want_logp = true;
    before = submit(g, &r);
    during = submit(g, &r);
    for (int i = 0; i < 4; i++) step_guarded(g);
    for (int i = 0; i < m->layer[0].k.rows * m->layer[0].k.cols; i++) w[i] *= 1.5f;
    for (int i = 0; i < m->head.rows * m->head.cols; i++) h[i] *= 1.1f;
    engine_weights_changed(g);
    run_guarded(g);
    after = submit(g, &r);
    run_guarded(g);
    assert_int_equal(seq_prompt_cached(after), 0);
    fresh = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    want = submit(fresh, &r);
    run_guarded(fresh);
    assert_memory_equal(seq_tokens(after, &n), seq_tokens(want, &n), 10 * sizeof(int32_t));
    assert_memory_equal(seq_logp(after), seq_logp(want), 10 * sizeof(float));
    assert_memory_not_equal(seq_logp(after), seq_logp(before), 10 * sizeof(float));
    seq_free(before);
    seq_free(during);
    seq_free(after);
    seq_free(want);
    assert_all_free(g);
    engine_free(g);
    engine_free(fresh);
    model_free(m);
}

/* ---- speed ---- */
static void test_bench(void **state)
{
    Engine   *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){0});
    Bench     b = {.n_prompt = 40, .n_new = 10, .n_seqs = 3}, bad = {.n_prompt = 100, .n_new = 29, .n_seqs = 2};
    aha_error e = {0};
    (void)state;
    ASSERT_OK(engine_bench(g, g_model, &b, &e), e);
    assert_int_equal(b.prompt_tokens, 120);
    assert_int_equal(b.new_tokens, 27);
    assert_int_equal(b.steps, 9);
    assert_true(b.prompt_s > 0 && b.new_s > 0);
    assert_int_equal(engine_bench(g, g_model, &bad, &e), AHA_ERR_LIMIT);
    bad.n_seqs = 0;
    assert_int_equal(engine_bench(g, g_model, &bad, &e), AHA_ERR_ARG);
    bad = (Bench){.n_prompt = 8, .n_new = 1, .n_seqs = 1, .depth = 33};
    assert_int_equal(engine_bench(g, g_model, &bad, &e), AHA_ERR_ARG);
    assert_all_free(g);
    engine_free(g);
}

/* What a depth holds is found, not computed, by every sequence and again in the next run; a cache too small for it says so. */
static void test_bench_depth(void **state)
{
    Engine     *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.pages = 14});
    Bench       b = {.n_prompt = 20, .n_new = 5, .n_seqs = 3, .depth = 64};
    aha_error   e = {0};
    (void)state;
    for (b.run = 0; b.run < 5; b.run++) {
        ASSERT_OK(engine_bench(g, g_model, &b, &e), e);
        assert_int_equal(b.prompt_tokens, 60);
        assert_int_equal(b.new_tokens, 12);
    }
    b.n_seqs = 8;
    assert_int_equal(engine_bench(g, g_model, &b, &e), AHA_ERR_LIMIT);
    assert_all_free(g);
    b.n_seqs = 1;
    ASSERT_OK(engine_bench(g, g_model, &b, &e), e);
    engine_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits), cmocka_unit_test(test_options), cmocka_unit_test(test_stop), cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_cancel), cmocka_unit_test(test_cancel_outside), cmocka_unit_test(test_faults_new),
        cmocka_unit_test(test_failing_store), cmocka_unit_test(test_broken_weights), cmocka_unit_test(test_new_weights),
        cmocka_unit_test(test_bench), cmocka_unit_test(test_bench_depth),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
