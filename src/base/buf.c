/* Growing buffers with a sticky failure: append freely, check once at the end. */
#include "base.h"

#include <stdio.h>
#include <string.h>

static bool buf_room(Buf *b, size_t more)
{
    if (b->failed) return false;
    size_t need;
    if (!size_add(b->n, more, &need) || !size_add(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap) return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    if (cap < need) {
        /* half as much again: amortised, and less waste than doubling on large texts */
        size_t grown;
        cap = size_add(cap, cap / 2, &grown) && grown > need ? grown : need;
    }
    char *p = mem_realloc(b->data, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

void buf_add(Buf *b, const void *p, size_t n)
{
    if (!buf_room(b, n)) return;
    if (n) memcpy(b->data + b->n, p, n);
    b->n += n;
    b->data[b->n] = 0;
}

void buf_str(Buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_vfmt(Buf *b, const char *fmt, va_list ap)
{
    if (!buf_room(b, 0)) return;
    va_list again;
    va_copy(again, ap);
    size_t room = b->cap - b->n;
    int n = vsnprintf(b->data + b->n, room, fmt, ap);
    if (n < 0) b->failed = true;
    else if ((size_t)n < room) b->n += (size_t)n;
    else if (buf_room(b, (size_t)n)) {
        vsnprintf(b->data + b->n, b->cap - b->n, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    if (b->data) b->data[b->n] = 0; /* a failed append leaves nothing of itself behind */
}

void buf_fmt(Buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vfmt(b, fmt, ap);
    va_end(ap);
}

/* Bytes that one U+FFFD replaces: the longest prefix that could have begun a character (Unicode 15, 3.9, "maximal
 * subpart"), at least 1.  So the number of marks is the same as in every other careful decoder. */
static size_t bad_length(const uint8_t *s, size_t n)
{
    size_t k = 1;
    if (utf8_next(s, 1, NULL) >= 0) return 1;
    while (k < n && k < 3 && utf8_next(s, k + 1, NULL) < 0) k++;
    return k;
}

static void json_escape(Buf *b, uint8_t c)
{
    switch (c) {
    case '"': buf_str(b, "\\\""); break;
    case '\\': buf_str(b, "\\\\"); break;
    case '\n': buf_str(b, "\\n"); break;
    case '\r': buf_str(b, "\\r"); break;
    case '\t': buf_str(b, "\\t"); break;
    case '\b': buf_str(b, "\\b"); break;
    case '\f': buf_str(b, "\\f"); break;
    default: buf_fmt(b, "\\u%04x", c);
    }
}

void buf_json(Buf *b, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t i = 0, from = 0; /* [from, i) is copied as it is */
    buf_add(b, "\"", 1);
    while (i < n) {
        int k = utf8_next(p + i, n - i, NULL);
        if (k > 1 || (k == 1 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\')) {
            i += (size_t)k;
            continue;
        }
        buf_add(b, s + from, i - from);
        if (k == 1) {
            json_escape(b, p[i]);
            i++;
        } else {
            buf_str(b, "\xEF\xBF\xBD");
            i += bad_length(p + i, n - i);
        }
        from = i;
    }
    if (i > from) buf_add(b, s + from, i - from);
    buf_add(b, "\"", 1);
}

void buf_reset(Buf *b)
{
    b->n = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

void buf_free(Buf *b)
{
    mem_free(b->data);
    *b = (Buf){0};
}

int path_join(char *dst, size_t cap, const char *a, const char *b, aha_error *e)
{
    size_t na = strlen(a);
    const char *slash = na == 0 || a[na - 1] == '/' ? "" : "/";
    int n = snprintf(dst, cap, "%s%s%s", a, slash, b);
    if (n >= 0 && (size_t)n < cap) return 0;
    if (cap) dst[0] = 0;
    return error_set(e, AHA_ERR_LIMIT, "path of %zu bytes, at most %zu expected: '%.200s'", na + strlen(b) + 1,
                     cap ? cap - 1 : 0, b);
}
