/* Tasks: the split holds, problems can be solved, judging is exact and survives anything, samples are what they say. */
#include "tasklib.h"

#include <math.h>

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
            task[k]->generate(task[k], SPLIT_HELD_OUT, VARIANT_NONE, &rng, &p);
            held[i] = identity(&p);
        }
        qsort(held, HELD, sizeof *held, order64);
        for (uint64_t i = 0; i < TRAIN; i++) {
            Rng      rng = {1, i, 0};
            Problem  p;
            uint64_t id;
            task[k]->generate(task[k], SPLIT_TRAIN, VARIANT_NONE, &rng, &p);
            id = identity(&p);
            if (bsearch(&id, held, HELD, sizeof id, order64)) fail_msg("%s: a held-out problem occurs in training", task[k]->name);
        }
    }
    free(held);
}

static const Task *const COUNTDOWN[] = {&task_countdown3, &task_countdown4, &task_countdown5};

static void order_of_numbers_keeps_the_key(void **state)
{
    Problem p, q;
    (void)state;
    for (uint64_t i = 0; i < 6000; i++) {
        Rng         rng = {4, i, 0};
        const Task *t = COUNTDOWN[i % 3];
        t->generate(t, i % 2 ? SPLIT_TRAIN : SPLIT_HELD_OUT, VARIANT_NONE, &rng, &p);
        q = p;
        q.number[0] = p.number[2];
        q.number[2] = p.number[1];
        q.number[1] = p.number[0];
        assert_true(problem_split(&p) == problem_split(&q));
        assert_true(t->key(&p) == t->key(&q));
    }
    assert_true(task_parse("What is 7+51?", 13, &p) && task_parse("How much is 51 plus 7?", 22, &q));
    assert_true(task_direct.key(&p) == task_direct.key(&q));
    assert_true(task_parse("Solve 3*x+4=19", 14, &p) && task_parse("4+3x=19?", 8, &q));
    assert_true(task_equation.key(&p) == task_equation.key(&q));
}

/* A problem of the variant `large` goes beyond every training problem of its kind in one of its numbers or in its answer, and
 * a held-out wording is none that training has. */
static void variants_are_unlike_training(void **state)
{
    enum { KINDS = 16, FIELDS = PROBLEM_NUMBERS_MAX + 1, N = 100000 };
    int                n_task;
    const Task *const *task = task_all(&n_task);
    Problem            p;
    (void)state;
    for (int k = 0; k < n_task; k++) {
        static int most[KINDS][FIELDS];
        memset(most, 0, sizeof most);
        for (uint64_t i = 0; i < N; i++) {
            Rng rng = {1, i, 0};
            task[k]->generate(task[k], SPLIT_TRAIN, VARIANT_NONE, &rng, &p);
            assert_in_range(p.kind, 0, KINDS - 1);
            for (int f = 0; f < p.n; f++) most[p.kind][f] = p.number[f] > most[p.kind][f] ? p.number[f] : most[p.kind][f];
            most[p.kind][FIELDS - 1] = p.target > most[p.kind][FIELDS - 1] ? p.target : most[p.kind][FIELDS - 1];
        }
        for (uint64_t i = 0; i < 5000; i++) {
            Rng  rng = {2, i, 0};
            bool beyond;
            task[k]->generate(task[k], SPLIT_HELD_OUT, VARIANT_LARGE, &rng, &p);
            beyond = p.target > most[p.kind][FIELDS - 1];
            for (int f = 0; f < p.n; f++) beyond = beyond || p.number[f] > most[p.kind][f];
            if (!beyond) fail_msg("%s: a large problem could be one of training's", task[k]->name);
        }
    }
}

static void variants_are_found_by_name(void **state)
{
    Variant   v;
    aha_error e = {0};
    (void)state;
    assert_int_equal(variant_find(NULL, &v, &e), 0);
    assert_int_equal(v, VARIANT_NONE);
    assert_int_equal(variant_find("large", &v, &e), 0);
    assert_int_equal(v, VARIANT_LARGE);
    assert_string_equal(variant_name(v), "large");
    assert_int_equal(variant_find("huge", &v, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "wording"));
    assert_non_null(strstr(e.text, "large"));
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
    for (int k = 0; k < 3; k++)
        for (uint64_t i = 0; i < (k < 2 ? 3000 : 400); i++) {
            Rng         rng = {8, i, 0};
            Problem     p;
            double      v[PROBLEM_NUMBERS_MAX];
            bool        large = i % 3 == 0;
            const Task *t = COUNTDOWN[k];
            t->generate(t, i % 2 ? SPLIT_TRAIN : SPLIT_HELD_OUT, large ? VARIANT_LARGE : VARIANT_NONE, &rng, &p);
            assert_int_equal(p.n, 3 + k);
            assert_in_range(p.target, 1, 99);
            for (int j = 0; j < p.n; j++) {
                assert_in_range(p.number[j], large ? 21 : 1, large ? 30 : 20);
                v[j] = p.number[j];
            }
            assert_true(solvable(v, p.n, p.target));
        }
}

/* Both sides of the equation in a text with a number for x, done by the evaluator that judges. */
static bool holds_with(const char *text, int x)
{
    const char *eq = strchr(text, '='), *from = eq, *to = eq;
    char        side[2][64];
    size_t      n = 0;
    ExprValue   v, w;
    while (from > text && from[-1] != ' ') from--;
    while (*to && *to != ' ' && !strchr(".,:?", *to)) to++;
    for (const char *c = from; c < eq; c++) {
        if (*c == 'x') n += (size_t)snprintf(side[0] + n, sizeof side[0] - n, "%d", x);
        else side[0][n++] = *c;
    }
    snprintf(side[1], sizeof side[1], "%.*s", (int)(to - eq - 1), eq + 1);
    if (!expr_eval(side[0], n, &v) || !expr_eval(side[1], strlen(side[1]), &w)) fail_msg("no equation: %s", text);
    return v.num == w.num && v.den == w.den;
}

static void equations_have_one_answer(void **state)
{
    Buf b = {0};
    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        Rng       rng = {8, i, 0};
        Problem   p;
        aha_error e = {0};
        buf_reset(&b);
        ASSERT_OK(problem_new(&task_equation, i % 2 ? SPLIT_TRAIN : SPLIT_HELD_OUT, (Variant)(i % VARIANT_COUNT), &rng, &p, &b, &e), e);
        for (int x = 0; x < 1000; x++)
            if (holds_with(b.data, x) != (x == p.target)) fail_msg("%s: answer %d, but %d", b.data, p.target, x);
    }
    buf_free(&b);
}

static void answers_are_small_whole_numbers(void **state)
{
    static const Task *const ONE_NUMBER[] = {&task_equation, &task_wordproblem, &task_direct};
    (void)state;
    for (uint64_t i = 0; i < 30000; i++) {
        Rng         rng = {9, i, 0};
        Problem     p;
        const Task *t = ONE_NUMBER[i % 3];
        t->generate(t, i % 2 ? SPLIT_TRAIN : SPLIT_HELD_OUT, (Variant)(i % VARIANT_COUNT), &rng, &p);
        assert_in_range(p.target, 1, 999); /* one token */
        for (int k = 0; k < p.n; k++) assert_in_range(p.number[k], 1, 999);
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

static void numbers_are_judged_exactly(void **state)
{
    static const char *const RIGHT[] = {"5", " 5 ", "5.", "x=5", "X = 5", "n=5\n", "05"};
    static const char *const WRONG[] = {"6", "x=6", "", " ", ".", "x", "x=", "=5", "-5", "+5", "5.0", "5,0", "5 5", "5 6", "5\n6", "5 or 6", "x=5=5",
                                        "x=6 x=5", "xx=5", "x=y=5", "the answer is 5", "5 apples", "1+4", "(5)", "5;", "55", "0000000000005",
                                        "99999999999999999999", "18446744073709551621", "<think>5", "5</think>"};
    Problem p;
    char   *s = malloc(1000000);
    Rng     rng = {2, 1, 0};
    (void)state;
    assert_true(task_parse("Solve 3*x+4=19.", 15, &p));
    for (size_t i = 0; i < ARRAY_LEN(RIGHT); i++)
        if (!right(&p, RIGHT[i])) fail_msg("refused: %s", RIGHT[i]);
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++)
        if (right(&p, WRONG[i])) fail_msg("accepted: %s", WRONG[i]);
    assert_false(problem_judge(&p, "5\0006", 3).correct);
    assert_true(problem_judge(&p, "6", 1).well_formed);
    assert_false(problem_judge(&p, "six", 3).well_formed);
    memset(s, '5', 1000000);
    assert_false(problem_judge(&p, s, 1000000).correct);
    memset(s, ' ', 1000000);
    assert_false(problem_judge(&p, s, 1000000).correct);
    p.target = 123456789; /* no short random text is right by chance */
    for (int i = 0; i < 200000; i++) {
        int len = (int)rng_below(&rng, 9);
        for (int k = 0; k < len; k++) s[k] = "0123456789()+-x/ =.\n\0n"[rng_below(&rng, 22)];
        assert_false(problem_judge(&p, s, (size_t)len).correct);
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

/* ---- the corpus ---- */
typedef struct Corpus {
    const Task *task;
    double right_from, right_to, gives_up, checks, nothing; /* shares: bounds, and at least */
    size_t bytes; /* of thinking, at most */
} Corpus;

static void corpus_of(const Corpus *c)
{
    enum { N = 20000 };
    int    right_n = 0, equations = 0, wrong = 0, gives_up = 0, checks = 0, nothing = 0;
    size_t most = 0;
    Buf    b[3] = {{0}};
    for (uint64_t i = 0; i < N; i++) {
        Rng       rng = {7, i, 0};
        Problem   p;
        Behaviour h;
        for (int k = 0; k < 3; k++) buf_reset(&b[k]);
        c->task->generate(c->task, SPLIT_TRAIN, VARIANT_NONE, &rng, &p);
        c->task->demo(&p, &rng, &b[1], &b[2]);
        behaviour_read(b[1].data ? b[1].data : "", b[1].n, &h);
        right_n += problem_judge(&p, b[2].data, b[2].n).correct;
        assert_true(problem_judge(&p, b[2].data, b[2].n).well_formed);
        equations += h.equations;
        wrong += h.wrong;
        gives_up += h.gives_up;
        checks += h.checks > 0;
        nothing += h.no_thinking;
        most = b[1].n > most ? b[1].n : most;
    }
    for (int k = 0; k < 3; k++) buf_free(&b[k]);
    print_message("%s: right %.3f, wrong equations %.4f, gives up %.3f, checks %.3f, no thinking %.3f, longest %zu bytes\n", c->task->name,
                  (double)right_n / N, (double)wrong / equations, (double)gives_up / N, (double)checks / N, (double)nothing / N, most);
    assert_true(right_n > c->right_from * N && right_n < c->right_to * N);
    assert_true(wrong > 0.01 * equations && wrong < 0.03 * equations);
    assert_true(gives_up >= c->gives_up * N && checks >= c->checks * N && nothing > c->nothing * N);
    assert_true(most <= c->bytes);
}

static void corpus_is_what_it_says(void **state)
{
    static const Corpus CORPUS[] = {
        {&task_countdown3, 0.45, 0.60, 0.2, 0.1, 0.1, 700}, {&task_countdown3_short, 0.45, 0.60, 0.2, 0.1, 0.1, 700},
        {&task_countdown4, 0.45, 0.60, 0.2, 0.1, 0.08, 700},
        {&task_equation, 0.75, 0.92, 0.01, 0.2, 0.08, 250}, {&task_wordproblem, 0.75, 0.92, 0, 0.2, 0.1, 250},
        {&task_direct, 0.9, 0.98, 0, 0, 0.8, 20},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CORPUS); i++) corpus_of(&CORPUS[i]);
}

/* Which way to make three numbers of four "Take a op b" is, by the places of a and b in the prompt; -1: a number occurs twice. */
static int reduction_of(const Problem *p, int a, char op, int b)
{
    int at[2] = {-1, -1}, pair = 0;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            if (p->number[i] == p->number[j]) return -1;
    for (int i = 0; i < 4; i++) {
        if (p->number[i] == a) at[0] = i;
        if (p->number[i] == b) at[1] = i;
    }
    assert_true(at[0] >= 0 && at[1] >= 0 && a > b);
    for (int i = 0; i < 4; i++)
        for (int j = i + 1; j < 4; j++, pair++)
            if ((at[0] == i && at[1] == j) || (at[0] == j && at[1] == i)) return pair * 4 + (int)(strchr("+-*/", op) - "+-*/");
    return -1;
}

/* Four numbers: the ways to take two of them come in one order, round from the first, none twice. */
static void pairs_are_taken_in_one_order(void **state)
{
    Buf b[2] = {{0}};
    int several = 0;
    (void)state;
    for (uint64_t i = 0; i < 5000; i++) {
        Rng     rng = {17, i, 0};
        Problem p;
        int     first = -1, last = -1, a, c;
        char    op;
        buf_reset(&b[0]);
        buf_reset(&b[1]);
        task_countdown4.generate(&task_countdown4, SPLIT_TRAIN, VARIANT_NONE, &rng, &p);
        task_countdown4.demo(&p, &rng, &b[0], &b[1]);
        for (const char *t = b[0].n ? b[0].data : ""; (t = strstr(t, "Take ")) != NULL; t++) {
            int way;
            assert_int_equal(sscanf(t, "Take %d%c%d=", &a, &op, &c), 3);
            way = reduction_of(&p, a, op, c);
            if (way < 0) break;
            if (first < 0) first = way;
            if (last >= 0 && (way - first + 24) % 24 <= last) fail_msg("out of order:\n%s", b[0].data);
            several += last >= 0;
            last = (way - first + 24) % 24;
        }
    }
    assert_true(several > 500);
    buf_free(&b[0]);
    buf_free(&b[1]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_holds),
        cmocka_unit_test(order_of_numbers_keeps_the_key),
        cmocka_unit_test(variants_are_unlike_training),
        cmocka_unit_test(variants_are_found_by_name),
        cmocka_unit_test(problems_can_be_solved),
        cmocka_unit_test(equations_have_one_answer),
        cmocka_unit_test(answers_are_small_whole_numbers),
        cmocka_unit_test(judging_is_exact),
        cmocka_unit_test(judging_survives_anything),
        cmocka_unit_test(numbers_are_judged_exactly),
        cmocka_unit_test(expressions_are_exact),
        cmocka_unit_test(corpus_is_what_it_says),
        cmocka_unit_test(pairs_are_taken_in_one_order),
        cmocka_unit_test(behaviours_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
