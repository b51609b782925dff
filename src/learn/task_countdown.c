/* Countdown: make a target from given numbers, each used once, with + - * /.  Three numbers, four, and five: the last only to
 * be asked, for no training shows so many. */
#include "task_parts.h"

#include <stdio.h>
#include <string.h>

/* ---- problems ---- */
static const char OP[] = "+-*/";
enum { OPT_COUNT, OPT_LOW, OPT_HIGH, OPT_TARGET }; /* option[]: how many numbers, from, to, target below */

enum { LARGE = 10 }; /* VARIANT_LARGE: every number is one of the so many above the range */

static void generate(const Task *t, Split split, Variant variant, Rng *rng, Problem *p)
{
    int low = variant == VARIANT_LARGE ? t->option[OPT_HIGH] + 1 : t->option[OPT_LOW];
    int high = variant == VARIANT_LARGE ? t->option[OPT_HIGH] + LARGE : t->option[OPT_HIGH];
    do {
        int v;
        *p = (Problem){.task = t, .n = t->option[OPT_COUNT]};
        for (int i = 0; i < p->n; i++) p->number[i] = between(rng, low, high);
        v = p->number[0];
        for (int i = 1; i < p->n && v >= 0; i++) {
            char op = OP[rng_below(rng, 4)];
            v = rng_below(rng, 4) == 0 && (op == '-' || op == '/') ? arith_apply(op, p->number[i], v) : arith_apply(op, v, p->number[i]);
        }
        p->target = v;
        for (int i = p->n - 1; i > 0; i--) { /* the order of the prompt says nothing about the solution */
            int j = (int)rng_below(rng, (uint32_t)i + 1), x = p->number[i];
            p->number[i] = p->number[j];
            p->number[j] = x;
        }
    } while (p->target < 1 || p->target >= t->option[OPT_TARGET] || problem_split(p) != split);
}

static uint64_t key(const Problem *p)
{
    int s[PROBLEM_NUMBERS_MAX + 1], n = p->n;
    memcpy(s, p->number, (size_t)n * sizeof *s);
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && s[j - 1] > s[j]; j--) {
            int x = s[j];
            s[j] = s[j - 1];
            s[j - 1] = x;
        }
    s[n] = p->target;
    return hash64(s, ((size_t)n + 1) * sizeof *s, 0x63647763u);
}

/* ---- wordings: %N numbers as "8, 13 and 2", %C as "8, 13, 2"; the last two never occur in training ---- */
static const char *const WORDING[] = {
    "Using %N, make %t.",
    "Make %t from %C.",
    "Can you reach %t with %N?",
    "Use the numbers %C to get %t.",
    "Get %t using %N.",
    "Numbers: %C. Target: %t.",
    "How can I make %t from %N?",
    "With %C, make %t.",
    "Find a way to reach %t from %C.",
    "I have %N. Make %t.",
};
enum { N_WORDING = sizeof(WORDING) / sizeof(WORDING[0]), WORDING_HELD_OUT = 2 };

/* VARIANT_FREE: these, and the plain ones that training has.  %S numbers as "8 13 2" */
static const char *const FREE[] = {
    "make %t from %C", "make %t with %N", "make %t from %S", "using %S make %t", "%t from %C", "%t from %S?", "%t using %C",
    "get to %t with %N", "get %t from %C", "reach %t with %C", "Please make %t out of %N.", "please get %t using %S", "I need %t from %C.",
    "I want %t with %N.", "What makes %t from %N?", "How do I get %t from %C?", "how can i make %t with %N", "Combine %N to get %t.",
    "Use %N to make %t.", "use %S to reach %t", "Reach %t from %N.", "Numbers %C, target %t.", "numbers %S target %t", "Target %t, numbers %C.",
    "Can I make %t from %C?", "can you make %t with %N?", "Is there a way to get %t from %N?", "Using only %N, get %t.", "Given %C, make %t.",
    "With the numbers %C make %t", "Try to make %t from %N.", "Write %t using %N.", "Hi! Make %t from %C, please.", "Put %N together to get %t.",
    "I've got %N. How do I reach %t?", "Countdown: %C. Target %t.", "Make the number %t with %N.", "From %C make %t.",
};

static void list_numbers(const Problem *p, const char *between, const char *last, char *out, size_t cap)
{
    size_t n = 0;
    for (int i = 0; i < p->n; i++) n += (size_t)snprintf(out + n, cap - n, "%s%d", i == 0 ? "" : i == p->n - 1 ? last : between, p->number[i]);
}

static void word(const Problem *p, Rng *rng, Variant variant, Buf *out)
{
    enum { PLAIN = N_WORDING - WORDING_HELD_OUT, FREE_ALL = PLAIN + sizeof(FREE) / sizeof(FREE[0]) };
    char     with_and[16 * PROBLEM_NUMBERS_MAX], commas[16 * PROBLEM_NUMBERS_MAX], spaces[16 * PROBLEM_NUMBERS_MAX];
    Slots    s = {.number['t' - 'a'] = p->target};
    uint32_t u = variant == VARIANT_FREE ? rng_below(rng, FREE_ALL) : 0;
    list_numbers(p, ", ", " and ", with_and, sizeof with_and);
    list_numbers(p, ", ", ", ", commas, sizeof commas);
    list_numbers(p, " ", " ", spaces, sizeof spaces);
    slots_set(&s, 'S', spaces);
    slots_set(&s, 'N', with_and);
    slots_set(&s, 'C', commas);
    pattern_write(variant == VARIANT_FREE ? (u < PLAIN ? WORDING[u] : FREE[u - PLAIN])
                                          : pattern_pick(WORDING, N_WORDING, WORDING_HELD_OUT, rng, variant == VARIANT_WORDING),
                  &s, out);
}

/* ---- judging ---- */
static bool same_numbers(const Problem *p, const ExprValue *v)
{
    bool taken[PROBLEM_NUMBERS_MAX] = {false};
    if (v->n != p->n) return false;
    for (int i = 0; i < v->n; i++) {
        int j = 0;
        while (j < p->n && (taken[j] || p->number[j] != v->used[i])) j++;
        if (j == p->n) return false;
        taken[j] = true;
    }
    return true;
}

static Verdict judge(const Problem *p, const char *answer, size_t n)
{
    const char *eq = n ? memchr(answer, '=', n) : NULL;
    ExprValue   v, right;
    while (n && (answer[n - 1] == ' ' || answer[n - 1] == '\n' || answer[n - 1] == '.')) n--;
    if (eq && (!expr_eval(eq + 1, (size_t)(answer + n - eq - 1), &right) || right.n != 1 || right.num != p->target))
        return (Verdict){0, false, false, "what stands behind = is not the target"};
    if (!expr_eval(answer, eq ? (size_t)(eq - answer) : n, &v)) return (Verdict){0, false, false, "no arithmetic expression"};
    if (!same_numbers(p, &v)) return (Verdict){0, false, false, "does not use each number once"};
    if (v.den != 1 || v.num != p->target) return (Verdict){0, false, true, "another value than the target"};
    return (Verdict){1, true, true, "right"};
}

/* ---- free text ---- */
typedef struct Typed { /* a number of a text, with the words next to it */
    int    value;
    size_t from, to;
} Typed;

/* Is one of the words (separated by blanks) the one that ends at text[at] or begins there?  Blanks and a colon may lie
 * between; letters count in any case. */
static bool word_beside(const char *text, size_t n, size_t at, bool before, const char *words)
{
    size_t len = 0, end;
    while (before ? at > 0 && strchr(" :", text[at - 1]) && text[at - 1] : at < n && text[at] == ' ') at += before ? (size_t)-1 : 1;
    for (end = at; before ? end > 0 && is_letter(text[end - 1]) : end < n && is_letter(text[end]); end += before ? (size_t)-1 : 1) len++;
    return len > 0 && word_in(words, text + (before ? end : at), len);
}

/* The target is the number that a text asks for: behind "make" and the like, else behind "to", else before "from". */
static int find_target(const char *text, size_t n, const Typed *t, int count)
{
    for (int i = 0; i < count; i++)
        if (word_beside(text, n, t[i].from, true, "make makes reach get target equal equals hit obtain")) return i;
    for (int i = 0; i < count; i++)
        if (word_beside(text, n, t[i].from, true, "to into")) return i;
    for (int i = 0; i < count; i++)
        if (word_beside(text, n, t[i].to, false, "from with using out")) return i;
    return -1;
}

static bool parse(const Task *task, const char *text, size_t n, Problem *p)
{
    Typed t[PROBLEM_NUMBERS_MAX + 1];
    int   count = 0, target;
    for (size_t i = 0; i < n;) {
        size_t from = i;
        int    v = 0;
        if (!is_digit(text[i])) {
            i++;
            continue;
        }
        while (i < n && is_digit(text[i]) && v < 100000) v = v * 10 + (text[i++] - '0');
        if (count > PROBLEM_NUMBERS_MAX || v >= 100000) return false;
        t[count++] = (Typed){v, from, i};
    }
    if (count != task->option[OPT_COUNT] + 1) return false;
    if ((target = find_target(text, n, t, count)) < 0) return false;
    *p = (Problem){.task = task, .n = count - 1, .target = t[target].value};
    for (int i = 0, k = 0; i < count; i++)
        if (i != target) p->number[k++] = t[i].value;
    return true;
}

/* ---- the tasks ---- */
#define COUNTDOWN(n, suffix, demo_n, words) \
    {.name = "countdown" #n suffix, .help = words, .generate = generate, .key = key, .word = word, .judge = judge, .demo = demo_n, \
     .parse = parse, .option = {n, 1, 20, 100}}

const Task task_countdown3 = COUNTDOWN(3, "", countdown_demo3, "make a target below 100 from three numbers of 1 to 20, each used once");
const Task task_countdown3_short =
    COUNTDOWN(3, "-short", countdown_demo3_short, "countdown3, most searches of its corpus cut short: for the first part of a curriculum");
const Task task_countdown4 = COUNTDOWN(4, "", countdown_demo4, "the same from four numbers");
const Task task_countdown5 = COUNTDOWN(5, "", NULL, "the same from five numbers; never trained on");
