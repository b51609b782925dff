/* Countdown: make a target from given numbers, each used once, with + - * /.
 *
 * Notation of the thinking, chosen for short traces (a number is one token, so is a sign): no blanks inside equations.
 *   8+13=21: 21+2=23, 21-2=19, 21*2=42 no          forward: a pair, then what the third number makes of it
 *   8+2=10, 8-2=6, 8*2=16, 8/2=4                   backward: what two of them make,
 *   Need 29-13=16: 8*2=16 yes                      what they must make, and whether they do
 *   Check: 8*2=16, 16+13=29 ok                     the answer written out once more
 * Searches go through the ways in one order, from a number chosen at random: the next line follows from the last one.
 * Every 3-number solution is (a op b) op x or x op (a op b), so either search, carried through, finds one. */
#include "task.h"

#include <stdio.h>
#include <string.h>

/* ---- problems ---- */
static const char OP[] = "+-*/";
enum { OPT_COUNT, OPT_LOW, OPT_HIGH, OPT_TARGET }; /* option[]: how many numbers, from, to, target below */

/* a op b where it is a whole number that is not negative; -1: not allowed */
static int apply(char op, int a, int b)
{
    switch (op) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return a * b;
    default: return b > 0 && a % b == 0 ? a / b : -1;
    }
}

static void generate(const Task *t, Split split, Rng *rng, Problem *p)
{
    do {
        int v;
        p->task = t;
        p->n = t->option[OPT_COUNT];
        for (int i = 0; i < p->n; i++)
            p->number[i] = t->option[OPT_LOW] + (int)rng_below(rng, (uint32_t)(t->option[OPT_HIGH] - t->option[OPT_LOW] + 1));
        v = p->number[0];
        for (int i = 1; i < p->n && v >= 0; i++) {
            char op = OP[rng_below(rng, 4)];
            v = rng_below(rng, 4) == 0 && (op == '-' || op == '/') ? apply(op, p->number[i], v) : apply(op, v, p->number[i]);
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

/* ---- wordings: %N numbers as "8, 13 and 2", %C as "8, 13, 2", %T target; the last two never occur in training ---- */
static const char *const WORDING[] = {
    "Using %N, make %T.",
    "Make %T from %C.",
    "Can you reach %T with %N?",
    "Use the numbers %C to get %T.",
    "Get %T using %N.",
    "Numbers: %C. Target: %T.",
    "How can I make %T from %N?",
    "With %C, make %T.",
    "Find a way to reach %T from %C.",
    "I have %N. Make %T.",
};
enum { N_WORDING = sizeof(WORDING) / sizeof(WORDING[0]), WORDING_HELD_OUT = 2 };

static void put_numbers(const Problem *p, bool and, Buf *out)
{
    for (int i = 0; i < p->n; i++)
        buf_fmt(out, "%s%d", i == 0 ? "" : and && i == p->n - 1 ? " and " : ", ", p->number[i]);
}

static void word_as(const Problem *p, const char *w, Buf *out)
{
    for (; *w; w++) {
        if (*w != '%') {
            buf_add(out, w, 1);
            continue;
        }
        w++;
        if (*w == 'T')
            buf_fmt(out, "%d", p->target);
        else
            put_numbers(p, *w == 'N', out);
    }
}

static void word(const Problem *p, Rng *rng, bool held_out, Buf *out)
{
    uint32_t n = held_out ? WORDING_HELD_OUT : N_WORDING - WORDING_HELD_OUT;
    word_as(p, WORDING[rng_below(rng, n) + (held_out ? N_WORDING - WORDING_HELD_OUT : 0)], out);
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

/* ---- searches for the base corpus ---- */
enum { OPS = 4, WAYS = 6 };

typedef struct Search {
    const Problem *p;
    Rng           *rng;
    Buf           *out;
    int            start;     /* which number stands apart first: a search goes round from there, in a fixed order */
    int            forward, backward; /* the next line of each kind */
    int            x, a, b;   /* the number apart and the pair of the step under way */
    int            made[OPS]; /* backward: what the pair makes, as written; -1: not this way */
    bool           found;
    int            slips;     /* per thousand equations */
    char           answer[64]; /* the last complete expression, right or wrong */
} Search;

/* "a op b=c"; a slip writes another c, which is what the search then believes */
static int equation(Search *s, int a, char op, int b)
{
    int c = apply(op, a, b);
    if ((int)rng_below(s->rng, 1000) < s->slips) {
        c += (int)rng_below(s->rng, 2) ? 1 + (int)rng_below(s->rng, 2) : -1;
        if (c < 0) c = 1;
    }
    buf_fmt(s->out, "%d%c%d=%d", a, op, b, c);
    return c;
}

/* Number i apart.  The larger one of the pair first: a-b and a/b then make sense. */
static void split(Search *s, int i)
{
    int a = s->p->number[(i + 1) % 3], b = s->p->number[(i + 2) % 3];
    s->x = s->p->number[i % 3];
    s->a = a > b ? a : b;
    s->b = a > b ? b : a;
}

/* The expression of (a op b) op2 x, or x op2 (a op b). */
static void remember(Search *s, char op, char op2, bool x_first)
{
    if (x_first)
        snprintf(s->answer, sizeof s->answer, "%d%c(%d%c%d)", s->x, op2, s->a, op, s->b);
    else
        snprintf(s->answer, sizeof s->answer, "(%d%c%d)%c%d", s->a, op, s->b, op2, s->x);
}

/* Nobody who looks for less than 100 goes on with more than this by adding, taking away or multiplying. */
enum { USEFUL_MAX = 120 };

/* Line `which` forward: a pair's result, then the third number in every way that keeps useful whole numbers. */
static void forward_line(Search *s, int which)
{
    bool first = true;
    char op = OP[which % OPS];
    int  c;
    split(s, s->start + which / OPS);
    if (apply(op, s->a, s->b) < 0) return;
    c = equation(s, s->a, op, s->b);
    buf_str(s->out, ":");
    for (int i = 0; i < OPS && !s->found; i++) {
        char op2 = OP[i];
        bool x_first = (op2 == '-' && s->x > c) || (op2 == '/' && c > 0 && c < s->x);
        int  l = x_first ? s->x : c, r = x_first ? c : s->x, v = apply(op2, l, r);
        if (v < 0 || v > USEFUL_MAX || (op2 == '/' && (r < 2 || c < 1))) continue;
        if (op2 != '/' && l > USEFUL_MAX) continue;
        buf_str(s->out, first ? " " : ", ");
        first = false;
        v = equation(s, l, op2, r);
        remember(s, op, op2, x_first);
        s->found = v == s->p->target;
    }
    buf_str(s->out, s->found ? " yes\n" : first ? " too large\n" : " no\n");
}

/* what the pair must make so that x finishes: way 0 T-x, 1 T+x, 2 x-T, 3 T/x, 4 T*x, 5 x/T; -1: not this way */
static int needed(const Search *s, int way)
{
    int T = s->p->target, x = s->x;
    switch (way) {
    case 0: return T - x;
    case 1: return T + x;
    case 2: return x > T ? x - T : -1;
    case 3: return x > 1 && T % x == 0 ? T / x : -1;
    case 4: return x > 1 ? T * x : -1;
    default: return T > 1 && x % T == 0 && x > T ? x / T : -1;
    }
}

/* All that the pair makes, once per pair. */
static void pair_line(Search *s)
{
    for (int i = 0; i < OPS; i++) {
        s->made[i] = -1;
        if (apply(OP[i], s->a, s->b) < 0) continue;
        buf_str(s->out, i ? ", " : "");
        s->made[i] = equation(s, s->a, OP[i], s->b);
    }
    buf_str(s->out, "\n");
}

/* Line `which` backward: what the pair must make so that the number apart finishes, and whether it was among what it makes. */
static void backward_line(Search *s, int which)
{
    static const char WAY_OP[] = {'-', '+', '-', '/', '*', '/'}, BACK_OP[] = {'+', '-', '-', '*', '/', '/'};
    int  way = which % WAYS, T = s->p->target, need, i = 0;
    bool x_first = way == 2 || way == 5;
    split(s, s->start + which / WAYS);
    if (way == 0) pair_line(s);
    need = needed(s, way);
    if (need < 0 || (need > s->a * s->b && need > s->a + s->b)) return; /* no pair makes more */
    buf_str(s->out, "Need ");
    need = x_first ? equation(s, s->x, WAY_OP[way], T) : equation(s, T, WAY_OP[way], s->x);
    while (i < OPS && s->made[i] != need) i++;
    s->found = i < OPS;
    remember(s, OP[s->found ? i : 0], BACK_OP[way], x_first);
    if (s->found)
        buf_fmt(s->out, ": %d%c%d=%d yes\n", s->a, OP[i], s->b, need);
    else
        buf_str(s->out, ": no\n");
}

enum { FORWARD = 3 * OPS, BACKWARD = 3 * WAYS }; /* lines there are */

/* Up to `budget` lines, from where this search stopped; stops when found. */
static void search(Search *s, bool backward, int budget)
{
    int *next = backward ? &s->backward : &s->forward, end = backward ? BACKWARD : FORWARD;
    for (; *next < end && budget > 0 && !s->found; (*next)++) {
        size_t before = s->out->n;
        if (backward)
            backward_line(s, *next);
        else
            forward_line(s, *next);
        budget -= s->out->n > before;
    }
}

/* A guess: any expression of the right form. */
static void guess(Search *s)
{
    split(s, (int)rng_below(s->rng, 3));
    remember(s, OP[rng_below(s->rng, 3)], OP[rng_below(s->rng, 3)], false);
}

static bool number_at(const char **c, int *out)
{
    int v = 0;
    if (**c < '0' || **c > '9') return false;
    while (**c >= '0' && **c <= '9') v = v * 10 + (*(*c)++ - '0');
    *out = v;
    return true;
}

/* The two equations of an answer, done again without belief in what was written; false: it does not come out. */
static bool check(Search *s)
{
    const char *c = s->answer;
    int         x = 0, a = 0, b = 0, inner, v;
    char        op, op2;
    bool        x_first = *c != '(';
    if (x_first) {
        number_at(&c, &x);
        op2 = *c++;
    }
    c++;
    number_at(&c, &a);
    op = *c++;
    number_at(&c, &b);
    c++;
    if (!x_first) {
        op2 = *c++;
        number_at(&c, &x);
    }
    inner = apply(op, a, b);
    if (inner < 0 || apply(op2, x_first ? x : inner, x_first ? inner : x) < 0) return false;
    buf_str(s->out, "Check: ");
    inner = equation(s, a, op, b);
    buf_str(s->out, ", ");
    v = x_first ? equation(s, x, op2, inner) : equation(s, inner, op2, x);
    buf_str(s->out, v == s->p->target ? " ok\n" : " no\n");
    return v == s->p->target;
}

typedef enum Style { STYLE_GUESS, STYLE_FORWARD, STYLE_BACKWARD, STYLE_MIXED } Style;

static Style pick_style(Rng *rng)
{
    uint32_t u = rng_below(rng, 100);
    return u < 20 ? STYLE_GUESS : u < 48 ? STYLE_FORWARD : u < 84 ? STYLE_BACKWARD : STYLE_MIXED;
}

/* The share of runs that carry on to the end is what makes about half of the corpus end right. */
static int pick_budget(Rng *rng, bool backward)
{
    int lines = backward ? BACKWARD : FORWARD;
    return rng_below(rng, 100) < 15 ? lines : 1 + (int)rng_below(rng, 3);
}

static void demo(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    Search s = {.p = p, .rng = rng, .out = thinking, .slips = 20, .start = (int)rng_below(rng, 3)};
    Style  style = pick_style(rng);
    bool   backward = style != STYLE_FORWARD;
    if (style == STYLE_MIXED) search(&s, false, 1 + (int)rng_below(rng, 3));
    if (style != STYLE_GUESS) search(&s, backward, pick_budget(rng, backward));
    if (s.found && rng_below(rng, 100) < 30 && !check(&s)) { /* a check that fails: look further */
        buf_str(thinking, "Wait.\n");
        s.found = false;
        search(&s, backward, pick_budget(rng, backward));
    }
    if (style == STYLE_GUESS || !s.answer[0]) guess(&s);
    if (style != STYLE_GUESS && !s.found) buf_str(thinking, "I give up.\n");
    while (thinking->n && thinking->data[thinking->n - 1] == '\n') thinking->data[--thinking->n] = 0;
    buf_str(answer, s.answer);
}

const Task task_countdown3 = {
    .name = "countdown3",
    .help = "make a target below 100 from three numbers of 1 to 20, each used once",
    .generate = generate,
    .key = key,
    .word = word,
    .judge = judge,
    .demo = demo,
    .option = {3, 1, 20, 100},
};

/* ---- free text ---- */
typedef struct Typed { /* a number of a text, with the words next to it */
    int    value;
    size_t from, to;
} Typed;

/* Is one of the words (separated by blanks) the one that ends at text[at] or begins there?  Blanks and a colon may lie
 * between; letters count in any case. */
static bool word_beside(const char *text, size_t n, size_t at, bool before, const char *words)
{
    char   word[12] = "";
    size_t len = 0, end;
    while (before ? at > 0 && strchr(" :", text[at - 1]) && text[at - 1] : at < n && text[at] == ' ') at += before ? (size_t)-1 : 1;
    for (end = at; before ? end > 0 && (text[end - 1] | 32) >= 'a' && (text[end - 1] | 32) <= 'z'
                          : end < n && (text[end] | 32) >= 'a' && (text[end] | 32) <= 'z';
         end += before ? (size_t)-1 : 1)
        len++;
    if (len == 0 || len >= sizeof word) return false;
    for (size_t i = 0; i < len; i++) word[i] = (char)(text[(before ? end : at) + i] | 32);
    for (const char *w = words; *w; w += strcspn(w, " "), w += *w == ' ')
        if (strcspn(w, " ") == len && memcmp(w, word, len) == 0) return true;
    return false;
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

bool task_parse(const char *text, size_t n, Problem *p)
{
    Typed t[PROBLEM_NUMBERS_MAX + 1];
    int   count = 0, target;
    for (size_t i = 0; i < n;) {
        size_t from = i;
        int    v = 0;
        if (text[i] < '0' || text[i] > '9') {
            i++;
            continue;
        }
        while (i < n && text[i] >= '0' && text[i] <= '9' && v < 100000) v = v * 10 + (text[i++] - '0');
        if (count > PROBLEM_NUMBERS_MAX || v >= 100000) return false;
        t[count++] = (Typed){v, from, i};
    }
    if (count != task_countdown3.option[OPT_COUNT] + 1) return false;
    if ((target = find_target(text, n, t, count)) < 0) return false;
    *p = (Problem){.task = &task_countdown3, .n = count - 1, .target = t[target].value};
    for (int i = 0, k = 0; i < count; i++)
        if (i != target) p->number[k++] = t[i].value;
    return true;
}
