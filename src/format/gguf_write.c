/* Writing one GGUF file, version 3: the layout that gguf.c reads, everything little-endian. */
#include <string.h>

#include "inner.h"

enum { ALIGNMENT = 32, VERSION = 3 };
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are written as they lie");

/* ---- metadata ---- */
static void put_u32(Buf *b, uint32_t v) { buf_add(b, &v, sizeof v); }
static void put_u64(Buf *b, uint64_t v) { buf_add(b, &v, sizeof v); }

static void put_text(Buf *b, const char *s, size_t n)
{
    put_u64(b, n);
    buf_add(b, s, n);
}

static void put_key(GgufMeta *m, const char *key, GgufType type)
{
    put_text(&m->kv, key, strlen(key));
    put_u32(&m->kv, type);
    m->n++;
}

void gguf_put_int(GgufMeta *m, const char *key, int64_t v)
{
    put_key(m, key, GGUF_U32);
    put_u32(&m->kv, (uint32_t)v);
}

void gguf_put_num(GgufMeta *m, const char *key, double v)
{
    float f = (float)v;
    put_key(m, key, GGUF_F32);
    buf_add(&m->kv, &f, sizeof f);
}

void gguf_put_bool(GgufMeta *m, const char *key, bool v)
{
    uint8_t b = v;
    put_key(m, key, GGUF_BOOL);
    buf_add(&m->kv, &b, 1);
}

void gguf_put_str(GgufMeta *m, const char *key, const char *s, size_t n)
{
    put_key(m, key, GGUF_STRING);
    put_text(&m->kv, s, n);
}

void gguf_put_array(GgufMeta *m, const char *key, GgufType type, uint64_t n)
{
    put_key(m, key, GGUF_ARRAY);
    put_u32(&m->kv, type);
    put_u64(&m->kv, n);
}

void gguf_add_str(GgufMeta *m, const char *s, size_t n) { put_text(&m->kv, s, n); }
void gguf_add_i32(GgufMeta *m, int32_t v) { buf_add(&m->kv, &v, sizeof v); }

void gguf_meta_free(GgufMeta *m)
{
    buf_free(&m->kv);
    m->n = 0;
}

/* ---- the file ---- */
typedef struct Body {
    Buf               head; /* everything before the data */
    const TensorInfo *t;
    int               n;
    TensorWriteFn    *fn;
    void             *user;
} Body;

static size_t padding(size_t n) { return -n & (ALIGNMENT - 1); }

static int check_tensors(const char *path, const TensorInfo *t, int n, aha_error *e)
{
    Names names = {0};
    int   rc = 0, at;
    for (int i = 0; i < n && !rc; i++) {
        size_t   len = t[i].name ? strlen(t[i].name) : 0, bytes;
        uint32_t type;
        bool     sized = t[i].n_dims >= 1 && t[i].n_dims <= TENSOR_DIMS_MAX && gguf_type_of(t[i].dtype, &type) && tensor_size(&t[i], &bytes);
        char     shown[96];
        error_quote(shown, sizeof shown, t[i].name ? t[i].name : "", len);
        if (len < 1 || len > TENSOR_NAME_MAX || !utf8_valid(t[i].name, len))
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor name \"%s\": expected 1..%d bytes of UTF-8", path, shown, TENSOR_NAME_MAX);
        else if (!sized || bytes != t[i].bytes)
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor \"%s\": type, shape and bytes do not agree", path, shown);
        else if ((rc = names_add(&names, t[i].name, len, &at)) == 0)
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor \"%s\": is given twice", path, shown);
        else
            rc = rc < 0 ? format_nomem(path, e) : 0;
    }
    names_free(&names);
    return rc;
}

static void pad(Buf *b)
{
    static const uint8_t ZERO[ALIGNMENT];
    buf_add(b, ZERO, padding(b->n));
}

/* Returns the bytes of the data, padding included. */
static uint64_t put_head(Buf *b, const GgufMeta *meta, const TensorInfo *t, int n)
{
    uint64_t at = 0;
    buf_str(b, "GGUF");
    put_u32(b, VERSION);
    put_u64(b, (uint64_t)n);
    put_u64(b, meta->n);
    buf_add(b, meta->kv.data, meta->kv.n);
    for (int i = 0; i < n; i++) {
        uint32_t type = 0;
        gguf_type_of(t[i].dtype, &type);
        put_text(b, t[i].name, strlen(t[i].name));
        put_u32(b, (uint32_t)t[i].n_dims);
        for (int d = t[i].n_dims - 1; d >= 0; d--) put_u64(b, (uint64_t)t[i].dim[d]); /* innermost first */
        put_u32(b, type);
        put_u64(b, at);
        at += t[i].bytes + padding(t[i].bytes);
    }
    pad(b);
    return at;
}

static int write_body(void *user, const File *f, aha_error *e)
{
    static const uint8_t ZERO[ALIGNMENT];
    Body                *b = user;
    int                  rc = write_all(f, b->head.data, b->head.n, e);
    for (int i = 0; i < b->n && !rc; i++) {
        rc = b->fn(b->user, i, f, e);
        if (!rc && padding(b->t[i].bytes)) rc = file_write(f, ZERO, padding(b->t[i].bytes), e);
    }
    return rc;
}

int gguf_write(const char *path, const GgufMeta *meta, const TensorInfo *t, int n, TensorWriteFn *fn, void *user, aha_error *e)
{
    Body     b = {.t = t, .n = n, .fn = fn, .user = user};
    uint64_t data = 0;
    if (n < 0 || (n && !t)) return error_set(e, AHA_ERR_ARG, "%s: got %d tensors", path, n);
    int rc = check_tensors(path, t, n, e);
    if (rc) return rc;
    data = put_head(&b.head, meta, t, n);
    if (b.head.failed || meta->kv.failed) rc = format_nomem(path, e);
    else rc = write_beside(path, write_body, &b, b.head.n + data, e);
    buf_free(&b.head);
    return rc;
}
