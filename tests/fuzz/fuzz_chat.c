/* Bytes as a chat template, as a list of tools, and as the texts of a conversation. */
#include <stdlib.h>
#include <string.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void template(const char *s, size_t n)
{
    bool         known = true;
    ChatTemplate t = chat_template_detect(s, n, &known);
    if ((unsigned)t >= CHAT_COUNT || !chat_template_name(t)) abort();
    if (!known && t != CHAT_R1) abort();
}

static bool tools(const char *s, size_t n)
{
    Buf       out = {0};
    aha_error e = {0};
    int       rc = chat_tools_text(s, n, &out, &e);
    if (rc && (out.n || rc != e.code || !e.text[0])) abort();
    if (!rc && !utf8_valid(out.data, out.n)) abort();
    buf_free(&out);
    return rc == 0;
}

/* Control tokens come from the form alone, whatever the texts spell. */
static void conversation(const Tokenizer *t, const char *s, size_t n, bool with_tools)
{
    const size_t      cut = n / 3;
    const ChatCall    call = {s, cut, s + cut, n - cut};
    const ChatMessage m[] = {{.role = ROLE_SYSTEM, .text = s, .n = n},          {.role = ROLE_USER, .text = s, .n = cut},
                             {.role = ROLE_ASSISTANT, .text = s, .n = n, .call = &call, .n_call = 1}, {.role = ROLE_TOOL, .text = s + cut, .n = n - cut},
                             {.role = ROLE_ASSISTANT, .text = s, .n = n, .prefix = n % 2}};
    const ChatOptions o = {.add_generation = true, .tools = with_tools ? s : NULL, .n_tools = n};
    for (int tpl = 0; tpl < CHAT_COUNT; tpl++) {
        Ids       ids = {0};
        bool      open;
        aha_error e = {0};
        int       users = 0;
        if (chat_render_with(t, (ChatTemplate)tpl, m, 5, &o, &ids, &open, &e)) abort();
        for (size_t i = 0; i < ids.n; i++) users += ids.id[i] == tokenizer_id(t, "<｜User｜>");
        if (users != 1 || ids.id[0] != tokenizer_id(t, "<｜begin▁of▁sentence｜>")) abort();
        ids_free(&ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Tokenizer *t;
    const char       *s = (const char *)data;
    char             *json = NULL;
    if (!t && (tokenizer_build_json(NULL, 0, &json, NULL) || tokenizer_parse(&t, json, strlen(json), "built", NULL))) abort();
    mem_free(json);
    template(s, size);
    conversation(t, s, size, tools(s, size));
    return 0;
}
