/* What requests of all kinds have in common: fields, their bounds, sampling, room in the context. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
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
    aha_sample_options *o = &a->sample;
    double  temperature = o->temperature, top_p = o->top_p, min_p = 0, presence = 0, frequency = 0, repetition = 1;
    int64_t top_k = 0, seed = 0, repeat = a->repeat_min;
    if (want_num(body, "temperature", 0, 2, &temperature, r) || want_num(body, "top_p", 0, 1, &top_p, r) ||
        want_num(body, "min_p", 0, 1, &min_p, r) || want_int(body, "top_k", -1, INT32_MAX, &top_k, r) ||
        want_num(body, "presence_penalty", -2, 2, &presence, r) || want_num(body, "frequency_penalty", -2, 2, &frequency, r) ||
        want_num(body, "repetition_penalty", 0.1, 10, &repetition, r) || want_int(body, "repetition_stop", 0, AHA_REPEAT_MAX, &repeat, r) ||
        want_int(body, "seed", INT64_MIN, INT64_MAX, &seed, r)) return -1;
    if (repeat && repeat < AHA_REPEAT_MIN)
        return refuse(r, 400, "invalid_value", "repetition_stop", "repetition_stop: got %d, expected 0 (off) or %d..%d tokens", (int)repeat, AHA_REPEAT_MIN, AHA_REPEAT_MAX);
    o->temperature = (float)temperature;
    o->top_p = top_p > 1e-6 ? (float)top_p : 1e-6f; /* 0: the likeliest alone */
    o->min_p = (float)min_p;
    o->top_k = top_k > 0 ? (int)top_k : 0; /* -1 is "off" to some clients */
    o->presence_penalty = (float)presence;
    o->frequency_penalty = (float)frequency;
    o->repetition_penalty = (float)repetition;
    o->seed = json_field(body, "seed") ? (uint64_t)seed : os_random_u64();
    a->repeat_min = (int)repeat;
    return 0;
}

/* {"ID": bias}: ids as text, for that is what keys are. */
static int ask_bias(Task *t, const Json *body, Refusal *r)
{
    Ask        *a = &t->ask;
    const Json *o = json_field(body, "logit_bias");
    const char *key;
    json_t     *v;
    char        quoted[32];
    if (!o) return 0;
    if (!json_is_object(o)) return refuse(r, 400, "invalid_type", "logit_bias", "logit_bias: expected an object of token ids and biases");
    size_t n = json_object_size(o);
    if (n > AHA_BIAS_MAX) return refuse(r, 400, "invalid_value", "logit_bias", "logit_bias: %zu tokens, expected at most %d", n, AHA_BIAS_MAX);
    if (!(a->bias = mem_zalloc(n + 1, sizeof *a->bias))) return refuse(r, 503, "overloaded", NULL, "no memory for logit_bias");
    json_object_foreach((json_t *)o, key, v) {
        size_t digits = strspn(key, "0123456789"), len = strlen(key);
        long   id = digits && digits == len && len < 10 ? strtol(key, NULL, 10) : -1;
        double bias = json_number_value(v);
        if (id < 0 || id >= t->s->info.vocab)
            return refuse(r, 400, "invalid_value", "logit_bias", "logit_bias: token \"%s\", expected an id of 0..%d", error_quote(quoted, sizeof quoted, key, len),
                          t->s->info.vocab - 1);
        if (!json_is_number(v) || !(bias >= -100 && bias <= 100))
            return refuse(r, 400, "invalid_value", "logit_bias", "logit_bias: the bias of token %ld, expected a number of -100..100", id);
        for (int i = 0; i < a->sample.n_bias; i++)
            if (a->bias[i].token == (int32_t)id) return refuse(r, 400, "invalid_value", "logit_bias", "logit_bias: token %ld twice", id);
        a->bias[a->sample.n_bias++] = (aha_logit_bias){(int32_t)id, (float)bias};
    }
    return 0;
}

static int one_stop(Task *t, const Json *v, Refusal *r)
{
    Ask   *a = &t->ask;
    size_t n = json_is_string(v) ? json_string_length(v) : 0;
    if (!n || n > AHA_STOP_BYTES_MAX)
        return refuse(r, 400, "invalid_value", "stop", "stop: expected texts of 1..%d bytes", AHA_STOP_BYTES_MAX);
    a->stop[a->n_stop] = (aha_bytes){json_string_value(v), n};
    buf_add(&t->stop_texts[a->n_stop++], json_string_value(v), n);
    return 0;
}

static int ask_stop(Task *t, const Json *body, Refusal *r)
{
    const Json *v = json_field(body, "stop");
    size_t      n = json_array_size(v);
    if (!v) return 0;
    if (!json_is_string(v) && !json_is_array(v)) return refuse(r, 400, "invalid_type", "stop", "stop: expected a text or a list of texts");
    if (n > AHA_STOP_MAX) return refuse(r, 400, "invalid_value", "stop", "stop: %zu texts, expected at most %d", n, AHA_STOP_MAX);
    if (!(t->stop_texts = mem_zalloc(AHA_STOP_MAX, sizeof *t->stop_texts))) return refuse(r, 503, "overloaded", NULL, "no memory for stop");
    if (json_is_string(v)) return one_stop(t, v, r);
    for (size_t i = 0; i < n; i++)
        if (one_stop(t, json_array_get(v, i), r)) return -1;
    return 0;
}

int ask_logprobs(Ask *a, const Json *body, Refusal *r)
{
    bool    want = false;
    int64_t top = -1;
    if (want_bool(body, "logprobs", &want, r) || want_int(body, "top_logprobs", 0, AHA_TOP_MAX, &top, r)) return -1;
    if (top >= 0 && !want) return refuse(r, 400, "invalid_value", "top_logprobs", "top_logprobs: only with \"logprobs\": true");
    a->logprobs = !want ? -1 : top > 0 ? (int)top : 0;
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
    *a = (Ask){.n = 1, .logprobs = -1, .sample = AHA_SAMPLE_OPTIONS_INIT, .think_budget = -1, .repeat_min = AHA_REPEAT_DEFAULT};
    if (ask_model(t, body, r) || ask_stream(a, body, r) || ask_length(t, body, r) || ask_sampling(a, body, r) || ask_bias(t, body, r) ||
        ask_stop(t, body, r)) return -1;
    a->sample.bias = a->bias;
    if (want_int(body, "n", 1, CHOICES_MAX, &n, r)) return -1;
    a->n = (int)n;
    return 0;
}

int prompts_new(Task *t, int n, Refusal *r)
{
    t->ask.prompt = mem_zalloc((size_t)n, sizeof *t->ask.prompt);
    if (!t->ask.prompt) return refuse(r, 503, "overloaded", NULL, "no memory for %d prompts", n);
    t->ask.n_prompt = n;
    return 0;
}

/* At most what it can use.  An answer of open length may become as long as the context, and almost none does: reserving that much
 * would let a key ask for few things at a time. */
static int64_t reserve_of(const Ask *a, bool open)
{
    int64_t n = 0, each = open && a->max_new > RESERVE_UNSAID ? RESERVE_UNSAID : a->max_new;
    for (int i = 0; i < a->n_prompt; i++) n += a->prompt[i].n + a->n * each;
    return n;
}

int ask_room(Task *t, Refusal *r)
{
    int longest = 0, ctx = t->s->info.ctx;
    for (int i = 0; i < t->ask.n_prompt; i++)
        if (t->ask.prompt[i].n > longest) longest = t->ask.prompt[i].n;
    if (longest >= ctx)
        return refuse(r, 400, "context_length_exceeded", t->route->dialect == &dialect_chat ? "messages" : "prompt",
                      "the prompt has %d tokens, the context holds %d, answer included", longest, ctx);
    bool open = !t->ask.max_new;
    if (open || t->ask.max_new > ctx - longest) t->ask.max_new = ctx - longest;
    t->ask.reserve = reserve_of(&t->ask, open);
    aha_error e = {0};
    if (t->ask.then && !t->ask.effort && t->ask.think_budget < 0) t->ask.effort = "high"; /* there must be room for what follows */
    if (t->ask.effort && aha_think_budget(t->ask.effort, t->ask.max_new, &t->ask.think_budget, &e)) return refuse_error(r, &e, "reasoning_effort");
    return 0;
}
