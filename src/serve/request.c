/* What requests of all kinds have in common: fields, their bounds, sampling, room in the context. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "inner.h"

int fields_check(const Json *body, const Field *f, int n, Refusal *r)
{
    const char *key, *names[96];
    json_t     *v;
    char        quoted[64];
    if (!json_is_object(body)) return refuse(r, 400, "invalid_type", NULL, "the body is no JSON object");
    for (int i = 0; i < n && i < (int)ARRAY_LEN(names); i++) names[i] = f[i].name;
    json_object_foreach((json_t *)body, key, v) {
        const Field *is = NULL;
        for (int i = 0; i < n && !is; i++)
            if (!strcmp(f[i].name, key)) is = &f[i];
        error_quote(quoted, sizeof quoted, key, strlen(key));
        if (!is) {
            const char *near = name_nearest(key, names, n < (int)ARRAY_LEN(names) ? n : (int)ARRAY_LEN(names));
            return refuse(r, 400, "unknown_parameter", quoted, "%s: no such parameter%s%s%s", quoted, near ? "; did you mean " : "",
                          near ? near : "", near ? "?" : "");
        }
        if (json_is_null(v)) {
            if (!(is->kind & FIELD_NULL)) return refuse(r, 400, "invalid_type", key, "%s: null, expected a value or no such field", key);
        } else if (is->kind & FIELD_REFUSED) {
            return refuse(r, 400, "unsupported_parameter", key, "%s: %s", key, is->why ? is->why : "not supported by this server");
        }
    }
    return 0;
}

/* The reader's message, without the name of what was read. */
static int field_refused(Refusal *r, const aha_error *e, const char *key)
{
    const char *text = strncmp(e->text, "request: ", 9) ? e->text : e->text + 9;
    return refuse(r, e->code == AHA_ERR_FORMAT ? 400 : 500, "invalid_value", key, "%s", text);
}

int want_int(const Json *o, const char *key, int64_t lo, int64_t hi, int64_t *out, Refusal *r)
{
    aha_error e;
    return json_get_int(o, "request", key, false, lo, hi, out, &e) ? field_refused(r, &e, key) : 0;
}

int want_num(const Json *o, const char *key, double lo, double hi, double *out, Refusal *r)
{
    aha_error e;
    return json_get_num(o, "request", key, false, lo, hi, out, &e) ? field_refused(r, &e, key) : 0;
}

int want_bool(const Json *o, const char *key, bool *out, Refusal *r)
{
    aha_error e;
    return json_get_bool(o, "request", key, false, out, &e) ? field_refused(r, &e, key) : 0;
}

int want_str(const Json *o, const char *key, bool required, const char **out, Refusal *r)
{
    aha_error e;
    return json_get_str(o, "request", key, required, out, &e) ? field_refused(r, &e, key) : 0;
}

/* One of the names in a list with commas between. */
bool name_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; p && *p; p += strcspn(p, ","), p += *p == ',') {
        size_t len = strcspn(p, ",");
        if (n && len == n && !memcmp(p, name, n)) return true;
    }
    return false;
}

static int ask_model(Task *t, const Json *body, Refusal *r)
{
    const char *model = NULL;
    char        quoted[80];
    if (want_str(body, "model", true, &model, r)) return -1;
    if (name_listed(t->s->o.model, model)) return 0;
    return refuse(r, 404, "model_not_found", "model", "model: there is no \"%s\" here; this server has \"%s\"",
                  error_quote(quoted, sizeof quoted, model, strlen(model)), t->s->model);
}

static int ask_sampling(Ask *a, const Json *body, Refusal *r)
{
    double  temperature = a->sample.temperature, top_p = a->sample.top_p, min_p = 0;
    int64_t top_k = 0, seed = 0;
    if (want_num(body, "temperature", 0, 2, &temperature, r)) return -1;
    if (want_num(body, "top_p", 0, 1, &top_p, r)) return -1;
    if (want_num(body, "min_p", 0, 1, &min_p, r)) return -1;
    if (want_int(body, "top_k", -1, INT32_MAX, &top_k, r)) return -1;
    if (want_int(body, "seed", INT64_MIN, INT64_MAX, &seed, r)) return -1;
    a->sample.temperature = (float)temperature;
    a->sample.top_p = top_p > 0 ? (float)top_p : 1e-6f; /* 0: the likeliest alone */
    a->sample.min_p = (float)min_p;
    a->sample.top_k = top_k > 0 ? (int)top_k : 0; /* -1 is "off" to some clients */
    a->sample.seed = json_field(body, "seed") ? (uint64_t)seed : os_random_u64();
    return 0;
}

static int ask_stream(Ask *a, const Json *body, Refusal *r)
{
    static const Field OPTIONS[] = {{"include_usage", FIELD_USED | FIELD_NULL, NULL}, {"include_obfuscation", FIELD_TELLS | FIELD_NULL, NULL}};
    const Json        *o = json_field(body, "stream_options");
    if (want_bool(body, "stream", &a->stream, r)) return -1;
    if (!o) return 0;
    if (!json_is_object(o)) return refuse(r, 400, "invalid_type", "stream_options", "stream_options: expected an object");
    if (!a->stream) return refuse(r, 400, "invalid_value", "stream_options", "stream_options: only with \"stream\": true");
    if (fields_check(o, OPTIONS, ARRAY_LEN(OPTIONS), r)) return -1;
    return want_bool(o, "include_usage", &a->include_usage, r);
}

static int ask_length(Task *t, const Json *body, Refusal *r)
{
    int64_t old = 0, max = 0;
    if (want_int(body, "max_tokens", 1, t->s->info.ctx, &old, r) || want_int(body, "max_completion_tokens", 1, t->s->info.ctx, &max, r)) return -1;
    if (old && max && old != max)
        return refuse(r, 400, "invalid_value", "max_tokens", "max_tokens: %lld, and max_completion_tokens: %lld, expected one of them",
                      (long long)old, (long long)max);
    t->ask.max_new = (int)(max ? max : old);
    return 0;
}

int ask_common(Task *t, const Json *body, Refusal *r)
{
    Ask    *a = &t->ask;
    int64_t n = 1;
    *a = (Ask){.n = 1, .logprobs = -1, .sample = AHA_SAMPLE_OPTIONS_INIT};
    if (ask_model(t, body, r) || ask_stream(a, body, r) || ask_length(t, body, r) || ask_sampling(a, body, r)) return -1;
    if (want_int(body, "n", 1, CHOICES_MAX, &n, r)) return -1;
    a->n = (int)n;
    return 0;
}

int ask_room(Task *t, Refusal *r)
{
    int longest = 0, ctx = t->s->info.ctx;
    for (int i = 0; i < t->ask.n_prompt; i++)
        if (t->ask.prompt[i].n > longest) longest = t->ask.prompt[i].n;
    if (longest >= ctx)
        return refuse(r, 400, "context_length_exceeded", t->route->dialect == &dialect_chat ? "messages" : "prompt",
                      "the prompt has %d tokens, the context holds %d, answer included", longest, ctx);
    if (!t->ask.max_new || t->ask.max_new > ctx - longest) t->ask.max_new = ctx - longest;
    return 0;
}
