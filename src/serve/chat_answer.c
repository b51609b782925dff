/* /v1/chat/completions: what is sent. */
#include <string.h>

#include "inner.h"

static void head(Task *t, const char *object, Buf *out) { openai_head(t, "chatcmpl", object, out); }

static void field(Buf *out, const char *name, const Buf *text)
{
    buf_fmt(out, ",\"%s\":", name);
    buf_json(out, text->n ? text->data : "", text->n);
}

static void call_json(const Task *t, const Choice *c, int k, const aha_tool_call *call, Buf *out)
{
    buf_str(out, "{");
    if (t->ask.stream) buf_fmt(out, "\"index\":%d,", k);
    buf_fmt(out, "\"id\":\"call_%s_%d_%d\",\"type\":\"function\",\"function\":{\"name\":", t->id + 4, c->index, k);
    buf_json(out, call->name, strlen(call->name));
    buf_str(out, ",\"arguments\":");
    buf_json(out, call->arguments, strlen(call->arguments));
    buf_str(out, "}}");
}

/* ---- a stream ---- */
static void chunk_open(Task *t, const Choice *c, Buf *out)
{
    buf_str(out, "data: ");
    head(t, "chat.completion.chunk", out);
    buf_fmt(out, ",\"choices\":[{\"index\":%d,\"delta\":{", c->index);
}

/* {"content": [...]}, as DeepSeek has it with the thinking's apart; of a stream what came since. */
static void logprobs_json(Task *t, Choice *c, Buf *out)
{
    static const char *const NAME[] = {[AHA_PART_THINKING] = "reasoning_content", [AHA_PART_ANSWER] = "content"};
    buf_str(out, ",\"logprobs\":");
    if (t->ask.logprobs < 0) {
        buf_str(out, "null");
        return;
    }
    for (int p = AHA_PART_ANSWER; p >= AHA_PART_THINKING; p--) {
        buf_fmt(out, "%s\"%s\":[", p == AHA_PART_ANSWER ? "{" : ",", NAME[p]);
        if (c->logp[p].n) buf_add(out, c->logp[p].data, c->logp[p].n);
        buf_str(out, "]");
        buf_reset(&c->logp[p]);
    }
    buf_str(out, ",\"refusal\":null}");
}

static void chunk_close(Task *t, Choice *c, bool last, Buf *out)
{
    buf_str(out, "}");
    logprobs_json(t, c, out);
    if (last) choice_reason_json(t, c, out);
    else buf_str(out, ",\"finish_reason\":null");
    buf_str(out, "}]");
    if (t->ask.include_usage) buf_str(out, ",\"usage\":null");
    buf_str(out, "}\n\n");
}

static void begin(Task *t, Buf *out)
{
    for (int i = 0; i < t->n_choice; i++) {
        chunk_open(t, &t->choice[i], out);
        buf_str(out, "\"role\":\"assistant\",\"content\":\"\"");
        chunk_close(t, &t->choice[i], false, out);
    }
}

static void thinking_fields(const Buf *think, Buf *out)
{
    field(out, "reasoning_content", think);
    field(out, "reasoning", think);
}

static void part(Task *t, Choice *c, Buf *out)
{
    const aha_tool_call *call;
    int                  n = 0;
    aha_reply_calls(c->reply, &call, &n, NULL);
    if (c->think.n) {
        chunk_open(t, c, out);
        buf_str(out, "\"content\":null");
        thinking_fields(&c->think, out);
        chunk_close(t, c, false, out);
    }
    if (c->answer.n || c->logp[0].n || c->logp[1].n) {
        chunk_open(t, c, out);
        buf_str(out, "\"content\":");
        buf_json(out, c->answer.n ? c->answer.data : "", c->answer.n);
        chunk_close(t, c, false, out);
    }
    for (; c->n_calls < n && (call[c->n_calls].complete || c->ended); c->n_calls++) {
        chunk_open(t, c, out);
        buf_str(out, "\"tool_calls\":[");
        call_json(t, c, c->n_calls, &call[c->n_calls], out);
        buf_str(out, "]");
        chunk_close(t, c, false, out);
    }
    buf_reset(&c->think);
    buf_reset(&c->answer);
}

static void end(Task *t, Choice *c, Buf *out)
{
    chunk_open(t, c, out);
    chunk_close(t, c, true, out);
}

static void finish(Task *t, Buf *out) { openai_finish(t, "chatcmpl", "chat.completion.chunk", out); }

/* ---- at once ---- */
static void message(Task *t, Choice *c, Buf *out)
{
    const aha_tool_call *call;
    int                  n = 0;
    aha_reply_calls(c->reply, &call, &n, NULL);
    buf_fmt(out, "{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", c->index);
    if (n && !c->answer.n) buf_str(out, "null");
    else buf_json(out, c->answer.n ? c->answer.data : "", c->answer.n);
    buf_str(out, ",\"refusal\":null");
    if (c->think.n) thinking_fields(&c->think, out);
    for (int k = 0; k < n; k++) {
        buf_str(out, k ? "," : ",\"tool_calls\":[");
        call_json(t, c, k, &call[k], out);
    }
    if (n) buf_str(out, "]");
    buf_str(out, "}");
    logprobs_json(t, c, out);
    choice_reason_json(t, c, out);
    buf_str(out, "}");
}

static void whole(Task *t, Buf *out)
{
    head(t, "chat.completion", out);
    buf_str(out, ",\"choices\":[");
    for (int i = 0; i < t->n_choice; i++) {
        if (i) buf_str(out, ",");
        message(t, &t->choice[i], out);
    }
    buf_str(out, "],\"usage\":");
    usage_json(t, out);
    buf_str(out, "}");
}

const Dialect dialect_chat = {begin, part, end, finish, openai_broken, whole};
