/* Threads: one persistent pool, fork-join.
 *
 * A run is published as one 64-bit word: its number (epoch) above, the tasks not yet taken below.  A task is taken by
 * compare-and-swap on that word, so a worker that comes late can never take a task of a run it has not looked at, and
 * the caller need not wait for workers that found nothing to do.  The fields of a run are written only while no task is
 * left, and read before the swap that takes one: whoever takes a task has read the fields of its run. */
#include "os_internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { THREADS_MAX = 1024, STACK_BYTES = 2 << 20, LINE = 64 };

typedef struct Worker {
    Pool     *pool;
    int       number;
    pthread_t thread;
} Worker;

struct Pool {
    int             threads;
    uint64_t        spin_ns;
    pthread_mutex_t run_lock; /* one run at a time; other callers wait */
    pthread_mutex_t lock;     /* the two condition variables */
    pthread_cond_t  work_cond, done_cond;
    bool            stop; /* under lock */
    Worker         *workers;

    _Alignas(LINE) _Atomic(uint64_t) word; /* epoch << 32 | tasks left */
    _Atomic(PoolFn) fn;
    _Atomic(void *) arg;
    _Atomic(uint32_t) n_tasks;
    atomic_int sleepers;
    _Alignas(LINE) _Atomic(uint32_t) done; /* tasks finished in this run */
    atomic_int caller_sleeps;
};

/* The pool whose task this thread is running, and as which worker: a run from inside a task is done on the spot. */
static _Thread_local const Pool *t_pool;
static _Thread_local int         t_worker;

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t epoch_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

/* Takes and runs tasks until none is left. */
static void work(Pool *p, int worker)
{
    uint32_t mine = 0, n = 0;
    for (;;) {
        uint64_t w = atomic_load_explicit(&p->word, memory_order_acquire);
        uint32_t left = (uint32_t)w;
        if (!left) break;
        PoolFn fn = atomic_load_explicit(&p->fn, memory_order_relaxed);
        void *arg = atomic_load_explicit(&p->arg, memory_order_relaxed);
        n = atomic_load_explicit(&p->n_tasks, memory_order_relaxed);
        if (!atomic_compare_exchange_weak_explicit(&p->word, &w, w - 1, memory_order_acq_rel, memory_order_relaxed))
            continue;
        fn(arg, (int)(n - left), worker);
        mine++;
    }
    if (!mine) return;
    /* Sequentially consistent with caller_sleeps: either we see the sleeper, or it sees the last task done. */
    if (atomic_fetch_add(&p->done, mine) + mine == n && atomic_load(&p->caller_sleeps)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->done_cond);
        pthread_mutex_unlock(&p->lock);
    }
}

/* Waits for a run later than `seen`, or for the end: false. */
static bool wait_for_work(Pool *p, uint32_t seen)
{
    if (p->spin_ns) {
        uint64_t until = time_now_ns() + p->spin_ns;
        do {
            for (int i = 0; i < 32; i++) {
                if (epoch_of(atomic_load_explicit(&p->word, memory_order_acquire)) != seen) return true;
                cpu_relax();
            }
        } while (time_now_ns() < until);
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (!p->stop && epoch_of(atomic_load(&p->word)) == seen) pthread_cond_wait(&p->work_cond, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    bool go = !p->stop;
    pthread_mutex_unlock(&p->lock);
    return go;
}

static void *worker_main(void *arg)
{
    Worker *w = arg;
    Pool *p = w->pool;
    uint32_t seen = 0;
    t_pool = p;
    t_worker = w->number;
    while (wait_for_work(p, seen)) {
        seen = epoch_of(atomic_load_explicit(&p->word, memory_order_acquire));
        work(p, w->number);
    }
    return NULL;
}

static void wait_for_done(Pool *p, uint32_t n)
{
    uint64_t until = p->spin_ns ? time_now_ns() + p->spin_ns : 0;
    for (;;) {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(&p->done, memory_order_acquire) == n) return;
            if (!p->spin_ns) break;
            cpu_relax();
        }
        if (!p->spin_ns || time_now_ns() >= until) break;
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, 1);
    while (atomic_load(&p->done) != n) pthread_cond_wait(&p->done_cond, &p->lock);
    atomic_store(&p->caller_sleeps, 0);
    pthread_mutex_unlock(&p->lock);
}

static void wake(Pool *p, int n_tasks)
{
    int asleep = atomic_load(&p->sleepers); /* after the word was published: see wait_for_work */
    if (!asleep) return;
    pthread_mutex_lock(&p->lock);
    if (n_tasks - 1 >= asleep) pthread_cond_broadcast(&p->work_cond);
    else
        for (int i = 1; i < n_tasks; i++) pthread_cond_signal(&p->work_cond);
    pthread_mutex_unlock(&p->lock);
}

static void run_here(const Pool *p, int worker, int n_tasks, PoolFn fn, void *arg)
{
    const Pool *outer = t_pool;
    int outer_worker = t_worker;
    if (p) {
        t_pool = p;
        t_worker = worker;
    }
    for (int i = 0; i < n_tasks; i++) fn(arg, i, worker);
    t_pool = outer;
    t_worker = outer_worker;
}

void pool_run(Pool *p, int n_tasks, PoolFn fn, void *arg)
{
    if (n_tasks <= 0) return;
    if (!p || t_pool == p) {
        run_here(p, p ? t_worker : 0, n_tasks, fn, arg);
        return;
    }
    pthread_mutex_lock(&p->run_lock);
    if (p->threads == 1 || n_tasks == 1) run_here(p, 0, n_tasks, fn, arg);
    else {
        const Pool *outer = t_pool;
        int outer_worker = t_worker;
        t_pool = p;
        t_worker = 0;
        uint32_t epoch = epoch_of(atomic_load_explicit(&p->word, memory_order_relaxed)) + 1;
        atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
        atomic_store_explicit(&p->arg, arg, memory_order_relaxed);
        atomic_store_explicit(&p->n_tasks, (uint32_t)n_tasks, memory_order_relaxed);
        atomic_store_explicit(&p->done, 0, memory_order_relaxed);
        atomic_store(&p->word, (uint64_t)epoch << 32 | (uint32_t)n_tasks);
        wake(p, n_tasks);
        work(p, 0);
        wait_for_done(p, (uint32_t)n_tasks);
        t_pool = outer;
        t_worker = outer_worker;
    }
    pthread_mutex_unlock(&p->run_lock);
}

/* ---- birth and death ---- */
static int workers_start(Pool *p, aha_error *e)
{
    /* Signals are for the program's own threads; those that a worker raises itself (SIGBUS of a truncated model file)
     * must reach it. */
    sigset_t block, old;
    sigfillset(&block);
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) sigdelset(&block, own[i]);
    pthread_attr_t attr;
    if (pthread_attr_init(&attr)) return error_set(e, AHA_ERR_NOMEM, "no memory for a thread");
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES); /* some C libraries give 128 KiB */
    pthread_sigmask(SIG_SETMASK, &block, &old);
    int want = p->threads, rc = 0;
    p->threads = 1;
    for (int i = 1; i < want; i++) {
        Worker *w = &p->workers[i];
        *w = (Worker){.pool = p, .number = i};
        /* a thread is memory first of all: the same injected fault */
        int r = os_fault(OS_FAULT_ALLOC) ? -1 : pthread_create(&w->thread, &attr, worker_main, w);
        if (r) {
            rc = error_set(e, AHA_ERR_NOMEM, "cannot start thread %d of %d%s%s", i + 1, want, r > 0 ? ": " : "",
                           r > 0 ? strerror(r) : "");
            break;
        }
        p->threads = i + 1;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

Pool *pool_new(int threads, aha_error *e)
{
    int usable = os_cpus_usable();
    if (threads == 0) {
        int64_t knob = knob_int("AHA_THREADS");
        threads = knob > THREADS_MAX ? THREADS_MAX + 1 : knob > 0 ? (int)knob : usable;
    }
    if (threads < 0 || threads > THREADS_MAX) {
        error_set(e, AHA_ERR_ARG, "%d threads, 1 to %d expected", threads, THREADS_MAX);
        return NULL;
    }
    Pool *p = mem_pages(sizeof *p);
    if (p) p->workers = mem_zalloc((size_t)threads, sizeof *p->workers);
    if (!p || !p->workers) {
        if (p) mem_pages_free(p, sizeof *p);
        error_set(e, AHA_ERR_NOMEM, "no memory for a pool of %d threads", threads);
        return NULL;
    }
    /* With more threads than processors a spinning thread only keeps a working one from running. */
    int64_t spin_us = threads > usable ? 0 : knob_int("AHA_SPIN_US");
    p->spin_ns = (uint64_t)(spin_us > 1000000 ? 1000000 : spin_us) * 1000;
    pthread_mutex_init(&p->run_lock, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work_cond, NULL);
    pthread_cond_init(&p->done_cond, NULL);
    p->threads = threads;
    if (workers_start(p, e)) {
        pool_free(p);
        return NULL;
    }
    return p;
}

void pool_free(Pool *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work_cond);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i < p->threads; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done_cond);
    pthread_cond_destroy(&p->work_cond);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->run_lock);
    mem_free(p->workers);
    mem_pages_free(p, sizeof *p);
}

int pool_threads(const Pool *p)
{
    return p ? p->threads : 1;
}
