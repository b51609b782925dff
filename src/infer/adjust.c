/* Bias and penalties: what changes the logits of a row before a token is chosen.
 *
 * How often a sequence had each token is kept in a table that is allocated when it is submitted, for as many tokens as it can
 * ever have, so a step allocates nothing.  A row that stands behind a guess counts the guess too, without touching the table:
 * rows of one sequence are looked at by several threads at once. */
#include "inner.h"

#include <math.h>
#include <stdlib.h>

static int check_range(const char *what, float x, double lo, double hi, aha_error *e)
{
    if ((double)x >= lo && (double)x <= hi) return 0; /* not so for NaN */
    return error_set(e, AHA_ERR_ARG, "%s is %g, expected %g to %g", what, (double)x, lo, hi);
}

static int by_token(const void *a, const void *b)
{
    int32_t x = ((const aha_logit_bias *)a)->token, y = ((const aha_logit_bias *)b)->token;
    return x < y ? -1 : x > y;
}

int adjust_check(const SampleAdjust *o, int vocab, aha_error *e)
{
    int rc = o->repetition == 0 ? 0 : check_range("repetition_penalty", o->repetition, 0.1, 10, e);
    if (rc == 0) rc = check_range("presence_penalty", o->presence, -2, 2, e);
    if (rc == 0) rc = check_range("frequency_penalty", o->frequency, -2, 2, e);
    if (rc == 0 && (o->n_bias < 0 || o->n_bias > AHA_BIAS_MAX || (o->n_bias && !o->bias)))
        rc = error_set(e, AHA_ERR_ARG, "n_bias is %d, expected 0 to %d entries of bias", o->n_bias, AHA_BIAS_MAX);
    for (int i = 0; i < o->n_bias && rc == 0; i++) {
        if (o->bias[i].token < 0 || o->bias[i].token >= vocab)
            return error_set(e, AHA_ERR_ARG, "bias %d is for token %d, expected 0 to %d", i, o->bias[i].token, vocab - 1);
        if (!(fabsf(o->bias[i].bias) <= 100))
            return error_set(e, AHA_ERR_ARG, "bias of token %d is %g, expected -100 to 100", o->bias[i].token, (double)o->bias[i].bias);
    }
    return rc;
}

static bool counts_repetition(const SampleAdjust *o) { return o->repetition != 0 && o->repetition != 1; }
static bool counts(const SampleAdjust *o) { return counts_repetition(o) || o->presence != 0 || o->frequency != 0; }

static int copy_bias(Adjust *a, aha_error *e)
{
    aha_logit_bias *own = mem_zalloc((size_t)a->o.n_bias + 1, sizeof *own);
    if (own && a->o.n_bias) memcpy(own, a->o.bias, (size_t)a->o.n_bias * sizeof *own);
    a->o.bias = own;
    if (!own) return error_set(e, AHA_ERR_NOMEM, "no memory for a bias of %d tokens", a->o.n_bias);
    qsort(own, (size_t)a->o.n_bias, sizeof *own, by_token);
    for (int i = 1; i < a->o.n_bias; i++)
        if (own[i].token == own[i - 1].token) return error_set(e, AHA_ERR_ARG, "bias has token %d twice", own[i].token);
    return 0;
}

/* The token's slot, or the free one where it belongs. */
static int32_t *slot_of(const Adjust *a, int32_t token)
{
    uint32_t mask = (uint32_t)a->n_slot - 1, i = (uint32_t)token * 2654435769u >> 7;
    while (a->slot[i & mask] >= 0 && a->seen[a->slot[i & mask]].token != token) i++;
    return &a->slot[i & mask];
}

static void see(Adjust *a, int32_t token, int times)
{
    int32_t *at = slot_of(a, token);
    if (*at < 0) {
        *at = a->n_seen++;
        a->seen[*at] = (TokenCount){token, 0};
    }
    a->seen[*at].generated += times;
}

int adjust_init(Adjust *a, const SampleAdjust *o, const int32_t *prompt, int n_prompt, int max_new, aha_error *e)
{
    int64_t all = (int64_t)max_new + (counts_repetition(o) ? n_prompt : 0), n = 16;
    int     rc;
    *a = (Adjust){.o = *o, .on = counts(o) || o->n_bias > 0};
    a->o.bias = NULL;
    if (!a->on) return 0;
    a->o.bias = o->bias;
    if ((rc = copy_bias(a, e)) != 0 || !counts(o)) return rc;
    while (n < 2 * all) n *= 2;
    a->seen = mem_zalloc((size_t)all, sizeof *a->seen);
    a->slot = n <= INT32_MAX ? mem_zalloc((size_t)n, sizeof *a->slot) : NULL;
    if (!a->seen || !a->slot) return error_set(e, AHA_ERR_NOMEM, "no memory to count %lld tokens for penalties", (long long)all);
    a->n_slot = (int)n;
    for (int i = 0; i < a->n_slot; i++) a->slot[i] = -1;
    for (int i = 0; i < n_prompt && counts_repetition(o); i++) see(a, prompt[i], 0);
    return 0;
}

void adjust_free(Adjust *a)
{
    mem_free((void *)(uintptr_t)a->o.bias);
    mem_free(a->seen);
    mem_free(a->slot);
    *a = (Adjust){0};
}

void adjust_take(Adjust *a, int32_t token)
{
    if (a->n_slot) see(a, token, 1);
}

static real bias_of(const Adjust *a, int32_t token)
{
    for (int lo = 0, hi = a->o.n_bias; lo < hi;) {
        int mid = (lo + hi) / 2;
        if (a->o.bias[mid].token == token) return (real)a->o.bias[mid].bias;
        if (a->o.bias[mid].token < token) lo = mid + 1;
        else hi = mid;
    }
    return 0;
}

/* x with its bias, of a token that was seen, `generated` times in the answer */
static real penalised(const SampleAdjust *o, real x, int generated)
{
    if (counts_repetition(o)) x = x > 0 ? x / (real)o->repetition : x * (real)o->repetition;
    if (generated > 0) x -= (real)o->presence + (real)o->frequency * (real)generated;
    return x;
}

void adjust_row(const Adjust *a, const Ahead *ahead, const real *logits, int V, real *out)
{
    memcpy(out, logits, (size_t)V * sizeof *out);
    for (int i = 0; i < a->o.n_bias; i++) out[a->o.bias[i].token] += (real)a->o.bias[i].bias;
    for (int i = 0; i < a->n_seen; i++) out[a->seen[i].token] = penalised(&a->o, out[a->seen[i].token], a->seen[i].generated);
    for (int i = 0; i < ahead->n && a->n_slot; i++) { /* those ahead, once more with what they add */
        int32_t token = ahead->token[i], at = *slot_of(a, token);
        int     generated = at < 0 ? 0 : a->seen[at].generated;
        for (int j = 0; j < ahead->n; j++) generated += ahead->token[j] == token;
        out[token] = penalised(&a->o, logits[token] + bias_of(a, token), generated);
    }
}
