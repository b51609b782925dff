/* Direct questions that need no thinking: most of the corpus answers at once, the rest with one equation. */
#include "task_parts.h"

#include <string.h>

enum { WORDINGS_MAX = 5 };
typedef struct Kind {
    const char *wording[WORDINGS_MAX]; /* the last one never occurs in training; NULL: fewer */
    const char *steps[2];              /* the one step to the answer; NULL: none, the larger or the smaller number is */
    int         low[2], high[2];       /* of the numbers; high 0: there is one number */
    bool        symmetric;             /* the numbers in either order are the same problem */
    bool        larger;
} Kind;

static const Kind KIND[] = {
    {{"What is %a+%b?", "How much is %a plus %b?", "Add %a and %b.", "What is the sum of %a and %b?", "Compute %a+%b."},
     {"a+b", NULL}, {1, 1}, {99, 99}, true, false},
    {{"What is %a-%b?", "How much is %a minus %b?", "Take %b from %a.", "Compute %a-%b."}, {"a-b", NULL}, {2, 1}, {99, 98}, false, false},
    {{"What is %a*%b?", "How much is %a times %b?", "Multiply %a by %b.", "Compute %a*%b."}, {"a*b", NULL}, {2, 2}, {20, 20}, true, false},
    {{"What is %a/%b?", "Divide %a by %b.", "How much is %a divided by %b?", "Compute %a/%b."}, {"a/b", NULL}, {4, 2}, {200, 12}, false, false},
    {{"Which is larger, %a or %b?", "Which number is larger: %a or %b?", "Is %a or %b the larger one?", "What is the larger of %a and %b?"},
     {NULL, NULL}, {1, 1}, {200, 200}, true, true},
    {{"Which is smaller, %a or %b?", "Which number is smaller: %a or %b?", "Is %a or %b the smaller one?", "What is the smaller of %a and %b?"},
     {NULL, NULL}, {1, 1}, {200, 200}, true, false},
    {{"What comes after %a?", "Which number comes after %a?", "What is the next number after %a?", "Which number follows %a?"},
     {"a+b", NULL}, {1, 1}, {500, 0}, false, false},
    {{"What comes before %a?", "Which number comes before %a?", "What is the number just before %a?", "Which number precedes %a?"},
     {"a-b", NULL}, {2, 1}, {500, 0}, false, false},
    {{"What is half of %a?", "Halve %a.", "How much is one half of %a?"}, {"a/b", NULL}, {2, 2}, {400, 0}, false, false},
    {{"What is twice %a?", "Double %a.", "How much is two times %a?"}, {"a*b", NULL}, {1, 2}, {300, 0}, false, false},
};
enum { KINDS = ARRAY_LEN(KIND), LARGE = 50, ANSWER_MAX = 999 };

static int count_wordings(const Kind *k)
{
    int n = 0;
    while (n < WORDINGS_MAX && k->wording[n]) n++;
    return n;
}

/* Its right answer; false: it has none that is a whole number above 0. */
static bool answer_it(Problem *p)
{
    const Kind *k = &KIND[p->kind];
    int         a = p->number[0], b = p->number[1];
    p->target = k->steps[0] ? steps_value(k->steps, p, 0) : (a > b) == k->larger ? a : b;
    return p->target > 0 && (k->steps[0] || a != b);
}

/* large: the first number is beyond the range of training's, and with it beyond the second number's where the order says nothing */
static void generate(const Task *t, Split split, Variant v, Rng *rng, Problem *p)
{
    bool ok;
    do {
        const Kind *k;
        *p = (Problem){.task = t, .kind = (int)rng_below(rng, KINDS), .n = 2};
        k = &KIND[p->kind];
        p->number[0] = v == VARIANT_LARGE ? between(rng, k->high[0] + 1, k->high[0] + LARGE) : between(rng, k->low[0], k->high[0]);
        p->number[1] = k->high[1] ? between(rng, k->low[1], k->high[1]) : k->low[1];
        ok = answer_it(p) && p->target <= ANSWER_MAX;
    } while (!ok || problem_split(p) != split);
}

static uint64_t key(const Problem *p)
{
    Problem q = *p;
    if (KIND[p->kind].symmetric && p->number[0] > p->number[1]) {
        q.number[0] = p->number[1];
        q.number[1] = p->number[0];
    }
    return key_of_kind(&q);
}

static void word(const Problem *p, Rng *rng, Variant variant, Buf *out)
{
    const Kind *k = &KIND[p->kind];
    Slots       s = {.number = {p->number[0], p->number[1]}};
    pattern_write(pattern_pick(k->wording, count_wordings(k), 1, rng, variant == VARIANT_WORDING), &s, out);
}

enum { WRITTEN = 15, WRONG = 5 }; /* percent: with an equation; at once and wrong */

static void demo(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    const Kind *k = &KIND[p->kind];
    int         v = p->target;
    if (k->steps[0] && rng_below(rng, 100) < WRITTEN)
        v = steps_write(k->steps, p, 0, rng, thinking);
    else if (rng_below(rng, 100) < WRONG)
        v = k->steps[0] ? v + 1 + (int)rng_below(rng, 2) : p->number[0] + p->number[1] - v;
    buf_fmt(answer, "%d", v);
}

static bool parse(const Task *task, const char *text, size_t n, Problem *p)
{
    Slots s;
    for (int i = 0; i < KINDS; i++)
        for (int w = 0; w < count_wordings(&KIND[i]); w++) {
            if (!pattern_is(KIND[i].wording[w], text, n, &s)) continue;
            *p = (Problem){.task = task, .kind = i, .n = 2, .number = {s.number[0], KIND[i].high[1] ? s.number[1] : KIND[i].low[1]}};
            return answer_it(p);
        }
    return false;
}

const Task task_direct = {
    .name = "direct",
    .help = "answer a question that needs no thinking: What is 7+5?",
    .generate = generate,
    .key = key,
    .word = word,
    .judge = judge_number,
    .demo = demo,
    .parse = parse,
};
