/* Who is active and who holds pages: admission, and sending back to wait.
 *
 * Slots and pages are shared between groups, within a group the oldest comes first.  The next to be admitted is of the group
 * with the fewest active sequences.  Where there is no slot or no page for it, the group that has most gives one up, the
 * youngest of its sequences, as long as it keeps at least as much as the other gets: so nobody takes turns.  What was sent back
 * is computed again later with the same result, from the cache as far as its pages are still there.
 *
 * The oldest of all active ones is never sent back, so something always moves on. */
#include "inner.h"

enum { TRIES_MAX = 8 }; /* sequences that find no pages in a round before the others must wait too */

/* ---- groups ---- */
Group *group_join(Engine *g, uint64_t key)
{
    Group *p = g->groups;
    while (p && p->key != key) p = p->next;
    if (!p) {
        if (!(p = mem_zalloc(1, sizeof *p))) return NULL;
        p->key = key;
        p->next = g->groups;
        g->groups = p;
    }
    p->n_seq++;
    return p;
}

void group_leave(Engine *g, Group *group)
{
    if (--group->n_seq > 0 || group == &g->own) return;
    for (Group **at = &g->groups; *at; at = &(*at)->next)
        if (*at == group) {
            *at = group->next;
            break;
        }
    mem_free(group);
}

/* Fills n_page of all groups that have active sequences. */
static void group_pages(Engine *g)
{
    for (int i = 0; i < g->n_active; i++) g->active[i]->group->n_page = 0;
    for (int i = 0; i < g->n_active; i++) g->active[i]->group->n_page += g->active[i]->n_page;
}

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
    s->group->n_active++;
    s->state = SEQ_PREFILL;
}

static void active_remove(Engine *g, const Seq *s)
{
    for (int i = 0; i < g->n_active; i++)
        if (g->active[i] == s) {
            memmove(&g->active[i], &g->active[i + 1], (size_t)(g->n_active - i - 1) * sizeof *g->active);
            g->n_active--;
            s->group->n_active--;
            return;
        }
}

/* ---- pages of a sequence ---- */
static void drop_pages(Engine *g, Seq *s)
{
    /* the last first: of pages that nobody holds the oldest go first, and a page is of no use without those before it */
    while (s->n_page > 0) kvcache_drop(g->kv, s->page[--s->n_page]);
    s->computed = s->n_shared = s->rows = s->ahead = 0;
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

void seq_count_cached(Engine *g, Seq *s, int n)
{
    s->computed += n;
    if (s->n_tokens > s->n_prompt) return; /* computed before, and preempted */
    s->cached += n;
    g->stats.cached_tokens += n;
}

/* At least the last token is left to compute. */
void seq_extend(Engine *g, Seq *s)
{
    if (s->no_cache || s->prompt_logp || s->n_shared != s->n_page || s->computed != s->n_page * KV_PAGE) return;
    while (s->computed + KV_PAGE < s->n_tokens) {
        int32_t id = kvcache_find(g->kv, &s->chain, s->token + s->computed);
        if (id < 0) return;
        s->page[s->n_page++] = id;
        s->n_shared++;
        seq_count_cached(g, s, KV_PAGE);
    }
}

/* ---- sending back to wait ---- */
static void preempt(Engine *g, Seq *s)
{
    seq_detach(g, s);
    if (s->n_tokens == s->n_prompt) s->cached = 0;
    g->stats.preempted++;
    waiting_insert(g, s);
}

/* The youngest of the group that holds most pages; the oldest of all is spared. */
static Seq *victim(Engine *g)
{
    Seq *v = NULL;
    group_pages(g);
    for (int i = g->n_active - 1; i > 0; i--)
        if (!v || g->active[i]->group->n_page > v->group->n_page) v = g->active[i];
    return v;
}

bool seq_reserve(Engine *g, Seq *s, int positions, bool force)
{
    while (s->n_page < pages_for(positions)) {
        int32_t id = kvcache_take(g->kv);
        if (id >= 0) {
            s->page[s->n_page++] = id;
        } else {
            Seq *v = force ? victim(g) : NULL;
            if (!v) return false;
            preempt(g, v);
            if (v == s) return false;
        }
    }
    return true;
}

/* ---- room ---- */
/* How many first pages of s another active one has, or will have when it is as far: samples of one prompt, mostly. */
static int pages_ahead(const Engine *g, const Seq *s)
{
    uint64_t epoch = kvcache_root(g->kv).epoch;
    int      most = 0;
    for (int i = 0; i < g->n_active && !s->no_cache && !s->prompt_logp; i++) {
        const Seq *o = g->active[i];
        int        n = 0, max = (o->n_tokens < s->n_tokens ? o->n_tokens : s->n_tokens) - 1;
        if (o->no_cache || o->chain.epoch != epoch) continue;
        while ((n + 1) * KV_PAGE <= max && memcmp(o->token + n * KV_PAGE, s->token + n * KV_PAGE, KV_PAGE * sizeof *s->token) == 0) n++;
        if (n > most) most = n;
    }
    return most;
}

/* Pages that s will still take until its next token is there. */
static int pages_needed(const Seq *s)
{
    int n = pages_for(s->n_tokens + 1) - (s->n_page > s->ahead ? s->n_page : s->ahead);
    return n > 0 ? n : 0;
}

/* Pages that nobody holds and no active one will need for what it has: two prompts are not admitted for the same pages. */
static int pages_left(const Engine *g)
{
    int n = kvcache_pages_free(g->kv);
    for (int i = 0; i < g->n_active; i++) n -= pages_needed(g->active[i]);
    return n;
}

/* What sending v back would leave for others. */
static int pages_given(const Engine *g, const Seq *v)
{
    int n = pages_needed(v);
    for (int i = 0; i < v->n_page; i++) n += kvcache_holders(g->kv, v->page[i]) == 1;
    return n;
}

/* Sends the youngest of the group with most pages back, until `lack` more pages are left; false, and nothing is done: then it
 * would hold less than the group of s, or nothing. */
static bool make_room(Engine *g, const Seq *s, int lack)
{
    Group *rich = NULL;
    int    given = 0, n = 0, mine;
    group_pages(g);
    mine = (s->group->n_active ? s->group->n_page : 0) + s->n_page + pages_needed(s);
    for (int i = 0; i < g->n_active; i++) {
        Group *p = g->active[i]->group;
        if (p != s->group && (!rich || p->n_page > rich->n_page)) rich = p;
    }
    for (int i = g->n_active - 1; rich && i > 0 && given < lack && n + 1 < rich->n_active; i--) {
        if (g->active[i]->group != rich) continue;
        given += pages_given(g, g->active[i]);
        n++;
    }
    if (given < lack || rich->n_page - given < mine) return false;
    for (int i = g->n_active - 1; n > 0; i--) {
        if (g->active[i]->group != rich) continue;
        preempt(g, g->active[i]);
        n--;
    }
    return true;
}

/* The youngest of the group with most active ones, if that keeps more than the group of s has. */
static Seq *slot_holder(const Engine *g, const Seq *s)
{
    Seq *v = NULL;
    for (int i = g->n_active - 1; i > 0; i--)
        if (!v || g->active[i]->group->n_active > v->group->n_active) v = g->active[i];
    return v && v->group->n_active >= s->group->n_active + 2 ? v : NULL;
}

/* ---- admission ---- */
static bool try_pages(Engine *g, Seq *s)
{
    int lack;
    s->chain = kvcache_root(g->kv); /* the weights may have changed since */
    seq_extend(g, s);
    s->ahead = pages_ahead(g, s);
    lack = pages_needed(s) - pages_left(g);
    if (lack <= 0 || g->n_active == 0 || make_room(g, s, lack)) return true;
    if (s->n_tokens == s->n_prompt) {
        g->stats.cached_tokens -= s->cached;
        s->cached = 0;
    }
    drop_pages(g, s);
    return false;
}

/* The oldest of the group with the fewest active ones. */
static Seq *next_waiting(const Engine *g)
{
    Seq *best = NULL;
    for (Seq *s = g->waiting; s; s = s->next)
        if (s->tried != g->round && (!best || s->group->n_active < best->group->n_active)) best = s;
    return best;
}

/* One that finds no pages lets others pass that need fewer, but not for ever. */
void admit(Engine *g)
{
    Seq *s;
    int  tries = 0;
    while ((s = next_waiting(g))) {
        Seq *v = NULL;
        if (g->n_active >= g->o.seqs_max && !(v = slot_holder(g, s))) return;
        s->tried = g->round;
        if (!try_pages(g, s)) {
            if (++tries == TRIES_MAX || s->passed >= g->o.seqs_max) return;
            continue;
        }
        if (g->n_active >= g->o.seqs_max) preempt(g, v);
        waiting_remove(g, s);
        active_insert(g, s);
        s->passed = 0;
        for (Seq *w = g->waiting; w; w = w->next) w->passed += w->tried == g->round && w->id < s->id;
    }
}
