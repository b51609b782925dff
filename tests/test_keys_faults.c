/* Keys when things go wrong: a database that is locked, full, gone, damaged, foreign, older or newer; memory and calls that fail. */
#include "serve/keys.h"
#include "keyslib.h"

static void copy_file(const char *from, const char *to)
{
    char     *text;
    size_t    n;
    aha_error e = {0};
    ASSERT_OK(file_read_all(from, 16 << 20, &text, &n, &e), e);
    ASSERT_OK(file_write_atomic(to, text, n, &e), e);
    mem_free(text);
}

/* Opened, used and closed: what the file holds must not bring anything down.  The code that opening gave. */
static int try_database(const char *db, aha_error *e)
{
    Keys    *k;
    KeyInfo *l;
    KeyDay  *d;
    KeyGrant g = {0};
    int      n, rc = keys_open(&k, db, NULL, e);
    aha_error other = {0};
    if (rc == 0) {
        keys_check(k, "aha-0000000000000000000000000000000000000000000", KEY_LEN, &g);
        keys_admit(k, &g, 0, NULL);
        keys_done(k, &g, &(KeyUsage){.prompt = 1});
        keys_close(k);
    }
    if (!keys_list(db, &l, &n, &other)) mem_free(l);
    if (!keys_usage(db, NULL, 0, &d, &n, &other)) mem_free(d);
    return rc;
}

static void refused(const char *db, int code, const char *words)
{
    aha_error e = {0};
    int       rc = try_database(db, &e);
    if (rc != code || !strstr(e.text, words)) fail_msg("%d '%s', expected %d with '%s'", rc, e.text, code, words);
}

/* ---- a file that cannot be written ---- */
/* Requests meanwhile: answered at once, and counted afterwards. */
static void requests_while_broken(Keys *k, const char *key, int n)
{
    KeysStats s;
    WAIT_FOR((ask(k, key, 1, 1, NULL), keys_stats(k, &s), s.failures > 0));
    os_alloc_guard(true);
    uint64_t t0 = time_now_ns();
    for (int i = 0; i < n; i++) assert_int_equal(ask(k, key, 1, 1, NULL), KEY_ADMITTED);
    double ms = (double)(time_now_ns() - t0) * 1e-6;
    assert_int_equal(os_alloc_guard(false), 0);
    if (ms > 60000) fail_msg("%d requests took %g ms while the database could not be written", n, ms); /* had they waited: hours */
}

static int64_t requests_of(const char *db, const char *name)
{
    KeyDay   *d;
    int       n;
    int64_t   sum = 0;
    aha_error e = {0};
    ASSERT_OK(keys_usage(db, name, 0, &d, &n, &e), e);
    for (int i = 0; i < n; i++) sum += d[i].u.requests;
    mem_free(d);
    return sum;
}

static void test_locked(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Keys       *k;
    KeysOptions o = {.poll_ms = 10};
    KeysStats   s;
    sqlite3    *other;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", NO_LIMITS, 0, key);
    log_begin();
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    assert_int_equal(sqlite3_open(db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    requests_while_broken(k, key, 5000);
    keys_stats(k, &s);
    assert_true(s.unwritten >= 5000 && s.lost == 0);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    WAIT_FOR((keys_stats(k, &s), s.failures == 0 && s.unwritten == 0));
    keys_close(k);
    log_set(NULL, NULL, LOG_ERROR);
    assert_true(requests_of(db, "alice") >= 5001);
    assert_non_null(strstr(g_log, "locked by another program"));
    assert_non_null(strstr(g_log, "works again"));
    char *first = strstr(g_log, "locked by another");
    assert_null(strstr(first + 1, "locked by another")); /* said once, not every second */
}

static void test_full_disk(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Keys       *k;
    KeysOptions o = {.poll_ms = 10};
    KeysStats   s;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", NO_LIMITS, 0, key);
    log_begin();
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    sqlite_fail(FAIL_WRITE, 0);
    requests_while_broken(k, key, 1000);
    sqlite_fail(0, 0);
    WAIT_FOR((keys_stats(k, &s), s.failures == 0 && s.unwritten == 0));
    assert_non_null(strstr(g_log, "the disk is full"));
    int64_t before = requests_of(db, "alice");
    assert_true(before >= 1000);
    sqlite_fail(FAIL_WRITE, 0); /* and one that stays full until the end: counted as lost */
    for (int i = 0; i < 7; i++) ask(k, key, 1, 1, NULL);
    keys_close(k);
    sqlite_fail(0, 0);
    log_set(NULL, NULL, LOG_ERROR);
    assert_non_null(strstr(g_log, "usage of 7 requests is lost"));
    assert_int_equal(requests_of(db, "alice"), before);
}

/* Days without a file that can be written: the oldest is given up, and counted. */
static void test_days_lost(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Clock       c = CLOCK_BEGIN;
    Keys       *k;
    KeysOptions o = CLOCKED(&c, 10);
    KeysStats   s;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", NO_LIMITS, 0, key);
    log_begin();
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    sqlite_fail(FAIL_WRITE, 0);
    WAIT_FOR((ask(k, key, 1, 1, NULL), keys_stats(k, &s), s.failures > 0));
    WAIT_FOR((keys_stats(k, &s), s.failures > 1));
    int64_t first = s.unwritten;
    for (int day = 1; day <= PENDING_DAYS; day++) {
        clock_pass(&c, 86400);
        ask(k, key, 1, 1, NULL);
    }
    WAIT_FOR((keys_stats(k, &s), s.lost == first && s.unwritten == PENDING_DAYS)); /* an attempt may be under way */
    sqlite_fail(0, 0);
    WAIT_FOR((keys_stats(k, &s), s.failures == 0 && s.unwritten == 0));
    keys_close(k);
    log_set(NULL, NULL, LOG_ERROR);
    assert_int_equal(requests_of(db, "alice"), PENDING_DAYS);
    assert_non_null(strstr(g_log, "requests is lost"));
}

/* The file is taken away, and another put in its place. */
static void test_moved(void **state)
{
    char        key[2][KEY_TEXT_CAP], other[320];
    aha_error   e = {0};
    Keys       *k;
    KeysOptions o = {.poll_ms = 10};
    KeysStats   s;
    KeyGrant    g = {0};
    const char *db = db_fresh();
    (void)state;
    snprintf(other, sizeof other, "%s/other.db", g_dir);
    db_remove(other);
    add(db, "alice", NO_LIMITS, 0, key[0]);
    add(other, "bob", NO_LIMITS, 0, key[1]);
    log_begin();
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    db_remove(db);
    WAIT_FOR((keys_stats(k, &s), s.failures > 0));
    assert_int_equal(ask(k, key[0], 1, 1, NULL), KEY_ADMITTED); /* as before */
    assert_true(keys_required(k));
    assert_false(file_exists(db));
    assert_int_equal(rename(other, db), 0);
    WAIT_FOR(keys_check(k, key[1], KEY_LEN, &g) == KEY_GOOD);
    assert_int_equal(keys_check(k, key[0], KEY_LEN, &g), KEY_UNKNOWN);
    ask(k, key[1], 1, 1, NULL);
    keys_close(k);
    log_set(NULL, NULL, LOG_ERROR);
    assert_int_equal(requests_of(db, "bob"), 1);
}

/* Another database is copied into it while it serves, as sqlite3's .restore does. */
static void test_restored(void **state)
{
    char            key[2][KEY_TEXT_CAP], other[320];
    aha_error       e = {0};
    Keys           *k;
    KeysOptions     o = {.poll_ms = 10};
    KeyGrant        g = {0};
    sqlite3        *from, *to;
    sqlite3_backup *b;
    const char     *db = db_fresh();
    (void)state;
    snprintf(other, sizeof other, "%s/other.db", g_dir);
    db_remove(other);
    add(other, "bob", NO_LIMITS, 0, key[1]);
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    for (int i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof name, "alice%d", i);
        add(db, name, NO_LIMITS, 0, key[0]);
    }
    WAIT_FOR(keys_check(k, key[0], KEY_LEN, &g) == KEY_GOOD);
    ask(k, key[0], 1, 1, NULL);
    assert_int_equal(sqlite3_open(other, &from), SQLITE_OK);
    assert_int_equal(sqlite3_open(db, &to), SQLITE_OK);
    sqlite3_busy_timeout(to, 10000);
    b = sqlite3_backup_init(to, "main", from, "main");
    assert_non_null(b);
    int rc;
    while ((rc = sqlite3_backup_step(b, -1)) == SQLITE_BUSY || rc == SQLITE_LOCKED) usleep(1000);
    assert_int_equal(rc, SQLITE_DONE);
    assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
    sqlite3_close(from);
    sqlite3_close(to);
    WAIT_FOR(keys_check(k, key[1], KEY_LEN, &g) == KEY_GOOD);
    assert_int_equal(keys_check(k, key[0], KEY_LEN, &g), KEY_UNKNOWN);
    ask(k, key[1], 1, 1, NULL);
    keys_close(k);
    assert_int_equal(requests_of(db, "bob"), 1);
    db_remove(other);
}

/* ---- a file that is none of ours ---- */
static void test_foreign(void **state)
{
    char        path[320];
    aha_error   e = {0};
    const char *db;
    (void)state;
    ASSERT_OK(file_write_atomic(db_fresh(), "this is no database at all, yet longer than the header of one: "
                                            "one hundred bytes and some more of ordinary text, line by line.\n", 127, &e), e);
    refused(g_db, AHA_ERR_FORMAT, "no SQLite database");
    ASSERT_OK(file_write_atomic(db_fresh(), "", 0, &e), e); /* an empty file is a new database */
    assert_int_equal(try_database(g_db, &e), 0);
    db = db_fresh();
    sql(db, "CREATE TABLE keys(id INTEGER PRIMARY KEY, name TEXT)");
    refused(db, AHA_ERR_FORMAT, "another program's database");
    sql(db, "PRAGMA application_id = 252006673");
    refused(db, AHA_ERR_FORMAT, "0x0f055111");
    sql(db, "PRAGMA application_id = 1634230528"); /* says that it is ours */
    refused(db, AHA_ERR_FORMAT, "version 0");
    sql(db, "PRAGMA user_version = -3");
    refused(db, AHA_ERR_FORMAT, "version -3");
    sql(db, "PRAGMA user_version = 1");
    refused(db, AHA_ERR_FORMAT, "damaged"); /* columns are missing */
    sql(db, "PRAGMA user_version = 99");
    refused(db, AHA_ERR_UNSUPPORTED, "newer aha (version 99");
    refused(g_dir, AHA_ERR_IO, "is a folder");
    refused("", AHA_ERR_ARG, "empty");
    snprintf(path, sizeof path, "%s/fifo", g_dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(path, AHA_ERR_IO, "FIFO");
    unlink(path);
    snprintf(path, sizeof path, "%s/aha.db/below", g_dir);
    refused(path, AHA_ERR_IO, "aha.db");
}

/* Ours by its header, and something in it that aha never writes. */
static void test_tampered(void **state)
{
    static const struct {
        const char *sql, *words;
    } CASES[] = {
        {"CREATE TRIGGER t AFTER INSERT ON usage BEGIN DELETE FROM keys; END", "trigger or a view"},
        {"CREATE VIEW v AS SELECT * FROM keys", "trigger or a view"},
        {"UPDATE keys SET name = 'a' || char(27) || '[2J'", "wrong name"},
        {"UPDATE keys SET name = cast('a' || char(0) || 'b' AS TEXT)", "wrong name"},
        {"UPDATE keys SET name = printf('%.*c', 5000, 'n')", "wrong name"},
        {"UPDATE keys SET prefix = 'sk-123'", "wrong prefix"},
        {"UPDATE keys SET created = -1", "wrong created"},
        {"UPDATE keys SET per_minute = -5", "wrong per_minute"},
        {"UPDATE keys SET per_minute = 9223372036854775807", "wrong per_minute"},
        {"UPDATE keys SET per_minute = 2000000000", "wrong limits"},
        {"UPDATE keys SET id = -4", "wrong id"},
        {"INSERT INTO usage SELECT unixepoch() / 86400, id, 1, -9, 0, 0, 0 FROM keys", "wrong usage"},
        {"INSERT INTO usage SELECT unixepoch() / 86400, id, 1, 9223372036854775807, 0, 9223372036854775807, 0 FROM keys", "wrong usage"},
        {"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE keys(x)' WHERE name = 'keys'", "damaged"},
        {"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 70000 WHERE name = 'usage'", "damaged"},
        {"PRAGMA ignore_check_constraints = ON; UPDATE keys SET hash = x'1234'", "damaged"},
        {"DROP TABLE usage", "damaged"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char        key[KEY_TEXT_CAP];
        const char *db = db_fresh();
        add(db, "alice", NO_LIMITS, 0, key);
        sql(db, CASES[i].sql);
        refused(db, AHA_ERR_FORMAT, CASES[i].words);
    }
}

/* The largest numbers there are: sums stay numbers, and other keys are written beside them. */
static void test_saturated(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Keys       *k;
    KeyDay     *d;
    int         n;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", NO_LIMITS, 0, key);
    sql(db, "INSERT INTO usage SELECT unixepoch() / 86400, id, 9223372036854775807, 0, 9223372036854775800, 0, 0 FROM keys");
    ASSERT_OK(keys_open(&k, db, NULL, &e), e);
    for (int i = 0; i < 20; i++) {
        KeyGrant g = {0};
        assert_int_equal(keys_check(k, key, KEY_LEN, &g), KEY_GOOD);
        assert_int_equal(keys_admit(k, &g, INT64_MAX, NULL), KEY_ADMITTED);
        keys_done(k, &g, &(KeyUsage){.prompt = INT64_MAX, .cached = INT64_MAX, .completion = INT64_MAX, .reasoning = INT64_MIN});
    }
    keys_close(k);
    ASSERT_OK(keys_usage(db, NULL, 0, &d, &n, &e), e);
    assert_int_equal(d[0].u.requests, INT64_MAX);
    assert_int_equal(d[0].u.cached, INT64_MAX);
    assert_int_equal(d[0].u.prompt, 20 * 1000000000000);
    assert_int_equal(d[0].u.reasoning, 0);
    mem_free(d);
}

/* Cut anywhere, and with bytes changed at random places: refused or used, and nothing else. */
static void test_damaged(void **state)
{
    char        key[KEY_TEXT_CAP], bad[320], *text;
    size_t      n;
    aha_error   e = {0};
    Rng         r = {.seed = 5};
    int         taken = 0, gone = 0;
    const char *db = db_fresh();
    (void)state;
    for (int i = 0; i < 60; i++) {
        char name[16];
        snprintf(name, sizeof name, "name%d", i);
        add(db, name, (KeyLimits){60, 2, 5000}, 0, key);
    }
    sql(db, "INSERT INTO usage SELECT 20000 + id, id, 1, 2, 3, 4, 5 FROM keys; PRAGMA journal_mode = DELETE");
    ASSERT_OK(file_read_all(db, 1 << 20, &text, &n, &e), e);
    snprintf(bad, sizeof bad, "%s/bad.db", g_dir);
    for (int i = 0; i < 300; i++) {
        char  *copy = malloc(n);
        size_t len = i % 10 ? n : n * (size_t)i / 300;
        memcpy(copy, text, n);
        for (int j = 0; j < 1 + i % 7; j++) copy[rng_below(&r, i % 3 ? (uint32_t)n : 200)] = (char)rng_u32(&r);
        db_remove(bad);
        ASSERT_OK(file_write_atomic(bad, copy, len, &e), e);
        free(copy);
        int rc = try_database(bad, &e);
        taken += rc == 0;
        gone += rc != 0;
        if (rc && (rc != AHA_ERR_FORMAT && rc != AHA_ERR_UNSUPPORTED && rc != AHA_ERR_IO && rc != AHA_ERR_NOMEM && rc != AHA_ERR_STATE))
            fail_msg("round %d: %d %s", i, rc, e.text);
    }
    assert_true(taken > 20 && gone > 100);
    db_remove(bad);
    mem_free(text);
}

/* ---- an older file ---- */
/* Version 1 had keys alone, as its step in keys_store.c made them. */
static const char VERSION_1[] =
    "CREATE TABLE keys(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, prefix TEXT NOT NULL,"
    " hash BLOB NOT NULL UNIQUE CHECK(length(hash) = 32), created INTEGER NOT NULL, expires INTEGER NOT NULL DEFAULT 0,"
    " revoked INTEGER NOT NULL DEFAULT 0, per_minute INTEGER NOT NULL DEFAULT 0, concurrent INTEGER NOT NULL DEFAULT 0,"
    " tokens_per_day INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE UNIQUE INDEX keys_name ON keys(name) WHERE revoked = 0;"
    "INSERT INTO keys(name, prefix, hash, created) VALUES('old', 'aha-000000', x'c2908e71b6f1eff1264c8f0db4c6e0f9a4e9e3d3f2e0c8e65d4a1b7a7f2d9c11', 1700000000);"
    "PRAGMA application_id = 1634230528; PRAGMA user_version = 1";

typedef struct Opener {
    const char *db;
    int         rc;
    aha_error   e;
} Opener;
static void opener_main(void *arg)
{
    Opener *o = arg;
    Keys   *k;
    o->rc = keys_open(&k, o->db, NULL, &o->e);
    if (o->rc == 0) keys_close(k);
}

static void test_migration(void **state)
{
    KeyInfo    *l;
    int         n;
    int64_t     version = 0;
    Store       s;
    aha_error   e = {0};
    Thread     *t[4];
    Opener      o[4];
    const char *db = db_fresh();
    (void)state;
    sql(db, VERSION_1);
    copy_file(db, db); /* without a log beside it */
    sqlite_fail(FAIL_WRITE, 0); /* a full disk: the old version stays what it was */
    assert_int_equal(keys_list(db, &l, &n, &e), AHA_ERR_IO);
    sqlite_fail(0, 0);
    for (int i = 0; i < 4; i++) { /* four at once: one of them does it */
        o[i] = (Opener){.db = db};
        ASSERT_OK(thread_start(&t[i], opener_main, &o[i], &e), e);
    }
    for (int i = 0; i < 4; i++) {
        thread_join(t[i]);
        ASSERT_OK(o[i].rc, o[i].e);
    }
    ASSERT_OK(store_open(&s, db, false, &e), e);
    ASSERT_OK(store_number(&s, "PRAGMA user_version", &version, &e), e);
    store_close(&s);
    assert_int_equal(version, 2);
    ASSERT_OK(keys_list(db, &l, &n, &e), e);
    assert_int_equal(n, 1);
    assert_string_equal(l[0].name, "old");
    mem_free(l);
    db = db_fresh(); /* and four at once on none at all */
    for (int i = 0; i < 4; i++) {
        o[i] = (Opener){.db = db};
        ASSERT_OK(thread_start(&t[i], opener_main, &o[i], &e), e);
    }
    for (int i = 0; i < 4; i++) {
        thread_join(t[i]);
        ASSERT_OK(o[i].rc, o[i].e);
    }
}

/* ---- every call fails in turn ---- */
static void one_of_each(const char *db, int *errors)
{
    char      key[KEY_TEXT_CAP];
    KeySpec   s = {.name = "bob"};
    KeyInfo  *l, gone;
    KeyDay   *d;
    KeyGrant  g = {0};
    Keys     *k;
    int       n;
    aha_error e = {0};
    KeysOptions o = {.poll_ms = 1000};
    int       rc = keys_add(db, &s, key, &e);
    if (rc) {
        (*errors)++;
        assert_true(e.text[0] && e.code == rc);
        assert_int_equal(key[0], 0);
    }
    rc = keys_open(&k, db, &o, &e);
    if (rc == 0) {
        if (key[0]) keys_check(k, key, KEY_LEN, &g);
        assert_int_equal(keys_admit(k, &g, 0, NULL), KEY_ADMITTED);
        keys_done(k, &g, &(KeyUsage){.prompt = 1});
        keys_close(k);
    } else {
        (*errors)++;
    }
    if ((rc = keys_list(db, &l, &n, &e)) == 0) mem_free(l);
    *errors += rc != 0;
    if ((rc = keys_usage(db, NULL, 0, &d, &n, &e)) == 0) mem_free(d);
    *errors += rc != 0;
    rc = keys_revoke(db, "bob", &gone, &e);
    *errors += rc != 0;
}

static void every_call_fails(void (*arm)(unsigned, long), unsigned kinds, long (*seen)(void), int step)
{
    char key[KEY_TEXT_CAP];
    long count = 1;
    int  errors = 0;
    for (long nth = 1; nth <= count; nth += step) {
        const char *db = db_fresh();
        add(db, "alice", NO_LIMITS, 0, key);
        arm(kinds, nth);
        one_of_each(db, &errors);
        count = seen();
        arm(0, 0);
        KeyInfo  *l; /* whatever failed: the file is sound, and alice in it */
        int       n;
        aha_error e = {0};
        if (keys_list(db, &l, &n, &e)) fail_msg("call %ld: %s", nth, e.text);
        assert_true(n >= 1);
        assert_string_equal(l[0].name, "alice");
        mem_free(l);
    }
    assert_true(count > 3 && errors > 0);
}

static void seam_arm(unsigned kinds, long nth) { os_fault_arm(kinds, (uint64_t)nth); }
static long seam_seen(void) { return (long)os_fault_seen(); }
static long sqlite_seen(void) { return atomic_load(&g_fail_seen); }

static void test_seam_faults(void **state)
{
    (void)state;
    every_call_fails(seam_arm, OS_FAULT_ALLOC | OS_FAULT_OPEN | OS_FAULT_READ, seam_seen, 1);
}
static void test_file_faults(void **state)
{
    (void)state;
    every_call_fails(sqlite_fail, FAIL_READ | FAIL_WRITE | FAIL_SYNC | FAIL_LOCK | FAIL_OPEN, sqlite_seen, 1);
}
static void test_memory_faults(void **state)
{
    (void)state;
    every_call_fails(sqlite_fail, FAIL_MEMORY, sqlite_seen, 31); /* thousands of them: some */
}

static int setup(void **state) { return sqlite_fail_install() ? -1 : keys_setup(state); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locked),      cmocka_unit_test(test_full_disk),  cmocka_unit_test(test_days_lost),
        cmocka_unit_test(test_moved),       cmocka_unit_test(test_restored),   cmocka_unit_test(test_foreign),    cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_saturated),   cmocka_unit_test(test_damaged),    cmocka_unit_test(test_migration),
        cmocka_unit_test(test_seam_faults), cmocka_unit_test(test_file_faults), cmocka_unit_test(test_memory_faults)};
    return cmocka_run_group_tests_name("keys_faults", tests, setup, keys_teardown);
}
