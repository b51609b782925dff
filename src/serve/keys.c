/* The running server's keys: looked up, admitted, counted.  All of it is in memory and takes constant time, under one lock that is
 * held for a few loads and stores; files are the writer's (keys_writer.c).  With 1,000 keys a request's three calls took 4.1 us,
 * 3 of them for the hash (2026-11-25, two busy cores). */
#include <arpa/inet.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "keys_inner.h"

#define TOKENS_OF_ONE_MAX INT64_C(1000000000000) /* a request's counts are cut here, so that no sum of them overflows */

static double now_s(const Keys *k) { return k->o.now_s ? k->o.now_s(k->o.user) : time_unix(); }
static uint64_t mono_ns(const Keys *k) { return k->o.mono_ns ? k->o.mono_ns(k->o.user) : time_now_ns(); }
int64_t keys_today(const Keys *k) { return (int64_t)floor(now_s(k) / DAY_S); }

static int64_t clamp(int64_t v) { return v < 0 ? 0 : v > TOKENS_OF_ONE_MAX ? TOKENS_OF_ONE_MAX : v; }

static int64_t sum(int64_t a, int64_t b)
{
    int64_t r;
    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

/* ---- whose key ---- */
/* Where the search begins and how far it goes depends on hashes alone, which nobody who has not the key can steer; the
 * comparison itself takes the same time whatever the bytes. */
KeyEntry *keys_find(const Keys *k, const uint8_t *hash)
{
    if (!k->table) return NULL;
    for (size_t i = hash64(hash, KEY_HASH_LEN, k->seed) & k->mask; k->table[i]; i = (i + 1) & k->mask)
        if (key_hash_same(k->table[i]->hash, hash)) return k->table[i];
    return NULL;
}

static KeyCheck state_of(const KeyEntry *t, double now)
{
    if (!t || !t->present) return KEY_UNKNOWN;
    if (t->revoked) return KEY_REVOKED;
    return t->expires && now >= (double)t->expires ? KEY_EXPIRED : KEY_GOOD;
}

KeyCheck keys_check(Keys *k, const char *presented, size_t n, KeyGrant *g)
{
    uint8_t   hash[KEY_HASH_LEN];
    double    now = now_s(k);
    KeyEntry *t;
    KeyCheck  c;
    if (!key_shaped(presented, n) || key_hash(presented, n, hash, NULL)) return KEY_UNKNOWN;
    keys_lock(k);
    t = keys_find(k, hash);
    c = state_of(t, now);
    keys_unlock(k);
    if (c == KEY_GOOD) g->entry = t;
    return c;
}

const char *key_check_words(KeyCheck c)
{
    switch (c) {
    case KEY_GOOD: return "The API key is good.";
    case KEY_REVOKED: return "The API key was revoked.";
    case KEY_EXPIRED: return "The API key has expired.";
    default: return "The API key is not one of this server's. It is sent as 'Authorization: Bearer aha-...'; 'aha keys add NAME' makes one.";
    }
}

const char *keys_name(const KeyGrant *g) { return g->entry ? g->entry->name : "-"; }

bool keys_required(const Keys *k)
{
    keys_lock(k);
    bool r = k->required;
    keys_unlock(k);
    return r;
}

static int usable(const Keys *k, double now) /* under the lock */
{
    int n = 0;
    for (size_t i = 0; k->table && i <= k->mask; i++)
        if (state_of(k->table[i], now) == KEY_GOOD) n++;
    return n;
}

int keys_usable(const Keys *k)
{
    double now = now_s(k);
    keys_lock(k);
    int n = usable(k, now);
    keys_unlock(k);
    return n;
}

/* ---- leave to run ---- */
static void day_begins(KeyEntry *t, int64_t day)
{
    if (t->day == day) return;
    t->day = day;
    t->used = 0;
}

static void bucket_fill(KeyEntry *t, uint64_t now_ns)
{
    double cap = t->limits.per_minute;
    if (now_ns > t->level_ns) t->level += (double)(now_ns - t->level_ns) * 1e-9 * cap / 60;
    if (t->level > cap) t->level = cap;
    t->level_ns = now_ns;
}

static KeyAdmit refuse(KeyRefusal *r, KeyAdmit a, double retry_s, const char *limit, long long value)
{
    r->retry_s = a == KEY_GONE ? 0 : retry_s < 1 ? 1 : (int)ceil(retry_s);
    if (a == KEY_GONE)
        snprintf(r->words, sizeof r->words, "%s", limit);
    else
        snprintf(r->words, sizeof r->words, "This API key is limited to %lld %s; try again in %d s.", value, limit, r->retry_s);
    return a;
}

/* Under the lock.  others: tokens that requests which run now may use still. */
static KeyAdmit judge_quota(KeyEntry *t, int64_t others, double now, KeyRefusal *r)
{
    int64_t quota = t->limits.tokens_per_day;
    day_begins(t, (int64_t)floor(now / DAY_S));
    if (!quota) return KEY_ADMITTED;
    if (t->used >= quota) return refuse(r, KEY_OVER_QUOTA, (double)(t->day + 1) * DAY_S - now, "tokens a day (UTC)", quota);
    if (sum(t->used, others) >= quota) /* what runs now may use less than it reserved */
        return refuse(r, KEY_OVER_QUOTA, 1, "tokens a day (UTC), and requests that run now may use up the rest", quota);
    return KEY_ADMITTED;
}

/* Under the lock.  The bucket comes last: a request that is refused for another reason takes nothing from it. */
static KeyAdmit judge(KeyEntry *t, double now, uint64_t now_ns, KeyRefusal *r)
{
    const KeyLimits *l = &t->limits;
    KeyCheck         c = state_of(t, now);
    if (c != KEY_GOOD) return refuse(r, KEY_GONE, 0, key_check_words(c), 0);
    if (l->concurrent && t->running >= l->concurrent) return refuse(r, KEY_OVER_CONCURRENT, 1, "requests at a time", l->concurrent);
    KeyAdmit a = judge_quota(t, t->reserved, now, r);
    if (a != KEY_ADMITTED || !l->per_minute) return a;
    bucket_fill(t, now_ns);
    if (t->level < 1) return refuse(r, KEY_OVER_RATE, (1 - t->level) * 60 / l->per_minute, "requests a minute", l->per_minute);
    t->level -= 1;
    return KEY_ADMITTED;
}

KeyAdmit keys_admit(Keys *k, KeyGrant *g, int64_t reserve, KeyRefusal *r)
{
    KeyRefusal unread;
    KeyAdmit   a = KEY_ADMITTED;
    double     now = now_s(k);
    uint64_t   now_ns = mono_ns(k);
    if (g->admitted) return KEY_ADMITTED;
    if (g->entry) {
        keys_lock(k);
        a = judge(g->entry, now, now_ns, r ? r : &unread);
        if (a == KEY_ADMITTED) {
            g->reserved = clamp(reserve);
            g->entry->running++;
            g->entry->reserved = sum(g->entry->reserved, g->reserved);
        }
        keys_unlock(k);
    }
    g->admitted = a == KEY_ADMITTED;
    return a;
}

KeyAdmit keys_reserve(Keys *k, KeyGrant *g, int64_t tokens, KeyRefusal *r)
{
    KeyRefusal unread;
    KeyEntry  *t = g->entry;
    double     now = now_s(k);
    if (!g->admitted || !t) return KEY_ADMITTED;
    keys_lock(k);
    int64_t  others = t->reserved - g->reserved;
    KeyAdmit a = judge_quota(t, others, now, r ? r : &unread);
    if (a == KEY_ADMITTED) {
        g->reserved = clamp(tokens);
        t->reserved = sum(others, g->reserved);
    } else if (t->limits.per_minute && t->level + 1 <= t->limits.per_minute) {
        t->level += 1;
    }
    keys_unlock(k);
    return a;
}

/* ---- what was used ---- */
int64_t pending_tokens(const KeyEntry *t, int64_t day)
{
    int64_t n = 0;
    for (int i = 0; i < PENDING_DAYS; i++)
        if (t->pending[i].u.requests && t->pending[i].day == day) n = sum(n, sum(t->pending[i].u.prompt, t->pending[i].u.completion));
    return n;
}

/* The day's place, an empty one, or that of the oldest day; NULL: this is the oldest. */
static DayUse *pending_place(KeyEntry *t, int64_t day)
{
    DayUse *empty = NULL, *oldest = &t->pending[0];
    for (int i = 0; i < PENDING_DAYS; i++) {
        DayUse *p = &t->pending[i];
        if (p->u.requests && p->day == day) return p;
        if (!p->u.requests) empty = p;
        if (p->day < oldest->day) oldest = p;
    }
    return empty ? empty : day > oldest->day ? oldest : NULL;
}

void pending_add(Keys *k, KeyEntry *t, int64_t day, const KeyUsage *u)
{
    DayUse *p = pending_place(t, day);
    if (!p) {
        k->lost += u->requests;
        return;
    }
    if (p->day != day) {
        if (p->u.requests) {
            k->lost += p->u.requests;
            k->unwritten -= p->u.requests;
        }
        *p = (DayUse){.day = day};
    }
    p->u.requests = sum(p->u.requests, u->requests);
    p->u.prompt = sum(p->u.prompt, u->prompt);
    p->u.cached = sum(p->u.cached, u->cached);
    p->u.completion = sum(p->u.completion, u->completion);
    p->u.reasoning = sum(p->u.reasoning, u->reasoning);
    k->unwritten += u->requests;
    if (t->dirty) return;
    t->dirty = true;
    t->dirty_next = k->dirty;
    k->dirty = t;
}

void keys_done(Keys *k, KeyGrant *g, const KeyUsage *u)
{
    int64_t today = keys_today(k);
    if (!g->admitted) return;
    g->admitted = false;
    keys_lock(k);
    KeyEntry *t = g->entry ? g->entry : &k->nobody;
    if (g->entry) {
        t->running--;
        t->reserved -= g->reserved;
    }
    if (u) {
        const KeyUsage one = {1, clamp(u->prompt), clamp(u->cached), clamp(u->completion), clamp(u->reasoning)};
        day_begins(t, today);
        t->used = sum(t->used, one.prompt + one.completion);
        if (k->stored) pending_add(k, t, today, &one);
    }
    keys_unlock(k);
}

void keys_stats(const Keys *k, KeysStats *s)
{
    double now = now_s(k);
    keys_lock(k);
    *s = (KeysStats){.usable = usable(k, now), .required = k->required, .unwritten = k->unwritten, .lost = k->lost, .failures = k->failures};
    keys_unlock(k);
}

/* ---- where a server may listen ---- */
bool address_is_local(const char *a)
{
    struct in_addr  v4;
    struct in6_addr v6;
    char            bare[64];
    size_t          n = strlen(a);
    if (a[0] == '/') return true; /* a socket in the file system: its permissions decide */
    if (!strcmp(a, "localhost")) return true;
    if (n > 2 && n < sizeof bare && a[0] == '[' && a[n - 1] == ']') {
        memcpy(bare, a + 1, n - 2);
        bare[n - 2] = 0;
        a = bare;
    }
    if (inet_pton(AF_INET, a, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, a, &v6) != 1) return false;
    if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6);
}

int keys_address_check(const char *address, int usable_keys, bool no_keys, aha_error *e)
{
    char q[100];
    if (address_is_local(address) || usable_keys > 0 || no_keys) return 0;
    return error_set(e, AHA_ERR_ARG,
                     "%s can be reached from other machines, and there is no key that works: make one with 'aha keys add NAME', or say --no-keys if "
                     "everybody may ask",
                     error_quote(q, sizeof q, address, strlen(address)));
}
