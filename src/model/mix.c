/* Which matrix of a GGUF file gets which type: read by what writes files and by what counts them before. */
#include "bind.h"

#include <strings.h>

typedef struct NamedMix {
    const char *name;
    WeightMix   mix;
} NamedMix;

/* Experts are most of the bytes and a token uses few of them; what every token uses is kept finer. */
static const NamedMix MIXTURES[] = {
    {"r1-q4", {.expert = DT_Q4_K, .expert_down = DT_Q5_K, .embed = DT_Q8_0, .head = DT_Q8_0, .other = DT_Q8_0}},
    {"r1-q2", {.expert = DT_Q2_K, .expert_down = DT_Q3_K, .embed = DT_Q4_K, .head = DT_Q6_K, .other = DT_Q6_K}},
};

WeightMix weight_mix_of(Dtype t) { return (WeightMix){t, t, t, t, t}; }

bool weight_mix_find(WeightMix *out, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(MIXTURES); i++) {
        *out = MIXTURES[i].mix;
        if (!strcasecmp(MIXTURES[i].name, name)) return true;
    }
    for (int t = 0; t < DT_COUNT; t++) {
        *out = weight_mix_of((Dtype)t);
        if (dtype_info((Dtype)t)->weight && !strcasecmp(dtype_info((Dtype)t)->name, name)) return true;
    }
    return false;
}

Dtype export_type(Dtype want, int64_t cols)
{
    if (cols % dtype_info(want)->block == 0) return want;
    return cols % dtype_info(DT_Q8_0)->block == 0 ? DT_Q8_0 : DT_BF16;
}

bool bind_is_router(const BindItem *b) { return strstr(b->name, ".mlp.gate.") != NULL; }

static Dtype wanted(const WeightMix *mix, const char *name)
{
    if (strstr(name, ".mlp.experts.")) return strstr(name, "down_proj") ? mix->expert_down : mix->expert;
    if (!strncmp(name, "lm_head", 7)) return mix->head;
    return !strncmp(name, "model.embed", 11) ? mix->embed : mix->other;
}

Dtype weight_mix_type(const WeightMix *mix, const BindItem *b)
{
    if (b->flags & BIND_VECTOR || bind_is_router(b)) return DT_F32;
    return export_type(wanted(mix, b->name), b->cols);
}
