/* The rules beside the sampler: bias and penalties against the formula, likeliest tokens against sorting, thinking budgets, repetition
 * against plain comparison, on cycles, near cycles, and text that repeats for good reasons. */
#include "enginelib.h"
#include "learn/task.h"

#include <math.h>

/* ---- bias and penalties ---- */
typedef struct Slow {
    int32_t token[400];
    int     n, n_prompt;
} Slow;

static float slow_logit(const SampleAdjust *o, const Slow *s, float x, int32_t token)
{
    int all = 0, generated = 0;
    for (int i = 0; i < o->n_bias; i++)
        if (o->bias[i].token == token) x += o->bias[i].bias;
    for (int i = 0; i < s->n; i++) {
        all += s->token[i] == token;
        generated += i >= s->n_prompt && s->token[i] == token;
    }
    if (o->repetition != 0 && all > 0) x = x > 0 ? x / o->repetition : x * o->repetition;
    if (generated > 0) x -= o->presence + o->frequency * (float)generated;
    return x;
}

static void check_adjust(const SampleAdjust *o, uint64_t seed, int V)
{
    Rng       r = {seed, 5, 0};
    Slow      s = {.n = 0};
    Adjust    a;
    aha_error e = {0};
    float     x[300], got[300], other[300];
    s.n = s.n_prompt = 1 + (int)rng_below(&r, 60);
    for (int i = 0; i < V; i++) x[i] = rng_normal(&r) * 4;
    random_tokens(s.token, s.n, V, seed);
    ASSERT_OK(adjust_init(&a, o, s.token, s.n_prompt, 100, &e), e);
    for (int step = 0; step < 100; step++) {
        Ahead none = {.n = 0}, ahead = {.n = (int)rng_below(&r, 3)};
        Slow  later = s;
        os_alloc_guard(true);
        adjust_row(&a, &none, x, V, got);
        for (int i = 0; i < V; i++) {
            float want = slow_logit(o, &s, x[i], i);
            if (memcmp(&want, &got[i], sizeof want) != 0) fail_msg("step %d token %d: %.9g, expected %.9g", step, i, (double)got[i], (double)want);
        }
        for (int i = 0; i < ahead.n; i++) later.token[later.n++] = ahead.token[i] = (int32_t)rng_below(&r, step % 2 ? 4 : (uint32_t)V);
        adjust_row(&a, &ahead, x, V, other);
        for (int i = 0; i < V; i++) {
            float want = slow_logit(o, &later, x[i], i);
            if (memcmp(&want, &other[i], sizeof want) != 0) fail_msg("%d ahead, token %d: %.9g, expected %.9g", ahead.n, i, (double)other[i], (double)want);
        }
        s.token[s.n] = (int32_t)rng_below(&r, step % 3 ? 5 : (uint32_t)V);
        adjust_take(&a, s.token[s.n++]);
        assert_int_equal(os_alloc_guard(false), 0);
    }
    adjust_free(&a);
}

static void test_adjust(void **state)
{
    static const aha_logit_bias BIAS[] = {{17, -100}, {3, 2.5f}, {4, 100}, {0, -1}};
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        check_adjust(&(SampleAdjust){.repetition = 1.3f}, seed, 300);
        check_adjust(&(SampleAdjust){.presence = 0.7f}, seed, 20);
        check_adjust(&(SampleAdjust){.frequency = -1.9f}, seed, 300);
        check_adjust(&(SampleAdjust){BIAS, 4, 0.8f, -0.4f, 0.3f}, seed, 18);
        check_adjust(&(SampleAdjust){BIAS, 4, 1, 0, 0}, seed, 300);
    }
}

static void refuse_adjust(SampleAdjust o, const char *word)
{
    aha_error e = {0};
    assert_int_equal(adjust_check(&o, 100, &e), AHA_ERR_ARG);
    if (!strstr(e.text, word)) fail_msg("\"%s\" lacks \"%s\"", e.text, word);
}

static void test_adjust_refusals(void **state)
{
    static const float   BAD[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 10.5f};
    const aha_logit_bias high[] = {{100, 1}}, low[] = {{-1, 1}}, twice[] = {{5, 1}, {6, 1}, {5, 1}};
    SampleAdjust         o = {.bias = twice, .n_bias = 3};
    Adjust               a;
    aha_error            e = {0};
    int32_t              id = 3;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        refuse_adjust((SampleAdjust){.repetition = BAD[i]}, "repetition_penalty");
        refuse_adjust((SampleAdjust){.presence = BAD[i]}, "presence_penalty");
        refuse_adjust((SampleAdjust){.frequency = BAD[i]}, "frequency_penalty");
        const aha_logit_bias bias[] = {{7, BAD[i] == 10.5f ? 101 : BAD[i]}};
        refuse_adjust((SampleAdjust){.bias = bias, .n_bias = 1}, "bias of token 7");
    }
    refuse_adjust((SampleAdjust){.repetition = -1}, "repetition_penalty");
    refuse_adjust((SampleAdjust){.bias = high, .n_bias = 1}, "token 100");
    refuse_adjust((SampleAdjust){.bias = low, .n_bias = 1}, "token -1");
    refuse_adjust((SampleAdjust){.bias = low, .n_bias = AHA_BIAS_MAX + 1}, "n_bias");
    refuse_adjust((SampleAdjust){.bias = low, .n_bias = -1}, "n_bias");
    refuse_adjust((SampleAdjust){.bias = NULL, .n_bias = 1}, "n_bias");
    assert_int_equal(adjust_init(&a, &o, &id, 1, 1, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "token 5 twice"));
    adjust_free(&a);
}

/* ---- the likeliest ---- */
static void test_top(void **state)
{
    enum { V = 200 };
    Rng          r = {6, 2, 0};
    Ctx          c = {.k = cpu_kernels(NULL, NULL)};
    float        x[V], same, few[4] = {-INFINITY, 2, NAN, 2}, none[2] = {-INFINITY, -INFINITY};
    aha_token_logp top[AHA_TOP_MAX];
    (void)state;
    for (int round = 0; round < 300; round++) {
        int n = 1 + round % AHA_TOP_MAX, have = 1 + (int)rng_below(&r, V);
        for (int i = 0; i < have; i++) x[i] = round % 2 ? floorf(rng_normal(&r) * 2) : rng_normal(&r);
        top_tokens(&c, x, have, n, top);
        for (int k = 0; k < n && k < have; k++) {
            int before = 0;
            for (int i = 0; i < have; i++) before += x[i] > x[top[k].token] || (x[i] == x[top[k].token] && i < top[k].token);
            assert_int_equal(before, k);
            logprob_row(&c, x, have, top[k].token, &same, NULL);
            assert_memory_equal(&same, &top[k].logp, sizeof same);
        }
        for (int k = have; k < n; k++) assert_int_equal(top[k].token, -1);
    }
    top_tokens(&c, few, 4, 3, top);
    assert_int_equal(top[0].token, 1);
    assert_int_equal(top[1].token, 3);
    assert_int_equal(top[2].token, -1);
    top_tokens(&c, none, 2, 2, top);
    assert_int_equal(top[0].token, -1);
}

/* ---- thinking ---- */
enum { OPEN = 90, CLOSE = 91 };
static const int32_t END[] = {10, CLOSE, 10, 10};
static Think think_of(int budget, bool open)
{
    Think t = {.on = true, .tags = {.open = OPEN, .close = CLOSE}, .end = END, .n_end = 4, .budget = budget, .open = open};
    think_begin(&t);
    return t;
}

/* Takes tokens of a model that says `own`, closed as the budget has it: what came out. */
static int said(Think *t, const int32_t *own, int n_own, int32_t *out, int max)
{
    int n = 0;
    for (int i = 0; i < n_own && n < max;) {
        const Ahead none = {.n = 0};
        int32_t     forced = think_forced(t, &none);
        int32_t     token = forced >= 0 ? forced : own[i++];
        think_take(t, out[n++] = token);
    }
    return n;
}

static void test_think(void **state)
{
    static const int32_t OWN[] = {1, 2, 3, CLOSE, 4, 5}, REOPENS[] = {1, OPEN, 2, 3, CLOSE, OPEN, 4, 5, 6};
    int32_t out[64];
    Think   t = think_of(2, true);
    (void)state;
    assert_int_equal(said(&t, OWN, 6, out, 64), 10);
    assert_memory_equal(out, ((int32_t[]){1, 2, 10, CLOSE, 10, 10, 3, CLOSE, 4, 5}), 40);
    assert_int_equal(t.all, 4); /* 1 2, newline, tag */
    t = think_of(0, true);
    assert_int_equal(said(&t, OWN, 1, out, 64), 5);
    assert_memory_equal(out, END, sizeof END);
    t = think_of(0, false); /* closed only where it is opened */
    assert_int_equal(said(&t, REOPENS, 2, out, 64), 2);
    t = think_of(-1, true);
    assert_int_equal(said(&t, OWN, 6, out, 64), 6);
    assert_int_equal(t.all, 4);
    assert_int_equal(t.used, 3);
    t = think_of(3, false); /* two stretches, one budget: the second is closed at its first token */
    assert_int_equal(said(&t, REOPENS, 9, out, 64), 13);
    assert_memory_equal(out, ((int32_t[]){1, OPEN, 2, 3, CLOSE, OPEN, 4, 10, CLOSE, 10, 10, 5, 6}), 52);
    t = think_of(5, true); /* it closed by itself in time */
    assert_int_equal(said(&t, OWN, 6, out, 64), 6);
    t = think_of(1, true);
    assert_int_equal(think_forced(&t, &(Ahead){{7, 0}, 1}), 10);
    assert_int_equal(think_forced(&t, &(Ahead){{7, 10}, 2}), CLOSE);
    assert_int_equal(think_forced(&t, &(Ahead){{CLOSE, 7}, 2}), -1);
    assert_int_equal(t.used, 0); /* looking ahead changes nothing */
}

static void test_efforts(void **state)
{
    static const struct {
        const char *name;
        int         want;
    } OK[] = {{"off", 0}, {"none", 0}, {"minimal", 100}, {"low", 200}, {"medium", 500}, {"high", 800}, {"max", -1}, {"xhigh", -1},
              {"0", 0}, {"77", 77}, {"99999999999999999999", INT32_MAX}};
    static const char *const BAD[] = {"", "High", "-1", "1.5", "7 ", "loww"};
    aha_error e = {0};
    int       budget;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(OK); i++) {
        ASSERT_OK(think_budget(OK[i].name, 1000, &budget, &e), e);
        assert_int_equal(budget, OK[i].want);
    }
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) assert_int_equal(think_budget(BAD[i], 1000, &budget, &e), AHA_ERR_ARG);
    assert_int_equal(think_budget(NULL, 1000, &budget, &e), AHA_ERR_ARG);
    assert_int_equal(think_budget("low", 0, &budget, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "max_new"));
    ASSERT_OK(think_budget("high", INT32_MAX, &budget, &e), e);
    assert_int_equal(budget, 1717986917);
}

/* ---- repetition ---- */
static bool slow_repeat(const int32_t *t, int n, int min)
{
    for (int p = 1; p <= REPEAT_PERIOD_MAX; p++) {
        int len = p;
        while (len < n && t[n - 1 - len] == t[n - 1 - len + p]) len++;
        if (len <= n && len >= min && len >= REPEAT_TIMES * p) return true;
    }
    return false;
}

static void test_repeat(void **state)
{
    enum { N = 3000 };
    int32_t t[N];
    Rng     r = {12, 1, 0};
    int     found = 0;
    (void)state;
    for (int round = 0; round < 400; round++) { /* anything, then a cycle, sometimes with a slip */
        int p = 1 + (int)rng_below(&r, round % 2 ? 12 : 530), before = (int)rng_below(&r, 500), n = before + 200 + (int)rng_below(&r, N - 700);
        int min = AHA_REPEAT_MIN + (int)rng_below(&r, 800), kinds = round % 3 ? 2 : 50, period;
        for (int i = 0; i < n; i++) t[i] = i < before + p ? (int32_t)rng_below(&r, (uint32_t)kinds) : t[i - p];
        if (round % 5 == 0) t[n - 1 - (int)rng_below(&r, 200)] = 99;
        period = repeat_period(t, n, min);
        assert_int_equal(period > 0, slow_repeat(t, n, min));
        if (!period) continue;
        found++;
        assert_true(repeat_length(t, n, period) >= min);
        for (int i = 0; i < min - period; i++) assert_int_equal(t[n - 1 - i], t[n - 1 - i - period]);
    }
    print_message("%d cycles of 400\n", found);
    assert_in_range(found, 100, 390);
    assert_int_equal(repeat_period(t, 10, AHA_REPEAT_DEFAULT), 0);
    for (int i = 0; i < N; i++) t[i] = 7;
    assert_int_equal(repeat_period(t, AHA_REPEAT_DEFAULT - 1, AHA_REPEAT_DEFAULT), 0);
    assert_int_equal(repeat_period(t, AHA_REPEAT_DEFAULT, AHA_REPEAT_DEFAULT), 1);
    assert_int_equal(repeat_length(t, N, 1), N);
}

/* What repeats, and is no endless repetition. */
static void test_no_false_alarm(void **state)
{
    enum { N = 4000 };
    int32_t t[N];
    int     kind;
    (void)state;
    for (kind = 0; kind < 5; kind++)
        for (int n = 0; n < N; n++) {
            int row = n / 10, col = n % 10;
            t[n] = kind == 0   ? (col == 0 ? 1000 + row : col == 9 ? 1 : 2 + col % 2) /* a table with a number a row, all else the same */
                   : kind == 1 ? (col == 4 ? 100 + row % 10 : col == 5 ? 110 + row / 10 : 3) /* a counter of two digits in equal lines */
                   : kind == 2 ? __builtin_popcount((unsigned)n) & 1                   /* Thue and Morse: never three times the same */
                   : kind == 3 ? (n % 1300 < 650 ? n % 650 : 5000 + n)                 /* a long paragraph, quoted twice */
                               : (n % 37 == 36 ? 200 + n : n % 37);                    /* a line that ends in another way each time */
            if (n % REPEAT_EVERY == 0) assert_int_equal(repeat_period(t, n, AHA_REPEAT_DEFAULT), 0);
        }
}

/* The searches that the built-in model learned from, one after the other: lines much like each other, and the strictest rule. */
static void test_searches_are_no_repetition(void **state)
{
    Tokenizer         *tok;
    aha_error          e = {0};
    Rng                r = {2, 8, 0};
    int                n_task, looked = 0;
    const Task *const *task = task_all(&n_task);
    (void)state;
    ASSERT_OK(tokenizer_read(&tok, "models/aha-tiny/tokenizer.json", &e), e);
    for (int t = 0; t < n_task; t++) {
        Ids all = {0};
        if (!task[t]->demo) continue;
        for (int i = 0; i < 60; i++) {
            Buf b[3] = {{0}, {0}, {0}};
            ASSERT_OK(corpus_sample(task[t], VARIANT_NONE, &r, &b[0], &b[1], &b[2], &e), e);
            ASSERT_OK(tokenizer_encode(tok, b[1].data, b[1].n, 0, &all, &e), e);
            for (int k = 0; k < 3; k++) buf_free(&b[k]);
        }
        for (int n = 1; n <= (int)all.n; n += 5, looked++) {
            int period = repeat_period(all.id, n, AHA_REPEAT_MIN);
            if (period) fail_msg("%s: %d tokens are said again and again before token %d", task[t]->name, period, n);
        }
        ids_free(&all);
    }
    print_message("looked at %d places\n", looked);
    assert_true(looked > 2000);
    tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adjust), cmocka_unit_test(test_adjust_refusals), cmocka_unit_test(test_top), cmocka_unit_test(test_think),
        cmocka_unit_test(test_efforts), cmocka_unit_test(test_repeat), cmocka_unit_test(test_no_false_alarm),
        cmocka_unit_test(test_searches_are_no_repetition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
