/* /v1/chat/completions: a conversation from JSON to the ids of a prompt. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "inner.h"

enum { MESSAGES_MAX = 4096 };

static const Field FIELDS[] = {
    {"model", FIELD_USED, NULL},
    {"messages", FIELD_USED, NULL},
    {"stream", FIELD_USED | FIELD_NULL, NULL},
    {"stream_options", FIELD_USED | FIELD_NULL, NULL},
    {"n", FIELD_USED | FIELD_NULL, NULL},
    {"max_tokens", FIELD_USED | FIELD_NULL, NULL},
    {"max_completion_tokens", FIELD_USED | FIELD_NULL, NULL},
    {"temperature", FIELD_USED | FIELD_NULL, NULL},
    {"top_p", FIELD_USED | FIELD_NULL, NULL},
    {"top_k", FIELD_USED | FIELD_NULL, NULL},
    {"min_p", FIELD_USED | FIELD_NULL, NULL},
    {"seed", FIELD_USED | FIELD_NULL, NULL},
    {"user", FIELD_TELLS, NULL},
    {"metadata", FIELD_TELLS | FIELD_NULL, NULL},
    {"store", FIELD_TELLS | FIELD_NULL, NULL},
    {"service_tier", FIELD_TELLS | FIELD_NULL, NULL},
    {"safety_identifier", FIELD_TELLS, NULL},
    {"prompt_cache_key", FIELD_TELLS, NULL},
};

typedef struct Chat {
    Task        *t;
    aha_message *m; /* [n] */
    Buf         *text; /* [n] texts that had to be put together */
    int          n;
    Refusal     *r;
} Chat;

static int wrong(Chat *c, int i, const char *key, const char *expected)
{
    char param[64];
    snprintf(param, sizeof param, "messages[%d].%s", i, key);
    return refuse(c->r, 400, "invalid_value", param, "%s: expected %s", param, expected);
}

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

static int read_message(Chat *c, int i, const Json *m)
{
    const Json *role = json_field(m, "role"), *content = json_field(m, "content");
    if (!json_is_object(m)) return wrong(c, i, "role", "an object with role and content");
    if (!json_is_string(role)) return wrong(c, i, "role", "system, user, assistant or tool");
    c->m[i].role = json_string_value(role);
    if (!strcmp(c->m[i].role, "developer")) c->m[i].role = "system";
    if (!content) return wrong(c, i, "content", "a string or a list of parts");
    return read_content(c, i, content);
}

static int read_messages(Chat *c, const Json *list)
{
    size_t n = json_array_size(list);
    if (!n || n > MESSAGES_MAX)
        return refuse(c->r, 400, "invalid_value", "messages", "messages: expected a list of 1..%d messages", MESSAGES_MAX);
    c->m = mem_zalloc(n, sizeof *c->m);
    c->text = mem_zalloc(n, sizeof *c->text);
    if (!c->m || !c->text) return refuse(c->r, 503, "overloaded", NULL, "no memory for %zu messages", n);
    for (c->n = 0; c->n < (int)n; c->n++)
        if (read_message(c, c->n, json_array_get(list, (size_t)c->n))) {
            c->n++;
            return -1;
        }
    return 0;
}

static int render(Chat *c)
{
    Ask      *a = &c->t->ask;
    aha_error e = {0};
    a->prompt = mem_zalloc(1, sizeof *a->prompt);
    if (!a->prompt) return refuse(c->r, 503, "overloaded", NULL, "no memory for a prompt");
    a->n_prompt = 1;
    if (aha_chat(c->t->s->g, c->m, c->n, &a->prompt->id, &a->prompt->n, &a->prompt->think_open, &e))
        return refuse_error(c->r, &e, "messages");
    return 0;
}

int chat_parse(Task *t, const Json *body, Refusal *r)
{
    Chat c = {.t = t, .r = r};
    int  rc = fields_check(body, FIELDS, ARRAY_LEN(FIELDS), r);
    if (!rc) rc = ask_common(t, body, r);
    if (!rc) rc = read_messages(&c, json_field(body, "messages"));
    if (!rc) rc = render(&c);
    if (!rc) rc = ask_room(t, r);
    for (int i = 0; i < c.n; i++) buf_free(&c.text[i]);
    mem_free(c.text);
    mem_free(c.m);
    return rc;
}
