/* The seam, threads beside the pool's: one that does something of its own, and how it is woken. */
#include "os_internal.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

struct Thread {
    pthread_t thread;
    void    (*fn)(void *);
    void     *arg;
};

static void *thread_main(void *arg)
{
    Thread *t = arg;
    t->fn(t->arg);
    return NULL;
}

int thread_start(Thread **out, void (*fn)(void *), void *arg, aha_error *e)
{
    static const int OWN[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    Thread          *t = mem_alloc(sizeof *t);
    sigset_t         block, old;
    int              r;
    *out = NULL;
    if (!t) return error_set(e, AHA_ERR_NOMEM, "no memory for a thread");
    *t = (Thread){.fn = fn, .arg = arg};
    sigfillset(&block); /* signals to the program are the main thread's; its own mistakes are every thread's */
    for (size_t i = 0; i < ARRAY_LEN(OWN); i++) sigdelset(&block, OWN[i]);
    pthread_sigmask(SIG_SETMASK, &block, &old);
    r = os_fault(OS_FAULT_ALLOC) ? -1 : pthread_create(&t->thread, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r) {
        mem_free(t);
        return error_set(e, AHA_ERR_NOMEM, "cannot start a thread%s%s", r > 0 ? ": " : "", r > 0 ? strerror(r) : "");
    }
    *out = t;
    return 0;
}

void thread_join(Thread *t)
{
    if (!t) return;
    pthread_join(t->thread, NULL);
    mem_free(t);
}

/* ---- waking ---- */
struct Waker {
    pthread_mutex_t lock;
    pthread_cond_t  cond;
    bool            woken; /* under lock */
};

#ifdef __APPLE__
#define WAKER_CLOCK CLOCK_REALTIME /* a condition variable knows no other there */
#else
#define WAKER_CLOCK CLOCK_MONOTONIC
#endif

Waker *waker_new(aha_error *e)
{
    Waker             *w = mem_zalloc(1, sizeof *w);
    pthread_condattr_t attr;
    bool               ok = w && !pthread_condattr_init(&attr);
    if (ok) {
#ifndef __APPLE__
        pthread_condattr_setclock(&attr, WAKER_CLOCK);
#endif
        ok = !pthread_mutex_init(&w->lock, NULL);
        if (ok && pthread_cond_init(&w->cond, &attr)) {
            pthread_mutex_destroy(&w->lock);
            ok = false;
        }
        pthread_condattr_destroy(&attr);
    }
    if (ok) return w;
    mem_free(w);
    error_set(e, AHA_ERR_NOMEM, "no memory for a thread's waking");
    return NULL;
}

void waker_free(Waker *w)
{
    if (!w) return;
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

void waker_wake(Waker *w)
{
    pthread_mutex_lock(&w->lock);
    w->woken = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

bool waker_wait(Waker *w, int ms)
{
    struct timespec t;
    bool            woken;
    clock_gettime(WAKER_CLOCK, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&w->lock);
    while (!w->woken && !pthread_cond_timedwait(&w->cond, &w->lock, &t)) {}
    woken = w->woken;
    w->woken = false;
    pthread_mutex_unlock(&w->lock);
    return woken;
}
