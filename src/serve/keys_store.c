/* The SQLite file: opened, recognised, brought up to date.  It is checked once, here: what is damaged or not ours is refused
 * in words, and nothing of it is run (no views, no triggers). */
#include <stdio.h>
#include <string.h>

#include "keys_inner.h"

#define APPLICATION_ID 0x61686100 /* "aha" and a nought */
enum { BUSY_MS = 2000 };

/* Step i leads from version i to i + 1.  A published step is never changed: a new one is added. */
static const char *const STEPS[] = {
    "CREATE TABLE keys(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, prefix TEXT NOT NULL,"
    " hash BLOB NOT NULL UNIQUE CHECK(length(hash) = 32), created INTEGER NOT NULL, expires INTEGER NOT NULL DEFAULT 0,"
    " revoked INTEGER NOT NULL DEFAULT 0, per_minute INTEGER NOT NULL DEFAULT 0, concurrent INTEGER NOT NULL DEFAULT 0,"
    " tokens_per_day INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE UNIQUE INDEX keys_name ON keys(name) WHERE revoked = 0;",
    "CREATE TABLE usage(day INTEGER NOT NULL, key INTEGER NOT NULL, requests INTEGER NOT NULL, prompt INTEGER NOT NULL,"
    " cached INTEGER NOT NULL, completion INTEGER NOT NULL, reasoning INTEGER NOT NULL, PRIMARY KEY(day, key)) STRICT, WITHOUT ROWID;",
};
enum { NEWEST = ARRAY_LEN(STEPS) };

int store_fail(const Store *s, const char *doing, aha_error *e)
{
    int         x = s->db ? sqlite3_extended_errcode(s->db) : SQLITE_NOMEM;
    const char *why = s->db ? sqlite3_errmsg(s->db) : "no memory", *path = s->path;
    switch (x & 0xff) {
    case SQLITE_NOMEM: return error_set(e, AHA_ERR_NOMEM, "database '%s': no memory to %s", path, doing);
    case SQLITE_NOTADB: return error_set(e, AHA_ERR_FORMAT, "'%s' is no SQLite database; --db names another file", path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: return error_set(e, AHA_ERR_STATE, "database '%s' is locked by another program: cannot %s", path, doing);
    case SQLITE_FULL: return error_set(e, AHA_ERR_IO, "database '%s': the disk is full: cannot %s", path, doing);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR: return error_set(e, AHA_ERR_IO, "database '%s': cannot %s: %s", path, doing, why);
    default: return error_set(e, AHA_ERR_FORMAT, "database '%s' is damaged: cannot %s: %s", path, doing, why);
    }
}

int store_prepare(const Store *s, sqlite3_stmt **q, const char *sql, aha_error *e)
{
    *q = NULL;
    return sqlite3_prepare_v2(s->db, sql, -1, q, NULL) ? store_fail(s, "read it", e) : 0;
}

int store_run(const Store *s, const char *sql, aha_error *e) { return sqlite3_exec(s->db, sql, NULL, NULL, NULL) ? store_fail(s, "write it", e) : 0; }

int store_number(const Store *s, const char *sql, int64_t *v, aha_error *e)
{
    sqlite3_stmt *q;
    int           rc = store_prepare(s, &q, sql, e);
    if (rc) return rc;
    if (sqlite3_step(q) == SQLITE_ROW)
        *v = sqlite3_column_int64(q, 0);
    else
        rc = store_fail(s, "read it", e);
    sqlite3_finalize(q);
    return rc;
}

bool store_moved(const Store *s)
{
    int moved = 0;
    return !sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) && moved;
}

/* ---- whose it is ---- */
static int check_sound(const Store *s, aha_error *e)
{
    sqlite3_stmt *q;
    int64_t       foreign = 0;
    int           rc = store_prepare(s, &q, "PRAGMA quick_check(1)", e);
    if (rc) return rc;
    if (sqlite3_step(q) != SQLITE_ROW) {
        rc = store_fail(s, "check it", e);
    } else {
        const char *said = (const char *)sqlite3_column_text(q, 0);
        if (!said || strcmp(said, "ok")) rc = error_set(e, AHA_ERR_FORMAT, "database '%s' is damaged: %.200s", s->path, said ? said : "no memory");
    }
    sqlite3_finalize(q);
    if (rc == 0) rc = store_number(s, "SELECT count(*) FROM sqlite_schema WHERE type IN ('trigger', 'view')", &foreign, e);
    if (rc == 0 && foreign) rc = error_set(e, AHA_ERR_FORMAT, "database '%s' holds a trigger or a view: aha's have none, so another program changed it", s->path);
    return rc;
}

static int recognise(const Store *s, int64_t *version, aha_error *e)
{
    int64_t id = 0, tables = 0;
    int     rc = store_number(s, "PRAGMA application_id", &id, e);
    if (rc == 0) rc = store_number(s, "PRAGMA user_version", version, e);
    if (rc == 0) rc = store_number(s, "SELECT count(*) FROM sqlite_schema", &tables, e);
    if (rc) return rc;
    if (id == 0 && *version == 0 && tables == 0) return 0; /* new */
    if (id != APPLICATION_ID)
        return error_set(e, AHA_ERR_FORMAT, "'%s' is another program's database (application id 0x%08x, 0x%08x expected); --db names another file", s->path,
                         (unsigned)id, APPLICATION_ID);
    if (*version < 1) return error_set(e, AHA_ERR_FORMAT, "database '%s' is damaged: version %lld, 1 to %d expected", s->path, (long long)*version, NEWEST);
    if (*version > NEWEST)
        return error_set(e, AHA_ERR_UNSUPPORTED, "database '%s' is of a newer aha (version %lld, this one reads up to %d)", s->path, (long long)*version, NEWEST);
    return 0;
}

/* In one transaction; the version is read again inside, as another process may have been faster. */
static int migrate(const Store *s, aha_error *e)
{
    int64_t version = 0;
    char    set[96];
    int     rc = store_run(s, "BEGIN IMMEDIATE", e);
    if (rc) return rc;
    rc = recognise(s, &version, e);
    for (int64_t i = version; i < NEWEST && rc == 0; i++) rc = store_run(s, STEPS[i], e);
    snprintf(set, sizeof set, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID, NEWEST);
    if (rc == 0) rc = store_run(s, set, e);
    if (rc == 0) rc = store_run(s, "COMMIT", e);
    if (rc) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* ---- open ---- */
static int place(Store *s, const char *path, bool make, aha_error *e)
{
    size_t n = strlen(path);
    if (n == 0) return error_set(e, AHA_ERR_ARG, "the database's name is empty");
    if (dir_exists(path)) return error_set(e, AHA_ERR_IO, "'%.400s' is a folder, a database's file is expected", path);
    if (path_is_special(path, e)) return AHA_ERR_IO;
    if (!make && !file_exists(path)) return error_set(e, AHA_ERR_STATE, "there is no database '%.400s'", path);
    s->path = mem_alloc(n + 3); /* "./" keeps SQLite from taking a name for a URI or for one of its own */
    if (!s->path) return error_set(e, AHA_ERR_NOMEM, "no memory to open '%.400s'", path);
    snprintf(s->path, n + 3, "%s%s", path[0] == '/' ? "" : "./", path);
    return make ? file_make_private(s->path, e) : 0;
}

/* WAL: readers and the one writer do not wait for each other.  Where it does not work (no shared memory), the older journal does. */
static int attach(Store *s, aha_error *e)
{
    int64_t ignored;
    if (sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE, NULL))
        return store_fail(s, "open it", e);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, 1 << 20);
    if (sqlite3_exec(s->db, "PRAGMA cell_size_check = ON; PRAGMA synchronous = NORMAL", NULL, NULL, NULL)) return store_fail(s, "open it", e);
    return store_number(s, "PRAGMA schema_version", &ignored, e);
}

int store_open(Store *s, const char *path, bool make, aha_error *e)
{
    int64_t version = 0;
    int     rc;
    *s = (Store){0};
    rc = place(s, path, make, e);
    if (rc == 0) rc = attach(s, e);
    if (rc == 0) rc = store_run(s, "BEGIN", e); /* one view of it: another process may be making it now */
    if (rc == 0) rc = recognise(s, &version, e);
    if (rc == 0) rc = check_sound(s, e);
    if (rc == 0) rc = store_run(s, "COMMIT", e);
    if (rc == 0) sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    if (rc == 0 && version < NEWEST) rc = migrate(s, e);
    if (rc) store_close(s);
    return rc;
}

void store_close(Store *s)
{
    sqlite3_close(s->db);
    mem_free(s->path);
    *s = (Store){0};
}
