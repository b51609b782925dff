/* Who may ask, and in which form: what libmicrohttpd lets pass, and what browsers could be made to send. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"

/* ---- framing ---- */
typedef struct Framing {
    int         lengths, codings, hosts;
    const char *length, *coding;
} Framing;

static enum MHD_Result look(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    Framing *f = cls;
    (void)kind;
    if (!strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH)) f->lengths++, f->length = value;
    else if (!strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING)) f->codings++, f->coding = value;
    else if (!strcasecmp(key, MHD_HTTP_HEADER_HOST)) f->hosts++;
    return MHD_YES;
}

int check_framing(struct MHD_Connection *c, const char *version, uint64_t limit, bool *has_body, Refusal *r)
{
    Framing f = {0};
    char    quoted[64];
    MHD_get_connection_values(c, MHD_HEADER_KIND, look, &f);
    *has_body = f.codings || (f.lengths && strcmp(f.length ? f.length : "", "0"));
    if (f.hosts > 1 || (!f.hosts && strcmp(version, "HTTP/1.0"))) return refuse(r, 400, "bad_request", NULL, "%d Host headers, expected one", f.hosts);
    if (f.codings && f.lengths) return refuse(r, 400, "bad_request", NULL, "both Content-Length and Transfer-Encoding, expected one of them");
    if (f.lengths > 1) return refuse(r, 400, "bad_request", NULL, "%d Content-Length headers, expected one", f.lengths);
    if (f.codings > 1 || (f.codings && strcasecmp(f.coding ? f.coding : "", "chunked")))
        return refuse(r, 400, "bad_request", NULL, "Transfer-Encoding: expected chunked or none");
    if (!f.lengths) return 0;
    size_t n = f.length ? strlen(f.length) : 0;
    if (!n || n > 18 || strspn(f.length, "0123456789") != n)
        return refuse(r, n > 18 ? 413 : 400, "bad_request", NULL, "Content-Length \"%s\", expected a number",
                      error_quote(quoted, sizeof quoted, f.length ? f.length : "", n));
    if (strtoull(f.length, NULL, 10) > limit)
        return refuse(r, 413, "request_too_large", NULL, "a body of %s bytes, expected at most %llu", f.length, (unsigned long long)limit);
    return 0;
}

/* ---- keys ---- */
int check_key(const Exchange *x, KeyGrant *g, Refusal *r)
{
    Keys       *keys = x->s->o.keys;
    const char *h = MHD_lookup_connection_value(x->conn->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!keys || !keys_required(keys)) return 0;
    if (!h || strncasecmp(h, "Bearer ", 7)) return refuse(r, 401, "invalid_api_key", NULL, "a key is needed: Authorization: Bearer KEY");
    h += 7 + strspn(h + 7, " ");
    KeyCheck c = keys_check(keys, h, strlen(h), g);
    return c == KEY_GOOD ? 0 : refuse(r, 401, "invalid_api_key", NULL, "%s", key_check_words(c));
}

/* ---- names ---- */
/* "name:port" or "[address]:port" without its port, in dst; false: no such thing. */
static bool host_name(const char *s, char *dst, size_t cap)
{
    bool   bracket = *s == '[';
    size_t n = bracket ? strcspn(s, "]") + 1 : strcspn(s, ":");
    if (n >= cap || !n || (bracket && s[n - 1] != ']')) return false;
    if (s[n] == ':' && (strspn(s + n + 1, "0123456789") != strlen(s + n + 1) || strlen(s + n + 1) > 5)) return false;
    if (s[n] && s[n] != ':') return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_[]:%", s[i])) return false;
    memcpy(dst, s, n);
    dst[n] = 0;
    return true;
}

static bool is_address(const char *name, bool *loopback)
{
    unsigned char a[16];
    char          inner[64];
    size_t        n = strlen(name);
    if (inet_pton(AF_INET, name, a) == 1) {
        *loopback = a[0] == 127;
        return true;
    }
    if (name[0] != '[' || n - 2 >= sizeof inner) return false;
    memcpy(inner, name + 1, n - 2);
    inner[n - 2] = 0;
    static const unsigned char one[16] = {[15] = 1};
    if (inet_pton(AF_INET6, inner, a) != 1) return false;
    *loopback = !memcmp(a, one, sizeof a);
    return true;
}

/* A page of another name that resolves to this machine (DNS rebinding) must not reach the server through a browser.  Addresses
 * are no such names; where only this machine is listened on, no other address has led here. */
int check_host(const Exchange *x, Refusal *r)
{
    const Http *h = x->conn->h;
    const char *host = MHD_lookup_connection_value(x->conn->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    char        name[256], quoted[128];
    bool        loopback = false;
    if (!host) return 0; /* HTTP/1.0: no browser */
    if (host_name(host, name, sizeof name)) {
        if (!strcasecmp(name, "localhost") || !strcasecmp(name, h->host) || name_listed(x->s->o.hosts, name)) return 0;
        if (h->tls && tls_names(h->tls, name)) return 0; /* a browser has seen to it that the name is the certificate's */
        if (is_address(name, &loopback) && (loopback || !h->local)) return 0;
    }
    return refuse(r, 403, "host_not_allowed", NULL, "Host \"%s\" is not one of this server's names; --allow-host adds one",
                  error_quote(quoted, sizeof quoted, host, strlen(host)));
}

bool check_preflight(Exchange *x)
{
    const char *origin = MHD_lookup_connection_value(x->conn->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ORIGIN);
    Refusal     none;
    if (strcmp(x->method, "OPTIONS") || !origin || !x->s->o.origins || check_host(x, &none) || check_origin(x, &none)) return false;
    return x->preflight = x->origin[0] != 0;
}

/* The server's own page, or one that was allowed by name. */
int check_origin(Exchange *x, Refusal *r)
{
    const char *origin = MHD_lookup_connection_value(x->conn->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ORIGIN);
    const char *host = MHD_lookup_connection_value(x->conn->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    char        own[300], quoted[128];
    if (!origin) return 0;
    if (name_listed(x->s->o.origins, origin)) {
        snprintf(x->origin, sizeof x->origin, "%s", strlen(origin) < sizeof x->origin ? origin : "");
        return 0;
    }
    for (int tls = 0; host && tls < 2; tls++) { /* https: behind a proxy */
        snprintf(own, sizeof own, "%s://%s", tls ? "https" : "http", host);
        if (!strcasecmp(own, origin)) return 0;
    }
    return refuse(r, 403, "origin_not_allowed", NULL, "Origin \"%s\" is another page; --allow-origin allows one",
                  error_quote(quoted, sizeof quoted, origin, strlen(origin)));
}

/* Other types can be posted by any page without asking first. */
int check_type(struct MHD_Connection *c, Refusal *r)
{
    const char *type = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    char        quoted[80];
    size_t      n = type ? strcspn(type, "; \t") : 0;
    if (n == 16 && !strncasecmp(type, "application/json", n)) return 0;
    return refuse(r, 415, "unsupported_media_type", NULL, "Content-Type \"%s\", expected application/json",
                  error_quote(quoted, sizeof quoted, type ? type : "", type ? strlen(type) : 0));
}
