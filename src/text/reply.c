/* A reply, token by token, into thinking and answer. */
#include <string.h>

#include "text.h"

void reply_init(Reply *r, const Tokenizer *t, bool think_open)
{
    *r = (Reply){.tok = t, .part = think_open ? REPLY_THINKING : REPLY_ANSWER};
    r->think = tokenizer_id(t, "<think>");
    r->end_think = tokenizer_id(t, "</think>");
    r->eos = tokenizer_id(t, "<｜end▁of▁sentence｜>");
    r->user = tokenizer_id(t, "<｜User｜>");
}

void reply_free(Reply *r)
{
    buf_free(&r->text);
    buf_free(&r->held);
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Gives r->text out, but for newlines before the part and the white space at its end, which is held. */
static void give(Reply *r, Buf *out)
{
    const char *s = r->text.data;
    size_t      n = r->text.n, tail = 0;
    if (r->text.failed || r->held.failed) out->failed = true;
    while (!r->started && n && (*s == '\n' || *s == '\r')) s++, n--;
    if (!n || out->failed) return;
    r->started = true;
    while (tail < n && blank(s[n - 1 - tail])) tail++;
    if (tail < n) {
        if (r->given[r->part] && !r->running) buf_str(out, "\n\n");
        buf_add(out, r->held.data, r->held.n);
        buf_reset(&r->held);
        buf_add(out, s, n - tail);
        r->given[r->part] = r->running = true;
    }
    buf_add(&r->held, s + n - tail, tail);
}

/* Ends this stretch of the part: a half character becomes U+FFFD, held white space is dropped. */
static void finish(Reply *r, Buf *out)
{
    buf_reset(&r->text);
    utf8_stream_end(&r->utf8, &r->text);
    give(r, out);
    buf_reset(&r->held);
    r->started = r->running = false;
}

bool reply_push(Reply *r, int32_t id, ReplyPart *part, Buf *out)
{
    *part = r->part;
    if (id < 0 || id == r->eos || id == r->user) return false;
    if (id == r->think || id == r->end_think) {
        ReplyPart next = id == r->think ? REPLY_THINKING : REPLY_ANSWER;
        if (next != r->part) finish(r, out);
        r->part = next;
        return true;
    }
    if (tokenizer_is_control(r->tok, id)) return true;
    size_t      n;
    const char *s = tokenizer_bytes(r->tok, id, &n);
    buf_reset(&r->text);
    utf8_stream_push(&r->utf8, s, n, &r->text);
    give(r, out);
    return true;
}

void reply_end(Reply *r, ReplyPart *part, Buf *out)
{
    *part = r->part;
    finish(r, out);
}
