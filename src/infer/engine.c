/* The engine: sequences in, batches through the model, tokens out. */
#include "inner.h"

/* ---- birth and death ---- */
static int option(int *o, int def, int max, const char *what, aha_error *e)
{
    if (*o < 0 || *o > max) return error_set(e, AHA_ERR_ARG, "engine: %s is %d, expected 1 to %d or 0 for the default", what, *o, max);
    if (*o == 0) *o = def < max ? def : max;
    return 0;
}

static int default_pages(const Engine *g)
{
    uint64_t all = (uint64_t)g->o.seqs_max * (uint64_t)pages_for(g->o.ctx_max);
    uint64_t fit = os_memory_total() / 2 / (uint64_t)g->m->kv_shape.page_bytes;
    uint64_t n = all < fit ? all : fit;
    return n < 1 ? 1 : n > INT32_MAX ? INT32_MAX : (int)n;
}

static int fill_options(Engine *g, const EngineOptions *o, aha_error *e)
{
    int rc;
    if (o) g->o = *o;
    if ((rc = option(&g->o.batch_max, 512, 1 << 16, "batch_max", e)) != 0) return rc;
    if ((rc = option(&g->o.chunk, 128, 1 << 16, "chunk", e)) != 0) return rc;
    if ((rc = option(&g->o.seqs_max, 64, 1 << 16, "seqs_max", e)) != 0) return rc;
    if ((rc = option(&g->o.ctx_max, 4096, g->m->cfg.max_pos, "ctx_max", e)) != 0) return rc;
    if (g->o.seqs_max > g->o.batch_max) g->o.seqs_max = g->o.batch_max;
    if ((rc = option(&g->o.pages, default_pages(g), INT32_MAX, "pages", e)) != 0) return rc;
    if (g->m->cfg.n_mtp == 0) g->o.draft = false;
    return 0;
}

static int32_t *ints(int n) { return mem_zalloc((size_t)n, sizeof(int32_t)); }

static int allocate_batch(Engine *g, int threads, aha_error *e)
{
    int n = g->o.batch_max, s = g->o.seqs_max + 1;
    g->token = ints(n);
    g->pos = ints(n);
    g->seq = ints(n);
    g->out = mem_zalloc((size_t)n, 1);
    g->flags = mem_zalloc((size_t)n, 1);
    g->want_row = ints(n);
    g->dtoken = ints(n);
    g->dpos = ints(n);
    g->dseq = ints(n);
    g->drow = ints(n);
    g->want = mem_zalloc((size_t)n, sizeof *g->want);
    g->active = mem_zalloc((size_t)s, sizeof *g->active);
    g->batch = mem_zalloc((size_t)s, sizeof *g->batch);
    g->table = mem_zalloc((size_t)s, sizeof *g->table);
    if (!size_mul((size_t)threads * sizeof(real), (size_t)g->m->cfg.vocab + 1, &g->scratch_bytes))
        return error_set(e, AHA_ERR_LIMIT, "engine: memory for sampling does not fit into an address");
    g->scratch = mem_pages(g->scratch_bytes);
    if (g->token && g->pos && g->seq && g->out && g->flags && g->want_row && g->dtoken && g->dpos && g->dseq && g->drow && g->want &&
        g->active && g->batch && g->table && g->scratch)
        return 0;
    return error_set(e, AHA_ERR_NOMEM, "engine: no memory for batches of %d rows", n);
}

/* Memory is what a dry run over the worst batch needs, to the byte. */
static int run_dry(Engine *g, Ctx *dry, int threads, aha_error *e)
{
    ctx_init_dry(dry, g->k, threads);
    dry->kv_type = g->m->kv_shape.type;
    dry->act_q8 = g->m->act_q8;
    forward_worst_case(g);
    forward(g, dry);
    return ctx_failed(dry) ? error_set(e, dry->err.code, "%s", dry->err.text) : 0;
}

static int allocate_ctx(Engine *g, aha_error *e)
{
    Ctx dry;
    int rc = run_dry(g, &dry, pool_threads(g->pool), e);
    return rc ? rc : ctx_init_like(&g->ctx, &dry, g->pool, e);
}

static Engine *begin(const Model *m, const Kernels *k, Pool *pool, aha_error *e)
{
    Engine *g = mem_zalloc(1, sizeof *g);
    if (!g) {
        error_set(e, AHA_ERR_NOMEM, "no memory for an engine");
        return NULL;
    }
    g->m = m;
    g->k = k;
    g->pool = pool;
    g->next_id = 1;
    return g;
}

int engine_new(Engine **out, const Model *m, const Kernels *k, Pool *pool, const EngineOptions *o, aha_error *e)
{
    Engine *g = begin(m, k, pool, e);
    int     rc;
    *out = NULL;
    if (!g) return AHA_ERR_NOMEM;
    rc = fill_options(g, o, e);
    if (rc == 0) rc = allocate_batch(g, pool_threads(pool), e);
    if (rc == 0) rc = kvcache_new(&g->kv, m, g->o.pages, e);
    if (rc == 0) rc = allocate_ctx(g, e);
    if (rc) {
        engine_free(g);
        return rc;
    }
    model_settle(m, SETTLE_MIN);
    *out = g;
    return 0;
}

/* ---- memory ---- */
static size_t batch_bytes(const Engine *g)
{
    size_t n = (size_t)g->o.batch_max, s = (size_t)g->o.seqs_max + 1;
    return n * (8 * sizeof *g->token + sizeof *g->want) + s * (sizeof *g->active + sizeof *g->batch + sizeof *g->table);
}

EngineMemory engine_memory(const Engine *g)
{
    return (EngineMemory){kvcache_held(g->kv), g->ctx.arena.cap,
                          g->ctx.scratch_bytes * (size_t)pool_threads(g->pool) + g->scratch_bytes, batch_bytes(g)};
}

int engine_plan(EngineMemory *out, const Model *m, const Kernels *k, int threads, const EngineOptions *o, aha_error *e)
{
    Engine *g = begin(m, k, NULL, e);
    Ctx     dry;
    size_t  scratch;
    int     rc;
    memset(out, 0, sizeof *out);
    if (!g) return AHA_ERR_NOMEM;
    rc = fill_options(g, o, e);
    if (rc == 0) rc = allocate_batch(g, threads, e);
    if (rc == 0) rc = kvcache_new_dry(&g->kv, m, g->o.pages, e);
    if (rc == 0) rc = run_dry(g, &dry, threads, e);
    if (rc == 0) {
        scratch = ctx_like_scratch(&dry) * (size_t)threads;
        *out = (EngineMemory){kvcache_memory(m, g->o.pages), ctx_like_arena(&dry), scratch + g->scratch_bytes, batch_bytes(g)};
    }
    engine_free(g);
    return rc;
}

static void finish(Engine *g, Seq *s, SeqFinish why);

void engine_free(Engine *g)
{
    if (!g) return;
    g->stepping = true; /* callbacks may not step an engine that goes away */
    while (g->n_active > 0) finish(g, g->active[0], SEQ_FINISH_CANCELLED);
    while (g->waiting) finish(g, g->waiting, SEQ_FINISH_CANCELLED);
    ctx_free(&g->ctx);
    kvcache_free(g->kv);
    if (g->scratch) mem_pages_free(g->scratch, g->scratch_bytes);
    void *block[] = {g->token, g->pos, g->seq, g->out, g->flags, g->want_row, g->dtoken, g->dpos, g->dseq, g->drow, g->want, g->active,
                     g->batch, (void *)g->table, g};
    for (size_t i = 0; i < ARRAY_LEN(block); i++) mem_free(block[i]);
}

/* ---- sequences ---- */
static void seq_delete(Seq *s)
{
    mem_free(s->token);
    mem_free(s->page);
    mem_free(s->stop);
    mem_free(s->logp);
    mem_free(s->top);
    mem_free(s->prompt_logp);
    mem_free(s->prompt_top);
    mem_free(s->forced);
    mem_free(s->think_end);
    adjust_free(&s->adjust);
    mem_free(s);
}

static Seq *seq_new(Engine *g, const int32_t *prompt, int n_prompt, int max_new, aha_error *e)
{
    Seq *s = mem_zalloc(1, sizeof *s);
    int  all = n_prompt + max_new;
    if (s) {
        s->token = ints(all);
        s->page = ints(pages_for(all));
    }
    if (!s || !s->token || !s->page) {
        if (s) seq_delete(s);
        error_set(e, AHA_ERR_NOMEM, "no memory for a sequence of %d tokens", all);
        return NULL;
    }
    memcpy(s->token, prompt, (size_t)n_prompt * sizeof *prompt);
    s->g = g;
    s->n_prompt = s->n_tokens = n_prompt;
    s->max_new = max_new;
    s->chain = kvcache_root(g->kv);
    s->draft = s->stop_token = -1;
    return s;
}

int engine_submit(Engine *g, const SeqRequest *r, Seq **out, aha_error *e)
{
    Seq *s;
    int  rc;
    *out = NULL;
    if ((rc = request_check(g, r, e)) != 0) return rc;
    if (!(s = seq_new(g, r->prompt, r->n_prompt, r->max_new, e))) return AHA_ERR_NOMEM;
    s->stop = ints(r->n_stop);
    rc = s->stop ? request_take(s, r, e) : error_set(e, AHA_ERR_NOMEM, "no memory for a sequence of %d new tokens", r->max_new);
    if (rc == 0 && !(s->group = group_join(g, r->group))) rc = error_set(e, AHA_ERR_NOMEM, "no memory for a group of sequences");
    if (rc) {
        seq_delete(s);
        return rc;
    }
    if (r->n_stop) memcpy(s->stop, r->stop, (size_t)r->n_stop * sizeof *s->stop);
    s->n_stop = r->n_stop;
    s->sample = r->sample;
    s->repeat_min = r->repeat_min;
    s->no_cache = r->no_cache;
    s->on_token = r->on_token;
    s->on_done = r->on_done;
    s->user = r->user;
    s->id = g->next_id++;
    waiting_insert(g, s);
    *out = s;
    return 0;
}

static void finish(Engine *g, Seq *s, SeqFinish why)
{
    if (s->computed > s->n_tokens) s->computed = s->n_tokens; /* a guess that held, after the end */
    if (why != SEQ_FINISH_ERROR) seq_register(g, s);
    seq_detach(g, s);
    group_leave(g, s->group);
    s->group = NULL;
    s->state = SEQ_DONE;
    s->finish = why;
    if (s->orphan)
        seq_delete(s);
    else if (s->on_done)
        s->on_done(s->user, s); /* may free s */
}

void engine_cancel(Engine *g, Seq *s)
{
    if (s->state == SEQ_DONE) return;
    s->cancelled = true;
    if (!g->stepping) finish(g, s, SEQ_FINISH_CANCELLED);
}

void seq_free(Seq *s)
{
    if (!s) return;
    if (s->state == SEQ_DONE) {
        seq_delete(s);
        return;
    }
    s->orphan = true; /* nobody listens any more */
    s->on_token = NULL;
    engine_cancel(s->g, s);
}

/* ---- a step ---- */
bool seq_stops(const Seq *s, int32_t token)
{
    for (int i = 0; i < s->n_stop; i++)
        if (s->stop[i] == token) return true;
    return false;
}

/* What follows from a new token beside the token itself. */
static void take_token(Seq *s, int32_t token)
{
    const Ahead none = {.n = 0};
    int         n = s->n_tokens - s->n_prompt;
    if (s->forced) s->forced[n] = think_forced(&s->think, &none) >= 0;
    s->token[s->n_tokens++] = token;
    think_take(&s->think, token);
    adjust_take(&s->adjust, token);
}

/* Whether s goes round in circles; looked for now and then. */
static bool repeats(Seq *s)
{
    int            n;
    const int32_t *token = seq_tokens(s, &n);
    if (!s->repeat_min || n % REPEAT_EVERY || !(s->repeat_period = repeat_period(token, n, s->repeat_min))) return false;
    s->repeat_tokens = repeat_length(token, n, s->repeat_period);
    return true;
}

/* One more token of s; false: s is done. */
static bool append(Engine *g, Seq *s, const Want *w)
{
    int n = s->n_tokens - s->n_prompt;
    if (w->token < 0) {
        log_msg(LOG_ERROR, "no logit at position %d is a finite number: the weights or the cache are broken", w->pos);
        finish(g, s, SEQ_FINISH_ERROR);
        return false;
    }
    if (s->logp) s->logp[n] = w->logp;
    if (seq_stops(s, w->token)) {
        s->stop_token = w->token;
        finish(g, s, SEQ_FINISH_STOP);
        return false;
    }
    take_token(s, w->token);
    s->state = SEQ_DECODING;
    g->stats.new_tokens++;
    if (s->on_token) s->on_token(s->user, s, w->token, (float)w->logp);
    if (s->cancelled) {
        finish(g, s, SEQ_FINISH_CANCELLED);
        return false;
    }
    if (repeats(s)) {
        finish(g, s, SEQ_FINISH_REPEAT);
        return false;
    }
    if (n + 1 < s->max_new) return true;
    finish(g, s, SEQ_FINISH_LENGTH);
    return false;
}

/* What the batch gave to one sequence. */
static void settle(Engine *g, Seq *s)
{
    int wants = s->wants;
    s->wants = 0;
    for (int i = 0; i < s->rows && !s->score; i++) g->stats.prompt_tokens += (g->flags[s->row0 + i] & BATCH_PROMPT) != 0;
    s->computed += s->rows;
    if (s->cancelled) {
        finish(g, s, SEQ_FINISH_CANCELLED);
    } else if (s->score) {
        if (s->computed == s->n_tokens) finish(g, s, SEQ_FINISH_LENGTH);
    } else {
        for (int i = 0; i < wants; i++)
            if (!append(g, s, &g->want[s->want0 + i])) return;
        seq_register(g, s);
    }
}

static void finish_cancelled(Engine *g)
{
    for (int i = 0; i < g->n_active;) {
        Seq *s = g->active[i++];
        if (!s->cancelled) continue;
        finish(g, s, SEQ_FINISH_CANCELLED);
        i = 0; /* on_done may have cancelled others */
    }
    for (Seq *s = g->waiting; s;) {
        Seq *next = s->next;
        if (s->cancelled) {
            finish(g, s, SEQ_FINISH_CANCELLED);
            next = g->waiting;
        }
        s = next;
    }
}

static int unfinished(const Engine *g)
{
    int n = g->n_active;
    for (const Seq *s = g->waiting; s; s = s->next) n++;
    return n;
}

static int step(Engine *g, Seq *only, aha_error *e)
{
    int rc = 0;
    g->stepping = true;
    schedule(g, only);
    g->stats.steps += g->n_rows > 0;
    g->stats.rows += g->n_rows;
    ctx_reset(&g->ctx);
    if (g->n_rows > 0) forward(g, &g->ctx);
    if (ctx_failed(&g->ctx)) rc = error_set(e, g->ctx.err.code, "%s", g->ctx.err.text);
    for (int i = 0; i < g->n_batch; i++) {
        if (rc)
            finish(g, g->batch[i], SEQ_FINISH_ERROR);
        else
            settle(g, g->batch[i]);
    }
    finish_cancelled(g);
    if (!g->settled && g->n_batch > 0 && g->batch[0]->state != SEQ_PREFILL) { /* the first token is out */
        model_settle_go(g->m);
        g->settled = true;
    }
    g->stepping = false;
    return rc;
}

static int check_idle(const Engine *g, aha_error *e)
{
    return g->stepping ? error_set(e, AHA_ERR_STATE, "the engine cannot be stepped from one of its callbacks") : 0;
}

int engine_step(Engine *g, aha_error *e)
{
    int rc = check_idle(g, e);
    if (rc == 0) rc = step(g, NULL, e);
    return rc ? rc : unfinished(g);
}

int engine_run(Engine *g, aha_error *e)
{
    int rc;
    do rc = engine_step(g, e);
    while (rc > 0);
    return rc;
}

int engine_score(Engine *g, const int32_t *tokens, int n, float *logp, void (*row)(void *user, int i, const real *logits), void *user,
                 aha_error *e)
{
    Seq *s;
    int  rc = check_idle(g, e);
    if (rc == 0 && n < 1) rc = error_set(e, AHA_ERR_ARG, "a sequence of %d tokens to score, expected at least 1", n);
    if (rc == 0) rc = engine_check_length(g, n, 0, e);
    if (rc == 0) rc = engine_check_ids(g, tokens, n, "position", e);
    if (rc) return rc;
    if (!(s = seq_new(g, tokens, n, 0, e))) return AHA_ERR_NOMEM;
    s->score = s->no_cache = true;
    s->score_logp = logp;
    s->score_row = row;
    s->user = user;
    s->group = &g->own;
    g->own.n_seq++;
    active_insert(g, s); /* id 0: the oldest, so pages are found */
    while (rc == 0 && s->state != SEQ_DONE) rc = step(g, s, e);
    seq_delete(s);
    return rc;
}

void engine_weights_changed(Engine *g)
{
    kvcache_forget(g->kv);
}

/* ---- looking at a sequence ---- */
SeqState  seq_state(const Seq *s) { return s->state; }
SeqFinish seq_finish(const Seq *s) { return s->finish; }
const int32_t *seq_tokens(const Seq *s, int *n)
{
    *n = s->n_tokens - s->n_prompt;
    return s->token + s->n_prompt;
}
const float *seq_logp(const Seq *s) { return s->logp; }
const aha_token_logp *seq_top(const Seq *s, int i) { return s->top ? s->top + (size_t)i * (size_t)s->n_top : NULL; }
int  seq_n_top(const Seq *s) { return s->n_top; }
bool seq_forced(const Seq *s, int i) { return s->forced && i < s->n_tokens - s->n_prompt && s->forced[i]; }
int  seq_repeats(const Seq *s, int *tokens)
{
    *tokens = s->repeat_tokens;
    return s->repeat_period;
}
int seq_n_think(const Seq *s) { return s->think.all; }
int seq_stop_token(const Seq *s) { return s->stop_token; }
int seq_prompt_done(const Seq *s)
{
    bool all = s->n_tokens > s->n_prompt || s->computed > s->n_prompt || s->finish == SEQ_FINISH_STOP;
    return all ? s->n_prompt : s->computed;
}
int seq_prompt_cached(const Seq *s) { return s->cached; }
EngineStats engine_stats(const Engine *g) { return g->stats; }
