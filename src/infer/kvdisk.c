/* Pages of keys and values in a file, so that a restart costs a read and not a prefill.
 *
 * A safetensors file of n pages, every page behind the one that it follows:
 *   token  I32 [n, KV_PAGE]     the tokens of each page
 *   parent I32 [n]              the page that it follows, -1: none
 *   page   U8  [n, page_bytes]  keys and values: kvcache_read
 *   check  U8  [n, 8]           XXH64 of its tokens and bytes, seeded with its parent's check; last, for it is known last
 * Its metadata says for what it was computed.  Whatever differs is named and the file refused; so is one in which any byte that
 * counts is damaged.  A check tells damage, not forgery: the file is its owner's alone (0600), for who writes it decides what
 * is answered, and who reads it reads conversations.
 *
 * Writing takes seconds, and the engine goes on meanwhile: what is to be written is listed by the engine's thread, and copied page
 * by page by another.  A page that can be found never changes; one that is given up before it was copied ends the writing. */
#include "inner.h"

#include <pthread.h>
#include <stdio.h>

enum { TENSORS = 4, PAIRS = 13, VALUE_MAX = 32, PATH_CAP = 4096, TAG_VERSION = 5 };

/* ---- what it was computed for ---- */
typedef struct Tags {
    const char *pair[2 * PAIRS + 1]; /* as safetensors_write takes them */
    char        value[PAIRS][VALUE_MAX];
    int         n;
} Tags;

static void tag(Tags *t, const char *key, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void tag(Tags *t, const char *key, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->value[t->n], VALUE_MAX, fmt, ap);
    va_end(ap);
    t->pair[2 * t->n] = key;
    t->pair[2 * t->n + 1] = t->value[t->n];
    t->n++;
    t->pair[2 * t->n] = NULL;
}

static void tags_of(Tags *t, const Kv *kv, const KvStamp *s)
{
    memset(t, 0, sizeof *t);
    tag(t, "format", "aha key cache");
    tag(t, "version", "%d", TAG_VERSION);
    tag(t, "aha", "%s", AHA_VERSION);
    tag(t, "model", "%016llx", (unsigned long long)s->model);
    tag(t, "arch", "%s", s->arch);
    tag(t, "isa", "%s", s->isa);
    tag(t, "kv_type", "%s", s->kv_type);
    tag(t, "activations", "%s", s->act_q8 ? "q8" : "f32");
    tag(t, "form", kv->val_cols ? "grouped" : "absorbed");
    tag(t, "draft", s->draft ? "yes" : "no");
    tag(t, "layers", "%d", kv->n_layer);
    tag(t, "columns", "%d+%d", kv->key_cols, kv->val_cols);
    tag(t, "heads", "%d", kv->heads);
}

static int check_tags(const WeightFile *f, const char *path, const Tags *t, aha_error *e)
{
    for (int i = 0; i < t->n; i++) {
        const char *key = t->pair[2 * i], *want = t->value[i], *got = weights_metadata(f, key);
        char        shown[64];
        if (got && strcmp(got, want) == 0) continue;
        if (!got) return error_set(e, AHA_ERR_FORMAT, "%s: metadata lacks %s: no saved key cache", path, key);
        return error_set(e, i == 0 ? AHA_ERR_FORMAT : AHA_ERR_UNSUPPORTED, "%s: was saved with %s %s, this engine has %s: its pages are of no use here",
                         path, key, error_quote(shown, sizeof shown, got, strlen(got)), want);
    }
    return 0;
}

static uint64_t check_of(const Kv *kv, const int32_t *token, const uint8_t *data, uint64_t parent)
{
    return hash64(data, kv->page_bytes, hash64(token, KV_PAGE * sizeof *token, parent));
}

/* ---- which pages are saved ---- */
typedef struct Known {
    uint64_t serial;
    int32_t  id, place; /* place: in the file, -1: not in it yet */
} Known;
struct KvSnapshot {
    KvCache       *k;
    const Kv      *kv;
    Known         *known; /* [n_known] by serial */
    int            n_known, n, n_max;
    int32_t       *used;                /* [n_known] the last used first */
    int32_t       *id, *parent, *token; /* [n] of the file */
    uint64_t      *check;               /* the writer's, as what follows */
    uint8_t       *page;                /* the copy of one */
    pthread_mutex_t lock;
    int            copied; /* under the lock: pages of the file that were */
    bool           broken; /* one that was not is no more */
};
typedef struct KvSnapshot Saving;

/* A heap sort: the library's qsort may call malloc behind the seam. */
static void sift(Known *a, int i, int n)
{
    for (int c; (c = 2 * i + 1) < n; i = c) {
        Known t;
        if (c + 1 < n && a[c].serial < a[c + 1].serial) c++;
        if (a[i].serial >= a[c].serial) return;
        t = a[i], a[i] = a[c], a[c] = t;
    }
}
static void sort_known(Known *a, int n)
{
    for (int i = n / 2; i-- > 0;) sift(a, i, n);
    for (int i = n; i-- > 1;) {
        Known t = a[0];
        a[0] = a[i], a[i] = t;
        sift(a, 0, i);
    }
}

static Known *known_find(const Saving *s, uint64_t serial)
{
    int lo = 0, hi = s->n_known;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (s->known[mid].serial < serial)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n_known && s->known[lo].serial == serial ? &s->known[lo] : NULL;
}

/* The first page on the way to `id` that is not in the file yet; NULL: one of them is gone. */
static Known *first_missing(const Saving *s, int32_t id)
{
    Known *p = known_find(s, kvcache_page(s->k, id).serial);
    for (;;) {
        uint64_t parent = kvcache_page(s->k, p->id).parent;
        Known   *q = parent ? known_find(s, parent) : NULL;
        if (!parent || (q && q->place >= 0)) return p;
        if (!q) return NULL;
        p = q;
    }
}

static void put_page(Saving *s, Known *p)
{
    KvPage   page = kvcache_page(s->k, p->id);
    int32_t  parent = page.parent ? known_find(s, page.parent)->place : -1;
    p->place = s->n;
    s->id[s->n] = p->id;
    s->parent[s->n] = parent;
    memcpy(s->token + (size_t)s->n * KV_PAGE, page.token, KV_PAGE * sizeof *page.token);
    s->n++;
}

static void choose(Saving *s)
{
    for (int i = 0; i < s->n_known; i++) {
        Known *want = known_find(s, kvcache_page(s->k, s->used[i]).serial), *p = want;
        while (p && want->place < 0 && s->n < s->n_max)
            if ((p = first_missing(s, want->id))) put_page(s, p);
    }
}

static int saving_init(Saving *s, KvCache *k, int64_t bytes_max, aha_error *e)
{
    const Kv *kv = kvcache_kv(k);
    size_t    total = (size_t)kvcache_pages_total(k), each = kv->page_bytes + (KV_PAGE + 1) * sizeof(int32_t) + sizeof(uint64_t);
    int64_t   fit = bytes_max ? (bytes_max - 4096) / (int64_t)each : INT32_MAX; /* the header is shorter than that */
    s->k = k;
    s->kv = kv;
    s->n_max = fit < 0 ? 0 : fit > INT32_MAX ? INT32_MAX : (int)fit;
    s->used = mem_alloc(total * sizeof *s->used);
    s->known = mem_alloc(total * sizeof *s->known);
    s->id = mem_alloc(total * sizeof *s->id);
    s->parent = mem_alloc(total * sizeof *s->parent);
    s->check = mem_alloc(total * sizeof *s->check);
    s->token = mem_alloc(total * KV_PAGE * sizeof *s->token);
    s->page = mem_alloc(kv->page_bytes);
    if (!s->used || !s->known || !s->id || !s->parent || !s->check || !s->token || !s->page)
        return error_set(e, AHA_ERR_NOMEM, "no memory for a list of %zu pages", total);
    s->n_known = kvcache_registered(k, s->used);
    for (int i = 0; i < s->n_known; i++) s->known[i] = (Known){kvcache_page(k, s->used[i]).serial, s->used[i], -1};
    sort_known(s->known, s->n_known);
    return 0;
}

/* The engine's thread: page id is about to be given up. */
static void on_lost(void *user, int32_t id)
{
    Saving      *s = user;
    const Known *p = known_find(s, kvcache_page(s->k, id).serial);
    if (!p || p->place < 0) return;
    pthread_mutex_lock(&s->lock);
    if (p->place >= s->copied) s->broken = true;
    pthread_mutex_unlock(&s->lock);
}

int kvdisk_snapshot(KvSnapshot **out, KvCache *k, int64_t bytes_max, aha_error *e)
{
    Saving *s = mem_zalloc(1, sizeof *s);
    *out = NULL;
    if (!s) return error_set(e, AHA_ERR_NOMEM, "no memory for a list of pages");
    pthread_mutex_init(&s->lock, NULL);
    int rc = saving_init(s, k, bytes_max, e);
    if (rc == 0) choose(s);
    if (rc == 0 && !kvcache_watch(k, on_lost, s)) rc = error_set(e, AHA_ERR_STATE, "the key cache is being saved already");
    if (rc) {
        kvdisk_snapshot_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void kvdisk_snapshot_free(KvSnapshot *s)
{
    if (!s) return;
    if (s->k) kvcache_unwatch(s->k, s);
    pthread_mutex_destroy(&s->lock);
    void *block[] = {s->used, s->known, s->id, s->parent, s->check, s->token, s->page, s};
    for (size_t i = 0; i < ARRAY_LEN(block); i++) mem_free(block[i]);
}

/* ---- writing ---- */
/* Page i of the file to s->page; the engine gives it up before or behind that, not meanwhile. */
static int copy_page(Saving *s, int i, aha_error *e)
{
    pthread_mutex_lock(&s->lock);
    bool there = !s->broken;
    if (there) kvcache_read(s->k, s->id[i], s->page);
    if (there) s->copied = i + 1;
    pthread_mutex_unlock(&s->lock);
    return there ? 0 : error_set(e, AHA_ERR_STATE, "the key cache needed a page before it was written");
}

static int write_pages(Saving *s, const File *f, aha_error *e)
{
    int rc = 0;
    for (int i = 0; i < s->n && rc == 0; i++) {
        rc = copy_page(s, i, e);
        if (rc == 0) s->check[i] = check_of(s->kv, s->token + (size_t)i * KV_PAGE, s->page, s->parent[i] < 0 ? 0 : s->check[s->parent[i]]);
        if (rc == 0) rc = file_write(f, s->page, s->kv->page_bytes, e);
    }
    return rc;
}

static int write_tensor(void *user, int i, const File *f, aha_error *e)
{
    Saving *s = user;
    size_t  n = (size_t)s->n;
    switch (i) {
    case 0: return file_write(f, s->token, n * KV_PAGE * sizeof *s->token, e);
    case 1: return file_write(f, s->parent, n * sizeof *s->parent, e);
    case 2: return write_pages(s, f, e);
    default: return file_write(f, s->check, n * sizeof *s->check, e);
    }
}

static void describe(TensorInfo t[TENSORS], int64_t n, int64_t page_bytes)
{
    size_t pages = (size_t)n;
    t[0] = (TensorInfo){.name = "token", .dtype = DT_I32, .n_dims = 2, .dim = {n, KV_PAGE}, .bytes = pages * KV_PAGE * sizeof(int32_t)};
    t[1] = (TensorInfo){.name = "parent", .dtype = DT_I32, .n_dims = 1, .dim = {n}, .bytes = pages * sizeof(int32_t)};
    t[2] = (TensorInfo){.name = "page", .dtype = DT_U8, .n_dims = 2, .dim = {n, page_bytes}, .bytes = pages * (size_t)page_bytes};
    t[3] = (TensorInfo){.name = "check", .dtype = DT_U8, .n_dims = 2, .dim = {n, sizeof(uint64_t)}, .bytes = pages * sizeof(uint64_t)};
}

static int write_private(Saving *s, const char *path, const KvStamp *stamp, aha_error *e)
{
    TensorInfo t[TENSORS];
    Tags       tags;
    char       tmp[PATH_CAP];
    int        len = snprintf(tmp, sizeof tmp, "%s.tmp", path), rc; /* where the writer lets it grow */
    if (len < 0 || (size_t)len >= sizeof tmp) return error_set(e, AHA_ERR_LIMIT, "the path is longer than %d bytes", PATH_CAP - 5);
    tags_of(&tags, s->kv, stamp);
    describe(t, s->n, (int64_t)s->kv->page_bytes);
    rc = file_remove(tmp, e);
    if (rc == 0) rc = file_make_private(tmp, e);
    return rc ? rc : safetensors_write_by(path, t, TENSORS, tags.pair, write_tensor, s, e);
}

int kvdisk_write(KvSnapshot *s, const char *path, const KvStamp *stamp, int *n, aha_error *e)
{
    int rc = s->n ? write_private(s, path, stamp, e) : 0;
    *n = rc ? 0 : s->n;
    return rc;
}

int kvdisk_save(KvCache *k, const char *path, const KvStamp *stamp, int64_t bytes_max, int *n, aha_error *e)
{
    KvSnapshot *s;
    int         rc = kvdisk_snapshot(&s, k, bytes_max, e);
    *n = 0;
    if (rc == 0) rc = kvdisk_write(s, path, stamp, n, e);
    kvdisk_snapshot_free(s);
    return rc;
}

/* ---- reading ---- */
typedef struct Loading {
    KvCache       *k;
    const Kv      *kv;
    const char    *path;
    int64_t        n; /* pages in the file */
    const uint8_t *check, *parent, *token, *page; /* unaligned, perhaps */
    KvChain       *chain; /* [n] behind each page */
    uint64_t      *sum;   /* [n] */
    int32_t       *id;    /* [n] held */
    bool          *ours;  /* [n] it was not there before */
    uint8_t       *copy;  /* of a page */
    int            n_held;
} Loading;

static int find_tensors(Loading *l, const WeightFile *f, aha_error *e)
{
    const uint8_t   **to[TENSORS] = {&l->token, &l->parent, &l->page, &l->check};
    const TensorInfo *page = weights_find(f, "page");
    TensorInfo        want[TENSORS];
    l->n = page && page->n_dims == 2 ? page->dim[0] : 0;
    if (l->n < 1 || l->n > INT32_MAX) return error_set(e, AHA_ERR_FORMAT, "%s: tensor page: expected one of [pages, bytes]", l->path);
    describe(want, l->n, (int64_t)l->kv->page_bytes);
    for (int i = 0; i < TENSORS; i++) {
        const TensorInfo *t = weights_find(f, want[i].name);
        if (!t || t->dtype != want[i].dtype || t->n_dims != want[i].n_dims || t->dim[0] != l->n || (t->n_dims == 2 && t->dim[1] != want[i].dim[1]))
            return error_set(e, AHA_ERR_FORMAT, "%s: tensor %s: expected %s [%lld%s%.0lld]", l->path, want[i].name, dtype_info(want[i].dtype)->name,
                             (long long)l->n, want[i].n_dims == 2 ? ", " : "", (long long)want[i].dim[1]);
        *to[i] = t->data;
    }
    return 0;
}

static int loading_init(Loading *l, aha_error *e)
{
    size_t n = (size_t)l->n;
    l->chain = mem_zalloc(n, sizeof *l->chain);
    l->sum = mem_zalloc(n, sizeof *l->sum);
    l->id = mem_zalloc(n, sizeof *l->id);
    l->ours = mem_zalloc(n, sizeof *l->ours);
    l->copy = mem_alloc(l->kv->page_bytes);
    return l->chain && l->sum && l->id && l->ours && l->copy ? 0 : error_set(e, AHA_ERR_NOMEM, "%s: no memory for a list of %zu pages", l->path, n);
}

/* Page i of the file, checked; when there is room for it, into a page of the cache. */
static int load_page(Loading *l, int i, int vocab, aha_error *e)
{
    int32_t  token[KV_PAGE], parent, id;
    uint64_t check;
    memcpy(token, l->token + (size_t)i * sizeof token, sizeof token);
    memcpy(&parent, l->parent + (size_t)i * sizeof parent, sizeof parent);
    memcpy(&check, l->check + (size_t)i * sizeof check, sizeof check);
    if (parent < -1 || parent >= i) return error_set(e, AHA_ERR_FORMAT, "%s: page %d follows page %d, expected one before it or -1", l->path, i, parent);
    for (int t = 0; t < KV_PAGE; t++)
        if (token[t] < 0 || token[t] >= vocab)
            return error_set(e, AHA_ERR_FORMAT, "%s: page %d has token %d, expected 0 to %d", l->path, i, token[t], vocab - 1);
    memcpy(l->copy, l->page + (size_t)i * l->kv->page_bytes, l->kv->page_bytes); /* first: the file may change under our eyes */
    l->sum[i] = check_of(l->kv, token, l->copy, parent < 0 ? 0 : l->sum[parent]);
    if (l->sum[i] != check)
        return error_set(e, AHA_ERR_FORMAT, "%s: page %d of %lld is damaged: its check is %016llx, expected %016llx", l->path, i, (long long)l->n,
                         (unsigned long long)l->sum[i], (unsigned long long)check);
    id = l->n_held == i ? kvcache_take_empty(l->k) : -1;
    if (id < 0) return 0;
    kvcache_write(l->k, id, l->copy);
    l->chain[i] = parent < 0 ? kvcache_root(l->k) : l->chain[parent];
    l->id[i] = kvcache_add(l->k, &l->chain[i], token, id);
    l->ours[i] = l->id[i] == id;
    l->n_held++;
    return 0;
}

/* The last first, so that of pages that nobody holds the first of the file are the last to go. */
static void release(Loading *l, bool keep)
{
    while (l->n_held > 0) {
        int i = --l->n_held;
        if (keep || !l->ours[i])
            kvcache_drop(l->k, l->id[i]);
        else
            kvcache_discard(l->k, l->id[i]);
    }
}

int kvdisk_load(KvCache *k, const char *path, const KvStamp *stamp, int vocab, int *n, aha_error *e)
{
    Loading     l = {.k = k, .kv = kvcache_kv(k), .path = path};
    WeightFile *f = NULL;
    Tags        tags;
    int         rc = weights_open(&f, path, e);
    *n = 0;
    if (rc) return rc;
    tags_of(&tags, l.kv, stamp);
    rc = check_tags(f, path, &tags, e);
    if (rc == 0) rc = find_tensors(&l, f, e);
    if (rc == 0) rc = loading_init(&l, e);
    if (rc == 0) weights_expect_all(f);
    for (int i = 0; i < l.n && rc == 0; i++) rc = load_page(&l, i, vocab, e);
    if (rc == 0) *n = l.n_held;
    release(&l, rc == 0);
    void *block[] = {l.chain, l.sum, l.id, l.ours, l.copy};
    for (size_t i = 0; i < ARRAY_LEN(block); i++) mem_free(block[i]);
    weights_close(f);
    return rc;
}
