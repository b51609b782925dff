/* JSON from outside: bounded in bytes, depth, numbers and memory; the streaming reader agrees with the parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/inner.h"

static int parse(const char *text, size_t n, aha_error *e)
{
    /* an exact copy on the heap, so that the sanitizer sees a read behind the end */
    char *copy = malloc(n ? n : 1);
    Json *j;
    memcpy(copy, text, n);
    *e = (aha_error){0};
    int rc = json_parse(&j, copy, n, "t.json", e);
    assert_true((rc == 0) == (j != NULL));
    json_free(j);
    free(copy);
    return rc;
}

static int scan(const char *text, size_t n, aha_error *e)
{
    char *copy = malloc(n ? n : 1);
    Scan  s;
    memcpy(copy, text, n);
    scan_init(&s, "t.json", copy, n, e);
    int rc = scan_skip(&s);
    if (!rc) rc = scan_end(&s);
    free(copy);
    return rc;
}

static void good(void **state)
{
    static const char *const TEXT[] = {
        "{}", "[]", " [1, -2.5e3, true, false, null, \"\\u00e9\\ud83d\\ude00\\n\"] ", "{\"a\":{\"b\":[{},[],{\"c\":0}]},\"\":1}",
        "[0,-0,0.5,1E+2,9223372036854775807,-9223372036854775808]",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXT); i++) {
        aha_error e;
        size_t    n = strlen(TEXT[i]);
        assert_int_equal(parse(TEXT[i], n, &e), 0);
        assert_int_equal(scan(TEXT[i], n, &e), 0);
        for (size_t cut = 0; cut + 1 < n; cut++) { /* the last may be a blank */
            assert_int_equal(parse(TEXT[i], cut, &e), AHA_ERR_FORMAT);
            assert_int_equal(scan(TEXT[i], cut, &e), AHA_ERR_FORMAT);
            assert_int_equal(strncmp(e.text, "t.json: ", 8), 0);
        }
    }
}

static void bad(void **state)
{
    static const char *const TEXT[] = {
        "{\"a\":\"\\ud800\"}", "[\"\\udc00\"]", "[\"\\ud800\\u0041\"]", "[\"\\u0000\"]", "{\"\\u0000\":1}", "[NaN]", "[Infinity]", "[-]", "[01]", "[1.]",
        "[.5]", "[1e]", "[+1]", "[1,]", "{\"a\":1,}", "{,}", "[\"\x01\"]", "[\"\xff\"]", "[\"\xc0\x80\"]", "[\"\xed\xa0\x80\"]", "[\"\\x\"]", "[1] x", "[1][2]",
        "{\"a\" 1}", "{a:1}", "['a']", "[tru]", "[}", "{]", "[\"\\u12\"]", "\xef\xbb\xbf[]",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXT); i++) {
        aha_error e;
        assert_int_equal(parse(TEXT[i], strlen(TEXT[i]), &e), AHA_ERR_FORMAT);
        assert_int_equal(scan(TEXT[i], strlen(TEXT[i]), &e), AHA_ERR_FORMAT);
        assert_null(strchr(e.text, '\n'));
    }
    aha_error e;
    assert_int_equal(parse("{\"a\":1,\"a\":2}", 13, &e), AHA_ERR_FORMAT);
    assert_non_null(strstr(e.text, "duplicate"));
    assert_int_equal(parse("[1e999]", 7, &e), AHA_ERR_FORMAT);
    assert_int_equal(parse("[9223372036854775808]", 21, &e), AHA_ERR_FORMAT);
    assert_int_equal(parse("[\"a\0b\"]", 7, &e), AHA_ERR_FORMAT);
    assert_int_equal(parse("{}\0", 3, &e), AHA_ERR_FORMAT);
    assert_int_equal(parse("[0\0]", 4, &e), AHA_ERR_FORMAT);
    assert_int_equal(parse("[\"\\\0\"]", 6, &e), AHA_ERR_FORMAT);
}

static char *repeat(const char *unit, size_t times, size_t *n)
{
    size_t len = strlen(unit);
    char  *s = malloc(len * times + 16);
    for (size_t i = 0; i < times; i++) memcpy(s + i * len, unit, len);
    *n = len * times;
    return s;
}

static void deep(void **state)
{
    static const char *const UNIT[] = {"[", "{\"a\":", "[{\"a\":"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(UNIT); i++) {
        aha_error e;
        size_t    n;
        char     *s = repeat(UNIT[i], 1000000, &n);
        assert_int_equal(parse(s, n, &e), AHA_ERR_FORMAT);
        assert_non_null(strstr(e.text, "deep"));
        assert_int_equal(scan(s, n, &e), AHA_ERR_FORMAT);
        assert_non_null(strstr(e.text, "levels"));
        free(s);
    }
    char text[2 * JSON_DEPTH_MAX + 2];
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        aha_error e;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_int_equal(parse(text, 2 * (size_t)depth, &e), depth == JSON_DEPTH_MAX ? 0 : AHA_ERR_FORMAT);
        assert_int_equal(scan(text, 2 * (size_t)depth, &e), depth == JSON_DEPTH_MAX ? 0 : AHA_ERR_FORMAT);
    }
}

static void long_numbers(void **state)
{
    static const char *const UNIT[] = {"9", "9.", "1e-", "-"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(UNIT); i++) {
        aha_error e;
        size_t    n;
        char     *s = repeat(UNIT[i], 5000000, &n);
        s[0] = '[';
        assert_int_equal(parse(s, n, &e), AHA_ERR_FORMAT);
        assert_true(strlen(e.text) < 200);
        free(s);
    }
}

/* `before`, the unit so many times, `after` */
static char *list_of(const char *before, const char *unit, size_t times, const char *after, size_t *n)
{
    size_t len, head = strlen(before), tail = strlen(after);
    char  *body = repeat(unit, times, &len), *s = malloc(head + len + tail + 1);
    memcpy(s, before, head);
    memcpy(s + head, body, len);
    memcpy(s + head + len, after, tail);
    free(body);
    *n = head + len + tail;
    return s;
}

/* A tree may cost 48 bytes for each byte of text, as a tokenizer's lists need; not the 77 of a list of `{},`. */
static void memory_is_bounded(void **state)
{
    static const char *const WANT_LIMIT[] = {"{},", "{\"a\":[{}]},", "[[[]]],"};
    static const char *const WANT_OK[] = {"[\"ab\",\"cd\"],", "1,", "\"a\",", "{\"id\":1,\"content\":\"<x>\",\"special\":true},"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(WANT_LIMIT) + ARRAY_LEN(WANT_OK); i++) {
        aha_error e;
        size_t    n, k = i - ARRAY_LEN(WANT_LIMIT);
        bool      ok = i >= ARRAY_LEN(WANT_LIMIT);
        char     *s = list_of("[", ok ? WANT_OK[k] : WANT_LIMIT[i], 1000000, "0]", &n);
        assert_int_equal(parse(s, n, &e), ok ? 0 : AHA_ERR_LIMIT);
        assert_int_equal(scan(s, n, &e), 0);
        free(s);
    }
}

static void too_long(void **state)
{
    aha_error e = {0};
    Json     *j;
    (void)state;
    assert_int_equal(json_parse(&j, "[]", (size_t)1 << 40, "t.json", &e), AHA_ERR_LIMIT); /* not a byte is looked at */
    assert_int_equal(json_read(&j, "/dev/zero", 100, &e), AHA_ERR_FORMAT);
    assert_int_equal(json_read(&j, "/nonexistent", 100, &e), AHA_ERR_IO);
    assert_null(j);
}

static void fields(void **state)
{
    static const char TEXT[] = "{\"i\": 7, \"d\": 0.1, \"b\": true, \"s\": \"x\", \"z\": null, \"l\": [1], \"big\": 4294967296}";
    aha_error e = {0};
    Json     *j;
    int64_t   i = -1;
    double    d = -1;
    bool      b = false;
    const char *s = NULL;
    (void)state;
    assert_int_equal(json_parse(&j, TEXT, sizeof TEXT - 1, "t.json", &e), 0);
    assert_int_equal(json_get_int(j, "t.json", "i", true, 0, 7, &i, &e), 0);
    assert_int_equal(i, 7);
    assert_int_equal(json_get_num(j, "t.json", "i", true, 0, 7, &d, &e), 0);
    assert_int_equal(json_get_num(j, "t.json", "d", true, 0, 7, &d, &e), 0);
    assert_true(d == 0.1);
    assert_int_equal(json_get_bool(j, "t.json", "b", true, &b, &e), 0);
    assert_true(b);
    assert_int_equal(json_get_str(j, "t.json", "s", true, &s, &e), 0);
    assert_string_equal(s, "x");
    i = 5; /* absent and null leave it alone */
    assert_int_equal(json_get_int(j, "t.json", "none", false, 0, 7, &i, &e), 0);
    assert_int_equal(json_get_int(j, "t.json", "z", false, 0, 7, &i, &e), 0);
    assert_int_equal(json_get_int(NULL, "t.json", "z", false, 0, 7, &i, &e), 0);
    assert_int_equal(i, 5);

    assert_int_equal(json_get_int(j, "t.json", "i", true, 0, 6, &i, &e), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "t.json: i: got 7, expected an integer of 0..6");
    assert_int_equal(json_get_int(j, "t.json", "d", false, 0, 6, &i, &e), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "t.json: d: got 0.1, expected an integer of 0..6");
    assert_int_equal(json_get_int(j, "t.json", "z", true, 0, 6, &i, &e), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "t.json: z: absent, expected an integer of 0..6");
    assert_int_equal(json_get_num(j, "t.json", "big", false, 0, 1, &d, &e), AHA_ERR_FORMAT);
    assert_int_equal(json_get_num(j, "t.json", "s", false, 0, 1, &d, &e), AHA_ERR_FORMAT);
    assert_int_equal(json_get_bool(j, "t.json", "i", false, &b, &e), AHA_ERR_FORMAT);
    assert_int_equal(json_get_str(j, "t.json", "l", false, &s, &e), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "t.json: l: got a list, expected a string");
    assert_int_equal(json_get_str(json_field(j, "l"), "t.json: l", "x", false, &s, &e), AHA_ERR_FORMAT);
    assert_null(json_field(j, "z"));
    assert_null(json_field(NULL, "z"));
    json_free(j);
    json_free(NULL);
}

static void scan_pieces(void **state)
{
    static const char TEXT[] = " { \"k\\u00e9\" : 12 , \"l\": 9223372036854775807}";
    static const char *const NO_COUNT[] = {"-1", "01", "1.0", "1e3", "9223372036854775808", "99999999999999999999", "x", "", "\"1\""};
    aha_error e;
    Scan      s;
    Buf       key = {0};
    int       n = 0;
    int64_t   v;
    (void)state;
    scan_init(&s, "t", TEXT, sizeof TEXT - 1, &e);
    assert_int_equal(scan_expect(&s, '{'), 0);
    assert_int_equal(scan_key(&s, &n, &key), 1);
    assert_string_equal(key.data, "k\xc3\xa9");
    assert_int_equal(scan_count(&s, &v), 0);
    assert_int_equal(v, 12);
    assert_int_equal(scan_key(&s, &n, &key), 1);
    assert_int_equal(scan_count(&s, &v), 0);
    assert_true(v == INT64_MAX);
    assert_int_equal(scan_key(&s, &n, &key), 0);
    assert_int_equal(scan_end(&s), 0);
    buf_free(&key);
    for (size_t i = 0; i < ARRAY_LEN(NO_COUNT); i++) {
        scan_init(&s, "t", NO_COUNT[i], strlen(NO_COUNT[i]), &e);
        assert_int_equal(scan_count(&s, &v), AHA_ERR_FORMAT);
    }
}

/* Integers of any size where they are only passed on; everything else as ever, and the place of an error in the text given. */
static void wide_integers(void **state)
{
    static const char *const LARGE[] = {"18446744073709551615", "9223372036854775808", "-9223372036854775809", "100000000000000000000", "123456789012345678901234567890"};
    static const char *const SMALL[] = {"9223372036854775807", "-9223372036854775808", "0", "1e3", "9223372036854775808.5", "1.18446744073709551615", "1e18", "-1"};
    aha_error e = {0};
    Json     *j;
    size_t    at;
    char      text[400];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LARGE); i++) {
        int64_t v = 7;
        snprintf(text, sizeof text, "{\"a %s\\\" %s\":[%s,1,{\"x\":%s}],\"b\":%s}", LARGE[i], LARGE[i], LARGE[i], LARGE[i], LARGE[i]);
        char *copy = malloc(strlen(text)); /* exactly as much: the sanitizer sees a read behind the end */
        memcpy(copy, text, strlen(text));
        assert_int_equal(json_parse(&j, text, strlen(text), "t.json", &e), AHA_ERR_FORMAT);
        assert_int_equal(json_parse_wide(&j, copy, strlen(text), "t.json", &at, &e), 0);
        snprintf(text, sizeof text, "a %s\" %s", LARGE[i], LARGE[i]); /* strings stay themselves */
        assert_non_null(json_field(j, text));
        assert_int_equal(json_get_int(j, "t.json", "b", true, 0, INT64_MAX, &v, &e), AHA_ERR_FORMAT);
        if (!strstr(e.text, "b: got ") || v != 7) fail_msg("%s", e.text);
        json_free(j);
        free(copy);
    }
    for (size_t i = 0; i < ARRAY_LEN(SMALL); i++) {
        Json *k;
        snprintf(text, sizeof text, "[%s,-%s]", SMALL[i], SMALL[i][0] == '-' ? "1" : SMALL[i]);
        assert_int_equal(json_parse(&j, text, strlen(text), "t.json", &e), 0);
        assert_int_equal(json_parse_wide(&k, text, strlen(text), "t.json", &at, &e), 0);
        json_free(j);
        json_free(k);
    }
    static const char BAD[] = "[18446744073709551615, 99999999999999999999, }";
    assert_int_equal(json_parse_wide(&j, BAD, sizeof BAD - 1, "t.json", &at, &e), AHA_ERR_FORMAT);
    assert_null(j);
    assert_in_range(at, sizeof BAD - 3, sizeof BAD - 1);
    for (uint64_t nth = 1, more = 1; more; nth++) {
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int rc = json_parse_wide(&j, "[18446744073709551615]", 22, "t.json", &at, &e);
        more = os_fault_seen() >= nth;
        os_fault_arm(0, 0);
        assert_int_equal(rc, more ? AHA_ERR_NOMEM : 0);
        json_free(j);
    }
}

static void allocations_fail(void **state)
{
    static const char TEXT[] = "{\"a\": [1, 2.5, \"text\", {\"b\": {\"c\": [[], [], []]}}], \"d\": true, \"e\": \"\\u00e9\"}";
    aha_error e = {0};
    Json     *j;
    int       rc = -1;
    (void)state;
    for (uint64_t nth = 1; rc; nth++) {
        os_fault_arm(OS_FAULT_ALLOC, nth);
        rc = json_parse(&j, TEXT, sizeof TEXT - 1, "t.json", &e);
        os_fault_arm(0, 0);
        assert_true(rc == 0 || rc == AHA_ERR_NOMEM);
        assert_true(nth < 1000);
        json_free(j);
    }
}

/* Every allocation of the text refused, one after the other.  After a refusal the parser must ask for nothing more:
 * it goes on only as far as it had taken bytes already. */
static void each_refused(const char *text, size_t n)
{
    int rc = -1;
    for (uint64_t nth = 1; rc; nth++) {
        aha_error e;
        os_fault_arm(OS_FAULT_ALLOC, nth);
        rc = parse(text, n, &e);
        uint64_t seen = os_fault_seen();
        os_fault_arm(0, 0);
        assert_true(rc == 0 || rc == AHA_ERR_NOMEM);
        assert_true(rc ? seen == nth : seen == nth - 1);
        assert_true(nth < 1000);
    }
}

/* The parser's buffer doubles from 16 bytes on.  Strings, keys and numbers of lengths around that, in characters of one to
 * four bytes and in escapes, so that each doubling comes once at each byte of a token, the closing quote among them. */
static void refused_at_a_doubling(void **state)
{
    static const char *const FORM[] = {"[\"%s\",\"b\"]", "{\"%s\":\"b\",\"c\":[\"d\"]}", "[[\"a\",\"%s\"],\"\xc3\xa9\"]", "[\"\\n%s\xf0\x9f\x98\x80\"]"};
    static const char *const UNIT[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\\n", "\\\"", "\\\\", "\\u00e9"};
    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(FORM); f++)
        for (size_t u = 0; u < ARRAY_LEN(UNIT); u++)
            for (size_t target = 16; target <= 512; target *= 2)
                for (size_t len = target - 8; len < target + 3; len++) {
                    char   body[600] = "", text[700];
                    size_t unit = strlen(UNIT[u]), n = len % unit;
                    memset(body, 'y', n); /* what the units leave */
                    for (; n < len; n += unit) memcpy(body + n, UNIT[u], unit + 1);
                    n = (size_t)snprintf(text, sizeof text, FORM[f], body);
                    each_refused(text, n);
                }
}

static void refused_in_a_number(void **state)
{
    static const char *const FORM[] = {"[0.%s]", "[1.%s, 2]", "{\"a\":-0.%s}", "[0.%se-1\n]"};
    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(FORM); f++)
        for (size_t target = 16; target <= 256; target *= 2)
            for (size_t len = target - 8; len < target + 3; len++) {
                char body[300] = "", text[400];
                memset(body, '7', len);
                each_refused(text, (size_t)snprintf(text, sizeof text, FORM[f], body));
            }
}

/* a list of k empty objects, which use up the budget, and a string of len characters */
static int after_objects(size_t k, size_t len)
{
    aha_error e;
    size_t    n;
    char     *s = list_of("[", "{},", k, "\"", &n), *all = malloc(n + len + 2);
    memcpy(all, s, n);
    memset(all + n, 'x', len);
    memcpy(all + n + len, "\"]", 2);
    int rc = parse(all, n + len + 2, &e);
    free(all);
    free(s);
    return rc;
}

/* The budget ends within a string: at its buffer's doubling to 128 KiB in mid-string or at the closing quote. */
static void budget_ends_in_a_string(void **state)
{
    static const size_t LEN[] = {(1 << 16) - 2, 100000};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LEN); i++) {
        size_t ok = 1000, over = 1000000; /* objects */
        assert_int_equal(after_objects(ok, LEN[i]), 0);
        while (over - ok > 100) {
            size_t mid = ok + (over - ok) / 2;
            int    rc = after_objects(mid, LEN[i]);
            assert_true(rc == 0 || rc == AHA_ERR_LIMIT);
            *(rc ? &over : &ok) = mid;
        }
        for (size_t k = over; k < over + 6000; k += 300) assert_int_equal(after_objects(k, LEN[i]), AHA_ERR_LIMIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(bad),
        cmocka_unit_test(deep),
        cmocka_unit_test(long_numbers),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(too_long),
        cmocka_unit_test(fields),
        cmocka_unit_test(scan_pieces),
        cmocka_unit_test(wide_integers),
        cmocka_unit_test(allocations_fail),
        cmocka_unit_test(refused_at_a_doubling),
        cmocka_unit_test(refused_in_a_number),
        cmocka_unit_test(budget_ends_in_a_string),
    };
    alarm(300); /* the sanitizers on a busy machine */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
