/* keys: who may ask, how much, and what was used.
 *
 * A key is "aha-" and 43 letters and digits, 256 bits from the system's random source, shown once.  The database keeps its
 * SHA-256 alone.  A slow hash (bcrypt, Argon2) protects what people choose, because it can be guessed; 2^256 equally likely
 * values cannot be, at any speed, and a slow hash would let anybody keep the server busy with wrong keys.
 *
 * Two sides.  The store (keys_store.c, keys_admin.c) is the SQLite file, for the commands: add, list, revoke, sum up.  Keys
 * (keys.c) is the running server's view: everything in memory, O(1), one short lock, no file on the path of a request.  Its
 * own thread (keys_writer.c) writes usage and reads the file again when somebody changed it, within two seconds.  A database
 * that is locked, full or gone stops no answer: what was used is kept in memory and added to the file when that works again.
 *
 * Nothing here logs or stores a key. */
#ifndef AHA_SERVE_KEYS_H
#define AHA_SERVE_KEYS_H

#include "../base/base.h"

enum {
    KEY_LEN = 47,          /* of "aha-..." without its NUL */
    KEY_TEXT_CAP = 48,
    KEY_PREFIX_LEN = 10,   /* "aha-" and six more: what lists show */
    KEY_PREFIX_CAP = 11,
    KEY_NAME_MAX = 64,     /* bytes: letters, digits, - _ . @ */
    KEY_NAME_CAP = 65,
    KEYS_MAX = 100000      /* rows of a database, the revoked ones too */
};

typedef struct KeyLimits { /* 0: no limit */
    int     per_minute;     /* requests: a bucket of so many, filled again at that rate */
    int     concurrent;     /* requests at the same time */
    int64_t tokens_per_day; /* prompt and completion, of a day in UTC */
} KeyLimits;

typedef struct KeyUsage { /* of one request, or a sum */
    int64_t requests;   /* keys_done: ignored, it counts one */
    int64_t prompt;     /* tokens of the prompt, the cached ones too */
    int64_t cached;     /* of those from the cache */
    int64_t completion; /* tokens generated, the thinking too */
    int64_t reasoning;  /* of those thinking */
} KeyUsage;

/* ---- the running server ---- all of it may be called from any thread, except open and close */
typedef struct Keys Keys;
typedef struct KeyEntry KeyEntry; /* lives until keys_close, also of a key that was revoked */

typedef struct KeysOptions {
    double   (*now_s)(void *user);   /* seconds since 1970; NULL: the system's.  For tests */
    uint64_t (*mono_ns)(void *user); /* never goes back; NULL: the system's */
    void      *user;
    int        poll_ms;              /* how often the writer looks at the file; 0: 1000 */
} KeysOptions;

/* Opens the database at `path`, made with mode 0600 when it is not there, and starts the writer.  path NULL: no database:
 * nobody needs a key and usage is not written.  o NULL: defaults.
 * AHA_ERR_FORMAT: damaged, or not aha's; AHA_ERR_UNSUPPORTED: of a newer aha; AHA_ERR_IO, _NOMEM. */
int  keys_open(Keys **out, const char *path, const KeysOptions *o, aha_error *e);
/* Writes what is left, for at most some two seconds, ends the writer.  What could not be written is counted in the log.
 * No grant may be in use any more.  NULL is fine. */
void keys_close(Keys *k);
/* Whether a request needs a key: there is or was one in the database, be it revoked.  (Revoking the last one opens nothing.)
 * If not, what a client sends as its key is of no interest: many insist on sending one. */
bool keys_required(const Keys *k);
int  keys_usable(const Keys *k); /* neither revoked nor expired now */

typedef enum KeyCheck { KEY_GOOD, KEY_UNKNOWN, KEY_REVOKED, KEY_EXPIRED } KeyCheck;
/* A request's leave.  Plain data: zero it, keep it with the request, give it to keys_done once. */
typedef struct KeyGrant {
    KeyEntry *entry;    /* NULL: nobody's (no keys are required) */
    int64_t   reserved; /* tokens */
    bool      admitted;
} KeyGrant;

/* Whose key these n bytes are (without "Bearer "; not NUL-terminated, of any length and content).  What has not a key's
 * length is refused unread; the rest is hashed, and hashes are compared in constant time.  Only KEY_GOOD fills g->entry.
 * All but KEY_GOOD are HTTP 401. */
KeyCheck    keys_check(Keys *k, const char *presented, size_t n, KeyGrant *g);
const char *key_check_words(KeyCheck c); /* a sentence for the answer, never NULL */

typedef enum KeyAdmit { KEY_ADMITTED, KEY_OVER_RATE, KEY_OVER_CONCURRENT, KEY_OVER_QUOTA, KEY_GONE } KeyAdmit;
typedef struct KeyRefusal {
    int  retry_s;    /* for Retry-After; 0: never (KEY_GONE) */
    char words[160]; /* a sentence for the answer */
} KeyRefusal;
/* Asks for leave to run one request, after keys_check (or with a zeroed grant, where no key is required: always admitted).
 * reserve: tokens that it may use at most, as far as known, else 0; they count against the day's until keys_done.  A request
 * is admitted while the day's tokens, used and reserved, are below the quota: its own may lead beyond, once.
 * KEY_GONE (HTTP 401): revoked or expired since keys_check.  The others are HTTP 429.  r may be NULL. */
KeyAdmit keys_admit(Keys *k, KeyGrant *g, int64_t reserve, KeyRefusal *r);
/* More is known of an admitted request: it may use so many tokens at most, in place of what was reserved.  They are judged by the
 * rule of keys_admit once more, since others may have reserved the rest meanwhile.  KEY_ADMITTED: they count from now on, until
 * keys_done.  KEY_OVER_QUOTA (HTTP 429): nothing changed, but the bucket of requests a minute has its one back; the request must
 * not run, and keys_done is due all the same.  Not admitted, or nobody's: KEY_ADMITTED, and nothing happens. */
KeyAdmit keys_reserve(Keys *k, KeyGrant *g, int64_t tokens, KeyRefusal *r);
/* An admitted request has ended, however: gives its place back and counts what it used (negative counts are taken for 0).
 * u NULL: it used nothing and is not counted.  The second call for a grant, or one that was not admitted, does nothing. */
void keys_done(Keys *k, KeyGrant *g, const KeyUsage *u);
/* The name of a grant's key for logs and metrics, "-" for nobody's; valid until keys_close. */
const char *keys_name(const KeyGrant *g);

typedef struct KeysStats {
    int64_t usable, required; /* keys; 1 when requests need one */
    int64_t unwritten;        /* requests counted in memory and not yet in the file */
    int64_t lost;             /* requests whose usage could not be kept */
    int64_t failures;         /* of the file since the last success; 0: it works */
} KeysStats;
void keys_stats(const Keys *k, KeysStats *s);

/* ---- where a server may listen ---- */
/* Whether `address` (127.0.0.1, ::1, localhost, a path: this machine alone) may be listened on.  Any other one needs a key that
 * works (usable > 0), or no_keys, which somebody must have asked for by name.  0, or AHA_ERR_ARG with what to do. */
int  keys_address_check(const char *address, int usable, bool no_keys, aha_error *e);
bool address_is_local(const char *address);

/* ---- the commands ---- each opens the database, does one thing and closes it; errors as keys_open's */
typedef struct KeySpec {
    const char *name;
    KeyLimits   limits;
    int64_t     expires; /* seconds since 1970, from when on it is refused; 0: never */
} KeySpec;
/* Makes a key and writes it, NUL-terminated, to `key`: the only copy there is.  AHA_ERR_ARG: a bad name, or one in use. */
int keys_add(const char *db, const KeySpec *s, char key[KEY_TEXT_CAP], aha_error *e);

typedef struct KeyInfo {
    char      name[KEY_NAME_CAP], prefix[KEY_PREFIX_CAP];
    int64_t   id, created, expires, revoked; /* seconds since 1970; 0: never */
    KeyLimits limits;
} KeyInfo;
/* All keys in the order they were made; *list is one block to mem_free.  No database is no keys: none is made. */
int keys_list(const char *db, KeyInfo **list, int *n, aha_error *e);
/* By name or by a prefix (of eight bytes or more, or a whole key) that only one key has.  Fills *revoked.  AHA_ERR_ARG:
 * none, several, or revoked already. */
int keys_revoke(const char *db, const char *name_or_prefix, KeyInfo *revoked, aha_error *e);

typedef struct KeyDay {
    int64_t  day;                /* days since 1970-01-01, UTC */
    char     name[KEY_NAME_CAP]; /* "-": without a key */
    KeyUsage u;
} KeyDay;
/* Sums per day and key's name, oldest day first; name NULL: all; from day `since` on.  *list is one block to mem_free. */
int keys_usage(const char *db, const char *name, int64_t since, KeyDay **list, int *n, aha_error *e);

#endif
