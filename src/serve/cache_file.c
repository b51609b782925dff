/* The key cache in a file (--cache-file), so that a conversation goes on after a restart without being computed again.
 *
 * Read before the first request, written after the last one; and meanwhile when the engine has had nothing to do for a while and
 * there is something new, because a server may be killed.  The engine's thread says what is written, another one writes it, so a request
 * that comes just then does not wait for a disk.  No trouble with the file ends the server. */
#include <string.h>

#include "inner.h"

#define DONE_S 0.1 /* how often it is looked whether the writer is done, while there is nothing else to do */

/* Tokens whose keys were computed: when it has not grown, there is nothing new to write. */
static int64_t computed(const Server *s)
{
    aha_engine_stats st = {.size = sizeof st};
    aha_engine_get_stats(s->g, &st);
    return st.prompt_tokens + st.new_tokens;
}

/* Whether it may be replaced: it is a saved key cache, however damaged, or empty.  A name mistyped must not cost somebody's weights. */
static bool is_ours(const char *path)
{
    static const char MARK[] = "aha key cache"; /* the format's name, in the head of every such file */
    File      f;
    aha_error e;
    char      head[1024];
    bool      found = false;
    if (file_open(&f, path, &e)) return false;
    size_t n = f.size < (int64_t)sizeof head ? (size_t)f.size : sizeof head;
    if (file_pread(&f, head, n, 0, &e) == 0) found = n == 0 || memmem(head, n, MARK, sizeof MARK - 1);
    file_close(&f);
    return found;
}

void cache_file_load(Server *s)
{
    const char *path = s->o.cache_file;
    aha_error   e = {0};
    if (!path || !file_exists(path)) return;
    int n = aha_engine_cache_load(s->g, path, &e);
    if (n >= 0) {
        log_msg(LOG_INFO, "%s: %d pages of the key cache were read", path, n);
    } else if (is_ours(path)) {
        log_msg(LOG_WARN, "the saved key cache is not used and will be replaced: %s", e.text);
    } else {
        log_msg(LOG_WARN, "'%s' is no saved key cache and is left alone, so that nothing is saved; name another file: %s", path, e.text);
        s->cache_file.foreign = true;
    }
}

double cache_file_wait(const Server *s)
{
    const CacheFile *c = &s->cache_file;
    if (c->snapshot) return DONE_S;
    if (!s->o.cache_file || !s->o.cache_file_idle_s || c->foreign || computed(s) == c->tried) return -1;
    return s->o.cache_file_idle_s;
}

static void write_it(void *server)
{
    Server    *s = server;
    CacheFile *c = &s->cache_file;
    c->pages = aha_cache_snapshot_write(c->snapshot, s->o.cache_file, &c->e);
    atomic_store(&c->done, true);
}

static void report(Server *s)
{
    CacheFile *c = &s->cache_file;
    if (c->pages == AHA_ERR_STATE) { /* not the file's fault: it is tried again when there is time */
        log_msg(LOG_INFO, "the key cache was not saved: %s", c->e.text);
    } else if (c->pages < 0) {
        if (!c->failing) log_msg(LOG_ERROR, "the key cache was not saved; this is said once: %s", c->e.text);
        c->failing = true;
        atomic_fetch_add(&c->failures, 1);
    } else {
        c->saved = c->tried;
        c->failing = false;
        if (!c->pages) return; /* no full page yet */
        atomic_fetch_add(&c->saves, 1);
        log_msg(LOG_INFO, "%s: %d pages of the key cache were saved", s->o.cache_file, c->pages);
    }
}

/* Until it is done, if there is one. */
static void finish(Server *s)
{
    CacheFile *c = &s->cache_file;
    if (!c->snapshot) return;
    thread_join(c->writer);
    aha_cache_snapshot_free(c->snapshot);
    c->snapshot = NULL;
    report(s);
}

void cache_file_tend(Server *s)
{
    if (s->cache_file.snapshot && atomic_load(&s->cache_file.done)) finish(s);
}

void cache_file_begin(Server *s)
{
    CacheFile *c = &s->cache_file;
    int64_t    now = computed(s);
    cache_file_tend(s);
    if (!s->o.cache_file || c->snapshot || c->foreign || now == c->tried || now == c->saved || os_shrunk()) return; /* keys of damaged weights are worth nothing */
    c->tried = now;
    c->writer = NULL;
    atomic_store(&c->done, false);
    c->pages = aha_engine_cache_snapshot(s->g, s->o.cache_file_bytes, &c->snapshot, &c->e);
    if (c->pages == 0 && thread_start(&c->writer, write_it, s, &c->e)) write_it(s); /* no thread: here, then */
    if (!c->snapshot) report(s);
}

void cache_file_save(Server *s)
{
    finish(s);
    s->cache_file.tried = s->cache_file.saved;
    cache_file_begin(s);
    finish(s);
}
