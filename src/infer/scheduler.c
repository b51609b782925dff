/* Who gets rows in the next batch.
 *
 * A sequence that decodes has a row in every step.  Prompts share what is left, chunk by chunk: the next is of the group that has
 * had the fewest rows.  While anybody decodes, prompts have at most one chunk of rows together, however many they are, so that
 * nobody waits longer than that for a next token. */
#include "inner.h"

void seq_register(Engine *g, Seq *s)
{
    if (s->no_cache) return;
    for (; (s->n_shared + 1) * KV_PAGE <= s->computed; s->n_shared++) {
        int32_t *page = &s->page[s->n_shared];
        *page = kvcache_add(g->kv, &s->chain, s->token + s->n_shared * KV_PAGE, *page);
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
    seq_count_cached(g, s, most);
}

/* Whether another one computes, in this step, at least half of the n tokens that s would: better to wait for it. */
static bool better_wait(const Engine *g, const Seq *s, int n)
{
    for (int i = 0; i < g->n_active; i++) {
        const Seq *o = g->active[i];
        if (o->rows > 0 && 2 * common_tokens(g, s, o, o->computed + o->rows) >= (n < KV_PAGE ? n : KV_PAGE)) return true;
    }
    return false;
}

/* ---- the plan ---- */
static int rest(const Seq *s) { return s->n_tokens - s->computed; }

/* Every sequence that decodes has its row.  Returns how many there are. */
static int plan_decoding(Engine *g)
{
    int n = 0;
    for (int i = 0; i < g->n_active;) {
        Seq *s = g->active[i];
        int  before = g->n_active;
        i++;
        if (s->planned || s->state != SEQ_DECODING) continue;
        s->planned = true;
        n++;
        if (seq_reserve(g, s, s->n_tokens, true)) s->rows = 1;
        if (g->n_active != before) i = 0; /* some were sent back */
    }
    return n;
}

/* Groups that begin to ask for rows start where the others are: nobody saves up, nobody pays for what was long ago. */
static void groups_begin(Engine *g)
{
    for (int i = 0; i < g->n_active; i++) {
        Group *p = g->active[i]->group;
        if (g->active[i]->planned || p->seen == g->round) continue;
        if (p->seen + 1 != g->round && p->pass < g->clock) p->pass = g->clock;
        p->seen = g->round;
    }
}

/* The oldest of the group that has had the fewest rows. */
static Seq *next_prompt(const Engine *g)
{
    Seq *best = NULL;
    for (int i = 0; i < g->n_active; i++) {
        Seq *s = g->active[i];
        if (!s->planned && (!best || s->group->pass < best->group->pass)) best = s;
    }
    return best;
}

/* Chunks of prompts, `room` rows of them together. */
static void plan_prompts(Engine *g, int room)
{
    Seq *s;
    groups_begin(g);
    while (room > 0 && (s = next_prompt(g))) {
        int n;
        s->planned = true;
        seq_extend(g, s);
        borrow(g, s);
        seq_register(g, s);
        n = rest(s);
        if (n > g->o.chunk) n = g->o.chunk;
        if (n > room) n = room;
        if ((n > 1 && better_wait(g, s, n)) || !seq_reserve(g, s, s->computed + n, true)) continue;
        s->rows = n;
        room -= n;
        g->clock = s->group->pass > g->clock ? s->group->pass : g->clock;
        s->group->pass += (uint64_t)n;
    }
}

/* Guesses take what rows are left. */
static void plan_guesses(Engine *g, int room)
{
    for (int i = 0; i < g->n_active && room > 0; i++) {
        Seq *s = g->active[i];
        if (s->rows != 1 || s->draft < 0 || rest(s) != 1) continue;
        if (s->n_tokens + 1 >= s->n_prompt + s->max_new || !seq_reserve(g, s, s->n_tokens + 1, false)) continue;
        s->rows = 2;
        s->drafts = 1;
        room--;
    }
}

static void plan_rows(Engine *g)
{
    int decoding, room = g->o.batch_max;
    for (int i = 0; i < g->n_active; i++) {
        g->active[i]->rows = g->active[i]->drafts = 0;
        g->active[i]->planned = false;
    }
    decoding = plan_decoding(g);
    room -= decoding;
    plan_prompts(g, decoding && room > g->o.chunk ? g->o.chunk : room);
    room = g->o.batch_max;
    for (int i = 0; i < g->n_active; i++) room -= g->active[i]->rows;
    plan_guesses(g, room);
}

static void plan_only(Engine *g, Seq *s)
{
    int n = rest(s) < g->o.chunk ? rest(s) : g->o.chunk;
    for (int i = 0; i < g->n_active; i++) g->active[i]->rows = g->active[i]->drafts = 0;
    if (n > g->o.batch_max) n = g->o.batch_max;
    if (seq_reserve(g, s, s->computed + n, true)) s->rows = n;
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
    g->round++;
    if (only) {
        plan_only(g, only);
    } else {
        admit(g);
        plan_rows(g);
    }
    for (int i = 0; i < g->n_active; i++) {
        Seq *s = g->active[i];
        if (s->rows == 0) continue;
        g->batch[g->n_batch] = s;
        g->table[g->n_batch] = s->page;
        fill_rows(g, s, g->n_batch++);
    }
}
