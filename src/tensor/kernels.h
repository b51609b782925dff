/* The kernel table: what the ops ask of a backend.  The plain C reference (src/cpu/ref_*.c) fills every entry; each ISA
 * overwrites what it does better, oldest first.  Every kernel computes items [i0, i1) of its outputs and nothing else:
 * the split over threads cannot change a result, because an output element is always summed in the order stated here.
 *
 * Strides are in elements.  Shapes use the project's alphabet: T tokens, D width, H heads, G key/value heads. */
#ifndef AHA_TENSOR_KERNELS_H
#define AHA_TENSOR_KERNELS_H

#include "dtype.h"
#include "rmath.h"

enum {
    GEMM_KC = 256,    /* the summed dimension is cut into blocks of this many */
    GEMM_TILE_M = 384, /* a work item's rows and columns: multiples of every ISA's register tile */
    GEMM_TILE_N = 32,
    KV_PAGE = 32      /* positions per page of keys, the block of the online softmax */
};

/* C[m,n] = sum_k A[m,k] B[n,k] (+ bias[n]), or C += when accumulate.
 * Order: k in blocks of GEMM_KC; inside a block one chain of fused multiply-adds from 0 in ascending k; the blocks' sums
 * are added to C in ascending order (C starts as block 0, or as it was when accumulate), bias last.
 * Items: tiles of GEMM_TILE_M x GEMM_TILE_N, column tiles fastest. */
typedef struct GemmArgs {
    int         M, N, K;
    const real *a;
    int64_t     a_row, a_k;
    const void *b; /* of b_type */
    int64_t     b_row, b_k;
    Dtype       b_type;
    real       *c;
    int64_t     c_row;
    const real *bias; /* [N] or NULL */
    bool        accumulate;
    /* B of a coded type (dtype_is_coded) is stored in whole rows along n (b_k = 1, as in x W^T) or along k (b_row = 1, as in
     * x W); each value is decoded to f32 first, so the result is that of the decoded matrix. */
    bool         b_rows_k;    /* the rows lie along k */
    const float *b_scale;     /* F8: a factor per 128 x 128 of the whole weight; NULL: none */
    int          b_scale_row; /* factors from a row of them to the next */
    int64_t      b_row0;      /* which row of the weight b begins at */
    bool         striped;     /* B's rows are stripes (stripe.h): of a float type, b_k = 1, b_row = K, b_row0 a multiple of 16 */
} GemmArgs;

/* ---- products with block types: activations in 8 bits ----
 * A row's columns in groups of 128, of which the last may have 32, 64 or 96: x is taken for d * q, d = max |x| / 127 in f32,
 * q = x * (127 / max |x|) rounded, halves to even.  Columns more than 8 times as large as the group's fifth largest are kept aside in
 * f32, for they would leave the others no digits (real models have such columns): their q is 0, and max is that of the others.  A max
 * below 2^-100 gives d and q 0, and keeps nothing aside; a group with a number that is infinite or none has d NaN, q 0 and nothing aside. */
enum { ACT_GROUP = 128, ACT_ASIDE = 4, ACT_LARGE = 8 };
typedef struct ActGroup {
    float   d;
    float   x[ACT_ASIDE];         /* what is kept aside */
    int16_t half[ACT_GROUP / 16]; /* sums of q: of 16 columns */
    int16_t sum[ACT_GROUP / 32];  /* of 32 */
    int8_t  at[ACT_ASIDE];        /* the columns that are kept aside, ascending; -1: no more */
} ActGroup;
static inline int act_groups(int K) { return (K + ACT_GROUP - 1) / ACT_GROUP; }
/* x as H heads of K columns, head h of row t at x + t*x_row + h*x_head; K a multiple of 32.  Items: rows */
typedef struct ActArgs {
    const real *x;
    int64_t     x_row, x_head;
    int         H, K;
    int8_t     *q; /* [T, H, K] */
    ActGroup   *g; /* [T, H, act_groups(K)] */
} ActArgs;

/* C[m,n] = sum_k A[m,k] B[n,k] (+ bias[n]) for every head, A in 8 bits, B of a block type whose blocks lie along k.
 * B's columns are v * s, in some types less a minimum m, where 16 or 32 columns, a run, share s and m (tensor/quant.h).  Per group
 * of A's, ascending, t from 0; per run of it, ascending, with the integers I = sum v q and X = sum q:
 *   t = t + I * s;  in blocks of 32 with minima  t = t - X * m
 * In blocks of 256 s and m are small numbers, which the block's factors d and e multiply:
 *   t = t * d;  with minima  t = t - M * e,  the integer M = sum of the runs' X * m
 * then c = c + t * A's d.  Behind the last group, for every column of A's that is kept aside, ascending, with B's value w there as
 * dtype_row_to_f32 gives it,  c = c + w * x;  the bias last.  Each sum of a product and something is one fused multiply-add; c from 0.
 * Items: heads, of each tiles of DOT_TILE_M x DOT_TILE_N, column tiles fastest. */
enum {
    DOT_TILE_M = 256,
    DOT_TILE_N = 32,
    DOT_A_COLUMNS = 256 << 10 /* of A, rows times columns, that are multiplied with all of a tile's columns of C before others: they stay in the second cache */
};
typedef struct DotArgs {
    int             M, N, K, H;
    const int8_t   *q; /* [M, H, K] */
    const ActGroup *g; /* [M, H, act_groups(K)] */
    const uint8_t  *b;
    Dtype           b_type;
    int64_t         b_row, b_head; /* bytes from a row, a head to the next */
    real           *c;             /* head h of row m at c + m*c_row + h*c_head */
    int64_t         c_row, c_head;
    const real     *bias; /* [N] or NULL, of every head */
    bool            striped; /* b's rows are stripes (stripe.h), every head's from its first on */
} DotArgs;

/* out[t] = row token[t] of table [V, D], as real.  Items: t */
typedef struct EmbedArgs {
    const void    *table;
    Dtype          type;
    const int32_t *token;
    int            n, D;
    real          *out;   /* [n, D] packed */
    const float   *scale; /* F8: as b_scale above, f8_blocks(D) a row; NULL: none */
} EmbedArgs;
/* dtable[token[t], d] += dout[t, d], t ascending.  Items: columns d */
typedef struct EmbedBackArgs {
    const int32_t *token;
    int            n, D;
    const real    *dout; /* [n, D] */
    real          *dtable;
} EmbedBackArgs;

/* Root mean square norm over groups of N columns: y = x * rstd * gain, rstd = 1/sqrt(mean(x^2) + eps).
 * The squares are summed in 16 lanes (element i into lane i mod 16), the lanes as a binary tree.  Items: rows */
typedef struct NormArgs {
    const real *x;
    real       *y;
    const real *gain; /* [N] */
    real       *rstd; /* [rows, groups] or NULL */
    int64_t     x_row, y_row;
    int         groups, N;
    real        eps;
} NormArgs;
/* dx += rstd * (g*dy - x * rstd^2 * mean(g*dy*x)).  Items: rows.  dgain[i] += sum dy*x*rstd, rows and groups ascending,
 * in a second kernel whose items are the columns. */
typedef struct NormBackArgs {
    const real *x, *dy, *gain, *rstd;
    real       *dx, *dgain;
    int64_t     x_row, y_row;
    int         rows, groups, N;
} NormBackArgs;

/* y[r, i] = a[r, i] + scale * b[r, i]; y may be a.  Items: rows */
typedef struct AddArgs {
    const real *a, *b;
    real       *y;
    int64_t     a_row, b_row, y_row;
    int         cols;
    real        scale;
} AddArgs;
/* y[i] += sum over rows of x[r, i], ascending.  Items: columns */
typedef struct ColSumArgs {
    const real *x;
    int64_t     x_row;
    int         rows;
    real       *y;
} ColSumArgs;

/* Rotates n_heads heads of R columns of each row by the angles of cs: [T, R] holds R/2 cosines, then R/2 sines.
 * Interleaved: pairs (2i, 2i+1); else halves (i, i + R/2).  inverse turns back.  accumulate: y += .  Items: rows */
typedef struct RopeArgs {
    const real *x;
    real       *y; /* may be x */
    const real *cs;
    int64_t     x_row, x_head, y_row, y_head;
    int         n_heads, R;
    bool        interleaved, inverse, accumulate;
} RopeArgs;

/* y = silu(gate) * up.  Items: rows */
typedef struct SwigluArgs {
    const real *gate, *up, *dy;
    real       *y, *dgate, *dup; /* backward: dgate +=, dup += */
    int64_t     row;             /* of all of them */
    int         cols;
} SwigluArgs;

/* Keys and values are kept as F32 (real), F16, BF16 or Q8_0, rounded when they are stored.  Q8_0 is GGUF's block of 32 columns
 * of a head: a factor d in f16, then 32 numbers q of 8 bits; the value is q * d.  d is max |x| / 127 rounded to f16; q is
 * x / d rounded, halves away from 0, at most 127.  A block with a number that f16's d cannot reach, or that is none, is NaN.
 *
 * A page of the cache holds KV_PAGE positions.  Of each layer and key head it has a part, the head's keys and behind them its values,
 * which is read from end to end.  Keys lie by columns, values by rows:
 *   keys [dk][KV_PAGE], values [KV_PAGE][dv];   of Q8_0 each block of 32 columns, for all positions of the page:
 *   d [KV_PAGE] in f16 | q of keys [8][KV_PAGE][4]: columns 4i to 4i+3 side by side,
 *                      | q of values [16][32][2]: positions i and i+16 side by side, as products of integers want them */
enum { KV_Q8_COLS = 32, KV_Q8_BYTES = 34, KV_Q8_BLOCK = KV_PAGE * KV_Q8_BYTES, KV_Q8_NUMBERS = 2 * KV_PAGE };
/* bytes of n elements; of Q8_0 a number of whole blocks */
static inline size_t kv_bytes(Dtype t, size_t n)
{
    return t == DT_F32 ? n * sizeof(real) : t == DT_Q8_0 ? n / KV_Q8_COLS * KV_Q8_BYTES : 2 * n;
}
/* which element of a head's part of a page is column d of position j: of Q8_0 which byte of the column's block */
static inline int64_t kv_key_at(Dtype t, int j, int d)
{
    return t == DT_Q8_0 ? KV_Q8_NUMBERS + (d % KV_Q8_COLS / 4 * KV_PAGE + j) * 4 + d % 4 : (int64_t)d * KV_PAGE + j;
}
static inline int64_t kv_val_at(Dtype t, int dv, int j, int d)
{
    return t == DT_Q8_0 ? KV_Q8_NUMBERS + (j % 16 * KV_Q8_COLS + d % KV_Q8_COLS) * 2 + j / 16 : (int64_t)j * dv + d;
}

/* A query beside keys of Q8_0 is coded too, so that a block's products are added as integers, exactly and in any order: of 32
 * columns numbers of 8 bits, x / d rounded, halves to even, with d = max |x| / 127.  Where a few columns are far larger than the
 * others (six times the largest is more than all |x| together; real models have such columns) the others would keep too few digits:
 * there numbers are 254 high + low, two of 8 bits, with d = max |x| / 32258.  Below 2^-100 all are 0; a block with a number that is none
 * or infinite is 0s with d NaN. */
enum { KV_QUERY_PART = 254 };
typedef struct KvQuery {
    float   d;
    int32_t times; /* what high counts for: 1, or KV_QUERY_PART */
} KvQuery;
static inline KvQuery kv_code_query(const real *x, int8_t high[KV_Q8_COLS], int8_t low[KV_Q8_COLS])
{
    float max = 0, all = 0, none = 0, most, f;
    bool  fine;
    for (int i = 0; i < KV_Q8_COLS; i++) {
        float v = (float)x[i], size = v < 0 ? -v : v;
        if (size > max) max = size;
        all += size;
        none += v * 0.0f;
    }
    fine = 6 * max > all;
    most = fine ? 127 * KV_QUERY_PART : 127;
    f = none == 0 && max >= 0x1p-100f ? most / max : 0;
    for (int i = 0; i < KV_Q8_COLS; i++) {
        int code = f > 0 ? (int)((float)x[i] * f + 0x1.8p23f - 0x1.8p23f) : 0;
        int part = fine ? (code + 127 + 128 * KV_QUERY_PART) / KV_QUERY_PART - 128 : code;
        high[i] = (int8_t)part;
        low[i] = (int8_t)(fine ? code - part * KV_QUERY_PART : 0);
    }
    return (KvQuery){f > 0 ? max / most : none, fine ? KV_QUERY_PART : 1};
}

/* Weights beside values of Q8_0 are shares of a power of two that is as large as the largest, exp(x), x <= 0, at least and at most twice
 * as large: returns it, and one divided by it.  2^-126 where exp gives 0, or x is none. */
static inline float kv_weight_unit(float x, float *inverse)
{
    float    y = x * 1.44269504f + 0.5f; /* log2 e */
    int32_t  n = y > -126 ? (int32_t)(y + 0x1.8p23f - 0x1.8p23f) : -126;
    uint32_t bits = (uint32_t)(127 + n) << 23, inv = (uint32_t)(127 - n) << 23;
    float    unit;
    memcpy(&unit, &bits, sizeof unit);
    memcpy(inverse, &inv, sizeof inv);
    return unit;
}

/* Where the keys of one sequence lie: page p holds positions [p*KV_PAGE, (p+1)*KV_PAGE). */
typedef struct KeySpan {
    int          row0, n, pos0; /* the batch's rows of this sequence and the position of the first */
    const void **key, **val;    /* [pages] where each begins: its first head's, or in a packed batch its first row's */
} KeySpan;

/* Causal attention over pages with an online softmax.  For query t, head h, key head g = h*G/H, pages ascending:
 *   s_j = scale * q.k_j (a chain as in gemm); m' = max(m, s_j); e_j = exp(s_j - m'); l = l*exp(m-m') + sum e_j in 16 lanes: j into
 *   lane j mod 16, a page's two added first; behind the last page the lanes as a tree; o = o*exp(m-m') + sum e_j v_j, j ascending;
 *   out = o / l;  lse = m + log l.
 * Of Q8_0 the products are of integers, so their sums are exact, in any order.  Keys: over blocks b of 32 columns, ascending,
 *   q.k_j = fma(sum of products, dk_jb * dq_b, q.k_j) from 0 (kv_code_query).  Values: with E = kv_weight_unit(max s_j - m') and D_b
 *   the largest power of two that is not above max |dv_jb| over the page's positions that the query sees, 2^-24 at least, weights are
 *   w_jb = (e_j * (1/E)) * (dv_jb * (2^14/D_b)) rounded, halves to even, and o = fma(sum w_jb q_j, E * (D_b/2^14), o * exp(m-m')); a factor
 *   that is none or infinite makes its columns NaN.
 * Items: (span, tile of query rows, heads of a key head): `item` below. */
typedef struct AttnArgs {
    const real    *q; /* head h of row t at q + t*q_row + h*q_head, dk long */
    int64_t        q_row, q_head;
    int            H, G, dk, dv;
    real           scale;
    const KeySpan *span;
    int            n_span;
    Dtype          type;             /* of keys and values; F32 in a packed batch */
    bool           paged;            /* pages of a cache (above), else rows of a packed batch */
    bool           v_in_k;           /* the values are the first dv columns of the keys */
    size_t         head_step;        /* of a cache: bytes from a key head's part of a page to the next one's */
    int64_t        key_row, val_row; /* packed: elements from a position to the next; key head g at + g*dk, value head at + g*dv */
    real          *out;              /* [T, H*dv] */
    int64_t        out_row;
    real          *lse; /* [T, H] or NULL */
    int            tile, heads; /* an item: query rows, and heads of one key head (heads divides H/G; backward: H/G) */
    /* backward; keys are f32 rows of the packed batch there */
    const real    *dout;
    real          *delta;            /* delta[t,h] = sum out*dout in 16 lanes: written by attn_delta, whose items are rows */
    real          *dq;               /* like q, += */
    real          *dk_out, *dv_out;  /* [rows, key_row], [rows, val_row], += */
    const int     *item;             /* [n_items][3]: span, first row or page, which group of `heads` heads */
} AttnArgs;

/* Writes rows of x, heads of `head` columns each, into pages as type `to`.  Items: rows */
typedef struct KvStoreArgs {
    const real    *x;
    int64_t        x_row;
    int            cols, head;
    Dtype          to;
    bool           keys; /* else values */
    size_t         head_step; /* as in AttnArgs */
    void         **dst;  /* [rows] the page's keys or values of the first head */
    const int32_t *pos;  /* [rows] position in the sequence */
} KvStoreArgs;
/* y = x rounded to type and back (in place).  Items: rows */
typedef struct RoundArgs {
    real   *x;
    int64_t x_row;
    int     cols;
    Dtype   type;
} RoundArgs;

/* Chooses K experts of each row (see op_moe.c for the rule); ids ascending.  Items: rows */
typedef struct RouteArgs {
    const real *logits; /* [T, E] */
    const real *bias;   /* [E] or NULL */
    int         E, K, n_group, topk_group;
    int         kind, scoring; /* RouteMode, RouteScore */
    bool        norm;
    real        route_scale;
    int32_t    *id;     /* [T, K] ascending */
    real       *weight; /* [T, K] */
    real       *score;  /* [T, E] sigmoid or softmax, kept for the backward */
    const real *dweight;
    real       *dlogits; /* backward: += */
} RouteArgs;

/* y[t] (+)= sum_k weight[t,k] * x[slot[t,k]], k ascending.  Items: rows t */
typedef struct CombineArgs {
    const real    *x; /* [T*K, cols] */
    const int32_t *slot;
    const real    *weight; /* NULL: 1 */
    real          *y;
    int64_t        y_row;
    int            K, cols;
    bool           accumulate;
    /* backward */
    const real    *dy;
    real          *dx, *dweight;
} CombineArgs;
/* y[i] = x[row[i]].  Items: i */
typedef struct GatherArgs {
    const real    *x;
    int64_t        x_row;
    const int32_t *row;
    real          *y; /* packed [n, cols] */
    int            cols;
} GatherArgs;

/* logits [n, V] -> logp[i*2] = log p(target), logp[i*2+1] = entropy.  Backward turns logits into d(logits) in place:
 * dlogp * (onehot - p) - dent * p * (log p + entropy).  Sums in 16 lanes as in norm.  Items: rows */
typedef struct XentArgs {
    real          *logits;
    int            V;
    const int32_t *target;
    real          *logp;        /* [n, 2] */
    const real    *dlogp;       /* [n, 2] */
} XentArgs;

typedef void KernelFn(const void *args, int64_t i0, int64_t i1, void *scratch);

/* X(name, needs an own ISA version?)  0 marks an intended hole: too little work to be worth a second spelling */
#define KERNEL_TABLE(X)                                                                                               \
    X(gemm, 1) X(act, 1) X(dot, 1) X(embed, 0) X(embed_back, 0) X(rmsnorm, 1) X(rmsnorm_back_x, 1) X(rmsnorm_back_gain, 1) X(add, 1)      \
    X(col_sum, 1) X(rope, 1) X(swiglu, 1) X(swiglu_back, 1) X(attn, 1) X(attn_delta, 0) X(attn_back_q, 1) X(attn_back_kv, 1)           \
    X(kv_store, 0) X(round, 0) X(route, 0) X(route_back, 0) X(combine, 1) X(combine_back, 1) X(gather, 0)             \
    X(xent, 1) X(xent_back, 1)

typedef struct Kernels {
    const char *isa; /* "ref", "avx2", ... (cpu/cpu.c) */
#define X(name, isa) KernelFn *name;
    KERNEL_TABLE(X)
#undef X
} Kernels;

/* bytes of scratch that one worker needs */
static inline size_t gemm_scratch(void) { return ((size_t)GEMM_KC * (GEMM_TILE_N + 32) + 64) * sizeof(real); }
/* u, s and m of runs of 16, then GEMM_KC columns of sixteen rows */
static inline size_t dot_scratch(void) { return (size_t)GEMM_KC * DOT_TILE_N * 2 + (size_t)DOT_TILE_N * 8 + DOT_A_COLUMNS / 4 + (size_t)GEMM_KC * 34 / 32 * 16 + 1024; }
static inline size_t attn_scratch(int tile, int heads, int dk, int dv)
{
    size_t rows = (size_t)tile * (size_t)heads;
    return (rows * ((size_t)dk + 2 * (size_t)dv + 4 + 2 * KV_PAGE) + (size_t)KV_PAGE * (2 * (size_t)dk + 2 * (size_t)dv + 256) +
            4096) * sizeof(real) + gemm_scratch();
}

#endif
