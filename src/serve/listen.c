/* A socket that listens. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "http.h"

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static int try_one(const struct addrinfo *a)
{
    const int one = 1;
    int       fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 511) == 0) return fd;
    int err = errno;
    descriptor_close(fd);
    errno = err;
    return -1;
}

static void make_url(int fd, const char *host, bool tls, char *url, size_t cap)
{
    struct sockaddr_storage a;
    socklen_t               n = sizeof a;
    int                     port = 0;
    if (getsockname(fd, (struct sockaddr *)&a, &n) == 0)
        port = a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port) : ntohs(((struct sockaddr_in *)&a)->sin_port);
    snprintf(url, cap, strchr(host, ':') ? "http%s://[%s]:%d" : "http%s://%s:%d", tls ? "s" : "", host, port);
}

int listen_open(const char *host, int port, int *fd, bool *local, bool tls, char *url, size_t cap, aha_error *e)
{
    struct addrinfo want = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list;
    char            service[16];
    int             err = 0;
    snprintf(service, sizeof service, "%d", port);
    int rc = getaddrinfo(host, service, &want, &list);
    if (rc) return error_set(e, AHA_ERR_ARG, "--host %.200s: %s", host, gai_strerror(rc));
    *fd = -1;
    for (const struct addrinfo *a = list; a && *fd < 0; a = a->ai_next) {
        *local = is_loopback(a->ai_addr);
        if ((*fd = try_one(a)) < 0) err = errno;
    }
    freeaddrinfo(list);
    if (*fd < 0)
        return error_set(e, AHA_ERR_IO, "cannot listen on %.200s port %d: %s%s", host, port, strerror(err),
                         err == EADDRINUSE ? "; another program does: --port chooses another" : "");
    make_url(*fd, host, tls, url, cap);
    return 0;
}
