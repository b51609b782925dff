/* infer: sequences on a paged cache, batched.  The public API (include/aha.h) is a thin coat over this; the trainer's
 * rollouts use it directly.
 *
 * Same answer: what a sequence gets does not depend on what else is in the batch, how its prompt was chunked, what was
 * cached, or how many threads run.  Sampling draws its random numbers from (seed, stream, position). */
#ifndef AHA_INFER_INFER_H
#define AHA_INFER_INFER_H

#include "../model/model.h"
#include "../text/text.h"

/* ---- pages (kvcache.c) ----
 * Pages of KV_PAGE positions, reference counted.  A full page of known tokens is registered under the hash of all tokens up
 * to its end (chained page by page), so that another sequence with the same beginning shares it.  Pages nobody holds stay
 * findable until they are needed for something else (oldest first).  A page that a sequence still writes to is its own. */
typedef struct KvCache KvCache;
int  kvcache_new(KvCache **out, const Model *m, int n_pages, aha_error *e);
void kvcache_free(KvCache *k);
int  kvcache_pages_free(const KvCache *k);  /* free or reclaimable */
int  kvcache_pages_total(const KvCache *k);
size_t kvcache_bytes(const Model *m, int n_pages);
size_t kvcache_memory(const Model *m, int n_pages); /* the same with what finding them takes */
/* The most pages that `bytes` hold with all that belongs to them; 0: not one. */
int    kvcache_fit(const Model *m, uint64_t bytes);
Kv  *kvcache_kv(KvCache *k);                /* for the ops; the caller sets table */
/* Forgets what can be found by hash (after the weights changed: rollouts between optimiser steps). */
void kvcache_forget(KvCache *k);

/* ---- sampling (sampler.c) ---- */
typedef struct SampleParams {
    float    temperature; /* 0: greedy, ties to the lower id */
    float    top_p;       /* 1: off */
    int      top_k;       /* 0: off */
    float    min_p;       /* 0: off */
    uint64_t seed, stream; /* random numbers: philox(seed, stream, position of the new token) */
} SampleParams;
/* Picks an id from logits [V] (unchanged) for the token at `position`; *logp: its log-probability under the plain softmax
 * of the logits (temperature 1), the same bits as op logprob gives; NULL: not wanted.  scratch [V + 1], which may begin with
 * the logits themselves, then they are used up.
 * -1 when no logit is a finite number (or one is infinite). */
int32_t sample_token(const Ctx *c, const real *logits, int V, const SampleParams *p, int position, real *scratch, real *logp);

/* What changes the logits before that (adjust.c), in the order of the fields.  Zeroed: nothing. */
typedef struct SampleAdjust {
    const aha_logit_bias *bias; /* [n_bias] added; a token once */
    int   n_bias;
    float repetition; /* tokens of prompt and answer: a logit above 0 is divided by it, others are multiplied; 0, 1: off */
    float presence;   /* tokens of the answer: taken off once */
    float frequency;  /* the same: taken off as often as they are there */
} SampleAdjust;

/* ---- thinking (think.c) ---- */
enum { THINK_END_MAX = 16 };
typedef struct ThinkTags {
    int32_t open, close;        /* <think> and </think>, or -1 */
    int32_t end[THINK_END_MAX]; /* what closes a thinking that came to its budget: newline, </think>, two newlines */
    int     n_end;              /* 0: there is no </think> */
} ThinkTags;
int think_tags(ThinkTags *t, const Tokenizer *tok, int vocab, aha_error *e); /* tok NULL: none */
int think_budget(const char *effort, int max_new, int *budget, aha_error *e); /* as aha_think_budget */

/* ---- the engine (engine.c, scheduler.c) ---- not thread-safe: one thread drives it ---- */
typedef enum SeqState { SEQ_WAITING, SEQ_PREFILL, SEQ_DECODING, SEQ_DONE } SeqState;
typedef enum SeqFinish { SEQ_FINISH_NONE, SEQ_FINISH_STOP, SEQ_FINISH_LENGTH, SEQ_FINISH_CANCELLED, SEQ_FINISH_ERROR, SEQ_FINISH_REPEAT } SeqFinish;

typedef struct EngineOptions {
    int    batch_max;  /* rows of one step; 0: 512 */
    int    chunk;      /* prompt tokens of one sequence per step, and of all while any sequence decodes; 0: 128 */
    int    seqs_max;   /* sequences decoding at once, at most batch_max; 0: 64 */
    int    pages;      /* of the cache; 0: enough for seqs_max sequences of ctx_max, at most half of the memory */
    int    ctx_max;    /* positions of one sequence; 0: min(model's max_pos, 4096) */
    bool   draft;      /* guess one token ahead with the model's MTP layer, where it has one: the same tokens, in fewer steps */
} EngineOptions;

typedef struct Seq Seq;
typedef struct SeqRequest {
    const int32_t *prompt; /* copied */
    int            n_prompt, max_new;
    SampleParams   sample;
    const int32_t *stop;   /* ids that end the sequence (kept out of the output); copied */
    int            n_stop;
    bool           want_logp;       /* keep each generated token's log-probability */
    bool           no_cache;        /* neither look pages up nor register them */
    bool           want_prompt_logp; /* of the prompt too: it is computed whole */
    int            n_top;           /* likeliest tokens to keep of each row whose log-probability is wanted, at most AHA_TOP_MAX */
    SampleAdjust   adjust;          /* bias is copied */
    const ThinkTags *think;         /* copied; NULL: thinking is neither counted nor bounded */
    bool           think_open;      /* the prompt ends inside it */
    int            think_budget;    /* tokens of it; -1: none.  Only with think */
    const int32_t *think_end;       /* [n_think_end] copied; NULL: think->end */
    int            n_think_end;
    const int32_t *then;            /* [n_then] copied: what follows the end of the thinking that the prompt opened; NULL: nothing */
    int            n_then;
    int            repeat_min;      /* ends it after an exact repetition of so many tokens (repeat.c); 0: never */
    uint64_t       group;           /* who asks: groups share slots, pages and rows evenly, within one the oldest is first */
    /* called from engine_step after each new token; may call engine_cancel.  NULL: none */
    void (*on_token)(void *user, Seq *s, int32_t token, float logp);
    void (*on_done)(void *user, Seq *s);
    void  *user;
} SeqRequest;

typedef struct Engine Engine;
int  engine_new(Engine **out, const Model *m, const Kernels *k, Pool *pool, const EngineOptions *o, aha_error *e);
/* What an engine holds beside the weights, in bytes. */
typedef struct EngineMemory {
    size_t kv;          /* keys, values and what finding them takes */
    size_t activations; /* the arena of one step */
    size_t scratch;     /* of the threads */
    size_t batch;       /* tokens, positions, lists */
} EngineMemory;
EngineMemory engine_memory(const Engine *g);
/* The same before there is one, by the dry run that sizes it.  m may be of shapes alone (model_shape). */
int  engine_plan(EngineMemory *out, const Model *m, const Kernels *k, int threads, const EngineOptions *o, aha_error *e);
void engine_free(Engine *g); /* cancels what is unfinished; sequences stay the caller's to free */
/* Admits a request: AHA_ERR_LIMIT when prompt + max_new can never fit, AHA_ERR_ARG for ids outside the vocabulary, for n_prompt
 * or max_new below 1, and for sampling parameters out of range (top_p 0 too: write 1 for off). */
int  engine_submit(Engine *g, const SeqRequest *r, Seq **out, aha_error *e);
/* One batch: prompt chunks of some, one token of each that decodes.  Allocates nothing.  Returns how many sequences are still unfinished, or a
 * negative error (then the sequences of that batch are done with SEQ_FINISH_ERROR; the engine lives on). */
int  engine_step(Engine *g, aha_error *e);
int  engine_run(Engine *g, aha_error *e); /* steps until all are done */
void engine_cancel(Engine *g, Seq *s); /* done at once, or, from a callback, when the step ends; on_done is called */
/* After the model's weights were changed: what was computed with the old ones is no longer found.  Sequences that are not yet
 * done keep their keys. */
void engine_weights_changed(Engine *g);
/* Teacher forcing, before it returns: logp[i] (NULL: not wanted; n-1 of them) is the log-probability of tokens[i+1] given those
 * before; row (NULL: none) gets the logits [V] of every position i, ascending.  Through the cache in chunks, as a prompt
 * would be, but nothing is looked up there, and nothing stays.  Other sequences stand still meanwhile. */
int  engine_score(Engine *g, const int32_t *tokens, int n, float *logp, void (*row)(void *user, int i, const real *logits), void *user,
                  aha_error *e);

SeqState       seq_state(const Seq *s);
SeqFinish      seq_finish(const Seq *s);
const int32_t *seq_tokens(const Seq *s, int *n);  /* generated so far, without the stop token */
const float   *seq_logp(const Seq *s);            /* as many, and one more for the stop token if it ended by one; NULL unless asked for */
/* The likeliest tokens of row i of seq_logp: [n_top]; NULL unless asked for */
const aha_token_logp *seq_top(const Seq *s, int i);
int            seq_n_top(const Seq *s);
bool           seq_forced(const Seq *s, int i);   /* token i closed the thinking instead of the model */
int            seq_repeats(const Seq *s, int *tokens); /* of SEQ_FINISH_REPEAT: the period, and over how many tokens; else 0 */
int            seq_n_think(const Seq *s);         /* generated tokens that are thinking, tags included */
int            seq_stop_token(const Seq *s);      /* the id that ended it, or -1 */
int            seq_prompt_done(const Seq *s);     /* prompt tokens computed by now */
int            seq_prompt_cached(const Seq *s);   /* prompt tokens found in the cache */
void           seq_free(Seq *s);                  /* one that is not done is cancelled, without a call of on_done */

typedef struct EngineStats {
    int64_t steps, rows, prompt_tokens, cached_tokens, new_tokens, preempted, drafted, accepted;
} EngineStats;
EngineStats engine_stats(const Engine *g);

/* ---- speed (bench.c) ---- */
typedef struct Bench {
    int      n_prompt, n_new, n_seqs; /* in: tokens of each of n_seqs random prompts, computed at once, and after them */
    int      depth;            /* in: positions before the prompt, a multiple of KV_PAGE, whose keys and values are made up, not computed */
    uint64_t run;              /* in: another number, other prompts (those of a depth stay in the cache until it needs the room) */
    double   prompt_s, new_s;  /* until all have their first token, and from there to the end */
    int64_t  prompt_tokens, new_tokens, steps; /* of the first part; of the second, and its steps */
} Bench;
/* AHA_ERR_LIMIT when that does not fit.  The first run of an engine is slower: memory is touched, files are read; so is the first
 * at a depth. */
int engine_bench(Engine *g, const Model *m, Bench *b, aha_error *e);

/* ---- the words of a model (words.c) ---- what stands beside the weights: tokenizer, form of a chat, tokens that end an answer */
enum { MODEL_STOP_MAX = 16 };
typedef struct Words {
    Tokenizer   *tok;  /* NULL: there is none */
    ChatTemplate form;
    bool         form_known; /* false: the model's template was not recognised; form is the architecture's usual one */
    int32_t      stop[MODEL_STOP_MAX];
    int          n_stop;
    ThinkTags    think;
} Words;
typedef struct WordFiles { /* texts of the files; NULL: absent */
    const char *tokenizer, *tokenizer_config, *generation_config, *chat_template;
    size_t      n_tokenizer, n_tokenizer_config, n_generation_config, n_chat_template;
} WordFiles;
int  words_parse(Words *w, const WordFiles *f, const Config *c, aha_error *e);
int  words_open(Words *w, const char *dir, const Config *c, aha_error *e); /* absent files are no error */
int  words_from_gguf(Words *w, const WeightFile *file, const char *what, const Config *c, aha_error *e); /* words_gguf.c */
/* Beside or inside what the model was opened from. */
int  words_of(Words *w, const char *path, const Model *m, aha_error *e);
/* The form of the chat (jinja: the model's own template, NULL: none) and the tokens that end an answer, once w->tok is there. */
int  words_complete(Words *w, const char *jinja, size_t n, const Config *c, aha_error *e);
void words_free(Words *w);

#endif
