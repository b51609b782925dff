/* Errors: a code for programs, one line of words for people. */
#include "base.h"

#include <stdio.h>
#include <string.h>

/* One line of valid UTF-8, whatever was formatted into it: a file name may hold a newline or bytes that are no UTF-8, cutting at
 * the size of the buffer may split a character, and terminals obey control characters, of Unicode's second set too. */
static void text_tidy(char *s)
{
    for (size_t i = 0, n = strlen(s); i < n;) {
        uint32_t cp = 0;
        int      len = utf8_next((const uint8_t *)s + i, n - i, &cp);
        if (len == -1) { /* cut */
            s[i] = 0;
            return;
        }
        if (len == 0) s[i] = '?';
        else if (cp < 0x20 || (cp >= 0x7f && cp <= 0x9f)) memset(s + i, ' ', (size_t)len);
        i += len > 0 ? (size_t)len : 1;
    }
}

int error_set(aha_error *e, int code, const char *fmt, ...)
{
    if (!e) return code;
    /* Formatted aside first: an argument may be e->text itself. */
    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) text[0] = 0;
    text_tidy(text);
    memcpy(e->text, text, sizeof text);
    e->code = code;
    return code;
}

int error_prefix(aha_error *e, int code, const char *fmt, ...)
{
    if (!e) return code;
    char prefix[sizeof e->text], text[2 * sizeof e->text + 3];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    if (n < 0) prefix[0] = 0;
    if (!e->code) { /* nothing was said yet */
        e->code = code;
        e->text[0] = 0;
    }
    const char *tail = e->text[0] ? e->text : aha_error_name(e->code);
    snprintf(text, sizeof text, "%s: %s", prefix, tail);
    text[sizeof e->text - 1] = 0;
    text_tidy(text);
    memcpy(e->text, text, sizeof e->text);
    return e->code;
}

const char *error_quote(char *dst, size_t cap, const char *s, size_t n)
{
    if (!cap) return "";
    size_t w = 0, cut = 0; /* cut: the last length at which "..." still fits */
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool plain = c >= 0x20 && c < 0x7f;
        if (w + (plain ? 1u : 4u) >= cap) {
            if (cap > 3) memcpy(dst + cut, "...", 4);
            else dst[w] = 0;
            return dst;
        }
        if (plain) dst[w++] = (char)c;
        else {
            static const char hex[] = "0123456789abcdef";
            dst[w++] = '\\';
            dst[w++] = 'x';
            dst[w++] = hex[c >> 4];
            dst[w++] = hex[c & 15];
        }
        if (w + 3 < cap) cut = w;
    }
    dst[w] = 0;
    return dst;
}

const char *aha_error_name(int code)
{
    switch (code) {
    case AHA_OK: return "no error";
    case AHA_ERR_NOMEM: return "out of memory";
    case AHA_ERR_IO: return "input/output error";
    case AHA_ERR_FORMAT: return "malformed";
    case AHA_ERR_UNSUPPORTED: return "unsupported";
    case AHA_ERR_ARG: return "invalid argument";
    case AHA_ERR_LIMIT: return "over a limit";
    case AHA_ERR_STATE: return "not possible now";
    case AHA_ERR_CANCELLED: return "cancelled";
    case AHA_ERR_INTERNAL: return "internal error";
    default: return "unknown error";
    }
}

const char *aha_version(void)
{
    return AHA_VERSION;
}
