/* Tasks as text: wordings that are held out, typed questions, and the words that the tokenizer gets. */
#include "tasklib.h"

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
            ASSERT_OK(problem_new(task[k], SPLIT_TRAIN, i < N ? (Variant)(i % 2 ? VARIANT_FREE : VARIANT_NONE) : VARIANT_WORDING, &rng, &p, &b, &e), e);
            id = shape_of(&b);
            if (i < N) seen[i] = id;
            if (i == N - 1) qsort(seen, N, sizeof *seen, order64);
            if (i >= N && bsearch(&id, seen, N, sizeof id, order64)) fail_msg("%s: training has the wording of: %s", task[k]->name, b.data);
        }
    }
    buf_free(&b);
    free(seen);
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
            /* countdown3-short asks what countdown3 asks */
            if ((q.task != task[k] && q.task->key != task[k]->key) || identity(&p) != identity(&q)) fail_msg("%s: %s, %d instead of %d", b.data, q.task->name, q.target, p.target);
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
        ASSERT_OK(problem_new(task[i % (uint64_t)n_task], SPLIT_HELD_OUT, i % 2 ? VARIANT_NONE : VARIANT_WORDING, &rng, &p, &b, &e), e);
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
        cmocka_unit_test(held_out_wordings_are_new),
        cmocka_unit_test(free_text_is_recognised),
        cmocka_unit_test(typed_questions_are_answered),
        cmocka_unit_test(prompts_are_recognised),
        cmocka_unit_test(parsing_survives_anything),
        cmocka_unit_test(words_are_the_same_every_time),
        cmocka_unit_test(words_are_all_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
