/* What https adds to connections: a certificate that changes, bytes past the library. */
#include <sys/socket.h>

#include "http.h"

enum { TLS_LOOK_S = 60 };

/* New files are found by themselves, within a minute, or at once when somebody says so. */
void certificate_look(Http *h, uint64_t now)
{
    bool      asked = h->s->o.reload && h->s->o.reload(), changed;
    aha_error e = {0};
    if (!h->tls || (!asked && now - h->tls_ns < (uint64_t)TLS_LOOK_S * 1000000000u)) return;
    h->tls_ns = now;
    if (tls_reload(h->tls, &changed, &e)) log_msg(LOG_WARN, "the certificate was not read again, the one before stays: %s", e.text);
    else if (changed || asked) log_msg(LOG_WARN, "the certificate %s", changed ? "was read again" : "is the same");
}

void send_past(const Conn *c, const void *data, size_t n)
{
    const union MHD_ConnectionInfo *info = c->h->tls ? MHD_get_connection_info(c->c, MHD_CONNECTION_INFO_GNUTLS_SESSION) : NULL;
    if (info) (void)!tls_send(info->tls_session, data, n);
    else if (!c->h->tls) (void)!send(c->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}
