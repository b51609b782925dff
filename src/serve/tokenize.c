/* /tokenize and /detokenize: text or a conversation to ids, ids to text. */
#include <jansson.h>
#include <string.h>

#include "inner.h"

static const Field FIELDS[] = {{"model", FIELD_TELLS | FIELD_NULL, NULL}, {"prompt", FIELD_USED, NULL}, {"messages", FIELD_USED, NULL},
                               {"tools", FIELD_USED | FIELD_NULL, NULL}, {"tool_choice", FIELD_USED | FIELD_NULL, NULL},
                               {"add_special_tokens", FIELD_USED, NULL}};
static const Field BACK_FIELDS[] = {{"model", FIELD_TELLS | FIELD_NULL, NULL}, {"tokens", FIELD_USED, NULL}};

static int text_ids(Task *t, const Json *body, Prompt *p, Refusal *r)
{
    const char *text = NULL;
    aha_error   e = {0};
    if (want_str(body, "prompt", true, &text, r)) return -1;
    return aha_tokenize(t->s->g, text, strlen(text), false, &p->id, &p->n, &e) ? refuse_error(r, &e, "prompt") : 0;
}

int tokenize_parse(Task *t, const Json *body, Refusal *r)
{
    Prompt p = {0};
    bool   special = false;
    if (fields_check(body, FIELDS, ARRAY_LEN(FIELDS), r)) return -1;
    if (want_bool(body, "add_special_tokens", &special, r)) return -1;
    if (special) return refuse(r, 400, "unsupported_parameter", "add_special_tokens", "add_special_tokens: only false: messages show a whole prompt");
    int rc = json_field(body, "messages") ? chat_prompt(t, body, &p, r) : text_ids(t, body, &p, r);
    if (rc == 0) {
        buf_str(&t->whole, "{\"tokens\":[");
        for (int i = 0; i < p.n; i++) buf_fmt(&t->whole, i ? ",%d" : "%d", (int)p.id[i]);
        buf_fmt(&t->whole, "],\"count\":%d,\"max_model_len\":%d}", p.n, t->s->info.ctx);
    }
    aha_free(p.id);
    return rc;
}

int detokenize_parse(Task *t, const Json *body, Refusal *r)
{
    const Json *list = json_field(body, "tokens");
    size_t      n = json_array_size(list), n_text = 0;
    char       *text = NULL;
    aha_error   e = {0};
    if (fields_check(body, BACK_FIELDS, ARRAY_LEN(BACK_FIELDS), r)) return -1;
    if (!json_is_array(list) || n > 1 << 22) return refuse(r, 400, "invalid_value", "tokens", "tokens: expected a list of ids");
    int32_t *id = mem_alloc((n + 1) * sizeof *id);
    int      rc = id ? 0 : refuse(r, 503, "overloaded", NULL, "no memory for %zu ids", n);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const Json *v = json_array_get(list, i);
        json_int_t  k = json_is_integer(v) ? json_integer_value(v) : -1;
        if (k < 0 || k >= t->s->info.vocab) rc = refuse(r, 400, "invalid_value", "tokens", "tokens: number %zu is no id of 0..%d", i, t->s->info.vocab - 1);
        else id[i] = (int32_t)k;
    }
    if (rc == 0 && aha_detokenize(t->s->g, id, (int)n, &text, &n_text, &e)) rc = refuse_error(r, &e, "tokens");
    if (rc == 0) {
        buf_str(&t->whole, "{\"prompt\":");
        buf_json(&t->whole, text, n_text);
        buf_str(&t->whole, "}");
    }
    aha_free(text);
    mem_free(id);
    return rc;
}
