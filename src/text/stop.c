/* Texts that end an answer, found while it comes, wherever the pieces are cut.
 *
 * Each has a matcher after Knuth, Morris and Pratt: how many bytes of it the text so far ends with.  The longest of these is what
 * must be held back, for it may become a match; everything before it can be given out.  The match that ends first counts, so
 * what comes later cannot change it; of those that end at the same byte the longest, which begins first. */
#include <string.h>

#include "inner.h"

typedef struct Stop {
    const char *s;    /* [n] */
    uint16_t   *fail; /* [n] of its first i + 1 bytes: the longest end, but themselves, that it begins with */
    int         n, at;
} Stop;
struct Stops {
    Stop   stop[STOPS_MAX];
    int    n, hit; /* hit: the one that was found, or -1 */
    size_t n_held;
    char   held[STOP_BYTES_MAX]; /* [n_held] */
};

static int check(const TextRef *s, int n, aha_error *e)
{
    if (n < 1 || n > STOPS_MAX) return error_set(e, AHA_ERR_LIMIT, "%d stop texts, expected 1 to %d", n, STOPS_MAX);
    for (int i = 0; i < n; i++) {
        if (s[i].n < 1 || !s[i].s) return error_set(e, AHA_ERR_ARG, "stop text %d is empty", i);
        if (s[i].n > STOP_BYTES_MAX)
            return error_set(e, AHA_ERR_LIMIT, "stop text %d has %llu bytes, expected at most %d", i, (unsigned long long)s[i].n, STOP_BYTES_MAX);
        if (!utf8_valid(s[i].s, (size_t)s[i].n)) return error_set(e, AHA_ERR_ARG, "stop text %d is not UTF-8", i);
    }
    return 0;
}

/* The state of t after one more byte. */
static int next(const Stop *t, int at, char c)
{
    while (at > 0 && t->s[at] != c) at = t->fail[at - 1];
    return at + (t->s[at] == c);
}

static void fill_fail(Stop *t)
{
    t->fail[0] = 0;
    for (int i = 1; i < t->n; i++) t->fail[i] = (uint16_t)next(t, t->fail[i - 1], t->s[i]);
}

int stops_new(Stops **out, const TextRef *s, int n, aha_error *e)
{
    size_t all = 0, at = 0;
    int    rc = check(s, n, e);
    *out = NULL;
    if (rc) return rc;
    for (int i = 0; i < n; i++) all += (size_t)s[i].n;
    Stops    *p = mem_zalloc(1, sizeof *p + all * (sizeof(uint16_t) + 1)); /* behind it the tables, then the texts */
    uint16_t *fail = (uint16_t *)(p + 1);
    char     *text = (char *)(fail + all);
    if (!p) return error_set(e, AHA_ERR_NOMEM, "no memory for %d stop texts", n);
    p->n = n;
    p->hit = -1;
    for (int i = 0; i < n; i++) {
        memcpy(text + at, s[i].s, (size_t)s[i].n);
        p->stop[i] = (Stop){text + at, fail + at, (int)s[i].n, 0};
        fill_fail(&p->stop[i]);
        at += (size_t)s[i].n;
    }
    *out = p;
    return 0;
}

void stops_free(Stops *p) { mem_free(p); }
int  stops_hit(const Stops *p) { return p->hit; }

/* One more byte: whether a text ends with it; *longest: what may still become one. */
static bool take(Stops *p, char c, int *longest)
{
    *longest = 0;
    for (int i = 0; i < p->n; i++) {
        Stop *t = &p->stop[i];
        t->at = next(t, t->at, c);
        if (t->at > *longest) *longest = t->at;
        if (t->at == t->n && (p->hit < 0 || t->n > p->stop[p->hit].n)) p->hit = i;
    }
    return p->hit >= 0;
}

int stops_push(Stops *p, const char *s, size_t n, Buf *out)
{
    size_t before = out->n;
    int    longest = (int)p->n_held;
    if (p->hit >= 0) return p->hit;
    buf_add(out, p->held, p->n_held);
    before += p->n_held;
    buf_add(out, s, n);
    if (out->failed) return -1;
    for (size_t i = 0; i < n; i++) {
        if (!take(p, s[i], &longest)) continue;
        p->n_held = 0;
        out->n = before + i + 1 - (size_t)p->stop[p->hit].n;
        out->data[out->n] = 0;
        return p->hit;
    }
    p->n_held = (size_t)longest;
    if (!out->n) return -1;
    out->n -= p->n_held;
    memcpy(p->held, out->data + out->n, p->n_held);
    out->data[out->n] = 0;
    return -1;
}

void stops_end(Stops *p, Buf *out)
{
    if (p->hit < 0) buf_add(out, p->held, p->n_held);
    p->n_held = 0;
    for (int i = 0; i < p->n; i++) p->stop[i].at = 0;
}
