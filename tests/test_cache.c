/* The key cache: what a second turn pays for, eight-bit keys, the bound on memory, counts. */
#include "cachelib.h"

#include <math.h>

static const Kernels *g_kernels;
static int setup(void **state)
{
    aha_error e = {0};
    (void)state;
    g_kernels = cpu_kernels(NULL, &e);
    return g_kernels ? 0 : -1;
}

/* ---- a conversation that is resent ---- */
static aha_engine *tiny(const char *kv_type)
{
    aha_options o = AHA_OPTIONS_INIT;
    aha_error   e = {0};
    aha_engine *g;
    o.threads = 1;
    o.ctx = 1024;
    o.seqs = 4;
    o.kv_type = kv_type;
    ASSERT_OK(aha_engine_open(&g, "models/aha-tiny", &o, &e), e);
    return g;
}

typedef struct Turn {
    int32_t *ids; /* prompt and answer */
    int      n_prompt, n, cached;
    char     answer[4096];
} Turn;

static void split_answer(aha_engine *g, const int32_t *t, int n, bool think_open, char *answer, size_t cap)
{
    aha_reply  *r;
    aha_error   e = {0};
    aha_part    part;
    const char *text;
    size_t      bytes;
    ASSERT_OK(aha_reply_new(&r, g, think_open, &e), e);
    answer[0] = 0;
    for (int i = 0; i <= n; i++) {
        int rc = i < n ? aha_reply_push(r, t[i], &part, &text, &bytes, &e) : aha_reply_end(r, &part, &text, &bytes, &e);
        ASSERT_OK(rc, e);
        if (part == AHA_PART_ANSWER) snprintf(answer + strlen(answer), cap - strlen(answer), "%s", text);
    }
    aha_reply_free(r);
}

static Turn say(aha_engine *g, const aha_message *m, int n, int max_new)
{
    aha_seq_options    o = AHA_SEQ_OPTIONS_INIT;
    aha_sample_options greedy = AHA_SAMPLE_OPTIONS_INIT;
    aha_seq_status     st = {.size = sizeof st};
    aha_error          e = {0};
    aha_seq           *s;
    int32_t           *ids;
    Turn               t = {0};
    bool               open;
    ASSERT_OK(aha_chat(g, m, n, &ids, &t.n_prompt, &open, &e), e);
    greedy.temperature = 0;
    o.prompt = ids;
    o.n_prompt = t.n_prompt;
    o.max_new = max_new;
    o.sample = &greedy;
    ASSERT_OK(aha_seq_submit(g, &o, &s, &e), e);
    ASSERT_OK(aha_engine_run(g, &e), e);
    aha_seq_poll(s, &st);
    t.n = t.n_prompt + st.n_tokens;
    t.ids = malloc((size_t)t.n * sizeof *t.ids);
    memcpy(t.ids, ids, (size_t)t.n_prompt * sizeof *ids);
    memcpy(t.ids + t.n_prompt, st.tokens, (size_t)st.n_tokens * sizeof *ids);
    t.cached = st.prompt_cached;
    split_answer(g, st.tokens, st.n_tokens, open, t.answer, sizeof t.answer);
    aha_seq_free(s);
    aha_free(ids);
    return t;
}

static int common(const Turn *a, const Turn *b)
{
    int n = 0;
    while (n < a->n && n < b->n_prompt - 1 && a->ids[n] == b->ids[n]) n++;
    return n;
}

/* Every turn sends the whole conversation, without what was thought: only what differs from the turn before is computed. */
static void test_second_turn(void **state)
{
    static const char *const QUESTION[] = {"Using the numbers 3, 5, 7 and 9, make 24. Show how you get there, and check it once more.",
                                           "And what is 12 times 7, plus the 24 from before?", "Thank you. Now make 10 from 2, 3 and 4."};
    enum { TURNS = 3 };
    aha_engine *g = tiny(NULL);
    aha_message m[2 * TURNS] = {{0}};
    Turn        t[TURNS];
    int         lost = 0;
    (void)state;
    for (int i = 0; i < TURNS; i++) {
        aha_engine_stats before = {.size = sizeof before}, after = before;
        m[2 * i] = (aha_message){.role = "user", .text = QUESTION[i], .n_bytes = strlen(QUESTION[i])};
        aha_engine_get_stats(g, &before);
        t[i] = say(g, m, 2 * i + 1, 150);
        aha_engine_get_stats(g, &after);
        m[2 * i + 1] = (aha_message){.role = "assistant", .text = t[i].answer, .n_bytes = strlen(t[i].answer)};
        assert_int_equal(after.prompt_tokens - before.prompt_tokens, t[i].n_prompt - t[i].cached);
        assert_int_equal(after.cached_tokens - before.cached_tokens, t[i].cached);
        if (i == 0) continue;
        assert_true(common(&t[i - 1], &t[i]) >= t[i - 1].n_prompt - 2); /* all but the opened thinking */
        assert_int_equal(t[i].cached, common(&t[i - 1], &t[i]) / KV_PAGE * KV_PAGE);
        lost += common(&t[i - 1], &t[i]) - t[i].cached;
    }
    print_message("turns of %d, %d and %d prompt tokens: %d, %d, %d of them found; %d more were the same, in pages that were not full\n",
                  t[0].n_prompt, t[1].n_prompt, t[2].n_prompt, t[0].cached, t[1].cached, t[2].cached, lost);
    assert_true(t[2].cached > t[1].cached && t[1].cached > 0);
    for (int i = 0; i < TURNS; i++) free(t[i].ids);
    aha_engine_free(g);
}

/* ---- pages of what was generated ---- */
static Seq *go_on(Engine *g, const int32_t *prompt, int n, int max_new, const int32_t *stop)
{
    SeqRequest r = {.prompt = prompt, .n_prompt = n, .max_new = max_new, .stop = stop, .n_stop = stop != NULL, .want_logp = true,
                    .sample = {1, 1, 0, 0, 9, 0}};
    Seq       *s = submit(g, &r);
    run_guarded(g);
    return s;
}

/* Prompt and answer of every length: what follows finds all full pages of both.  The last token of an answer that is as long as
 * it may be was never computed, which one that stops was: there the page that it ends is full. */
static void test_generated_pages(void **state)
{
    enum { LONGEST = 100 };
    Model *m = wide_model(true, DT_F32);
    int    lost = 0;
    (void)state;
    for (int draft = 0; draft < 2; draft++)
        for (int n = 40; n < LONGEST; n++) {
            Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){.draft = draft});
            int32_t all[LONGEST + 1];
            int     p = 1 + n % 37, got;
            Seq    *s, *next;
            random_tokens(all, p, m->cfg.vocab, (uint64_t)n);
            s = go_on(g, all, p, n - p, NULL);
            memcpy(all + p, seq_tokens(s, &got), (size_t)(n - p) * sizeof *all);
            assert_int_equal(got, n - p);
            all[n] = 3;
            next = go_on(g, all, n + 1, 1, NULL);
            assert_int_equal(seq_prompt_cached(next), (n - 1) / KV_PAGE * KV_PAGE);
            lost += n - seq_prompt_cached(next);
            seq_free(s);
            seq_free(next);
            engine_free(g);
        }
    print_message("going on after an answer: %.1f tokens on average are computed again\n", lost / 2.0 / (LONGEST - 40));
    assert_true(lost < 2 * (LONGEST - 40) * KV_PAGE);
    model_free(m);
}

static void test_stopped_at_a_pages_end(void **state)
{
    Model  *m = wide_model(false, DT_F32);
    Engine *g = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    int32_t all[KV_PAGE * 2 + 2], stop;
    int     n, p = 40, seen = 0;
    Seq    *s, *cut, *next;
    (void)state;
    random_tokens(all, p, m->cfg.vocab, 4);
    s = go_on(g, all, p, 30, NULL);
    memcpy(all + p, seq_tokens(s, &n), 25 * sizeof *all);
    stop = all[64];
    for (int i = p; i < 64; i++) seen += all[i] == stop;
    assert_int_equal(seen, 0);
    engine_weights_changed(g); /* forgets */
    cut = go_on(g, all, p, 30, &stop);
    assert_int_equal(seq_finish(cut), SEQ_FINISH_STOP);
    seq_tokens(cut, &n);
    assert_int_equal(n, 24);
    next = go_on(g, all, 66 - 1, 1, NULL);
    assert_int_equal(seq_prompt_cached(next), 64);
    seq_free(s);
    seq_free(cut);
    seq_free(next);
    engine_free(g);
    model_free(m);
}

/* ---- keys and values of eight bits ---- */
static void test_q8_rounds(void **state)
{
    static real x[32 * 64], y[32 * 64];
    Rng         r = {1, 2, 3};
    RoundArgs   a = {y, 32, 32, DT_Q8_0};
    (void)state;
    for (int b = 0; b < 64; b++)
        for (int i = 0; i < 32; i++) x[32 * b + i] = rng_normal(&r) * ldexpf(1, b / 3 - 7); /* below 0.0078 d has fewer digits */
    memcpy(y, x, sizeof y);
    g_kernels->round(&a, 0, 64, NULL);
    for (int b = 0; b < 64; b++) {
        float max = 0;
        for (int i = 0; i < 32; i++) max = fmaxf(max, fabsf(x[32 * b + i]));
        for (int i = 0; i < 32; i++)
            if (!(fabsf(x[32 * b + i] - y[32 * b + i]) <= max / 127 * 0.51f + max * 0.0005f))
                fail_msg("block %d: %g became %g, the largest is %g", b, (double)x[32 * b + i], (double)y[32 * b + i], (double)max);
    }
    memcpy(x, y, sizeof x);
    g_kernels->round(&a, 0, 64, NULL); /* what was rounded stays, but for d's last bit */
    for (int i = 0; i < 32 * 64; i++) assert_true(fabsf(x[i] - y[i]) <= fabsf(x[i]) * 0.002f);
    y[0] = NAN, y[32 + 5] = INFINITY, y[64 + 31] = 1e30f;
    for (int i = 0; i < 32; i++) y[96 + i] = i % 2 ? 1e-12f : -0.0f;
    g_kernels->round(&a, 0, 64, NULL);
    for (int i = 0; i < 96; i++) assert_true(isnan(y[i]));
    for (int i = 96; i < 128; i++) assert_true(y[i] == 0);
}

/* Scored through the cache, in chunks, as a packed batch is that rounds without one. */
static void test_packed_is_cached(void **state)
{
    enum { N = 150 };
    (void)state;
    for (int t = 0; t < N_KV; t++)
        for (int latent = 0; latent < 2; latent++) {
            Model    *m = wide_model(latent, KV_ALL[t].type);
            Engine   *g = engine_open(m, g_kernels, NULL, (EngineOptions){.chunk = 37});
            int32_t   token[N + 1], pos[N], seq[N] = {0};
            Batch     b = {.n = N, .token = token, .pos = pos, .seq = seq};
            float     logp[N];
            aha_error e = {0};
            Ctx       c;
            Tensor    lp;
            random_tokens(token, N + 1, m->cfg.vocab, 5);
            for (int i = 0; i < N; i++) pos[i] = i;
            ASSERT_OK(ctx_init(&c, g_kernels, NULL, (size_t)64 << 20, (size_t)4 << 20, &e), e);
            c.kv_type = KV_ALL[t].type;
            lp = logprob(&c, model_final_norm(&c, m, model_hidden(&c, m, &b, NULL)), &m->head, token + 1);
            assert_false(ctx_failed(&c));
            ASSERT_OK(engine_score(g, token, N, logp, NULL, NULL, &e), e);
            for (int i = 0; i + 1 < N; i++)
                if (memcmp(&logp[i], &lp.data[2 * i], sizeof(float)))
                    fail_msg("%s, position %d: cached %.9g, packed %.9g", KV_ALL[t].name, i, (double)logp[i], (double)lp.data[2 * i]);
            ctx_free(&c);
            engine_free(g);
            model_free(m);
        }
}

static void test_q8_size(void **state)
{
    (void)state;
    for (int latent = 0; latent < 2; latent++) {
        Model *q = wide_model(latent, DT_Q8_0), *f = wide_model(latent, DT_F16);
        size_t row = (size_t)q->kv_shape.key_cols + (size_t)q->kv_shape.val_cols;
        assert_int_equal(q->kv_shape.page_bytes, (size_t)q->kv_shape.n_layer * KV_PAGE * row / 32 * 34);
        assert_int_equal(kvcache_bytes(q, 10) * 64, kvcache_bytes(f, 10) * 34);
        model_free(q);
        model_free(f);
    }
}

static void test_q8_refused(void **state)
{
    aha_options  o = AHA_OPTIONS_INIT;
    ModelOptions mo = {.kv_type = DT_Q8_0};
    aha_error    e = {0};
    aha_engine  *g;
    Model       *m;
    (void)state;
    o.kv_type = "q8_0";
    assert_int_equal(aha_engine_open(&g, "models/aha-tiny", &o, &e), AHA_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "this model's latent has 64 and its rope 16"));
    assert_int_equal(model_open(&m, "tests/golden/qwen3", &mo, &e), AHA_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "blocks of 32 columns"));
}

/* aha-tiny's latent of 64 and rope of 16 columns in 96 and 32, so that blocks of 32 fit: the same function.  Columns that are added
 * are 0, the norm's gain makes up for their number, the queries for the softmax's scale, and a pair of rope that turned with
 * frequency i of 8 is pair 2 i of 16. */
enum { C0 = 64, R0 = 16, C1 = 96, R1 = 32, N0 = 32 };
static int wide_column(int i) { return i < C0 ? i : C1 + (i - C0) / 2 * (R1 / R0 * 2) + (i - C0) % 2; } /* of a latent with its rope */
static void widen(const Weight *from, const Weight *to)
{
    const float *x = from->data;
    float       *y = (float *)(uintptr_t)to->data;
    bool         norm = strstr(from->name, "kv_a_layernorm"), latent = strstr(from->name, "kv_a_proj"), query = strstr(from->name, "q_b_proj");
    float        scale = norm ? sqrtf((float)C0 / C1) : query ? sqrtf((float)(N0 + R1) / (N0 + R0)) : 1;
    memset(y, 0, (size_t)to->rows * (size_t)to->cols * sizeof *y);
    for (int r = 0; r < from->rows; r++) {
        int h = r / (N0 + R0), i = r % (N0 + R0), row = r;
        if (latent) row = wide_column(r);
        if (query) row = h * (N0 + R1) + (i < N0 ? i : N0 + (i - N0) / 2 * (R1 / R0 * 2) + (i - N0) % 2);
        for (int c = 0; c < from->cols; c++) y[(size_t)row * (size_t)to->cols + (size_t)c] = scale * x[(size_t)r * (size_t)from->cols + (size_t)c];
    }
}
static Model *widened_tiny(Dtype kv_type)
{
    ModelOptions f32 = {.decoded = true}, o = {.kv_type = kv_type};
    aha_error    e = {0};
    Model       *tiny_model, *m;
    Config       c;
    ASSERT_OK(model_open(&tiny_model, "models/aha-tiny", &f32, &e), e);
    c = tiny_model->cfg;
    assert_true(c.kv_lora == C0 && c.rope_dim == R0 && c.nope == N0 && c.rope.interleaved);
    c.kv_lora = C1;
    c.rope_dim = R1;
    ASSERT_OK(model_init_random(&m, &c, &o, 1, &e), e);
    assert_int_equal(m->n_weight, tiny_model->n_weight);
    for (int i = 0; i < m->n_weight; i++) widen(tiny_model->weight[i], m->weight[i]);
    model_free(tiny_model);
    return m;
}

/* Logits of every position of some real answers, one after the other. */
typedef struct Judged {
    float *logits; /* [n, V] */
    int    n, V;
} Judged;
static void judged_row(void *user, int i, const real *logits)
{
    Judged *j = user;
    (void)i;
    memcpy(j->logits + (size_t)j->n++ * (size_t)j->V, logits, (size_t)j->V * sizeof(float));
}
static Judged judge(const Turn *t, int n, Model *m)
{
    Engine   *g = engine_open(m, g_kernels, NULL, (EngineOptions){0});
    Judged    j = {.V = m->cfg.vocab};
    aha_error e = {0};
    for (int i = 0; i < n; i++) j.n += t[i].n;
    j.logits = malloc((size_t)j.n * (size_t)j.V * sizeof(float));
    j.n = 0;
    for (int i = 0; i < n; i++) ASSERT_OK(engine_score(g, t[i].ids, t[i].n, NULL, judged_row, &j, &e), e);
    engine_free(g);
    model_free(m);
    return j;
}

/* sum p log(p/q), the mean over positions; how often the likeliest differs */
static double divergence(const Judged *p, const Judged *q, int *other)
{
    double all = 0;
    *other = 0;
    for (int r = 0; r < p->n; r++) {
        const float *a = p->logits + (size_t)r * (size_t)p->V, *b = q->logits + (size_t)r * (size_t)p->V;
        double       za = 0, zb = 0, kl = 0;
        int          ma = 0, mb = 0;
        for (int i = 0; i < p->V; i++) {
            za += exp((double)a[i]);
            zb += exp((double)b[i]);
            if (a[i] > a[ma]) ma = i;
            if (b[i] > b[mb]) mb = i;
        }
        for (int i = 0; i < p->V; i++) kl += exp((double)a[i]) / za * ((double)a[i] - (double)b[i] + log(zb) - log(za));
        all += kl;
        *other += ma != mb;
    }
    return all / p->n;
}

static void test_what_rounding_costs(void **state)
{
    static const char *const QUESTION[] = {"Using the numbers 3, 5, 7 and 9, make 24.", "What is 12 times 7, plus 24?", "Make 10 from 2, 3 and 4.",
                                           "Tom has 14 apples and gives away 5. How many are left?", "Solve 3 x + 4 = 25.", "Who are you?"};
    enum { ASKED = sizeof QUESTION / sizeof *QUESTION };
    static const double BOUND[] = {0, 0.01, 0.001, 0.01}; /* as KV_ALL */
    aha_engine *g = tiny(NULL);
    Turn        t[ASKED];
    Judged      exact, plain;
    Model      *m;
    aha_error   e = {0};
    int         other;
    (void)state;
    for (int i = 0; i < ASKED; i++) {
        aha_message ask = {.role = "user", .text = QUESTION[i], .n_bytes = strlen(QUESTION[i])};
        t[i] = say(g, &ask, 1, 200);
    }
    aha_engine_free(g);
    ASSERT_OK(model_open(&m, "models/aha-tiny", NULL, &e), e);
    plain = judge(t, ASKED, m);
    exact = judge(t, ASKED, widened_tiny(DT_F32));
    assert_true(divergence(&plain, &exact, &other) < 1e-6);
    free(plain.logits);
    for (int k = 1; k < N_KV; k++) {
        Judged rounded = judge(t, ASKED, widened_tiny(KV_ALL[k].type));
        double kl = divergence(&exact, &rounded, &other);
        print_message("%-5s keys: KL %.2g nats a token from f32's, another likeliest token at %d of %d\n", KV_ALL[k].name, kl, other, exact.n);
        assert_true(kl < BOUND[k]);
        free(rounded.logits);
    }
    free(exact.logits);
    for (int i = 0; i < ASKED; i++) free(t[i].ids);
}

/* ---- memory ---- */
/* What is asked for is never exceeded, and not wasted either: one page more would not fit. */
static void test_memory_bound(void **state)
{
    Model *m = wide_model(false, DT_F16);
    size_t page = m->kv_shape.page_bytes;
    (void)state;
    assert_int_equal(kvcache_fit(m, 0), 0);
    assert_int_equal(kvcache_fit(m, page), 0);
    for (uint64_t bytes = page + 8192; bytes < 4000 * page; bytes = bytes * 5 / 4 + 77) {
        int       n = kvcache_fit(m, bytes);
        aha_error e = {0};
        KvCache  *k;
        assert_true(n > 0);
        ASSERT_OK(kvcache_new(&k, m, n, &e), e);
        assert_true((kvcache_held(k) + 4095) / 4096 * 4096 <= bytes);
        assert_true(kvcache_memory(m, n + 1) + 4096 > bytes);
        kvcache_free(k);
    }
    model_free(m);
}

/* Through the API, with more asked for than fits: pages are as many as at the start, all are used, none is taken elsewhere. */
static void test_memory_of_an_engine(void **state)
{
    aha_options      o = AHA_OPTIONS_INIT;
    aha_engine_stats st = {.size = sizeof st};
    aha_seq_options  so = AHA_SEQ_OPTIONS_INIT;
    aha_error        e = {0};
    aha_engine      *g;
    aha_seq         *s[20];
    int32_t          prompt[200];
    int              pages, left;
    uint64_t         taken = 0;
    (void)state;
    o.cache_bytes = 1400000;
    o.threads = 1;
    o.ctx = 300;
    ASSERT_OK(aha_engine_open(&g, "models/aha-tiny", &o, &e), e);
    aha_engine_get_stats(g, &st);
    pages = st.pages;
    assert_int_equal(st.page_tokens, 32);
    assert_true(pages >= 9 && pages * st.page_bytes <= o.cache_bytes && st.pages_empty == pages);
    so.prompt = prompt;
    so.n_prompt = 200;
    so.max_new = 90;
    so.n_stop = 0;
    so.stop = prompt;
    for (int i = 0; i < 20; i++) {
        random_tokens(prompt, 200, 1360, (uint64_t)i);
        so.group = (uint64_t)i % 3;
        ASSERT_OK(aha_seq_submit(g, &so, &s[i], &e), e);
    }
    aha_engine_get_stats(g, &st);
    assert_int_equal(st.seqs_waiting, 20);
    assert_int_equal(st.groups, 3);
    do {
        os_fault_arm(OS_FAULT_ALLOC, 0); /* counts */
        left = aha_engine_step(g, &e);
        taken += os_fault_seen();
        os_fault_arm(0, 0);
        assert_true(left >= 0);
        aha_engine_get_stats(g, &st);
        assert_int_equal(st.pages, pages);
        assert_int_equal(st.pages_empty + st.pages_held + st.pages_findable, pages);
        assert_int_equal(st.seqs_active + st.seqs_waiting, left);
    } while (left > 0);
    assert_int_equal(taken, 0);
    assert_true(st.preempted > 0 && st.pages_findable > pages / 2 && st.pages_held == 0 && st.groups == 0);
    assert_true(st.steps > 90 && st.rows > 20 * 290 && st.new_tokens == 20 * 90 && st.prompt_tokens >= 20 * 200);
    for (int i = 0; i < 20; i++) aha_seq_free(s[i]);
    aha_engine_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_turn), cmocka_unit_test(test_generated_pages), cmocka_unit_test(test_stopped_at_a_pages_end),
        cmocka_unit_test(test_q8_rounds), cmocka_unit_test(test_packed_is_cached), cmocka_unit_test(test_q8_size),
        cmocka_unit_test(test_q8_refused), cmocka_unit_test(test_what_rounding_costs),
        cmocka_unit_test(test_memory_bound), cmocka_unit_test(test_memory_of_an_engine),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
