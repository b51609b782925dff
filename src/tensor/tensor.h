/* tensor: activations, weights, the ops with their gradients, the tape.
 *
 * An op takes activations and weights, checks shapes, allocates its result in the context's arena, runs kernels over the
 * pool, and, when a tape is on, leaves a node that knows its backward.  An op's file holds the formula, forward, backward.
 * The forward pass of a model is a plain function that calls ops; nothing in it exists for training only. */
#ifndef AHA_TENSOR_TENSOR_H
#define AHA_TENSOR_TENSOR_H

#include <stdatomic.h>

#include "../base/base.h"
#include "kernels.h"

/* An activation: rows x cols of real, in an arena.  A view shares data and has stride > cols. */
typedef struct Tensor {
    real *data;
    int   rows, cols;
    int   stride; /* elements from a row to the next */
} Tensor;

/* A parameter: [rows, cols] row-major, immutable while inferring.  Only linear, embed and moe look at its dtype.  One of a
 * coded type is frozen: gradients flow through it, none is kept for it. */
typedef struct Weight {
    const void *data;
    Dtype       dtype;
    int         rows, cols;
    int         id;   /* index among the model's weights: where its gradient and optimiser state lie; -1: none */
    const char *name; /* as Hugging Face spells it */
    const float *scale; /* F8: [f8_blocks(rows), f8_blocks(cols)]; NULL: none */
    _Atomic(const void *) settled; /* its stripes (stripe.h), where products read it faster; NULL: none */
} Weight;
static inline size_t weight_row_bytes(const Weight *w)
{
    const DtypeInfo *d = dtype_info(w->dtype);
    return w->dtype == DT_F32 ? (size_t)w->cols * sizeof(real) : (size_t)(w->cols / d->block) * (size_t)d->block_bytes;
}
static inline size_t weight_bytes(const Weight *w) { return (size_t)w->rows * weight_row_bytes(w); }
/* Puts w's stripes to `to` (weight_bytes of them) and has products read them; other threads may use w.  false: a weight that can have
 * none (F8 with codes that are no numbers) stays as it is. */
bool weight_settle(Weight *w, void *to);

/* ---- a batch: the only way into a model ---- rows of one sequence are contiguous and ascending in position */
enum { BATCH_PROMPT = 1, BATCH_GENERATED = 2, BATCH_LOSS = 4 };
typedef struct Batch {
    int            n;       /* T */
    const int32_t *token;   /* [T] */
    const real    *hidden;  /* [T, D] or NULL: a draft layer's second input; in the arena, where gradients are wanted of it */
    const int32_t *pos;     /* [T] position in its sequence */
    const int32_t *seq;     /* [T] which sequence of the Kv, or any number that tells packed sequences apart */
    const uint8_t *out;     /* [T] nonzero: logits wanted; NULL: every row */
    const uint8_t *flags;   /* [T] BATCH_*; NULL: none */
    const int16_t *adapter; /* [T] or NULL; there are none to load yet, and a batch that names one is refused */
} Batch;

/* ---- the key/value cache as ops see it (src/infer owns the pages) ----
 * A page has a part for each head of each layer (kernels.h).  Of `run` pages, whose numbers follow each other, the same head's parts lie
 * side by side, and behind them the next head's: a sequence with such pages is read as one stream. */
typedef struct Kv {
    Dtype     type;        /* F32, F16, BF16 or Q8_0 */
    int       n_layer;     /* layers with keys, draft layers included */
    int       key_cols, val_cols; /* per position and layer; val_cols 0: values are the first columns of the keys (MLA) */
    int       heads;       /* with keys of their own, in a layer; divides both numbers of columns */
    size_t    part_bytes;  /* of a head of a layer of a page */
    size_t    page_bytes;  /* of all of them */
    uint8_t  *base;
    int       n_pages, run;
    const int32_t *const *table; /* [S] pages of each sequence of the batch, in order */
} Kv;
/* part_bytes and page_bytes from the other fields; false on overflow */
bool kv_layout(Kv *kv);
/* Sets n_pages and run; returns the bytes from base on, SIZE_MAX on overflow: hardly more than n_pages page_bytes. */
size_t kv_room(Kv *kv, int n_pages);
/* from a head's part of a page to the next head's, and where a page's part of a layer's first head begins */
static inline size_t kv_head_step(const Kv *kv) { return (size_t)kv->run * kv->part_bytes; }
static inline uint8_t *kv_part(const Kv *kv, int32_t page, int layer)
{
    size_t runs = (size_t)(page / kv->run) * (size_t)kv->n_layer + (size_t)layer;
    return kv->base + runs * (size_t)kv->heads * kv_head_step(kv) + (size_t)(page % kv->run) * kv->part_bytes;
}

/* ---- context ---- one forward (or forward and backward) at a time; not thread-safe */
typedef struct Tape Tape;
typedef struct RouteStats {
    int64_t *load; /* [layers, E] tokens that chose each expert, added to */
    int      E;
} RouteStats;
/* Watches what weights are multiplied with: x [n, columns of the product], rows x_row apart, in the order in which the products
 * are computed, from the thread that computes.  part: which head of a weight that is cut into heads (HeadCut), else 0.
 * turned: x W instead of x W^T, so x has a column for every row of that head. */
typedef struct Observer Observer;
struct Observer {
    void (*see)(Observer *o, const Weight *w, int part, bool turned, const real *x, int x_row, int n);
};
typedef struct Ctx {
    Arena          arena;
    const Kernels *k;
    Pool          *pool;      /* NULL: one thread */
    Tape          *tape;      /* NULL: no gradients wanted */
    RouteStats    *stats;     /* NULL: not wanted */
    Observer      *observer;  /* NULL: nobody watches */
    Dtype          kv_type;   /* what keys and values are rounded to when there is no cache (packed batches) */
    bool           act_q8;    /* products with block types take activations in 8 bits; never under a tape */
    aha_error      err;       /* sticky: after a failure ops do nothing */
    uint8_t       *scratch;   /* [threads, scratch_bytes] */
    size_t         scratch_bytes, scratch_peak;
    int            recomputing; /* inside a backward's second forward: statistics were counted already */
} Ctx;

/* A dry context counts: run the same function on it, then ctx_init a real one with its peaks. */
void ctx_init_dry(Ctx *c, const Kernels *k, int threads);
int  ctx_init(Ctx *c, const Kernels *k, Pool *pool, size_t arena_bytes, size_t scratch_bytes, aha_error *e);
/* the sizes that `dry` saw */
int  ctx_init_like(Ctx *c, const Ctx *dry, Pool *pool, aha_error *e);
size_t ctx_like_arena(const Ctx *dry);   /* the bytes that it takes, of the arena and for each thread */
size_t ctx_like_scratch(const Ctx *dry);
void ctx_free(Ctx *c);
static inline bool ctx_failed(const Ctx *c) { return c->err.code != 0; }
static inline bool ctx_dry(const Ctx *c) { return c->arena.dry; }
/* Sets the sticky error if none is set yet. */
void ctx_fail(Ctx *c, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
void ctx_reset(Ctx *c); /* the arena back to empty, the error cleared */
void *ctx_alloc(Ctx *c, size_t count, size_t bytes); /* arena memory, uninitialised; NULL after setting the error */
/* Runs a kernel over items [0, n), `grain` items a task. */
void ctx_run(Ctx *c, KernelFn *fn, const void *args, int64_t n, int64_t grain, size_t scratch_bytes);
/* Runs several kernels over their items, one after the other in a single run of the pool: products that stream weights, whose tasks
 * should be long (the memory behind an item is asked for while the one before it is computed) and yet end together.  The first tasks
 * take half of all, a thread each, the next a quarter, down to no fewer than `least` items. */
typedef struct RunPart {
    KernelFn   *fn;
    const void *args;
    int64_t     n; /* items */
} RunPart;
void ctx_run_parts(Ctx *c, const RunPart *part, int n_parts, int64_t least, size_t scratch_bytes);

/* Says that a kernel run later (in a backward, or for data that a dry run does not have) wants that much scratch memory. */
void ctx_scratch(Ctx *c, size_t bytes);

Tensor tensor_new(Ctx *c, int rows, int cols);
static inline Tensor tensor_cols(Tensor t, int col0, int cols)
{
    return (Tensor){t.data + col0, t.rows, cols, t.stride};
}
static inline Tensor tensor_rows(Tensor t, int row0, int rows)
{
    return (Tensor){t.data ? t.data + (int64_t)row0 * t.stride : NULL, rows, t.cols, t.stride};
}
static inline real *tensor_row(Tensor t, int64_t r) { return t.data + r * t.stride; }
static inline bool tensor_packed(Tensor t) { return t.stride == t.cols; }

/* ---- the tape (tape.c) ----
 * Gradients lie beside the arena: the gradient of the element at offset o of the arena is at offset o of grad.  Views so
 * need nothing.  Weight gradients are f32 buffers of the trainer's, indexed by Weight.id; NULL: frozen. */
typedef struct TapeNode {
    void (*back)(Ctx *c, const struct TapeNode *node);
    struct TapeNode *prev;
} TapeNode;
struct Tape {
    uint8_t  *grad; /* as large as the arena */
    size_t    cap;
    TapeNode *last;
    real    **wgrad; /* [n_wgrad] */
    int       n_wgrad;
    bool      keep; /* keep the tape inside scopes; false: scopes are run again by the backward (same bits, less memory) */
};
int   tape_init(Tape *t, size_t arena_bytes, real **wgrad, int n_wgrad, bool keep, aha_error *e);
void  tape_free(Tape *t);
/* A node of the given size in the arena, linked; fill everything after the header. */
void *tape_push(Ctx *c, size_t bytes, void (*back)(Ctx *, const TapeNode *));
static inline bool tape_on(const Ctx *c) { return c->tape != NULL; }
/* Gradient of an activation's first element; same stride. */
real *tape_grad(const Ctx *c, const real *x);
/* Gradient buffer of a weight, or NULL when it is frozen or a view without one. */
real *tape_wgrad(const Ctx *c, const Weight *w);
/* After the forward: clears the gradients of everything in the arena; the caller then seeds some; then backward. */
void  tape_zero(Ctx *c);
void  tape_backward(Ctx *c);

/* ---- the ops ---- each file holds the formula, forward and backward */

/* x' = fn(x), in a scope: what fn allocates is given back.  Without a tape x's memory is reused for the result.  With a
 * tape that keeps, the same as calling fn; with one that does not, fn is called again by the backward.  arg is copied. */
typedef Tensor ScopeFn(Ctx *c, const void *arg, Tensor x);
Tensor scoped(Ctx *c, ScopeFn *fn, const void *arg, size_t arg_bytes, Tensor x); /* op_basic.c */
Tensor add(Ctx *c, Tensor a, Tensor b);                                         /* op_basic.c */
/* The rows of x listed in row[n]. */
Tensor gather(Ctx *c, Tensor x, const int32_t *row, int n);                     /* op_basic.c */
/* The sum over the devices that share a model: the identity on one. */
Tensor allreduce(Ctx *c, Tensor x);                                             /* op_basic.c */
/* Values as op_basic's caller made them (a constant of the graph): a packed copy of n rows. */
Tensor constant(Ctx *c, const real *data, int rows, int cols);                  /* op_basic.c */

Tensor embed(Ctx *c, const Weight *table, const int32_t *token, int n);         /* op_embed.c */

/* y = x W^T (+ bias) */
Tensor linear(Ctx *c, Tensor x, const Weight *w, const Weight *bias);           /* op_linear.c */
/* Several weights on one input. */
void linear_n(Ctx *c, Tensor x, int n, const Weight *const *w, const Weight *const *bias, Tensor *y);
/* A weight cut into heads: head h uses rows [row0 + h*step, + rows) of w.  y_h = x_h W_h^T for every head, or, transposed,
 * y_h = x_h W_h.  Head h of x starts at column h*x_head, of y at column h*y_head.  MLA's absorbed products. */
typedef struct HeadCut {
    int H, row0, step, rows, x_head, y_head;
} HeadCut;
void linear_heads(Ctx *c, Tensor x, const Weight *w, HeadCut cut, Tensor y);
void linear_heads_t(Ctx *c, Tensor x, const Weight *w, HeadCut cut, Tensor y);

/* Groups of gain->cols columns each; groups = x.cols / gain->cols. */
Tensor rmsnorm(Ctx *c, Tensor x, const Weight *gain, double eps);               /* op_norm.c */
void   rmsnorm_to(Ctx *c, Tensor x, const Weight *gain, double eps, Tensor y);

/* cos and sin of every row's position: [T, R], R/2 cosines then R/2 sines, times `factor`. */
Tensor rope_angles(Ctx *c, const int32_t *pos, int n, const double *inv_freq, int R, double factor); /* op_rope.c */
/* Heads of R columns, the h-th at column h*x_head of x, to column h*y_head of y; y may be x. */
void rope(Ctx *c, Tensor x, int x_head, Tensor y, int y_head, int H, Tensor angles, bool interleaved);

typedef struct AttnShape {
    int    H, G;      /* query heads, key heads */
    int    dk, dv;    /* columns of a head of keys and values */
    double scale;
    bool   v_in_k;    /* MLA: values are the first dv columns of the keys */
} AttnShape;
/* q [T, H*dk], k [T, G*dk], v [T, G*dv] (ignored when v_in_k) -> [T, H*dv].  With a cache k and v are first stored in it
 * and everything stored is attended to; without one the batch's own sequences are, each starting at position 0. */
Tensor attn(Ctx *c, AttnShape s, Tensor q, Tensor k, Tensor v, const Batch *b, Kv *kv, int layer); /* op_attn.c */

Tensor swiglu(Ctx *c, Tensor gate, Tensor up);                                  /* op_swiglu.c */

typedef enum RouteScore { ROUTE_SCORE_SOFTMAX, ROUTE_SCORE_SIGMOID } RouteScore;
typedef enum RouteMode { ROUTE_MODE_GREEDY, ROUTE_MODE_GROUP_MAX, ROUTE_MODE_NOAUX } RouteMode;
typedef struct RouteShape {
    int        E, K, n_group, topk_group;
    RouteScore score;
    RouteMode  mode;
    bool       norm_topk;
    double     scale;
} RouteShape;
typedef struct Routes {
    int      K;
    int32_t *id;     /* [T, K] ascending */
    Tensor   weight; /* [T, K] */
} Routes;
/* logits [T, E] (f32 product with the gate), bias for choosing only (noaux) -> K experts a row.  layer: for statistics */
Routes route(Ctx *c, RouteShape s, Tensor logits, const Weight *bias, int layer); /* op_moe.c */

/* Where experts live.  acquire makes the listed experts usable until release; a resident store only fills pointers. */
typedef struct Expert {
    const Weight *gate, *up, *down;
} Expert;
typedef struct ExpertStore ExpertStore;
struct ExpertStore {
    int (*acquire)(ExpertStore *s, int layer, const int32_t *id, int n, Expert *out, aha_error *e);
    void (*release)(ExpertStore *s, int layer, const int32_t *id, int n);
    void (*prefetch)(ExpertStore *s, int layer, const int32_t *id, int n); /* a hint; may be NULL */
};
/* y[t] = sum over its experts, ascending, of weight * down(silu(gate x) * up x) */
Tensor moe_ffn(Ctx *c, Tensor x, Routes r, ExpertStore *store, int layer, int E, int F); /* op_moe.c */

/* log p(target) and entropy of softmax(h W^T): [n, 2].  The logits exist for a chunk of rows at a time. */
Tensor logprob(Ctx *c, Tensor h, const Weight *head, const int32_t *target);    /* op_logprob.c */
/* the same from logits that exist already (the sampler's): same bits */
void   logprob_row(const Ctx *c, const real *logits, int V, int32_t target, real *logp, real *entropy);

/* ---- the op table (optable.c) ---- a row per op; tests walk it and fail on holes not marked as intended */
typedef struct OpRow {
    const char *name;
    const char *forward[8];  /* kernels, by name; NULL-terminated */
    const char *backward[4];
    const char *no_backward; /* why there is none; NULL: there is one, and the gradient test has a case of this name */
} OpRow;
const OpRow *op_table(int *n);
KernelFn *kernel_named(const Kernels *k, const char *name);
const char *const *kernel_names(int *n);
bool kernel_wants_isa(const char *name);

#endif
