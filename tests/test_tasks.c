/* Tasks: the split holds, problems can be solved, judging is exact and survives anything, samples are what they say. */
#include "learn/task.h"
#include "testlib.h"

#include <math.h>

static int order(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

static bool is_countdown(const Problem *p)
{
    return strncmp(p->task->name, "countdown", 9) == 0;
}

/* The kind, the numbers and the target as one number; of Countdown the numbers in any order are the same. */
static uint64_t identity(const Problem *p)
{
    int      v[PROBLEM_NUMBERS_MAX];
    uint64_t h = (uint64_t)p->target * 32 + (uint64_t)p->kind;
    memcpy(v, p->number, (size_t)p->n * sizeof *v);
    if (is_countdown(p)) qsort(v, (size_t)p->n, sizeof *v, order);
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

/* the text with a mark for each number */
static uint64_t shape_of(const Buf *b)
{
    char   out[512];
    size_t n = 0;
    for (size_t i = 0; i < b->n && n < sizeof out; i++) {
        bool digit = b->data[i] >= '0' && b->data[i] <= '9';
        if (!digit) out[n++] = b->data[i];
        else if (n == 0 || out[n - 1] != '#') out[n++] = '#';
    }
    return hash64(out, n, 0);
}

static void held_out_wordings_are_new(void **state)
{
    enum { N = 20000 };
    int                n_task;
    const Task *const *task = task_all(&n_task);
    uint64_t          *seen = malloc(N * sizeof *seen);
    Buf                b = {0};
    Problem            p;
    aha_error          e = {0};
    (void)state;
    for (int k = 0; k < n_task; k++) {
        for (uint64_t i = 0; i < 2 * N; i++) {
            Rng      rng = {3, i, 0};
            uint64_t id;
            buf_reset(&b);
            ASSERT_OK(problem_new(task[k], SPLIT_TRAIN, i < N ? VARIANT_NONE : VARIANT_WORDING, &rng, &p, &b, &e), e);
            id = shape_of(&b);
            if (i < N) seen[i] = id;
            if (i == N - 1) qsort(seen, N, sizeof *seen, order64);
            if (i >= N && bsearch(&id, seen, N, sizeof id, order64)) fail_msg("%s: training has the wording of: %s", task[k]->name, b.data);
        }
    }
    buf_free(&b);
    free(seen);
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
}

static void typed_questions_are_answered(void **state)
{
    static const struct {
        const Task *task;
        const char *text;
        int         answer;
    } TYPED[] = {
        {&task_countdown4, "Using 8, 13, 2 and 5, make 34.", 34},
        {&task_countdown4, "make 34 from 2 8 13 5", 34},
        {&task_countdown5, "How can I reach 35 with 8, 13, 2, 5 and 1?", 35},
        {&task_equation, "Solve 3*x+4=19.", 5},
        {&task_equation, "3x + 4 = 19", 5},
        {&task_equation, "what is y if 4 + 3y = 19?", 5},
        {&task_equation, "Please find n so that n / 4 - 2 = 3", 20},
        {&task_equation, "Solve 2(x-3)=8 for x", 7},
        {&task_equation, "If 20 - 3*x = 5, how much is x?", 5},
        {&task_wordproblem, "Tom has 8 apples. He buys 5 more and gives 4 away. How many apples does Tom have now?", 9},
        {&task_wordproblem, "julia had 20 Kiwis, bought 5 more and gave away 4. how many kiwis are left", 21},
        {&task_wordproblem, "There are 4 boxes with 6 pens each. Sara takes 5 pens out. How many pens are left?", 19},
        {&task_wordproblem, "Max has 4 bags with 6 eggs each, and 5 more eggs. How many eggs does Max have?", 29},
        {&task_wordproblem, "Mia buys 3 books for 12 dollars each and pays with 50 dollars. How much does Mia get back?", 14},
        {&task_wordproblem, "Leo has 20 cards, keeps 6 and shares the rest among 7 friends. How many cards does each friend get?", 2},
        {&task_wordproblem, "Ann has 6 cups. Bob has 3 times as many. How many cups do they have together?", 24},
        {&task_wordproblem, "Ann has 6 cups. Bob has 3 more than Ann. How many cups do they have together?", 15},
        {&task_wordproblem, "A bike costs 90 dollars. Tom has 10 dollars and saves 5 dollars a week for 4 weeks. How much is still missing?", 60},
        {&task_wordproblem, "A book has 100 pages. Kate reads 10 pages a day for 4 days. How many pages a day must she read to finish in 3 more days?", 20},
        {&task_direct, "What is 7 + 5?", 12},
        {&task_direct, "how much is 6 times 7", 42},
        {&task_direct, "What is 42/6", 7},
        {&task_direct, "Take 5 from 12.", 7},
        {&task_direct, "Which is larger, 13 or 9?", 13},
        {&task_direct, "which is smaller 13 or 9", 9},
        {&task_direct, "What comes after 14?", 15},
        {&task_direct, "What comes before 14?", 13},
        {&task_direct, "What is half of 14?", 7},
        {&task_direct, "Double 14", 28},
    };
    static const char *const OTHER[] = {
        "", "?", "7", "What is", "What is 7+5+1?", "What is 7+5 in Paris?", "What is 7+?", "Which is larger, 9 or 9?", "What is 7/2?", "What is 5-5?",
        "What comes after dinner?", "Which is larger, an elephant or a mouse?", "Solve 3*x+4=20.", "Solve 3*x+4.", "Solve x*x=9.", "Solve 3*x+4*y=19.",
        "Write a poem about 3*x+4=19.", "x", "Tom has 8 apples.", "Tom has 8 apples. He buys 5 more and gives 40 away. How many apples does Tom have now?",
        "Tom has 8 apples. He buys 5 more and gives 4 away. How many pears does Tom have now?", "make 29 from 2", "What is 99999999999*3?", "%a+%b", "%N",
        "What is 99999*99999?",
    };
    Problem p;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TYPED); i++) {
        if (!task_parse(TYPED[i].text, strlen(TYPED[i].text), &p)) fail_msg("not recognised: %s", TYPED[i].text);
        if (p.task != TYPED[i].task || p.target != TYPED[i].answer) fail_msg("%s: %s, %d", TYPED[i].text, p.task->name, p.target);
    }
    for (size_t i = 0; i < ARRAY_LEN(OTHER); i++)
        if (task_parse(OTHER[i], strlen(OTHER[i]), &p)) fail_msg("recognised as %s: %s", p.task->name, OTHER[i]);
}

/* Every prompt, in any wording, is read back as the problem that it is. */
static void prompts_are_recognised(void **state)
{
    int                n_task;
    const Task *const *task = task_all(&n_task);
    Buf                b = {0};
    (void)state;
    for (int k = 0; k < n_task; k++)
        for (uint64_t i = 0; i < 5000; i++) {
            Rng       rng = {12, i, 0};
            Problem   p, q;
            aha_error e = {0};
            buf_reset(&b);
            ASSERT_OK(problem_new(task[k], i % 2 ? SPLIT_TRAIN : SPLIT_HELD_OUT, (Variant)(i % VARIANT_COUNT), &rng, &p, &b, &e), e);
            if (!task_parse(b.data, b.n, &q)) fail_msg("not recognised: %s", b.data);
            if (q.task != task[k] || identity(&p) != identity(&q)) fail_msg("%s: %s, %d instead of %d", b.data, q.task->name, q.target, p.target);
            assert_true(problem_split(&p) == problem_split(&q));
        }
    buf_free(&b);
}

static void parsing_survives_anything(void **state)
{
    static const char *const PART[] = {"What ", "is ", "x", "99999", "7", "+", "*", "=", "/", "(", ")", "make ", "from ", " ", "%", "\0", "Tom ", "has ", ".", "\xff"};
    Rng  rng = {3, 0, 0};
    char s[512];
    (void)state;
    for (int i = 0; i < 100000; i++) {
        Problem p;
        size_t  n = 0;
        for (int k = (int)rng_below(&rng, 20); k > 0; k--) {
            const char *part = PART[rng_below(&rng, ARRAY_LEN(PART))];
            size_t      len = *part ? strlen(part) : 1;
            memcpy(s + n, part, len);
            n += len;
        }
        task_parse(s, n, &p);
    }
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
        {&task_countdown3, 0.45, 0.60, 0.2, 0.1, 0.1, 700}, {&task_countdown4, 0.45, 0.60, 0.2, 0.1, 0.08, 700},
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

static void words_are_the_same_every_time(void **state)
{
    static const Task *const ONE[] = {&task_countdown3, &task_wordproblem, &task_direct};
    static const Task *const OTHER[] = {&task_direct, &task_countdown3, &task_wordproblem, &task_countdown3};
    const char **a, **b, **less;
    int          n, m, n_less, found = 0;
    aha_error    e = {0};
    (void)state;
    ASSERT_OK(task_words(ONE, 3, &a, &n, &e), e);
    ASSERT_OK(task_words(OTHER, 4, &b, &m, &e), e);
    ASSERT_OK(task_words(ONE, 1, &less, &n_less, &e), e);
    assert_int_equal(n, m);
    for (int i = 0; i < n; i++) assert_string_equal(a[i], b[i]);
    assert_in_range(n_less, 20, n - 20);
    for (int i = 0, k = 0; i < n_less; i++) {
        while (k < n && strcmp(a[k], less[i]) != 0) k++;
        found += k < n;
    }
    assert_int_equal(found, n_less);
    mem_free(a);
    mem_free(b);
    mem_free(less);
}

/* 5,000 further prompts, in any wording, hold no letters that are not in a word of the vocabulary. */
static void words_are_all_there(void **state)
{
    int                n_task, n;
    const Task *const *task = task_all(&n_task);
    const char       **word;
    aha_error          e = {0};
    Buf                b = {0};
    (void)state;
    ASSERT_OK(task_words(task, n_task, &word, &n, &e), e);
    for (uint64_t i = 0; i < 5000; i++) {
        Rng     rng = {1234, i, 0};
        Problem p;
        char    letters[64];
        buf_reset(&b);
        ASSERT_OK(problem_new(task[i % (uint64_t)n_task], SPLIT_HELD_OUT, (Variant)(i % VARIANT_COUNT), &rng, &p, &b, &e), e);
        for (char *c = b.data; *c;) {
            size_t len = 0;
            int    k = 0;
            while ((c[len] | 32) >= 'a' && (c[len] | 32) <= 'z') len++;
            if (len > 1) {
                snprintf(letters, sizeof letters, "%s%.*s", c > b.data && c[-1] == ' ' ? " " : "", (int)len, c);
                while (k < n && strcmp(word[k], letters) != 0) k++;
                if (k == n) fail_msg("\"%s\" of \"%s\" is no word of the vocabulary", letters, b.data);
            }
            c += len ? len : 1;
        }
    }
    buf_free(&b);
    mem_free(word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_holds),
        cmocka_unit_test(order_of_numbers_keeps_the_key),
        cmocka_unit_test(variants_are_unlike_training),
        cmocka_unit_test(held_out_wordings_are_new),
        cmocka_unit_test(variants_are_found_by_name),
        cmocka_unit_test(problems_can_be_solved),
        cmocka_unit_test(equations_have_one_answer),
        cmocka_unit_test(answers_are_small_whole_numbers),
        cmocka_unit_test(judging_is_exact),
        cmocka_unit_test(judging_survives_anything),
        cmocka_unit_test(numbers_are_judged_exactly),
        cmocka_unit_test(expressions_are_exact),
        cmocka_unit_test(free_text_is_recognised),
        cmocka_unit_test(typed_questions_are_answered),
        cmocka_unit_test(prompts_are_recognised),
        cmocka_unit_test(parsing_survives_anything),
        cmocka_unit_test(corpus_is_what_it_says),
        cmocka_unit_test(pairs_are_taken_in_one_order),
        cmocka_unit_test(behaviours_are_counted),
        cmocka_unit_test(words_are_the_same_every_time),
        cmocka_unit_test(words_are_all_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
