/* pull: from a repository on the Hugging Face hub to files on this disk.
 *
 *   pull_env.c     where the hub is, who we are, where models are kept
 *   pull_names.c   every name that comes from outside is judged here, before it meets a path or an address
 *   pull_http.c    one request: limits, redirects, what an answer's header says
 *   pull_hub.c     what a repository holds; refusals explained
 *   pull_cache.c   what the cache holds of it, when there is no network
 *   pull_select.c  which of its files are wanted
 *   pull_partial.c a file that is filled in pieces, over several runs if need be
 *   pull_blob.c    one file: is it there, where does it go, is it what was promised
 *   pull_fetch.c   many pieces at once, tried again
 *   pull_place.c   the cache's links, or a plain folder */
#ifndef AHA_CLI_PULL_H
#define AHA_CLI_PULL_H

#include <curl/curl.h>

#include "cli.h"

enum {
    HUB_REPO_CAP = 200, HUB_REV_CAP = 256, HUB_TYPE_CAP = 48, HUB_COMMIT_CAP = 41, HUB_OID_CAP = 65,
    HUB_PATH_MAX = 1024,          /* bytes of a file's path in its repository */
    HUB_FILES_MAX = 100000,
    HUB_ANSWER_MAX = 16 << 20,    /* bytes of one answer in JSON */
    PULL_PATH_CAP = 4096,
    PULL_CONNECTIONS_MAX = 32,
    PULL_HOPS_MAX = 5,            /* redirects in a row */
    PULL_RETRY_AFTER_MAX_S = 600  /* a server that asks for more is given up */
};
#define HUB_SIZE_MAX (INT64_C(1) << 50)

/* ---- where (pull_env.c) ---- */
typedef struct HubEnv {
    char endpoint[512];          /* without a slash at the end */
    char token[512];             /* "" when there is none */
    char cache[PULL_PATH_CAP];   /* the folder of models--ORG--NAME */
    const char *certificates;    /* a file of those to trust, or "" for the system's */
    int  tries;                  /* failures in a row of one piece until the pull fails */
    bool offline;                /* HF_HUB_OFFLINE */
} HubEnv;
int hub_env_read(HubEnv *v, aha_error *e);

/* ---- names (pull_names.c) ---- */
/* "ORG/NAME" or "ORG/NAME:TYPE"; type is "" without one */
int  repo_parse(const char *arg, char repo[HUB_REPO_CAP], char type[HUB_TYPE_CAP], aha_error *e);
int  revision_check(const char *rev, aha_error *e);
bool hex_is(const char *s, size_t digits);
/* NULL, or what is wrong with a path that a server named */
const char *hub_path_fault(const char *s, size_t n);
void url_escape(Buf *b, const char *s, bool keep_slash);

typedef struct GgufName {
    char   type[HUB_TYPE_CAP]; /* "UD-Q2_K_XL" */
    int    part, parts;        /* 1 of 1 when it is not split */
    size_t stem;               /* the path's bytes in front of "-00001-of-00003.gguf" or ".gguf" */
} GgufName;
bool gguf_name(const char *path, GgufName *g); /* false: no GGUF file of weights */

/* ---- one request (pull_http.c) ---- */
typedef struct Reply { /* what the lines of an answer's header said */
    int64_t  length, range_from, range_to, range_total, linked_size; /* -1: not said */
    long     retry_after;                                            /* seconds, by RateLimit; -1 */
    char     commit[HUB_COMMIT_CAP], etag[HUB_OID_CAP];
    char     error_code[48], error_text[200];
    char     next[2048];                                             /* Link: rel="next" */
    size_t   bytes;
    bool     too_long;
} Reply;

typedef struct Request {
    CURL              *easy;
    struct curl_slist *lines;
    Reply              reply;
    char               error[CURL_ERROR_SIZE];
} Request;
/* Ready but for what takes the body.  The token goes along only if the address is the hub's own. */
int  request_begin(Request *r, const HubEnv *v, const char *url, aha_error *e);
void request_end(Request *r);
long request_status(const Request *r);
long request_retry_after(const Request *r); /* seconds that the server asks to wait, or -1 */
/* After a 3xx: where it leads, mem_free it.  Refused: other protocols than http and https, and from https to http. */
int  request_redirect(const Request *r, const char *from, char **to, aha_error *e);
/* Waits, unless somebody interrupts. */
void pull_wait(double s);
/* Seconds until the next try after so many failures in a row. */
double retry_delay(int failures);
bool status_passes(long status); /* worth another try: 408, 429, 5xx */
/* The whole body, at most HUB_ANSWER_MAX.  0 with *status 200 to 499: the hub's own answer, which the caller judges. */
int  http_get(const HubEnv *v, const char *url, Buf *body, Reply *reply, long *status, aha_error *e);
/* The address with the hub's own scheme and host, whatever it named: a mirror's links lead to the mirror. */
int  url_at_hub(const HubEnv *v, const char *url, Buf *out, aha_error *e);

/* ---- a repository (pull_hub.c) ---- */
typedef struct HubFile {
    char   *path;
    int64_t size;
    char    oid[HUB_OID_CAP]; /* lfs: SHA-256 of the content; else git's SHA-1 of it as a blob */
    bool    lfs, wanted;
} HubFile;
typedef struct HubList {
    char     repo[HUB_REPO_CAP], rev[HUB_REV_CAP], commit[HUB_COMMIT_CAP];
    char     title[HUB_REPO_CAP + 16]; /* what is listed, in words */
    HubFile *file; /* by path */
    int      n, cap;
} HubList;
int  hub_list(HubList *l, const HubEnv *v, const char *repo, const char *rev, aha_error *e);
int  hub_list_add(HubList *l, const HubFile *f, aha_error *e); /* takes f->path when it succeeds */
void hub_list_sort(HubList *l);
void hub_list_free(HubList *l);
/* An answer that is no success, for a person; what: the file, or NULL for the repository. */
int  hub_refused(const HubEnv *v, const HubList *l, const char *what, long status, const Reply *r, aha_error *e);

/* ---- what is wanted (pull_select.c) ---- */
typedef struct Selection {
    const char *type, *pattern; /* "" and NULL: not said */
    int         files;
    int64_t     bytes;
    int         gguf;     /* the first file of the one GGUF model that was chosen, or -1 */
    bool        choose;   /* only GGUF, and no type was said: nothing is wanted yet */
} Selection;
int  select_files(Selection *s, HubList *l, aha_error *e);
void select_show_types(const HubList *l);          /* on standard error */
void select_json_types(const HubList *l, Buf *b);

/* ---- without a network (pull_cache.c) ---- */
struct Place;
/* The files of a revision that the cache shows; which others the repository has, nobody knows.  Writes nothing. */
int cache_list(HubList *l, const HubEnv *v, const char *repo, const char *rev, aha_error *e);
/* Whether those that are wanted, and those that they need, are there and whole: AHA_ERR_IO names what is not. */
int cache_check(const HubList *l, const struct Place *p, const Selection *s, aha_error *e);

/* ---- a file in pieces (pull_partial.c) ---- */
typedef struct Partial {
    File     f;
    int64_t  size, piece;  /* bytes of all, and of one piece */
    int      pieces;
    int64_t *done;         /* [pieces] bytes that are here, from each piece's start */
    bool     resumed;      /* some of it came from an earlier run */
} Partial;
/* *mine false: another process works on it.  key: what the content will be; a part of something else is dropped. */
int     partial_open(Partial *p, const char *path, int64_t size, const char *key, bool *mine, aha_error *e);
int64_t partial_peek(Partial *p, const char *key); /* of a file opened for reading: bytes that a pull could go on from */
int     partial_restart(Partial *p, const char *key, bool one_piece, aha_error *e); /* forgets all */
int64_t partial_piece_bytes(const Partial *p, int piece);
int     partial_write(Partial *p, int piece, const void *data, size_t n, aha_error *e);
int     partial_note(Partial *p, int piece, aha_error *e); /* for the next run */
int64_t partial_have(const Partial *p);
int64_t partial_front(const Partial *p);                   /* bytes from the start without a gap */
int     partial_seal(Partial *p, aha_error *e);            /* exactly its size, and on the disk */
void    partial_close(Partial *p);

/* ---- one file's way (pull_blob.c) ---- */
typedef enum BlobState { BLOB_WAITS, BLOB_ELSEWHERE, BLOB_OPEN, BLOB_DONE } BlobState;
typedef struct Piece {
    bool     active;
    int      failures;
    uint64_t not_before_ns;
} Piece;
typedef struct Blob {
    const HubFile *file;
    char          *final, *partial_path, *url, *direct; /* direct: where the hub's address led to */
    BlobState      state;
    Partial        part;
    Piece         *piece;
    void          *digest;    /* of what is here from the start without a gap */
    int64_t        digested;
    int            active, mismatches;
    bool           no_ranges, named_by_hash; /* named_by_hash: of the cache, where a name vouches for the content */
    uint64_t       look_again_ns;
} Blob;
int     blob_init(Blob *b, const HubFile *f, const char *final, const char *partial_path, const char *url, aha_error *e);
void    blob_free(Blob *b);
int     blob_open(Blob *b, aha_error *e);
int     blob_restart(Blob *b, aha_error *e);       /* from nothing; in one piece if the server knows no ranges */
void    blob_undigest(Blob *b);                    /* some of the content was taken back */
int     blob_look(const Blob *b, aha_error *e);    /* 1: it is in place already, 0: it is not; or an error */
int64_t blob_have(const Blob *b);
bool    blob_complete(const Blob *b);              /* every byte is here */
int     blob_digest(Blob *b, int64_t budget, aha_error *e); /* some more; 1: there is more to do at once */
int     blob_finish(Blob *b, aha_error *e);        /* checked and in place; or dropped and to be fetched again (state BLOB_OPEN) */
/* A file that lies at `path`: 1 it is the hub's, 0 it is not there, or an error when it is another's. */
int     blob_file_matches(const HubFile *f, const char *path, aha_error *e);

/* ---- many at once (pull_fetch.c) ---- */
int fetch_all(const HubEnv *v, const HubList *l, Blob *blob, int n, int connections, aha_error *e);

/* ---- where they end (pull_place.c) ---- */
typedef struct Place {
    const HubList *list;
    const char    *to;                   /* a plain folder, or NULL: the cache */
    char           root[PULL_PATH_CAP];  /* the repository's folder in the cache, or `to` */
    char           folder[PULL_PATH_CAP]; /* where the files are seen by their names */
} Place;
int place_names(Place *p, const HubEnv *v, const HubList *l, const char *to, aha_error *e); /* of the folders; nothing is made */
int place_init(Place *p, const HubEnv *v, const HubList *l, const char *to, aha_error *e);
int place_blob(const Place *p, const HubEnv *v, const HubFile *f, Blob *b, aha_error *e);
int place_path(const Place *p, const HubFile *f, char dst[PULL_PATH_CAP], aha_error *e);
int place_room(const Place *p, int64_t missing, aha_error *e);
int place_finish(const Place *p, aha_error *e); /* links and the revision's name */

#endif
