/* Same answer with every rule of sampling at once: penalties, bias, likeliest tokens, the prompt's log-probabilities, thinking budgets,
 * repetition.  Whatever else runs, however prompts are cut, with guesses, preemption and threads, and with no memory for them. */
#include "enginelib.h"

#include <math.h>

enum { N_SUBJECT = 6, PROMPT_MAX = 100, NEW_MAX = 60, TOP = 4, VOCAB = 60 /* of the smallest */, OPEN = 58, CLOSE = 59 };

static const ThinkTags      TAGS = {.open = OPEN, .close = CLOSE, .end = {5, CLOSE, 5, 6}, .n_end = 4};
static const aha_logit_bias BIAS[] = {{3, 4}, {OPEN, 5}, {CLOSE, -100}, {12, -100}, {0, 1.5f}};
static const int32_t        END[] = {7, 8, 9, CLOSE, 9};

typedef struct Kept { /* what came out */
    int32_t        token[NEW_MAX];
    float          logp[NEW_MAX], prompt_logp[PROMPT_MAX];
    aha_token_logp top[NEW_MAX][TOP], prompt_top[PROMPT_MAX][TOP];
    bool           forced[NEW_MAX];
    int            n, n_think;
    SeqFinish      finish;
} Kept;

static int32_t g_prompt[N_SUBJECT][PROMPT_MAX];

static SeqRequest subject(int i)
{
    static const int N_PROMPT[N_SUBJECT] = {11, 97, 33, 64, 1, 40}, NEW[N_SUBJECT] = {60, 20, 50, 33, 60, 60};
    SeqRequest       r = {.prompt = g_prompt[i], .n_prompt = N_PROMPT[i], .max_new = NEW[i], .want_logp = true, .n_top = TOP};
    r.sample = (SampleParams){i == 0 ? 0 : 1, 1, 0, 0, 5, (uint64_t)i};
    r.want_prompt_logp = i % 2;
    if (i != 3) r.adjust = (SampleAdjust){BIAS, i % 2 || i == 2 ? 5 : 0, i == 4 ? 0.5f : 1.4f, 0.8f, i == 2 ? -1 : 0.6f};
    if (i >= 2) r.think = &TAGS;
    r.think_open = i == 3 || i == 5;
    r.think_budget = i == 2 ? 6 : i == 3 ? 10 : i == 4 ? 0 : -1;
    if (i == 3) r.think_end = END, r.n_think_end = 5;
    if (i == 5) r.think_budget = 23, r.then = END, r.n_then = 3;
    return r;
}

static void keep(Kept *k, const Seq *s)
{
    memset(k, 0, sizeof *k);
    memcpy(k->token, seq_tokens(s, &k->n), (size_t)k->n * sizeof *k->token);
    memcpy(k->logp, seq_logp(s), (size_t)k->n * sizeof *k->logp);
    memcpy(k->top, seq_top(s, 0), (size_t)k->n * sizeof k->top[0]);
    if (s->prompt_logp) {
        memcpy(k->prompt_logp, s->prompt_logp, (size_t)s->n_prompt * sizeof *k->prompt_logp);
        memcpy(k->prompt_top, s->prompt_top, (size_t)s->n_prompt * sizeof k->prompt_top[0]);
    }
    if (s->forced) memcpy(k->forced, s->forced, (size_t)k->n * sizeof *k->forced);
    k->n_think = seq_n_think(s);
    k->finish = seq_finish(s);
}

static void assert_same(const char *what, int i, const Kept *want, const Seq *s)
{
    Kept got;
    keep(&got, s);
    for (int j = 0; j < want->n; j++)
        if (got.token[j] != want->token[j]) fail_msg("%s: subject %d token %d is %d, was %d", what, i, j, got.token[j], want->token[j]);
    if (memcmp(&got, want, sizeof got) != 0) fail_msg("%s: subject %d has the same tokens, and something else beside them", what, i);
}

/* Each alone, in one piece, without a cache: what the others are compared with. */
static void make_reference(const Model *m, const Kernels *k, Kept *kept)
{
    Engine *g = engine_open(m, k, NULL, (EngineOptions){.chunk = 512});
    for (int i = 0; i < N_SUBJECT; i++) {
        SeqRequest r = subject(i);
        Seq       *s;
        r.no_cache = true;
        s = submit(g, &r);
        run_guarded(g);
        keep(&kept[i], s);
        assert_int_equal(kept[i].n, r.max_new);
        seq_free(s);
    }
    engine_free(g);
}

typedef struct Way {
    const char   *what;
    EngineOptions o;
    bool          apart, twice; /* one after the other; again, from what the cache has */
    int           threads;
} Way;

static void check_way(const Model *m, const Kernels *k, const Way *w, const Kept *kept)
{
    aha_error e = {0};
    Pool     *pool = w->threads ? pool_new(w->threads, &e) : NULL;
    Engine   *g = engine_open(m, k, pool, w->o);
    for (int round = 0; round <= w->twice; round++) {
        Seq *s[N_SUBJECT];
        for (int i = 0; i < N_SUBJECT; i++) {
            SeqRequest r = subject(i);
            s[i] = submit(g, &r);
            if (w->apart) run_guarded(g);
            else step_guarded(g);
        }
        run_guarded(g);
        for (int i = 0; i < N_SUBJECT; i++) {
            assert_same(w->what, i, &kept[i], s[i]);
            if (round && !w->o.pages && i % 2 == 0 && s[i]->n_prompt > KV_PAGE) assert_in_range(seq_prompt_cached(s[i]), KV_PAGE, PROMPT_MAX);
            if (i % 2) assert_int_equal(seq_prompt_cached(s[i]), 0);
            seq_free(s[i]);
        }
    }
    assert_all_free(g);
    if (w->o.pages && !w->apart) assert_true(engine_stats(g).preempted > 0);
    if (w->o.draft && m->cfg.n_mtp) assert_true(engine_stats(g).drafted > 20);
    print_message("%s: %lld of %lld guesses, %lld preempted\n", w->what, (long long)engine_stats(g).accepted, (long long)engine_stats(g).drafted,
                  (long long)engine_stats(g).preempted);
    engine_free(g);
    pool_free(pool);
}

static void test_same_answer(void **state)
{
    static const char *const MODEL[] = {"deepseek_v3-mtp", "qwen3"};
    static const Way         WAY[] = {
        {"together", {.chunk = 512}, false, true, 0},
        {"chunks of 1", {.chunk = 1}, false, false, 0},
        {"chunks of 7, three threads", {.chunk = 7, .batch_max = 40}, false, true, 3},
        {"guesses", {.draft = true}, false, true, 0},
        {"guesses, one by one, chunks of 5", {.draft = true, .chunk = 5}, true, true, 0},
        {"guesses, few pages, two threads", {.draft = true, .pages = 7, .chunk = 16}, false, false, 2},
        {"few pages", {.pages = 6}, false, true, 0},
    };
    const Kernels *k = cpu_kernels(NULL, NULL);
    (void)state;
    for (size_t j = 0; j < ARRAY_LEN(MODEL); j++) {
        static Kept kept[N_SUBJECT];
        Model      *m = golden_model(MODEL[j], DT_F32, false);
        int         forced = 0;
        make_reference(m, k, kept);
        for (int i = 0; i < N_SUBJECT; i++)
            for (int t = 0; t < kept[i].n; t++) forced += kept[i].forced[t];
        assert_true(forced >= 9);
        for (size_t w = 0; w < ARRAY_LEN(WAY); w++) check_way(m, k, &WAY[w], kept);
        model_free(m);
    }
}

/* A head of zeros, greedy: with a frequency penalty the ids come in turn, and guesses that count what is ahead all hold. */
static void test_penalties_see_guesses(void **state)
{
    const Kernels *k = cpu_kernels(NULL, NULL);
    Model         *m = golden_model("deepseek_v3-mtp", DT_F32, true);
    Engine        *g;
    SeqRequest     r = {.prompt = g_prompt[0], .n_prompt = 5, .max_new = 41, .adjust = {.frequency = 1}};
    Seq           *s;
    int            n;
    (void)state;
    memset((void *)(uintptr_t)m->head.data, 0, (size_t)m->head.rows * (size_t)m->head.cols * sizeof(float));
    g = engine_open(m, k, NULL, (EngineOptions){.draft = true});
    s = submit(g, &r);
    run_guarded(g);
    for (int i = 0; i < 41; i++) assert_int_equal(seq_tokens(s, &n)[i], i);
    assert_int_equal(engine_stats(g).drafted, 20);
    assert_int_equal(engine_stats(g).accepted, 20);
    seq_free(s);
    r.think = &TAGS;
    r.think_open = true;
    r.think_budget = 10;
    s = submit(g, &r);
    run_guarded(g);
    assert_memory_equal(seq_tokens(s, &n) + 10, TAGS.end, sizeof(int32_t) * 4);
    assert_int_equal(engine_stats(g).accepted, 40); /* what is forced is guessed */
    assert_int_equal(seq_n_think(s), 12);
    seq_free(s);
    engine_free(g);
    model_free(m);
}

/* What follows a thinking, whoever closed it; the model goes on behind it. */
static void test_then(void **state)
{
    static const aha_logit_bias SHUT[] = {{CLOSE, 100}, {12, -100}}, NEITHER[] = {{OPEN, -100}, {CLOSE, -100}, {12, -100}};
    static const aha_logit_bias ENDS[] = {{12, 100}};
    static const int32_t        THEN[] = {12, 13, CLOSE, 12}, t12 = 12;
    const Kernels *k = cpu_kernels(NULL, NULL);
    Model         *m = golden_model("deepseek_v3-mtp", DT_F32, false);
    (void)state;
    for (int way = 0; way < 4; way++) { /* closed by the budget or by the model; with guesses or not */
        Engine    *g = engine_open(m, k, NULL, (EngineOptions){.draft = way & 1});
        SeqRequest r = {.prompt = g_prompt[1], .n_prompt = 90, .max_new = 30, .sample = {1, 1, 0, 0, 3, 0}, .think = &TAGS, .think_open = true,
                        .think_budget = way < 2 ? 10 : -1, .then = THEN, .n_then = 4};
        int n, at = way < 2 ? 14 : 1;
        r.adjust = (SampleAdjust){.bias = way < 2 ? NEITHER : SHUT, .n_bias = way < 2 ? 3 : 2};
        Seq *s = submit(g, &r);
        run_guarded(g);
        const int32_t *t = seq_tokens(s, &n);
        assert_int_equal(n, 30);
        assert_int_equal(t[way < 2 ? 11 : 0], CLOSE);
        assert_memory_equal(t + at, THEN, sizeof THEN);
        for (int i = 0; i < n; i++) {
            assert_int_equal(seq_forced(s, i), i >= (way < 2 ? 10 : 1) && i < at + 4);
            if (i >= at + 4) assert_int_not_equal(t[i], 12); /* it is not said again */
        }
        seq_free(s);
        r.stop = &t12, r.n_stop = 1; /* it would end at once, and ends its thinking instead; behind that it may */
        r.adjust = (SampleAdjust){.bias = ENDS, .n_bias = 1};
        r.then = THEN + 1, r.n_then = 2;
        s = submit(g, &r);
        run_guarded(g);
        t = seq_tokens(s, &n);
        assert_int_equal(n, 3);
        assert_true(t[0] == CLOSE && t[1] == 13 && t[2] == CLOSE && seq_finish(s) == SEQ_FINISH_STOP);
        seq_free(s);
        engine_free(g);
    }
    model_free(m);
}

/* The same request with other streams computes its prompt once, rules or not; the prompt's log-probabilities need it whole. */
static void test_copies(void **state)
{
    enum { N = 5 };
    const Kernels *k = cpu_kernels(NULL, NULL);
    Model         *m = golden_model("deepseek_v3-mtp", DT_F32, false);
    (void)state;
    for (int way = 0; way < 3; way++) {
        Engine    *g = engine_open(m, k, NULL, (EngineOptions){.draft = way == 1});
        SeqRequest r = {.prompt = g_prompt[1], .n_prompt = 90, .max_new = 20, .sample = {1, 1, 0, 0, 3, 0}, .n_top = 2};
        Seq       *s[N];
        int        n, differ = 0;
        if (way) r.adjust = (SampleAdjust){.repetition = 1.2f, .frequency = 0.5f};
        r.want_prompt_logp = way == 2;
        for (int i = 0; i < N; i++) {
            r.sample.stream = (uint64_t)i;
            s[i] = submit(g, &r);
        }
        run_guarded(g);
        for (int i = 1; i < N; i++) {
            differ += memcmp(seq_tokens(s[i], &n), seq_tokens(s[0], &n), 20 * sizeof(int32_t)) != 0;
            assert_int_equal(seq_prompt_cached(s[i]), way == 2 ? 0 : 89);
        }
        assert_true(differ >= 3);
        if (way == 2) assert_int_equal(engine_stats(g).prompt_tokens, N * 90);
        else assert_in_range(engine_stats(g).prompt_tokens, 90 + N - 1, 90 + N); /* and the last token of each */
        for (int i = 0; i < N; i++) seq_free(s[i]);
        assert_all_free(g);
        engine_free(g);
    }
    model_free(m);
}

/* It goes round, and is ended, at the same token whatever else there is; without the rule it goes on. */
static void test_repeat(void **state)
{
    const Kernels *k = cpu_kernels(NULL, NULL);
    Model         *m = golden_model("deepseek_v3-mtp", DT_F32, true);
    (void)state;
    memset((void *)(uintptr_t)m->head.data, 0, (size_t)m->head.rows * (size_t)m->head.cols * sizeof(float));
    for (int way = 0; way < 4; way++) {
        Engine    *g = engine_open(m, k, NULL, (EngineOptions){.draft = way % 2});
        SeqRequest r = {.prompt = g_prompt[0], .n_prompt = 3, .max_new = 120, .repeat_min = way < 3 ? 70 : 0};
        Seq       *s = submit(g, &r), *other = NULL;
        int        n;
        if (way == 2) r.sample = (SampleParams){1, 1, 0, 0, 1, 1}, other = submit(g, &r);
        run_guarded(g);
        seq_tokens(s, &n);
        assert_int_equal(seq_finish(s), way < 3 ? SEQ_FINISH_REPEAT : SEQ_FINISH_LENGTH);
        assert_int_equal(n, way < 3 ? 96 : 120); /* looked for every 32 */
        assert_int_equal(s->repeat_period, way < 3 ? 1 : 0);
        assert_int_equal(s->repeat_tokens, way < 3 ? 96 : 0);
        if (other) assert_int_equal(seq_finish(other), SEQ_FINISH_LENGTH);
        seq_free(s);
        seq_free(other);
        assert_all_free(g);
        engine_free(g);
    }
    model_free(m);
}

static void refuse(Engine *g, SeqRequest r, int code, const char *word)
{
    aha_error e = {0};
    Seq      *s = (Seq *)1;
    assert_int_equal(engine_submit(g, &r, &s, &e), code);
    assert_null(s);
    if (!strstr(e.text, word)) fail_msg("\"%s\" lacks \"%s\"", e.text, word);
}

static void test_refusals(void **state)
{
    const Kernels       *k = cpu_kernels(NULL, NULL);
    Model               *m = golden_model("qwen3", DT_F32, false);
    Engine              *g = engine_open(m, k, NULL, (EngineOptions){0});
    const SeqRequest     ok = {.prompt = g_prompt[0], .n_prompt = 3, .max_new = 4, .think = &TAGS, .think_budget = 5};
    const ThinkTags      none = {.open = -1, .close = -1};
    const int32_t        far[] = {CLOSE, 1 << 20};
    const aha_logit_bias beyond = {m->cfg.vocab, 1};
    SeqRequest           r = ok;
    (void)state;
    r = ok, r.n_top = AHA_TOP_MAX + 1, refuse(g, r, AHA_ERR_ARG, "n_top");
    r = ok, r.n_top = -1, refuse(g, r, AHA_ERR_ARG, "n_top");
    r = ok, r.repeat_min = AHA_REPEAT_MIN - 1, refuse(g, r, AHA_ERR_ARG, "repeat_min");
    r = ok, r.repeat_min = AHA_REPEAT_MAX + 1, refuse(g, r, AHA_ERR_ARG, "repeat_min");
    r = ok, r.repeat_min = -5, refuse(g, r, AHA_ERR_ARG, "repeat_min");
    r = ok, r.think_budget = -2, refuse(g, r, AHA_ERR_ARG, "think_budget");
    r = ok, r.think = &none, refuse(g, r, AHA_ERR_UNSUPPORTED, "think_budget");
    r = ok, r.think_end = END, r.n_think_end = 3, refuse(g, r, AHA_ERR_ARG, "think_end");
    r = ok, r.think_end = END, r.n_think_end = 0, refuse(g, r, AHA_ERR_ARG, "n_think_end");
    r = ok, r.think_end = END, r.n_think_end = AHA_THINK_END_MAX + 1, refuse(g, r, AHA_ERR_ARG, "n_think_end");
    r = ok, r.think_end = far, r.n_think_end = 2, refuse(g, r, AHA_ERR_ARG, "think_end 1");
    r = ok, r.think_open = true, r.then = far, r.n_then = 2, refuse(g, r, AHA_ERR_ARG, "then 1");
    r = ok, r.think_open = true, r.then = END, r.n_then = AHA_THINK_END_MAX + 1, refuse(g, r, AHA_ERR_ARG, "n_then");
    r = ok, r.then = END, r.n_then = 2, refuse(g, r, AHA_ERR_UNSUPPORTED, "then has 2 tokens");
    r = ok, r.adjust = (SampleAdjust){.bias = &beyond, .n_bias = 1}, refuse(g, r, AHA_ERR_ARG, "bias 0");
    r = ok, r.adjust.presence = NAN, refuse(g, r, AHA_ERR_ARG, "presence_penalty");
    engine_free(g);
    model_free(m);
}

static void test_no_memory(void **state)
{
    const Kernels *k = cpu_kernels(NULL, NULL);
    Model         *m = golden_model("qwen3", DT_F32, false);
    Engine        *g = engine_open(m, k, NULL, (EngineOptions){0});
    SeqRequest     r = subject(3);
    uint64_t       all;
    (void)state;
    r.adjust = (SampleAdjust){BIAS, 5, 1.2f, 1, 1};
    os_fault_arm(OS_FAULT_ALLOC, 0);
    seq_free(submit(g, &r));
    all = os_fault_seen();
    assert_in_range(all, 9, 30);
    for (uint64_t n = 1; n <= all; n++) {
        aha_error e = {0};
        Seq      *s;
        os_fault_arm(OS_FAULT_ALLOC, n);
        assert_int_equal(engine_submit(g, &r, &s, &e), AHA_ERR_NOMEM);
        os_fault_arm(0, 0);
        assert_null(s);
        assert_true(strlen(e.text) > 10);
    }
    engine_free(g);
    model_free(m);
}

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < N_SUBJECT; i++) random_tokens(g_prompt[i], PROMPT_MAX, VOCAB, (uint64_t)i);
    memcpy(g_prompt[3], g_prompt[2], 33 * sizeof(int32_t)); /* a beginning in common */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answer), cmocka_unit_test(test_penalties_see_guesses), cmocka_unit_test(test_then), cmocka_unit_test(test_copies),
        cmocka_unit_test(test_repeat), cmocka_unit_test(test_refusals), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
