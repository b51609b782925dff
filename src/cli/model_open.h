/* The model that a command works with: -m, or AHA_MODEL, or the one built in. */
#ifndef AHA_CLI_MODEL_OPEN_H
#define AHA_CLI_MODEL_OPEN_H

#include "../cpu/cpu.h"
#include "../infer/infer.h"
#include "../text/text.h"
#include "options.h"

typedef struct ModelArgs {
    const char *path, *cpu, *kv, *act;
    int         threads, chunk;
    int64_t     ctx;
    bool        draft, verbose;
} ModelArgs;
#define MODEL_ARGS_INIT {NULL, NULL, "f32", "q8", 0, 0, 0, false, false}
extern const char *const ACT_TYPES[], *const KV_TYPES[];

#define OPT_MODEL(a)                                                                                                   \
    OPT_STRING('m', "model", &(a)->path, "DIR", "a Hugging Face folder (config.json, safetensors, tokenizer.json) or a GGUF file; without it "  \
               "AHA_MODEL, or else the built-in aha-tiny")
#define OPT_CPU(a)                                                                                                     \
    OPT_CHOICE(0, "cpu", &(a)->cpu, CPU_NAMES, "NAME", "newest instruction set to use; without it AHA_CPU, or the best there is")
#define OPT_MACHINE(a)                                                                                                 \
    OPT_INT(0, "threads", &(a)->threads, 0, 1024, "N", "threads to compute with; 0: all that this process may use"),   \
    OPT_CPU(a)
#define OPT_ACT(name, to)                                                                                              \
    OPT_CHOICE(0, name, to, ACT_TYPES, "TYPE", "what is multiplied with weights of GGUF's block types: q8, rounded to 8 bits in groups of "  \
               "128, or f32, as it is, which is slow")
#define OPT_ENGINE(a)                                                                                                  \
    OPT_GROUP("The machine"),                                                                                          \
    OPT_SIZE(0, "ctx", &(a)->ctx, 16, 1 << 30, "N", "positions of one conversation, prompt and answer; without it what the model "  \
             "was made for, at most 32k, and what half of the memory holds"),                                          \
    OPT_INT(0, "chunk", &(a)->chunk, 1, 1 << 16, "N", "prompt tokens computed at once; without it 128. The result is the same"),  \
    OPT_CHOICE(0, "kv", &(a)->kv, KV_TYPES, "TYPE", "how keys and values are kept: bf16 and f16 take half the memory and round, q8_0 a quarter"),  \
    OPT_ACT("act", &(a)->act),                                                                                         \
    OPT_FLAG(0, "draft", &(a)->draft, "guess a token ahead with the model's own draft layer, where it has one: the same answer, "  \
             "perhaps sooner"),                                                                                        \
    OPT_MACHINE(a),                                                                                                    \
    OPT_FLAG('v', "verbose", &(a)->verbose, "say more on standard error")

typedef struct ModelSet {
    const char    *path; /* or "aha-tiny" */
    bool           builtin;
    Config         cfg;
    Model         *m;
    Words          words;
    const Kernels *k;
    Pool          *pool;
    Engine        *engine;
    int            ctx;
    int64_t        params, params_active; /* without the draft layer */
} ModelSet;

/* What is wanted of it; the rest stays NULL. */
enum { MODEL_WORDS = 1, MODEL_WEIGHTS = 2, MODEL_NEEDS_TEXT = 4 /* no tokenizer is an error */ };
int  model_set_open(ModelSet *s, const ModelArgs *a, unsigned wants, aha_error *e);
Dtype         kv_dtype(const char *name); /* one of KV_TYPES */
EngineOptions model_engine_options(const ModelArgs *a, int seqs, int ctx);
int           model_builtin_config(Config *c, aha_error *e);
/* Kernels and threads, without an engine. */
int  model_set_compute(ModelSet *s, const ModelArgs *a, aha_error *e);
/* An engine for `seqs` sequences at once; needed: positions that one must have at least, or 0. */
int  model_set_engine(ModelSet *s, const ModelArgs *a, int seqs, int needed, aha_error *e);
void model_set_free(ModelSet *s);
/* The same as a handle of the public API, for `seqs` sequences at once.  *name: what requests may call the model, by where it came
 * from, valid as long as a->path. */
int  model_engine_open(struct aha_engine **out, const ModelArgs *a, int seqs, int64_t cache_bytes, const char **name, aha_error *e);
bool model_is_builtin(const ModelArgs *a); /* neither -m nor AHA_MODEL, and there is one */

/* ---- the built-in model speaks for itself (about_builtin.c) ---- */
/* Says once, on standard error, what it is. */
void builtin_introduce(const ModelSet *s);
/* Says, once, what it was made for, when the text is something else. */
/* Before a question is asked: a puzzle in any words is asked in words that the built-in model knows well (of 46 wordings that
 * it was trained on, 91%; of others, 45%), which is said, unless
 * quiet, and appended to `asked`: true.  Anything else: it says, once, that the
 * model was not made for it. */
bool builtin_hear(const ModelSet *s, const char *text, size_t n, bool quiet, Buf *asked);
/* On a terminal: whether the answer to a question that a rule can judge is right. */
void builtin_verdict(const ModelSet *s, const char *question, size_t n_question, const char *answer, size_t n_answer);

/* For inspect: parameters of the weights, and how many of them one token uses. */
void model_count(const Model *m, int64_t *all, int64_t *active);
/* What a token reads: bytes of weights that are the same for each (fixed) and of the experts chosen for it (routed); bytes of keys
 * and values at each position before it.  Without the embedding, of which it reads one row, and the draft layer, which is not
 * needed for an answer. */
typedef struct ModelReads {
    double fixed, routed, kv_position;
    double experts;                     /* bytes of all routed experts */
    double fixed_params, routed_params;
    double head_params;                 /* of the fixed ones: what a prompt needs once, not for every token */
    Dtype  dtype;                       /* what most of these bytes are in */
} ModelReads;
void model_reads(ModelReads *r, const Model *m);

#endif
