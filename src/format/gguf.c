/* Reading one GGUF file, versions 2 and 3: "GGUF", version, counts, metadata (gguf_kv.c), tensor infos, padding, data.
 *
 *   tensor info: name, u32 dimensions, u64 each (innermost first), u32 type, u64 offset into the data
 * The data begins at the next multiple of general.alignment (32), and so does every tensor in it. */
#include <stdio.h>
#include <string.h>

#include "inner.h"

enum { ALIGNMENT_DEFAULT = 32, ALIGNMENT_MAX = 65536, INFO_BYTES_MIN = 33 };

typedef struct Reading { /* one file while its header is read */
    WeightFile *w;
    Cursor      c;
    int         shard, first;
    GgufKv      kv;
    uint64_t    n_tensor, align;
    uint64_t   *offset; /* [n_tensor] */
} Reading;

bool gguf_is(const uint8_t *data, size_t n)
{
    return n >= 4 && memcmp(data, "GGUF", 4) == 0;
}

/* ggml's numbers; what is missing here is not computed with */
static const struct {
    uint32_t type;
    Dtype    dtype;
} TYPES[] = {
    {0, DT_F32},      {1, DT_F16},     {2, DT_Q4_0},     {3, DT_Q4_1},   {6, DT_Q5_0},   {7, DT_Q5_1},   {8, DT_Q8_0},
    {10, DT_Q2_K},    {11, DT_Q3_K},   {12, DT_Q4_K},    {13, DT_Q5_K},  {14, DT_Q6_K},  {16, DT_IQ2_XXS}, {17, DT_IQ2_XS},
    {18, DT_IQ3_XXS}, {19, DT_IQ1_S},  {20, DT_IQ4_NL},  {21, DT_IQ3_S}, {22, DT_IQ2_S}, {23, DT_IQ4_XS}, {24, DT_I8},
    {26, DT_I32},     {27, DT_I64},    {28, DT_F64},     {29, DT_IQ1_M}, {30, DT_BF16},  {34, DT_TQ1_0},  {39, DT_MXFP4},
};

static bool dtype_of(uint32_t type, Dtype *out)
{
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        if (TYPES[i].type != type) continue;
        *out = TYPES[i].dtype;
        return true;
    }
    return false;
}

bool gguf_type_of(Dtype dtype, uint32_t *type)
{
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        if (TYPES[i].dtype != dtype) continue;
        *type = TYPES[i].type;
        return true;
    }
    return false;
}

static int read_head(Reading *r, uint64_t *n_kv)
{
    Cursor  *c = &r->c;
    uint32_t version;
    int      rc;
    if (!gguf_is(c->p, cursor_left(c))) return error_set(c->e, AHA_ERR_FORMAT, "%s: does not begin with \"GGUF\"", c->what);
    c->p += 4;
    if ((rc = cursor_u32(c, "version", &version))) return rc;
    if (version != 2 && version != 3)
        return error_set(c->e, AHA_ERR_UNSUPPORTED, "%s: version: got %u%s, expected 2 or 3", c->what, version,
                         version == 0x02000000u || version == 0x03000000u ? ", which is of a big-endian file" : "");
    rc = cursor_u64(c, "number of tensors", &r->n_tensor);
    return rc ? rc : cursor_u64(c, "number of metadata pairs", n_kv);
}

/* A key of this file's own metadata, which w->kv need not be */
static const GgufValue *own_value(const Reading *r, const char *key)
{
    int i = names_find(&r->kv.keys, key, strlen(key));
    return i < 0 ? NULL : &r->kv.value[i];
}

static int read_alignment(Reading *r)
{
    const GgufValue *v = own_value(r, "general.alignment");
    int64_t          a = v && v->type == GGUF_U32 && !v->array ? gguf_int(v, 0) : v ? -1 : ALIGNMENT_DEFAULT;
    if (a < 8 || a > ALIGNMENT_MAX || (a & (a - 1)))
        return error_set(r->c.e, AHA_ERR_FORMAT, "%s: general.alignment: got %s%lld, expected a U32, a power of two in 8..%d", r->c.what,
                         a < 0 ? "another type, " : "", (long long)a, ALIGNMENT_MAX);
    r->align = (uint64_t)a;
    return 0;
}

static int read_split(Reading *r, GgufSplit *split)
{
    static const char *const KEY[] = {"split.no", "split.count", "split.tensors.count"};
    int64_t                  value[] = {0, 1, -1};
    for (size_t i = 0; i < ARRAY_LEN(KEY); i++) {
        const GgufValue *v = own_value(r, KEY[i]);
        if (!v) continue;
        bool integer = !v->array && v->type != GGUF_STRING && v->type != GGUF_F32 && v->type != GGUF_F64 && v->type != GGUF_BOOL;
        value[i] = integer ? gguf_int(v, 0) : -1;
        if (value[i] < (i == 1) || (i < 2 && value[i] > SHARDS_MAX))
            return error_set(r->c.e, AHA_ERR_FORMAT, "%s: %s: got %s%lld, expected an integer of %d..%d", r->c.what, KEY[i],
                             integer ? "" : "another type, ", (long long)value[i], i == 1, SHARDS_MAX);
    }
    if (value[0] >= value[1])
        return error_set(r->c.e, AHA_ERR_FORMAT, "%s: split.no: got %lld, expected less than split.count, %lld", r->c.what, (long long)value[0],
                         (long long)value[1]);
    *split = (GgufSplit){value[0], value[1], value[2]};
    return 0;
}

static int PRINTF_LIKE(3, 4) tensor_fail(const Reading *r, int i, const char *fmt, ...)
{
    char    name[128], words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    error_quote(name, sizeof name, names_at(&r->w->names, i), names_len(&r->w->names, i));
    return error_set(r->c.e, AHA_ERR_FORMAT, "%s: tensor \"%s\": %s", r->c.what, name, words);
}

static int read_name(Reading *r)
{
    Cursor     *c = &r->c;
    WeightFile *w = r->w;
    const char *name;
    char        shown[128];
    size_t      n;
    int         i, rc = cursor_string(c, "tensor's name", &name, &n);
    if (rc) return rc;
    error_quote(shown, sizeof shown, name, n);
    if (n < 1 || n > TENSOR_NAME_MAX || memchr(name, 0, n) || !utf8_valid(name, n))
        return error_set(c->e, AHA_ERR_FORMAT, "%s: tensor's name: got \"%s\" of %zu bytes, expected 1..%d of UTF-8 without NUL", c->what, shown, n,
                         TENSOR_NAME_MAX);
    rc = names_add(&w->names, name, n, &i);
    if (rc < 0) return format_nomem(c->what, c->e);
    if (rc == 0)
        return error_set(c->e, AHA_ERR_FORMAT, "%s: tensor \"%s\": is %s, expected once", c->what, shown,
                         i < r->first ? "in another file of the split too" : "there twice");
    void *list = w->t;
    bool  room = grow(&list, &w->cap, w->n, sizeof *w->t);
    w->t = list;
    if (!room) return format_nomem(c->what, c->e);
    w->t[w->n++] = (TensorInfo){.shard = r->shard};
    return 0;
}

/* dimensions, type, offset of tensor i, whose name was read */
static int read_info(Reading *r, int i)
{
    TensorInfo *t = &r->w->t[i];
    uint32_t    n_dims, type;
    int         rc = cursor_u32(&r->c, "number of dimensions", &n_dims);
    if (rc) return rc;
    if (n_dims < 1 || n_dims > TENSOR_DIMS_MAX) return tensor_fail(r, i, "got %u dimensions, expected 1..%d", n_dims, TENSOR_DIMS_MAX);
    t->n_dims = (int)n_dims;
    for (int d = t->n_dims - 1; d >= 0; d--) { /* innermost first in the file */
        uint64_t v;
        if ((rc = cursor_u64(&r->c, "dimension", &v))) return rc;
        if (v < 1 || v > INT64_MAX) return tensor_fail(r, i, "got a dimension of %llu, expected 1..2^63-1", (unsigned long long)v);
        t->dim[d] = (int64_t)v;
    }
    if ((rc = cursor_u32(&r->c, "tensor's type", &type))) return rc;
    if (!dtype_of(type, &t->dtype)) {
        tensor_fail(r, i, "type: got %u, expected one that is computed with", type);
        if (r->c.e) r->c.e->code = AHA_ERR_UNSUPPORTED;
        return AHA_ERR_UNSUPPORTED;
    }
    int64_t row = t->dim[t->n_dims - 1];
    if (row % dtype_info(t->dtype)->block)
        return tensor_fail(r, i, "got rows of %lld, expected a multiple of %d for type %s", (long long)row, dtype_info(t->dtype)->block,
                           dtype_info(t->dtype)->name);
    if (!tensor_size(t, &t->bytes)) return tensor_fail(r, i, "got dimensions whose product overflows, expected less than 2^63 bytes");
    return cursor_u64(&r->c, "tensor's offset", &r->offset[i - r->first]);
}

static int read_infos(Reading *r)
{
    if (r->n_tensor > cursor_left(&r->c) / INFO_BYTES_MIN)
        return error_set(r->c.e, AHA_ERR_FORMAT, "%s: number of tensors: got %llu, expected at most %zu within the bytes left", r->c.what,
                         (unsigned long long)r->n_tensor, cursor_left(&r->c) / INFO_BYTES_MIN);
    r->offset = mem_zalloc((size_t)r->n_tensor + 1, sizeof *r->offset);
    if (!r->offset) return format_nomem(r->c.what, r->c.e);
    for (uint64_t i = 0; i < r->n_tensor; i++) {
        int rc = read_name(r);
        if (!rc) rc = read_info(r, r->w->n - 1);
        if (rc) return rc;
    }
    return 0;
}

static int place(Reading *r, const uint8_t *data, size_t size)
{
    for (int i = r->first; i < r->w->n; i++) {
        TensorInfo *t = &r->w->t[i];
        uint64_t    at = r->offset[i - r->first];
        if (at % r->align) return tensor_fail(r, i, "offset: got %llu, expected a multiple of %llu", (unsigned long long)at, (unsigned long long)r->align);
        if (at > size || t->bytes > size - at)
            return tensor_fail(r, i, "offset: got %llu for %zu bytes, expected a place within the %zu bytes of data", (unsigned long long)at, t->bytes, size);
        t->data = data + at;
        r->w->bytes += t->bytes; /* at most the bytes of the mappings, once tiling is checked */
    }
    return 0;
}

static size_t aligned(size_t n, uint64_t align)
{
    return n + (size_t)(-(uint64_t)n & (align - 1));
}

/* Tensors follow each other with nothing but padding between them and behind the last; that one may be cut short. */
static int check_tiling(const Reading *r, const uint8_t *data, size_t size)
{
    size_t    n = (size_t)(r->w->n - r->first), at = 0;
    uint32_t *order = mem_alloc((n + 1) * sizeof *order);
    if (!order) return format_nomem(r->c.what, r->c.e);
    sort_by_place(r->w->t ? r->w->t + r->first : NULL, order, n);
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        const TensorInfo *t = &r->w->t[r->first + (int)order[i]];
        size_t            from = (size_t)((const uint8_t *)t->data - data);
        if (from != at)
            rc = tensor_fail(r, r->first + (int)order[i], "offset: got %s at byte %zu, expected to begin at %zu", from > at ? "a gap" : "an overlap", from, at);
        at = aligned(from + t->bytes, r->align);
    }
    if (!rc && size > at)
        rc = error_set(r->c.e, AHA_ERR_FORMAT, "%s: got %zu bytes after the last tensor, expected none", r->c.what, size - at);
    mem_free(order);
    return rc;
}

static int read_file(Reading *r, GgufSplit *split)
{
    Cursor  *c = &r->c;
    uint64_t n_kv;
    int      rc = read_head(r, &n_kv);
    if (!rc) rc = gguf_kv_read(&r->kv, c, n_kv);
    if (!rc) rc = read_alignment(r);
    if (!rc) rc = read_split(r, split);
    if (!rc) rc = read_infos(r);
    if (rc) return rc;
    size_t head = aligned((size_t)(c->p - c->start), r->align), all = (size_t)(c->end - c->start);
    const uint8_t *data = head < all ? c->start + head : c->end;
    rc = place(r, data, (size_t)(c->end - data));
    return rc ? rc : check_tiling(r, data, (size_t)(c->end - data));
}

int gguf_read(WeightFile *w, int shard, const char *what, const uint8_t *data, size_t n, GgufSplit *split, aha_error *e)
{
    Reading r = {.w = w, .c = {what, data, data, data + n, e}, .shard = shard, .first = w->n};
    int     rc = read_file(&r, split);
    w->gguf = true;
    mem_free(r.offset);
    if (shard == 0) w->kv = r.kv;
    else gguf_kv_free(&r.kv);
    return rc;
}
