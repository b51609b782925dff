/* aha convert: tokenizer, chat template and ids, from a folder's files to GGUF's metadata and back. */
#include "convert.h"

#include <string.h>

enum { TEXT_BYTES_MAX = 256 << 20, CONFIG_BYTES_MAX = 1 << 24 };

/* ---- to GGUF ---- */
static int put_template(const char *dir, GgufMeta *m, aha_error *e)
{
    char        path[4096];
    char       *text = NULL;
    const char *s = NULL;
    size_t      n;
    Json       *j = NULL;
    int         rc = path_join(path, sizeof path, dir, "chat_template.jinja", e);
    if (!rc && file_exists(path)) {
        rc = file_read_all(path, CONFIG_BYTES_MAX, &text, &n, e);
        if (!rc) gguf_put_str(m, "tokenizer.chat_template", text, n);
        mem_free(text);
        return rc;
    }
    if (!rc) rc = path_join(path, sizeof path, dir, "tokenizer_config.json", e);
    if (rc || !file_exists(path)) return rc;
    rc = json_read(&j, path, CONFIG_BYTES_MAX, e);
    if (rc) return rc;
    if (json_get_str(j, path, "chat_template", false, &s, NULL)) say("the chat template is a list of several: left out");
    else if (s) gguf_put_str(m, "tokenizer.chat_template", s, strlen(s));
    json_free(j);
    return 0;
}

static void put_name(const char *dir, GgufMeta *m)
{
    size_t n = strlen(dir), from;
    while (n > 1 && dir[n - 1] == '/') n--;
    for (from = n; from > 0 && dir[from - 1] != '/';) from--;
    gguf_put_str(m, "general.name", dir + from, n - from);
}

static void put_layout(GgufMeta *m)
{
    gguf_put_int(m, "general.alignment", 32);
    gguf_put_int(m, "general.quantization_version", 2);
}

void convert_keep_metadata(const ModelSet *s, GgufMeta *m)
{
    gguf_put_all(m, s->m->file);
    put_layout(m);
}

int convert_words_to_gguf(ModelSet *s, GgufMeta *m, aha_error *e)
{
    const Tokenizer *t = s->words.tok;
    put_name(s->path, m);
    put_layout(m);
    if (!t) {
        say("%s has no tokenizer.json: the file will hold weights alone", s->path);
        return 0;
    }
    int bos = tokenizer_id(t, "<｜begin▁of▁sentence｜>"), pad = tokenizer_id(t, "<｜▁pad▁｜>");
    if (bos >= 0) s->m->cfg.bos = bos; /* the tokenizer's: config.json of the distilled ones names another */
    if (pad >= 0) gguf_put_int(m, "tokenizer.ggml.padding_token_id", pad);
    gguf_put_bool(m, "tokenizer.ggml.add_bos_token", true);
    gguf_put_bool(m, "tokenizer.ggml.add_eos_token", false);
    int rc = tokenizer_to_gguf(t, s->cfg.vocab, m, s->path, e);
    return rc ? rc : put_template(s->path, m, e);
}

/* ---- to a folder's files ---- */
void convert_files_free(ConvertFiles *f)
{
    for (int i = 0; i < f->n; i++) mem_free(f->owned[i]);
    f->n = 0;
}

static void add_file(ConvertFiles *f, const char *name, char *text, size_t n)
{
    f->text[f->n] = (ExportText){name, text, n};
    f->owned[f->n++] = text;
}

static int copy_files(const char *dir, ConvertFiles *f, aha_error *e)
{
    static const char *const NAME[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "special_tokens_map.json"};
    int                      rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(NAME) && !rc; i++) {
        char   path[4096], *text;
        size_t n;
        rc = path_join(path, sizeof path, dir, NAME[i], e);
        if (rc || !file_exists(path)) continue;
        rc = file_read_all(path, TEXT_BYTES_MAX, &text, &n, e);
        if (!rc) add_file(f, NAME[i], text, n);
    }
    return rc;
}

static int read_words(const ModelSet *s, HfWords *w, aha_error *e)
{
    const WeightFile *file = s->m->file;
    const int64_t     last = tokenizer_vocab(s->words.tok) - 1;
    size_t            n = 0;
    *w = (HfWords){.bos = -1, .eos = -1, .pad = -1, .length = s->cfg.max_pos};
    int rc = gguf_get_int(file, s->path, "tokenizer.ggml.bos_token_id", false, 0, last, &w->bos, e);
    if (!rc) rc = gguf_get_int(file, s->path, "tokenizer.ggml.eos_token_id", false, 0, last, &w->eos, e);
    if (!rc) rc = gguf_get_int(file, s->path, "tokenizer.ggml.padding_token_id", false, 0, last, &w->pad, e);
    w->add_bos = w->bos >= 0 && tokenizer_id(s->words.tok, "<｜begin▁of▁sentence｜>") == w->bos; /* where the file does not say: R1's models do */
    if (!rc) rc = gguf_get_bool(file, s->path, "tokenizer.ggml.add_bos_token", false, &w->add_bos, e);
    if (!rc) rc = gguf_get_str(file, s->path, "tokenizer.chat_template", false, &w->chat_template.s, &n, e);
    w->chat_template.n = n;
    return rc;
}

static int put_generation(const HfWords *w, Buf *b, aha_error *e)
{
    buf_str(b, "{\n");
    if (w->bos >= 0) buf_fmt(b, "  \"bos_token_id\": %lld,\n", (long long)w->bos);
    if (w->eos >= 0) buf_fmt(b, "  \"eos_token_id\": %lld,\n", (long long)w->eos);
    buf_str(b, "  \"_from_model_config\": true\n}\n");
    return b->failed ? error_set(e, AHA_ERR_NOMEM, "no memory for generation_config.json") : 0;
}

static int make_files(const ModelSet *s, ConvertFiles *f, aha_error *e)
{
    HfWords w;
    Buf     b[3] = {{0}};
    if (!s->words.tok) {
        say("%s holds no vocabulary: the folder will have no tokenizer.json", s->path);
        return 0;
    }
    int rc = read_words(s, &w, e);
    if (!rc) rc = tokenizer_to_json(s->words.tok, &w, &b[0], e);
    if (!rc) rc = tokenizer_config_to_json(s->words.tok, &w, &b[1], e);
    if (!rc) rc = put_generation(&w, &b[2], e);
    if (!rc && !w.chat_template.s) say("%s holds no chat template, so the folder has none either", s->path);
    for (int i = 0; i < 3; i++) {
        static const char *const NAME[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"};
        if (rc) buf_free(&b[i]);
        else add_file(f, NAME[i], b[i].data, b[i].n);
    }
    return rc;
}

int convert_words_to_files(const ModelSet *s, ConvertFiles *f, aha_error *e)
{
    return s->m->gguf ? make_files(s, f, e) : copy_files(s->path, f, e);
}
