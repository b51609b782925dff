/* judge: the statistics of claims. */
#ifndef AHA_JUDGE_JUDGE_H
#define AHA_JUDGE_JUDGE_H

#include "../base/base.h"

/* A share with its 95% interval (Wilson 1927, for k successes in n trials). */
typedef struct Interval {
    double p, lo, hi;
} Interval;
Interval interval_wilson(double k, double n);
/* Mean of n numbers with the normal 95% interval of the mean, clamped to [0, 1]: for accuracies averaged over several
 * samples of each problem, where the problems are the independent unit. */
Interval interval_mean(const double *x, int n);
/* pass@k from c right ones among n samples of a problem: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, eq. 1). */
double pass_at_k(int n, int c, int k);

#endif
