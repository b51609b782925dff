/* Tasks: the split holds, problems can be solved, judging is exact and survives anything, samples are what they say. */
#include "learn/task.h"
#include "testlib.h"

#include <math.h>

static int order(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

/* the sorted numbers and the target as one number */
static uint64_t identity(const Problem *p)
{
    int      v[PROBLEM_NUMBERS_MAX];
    uint64_t h = (uint64_t)p->target;
    memcpy(v, p->number, (size_t)p->n * sizeof *v);
    qsort(v, (size_t)p->n, sizeof *v, order);
    for (int i = 0; i < p->n; i++) h = h * 1000 + (uint64_t)v[i];
    return h;
}

static int order64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* No held-out problem, nor a reordering of it, occurs in training: 200,000 samples of the corpus against 20,000 held out. */
static void split_holds(void **state)
{
    enum { TRAIN = 200000, HELD = 20000 };
    int                n_task;
    const Task *const *task = task_all(&n_task);
    uint64_t          *held = malloc(HELD * sizeof *held);
    (void)state;
    for (int k = 0; k < n_task; k++) {
        for (uint64_t i = 0; i < HELD; i++) {
            Rng     rng = {99, i, 0};
            Problem p;
            task[k]->generate(task[k], SPLIT_HELD_OUT, &rng, &p);
            held[i] = identity(&p);
        }
        qsort(held, HELD, sizeof *held, order64);
        for (uint64_t i = 0; i < TRAIN; i++) {
            Rng      rng = {1, i, 0};
            Problem  p;
            uint64_t id;
            task[k]->generate(task[k], SPLIT_TRAIN, &rng, &p);
            id = identity(&p);
            if (bsearch(&id, held, HELD, sizeof id, order64)) fail_msg("%s: a held-out problem occurs in training", task[k]->name);
        }
    }
    free(held);
}

static void order_of_numbers_keeps_the_key(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) {
        Rng     rng = {4, i, 0};
        Problem p, q;
        task_countdown3.generate(&task_countdown3, i % 2 ? SPLIT_TRAIN : SPLIT_HELD_OUT, &rng, &p);
        q = p;
        q.number[0] = p.number[2];
        q.number[2] = p.number[1];
        q.number[1] = p.number[0];
        assert_true(problem_split(&p) == problem_split(&q));
        assert_true(task_countdown3.key(&p) == task_countdown3.key(&q));
    }
}

/* ---- every problem has a solution: all ways to combine, as fractions of doubles ---- */
static bool solvable(const double *v, int n, double target)
{
    if (n == 1) return fabs(v[0] - target) < 1e-9;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double w[PROBLEM_NUMBERS_MAX], r[4] = {v[i] + v[j], v[i] - v[j], v[i] * v[j], v[j] != 0 ? v[i] / v[j] : NAN};
            int    m = 0;
            if (i == j) continue;
            for (int k = 0; k < n; k++)
                if (k != i && k != j) w[m++] = v[k];
            for (int o = 0; o < 4; o++) {
                w[m] = r[o];
                if (r[o] == r[o] && solvable(w, m + 1, target)) return true;
            }
        }
    return false;
}

static void problems_can_be_solved(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 3000; i++) {
        Rng     rng = {8, i, 0};
        Problem p;
        double  v[PROBLEM_NUMBERS_MAX];
        task_countdown3.generate(&task_countdown3, i % 2 ? SPLIT_TRAIN : SPLIT_HELD_OUT, &rng, &p);
        assert_in_range(p.target, 1, 99);
        for (int k = 0; k < p.n; k++) {
            assert_in_range(p.number[k], 1, 20);
            v[k] = p.number[k];
        }
        assert_true(solvable(v, p.n, p.target));
    }
}

/* ---- judging ---- */
static Problem problem_of(int a, int b, int c, int target)
{
    return (Problem){.task = &task_countdown3, .n = 3, .number = {a, b, c}, .target = target};
}

static bool right(const Problem *p, const char *s)
{
    return problem_judge(p, s, strlen(s)).correct;
}

static void judging_is_exact(void **state)
{
    Problem p = problem_of(8, 13, 2, 29), q = problem_of(7, 2, 14, 1), r = problem_of(3, 3, 8, 5);
    (void)state;
    assert_true(right(&p, "(8*2)+13"));
    assert_true(right(&p, " 13 + 8 * 2 . "));
    assert_true(right(&p, "13+(2*(8))"));
    assert_true(right(&p, "(8 * 2) + 13 = 29"));
    assert_false(right(&p, "(8*2)+13=30"));
    assert_false(right(&p, "(8*2)+13=20+9"));
    assert_false(right(&p, "29"));
    assert_false(right(&p, "8*2+13+0"));
    assert_false(right(&p, "8*2+8+5"));
    assert_false(right(&p, "(8*2)+13;"));
    assert_false(right(&p, "the answer is (8*2)+13"));
    assert_false(right(&p, "8*-2+13"));
    assert_false(right(&p, "82+13"));
    assert_true(right(&q, "14/(7*2)"));
    assert_true(right(&q, "7/14*2")); /* exact fractions on the way */
    assert_false(right(&r, "8-3"));
    assert_false(right(&r, "8-3*3/3"));
    assert_false(right(&p, "(8*2)+13)"));
    assert_false(right(&p, "((8*2)+13"));
    assert_false(right(&p, "8/(2-2)+13"));
    assert_true(problem_judge(&p, "8+13+2", 6).well_formed);
    assert_false(problem_judge(&p, "8+13", 4).well_formed);
}

static void judging_survives_anything(void **state)
{
    Problem p = problem_of(8, 13, 2, 29);
    size_t  n = 1000000;
    char   *s = malloc(n + 1);
    Rng     rng = {2, 0, 0};
    (void)state;
    memset(s, '(', n);
    assert_false(problem_judge(&p, s, n).correct);
    memset(s, '9', n);
    assert_false(problem_judge(&p, s, n).correct);
    memset(s, '=', n);
    assert_false(problem_judge(&p, s, n).correct);
    assert_false(problem_judge(&p, "", 0).correct);
    assert_false(right(&p, "999999999*999999999*999999999*999999999"));
    assert_false(right(&p, "1/999999999/999999999/999999999"));
    assert_false(right(&p, "0/0"));
    for (int i = 0; i < 200000; i++) {
        int len = (int)rng_below(&rng, 24);
        for (int k = 0; k < len; k++) s[k] = "0123456789()+-*/ =.\n\0x"[rng_below(&rng, 22)];
        problem_judge(&p, s, (size_t)len);
    }
    free(s);
}

/* random expressions, evaluated independently over doubles while they are written */
static double write_expression(Rng *rng, int depth, Buf *b)
{
    if (depth == 0 || rng_below(rng, 4) == 0) {
        int v = 1 + (int)rng_below(rng, 20);
        buf_fmt(b, "%d", v);
        return v;
    }
    char   op = "+-*/"[rng_below(rng, 4)];
    double x, y;
    buf_str(b, "(");
    x = write_expression(rng, depth - 1, b);
    buf_fmt(b, "%c", op);
    y = write_expression(rng, depth - 1, b);
    buf_str(b, ")");
    return op == '+' ? x + y : op == '-' ? x - y : op == '*' ? x * y : y != 0 ? x / y : NAN;
}

static void expressions_are_exact(void **state)
{
    int     valid = 0;
    ExprValue v;
    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        Rng    rng = {6, i, 0};
        Buf    b = {0};
        double want = write_expression(&rng, 4, &b);
        if (expr_eval(b.data, b.n, &v)) {
            double got = (double)v.num / (double)v.den;
            if (want == want) assert_true(fabs(got - want) <= 1e-9 * (1 + fabs(want)));
            valid++;
        }
        buf_free(&b);
    }
    assert_true(valid > 8000);
    assert_true(expr_eval("1/3+1/3+1/3", 11, &v));
    assert_true(v.num == 1 && v.den == 1);
    assert_true(expr_eval("2-3-4", 5, &v) && v.num == -5);
    assert_true(expr_eval("2+3*4", 5, &v) && v.num == 14);
}

/* ---- wording ---- */
static void free_text_is_recognised(void **state)
{
    static const char *const TYPED[] = {
        "Using 8, 13 and 2, make 29.", "make 29 from 2 8 13", "29 from 8, 13, 2?", "Can you get to 29 with 2, 13, 8 please?",
        "numbers 13 8 2 target 29", "I've got 8, 2 and 13. How do I reach 29?",
        "I want to use 8, 13 and 2 to make 29", "Put together 8, 13 and 2 to get 29", "MAKE 29 OUT OF 8 13 2",
    };
    Problem q;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TYPED); i++) {
        if (!task_parse(TYPED[i], strlen(TYPED[i]), &q)) fail_msg("not recognised: %s", TYPED[i]);
        if (q.target != 29) fail_msg("%s: target %d", TYPED[i], q.target);
        assert_int_equal(q.number[0] + q.number[1] + q.number[2], 23);
    }
    assert_false(task_parse("What is the capital of France?", 30, &q));
    assert_false(task_parse("make 29 from 2 and 8", 20, &q));
    assert_false(task_parse("Tom has 8 apples, 13 pears and 2 plums. How many in 5 days?", 59, &q));
    assert_false(task_parse("Solve 3 * x + 4 = 19 and 7", 26, &q));
    assert_false(task_parse("make 99999999999999999999 from 2 8 13", 37, &q));
    for (uint64_t i = 0; i < 5000; i++) {
        Rng     rng = {12, i, 0};
        Problem p;
        Buf     b = {0};
        task_countdown3.generate(&task_countdown3, SPLIT_TRAIN, &rng, &p);
        task_countdown3.word(&p, &rng, i % 3 == 0, &b);
        if (!task_parse(b.data, b.n, &q) || identity(&p) != identity(&q)) fail_msg("not recognised: %s", b.data);
        buf_free(&b);
    }
}

/* ---- the corpus ---- */
static void corpus_is_what_it_says(void **state)
{
    enum { N = 20000 };
    int     right_n = 0, equations = 0, wrong = 0, gives_up = 0, checks = 0, nothing = 0;
    Buf     b[3] = {{0}};
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        Rng       rng = {7, i, 0};
        Problem   p;
        Behaviour h;
        for (int k = 0; k < 3; k++) buf_reset(&b[k]);
        task_countdown3.generate(&task_countdown3, SPLIT_TRAIN, &rng, &p);
        task_countdown3.demo(&p, &rng, &b[1], &b[2]);
        behaviour_read(b[1].data ? b[1].data : "", b[1].n, &h);
        right_n += problem_judge(&p, b[2].data, b[2].n).correct;
        assert_true(problem_judge(&p, b[2].data, b[2].n).well_formed);
        equations += h.equations;
        wrong += h.wrong;
        gives_up += h.gives_up;
        checks += h.checks > 0;
        nothing += h.no_thinking;
    }
    for (int k = 0; k < 3; k++) buf_free(&b[k]);
    print_message("right %.3f, wrong equations %.4f, gives up %.3f, checks %.3f, no thinking %.3f\n", (double)right_n / N, (double)wrong / equations,
                  (double)gives_up / N, (double)checks / N, (double)nothing / N);
    assert_true(right_n > 0.45 * N && right_n < 0.60 * N);
    assert_true(wrong > 0.01 * equations && wrong < 0.03 * equations);
    assert_true(gives_up > 0.2 * N && checks > 0.1 * N && nothing > 0.1 * N);
}

static void behaviours_are_counted(void **state)
{
    static const char TEXT[] = "8+13=21: 21+2=23, 21-2=18 no\nNeed 29-13=16: 8 * 2 = 16 yes\nCheck: 8*2=16, 16+13=29 no\nWait.\nI give up.";
    Behaviour         b;
    (void)state;
    behaviour_read(TEXT, strlen(TEXT), &b);
    assert_int_equal(b.equations, 7);
    assert_int_equal(b.wrong, 1);
    assert_int_equal(b.checks, 1);
    assert_int_equal(b.waits, 1);
    assert_int_equal(b.backward, 1);
    assert_true(b.gives_up);
    assert_false(b.no_thinking);
    behaviour_read("", 0, &b);
    assert_true(b.no_thinking);
    behaviour_read("6/0=3 99999999999999=1 5=5 1+1= =2", 33, &b);
    assert_int_equal(b.equations, 0); /* no value, too long, nothing done, no number behind */
    behaviour_read("8*2+13=29, (8*2)+13=29, 1+2*3=7 7/2=3", 38, &b);
    assert_int_equal(b.equations, 4);
    assert_int_equal(b.wrong, 1);
}

static void words_are_the_same_every_time(void **state)
{
    const char **a, **b;
    int          n, m;
    aha_error    e = {0};
    (void)state;
    ASSERT_OK(task_words(&a, &n, &e), e);
    ASSERT_OK(task_words(&b, &m, &e), e);
    assert_int_equal(n, m);
    assert_true(n > 20);
    for (int i = 0; i < n; i++) assert_string_equal(a[i], b[i]);
    mem_free(a);
    mem_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_holds),           cmocka_unit_test(order_of_numbers_keeps_the_key), cmocka_unit_test(problems_can_be_solved),
        cmocka_unit_test(judging_is_exact),      cmocka_unit_test(judging_survives_anything),      cmocka_unit_test(expressions_are_exact),
        cmocka_unit_test(free_text_is_recognised), cmocka_unit_test(corpus_is_what_it_says),       cmocka_unit_test(behaviours_are_counted),
        cmocka_unit_test(words_are_the_same_every_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
