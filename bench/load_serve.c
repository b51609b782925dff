/* Clients of a running aha serve, as many as wanted at once, in groups; each group has manners of its own.
 *
 * usage: build/bench/load_serve PORT NAME: [KEY=VALUE...] [NAME: ...]
 *   path=/health      what is asked for.  With body= or file= it is a POST
 *   body=TEXT         in it @@ is the number i of the request, @%M+A@ is i % M + A; file=PATH: these bytes as they are
 *   key=KEY           sent as Authorization: Bearer KEY
 *   count=1           requests; 0: as long as another group has some
 *   first=1           the number of the first
 *   at-once=1         of this group, each on a connection of its own
 *   pause=MS          from an answer's end until its place asks again
 *   sent=N            bytes of the request that are sent at first, or with -N all but so many; of the rest
 *   every=MS          one byte in so many milliseconds, 0: none
 *   read=no           nothing is read before standard input ends
 *   leave=MS          it goes so long after its last byte, leave-at=N: when N bytes of the answer have come; reset=yes: by a reset
 *   want=TEXT         answers are counted that have it among their last bytes
 *   tasks=PATH,...    schedstat of threads (/proc/PID/task/TID/schedstat): the time that they, or this program, waited for a processor is told apart
 * Prints one object of JSON with one for each group: how many were asked, refused (no connection), closed (without an answer), left (by their
 * own will), cut (short of their end), whole; of the answers status, retry_after (how many had it), wanted, tokens (of usage); and of each
 * that was whole the milliseconds from its last byte to the first of the answer (first_ms) and to its end (ms), in which it or the server
 * waited for a processor (waited_ms), and its tokens a second (rate).  All times are as they were, also where this program was slow.
 * Exit 1 when nothing happened for five minutes, 2 for words that it does not know. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { GROUPS_MAX = 8, CLIENTS_MAX = 4096, TASKS_MAX = 64, HEAD = 1024, TAIL = 4096, PATIENCE_S = 300, STATUS_MAX = 600 };

typedef struct Sample {
    double first_ms, ms, waited_ms, rate;
} Sample;

typedef struct Group {
    const char *name, *path, *body, *key, *want;
    char       *file;
    size_t      n_file;
    long        count, first, at_once, sent, leave_at;
    double      pause_s, every_s, leave_s; /* leave_s < 0: it stays */
    int         mute, reset; /* mute: it reads nothing at first */
    long        asked, running, refused, closed, left, cut, whole, status[STATUS_MAX], retry_after, wanted, tokens;
    double      start_s, end_s;
    Sample     *sample;
    size_t      cap_sample;
} Group;

typedef struct Client {
    Group *g;
    int    fd; /* -1: the place is free */
    char  *out; /* the request */
    size_t n_out, n_sent, n;
    double next_s; /* when the next byte goes, or the next request begins */
    double asked_s, first_s, waited_s; /* asked_s 0: not all of it is sent */
    char   head[HEAD + 1], tail[TAIL + 1]; /* of the answer */
} Client;

typedef struct Load {
    int         port, n_group, n_client, n_task, mute; /* mute: some read nothing yet */
    Group       group[GROUPS_MAX];
    Client     *client;
    const char *task[TASKS_MAX + 1];
} Load;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds that the tasks were ready and had no processor. */
static double waited(const Load *l)
{
    double sum = 0;
    for (int i = 0; i < l->n_task; i++) {
        FILE              *f = fopen(l->task[i], "r");
        unsigned long long ran, wait;
        if (f && fscanf(f, "%llu %llu", &ran, &wait) == 2) sum += 1e-9 * (double)wait;
        if (f) fclose(f);
    }
    return sum;
}

/* ---- a request ---- */
/* @%M+A@ of number i; *p behind it. */
static long number_of(const char **p, long i)
{
    char *at = (char *)*p + 1;
    if (*at == '%') i %= strtol(at + 1, &at, 10);
    if (*at == '+') i += strtol(at + 1, &at, 10);
    *p = *at == '@' ? at + 1 : at;
    return i;
}

static void write_request(Client *c, long i)
{
    Group *g = c->g;
    size_t cap = (g->body ? 8 * strlen(g->body) : g->n_file) + 1024 + (g->key ? strlen(g->key) : 0), n = 0;
    char  *body = malloc(cap), key[512] = "", length[128] = "";
    c->out = malloc(2 * cap);
    if (!body || !c->out) abort();
    for (const char *p = g->body; p && *p;)
        if (*p == '@') n += (size_t)snprintf(body + n, cap - n, "%ld", number_of(&p, i));
        else body[n++] = *p++;
    if (g->file) memcpy(body, g->file, n = g->n_file);
    if (g->key) snprintf(key, sizeof key, "Authorization: Bearer %s\r\n", g->key);
    if (g->body || g->file) snprintf(length, sizeof length, "Content-Type: application/json\r\nContent-Length: %zu\r\n", n);
    c->n_out = (size_t)snprintf(c->out, cap, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s%sConnection: close\r\n\r\n", *length ? "POST" : "GET", g->path, key, length);
    memcpy(c->out + c->n_out, body, n);
    c->n_out += n;
    free(body);
}

static void end(Client *c)
{
    static const struct linger RESET = {1, 0};
    Group                     *g = c->g;
    if (g->reset) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &RESET, sizeof RESET);
    close(c->fd);
    c->fd = -1;
    free(c->out);
    c->out = NULL;
    g->running--;
    g->end_s = now_s();
    c->next_s = g->end_s + g->pause_s;
}

/* Nobody listens: not asked again at once. */
static void refuse(Client *c)
{
    c->g->refused++;
    end(c);
    if (c->g->pause_s < 0.01) c->next_s = c->g->end_s + 0.01;
}

static void begin(Load *l, Client *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    Group             *g = c->g;
    int                on = 1, small = 4096;
    write_request(c, g->first + g->asked++);
    g->running++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) abort();
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (g->mute) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    c->n = c->n_sent = 0;
    c->asked_s = c->first_s = 0;
    c->next_s = now_s();
    if (!g->start_s) g->start_s = c->next_s;
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) refuse(c);
}

/* ---- its answer ---- */
static long used_tokens(const char *tail)
{
    static const char USED[] = "\"completion_tokens\":";
    const char       *at = NULL;
    for (const char *p = tail; (p = strstr(p, USED)); p++) at = p + sizeof USED - 1;
    return at ? atol(at) : 0;
}

static int is_whole(const Client *c)
{
    const char *length = strcasestr(c->head, "\r\nContent-Length:"), *body = strstr(c->head, "\r\n\r\n");
    if (strstr(c->tail, "data: [DONE]")) return 1;
    return length && body && c->n == (size_t)(body + 4 - c->head) + (size_t)atol(length + 17);
}

/* Nothing more comes. */
static void judge(Load *l, Client *c)
{
    Group *g = c->g;
    long   status = c->n > 12 && !memcmp(c->head, "HTTP/1.1 ", 9) ? atol(c->head + 9) : 0, tokens;
    double t = now_s();
    if (status < 100 || status >= STATUS_MAX) {
        g->closed++;
        end(c);
        return;
    }
    g->status[status]++;
    g->retry_after += strcasestr(c->head, "\r\nRetry-After: ") != NULL;
    g->wanted += g->want && strstr(c->tail, g->want);
    g->tokens += tokens = used_tokens(c->tail);
    if (!is_whole(c)) {
        g->cut++;
    } else {
        if ((size_t)g->whole == g->cap_sample) {
            g->cap_sample = g->cap_sample ? 2 * g->cap_sample : 256;
            if (!(g->sample = realloc(g->sample, g->cap_sample * sizeof *g->sample))) abort();
        }
        double from = c->asked_s ? c->asked_s : c->first_s; /* refused before all of it was sent */
        g->sample[g->whole++] = (Sample){1e3 * (c->first_s - from), 1e3 * (t - from), c->asked_s ? 1e3 * (waited(l) - c->waited_s) : 0, (double)tokens / (t - from)};
    }
    end(c);
}

static void take(Load *l, Client *c)
{
    char    buf[1 << 15];
    ssize_t got = recv(c->fd, buf, sizeof buf, 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) {
        judge(l, c);
        return;
    }
    size_t n = (size_t)got, kept = c->n < TAIL ? c->n : TAIL, fresh = n < TAIL ? n : TAIL, keep = kept + fresh > TAIL ? TAIL - fresh : kept;
    if (!c->n) c->first_s = now_s();
    if (c->n < HEAD) {
        size_t some = n < HEAD - c->n ? n : HEAD - c->n;
        memcpy(c->head + c->n, buf, some);
        c->head[c->n + some] = 0;
    }
    memmove(c->tail, c->tail + kept - keep, keep);
    memcpy(c->tail + keep, buf + n - fresh, fresh);
    c->tail[keep + fresh] = 0;
    c->n += n;
    if (c->g->leave_at && c->n >= (size_t)c->g->leave_at) {
        c->g->left++;
        end(c);
    }
}

/* What may be sent by now. */
static void give(Load *l, Client *c)
{
    Group *g = c->g;
    size_t at_first = g->sent > 0 ? (size_t)g->sent : (size_t)((long)c->n_out + g->sent), to;
    if (at_first > c->n_out) at_first = c->n_out;
    to = c->n_sent < at_first ? at_first : c->n_sent + (c->n_sent < c->n_out);
    ssize_t n = send(c->fd, c->out + c->n_sent, to - c->n_sent, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) {
        if (!c->n_sent) refuse(c);
        else c->n_sent = c->n_out; /* broken off on the way, perhaps with an answer */
        return;
    }
    c->n_sent += (size_t)n;
    c->next_s = c->n_sent < at_first ? 0 : g->every_s > 0 ? now_s() + g->every_s : 1e30;
    if (c->n_sent < c->n_out) return;
    c->waited_s = waited(l);
    c->asked_s = now_s();
    c->next_s = c->asked_s + g->leave_s; /* when it goes, if it does not stay */
}

/* ---- all of them ---- */
static int is_over(const Load *l)
{
    for (int i = 0; i < l->n_group; i++)
        if (l->group[i].count ? l->group[i].asked < l->group[i].count || l->group[i].running : l->group[i].running) return 0;
    return 1;
}

/* Others, of which there are so many, have something to do. */
static int others_run(const Load *l)
{
    for (int i = 0; i < l->n_group; i++)
        if (l->group[i].count && (l->group[i].asked < l->group[i].count || l->group[i].running)) return 1;
    return 0;
}

/* Begins what may begin by t, and says for what each waits; *wait: seconds at most. */
static void set_up(Load *l, struct pollfd *p, double t, double *wait)
{
    int more = others_run(l);
    for (int i = 0; i < l->n_client; i++) {
        Client *c = &l->client[i];
        double  at = 0;
        if (c->fd < 0 && t >= c->next_s && (c->g->count ? c->g->asked < c->g->count : more)) begin(l, c);
        p[i] = (struct pollfd){c->fd, 0, 0};
        if (c->fd < 0) at = c->next_s > t ? c->next_s : 0;
        else if (c->n_sent < c->n_out && c->next_s <= t) p[i].events = POLLOUT;
        else if (c->n_sent < c->n_out || c->g->leave_s >= 0) at = c->next_s;
        if (c->fd >= 0 && !(c->g->mute && l->mute)) p[i].events |= POLLIN;
        if (c->fd >= 0 && c->g->mute && l->mute && c->n_sent == c->n_out) p[i].fd = -1; /* it does not even look whether the server is there */
        if (at > 0 && at - t < *wait) *wait = at > t ? at - t : 0;
    }
    p[l->n_client] = (struct pollfd){l->mute ? 0 : -1, POLLIN, 0};
}

static int run(Load *l)
{
    struct pollfd *p = calloc((size_t)l->n_client + 1, sizeof *p);
    if (!p) abort();
    while (!is_over(l)) {
        double t = now_s(), wait = PATIENCE_S;
        char   c[64];
        set_up(l, p, t, &wait);
        int n = poll(p, (nfds_t)l->n_client + 1, (int)(1e3 * wait) + 1);
        if (n == 0 && wait >= PATIENCE_S) return 1;
        if (p[l->n_client].revents && read(0, c, sizeof c) <= 0) l->mute = 0;
        t = now_s();
        for (int i = 0; i < l->n_client; i++) {
            Client *k = &l->client[i];
            if (k->fd < 0) continue;
            if (k->asked_s && k->g->leave_s >= 0 && t >= k->next_s) {
                k->g->left++;
                end(k);
            } else if (p[i].revents & (POLLIN | POLLHUP | POLLERR) && !(k->g->mute && l->mute) && k->n_sent) {
                take(l, k);
            } else if (p[i].revents & (POLLOUT | POLLHUP | POLLERR) && k->n_sent < k->n_out) {
                give(l, k);
            }
        }
    }
    free(p);
    return 0;
}

static void print_samples(const Group *g, const char *name, size_t at)
{
    printf(",\"%s\":[", name);
    for (long i = 0; i < g->whole; i++) printf(i ? ",%.3f" : "%.3f", *(const double *)((const char *)&g->sample[i] + at));
    printf("]");
}

static void print_group(const Group *g)
{
    printf("\"%s\":{\"asked\":%ld,\"refused\":%ld,\"closed\":%ld,\"left\":%ld,\"cut\":%ld,\"whole\":%ld,\"retry_after\":%ld,\"wanted\":%ld,\"tokens\":%ld,\"seconds\":%.3f,\"status\":{",
           g->name, g->asked, g->refused, g->closed, g->left, g->cut, g->whole, g->retry_after, g->wanted, g->tokens, g->end_s - g->start_s);
    for (int i = 0, n = 0; i < STATUS_MAX; i++)
        if (g->status[i]) printf("%s\"%d\":%ld", n++ ? "," : "", i, g->status[i]);
    printf("}");
    print_samples(g, "ms", offsetof(Sample, ms));
    print_samples(g, "first_ms", offsetof(Sample, first_ms));
    print_samples(g, "waited_ms", offsetof(Sample, waited_ms));
    print_samples(g, "rate", offsetof(Sample, rate));
    printf("}");
}

/* ---- words ---- */
static int read_file(Group *g, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) return -1;
    g->n_file = (size_t)ftell(f);
    rewind(f);
    g->file = malloc(g->n_file + 1);
    int rc = g->file && fread(g->file, 1, g->n_file, f) == g->n_file ? 0 : -1;
    fclose(f);
    return rc;
}

static int set(Load *l, Group *g, const char *key, char *value)
{
    const struct {
        const char  *key;
        const char **text;
        long        *number;
        double      *seconds;
        int         *flag;
    } known[] = {{"path", &g->path, 0, 0, 0}, {"body", &g->body, 0, 0, 0}, {"key", &g->key, 0, 0, 0}, {"want", &g->want, 0, 0, 0}, {"count", 0, &g->count, 0, 0},
                 {"first", 0, &g->first, 0, 0}, {"at-once", 0, &g->at_once, 0, 0}, {"sent", 0, &g->sent, 0, 0}, {"leave-at", 0, &g->leave_at, 0, 0},
                 {"pause", 0, 0, &g->pause_s, 0}, {"every", 0, 0, &g->every_s, 0}, {"leave", 0, 0, &g->leave_s, 0}, {"read", 0, 0, 0, &g->mute}, {"reset", 0, 0, 0, &g->reset}};
    if (!strcmp(key, "file")) return read_file(g, value);
    if (!strcmp(key, "tasks")) {
        for (char *t = strtok(value, ","); t && l->n_task < TASKS_MAX; t = strtok(NULL, ",")) l->task[l->n_task++] = t;
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].key, key)) {
            if (known[i].text) *known[i].text = value;
            if (known[i].number) *known[i].number = atol(value);
            if (known[i].seconds) *known[i].seconds = 1e-3 * atof(value);
            if (known[i].flag) *known[i].flag = 1;
            return 0;
        }
    return -1;
}

static int read_words(Load *l, int argc, char **argv)
{
    Group *g = NULL;
    for (int i = 2; i < argc; i++) {
        char *is = strchr(argv[i], '=');
        if (!is && l->n_group < GROUPS_MAX && *argv[i] && argv[i][strlen(argv[i]) - 1] == ':') {
            argv[i][strlen(argv[i]) - 1] = 0;
            g = &l->group[l->n_group++];
            *g = (Group){.name = argv[i], .path = "/health", .count = 1, .first = 1, .at_once = 1, .leave_s = -1};
            continue;
        }
        if (is) *is = 0;
        if (!g || !is || set(l, g, argv[i], is + 1)) {
            fprintf(stderr, "load_serve: %s?\n", argv[i]);
            return -1;
        }
    }
    for (int i = 0; i < l->n_group; i++) {
        l->n_client += (int)l->group[i].at_once;
        l->mute |= l->group[i].mute;
        if (l->group[i].at_once < 1 || l->group[i].at_once > CLIENTS_MAX || l->n_client > CLIENTS_MAX) return -1;
    }
    return l->n_group ? 0 : -1;
}

int main(int argc, char **argv)
{
    static Load l;
    if (argc < 3 || read_words(&l, argc, argv)) return 2;
    l.port = atoi(argv[1]);
    if (l.n_task) l.task[l.n_task++] = "/proc/thread-self/schedstat";
    l.client = calloc((size_t)l.n_client, sizeof *l.client);
    if (!l.client) return 2;
    for (int i = 0, k = 0; i < l.n_group; i++)
        for (long j = 0; j < l.group[i].at_once; j++) l.client[k++] = (Client){.g = &l.group[i], .fd = -1};
    signal(SIGPIPE, SIG_IGN);
    int stuck = run(&l);
    printf("{");
    for (int i = 0; i < l.n_group; i++) {
        if (i) printf(",");
        print_group(&l.group[i]);
        free(l.group[i].sample);
        free(l.group[i].file);
    }
    printf("}\n");
    free(l.client);
    return stuck;
}
