/* Streams from a running aha serve, all at once: what each gets, and together.
 *
 * usage: build/bench/bench_serve [PORT [STREAMS [TOKENS [MODEL]]]]     8080, 64, 256, aha-tiny
 * Each asks /v1/completions for TOKENS tokens after a prompt of its own, without an end, and says at last how many there were;
 * the likeliest token each time, as `aha bench` takes it; a bias makes it one of the stream's own, which no end is likelier than.
 * Prints one line of JSON; exit 1 when a stream failed or had another number of tokens. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 1024 };

typedef struct Stream {
    int    tokens, wrong; /* wrong: not 200, or an error in the stream */
    int    done;
    double first_s, last_s;
    char   tail[64]; /* the end of what came, for what is cut between two reads */
    size_t n_tail;
} Stream;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ask(int port, int i, int tokens, const char *model)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char               body[512], head[256];
    int                fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) return -1;
    int n = snprintf(body, sizeof body,
                     "{\"model\":\"%s\",\"prompt\":[0,%d,%d,20,21,22,23,24,25,26,27,28,29,30,31,32],\"max_tokens\":%d,\"stream\":true,\"temperature\":0,\"seed\":%d,"
                     "\"logit_bias\":{\"0\":-100,\"1\":-100,\"2\":-100,\"%d\":100},\"repetition_stop\":0,\"stream_options\":{\"include_usage\":true}}",
                     model, 10 + i % 250, 10 + i / 250, tokens, i, 20 + i);
    int h = snprintf(head, sizeof head, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                     "Connection: close\r\n\r\n", n);
    if (write(fd, head, (size_t)h) != h || write(fd, body, (size_t)n) != n) return -1;
    return fd;
}

/* The last event but one says how many tokens there were. */
static void take(Stream *s, const char *data, size_t n, double t)
{
    static char text[1 << 17];
    static const char USED[] = "\"completion_tokens\":";
    size_t      all = s->n_tail + n, keep;
    memcpy(text, s->tail, s->n_tail);
    memcpy(text + s->n_tail, data, n);
    text[all] = 0;
    const char *used = memmem(text, all, USED, sizeof USED - 1);
    if (used && strchr(used, ',')) s->tokens = atoi(used + sizeof USED - 1);
    if (!used) s->last_s = t;
    if (!s->first_s && memmem(text, all, "\ndata: ", 7)) s->first_s = t;
    if (memmem(text, all, "\"error\"", 7)) s->wrong = 1;
    keep = all < sizeof s->tail ? all : sizeof s->tail - 1;
    memmove(s->tail, text + all - keep, keep);
    s->n_tail = keep;
}

int main(int argc, char **argv)
{
    static Stream        s[STREAMS_MAX];
    static struct pollfd p[STREAMS_MAX];
    static char          buf[1 << 16];
    int port = argc > 1 ? atoi(argv[1]) : 8080, n = argc > 2 ? atoi(argv[2]) : 64, tokens = argc > 3 ? atoi(argv[3]) : 256;
    const char *model = argc > 4 ? argv[4] : "aha-tiny";
    if (n < 1 || n > STREAMS_MAX) return 2;
    double start = now_s(), end = 0, slowest = 1e30, fastest = 0, first = 0;
    int    failed = 0;
    long   total = 0;
    for (int i = 0; i < n; i++) {
        p[i] = (struct pollfd){ask(port, i, tokens, model), POLLIN, 0};
        if (p[i].fd < 0) s[i].done = s[i].wrong = 1;
    }
    for (int left = n; left > 0;) {
        if (poll(p, (nfds_t)n, 60000) <= 0) break;
        double t = now_s();
        left = 0;
        for (int i = 0; i < n; i++) {
            if (!s[i].done && p[i].revents) {
                ssize_t got = read(p[i].fd, buf, sizeof buf);
                if (got > 0) take(&s[i], buf, (size_t)got, t);
                else if (got == 0 || errno != EINTR) {
                    s[i].done = 1;
                    close(p[i].fd);
                    p[i].fd = -1;
                }
            }
            left += !s[i].done;
        }
    }
    for (int i = 0; i < n; i++) {
        if (s[i].tokens != tokens || s[i].wrong) failed++;
        double rate = s[i].last_s > start ? s[i].tokens / (s[i].last_s - start) : 0;
        if (rate < slowest) slowest = rate;
        if (rate > fastest) fastest = rate;
        if (s[i].last_s > end) end = s[i].last_s;
        if (s[i].first_s > first) first = s[i].first_s;
        total += s[i].tokens;
    }
    printf("{\"streams\":%d,\"tokens\":%ld,\"failed\":%d,\"seconds\":%.3f,\"tokens_per_s\":%.1f,\"slowest\":%.2f,\"fastest\":%.2f,\"slowest_of_fastest\":%.3f,"
           "\"last_first_token_s\":%.3f}\n",
           n, total, failed, end - start, (double)total / (end - start), slowest, fastest, slowest / fastest, first - start);
    return failed != 0;
}
