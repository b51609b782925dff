/* Byte-pair encoding (Sennrich et al. 2016; byte-level as in GPT-2): start with one symbol a byte and keep merging the
 * neighbours whose merge has the lowest rank, the leftmost of equals, until no neighbours merge.
 *
 * Symbols are a linked list, candidate merges a binary heap ordered by (rank, position): O(n log n) for a piece of n
 * bytes.  A merge leaves the candidates of its neighbours in the heap; they are recognised as stale when popped, because
 * the pair at their position no longer becomes the same token. */
#include <string.h>

#include "inner.h"

typedef struct BpeSym {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t prev, next;
} BpeSym;
typedef struct BpeHeap {
    uint64_t key; /* rank << 32 | position */
    int32_t  id;
} BpeHeap;

static uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t pair_slot(const Bpe *b, uint64_t key)
{
    uint64_t h = (key ^ key >> 29) * (b->seed | 1);
    return (size_t)(h >> 32) & (b->n_merge - 1);
}

static const BpeMerge *merge_find(const Bpe *b, int32_t left, int32_t right)
{
    uint64_t key = pair_key(left, right);
    for (size_t i = pair_slot(b, key);; i = (i + 1) & (b->n_merge - 1)) {
        if (b->merge[i].pair == key) return &b->merge[i];
        if (b->merge[i].pair == UINT64_MAX) return NULL;
    }
}

static size_t table_size(size_t n) /* a power of two with load at most one half */
{
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

int bpe_init(Bpe *b, size_t n_tokens, size_t n_merges, aha_error *e)
{
    b->seed = os_random_u64();
    b->n_slot = table_size(n_tokens);
    b->n_merge = table_size(n_merges);
    b->slot = mem_zalloc(b->n_slot, sizeof *b->slot);
    b->merge = mem_zalloc(b->n_merge, sizeof *b->merge);
    if (!b->slot || !b->merge) return error_set(e, AHA_ERR_NOMEM, "no memory for a vocabulary of %zu tokens", n_tokens);
    memset(b->slot, 0xff, b->n_slot * sizeof *b->slot);
    for (size_t i = 0; i < b->n_merge; i++) b->merge[i].pair = UINT64_MAX;
    return 0;
}

void bpe_free(Bpe *b)
{
    mem_free(b->slot);
    mem_free(b->merge);
    b->slot = NULL;
    b->merge = NULL;
}

/* The slot that holds these bytes, or the empty one where they belong. */
static size_t token_slot(const Bpe *b, const char *s, size_t n)
{
    size_t i = (size_t)hash64(s, n, b->seed) & (b->n_slot - 1);
    for (;; i = (i + 1) & (b->n_slot - 1)) {
        int32_t id = b->slot[i];
        if (id < 0) return i;
        size_t len = b->off[id + 1] - b->off[id];
        if (len == n && !memcmp(b->blob + b->off[id], s, n)) return i;
    }
}

bool bpe_add_token(Bpe *b, int32_t id)
{
    size_t i = token_slot(b, b->blob + b->off[id], b->off[id + 1] - b->off[id]);
    if (b->slot[i] >= 0) return false;
    b->slot[i] = id;
    return true;
}

int32_t bpe_find(const Bpe *b, const char *s, size_t n)
{
    return b->slot[token_slot(b, s, n)];
}

void bpe_add_merge(Bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t key = pair_key(left, right);
    size_t   i = pair_slot(b, key);
    while (b->merge[i].pair != UINT64_MAX && b->merge[i].pair != key) i = (i + 1) & (b->n_merge - 1);
    b->merge[i] = (BpeMerge){key, rank, id};
}

static void heap_push(BpeHeap *h, size_t *n, BpeHeap x)
{
    size_t i = (*n)++;
    for (; i && h[(i - 1) / 2].key > x.key; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

static BpeHeap heap_pop(BpeHeap *h, size_t *n)
{
    BpeHeap top = h[0], last = h[--*n];
    size_t  i = 0;
    for (size_t c; (c = 2 * i + 1) < *n; i = c) {
        if (c + 1 < *n && h[c + 1].key < h[c].key) c++;
        if (last.key <= h[c].key) break;
        h[i] = h[c];
    }
    if (*n) h[i] = last;
    return top;
}

static void candidate(const Bpe *b, const BpeSym *sym, int32_t at, BpeHeap *heap, size_t *n_heap)
{
    if (at < 0 || sym[at].next < 0) return;
    const BpeMerge *m = merge_find(b, sym[at].id, sym[sym[at].next].id);
    if (m) heap_push(heap, n_heap, (BpeHeap){(uint64_t)m->rank << 32 | (uint32_t)at, m->id});
}

static int scratch_reserve(BpeScratch *s, size_t n, aha_error *e)
{
    if (n <= s->cap) return 0;
    size_t cap = s->cap ? s->cap : 256;
    while (cap < n) cap *= 2;
    /* n - 1 candidates at first, and each of at most n - 1 merges adds two */
    BpeSym *sym = mem_realloc(s->sym, cap * sizeof *sym);
    if (sym) s->sym = sym;
    BpeHeap *heap = sym ? mem_realloc(s->heap, 3 * cap * sizeof *heap) : NULL;
    if (!heap) return error_set(e, AHA_ERR_NOMEM, "no memory to tokenise a word of %zu bytes", n);
    s->heap = heap;
    s->cap = cap;
    return 0;
}

void bpe_scratch_free(BpeScratch *s)
{
    mem_free(s->sym);
    mem_free(s->heap);
    *s = (BpeScratch){0};
}

/* Merges in place until nothing merges; symbol 0 stays the head of the list. */
static void merge_all(const Bpe *b, BpeSym *sym, BpeHeap *heap, size_t n)
{
    size_t n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++) candidate(b, sym, (int32_t)i, heap, &n_heap);
    while (n_heap) {
        BpeHeap top = heap_pop(heap, &n_heap);
        int32_t at = (int32_t)(uint32_t)top.key, right = sym[at].next;
        if (sym[at].id < 0 || right < 0) continue;
        const BpeMerge *m = merge_find(b, sym[at].id, sym[right].id);
        if (!m || m->id != top.id) continue; /* stale */
        sym[at].id = m->id;
        sym[at].next = sym[right].next;
        if (sym[at].next >= 0) sym[sym[at].next].prev = at;
        sym[right].id = -1;
        candidate(b, sym, sym[at].prev, heap, &n_heap);
        candidate(b, sym, at, heap, &n_heap);
    }
}

int bpe_encode(const Bpe *b, BpeScratch *s, const char *piece, size_t n, Ids *out, aha_error *e)
{
    if (n > INT32_MAX / 4) return error_set(e, AHA_ERR_LIMIT, "a word of %zu bytes, expected at most %d", n, INT32_MAX / 4);
    if (n == 1) return ids_push(out, b->byte_id[(uint8_t)piece[0]], e);
    if (b->ignore_merges) {
        int32_t whole = bpe_find(b, piece, n);
        if (whole >= 0) return ids_push(out, whole, e);
    }
    int rc = scratch_reserve(s, n, e);
    if (rc || !n) return rc;
    for (size_t i = 0; i < n; i++)
        s->sym[i] = (BpeSym){b->byte_id[(uint8_t)piece[i]], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    merge_all(b, s->sym, s->heap, n);
    for (int32_t i = 0; i >= 0 && !rc; i = s->sym[i].next) rc = ids_push(out, s->sym[i].id, e);
    return rc;
}
