/* Texts to ids and back: as Hugging Face's tokenizers gives them, for the library's own tokenizer and for small ones with
 * the pre-tokenisers of Qwen and Llama (tools/text_golden.py).  `test_text --build` prints the tokenizer.json of
 * tests/data/text/words.txt. */
#include "textlib.h"

/* ---- the builder ---- */
typedef struct Words {
    char *text, *word[1024];
    int   n;
} Words;

static void words_read(Words *w)
{
    aha_error e = {0};
    size_t    n;
    w->n = 0;
    ASSERT_OK(file_read_all("tests/data/text/words.txt", 1 << 20, &w->text, &n, &e), e);
    for (char *s = w->text; *s;) {
        char *end = strchr(s, '\n'), *to = s;
        w->word[w->n++] = s;
        for (char *from = s; from < end; from++) {
            bool newline = from[0] == '\\' && from[1] == 'n';
            from += newline;
            *to++ = newline ? '\n' : *from;
        }
        *to = 0;
        s = end + 1;
    }
}

static int words_build(char **json)
{
    Words     w;
    aha_error e = {0};
    words_read(&w);
    int rc = tokenizer_build_json((const char *const *)w.word, w.n, json, &e);
    if (rc) fprintf(stderr, "%s\n", e.text);
    mem_free(w.text);
    return rc;
}

static int one_id(const Tokenizer *t, const char *s)
{
    Ids       ids = {0};
    aha_error e = {0};
    ASSERT_OK(tokenizer_encode(t, s, strlen(s), 0, &ids, &e), e);
    int id = ids.n == 1 ? ids.id[0] : -1;
    ids_free(&ids);
    return id;
}

static void built_words(void **state)
{
    Words      w;
    aha_error  e = {0};
    char      *json, *again, *committed, number[8];
    size_t     n;
    Tokenizer *t;
    (void)state;
    assert_int_equal(words_build(&json), 0);
    assert_int_equal(words_build(&again), 0);
    assert_string_equal(json, again);
    ASSERT_OK(file_read_all("tests/data/text/tiny.json", 1 << 20, &committed, &n, &e), e);
    assert_string_equal(json, committed);
    ASSERT_OK(tokenizer_parse(&t, json, strlen(json), "built", &e), e);
    words_read(&w);
    for (int i = 0; i < w.n; i++) {
        int id = one_id(t, w.word[i]);
        if (id < 0) fail_msg("\"%s\" is no single token", w.word[i]);
        const char *s = tokenizer_bytes(t, id, &n);
        assert_true(n == strlen(w.word[i]) && !memcmp(s, w.word[i], n));
    }
    for (int i = 0; i < 1000; i++) {
        Ids ids = {0};
        snprintf(number, sizeof number, " %d", i);
        int id = one_id(t, number + 1);
        assert_true(id >= 0);
        assert_true(i < 10 || id == 249 + i);
        ASSERT_OK(tokenizer_encode(t, number, strlen(number), 0, &ids, &e), e); /* the blank is cut off */
        assert_true(ids.n == 2 && ids.id[1] == id && ids.id[0] == one_id(t, " "));
        ids_free(&ids);
    }
    assert_int_equal(tokenizer_id(t, "<｜begin▁of▁sentence｜>"), 0);
    assert_int_equal(tokenizer_id(t, "<｜end▁of▁sentence｜>"), 1);
    assert_int_equal(tokenizer_id(t, "<｜▁pad▁｜>"), 2);
    assert_int_equal(tokenizer_id(t, "<｜tool▁sep｜>"), tokenizer_vocab(t) - 1);
    assert_int_equal(tokenizer_id(t, "<think>"), tokenizer_vocab(t) - 13);
    assert_int_equal(tokenizer_id(t, "<thin"), -1);
    assert_int_equal(tokenizer_id(t, ""), -1);
    assert_true(tokenizer_is_control(t, 0) && !tokenizer_is_control(t, 3) && tokenizer_is_control(t, tokenizer_id(t, "<think>")));
    tokenizer_free(t);
    mem_free(w.text);
    mem_free(json);
    mem_free(again);
    mem_free(committed);
}

static void built_refusals(void **state)
{
    static const char *const BAD[] = {"", "two words", "1000", "a1", "x\ny", "\xff", "\xe4\xb8", " 13", "漢x",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const char *const TWICE[] = {"make", " make", "make", "m", "a"};
    aha_error                e = {0};
    char                    *json;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_int_equal(tokenizer_build_json(&BAD[i], 1, &json, &e), AHA_ERR_ARG);
        assert_null(json);
        assert_int_equal(strncmp(e.text, "word ", 5), 0);
    }
    assert_int_equal(tokenizer_build_json(TWICE, -1, &json, &e), AHA_ERR_ARG);
    ASSERT_OK(tokenizer_build_json(TWICE, ARRAY_LEN(TWICE), &json, &e), e);
    mem_free(json);
    ASSERT_OK(tokenizer_build_json(NULL, 0, &json, &e), e);
    mem_free(json);
    for (uint64_t nth = 1;; nth++) {
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int rc = tokenizer_build_config(&json, &e);
        os_fault_arm(0, 0);
        mem_free(json);
        if (!rc) break;
        assert_int_equal(rc, AHA_ERR_NOMEM);
    }
}

/* ---- the same ids as the independent implementation ---- */
static void golden(const char *name)
{
    char       path[256];
    aha_error  e = {0};
    Tokenizer *t = fixture(name);
    Ids        ids = {0};
    Buf        back = {0};
    snprintf(path, sizeof path, "tests/data/text/%s.ids.json", name);
    json_t *list = load_list(path);
    assert_true(json_array_size(list) >= 300);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *text = json_array_get(row, 0), *special = json_array_get(row, 2);
        const char   *s = json_string_value(text);
        size_t        n = json_string_length(text);
        ids.n = 0;
        ASSERT_OK(tokenizer_encode(t, s, n, 0, &ids, &e), e);
        check_ids(&ids, json_array_get(row, 1), s);
        if (strcmp(name, "qwen")) { /* which normalises */
            buf_reset(&back);
            assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
            assert_true(back.n == n && !memcmp(back.data, s, n));
        }
        ids.n = 0;
        ASSERT_OK(tokenizer_encode(t, s, n, TOK_SPECIAL, &ids, &e), e);
        check_ids(&ids, json_is_array(special) ? special : json_array_get(row, 1), s);
    }
    json_decref(list);
    check_sample(t, name);
    buf_free(&back);
    ids_free(&ids);
    tokenizer_free(t);
}

static void golden_tiny(void **state)
{
    (void)state;
    golden("tiny");
}
static void golden_qwen(void **state)
{
    (void)state;
    golden("qwen");
}
static void golden_llama(void **state)
{
    (void)state;
    golden("llama");
}

/* ---- bytes that are not UTF-8 ---- */
static void invalid_utf8(void **state)
{
    static const struct {
        const char *text, *valid[4]; /* valid[i]: the runs between single bytes, "" where two bytes meet */
    } CASE[] = {
        {"make\xff make", {"make", " make"}},          {"\x80", {"", ""}},
        {"\xe4\xb8", {"", "", ""}},                    {"a\xed\xa0\x80", {"a", "", "", ""}},
        {"\xc0\xaf.", {"", "", "."}},                  {"\xf4\x90\x80\x80", {"", "", "", ""}},
    };
    aha_error  e = {0};
    Tokenizer *t = fixture("tiny");
    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(CASE); c++) {
        const char *s = CASE[c].text;
        Ids         want = {0}, got = {0};
        Buf         back = {0};
        size_t      at = 0;
        for (int k = 0; k < 4 && at <= strlen(s) && CASE[c].valid[k]; k++) {
            const char *run = CASE[c].valid[k];
            ASSERT_OK(tokenizer_encode(t, run, strlen(run), 0, &want, &e), e);
            at += strlen(run);
            if (at < strlen(s)) ids_push(&want, t->bpe.byte_id[(uint8_t)s[at]], &e);
            at++;
        }
        ASSERT_OK(tokenizer_encode(t, s, strlen(s), 0, &got, &e), e);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.id, want.id, want.n * sizeof *want.id);
        assert_int_equal(tokenizer_decode(t, got.id, got.n, &back), 0);
        assert_true(back.n == strlen(s) && !memcmp(back.data, s, back.n));
        ids_free(&want);
        ids_free(&got);
        buf_free(&back);
    }
    tokenizer_free(t);
}

static void any_bytes_come_back(void **state)
{
    static const char *const NAME[] = {"tiny", "llama"};
    aha_error e = {0};
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(NAME); k++) {
        Tokenizer *t = fixture(NAME[k]);
        Rng        r = {.seed = 7, .stream = k};
        for (int round = 0; round < 3000; round++) {
            char     s[64];
            size_t   n = rng_below(&r, sizeof s);
            unsigned kind = rng_below(&r, 3);
            for (size_t i = 0; i < n; i++) {
                if (kind < 2) s[i] = (char)(uint8_t)(rng_u32(&r) | (kind ? 0x80 : 0));
                else s[i] = "\xe4\xb8\x80 a1\n\0"[rng_below(&r, 8)];
            }
            Ids ids = {0};
            Buf back = {0};
            ASSERT_OK(tokenizer_encode(t, s, n, round & 1, &ids, &e), e);
            assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
            assert_true(back.n == n && (!n || !memcmp(back.data, s, n)));
            ids_free(&ids);
            buf_free(&back);
        }
        tokenizer_free(t);
    }
}

/* ---- long runs take linear time and give the right ids ---- */
static double seconds_for(const Tokenizer *t, const char *s, size_t n, Ids *ids)
{
    aha_error e = {0};
    double    t0 = time_cpu_s(); /* on a busy machine the clock says nothing */
    ids->n = 0;
    ASSERT_OK(tokenizer_encode(t, s, n, 0, ids, &e), e);
    return time_cpu_s() - t0;
}

static void long_runs(void **state)
{
    static const char *const UNIT[] = {"Z", " ", "\n", "\xcc\x81", "\xcc\x81\xcc\xa3", "a", "1", "一", " a", "\xf0\x9f\x98\x80", "!", "\t \n", "\xff", "<", "<think", "'s"};
    static const char *const NAME[] = {"tiny", "qwen", "llama"};
    enum { SIZE = 1 << 17 };
    char *s = malloc(SIZE + 8);
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(NAME); k++) {
        Tokenizer *t = fixture(NAME[k]);
        for (size_t u = 0; u < ARRAY_LEN(UNIT); u++) {
            size_t len = strlen(UNIT[u]), n = 0;
            Ids    ids = {0};
            Buf    back = {0};
            for (; n < SIZE; n += len) memcpy(s + n, UNIT[u], len);
            double sec = seconds_for(t, s, n, &ids);
            if (sec > 3) fail_msg("%s: %zu bytes of \"%s\" took %.2f s", NAME[k], n, UNIT[u], sec); /* quadratic: minutes */
            assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
            if (strcmp(NAME[k], "qwen")) assert_true(back.n == n && !memcmp(back.data, s, n));
            ids_free(&ids);
            buf_free(&back);
        }
        tokenizer_free(t);
    }
    free(s);
}

/* as Hugging Face's tokenizers gives them; and the same without PCRE2's compiler, which a hardened system may forbid */
static void long_ids(void **state)
{
    static const char *const NAME[] = {"tiny", "qwen", "llama"};
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(NAME); k++) {
        Tokenizer *t = fixture(NAME[k]);
        check_long(t, NAME[k]);
        for (int i = 0; i < t->pre.n; i++) t->pre.jit[i] = false;
        check_long(t, NAME[k]);
        tokenizer_free(t);
    }
}

static void long_run_merges(void **state)
{
    static const char *const WORD[] = {"Z", "ZZ", "ZZZZ", "ZZZZZZZZ", " Z"};
    aha_error  e = {0};
    char      *json, *s = malloc(1 << 17);
    Tokenizer *t;
    Ids        ids = {0};
    (void)state;
    ASSERT_OK(tokenizer_build_json(WORD, ARRAY_LEN(WORD), &json, &e), e);
    ASSERT_OK(tokenizer_parse(&t, json, strlen(json), "z", &e), e);
    memset(s, 'Z', 1 << 17);
    int eight = one_id(t, "ZZZZZZZZ");
    seconds_for(t, s, 1 << 17, &ids);
    assert_int_equal(ids.n, 1 << 14);
    for (size_t i = 0; i < ids.n; i++) assert_int_equal(ids.id[i], eight);
    seconds_for(t, s, (1 << 17) - 1, &ids);
    assert_int_equal(ids.n, (1 << 14) - 1 + 3); /* 8 ... 8 4 2 1 */
    ids_free(&ids);
    tokenizer_free(t);
    mem_free(json);
    free(s);
}

/* ---- NFC orders marks by class, however many there are ---- */
static void nfc_order(void **state)
{
    enum { MARKS = 2000 };
    aha_error e = {0};
    char      s[1 + 4 * MARKS], *out;
    size_t    n = 1, m;
    (void)state;
    s[0] = 'q';
    for (int i = 0; i < MARKS; i++, n += 4) memcpy(s + n, "\xcc\x81\xcc\xa3", 4); /* classes 230, 220 */
    ASSERT_OK(nfc_normalise(s, n, &out, &m, &e), e);
    assert_int_equal(m, n);
    for (int i = 0; i < 2 * MARKS; i++) assert_memory_equal(out + 1 + 2 * i, i < MARKS ? "\xcc\xa3" : "\xcc\x81", 2);
    mem_free(out);
    ASSERT_OK(nfc_normalise("plain", 5, &out, &m, &e), e);
    assert_null(out);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--build")) {
        char *json;
        if (words_build(&json)) return 1;
        fputs(json, stdout);
        mem_free(json);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_words),  cmocka_unit_test(built_refusals),      cmocka_unit_test(golden_tiny),
        cmocka_unit_test(golden_qwen),  cmocka_unit_test(golden_llama),        cmocka_unit_test(invalid_utf8),
        cmocka_unit_test(long_runs),    cmocka_unit_test(long_ids),    cmocka_unit_test(any_bytes_come_back), cmocka_unit_test(long_run_merges),
        cmocka_unit_test(nfc_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
