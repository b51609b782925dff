/* Scalar mathematics over `real`: float in the library, double in the build that checks gradients by finite differences.
 * Own exp and log: the same operations in the same order as the vector kernels, so a vector body and its tail, and every
 * ISA, give the same bits, and no C library's version changes a result. */
#ifndef AHA_TENSOR_RMATH_H
#define AHA_TENSOR_RMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef AHA_REAL_DOUBLE
typedef double real;
#define REAL_INF ((double)INFINITY)
static inline real r_fma(real a, real b, real c) { return a * b + c; }
static inline real r_exp(real x) { return exp(x); }
static inline real r_log(real x) { return log(x); }
static inline real r_sqrt(real x) { return sqrt(x); }
#else
typedef float real;
#define REAL_INF INFINITY
static inline real r_fma(real a, real b, real c) { return __builtin_fmaf(a, b, c); }
static inline real r_sqrt(real x) { return sqrtf(x); }

/* exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2)/2; polynomial of degree 6 (Cephes), error below 1.5 ulp.
 * Below -87.33 the result is 0 (no denormals), above 88.37 it saturates at exp(88.37). */
#define EXP_LO (-87.33654f)
#define EXP_HI 88.37626f
#define EXP_LOG2E 1.44269504088896341f
#define EXP_MAGIC 12582912.0f /* 1.5 * 2^23: adding and subtracting it rounds to an integer */
#define EXP_LN2_HI 0.693359375f
#define EXP_LN2_LO (-2.12194440e-4f)
#define EXP_C0 1.9875691500e-4f
#define EXP_C1 1.3981999507e-3f
#define EXP_C2 8.3334519073e-3f
#define EXP_C3 4.1665795894e-2f
#define EXP_C4 1.6666665459e-1f
#define EXP_C5 5.0000001201e-1f
static inline real r_exp(real x)
{
    float   xc = x > EXP_HI ? EXP_HI : x;
    float   n = r_fma(xc, EXP_LOG2E, EXP_MAGIC) - EXP_MAGIC;
    float   r = r_fma(n, -EXP_LN2_HI, xc);
    float   p, s;
    int32_t bits;
    if (!(x >= EXP_LO)) return x != x ? x : 0.0f;
    r = r_fma(n, -EXP_LN2_LO, r);
    p = EXP_C0;
    p = r_fma(p, r, EXP_C1);
    p = r_fma(p, r, EXP_C2);
    p = r_fma(p, r, EXP_C3);
    p = r_fma(p, r, EXP_C4);
    p = r_fma(p, r, EXP_C5);
    p = r_fma(p, r * r, r) + 1.0f;
    bits = ((int32_t)n + 127) << 23;
    memcpy(&s, &bits, 4);
    return p * s;
}

/* log(x) through double: x = m 2^e, log m = 2 atanh((m-1)/(m+1)) by its series; the rounding to float hides the rest */
static inline real r_log(real x)
{
    static const double term[] = {1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0};
    int    e;
    double m, s, s2, sum = 0;
    if (!(x > 0)) return x == 0 ? -REAL_INF : x - x;
    if (x > 3.4e38f) return x;
    m = frexp((double)x, &e);
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    s = (m - 1) / (m + 1);
    s2 = s * s;
    for (int k = 0; k < 11; k++) sum = sum * s2 + term[k];
    return (float)(2 * s * sum + e * 0.69314718055994530942);
}
#endif

static inline real r_sigmoid(real x) { return (real)1 / ((real)1 + r_exp(-x)); }

#endif
