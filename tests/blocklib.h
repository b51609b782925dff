/* Small models whose matrices are of one block or float type, as the bytes of GGUF files. */
#ifndef AHA_BLOCKLIB_H
#define AHA_BLOCKLIB_H

#include "gguflib.h"
#include "model/model.h"
#include "quantlib.h"
#include "testlib.h"

enum { WIDTH = 256, VOCAB = 64, HEADS = 2, EXPERTS = 4 };

static inline void put_gain(Gguf *g, const char *name, int n, float gain)
{
    float v[512];
    for (int i = 0; i < n; i++) v[i] = gain * (1 + 0.01f * (float)(i % 7));
    put_tensor(g, name, DT_F32, 0, 0, (uint64_t)n, v, (size_t)n * 4);
}

static inline void put_norm(Gguf *g, const char *name, int n) { put_gain(g, name, n, 1); }

/* k of QUANT_SCALES; -1 and below: of these */
static const Dtype BLOCK_FLOATS[] = {DT_F32, DT_F16, DT_BF16};
static inline Dtype block_type(int k) { return k < 0 ? BLOCK_FLOATS[-1 - k] : QUANT_SCALES[k].type; }

/* [d0, d1, d2] of that type */
static inline void put_random(Gguf *g, Rng *r, int k, const char *name, int d0, int d1, int d2)
{
    Dtype    t = block_type(k);
    size_t   rows = (size_t)(d0 ? d0 : 1) * (size_t)d1, n = rows * (size_t)(d2 / dtype_info(t)->block), bytes = n * (size_t)dtype_info(t)->block_bytes;
    uint8_t *data = mem_alloc(bytes);
    if (k >= 0) quant_random(r, k, data, n);
    for (size_t i = 0; k < 0 && i < n; i++) {
        float f = rng_normal(r) / 16;
        dtype_from_f32(t, &f, data + (size_t)dtype_info(t)->block_bytes * i, 1);
    }
    put_tensor(g, name, t, (uint64_t)d0, (uint64_t)d1, (uint64_t)d2, data, bytes);
    mem_free(data);
}

static inline uint8_t *block_model_dense(int k, size_t *n)
{
    Gguf g;
    Rng  r = {7, (uint64_t)(k + 1), 0};
    gguf_start(&g);
    put_shape(&g, "llama", WIDTH, HEADS);
    put_kv_u32(&g, "llama.attention.head_count_kv", 1);
    put_random(&g, &r, k, "token_embd.weight", 0, VOCAB, WIDTH);
    put_gain(&g, "output_norm.weight", WIDTH, 0.02f); /* some types' random weights are large: certainty would hide differences */
    put_norm(&g, "blk.0.attn_norm.weight", WIDTH);
    put_norm(&g, "blk.0.ffn_norm.weight", WIDTH);
    put_random(&g, &r, k, "blk.0.attn_q.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_k.weight", 0, WIDTH / HEADS, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_v.weight", 0, WIDTH / HEADS, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_output.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_gate.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_up.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_down.weight", 0, WIDTH, WIDTH);
    return gguf_finish(&g, n, NULL); /* no output.weight: tied */
}

/* latents and value heads of 256, rope 32; k_b and v_b, or kv_b */
static inline uint8_t *block_model_moe(int k, bool whole, size_t *n)
{
    static const struct {
        const char *key;
        uint32_t    v;
    } INTS[] = {{"attention.q_lora_rank", 256}, {"attention.kv_lora_rank", 256}, {"rope.dimension_count", 32}, {"expert_count", EXPERTS},
                {"expert_used_count", 2}, {"expert_shared_count", 1}, {"expert_feed_forward_length", WIDTH}, {"leading_dense_block_count", 0}};
    Gguf g;
    Rng  r = {8, (uint64_t)(k + 1), 0};
    char key[96];
    gguf_start(&g);
    put_shape(&g, "deepseek2", WIDTH, HEADS);
    for (size_t i = 0; i < ARRAY_LEN(INTS); i++) {
        snprintf(key, sizeof key, "deepseek2.%s", INTS[i].key);
        put_kv_u32(&g, key, INTS[i].v);
    }
    put_kv_u32(&g, "deepseek2.attention.key_length", 256 + 32); /* absorbed and per head the same here */
    put_kv_u32(&g, "deepseek2.attention.value_length", 256);
    if (!whole) put_kv_u32(&g, "deepseek2.attention.key_length_mla", 256 + 32);
    if (!whole) put_kv_u32(&g, "deepseek2.attention.value_length_mla", 256);
    put_random(&g, &r, k, "token_embd.weight", 0, VOCAB, WIDTH);
    put_random(&g, &r, k, "output.weight", 0, VOCAB, WIDTH);
    put_gain(&g, "output_norm.weight", WIDTH, 0.02f); /* some types' random weights are large: certainty would hide differences */
    put_norm(&g, "blk.0.attn_norm.weight", WIDTH);
    put_norm(&g, "blk.0.ffn_norm.weight", WIDTH);
    put_norm(&g, "blk.0.attn_q_a_norm.weight", 256);
    put_norm(&g, "blk.0.attn_kv_a_norm.weight", 256);
    put_norm(&g, "blk.0.exp_probs_b.bias", EXPERTS);
    put_random(&g, &r, k, "blk.0.attn_q_a.weight", 0, 256, WIDTH);
    put_random(&g, &r, k, "blk.0.attn_q_b.weight", 0, HEADS * (256 + 32), 256);
    put_random(&g, &r, k, "blk.0.attn_kv_a_mqa.weight", 0, 256 + 32, WIDTH);
    if (whole) put_random(&g, &r, k, "blk.0.attn_kv_b.weight", 0, HEADS * (256 + 256), 256);
    if (!whole) put_random(&g, &r, k, "blk.0.attn_k_b.weight", HEADS, 256, 256);
    if (!whole) put_random(&g, &r, k, "blk.0.attn_v_b.weight", HEADS, 256, 256);
    put_random(&g, &r, k, "blk.0.attn_output.weight", 0, WIDTH, HEADS * 256);
    put_random(&g, &r, -1, "blk.0.ffn_gate_inp.weight", 0, EXPERTS, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_gate_exps.weight", EXPERTS, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_up_exps.weight", EXPERTS, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_down_exps.weight", EXPERTS, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_gate_shexp.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_up_shexp.weight", 0, WIDTH, WIDTH);
    put_random(&g, &r, k, "blk.0.ffn_down_shexp.weight", 0, WIDTH, WIDTH);
    return gguf_finish(&g, n, NULL);
}

static inline Model *block_model_open(const uint8_t *b, size_t n, bool decoded)
{
    WeightFile *w;
    Config      c;
    Model      *m;
    aha_error   e = {0};
    ASSERT_OK(weights_open_memory(&w, "made.gguf", b, n, &e), e);
    ASSERT_OK(config_from_gguf(&c, w, "made.gguf", &e), e);
    ASSERT_OK(model_bind(&m, &c, w, &(ModelOptions){.decoded = decoded}, &e), e);
    return m;
}

#endif
