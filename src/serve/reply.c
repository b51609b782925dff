/* Tokens of a sequence to the text of an answer: thinking, answer, calls, log-probabilities. */
#include <string.h>

#include "inner.h"

int choice_begin(Choice *c, Refusal *r)
{
    aha_error e = {0};
    return aha_reply_new(&c->reply, c->task->s->g, c->prompt->think_open, &e) ? refuse_error(r, &e, NULL) : 0;
}

static void take_text(Choice *c, int rc, aha_part part, const char *text, size_t n)
{
    if (rc) c->answer.failed = true;
    else if (n) buf_add(part == AHA_PART_THINKING ? &c->think : &c->answer, text, n);
}

void choice_take(Choice *c, const Token *token, int n)
{
    for (int i = 0; i < n; i++) {
        aha_part    part;
        const char *text;
        size_t      n_bytes;
        int         rc = aha_reply_push(c->reply, token[i].id, &part, &text, &n_bytes, NULL);
        take_text(c, rc, part, text, n_bytes);
        c->n_think += !rc && part == AHA_PART_THINKING;
        if (c->task->ask.logprobs < 0) continue;
        if (c->logprobs.n) buf_str(&c->logprobs, ",");
        token_logprob_json(c->task, &token[i], &c->logprobs);
    }
    c->taken += n;
}

void choice_end(Choice *c)
{
    aha_part    part;
    const char *text;
    size_t      n_bytes;
    int         rc = aha_reply_end(c->reply, &part, &text, &n_bytes, NULL);
    take_text(c, rc, part, text, n_bytes);
    c->ended = true;
}

void choice_free(Choice *c)
{
    aha_reply_free(c->reply);
    mem_free(c->token);
    buf_free(&c->think);
    buf_free(&c->answer);
    buf_free(&c->logprobs);
}

const char *choice_finish_reason(Choice *c)
{
    const aha_tool_call *call;
    int                  n = 0;
    if (c->finish == AHA_FINISH_LENGTH) return "length";
    aha_reply_calls(c->reply, &call, &n, NULL);
    return n ? "tool_calls" : "stop";
}

/* Prompts are counted once, however many answers they get. */
void usage_json(Task *t, Buf *out)
{
    long long prompt = 0, cached = 0, completion = 0, thinking = 0;
    for (int i = 0; i < t->ask.n_prompt; i++) prompt += t->ask.prompt[i].n;
    for (int i = 0; i < t->n_choice; i++) {
        const Choice *c = &t->choice[i];
        if (i % t->ask.n == 0) cached += c->n_cached;
        completion += c->taken + c->stopped;
        thinking += c->n_think;
    }
    buf_fmt(out, "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":%lld},\"completion_tokens_details\":{\"reasoning_tokens\":%lld},"
                 "\"prompt_cache_hit_tokens\":%lld,\"prompt_cache_miss_tokens\":%lld}",
            prompt, completion, prompt + completion, cached, thinking, cached, prompt - cached);
}

static void token_bytes_json(Task *t, int32_t id, Buf *out)
{
    char  *text = NULL;
    size_t n = 0;
    aha_detokenize(t->s->g, &id, 1, &text, &n, NULL);
    buf_str(out, "\"token\":");
    buf_json(out, text ? text : "", n);
    buf_str(out, ",\"bytes\":[");
    for (size_t i = 0; i < n; i++) buf_fmt(out, i ? ",%u" : "%u", (unsigned)(uint8_t)text[i]);
    buf_str(out, "]");
    aha_free(text);
}

void token_logprob_json(Task *t, const Token *k, Buf *out)
{
    buf_str(out, "{");
    token_bytes_json(t, k->id, out);
    buf_fmt(out, ",\"logprob\":%.9g,\"top_logprobs\":[]}", (double)k->logp);
}
