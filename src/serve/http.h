/* What http*.c share: connections and the exchanges on them. */
#ifndef AHA_SERVE_HTTP_H
#define AHA_SERVE_HTTP_H

#include <microhttpd.h>

#include "inner.h"
#include "tls.h"

typedef struct Http Http;

typedef enum Phase {
    PHASE_IDLE,  /* no request has begun */
    PHASE_HEAD,  /* its first line is there */
    PHASE_BODY,
    PHASE_WORK,  /* complete; no answer yet */
    PHASE_SEND
} Phase;

typedef struct Conn {
    Http                  *h;
    struct MHD_Connection *c;
    int                    fd;
    Phase                  phase;
    bool                   fresh;    /* had no request yet */
    bool                   watched;  /* in the poll, for its end */
    bool                   hung_up;  /* the client closed it, or it was shut down */
    uint64_t               since_ns; /* begin of the phase; while sending: of the last progress */
    Exchange              *x;
    struct Conn           *prev, *next;
} Conn;

struct Exchange {
    Conn                *conn;
    Server              *s;
    const Route         *route;
    Task                *task;
    struct MHD_Response *response; /* ready, not queued yet */
    int                  status;
    char                 path[512], origin[256], id[32];
    const char          *method;
    bool                 preflight; /* a browser asks what is allowed; it is */
    bool                 has_body, swallow; /* the body is read only to be dropped: refusal stands */
    Refusal              refusal;
    size_t               body_bytes;
    bool                 suspended, stream, last;
    uint64_t             start_ns;
    Buf                  out; /* of a stream */
    size_t               out_at;
    size_t               whole_bytes; /* of an answer without stream */
};

struct Http {
    Server            *s;
    struct MHD_Daemon *daemon;
    int                poll, listener;
    Conn              *conns;
    int                n_conns, limit;
    const char        *host; /* as it was given */
    bool               local;  /* listening on this machine alone */
    Tls               *tls;    /* NULL: plain HTTP */
    uint64_t           tls_ns; /* when its files were looked at */
};

int  http_start(Http *h, Server *s, aha_error *e);
void http_run(Http *h, int wait_ms);   /* waits for something at most so long, and does what there is to do */
void http_tick(Http *h, uint64_t now); /* deadlines */
void http_quiesce(Http *h);            /* no new connections */
bool http_busy(const Http *h);         /* an exchange is under way */
void http_stop(Http *h);

void conn_kill(Conn *c);               /* closed as soon as the library looks at it */
void exchange_resume(Exchange *x);

/* ---- https (http_tls.c) ---- */
void certificate_look(Http *h, uint64_t now);                  /* reads it again when it is time, or somebody says so */
void send_past(const Conn *c, const void *data, size_t n);     /* straight to the client, as far as it takes it */

int  exchange_admit(Exchange *x, const char *version, const char *url); /* http_admit.c: 0, or -1 and x->refusal */

/* ---- who may ask (http_check.c) ---- 0, or -1: refused */
int  check_framing(struct MHD_Connection *c, const char *version, uint64_t limit, bool *has_body, Refusal *r);
int  check_key(const Exchange *x, KeyGrant *g, Refusal *r);
bool check_preflight(Exchange *x);
int  check_host(const Exchange *x, Refusal *r);
int  check_origin(Exchange *x, Refusal *r);
int  check_type(struct MHD_Connection *c, Refusal *r);

/* ---- listening (listen.c) ---- */
int  listen_open(const char *host, int port, int *fd, bool *local, bool tls, char *url, size_t cap, aha_error *e);

#endif
