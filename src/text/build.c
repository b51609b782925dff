/* A tokenizer.json for the project's own small models.
 *
 * Byte-pair encoding can only reach a token through merges, so merges are constructed:
 *   numbers  ab from a and b in ascending order first; then abc from (ab, c), or from (a, bc) where bc was merged before
 *            ab.  The lowest rank goes first, so each number of two or three digits ends as one token.
 *   words    trained on the list itself: the pair that most words hold becomes a token, the lowest ids of equals, until
 *            every word is one token.  Merges done in the order of their ranks are what encoding does, so a word that
 *            ends whole here ends whole there; words share the tokens in between. */
#include <stdlib.h>
#include <string.h>

#include "inner.h"

enum { WORDS_MAX = 20000, WORD_BYTES_MAX = 64, FIRST_BYTE_ID = 3 };

typedef struct Build {
    Buf      vocab, merges;       /* the lists of the file, in JSON */
    char   (*spelled)[WORD_BYTES_MAX]; /* [cap] the bytes of tokens made so far */
    uint8_t *len;
    int      n, cap;
} Build;

static const char *const FIRST[] = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"};
static const char *const LAST[] = {
    "<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>",
};

/* Bytes as the byte-level letters of tokenizer.json */
static size_t spell(char dst[2 * WORD_BYTES_MAX], const char *s, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) out += (size_t)utf8_put(dst + out, bytemap_char((uint8_t)s[i])); /* two bytes at most */
    return out;
}

static void put_vocab(Build *b, const char *s, size_t n, int id)
{
    buf_str(&b->vocab, id ? ",\n      " : "\n      ");
    buf_json(&b->vocab, s, n);
    buf_fmt(&b->vocab, ": %d", id);
}

/* A new token of these bytes; its id. */
static int add_token(Build *b, const char *s, size_t n)
{
    char spelled[2 * WORD_BYTES_MAX];
    int  id = b->n++;
    memcpy(b->spelled[id], s, n);
    b->len[id] = (uint8_t)n;
    put_vocab(b, spelled, spell(spelled, s, n), id);
    return id;
}

/* The merge of two tokens; the id of what they become, a new token unless other words made it from other parts. */
static int add_merge(Build *b, int left, int right)
{
    char   bytes[2 * WORD_BYTES_MAX], spelled[4 * WORD_BYTES_MAX + 1];
    size_t nl = b->len[left], nr = b->len[right];
    memcpy(bytes, b->spelled[left], nl);
    memcpy(bytes + nl, b->spelled[right], nr);
    size_t k = spell(spelled, bytes, nl);
    spelled[k++] = ' ';
    k += spell(spelled + k, bytes + nl, nr);
    buf_str(&b->merges, b->merges.n ? ",\n      " : "\n      ");
    buf_json(&b->merges, spelled, k);
    for (int i = FIRST_BYTE_ID + 256; i < b->n; i++)
        if (b->len[i] == nl + nr && !memcmp(b->spelled[i], bytes, nl + nr)) return i;
    return add_token(b, bytes, nl + nr);
}

static void add_bytes(Build *b)
{
    for (size_t i = 0; i < ARRAY_LEN(FIRST); i++) {
        put_vocab(b, FIRST[i], strlen(FIRST[i]), b->n);
        b->len[b->n++] = 0;
    }
    for (int i = 0; i < 256; i++) {
        char c = (char)bytemap_order(i);
        add_token(b, &c, 1);
    }
}

static void add_numbers(Build *b)
{
    int digit = FIRST_BYTE_ID + '0' - '!', two = b->n - 10; /* ids: digit + d; two + dd for 10..99 */
    for (int i = 10; i < 100; i++) add_merge(b, digit + i / 10, digit + i % 10);
    for (int i = 100; i < 1000; i++) {
        int ab = i / 10, bc = i % 100;
        if (bc >= 10 && bc < ab) add_merge(b, digit + i / 100, two + bc);
        else add_merge(b, two + ab, digit + i % 10);
    }
}

/* ---- words ---- */
typedef struct Word {
    int32_t sym[WORD_BYTES_MAX];
    int     n;
} Word;

static int u64_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The pair in most places; of equals the lowest.  false: every word is whole. */
static bool best_pair(const Word *w, int n, uint64_t *pairs, int *left, int *right)
{
    size_t k = 0, most = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j + 1 < w[i].n; j++) pairs[k++] = (uint64_t)w[i].sym[j] << 32 | (uint32_t)w[i].sym[j + 1];
    qsort(pairs, k, sizeof *pairs, u64_compare);
    for (size_t i = 0, j; i < k; i = j) {
        for (j = i; j < k && pairs[j] == pairs[i];) j++;
        if (j - i <= most) continue;
        most = j - i;
        *left = (int)(pairs[i] >> 32);
        *right = (int)(uint32_t)pairs[i];
    }
    return most > 0;
}

static void apply_merge(Word *w, int left, int right, int id)
{
    int out = 0;
    for (int i = 0; i < w->n; i++) {
        bool hit = i + 1 < w->n && w->sym[i] == left && w->sym[i + 1] == right;
        w->sym[out++] = hit ? id : w->sym[i];
        i += hit;
    }
    w->n = out;
}

static void train_words(Build *b, Word *w, int n, uint64_t *pairs)
{
    int left = 0, right = 0;
    while (best_pair(w, n, pairs, &left, &right)) {
        int id = add_merge(b, left, right);
        for (int i = 0; i < n; i++) apply_merge(&w[i], left, right, id);
    }
}

static int add_words(Build *b, const char *const *words, int n, size_t total, aha_error *e)
{
    int32_t   id_of[256];
    Word     *w = mem_zalloc((size_t)n + 1, sizeof *w);
    uint64_t *pairs = mem_zalloc(total + 1, sizeof *pairs);
    for (int i = 0; i < 256; i++) id_of[(uint8_t)bytemap_order(i)] = FIRST_BYTE_ID + i;
    if (w && pairs) {
        int k = 0; /* a word given twice counts once */
        for (int i = 0; i < n; i++) {
            bool again = false;
            for (int j = 0; j < i && !again; j++) again = !strcmp(words[j], words[i]);
            if (again) continue;
            for (const char *s = words[i]; *s; s++) w[k].sym[w[k].n++] = id_of[(uint8_t)*s];
            k++;
        }
        train_words(b, w, k, pairs);
    }
    int rc = w && pairs ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory to build a tokenizer of %d words", n);
    mem_free(w);
    mem_free(pairs);
    return rc;
}

/* ---- the file ---- */
static void put_added(Buf *o, int id, const char *s, bool first, bool special)
{
    buf_fmt(o, "%s\n    {\"id\": %d, \"content\": ", first ? "" : ",", id);
    buf_json(o, s, strlen(s));
    buf_fmt(o, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": %s, \"special\": %s}", special ? "false" : "true",
            special ? "true" : "false");
}

static void put_file(Buf *o, const Build *b)
{
    buf_str(o, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    for (size_t i = 0; i < ARRAY_LEN(FIRST); i++) put_added(o, (int)i, FIRST[i], !i, true);
    for (size_t i = 0; i < ARRAY_LEN(LAST); i++) put_added(o, b->n + (int)i, LAST[i], false, false);
    buf_str(o, "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\n    \"type\": \"Sequence\",\n    \"pretokenizers\": [\n");
    for (int i = 0; i < 3; i++) tok_put_split(o, PRETOK_DEEPSEEK[i]);
    buf_str(o, "      {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}\n    ]\n  },\n"
               "  \"post_processor\": {\n    \"type\": \"TemplateProcessing\",\n"
               "    \"single\": [{\"SpecialToken\": {\"id\": \"<｜begin▁of▁sentence｜>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n"
               "    \"pair\": [{\"SpecialToken\": {\"id\": \"<｜begin▁of▁sentence｜>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
               " {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],\n"
               "    \"special_tokens\": {\"<｜begin▁of▁sentence｜>\": {\"id\": \"<｜begin▁of▁sentence｜>\", \"ids\": [0], \"tokens\":"
               " [\"<｜begin▁of▁sentence｜>\"]}}\n  },\n"
               "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n"
               "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
               "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {");
    buf_add(o, b->vocab.data, b->vocab.n);
    buf_str(o, "\n    },\n    \"merges\": [");
    buf_add(o, b->merges.data, b->merges.n);
    buf_str(o, "\n    ]\n  }\n}\n");
    o->failed |= b->vocab.failed || b->merges.failed;
}

static const char *number_text(char dst[4], int v)
{
    int k = 0;
    if (v >= 100) dst[k++] = (char)('0' + v / 100);
    if (v >= 10) dst[k++] = (char)('0' + v / 10 % 10);
    dst[k++] = (char)('0' + v % 10);
    dst[k] = 0;
    return dst;
}

/* Every word and number must be one token for whoever reads the file. */
static int check_built(const Buf *file, const char *const *words, int n, aha_error *e)
{
    Tokenizer *t;
    Ids        ids = {0};
    char       number[4];
    int        rc = tokenizer_parse(&t, file->data, file->n, "the tokenizer built", e);
    if (rc) return rc;
    for (int i = 0; i < n + 1000 && !rc; i++) {
        char        quoted[80];
        const char *s = i < n ? words[i] : number_text(number, i - n);
        ids.n = 0;
        rc = tokenizer_encode(t, s, strlen(s), 0, &ids, e);
        if (!rc && ids.n != 1)
            rc = error_set(e, AHA_ERR_ARG, "word \"%s\": %zu tokens, expected a word that the pre-tokeniser leaves whole",
                           error_quote(quoted, sizeof quoted, s, strlen(s)), ids.n);
    }
    ids_free(&ids);
    tokenizer_free(t);
    return rc;
}

static int check_words(const char *const *words, int n, size_t *total, aha_error *e)
{
    *total = 0;
    if (n < 0 || n > WORDS_MAX) return error_set(e, AHA_ERR_ARG, "%d words, expected 0..%d", n, WORDS_MAX);
    for (int i = 0; i < n; i++) {
        char   quoted[80];
        size_t len = strlen(words[i]);
        if (!len || len > WORD_BYTES_MAX || !utf8_valid(words[i], len))
            return error_set(e, AHA_ERR_ARG, "word %d \"%s\": expected 1..%d bytes of UTF-8", i, error_quote(quoted, sizeof quoted, words[i], len),
                             WORD_BYTES_MAX);
        if (strpbrk(words[i], "0123456789"))
            return error_set(e, AHA_ERR_ARG, "word %d \"%s\": holds a digit, expected none (numbers are tokens already)", i,
                             error_quote(quoted, sizeof quoted, words[i], len));
        *total += len;
    }
    return 0;
}

int tokenizer_build_json(const char *const *words, int n_words, char **json_out, aha_error *e)
{
    size_t total;
    *json_out = NULL;
    int rc = check_words(words, n_words, &total, e);
    if (rc) return rc;
    Build b = {.cap = (int)(ARRAY_LEN(FIRST) + 256 + 990 + total)};
    Buf   file = {0};
    b.spelled = mem_zalloc((size_t)b.cap, sizeof *b.spelled);
    b.len = mem_zalloc((size_t)b.cap, 1);
    if (b.spelled && b.len) {
        add_bytes(&b);
        add_numbers(&b);
        rc = add_words(&b, words, n_words, total, e);
        put_file(&file, &b);
    }
    if (!rc && (file.failed || !file.n)) rc = error_set(e, AHA_ERR_NOMEM, "no memory to build a tokenizer of %d words", n_words);
    if (!rc) rc = check_built(&file, words, n_words, e);
    buf_free(&b.vocab);
    buf_free(&b.merges);
    mem_free(b.spelled);
    mem_free(b.len);
    if (rc) buf_free(&file);
    else *json_out = file.data;
    return rc;
}

/* CHAT_R1's form for system, user and assistant texts, in the words that chat_template_detect looks for. */
static const char TEMPLATE[] =
    "{%- set ns = namespace(is_first_sp=true) -%}\n"
    "{{- bos_token -}}\n"
    "{%- for m in messages if m['role'] == 'system' -%}\n"
    "{{- ('' if ns.is_first_sp else '\\n\\n') + m['content'] -}}\n"
    "{%- set ns.is_first_sp = false -%}\n"
    "{%- endfor -%}\n"
    "{%- for m in messages -%}\n"
    "{%- if m['role'] == 'user' -%}\n"
    "{{- '<｜User｜>' + m['content'] -}}\n"
    "{%- elif m['role'] == 'assistant' -%}\n"
    "{{- '<｜Assistant｜>' + m['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' -}}\n"
    "{%- elif m['role'] != 'system' -%}\n"
    "{{- raise_exception('a message with the role ' + m['role'] + ', expected system, user or assistant') -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<｜Assistant｜><think>\\n' -}}\n"
    "{%- endif -%}";

int tokenizer_build_config(char **json_out, aha_error *e)
{
    Buf o = {0};
    *json_out = NULL;
    buf_str(&o, "{\n  \"add_bos_token\": true,\n  \"add_eos_token\": false,\n  \"bos_token\": \"<｜begin▁of▁sentence｜>\",\n"
                "  \"eos_token\": \"<｜end▁of▁sentence｜>\",\n  \"pad_token\": \"<｜▁pad▁｜>\",\n  \"clean_up_tokenization_spaces\": false,\n"
                "  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"chat_template\": ");
    buf_json(&o, TEMPLATE, sizeof TEMPLATE - 1);
    buf_str(&o, "\n}\n");
    if (o.failed) {
        buf_free(&o);
        return error_set(e, AHA_ERR_NOMEM, "no memory for tokenizer_config.json");
    }
    *json_out = o.data;
    return 0;
}
