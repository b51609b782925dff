/* What stands beside a model's weights: tokenizer.json, the chat template (recognised, never executed), stop tokens. */
#include <jansson.h>

#include "infer.h"

/* Parsing may take 48 times as much memory.  The largest tokenizer.json of the known families has 11 MB, the others have kilobytes. */
enum { TOKENIZER_BYTES_MAX = 32 << 20, CONFIG_BYTES_MAX = 2 << 20 };

static void add_stop(Words *w, int64_t id, int vocab)
{
    if (id < 0 || id >= vocab || w->n_stop == MODEL_STOP_MAX) return;
    for (int i = 0; i < w->n_stop; i++)
        if (w->stop[i] == id) return;
    w->stop[w->n_stop++] = (int32_t)id;
}

/* eos_token_id: a number or a list of them */
static int generation_stops(Words *w, const char *text, size_t n, int vocab, aha_error *e)
{
    Json         *j;
    const json_t *eos;
    int           rc = json_parse(&j, text, n, "generation_config.json", e);
    if (rc) return rc;
    eos = json_field(j, "eos_token_id");
    if (eos && json_is_integer(eos)) add_stop(w, json_integer_value(eos), vocab);
    for (size_t i = 0; eos && i < json_array_size(eos); i++)
        if (json_is_integer(json_array_get(eos, i))) add_stop(w, json_integer_value(json_array_get(eos, i)), vocab);
    json_free(j);
    return 0;
}

/* chat_template: a text, or a list of {"name", "template"} of which "default" counts; NULL: there is none */
static const json_t *template_in(const Json *j)
{
    const json_t *t = json_field(j, "chat_template");
    for (size_t i = 0; t && i < json_array_size(t); i++) {
        const json_t *item = json_array_get(t, i), *name = json_field(item, "name");
        if (name && json_is_string(name) && strcmp(json_string_value(name), "default") == 0) t = json_field(item, "template");
    }
    return t && json_is_string(t) ? t : NULL;
}

static void usual_form(Words *w, Arch arch)
{
    static const ChatTemplate form[] = {[ARCH_LLAMA] = CHAT_R1_DISTILL, [ARCH_QWEN2] = CHAT_R1_DISTILL, [ARCH_QWEN3] = CHAT_R1_0528,
                                        [ARCH_DEEPSEEK_V3] = CHAT_R1};
    w->form = form[arch];
    w->form_known = false;
}

/* The form of a template, or what is usual.  jinja NULL: there is none */
static void chat_form(Words *w, const char *jinja, size_t n, Arch arch)
{
    usual_form(w, arch);
    if (jinja) w->form = chat_template_detect(jinja, n, &w->form_known);
    if (w->form_known) return;
    usual_form(w, arch);
    if (w->tok) log_msg(LOG_WARN, "no chat template that is known: taking %s, which is usual for its architecture", chat_template_name(w->form));
}

int words_complete(Words *w, const char *jinja, size_t n, const Config *c, aha_error *e)
{
    if (w->tok && tokenizer_vocab(w->tok) > c->vocab)
        log_msg(LOG_WARN, "the tokenizer has ids up to %d, the model only %d", tokenizer_vocab(w->tok) - 1, c->vocab - 1);
    chat_form(w, jinja, n, c->arch);
    for (int i = 0; i < c->n_eos; i++) add_stop(w, c->eos[i], c->vocab);
    if (w->tok) { /* where an answer ends whatever the files say: its own end, or the start of a user's turn */
        add_stop(w, tokenizer_id(w->tok, "<｜end▁of▁sentence｜>"), c->vocab);
        add_stop(w, tokenizer_id(w->tok, "<｜User｜>"), c->vocab);
    }
    return think_tags(&w->think, w->tok, c->vocab, e);
}

int words_parse(Words *w, const WordFiles *f, const Config *c, aha_error *e)
{
    Json         *j = NULL;
    const json_t *t = NULL;
    const char   *jinja = f->chat_template;
    size_t        n = f->n_chat_template;
    int           rc = 0;
    memset(w, 0, sizeof *w);
    if (f->tokenizer) rc = tokenizer_parse(&w->tok, f->tokenizer, f->n_tokenizer, "tokenizer.json", e);
    if (rc == 0 && f->generation_config) rc = generation_stops(w, f->generation_config, f->n_generation_config, c->vocab, e);
    if (rc == 0 && !jinja && f->tokenizer_config)
        rc = json_parse(&j, f->tokenizer_config, f->n_tokenizer_config, "tokenizer_config.json", e);
    if (j && (t = template_in(j)) != NULL) {
        jinja = json_string_value(t);
        n = json_string_length(t);
    }
    if (rc == 0) rc = words_complete(w, jinja, n, c, e);
    json_free(j);
    if (rc) words_free(w);
    return rc;
}

static int read_beside(const char *dir, const char *name, size_t max, char **text, size_t *n, aha_error *e)
{
    char path[4096];
    int  rc = path_join(path, sizeof path, dir, name, e);
    if (rc || !file_exists(path)) return rc;
    return file_read_all(path, max, text, n, e);
}

int words_of(Words *w, const char *path, const Model *m, aha_error *e)
{
    return m->file && weights_is_gguf(m->file) ? words_from_gguf(w, m->file, path, &m->cfg, e) : words_open(w, path, &m->cfg, e);
}

int words_open(Words *w, const char *dir, const Config *c, aha_error *e)
{
    char     *text[4] = {0};
    size_t    n[4] = {0};
    WordFiles f;
    int       rc;
    memset(w, 0, sizeof *w);
    rc = read_beside(dir, "tokenizer.json", TOKENIZER_BYTES_MAX, &text[0], &n[0], e);
    if (rc == 0) rc = read_beside(dir, "tokenizer_config.json", CONFIG_BYTES_MAX, &text[1], &n[1], e);
    if (rc == 0) rc = read_beside(dir, "generation_config.json", CONFIG_BYTES_MAX, &text[2], &n[2], e);
    if (rc == 0) rc = read_beside(dir, "chat_template.jinja", CONFIG_BYTES_MAX, &text[3], &n[3], e);
    f = (WordFiles){text[0], text[1], text[2], text[3], n[0], n[1], n[2], n[3]};
    if (rc == 0 && (rc = words_parse(w, &f, c, e)) != 0) rc = error_prefix(e, rc, "%s", dir);
    for (int i = 0; i < 4; i++) mem_free(text[i]);
    return rc;
}

void words_free(Words *w)
{
    tokenizer_free(w->tok);
    memset(w, 0, sizeof *w);
}
