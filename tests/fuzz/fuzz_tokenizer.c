/* Bytes as a tokenizer.json; where they load, texts go to ids and back, whole or as a chat. */
#include <stdlib.h>
#include <string.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const Tokenizer *t, const char *s, size_t n, unsigned flags)
{
    Ids   ids = {0};
    Buf   back = {0}, out = {0};
    Reply r;
    if (tokenizer_encode(t, s, n, flags, &ids, NULL)) abort();
    if (tokenizer_decode(t, ids.id, ids.n, &back)) abort();
    reply_init(&r, t, flags != 0);
    for (size_t i = 0; i < ids.n; i++) {
        ReplyPart part;
        if (ids.id[i] < 0 || ids.id[i] >= tokenizer_vocab(t)) abort();
        buf_reset(&out);
        reply_push(&r, ids.id[i], &part, &out);
        if (out.n && !utf8_valid(out.data, out.n)) abort();
    }
    reply_free(&r);
    ids_free(&ids);
    buf_free(&back);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const TEXT[] = {"Hello, world! 123 don't", "\xe4\xb8\x80 e\xcc\x81\xcc\xa3 \xff\xf0\x9f\x98\x80", "  \n\n <think>x</think><｜User｜>", "aaaaaaaaaaaaaaaaaaaaaaaa"};
    Tokenizer *t;
    aha_error  e = {0};
    int        rc = tokenizer_parse(&t, (const char *)data, size, "fuzz", &e);
    if (rc) {
        if (t || rc != e.code || !e.text[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < sizeof TEXT / sizeof TEXT[0]; i++)
        for (unsigned flags = 0; flags < 2; flags++) use(t, TEXT[i], strlen(TEXT[i]), flags);
    use(t, (const char *)data, size < 4096 ? size : 4096, TOK_SPECIAL);
    ChatMessage m[] = {{.role = ROLE_SYSTEM, .text = "s", .n = 1},
                       {.role = ROLE_USER, .text = TEXT[1], .n = strlen(TEXT[1])},
                       {.role = ROLE_ASSISTANT, .text = TEXT[2], .n = strlen(TEXT[2])}};
    for (int tpl = 0; tpl < CHAT_COUNT; tpl++) {
        Ids  ids = {0};
        bool open;
        chat_render(t, (ChatTemplate)tpl, m, 3, true, &ids, &open, NULL);
        ids_free(&ids);
    }
    tokenizer_free(t);
    return 0;
}
