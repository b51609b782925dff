/* A tokenizer.json is hostile: every change below is refused with a message that names the place, or has no effect.  No
 * memory at any moment is a clean error. */
#include "format/format.h"
#include "textlib.h"

/* A small sound file: 256 bytes, " a", "in", two added tokens. */
static char *small_file(void)
{
    Buf b = {0};
    buf_str(&b, "{\"added_tokens\":[{\"id\":258,\"content\":\"<s>\",\"special\":true,\"normalized\":false},{\"id\":259,\"content\":\"<t>\",\"normalized\":true}],"
                "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{N}{1,3}\"},"
                "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]},"
                "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"byte_fallback\":false,\"vocab\":{");
    for (int i = 0; i < 256; i++) {
        char spelled[4];
        buf_json(&b, spelled, (size_t)utf8_put(spelled, bytemap_char((uint8_t)bytemap_order(i))));
        buf_fmt(&b, ":%d,", i);
    }
    buf_str(&b, "\"Ġa\":256,\"in\":257},\"merges\":[\"Ġ a\",[\"i\",\"n\"]]}}");
    assert_false(b.failed);
    return b.data;
}

static char *replaced(const char *text, const char *from, const char *to)
{
    Buf         b = {0};
    const char *at = strstr(text, from);
    if (!at) fail_msg("the test's own \"%s\" is not in the file", from);
    buf_add(&b, text, (size_t)(at - text));
    buf_str(&b, to);
    buf_str(&b, at + strlen(from));
    return b.data;
}

/* Parses an exact copy, so that the sanitizer sees a read behind the end, and uses what comes out. */
static int try_text(const char *text, size_t n, aha_error *e)
{
    static const char SAMPLE[] = "an in 123 <s><t> \xff\xe4\xb8\x80";
    char             *copy = malloc(n ? n : 1);
    Tokenizer        *t;
    Ids               ids = {0};
    memcpy(copy, text, n);
    *e = (aha_error){0};
    int rc = tokenizer_parse(&t, copy, n, "t.json", e);
    free(copy);
    assert_true((rc == 0) == (t != NULL));
    if (rc) {
        assert_int_equal(rc, e->code);
        assert_int_equal(strncmp(e->text, "t.json: ", 8), 0);
        assert_null(strchr(e->text, '\n'));
        return rc;
    }
    assert_int_equal(tokenizer_encode(t, SAMPLE, sizeof SAMPLE - 1, TOK_SPECIAL, &ids, e), 0);
    Buf back = {0};
    assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
    assert_true(back.n == sizeof SAMPLE - 1 && !memcmp(back.data, SAMPLE, back.n));
    buf_free(&back);
    ids_free(&ids);
    tokenizer_free(t);
    return 0;
}

typedef struct Change {
    const char *from, *to;
    int         rc;
    const char *words; /* that the message holds */
} Change;

static void changes(void **state)
{
    static const Change CHANGE[] = {
        {"\"in\":257", "\"in\":257", 0, ""},
        {"\"in\":257", "\"in\":256", AHA_ERR_FORMAT, "256"},            /* twice */
        {"\"in\":257", "\"in\":258", AHA_ERR_FORMAT, "258"},            /* an added token's */
        {"\"in\":257", "\"in\":300", AHA_ERR_FORMAT, "no token has id 257"},
        {"\"in\":257", "\"in\":-1", AHA_ERR_FORMAT, "in"},
        {"\"in\":257", "\"in\":2147483648", AHA_ERR_FORMAT, "in"},
        {"\"in\":257", "\"in\":1048576", AHA_ERR_FORMAT, "1048576"},
        {"\"in\":257", "\"in\":9223372036854775808", AHA_ERR_FORMAT, ""},
        {"\"in\":257", "\"in\":1e3", AHA_ERR_FORMAT, "in"},
        {"\"in\":257", "\"in\":\"257\"", AHA_ERR_FORMAT, "in"},
        {"\"in\":257", "\"in\":null", AHA_ERR_FORMAT, "in"},
        {"\"in\":257", "\"in\":NaN", AHA_ERR_FORMAT, ""},
        {"\"in\":257", "\"\":257", AHA_ERR_FORMAT, "0 bytes"},
        {"\"in\":257", "\"on\":257", AHA_ERR_FORMAT, "merges[1]"},      /* the merge's result is missing */
        {"\"in\":257", "\"<0x-1>\":257", AHA_ERR_FORMAT, "merges[1]"},
        {"\"in\":257", "\"\\ud800\":257", AHA_ERR_FORMAT, ""},          /* a lone surrogate */
        {"\"in\":257", "\"in\":257,\"in\":257", AHA_ERR_FORMAT, ""},
        {"\"in\":257}", "\"in\":257,\"<0xZZ>\":260}", 0, ""},           /* plain text here: byte_fallback is refused */
        {"\"in\":257}", "\"in\":257,\"｜\":260}", 0, ""},               /* no byte-level spelling: no text becomes it */
        {"\"in\":257}", "\"in\":257,\"<t>\":260}", AHA_ERR_FORMAT, "<t>"},
        {"\"in\":257}", "\"in\":257,\"<t>\":259}", 0, ""},
        {"\"A\":32,", "", AHA_ERR_FORMAT, "no token has id 32"},
        {"\"A\":32,", "\"AA\":32,", AHA_ERR_FORMAT, "0x41"},            /* no token for a byte */
        {"\"Ġ a\"", "\"Ġa\"", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "\"Ġ a b\"", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "\" a\"", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "\"\"", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "\" \"", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "\"一 a\"", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "\"a Ġ\"", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "7", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "[1,2]", AHA_ERR_FORMAT, "merges[0]"},
        {"\"Ġ a\"", "\"Ġ a\",\"Ġ a\"", 0, ""},                          /* the later rank counts, as elsewhere */
        {"[\"i\",\"n\"]", "[\"i\"]", AHA_ERR_FORMAT, "merges[1]"},
        {"[\"i\",\"n\"]", "[\"i\",\"n\",\"n\"]", AHA_ERR_FORMAT, "merges[1]"},
        {"[\"i\",\"n\"]", "[\"\",\"n\"]", AHA_ERR_FORMAT, "merges[1]"},
        {"[\"i\",\"n\"]", "[\"in\",\"\"]", AHA_ERR_FORMAT, "merges[1]"},
        {"\"merges\":[", "\"marges\":[", AHA_ERR_FORMAT, "merges"},
        {"\"vocab\":{", "\"vocab\":7,\"v\":{", AHA_ERR_FORMAT, "vocab"},
        {"\"model\":{", "\"modal\":{", AHA_ERR_FORMAT, "model"},
        {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", AHA_ERR_UNSUPPORTED, "Unigram"},
        {"\"type\":\"BPE\"", "\"type\":7", AHA_ERR_UNSUPPORTED, "model"},
        {"\"type\":\"BPE\",", "", 0, ""},
        {"\"dropout\":null", "\"dropout\":0.1", AHA_ERR_UNSUPPORTED, "dropout"},
        {"\"dropout\":null", "\"dropout\":0.0", 0, ""},
        {"\"dropout\":null", "\"continuing_subword_prefix\":\"##\"", AHA_ERR_UNSUPPORTED, "prefix"},
        {"\"dropout\":null", "\"end_of_word_suffix\":\"\"", 0, ""},
        {"\"dropout\":null", "\"ignore_merges\":true", 0, ""},
        {"\"dropout\":null", "\"ignore_merges\":1", AHA_ERR_FORMAT, "ignore_merges"},
        {"\"byte_fallback\":false", "\"byte_fallback\":true", AHA_ERR_UNSUPPORTED, "byte_fallback"},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", 0, ""},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]}", 0, ""},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}", 0, ""},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"}]}", AHA_ERR_UNSUPPORTED, "Strip"},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", AHA_ERR_UNSUPPORTED, "NFKC"},
        {"\"normalizer\":null", "\"normalizer\":[]", AHA_ERR_UNSUPPORTED, "normalizer"},
        {"{1,3}", "{1,4}", AHA_ERR_UNSUPPORTED, "{1,4}"},
        {"{1,3}", "{1,3}x", AHA_ERR_UNSUPPORTED, "pattern"},
        {"{1,3}", "", AHA_ERR_UNSUPPORTED, "pattern"},
        {"\\\\p{N}{1,3}", "(a+)+$", AHA_ERR_UNSUPPORTED, "(a+)+$"},
        {"{\"Regex\"", "{\"String\"", AHA_ERR_UNSUPPORTED, "Regex"},
        {"\"Isolated\"", "\"Removed\"", AHA_ERR_UNSUPPORTED, "Removed"},
        {"\"behavior\"", "\"behaviour\"", AHA_ERR_FORMAT, "behavior"},
        {"\"invert\":false", "\"invert\":true", AHA_ERR_UNSUPPORTED, "inverted"},
        {"\"add_prefix_space\":false", "\"add_prefix_space\":true", AHA_ERR_UNSUPPORTED, "add_prefix_space"},
        {"\"add_prefix_space\":false,", "", AHA_ERR_UNSUPPORTED, "add_prefix_space"},
        {"\"use_regex\":true", "\"use_regex\":false", 0, ""},
        {"\"ByteLevel\"", "\"Metaspace\"", AHA_ERR_UNSUPPORTED, "Metaspace"},
        {"\"type\":\"Split\"", "\"type\":\"ByteLevel\",\"add_prefix_space\":false", AHA_ERR_UNSUPPORTED, "ByteLevel"},
        {"\"type\":\"Sequence\"", "\"type\":\"Secuence\"", AHA_ERR_UNSUPPORTED, "Secuence"},
        {"\"pre_tokenizer\"", "\"pre_tokeniser\"", AHA_ERR_UNSUPPORTED, "pre_tokenizer"},
        {"\"pre_tokenizer\"", "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"x\"", 0, ""},
        {"\"pre_tokenizer\"", "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},\"x\"", AHA_ERR_UNSUPPORTED, "Split"},
        {"\"id\":258", "\"id\":259", AHA_ERR_FORMAT, "259"},
        {"\"id\":258", "\"id\":257", AHA_ERR_FORMAT, "257"},
        {"\"id\":258", "\"id\":1048576", AHA_ERR_FORMAT, "id"},
        {"\"id\":258", "\"id\":-3", AHA_ERR_FORMAT, "id"},
        {"\"id\":258,", "", AHA_ERR_FORMAT, "id"},
        {"\"<s>\"", "\"\"", AHA_ERR_FORMAT, "0 bytes"},
        {"\"<s>\"", "\"<t>\"", AHA_ERR_FORMAT, "<t>"},                  /* one text, two ids */
        {"\"<s>\"", "null", AHA_ERR_FORMAT, "content"},
        {"\"<s>\"", "\"in\"", AHA_ERR_FORMAT, "257"},                   /* is 257 in the vocabulary */
        {"\"special\":true", "\"special\":\"yes\"", AHA_ERR_FORMAT, "special"},
        {"\"special\":true", "\"lstrip\":true", AHA_ERR_UNSUPPORTED, "lstrip"},
        {"\"special\":true", "\"rstrip\":true", AHA_ERR_UNSUPPORTED, "rstrip"},
        {"\"special\":true", "\"single_word\":true", AHA_ERR_UNSUPPORTED, "single_word"},
        {"{\"id\":258", "7,{\"id\":258", AHA_ERR_FORMAT, "added_tokens"},
        {"\"added_tokens\":[", "\"added_tokens\":7,\"x\":[", AHA_ERR_FORMAT, "added_tokens"},
        {"{\"added", "[{\"added", AHA_ERR_FORMAT, ""},
    };
    char *text = small_file();
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CHANGE); i++) {
        const Change *c = &CHANGE[i];
        aha_error     e;
        char         *changed = replaced(text, c->from, c->to);
        int           rc = try_text(changed, strlen(changed), &e);
        if (rc != c->rc || (rc && !strstr(e.text, c->words))) fail_msg("%s -> %s: %d %s", c->from, c->to, rc, e.text);
        mem_free(changed);
    }
    mem_free(text);
}

static void every_cut(void **state)
{
    char     *text = small_file();
    size_t    n = strlen(text);
    aha_error e;
    (void)state;
    for (size_t cut = 0; cut < n; cut++) assert_int_equal(try_text(text, cut, &e), AHA_ERR_FORMAT);
    mem_free(text);
}

static void every_byte_flipped(void **state)
{
    char     *text = small_file();
    size_t    n = strlen(text);
    aha_error e;
    (void)state;
    for (size_t i = 0; i < n; i++) {
        char was = text[i];
        text[i] = (char)(was ^ (1 << (i % 7)));
        Tokenizer *t;
        int        rc = tokenizer_parse(&t, text, n, "t.json", &e); /* sound or not: never a crash */
        assert_true((rc == 0) == (t != NULL));
        tokenizer_free(t);
        text[i] = was;
    }
    mem_free(text);
}

static void sizes(void **state)
{
    aha_error e;
    char     *text = small_file(), *big = malloc(TOK_JSON_BYTES_MAX + 1), *name = malloc(TOK_BYTES_MAX + 16);
    (void)state;
    memset(big, ' ', TOK_JSON_BYTES_MAX + 1);
    assert_int_equal(try_text(big, TOK_JSON_BYTES_MAX + 1, &e), AHA_ERR_LIMIT);
    memset(big, '[', 1000000);
    assert_int_equal(try_text(big, 1000000, &e), AHA_ERR_FORMAT);
    memset(big, '9', 1000000);
    assert_int_equal(try_text(big, 1000000, &e), AHA_ERR_FORMAT);
    free(big);
    memset(name, 'x', TOK_BYTES_MAX + 16);
    for (int extra = 0; extra < 2; extra++) { /* an added token of the largest length, and one byte more */
        name[0] = '"';
        strcpy(name + 1 + TOK_BYTES_MAX + extra, "\"");
        char *changed = replaced(text, "\"<t>\"", name);
        Tokenizer *t;
        assert_int_equal(tokenizer_parse(&t, changed, strlen(changed), "t.json", &e), extra ? AHA_ERR_FORMAT : 0);
        tokenizer_free(t);
        mem_free(changed);
        name[1 + TOK_BYTES_MAX + extra] = 'x';
    }
    free(name);
    mem_free(text);
}

static void no_memory(void **state)
{
    char     *text = small_file();
    size_t    n = strlen(text);
    uint64_t  nth, tried = 0;
    aha_error e0 = {0};
    Json     *j;
    (void)state;
    os_fault_arm(OS_FAULT_ALLOC, UINT64_MAX);
    ASSERT_OK(json_parse(&j, text, n, "t.json", &e0), e0);
    json_free(j);
    nth = os_fault_seen() + 1; /* allocations inside the JSON parser are that parser's test */
    for (;; nth++) {
        aha_error  e = {0};
        Tokenizer *t;
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int  rc = tokenizer_parse(&t, text, n, "t.json", &e);
        bool met = os_fault_seen() >= nth;
        os_fault_arm(0, 0);
        if (rc && rc != AHA_ERR_NOMEM) fail_msg("allocation %llu: %d %s", (unsigned long long)nth, rc, e.text);
        tried += rc != 0;
        tokenizer_free(t);
        if (!met) break;
    }
    assert_true(tried > 8);
    mem_free(text);

    aha_error  e = {0};
    Tokenizer *t = fixture("qwen");
    static const char SAMPLE[] = "Cafe\xcc\x81 don't <think> 12 \xe4\xb8\x80 \xff xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    Ids        ids = {0};
    ids_push(&ids, 5, &e);
    for (nth = 1;; nth++) {
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int rc = tokenizer_encode(t, SAMPLE, sizeof SAMPLE - 1, TOK_SPECIAL, &ids, &e);
        os_fault_arm(0, 0);
        if (!rc) break;
        assert_int_equal(rc, AHA_ERR_NOMEM);
        assert_int_equal(ids.n, 1);
    }
    assert_true(nth > 4);
    assert_int_equal(tokenizer_encode(t, SAMPLE, (size_t)INT32_MAX + 1, 0, &ids, &e), AHA_ERR_LIMIT);
    ids_free(&ids);
    tokenizer_free(t);
    assert_int_equal(tokenizer_read(&t, "tests/data/text", &e), AHA_ERR_FORMAT);
    assert_int_equal(tokenizer_read(&t, "tests/data/text/absent.json", &e), AHA_ERR_IO);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes), cmocka_unit_test(every_cut), cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(sizes),   cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
