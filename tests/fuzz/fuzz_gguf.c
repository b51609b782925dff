/* One GGUF file: whatever opens is consistent, within the input and found by its own name; its metadata is walked to the
 * end, a config is made of it or refused, and every block decodes. */
#include <string.h>

#include "format/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t g_seen;
static volatile float   g_value;

static void must(bool ok)
{
    if (!ok) __builtin_trap();
}

static void walk_metadata(const WeightFile *w, const uint8_t *data, size_t size)
{
    for (int i = 0; i < gguf_kv_count(w); i++) {
        const GgufValue *v = gguf_kv_at(w, i);
        const char      *s;
        size_t           n;
        int64_t          seen = 0;
        must(gguf_kv_find(w, gguf_kv_key(w, i)) == v && v->n >= 0 && v->type != GGUF_ARRAY);
        must(v->data >= data && (size_t)(v->data - data) + v->bytes <= size);
        if (v->type == GGUF_STRING)
            for (GgufStrings it = gguf_strings(v); gguf_next(&it, &s, &n); seen++) {
                must((const uint8_t *)s >= v->data && (size_t)((const uint8_t *)s - v->data) + n <= v->bytes);
                if (n) g_seen = (uint8_t)s[n - 1];
            }
        must(v->type != GGUF_STRING || seen == v->n);
        if (v->n && (v->type == GGUF_F32 || v->type == GGUF_F64)) g_value = (float)gguf_num(v, v->n - 1);
        else if (v->n && v->type != GGUF_STRING) g_seen = (uint8_t)gguf_int(v, v->n - 1);
    }
}

static void walk_tensors(const WeightFile *w, const uint8_t *data, size_t size)
{
    size_t bytes = 0;
    for (int i = 0; i < weights_count(w); i++) {
        const TensorInfo *t = weights_at(w, i);
        const DtypeInfo  *d = dtype_info(t->dtype);
        const uint8_t    *p = t->data;
        float             block[256];
        must(t->n_dims >= 1 && t->n_dims <= TENSOR_DIMS_MAX && t->bytes > 0 && t->dim[t->n_dims - 1] % d->block == 0);
        must(p >= data && (size_t)(p - data) + t->bytes <= size && t->bytes % (size_t)d->block_bytes == 0);
        must(weights_find(w, t->name) == t);
        dtype_to_f32(t->dtype, p + t->bytes - (size_t)d->block_bytes, block, (size_t)d->block);
        g_value = block[d->block - 1];
        bytes += t->bytes;
    }
    must(bytes == weights_bytes(w));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    aha_error   e = {0};
    WeightFile *w;
    Config      c;
    if (weights_open_memory(&w, "fuzz", data, size, &e)) {
        must(!w && e.code && e.text[0]);
        return 0;
    }
    if (weights_is_gguf(w)) {
        walk_metadata(w, data, size);
        walk_tensors(w, data, size);
        if (config_from_gguf(&c, w, "fuzz", &e)) must(e.code && e.text[0]);
        else must(c.n_layer >= 1 && c.d_model >= 1 && c.vocab >= 1 && (c.arch == ARCH_DEEPSEEK_V3 || c.head_dim % 2 == 0));
    }
    weights_close(w);
    return 0;
}
