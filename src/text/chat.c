/* Conversations to ids.  The templates of R1's family differ in four features; none is read from a file and executed.
 *
 *   beginning-of-sentence, system text, then for each turn
 *     user:       <|User|> text                  assistant: <|Assistant|> text calls end-of-sentence
 *     tools:      <|outputs begin|> <|output begin|> text <|output end|> ... <|outputs end|>, and the assistant goes on
 *   and for the next reply <|Assistant|>, with <think> and a newline where the template opens the thinking.
 *   R1-0528 writes <|Assistant|> right after each user text instead, and then none before the assistant's.
 *
 * What the published templates get wrong with tools is mended here on purpose: docs/templates.md lists it. */
#include <string.h>

#include "inner.h"

typedef struct ChatForm {
    const char *name;
    bool        joins_system; /* several system texts are joined by an empty line; else the last wins */
    bool        opens_think;
    bool        after_user; /* <|Assistant|> belongs to the user's turn */
    bool        joins_outputs; /* without a newline between the results of tools */
} ChatForm;
static const ChatForm FORM[CHAT_COUNT] = {
    [CHAT_R1_JAN] = {"r1-jan", false, false, false, false},
    [CHAT_R1] = {"r1", true, true, false, true},
    [CHAT_R1_0528] = {"r1-0528", true, false, true, false},
    [CHAT_V3] = {"v3", true, false, false, true},
    [CHAT_R1_DISTILL] = {"r1-distill", false, true, false, false},
};

const char *chat_template_name(ChatTemplate t)
{
    return (unsigned)t < CHAT_COUNT ? FORM[t].name : "unknown";
}

static bool has(const char *s, size_t n, const char *word)
{
    return n && memmem(s, n, word, strlen(word)) != NULL;
}

ChatTemplate chat_template_detect(const char *jinja, size_t n, bool *known)
{
    *known = has(jinja, n, "<｜User｜>") && has(jinja, n, "<｜Assistant｜>") && has(jinja, n, "<｜end▁of▁sentence｜>") &&
             has(jinja, n, "</think>") && !has(jinja, n, "<think></think>"); /* V3.1 closes an empty thinking itself */
    if (!*known) return CHAT_R1;
    ChatForm f = {.joins_system = has(jinja, n, "is_first_sp"),
                  .opens_think = has(jinja, n, "<｜Assistant｜><think>"),
                  .after_user = has(jinja, n, "is_last_user")};
    for (int t = 0; t < CHAT_COUNT; t++) {
        bool same = f.opens_think == FORM[t].opens_think && f.after_user == FORM[t].after_user && f.joins_system == FORM[t].joins_system;
        if (same) return (ChatTemplate)t;
    }
    *known = false;
    return CHAT_R1;
}

static const char BOS[] = "<｜begin▁of▁sentence｜>", EOS[] = "<｜end▁of▁sentence｜>", USER[] = "<｜User｜>", ASSISTANT[] = "<｜Assistant｜>";
static const char THINK[] = "<think>", END_THINK[] = "</think>";

typedef struct Render {
    const Tokenizer *t;
    const ChatForm  *f;
    Ids             *out;
    Buf              text;       /* plain text not yet tokenised: what no control token parts is tokenised together */
    bool             due;        /* <|Assistant|> was not written yet for the turn to come */
    bool             in_outputs; /* the results of tools are open */
    int              rc;         /* sticky */
    aha_error       *e;
} Render;

static void put_text(Render *r, const char *s, size_t n)
{
    if (n) buf_add(&r->text, s, n);
}

static void flush(Render *r)
{
    if (!r->rc && r->text.failed) r->rc = error_set(r->e, AHA_ERR_NOMEM, "no memory for a conversation's text");
    if (!r->rc && r->text.n) r->rc = tokenizer_encode(r->t, r->text.data, r->text.n, 0, r->out, r->e);
    buf_reset(&r->text);
}

static void put_id(Render *r, int32_t id)
{
    flush(r);
    if (!r->rc) r->rc = ids_push(r->out, id, r->e);
}

static void put_control(Render *r, const char *token)
{
    int id = tokenizer_id(r->t, token);
    if (id >= 0) put_id(r, id);
    else if (!r->rc) r->rc = error_set(r->e, AHA_ERR_UNSUPPORTED, "the tokenizer has no token %s, which the chat template needs", token);
}

/* A marker of tools: text where the tokenizer has no such token. */
static void put_marker(Render *r, const char *marker, size_t n)
{
    char name[64];
    int  id = -1;
    if (n < sizeof name) {
        memcpy(name, marker, n);
        name[n] = 0;
        id = tokenizer_id(r->t, name);
    }
    if (id >= 0) put_id(r, id);
    else put_text(r, marker, n);
}

static void put_tool_marker(Render *r, ToolMarker k)
{
    put_marker(r, TOOL_MARKER[k], strlen(TOOL_MARKER[k]));
}

static void put_string(Render *r, const char *s)
{
    put_text(r, s, strlen(s));
}

/* ---- the system text ---- */
/* The description of tools is the project's own text up to the list: the markers in it are meant. */
static void put_tools(Render *r, const ChatOptions *o)
{
    Buf all = {0};
    if (r->rc) return;
    r->rc = chat_tools_text(o->tools, o->n_tools, &all, r->e);
    const char *s = all.data, *end = s ? s + all.n : s, *list = r->rc ? NULL : memmem(s, all.n, "### Function", 12);
    while (list && s < list) {
        const char *open = memmem(s, (size_t)(list - s), "<｜", strlen("<｜")), *close = open ? memmem(open, (size_t)(list - open), "｜>", strlen("｜>")) : NULL;
        if (!close) break;
        close += strlen("｜>");
        put_text(r, s, (size_t)(open - s));
        put_marker(r, open, (size_t)(close - open));
        s = close;
    }
    if (!r->rc) put_text(r, s, (size_t)(end - s));
    buf_free(&all);
}

/* The system texts as one. */
static void put_system(Render *r, const ChatMessage *m, int n, const ChatOptions *o)
{
    bool first = true;
    for (int i = 0; i < n; i++) {
        if (m[i].role != ROLE_SYSTEM) continue;
        if (!r->f->joins_system) buf_reset(&r->text);
        else if (!first) put_string(r, "\n\n");
        put_text(r, m[i].text, m[i].n);
        first = false;
    }
    if (o->tools && r->text.n) put_string(r, "\n\n");
    if (o->tools) put_tools(r, o);
}

/* ---- turns ---- */
/* What follows the last </think>; all of it without one. */
static void put_without_thinking(Render *r, const char *s, size_t n)
{
    const size_t len = sizeof END_THINK - 1;
    for (const char *at; n && (at = memmem(s, n, END_THINK, len));) {
        n -= (size_t)(at - s) + len;
        s = at + len;
    }
    put_text(r, s, n);
}

/* The beginning of a reply that the model is to go on with: an opened thinking, and its end, are tokens. */
static void put_prefix(Render *r, const char *s, size_t n, bool *think_open)
{
    const size_t open = sizeof THINK - 1, close = sizeof END_THINK - 1;
    *think_open = n >= open && !memcmp(s, THINK, open);
    if (*think_open) {
        put_control(r, THINK);
        s += open;
        n -= open;
    }
    const char *end = *think_open ? memmem(s, n, END_THINK, close) : NULL;
    if (end) {
        put_text(r, s, (size_t)(end - s));
        put_control(r, END_THINK);
        *think_open = false;
        n -= (size_t)(end - s) + close;
        s = end + close;
    }
    put_text(r, s, n);
}

static void close_outputs(Render *r)
{
    if (r->in_outputs) put_tool_marker(r, TOOL_OUTPUTS_END);
    r->in_outputs = false;
}

static void put_calls(Render *r, const ChatMessage *m)
{
    for (int i = 0; i < m->n_call; i++) {
        if (i) put_string(r, "\n");
        else put_tool_marker(r, TOOL_CALLS_BEGIN);
        put_tool_marker(r, TOOL_CALL_BEGIN);
        put_string(r, "function");
        put_tool_marker(r, TOOL_SEP);
        put_text(r, m->call[i].name, m->call[i].n_name);
        put_string(r, "\n```json\n");
        put_text(r, m->call[i].args, m->call[i].n_args);
        put_string(r, "\n```");
        put_tool_marker(r, TOOL_CALL_END);
    }
    if (m->n_call) put_tool_marker(r, TOOL_CALLS_END);
}

static void put_assistant(Render *r, const ChatMessage *m, bool *think_open)
{
    if (!r->in_outputs && !r->f->after_user) put_control(r, ASSISTANT);
    close_outputs(r);
    if (m->prefix) {
        put_prefix(r, m->text, m->n, think_open);
        return;
    }
    put_without_thinking(r, m->text, m->n);
    put_calls(r, m);
    put_control(r, EOS);
    r->due = true;
}

static void put_turn(Render *r, const ChatMessage *m, bool *think_open)
{
    if (m->role == ROLE_USER) {
        close_outputs(r);
        put_control(r, USER);
        put_text(r, m->text, m->n);
        if (r->f->after_user) put_control(r, ASSISTANT);
        r->due = !r->f->after_user;
    } else if (m->role == ROLE_ASSISTANT) {
        put_assistant(r, m, think_open);
    } else if (m->role == ROLE_TOOL) {
        if (!r->in_outputs) put_tool_marker(r, TOOL_OUTPUTS_BEGIN);
        else if (!r->f->joins_outputs) put_string(r, "\n");
        put_tool_marker(r, TOOL_OUTPUT_BEGIN);
        put_text(r, m->text, m->n);
        put_tool_marker(r, TOOL_OUTPUT_END);
        r->in_outputs = true;
    }
}

/* The opening of the reply; after results of tools it just goes on. */
static void put_generation(Render *r, ChatThink think, bool *think_open)
{
    if (r->in_outputs) {
        close_outputs(r);
        return;
    }
    if (r->due) put_control(r, ASSISTANT);
    *think_open = think == CHAT_THINK_FORCED || (think == CHAT_THINK_TEMPLATE && r->f->opens_think);
    if (*think_open || think == CHAT_THINK_OFF) {
        put_control(r, THINK);
        put_string(r, think == CHAT_THINK_OFF ? "\n\n" : "\n");
    }
    if (think == CHAT_THINK_OFF) { /* as R1 leaves its thinking out */
        put_control(r, END_THINK);
        put_string(r, "\n\n");
    }
}

static int check_messages(const ChatMessage *m, int n, aha_error *e)
{
    for (int i = 0; i < n; i++) {
        if ((unsigned)m[i].role > ROLE_TOOL) return error_set(e, AHA_ERR_ARG, "message %d: role %d, expected 0..%d", i, (int)m[i].role, ROLE_TOOL);
        if (m[i].n_call < 0 || (m[i].n_call && m[i].role != ROLE_ASSISTANT))
            return error_set(e, AHA_ERR_ARG, "message %d: %d tool calls, expected none: only an assistant calls tools", i, m[i].n_call);
        if (m[i].prefix && (i < n - 1 || m[i].role != ROLE_ASSISTANT || m[i].n_call))
            return error_set(e, AHA_ERR_ARG, "message %d: prefix, expected only of the last message, an assistant's without tool calls", i);
    }
    return 0;
}

int chat_render_with(const Tokenizer *t, ChatTemplate tpl, const ChatMessage *m, int n, const ChatOptions *o, Ids *out, bool *think_open,
                     aha_error *e)
{
    *think_open = false;
    if ((unsigned)tpl >= CHAT_COUNT) return error_set(e, AHA_ERR_ARG, "chat template %d, expected 0..%d", (int)tpl, CHAT_COUNT - 1);
    int rc = check_messages(m, n, e);
    if (rc) return rc;
    Render r = {.t = t, .f = &FORM[tpl], .out = out, .due = true, .e = e};
    size_t before = out->n;
    put_control(&r, BOS);
    put_system(&r, m, n, o);
    for (int i = 0; i < n; i++) put_turn(&r, &m[i], think_open);
    bool goes_on = n > 0 && m[n - 1].prefix;
    if (o->add_generation && !goes_on) put_generation(&r, o->think, think_open);
    else close_outputs(&r);
    flush(&r);
    buf_free(&r.text);
    if (r.rc) {
        out->n = before;
        *think_open = false;
    }
    return r.rc;
}

int chat_render(const Tokenizer *t, ChatTemplate tpl, const ChatMessage *m, int n, bool add_generation, Ids *out, bool *think_open,
                aha_error *e)
{
    const ChatOptions o = {.add_generation = add_generation};
    return chat_render_with(t, tpl, m, n, &o, out, think_open, e);
}
