/* GGUF's metadata: reading little-endian fields within bounds, and typed values by key.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * A value stays where it lies in the file; what is kept of it is its type and place.  Every length is compared with the
 * bytes that are left before it is believed, so time and memory are proportional to the file. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "inner.h"

enum { KEY_BYTES_MAX = 65535 };

static const struct {
    const char *name;
    int         bytes; /* 0: it says how long it is */
} TYPE[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"U8", 1},     [GGUF_I8] = {"I8", 1},     [GGUF_U16] = {"U16", 2},   [GGUF_I16] = {"I16", 2}, [GGUF_U32] = {"U32", 4},
    [GGUF_I32] = {"I32", 4},   [GGUF_F32] = {"F32", 4},   [GGUF_BOOL] = {"BOOL", 1}, [GGUF_STRING] = {"STRING", 0},
    [GGUF_ARRAY] = {"ARRAY", 0}, [GGUF_U64] = {"U64", 8}, [GGUF_I64] = {"I64", 8},   [GGUF_F64] = {"F64", 8},
};

/* ---- fields ---- */
size_t cursor_left(const Cursor *c)
{
    return (size_t)(c->end - c->p);
}

int cursor_fail(const Cursor *c, const char *field, const char *expected)
{
    return error_set(c->e, AHA_ERR_FORMAT, "%s: byte %zu: %s: %zu bytes are left, expected %s", c->what, (size_t)(c->p - c->start), field,
                     cursor_left(c), expected);
}

static uint64_t load_bytes(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

int cursor_u32(Cursor *c, const char *field, uint32_t *out)
{
    if (cursor_left(c) < 4) return cursor_fail(c, field, "4");
    *out = (uint32_t)load_bytes(c->p, 4);
    c->p += 4;
    return 0;
}

int cursor_u64(Cursor *c, const char *field, uint64_t *out)
{
    if (cursor_left(c) < 8) return cursor_fail(c, field, "8");
    *out = load_bytes(c->p, 8);
    c->p += 8;
    return 0;
}

int cursor_string(Cursor *c, const char *field, const char **out, size_t *n)
{
    uint64_t len = 0;
    char     want[48];
    int      rc = cursor_u64(c, field, &len);
    if (rc) return rc;
    snprintf(want, sizeof want, "the %llu of its text", (unsigned long long)len);
    if (len > cursor_left(c)) return cursor_fail(c, field, want);
    *out = (const char *)c->p;
    *n = (size_t)len;
    c->p += len;
    return 0;
}

/* ---- reading ---- */
static int value_type(Cursor *c, const char *key, GgufType *out)
{
    uint32_t t = 0;
    int      rc = cursor_u32(c, key, &t);
    if (rc) return rc;
    if (t >= GGUF_TYPE_COUNT)
        return error_set(c->e, AHA_ERR_FORMAT, "%s: %s: got the type %u, expected 0..%d", c->what, key, t, GGUF_TYPE_COUNT - 1);
    *out = (GgufType)t;
    return 0;
}

static int read_elements(Cursor *c, const char *key, GgufValue *v, uint64_t n)
{
    size_t      size = (size_t)TYPE[v->type].bytes, least = size ? size : 8; /* of a string: its length */
    const char *text;
    char        want[64];
    snprintf(want, sizeof want, "%llu elements of type %s", (unsigned long long)n, TYPE[v->type].name);
    if (n > cursor_left(c) / least) return cursor_fail(c, key, want);
    v->n = (int64_t)n;
    v->data = c->p;
    if (size) c->p += n * size;
    for (uint64_t i = 0; !size && i < n; i++) {
        size_t len;
        int    rc = cursor_string(c, key, &text, &len);
        if (rc) return rc;
    }
    v->bytes = (size_t)(c->p - v->data);
    return 0;
}

static int read_value(Cursor *c, const char *key, GgufValue *v)
{
    uint64_t n = 1;
    int      rc = value_type(c, key, &v->type);
    if (rc) return rc;
    v->array = v->type == GGUF_ARRAY;
    if (v->array) rc = value_type(c, key, &v->type);
    if (rc) return rc;
    if (v->type == GGUF_ARRAY) return error_set(c->e, AHA_ERR_FORMAT, "%s: %s: got an array of arrays, expected one of values", c->what, key);
    if (v->array) rc = cursor_u64(c, key, &n);
    return rc ? rc : read_elements(c, key, v, n);
}

static int read_pair(GgufKv *kv, Cursor *c)
{
    const char *text;
    char        key[96];
    size_t      n;
    int         at, rc = cursor_string(c, "key", &text, &n);
    if (rc) return rc;
    error_quote(key, sizeof key, text, n);
    if (n < 1 || n > KEY_BYTES_MAX || memchr(text, 0, n) || !utf8_valid(text, n))
        return error_set(c->e, AHA_ERR_FORMAT, "%s: key: got \"%s\" of %zu bytes, expected 1..%d of UTF-8 without NUL", c->what, key, n, KEY_BYTES_MAX);
    rc = names_add(&kv->keys, text, n, &at);
    if (rc == 0) return error_set(c->e, AHA_ERR_FORMAT, "%s: key %s: is there twice, expected once", c->what, key);
    void *list = kv->value;
    bool  room = rc > 0 && grow(&list, &kv->cap, at, sizeof *kv->value);
    kv->value = list;
    if (!room) return format_nomem(c->what, c->e);
    kv->value[at] = (GgufValue){.type = GGUF_U8};
    return read_value(c, key, &kv->value[at]);
}

int gguf_kv_read(GgufKv *kv, Cursor *c, uint64_t n)
{
    if (n > METADATA_MAX || n > cursor_left(c) / 13) /* a key's length, a type, a byte */
        return error_set(c->e, AHA_ERR_FORMAT, "%s: metadata: got %llu pairs, expected at most %d within the %zu bytes left", c->what,
                         (unsigned long long)n, METADATA_MAX, cursor_left(c));
    for (uint64_t i = 0; i < n; i++) {
        int rc = read_pair(kv, c);
        if (rc) return rc;
    }
    return 0;
}

void gguf_kv_free(GgufKv *kv)
{
    names_free(&kv->keys);
    mem_free(kv->value);
    memset(kv, 0, sizeof *kv);
}

/* ---- access ---- */
int gguf_kv_count(const WeightFile *w)
{
    return w->kv.keys.count;
}

const char *gguf_kv_key(const WeightFile *w, int i)
{
    return i >= 0 && i < w->kv.keys.count ? names_at(&w->kv.keys, i) : NULL;
}

const GgufValue *gguf_kv_at(const WeightFile *w, int i)
{
    return i >= 0 && i < w->kv.keys.count ? &w->kv.value[i] : NULL;
}

const GgufValue *gguf_kv_find(const WeightFile *w, const char *key)
{
    return gguf_kv_at(w, names_find(&w->kv.keys, key, strlen(key)));
}

int64_t gguf_int(const GgufValue *v, int64_t i)
{
    int      n = TYPE[v->type].bytes;
    uint64_t u = load_bytes(v->data + i * n, n);
    switch (v->type) {
    case GGUF_I8: return (int8_t)u;
    case GGUF_I16: return (int16_t)u;
    case GGUF_I32: return (int32_t)u;
    default: return u > INT64_MAX && v->type == GGUF_U64 ? INT64_MAX : (int64_t)u;
    }
}

double gguf_num(const GgufValue *v, int64_t i)
{
    float  f;
    double d;
    memcpy(&f, v->data + 4 * i, v->type == GGUF_F32 ? sizeof f : 0);
    if (v->type == GGUF_F32) return (double)f;
    memcpy(&d, v->data + 8 * i, sizeof d);
    return d;
}

GgufStrings gguf_strings(const GgufValue *v)
{
    return (GgufStrings){v->data, v->n};
}

bool gguf_next(GgufStrings *s, const char **text, size_t *n)
{
    if (s->left <= 0) return false;
    *n = (size_t)load_bytes(s->p, 8);
    *text = (const char *)s->p + 8;
    s->p += 8 + *n;
    s->left--;
    return true;
}

/* The value of a key that has one of the types in the bit set `types` and is no array; *v is NULL when it may be absent. */
static int find_typed(const WeightFile *w, const char *what, const char *key, bool required, unsigned types, const char *want, const GgufValue **v, aha_error *e)
{
    *v = gguf_kv_find(w, key);
    if (!*v && required) return error_set(e, AHA_ERR_FORMAT, "%s: %s: absent, expected %s", what, key, want);
    if (!*v || (!(*v)->array && types >> (*v)->type & 1u)) return 0;
    return error_set(e, AHA_ERR_FORMAT, "%s: %s: got %s%s, expected %s", what, key, (*v)->array ? "an array of " : "", TYPE[(*v)->type].name, want);
}

#define BIT(t) (1u << (t))
static const unsigned INTEGERS = BIT(GGUF_U8) | BIT(GGUF_I8) | BIT(GGUF_U16) | BIT(GGUF_I16) | BIT(GGUF_U32) | BIT(GGUF_I32) | BIT(GGUF_U64) | BIT(GGUF_I64);

int gguf_get_int(const WeightFile *w, const char *what, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, aha_error *e)
{
    const GgufValue *v;
    int              rc = find_typed(w, what, key, required, INTEGERS, "an integer", &v, e);
    if (rc || !v) return rc;
    int64_t i = gguf_int(v, 0);
    if (i < lo || i > hi)
        return error_set(e, AHA_ERR_FORMAT, "%s: %s: got %lld, expected %lld..%lld", what, key, (long long)i, (long long)lo, (long long)hi);
    *out = i;
    return 0;
}

int gguf_get_num(const WeightFile *w, const char *what, const char *key, bool required, double lo, double hi, double *out, aha_error *e)
{
    const GgufValue *v;
    int              rc = find_typed(w, what, key, required, BIT(GGUF_F32) | BIT(GGUF_F64), "a floating-point number", &v, e);
    if (rc || !v) return rc;
    double d = gguf_num(v, 0);
    if (!(d >= lo && d <= hi)) return error_set(e, AHA_ERR_FORMAT, "%s: %s: got %g, expected %g..%g", what, key, d, lo, hi);
    *out = d;
    return 0;
}

int gguf_get_bool(const WeightFile *w, const char *what, const char *key, bool required, bool *out, aha_error *e)
{
    const GgufValue *v;
    int              rc = find_typed(w, what, key, required, BIT(GGUF_BOOL), "a BOOL", &v, e);
    if (rc || !v) return rc;
    if (v->data[0] > 1) return error_set(e, AHA_ERR_FORMAT, "%s: %s: got the byte %d, expected 0 or 1", what, key, v->data[0]);
    *out = v->data[0] == 1;
    return 0;
}

int gguf_get_str(const WeightFile *w, const char *what, const char *key, bool required, const char **out, size_t *n, aha_error *e)
{
    const GgufValue *v;
    int              rc = find_typed(w, what, key, required, BIT(GGUF_STRING), "a STRING", &v, e);
    if (rc || !v) return rc;
    GgufStrings s = gguf_strings(v);
    gguf_next(&s, out, n);
    return 0;
}
