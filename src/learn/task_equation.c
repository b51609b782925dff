/* Equations: one unknown, two steps, a whole answer.
 *
 *   19-4=15, 15/3=5                       the steps back (steps.c)
 *   Check: 3*5=15, 15+4=19 ok
 *   Try 10: 3*10=30, 30+4=34 less         trials from the middle; less, more: where the answer lies
 *   Try 5: 3*5=15, 15+4=19 yes */
#include "task_parts.h"

#include <string.h>

/* a is the factor, b what is added or taken away, c the other side: numbers 0 to 2 of a problem. */
typedef struct Form {
    const char *text[2];        /* two ways to write it, the same twice where there is one */
    const char *solve[3], *check[3];
    int         rises;          /* the left side with x: 1 rises, -1 falls, 0 no trials, for they would not stay whole */
} Form;

static const Form FORM[] = {
    {{"%a*%X+%b=%c", "%b+%a*%X=%c"}, {"c-b", "p/a", NULL}, {"a*x", "p+b", NULL}, 1},
    {{"%a*%X-%b=%c", "%a*%X-%b=%c"}, {"c+b", "p/a", NULL}, {"a*x", "p-b", NULL}, 1},
    {{"%X/%a+%b=%c", "%b+%X/%a=%c"}, {"c-b", "p*a", NULL}, {"x/a", "p+b", NULL}, 0},
    {{"%X/%a-%b=%c", "%X/%a-%b=%c"}, {"c+b", "p*a", NULL}, {"x/a", "p-b", NULL}, 0},
    {{"%a*(%X+%b)=%c", "(%X+%b)*%a=%c"}, {"c/a", "p-b", NULL}, {"x+b", "a*p", NULL}, 1},
    {{"%a*(%X-%b)=%c", "(%X-%b)*%a=%c"}, {"c/a", "p+b", NULL}, {"x-b", "a*p", NULL}, 1},
    {{"%b-%a*%X=%c", "%b-%a*%X=%c"}, {"b-c", "p/a", NULL}, {"a*x", "b-p", NULL}, -1},
};
/* Also recognised, never written: 3x for 3*x */
static const char *const SHORT[][2] = {{"%a%X+%b=%c", "%b+%a%X=%c"}, {"%a%X-%b=%c", "%a%X-%b=%c"}, {NULL, NULL}, {NULL, NULL},
                                       {"%a(%X+%b)=%c", "%a(%X+%b)=%c"}, {"%a(%X-%b)=%c", "%a(%X-%b)=%c"}, {"%b-%a%X=%c", "%b-%a%X=%c"}};
enum { FORMS = ARRAY_LEN(FORM), A_MAX = 12, B_MAX = 60, X_MAX = 20, LARGE = 10, SIDE_MAX = 999 };

/* x is drawn; large: above all that training has, whose answers end at X_MAX (times a, where x is divided) */
static void generate(const Task *t, Split split, Variant v, Rng *rng, Problem *p)
{
    do {
        int form = (int)rng_below(rng, FORMS), a = between(rng, 2, A_MAX), b = between(rng, 1, B_MAX), x;
        x = v == VARIANT_LARGE ? between(rng, X_MAX + 1, X_MAX + LARGE) : between(rng, 1, X_MAX);
        *p = (Problem){.task = t, .kind = form, .n = 3, .number = {a, b, 0}};
        if (FORM[form].rises == 0) x = v == VARIANT_LARGE ? A_MAX * X_MAX + x * a : x * a;
        p->number[2] = steps_value(FORM[form].check, p, x);
        p->target = x;
    } while (p->number[2] < 1 || p->number[2] > SIDE_MAX || problem_split(p) != split);
}

static const char *const WORDING[] = {
    "Solve %E.", "Solve %E for %X.", "Find %X: %E.", "What is %X if %E?", "If %E, what is %X?", "%E. What is %X?", "Which %X makes %E true?",
    "For which number %X is %E?", "Find the value of %X when %E.",
};
enum { N_WORDING = ARRAY_LEN(WORDING), WORDING_HELD_OUT = 2 };

static void word(const Problem *p, Rng *rng, Variant variant, Buf *out)
{
    Slots s = {.number = {p->number[0], p->number[1], p->number[2]}};
    Buf   e = {0};
    slots_set(&s, 'X', "x");
    pattern_write(FORM[p->kind].text[rng_below(rng, 2)], &s, &e);
    slots_set(&s, 'E', e.data ? e.data : "");
    pattern_write(pattern_pick(WORDING, N_WORDING, WORDING_HELD_OUT, rng, variant == VARIANT_WORDING), &s, out);
    out->failed |= e.failed;
    buf_free(&e);
}

/* ---- the corpus ---- */
enum { TRIALS = 18 /* percent */, MIDDLE = X_MAX / 2 };

/* Ever smaller steps from the middle reach every answer of 1 to 20. */
static void trials(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    static const int STEP[] = {5, 3, 1, 1, 0};
    const Form      *f = &FORM[p->kind];
    int              x = MIDDLE, v = -1, tries = rng_below(rng, 100) < 85 ? (int)ARRAY_LEN(STEP) : 2;
    for (int i = 0; i < tries && v != p->number[2]; i++) {
        bool more;
        buf_fmt(thinking, "%sTry %d: ", i ? "\n" : "", x);
        v = steps_write(f->check, p, x, rng, thinking);
        more = v < 0 ? f->rises > 0 : (v < p->number[2]) == (f->rises > 0); /* below nothing: x too small, or b - a*x */
        buf_str(thinking, v == p->number[2] ? " yes" : more ? " more" : " less");
        if (v != p->number[2]) x += more ? STEP[i] : -STEP[i];
        if (x < 1) x = 1;
    }
    if (v != p->number[2]) buf_str(thinking, "\nI give up.");
    buf_fmt(answer, "%d", x);
}

static void demo(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    const Form *f = &FORM[p->kind];
    if (f->rises && rng_below(rng, 100) < TRIALS)
        trials(p, rng, thinking, answer);
    else
        steps_demo(f->solve, f->check, p->number[2], p, rng, thinking, answer);
}

/* ---- free text: an equation among words that ask for its unknown ---- */
static const char WORDS[] = "solve find x y n z what is are if when for the value of number which makes make true please can you how so that "
                            "a an equation compute calculate tell me and then equals be must get determine unknown in given know i much large";

/* Reads words up to the next token that is none of them; false: it is another word. */
static bool skip_words(const char **text, size_t *n)
{
    TextToken t;
    for (;;) {
        const char *s = *text;
        size_t      left = *n;
        if (!text_token(&s, &left, &t) || t.kind != 'w') return true;
        if (!word_in(WORDS, t.s, t.n)) return false;
        *text = s;
        *n = left;
    }
}

/* The equation that the text begins with; returns the bytes read, 0: none. */
static size_t read_equation(const char *text, size_t n, Problem *p)
{
    Slots s;
    for (int k = 0; k < 2 * FORMS; k++) {
        int                form = k % FORMS;
        const char *const *way = k < FORMS ? FORM[form].text : SHORT[form];
        for (int i = 0; i < 2 && way[i]; i++) {
            size_t used = pattern_match(way[i], text, n, &s);
            if (used == 0 || s.word_n['X' - 'A'] != 1) continue;
            *p = (Problem){.kind = form, .n = 3, .number = {s.number[0], s.number[1], s.number[2]}};
            p->target = steps_value(FORM[form].solve, p, 0);
            if (p->target > 0 && steps_value(FORM[form].check, p, p->target) == p->number[2]) return used;
        }
    }
    return 0;
}

static bool parse(const Task *task, const char *text, size_t n, Problem *p)
{
    size_t    used = 0;
    TextToken t;
    while (used == 0 && n > 0) { /* before each token: "x" may be a word of the question or the equation's first */
        if ((used = read_equation(text, n, p)) > 0) break;
        if (!text_token(&text, &n, &t) || t.kind != 'w' || !word_in(WORDS, t.s, t.n)) return false;
    }
    if (used == 0) return false;
    p->task = task;
    text += used;
    n -= used;
    return skip_words(&text, &n) && !text_token(&text, &n, &t);
}

const Task task_equation = {
    .name = "equation",
    .help = "solve an equation of two steps, with a whole answer: 3*x+4=19",
    .generate = generate,
    .key = key_of_kind,
    .word = word,
    .judge = judge_number,
    .demo = demo,
    .parse = parse,
};
