/* Runs of recipes keep their promises: the same weights and the same log, however they were stopped or killed; one that diverges
 * stops; another recipe's run is left alone. */
#include "learnlib.h"

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
        cmocka_unit_test(stopped_and_resumed_is_the_same), cmocka_unit_test(evals_say_task_and_variant),
        cmocka_unit_test(stopped_within_a_round_is_kept),  cmocka_unit_test(killed_and_resumed_is_the_same),
        cmocka_unit_test(runs_that_diverge_stop),          cmocka_unit_test(another_recipe_is_refused),
        cmocka_unit_test(shorter_log_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
