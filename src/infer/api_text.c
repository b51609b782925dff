/* The public API's text side: thin over src/text. */
#include "api.h"

int api_tokenizer(const aha_engine *g, const Tokenizer **t, aha_error *e)
{
    *t = g->words.tok;
    return *t ? 0 : error_set(e, AHA_ERR_STATE, "this model came without a tokenizer.json: only token ids work");
}

void aha_free(void *p) { mem_free(p); }

static int give_ids(Ids *v, int rc, int32_t **ids, int *n, aha_error *e)
{
    if (rc == 0 && v->n > INT32_MAX) rc = error_set(e, AHA_ERR_LIMIT, "%zu tokens, expected at most %d", v->n, INT32_MAX);
    if (rc == 0 && !v->id && !(v->id = mem_alloc(sizeof *v->id))) rc = error_set(e, AHA_ERR_NOMEM, "no memory for ids");
    if (rc) {
        ids_free(v);
        return rc;
    }
    *ids = v->id;
    *n = (int)v->n;
    return 0;
}

int aha_tokenize(const aha_engine *g, const char *text, size_t n_bytes, bool special, int32_t **ids, int *n, aha_error *e)
{
    const Tokenizer *t;
    Ids              v = {0};
    int              rc = api_tokenizer(g, &t, e);
    *ids = NULL;
    *n = 0;
    if (rc == 0) rc = tokenizer_encode(t, text, n_bytes, special ? TOK_SPECIAL : 0, &v, e);
    return give_ids(&v, rc, ids, n, e);
}

int aha_detokenize(const aha_engine *g, const int32_t *ids, int n, char **text, size_t *n_bytes, aha_error *e)
{
    const Tokenizer *t;
    Buf              b = {0};
    int              rc = api_tokenizer(g, &t, e);
    *text = NULL;
    *n_bytes = 0;
    if (rc == 0 && n < 0) rc = error_set(e, AHA_ERR_ARG, "%d ids", n);
    if (rc) return rc;
    buf_str(&b, "");
    tokenizer_decode(t, ids, (size_t)n, &b);
    if (b.failed) {
        buf_free(&b);
        return error_set(e, AHA_ERR_NOMEM, "no memory for the text of %d tokens", n);
    }
    *text = b.data;
    *n_bytes = b.n;
    return 0;
}

static int role_of(const char *name, int i, ChatRole *out, aha_error *e)
{
    static const char *const ROLES[] = {[ROLE_SYSTEM] = "system", [ROLE_USER] = "user", [ROLE_ASSISTANT] = "assistant", [ROLE_TOOL] = "tool"};
    char                     quoted[64];
    for (size_t r = 0; name && r < ARRAY_LEN(ROLES); r++)
        if (strcmp(name, ROLES[r]) == 0) {
            *out = (ChatRole)r;
            return 0;
        }
    return error_set(e, AHA_ERR_ARG, "message %d has the role \"%s\", expected system, user, assistant or tool", i,
                     name ? error_quote(quoted, sizeof quoted, name, strlen(name)) : "(none)");
}

/* A message's calls into call[0..n_calls). */
static int message_of(const aha_message *m, int i, ChatMessage *c, ChatCall *call, aha_error *e)
{
    c->text = m->text;
    c->n = m->text ? m->n_bytes : 0;
    c->prefix = m->prefix;
    c->call = call;
    c->n_call = m->n_calls;
    for (int k = 0; k < m->n_calls; k++) {
        const aha_tool_call *f = &m->calls[k];
        if (!f->name || !f->arguments) return error_set(e, AHA_ERR_ARG, "message %d: call %d has no %s", i, k, f->name ? "arguments" : "name");
        call[k] = (ChatCall){f->name, strlen(f->name), f->arguments, strlen(f->arguments)};
    }
    return role_of(m->role, i, &c->role, e);
}

static int count_calls(const aha_message *m, int n, size_t *total, aha_error *e)
{
    *total = 0;
    for (int i = 0; i < n; i++) {
        if (m[i].n_calls < 0) return error_set(e, AHA_ERR_ARG, "message %d: %d calls", i, m[i].n_calls);
        *total += (size_t)m[i].n_calls;
    }
    return 0;
}

static int chat(const aha_engine *g, const aha_message *m, int n, const ChatOptions *o, Ids *v, bool *open, aha_error *e)
{
    const Tokenizer *t;
    size_t           n_calls = 0, at = 0;
    int              rc = api_tokenizer(g, &t, e);
    if (rc == 0 && n < 1) rc = error_set(e, AHA_ERR_ARG, "a conversation of %d messages, expected at least 1", n);
    if (rc == 0) rc = count_calls(m, n, &n_calls, e);
    if (rc) return rc;
    ChatMessage *c = mem_zalloc((size_t)n, sizeof *c);
    ChatCall    *call = mem_zalloc(n_calls + 1, sizeof *call);
    if (!c || !call) rc = error_set(e, AHA_ERR_NOMEM, "no memory for %d messages", n);
    for (int i = 0; i < n && rc == 0; i++) {
        rc = message_of(&m[i], i, &c[i], call + at, e);
        at += (size_t)m[i].n_calls;
    }
    if (rc == 0) rc = chat_render_with(t, g->words.form, c, n, o, v, open, e);
    mem_free(c);
    mem_free(call);
    return rc;
}

int aha_chat_with(const aha_engine *g, const aha_message *m, int n, const aha_chat_options *options, int32_t **ids, int *n_ids,
                  bool *think_open, aha_error *e)
{
    static const ChatThink THINK[] = {[AHA_THINK_TEMPLATE] = CHAT_THINK_TEMPLATE, [AHA_THINK_FORCED] = CHAT_THINK_FORCED,
                                      [AHA_THINK_FREE] = CHAT_THINK_FREE, [AHA_THINK_OFF] = CHAT_THINK_OFF};
    aha_chat_options       o = AHA_CHAT_OPTIONS_INIT;
    Ids                    v = {0};
    bool                   open = false;
    int                    rc = options ? api_options(&o, sizeof o, options, options->size, "aha_chat_options", e) : 0;
    *ids = NULL;
    *n_ids = 0;
    if (rc == 0 && (unsigned)o.think >= ARRAY_LEN(THINK))
        rc = error_set(e, AHA_ERR_ARG, "think is %d, expected 0 to %d", (int)o.think, (int)ARRAY_LEN(THINK) - 1);
    if (rc == 0) {
        const ChatOptions co = {.add_generation = true, .think = THINK[o.think], .tools = o.tools, .n_tools = o.tools_bytes};
        rc = chat(g, m, n, &co, &v, &open, e);
    }
    if (think_open) *think_open = open;
    return give_ids(&v, rc, ids, n_ids, e);
}

int aha_chat_tools(const aha_engine *g, const aha_message *m, int n, const char *tools, size_t tools_bytes, int32_t **ids, int *n_ids,
                   bool *think_open, aha_error *e)
{
    const aha_chat_options o = {sizeof o, AHA_THINK_TEMPLATE, tools, tools_bytes};
    return aha_chat_with(g, m, n, &o, ids, n_ids, think_open, e);
}

int aha_chat(const aha_engine *g, const aha_message *m, int n, int32_t **ids, int *n_ids, bool *think_open, aha_error *e)
{
    return aha_chat_with(g, m, n, NULL, ids, n_ids, think_open, e);
}
