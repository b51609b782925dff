/* The products with weights, at the shapes of published models: y = x W^T through the op that the models call, whatever the
 * weights' type.  Every weight is read from memory: as many copies are walked as no cache holds.  Beside each figure stands its
 * share of the limit that binds: of reading memory where rows are few, of fused multiply-adds where they are many; both limits
 * are measured before every shape, with the same threads.  --settled 1: weights as stripes, as they are behind a first token.
 * usage: bench_linear [--type NAME]... [--rows N]... [--shape NxK]... [--isa NAME] [--threads N] [--reps N] [--settled 0|1] */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "tensor/linear.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { WEIGHT_BYTES = 256 << 20, LIST_MAX = 16, REPS_MAX = 99, PARTS = 16 };
typedef struct Shape {
    int         rows, cols; /* of the weight */
    const char *what;
} Shape;
static const Shape SHAPES[] = {
    {8960, 1536, "1.5B gate, up"}, {1536, 8960, "1.5B down"}, {151936, 1536, "1.5B head"}, {12288, 4096, "8B gate, up"}, {2048, 7168, "R1 expert"},
};
static struct {
    Pool          *pool;
    Ctx            ctx;
    const Kernels *k;
    int            reps, settled, n_rows, n_types, n_shapes, rows[LIST_MAX];
    Dtype          type[LIST_MAX];
    Shape          shape[LIST_MAX];
    uint8_t       *weights;
    size_t         bytes;
    double         read, fma; /* GB/s, GFLOP/s */
} b = {.reps = 7};

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, c = *(const double *)y;
    return a < c ? -1 : a > c;
}
static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}
static double now(void) { return (double)time_now_ns() * 1e-9; }

/* ---- the limits ---- */
typedef struct Limit {
    double sink[PARTS * 8];
} Limit;
enum { STREAMS = 4, FMA_LOOPS = 400000, FMA_CHAINS = 12 };

#if defined(__x86_64__)
/* every part in four streams, each of a quarter */
__attribute__((target("avx2"))) static void read_part(void *arg, int task, int worker)
{
    size_t         n = (WEIGHT_BYTES / PARTS / STREAMS);
    const uint8_t *p = b.weights + (size_t)task * n * STREAMS;
    __m256i        s[STREAMS] = {0};
    (void)worker;
    for (size_t i = 0; i < n; i += 64)
        for (int j = 0; j < STREAMS; j++) {
            const uint8_t *q = p + (size_t)j * n + i;
            s[j] = _mm256_xor_si256(s[j], _mm256_xor_si256(_mm256_load_si256((const void *)q), _mm256_load_si256((const void *)(q + 32))));
        }
    for (int j = 1; j < STREAMS; j++) s[0] = _mm256_xor_si256(s[0], s[j]);
    ((Limit *)arg)->sink[8 * task] = (double)_mm256_extract_epi64(s[0], 0);
}
#define FMA(isa, type, set, fma, first, name)                                                                          \
    __attribute__((target(isa))) static void name(void *arg, int task, int worker)                                    \
    {                                                                                                                 \
        type x[FMA_CHAINS], m = set(0.999f);                                                                          \
        (void)worker;                                                                                                 \
        for (int i = 0; i < FMA_CHAINS; i++) x[i] = set((float)(i + task));                                           \
        for (int r = 0; r < FMA_LOOPS; r++) {                                                                         \
            x[0] = fma(x[0], m, m), x[1] = fma(x[1], m, m), x[2] = fma(x[2], m, m), x[3] = fma(x[3], m, m);           \
            x[4] = fma(x[4], m, m), x[5] = fma(x[5], m, m), x[6] = fma(x[6], m, m), x[7] = fma(x[7], m, m);           \
            x[8] = fma(x[8], m, m), x[9] = fma(x[9], m, m), x[10] = fma(x[10], m, m), x[11] = fma(x[11], m, m);       \
        }                                                                                                             \
        for (int i = 1; i < FMA_CHAINS; i++) x[0] = fma(x[i], m, x[0]);                                               \
        ((Limit *)arg)->sink[8 * task] = first(x[0]);                                                                 \
    }
FMA("avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32, fma_8)
FMA("avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32, fma_16)
#endif

/* Both limits, the best of three; 0 where this program cannot measure them. */
static void limits(void)
{
    b.read = b.fma = 0;
#if defined(__x86_64__)
    int   lanes = strncmp(b.k->isa, "avx512", 6) == 0 ? 16 : strncmp(b.k->isa, "avx", 3) == 0 ? 8 : 0;
    Limit l;
    for (int i = 0; i < 3 && lanes; i++) {
        double t = now(), gbyte = WEIGHT_BYTES * 1e-9, gflop = 2e-9 * FMA_CHAINS * lanes * FMA_LOOPS * PARTS, u;
        pool_run(b.pool, PARTS, read_part, &l);
        u = now();
        if (gbyte / (u - t) > b.read) b.read = gbyte / (u - t);
        t = now();
        pool_run(b.pool, PARTS, lanes == 16 ? fma_16 : fma_8, &l);
        u = now();
        if (gflop / (u - t) > b.fma) b.fma = gflop / (u - t);
    }
#endif
}

/* Each thread on a processor of its own: left alone, the system puts two of them on one for seconds, and everything halves. */
static void pin_task(void *arg, int task, int worker)
{
    cpu_set_t all, one;
    int       nth = worker, cpu = 0;
    (void)task;
    if (((bool *)arg)[worker] || sched_getaffinity(0, sizeof all, &all)) return;
    for (; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &all) && nth-- == 0) break;
    CPU_ZERO(&one);
    if (cpu < CPU_SETSIZE) CPU_SET((size_t)cpu, &one);
    ((bool *)arg)[worker] = cpu == CPU_SETSIZE || sched_setaffinity(0, sizeof one, &one) == 0;
}
static void pin(void)
{
    bool done[1024] = {0};
    int  n = pool_threads(b.pool), left = n;
    for (int tries = 0; left > 0 && tries < 1000; tries++) {
        pool_run(b.pool, 64 * n, pin_task, done);
        left = 0;
        for (int i = 0; i < n; i++) left += !done[i];
    }
}

/* ---- one row of the table ---- */
/* Random bytes are good weights of every type, if some are infinite or none; but a processor may be slow with numbers that are
 * not normal, so the float types get what a model has: between -1 and 1. */
static void fill(Dtype t)
{
    Rng      r = {7, (uint64_t)t, 0};
    float    x[256];
    size_t   step = dtype_is_blocked(t) ? sizeof x : 256 * (size_t)dtype_info(t)->block_bytes;
    uint8_t *pattern = b.weights;
    enum { PATTERN = 1 << 20 };
    for (size_t at = 0; at + step <= PATTERN; at += step) {
        for (int i = 0; i < 256; i++) x[i] = (t == DT_F8_E4M3 ? 448 : 1) * (2 * rng_float(&r) - 1); /* scaled to E4M3's largest, as files are */
        if (dtype_is_blocked(t))
            memcpy(pattern + at, x, step);
        else
            dtype_from_f32(t, x, pattern + at, 256);
    }
    for (size_t at = PATTERN; at < b.bytes; at += PATTERN) memcpy(b.weights + at, pattern, b.bytes - at < PATTERN ? b.bytes - at : PATTERN);
}

static void bench_one(Shape s, Dtype t, int T)
{
    size_t bytes, xn = (size_t)T * (size_t)s.cols, yn = (size_t)T * (size_t)s.rows, sn = (size_t)f8_blocks(s.rows) * (size_t)f8_blocks(s.cols);
    real  *x = mem_pages(xn * sizeof *x), *y = mem_pages(yn * sizeof *y), *scale = mem_pages(sn * sizeof *scale);
    Rng    r = {1, 0, 0};
    double time[REPS_MAX], gflop = 2e-9 * T * s.rows * s.cols, med, gbyte;
    if (!x || !y || !scale || !dtype_bytes(t, s.rows, s.cols, &bytes) || bytes > b.bytes) exit(1);
    for (size_t i = 0; i < xn; i++) x[i] = 2 * rng_float(&r) - 1;
    for (size_t i = 0; i < sn; i++) scale[i] = 0.001f * rng_float(&r) + 1e-4f;
    size_t copies = b.bytes / bytes, inner = T <= 16 ? copies < 64 ? copies : 64 : 1, at = 0;
    for (int i = -1; i < b.reps; i++) {
        double from = now();
        for (size_t j = 0; j < inner; j++, at++) {
            Weight w = {.name = "w", .dtype = t, .rows = s.rows, .cols = s.cols, .data = b.weights + at % copies * bytes,
                        .scale = t == DT_F8_E4M3 ? scale : NULL};
            if (b.settled) w.settled = w.data; /* random either way */
            linear_rows(&b.ctx, &(Act){x, s.cols, NULL, NULL}, T, &w, NULL, y, s.rows);
        }
        if (i >= 0) time[i] = (now() - from) / (double)inner;
    }
    if (b.ctx.err.code) exit((fprintf(stderr, "bench_linear: %s\n", b.ctx.err.text), 1));
    med = median(time, b.reps);
    gbyte = (double)bytes * 1e-9;
    printf("%-8s %6dx%-5d %4d  %9.3f ms  %6.1f GB/s %4.0f%%  %7.1f GFLOP/s %4.0f%%   (%.3f to %.3f ms)\n", dtype_info(t)->name, s.rows, s.cols, T,
           med * 1e3, gbyte / med, b.read > 0 ? 100 * gbyte / med / b.read : 0, gflop / med, b.fma > 0 ? 100 * gflop / med / b.fma : 0,
           time[0] * 1e3, time[b.reps - 1] * 1e3);
    fflush(stdout);
    mem_pages_free(x, xn * sizeof *x);
    mem_pages_free(y, yn * sizeof *y);
    mem_pages_free(scale, sn * sizeof *scale);
}

static bool option(const char *name, const char *value)
{
    if (!value) return false;
    if (strcmp(name, "--type") == 0 && b.n_types < LIST_MAX) return dtype_from_name(value, strlen(value), &b.type[b.n_types++]);
    if (strcmp(name, "--rows") == 0 && b.n_rows < LIST_MAX) return (b.rows[b.n_rows++] = atoi(value)) > 0;
    if (strcmp(name, "--shape") == 0 && b.n_shapes < LIST_MAX) {
        Shape *s = &b.shape[b.n_shapes++];
        return sscanf(value, "%dx%d", &s->rows, &s->cols) == 2 && s->rows > 0 && s->cols > 0;
    }
    if (strcmp(name, "--settled") == 0) return (unsigned)(b.settled = atoi(value)) <= 1;
    if (strcmp(name, "--reps") == 0) return (b.reps = atoi(value)) > 0 && b.reps <= REPS_MAX;
    return false;
}

int main(int argc, char **argv)
{
    const char *isa = NULL;
    int         threads = 0;
    aha_error   e = {0};
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value && strcmp(argv[i], "--isa") == 0)
            isa = value;
        else if (value && strcmp(argv[i], "--threads") == 0)
            threads = atoi(value);
        else if (!option(argv[i], value))
            return fprintf(stderr, "usage: bench_linear [--type NAME]... [--rows N]... [--shape NxK]... [--isa NAME] [--threads N] [--reps N] [--settled 0|1]\n"), 2;
    }
    if (!b.n_types) memcpy(b.type, (Dtype[]){DT_BF16, DT_F16, DT_F8_E4M3}, sizeof(Dtype[3])), b.n_types = 3;
    if (!b.n_rows) memcpy(b.rows, (int[]){1, 4, 16, 64, 512}, sizeof(int[5])), b.n_rows = 5;
    if (!b.n_shapes) memcpy(b.shape, SHAPES, sizeof SHAPES), b.n_shapes = (int)ARRAY_LEN(SHAPES);
    b.k = cpu_kernels(isa, &e);
    b.pool = b.k ? pool_new(threads, &e) : NULL;
    if (!b.pool || ctx_init(&b.ctx, b.k, b.pool, 1 << 20, gemm_scratch(), &e)) return fprintf(stderr, "bench_linear: %s\n", e.text), 1;
    pin();
    for (int i = 0; i < b.n_shapes; i++)
        for (int j = 0; j < b.n_types; j++) {
            size_t n;
            if (!dtype_bytes(b.type[j], b.shape[i].rows, b.shape[i].cols, &n)) return fprintf(stderr, "bench_linear: a shape that the type has not\n"), 2;
            if (n > b.bytes) b.bytes = n;
        }
    if (b.bytes < WEIGHT_BYTES) b.bytes = WEIGHT_BYTES;
    if (!(b.weights = mem_pages(b.bytes))) return 1;
    printf("%s, %d threads\n", b.k->isa, pool_threads(b.pool));
    for (int j = 0; j < b.n_types; j++) {
        fill(b.type[j]);
        for (int i = 0; i < b.n_shapes; i++) {
            limits();
            printf("read %.1f GB/s, FMA %.1f GFLOP/s   %s\n", b.read, b.fma, b.shape[i].what ? b.shape[i].what : "");
            for (int m = 0; m < b.n_rows; m++) bench_one(b.shape[i], b.type[j], b.rows[m]);
        }
    }
    mem_pages_free(b.weights, b.bytes);
    ctx_free(&b.ctx);
    pool_free(b.pool);
    return 0;
}
