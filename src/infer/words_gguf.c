/* The words of a GGUF file: its metadata's vocabulary, chat template and stop tokens. */
#include <string.h>

#include "infer.h"

/* An array of strings as references into the file; absent: NULL and 0.  mem_free(*out). */
static int strings(const WeightFile *w, const char *what, const char *key, TextRef **out, uint64_t *n, aha_error *e)
{
    const GgufValue *v = gguf_kv_find(w, key);
    GgufStrings      s;
    size_t           len;
    *out = NULL;
    *n = 0;
    if (!v) return 0;
    if (!v->array || v->type != GGUF_STRING) return error_set(e, AHA_ERR_FORMAT, "%s: %s: got another type, expected an array of strings", what, key);
    *out = mem_alloc((size_t)(v->n ? v->n : 1) * sizeof **out); /* each has its length in the file: no more than the file holds */
    if (!*out) return error_set(e, AHA_ERR_NOMEM, "%s: out of memory for %s", what, key);
    for (s = gguf_strings(v); gguf_next(&s, &(*out)[*n].s, &len); (*n)++) (*out)[*n].n = len;
    return 0;
}

static int types(const WeightFile *w, const char *what, int32_t **out, uint64_t *n, aha_error *e)
{
    static const char KEY[] = "tokenizer.ggml.token_type";
    const GgufValue  *v = gguf_kv_find(w, KEY);
    *out = NULL;
    *n = 0;
    if (!v) return 0;
    if (!v->array || v->type == GGUF_STRING || v->type == GGUF_F32 || v->type == GGUF_F64)
        return error_set(e, AHA_ERR_FORMAT, "%s: %s: got another type, expected an array of integers", what, KEY);
    *out = mem_alloc((size_t)(v->n ? v->n : 1) * sizeof **out);
    if (!*out) return error_set(e, AHA_ERR_NOMEM, "%s: out of memory for %s", what, KEY);
    for (int64_t i = 0; i < v->n; i++) {
        int64_t t = gguf_int(v, i);
        (*out)[i] = t < INT32_MIN || t > INT32_MAX ? -1 : (int32_t)t;
    }
    *n = (uint64_t)v->n;
    return 0;
}

static int text(const WeightFile *w, const char *what, const char *key, TextRef *out, aha_error *e)
{
    size_t n = 0;
    int    rc = gguf_get_str(w, what, key, false, &out->s, &n, e);
    out->n = n;
    return rc;
}

static int token_id(const WeightFile *w, const char *what, const char *key, int64_t *out, aha_error *e)
{
    *out = -1;
    return gguf_get_int(w, what, key, false, 0, INT32_MAX, out, e);
}

int words_from_gguf(Words *words, const WeightFile *w, const char *what, const Config *c, aha_error *e)
{
    GgufVocab v = {.bos = -1, .eos = -1, .pad = -1};
    TextRef  *token = NULL, *merge = NULL;
    int32_t  *type = NULL;
    int       rc = text(w, what, "tokenizer.ggml.model", &v.model, e);
    memset(words, 0, sizeof *words);
    if (rc == 0) rc = text(w, what, "tokenizer.ggml.pre", &v.pre, e);
    if (rc == 0) rc = text(w, what, "tokenizer.chat_template", &v.chat_template, e);
    if (rc == 0) rc = strings(w, what, "tokenizer.ggml.tokens", &token, &v.n, e);
    if (rc == 0) rc = strings(w, what, "tokenizer.ggml.merges", &merge, &v.n_merge, e);
    if (rc == 0) rc = types(w, what, &type, &v.n_type, e);
    if (rc == 0) rc = token_id(w, what, "tokenizer.ggml.bos_token_id", &v.bos, e);
    if (rc == 0) rc = token_id(w, what, "tokenizer.ggml.eos_token_id", &v.eos, e);
    if (rc == 0) rc = token_id(w, what, "tokenizer.ggml.padding_token_id", &v.pad, e);
    if (rc == 0) rc = gguf_get_bool(w, what, "tokenizer.ggml.add_bos_token", false, &v.add_bos, e);
    v.token = token;
    v.merge = merge;
    v.type = type;
    if (rc == 0 && v.model.s) rc = tokenizer_from_gguf(&words->tok, &v, what, e); /* none: a file of weights alone */
    if (rc == 0) rc = words_complete(words, v.chat_template.s, (size_t)v.chat_template.n, c, e);
    mem_free(token);
    mem_free(merge);
    mem_free(type);
    if (rc) words_free(words);
    return rc;
}
