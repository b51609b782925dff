/* aha tokenize: text to ids, ids to text, conversations to the ids of a prompt. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model_open.h"

typedef struct TokenizeArgs {
    ModelArgs model;
    bool      decode, chat, special, no_generation, pieces;
} TokenizeArgs;

static const Help HELP = {
    "tokenize", "[-m DIR] [--decode|--chat] < INPUT",
    "Text on standard input becomes a JSON array of token ids, exactly those that the model's publishers get; nothing is added. "
    "--decode turns ids (a JSON array, or separated by commas or blanks) back into text. --chat takes a JSON array of messages, "
    "{\"role\": \"user\", \"content\": \"...\"}, and gives the ids of the prompt, with the next answer opened.",
    "  printf 'Make 29 from 2, 8, 13.' | aha tokenize\n"
    "  printf 'Make 29' | aha tokenize -m MODEL | aha tokenize -m MODEL --decode\n"
    "  echo '[{\"role\":\"user\",\"content\":\"Hello\"}]' | aha tokenize --chat\n"
    "  printf 'Make 29' | aha tokenize --pieces       one piece a line\n"};

static void put_ids(const Ids *v)
{
    Buf b = {0};
    buf_str(&b, "[");
    for (size_t i = 0; i < v->n; i++) buf_fmt(&b, "%s%d", i ? "," : "", v->id[i]);
    buf_str(&b, "]\n");
    out_buf(&b);
    buf_free(&b);
}

/* id, tab, the bytes as a JSON string */
static void put_pieces(const Tokenizer *t, const Ids *v)
{
    Buf b = {0};
    for (size_t i = 0; i < v->n; i++) {
        size_t      n;
        const char *s = tokenizer_bytes(t, v->id[i], &n);
        buf_fmt(&b, "%d\t", v->id[i]);
        buf_json(&b, s, n);
        buf_str(&b, "\n");
    }
    out_buf(&b);
    buf_free(&b);
}

static int put_result(const TokenizeArgs *a, const ModelSet *s, const Ids *v)
{
    if (a->pieces)
        put_pieces(s->words.tok, v);
    else
        put_ids(v);
    return 0;
}

static int encode(const TokenizeArgs *a, const ModelSet *s, const Buf *in, aha_error *e)
{
    Ids v = {0};
    int rc = tokenizer_encode(s->words.tok, in->data, in->n, a->special ? TOK_SPECIAL : 0, &v, e);
    if (rc == 0) rc = put_result(a, s, &v);
    ids_free(&v);
    return rc;
}

static int decode(const ModelSet *s, const Buf *in, aha_error *e)
{
    int32_t *id;
    Buf      text = {0};
    int      n, vocab = tokenizer_vocab(s->words.tok), rc = input_ids(in->data, in->n, "standard input", &id, &n, e);
    for (int i = 0; i < n && rc == 0; i++)
        if (id[i] >= vocab) rc = error_set(e, AHA_ERR_FORMAT, "id %d at place %d: this tokenizer's ids end at %d", id[i], i, vocab - 1);
    if (rc == 0) {
        tokenizer_decode(s->words.tok, id, (size_t)n, &text);
        if (text.failed)
            out_buf(&text);
        else
            out_text(text.data, text.n);
        if (term_is(STDOUT_FILENO)) out_str("\n");
    }
    buf_free(&text);
    mem_free(id);
    return rc;
}

/* ---- conversations ---- */
/* {"function": {"name", "arguments"}}, or these two alone */
static int call_read(const json_t *j, const char *what, ChatCall *c, aha_error *e)
{
    const json_t *f = json_field(j, "function");
    const char   *type = "function";
    int           rc = json_get_str(j, what, "type", false, &type, e);
    if (!f) f = j;
    if (rc == 0 && strcmp(type, "function")) rc = error_set(e, AHA_ERR_UNSUPPORTED, "%s: a tool call that is no \"function\"", what);
    if (rc == 0) rc = json_get_str(f, what, "name", true, &c->name, e);
    if (rc == 0) rc = json_get_str(f, what, "arguments", true, &c->args, e);
    if (rc) return rc;
    c->n_name = strlen(c->name);
    c->n_args = strlen(c->args);
    return 0;
}

/* A message's calls go into call[0..n_call). */
static int message_read(const json_t *j, size_t i, ChatMessage *m, ChatCall *call, aha_error *e)
{
    static const char *const ROLE[] = {[ROLE_SYSTEM] = "system", [ROLE_USER] = "user", [ROLE_ASSISTANT] = "assistant", [ROLE_TOOL] = "tool"};
    const json_t            *text = json_field(j, "content"), *calls = json_field(j, "tool_calls");
    const char              *role = NULL;
    char                     what[48], q[64];
    int                      rc;
    snprintf(what, sizeof what, "message %zu", i);
    if (!json_is_object(j)) return error_set(e, AHA_ERR_FORMAT, "%s: an object with role and content is expected", what);
    if ((rc = json_get_str(j, what, "role", true, &role, e)) != 0) return rc;
    if (calls && !json_is_array(calls)) return error_set(e, AHA_ERR_FORMAT, "%s: tool_calls: a list is expected", what);
    if (text ? !json_is_string(text) : !calls) return error_set(e, AHA_ERR_FORMAT, "%s: content: a text is expected", what);
    m->text = json_string_value(text);
    m->n = json_string_length(text);
    m->call = call;
    m->n_call = (int)json_array_size(calls);
    for (int k = 0; k < m->n_call && rc == 0; k++) rc = call_read(json_array_get(calls, (size_t)k), what, &call[k], e);
    if (rc == 0) rc = json_get_bool(j, what, "prefix", false, &m->prefix, e);
    if (rc) return rc;
    for (int r = 0; r < (int)ARRAY_LEN(ROLE); r++)
        if (!strcmp(role, ROLE[r])) {
            m->role = (ChatRole)r;
            return 0;
        }
    return error_set(e, AHA_ERR_FORMAT, "%s: role \"%s\", expected system, user, assistant or tool", what,
                     error_quote(q, sizeof q, role, strlen(role)));
}

static int chat(const TokenizeArgs *a, const ModelSet *s, const Buf *in, aha_error *e)
{
    Json        *j;
    ChatMessage *m = NULL;
    ChatCall    *call = NULL;
    size_t       n_calls = 0;
    Ids          v = {0};
    bool         think_open;
    size_t       n;
    int          rc = json_parse(&j, in->data, in->n, "standard input", e);
    if (rc) return rc;
    n = json_array_size(j);
    if (!json_is_array(j) || n < 1)
        rc = error_set(e, AHA_ERR_FORMAT, "standard input: a JSON array of messages is expected");
    else if (n > 1 << 20 || !(m = mem_zalloc(n, sizeof *m)))
        rc = error_set(e, AHA_ERR_NOMEM, "no memory for %zu messages", n);
    for (size_t i = 0; i < n; i++) n_calls += json_array_size(json_field(json_array_get(j, i), "tool_calls"));
    if (rc == 0 && !(call = mem_zalloc(n_calls + 1, sizeof *call))) rc = error_set(e, AHA_ERR_NOMEM, "no memory for %zu tool calls", n_calls);
    n_calls = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = message_read(json_array_get(j, i), i, &m[i], call + n_calls, e);
        n_calls += (size_t)m[i].n_call;
    }
    if (rc == 0) rc = chat_render(s->words.tok, s->words.form, m, (int)n, !a->no_generation, &v, &think_open, e);
    if (rc == AHA_ERR_ARG) rc = e->code = AHA_ERR_FORMAT; /* the arguments came on standard input */
    if (rc == 0) rc = put_result(a, s, &v);
    ids_free(&v);
    mem_free(m);
    mem_free(call);
    json_free(j);
    return rc;
}

int cmd_tokenize(int argc, char **argv)
{
    TokenizeArgs a = {.model = MODEL_ARGS_INIT};
    ModelSet     s;
    aha_error    e = {0};
    Buf          in = {0};
    int          rc;
    const Option options[] = {
        OPT_MODEL(&a.model),
        OPT_FLAG(0, "decode", &a.decode, "ids to text"),
        OPT_FLAG(0, "chat", &a.chat, "JSON messages to the ids of a prompt, by the model's own chat form"),
        OPT_FLAG(0, "no-generation", &a.no_generation, "with --chat: without the opening of the next answer"),
        OPT_FLAG(0, "special", &a.special, "text that spells a special token becomes that token"),
        OPT_FLAG(0, "pieces", &a.pieces, "each id with its text, one a line"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (a.decode && (a.chat || a.pieces)) return fail_usage("--decode gives text: it goes with neither --chat nor --pieces");
    if (a.chat && a.special) return fail_usage("--special does not go with --chat: what users write is never a special token");
    if (a.no_generation && !a.chat) return fail_usage("--no-generation goes with --chat");
    if ((rc = model_set_open(&s, &a.model, MODEL_NEEDS_TEXT, &e)) != 0) return fail(&e);
    if (term_is(STDIN_FILENO)) say("reading standard input, up to Ctrl-D");
    rc = input_stdin(&in, INPUT_TEXT_MAX, &e);
    if (rc == 0) rc = a.decode ? decode(&s, &in, &e) : a.chat ? chat(&a, &s, &in, &e) : encode(&a, &s, &in, &e);
    status = rc ? fail(&e) : CLI_DONE;
    buf_free(&in);
    model_set_free(&s);
    return status;
}
