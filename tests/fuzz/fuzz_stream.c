/* Bytes as tokens of a stream, cut by the first byte: what comes out is valid at every moment, the same for any cut, and the
 * text itself where that is valid.  U+FFFD stands once for each longest start of a character, as Unicode's section 3.9 has it. */
#include <stdlib.h>
#include <string.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) abort();
}

/* The same by looking at all of it. */
static void whole(const uint8_t *s, size_t n, Buf *out)
{
    for (size_t i = 0; i < n;) {
        int len = utf8_next(s + i, n - i, NULL);
        if (len > 0) {
            buf_add(out, s + i, (size_t)len);
            i += (size_t)len;
            continue;
        }
        size_t start = 1; /* bytes that begin a character which does not come */
        while (i + start < n && utf8_next(s + i, start + 1, NULL) == -1) start++;
        buf_str(out, "\xEF\xBF\xBD");
        i += start;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    const size_t   step = 1 + data[0] % 7, n = size - 1;
    const uint8_t *s = data + 1;
    Utf8Stream     u = {0};
    Buf            out = {0}, want = {0};
    for (size_t i = 0; i < n; i += step) {
        utf8_stream_push(&u, (const char *)s + i, n - i < step ? n - i : step, &out);
        must(u.n_held >= 0 && u.n_held < 4 && !out.failed);
        must(!out.n || utf8_valid(out.data, out.n));
    }
    utf8_stream_end(&u, &out);
    whole(s, n, &want);
    must(out.n == want.n && (!out.n || !memcmp(out.data, want.data, out.n)));
    must(!utf8_valid((const char *)s, n) || (out.n == n && (!n || !memcmp(out.data, s, n))));
    buf_free(&out);
    buf_free(&want);
    return 0;
}
