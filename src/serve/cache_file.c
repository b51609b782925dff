/* The key cache in a file (--cache-file), so that a conversation goes on after a restart without being computed again.
 *
 * Read before the first request, written after the last one; and meanwhile when the engine has had nothing to do for a while and
 * there is something new, because a server may be killed.  Writing keeps the engine's thread, hence the bound on the bytes and the
 * wait: what a request that comes just then loses is that time.  No trouble with the file ends the server. */
#include <string.h>

#include "inner.h"

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
    if (!s->o.cache_file || !s->o.cache_file_idle_s || s->cache_file.foreign || computed(s) == s->cache_file.tried) return -1;
    return s->o.cache_file_idle_s;
}

void cache_file_save(Server *s)
{
    CacheFile *c = &s->cache_file;
    aha_error  e = {0};
    int64_t    now = computed(s);
    if (!s->o.cache_file || c->foreign || now == c->saved || os_shrunk()) return; /* keys of damaged weights are worth nothing */
    c->tried = now;
    int n = aha_engine_cache_save(s->g, s->o.cache_file, s->o.cache_file_bytes, &e);
    if (n < 0) {
        if (!c->failing) log_msg(LOG_ERROR, "the key cache was not saved; this is said once: %s", e.text);
        c->failing = true;
        atomic_fetch_add(&c->failures, 1);
        return;
    }
    c->saved = now;
    c->failing = false;
    if (!n) return; /* no full page yet */
    atomic_fetch_add(&c->saves, 1);
    log_msg(LOG_INFO, "%s: %d pages of the key cache were saved", s->o.cache_file, n);
}
