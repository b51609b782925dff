/* Stop texts in a stream: the first match wherever the text is cut, nothing held back that could be given, against plain search. */
#include "base/base.h"
#include "testlib.h"
#include "text/text.h"

#define REF(s) {(s), sizeof(s) - 1}

static Stops *stops_of(const TextRef *s, int n)
{
    aha_error e = {0};
    Stops    *p;
    ASSERT_OK(stops_new(&p, s, n, &e), e);
    return p;
}

/* ---- the slow way ---- */
static bool ends_with(const char *text, size_t n, const TextRef *s)
{
    return s->n <= n && memcmp(text + n - s->n, s->s, (size_t)s->n) == 0;
}

/* Where the text ends, and by which; hit -1: nowhere. */
static size_t slow_find(const char *text, size_t n, const TextRef *s, int n_stop, int *hit)
{
    *hit = -1;
    for (size_t end = 1; end <= n; end++) {
        for (int i = 0; i < n_stop; i++)
            if (ends_with(text, end, &s[i]) && (*hit < 0 || s[i].n > s[*hit].n)) *hit = i;
        if (*hit >= 0) return end - (size_t)s[*hit].n;
    }
    return n;
}

/* How much of the end of text may still become a stop text. */
static size_t slow_hold(const char *text, size_t n, const TextRef *s, int n_stop)
{
    size_t most = 0;
    for (int i = 0; i < n_stop; i++)
        for (size_t k = 1; k < s[i].n && k <= n; k++)
            if (memcmp(text + n - k, s[i].s, k) == 0 && k > most) most = k;
    return most;
}

/* Fed in pieces of these lengths (the last repeated): out, and what is held, at every piece. */
static void check_pieces(const char *text, size_t n, const TextRef *s, int n_stop, const size_t *piece, size_t n_piece)
{
    int    want, hit = -1;
    size_t end = slow_find(text, n, s, n_stop, &want), at = 0;
    Buf    out = {0};
    Stops *p = stops_of(s, n_stop);
    for (size_t k = 0; at < n && hit < 0; k++) {
        size_t len = piece[k < n_piece ? k : n_piece - 1];
        if (len > n - at) len = n - at;
        hit = stops_push(p, text + at, len, &out);
        at += len;
        if (hit < 0) assert_int_equal(out.n, at - slow_hold(text, at, s, n_stop));
    }
    assert_int_equal(hit, want);
    assert_int_equal(stops_hit(p), want);
    if (hit < 0) stops_end(p, &out);
    assert_int_equal(stops_push(p, "more", hit < 0 ? 0 : 4, &out), want);
    assert_int_equal(out.n, end);
    assert_memory_equal(out.n ? out.data : "", text, end);
    stops_free(p);
    buf_free(&out);
}

static void test_every_cut(void **state)
{
    static const struct {
        const char *text;
        TextRef     stop[4];
        int         n;
    } CASE[] = {
        {"the answer is 42\n\nUser: and then?", {REF("\n\nUser:"), REF("\n\nHuman:")}, 2},
        {"aaaaaab", {REF("aaab")}, 1},
        {"abcx abcd", {REF("abcd"), REF("bc")}, 2},
        {"xxabcd", {REF("abcd"), REF("bcd"), REF("cd")}, 3}, /* all end at once: the longest */
        {"E\xC3\x89N \xE6\x80\x9D\xE8\x80\x83\xE5\xAE\x8C", {REF("\xE8\x80\x83\xE5\xAE\x8C"), REF("\xE5\xAE\x8B")}, 2},
        {"EN ENDEN", {REF("ENDE"), REF("END!")}, 2},
        {"nothing of the kind", {REF("kinds")}, 1},
        {"mississippi", {REF("issip"), REF("sissy")}, 2},
        {"a", {REF("a")}, 1},
    };
    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(CASE); c++) {
        size_t n = strlen(CASE[c].text);
        for (size_t a = 0; a <= n; a++)
            for (size_t b = 0; a + b <= n; b++) {
                const size_t piece[] = {a, b, n};
                check_pieces(CASE[c].text, n, CASE[c].stop, CASE[c].n, piece, 3);
            }
        for (size_t each = 1; each <= 3; each++) check_pieces(CASE[c].text, n, CASE[c].stop, CASE[c].n, &each, 1);
    }
}

/* Texts of two letters, in which everything nearly matches. */
static void test_random(void **state)
{
    Rng r = {3, 1, 0};
    int found = 0;
    (void)state;
    for (int round = 0; round < 4000; round++) {
        char    text[60], stop[5][8];
        TextRef ref[5];
        size_t  piece[8];
        int     n_stop = 1 + (int)rng_below(&r, 5), hit;
        size_t  n = 1 + rng_below(&r, sizeof text);
        for (size_t i = 0; i < n; i++) text[i] = "ab"[rng_below(&r, 2)];
        for (int i = 0; i < n_stop; i++) {
            ref[i] = (TextRef){stop[i], 1 + rng_below(&r, 7) + (uint32_t)round % 2};
            for (size_t k = 0; k < 8; k++) stop[i][k] = "ab"[rng_below(&r, 2)];
        }
        for (size_t k = 0; k < ARRAY_LEN(piece); k++) piece[k] = 1 + rng_below(&r, 5);
        check_pieces(text, n, ref, n_stop, piece, ARRAY_LEN(piece));
        slow_find(text, n, ref, n_stop, &hit);
        found += hit >= 0;
    }
    assert_in_range(found, 1000, 3999);
}

static void refuse(const TextRef *s, int n, int code, const char *word)
{
    aha_error e = {0};
    Stops    *p = (Stops *)1;
    assert_int_equal(stops_new(&p, s, n, &e), code);
    assert_null(p);
    if (!strstr(e.text, word)) fail_msg("\"%s\" lacks \"%s\"", e.text, word);
}

static void test_refusals(void **state)
{
    static char          big[STOP_BYTES_MAX + 1];
    static TextRef       many[STOPS_MAX + 1];
    const TextRef        empty[] = {REF("a"), REF("")}, broken[] = {REF("\xE6\x80")};
    aha_error            e = {0};
    Stops               *p;
    Buf                  out = {0};
    (void)state;
    memset(big, 'x', sizeof big);
    for (int i = 0; i <= STOPS_MAX; i++) many[i] = (TextRef){big, STOP_BYTES_MAX};
    refuse(many, 0, AHA_ERR_LIMIT, "0 stop texts");
    refuse(many, -1, AHA_ERR_LIMIT, "-1");
    refuse(many, STOPS_MAX + 1, AHA_ERR_LIMIT, "65");
    refuse(empty, 2, AHA_ERR_ARG, "stop text 1");
    refuse(broken, 1, AHA_ERR_ARG, "UTF-8");
    many[3].n++;
    refuse(many, STOPS_MAX, AHA_ERR_LIMIT, "stop text 3");
    many[3].n--;
    os_fault_arm(OS_FAULT_ALLOC, 1);
    refuse(many, STOPS_MAX, AHA_ERR_NOMEM, "memory");
    os_fault_arm(0, 0);
    ASSERT_OK(stops_new(&p, many, STOPS_MAX, &e), e); /* as many and as long as they may be */
    assert_int_equal(stops_push(p, big, STOP_BYTES_MAX - 1, &out), -1);
    assert_int_equal(out.n, 0);
    os_fault_arm(OS_FAULT_ALLOC, 1);
    stops_end(p, &out); /* the text does not fit any more: that is said */
    os_fault_arm(0, 0);
    assert_true(out.failed || out.n == STOP_BYTES_MAX - 1);
    stops_free(p);
    stops_free(NULL);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_cut), cmocka_unit_test(test_random), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
