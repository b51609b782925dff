/* One GGUF file for its vocabulary: whatever loads gives texts back from their ids, and ids of its own only. */
#include <stdlib.h>
#include <string.h>

#include "infer/infer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const Tokenizer *t, const char *s, size_t n, unsigned flags)
{
    Ids ids = {0};
    Buf back = {0};
    if (tokenizer_encode(t, s, n, flags, &ids, NULL)) abort();
    for (size_t i = 0; i < ids.n; i++)
        if (ids.id[i] < 0 || ids.id[i] >= tokenizer_vocab(t)) abort();
    if (tokenizer_decode(t, ids.id, ids.n, &back)) abort();
    if (utf8_valid(s, n) && !utf8_valid(back.data, back.n)) abort();
    ids_free(&ids);
    buf_free(&back);
}

static void words(const Words *w, const Config *c)
{
    static const char TEXT[] = "Hello, 123 don't  \n\n \xe4\xb8\x80 e\xcc\x81\xcc\xa3 <think>aaaaaaaa</think><｜User｜>!";
    if ((unsigned)w->form >= CHAT_COUNT) abort();
    for (int i = 0; i < w->n_stop; i++)
        if (w->stop[i] < 0 || w->stop[i] >= c->vocab) abort();
    if (!w->tok) return;
    for (unsigned flags = 0; flags < 2; flags++) use(w->tok, TEXT, sizeof TEXT - 1, flags);
    for (int tpl = 0; tpl < CHAT_COUNT; tpl++) {
        ChatMessage m = {.role = ROLE_USER, .text = TEXT, .n = sizeof TEXT - 1};
        Ids         ids = {0};
        bool        open;
        chat_render(w->tok, (ChatTemplate)tpl, &m, 1, true, &ids, &open, NULL);
        ids_free(&ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const Config c = {.arch = ARCH_DEEPSEEK_V3, .vocab = 300, .eos = {1}, .n_eos = 1};
    aha_error           e = {0};
    WeightFile         *file;
    Words               w;
    if (weights_open_memory(&file, "fuzz", data, size, &e)) return 0; /* fuzz_gguf.c's */
    if (!weights_is_gguf(file) || gguf_kv_count(file) == 0) {
        weights_close(file);
        return 0;
    }
    int rc = words_from_gguf(&w, file, "fuzz", &c, &e);
    if (rc && (w.tok || rc != e.code || !e.text[0])) abort();
    if (!rc) words(&w, &c);
    words_free(&w);
    weights_close(file);
    return 0;
}
