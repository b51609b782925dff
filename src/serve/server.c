/* The server as a whole: begin, loop, end. */
#include <stdio.h>
#include <string.h>

#include "http.h"

enum { TICK_MS = 250 };

static void name_first(Server *s)
{
    size_t n = strcspn(s->o.model, ",");
    snprintf(s->model, sizeof s->model, "%.*s", (int)(n < sizeof s->model ? n : sizeof s->model - 1), s->o.model);
    Buf about = {0};
    buf_fmt(&about, "%s %s %s %lld %s %s", AHA_VERSION, s->model, s->info.arch, (long long)s->info.parameters, s->info.isa, s->info.kv_type);
    snprintf(s->fingerprint, sizeof s->fingerprint, "fp_%010llx", (unsigned long long)hash64(about.data, about.n, 1) & 0xFFFFFFFFFFull);
    buf_free(&about);
}

static void server_init(Server *s, aha_engine *g, const ServeOptions *o)
{
    s->g = g;
    s->o = *o;
    s->info.size = sizeof s->info;
    aha_engine_get_info(g, &s->info);
    s->started = (int64_t)time_unix();
    s->id_seed = os_random_u64();
    s->service_s = 1;
    s->event = -1;
    name_first(s);
    queue_init(&s->readers[0]);
    queue_init(&s->readers[1]);
    queue_init(&s->inbox);
    queue_init(&s->prepared);
    pthread_mutex_init(&s->dirty_lock, NULL);
    pthread_mutex_init(&s->stats_lock, NULL);
}

static int threads_start(Server *s, ReaderArg arg[2], aha_error *e)
{
    int rc = event_open(&s->event, e);
    if (rc == 0) rc = thread_start(&s->engine, engine_main, s, e);
    for (int i = 0; i < 2 && rc == 0; i++) {
        arg[i] = (ReaderArg){s, &s->readers[i]};
        rc = thread_start(&s->reader[i], reader_main, &arg[i], e);
    }
    return rc;
}

static void threads_stop(Server *s)
{
    queue_stop(&s->readers[0]);
    queue_stop(&s->readers[1]);
    queue_stop(&s->inbox);
    thread_join(s->reader[0]);
    thread_join(s->reader[1]);
    thread_join(s->engine);
}

/* What no thread has any more. */
static void server_free(Server *s)
{
    Queue *all[] = {&s->readers[0], &s->readers[1], &s->inbox, &s->prepared};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (Task *t = queue_take_all(all[i]), *next; t; t = next) {
            next = t->next;
            t->away = false;
            task_free(t);
        }
        queue_destroy(all[i]);
    }
    for (Task *t = s->dirty, *next; t; t = next) {
        next = t->next_dirty;
        task_free(t);
    }
    pthread_mutex_destroy(&s->dirty_lock);
    pthread_mutex_destroy(&s->stats_lock);
    descriptor_close(s->event);
}

/* Until it is to end; then until what is under way is done, or its time is up. */
static void loop(Server *s, Http *h)
{
    uint64_t tick = 0, end = 0;
    for (;;) {
        http_run(h, TICK_MS);
        uint64_t now = time_now_ns();
        if (now - tick > (uint64_t)TICK_MS * 1000000) {
            http_tick(h, now);
            tick = now;
        }
        if (!s->draining && s->o.stop()) {
            s->draining = true;
            end = now + (uint64_t)s->o.drain_s * (uint64_t)1000000000;
            http_quiesce(h);
        }
        if (s->draining && ((!http_busy(h) && !s->n_tasks) || now >= end)) return;
    }
}

int serve_run(aha_engine *g, const ServeOptions *o, aha_error *e)
{
    Server   *s = mem_zalloc(1, sizeof *s);
    Http      h = {.poll = -1, .listener = -1, .host = o->host};
    ReaderArg arg[2];
    char      url[300];
    if (!s) return error_set(e, AHA_ERR_NOMEM, "no memory for a server");
    server_init(s, g, o);
    os_shrink_guard();
    int rc = o->tls_cert ? tls_open(&h.tls, o->tls_cert, o->tls_key, e) : 0;
    if (h.tls && (double)tls_expires(h.tls) <= time_unix()) log_msg(LOG_WARN, "the certificate '%s' has expired", o->tls_cert);
    h.tls_ns = time_now_ns();
    if (rc == 0) rc = listen_open(o->host, o->port, &h.listener, &h.local, h.tls != NULL, url, sizeof url, e);
    if (rc == 0) cache_file_load(s);
    engine_publish(s);
    if (rc == 0) rc = threads_start(s, arg, e);
    if (rc == 0) rc = http_start(&h, s, e);
    if (rc == 0) {
        o->ready(o->user, url);
        loop(s, &h);
    }
    http_stop(&h);
    tls_free(h.tls);
    threads_stop(s);
    cache_file_save(s);
    server_free(s);
    mem_free(s);
    return rc;
}
