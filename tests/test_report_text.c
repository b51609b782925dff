/* What the report makes of text and numbers: nothing a browser takes for markup, nothing a locale changes. */
#include <locale.h>

#include "learn/report.h"
#include "testlib.h"

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *(*fn)(char *, double);
        double      v;
        const char *want;
    } CASE[] = {
        {num_auto, 0, "0"}, {num_auto, 0.361, "0.361"}, {num_auto, 1.2, "1.2"}, {num_auto, 95.04, "95"}, {num_auto, -2.5, "\xE2\x88\x92" "2.5"},
        {num_auto, 1234, "1,234"}, {num_auto, 1e308, "1.0e308"}, {num_auto, -1.7e-320, "\xE2\x88\x92" "1.7e-320"}, {num_auto, 0.00123, "0.00123"},
        {num_auto, NAN, "\xE2\x80\x93"}, {num_auto, INFINITY, "\xE2\x88\x9E"}, {num_auto, 9.9996, "10"}, {num_auto, 123456, "123k"},
        {num_count, 1024, "1,024"}, {num_count, 1234567, "1,234,567"}, {num_count, -1000, "\xE2\x88\x92" "1,000"}, {num_count, 7, "7"}, {num_count, 1e300, "1.0e300"},
        {num_si, 1534208, "1.53M"}, {num_si, 811904, "812k"}, {num_si, 999, "999"}, {num_si, 671e9, "671G"}, {num_si, 2e6, "2M"}, {num_si, 999999, "1M"},
        {num_share, 0.367, "36.7%"}, {num_share, 0, "0%"}, {num_share, 1, "100%"}, {num_share, 0.001, "0.10%"}, {num_share, 0.9999, "100.0%"},
        {num_share, 1e308, "1.0e308"}, {num_share, NAN, "\xE2\x80\x93"}, {num_time, 240.5, "4 min 1 s"}, {num_time, 3.21, "3.2 s"}, {num_time, 59.9, "1 min 0 s"},
        {num_time, 7260, "2 h 1 min"}, {num_time, -1, "\xE2\x80\x93"}, {num_time, 1e308, "1.0e308 s"}, {num_time, 200000, "2 d 7 h"},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        char t[NUM_MAX];
        assert_string_equal(CASE[i].fn(t, CASE[i].v), CASE[i].want);
    }
    char t[NUM_MAX];
    assert_string_equal(num_fixed(t, 2.005, 1), "2.0");
    assert_string_equal(num_fixed(t, -0.04, 1), "0.0");
    /* where a comma divides, the page is the same */
    const char *before = setlocale(LC_ALL, NULL);
    char        keep[128];
    snprintf(keep, sizeof keep, "%s", before ? before : "C");
    if (setlocale(LC_ALL, "de_DE.UTF-8")) assert_string_equal(num_fixed(t, 1.5, 1), "1.5");
    setlocale(LC_ALL, keep);
}

static void escapes(void **state)
{
    (void)state;
    static const char *const CASE[][2] = {
        {"a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#39;"}, {"x\n\ty", "x\n\ty"}, {"x\r\ny", "x\ny"}, {"\x01z\x7f", "\xEF\xBF\xBDz\xEF\xBF\xBD"},
        {"\xff\xC3", "\xEF\xBF\xBD\xEF\xBF\xBD"}, {"\xC2\x85", "\xEF\xBF\xBD"}, {"\xE5\xAF\xB9", "\xE5\xAF\xB9"}, {"", ""}, {"\xE2\x80\xAE", "\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        Buf b = {0};
        html_str(&b, CASE[i][0]);
        assert_string_equal(b.data ? b.data : "", CASE[i][1]);
        buf_free(&b);
    }
    Buf b = {0};
    html_short(&b, "<<<<\xE5\xAF\xB9\xE5\xAF\xB9", 5);
    assert_string_equal(b.data, "&lt;&lt;&lt;&lt;\xE2\x80\xA6");
    buf_reset(&b);
    html_short(&b, "abcde", 5);
    assert_string_equal(b.data, "abcde");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
