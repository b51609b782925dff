/* The seam: memory, files, folders, clocks, control groups, and what happens when each of its calls fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "base/os_internal.h"

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

static void put(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text), NULL), 0);
}

static bool holds(const char *path, const char *want)
{
    char *text;
    size_t n;
    if (file_read_all(path, 1 << 20, &text, &n, NULL)) return false;
    bool same = n == strlen(want) && !memcmp(text, want, n + 1);
    mem_free(text);
    return same;
}

/* ---- memory ---- */
static void test_memory(void **state)
{
    (void)state;
    void *p = mem_alloc(0);
    assert_non_null(p);
    p = mem_realloc(p, 100);
    assert_non_null(p);
    mem_free(p);
    mem_free(NULL);
    assert_null(mem_zalloc(SIZE_MAX / 2, 3));
    uint8_t *z = mem_zalloc(10, 10);
    for (int i = 0; i < 100; i++) assert_int_equal(z[i], 0);
    mem_free(z);
    char *s = mem_strdup("text");
    assert_string_equal(s, "text");
    mem_free(s);
    static const size_t sizes[] = {0, 1, 4096, 4097, 5 << 20, (9 << 20) + 3};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t *q = mem_pages(sizes[i]);
        assert_non_null(q);
        assert_int_equal((uintptr_t)q % 64, 0);
        for (size_t k = 0; k < sizes[i]; k += 997) assert_int_equal(q[k], 0);
        if (sizes[i]) q[sizes[i] - 1] = 1;
        mem_pages_free(q, sizes[i]);
    }
    assert_null(mem_pages(SIZE_MAX));
    assert_null(mem_pages(SIZE_MAX - (1 << 20)));
    mem_pages_free(NULL, 1);
}

static void test_faults_and_guard(void **state)
{
    (void)state;
    os_fault_arm(OS_FAULT_ALLOC, 2);
    void *a = mem_alloc(1), *b = mem_alloc(1), *c = mem_zalloc(1, 1);
    assert_true(a && !b && c);
    assert_null(mem_realloc(NULL, SIZE_MAX)); /* counted, refused by the system itself */
    assert_int_equal(os_fault_seen(), 4);
    os_fault_arm(0, 0);
    mem_free(a);
    mem_free(c);
    assert_int_equal(os_alloc_guard(true), 0);
    mem_free(mem_alloc(1));
    mem_pages_free(mem_pages(1), 1);
    assert_int_equal(os_alloc_guard(true), 2);
    assert_int_equal(os_alloc_guard(false), 2);
    mem_free(mem_alloc(1));
    assert_int_equal(os_alloc_guard(true), 0); /* counts afresh */
    assert_int_equal(os_alloc_guard(false), 0);
}

/* ---- files ---- */
static void test_read_write(void **state)
{
    (void)state;
    aha_error e = {0};
    File f;
    const char *path = in_dir("a");
    assert_int_equal(file_create(&f, path, &e), 0);
    assert_int_equal(file_write(&f, "hello", 5, &e), 0);
    assert_int_equal(file_truncate(&f, 4, &e), 0);
    assert_int_equal(file_sync(&f, &e), 0);
    file_close(&f);
    file_close(&f);
    assert_int_equal(f.fd, -1);
    assert_int_equal(file_append(&f, path, &e), 0);
    assert_int_equal(f.size, 4);
    assert_int_equal(file_write(&f, "!", 1, &e), 0);
    file_close(&f);
    assert_true(holds(path, "hell!"));
    char got[8] = {0};
    assert_int_equal(file_open(&f, path, &e), 0);
    assert_int_equal(f.size, 5);
    assert_int_equal(file_pread(&f, got, 3, 1, &e), 0);
    assert_string_equal(got, "ell");
    assert_int_equal(file_pread(&f, got, 0, 5, &e), 0);
    assert_int_equal(file_pread(&f, got, 3, 3, &e), AHA_ERR_IO);
    assert_non_null(strstr(e.text, "ends at byte 5"));
    assert_int_equal(file_pread(&f, got, 1, -1, &e), AHA_ERR_ARG);
    assert_int_equal(file_pread(&f, got, 2, INT64_MAX, &e), AHA_ERR_ARG);
    assert_int_equal(file_write(&f, "x", 1, &e), AHA_ERR_IO); /* opened for reading */
    file_close(&f);
    assert_int_equal(file_create(&f, path, &e), 0);
    file_close(&f);
    assert_true(holds(path, ""));
    assert_true(file_exists(path) && !file_exists(g_dir) && !file_exists(in_dir("absent")));
    assert_int_equal(file_rename(path, in_dir("b"), &e), 0);
    assert_false(file_exists(path));
    assert_int_equal(file_rename(path, in_dir("b"), &e), AHA_ERR_IO);
    assert_int_equal(file_remove(in_dir("b"), &e), 0);
    assert_int_equal(file_remove(in_dir("b"), &e), 0);
    assert_int_equal(file_remove(g_dir, &e), AHA_ERR_IO);
}

static void test_devices(void **state)
{
    (void)state;
    aha_error e = {0};
    File f;
    assert_int_equal(file_create(&f, "/dev/null", &e), 0);
    assert_int_equal(file_write(&f, "x", 1, &e), 0);
    assert_int_equal(file_sync(&f, &e), 0);
    file_close(&f);
    if (!access("/dev/full", W_OK)) {
        assert_int_equal(file_create(&f, "/dev/full", &e), 0);
        assert_int_equal(file_write(&f, "x", 1, &e), AHA_ERR_IO);
        assert_non_null(strstr(e.text, "No space"));
        file_close(&f);
    }
    assert_int_equal(mkfifo(in_dir("wfifo"), 0600), 0);
    assert_int_equal(file_create(&f, in_dir("wfifo"), &e), AHA_ERR_IO); /* nobody reads it: refused, not waited for */
    assert_int_equal(f.fd, -1);
}

static void refused(const char *path, int code, const char *word)
{
    File f;
    Map m;
    char *text = (char *)1;
    size_t n = 1;
    aha_error e = {0};
    assert_int_equal(file_open(&f, path, &e), code);
    assert_non_null(strstr(e.text, word));
    assert_int_equal(f.fd, -1);
    e.text[0] = 0;
    assert_int_equal(file_map(&m, path, &e), code);
    assert_non_null(strstr(e.text, word));
    file_unmap(&m);
    e.text[0] = 0;
    assert_int_equal(file_read_all(path, 100, &text, &n, &e), code);
    assert_non_null(strstr(e.text, word));
    assert_true(!text && !n);
}

static void test_refusals(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%.60s/sock", g_dir);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof a), 0);
    refused(in_dir("fifo"), AHA_ERR_FORMAT, "a FIFO");
    refused(a.sun_path, AHA_ERR_FORMAT, "a socket");
    refused(g_dir, AHA_ERR_FORMAT, "a folder");
    refused("/dev/random", AHA_ERR_FORMAT, "a character device");
    refused(in_dir("absent"), AHA_ERR_IO, "absent");
    assert_int_equal(symlink("/dev/zero", in_dir("link")), 0);
    refused(in_dir("link"), AHA_ERR_FORMAT, "a character device");
    close(s);
}

static void test_map(void **state)
{
    (void)state;
    aha_error e = {0};
    Map m;
    put(in_dir("m"), "mapped");
    assert_int_equal(file_map(&m, in_dir("m"), &e), 0);
    assert_int_equal(m.size, 6);
    assert_memory_equal(m.data, "mapped", 6);
    file_unmap(&m);
    file_unmap(&m);
    put(in_dir("m"), "");
    assert_int_equal(file_map(&m, in_dir("m"), &e), 0);
    assert_int_equal(m.size, 0);
    assert_non_null(m.data);
    file_unmap(&m);
    put(in_dir("m"), "x");
    os_fault_arm(OS_FAULT_OPEN, 1);
    assert_int_equal(file_map(&m, in_dir("m"), &e), AHA_ERR_IO);
    os_fault_arm(OS_FAULT_MAP, 1);
    assert_int_equal(file_map(&m, in_dir("m"), &e), AHA_ERR_NOMEM);
    os_fault_arm(0, 0);
    assert_int_equal(m.size, 0);
}

static void test_read_all(void **state)
{
    (void)state;
    aha_error e = {0};
    char *text;
    size_t n;
    put(in_dir("r"), "12345");
    assert_int_equal(file_read_all(in_dir("r"), 5, &text, &n, &e), 0);
    assert_string_equal(text, "12345");
    mem_free(text);
    assert_int_equal(file_read_all(in_dir("r"), 4, &text, &n, &e), AHA_ERR_LIMIT);
    assert_non_null(strstr(e.text, "5 bytes, at most 4"));
    assert_int_equal(file_read_all(in_dir("r"), SIZE_MAX, &text, &n, &e), 0);
    mem_free(text);
    if (!access("/proc/self/status", R_OK)) { /* its size is 0 */
        assert_int_equal(file_read_all("/proc/self/status", 1 << 20, &text, &n, &e), 0);
        assert_true(n > 100 && strlen(text) == n);
        mem_free(text);
        assert_int_equal(file_read_all("/proc/self/status", 100, &text, &n, &e), AHA_ERR_LIMIT);
    }
    for (uint64_t nth = 1;; nth++) {
        os_fault_arm(OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_READ, nth);
        int rc = file_read_all(in_dir("r"), 100, &text, &n, &e);
        if (os_fault_seen() < nth) break;
        assert_true(rc < 0 && !text);
    }
    os_fault_arm(0, 0);
    assert_string_equal(text, "12345");
    mem_free(text);
}

/* ---- atomic replacement ---- */
static void test_atomic_faults(void **state)
{
    (void)state;
    static const unsigned kinds[] = {OS_FAULT_OPEN, OS_FAULT_WRITE, OS_FAULT_SYNC, OS_FAULT_RENAME, ~0u};
    const char *old = "the old content", *new = "the new, longer content";
    char path[512], tmp[520];
    snprintf(path, sizeof path, "%s", in_dir("atomic"));
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (int exists = 0; exists < 2; exists++) {
            for (uint64_t nth = 1;; nth++) {
                os_fault_arm(0, 0);
                if (exists) put(path, old);
                else assert_int_equal(file_remove(path, NULL), 0);
                aha_error e = {0};
                os_fault_arm(kinds[k], nth);
                int rc = file_write_atomic(path, new, strlen(new), &e);
                bool hit = os_fault_seen() >= nth;
                os_fault_arm(0, 0);
                assert_int_equal(rc < 0, hit);
                assert_int_equal(e.code, rc);
                assert_false(file_exists(tmp));
                if (!rc) assert_true(holds(path, new));
                else assert_true(holds(path, new) || (exists ? holds(path, old) : !file_exists(path)));
                if (!hit) break;
            }
        }
    }
}

static void test_atomic_kept(void **state)
{
    (void)state;
    aha_error e = {0};
    char path[512], tmp[520];
    snprintf(path, sizeof path, "%s", in_dir("kept"));
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    File f;
    assert_int_equal(file_create(&f, tmp, &e), 0); /* what a killed writer left is taken over */
    assert_int_equal(file_write(&f, "left behind, and longer than the new one", 40, &e), 0);
    file_close(&f);
    put(path, "one");
    assert_true(holds(path, "one") && !file_exists(tmp));
    assert_int_equal(chmod(path, 0600), 0);
    put(path, "two");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(symlink("/dev/null", tmp), 0); /* never written through */
    assert_int_equal(file_write_atomic(path, "x", 1, &e), AHA_ERR_IO);
    assert_true(holds(path, "two"));
    assert_int_equal(unlink(tmp), 0);
    assert_int_equal(file_write_atomic(g_dir, "x", 1, &e), AHA_ERR_IO); /* a folder is in the way */
    assert_int_equal(file_write_atomic(in_dir("no/such/file"), "x", 1, &e), AHA_ERR_IO);
    char longname[5000];
    memset(longname, 'a', sizeof longname - 1);
    longname[sizeof longname - 1] = 0;
    assert_int_equal(file_write_atomic(longname, "x", 1, &e), AHA_ERR_LIMIT);
    snprintf(tmp, sizeof tmp, "%s.tmp", g_dir);
    assert_false(file_exists(tmp));
}

enum { WRITERS = 4, ROUNDS = 40, BYTES = 20000 };
static char g_shared[512];
static void *writer_main(void *arg)
{
    char *text = mem_alloc(BYTES);
    memset(text, 'a' + (int)(intptr_t)arg, BYTES);
    intptr_t bad = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char *got;
        size_t n;
        if (file_write_atomic(g_shared, text, BYTES, NULL)) bad++;
        if (file_read_all(g_shared, BYTES, &got, &n, NULL)) {
            bad++;
            continue;
        }
        bad += n != BYTES || memcmp(got, got + 1, n - 1) != 0; /* all bytes are the same one */
        mem_free(got);
    }
    mem_free(text);
    return (void *)bad;
}

static void test_atomic_writers(void **state)
{
    (void)state;
    pthread_t t[WRITERS];
    snprintf(g_shared, sizeof g_shared, "%s/shared", g_dir);
    for (intptr_t i = 0; i < WRITERS; i++) assert_int_equal(pthread_create(&t[i], NULL, writer_main, (void *)i), 0);
    for (int i = 0; i < WRITERS; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
    assert_false(file_exists(in_dir("shared.tmp")));
}

/* ---- folders ---- */
static void test_dirs(void **state)
{
    (void)state;
    aha_error e = {0};
    char **names;
    int n;
    assert_int_equal(dir_make(in_dir("d/sub//deep/"), &e), 0);
    assert_int_equal(dir_make(in_dir("d"), &e), 0);
    assert_true(dir_exists(in_dir("d/sub/deep")) && !dir_exists(in_dir("d/none")) && dir_make("", &e) == AHA_ERR_ARG);
    put(in_dir("d/b"), "");
    assert_int_equal(dir_make(in_dir("d/b/c"), &e), AHA_ERR_IO); /* a file is in the way */
    assert_int_equal(dir_make(in_dir("d/b"), &e), AHA_ERR_IO);
    put(in_dir("d/a"), "");
    assert_int_equal(dir_list(in_dir("d"), &names, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[1], "b");
    assert_string_equal(names[2], "sub");
    mem_free(names);
    assert_int_equal(dir_list(in_dir("d/sub/deep"), &names, &n, &e), 0);
    assert_int_equal(n, 0);
    mem_free(names);
    assert_int_equal(dir_list(in_dir("d/a"), &names, &n, &e), AHA_ERR_IO);
    assert_null(names);
    for (uint64_t nth = 1;; nth++) {
        os_fault_arm(OS_FAULT_ALLOC | OS_FAULT_OPEN, nth);
        int rc = dir_list(in_dir("d"), &names, &n, &e);
        bool hit = os_fault_seen() >= nth;
        os_fault_arm(0, 0);
        assert_int_equal(rc < 0, hit);
        mem_free(names);
        if (!hit) break;
    }
    assert_int_equal(dir_sync(in_dir("d"), &e), 0);
    assert_int_equal(dir_sync(in_dir("d/a"), &e), AHA_ERR_IO);
    assert_int_equal(dir_remove_all(in_dir("d/sub"), &e), 0);
}

static void test_dir_remove(void **state)
{
    (void)state;
    aha_error e = {0};
    assert_int_equal(dir_make(in_dir("x/one/two"), &e), 0);
    put(in_dir("outside"), "stays");
    put(in_dir("x/one/two/file"), "");
    put(in_dir("x/one/file"), "");
    assert_int_equal(symlink(g_dir, in_dir("x/link")), 0);
    assert_int_equal(dir_remove_all(in_dir("x"), &e), AHA_ERR_IO); /* too deep: x/one/two/file stays */
    assert_true(file_exists(in_dir("x/one/two/file")) && holds(in_dir("outside"), "stays"));
    assert_int_equal(file_remove(in_dir("x/one/two/file"), &e), 0);
    assert_int_equal(dir_remove_all(in_dir("x"), &e), 0);
    assert_true(!dir_exists(in_dir("x")) && holds(in_dir("outside"), "stays"));
    assert_int_equal(dir_remove_all(in_dir("x"), &e), 0);
    assert_int_equal(dir_remove_all(in_dir("outside"), &e), AHA_ERR_ARG);
}

static void test_plain_names(void **state)
{
    (void)state;
    char big[256];
    memset(big, 'a', sizeof big);
    assert_true(file_name_is_plain("a.safetensors", 13) && file_name_is_plain("...", 3) && file_name_is_plain(big, 255));
    assert_false(file_name_is_plain("", 0) || file_name_is_plain(".", 1) || file_name_is_plain("..", 2));
    assert_false(file_name_is_plain("a/b", 3) || file_name_is_plain("/", 1) || file_name_is_plain("../x", 4));
    assert_false(file_name_is_plain("a\0b", 3) || file_name_is_plain(big, 256));
}

/* ---- the machine ---- */
static void test_machine(void **state)
{
    (void)state;
    uint64_t t = time_now_ns();
    double cpu = time_cpu_s();
    while (time_now_ns() < t + 2000000) {}
    assert_true(time_cpu_s() > cpu && time_unix() > 1.7e9);
    assert_true(os_random_u64() != os_random_u64());
    assert_in_range(os_cpus_usable(), 1, 1 << 16);
    assert_true(os_memory_total() > 64 << 20);
    assert_true(os_memory_rss() > 100 << 10 && os_memory_rss() < (uint64_t)1 << 50);
}

static void group_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    assert_int_equal(dir_make(in_dir(folder), NULL), 0);
    snprintf(path, sizeof path, "%s/%s", in_dir(folder), name);
    put(path, text);
}

static void test_cgroups(void **state)
{
    (void)state;
    char root[512];
    snprintf(root, sizeof root, "%s", in_dir("cg2"));
    assert_int_equal(os_cgroup_cpus(root, "0::/\n"), 0); /* the root group has no limits */
    assert_true(os_cgroup_memory(root, "0::/\n") == UINT64_MAX);
    group_file("cg2/a/b", "cpu.max", "max 100000\n");
    group_file("cg2/a/b", "memory.max", "max\n");
    assert_int_equal(os_cgroup_cpus(root, "0::/a/b\n"), 0);
    group_file("cg2/a", "cpu.max", "250000 100000\n");
    group_file("cg2/a", "memory.max", "1073741824\n");
    assert_int_equal(os_cgroup_cpus(root, "0::/a/b\n"), 3); /* 2.5, from the group above */
    assert_int_equal(os_cgroup_cpus(root, "0::/a/unseen\n"), 3);
    assert_true(os_cgroup_memory(root, "1:name=x:/y\n0::/a/b\n") == 1 << 30);
    group_file("cg2/a/b", "cpu.max", "50000 100000\n");
    assert_int_equal(os_cgroup_cpus(root, "0::/a/b"), 1);
    snprintf(root, sizeof root, "%s", in_dir("cg1"));
    const char *proc = "9:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n1:cpuset:/\n";
    group_file("cg1/cpu", "cpu.cfs_quota_us", "200000\n"); /* as seen inside a container: its group is the root */
    group_file("cg1/cpu", "cpu.cfs_period_us", "100000\n");
    group_file("cg1/memory", "memory.limit_in_bytes", "536870912\n");
    assert_int_equal(os_cgroup_cpus(root, proc), 2);
    assert_true(os_cgroup_memory(root, proc) == 512 << 20);
    group_file("cg1/cpu", "cpu.cfs_quota_us", "-1\n");
    assert_int_equal(os_cgroup_cpus(root, proc), 0);
    static const char *const odd[] = {"", "\n", "0:", "::", "0::", "a:b", "0::/x\n0::/y", ":::::"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) assert_int_equal(os_cgroup_cpus(root, odd[i]), 0);
    assert_int_equal(dir_remove_all(in_dir("cg2/a"), NULL) | dir_remove_all(root, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),       cmocka_unit_test(test_faults_and_guard), cmocka_unit_test(test_read_write),
        cmocka_unit_test(test_devices),      cmocka_unit_test(test_refusals),         cmocka_unit_test(test_map), 
        cmocka_unit_test(test_read_all),     cmocka_unit_test(test_atomic_faults),    cmocka_unit_test(test_atomic_kept),
        cmocka_unit_test(test_atomic_writers), cmocka_unit_test(test_dirs),           cmocka_unit_test(test_dir_remove),
        cmocka_unit_test(test_plain_names),  cmocka_unit_test(test_machine),          cmocka_unit_test(test_cgroups),
    };
    return cmocka_run_group_tests_name("os", tests, setup, teardown);
}
