/* Guarded memory, hostile data and pairs of outputs for the checks of kernels.
 * A buffer lies between two pages that fault, flush with one of them; the slack on the other side is filled and checked.
 * An output exists twice, for the reference [0] and for the kernel under test [1], with the same bytes at the start. */
#ifndef AHA_KERNLIB_H
#define AHA_KERNLIB_H

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "testlib.h"

enum { BUFS_MAX = 256, CANARY = 0xa5 };
typedef struct GuardBuf {
    uint8_t *map, *data;
    size_t   map_bytes, bytes;
} GuardBuf;
static GuardBuf bufs[BUFS_MAX];
static int      n_bufs;
typedef struct Out {
    float *p[2];
    size_t n;
} Out;
static Out outs[BUFS_MAX];
static int n_outs;

static Rng rnd;
static int pick(int lo, int hi) { return lo + (int)rng_below(&rnd, (uint32_t)(hi - lo + 1)); }
static bool coin(void) { return rng_below(&rnd, 2) != 0; }

static void *guarded(size_t bytes)
{
    size_t    page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page + (bytes == 0 ? page : 0);
    int       guard = getenv("TEST_EMULATED") ? PROT_READ : PROT_NONE; /* qemu 7.2 reads what a masked load of AVX leaves out */
    GuardBuf *b = &bufs[n_bufs++];
    assert_true(n_bufs <= BUFS_MAX);
    *b = (GuardBuf){mmap(NULL, body + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), NULL, body + 2 * page, bytes};
    assert_true(b->map != MAP_FAILED);
    memset(b->map + page, CANARY, body);
    b->data = b->map + page + (rng_below(&rnd, 4) ? body - bytes : 0); /* mostly flush with the end: over-reads are likelier */
    assert_int_equal(mprotect(b->map, page, guard) | mprotect(b->map + page + body, page, guard), 0);
    return b->data;
}

static void guards_check(const char *what)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < n_bufs; i++) {
        const GuardBuf *b = &bufs[i];
        for (const uint8_t *p = b->map + page; p < b->map + b->map_bytes - page; p++)
            if ((p < b->data || p >= b->data + b->bytes) && *p != CANARY) fail_msg("%s wrote outside of a buffer", what);
    }
}
static void guards_free(void)
{
    for (int i = 0; i < n_bufs; i++) munmap(bufs[i].map, bufs[i].map_bytes);
    n_bufs = n_outs = 0;
}

/* what numbers look like */
typedef enum { NUM_UNIT, NUM_WIDE, NUM_TINY, NUM_ZERO, NUM_HUGE, NUM_INF, NUM_KINDS } NumKind;
static float number(NumKind kind)
{
    float u = 2 * rng_float(&rnd) - 1;
    switch (kind) {
    case NUM_WIDE: return ldexpf(u, pick(-40, 40));
    case NUM_TINY: return ldexpf(u, pick(-149, -120));
    case NUM_ZERO: return coin() ? (coin() ? 0.0f : -0.0f) : u;
    case NUM_HUGE: return ldexpf(u, pick(90, 127));
    case NUM_INF: return rng_below(&rnd, 40) ? u : (coin() ? INFINITY : -INFINITY);
    default: return u;
    }
}
static void fill(float *p, size_t n, NumKind kind)
{
    for (size_t i = 0; i < n; i++) p[i] = number(kind);
}
static float *input(size_t n, NumKind kind)
{
    float *p = guarded(n * sizeof *p);
    fill(p, n, kind);
    return p;
}
/* n elements of a type; bits at random now and then for the small ones */
static void fill_typed(Dtype t, void *dst, size_t n, NumKind kind)
{
    uint16_t *h = dst;
    if (t == DT_F32)
        fill(dst, n, kind);
    else if (t == DT_Q8_0)
        for (size_t i = 0; i < n / KV_Q8_COLS; i++) {
            uint8_t *b = (uint8_t *)dst + i * KV_Q8_BYTES;
            fill_typed(DT_F16, b, 1, kind);
            for (int j = 0; j < KV_Q8_COLS; j++) b[2 + j] = (uint8_t)rng_u32(&rnd);
        }
    else
        for (size_t i = 0; i < n; i++) {
            float f = number(kind);
            h[i] = kind == NUM_INF ? (uint16_t)rng_u32(&rnd) : t == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
        }
}
static void *input_typed(Dtype t, size_t n, NumKind kind)
{
    void *p = guarded(n * (t == DT_F32 ? 4 : 2));
    fill_typed(t, p, n, kind);
    return p;
}
static Out *output(size_t n, NumKind kind)
{
    Out *o = &outs[n_outs++];
    *o = (Out){{input(n, kind), guarded(n * sizeof(float))}, n};
    if (n) memcpy(o->p[1], o->p[0], n * sizeof(float));
    return o;
}

static bool same(float a, float b) { return a == b || (a != a && b != b); }
static void outs_check(const char *what)
{
    for (int o = 0; o < n_outs; o++)
        for (size_t i = 0; i < outs[o].n; i++)
            if (!same(outs[o].p[0][i], outs[o].p[1][i]))
                fail_msg("%s: output %d, element %zu of %zu is %.9g, the reference has %.9g", what, o, i, outs[o].n,
                         (double)outs[o].p[1][i], (double)outs[o].p[0][i]);
    guards_check(what);
}

/* The checked cases timed, when asked for (test_kernels --bench): the best of several runs over all items of each, summed. */
static struct {
    bool   on;
    double s[2]; /* reference, kernel under test */
} timing;
static double best_s(KernelFn *fn, const void *args, int64_t items, void *scratch)
{
    double best = 1e30;
    for (int i = 0; i < 5; i++) {
        uint64_t t = time_now_ns();
        fn(args, 0, items, scratch);
        double   s = (double)(time_now_ns() - t) * 1e-9;
        best = s < best ? s : best;
    }
    return best;
}

/* Both kernels over a random part of the items; the one under test in random pieces, which may not matter. */
static void run_both(KernelFn *ref, KernelFn *fast, const void *aref, const void *afast, int64_t items, size_t scratch,
                     const char *what)
{
    int64_t i0 = coin() ? 0 : pick(0, (int)items), i1 = coin() ? items : pick((int)i0, (int)items);
    void   *s = guarded(scratch);
    ref(aref, i0, i1, s);
    if (scratch) memset(s, 0xff, scratch); /* NaN: nothing may be read before it is written */
    for (int64_t i = i0; i < i1;) {
        int64_t e = pick((int)i + 1, (int)i1);
        fast(afast, i, e, s);
        i = e;
    }
    outs_check(what);
    for (int w = 0; timing.on && w < 2; w++) timing.s[w] += best_s(w ? fast : ref, w ? afast : aref, items, s);
}

#endif
