/* One safetensors file: whatever opens is consistent, within the input, and found by its own name. */
#include "format/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t g_seen; /* the ends of every tensor are read */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    aha_error   e = {0};
    WeightFile *w;
    size_t      bytes = 0;
    if (weights_open_memory(&w, "fuzz", data, size, &e)) {
        if (w || !e.code || !e.text[0]) __builtin_trap();
        return 0;
    }
    for (int i = 0; i < weights_count(w); i++) {
        const TensorInfo *t = weights_at(w, i);
        const uint8_t    *p = t->data;
        size_t            n;
        int64_t           elements = 1;
        for (int d = 0; d < t->n_dims; d++) elements *= t->dim[d];
        if (!dtype_bytes(t->dtype, 1, elements, &n) || n != t->bytes || !n) __builtin_trap();
        if (p < data + 8 || (size_t)(p - data) + n > size) __builtin_trap();
        if (weights_find(w, t->name) != t) __builtin_trap();
        g_seen = (uint8_t)(p[0] ^ p[n - 1]);
        bytes += n;
    }
    if (bytes != weights_bytes(w)) __builtin_trap();
    weights_metadata(w, "format");
    weights_close(w);
    return 0;
}
