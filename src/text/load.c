/* tokenizer.json to Tokenizer: the border for that file.  Everything is checked here. */
#include <jansson.h>
#include <string.h>

#include "../format/format.h"
#include "inner.h"

typedef struct Load {
    const char *what;
    Tokenizer  *t;
    TokSpec    *spec; /* [vocab] */
    int         vocab;
    aha_error  *e;
} Load;

#define FAIL(l, code, ...) error_set((l)->e, code, __VA_ARGS__)

static const char *quote(char dst[80], const char *s, size_t n)
{
    return error_quote(dst, 80, s, n);
}

static bool json_is_type(const Json *j, const char *type)
{
    const Json *v = json_field(j, "type");
    return v && json_is_string(v) && !strcmp(json_string_value(v), type);
}

static const char *json_type_of(const Json *j, char dst[80])
{
    const Json *v = json_field(j, "type");
    return v && json_is_string(v) ? quote(dst, json_string_value(v), json_string_length(v)) : "none";
}

/* ---- vocabulary ---- */
static int check_token(Load *l, const char *where, const char *s, size_t n, int64_t id)
{
    char q[80];
    if (!n || n > TOK_BYTES_MAX)
        return FAIL(l, AHA_ERR_FORMAT, "%s: %s: a token of %zu bytes, expected 1..%d", l->what, where, n, TOK_BYTES_MAX);
    if (id < 0 || id >= TOK_VOCAB_MAX)
        return FAIL(l, AHA_ERR_FORMAT, "%s: %s[\"%s\"]: id %lld, expected 0..%d", l->what, where, quote(q, s, n), (long long)id, TOK_VOCAB_MAX - 1);
    return 0;
}

static const Json *added_tokens(const Json *root)
{
    return json_field(root, "added_tokens");
}

/* The highest id + 1, after the types and ranges of all of them. */
static int count_ids(Load *l, const Json *root, const Json *vocab)
{
    int64_t     top = -1;
    const char *key;
    json_t     *v;
    size_t      i;
    json_object_foreach((json_t *)vocab, key, v)
    {
        char q[80];
        if (!json_is_integer(v))
            return FAIL(l, AHA_ERR_FORMAT, "%s: model.vocab[\"%s\"]: no integer, expected an id", l->what, quote(q, key, strlen(key)));
        int rc = check_token(l, "model.vocab", key, strlen(key), json_integer_value(v));
        if (rc) return rc;
        if (json_integer_value(v) > top) top = json_integer_value(v);
    }
    const Json *added = added_tokens(root);
    if (added && !json_is_array(added)) return FAIL(l, AHA_ERR_FORMAT, "%s: added_tokens: no list", l->what);
    json_array_foreach((json_t *)added, i, v)
    {
        const char *s;
        int64_t     id;
        int         rc = json_get_int(v, "added_tokens", "id", true, 0, TOK_VOCAB_MAX - 1, &id, l->e);
        if (!rc) rc = json_get_str(v, "added_tokens", "content", true, &s, l->e);
        if (rc) return error_prefix(l->e, rc, "%s", l->what);
        if ((rc = check_token(l, "added_tokens", s, strlen(s), id))) return rc;
        if (id > top) top = id;
    }
    l->vocab = (int)top + 1;
    return 0;
}

static int put_spec(Load *l, int64_t id, const char *s, unsigned flags)
{
    TokSpec *k = &l->spec[id];
    size_t   n = strlen(s);
    char     q[80], q2[80];
    bool     same = k->s && k->n == n && !memcmp(k->s, s, n);
    if (k->flags && (!same || (k->flags & flags & (SPEC_ADDED | SPEC_VOCAB))))
        return FAIL(l, AHA_ERR_FORMAT, "%s: id %lld is both \"%s\" and \"%s\", expected one token", l->what, (long long)id, quote(q, k->s, k->n),
                    quote(q2, s, n));
    k->s = s;
    k->n = (uint32_t)n;
    k->flags |= (uint8_t)(flags | SPEC_SET);
    return 0;
}

static int put_added(Load *l, const Json *v, const Json *vocab)
{
    static const char *const REFUSED[] = {"single_word", "lstrip", "rstrip"};
    int64_t                  id = 0;
    const char              *s = "";
    bool                     special = false, normalized = false;
    char                     q[80];
    int                      rc = json_get_int(v, "added_tokens", "id", true, 0, TOK_VOCAB_MAX - 1, &id, l->e);
    if (!rc) rc = json_get_str(v, "added_tokens", "content", true, &s, l->e);
    if (!rc) rc = json_get_bool(v, "added_tokens", "special", false, &special, l->e);
    if (!rc) rc = json_get_bool(v, "added_tokens", "normalized", false, &normalized, l->e);
    for (size_t i = 0; i < ARRAY_LEN(REFUSED) && !rc; i++) {
        bool on = false;
        rc = json_get_bool(v, "added_tokens", REFUSED[i], false, &on, l->e);
        if (on) rc = FAIL(l, AHA_ERR_UNSUPPORTED, "added_tokens[\"%s\"]: %s is true, expected false", quote(q, s, strlen(s)), REFUSED[i]);
    }
    if (rc) return error_prefix(l->e, rc, "%s", l->what);
    const Json *in_vocab = json_field(vocab, s);
    if (in_vocab && json_integer_value(in_vocab) != id)
        return FAIL(l, AHA_ERR_FORMAT, "%s: added_tokens[\"%s\"]: id %lld, expected %lld as in model.vocab", l->what, quote(q, s, strlen(s)),
                    (long long)id, (long long)json_integer_value(in_vocab));
    return put_spec(l, id, s, SPEC_ADDED | (special ? SPEC_SPECIAL : 0u) | (normalized ? SPEC_NORMALIZED : 0u));
}

static int load_vocab(Load *l, const Json *root, const Json *vocab)
{
    const char *key;
    json_t     *v;
    size_t      i;
    int         rc = count_ids(l, root, vocab);
    if (rc) return rc;
    l->spec = mem_zalloc((size_t)l->vocab + 1, sizeof *l->spec);
    if (!l->spec) return FAIL(l, AHA_ERR_NOMEM, "%s: no memory for %d tokens", l->what, l->vocab);
    json_object_foreach((json_t *)vocab, key, v) if ((rc = put_spec(l, json_integer_value(v), key, SPEC_VOCAB))) return rc;
    json_array_foreach((json_t *)added_tokens(root), i, v) if ((rc = put_added(l, v, vocab))) return rc;
    for (int id = 0; id < l->vocab; id++)
        if (!l->spec[id].flags) return FAIL(l, AHA_ERR_FORMAT, "%s: no token has id %d, expected all of 0..%d", l->what, id, l->vocab - 1);
    return 0;
}

/* ---- merges: "a b", or ["a", "b"] ---- */
static TokSource source(const Load *l)
{
    return (TokSource){l->what, "model.vocab", "added_tokens", "model.merges"};
}

static int load_merge(Load *l, const json_t *v, uint32_t rank)
{
    const TokSource from = source(l);
    if (json_is_string(v)) {
        const char *s = json_string_value(v), *gap = strchr(s, ' ');
        if (gap && !strchr(gap + 1, ' ')) return tok_add_merge(l->t, s, (size_t)(gap - s), gap + 1, strlen(gap + 1), rank, &from, l->e);
    } else if (json_is_array(v) && json_array_size(v) == 2) {
        const json_t *a = json_array_get(v, 0), *b = json_array_get(v, 1);
        if (json_is_string(a) && json_is_string(b))
            return tok_add_merge(l->t, json_string_value(a), json_string_length(a), json_string_value(b), json_string_length(b), rank, &from, l->e);
    }
    return FAIL(l, AHA_ERR_FORMAT, "%s: model.merges[%u]: expected two tokens", l->what, rank);
}

static int load_merges(Load *l, const Json *merges)
{
    size_t  i;
    json_t *v;
    json_array_foreach((json_t *)merges, i, v)
    {
        int rc = load_merge(l, v, (uint32_t)i);
        if (rc) return rc;
    }
    return 0;
}

/* ---- the model ---- */
static int check_model(Load *l, const Json *model)
{
    static const char *const EMPTY[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const Json              *dropout = json_field(model, "dropout");
    bool                     fallback = false;
    char                     q[80];
    if (json_field(model, "type") && !json_is_type(model, "BPE"))
        return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: model.type: \"%s\", expected \"BPE\"", l->what, json_type_of(model, q));
    if (dropout && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: model.dropout: set, expected null", l->what);
    int rc = json_get_bool(model, "model", "byte_fallback", false, &fallback, l->e);
    if (!rc) rc = json_get_bool(model, "model", "ignore_merges", false, &l->t->bpe.ignore_merges, l->e);
    if (fallback) rc = FAIL(l, AHA_ERR_UNSUPPORTED, "model.byte_fallback: true, expected false (byte-level BPE)");
    for (size_t i = 0; i < ARRAY_LEN(EMPTY) && !rc; i++) {
        const char *s = "";
        rc = json_get_str(model, "model", EMPTY[i], false, &s, l->e);
        if (!rc && *s) rc = FAIL(l, AHA_ERR_UNSUPPORTED, "model.%s: \"%s\", expected none", EMPTY[i], quote(q, s, strlen(s)));
    }
    return rc ? error_prefix(l->e, rc, "%s", l->what) : 0;
}

static int load_model(Load *l, const Json *root)
{
    const TokSource from = source(l);
    const Json *model = json_field(root, "model");
    if (!model || !json_is_object(model)) return FAIL(l, AHA_ERR_FORMAT, "%s: model: absent, expected an object", l->what);
    const Json *vocab = json_field(model, "vocab"), *merges = json_field(model, "merges");
    int         rc = check_model(l, model);
    if (rc) return rc;
    if (!vocab || !json_is_object(vocab)) return FAIL(l, AHA_ERR_FORMAT, "%s: model.vocab: expected an object of tokens and ids", l->what);
    if (!merges || !json_is_array(merges)) return FAIL(l, AHA_ERR_FORMAT, "%s: model.merges: expected a list", l->what);
    if (json_array_size(merges) > TOK_MERGES_MAX)
        return FAIL(l, AHA_ERR_LIMIT, "%s: model.merges: %zu entries, expected at most %d", l->what, json_array_size(merges), TOK_MERGES_MAX);
    if ((rc = load_vocab(l, root, vocab))) return rc;
    if ((rc = tok_build(l->t, l->spec, l->vocab, json_array_size(merges), &from, l->e))) return rc;
    return load_merges(l, merges);
}

/* ---- normaliser and pre-tokeniser ---- */
static int load_normalizer(Load *l, const Json *v)
{
    char q[80];
    if (!v) return 0;
    if (json_is_type(v, "NFC")) {
        l->t->nfc = true;
        return 0;
    }
    const Json *list = json_field(v, "normalizers");
    if (!json_is_type(v, "Sequence") || !list || !json_is_array(list) || json_array_size(list) > 4)
        return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: normalizer: type \"%s\", expected NFC or none", l->what, json_type_of(v, q));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        if (!json_is_type(one, "NFC"))
            return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: normalizer: type \"%s\", expected NFC or none", l->what, json_type_of(one, q));
        l->t->nfc = true;
    }
    return 0;
}

static int load_split(Load *l, const Json *v)
{
    const char *behavior = "";
    bool        invert = false;
    char        q[80];
    const Json *pattern = json_field(v, "pattern"), *regex = pattern ? json_field(pattern, "Regex") : NULL;
    int         rc = json_get_str(v, "pre_tokenizer", "behavior", true, &behavior, l->e);
    if (!rc) rc = json_get_bool(v, "pre_tokenizer", "invert", false, &invert, l->e);
    if (rc) return error_prefix(l->e, rc, "%s", l->what);
    if (strcmp(behavior, "Isolated") || invert)
        return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: Split is \"%s\"%s, expected \"Isolated\"", l->what,
                    quote(q, behavior, strlen(behavior)), invert ? ", inverted" : "");
    if (!regex || !json_is_string(regex)) return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: Split has no pattern.Regex", l->what);
    return pretok_add(&l->t->pre, json_string_value(regex), json_string_length(regex), l->what, l->e);
}

static int load_byte_level(Load *l, const Json *v, bool *seen)
{
    bool prefix = true, regex = true; /* the defaults of Hugging Face's tokenizers */
    int  rc = json_get_bool(v, "pre_tokenizer", "add_prefix_space", false, &prefix, l->e);
    if (!rc) rc = json_get_bool(v, "pre_tokenizer", "use_regex", false, &regex, l->e);
    if (rc) return error_prefix(l->e, rc, "%s", l->what);
    if (prefix) return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: add_prefix_space is true, expected false", l->what);
    *seen = true;
    return regex ? pretok_add(&l->t->pre, PRETOK_GPT2, strlen(PRETOK_GPT2), l->what, l->e) : 0;
}

static int load_pre_tokenizer(Load *l, const Json *v)
{
    const Json *list = json_field(v, "pretokenizers");
    bool        is_list = v && json_is_type(v, "Sequence") && list && json_is_array(list), bytes = false;
    size_t      n = is_list ? json_array_size(list) : 1;
    char        q[80];
    if (!v) return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: absent, expected byte-level BPE", l->what);
    for (size_t i = 0; i < n; i++) {
        const Json *one = is_list ? json_array_get(list, i) : v;
        int         rc;
        if (!bytes && json_is_type(one, "Split")) rc = load_split(l, one);
        else if (!bytes && json_is_type(one, "ByteLevel")) rc = load_byte_level(l, one, &bytes);
        else
            rc = FAIL(l, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: type \"%s\" at place %zu, expected Split before one ByteLevel", l->what,
                      json_type_of(one, q), i);
        if (rc) return rc;
    }
    if (!bytes || !l->t->pre.n) return FAIL(l, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: no Split or no ByteLevel, expected byte-level BPE", l->what);
    return 0;
}

int tokenizer_parse(Tokenizer **out, const char *json, size_t n, const char *what, aha_error *e)
{
    Json *root = NULL;
    *out = NULL;
    if (n > TOK_JSON_BYTES_MAX) return error_set(e, AHA_ERR_LIMIT, "%s: %zu bytes, expected at most %d", what, n, TOK_JSON_BYTES_MAX);
    int rc = json_parse(&root, json, n, what, e);
    if (rc) return rc;
    Load l = {.what = what, .t = mem_zalloc(1, sizeof *l.t), .e = e};
    if (!l.t) rc = error_set(e, AHA_ERR_NOMEM, "%s: no memory for a tokenizer", what);
    if (!rc) rc = load_normalizer(&l, json_field(root, "normalizer"));
    if (!rc) rc = load_pre_tokenizer(&l, json_field(root, "pre_tokenizer"));
    if (!rc) rc = load_model(&l, root);
    mem_free(l.spec);
    json_free(root);
    if (rc) {
        tokenizer_free(l.t);
        return rc;
    }
    *out = l.t;
    return 0;
}

int tokenizer_read(Tokenizer **out, const char *path, aha_error *e)
{
    char  *text = NULL;
    size_t n = 0;
    *out = NULL;
    int rc = file_read_all(path, TOK_JSON_BYTES_MAX, &text, &n, e);
    if (!rc) rc = tokenizer_parse(out, text, n, path, e);
    mem_free(text);
    return rc;
}
