/* The statistics of claims, against values computed by hand and by counting. */
#include "judge/judge.h"
#include "testlib.h"

#include <math.h>

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-6) fail_msg("got %.8f, expected %.8f", got, want);
}

static void wilson(void **state)
{
    Interval i = interval_wilson(8, 10); /* Newcombe 1998: 0.4901625, 0.9433178 */
    (void)state;
    near(i.p, 0.8);
    near(i.lo, 0.4901625);
    near(i.hi, 0.9433178);
    i = interval_wilson(0, 20);
    near(i.lo, 0);
    near(i.hi, 0.1611252);
    i = interval_wilson(0, 0);
    near(i.lo, 0);
    near(i.hi, 1);
}

static void mean(void **state)
{
    const double x[] = {0, 1, 1, 0, 1, 1, 1, 1};
    Interval     i = interval_mean(x, 8);
    (void)state;
    near(i.p, 0.75);
    near(i.hi - i.p < i.p - i.lo + 1e-9 ? i.p - i.lo : -1, 1.959963984540054 * sqrt(1.5 / 7 / 8));
    i = interval_mean(x, 1);
    near(i.lo, 0);
    near(i.hi, 1);
}

/* pass@k is the share of k-subsets of the n samples that hold a right one: counted */
static void pass_k(void **state)
{
    (void)state;
    for (int n = 1; n <= 9; n++)
        for (int c = 0; c <= n; c++)
            for (int k = 1; k <= n; k++) {
                int all = 0, hit = 0;
                for (unsigned set = 0; set < 1u << n; set++) {
                    if (__builtin_popcount(set) != k) continue;
                    all++;
                    hit += (set & ((1u << c) - 1)) != 0;
                }
                near(pass_at_k(n, c, k), (double)hit / all);
            }
}

static void moments(void **state)
{
    const double x[] = {2, 4, 4, 4, 5, 5, 7, 9}, sorted[] = {1, 2, 4, 8};
    Moments      m = {0};
    (void)state;
    near(moments_sem(&m), 0);
    for (size_t i = 0; i < ARRAY_LEN(x); i++) moments_add(&m, 1e6 + x[i]);
    near(m.mean, 1e6 + 5);
    near(m.m2, 32);
    near(moments_sem(&m), sqrt(32.0 / 7 / 8));
    near(quantile_sorted(sorted, 4, 0), 1);
    near(quantile_sorted(sorted, 4, 0.5), 3);
    near(quantile_sorted(sorted, 4, 0.9), 6.8);
    near(quantile_sorted(sorted, 4, 1), 8);
    near(quantile_sorted(sorted, 1, 0.3), 1);
    near(quantile_sorted(sorted, 0, 0.5), 0);
}

/* logits of known distributions, shifted, which changes none */
static void predictions(void **state)
{
    real       half[] = {(real)log(0.5) + 1, (real)log(0.5) + 1}, quarter[] = {(real)log(0.25) - 2, (real)log(0.75) - 2};
    real       sure[] = {0, -INFINITY, 3}, none[] = {-INFINITY, -INFINITY}, broken[] = {1, NAN}, flat[] = {5, 5, 5};
    Prediction p;
    (void)state;
    assert_true(prediction(quarter, half, 2, 0, &p));
    near(p.nll, log(4));
    near(p.nll_base, log(2));
    near(p.kl, 0.5 * log(2) + 0.5 * log(2.0 / 3)); /* 0.1438410 */
    assert_false(p.same_top);                     /* of equals the lower id is the likeliest */
    assert_true(prediction(half, quarter, 2, 1, &p));
    near(p.kl, 0.25 * log(0.5) + 0.75 * log(1.5)); /* 0.1308120: it is not symmetric */
    assert_true(prediction(half, half, 2, 1, &p));
    assert_true(p.kl == 0 && p.same_top && p.nll == p.nll_base);
    assert_true(prediction(flat, sure, 3, 2, &p)); /* what the base excludes costs nothing */
    double a = 1 / (1 + exp(3)), b = 1 - a;
    near(p.kl, a * log(3 * a) + b * log(3 * b));
    assert_true(prediction(half, NULL, 2, 1, &p));
    near(p.nll, log(2));
    assert_false(prediction(none, NULL, 2, 0, &p) || prediction(broken, NULL, 2, 0, &p) || prediction(half, broken, 2, 0, &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wilson), cmocka_unit_test(mean), cmocka_unit_test(pass_k),
                                       cmocka_unit_test(moments), cmocka_unit_test(predictions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
