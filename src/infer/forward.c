/* The model over a planned batch: hidden states, the logits of the rows that want them, sampling, guesses of the draft layer.
 * The same function sizes the memory: on a dry context, over the batch that needs most. */
#include "inner.h"

void forward_worst_case(Engine *g)
{
    int n = g->o.batch_max, seqs = g->o.seqs_max;
    for (int i = 0; i < n; i++) { /* one row each, at the last position, and what is left in one sequence */
        int own = i < seqs - 1 ? i : seqs - 1;
        g->token[i] = g->dtoken[i] = 0;
        g->seq[i] = g->dseq[i] = own;
        g->pos[i] = g->dpos[i] = own < seqs - 1 || g->o.ctx_max < n - i ? g->o.ctx_max - 1 : g->o.ctx_max - (n - i);
        g->drow[i] = g->want_row[i] = i;
        g->out[i] = 1;
    }
    g->n_rows = g->n_want = g->n_drow = n;
    g->n_batch = 0;
}

/* ---- logits to tokens ---- */
typedef struct Pick {
    Engine *g;
    Tensor  logits;
    Want   *want;
    bool    drafting;
} Pick;

/* The tokens up to the row's own that its sequence does not have yet: the guess that it computes; for a guess of the draft
 * layer, what this step has given. */
static Ahead ahead_of(const Pick *p, const Want *w)
{
    const Seq *s = w->s;
    Ahead      a = {.n = w->pos + 1 - s->n_tokens};
    for (int i = 0; i < a.n; i++) a.token[i] = p->drafting ? p->g->want[s->want0 + i].token : s->draft;
    return a;
}

static int32_t choose(const Pick *p, const Want *w, const real *logits, int V, real *scratch)
{
    const Seq *s = w->s;
    Ahead      ahead = ahead_of(p, w);
    int32_t    token, forced = think_forced(&s->think, &ahead);
    if (s->adjust.on) {
        adjust_row(&s->adjust, &ahead, logits, V, scratch);
        logits = scratch;
    }
    token = sample_token(&p->g->ctx, logits, V, &s->sample, w->pos + 1, scratch, NULL);
    if (token >= 0 && forced >= 0) return forced;
    if (token >= 0 && s->think.n_then && seq_stops(s, token) && think_unled(&s->think, &ahead)) return s->think.tags.close; /* what must follow, does */
    return token;
}

static void keep_logp(Engine *g, Want *w, const real *x, int V)
{
    Seq *s = w->s;
    int  at = w->pos + 1, n = at - s->n_prompt;
    bool prompt = n < 0;
    aha_token_logp *top = prompt ? s->prompt_top : s->top;
    logprob_row(&g->ctx, x, V, w->token, &w->logp, NULL);
    if (prompt && s->prompt_logp) s->prompt_logp[at] = w->logp;
    if (top) top_tokens(&g->ctx, x, V, s->n_top, top + (size_t)(prompt ? at : n) * (size_t)s->n_top);
}

static void pick_row(void *arg, int row, int worker)
{
    const Pick *p = arg;
    Engine     *g = p->g;
    Want       *w = &p->want[row];
    int         V = p->logits.cols;
    bool        known = w->pos + 1 < w->s->n_tokens;
    const real *x = tensor_row(p->logits, row);
    if (known)
        w->token = w->s->token[w->pos + 1];
    else if (!w->s->score)
        w->token = choose(p, w, x, V, g->scratch + (size_t)worker * ((size_t)V + 1));
    if (w->token >= 0 && !p->drafting && (known || w->s->logp)) keep_logp(g, w, x, V);
}

static void pick(Engine *g, Tensor logits, Want *want, bool drafting)
{
    Pick p = {g, logits, want, drafting};
    pool_run(g->pool, logits.rows, pick_row, &p);
    for (int i = 0; i < logits.rows; i++) {
        Seq *s = want[i].s;
        if (!s->score) continue;
        if (s->score_logp && want[i].pos + 1 < s->n_tokens) s->score_logp[want[i].pos] = want[i].logp;
        if (s->score_row) s->score_row(s->user, want[i].pos, tensor_row(logits, i));
    }
}

/* The wanted rows of x, normed unless they are, to tokens: a few of them at a time. */
static void rows_to_tokens(Engine *g, Ctx *c, const Batch *b, Tensor x, bool normed)
{
    if (g->n_want == 0) return;
    x = model_wanted(c, b, x); /* [n_want, D] */
    if (!normed) x = model_final_norm(c, g->m, x);
    for (int i = 0; i < g->n_want; i += LOGIT_ROWS) {
        int    n = g->n_want - i < LOGIT_ROWS ? g->n_want - i : LOGIT_ROWS;
        size_t mark = arena_mark(&c->arena);
        Tensor t = model_logits(c, g->m, tensor_rows(x, i, n)); /* [n, V] */
        if (!ctx_failed(c) && !ctx_dry(c)) pick(g, t, g->want + i, false);
        arena_reset(&c->arena, mark);
    }
}

/* ---- the draft layer ---- */
/* A guess counts when it is what the model itself says; else its row is as if it had not been. */
static void settle_guesses(Engine *g)
{
    for (int b = 0; b < g->n_batch; b++) {
        Seq *s = g->batch[b];
        if (!s->drafts) continue;
        g->stats.drafted++;
        if (g->want[s->want0].token == s->draft) {
            g->stats.accepted++;
            continue;
        }
        s->rows--;
        s->wants--;
        s->drafts = 0;
    }
}

/* The rows whose next token is known by now; what is wanted is the last one of each sequence that decodes. */
static void plan_drafts(Engine *g)
{
    g->n_drow = g->n_want = 0;
    for (int b = 0; b < g->n_batch; b++) {
        const Seq *s = g->batch[b];
        bool       number = true;
        for (int i = 0; i < s->rows && !s->score; i++) {
            int     next = s->computed + i + 1, row = g->n_drow;
            int32_t token = next < s->n_tokens ? s->token[next] : g->want[s->want0 + next - s->n_tokens].token;
            number = token >= 0; /* else the sequence ends with an error */
            if (!number) break;
            g->dtoken[row] = token;
            g->dpos[row] = next - 1;
            g->dseq[row] = b;
            g->drow[row] = s->row0 + i;
            g->n_drow++;
        }
        if (!s->score && s->wants > 0 && number) g->want_row[g->n_want++] = g->n_drow - 1;
    }
}

static void draft(Engine *g, Ctx *c, Tensor normed)
{
    Batch b;
    Want  guess[LOGIT_ROWS];
    if (ctx_failed(c)) return;
    if (!ctx_dry(c)) {
        settle_guesses(g);
        plan_drafts(g);
    }
    if (g->n_drow == 0) return;
    b = (Batch){.n = g->n_drow, .token = g->dtoken, .pos = g->dpos, .seq = g->dseq,
                .hidden = gather(c, normed, g->drow, g->n_drow).data};
    normed = model_draft(c, g->m, &b, kvcache_kv(g->kv));
    for (int i = 0; i < g->n_want; i += LOGIT_ROWS) {
        int    n = g->n_want - i < LOGIT_ROWS ? g->n_want - i : LOGIT_ROWS;
        size_t mark = arena_mark(&c->arena);
        Tensor t = model_logits(c, g->m, gather(c, normed, g->want_row + i, n));
        for (int j = 0; j < n && !ctx_dry(c); j++) {
            int row = g->want_row[i + j];
            guess[j] = (Want){g->batch[g->dseq[row]], g->dpos[row] + 1, -1, 0};
        }
        if (!ctx_failed(c) && !ctx_dry(c)) pick(g, t, guess, true);
        for (int j = 0; j < n && !ctx_failed(c) && !ctx_dry(c); j++) guess[j].s->draft = guess[j].token;
        arena_reset(&c->arena, mark);
    }
}

void forward(Engine *g, Ctx *c)
{
    Kv    *kv = kvcache_kv(g->kv);
    Batch  b = {.n = g->n_rows, .token = g->token, .pos = g->pos, .seq = g->seq, .out = g->out, .flags = g->flags};
    Tensor x;
    kv->table = (const int32_t *const *)g->table;
    x = model_hidden(c, g->m, &b, kv);
    if (g->o.draft) x = model_final_norm(c, g->m, x); /* the draft layer takes every row's */
    rows_to_tokens(g, c, &b, x, g->o.draft);
    if (g->o.draft) draft(g, c, x);
}
