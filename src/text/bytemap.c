/* The 256 letters of byte-level BPE: GPT-2's bytes_to_unicode.
 *
 * Bytes that print (33..126, 161..172, 174..255) stand for themselves as Latin-1 code points; the other 68 take
 * U+0100 onwards, in ascending order.  A blank is U+0120, a line feed U+010A. */
#include "inner.h"

static bool prints(int c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174;
}

/* How many bytes below c do not print. */
static int hidden_below(int c)
{
    if (c <= 33) return c;
    if (c <= 127) return 33;
    if (c <= 161) return 33 + (c - 127);
    return c <= 173 ? 67 : 68;
}

uint32_t bytemap_char(uint8_t byte)
{
    return prints(byte) ? byte : 256u + (uint32_t)hidden_below(byte);
}

int bytemap_byte(uint32_t cp)
{
    if (cp < 256) return prints((int)cp) ? (int)cp : -1;
    if (cp >= 256 + 68) return -1;
    int k = (int)cp - 256; /* the k-th hidden byte */
    if (k < 33) return k;
    return k < 67 ? 127 + (k - 33) : 173;
}

int bytemap_order(int i)
{
    if (i < 94) return 33 + i;
    if (i < 106) return 161 + (i - 94);
    if (i < 188) return 174 + (i - 106);
    return bytemap_byte(256u + (uint32_t)(i - 188));
}

int64_t bytemap_decode(char *dst, const char *s, size_t n)
{
    int64_t out = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int      len = utf8_next((const uint8_t *)s + i, n - i, &cp);
        int      byte = len > 0 ? bytemap_byte(cp) : -1;
        if (byte < 0) return -1;
        dst[out++] = (char)byte;
        i += (size_t)len;
    }
    return out;
}
