/* Reinforcement learning where there is nothing to learn from: groups with equal rewards, replies that are empty. */
#include "cpu/cpu.h"
#include "learn/learn.h"
#include "learn/run.h"
#include "testlib.h"

#include <math.h>
#include <unistd.h>

static char g_dir[64];

/* ---- advantages ---- */
static void equal_rewards_have_no_advantage(void **state)
{
    static const float VALUE[] = {0, 1, 1.1f, -1, 1e-30f, 3e7f};
    (void)state;
    for (size_t v = 0; v < ARRAY_LEN(VALUE); v++)
        for (int n = 1; n <= 64; n += n < 4 ? 1 : 20)
            for (int divide = 0; divide < 2; divide++) {
                float reward[64], a[64];
                for (int i = 0; i < n; i++) reward[i] = VALUE[v];
                memset(a, 0xff, sizeof a);
                assert_true(group_advantages(reward, n, divide, a));
                for (int i = 0; i < n; i++) assert_true(a[i] == 0);
            }
}

static void advantages_are_standard_scores(void **state)
{
    static const float REWARD[] = {1.1f, 0, 0.1f, 1.1f, -0.5f, 0};
    enum { N = ARRAY_LEN(REWARD) };
    float  a[N], plain[N];
    double sum = 0, square = 0, mean = 0;
    (void)state;
    assert_false(group_advantages(REWARD, N, true, a));
    assert_false(group_advantages(REWARD, N, false, plain));
    for (int i = 0; i < N; i++) {
        sum += (double)a[i];
        square += (double)a[i] * (double)a[i];
        mean += (double)REWARD[i] / N;
    }
    assert_true(fabs(sum) < 1e-5 && fabs(square / N - 1) < 1e-4);
    for (int i = 0; i < N; i++) assert_true(fabs((double)plain[i] - ((double)REWARD[i] - mean)) < 1e-6);
}

/* ---- empty replies ---- */
#define SHAPE                                                                                                                    \
    "[model]\nd_model = 32\nn_layer = 2\nn_dense_first = 1\nn_head = 2\nnope = 8\nrope_dim = 4\nv_dim = 8\nkv_lora = 16\n"    \
    "d_ff = 48\nn_expert = 4\nn_expert_used = 2\nn_shared = 1\nd_expert = 24\n"

typedef struct Speaker { /* a model that says one token, and nothing else */
    Recipe     r;
    char      *json;
    Tokenizer *tok;
    Model     *m;
    Pool      *pool;
    Engine    *engine;
} Speaker;

static void speaker_init(Speaker *s)
{
    static const char TEXT[] = "name = t\n" SHAPE "[pretrain a]\ntasks = countdown3\ntokens = 5\n";
    const Task       *task[] = {&task_countdown3};
    const char      **words;
    int               n;
    aha_error         e = {0};
    EngineOptions     o = {.ctx_max = 128};
    ASSERT_OK(recipe_parse(&s->r, TEXT, sizeof TEXT - 1, "t", &e), e);
    ASSERT_OK(task_words(task, 1, &words, &n, &e), e);
    ASSERT_OK(tokenizer_build_json(words, n, &s->json, &e), e);
    mem_free(words);
    ASSERT_OK(tokenizer_parse(&s->tok, s->json, strlen(s->json), "t", &e), e);
    s->r.model.vocab = tokenizer_vocab(s->tok);
    ASSERT_OK(model_init_random(&s->m, &s->r.model, NULL, 1, &e), e);
    s->pool = pool_new(1, &e);
    ASSERT_OK(engine_new(&s->engine, s->m, cpu_kernels(NULL, &e), s->pool, &o, &e), e);
}

/* The last norm lets one channel through, and the head knows one token: whose logit is the channel, or minus the channel. */
static void speaker_say(Speaker *s, int32_t token, float sign)
{
    float *norm = (float *)(uintptr_t)s->m->norm.data, *head = (float *)(uintptr_t)s->m->head.data;
    int    D = s->m->cfg.d_model;
    memset(norm, 0, (size_t)D * sizeof *norm);
    memset(head, 0, (size_t)s->m->cfg.vocab * (size_t)D * sizeof *head);
    norm[0] = 1;
    head[token * D] = sign * 1e6f;
    engine_weights_changed(s->engine);
}

static void speaker_free(Speaker *s)
{
    engine_free(s->engine);
    pool_free(s->pool);
    model_free(s->m);
    tokenizer_free(s->tok);
    mem_free(s->json);
    recipe_free(&s->r);
}

static void empty_replies_are_wrong_and_finite(void **state)
{
    static const char *const PROMPT = "Make 29 from 2, 8, 13.";
    Speaker        s;
    aha_error      e = {0};
    RolloutOptions o = {.samples = 3, .max_new = 9, .temperature = 1, .top_p = 1, .want_logp = true};
    Rollout        r[3];
    Rng            rng = {1, 0, 0};
    Problem        p;
    Buf            words = {0};
    int            empty = 0;
    (void)state;
    speaker_init(&s);
    ASSERT_OK(problem_new(&task_countdown3, SPLIT_TRAIN, VARIANT_NONE, &rng, &p, &words, &e), e);
    for (int sign = -1; sign <= 1; sign += 2) { /* one of the two says "end of sentence" at once */
        Policy policy = {s.engine, s.tok, CHAT_R1};
        speaker_say(&s, tokenizer_id(s.tok, "<｜end▁of▁sentence｜>"), (float)sign);
        ASSERT_OK(rollout_run(&policy, &PROMPT, 1, &o, r, &e), e);
        for (int i = 0; i < 3; i++) {
            Behaviour b;
            for (int k = 0; k < r[i].n_new; k++) assert_true(isfinite(r[i].logp[r[i].n_prompt + k]));
            if (r[i].ended && r[i].n_new == 1) {
                empty++;
                assert_false(r[i].closed);
                assert_int_equal(r[i].think_tokens, 0);
                assert_string_equal(r[i].thinking.data, "");
                assert_string_equal(r[i].answer.data, "");
                assert_false(problem_judge(&p, r[i].answer.data, r[i].answer.n).correct);
                behaviour_read(r[i].thinking.data, r[i].thinking.n, &b);
                assert_true(b.no_thinking && b.equations == 0);
            }
            rollout_free(&r[i]);
        }
    }
    assert_int_equal(empty, 3);
    buf_free(&words);
    speaker_free(&s);
}

/* ---- a run that has nothing to learn ---- */
static char *read_file(const char *name, size_t *n)
{
    char      path[256], *text;
    aha_error e = {0};
    snprintf(path, sizeof path, "%s/%s", g_dir, name);
    ASSERT_OK(file_read_all(path, 1 << 28, &text, n, &e), e);
    return text;
}

/* Replies of one token all earn the same: no weight moves, in whatever form the loss is. */
static void nothing_to_learn_moves_nothing(void **state)
{
    static const char *const FORM[] = {"drop_equal = false", "drop_equal = true", "drop_equal = false\ntoken_mean = false\ndivide_std = false"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FORM); i++) {
        char         text[1024], path[256], *before, *after, *log;
        size_t       n[2];
        aha_error    e = {0};
        LearnOptions o = {.recipe = path, .out = g_dir, .threads = 1, .fresh = true};
        snprintf(text, sizeof text,
                 "name = t\nseed = 3\ncontext = 200\nslot_tokens = 256\n" SHAPE
                 "[pretrain base]\ntasks = countdown3\ntokens = 1\nbatch_tokens = 300\n"
                 "[grpo rl]\ntasks = countdown3\nsteps = 2\nquestions = 2\ngroup = 3\nmax_new = 1\nwarmup = 0\n%s\n", FORM[i]);
        snprintf(path, sizeof path, "%s/recipe-in.ini", g_dir);
        ASSERT_OK(file_write_atomic(path, text, strlen(text), &e), e);
        ASSERT_OK(learn_run(&o, &e), e);
        before = read_file("checkpoint/base.safetensors", &n[0]);
        after = read_file("checkpoint/rl.safetensors", &n[1]);
        assert_true(n[0] == n[1] && memcmp(before, after, n[0]) == 0);
        mem_free(before);
        mem_free(after);
        log = read_file("metrics.jsonl", &n[0]);
        assert_non_null(strstr(log, "\"dropped\":2"));
        assert_null(strstr(log, "null"));
        mem_free(log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_rewards_have_no_advantage), cmocka_unit_test(advantages_are_standard_scores),
        cmocka_unit_test(empty_replies_are_wrong_and_finite), cmocka_unit_test(nothing_to_learn_moves_nothing),
    };
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-grpo-XXXXXX");
    if (!mkdtemp(g_dir)) return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    dir_remove_all(g_dir, NULL);
    return rc;
}
