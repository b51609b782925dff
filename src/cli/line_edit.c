/* libedit, fed by a reader of our own that knows what was pasted.
 *
 * A terminal that can brackets pasted text (ESC [200~ ... ESC [201~).  Of such text one line goes into the line that is being
 * edited; more is kept aside, and a place holder, "[pasted 12 lines #1]", stands for it until the message is sent.  Where a
 * terminal does not bracket, lines that come in one burst are taken for one message. */
#include "line_edit.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_MAX = 1000, PASTE_MAX = 64, BURST_MS = 20, PLAIN_PASTE_MAX = 400, LOOK_MS = 200, MESSAGE_BYTES_MAX = 16 << 20 };

struct LineEdit {
    EditLine   *el; /* NULL: no terminal */
    History    *history;
    const char *prompt;
    bool        more;      /* the second prompt: a message goes on */
    uint8_t     in[4096];  /* read, not yet handed on */
    int         n_in, at;
    int         typed_ahead; /* bytes that were there before the prompt: no burst */
    Buf         inject;    /* place holders and pasted lines on their way into the line */
    size_t      inject_at;
    Buf         paste[PASTE_MAX];
    int         n_paste;
    bool        ended;     /* end of input, seen while a message was being joined */
};

/* ---- bytes ---- */
/* Reads what the terminal has; -1 with EINTR once Ctrl-C was seen.  A Ctrl-C between the
 * prompt and the read would otherwise be noted and wait for the next key: so the wait looks up now and then. */
static ssize_t bytes_read(LineEdit *l)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!interrupted()) {
        if (poll(&p, 1, LOOK_MS) <= 0) continue; /* also a new window size, or back from Ctrl-Z: libedit has redrawn */
        ssize_t n = read(STDIN_FILENO, l->in, sizeof l->in);
        if (n >= 0 || errno != EINTR) return n;
    }
    errno = EINTR;
    return -1;
}

/* The next byte of the terminal; -1: the end, or a signal (errno EINTR). */
static int byte_next(LineEdit *l)
{
    if (l->at == l->n_in) {
        ssize_t n = bytes_read(l);
        l->at = l->n_in = 0;
        if (n <= 0) {
            if (n == 0) errno = 0;
            return -1;
        }
        l->n_in = (int)n;
    }
    if (l->typed_ahead > 0) l->typed_ahead--;
    return l->in[l->at++];
}

static bool byte_waits(const LineEdit *l, int ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return l->at < l->n_in || (poll(&p, 1, ms) == 1 && (p.revents & POLLIN));
}

/* After ESC: the rest of "[200~" if it follows, else nothing is taken. */
static bool bracket_begins(LineEdit *l)
{
    static const char REST[] = "[200~";
    while (l->n_in - l->at < 5 && l->at < l->n_in && byte_waits(l, 0) && l->n_in < (int)sizeof l->in) { /* cut in two by read */
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&p, 1, BURST_MS) != 1) break;
        ssize_t n = read(STDIN_FILENO, l->in + l->n_in, sizeof l->in - (size_t)l->n_in);
        if (n <= 0) break;
        l->n_in += (int)n;
    }
    if (l->n_in - l->at < 5 || memcmp(l->in + l->at, REST, 5) != 0) return false;
    l->at += 5;
    return true;
}

/* ---- pasted text ---- */
static void paste_read(LineEdit *l, Buf *b)
{
    static const char END[] = "\033[201~";
    bool              cr = false;
    int               c;
    while ((c = byte_next(l)) >= 0) {
        char ch = (char)c;
        if (cr && c == '\n') {
            cr = false;
            continue;
        }
        cr = c == '\r';
        if (cr) ch = '\n';
        if (b->n < MESSAGE_BYTES_MAX) buf_add(b, &ch, 1);
        if (ch == '~' && b->n >= 6 && !memcmp(b->data + b->n - 6, END, 6)) {
            b->n -= 6;
            b->data[b->n] = 0;
            return;
        }
    }
}

static int line_count(const Buf *b)
{
    int n = 1;
    for (size_t i = 0; i + 1 < b->n; i++) n += b->data[i] == '\n';
    return n;
}

static void place_holder(const LineEdit *l, int i, char dst[64])
{
    int n = line_count(&l->paste[i]);
    if (n > 1)
        snprintf(dst, 64, "[pasted %d lines #%d]", n, i + 1);
    else
        snprintf(dst, 64, "[pasted %zu bytes #%d]", l->paste[i].n, i + 1);
}

/* Control characters would be commands to the editor. */
static bool is_plain(const Buf *b)
{
    if (b->n > PLAIN_PASTE_MAX || !utf8_valid(b->data, b->n)) return false;
    for (size_t i = 0; i < b->n; i++)
        if ((unsigned char)b->data[i] < 0x20 || b->data[i] == 0x7f) return false;
    return true;
}

static void paste_take(LineEdit *l)
{
    Buf  b = {0};
    char name[64];
    buf_str(&b, "");
    paste_read(l, &b);
    if (b.failed || !b.n) {
        buf_free(&b);
        return;
    }
    if (is_plain(&b)) {
        buf_add(&l->inject, b.data, b.n);
        buf_free(&b);
    } else if (l->n_paste < PASTE_MAX) {
        l->paste[l->n_paste++] = b;
        place_holder(l, l->n_paste - 1, name);
        buf_str(&l->inject, name);
    } else {
        buf_free(&b);
        buf_str(&l->inject, "[too many pasted texts]");
    }
}

/* The message with the texts that its place holders stand for. */
static void expand(const LineEdit *l, const char *s, size_t n, Buf *out)
{
    for (size_t i = 0; i < n;) {
        size_t step = 0;
        for (int k = 0; s[i] == '[' && k < l->n_paste && !step; k++) {
            char name[64];
            place_holder(l, k, name);
            if (n - i >= strlen(name) && !memcmp(s + i, name, strlen(name))) {
                buf_add(out, l->paste[k].data, l->paste[k].n);
                step = strlen(name);
            }
        }
        if (!step) buf_add(out, s + i, 1);
        i += step ? step : 1;
    }
}

/* ---- characters for libedit ---- */
static int inject_next(LineEdit *l)
{
    if (l->inject_at >= l->inject.n) return -1;
    int c = (uint8_t)l->inject.data[l->inject_at++];
    if (l->inject_at == l->inject.n) {
        buf_reset(&l->inject);
        l->inject_at = 0;
    }
    return c;
}

static int any_next(LineEdit *l)
{
    int c = inject_next(l);
    return c >= 0 ? c : byte_next(l);
}

static int read_char(EditLine *el, wchar_t *out)
{
    LineEdit *l;
    uint8_t   seq[4];
    uint32_t  cp;
    int       n = 0, c, len = -1;
    el_get(el, EL_CLIENTDATA, &l);
    for (;;) {
        c = inject_next(l);
        if (c < 0) {
            c = byte_next(l);
            if (c == 27 && bracket_begins(l)) {
                paste_take(l);
                continue;
            }
        }
        if (c < 0) return errno == EINTR ? -1 : 0;
        break;
    }
    seq[n++] = (uint8_t)c;
    while ((len = utf8_next(seq, (size_t)n, &cp)) == -1 && n < 4 && (c = any_next(l)) >= 0) seq[n++] = (uint8_t)c;
    *out = len > 0 ? (wchar_t)cp : 0xFFFD;
    return 1;
}

static char *show_prompt(EditLine *el)
{
    static char more[] = "... ";
    LineEdit   *l;
    el_get(el, EL_CLIENTDATA, &l);
    return l->more ? more : (char *)(uintptr_t)l->prompt;
}

/* ---- opening ---- */
static void brackets(bool on)
{
    if (term_is(STDERR_FILENO)) say_raw(on ? "\033[?2004h" : "\033[?2004l");
}

static int editor_open(LineEdit *l, aha_error *e)
{
    HistEvent ev;
    l->history = history_init();
    l->el = el_init("aha", stdin, stderr, stderr);
    if (!l->el || !l->history) return error_set(e, AHA_ERR_NOMEM, "cannot start the line editor");
    history(l->history, &ev, H_SETSIZE, HISTORY_MAX);
    history(l->history, &ev, H_SETUNIQUE, 1);
    el_set(l->el, EL_CLIENTDATA, l);
    el_set(l->el, EL_GETCFN, read_char);
    el_set(l->el, EL_PROMPT, show_prompt);
    el_set(l->el, EL_EDITOR, "emacs");
    el_set(l->el, EL_SIGNAL, 1); /* whatever ends or stops the program, the terminal is first put back as it was */
    el_set(l->el, EL_HIST, history, l->history);
    el_set(l->el, EL_BIND, "^I", "ed-insert", NULL); /* there is nothing to complete */
    el_set(l->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(l->el, EL_BIND, "\\e[3~", "ed-delete-next-char", NULL);
    el_set(l->el, EL_BIND, "\\e[1;5C", "em-next-word", NULL);
    el_set(l->el, EL_BIND, "\\e[1;5D", "ed-prev-word", NULL);
    return 0;
}

LineEdit *line_open(const char *prompt, aha_error *e)
{
    LineEdit *l = mem_zalloc(1, sizeof *l);
    if (!l) {
        error_set(e, AHA_ERR_NOMEM, "no memory for the line editor");
        return NULL;
    }
    l->prompt = prompt;
    if (term_is(STDIN_FILENO) && term_is(STDERR_FILENO) && editor_open(l, e)) {
        line_close(l);
        return NULL;
    }
    return l;
}

void line_close(LineEdit *l)
{
    if (!l) return;
    if (l->el) el_end(l->el);
    if (l->history) history_end(l->history);
    for (int i = 0; i < l->n_paste; i++) buf_free(&l->paste[i]);
    buf_free(&l->inject);
    mem_free(l);
}

/* ---- reading ---- */
static LineResult read_plain(Buf *out)
{
    int c;
    errno = 0;
    while ((c = getchar()) != EOF && c != '\n') {
        char ch = (char)c;
        if (out->n < MESSAGE_BYTES_MAX) buf_add(out, &ch, 1);
    }
    if (out->n && out->data[out->n - 1] == '\r') out->data[--out->n] = 0;
    if (c == EOF && ferror(stdin) && errno == EINTR) {
        clearerr(stdin);
        return LINE_INTERRUPTED;
    }
    if (!out->data) buf_str(out, "");
    return c == EOF && !out->n ? LINE_END : LINE_MESSAGE;
}

static void remember(LineEdit *l, const char *line)
{
    HistEvent ev;
    if (line[strspn(line, " \t")]) history(l->history, &ev, H_ENTER, line);
}

/* One line of the editor; lines of one burst are joined by the caller. */
static LineResult read_line(LineEdit *l, Buf *raw)
{
    int         n = 0;
    const char *s = el_gets(l->el, &n);
    if (!s || n <= 0) return n < 0 && interrupted() ? LINE_INTERRUPTED : LINE_END;
    buf_add(raw, s, (size_t)n);
    if (raw->n && raw->data[raw->n - 1] == '\n') raw->data[--raw->n] = 0;
    return LINE_MESSAGE;
}

LineResult line_read(LineEdit *l, Buf *out)
{
    Buf        raw = {0};
    LineResult r;
    int        waiting = 0;
    buf_reset(out);
    interrupt_clear();
    if (!l->el) return read_plain(out);
    if (l->ended) return LINE_END;
    el_set(l->el, EL_PREP_TERM, 1); /* before the prompt: a Ctrl-D behind it is a key, and not an end of input that gets lost */
    ioctl(STDIN_FILENO, FIONREAD, &waiting);
    l->typed_ahead = waiting + l->n_in - l->at;
    l->more = false;
    brackets(true);
    r = read_line(l, &raw);
    while (r == LINE_MESSAGE && raw.n && raw.data[0] != '/' && l->typed_ahead == 0 && byte_waits(l, BURST_MS)) {
        l->more = true;
        buf_str(&raw, "\n");
        r = read_line(l, &raw);
        l->ended = r == LINE_END;
        if (l->ended) r = LINE_MESSAGE;
    }
    brackets(false);
    if (r == LINE_MESSAGE && raw.n) {
        remember(l, raw.data);
        expand(l, raw.data, raw.n, out);
    }
    if (!out->data) buf_str(out, "");
    if (r == LINE_INTERRUPTED) say_raw("\n");
    buf_free(&raw);
    return r;
}
