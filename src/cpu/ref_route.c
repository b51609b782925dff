/* Choosing experts: DeepSeek-V3's noaux_tc, V2's group-limited and plain greedy (formulas: tensor/op_moe.c).  One row is a
 * few thousand operations, so there is no other spelling than this one. */
#include "../tensor/tensor.h"
#include "ref.h"

static void scores_of(const RouteArgs *a, const real *x, real *s)
{
    real max = x[0], sum = 0;
    if (a->scoring == ROUTE_SCORE_SIGMOID) {
        for (int e = 0; e < a->E; e++) s[e] = r_sigmoid(x[e]);
        return;
    }
    for (int e = 1; e < a->E; e++)
        if (x[e] > max) max = x[e];
    for (int e = 0; e < a->E; e++) sum += s[e] = r_exp(x[e] - max);
    for (int e = 0; e < a->E; e++) s[e] /= sum;
}

/* what the choice goes by: the score, with the bias for noaux */
static real choice(const RouteArgs *a, const real *s, int e)
{
    return a->bias && a->kind == ROUTE_MODE_NOAUX ? s[e] + a->bias[e] : s[e];
}

/* a group's score: its best (V2), or the sum of its two best (V3) */
static real group_score(const RouteArgs *a, const real *s, int g)
{
    int  per = a->E / a->n_group;
    real b1 = -REAL_INF, b2 = -REAL_INF;
    for (int e = g * per; e < (g + 1) * per; e++) {
        real c = choice(a, s, e);
        if (c > b1) {
            b2 = b1;
            b1 = c;
        } else if (c > b2) {
            b2 = c;
        }
    }
    return a->kind == ROUTE_MODE_GROUP_MAX || per == 1 ? b1 : b1 + b2;
}

/* Is group g among the topk_group best?  Ties go to the lower number. */
static bool group_open(const RouteArgs *a, const real *s, int g)
{
    real mine = group_score(a, s, g);
    int  better = 0;
    if (a->kind == ROUTE_MODE_GREEDY || a->topk_group >= a->n_group) return true;
    for (int o = 0; o < a->n_group; o++) {
        real other = group_score(a, s, o);
        if (other > mine || (other == mine && o < g)) better++;
    }
    return better < a->topk_group;
}

/* The K best experts of the open groups, in ascending order of their number; ties go to the lower number. */
static void choose(const RouteArgs *a, const real *s, int32_t *id)
{
    int  per = a->n_group > 0 ? a->E / a->n_group : a->E, n = 0;
    for (int g = 0; g * per < a->E; g++) {
        if (!group_open(a, s, g)) continue;
        for (int e = g * per; e < (g + 1) * per; e++) {
            int  at = n < a->K ? n : a->K;
            real c = choice(a, s, e);
            /* id[] is kept sorted by falling score; a newcomer with an equal score goes behind */
            while (at > 0 && choice(a, s, id[at - 1]) < c) at--;
            if (at >= a->K) continue;
            for (int i = n < a->K ? n : a->K - 1; i > at; i--) id[i] = id[i - 1];
            id[at] = e;
            if (n < a->K) n++;
        }
    }
    for (int i = 1; i < a->K; i++) /* by number */
        for (int j = i; j > 0 && id[j - 1] > id[j]; j--) {
            int32_t t = id[j];
            id[j] = id[j - 1];
            id[j - 1] = t;
        }
}

#define ROUTE_TINY ((real)1e-20) /* the normaliser's guard, as in the published code */

REF(route)
{
    const RouteArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++) {
        real *s = a->score + t * a->E, *w = a->weight + t * a->K, sum = ROUTE_TINY;
        scores_of(a, a->logits + t * a->E, s);
        choose(a, s, a->id + t * a->K);
        for (int k = 0; k < a->K; k++) sum += w[k] = s[a->id[t * a->K + k]];
        for (int k = 0; k < a->K; k++) w[k] = (a->norm ? w[k] / sum : w[k]) * a->route_scale;
    }
}

/* w_k = scale s_k / sum  ->  ds_k = scale (dw_k - sum_j dw_j s_j / sum) / sum; then through sigmoid or softmax */
REF(route_back)
{
    const RouteArgs *a = args;
    real            *ds = scratch; /* [E] */
    for (int64_t t = i0; t < i1; t++) {
        const real    *s = a->score + t * a->E, *dw = a->dweight + t * a->K;
        const int32_t *id = a->id + t * a->K;
        real          *dx = a->dlogits + t * a->E, sum = ROUTE_TINY, dot = 0, all = 0;
        for (int e = 0; e < a->E; e++) ds[e] = 0;
        for (int k = 0; k < a->K; k++) {
            sum += s[id[k]];
            dot += dw[k] * s[id[k]];
        }
        for (int k = 0; k < a->K; k++)
            ds[id[k]] = a->norm ? a->route_scale * (dw[k] - dot / sum) / sum : a->route_scale * dw[k];
        for (int e = 0; e < a->E; e++) all += ds[e] * s[e];
        for (int e = 0; e < a->E; e++)
            dx[e] += a->scoring == ROUTE_SCORE_SIGMOID ? ds[e] * s[e] * ((real)1 - s[e]) : s[e] * (ds[e] - all);
    }
}
