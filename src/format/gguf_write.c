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

void gguf_put_split(GgufMeta *m, int no, int count, int tensors)
{
    uint16_t which[2] = {(uint16_t)no, (uint16_t)count};
    int32_t  all = tensors;
    put_key(m, "split.no", GGUF_U16);
    buf_add(&m->kv, &which[0], sizeof which[0]);
    put_key(m, "split.count", GGUF_U16);
    buf_add(&m->kv, &which[1], sizeof which[1]);
    put_key(m, "split.tensors.count", GGUF_I32);
    buf_add(&m->kv, &all, sizeof all);
}

/* What the writer says itself, and what is of the old file's types */
static bool own_key(const char *key)
{
    static const char *const OWN[] = {"general.alignment", "general.file_type", "general.quantization_version"};
    for (size_t i = 0; i < ARRAY_LEN(OWN); i++)
        if (!strcmp(key, OWN[i])) return true;
    return !strncmp(key, "split.", 6);
}

void gguf_put_all(GgufMeta *m, const WeightFile *w)
{
    for (int i = 0; i < gguf_kv_count(w); i++) {
        const GgufValue *v = gguf_kv_at(w, i);
        if (own_key(gguf_kv_key(w, i))) continue;
        if (v->array) gguf_put_array(m, gguf_kv_key(w, i), v->type, (uint64_t)v->n);
        else put_key(m, gguf_kv_key(w, i), v->type);
        buf_add(&m->kv, v->data, v->bytes);
    }
}

void gguf_meta_free(GgufMeta *m)
{
    buf_free(&m->kv);
    m->n = 0;
}

/* ---- the head ---- */
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

static uint64_t padded(uint64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static void put_head(Buf *b, const GgufMeta *meta, const TensorInfo *t, int n)
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
        at += padded(t[i].bytes);
    }
    while (!b->failed && b->n % ALIGNMENT) buf_add(b, "", 1);
}

int gguf_head(Buf *head, const char *what, const GgufMeta *meta, const TensorInfo *t, int n, uint64_t *at, uint64_t *bytes, aha_error *e)
{
    int rc = check_tensors(what, t, n, e);
    if (rc) return rc;
    put_head(head, meta, t, n);
    if (head->failed || meta->kv.failed) return format_nomem(what, e);
    *bytes = head->n;
    for (int i = 0; i < n; i++) {
        at[i] = *bytes;
        *bytes += padded(t[i].bytes);
    }
    return 0;
}

/* ---- a file at once ---- */
typedef struct Body {
    const Buf        *head;
    const TensorInfo *t;
    int               n;
    TensorWriteFn    *fn;
    void             *user;
} Body;

static int write_body(void *user, const File *f, aha_error *e)
{
    static const uint8_t ZERO[ALIGNMENT];
    const Body          *b = user;
    int                  rc = write_all(f, b->head->data, b->head->n, e);
    for (int i = 0; i < b->n && !rc; i++) {
        size_t pad = (size_t)(padded(b->t[i].bytes) - b->t[i].bytes);
        rc = b->fn(b->user, i, f, e);
        if (!rc && pad) rc = file_write(f, ZERO, pad, e);
    }
    return rc;
}

int gguf_write(const char *path, const GgufMeta *meta, const TensorInfo *t, int n, TensorWriteFn *fn, void *user, aha_error *e)
{
    Buf       head = {0};
    uint64_t  bytes = 0, *at = n >= 0 ? mem_alloc(((size_t)n + 1) * sizeof *at) : NULL;
    int       rc = n < 0 || (n && !t) ? error_set(e, AHA_ERR_ARG, "%s: got %d tensors", path, n) : at ? 0 : format_nomem(path, e);
    if (!rc) rc = gguf_head(&head, path, meta, t, n, at, &bytes, e);
    if (!rc) rc = write_beside(path, write_body, &(Body){&head, t, n, fn, user}, bytes, e);
    buf_free(&head);
    mem_free(at);
    return rc;
}
