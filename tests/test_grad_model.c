/* Whole small models of every architecture, with random weights, against finite differences in double precision: the loss
 * along a random direction of one weight tensor at a time, and of all of them at once.  The batch packs three sequences, one
 * longer than a page of keys; the loss takes log-probabilities, entropies and, where there is one, the draft layer. */
#include "cpu/cpu.h"
#include "model/model.h"
#include "testlib.h"

#include <math.h>

enum { T = 42, ROWS_MAX = 64 };

typedef struct Setup {
    Model     *m;
    real     **grad, **dir; /* [n_weight] */
    int32_t    token[T], pos[T], seq[T], row[ROWS_MAX], target[ROWS_MAX];
    int32_t    next[ROWS_MAX], next_pos[ROWS_MAX], next_seq[ROWS_MAX];
    int        n_row;
    Batch      b, draft; /* alive until the backward, which runs layers again */
    RouteStats stats;
    size_t     n_stats;
} Setup;

static size_t weight_size(const Weight *w) { return (size_t)w->rows * (size_t)w->cols; }
static real *weight_data(const Weight *w) { return (real *)(uintptr_t)w->data; }

/* three sequences of 36, 5 and 1 tokens; what each token but a sequence's last predicts */
static void setup_batch(Setup *s, Rng *r)
{
    static const int len[] = {36, 5, 1};
    int n = 0;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < len[i]; k++, n++) {
            s->token[n] = (int32_t)rng_below(r, (uint32_t)s->m->cfg.vocab);
            s->pos[n] = k;
            s->seq[n] = i;
        }
    for (int i = 0; i + 1 < n; i++)
        if (s->seq[i] == s->seq[i + 1]) {
            s->row[s->n_row] = i;
            s->next[s->n_row] = s->token[i + 1];
            s->next_pos[s->n_row] = s->pos[i];
            s->next_seq[s->n_row] = s->seq[i];
            s->target[s->n_row++] = s->token[i + 1];
        }
    s->b = (Batch){.n = n, .token = s->token, .pos = s->pos, .seq = s->seq};
    s->draft = (Batch){.n = s->n_row, .token = s->next, .pos = s->next_pos, .seq = s->next_seq};
}

/* Norms and biases start as ones and zeros, at which some derivatives vanish: everything is moved. */
static void setup_weights(Setup *s, Rng *r)
{
    s->grad = mem_zalloc((size_t)s->m->n_weight, sizeof *s->grad);
    s->dir = mem_zalloc((size_t)s->m->n_weight, sizeof *s->dir);
    for (int i = 0; i < s->m->n_weight; i++) {
        const Weight *w = s->m->weight[i];
        size_t        n = weight_size(w);
        s->grad[i] = mem_zalloc(n, sizeof(real));
        s->dir[i] = mem_zalloc(n, sizeof(real));
        for (size_t k = 0; k < n; k++) {
            weight_data(w)[k] += (real)(0.2 * (double)rng_normal(r));
            s->dir[i][k] = (real)rng_normal(r);
        }
    }
}

static void setup(Setup *s, const char *name)
{
    char      path[256];
    Config    cfg;
    aha_error e = {0};
    Rng       r = {11, hash64(name, strlen(name), 5), 0};
    memset(s, 0, sizeof *s);
    snprintf(path, sizeof path, "tests/golden/%s/config.json", name);
    ASSERT_OK(config_read(&cfg, path, &e), e);
    cfg.fp8 = false;
    ASSERT_OK(model_init_random(&s->m, &cfg, NULL, 3, &e), e);
    setup_batch(s, &r);
    setup_weights(s, &r);
    s->n_stats = (size_t)(cfg.n_layer + cfg.n_mtp) * (size_t)cfg.n_expert;
    s->stats = (RouteStats){mem_zalloc(s->n_stats + 1, sizeof(int64_t)), cfg.n_expert};
}

static void setup_free(Setup *s)
{
    for (int i = 0; i < s->m->n_weight; i++) {
        mem_free(s->grad[i]);
        mem_free(s->dir[i]);
    }
    mem_free(s->grad);
    mem_free(s->dir);
    mem_free(s->stats.load);
    model_free(s->m);
}

/* weights of the loss: of the log-probability and the entropy of row i of output k */
static real loss_weight(int k, int i, int what)
{
    return (real)(what ? 0.3 * sin(1 + i + k) : cos(0.4 * i + k));
}

/* The forward pass; y: the outputs whose weighted sum is the loss.  Returns how many. */
static int forward(Ctx *c, Setup *s, Tensor y[2])
{
    Tensor normed = model_final_norm(c, s->m, model_hidden(c, s->m, &s->b, NULL));
    Tensor h = gather(c, normed, s->row, s->n_row);
    y[0] = logprob(c, h, &s->m->head, s->target);
    if (!s->m->cfg.n_mtp) return 1;
    s->draft.hidden = h.data;
    y[1] = logprob(c, model_draft(c, s->m, &s->draft, NULL), &s->m->head, s->target);
    return 2;
}

static double loss(Ctx *c, Setup *s)
{
    Tensor y[2];
    double sum = 0;
    ctx_reset(c);
    memset(s->stats.load, 0, s->n_stats * sizeof *s->stats.load);
    int n = forward(c, s, y);
    if (ctx_failed(c)) fail_msg("forward: %s", c->err.text);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < y[k].rows * 2; i++) sum += (double)(loss_weight(k, i / 2, i % 2) * y[k].data[i]);
    return sum;
}

static void ctx_big(Ctx *c, const Setup *s)
{
    aha_error      e = {0};
    const Kernels *k = cpu_kernels("ref", &e);
    assert_non_null(k);
    ASSERT_OK(ctx_init(c, k, NULL, (size_t)32 << 20, (size_t)4 << 20, &e), e);
    c->stats = (RouteStats *)(uintptr_t)&s->stats;
}

static void gradients(Setup *s, bool keep)
{
    Ctx       c;
    Tape      t;
    Tensor    y[2];
    aha_error e = {0};
    ctx_big(&c, s);
    ASSERT_OK(tape_init(&t, c.arena.cap, s->grad, s->m->n_weight, keep, &e), e);
    c.tape = &t;
    for (int i = 0; i < s->m->n_weight; i++) memset(s->grad[i], 0, weight_size(s->m->weight[i]) * sizeof(real));
    int n = forward(&c, s, y);
    tape_zero(&c);
    for (int k = 0; k < n && !ctx_failed(&c); k++)
        for (int i = 0; i < y[k].rows * 2; i++) tape_grad(&c, y[k].data)[i] = loss_weight(k, i / 2, i % 2);
    tape_backward(&c);
    if (ctx_failed(&c)) fail_msg("backward: %s", c.err.text);
    tape_free(&t);
    ctx_free(&c);
}

/* moves weights first..last-1 along their directions */
static void move(const Setup *s, int first, int last, double by)
{
    for (int i = first; i < last; i++)
        for (size_t k = 0; k < weight_size(s->m->weight[i]); k++) weight_data(s->m->weight[i])[k] += (real)(by * (double)s->dir[i][k]);
}

/* the experts' loads, as a hash: a step that changes them stands on a kink */
static uint64_t loads(const Setup *s) { return hash64(s->stats.load, s->n_stats * sizeof *s->stats.load, 1); }

static double difference(Ctx *c, Setup *s, int first, int last, double h, uint64_t choice)
{
    static const double at[] = {1, -1, 2, -2}, by[] = {8, -8, -1, 1};
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        move(s, first, last, at[i] * h);
        sum += by[i] * loss(c, s);
        move(s, first, last, -at[i] * h);
        if (loads(s) != choice) fail_msg("a step of the difference changed the experts: pick another point");
    }
    return sum / (12 * h);
}

static double along(const Setup *s, int i)
{
    double sum = 0;
    for (size_t k = 0; k < weight_size(s->m->weight[i]); k++) sum += (double)(s->grad[i][k] * s->dir[i][k]);
    return sum;
}

static uint64_t gradient_bits(const Setup *s)
{
    uint64_t bits = 0;
    for (int i = 0; i < s->m->n_weight; i++) bits = hash64(s->grad[i], weight_size(s->m->weight[i]) * sizeof(real), bits);
    return bits;
}

static void check_model(void **state)
{
    const char *name = *state;
    Setup       s;
    Ctx         c;
    double      all = 0, size = 1e-3, worst = 0;
    uint64_t    choice, bits;
    setup(&s, name);
    ctx_big(&c, &s);
    gradients(&s, true);
    bits = gradient_bits(&s);
    gradients(&s, false);
    assert_int_equal(bits, gradient_bits(&s)); /* kept or computed again: the same */
    for (int i = 0; i < s.m->n_weight; i++) {
        all += along(&s, i);
        size = fmax(size, fabs(along(&s, i)));
    }
    loss(&c, &s);
    choice = loads(&s);
    for (int i = 0; i < s.m->n_weight; i++) {
        double want = difference(&c, &s, i, i + 1, 3e-5, choice), off = fabs(along(&s, i) - want) / size;
        worst = fmax(worst, off);
        if (!(off <= 1e-7)) fail_msg("%s: %s: the tape has %.12g, the difference quotient %.12g", name, s.m->weight[i]->name, along(&s, i), want);
    }
    double want = difference(&c, &s, 0, s.m->n_weight, 3e-6, choice), off = fabs(all - want) / fmax(size, fabs(all));
    print_message("%-26s %3d weights, gradients off by %.1e at most, along all of them by %.1e\n", name, s.m->n_weight, worst, off);
    assert_true(off <= 1e-7);
    ctx_free(&c);
    setup_free(&s);
}

int main(void)
{
    static const char *const name[] = {"llama-llama3-tied", "qwen2-yarn", "qwen3", "deepseek_v2-groups", "deepseek_v3-mtp",
                                       "deepseek_v3-softmax", "deepseek_v3-no-q-latent"};
    enum { N = sizeof(name) / sizeof(name[0]) };
    struct CMUnitTest tests[N];
    for (int i = 0; i < N; i++) tests[i] = (struct CMUnitTest){name[i], check_model, NULL, NULL, (void *)(uintptr_t)name[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
