/* Requests to a running aha serve, each another one, so many at a time; one in five is given up on the way.
 *
 * usage: build/bench/load_serve PORT FIRST COUNT [AT_ONCE [MODEL]]
 * Requests FIRST to FIRST + COUNT - 1, the same ones for the same numbers: /v1/completions, prompts of their own, 24 tokens, every
 * second as a stream; every fifth asks for 1,000 and goes after 0 to 20 ms.  8 at once, to aha-tiny.
 * Prints one line of JSON: how many were answered and given up, and the milliseconds from a request to the end of its answer, of each
 * that was answered.  Exit 1 when one was answered otherwise than 200, or not to its end. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { AT_ONCE_MAX = 256, TAIL = 4096, GIVE_UP_EVERY = 5 };

typedef struct Request {
    int    fd, number; /* fd -1: the place is free */
    double start_s, leave_s; /* leave_s 0: it stays */
    char   head[16], tail[TAIL]; /* the first and the last bytes of the answer */
    size_t n;
} Request;

typedef struct Load {
    int         port, next, end, running;
    const char *model;
    double     *ms; /* of those that were answered */
    int         answered, given_up, failed;
} Load;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void begin(Load *l, Request *r)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int                i = l->next++, on = 1, leaves = i % GIVE_UP_EVERY == 0;
    char               body[512], all[1024];
    int n = snprintf(body, sizeof body, "{\"model\":\"%s\",\"prompt\":\"Using %d, %d and 2, make %d.\",\"max_tokens\":%d,\"stream\":%s,\"seed\":%d}", l->model,
                     i % 90 + 2, i % 7 + 3, i, leaves ? 1000 : 24, i % 2 ? "true" : "false", i);
    int h = snprintf(all, sizeof all, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                     "Connection: close\r\n\r\n%s", n, body);
    *r = (Request){.fd = socket(AF_INET, SOCK_STREAM, 0), .number = i, .start_s = now_s()};
    if (leaves) r->leave_s = r->start_s + 0.01 * (i / GIVE_UP_EVERY % 3);
    l->running++;
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(r->fd, (struct sockaddr *)&a, sizeof a) || write(r->fd, all, (size_t)h) != h) fprintf(stderr, "request %d: %s\n", i, strerror(errno));
}

static void end(Load *l, Request *r)
{
    close(r->fd);
    r->fd = -1;
    l->running--;
}

/* The answer came to its end. */
static void judge(Load *l, Request *r)
{
    size_t kept = r->n < TAIL ? r->n : TAIL;
    int    whole = memmem(r->tail, kept, "[DONE]", 6) || memmem(r->tail, kept, "\"usage\"", 7);
    if (r->n < sizeof r->head || memcmp(r->head, "HTTP/1.1 200", 12) || !whole) {
        l->failed++;
        fprintf(stderr, "request %d: %.*s\n", r->number, (int)kept, r->tail);
    } else {
        l->ms[l->answered++] = 1e3 * (now_s() - r->start_s);
    }
    end(l, r);
}

static void take(Load *l, Request *r)
{
    char    buf[1 << 14];
    ssize_t got = read(r->fd, buf, sizeof buf);
    if (got < 0 && errno == EINTR) return;
    if (got <= 0) {
        judge(l, r);
        return;
    }
    size_t n = (size_t)got, kept = r->n < TAIL ? r->n : TAIL;
    if (r->n < sizeof r->head) memcpy(r->head + r->n, buf, n < sizeof r->head - r->n ? n : sizeof r->head - r->n);
    size_t fresh = n < TAIL ? n : TAIL, keep = kept + fresh > TAIL ? TAIL - fresh : kept;
    memmove(r->tail, r->tail + kept - keep, keep);
    memcpy(r->tail + keep, buf + n - fresh, fresh);
    r->n += n;
}

static void run(Load *l, int at_once)
{
    static Request r[AT_ONCE_MAX];
    struct pollfd  p[AT_ONCE_MAX];
    for (int i = 0; i < at_once; i++) r[i].fd = -1;
    while (l->next < l->end || l->running) {
        double wait = 60;
        for (int i = 0; i < at_once; i++) {
            if (r[i].fd < 0 && l->next < l->end) begin(l, &r[i]);
            p[i] = (struct pollfd){r[i].fd, POLLIN, 0};
            double left = r[i].leave_s - now_s();
            if (r[i].fd >= 0 && r[i].leave_s > 0 && left < wait) wait = left;
        }
        if (poll(p, (nfds_t)at_once, wait > 0 ? (int)(1e3 * wait) : 0) == 0 && wait >= 60) {
            l->failed += l->running; /* a minute without a byte */
            return;
        }
        for (int i = 0; i < at_once; i++) {
            if (r[i].fd < 0) continue;
            if (p[i].revents) take(l, &r[i]);
            if (r[i].fd >= 0 && r[i].leave_s > 0 && now_s() >= r[i].leave_s) {
                l->given_up++;
                end(l, &r[i]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    Load l = {.model = argc > 5 ? argv[5] : "aha-tiny"};
    if (argc < 4) return 2;
    int count = atoi(argv[3]), at_once = argc > 4 ? atoi(argv[4]) : 8;
    l.port = atoi(argv[1]);
    l.next = atoi(argv[2]);
    l.end = l.next + count;
    if (count < 1 || at_once < 1 || at_once > AT_ONCE_MAX || !(l.ms = calloc((size_t)count, sizeof *l.ms))) return 2;
    run(&l, at_once);
    printf("{\"answered\":%d,\"given_up\":%d,\"failed\":%d,\"ms\":[", l.answered, l.given_up, l.failed);
    for (int i = 0; i < l.answered; i++) printf(i ? ",%.3f" : "%.3f", l.ms[i]);
    printf("]}\n");
    free(l.ms);
    return l.failed != 0;
}
