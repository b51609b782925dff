/* What a request's head decides: the route, who asks, whether there is room. */
#include <netinet/in.h>
#include <string.h>

#include "http.h"

static int check_route(Exchange *x, bool other, Refusal *r)
{
    char quoted[128];
    if (x->route) return 0;
    error_quote(quoted, sizeof quoted, x->path, strlen(x->path));
    return other ? refuse(r, 405, "method_not_allowed", NULL, "%s is not for %s", quoted, x->method)
                 : refuse(r, 404, "not_found", NULL, "there is nothing at %s", quoted);
}

static uint64_t group_of(const Exchange *x, const KeyGrant *grant)
{
    if (grant->entry) return hash64(&grant->entry, sizeof grant->entry, 1);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->conn->c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr          *a = info ? info->client_addr : NULL;
    if (a && a->sa_family == AF_INET) return hash64(&((const struct sockaddr_in *)(const void *)a)->sin_addr, sizeof(struct in_addr), 2);
    if (a && a->sa_family == AF_INET6) return hash64(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, 8, 3); /* a network */
    return 0;
}

/* A request that generates counts: it must fit in, and its key must have something left. */
static int admit_work(Exchange *x, const KeyGrant *grant, Refusal *r)
{
    Server    *s = x->s;
    KeyRefusal why = {0};
    bool       generates = x->route->kind & ROUTE_GENERATES;
    if (generates && server_is_full(s, r)) return -1;
    if (!(x->task = task_new(s, x->route, x, x->id))) return refuse(r, 503, "overloaded", NULL, "no memory for a request");
    if (!generates) return 0;
    x->task->grant = *grant;
    x->task->group = group_of(x, grant);
    KeyAdmit a = s->o.keys ? keys_admit(s->o.keys, &x->task->grant, 0, &why) : KEY_ADMITTED; /* prepared() knows how much */
    if (a == KEY_ADMITTED) {
        x->task->admitted = true;
        s->n_admitted++;
        return 0;
    }
    return refuse_key(r, a, &why);
}

/* The head is complete.  What can be refused is refused now, before the body. */
int exchange_admit(Exchange *x, const char *version, const char *url)
{
    Refusal *r = &x->refusal;
    KeyGrant grant = {0};
    bool     other;
    if (check_framing(x->conn->c, version, (uint64_t)x->s->o.body_bytes, &x->has_body, r)) return -1;
    if (strlen(url) >= sizeof x->path) return refuse(r, 414, "bad_request", NULL, "the path is longer than %zu bytes", sizeof x->path - 1);
    x->route = route_find(x->s, x->method, x->path, &other);
    if (check_preflight(x)) return 0;
    if (!(x->route && (x->route->kind & ROUTE_OPEN)) && check_key(x, &grant, r)) return -1;
    if (check_host(x, r) || check_origin(x, r) || check_route(x, other, r)) return -1;
    if (x->route->now) return 0;
    return check_type(x->conn->c, r) ? -1 : admit_work(x, &grant, r);
}
