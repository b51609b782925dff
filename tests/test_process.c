/* The seam: other programs, what they print and how they end. */
#include "testlib.h"

static void test_process(void **state)
{
    const char *const shell[] = {"/bin/sh", "-c", "cat; printf 'a\\0b'; exit 3", NULL}, *const killed[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
    const char *const much[] = {"/bin/sh", "-c", "head -c 300000 /dev/zero", NULL}, *const none[] = {"/nonexistent/program", NULL};
    Buf               out = {0};
    int               status = -1;
    aha_error         e = {0};
    (void)state;
    assert_int_equal(process_output(shell, true, 100, &out, &status, &e), 0); /* cat: its standard input is empty */
    assert_int_equal(status, 3);
    assert_int_equal(out.n, 3);
    assert_memory_equal(out.data, "a\0b", 3);
    buf_reset(&out);
    assert_int_equal(process_output(killed, true, 100, &out, &status, &e), 0);
    assert_int_equal(status, 128 + 9);
    assert_int_equal(process_output(much, true, 299999, &out, &status, &e), AHA_ERR_LIMIT);
    buf_reset(&out);
    assert_int_equal(process_output(much, true, 300000, &out, &status, &e), 0);
    assert_int_equal(out.n, 300000);
    assert_int_equal(process_output(none, true, 100, &out, &status, &e), AHA_ERR_IO);
    assert_non_null(strstr(e.text, "/nonexistent/program"));
    os_fault_arm(OS_FAULT_OPEN, 1);
    assert_int_equal(process_output(shell, true, 100, &out, &status, &e), AHA_ERR_IO);
    os_fault_arm(0, 0);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_process)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
