/* The GGUF writer: what it writes, the reader reads; where anything fails, nothing is left that looks whole, and the next run makes it so. */
#include <stdio.h>
#include <unistd.h>

#include "format/format.h"
#include "testlib.h"

static const char PATH[] = "/tmp/aha-test-gguf-write.gguf", PARTIAL[] = "/tmp/aha-test-gguf-write.gguf.partial";
static const float VALUE[6] = {1, -2, 3.5f, 0, 1e-20f, 7};
static const TensorInfo TENSOR[] = {
    {.name = "a.weight", .dtype = DT_F32, .n_dims = 2, .dim = {2, 3}, .data = VALUE, .bytes = 24},
    {.name = "b", .dtype = DT_F32, .n_dims = 1, .dim = {5}, .data = VALUE, .bytes = 20},
};

static int from_memory(void *user, int i, Output *o, aha_error *e)
{
    const int *short_of = user; /* bytes to leave out */
    return output_put(o, TENSOR[i].data, TENSOR[i].bytes - (size_t)*short_of, e);
}

/* one file, as aha convert writes it */
static int write_gguf(const char *path, const GgufMeta *m, const TensorInfo *t, int n, int short_of, aha_error *e)
{
    Output     *o;
    OutputCalls calls = {from_memory, NULL, NULL, &short_of};
    int         rc = output_new(&o, path, false, e);
    if (!rc) rc = output_add_gguf(o, strrchr(path, '/') + 1, m, t, n, e);
    if (!rc) rc = output_write(o, 1, true, &calls, e);
    output_free(o);
    return rc;
}

static GgufMeta metadata(void)
{
    GgufMeta m = {0};
    gguf_put_str(&m, "general.architecture", "llama", 5);
    gguf_put_int(&m, "n", 4000000000);
    gguf_put_num(&m, "x", 0.5);
    gguf_put_bool(&m, "yes", true);
    gguf_put_array(&m, "words", GGUF_STRING, 2);
    gguf_add_str(&m, "one", 3);
    gguf_add_str(&m, "", 0);
    gguf_put_array(&m, "types", GGUF_I32, 2);
    gguf_add_i32(&m, -1);
    gguf_add_i32(&m, 6);
    return m;
}

static void reads_back(void **state)
{
    GgufMeta    m = metadata();
    aha_error   e = {0};
    WeightFile *w;
    int64_t     n = 0;
    double      x = 0;
    bool        yes = false;
    (void)state;
    ASSERT_OK(write_gguf(PATH, &m, TENSOR, 2, 0, &e), e);
    assert_false(dir_exists(PARTIAL));
    ASSERT_OK(weights_open(&w, PATH, &e), e);
    assert_true(weights_is_gguf(w) && weights_count(w) == 2 && gguf_kv_count(w) == 6);
    ASSERT_OK(gguf_get_int(w, "f", "n", true, 0, UINT32_MAX, &n, &e), e);
    ASSERT_OK(gguf_get_num(w, "f", "x", true, 0, 1, &x, &e), e);
    ASSERT_OK(gguf_get_bool(w, "f", "yes", true, &yes, &e), e);
    assert_true(n == 4000000000 && x == 0.5 && yes);
    assert_true(gguf_kv_find(w, "words")->n == 2 && gguf_int(gguf_kv_find(w, "types"), 0) == -1);
    for (int i = 0; i < 2; i++) {
        const TensorInfo *t = weights_find(w, TENSOR[i].name);
        assert_true(t && t->n_dims == TENSOR[i].n_dims && t->dim[0] == TENSOR[i].dim[0] && t->bytes == TENSOR[i].bytes);
        assert_memory_equal(t->data, VALUE, t->bytes);
    }
    weights_close(w);
    gguf_meta_free(&m);
    unlink(PATH);
}

static void refuses(void **state)
{
    GgufMeta   m = metadata();
    aha_error  e = {0};
    TensorInfo t[2] = {TENSOR[0], TENSOR[0]};
    (void)state;
    assert_int_equal(write_gguf(PATH, &m, t, 2, 0, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "twice"));
    t[0].bytes = 23;
    assert_int_equal(write_gguf(PATH, &m, t, 1, 0, &e), AHA_ERR_ARG);
    assert_int_equal(write_gguf(PATH, &m, TENSOR, 2, 1, &e), AHA_ERR_INTERNAL); /* fewer bytes than announced */
    assert_int_equal(write_gguf("/nowhere/x.gguf", &m, TENSOR, 2, 0, &e), AHA_ERR_IO);
    assert_false(file_exists(PATH) || dir_exists(PARTIAL));
    gguf_meta_free(&m);
}

static void same_as(const char *want, size_t n)
{
    char     *got;
    size_t    k;
    aha_error e = {0};
    ASSERT_OK(file_read_all(PATH, 1 << 20, &got, &k, &e), e);
    assert_true(n == k && !memcmp(want, got, n));
    mem_free(got);
}

/* every call that can fail, in turn: an error, no file that is not whole, and the next run, which goes on, writes the same bytes */
static void every_failure(void **state)
{
    static const unsigned KIND[] = {OS_FAULT_ALLOC, OS_FAULT_OPEN, OS_FAULT_WRITE, OS_FAULT_SYNC, OS_FAULT_RENAME};
    char   *want;
    size_t  want_n;
    GgufMeta first = metadata();
    aha_error none = {0};
    (void)state;
    ASSERT_OK(write_gguf(PATH, &first, TENSOR, 2, 0, &none), none);
    ASSERT_OK(file_read_all(PATH, 1 << 20, &want, &want_n, &none), none);
    gguf_meta_free(&first);
    unlink(PATH);
    for (size_t k = 0; k < ARRAY_LEN(KIND); k++)
        for (uint64_t nth = 1; nth < 100; nth++) {
            aha_error e = {0};
            os_fault_arm(KIND[k], nth);
            GgufMeta m = metadata();
            int      rc = write_gguf(PATH, &m, TENSOR, 2, 0, &e);
            uint64_t seen = os_fault_seen();
            os_fault_arm(0, 0);
            gguf_meta_free(&m);
            if (seen < nth) {
                ASSERT_OK(rc, e);
                unlink(PATH);
                break;
            }
            assert_true(rc < 0 && e.text[0]);
            if (file_exists(PATH)) same_as(want, want_n); /* after the rename: the folder's fsync, tidying up */
            m = metadata();
            ASSERT_OK(write_gguf(PATH, &m, TENSOR, 2, 0, &e), e);
            gguf_meta_free(&m);
            same_as(want, want_n);
            assert_false(dir_exists(PARTIAL));
            unlink(PATH);
        }
    mem_free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_back), cmocka_unit_test(refuses), cmocka_unit_test(every_failure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
