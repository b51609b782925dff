/* Word problems: two or three steps of arithmetic in a small story.  The names and the things are free: they are no part of
 * what makes two problems the same.
 *
 *   8+5=13, 13-4=9                        the steps (steps.c)
 *   Check: 8+5=13, 13-4=9 ok              the steps once more */
#include "task_parts.h"

#include <string.h>

/* %N %M names, %P %Q he or she (of N, %Q where a sentence begins), %T things; a-d the numbers in the order of the story */
enum { WORDINGS = 3 };
typedef struct Story {
    const char *wording[WORDINGS]; /* the last one never occurs in training */
    const char *steps[STEPS_MAX + 1];
    int         n, low[4], high[4];
} Story;

static const Story STORY[] = {
    {{"%N has %a %T. %Q buys %b more and gives %c away. How many %T does %N have now?",
      "%N had %a %T, bought %b more and gave away %c. How many %T are left?",
      "After buying %b more %T than the %a of the morning, %N gave away %c. How many %T does %N have?"},
     {"a+b", "p-c", NULL}, 3, {2, 2, 2}, {40, 40, 40}},
    {{"There are %a boxes with %b %T each. %N takes %c %T out. How many %T are left?",
      "%N has %a boxes of %b %T and loses %c %T. How many %T does %P have now?",
      "Of %a boxes with %b %T in each, %N took %c %T away. How many %T remain?"},
     {"a*b", "p-c", NULL}, 3, {2, 2, 2}, {12, 20, 40}},
    {{"%N has %a bags with %b %T each, and %c more %T. How many %T does %N have?",
      "In %a bags there are %b %T each, and %c %T lie beside them. How many %T are there?",
      "%N counts %c loose %T and %a bags with %b %T each. How many %T are there in all?"},
     {"a*b", "p+c", NULL}, 3, {2, 2, 2}, {12, 20, 40}},
    {{"%N buys %a %T for %b dollars each and pays with %c dollars. How much does %N get back?",
      "One of the %T costs %b dollars. %N buys %a of them with %c dollars. How many dollars are left?",
      "%N pays %c dollars for %a %T at %b dollars each. How much is the change?"},
     {"a*b", "c-p", NULL}, 3, {2, 2, 20}, {12, 20, 200}},
    {{"%N has %a %T, keeps %b and shares the rest among %c friends. How many %T does each friend get?",
      "%N has %a %T. %Q keeps %b and gives the rest to %c friends, the same to each. How many %T does a friend get?",
      "From %a %T, %N puts %b aside and deals the rest out to %c friends. How many %T does each one get?"},
     {"a-b", "p/c", NULL}, 3, {10, 2, 2}, {100, 40, 12}},
    {{"%N has %a %T. %M has %b times as many. How many %T do they have together?",
      "%N found %a %T, and %M found %b times as many. How many %T did they find in all?",
      "%M owns %b times as many %T as %N, who owns %a. How many %T do both own?"},
     {"a*b", "p+a", NULL}, 2, {2, 2}, {60, 12}},
    {{"%N has %a %T. %M has %b more than %N. How many %T do they have together?",
      "%N found %a %T, and %M found %b more than that. How many %T did they find in all?",
      "%M owns %b %T more than %N, who owns %a. How many %T do both own?"},
     {"a+b", "p+a", NULL}, 2, {2, 2}, {99, 60}},
    {{"%N saves %a dollars a week for %b weeks and already had %c dollars. A bike costs %d dollars. How many dollars are missing?",
      "A bike costs %d dollars. %N has %c dollars and saves %a dollars a week for %b weeks. How much is still missing?",
      "%N wants a bike for %d dollars, had %c dollars, and put aside %a dollars in each of %b weeks. How many dollars are missing?"},
     {"a*b", "p+c", "d-q", NULL}, 4, {2, 2, 5, 50}, {20, 12, 60, 400}},
    {{"A book has %c pages. %N reads %a pages a day for %b days. How many pages a day must %P read to finish in %d more days?",
      "%N reads a book of %c pages, %a pages a day for %b days. The rest takes %d days. How many pages is that a day?",
      "With %b days of %a pages each behind, %N has %d days for the rest of a book of %c pages. How many pages a day are that?"},
     {"a*b", "c-p", "q/d", NULL}, 4, {2, 2, 40, 2}, {20, 9, 300, 9}},
};
enum { STORIES = ARRAY_LEN(STORY), LARGE = 10, ANSWER_MAX = 999 };

static const char *const NAME[] = {"Tom", "Ben", "Sam", "Max", "Leo", "Paul", "Anna", "Lisa", "Mia", "Emma", "Sara", "Kate"};
static const char *const THING[] = {"apples", "pears", "books", "coins", "cards", "stamps", "pens", "eggs", "shells", "marbles", "balls", "cups"};
enum { NAMES = ARRAY_LEN(NAME), BOYS = 6, THINGS = ARRAY_LEN(THING) };

/* Every step of the story whole and above 0, and no number so large that it is two tokens. */
static bool answer_it(Problem *p)
{
    p->target = steps_value(STORY[p->kind].steps, p, 0);
    return p->target > 0;
}

/* large: the first number is beyond the range of training's */
static void generate(const Task *t, Split split, Variant v, Rng *rng, Problem *p)
{
    do {
        const Story *s;
        *p = (Problem){.task = t, .kind = (int)rng_below(rng, STORIES)};
        s = &STORY[p->kind];
        p->n = s->n;
        for (int i = 0; i < s->n; i++) {
            bool large = v == VARIANT_LARGE && i == 0;
            p->number[i] = large ? between(rng, s->high[i] + 1, s->high[i] + LARGE) : between(rng, s->low[i], s->high[i]);
        }
    } while (!answer_it(p) || p->target > ANSWER_MAX || problem_split(p) != split);
}

static void word(const Problem *p, Rng *rng, Variant variant, Buf *out)
{
    Slots    s = {.number = {p->number[0], p->number[1], p->number[2], p->number[3]}};
    uint32_t n = rng_below(rng, NAMES), m = rng_below(rng, NAMES - 1);
    slots_set(&s, 'N', NAME[n]);
    slots_set(&s, 'M', NAME[m >= n ? m + 1 : m]);
    slots_set(&s, 'P', n < BOYS ? "he" : "she");
    slots_set(&s, 'Q', n < BOYS ? "He" : "She");
    slots_set(&s, 'T', THING[rng_below(rng, THINGS)]);
    pattern_write(pattern_pick(STORY[p->kind].wording, WORDINGS, 1, rng, variant == VARIANT_WORDING), &s, out);
}

static void demo(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    steps_demo(STORY[p->kind].steps, STORY[p->kind].steps, -1, p, rng, thinking, answer);
}

static bool parse(const Task *task, const char *text, size_t n, Problem *p)
{
    Slots s;
    for (int i = 0; i < STORIES; i++)
        for (int w = 0; w < WORDINGS; w++) {
            if (!pattern_is(STORY[i].wording[w], text, n, &s)) continue;
            *p = (Problem){.task = task, .kind = i, .n = STORY[i].n, .number = {s.number[0], s.number[1], s.number[2], s.number[3]}};
            return answer_it(p);
        }
    return false;
}

const Task task_wordproblem = {
    .name = "wordproblem",
    .help = "a small story with two or three steps: Tom has 8 apples, buys 5 more ...",
    .generate = generate,
    .key = key_of_kind,
    .word = word,
    .judge = judge_number,
    .demo = demo,
    .parse = parse,
};
