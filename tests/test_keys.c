/* Keys: made, recognised, admitted, counted; the database written, summed up, read again when it changed. */
#include "serve/keys.h"
#include "keyslib.h"

/* ---- the key ---- */
static void test_secret(void **state)
{
    char      key[200][KEY_TEXT_CAP];
    int       seen[128] = {0}, letters = 0;
    uint8_t   hash[KEY_HASH_LEN];
    aha_error e = {0};
    (void)state;
    for (int i = 0; i < 200; i++) {
        ASSERT_OK(key_make(key[i], &e), e);
        assert_true(key_shaped(key[i], strlen(key[i])));
        for (int j = 0; j < i; j++) assert_string_not_equal(key[i], key[j]);
        for (int j = 4; j < KEY_LEN; j++) seen[(int)key[i][j]]++;
    }
    for (int c = 0; c < 128; c++) {
        if (!seen[c]) continue;
        letters++;
        assert_in_range(seen[c], 70, 215); /* 138.7 are expected; six standard deviations */
    }
    assert_int_equal(letters, 62);
    ASSERT_OK(key_hash("abc", 3, hash, &e), e); /* FIPS 180-2's example */
    assert_memory_equal(hash, "\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad", 32);
    os_fault_arm(OS_FAULT_READ, 1); /* no randomness, no key */
    assert_int_equal(key_make(key[0], &e), AHA_ERR_IO);
    os_fault_arm(0, 0);
}

static void test_names(void **state)
{
    static const char *const GOOD[] = {"a", "alice", "team-7_x.y@z", "0"}, *const BAD[] = {"", "-", "-a", ".a", "a b", "aha-x", "a\n", "ä", "a/b", "a'b"};
    char        key[KEY_TEXT_CAP], name[KEY_NAME_MAX + 2];
    aha_error   e = {0};
    const char *db = db_fresh();
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) add(db, GOOD[i], NO_LIMITS, 0, key);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        KeySpec s = {.name = BAD[i]};
        assert_int_equal(keys_add(db, &s, key, &e), AHA_ERR_ARG);
        assert_int_equal(key[0], 0);
    }
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(keys_add(db, &(KeySpec){.name = name}, key, &e), AHA_ERR_ARG);
    name[KEY_NAME_MAX] = 0;
    ASSERT_OK(keys_add(db, &(KeySpec){.name = name}, key, &e), e);
    assert_int_equal(keys_add(db, &(KeySpec){.name = "alice"}, key, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "revoke it first"));
    assert_int_equal(keys_add(db, &(KeySpec){.name = "b", .limits = {-1, 0, 0}}, key, &e), AHA_ERR_ARG);
    assert_int_equal(keys_add(db, &(KeySpec){.name = "b", .limits = {0, 0, INT64_MAX}}, key, &e), AHA_ERR_ARG);
}

static bool file_has(const char *path, const char *what, size_t n)
{
    char     *text;
    size_t    size;
    aha_error e = {0};
    ASSERT_OK(file_read_all(path, 16 << 20, &text, &size, &e), e);
    bool has = memmem(text, size, what, n) != NULL;
    mem_free(text);
    return has;
}

static void test_add_list_revoke(void **state)
{
    char        key[3][KEY_TEXT_CAP], prefix[KEY_PREFIX_CAP];
    KeyInfo    *l, gone;
    int         n;
    aha_error   e = {0};
    struct stat st;
    const char *db = db_fresh();
    (void)state;
    ASSERT_OK(keys_list(db, &l, &n, &e), e); /* none is there, none is made */
    assert_int_equal(n, 0);
    assert_false(file_exists(db));
    mode_t before = umask(0);
    add(db, "alice", (KeyLimits){60, 4, 1000000}, 2000000000, key[0]);
    umask(before);
    assert_int_equal(stat(db, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    add(db, "bob", NO_LIMITS, 0, key[1]);
    assert_false(file_has(db, key[0] + 4, 43)); /* the hash alone */
    assert_false(file_has(db, key[0] + KEY_PREFIX_LEN, 8));
    assert_true(file_has(db, key[0], KEY_PREFIX_LEN));
    ASSERT_OK(keys_list(db, &l, &n, &e), e);
    assert_int_equal(n, 2);
    assert_string_equal(l[0].name, "alice");
    assert_memory_equal(l[0].prefix, key[0], KEY_PREFIX_LEN);
    assert_int_equal(l[0].limits.per_minute, 60);
    assert_int_equal(l[0].limits.concurrent, 4);
    assert_int_equal(l[0].limits.tokens_per_day, 1000000);
    assert_int_equal(l[0].expires, 2000000000);
    assert_true(l[0].created > 1700000000 && l[0].revoked == 0);
    mem_free(l);
    assert_int_equal(keys_revoke(db, "carol", &gone, &e), AHA_ERR_ARG);
    snprintf(prefix, sizeof prefix, "%.7s", key[0]);
    assert_int_equal(keys_revoke(db, prefix, &gone, &e), AHA_ERR_ARG); /* too short to mean one key */
    snprintf(prefix, sizeof prefix, "%.10s", key[0]);
    ASSERT_OK(keys_revoke(db, prefix, &gone, &e), e);
    assert_string_equal(gone.name, "alice");
    assert_int_equal(keys_revoke(db, "alice", &gone, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "already"));
    add(db, "alice", NO_LIMITS, 0, key[2]); /* the name is free again */
    const char last = key[1][KEY_LEN - 1], others[] = {last == 'x' ? 'y' : 'x', '{', 0};
    for (size_t i = 0; i < sizeof others; i++) { /* a whole key, but none of these; nearly one; a part of one */
        key[1][KEY_LEN - 1] = others[i];
        assert_int_equal(keys_revoke(db, key[1], &gone, &e), AHA_ERR_ARG);
        key[1][KEY_LEN - 1] = 0;
        assert_null(strstr(e.text, key[1] + KEY_PREFIX_LEN));
    }
    key[1][KEY_LEN - 1] = last;
    ASSERT_OK(keys_revoke(db, key[1], &gone, &e), e);
    assert_string_equal(gone.name, "bob");
    ASSERT_OK(keys_revoke(db, "alice", &gone, &e), e); /* the one that works */
    assert_memory_equal(gone.prefix, key[2], KEY_PREFIX_LEN);
    sql(db, "UPDATE keys SET prefix = 'aha-qqqqqq', revoked = 0, name = 'n' || id");
    assert_int_equal(keys_revoke(db, "aha-qqqqqq", &gone, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "3 keys"));
}

/* ---- whose key ---- */
static void test_check(void **state)
{
    char        key[2][KEY_TEXT_CAP], *big = malloc(1 << 20), other[KEY_TEXT_CAP];
    aha_error   e = {0};
    Clock       c = CLOCK_BEGIN;
    Keys       *k;
    KeysOptions o = CLOCKED(&c, 20);
    const char *db = db_fresh();
    KeyGrant    g = {0};
    (void)state;
    add(db, "alice", NO_LIMITS, 0, key[0]);
    add(db, "bob", NO_LIMITS, (int64_t)c.s + 100, key[1]);
    log_begin();
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    assert_true(keys_required(k));
    assert_int_equal(keys_usable(k), 2);
    os_alloc_guard(true);
    assert_int_equal(keys_check(k, key[0], KEY_LEN, &g), KEY_GOOD);
    assert_string_equal(keys_name(&g), "alice");
    KeyGrant none = {0};
    for (size_t n = 0; n < KEY_LEN; n++) assert_int_equal(keys_check(k, key[0], n, &none), KEY_UNKNOWN);
    assert_int_equal(keys_check(k, key[0], KEY_LEN + 1, &none), KEY_UNKNOWN); /* with its NUL */
    for (size_t i = 0; i < KEY_LEN; i++) {
        memcpy(other, key[0], sizeof other);
        other[i] = other[i] == 'x' ? 'y' : 'x';
        assert_int_equal(keys_check(k, other, KEY_LEN, &none), KEY_UNKNOWN);
        other[i] = 0;
        assert_int_equal(keys_check(k, other, KEY_LEN, &none), KEY_UNKNOWN);
    }
    memset(big, 'a', 1 << 20);
    memcpy(big, key[0], KEY_LEN);
    double t0 = time_cpu_s();
    for (int i = 0; i < 1000; i++) assert_int_equal(keys_check(k, big, 1 << 20, &none), KEY_UNKNOWN);
    assert_true(time_cpu_s() - t0 < 0.1); /* refused by its length: hashing them takes half a second at least */
    assert_int_equal(os_alloc_guard(false), 0);
    assert_null(none.entry);
    assert_string_equal(keys_name(&none), "-");
    assert_int_equal(keys_check(k, key[1], KEY_LEN, &g), KEY_GOOD);
    clock_pass(&c, 99.5);
    assert_int_equal(keys_check(k, key[1], KEY_LEN, &g), KEY_GOOD);
    assert_int_equal(keys_usable(k), 2);
    clock_pass(&c, 0.5);
    assert_int_equal(keys_check(k, key[1], KEY_LEN, &none), KEY_EXPIRED);
    assert_int_equal(keys_usable(k), 1);
    assert_int_equal(keys_admit(k, &g, 0, NULL), KEY_GONE);
    keys_close(k);
    log_set(NULL, NULL, LOG_ERROR);
    assert_null(strstr(g_log, key[0] + 4));
    assert_null(strstr(g_log, key[1] + 4));
    for (int i = KEY_GOOD; i <= KEY_EXPIRED; i++) assert_true(strlen(key_check_words((KeyCheck)i)) > 10);
    free(big);
}

/* ---- limits ---- */
/* What is refused for the quota once its size is known takes nothing from the bucket of requests. */
static void test_reserve_gives_back(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Clock       c = CLOCK_BEGIN;
    Keys       *k;
    KeysOptions o = CLOCKED(&c, 20);
    KeyRefusal  r;
    KeyGrant    g = {0}, h = {0};
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", (KeyLimits){.per_minute = 2, .tokens_per_day = 100}, 0, key);
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    assert_int_equal(keys_check(k, key, KEY_LEN, &g), KEY_GOOD);
    assert_int_equal(keys_check(k, key, KEY_LEN, &h), KEY_GOOD);
    assert_int_equal(keys_admit(k, &g, 0, &r), KEY_ADMITTED);
    assert_int_equal(keys_admit(k, &h, 0, &r), KEY_ADMITTED);
    assert_int_equal(keys_reserve(k, &g, 100, &r), KEY_ADMITTED);
    assert_int_equal(keys_reserve(k, &h, 1, &r), KEY_OVER_QUOTA);
    keys_done(k, &h, NULL);
    keys_done(k, &g, NULL);
    assert_int_equal(keys_admit(k, &h, 0, &r), KEY_ADMITTED);
    keys_done(k, &h, NULL);
    assert_int_equal(keys_admit(k, &h, 0, &r), KEY_OVER_RATE);
    keys_close(k);
}

static void test_rate(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Clock       c = CLOCK_BEGIN;
    Keys       *k;
    KeysOptions o = CLOCKED(&c, 20);
    KeyRefusal  r;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", (KeyLimits){.per_minute = 6}, 0, key);
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    for (int i = 0; i < 6; i++) assert_int_equal(ask(k, key, 1, 1, NULL), KEY_ADMITTED);
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_OVER_RATE);
    assert_int_equal(r.retry_s, 10);
    assert_non_null(strstr(r.words, "6 requests a minute"));
    clock_pass(&c, 9.5);
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_OVER_RATE);
    assert_int_equal(r.retry_s, 1);
    clock_pass(&c, 0.6);
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_ADMITTED);
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_OVER_RATE);
    clock_pass(&c, 3600); /* the bucket holds a minute's worth and no more */
    for (int i = 0; i < 6; i++) assert_int_equal(ask(k, key, 1, 1, NULL), KEY_ADMITTED);
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_OVER_RATE);
    c.ns = c.ns - 5000000000u; /* a clock that goes back gives nothing and breaks nothing */
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_OVER_RATE);
    keys_close(k);
}

static void test_concurrent(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Keys       *k;
    KeyGrant    g[3] = {{0}};
    KeyRefusal  r;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", (KeyLimits){.concurrent = 2, .per_minute = 3}, 0, key);
    ASSERT_OK(keys_open(&k, db, NULL, &e), e);
    for (int i = 0; i < 3; i++) assert_int_equal(keys_check(k, key, KEY_LEN, &g[i]), KEY_GOOD);
    assert_int_equal(keys_admit(k, &g[0], 0, &r), KEY_ADMITTED);
    assert_int_equal(keys_admit(k, &g[0], 0, &r), KEY_ADMITTED); /* twice for one request is once */
    assert_int_equal(keys_admit(k, &g[1], 0, &r), KEY_ADMITTED);
    for (int i = 0; i < 9; i++) assert_int_equal(keys_admit(k, &g[2], 0, &r), KEY_OVER_CONCURRENT); /* and takes nothing from the bucket */
    assert_int_equal(r.retry_s, 1);
    keys_done(k, &g[2], NULL); /* was not admitted: nothing happens */
    assert_int_equal(keys_admit(k, &g[2], 0, &r), KEY_OVER_CONCURRENT);
    keys_done(k, &g[0], NULL);
    keys_done(k, &g[0], NULL); /* a second time: nothing happens */
    assert_int_equal(keys_admit(k, &g[2], 0, &r), KEY_ADMITTED);
    assert_int_equal(keys_admit(k, &g[0], 0, &r), KEY_OVER_CONCURRENT);
    keys_done(k, &g[1], NULL);
    keys_done(k, &g[2], NULL);
    assert_int_equal(keys_admit(k, &g[0], 0, &r), KEY_OVER_RATE);
    keys_close(k);
}

static void test_quota(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Clock       c = CLOCK_BEGIN;
    Keys       *k;
    KeysOptions o = CLOCKED(&c, 20);
    KeyRefusal  r;
    KeyGrant    g = {0}, h = {0};
    KeysStats   s;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", (KeyLimits){.tokens_per_day = 100}, 0, key);
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    clock_pass(&c, 86400 - 50);
    assert_int_equal(ask(k, key, 30, 40, &r), KEY_ADMITTED);
    assert_int_equal(keys_check(k, key, KEY_LEN, &g), KEY_GOOD);
    assert_int_equal(keys_admit(k, &g, 30, &r), KEY_ADMITTED); /* may use up the rest */
    assert_int_equal(keys_check(k, key, KEY_LEN, &h), KEY_GOOD);
    assert_int_equal(keys_admit(k, &h, 1, &r), KEY_OVER_QUOTA);
    assert_int_equal(r.retry_s, 1);
    assert_int_equal(keys_reserve(k, &h, 1, &r), KEY_ADMITTED); /* not admitted: nothing happens */
    assert_int_equal(keys_reserve(k, &g, 29, &r), KEY_ADMITTED); /* its own does not count against it, and one token is free again */
    assert_int_equal(keys_admit(k, &h, 0, &r), KEY_ADMITTED);
    assert_int_equal(keys_reserve(k, &g, 30, &r), KEY_ADMITTED);
    assert_int_equal(keys_reserve(k, &h, 1, &r), KEY_OVER_QUOTA); /* the other one was faster */
    assert_int_equal(r.retry_s, 1);
    keys_done(k, &h, NULL);
    assert_int_equal(keys_admit(k, &h, 0, &r), KEY_OVER_QUOTA);
    keys_done(k, &g, &(KeyUsage){.prompt = 5, .completion = 5});
    assert_int_equal(keys_admit(k, &h, 1000, &r), KEY_ADMITTED); /* 80 are used: its own may lead beyond */
    keys_done(k, &h, &(KeyUsage){.prompt = 500, .completion = -7});
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_OVER_QUOTA);
    assert_int_equal(r.retry_s, 50);
    assert_non_null(strstr(r.words, "100 tokens a day"));
    WAIT_FOR((keys_stats(k, &s), s.unwritten == 0));
    keys_close(k);
    ASSERT_OK(keys_open(&k, db, &o, &e), e); /* a new start forgets nothing */
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_OVER_QUOTA);
    clock_pass(&c, 50);
    assert_int_equal(ask(k, key, 1, 1, &r), KEY_ADMITTED); /* another day */
    keys_close(k);
}

/* Two servers on one database share a day's tokens. */
static void test_quota_shared(void **state)
{
    char        key[KEY_TEXT_CAP];
    aha_error   e = {0};
    Keys       *a, *b;
    KeysOptions o = {.poll_ms = 20};
    KeyGrant    g = {0};
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", (KeyLimits){.tokens_per_day = 100}, 0, key);
    ASSERT_OK(keys_open(&a, db, &o, &e), e);
    ASSERT_OK(keys_open(&b, db, &o, &e), e);
    assert_int_equal(ask(a, key, 60, 60, NULL), KEY_ADMITTED);
    assert_int_equal(keys_check(b, key, KEY_LEN, &g), KEY_GOOD);
    WAIT_FOR(keys_admit(b, &g, 0, NULL) == KEY_OVER_QUOTA || (keys_done(b, &g, NULL), false));
    keys_close(a);
    keys_close(b);
}

/* ---- usage ---- */
static void test_usage(void **state)
{
    char        key[2][KEY_TEXT_CAP];
    aha_error   e = {0};
    Clock       c = CLOCK_BEGIN;
    Keys       *k;
    KeysOptions o = CLOCKED(&c, 20);
    KeyGrant    none = {0};
    KeyInfo     gone;
    KeyDay     *d;
    int         n;
    const char *db = db_fresh();
    const int64_t DAY = 20417; /* 2025-11-25 */
    (void)state;
    ASSERT_OK(keys_usage(db, NULL, 0, &d, &n, &e), e);
    assert_int_equal(n, 0);
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    assert_false(keys_required(k)); /* nobody needs a key yet, and what is used is counted all the same */
    assert_int_equal(keys_admit(k, &none, 5, NULL), KEY_ADMITTED);
    keys_done(k, &none, &(KeyUsage){.prompt = 7, .cached = 3, .completion = 5, .reasoning = 4});
    add(db, "alice", NO_LIMITS, 0, key[0]);
    add(db, "bob", NO_LIMITS, 0, key[1]);
    WAIT_FOR(keys_usable(k) == 2);
    assert_true(keys_required(k));
    for (int day = 0; day < 3; day++) {
        for (int i = 0; i <= day; i++) assert_int_equal(ask(k, key[0], 10, 1, NULL), KEY_ADMITTED);
        assert_int_equal(ask(k, key[1], 1, 2, NULL), KEY_ADMITTED);
        clock_pass(&c, 86400);
    }
    keys_close(k); /* writes what is left */
    ASSERT_OK(keys_revoke(db, "alice", &gone, &e), e);
    add(db, "alice", NO_LIMITS, 0, key[0]); /* the name's later key adds to the name's sum */
    c = (Clock)CLOCK_BEGIN;
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    assert_int_equal(ask(k, key[0], 1000, 0, NULL), KEY_ADMITTED);
    keys_close(k);
    ASSERT_OK(keys_usage(db, NULL, 0, &d, &n, &e), e);
    assert_int_equal(n, 7);
    assert_string_equal(d[0].name, "-");
    assert_int_equal(d[0].day, DAY);
    assert_memory_equal(&d[0].u, &((KeyUsage){1, 7, 3, 5, 4}), sizeof d[0].u);
    assert_string_equal(d[1].name, "alice");
    assert_memory_equal(&d[1].u, &((KeyUsage){2, 1010, 0, 1, 0}), sizeof d[0].u);
    assert_string_equal(d[2].name, "bob");
    assert_int_equal(d[5].day, DAY + 2);
    assert_memory_equal(&d[5].u, &((KeyUsage){3, 30, 0, 3, 0}), sizeof d[0].u);
    mem_free(d);
    ASSERT_OK(keys_usage(db, "alice", DAY + 1, &d, &n, &e), e);
    assert_int_equal(n, 2);
    assert_int_equal(d[0].day, DAY + 1);
    mem_free(d);
    ASSERT_OK(keys_usage(db, "-", 0, &d, &n, &e), e);
    assert_int_equal(n, 1);
    mem_free(d);
    ASSERT_OK(keys_usage(db, "nobody", 0, &d, &n, &e), e);
    assert_int_equal(n, 0);
}

static void test_no_database(void **state)
{
    aha_error e = {0};
    Keys     *k;
    KeyGrant  g = {0};
    KeysStats s;
    (void)state;
    ASSERT_OK(keys_open(&k, NULL, NULL, &e), e);
    assert_false(keys_required(k));
    assert_int_equal(keys_check(k, "aha-0000000000000000000000000000000000000000000", KEY_LEN, &g), KEY_UNKNOWN);
    assert_int_equal(keys_admit(k, &g, 5, NULL), KEY_ADMITTED);
    keys_done(k, &g, &(KeyUsage){.prompt = 1});
    keys_stats(k, &s);
    assert_int_equal(s.unwritten, 0);
    keys_close(k);
    keys_close(NULL);
}

/* ---- changes while it runs ---- */
static void test_changes(void **state)
{
    char        key[3][KEY_TEXT_CAP];
    aha_error   e = {0};
    Keys       *k;
    KeysOptions o = {.poll_ms = 20};
    KeyInfo     gone;
    KeyGrant    g = {0}, h = {0};
    const char *db = db_fresh();
    (void)state;
    ASSERT_OK(keys_open(&k, db, &o, &e), e);
    assert_false(keys_required(k));
    add(db, "alice", (KeyLimits){.per_minute = 2}, 0, key[0]);
    WAIT_FOR(keys_required(k));
    assert_int_equal(keys_check(k, key[0], KEY_LEN, &g), KEY_GOOD);
    assert_int_equal(keys_check(k, key[0], KEY_LEN, &h), KEY_GOOD);
    assert_int_equal(keys_admit(k, &g, 0, NULL), KEY_ADMITTED);
    sql(db, "UPDATE keys SET per_minute = 100"); /* limits too */
    WAIT_FOR((keys_lock(k), g.entry->limits.per_minute == 100 ? (keys_unlock(k), true) : (keys_unlock(k), false)));
    ASSERT_OK(keys_revoke(db, "alice", &gone, &e), e);
    WAIT_FOR(keys_usable(k) == 0);
    assert_int_equal(keys_check(k, key[0], KEY_LEN, &h), KEY_REVOKED);
    assert_int_equal(keys_admit(k, &h, 0, NULL), KEY_GONE);
    assert_true(keys_required(k)); /* the last one's end opens nothing */
    keys_done(k, &g, &(KeyUsage){.prompt = 9}); /* what runs is not cut off, and is counted */
    sql(db, "DELETE FROM keys");
    WAIT_FOR(keys_check(k, key[0], KEY_LEN, &h) == KEY_UNKNOWN);
    assert_true(keys_required(k)); /* nor does an emptied file */
    add(db, "carol", NO_LIMITS, 0, key[2]);
    WAIT_FOR(keys_check(k, key[2], KEY_LEN, &h) == KEY_GOOD);
    for (int i = 0; i < 200; i++) { /* many more than the first table holds */
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        add(db, name, NO_LIMITS, 0, key[i % 2]);
    }
    WAIT_FOR(keys_usable(k) == 201);
    assert_int_equal(keys_check(k, key[0], KEY_LEN, &h), KEY_GOOD);
    assert_int_equal(keys_check(k, key[2], KEY_LEN, &h), KEY_GOOD);
    keys_close(k);
}

/* ---- from many threads ---- */
enum { THREADS = 4, EACH = 3000 };
typedef struct Crowd {
    Keys       *k;
    const char *key;
    atomic_int  admitted, over;
} Crowd;

static void crowd_main(void *arg)
{
    Crowd *c = arg;
    for (int i = 0; i < EACH; i++) {
        KeyGrant g = {0};
        if (keys_check(c->k, c->key, KEY_LEN, &g) == KEY_GOOD && keys_admit(c->k, &g, 3, NULL) == KEY_ADMITTED) {
            keys_lock(c->k);
            if (g.entry->running > 3) atomic_fetch_add(&c->over, 1);
            keys_unlock(c->k);
            atomic_fetch_add(&c->admitted, 1);
            keys_done(c->k, &g, &(KeyUsage){.prompt = 2, .cached = 1, .completion = 1});
        }
    }
}

static void test_threads(void **state)
{
    char        key[KEY_TEXT_CAP], other[KEY_TEXT_CAP];
    aha_error   e = {0};
    Crowd       c = {0};
    Thread     *t[THREADS];
    KeysOptions o = {.poll_ms = 5};
    KeyDay     *d;
    int         n, sum = 0;
    const char *db = db_fresh();
    (void)state;
    add(db, "alice", (KeyLimits){.concurrent = 3}, 0, key);
    ASSERT_OK(keys_open(&c.k, db, &o, &e), e);
    c.key = key;
    for (int i = 0; i < THREADS; i++) ASSERT_OK(thread_start(&t[i], crowd_main, &c, &e), e);
    for (int i = 0; i < 10; i++) { /* read again and again meanwhile */
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        add(db, name, NO_LIMITS, 0, other);
    }
    for (int i = 0; i < THREADS; i++) thread_join(t[i]);
    assert_int_equal(atomic_load(&c.over), 0);
    assert_true(atomic_load(&c.admitted) >= EACH);
    keys_close(c.k);
    ASSERT_OK(keys_usage(db, "alice", 0, &d, &n, &e), e);
    for (int i = 0; i < n; i++) { /* one day, or two around midnight */
        sum += (int)d[i].u.requests;
        assert_int_equal(d[i].u.prompt, 2 * d[i].u.requests);
        assert_int_equal(d[i].u.completion, d[i].u.requests);
    }
    assert_int_equal(sum, atomic_load(&c.admitted)); /* every one is counted */
    mem_free(d);
}

/* ---- addresses ---- */
static void test_addresses(void **state)
{
    static const char *const LOCAL[] = {"127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "/run/aha.sock", "::ffff:127.0.0.1"};
    static const char *const WIDE[] = {"0.0.0.0", "::", "[::]", "192.168.1.4", "128.0.0.1", "127.0.0.1.example.org", "localhost.example.org", "", "example.org",
                                       "::ffff:10.0.0.1", "127.1", "fe80::1", "[::1", "*"};
    aha_error e = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LOCAL); i++) {
        if (!address_is_local(LOCAL[i])) fail_msg("%s is this machine", LOCAL[i]);
        assert_int_equal(keys_address_check(LOCAL[i], 0, false, &e), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(WIDE); i++) {
        if (address_is_local(WIDE[i])) fail_msg("%s is not this machine alone", WIDE[i]);
        assert_int_equal(keys_address_check(WIDE[i], 0, false, &e), AHA_ERR_ARG);
        assert_non_null(strstr(e.text, "aha keys add"));
        assert_int_equal(keys_address_check(WIDE[i], 1, false, &e), 0);
        assert_int_equal(keys_address_check(WIDE[i], 0, true, &e), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secret),       cmocka_unit_test(test_names), cmocka_unit_test(test_add_list_revoke),
        cmocka_unit_test(test_check),        cmocka_unit_test(test_reserve_gives_back), cmocka_unit_test(test_rate),  cmocka_unit_test(test_concurrent),
        cmocka_unit_test(test_quota),        cmocka_unit_test(test_quota_shared), cmocka_unit_test(test_usage),
        cmocka_unit_test(test_no_database),  cmocka_unit_test(test_changes), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_addresses)};
    return cmocka_run_group_tests_name("keys", tests, keys_setup, keys_teardown);
}
