/* GGUF files in memory and split over several: what is sound, and what hostile ones may try. */
#include <sys/stat.h>
#include <unistd.h>

#include "format/format.h"
#include "gguflib.h"
#include "testlib.h"

static const uint8_t DATA[4096];

static void sound(Gguf *g)
{
    gguf_start(g);
    put_kv_str(g, "general.architecture", "llama");
    put_kv_u32(g, "llama.block_count", 7);
    put_kv_f32(g, "llama.eps", 0.25f);
    put_kv_bool(g, "flag", true);
    put_key_type(g, "tokens", GGUF_ARRAY);
    put_u32(&g->kv, GGUF_STRING);
    put_u64(&g->kv, 3);
    put_text(&g->kv, "a");
    put_text(&g->kv, "");
    put_text(&g->kv, "\xff\xc3");
    put_key_type(g, "ids", GGUF_ARRAY);
    put_u32(&g->kv, GGUF_I16);
    put_u64(&g->kv, 2);
    buf_add(&g->kv, "\xfe\xff\x05\x00", 4);
    put_key_type(g, "wide", GGUF_U64);
    put_u64(&g->kv, UINT64_MAX);
    put_key_type(g, "double", GGUF_F64);
    buf_add(&g->kv, &(double){0.1}, 8);
    put_tensor(g, "a", DT_F32, 0, 2, 3, DATA, 24);
    put_tensor(g, "q", DT_Q4_K, 2, 3, 512, DATA, 2 * 3 * 2 * 144);
    put_tensor(g, "v", DT_BF16, 0, 0, 5, DATA, 10);
}

static int open_bytes(const uint8_t *b, size_t n, aha_error *e)
{
    WeightFile *w;
    *e = (aha_error){0};
    int rc = weights_open_memory(&w, "t.gguf", b, n, e);
    assert_true((rc == 0) == (w != NULL));
    if (rc) assert_true(rc == e->code && e->text[0] && strstr(e->text, "t.gguf"));
    weights_close(w);
    return rc;
}

static int open_made(Gguf *g, aha_error *e)
{
    size_t   n;
    uint8_t *b = gguf_finish(g, &n, NULL);
    int      rc = open_bytes(b, n, e);
    free(b);
    return rc;
}

/* refused with a message that has `says` in it */
static void refused(Gguf *g, const char *says)
{
    aha_error e;
    int       rc = open_made(g, &e);
    if (!rc || !strstr(e.text, says)) fail_msg("got %d \"%s\", expected a refusal that says \"%s\"", rc, e.text, says);
}

static void reads_sound(void **state)
{
    Gguf        g;
    size_t      n, head, len;
    WeightFile *w;
    aha_error   e = {0};
    const char *s;
    int64_t     i = 0;
    double      d = 0;
    bool        flag = false;
    (void)state;
    sound(&g);
    uint8_t *b = gguf_finish(&g, &n, &head);
    ASSERT_OK(weights_open_memory(&w, "t.gguf", b, n, &e), e);
    assert_true(weights_is_gguf(w) && weights_count(w) == 3 && weights_bytes(w) == 24 + 1728 + 10);
    const TensorInfo *a = weights_find(w, "a"), *q = weights_find(w, "q"), *v = weights_find(w, "v");
    assert_true(a->dtype == DT_F32 && a->n_dims == 2 && a->dim[0] == 2 && a->dim[1] == 3 && a->bytes == 24 && a->data == b + head);
    assert_true(q->dtype == DT_Q4_K && q->n_dims == 3 && q->dim[0] == 2 && q->dim[1] == 3 && q->dim[2] == 512 && q->data == b + head + 32);
    assert_true(v->dtype == DT_BF16 && v->n_dims == 1 && v->dim[0] == 5 && v->data == b + head + 32 + 1728);
    assert_int_equal(gguf_kv_count(w), 8);
    assert_string_equal(gguf_kv_key(w, 1), "llama.block_count");
    assert_null(gguf_kv_key(w, 8));
    assert_null(gguf_kv_find(w, "llama"));
    ASSERT_OK(gguf_get_int(w, "t", "llama.block_count", true, 0, 9, &i, &e), e);
    ASSERT_OK(gguf_get_num(w, "t", "llama.eps", true, 0, 1, &d, &e), e);
    ASSERT_OK(gguf_get_bool(w, "t", "flag", true, &flag, &e), e);
    ASSERT_OK(gguf_get_str(w, "t", "general.architecture", true, &s, &len, &e), e);
    assert_true(i == 7 && d == 0.25 && flag && len == 5 && memcmp(s, "llama", 5) == 0);
    ASSERT_OK(gguf_get_num(w, "t", "double", true, 0, 1, &d, &e), e);
    assert_true(d == 0.1);
    ASSERT_OK(gguf_get_int(w, "t", "none", false, 0, 9, &i, &e), e);
    assert_true(i == 7);
    assert_int_equal(gguf_get_int(w, "t", "none", true, 0, 9, &i, &e), AHA_ERR_FORMAT);
    assert_int_equal(gguf_get_int(w, "t", "llama.block_count", true, 0, 6, &i, &e), AHA_ERR_FORMAT);
    assert_string_equal(e.text, "t: llama.block_count: got 7, expected 0..6");
    assert_int_equal(gguf_get_int(w, "t", "llama.eps", true, 0, 6, &i, &e), AHA_ERR_FORMAT);
    assert_int_equal(gguf_get_int(w, "t", "ids", true, 0, 6, &i, &e), AHA_ERR_FORMAT);
    assert_int_equal(gguf_get_int(w, "t", "wide", true, 0, INT64_MAX - 1, &i, &e), AHA_ERR_FORMAT);
    const GgufValue *ids = gguf_kv_find(w, "ids"), *tokens = gguf_kv_find(w, "tokens");
    assert_true(ids->array && ids->n == 2 && gguf_int(ids, 0) == -2 && gguf_int(ids, 1) == 5);
    assert_true(tokens->type == GGUF_STRING && tokens->array && tokens->n == 3);
    GgufStrings it = gguf_strings(tokens);
    assert_true(gguf_next(&it, &s, &len) && len == 1 && *s == 'a');
    assert_true(gguf_next(&it, &s, &len) && len == 0);
    assert_true(gguf_next(&it, &s, &len) && len == 2 && (uint8_t)s[1] == 0xc3);
    assert_false(gguf_next(&it, &s, &len));
    weights_close(w);
    free(b);
    gguf_start(&g); /* nothing in it: sound, if of no use */
    assert_int_equal(open_made(&g, &e), 0);
    gguf_start(&g); /* a vocabulary alone */
    put_kv_u32(&g, "k", 1);
    assert_int_equal(open_made(&g, &e), 0);
}

/* Every prefix but those that only lack padding behind the last tensor; one byte more. */
static void cut_anywhere(void **state)
{
    Gguf      g;
    size_t    n;
    aha_error e;
    (void)state;
    sound(&g);
    uint8_t *b = gguf_finish(&g, &n, NULL);
    for (size_t k = 0; k < n; k++) {
        uint8_t *exact = malloc(k ? k : 1);
        memcpy(exact, b, k);
        if (open_bytes(exact, k, &e) == 0) fail_msg("the first %zu of %zu bytes are taken", k, n);
        free(exact);
    }
    for (size_t more = 1; more < 64; more++) { /* the last tensor has 10 of 32 bytes */
        uint8_t *longer = calloc(n + more, 1);
        memcpy(longer, b, n);
        assert_true((open_bytes(longer, n + more, &e) == 0) == (more <= 22));
        free(longer);
    }
    free(b);
}

/* Every byte of the header set to several values: whatever opens is consistent (and a sanitizer watches). */
static void changed_anywhere(void **state)
{
    static const uint8_t SET[] = {0, 1, 0x7f, 0x80, 0xff};
    Gguf                 g;
    size_t               n, head;
    (void)state;
    sound(&g);
    uint8_t *b = gguf_finish(&g, &n, &head);
    for (size_t k = 0; k < head; k++)
        for (size_t v = 0; v < sizeof SET; v++) {
            uint8_t     old = b[k];
            WeightFile *w;
            aha_error   e = {0};
            b[k] = SET[v];
            if (weights_open_memory(&w, "t.gguf", b, n, &e) == 0)
                for (int i = 0; i < weights_count(w); i++) {
                    const TensorInfo *t = weights_at(w, i);
                    assert_true((const uint8_t *)t->data >= b + 24 && (const uint8_t *)t->data + t->bytes <= b + n);
                }
            weights_close(w);
            b[k] = old;
        }
    free(b);
}

static void counts(void **state)
{
    static const uint64_t HUGE_COUNT[] = {(uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX, 1000000};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(HUGE_COUNT); i++) {
        Gguf g;
        sound(&g);
        g.n_tensor = HUGE_COUNT[i];
        refused(&g, "number of tensors");
        sound(&g);
        g.n_kv = HUGE_COUNT[i];
        refused(&g, "metadata");
        for (uint32_t t = 0; t < GGUF_TYPE_COUNT; t++) {
            gguf_start(&g);
            put_key_type(&g, "big", GGUF_ARRAY);
            put_u32(&g.kv, t);
            put_u64(&g.kv, HUGE_COUNT[i]);
            put_text(&g.kv, "xxxxxxxxxxxxxxxxxxxxxxx");
            refused(&g, "big");
        }
        gguf_start(&g);
        put_key_type(&g, "text", GGUF_STRING);
        put_u64(&g.kv, HUGE_COUNT[i]);
        put_text(&g.kv, "xxxxxxxxxxxxxxxxxxxxxxx");
        refused(&g, "text");
        gguf_start(&g);
        put_u64(&g.kv, HUGE_COUNT[i]);
        put_text(&g.kv, "xxxxxxxxxxxxxxxxxxxxxxx");
        g.n_kv = 1;
        refused(&g, "key");
        gguf_start(&g);
        put_u64(&g.info, HUGE_COUNT[i]);
        put_text(&g.info, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        g.n_tensor = 1;
        refused(&g, "tensor's name");
    }
}

static void metadata(void **state)
{
    static const struct {
        uint32_t    type, value;
        const char *says;
    } ALIGN[] = {{GGUF_U32, 0, "alignment"}, {GGUF_U32, 13, "alignment"}, {GGUF_U32, 0x80000000u, "alignment"}, {GGUF_I32, 32, "alignment"},
                 {GGUF_F32, 0x42000000u, "alignment"}, {GGUF_U32, 4, "alignment"}, {GGUF_U32, 1 << 17, "alignment"}};
    Gguf g;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ALIGN); i++) {
        sound(&g);
        put_key_type(&g, "general.alignment", ALIGN[i].type);
        put_u32(&g.kv, ALIGN[i].value);
        refused(&g, ALIGN[i].says);
    }
    sound(&g); /* the right number of a wrong type */
    put_key_type(&g, "general.alignment", GGUF_U64);
    put_u64(&g.kv, 32);
    refused(&g, "alignment");
    sound(&g);
    put_key_type(&g, "general.alignment", GGUF_ARRAY);
    put_u32(&g.kv, GGUF_U32);
    put_u64(&g.kv, 1);
    put_u32(&g.kv, 32);
    refused(&g, "alignment");
    sound(&g);
    put_kv_str(&g, "general.alignment", "32");
    refused(&g, "alignment");
    sound(&g);
    put_kv_u32(&g, "llama.block_count", 7);
    refused(&g, "twice");
    sound(&g);
    put_kv_u32(&g, "", 7);
    refused(&g, "key");
    sound(&g);
    put_kv_u32(&g, "\xc3", 7);
    refused(&g, "key");
    sound(&g);
    put_key_type(&g, "odd", 13);
    refused(&g, "odd: got the type 13");
    sound(&g);
    put_key_type(&g, "nest", GGUF_ARRAY);
    put_u32(&g.kv, GGUF_ARRAY);
    refused(&g, "array of arrays");
    gguf_start(&g);
    for (int i = 0; i < 5000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put_kv_u32(&g, key, 1);
    }
    refused(&g, "4096");
    static const uint32_t VERSION[] = {0, 1, 4, 99, 0x02000000, 0x03000000};
    for (size_t i = 0; i < ARRAY_LEN(VERSION); i++) {
        sound(&g);
        g.version = VERSION[i];
        refused(&g, VERSION[i] > 99 ? "big-endian" : "version");
    }
    aha_error e;
    sound(&g);
    g.version = 2;
    assert_int_equal(open_made(&g, &e), 0);
    static const uint32_t GOOD_ALIGN[] = {8, 64, 4096};
    for (size_t i = 0; i < ARRAY_LEN(GOOD_ALIGN); i++) {
        gguf_start(&g);
        g.align = GOOD_ALIGN[i];
        put_kv_u32(&g, "general.alignment", GOOD_ALIGN[i]);
        put_tensor(&g, "a", DT_F32, 0, 0, 3, DATA, 12);
        put_tensor(&g, "b", DT_F32, 0, 0, 3, DATA, 12);
        ASSERT_OK(open_made(&g, &e), e);
    }
}

static void one_info(int n_dims, uint64_t a, uint64_t b, uint32_t type, uint64_t offset, const char *says)
{
    Gguf     g;
    uint64_t ne[5] = {a, b, 1, 1, 1};
    gguf_start(&g);
    put_info(&g, "t", n_dims, ne, type, offset);
    buf_add(&g.data, DATA, 64);
    refused(&g, says);
}

static void infos(void **state)
{
    Gguf g;
    (void)state;
    one_info(0, 0, 0, 0, 0, "0 dimensions");
    one_info(5, 1, 1, 0, 0, "5 dimensions");
    static const uint32_t MANY[] = {1u << 31, UINT32_MAX, 1u << 16}; /* more than there are bytes, and negative to an int */
    for (size_t i = 0; i < ARRAY_LEN(MANY); i++) {
        gguf_start(&g);
        put_text(&g.info, "t");
        put_u32(&g.info, MANY[i]);
        for (int k = 0; k < 5; k++) put_u64(&g.info, 1);
        g.n_tensor = 1;
        refused(&g, "dimensions");
    }
    one_info(2, 0, 4, 0, 0, "dimension of 0");
    one_info(2, 4, 0, 0, 0, "dimension of 0");
    one_info(1, UINT64_MAX, 0, 0, 0, "dimension of");
    one_info(1, (uint64_t)1 << 63, 0, 0, 0, "dimension of");
    one_info(1, 16, 0, 4, 0, "type: got 4");
    one_info(1, 16, 0, 99, 0, "type: got 99");
    one_info(1, 16, 0, UINT32_MAX, 0, "type: got");
    one_info(1, 33, 0, 2, 0, "multiple of 32");
    one_info(1, 255, 0, 12, 0, "multiple of 256");
    one_info(1, 16, 0, 0, 16, "multiple of 32");
    one_info(1, 17, 0, 0, 0, "within the 64 bytes");
    one_info(1, 16, 0, 0, 32, "within the 64 bytes");
    one_info(1, 1, 0, 0, 64, "within the 64 bytes");
    one_info(1, 1, 0, 0, (uint64_t)1 << 40, "within the 64 bytes");
    one_info(1, 1, 0, 0, UINT64_MAX - 31, "within the 64 bytes");
    one_info(1, 8, 0, 0, 32, "gap");
    one_info(1, 8, 0, 0, 0, "32 bytes after the last tensor");
    for (int t = 0; t < DT_COUNT; t++) { /* products that wrap, in elements or in bytes, per type */
        uint64_t block = (uint64_t)dtype_info((Dtype)t)->block, big = INT64_MAX / block * block;
        if (t == DT_F8_E4M3 || t == DT_U8 || t == DT_BOOL) continue; /* not of GGUF */
        one_info(2, big, block > 1 ? block : 3, ggml_type((Dtype)t), 0, "overflow");
        one_info(2, (uint64_t)1 << 32, (uint64_t)1 << 32, ggml_type((Dtype)t), 0, "overflow");
        one_info(2, block << 40, (uint64_t)1 << 20, ggml_type((Dtype)t), 0, "t.gguf: tensor \"t\":");
    }
    sound(&g);
    put_tensor(&g, "a", DT_F32, 0, 0, 1, DATA, 4);
    refused(&g, "there twice");
    uint64_t one = 1;
    sound(&g);
    put_info(&g, "b", 1, &one, 0, 0);
    refused(&g, "overlap");
    sound(&g);
    put_info(&g, "", 1, &one, 0, 0);
    refused(&g, "tensor's name");
    char name[600];
    memset(name, 'x', sizeof name);
    name[599] = 0;
    sound(&g);
    put_info(&g, name, 1, &one, 0, 0);
    refused(&g, "599 bytes");
    /* two I8 tensors whose sizes add up to a wrap */
    uint64_t big = 0x7FFFFFFFFFFFFFC0u;
    gguf_start(&g);
    put_info(&g, "a", 1, &big, 24, 0);
    put_info(&g, "b", 1, &big, 24, big);
    buf_add(&g.data, DATA, 64);
    refused(&g, "within the 64 bytes");
}

/* ---- several files ---- */
static char g_dir[64];

static const char *in_dir(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", g_dir, name);
    return path;
}

typedef struct Part { /* of a split file, and how it may lie */
    uint32_t    no, count;
    int32_t     tensors;
    const char *tensor, *file;
    uint32_t    type;
} Part;

static void write_part(const Part *p)
{
    Gguf   g;
    size_t n;
    gguf_start(&g);
    put_key_type(&g, "split.no", p->type ? p->type : GGUF_U16);
    buf_add(&g.kv, &p->no, p->type ? 4 : 2);
    put_key_type(&g, "split.count", GGUF_U16);
    buf_add(&g.kv, &p->count, 2);
    put_key_type(&g, "split.tensors.count", GGUF_I32);
    buf_add(&g.kv, &p->tensors, 4);
    if (p->no == 0) put_kv_u32(&g, "k", 1);
    put_tensor(&g, p->tensor, DT_F32, 0, 0, 3, DATA, 12);
    uint8_t  *b = gguf_finish(&g, &n, NULL);
    aha_error e = {0};
    ASSERT_OK(file_write_atomic(in_dir(p->file), b, n, &e), e);
    free(b);
}

static int open_parts(const Part *p, int n, const char *path, aha_error *e)
{
    WeightFile *w;
    for (int i = 0; i < n; i++) write_part(&p[i]);
    *e = (aha_error){0};
    int rc = weights_open(&w, in_dir(path), e);
    if (rc == 0) {
        assert_true(weights_count(w) == n && gguf_kv_find(w, "k"));
        for (int i = 0; i < n; i++) assert_int_equal(weights_find(w, p[i].tensor)->shard, i);
    }
    weights_close(w);
    for (int i = 0; i < n; i++) unlink(in_dir(p[i].file));
    return rc;
}

static void split(void **state)
{
    static const char FIRST[] = "m-00001-of-00003.gguf", SECOND[] = "m-00002-of-00003.gguf", THIRD[] = "m-00003-of-00003.gguf";
    const Part        good[3] = {{0, 3, 3, "a", FIRST, 0}, {1, 3, 3, "b", SECOND, 0}, {2, 3, 3, "c", THIRD, 0}};
    aha_error         e;
    (void)state;
    ASSERT_OK(open_parts(good, 3, FIRST, &e), e);
    for (int i = 0; i < 9; i++) {
        Part p[3];
        memcpy(p, good, sizeof p);
        if (i == 0) p[1].no = 2;
        if (i == 1) p[2].count = 4;
        if (i == 2) p[0].tensors = 4;
        if (i == 3) p[2].tensor = "a";
        if (i == 4) p[0].no = 1;
        if (i == 5) p[0].no = 3;
        if (i == 6) p[0].count = 0;
        if (i == 7) p[0].type = GGUF_F32;
        if (i == 8) p[0].count = 5000;
        assert_int_equal(open_parts(p, 3, FIRST, &e), AHA_ERR_FORMAT);
        assert_true(strstr(e.text, "split.") || strstr(e.text, "another file") || strstr(e.text, "expected the first"));
    }
    assert_int_equal(open_parts(good, 3, SECOND, &e), AHA_ERR_FORMAT);
    assert_int_equal(open_parts(good, 2, FIRST, &e), AHA_ERR_IO); /* the third is absent */
    Part odd = good[0];
    odd.file = "other.gguf";
    assert_int_equal(open_parts(&odd, 1, "other.gguf", &e), AHA_ERR_FORMAT);
    Part p[3]; /* the second is no GGUF file, or one that never ends */
    memcpy(p, good, sizeof p);
    write_part(&p[0]);
    ASSERT_OK(file_write_atomic(in_dir(SECOND), "{}", 2, &e), e);
    WeightFile *w;
    assert_int_equal(weights_open(&w, in_dir(FIRST), &e), AHA_ERR_FORMAT);
    unlink(in_dir(SECOND));
    assert_int_equal(symlink("/dev/zero", in_dir(SECOND)), 0);
    assert_int_equal(weights_open(&w, in_dir(FIRST), &e), AHA_ERR_FORMAT);
    unlink(in_dir(SECOND));
    assert_int_equal(symlink(SECOND, in_dir(SECOND)), 0); /* to itself */
    assert_int_equal(weights_open(&w, in_dir(FIRST), &e), AHA_ERR_IO);
    unlink(in_dir(SECOND));
    assert_int_equal(mkfifo(in_dir(SECOND), 0600), 0); /* nobody ever writes */
    assert_int_equal(weights_open(&w, in_dir(FIRST), &e), AHA_ERR_FORMAT);
    unlink(in_dir(SECOND));
    assert_int_equal(symlink(FIRST, in_dir(SECOND)), 0); /* to the first */
    assert_int_equal(weights_open(&w, in_dir(FIRST), &e), AHA_ERR_FORMAT);
    unlink(in_dir(SECOND));
    unlink(in_dir(FIRST));
}

/* The nth allocation, opening, mapping fails, for every n: an error, nothing leaks (the sanitizer's build says so). */
static void each_call_fails(void **state)
{
    static const char PATH[] = "tests/gguf/qwen2-00001-of-00003.gguf";
    unsigned          kinds = OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_READ | OS_FAULT_MAP;
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        WeightFile *w = NULL;
        aha_error   e = {0};
        Config      c;
        os_fault_arm(kinds, nth);
        int rc = weights_open(&w, PATH, &e);
        if (rc == 0) rc = config_from_gguf(&c, w, PATH, &e);
        uint64_t seen = os_fault_seen();
        os_fault_arm(0, 0);
        weights_close(w);
        if (seen < nth) break;
        assert_true(rc != 0 && e.text[0]);
    }
}

static int setup(void **state)
{
    (void)state;
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-gguf-XXXXXX");
    return mkdtemp(g_dir) ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    return dir_remove_all(g_dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_sound), cmocka_unit_test(cut_anywhere), cmocka_unit_test(changed_anywhere),
                                       cmocka_unit_test(counts),      cmocka_unit_test(metadata),     cmocka_unit_test(infos),
                                       cmocka_unit_test(split),       cmocka_unit_test(each_call_fails)};
    alarm(120); /* nothing here may block */
    return cmocka_run_group_tests(tests, setup, teardown);
}
