/* What the tests of keys share: a folder, a clock that stands still, a log that is read, databases written by hand. */
#ifndef AHA_TESTS_KEYSLIB_H
#define AHA_TESTS_KEYSLIB_H

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testlib.h"
#include "serve/keys.h"
#include "serve/keys_inner.h"
#include "sqlitelib.h"

static char g_dir[256], g_db[300];

static inline int keys_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    (void)state;
    if (!base || !*base) base = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; /* a busy disk takes seconds for an fsync */
    snprintf(g_dir, sizeof g_dir, "%s/aha-test-keys-XXXXXX", base);
    if (!mkdtemp(g_dir)) return -1;
    snprintf(g_db, sizeof g_db, "%s/aha.db", g_dir);
    return 0;
}
static inline int keys_teardown(void **state)
{
    (void)state;
    return dir_remove_all(g_dir, NULL);
}

static inline void db_remove(const char *db)
{
    char path[512];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", db, (const char *const[]){"", "-wal", "-shm", "-journal"}[i]);
        unlink(path);
    }
}
static inline const char *db_fresh(void)
{
    db_remove(g_db);
    return g_db;
}

/* ---- time ---- */
typedef struct Clock {
    _Atomic double   s;
    _Atomic uint64_t ns;
} Clock;
static inline double clock_now(void *c) { return ((Clock *)c)->s; }
static inline uint64_t clock_mono(void *c) { return ((Clock *)c)->ns; }
static inline void clock_pass(Clock *c, double s)
{
    c->s = c->s + s;
    c->ns = c->ns + (uint64_t)(s * 1e9);
}
#define CLOCK_BEGIN {1764028800.0 /* 2025-11-25, the first second */, 1000}
#define CLOCKED(c, ms) ((KeysOptions){clock_now, clock_mono, (c), (ms)})

/* ---- the log ---- */
static pthread_mutex_t g_log_lock = PTHREAD_MUTEX_INITIALIZER;
static char            g_log[1 << 16];
static inline void log_take(void *user, LogLevel level, const char *line)
{
    (void)user;
    pthread_mutex_lock(&g_log_lock);
    size_t n = strlen(g_log);
    snprintf(g_log + n, sizeof g_log - n, "%d %s\n", (int)level, line);
    pthread_mutex_unlock(&g_log_lock);
}
static inline void log_begin(void)
{
    pthread_mutex_lock(&g_log_lock);
    g_log[0] = 0;
    pthread_mutex_unlock(&g_log_lock);
    log_set(log_take, NULL, LOG_DEBUG);
}

/* ---- databases ---- */
static inline void sql(const char *db, const char *text)
{
    sqlite3 *c;
    char    *said = NULL;
    assert_int_equal(sqlite3_open(db, &c), SQLITE_OK);
    sqlite3_busy_timeout(c, 5000);
    if (sqlite3_exec(c, text, NULL, NULL, &said)) fail_msg("%s: %s", text, said);
    sqlite3_close(c);
}

static inline void add(const char *db, const char *name, KeyLimits l, int64_t expires, char key[KEY_TEXT_CAP])
{
    aha_error e = {0};
    KeySpec   s = {name, l, expires};
    ASSERT_OK(keys_add(db, &s, key, &e), e);
}
#define NO_LIMITS ((KeyLimits){0, 0, 0})

/* One request from beginning to end. */
static inline KeyAdmit ask(Keys *k, const char *key, int64_t prompt, int64_t completion, KeyRefusal *r)
{
    KeyGrant g = {0};
    KeyUsage u = {.prompt = prompt, .completion = completion};
    assert_int_equal(keys_check(k, key, strlen(key), &g), KEY_GOOD);
    KeyAdmit a = keys_admit(k, &g, 0, r);
    keys_done(k, &g, &u);
    return a;
}

/* Waits until cond holds, two minutes at most: the machine may do much else. */
#define WAIT_FOR(cond)                                                                                                 \
    do {                                                                                                              \
        uint64_t until_ = time_now_ns() + 120000000000u;                                                              \
        while (!(cond) && time_now_ns() < until_) usleep(5000);                                                       \
        if (!(cond)) fail_msg("not within two minutes: %s", #cond);                                                   \
    } while (0)

#endif
