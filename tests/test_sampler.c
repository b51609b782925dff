/* The sampler against a slow one that sorts, its distribution, its ties; the pages of the cache against a plain list. */
#include "enginelib.h"

#include <math.h>

/* ---- the slow sampler ---- */
typedef struct Cand {
    int    id;
    double w;
    float  x;
} Cand;
static int by_weight(const void *a, const void *b)
{
    const Cand *p = a, *q = b;
    if (p->w > q->w) return -1;
    if (p->w < q->w) return 1;
    return p->id < q->id ? -1 : p->id > q->id;
}
static int by_id(const void *a, const void *b)
{
    return ((const Cand *)a)->id - ((const Cand *)b)->id;
}

static int32_t slow_sample(const float *x, int V, const SampleParams *p, int position)
{
    Cand  *c = mem_alloc((size_t)V * sizeof *c);
    float  m = x[0];
    int    n = V;
    double sum = 0, at, have = 0;
    int32_t id;
    for (int i = 1; i < V; i++)
        if (x[i] > m) m = x[i];
    for (int i = 0; i < V; i++) c[i] = (Cand){i, (double)r_exp((x[i] - m) / p->temperature), x[i]};
    qsort(c, (size_t)V, sizeof *c, by_weight);
    if (p->top_k && p->top_k < n) n = p->top_k;
    for (int i = 0; i < n; i++) sum += c[i].w;
    if (p->top_p < 1) {
        int keep = 0;
        do have += c[keep++].w;
        while (keep < n && have < (double)p->top_p * sum);
        n = keep;
    }
    while (n > 1 && c[n - 1].w < (double)p->min_p) n--;
    qsort(c, (size_t)n, sizeof *c, by_id);
    sum = 0;
    for (int i = 0; i < n; i++) sum += c[i].w;
    at = (double)rng_uniform(p->seed, p->stream, (uint64_t)position) * sum;
    id = c[0].id;
    have = 0;
    for (int i = 0; i < n && have <= at; i++) {
        have += c[i].w;
        id = c[i].id;
    }
    mem_free(c);
    return id;
}

static void fill_logits(float *x, int V, Rng *r, int kind)
{
    for (int i = 0; i < V; i++) {
        float f = rng_normal(r) * 3;
        x[i] = kind == 1 ? floorf(f) : kind == 2 ? f * 20 : kind == 3 ? 1.0f : f; /* ties, far apart, all equal */
    }
}

static void test_against_sorting(void **state)
{
    static const float TOP_P[] = {1, 0.95f, 0.5f, 0.01f, 1e-9f}, MIN_P[] = {0, 0.05f, 1};
    static const int   TOP_K[] = {0, 1, 7, 50, 100000}, SIZES[] = {1, 2, 17, 300, 5000};
    Ctx                c = {0};
    const Kernels     *k[8];
    float             *x = mem_alloc(5000 * sizeof *x), *copy = mem_alloc(5000 * sizeof *x), *scratch = mem_alloc(5001 * sizeof *x);
    Rng                r = {4, 0, 0};
    int                near = 0, n = 0, n_isa;
    (void)state;
    n_isa = cpu_kernels_all(k, 8);
    for (int i = 0; i < 3000; i++) {
        int          V = SIZES[rng_below(&r, 5)];
        SampleParams p = {0.2f + rng_float(&r) * 2, TOP_P[rng_below(&r, 5)], TOP_K[rng_below(&r, 5)], MIN_P[rng_below(&r, 3)], 9, (uint64_t)i};
        int32_t      got, want;
        float        logp, again;
        c.k = k[i % n_isa];
        fill_logits(x, V, &r, (int)rng_below(&r, 4));
        memcpy(copy, x, (size_t)V * sizeof *x);
        got = sample_token(&c, x, V, &p, i, scratch, &logp);
        want = slow_sample(x, V, &p, i);
        assert_memory_equal(x, copy, (size_t)V * sizeof *x);
        assert_in_range(got, 0, V - 1);
        n++;
        near += got != want; /* where a sum in another order falls on the other side of a cut */
        logprob_row(&c, x, V, got, &again, NULL);
        assert_memory_equal(&logp, &again, sizeof logp);
    }
    print_message("%d draws, %d unlike the sorting one\n", n, near);
    assert_true(near <= 3);
    mem_free(x);
    mem_free(copy);
    mem_free(scratch);
}

/* ---- the plain sampler: the same sums in the same order, three histograms, one pass for each thing ---- */
static uint32_t bits(float w)
{
    uint32_t u;
    memcpy(&u, &w, sizeof u);
    return u;
}

static void plain_cut(float *w, int V, bool by_mass, double want)
{
    static const int shift[] = {21, 10, 0}, width[] = {11, 11, 10};
    uint32_t         cut = 0;
    double           above = 0, have;
    float            each;
    if (!(want > 0)) want = 1e-300;
    for (int level = 0; level < 3; level++) {
        double   sum[2048] = {0};
        uint32_t known = level == 0 ? 0 : ~0u << (shift[level] + width[level]), bins = 1u << width[level], b = bins - 1;
        for (int i = 0; i < V; i++)
            if (bits(w[i]) && ((bits(w[i]) ^ cut) & known) == 0) sum[bits(w[i]) >> shift[level] & (bins - 1)] += by_mass ? (double)w[i] : 1;
        for (; b > 0 && above + sum[b] < want; b--) above += sum[b];
        cut |= b << shift[level];
    }
    memcpy(&each, &cut, sizeof each);
    have = above;
    for (int i = 0; i < V; i++) {
        if (bits(w[i]) > cut) continue;
        if (bits(w[i]) == cut && (have < want || have == 0)) have += by_mass ? (double)each : 1;
        else w[i] = 0;
    }
}

static double plain_sum(const float *w, int V)
{
    double sum = 0;
    for (int i = 0; i < V; i++) sum += (double)w[i];
    return sum;
}

static int32_t plain_sample(const Ctx *c, const float *x, int V, const SampleParams *p, int position, float *w)
{
    int32_t  best = 0, target = V, last = 0;
    float    d[2] = {-1, 0}, top;
    double   at, sum = 0;
    XentArgs a = {w, V + 1, &target, NULL, d};
    for (int i = 1; i < V; i++)
        if (x[i] > x[best]) best = i;
    for (int i = 0; i < V; i++) {
        float t = (x[i] - x[best]) / p->temperature;
        w[i] = t > -200 ? t : -200;
    }
    w[V] = -200;
    c->k->xent_back(&a, 0, 1, NULL);
    top = w[best];
    for (int i = 0; i < V; i++) w[i] = w[i] > 0 ? w[i] / top : 0;
    if (p->top_k > 0 && p->top_k < V) plain_cut(w, V, false, p->top_k);
    if (p->top_p < 1) plain_cut(w, V, true, (double)p->top_p * plain_sum(w, V));
    for (int i = 0; p->min_p > 0 && i < V; i++)
        if (w[i] < p->min_p) w[i] = 0;
    at = (double)rng_uniform(p->seed, p->stream, (uint64_t)position) * plain_sum(w, V);
    for (int i = 0; i < V && !(sum > at); i++)
        if (w[i] > 0) sum += (double)w[i], last = i;
    return last;
}

/* No draw is another one: few and many weights near the cut, many that are equal, from flat to all but one at 0. */
static void test_as_plain(void **state)
{
    static const float TOP_P[] = {1, 0.999f, 0.95f, 0.9f, 0.5f, 0.1f, 1e-9f, 0}, MIN_P[] = {0, 0, 0.01f, 0.2f};
    static const int   TOP_K[] = {0, 0, 1, 3, 40, 63, 64, 65, 66, 1000}, SIZES[] = {1, 2, 15, 16, 17, 65, 300, 1360, 5000};
    Ctx                c = {0};
    const Kernels     *k[8];
    float             *x = mem_alloc(5000 * sizeof *x), *a = mem_alloc(5001 * sizeof *a), *b = mem_alloc(5001 * sizeof *b);
    Rng                r = {5, 0, 0};
    int                n_isa = cpu_kernels_all(k, 8);
    (void)state;
    for (int i = 0; i < 6000; i++) {
        int          V = SIZES[rng_below(&r, 9)], step = 1 << rng_below(&r, 8);
        float        wide = expf(rng_normal(&r) * 2);
        SampleParams p = {0.05f + rng_float(&r) * 2, TOP_P[rng_below(&r, 8)], TOP_K[rng_below(&r, 10)], MIN_P[rng_below(&r, 4)], 9, (uint64_t)i};
        c.k = k[i % n_isa];
        for (int j = 0; j < V; j++) {
            x[j] = rng_normal(&r) * wide;
            if (i % 3 == 1) x[j] = floorf(x[j] * (float)step) / (float)step; /* some equal, or all */
            if (i % 3 == 2) x[j] += j % step ? -10 * wide : 0;               /* a few far above the rest */
        }
        assert_int_equal(sample_token(&c, x, V, &p, i, a, NULL), plain_sample(&c, x, V, &p, i, b));
    }
    mem_free(x);
    mem_free(a);
    mem_free(b);
}

static void test_distribution(void **state)
{
    enum { V = 6, DRAWS = 60000 };
    float        x[V] = {0, 1, -1, 2, 0.5f, -60}, scratch[V + 1];
    double       sum = 0, chi = 0, count[V] = {0};
    SampleParams p = {.temperature = 0.7f, .top_p = 1, .seed = 3};
    Ctx          c = {.k = cpu_kernels(NULL, NULL)};
    (void)state;
    for (int i = 0; i < DRAWS; i++) count[sample_token(&c, x, V, &p, i, scratch, NULL)]++;
    for (int i = 0; i < V; i++) sum += exp((double)x[i] / 0.7);
    for (int i = 0; i < V - 1; i++) {
        double e = DRAWS * exp((double)x[i] / 0.7) / sum;
        chi += (count[i] - e) * (count[i] - e) / e;
    }
    print_message("chi square %.2f with 4 degrees of freedom\n", chi);
    assert_true(chi < 18.5); /* p = 0.001 */
    assert_true(count[V - 1] == 0);
}

static void test_edges(void **state)
{
    float        ties[4] = {1, 3, 3, 2}, nan4[4] = {NAN, NAN, NAN, NAN}, some[4] = {NAN, 1, -INFINITY, NAN}, scratch[5];
    float        inf4[4] = {0, INFINITY, 0, 0}, low[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    SampleParams greedy = {.temperature = 0}, warm = {.temperature = 1, .top_p = 1}, one = {.temperature = 1, .top_p = 1, .top_k = 1};
    SampleParams cold = {.temperature = 1e-30f, .top_p = 0.5f}, same = {.temperature = 1, .top_p = 1, .min_p = 1};
    Ctx          c = {.k = cpu_kernels(NULL, NULL)};
    (void)state;
    assert_int_equal(sample_token(&c, ties, 4, &greedy, 0, scratch, NULL), 1);
    for (int i = 0; i < 200; i++) {
        int32_t t;
        assert_int_equal(sample_token(&c, ties, 4, &one, i, scratch, NULL), 1); /* the lower of the two */
        t = sample_token(&c, ties, 4, &cold, i, scratch, NULL);                 /* half the mass: the first of the two */
        assert_int_equal(t, 1);
        t = sample_token(&c, ties, 4, &same, i, scratch, NULL);
        assert_true(t == 1 || t == 2);
        assert_int_equal(sample_token(&c, some, 4, &warm, i, scratch, NULL), 1);
    }
    assert_int_equal(sample_token(&c, some, 4, &greedy, 0, scratch, NULL), 1);
    assert_int_equal(sample_token(&c, nan4, 4, &warm, 0, scratch, NULL), -1);
    assert_int_equal(sample_token(&c, nan4, 4, &greedy, 0, scratch, NULL), -1);
    assert_int_equal(sample_token(&c, inf4, 4, &warm, 0, scratch, NULL), -1);
    assert_int_equal(sample_token(&c, low, 4, &greedy, 0, scratch, NULL), -1);
}

/* ---- pages ---- */
static KvCache *cache_new(int pages)
{
    Model     m = {.kv_shape = {.type = DT_F32, .n_layer = 1, .key_cols = 1, .heads = 1}};
    aha_error e = {0};
    KvCache  *k;
    assert_true(kv_layout(&m.kv_shape));
    ASSERT_OK(kvcache_new(&k, &m, pages, &e), e);
    return k;
}
static void page_tokens(int32_t t[KV_PAGE], int a)
{
    for (int i = 0; i < KV_PAGE; i++) t[i] = a * 1000 + i;
}

static void test_pages(void **state)
{
    KvCache *k = cache_new(3);
    KvChain  root = kvcache_root(k), a = root, b, look;
    int32_t  t1[KV_PAGE], t2[KV_PAGE], p1, p2, p3, again;
    (void)state;
    page_tokens(t1, 1);
    page_tokens(t2, 2);
    p1 = kvcache_take(k);
    p2 = kvcache_take(k);
    assert_int_equal(kvcache_pages_free(k), 1);
    assert_int_equal(kvcache_add(k, &a, t1, p1), p1);
    b = a;
    assert_int_equal(kvcache_add(k, &a, t2, p2), p2);
    look = root;
    assert_int_equal(kvcache_find(k, &look, t2), -1); /* not a first page */
    assert_int_equal(kvcache_find(k, &look, t1), p1);
    assert_int_equal(look.serial, b.serial);
    assert_int_equal(kvcache_find(k, &look, t1), -1);
    assert_int_equal(kvcache_find(k, &look, t2), p2);
    p3 = kvcache_take(k); /* somebody computes the same first page */
    assert_int_equal(kvcache_take(k), -1);
    look = root;
    assert_int_equal(kvcache_add(k, &look, t1, p3), p1);
    assert_int_equal(kvcache_pages_free(k), 1);
    kvcache_drop(k, p1);
    kvcache_drop(k, p2);
    kvcache_drop(k, p2);
    kvcache_drop(k, p1);
    assert_int_equal(kvcache_pages_free(k), 2); /* p1 is held once more */
    kvcache_drop(k, p1);
    assert_int_equal(kvcache_pages_free(k), 3);
    assert_int_equal(kvcache_take(k), p3); /* the empty one first, then the one nobody held for longest */
    again = kvcache_take(k);
    assert_int_equal(again, p2);
    look = root;
    assert_int_equal(kvcache_find(k, &look, t1), p1);
    assert_int_equal(kvcache_find(k, &look, t2), -1);
    kvcache_forget(k);
    assert_int_equal(kvcache_find(k, &root, t1), -1); /* an old root finds nothing ... */
    assert_int_equal(kvcache_add(k, &a, t1, again), again); /* ... and nothing is registered behind an old page */
    look = kvcache_root(k);
    assert_int_equal(kvcache_find(k, &look, t1), -1);
    assert_int_equal(kvcache_add(k, &root, t1, again), again); /* nor a first page that was begun before */
    look = kvcache_root(k);
    assert_int_equal(kvcache_find(k, &look, t1), -1);
    kvcache_free(k);
}

/* Two pages with the same 64-bit hash: XXH64's first lane is acc = rotl(acc + lane * P2, 31) * P1 for each 32 bytes, so what a
 * change of the first input does to it can be taken back by the second. */
static void test_hash_collision(void **state)
{
    const uint64_t P1 = 11400714785074694791u, P2 = 14029467366897019727u;
    KvCache       *k = cache_new(2);
    KvChain        root = kvcache_root(k), at = root;
    int32_t        t1[KV_PAGE], t2[KV_PAGE], p;
    uint64_t       seed = root.hash, in[2], other[2], acc[2], inverse = 1, start = seed + P1 + P2;
    (void)state;
    for (int i = 0; i < 6; i++) inverse *= 2 - P2 * inverse; /* Newton: 1/P2 modulo 2^64 */
    page_tokens(t1, 1);
    memcpy(t2, t1, sizeof t1);
    memcpy(&in[0], t1, 8);
    memcpy(&in[1], t1 + 8, 8);
    other[0] = in[0] ^ 5;
    for (int i = 0; i < 2; i++) {
        uint64_t x = start + (i ? other[0] : in[0]) * P2;
        acc[i] = (x << 31 | x >> 33) * P1;
    }
    other[1] = in[1] + (acc[0] - acc[1]) * inverse;
    memcpy(t2, &other[0], 8);
    memcpy(t2 + 8, &other[1], 8);
    assert_true(memcmp(t1, t2, sizeof t1) != 0);
    assert_true(hash64(t1, sizeof t1, seed) == hash64(t2, sizeof t2, seed));
    p = kvcache_take(k);
    kvcache_add(k, &at, t1, p);
    at = (KvChain){root.hash, 5, root.epoch}; /* the same hash behind another page */
    assert_int_equal(kvcache_find(k, &at, t1), -1);
    at = root;
    assert_int_equal(kvcache_find(k, &at, t2), -1);
    assert_int_equal(kvcache_find(k, &at, t1), p);
    kvcache_free(k);
}

/* random use against a list of what was registered: whatever is found has the right tokens all the way */
static void test_pages_random(void **state)
{
    enum { PAGES = 24, SEQS = 6, LEN = 5, KINDS = 3 };
    KvCache *k = cache_new(PAGES);
    struct {
        int     n, kind[LEN];
        int32_t page[LEN];
        KvChain at;
    } s[SEQS] = {0};
    uint64_t content[PAGES] = {0}; /* what each page holds: the path to it, as a number in base KINDS+1 */
    Rng      r = {8, 0, 0};
    int      found = 0;
    (void)state;
    for (int i = 0; i < SEQS; i++) s[i].at = kvcache_root(k);
    for (int step = 0; step < 20000; step++) {
        int      i = (int)rng_below(&r, SEQS), kind = 1 + (int)rng_below(&r, KINDS), held = 0;
        int32_t  t[KV_PAGE], p;
        uint64_t path = 0;
        page_tokens(t, kind);
        for (int j = 0; j < s[i].n; j++) path = path * (KINDS + 1) + (uint64_t)s[i].kind[j];
        path = path * (KINDS + 1) + (uint64_t)kind;
        if (s[i].n == LEN || rng_below(&r, 8) == 0) {
            while (s[i].n > 0) kvcache_drop(k, s[i].page[--s[i].n]);
            s[i].at = kvcache_root(k);
            continue;
        }
        p = kvcache_find(k, &s[i].at, t);
        if (p >= 0) {
            found++;
            assert_true(content[p] == path);
        } else {
            p = kvcache_take(k);
            if (p < 0) {
                assert_int_equal(kvcache_pages_free(k), 0);
                continue;
            }
            content[p] = path;
            p = kvcache_add(k, &s[i].at, t, p);
            assert_true(content[p] == path);
        }
        s[i].page[s[i].n] = p;
        s[i].kind[s[i].n++] = kind;
        for (int j = 0; j < PAGES; j++) {
            bool any = false;
            for (int q = 0; q < SEQS; q++)
                for (int l = 0; l < s[q].n; l++) any |= s[q].page[l] == j;
            held += any;
        }
        assert_int_equal(kvcache_pages_free(k), PAGES - held);
    }
    print_message("%d pages found again\n", found);
    assert_true(found > 1000);
    kvcache_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_sorting), cmocka_unit_test(test_as_plain), cmocka_unit_test(test_distribution), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_pages), cmocka_unit_test(test_hash_collision), cmocka_unit_test(test_pages_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
