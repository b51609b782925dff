/* A grown model computes what the narrow one does, all of it learns, and recipes grow models of their own stages and of folders. */
#include "learnlib.h"

enum { TOKENS = 24 };

/* logits [TOKENS, V], and behind them the draft layer's [TOKENS - 1, V] */
static float *logits_of(const Model *m, int *rows)
{
    Ctx       c;
    aha_error e = {0};
    int32_t   token[TOKENS], pos[TOKENS], seq[TOKENS] = {0};
    Pool     *pool = pool_new(2, &e);
    Batch     b = {.n = TOKENS, .token = token, .pos = pos, .seq = seq};
    int       V = m->cfg.vocab;
    for (int i = 0; i < TOKENS; i++) {
        pos[i] = i;
        token[i] = (i * 29 + 7) % V;
    }
    ASSERT_OK(ctx_init(&c, cpu_kernels(NULL, &e), pool, (size_t)64 << 20, (size_t)8 << 20, &e), e);
    Tensor normed = model_final_norm(&c, m, model_hidden(&c, m, &b, NULL)), logits = model_logits(&c, m, normed);
    float *out = malloc((size_t)2 * TOKENS * (size_t)V * sizeof *out);
    memcpy(out, logits.data, (size_t)TOKENS * (size_t)V * sizeof *out);
    *rows = TOKENS;
    if (m->cfg.n_mtp) {
        b.token++;
        b.n = TOKENS - 1;
        b.hidden = normed.data;
        memcpy(out + (size_t)TOKENS * (size_t)V, model_logits(&c, m, model_draft(&c, m, &b, NULL)).data, (size_t)(TOKENS - 1) * (size_t)V * sizeof *out);
        *rows += TOKENS - 1;
    }
    if (ctx_failed(&c)) fail_msg("%s", c.err.text);
    ctx_free(&c);
    pool_free(pool);
    return out;
}

static int largest(const float *v, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++) best = v[i] > v[best] ? i : best;
    return best;
}

/* the same choices, and logits within f32's rounding */
static void same_function(const char *what, const Model *a, const Model *b)
{
    int    rows, again, V = a->cfg.vocab;
    double diff = 0, size = 0;
    float *x = logits_of(a, &rows), *y = logits_of(b, &again);
    assert_int_equal(rows, again);
    for (int i = 0; i < rows * V; i++) {
        diff += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        size += (double)x[i] * (double)x[i];
    }
    print_message("%-24s logits %.1e apart\n", what, sqrt(diff / size));
    if (!(sqrt(diff / size) < 3e-6)) fail_msg("%s: logits %.2e apart", what, sqrt(diff / size));
    for (int i = 0; i < rows; i++) assert_int_equal(largest(x + i * V, V), largest(y + i * V, V));
    free(x);
    free(y);
}

static Model *grown(const Model *m, Widths w)
{
    Model    *g;
    aha_error e = {0};
    ASSERT_OK(model_grow(&g, m, &w, 11, &e), e);
    return g;
}

/* ---- each width alone, then all; what trained folders have too: yarn's scale, softmax routing, a draft layer, no query latent ---- */
static void goldens(void **state)
{
    static const struct {
        const char *name;
        Widths      w;
    } CASE[] = {
        {"deepseek_v3-mtp", {0}},
        {"deepseek_v3-mtp", {.d_model = 96}},
        {"deepseek_v3-mtp", {.d_ff = 50, .d_expert = 11}},
        {"deepseek_v3-mtp", {.n_head = 5}},
        {"deepseek_v3-mtp", {.nope = 13}},
        {"deepseek_v3-mtp", {.v_dim = 16}},
        {"deepseek_v3-mtp", {.q_lora = 48}},
        {"deepseek_v3-mtp", {.kv_lora = 20}},
        {"deepseek_v3-mtp", {.d_model = 64, .d_ff = 64, .d_expert = 8, .n_head = 4, .nope = 16, .v_dim = 16, .q_lora = 36, .kv_lora = 16}},
        {"deepseek_v3-softmax", {.d_model = 64, .n_head = 8, .v_dim = 16}},
        {"deepseek_v3-no-q-latent", {.d_model = 80, .nope = 16, .kv_lora = 32}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        char         path[96];
        Model       *m, *g;
        aha_error    e = {0};
        ModelOptions o = {.trainable = true};
        snprintf(path, sizeof path, "tests/golden/%s", CASE[i].name);
        ASSERT_OK(model_open(&m, path, &o, &e), e);
        g = grown(m, CASE[i].w);
        same_function(CASE[i].name, m, g);
        model_free(m);
        model_free(g);
    }
}

static const Widths ALL = {.d_model = 64, .d_ff = 64, .d_expert = 32, .n_head = 4, .nope = 16, .rope_dim = 12, .v_dim = 16, .q_lora = 64, .kv_lora = 32};

static void rotation_too(void **state)
{
    Recipe    r;
    Model    *m, *g;
    aha_error e = {0};
    (void)state;
    ASSERT_OK(recipe_parse(&r, RECIPE, strlen(RECIPE), "recipe", &e), e);
    r.model.vocab = 200;
    ASSERT_OK(model_init_random(&m, &r.model, NULL, 5, &e), e);
    g = grown(m, (Widths){.rope_dim = 8});
    same_function("R doubled", m, g);
    model_free(g);
    g = grown(m, ALL);
    same_function("everything", m, g);
    model_free(g);
    model_free(m);
    recipe_free(&r);
}

/* ---- after a few steps every number of every matrix that text went through has moved, and copies have parted ---- */
static void all_of_it_learns(void **state)
{
    Fixture        f;
    aha_error      e = {0};
    Trainer        t;
    Objective      obj = {.draft_weight = 0.1};
    (void)state;
    fixture_init(&f, 2, 200, true);
    TrainerOptions o = {.optim = f.r.stage[0].optim, .slot_tokens = 200, .sample_max = 40, .keep_tape = true};
    o.optim.muon_lr = 0;
    Model *was = grown(f.m, ALL), *m = grown(f.m, ALL);
    ASSERT_OK(trainer_init(&t, m, cpu_kernels(NULL, &e), f.pool, &o, &e), e);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(trainer_accumulate(&t, f.sample, 24, &obj, NULL, &e), e);
        ASSERT_OK(trainer_update(&t, 1, NULL, &e), e);
    }
    for (int i = 0; i < m->n_weight; i++) {
        const Weight *w = m->weight[i];
        const float  *a = was->weight[i]->data, *b = w->data;
        int           still = 0, n = w->rows * w->cols;
        for (int k = 0; k < n; k++) still += a[k] == b[k];
        if (!optim_trains(w)) continue;
        if (w != &m->embed && still) fail_msg("%s: %d of %d numbers stay", w->name, still, n);
    }
    const float *x = (const float *)m->embed.data + (size_t)f.tok[0][1] * 64;
    assert_true(x[0] != x[32] && x[31] != x[63]);
    trainer_free(&t);
    model_free(was);
    model_free(m);
    fixture_free(&f);
}

static void refused(void **state)
{
    static const struct {
        Widths      w;
        const char *words;
    } CASE[] = {
        {{.d_model = 48}, "d_model cannot grow from 32 to 48, expected a whole multiple"},
        {{.q_lora = 24}, "q_lora cannot grow from 16 to 24"},
        {{.rope_dim = 6}, "rope_dim cannot grow from 4 to 6"},
        {{.n_head = 1}, "n_head cannot grow from 2 to 1, expected at least as much"},
        {{.d_expert = 8}, "d_expert cannot grow from 24 to 8"},
    };
    Recipe    r;
    Config    c;
    aha_error e = {0};
    (void)state;
    ASSERT_OK(recipe_parse(&r, RECIPE, strlen(RECIPE), "recipe", &e), e);
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        c = r.model;
        assert_int_equal(config_widen(&c, &CASE[i].w, &e), AHA_ERR_ARG);
        if (!strstr(e.text, CASE[i].words)) fail_msg("%s", e.text);
    }
    c = r.model;
    c.tied_embeddings = true;
    assert_int_equal(config_widen(&c, &ALL, &e), AHA_ERR_ARG);
    c = r.model;
    c.rope.interleaved = false;
    assert_int_equal(config_widen(&c, &ALL, &e), AHA_ERR_ARG);
    c = r.model;
    c.q_lora = 0;
    assert_int_equal(config_widen(&c, &ALL, &e), AHA_ERR_ARG);
    recipe_free(&r);
}

/* ---- in recipes ---- */
#define MODEL                                                                                                                        \
    "name = test\nseed = 3\ncontext = 256\nslot_tokens = 300\n"                                                                      \
    "[model]\nd_model = 32\nn_layer = 2\nn_dense_first = 1\nn_head = 2\nnope = 8\nrope_dim = 4\nv_dim = 8\nq_lora = 16\n"            \
    "kv_lora = 16\nd_ff = 48\nn_expert = 4\nn_expert_used = 2\nn_shared = 1\nd_expert = 24\nn_mtp = 1\n"
#define WIDE "d_model = 64\nrope_dim = 8\nq_lora = 32\nv_dim = 16\nd_ff = 64\n"

static void run(const char *text, const char *name, int want, const char *words)
{
    aha_error    e = {0};
    LearnOptions o = {.recipe = write_recipe(text), .out = dir_of(name), .threads = 2};
    int          rc = learn_run(&o, &e);
    if (rc != want || (want && !strstr(e.text, words))) fail_msg("%s: got %d, %s", name, rc, e.text);
}

static Model *stage_of(const char *run_name, const char *stage)
{
    Model    *m;
    aha_error e = {0};
    char      path[600];
    snprintf(path, sizeof path, "%s/%s", dir_of(run_name), stage);
    ASSERT_OK(model_open(&m, path, NULL, &e), e);
    return m;
}

/* A stage grows the one before it, later stages train the wide model, twice if asked to; a folder does as well as a stage. */
static void recipes_grow(void **state)
{
    char   text[4096];
    Model *m;
    (void)state;
    run(MODEL "[pretrain base]\ntasks = countdown3\ntokens = 2k\nbatch_tokens = 900\n[grow wide]\n" WIDE
              "[pretrain more]\ntasks = countdown3\ntokens = 2k\nbatch_tokens = 900\nmuon_lr = 0.01\n[grow wider]\nd_expert = 40\n"
              "[eval look]\ntasks = countdown3\nn = 2\nmax_new = 20\n[eval first]\nfrom = base\ntasks = countdown3\nn = 2\nmax_new = 20\n",
        "staged", 0, NULL);
    m = stage_of("staged", "more");
    assert_true(m->cfg.d_model == 64 && m->cfg.rope_dim == 8 && m->cfg.q_lora == 32 && m->cfg.v_dim == 16 && m->cfg.d_ff == 64 && m->cfg.d_expert == 24);
    model_free(m);
    m = stage_of("staged", "wider");
    assert_true(m->cfg.d_model == 64 && m->cfg.d_expert == 40 && m->cfg.vocab > 256);
    model_free(m);
    snprintf(text, sizeof text, "%s%s%s%s%s", MODEL "[grow wide]\nfrom_model = ", dir_of("staged"), "/base\n", WIDE,
             "[pretrain more]\ntasks = countdown3\ntokens = 1k\nbatch_tokens = 900\n");
    run(text, "folder", 0, NULL);
    m = stage_of("folder", "wide");
    assert_int_equal(m->cfg.d_model, 64);
    model_free(m);
    /* of another shape, of other words */
    snprintf(text, sizeof text, "%s%s%s", MODEL "[grow wide]\nfrom_model = ", dir_of("staged"),
             "/wide\nd_ff = 64\n[eval look]\ntasks = countdown3\nn = 2\nmax_new = 20\n");
    run(text, "shape", AHA_ERR_FORMAT, "its config.json is not the recipe's [model]");
    snprintf(text, sizeof text, "%s%s%s", MODEL "[grow wide]\nfrom_model = ", dir_of("staged"),
             "/base\n[eval look]\ntasks = countdown3 equation\nn = 2\nmax_new = 20\n");
    run(text, "words", AHA_ERR_FORMAT, "base");
}

static void recipes_refused(void **state)
{
    (void)state;
    run(MODEL "[grow wide]\n" WIDE, "nothing", AHA_ERR_FORMAT, "stage wide has no model to grow");
    run(MODEL "[pretrain base]\ntasks = countdown3\ntokens = 2k\nd_model = 64\n", "widths", AHA_ERR_FORMAT, "which are for grow stages");
    run(MODEL "[pretrain base]\ntasks = countdown3\ntokens = 2k\n[grow wide]\nd_model = 80\n", "multiple", AHA_ERR_FORMAT,
        "stage wide: d_model cannot grow from 32 to 80");
    run(MODEL "[pretrain base]\ntasks = countdown3\ntokens = 2k\n[grow wide]\nd_model = 64\n[grow wider]\nd_model = 96\n", "twice", AHA_ERR_FORMAT,
        "stage wider: d_model cannot grow from 64 to 96");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens), cmocka_unit_test(rotation_too), cmocka_unit_test(all_of_it_learns),
        cmocka_unit_test(refused), cmocka_unit_test(recipes_grow), cmocka_unit_test(recipes_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
