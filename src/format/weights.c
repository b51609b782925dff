/* An opened set of tensors: one file, or a folder with its shards, mapped and found by name. */
#include <stdio.h>
#include <string.h>

#include "inner.h"

enum { PATH_MAX_BYTES = 4096 };

void weights_close(WeightFile *w)
{
    if (!w) return;
    for (int i = 0; i < w->n_map; i++) file_unmap(&w->map[i]);
    mem_free(w->map);
    mem_free(w->t);
    mem_free(w->meta);
    names_free(&w->names);
    names_free(&w->meta_keys);
    buf_free(&w->meta_text);
    gguf_kv_free(&w->kv);
    mem_free(w);
}

int weights_count(const WeightFile *w)
{
    return w->n;
}

const TensorInfo *weights_at(const WeightFile *w, int i)
{
    return i >= 0 && i < w->n ? &w->t[i] : NULL;
}

const TensorInfo *weights_find(const WeightFile *w, const char *name)
{
    return weights_at(w, names_find(&w->names, name, strlen(name)));
}

const char *weights_metadata(const WeightFile *w, const char *key)
{
    int i = names_find(&w->meta_keys, key, strlen(key));
    return i < 0 ? NULL : w->meta_text.data + w->meta[i].value;
}

size_t weights_bytes(const WeightFile *w)
{
    return w->bytes;
}

uint64_t weights_stamp(const WeightFile *w)
{
    uint64_t h = 0;
    for (int i = 0; i < w->n_map; i++) {
        int64_t file[2] = {(int64_t)w->map[i].size, w->map[i].written_ns};
        h = hash64(file, sizeof file, h);
    }
    return h;
}

bool weights_is_gguf(const WeightFile *w)
{
    return w->gguf;
}

void weights_done_with(const WeightFile *w, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (int i = 0; i < w->n_map; i++)
        if (p >= w->map[i].data && p < w->map[i].data + w->map[i].size) map_expect(data, n, MAP_USE_DONE);
}

static WeightFile *weights_new(int n_map, const char *what, aha_error *e)
{
    WeightFile *w = mem_zalloc(1, sizeof *w);
    if (w && n_map) w->map = mem_zalloc((size_t)n_map, sizeof *w->map);
    if (w && (w->map || !n_map)) return w;
    mem_free(w);
    format_nomem(what, e);
    return NULL;
}

/* A heap sort, for the library's qsort may call malloc behind the seam. */
static void sift(const TensorInfo *t, uint32_t *order, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && (uintptr_t)t[order[child]].data < (uintptr_t)t[order[child + 1]].data) child++;
        if ((uintptr_t)t[order[i]].data >= (uintptr_t)t[order[child]].data) return;
        uint32_t x = order[i];
        order[i] = order[child];
        order[child] = x;
    }
}

void sort_by_place(const TensorInfo *t, uint32_t *order, size_t n)
{
    for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    for (size_t i = n / 2; i-- > 0;) sift(t, order, i, n);
    for (size_t i = n; i-- > 1;) {
        uint32_t x = order[0];
        order[0] = order[i];
        order[i] = x;
        sift(t, order, 0, i);
    }
}

/* The names have stopped moving: hands the set over, or closes it. */
static int weights_finish(WeightFile *w, int rc, WeightFile **out)
{
    if (rc) {
        weights_close(w);
        return rc;
    }
    for (int i = 0; i < w->n; i++) w->t[i].name = names_at(&w->names, i);
    *out = w;
    return 0;
}

/* Until the weights are wanted only the header is read, and not what the system would read ahead of it: of 163 files of R1
 * 8 MB each were 1.3 GB. */
static void expect_header(const Map *m)
{
    enum { GGUF_HEADER = 16 << 20 }; /* R1's, with its vocabulary, has 6 MB */
    uint64_t n = 0;
    for (int i = 7; m->size >= 8 && i >= 0; i--) n = n << 8 | m->data[i];
    if (gguf_is(m->data, m->size)) n = GGUF_HEADER;
    map_expect(m->data, n < m->size ? (size_t)n : m->size, MAP_USE_SOON);
}

void weights_expect_all(const WeightFile *w)
{
    for (int i = 0; i < w->n_map; i++) map_expect(w->map[i].data, w->map[i].size, MAP_USE_WHOLE);
}

/* Maps one more file and reads its header.  split NULL: it must be safetensors. */
static int add_file(WeightFile *w, const char *path, GgufSplit *split, aha_error *e)
{
    int rc = file_map(&w->map[w->n_map], path, e);
    if (rc) return rc;
    int        shard = w->n_map++;
    const Map *m = &w->map[shard];
    map_expect(m->data, m->size, MAP_USE_SPARSELY);
    expect_header(m);
    if (split && (shard > 0 || gguf_is(m->data, m->size))) return gguf_read(w, shard, path, m->data, m->size, split, e);
    return safetensors_read(w, shard, path, m->data, m->size, e);
}

/* The other files of a split one lie beside the first and are named by number: "NAME-00002-of-00005.gguf". */
static int add_splits(WeightFile *w, const char *path, const GgufSplit *first, aha_error *e)
{
    char   name[PATH_MAX_BYTES], end[40];
    size_t n = strlen(path), tail = (size_t)snprintf(end, sizeof end, "-00001-of-%05d.gguf", (int)first->count);
    if (first->no != 0 || n < tail || n >= sizeof name || strcmp(path + n - tail, end) != 0)
        return error_set(e, AHA_ERR_FORMAT, "%s: is file %lld of %lld, expected the first, whose name ends in %s", path, (long long)first->no + 1,
                         (long long)first->count, end);
    Map *map = mem_realloc(w->map, (size_t)first->count * sizeof *map);
    if (!map) return format_nomem(path, e);
    w->map = map;
    memcpy(name, path, n - tail);
    for (int i = 1; i < first->count; i++) {
        GgufSplit s;
        snprintf(name + n - tail, sizeof name - (n - tail), "-%05d-of-%05d.gguf", i + 1, (int)first->count);
        int rc = add_file(w, name, &s, e);
        if (rc) return rc;
        if (s.no != i || s.count != first->count)
            return error_set(e, AHA_ERR_FORMAT, "%s: split.no, split.count: got %lld, %lld, expected %d, %lld", name, (long long)s.no,
                             (long long)s.count, i, (long long)first->count);
    }
    if (first->tensors >= 0 && first->tensors != w->n)
        return error_set(e, AHA_ERR_FORMAT, "%s: split.tensors.count: got %lld, expected %d, the tensors in all files", path, (long long)first->tensors, w->n);
    return 0;
}

static int open_one(WeightFile **out, const char *path, aha_error *e)
{
    WeightFile *w = weights_new(1, path, e);
    GgufSplit   split = {0, 1, -1};
    if (!w) return AHA_ERR_NOMEM;
    int rc = add_file(w, path, &split, e);
    if (!rc && split.count > 1) rc = add_splits(w, path, &split, e);
    return weights_finish(w, rc, out);
}

int weights_open_memory(WeightFile **out, const char *what, const void *data, size_t n, aha_error *e)
{
    *out = NULL;
    WeightFile *w = weights_new(0, what, e);
    GgufSplit   split = {0, 1, -1};
    if (!w) return AHA_ERR_NOMEM;
    int rc = gguf_is(data, n) ? gguf_read(w, 0, what, data, n, &split, e) : safetensors_read(w, 0, what, data, n, e);
    if (!rc && split.count > 1) rc = error_set(e, AHA_ERR_FORMAT, "%s: split.count: got %lld, expected 1 in memory", what, (long long)split.count);
    return weights_finish(w, rc, out);
}

/* The index and the shards must tell the same story, in both directions. */
static int index_check(const Index *ix, const WeightFile *w, const char *path, aha_error *e)
{
    char shown[128];
    for (int i = 0; i < w->n; i++) {
        const char *name = names_at(&w->names, i);
        int         k = names_find(&ix->names, name, names_len(&w->names, i)), in = w->t[i].shard;
        if (k >= 0 && ix->shard[k] == in) continue;
        error_quote(shown, sizeof shown, name, names_len(&w->names, i));
        return error_set(e, AHA_ERR_FORMAT, "%s: tensor \"%s\": is in %s, expected %s", path, shown, names_at(&ix->shards, in),
                         k < 0 ? "it in weight_map too" : names_at(&ix->shards, ix->shard[k]));
    }
    for (int i = 0; i < ix->names.count; i++) {
        const char *name = names_at(&ix->names, i);
        size_t      n = names_len(&ix->names, i);
        if (names_find(&w->names, name, n) >= 0) continue;
        return error_set(e, AHA_ERR_FORMAT, "%s: tensor \"%s\": absent, expected it in %s", path, error_quote(shown, sizeof shown, name, n),
                         names_at(&ix->shards, ix->shard[i]));
    }
    return 0;
}

static int open_shards(WeightFile **out, const char *folder, const char *index, aha_error *e)
{
    Index       ix = {0};
    WeightFile *w = NULL;
    int         rc = index_read(&ix, index, e);
    if (!rc && !(w = weights_new(ix.shards.count, index, e))) rc = AHA_ERR_NOMEM;
    for (int i = 0; !rc && i < ix.shards.count; i++) {
        char path[PATH_MAX_BYTES];
        rc = path_join(path, sizeof path, folder, names_at(&ix.shards, i), e);
        if (!rc) rc = add_file(w, path, NULL, e);
    }
    if (!rc) rc = index_check(&ix, w, index, e);
    if (w) rc = weights_finish(w, rc, out);
    index_free(&ix);
    return rc;
}

int weights_open(WeightFile **out, const char *path, aha_error *e)
{
    char one[PATH_MAX_BYTES], index[PATH_MAX_BYTES];
    *out = NULL;
    if (!dir_exists(path)) return open_one(out, path, e);
    int rc = path_join(one, sizeof one, path, "model.safetensors", e);
    if (!rc) rc = path_join(index, sizeof index, path, "model.safetensors.index.json", e);
    if (rc) return rc;
    if (file_exists(one)) return open_one(out, one, e);
    if (file_exists(index)) return open_shards(out, path, index, e);
    return error_set(e, AHA_ERR_IO, "%s: neither model.safetensors nor model.safetensors.index.json is there", path);
}
