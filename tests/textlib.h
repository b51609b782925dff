/* What the tests of src/text share: fixtures, and JSON lists of expected values. */
#ifndef AHA_TEXTLIB_H
#define AHA_TEXTLIB_H

#include <jansson.h>

#include "testlib.h"
#include "text/inner.h"

static inline Tokenizer *fixture(const char *name)
{
    char       path[256];
    aha_error  e = {0};
    Tokenizer *t;
    snprintf(path, sizeof path, "tests/data/text/%s.json", name);
    ASSERT_OK(tokenizer_read(&t, path, &e), e);
    return t;
}

/* written as tokenizer.json and read again */
static inline Tokenizer *through_json(const Tokenizer *t)
{
    Buf        b = {0};
    HfWords    w = {.bos = 0, .eos = 1, .pad = -1, .add_bos = true};
    Tokenizer *again;
    aha_error  e = {0};
    ASSERT_OK(tokenizer_to_json(t, &w, &b, &e), e);
    ASSERT_OK(tokenizer_parse(&again, b.data, b.n, "written", &e), e);
    buf_free(&b);
    return again;
}

static inline json_t *load_list(const char *path)
{
    json_error_t err;
    json_t      *list = json_load_file(path, 0, &err);
    if (!list) fail_msg("%s: line %d: %s", path, err.line, err.text);
    assert_true(json_is_array(list));
    return list;
}

/* ids as text, to compare and to show */
static inline char *ids_text(const int32_t *id, size_t n)
{
    Buf b = {0};
    buf_str(&b, "");
    for (size_t i = 0; i < n; i++) buf_fmt(&b, " %d", id[i]);
    return b.data;
}

static inline char *json_ids_text(const json_t *list)
{
    Buf b = {0};
    buf_str(&b, "");
    for (size_t i = 0; i < json_array_size(list); i++) buf_fmt(&b, " %d", (int)json_integer_value(json_array_get(list, i)));
    return b.data;
}

static inline void check_ids(const Ids *got, const json_t *want, const char *what)
{
    char *a = ids_text(got->id, got->n), *b = json_ids_text(want);
    if (strcmp(a, b)) fail_msg("%s\n  got %s\n want %s", what, a, b);
    mem_free(a);
    mem_free(b);
}

/* want: [number of ids, FNV-1a of them as little-endian numbers of 32 bits]; NULL: not known */
static inline void check_hash(const Ids *ids, const json_t *want, const char *text)
{
    uint64_t h = 0xcbf29ce484222325;
    char     hex[17];
    if (!want) return;
    for (size_t i = 0; i < ids->n; i++)
        for (int k = 0; k < 32; k += 8) h = (h ^ ((uint32_t)ids->id[i] >> k & 0xff)) * 0x100000001b3;
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)h);
    if (ids->n != (size_t)json_integer_value(json_array_get(want, 0)) || strcmp(hex, json_string_value(json_array_get(want, 1))))
        fail_msg("other ids for %s", text);
}

/* the folder of large data that is not part of the project, or NULL after saying so */
static inline const char *data_folder(void)
{
    const char *d = getenv("AHA_DATA");
    if (!d) printf("[   note   ] AHA_DATA names no folder: the real tokenizers are not compared\n");
    return d;
}

/* data/NAME.gz as text; the caller frees it.  NULL when it is not there. */
static inline char *gunzip(const char *folder, const char *name, size_t *n)
{
    char command[600], chunk[65536];
    Buf  b = {0};
    snprintf(command, sizeof command, "gzip -dc '%s/%s' 2>/dev/null", folder, name);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    for (size_t k; (k = fread(chunk, 1, sizeof chunk, p)) > 0;) buf_add(&b, chunk, k);
    pclose(p);
    *n = b.n;
    return b.data;
}

/* A unit repeated up to 128 KiB, or the first length behind; the caller frees it. */
static inline char *long_text(const char *unit, size_t *n)
{
    size_t len = strlen(unit);
    char  *s = malloc((1 << 17) + len);
    for (*n = 0; *n < 1 << 17; *n += len) memcpy(s + *n, unit, len);
    return s;
}

/* long.json (tools/text_long.py): the ids of 128 KiB of one thing by a tokenizer of this name, within seconds of processor time. */
static inline void check_long(const Tokenizer *t, const char *name)
{
    json_t   *list = load_list("tests/data/text/long.json");
    aha_error e = {0};
    assert_true(json_array_size(list) >= 20);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *want = json_object_get(json_array_get(row, 1), name);
        const char   *unit = json_string_value(json_array_get(row, 0));
        size_t        n;
        char         *s = long_text(unit, &n), what[80];
        Ids           ids = {0};
        double        t0 = time_cpu_s(); /* on a busy machine the clock says nothing */
        assert_non_null(want);
        ASSERT_OK(tokenizer_encode(t, s, n, 0, &ids, &e), e);
        double took = time_cpu_s() - t0;
        snprintf(what, sizeof what, "%s, %zu bytes of \"%s\"", name, n, unit);
        if (took > 3) fail_msg("%s took %.2f s", what, took); /* quadratic: minutes */
        check_hash(&ids, want, what);
        ids_free(&ids);
        free(s);
    }
    json_decref(list);
}

/* The rows of sample.json (tools/text_sample.py) that have ids for a tokenizer of this name. */
static inline void check_sample(const Tokenizer *t, const char *name)
{
    json_t   *list = load_list("tests/data/text/sample.json");
    aha_error e = {0};
    assert_true(json_array_size(list) >= 200);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *want = json_object_get(json_array_get(row, 1), name);
        const char   *hex = json_string_value(json_array_get(row, 0));
        char          s[512];
        size_t        n = 0;
        Ids           ids = {0};
        for (unsigned byte; n < sizeof s && sscanf(hex + 2 * n, "%2x", &byte) == 1; n++) s[n] = (char)byte;
        assert_non_null(want);
        ASSERT_OK(tokenizer_encode(t, s, n, 0, &ids, &e), e);
        check_ids(&ids, want, hex);
        ids_free(&ids);
    }
    json_decref(list);
}

/* The texts of data/vectors/NAME.gguf.inp, each followed by a separator, against the lines of ids beside it; how many. */
static inline int check_vectors(const Tokenizer *t, const char *folder, const char *name, unsigned flags)
{
    static const char SEPARATOR[] = "\n__ggml_vocab_test__\n";
    char              path[600], *in, *out, *ids_line;
    size_t            n;
    int               count = 0;
    aha_error         e = {0};
    snprintf(path, sizeof path, "%s/vectors/%s.gguf.inp", folder, name);
    ASSERT_OK(file_read_all(path, 1 << 20, &in, &n, &e), e);
    snprintf(path, sizeof path, "%s/vectors/%s.gguf.out", folder, name);
    ASSERT_OK(file_read_all(path, 1 << 20, &out, &n, &e), e);
    ids_line = out;
    for (char *s = in, *end; s; s = end ? end + sizeof SEPARATOR - 1 : NULL, count++) {
        end = strstr(s, SEPARATOR);
        size_t len = end ? (size_t)(end - s) : strlen(s);
        if (!len && !end) break; /* the file ends with a separator */
        Ids ids = {0};
        ASSERT_OK(tokenizer_encode(t, s, len, flags, &ids, &e), e);
        char *got = ids_text(ids.id, ids.n), *line_end = strchr(ids_line, '\n');
        *line_end = 0;
        if (strcmp(got + strspn(got, " "), ids_line + strspn(ids_line, " "))) fail_msg("%s: text %d\n  got %s\n want %s", name, count, got, ids_line);
        ids_line = line_end + 1;
        mem_free(got);
        ids_free(&ids);
    }
    mem_free(in);
    mem_free(out);
    return count;
}

#endif
