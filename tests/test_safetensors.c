/* One safetensors file in memory: what is sound, and what hostile headers may try. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob.h"
#include "format/inner.h"

static int open_blob(const char *header, size_t size, aha_error *e)
{
    size_t      n;
    uint8_t    *b = blob(header, size, &n);
    WeightFile *w;
    *e = (aha_error){0};
    int rc = weights_open_memory(&w, "t.safetensors", b, n, e);
    assert_true((rc == 0) == (w != NULL));
    weights_close(w);
    free(b);
    return rc;
}

static void good_file(void **state)
{
    size_t      n;
    uint8_t    *b = blob(GOOD, GOOD_BYTES, &n);
    WeightFile *w;
    aha_error   e = {0};
    (void)state;
    assert_int_equal(weights_open_memory(&w, "t", b, n, &e), 0);
    assert_int_equal(weights_count(w), 3);
    assert_int_equal(weights_bytes(w), GOOD_BYTES);
    const TensorInfo *a = weights_find(w, "a.weight"), *s = weights_find(w, "b"), *c = weights_find(w, "c");
    assert_ptr_equal(a, weights_at(w, 0));
    assert_string_equal(a->name, "a.weight");
    assert_true(a->dtype == DT_F32 && a->n_dims == 2 && a->dim[0] == 2 && a->dim[1] == 3 && a->bytes == 24 && a->shard == 0);
    assert_int_equal(*(const uint8_t *)c->data, 24);
    assert_true(s->n_dims == 0 && s->bytes == 2 && *(const uint8_t *)s->data == 29);
    assert_null(weights_find(w, "a"));
    assert_null(weights_find(w, ""));
    assert_null(weights_find(w, "__metadata__"));
    assert_null(weights_at(w, 3));
    assert_null(weights_at(w, -1));
    assert_string_equal(weights_metadata(w, "format"), "pt");
    assert_string_equal(weights_metadata(w, "k"), "\xc3\xa9\"");
    assert_null(weights_metadata(w, "none"));
    weights_close(w);
    weights_close(NULL);

    free(b);
    assert_int_equal(open_blob("{}", 0, &e), 0); /* no tensors: sound, if of no use */
}

/* Every prefix of the file, and every header length but the right one. */
static void cut_anywhere(void **state)
{
    size_t   n, head = sizeof GOOD - 1;
    uint8_t *b = blob(GOOD, GOOD_BYTES, &n);
    (void)state;
    for (size_t cut = 0; cut <= n + 1; cut++) {
        uint8_t    *copy = malloc(cut ? cut : 1);
        aha_error   e = {0};
        WeightFile *w;
        memcpy(copy, b, cut < n ? cut : n);
        if (cut > n) copy[n] = 0;
        int rc = weights_open_memory(&w, "t.safetensors", copy, cut, &e);
        assert_int_equal(rc, cut == n ? 0 : AHA_ERR_FORMAT);
        if (rc) assert_int_equal(strncmp(e.text, "t.safetensors: ", 15), 0);
        weights_close(w);
        free(copy);
    }
    for (size_t len = 0; len < n + 8; len++) {
        aha_error   e = {0};
        WeightFile *w;
        b[0] = (uint8_t)len;
        b[1] = (uint8_t)(len >> 8);
        assert_true(weights_open_memory(&w, "t.safetensors", b, n, &e) == (len == head ? 0 : AHA_ERR_FORMAT));
        weights_close(w);
    }
    free(b);
}

static void every_byte_changed(void **state)
{
    static const uint8_t TO[] = {0, '"', '{', '}', '[', ']', ',', ':', '\\', '0', '9', '-', 0x80, 0xff, ' '};
    size_t   n;
    uint8_t *b = blob(GOOD, GOOD_BYTES, &n);
    (void)state;
    for (size_t i = 0; i < 8 + sizeof GOOD - 1; i++) {
        uint8_t was = b[i];
        for (size_t k = 0; k < ARRAY_LEN(TO); k++) {
            aha_error   e = {0};
            WeightFile *w;
            b[i] = TO[k];
            int rc = weights_open_memory(&w, "t", b, n, &e);
            assert_true(rc == 0 || rc == AHA_ERR_FORMAT);
            if (!rc) assert_int_equal(weights_bytes(w), GOOD_BYTES);
            weights_close(w);
        }
        b[i] = was;
    }
    free(b);
}

static const struct {
    const char *header;
    size_t      size;
    const char *words; /* in the message */
} BAD[] = {
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8, "tensor \"a\": is there twice"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("\\u0061", "F32", "[1]", "[4,8]") "}", 8, "tensor \"a\": is there twice"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[2,6]") "}", 6, "tensor \"b\": data_offsets: got an overlap at byte 2"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[0,4]") "}", 4, "overlap"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[5,9]") "}", 9, "gap at byte 5"},
    {"{" T("a", "F32", "[1]", "[1,5]") "}", 5, "gap at byte 1"},
    {"{" T("a", "F32", "[1]", "[0,4]") "}", 5, "got 1 bytes after the last tensor"},
    {"{}", 1, "got 1 bytes after the last tensor"},
    {"{" T("a", "F32", "[1]", "[0,4]") "}", 3, "tensor \"a\": data_offsets: got [0, 4]"},
    {"{" T("a", "F32", "[2]", "[0,4]") "}", 4, "got 4 bytes, expected 8"},
    {"{" T("a", "F16", "[1]", "[0,4]") "}", 4, "got 4 bytes, expected 2"},
    {"{" T("a", "F32", "[]", "[0,8]") "}", 8, "got 8 bytes, expected 4"},
    {"{" T("a", "F32", "[1]", "[4,0]") "}", 4, "got [4, 0]"},
    {"{" T("a", "F32", "[0]", "[0,0]") "}", 0, "a dimension of 0"},
    {"{" T("a", "F32", "[0,9223372036854775807]", "[0,0]") "}", 0, "a dimension of 0"},
    {"{" T("a", "F32", "[-1]", "[0,4]") "}", 4, "expected an integer"},
    {"{" T("a", "F32", "[1.0]", "[0,4]") "}", 4, "expected an integer"},
    {"{" T("a", "F32", "[1e0]", "[0,4]") "}", 4, "expected an integer"},
    {"{" T("a", "F32", "[01]", "[0,4]") "}", 4, "expected an integer"},
    {"{" T("a", "F32", "[1,1,1,1,1]", "[0,4]") "}", 4, "at most 4"},
    {"{" T("a", "F32", "[9223372036854775808]", "[0,4]") "}", 4, "expected an integer"},
    {"{" T("a", "F32", "[4611686018427387905]", "[0,4]") "}", 4, "overflows"},           /* x 4 = 2^64 + 4 */
    {"{" T("a", "U8", "[4294967296,4294967296,1]", "[0,0]") "}", 0, "overflows"},          /* 2^64 */
    {"{" T("a", "U8", "[2147483648,4294967296,2]", "[0,0]") "}", 0, "overflows"},
    {"{" T("a", "I8", "[9223372036854775744]", "[0,9223372036854775744]") "," T("b", "I8", "[9223372036854775744]",
        "[9223372036854775744,18446744073709551488]") "}", 4, "tensor \"a\": data_offsets"},
    {"{" T("a", "F32", "[1]", "[0,18446744073709551620]") "}", 4, "expected an integer"},
    {"{" T("a", "F32", "[1]", "[0,4,8]") "}", 4, "expected ']'"},
    {"{" T("a", "F32", "[1]", "[4]") "}", 4, "expected ','"},
    {"{" T("a", "F31", "[1]", "[0,4]") "}", 4, "dtype: got \"F31\""},
    {"{" T("a", "f32", "[1]", "[0,4]") "}", 4, "dtype"},
    {"{" T("a", "F32\\u0000", "[1]", "[0,4]") "}", 4, "no NUL"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "expected a string"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "got 2 of the fields"},
    {"{\"a\":{}}", 0, "got 0 of the fields"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "field \"dtype\""},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "field \"x\""},
    {"{\"a\":[]}", 0, "expected '{'"},
    {"{\"a\":null}", 0, "expected '{'"},
    {"{" T("", "F32", "[1]", "[0,4]") "}", 4, "name of 0 bytes"},
    {"{" T("a\\u0000b", "F32", "[1]", "[0,4]") "}", 4, "no NUL"},
    {"{" T("a\\ud800", "F32", "[1]", "[0,4]") "}", 4, "lone surrogate"},
    {"{" T("a\xff", "F32", "[1]", "[0,4]") "}", 4, "UTF-8"},
    {"{" T("a\n", "F32", "[1]", "[0,4]") "}", 4, "string"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "twice"},
    {"{\"__metadata__\":{\"a\":\"1\"},\"__metadata__\":{}}", 0, "once"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "expected a string"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "expected a string"},
    {"{\"__metadata__\":[]}", 0, "expected '{'"},
    {"{\"a\":{\"dtype\":[[[[[[[[]]]]]]]]}}", 0, "expected a string"},
    {"[]", 0, "begin with '{'"},
    {" {}", 0, "begin with '{'"},
    {"{} x", 0, "end of the text"},
    {"{,}", 0, "expected a string"},
    {"{{}}", 0, "expected a string"},
    {"", 0, "begin with '{'"},
};

static void hostile_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        aha_error e;
        assert_int_equal(open_blob(BAD[i].header, BAD[i].size, &e), AHA_ERR_FORMAT);
        if (!strstr(e.text, BAD[i].words)) fail_msg("%s\n  gave: %s\n  not: %s", BAD[i].header, e.text, BAD[i].words);
    }
    aha_error e; /* sound, but no type of this build */
    assert_int_equal(open_blob("{" T("a", "U32", "[1]", "[0,4]") "}", 4, &e), AHA_ERR_UNSUPPORTED);
    assert_int_equal(e.code, AHA_ERR_UNSUPPORTED);
}

static void long_name(void **state)
{
    (void)state;
    for (size_t len = TENSOR_NAME_MAX; len <= TENSOR_NAME_MAX + 1; len++) {
        char      header[TENSOR_NAME_MAX + 100];
        aha_error e;
        int       n = snprintf(header, sizeof header, "{\"%0*d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", (int)len, 0);
        assert_true(n > 0);
        assert_int_equal(open_blob(header, 1, &e), len == TENSOR_NAME_MAX ? 0 : AHA_ERR_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_file),       cmocka_unit_test(cut_anywhere), cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(hostile_headers), cmocka_unit_test(long_name),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
