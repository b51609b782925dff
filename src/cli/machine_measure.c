/* What this computer does: bytes and multiply-adds a second. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define BEST_OF 5
static double seconds_since(uint64_t start) { return (double)(time_now_ns() - start) / 1e9; }

/* ---- memory ---- */
enum { MEMORY_BYTES = 512 << 20, MEMORY_TASKS = 64 };
typedef uint64_t Vec __attribute__((vector_size(32)));
typedef struct MemoryRead {
    const Vec *data;
    Vec        sum[MEMORY_TASKS];
} MemoryRead;

static void memory_task(void *arg, int task, int worker)
{
    MemoryRead *m = arg;
    size_t      n = MEMORY_BYTES / MEMORY_TASKS / sizeof(Vec);
    const Vec  *p = m->data + (size_t)task * n;
    Vec         s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    (void)worker;
    for (size_t i = 0; i < n; i += 4) {
        s0 += p[i];
        s1 += p[i + 1];
        s2 += p[i + 2];
        s3 += p[i + 3];
    }
    m->sum[task] += s0 + s1 + s2 + s3; /* wanted, or nothing would be read */
}

static void memory_fill(void *arg, int task, int worker)
{
    size_t n = MEMORY_BYTES / MEMORY_TASKS;
    (void)worker;
    memset((uint8_t *)arg + (size_t)task * n, task, n);
}

double measure_memory(Pool *pool)
{
    void       *data = os_memory_total() / 4 > MEMORY_BYTES ? mem_pages(MEMORY_BYTES) : NULL;
    MemoryRead *m = mem_pages(sizeof *m); /* aligned for vectors */
    double      best = 0;
    if (data && m) {
        m->data = data;
        pool_run(pool, MEMORY_TASKS, memory_fill, data);
        for (int i = 0; i < BEST_OF; i++) {
            uint64_t start = time_now_ns();
            pool_run(pool, MEMORY_TASKS, memory_task, m);
            double speed = MEMORY_BYTES / seconds_since(start);
            if (speed > best) best = speed;
        }
    }
    if (data) mem_pages_free(data, MEMORY_BYTES);
    if (m) mem_pages_free(m, sizeof *m);
    return best;
}

/* ---- multiply-adds ---- ten independent chains fill the units; each is a variable of its own, so that it stays in a register */
enum { FMA_ROUNDS = 1 << 21, FMA_CHAINS = 10 };
typedef struct Fma {
    int   lanes; /* of one instruction */
    void (*run)(float *out);
} Fma;

#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
static void fma_plain(float *out)
{
    float a = 0.999f, b = 0.5f;
#define X(n) float s##n = n;
    CHAINS(X)
#undef X
#define X(n) s##n = s##n * a + b;
    for (int i = 0; i < FMA_ROUNDS; i++) { CHAINS(X) }
#undef X
#define X(n) *out += s##n;
    CHAINS(X)
#undef X
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void fma_avx2(float *out)
{
    __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.5f);
#define X(n) __m256 s##n = _mm256_set1_ps(n);
    CHAINS(X)
#undef X
#define X(n) s##n = _mm256_fmadd_ps(s##n, a, b);
    for (int i = 0; i < FMA_ROUNDS; i++) { CHAINS(X) }
#undef X
#define X(n) *out += _mm256_cvtss_f32(s##n);
    CHAINS(X)
#undef X
}
__attribute__((target("avx512f"))) static void fma_avx512(float *out)
{
    __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.5f);
#define X(n) __m512 s##n = _mm512_set1_ps(n);
    CHAINS(X)
#undef X
#define X(n) s##n = _mm512_fmadd_ps(s##n, a, b);
    for (int i = 0; i < FMA_ROUNDS; i++) { CHAINS(X) }
#undef X
#define X(n) *out += _mm512_cvtss_f32(s##n);
    CHAINS(X)
#undef X
}
#elif defined(__aarch64__)
static void fma_neon(float *out)
{
    float32x4_t a = vdupq_n_f32(0.999f), b = vdupq_n_f32(0.5f);
#define X(n) float32x4_t s##n = vdupq_n_f32(n);
    CHAINS(X)
#undef X
#define X(n) s##n = vfmaq_f32(b, s##n, a);
    for (int i = 0; i < FMA_ROUNDS; i++) { CHAINS(X) }
#undef X
#define X(n) *out += vgetq_lane_f32(s##n, 0);
    CHAINS(X)
#undef X
}
#endif

/* by the newest set: that of AVX-512's neural-network instructions multiplies floats as "avx512" does */
static Fma fma_of(const char *isa)
{
    if (!strcmp(isa, "ref")) return (Fma){1, fma_plain};
#if defined(__x86_64__)
    return !strncmp(isa, "avx512", 6) ? (Fma){16, fma_avx512} : (Fma){8, fma_avx2};
#elif defined(__aarch64__)
    return (Fma){4, fma_neon};
#else
    return (Fma){1, fma_plain};
#endif
}

typedef struct FmaRun {
    Fma   f;
    float out[1024]; /* by task: the sums must be wanted */
} FmaRun;

static void fma_task(void *arg, int task, int worker)
{
    FmaRun *r = arg;
    (void)worker;
    r->f.run(&r->out[task]);
}

double measure_fma(Pool *pool, const char *isa)
{
    FmaRun *r = mem_zalloc(1, sizeof *r);
    double  best = 0;
    int     tasks = pool_threads(pool);
    if (!r) return 0;
    r->f = fma_of(isa);
    for (int i = 0; i < BEST_OF; i++) {
        uint64_t start = time_now_ns();
        pool_run(pool, tasks, fma_task, r);
        double speed = 2.0 * FMA_ROUNDS * FMA_CHAINS * r->f.lanes * tasks / seconds_since(start);
        if (speed > best) best = speed;
    }
    mem_free(r);
    return best;
}

/* ---- the program's own matrix product ---- */
enum { GEMM_SIZE = 768 };
typedef struct GemmRun {
    const Kernels *k;
    GemmArgs       a;
    uint8_t       *scratch;
} GemmRun;

static void gemm_task(void *arg, int task, int worker)
{
    GemmRun *g = arg;
    g->k->gemm(&g->a, task, task + 1, g->scratch + (size_t)worker * gemm_scratch());
}

double measure_gemm(Pool *pool, const Kernels *k)
{
    size_t n = (size_t)GEMM_SIZE * GEMM_SIZE, scratch = gemm_scratch() * (size_t)pool_threads(pool);
    real  *m = mem_pages(3 * n * sizeof *m);
    GemmRun g = {.k = k, .scratch = mem_pages(scratch)};
    int    tiles = ((GEMM_SIZE + GEMM_TILE_M - 1) / GEMM_TILE_M) * ((GEMM_SIZE + GEMM_TILE_N - 1) / GEMM_TILE_N);
    double best = 0;
    if (m && g.scratch) {
        for (size_t i = 0; i < 2 * n; i++) m[i] = (real)(i % 7) - 3;
        g.a = (GemmArgs){.M = GEMM_SIZE, .N = GEMM_SIZE, .K = GEMM_SIZE, .a = m, .a_row = GEMM_SIZE, .a_k = 1, .b = m + n,
                         .b_row = GEMM_SIZE, .b_k = 1, .b_type = DT_F32, .c = m + 2 * n, .c_row = GEMM_SIZE};
        for (int i = 0; i < 2 * BEST_OF; i++) {
            uint64_t start = time_now_ns();
            pool_run(pool, tiles, gemm_task, &g);
            double speed = 2.0 * GEMM_SIZE * GEMM_SIZE * GEMM_SIZE / seconds_since(start);
            if (speed > best) best = speed;
        }
    }
    if (m) mem_pages_free(m, 3 * n * sizeof *m);
    if (g.scratch) mem_pages_free(g.scratch, scratch);
    return best;
}

/* ---- disk ---- */
enum { DISK_READERS = 4, DISK_BLOCK = 1 << 20 };
typedef struct DiskRead {
    File    file;
    size_t  bytes; /* of each reader */
    uint8_t *block; /* [DISK_READERS, DISK_BLOCK], as aligned as O_DIRECT asks */
    int     rc[DISK_READERS];
} DiskRead;

static void disk_task(void *arg, int task, int worker)
{
    DiskRead *d = arg;
    (void)worker;
    for (size_t at = 0; at < d->bytes && d->rc[task] == 0; at += DISK_BLOCK)
        d->rc[task] = file_pread(&d->file, d->block + (size_t)task * DISK_BLOCK, DISK_BLOCK, (int64_t)(d->bytes * (size_t)task + at), NULL);
}

static int disk_error(aha_error *e, const char *dir, const char *what)
{
    return error_set(e, AHA_ERR_IO, "cannot %s a file in '%.300s': %s", what, dir, strerror(errno));
}

/* A file without a name, written and pushed to the disk. */
static int disk_file(File *f, const char *dir, size_t bytes, uint8_t *block, aha_error *e)
{
    int rc = 0;
    *f = (File){.fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    if (f->fd < 0) return disk_error(e, dir, "create");
    for (size_t at = 0; at < bytes && rc == 0; at += DISK_BLOCK) {
        for (size_t i = 0; i < DISK_BLOCK; i += 8) { /* nothing that a file system could compress */
            uint64_t x = (at + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
            memcpy(block + i, &x, 8);
        }
        rc = file_write(f, block, DISK_BLOCK, e);
    }
    return rc ? rc : file_sync(f, e);
}

int measure_disk(DiskSpeed *out, const char *dir, size_t bytes, aha_error *e)
{
    DiskRead d = {.bytes = bytes / DISK_READERS};
    char     path[64];
    int      direct = -1, rc;
    Pool    *readers = pool_new(DISK_READERS, e);
    File     f = {.fd = -1};
    *out = (DiskSpeed){0};
    d.block = mem_pages((size_t)DISK_READERS * DISK_BLOCK);
    rc = readers && d.block ? disk_file(&f, dir, bytes, d.block, e) : error_set(e, AHA_ERR_NOMEM, "no memory to read the disk");
    if (rc == 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", f.fd);
        direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
        d.file.fd = direct >= 0 ? direct : f.fd;
        uint64_t start = time_now_ns();
        pool_run(readers, DISK_READERS, disk_task, &d);
        *out = (DiskSpeed){(double)bytes / seconds_since(start), direct >= 0};
        for (int i = 0; i < DISK_READERS && rc == 0; i++)
            if (d.rc[i]) rc = error_set(e, AHA_ERR_IO, "reading back a file in '%.300s' failed", dir);
    }
    if (direct >= 0) file_close(&d.file);
    file_close(&f);
    pool_free(readers);
    if (d.block) mem_pages_free(d.block, (size_t)DISK_READERS * DISK_BLOCK);
    return rc;
}
