/* Text for the page: whatever a file holds, escaped; whatever a number is, readable.
 *
 * printf's %f follows the locale (1,5 in half of Europe) and would break every drawing: numbers are written with integers. */
#include <stdio.h>
#include <string.h>

#include "report.h"

/* The escape of one valid character, NULL: it may stand as it is. */
static const char *escape(uint32_t cp)
{
    switch (cp) {
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    case '\n':
    case '\t': return NULL;
    default: break;
    }
    /* Controls would be parse errors or invisible; the others turn the direction of the text around them. */
    if (cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || (cp >= 0x202A && cp <= 0x202E) || (cp >= 0x2066 && cp <= 0x2069) || cp == 0xFEFF ||
        (cp & 0xFFFE) == 0xFFFE)
        return "\xEF\xBF\xBD";
    return NULL;
}

void html_text(Buf *b, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t         from = 0, i = 0; /* [from, i) is copied as it is */
    while (i < n) {
        uint32_t    cp = 0;
        int         k = utf8_next(p + i, n - i, &cp);
        const char *to = k > 0 ? escape(cp) : "\xEF\xBF\xBD";
        size_t      step = k > 0 ? (size_t)k : 1;
        if (to) {
            buf_add(b, s + from, i - from);
            if (cp != '\r' || i + 1 == n || s[i + 1] != '\n') buf_str(b, to);
            from = i + step;
        }
        i += step;
    }
    if (n > from) buf_add(b, s + from, n - from);
}

void html_str(Buf *b, const char *s)
{
    html_text(b, s, strlen(s));
}

void html_short(Buf *b, const char *s, int chars)
{
    size_t n = strlen(s), i = 0, last = 0;
    int    seen = 0;
    for (; i < n && seen < chars; seen++) {
        int k = utf8_next((const uint8_t *)s + i, n - i, NULL);
        if (seen == chars - 1) last = i;
        i += k > 0 ? (size_t)k : 1;
    }
    if (i == n) {
        html_text(b, s, n);
        return;
    }
    html_text(b, s, last);
    buf_str(b, "\xE2\x80\xA6");
}

/* ---- numbers ---- */
static const double POW10[] = {1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
#define MINUS "\xE2\x88\x92"
#define NOTHING "\xE2\x80\x93"

/* 1.5e308, for what is too large or too small to spell out; v is finite and not 0 */
static const char *num_scientific(char *dst, double v)
{
    double    a = fabs(v);
    int       e = (int)floor(log10(a));
    long long m = llround(a / pow(10, e > 300 ? e - 10 : e) / (e > 300 ? 1e10 : 1) * 10);
    if (m >= 100) {
        m /= 10;
        e++;
    }
    snprintf(dst, NUM_MAX, "%s%lld.%llde%d", v < 0 ? MINUS : "", m / 10, m % 10, e);
    return dst;
}

const char *num_fixed(char dst[NUM_MAX], double v, int decimals)
{
    if (!isfinite(v)) {
        snprintf(dst, NUM_MAX, "%s", isnan(v) ? NOTHING : v > 0 ? "\xE2\x88\x9E" : MINUS "\xE2\x88\x9E");
        return dst;
    }
    if (fabs(v) >= 1e9) return num_scientific(dst, v);
    decimals = decimals < 0 ? 0 : decimals > 9 ? 9 : decimals;
    long long unit = (long long)POW10[decimals], q = llround(fabs(v) * POW10[decimals]);
    const char *sign = v < 0 && q > 0 ? MINUS : "";
    if (decimals == 0) snprintf(dst, NUM_MAX, "%s%lld", sign, q);
    else snprintf(dst, NUM_MAX, "%s%lld.%0*lld", sign, q / unit, decimals, q % unit);
    return dst;
}

/* 1.50 -> 1.5, 2.0 -> 2; returns the length */
static size_t strip_zeros(char *s)
{
    size_t n = strlen(s);
    if (strchr(s, '.')) {
        while (s[n - 1] == '0') n--;
        if (s[n - 1] == '.') n--;
    }
    s[n] = 0;
    return n;
}

const char *num_auto(char dst[NUM_MAX], double v)
{
    double a = fabs(v);
    if (!isfinite(v) || v == 0) return num_fixed(dst, v, 0);
    if (a < 1e-4) return num_scientific(dst, v);
    if (a >= 99999.5) return num_si(dst, v);
    if (a >= 999.5) return num_count(dst, v);
    num_fixed(dst, v, a >= 99.95 ? 0 : a >= 9.995 ? 1 : a >= 0.9995 ? 2 : a >= 0.1 ? 3 : a >= 0.01 ? 4 : 5);
    strip_zeros(dst);
    return dst;
}

const char *num_count(char dst[NUM_MAX], double v)
{
    if (!isfinite(v) || fabs(v) >= 1e15) return num_fixed(dst, v, 0);
    char   digits[24];
    int    n = snprintf(digits, sizeof digits, "%lld", llround(fabs(v)));
    size_t at = 0;
    if (v <= -0.5) at = (size_t)snprintf(dst, NUM_MAX, MINUS);
    for (int i = 0; i < n && at + 2 < NUM_MAX; i++) {
        if (i && (n - i) % 3 == 0) dst[at++] = ',';
        dst[at++] = digits[i];
    }
    dst[at] = 0;
    return dst;
}

const char *num_si(char dst[NUM_MAX], double v)
{
    static const char UNIT[] = {'k', 'M', 'G', 'T'};
    double            a = fabs(v);
    if (!isfinite(v) || a >= 999.5e12) return num_fixed(dst, v, 0);
    if (a < 999.5) return a == floor(a) ? num_fixed(dst, v, 0) : num_auto(dst, v);
    int u = a < 999.5e3 ? 0 : a < 999.5e6 ? 1 : a < 999.5e9 ? 2 : 3;
    double x = v / (u == 0 ? 1e3 : u == 1 ? 1e6 : u == 2 ? 1e9 : 1e12), y = fabs(x);
    num_fixed(dst, x, y >= 99.95 ? 0 : y >= 9.995 ? 1 : 2);
    size_t n = strip_zeros(dst);
    dst[n] = UNIT[u];
    dst[n + 1] = 0;
    return dst;
}

const char *num_share(char dst[NUM_MAX], double v)
{
    if (!isfinite(v)) return num_fixed(dst, v, 0);
    if (!(fabs(v) <= 1000)) return num_scientific(dst, v); /* no share at all: shown as it stands in the file */
    double p = 100 * v;
    num_fixed(dst, p, p == 0 || (p >= 99.995 && p <= 100.005) ? 0 : fabs(p) < 0.995 ? 2 : 1);
    size_t n = strlen(dst);
    dst[n] = '%';
    dst[n + 1] = 0;
    return dst;
}

const char *num_time(char dst[NUM_MAX], double s)
{
    if (!isfinite(s) || s < 0) return num_fixed(dst, NAN, 0);
    if (s >= 1e9) {
        num_scientific(dst, s);
        size_t n = strlen(dst);
        snprintf(dst + n, NUM_MAX - n, " s");
        return dst;
    }
    long long t = llround(s);
    if (s < 9.95) {
        num_fixed(dst, s, 1);
        snprintf(dst + strlen(dst), NUM_MAX - strlen(dst), " s");
    } else if (t < 60) {
        snprintf(dst, NUM_MAX, "%lld s", t);
    } else if (t < 3600) {
        snprintf(dst, NUM_MAX, "%lld min %lld s", t / 60, t % 60);
    } else if (t < 48 * 3600) {
        snprintf(dst, NUM_MAX, "%lld h %lld min", t / 3600, t % 3600 / 60);
    } else {
        snprintf(dst, NUM_MAX, "%lld d %lld h", t / 86400, t % 86400 / 3600);
    }
    return dst;
}
