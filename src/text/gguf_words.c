/* A tokenizer as GGUF's metadata: what gguf_vocab.c reads. */
#include <string.h>

#include "inner.h"

enum { NORMAL = 1, CONTROL = 3, USER = 4, UNUSED = 5 };

static int put_merges(const Tokenizer *t, GgufMeta *m, Buf *left, Buf *right, aha_error *e)
{
    size_t    n;
    BpeMerge *list = tok_merges(t, &n);
    if (!list) return error_set(e, AHA_ERR_NOMEM, "no memory for %zu merges", t->bpe.n_merge);
    gguf_put_array(m, "tokenizer.ggml.merges", GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) {
        tok_spell(t, (int32_t)(list[i].pair >> 32), left);
        tok_spell(t, (int32_t)(uint32_t)list[i].pair, right);
        buf_str(left, " ");
        buf_add(left, right->data, right->n);
        gguf_add_str(m, left->data, left->n);
    }
    mem_free(list);
    return 0;
}

/* No token: a hole among the ids, or a row behind the last. */
static bool unused(const Tokenizer *t, int32_t id)
{
    size_t n = 0;
    if (id < t->vocab) tokenizer_bytes(t, id, &n);
    return n == 0;
}

int tokenizer_to_gguf(const Tokenizer *t, int rows, GgufMeta *m, const char *what, aha_error *e)
{
    const char *family = pretok_family(&t->pre);
    Buf         a = {0}, b = {0};
    int         n = rows > t->vocab ? rows : t->vocab;
    if (!family) return error_set(e, AHA_ERR_UNSUPPORTED, "%s: its patterns have no name in GGUF files, expected those of DeepSeek-V3/R1, Qwen2/3 or Llama-3", what);
    gguf_put_str(m, "tokenizer.ggml.model", "gpt2", 4);
    gguf_put_str(m, "tokenizer.ggml.pre", family, strlen(family));
    gguf_put_array(m, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)n);
    for (int32_t i = 0; i < n; i++) {
        if (!unused(t, i)) {
            tok_spell(t, i, &a);
        } else {
            buf_reset(&a);
            buf_fmt(&a, "[PAD%d]", i);
        }
        gguf_add_str(m, a.data, a.n);
    }
    gguf_put_array(m, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)n);
    for (int32_t i = 0; i < n; i++)
        gguf_add_i32(m, unused(t, i) ? UNUSED : !tokenizer_is_added(t, i) ? NORMAL : t->flags[i] & SPEC_SPECIAL ? CONTROL : USER);
    int rc = put_merges(t, m, &a, &b, e);
    if (!rc && (a.failed || b.failed)) rc = error_set(e, AHA_ERR_NOMEM, "%s: no memory for a vocabulary of %d", what, n);
    buf_free(&a);
    buf_free(&b);
    return rc;
}
