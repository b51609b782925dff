/* Standard output and standard error, and what the terminal behind them can show. */
#include "cli.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "term.h"

static char            g_name[32] = "aha";
static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER; /* of standard error and its bar */
static bool            g_bar;                              /* a bar stands in the last line */
static bool            g_out_failed;

/* ---- the terminal ---- */
bool term_is(int fd) { return isatty(fd) == 1; }

bool term_styled(int fd)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return term_is(fd) && !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
}

const char *term_style(int fd, Style s)
{
    static const char *const CODE[] = {[STYLE_DIM] = "\033[2m", [STYLE_BOLD] = "\033[1m", [STYLE_RED] = "\033[31m",
                                       [STYLE_GREEN] = "\033[32m", [STYLE_OFF] = "\033[0m"};
    return term_styled(fd) ? CODE[s] : "";
}

int term_columns(int fd)
{
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) return w.ws_col;
    return 80;
}

void die_by(int sig)
{
    signal(sig, SIG_DFL);
    raise(sig);
    _exit(128 + sig);
}

/* All of it, across signals: Ctrl-C while a token is shown is no fault of the terminal.  false: errno. */
static bool write_all(int fd, const char *s, size_t n)
{
    while (n) {
        ssize_t w = write(fd, s, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return false;
        s += w;
        n -= (size_t)w;
    }
    return true;
}

/* ---- standard error ---- whole lines at once, so that two processes' messages do not mix */
static void err_write(const char *s, size_t n)
{
    (void)write_all(STDERR_FILENO, s, n); /* nobody is left to be told */
}

void bar_draw(const char *line, size_t n)
{
    pthread_mutex_lock(&g_lock);
    err_write("\r", 1);
    err_write(line, n);
    err_write("\033[K", 3);
    g_bar = true;
    pthread_mutex_unlock(&g_lock);
}

static void bar_clear(void) /* the lock is held */
{
    if (g_bar) err_write("\r\033[K", 4);
    g_bar = false;
}

void bar_remove(void)
{
    pthread_mutex_lock(&g_lock);
    bar_clear();
    pthread_mutex_unlock(&g_lock);
}

/* What a terminal shows and does not obey. */
static bool harmless(uint32_t c) { return c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f && (c < 0x80 || c > 0x9f)); }

/* In a message everything else becomes a blank, whose names and texts may be a file's. */
static void make_harmless(char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        int      len = utf8_next((const uint8_t *)s + i, n - i, &c);
        if (len <= 0) s[i] = '?';
        else if (!harmless(c)) memset(s + i, ' ', (size_t)len);
        i += len > 0 ? (size_t)len : 1;
    }
}

static void say_line(const char *name, const char *fmt, va_list ap)
{
    char line[2048];
    int  n = 0, m;
    if (name) n = snprintf(line, sizeof line, "%s: ", name);
    m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    if (m < 0) return;
    n += m;
    if ((size_t)n > sizeof line - 2) n = (int)sizeof line - 2;
    make_harmless(line, (size_t)n);
    line[n++] = '\n';
    pthread_mutex_lock(&g_lock);
    bar_clear();
    err_write(line, (size_t)n);
    pthread_mutex_unlock(&g_lock);
}

void say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_line(g_name, fmt, ap);
    va_end(ap);
}

void say_plain(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_line(NULL, fmt, ap);
    va_end(ap);
}

static void log_line(void *user, LogLevel level, const char *line)
{
    (void)user;
    (void)level;
    say("%s", line);
}

void cli_begin(const char *command)
{
    if (command) snprintf(g_name, sizeof g_name, "aha %s", command);
    log_set(log_line, NULL, LOG_WARN);
}

void cli_verbose(void) { log_set(log_line, NULL, LOG_INFO); }

int fail(const aha_error *e)
{
    say("%s", e->text[0] ? e->text : aha_error_name(e->code));
    return e->code == AHA_ERR_ARG ? CLI_USAGE : CLI_FAILED;
}

int fail_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_line(g_name, fmt, ap);
    va_end(ap);
    say_plain("%s --help says more.", g_name);
    return CLI_USAGE;
}

/* ---- standard output ---- not stdio's: a write that a signal cuts short loses what its stream held */
static char   g_out[1 << 14];
static size_t g_out_n;

static void out_check(bool ok)
{
    if (ok || g_out_failed) return;
    if (errno == EPIPE) die_by(SIGPIPE);
    g_out_failed = true;
    say("cannot write to standard output: %s", strerror(errno));
}

void out_write(const void *p, size_t n)
{
    const char *s = p;
    if (!n || g_out_failed) return;
    if (n > sizeof g_out - g_out_n) out_flush();
    if (n > sizeof g_out) {
        if (!g_out_failed) out_check(write_all(STDOUT_FILENO, s, n));
        return;
    }
    memcpy(g_out + g_out_n, s, n);
    g_out_n += n;
    if (memchr(s, '\n', n) && term_is(STDOUT_FILENO)) out_flush();
}

void out_str(const char *s) { out_write(s, strlen(s)); }

void out_fmt(const char *fmt, ...)
{
    va_list ap;
    Buf     b = {0};
    va_start(ap, fmt);
    buf_vfmt(&b, fmt, ap);
    va_end(ap);
    out_buf(&b);
    buf_free(&b);
}

void out_buf(const Buf *b)
{
    if (!b->failed) {
        out_write(b->data, b->n);
        return;
    }
    errno = ENOMEM;
    out_check(false);
}

void out_flush(void)
{
    size_t n = g_out_n;
    g_out_n = 0;
    if (n && !g_out_failed) out_check(write_all(STDOUT_FILENO, g_out, n));
}

bool out_failed(void) { return g_out_failed; }

/* ---- text that others wrote ---- */
static void text_to(int fd, const char *s, size_t n, void (*put)(const void *, size_t))
{
    bool   careful = term_is(fd);
    size_t from = 0;
    for (size_t i = 0; careful && i < n;) {
        uint32_t c = 0;
        int      len = utf8_next((const uint8_t *)s + i, n - i, &c);
        if (len > 0 && harmless(c)) {
            i += (size_t)len;
            continue;
        }
        put(s + from, i - from);
        put("\xef\xbf\xbd", 3);
        i += len > 0 ? (size_t)len : 1;
        from = i;
    }
    put(s + from, n - from);
}

static void err_put(const void *p, size_t n)
{
    pthread_mutex_lock(&g_lock);
    bar_clear();
    err_write(p, n);
    pthread_mutex_unlock(&g_lock);
}

void out_text(const char *s, size_t n)
{
    if (n) text_to(STDOUT_FILENO, s, n, out_write);
}
void err_text(const char *s, size_t n)
{
    if (n) text_to(STDERR_FILENO, s, n, err_put);
}
void say_raw(const char *s) { err_put(s, strlen(s)); }
