/* The trainer keeps its promises: the same weights whatever the threads; bad steps are not taken; the sampler agrees to the bit;
 * its checkpoints are whole, however a save ends. */
#include "learnlib.h"

static uint64_t model_hash(const Model *m)
{
    uint64_t h = 0;
    for (int i = 0; i < m->n_weight; i++) h = hash64(m->weight[i]->data, (size_t)m->weight[i]->rows * (size_t)m->weight[i]->cols * 4, h);
    return h;
}

static uint64_t train_hash(int threads, bool keep)
{
    Fixture   f;
    aha_error e = {0};
    Objective obj = {.draft_weight = 0.1};
    uint64_t  h;
    fixture_init(&f, threads, 100, keep);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(trainer_accumulate(&f.t, f.sample, 24, &obj, NULL, &e), e);
        ASSERT_OK(trainer_update(&f.t, 1, NULL, &e), e);
    }
    h = model_hash(f.m);
    fixture_free(&f);
    return h;
}

static void threads_change_no_bit(void **state)
{
    uint64_t one = train_hash(1, true);
    (void)state;
    assert_true(one == train_hash(2, true));
    assert_true(one == train_hash(3, true));
    assert_true(one == train_hash(7, true));
    assert_true(one == train_hash(2, false)); /* layers run again instead of kept */
}

static void bad_steps_are_not_taken(void **state)
{
    Fixture   f;
    aha_error e = {0};
    StepStats st;
    uint64_t  before;
    float     big[24][40];
    int       rc = 0;
    (void)state;
    fixture_init(&f, 2, 200, true);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(trainer_accumulate(&f.t, f.sample, 24, NULL, NULL, &e), e);
        ASSERT_OK(trainer_update(&f.t, 1, &st, &e), e);
        assert_false(st.skipped);
    }
    before = model_hash(f.m);
    for (int i = 0; i < 24; i++) {
        for (int j = 0; j < 40; j++) big[i][j] = f.coef[i][j] * 1e4f; /* and with it the gradient */
        f.sample[i].coef = big[i];
    }
    ASSERT_OK(trainer_accumulate(&f.t, f.sample, 24, NULL, NULL, &e), e);
    ASSERT_OK(trainer_update(&f.t, 1, &st, &e), e);
    assert_true(st.skipped);
    assert_true(before == model_hash(f.m));
    big[23][20] = NAN;
    for (int i = 0; i < 4 && rc == 0; i++) {
        ASSERT_OK(trainer_accumulate(&f.t, f.sample, 24, NULL, NULL, &e), e);
        rc = trainer_update(&f.t, 1, &st, &e);
        assert_true(st.skipped);
    }
    assert_int_equal(rc, AHA_ERR_STATE); /* five in a row */
    assert_true(before == model_hash(f.m));
    fixture_free(&f);
}

static void sampler_and_trainer_agree(void **state)
{
    Fixture       f;
    aha_error     e = {0};
    Engine       *g;
    EngineOptions eo = {.ctx_max = 128};
    Seq          *s[5];
    float        *logp[5];
    (void)state;
    fixture_init(&f, 2, 400, true);
    ASSERT_OK(engine_new(&g, f.m, f.t.k, f.pool, &eo, &e), e);
    for (int i = 0; i < 5; i++) {
        SeqRequest r = {.prompt = f.tok[10 + i], .n_prompt = 7 + 3 * i, .max_new = 60, .want_logp = true, .sample = {1, 1, 0, 0, 9, (uint64_t)i}};
        ASSERT_OK(engine_submit(g, &r, &s[i], &e), e);
    }
    ASSERT_OK(engine_run(g, &e), e);
    for (int i = 0; i < 5; i++) {
        int            n, p = 7 + 3 * i;
        const int32_t *t = seq_tokens(s[i], &n);
        int32_t       *all = malloc((size_t)(p + n) * sizeof *all);
        float         *coef = calloc((size_t)(p + n), sizeof *coef);
        Sample         x = {all, coef, p + n, 0};
        assert_int_equal(n, 60);
        memcpy(all, f.tok[10 + i], (size_t)p * sizeof *all);
        memcpy(all + p, t, (size_t)n * sizeof *all);
        for (int j = p; j < p + n; j++) coef[j] = 1;
        logp[i] = calloc((size_t)(p + n), sizeof **logp);
        ASSERT_OK(trainer_logp(&f.t, f.m, &x, 1, &logp[i], &e), e);
        assert_memory_equal(logp[i] + p, seq_logp(s[i]), (size_t)n * sizeof(float));
        memset(logp[i], 0, (size_t)(p + n) * sizeof **logp);
        ASSERT_OK(trainer_accumulate(&f.t, &x, 1, NULL, &logp[i], &e), e); /* under the tape too */
        assert_memory_equal(logp[i] + p, seq_logp(s[i]), (size_t)n * sizeof(float));
        free(all);
        free(coef);
        free(logp[i]);
        seq_free(s[i]);
    }
    engine_free(g);
    fixture_free(&f);
}

/* ---- checkpoints ---- */
/* A checkpoint that fails at any call leaves the old or the new one. */
static void faults_leave_a_whole_checkpoint(void **state)
{
    Fixture     f;
    aha_error   e = {0};
    RunState    s = {.step = 1, .has_model = true}, got;
    const char *dir = dir_of("faults");
    uint64_t    nth = 1;
    (void)state;
    fixture_init(&f, 1, 200, true);
    ASSERT_OK(checkpoint_save(dir, &s, &f.t, NULL, &e), e);
    for (; nth < 400; nth++) {
        bool     found;
        uint64_t seen;
        int      rc;
        s.step = (int64_t)nth + 1;
        os_fault_arm(OS_FAULT_OPEN | OS_FAULT_WRITE | OS_FAULT_SYNC | OS_FAULT_RENAME | OS_FAULT_ALLOC | OS_FAULT_MAP, nth);
        rc = checkpoint_save(dir, &s, &f.t, NULL, &e);
        seen = os_fault_seen();
        os_fault_arm(0, 0);
        ASSERT_OK(checkpoint_peek(dir, &got, &found, &e), e);
        assert_true(found);
        if (rc == 0) assert_int_equal(got.step, s.step);
        ASSERT_OK(checkpoint_load(dir, &f.t, NULL, &e), e);
        if (seen < nth) break;
    }
    assert_true(nth > 5 && nth < 400);
    fixture_free(&f);
}

/* Saves one checkpoint after the other, the step written into a weight, and says each that is done; until it is killed. */
static void save_for_ever(const char *dir, Trainer *t, int64_t step, int say)
{
    float    *w = (float *)(uintptr_t)t->m->weight[0]->data;
    aha_error e = {0};
    for (;; step++) {
        RunState s = {.step = step, .has_model = true};
        w[0] = (float)step;
        if (checkpoint_save(dir, &s, t, NULL, &e) || write(say, &step, sizeof step) != sizeof step) _exit(1);
    }
}

/* A hundred kills at random moments, nearly all of them inside a save: what is found is whole, and no older than the last one
 * that was said to be done. */
static void killed_saves_leave_a_whole_checkpoint(void **state)
{
    Fixture     f;
    aha_error   e = {0};
    RunState    got;
    Rng         rng = {17, 0, 0};
    const char *dir = dir_of("killed-saves");
    int64_t     done = 0, saves = 0;
    char      **names;
    int         n;
    (void)state;
    fixture_init(&f, 1, 200, true);
    for (int kills = 0; kills < 100; kills++) {
        int     ends[2], status;
        int64_t step = 0, before = done;
        bool    found;
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) save_for_ever(dir, &f.t, done + 1, ends[1]);
        close(ends[1]);
        if (kills % 4) assert_int_equal(read(ends[0], &done, sizeof done), sizeof done); /* it is at work; else at any moment */
        usleep((useconds_t)rng_below(&rng, 20000));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        while (read(ends[0], &step, sizeof step) == sizeof step) done = step;
        close(ends[0]);
        saves += done - before;
        ASSERT_OK(checkpoint_peek(dir, &got, &found, &e), e);
        assert_true(found || done == 0);
        if (!found) continue;
        if (got.step < done || got.step > done + 1) fail_msg("step %lld is found, %lld was done", (long long)got.step, (long long)done);
        ASSERT_OK(checkpoint_load(dir, &f.t, NULL, &e), e);
        assert_true(*(const float *)f.m->weight[0]->data == (float)got.step);
        done = got.step;
    }
    ASSERT_OK(dir_list(dir, &names, &n, &e), e);
    print_message("%lld saves, 100 of them killed; %d files are left\n", (long long)saves, n);
    assert_true(n <= 5); /* manifest and state, and what was being written */
    mem_free(names);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_bit),           cmocka_unit_test(bad_steps_are_not_taken),
        cmocka_unit_test(sampler_and_trainer_agree),       cmocka_unit_test(faults_leave_a_whole_checkpoint),
        cmocka_unit_test(killed_saves_leave_a_whole_checkpoint),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
