/* Sampling: softmax with a temperature, cut by top-k, top-p and min-p in this order, one random number per position.
 *
 * Nothing is sorted.  With m the largest logit, w_i = exp((x_i - m) / temperature) lies in [0, 1], 1 for the largest, and
 * floats that are not negative are ordered as their bits are: the cut's value is found level by level, by histograms over the bits (top 11, next
 * 11, last 10), of counts for top-k, of sums for top-p.  Few weights share the first 11 bits with the cut: they are looked at
 * without a histogram, whose 2,048 bins took longer than all else.  Everything above the cut stays, of what equals it the lowest ids.  All
 * sums run in ascending ids, so the result depends on the logits alone. */
#include "inner.h"

enum { BINS = 2048, LEVELS = 3, FEW = 64, WIDE = 16 };
static const int SHIFT[LEVELS] = {21, 10, 0}, WIDTH[LEVELS] = {11, 11, 10};

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

static int  bin_of(uint32_t u, int level) { return (int)(u >> SHIFT[level] & ((1u << WIDTH[level]) - 1)); }
static bool is_known(uint32_t u, uint32_t cut, int level) { return !level || !((u ^ cut) & ~0u << (SHIFT[level] + WIDTH[level])); }

/* One level among all weights; a share of their mass is wanted, or a number of them. */
static void cut_all(const real *w, int V, int level, bool by_mass, double *want, Cut *c)
{
    double sum[BINS] = {0}, all = 0;
    int    b = 0;
    for (int i = 0; i < V; i++) {
        uint32_t u = bits_of(w[i]);
        if (!u || !is_known(u, c->bits, level)) continue;
        int bin = bin_of(u, level);
        if (bin > b) b = bin;
        sum[bin] += by_mass ? (double)w[i] : 1;
        all += (double)w[i];
    }
    if (!level && by_mass) *want *= all;
    if (!(*want > 0)) *want = 1e-300; /* the best one always stays */
    for (; b > 0 && c->above + sum[b] < *want; b--) c->above += sum[b];
    c->bits |= (uint32_t)b << SHIFT[level];
}

/* One level among weights u [n], in ascending ids: the highest bin, then the next one. */
static void cut_few(const uint32_t *u, int n, int level, bool by_mass, double want, Cut *c)
{
    for (int last = BINS, b = 0;; last = b, b = 0) {
        double sum = 0;
        for (int i = 0; i < n; i++) {
            int bin = is_known(u[i], c->bits, level) ? bin_of(u[i], level) : 0;
            if (bin < last && bin > b) b = bin, sum = 0;
            if (b && bin == b) sum += by_mass ? (double)float_of(u[i]) : 1;
        }
        if (!b || !(c->above + sum < want)) {
            c->bits |= (uint32_t)b << SHIFT[level];
            return;
        }
        c->above += sum;
    }
}

/* The largest cut whose mass, with the weights that equal it, reaches what is wanted; weights of 0 count nothing. */
static Cut find_cut(const real *w, int V, bool by_mass, double *want)
{
    Cut      c = {0, 0};
    uint32_t few[FEW];
    int      n = 0;
    cut_all(w, V, 0, by_mass, want, &c);
    for (int i = 0; i < V && n <= FEW; i++) {
        uint32_t u = bits_of(w[i]);
        if (!u || !is_known(u, c.bits, 1)) continue;
        if (n < FEW) few[n] = u;
        n++;
    }
    for (int level = 1; level < LEVELS; level++)
        if (n <= FEW) cut_few(few, n, level, by_mass, *want, &c);
        else cut_all(w, V, level, by_mass, want, &c);
    return c;
}

/* want: a share of the mass, or a number of weights.  What stays, in sum. */
static double apply_cut(real *w, int V, bool by_mass, double want)
{
    Cut    c = find_cut(w, V, by_mass, &want);
    double each = by_mass ? (double)float_of(c.bits) : 1, have = c.above, sum = 0;
    for (int i = 0; i < V; i++) {
        uint32_t u = bits_of(w[i]);
        if (u == c.bits && (have < want || have == 0)) have += each;
        else if (u <= c.bits) w[i] = 0;
        sum += (double)w[i];
    }
    return sum;
}

static double sum_of(const real *w, int V)
{
    double sum = 0;
    for (int i = 0; i < V; i++) sum += (double)w[i];
    return sum;
}

static int32_t draw(const real *w, int V, double all, float u)
{
    double  at = (double)u * all, sum = 0;
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
 * Exponentials one by one took 4 ms for 151,936 logits, most of the time of sampling; divisions one by one, a quarter of what was left: a
 * compiler takes WIDE at once, and rounds each alike. */
static void fill_weights(const Ctx *c, const real *x, int V, int32_t best, real temperature, real *w)
{
    const real LOW = -200, most = x[best]; /* exp of LOW is 0; so is what is no number, or minus infinity */
    int32_t    target = V;
    real       d[2] = {-1, 0}, top;
    int        i = 0;
    XentArgs   a = {w, V + 1, &target, NULL, d};
    for (; i + WIDE <= V; i += WIDE) {
        real t[WIDE];
        for (int j = 0; j < WIDE; j++) t[j] = (x[i + j] - most) / temperature;
        for (int j = 0; j < WIDE; j++) w[i + j] = t[j] > LOW ? t[j] : LOW;
    }
    for (; i < V; i++) {
        real t = (x[i] - most) / temperature;
        w[i] = t > LOW ? t : LOW;
    }
    w[V] = LOW;
    c->k->xent_back(&a, 0, 1, NULL);
    top = w[best];
    for (i = 0; i + WIDE <= V; i += WIDE) {
        real t[WIDE];
        for (int j = 0; j < WIDE; j++) t[j] = w[i + j] / top;
        for (int j = 0; j < WIDE; j++) w[i + j] = t[j] > 0 ? t[j] : 0;
    }
    for (; i < V; i++) w[i] = w[i] > 0 ? w[i] / top : 0;
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
        double all = -1; /* not summed yet */
        fill_weights(c, logits, V, id, (real)p->temperature, scratch);
        if (p->top_k > 0 && p->top_k < V) all = apply_cut(scratch, V, false, p->top_k);
        if (p->top_p < 1) all = apply_cut(scratch, V, true, (double)p->top_p);
        for (int i = 0; p->min_p > 0 && i < V; i++)
            if (scratch[i] < (real)p->min_p) scratch[i] = 0;
        if (all < 0 || p->min_p > 0) all = sum_of(scratch, V);
        id = draw(scratch, V, all, rng_uniform(p->seed, p->stream, (uint64_t)position));
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
