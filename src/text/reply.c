/* A reply, token by token, into thinking, answer and tool calls.
 *
 * R1 writes calls as
 *   <calls begin><call begin>function<sep>NAME\n```json\n{ARGS}\n```<call end>\n<call begin>...<call end><calls end>
 * The markers are tokens of the 671B models' vocabulary.  The distills' vocabularies lack them and their models spell them, in
 * any cut: there, text that may become a marker is held back until it is one or cannot be one. */
#include <jansson.h>
#include <string.h>

#include "../format/format.h"
#include "inner.h"

const char *const TOOL_MARKER[TOOL_MARKERS] = {
    [TOOL_CALLS_BEGIN] = "<｜tool▁calls▁begin｜>",     [TOOL_CALLS_END] = "<｜tool▁calls▁end｜>",
    [TOOL_CALL_BEGIN] = "<｜tool▁call▁begin｜>",       [TOOL_CALL_END] = "<｜tool▁call▁end｜>",
    [TOOL_OUTPUTS_BEGIN] = "<｜tool▁outputs▁begin｜>", [TOOL_OUTPUTS_END] = "<｜tool▁outputs▁end｜>",
    [TOOL_OUTPUT_BEGIN] = "<｜tool▁output▁begin｜>",   [TOOL_OUTPUT_END] = "<｜tool▁output▁end｜>",
    [TOOL_SEP] = "<｜tool▁sep｜>",
};
_Static_assert(sizeof ((Reply *)0)->marker / sizeof(int32_t) == TOOL_MARKERS, "Reply has an id for each marker");
enum { NO_MARKER = -1, PART_OF_MARKER = -2 };

void reply_init(Reply *r, const Tokenizer *t, bool think_open)
{
    *r = (Reply){.tok = t, .part = think_open ? REPLY_THINKING : REPLY_ANSWER};
    r->think = tokenizer_id(t, "<think>");
    r->end_think = tokenizer_id(t, "</think>");
    r->eos = tokenizer_id(t, "<｜end▁of▁sentence｜>");
    r->user = tokenizer_id(t, "<｜User｜>");
    for (int k = 0; k < TOOL_MARKERS; k++) r->marker[k] = tokenizer_id(t, TOOL_MARKER[k]);
    r->spelled = r->marker[TOOL_CALLS_BEGIN] < 0;
}

void reply_free(Reply *r)
{
    for (int i = 0; i < r->n_call; i++) {
        mem_free(r->call[i].name);
        mem_free(r->call[i].args);
    }
    mem_free(r->call);
    buf_free(&r->text);
    buf_free(&r->held);
    buf_free(&r->maybe);
    buf_free(&r->type);
    buf_free(&r->body);
    *r = (Reply){0};
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void trim(const char **s, size_t *n)
{
    while (*n && blank(**s)) ++*s, --*n;
    while (*n && blank((*s)[*n - 1])) --*n;
}

/* Empties a buffer; that it had failed is kept. */
static void reset(Reply *r, Buf *b)
{
    r->no_memory |= b->failed;
    buf_reset(b);
}

/* ---- text of a part ---- */
/* Gives text out, but for newlines before the part and the white space at its end, which is held. */
static void give(Reply *r, const char *s, size_t n, Buf *out)
{
    size_t tail = 0;
    while (!r->started && n && (*s == '\n' || *s == '\r')) s++, n--;
    if (!n || out->failed) return;
    r->started = true;
    while (tail < n && blank(s[n - 1 - tail])) tail++;
    if (tail < n) {
        if (r->given[r->part] && !r->running) buf_str(out, "\n\n");
        buf_add(out, r->held.data, r->held.n);
        reset(r, &r->held);
        buf_add(out, s, n - tail);
        r->given[r->part] = r->running = true;
    }
    buf_add(&r->held, s + n - tail, tail);
}

/* Text where the reply stands now. */
static void take_text(Reply *r, const char *s, size_t n, Buf *out)
{
    if (!n) return;
    if (r->place == REPLY_IN_TEXT) give(r, s, n, out);
    else if (r->place == REPLY_IN_ARGS) buf_add(&r->body, s, n);
    else if (r->place != REPLY_IN_OUTPUTS) buf_add(&r->type, s, n);
}

/* ---- calls ---- */
static char *copy(const char *s, size_t n)
{
    char *p = mem_alloc(n + 1);
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

static bool is_object(Reply *r, const char *s, size_t n)
{
    Json  *j = NULL;
    size_t at;
    int    rc = json_parse_wide(&j, s, n, "arguments", &at, NULL);
    bool   yes = !rc && json_is_object(j);
    r->no_memory |= rc == AHA_ERR_NOMEM;
    json_free(j);
    return yes;
}

/* Name and arguments of what was written: NAME, newline, a fenced block of JSON; or, as DeepSeek's later models write it and
 * R1 at times does, the name where "function" belongs and bare JSON after the separator. */
static void read_call(const Reply *r, const char **name, size_t *n_name, const char **args, size_t *n_args)
{
    static const char FENCE[] = "```";
    const char       *s = r->body.n ? r->body.data : "", *type = r->type.n ? r->type.data : "";
    size_t            n = r->body.n, n_type = r->type.n;
    trim(&s, &n);
    trim(&type, &n_type);
    if (n_type == strlen("function") && !memcmp(type, "function", n_type)) n_type = 0;
    if (!n) s = type, n = n_type, type = "", n_type = 0; /* no separator was written */
    const char *line = n ? memchr(s, '\n', n) : NULL;
    if (n && (*s == '{' || (n >= 3 && !memcmp(s, FENCE, 3)))) line = s; /* no name here */
    *name = line == s ? type : s;
    *n_name = line == s ? n_type : line ? (size_t)(line - s) : n;
    *args = line ? line : s + n;
    *n_args = n - (size_t)(*args - s);
    trim(name, n_name);
    trim(args, n_args);
    if (*n_args >= 3 && !memcmp(*args, FENCE, 3)) { /* ```json */
        const char *inner = memchr(*args, '\n', *n_args);
        const char *from = inner ? inner : *args + *n_args;
        *n_args -= (size_t)(from - *args);
        *args = from;
        trim(args, n_args);
    }
    if (*n_args >= 3 && !memcmp(*args + *n_args - 3, FENCE, 3)) *n_args -= 3;
    trim(args, n_args);
}

static bool room_for_call(Reply *r)
{
    if (r->n_call < r->cap_call) return true;
    int        cap = r->cap_call ? 2 * r->cap_call : 4;
    ReplyCall *p = mem_realloc(r->call, (size_t)cap * sizeof *p);
    if (!p) return false;
    r->call = p;
    r->cap_call = cap;
    return true;
}

static void end_call(Reply *r, bool complete)
{
    const char *name, *args;
    size_t      n_name, n_args;
    read_call(r, &name, &n_name, &args, &n_args);
    ReplyCall c = {.name = copy(name, n_name), .args = copy(args, n_args), .n_args = n_args, .complete = complete};
    if (c.name && c.args && !r->type.failed && !r->body.failed && room_for_call(r)) {
        c.valid = complete && n_name > 0 && is_object(r, c.args, n_args);
        r->call[r->n_call++] = c;
    } else {
        mem_free(c.name);
        mem_free(c.args);
        r->no_memory = true;
    }
    reset(r, &r->type);
    reset(r, &r->body);
}

static bool holds_text(const Buf *b)
{
    const char *s = b->data;
    size_t      n = b->n;
    trim(&s, &n);
    return n > 0;
}

/* The calls end here, whatever is open: something begun is an unfinished call. */
static void leave_calls(Reply *r)
{
    bool begun = r->place == REPLY_IN_CALL || r->place == REPLY_IN_ARGS || (r->place == REPLY_IN_CALLS && holds_text(&r->type));
    if (begun) end_call(r, false);
    r->place = REPLY_IN_TEXT;
}

/* What is held because it may become more: a half marker is text, a half character becomes U+FFFD. */
static void flush_half(Reply *r, Buf *out)
{
    take_text(r, r->maybe.data, r->maybe.n, out);
    reset(r, &r->maybe);
    reset(r, &r->text);
    utf8_stream_end(&r->utf8, &r->text);
    take_text(r, r->text.data, r->text.n, out);
}

/* Ends this stretch of the part: held white space is dropped. */
static void end_stretch(Reply *r)
{
    reset(r, &r->held);
    r->started = r->running = false;
}

/* ---- markers ---- */
static void take_marker(Reply *r, ToolMarker k)
{
    bool in_calls = r->place == REPLY_IN_CALLS || r->place == REPLY_IN_CALL || r->place == REPLY_IN_ARGS;
    if (k == TOOL_CALLS_BEGIN || k == TOOL_OUTPUTS_BEGIN || k == TOOL_CALL_BEGIN || k == TOOL_OUTPUT_BEGIN) {
        if (r->place == REPLY_IN_TEXT) end_stretch(r);
        if (k == TOOL_CALL_BEGIN && r->place == REPLY_IN_CALLS) reset(r, &r->type); /* what stood between two calls */
        leave_calls(r);
        reset(r, &r->type);
        r->place = k == TOOL_CALLS_BEGIN ? REPLY_IN_CALLS : k == TOOL_CALL_BEGIN ? REPLY_IN_CALL : REPLY_IN_OUTPUTS;
    } else if (k == TOOL_SEP && in_calls) {
        if (r->place != REPLY_IN_ARGS) r->place = REPLY_IN_ARGS;
    } else if (k == TOOL_CALL_END && in_calls) {
        if (r->place != REPLY_IN_CALLS || holds_text(&r->type)) end_call(r, true);
        r->place = REPLY_IN_CALLS;
    } else if (k == TOOL_CALLS_END && in_calls) {
        leave_calls(r);
    } else if (k == TOOL_OUTPUTS_END && r->place == REPLY_IN_OUTPUTS) {
        r->place = REPLY_IN_TEXT;
    } /* else: an end of nothing */
}

/* Which marker s begins with, or whether it may become one. */
static int marker_at(const char *s, size_t n)
{
    for (int k = 0; k < TOOL_MARKERS; k++) {
        size_t len = strlen(TOOL_MARKER[k]);
        if (!memcmp(s, TOOL_MARKER[k], n < len ? n : len)) return n < len ? PART_OF_MARKER : k;
    }
    return NO_MARKER;
}

/* Text of an answer in which markers are spelled: r->maybe, as far as it is decided. */
static void take_spelled(Reply *r, Buf *out)
{
    size_t at = 0;
    while (at < r->maybe.n) {
        const char *s = r->maybe.data + at, *open = memchr(s, '<', r->maybe.n - at);
        size_t      plain = open ? (size_t)(open - s) : r->maybe.n - at;
        take_text(r, s, plain, out);
        at += plain;
        int k = open ? marker_at(open, r->maybe.n - at) : NO_MARKER;
        if (k == PART_OF_MARKER) break;
        if (k >= 0) {
            Buf rest = {0};
            at += strlen(TOOL_MARKER[k]);
            buf_add(&rest, r->maybe.data + at, r->maybe.n - at);
            reset(r, &r->maybe);
            take_marker(r, (ToolMarker)k);
            buf_free(&r->maybe);
            r->maybe = rest;
            at = 0;
        } else if (open) {
            take_text(r, open, 1, out);
            at++;
        }
    }
    if (at) {
        memmove(r->maybe.data, r->maybe.data + at, r->maybe.n - at);
        r->maybe.n -= at;
    }
}

/* ---- tokens ---- */
static void turn_to(Reply *r, ReplyPart next, Buf *out)
{
    if (next == r->part && r->place == REPLY_IN_TEXT) return;
    flush_half(r, out);
    end_stretch(r);
    leave_calls(r);
    r->part = next;
}

static void note_failures(const Reply *r, Buf *out)
{
    if (r->text.failed || r->held.failed || r->maybe.failed || r->type.failed || r->body.failed || r->no_memory) out->failed = true;
}

static bool push(Reply *r, int32_t id, Buf *out)
{
    if (id < 0 || id == r->eos || id == r->user) return false;
    if (id == r->think || id == r->end_think) {
        turn_to(r, id == r->think ? REPLY_THINKING : REPLY_ANSWER, out);
        return true;
    }
    for (int k = 0; k < TOOL_MARKERS && r->part == REPLY_ANSWER; k++) {
        if (id != r->marker[k]) continue;
        flush_half(r, out);
        take_marker(r, (ToolMarker)k);
        return true;
    }
    if (tokenizer_is_control(r->tok, id)) return true;
    size_t      n;
    const char *s = tokenizer_bytes(r->tok, id, &n);
    reset(r, &r->text);
    utf8_stream_push(&r->utf8, s, n, &r->text);
    if (r->spelled && r->part == REPLY_ANSWER) {
        buf_add(&r->maybe, r->text.data, r->text.n);
        take_spelled(r, out);
    } else {
        take_text(r, r->text.data, r->text.n, out);
    }
    return true;
}

bool reply_push(Reply *r, int32_t id, ReplyPart *part, Buf *out)
{
    *part = r->part;
    bool more = push(r, id, out);
    note_failures(r, out);
    return more;
}

void reply_end(Reply *r, ReplyPart *part, Buf *out)
{
    *part = r->part;
    flush_half(r, out);
    end_stretch(r);
    leave_calls(r);
    note_failures(r, out);
}
