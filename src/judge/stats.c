/* Intervals, pass@k, moments and quantiles. */
#include "judge.h"

#include <math.h>

#define Z95 1.959963984540054

static double clamp01(double x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

Interval interval_wilson(double k, double n)
{
    double p, mid, half;
    if (n <= 0) return (Interval){0, 0, 1};
    p = k / n;
    mid = (p + Z95 * Z95 / (2 * n)) / (1 + Z95 * Z95 / n);
    half = Z95 / (1 + Z95 * Z95 / n) * sqrt(p * (1 - p) / n + Z95 * Z95 / (4 * n * n));
    return (Interval){p, clamp01(mid - half), clamp01(mid + half)};
}

Interval interval_mean(const double *x, int n)
{
    double sum = 0, sq = 0, mean, half;
    if (n < 1) return (Interval){0, 0, 1};
    for (int i = 0; i < n; i++) sum += x[i];
    mean = sum / n;
    for (int i = 0; i < n; i++) sq += (x[i] - mean) * (x[i] - mean);
    half = n > 1 ? Z95 * sqrt(sq / (n - 1) / n) : 1;
    return (Interval){mean, clamp01(mean - half), clamp01(mean + half)};
}

double pass_at_k(int n, int c, int k)
{
    double miss = 1;
    if (n - c < k) return 1;
    for (int i = n - c + 1; i <= n; i++) miss *= 1 - (double)k / i;
    return 1 - miss;
}

void moments_add(Moments *m, double x)
{
    double d = x - m->mean;
    m->n++;
    m->mean += d / (double)m->n;
    m->m2 += d * (x - m->mean);
}

double moments_sem(const Moments *m)
{
    return m->n > 1 ? sqrt(m->m2 / (double)(m->n - 1) / (double)m->n) : 0;
}

double quantile_sorted(const double *x, int64_t n, double q)
{
    double  at = q * (double)(n - 1);
    int64_t i = (int64_t)at;
    if (n < 1) return 0;
    if (i >= n - 1) return x[n - 1];
    return x[i] + (at - (double)i) * (x[i + 1] - x[i]);
}
