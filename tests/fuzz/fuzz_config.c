/* config.json: whatever is accepted keeps the promises of Config, and is the same after writing and reading. */
#include <string.h>

#include "format/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) __builtin_trap();
}

static void promises(const Config *c)
{
    must(c->n_layer >= 1 && c->d_model >= 1 && c->n_head >= 1 && c->d_ff >= 1 && c->vocab >= 1 && c->max_pos >= 1);
    must(c->n_kv_head >= 1 && c->n_head % c->n_kv_head == 0 && c->rms_eps > 0);
    must(c->rope.theta > 1 && c->rope.factor >= 1 && c->rope.cos_sin_factor > 0);
    must(c->rope.kind == ROPE_NONE || c->rope.kind == ROPE_LINEAR || c->rope.original_len >= 1);
    must(c->bos >= -1 && c->bos < c->vocab && c->n_eos >= 0 && c->n_eos <= 8);
    for (int i = 0; i < c->n_eos; i++) must(c->eos[i] >= 0 && c->eos[i] < c->vocab);
    if (c->arch == ARCH_DEEPSEEK_V3) must(c->kv_lora >= 1 && c->nope >= 1 && c->rope_dim >= 2 && c->rope_dim % 2 == 0 && c->v_dim >= 1);
    else must(c->head_dim >= 2 && c->head_dim % 2 == 0 && c->n_expert == 0);
    must(c->n_dense_first >= 0 && c->n_dense_first <= c->n_layer);
    if (!c->n_expert) return;
    must(c->n_group >= 1 && c->n_expert % c->n_group == 0 && c->topk_group >= 1 && c->topk_group <= c->n_group);
    must(c->n_expert_used >= 1 && c->n_expert_used <= c->n_expert / c->n_group * c->topk_group && c->d_expert >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    aha_error e = {0};
    Config    c, again;
    char     *text;
    if (config_parse(&c, (const char *)data, size, "fuzz", &e)) {
        must(e.code && e.text[0]);
        return 0;
    }
    promises(&c);
    must(config_write(&c, DT_BF16, &text, &e) == 0);
    must(config_parse(&again, text, strlen(text), "written", &e) == 0);
    must(memcmp(&c, &again, sizeof c) == 0);
    mem_free(text);
    return 0;
}
