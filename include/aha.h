/* aha.h - the public contract of libaha: DeepSeek-R1 and its distilled models, run and trained in C.
 *
 * Conventions
 *   - Functions return 0 (AHA_OK) or a negative AHA_ERR_* code; words for a person go into an aha_error.
 *   - Handles are opaque.  Whoever creates one frees it.  Freeing NULL is fine.
 *   - Option structs start with `size`: set it with the *_INIT macro, so that a program compiled against an older
 *     header keeps working with a newer library.
 *   - Text is UTF-8 with an explicit length where it can hold NUL.  Sizes in bytes end in _bytes, times in _s or _us.
 *   - The library never prints, never exits, never asserts on input.
 *   - Thread safety is stated per object.
 */
#ifndef AHA_H
#define AHA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define AHA_API __attribute__((visibility("default")))
#else
#define AHA_API
#endif

#define AHA_VERSION "0.1.0"

/* ---- errors ---- */
enum {
    AHA_OK = 0,
    AHA_ERR_NOMEM = -1,       /* memory, or a configured memory bound, is exhausted */
    AHA_ERR_IO = -2,          /* the system refused a file operation */
    AHA_ERR_FORMAT = -3,      /* a file or message is malformed */
    AHA_ERR_UNSUPPORTED = -4, /* well-formed, but of a kind this build does not handle */
    AHA_ERR_ARG = -5,         /* the caller passed something out of range */
    AHA_ERR_LIMIT = -6,       /* larger than a stated limit */
    AHA_ERR_STATE = -7,       /* not now: the object is in another state */
    AHA_ERR_CANCELLED = -8,   /* stopped at the caller's wish */
    AHA_ERR_INTERNAL = -9     /* a promise of the library to itself was broken: please report it */
};
typedef struct aha_error {
    int  code;
    char text[512]; /* one line, NUL-terminated */
} aha_error;

/* A short English name of a code, never NULL. */
AHA_API const char *aha_error_name(int code);
AHA_API const char *aha_version(void);

/* ---- log ----
 * Lines for a person: what was assumed, what is odd.  Without a sink they are dropped.  The sink is called from any thread.
 * Set it before other threads use the library. */
typedef enum aha_log_level { AHA_LOG_DEBUG, AHA_LOG_INFO, AHA_LOG_WARN, AHA_LOG_ERROR } aha_log_level;
typedef void (*aha_log_fn)(void *user, aha_log_level level, const char *line);
AHA_API void aha_log_set(aha_log_fn fn, void *user, aha_log_level min);

/* ---- engine ----
 * A loaded model with its threads, key cache and sequences.  Weights never change.
 * Thread safety: one thread at a time may submit, step, score, cancel and free sequences; aha_engine_get_info, aha_tokenize,
 * aha_detokenize, aha_chat and the reply functions may run in any number of threads beside it.  Two engines share nothing. */
typedef struct aha_engine aha_engine;

typedef struct aha_options {
    size_t      size;        /* of this struct */
    int         threads;     /* 0: AHA_THREADS, or as many as this process may use */
    int         chunk;       /* prompt tokens of one sequence in a step; 0: 128 */
    int         ctx;         /* positions of one sequence, prompt and answer; 0: what the model was made for, at most 4096 */
    int         seqs;        /* sequences decoding at once, others wait; 0: 64 */
    int64_t     cache_bytes; /* of keys, values and what finding them takes: never exceeded; 0: enough for all of that, at most half of the
                              * memory */
    const char *kv_type;     /* "f32" (or NULL); "bf16", "f16", "q8_0" (heads of 32 columns or multiples): smaller, and round */
    const char *cpu;         /* newest instruction set to use, one of those that aha doctor lists; NULL: AHA_CPU, or the best there is */
    bool        draft;       /* guess a token ahead with the model's own draft layer, if it has one: the same tokens in fewer steps */
    const char *activations; /* what is multiplied with weights of GGUF's block types: "q8" (or NULL), rounded to 8 bits per 32 columns, or
                              * "f32", as they are: slow, to compare with */
} aha_options;
#define AHA_OPTIONS_INIT {sizeof(aha_options), 0, 0, 0, 0, 0, NULL, NULL, false, NULL}

/* A model as bytes in memory, as its files would hold them.  tokenizer and the two after it may be NULL. */
typedef struct aha_bytes {
    const void *data;
    size_t      n_bytes;
} aha_bytes;
typedef struct aha_model_bytes {
    size_t    size;
    aha_bytes config, weights;                                 /* config.json, model.safetensors */
    aha_bytes tokenizer, tokenizer_config, generation_config;  /* the .json files of these names */
} aha_model_bytes;

/* Opens a Hugging Face folder: config.json, safetensors, and, where they are there, tokenizer.json, tokenizer_config.json (or
 * chat_template.jinja) and generation_config.json; or a GGUF file, of a split one the first, whose tokenizer is not read yet.
 * o NULL: defaults.  The files stay mapped until aha_engine_free.
 * AHA_ERR_IO, _FORMAT, _UNSUPPORTED name the file and what is wrong with it; AHA_ERR_NOMEM, _LIMIT, _ARG. */
AHA_API int  aha_engine_open(aha_engine **out, const char *path, const aha_options *o, aha_error *e);
/* The same from memory, which stays the caller's and must outlive the engine. */
AHA_API int  aha_engine_open_bytes(aha_engine **out, const aha_model_bytes *m, const aha_options *o, aha_error *e);
/* Sequences that are not done are cancelled (their on_done is called); all stay the caller's to free. */
AHA_API void aha_engine_free(aha_engine *g);

typedef struct aha_engine_info {
    size_t      size;
    const char *arch;          /* as config.json's model_type; this and the next strings live as long as the engine */
    const char *isa;           /* the instruction set in use: "ref", "avx2", "avx512", "neon", ... */
    const char *kv_type;
    const char *chat_template; /* name of the form that aha_chat renders */
    bool        chat_known;    /* false: the model's own template was not recognised, and the form is a guess */
    bool        has_text;      /* false: there was no tokenizer.json; only token ids work */
    bool        drafts;        /* the draft layer is in use */
    int         layers, width, vocab, threads;
    int         context;       /* positions that the model was made for */
    int         ctx, seqs;     /* the engine's limits */
    int64_t     parameters, parameters_active; /* without the draft layer; active: used for one token */
    int64_t     weights_bytes, cache_bytes;
    const int32_t *stop;       /* [n_stop] tokens that end an answer */
    int         n_stop;
    int32_t     think, end_think; /* the tokens <think> and </think>; -1: the model has none */
} aha_engine_info;
/* Fills info, whose size must be set; fields that an older caller does not know are left out. */
AHA_API void aha_engine_get_info(const aha_engine *g, aha_engine_info *info);

/* ---- sequences ----
 * A sequence is a prompt and what is generated after it.  Its result depends on its own request alone: not on what else runs,
 * on what is cached, or on the number of threads.  A beginning that an earlier sequence had is taken from the cache. */
typedef struct aha_seq aha_seq;

typedef struct aha_logit_bias {
    int32_t token;
    float   bias; /* added to its logit, -100 to 100 */
} aha_logit_bias;

/* How a token is chosen, in this order: bias is added to the logits; the logit of each token that the prompt or the answer has
 * is divided by repetition_penalty where it is above 0 and multiplied by it elsewhere (once, however often it was there);
 * presence_penalty, and frequency_penalty times how often, are taken off where the answer has the token; what comes out is
 * divided by temperature; top_k, top_p and min_p cut the rest; one random number, of (seed, stream, position), chooses. */
typedef struct aha_sample_options {
    size_t   size;
    float    temperature;  /* 0: always the likeliest token, among equals the one with the lowest id */
    float    top_p;        /* in (0, 1]; 1: off */
    float    min_p;        /* 0: off */
    int      top_k;        /* 0: off */
    uint64_t seed, stream; /* the same two give the same answer; stream tells sequences of one seed apart */
    float    repetition_penalty; /* 0.1 to 10; 1: off */
    float    presence_penalty, frequency_penalty; /* -2 to 2; 0: off */
    const aha_logit_bias *bias; /* [n_bias] copied; a token once, at most AHA_BIAS_MAX of them */
    int      n_bias;
} aha_sample_options;
/* what R1's authors recommend */
#define AHA_SAMPLE_OPTIONS_INIT {sizeof(aha_sample_options), 0.6f, 0.95f, 0, 0, 0, 0, 1, 0, 0, NULL, 0}

typedef struct aha_token_logp { /* log-probability under the plain softmax of the logits: no bias, penalty, temperature, cut */
    int32_t token; /* -1: there is none */
    float   logp;
} aha_token_logp;
typedef struct aha_new_token {
    size_t  size;
    int32_t token;
    int     index;  /* among the generated ones */
    bool    forced; /* not the model's choice: it closes a thinking that came to its budget, or follows it (`then`) */
    float   logp;   /* when asked for */
    const aha_token_logp *top; /* [n_top] valid until the sequence is freed; NULL unless asked for */
} aha_new_token;

enum {
    AHA_TOP_MAX = 20,
    AHA_BIAS_MAX = 1024,
    AHA_THINK_END_MAX = 256,
    AHA_REPEAT_DEFAULT = 512, /* a good repeat_min for chats and servers */
    AHA_REPEAT_MIN = 64,
    AHA_REPEAT_MAX = 4096
};

typedef struct aha_seq_options {
    size_t         size;
    const int32_t *prompt;   /* [n_prompt] copied */
    int            n_prompt; /* at least 1 */
    int            max_new;  /* tokens to generate at most; 0: as many as the context holds */
    const aha_sample_options *sample; /* copied; NULL: as AHA_SAMPLE_OPTIONS_INIT */
    const int32_t *stop;     /* [n_stop] copied; NULL: the model's own */
    int            n_stop;
    bool           want_logp;
    bool           no_cache; /* neither use what others left in the cache nor leave anything there */
    /* Called from aha_engine_step, in its thread: after each new token (never the one that stopped), and once at the end.  They
     * may submit, cancel and poll, and on_done may free its sequence; they must not step or free the engine.  NULL: none. */
    void (*on_token)(void *user, aha_seq *s, int32_t token, float logp);
    void (*on_done)(void *user, aha_seq *s);
    void *user;
    void (*on_new_token)(void *user, aha_seq *s, const aha_new_token *t); /* as on_token (which comes first, if both are set) */
    int            n_top;            /* 0 to AHA_TOP_MAX: that many likeliest tokens for each generated one, equals by ascending id */
    bool           want_prompt_logp; /* of the prompt's tokens too, and their n_top; it is then computed whole, not taken from the cache */
    /* Thinking: a budget of 0 or more is kept by closing the thinking when so many tokens of it were generated: the tokens of
     * think_end follow, whatever the model would say, and then it goes on by itself.  They count like any others. */
    bool           think_open;       /* the prompt ends inside the thinking: aha_chat says so */
    int            think_budget;     /* tokens; -1: none; 0: closed as soon as it is open.  aha_think_budget has names for some */
    const int32_t *think_end;        /* [n_think_end] copied, </think> among them; NULL: newline, </think>, two newlines */
    int            n_think_end;
    int            repeat_min;       /* 0: off; else AHA_REPEAT_MIN to _MAX: ends it (AHA_FINISH_REPEAT) when it has said the same
                                      * 1 to 512 tokens at least four times in a row, over at least so many tokens */
    uint64_t       group;            /* who asks, any number: slots, cache and rows are shared evenly between groups, within one the
                                      * oldest is first */
    /* What follows the end of the thinking that the prompt opened, whoever closed it: these tokens, whatever the model would say, and then
     * it goes on by itself.  For an answer that must begin so.  They count like any others.  A token that would end the answer inside
     * that thinking ends the thinking instead: it is </think>. */
    const int32_t *then;             /* [n_then] copied; NULL: nothing */
    int            n_then;           /* at most AHA_THINK_END_MAX */
} aha_seq_options;
#define AHA_SEQ_OPTIONS_INIT {sizeof(aha_seq_options), NULL, 0, 0, NULL, NULL, 0, false, false, NULL, NULL, NULL, NULL, 0, false, false, -1, \
                              NULL, 0, 0, 0, NULL, 0}

typedef enum aha_seq_state { AHA_SEQ_WAITING, AHA_SEQ_PROMPT, AHA_SEQ_GENERATING, AHA_SEQ_DONE } aha_seq_state;
typedef enum aha_finish {
    AHA_FINISH_NONE,
    AHA_FINISH_STOP,
    AHA_FINISH_LENGTH,
    AHA_FINISH_CANCELLED,
    AHA_FINISH_ERROR,
    AHA_FINISH_REPEAT /* it said the same again and again */
} aha_finish;
typedef struct aha_seq_status {
    size_t         size;
    aha_seq_state  state;
    aha_finish     finish;
    const int32_t *tokens; /* [n_tokens] generated; owned by the sequence, valid until it is freed */
    const float   *logp;   /* [n_tokens], and one more for stop_token if there is one; NULL unless asked for */
    int            n_tokens, stop_token; /* stop_token: the one that ended it (not among tokens), or -1 */
    int            n_prompt, prompt_done, prompt_cached; /* prompt tokens: all, computed by now, of those from the cache */
    int            n_top;
    const aha_token_logp *top;        /* [n_tokens][n_top], and one row more for stop_token; NULL unless asked for */
    const float          *prompt_logp; /* [prompt_done] of the prompt's tokens; the first has none: 0.  NULL unless asked for */
    const aha_token_logp *prompt_top; /* [prompt_done][n_top]; of the first all -1 */
    const bool           *forced;     /* [n_tokens]; NULL: there was neither a budget nor `then` */
    int            n_think;           /* generated tokens that are thinking, its tags included; 0 unless the model has them */
    int            repeat_period, repeat_tokens; /* of AHA_FINISH_REPEAT: how many tokens were repeated, over how many at the end */
} aha_seq_status;

/* Takes a request; nothing is computed yet.  AHA_ERR_LIMIT: longer than the context or the cache; AHA_ERR_ARG: a token that the
 * model does not have, or an option out of range: the text names it; AHA_ERR_UNSUPPORTED: a think_budget where there is no </think>.
 * Several answers to one prompt: the same request again with another sample.stream; the prompt is computed once. */
AHA_API int  aha_seq_submit(aha_engine *g, const aha_seq_options *o, aha_seq **out, aha_error *e);
/* The think_budget that an effort names, max_new being the tokens of thinking and answer together: "off" or "none" 0, "minimal" a
 * tenth, "low" a fifth, "medium" half, "high" four fifths of them, "max" or "xhigh" -1; a number in digits is itself.  AHA_ERR_ARG:
 * another name, or max_new below 1. */
AHA_API int  aha_think_budget(const char *effort, int max_new, int *budget, aha_error *e);
AHA_API void aha_seq_poll(const aha_seq *s, aha_seq_status *status); /* status->size must be set */
AHA_API void aha_seq_cancel(aha_seq *s); /* done at once, or, from a callback, when the step ends */
AHA_API void aha_seq_free(aha_seq *s);   /* one that is not done is cancelled first, without a call of on_done */

/* Computes one batch: parts of prompts, and one token for each sequence that generates.  Returns how many sequences are not done
 * yet, or an error, with which the sequences of that batch end (AHA_FINISH_ERROR); others, and the engine, go on. */
AHA_API int aha_engine_step(aha_engine *g, aha_error *e);
AHA_API int aha_engine_run(aha_engine *g, aha_error *e); /* steps until all are done; 0 or an error */

/* Teacher forcing: logp[i] is the log-probability of tokens[i+1] after tokens[0..i], i in [0, n-1); NULL: not wanted.
 * row (NULL: none) is called with the logits [vocab] of each position, ascending; they are valid during the call. */
AHA_API int aha_engine_score(aha_engine *g, const int32_t *tokens, int n, float *logp,
                             void (*row)(void *user, int i, const float *logits), void *user, aha_error *e);

/* ---- the key cache ---- in the thread that steps; not from callbacks (aha_engine_get_stats may be) ----
 * Keys and values lie in pages of page_tokens positions.  A full page can be found again by another sequence with the same
 * beginning, until the room is needed. */
typedef struct aha_engine_stats {
    size_t  size;
    int64_t steps, rows;      /* batches computed, and their rows */
    int64_t prompt_tokens;    /* of prompts, computed */
    int64_t cached_tokens;    /* of prompts, found instead */
    int64_t new_tokens;       /* generated */
    int64_t preempted;        /* sequences sent back to wait, whose keys are found or computed again */
    int64_t drafted, accepted; /* guesses of the draft layer; of those, right */
    int     seqs_active, seqs_waiting, groups; /* now; groups of those */
    int     page_tokens;
    int64_t page_bytes;
    int     pages;            /* in all: those that hold nothing, that sequences hold, that nobody holds but that can be found */
    int     pages_empty, pages_held, pages_findable;
} aha_engine_stats;
/* Since the engine was opened.  Fills stats, whose size must be set; fields that an older caller does not know are left out. */
AHA_API void aha_engine_get_stats(const aha_engine *g, aha_engine_stats *stats);
/* Writes the pages that can be found to a file, the last used first, as far as it stays within bytes_max (0: all of them), so that
 * another engine over the same model and options continues conversations without computing them again: a prompt then costs a
 * read.  Whoever reads the file reads the conversations: it is its owner's alone.  Replaced whole or not at all; not written
 * when there is no page.  Returns how many pages it has; AHA_ERR_IO, _NOMEM, _ARG, _STATE. */
AHA_API int aha_engine_cache_save(aha_engine *g, const char *path, int64_t bytes_max, aha_error *e);
/* The same in two parts, for who goes on stepping the engine while a large file is written.  One snapshot of an engine at a time
 * (AHA_ERR_STATE); it is freed, with what else is the engine's thread's, before the engine. */
typedef struct aha_cache_snapshot aha_cache_snapshot;
AHA_API int aha_engine_cache_snapshot(aha_engine *g, int64_t bytes_max, aha_cache_snapshot **out, aha_error *e);
/* By any thread, once.  As aha_engine_cache_save; AHA_ERR_STATE also when the engine needed the room of a page that was not written yet:
 * then there is no new file. */
AHA_API int aha_cache_snapshot_write(aha_cache_snapshot *s, const char *path, aha_error *e);
AHA_API void aha_cache_snapshot_free(aha_cache_snapshot *s); /* NULL is fine */
/* Reads such a file into empty pages, as many as there are; nothing is given up for it.  Returns how many were read.
 * AHA_ERR_UNSUPPORTED: it is of another model, instruction set, kv_type or version, and says which; AHA_ERR_FORMAT: it is damaged;
 * AHA_ERR_IO, _NOMEM, _STATE.  With an error nothing of it is used. */
AHA_API int aha_engine_cache_load(aha_engine *g, const char *path, aha_error *e);

/* ---- text ---- AHA_ERR_STATE when the model came without a tokenizer ---- */
/* Memory that the library gave out: ids, text. */
AHA_API void aha_free(void *p);
/* Text to ids, without a beginning-of-sentence token.  Text that spells a control token stays text, unless `special`.
 * *ids is the caller's: aha_free. */
AHA_API int aha_tokenize(const aha_engine *g, const char *text, size_t n_bytes, bool special, int32_t **ids, int *n, aha_error *e);
/* Ids to bytes (a cut character stays cut), NUL-terminated, *n_bytes without the NUL.  *text is the caller's: aha_free. */
AHA_API int aha_detokenize(const aha_engine *g, const int32_t *ids, int n, char **text, size_t *n_bytes, aha_error *e);

typedef struct aha_tool_call { /* of a function: in messages what an assistant asked for, in replies what the model asks for */
    const char *name;      /* NUL-terminated */
    const char *arguments; /* JSON text, NUL-terminated */
    bool        complete;  /* of a reply: false where it ended inside the call */
    bool        valid;     /* of a reply: complete, with a name, and arguments are a JSON object */
} aha_tool_call;
typedef struct aha_message { /* zero what is not used */
    const char *role; /* "system", "user", "assistant", or "tool": the result of a call */
    const char *text; /* NULL: none */
    size_t      n_bytes;
    const aha_tool_call *calls; /* [n_calls] of an assistant, after its text */
    int         n_calls;
    bool        prefix; /* of the last message, an assistant's: the answer goes on where text ends */
} aha_message;
/* A conversation to the ids of a prompt, the next answer opened: the model's own form, control tokens by id, user text never one
 * of them (of a prefix, its <think> and </think> are).  *think_open (may be NULL): the answer begins inside the thinking.
 * *ids is the caller's: aha_free. */
AHA_API int aha_chat(const aha_engine *g, const aha_message *m, int n, int32_t **ids, int *n_ids, bool *think_open, aha_error *e);
/* The same, with functions that the model may call: a JSON list of {"type": "function", "function": {"name", ...}}, described
 * after the system text.  AHA_ERR_FORMAT names the entry that is none. */
AHA_API int aha_chat_tools(const aha_engine *g, const aha_message *m, int n, const char *tools, size_t tools_bytes, int32_t **ids,
                           int *n_ids, bool *think_open, aha_error *e);

/* The same with all that can be asked for. */
typedef enum aha_think {
    AHA_THINK_TEMPLATE, /* the model's own form */
    AHA_THINK_FORCED,   /* the thinking is opened, so that it cannot be left out */
    AHA_THINK_FREE,     /* it is not opened: the model does it itself, or does not think */
    AHA_THINK_OFF       /* an empty thinking is written: the reply is the answer.  After results of tools nothing is */
} aha_think;
typedef struct aha_chat_options {
    size_t      size;
    aha_think   think;
    const char *tools; /* as of aha_chat_tools; NULL: none */
    size_t      tools_bytes;
} aha_chat_options;
#define AHA_CHAT_OPTIONS_INIT {sizeof(aha_chat_options), AHA_THINK_TEMPLATE, NULL, 0}
AHA_API int aha_chat_with(const aha_engine *g, const aha_message *m, int n, const aha_chat_options *o, int32_t **ids, int *n_ids,
                          bool *think_open, aha_error *e);

/* Splits an answer, token by token, into thinking, answer and tool calls, without control tokens and always valid UTF-8. */
typedef struct aha_reply aha_reply;
typedef enum aha_part { AHA_PART_THINKING, AHA_PART_ANSWER } aha_part;
AHA_API int  aha_reply_new(aha_reply **out, const aha_engine *g, bool think_open, aha_error *e); /* the engine must outlive it */
enum { AHA_STOP_MAX = 64, AHA_STOP_BYTES_MAX = 1024 };
typedef struct aha_reply_options {
    size_t           size;
    bool             think_open;
    bool             plain; /* all of it is answer, as it comes: no thinking, no tool calls, white space kept */
    const aha_bytes *stop; /* [n_stop] UTF-8, copied: the answer ends before the first of these texts (of those that end at the
                            * same byte, the longest).  They are not looked for in the thinking or in tool calls.
                            * At most AHA_STOP_MAX, each of 1 to AHA_STOP_BYTES_MAX bytes: AHA_ERR_LIMIT, _ARG */
    int              n_stop;
} aha_reply_options;
#define AHA_REPLY_OPTIONS_INIT {sizeof(aha_reply_options), false, false, NULL, 0}
/* The same with stop texts.  What could still become one is held back by push, and given by end. */
AHA_API int  aha_reply_open(aha_reply **out, const aha_engine *g, const aha_reply_options *o, aha_error *e);
/* Which of the stop texts has ended the answer, or -1: then the sequence is of no more use (aha_seq_cancel), and pushes give nothing. */
AHA_API int  aha_reply_stopped(const aha_reply *r);
AHA_API void aha_reply_free(aha_reply *r);
/* The text that this token completes (perhaps none), NUL-terminated, valid until the next call; and what it is part of.
 * 0, or AHA_ERR_NOMEM. */
AHA_API int  aha_reply_push(aha_reply *r, int32_t token, aha_part *part, const char **text, size_t *n_bytes, aha_error *e);
AHA_API int  aha_reply_end(aha_reply *r, aha_part *part, const char **text, size_t *n_bytes, aha_error *e); /* what is held back */
/* The calls read so far; one that the answer's end cut off is there after aha_reply_end.  Owned by r, valid until its next
 * push, end or free. */
AHA_API int  aha_reply_calls(aha_reply *r, const aha_tool_call **calls, int *n_calls, aha_error *e);

#ifdef __cplusplus
}
#endif
#endif
