/* Routing where it is delicate, in the precision that models run in: all biased scores negative (a masked group is minus
 * infinity, not zero), a bias that drowns the score, scores that underflow, ties, NaN.  Expected experts come from a slow
 * second spelling of the published rule. */
#include "cpu/cpu.h"
#include "tensor/tensor.h"
#include "testlib.h"

#include <math.h>

enum { E_MAX = 256, K_MAX = 8, GROUPS_MAX = 8 };

static const RouteShape SMALL = {8, 3, 4, 2, ROUTE_SCORE_SIGMOID, ROUTE_MODE_NOAUX, true, 2.5};
static const RouteShape R1 = {256, 8, 8, 4, ROUTE_SCORE_SIGMOID, ROUTE_MODE_NOAUX, true, 2.5};

typedef struct Run {
    int32_t id[K_MAX];
    float   weight[K_MAX], dlogits[E_MAX];
} Run;

/* one row through the op and back, with d(weight) = 1, -2, 3, ... */
static Run run_route(const Kernels *k, RouteShape s, const float *logits, const float *bias)
{
    Run       out;
    Ctx       c;
    Tape      t;
    aha_error e = {0};
    Weight    b = {bias, DT_F32, 1, s.E, -1, "bias", NULL, NULL};
    ASSERT_OK(ctx_init(&c, k, NULL, 1 << 16, 1 << 14, &e), e);
    ASSERT_OK(tape_init(&t, c.arena.cap, NULL, 0, true, &e), e);
    c.tape = &t;
    Tensor x = constant(&c, logits, 1, s.E);
    Routes r = route(&c, s, x, bias ? &b : NULL, 0);
    tape_zero(&c);
    if (ctx_failed(&c)) fail_msg("%s", c.err.text);
    for (int i = 0; i < s.K; i++) tape_grad(&c, r.weight.data)[i] = (float)(i % 2 ? -i - 1 : i + 1);
    memcpy(out.id, r.id, (size_t)s.K * sizeof *r.id);
    memcpy(out.weight, r.weight.data, (size_t)s.K * sizeof(float));
    tape_backward(&c);
    memcpy(out.dlogits, tape_grad(&c, x.data), (size_t)s.E * sizeof(float));
    tape_free(&t);
    ctx_free(&c);
    return out;
}

/* ids are ascending and in range, weights and gradients are numbers */
static void sound(const Run *r, RouteShape s)
{
    for (int i = 0; i < s.K; i++) {
        assert_in_range(r->id[i], 0, s.E - 1);
        if (i) assert_true(r->id[i] > r->id[i - 1]);
        assert_true(isfinite(r->weight[i]) && r->weight[i] >= 0);
    }
    for (int i = 0; i < s.E; i++) assert_true(isfinite(r->dlogits[i]));
}

/* ---- the rule again, by sorting ---- */
static int best(const float *v, int n, const bool *taken)
{
    int at = -1;
    for (int i = 0; i < n; i++)
        if (!taken[i] && (at < 0 || v[i] > v[at])) at = i;
    return at;
}

static void expected(RouteShape s, const float *logits, const float *bias, bool *chosen)
{
    float b[E_MAX], group[GROUPS_MAX];
    bool  open[GROUPS_MAX] = {false}, taken[E_MAX] = {false};
    int   per = s.E / s.n_group;
    for (int e = 0; e < s.E; e++) b[e] = r_sigmoid(logits[e]) + bias[e];
    for (int g = 0; g < s.n_group; g++) {
        bool seen[E_MAX] = {false};
        int  first = best(b + g * per, per, seen), second;
        seen[first] = true;
        second = best(b + g * per, per, seen);
        group[g] = b[g * per + first] + b[g * per + second];
    }
    for (int i = 0; i < s.topk_group; i++) open[best(group, s.n_group, open)] = true;
    for (int e = 0; e < s.E; e++)
        if (!open[e / per]) b[e] = -INFINITY;
    for (int i = 0; i < s.K; i++) taken[best(b, s.E, taken)] = true;
    memcpy(chosen, taken, (size_t)s.E * sizeof *chosen);
}

static void check_row(const Kernels *k, RouteShape s, const float *logits, const float *bias)
{
    bool   chosen[E_MAX];
    Run    r = run_route(k, s, logits, bias);
    double sum = 0;
    sound(&r, s);
    expected(s, logits, bias, chosen);
    for (int i = 0; i < s.K; i++) {
        if (!chosen[r.id[i]]) fail_msg("expert %d was chosen", r.id[i]);
        sum += (double)r_sigmoid(logits[r.id[i]]);
    }
    for (int i = 0; i < s.K; i++) {
        double want = (double)r_sigmoid(logits[r.id[i]]) / (sum + 1e-20) * s.scale;
        assert_true(fabs((double)r.weight[i] - want) <= 1e-6 * want + 1e-30);
    }
}

typedef void KernelTest(const Kernels *k);
static void each_kernel_table(KernelTest *fn)
{
    const Kernels *k[8];
    int            n = cpu_kernels_all(k, 8);
    assert_true(n >= 1);
    for (int i = 0; i < n; i++) fn(k[i]);
}

/* ---- the tests ---- */
static void random_rows(const Kernels *k, RouteShape s, float bias_mean, float bias_size)
{
    Rng   r = {3, hash64(&bias_mean, sizeof bias_mean, 1), 0};
    float logits[E_MAX], bias[E_MAX];
    for (int row = 0; row < 50; row++) {
        for (int e = 0; e < s.E; e++) {
            logits[e] = 3 * rng_normal(&r);
            bias[e] = bias_mean + bias_size * rng_normal(&r);
        }
        check_row(k, s, logits, bias);
    }
}
static void negative(const Kernels *k)
{
    random_rows(k, SMALL, -5, 0.3f);
    random_rows(k, R1, -5, 0.3f);
    random_rows(k, R1, -1e6f, 0);
}
static void test_all_biased_scores_negative(void **state)
{
    (void)state;
    each_kernel_table(negative);
}
static void usual(const Kernels *k)
{
    random_rows(k, SMALL, 0, 0.2f);
    random_rows(k, R1, 0, 0.2f);
    random_rows(k, R1, 12, 0.2f);
}
static void test_random_rows(void **state)
{
    (void)state;
    each_kernel_table(usual);
}

/* Experts 1, 2 and 7 are chosen for their bias alone; their scores are 1e-8 each, so each weighs a third. */
static void drowned(const Kernels *k)
{
    float logits[8], bias[8];
    Run   r;
    for (int e = 0; e < 8; e++) {
        bool b = e == 1 || e == 2 || e == 7;
        logits[e] = b ? -18.420681f : 2;
        bias[e] = b ? 12 : 0;
    }
    RouteShape s = SMALL;
    s.topk_group = 3;
    r = run_route(k, s, logits, bias);
    sound(&r, s);
    assert_memory_equal(r.id, ((int32_t[]){1, 2, 7}), 3 * sizeof(int32_t));
    for (int i = 0; i < 3; i++) assert_true(fabs((double)r.weight[i] - 2.5 / 3) < 1e-5);
    s.norm_topk = false;
    r = run_route(k, s, logits, bias);
    for (int i = 0; i < 3; i++) assert_true(fabs((double)r.weight[i] - 2.5e-8) < 1e-12);
}
static void test_bias_drowns_the_score(void **state)
{
    (void)state;
    each_kernel_table(drowned);
}

/* Every score is (next to) nothing: ties go to the lower number, and the normaliser is not zero. */
static void underflow(const Kernels *k)
{
    static const float low[] = {-90, -120, -1e4f, -1e30f, -INFINITY};
    float logits[8], bias[8] = {0};
    Run   r;
    for (size_t i = 0; i < ARRAY_LEN(low); i++) {
        for (int e = 0; e < 8; e++) logits[e] = low[i];
        r = run_route(k, SMALL, logits, bias);
        sound(&r, SMALL);
        assert_memory_equal(r.id, ((int32_t[]){0, 1, 2}), 3 * sizeof(int32_t));
        bias[5] = 1e-3f; /* still chooses */
        r = run_route(k, SMALL, logits, bias);
        sound(&r, SMALL);
        assert_memory_equal(r.id, ((int32_t[]){0, 1, 5}), 3 * sizeof(int32_t));
        bias[5] = 0;
    }
}
static void softmax_underflow(const Kernels *k) /* one expert has everything: the others' weights are 0 */
{
    RouteShape s = {8, 3, 1, 1, ROUTE_SCORE_SOFTMAX, ROUTE_MODE_GREEDY, true, 1};
    float      logits[8] = {-200, -1e30f, -300, 1e4f, -250, -1e30f, -1e30f, -1e30f};
    Run        r = run_route(k, s, logits, NULL);
    sound(&r, s);
    assert_memory_equal(r.id, ((int32_t[]){0, 1, 3}), 3 * sizeof(int32_t));
    assert_true(r.weight[2] == 1 && r.weight[0] == 0 && r.weight[1] == 0);
}
static void test_everything_underflows(void **state)
{
    (void)state;
    each_kernel_table(underflow);
    each_kernel_table(softmax_underflow);
}

/* Equal scores: the lower group, the lower expert. */
static void ties(const Kernels *k)
{
    float logits[8] = {0}, bias[8] = {0};
    Run   r = run_route(k, SMALL, logits, bias);
    assert_memory_equal(r.id, ((int32_t[]){0, 1, 2}), 3 * sizeof(int32_t));
    logits[6] = logits[7] = 1; /* group 3, then group 0 of three equal ones */
    r = run_route(k, SMALL, logits, bias);
    assert_memory_equal(r.id, ((int32_t[]){0, 6, 7}), 3 * sizeof(int32_t));
}
static void test_ties(void **state)
{
    (void)state;
    each_kernel_table(ties);
}

/* The sum of two, not the best: group 1 has the best expert, group 0 the best pair. */
static void pairs(const Kernels *k)
{
    RouteShape s = {4, 2, 2, 1, ROUTE_SCORE_SIGMOID, ROUTE_MODE_NOAUX, true, 1};
    float      logits[4] = {1, 1, 3, -3}, bias[4] = {0};
    Run        r = run_route(k, s, logits, bias);
    assert_memory_equal(r.id, ((int32_t[]){0, 1}), 2 * sizeof(int32_t));
    s.mode = ROUTE_MODE_GROUP_MAX;
    r = run_route(k, s, logits, NULL);
    assert_memory_equal(r.id, ((int32_t[]){2, 3}), 2 * sizeof(int32_t));
}
static void test_group_score(void **state)
{
    (void)state;
    each_kernel_table(pairs);
}

/* A broken row gets some experts, each once: what comes out of it is the caller's trouble, memory is not. */
static void nans(const Kernels *k)
{
    float logits[E_MAX], bias[E_MAX] = {0};
    for (int every = 1; every < 4; every++) {
        bool seen[E_MAX] = {false};
        Run  r;
        for (int e = 0; e < R1.E; e++) logits[e] = e % every == 0 ? NAN : (float)e;
        r = run_route(k, R1, logits, bias);
        for (int i = 0; i < R1.K; i++) {
            assert_in_range(r.id[i], 0, R1.E - 1);
            assert_false(seen[r.id[i]]);
            seen[r.id[i]] = true;
        }
    }
}
static void test_nan(void **state)
{
    (void)state;
    each_kernel_table(nans);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_biased_scores_negative), cmocka_unit_test(test_random_rows), cmocka_unit_test(test_bias_drowns_the_score),
        cmocka_unit_test(test_everything_underflows), cmocka_unit_test(test_ties), cmocka_unit_test(test_group_score), cmocka_unit_test(test_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
