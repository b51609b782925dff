/* The tokenizer over a file of texts (u32 length, bytes; tools/text_lines.py): for comparing ids and time with another one.
 * usage: bench_text TOKENIZER.json TEXTS --ids OUT [--special]   the ids of each text: u32 count, i32 ids; and back
 *        bench_text TOKENIZER.json TEXTS                         for each line on standard input: encodes all texts once
 *                                                                and prints nanoseconds of processor and clock, and
 *                                                                the number of ids
 * tools/text_compare.py drives it. */
#include <stdio.h>
#include <string.h>

#include "text/text.h"

typedef struct Texts {
    char  *data;
    size_t n;
} Texts;

/* The text at *at, which moves on; false at the end. */
static bool text_next(const Texts *t, size_t *at, const char **s, size_t *n)
{
    uint32_t len;
    if (t->n - *at < sizeof len) return false;
    memcpy(&len, t->data + *at, sizeof len);
    *at += sizeof len;
    if (len > t->n - *at) return false;
    *s = t->data + *at;
    *n = len;
    *at += len;
    return true;
}

static bool same(const Buf *b, const char *s, size_t n)
{
    return b->n == n && (!n || !memcmp(b->data, s, n));
}

/* Ids back to the text; of a normalised text, to one with the same ids.  In pieces, only whole characters come out. */
static int check_back(const Tokenizer *t, const Ids *ids, const char *s, size_t n, unsigned flags, aha_error *e)
{
    Buf        back = {0}, pieces = {0};
    Utf8Stream stream = {0};
    Ids        again = {0};
    bool       whole = true;
    int        rc = tokenizer_decode(t, ids->id, ids->n, &back);
    for (size_t i = 0; i < ids->n; i++) {
        size_t      k, from = pieces.n;
        const char *bytes = tokenizer_bytes(t, ids->id[i], &k);
        utf8_stream_push(&stream, bytes, k, &pieces);
        whole &= pieces.n == from || utf8_valid(pieces.data + from, pieces.n - from);
    }
    utf8_stream_end(&stream, &pieces);
    if (!rc && !same(&back, s, n)) rc = tokenizer_encode(t, back.data, back.n, flags, &again, e);
    if (!rc && !same(&back, s, n) && (again.n != ids->n || memcmp(again.id, ids->id, again.n * sizeof *again.id))) whole = false;
    if (!rc && (!whole || (utf8_valid(s, n) && !same(&pieces, back.data, back.n)))) rc = error_set(e, AHA_ERR_INTERNAL, "ids that do not become their text again");
    buf_free(&back);
    buf_free(&pieces);
    ids_free(&again);
    return rc;
}

static int write_ids(const Tokenizer *t, const Texts *all, const char *path, unsigned flags, aha_error *e)
{
    FILE       *f = fopen(path, "wb");
    Ids         ids = {0};
    const char *s;
    size_t      at = 0, n;
    int         rc = f ? 0 : error_set(e, AHA_ERR_IO, "%s: cannot be written", path);
    while (!rc && text_next(all, &at, &s, &n)) {
        ids.n = 0;
        rc = tokenizer_encode(t, s, n, flags, &ids, e);
        if (!rc) rc = check_back(t, &ids, s, n, flags, e);
        uint32_t k = (uint32_t)ids.n;
        if (!rc && (fwrite(&k, sizeof k, 1, f) != 1 || fwrite(ids.id, sizeof *ids.id, k, f) != k)) rc = error_set(e, AHA_ERR_IO, "%s: not written", path);
    }
    ids_free(&ids);
    if (f && fclose(f) && !rc) rc = error_set(e, AHA_ERR_IO, "%s: not written", path);
    return rc;
}

static int time_texts(const Tokenizer *t, const Texts *all, aha_error *e)
{
    char line[64];
    int  rc = 0;
    while (!rc && fgets(line, sizeof line, stdin)) {
        const char *s;
        size_t      at = 0, n, total = 0;
        uint64_t    t0 = time_now_ns();
        double      cpu = time_cpu_s();
        while (!rc && text_next(all, &at, &s, &n)) {
            Ids ids = {0};
            rc = tokenizer_encode(t, s, n, 0, &ids, e);
            total += ids.n;
            ids_free(&ids);
        }
        printf("%.0f %llu %zu\n", (time_cpu_s() - cpu) * 1e9, (unsigned long long)(time_now_ns() - t0), total);
        fflush(stdout);
    }
    return rc;
}

int main(int argc, char **argv)
{
    Tokenizer *t = NULL;
    Texts      all = {0};
    aha_error  e = {0};
    if (argc != 3 && !(argc >= 5 && !strcmp(argv[3], "--ids"))) {
        fprintf(stderr, "usage: bench_text TOKENIZER.json TEXTS [--ids OUT [--special]]\n");
        return 2;
    }
    int rc = tokenizer_read(&t, argv[1], &e);
    if (!rc) rc = file_read_all(argv[2], (size_t)1 << 30, &all.data, &all.n, &e);
    if (!rc) rc = argc == 3 ? time_texts(t, &all, &e) : write_ids(t, &all, argv[4], argc > 5 ? TOK_SPECIAL : 0, &e);
    if (rc) fprintf(stderr, "%s\n", e.text);
    tokenizer_free(t);
    mem_free(all.data);
    return rc ? 1 : 0;
}
