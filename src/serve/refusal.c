/* Refusals: one shape, as OpenAI's API has it. */
#include <stdio.h>
#include <string.h>

#include "inner.h"

static const char *type_of(int status)
{
    return status == 401 ? "authentication_error" : status == 403 ? "permission_error" : status == 429 ? "rate_limit_error"
           : status >= 500 ? "server_error" : "invalid_request_error";
}

int refuse(Refusal *r, int status, const char *code, const char *param, const char *fmt, ...)
{
    va_list ap;
    *r = (Refusal){.status = status, .type = type_of(status), .code = code};
    if (param) snprintf(r->param, sizeof r->param, "%s", param);
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    return -1;
}

int refuse_error(Refusal *r, const aha_error *e, const char *param)
{
    switch (e->code) {
    case AHA_ERR_FORMAT:
    case AHA_ERR_ARG: return refuse(r, 400, "invalid_value", param, "%s", e->text);
    case AHA_ERR_UNSUPPORTED: return refuse(r, 400, "unsupported_value", param, "%s", e->text);
    case AHA_ERR_LIMIT: return refuse(r, 400, "context_length_exceeded", param, "%s", e->text);
    case AHA_ERR_IO: return refuse(r, 503, "model_damaged", NULL, "%s", e->text);
    case AHA_ERR_CANCELLED: return refuse(r, 503, "shutting_down", NULL, "%s", e->text);
    case AHA_ERR_NOMEM: return refuse(r, 503, "overloaded", NULL, "%s", e->text);
    default: return refuse(r, 500, "internal_error", NULL, "%s", e->text);
    }
}

static void add_or_null(Buf *out, const char *s)
{
    if (s && *s) buf_json(out, s, strlen(s));
    else buf_str(out, "null");
}

int refuse_key(Refusal *r, KeyAdmit a, const KeyRefusal *why)
{
    refuse(r, a == KEY_GONE ? 401 : 429, a == KEY_GONE ? "invalid_api_key" : a == KEY_OVER_QUOTA ? "insufficient_quota" : "rate_limit_exceeded",
           NULL, "%s", why->words);
    r->retry_after_s = why->retry_s;
    return -1;
}

void refusal_json(const Refusal *r, Buf *out)
{
    buf_str(out, "{\"error\":{\"message\":");
    buf_json(out, r->text, strlen(r->text));
    buf_str(out, ",\"type\":");
    add_or_null(out, r->type);
    buf_str(out, ",\"param\":");
    add_or_null(out, r->param);
    buf_str(out, ",\"code\":");
    add_or_null(out, r->code);
    buf_str(out, "}}");
}
