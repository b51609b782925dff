/* A streaming reader of JSON (RFC 8259) whose memory does not grow with the text: no tree, no recursion. */
#include <string.h>

#include "inner.h"

void scan_init(Scan *s, const char *what, const void *text, size_t n, aha_error *e)
{
    *s = (Scan){.what = what, .start = text, .p = text, .end = (const uint8_t *)text + n, .e = e};
}

int scan_fail(Scan *s, const char *expected)
{
    char   got[64];
    size_t at = (size_t)(s->p - s->start), left = (size_t)(s->end - s->p);
    if (!left) return error_set(s->e, AHA_ERR_FORMAT, "%s: byte %zu: the text ends, expected %s", s->what, at, expected);
    error_quote(got, sizeof got, (const char *)s->p, left < 12 ? left : 12);
    return error_set(s->e, AHA_ERR_FORMAT, "%s: byte %zu: got \"%s\", expected %s", s->what, at, got, expected);
}

void scan_space(Scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r')) s->p++;
}

bool scan_try(Scan *s, char c)
{
    scan_space(s);
    if (s->p == s->end || *s->p != (uint8_t)c) return false;
    s->p++;
    return true;
}

int scan_expect(Scan *s, char c)
{
    char want[4] = {'\'', c, '\'', 0};
    return scan_try(s, c) ? 0 : scan_fail(s, want);
}

int scan_end(Scan *s)
{
    scan_space(s);
    return s->p == s->end ? 0 : scan_fail(s, "the end of the text");
}

static int hex4(const uint8_t *p, const uint8_t *end)
{
    int v = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int c = p[i], d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return -1;
        v = v << 4 | d;
    }
    return v;
}

/* After "\u": one code point, perhaps from a pair of surrogates. */
static int scan_unicode(Scan *s, char utf8[4], int *n)
{
    int hi = hex4(s->p, s->end);
    if (hi < 0) return scan_fail(s, "four hexadecimal digits");
    if (hi == 0) return scan_fail(s, "no NUL in a string");
    if (hi >= 0xdc00 && hi <= 0xdfff) return scan_fail(s, "no lone surrogate");
    uint32_t cp = (uint32_t)hi;
    size_t   used = 4;
    if (hi >= 0xd800 && hi <= 0xdbff) {
        int lo = s->end - s->p >= 10 && s->p[4] == '\\' && s->p[5] == 'u' ? hex4(s->p + 6, s->end) : -1;
        if (lo < 0xdc00 || lo > 0xdfff) return scan_fail(s, "no lone surrogate");
        cp = 0x10000u + ((uint32_t)(hi - 0xd800) << 10) + (uint32_t)(lo - 0xdc00);
        used = 10;
    }
    s->p += used;
    *n = utf8_put(utf8, cp);
    return 0;
}

static int scan_escape(Scan *s, char out[4], int *n)
{
    static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
    if (s->p == s->end) return scan_fail(s, "an escape");
    const char *at = *s->p ? strchr(FROM, *s->p) : NULL;
    if (at) {
        out[0] = TO[at - FROM];
        *n = 1;
        s->p++;
        return 0;
    }
    if (*s->p != 'u') return scan_fail(s, "an escape");
    s->p++;
    return scan_unicode(s, out, n);
}

/* A string whose decoded bytes go to `out`, or nowhere when out is NULL. */
static int scan_text(Scan *s, Buf *out)
{
    scan_space(s);
    if (s->p == s->end || *s->p != '"') return scan_fail(s, "a string");
    s->p++;
    for (;;) {
        const uint8_t *run = s->p;
        while (s->p < s->end && *s->p >= 0x20 && *s->p < 0x80 && *s->p != '"' && *s->p != '\\') s->p++;
        if (out) buf_add(out, run, (size_t)(s->p - run));
        if (s->p == s->end || *s->p < 0x20) return scan_fail(s, "the rest of a string");
        if (*s->p == '"') {
            s->p++;
            return 0;
        }
        char     piece[4];
        int      n = 0, rc = 0;
        uint32_t cp;
        if (*s->p == '\\') {
            s->p++;
            rc = scan_escape(s, piece, &n);
            if (rc) return rc;
        } else {
            n = utf8_next(s->p, (size_t)(s->end - s->p), &cp);
            if (n < 1) return scan_fail(s, "valid UTF-8");
            memcpy(piece, s->p, (size_t)n);
            s->p += n;
        }
        if (out) buf_add(out, piece, (size_t)n);
    }
}

int scan_string(Scan *s, Buf *out)
{
    buf_reset(out);
    int rc = scan_text(s, out);
    if (!rc) buf_add(out, "", 0);
    return !rc && out->failed ? format_nomem(s->what, s->e) : rc;
}

int scan_count(Scan *s, int64_t *out)
{
    static const char WANT[] = "an integer of 0..2^63-1";
    scan_space(s);
    const uint8_t *p = s->p;
    int64_t        v = 0;
    while (p < s->end && *p >= '0' && *p <= '9') {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v)) return scan_fail(s, WANT);
        p++;
    }
    if (p == s->p || (*s->p == '0' && p - s->p > 1)) return scan_fail(s, WANT);
    if (p < s->end && (*p == '.' || *p == 'e' || *p == 'E')) return scan_fail(s, WANT);
    s->p = p;
    *out = v;
    return 0;
}

int scan_key(Scan *s, int *n, Buf *key)
{
    int rc;
    if (scan_try(s, '}')) return 0;
    if (*n > 0 && (rc = scan_expect(s, ','))) return rc;
    if (*n < INT32_MAX) ++*n;
    rc = scan_string(s, key);
    if (!rc) rc = scan_expect(s, ':');
    return rc ? rc : 1;
}

static bool digits(Scan *s)
{
    const uint8_t *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
    return s->p > from;
}

static int scan_number(Scan *s)
{
    if (s->p < s->end && *s->p == '-') s->p++;
    if (s->p < s->end && *s->p == '0') s->p++;
    else if (!digits(s)) return scan_fail(s, "a value");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!digits(s)) return scan_fail(s, "a digit");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) s->p++;
        if (!digits(s)) return scan_fail(s, "a digit");
    }
    return 0;
}

static int scan_scalar(Scan *s)
{
    static const char *const WORD[] = {"true", "false", "null"};
    if (s->p < s->end && *s->p == '"') return scan_text(s, NULL);
    for (size_t i = 0; i < ARRAY_LEN(WORD); i++) {
        size_t n = strlen(WORD[i]);
        if ((size_t)(s->end - s->p) < n || memcmp(s->p, WORD[i], n) != 0) continue;
        s->p += n;
        return 0;
    }
    return scan_number(s);
}

static int scan_member(Scan *s)
{
    int rc = scan_text(s, NULL);
    return rc ? rc : scan_expect(s, ':');
}

/* One loop instead of recursion: bit d of `object` says whether level d is an object. */
int scan_skip(Scan *s)
{
    uint64_t object = 0;
    int      depth = 0, rc;
    for (;;) {
        bool open = scan_try(s, '{'), list = !open && scan_try(s, '[');
        if (open || list) {
            if (depth == JSON_DEPTH_MAX) return scan_fail(s, "at most 64 levels of nesting");
            object = open ? object | 1ull << depth : object & ~(1ull << depth);
            depth++;
            if (!scan_try(s, open ? '}' : ']')) {
                if (open && (rc = scan_member(s))) return rc;
                continue;
            }
            depth--;
        } else if ((rc = scan_scalar(s))) {
            return rc;
        }
        for (;; depth--) { /* a value is read: what follows it, on every level that it ends */
            if (!depth) return 0;
            bool in_object = object >> (depth - 1) & 1;
            if (scan_try(s, ',')) {
                if (in_object && (rc = scan_member(s))) return rc;
                break;
            }
            if ((rc = scan_expect(s, in_object ? '}' : ']'))) return rc;
        }
    }
}
