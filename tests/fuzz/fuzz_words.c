/* What stands beside a tokenizer: generation_config.json, tokenizer_config.json and chat_template.jinja, in this order, the
 * first byte of the input between them.  Of the first byte's lowest bit: whether there is a template of its own. */
#include <stdlib.h>
#include <string.h>

#include "infer/infer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const Config c = {.arch = ARCH_QWEN2, .vocab = 1000, .eos = {7, 8}, .n_eos = 2};
    const char         *part[3] = {NULL};
    size_t              n[3] = {0};
    aha_error           e = {0};
    Words               w;
    if (!size) return 0;
    const uint8_t *at = data + 1, *end = data + size;
    for (int i = 0; i < 3 && at <= end; i++) {
        const uint8_t *cut = i < 2 && at < end ? memchr(at, data[0], (size_t)(end - at)) : NULL;
        part[i] = (const char *)at;
        n[i] = (size_t)((cut ? cut : end) - at);
        at = cut ? cut + 1 : end + 1;
    }
    WordFiles f = {.generation_config = part[0], .n_generation_config = n[0], .tokenizer_config = part[1], .n_tokenizer_config = n[1]};
    if (data[0] & 1) f.chat_template = part[2], f.n_chat_template = n[2];
    int rc = words_parse(&w, &f, &c, &e);
    if (rc && (rc != e.code || !e.text[0] || w.n_stop)) abort();
    if (!rc && ((unsigned)w.form >= CHAT_COUNT || w.n_stop < 2 || w.n_stop > MODEL_STOP_MAX)) abort();
    for (int i = 0; i < w.n_stop; i++) {
        if (w.stop[i] < 0 || w.stop[i] >= c.vocab) abort();
        for (int k = 0; k < i; k++)
            if (w.stop[k] == w.stop[i]) abort();
    }
    words_free(&w);
    return 0;
}
