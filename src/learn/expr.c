/* Exact arithmetic on hostile text: recursive descent with bounded depth, fractions of 64-bit numbers. */
#include "task.h"

enum { DEPTH_MAX = 40, DIGITS_MAX = 9 };

typedef struct Fraction {
    int64_t num, den;
} Fraction;

typedef struct Parser {
    const char *s, *end;
    ExprValue  *out;
    int         depth;
    bool        bad;
} Parser;

static int64_t gcd(int64_t a, int64_t b)
{
    if (a < 0) a = -a;
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a ? a : 1;
}

static Fraction reduced(Parser *p, int64_t num, int64_t den)
{
    int64_t g;
    if (den == 0 || num == INT64_MIN || den == INT64_MIN) {
        p->bad = true;
        return (Fraction){0, 1};
    }
    g = gcd(num, den < 0 ? -den : den);
    return den < 0 ? (Fraction){-num / g, -den / g} : (Fraction){num / g, den / g};
}

static Fraction combine(Parser *p, Fraction a, char op, Fraction b)
{
    int64_t x = 0, y = 0, num = 0, den = 0;
    bool    over;
    if (op == '*') {
        over = __builtin_mul_overflow(a.num, b.num, &num) || __builtin_mul_overflow(a.den, b.den, &den);
    } else if (op == '/') {
        over = __builtin_mul_overflow(a.num, b.den, &num) || __builtin_mul_overflow(a.den, b.num, &den);
    } else {
        over = __builtin_mul_overflow(a.num, b.den, &x) || __builtin_mul_overflow(b.num, a.den, &y) ||
               __builtin_mul_overflow(a.den, b.den, &den) ||
               (op == '+' ? __builtin_add_overflow(x, y, &num) : __builtin_sub_overflow(x, y, &num));
    }
    if (over) p->bad = true;
    return p->bad ? (Fraction){0, 1} : reduced(p, num, den);
}

static void blanks(Parser *p)
{
    while (p->s < p->end && (*p->s == ' ' || *p->s == '\t' || *p->s == '\n')) p->s++;
}

static Fraction sum(Parser *p);

static Fraction number(Parser *p)
{
    int64_t v = 0;
    int     digits = 0;
    while (p->s < p->end && *p->s >= '0' && *p->s <= '9' && digits <= DIGITS_MAX) {
        v = v * 10 + (*p->s++ - '0');
        digits++;
    }
    if (digits == 0 || digits > DIGITS_MAX || p->out->n == EXPR_NUMBERS_MAX) {
        p->bad = true;
        return (Fraction){0, 1};
    }
    p->out->used[p->out->n++] = v;
    return (Fraction){v, 1};
}

static Fraction factor(Parser *p)
{
    Fraction f;
    blanks(p);
    if (p->s >= p->end || *p->s != '(') return number(p);
    if (++p->depth > DEPTH_MAX) {
        p->bad = true;
        return (Fraction){0, 1};
    }
    p->s++;
    f = sum(p);
    blanks(p);
    if (p->s >= p->end || *p->s != ')')
        p->bad = true;
    else
        p->s++;
    p->depth--;
    return f;
}

static Fraction product(Parser *p)
{
    Fraction f = factor(p);
    while (!p->bad) {
        blanks(p);
        if (p->s >= p->end || (*p->s != '*' && *p->s != '/')) break;
        char op = *p->s++;
        f = combine(p, f, op, factor(p));
    }
    return f;
}

static Fraction sum(Parser *p)
{
    Fraction f = product(p);
    while (!p->bad) {
        blanks(p);
        if (p->s >= p->end || (*p->s != '+' && *p->s != '-')) break;
        char op = *p->s++;
        f = combine(p, f, op, product(p));
    }
    return f;
}

bool expr_eval(const char *s, size_t n, ExprValue *out)
{
    Parser   p = {s, s + n, out, 0, false};
    Fraction f;
    out->n = 0;
    f = sum(&p);
    blanks(&p);
    if (p.bad || p.s != p.end) return false;
    out->num = f.num;
    out->den = f.den;
    return true;
}
