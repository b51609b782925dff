/* The thread beside the server: writes what was used, and reads the file again when another process changed it.
 *
 * Usage is summed per key and day in memory, so what waits is bounded by the number of keys, however long the file cannot be
 * written; a round moves sums of at most BATCH keys into one transaction.  A failure puts them back and is tried again. */
#include <string.h>

#include "keys_inner.h"

enum { BATCH = 256, POLL_MS = 1000, RETRY_MAX_MS = 30000, MASK_MIN = 63 };

static int poll_ms(const Keys *k) { return k->o.poll_ms > 0 ? k->o.poll_ms : POLL_MS; }

/* ---- the file into memory ---- */
typedef struct Fresh { /* what a reload makes before it takes the lock */
    KeyRow    *row;
    KeyEntry **entry; /* [n] of the rows */
    int        n;
    KeyEntry **table;
    size_t     mask;
} Fresh;

static KeyEntry *entry_new(Keys *k, const KeyRow *r)
{
    KeyEntry *t = mem_zalloc(1, sizeof *t);
    if (!t) return NULL;
    memcpy(t->hash, r->hash, KEY_HASH_LEN);
    memcpy(t->name, r->info.name, sizeof t->name);
    t->level = r->info.limits.per_minute; /* a full bucket */
    t->next = k->all;
    k->all = t;
    return t;
}

static bool table_make(const Keys *k, Fresh *f)
{
    size_t n = MASK_MIN + 1;
    while (n < 2 * (size_t)f->n) n *= 2;
    f->table = mem_zalloc(n, sizeof *f->table);
    if (!f->table) return false;
    f->mask = n - 1;
    for (int j = 0; j < f->n; j++) {
        size_t i = hash64(f->entry[j]->hash, KEY_HASH_LEN, k->seed) & f->mask;
        while (f->table[i]) i = (i + 1) & f->mask;
        f->table[i] = f->entry[j];
    }
    return true;
}

/* Under the lock: what the row says now.  A limit that is new begins with a full bucket. */
static void entry_update(KeyEntry *t, const KeyRow *r, int64_t day)
{
    if (!t->limits.per_minute || t->level > r->info.limits.per_minute) t->level = r->info.limits.per_minute;
    t->id = r->info.id;
    t->limits = r->info.limits;
    t->expires = r->info.expires;
    t->revoked = r->info.revoked;
    t->present = true;
    t->day = day;
    if (__builtin_add_overflow(r->used, pending_tokens(t, day), &t->used)) t->used = INT64_MAX;
}

static int fresh_make(Keys *k, Fresh *f, aha_error *e)
{
    bool ok = true;
    f->entry = mem_zalloc((size_t)f->n + 1, sizeof *f->entry);
    if (!f->entry) ok = false;
    for (int i = 0; i < f->n && ok; i++) {
        f->entry[i] = keys_find(k, f->row[i].hash);
        if (!f->entry[i]) f->entry[i] = entry_new(k, &f->row[i]);
        ok = f->entry[i] != NULL;
    }
    return ok && table_make(k, f) ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory for %d keys", f->n);
}

int keys_reload(Keys *k, aha_error *e)
{
    Fresh      f = {0};
    KeyEntry **old = NULL;
    int64_t    day = keys_today(k), version = 0;
    int        rc = store_number(&k->store, "PRAGMA data_version", &version, e); /* before the rows: a change meanwhile is seen next time */
    if (rc == 0) rc = store_keys(&k->store, day, &f.row, &f.n, e);
    if (rc == 0) rc = fresh_make(k, &f, e);
    if (rc == 0) {
        keys_lock(k);
        for (size_t i = 0; k->table && i <= k->mask; i++) {
            if (!k->table[i]) continue;
            k->table[i]->present = false;
            k->table[i]->id = 0; /* what it still used is nobody's */
        }
        for (int i = 0; i < f.n; i++) entry_update(f.entry[i], &f.row[i], day);
        old = k->table;
        k->table = f.table;
        k->mask = f.mask;
        k->required = k->required || f.n > 0; /* a file that was emptied opens nothing */
        keys_unlock(k);
        k->version = version;
        f.table = NULL;
    }
    mem_free(old);
    mem_free(f.table);
    mem_free(f.entry);
    mem_free(f.row);
    return rc;
}

/* ---- memory into the file ---- */
static int batch_take(Keys *k, UseItem item[BATCH])
{
    int n = 0;
    keys_lock(k);
    while (k->dirty && n + PENDING_DAYS <= BATCH) {
        KeyEntry *t = k->dirty;
        k->dirty = t->dirty_next;
        t->dirty = false;
        for (int i = 0; i < PENDING_DAYS; i++) {
            if (!t->pending[i].u.requests) continue;
            item[n++] = (UseItem){t, t->id, t->pending[i]};
            t->pending[i] = (DayUse){0};
        }
    }
    keys_unlock(k);
    return n;
}

/* Until here they counted as unwritten.  What was not written waits again. */
static void batch_end(Keys *k, const UseItem *item, int n, bool written)
{
    keys_lock(k);
    for (int i = 0; i < n; i++) {
        k->unwritten -= item[i].use.u.requests;
        if (!written) pending_add(k, item[i].entry, item[i].use.day, &item[i].use.u);
    }
    keys_unlock(k);
}

static int flush(Keys *k, aha_error *e)
{
    UseItem item[BATCH];
    int     n, rc = 0;
    while (rc == 0 && (n = batch_take(k, item)) > 0) {
        rc = store_use_add(&k->store, item, n, e);
        batch_end(k, item, n, rc == 0);
    }
    return rc;
}

/* ---- the rounds ---- */
/* Another file has the name now, after a restore: that one counts.  If none has, this is no reason to make an empty one. */
static int reopen(Keys *k, aha_error *e)
{
    Store s;
    char *path = mem_strdup(k->store.path);
    int   rc = path ? store_open(&s, path, false, e) : error_set(e, AHA_ERR_NOMEM, "no memory to open the database again");
    mem_free(path);
    if (rc) return rc;
    store_close(&k->store);
    k->store = s;
    k->version = -1;
    return 0;
}

static int look(Keys *k, aha_error *e)
{
    int64_t version = 0;
    int     rc = store_number(&k->store, "PRAGMA data_version", &version, e);
    return rc == 0 && version != k->version ? keys_reload(k, e) : rc;
}

static void lost_say(Keys *k)
{
    keys_lock(k);
    int64_t lost = k->lost - k->lost_said;
    k->lost_said = k->lost;
    keys_unlock(k);
    if (lost) log_msg(LOG_ERROR, "keys: the usage of %lld requests is lost: the database could not be written for more than %d days", (long long)lost, PENDING_DAYS);
}

static void outcome(Keys *k, int rc, const aha_error *e)
{
    keys_lock(k);
    int64_t before = k->failures, waiting = k->unwritten;
    k->failures = rc ? before + 1 : 0;
    keys_unlock(k);
    if (rc) {
        int64_t ms = (int64_t)poll_ms(k) << (before < 16 ? before : 16); /* longer and longer */
        k->retry_ns = time_now_ns() + (uint64_t)(ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS) * 1000000u;
    }
    if (rc && !before) log_msg(LOG_WARN, "keys: %s; usage is kept in memory and tried again, keys are those read before", e->text);
    if (!rc && before) log_msg(LOG_WARN, "keys: the database works again after %lld failures; %lld requests wait to be written", (long long)before, (long long)waiting);
    lost_say(k);
}

static void work(Keys *k)
{
    aha_error e = {0};
    int       rc = 0;
    if (k->failures && time_now_ns() < k->retry_ns) return;
    if (store_moved(&k->store)) rc = reopen(k, &e);
    if (rc == 0) rc = look(k, &e); /* first: in another file the keys have other numbers */
    if (rc == 0) rc = flush(k, &e);
    outcome(k, rc, &e);
}

void keys_writer(void *keys)
{
    Keys *k = keys;
    while (!atomic_load(&k->stop)) {
        waker_wait(k->waker, poll_ms(k));
        if (!atomic_load(&k->stop)) work(k);
    }
    k->retry_ns = 0;
    work(k); /* the last word */
}

/* ---- begin and end ---- */
int keys_open(Keys **out, const char *path, const KeysOptions *o, aha_error *e)
{
    Keys *k = mem_zalloc(1, sizeof *k);
    int   rc = 0;
    *out = NULL;
    if (!k) return error_set(e, AHA_ERR_NOMEM, "no memory for keys");
    if (pthread_mutex_init(&k->lock, NULL)) {
        mem_free(k);
        return error_set(e, AHA_ERR_NOMEM, "no memory for keys");
    }
    if (o) k->o = *o;
    memcpy(k->nobody.name, "-", 2);
    k->seed = os_random_u64();
    k->stored = path != NULL;
    if (path) {
        rc = store_open(&k->store, path, true, e);
        if (rc == 0) rc = keys_reload(k, e);
        if (rc == 0 && !(k->waker = waker_new(e))) rc = AHA_ERR_NOMEM;
        if (rc == 0) rc = thread_start(&k->writer, keys_writer, k, e);
    }
    if (rc) {
        keys_close(k);
        return rc;
    }
    *out = k;
    return 0;
}

void keys_close(Keys *k)
{
    if (!k) return;
    atomic_store(&k->stop, true);
    if (k->writer) waker_wake(k->waker);
    thread_join(k->writer);
    if (k->unwritten) log_msg(LOG_ERROR, "keys: the usage of %lld requests is lost: the database cannot be written", (long long)k->unwritten);
    for (KeyEntry *t = k->all, *next; t; t = next) {
        next = t->next;
        mem_free(t);
    }
    store_close(&k->store);
    waker_free(k->waker);
    mem_free(k->table);
    pthread_mutex_destroy(&k->lock);
    mem_free(k);
}
