/* A tokenizer as Hugging Face's files: tokenizer.json, which load.c reads, and tokenizer_config.json. */
#include <stdlib.h>
#include <string.h>

#include "inner.h"

void tok_spell(const Tokenizer *t, int32_t id, Buf *out)
{
    size_t      n;
    const char *s = tokenizer_bytes(t, id, &n);
    buf_reset(out);
    if (!(t->flags[id] & SPEC_VOCAB) || tokenizer_is_added(t, id)) { /* its spelling is no byte-level one: tok_build */
        buf_add(out, s, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char c[4];
        buf_add(out, c, (size_t)utf8_put(c, bytemap_char((uint8_t)s[i])));
    }
}

static int by_rank(const void *a, const void *b)
{
    uint32_t x = ((const BpeMerge *)a)->rank, y = ((const BpeMerge *)b)->rank;
    return x < y ? -1 : x > y;
}

BpeMerge *tok_merges(const Tokenizer *t, size_t *n)
{
    BpeMerge *list = mem_alloc((t->bpe.n_merge + 1) * sizeof *list);
    *n = 0;
    if (!list) return NULL;
    for (size_t i = 0; i < t->bpe.n_merge; i++)
        if (t->bpe.merge[i].pair != UINT64_MAX) list[(*n)++] = t->bpe.merge[i];
    qsort(list, *n, sizeof *list, by_rank);
    return list;
}

/* ---- tokenizer.json ---- */
static bool has_text(const Tokenizer *t, int32_t id) { return t->off[id + 1] > t->off[id]; }

static void put_added(const Tokenizer *t, Buf *o)
{
    bool first = true;
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t      n;
        const char *s = tokenizer_bytes(t, id, &n);
        if (!tokenizer_is_added(t, id)) continue;
        buf_fmt(o, "%s\n    {\"id\": %d, \"content\": ", first ? "" : ",", id);
        buf_json(o, s, n);
        buf_fmt(o, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": %s, \"special\": %s}",
                t->flags[id] & SPEC_NORMALIZED ? "true" : "false", t->flags[id] & SPEC_SPECIAL ? "true" : "false");
        first = false;
    }
}

/* Readers number the added tokens that the vocabulary lacks on from its end, so it holds all but those behind the last plain token.  An id
 * that no token has is spelled as converters do, [PAD7], which no piece of text is. */
static void put_vocab(const Tokenizer *t, Buf *o, Buf *word)
{
    int last = -1;
    for (int32_t id = 0; id < t->vocab; id++)
        if (has_text(t, id)) last = id;
    while (last >= 0 && tokenizer_is_added(t, last)) last--;
    for (int32_t id = 0; id <= last; id++) {
        tok_spell(t, id, word);
        if (!has_text(t, id)) buf_fmt(word, "[PAD%d]", id);
        buf_str(o, id ? ",\n      " : "\n      ");
        buf_json(o, word->data, word->n);
        buf_fmt(o, ": %d", id);
    }
    o->failed |= word->failed;
}

static bool put_merges(const Tokenizer *t, Buf *o, Buf *word)
{
    size_t    n;
    BpeMerge *list = tok_merges(t, &n);
    Buf       right = {0};
    for (size_t i = 0; list && i < n; i++) {
        tok_spell(t, (int32_t)(list[i].pair >> 32), word);
        tok_spell(t, (int32_t)(uint32_t)list[i].pair, &right);
        buf_str(word, " ");
        buf_add(word, right.data, right.n);
        buf_str(o, i ? ",\n      " : "\n      ");
        buf_json(o, word->data, word->n);
    }
    o->failed |= word->failed || right.failed;
    buf_free(&right);
    mem_free(list);
    return list != NULL;
}

static void put_beginning(const Tokenizer *t, int32_t bos, Buf *o)
{
    size_t      n;
    const char *s = tokenizer_bytes(t, bos, &n);
    Buf         name = {0};
    buf_json(&name, s, n);
    const char *b = name.data ? name.data : "";
    buf_fmt(o, "{\n    \"type\": \"TemplateProcessing\",\n    \"single\": [{\"SpecialToken\": {\"id\": %s, \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n", b);
    buf_fmt(o, "    \"pair\": [{\"SpecialToken\": {\"id\": %s, \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],\n", b);
    buf_fmt(o, "    \"special_tokens\": {%s: {\"id\": %s, \"ids\": [%d], \"tokens\": [%s]}}\n  }", b, b, bos, b);
    o->failed |= name.failed;
    buf_free(&name);
}

void tok_put_split(Buf *o, const char *pattern)
{
    buf_str(o, "      {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    buf_json(o, pattern, strlen(pattern));
    buf_str(o, "}, \"behavior\": \"Isolated\", \"invert\": false},\n");
}

int tokenizer_to_json(const Tokenizer *t, const HfWords *w, Buf *o, aha_error *e)
{
    Buf word = {0};
    buf_str(o, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    put_added(t, o);
    buf_fmt(o, "\n  ],\n  \"normalizer\": %s,\n  \"pre_tokenizer\": {\n    \"type\": \"Sequence\",\n    \"pretokenizers\": [\n", t->nfc ? "{\"type\": \"NFC\"}" : "null");
    for (int i = 0; i < t->pre.n; i++) tok_put_split(o, t->pre.theirs[i]);
    buf_str(o, "      {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}\n    ]\n  },\n  \"post_processor\": ");
    if (w->add_bos && w->bos >= 0) put_beginning(t, (int32_t)w->bos, o);
    else buf_str(o, "null");
    buf_fmt(o, ",\n  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n"
               "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
               "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": %s,\n    \"vocab\": {",
            t->bpe.ignore_merges ? "true" : "false");
    put_vocab(t, o, &word);
    buf_str(o, "\n    },\n    \"merges\": [");
    bool room = put_merges(t, o, &word);
    buf_str(o, "\n    ]\n  }\n}\n");
    buf_free(&word);
    return room && !o->failed ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory for a tokenizer.json of %d tokens", t->vocab);
}

/* ---- tokenizer_config.json, generation_config.json ---- */
static void put_token(const Tokenizer *t, const char *key, int64_t id, Buf *o)
{
    size_t      n;
    const char *s = id < 0 ? "" : tokenizer_bytes(t, (int32_t)id, &n);
    if (id < 0) return;
    buf_fmt(o, "  \"%s\": ", key);
    buf_json(o, s, n);
    buf_str(o, ",\n");
}

int tokenizer_config_to_json(const Tokenizer *t, const HfWords *w, Buf *o, aha_error *e)
{
    buf_fmt(o, "{\n  \"add_bos_token\": %s,\n  \"add_eos_token\": false,\n", w->add_bos ? "true" : "false");
    put_token(t, "bos_token", w->bos, o);
    put_token(t, "eos_token", w->eos, o);
    put_token(t, "pad_token", w->pad >= 0 ? w->pad : w->eos, o);
    buf_fmt(o, "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %lld,\n", (long long)w->length);
    if (w->chat_template.s) {
        buf_str(o, "  \"chat_template\": ");
        buf_json(o, w->chat_template.s, (size_t)w->chat_template.n);
        buf_str(o, ",\n");
    }
    buf_str(o, "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
    return o->failed ? error_set(e, AHA_ERR_NOMEM, "no memory for tokenizer_config.json") : 0;
}
