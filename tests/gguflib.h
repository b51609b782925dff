/* GGUF files made by hand, for tests: sound ones and, by way of raw pieces, any other. */
#ifndef AHA_GGUFLIB_H
#define AHA_GGUFLIB_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/format.h"

typedef struct Gguf {
    Buf      kv, info, data;
    uint64_t n_kv, n_tensor, align;
    uint32_t version;
} Gguf;

static inline void gguf_start(Gguf *g)
{
    *g = (Gguf){.align = 32, .version = 3};
}
static inline void put_u32(Buf *b, uint32_t v) { buf_add(b, &v, 4); }
static inline void put_u64(Buf *b, uint64_t v) { buf_add(b, &v, 8); }
static inline void put_text(Buf *b, const char *s)
{
    put_u64(b, strlen(s));
    buf_str(b, s);
}
/* a key and its type; the value follows by hand */
static inline void put_key_type(Gguf *g, const char *key, uint32_t type)
{
    put_text(&g->kv, key);
    put_u32(&g->kv, type);
    g->n_kv++;
}
static inline void put_kv_u32(Gguf *g, const char *key, uint32_t v)
{
    put_key_type(g, key, GGUF_U32);
    put_u32(&g->kv, v);
}
static inline void put_kv_f32(Gguf *g, const char *key, float v)
{
    put_key_type(g, key, GGUF_F32);
    buf_add(&g->kv, &v, 4);
}
static inline void put_kv_bool(Gguf *g, const char *key, bool v)
{
    put_key_type(g, key, GGUF_BOOL);
    buf_add(&g->kv, v ? "\1" : "\0", 1);
}
static inline void put_kv_str(Gguf *g, const char *key, const char *v)
{
    put_key_type(g, key, GGUF_STRING);
    put_text(&g->kv, v);
}

/* the metadata that every architecture needs: one layer, feed-forward as wide as the model, 64 positions */
static inline void put_shape(Gguf *g, const char *arch, uint32_t width, uint32_t heads)
{
    const struct {
        const char *key;
        uint32_t    v;
    } INTS[] = {{"block_count", 1}, {"embedding_length", width}, {"attention.head_count", heads}, {"feed_forward_length", width}, {"context_length", 64}};
    char key[96];
    put_kv_str(g, "general.architecture", arch);
    for (size_t i = 0; i < ARRAY_LEN(INTS); i++) {
        snprintf(key, sizeof key, "%s.%s", arch, INTS[i].key);
        put_kv_u32(g, key, INTS[i].v);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    put_kv_f32(g, key, 1e-6f);
}

/* ggml's number of a type */
static inline uint32_t ggml_type(Dtype t)
{
    static const uint32_t ID[DT_COUNT] = {
        [DT_F32] = 0,      [DT_F16] = 1,      [DT_Q4_0] = 2,     [DT_Q4_1] = 3,    [DT_Q5_0] = 6,    [DT_Q5_1] = 7,   [DT_Q8_0] = 8,
        [DT_Q2_K] = 10,    [DT_Q3_K] = 11,    [DT_Q4_K] = 12,    [DT_Q5_K] = 13,   [DT_Q6_K] = 14,   [DT_IQ2_XXS] = 16, [DT_IQ2_XS] = 17,
        [DT_IQ3_XXS] = 18, [DT_IQ1_S] = 19,   [DT_IQ4_NL] = 20,  [DT_IQ3_S] = 21,  [DT_IQ2_S] = 22,  [DT_IQ4_XS] = 23, [DT_I8] = 24,
        [DT_I32] = 26,     [DT_I64] = 27,     [DT_F64] = 28,     [DT_IQ1_M] = 29,  [DT_BF16] = 30,   [DT_TQ1_0] = 34, [DT_MXFP4] = 39,
    };
    return ID[t];
}

/* an info with anything in it; dimensions innermost first, as in the file */
static inline void put_info(Gguf *g, const char *name, int n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    put_text(&g->info, name);
    put_u32(&g->info, (uint32_t)n_dims);
    for (int i = 0; i < n_dims; i++) put_u64(&g->info, ne[i]);
    put_u32(&g->info, type);
    put_u64(&g->info, offset);
    g->n_tensor++;
}
static inline void put_pad(Buf *b, uint64_t align)
{
    while (b->n % align) buf_add(b, "", 1);
}
/* a tensor [d0, d1, d2], outermost first; d0 or d1 may be 0: fewer dimensions */
static inline void put_tensor(Gguf *g, const char *name, Dtype t, uint64_t d0, uint64_t d1, uint64_t d2, const void *data, size_t bytes)
{
    uint64_t ne[3] = {d2, d1, d0};
    put_pad(&g->data, g->align);
    put_info(g, name, d0 ? 3 : d1 ? 2 : 1, ne, ggml_type(t), g->data.n);
    buf_add(&g->data, data, bytes);
}

/* The file's bytes in exactly that much memory, so that a sanitizer sees a read behind the end; *head: where the data begins. */
static inline uint8_t *gguf_finish(Gguf *g, size_t *n, size_t *head)
{
    Buf b = {0};
    buf_str(&b, "GGUF");
    put_u32(&b, g->version);
    put_u64(&b, g->n_tensor);
    put_u64(&b, g->n_kv);
    if (g->kv.n) buf_add(&b, g->kv.data, g->kv.n);
    if (g->info.n) buf_add(&b, g->info.data, g->info.n);
    if (g->data.n) put_pad(&b, g->align);
    if (head) *head = b.n;
    if (g->data.n) buf_add(&b, g->data.data, g->data.n);
    uint8_t *out = malloc(b.n);
    memcpy(out, b.data, b.n);
    *n = b.n;
    buf_free(&b);
    buf_free(&g->kv);
    buf_free(&g->info);
    buf_free(&g->data);
    return out;
}

#endif
