/* /v1/chat/completions: a conversation from JSON to the ids of a prompt. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "inner.h"

enum { MESSAGES_MAX = 4096, CALLS_MAX = 4096, NAME_MAX_BYTES = 64 };

static const Field FIELDS[] = {
    FIELDS_GENERATE,
    {"messages", FIELD_USED, NULL},
    {"max_completion_tokens", FIELD_USED | FIELD_NULL, NULL},
    {"top_logprobs", FIELD_USED | FIELD_NULL, NULL},
    {"tools", FIELD_USED | FIELD_NULL, NULL},
    {"tool_choice", FIELD_USED | FIELD_NULL, NULL},
    {"parallel_tool_calls", FIELD_USED | FIELD_NULL, NULL},
    {"response_format", FIELD_USED | FIELD_NULL, NULL},
    {"reasoning_effort", FIELD_USED | FIELD_NULL, NULL},
    {"thinking", FIELD_USED | FIELD_NULL, NULL},
    {"thinking_budget", FIELD_USED | FIELD_NULL, NULL},
    {"modalities", FIELD_USED | FIELD_NULL, NULL},
    {"audio", FIELD_REFUSED | FIELD_NULL, "this model reads and writes text alone"},
    {"prediction", FIELD_TELLS | FIELD_NULL, NULL}, /* a guess that may save time, never changes the answer */
    {"verbosity", FIELD_REFUSED | FIELD_NULL, "not supported: ask for it in the conversation"},
    {"functions", FIELD_REFUSED, "not supported: tools are its successor"},
    {"function_call", FIELD_REFUSED, "not supported: tool_choice is its successor"},
    {"web_search_options", FIELD_REFUSED | FIELD_NULL, "not supported: this server looks nothing up"},
};

static const Field MESSAGE_FIELDS[] = {
    {"role", FIELD_USED, NULL},
    {"content", FIELD_USED | FIELD_NULL, NULL},
    {"name", FIELD_TELLS | FIELD_NULL, NULL}, /* R1's conversations have no place for it */
    {"tool_calls", FIELD_USED | FIELD_NULL, NULL},
    {"tool_call_id", FIELD_TELLS | FIELD_NULL, NULL}, /* likewise: results come in the order of the calls */
    {"prefix", FIELD_USED | FIELD_NULL, NULL},
    {"reasoning_content", FIELD_USED | FIELD_NULL, NULL},
    {"reasoning", FIELD_TELLS | FIELD_NULL, NULL},
    {"refusal", FIELD_TELLS | FIELD_NULL, NULL},
    {"annotations", FIELD_TELLS | FIELD_NULL, NULL},
    {"audio", FIELD_REFUSED | FIELD_NULL, "this model reads text alone"},
    {"function_call", FIELD_REFUSED | FIELD_NULL, "not supported: tool_calls are its successor"},
};

typedef struct Chat {
    Task          *t;
    aha_message   *m;    /* [n] */
    Buf           *text; /* [n] texts that had to be put together */
    aha_tool_call *call; /* of all messages */
    int            n, n_call;
    const char    *tools; /* JSON as it came, or NULL */
    size_t         tools_bytes;
    const char    *forced; /* "": some tool must be called; a name: that one; NULL: as the model likes */
    Refusal       *r;
} Chat;

static int wrong(Chat *c, int i, const char *key, const char *expected)
{
    char param[64];
    snprintf(param, sizeof param, "messages[%d].%s", i, key);
    return refuse(c->r, 400, "invalid_value", param, "%s: expected %s", param, expected);
}

/* ---- messages ---- */
/* A string, or a list of parts that are text. */
static int read_content(Chat *c, int i, const Json *v)
{
    Buf *b = &c->text[i];
    if (json_is_string(v)) {
        c->m[i].text = json_string_value(v);
        c->m[i].n_bytes = json_string_length(v);
        return 0;
    }
    if (!json_is_array(v)) return wrong(c, i, "content", "a string or a list of parts");
    for (size_t k = 0; k < json_array_size(v); k++) {
        const Json *part = json_array_get(v, k), *type = json_field(part, "type"), *text = json_field(part, "text");
        if (!json_is_string(type) || strcmp(json_string_value(type), "text") || !json_is_string(text))
            return wrong(c, i, "content", "parts of type \"text\": this model reads nothing else");
        buf_add(b, json_string_value(text), json_string_length(text));
    }
    if (b->failed) return refuse(c->r, 503, "overloaded", NULL, "no memory for the conversation");
    c->m[i].text = b->n ? b->data : "";
    c->m[i].n_bytes = b->n;
    return 0;
}

static int read_calls(Chat *c, int i, const Json *list)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || strcmp(c->m[i].role, "assistant")) return wrong(c, i, "tool_calls", "a list, of an assistant's message");
    if (c->n_call + (int)n > CALLS_MAX || n > CALLS_MAX) return wrong(c, i, "tool_calls", "fewer calls");
    c->m[i].calls = c->call + c->n_call;
    c->m[i].n_calls = (int)n;
    for (size_t k = 0; k < n; k++) {
        const Json *call = json_array_get(list, k), *type = json_field(call, "type"), *f = json_field(call, "function");
        const Json *name = json_field(f, "name"), *args = json_field(f, "arguments");
        if (type && (!json_is_string(type) || strcmp(json_string_value(type), "function"))) return wrong(c, i, "tool_calls", "calls of type \"function\"");
        if (!json_is_string(name) || !json_is_string(args)) return wrong(c, i, "tool_calls", "calls with function.name and function.arguments, both texts");
        c->call[c->n_call++] = (aha_tool_call){json_string_value(name), json_string_value(args), true, true};
    }
    return 0;
}

/* The last message, an assistant's that is to be continued; its thinking may be given too. */
static int read_prefix(Chat *c, int i, const Json *m)
{
    const Json *thought = json_field(m, "reasoning_content");
    Buf        *b = &c->text[i], whole = {0};
    c->m[i].prefix = true;
    if (strcmp(c->m[i].role, "assistant")) return wrong(c, i, "prefix", "true only of an assistant's message");
    if (!thought) return 0;
    if (!json_is_string(thought)) return wrong(c, i, "reasoning_content", "a text");
    buf_str(&whole, "<think>\n");
    buf_add(&whole, json_string_value(thought), json_string_length(thought));
    if (c->m[i].n_bytes) {
        buf_str(&whole, "\n</think>\n\n");
        buf_add(&whole, c->m[i].text, c->m[i].n_bytes);
    }
    buf_free(b);
    *b = whole;
    if (b->failed) return refuse(c->r, 503, "overloaded", NULL, "no memory for the conversation");
    c->m[i].text = b->data;
    c->m[i].n_bytes = b->n;
    return 0;
}

static int read_message(Chat *c, int i, const Json *m)
{
    const Json *role = json_field(m, "role"), *content = json_field(m, "content"), *calls = json_field(m, "tool_calls");
    bool        prefix = false;
    Refusal     inner;
    if (!json_is_object(m)) return wrong(c, i, "role", "an object with role and content");
    if (fields_check(m, MESSAGE_FIELDS, ARRAY_LEN(MESSAGE_FIELDS), &inner) || want_bool(m, "prefix", &prefix, &inner)) {
        char param[96];
        snprintf(param, sizeof param, "messages[%d].%.40s", i, inner.param);
        return refuse(c->r, 400, inner.code, param, "messages[%d].%.300s", i, inner.text);
    }
    if (!json_is_string(role)) return wrong(c, i, "role", "system, user, assistant or tool");
    c->m[i].role = json_string_value(role);
    if (!strcmp(c->m[i].role, "developer")) c->m[i].role = "system";
    if (strcmp(c->m[i].role, "system") && strcmp(c->m[i].role, "user") && strcmp(c->m[i].role, "assistant") && strcmp(c->m[i].role, "tool"))
        return wrong(c, i, "role", "system, user, assistant or tool");
    if (calls && read_calls(c, i, calls)) return -1;
    if (content ? read_content(c, i, content) : !calls && !prefix ? wrong(c, i, "content", "a string or a list of parts") : 0) return -1;
    return prefix ? read_prefix(c, i, m) : 0;
}

static int read_messages(Chat *c, const Json *list)
{
    size_t n = json_array_size(list);
    if (!n || n > MESSAGES_MAX)
        return refuse(c->r, 400, "invalid_value", "messages", "messages: expected a list of 1..%d messages", MESSAGES_MAX);
    c->m = mem_zalloc(n, sizeof *c->m);
    c->text = mem_zalloc(n, sizeof *c->text);
    c->call = mem_zalloc(CALLS_MAX, sizeof *c->call);
    if (!c->m || !c->text || !c->call) return refuse(c->r, 503, "overloaded", NULL, "no memory for %zu messages", n);
    for (int i = 0; i < (int)n; i++) {
        c->n = i + 1;
        if (read_message(c, i, json_array_get(list, (size_t)i))) return -1;
        if (c->m[i].prefix && i + 1 < (int)n) return wrong(c, i, "prefix", "true only of the last message");
    }
    return 0;
}

/* ---- tools ---- */
static bool tool_named(const Json *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const Json *tool = json_array_get(tools, i), *f = json_field(tool, "function"), *n = json_field(f ? f : tool, "name");
        if (json_is_string(n) && !strcmp(json_string_value(n), name)) return true;
    }
    return false;
}

static int bad_choice(Chat *c, const char *expected)
{
    return refuse(c->r, 400, "invalid_value", "tool_choice", "tool_choice: expected %s", expected);
}

static int read_choice(Chat *c, const Json *choice, const Json *tools)
{
    static const char NAME[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    const char       *word = json_is_string(choice) ? json_string_value(choice) : "";
    const Json       *name = json_field(json_field(choice, "function"), "name");
    if (!tools) return strcmp(word, "none") && strcmp(word, "auto") ? bad_choice(c, "none or auto where there are no tools") : 0;
    if (!strcmp(word, "auto")) return 0;
    if (!strcmp(word, "none")) {
        c->tools = NULL;
        return 0;
    }
    if (!strcmp(word, "required")) {
        c->forced = "";
        return 0;
    }
    if (!json_is_string(name)) return bad_choice(c, "none, auto, required or {\"type\": \"function\", \"function\": {\"name\": ...}}");
    c->forced = json_string_value(name);
    if (!*c->forced || strlen(c->forced) > NAME_MAX_BYTES || strspn(c->forced, NAME) != strlen(c->forced) || !tool_named(tools, c->forced))
        return bad_choice(c, "the name of one of the tools");
    c->t->ask.one_call = true;
    return 0;
}

static int read_tools(Chat *c, const Json *body)
{
    const Json *tools = json_field(body, "tools"), *choice = json_field(body, "tool_choice");
    bool        parallel = true;
    if (tools && !json_is_array(tools)) return refuse(c->r, 400, "invalid_type", "tools", "tools: expected a list");
    if (!json_array_size(tools)) tools = NULL;
    if (tools && !json_member(c->t->body.data, c->t->body.n, "tools", &c->tools, &c->tools_bytes))
        return refuse(c->r, 400, "invalid_value", "tools", "tools: the field's name must be written without escapes");
    if (want_bool(body, "parallel_tool_calls", &parallel, c->r)) return -1;
    c->t->ask.one_call = tools && !parallel;
    return choice ? read_choice(c, choice, tools) : 0;
}

/* More tokens behind *ids, which has n of them; text with control tokens. */
static int add_text(Chat *c, int32_t **ids, int *n, const Buf *text)
{
    aha_error e = {0};
    int32_t  *more = NULL, *all;
    int       n_more = 0;
    int       rc = text->failed ? error_set(&e, AHA_ERR_NOMEM, "no memory for a prompt") : aha_tokenize(c->t->s->g, text->data, text->n, true, &more, &n_more, &e);
    if (rc == 0 && !(all = mem_realloc(*ids, (size_t)(*n + n_more) * sizeof *all))) rc = error_set(&e, AHA_ERR_NOMEM, "no memory for a prompt");
    if (rc == 0) {
        *ids = all;
        memcpy(all + *n, more, (size_t)n_more * sizeof *all);
        *n += n_more;
    }
    aha_free(more);
    return rc ? refuse_error(c->r, &e, "tool_choice") : 0;
}

/* The answer is a call: what opens it follows the thinking, or without one is appended to the prompt and read as part of the answer. */
static int open_call(Chat *c, Prompt *p)
{
    Ask *a = &c->t->ask;
    Buf  close = {0}, call = {0};
    int  rc = 0, n = p->n;
    buf_str(&close, "\n</think>");
    if (p->think_open) buf_str(&call, "\n\n");
    buf_str(&call, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>");
    if (*c->forced) buf_fmt(&call, "%s\n```json\n", c->forced);
    if (p->think_open) {
        rc = add_text(c, &a->then, &a->n_then, &close);
        a->n_close = a->n_then;
        if (!rc) rc = add_text(c, &a->then, &a->n_then, &call);
    } else {
        rc = add_text(c, &p->id, &p->n, &call);
        p->n_primed = p->n - n;
    }
    buf_free(&close);
    buf_free(&call);
    return rc;
}

/* ---- thinking ---- */
static int read_effort(Ask *a, const Json *body, Refusal *r)
{
    const char *effort = NULL;
    if (want_str(body, "reasoning_effort", false, &effort, r)) return -1;
    if (!effort) return 0;
    int       budget;
    aha_error e = {0};
    if (aha_think_budget(effort, 1000, &budget, &e)) return refuse_error(r, &e, "reasoning_effort");
    if (budget == 0) a->think = AHA_THINK_OFF;
    else a->effort = effort;
    return 0;
}

static int read_thinking(Ask *a, const Json *body, Refusal *r)
{
    static const Field KNOWN[] = {{"type", FIELD_USED, NULL}, {"budget_tokens", FIELD_USED | FIELD_NULL, NULL}};
    const Json        *o = json_field(body, "thinking"), *type = json_field(o, "type");
    int64_t            budget = -1;
    if (read_effort(a, body, r) || want_int(body, "thinking_budget", 0, INT32_MAX, &budget, r)) return -1;
    if (o) {
        const char *word = json_is_string(type) ? json_string_value(type) : "";
        if (fields_check(o, KNOWN, ARRAY_LEN(KNOWN), r) || want_int(o, "budget_tokens", 0, INT32_MAX, &budget, r)) return -1;
        if (strcmp(word, "enabled") && strcmp(word, "disabled"))
            return refuse(r, 400, "invalid_value", "thinking", "thinking: type: expected enabled or disabled");
        if (!strcmp(word, "disabled")) a->think = AHA_THINK_OFF;
    }
    if (budget >= 0 && a->effort) return refuse(r, 400, "invalid_value", "thinking_budget", "thinking_budget and reasoning_effort, expected one of them");
    if (budget == 0) a->think = AHA_THINK_OFF;
    a->think_budget = budget > 0 ? (int)budget : -1;
    return 0;
}

/* ---- the whole ---- */
static int read_others(Task *t, const Json *body, Refusal *r)
{
    const Json *format = json_field(body, "response_format"), *type = json_field(format, "type"), *modes = json_field(body, "modalities");
    if (format && (!json_is_string(type) || strcmp(json_string_value(type), "text")))
        return refuse(r, 400, "unsupported_parameter", "response_format", "response_format: only {\"type\": \"text\"} is supported");
    for (size_t i = 0; i < json_array_size(modes); i++) {
        const Json *m = json_array_get(modes, i);
        if (!json_is_string(m) || strcmp(json_string_value(m), "text"))
            return refuse(r, 400, "unsupported_parameter", "modalities", "modalities: only [\"text\"] is supported");
    }
    return ask_logprobs(&t->ask, body, r);
}

static int render(Chat *c, Prompt *p)
{
    aha_error        e = {0};
    aha_chat_options o = AHA_CHAT_OPTIONS_INIT;
    o.think = c->forced && c->t->ask.think == AHA_THINK_TEMPLATE ? AHA_THINK_FORCED : c->t->ask.think; /* not open: nothing could follow it */
    o.tools = c->tools;
    o.tools_bytes = c->tools_bytes;
    if (c->forced && c->m[c->n - 1].prefix) return bad_choice(c, "none or auto where a prefix begins the answer");
    if (aha_chat_with(c->t->s->g, c->m, c->n, &o, &p->id, &p->n, &p->think_open, &e))
        return refuse_error(c->r, &e, strncmp(e.text, "tools", 5) ? "messages" : "tools");
    return c->forced ? open_call(c, p) : 0;
}

int chat_prompt(Task *t, const Json *body, Prompt *p, Refusal *r)
{
    Chat c = {.t = t, .r = r};
    int  rc = read_tools(&c, body);
    if (!rc) rc = read_messages(&c, json_field(body, "messages"));
    if (!rc) rc = render(&c, p);
    for (int i = 0; i < c.n; i++) buf_free(&c.text[i]);
    mem_free(c.text);
    mem_free(c.m);
    mem_free(c.call);
    return rc;
}

int chat_parse(Task *t, const Json *body, Refusal *r)
{
    if (fields_check(body, FIELDS, ARRAY_LEN(FIELDS), r) || ask_common(t, body, r) || read_others(t, body, r) || read_thinking(&t->ask, body, r) ||
        prompts_new(t, 1, r) || chat_prompt(t, body, t->ask.prompt, r)) return -1;
    return ask_room(t, r);
}
