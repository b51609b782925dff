/* Rows of the database: keys read and checked, usage added. */
#include <string.h>

#include "keys_inner.h"

/* ---- keys ---- */
static bool text_take(sqlite3_stmt *q, int column, char *dst, size_t cap, bool (*valid)(const char *, size_t))
{
    const char *s = (const char *)sqlite3_column_text(q, column);
    size_t      n = (size_t)sqlite3_column_bytes(q, column);
    if (!s || n >= cap || !valid(s, n)) return false;
    memcpy(dst, s, n);
    dst[n] = 0;
    return true;
}

static bool number_take(sqlite3_stmt *q, int column, int64_t max, int64_t *v)
{
    *v = sqlite3_column_int64(q, column);
    return sqlite3_column_type(q, column) == SQLITE_INTEGER && *v >= 0 && *v <= max;
}

static const char *row_take(sqlite3_stmt *q, KeyRow *r)
{
    int64_t per_minute = 0, concurrent = 0;
    *r = (KeyRow){0};
    if (!number_take(q, 0, INT64_MAX, &r->info.id) || r->info.id == 0) return "id";
    if (!text_take(q, 1, r->info.name, KEY_NAME_CAP, key_name_valid)) return "name";
    if (!text_take(q, 2, r->info.prefix, KEY_PREFIX_CAP, key_prefix_valid)) return "prefix";
    if (sqlite3_column_type(q, 3) != SQLITE_BLOB || sqlite3_column_bytes(q, 3) != KEY_HASH_LEN) return "hash";
    memcpy(r->hash, sqlite3_column_blob(q, 3), KEY_HASH_LEN);
    if (!number_take(q, 4, INT64_MAX, &r->info.created)) return "created";
    if (!number_take(q, 5, INT64_MAX, &r->info.expires)) return "expires";
    if (!number_take(q, 6, INT64_MAX, &r->info.revoked)) return "revoked";
    if (!number_take(q, 7, INT32_MAX, &per_minute)) return "per_minute";
    if (!number_take(q, 8, INT32_MAX, &concurrent)) return "concurrent";
    if (!number_take(q, 9, INT64_MAX, &r->info.limits.tokens_per_day)) return "tokens_per_day";
    if (!number_take(q, 10, INT64_MAX, &r->used)) return "usage";
    r->info.limits.per_minute = (int)per_minute;
    r->info.limits.concurrent = (int)concurrent;
    return key_limits_valid(&r->info.limits) ? NULL : "limits";
}

static int rows_read(const Store *s, sqlite3_stmt *q, Buf *all, int *n, aha_error *e)
{
    KeyRow r;
    int    step;
    while ((step = sqlite3_step(q)) == SQLITE_ROW) {
        const char *bad = row_take(q, &r);
        if (bad) return error_set(e, AHA_ERR_FORMAT, "database '%s' is damaged: key %lld has a wrong %s", s->path, (long long)sqlite3_column_int64(q, 0), bad);
        if (*n == KEYS_MAX) return error_set(e, AHA_ERR_LIMIT, "database '%s' has more than %d keys", s->path, KEYS_MAX);
        buf_add(all, &r, sizeof r);
        ++*n;
    }
    if (step != SQLITE_DONE) return store_fail(s, "read the keys", e);
    return all->failed ? error_set(e, AHA_ERR_NOMEM, "no memory for %d keys", *n) : 0;
}

int store_keys(const Store *s, int64_t day, KeyRow **rows, int *n, aha_error *e)
{
    Buf           all = {0};
    sqlite3_stmt *q;
    int           rc = store_prepare(s, &q,
                                     "SELECT id, name, prefix, hash, created, expires, revoked, per_minute, concurrent, tokens_per_day,"
                                     " coalesce((SELECT u.prompt + u.completion FROM usage u WHERE u.day = ?1 AND u.key = k.id), 0)"
                                     " FROM keys k ORDER BY id",
                                     e);
    *rows = NULL;
    *n = 0;
    if (rc) return rc;
    if (sqlite3_bind_int64(q, 1, day)) rc = store_fail(s, "read the keys", e);
    if (rc == 0) rc = rows_read(s, q, &all, n, e);
    sqlite3_finalize(q);
    if (rc) {
        buf_free(&all);
        *n = 0;
        return rc;
    }
    *rows = (KeyRow *)all.data; /* the buffer's memory is mem_alloc's: the caller's now */
    return 0;
}

/* ---- usage ---- */
/* A sum that passes 2^63 - 1 becomes a real number in SQLite; min() keeps it a whole one. */
#define ADDED(c) #c " = min(" #c " + excluded." #c ", 9223372036854775807)"

static int use_add(const Store *s, sqlite3_stmt *q, const UseItem *t, aha_error *e)
{
    const int64_t v[] = {t->use.day, t->id, t->use.u.requests, t->use.u.prompt, t->use.u.cached, t->use.u.completion, t->use.u.reasoning};
    for (int i = 0; i < (int)ARRAY_LEN(v); i++)
        if (sqlite3_bind_int64(q, i + 1, v[i])) return store_fail(s, "write usage", e);
    if (sqlite3_step(q) != SQLITE_DONE) return store_fail(s, "write usage", e);
    sqlite3_reset(q);
    return 0;
}

int store_use_add(const Store *s, const UseItem *item, int n, aha_error *e)
{
    sqlite3_stmt *q = NULL;
    int           rc = store_run(s, "BEGIN IMMEDIATE", e);
    if (rc) return rc;
    rc = store_prepare(s, &q,
                       "INSERT INTO usage(day, key, requests, prompt, cached, completion, reasoning) VALUES(?, ?, ?, ?, ?, ?, ?)"
                       " ON CONFLICT(day, key) DO UPDATE SET " ADDED(requests) ", " ADDED(prompt) ", " ADDED(cached) ", " ADDED(completion) ", "
                       ADDED(reasoning),
                       e);
    for (int i = 0; i < n && rc == 0; i++) rc = use_add(s, q, &item[i], e);
    sqlite3_finalize(q);
    if (rc == 0) rc = store_run(s, "COMMIT", e);
    if (rc) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}
