/* GGUF's tokenizer metadata to Tokenizer: the border for those values.  Everything is checked here.
 *
 * The arrays are what a converter wrote of a tokenizer.json: tokens in the order of their ids, as spelled there, with a type
 * each; merges as "left right".  What the arrays do not say (patterns, normalisation, whether whole words win) goes by the
 * name in tokenizer.ggml.pre. */
#include <string.h>

#include "inner.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

static const char *quote(char dst[80], const char *s, uint64_t n)
{
    return error_quote(dst, 80, s, (size_t)n);
}

/* A value that names something: short, without NUL. */
static int take_name(char dst[64], const TextRef *v, const char *field, const char *what, aha_error *e)
{
    char q[80];
    if (!v->s) return error_set(e, AHA_ERR_FORMAT, "%s: %s: absent, expected a name", what, field);
    if (v->n >= 64) return error_set(e, AHA_ERR_FORMAT, "%s: %s: %llu bytes, expected a name of at most 63", what, field, (unsigned long long)v->n);
    if (memchr(v->s, 0, (size_t)v->n)) return error_set(e, AHA_ERR_FORMAT, "%s: %s: \"%s\", expected a name without NUL", what, field, quote(q, v->s, v->n));
    memcpy(dst, v->s, (size_t)v->n);
    dst[v->n] = 0;
    return 0;
}

static int check_counts(const GgufVocab *v, const char *what, aha_error *e)
{
    if (!v->token || !v->n || v->n > TOK_VOCAB_MAX)
        return error_set(e, v->n > TOK_VOCAB_MAX ? AHA_ERR_LIMIT : AHA_ERR_FORMAT, "%s: tokenizer.ggml.tokens: %llu entries, expected 1..%d", what,
                         (unsigned long long)v->n, TOK_VOCAB_MAX);
    if (!v->type || v->n_type != v->n)
        return error_set(e, AHA_ERR_FORMAT, "%s: tokenizer.ggml.token_type: %llu entries, expected %llu, one for each token", what,
                         (unsigned long long)(v->type ? v->n_type : 0), (unsigned long long)v->n);
    if (!v->merge || !v->n_merge || v->n_merge > TOK_MERGES_MAX)
        return error_set(e, v->n_merge > TOK_MERGES_MAX ? AHA_ERR_LIMIT : AHA_ERR_FORMAT, "%s: tokenizer.ggml.merges: %llu entries, expected 1..%d", what,
                         (unsigned long long)(v->merge ? v->n_merge : 0), TOK_MERGES_MAX);
    const struct {
        const char *field;
        int64_t     id;
    } ID[] = {{"bos_token_id", v->bos}, {"eos_token_id", v->eos}, {"padding_token_id", v->pad}};
    for (size_t i = 0; i < ARRAY_LEN(ID); i++)
        if (ID[i].id < -1 || ID[i].id >= (int64_t)v->n)
            return error_set(e, AHA_ERR_FORMAT, "%s: tokenizer.ggml.%s: %lld, expected 0..%lld", what, ID[i].field, (long long)ID[i].id, (long long)v->n - 1);
    return 0;
}

/* One token with its type as a spec.  An unused one (padding of the matrix) has no text: nothing becomes it, it becomes nothing. */
static int take_token(TokSpec *k, const TextRef *s, int32_t type, uint64_t id, const char *what, aha_error *e)
{
    static const uint8_t FLAGS[] = {[TYPE_NORMAL] = SPEC_SET | SPEC_VOCAB,
                                    [TYPE_UNKNOWN] = SPEC_SET,
                                    [TYPE_CONTROL] = SPEC_SET | SPEC_ADDED | SPEC_SPECIAL,
                                    [TYPE_USER] = SPEC_SET | SPEC_ADDED,
                                    [TYPE_UNUSED] = SPEC_SET};
    char q[80];
    if (!s->s || !s->n || s->n > TOK_BYTES_MAX)
        return error_set(e, AHA_ERR_FORMAT, "%s: tokenizer.ggml.tokens[%llu]: %llu bytes, expected 1..%d", what, (unsigned long long)id,
                         (unsigned long long)s->n, TOK_BYTES_MAX);
    if (!utf8_valid(s->s, (size_t)s->n))
        return error_set(e, AHA_ERR_FORMAT, "%s: tokenizer.ggml.tokens[%llu]: \"%s\", expected UTF-8", what, (unsigned long long)id, quote(q, s->s, s->n));
    if (type < TYPE_NORMAL || type >= TYPE_BYTE)
        return error_set(e, AHA_ERR_FORMAT, "%s: tokenizer.ggml.token_type[%llu]: %d for \"%s\", expected 1..5 (a byte-level vocabulary spells bytes as letters)",
                         what, (unsigned long long)id, (int)type, quote(q, s->s, s->n));
    *k = (TokSpec){s->s, type == TYPE_UNUSED ? 0 : (uint32_t)s->n, FLAGS[type]};
    return 0;
}

static int take_merges(Tokenizer *t, const GgufVocab *v, const TokSource *from, aha_error *e)
{
    for (uint64_t i = 0; i < v->n_merge; i++) {
        const TextRef *m = &v->merge[i];
        const char    *gap = m->s && m->n <= 2 * TOK_BYTES_MAX + 1 ? memchr(m->s, ' ', (size_t)m->n) : NULL;
        size_t         left = gap ? (size_t)(gap - m->s) : 0, right = gap ? (size_t)m->n - left - 1 : 0;
        if (!gap || memchr(gap + 1, ' ', right))
            return error_set(e, AHA_ERR_FORMAT, "%s: %s[%llu]: expected two tokens with a blank between", from->what, from->merges, (unsigned long long)i);
        int rc = tok_add_merge(t, m->s, left, gap + 1, right, (uint32_t)i, from, e);
        if (rc) return rc;
    }
    return 0;
}

static int build(Tokenizer *t, const GgufVocab *v, const char *what, aha_error *e)
{
    const TokSource from = {what, "tokenizer.ggml.tokens", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    char            model[64], pre[64], q[80];
    int             rc = take_name(model, &v->model, "tokenizer.ggml.model", what, e);
    if (!rc && strcmp(model, "gpt2"))
        rc = error_set(e, AHA_ERR_UNSUPPORTED, "%s: tokenizer.ggml.model: \"%s\", expected \"gpt2\" (byte-level BPE)", what, quote(q, model, strlen(model)));
    if (!rc) rc = take_name(pre, &v->pre, "tokenizer.ggml.pre", what, e);
    if (!rc) rc = pretok_add_family(&t->pre, pre, what, e);
    if (!rc) rc = check_counts(v, what, e);
    if (rc) return rc;
    t->nfc = !strcmp(pre, "qwen2") || !strcmp(pre, "deepseek-r1-qwen");
    t->bpe.ignore_merges = !strcmp(pre, "llama-bpe");
    TokSpec *spec = mem_zalloc((size_t)v->n, sizeof *spec);
    if (!spec) return error_set(e, AHA_ERR_NOMEM, "%s: no memory for %llu tokens", what, (unsigned long long)v->n);
    for (uint64_t i = 0; i < v->n && !rc; i++) rc = take_token(&spec[i], &v->token[i], v->type[i], i, what, e);
    if (!rc) rc = tok_build(t, spec, (int)v->n, (size_t)v->n_merge, &from, e);
    mem_free(spec);
    return rc ? rc : take_merges(t, v, &from, e);
}

int tokenizer_from_gguf(Tokenizer **out, const GgufVocab *v, const char *what, aha_error *e)
{
    *out = NULL;
    Tokenizer *t = mem_zalloc(1, sizeof *t);
    if (!t) return error_set(e, AHA_ERR_NOMEM, "%s: no memory for a tokenizer", what);
    int rc = build(t, v, what, e);
    if (rc) {
        tokenizer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}
