/* Texts under one model, or under two side by side: a batch of passages at a time goes through both, then a few rows of logits
 * of each are compared and forgotten. */
#include "judge.h"

#include <stdlib.h>

enum { ROWS_DEFAULT = 512, LOGIT_ROWS = 64 };

typedef struct Score {
    const TextOptions *o;
    const Model       *m[2]; /* the second may be NULL */
    Ctx                c[2];
    int                rows; /* of a batch, at most */
    int32_t           *token, *pos, *seq, *target; /* [rows]; target: of the rows that predict */
    uint8_t           *out;
    int                n_row, n_out; /* of the batch under way */
    Tensor             logits[2];
    Prediction         pred[LOGIT_ROWS];
    bool               bad[LOGIT_ROWS];
    double            *kl; /* [total] */
    int64_t            total;
    TextScore         *res;
} Score;

static void add_passage(Score *s, const Passage *p, int index)
{
    for (int i = 0; i + 1 < p->n; i++) { /* the last token predicts nothing */
        int r = s->n_row++;
        s->token[r] = p->token[i];
        s->pos[r] = i;
        s->seq[r] = index;
        s->out[r] = i + 1 >= p->from;
        if (s->out[r]) s->target[s->n_out++] = p->token[i + 1];
    }
}

/* The normed rows that predict: [n_out, D] */
static Tensor hidden(Score *s, Ctx *c, const Model *m)
{
    Batch b = {.n = s->n_row, .token = s->token, .pos = s->pos, .seq = s->seq, .out = s->out};
    return model_wanted(c, &b, model_final_norm(c, m, model_hidden(c, m, &b, NULL)));
}

static void compare_row(void *user, int i, int worker)
{
    Score *s = user;
    (void)worker;
    s->bad[i] = !prediction(tensor_row(s->logits[0], i), s->m[1] ? tensor_row(s->logits[1], i) : NULL, s->logits[0].cols, s->target[i], &s->pred[i]);
}

static int count_row(Score *s, int i, aha_error *e)
{
    TextScore        *r = s->res;
    const Prediction *p = &s->pred[i];
    if (s->bad[i]) return error_set(e, AHA_ERR_FORMAT, "prediction %lld: the logits hold no numbers: the weights are broken", (long long)r->tokens + 1);
    moments_add(&r->nll, p->nll);
    if (s->m[1]) {
        moments_add(&r->nll_base, p->nll_base);
        moments_add(&r->more, p->nll - p->nll_base);
        moments_add(&r->kl, p->kl);
        s->kl[r->tokens] = p->kl;
        r->same_top += p->same_top;
    }
    r->tokens++;
    return 0;
}

/* A batch through both models; on dry contexts it only counts. */
static int run_batch(Score *s, bool dry, aha_error *e)
{
    Tensor         x[2] = {{0}};
    const int32_t *target = s->target;
    int            rc = 0;
    for (int k = 0; k < 2 && s->m[k]; k++) {
        ctx_reset(&s->c[k]);
        x[k] = hidden(s, &s->c[k], s->m[k]);
    }
    for (int i = 0; i < s->n_out && !rc; i += LOGIT_ROWS, s->target += LOGIT_ROWS) {
        int    n = s->n_out - i < LOGIT_ROWS ? s->n_out - i : LOGIT_ROWS;
        size_t mark[2];
        for (int k = 0; k < 2 && s->m[k]; k++) {
            mark[k] = arena_mark(&s->c[k].arena);
            s->logits[k] = model_logits(&s->c[k], s->m[k], tensor_rows(x[k], i, n));
            if (ctx_failed(&s->c[k])) rc = error_set(e, s->c[k].err.code, "%s", s->c[k].err.text);
        }
        if (!rc && !dry) pool_run(s->o->pool, n, compare_row, s);
        for (int j = 0; j < n && !rc && !dry; j++) rc = count_row(s, j, e);
        for (int k = 0; k < 2 && s->m[k]; k++) arena_reset(&s->c[k].arena, mark[k]);
    }
    s->target = (int32_t *)(uintptr_t)target;
    s->n_row = s->n_out = 0;
    return rc;
}

/* Contexts for a batch of so many rows, by a dry run. */
static int size_contexts(Score *s, aha_error *e)
{
    int rc;
    for (int i = 0; i < s->rows; i++) {
        s->token[i] = s->seq[i] = 0;
        s->pos[i] = i;
        s->out[i] = 1;
    }
    for (int k = 0; k < 2 && s->m[k]; k++) {
        ctx_init_dry(&s->c[k], s->o->k, pool_threads(s->o->pool));
        s->c[k].act_q8 = s->m[k]->act_q8;
    }
    s->n_row = s->n_out = s->rows;
    rc = run_batch(s, true, e);
    for (int k = 0; k < 2 && s->m[k]; k++) {
        Ctx dry = s->c[k];
        s->c[k] = (Ctx){0};
        /* many short passages need a few more spans and items than one long one */
        if (!rc) rc = ctx_init(&s->c[k], s->o->k, s->o->pool, dry.arena.peak + dry.arena.peak / 16 + ((size_t)s->rows << 10), dry.scratch_peak, e);
        s->c[k].act_q8 = dry.act_q8;
    }
    if (!rc) s->c[0].observer = s->o->observer;
    return rc;
}

static int check(Score *s, const Passage *p, int n, aha_error *e)
{
    int V = s->m[0]->cfg.vocab, max_pos = s->m[0]->cfg.max_pos;
    if (s->m[1] && s->m[1]->cfg.vocab != V)
        return error_set(e, AHA_ERR_ARG, "the model has a vocabulary of %d, the base one of %d: their predictions cannot be compared", V, s->m[1]->cfg.vocab);
    for (int i = 0; i < n; i++) {
        if (p[i].from < 1 || p[i].from > p[i].n || p[i].n > max_pos)
            return error_set(e, AHA_ERR_ARG, "passage %d of %d tokens, predicted from %d on, expected at most %d tokens", i, p[i].n, p[i].from, max_pos);
        for (int t = 0; t < p[i].n; t++)
            if (p[i].token[t] < 0 || p[i].token[t] >= V)
                return error_set(e, AHA_ERR_ARG, "token %d of passage %d is %d, expected 0..%d", t, i, p[i].token[t], V - 1);
        s->total += p[i].n - p[i].from;
        if (p[i].n - 1 > s->rows) s->rows = p[i].n - 1;
    }
    return s->total ? 0 : error_set(e, AHA_ERR_ARG, "the text holds no token to predict: at least two are expected");
}

static int start(Score *s, aha_error *e)
{
    size_t n = (size_t)s->rows;
    s->token = mem_alloc(n * sizeof *s->token);
    s->pos = mem_alloc(n * sizeof *s->pos);
    s->seq = mem_alloc(n * sizeof *s->seq);
    s->target = mem_zalloc(n, sizeof *s->target);
    s->out = mem_alloc(n);
    s->kl = s->m[1] ? mem_zalloc((size_t)s->total, sizeof *s->kl) : NULL;
    if (!s->token || !s->pos || !s->seq || !s->target || !s->out || (s->m[1] && !s->kl))
        return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %lld predictions", (long long)s->total);
    return size_contexts(s, e);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void finish(Score *s)
{
    if (!s->m[1]) return;
    qsort(s->kl, (size_t)s->total, sizeof *s->kl, ascending);
    s->res->kl_median = quantile_sorted(s->kl, s->total, 0.5);
    s->res->kl_99 = quantile_sorted(s->kl, s->total, 0.99);
    s->res->kl_999 = quantile_sorted(s->kl, s->total, 0.999);
    s->res->kl_max = quantile_sorted(s->kl, s->total, 1);
}

static int batch_done(Score *s, aha_error *e)
{
    int rc = s->n_out ? run_batch(s, false, e) : 0;
    s->n_row = s->n_out = 0;
    if (!rc && s->o->progress && s->o->progress(s->o->user, s->res->tokens, s->total, s->res)) rc = error_set(e, AHA_ERR_CANCELLED, "interrupted");
    return rc;
}

int text_score(TextScore *out, const Model *m, const Model *base, const Passage *p, int n, const TextOptions *o, aha_error *e)
{
    Score s = {.o = o, .m = {m, base}, .rows = o->rows > 0 ? o->rows : ROWS_DEFAULT, .res = out};
    memset(out, 0, sizeof *out);
    int rc = check(&s, p, n, e);
    if (!rc) rc = start(&s, e);
    for (int i = 0; i < n && !rc; i++) {
        if (s.n_row + p[i].n - 1 > s.rows) rc = batch_done(&s, e);
        if (!rc) add_passage(&s, &p[i], i);
    }
    if (!rc) rc = batch_done(&s, e);
    if (!rc) finish(&s);
    for (int k = 0; k < 2 && s.m[k]; k++) ctx_free(&s.c[k]);
    mem_free(s.token);
    mem_free(s.pos);
    mem_free(s.seq);
    mem_free(s.target);
    mem_free(s.out);
    mem_free(s.kl);
    return rc;
}
