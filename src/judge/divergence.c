/* One prediction: the negative log-likelihood of what came, and how far two distributions are from each other,
 *   KL(base || model) = sum over tokens of p_base (log p_base - log p).
 * In double, from the logits: log p = x - log sum exp x. */
#include "judge.h"

#include <math.h>

/* log of the sum of exp(x), and the likeliest token; false: no distribution */
static bool normaliser(const real *x, int V, double *out, int *top)
{
    double sum = 0;
    int    best = 0;
    for (int i = 0; i < V; i++) {
        if (isnan(x[i])) return false;
        if (x[i] > x[best]) best = i;
    }
    if (!isfinite(x[best])) return false;
    for (int i = 0; i < V; i++) sum += exp((double)x[i] - (double)x[best]);
    *out = (double)x[best] + log(sum);
    *top = best;
    return true;
}

bool prediction(const real *logits, const real *base, int V, int32_t target, Prediction *out)
{
    double z, z_base, kl = 0;
    int    top, top_base;
    if (!normaliser(logits, V, &z, &top)) return false;
    *out = (Prediction){.nll = z - (double)logits[target]};
    if (!base) return true;
    if (!normaliser(base, V, &z_base, &top_base)) return false;
    for (int i = 0; i < V; i++) {
        double log_base = (double)base[i] - z_base;
        if (isfinite(log_base)) kl += exp(log_base) * (log_base - ((double)logits[i] - z));
    }
    out->nll_base = z_base - (double)base[target];
    out->kl = kl > 0 ? kl : 0; /* rounding may leave -1e-17 of distributions that are the same */
    out->same_top = top == top_base;
    return true;
}
