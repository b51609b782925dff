/* One request to a server that is not trusted: every length bounded, every redirect looked at. */
#include "pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEADER_MAX = 256 << 10, HOPS_MAX = PULL_HOPS_MAX, CONNECT_S = 20, SLOW_BYTES = 500, SLOW_S = 30, ANSWER_S = 120, RETRY_AFTER_MAX_S = PULL_RETRY_AFTER_MAX_S };

/* ---- header lines ---- */
static void take_text(char *dst, size_t cap, const char *s, size_t n)
{
    error_quote(dst, cap, s, n < cap ? n : cap - 1);
}

static int64_t take_number(const char *s, size_t n)
{
    char      text[24], *end;
    long long v;
    if (n < 1 || n >= sizeof text || s[0] < '0' || s[0] > '9') return -1;
    memcpy(text, s, n);
    text[n] = 0;
    v = strtoll(text, &end, 10);
    return *end || v > HUB_SIZE_MAX ? -1 : v;
}

/* "bytes 0-99/1000" */
static void take_range(Reply *r, const char *s, size_t n)
{
    const char *dash = memchr(s, '-', n), *slash = memchr(s, '/', n);
    if (n < 6 || strncasecmp(s, "bytes ", 6) != 0 || !dash || !slash || slash < dash) return;
    r->range_from = take_number(s + 6, (size_t)(dash - s - 6));
    r->range_to = take_number(dash + 1, (size_t)(slash - dash - 1));
    r->range_total = take_number(slash + 1, (size_t)(s + n - slash - 1));
}

/* W/"x", "x" and x are one */
static void take_etag(Reply *r, const char *s, size_t n)
{
    if (n > 2 && !memcmp(s, "W/", 2)) s += 2, n -= 2;
    if (n > 1 && s[0] == '"' && s[n - 1] == '"') s++, n -= 2;
    if (n < sizeof r->etag) take_text(r->etag, sizeof r->etag, s, n);
}

/* <https://...>; rel="next" */
static void take_link(Reply *r, const char *s, size_t n)
{
    const char *open = memchr(s, '<', n), *close = open ? memchr(open, '>', n - (size_t)(open - s)) : NULL;
    char        rest[64];
    size_t      len;
    if (!close || (size_t)(close - open) > sizeof r->next) return;
    len = (size_t)(s + n - close) - 1;
    take_text(rest, sizeof rest, close + 1, len);
    if (!strstr(rest, "rel=\"next\"") && !strstr(rest, "rel=next")) return;
    take_text(r->next, sizeof r->next, open + 1, (size_t)(close - open) - 1);
}

/* "resolvers";r=0;t=55: the hub's own way to say when to come back */
static void take_limit(Reply *r, const char *s, size_t n)
{
    char    text[80];
    int64_t v;
    take_text(text, sizeof text, s, n);
    const char *t = strstr(text, ";t=");
    if (t && (v = take_number(t + 3, strspn(t + 3, "0123456789"))) > 0) r->retry_after = v < 86400 ? (long)v : 86400;
}

static void reply_clear(Reply *r)
{
    size_t bytes = r->bytes;
    *r = (Reply){.length = -1, .range_from = -1, .range_to = -1, .range_total = -1, .linked_size = -1, .retry_after = -1, .bytes = bytes};
}

static void take_line(Reply *r, const char *name, size_t n_name, const char *s, size_t n)
{
#define IS(text) (n_name == sizeof(text) - 1 && !strncasecmp(name, text, n_name))
    if (IS("content-length")) r->length = take_number(s, n);
    else if (IS("content-range")) take_range(r, s, n);
    else if (IS("x-linked-size")) r->linked_size = take_number(s, n);
    else if (IS("x-linked-etag")) take_etag(r, s, n);
    else if (IS("x-repo-commit") && n < sizeof r->commit) take_text(r->commit, sizeof r->commit, s, n);
    else if (IS("x-error-code")) take_text(r->error_code, sizeof r->error_code, s, n);
    else if (IS("x-error-message")) take_text(r->error_text, sizeof r->error_text, s, n);
    else if (IS("ratelimit")) take_limit(r, s, n);
    else if (IS("link")) take_link(r, s, n);
#undef IS
}

static size_t header_line(char *s, size_t unit, size_t count, void *arg)
{
    Request    *q = arg;
    size_t      n = unit * count, all = n;
    const char *colon = memchr(s, ':', n);
    q->reply.bytes += n;
    if (q->reply.bytes > HEADER_MAX) {
        q->reply.too_long = true;
        return 0;
    }
    if (n > 5 && !memcmp(s, "HTTP/", 5)) reply_clear(&q->reply); /* the next answer: after 1xx */
    if (!colon) return all;
    while (n && strchr("\r\n \t", s[n - 1])) n--;
    const char *value = colon + 1;
    while (value < s + n && (*value == ' ' || *value == '\t')) value++;
    if (value <= s + n) take_line(&q->reply, s, (size_t)(colon - s), value, (size_t)(s + n - value));
    return all;
}

/* ---- addresses ---- */
typedef struct Origin {
    char *scheme, *host, *port;
} Origin;

static void origin_free(Origin *o)
{
    curl_free(o->scheme);
    curl_free(o->host);
    curl_free(o->port);
}

static bool origin_of(Origin *o, const char *url)
{
    CURLU *u = curl_url();
    bool   ok = u && !curl_url_set(u, CURLUPART_URL, url, 0);
    *o = (Origin){0};
    ok = ok && !curl_url_get(u, CURLUPART_SCHEME, &o->scheme, 0) && !curl_url_get(u, CURLUPART_HOST, &o->host, 0) &&
         !curl_url_get(u, CURLUPART_PORT, &o->port, CURLU_DEFAULT_PORT);
    curl_url_cleanup(u);
    return ok;
}

static bool origin_same(const char *a, const char *b)
{
    Origin x, y = {0};
    bool   same = origin_of(&x, a) && origin_of(&y, b) && !strcasecmp(x.scheme, y.scheme) && !strcasecmp(x.host, y.host) && !strcmp(x.port, y.port);
    origin_free(&x);
    origin_free(&y);
    return same;
}

int url_at_hub(const HubEnv *v, const char *url, Buf *out, aha_error *e)
{
    CURLU *u = curl_url();
    Origin o;
    char  *path = NULL, *query = NULL, *hub = NULL;
    bool   ok = u && !curl_url_set(u, CURLUPART_URL, v->endpoint, 0) && !curl_url_set(u, CURLUPART_URL, url, 0); /* joined, if it is relative */
    ok = ok && origin_of(&o, v->endpoint);
    ok = ok && !curl_url_get(u, CURLUPART_PATH, &path, 0) && (curl_url_get(u, CURLUPART_QUERY, &query, 0) == 0 || query == NULL);
    if (ok) {
        ok = !curl_url_set(u, CURLUPART_SCHEME, o.scheme, 0) && !curl_url_set(u, CURLUPART_HOST, o.host, 0) &&
             !curl_url_set(u, CURLUPART_PORT, o.port, 0) && !curl_url_set(u, CURLUPART_USER, NULL, 0) &&
             !curl_url_set(u, CURLUPART_PASSWORD, NULL, 0) && !curl_url_get(u, CURLUPART_URL, &hub, 0);
        origin_free(&o);
    }
    if (ok) buf_str(out, hub);
    curl_free(path);
    curl_free(query);
    curl_free(hub);
    curl_url_cleanup(u);
    return ok ? 0 : error_set(e, AHA_ERR_FORMAT, "the list's next page is at '%.100s', which is no address", url);
}

int request_redirect(const Request *r, const char *from, char **to, aha_error *e)
{
    char  *url = NULL, q[160];
    Origin a = {0}, b = {0};
    int    rc = 0;
    *to = NULL;
    curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &url);
    if (!url) return error_set(e, AHA_ERR_FORMAT, "the server redirects without saying where to");
    error_quote(q, sizeof q, url, strlen(url));
    if (!origin_of(&b, url) || (strcasecmp(b.scheme, "http") != 0 && strcasecmp(b.scheme, "https") != 0))
        rc = error_set(e, AHA_ERR_FORMAT, "the server redirects to '%s'; only http and https are followed", q);
    else if (!origin_of(&a, from) || (!strcasecmp(a.scheme, "https") && strcasecmp(b.scheme, "https") != 0))
        rc = error_set(e, AHA_ERR_FORMAT, "the server redirects from https to '%s', which is not encrypted: not followed", q);
    else if (!(*to = mem_strdup(url)))
        rc = error_set(e, AHA_ERR_NOMEM, "no memory for an address");
    origin_free(&a);
    origin_free(&b);
    return rc;
}

/* ---- requests ---- */
static void set_protocols(CURL *c)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static int watch(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)arg, (void)a, (void)b, (void)c, (void)d;
    return interrupted() != 0;
}

int request_begin(Request *r, const HubEnv *v, const char *url, aha_error *e)
{
    char line[600];
    memset(r, 0, sizeof *r);
    reply_clear(&r->reply);
    CURL *c = r->easy = curl_easy_init();
    if (!c) return error_set(e, AHA_ERR_NOMEM, "no memory for a request");
    set_protocols(c);
    if (v->token[0] && origin_same(url, v->endpoint)) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", v->token);
        if (!(r->lines = curl_slist_append(NULL, line))) return error_set(e, AHA_ERR_NOMEM, "no memory for a request");
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->lines);
    }
    curl_easy_setopt(c, CURLOPT_URL, url);
    if (v->certificates[0]) curl_easy_setopt(c, CURLOPT_CAINFO, v->certificates);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->error);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "aha/" AHA_VERSION);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L); /* each step is looked at: request_redirect */
    curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    /* HTTP/2 would put all pieces into one connection, which is what several are there to avoid. */
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)SLOW_S);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, header_line);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, watch);
    return 0;
}

void request_end(Request *r)
{
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->lines);
    r->easy = NULL;
    r->lines = NULL;
}

long request_status(const Request *r)
{
    long status = 0;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

long request_retry_after(const Request *r)
{
    curl_off_t s = -1;
    curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &s);
    if (s > 0) return (long)(s < 86400 ? s : 86400);
    return request_status(r) == 429 ? r->reply.retry_after : -1;
}

bool status_passes(long status) { return status == 408 || status == 429 || status >= 500; }

double retry_delay(int failures)
{
    double s = 0.2 * (double)(1 << (failures < 9 ? failures : 9));
    s = s > 30 ? 30 : s;
    return s * (0.75 + 0.5 * (double)(os_random_u64() >> 40) / (double)(1 << 24)); /* so that many clients do not come back together */
}

void pull_wait(double s)
{
    uint64_t end = time_now_ns() + (uint64_t)(s * 1e9);
    CURLM   *m = curl_multi_init();
    while (m && !interrupted()) {
        uint64_t now = time_now_ns();
        if (now >= end) break;
        uint64_t ms = (end - now) / 1000000 + 1;
        curl_multi_poll(m, NULL, 0, ms > 100 ? 100 : (int)ms, NULL);
    }
    curl_multi_cleanup(m);
}

/* ---- whole answers ---- */
static size_t take_body(char *s, size_t unit, size_t count, void *arg)
{
    Buf   *b = arg;
    size_t n = unit * count;
    if (n > HUB_ANSWER_MAX - b->n) {
        b->failed = true;
        return 0;
    }
    buf_add(b, s, n);
    return b->failed ? 0 : n;
}

/* 1: worth another try */
static int get_once(const HubEnv *v, const char *url, Buf *body, Reply *reply, long *status, char **to, aha_error *e)
{
    Request  r;
    CURLcode code;
    int      rc = request_begin(&r, v, url, e);
    *to = NULL;
    buf_reset(body);
    if (rc == 0) {
        curl_easy_setopt(r.easy, CURLOPT_WRITEFUNCTION, take_body);
        curl_easy_setopt(r.easy, CURLOPT_WRITEDATA, body);
        curl_easy_setopt(r.easy, CURLOPT_TIMEOUT, (long)ANSWER_S);
        code = curl_easy_perform(r.easy);
        *status = request_status(&r);
        *reply = r.reply;
        reply->retry_after = request_retry_after(&r);
        if (interrupted())
            rc = error_set(e, AHA_ERR_CANCELLED, "interrupted");
        else if (body->failed || r.reply.too_long)
            rc = error_set(e, AHA_ERR_LIMIT, "%.200s: the answer is longer than %d bytes", url, r.reply.too_long ? HEADER_MAX : HUB_ANSWER_MAX);
        else if (code)
            error_set(e, AHA_ERR_IO, "%.200s: %s", url, r.error[0] ? r.error : curl_easy_strerror(code)), rc = 1;
        else if (*status >= 300 && *status < 400 && *status != 304)
            rc = request_redirect(&r, url, to, e);
        else if (status_passes(*status))
            error_set(e, AHA_ERR_IO, "%.200s: the server answers %ld", url, *status), rc = 1;
    }
    request_end(&r);
    return rc;
}

int http_get(const HubEnv *v, const char *url, Buf *body, Reply *reply, long *status, aha_error *e)
{
    int   failures = 0, hops = 0, rc = 0;
    char *at = mem_strdup(url), *to;
    if (!at) return error_set(e, AHA_ERR_NOMEM, "no memory for an address");
    for (;;) {
        rc = get_once(v, at, body, reply, status, &to, e);
        if (rc == 0 && to) {
            mem_free(at);
            at = to;
            if (++hops <= HOPS_MAX) continue;
            rc = error_set(e, AHA_ERR_FORMAT, "%.200s: more than %d redirects", url, HOPS_MAX);
        }
        if (rc != 1) break;
        if (reply->retry_after > RETRY_AFTER_MAX_S)
            rc = error_prefix(e, AHA_ERR_IO, "the server asks to come back in %ld s: try again then", reply->retry_after);
        else if (++failures >= v->tries)
            rc = error_prefix(e, AHA_ERR_IO, "tried %d times", failures);
        if (rc != 1) break;
        pull_wait(reply->retry_after > 0 ? (double)reply->retry_after : retry_delay(failures));
        if (interrupted()) {
            rc = error_set(e, AHA_ERR_CANCELLED, "interrupted");
            break;
        }
    }
    mem_free(at);
    return rc;
}
