/* Countdown's corpus: searches that may fail.
 *
 * Notation of the thinking, chosen for short traces (a number is one token, so is a sign): no blanks inside equations.
 *   8+13=21: 21+2=23, 21-2=19, 21*2=42 no          forward: a pair, then what the third number makes of it
 *   8+2=10, 8-2=6, 8*2=16, 8/2=4                   backward: what two of them make,
 *   Need 29-13=16: 8*2=16 yes                      what they must make, and whether they do
 *   Check: 8*2=16, 16+13=29 ok                     the answer written out once more
 *   Take 8+13=21: 21, 2, 5                         four numbers: a pair in place of one, then a search as for three
 * Searches go through the ways in one order, from a number chosen at random: the next line follows from the last one.
 * Every 3-number solution is (a op b) op x or x op (a op b), so either search, carried through, finds one. */
#include "task_parts.h"

#include <string.h>

static const char OP[] = "+-*/";
enum { OPS = 4, WAYS = 6 };

/* a op b in the place of one of three numbers: what four numbers were reduced by. */
typedef struct Pair {
    int  a, b;
    char op; /* 0: none, there were three numbers */
} Pair;

/* (a op b) op2 x, or x op2 (a op b), over three numbers of which the first may stand for a pair */
typedef struct Expression {
    char op, op2; /* op 0: none yet */
    bool x_first;
    int  x, a, b; /* which of the numbers */
    int  number[3];
    Pair pair;
} Expression;

typedef struct Search {
    const Problem *p;
    Rng           *rng;
    Buf           *out;
    int            number[3];
    Pair           pair;      /* number[0] is what it makes, as written */
    int            taken;     /* four numbers: ways of reducing them tried */
    int            start;     /* which number stands apart first: a search goes round from there, in a fixed order */
    int            forward, backward; /* the next line of each kind */
    int            at_x, at_a, at_b, x, a, b; /* the number apart and the pair of the step under way: which, and their values */
    int            made[OPS]; /* backward: what the pair makes, as written; -1: not this way */
    size_t         most;      /* no further line behind so many bytes of thinking; 0: any number */
    bool           found;
    Expression     answer;    /* the last complete one, right or wrong */
} Search;

static int equation(Search *s, int a, char op, int b)
{
    return arith_write(s->out, s->rng, a, op, b);
}

/* Number i apart.  The larger one of the pair first: a-b and a/b then make sense. */
static void split(Search *s, int i)
{
    int  a = (i + 1) % 3, b = (i + 2) % 3;
    bool swap = s->number[a] <= s->number[b];
    s->at_x = i % 3;
    s->at_a = swap ? b : a;
    s->at_b = swap ? a : b;
    s->x = s->number[s->at_x];
    s->a = s->number[s->at_a];
    s->b = s->number[s->at_b];
}

/* The expression of (a op b) op2 x, or x op2 (a op b). */
static void remember(Search *s, char op, char op2, bool x_first)
{
    s->answer = (Expression){op, op2, x_first, s->at_x, s->at_a, s->at_b, {s->number[0], s->number[1], s->number[2]}, s->pair};
}

static void put_number(const Expression *f, int at, Buf *out)
{
    if (at == 0 && f->pair.op)
        buf_fmt(out, "(%d%c%d)", f->pair.a, f->pair.op, f->pair.b);
    else
        buf_fmt(out, "%d", f->number[at]);
}

static void put_expression(const Expression *f, Buf *out)
{
    if (f->x_first) {
        put_number(f, f->x, out);
        buf_fmt(out, "%c", f->op2);
    }
    buf_str(out, "(");
    put_number(f, f->a, out);
    buf_fmt(out, "%c", f->op);
    put_number(f, f->b, out);
    buf_str(out, ")");
    if (f->x_first) return;
    buf_fmt(out, "%c", f->op2);
    put_number(f, f->x, out);
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
    if (arith_apply(op, s->a, s->b) < 0) return;
    c = equation(s, s->a, op, s->b);
    buf_str(s->out, ":");
    for (int i = 0; i < OPS && !s->found; i++) {
        char op2 = OP[i];
        bool x_first = (op2 == '-' && s->x > c) || (op2 == '/' && c > 0 && c < s->x);
        int  l = x_first ? s->x : c, r = x_first ? c : s->x, v = arith_apply(op2, l, r);
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
        if (arith_apply(OP[i], s->a, s->b) < 0) continue;
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

/* Up to `budget` lines, from where this search stopped; stops when found.  Returns what is left of the budget. */
static int search(Search *s, bool backward, int budget)
{
    int *next = backward ? &s->backward : &s->forward, end = backward ? BACKWARD : FORWARD;
    for (; *next < end && budget > 0 && !s->found; (*next)++) {
        size_t before = s->out->n;
        if (s->most && before >= s->most) return 0;
        if (backward)
            backward_line(s, *next);
        else
            forward_line(s, *next);
        budget -= s->out->n > before;
    }
    return budget;
}

/* A guess: any expression of the right form. */
static void guess(Search *s)
{
    char op, op2;
    split(s, (int)rng_below(s->rng, 3));
    op2 = OP[rng_below(s->rng, 3)];
    op = OP[rng_below(s->rng, 3)];
    remember(s, op, op2, false);
}

/* The equations of an answer, done again without belief in what was written; false: it does not come out. */
static bool check(Search *s)
{
    const Expression *f = &s->answer;
    int               v[3], inner, l, r;
    memcpy(v, f->number, sizeof v);
    if (f->pair.op) v[0] = arith_apply(f->pair.op, f->pair.a, f->pair.b);
    inner = arith_apply(f->op, v[f->a], v[f->b]);
    if (inner < 0 || arith_apply(f->op2, f->x_first ? v[f->x] : inner, f->x_first ? inner : v[f->x]) < 0) return false;
    buf_str(s->out, "Check: ");
    if (f->pair.op) {
        v[0] = equation(s, f->pair.a, f->pair.op, f->pair.b);
        buf_str(s->out, ", ");
    }
    inner = equation(s, v[f->a], f->op, v[f->b]);
    buf_str(s->out, ", ");
    l = f->x_first ? v[f->x] : inner;
    r = f->x_first ? inner : v[f->x];
    if (arith_apply(f->op2, l, r) < 0) { /* after a slip: 17/4 */
        buf_fmt(s->out, "%d%c%d no\n", l, f->op2, r);
        return false;
    }
    inner = equation(s, l, f->op2, r);
    buf_str(s->out, inner == s->p->target ? " ok\n" : " no\n");
    return inner == s->p->target;
}

typedef enum Style { STYLE_GUESS, STYLE_FORWARD, STYLE_BACKWARD, STYLE_MIXED } Style;

/* Of a hundred answers `at_once` are guesses; of the rest a third searches forward, half backward, the others both ways. */
static Style pick_style(Rng *rng, int at_once)
{
    int u = (int)rng_below(rng, 100), rest = 100 - at_once;
    return u < at_once ? STYLE_GUESS : u < at_once + rest * 35 / 100 ? STYLE_FORWARD : u < at_once + rest * 80 / 100 ? STYLE_BACKWARD : STYLE_MIXED;
}

/* Of a hundred searches `through` are carried to the end, the others give up after a line or a few. */
static int pick_budget(Rng *rng, bool backward, int through)
{
    int lines = backward ? BACKWARD : FORWARD;
    return (int)rng_below(rng, 100) < through ? lines : 1 + (int)rng_below(rng, through < 20 ? 3 : 2);
}

static void end_thinking(Buf *thinking, bool gives_up)
{
    if (gives_up) buf_str(thinking, "I give up.\n");
    while (thinking->n && thinking->data[thinking->n - 1] == '\n') thinking->data[--thinking->n] = 0;
}

static void demo3(const Problem *p, int at_once, int through, Rng *rng, Buf *thinking, Buf *answer)
{
    Search s = {.p = p, .rng = rng, .out = thinking, .number = {p->number[0], p->number[1], p->number[2]}, .start = (int)rng_below(rng, 3)};
    Style  style = pick_style(rng, at_once);
    bool   backward = style != STYLE_FORWARD;
    if (style == STYLE_MIXED) search(&s, false, 1 + (int)rng_below(rng, 3));
    if (style != STYLE_GUESS) search(&s, backward, pick_budget(rng, backward, through));
    if (s.found && rng_below(rng, 100) < 30 && !check(&s)) { /* a check that fails: look further */
        buf_str(thinking, "Wait.\n");
        s.found = false;
        search(&s, backward, pick_budget(rng, backward, through));
    }
    if (style == STYLE_GUESS || !s.answer.op) guess(&s);
    end_thinking(thinking, style != STYLE_GUESS && !s.found);
    put_expression(&s.answer, answer);
}

/* About half of both corpora ends right. */
void countdown_demo3(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    demo3(p, 24, 40, rng, thinking, answer);
}
void countdown_demo3_short(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    demo3(p, 20, 15, rng, thinking, answer);
}

/* ---- four numbers: a pair in place of one, then a search as for three ---- */
enum { REDUCTIONS = 6 * OPS };

/* Way `which` to make three numbers of four; false: not a useful one. */
static bool reduce(const Problem *p, int which, Pair *pair, int number[3])
{
    static const uint8_t PAIR[6][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}, {1, 2, 0, 3}, {1, 3, 0, 2}, {2, 3, 0, 1}};
    const uint8_t       *at = PAIR[which / OPS];
    int                  a = p->number[at[0]], b = p->number[at[1]];
    *pair = (Pair){a > b ? a : b, a > b ? b : a, OP[which % OPS]};
    number[0] = arith_apply(pair->op, pair->a, pair->b);
    number[1] = p->number[at[2]];
    number[2] = p->number[at[3]];
    return number[0] > 0 && number[0] <= USEFUL_MAX;
}

/* Do these three make the target? */
static bool makes(const int v[3], int target)
{
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < OPS * OPS; k++) {
            int a = v[(i + 1) % 3], b = v[(i + 2) % 3], x = v[i], c = arith_apply(OP[k / OPS], a > b ? a : b, a > b ? b : a);
            if (c >= 0 && (arith_apply(OP[k % OPS], c, x) == target || arith_apply(OP[k % OPS], x, c) == target)) return true;
        }
    return false;
}

/* Where a search begins: `before` useful ways, or less, ahead of one from which three numbers lead to the target. */
static int begin_near(const Problem *p, Rng *rng, int before)
{
    int at = (int)rng_below(rng, REDUCTIONS), first = at, number[3];
    Pair pair;
    for (int i = 0; i < REDUCTIONS; i++, at = (at + 1) % REDUCTIONS)
        if (reduce(p, at, &pair, number) && makes(number, p->target)) break;
    while (before > 0 && at != first) {
        at = (at + REDUCTIONS - 1) % REDUCTIONS;
        before -= reduce(p, at, &pair, number);
    }
    return at;
}

/* Up to `budget` lines, from where this search stopped, the reductions one after the other. */
static void search4(Search *s, bool backward, int first, int budget)
{
    int kept = 0;
    if (s->pair.op) kept = budget = search(s, backward, budget);
    for (; s->taken < REDUCTIONS && budget > 0 && !s->found; budget = kept) {
        kept = budget;
        if (!reduce(s->p, (first + s->taken++) % REDUCTIONS, &s->pair, s->number)) continue;
        buf_str(s->out, "Take ");
        s->number[0] = equation(s, s->pair.a, s->pair.op, s->pair.b);
        buf_fmt(s->out, ": %d, %d, %d\n", s->number[0], s->number[1], s->number[2]);
        s->forward = s->backward = 0;
        kept = search(s, backward, budget - 1);
    }
}

/* Through one reduction a search takes about ten lines: what is carried on sees two of them. */
static int pick_budget4(Rng *rng)
{
    return rng_below(rng, 100) < 65 ? 18 : 2 + (int)rng_below(rng, 5);
}

enum { MOST_BYTES = 400 }; /* with the last line and a check 400 tokens at most, as measured */

void countdown_demo4(const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    Search   s = {.p = p, .rng = rng, .out = thinking, .start = 1, .most = MOST_BYTES};
    uint32_t style = rng_below(rng, 100);
    bool     at_once = style < 12, backward = style >= 25;
    int      first = rng_below(rng, 100) < 50 ? begin_near(p, rng, (int)rng_below(rng, 2)) : (int)rng_below(rng, REDUCTIONS);
    if (!at_once) search4(&s, backward, first, pick_budget4(rng));
    if (s.found && rng_below(rng, 100) < 30 && !check(&s)) {
        buf_str(thinking, "Wait.\n");
        s.found = false;
        search4(&s, backward, first, pick_budget4(rng) / 2);
    }
    if (!s.answer.op) {
        while (!reduce(p, (int)rng_below(rng, REDUCTIONS), &s.pair, s.number)) continue;
        guess(&s);
    }
    end_thinking(thinking, !at_once && !s.found);
    put_expression(&s.answer, answer);
}
