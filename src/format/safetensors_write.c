/* Writing safetensors: beside the target, then renamed into its place, so that nobody sees half a file. */
#include <string.h>

#include "inner.h"

static int check_tensors(const char *path, const TensorInfo *t, int n, aha_error *e)
{
    Names names = {0};
    int   rc = 0, at;
    for (int i = 0; i < n && !rc; i++) {
        size_t len = t[i].name ? strlen(t[i].name) : 0, bytes;
        char   shown[96];
        error_quote(shown, sizeof shown, t[i].name ? t[i].name : "", len);
        if (len < 1 || len > TENSOR_NAME_MAX || !utf8_valid(t[i].name, len) || strcmp(t[i].name, "__metadata__") == 0)
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor name \"%s\": expected 1..%d bytes of UTF-8", path, shown, TENSOR_NAME_MAX);
        else if (t[i].n_dims < 0 || t[i].n_dims > TENSOR_DIMS_MAX || dtype_is_blocked(t[i].dtype) || !tensor_size(&t[i], &bytes) || bytes != t[i].bytes)
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor \"%s\": dtype, shape and bytes do not agree", path, shown);
        else if ((rc = names_add(&names, t[i].name, len, &at)) == 0)
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor \"%s\": is given twice", path, shown);
        else
            rc = rc < 0 ? format_nomem(path, e) : 0;
    }
    names_free(&names);
    return rc;
}

static int check_metadata(const char *path, const char *const *metadata, aha_error *e)
{
    Names keys = {0};
    int   rc = 0, at;
    for (size_t i = 0; !rc && metadata && metadata[i]; i += 2) {
        const char *k = metadata[i], *v = metadata[i + 1];
        if (!v || i / 2 >= METADATA_MAX || !utf8_valid(k, strlen(k)) || !utf8_valid(v, strlen(v)))
            rc = error_set(e, AHA_ERR_ARG, "%s: metadata: expected at most %d pairs of UTF-8", path, METADATA_MAX);
        else if ((rc = names_add(&keys, k, strlen(k), &at)) == 0)
            rc = error_set(e, AHA_ERR_ARG, "%s: metadata: a key is given twice", path);
        else
            rc = rc < 0 ? format_nomem(path, e) : 0;
    }
    names_free(&keys);
    return rc;
}

/* The order in the file: wide elements first, so that every tensor is aligned to its own element; else as given. */
static void put_order(const TensorInfo *t, int n, uint32_t *order)
{
    int k = 0;
    for (int size = 8; size; size /= 2)
        for (int i = 0; i < n; i++)
            if (dtype_info(t[i].dtype)->block_bytes == size) order[k++] = (uint32_t)i;
}

static void put_header(Buf *b, const TensorInfo *t, const uint32_t *order, int n, const char *const *metadata)
{
    uint64_t at = 0;
    buf_str(b, "{");
    for (size_t i = 0; metadata && metadata[i]; i += 2) {
        buf_str(b, i ? "," : "\"__metadata__\":{");
        buf_json(b, metadata[i], strlen(metadata[i]));
        buf_str(b, ":");
        buf_json(b, metadata[i + 1], strlen(metadata[i + 1]));
    }
    if (metadata && metadata[0]) buf_str(b, n ? "}," : "}");
    for (int i = 0; i < n; i++) {
        const TensorInfo *x = &t[order[i]];
        buf_str(b, i ? "," : "");
        buf_json(b, x->name, strlen(x->name));
        buf_fmt(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_info(x->dtype)->name);
        for (int d = 0; d < x->n_dims; d++) buf_fmt(b, "%s%lld", d ? "," : "", (long long)x->dim[d]);
        buf_fmt(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + x->bytes));
        at += x->bytes;
    }
    buf_str(b, "}");
    while (!b->failed && b->n % 8) buf_str(b, " ");
}

int safetensors_head(Buf *head, const char *what, const char *const *metadata, const TensorInfo *t, int n, uint64_t *at, uint64_t *bytes, aha_error *e)
{
    int       rc = check_tensors(what, t, n, e);
    uint32_t *order = rc ? NULL : mem_alloc(((size_t)n + 1) * sizeof *order);
    if (!rc) rc = check_metadata(what, metadata, e);
    if (!rc && order) {
        put_order(t, n, order);
        for (int i = 0; i < 8; i++) buf_add(head, "", 1); /* its length, once it is known */
        put_header(head, t, order, n, metadata);
    }
    if (!rc && (!order || head->failed)) rc = format_nomem(what, e);
    if (!rc && head->n > HEADER_BYTES_MAX) rc = error_set(e, AHA_ERR_LIMIT, "%s: a header of %zu bytes, expected at most %d", what, head->n, HEADER_BYTES_MAX);
    if (!rc) {
        for (int i = 0; i < 8; i++) head->data[i] = (char)((uint64_t)(head->n - 8) >> (8 * i));
        *bytes = head->n;
        for (int i = 0; i < n; i++) {
            at[order[i]] = *bytes;
            *bytes += t[order[i]].bytes;
        }
    }
    mem_free(order);
    return rc;
}

typedef struct Body {
    const Buf        *head;
    const TensorInfo *t;
    const uint32_t   *order;
    int               n;
    TensorWriteFn    *fn; /* NULL: from the data that the infos point to */
    void             *user;
} Body;

static int write_body(void *user, const File *f, aha_error *e)
{
    const Body *b = user;
    int         rc = write_all(f, b->head->data, b->head->n, e);
    for (int i = 0; i < b->n && !rc; i++) {
        const TensorInfo *t = &b->t[b->order[i]];
        rc = b->fn ? b->fn(b->user, (int)b->order[i], f, e) : write_all(f, t->data, t->bytes, e);
    }
    return rc;
}

int safetensors_write_by(const char *path, const TensorInfo *t, int n, const char *const *metadata, TensorWriteFn *fn, void *user, aha_error *e)
{
    Buf head = {0};
    if (n < 0 || (n && !t)) return error_set(e, AHA_ERR_ARG, "%s: got %d tensors", path, n);
    for (int i = 0; i < n && !fn; i++)
        if (!t[i].data) return error_set(e, AHA_ERR_ARG, "%s: tensor %d has no data", path, i);
    uint64_t *at = mem_alloc(((size_t)n + 1) * sizeof *at), bytes = 0;
    uint32_t *order = mem_alloc(((size_t)n + 1) * sizeof *order);
    int       rc = at && order ? safetensors_head(&head, path, metadata, t, n, at, &bytes, e) : format_nomem(path, e);
    if (!rc) {
        put_order(t, n, order);
        rc = write_beside(path, write_body, &(Body){&head, t, order, n, fn, user}, bytes, e);
    }
    buf_free(&head);
    mem_free(order);
    mem_free(at);
    return rc;
}

int safetensors_write(const char *path, const TensorInfo *t, int n, const char *const *metadata, aha_error *e)
{
    return safetensors_write_by(path, t, n, metadata, NULL, NULL, e);
}
