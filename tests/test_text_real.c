/* The published vocabularies, where the data is at hand (AHA_DATA): Qwen's and Llama's ranks become a tokenizer.json as
 * Hugging Face's converter writes it, and the ids are compared with published vectors of R1, the distills and Qwen. */
#include "textlib.h"

#define QWEN "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

typedef struct Added {
    int         id;
    const char *text;
} Added;

static size_t base64(const char *s, char *out)
{
    static const char LETTER[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t          bits = 0;
    size_t            n = 0, have = 0;
    for (const char *at; *s && (at = strchr(LETTER, *s)); s++) {
        bits = bits << 6 | (uint32_t)(at - LETTER);
        if ((have += 6) < 8) continue;
        out[n++] = (char)(uint8_t)(bits >> (have -= 8));
    }
    return n;
}

static size_t spelled(char *out, const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += (size_t)utf8_put(out + k, bytemap_char((uint8_t)s[i]));
    return k;
}

/* Every way to cut a token into two tokens is a merge, in the order of the ranks of what they become. */
static void put_merges(Buf *out, const json_t *vocab, const char *word, size_t n)
{
    for (size_t cut = 1; cut < n; cut++) {
        if (((uint8_t)word[cut] & 0xC0) == 0x80) continue;
        if (!json_object_getn(vocab, word, cut) || !json_object_getn(vocab, word + cut, n - cut)) continue;
        buf_str(out, out->n ? ",[" : "[");
        buf_json(out, word, cut);
        buf_str(out, ",");
        buf_json(out, word + cut, n - cut);
        buf_str(out, "]");
    }
}

/* A tokenizer.json of a file of "base64 rank" lines; NULL without the file. */
static Tokenizer *from_ranks(const char *path, const Added *added, int n_added, int last)
{
    aha_error  e = {0};
    char      *text, bytes[2048], word[4096];
    size_t     n;
    Buf        vocab = {0}, merges = {0}, file = {0};
    json_t    *seen = json_object();
    int        rank = 0;
    Tokenizer *t;
    if (file_read_all(path, 1 << 28, &text, &n, &e)) return NULL;
    for (char *s = text, *end; (end = strchr(s, '\n')); s = end + 1, rank++) {
        size_t k = spelled(word, bytes, base64(s, bytes));
        json_object_setn_new_nocheck(seen, word, k, json_true());
        buf_str(&vocab, rank ? "," : "");
        buf_json(&vocab, word, k);
        buf_fmt(&vocab, ":%d", rank);
        put_merges(&merges, seen, word, k);
    }
    buf_str(&file, "{\"added_tokens\":[");
    for (int id = rank; id <= last; id++) {
        snprintf(word, sizeof word, "<|unused_%d|>", id);
        for (int i = 0; i < n_added; i++)
            if (added[i].id == id) snprintf(word, sizeof word, "%s", added[i].text);
        buf_fmt(&file, "%s{\"id\":%d,\"content\":\"%s\",\"special\":false,\"normalized\":false}", id > rank ? "," : "", id, word);
    }
    buf_str(&file, "],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":");
    buf_json(&file, QWEN, strlen(QWEN));
    buf_str(&file, "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    buf_add(&file, vocab.data, vocab.n);
    buf_str(&file, "},\"merges\":[");
    buf_add(&file, merges.data, merges.n);
    buf_str(&file, "]}}");
    assert_false(file.failed);
    ASSERT_OK(tokenizer_parse(&t, file.data, file.n, path, &e), e);
    json_decref(seen);
    buf_free(&vocab);
    buf_free(&merges);
    buf_free(&file);
    mem_free(text);
    return t;
}

static const Added DISTILL[] = {{151643, "<｜end▁of▁sentence｜>"}, {151644, "<｜User｜>"}, {151645, "<｜Assistant｜>"},
                                {151646, "<｜begin▁of▁sentence｜>"}, {151648, "<think>"}, {151649, "</think>"}};
static const Added R1_8B[] = {{151643, "<｜begin▁of▁sentence｜>"}, {151645, "<｜end▁of▁sentence｜>"}, {151667, "<think>"},
                              {151668, "</think>"}, {151669, "<｜User｜>"}, {151670, "<｜Assistant｜>"}};

static Tokenizer *qwen(const char *folder, const Added *added, int n, int last)
{
    char path[600];
    if (!folder) return NULL;
    snprintf(path, sizeof path, "%s/tokenizer/qwen.tiktoken", folder);
    return from_ranks(path, added, n, last);
}

static void qwen_vectors(void **state)
{
    const char *folder = data_folder();
    Tokenizer  *t = qwen(folder, DISTILL, ARRAY_LEN(DISTILL), 151664);
    (void)state;
    if (!t) skip();
    assert_int_equal(check_vectors(t, folder, "ggml-vocab-deepseek-r1-qwen", 0), 46);
    assert_int_equal(check_vectors(t, folder, "ggml-vocab-qwen2", 0), 46);
    check_sample(t, "r1-distill-qwen");
    tokenizer_free(t);
}

static void distill_vectors(void **state)
{
    const char *folder = data_folder();
    Tokenizer  *distill = qwen(folder, DISTILL, ARRAY_LEN(DISTILL), 151664), *eight = qwen(folder, R1_8B, ARRAY_LEN(R1_8B), 151670);
    char        path[600];
    aha_error   e = {0};
    int         checked = 0;
    (void)state;
    if (!distill || !eight) skip();
    snprintf(path, sizeof path, "%s/vectors/distill-and-8b.vectors.json", folder);
    json_t *list = load_list(path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *want = json_object_get(row, "ids");
        const char   *s = json_string_value(json_object_get(row, "text"));
        const char   *name = json_string_value(json_object_get(row, "tokenizer")), *kind = json_string_value(json_object_get(row, "kind"));
        Tokenizer    *t = strstr(name, "0528") ? eight : distill;
        Ids           ids = {0};
        if (strstr(kind, "double BOS")) ids_push(&ids, tokenizer_id(t, "<｜begin▁of▁sentence｜>"), &e);
        ASSERT_OK(tokenizer_encode(t, s, strlen(s), TOK_SPECIAL, &ids, &e), e);
        check_ids(&ids, want, name);
        ids_free(&ids);
        checked++;
    }
    assert_true(checked >= 3);

    /* and as a chat */
    static const char TEXT[] = "Describe the Swift programming language.";
    ChatMessage       m = {ROLE_USER, TEXT, sizeof TEXT - 1};
    Ids               ids = {0};
    bool              open;
    ASSERT_OK(chat_render(distill, CHAT_R1_DISTILL, &m, 1, true, &ids, &open, &e), e);
    check_ids(&ids, json_object_get(json_array_get(list, 0), "ids"), "distill");
    assert_true(open);
    ids.n = 0;
    ASSERT_OK(chat_render(eight, CHAT_R1_0528, &m, 1, true, &ids, &open, &e), e);
    check_ids(&ids, json_object_get(json_array_get(list, 2), "ids"), "0528");
    assert_false(open);
    ids_free(&ids);
    json_decref(list);
    tokenizer_free(distill);
    tokenizer_free(eight);
}

static void r1_vectors(void **state)
{
    const char *folder = data_folder();
    char        path[600];
    aha_error   e = {0};
    size_t      n = 0;
    Tokenizer  *t;
    (void)state;
    char *file = folder ? gunzip(folder, "tokenizer/deepseek-r1-tokenizer.derived.json.gz", &n) : NULL;
    if (!file) skip();
    ASSERT_OK(tokenizer_parse(&t, file, n, "r1", &e), e);
    mem_free(file);
    snprintf(path, sizeof path, "%s/vectors/deepseek-v3-r1.vectors.json", folder);
    json_t *list = load_list(path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        const char   *s = json_string_value(json_object_get(row, "text"));
        Ids           ids = {0};
        Buf           back = {0};
        ASSERT_OK(tokenizer_encode(t, s, strlen(s), TOK_SPECIAL, &ids, &e), e);
        check_ids(&ids, json_object_get(row, "ids"), s);
        assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
        assert_string_equal(back.data, s);
        ids_free(&ids);
        buf_free(&back);
    }
    check_sample(t, "r1");
    assert_int_equal(tokenizer_vocab(t), 128815);
    assert_int_equal(tokenizer_id(t, "<｜User｜>"), 128803);
    assert_int_equal(tokenizer_id(t, "</think>"), 128799);
    json_decref(list);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(r1_vectors), cmocka_unit_test(qwen_vectors), cmocka_unit_test(distill_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
