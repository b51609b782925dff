/* What the files of this room share.
 *
 * A request's way, and which thread it is in:
 *
 *   I/O      http.c       libmicrohttpd, bytes, deadlines, who may ask; the body is collected; a Task is made
 *   readers  readers.c    two threads: the body is read (JSON), checked and tokenised, by the parse function of its route
 *   I/O      tasks.c      admitted or refused; a stream's head is sent
 *   engine   engine.c     the only thread that touches sequences: submits, steps, cancels; appends tokens to the task
 *   I/O      tasks.c      tokens become text (reply.c) and, in the form of the route's dialect, what is sent
 *
 * Between them are lists under a mutex and, towards the I/O thread, an event descriptor in its poll.  A Task belongs to one
 * thread at a time, but for what its lock guards; the I/O thread makes it and frees it. */
#ifndef AHA_SERVE_INNER_H
#define AHA_SERVE_INNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "../format/format.h"
#include "keys.h"
#include "serve.h"

enum {
    CHOICES_MAX = 128,        /* sequences of one request */
    BODY_SMALL = 256 << 10,   /* larger bodies have a reader of their own */
    RESERVE_UNSAID = 4096,    /* tokens that are set aside for an answer whose length was left open */
    BODIES_BYTES_MAX = 256 << 20, /* of all bodies held at one time */
    COMMENT_S = 10,           /* a stream that has nothing to say says so, or when it was silent for as long as patience lasts */
    CONNECTIONS_MAX = 4096,
    OUT_BYTES_MAX = 4 << 20   /* of a stream that its reader does not take */
};

#define SHRUNK_WORDS "the model's file was cut short while it was served: put a whole one in its place and start the server again"

typedef struct Server Server;
typedef struct Exchange Exchange;
typedef struct Task Task;

/* ---- refusals (refusal.c) ---- */
typedef struct Refusal {
    int         status; /* 0: none */
    const char *type, *code;
    char        param[64]; /* the field, or "" */
    char        text[512];
    int         retry_after_s; /* 0: no such header */
} Refusal;
/* All return -1, for `return refuse(...)`. */
int  refuse(Refusal *r, int status, const char *code, const char *param, const char *fmt, ...) PRINTF_LIKE(5, 6);
int  refuse_error(Refusal *r, const aha_error *e, const char *param); /* the status that goes with its code */
int  refuse_key(Refusal *r, KeyAdmit a, const KeyRefusal *why);               /* what the keys refused */
void refusal_json(const Refusal *r, Buf *out); /* {"error": {...}} as OpenAI has it */

/* ---- what a request asks for (request.c) ---- */
typedef struct Prompt {
    int32_t *id;
    int      n;
    bool     think_open; /* the answer begins inside the thinking */
    int      n_bos;      /* of its first tokens: they were put before the text that was given */
    int      n_primed;   /* of its last tokens: they belong to the answer already */
} Prompt;

typedef struct Ask {
    bool               stream, include_usage, echo;
    bool               plain;      /* text as it comes: neither thinking nor calls are told apart */
    bool               one_call;   /* the answer ends with its first tool call */
    bool               nothing_new; /* the prompt alone is wanted: what is generated is dropped */
    int                n;          /* answers for each prompt */
    int                max_new;    /* 0: what the context holds */
    int64_t            reserve;    /* tokens of all prompts and answers together: what its key's quota sets aside while it runs */
    int                logprobs;   /* of how many likely tokens besides the chosen one; -1: none */
    int                repeat_min; /* as of aha_seq_options */
    int                think_budget;
    int32_t           *then;       /* [n_then] the end of a thinking that came to its budget, and from n_close on what follows one, */
    int                n_then, n_close; /* whoever ends it; owned.  NULL: nothing need follow */
    const char        *effort;     /* in place of a budget, or NULL; borrowed from the body */
    aha_think          think;
    aha_sample_options sample;
    aha_logit_bias    *bias;       /* [sample.n_bias] */
    aha_bytes          stop[AHA_STOP_MAX]; /* borrowed from the body: read while the choices are made */
    int                n_stop;
    Prompt            *prompt;     /* [n_prompt] */
    int                n_prompt;
} Ask;

/* A field of a request's body. */
enum { FIELD_USED = 1, FIELD_NULL = 2 /* null is as if it were absent */, FIELD_TELLS = 4 /* describes, changes nothing */,
       FIELD_REFUSED = 8 /* would change the answer and is not supported */ };
typedef struct Field {
    const char *name;
    unsigned    kind;
    const char *why; /* of a refused one, or NULL */
} Field;
/* Every member must be in the list, and may be null only where the list says so. */
int fields_check(const Json *body, const Field *f, int n, Refusal *r);
/* Absent (or null): *out stays.  -1: refused, naming the field. */
int want_int(const Json *o, const char *key, int64_t lo, int64_t hi, int64_t *out, Refusal *r);
int want_num(const Json *o, const char *key, double lo, double hi, double *out, Refusal *r);
int want_bool(const Json *o, const char *key, bool *out, Refusal *r);
int want_str(const Json *o, const char *key, bool required, const char **out, Refusal *r);
bool name_listed(const char *list, const char *name); /* among names with commas between */
int ask_common(Task *t, const Json *body, Refusal *r); /* model, stream, n, sampling, ... */
int ask_logprobs(Ask *a, const Json *body, Refusal *r); /* as chats have it */
int ask_room(Task *t, Refusal *r);     /* prompts against the context; max_new, reserve, and the budget that an effort means */
int prompts_new(Task *t, int n, Refusal *r);
/* chat.c: the conversation of a body to a prompt, tools and all */
int chat_prompt(Task *t, const Json *body, Prompt *p, Refusal *r);
/* The fields that generating requests share, for the lists of fields_check. */
#define FIELDS_GENERATE                                                                                                \
    {"model", FIELD_USED, NULL}, {"stream", FIELD_USED | FIELD_NULL, NULL}, {"stream_options", FIELD_USED | FIELD_NULL, NULL},          \
    {"n", FIELD_USED | FIELD_NULL, NULL}, {"max_tokens", FIELD_USED | FIELD_NULL, NULL}, {"temperature", FIELD_USED | FIELD_NULL, NULL}, \
    {"top_p", FIELD_USED | FIELD_NULL, NULL}, {"top_k", FIELD_USED | FIELD_NULL, NULL}, {"min_p", FIELD_USED | FIELD_NULL, NULL},        \
    {"presence_penalty", FIELD_USED | FIELD_NULL, NULL}, {"frequency_penalty", FIELD_USED | FIELD_NULL, NULL},                           \
    {"repetition_penalty", FIELD_USED | FIELD_NULL, NULL}, {"repetition_stop", FIELD_USED | FIELD_NULL, NULL},                           \
    {"logit_bias", FIELD_USED | FIELD_NULL, NULL}, {"stop", FIELD_USED | FIELD_NULL, NULL}, {"seed", FIELD_USED | FIELD_NULL, NULL},     \
    {"logprobs", FIELD_USED | FIELD_NULL, NULL}, {"user", FIELD_TELLS, NULL}, {"metadata", FIELD_TELLS | FIELD_NULL, NULL},              \
    {"store", FIELD_TELLS | FIELD_NULL, NULL}, {"service_tier", FIELD_TELLS | FIELD_NULL, NULL},                                         \
    {"safety_identifier", FIELD_TELLS | FIELD_NULL, NULL}, {"prompt_cache_key", FIELD_TELLS | FIELD_NULL, NULL}

/* ---- routes (routes.c) ---- */
typedef struct Route {
    const char *method, *path; /* a path that ends with * is a beginning */
    unsigned    kind;
    int  (*now)(Exchange *x, Refusal *r);                  /* answered at once, in the I/O thread */
    int  (*parse)(Task *t, const Json *body, Refusal *r);  /* in a reader's thread: fills t->ask, or t->whole */
    const struct Dialect *dialect;                         /* how answers of sequences are written */
} Route;
enum { ROUTE_OPEN = 1 /* needs no key */, ROUTE_GENERATES = 2 /* is refused when too many wait */, ROUTE_FILES = 4 /* if the page has such a file */ };
/* NULL: none; *other_method then says whether the path exists with another method. */
const Route *route_find(const Server *s, const char *method, const char *path, bool *other_method);

/* ---- answers (reply.c) ---- */
typedef struct Token {
    int32_t id;
    float   logp;
} Token;

typedef struct Choice {
    Task       *task;
    atomic_bool enough;     /* said by the I/O thread: no more tokens are wanted */
    aha_seq    *seq;        /* the engine thread's */
    /* under the task's lock */
    Token          *token;
    aha_token_logp *top;    /* [n_token][ask.logprobs] */
    int             n_token, cap_token;
    float          *prompt_logp; /* [prompt->n], when echoed with log-probabilities; NULL otherwise */
    aha_token_logp *prompt_top;  /* [prompt->n][ask.logprobs] */
    int             n_cached;
    bool            done;
    aha_finish      finish;
    bool            stopped; /* by a token that is not among them */
    /* the I/O thread's */
    const Prompt *prompt;
    int           index, taken; /* tokens that became text */
    bool          ended;
    int           stop_text;    /* the stop text that ended it, or -1 */
    aha_reply    *reply;
    Buf           think, answer;   /* whole, or of a stream what is not written yet */
    Buf           logp[2];         /* JSON entries, after commas, by aha_part; likewise */
    Buf           kept, kept_top;  /* of plain text with log-probabilities: Token and aha_token_logp of all that was taken */
    size_t        n_answer;        /* bytes of the answer so far */
    int           n_think;         /* tokens of the thinking */
    int           n_calls;         /* calls already written */
    int           n_written;       /* tokens of those whose log-probabilities were written */
} Choice;

typedef struct Dialect {
    void (*begin)(Task *t, Buf *out);                 /* a stream's first bytes */
    void (*part)(Task *t, Choice *c, Buf *out);       /* c->think, c->answer, calls: what came since */
    void (*end)(Task *t, Choice *c, Buf *out);        /* the choice has ended */
    void (*finish)(Task *t, Buf *out);                /* all have */
    void (*broken)(Task *t, const Refusal *r, Buf *out); /* an error in the middle of a stream */
    void (*whole)(Task *t, Buf *out);                 /* the answer of a request without stream */
} Dialect;
extern const Dialect dialect_chat, dialect_text;

struct Task {
    Server      *s;
    Task        *next;      /* in the list that it waits in */
    const Route *route;
    char         id[32];    /* "req-..." */
    int64_t      created;   /* seconds since 1970 */
    uint64_t     start_ns, first_ns, last_ns;
    Buf          body;
    size_t       body_bytes; /* counted in the server's budget */
    Refusal      refusal;
    Ask          ask;
    Buf         *stop_texts; /* [AHA_STOP_MAX] copies, to say which one ended an answer; NULL: none */
    Buf          whole;     /* an answer that needs no sequence */
    Choice      *choice;    /* [n_choice] */
    int          n_choice;
    atomic_bool  cancelled; /* nobody waits for it any more */
    /* under the lock */
    pthread_mutex_t lock;
    Task        *next_dirty;
    bool         dirty;     /* in the list of those with news */
    bool         finished;  /* the engine thread has let go of it */
    aha_error    error;     /* of a sequence */
    /* the engine thread's */
    int          n_running;
    Task        *next_active;
    /* the I/O thread's */
    Exchange    *x;         /* NULL: the client went */
    bool         away;      /* with a reader or the engine */
    bool         sent;      /* it was given to the engine */
    bool         admitted;  /* counted among those under way */
    KeyGrant     grant;     /* of the key that asks */
    uint64_t     group;     /* who asks, for the engine's fairness: the key, or without one the address */
    int          n_ended;
};
void task_free(Task *t);

/* ---- the exchange: one request and its answer on a connection (http.c) ---- I/O thread only ---- */
void exchange_answer(Exchange *x, int status, const char *type, const Buf *body);   /* copied */
void exchange_static(Exchange *x, int status, const char *type, const void *data, size_t n); /* data outlives the server */
void exchange_head(Exchange *x, const char *name, const char *value); /* after the answer: one more header */
const char *exchange_asked(const Exchange *x, const char *name);      /* the request's header, or NULL */
void exchange_refuse(Exchange *x, const Refusal *r);
void exchange_stream(Exchange *x);                 /* the head of a stream of events */
Buf *exchange_out(Exchange *x);                    /* what is to be sent; exchange_push after appending */
void exchange_push(Exchange *x, bool last);
const char *exchange_path(const Exchange *x);
const char *exchange_query(const Exchange *x, const char *key);
Server     *exchange_server(const Exchange *x);

/* ---- lists between threads (queue.c) ---- */
typedef struct Queue {
    pthread_mutex_t lock;
    pthread_cond_t  cond;
    Task           *head, *tail;
    int             n;
    bool            stop;
} Queue;
void  queue_init(Queue *q);
void  queue_destroy(Queue *q);
void  queue_put(Queue *q, Task *t);
Task *queue_wait(Queue *q);            /* one; NULL: stopped */
Task *queue_take_all(Queue *q);        /* a chain by next; NULL: none */
bool  queue_wait_any(Queue *q, double seconds); /* until there is one or it was stopped; false: neither within so long.  < 0: for ever */
void  queue_stop(Queue *q);

/* ---- counters (metrics.c) ---- */
typedef struct Histogram {
    int64_t count[24];
    double  sum;
    int64_t n;
} Histogram;
typedef struct Metrics {
    int64_t   requests[6];  /* by the first digit of the status */
    int64_t   refused_overload, cancelled, prompt_tokens, cached_tokens, new_tokens;
    Histogram first_token, between_tokens, whole;
} Metrics;
void histogram_add(Histogram *h, double s);
void metrics_text(Server *s, Buf *out);

/* ---- the key cache in a file (cache_file.c) ---- the engine thread's, or anybody's before and after it */
typedef struct CacheFile {
    bool    foreign; /* what is there is not ours to replace */
    bool    failing; /* since the last one that was saved */
    int64_t saved, tried; /* tokens that were computed when it was saved, when that was tried */
    atomic_llong saves, failures;
    /* a save that is under way: the writer's until it is done */
    aha_cache_snapshot *snapshot; /* NULL: none is */
    Thread             *writer;
    int                 pages; /* that were written, or an error */
    aha_error           e;
    atomic_bool         done;
} CacheFile;
void   cache_file_load(Server *s);
void   cache_file_begin(Server *s);      /* a save, by a thread of its own, if there is something new and none is under way */
void   cache_file_tend(Server *s);       /* one that is done is reported */
void   cache_file_save(Server *s);       /* all that is new, and until it is */
double cache_file_wait(const Server *s); /* for how many seconds to do nothing before cache_file_begin; -1: nothing to save */

struct Server {
    aha_engine     *g;
    aha_engine_info info;
    ServeOptions    o;
    char            model[256];  /* the first name */
    char            fingerprint[32]; /* of model, kernels and key cache: the same one gives the same answers */
    int64_t         started;     /* seconds since 1970 */
    uint64_t        id_seed;
    uint64_t        id_count;
    /* threads */
    Queue           readers[2];  /* small bodies, large ones */
    Thread         *reader[2], *engine;
    Queue           inbox;       /* towards the engine */
    Queue           prepared;    /* from the readers */
    pthread_mutex_t dirty_lock;
    Task           *dirty;       /* with news from the engine */
    int             event;       /* signalled for the I/O thread */
    atomic_bool     engine_stop;
    CacheFile       cache_file;
    pthread_mutex_t stats_lock;
    aha_engine_stats stats;      /* under it: as the engine's thread saw them after its last step */
    atomic_int      n_seqs;      /* sequences in the engine */
    _Atomic(uint64_t) steps, step_ns;  /* steps made; when the last one ended */
    /* the I/O thread's */
    int             n_admitted;  /* requests under way that generate */
    int             n_answers;   /* sequences that were given to the engine, of tasks that were not freed */
    int             n_tasks;     /* all that were not freed */
    size_t          bodies;      /* bytes */
    bool            draining;
    Metrics         m;
    double          service_s;   /* how long a request takes, a running mean */
};

/* ---- threads ---- */
void task_read(Task *t);                 /* readers.c: its body; t->refusal says what is wrong with it */
void reader_main(void *queue_of_server); /* a ReaderArg */
typedef struct ReaderArg {
    Server *s;
    Queue  *q;
} ReaderArg;
void engine_main(void *server);          /* engine.c */
void engine_publish(Server *s);          /* its thread, or before it: s->stats */
void engine_send(Server *s, Task *t);    /* I/O thread: to be submitted */

/* ---- tasks in the I/O thread (tasks.c) ---- */
Task *task_new(Server *s, const Route *route, Exchange *x, const char *id); /* "req-..." */
void  task_begin(Task *t);      /* its body is complete */
void  task_abandon(Task *t);    /* the client went */
void  tasks_prepared(Server *s);
void  tasks_news(Server *s);
void  tasks_tick(Task *t, uint64_t now); /* a stream that waits */
bool  server_is_full(Server *s, Refusal *r);

/* ---- answers ---- */
int  choices_make(Task *t, Refusal *r);      /* a choice for each answer to each prompt; in a reader's thread */
void choice_take(Choice *c, const Token *token, const aha_token_logp *top, int n);
void choice_end(Choice *c);
void choice_free(Choice *c);
const char *choice_finish_reason(Choice *c);
void choice_reason_json(Task *t, Choice *c, Buf *out); /* ,"finish_reason":...,"stop_reason":... */
typedef struct Usage {
    int64_t prompt, cached, completion, thinking; /* tokens */
} Usage;
Usage usage_of(Task *t);
void  usage_json(Task *t, Buf *out);
/* what OpenAI's two ways to answer have in common: an object's first fields, left open; a stream's end; an error inside it */
void openai_head(Task *t, const char *prefix, const char *object, Buf *out);
void openai_finish(Task *t, const char *prefix, const char *object, Buf *out);
void openai_broken(Task *t, const Refusal *r, Buf *out);
void token_text(Task *t, int32_t id, Buf *out);        /* appended; bytes, perhaps of no whole character */
void token_logprob_json(Task *t, const Token *k, const aha_token_logp *top, int n_top, Buf *out);

/* ---- routes' functions ---- */
int chat_parse(Task *t, const Json *body, Refusal *r);
int text_parse(Task *t, const Json *body, Refusal *r);       /* completions */
int tokenize_parse(Task *t, const Json *body, Refusal *r);
int detokenize_parse(Task *t, const Json *body, Refusal *r);
int models_now(Exchange *x, Refusal *r);
int health_now(Exchange *x, Refusal *r);
int metrics_now(Exchange *x, Refusal *r);
bool page_has(const Server *s, const char *path);
int page_now(Exchange *x, Refusal *r);

#endif
