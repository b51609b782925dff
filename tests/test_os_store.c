/* The seam, for files that are filled at random places: locks, links, free space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

static char g_dir[256];

/* A name in the test's own folder; valid until the fourth call after. */
static const char *in_dir(const char *name)
{
    static char path[4][512];
    static int  k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", g_dir, name);
    return path[k];
}

static int setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(g_dir, sizeof g_dir, "%s/aha-test-os-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(g_dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dir_remove_all(g_dir, NULL);
}

static void test_store(void **state)
{
    (void)state;
    aha_error   e = {0};
    File        f, g;
    bool        got;
    char        text[8], link_to[16] = "";
    const char *path = in_dir("store");
    uint64_t    bytes = 0;
    assert_int_equal(file_open_rw(&f, path, &e), 0);
    assert_int_equal(file_pwrite(&f, "end", 3, 1000, &e), 0);
    assert_int_equal(file_pwrite(&f, "begin", 5, 0, &e), 0);
    assert_int_equal(file_pwrite(&f, "x", 1, -1, &e), AHA_ERR_ARG);
    assert_int_equal(file_pread(&f, text, 5, 0, &e), 0);
    assert_memory_equal(text, "begin", 5);
    os_fault_arm(OS_FAULT_WRITE, 1);
    assert_int_equal(file_pwrite(&f, "again", 5, 0, &e), AHA_ERR_IO);
    assert_non_null(strstr(e.text, "No space left"));
    os_fault_arm(0, 0);
    assert_int_equal(file_lock(&f, path, &got, &e), 0);
    assert_true(got);
    assert_int_equal(file_open_rw(&g, path, &e), 0);
    assert_int_equal(g.size, 1003);
    assert_int_equal(file_lock(&g, path, &got, &e), 0);
    assert_false(got); /* another has it */
    assert_int_equal(file_rename(path, in_dir("store2"), &e), 0);
    file_close(&f);
    assert_int_equal(file_lock(&g, path, &got, &e), 0);
    assert_false(got); /* free, but the name is gone */
    file_close(&g);
    assert_int_equal(link_make("store2", in_dir("link"), &e), 0);
    assert_int_equal(link_make("store2", in_dir("link"), &e), 0);
    assert_true(file_exists(in_dir("link")));
    assert_int_equal(file_open_rw(&g, in_dir("link"), &e), AHA_ERR_IO); /* links are not written through */
    assert_int_equal(link_make("elsewhere", in_dir("link"), &e), 0);
    assert_int_equal(readlink(in_dir("link"), link_to, sizeof link_to - 1), 9);
    assert_string_equal(link_to, "elsewhere");
    assert_int_equal(disk_free(g_dir, &bytes, &e), 0);
    assert_int_equal(disk_free(in_dir("absent"), &bytes, &e), AHA_ERR_IO);
    assert_int_equal(file_open_rw(&g, g_dir, &e), AHA_ERR_IO);
}

/* Made for its owner alone, with the folders above it; what is there keeps its content and mode. */
static void test_private(void **state)
{
    aha_error   e = {0};
    const char *path = in_dir("private/deep/file");
    struct stat st;
    (void)state;
    mode_t before = umask(0);
    assert_int_equal(file_make_private(path, &e), 0);
    umask(before);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(file_write_atomic(path, "abc", 3, &e), 0);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(file_make_private(path, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_size, 3);
    os_fault_arm(OS_FAULT_OPEN, 1);
    assert_int_equal(file_make_private(in_dir("other"), &e), AHA_ERR_IO);
    os_fault_arm(0, 0);
    assert_false(file_exists(in_dir("other")));
    assert_int_equal(file_make_private(in_dir("private/deep/file/below"), &e), AHA_ERR_IO);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(dir_remove_all(in_dir("private/deep"), &e), 0);
    assert_int_equal(dir_remove_all(in_dir("private"), &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_store), cmocka_unit_test(test_private)};
    return cmocka_run_group_tests_name("os_store", tests, setup, teardown);
}
