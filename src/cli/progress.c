/* Bars with the time that is left, where somebody watches. */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "term.h"

enum { BAR_CELLS = 24, SHOW_EVERY_MS = 100, WAIT_MS = 700 };
#define WORTH_S 2.0 /* what takes less gets no bar */

const char *time_words(char dst[32], double s)
{
    long t = s < 0 ? 0 : s > 3.6e7 ? 36000000 : (long)(s + 0.5);
    if (t >= 3600)
        snprintf(dst, 32, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(dst, 32, "%ld:%02ld", t / 60, t % 60);
    return dst;
}

static const char *scaled(char dst[32], double v, const char *const *unit, int n)
{
    int i = 0;
    while (v >= 999.5 && i + 1 < n) v /= 1000, i++;
    snprintf(dst, 32, i == 0 ? "%.0f%s" : v < 9.995 ? "%.2f%s" : v < 99.95 ? "%.1f%s" : "%.0f%s", v, unit[i]);
    return dst;
}

const char *bytes_words(char dst[32], double bytes)
{
    static const char *const UNIT[] = {" bytes", " kB", " MB", " GB", " TB", " PB"};
    return scaled(dst, bytes, UNIT, (int)ARRAY_LEN(UNIT));
}

const char *count_words(char dst[32], double n)
{
    static const char *const UNIT[] = {"", "k", "M", "B", "T"};
    return scaled(dst, n, UNIT, (int)ARRAY_LEN(UNIT));
}

void progress_start(Progress *p, const char *fmt, ...)
{
    va_list ap;
    memset(p, 0, sizeof *p);
    va_start(ap, fmt);
    vsnprintf(p->label, sizeof p->label, fmt, ap);
    va_end(ap);
    p->start_ns = time_now_ns();
}

/* The longest beginning of s that takes at most `columns` (a code point counts as one). */
static size_t fit(const char *s, int columns)
{
    size_t n = 0, all = strlen(s);
    while (n < all && columns-- > 0) {
        int len = utf8_next((const uint8_t *)s + n, all - n, NULL);
        n += len > 0 ? (size_t)len : 1;
    }
    return n;
}

static void draw(const Progress *p, double share, double left_s, const char *line)
{
    char text[512], time[32];
    int  n, cells = (int)(share * BAR_CELLS);
    n = snprintf(text, sizeof text, "%s [", p->label);
    for (int i = 0; i < BAR_CELLS; i++) text[n++] = i < cells ? '=' : i == cells ? '>' : ' ';
    n += snprintf(text + n, sizeof text - (size_t)n, "] %3.0f%%", 100 * share);
    if (left_s >= 0) n += snprintf(text + n, sizeof text - (size_t)n, "  %s left", time_words(time, left_s));
    if (line && *line) snprintf(text + n, sizeof text - (size_t)n, "  %s", line);
    bar_draw(text, fit(text, term_columns(STDERR_FILENO) - 1));
}

void progress_show(Progress *p, int64_t done, int64_t total, double left_s, const char *line)
{
    uint64_t now = time_now_ns(), ran = (now - p->start_ns) / 1000000;
    double   share = total > 0 ? (double)done / (double)total : 0;
    if (!term_is(STDERR_FILENO) || ran < WAIT_MS) return;
    if (p->shown_ns && now - p->shown_ns < SHOW_EVERY_MS * UINT64_C(1000000)) return;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    if (left_s < 0 && share > 0) left_s = (double)ran / 1000 * (1 - share) / share;
    if (!p->shown_ns && left_s >= 0 && (double)ran / 1000 + left_s < WORTH_S) return;
    p->shown_ns = now;
    draw(p, share, left_s, line);
}

void progress_end(Progress *p)
{
    if (p->shown_ns) bar_remove();
    p->shown_ns = 0;
}
