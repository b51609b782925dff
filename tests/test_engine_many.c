/* Many users at once: who gets rows, slots and pages; that nobody is starved; that nobody's answer changes. */
#include "cachelib.h"

static Model         *g_model;
static const Kernels *g_kernels;

static int setup(void **state)
{
    aha_error e = {0};
    (void)state;
    g_kernels = cpu_kernels(NULL, &e);
    g_model = wide_model(false, DT_F32);
    return g_kernels ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    model_free(g_model);
    return 0;
}

/* a prompt that no other seed's has anything in common with */
static Seq *ask(Engine *g, int n_prompt, int max_new, uint64_t group, uint64_t seed)
{
    int32_t    prompt[512];
    SeqRequest r = {.prompt = prompt, .n_prompt = n_prompt, .max_new = max_new, .group = group};
    random_tokens(prompt, n_prompt, g->m->cfg.vocab, seed);
    return submit(g, &r);
}
static int n_new(const Seq *s)
{
    int n;
    seq_tokens(s, &n);
    return n;
}
static int steps_to_first_token(Engine *g, const Seq *s)
{
    int steps = 0;
    for (; n_new(s) == 0; steps++) step_guarded(g);
    return steps;
}

/* ---- a lone request beside a flood ---- */
enum { FLOOD = 50 };
static int lone_beside_flood(EngineOptions o, uint64_t group, int64_t *preempted)
{
    Engine *g = engine_open(g_model, g_kernels, NULL, o);
    Seq    *flood[FLOOD], *lone;
    int     steps;
    for (int i = 0; i < FLOOD; i++) flood[i] = ask(g, 100 + i, 60, 1, (uint64_t)i);
    for (int i = 0; i < 40; i++) step_guarded(g);
    lone = ask(g, 40, 5, group, 1000);
    steps = steps_to_first_token(g, lone);
    run_guarded(g);
    for (int i = 0; i < FLOOD; i++) {
        assert_int_equal(n_new(flood[i]), 60);
        seq_free(flood[i]);
    }
    assert_int_equal(n_new(lone), 5);
    seq_free(lone);
    assert_all_free(g);
    *preempted = engine_stats(g).preempted;
    engine_free(g);
    return steps;
}

static void test_lone_beside_flood(void **state)
{
    static const EngineOptions O[] = {
        {.chunk = 16, .seqs_max = 64},               /* room for all: rows are short */
        {.chunk = 16, .seqs_max = 8},                /* slots are */
        {.chunk = 16, .seqs_max = 64, .pages = 30},  /* pages are */
        {.chunk = 16, .seqs_max = 8, .batch_max = 9},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(O); i++) {
        int64_t preempted;
        int     other = lone_beside_flood(O[i], 2, &preempted), same;
        if (O[i].seqs_max == 8 || O[i].pages) assert_true(preempted > 0);
        same = lone_beside_flood(O[i], 1, &preempted);
        print_message("first token after %d steps, in the flood's own group after %d\n", other, same);
        assert_true(other <= (O[i].batch_max ? 40 : 6)); /* 3 chunks of its own, as many of the others */
        assert_true(same > 4 * other);
    }
}

/* ---- rows ---- */
/* Whoever decodes has a token in every step, and a step has one chunk of prompts, whoever comes. */
static void test_decoding_never_waits(void **state)
{
    Engine *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.chunk = 24});
    Seq    *s[30];
    int     n = 0, beside = 0;
    (void)state;
    for (int step = 0; n < 30 || step < 200; step++) {
        int64_t rows = engine_stats(g).rows;
        int     had[30], decoding = 0;
        if (step % 3 == 0 && n < 30) {
            s[n] = ask(g, 20 + 13 * n % 300, 60, (uint64_t)n % 4, (uint64_t)n);
            n++;
        }
        for (int i = 0; i < n; i++) had[i] = seq_state(s[i]) == SEQ_DECODING ? n_new(s[i]) : -1;
        step_guarded(g);
        for (int i = 0; i < n; i++) {
            if (had[i] < 0) continue;
            assert_int_equal(n_new(s[i]), had[i] + 1);
            decoding++;
        }
        rows = engine_stats(g).rows - rows;
        if (decoding) assert_true(rows <= decoding + 24);
        beside += decoding && rows == decoding + 24;
    }
    assert_true(beside > 50);
    run_guarded(g);
    for (int i = 0; i < n; i++) seq_free(s[i]);
    assert_all_free(g);
    engine_free(g);
}

/* Two groups with prompts to compute have as many rows each, whatever their numbers. */
static void test_rows_are_shared(void **state)
{
    Engine *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.chunk = 16, .batch_max = 32, .seqs_max = 32});
    Seq    *many[20], *few[2];
    int     a, b;
    (void)state;
    for (int i = 0; i < 20; i++) many[i] = ask(g, 200, 1, 7, (uint64_t)i);
    for (int i = 0; i < 2; i++) few[i] = ask(g, 400, 1, UINT64_MAX, 100 + (uint64_t)i);
    for (int i = 0; i < 20; i++) step_guarded(g);
    a = b = 0;
    for (int i = 0; i < 20; i++) a += seq_prompt_done(many[i]);
    for (int i = 0; i < 2; i++) b += seq_prompt_done(few[i]);
    assert_true(abs(a - b) <= 32);
    assert_int_equal(a + b, 20 * 32);
    run_guarded(g);
    for (int i = 0; i < 20; i++) seq_free(many[i]);
    for (int i = 0; i < 2; i++) seq_free(few[i]);
    assert_all_free(g);
    engine_free(g);
}

/* A group that was idle, or decoding, for long has saved nothing up. */
static void test_nothing_is_saved_up(void **state)
{
    Engine *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.chunk = 16});
    Seq    *idle, *busy[40], *late[4];
    int     before;
    (void)state;
    idle = ask(g, 1, 400, 1, 1);
    for (int i = 0; i < 40; i++) {
        busy[i] = ask(g, 64, 1, 2, 100 + (uint64_t)i);
        for (int j = 0; i < 38 && j < 5; j++) step_guarded(g);
    }
    for (int i = 0; i < 4; i++) late[i] = ask(g, 300, 1, 1, 200 + (uint64_t)i);
    before = seq_prompt_done(busy[38]);
    for (int i = 0; i < 4; i++) step_guarded(g);
    assert_true(seq_prompt_done(busy[38]) >= before + 16); /* its turn comes among the first */
    engine_cancel(g, idle);
    run_guarded(g);
    seq_free(idle);
    for (int i = 0; i < 40; i++) seq_free(busy[i]);
    for (int i = 0; i < 4; i++) seq_free(late[i]);
    engine_free(g);
}

/* ---- pages ---- */
static void test_the_group_with_most_gives(void **state)
{
    Engine *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.pages = 24});
    Seq    *big[4], *small;
    (void)state;
    for (int i = 0; i < 4; i++) big[i] = ask(g, 150, 150, 1, (uint64_t)i);
    step_guarded(g);
    small = ask(g, 40, 90, 2, 50); /* the youngest, and holds least */
    while (seq_state(small) == SEQ_WAITING) step_guarded(g);
    while (step_guarded(g) > 0) assert_true(seq_state(small) != SEQ_WAITING);
    assert_true(engine_stats(g).preempted > 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(n_new(big[i]), 150);
        seq_free(big[i]);
    }
    seq_free(small);
    assert_all_free(g);
    engine_free(g);
}

/* One that does not fit lets those pass that do, but not for ever. */
static void test_room_is_used(void **state)
{
    Engine *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.pages = 16, .seqs_max = 6});
    Seq    *first = ask(g, 250, 40, 1, 1), *large, *small[200];
    int     done = 0, n = 0;
    (void)state;
    step_guarded(g);
    large = ask(g, 400, 10, 1, 2);
    step_guarded(g);
    assert_int_equal(seq_state(large), SEQ_WAITING);
    small[n++] = ask(g, 40, 5, 1, 3);
    step_guarded(g);
    assert_true(n_new(small[0]) > 0);
    for (; seq_state(large) == SEQ_WAITING && n < 200; step_guarded(g)) { /* without end */
        small[n] = ask(g, 20, 30, 1, 10 + (uint64_t)n);
        n++;
    }
    assert_true(n < 200);
    run_guarded(g);
    assert_int_equal(n_new(large), 10);
    for (int i = 0; i < n; i++) done += n_new(small[i]) > 0;
    assert_int_equal(done, n);
    for (int i = 0; i < n; i++) seq_free(small[i]);
    seq_free(first);
    seq_free(large);
    assert_all_free(g);
    engine_free(g);
}

/* Long prompts are not begun where they cannot all be finished: nothing is computed twice before anything is generated. */
static void test_prompts_do_not_thrash(void **state)
{
    Engine *g = engine_open(g_model, g_kernels, NULL, (EngineOptions){.pages = 32});
    Seq    *s[8];
    (void)state;
    for (int i = 0; i < 8; i++) s[i] = ask(g, 300, 8, (uint64_t)i, (uint64_t)i); /* 10 pages each */
    run_guarded(g);
    assert_int_equal(engine_stats(g).preempted, 0);
    assert_int_equal(engine_stats(g).prompt_tokens, 8 * 300);
    for (int i = 0; i < 8; i++) seq_free(s[i]);
    engine_free(g);
}

/* ---- 200 at once, and alone ---- */
enum { CROWD = 200, CROWD_PROMPT = 160, CROWD_NEW = 50 };
typedef struct Asked {
    int32_t    prompt[CROWD_PROMPT];
    SeqRequest r;
    int32_t    token[CROWD_NEW];
    float      logp[CROWD_NEW];
    int        n;
} Asked;

static void make_crowd(Asked *a, int vocab)
{
    Rng r = {17, 5, 0};
    for (int i = 0; i < CROWD; i++) {
        int n = 1 + (int)rng_below(&r, CROWD_PROMPT), same = (int)rng_below(&r, (uint32_t)(i + 1));
        a[i].r = (SeqRequest){.prompt = a[i].prompt, .n_prompt = n, .max_new = 1 + (int)rng_below(&r, CROWD_NEW), .want_logp = true,
                              .group = rng_below(&r, 3) ? 0 : rng_below(&r, 20), .no_cache = rng_below(&r, 5) == 0,
                              .sample = {rng_below(&r, 3) ? 1 : 0, 1, 0, 0, 3, (uint64_t)i}};
        random_tokens(a[i].prompt, CROWD_PROMPT, vocab, (uint64_t)i);
        if (rng_below(&r, 2)) memcpy(a[i].prompt, a[same].prompt, (size_t)(1 + (int)rng_below(&r, CROWD_PROMPT)) * sizeof(int32_t));
    }
}

static void alone(const Model *m, Asked *a)
{
    Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){.seqs_max = 1});
    for (int i = 0; i < CROWD; i++) {
        SeqRequest r = a[i].r;
        Seq       *s;
        const int32_t *t;
        r.no_cache = true;
        s = submit(g, &r);
        run_guarded(g);
        t = seq_tokens(s, &a[i].n);
        memcpy(a[i].token, t, (size_t)a[i].n * sizeof *t);
        memcpy(a[i].logp, seq_logp(s), (size_t)a[i].n * sizeof(float));
        seq_free(s);
    }
    engine_free(g);
}

static void together(const Model *m, const Asked *a, EngineOptions o, Pool *pool)
{
    Engine *g = engine_open(m, g_kernels, pool, o);
    Seq    *s[CROWD];
    Rng     r = {1, 1, 0};
    for (int i = 0; i < CROWD; i++) {
        s[i] = submit(g, &a[i].r);
        if (rng_below(&r, 4) == 0) step_guarded(g);
    }
    run_guarded(g);
    for (int i = 0; i < CROWD; i++) {
        int            n;
        const int32_t *t = seq_tokens(s[i], &n);
        assert_int_equal(n, a[i].n);
        assert_memory_equal(t, a[i].token, (size_t)n * sizeof *t);
        assert_memory_equal(seq_logp(s[i]), a[i].logp, (size_t)n * sizeof(float));
        seq_free(s[i]);
    }
    assert_all_free(g);
    assert_true(engine_stats(g).cached_tokens > 1000);
    if (o.pages) assert_true(engine_stats(g).preempted > 0);
    engine_free(g);
}

static void test_two_hundred(void **state)
{
    static const EngineOptions O[] = {{0}, {.pages = 40, .draft = true}, {.seqs_max = 10, .chunk = 32, .batch_max = 50}};
    static Asked a[CROWD];
    aha_error    e = {0};
    Pool        *pool = pool_new(2, &e);
    (void)state;
    assert_non_null(pool);
    for (int t = 0; t < N_KV; t++)
        for (int latent = 0; latent < 2; latent++) {
            Model *m = wide_model(latent, KV_ALL[t].type);
            make_crowd(a, m->cfg.vocab);
            alone(m, a);
            for (size_t i = 0; i < ARRAY_LEN(O); i++)
                if (i > 0 || t == 0) together(m, a, O[i], i == 1 ? pool : NULL);
            model_free(m);
        }
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lone_beside_flood), cmocka_unit_test(test_decoding_never_waits), cmocka_unit_test(test_rows_are_shared),
        cmocka_unit_test(test_nothing_is_saved_up), cmocka_unit_test(test_the_group_with_most_gives), cmocka_unit_test(test_room_is_used),
        cmocka_unit_test(test_prompts_do_not_thrash), cmocka_unit_test(test_two_hundred),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
