/* The thread pool: every task once, in ascending order of taking, from any thread, at any number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { TASKS_MAX = 1000 };
typedef struct Job {
    Pool      *pool;
    int        threads;
    int        ran[TASKS_MAX]; /* plain on purpose: the sanitizer sees whether runs are ordered */
    int        order[TASKS_MAX];
    atomic_int taken, wrong;
} Job;

static void count_task(void *arg, int task, int worker)
{
    Job *j = arg;
    if (worker < 0 || worker >= j->threads) atomic_fetch_add(&j->wrong, 1);
    j->ran[task]++;
    j->order[task] = atomic_fetch_add(&j->taken, 1);
}

static void run_checked(Pool *p, int n)
{
    Job j = {.pool = p, .threads = pool_threads(p)};
    pool_run(p, n, count_task, &j);
    for (int i = 0; i < TASKS_MAX; i++)
        if (j.ran[i] != (i < n)) fail();
    assert_int_equal(atomic_load(&j.taken), n < 0 ? 0 : n);
    assert_int_equal(atomic_load(&j.wrong), 0);
    /* a task starts late by at most the number of threads */
    if (pool_threads(p) == 1)
        for (int i = 0; i < n; i++) assert_int_equal(j.order[i], i);
}

static const int g_threads[] = {1, 2, 3, 7};

static void test_pool_runs(void **state)
{
    (void)state;
    run_checked(NULL, 10);
    assert_int_equal(pool_threads(NULL), 1);
    for (size_t t = 0; t < ARRAY_LEN(g_threads); t++) {
        aha_error e = {0};
        Pool *p = pool_new(g_threads[t], &e);
        assert_non_null(p);
        assert_int_equal(pool_threads(p), g_threads[t]);
        static const int n[] = {0, -1, 1, 2, 3, 8, TASKS_MAX};
        for (int round = 0; round < 50; round++)
            for (size_t i = 0; i < ARRAY_LEN(n); i++) run_checked(p, n[i]);
        pool_free(p);
    }
}

/* Runs of different functions back to back: a late worker must never mix them up. */
typedef struct Step {
    int64_t *cell;
    int64_t  add;
} Step;
static void add_task(void *arg, int task, int worker)
{
    Step *s = arg;
    (void)worker;
    s->cell[task] += s->add;
}
static void mul_task(void *arg, int task, int worker)
{
    Step *s = arg;
    (void)worker;
    s->cell[task] = s->cell[task] * 3 % 1000003;
}

static void test_pool_back_to_back(void **state)
{
    (void)state;
    int64_t want[8] = {0};
    for (size_t t = 0; t < ARRAY_LEN(g_threads); t++) {
        Pool *p = pool_new(g_threads[t], NULL);
        assert_non_null(p);
        int64_t cell[8] = {0};
        for (int i = 0; i < 5000; i++) {
            Step s = {cell, i};
            pool_run(p, 2 + i % 7, i % 2 ? add_task : mul_task, &s);
        }
        if (t == 0) memcpy(want, cell, sizeof want);
        assert_memory_equal(want, cell, sizeof want);
        pool_free(p);
    }
}

static void test_pool_sleeps(void **state)
{
    (void)state;
    setenv("AHA_SPIN_US", "0", 1);
    Pool *p = pool_new(2, NULL);
    unsetenv("AHA_SPIN_US");
    assert_non_null(p);
    for (int i = 0; i < 300; i++) run_checked(p, 1 + i % 20);
    pool_free(p);
    p = pool_new(2, NULL);
    for (int i = 0; i < 5; i++) { /* long enough between runs that the workers stop spinning */
        uint64_t until = time_now_ns() + 3000000;
        while (time_now_ns() < until) {}
        run_checked(p, 20);
    }
    pool_free(p);
}

/* ---- a run inside a task ---- */
static void inner_task(void *arg, int task, int worker)
{
    int *outer_worker = arg;
    (void)task;
    if (worker != *outer_worker) *outer_worker = -1;
}
static void outer_task(void *arg, int task, int worker)
{
    Job *j = arg;
    int seen = worker;
    pool_run(j->pool, 5, inner_task, &seen);
    if (seen != worker) atomic_fetch_add(&j->wrong, 1);
    count_task(j, task, worker);
}

static void test_pool_nested(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(g_threads); t++) {
        Pool *p = pool_new(g_threads[t], NULL);
        Job j = {.pool = p, .threads = pool_threads(p)};
        pool_run(p, 100, outer_task, &j);
        pool_run(p, 1, outer_task, &j);
        assert_int_equal(atomic_load(&j.taken), 101);
        assert_int_equal(atomic_load(&j.wrong), 0);
        run_checked(p, 9); /* afterwards it runs in parallel again */
        pool_free(p);
    }
}

/* ---- several callers ---- */
static void *caller_main(void *arg)
{
    Job *shared = arg;
    for (int i = 0; i < 300; i++) {
        Job j = {.pool = shared->pool, .threads = shared->threads};
        pool_run(j.pool, 10, count_task, &j);
        for (int k = 0; k < 10; k++)
            if (j.ran[k] != 1) atomic_fetch_add(&shared->wrong, 1);
        if (atomic_load(&j.wrong)) atomic_fetch_add(&shared->wrong, 1);
    }
    return NULL;
}

static void test_pool_callers(void **state)
{
    (void)state;
    Pool *p = pool_new(3, NULL);
    Job j = {.pool = p, .threads = 3};
    pthread_t t[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, caller_main, &j), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&j.wrong), 0);
    pool_free(p);
}

static void test_pool_errors(void **state)
{
    (void)state;
    aha_error e = {0};
    assert_null(pool_new(-1, &e));
    assert_int_equal(e.code, AHA_ERR_ARG);
    assert_null(pool_new(1025, &e));
    os_fault_arm(OS_FAULT_ALLOC, 0);
    pool_free(pool_new(4, &e));
    uint64_t calls = os_fault_seen();
    assert_true(calls >= 5);
    for (uint64_t nth = 1; nth <= calls; nth++) { /* the nth allocation or thread fails: nothing leaks, no deadlock */
        os_fault_arm(OS_FAULT_ALLOC, nth);
        assert_null(pool_new(4, &e));
        assert_int_equal(e.code, AHA_ERR_NOMEM);
    }
    os_fault_arm(0, 0);
    setenv("AHA_THREADS", "3", 1);
    Pool *p = pool_new(0, &e);
    assert_int_equal(pool_threads(p), 3);
    pool_free(p);
    setenv("AHA_THREADS", "4294967297", 1); /* 2^32 + 1 must not become 1 */
    assert_null(pool_new(0, &e));
    unsetenv("AHA_THREADS");
    p = pool_new(0, &e);
    assert_int_equal(pool_threads(p), os_cpus_usable());
    pool_free(p);
    pool_free(NULL);
}

/* Each task waits until all have begun, so that every thread must take part. */
static void meet_task(void *arg, int task, int worker)
{
    atomic_int *m = arg;
    (void)task, (void)worker;
    atomic_fetch_sub(m, 1);
    while (atomic_load_explicit(m, memory_order_relaxed) > 0) {}
}

/* Printed, not asserted: a busy machine proves nothing. */
static void test_pool_cost(void **state)
{
    (void)state;
    for (int threads = 1; threads <= os_cpus_usable() && threads <= 8; threads *= 2) {
        Pool *p = pool_new(threads, NULL);
        uint64_t best = UINT64_MAX;
        for (int i = 0; i < 50; i++) {
            uint64_t t0 = time_now_ns();
            for (int k = 0; k < 200; k++) {
                atomic_int m = threads;
                pool_run(p, threads, meet_task, &m);
            }
            uint64_t t = (time_now_ns() - t0) / 200;
            if (t < best) best = t;
        }
        print_message("pool_run that meets on %d threads: %llu ns\n", threads, (unsigned long long)best);
        pool_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_runs),   cmocka_unit_test(test_pool_back_to_back), cmocka_unit_test(test_pool_sleeps),
        cmocka_unit_test(test_pool_nested), cmocka_unit_test(test_pool_callers),      cmocka_unit_test(test_pool_errors),
        cmocka_unit_test(test_pool_cost),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
