/* A set of names behind a hash table.  Its seed is drawn at random, so that a file cannot be built to collide. */
#include <string.h>

#include "inner.h"

int format_nomem(const char *what, aha_error *e)
{
    return error_set(e, AHA_ERR_NOMEM, "%s: out of memory", what);
}

bool grow(void **p, int *cap, int n, size_t size)
{
    if (n < *cap) return true;
    if (n > INT32_MAX / 2) return false;
    int    more = n < 16 ? 16 : n * 2;
    size_t bytes;
    if (!size_mul((size_t)more, size, &bytes)) return false;
    void *q = mem_realloc(*p, bytes);
    if (!q) return false;
    *p = q;
    *cap = more;
    return true;
}

const char *names_at(const Names *s, int i)
{
    return s->text + s->off[i];
}

size_t names_len(const Names *s, int i)
{
    return (i + 1 < s->count ? s->off[i + 1] : s->len) - s->off[i] - 1;
}

/* The slot that holds the name, or the empty one where it belongs; the table is never full. */
static size_t names_slot(const Names *s, const char *name, size_t n)
{
    size_t mask = s->n_slot - 1, k = (size_t)hash64(name, n, s->seed) & mask;
    for (;; k = (k + 1) & mask) {
        int i = s->slot[k] - 1;
        if (i < 0 || (names_len(s, i) == n && memcmp(names_at(s, i), name, n) == 0)) return k;
    }
}

int names_find(const Names *s, const char *name, size_t n)
{
    return s->n_slot ? s->slot[names_slot(s, name, n)] - 1 : -1;
}

static bool names_rehash(Names *s)
{
    size_t   n = s->n_slot ? s->n_slot * 2 : 64;
    int32_t *slot = mem_zalloc(n, sizeof *slot), *old = s->slot;
    if (!slot) return false;
    if (!s->n_slot) s->seed = os_random_u64();
    s->slot = slot;
    s->n_slot = n;
    for (int i = 0; i < s->count; i++) slot[names_slot(s, names_at(s, i), names_len(s, i))] = i + 1;
    mem_free(old);
    return true;
}

static bool names_store(Names *s, const char *name, size_t n)
{
    size_t need;
    if (!size_add(s->len, n, &need) || !size_add(need, 1, &need)) return false;
    if (need > s->cap) {
        size_t cap = need < 512 ? 1024 : need * 2;
        char  *text = mem_realloc(s->text, cap);
        if (!text) return false;
        s->text = text;
        s->cap = cap;
    }
    void *off = s->off;
    bool  ok = grow(&off, &s->off_cap, s->count, sizeof *s->off);
    s->off = off;
    if (!ok) return false;
    memcpy(s->text + s->len, name, n);
    s->text[s->len + n] = 0;
    s->off[s->count++] = s->len;
    s->len = need;
    return true;
}

int names_add(Names *s, const char *name, size_t n, int *index)
{
    if ((size_t)s->count >= s->n_slot / 2 && !names_rehash(s)) return AHA_ERR_NOMEM;
    size_t k = names_slot(s, name, n);
    if (s->slot[k]) {
        *index = s->slot[k] - 1;
        return 0;
    }
    if (!names_store(s, name, n)) return AHA_ERR_NOMEM;
    *index = s->count - 1;
    s->slot[k] = s->count;
    return 1;
}

void names_free(Names *s)
{
    mem_free(s->text);
    mem_free(s->off);
    mem_free(s->slot);
    memset(s, 0, sizeof *s);
}
