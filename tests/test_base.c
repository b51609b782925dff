/* base without threads and files: errors, sizes, buffers, UTF-8, arenas, random numbers, log, knobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* ---- numbers ---- */
static void test_number(void **state)
{
    (void)state;
    const char *comma = setlocale(LC_NUMERIC, "de_DE.UTF-8"); /* where it is installed, strtod stops at the point */
    char       *end;
    assert_true(number_read("1.5k", &end) == 1.5 && *end == 'k');
    assert_true(number_read("-2.5e-3", NULL) == -2.5e-3);
    assert_true(number_read("1,5", &end) == 1 && *end == ',');
    assert_true(number_read("x", &end) == 0 && *end == 'x');
    setlocale(LC_NUMERIC, "C");
    if (!comma) skip();
}

/* ---- errors ---- */
static void test_error(void **state)
{
    (void)state;
    aha_error e = {0};
    assert_int_equal(error_set(NULL, AHA_ERR_IO, "x"), AHA_ERR_IO);
    assert_int_equal(error_set(&e, AHA_ERR_FORMAT, "field %s: got %d", "a\nb", 3), AHA_ERR_FORMAT);
    assert_int_equal(e.code, AHA_ERR_FORMAT);
    assert_string_equal(e.text, "field a b: got 3");
    assert_int_equal(error_prefix(&e, AHA_ERR_IO, "file '%s'", "m"), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "file 'm': field a b: got 3");
    error_set(&e, AHA_ERR_IO, "again: %s", e.text); /* its own text as an argument */
    assert_string_equal(e.text, "again: file 'm': field a b: got 3");
    assert_int_equal(error_prefix(NULL, AHA_ERR_IO, "x"), AHA_ERR_IO);
    aha_error none = {0};
    assert_int_equal(error_prefix(&none, AHA_ERR_LIMIT, "x"), AHA_ERR_LIMIT);
    assert_string_equal(none.text, "x: over a limit");
}

static void test_error_bounds(void **state)
{
    (void)state;
    aha_error e = {0};
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    error_set(&e, AHA_ERR_IO, "%s", big);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    error_prefix(&e, AHA_ERR_IO, "%s", big);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    for (size_t pad = 0; pad < 4; pad++) { /* a character is never cut */
        Buf b = {0};
        for (size_t i = 0; i < pad; i++) buf_str(&b, "x");
        for (int i = 0; i < 400; i++) buf_str(&b, "\xF0\x9F\x98\x80");
        error_set(&e, AHA_ERR_IO, "%s", b.data);
        assert_true(utf8_valid(e.text, strlen(e.text)));
        assert_true(strlen(e.text) > sizeof e.text - 5);
        buf_free(&b);
    }
    /* bytes that are no UTF-8, in the middle and at the end; controls of one byte and of two */
    error_set(&e, AHA_ERR_IO, "%s", "a\xff\x80z\x1b[1m\xc2\x9b\x7f\xc2\xa0 \xe4\xb8");
    assert_string_equal(e.text, "a??z [1m   \xc2\xa0 ");
    for (int code = -20; code <= 1; code++) assert_true(strlen(aha_error_name(code)) > 0);
    assert_string_equal(aha_version(), AHA_VERSION);
}

static void test_error_quote(void **state)
{
    (void)state;
    char q[16];
    assert_string_equal(error_quote(q, sizeof q, "ab c", 4), "ab c");
    assert_string_equal(error_quote(q, sizeof q, "a\0\xFF", 3), "a\\x00\\xff");
    assert_string_equal(error_quote(q, sizeof q, "123456789012345", 15), "123456789012345");
    assert_string_equal(error_quote(q, sizeof q, "1234567890123456", 16), "123456789012...");
    assert_string_equal(error_quote(q, sizeof q, "\1\2\3\4\5", 5), "\\x01\\x02\\x03...");
    for (size_t cap = 1; cap <= 6; cap++) {
        assert_ptr_equal(error_quote(q, cap, "\1abcdefgh", 9), q);
        assert_true(strlen(q) < cap);
    }
    assert_string_equal(error_quote(q, 0, "a", 1), "");
}

static void test_sizes(void **state)
{
    (void)state;
    size_t r = 7;
    assert_true(size_mul(SIZE_MAX, 1, &r) && r == SIZE_MAX);
    assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &r));
    assert_true(r == SIZE_MAX);
    assert_true(size_add(SIZE_MAX - 1, 1, &r) && r == SIZE_MAX);
    assert_false(size_add(SIZE_MAX, 1, &r));
}

/* ---- buffers ---- */
static void test_buf(void **state)
{
    (void)state;
    Buf b = {0};
    buf_add(&b, "", 0);
    assert_string_equal(b.data, "");
    buf_str(&b, "ab");
    buf_fmt(&b, "%d-%s", 12, "x");
    buf_add(&b, "\0y", 2);
    assert_int_equal(b.n, 8);
    assert_memory_equal(b.data, "ab12-x\0y", 9);
    buf_reset(&b);
    assert_int_equal(b.n, 0);
    assert_string_equal(b.data, "");
    for (int i = 0; i < 5000; i++) buf_fmt(&b, "%04d", i);
    assert_int_equal(b.n, 20000);
    assert_memory_equal(b.data + 4 * 4321, "4321", 4);
    char big[3000];
    memset(big, 'z', sizeof big - 1);
    big[sizeof big - 1] = 0;
    buf_fmt(&b, "<%s>", big);
    assert_int_equal(b.n, 20000 + 3001);
    assert_int_equal(strlen(b.data), b.n);
    buf_free(&b);
    assert_null(b.data);
}

static void test_buf_fails(void **state)
{
    (void)state;
    Buf b = {0};
    buf_str(&b, "kept");
    buf_add(&b, b.data, SIZE_MAX - 2); /* overflow of n + 1 */
    assert_true(b.failed);
    buf_str(&b, "no");
    assert_string_equal(b.data, "kept");
    buf_free(&b);
    for (uint64_t nth = 1; nth <= 3; nth++) {
        os_fault_arm(OS_FAULT_ALLOC, nth);
        for (int i = 0; i < 100; i++) buf_fmt(&b, "%d%s", i, "0123456789");
        os_fault_arm(0, 0);
        assert_true(b.failed);
        if (b.data) assert_int_equal(strlen(b.data), b.n);
        buf_free(&b);
    }
}

static void json_is(const char *in, size_t n, const char *want)
{
    Buf b = {0};
    buf_json(&b, in, n);
    assert_string_equal(b.data, want);
    buf_free(&b);
}

static void test_buf_json(void **state)
{
    (void)state;
    json_is("", 0, "\"\"");
    json_is("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
    json_is("\n\r\t\b\f\1\x1f\x7f", 8, "\"\\n\\r\\t\\b\\f\\u0001\\u001f\x7f\"");
    json_is("a\0b", 3, "\"a\\u0000b\"");
    json_is("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    /* one mark per maximal subpart: the examples of Unicode 15, table 3-8 and 3-11 */
#define BAD "\xEF\xBF\xBD"
    json_is("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82" "A", 9, "\"" BAD BAD BAD BAD BAD BAD BAD BAD "A\"");
    json_is("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF" "A", 9, "\"" BAD BAD BAD BAD "A\"");
    json_is("\xED\xA0\x80", 3, "\"" BAD BAD BAD "\"");
    json_is("x\xE2\x82", 3, "\"x" BAD "\"");
    json_is("\xF0\x9F\x98", 3, "\"" BAD "\"");
    json_is("\xF0\x9F\x98" "a", 4, "\"" BAD "a\"");
}

static void test_path_join(void **state)
{
    (void)state;
    char p[8];
    aha_error e = {0};
    assert_int_equal(path_join(p, sizeof p, "a", "b", &e), 0);
    assert_string_equal(p, "a/b");
    assert_int_equal(path_join(p, sizeof p, "a/", "b", &e), 0);
    assert_string_equal(p, "a/b");
    assert_int_equal(path_join(p, sizeof p, "", "b", &e), 0);
    assert_string_equal(p, "b");
    assert_int_equal(path_join(p, sizeof p, "abc", "def", &e), 0);
    assert_int_equal(path_join(p, sizeof p, "abcd", "efg", &e), AHA_ERR_LIMIT);
    assert_string_equal(p, "");
}

/* ---- UTF-8 ---- */
static void test_utf8_all(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        char s[4];
        uint32_t back = 0;
        int n = utf8_put(s, cp);
        if (n != (cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4)) fail();
        if (utf8_next((const uint8_t *)s, (size_t)n, &back) != n || back != cp) fail();
        for (int cut = 1; cut < n; cut++)
            if (utf8_next((const uint8_t *)s, (size_t)cut, &back) != -1) fail();
    }
}

/* Every sequence of two and three bytes against the definition, written the other way round. */
static int slow_next(const uint8_t *s, size_t n)
{
    for (size_t len = 1; len <= 4 && len <= n; len++) {
        uint32_t v = 0;
        bool tail = true;
        for (size_t i = 1; i < len; i++) tail = tail && (s[i] & 0xC0) == 0x80;
        if (!tail) continue;
        if (len == 1 && s[0] < 0x80) return 1;
        if (len == 2 && (s[0] & 0xE0) == 0xC0 && (v = (uint32_t)(s[0] & 31) << 6) >= 0x80) return 2;
        if (len == 3 && (s[0] & 0xF0) == 0xE0) {
            v = (uint32_t)(s[0] & 15) << 12 | (uint32_t)(s[1] & 63) << 6 | (s[2] & 63u);
            if (v >= 0x800 && (v < 0xD800 || v > 0xDFFF)) return 3;
        }
    }
    return 0;
}

static void test_utf8_bad(void **state)
{
    (void)state;
    for (uint32_t x = 0; x < 1u << 24; x++) {
        uint8_t s[3] = {(uint8_t)(x >> 16), (uint8_t)(x >> 8), (uint8_t)x};
        int got = utf8_next(s, 3, NULL), want = slow_next(s, 3);
        bool open4 = s[0] >= 0xF0 && s[0] <= 0xF4; /* four bytes are needed: cut or invalid */
        if (open4 ? got > 0 : got != want) fail();
    }
    struct {
        const char *s;
        size_t n;
        int want;
    } cases[] = {
        {"\xF0\x8F\xBF\xBF", 4, 0}, /* overlong */
        {"\xF4\x90\x80\x80", 4, 0}, /* above U+10FFFF */
        {"\xF5\x80\x80\x80", 4, 0}, {"\xF0\x90\x80", 3, -1}, {"\xF0\x90\x80\x41", 4, 0}, {"\xE0\x80", 2, 0},
        {"\xE0", 1, -1}, {"\xED\xA0", 2, 0}, {"\xED\x9F", 2, -1}, {"\xC1", 1, 0}, {"\x80", 1, 0}, {"\xFF", 1, 0},
        {"", 0, -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(utf8_next((const uint8_t *)cases[i].s, cases[i].n, NULL), cases[i].want);
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\0\xC3\xA9", 4));
    assert_false(utf8_valid("a\xC3", 2));
    char s[4];
    assert_int_equal(utf8_put(s, 0xD800), 3);
    assert_memory_equal(s, "\xEF\xBF\xBD", 3);
    assert_int_equal(utf8_put(s, 0x110000), 3);
}

/* ---- arena ---- */
static void test_arena(void **state)
{
    (void)state;
    Arena a;
    aha_error e = {0};
    assert_int_equal(arena_init(&a, 1000, &e), 0);
    assert_int_equal(a.cap, 1024);
    uint8_t *p = arena_alloc(&a, 1), *q = arena_alloc(&a, 65), *z = arena_alloc(&a, 0);
    assert_true(p && q && z && (uintptr_t)p % 64 == 0 && q == p + 64 && z == p + 192);
    memset(p, 1, 1);
    memset(q, 1, 65);
    size_t mark = arena_mark(&a);
    assert_int_equal(mark, 256);
    assert_non_null(arena_alloc(&a, 768));
    assert_null(arena_alloc(&a, 1));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 63));
    arena_reset(&a, mark);
    assert_int_equal(a.used, 256);
    assert_int_equal(a.peak, 1024);
    assert_ptr_equal(arena_alloc(&a, 8), p + 256);
    arena_reset(&a, 100000); /* no mark of this arena: nothing happens */
    assert_int_equal(a.used, 320);
    arena_free(&a);
    assert_null(a.base);
    assert_int_equal(arena_init(&a, 0, &e), 0);
    assert_null(arena_alloc(&a, 0));
    arena_free(&a);
    assert_int_equal(arena_init(&a, SIZE_MAX, &e), AHA_ERR_LIMIT);
    os_fault_arm(OS_FAULT_ALLOC, 1);
    assert_int_equal(arena_init(&a, 64, &e), AHA_ERR_NOMEM);
    os_fault_arm(0, 0);
    arena_free(&a);
}

static void test_arena_dry(void **state)
{
    (void)state;
    Arena a;
    arena_init_dry(&a);
    void *p = arena_alloc(&a, (size_t)1 << 40), *q = arena_alloc(&a, 10);
    assert_true(p && q && p != q && (uintptr_t)q % 64 == 0);
    assert_true(a.peak == ((size_t)1 << 40) + 64);
    arena_reset(&a, 0);
    assert_null(arena_alloc(&a, SIZE_MAX / 2 + 1));
    arena_free(&a);
}

/* ---- random numbers ---- */
static void test_philox(void **state)
{
    (void)state;
    /* the known answers of the authors' Random123 1.14, tests/kat_vectors */
    static const struct {
        uint64_t key, stream, counter;
        uint32_t out[4];
    } kat[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(kat); i++) {
        uint32_t x[4];
        philox4x32(kat[i].key, kat[i].stream, kat[i].counter, x);
        assert_memory_equal(x, kat[i].out, sizeof x);
    }
}

static void test_rng(void **state)
{
    (void)state;
    Rng r = {.seed = 5, .stream = 9}, again = r;
    for (uint64_t i = 0; i < 1000; i++) {
        float u = rng_float(&r);
        assert_true(u >= 0 && u < 1 && u == rng_uniform(5, 9, i));
        (void)rng_u32(&again);
    }
    assert_memory_equal(&r, &again, sizeof r);
    assert_true(rng_uniform(5, 9, 0) != rng_uniform(6, 9, 0) && rng_uniform(5, 9, 0) != rng_uniform(5, 8, 0));
    int count[7] = {0};
    for (int i = 0; i < 70000; i++) count[rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++) assert_in_range(count[i], 9600, 10400); /* 10000 +- 4 deviations of 93 */
    /* 3 * 2^30 would come out twice as often below 2^30 without rejection */
    int low = 0;
    for (int i = 0; i < 30000; i++) low += rng_below(&r, 3u << 30) < 1u << 30;
    assert_in_range(low, 9600, 10400);
    assert_int_equal(rng_below(&r, 1), 0);
    assert_int_equal(rng_below(&r, 0), 0);
}

static void test_normal(void **state)
{
    (void)state;
    Rng r = {.seed = 1}, c = r;
    double sum = 0, sq = 0, fourth = 0, worst = 0;
    const int n = 200000;
    for (int i = 0; i < n; i++) {
        uint32_t x[4];
        philox4x32(c.seed, c.stream, c.counter++, x);
        double u = ((double)(((uint64_t)x[0] << 32 | x[1]) >> 11) + 1) * 0x1p-53;
        double v = (double)(((uint64_t)x[2] << 32 | x[3]) >> 11) * 0x1p-53;
        double want = sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v), got = rng_normal(&r);
        double d = fabs(got - want);
        if (d > worst) worst = d;
        sum += got;
        sq += got * got;
        fourth += got * got * got * got;
    }
    assert_true(worst < 5e-7); /* half a unit of a float below 8 */
    assert_true(fabs(sum / n) < 0.01 && fabs(sq / n - 1) < 0.015 && fabs(fourth / n - 3) < 0.1);
    assert_int_equal(r.counter, n);
}

static void test_hash(void **state)
{
    (void)state;
    static const char text[] = "Nobody inspects the spammish repetition";
    assert_true(hash64("", 0, 0) == 0xEF46DB3751D8E999u);
    assert_true(hash64("a", 1, 0) == 0xD24EC4F1A98C6E5Bu);
    assert_true(hash64("abc", 3, 0) == 0x44BC2CF5AD770999u);
    assert_true(hash64("xxhash", 6, 0) == 0x32DD38952C4BC720u);
    assert_true(hash64(text, sizeof text - 1, 0) == 0xFBCEA83C8A378BF1u);
    assert_true(hash64("abc", 3, 1) != hash64("abc", 3, 0));
}

/* ---- log ---- */
static char g_line[1200];
static int  g_lines;
static void sink(void *user, LogLevel level, const char *line)
{
    assert_ptr_equal(user, g_line);
    snprintf(g_line, sizeof g_line, "%d %s", (int)level, line);
    if (g_lines++ == 0) log_msg(LOG_WARN, "a sink may log"); /* and does not deadlock */
}

static void test_log(void **state)
{
    (void)state;
    log_msg(LOG_ERROR, "to nobody");
    log_set(sink, g_line, LOG_INFO);
    log_msg(LOG_DEBUG, "too low");
    assert_int_equal(g_lines, 0);
    log_msg(LOG_INFO, "x=%d", 1);
    assert_int_equal(g_lines, 2);
    log_msg(LOG_ERROR, "%2000d", 1); /* bounded */
    assert_int_equal(strlen(g_line), 2 + 1023);
    log_set(NULL, NULL, LOG_DEBUG);
    log_msg(LOG_ERROR, "to nobody");
    assert_int_equal(g_lines, 3);
}

/* ---- knobs ---- */
static void test_knobs(void **state)
{
    (void)state;
    int n;
    const Knob *t = knob_table(&n);
    assert_true(n >= 5);
    for (int i = 0; i < n; i++) {
        assert_true(!strncmp(t[i].name, "AHA_", 4) || !strncmp(t[i].name, "HF_", 3) || !strncmp(t[i].name, "SSL_", 4));
        assert_true(strlen(t[i].help) > 10);
        unsetenv(t[i].name);
        assert_string_equal(knob_get(t[i].name), t[i].def);
    }
    aha_error e = {0};
    assert_int_equal(knob_check(&e), 0);
    assert_null(knob_get("AHA_NO_SUCH"));
    assert_int_equal(knob_int("AHA_NO_SUCH"), 0);
    assert_int_equal(knob_int("AHA_SPIN_US"), 50);
    setenv("AHA_SPIN_US", "7", 1);
    assert_int_equal(knob_int("AHA_SPIN_US"), 7);
    setenv("AHA_SPIN_US", "", 1); /* empty is unset */
    assert_int_equal(knob_int("AHA_SPIN_US"), 50);
    assert_int_equal(knob_check(&e), 0);
    static const char *const bad[] = {"-1", "x", "5x", " 5", "+5", "99999999999999999999", "0x10"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        setenv("AHA_SPIN_US", bad[i], 1);
        assert_int_equal(knob_check(&e), AHA_ERR_ARG);
        assert_non_null(strstr(e.text, "AHA_SPIN_US"));
        assert_int_equal(knob_int("AHA_SPIN_US"), 50);
    }
    unsetenv("AHA_SPIN_US");
    setenv("AHA_THREAD", "2", 1);
    assert_int_equal(knob_check(&e), AHA_ERR_ARG);
    assert_string_equal(e.text, "environment: no knob is named AHA_THREAD; did you mean AHA_THREADS?");
    unsetenv("AHA_THREAD");
    char longname[300] = "AHA_";
    memset(longname + 4, 'X', 250);
    setenv(longname, "1", 1);
    assert_int_equal(knob_check(&e), AHA_ERR_ARG);
    assert_null(strstr(e.text, "mean"));
    unsetenv(longname);
    assert_int_equal(knob_check(NULL), 0);
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const names[] = {"threads", "temperature", "seed", "ctx", "top-p", "top-k"};
    int n = ARRAY_LEN(names);
    assert_string_equal(name_nearest("thread", names, n), "threads");
    assert_string_equal(name_nearest("temprature", names, n), "temperature");
    assert_string_equal(name_nearest("SEDE", names, n), "seed"); /* a swap is one edit, case none */
    assert_string_equal(name_nearest("topk", names, n), "top-k");
    assert_string_equal(name_nearest("cxt", names, n), "ctx");
    assert_null(name_nearest("banana", names, n));
    assert_null(name_nearest("", names, n));
    assert_null(name_nearest("seed", names, 0));
    char big[200];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = 0;
    assert_null(name_nearest(big, names, n));
    const char *const one[] = {big};
    assert_null(name_nearest("aaaa", one, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error),     cmocka_unit_test(test_error_bounds), cmocka_unit_test(test_error_quote),
        cmocka_unit_test(test_sizes),     cmocka_unit_test(test_buf),          cmocka_unit_test(test_buf_fails),
        cmocka_unit_test(test_buf_json),  cmocka_unit_test(test_path_join),    cmocka_unit_test(test_utf8_all),
        cmocka_unit_test(test_utf8_bad),  cmocka_unit_test(test_arena),        cmocka_unit_test(test_arena_dry),
        cmocka_unit_test(test_philox),    cmocka_unit_test(test_rng),          cmocka_unit_test(test_normal),
        cmocka_unit_test(test_hash),      cmocka_unit_test(test_number),   cmocka_unit_test(test_log),          cmocka_unit_test(test_knobs),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
