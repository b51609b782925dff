/* Learning keeps its promises: the same weights whatever the threads, however it was killed; bad steps are not taken;
 * the sampler and the trainer agree to the bit; no held-out problem is ever trained on. */
#include "cpu/cpu.h"
#include "learn/checkpoint.h"
#include "learn/learn.h"
#include "learn/rollout.h"
#include "learn/run.h"
#include "learn/task.h"
#include "testlib.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char RECIPE[] =
    "name = test\nseed = 3\ncontext = 256\nslot_tokens = 300\ncheckpoint_s = 1000\n"
    "[model]\nd_model = 32\nn_layer = 2\nn_dense_first = 1\nn_head = 2\nnope = 8\nrope_dim = 4\nv_dim = 8\nq_lora = 16\n"
    "kv_lora = 16\nd_ff = 48\nn_expert = 4\nn_expert_used = 2\nn_shared = 1\nd_expert = 24\nn_mtp = 1\n"
    "[pretrain base]\ntasks = countdown3\ntasks_end = equation:3 direct\ntokens = 9k\nbatch_tokens = 900\nmuon_lr = 0.02\n"
    "[grpo rl]\ntasks = countdown3\ntasks_end = equation\nsteps = 3\nquestions = 2\ngroup = 4\nminibatches = 2\nmax_new = 40\nbeta = 0.01\ndrop_equal = false\neval_every = 2\neval_n = 3\n"
    "[sample own]\ntasks = countdown3\nfrom = base\nn = 4\nfile = own.jsonl\nmax_new = 40\n"
    "[eval look]\ntasks = countdown3 countdown5\nvariant = large\nn = 6\nsamples = 2\nmax_new = 40\n";

static char g_dir[256];

static const char *dir_of(const char *name)
{
    static char path[16][512];
    static int  at;
    at = (at + 1) % 16;
    snprintf(path[at], sizeof path[at], "%s/%s", g_dir, name);
    return path[at];
}

static const char *write_recipe(const char *text)
{
    static char path[512];
    aha_error   e = {0};
    snprintf(path, sizeof path, "%s", dir_of("recipe.ini"));
    ASSERT_OK(file_write_atomic(path, text, strlen(text), &e), e);
    return path;
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)state;
    snprintf(g_dir, sizeof g_dir, "%s/aha-learn-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(g_dir) ? 0 : -1;
}
static int teardown(void **state)
{
    char cmd[400];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", g_dir);
    return system(cmd);
}

/* ---- the trainer ---- */
typedef struct Fixture {
    Recipe   r;
    Model   *m;
    Pool    *pool;
    Trainer  t;
    int32_t  tok[24][40];
    float    coef[24][40];
    Sample   sample[24];
} Fixture;

static void fixture_init(Fixture *f, int threads, int slot_tokens, bool keep)
{
    aha_error e = {0};
    Rng       rng = {5, 0, 0};
    ASSERT_OK(recipe_parse(&f->r, RECIPE, strlen(RECIPE), "recipe", &e), e);
    f->r.model.vocab = 200;
    f->pool = pool_new(threads, &e);
    TrainerOptions o = {.optim = f->r.stage[0].optim, .slot_tokens = slot_tokens, .sample_max = 40, .keep_tape = keep, .balance_rate = 0.01};
    ASSERT_OK(model_init_random(&f->m, &f->r.model, NULL, 1, &e), e);
    ASSERT_OK(trainer_init(&f->t, f->m, cpu_kernels(NULL, &e), f->pool, &o, &e), e);
    for (int i = 0; i < 24; i++) {
        int n = 10 + i;
        for (int j = 0; j < n; j++) {
            f->tok[i][j] = (int32_t)rng_below(&rng, 200);
            f->coef[i][j] = j > 3 ? 0.002f : 0;
        }
        f->sample[i] = (Sample){f->tok[i], f->coef[i], n, i};
    }
}
static void fixture_free(Fixture *f)
{
    trainer_free(&f->t);
    model_free(f->m);
    pool_free(f->pool);
    recipe_free(&f->r);
}

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

/* ---- runs ---- */
typedef struct Stopper {
    int asked, at; /* stop at the at-th question */
} Stopper;
static bool stop_at(void *user)
{
    Stopper *s = user;
    return s->at > 0 && ++s->asked >= s->at;
}

/* the log without what may differ: times, and the number of threads that the first process had */
static char *without_times(const char *dir)
{
    char      path[600], *text, *out, *w;
    size_t    n;
    aha_error e = {0};
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    ASSERT_OK(file_read_all(path, 1 << 24, &text, &n, &e), e);
    w = out = malloc(n + 1);
    for (char *c = text; *c;) {
        if (strncmp(c, ",\"s\":", 5) == 0 || strncmp(c, ",\"seconds_before\":", 18) == 0 || strncmp(c, ",\"threads\":", 11) == 0) {
            c += 5;
            while (*c && *c != ',' && *c != '}') c++;
        } else {
            *w++ = *c++;
        }
    }
    *w = 0;
    mem_free(text);
    return out;
}

static void same_run(const char *a, const char *b)
{
    static const char *const FILES[] = {"checkpoint/base.safetensors", "checkpoint/rl.safetensors", "rl/model.safetensors", "own.jsonl"};
    char *la = without_times(a), *lb = without_times(b);
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        char      pa[600], pb[600], *ta, *tb;
        size_t    na, nb;
        aha_error e = {0};
        snprintf(pa, sizeof pa, "%s/%s", a, FILES[i]);
        snprintf(pb, sizeof pb, "%s/%s", b, FILES[i]);
        ASSERT_OK(file_read_all(pa, 1 << 28, &ta, &na, &e), e);
        ASSERT_OK(file_read_all(pb, 1 << 28, &tb, &nb, &e), e);
        if (na != nb || memcmp(ta, tb, na) != 0) fail_msg("%s differs", FILES[i]);
        mem_free(ta);
        mem_free(tb);
    }
    assert_string_equal(la, lb);
    free(la);
    free(lb);
}

typedef struct Watched {
    int64_t sampled, asked; /* answers, as last heard */
} Watched;
static void watch(void *user, const LearnProgress *p)
{
    Watched *w = user;
    if (p->kind != STAGE_SAMPLE && p->kind != STAGE_EVAL) return;
    assert_true(p->done >= 0 && p->done <= p->total);
    *(p->kind == STAGE_SAMPLE ? &w->sampled : &w->asked) = p->done;
}

/* one run in one go; then one that is stopped again and again; then one that is killed again and again */
static void stopped_and_resumed_is_the_same(void **state)
{
    const char  *recipe = write_recipe(RECIPE);
    aha_error    e = {0};
    Watched      w = {0};
    LearnOptions o = {.recipe = recipe, .out = dir_of("whole"), .threads = 2, .progress = watch, .user = &w};
    (void)state;
    ASSERT_OK(learn_run(&o, &e), e);
    assert_int_equal(w.sampled, 4); /* the last word of a stage that asks is about all of its answers */
    assert_int_equal(w.asked, 12);
    o.progress = NULL;
    for (int tries = 0, rc = AHA_ERR_CANCELLED; rc; tries++) {
        Stopper s = {0, 9 + tries};
        o.out = dir_of("stopped");
        o.stop = stop_at;
        o.user = &s;
        o.threads = 1 + tries % 3;
        rc = learn_run(&o, &e);
        if (rc && rc != AHA_ERR_CANCELLED) fail_msg("%s", e.text);
        assert_true(tries < 400);
    }
    same_run(dir_of("whole"), dir_of("stopped"));
}

/* Stopped within round `round`: in its held-out check, or, some questions later, in its replies. */
typedef struct Within {
    int  round, patience;
    bool reached;
} Within;
static void note_round(void *user, const LearnProgress *p)
{
    Within *w = user;
    if (p->kind == STAGE_GRPO && p->done >= w->round) w->reached = true;
}
static bool stop_within(void *user)
{
    Within *w = user;
    return w->reached && w->patience-- <= 0;
}

/* A stop while replies are written, or in the middle of a check, loses nothing that was learned, though no checkpoint was due
 * by the clock; and what goes on from there is the same run. */
static void stopped_within_a_round_is_kept(void **state)
{
    static const Within CASE[] = {{1, 3, false}, {2, 0, false}, {2, 4, false}};
    const char         *recipe = write_recipe(RECIPE);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        char         name[32], checkpoint[600];
        aha_error    e = {0};
        RunState     got;
        bool         found;
        Within       w = CASE[i];
        LearnOptions o = {.recipe = recipe, .threads = 2, .progress = note_round, .stop = stop_within, .user = &w};
        snprintf(name, sizeof name, "within%zu", i);
        o.out = dir_of(name);
        snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", o.out);
        assert_int_equal(learn_run(&o, &e), AHA_ERR_CANCELLED);
        assert_non_null(strstr(e.text, "the same command goes on from there"));
        ASSERT_OK(checkpoint_peek(checkpoint, &got, &found, &e), e);
        assert_true(found && got.has_model);
        assert_int_equal(got.stage, 1);
        assert_int_equal(got.step, CASE[i].round);
        o.stop = NULL;
        ASSERT_OK(learn_run(&o, &e), e);
        same_run(dir_of("whole"), dir_of(name));
    }
}

static void killed_and_resumed_is_the_same(void **state)
{
    char         text[2048], *at;
    aha_error    e = {0};
    const char  *recipe;
    LearnOptions o = {.out = dir_of("killed"), .threads = 2};
    int          status = 1, kills = 0;
    (void)state;
    snprintf(text, sizeof text, "%s", RECIPE);
    at = strstr(text, "checkpoint_s = 1000"); /* the same bytes of result, another rhythm: a checkpoint after every step */
    memcpy(at, "checkpoint_s =    1", 19);
    recipe = write_recipe(text);
    o.recipe = recipe;
    for (int tries = 0; tries < 300; tries++) {
        pid_t pid = fork();
        if (pid == 0) {
            int rc = learn_run(&o, &e);
            _exit(rc ? 1 : 0);
        }
        if (tries < 100) usleep((useconds_t)(20000 + 9973 * (tries % 60)));
        if (tries < 100) kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        if (WIFEXITED(status)) break;
        kills++;
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    print_message("killed %d times\n", kills);
    same_run(dir_of("whole"), dir_of("killed"));
}

/* A run whose weights grow beyond all numbers: its steps are skipped and logged, as JSON, and then it stops and says why. */
static void runs_that_diverge_stop(void **state)
{
    char         text[2048], path[600], *log;
    aha_error    e = {0};
    LearnOptions o = {.out = dir_of("diverges"), .threads = 2};
    size_t       n;
    int          skipped = 0, lines = 0;
    (void)state;
    snprintf(text, sizeof text, "%s", RECIPE);
    snprintf(strstr(text, "[pretrain"), 400, "[pretrain base]\ntasks = countdown3\ntokens = 90k\nbatch_tokens = 900\nlr = 10\nweight_decay = 10\nwarmup = 0\n");
    o.recipe = write_recipe(text);
    assert_int_equal(learn_run(&o, &e), AHA_ERR_STATE);
    assert_non_null(strstr(e.text, "5 steps in a row had a gradient that is not finite"));
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir_of("diverges"));
    ASSERT_OK(file_read_all(path, 1 << 24, &log, &n, &e), e);
    for (char *line = log, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++) {
        Json *j;
        ASSERT_OK(json_parse(&j, line, (size_t)(end - line), "a line of metrics", &e), e);
        json_free(j);
        *end = 0;
        skipped += strstr(line, "\"skipped\":true") != NULL;
    }
    assert_true(skipped >= 5 && lines > skipped); /* the last one too */
    mem_free(log);
}

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

static void another_recipe_is_refused(void **state)
{
    char         text[2048];
    aha_error    e = {0};
    LearnOptions o = {.out = dir_of("whole"), .threads = 1};
    (void)state;
    snprintf(text, sizeof text, "%s# changed\n", RECIPE);
    o.recipe = write_recipe(text);
    assert_int_equal(learn_run(&o, &e), AHA_ERR_STATE);
}

/* A log that lost lines is not padded to the length that the checkpoint knows. */
static void shorter_log_is_refused(void **state)
{
    char         path[600], *text;
    size_t       n;
    aha_error    e = {0};
    LearnOptions o = {.recipe = write_recipe(RECIPE), .out = dir_of("within0"), .threads = 1};
    (void)state;
    snprintf(path, sizeof path, "%s/metrics.jsonl", o.out);
    ASSERT_OK(file_write_atomic(path, "{}\n", 3, &e), e);
    assert_int_equal(learn_run(&o, &e), AHA_ERR_STATE);
    assert_non_null(strstr(e.text, "metrics.jsonl has 3 bytes, the checkpoint knows of "));
    ASSERT_OK(file_read_all(path, 1 << 20, &text, &n, &e), e);
    assert_int_equal(n, 3);
    mem_free(text);
}

/* Every stage logged what it was asked for: checks of all its tasks, the variant where there is one. */
static void evals_say_task_and_variant(void **state)
{
    char *log = without_times(dir_of("whole"));
    (void)state;
    assert_non_null(strstr(log, "{\"stage\":\"look\",\"kind\":\"eval\",\"step\":0,\"task\":\"countdown3\",\"variant\":\"large\","));
    assert_non_null(strstr(log, "{\"stage\":\"look\",\"kind\":\"eval\",\"step\":0,\"task\":\"countdown5\",\"variant\":\"large\","));
    assert_non_null(strstr(log, "{\"stage\":\"rl\",\"kind\":\"eval\",\"step\":2,\"task\":\"countdown3\",\"temperature\""));
    assert_non_null(strstr(log, "{\"stage\":\"rl\",\"kind\":\"eval\",\"step\":2,\"task\":\"equation\",\"temperature\""));
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_bit),          cmocka_unit_test(bad_steps_are_not_taken),
        cmocka_unit_test(sampler_and_trainer_agree),      cmocka_unit_test(stopped_and_resumed_is_the_same),
        cmocka_unit_test(evals_say_task_and_variant),     cmocka_unit_test(stopped_within_a_round_is_kept),
        cmocka_unit_test(killed_and_resumed_is_the_same), cmocka_unit_test(runs_that_diverge_stop),
        cmocka_unit_test(another_recipe_is_refused),      cmocka_unit_test(faults_leave_a_whole_checkpoint),
        cmocka_unit_test(killed_saves_leave_a_whole_checkpoint), cmocka_unit_test(shorter_log_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
