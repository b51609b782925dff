/* model: the decoder.  Each architecture is written once (dense.c, deepseek_v3.c) as a plain function over the ops; the
 * same function decodes, prefills, batches strangers and trains. */
#ifndef AHA_MODEL_MODEL_H
#define AHA_MODEL_MODEL_H

#include "../format/format.h"
#include "../tensor/tensor.h"

/* One decoder layer's weights.  data == NULL: this architecture has none of it. */
typedef struct Layer {
    Weight attn_norm; /* [D] */
    /* grouped-query attention */
    Weight q, k, v;                /* [H*N, D] [G*N, D] [G*N, D] */
    Weight q_bias, k_bias, v_bias; /* qwen2 */
    Weight q_norm, k_norm;         /* qwen3: [N] */
    /* multi-head latent attention */
    Weight q_a, q_a_norm, q_b; /* [Q, D] [Q] [H*(N+R), Q]; without a query latent q above is [H*(N+R), D] */
    Weight kv_a, kv_a_norm;    /* [C+R, D] [C] */
    Weight kv_b;               /* [H*(N+V'), C]: per head N rows for keys, then V' for values; or, as some GGUF files have it: */
    Weight k_b, v_b;           /* [H*C, N] per head the key rows transposed; [H*V', C] */
    Weight o;                  /* [D, H*N] or [D, H*V'] */
    Weight ffn_norm;           /* [D] */
    Weight gate, up, down;     /* dense feed-forward: [F, D] [F, D] [D, F] */
    /* mixture of experts */
    Weight route, route_bias;                /* [E, D] [E] */
    Weight shared_gate, shared_up, shared_down;
    Weight *expert_gate, *expert_up, *expert_down; /* [E] each; NULL: a dense layer */
    /* a next-token prediction layer has these too */
    Weight mtp_embed_norm, mtp_hidden_norm, mtp_proj; /* enorm [D], hnorm [D], eh_proj [D, 2D] */
    Weight mtp_head_norm;                             /* shared_head.norm [D] */
} Layer;

typedef struct Model {
    Config      cfg;
    Weight      embed, norm, head; /* [V, D] [D] [V, D]; tied: head is embed */
    Layer      *layer;             /* [n_layer + n_mtp] */
    int         n_weight;          /* weights with an id */
    Weight    **weight;            /* [n_weight] by id */
    ExpertStore *store;
    double     *inv_freq;          /* [R/2] */
    int         rope_cols;         /* R */
    double      attn_scale;
    Kv          kv_shape;          /* type, columns and layers of its cache; no pages */
    bool        act_q8;            /* what contexts over it are to do: Ctx.act_q8 */
    WeightFile *file;              /* what the data points into, or NULL */
    struct Settler *settler;
    bool        gguf;              /* the file's tensors have GGUF's names */
    bool        split_kv_b;        /* k_b and v_b instead of kv_b */
    void       *owned;             /* memory of weights that were converted or trained */
    size_t      owned_bytes;
    size_t      mapped_bytes;      /* of the weights that are used where they lie in the file */
} Model;

/* How to read what configs leave open. */
typedef struct ModelOptions {
    Dtype kv_type;   /* F32 (0) by default */
    bool  act_f32;   /* products with block types take activations as they are, not in 8 bits */
    bool  trainable; /* all weights to f32 in own memory, written by the trainer; a GGUF file's are not trained */
    bool  decoded;   /* all weights to f32 in own memory */
} ModelOptions;

/* Opens a Hugging Face folder or a GGUF file (of a split one: the first).  Binds every tensor by table, checks every shape
 * once.  The file stays mapped until model_free. */
int  model_open(Model **out, const char *path, const ModelOptions *o, aha_error *e);
int  model_bind(Model **out, const Config *cfg, WeightFile *file, const ModelOptions *o, aha_error *e); /* takes file when it succeeds */
/* A new model with random weights: normal, standard deviation 1/sqrt(columns) for matrices (embeddings: 1/sqrt(D)) scaled
 * by `scale`; norms 1; biases 0.  The outputs into the residual stream are divided by sqrt(2 L). */
int  model_init_random(Model **out, const Config *cfg, const ModelOptions *o, uint64_t seed, aha_error *e);
/* The types of a written file's matrices (mix.c).  In GGUF norms, biases and routers are F32, and rows that are no whole blocks get another. */
typedef struct WeightMix {
    Dtype expert, expert_down, embed, head, other; /* experts: gate and up, down */
} WeightMix;
WeightMix weight_mix_of(Dtype t);                         /* one for all */
bool      weight_mix_find(WeightMix *out, const char *name); /* r1-q4, r1-q2, or a type's name in any case; false: there is none of that name */
/* The type that rows of so many columns get: want, or Q8_0 when they are no whole blocks of it, or else BF16. */
Dtype     export_type(Dtype want, int64_t cols);

/* A model of shapes and types without a weight (shape.c), to count with: dry contexts run over it, nothing else may.
 * Memory is as model_open would take it: owned_bytes and mapped_bytes. */
typedef struct ModelShape {
    WeightMix    mix;
    const Model *source;       /* GGUF: the file that this model is converted to, in its layout; NULL: that of a model of the config alone */
    bool         gguf;         /* as aha convert writes it; otherwise a published folder of mix.other */
    bool         whole_kv_b;   /* GGUF without a source: the older layout */
    bool         draft_copies; /* Hugging Face: the draft layer repeats embedding and head, as R1's published folder does */
} ModelShape;
typedef struct ModelFileSize { /* what such a file holds */
    int64_t  tensors, numbers; /* factors of F8 blocks included */
    uint64_t bytes;
} ModelFileSize;
/* cfg: a source's own */
int  model_shape(Model **out, const Config *cfg, const ModelShape *s, const ModelOptions *o, ModelFileSize *size, aha_error *e);
void model_free(Model *m);
/* ---- settling (settle.c) ---- A thread that copies the weights that products stream from a file of `least` bytes or more to where they
 * are read fastest: memory of huge pages, block types as stripes; the mapping stays, its pages need not.  It begins when told to go
 * (after the first token, so that a start costs no copy) and ends with model_free.  Nothing is done where the machine has no room
 * for it; a second call does nothing.  Any thread may call these.  AHA_SETTLE=0: never. */
enum { SETTLE_MIN = 64 << 20 };
void model_settle(const Model *m, size_t least);
void model_settle_go(const Model *m);
bool model_settled(const Model *m); /* nothing of it is left to do; also where nothing was begun */

/* A number that another model, or this one with other weights or another config, does not have (fingerprint.c): of all numbers
 * where they are at most 256 MB, else of blocks everywhere, and of the files' sizes and times. */
uint64_t model_fingerprint(const Model *m);
/* used[i] = true for every tensor weights_at(m->file, i) that the model reads, false for the others. */
int  model_mark_used(const Model *m, bool *used, aha_error *e);
/* config.json and model.safetensors; not of a model that was opened from GGUF.  A draft layer's embedding and head are the main ones and are not written twice. */
int  model_save(const Model *m, const char *dir, Dtype type, aha_error *e);

/* ---- importance (importance.c, importance_read.c) ---- how large the numbers are that each column of a matrix is multiplied with:
 * sums of their squares over a text, and how many were seen; of experts for each, of k_b and v_b for each head.  Names are GGUF's. */
typedef struct ImportanceSums ImportanceSums;
int  importance_sums_new(ImportanceSums **out, const Model *m, aha_error *e); /* m is borrowed */
void importance_sums_free(ImportanceSums *s);
/* To be set in a context over the model: adds what it sees. */
Observer *importance_observer(ImportanceSums *s);
typedef struct ImportanceSeen {
    int matrices, unseen; /* experts and heads counted one by one: with numbers, and without, as experts that no token chose */
} ImportanceSeen;
ImportanceSeen importance_seen(const ImportanceSums *s);
/* A GGUF file as llama.cpp writes and reads it (NAME.in_sum2, NAME.counts); text: what it was made from, and in how many pieces of
 * how many tokens.  AHA_ERR_ARG: nothing was seen; AHA_ERR_FORMAT: a sum that is no number. */
int  importance_write(const ImportanceSums *s, const char *path, const char *text, int pieces, int piece_tokens, aha_error *e);

/* Such a file, or one of the older form (.dat); what it is, its first bytes say. */
typedef struct Importance Importance;
int  importance_open(Importance **out, const char *path, aha_error *e);
void importance_close(Importance *im);
/* The weight of every column of each matrix, [mats, cols], mean 1 in each; all 1 for a matrix that was not seen.  *found false:
 * the file has nothing of that name, and weight is all 1.  AHA_ERR_FORMAT: another shape, or numbers that are none or negative. */
int  importance_get(const Importance *im, const char *name, int mats, int cols, float *weight, bool *found, aha_error *e);
uint64_t importance_stamp(const Importance *im); /* another number when the file was written to */

/* ---- written under either naming (export*.c) ---- from a folder or a GGUF file, row by row: memory does not grow with the model.  What
 * was begun and not finished goes on (Output in format.h).  What is coded already in the type that is asked for is kept bit for bit. */
typedef struct ExportOptions {
    WeightMix mix;   /* a folder: other, F32, F16 or BF16, of all */
    bool    draft;   /* GGUF of a folder: the draft layer too; published files lack it */
    bool    replace; /* files that are there already */
    int64_t split;   /* bytes of a file's tensors at most (one tensor at least); 0: GGUF in one file, a folder in files of 5 GB */
    const Importance *importance; /* columns' weights for block types; NULL: all alike */
    Pool   *pool;
    bool  (*on_progress)(void *user, int64_t done, int64_t total); /* true: stop, AHA_ERR_CANCELLED; NULL: none */
    void  (*on_note)(void *user, const char *line);                /* that an earlier run goes on, or why not; NULL: not wanted */
    void   *user;
} ExportOptions;
/* What importance lacks is logged; a file of another model is refused before anything is written.
 * meta: what the caller has put there (words, general.name), to which the config's keys are added; of a GGUF file: gguf_put_all's.  With split the
 * files are NAME-00001-of-0000N.gguf. */
int model_export_gguf(const Model *m, const char *path, GgufMeta *meta, const ExportOptions *o, aha_error *e);
/* A new Hugging Face folder: config.json, weights, index, and the n texts (tokenizer.json and its like). */
typedef struct ExportText {
    const char *name, *text;
    size_t      n;
} ExportText;
int model_export_folder(const Model *m, const char *dir, const ExportText *text, int n, const ExportOptions *o, aha_error *e);
/* Llama 3's scaling that gives these frequencies (rope_fit.c), into r, which has theta and none: as GGUF files keep the factors themselves.  False:
 * there is none. */
bool rope_fit_llama3(Rope *r, int R, const double *inv_freq);

/* ---- the forward pass (decoder.c) ---- the batch must live until a backward is done */
/* Hidden states [T, D] before the last norm.  kv NULL: a packed batch. */
Tensor model_hidden(Ctx *c, const Model *m, const Batch *b, Kv *kv);
/* The last norm: what the head and the draft layer take. */
Tensor model_final_norm(Ctx *c, const Model *m, Tensor hidden);
/* The rows of x [T, D] that the batch wants something of (b->out), in order. */
Tensor model_wanted(Ctx *c, const Batch *b, Tensor x);
/* Logits [n, V] of rows that were normed. */
Tensor model_logits(Ctx *c, const Model *m, Tensor normed);
/* The draft layer (MTP): row i joins the normed hidden state of position i (b->hidden) with the embedding of token i+1
 * (b->token) and gives, normed for the head, what predicts token i+2. */
Tensor model_draft(Ctx *c, const Model *m, const Batch *b, Kv *kv);

/* One layer of each family: x [T, D] -> [T, D]. */
typedef struct LayerArgs {
    const Model *m;
    const Batch *b;
    Kv          *kv;
    int          layer;
    Tensor       angles;
} LayerArgs;
Tensor dense_layer(Ctx *c, const void *args, Tensor x);       /* dense.c */
Tensor deepseek_v3_layer(Ctx *c, const void *args, Tensor x); /* deepseek_v3.c */
Tensor mlp(Ctx *c, Tensor x, const Weight *gate, const Weight *up, const Weight *down); /* decoder.c */

/* Frequencies of rope with the config's scaling, and the factor of the softmax (rope_freq.c).  inv_freq [R/2]. */
void   rope_inv_freq(const Rope *r, int R, double *inv_freq);
double attn_softmax_scale(const Config *c);

#endif
