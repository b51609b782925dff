/* The paged cache of keys and values: who holds which page, and which full pages can be found again by their tokens.
 *
 * A registered page knows its tokens and the serial number of the registered page before it.  Serial numbers are never used
 * twice, so a page that is found by walking from the root has exactly the tokens asked for: the hash only says where to look. */
#include "inner.h"

enum { NONE = -1 };

typedef struct Page {
    int      refs;
    int32_t  prev, next;     /* in the list of idle pages; next alone in the list of free ones */
    int32_t  bucket_next;
    uint64_t hash;           /* of all tokens up to its end */
    uint64_t serial, parent; /* serial 0: not registered; parent 0: a first page */
    int32_t  token[KV_PAGE];
} Page;

struct KvCache {
    Kv       kv;
    size_t   bytes;
    Page    *page;
    int32_t  free;             /* list of pages that hold nothing */
    int32_t  oldest, newest;   /* list of pages that nobody holds but that can be found */
    int      n_free, n_idle;
    int32_t *bucket;           /* [n_bucket], a power of two */
    uint32_t n_bucket;
    uint64_t fingerprint, epoch, last_serial;
    void   (*lost)(void *user, int32_t page); /* NULL: nobody watches */
    void    *watcher;
};

size_t kvcache_bytes(const Model *m, int n_pages)
{
    Kv kv = m->kv_shape;
    return kv_room(&kv, n_pages > 0 ? n_pages : 0);
}

static uint64_t fingerprint_of(const Kv *kv)
{
    int32_t shape[] = {(int32_t)kv->type, kv->n_layer, kv->key_cols, kv->val_cols, KV_PAGE};
    return hash64(shape, sizeof shape, 0);
}

/* What finding pages takes: a Page each, and buckets. */
static uint32_t buckets_for(int n_pages)
{
    uint32_t n = 16;
    while (n < (uint32_t)n_pages && n < 1u << 30) n *= 2;
    return n;
}

size_t kvcache_memory(const Model *m, int n_pages)
{
    return kvcache_bytes(m, n_pages) + (size_t)n_pages * sizeof(Page) + buckets_for(n_pages) * sizeof(int32_t);
}

int kvcache_fit(const Model *m, uint64_t bytes)
{
    enum { ROUNDED = 4096 }; /* memory comes in pages of the system */
    uint64_t lo = 0, hi = bytes / (m->kv_shape.page_bytes + sizeof(Page));
    if (hi > INT32_MAX) hi = INT32_MAX;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo + 1) / 2;
        if (kvcache_memory(m, (int)mid) + ROUNDED <= bytes)
            lo = mid;
        else
            hi = mid - 1;
    }
    return (int)lo;
}

size_t kvcache_held(const KvCache *k)
{
    return k->bytes + (size_t)k->kv.n_pages * sizeof *k->page + k->n_bucket * sizeof *k->bucket;
}

int kvcache_new_dry(KvCache **out, const Model *m, int n_pages, aha_error *e)
{
    KvCache *k = *out = mem_zalloc(1, sizeof *k);
    if (!k) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a key cache");
    k->kv = m->kv_shape;
    kv_room(&k->kv, n_pages);
    return 0;
}

int kvcache_new(KvCache **out, const Model *m, int n_pages, aha_error *e)
{
    KvCache *k = mem_zalloc(1, sizeof *k);
    size_t   bytes = kvcache_bytes(m, n_pages);
    *out = NULL;
    if (!k) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a key cache");
    k->kv = m->kv_shape;
    kv_room(&k->kv, n_pages);
    k->fingerprint = fingerprint_of(&k->kv);
    k->n_bucket = buckets_for(n_pages);
    k->page = mem_zalloc((size_t)n_pages, sizeof *k->page);
    k->bucket = mem_alloc(k->n_bucket * sizeof *k->bucket);
    k->kv.base = k->page && k->bucket ? mem_pages(bytes) : NULL;
    if (!k->kv.base) {
        kvcache_free(k);
        return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes for %d pages of the key cache", bytes, n_pages);
    }
    k->bytes = bytes;
    for (uint32_t i = 0; i < k->n_bucket; i++) k->bucket[i] = NONE;
    k->free = k->oldest = k->newest = NONE;
    for (int32_t i = n_pages - 1; i >= 0; i--) {
        k->page[i].next = k->free;
        k->free = i;
    }
    k->n_free = n_pages;
    *out = k;
    return 0;
}

void kvcache_free(KvCache *k)
{
    if (!k) return;
    if (k->kv.base) mem_pages_free(k->kv.base, k->bytes);
    mem_free(k->page);
    mem_free(k->bucket);
    mem_free(k);
}

int kvcache_pages_free(const KvCache *k) { return k->n_free + k->n_idle; }
int kvcache_pages_total(const KvCache *k) { return k->kv.n_pages; }
Kv *kvcache_kv(KvCache *k) { return &k->kv; }

KvChain kvcache_root(const KvCache *k)
{
    return (KvChain){k->fingerprint + k->epoch, 0, k->epoch};
}

/* ---- lists ---- */
static void free_push(KvCache *k, int32_t id)
{
    k->page[id].next = k->free;
    k->free = id;
    k->n_free++;
}
static void idle_push(KvCache *k, int32_t id)
{
    Page *p = &k->page[id];
    p->prev = k->newest;
    p->next = NONE;
    if (k->newest == NONE)
        k->oldest = id;
    else
        k->page[k->newest].next = id;
    k->newest = id;
    k->n_idle++;
}
static void idle_remove(KvCache *k, int32_t id)
{
    const Page *p = &k->page[id];
    if (p->prev == NONE)
        k->oldest = p->next;
    else
        k->page[p->prev].next = p->next;
    if (p->next == NONE)
        k->newest = p->prev;
    else
        k->page[p->next].prev = p->prev;
    k->n_idle--;
}

static int32_t *bucket_of(KvCache *k, uint64_t hash)
{
    return &k->bucket[hash & (k->n_bucket - 1)];
}
static void unregister(KvCache *k, int32_t id)
{
    Page    *p = &k->page[id];
    int32_t *at = bucket_of(k, p->hash);
    if (k->lost) k->lost(k->watcher, id);
    while (*at != id) at = &k->page[*at].bucket_next;
    *at = p->bucket_next;
    p->serial = 0;
}

/* ---- holding ---- */
int32_t kvcache_take(KvCache *k)
{
    int32_t id = k->free;
    if (id != NONE) {
        k->free = k->page[id].next;
        k->n_free--;
    } else if ((id = k->oldest) != NONE) {
        idle_remove(k, id);
        unregister(k, id);
    } else {
        return NONE;
    }
    k->page[id].refs = 1;
    return id;
}

void kvcache_drop(KvCache *k, int32_t id)
{
    Page *p = &k->page[id];
    if (--p->refs > 0) return;
    if (p->serial)
        idle_push(k, id);
    else
        free_push(k, id);
}

/* page id's i-th part, a layer's heads side by side */
static uint8_t *part_at(const KvCache *k, int32_t id, int i)
{
    return kv_part(&k->kv, id, i / k->kv.heads) + (size_t)(i % k->kv.heads) * kv_head_step(&k->kv);
}
void kvcache_copy(KvCache *k, int32_t to, int32_t from)
{
    for (int i = 0; i < k->kv.n_layer * k->kv.heads; i++) memcpy(part_at(k, to, i), part_at(k, from, i), k->kv.part_bytes);
}
void kvcache_read(const KvCache *k, int32_t id, uint8_t *to)
{
    for (int i = 0; i < k->kv.n_layer * k->kv.heads; i++, to += k->kv.part_bytes) memcpy(to, part_at(k, id, i), k->kv.part_bytes);
}
void kvcache_write(KvCache *k, int32_t id, const uint8_t *from)
{
    for (int i = 0; i < k->kv.n_layer * k->kv.heads; i++, from += k->kv.part_bytes) memcpy(part_at(k, id, i), from, k->kv.part_bytes);
}

int kvcache_holders(const KvCache *k, int32_t id) { return k->page[id].refs; }

int32_t kvcache_take_empty(KvCache *k) { return k->free == NONE ? NONE : kvcache_take(k); }

void kvcache_discard(KvCache *k, int32_t id)
{
    unregister(k, id);
    kvcache_drop(k, id);
}

KvPage kvcache_page(const KvCache *k, int32_t id)
{
    const Page *p = &k->page[id];
    return (KvPage){p->serial, p->parent, p->token};
}

bool kvcache_watch(KvCache *k, void (*lost)(void *user, int32_t page), void *user)
{
    if (k->lost) return false;
    k->lost = lost;
    k->watcher = user;
    return true;
}

void kvcache_unwatch(KvCache *k, const void *user)
{
    if (k->watcher != user) return;
    k->lost = NULL;
    k->watcher = NULL;
}

int kvcache_registered(const KvCache *k, int32_t *id)
{
    int n = 0;
    for (int32_t i = 0; i < k->kv.n_pages; i++)
        if (k->page[i].serial && k->page[i].refs > 0) id[n++] = i;
    for (int32_t i = k->newest; i != NONE; i = k->page[i].prev) id[n++] = i;
    return n;
}

KvCount kvcache_count(const KvCache *k)
{
    return (KvCount){k->kv.n_pages, k->n_free, k->kv.n_pages - k->n_free - k->n_idle, k->n_idle};
}

/* ---- finding ---- */
static uint64_t hash_after(const KvChain *at, const int32_t *token)
{
    return hash64(token, KV_PAGE * sizeof *token, at->hash);
}
static int32_t look_up(KvCache *k, const KvChain *at, uint64_t hash, const int32_t *token)
{
    int32_t id = *bucket_of(k, hash);
    for (; id != NONE; id = k->page[id].bucket_next) {
        const Page *p = &k->page[id];
        if (p->hash == hash && p->parent == at->serial && memcmp(p->token, token, sizeof p->token) == 0) break;
    }
    return id;
}
static int32_t hold(KvCache *k, KvChain *at, int32_t id)
{
    Page *p = &k->page[id];
    if (p->refs++ == 0) idle_remove(k, id);
    at->hash = p->hash;
    at->serial = p->serial;
    return id;
}

int32_t kvcache_find(KvCache *k, KvChain *at, const int32_t *token)
{
    int32_t id;
    if (at->epoch != k->epoch) return NONE;
    id = look_up(k, at, hash_after(at, token), token);
    return id == NONE ? NONE : hold(k, at, id);
}

int32_t kvcache_add(KvCache *k, KvChain *at, const int32_t *token, int32_t id)
{
    uint64_t hash = hash_after(at, token);
    int32_t  same;
    Page    *p = &k->page[id];
    if (at->epoch != k->epoch) return id;
    same = look_up(k, at, hash, token);
    if (same != NONE) {
        hold(k, at, same);
        kvcache_drop(k, id);
        return same;
    }
    memcpy(p->token, token, sizeof p->token);
    p->hash = hash;
    p->parent = at->serial;
    p->serial = ++k->last_serial;
    p->bucket_next = *bucket_of(k, hash);
    *bucket_of(k, hash) = id;
    at->hash = hash;
    at->serial = p->serial;
    return id;
}

void kvcache_forget(KvCache *k)
{
    k->epoch++;
    for (int32_t id = 0; id < k->kv.n_pages; id++) {
        if (!k->page[id].serial) continue;
        unregister(k, id);
        if (k->page[id].refs > 0) continue;
        idle_remove(k, id);
        free_push(k, id);
    }
}
