/* infer: what the files of this folder share with each other and with nobody else. */
#ifndef AHA_INFER_INNER_H
#define AHA_INFER_INNER_H

#include "infer.h"

enum {
    LOGIT_ROWS = 64 /* rows of logits that exist at a time: 33 MB with R1's vocabulary */
};

/* ---- pages (kvcache.c) ---- a page is known by its number; -1: none */

/* How far a sequence's pages are findable: the last registered page, by its hash and its serial number. */
typedef struct KvChain {
    uint64_t hash, serial, epoch;
} KvChain;
size_t kvcache_held(const KvCache *k); /* bytes */
int    kvcache_new_dry(KvCache **out, const Model *m, int n_pages, aha_error *e); /* a shape for dry contexts: no page can be taken */
KvChain kvcache_root(const KvCache *k);
int32_t kvcache_take(KvCache *k);               /* a page of the caller's own, content undefined; -1: all are held */
void    kvcache_drop(KvCache *k, int32_t page); /* one holder less */
void    kvcache_copy(KvCache *k, int32_t to, int32_t from); /* the content */
/* For what is kept beside the engine's life (kvdisk.c).  The registered pages, those held first, then the last used first;
 * id [pages_total].  Returns how many. */
int      kvcache_registered(const KvCache *k, int32_t *id);
typedef struct KvPage {
    uint64_t       serial, parent; /* parent 0: a first page */
    const int32_t *token;          /* [KV_PAGE] */
} KvPage;
KvPage   kvcache_page(const KvCache *k, int32_t id);
/* a page's parts, one behind the other, layers slowest: page_bytes */
void     kvcache_read(const KvCache *k, int32_t id, uint8_t *to);
void     kvcache_write(KvCache *k, int32_t id, const uint8_t *from);
/* lost is called, with the number of a registered page, before it can no longer be found.  false: somebody else is. */
bool     kvcache_watch(KvCache *k, void (*lost)(void *user, int32_t page), void *user);
void     kvcache_unwatch(KvCache *k, const void *user); /* if it is this one's watch */
int32_t  kvcache_take_empty(KvCache *k);           /* as kvcache_take, but no page that can be found is given up for it */
void     kvcache_discard(KvCache *k, int32_t page); /* the caller's own registered page: no longer findable, and free */
typedef struct KvCount {
    int total, empty, held, findable; /* pages: in all; with nothing; of sequences; of nobody, but findable */
} KvCount;
KvCount  kvcache_count(const KvCache *k);
int     kvcache_holders(const KvCache *k, int32_t page);
/* The registered page that follows `at` with these KV_PAGE tokens, held for the caller, `at` moved on to it; or -1. */
int32_t kvcache_find(KvCache *k, KvChain *at, const int32_t *token);
/* Registers the caller's page as the one that follows `at`.  Where there is such a page already, the caller's is dropped and
 * that one held instead: the bits are the same.  Returns the page to use from now on. */
int32_t kvcache_add(KvCache *k, KvChain *at, const int32_t *token, int32_t page);

/* ---- tokens that a row knows beyond its sequence's ---- a guess, or what this step has given before it is settled */
typedef struct Ahead {
    int32_t token[2];
    int     n;
} Ahead;

/* ---- bias and penalties (adjust.c) ---- */
typedef struct TokenCount {
    int32_t token, generated; /* generated: how often the answer has it */
} TokenCount;
typedef struct Adjust {
    SampleAdjust o;     /* bias is owned */
    bool         on;
    TokenCount  *seen;  /* [n_seen] tokens with a penalty, in the order of their coming; NULL without penalties */
    int          n_seen, n_slot;
    int32_t     *slot;  /* [n_slot] where a token is in seen, hashed, or -1; n_slot is a power of two */
} Adjust;
int  adjust_check(const SampleAdjust *o, int vocab, aha_error *e);
int  adjust_init(Adjust *a, const SampleAdjust *o, const int32_t *prompt, int n_prompt, int max_new, aha_error *e);
void adjust_free(Adjust *a);
void adjust_take(Adjust *a, int32_t token); /* one more of the answer.  Allocates nothing */
void adjust_row(const Adjust *a, const Ahead *ahead, const real *logits, int V, real *out); /* out [V] */

/* ---- thinking (think.c) ---- a state that follows from the tokens alone */
typedef struct Think {
    ThinkTags      tags;
    const int32_t *end;   /* [n_end] */
    int            n_end, budget; /* budget -1: none */
    bool           on, open;
    int            used;  /* tokens inside the thinking */
    int            all;   /* with the tags */
    int            at;    /* the next of end to be forced; -1: none is */
    const int32_t *then;  /* [n_then] what follows the first end of a thinking */
    int            n_then, then_at; /* then_at: the next of it; n_then: it is behind us; -1: not yet */
} Think;
void    think_begin(Think *t); /* after its fields were set */
void    think_take(Think *t, int32_t token);
int32_t think_forced(const Think *t, const Ahead *ahead); /* the token that must follow, or -1 */
bool    think_unled(const Think *t, const Ahead *ahead);  /* inside a thinking that `then` must follow */

/* ---- endless repetition (repeat.c) ---- */
enum { REPEAT_EVERY = 32, REPEAT_PERIOD_MAX = 512, REPEAT_TIMES = 4 };
/* Whether the last tokens are one period, of at most REPEAT_PERIOD_MAX, REPEAT_TIMES times or more and over `min` tokens (at
 * most AHA_REPEAT_MAX) or more: the period, or 0. */
int repeat_period(const int32_t *token, int n, int min);
int repeat_length(const int32_t *token, int n, int period); /* how far back it goes */

/* ---- sampler.c ---- */
/* The n likeliest of logits, descending, equals by ascending id, with the bits that logprob_row gives; -1 where there are no
 * more finite ones. */
void top_tokens(const Ctx *c, const real *logits, int V, int n, aha_token_logp *out);

/* ---- sequences and the engine ---- */

/* Who asks: slots, pages and rows of prompts are shared between groups.  One exists while a sequence of it is not done. */
typedef struct Group Group;
struct Group {
    uint64_t key;
    Group   *next;
    int      n_seq, n_active; /* not done; of those, active */
    int      n_page;          /* what its active ones hold: counted when it is asked for (group_pages) */
    uint64_t pass;            /* rows of prompts that it has had: the group with the fewest is next */
    uint64_t seen;            /* the last round in which it had a prompt to compute */
};

struct Seq {
    Engine   *g;
    Group    *group;
    Seq      *next; /* among those waiting */
    int64_t   id;   /* age: smaller is older; 0: engine_score's */
    SeqState  state;
    SeqFinish finish;
    bool      cancelled, orphan; /* to be finished, to be freed, when the step ends */

    int32_t *token; /* [n_prompt + max_new] */
    int      n_prompt, max_new, n_tokens; /* n_tokens: known so far */
    int      computed;                    /* positions whose keys are in the cache */
    int      cached;                      /* prompt tokens of those that were found there */
    int32_t *page;                        /* [pages of n_prompt + max_new] */
    int      n_page, n_shared;            /* held; of those, registered */
    KvChain  chain;

    int32_t *stop;
    int      n_stop, stop_token;
    real    *logp; /* [max_new + 1] or NULL */
    int      n_top;
    aha_token_logp *top;               /* [max_new + 1, n_top] or NULL */
    real    *prompt_logp;              /* [n_prompt] or NULL */
    aha_token_logp *prompt_top;        /* [n_prompt, n_top] or NULL */
    bool    *forced;                   /* [max_new] or NULL */
    SampleParams sample;
    Adjust   adjust;
    Think    think;
    int32_t *think_end;
    int      repeat_min, repeat_period, repeat_tokens;
    bool     no_cache;
    int32_t  draft; /* a guess of the next token but one, -1: none */
    int      ahead;    /* first pages that another active one has or will have: s needs none of its own for them */
    int      passed;   /* younger ones that were admitted while there were no pages for s */
    uint64_t tried;    /* the last round in which it was not admitted */
    bool     planned;  /* this step's rows are decided */

    /* this step's plan: rows [row0, row0 + rows) of the batch, the last `drafts` of them a guess; wants [want0, + wants), before
     * them those of `echo` rows of the prompt */
    int row0, rows, drafts, want0, wants, echo;

    void (*on_token)(void *user, Seq *s, int32_t token, float logp);
    void (*on_done)(void *user, Seq *s);
    void  *user;

    bool   score; /* engine_score: nothing is sampled, every row's logits are wanted */
    float *score_logp;
    void (*score_row)(void *user, int i, const real *logits);
};

typedef struct Want { /* a row whose logits are wanted */
    Seq    *s;
    int     pos;
    int32_t token; /* what came out; -1: no number among the logits */
    real    logp;
} Want;

struct Engine {
    const Model   *m;
    const Kernels *k;
    Pool          *pool;
    EngineOptions  o; /* with the defaults filled in */
    KvCache       *kv;
    Ctx            ctx;
    real          *scratch; /* [threads, V + 1] */
    size_t         scratch_bytes;

    Seq   **active; /* [seqs_max + 1], oldest first */
    int     n_active;
    Seq    *waiting; /* oldest first */
    Group  *groups;  /* in use */
    Group   own;     /* engine_score's */
    int64_t next_id;
    uint64_t round;  /* calls of schedule */
    uint64_t clock;  /* Group.pass of the one that was served last: a group that begins to ask starts there */
    bool    stepping, settled; /* settled: the weights were told to go (model_settle_go) */

    /* the batch */
    int      n_rows, n_want, n_batch;
    int32_t *token, *pos, *seq;       /* [batch_max] */
    uint8_t *out, *flags;             /* [batch_max] */
    int32_t *want_row;                /* [batch_max] of the draft layer's batch */
    Want    *want;                    /* [batch_max] */
    Seq    **batch;                   /* [seqs_max + 1] */
    const int32_t **table;            /* [seqs_max + 1] */
    /* the draft layer's batch */
    int      n_drow;
    int32_t *dtoken, *dpos, *dseq, *drow; /* [batch_max] */
    EngineStats stats;
};

/* ---- admit.c: who is active, who holds pages ---- */
static inline int pages_for(int positions) { return (positions + KV_PAGE - 1) / KV_PAGE; }
Group *group_join(Engine *g, uint64_t key);   /* one sequence more; NULL: no memory */
void   group_leave(Engine *g, Group *group);  /* one less; the last one frees it */
void   waiting_insert(Engine *g, Seq *s);     /* by age */
void   active_insert(Engine *g, Seq *s);
bool   seq_stops(const Seq *s, int32_t token); /* it ends it */
void   seq_detach(Engine *g, Seq *s);         /* out of the lists, its pages dropped */
void   seq_extend(Engine *g, Seq *s);         /* takes over what the cache knows of the tokens ahead */
void   seq_count_cached(Engine *g, Seq *s, int n);
void   admit(Engine *g);                      /* from waiting to active, as far as there is room */
/* Pages for the first `positions` positions.  false: there are none, and, with `force`, s itself was sent back to wait. */
bool   seq_reserve(Engine *g, Seq *s, int positions, bool force);

/* ---- kvdisk.c ---- what a file of pages is for: another engine's are refused */
typedef struct KvStamp {
    uint64_t    model;
    const char *arch, *isa, *kv_type;
    bool        act_q8; /* Model's */
    bool        draft; /* the draft layer's keys are in the pages */
} KvStamp;
/* The pages that can be found, the last used first, as far as bytes_max (0: all) holds them, with every page that they
 * follow.  *n: how many; 0: nothing was written. */
int kvdisk_save(KvCache *k, const char *path, const KvStamp *stamp, int64_t bytes_max, int *n, aha_error *e);
/* The same in two parts: what is to be written, by the engine's thread, and the writing, by any other meanwhile.  AHA_ERR_STATE: there is
 * a snapshot already; or, of kvdisk_write, a page of it was given up before it was written. */
typedef struct KvSnapshot KvSnapshot;
int  kvdisk_snapshot(KvSnapshot **out, KvCache *k, int64_t bytes_max, aha_error *e);
int  kvdisk_write(KvSnapshot *s, const char *path, const KvStamp *stamp, int *n, aha_error *e);
void kvdisk_snapshot_free(KvSnapshot *s); /* the engine's thread, after the writing.  NULL is fine */
/* As many of them as there are empty pages; nothing of what is there is given up.  On an error nothing of the file is kept. */
int kvdisk_load(KvCache *k, const char *path, const KvStamp *stamp, int vocab, int *n, aha_error *e);

/* ---- request.c ---- */
int engine_check_ids(const Engine *g, const int32_t *id, int n, const char *what, aha_error *e);
int engine_check_length(const Engine *g, int n_prompt, int max_new, aha_error *e);
int request_check(const Engine *g, const SeqRequest *r, aha_error *e);
/* What is to be kept, and what the rules of sampling need.  On an error the caller deletes s. */
int request_take(Seq *s, const SeqRequest *r, aha_error *e);

/* ---- scheduler.c ---- */
void schedule(Engine *g, Seq *only);          /* plans and fills the batch; only: that one alone, NULL: all */
void seq_register(Engine *g, Seq *s);         /* full pages become findable */

/* ---- forward.c ---- */
/* The model over the planned batch, sampling, drafts.  On a dry context it only counts. */
void forward(Engine *g, Ctx *c);
void forward_worst_case(Engine *g); /* a batch that needs the most memory */

#endif
