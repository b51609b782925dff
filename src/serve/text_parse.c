/* /v1/completions: prompts as texts or ids. */
#include <jansson.h>
#include <string.h>

#include "inner.h"

enum { TEXT_NEW_DEFAULT = 16 /* OpenAI's */, TEXT_LOGPROBS_MAX = AHA_TOP_MAX };

static const Field FIELDS[] = {
    FIELDS_GENERATE,
    {"prompt", FIELD_USED, NULL},
    {"echo", FIELD_USED | FIELD_NULL, NULL},
    {"best_of", FIELD_USED | FIELD_NULL, NULL},
    {"suffix", FIELD_REFUSED | FIELD_NULL, "not supported: R1's models were not made to fill gaps"},
    {"response_format", FIELD_REFUSED | FIELD_NULL, "not supported here"},
};

static int bad_prompt(Refusal *r)
{
    return refuse(r, 400, "invalid_value", "prompt", "prompt: expected a text, a list of at most %d texts, a list of token ids, or a list of such lists",
                  CHOICES_MAX);
}

/* One beginning-of-sentence token stands before a text, if the model has one. */
static int add_text(Task *t, Prompt *p, const char *text, size_t n, Refusal *r)
{
    static const char BOS[] = "<｜begin▁of▁sentence｜>";
    aha_error e = {0};
    int32_t  *bos = NULL, *ids = NULL;
    int       n_bos = 0, n_ids = 0;
    int       rc = aha_tokenize(t->s->g, BOS, sizeof BOS - 1, true, &bos, &n_bos, &e);
    if (rc == 0) rc = aha_tokenize(t->s->g, text, n, false, &ids, &n_ids, &e);
    if (n_bos != 1) n_bos = 0;
    if (rc == 0 && !(p->id = mem_alloc((size_t)(n_bos + n_ids + 1) * sizeof *p->id))) rc = error_set(&e, AHA_ERR_NOMEM, "no memory for a prompt");
    if (rc == 0) {
        if (n_bos) p->id[0] = bos[0];
        if (n_ids) memcpy(p->id + n_bos, ids, (size_t)n_ids * sizeof *ids);
        p->n = n_bos + n_ids;
        p->n_bos = n_bos;
    }
    aha_free(bos);
    aha_free(ids);
    if (rc == 0 && p->n < 1) rc = error_set(&e, AHA_ERR_ARG, "prompt: no token");
    return rc ? refuse_error(r, &e, "prompt") : 0;
}

static int add_ids(Task *t, Prompt *p, const Json *list, Refusal *r)
{
    size_t n = json_array_size(list);
    if (!n || n > (size_t)t->s->info.ctx) return refuse(r, 400, "context_length_exceeded", "prompt", "prompt: %zu ids, expected 1..%d", n, t->s->info.ctx);
    if (!(p->id = mem_alloc(n * sizeof *p->id))) return refuse(r, 503, "overloaded", NULL, "no memory for a prompt");
    for (size_t i = 0; i < n; i++) {
        const Json *v = json_array_get(list, i);
        json_int_t  id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= t->s->info.vocab)
            return refuse(r, 400, "invalid_value", "prompt", "prompt: token %zu is no id of 0..%d", i, t->s->info.vocab - 1);
        p->id[i] = (int32_t)id;
    }
    p->n = (int)n;
    return 0;
}

static int add_prompt(Task *t, Prompt *p, const Json *v, Refusal *r)
{
    if (json_is_string(v)) return add_text(t, p, json_string_value(v), json_string_length(v), r);
    return json_is_array(v) ? add_ids(t, p, v, r) : bad_prompt(r);
}

static int read_prompts(Task *t, const Json *v, Refusal *r)
{
    size_t      n = json_array_size(v);
    const Json *first = json_array_get(v, 0);
    if (json_is_string(v) || json_is_integer(first)) return prompts_new(t, 1, r) || add_prompt(t, &t->ask.prompt[0], v, r) ? -1 : 0;
    if (!n || n > CHOICES_MAX) return bad_prompt(r);
    if (prompts_new(t, (int)n, r)) return -1;
    for (size_t i = 0; i < n; i++)
        if (add_prompt(t, &t->ask.prompt[i], json_array_get(v, i), r)) return -1;
    return 0;
}

int text_parse(Task *t, const Json *body, Refusal *r)
{
    Ask    *a = &t->ask;
    int64_t logprobs = -1, best = 0;
    const Json *max = json_field(body, "max_tokens");
    bool    none = json_is_integer(max) && json_integer_value(max) == 0;
    if (fields_check(body, FIELDS, ARRAY_LEN(FIELDS), r)) return -1;
    if (none) json_object_set_new((json_t *)body, "max_tokens", json_integer(1)); /* allowed here, with echo */
    if (ask_common(t, body, r) || want_int(body, "logprobs", 0, TEXT_LOGPROBS_MAX, &logprobs, r) || want_bool(body, "echo", &a->echo, r) ||
        want_int(body, "best_of", 1, CHOICES_MAX, &best, r)) return -1;
    if (none && !a->echo) return refuse(r, 400, "invalid_value", "max_tokens", "max_tokens: 0, expected at least 1 without echo");
    if (best && best != a->n) return refuse(r, 400, "unsupported_parameter", "best_of", "best_of: %lld, expected n (%d): answers are not ranked", (long long)best, a->n);
    if (a->echo && a->stream) return refuse(r, 400, "unsupported_parameter", "echo", "echo: not in a stream");
    a->plain = true;
    a->nothing_new = none;
    a->logprobs = (int)logprobs;
    if (!max) a->max_new = TEXT_NEW_DEFAULT;
    return read_prompts(t, json_field(body, "prompt"), r) ? -1 : ask_room(t, r);
}
