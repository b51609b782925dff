/* serve: a model for others, over HTTP.  It belongs to the program, not to the library. */
#ifndef AHA_SERVE_H
#define AHA_SERVE_H

#include "../base/base.h"

/* A file of the page at /, carried in the program. */
typedef struct ServeFile {
    const char *path, *type; /* "/page/base.css", "text/css; charset=utf-8" */
    const void *data;
    size_t      n_bytes;
    const void *gzip;        /* the same compressed, or NULL */
    size_t      n_gzip;
    const char *tag;         /* another for every content */
} ServeFile;

/* The chat page (web/), as tools/page-embed put it into the program.  No files: its libraries were absent at build time. */
extern const ServeFile serve_page[];
extern const int       serve_page_files;
extern const char      serve_page_versions[]; /* of those libraries */

typedef struct ServeOptions {
    const char *host;          /* a name or an address to listen on */
    int         port;          /* 0: any that is free */
    const char *model;         /* the name that requests use; others after commas are taken too */
    const char *hosts;         /* further names under which browsers may reach this server, after commas; NULL: none */
    const char *origins;       /* origins of other pages that may ask, after commas; NULL: none */
    const char *tls_cert, *tls_key; /* PEM files: https; both or none.  New contents are taken up within a minute */
    struct Keys *keys;         /* keys.h: who may ask; NULL: everybody */
    int         queue;         /* requests that may wait; more are refused with 503 */
    int64_t     body_bytes;    /* largest body of a request */
    int         patience_s;    /* how long a client may take to send a request's head, or to read nothing of an answer; its body may
                                * take twice as long, and an idle connection stays for five times as long */
    const char *cache_file;    /* the key cache is kept there between runs; NULL: nowhere */
    int64_t     cache_file_bytes;  /* of it at most; 0: as large as it gets */
    int         cache_file_idle_s; /* it is also saved when nothing was asked for so long; 0: at the end alone */
    int         drain_s;       /* at the end, time for what is under way */
    bool        log_requests;  /* a line for each; never what was asked or answered */
    const ServeFile *file;     /* [n_file] */
    int         n_file;
    int       (*stop)(void);   /* asked again and again and after each signal; not 0: finish what is under way, and return */
    bool      (*reload)(void); /* asked like stop: whether tls_* are to be read again now; NULL: never */
    void      (*ready)(void *user, const char *url); /* listening now */
    void       *user;
} ServeOptions;

/* Serves until stop() says so, in this thread, with a thread for the engine and two for reading requests beside it.  The
 * engine is the caller's and nobody else's meanwhile.  AHA_ERR_IO: cannot listen, and why. */
struct aha_engine;
int serve_run(struct aha_engine *g, const ServeOptions *o, aha_error *e);

#endif
