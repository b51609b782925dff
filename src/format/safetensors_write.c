/* Writing safetensors: beside the target, then renamed into its place, so that nobody sees half a file. */
#include <string.h>

#include "inner.h"

static int check_tensors(const char *path, const TensorInfo *t, int n, bool by, aha_error *e)
{
    Names names = {0};
    int   rc = 0, at;
    for (int i = 0; i < n && !rc; i++) {
        size_t len = t[i].name ? strlen(t[i].name) : 0, bytes;
        char   shown[96];
        error_quote(shown, sizeof shown, t[i].name ? t[i].name : "", len);
        if (len < 1 || len > TENSOR_NAME_MAX || !utf8_valid(t[i].name, len) || strcmp(t[i].name, "__metadata__") == 0)
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor name \"%s\": expected 1..%d bytes of UTF-8", path, shown, TENSOR_NAME_MAX);
        else if (t[i].n_dims < 0 || t[i].n_dims > TENSOR_DIMS_MAX || dtype_is_blocked(t[i].dtype) || !tensor_size(&t[i], &bytes) || bytes != t[i].bytes || !(by || t[i].data))
            rc = error_set(e, AHA_ERR_ARG, "%s: tensor \"%s\": dtype, shape, bytes and data do not agree", path, shown);
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

typedef struct Body {
    const Buf        *header;
    const TensorInfo *t;
    const uint32_t   *order;
    int               n;
    TensorWriteFn    *fn; /* NULL: from the data that the infos point to */
    void             *user;
} Body;

static int write_body(void *user, const File *f, aha_error *e)
{
    const Body *b = user;
    uint8_t     len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)b->header->n >> (8 * i));
    int rc = file_write(f, len, sizeof len, e);
    if (!rc) rc = write_all(f, b->header->data, b->header->n, e);
    for (int i = 0; i < b->n && !rc; i++) {
        const TensorInfo *t = &b->t[b->order[i]];
        rc = b->fn ? b->fn(b->user, (int)b->order[i], f, e) : write_all(f, t->data, t->bytes, e);
    }
    return rc;
}

int safetensors_write_by(const char *path, const TensorInfo *t, int n, const char *const *metadata, TensorWriteFn *fn, void *user, aha_error *e)
{
    Buf      header = {0};
    uint64_t bytes = 8;
    if (n < 0 || (n && !t)) return error_set(e, AHA_ERR_ARG, "%s: got %d tensors", path, n);
    int rc = check_tensors(path, t, n, fn != NULL, e);
    if (!rc) rc = check_metadata(path, metadata, e);
    if (rc) return rc;
    uint32_t *order = mem_alloc(((size_t)n + 1) * sizeof *order);
    if (order) {
        put_order(t, n, order);
        put_header(&header, t, order, n, metadata);
    }
    Body body = {&header, t, order, n, fn, user};
    for (int i = 0; i < n; i++) bytes += t[i].bytes;
    if (!order || header.failed) rc = format_nomem(path, e);
    else if (header.n > HEADER_BYTES_MAX)
        rc = error_set(e, AHA_ERR_LIMIT, "%s: a header of %zu bytes, expected at most %d", path, header.n, HEADER_BYTES_MAX);
    else rc = write_beside(path, write_body, &body, bytes + header.n, e);
    buf_free(&header);
    mem_free(order);
    return rc;
}

int safetensors_write(const char *path, const TensorInfo *t, int n, const char *const *metadata, aha_error *e)
{
    return safetensors_write_by(path, t, n, metadata, NULL, NULL, e);
}
