/* Counters, in Prometheus's text form. */
#include "inner.h"

/* upper bounds of the buckets, in seconds; one more for what is above */
static const double BOUND[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500};
_Static_assert(ARRAY_LEN(BOUND) < ARRAY_LEN(((Histogram *)0)->count), "a bucket for each bound and one above");

void histogram_add(Histogram *h, double s)
{
    size_t i = 0;
    while (i < ARRAY_LEN(BOUND) && s > BOUND[i]) i++;
    h->count[i]++;
    h->sum += s;
    h->n++;
}

static void histogram_text(const Histogram *h, const char *name, const char *help, Buf *out)
{
    long long sum = 0;
    buf_fmt(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (size_t i = 0; i < ARRAY_LEN(BOUND); i++) {
        sum += h->count[i];
        buf_fmt(out, "%s_bucket{le=\"%g\"} %lld\n", name, BOUND[i], sum);
    }
    buf_fmt(out, "%s_bucket{le=\"+Inf\"} %lld\n%s_sum %.6f\n%s_count %lld\n", name, (long long)h->n, name, h->sum, name, (long long)h->n);
}

static void value(Buf *out, const char *name, const char *type, const char *help, double v)
{
    buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, v);
}

/* The database of keys and usage: that it cannot be written is seen here before anything is lost. */
static void keys_text(const Keys *k, Buf *out)
{
    KeysStats n;
    keys_stats(k, &n);
    value(out, "aha_keys", "gauge", "Keys that work now.", (double)n.usable);
    value(out, "aha_usage_unwritten_requests", "gauge", "Requests whose usage is in memory and not yet in the database.", (double)n.unwritten);
    value(out, "aha_usage_lost_requests_total", "counter", "Requests whose usage was lost.", (double)n.lost);
    value(out, "aha_database_failures", "gauge", "Failures of the database since it last worked.", (double)n.failures);
}

/* Those that can be found are free too: they are given up when the room is needed. */
static void pages_text(Server *s, Buf *out)
{
    static const char NAME[] = "aha_cache_pages";
    pthread_mutex_lock(&s->stats_lock);
    const aha_engine_stats st = s->stats;
    pthread_mutex_unlock(&s->stats_lock);
    buf_fmt(out, "# HELP %s Pages of the key cache: held by sequences; free, with keys that can be found again; free and empty.\n# TYPE %s gauge\n", NAME, NAME);
    buf_fmt(out, "%s{state=\"held\"} %d\n%s{state=\"findable\"} %d\n%s{state=\"empty\"} %d\n", NAME, st.pages_held, NAME, st.pages_findable, NAME, st.pages_empty);
    value(out, "aha_cache_page_tokens", "gauge", "Positions in a page.", st.page_tokens);
    value(out, "aha_preemptions_total", "counter", "Sequences sent back to wait because the key cache was full.", (double)st.preempted);
}

static void cache_file_text(Server *s, Buf *out)
{
    value(out, "aha_cache_file_saves_total", "counter", "Times that the key cache was saved.", (double)atomic_load(&s->cache_file.saves));
    value(out, "aha_cache_file_failures_total", "counter", "Times that saving it failed.", (double)atomic_load(&s->cache_file.failures));
}

void metrics_text(Server *s, Buf *out)
{
    const Metrics *m = &s->m;
    int            in_engine = atomic_load(&s->n_seqs), slots = s->info.seqs;
    buf_str(out, "# HELP aha_requests_total Answered requests by the class of their status.\n# TYPE aha_requests_total counter\n");
    for (int i = 1; i < 6; i++) buf_fmt(out, "aha_requests_total{status=\"%dxx\"} %lld\n", i, (long long)m->requests[i]);
    value(out, "aha_requests_refused_total", "counter", "Requests refused with 503 because too many were waiting.", (double)m->refused_overload);
    value(out, "aha_requests_cancelled_total", "counter", "Requests whose client went before the answer was complete.", (double)m->cancelled);
    value(out, "aha_prompt_tokens_total", "counter", "Tokens of prompts.", (double)m->prompt_tokens);
    value(out, "aha_prompt_tokens_cached_total", "counter", "Tokens of prompts that were taken from the cache.", (double)m->cached_tokens);
    value(out, "aha_generated_tokens_total", "counter", "Generated tokens.", (double)m->new_tokens);
    value(out, "aha_steps_total", "counter", "Steps of the engine.", (double)atomic_load(&s->steps));
    value(out, "aha_requests_under_way", "gauge", "Requests that were admitted and are not answered.", s->n_admitted);
    value(out, "aha_batch_sequences", "gauge", "Sequences in the engine that have a slot.", in_engine < slots ? in_engine : slots);
    value(out, "aha_queue_sequences", "gauge", "Sequences that wait for a slot.", in_engine > slots ? in_engine - slots : 0);
    value(out, "aha_slots", "gauge", "Sequences that can run at once.", slots);
    value(out, "aha_cache_bytes", "gauge", "Size of the key cache.", (double)s->info.cache_bytes);
    value(out, "aha_resident_bytes", "gauge", "Memory of the process.", (double)os_memory_rss());
    value(out, "aha_start_time_seconds", "gauge", "When the server started, since 1970.", (double)s->started);
    pages_text(s, out);
    if (s->o.cache_file) cache_file_text(s, out);
    if (s->o.keys) keys_text(s->o.keys, out);
    histogram_text(&m->first_token, "aha_first_token_seconds", "From a request's arrival to its first token.", out);
    histogram_text(&m->between_tokens, "aha_between_tokens_seconds", "Between the tokens of an answer.", out);
    histogram_text(&m->whole, "aha_request_seconds", "From a request's arrival to the end of its answer.", out);
}
