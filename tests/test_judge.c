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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wilson), cmocka_unit_test(mean), cmocka_unit_test(pass_k)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
