/* judge: the statistics of claims, and how well a model predicts text. */
#ifndef AHA_JUDGE_JUDGE_H
#define AHA_JUDGE_JUDGE_H

#include "../model/model.h"

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

/* ---- numbers that come one by one (stats.c) ---- */
typedef struct Moments { /* mean and sum of squared deviations (Welford 1962) */
    int64_t n;
    double  mean, m2;
} Moments;
void   moments_add(Moments *m, double x);
double moments_sem(const Moments *m); /* standard error of the mean; 0 below two numbers */
/* The q-quantile (0..1) of n sorted numbers, between two of them by straight lines; 0 of none. */
double quantile_sorted(const double *x, int64_t n, double q);

/* ---- one prediction (divergence.c) ---- in double, from logits [V]; nats */
typedef struct Prediction {
    double nll, nll_base; /* -log p(target): the model's, the base's */
    double kl;            /* sum of p_base (log p_base - log p): at least 0 */
    bool   same_top;      /* both find the same token likeliest; of equals the lower id */
} Prediction;
/* base NULL: nll alone.  false: a logit is no number, or all are minus infinity. */
bool prediction(const real *logits, const real *base, int V, int32_t target, Prediction *out);

/* ---- texts (text_score.c) ---- */
typedef struct Passage { /* a sequence of its own; tokens [from, n) are predicted from those before them, 1 <= from <= n */
    const int32_t *token;
    int            n, from;
} Passage;
typedef struct TextScore {
    int64_t tokens, same_top;                /* predicted; and of those: both find the same token likeliest */
    Moments nll, nll_base, more, kl;         /* more: nll - nll_base, pair by pair */
    double  kl_median, kl_99, kl_999, kl_max;
} TextScore;
typedef struct TextOptions {
    const Kernels *k;
    Pool          *pool;
    int            rows;     /* tokens of a batch, at most, unless one passage is longer; 0: 512 */
    Observer      *observer; /* of the model's products, or NULL */
    bool (*progress)(void *user, int64_t done, int64_t total, const TextScore *now); /* after every batch; true: stop.  NULL: none */
    void *user;
} TextOptions;
/* Predicts the passages by m and, unless base is NULL, by base too.  Memory holds a batch's hidden states and a few rows of
 * logits of each; of every prediction one number stays.  The result does not depend on rows and threads.
 * AHA_ERR_ARG: vocabularies that differ, ids beyond them, nothing to predict; AHA_ERR_CANCELLED. */
int text_score(TextScore *out, const Model *m, const Model *base, const Passage *p, int n, const TextOptions *o, aha_error *e);

#endif
