/* What this computer does: bytes and operations a second. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

static double seconds_since(uint64_t start) { return (double)(time_now_ns() - start) / 1e9; }

/* ---- limits ---- */
/* A GiB is read once, in four passes: more than any cache keeps. */
enum { MEMORY_PASSES = 4, MEMORY_BYTES = 1 << 30, PASS_BYTES = MEMORY_BYTES / MEMORY_PASSES, PASS_TASKS = 32, TASK_BYTES = PASS_BYTES / PASS_TASKS };
enum { ROUNDS = 1 << 20, PEAK_PASSES = 3, THREADS_MAX = 1024 };
struct Meter {
    Pool    *pool;
    Peak     peak;
    uint8_t *data; /* [MEMORY_BYTES]; NULL: there was no memory for it */
    uint8_t *pass; /* the part to be read */
    float    fma[THREADS_MAX]; /* results, by task: they must be wanted */
    uint32_t dot8[THREADS_MAX];
    uint64_t sum[PASS_TASKS];
};

static void fill_task(void *arg, int task, int worker)
{
    (void)worker;
    memset(((Meter *)arg)->data + (size_t)task * TASK_BYTES, task, TASK_BYTES);
}
static void read_task(void *arg, int task, int worker)
{
    Meter *m = arg;
    (void)worker;
    m->sum[task] += m->peak.read(m->pass + (size_t)task * TASK_BYTES, TASK_BYTES);
}
static void fma_task(void *arg, int task, int worker)
{
    Meter *m = arg;
    (void)worker;
    m->peak.fma(ROUNDS, &m->fma[task]);
}
static void dot8_task(void *arg, int task, int worker)
{
    Meter *m = arg;
    (void)worker;
    m->peak.dot8(ROUNDS, &m->dot8[task]);
}

Meter *meter_new(Pool *pool, const Kernels *k)
{
    Meter *m = mem_zalloc(1, sizeof *m);
    if (!m) return NULL;
    m->pool = pool;
    m->peak = cpu_peak(k);
    if (os_memory_total() / 4 > MEMORY_BYTES) m->data = mem_pages(MEMORY_BYTES);
    if (m->data) pool_run(pool, MEMORY_PASSES * PASS_TASKS, fill_task, m);
    return m;
}

void meter_free(Meter *m)
{
    if (!m) return;
    if (m->data) mem_pages_free(m->data, MEMORY_BYTES);
    mem_free(m);
}

static double per_second(const Meter *m, int tasks, PoolFn fn, double work)
{
    uint64_t start = time_now_ns();
    pool_run(m->pool, tasks, fn, (void *)(uintptr_t)m);
    return work / seconds_since(start);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double best_of(const Meter *m, PoolFn fn, int ops)
{
    int    tasks = pool_threads(m->pool);
    double best = 0;
    for (int i = 0; i < PEAK_PASSES; i++) {
        double v = per_second(m, tasks, fn, (double)ROUNDS * ops * tasks);
        if (v > best) best = v;
    }
    return best;
}

Limits meter_read(Meter *m)
{
    Limits l = {.dot8_name = m->peak.dot8_name};
    double pass[MEMORY_PASSES];
    for (int i = 0; m->data && i < MEMORY_PASSES; i++) {
        m->pass = m->data + (size_t)i * PASS_BYTES;
        pass[i] = per_second(m, PASS_TASKS, read_task, PASS_BYTES);
    }
    if (m->data) {
        qsort(pass, MEMORY_PASSES, sizeof *pass, by_value);
        l.memory = (pass[1] + pass[2]) / 2;
    }
    l.fma = best_of(m, fma_task, m->peak.fma_ops);
    l.dot8 = best_of(m, dot8_task, m->peak.dot8_ops);
    return l;
}

Limits machine_limits(Pool *pool, const Kernels *k)
{
    Meter *m = meter_new(pool, k);
    Limits l = {.dot8_name = ""};
    if (m) l = meter_read(m);
    meter_free(m);
    return l;
}

/* ---- the program's own matrix product ---- */
enum { GEMM_SIZE = 768, GEMM_PASSES = 10 };
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
        for (int i = 0; i < GEMM_PASSES; i++) {
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
