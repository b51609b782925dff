/* Finding scales and levels: least squares over a few roundings, first per sub-block, then under the scales' own rounding.
 *
 * For levels q that are fixed the best scale is known, sum(w x q) / sum(w q q); for a scale that is fixed the best levels are
 * the nearest.  Trying some scales around the one that just reaches the largest column and taking turns finds a good pair.
 * Sums run in eight lanes, so compilers may use vectors and the bits are the same everywhere. */
#include "quant_encode.h"

#include <math.h>

enum { LANES = 8, STEPS = 7, TURNS = 2 };

static float lanes_sum(const float *a)
{
    return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}

/* to the nearest integer, ties to even; |x| < 2^22 */
static float round_even(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

static float nearest_value(const int8_t *value, float x)
{
    int i = 0;
    while (i < 15 && x > 0.5f * (float)(value[i] + value[i + 1])) i++;
    return (float)value[i];
}

/* levels nearest to (x + m) / d */
static void levels(const QuantShape *s, const float *x, float d, float m, float *q)
{
    float inv = d != 0 ? 1 / d : 0, lo = (float)s->lo, hi = (float)s->hi;
    if (!isfinite(inv)) inv = 0;
    for (int i = 0; i < s->width; i++) {
        float v = (x[i] + m) * inv;
        v = v < lo ? lo : v > hi ? hi : v;
        q[i] = s->value ? nearest_value(s->value, v) : round_even(v);
    }
}

typedef struct Sums { /* over a sub-block: weights, x, levels and products */
    float w, x, q, xq, qq;
} Sums;

static Sums sums_of(const float *x, const float *w, const float *q, int n)
{
    float a[5][LANES] = {{0}};
    for (int i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float c = w[i + k], cq = c * q[i + k];
            a[0][k] += c;
            a[1][k] += c * x[i + k];
            a[2][k] += cq;
            a[3][k] += cq * x[i + k];
            a[4][k] += cq * q[i + k];
        }
    return (Sums){lanes_sum(a[0]), lanes_sum(a[1]), lanes_sum(a[2]), lanes_sum(a[3]), lanes_sum(a[4])};
}

static float error_of(const float *x, const float *w, const float *q, float d, float m, int n)
{
    float a[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float r = x[i + k] - (d * q[i + k] - m);
            a[k] += w[i + k] * r * r;
        }
    return lanes_sum(a);
}

/* ---- one sub-block with a free scale ---- */
/* the best scale for the levels, where it beats *gain, the part of sum(w x x) that is explained */
static bool better_scale(const Sums *s, float *gain, float *d)
{
    if (!(s->qq > 0) || !(s->xq * s->xq > *gain * s->qq)) return false;
    *gain = s->xq * s->xq / s->qq;
    *d = s->xq / s->qq;
    return true;
}

static float free_scale(const QuantShape *s, const float *x, const float *w)
{
    float top = 0, best = 0, gain = 0, q[QUANT_BLOCK_MAX];
    Sums  u;
    for (int i = 0; i < s->width; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    if (top == 0) return 0;
    for (int end = 0; end < 2; end++)
        for (int k = -STEPS; k <= STEPS; k++) {
            float to = (float)(end ? s->hi : s->lo);
            levels(s, x, top / (to * (1 + 0.03f * (float)k)), 0, q);
            u = sums_of(x, w, q, s->width);
            better_scale(&u, &gain, &best);
        }
    for (int t = 0; t < TURNS; t++) {
        levels(s, x, best, 0, q);
        u = sums_of(x, w, q, s->width);
        if (!better_scale(&u, &gain, &best)) break;
    }
    return best != 0 ? best : top / (float)s->lo;
}

/* the best scale and minimum (at least 0) for the levels */
static void solve_pair(const Sums *u, float *d, float *m)
{
    float det = u->w * u->qq - u->q * u->q;
    *d = u->qq > 0 ? u->xq / u->qq : 0;
    *m = 0;
    if (!(det > 0)) return;
    float slope = (u->w * u->xq - u->x * u->q) / det, cut = (u->q * u->xq - u->qq * u->x) / det;
    if (!(cut > 0)) return;
    *d = slope;
    *m = cut;
}

static void free_pair(const QuantShape *s, const float *x, const float *w, float *d, float *m)
{
    float lo = 0, hi = 0, least = INFINITY, q[QUANT_BLOCK_MAX], a, b, err;
    for (int i = 0; i < s->width; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    *d = (hi - lo) / (float)s->hi;
    *m = -lo;
    if (hi == lo) return;
    for (int k = -STEPS; k <= STEPS; k++) {
        a = (hi - lo) / ((float)s->hi * (1 + 0.05f * (float)k));
        b = -lo;
        for (int t = 0; t <= TURNS; t++) {
            levels(s, x, a, b, q);
            Sums u = sums_of(x, w, q, s->width);
            solve_pair(&u, &a, &b);
            if (!(a > 0)) break;
            err = error_of(x, w, q, a, b, s->width);
            if (!(err < least)) continue;
            least = err;
            *d = a;
            *m = b;
        }
    }
}

/* ---- under the scales' rounding ---- */
static int clamp(float v, int lo, int hi)
{
    v = round_even(v < -1e6f ? -1e6f : v > 1e6f ? 1e6f : v);
    return v < (float)lo ? lo : v > (float)hi ? hi : (int)v;
}

/* Integer scale and minimum of sub-block k: those nearest to the free ones and their neighbours, by the error they leave. */
static float fix_sub(const QuantShape *s, const float *x, const float *w, const float free[2], float d, float dmin, int k, QuantBlock *b)
{
    int   at = clamp(d != 0 ? free[0] / d : 0, s->scale_lo, s->scale_hi), at_min = clamp(dmin != 0 ? free[1] / dmin : 0, 0, s->scale_hi);
    float least = INFINITY, q[QUANT_BLOCK_MAX];
    for (int i = at - 1; i <= at + 1; i++)
        for (int j = at_min - s->min; j <= at_min + s->min; j++) {
            if (i < s->scale_lo || i > s->scale_hi || j < 0 || j > s->scale_hi) continue;
            float scale = d * (float)i, min = dmin * (float)j;
            levels(s, x, scale, min, q);
            float err = error_of(x, w, q, scale, min, s->width);
            if (!(err < least)) continue;
            least = err;
            b->scale[k] = i;
            b->min[k] = j;
            for (int c = 0; c < s->width; c++) b->q[k * s->width + c] = (int8_t)q[c];
        }
    return least;
}

static float fix_all(const QuantShape *s, const float *x, const float *w, const float free[][2], float d, float dmin, QuantBlock *b)
{
    float err = 0;
    b->d = f32_to_f16(d);
    b->dmin = f32_to_f16(dmin);
    for (int k = 0; k < s->subs; k++)
        err += fix_sub(s, x + k * s->width, w + k * s->width, free[k], f16_to_f32(b->d), f16_to_f32(b->dmin), k, b);
    return err;
}

/* The best d and dmin for the integers that were found: least squares over the whole block. */
static void refit(const QuantShape *s, const float *x, const float *w, const QuantBlock *b, float *d, float *dmin)
{
    float aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int k = 0; k < s->subs; k++) {
        float q[QUANT_BLOCK_MAX], sc = (float)b->scale[k], mn = (float)b->min[k];
        for (int c = 0; c < s->width; c++) q[c] = (float)b->q[k * s->width + c];
        Sums u = sums_of(x + k * s->width, w + k * s->width, q, s->width);
        aa += u.qq * sc * sc;
        ab += u.q * sc * mn;
        bb += u.w * mn * mn;
        xa += u.xq * sc;
        xb += u.x * mn;
    }
    float det = aa * bb - ab * ab;
    if (s->min && det > 0) {
        *d = (xa * bb - xb * ab) / det;
        *dmin = (xa * ab - xb * aa) / det;
    } else if (aa > 0) {
        *d = (xa + ab * *dmin) / aa;
    }
}

void quant_search(const QuantShape *s, const float *x, const float *w, QuantBlock *out)
{
    float      free[QUANT_SUBS_MAX][2] = {{0}}, ones[QUANT_BLOCK_MAX], d = 0, dmin = 0;
    QuantBlock b;
    for (int i = 0; i < s->subs * s->width; i++) ones[i] = 1;
    if (!w) w = ones;
    for (int k = 0; k < s->subs; k++) {
        const float *xk = x + k * s->width, *wk = w + k * s->width;
        if (s->min) free_pair(s, xk, wk, &free[k][0], &free[k][1]);
        else free[k][0] = free_scale(s, xk, wk);
        if (fabsf(free[k][0]) > fabsf(d)) d = free[k][0];
        if (free[k][1] > dmin) dmin = free[k][1];
    }
    d /= (float)(s->scale_lo < 0 ? s->scale_lo : s->scale_hi); /* the widest scale is spelled by the largest integer */
    dmin /= (float)s->scale_hi;
    float least = fix_all(s, x, w, free, d, dmin, out);
    for (int t = 0; t < TURNS; t++) {
        refit(s, x, w, out, &d, &dmin);
        if (s->min && (d < 0 || dmin < 0)) return;
        float err = fix_all(s, x, w, free, d, dmin, &b);
        if (!(err < least)) return;
        least = err;
        *out = b;
    }
}
