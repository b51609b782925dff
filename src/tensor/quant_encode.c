/* Finding scales and levels: least squares over a few roundings, first per sub-block, then under the scales' own rounding.
 *
 * For levels q that are fixed the best scale is known, sum(w x q) / sum(w q q); for a scale that is fixed the best levels are
 * the nearest.  Trying some scales around the one that just reaches the largest column and taking turns finds a good pair.
 * Everything is computed by vectors of eight columns, whose sums stay apart until the end: the bits are the same whatever the
 * processor's own vectors are.  The search is compiled for each width and kind of block, and on x86 once more for AVX2. */
#include "quant_encode.h"

#include <math.h>

enum { LANES = 8, STEPS = 7, TURNS = 2, VECTORS_MAX = 4, WIDTH_MAX = LANES * VECTORS_MAX };
typedef float   Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float   Halves __attribute__((vector_size(2 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif
#define INLINE static inline __attribute__((always_inline))

/* What is constant where the search is compiled */
typedef struct Kind {
    int  width; /* of a sub-block: 16 or 32 */
    bool min, value;
} Kind;

#define AT(p, i) (*(const Floats *)(const void *)((p) + LANES * (i)))

INLINE float lanes_sum(const Floats *a)
{
    Halves h[2], s;
    memcpy(h, a, sizeof h);
    s = h[0] + h[1];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* to the nearest integer, ties to even; |x| < 2^22 */
INLINE float round_even(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

INLINE void choose(const Ints *mask, const Floats *yes, const Floats *no, Floats *out)
{
    *out = (Floats)((*mask & (Ints)*yes) | (~*mask & (Ints)*no));
}

/* levels nearest to (x + m) / d, of vector i */
INLINE void levels_at(Kind kind, const QuantShape *s, const float *x, int i, float inv, float m, Floats *q)
{
    Floats lo = (float)s->lo - (Floats){0}, hi = (float)s->hi - (Floats){0}, v = (AT(x, i) + m) * inv;
    Ints   under = v < lo, over = v > hi;
    choose(&over, &hi, &v, &v);
    choose(&under, &lo, &v, q);
    if (!kind.value) {
        *q = (*q + 12582912.0f) - 12582912.0f;
        return;
    }
    Floats near = (float)s->value[0] - (Floats){0}; /* a step up for every middle between two values that is passed */
    for (int k = 0; k < 15; k++) {
        Floats step = (float)(s->value[k + 1] - s->value[k]) - (Floats){0};
        Ints   passed = *q > 0.5f * (float)(s->value[k] + s->value[k + 1]);
        near += (Floats)(passed & (Ints)step);
    }
    *q = near;
}

INLINE void levels(Kind kind, const QuantShape *s, const float *x, float d, float m, float *q)
{
    float inv = d != 0 ? 1 / d : 0;
    if (!isfinite(inv)) inv = 0;
    UNROLL for (int i = 0; i < kind.width / LANES; i++) levels_at(kind, s, x, i, inv, m, (Floats *)(void *)(q + LANES * i));
}

INLINE bool same_levels(Kind kind, const float *a, const float *b)
{
    Ints differ = {0};
    UNROLL for (int i = 0; i < kind.width / LANES; i++) differ |= *(const Ints *)(const void *)(a + LANES * i) ^ *(const Ints *)(const void *)(b + LANES * i);
    return !((differ[0] | differ[1] | differ[2] | differ[3]) | (differ[4] | differ[5] | differ[6] | differ[7]));
}

typedef struct Sums { /* over a sub-block: weights, x, levels and products */
    float w, x, q, xq, qq;
} Sums;

/* what does not depend on the levels */
INLINE void sums_of_x(Kind kind, const float *x, const float *w, Sums *u)
{
    Floats a = {0}, b = {0};
    UNROLL for (int i = 0; i < kind.width / LANES; i++) {
        a += AT(w, i);
        b += AT(w, i) * AT(x, i);
    }
    u->w = lanes_sum(&a);
    u->x = lanes_sum(&b);
}

INLINE void sums_of_levels(Kind kind, const float *x, const float *w, const float *q, Sums *u)
{
    Floats a = {0}, b = {0}, c = {0};
    UNROLL for (int i = 0; i < kind.width / LANES; i++) {
        Floats wq = AT(w, i) * AT(q, i);
        a += wq;
        b += wq * AT(x, i);
        c += wq * AT(q, i);
    }
    u->q = lanes_sum(&a);
    u->xq = lanes_sum(&b);
    u->qq = lanes_sum(&c);
}

INLINE float error_of(Kind kind, const float *x, const float *w, const float *q, float d, float m)
{
    Floats a = {0};
    UNROLL for (int i = 0; i < kind.width / LANES; i++) {
        Floats r = AT(x, i) - (d * AT(q, i) - m);
        a += AT(w, i) * r * r;
    }
    return lanes_sum(&a);
}

/* ---- one sub-block with a free scale ---- */
/* the best scale for the levels, where it beats *gain, the part of sum(w x x) that is explained */
INLINE bool better_scale(const Sums *s, float *gain, float *d)
{
    if (!(s->qq > 0) || !(s->xq * s->xq > *gain * s->qq)) return false;
    *gain = s->xq * s->xq / s->qq;
    *d = s->xq / s->qq;
    return true;
}

INLINE float free_scale(Kind kind, const QuantShape *s, const float *x, const float *w)
{
    float top = 0, best = 0, gain = 0, q[WIDTH_MAX];
    Sums  u;
    for (int i = 0; i < kind.width; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    if (top == 0) return 0;
    for (int end = 0; end < 2; end++)
        for (int k = -STEPS; k <= STEPS; k++) {
            float to = (float)(end ? s->hi : s->lo);
            levels(kind, s, x, top / (to * (1 + 0.03f * (float)k)), 0, q);
            sums_of_levels(kind, x, w, q, &u);
            better_scale(&u, &gain, &best);
        }
    for (int t = 0; t < TURNS; t++) {
        levels(kind, s, x, best, 0, q);
        sums_of_levels(kind, x, w, q, &u);
        if (!better_scale(&u, &gain, &best)) break;
    }
    return best != 0 ? best : top / (float)s->lo;
}

/* the best scale and minimum (at least 0) for the levels */
INLINE void solve_pair(const Sums *u, float *d, float *m)
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

INLINE void free_pair(Kind kind, const QuantShape *s, const float *x, const float *w, float *d, float *m)
{
    float lo = 0, hi = 0, least = INFINITY, q[2][WIDTH_MAX], first[WIDTH_MAX], a, b, err;
    Sums  u;
    for (int i = 0; i < kind.width; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    *d = (hi - lo) / (float)s->hi;
    *m = -lo;
    if (hi == lo) return;
    sums_of_x(kind, x, w, &u);
    for (int k = -STEPS; k <= STEPS; k++) {
        a = (hi - lo) / ((float)s->hi * (1 + 0.05f * (float)k));
        b = -lo;
        for (int t = 0; t <= TURNS; t++) {
            float *now = q[t & 1];
            levels(kind, s, x, a, b, now);
            /* The same levels lead to the same scales: those of the last turn would repeat it, those of the last step all of it. */
            if (t ? same_levels(kind, now, q[~t & 1]) : k > -STEPS && same_levels(kind, now, first)) break;
            for (int i = 0; t == 0 && i < kind.width; i++) first[i] = now[i];
            sums_of_levels(kind, x, w, now, &u);
            solve_pair(&u, &a, &b);
            if (!(a > 0)) break;
            err = error_of(kind, x, w, now, a, b);
            if (!(err < least)) continue;
            least = err;
            *d = a;
            *m = b;
        }
    }
}

/* ---- under the scales' rounding ---- */
INLINE int clamp(float v, int lo, int hi)
{
    v = round_even(v < -1e6f ? -1e6f : v > 1e6f ? 1e6f : v);
    return v < (float)lo ? lo : v > (float)hi ? hi : (int)v;
}

/* Integer scale and minimum of sub-block k: those nearest to the free ones and their neighbours, by the error they leave. */
INLINE float fix_sub(Kind kind, const QuantShape *s, const float *x, const float *w, const float free[2], float d, float dmin, int k, QuantBlock *b)
{
    int   at = clamp(d != 0 ? free[0] / d : 0, s->scale_lo, s->scale_hi), at_min = clamp(dmin != 0 ? free[1] / dmin : 0, 0, s->scale_hi);
    float least = INFINITY, q[WIDTH_MAX], best[WIDTH_MAX] = {0};
    for (int i = at - 1; i <= at + 1; i++)
        for (int j = at_min - kind.min; j <= at_min + kind.min; j++) {
            if (i < s->scale_lo || i > s->scale_hi || j < 0 || j > s->scale_hi) continue;
            float scale = d * (float)i, min = dmin * (float)j;
            levels(kind, s, x, scale, min, q);
            float err = error_of(kind, x, w, q, scale, min);
            if (!(err < least)) continue;
            least = err;
            b->scale[k] = i;
            b->min[k] = j;
            memcpy(best, q, sizeof q);
        }
    for (int c = 0; c < kind.width && least < INFINITY; c++) b->q[k * kind.width + c] = (int8_t)best[c];
    return least;
}

INLINE float fix_all(Kind kind, const QuantShape *s, const float *x, const float *w, const float free[][2], float d, float dmin, QuantBlock *b)
{
    float err = 0;
    b->d = f32_to_f16(d);
    b->dmin = f32_to_f16(dmin);
    for (int k = 0; k < s->subs; k++)
        err += fix_sub(kind, s, x + k * kind.width, w + k * kind.width, free[k], f16_to_f32(b->d), f16_to_f32(b->dmin), k, b);
    return err;
}

/* The best d and dmin for the integers that were found: least squares over the whole block. */
INLINE void refit(Kind kind, const QuantShape *s, const float *x, const float *w, const QuantBlock *b, float *d, float *dmin)
{
    float aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int k = 0; k < s->subs; k++) {
        float q[WIDTH_MAX], sc = (float)b->scale[k], mn = (float)b->min[k];
        Sums  u;
        for (int c = 0; c < kind.width; c++) q[c] = (float)b->q[k * kind.width + c];
        sums_of_x(kind, x + k * kind.width, w + k * kind.width, &u);
        sums_of_levels(kind, x + k * kind.width, w + k * kind.width, q, &u);
        aa += u.qq * sc * sc;
        ab += u.q * sc * mn;
        bb += u.w * mn * mn;
        xa += u.xq * sc;
        xb += u.x * mn;
    }
    float det = aa * bb - ab * ab;
    if (kind.min && det > 0) {
        *d = (xa * bb - xb * ab) / det;
        *dmin = (xa * ab - xb * aa) / det;
    } else if (aa > 0) {
        *d = (xa + ab * *dmin) / aa;
    }
}

INLINE void search(Kind kind, const QuantShape *s, const float *x, const float *w, QuantBlock *out)
{
    float      free[QUANT_SUBS_MAX][2] = {{0}}, d = 0, dmin = 0, least = 0, err;
    QuantBlock b[2];
    for (int k = 0; k < s->subs; k++) {
        const float *xk = x + k * kind.width, *wk = w + k * kind.width;
        if (kind.min) free_pair(kind, s, xk, wk, &free[k][0], &free[k][1]);
        else free[k][0] = free_scale(kind, s, xk, wk);
        if (fabsf(free[k][0]) > fabsf(d)) d = free[k][0];
        if (free[k][1] > dmin) dmin = free[k][1];
    }
    d /= (float)(s->scale_lo < 0 ? s->scale_lo : s->scale_hi); /* the widest scale is spelled by the largest integer */
    dmin /= (float)s->scale_hi;
    for (int t = 0; t <= TURNS; t++) {
        if (t) refit(kind, s, x, w, out, &d, &dmin);
        if (t && kind.min && (d < 0 || dmin < 0)) return;
        err = fix_all(kind, s, x, w, free, d, dmin, &b[t > 0]);
        if (t && !(err < least)) return;
        least = err;
        *out = b[t > 0];
    }
}

/* ---- compiled for each kind ---- */
typedef void SearchFn(const QuantShape *s, const float *x, const float *w, QuantBlock *out);
#define SEARCHES(name, isa)                                                                                                                         \
    static isa void name##_16(const QuantShape *s, const float *x, const float *w, QuantBlock *out) { search((Kind){16, false, false}, s, x, w, out); } \
    static isa void name##_32(const QuantShape *s, const float *x, const float *w, QuantBlock *out) { search((Kind){32, false, false}, s, x, w, out); } \
    static isa void name##_16_min(const QuantShape *s, const float *x, const float *w, QuantBlock *out) { search((Kind){16, true, false}, s, x, w, out); } \
    static isa void name##_32_min(const QuantShape *s, const float *x, const float *w, QuantBlock *out) { search((Kind){32, true, false}, s, x, w, out); } \
    static isa void name##_32_value(const QuantShape *s, const float *x, const float *w, QuantBlock *out) { search((Kind){32, false, true}, s, x, w, out); } \
    static SearchFn *const name[] = {name##_16, name##_32, name##_16_min, name##_32_min, name##_32_value};

SEARCHES(PLAIN, )
#if defined(__x86_64__) && defined(__GNUC__)
SEARCHES(AVX2, __attribute__((target("avx2"))))
static SearchFn *const *searches(bool plain) { return !plain && __builtin_cpu_supports("avx2") ? AVX2 : PLAIN; }
#else
static SearchFn *const *searches(bool plain) { return (void)plain, PLAIN; }
#endif

void quant_search_by(bool plain, const QuantShape *s, const float *x, const float *w, QuantBlock *out)
{
    float ones[QUANT_BLOCK_MAX];
    for (int i = 0; !w && i < s->subs * s->width; i++) ones[i] = 1;
    searches(plain)[s->value ? 4 : (s->min ? 2 : 0) + (s->width == 32)](s, x, w ? w : ones, out);
}

void quant_search(const QuantShape *s, const float *x, const float *w, QuantBlock *out) { quant_search_by(false, s, x, w, out); }
