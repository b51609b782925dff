/* Model files on disk: single, in shards, hostile, written, and with every system call failing in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob.h"
#include "format/inner.h"

static char g_dir[64]; /* a fresh folder of this process */

static const char *in_dir(const char *name)
{
    static char path[4][256];
    static int  k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", g_dir, name);
    return path[k];
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    if (n) assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

static void clear_dir(void)
{
    aha_error e;
    char    **names;
    int       n;
    assert_int_equal(dir_list(g_dir, &names, &n, &e), 0);
    for (int i = 0; i < n; i++) {
        if (unlink(in_dir(names[i]))) rmdir(in_dir(names[i]));
    }
    mem_free(names);
}

static void good_file(void **state)
{
    size_t      n;
    uint8_t    *b = blob(GOOD, GOOD_BYTES, &n);
    WeightFile *w;
    aha_error   e = {0};
    (void)state;
    clear_dir();
    put("x.safetensors", b, n);
    assert_int_equal(weights_open(&w, in_dir("x.safetensors"), &e), 0);
    assert_int_equal(weights_count(w), 3);
    weights_close(w);
    put("model.safetensors", b, n);
    assert_int_equal(weights_open(&w, g_dir, &e), 0);
    assert_string_equal(weights_metadata(w, "format"), "pt");
    weights_close(w);
    free(b);
}

/* The same on disk, one byte around each tensor's edges; a file that shrinks is not read here. */
static void cut_on_disk(void **state)
{
    size_t   n, head = 8 + sizeof GOOD - 1;
    size_t   edge[] = {0, 24, 29, 31};
    uint8_t *b = blob(GOOD, GOOD_BYTES, &n);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(edge); i++) {
        for (size_t at = head + edge[i] - 1; at <= head + edge[i] + 1; at++) {
            aha_error   e = {0};
            WeightFile *w;
            if (at > n) b = realloc(b, at);
            put("cut.safetensors", b, at);
            assert_int_equal(weights_open(&w, in_dir("cut.safetensors"), &e), at == n ? 0 : AHA_ERR_FORMAT);
            weights_close(w);
        }
    }
    free(b);
}

/* A header length over 100 MB in a (sparse) file that is that long; of 2^64-1; of more than the file. */
static void header_length(void **state)
{
    static const uint64_t LEN[] = {100000001, 150000000, UINT64_MAX, UINT64_MAX - 7, 1ull << 63, 1ull << 32};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LEN); i++) {
        aha_error   e = {0};
        WeightFile *w;
        uint8_t     len[9];
        for (int k = 0; k < 8; k++) len[k] = (uint8_t)(LEN[i] >> (8 * k));
        len[8] = '{';
        put("long.safetensors", len, 9);
        assert_int_equal(truncate(in_dir("long.safetensors"), 200000000), 0);
        assert_int_equal(weights_open(&w, in_dir("long.safetensors"), &e), AHA_ERR_FORMAT);
        assert_non_null(strstr(e.text, "header length"));
    }
    assert_int_equal(unlink(in_dir("long.safetensors")), 0);
}

/* ---- folders ---- */
static void put_shards(void)
{
    size_t   n;
    uint8_t *b = blob("{\"__metadata__\":{\"k\":\"1\"}," T("a", "F32", "[1]", "[0,4]") "," T("b", "U8", "[3]", "[4,7]") "}", 7, &n);
    put("m-1.safetensors", b, n);
    free(b);
    b = blob("{\"__metadata__\":{\"k\":\"2\",\"l\":\"3\"}," T("c", "F16", "[2,2]", "[0,8]") "}", 8, &n);
    put("m-2.safetensors", b, n);
    free(b);
}

#define INDEX "model.safetensors.index.json"
static int open_index(const char *index, aha_error *e)
{
    WeightFile *w;
    put_text(INDEX, index);
    *e = (aha_error){0};
    int rc = weights_open(&w, g_dir, e);
    weights_close(w);
    return rc;
}

static const char SHARDS[] = "{\"metadata\":{\"total_size\":15,\"x\":[{}]},\"weight_map\":{\"a\":\"m-1.safetensors\","
                             "\"b\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}";

static void sharded_folder(void **state)
{
    WeightFile *w;
    aha_error   e = {0};
    (void)state;
    clear_dir();
    put_shards();
    put_text(INDEX, SHARDS);
    assert_int_equal(weights_open(&w, g_dir, &e), 0);
    assert_int_equal(weights_count(w), 3);
    assert_int_equal(weights_bytes(w), 15);
    assert_int_equal(weights_find(w, "c")->shard, 1);
    assert_string_equal(weights_find(w, "c")->name, "c");
    assert_string_equal(weights_metadata(w, "k"), "1");
    assert_string_equal(weights_metadata(w, "l"), "3");
    weights_close(w);
}

static void hostile_index(void **state)
{
    static const struct {
        const char *index, *words;
    } CASE[] = {
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"../x\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"d/m-1.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\\u0000\"}}", "no NUL"},
        {"{\"weight_map\":{\"a\":\"\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"passwd\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"/dev/random\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":7}}", "expected a string"},
        {"{\"weight_map\":{\"a\":null}}", "expected a string"},
        {"{\"weight_map\":[]}", "expected '{'"},
        {"{\"weight_map\":{}}", "absent or empty"},
        {"{}", "absent or empty"},
        {"[]", "expected '{'"},
        {"", "expected '{'"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"a\":\"m-1.safetensors\"}}", "twice"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\"},\"weight_map\":{\"b\":\"m-1.safetensors\"}}", "once"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"}} x", "end of the text"},
        /* in a shard, not in the index; in the index, not in its shard; in another shard */
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\"}}", "tensor \"b\": is in m-1.safetensors, expected it in weight_map too"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\",\"d\":\"m-1.safetensors\"}}", "tensor \"d\": absent"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"c\":\"m-2.safetensors\"}}",
         "tensor \"b\": is in m-1.safetensors, expected m-2.safetensors"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\",\"c\":\"copy.safetensors\",\"d\":\"m-2.safetensors\"}}", "in another shard too"},
        {"{\"weight_map\":{\"a\":\"fifo.safetensors\"}}", "FIFO"},
        {"{\"weight_map\":{\"a\":\"random.safetensors\"}}", "device"},
        {"{\"weight_map\":{\"a\":\"folder.safetensors\"}}", "folder"},
    };
    (void)state;
    clear_dir();
    put_shards();
    assert_int_equal(link(in_dir("m-2.safetensors"), in_dir("copy.safetensors")), 0);
    assert_int_equal(mkfifo(in_dir("fifo.safetensors"), 0600), 0);
    assert_int_equal(symlink("/dev/random", in_dir("random.safetensors")), 0);
    assert_int_equal(mkdir(in_dir("folder.safetensors"), 0700), 0);
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        aha_error e;
        assert_int_equal(open_index(CASE[i].index, &e), AHA_ERR_FORMAT);
        if (!strstr(e.text, CASE[i].words)) fail_msg("%s\n  gave: %s\n  not: %s", CASE[i].index, e.text, CASE[i].words);
    }
    aha_error e;
    assert_int_equal(open_index("{\"weight_map\":{\"a\":\"absent.safetensors\"}}", &e), AHA_ERR_IO);
    for (size_t cut = 0; cut < sizeof SHARDS - 1; cut++) {
        char text[sizeof SHARDS];
        memcpy(text, SHARDS, cut);
        text[cut] = 0;
        assert_int_equal(open_index(text, &e), AHA_ERR_FORMAT);
    }
}

static void no_model(void **state)
{
    WeightFile *w;
    aha_error   e = {0};
    (void)state;
    clear_dir();
    assert_int_equal(weights_open(&w, g_dir, &e), AHA_ERR_IO);
    assert_non_null(strstr(e.text, "model.safetensors"));
    assert_int_equal(weights_open(&w, in_dir("absent"), &e), AHA_ERR_IO);
    assert_int_equal(weights_open(&w, "/dev/random", &e), AHA_ERR_FORMAT);
    assert_int_equal(mkfifo(in_dir("model.safetensors"), 0600), 0);
    assert_int_not_equal(weights_open(&w, g_dir, &e), 0);
    assert_int_not_equal(weights_open(&w, in_dir("model.safetensors"), &e), 0);
    unlink(in_dir("model.safetensors"));
    put("model.safetensors", "", 0);
    assert_int_equal(weights_open(&w, g_dir, &e), AHA_ERR_FORMAT);
    assert_null(w);
}

/* ---- writing ---- */
enum { FAULT_ALL = OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_READ | OS_FAULT_WRITE | OS_FAULT_SYNC | OS_FAULT_MAP | OS_FAULT_RENAME };

static uint8_t g_data[64];
enum { PLAIN_TYPES = DT_Q4_0 }; /* what comes before the block types */
static int some_tensors(TensorInfo t[PLAIN_TYPES])
{
    for (int i = 0; i < PLAIN_TYPES; i++) {
        const DtypeInfo *d = dtype_info((Dtype)i);
        t[i] = (TensorInfo){.name = d->name, .dtype = (Dtype)i, .n_dims = i % 5, .dim = {1, 1, 1, 1}, .data = g_data, .bytes = (size_t)d->block_bytes};
        if (t[i].n_dims) t[i].dim[t[i].n_dims - 1] = 7, t[i].bytes *= 7;
    }
    for (size_t i = 0; i < sizeof g_data; i++) g_data[i] = (uint8_t)(i * 37 + 1);
    return PLAIN_TYPES;
}

static void check_some(const char *path, const TensorInfo *t, int n)
{
    WeightFile *w;
    aha_error   e = {0};
    assert_int_equal(weights_open(&w, path, &e), 0);
    assert_int_equal(weights_count(w), n);
    for (int i = 0; i < n; i++) {
        const TensorInfo *x = weights_find(w, t[i].name);
        assert_true(x && x->dtype == t[i].dtype && x->n_dims == t[i].n_dims && x->bytes == t[i].bytes);
        assert_memory_equal(x->dim, t[i].dim, (size_t)x->n_dims * sizeof x->dim[0]);
        assert_memory_equal(x->data, t[i].data, x->bytes);
        assert_int_equal((uintptr_t)x->data % (uintptr_t)dtype_info(x->dtype)->block_bytes, 0);
    }
    weights_close(w);
}

static void write_then_read(void **state)
{
    static const char *const META[] = {"format", "pt", "quote\"\n\xe2\x82\xac", "\\ \x01", NULL};
    TensorInfo  t[PLAIN_TYPES];
    int         n = some_tensors(t);
    WeightFile *w;
    aha_error   e = {0};
    (void)state;
    clear_dir();
    assert_int_equal(safetensors_write(in_dir("w.safetensors"), t, n, META, &e), 0);
    check_some(in_dir("w.safetensors"), t, n);
    assert_int_equal(weights_open(&w, in_dir("w.safetensors"), &e), 0);
    for (int i = 0; META[i]; i += 2) assert_string_equal(weights_metadata(w, META[i]), META[i + 1]);
    weights_close(w);
    assert_false(file_exists(in_dir("w.safetensors.tmp")));
    assert_int_equal(safetensors_write(in_dir("w.safetensors"), t, n, NULL, &e), 0); /* over the old one */
    check_some(in_dir("w.safetensors"), t, n);
    assert_int_equal(safetensors_write(in_dir("w.safetensors"), NULL, 0, META, &e), 0);
    assert_int_equal(weights_open(&w, in_dir("w.safetensors"), &e), 0);
    assert_int_equal(weights_count(w), 0);
    weights_close(w);
}

static void write_refuses(void **state)
{
    static const char *const TWICE[] = {"a", "1", "a", "2", NULL};
    static const char *const NO_UTF8[] = {"a", "\xff", NULL};
    TensorInfo t[PLAIN_TYPES], good[PLAIN_TYPES];
    int        n = some_tensors(good);
    aha_error  e;
    (void)state;
    clear_dir();
    for (int i = 0; i < 12; i++) {
        memcpy(t, good, sizeof t);
        if (i == 0) t[3].name = t[2].name;
        if (i == 1) t[3].name = NULL;
        if (i == 2) t[3].name = "";
        if (i == 3) t[3].name = "\xc3";
        if (i == 4) t[3].name = "__metadata__";
        if (i == 5) t[3].bytes++;
        if (i == 6) t[3].data = NULL;
        if (i == 7) t[3].n_dims = 5;
        if (i == 8) t[3].dim[0] = -1;
        if (i == 9) t[3].dtype = DT_COUNT;
        if (i == 10) t[3].n_dims = -1;
        if (i == 11) t[3].dtype = DT_Q8_0, t[3].n_dims = 1, t[3].dim[0] = 32, t[3].bytes = 34;
        assert_int_equal(safetensors_write(in_dir("w.safetensors"), t, n, NULL, &e), AHA_ERR_ARG);
    }
    assert_int_equal(safetensors_write(in_dir("w.safetensors"), good, n, TWICE, &e), AHA_ERR_ARG);
    assert_int_equal(safetensors_write(in_dir("w.safetensors"), good, n, NO_UTF8, &e), AHA_ERR_ARG);
    assert_int_equal(safetensors_write(in_dir("w.safetensors"), good, -1, NULL, &e), AHA_ERR_ARG);
    assert_int_equal(safetensors_write(in_dir("no/w.safetensors"), good, n, NULL, &e), AHA_ERR_IO);
    assert_false(file_exists(in_dir("w.safetensors")));
}

static int count_in(const char *path)
{
    WeightFile *w;
    aha_error   e;
    if (!file_exists(path)) return -1;
    assert_int_equal(weights_open(&w, path, &e), 0);
    int n = weights_count(w);
    weights_close(w);
    return n;
}

/* After any failure: what was there before, or (when only the folder's own fsync failed) the whole new file. */
static void write_faults(void **state)
{
    static const char *const META[] = {"format", "pt", NULL};
    TensorInfo  t[PLAIN_TYPES];
    int         n = some_tensors(t), failed = 0, in_place = 0;
    const char *name = "w.safetensors";
    (void)state;
    clear_dir();
    for (int old = -1; old <= 1; old += 2) { /* nothing there; a file of one tensor there */
        for (uint64_t nth = 1, more = 1; more; nth++) {
            aha_error e = {0};
            if (old > 0) assert_int_equal(safetensors_write(in_dir(name), t, 1, NULL, &e), 0);
            else assert_int_equal(file_remove(in_dir(name), &e), 0);
            os_fault_arm(FAULT_ALL, nth);
            int rc = safetensors_write(in_dir(name), t, n, META, &e);
            more = os_fault_seen() >= nth;
            os_fault_arm(0, 0);
            assert_int_equal(rc, more ? e.code : 0);
            assert_false(file_exists(in_dir("w.safetensors.tmp")));
            int now = count_in(in_dir(name));
            assert_true(now == n || (rc && now == old));
            in_place += rc && now == n;
            failed += rc != 0;
        }
        check_some(in_dir(name), t, n);
    }
    assert_true(failed > 30 && in_place <= 4);
}

static void open_faults(void **state)
{
    int failed = 0;
    (void)state;
    clear_dir();
    put_shards();
    put_text(INDEX, SHARDS);
    for (uint64_t nth = 1, more = 1; more; nth++) {
        aha_error   e = {0};
        WeightFile *w;
        os_fault_arm(FAULT_ALL, nth);
        int rc = weights_open(&w, g_dir, &e);
        more = os_fault_seen() >= nth;
        os_fault_arm(0, 0);
        assert_int_equal(rc, more ? e.code : 0);
        assert_true((rc == 0) == (w != NULL));
        if (rc) assert_true(e.text[0] != 0 && (rc == AHA_ERR_NOMEM || rc == AHA_ERR_IO));
        failed += rc != 0;
        weights_close(w);
    }
    assert_true(failed > 20);
}

/* ---- many names ---- */
static void many_tensors(void **state)
{
    enum { N = 20000 };
    static char name[N][24];
    TensorInfo *t = calloc(N, sizeof *t);
    aha_error   e = {0};
    WeightFile *w;
    (void)state;
    clear_dir();
    for (int i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], "layer.%d", i);
        t[i] = (TensorInfo){.name = name[i], .dtype = DT_U8, .n_dims = 1, .dim = {1}, .data = &name[i][6], .bytes = 1};
    }
    assert_int_equal(safetensors_write(in_dir("model.safetensors"), t, N, NULL, &e), 0);
    assert_int_equal(weights_open(&w, g_dir, &e), 0);
    for (int i = 0; i < N; i++) {
        const TensorInfo *x = weights_find(w, name[i]);
        assert_true(x && *(const char *)x->data == name[i][6]);
    }
    weights_close(w);
    free(t);
}

static void golden_folders(void **state)
{
    char    **names;
    int       n, seen = 0;
    aha_error e = {0};
    (void)state;
    if (!dir_exists("tests/golden")) skip();
    assert_int_equal(dir_list("tests/golden", &names, &n, &e), 0);
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof path, "tests/golden/%s", names[i]);
        WeightFile *w;
        if (!dir_exists(path)) continue;
        int rc = weights_open(&w, path, &e);
        if (rc) fail_msg("%s: %s", path, e.text);
        assert_true(weights_count(w) > 3);
        weights_close(w);
        seen++;
    }
    mem_free(names);
    assert_true(seen > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_file),       cmocka_unit_test(cut_on_disk),   cmocka_unit_test(header_length),   cmocka_unit_test(sharded_folder),
        cmocka_unit_test(hostile_index),   cmocka_unit_test(no_model),      cmocka_unit_test(write_then_read), cmocka_unit_test(write_refuses),
        cmocka_unit_test(write_faults),    cmocka_unit_test(open_faults),   cmocka_unit_test(many_tensors),    cmocka_unit_test(golden_folders),
    };
    alarm(300); /* nothing here may block */
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-format-XXXXXX");
    if (!mkdtemp(g_dir)) return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    aha_error e;
    dir_remove_all(g_dir, &e);
    return rc;
}
