/* Work that is saved without a trace in the answer: samples of one prompt share it, the draft layer guesses ahead. */
#include "enginelib.h"

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

/* ---- samples of one prompt ---- */
/* They share what is less than a page, whether they come together or later, and say what they would have said alone. */
static void test_group(void **state)
{
    static const int LEN[] = {2, 20, 33, 64, 90};
    (void)state;
    for (size_t l = 0; l < ARRAY_LEN(LEN); l++) {
        Engine    *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.draft = l % 2, .chunk = 48});
        SeqRequest r = plain(LEN[l], 30);
        Seq       *s[6], *alone[6];
        int64_t    prompt;
        int        n;
        r.want_logp = true;
        for (int i = 0; i < 6; i++) {
            r.sample = (SampleParams){1, 1, 0, 0, 4, (uint64_t)i};
            s[i] = submit(g, &r);
            for (int j = 0; i >= 3 && j < 7 * i - 20; j++) step_guarded(g); /* three together, the others later and later */
        }
        run_guarded(g);
        prompt = engine_stats(g).prompt_tokens;
        assert_true(prompt <= LEN[l] + 5 + 1); /* the first computes it, the others their last token; a page's end, perhaps */
        for (int i = 1; i < 6; i++) assert_int_equal(seq_prompt_cached(s[i]), LEN[l] - 1);
        r.no_cache = true;
        for (int i = 0; i < 6; i++) {
            r.sample.stream = (uint64_t)i;
            alone[i] = submit(g, &r);
            run_guarded(g);
            assert_memory_equal(seq_tokens(s[i], &n), seq_tokens(alone[i], &n), 30 * sizeof(int32_t));
            assert_memory_equal(seq_logp(s[i]), seq_logp(alone[i]), 30 * sizeof(float));
            seq_free(s[i]);
            seq_free(alone[i]);
        }
        assert_all_free(g);
        engine_free(g);
    }
}

/* waiting while the weights change, and then computing with the new ones, leaves findable pages */
static void test_waiting_over_new_weights(void **state)
{
    Engine    *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){0});
    SeqRequest r = plain(70, 3);
    Seq       *a = submit(g, &r), *b;
    (void)state;
    engine_weights_changed(g);
    run_guarded(g);
    b = submit(g, &r);
    run_guarded(g);
    assert_int_equal(seq_prompt_cached(b), 64);
    seq_free(a);
    seq_free(b);
    engine_free(g);
}

/* ---- guesses ---- */
/* A head of zeros: everything is equally likely, greedy decoding says 0 and so does the draft layer: all guesses hold. */
static void test_guesses_hold(void **state)
{
    Model      *m = golden_model("deepseek_v3-mtp", DT_F32, true);
    Engine     *g;
    SeqRequest  r = plain(12, 41);
    Seq        *s;
    EngineStats st;
    int         n;
    (void)state;
    memset((void *)(uintptr_t)m->head.data, 0, (size_t)m->head.rows * (size_t)m->head.cols * sizeof(float));
    g = engine_open(m, g_kernels, NULL, (EngineOptions){.draft = true});
    s = submit(g, &r);
    run_guarded(g);
    st = engine_stats(g);
    for (int i = 0; i < 41; i++) assert_int_equal(seq_tokens(s, &n)[i], 0);
    assert_int_equal(n, 41);
    assert_int_equal(st.accepted, 20); /* 1 with the prompt, then two a step */
    assert_int_equal(st.drafted, 20);
    assert_int_equal(st.steps, 21);
    seq_free(s);
    engine_free(g);
    model_free(m);
}

/* The guesses are those of the draft layer over a packed batch: as many hold as that says. */
static void test_guesses_are_the_draft_layers(void **state)
{
    enum { P = 12, N = 60 };
    Engine     *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.draft = true, .chunk = 5});
    SampleParams sample = {20, 1, 0, 0, 5, 0}; /* almost uniform: the same random number often picks the same */
    SeqRequest  r = {.prompt = PROMPT, .n_prompt = P, .max_new = N, .sample = sample};
    Seq        *s;
    int32_t     token[P + N], pos[P + N], seq[P + N] = {0};
    Batch       b = {.n = P + N, .token = token, .pos = pos, .seq = seq};
    Ctx         c;
    Tensor      normed, logits;
    aha_error   e = {0};
    int         n, held = 0;
    real        scratch[256];
    (void)state;
    s = submit(g, &r);
    run_guarded(g);
    memcpy(token, PROMPT, sizeof(int32_t) * P);
    memcpy(token + P, seq_tokens(s, &n), sizeof(int32_t) * N);
    for (int i = 0; i < P + N; i++) pos[i] = i;
    ASSERT_OK(ctx_init(&c, g_kernels, NULL, (size_t)64 << 20, (size_t)4 << 20, &e), e);
    normed = model_final_norm(&c, g_model, model_hidden(&c, g_model, &b, NULL));
    b.n--;
    b.hidden = normed.data;
    b.token = token + 1;
    logits = model_logits(&c, g_model, model_draft(&c, g_model, &b, NULL));
    assert_int_equal(ctx_failed(&c), 0);
    for (int at = P; at + 2 < P + N;) { /* token[at] is the newest; a guess for the one after it was made at row at - 1 */
        bool holds = sample_token(&c, tensor_row(logits, at - 1), logits.cols, &sample, at + 1, scratch, NULL) == token[at + 1];
        held += holds;
        at += holds ? 2 : 1;
    }
    print_message("%d of %lld guesses hold\n", held, (long long)engine_stats(g).drafted);
    assert_true(held > 5);
    assert_int_equal(engine_stats(g).accepted, held);
    ctx_free(&c);
    seq_free(s);
    engine_free(g);
}

/* A sequence that stops at a guess that held leaves no page with a token that it never had. */
static void test_stop_at_a_guess(void **state)
{
    int crossed = 0;
    (void)state;
    for (int p = 4; p < KV_PAGE - 1; p++) {
        Engine    *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.draft = true});
        SeqRequest r = plain(p, KV_PAGE - p + 8), next;
        int32_t    follow[KV_PAGE + 2] = {0}, stop;
        Seq       *s, *cached, *fresh;
        int        n, first = 0;
        r.sample = (SampleParams){20, 1, 0, 0, (uint64_t)p, 0};
        r.no_cache = true;
        s = submit(g, &r);
        run_guarded(g);
        memcpy(follow, PROMPT, (size_t)p * sizeof *follow);
        memcpy(follow + p, seq_tokens(s, &n), (size_t)(KV_PAGE - 1 - p) * sizeof *follow); /* then 0, as unwritten memory is */
        stop = seq_tokens(s, &n)[KV_PAGE - 1 - p];
        while (seq_tokens(s, &n)[first] != stop) first++;
        seq_free(s);
        if (first == KV_PAGE - 1 - p && stop != 0) {
            int64_t accepted = engine_stats(g).accepted;
            r.no_cache = false;
            r.stop = &stop;
            r.n_stop = 1;
            s = submit(g, &r);
            run_guarded(g);
            assert_int_equal(seq_finish(s), SEQ_FINISH_STOP);
            crossed += engine_stats(g).accepted > accepted;
            next = (SeqRequest){.prompt = follow, .n_prompt = KV_PAGE + 2, .max_new = 4, .want_logp = true};
            cached = submit(g, &next);
            next.no_cache = true;
            fresh = submit(g, &next);
            run_guarded(g);
            assert_memory_equal(seq_logp(cached), seq_logp(fresh), 4 * sizeof(float));
            assert_int_equal(seq_prompt_cached(cached), 0);
            seq_free(s);
            seq_free(cached);
            seq_free(fresh);
        }
        engine_free(g);
    }
    assert_true(crossed > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group), cmocka_unit_test(test_waiting_over_new_weights), cmocka_unit_test(test_guesses_hold),
        cmocka_unit_test(test_guesses_are_the_draft_layers), cmocka_unit_test(test_stop_at_a_guess),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
