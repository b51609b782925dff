/* What the files of keys share among themselves: the key's text, the SQLite file, the server's entries. */
#ifndef AHA_SERVE_KEYS_INNER_H
#define AHA_SERVE_KEYS_INNER_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "keys.h"

enum { KEY_HASH_LEN = 32, DAY_S = 86400 };

/* ---- the key itself (keys_secret.c) ---- */
int  key_make(char key[KEY_TEXT_CAP], aha_error *e);
bool key_shaped(const char *s, size_t n);                       /* length and letters of a key */
int  key_hash(const char *s, size_t n, uint8_t hash[KEY_HASH_LEN], aha_error *e);
bool key_hash_same(const uint8_t *a, const uint8_t *b);         /* in a time that does not depend on them */
void key_wipe(void *p, size_t n);
/* A letter or digit, then letters, digits, - _ . @, at most KEY_NAME_MAX; not beginning with "aha-", as prefixes do. */
bool key_name_valid(const char *s, size_t n);
bool key_prefix_valid(const char *s, size_t n);
bool key_limits_valid(const KeyLimits *l);

/* ---- the SQLite file (keys_store.c) ---- one thread at a time */
typedef struct Store {
    sqlite3 *db;
    char    *path;
} Store;
/* make: a file that is not there is made (0600), else AHA_ERR_STATE says that there is none. */
int  store_open(Store *s, const char *path, bool make, aha_error *e);
void store_close(Store *s); /* idempotent */
int  store_fail(const Store *s, const char *doing, aha_error *e); /* SQLite's last error as a code and words */
int  store_run(const Store *s, const char *sql, aha_error *e);
int  store_prepare(const Store *s, sqlite3_stmt **q, const char *sql, aha_error *e);
int  store_number(const Store *s, const char *sql, int64_t *v, aha_error *e); /* the first column of the first row */
bool store_moved(const Store *s); /* the name meanwhile means another file, or none */

typedef struct KeyRow {
    KeyInfo info;
    uint8_t hash[KEY_HASH_LEN];
    int64_t used; /* tokens on the day asked for */
} KeyRow;
/* ---- rows (keys_rows.c) ---- */
/* All keys by id, each row checked; *rows is one block to mem_free. */
int store_keys(const Store *s, int64_t day, KeyRow **rows, int *n, aha_error *e);

typedef struct DayUse { /* empty while u.requests == 0 */
    int64_t  day;
    KeyUsage u;
} DayUse;
typedef struct UseItem {
    KeyEntry *entry;
    int64_t   id;
    DayUse    use;
} UseItem;
int store_use_add(const Store *s, const UseItem *item, int n, aha_error *e); /* all of them or none */

/* ---- the running server (keys.c, keys_writer.c) ---- */
enum { PENDING_DAYS = 4 }; /* a file that cannot be written for longer loses the oldest day */

struct KeyEntry {
    uint8_t   hash[KEY_HASH_LEN];
    char      name[KEY_NAME_CAP];
    KeyEntry *next; /* of all; the writer's */
    /* from here on under the lock */
    int64_t   id; /* of its row; 0: it has none */
    KeyLimits limits;
    int64_t   expires, revoked;
    bool      present; /* has a row still */
    double    level;   /* of the bucket: requests that may come at once */
    uint64_t  level_ns;
    int       running;
    int64_t   reserved, day, used; /* used: tokens of that day, by all servers as far as known */
    DayUse    pending[PENDING_DAYS];
    KeyEntry *dirty_next;
    bool      dirty;
};

struct Keys {
    KeysOptions     o;
    bool            stored; /* there is a database */
    uint64_t        seed;   /* of the table's order */
    pthread_mutex_t lock;
    KeyEntry      **table;  /* under the lock, as the next ones; [mask + 1], open addressing by hash */
    size_t          mask;
    bool            required;
    KeyEntry        nobody; /* counts requests without a key */
    KeyEntry       *dirty;  /* entries with something pending */
    int64_t         unwritten, lost, lost_said, failures;
    /* the writer's */
    Store           store;
    KeyEntry       *all;
    int64_t         version; /* PRAGMA data_version when the file was last read */
    uint64_t        retry_ns;
    Thread         *writer;
    Waker          *waker;
    atomic_bool     stop;
};

static inline void keys_lock(const Keys *k) { pthread_mutex_lock((pthread_mutex_t *)&k->lock); }
static inline void keys_unlock(const Keys *k) { pthread_mutex_unlock((pthread_mutex_t *)&k->lock); }
KeyEntry *keys_find(const Keys *k, const uint8_t *hash); /* under the lock; the writer, which alone changes the table, without */
int64_t keys_today(const Keys *k);
/* Under the lock: adds to what waits for the file. */
void    pending_add(Keys *k, KeyEntry *t, int64_t day, const KeyUsage *u);
int64_t pending_tokens(const KeyEntry *t, int64_t day);
int     keys_reload(Keys *k, aha_error *e); /* the writer's: the file into memory */
void    keys_writer(void *keys);            /* the thread */

#endif
