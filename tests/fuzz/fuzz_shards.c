/* Several files that should be one set of tensors: a split GGUF file, or an index with its shards.  Three files in a folder;
 * the input's first byte says which kind, four bytes how long the first two are. */
#include <stdlib.h>
#include <string.h>

#include "format/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES = 3, HEAD = 5 };

static char g_dir[] = "/tmp/aha-fuzz-XXXXXX";

static void remove_dir(void)
{
    dir_remove_all(g_dir, NULL);
}

static void put(const char *name, const uint8_t *data, size_t n)
{
    char path[128];
    File f;
    if (path_join(path, sizeof path, g_dir, name, NULL) || file_remove(path, NULL)) abort(); /* writing over a file would wait for the disk */
    if (file_create(&f, path, NULL) || file_write(&f, data, n, NULL)) abort();
    file_close(&f);
}

static volatile uint8_t g_seen;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const NAME[2][FILES] = {{"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"},
                                               {"model.safetensors.index.json", "a.safetensors", "b.safetensors"}};
    static bool made;
    char        first[128];
    aha_error   e = {0};
    WeightFile *w;
    size_t      at = HEAD, bytes = 0;
    if (size < HEAD) return 0;
    if (!made && (!mkdtemp(g_dir) || atexit(remove_dir))) abort();
    made = true;
    int kind = data[0] & 1;
    for (int i = 0; i < FILES; i++) {
        size_t n = i < 2 ? (size_t)data[1 + 2 * i] | (size_t)data[2 + 2 * i] << 8 : size;
        if (n > size - at) n = size - at;
        put(NAME[kind][i], data + at, n);
        at += n;
    }
    if (path_join(first, sizeof first, g_dir, NAME[0][0], NULL)) abort();
    int rc = weights_open(&w, kind ? g_dir : first, &e);
    if (rc) {
        if (w || rc != e.code || !e.text[0]) abort();
        return 0;
    }
    for (int i = 0; i < weights_count(w); i++) {
        const TensorInfo *t = weights_at(w, i);
        if (weights_find(w, t->name) != t || t->shard < 0 || t->shard >= FILES || !t->bytes) abort();
        g_seen = (uint8_t)(((const uint8_t *)t->data)[0] ^ ((const uint8_t *)t->data)[t->bytes - 1]);
        bytes += t->bytes;
    }
    if (bytes != weights_bytes(w)) abort();
    weights_close(w);
    return 0;
}
