/* Small answers: models, health, counters. */
#include <string.h>

#include "inner.h"

static void model_json(const Server *s, const char *id, size_t n, Buf *out)
{
    const aha_engine_info *i = &s->info;
    buf_str(out, "{\"id\":");
    buf_json(out, id, n);
    buf_fmt(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"aha\",\"max_model_len\":%d,\"aha\":{\"architecture\":\"%s\","
                 "\"parameters\":%lld,\"parameters_active\":%lld,\"context\":%d,\"vocabulary\":%d,\"chat_template\":\"%s\","
                 "\"chat_template_known\":%s,\"key_cache\":\"%s\",\"instruction_set\":\"%s\"}}",
            (long long)s->started, i->ctx, i->arch, (long long)i->parameters, (long long)i->parameters_active, i->ctx, i->vocab,
            i->chat_template, i->chat_known ? "true" : "false", i->kv_type, i->isa);
}

int models_now(Exchange *x, Refusal *r)
{
    Server     *s = exchange_server(x);
    const char *path = exchange_path(x), *id = strstr(path, "models/");
    Buf         out = {0};
    char        quoted[80];
    if (id) {
        id += 7;
        if (!name_listed(s->o.model, id))
            return refuse(r, 404, "model_not_found", "model", "there is no model \"%s\" here", error_quote(quoted, sizeof quoted, id, strlen(id)));
        model_json(s, id, strlen(id), &out);
    } else {
        buf_str(&out, "{\"object\":\"list\",\"data\":[");
        for (const char *p = s->o.model; *p; p += strcspn(p, ","), p += *p == ',') {
            if (p != s->o.model) buf_str(&out, ",");
            model_json(s, p, strcspn(p, ","), &out);
        }
        buf_str(&out, "]}");
    }
    exchange_answer(x, 200, "application/json", &out);
    buf_free(&out);
    return 0;
}

int health_now(Exchange *x, Refusal *r)
{
    const Server *s = exchange_server(x);
    const char   *status = os_shrunk() ? "model damaged" : s->draining ? "shutting down" : "ok";
    Buf           out = {0};
    (void)r;
    buf_fmt(&out, "{\"status\":\"%s\",\"requests\":%d,\"sequences\":%d,\"slots\":%d,\"queue\":%d}", status, s->n_admitted,
            atomic_load(&s->n_seqs), s->info.seqs, s->o.queue);
    exchange_answer(x, strcmp(status, "ok") ? 503 : 200, "application/json", &out);
    buf_free(&out);
    return 0;
}

int metrics_now(Exchange *x, Refusal *r)
{
    Buf out = {0};
    (void)r;
    metrics_text(exchange_server(x), &out);
    exchange_answer(x, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
    buf_free(&out);
    return 0;
}
