/* Reading safetensors: an 8-byte little-endian length, a JSON header of so many bytes, the data.
 * https://github.com/huggingface/safetensors#format
 *
 *   { "name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ..., "__metadata__": {"key": "value"} } */
#include <stdio.h>
#include <string.h>

#include "inner.h"

typedef struct Header { /* one file while its header is read */
    WeightFile    *w;
    Scan           s;
    const uint8_t *data; /* where offset 0 of the ranges lies */
    size_t         size; /* bytes of data */
    int            shard;
    Buf            name, key, text;
} Header;

static int PRINTF_LIKE(2, 3) tensor_fail(Header *h, const char *fmt, ...)
{
    char    name[128], words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    error_quote(name, sizeof name, h->name.data, h->name.n);
    return error_set(h->s.e, AHA_ERR_FORMAT, "%s: tensor \"%s\": %s", h->s.what, name, words);
}

static int read_dtype(Header *h, TensorInfo *t)
{
    /* of the format, but not of this build */
    static const char *const OTHER[] = {"I16", "U16", "U32", "U64", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4", "C64"};
    int rc = scan_string(&h->s, &h->text);
    if (rc || (dtype_from_name(h->text.data, h->text.n, &t->dtype) && !dtype_is_blocked(t->dtype))) return rc;
    char got[32];
    error_quote(got, sizeof got, h->text.data, h->text.n);
    rc = tensor_fail(h, "dtype: got \"%s\", expected one of F64 F32 F16 BF16 F8_E4M3 I64 I32 I8 U8 BOOL", got);
    for (size_t i = 0; i < ARRAY_LEN(OTHER); i++)
        if (strcmp(h->text.data, OTHER[i]) == 0) rc = AHA_ERR_UNSUPPORTED;
    if (h->s.e) h->s.e->code = rc;
    return rc;
}

static int read_shape(Header *h, TensorInfo *t)
{
    int rc = scan_expect(&h->s, '[');
    if (rc || scan_try(&h->s, ']')) return rc;
    do {
        int64_t d;
        if (t->n_dims == TENSOR_DIMS_MAX) return tensor_fail(h, "shape: got more dimensions, expected at most %d", TENSOR_DIMS_MAX);
        if ((rc = scan_count(&h->s, &d))) return rc;
        if (d < 1) return tensor_fail(h, "shape: got a dimension of 0, expected at least 1");
        t->dim[t->n_dims++] = d;
    } while (scan_try(&h->s, ','));
    return scan_expect(&h->s, ']');
}

static int read_range(Header *h, TensorInfo *t)
{
    int64_t from, to;
    int     rc = scan_expect(&h->s, '[');
    if (!rc) rc = scan_count(&h->s, &from);
    if (!rc) rc = scan_expect(&h->s, ',');
    if (!rc) rc = scan_count(&h->s, &to);
    if (!rc) rc = scan_expect(&h->s, ']');
    if (rc) return rc;
    if (from > to || (uint64_t)to > h->size)
        return tensor_fail(h, "data_offsets: got [%lld, %lld], expected a range within the %zu bytes after the header", (long long)from,
                           (long long)to, h->size);
    t->data = h->data + from;
    t->bytes = (size_t)(to - from);
    return 0;
}

bool tensor_size(const TensorInfo *t, size_t *bytes)
{
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        if (t->dim[i] < 1 || __builtin_mul_overflow(n, t->dim[i], &n)) return false;
    return dtype_bytes(t->dtype, 1, n, bytes);
}

static int read_tensor(Header *h)
{
    static const char *const FIELD[] = {"dtype", "shape", "data_offsets"};
    TensorInfo t = {.shard = h->shard};
    unsigned   seen = 0;
    int        keys = 0, rc = scan_expect(&h->s, '{');
    if (rc) return rc;
    while ((rc = scan_key(&h->s, &keys, &h->key)) > 0) {
        unsigned f = 0;
        while (f < ARRAY_LEN(FIELD) && strcmp(h->key.data, FIELD[f]) != 0) f++;
        if (f == ARRAY_LEN(FIELD) || seen & 1u << f) {
            char got[48];
            error_quote(got, sizeof got, h->key.data, h->key.n);
            return tensor_fail(h, "got the field \"%s\", expected dtype, shape and data_offsets, once each", got);
        }
        seen |= 1u << f;
        rc = f == 0 ? read_dtype(h, &t) : f == 1 ? read_shape(h, &t) : read_range(h, &t);
        if (rc) return rc;
    }
    if (rc) return rc;
    if (seen != 7) return tensor_fail(h, "got %d of the fields dtype, shape and data_offsets, expected all", keys);

    size_t bytes;
    if (!tensor_size(&t, &bytes)) return tensor_fail(h, "shape: got dimensions whose product overflows, expected less than 2^63 bytes");
    if (bytes != t.bytes) return tensor_fail(h, "data_offsets: got %zu bytes, expected %zu from shape and dtype", t.bytes, bytes);

    WeightFile *w = h->w;
    void       *list = w->t;
    bool        room = grow(&list, &w->cap, w->n, sizeof *w->t);
    w->t = list;
    if (!room) return format_nomem(h->s.what, h->s.e);
    w->t[w->n++] = t;
    w->bytes += bytes; /* at most the bytes of the mappings */
    return 0;
}

static int add_pair(Header *h)
{
    WeightFile *w = h->w;
    int         i, fresh = names_add(&w->meta_keys, h->key.data, h->key.n, &i);
    if (fresh < 0) return format_nomem(h->s.what, h->s.e);
    if (fresh) {
        void *list = w->meta;
        bool  room = grow(&list, &w->meta_cap, i, sizeof *w->meta);
        w->meta = list;
        if (!room) return format_nomem(h->s.what, h->s.e);
        w->meta[i] = (Meta){.value = w->meta_text.n, .shard = h->shard};
        buf_add(&w->meta_text, h->text.data, h->text.n);
        buf_add(&w->meta_text, "", 1);
        return w->meta_text.failed ? format_nomem(h->s.what, h->s.e) : 0;
    }
    if (w->meta[i].shard == h->shard) return scan_fail(&h->s, "no key of __metadata__ twice");
    w->meta[i].shard = h->shard; /* the first file's value stays */
    return 0;
}

static int read_metadata(Header *h)
{
    int keys = 0, rc = scan_expect(&h->s, '{');
    if (rc) return rc;
    while ((rc = scan_key(&h->s, &keys, &h->key)) > 0) {
        if (keys > METADATA_MAX) return scan_fail(&h->s, "at most 4096 pairs in __metadata__");
        rc = scan_string(&h->s, &h->text);
        if (!rc) rc = add_pair(h);
        if (rc) return rc;
    }
    return rc;
}

static int read_entries(Header *h)
{
    bool metadata = false;
    int  keys = 0, rc = scan_expect(&h->s, '{');
    if (rc) return rc;
    while ((rc = scan_key(&h->s, &keys, &h->name)) > 0) {
        int i;
        if (h->name.n == sizeof "__metadata__" - 1 && memcmp(h->name.data, "__metadata__", h->name.n) == 0) {
            if (metadata) return scan_fail(&h->s, "__metadata__ once");
            metadata = true;
            rc = read_metadata(h);
        } else if (h->name.n == 0 || h->name.n > TENSOR_NAME_MAX) {
            return tensor_fail(h, "got a name of %zu bytes, expected 1..%d", h->name.n, TENSOR_NAME_MAX);
        } else {
            rc = names_add(&h->w->names, h->name.data, h->name.n, &i);
            if (rc < 0) return format_nomem(h->s.what, h->s.e);
            if (!rc) return tensor_fail(h, "is %s, expected once", h->w->t[i].shard != h->shard ? "in another shard too" : "there twice");
            rc = read_tensor(h);
        }
        if (rc) return rc;
    }
    return rc ? rc : scan_end(&h->s);
}

/* The ranges must tile the data: no gap, no overlap, nothing after the last. */
static int check_tiling(Header *h, int first)
{
    size_t            n = (size_t)(h->w->n - first), at = 0;
    const TensorInfo *t = n ? h->w->t + first : NULL;
    uint32_t         *order = n ? mem_alloc(n * sizeof *order) : NULL;
    if (n && !order) return format_nomem(h->s.what, h->s.e);
    sort_by_place(t, order, n);
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        size_t from = (size_t)((const uint8_t *)t[order[i]].data - h->data);
        if (from != at) {
            buf_reset(&h->name);
            buf_str(&h->name, names_at(&h->w->names, first + (int)order[i]));
            rc = h->name.failed ? format_nomem(h->s.what, h->s.e)
                                : tensor_fail(h, "data_offsets: got %s at byte %zu, expected to begin at %zu", from > at ? "a gap" : "an overlap", from, at);
        }
        at = from + t[order[i]].bytes;
    }
    if (!rc && at != h->size)
        rc = error_set(h->s.e, AHA_ERR_FORMAT, "%s: got %zu bytes after the last tensor, expected none", h->s.what, h->size - at);
    mem_free(order);
    return rc;
}

int safetensors_read(WeightFile *w, int shard, const char *what, const uint8_t *data, size_t n, aha_error *e)
{
    uint64_t len = 0;
    if (n < 8) return error_set(e, AHA_ERR_FORMAT, "%s: got %zu bytes, expected a safetensors file of at least 8", what, n);
    for (int i = 7; i >= 0; i--) len = len << 8 | data[i];
    if (len > HEADER_BYTES_MAX || len > n - 8)
        return error_set(e, AHA_ERR_FORMAT, "%s: header length: got %llu bytes, expected at most %zu", what, (unsigned long long)len,
                         n - 8 < HEADER_BYTES_MAX ? n - 8 : (size_t)HEADER_BYTES_MAX);
    if (len == 0 || data[8] != '{') return error_set(e, AHA_ERR_FORMAT, "%s: the header does not begin with '{', expected safetensors", what);

    Header h = {.w = w, .data = data + 8 + len, .size = n - 8 - (size_t)len, .shard = shard};
    int    first = w->n;
    scan_init(&h.s, what, data + 8, (size_t)len, e);
    int rc = read_entries(&h);
    if (!rc) rc = check_tiling(&h, first);
    buf_free(&h.name);
    buf_free(&h.key);
    buf_free(&h.text);
    return rc;
}
