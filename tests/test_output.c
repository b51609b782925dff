/* Files that are written over several runs: wherever a run ends, the next one goes on, and the bytes are those of one run. */
#include <stdio.h>
#include <unistd.h>

#include "format/format.h"
#include "testlib.h"

enum { TENSORS = 9, FLOATS = 5000, FILES = 3 };
static const char DIR[] = "/tmp/aha-test-output", TARGET[] = "/tmp/aha-test-output/x.gguf", FOLDER[] = "/tmp/aha-test-output/x", PARTIAL[] = "/tmp/aha-test-output/x.gguf.partial";
static float      g_value[TENSORS][FLOATS];
static TensorInfo g_tensor[TENSORS];
static char       g_name[TENSORS][8];

typedef struct Run {
    int  stop;      /* before this tensor's last byte; -1: no */
    int  code;      /* with this error */
    int  written[TENSORS], n_written, n_whole;
    char note[256];
    uint64_t stamp;
    int  option;
    bool folder;
} Run;

static int write_one(void *user, int i, Output *o, aha_error *e)
{
    Run *r = user;
    r->written[r->n_written++] = i;
    if (i == r->stop) {
        int rc = output_put(o, g_value[i], g_tensor[i].bytes - 1, e);
        return rc ? rc : error_set(e, r->code, "stopped");
    }
    return output_put(o, g_value[i], g_tensor[i].bytes, e);
}

static void is_whole(void *user, int i)
{
    (void)i;
    ((Run *)user)->n_whole++;
}

static void keep_note(void *user, const char *line)
{
    snprintf(((Run *)user)->note, 256, "%s", line);
}

static int run(Run *r, aha_error *e)
{
    Output     *o;
    OutputCalls calls = {write_one, is_whole, keep_note, r};
    GgufMeta    m = {0};
    int         rc = output_new(&o, r->folder ? FOLDER : TARGET, r->folder, e);
    gguf_put_int(&m, "option", r->option);
    for (int i = 0; i < FILES && !rc; i++) {
        char name[32];
        snprintf(name, sizeof name, "x-%d.%s", i, r->folder ? "safetensors" : "gguf");
        if (r->folder) rc = output_add_safetensors(o, name, NULL, g_tensor + i * 3, 3, e);
        else rc = output_add_gguf(o, name, &m, g_tensor + i * 3, 3, e);
    }
    if (!rc && r->folder) rc = output_add_text(o, "config.json", "{}\n", 3, e);
    if (!rc) rc = output_write(o, r->stamp, false, &calls, e);
    gguf_meta_free(&m);
    output_free(o);
    return rc;
}

/* the hash of all files' bytes; *n: how many there are */
static uint64_t result(bool folder, int *n)
{
    uint64_t  h = 0;
    char    **name;
    aha_error e = {0};
    ASSERT_OK(dir_list(folder ? FOLDER : DIR, &name, n, &e), e);
    for (int i = 0; i < *n; i++) {
        char path[512], *text;
        size_t len;
        ASSERT_OK(path_join(path, sizeof path, folder ? FOLDER : DIR, name[i], &e), e);
        ASSERT_OK(file_read_all(path, 1 << 24, &text, &len, &e), e);
        h = hash64(text, len, h);
        mem_free(text);
    }
    mem_free(name);
    return h;
}

static int fresh(void **state)
{
    Rng r = {5, 0, 0};
    (void)state;
    dir_remove_all(FOLDER, NULL);
    dir_remove_all(PARTIAL, NULL);
    dir_remove_all("/tmp/aha-test-output/x.partial", NULL);
    dir_remove_all(DIR, NULL);
    for (int i = 0; i < TENSORS; i++) {
        bool half = i == 4; /* another type: safetensors puts it behind the others */
        snprintf(g_name[i], sizeof g_name[i], "t%d", i);
        for (int k = 0; k < FLOATS; k++) g_value[i][k] = rng_float(&r);
        int64_t n = FLOATS - 7 * i;
        g_tensor[i] = (TensorInfo){.name = g_name[i], .dtype = half ? DT_BF16 : DT_F32, .n_dims = 1, .dim = {n}, .bytes = (size_t)n * (half ? 2 : 4)};
    }
    return dir_make(DIR, NULL);
}

/* stopped in every tensor, by every error after which the next run goes on */
static void goes_on(void **state)
{
    (void)state;
    for (int folder = 0; folder < 2; folder++) {
        int       n;
        aha_error e = {0};
        Run       one = {.stop = -1, .folder = folder};
        fresh(NULL);
        ASSERT_OK(run(&one, &e), e);
        assert_true(one.n_written == TENSORS && one.n_whole == 0 && !one.note[0]);
        uint64_t want = result(folder, &n);
        assert_int_equal(n, FILES + folder);
        for (int stop = 0; stop < TENSORS; stop++) {
            Run a = {.stop = stop, .code = stop % 2 ? AHA_ERR_CANCELLED : AHA_ERR_IO, .folder = folder}, b = {.stop = -1, .folder = folder};
            fresh(NULL);
            e = (aha_error){0};
            assert_int_equal(run(&a, &e), a.code);
            assert_false(file_exists("/tmp/aha-test-output/x-0.gguf") || dir_exists(FOLDER));
            if (a.n_written > 1) assert_non_null(strstr(e.text, "the same command goes on"));
            ASSERT_OK(run(&b, &e), e);
            assert_true(b.n_whole == a.n_written - 1 && b.n_written == TENSORS - b.n_whole); /* the last whole tensor is not written again */
            if (b.n_whole) assert_non_null(strstr(b.note, "going on"));
            assert_true(result(folder, &n) == want && n == FILES + folder);
        }
    }
}

/* what does not fit begins anew, and says why; an error that the same command would meet again leaves nothing */
static void begins_anew(void **state)
{
    static const struct {
        int         option;
        uint64_t    stamp;
        const char *word;
    } CASE[] = {{1, 0, "options"}, {0, 1, "source"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        Run       a = {.stop = 6, .code = AHA_ERR_IO}, b = {.stop = -1, .option = CASE[i].option, .stamp = CASE[i].stamp};
        aha_error e = {0};
        fresh(NULL);
        assert_int_equal(run(&a, &e), AHA_ERR_IO);
        ASSERT_OK(run(&b, &e), e);
        assert_true(b.n_written == TENSORS && strstr(b.note, "anew") && strstr(b.note, CASE[i].word));
    }
    Run       a = {.stop = 6, .code = AHA_ERR_FORMAT};
    aha_error e = {0};
    int       n;
    fresh(NULL);
    assert_int_equal(run(&a, &e), AHA_ERR_FORMAT);
    assert_true(result(false, &n) == 0 && n == 0);
}

/* bytes that were lost with the machine's power, a torn journal: written again */
static void damaged(void **state)
{
    char      path[128];
    int       n;
    aha_error e = {0};
    Run       one = {.stop = -1};
    (void)state;
    fresh(NULL);
    ASSERT_OK(run(&one, &e), e);
    uint64_t want = result(false, &n);
    for (int what = 0; what < 4; what++) {
        Run  a = {.stop = 5, .code = AHA_ERR_IO}, b = {.stop = -1};
        File f;
        fresh(NULL);
        assert_int_equal(run(&a, &e), AHA_ERR_IO);
        snprintf(path, sizeof path, "%s/%s", PARTIAL, what == 3 ? "journal" : "x-1.gguf");
        ASSERT_OK(file_open_rw(&f, path, &e), e);
        if (what == 0) ASSERT_OK(file_pwrite(&f, "torn", 4, 10000, &e), e);    /* in tensor 3, behind what was synced */
        if (what == 1) ASSERT_OK(file_truncate(&f, 10000, &e), e);
        if (what == 2) ASSERT_OK(file_pwrite(&f, "torn", 4, 0, &e), e);        /* the head is written again anyway */
        if (what == 3) ASSERT_OK(file_truncate(&f, f.size - 3, &e), e);
        file_close(&f);
        ASSERT_OK(run(&b, &e), e);
        assert_int_equal(b.n_whole, what == 2 ? 5 : what == 3 ? 4 : 3);
        assert_true(result(false, &n) == want && n == FILES);
    }
}

/* whatever else lies at OUT.partial is not touched; two runs at once: the second is refused */
static void in_the_way(void **state)
{
    Run       r = {.stop = -1};
    aha_error e = {0};
    File      f;
    bool      got;
    (void)state;
    fresh(NULL);
    ASSERT_OK(dir_make(PARTIAL, &e), e);
    ASSERT_OK(file_write_atomic("/tmp/aha-test-output/x.gguf.partial/letter", "dear", 4, &e), e);
    assert_int_equal(run(&r, &e), AHA_ERR_IO);
    assert_non_null(strstr(e.text, "in the way"));
    assert_true(file_exists("/tmp/aha-test-output/x.gguf.partial/letter"));
    ASSERT_OK(file_write_atomic("/tmp/aha-test-output/x.gguf.partial/journal", "dear diary\n", 11, &e), e);
    assert_int_equal(run(&r, &e), AHA_ERR_IO);
    assert_true(file_exists("/tmp/aha-test-output/x.gguf.partial/letter") && r.n_written == 0);

    Run a = {.stop = 5, .code = AHA_ERR_IO};
    fresh(NULL);
    assert_int_equal(run(&a, &e), AHA_ERR_IO);
    ASSERT_OK(file_open_rw(&f, "/tmp/aha-test-output/x.gguf.partial/journal", &e), e);
    ASSERT_OK(file_lock(&f, "/tmp/aha-test-output/x.gguf.partial/journal", &got, &e), e);
    assert_true(got);
    assert_int_equal(run(&r, &e), AHA_ERR_IO);
    assert_non_null(strstr(e.text, "another run"));
    file_close(&f);
    ASSERT_OK(file_write_atomic("/tmp/aha-test-output/x-1.gguf", "mine", 4, &e), e);
    assert_int_equal(run(&r, &e), AHA_ERR_ARG); /* what an earlier run wrote stays all the same */
    ASSERT_OK(file_remove("/tmp/aha-test-output/x-1.gguf", &e), e);
    ASSERT_OK(run(&r, &e), e);
    assert_int_equal(r.n_whole, 5);
}

/* every call that can fail, in turn, with tensors that are whole already and without: the next run makes it good */
static void every_failure(void **state)
{
    static const unsigned KIND[] = {OS_FAULT_ALLOC, OS_FAULT_OPEN, OS_FAULT_READ, OS_FAULT_WRITE, OS_FAULT_SYNC, OS_FAULT_RENAME};
    (void)state;
    for (int folder = 0; folder < 2; folder++) {
        Run       one = {.stop = -1, .folder = folder};
        aha_error e = {0};
        int       n;
        fresh(NULL);
        ASSERT_OK(run(&one, &e), e);
        uint64_t want = result(folder, &n);
        for (size_t k = 0; k < ARRAY_LEN(KIND); k++)
            for (uint64_t nth = 1, seen = nth; seen >= nth; nth++) {
                Run a = {.stop = 4, .code = AHA_ERR_CANCELLED, .folder = folder}, b = {.stop = -1, .folder = folder}, c = b;
                fresh(NULL);
                if (nth % 2) assert_int_equal(run(&a, &e), AHA_ERR_CANCELLED);
                os_fault_arm(KIND[k], nth);
                int rc = run(&b, &e);
                seen = os_fault_seen();
                os_fault_arm(0, 0);
                bool done = folder ? dir_exists(FOLDER) : file_exists("/tmp/aha-test-output/x-0.gguf");
                if (rc && !done) ASSERT_OK(run(&c, &e), e);
                if (rc && done && folder) file_remove("/tmp/aha-test-output/x/journal", NULL); /* the rename was done, the rest was not */
                if (rc && done && !folder && dir_exists(PARTIAL)) ASSERT_OK(run(&c, &e), e);
                assert_true(result(folder, &n) == want);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(goes_on), cmocka_unit_test(begins_anew), cmocka_unit_test(damaged), cmocka_unit_test(in_the_way),
                                       cmocka_unit_test(every_failure)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    fresh(NULL);
    dir_remove_all(DIR, NULL);
    return rc;
}
