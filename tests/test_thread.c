/* A thread of one's own: it runs, is waited for, takes no signals; a wake is never lost; secrets come from the system or not at all. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "testlib.h"

enum { ROUNDS = 2000 };

typedef struct Two {
    Waker     *go, *done;
    atomic_int rounds;
    bool       blocked;
} Two;

static void echo(void *arg)
{
    Two     *t = arg;
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    t->blocked = sigismember(&set, SIGINT) && sigismember(&set, SIGTERM) && sigismember(&set, SIGHUP) && !sigismember(&set, SIGSEGV);
    while (atomic_load(&t->rounds) < ROUNDS) {
        if (!waker_wait(t->go, 30000)) return;
        atomic_fetch_add(&t->rounds, 1);
        waker_wake(t->done);
    }
}

static void test_wakes(void **state)
{
    aha_error e = {0};
    Two       t = {.go = waker_new(&e), .done = waker_new(&e)};
    Thread   *th;
    (void)state;
    assert_non_null(t.go);
    assert_non_null(t.done);
    ASSERT_OK(thread_start(&th, echo, &t, &e), e);
    for (int i = 0; i < ROUNDS; i++) {
        waker_wake(t.go);
        assert_true(waker_wait(t.done, 30000));
    }
    thread_join(th);
    assert_int_equal(atomic_load(&t.rounds), ROUNDS);
    assert_true(t.blocked);
    waker_free(t.go);
    waker_free(t.done);
    thread_join(NULL);
    waker_free(NULL);
}

/* A wake before the sleep counts, once; a sleep that nobody ends ends by itself, not early. */
static void test_sleep(void **state)
{
    aha_error e = {0};
    Waker    *w = waker_new(&e);
    (void)state;
    assert_non_null(w);
    waker_wake(w);
    waker_wake(w);
    assert_true(waker_wait(w, 0));
    assert_false(waker_wait(w, 0));
    uint64_t t0 = time_now_ns();
    assert_false(waker_wait(w, 1030));
    assert_true(time_now_ns() - t0 >= 1025u * 1000000u);
    waker_free(w);
}

static void test_faults(void **state)
{
    aha_error e = {0};
    Two       t = {.rounds = ROUNDS};
    Thread   *th;
    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) { /* its memory, its start */
        os_fault_arm(OS_FAULT_ALLOC, nth);
        assert_int_equal(thread_start(&th, echo, &t, &e), AHA_ERR_NOMEM);
        os_fault_arm(0, 0);
        assert_null(th);
    }
    os_fault_arm(OS_FAULT_ALLOC, 1);
    assert_null(waker_new(&e));
    os_fault_arm(0, 0);
    assert_int_equal(e.code, AHA_ERR_NOMEM);
}

/* Every byte of a long secret is drawn (none keeps what was there in two draws), and a failure is one. */
static void test_secret(void **state)
{
    uint8_t   a[700], b[700];
    int       same = 0, kept = 0;
    aha_error e = {0};
    (void)state;
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    ASSERT_OK(os_random_secret(a, sizeof a, &e), e);
    ASSERT_OK(os_random_secret(b, sizeof b, &e), e);
    for (size_t i = 0; i < sizeof a; i++) {
        same += a[i] == b[i];
        kept += !a[i] && !b[i];
    }
    assert_in_range(same, 0, 30); /* 2.7 are expected; more than 30 in one of 10^20 runs */
    assert_in_range(kept, 0, 8);
    for (uint64_t nth = 1; nth <= 3; nth++) {
        os_fault_arm(OS_FAULT_READ, nth);
        assert_int_equal(os_random_secret(a, sizeof a, &e), AHA_ERR_IO);
        os_fault_arm(0, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wakes), cmocka_unit_test(test_sleep), cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_secret)};
    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
