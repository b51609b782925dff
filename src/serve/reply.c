/* Tokens of a sequence to the text of an answer: thinking, answer, calls, log-probabilities. */
#include <string.h>

#include "inner.h"

/* What of the answer the prompt holds already is read by the splitter too. */
static void take_primed(Choice *c)
{
    const Prompt *p = c->prompt;
    aha_part      part;
    const char   *text;
    size_t        n;
    for (int i = p->n - p->n_primed; i < p->n; i++)
        if (aha_reply_push(c->reply, p->id[i], &part, &text, &n, NULL)) c->answer.failed = true;
}

int choices_make(Task *t, Refusal *r)
{
    Ask      *a = &t->ask;
    aha_error e = {0};
    int       n = a->n_prompt * a->n;
    if (n > CHOICES_MAX)
        return refuse(r, 400, "invalid_value", a->n > 1 ? "n" : "prompt", "%d prompts with %d answers each, expected at most %d answers", a->n_prompt, a->n, CHOICES_MAX);
    t->choice = mem_zalloc((size_t)n, sizeof *t->choice);
    if (!t->choice) return refuse(r, 503, "overloaded", NULL, "no memory for %d answers", n);
    for (t->n_choice = 0; t->n_choice < n;) {
        Choice           *c = &t->choice[t->n_choice];
        aha_reply_options o = AHA_REPLY_OPTIONS_INIT;
        c->task = t;
        c->stop_text = -1;
        c->index = t->n_choice++;
        c->prompt = &a->prompt[c->index / a->n];
        o.think_open = c->prompt->think_open;
        o.plain = a->plain;
        o.stop = a->stop;
        o.n_stop = a->n_stop;
        if (aha_reply_open(&c->reply, t->s->g, &o, &e)) return refuse_error(r, &e, "stop");
        take_primed(c);
    }
    return 0;
}

static void take_text(Choice *c, int rc, aha_part part, const char *text, size_t n)
{
    if (rc) c->answer.failed = true;
    else if (n) buf_add(part == AHA_PART_THINKING ? &c->think : &c->answer, text, n);
    if (part == AHA_PART_ANSWER) c->n_answer += n;
}

/* No more of it is wanted, though the model would go on. */
static bool is_enough(Choice *c)
{
    const aha_tool_call *call;
    int                  n = 0;
    c->stop_text = aha_reply_stopped(c->reply);
    if (c->stop_text >= 0) return true;
    return c->task->ask.one_call && !aha_reply_calls(c->reply, &call, &n, NULL) && n && call[0].complete;
}

void choice_take(Choice *c, const Token *token, const aha_token_logp *top, int n)
{
    int n_top = c->task->ask.logprobs;
    for (int i = 0; i < n && !atomic_load(&c->enough); i++) {
        aha_part    part;
        const char *text;
        size_t      n_bytes;
        int         rc = aha_reply_push(c->reply, token[i].id, &part, &text, &n_bytes, NULL);
        take_text(c, rc, part, text, n_bytes);
        c->n_think += !rc && part == AHA_PART_THINKING;
        c->taken++;
        if (is_enough(c)) atomic_store(&c->enough, true);
        if (n_top < 0 || rc) continue;
        if (c->task->ask.plain) {
            buf_add(&c->kept, &token[i], sizeof *token);
            if (n_top) buf_add(&c->kept_top, top + (size_t)i * (size_t)n_top, (size_t)n_top * sizeof *top);
            continue;
        }
        if (c->logp[part].n) buf_str(&c->logp[part], ",");
        token_logprob_json(c->task, &token[i], top + (n_top > 0 ? (size_t)i * (size_t)n_top : 0), n_top, &c->logp[part]);
    }
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
    mem_free(c->top);
    mem_free(c->prompt_logp);
    mem_free(c->prompt_top);
    buf_free(&c->think);
    buf_free(&c->answer);
    buf_free(&c->logp[0]);
    buf_free(&c->logp[1]);
    buf_free(&c->kept);
    buf_free(&c->kept_top);
}

const char *choice_finish_reason(Choice *c)
{
    const aha_tool_call *call;
    int                  n = 0;
    if (c->task->ask.nothing_new || (!atomic_load(&c->enough) && (c->finish == AHA_FINISH_LENGTH || c->finish == AHA_FINISH_REPEAT))) return "length";
    aha_reply_calls(c->reply, &call, &n, NULL);
    return n ? "tool_calls" : "stop";
}

void choice_reason_json(Task *t, Choice *c, Buf *out)
{
    buf_fmt(out, ",\"finish_reason\":\"%s\",\"stop_reason\":", choice_finish_reason(c));
    if (c->stop_text >= 0 && t->stop_texts) buf_json(out, t->stop_texts[c->stop_text].data, t->stop_texts[c->stop_text].n);
    else buf_str(out, c->finish == AHA_FINISH_REPEAT && !atomic_load(&c->enough) ? "\"repetition\"" : "null");
}

/* Prompts are counted once, however many answers they get. */
Usage usage_of(Task *t)
{
    Usage u = {0};
    for (int i = 0; i < t->ask.n_prompt; i++) u.prompt += t->ask.prompt[i].n;
    for (int i = 0; i < t->n_choice; i++) {
        Choice *c = &t->choice[i];
        if (i % t->ask.n == 0) u.cached += c->n_cached;
        u.completion += c->taken + (c->stopped && !atomic_load(&c->enough) && !t->ask.nothing_new);
        u.thinking += c->n_think;
    }
    return u;
}

void usage_json(Task *t, Buf *out)
{
    Usage u = usage_of(t);
    buf_fmt(out, "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":%lld},\"completion_tokens_details\":{\"reasoning_tokens\":%lld},"
                 "\"prompt_cache_hit_tokens\":%lld,\"prompt_cache_miss_tokens\":%lld}",
            (long long)u.prompt, (long long)u.completion, (long long)(u.prompt + u.completion), (long long)u.cached, (long long)u.thinking,
            (long long)u.cached, (long long)(u.prompt - u.cached));
}

void openai_head(Task *t, const char *prefix, const char *object, Buf *out)
{
    buf_fmt(out, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", prefix, t->id + 4, object, (long long)t->created);
    buf_json(out, t->s->model, strlen(t->s->model));
    buf_fmt(out, ",\"system_fingerprint\":\"%s\"", t->s->fingerprint);
}

void openai_finish(Task *t, const char *prefix, const char *object, Buf *out)
{
    if (t->ask.include_usage) {
        buf_str(out, "data: ");
        openai_head(t, prefix, object, out);
        buf_str(out, ",\"choices\":[],\"usage\":");
        usage_json(t, out);
        buf_str(out, "}\n\n");
    }
    buf_str(out, "data: [DONE]\n\n");
}

void openai_broken(Task *t, const Refusal *r, Buf *out)
{
    (void)t;
    buf_str(out, "data: ");
    refusal_json(r, out);
    buf_str(out, "\n\n");
}

void token_text(Task *t, int32_t id, Buf *out)
{
    char  *text = NULL;
    size_t n = 0;
    aha_detokenize(t->s->g, &id, 1, &text, &n, NULL);
    if (n) buf_add(out, text, n);
    aha_free(text);
}

static void one_json(Task *t, int32_t id, float logp, Buf *out)
{
    Buf text = {0};
    token_text(t, id, &text);
    buf_str(out, "{\"token\":");
    buf_json(out, text.n ? text.data : "", text.n);
    buf_fmt(out, ",\"logprob\":%.9g,\"bytes\":[", (double)logp);
    for (size_t i = 0; i < text.n; i++) buf_fmt(out, i ? ",%u" : "%u", (unsigned)(uint8_t)text.data[i]);
    buf_str(out, "]");
    buf_free(&text);
}

void token_logprob_json(Task *t, const Token *k, const aha_token_logp *top, int n_top, Buf *out)
{
    one_json(t, k->id, k->logp, out);
    buf_str(out, ",\"top_logprobs\":[");
    for (int i = 0; i < n_top && top[i].token >= 0; i++) {
        if (i) buf_str(out, ",");
        one_json(t, top[i].token, top[i].logp, out);
        buf_str(out, "}");
    }
    buf_str(out, "]}");
}
