/* Unicode's composed form (NFC), through utf8proc.
 *
 * utf8proc orders combining marks by insertion, quadratic in their number: 128 KiB of alternating marks took seconds.  So
 * it decomposes one character at a time, marks are ordered here by counting, and it composes the result.
 *
 * Its tables are Unicode 15.  Those behind Hugging Face's tokenizers, with which the models were trained, are Unicode 9:
 * later characters (nfc_late.h) are left alone, have no combining class, and end what can be composed. */
#include <string.h>
#include <utf8proc.h>

#include "inner.h"
#include "nfc_late.h"

/* Below U+0300 every character is its own composed form and nothing combines. */
static bool plainly_composed(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)s[i] >= 0xCC) return false; /* the lead byte of U+0300 */
    return true;
}

static bool late(int32_t cp)
{
    size_t lo = 0, hi = ARRAY_LEN(NFC_LATE);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (NFC_LATE[mid].to < (uint32_t)cp) lo = mid + 1;
        else hi = mid;
    }
    return lo < ARRAY_LEN(NFC_LATE) && NFC_LATE[lo].from <= (uint32_t)cp;
}

static int ccc(int32_t cp)
{
    int class = utf8proc_get_property(cp)->combining_class;
    return class && late(cp) ? 0 : class;
}

/* Orders a run of marks by combining class, equals in their order. */
static void order_run(int32_t *run, int32_t *tmp, size_t n)
{
    if (n < 24) {
        for (size_t i = 1; i < n; i++) {
            int32_t x = run[i];
            size_t  k = i;
            for (; k && ccc(run[k - 1]) > ccc(x); k--) run[k] = run[k - 1];
            run[k] = x;
        }
        return;
    }
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++) at[ccc(run[i]) + 1]++;
    for (int c = 0; c < 256; c++) at[c + 1] += at[c];
    for (size_t i = 0; i < n; i++) tmp[at[ccc(run[i])]++] = run[i];
    memcpy(run, tmp, n * sizeof *run);
}

static void order_marks(int32_t *cp, int32_t *tmp, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t j = i;
        while (j < n && ccc(cp[j]) > 0) j++;
        if (j - i > 1) order_run(cp + i, tmp, j - i);
        i = j + 1;
    }
}

/* Decomposes s into cp, which holds at least 2n + 4 code points: no character gives more than two for each of its bytes. */
static int64_t decompose(const char *s, size_t n, int32_t *cp)
{
    size_t room = 2 * n + 4, out = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        int      len = utf8_next((const uint8_t *)s + i, n - i, &c);
        if (len <= 0) return -1;
        int              boundary = 0;
        utf8proc_ssize_t k = utf8proc_decompose_char((int32_t)c, cp + out, (utf8proc_ssize_t)(room - out), UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (k < 0 || (size_t)k > room - out) return -1;
        if (k > 1 && late((int32_t)c)) cp[out] = (int32_t)c, k = 1;
        out += (size_t)k;
        i += (size_t)len;
    }
    return (int64_t)out;
}

/* Composes in place what lies between late characters; the new length or -1. */
static int64_t compose(int32_t *cp, size_t n)
{
    size_t out = 0;
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && !late(cp[j]);) j++;
        if (j > i) {
            utf8proc_ssize_t k = utf8proc_normalize_utf32(cp + i, (utf8proc_ssize_t)(j - i), UTF8PROC_COMPOSE | UTF8PROC_STABLE);
            if (k < 0) return -1;
            memmove(cp + out, cp + i, (size_t)k * sizeof *cp);
            out += (size_t)k;
        }
        while (j < n && late(cp[j])) cp[out++] = cp[j++];
    }
    return (int64_t)out;
}

int nfc_normalise(const char *s, size_t n, char **out, size_t *out_n, aha_error *e)
{
    *out = NULL;
    if (plainly_composed(s, n)) return 0;
    size_t   room;
    int32_t *cp = size_mul(n + 2, 4 * sizeof *cp, &room) ? mem_alloc(room) : NULL; /* [2n+4] and as many to order with */
    if (!cp) return error_set(e, AHA_ERR_NOMEM, "no memory to normalise %zu bytes of text", n);
    int64_t k = decompose(s, n, cp), m = -1;
    if (k >= 0) {
        order_marks(cp, cp + 2 * n + 4, (size_t)k);
        m = compose(cp, (size_t)k);
    }
    char *text = m < 0 ? NULL : mem_alloc((size_t)m * 4 + 1);
    if (text) {
        *out_n = 0;
        for (int64_t i = 0; i < m; i++) *out_n += (size_t)utf8_put(text + *out_n, (uint32_t)cp[i]);
        *out = text;
    }
    mem_free(cp);
    if (m < 0) return error_set(e, AHA_ERR_INTERNAL, "text that is valid UTF-8 was not normalised");
    return text ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory to normalise %zu bytes of text", n);
}
