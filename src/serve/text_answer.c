/* /v1/completions: what is sent. */
#include <string.h>

#include "inner.h"

static void head(Task *t, Buf *out) { openai_head(t, "cmpl", "text_completion", out); }

/* ---- log-probabilities: four lists ---- */
typedef struct Lists {
    Buf    tokens, logps, tops, offsets;
    size_t at; /* bytes of text before */
    int    n;
} Lists;

/* has_logp false: the first token of a prompt has none. */
static void lists_add(Task *t, Lists *l, int32_t id, bool has_logp, float logp, const aha_token_logp *top)
{
    Buf         text = {0};
    const char *comma = l->n++ ? "," : "";
    token_text(t, id, &text);
    buf_str(&l->tokens, comma);
    buf_json(&l->tokens, text.n ? text.data : "", text.n);
    if (has_logp) buf_fmt(&l->logps, "%s%.9g", comma, (double)logp);
    else buf_fmt(&l->logps, "%snull", comma);
    buf_fmt(&l->offsets, "%s%zu", comma, l->at);
    l->at += text.n;
    buf_fmt(&l->tops, has_logp && top ? "%s{" : "%snull", comma);
    for (int i = 0; has_logp && top && i < t->ask.logprobs && top[i].token >= 0; i++) {
        buf_reset(&text);
        token_text(t, top[i].token, &text);
        if (i) buf_str(&l->tops, ",");
        buf_json(&l->tops, text.n ? text.data : "", text.n);
        buf_fmt(&l->tops, ":%.9g", (double)top[i].logp);
    }
    if (has_logp && top) buf_str(&l->tops, "}");
    buf_free(&text);
}

static void lists_write(Lists *l, Buf *out)
{
    const struct {
        const char *name;
        Buf        *b;
    } part[] = {{"tokens", &l->tokens}, {"token_logprobs", &l->logps}, {"top_logprobs", &l->tops}, {"text_offset", &l->offsets}};
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        buf_fmt(out, "%s\"%s\":[", i ? "," : "{", part[i].name);
        if (part[i].b->n) buf_add(out, part[i].b->data, part[i].b->n);
        out->failed |= part[i].b->failed;
        buf_str(out, "]");
        buf_free(part[i].b);
    }
    buf_str(out, "}");
}

/* Of the tokens from..taken, and of an echoed prompt's before them. */
static void logprobs_json(Task *t, Choice *c, int from, size_t at, Buf *out)
{
    Lists l = {.at = at};
    int   n_top = t->ask.logprobs;
    buf_str(out, ",\"logprobs\":");
    if (n_top < 0) {
        buf_str(out, "null");
        return;
    }
    for (int i = c->prompt->n_bos; t->ask.echo && c->prompt_logp && i < c->prompt->n; i++)
        lists_add(t, &l, c->prompt->id[i], i > 0, c->prompt_logp[i], c->prompt_top ? c->prompt_top + (size_t)i * (size_t)n_top : NULL);
    const Token          *token = (const Token *)(const void *)c->kept.data; /* an allocation's beginning: aligned for anything */
    const aha_token_logp *top = (const aha_token_logp *)(const void *)c->kept_top.data;
    out->failed |= c->kept.failed || c->kept_top.failed;
    for (int i = from; i < c->taken && !out->failed; i++)
        lists_add(t, &l, token[i].id, true, token[i].logp, n_top > 0 ? top + (size_t)i * (size_t)n_top : NULL);
    lists_write(&l, out);
}

/* ---- a stream ---- */
static void begin(Task *t, Buf *out) { (void)t, (void)out; }

static void chunk(Task *t, Choice *c, bool last, Buf *out)
{
    buf_str(out, "data: ");
    head(t, out);
    buf_fmt(out, ",\"choices\":[{\"index\":%d,\"text\":", c->index);
    buf_json(out, c->answer.n ? c->answer.data : "", c->answer.n);
    logprobs_json(t, c, last ? c->taken : c->n_written, c->n_answer - c->answer.n, out);
    c->n_written = c->taken;
    if (last) choice_reason_json(t, c, out);
    else buf_str(out, ",\"finish_reason\":null");
    buf_str(out, "}]");
    if (t->ask.include_usage) buf_str(out, ",\"usage\":null");
    buf_str(out, "}\n\n");
    buf_reset(&c->answer);
}

static void part(Task *t, Choice *c, Buf *out)
{
    if (c->answer.n || (t->ask.logprobs >= 0 && c->n_written < c->taken)) chunk(t, c, false, out);
}

static void end(Task *t, Choice *c, Buf *out) { chunk(t, c, true, out); }

static void finish(Task *t, Buf *out) { openai_finish(t, "cmpl", "text_completion", out); }

/* ---- at once ---- */
static void one(Task *t, Choice *c, Buf *out)
{
    Buf    text = {0};
    char  *echo = NULL;
    size_t n = 0;
    if (t->ask.echo && aha_detokenize(t->s->g, c->prompt->id + c->prompt->n_bos, c->prompt->n - c->prompt->n_bos, &echo, &n, NULL) == 0) buf_add(&text, echo, n);
    if (c->answer.n) buf_add(&text, c->answer.data, c->answer.n);
    out->failed |= text.failed;
    buf_fmt(out, "{\"index\":%d,\"text\":", c->index);
    buf_json(out, text.n ? text.data : "", text.n);
    logprobs_json(t, c, 0, 0, out);
    choice_reason_json(t, c, out);
    buf_str(out, "}");
    buf_free(&text);
    aha_free(echo);
}

static void whole(Task *t, Buf *out)
{
    head(t, out);
    buf_str(out, ",\"choices\":[");
    for (int i = 0; i < t->n_choice; i++) {
        if (i) buf_str(out, ",");
        one(t, &t->choice[i], out);
    }
    buf_str(out, "],\"usage\":");
    usage_json(t, out);
    buf_str(out, "}");
}

const Dialect dialect_text = {begin, part, end, finish, openai_broken, whole};
