/* HTTP by libmicrohttpd, its poll inside ours.
 *
 * What the library leaves open is closed here: a suspended connection notices no hang-up (each is watched for it in our poll),
 * its time-outs know inactivity only (each phase has a deadline), lengths may contradict each other (http_check.c). */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http.h"

enum { MEMORY_PER_CONNECTION = 48 << 10, SWALLOW_MAX = 1 << 20, SEND_BUFFER = 128 << 10, DATA_EVENTS = 64 };

/* ---- connections ---- */
static void enter(Conn *c, Phase p)
{
    c->phase = p;
    c->since_ns = time_now_ns();
}

/* Who does not take an answer is not sent the rest of it: without a reset the system would go on offering what it holds, for minutes. */
void conn_kill(Conn *c)
{
    const struct linger none = {.l_onoff = 1};
    if (c->phase == PHASE_SEND || c->phase == PHASE_WORK) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    c->hung_up = true;
    shutdown(c->fd, SHUT_RDWR);
    if (c->x) exchange_resume(c->x);
}

static void conn_start(Http *h, struct MHD_Connection *mc, void **slot)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
    const int                       send = SEND_BUFFER, on = 1, idle = 30;
    Conn                           *c = mem_zalloc(1, sizeof *c);
    *slot = c;
    if (!c) return; /* its requests are refused */
    *c = (Conn){.h = h, .c = mc, .fd = info ? info->connect_fd : -1, .fresh = true, .next = h->conns};
    if (h->conns) h->conns->prev = c;
    h->conns = c;
    h->n_conns++;
    enter(c, PHASE_IDLE);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof send);
    setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
}

static void conn_end(Conn *c)
{
    Http *h = c->h;
    if (c->watched) epoll_ctl(h->poll, EPOLL_CTL_DEL, c->fd, NULL);
    if (c->prev) c->prev->next = c->next;
    else h->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    h->n_conns--;
    mem_free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **slot, enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) conn_start(cls, mc, slot);
    else if (*slot) conn_end(*slot);
}

static Conn *conn_of(struct MHD_Connection *mc)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* The first line of a request is there. */
static void *on_line(void *cls, const char *uri, struct MHD_Connection *mc)
{
    Conn *c = conn_of(mc);
    (void)cls, (void)uri;
    if (!c) return NULL;
    uint64_t since = c->since_ns;
    enter(c, PHASE_HEAD);
    if (c->fresh) c->since_ns = since; /* one deadline from the beginning */
    c->fresh = false;
    return NULL;
}

/* From now on the client's hang-up is seen, whatever the library does. */
static void watch(Conn *c)
{
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (!c->watched) c->watched = epoll_ctl(c->h->poll, EPOLL_CTL_ADD, c->fd, &ev) == 0;
}

/* ---- exchanges ---- */
Server     *exchange_server(const Exchange *x) { return x->s; }
const char *exchange_path(const Exchange *x) { return x->path; }
Buf        *exchange_out(Exchange *x) { return &x->out; }

void exchange_resume(Exchange *x)
{
    if (!x->suspended) return;
    x->suspended = false;
    MHD_resume_connection(x->conn->c);
}

static void suspend(Exchange *x)
{
    watch(x->conn);
    if (x->conn->hung_up) return; /* it ends instead */
    x->suspended = true;
    MHD_suspend_connection(x->conn->c);
}

static void head_lines(Exchange *x, struct MHD_Response *r, const char *type)
{
    if (type) MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, "X-Request-Id", x->id);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (x->s->draining) MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
    if (!x->origin[0]) return;
    MHD_add_response_header(r, "Access-Control-Allow-Origin", x->origin);
    MHD_add_response_header(r, MHD_HTTP_HEADER_VARY, "Origin");
}

static void give(Exchange *x, int status, const char *type, const void *data, size_t n, enum MHD_ResponseMemoryMode mode)
{
    x->response = MHD_create_response_from_buffer(n, (void *)data, mode);
    x->status = status;
    x->whole_bytes = n;
    if (x->response) head_lines(x, x->response, type);
    else x->conn->hung_up = true; /* no memory */
    exchange_resume(x);
}

void exchange_answer(Exchange *x, int status, const char *type, const Buf *body)
{
    if (body->failed) give(x, 503, "text/plain", "no memory for the answer\n", 25, MHD_RESPMEM_PERSISTENT);
    else give(x, status, type, body->n ? body->data : "", body->n, MHD_RESPMEM_MUST_COPY);
}

void exchange_static(Exchange *x, int status, const char *type, const void *data, size_t n)
{
    give(x, status, type, data, n, MHD_RESPMEM_PERSISTENT);
}

void exchange_head(Exchange *x, const char *name, const char *value)
{
    if (x->response) MHD_add_response_header(x->response, name, value);
}

const char *exchange_asked(const Exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->conn->c, MHD_HEADER_KIND, name);
}

void exchange_refuse(Exchange *x, const Refusal *r)
{
    Buf  body = {0};
    char seconds[16];
    refusal_json(r, &body);
    exchange_answer(x, r->status, "application/json", &body);
    if (x->response && r->retry_after_s) {
        snprintf(seconds, sizeof seconds, "%d", r->retry_after_s);
        MHD_add_response_header(x->response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    if (x->response && r->status == 401) MHD_add_response_header(x->response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    buf_free(&body);
}

/* The answer to a browser that asks whether a page from elsewhere may ask. */
static void exchange_preflight(Exchange *x)
{
    give(x, 204, NULL, "", 0, MHD_RESPMEM_PERSISTENT);
    if (!x->response) return;
    MHD_add_response_header(x->response, "Access-Control-Allow-Methods", "GET, POST");
    MHD_add_response_header(x->response, "Access-Control-Allow-Headers", "authorization, content-type");
    MHD_add_response_header(x->response, "Access-Control-Max-Age", "600");
}

/* ---- streams ---- */
static ssize_t stream_read(void *cls, uint64_t pos, char *dst, size_t max)
{
    Exchange *x = cls;
    size_t    n = x->out.n - x->out_at;
    (void)pos;
    if (x->conn->hung_up || x->out.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
    x->conn->since_ns = time_now_ns();
    if (!n && x->last) return MHD_CONTENT_READER_END_OF_STREAM;
    if (!n) {
        suspend(x);
        return 0;
    }
    if (n > max) n = max;
    memcpy(dst, x->out.data + x->out_at, n);
    x->out_at += n;
    if (x->out_at == x->out.n) {
        buf_reset(&x->out);
        x->out_at = 0;
    }
    return (ssize_t)n;
}

void exchange_stream(Exchange *x)
{
    x->stream = true;
    x->status = 200;
    x->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 << 10, stream_read, x, NULL);
    if (!x->response) {
        x->conn->hung_up = true;
        exchange_resume(x);
        return;
    }
    head_lines(x, x->response, "text/event-stream; charset=utf-8");
    MHD_add_response_header(x->response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    MHD_add_response_header(x->response, "X-Accel-Buffering", "no");
}

void exchange_push(Exchange *x, bool last)
{
    x->last |= last;
    if (x->suspended && (x->out.n || x->last)) x->conn->since_ns = time_now_ns();
    if (x->out.n - x->out_at > OUT_BYTES_MAX) conn_kill(x->conn); /* its reader does not take it */
    else if (x->out.n || x->last) exchange_resume(x);
}

/* ---- requests ---- */
static Exchange *exchange_new(Conn *c, const char *method, const char *path)
{
    Exchange *x = mem_zalloc(1, sizeof *x);
    Server   *s = c->h->s;
    if (!x) return NULL;
    x->conn = c;
    x->s = s;
    x->start_ns = time_now_ns();
    x->method = method;
    snprintf(x->path, sizeof x->path, "%s", path);
    uint64_t count = s->id_count++, id = hash64(&count, sizeof count, s->id_seed);
    snprintf(x->id, sizeof x->id, "req-%016llx%08llx", (unsigned long long)id, (unsigned long long)(hash64(&id, sizeof id, s->id_seed) & 0xFFFFFFFF));
    c->x = x;
    return x;
}

static enum MHD_Result queue_answer(Exchange *x)
{
    enum MHD_Result ok = MHD_queue_response(x->conn->c, (unsigned)x->status, x->response);
    MHD_destroy_response(x->response);
    x->response = NULL;
    enter(x->conn, PHASE_SEND);
    return ok;
}

static enum MHD_Result begin(Conn *c, const char *url, const char *method, const char *version, void **slot)
{
    Exchange *x = *slot = exchange_new(c, method, url);
    if (!x) return MHD_NO;
    enter(c, PHASE_BODY);
    if (exchange_admit(x, version, url) == 0) return MHD_YES;
    const char *expect = MHD_lookup_connection_value(c->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT);
    x->swallow = x->has_body && !expect && x->refusal.status != 413 && x->refusal.status != 400;
    if (x->swallow) return MHD_YES; /* so that the answer is read, and the connection used again */
    exchange_refuse(x, &x->refusal);
    return x->response ? queue_answer(x) : MHD_NO;
}

/* The library takes no answer in the middle of a body: this one is written past it, and the connection ends. */
static enum MHD_Result too_large(Exchange *x)
{
    Refusal r;
    Buf     body = {0}, all = {0};
    refuse(&r, 413, "request_too_large", NULL, "the body is larger than %lld bytes", (long long)x->s->o.body_bytes);
    refusal_json(&r, &body);
    buf_fmt(&all, "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", body.n);
    buf_add(&all, body.data, body.n);
    if (!body.failed && !all.failed) send_past(x->conn, all.data, all.n);
    buf_free(&body);
    buf_free(&all);
    x->s->m.requests[4]++;
    return MHD_NO;
}

static enum MHD_Result take_body(Exchange *x, const char *data, size_t *n)
{
    Server *s = x->s;
    size_t  had = *n;
    *n = 0;
    x->body_bytes += had;
    if (x->body_bytes > (size_t)s->o.body_bytes || (x->swallow && x->body_bytes > SWALLOW_MAX)) return too_large(x);
    if (x->swallow || !x->task) return MHD_YES;
    s->bodies += had;
    x->task->body_bytes += had;
    buf_add(&x->task->body, data, had);
    if (s->bodies > BODIES_BYTES_MAX || x->task->body.failed) {
        refuse(&x->refusal, 503, "overloaded", NULL, "no memory for more bodies now");
        x->refusal.retry_after_s = 2;
        x->swallow = true;
        buf_free(&x->task->body);
    }
    return MHD_YES;
}

/* The request is complete. */
static void dispatch(Exchange *x)
{
    Refusal r = {0};
    enter(x->conn, PHASE_WORK);
    if (x->refusal.status) exchange_refuse(x, &x->refusal);
    else if (x->preflight) exchange_preflight(x);
    else if (x->task) task_begin(x->task);
    else if (x->route->now(x, &r)) exchange_refuse(x, &r);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url, const char *method, const char *version,
                                  const char *data, size_t *n, void **slot)
{
    Conn     *c = conn_of(mc);
    Exchange *x = *slot;
    (void)cls;
    if (!c || c->hung_up) return MHD_NO;
    if (!x) return begin(c, url, method, version, slot);
    if (*n) return take_body(x, data, n);
    if (x->response) return queue_answer(x);
    if (c->phase == PHASE_BODY) dispatch(x);
    if (x->response) return queue_answer(x);
    suspend(x);
    return x->suspended ? MHD_YES : MHD_NO;
}

static void log_line(const Exchange *x)
{
    if (x->s->o.log_requests)
        log_msg(LOG_INFO, "%s %s %s %d %.1f ms", x->id, x->method, x->path, x->status, 1e-6 * (double)(time_now_ns() - x->start_ns));
}

static void on_completed(void *cls, struct MHD_Connection *mc, void **slot, enum MHD_RequestTerminationCode code)
{
    Exchange *x = *slot;
    (void)cls, (void)mc, (void)code;
    if (!x) return;
    if (x->status >= 100 && x->status < 600) x->s->m.requests[x->status / 100]++;
    log_line(x);
    if (x->task) task_abandon(x->task);
    if (x->response) MHD_destroy_response(x->response);
    buf_free(&x->out);
    x->conn->x = NULL;
    enter(x->conn, PHASE_IDLE);
    mem_free(x);
    *slot = NULL;
}

/* ---- deadlines ---- */
/* A slow line is no attack: who sends or takes 64 KiB a second, or 16 of an answer, has all the time it needs. */
static double phase_limit_s(const Conn *c)
{
    const Exchange *x = c->x;
    const Http     *h = c->h;
    double          patience = h->s->o.patience_s;
    if (h->n_conns > h->limit / 4 * 3 && c->phase <= PHASE_BODY && patience > 1) patience = 1; /* it is getting crowded */
    switch (c->phase) {
    case PHASE_IDLE: return c->fresh ? patience : 5 * patience;
    case PHASE_HEAD: return patience;
    case PHASE_BODY: return 2 * patience + (x ? (double)x->body_bytes / 65536 : 0);
    case PHASE_SEND: return x && x->stream ? patience : 4 * patience + (x ? (double)x->whole_bytes / 16384 : 0);
    default: return 0;
    }
}

void http_tick(Http *h, uint64_t now)
{
    double silent = h->s->o.patience_s < COMMENT_S ? h->s->o.patience_s : COMMENT_S;
    certificate_look(h, now);
    for (Conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        Exchange *x = c->x;
        double    limit = phase_limit_s(c), age = now > c->since_ns ? 1e-9 * (double)(now - c->since_ns) : 0;
        if (x && x->suspended) { /* waits for us */
            if (!x->stream || age < silent) continue;
            buf_str(&x->out, ": still working\n\n");
            exchange_push(x, false);
        } else if (limit > 0 && age > limit && !c->hung_up) {
            conn_kill(c);
        }
    }
}

/* ---- the daemon ---- */
static void on_log(void *cls, const char *fmt, va_list ap)
{
    char line[512];
    (void)cls;
    vsnprintf(line, sizeof line, fmt, ap);
    log_msg(LOG_DEBUG, "libmicrohttpd: %.*s", (int)strcspn(line, "\n"), line);
}

static int poll_add(int poll, int fd, void *ptr)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = ptr};
    return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &ev);
}

int http_start(Http *h, Server *s, aha_error *e)
{
    h->s = s;
    int limit = os_descriptors_raise(CONNECTIONS_MAX + 64) - 64;
    if (limit < 16) limit = 16;
    h->limit = limit;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES}, {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(intptr_t)tls_callback},
                                   {MHD_OPTION_END, 0, NULL}};
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (h->tls ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, h,
                                 MHD_OPTION_ARRAY, h->tls ? tls : &tls[2], MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, h->listener,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)limit, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_PER_CONNECTION,
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
                                 MHD_OPTION_URI_LOG_CALLBACK, on_line, h, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    h->poll = epoll_create1(EPOLL_CLOEXEC);
    if (!info || h->poll < 0 || poll_add(h->poll, info->epoll_fd, h->daemon) || poll_add(h->poll, s->event, s))
        return error_set(e, AHA_ERR_IO, "the HTTP server could not be started: %s", strerror(errno));
    return 0;
}

void http_run(Http *h, int wait_ms)
{
    struct epoll_event ev[DATA_EVENTS];
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(h->daemon, &ms) == MHD_YES && ms < (unsigned)wait_ms) wait_ms = (int)ms;
    int n = epoll_wait(h->poll, ev, DATA_EVENTS, wait_ms);
    for (int i = 0; i < n; i++) {
        if (ev[i].data.ptr == h->daemon) continue;
        if (ev[i].data.ptr == h->s) {
            event_clear(h->s->event);
            tasks_prepared(h->s);
            tasks_news(h->s);
        } else {
            Conn *c = ev[i].data.ptr;
            c->hung_up = true;
            if (c->x) exchange_resume(c->x);
        }
    }
    MHD_run(h->daemon);
}

void http_quiesce(Http *h)
{
    descriptor_close(MHD_quiesce_daemon(h->daemon));
}

bool http_busy(const Http *h)
{
    for (const Conn *c = h->conns; c; c = c->next)
        if (c->x) return true;
    return false;
}

void http_stop(Http *h)
{
    for (Conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        conn_kill(c);
    }
    if (h->daemon) {
        for (int i = 0; i < 8 && h->conns; i++) MHD_run(h->daemon);
        MHD_stop_daemon(h->daemon);
    }
    descriptor_close(h->poll);
}
