/* Stop texts and a text, out of one input; the text comes in pieces: what is given out is the text up to the match that plain search
 * finds, and never more than what can no longer be part of one. */
#include <stdlib.h>
#include <string.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) abort();
}

/* The match that ends first, of several the longest: where the text ends; *hit: by which, or -1. */
static size_t find(const char *text, size_t n, const TextRef *s, int n_stop, int *hit)
{
    *hit = -1;
    for (size_t end = 1; end <= n; end++) {
        for (int i = 0; i < n_stop; i++)
            if (s[i].n <= end && !memcmp(text + end - s[i].n, s[i].s, (size_t)s[i].n) && (*hit < 0 || s[i].n > s[*hit].n)) *hit = i;
        if (*hit >= 0) return end - (size_t)s[*hit].n;
    }
    return n;
}

/* data: how the text is cut; how many stop texts; each with its length before it; the rest is the text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    TextRef   stop[16];
    aha_error e;
    Stops    *p;
    Buf       out = {0};
    size_t    at = 2;
    int       n_stop, want, hit = -1;
    if (size < 2) return 0;
    n_stop = data[1] % (int)ARRAY_LEN(stop);
    for (int i = 0; i < n_stop; i++) {
        size_t len = at < size ? data[at++] % 12 : 0;
        if (len > size - at) len = size - at;
        stop[i] = (TextRef){(const char *)data + at, len};
        at += len;
    }
    if (stops_new(&p, stop, n_stop, &e)) {
        must(!p && e.code < 0 && *e.text);
        return 0;
    }
    const char  *text = (const char *)data + at;
    const size_t n = size - at, step = 1 + data[0] % 9, end = find(text, n, stop, n_stop, &want);
    for (size_t i = 0; i < n && hit < 0; i += step) {
        size_t len = n - i < step ? n - i : step;
        hit = stops_push(p, text + i, len, &out);
        must(!out.failed && out.n <= end && (!out.n || !memcmp(out.data, text, out.n)));
        must(hit >= 0 || out.n + 11 > i + len); /* no more is held than a stop text but one byte */
    }
    must(hit == want);
    if (hit < 0) stops_end(p, &out);
    must(out.n == end && (!end || !memcmp(out.data, text, end)));
    stops_free(p);
    buf_free(&out);
    return 0;
}
