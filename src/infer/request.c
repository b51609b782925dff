/* A request at the border: what is refused, and what a sequence takes from it before its first step. */
#include "inner.h"

#include <math.h>

/* ---- what is refused ---- */
int engine_check_ids(const Engine *g, const int32_t *id, int n, const char *what, aha_error *e)
{
    for (int i = 0; i < n; i++)
        if (id[i] < 0 || id[i] >= g->m->cfg.vocab)
            return error_set(e, AHA_ERR_ARG, "%s %d is token %d, expected 0 to %d", what, i, id[i], g->m->cfg.vocab - 1);
    return 0;
}

int engine_check_length(const Engine *g, int n_prompt, int max_new, aha_error *e)
{
    int64_t all = (int64_t)n_prompt + max_new, fit = (int64_t)kvcache_pages_total(g->kv) * KV_PAGE;
    if (all > g->o.ctx_max)
        return error_set(e, AHA_ERR_LIMIT, "%d tokens of prompt and %d new ones, expected at most %d together (the context)", n_prompt,
                         max_new, g->o.ctx_max);
    if (all > fit)
        return error_set(e, AHA_ERR_LIMIT, "%d tokens of prompt and %d new ones, the key cache holds %lld", n_prompt, max_new,
                         (long long)fit);
    return 0;
}

static int check_sample(const SampleParams *p, aha_error *e)
{
    if (!(p->temperature >= 0) || !isfinite(p->temperature))
        return error_set(e, AHA_ERR_ARG, "temperature is %g, expected 0 or more", (double)p->temperature);
    if (!(p->top_p >= 0 && p->top_p <= 1) || (p->top_p == 0 && p->temperature > 0)) /* a zeroed one is greedy */
        return error_set(e, AHA_ERR_ARG, "top_p is %g, expected above 0, at most 1", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1)) return error_set(e, AHA_ERR_ARG, "min_p is %g, expected 0 to 1", (double)p->min_p);
    if (p->top_k < 0) return error_set(e, AHA_ERR_ARG, "top_k is %d, expected 0 or more", p->top_k);
    return 0;
}

static int check_think(const Engine *g, const SeqRequest *r, aha_error *e)
{
    bool closes = false;
    if (r->n_then < 0 || r->n_then > AHA_THINK_END_MAX || (r->n_then && !r->then))
        return error_set(e, AHA_ERR_ARG, "n_then is %d, expected 0 to %d", r->n_then, AHA_THINK_END_MAX);
    if (r->n_then && (!r->think || r->think->close < 0 || !r->think_open))
        return error_set(e, AHA_ERR_UNSUPPORTED, "then has %d tokens, but the prompt opens no thinking that can be closed", r->n_then);
    if (r->n_then && engine_check_ids(g, r->then, r->n_then, "then", e)) return e->code;
    if (!r->think) return 0;
    if (r->think_budget < -1) return error_set(e, AHA_ERR_ARG, "think_budget is %d, expected 0 or more, or -1 for none", r->think_budget);
    if (r->think_budget >= 0 && r->think->close < 0)
        return error_set(e, AHA_ERR_UNSUPPORTED, "think_budget is %d, but this model has no </think>", r->think_budget);
    if (!r->think_end) return 0;
    if (r->n_think_end < 1 || r->n_think_end > AHA_THINK_END_MAX)
        return error_set(e, AHA_ERR_ARG, "n_think_end is %d, expected 1 to %d", r->n_think_end, AHA_THINK_END_MAX);
    for (int i = 0; i < r->n_think_end; i++) closes |= r->think_end[i] == r->think->close;
    if (!closes && r->think_budget >= 0) return error_set(e, AHA_ERR_ARG, "think_end has no </think> among its %d tokens", r->n_think_end);
    return engine_check_ids(g, r->think_end, r->n_think_end, "think_end", e);
}

static int check_extras(const Engine *g, const SeqRequest *r, aha_error *e)
{
    int rc = adjust_check(&r->adjust, g->m->cfg.vocab, e);
    if (rc == 0 && (r->n_top < 0 || r->n_top > AHA_TOP_MAX))
        rc = error_set(e, AHA_ERR_ARG, "n_top is %d, expected 0 to %d", r->n_top, AHA_TOP_MAX);
    if (rc == 0 && r->repeat_min != 0 && (r->repeat_min < AHA_REPEAT_MIN || r->repeat_min > AHA_REPEAT_MAX))
        rc = error_set(e, AHA_ERR_ARG, "repeat_min is %d, expected %d to %d, or 0 for off", r->repeat_min, AHA_REPEAT_MIN, AHA_REPEAT_MAX);
    return rc ? rc : check_think(g, r, e);
}

int request_check(const Engine *g, const SeqRequest *r, aha_error *e)
{
    int rc;
    if (r->n_prompt < 1 || r->max_new < 1 || r->n_stop < 0 || r->n_stop > 1024)
        return error_set(e, AHA_ERR_ARG, "a sequence of %d prompt tokens, %d new ones and %d stop tokens, expected at least 1, 1 and 0 to 1024",
                         r->n_prompt, r->max_new, r->n_stop);
    rc = engine_check_length(g, r->n_prompt, r->max_new, e);
    if (rc == 0) rc = check_sample(&r->sample, e);
    if (rc == 0) rc = engine_check_ids(g, r->prompt, r->n_prompt, "prompt position", e);
    if (rc == 0) rc = engine_check_ids(g, r->stop, r->n_stop, "stop", e);
    return rc ? rc : check_extras(g, r, e);
}

/* ---- what is taken ---- */
static void take_think(Seq *s, const SeqRequest *r)
{
    if (!r->think) return;
    s->think = (Think){.on = r->think->close >= 0, .tags = *r->think, .open = r->think_open, .budget = r->think_budget};
    s->think.end = s->think_end;
    s->think.n_end = r->think_end ? r->n_think_end : r->think->n_end;
    memcpy(s->think_end, r->think_end ? r->think_end : r->think->end, (size_t)s->think.n_end * sizeof *s->think_end);
    if (r->n_then) {
        s->think.n_then = r->n_then;
        s->think.then = memcpy(s->think_end + s->think.n_end, r->then, (size_t)r->n_then * sizeof *r->then);
    }
    think_begin(&s->think);
}

int request_take(Seq *s, const SeqRequest *r, aha_error *e)
{
    size_t rows = (size_t)r->max_new + 1, prompt = (size_t)r->n_prompt;
    bool   logp = r->want_logp || r->n_top > 0, top = r->n_top > 0, leads = r->think && (r->think_budget >= 0 || r->n_then);
    int    rc = adjust_init(&s->adjust, &r->adjust, r->prompt, r->n_prompt, r->max_new, e);
    if (rc) return rc;
    s->n_top = r->n_top;
    if (logp) s->logp = mem_zalloc(rows, sizeof *s->logp);
    if (top) s->top = mem_zalloc(rows, (size_t)r->n_top * sizeof *s->top);
    if (r->want_prompt_logp) s->prompt_logp = mem_zalloc(prompt, sizeof *s->prompt_logp);
    if (r->want_prompt_logp && top) s->prompt_top = mem_zalloc(prompt, (size_t)r->n_top * sizeof *s->prompt_top);
    if (leads) s->forced = mem_zalloc(rows, sizeof *s->forced);
    if (r->think) s->think_end = mem_zalloc((size_t)(THINK_END_MAX + (r->think_end ? r->n_think_end : 0) + r->n_then), sizeof *s->think_end);
    if ((logp && !s->logp) || (top && !s->top) || (r->want_prompt_logp && !s->prompt_logp) || (leads && !s->forced) ||
        (r->want_prompt_logp && top && !s->prompt_top) || (r->think && !s->think_end))
        return error_set(e, AHA_ERR_NOMEM, "no memory for what is to be kept of %d new tokens", r->max_new);
    for (int i = 0; s->prompt_top && i < r->n_top; i++) s->prompt_top[i].token = -1;
    take_think(s, r);
    return 0;
}
