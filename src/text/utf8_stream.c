/* Bytes of tokens to whole characters: a token may end in the middle of one. */
#include <string.h>

#include "text.h"

static const char REPLACEMENT[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Takes bytes until the held ones are a character, or cannot become one: as Unicode's section 3.9, one U+FFFD for each
 * longest start of a character, and the byte that broke it is looked at afresh. */
void utf8_stream_push(Utf8Stream *s, const char *bytes, size_t n, Buf *out)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        s->held[s->n_held++] = (uint8_t)bytes[i];
        int len = utf8_next(s->held, (size_t)s->n_held, &cp);
        if (len == -1) { /* good so far */
            i++;
            continue;
        }
        if (len > 0) {
            buf_add(out, s->held, (size_t)s->n_held);
            i++;
        } else {
            buf_str(out, REPLACEMENT);
            if (s->n_held == 1) i++;
        }
        s->n_held = 0;
    }
}

void utf8_stream_end(Utf8Stream *s, Buf *out)
{
    if (s->n_held) buf_str(out, REPLACEMENT);
    s->n_held = 0;
}
