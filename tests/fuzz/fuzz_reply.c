/* Bytes as a stream of tokens: the first says how, each further one is a token or, with its high bit set, a control token. */
#include <stdlib.h>
#include <string.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPEN = 1, SPELLED = 2, TEXT = 4 };

/* One whose tool markers are tokens, and one that lacks them. */
static Tokenizer *tokenizer(bool lacking)
{
    static Tokenizer *made[2];
    char             *json = NULL;
    if (made[lacking]) return made[lacking];
    if (tokenizer_build_json(NULL, 0, &json, NULL)) abort();
    for (char *s = json; lacking && (s = strstr(s, "<｜tool▁"));) s[strlen("<｜")] = 'T';
    if (tokenizer_parse(&made[lacking], json, strlen(json), "built", NULL)) abort();
    mem_free(json);
    return made[lacking];
}

static void check_text(const char *s, size_t n)
{
    if (n && !utf8_valid(s, n)) abort();
}

/* What the parts and the calls hold, one after the other. */
static void run(const Tokenizer *t, const Ids *ids, bool open, Buf *all)
{
    Reply     r;
    Buf       out = {0};
    ReplyPart part;
    bool      more = true;
    reply_init(&r, t, open);
    for (size_t i = 0; i <= ids->n; i++) {
        buf_reset(&out);
        if (i < ids->n) more = reply_push(&r, ids->id[i], &part, &out);
        if (i == ids->n || !more) reply_end(&r, &part, &out);
        check_text(out.data, out.n);
        if (out.failed) abort();
        buf_add(all, out.data, out.n);
        if (!more) break;
    }
    for (int i = 0; i < r.n_call; i++) {
        check_text(r.call[i].name, strlen(r.call[i].name));
        check_text(r.call[i].args, r.call[i].n_args);
        if (r.call[i].valid && !r.call[i].complete) abort();
        buf_fmt(all, "|%s|%s|%d", r.call[i].name, r.call[i].args, r.call[i].valid);
    }
    reply_free(&r);
    buf_free(&out);
}

static void push_bytes(const Tokenizer *t, const char *s, size_t n, Ids *ids)
{
    for (size_t i = 0; i < n; i++)
        if (tokenizer_encode(t, s + i, 1, 0, ids, NULL)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t    how = size ? data[0] : 0;
    Tokenizer *t = tokenizer(how & SPELLED);
    int        vocab = tokenizer_vocab(t);
    Ids        ids = {0}, cut = {0};
    Buf        all = {0}, other = {0};
    if (how & TEXT) { /* the same text in two cuts gives the same */
        const char *s = (const char *)data + 1;
        bool        valid = utf8_valid(s, size - 1);
        if (tokenizer_encode(t, s, size - 1, 0, &ids, NULL)) abort();
        push_bytes(t, s, size - 1, &cut);
        run(t, &cut, how & OPEN, &other);
        run(t, &ids, how & OPEN, &all);
        if (valid && (all.n != other.n || (all.n && memcmp(all.data, other.data, all.n)))) abort();
    } else {
        for (size_t i = 1; i < size; i++) ids_push(&ids, data[i] & 0x80 ? vocab - 1 - data[i] % 13 : data[i] + 3, NULL);
        run(t, &ids, how & OPEN, &all);
    }
    ids_free(&ids);
    ids_free(&cut);
    buf_free(&all);
    buf_free(&other);
    return 0;
}
