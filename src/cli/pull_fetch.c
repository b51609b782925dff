/* Many pieces at once: which is next, what an answer means, what is tried again and when. */
#include <stdio.h>
#include <string.h>

#include "pull.h"

enum { OTHER_BODY_MAX = 64 << 10, NOTE_EVERY = 1 << 20, DIGEST_TURN = 8 << 20, PROGRESS_MIN = 64 << 10, OPEN_MAX = 64 };

typedef enum Verdict { GOES_ON, NO_FILE, NO_RANGES, WRONG, TOO_MUCH, DISK } Verdict;

struct Fetch;
typedef struct Transfer { /* one connection at work */
    struct Fetch *f;
    Blob         *b;
    Request       req;
    char         *url;
    int           piece, hops;
    int64_t       from, left, begun; /* place in the file; bytes still expected; bytes of the piece that were here before */
    int64_t       unnoted;
    size_t        other;             /* bytes of a body that is not the file */
    bool          ranged, looked;
    Verdict       verdict;
    char          why[240];
    aha_error     err;
} Transfer;

typedef struct Fetch {
    const HubEnv  *v;
    const HubList *l;
    Blob          *blob;
    Transfer      *t;
    CURLM         *multi;
    int            n, connections, active;
    int64_t        total;
    uint64_t       pause_until_ns; /* the server asked for it */
    Progress       bar;
    double         rate;           /* bytes a second, smoothed */
    int64_t        seen_bytes;
    uint64_t       seen_ns;
    bool           said_elsewhere;
    aha_error     *e;
} Fetch;

/* ---- what an answer's header says about the file ---- */
static Verdict wrong(Transfer *t, const char *what, int64_t got, int64_t expected)
{
    snprintf(t->why, sizeof t->why, "%s is %lld, expected %lld", what, (long long)got, (long long)expected);
    return WRONG;
}

static Verdict look(Transfer *t)
{
    const Reply   *r = &t->req.reply;
    const HubFile *f = t->b->file;
    long           status = request_status(&t->req);
    if (r->linked_size >= 0 && r->linked_size != f->size) return wrong(t, "the size that the server names", r->linked_size, f->size);
    if (f->lfs && r->etag[0] && strcmp(r->etag, f->oid) != 0) {
        snprintf(t->why, sizeof t->why, "the server has another file there (%.20s..., expected %.20s...)", r->etag, f->oid);
        return WRONG;
    }
    if (r->commit[0] && strcmp(r->commit, t->f->l->commit) != 0) {
        snprintf(t->why, sizeof t->why, "the server answers for commit %s, expected %s", r->commit, t->f->l->commit);
        return WRONG;
    }
    if (status == 206 && t->ranged) {
        if (r->range_from != t->from) return wrong(t, "the first byte that the server sends", r->range_from, t->from);
        if (r->range_total >= 0 && r->range_total != f->size) return wrong(t, "the size that the server names", r->range_total, f->size);
        if (r->length >= 0 && r->length != t->left) return wrong(t, "the length of what the server sends", r->length, t->left);
        return GOES_ON;
    }
    if (status == 200 && r->length >= 0 && r->length != f->size) return wrong(t, "the size that the server names", r->length, f->size);
    if (status == 200) return t->ranged ? NO_RANGES : GOES_ON;
    return NO_FILE;
}

static size_t take_piece(char *s, size_t unit, size_t count, void *arg)
{
    Transfer *t = arg;
    size_t    n = unit * count;
    if (!t->looked) t->verdict = look(t);
    t->looked = true;
    if (t->verdict == NO_FILE) return (t->other += n) > OTHER_BODY_MAX ? 0 : n; /* a redirect's or an error's words */
    if (t->verdict != GOES_ON) return 0;
    if (n > (uint64_t)t->left) {
        t->verdict = TOO_MUCH;
        return 0;
    }
    if (partial_write(&t->b->part, t->piece, s, n, &t->err)) {
        t->verdict = DISK;
        return 0;
    }
    t->left -= (int64_t)n;
    t->unnoted += (int64_t)n;
    if (t->unnoted >= NOTE_EVERY) {
        if (partial_note(&t->b->part, t->piece, &t->err)) t->verdict = DISK;
        t->unnoted = 0;
    }
    return t->verdict == GOES_ON ? n : 0;
}

/* ---- transfers ---- */
static int transfer_send(Transfer *t)
{
    Fetch *f = t->f;
    char   range[64];
    int    rc = request_begin(&t->req, f->v, t->url, f->e);
    t->looked = false;
    t->other = 0;
    t->verdict = NO_FILE; /* until its header was seen */
    if (rc == 0) {
        snprintf(range, sizeof range, "%lld-%lld", (long long)t->from, (long long)(t->from + t->left - 1));
        if (t->ranged) curl_easy_setopt(t->req.easy, CURLOPT_RANGE, range);
        curl_easy_setopt(t->req.easy, CURLOPT_WRITEFUNCTION, take_piece);
        curl_easy_setopt(t->req.easy, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(t->req.easy, CURLOPT_PRIVATE, t);
        curl_easy_setopt(t->req.easy, CURLOPT_BUFFERSIZE, 256L << 10);
        if (curl_multi_add_handle(f->multi, t->req.easy)) rc = error_set(f->e, AHA_ERR_NOMEM, "no memory for a request");
    }
    if (rc) request_end(&t->req);
    return rc;
}

static int transfer_start(Fetch *f, Blob *b, int piece)
{
    Transfer   *t = f->t;
    const char *url = b->direct ? b->direct : b->url;
    int         rc = 0;
    while (t->b) t++;
    if (b->no_ranges && b->part.done[piece] > 0) {
        int failures = b->piece[piece].failures;
        rc = blob_restart(b, f->e);
        if (rc == 0) b->piece[piece].failures = failures;
    }
    if (rc) return rc;
    *t = (Transfer){.f = f, .b = b, .piece = piece, .begun = b->part.done[piece]};
    t->from = piece * b->part.piece + t->begun;
    t->left = partial_piece_bytes(&b->part, piece) - t->begun;
    t->ranged = t->left != b->file->size;
    t->url = mem_strdup(url);
    if (!t->url || (rc = transfer_send(t)) != 0) {
        mem_free(t->url);
        t->b = NULL;
        return rc ? rc : error_set(f->e, AHA_ERR_NOMEM, "no memory for an address");
    }
    b->piece[piece].active = true;
    b->active++;
    f->active++;
    return 0;
}

/* The connection is free again; what came is noted for the next run. */
static void transfer_end(Transfer *t)
{
    Fetch *f = t->f;
    Blob  *b = t->b;
    curl_multi_remove_handle(f->multi, t->req.easy);
    request_end(&t->req);
    mem_free(t->url);
    if (t->unnoted) (void)partial_note(&b->part, t->piece, NULL);
    b->piece[t->piece].active = false;
    b->active--;
    f->active--;
    t->b = NULL;
}

/* ---- what became of it ---- */
static int failed_for_good(Transfer *t, const char *why)
{
    return error_set(t->f->e, AHA_ERR_IO, "%.200s: %s", t->b->file->path, why);
}

/* Noted, and tried again later; or too often. */
static int piece_failed(Transfer *t, const char *why, long retry_after)
{
    Fetch   *f = t->f;
    Piece   *p = &t->b->piece[t->piece];
    uint64_t now = time_now_ns();
    char     all[300];
    if (t->b->part.done[t->piece] - t->begun >= PROGRESS_MIN && !t->b->no_ranges) p->failures = 0; /* it does go on */
    p->failures++;
    log_msg(LOG_INFO, "%s, piece %d, failure %d: %s", t->b->file->path, t->piece, p->failures, why);
    if (retry_after > PULL_RETRY_AFTER_MAX_S) {
        snprintf(all, sizeof all, "%s; it asks to come back in %ld s: try again then", why, retry_after);
        return failed_for_good(t, all);
    }
    if (p->failures >= f->v->tries) {
        snprintf(all, sizeof all, "%s (tried %d times)", why, p->failures);
        return failed_for_good(t, all);
    }
    p->not_before_ns = now + (uint64_t)(retry_delay(p->failures - 1) * 1e9);
    if (retry_after > 0) f->pause_until_ns = now + (uint64_t)retry_after * UINT64_C(1000000000);
    return 0;
}

static int redirected(Transfer *t)
{
    char *to;
    int   rc = request_redirect(&t->req, t->url, &to, t->f->e);
    if (rc) return error_prefix(t->f->e, rc, "%.200s", t->b->file->path);
    if (++t->hops > PULL_HOPS_MAX) {
        mem_free(to);
        return failed_for_good(t, "the server redirects in circles");
    }
    curl_multi_remove_handle(t->f->multi, t->req.easy);
    request_end(&t->req);
    mem_free(t->url);
    t->url = to;
    if ((rc = transfer_send(t)) != 0) return rc;
    return 1; /* goes on */
}

/* The server sends the whole file whatever is asked: one connection, from the start. */
static int without_ranges(Transfer *t)
{
    Fetch *f = t->f;
    Blob  *b = t->b;
    if (b->no_ranges) return 0; /* said by another already */
    for (int i = 0; i < f->connections; i++)
        if (f->t[i].b == b && &f->t[i] != t) transfer_end(&f->t[i]);
    transfer_end(t);
    b->no_ranges = true;
    log_msg(LOG_INFO, "%s: the server sends no ranges, so it comes in one piece", b->file->path);
    return blob_restart(b, f->e);
}

static int not_found(Transfer *t, long status)
{
    Blob *b = t->b;
    char  why[64];
    snprintf(why, sizeof why, "the server answers %ld", status);
    if (!b->direct && t->hops == 0 && (status == 401 || status == 403 || status == 404))
        return hub_refused(t->f->v, t->f->l, b->file->path, status, &t->req.reply, t->f->e);
    mem_free(b->direct); /* addresses behind a redirect expire: the hub is asked anew */
    b->direct = NULL;
    return piece_failed(t, why, -1);
}

static int judge(Transfer *t, CURLcode code)
{
    Fetch     *f = t->f;
    char       why[300];
    long       status = request_status(&t->req);
    if (!t->looked && code == 0) t->verdict = look(t);
    if (t->verdict == DISK)
        return error_set(f->e, t->err.code, "%.200s: %.250s; free some space or choose another place (HF_HOME, --to)", t->b->file->path, t->err.text);
    if (t->verdict == NO_RANGES) return without_ranges(t);
    if (t->verdict == WRONG) return piece_failed(t, t->why, -1);
    if (t->verdict == TOO_MUCH) {
        t->b->part.done[t->piece] = t->begun; /* none of it is trusted */
        t->unnoted = 1;
        blob_undigest(t->b);
        return piece_failed(t, "the server sends more than it promised, and was cut off", -1);
    }
    if (t->verdict == GOES_ON && code == 0 && t->left == 0) {
        t->b->piece[t->piece].failures = 0;
        if (t->hops && !t->b->direct) {
            t->b->direct = t->url;
            t->url = NULL;
        }
        return 0;
    }
    if (t->verdict == NO_FILE && status >= 300 && status < 400) return redirected(t);
    if (status_passes(status)) {
        snprintf(why, sizeof why, "the server answers %ld", status);
        return piece_failed(t, why, request_retry_after(&t->req));
    }
    if (t->verdict == NO_FILE && status >= 400) return not_found(t, status);
    if (t->verdict == NO_FILE && code == 0) return not_found(t, status);
    if (t->req.reply.too_long) return piece_failed(t, "the answer's header does not end", -1);
    snprintf(why, sizeof why, "%.200s", code == 0 ? "the connection ended early" : t->req.error[0] ? t->req.error : curl_easy_strerror(code));
    return piece_failed(t, why, -1);
}

static int settle(Fetch *f)
{
    CURLMsg *m;
    int      left, rc = 0;
    while (rc == 0 && (m = curl_multi_info_read(f->multi, &left)) != NULL) {
        Transfer *t;
        CURLcode  code = m->data.result;
        if (m->msg != CURLMSG_DONE || interrupted()) continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        rc = judge(t, code);
        if (rc == 1)
            rc = 0; /* on its way to another address */
        else if (t->b)
            transfer_end(t);
    }
    return rc;
}

/* ---- the next piece ---- */
static int start_pieces(Fetch *f)
{
    uint64_t now = time_now_ns();
    int      rc, open = 0;
    if (now < f->pause_until_ns) return 0;
    for (int i = 0; i < f->n; i++) {
        Blob *b = &f->blob[i];
        if (f->active >= f->connections) return 0;
        if (b->state == BLOB_DONE || (b->state == BLOB_ELSEWHERE && now < b->look_again_ns)) continue;
        if (b->state != BLOB_OPEN && open >= OPEN_MAX) return 0;
        if (b->state != BLOB_OPEN && (rc = blob_open(b, f->e)) != 0) return rc;
        if (b->state == BLOB_ELSEWHERE && !f->said_elsewhere) {
            say("another program is fetching %.200s: waiting for it", b->file->path);
            f->said_elsewhere = true;
        }
        open += b->state == BLOB_OPEN;
        if (b->state != BLOB_OPEN || (b->no_ranges && b->active)) continue;
        for (int k = 0; k < b->part.pieces && f->active < f->connections; k++) {
            if (b->piece[k].active || now < b->piece[k].not_before_ns || b->part.done[k] == partial_piece_bytes(&b->part, k)) continue;
            if ((rc = transfer_start(f, b, k)) != 0) return rc;
        }
    }
    return 0;
}

/* Checksums advance while the rest arrives; 1: there is more to do at once. */
static int advance(Fetch *f)
{
    int more = 0;
    for (int i = 0; i < f->n; i++) {
        Blob *b = &f->blob[i];
        int   rc;
        if (b->state != BLOB_OPEN) continue;
        if ((rc = blob_digest(b, DIGEST_TURN, f->e)) < 0) return rc;
        more |= rc;
        if (rc == 0 && blob_complete(b) && (rc = blob_finish(b, f->e)) != 0) return rc;
        if (more) break; /* one after the other: each turn stays short */
    }
    return more;
}

static bool all_done(const Fetch *f)
{
    for (int i = 0; i < f->n; i++)
        if (f->blob[i].state != BLOB_DONE) return false;
    return true;
}

static void show(Fetch *f)
{
    int64_t  have = 0;
    uint64_t now = time_now_ns();
    char     line[100], a[32], b[32], c[32];
    if (!term_is(2)) return;
    for (int i = 0; i < f->n; i++) have += blob_have(&f->blob[i]);
    if (!f->seen_ns) f->seen_ns = now, f->seen_bytes = have;
    double s = (double)(now - f->seen_ns) * 1e-9;
    if (s >= 0.5) {
        double r = (double)(have - f->seen_bytes) / s;
        f->rate = f->rate > 0 ? 0.8 * f->rate + 0.2 * (r > 0 ? r : 0) : r;
        f->seen_ns = now;
        f->seen_bytes = have;
    }
    snprintf(line, sizeof line, "%s of %s, %s/s", bytes_words(a, (double)have), bytes_words(b, (double)f->total), bytes_words(c, f->rate));
    progress_show(&f->bar, have, f->total, f->rate > 1 ? (double)(f->total - have) / f->rate : -1, line);
}

static int run(Fetch *f)
{
    int rc = 0;
    while (!all_done(f)) {
        int running;
        if ((rc = start_pieces(f)) != 0) break;
        if (curl_multi_perform(f->multi, &running)) return error_set(f->e, AHA_ERR_INTERNAL, "libcurl cannot go on");
        if ((rc = settle(f)) != 0 || (rc = advance(f)) < 0) break;
        show(f);
        if (interrupted()) return error_set(f->e, AHA_ERR_CANCELLED, "interrupted");
        curl_multi_poll(f->multi, NULL, 0, rc ? 0 : 50, NULL);
        rc = 0;
    }
    return rc;
}

int fetch_all(const HubEnv *v, const HubList *l, Blob *blob, int n, int connections, aha_error *e)
{
    Fetch f = {.v = v, .l = l, .blob = blob, .n = n, .connections = connections, .e = e};
    int   rc;
    f.multi = curl_multi_init();
    f.t = mem_zalloc((size_t)connections, sizeof *f.t);
    if (!f.multi || !f.t) {
        rc = error_set(e, AHA_ERR_NOMEM, "no memory for %d connections", connections);
    } else {
        for (int i = 0; i < n; i++) f.total += blob[i].file->size;
        curl_multi_setopt(f.multi, CURLMOPT_MAXCONNECTS, (long)connections);
        progress_start(&f.bar, "%.40s", l->repo);
        rc = run(&f);
        progress_end(&f.bar);
        for (int i = 0; i < connections; i++)
            if (f.t[i].b) transfer_end(&f.t[i]);
    }
    mem_free(f.t);
    curl_multi_cleanup(f.multi);
    return rc;
}
