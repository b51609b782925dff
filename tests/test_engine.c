/* The engine on the golden checkpoints: the answers of the independent implementation, and the same answer, bit for bit,
 * however the prompt is cut, whatever is cached, whoever else is there, with any number of threads, after preemption, with
 * guesses; the same bits, too, that a packed batch without a cache gives (the trainer's form). */
#include "enginelib.h"

#include <math.h>

/* ---- the requests that are compared ---- */
enum { N_SUBJECT = 5, PROMPT_MAX = 128 };
typedef struct Subject {
    int32_t      prompt[PROMPT_MAX];
    int          n_prompt, max_new;
    SampleParams sample;
    /* what came out the first time */
    int32_t token[PROMPT_MAX];
    float   logp[PROMPT_MAX];
    int     n;
} Subject;

static void make_subjects(Subject *s, const WeightFile *expect, int vocab)
{
    memset(s, 0, N_SUBJECT * sizeof *s);
    s[0] = (Subject){.n_prompt = GOLDEN_PROMPT, .max_new = GOLDEN_NEW};
    memcpy(s[0].prompt, expected(expect, "tokens")->data, GOLDEN_PROMPT * sizeof(int32_t));
    s[1] = (Subject){.n_prompt = 97, .max_new = 20, .sample = {1, 1, 0, 0, 5, 1}};
    s[2] = (Subject){.n_prompt = 33, .max_new = 50, .sample = {0.8f, 0.9f, 0, 0, 5, 2}};
    s[3] = (Subject){.n_prompt = 64, .max_new = 33, .sample = {1.5f, 1, 20, 0, 6, 2}};
    s[4] = (Subject){.n_prompt = 1, .max_new = 40, .sample = {1, 0.95f, 0, 0.05f, 7, 0}};
    for (int i = 1; i < N_SUBJECT; i++) random_tokens(s[i].prompt, s[i].n_prompt, vocab, (uint64_t)i);
    memcpy(s[3].prompt, s[1].prompt, 40 * sizeof(int32_t)); /* a beginning of more than a page in common */
}

static SeqRequest request_of(const Subject *s)
{
    return (SeqRequest){.prompt = s->prompt, .n_prompt = s->n_prompt, .max_new = s->max_new, .sample = s->sample, .want_logp = true};
}

static void assert_same(const char *what, const Subject *want, const Seq *got)
{
    int            n;
    const int32_t *t = seq_tokens(got, &n);
    assert_int_equal(seq_state(got), SEQ_DONE);
    assert_int_equal(seq_finish(got), SEQ_FINISH_LENGTH);
    assert_int_equal(n, want->n);
    for (int i = 0; i < n; i++)
        if (t[i] != want->token[i]) fail_msg("%s: token %d is %d, was %d", what, i, t[i], want->token[i]);
    for (int i = 0; i < n; i++)
        if (memcmp(&seq_logp(got)[i], &want->logp[i], sizeof(float)) != 0)
            fail_msg("%s: log-probability %d is %.9g, was %.9g", what, i, (double)seq_logp(got)[i], (double)want->logp[i]);
}

/* ---- the packed form ---- */
typedef struct Packed {
    int32_t token[1024], pos[1024], seq[1024];
    Batch   b;
} Packed;
static void packed_add(Packed *p, const int32_t *token, int n, int seq)
{
    for (int i = 0; i < n; i++) {
        p->token[p->b.n] = token[i];
        p->pos[p->b.n] = i;
        p->seq[p->b.n++] = seq;
    }
    p->b.token = p->token;
    p->b.pos = p->pos;
    p->b.seq = p->seq;
}
static void packed_ctx(Ctx *c, const Model *m, const Kernels *k)
{
    aha_error e = {0};
    ASSERT_OK(ctx_init(c, k, NULL, (size_t)64 << 20, (size_t)4 << 20, &e), e);
    c->kv_type = m->kv_shape.type;
}
static void assert_ctx(const Ctx *c)
{
    if (ctx_failed(c)) fail_msg("%s", c->err.text);
}

/* The trainer's log-probabilities are the sampler's. */
static void check_trainer_agrees(const Model *m, const Kernels *k, const Subject *s)
{
    static Packed p;
    int32_t       row[1024], target[1024];
    int           n = 0;
    Ctx           c;
    Tensor        lp;
    memset(&p, 0, sizeof p);
    packed_ctx(&c, m, k);
    for (int i = 0; i < N_SUBJECT; i++) {
        int at = p.b.n + s[i].n_prompt;
        packed_add(&p, s[i].prompt, s[i].n_prompt, i);
        for (int j = 0; j < s[i].n; j++) {
            p.token[at + j] = s[i].token[j];
            p.pos[at + j] = s[i].n_prompt + j;
            p.seq[at + j] = i;
            row[n] = at + j - 1;
            target[n++] = s[i].token[j];
        }
        p.b.n += s[i].n;
    }
    lp = logprob(&c, gather(&c, model_final_norm(&c, m, model_hidden(&c, m, &p.b, NULL)), row, n), &m->head, target);
    assert_ctx(&c);
    for (int i = 0, at = 0; i < N_SUBJECT; i++)
        for (int j = 0; j < s[i].n; j++, at++)
            if (memcmp(&lp.data[2 * at], &s[i].logp[j], sizeof(float)) != 0)
                fail_msg("subject %d token %d: the trainer says %.9g, the sampler %.9g", i, j, (double)lp.data[2 * at],
                         (double)s[i].logp[j]);
    ctx_free(&c);
}

/* ---- scoring ---- */
typedef struct Rows {
    const float *want;
    int          V, n;
} Rows;
static void compare_row(void *user, int i, const real *logits)
{
    Rows *r = user;
    assert_int_equal(i, r->n++);
    if (memcmp(logits, r->want + (size_t)i * (size_t)r->V, (size_t)r->V * sizeof(float)) != 0)
        fail_msg("logits of position %d differ from the packed batch's", i);
}

/* Logits of all positions and log-probabilities, against the packed batch's: `c` holds them. */
typedef struct Scores {
    int32_t token[PROMPT_MAX];
    int     n;
    Ctx     c;
    Tensor  logits, lp;
} Scores;
static void scores_init(Scores *s, const Model *m, const Kernels *k, const int32_t *token, int n)
{
    static Packed p;
    int32_t       target[PROMPT_MAX];
    Tensor        x;
    memset(&p, 0, sizeof p);
    s->n = n;
    memcpy(s->token, token, (size_t)n * sizeof *token);
    for (int i = 0; i < n; i++) target[i] = token[i + 1 < n ? i + 1 : i];
    packed_ctx(&s->c, m, k);
    packed_add(&p, token, n, 0);
    x = model_final_norm(&s->c, m, model_hidden(&s->c, m, &p.b, NULL));
    s->logits = model_logits(&s->c, m, x);
    s->lp = logprob(&s->c, x, &m->head, target);
    assert_ctx(&s->c);
}
static void check_score(Engine *g, const Scores *s)
{
    float     logp[PROMPT_MAX];
    aha_error e = {0};
    Rows      r = {s->logits.data, s->logits.cols, 0};
    ASSERT_OK(engine_score(g, s->token, s->n, logp, compare_row, &r, &e), e);
    assert_int_equal(r.n, s->n);
    for (int i = 0; i + 1 < s->n; i++) assert_memory_equal(&logp[i], &s->lp.data[2 * i], sizeof(float));
}

/* ---- settings that must not matter ---- */
typedef struct Setting {
    const char   *name;
    EngineOptions o;
    int           threads;
    bool          crowd;  /* all at once, with strangers; else one after the other */
    bool          again;  /* twice: the second time from the cache */
    bool          uncached;
    bool          needs_draft;
    int           few_pages; /* this many more than the longest sequence needs: preempts */
} Setting;

static const Setting SETTINGS[] = {
    {.name = "alone", .threads = 1, .uncached = true},
    {.name = "chunks of 1", .o = {.chunk = 1}, .threads = 1},
    {.name = "chunks of 7", .o = {.chunk = 7}, .threads = 2},
    {.name = "chunks of 64", .o = {.chunk = 64, .batch_max = 70}, .threads = 1},
    {.name = "three threads", .threads = 3, .again = true},
    {.name = "a crowd", .threads = 2, .crowd = true},
    {.name = "a crowd again", .o = {.chunk = 16}, .threads = 1, .crowd = true, .again = true},
    {.name = "a crowd in small batches", .o = {.batch_max = 5, .seqs_max = 3}, .threads = 2, .crowd = true},
    {.name = "one row a batch", .o = {.batch_max = 1}, .threads = 1, .crowd = true},
    {.name = "few pages", .threads = 2, .crowd = true, .few_pages = 3},
    {.name = "hardly any pages", .o = {.chunk = 9}, .threads = 1, .crowd = true, .few_pages = 1, .uncached = true},
    {.name = "guesses", .o = {.draft = true}, .threads = 2, .again = true, .needs_draft = true},
    {.name = "guesses in a crowd", .o = {.draft = true, .batch_max = 13}, .threads = 1, .crowd = true, .needs_draft = true},
    {.name = "guesses, few pages", .o = {.draft = true}, .threads = 1, .crowd = true, .few_pages = 2, .needs_draft = true},
};

enum { N_STRANGER = 5 };
static void submit_strangers(Engine *g, const Subject *s, Seq **out)
{
    static const int len[N_STRANGER] = {1, 5, 31, 32, 90};
    for (int i = 0; i < N_STRANGER; i++) {
        int32_t    prompt[PROMPT_MAX];
        SeqRequest r = {.prompt = prompt, .n_prompt = len[i], .max_new = 3 + 8 * i, .sample = {1, 1, 0, 0, 99, (uint64_t)i}};
        random_tokens(prompt, len[i], g->m->cfg.vocab, 1000 + (uint64_t)i);
        if (i == 4) memcpy(prompt, s[1].prompt, 70 * sizeof *prompt); /* begins as a subject does */
        out[i] = submit(g, &r);
    }
}

static void run_crowd(Engine *g, const Setting *t, const Subject *s, const Scores *scores)
{
    Seq       *stranger[N_STRANGER], *seq[N_SUBJECT];
    SeqRequest r;
    submit_strangers(g, s, stranger);
    for (int i = 0; i < N_SUBJECT; i++) {
        r = request_of(&s[i]);
        r.no_cache = t->uncached;
        seq[i] = submit(g, &r);
        if (i < 3) step_guarded(g); /* not all at the same moment */
    }
    check_score(g, scores);
    run_guarded(g);
    for (int i = 0; i < N_SUBJECT; i++) {
        assert_same(t->name, &s[i], seq[i]);
        seq_free(seq[i]);
    }
    for (int i = 0; i < N_STRANGER; i++) seq_free(stranger[i]);
    assert_all_free(g);
}

/* one after the other; first: the results are what the others are compared with */
static void run_alone(Engine *g, const Setting *t, Subject *s, bool first, bool again)
{
    for (int i = 0; i < N_SUBJECT; i++) {
        SeqRequest r = request_of(&s[i]);
        Seq       *seq;
        r.no_cache = t->uncached;
        seq = submit(g, &r);
        run_guarded(g);
        if (again) assert_int_equal(seq_prompt_cached(seq), (s[i].n_prompt - 1) / KV_PAGE * KV_PAGE);
        if (t->uncached) assert_int_equal(seq_prompt_cached(seq), 0);
        if (first) {
            const int32_t *tok = seq_tokens(seq, &s[i].n);
            memcpy(s[i].token, tok, (size_t)s[i].n * sizeof *tok);
            memcpy(s[i].logp, seq_logp(seq), (size_t)s[i].n * sizeof(float));
        }
        assert_same(t->name, &s[i], seq);
        seq_free(seq);
        assert_all_free(g);
    }
}

static int pages_needed(const Subject *s)
{
    int most = 0;
    for (int i = 0; i < N_SUBJECT; i++)
        if (pages_for(s[i].n_prompt + s[i].max_new) > most) most = pages_for(s[i].n_prompt + s[i].max_new);
    return most;
}

static void run_setting(const Model *m, const Kernels *k, const Setting *t, Subject *s, const Scores *scores, bool first)
{
    aha_error     e = {0};
    Pool         *pool = pool_new(t->threads, &e);
    EngineOptions o = t->o;
    Engine       *g;
    assert_non_null(pool);
    if (t->few_pages) o.pages = pages_needed(s) + t->few_pages;
    g = engine_open(m, k, pool, o);
    for (int again = 0; again <= (int)t->again; again++) {
        if (t->crowd)
            run_crowd(g, t, s, scores);
        else
            run_alone(g, t, s, first && !again, again > 0);
        check_score(g, scores);
        assert_all_free(g);
    }
    if (t->few_pages) assert_true(engine_stats(g).preempted > 0);
    if (t->o.draft) assert_true(engine_stats(g).drafted > 0);
    engine_free(g);
    pool_free(pool);
}

static void check_greedy(const char *name, const Subject *s, const WeightFile *expect)
{
    const int32_t *want = expected(expect, "greedy")->data;
    assert_int_equal(s->n, GOLDEN_NEW);
    for (int i = 0; i < GOLDEN_NEW; i++)
        if (s->token[i] != want[i]) fail_msg("%s: greedy token %d is %d, expected %d", name, i, s->token[i], want[i]);
}

/* max |a-b| / max |b| */
static double distance(const float *a, const float *b, int64_t n)
{
    double diff = 0, size = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= diff)) diff = fabs((double)a[i] - (double)b[i]);
        if (fabs((double)b[i]) > size) size = fabs((double)b[i]);
    }
    return diff / size;
}

/* every setting, or (the slow plain C) each third, others with each model */
static void check_golden(int which, const Kernels *k, Dtype kv_type, bool all)
{
    const char    *name = GOLDEN[which];
    static Subject s[N_SUBJECT];
    static Scores  golden, full;
    Model         *m = golden_model(name, kv_type, false);
    WeightFile    *expect = golden_expect(name);
    const TensorInfo *tok = expected(expect, "tokens"), *want = expected(expect, "logits");
    make_subjects(s, expect, m->cfg.vocab);
    scores_init(&golden, m, k, tok->data, (int)tok->dim[0]);
    scores_init(&full, m, k, s[1].prompt, s[1].n_prompt);
    for (size_t i = 0; i < ARRAY_LEN(SETTINGS); i++) {
        if (SETTINGS[i].needs_draft && !m->cfg.n_mtp) continue;
        if (i > 0 && !all && (int)i % 3 != which % 3) continue;
        run_setting(m, k, &SETTINGS[i], s, i % 2 ? &full : &golden, i == 0);
    }
    check_trainer_agrees(m, k, s);
    if (kv_type == DT_F32) {
        double d = distance(golden.logits.data, want->data, want->dim[0] * want->dim[1]); /* check_score: engine's = packed */
        check_greedy(name, &s[0], expect);
        print_message("%-26s %-6s logits within %.1e of the largest\n", name, k->isa, d);
        assert_true(d < 1e-4);
    }
    ctx_free(&golden.c);
    ctx_free(&full.c);
    weights_close(expect);
    model_free(m);
}

static void all_golden(Dtype kv_type)
{
    const Kernels *k[8];
    int            n = cpu_kernels_all(k, 8);
    for (int i = 0; i < N_GOLDEN; i++)
        for (int j = kv_type == DT_F32 ? 0 : n - 1; j < n; j++) check_golden(i, k[j], kv_type, j > 0);
}
static void test_f32(void **state) { (void)state, all_golden(DT_F32); }
static void test_bf16(void **state) { (void)state, all_golden(DT_BF16); }
static void test_f16(void **state) { (void)state, all_golden(DT_F16); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16), cmocka_unit_test(test_f16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
