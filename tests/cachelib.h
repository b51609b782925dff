/* What the tests of the cache and of crowds share: models of random weights whose heads any type of keys fits. */
#ifndef AHA_CACHELIB_H
#define AHA_CACHELIB_H

#include "enginelib.h"

typedef struct KvType {
    const char *name;
    Dtype       type;
} KvType;
static const KvType KV_ALL[] = {{"f32", DT_F32}, {"bf16", DT_BF16}, {"f16", DT_F16}, {"q8_0", DT_Q8_0}};
enum { N_KV = sizeof(KV_ALL) / sizeof(KV_ALL[0]) };

/* Of a golden model's architecture; grouped queries or a latent, with heads of 32 and more columns and 512 positions. */
static inline Model *wide_model(bool latent, Dtype kv_type)
{
    Model       *golden = golden_model(latent ? "deepseek_v3-mtp" : "qwen3", DT_F32, false), *m;
    Config       c = golden->cfg;
    ModelOptions o = {.kv_type = kv_type};
    aha_error    e = {0};
    model_free(golden);
    if (latent) {
        c.kv_lora = 64;
        c.rope_dim = 32;
    } else {
        c.head_dim = 32;
    }
    c.max_pos = 512;
    ASSERT_OK(model_init_random(&m, &c, &o, 7, &e), e);
    return m;
}

#endif
