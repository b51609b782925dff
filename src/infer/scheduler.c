/* Who gets rows in the next batch, and pages for them.
 *
 * Age decides: sequences are served oldest first, and one that needs a page takes it, if it must, from the youngest, which
 * goes back to waiting and is computed again later with the same result.  So the oldest always moves on. */
#include "inner.h"

/* ---- lists ---- */
void waiting_insert(Engine *g, Seq *s)
{
    Seq **at = &g->waiting;
    while (*at && (*at)->id < s->id) at = &(*at)->next;
    s->next = *at;
    *at = s;
    s->state = SEQ_WAITING;
}

static void waiting_remove(Engine *g, const Seq *s)
{
    for (Seq **at = &g->waiting; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            return;
        }
}

void active_insert(Engine *g, Seq *s)
{
    int i = g->n_active++;
    for (; i > 0 && g->active[i - 1]->id > s->id; i--) g->active[i] = g->active[i - 1];
    g->active[i] = s;
    s->state = SEQ_PREFILL;
}

static void active_remove(Engine *g, const Seq *s)
{
    for (int i = 0; i < g->n_active; i++)
        if (g->active[i] == s) {
            memmove(&g->active[i], &g->active[i + 1], (size_t)(g->n_active - i - 1) * sizeof *g->active);
            g->n_active--;
            return;
        }
}

/* ---- pages of a sequence ---- */
static void drop_pages(Engine *g, Seq *s)
{
    /* the last first: of pages that nobody holds the oldest go first, and a page is of no use without those before it */
    while (s->n_page > 0) kvcache_drop(g->kv, s->page[--s->n_page]);
    s->computed = s->n_shared = s->rows = 0;
    s->draft = -1;
    s->chain = kvcache_root(g->kv);
}

void seq_detach(Engine *g, Seq *s)
{
    if (s->state == SEQ_WAITING)
        waiting_remove(g, s);
    else
        active_remove(g, s);
    drop_pages(g, s);
}

void seq_register(Engine *g, Seq *s)
{
    if (s->no_cache) return;
    for (; (s->n_shared + 1) * KV_PAGE <= s->computed; s->n_shared++) {
        int32_t *page = &s->page[s->n_shared];
        *page = kvcache_add(g->kv, &s->chain, s->token + s->n_shared * KV_PAGE, *page);
    }
}

static void count_cached(Engine *g, Seq *s, int n)
{
    s->computed += n;
    if (s->n_tokens > s->n_prompt) return; /* computed before, and preempted */
    s->cached += n;
    g->stats.cached_tokens += n;
}

/* Takes over what is already known of the tokens ahead; at least the last one is left to compute. */
static void extend_from_cache(Engine *g, Seq *s)
{
    if (s->no_cache || s->prompt_logp || s->n_shared != s->n_page || s->computed != s->n_page * KV_PAGE) return;
    while (s->computed + KV_PAGE < s->n_tokens) {
        int32_t id = kvcache_find(g->kv, &s->chain, s->token + s->computed);
        if (id < 0) return;
        s->page[s->n_page++] = id;
        s->n_shared++;
        count_cached(g, s, KV_PAGE);
    }
}

/* How many tokens that s computes next, up to the end of a page, are the same in o, everything before being the same too, and
 * known to o after `known` positions. */
static int common_tokens(const Engine *g, const Seq *s, const Seq *o, int known)
{
    uint64_t epoch = kvcache_root(g->kv).epoch;
    int      n = 0, at = s->computed, max = KV_PAGE - at % KV_PAGE;
    if (max > s->n_tokens - 1 - at) max = s->n_tokens - 1 - at;
    if (max > known - at) max = known - at;
    if (o == s || o->no_cache || s->no_cache || s->prompt_logp || o->chain.epoch != epoch || s->chain.epoch != epoch) return 0;
    if (max <= 0 || memcmp(o->token, s->token, (size_t)at * sizeof *s->token) != 0) return 0;
    while (n < max && o->token[at + n] == s->token[at + n]) n++;
    return n;
}

/* Copies the beginning of a page from a sequence that runs now: samples of one prompt share more than full pages. */
static void borrow(Engine *g, Seq *s)
{
    const Seq *from = NULL;
    int        most = 0, at = s->computed / KV_PAGE;
    for (int i = 0; i < g->n_active; i++) {
        int n = common_tokens(g, s, g->active[i], g->active[i]->computed);
        if (n > most) {
            most = n;
            from = g->active[i];
        }
    }
    if (!from) return;
    if (at == s->n_page) {
        int32_t id = kvcache_take(g->kv);
        if (id < 0) return;
        s->page[s->n_page++] = id;
    }
    kvcache_copy(g->kv, s->page[at], from->page[at]);
    count_cached(g, s, most);
}

/* Whether an older sequence computes, in this step, at least half of the n tokens that s would: better to wait for them. */
static bool better_wait(const Engine *g, const Seq *s, int n)
{
    for (int i = 0; g->active[i] != s; i++) {
        const Seq *o = g->active[i];
        if (o->rows > 0 && 2 * common_tokens(g, s, o, o->computed + o->rows) >= (n < KV_PAGE ? n : KV_PAGE)) return true;
    }
    return false;
}

static void preempt(Engine *g, Seq *s)
{
    seq_detach(g, s);
    if (s->n_tokens == s->n_prompt) s->cached = 0;
    g->stats.preempted++;
    waiting_insert(g, s);
}

/* Pages for the first `positions` positions.  false: there are none, and, with `force`, s itself was sent back to wait. */
static bool reserve(Engine *g, Seq *s, int positions, bool force)
{
    while (s->n_page < pages_for(positions)) {
        int32_t id = kvcache_take(g->kv);
        if (id >= 0) {
            s->page[s->n_page++] = id;
        } else {
            Seq *youngest = g->active[g->n_active - 1];
            if (!force) return false;
            preempt(g, youngest);
            if (youngest == s) return false;
        }
    }
    return true;
}

/* ---- the plan ---- */
static void admit(Engine *g)
{
    while (g->waiting && g->n_active < g->o.seqs_max) {
        Seq *s = g->waiting;
        s->chain = kvcache_root(g->kv); /* the weights may have changed since */
        extend_from_cache(g, s);
        if (g->n_active > 0 && pages_for(s->n_tokens + 1) - s->n_page > kvcache_pages_free(g->kv)) {
            if (s->n_tokens == s->n_prompt) {
                g->stats.cached_tokens -= s->cached;
                s->cached = 0;
            }
            drop_pages(g, s);
            return;
        }
        g->waiting = s->next;
        active_insert(g, s);
    }
}

static void plan_rows(Engine *g, const Seq *only)
{
    int spare = g->o.batch_max;
    for (int i = 0; i < g->n_active; i++) {
        Seq *s = g->active[i];
        s->rows = s->drafts = 0;
        if (s->n_tokens - s->computed == 1 && !only) spare--; /* those that decode are always served */
    }
    for (int i = 0; i < g->n_active; i++) {
        Seq *s = g->active[i];
        int  rest = s->n_tokens - s->computed, n = rest;
        if (only && s != only) continue;
        if (rest > 1) {
            extend_from_cache(g, s);
            borrow(g, s);
            seq_register(g, s);
            n = s->n_tokens - s->computed;
            if (n > g->o.chunk) n = g->o.chunk;
            if (n > spare) n = spare;
            if (n < 1 || (n > 1 && better_wait(g, s, n))) continue;
            spare -= n;
        }
        if (reserve(g, s, s->computed + n, true)) s->rows = n;
    }
    for (int i = 0; i < g->n_active && spare > 0; i++) {
        Seq *s = g->active[i];
        if (s->rows == 0 || s->draft < 0 || s->n_tokens - s->computed != 1) continue;
        if (s->n_tokens + 1 >= s->n_prompt + s->max_new || !reserve(g, s, s->n_tokens + 1, false)) continue;
        s->rows = 2;
        s->drafts = 1;
        spare--;
    }
}

/* How many of the first rows are followed by a token of the prompt whose log-probability is wanted. */
static int echo_rows(const Seq *s)
{
    int n = s->n_prompt - 1 - s->computed;
    return !s->prompt_logp || n < 0 ? 0 : n < s->rows ? n : s->rows;
}

static void fill_rows(Engine *g, Seq *s, int slot)
{
    bool complete = s->computed + s->rows - s->drafts == s->n_tokens;
    s->row0 = g->n_rows;
    s->echo = echo_rows(s);
    s->want0 = g->n_want + s->echo;
    s->wants = s->score ? s->rows : complete ? 1 + s->drafts : 0;
    for (int i = 0; i < s->rows; i++) {
        int row = g->n_rows++, pos = s->computed + i;
        g->token[row] = pos < s->n_tokens ? s->token[pos] : s->draft;
        g->pos[row] = pos;
        g->seq[row] = slot;
        g->flags[row] = pos < s->n_prompt ? BATCH_PROMPT : BATCH_GENERATED;
        g->out[row] = i < s->echo || i >= s->rows - s->wants;
        if (!g->out[row]) continue;
        g->want[g->n_want++] = (Want){s, pos, -1, 0};
    }
}

void schedule(Engine *g, Seq *only)
{
    g->n_rows = g->n_want = g->n_batch = 0;
    if (!only) admit(g);
    plan_rows(g, only);
    for (int i = 0; i < g->n_active; i++) {
        Seq *s = g->active[i];
        if (s->rows == 0) continue;
        g->batch[g->n_batch] = s;
        g->table[g->n_batch] = s->page;
        fill_rows(g, s, g->n_batch++);
    }
}
