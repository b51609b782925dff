/* The public API's text side: thin over src/text. */
#include "api.h"

static int tokenizer_of(const aha_engine *g, const Tokenizer **t, aha_error *e)
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
    int              rc = tokenizer_of(g, &t, e);
    *ids = NULL;
    *n = 0;
    if (rc == 0) rc = tokenizer_encode(t, text, n_bytes, special ? TOK_SPECIAL : 0, &v, e);
    return give_ids(&v, rc, ids, n, e);
}

int aha_detokenize(const aha_engine *g, const int32_t *ids, int n, char **text, size_t *n_bytes, aha_error *e)
{
    const Tokenizer *t;
    Buf              b = {0};
    int              rc = tokenizer_of(g, &t, e);
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
    int              rc = tokenizer_of(g, &t, e);
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

int aha_chat_tools(const aha_engine *g, const aha_message *m, int n, const char *tools, size_t tools_bytes, int32_t **ids, int *n_ids,
                   bool *think_open, aha_error *e)
{
    const ChatOptions o = {.add_generation = true, .tools = tools, .n_tools = tools_bytes};
    Ids               v = {0};
    bool              open = false;
    *ids = NULL;
    *n_ids = 0;
    int rc = chat(g, m, n, &o, &v, &open, e);
    if (think_open) *think_open = open;
    return give_ids(&v, rc, ids, n_ids, e);
}

int aha_chat(const aha_engine *g, const aha_message *m, int n, int32_t **ids, int *n_ids, bool *think_open, aha_error *e)
{
    return aha_chat_tools(g, m, n, NULL, 0, ids, n_ids, think_open, e);
}

/* ---- replies ---- */
struct aha_reply {
    Reply          split;
    Buf            text;
    aha_tool_call *calls; /* of the last aha_reply_calls */
};

int aha_reply_new(aha_reply **out, const aha_engine *g, bool think_open, aha_error *e)
{
    const Tokenizer *t;
    int              rc = tokenizer_of(g, &t, e);
    *out = NULL;
    if (rc) return rc;
    if (!(*out = mem_zalloc(1, sizeof **out))) return error_set(e, AHA_ERR_NOMEM, "no memory for a reply");
    reply_init(&(*out)->split, t, think_open);
    return 0;
}

void aha_reply_free(aha_reply *r)
{
    if (!r) return;
    reply_free(&r->split);
    buf_free(&r->text);
    mem_free(r->calls);
    mem_free(r);
}

static int give_text(aha_reply *r, ReplyPart p, aha_part *part, const char **text, size_t *n_bytes, aha_error *e)
{
    *part = p == REPLY_THINKING ? AHA_PART_THINKING : AHA_PART_ANSWER;
    *text = r->text.n ? r->text.data : "";
    *n_bytes = r->text.n;
    return r->text.failed ? error_set(e, AHA_ERR_NOMEM, "no memory for a reply's text") : 0;
}

int aha_reply_push(aha_reply *r, int32_t token, aha_part *part, const char **text, size_t *n_bytes, aha_error *e)
{
    ReplyPart p;
    buf_reset(&r->text);
    reply_push(&r->split, token, &p, &r->text);
    return give_text(r, p, part, text, n_bytes, e);
}

int aha_reply_end(aha_reply *r, aha_part *part, const char **text, size_t *n_bytes, aha_error *e)
{
    ReplyPart p;
    buf_reset(&r->text);
    reply_end(&r->split, &p, &r->text);
    return give_text(r, p, part, text, n_bytes, e);
}

int aha_reply_calls(aha_reply *r, const aha_tool_call **calls, int *n_calls, aha_error *e)
{
    int n = r->split.n_call;
    *calls = NULL;
    *n_calls = 0;
    mem_free(r->calls);
    r->calls = n ? mem_zalloc((size_t)n, sizeof *r->calls) : NULL;
    if (n && !r->calls) return error_set(e, AHA_ERR_NOMEM, "no memory for %d tool calls", n);
    for (int i = 0; i < n; i++) {
        const ReplyCall *c = &r->split.call[i];
        r->calls[i] = (aha_tool_call){c->name, c->args, c->complete, c->valid};
    }
    *calls = r->calls;
    *n_calls = n;
    return 0;
}
