/* Arithmetic that the corpus writes: equations with slips, and questions that steps of arithmetic answer.
 *
 *   19-4=15, 15/3=5                                the steps
 *   Check: 3*5=15, 15+4=19 ok                      from the answer back to what was given, or the steps once more
 *   16/3 no                                        a step that cannot be done, behind a slip or a misreading
 *   Wait.                                          the steps again */
#include "task_parts.h"

#include <string.h>

int arith_apply(char op, int a, int b)
{
    int product;
    switch (op) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return __builtin_mul_overflow(a, b, &product) ? -1 : product;
    default: return b > 0 && a % b == 0 ? a / b : -1;
    }
}

int arith_write(Buf *out, Rng *rng, int a, char op, int b)
{
    int c = arith_apply(op, a, b);
    if ((int)rng_below(rng, 1000) < SLIPS) {
        c += (int)rng_below(rng, 2) ? 1 + (int)rng_below(rng, 2) : -1;
        if (c < 0) c = 1;
    }
    buf_fmt(out, "%d%c%d=%d", a, op, b, c);
    return c;
}

/* ---- steps ---- */
enum { VALUE_MAX = 1000000 }; /* typed questions may hold large numbers: sums of such values stay far from overflow */

static int term(char name, const Problem *p, int x, const int *made)
{
    return name == 'x' ? x : name >= 'p' ? made[name - 'p'] : p->number[name - 'a'];
}

int steps_value(Steps step, const Problem *p, int x)
{
    int made[STEPS_MAX], v = -1;
    for (int i = 0; step[i]; i++) {
        v = made[i] = arith_apply(step[i][1], term(step[i][0], p, x, made), term(step[i][2], p, x, made));
        if (v < 1 || v > VALUE_MAX) return -1;
    }
    return v;
}

/* Step `misread` (-1: none) gets the opposite sign. */
static int write_misread(Steps step, const Problem *p, int x, int misread, Rng *rng, Buf *out)
{
    static const char OP[] = "+-*/", OPPOSITE[] = "-+/*";
    int               made[STEPS_MAX], v = -1;
    for (int i = 0; step[i]; i++) {
        int  a = term(step[i][0], p, x, made), b = term(step[i][2], p, x, made);
        char op = i == misread ? OPPOSITE[strchr(OP, step[i][1]) - OP] : step[i][1];
        buf_str(out, i ? ", " : "");
        if (arith_apply(op, a, b) < 0) {
            buf_fmt(out, "%d%c%d", a, op, b);
            return -1;
        }
        v = made[i] = arith_write(out, rng, a, op, b);
    }
    return v;
}

int steps_write(Steps step, const Problem *p, int x, Rng *rng, Buf *out)
{
    return write_misread(step, p, x, -1, rng, out);
}

/* ---- demos: shares that leave reinforcement learning something to choose ---- */
enum { AT_ONCE = 15, AT_ONCE_RIGHT = 35, MISREAD = 8, CHECKED = 35, ATTEMPTS = 3 }; /* percent; attempts */

static bool chance(Rng *rng, int percent)
{
    return (int)rng_below(rng, 100) < percent;
}

static int count_steps(Steps s)
{
    int n = 0;
    while (s[n]) n++;
    return n;
}

/* One way through and perhaps a check; false: it led nowhere, and the text says so. */
static bool attempt(Steps solve, Steps check, int expect, const Problem *p, int misread, Rng *rng, Buf *out, int *x)
{
    int v = write_misread(solve, p, 0, misread, rng, out);
    if (v < 0) {
        buf_str(out, " no\n");
        return false;
    }
    *x = v;
    buf_str(out, "\n");
    if (!chance(rng, CHECKED)) return true;
    buf_str(out, "Check: ");
    v = steps_write(check, p, *x, rng, out);
    buf_str(out, v == (expect < 0 ? *x : expect) ? " ok\n" : " no\n");
    return v == (expect < 0 ? *x : expect);
}

void steps_demo(Steps solve, Steps check, int expect, const Problem *p, Rng *rng, Buf *thinking, Buf *answer)
{
    int  x = p->target, misread = chance(rng, MISREAD) ? (int)rng_below(rng, (uint32_t)count_steps(solve)) : -1;
    bool done = false;
    if (chance(rng, AT_ONCE)) {
        if (!chance(rng, AT_ONCE_RIGHT)) x += (int)rng_below(rng, 2) || x < 4 ? 1 + (int)rng_below(rng, 3) : -1 - (int)rng_below(rng, 3);
        buf_fmt(answer, "%d", x);
        return;
    }
    x = p->number[0]; /* what is said when nothing comes out */
    for (int i = 0; i < ATTEMPTS && !done; i++) {
        if (i) buf_str(thinking, "Wait.\n");
        done = attempt(solve, check, expect, p, i ? -1 : misread, rng, thinking, &x);
    }
    buf_str(thinking, done ? "" : "I give up.");
    while (thinking->n && thinking->data[thinking->n - 1] == '\n') thinking->data[--thinking->n] = 0;
    buf_fmt(answer, "%d", x);
}

/* ---- answers that are one number ---- */
Verdict judge_number(const Problem *p, const char *answer, size_t n)
{
    int64_t v = 0;
    size_t  i = 0, digits = 0;
    while (n && (answer[n - 1] == ' ' || answer[n - 1] == '\n' || answer[n - 1] == '.')) n--;
    while (i < n && answer[i] == ' ') i++;
    if (i < n && is_letter(answer[i])) { /* "x = 5" */
        i++;
        while (i < n && answer[i] == ' ') i++;
        if (i == n || answer[i++] != '=') return (Verdict){0, false, false, "no number"};
        while (i < n && answer[i] == ' ') i++;
    }
    for (; i < n && is_digit(answer[i]) && digits < 9; i++, digits++) v = v * 10 + (answer[i] - '0');
    if (digits == 0 || i < n) return (Verdict){0, false, false, "no number"};
    if (v != p->target) return (Verdict){0, false, true, "another number than the answer"};
    return (Verdict){1, true, true, "right"};
}

uint64_t key_of_kind(const Problem *p)
{
    int s[PROBLEM_NUMBERS_MAX + 1];
    s[0] = p->kind;
    memcpy(s + 1, p->number, (size_t)p->n * sizeof *s);
    return hash64(s, ((size_t)p->n + 1) * sizeof *s, hash64(p->task->name, strlen(p->task->name), 0));
}
