/* The kernels' speed on this machine: gemm beside OpenBLAS in the same run, taken in turn, against the measured peak of
 * fused multiply-adds; then every other kernel beside the plain C reference.
 * `--only cached`: attention over a cache of keys alone, against the memory's speed and the peak.
 * usage: bench_kernels [--json] [--threads N] [--isa NAME] [--only KERNEL] [--quick]
 * "wall" is the median of the repetitions, "cpu" the best by the process's own processor time: on a busy machine the
 * second says what the code can do.  Time stolen by the host and spent by other processes is printed with it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/cpu.h"
#include "tensor/tensor.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { REPS_MAX = 31 };
static struct {
    Pool          *pool;
    int            threads, reps;
    const Kernels *k, *ref;
    const char    *only; /* a kernel's name, or NULL */
    bool           json, comma;
    char          *scratch;
    size_t         scratch_bytes;
    double         peak, read; /* GFLOP/s and GB/s of all threads */
} b;

typedef struct Span { /* seconds */
    double wall, cpu;
} Span;
static Span now(void)
{
    return (Span){(double)time_now_ns() * 1e-9, time_cpu_s()};
}
typedef struct Times {
    Span   s[REPS_MAX];
    int    n;
} Times;
static void times_add(Times *t, Span from, int inner)
{
    Span to = now();
    t->s[t->n++] = (Span){(to.wall - from.wall) / inner, (to.cpu - from.cpu) / inner};
}
static int by_wall(const void *x, const void *y)
{
    double a = ((const Span *)x)->wall, c = ((const Span *)y)->wall;
    return a < c ? -1 : a > c;
}
/* median of wall time, and the least processor time divided by the threads */
static Span times_best(Times *t)
{
    Span out;
    qsort(t->s, (size_t)t->n, sizeof t->s[0], by_wall);
    out = (Span){t->s[t->n / 2].wall, 1e30};
    for (int i = 0; i < t->n; i++)
        if (t->s[i].cpu / b.threads < out.cpu) out.cpu = t->s[i].cpu / b.threads;
    return out;
}

typedef struct RunJob {
    KernelFn   *fn;
    const void *args;
    int64_t     n, grain;
} RunJob;
static void run_task(void *arg, int task, int worker)
{
    const RunJob *j = arg;
    int64_t       i0 = task * j->grain, i1 = i0 + j->grain < j->n ? i0 + j->grain : j->n;
    j->fn(j->args, i0, i1, b.scratch + (size_t)worker * b.scratch_bytes);
}
static void run(KernelFn *fn, const void *args, int64_t n, int64_t grain)
{
    RunJob j = {fn, args, n, grain};
    pool_run(b.pool, (int)((n + grain - 1) / grain), run_task, &j);
}

static float *floats(size_t n)
{
    float *p = mem_pages(n * sizeof *p);
    Rng    r = {n, 0, 0};
    if (!p) exit(1);
    for (size_t i = 0; i < n; i++) p[i] = 2 * rng_float(&r) - 1;
    return p;
}

/* ---- the machine ---- */
/* A thread that sleeps comes late to a run, and its share is then done by those awake: so there are many tasks, and all of
 * them take at least 20 ms.  One thread is the caller, for the pool would wake the others. */
enum { TASKS_PER_THREAD = 8, PEAK_LOOPS = 1000000, READ_PASSES = 4 };
static void on_threads(int threads, PoolFn fn, void *arg)
{
    if (threads > 1)
        pool_run(b.pool, TASKS_PER_THREAD * threads, fn, arg);
    else
        for (int i = 0; i < TASKS_PER_THREAD; i++) fn(arg, i, 0);
}

/* 12 chains: two units of up to 6 cycles each stay busy, and 16 registers hold them */
#if defined(__x86_64__)
#define PEAK(isa, type, set, fma, add, store, lanes)                                                                  \
    __attribute__((target(isa))) static void peak_##lanes(void *arg, int task, int worker)                            \
    {                                                                                                                 \
        type  x[12], m = set(0.999f);                                                                                 \
        float out[lanes];                                                                                             \
        for (int i = 0; i < 12; i++) x[i] = set((float)(i + task));                                                   \
        for (int r = 0; r < PEAK_LOOPS; r++) {                                                                        \
            x[0] = fma(x[0], m, m), x[1] = fma(x[1], m, m), x[2] = fma(x[2], m, m), x[3] = fma(x[3], m, m);           \
            x[4] = fma(x[4], m, m), x[5] = fma(x[5], m, m), x[6] = fma(x[6], m, m), x[7] = fma(x[7], m, m);           \
            x[8] = fma(x[8], m, m), x[9] = fma(x[9], m, m), x[10] = fma(x[10], m, m), x[11] = fma(x[11], m, m);       \
        }                                                                                                             \
        for (int i = 1; i < 12; i++) x[0] = add(x[0], x[i]);                                                          \
        store(out, x[0]);                                                                                             \
        ((volatile float *)arg)[worker] = out[0];                                                                     \
    }
PEAK("avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_storeu_ps, 8)
PEAK("avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_storeu_ps, 16)
#endif

/* GFLOP/s of fused multiply-adds that nothing holds up; 0 where this program cannot measure it */
static Span peak(int threads)
{
    Span  best = {0, 0};
    float sink[1024] = {0};
#if defined(__x86_64__)
    int    lanes = strncmp(b.k->isa, "avx512", 6) == 0 ? 16 : strncmp(b.k->isa, "avx", 3) == 0 ? 8 : 0;
    double flop = 2.0 * 12 * lanes * PEAK_LOOPS * TASKS_PER_THREAD * threads;
    for (int i = 0; i < b.reps && lanes; i++) {
        Span t = now(), u;
        on_threads(threads, lanes == 16 ? peak_16 : peak_8, sink);
        u = now();
        if (flop / (u.wall - t.wall) > best.wall * 1e9) best.wall = flop / (u.wall - t.wall) * 1e-9;
        if (flop / (u.cpu - t.cpu) * threads > best.cpu * 1e9) best.cpu = flop / (u.cpu - t.cpu) * threads * 1e-9;
    }
#endif
    (void)sink;
    return best;
}

/* GB/s of reading memory that no cache holds */
typedef struct ReadJob {
    const float *p;
    size_t       n; /* of a task */
    float        sink[1024];
} ReadJob;
#if defined(__x86_64__)
/* vectors of 32 bytes: with 16 one thread reads half as fast (19 of 37 GB/s on Zen 4) */
__attribute__((target("avx2"))) static void read_wide(const float *p, size_t n, float *out)
{
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t i = 0; i < n; i += 32)
        for (int l = 0; l < 4; l++) s[l] = _mm256_add_ps(s[l], _mm256_loadu_ps(p + i + 8 * l));
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}
#endif
static void read_task(void *arg, int task, int worker)
{
    ReadJob *j = arg;
    float    s[16] = {0};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        read_wide(j->p + (size_t)task * j->n, j->n, s);
        j->sink[worker] = s[0];
        return;
    }
#endif
    for (size_t i = (size_t)task * j->n; i < (size_t)(task + 1) * j->n; i += 16)
        for (int l = 0; l < 16; l++) s[l] += j->p[i + (size_t)l];
    for (int l = 1; l < 16; l++) s[0] += s[l];
    j->sink[worker] = s[0];
}
static Span read_speed(int threads)
{
    size_t  n = (size_t)(b.threads > 4 ? 256 : 128) << 20;
    ReadJob j = {floats(n / 4), n / 4 / (size_t)(TASKS_PER_THREAD * threads) & ~(size_t)31, {0}};
    double  gbyte = 4e-9 * (double)j.n * TASKS_PER_THREAD * threads * READ_PASSES;
    Span    best = {0, 0};
    for (int i = 0; i < b.reps; i++) {
        Span t = now(), u;
        for (int pass = 0; pass < READ_PASSES; pass++) on_threads(threads, read_task, &j);
        u = now();
        if (gbyte / (u.wall - t.wall) > best.wall) best.wall = gbyte / (u.wall - t.wall);
        if (gbyte * threads / (u.cpu - t.cpu) > best.cpu) best.cpu = gbyte * threads / (u.cpu - t.cpu);
    }
    mem_pages_free((void *)j.p, n);
    return best;
}

/* processor seconds of the whole machine: stolen by the host, and busy */
static void machine_time(double *stolen, double *busy)
{
    unsigned long long v[8] = {0};
    FILE              *f = fopen("/proc/stat", "r");
    *stolen = *busy = 0;
    if (!f) return;
    if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7) == 8) {
        *stolen = (double)v[7] * 0.01;
        *busy = (double)(v[0] + v[1] + v[2] + v[5] + v[6]) * 0.01;
    }
    fclose(f);
}

/* ---- gemm beside OpenBLAS ---- */
typedef void SgemmFn(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
static SgemmFn *blas;
static char     blas_core[64] = "none";

static void blas_load(void)
{
    void *so;
    void (*threads)(int);
    char *(*core)(void);
#if defined(__x86_64__)
    /* an OpenBLAS older than the processor falls back to SSE (30 GFLOP/s for 150): a peer must run at its best */
    if (__builtin_cpu_supports("avx512bw")) setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
#endif
    if (!(so = dlopen("libopenblas.so.0", RTLD_NOW))) return;
    *(void **)&blas = dlsym(so, "cblas_sgemm");
    *(void **)&threads = dlsym(so, "openblas_set_num_threads");
    *(void **)&core = dlsym(so, "openblas_get_corename");
    if (threads) threads(b.threads);
    snprintf(blas_core, sizeof blas_core, "OpenBLAS %s", core ? core() : "?");
}

typedef struct GemmShape {
    const char *what;
    int         M, N, K;
    char        at, bt; /* 't': that matrix is [K, .] in memory */
    Dtype       type;
} GemmShape;
static const GemmShape GEMMS[] = {
    {"prefill", 512, 2048, 2048, 'n', 'n', DT_F32},   {"prefill", 512, 2048, 2048, 'n', 'n', DT_BF16},
    {"prefill", 512, 2048, 2048, 'n', 'n', DT_F16},   {"train y", 3000, 64, 256, 'n', 'n', DT_F32},
    {"train y", 3000, 96, 256, 'n', 'n', DT_F32},     {"train y", 3000, 128, 128, 'n', 'n', DT_F32},
    {"train y", 3000, 256, 256, 'n', 'n', DT_F32},    {"train y", 3000, 1500, 256, 'n', 'n', DT_F32},
    {"train dx", 3000, 256, 256, 'n', 't', DT_F32},   {"train dx", 3000, 256, 1500, 'n', 't', DT_F32},
    {"train dw", 256, 256, 3000, 't', 't', DT_F32},   {"train dw", 64, 256, 3000, 't', 't', DT_F32},
    {"train dw", 1500, 256, 3000, 't', 't', DT_F32},  {"decode", 1, 4096, 4096, 'n', 'n', DT_F32},
    {"decode", 1, 4096, 4096, 'n', 'n', DT_BF16},     {"decode", 1, 4096, 4096, 'n', 'n', DT_F16},
    {"decode", 1, 4096, 4096, 'n', 't', DT_F32},      {"decode", 2, 4096, 4096, 'n', 'n', DT_F32},
    {"decode", 4, 4096, 4096, 'n', 'n', DT_F32},      {"decode", 4, 4096, 4096, 'n', 'n', DT_BF16},
    {"decode", 8, 4096, 4096, 'n', 'n', DT_F32},
};

static void print_row(const char *name, const char *shape, double gflop, double gbyte, Span ours, Span peer, const char *peer_name)
{
    double r = peer.wall > 0 ? peer.wall / ours.wall : 0, rc = peer.wall > 0 ? peer.cpu / ours.cpu : 0;
    if (b.json) {
        printf("%s\n  {\"kernel\":\"%s\",\"shape\":\"%s\",\"gflops\":%.2f,\"gflops_cpu\":%.2f,\"gbytes_s\":%.2f,\"gbytes_s_cpu\":%.2f,"
               "\"peer\":\"%s\",\"ratio\":%.3f,\"ratio_cpu\":%.3f}",
               b.comma ? "," : "", name, shape, gflop / ours.wall, gflop / ours.cpu, gbyte / ours.wall, gbyte / ours.cpu, peer_name, r, rc);
        b.comma = true;
        return;
    }
    printf("%-18s %-26s %7.1f %7.1f GFLOP/s %4.0f%% %7.1f %7.1f GB/s", name, shape, gflop / ours.wall, gflop / ours.cpu,
           b.peak > 0 ? 100 * gflop / ours.cpu / b.peak : 0, gbyte / ours.wall, gbyte / ours.cpu);
    if (peer.wall > 0) printf("  %6.2f %6.2f x %s", r, rc, peer_name);
    printf("\n");
}

static void bench_gemm(const GemmShape *s)
{
    size_t   bytes = s->type == DT_F32 ? 4 : 2, an = (size_t)s->M * (size_t)s->K, bn = (size_t)s->N * (size_t)s->K, cn = (size_t)s->M * (size_t)s->N;
    float   *a = floats(an), *w = floats(bn), *c = floats(cn), *d = floats(cn);
    void    *wt = mem_pages(bn * bytes);
    GemmArgs g = {.M = s->M, .N = s->N, .K = s->K, .a = a, .a_row = s->at == 't' ? 1 : s->K, .a_k = s->at == 't' ? s->M : 1, .b = wt,
                  .b_row = s->bt == 't' ? 1 : s->K, .b_k = s->bt == 't' ? s->N : 1, .b_type = s->type, .c = c, .c_row = s->N,
                  .accumulate = s->at == 't'};
    int64_t  cols = (s->N + GEMM_TILE_N - 1) / GEMM_TILE_N, items = cols * ((s->M + GEMM_TILE_M - 1) / GEMM_TILE_M);
    int64_t  grain = items / (4 * b.threads) < 1 || s->M <= 32 ? 1 : items / (4 * b.threads) < 8 ? items / (4 * b.threads) : 8;
    double   gflop = 2e-9 * s->M * s->N * s->K;
    int      inner = (int)(0.02 * 1e2 / (gflop + 0.01 * (double)(bn * bytes) * 1e-9 * 100)) + 1;
    Times    ours = {.n = 0}, peer = {.n = 0};
    char     shape[64];
    if (!wt) exit(1);
    dtype_from_f32(s->type, w, wt, bn);
    for (int i = -1; i < b.reps; i++) {
        Span t = now();
        for (int r = 0; r < inner; r++) run(b.k->gemm, &g, items, grain);
        if (i >= 0) times_add(&ours, t, inner);
        t = now();
        for (int r = 0; blas && r < inner; r++)
            blas(101, s->at == 't' ? 112 : 111, s->bt == 't' ? 111 : 112, s->M, s->N, s->K, 1, a, s->at == 't' ? s->M : s->K, w,
                 s->bt == 't' ? s->N : s->K, s->at == 't' ? 1 : 0, d, s->N);
        if (i >= 0 && blas) times_add(&peer, t, inner);
    }
    snprintf(shape, sizeof shape, "%s %dx%dx%d%s %s", s->what, s->M, s->N, s->K, s->at == 't' ? " tn" : s->bt == 't' ? " nn" : "",
             dtype_info(s->type)->name);
    print_row("gemm", shape, gflop, (double)(bn * bytes + 4 * an + 4 * cn) * 1e-9, times_best(&ours), blas ? times_best(&peer) : (Span){0, 0},
              "OpenBLAS f32");
    mem_pages_free(a, an * 4);
    mem_pages_free(w, bn * 4);
    mem_pages_free(c, cn * 4);
    mem_pages_free(d, cn * 4);
    mem_pages_free(wt, bn * bytes);
}

/* ---- the other kernels beside the reference ---- */
static void bench_one(const char *name, const char *shape, const void *args, int64_t n, int64_t grain, double gflop, double gbyte)
{
    KernelFn *fn = kernel_named(b.k, name), *ref = kernel_named(b.ref, name);
    Times     ours = {.n = 0}, peer = {.n = 0};
    if (fn == ref || (b.only && strcmp(b.only, name) != 0)) return;
    for (int i = -1; i < b.reps; i++) {
        Span t = now();
        for (int r = 0; r < 8; r++) run(fn, args, n, grain);
        if (i >= 0) times_add(&ours, t, 8);
        if (i > 1) continue; /* the reference is slow: three times will do */
        t = now();
        run(ref, args, n, grain);
        if (i >= 0) times_add(&peer, t, 1);
    }
    print_row(name, shape, gflop, gbyte, times_best(&ours), times_best(&peer), "plain C");
}

static void bench_rows(int T, int D)
{
    size_t       n = (size_t)T * (size_t)D;
    float       *x = floats(n), *y = floats(n), *z = floats(n), *w = floats(n), *v = floats(n), *gain = floats((size_t)D), *one = floats((size_t)T * 8);
    double       gb = 4e-9 * (double)n;
    int32_t     *id = calloc((size_t)T, sizeof *id);
    char         s[64];
    NormArgs     norm = {x, y, gain, one, D, D, 1, D, 1e-6f};
    NormBackArgs back = {x, y, gain, one, z, w, D, D, T, 1, D};
    AddArgs      add = {x, y, z, D, D, D, D, 1};
    ColSumArgs   sum = {x, D, T, gain};
    RopeArgs     rope = {x, y, floats(n), D, 64, D, 64, D / 64, 64, false, false, false}, pairs = rope;
    SwigluArgs   glu = {x, y, z, w, v, w, D, D};
    CombineArgs  comb = {x, id, one, y, D, 1, D, false, z, w, one};
    XentArgs     xent = {x, D, id, one, one};
    if (!id) exit(1);
    for (int i = 0; i < T; i++) id[i] = i % D;
    pairs.interleaved = true;
    snprintf(s, sizeof s, "%d x %d", T, D);
    bench_one("rmsnorm", s, &norm, T, 32, gb, 2 * gb);
    bench_one("rmsnorm_back_x", s, &back, T, 32, gb, 4 * gb);
    bench_one("rmsnorm_back_gain", s, &back, D, 64, gb, 2 * gb);
    bench_one("add", s, &add, T, 32, gb / 4, 3 * gb);
    bench_one("col_sum", s, &sum, D, 256, gb / 4, gb);
    bench_one("rope", "halves", &rope, T, 32, gb, 2 * gb);
    bench_one("rope", "pairs", &pairs, T, 32, gb, 2 * gb);
    bench_one("swiglu", s, &glu, T, 16, gb, 3 * gb);
    bench_one("swiglu_back", s, &glu, T, 16, gb, 7 * gb);
    for (int i = 0; i < T; i++) id[i] = i;
    bench_one("combine", s, &comb, T, 16, gb / 2, 2 * gb);
    bench_one("combine_back", s, &comb, T, 16, gb, 3 * gb);
    for (int i = 0; i < T; i++) id[i] = i % D;
    bench_one("xent", s, &xent, T, 4, gb, gb);
    bench_one("xent_back", s, &xent, T, 4, gb, 2 * gb);
    mem_pages_free((void *)rope.cs, n * 4);
    for (int i = 0; i < 5; i++) mem_pages_free((float *[]){x, y, z, w, v}[i], n * 4);
    mem_pages_free(gain, (size_t)D * 4);
    mem_pages_free(one, (size_t)T * 32);
    free(id);
}

/* sequences of n rows after `past` cached positions, packed one behind the other */
static void bench_attn(const char *what, int seqs, int n, int past, int H, int G, int dk, int dv, bool backward)
{
    int      T = seqs * n, per = !backward && H / G > 32 ? 32 : H / G, pages = (past + n + KV_PAGE - 1) / KV_PAGE, items = 0, page_items = 0;
    int      len = past + n, keys = seqs * pages * KV_PAGE;
    size_t   qn = (size_t)T * (size_t)(H * dk), on = (size_t)T * (size_t)(H * dv), kn = (size_t)keys * (size_t)(G * dk), vn = (size_t)keys * (size_t)(G * dv);
    AttnArgs a = {.q = floats(qn), .q_row = H * dk, .q_head = dk, .H = H, .G = G, .dk = dk, .dv = dv, .scale = 0.1f, .n_span = seqs,
                  .key_row = G * dk, .val_row = G * dv, .out = floats(on), .out_row = H * dv, .lse = floats((size_t)(T * H)),
                  .tile = per >= 64 ? 1 : 64 / per, .heads = per, .dout = floats(on), .delta = floats((size_t)(T * H)), .dq = floats(qn),
                  .dk_out = floats(kn), .dv_out = floats(vn)};
    float       *k = floats(kn), *v = floats(vn);
    KeySpan     *span = calloc((size_t)seqs, sizeof *span);
    const void **ptr = calloc((size_t)(seqs * pages) * 2, sizeof *ptr);
    int         *item = calloc((size_t)(3 * (H / per) * seqs) * (size_t)(n + 1), sizeof *item), *page = calloc((size_t)(3 * G * seqs * pages), sizeof *page);
    double       pairs = 0, gbyte;
    char         s[64];
    if (!span || !ptr || !item || !page) exit(1);
    for (int i = 0; i < seqs; i++) {
        span[i] = (KeySpan){i * n, n, past, ptr + 2 * i * pages, ptr + (2 * i + 1) * pages};
        for (int p = 0; p < pages; p++) {
            span[i].key[p] = k + (size_t)((i * pages + p) * KV_PAGE) * (size_t)a.key_row;
            span[i].val[p] = v + (size_t)((i * pages + p) * KV_PAGE) * (size_t)a.val_row;
        }
        for (int g = 0; g < H / per; g++)
            for (int r = 0; r < n; r += a.tile, items++) memcpy(item + 3 * items, (int[]){i, r, g}, 3 * sizeof(int));
        for (int g = 0; g < G; g++)
            for (int p = 0; p < pages; p++, page_items++) memcpy(page + 3 * page_items, (int[]){i, p, g}, 3 * sizeof(int));
    }
    for (int r = 0; r < n; r++) pairs += (double)(past + r + 1) * seqs * H;
    a.span = span;
    a.item = item;
    gbyte = 4e-9 * seqs * len * (double)(G * (dk + dv));
    snprintf(s, sizeof s, "%s %dx%d H%d G%d %d/%d", what, seqs, len, H, G, dk, dv);
    bench_one("attn", s, &a, items, 1, 2e-9 * pairs * (dk + dv), gbyte);
    if (backward) {
        bench_one("attn_delta", s, &a, T, 16, 2e-9 * (double)on, 8e-9 * (double)on);
        bench_one("attn_back_q", s, &a, items, 1, 2e-9 * pairs * (2 * dk + dv), gbyte);
        a.item = page;
        bench_one("attn_back_kv", s, &a, page_items, 1, 2e-9 * pairs * (2 * dk + 2 * dv), gbyte);
    }
    for (int i = 0; i < 2; i++) {
        mem_pages_free((float *[]){(float *)a.q, a.dq}[i], qn * 4);
        mem_pages_free((float *[]){a.out, (float *)a.dout}[i], on * 4);
        mem_pages_free((float *[]){k, a.dk_out}[i], kn * 4);
        mem_pages_free((float *[]){v, a.dv_out}[i], vn * 4);
        mem_pages_free((float *[]){a.lse, (float *)a.delta}[i], (size_t)(T * H) * 4);
    }
    free(span);
    free(ptr);
    free(item);
    free(page);
}

/* ---- attention over a cache ---- */
typedef struct CacheShape {
    const char *what;
    Dtype       type;
    int         seqs, n, past; /* n rows of each sequence behind `past` positions */
    int         H, G, dk, dv;  /* dv 0: MLA, the first 512 columns of the keys */
} CacheShape;
static const CacheShape CACHED[] = {
    {"decode 8B", DT_Q8_0, 1, 1, 32767, 32, 8, 128, 128}, {"decode 8B", DT_Q8_0, 4, 1, 8191, 32, 8, 128, 128},
    {"decode 8B", DT_F16, 1, 1, 32767, 32, 8, 128, 128},  {"decode 8B", DT_BF16, 1, 1, 32767, 32, 8, 128, 128},
    {"decode 8B", DT_F32, 1, 1, 32767, 32, 8, 128, 128},  {"decode 1.5B", DT_Q8_0, 1, 1, 32767, 12, 2, 128, 128},
    {"decode R1", DT_Q8_0, 1, 1, 8191, 128, 1, 576, 0},   {"decode R1", DT_BF16, 1, 1, 8191, 128, 1, 576, 0},
    {"decode R1", DT_F32, 1, 1, 8191, 128, 1, 576, 0},    {"prompt 8B", DT_Q8_0, 1, 64, 8128, 32, 8, 128, 128},
    {"prompt 8B", DT_BF16, 1, 64, 8128, 32, 8, 128, 128}, {"prompt 8B", DT_F32, 1, 64, 8128, 32, 8, 128, 128},
    {"prompt R1", DT_Q8_0, 1, 8, 8184, 128, 1, 576, 0},   {"prompt R1", DT_F32, 1, 8, 8184, 128, 1, 576, 0},
};

/* A page's other layers lie between this one's pages: so that none is in a cache by chance, a run takes the next layer. */
enum { CACHE_LAYERS = 4 };
static void bench_cached(const CacheShape *s)
{
    int       dv = s->dv ? s->dv : 512, T = s->seqs * s->n, per = s->H / s->G > 32 ? 32 : s->H / s->G, pages = (s->past + s->n + KV_PAGE - 1) / KV_PAGE;
    Kv        kv = {.type = s->type, .n_layer = CACHE_LAYERS, .key_cols = s->G * s->dk, .val_cols = s->G * s->dv, .heads = s->G};
    size_t    keys = kv_bytes(s->type, (size_t)(KV_PAGE * s->dk)), qn = (size_t)(T * s->H * s->dk), on = (size_t)(T * s->H * dv);
    size_t    total = kv_layout(&kv) ? kv_room(&kv, pages * s->seqs) : 0;
    uint8_t  *base = kv.base = mem_pages(total);
    AttnArgs  a[CACHE_LAYERS];
    KeySpan  *span = calloc((size_t)(CACHE_LAYERS * s->seqs), sizeof *span);
    const void **ptr = calloc((size_t)(CACHE_LAYERS * s->seqs * pages) * 2, sizeof *ptr);
    int      *item = calloc((size_t)(3 * (s->H / per) * s->seqs) * (size_t)(s->n + 1), sizeof *item), items = 0, turn = 0;
    Times     t = {.n = 0};
    Rng       r = {7, 0, 0};
    Span      best;
    double    pairs = 0, gbyte = (double)kv.page_bytes / CACHE_LAYERS * pages * s->seqs * 1e-9, gflop;
    if (!base || !span || !ptr || !item) exit(1);
    for (size_t i = 0; i + 4 <= total; i += 4) { /* halves and numbers that are small whatever type they are read as */
        uint32_t x = (rng_u32(&r) & 0x83ff83ff) | 0x30003000;
        memcpy(base + i, &x, 4);
    }
    a[0] = (AttnArgs){.q = floats(qn), .q_row = s->H * s->dk, .q_head = s->dk, .H = s->H, .G = s->G, .dk = s->dk, .dv = dv, .scale = 0.1f,
                      .n_span = s->seqs, .type = s->type, .paged = true, .v_in_k = !s->dv, .head_step = kv_head_step(&kv), .out = floats(on), .out_row = s->H * dv,
                      .tile = 64 / per, .heads = per, .item = item};
    for (int l = 0; l < CACHE_LAYERS; l++) {
        a[l] = a[0];
        a[l].span = span + l * s->seqs;
        for (int i = 0; i < s->seqs; i++, ptr += 2 * pages) {
            span[l * s->seqs + i] = (KeySpan){i * s->n, s->n, s->past, ptr, ptr + pages};
            for (int p = 0; p < pages; p++) {
                ptr[p] = kv_part(&kv, i * pages + p, l);
                ptr[pages + p] = s->dv ? (const char *)ptr[p] + keys : ptr[p];
            }
        }
    }
    ptr -= CACHE_LAYERS * s->seqs * 2 * pages;
    for (int i = 0; i < s->seqs; i++)
        for (int g = 0; g < s->H / per; g++)
            for (int q = 0; q < s->n; q += a[0].tile, items++) memcpy(item + 3 * items, (int[]){i, q, g}, 3 * sizeof(int));
    for (int q = 0; q < s->n; q++) pairs += (double)(s->past + q + 1) * s->seqs * s->H;
    gflop = 2e-9 * pairs * (s->dk + dv);
    for (int i = -1; i < b.reps; i++) {
        Span from = now();
        run(b.k->attn, &a[turn++ % CACHE_LAYERS], items, 1);
        if (i >= 0) times_add(&t, from, 1);
    }
    best = times_best(&t);
    if (b.json)
        printf("%s\n  {\"kernel\":\"attn\",\"shape\":\"%s\",\"type\":\"%s\",\"sequences\":%d,\"rows\":%d,\"context\":%d,\"gflops\":%.2f,\"gflops_cpu\":%.2f,"
               "\"gbytes_s\":%.2f,\"gbytes_s_cpu\":%.2f,\"peak_share\":%.3f,\"read_share\":%.3f}",
               b.comma ? "," : "", s->what, dtype_info(s->type)->name, s->seqs, s->n, s->past + s->n, gflop / best.wall, gflop / best.cpu,
               gbyte / best.wall, gbyte / best.cpu, b.peak > 0 ? gflop / best.cpu / b.peak : 0, gbyte / best.wall / b.read);
    else
        printf("attn %-11s %-4s %d x %d of %-6d %7.1f %7.1f GFLOP/s %4.0f%% of peak %7.1f %7.1f GB/s %4.0f%% of reading\n", s->what, dtype_info(s->type)->name,
               s->seqs, s->n, s->past + s->n, gflop / best.wall, gflop / best.cpu, b.peak > 0 ? 100 * gflop / best.cpu / b.peak : 0, gbyte / best.wall,
               gbyte / best.cpu, 100 * gbyte / best.wall / b.read);
    b.comma = true;
    mem_pages_free(base, total);
    mem_pages_free((float *)(uintptr_t)a[0].q, qn * 4);
    mem_pages_free(a[0].out, on * 4);
    free(span);
    free(ptr);
    free(item);
}

static void head(void)
{
    Span   p1 = peak(1), pn = peak(b.threads);
    Span   r1 = read_speed(1), rn = read_speed(b.threads);
    b.peak = pn.cpu;
    b.read = rn.wall;
    if (b.json)
        printf("{\"isa\":\"%s\",\"threads\":%d,\"peak_1\":%.1f,\"peak_n\":%.1f,\"peak_n_cpu\":%.1f,\"read_1\":%.1f,\"read_n\":%.1f,\"read_n_cpu\":%.1f,"
               "\"peer\":\"%s\",\"rows\":[",
               b.k->isa, b.threads, p1.wall, pn.wall, pn.cpu, r1.wall, rn.wall, rn.cpu, blas_core);
    else
        printf("%s, %d threads.  Peak of FMA: %.1f GFLOP/s on one thread, %.1f on %d (%.1f by processor time).\n"
               "Reads from memory: %.1f GB/s on one, %.1f on %d (%.1f by processor time).  Peer: %s.\n"
               "Columns: median of wall time, then best by processor time; %% of peak by processor time.\n",
               b.k->isa, b.threads, p1.wall, pn.wall, b.threads, pn.cpu, r1.wall, rn.wall,
               b.threads, rn.cpu, blas_core);
}

int main(int argc, char **argv)
{
    const char *isa = NULL;
    double      stolen0, stolen1, busy0, busy1, t0;
    aha_error   e = {0};
    b.reps = 9;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            b.json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            b.reps = 3;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            b.threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
            isa = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            b.only = argv[++i];
        else
            return fprintf(stderr, "usage: bench_kernels [--json] [--threads N] [--isa NAME] [--only KERNEL] [--quick]\n"), 2;
    }
    b.k = cpu_kernels(isa, &e);
    b.ref = cpu_kernels("ref", &e);
    b.pool = b.k ? pool_new(b.threads, &e) : NULL;
    if (!b.pool) return fprintf(stderr, "bench_kernels: %s\n", e.text), 1;
    b.threads = pool_threads(b.pool);
    b.scratch_bytes = ((attn_scratch(1, 128, 576, 512) + gemm_scratch()) & ~(size_t)63) + 64;
    b.scratch = mem_pages(b.scratch_bytes * (size_t)b.threads);
    if (!b.scratch) return 1;
    blas_load();
    machine_time(&stolen0, &busy0);
    t0 = time_cpu_s();
    head();
    for (size_t i = 0; i < ARRAY_LEN(GEMMS) && (!b.only || strcmp(b.only, "gemm") == 0); i++) bench_gemm(&GEMMS[i]);
    bench_attn("train", 25, 120, 0, 8, 8, 48, 32, true);
    bench_attn("train", 25, 120, 0, 8, 2, 64, 64, true);
    bench_attn("prefill", 1, 512, 0, 8, 2, 128, 128, false);
    bench_attn("decode", 1, 1, 4095, 16, 4, 128, 128, false);
    bench_attn("decode mla", 1, 1, 2047, 128, 1, 576, 512, false);
    for (size_t i = 0; i < ARRAY_LEN(CACHED) && (!b.only || strcmp(b.only, "attn") == 0 || strcmp(b.only, "cached") == 0); i++) bench_cached(&CACHED[i]);
    bench_rows(1000, 1500);
    machine_time(&stolen1, &busy1);
    if (b.json)
        printf("\n],\"stolen_s\":%.2f,\"others_s\":%.2f}\n", stolen1 - stolen0, busy1 - busy0 - (time_cpu_s() - t0));
    else
        printf("Stolen by the host: %.1f s; spent by other processes: %.1f s.\n", stolen1 - stolen0, busy1 - busy0 - (time_cpu_s() - t0));
    pool_free(b.pool);
    return 0;
}
