/* The small checkpoints of tests/golden (made by tools/golden.py with transformers): logits at every position, greedy
 * continuations, the draft layer, losses and every gradient tensor agree with the independent implementation; and logits at
 * positions up to 20,000 under YaRN (tools/golden_long.py). */
#include "cpu/cpu.h"
#include "model/model.h"
#include "testlib.h"

#include <math.h>

static const char *const GOLDEN[] = {
    "llama", "llama-llama3-tied", "qwen2-sharded", "qwen2-tied", "qwen2-yarn", "qwen3", "qwen3-attn-factor", "qwen3-yarn",
    "deepseek_v2", "deepseek_v2-groups", "deepseek_v3", "deepseek_v3-halves-tied", "deepseek_v3-mscale", "deepseek_v3-mtp",
    "deepseek_v3-fp8", "deepseek_v3-no-q-latent", "deepseek_v3-softmax", "deepseek_v3-unnormalised", "deepseek_v3-wide",
};
enum { N_GOLDEN = sizeof(GOLDEN) / sizeof(GOLDEN[0]) };

typedef struct Golden {
    Model      *m;
    WeightFile *expect;
    Pool       *pool;
} Golden;

static void golden_open(Golden *g, const char *name, bool trainable)
{
    char         path[512];
    aha_error    e = {0};
    ModelOptions o = {.kv_type = DT_F32, .trainable = trainable};
    snprintf(path, sizeof path, "tests/golden/%s", name);
    ASSERT_OK(model_open(&g->m, path, &o, &e), e);
    snprintf(path, sizeof path, "tests/golden/%s/expect.safetensors", name);
    ASSERT_OK(weights_open(&g->expect, path, &e), e);
    g->pool = pool_new(2, &e);
    assert_non_null(g->pool);
}
static void golden_close(Golden *g)
{
    model_free(g->m);
    weights_close(g->expect);
    pool_free(g->pool);
}

static const TensorInfo *expected(const Golden *g, const char *name)
{
    const TensorInfo *t = weights_find(g->expect, name);
    if (!t) fail_msg("expect.safetensors lacks %s", name);
    return t;
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

typedef struct Packed {
    int32_t token[512], pos[512], seq[512];
    Batch   b;
} Packed;

static void packed_add(Packed *p, const int32_t *token, int n, int seq)
{
    for (int i = 0; i < n; i++) {
        p->token[p->b.n + i] = token[i];
        p->pos[p->b.n + i] = i;
        p->seq[p->b.n + i] = seq;
    }
    p->b.n += n;
    p->b.token = p->token;
    p->b.pos = p->pos;
    p->b.seq = p->seq;
}

static void ctx_for(Ctx *c, const Golden *g, const Kernels *k)
{
    aha_error e = {0};
    ASSERT_OK(ctx_init(c, k, g->pool, (size_t)256 << 20, (size_t)8 << 20, &e), e);
}

static void check_logits(const char *name, const Kernels *k)
{
    Golden            g;
    Ctx               c;
    Packed            p = {0};
    Tensor            normed, logits;
    const TensorInfo *tok, *want, *mtp;
    golden_open(&g, name, false);
    tok = expected(&g, "tokens");
    want = expected(&g, "logits");
    packed_add(&p, tok->data, (int)tok->dim[0], 0);
    ctx_for(&c, &g, k);
    normed = model_final_norm(&c, g.m, model_hidden(&c, g.m, &p.b, NULL));
    logits = model_logits(&c, g.m, normed);
    if (ctx_failed(&c)) fail_msg("%s: %s", name, c.err.text);
    assert_int_equal(want->dim[0] * want->dim[1], (int64_t)logits.rows * logits.cols);
    double d = distance(logits.data, want->data, (int64_t)logits.rows * logits.cols);
    print_message("%-26s %-6s logits within %.1e of the largest\n", name, k->isa, d);
    assert_true(d < 1e-4);
    if (g.m->cfg.n_mtp) {
        mtp = expected(&g, "mtp.logits");
        memmove(p.token, p.token + 1, sizeof p.token - sizeof p.token[0]);
        p.b.n--;
        p.b.hidden = normed.data;
        logits = model_logits(&c, g.m, model_draft(&c, g.m, &p.b, NULL));
        if (ctx_failed(&c)) fail_msg("%s: %s", name, c.err.text);
        assert_int_equal(mtp->dim[0], logits.rows);
        d = distance(logits.data, mtp->data, (int64_t)logits.rows * logits.cols);
        print_message("%-26s %-6s draft logits within %.1e\n", name, k->isa, d);
        assert_true(d < 1e-4);
    }
    ctx_free(&c);
    golden_close(&g);
}

static void test_logits(void **state)
{
    const Kernels *k[8];
    int            n = cpu_kernels_all(k, 8);
    (void)state;
    for (int i = 0; i < N_GOLDEN; i++)
        for (int j = 0; j < n; j++) check_logits(GOLDEN[i], k[j]);
}

/* ---- long positions ---- */
enum { LONG = 20001, LONG_ROWS = 4 };

static void check_long(const char *name, const Kernels *k)
{
    static int32_t token[LONG], pos[LONG], seq[LONG];
    static uint8_t out[LONG];
    Golden         g;
    Ctx            c;
    aha_error      e = {0};
    golden_open(&g, name, false);
    const TensorInfo *rows = expected(&g, "rows"), *want = expected(&g, "logits");
    int32_t           row[LONG_ROWS];
    assert_int_equal(rows->bytes, sizeof row);
    memcpy(row, rows->data, sizeof row);
    memset(out, 0, sizeof out);
    for (int i = 0; i < LONG; i++) {
        token[i] = (int32_t)((7 * (int64_t)i * i + 3 * i + i / 32) % g.m->cfg.vocab);
        pos[i] = i;
    }
    for (int i = 0; i < LONG_ROWS; i++) out[row[i]] = 1;
    assert_true(row[0] == 0 && row[1] == 1 && row[2] == 4097 && row[3] == LONG - 1);
    Batch b = {.n = LONG, .token = token, .pos = pos, .seq = seq, .out = out};
    ASSERT_OK(ctx_init(&c, k, g.pool, (size_t)1 << 30, (size_t)8 << 20, &e), e);
    Tensor x = model_wanted(&c, &b, model_hidden(&c, g.m, &b, NULL));
    Tensor logits = model_logits(&c, g.m, model_final_norm(&c, g.m, x));
    if (ctx_failed(&c)) fail_msg("%s: %s", name, c.err.text);
    assert_int_equal(logits.rows, LONG_ROWS);
    for (int i = 0; i < LONG_ROWS; i++) {
        double d = distance(logits.data + (int64_t)i * logits.cols, (const float *)want->data + (int64_t)i * logits.cols, logits.cols);
        print_message("%-26s %-6s position %5d: logits within %.1e of the largest\n", name, k->isa, row[i], d);
        assert_true(d < 1e-4);
    }
    ctx_free(&c);
    golden_close(&g);
}

static void test_long_positions(void **state)
{
    const Kernels *k[8];
    int            n = cpu_kernels_all(k, 8);
    (void)state;
    check_long("deepseek_v3-long", k[n - 1]); /* the fastest: the others give its bits */
}

/* ---- gradients ---- */
typedef struct Grads {
    float **of;
} Grads;

static void grads_init(Grads *g, const Model *m)
{
    g->of = mem_zalloc((size_t)m->n_weight, sizeof *g->of);
    for (int i = 0; i < m->n_weight; i++)
        if (!strstr(m->weight[i]->name, "e_score_correction_bias"))
            g->of[i] = mem_zalloc((size_t)m->weight[i]->rows * (size_t)m->weight[i]->cols, sizeof(float));
}
static void grads_free(Grads *g, const Model *m)
{
    for (int i = 0; i < m->n_weight; i++) mem_free(g->of[i]);
    mem_free(g->of);
}

/* Rows of the packed batch that predict `ahead` tokens further inside their sequence; returns how many. */
static int predicting(const Packed *p, int ahead, int32_t *row, int32_t *target)
{
    int n = 0;
    for (int i = 0; i + ahead < p->b.n; i++)
        if (p->seq[i] == p->seq[i + ahead]) {
            row[n] = i;
            target[n++] = p->token[i + ahead];
        }
    return n;
}

static double mean_loss(Ctx *c, Tensor logp, double weight)
{
    double sum = 0;
    for (int i = 0; i < logp.rows; i++) sum -= logp.data[2 * i];
    (void)c;
    return weight * sum / logp.rows;
}
static void seed_loss(Ctx *c, Tensor logp, double weight)
{
    for (int i = 0; i < logp.rows; i++) tape_grad(c, logp.data)[2 * i] = (float)(-weight / logp.rows);
}

/* the loss main + 0.3 draft, its gradients into g; returns the loss */
static double loss_and_grads(Ctx *c, const Golden *g, const Packed *p)
{
    int32_t row[512], target[512], next[512], next_pos[512], next_seq[512];
    int     n = predicting(p, 1, row, target);
    double  loss;
    Tensor  normed = model_final_norm(c, g->m, model_hidden(c, g->m, &p->b, NULL));
    Tensor  logp = logprob(c, gather(c, normed, row, n), &g->m->head, target), draft_logp = {0};
    loss = mean_loss(c, logp, 1);
    if (g->m->cfg.n_mtp) { /* rows with a next token; of those, the ones with a second next one are predicted */
        int32_t row2[512], target2[512];
        Batch   b = {.n = n, .token = next, .pos = next_pos, .seq = next_seq};
        int     n2 = 0;
        for (int i = 0; i < n; i++) {
            next[i] = target[i];
            next_pos[i] = p->pos[row[i]];
            next_seq[i] = p->seq[row[i]];
            if (row[i] + 2 < p->b.n && p->seq[row[i] + 2] == p->seq[row[i]]) {
                row2[n2] = i;
                target2[n2++] = p->token[row[i] + 2];
            }
        }
        b.hidden = gather(c, normed, row, n).data;
        Tensor d = model_draft(c, g->m, &b, NULL);
        draft_logp = logprob(c, gather(c, d, row2, n2), &g->m->head, target2);
        loss += mean_loss(c, draft_logp, 0.3);
    }
    tape_zero(c);
    seed_loss(c, logp, 1);
    if (draft_logp.data) seed_loss(c, draft_logp, 0.3);
    tape_backward(c);
    return loss;
}

/* adds the gradients of the draft layer's own copies of embedding and head to the shared ones' */
static void add_copy(const Golden *g, const char *copy, float *to, int64_t n)
{
    char              name[160];
    const TensorInfo *t;
    snprintf(name, sizeof name, "grad.model.layers.%d.%s", g->m->cfg.n_layer, copy);
    t = g->m->cfg.n_mtp ? weights_find(g->expect, name) : NULL;
    for (int64_t i = 0; t && i < n; i++) to[i] += ((const float *)t->data)[i];
}

static double worst_gradient(const Golden *g, const Grads *gr, const char **worst)
{
    double max = 0;
    for (int i = 0; i < g->m->n_weight; i++) {
        const Weight     *w = g->m->weight[i];
        int64_t           n = (int64_t)w->rows * w->cols;
        char              name[160];
        const TensorInfo *t;
        float            *want;
        double            d;
        if (!gr->of[i]) continue;
        snprintf(name, sizeof name, "grad.%s", w->name);
        t = expected(g, name);
        want = mem_alloc((size_t)n * sizeof *want);
        memcpy(want, t->data, (size_t)n * sizeof *want);
        if (w == &g->m->embed) add_copy(g, "embed_tokens.weight", want, n);
        if (w == &g->m->head) add_copy(g, "shared_head.head.weight", want, n);
        d = distance(gr->of[i], want, n);
        mem_free(want);
        if (d > max) {
            max = d;
            *worst = w->name;
        }
    }
    return max;
}

static void check_gradients(const char *name, const Kernels *k, bool keep)
{
    Golden         g;
    Ctx            c;
    Tape           t;
    Grads          gr;
    Packed         p = {0};
    aha_error      e = {0};
    const char    *worst = "none";
    const int32_t *tok, *len;
    double         want, loss, d;
    golden_open(&g, name, true);
    tok = expected(&g, "grad.tokens")->data;
    len = expected(&g, "grad.seq_len")->data;
    packed_add(&p, tok, len[0], 0);
    packed_add(&p, tok + len[0], len[1], 1);
    want = (double)*(const float *)expected(&g, "grad.loss")->data;
    grads_init(&gr, g.m);
    ctx_for(&c, &g, k);
    ASSERT_OK(tape_init(&t, c.arena.cap, gr.of, g.m->n_weight, keep, &e), e);
    c.tape = &t;
    loss = loss_and_grads(&c, &g, &p);
    if (ctx_failed(&c)) fail_msg("%s: %s", name, c.err.text);
    d = worst_gradient(&g, &gr, &worst);
    print_message("%-26s %-6s %s loss off by %.1e, gradients within %.1e (%s)\n", name, k->isa, keep ? "kept " : "again", fabs(loss / want - 1), d, worst);
    assert_true(fabs(loss / want - 1) < 1e-5);
    assert_true(d < 1e-4);
    tape_free(&t);
    ctx_free(&c);
    grads_free(&gr, g.m);
    golden_close(&g);
}

static void test_gradients(void **state)
{
    const Kernels *k[8];
    int            n = cpu_kernels_all(k, 8);
    (void)state;
    for (int i = 0; i < N_GOLDEN; i++)
        for (int j = 0; j < n; j++) {
            check_gradients(GOLDEN[i], k[j], true);
            if (j == n - 1) check_gradients(GOLDEN[i], k[j], false);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits), cmocka_unit_test(test_long_positions), cmocka_unit_test(test_gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
