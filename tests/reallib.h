/* Tokenizers with published vocabularies, where the data is at hand (AHA_DATA): ranks become a tokenizer.json as Hugging Face's
 * converter writes it. */
#ifndef AHA_REALLIB_H
#define AHA_REALLIB_H

#include "textlib.h"

#define QWEN "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

typedef struct Added {
    int         id;
    const char *text;
} Added;

static inline size_t base64(const char *s, char *out)
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

static inline size_t spelled(char *out, const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += (size_t)utf8_put(out + k, bytemap_char((uint8_t)s[i]));
    return k;
}

/* Every way to cut a token into two tokens is a merge, in the order of the ranks of what they become. */
static inline void put_merges(Buf *out, const json_t *vocab, const char *word, size_t n)
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
static inline Tokenizer *from_ranks(const char *path, const Added *added, int n_added, int last)
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

typedef enum RealQwen { R1_DISTILL_QWEN, R1_0528_QWEN3 } RealQwen;
static inline Tokenizer *real_qwen(const char *folder, RealQwen which)
{
    static const Added DISTILL[] = {{151643, "<｜end▁of▁sentence｜>"}, {151644, "<｜User｜>"}, {151645, "<｜Assistant｜>"},
                                    {151646, "<｜begin▁of▁sentence｜>"}, {151648, "<think>"}, {151649, "</think>"}};
    static const Added EIGHT[] = {{151643, "<｜begin▁of▁sentence｜>"}, {151645, "<｜end▁of▁sentence｜>"}, {151667, "<think>"},
                                  {151668, "</think>"}, {151669, "<｜User｜>"}, {151670, "<｜Assistant｜>"}};
    char path[600];
    if (!folder) return NULL;
    snprintf(path, sizeof path, "%s/tokenizer/qwen.tiktoken", folder);
    if (which == R1_DISTILL_QWEN) return from_ranks(path, DISTILL, ARRAY_LEN(DISTILL), 151664);
    return from_ranks(path, EIGHT, ARRAY_LEN(EIGHT), 151670);
}

#endif
