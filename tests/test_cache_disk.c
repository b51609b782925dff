/* Pages in a file: found again after a restart with the same bits; whatever differs or is damaged is refused; bounded, whole or
 * not there, its owner's alone. */
#include "cachelib.h"

#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

static const Kernels *g_kernels;
static char           g_dir[64], g_path[128];

static int setup(void **state)
{
    aha_error e = {0};
    (void)state;
    g_kernels = cpu_kernels(NULL, &e);
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-test-cache-%d", (int)getpid());
    snprintf(g_path, sizeof g_path, "%s/pages.safetensors", g_dir);
    ASSERT_OK(dir_make(g_dir, &e), e);
    return g_kernels ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    return dir_remove_all(g_dir, NULL);
}

static const KvStamp STAMP = {.model = 7, .arch = "test", .isa = "any", .kv_type = "some"};

static int save(Engine *g, int64_t bytes_max)
{
    aha_error e = {0};
    int       n;
    ASSERT_OK(kvdisk_save(g->kv, g_path, &STAMP, bytes_max, &n, &e), e);
    return n;
}
static int load(Engine *g)
{
    aha_error e = {0};
    int       n;
    ASSERT_OK(kvdisk_load(g->kv, g_path, &STAMP, g->m->cfg.vocab, &n, &e), e);
    return n;
}
static void refused(Engine *g, const KvStamp *stamp, int code, const char *why)
{
    aha_error e = {0};
    int       n = -1, findable = kvcache_count(g->kv).findable;
    assert_int_equal(kvdisk_load(g->kv, g_path, stamp, g->m->cfg.vocab, &n, &e), code);
    assert_int_equal(n, 0);
    if (!strstr(e.text, why)) fail_msg("\"%s\" does not say \"%s\"", e.text, why);
    assert_int_equal(kvcache_count(g->kv).findable, findable);
    assert_all_free(g);
}

static Seq *ask(Engine *g, uint64_t seed, int n_prompt, int max_new)
{
    int32_t    prompt[400];
    SeqRequest r = {.prompt = prompt, .n_prompt = n_prompt, .max_new = max_new, .sample = {1, 1, 0, 0, seed, 0}, .want_logp = true};
    random_tokens(prompt, n_prompt, g->m->cfg.vocab, seed);
    return submit(g, &r);
}
static Seq *asked(Engine *g, uint64_t seed, int n_prompt, int max_new)
{
    Seq *s = ask(g, seed, n_prompt, max_new);
    run_guarded(g);
    return s;
}
static void same(const Seq *a, const Seq *b)
{
    int            n, m;
    const int32_t *t = seq_tokens(a, &n), *u = seq_tokens(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(t, u, (size_t)n * sizeof *t);
    assert_memory_equal(seq_logp(a), seq_logp(b), (size_t)n * sizeof(float));
}
static int64_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? -1 : (int64_t)st.st_size;
}

/* ---- a restart ---- */
static void test_restart(void **state)
{
    (void)state;
    for (int t = 0; t < N_KV; t++)
        for (int latent = 0; latent < 2; latent++) {
            Model      *m = wide_model(latent, KV_ALL[t].type);
            Engine     *g = engine_open(m, g_kernels, NULL, (EngineOptions){.draft = t == 0}), *fresh;
            Seq        *a = asked(g, 1, 200, 50), *b = asked(g, 2, 65, 30), *c;
            struct stat st;
            int         n = save(g, 0);
            assert_int_equal(n, 249 / KV_PAGE + 94 / KV_PAGE);
            assert_int_equal(stat(g_path, &st), 0);
            assert_int_equal(st.st_mode & 0777, 0600);
            fresh = engine_open(m, g_kernels, NULL, (EngineOptions){.draft = t == 0});
            assert_int_equal(load(fresh), n);
            c = asked(fresh, 1, 200, 50);
            same(a, c);
            assert_int_equal(seq_prompt_cached(c), 192);
            assert_int_equal(engine_stats(fresh).prompt_tokens, 8);
            seq_free(c);
            c = asked(fresh, 2, 65, 30);
            same(b, c);
            assert_int_equal(seq_prompt_cached(c), 64);
            assert_int_equal(load(fresh), n); /* again: they are there already */
            assert_int_equal(kvcache_count(fresh->kv).findable, n);
            assert_int_equal(save(fresh, 0), n);
            seq_free(a);
            seq_free(b);
            seq_free(c);
            assert_all_free(fresh);
            engine_free(g);
            engine_free(fresh);
            model_free(m);
        }
}

/* Saved while sequences run; loaded while others do. */
static void test_in_the_middle(void **state)
{
    Model  *m = wide_model(true, DT_F32);
    Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){.chunk = 64}), *other = engine_open(m, g_kernels, NULL, (EngineOptions){.chunk = 64});
    Seq    *a = ask(g, 1, 300, 20), *b = ask(other, 1, 300, 20), *c = ask(other, 2, 100, 90), *d;
    (void)state;
    for (int i = 0; i < 3; i++) step_guarded(g);
    assert_int_equal(save(g, 0), 6);
    step_guarded(other);
    assert_int_equal(load(other), 6);
    run_guarded(other);
    run_guarded(g);
    same(a, b);
    d = asked(g, 2, 100, 90);
    same(c, d);
    seq_free(a);
    seq_free(b);
    seq_free(c);
    seq_free(d);
    assert_all_free(g);
    assert_all_free(other);
    engine_free(g);
    engine_free(other);
    model_free(m);
}

/* A snapshot is written while the engine goes on: by another thread, with all that the first one does meanwhile. */
typedef struct Writing {
    KvSnapshot *s;
    int         rc, n;
    aha_error   e;
} Writing;
static void write_it(void *writing)
{
    Writing *w = writing;
    w->rc = kvdisk_write(w->s, g_path, &STAMP, &w->n, &w->e);
}
static void test_snapshot(void **state)
{
    Model      *m = wide_model(true, DT_F32);
    Engine     *g = engine_open(m, g_kernels, NULL, (EngineOptions){.chunk = 64, .pages = 24}), *other = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    Writing     w = {0};
    KvSnapshot *second;
    Thread     *t;
    Seq        *a = asked(g, 1, 300, 20), *b, *c;
    (void)state;
    file_remove(g_path, NULL);
    for (int behind = 0; behind < 2; behind++) { /* what is asked meanwhile may need every page: then, and only then, nothing is written */
        ASSERT_OK(kvdisk_snapshot(&w.s, g->kv, 0, &w.e), w.e);
        assert_int_equal(kvdisk_snapshot(&second, g->kv, 0, &w.e), AHA_ERR_STATE);
        if (behind == 0) {
            b = asked(g, 2, 300, 20); /* 14 pages are empty */
            ASSERT_OK(thread_start(&t, write_it, &w, &w.e), w.e);
            c = asked(g, 3, 20, 40);
            thread_join(t);
            ASSERT_OK(w.rc, w.e);
            assert_int_equal(w.n, 9);
            assert_int_equal(load(other), 9);
            seq_free(c);
            c = asked(other, 1, 300, 20);
            same(a, c);
            assert_int_equal(seq_prompt_cached(c), 288);
        } else {
            b = asked(g, 4, 390, 10);
            c = asked(g, 5, 390, 10);
            write_it(&w);
            assert_int_equal(w.rc, AHA_ERR_STATE);
            assert_int_equal(load(other), 9); /* the one before */
        }
        seq_free(b);
        seq_free(c);
        kvdisk_snapshot_free(w.s);
    }
    assert_true(save(g, 0) > 0);
    seq_free(a);
    engine_free(g);
    engine_free(other);
    model_free(m);
}

/* ---- bounds ---- */
/* The last used first; a page never without those before it. */
static void test_bounds(void **state)
{
    Model  *m = wide_model(false, DT_F32);
    Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){0}), *few;
    size_t  page = m->kv_shape.page_bytes;
    int     all;
    (void)state;
    seq_free(asked(g, 1, 200, 1)); /* 6 pages */
    seq_free(asked(g, 2, 200, 1));
    seq_free(asked(g, 3, 200, 1));
    seq_free(asked(g, 1, 200, 1)); /* used again */
    all = save(g, 0);
    assert_int_equal(all, 18);
    for (int n = 0; n <= 20; n++) {
        int64_t bytes = (int64_t)n * (int64_t)page + 8192;
        file_remove(g_path, NULL);
        all = save(g, bytes);
        assert_true(all <= 18 && all >= (n < 18 ? n - 1 : 17));
        assert_true(size_of(g_path) <= bytes);
        if (all == 0) continue;
        few = engine_open(m, g_kernels, NULL, (EngineOptions){0});
        assert_int_equal(load(few), all);
        for (int s = 0; s < 3; s++) {
            static const uint64_t USED[] = {1, 3, 2};
            Seq *q = asked(few, USED[s], 200, 1);
            int  left = all - 6 * s;
            assert_int_equal(seq_prompt_cached(q), KV_PAGE * (left < 0 ? 0 : left > 6 ? 6 : left));
            seq_free(q);
        }
        engine_free(few);
    }
    assert_int_equal(save(g, 1), 0);
    all = save(g, 0);
    few = engine_open(m, g_kernels, NULL, (EngineOptions){.pages = 16}); /* a smaller cache takes the first of the file */
    assert_int_equal(load(few), 16);
    assert_int_equal(kvcache_count(few->kv).empty, 0);
    Seq *q = asked(few, 3, 200, 1);
    assert_int_equal(seq_prompt_cached(q), 192);
    seq_free(q);
    engine_free(few);
    few = engine_open(m, g_kernels, NULL, (EngineOptions){.pages = 16}); /* nothing is given up for it */
    seq_free(asked(few, 4, 400, 100));
    assert_int_equal(load(few), 1);
    q = asked(few, 4, 400, 1);
    assert_int_equal(seq_prompt_cached(q), 384);
    seq_free(q);
    engine_free(few);
    engine_free(g);
    model_free(m);
}

static void test_nothing_to_save(void **state)
{
    Model  *m = wide_model(false, DT_F32);
    Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    (void)state;
    file_remove(g_path, NULL);
    assert_int_equal(save(g, 0), 0);
    assert_int_equal(size_of(g_path), -1);
    refused(g, &STAMP, AHA_ERR_IO, "pages.safetensors");
    engine_free(g);
    model_free(m);
}

/* ---- what is refused ---- */
static void test_other_engines(void **state)
{
    Model  *m = wide_model(false, DT_F16), *same_size = wide_model(false, DT_BF16), *latent = wide_model(true, DT_F16);
    Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){0}), *h;
    KvStamp s = STAMP;
    (void)state;
    seq_free(asked(g, 1, 100, 1));
    assert_int_equal(save(g, 0), 3);
    h = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    s = STAMP, s.model = 8, refused(h, &s, AHA_ERR_UNSUPPORTED, "saved with model 0000000000000007, this engine has 0000000000000008");
    s = STAMP, s.arch = "llama", refused(h, &s, AHA_ERR_UNSUPPORTED, "arch");
    s = STAMP, s.isa = "ref", refused(h, &s, AHA_ERR_UNSUPPORTED, "isa");
    s = STAMP, s.kv_type = "bf16", refused(h, &s, AHA_ERR_UNSUPPORTED, "kv_type");
    s = STAMP, s.draft = true, refused(h, &s, AHA_ERR_UNSUPPORTED, "draft");
    engine_free(h);
    h = engine_open(latent, g_kernels, NULL, (EngineOptions){0});
    refused(h, &STAMP, AHA_ERR_UNSUPPORTED, "form");
    engine_free(h);
    h = engine_open(same_size, g_kernels, NULL, (EngineOptions){0});
    assert_int_equal(load(h), 3); /* only the stamp tells them apart: it does */
    engine_free(h);
    engine_free(g);
    model_free(m);
    model_free(same_size);
    model_free(latent);
}

/* without waiting for the disk, as a thousand times in a row want it */
static void put_file(const char *data, size_t n)
{
    FILE *f = fopen(g_path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Any byte changed, anywhere; any length; a later page wrong leaves nothing of the earlier ones. */
static void test_damage(void **state)
{
    Model    *m = wide_model(false, DT_F16);
    Engine   *g = engine_open(m, g_kernels, NULL, (EngineOptions){0}), *h = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    aha_error e = {0};
    char     *data;
    size_t    n, header;
    uint64_t  len = 0;
    int       rc, tried = 0;
    (void)state;
    seq_free(asked(g, 1, 70, 1));
    seq_free(asked(g, 2, 70, 1));
    assert_int_equal(save(g, 0), 4);
    ASSERT_OK(file_read_all(g_path, (size_t)1 << 30, &data, &n, &e), e);
    memcpy(&len, data, 8);
    header = 8 + (size_t)len + 4 * (8 + 4 + 4 * KV_PAGE); /* and the lists */
    for (size_t i = 0; i < n; i += i < header ? 1 : 101, tried++) {
        char was = data[i];
        int  k = -1;
        data[i] = (char)(was ^ (tried % 2 ? 0x01 : 0x40));
        put_file(data, n);
        rc = kvdisk_load(h->kv, g_path, &STAMP, m->cfg.vocab, &k, &e);
        if (rc == 0) fail_msg("byte %zu of %zu changed: loaded", i, n);
        assert_int_equal(k, 0);
        assert_int_equal(kvcache_count(h->kv).findable, 0);
        assert_all_free(h);
        data[i] = was;
    }
    for (size_t cut = 0; cut < n; cut += cut < header ? 13 : 997) {
        int k;
        put_file(data, cut);
        assert_true(kvdisk_load(h->kv, g_path, &STAMP, m->cfg.vocab, &k, &e) < 0);
        assert_int_equal(kvcache_count(h->kv).findable, 0);
    }
    put_file(data, n);
    assert_int_equal(load(h), 4);
    print_message("%d bytes changed, one by one\n", tried);
    mem_free(data);
    engine_free(g);
    engine_free(h);
    model_free(m);
}

/* Well-formed files whose numbers are wrong. */
static void rewrite(int what)
{
    aha_error   e = {0};
    WeightFile *f;
    TensorInfo  t[4];
    static const char *const NAME[] = {"token", "parent", "page", "check"}, *const KEY[] = {"format", "version", "aha", "model", "arch", "isa", "kv_type", "activations", "form", "draft", "layers", "columns", "heads"};
    const char *meta[2 * ARRAY_LEN(KEY) + 1] = {0};
    void       *copy[4];
    ASSERT_OK(weights_open(&f, g_path, &e), e);
    for (size_t i = 0; i < ARRAY_LEN(KEY); i++) {
        meta[2 * i] = KEY[i];
        meta[2 * i + 1] = weights_metadata(f, KEY[i]);
    }
    if (what == 6) meta[3] = "3";
    if (what == 7) meta[0] = "formas";
    for (int i = 0; i < 4; i++) {
        t[i] = *weights_find(f, NAME[i]);
        t[i].data = copy[i] = memcpy(malloc(t[i].bytes), t[i].data, t[i].bytes);
    }
    if (what == 0) ((int32_t *)copy[1])[1] = 1;
    if (what == 1) ((int32_t *)copy[1])[2] = -2;
    if (what == 2) ((int32_t *)copy[1])[0] = INT32_MAX;
    if (what == 3) ((int32_t *)copy[0])[40] = -1;
    if (what == 4) ((int32_t *)copy[0])[127] = 1 << 20;
    if (what == 5) t[2].dim[0] *= 2, t[2].dim[1] /= 2;
    if (what == 8) ((int32_t *)copy[1])[1] = -1;
    if (what == 9) t[3].dim[0] /= 2, t[3].dim[1] *= 2;
    ASSERT_OK(safetensors_write(g_path, t, what == 10 ? 3 : 4, meta, &e), e);
    for (int i = 0; i < 4; i++) free(copy[i]);
    weights_close(f);
}
static void test_wrong_numbers(void **state)
{
    static const struct {
        int         code;
        const char *why;
    } WANT[] = {
        {AHA_ERR_FORMAT, "page 1 follows page 1"}, {AHA_ERR_FORMAT, "page 2 follows page -2"}, {AHA_ERR_FORMAT, "page 0 follows page 2147483647"},
        {AHA_ERR_FORMAT, "page 1 has token -1"}, {AHA_ERR_FORMAT, "page 3 has token 1048576"}, {AHA_ERR_FORMAT, "tensor token: expected I32 [8, 32]"},
        {AHA_ERR_UNSUPPORTED, "version 3, this engine has 5"}, {AHA_ERR_FORMAT, "lacks format"}, {AHA_ERR_FORMAT, "page 1 of 4 is damaged"},
        {AHA_ERR_FORMAT, "tensor check: expected U8 [4, 8]"}, {AHA_ERR_FORMAT, "tensor check"},
    };
    Model  *m = wide_model(false, DT_F16);
    Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){0}), *h = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    (void)state;
    seq_free(asked(g, 1, 70, 1));
    seq_free(asked(g, 2, 70, 1));
    for (size_t i = 0; i < ARRAY_LEN(WANT); i++) {
        assert_int_equal(save(g, 0), 4);
        rewrite((int)i);
        refused(h, &STAMP, WANT[i].code, WANT[i].why);
    }
    engine_free(g);
    engine_free(h);
    model_free(m);
}

/* ---- failures on the way ---- */
static void test_faults(void **state)
{
    enum { ALL = OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_READ | OS_FAULT_WRITE | OS_FAULT_SYNC | OS_FAULT_MAP | OS_FAULT_RENAME };
    Model    *m = wide_model(false, DT_F16);
    Engine   *g = engine_open(m, g_kernels, NULL, (EngineOptions){0}), *h = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    aha_error e = {0};
    int       n, rc = -1, faults = 0;
    (void)state;
    seq_free(asked(g, 1, 70, 1));
    assert_int_equal(save(g, 0), 2);
    seq_free(asked(g, 2, 70, 1));
    for (uint64_t i = 1; rc; i++, faults++) {
        os_fault_arm(ALL, i);
        rc = kvdisk_save(g->kv, g_path, &STAMP, 0, &n, &e);
        os_fault_arm(0, 0);
        assert_true(i < 200);
        if (rc == 0) break;
        assert_true(n == 0 && strlen(e.text) > 5);
        n = load(h); /* the old one, or the new one whole */
        assert_true(n == 2 || n == 4);
        kvcache_forget(h->kv);
    }
    assert_int_equal(n, 4);
    rc = -1;
    for (uint64_t i = 1; rc; i++, faults++) {
        os_fault_arm(ALL, i);
        rc = kvdisk_load(h->kv, g_path, &STAMP, m->cfg.vocab, &n, &e);
        os_fault_arm(0, 0);
        assert_true(i < 200);
        if (rc) assert_int_equal(kvcache_count(h->kv).findable, 0);
    }
    assert_int_equal(n, 4);
    print_message("%d failures on the way\n", faults);
    engine_free(g);
    engine_free(h);
    model_free(m);
}

/* ---- through the API ---- */
static aha_engine *tiny(const char *model, const char *kv_type, const char *cpu, bool draft)
{
    aha_options o = AHA_OPTIONS_INIT;
    aha_error   e = {0};
    aha_engine *g;
    o.threads = 1;
    o.seqs = 4;
    o.kv_type = kv_type;
    o.cpu = cpu;
    o.draft = draft;
    ASSERT_OK(aha_engine_open(&g, model, &o, &e), e);
    return g;
}
static void refused_by(const char *model, const char *kv_type, const char *cpu, bool draft, const char *why)
{
    aha_error   e = {0};
    aha_engine *g = tiny(model, kv_type, cpu, draft);
    assert_int_equal(aha_engine_cache_load(g, g_path, &e), AHA_ERR_UNSUPPORTED);
    if (!strstr(e.text, why)) fail_msg("\"%s\" does not say \"%s\"", e.text, why);
    aha_engine_free(g);
}
static void copy_file(const char *from, const char *to_dir, const char *name)
{
    char      a[256], b[256], *data;
    size_t    n;
    aha_error e = {0};
    snprintf(a, sizeof a, "%s/%s", from, name);
    snprintf(b, sizeof b, "%s/%s", to_dir, name);
    ASSERT_OK(file_read_all(a, (size_t)1 << 30, &data, &n, &e), e);
    ASSERT_OK(file_write_atomic(b, data, n, &e), e);
    mem_free(data);
}
static int32_t *run_prompt(aha_engine *g, aha_seq_status *st, aha_seq **out)
{
    static int32_t     prompt[100];
    aha_seq_options    o = AHA_SEQ_OPTIONS_INIT;
    aha_sample_options sample = AHA_SAMPLE_OPTIONS_INIT;
    aha_error          e = {0};
    random_tokens(prompt, 100, 1360, 3);
    o.prompt = prompt;
    o.n_prompt = 100;
    o.max_new = 60;
    o.stop = prompt; /* none */
    o.sample = &sample;
    o.want_logp = true;
    ASSERT_OK(aha_seq_submit(g, &o, out, &e), e);
    ASSERT_OK(aha_engine_run(g, &e), e);
    *st = (aha_seq_status){.size = sizeof *st};
    aha_seq_poll(*out, st);
    return prompt;
}

static void test_api(void **state)
{
    char             dir[128], weights[160];
    aha_engine      *g, *h;
    aha_seq_status   a, b;
    aha_seq         *s, *u;
    aha_engine_stats stats = {.size = sizeof stats};
    struct utimbuf   past = {1000000000, 1000000000};
    aha_error        e = {0};
    (void)state;
    snprintf(dir, sizeof dir, "%s/model", g_dir);
    ASSERT_OK(dir_make(dir, &e), e);
    for (int i = 0; i < 3; i++) copy_file("models/aha-tiny", dir, (const char *[]){"config.json", "model.safetensors", "tokenizer.json"}[i]);
    g = tiny(dir, "f16", NULL, false);
    run_prompt(g, &a, &s);
    assert_int_equal(aha_engine_cache_save(g, g_path, -1, &e), AHA_ERR_ARG);
    assert_int_equal(aha_engine_cache_save(g, g_path, 0, &e), 4);
    h = tiny(dir, "f16", NULL, false);
    assert_int_equal(aha_engine_cache_load(h, g_path, &e), 4);
    aha_engine_get_stats(h, &stats);
    assert_int_equal(stats.pages_findable, 4);
    run_prompt(h, &b, &u);
    assert_int_equal(b.prompt_cached, 96);
    assert_int_equal(a.n_tokens, b.n_tokens);
    assert_memory_equal(a.tokens, b.tokens, (size_t)a.n_tokens * sizeof *a.tokens);
    assert_memory_equal(a.logp, b.logp, (size_t)a.n_tokens * sizeof *a.logp);
    aha_seq_free(s);
    aha_seq_free(u);
    aha_engine_free(g);
    aha_engine_free(h);
    refused_by(dir, "bf16", NULL, false, "kv_type");
    refused_by(dir, "f16", "ref", false, "isa");
    refused_by(dir, "f16", NULL, true, "draft");
    refused_by("tests/golden/deepseek_v3-mtp", "f16", NULL, false, "model");
    snprintf(weights, sizeof weights, "%s/model.safetensors", dir);
    assert_int_equal(utime(weights, &past), 0); /* perhaps other weights */
    refused_by(dir, "f16", NULL, false, "model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart), cmocka_unit_test(test_in_the_middle), cmocka_unit_test(test_snapshot), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_nothing_to_save), cmocka_unit_test(test_other_engines), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_wrong_numbers), cmocka_unit_test(test_faults), cmocka_unit_test(test_api),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
