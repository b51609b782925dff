/* The scales of a chart: a range without the few values that would flatten all others, and round numbers on it. */
#include <stdlib.h>
#include <string.h>

#include "report.h"

double axis_value(const Axis *a, double v)
{
    if (isnan(v)) return NAN;
    if (!(fabs(v) <= 1e300)) v = v > 0 ? 1e300 : -1e300;
    if (a->kind == AXIS_LOG) return v > 0 ? log10(v) : NAN;
    if (a->kind == AXIS_POW2) return v > 0 ? log2(v) : NAN;
    return v;
}

double axis_place(const Axis *a, double v, double from, double to)
{
    double t = (axis_value(a, v) - a->lo) / (a->hi - a->lo);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return from + t * (to - from);
}

bool series_usable(const Chart *c, const Series *s, int i)
{
    Axis x = {.kind = c->x}, y = {.kind = c->y};
    return isfinite(axis_value(&x, series_x(s, i))) && isfinite(axis_value(&y, series_y(s, i)));
}

bool chart_empty(const Chart *c)
{
    for (int k = 0; k < c->n; k++)
        for (int i = 0; i < c->s[k].n; i++)
            if (!c->s[k].ticks && series_usable(c, &c->s[k], i)) return false;
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The range of what is drawn, without the few values that would flatten all others. */
static bool range_of(Buf *b, const Chart *c, const Axis *a, double *lo, double *hi)
{
    size_t n = 0, cap = 0;
    for (int k = 0; k < c->n; k++) cap += 3 * (size_t)c->s[k].n;
    double *v = mem_zalloc(cap + 1, sizeof *v);
    if (!v) {
        b->failed = true;
        return false;
    }
    for (int k = 0; k < c->n; k++) {
        const Series *s = &c->s[k];
        for (int i = 0; i < s->n && !s->ticks; i++) {
            const double *part[] = {s->y, s->lo, s->hi};
            for (int j = 0; j < 3 && series_usable(c, s, i); j++) {
                double y = part[j] ? axis_value(a, part[j][(size_t)i * s->stride]) : NAN;
                if (isfinite(y)) v[n++] = y;
            }
        }
    }
    if (n) {
        qsort(v, n, sizeof *v, by_value);
        double q1 = v[n / 50], q2 = v[n - 1 - n / 50], mid = v[n / 2], wide = 8 * (q2 - q1);
        *lo = v[0];
        *hi = v[n - 1];
        if (n < 50 || q2 <= q1) { /* too few to know: only what is absurd beside the middle one */
            wide = 1e4 * (fabs(mid) + 1);
            q1 = q2 = mid;
        }
        if (n > 2 && *hi - q2 > wide) *hi = q2 + (q2 > q1 ? wide / 16 : fabs(mid) + 1);
        if (n > 2 && q1 - *lo > wide) *lo = q1 - (q2 > q1 ? wide / 16 : fabs(mid) + 1);
    }
    mem_free(v);
    return n > 0;
}

static double round_step(double raw)
{
    double unit = pow(10, floor(log10(raw))), m = raw / unit;
    return unit * (m <= 1.0001 ? 1 : m <= 2.0001 ? 2 : m <= 5.0001 ? 5 : 10);
}

/* Ticks at round numbers, whole ones if asked for; the axis grows to the outermost ones when `snap`. */
static void ticks_linear(Axis *a, int about, bool snap, bool whole)
{
    if (!(a->hi - a->lo > 1e-12 * (fabs(a->hi) + fabs(a->lo)) + 1e-300)) {
        double pad = a->lo == 0 ? 1 : fabs(a->lo) * 0.5;
        a->hi += pad;
        if (a->lo != 0) a->lo -= pad;
    }
    double step = round_step((a->hi - a->lo) / about);
    if (whole && step < 1) step = 1;
    double from = floor(a->lo / step + 1e-9), to = ceil(a->hi / step - 1e-9);
    if (snap) {
        a->lo = from * step;
        a->hi = to * step;
    } else {
        from = ceil(a->lo / step - 1e-9);
        to = floor(a->hi / step + 1e-9);
    }
    double d = -floor(log10(a->kind == AXIS_SHARE ? step * 100 : step) + 1e-9);
    a->decimals = d > 0 && d < 9 ? (int)d : 0;
    for (double t = from; t <= to && a->n_tick < TICKS_MAX; t++) a->tick[a->n_tick++] = t == 0 ? 0 : t * step;
}

/* The nearest 1, 2 or 5 times a power of ten at or beyond a logarithm. */
static double log_step(double v, bool up)
{
    static const double IN[] = {1, 2, 5, 10};
    double base = floor(v + 1e-9), at = base;
    for (size_t i = 0; i < ARRAY_LEN(IN); i++) {
        double t = base + log10(IN[i]);
        if (t <= v + 1e-9) at = t;
        else if (up && at < v - 1e-9) return t;
    }
    return at;
}

/* 1, 2, 5 on a short log axis; powers of ten, or every so many of them, on a long one */
static void ticks_log(Axis *a)
{
    static const double IN[] = {1, 2, 5};
    if (a->hi - a->lo < 0.3) {
        double pad = (0.3 - (a->hi - a->lo)) / 2;
        a->lo -= pad;
        a->hi += pad;
    }
    bool fine = a->hi - a->lo < 2.2;
    if (fine) {
        a->lo = log_step(a->lo, false);
        a->hi = log_step(a->hi, true);
    }
    int  every = 1 + (int)((a->hi - a->lo) / 7);
    for (int e = (int)floor(a->lo); e <= (int)ceil(a->hi) && a->n_tick < TICKS_MAX; e++)
        for (int i = 0; i < (fine ? 3 : 1) && a->n_tick < TICKS_MAX; i++) {
            double t = e + log10(IN[i]);
            if (t >= a->lo - 1e-9 && t <= a->hi + 1e-9 && (fine || e % every == 0)) a->tick[a->n_tick++] = pow(10, t);
        }
}

static void ticks_pow2(Axis *a)
{
    if (a->hi <= a->lo) a->hi = a->lo + 1;
    for (double t = ceil(a->lo); t <= a->hi + 1e-9 && a->n_tick < TICKS_MAX; t++) a->tick[a->n_tick++] = exp2(t);
}

static void axis_ticks(Axis *a, int about, bool snap, bool whole)
{
    if (a->kind == AXIS_LOG) ticks_log(a);
    else if (a->kind == AXIS_POW2) ticks_pow2(a);
    else ticks_linear(a, about, snap, whole);
}

const char *axis_text(char dst[NUM_MAX], const Axis *a, double v)
{
    if (a->kind == AXIS_LOG) return num_auto(dst, v);
    if (a->kind == AXIS_POW2) return num_count(dst, v);
    if (a->kind == AXIS_SHARE) {
        num_fixed(dst, 100 * v, a->decimals);
        size_t n = strlen(dst);
        dst[n] = '%';
        dst[n + 1] = 0;
        return dst;
    }
    return fabs(v) >= 1000 ? num_si(dst, v) : num_fixed(dst, v, a->decimals);
}

bool chart_axes(Buf *b, const Chart *c, Axis *x, Axis *y)
{
    bool any = false;
    *x = (Axis){.kind = c->x};
    *y = (Axis){.kind = c->y};
    if (!range_of(b, c, y, &y->lo, &y->hi)) return false;
    for (int k = 0; k < c->n; k++)
        for (int i = 0; i < c->s[k].n; i++) {
            if (!series_usable(c, &c->s[k], i)) continue;
            double v = axis_value(x, series_x(&c->s[k], i));
            x->lo = any && x->lo < v ? x->lo : v;
            x->hi = any && x->hi > v ? x->hi : v;
            any = true;
        }
    if (c->x == AXIS_NUMBER && x->lo > 0 && x->lo < 0.3 * x->hi) x->lo = 0;
    if (c->y == AXIS_SHARE) {
        y->lo = 0;
        y->hi = y->hi > 1 ? 1 : y->hi < 0.004 ? 0.004 : y->hi;
    } else if (c->y == AXIS_NUMBER && y->lo > c->floor) {
        y->lo = c->floor;
    }
    axis_ticks(x, 5, false, true); /* steps and tokens */
    axis_ticks(y, 5, true, false);
    return true;
}
