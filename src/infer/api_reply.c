/* The public API's replies: an answer taken apart as it comes, and the texts that end it. */
#include "api.h"

struct aha_reply {
    Reply          split;
    bool           plain; /* split has the tokenizer alone */
    Utf8Stream     utf8;  /* of a plain one */
    Stops         *stops; /* NULL: none */
    Buf            piece, text;
    aha_tool_call *calls; /* of the last aha_reply_calls */
};

static int take_stops(aha_reply *r, const aha_bytes *stop, int n, aha_error *e)
{
    TextRef ref[AHA_STOP_MAX];
    if (n == 0) return 0;
    for (int i = 0; i < n && i < AHA_STOP_MAX; i++) ref[i] = (TextRef){stop[i].data, stop[i].n_bytes};
    return stops_new(&r->stops, ref, n, e);
}

int aha_reply_open(aha_reply **out, const aha_engine *g, const aha_reply_options *options, aha_error *e)
{
    aha_reply_options o = AHA_REPLY_OPTIONS_INIT;
    const Tokenizer  *t;
    aha_reply        *r;
    int               rc = options ? api_options(&o, sizeof o, options, options->size, "aha_reply_options", e) : 0;
    *out = NULL;
    if (rc == 0) rc = api_tokenizer(g, &t, e);
    if (rc) return rc;
    if (!(r = mem_zalloc(1, sizeof *r))) return error_set(e, AHA_ERR_NOMEM, "no memory for a reply");
    reply_init(&r->split, t, o.think_open);
    r->plain = o.plain;
    if ((rc = take_stops(r, o.stop, o.n_stop, e)) != 0) {
        aha_reply_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

int aha_reply_new(aha_reply **out, const aha_engine *g, bool think_open, aha_error *e)
{
    const aha_reply_options o = {sizeof o, think_open, false, NULL, 0};
    return aha_reply_open(out, g, &o, e);
}

void aha_reply_free(aha_reply *r)
{
    if (!r) return;
    reply_free(&r->split);
    stops_free(r->stops);
    buf_free(&r->piece);
    buf_free(&r->text);
    mem_free(r->calls);
    mem_free(r);
}

int aha_reply_stopped(const aha_reply *r) { return r->stops ? stops_hit(r->stops) : -1; }

static int give_text(aha_reply *r, ReplyPart p, aha_part *part, const char **text, size_t *n_bytes, aha_error *e)
{
    *part = p == REPLY_THINKING ? AHA_PART_THINKING : AHA_PART_ANSWER;
    *text = r->text.n ? r->text.data : "";
    *n_bytes = r->text.n;
    return r->text.failed || r->piece.failed ? error_set(e, AHA_ERR_NOMEM, "no memory for a reply's text") : 0;
}

/* What a token gave, in r->piece, to r->text, past the stop texts if it is answer. */
static void pass(aha_reply *r, ReplyPart part)
{
    if (r->stops && part == REPLY_ANSWER) stops_push(r->stops, r->piece.data, r->piece.n, &r->text);
    else buf_add(&r->text, r->piece.data, r->piece.n);
}

static void push_plain(aha_reply *r, int32_t token)
{
    size_t      n;
    const char *s = tokenizer_bytes(r->split.tok, token, &n);
    if (!tokenizer_is_control(r->split.tok, token)) utf8_stream_push(&r->utf8, s, n, &r->piece);
}

int aha_reply_push(aha_reply *r, int32_t token, aha_part *part, const char **text, size_t *n_bytes, aha_error *e)
{
    ReplyPart p = REPLY_ANSWER;
    buf_reset(&r->piece);
    buf_reset(&r->text);
    if (aha_reply_stopped(r) >= 0) return give_text(r, p, part, text, n_bytes, e);
    if (r->plain) push_plain(r, token);
    else reply_push(&r->split, token, &p, &r->piece);
    pass(r, p);
    if (r->stops && p == REPLY_ANSWER && r->split.part == REPLY_THINKING) stops_end(r->stops, &r->text); /* the answer is interrupted */
    return give_text(r, p, part, text, n_bytes, e);
}

int aha_reply_end(aha_reply *r, aha_part *part, const char **text, size_t *n_bytes, aha_error *e)
{
    ReplyPart p = REPLY_ANSWER;
    buf_reset(&r->piece);
    buf_reset(&r->text);
    if (aha_reply_stopped(r) >= 0) return give_text(r, p, part, text, n_bytes, e);
    if (r->plain) utf8_stream_end(&r->utf8, &r->piece);
    else reply_end(&r->split, &p, &r->piece);
    pass(r, p);
    if (r->stops && p == REPLY_ANSWER) stops_end(r->stops, &r->text);
    return give_text(r, p, part, text, n_bytes, e);
}

int aha_reply_calls(aha_reply *r, const aha_tool_call **calls, int *n_calls, aha_error *e)
{
    int n = r->split.n_call;
    *calls = NULL;
    *n_calls = 0;
    mem_free(r->calls);
    r->calls = n ? mem_zalloc((size_t)n, sizeof *r->calls) : NULL;
    if (n && !r->calls) return error_set(e, AHA_ERR_NOMEM, "no memory for %d tool calls", n);
    for (int i = 0; i < n; i++) {
        const ReplyCall *c = &r->split.call[i];
        r->calls[i] = (aha_tool_call){c->name, c->args, c->complete, c->valid};
    }
    *calls = r->calls;
    *n_calls = n;
    return 0;
}
