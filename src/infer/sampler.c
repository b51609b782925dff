/* Sampling: softmax with a temperature, cut by top-k, top-p and min-p in this order, one random number per position.
 *
 * Nothing is sorted.  With m the largest logit, w_i = exp((x_i - m) / temperature) lies in [0, 1], 1 for the largest, and
 * floats that are not negative are ordered as their bits are: the cut's value is found by three histograms over the bits (top 11, next 11, last
 * 10), of counts for top-k, of sums for top-p.  Everything above the cut stays, of what equals it the lowest ids.  All sums
 * run in ascending ids, so the result depends on the logits alone. */
#include "inner.h"

enum { BINS = 2048 };

static uint32_t bits_of(real w)
{
    float    f = (float)w;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

typedef struct Cut {
    uint32_t bits;  /* weights above it stay */
    double   above; /* the mass (or number) of those */
} Cut;

/* The largest cut whose mass, with the weights that equal it, reaches `want`; weights of 0 count nothing. */
static Cut find_cut(const real *w, int V, bool by_mass, double want)
{
    static const int shift[] = {21, 10, 0}, width[] = {11, 11, 10};
    Cut              c = {0, 0};
    for (int level = 0; level < 3; level++) {
        double   sum[BINS] = {0};
        uint32_t known = level == 0 ? 0 : ~0u << (shift[level] + width[level]);
        int      bins = 1 << width[level], b = bins - 1;
        for (int i = 0; i < V; i++) {
            uint32_t u = bits_of(w[i]);
            if (u && ((u ^ c.bits) & known) == 0) sum[u >> shift[level] & (uint32_t)(bins - 1)] += by_mass ? (double)w[i] : 1;
        }
        for (; b > 0 && c.above + sum[b] < want; b--) c.above += sum[b];
        c.bits |= (uint32_t)b << shift[level];
    }
    return c;
}

static void apply_cut(real *w, int V, bool by_mass, double want)
{
    Cut    c = find_cut(w, V, by_mass, want > 0 ? want : 1e-300); /* the best one always stays */
    double each = by_mass ? (double)float_of(c.bits) : 1, have = c.above;
    for (int i = 0; i < V; i++) {
        uint32_t u = bits_of(w[i]);
        if (u > c.bits) continue;
        if (u == c.bits && (have < want || have == 0))
            have += each;
        else
            w[i] = 0;
    }
}

static double sum_of(const real *w, int V)
{
    double sum = 0;
    for (int i = 0; i < V; i++) sum += (double)w[i];
    return sum;
}

static int32_t draw(const real *w, int V, float u)
{
    double  at = (double)u * sum_of(w, V), sum = 0;
    int32_t last = 0;
    for (int32_t i = 0; i < V; i++) {
        if (!(w[i] > 0)) continue;
        sum += (double)w[i];
        last = i;
        if (sum > at) break;
    }
    return last;
}

/* w [V + 1], perhaps over x itself: softmax as the vector kernels have it, p = d(-log p_target)/dx but for the target, which is put behind the row.
 * Exponentials one by one took 4 ms for 151,936 logits, most of the time of sampling. */
static void fill_weights(const Ctx *c, const real *x, int V, int32_t best, real temperature, real *w)
{
    const real LOW = -200, most = x[best]; /* exp of LOW is 0; so is what is no number, or minus infinity */
    int32_t    target = V;
    real       d[2] = {-1, 0}, top;
    XentArgs   a = {w, V + 1, &target, NULL, d};
    for (int i = 0; i < V; i++) {
        real t = (x[i] - most) / temperature;
        w[i] = t > LOW ? t : LOW;
    }
    w[V] = LOW;
    c->k->xent_back(&a, 0, 1, NULL);
    top = w[best];
    for (int i = 0; i < V; i++) w[i] = w[i] > 0 ? w[i] / top : 0;
}

int32_t sample_token(const Ctx *c, const real *logits, int V, const SampleParams *p, int position, real *scratch, real *logp)
{
    int32_t id = -1;
    real    m = -REAL_INF;
    for (int32_t i = 0; i < V; i++)
        if (logits[i] > m) {
            m = logits[i];
            id = i;
        }
    if (id < 0 || !(m < REAL_INF)) return -1;
    if (p->temperature > 0) {
        fill_weights(c, logits, V, id, (real)p->temperature, scratch);
        if (p->top_k > 0 && p->top_k < V) apply_cut(scratch, V, false, p->top_k);
        if (p->top_p < 1) apply_cut(scratch, V, true, (double)p->top_p * sum_of(scratch, V));
        for (int i = 0; p->min_p > 0 && i < V; i++)
            if (scratch[i] < (real)p->min_p) scratch[i] = 0;
        id = draw(scratch, V, rng_uniform(p->seed, p->stream, (uint64_t)position));
    }
    if (logp) logprob_row(c, logits, V, id, logp, NULL);
    return id;
}

void top_tokens(const Ctx *c, const real *logits, int V, int n, aha_token_logp *out)
{
    int  have = 0;
    real ls = 0;
    for (int32_t i = 0; i < V && n > 0; i++) {
        int at = have;
        if (!(logits[i] > -REAL_INF && logits[i] < REAL_INF)) continue;
        if (have == n && !(logits[i] > logits[out[n - 1].token])) continue;
        for (have += have < n; at > 0 && logits[i] > logits[out[at - 1].token]; at--)
            if (at < n) out[at] = out[at - 1];
        out[at] = (aha_token_logp){i, 0};
    }
    if (have > 0) logprob_row(c, logits, V, out[0].token, &ls, NULL); /* the largest: minus the logarithm of the sum */
    for (int i = have - 1; i >= 0; i--) out[i].logp = (float)(logits[out[i].token] - logits[out[0].token] + ls);
    for (int i = have; i < n; i++) out[i] = (aha_token_logp){-1, 0};
}
