/* What the commands do with the database: add, list, revoke, sum up. */
#include <string.h>

#include "keys_inner.h"

enum { PREFIX_MIN = 8, PATIENCE_MS = 10000 };

/* A person waits for a busy server to write rather than reads that it did. */
static int open_patiently(Store *s, const char *db, bool make, aha_error *e)
{
    int rc = store_open(s, db, make, e);
    if (rc == 0) sqlite3_busy_timeout(s->db, PATIENCE_MS);
    return rc;
}

/* ---- add ---- */
static int insert(const Store *s, const KeySpec *spec, const char *key, const uint8_t *hash, aha_error *e)
{
    sqlite3_stmt *q;
    int           rc = store_prepare(s, &q,
                                     "INSERT INTO keys(name, prefix, hash, created, expires, per_minute, concurrent, tokens_per_day)"
                                     " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                                     e);
    if (rc) return rc;
    const int64_t v[] = {(int64_t)time_unix(), spec->expires, spec->limits.per_minute, spec->limits.concurrent, spec->limits.tokens_per_day};
    bool          bound = !sqlite3_bind_text(q, 1, spec->name, -1, SQLITE_STATIC) && !sqlite3_bind_text(q, 2, key, KEY_PREFIX_LEN, SQLITE_TRANSIENT) &&
                 !sqlite3_bind_blob(q, 3, hash, KEY_HASH_LEN, SQLITE_STATIC);
    for (int i = 0; i < (int)ARRAY_LEN(v) && bound; i++) bound = !sqlite3_bind_int64(q, 4 + i, v[i]);
    if (!bound || sqlite3_step(q) != SQLITE_DONE) {
        if (bound && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_UNIQUE)
            rc = error_set(e, AHA_ERR_ARG, "a key is named '%s' already: revoke it first, or take another name", spec->name);
        else
            rc = store_fail(s, "write the key", e);
    }
    sqlite3_finalize(q);
    return rc;
}

static int spec_check(const KeySpec *s, aha_error *e)
{
    char q[160];
    if (!s->name || !key_name_valid(s->name, strlen(s->name)))
        return error_set(e, AHA_ERR_ARG, "a key's name is '%s', expected: a letter or digit, then letters, digits, - _ . @, at most %d; not beginning with aha-",
                         s->name ? error_quote(q, sizeof q, s->name, strlen(s->name)) : "", KEY_NAME_MAX);
    if (!key_limits_valid(&s->limits)) return error_set(e, AHA_ERR_ARG, "a key's limits are negative or beyond all measure");
    if (s->expires < 0) return error_set(e, AHA_ERR_ARG, "a key that expires before 1970");
    return 0;
}

int keys_add(const char *db, const KeySpec *spec, char key[KEY_TEXT_CAP], aha_error *e)
{
    Store   s = {0};
    uint8_t hash[KEY_HASH_LEN];
    int64_t rows = 0;
    int     rc = spec_check(spec, e);
    key[0] = 0;
    if (rc == 0) rc = open_patiently(&s, db, true, e);
    if (rc == 0) rc = store_number(&s, "SELECT count(*) FROM keys", &rows, e);
    if (rc == 0 && rows >= KEYS_MAX) rc = error_set(e, AHA_ERR_LIMIT, "database '%s' holds %d keys, the revoked ones too: no more fit", s.path, KEYS_MAX);
    if (rc == 0) rc = key_make(key, e);
    if (rc == 0) rc = key_hash(key, KEY_LEN, hash, e);
    if (rc == 0) rc = insert(&s, spec, key, hash, e);
    if (rc) key_wipe(key, KEY_TEXT_CAP);
    store_close(&s);
    return rc;
}

/* ---- list ---- */
int keys_list(const char *db, KeyInfo **list, int *n, aha_error *e)
{
    Store   s = {0};
    KeyRow *row = NULL;
    int     rc;
    *list = NULL;
    *n = 0;
    rc = open_patiently(&s, db, false, e);
    if (rc == AHA_ERR_STATE && !file_exists(db)) return 0;
    if (rc == 0) rc = store_keys(&s, 0, &row, n, e);
    if (rc == 0 && *n) {
        *list = mem_zalloc((size_t)*n, sizeof **list);
        if (!*list) rc = error_set(e, AHA_ERR_NOMEM, "no memory for %d keys", *n);
    }
    for (int i = 0; i < *n && *list; i++) (*list)[i] = row[i].info;
    if (rc) *n = 0;
    mem_free(row);
    store_close(&s);
    return rc;
}

/* ---- revoke ---- */
typedef struct Match {
    const char *what;
    size_t      n;
    bool        whole; /* what is a whole key */
    uint8_t     hash[KEY_HASH_LEN];
} Match;

static bool matches(const Match *m, const KeyRow *r)
{
    if (m->whole) return key_hash_same(m->hash, r->hash);
    if (!strcmp(m->what, r->info.name)) return true;
    return m->n >= PREFIX_MIN && m->n <= KEY_PREFIX_LEN && !strncmp(m->what, r->info.prefix, m->n);
}

/* The one key that is meant: of several, those that still work count. */
static int choose(const Match *m, const KeyRow *row, int n, int *at, aha_error *e)
{
    int  working = 0, revoked = 0;
    char q[80];
    error_quote(q, sizeof q, m->what, m->n > KEY_PREFIX_LEN && !strncmp(m->what, "aha-", 4) ? KEY_PREFIX_LEN : m->n); /* a key is never shown */
    for (int i = 0; i < n; i++) {
        if (!matches(m, &row[i])) continue;
        if (row[i].info.revoked) {
            revoked++;
        } else {
            working++;
            *at = i;
        }
    }
    if (working == 1) return 0;
    if (working) return error_set(e, AHA_ERR_ARG, "%d keys begin with '%s': name the one that is meant", working, q);
    if (revoked) return error_set(e, AHA_ERR_ARG, "'%s' is revoked already", q);
    return error_set(e, AHA_ERR_ARG, "no key is named '%s' or has this prefix (of %d or more characters); aha keys list shows them", q, PREFIX_MIN);
}

static int revoke(const Store *s, KeyInfo *info, aha_error *e)
{
    sqlite3_stmt *q;
    int           rc = store_prepare(s, &q, "UPDATE keys SET revoked = ?1 WHERE id = ?2 AND revoked = 0", e);
    if (rc) return rc;
    info->revoked = (int64_t)time_unix();
    if (sqlite3_bind_int64(q, 1, info->revoked) || sqlite3_bind_int64(q, 2, info->id) || sqlite3_step(q) != SQLITE_DONE) rc = store_fail(s, "revoke a key", e);
    sqlite3_finalize(q);
    return rc;
}

int keys_revoke(const char *db, const char *what, KeyInfo *out, aha_error *e)
{
    Store   s = {0};
    Match   m = {.what = what, .n = strlen(what)};
    KeyRow *row = NULL;
    int     n = 0, at = 0, rc = 0;
    m.whole = key_shaped(what, m.n);
    if (m.whole) rc = key_hash(what, m.n, m.hash, e);
    if (rc == 0) rc = open_patiently(&s, db, false, e);
    if (rc == 0) rc = store_keys(&s, 0, &row, &n, e);
    if (rc == 0) rc = choose(&m, row, n, &at, e);
    if (rc == 0) {
        *out = row[at].info;
        rc = revoke(&s, out, e);
    }
    mem_free(row);
    store_close(&s);
    return rc;
}

/* ---- usage ---- */
static int days_read(const Store *s, sqlite3_stmt *q, Buf *all, int *n, aha_error *e)
{
    int step;
    while ((step = sqlite3_step(q)) == SQLITE_ROW) {
        KeyDay      d = {.day = sqlite3_column_int64(q, 0)};
        const char *name = (const char *)sqlite3_column_text(q, 1);
        int64_t    *to[] = {&d.u.requests, &d.u.prompt, &d.u.cached, &d.u.completion, &d.u.reasoning};
        bool        ok = name && (!strcmp(name, "-") || key_name_valid(name, strlen(name)));
        if (ok) memcpy(d.name, name, strlen(name) + 1);
        for (int i = 0; i < (int)ARRAY_LEN(to); i++) {
            *to[i] = sqlite3_column_int64(q, 2 + i);
            ok = ok && *to[i] >= 0;
        }
        if (!ok) return error_set(e, AHA_ERR_FORMAT, "database '%s' is damaged: usage of day %lld is wrong", s->path, (long long)d.day);
        buf_add(all, &d, sizeof d);
        ++*n;
    }
    if (step != SQLITE_DONE) return store_fail(s, "sum up usage", e);
    return all->failed ? error_set(e, AHA_ERR_NOMEM, "no memory for %d rows of usage", *n) : 0;
}

int keys_usage(const char *db, const char *name, int64_t since, KeyDay **list, int *n, aha_error *e)
{
    Store         s = {0};
    Buf           all = {0};
    sqlite3_stmt *q = NULL;
    int           rc;
    *list = NULL;
    *n = 0;
    rc = open_patiently(&s, db, false, e);
    if (rc == AHA_ERR_STATE && !file_exists(db)) return 0;
    if (rc == 0)
        rc = store_prepare(&s, &q,
                           "SELECT u.day, coalesce(k.name, '-') AS who, sum(u.requests), sum(u.prompt), sum(u.cached), sum(u.completion), sum(u.reasoning)"
                           " FROM usage u LEFT JOIN keys k ON k.id = u.key WHERE u.day >= ?1 AND (?2 IS NULL OR who = ?2)"
                           " GROUP BY u.day, who ORDER BY u.day, who",
                           e);
    if (rc == 0 && (sqlite3_bind_int64(q, 1, since) || sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC))) rc = store_fail(&s, "sum up usage", e);
    if (rc == 0) rc = days_read(&s, q, &all, n, e);
    sqlite3_finalize(q);
    store_close(&s);
    if (rc) {
        buf_free(&all);
        *n = 0;
        return rc;
    }
    *list = (KeyDay *)all.data;
    return 0;
}
