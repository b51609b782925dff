/* Products with block types, activations in 8 bits (order: tensor/kernels.h).
 *
 * B is unpacked a panel at a time (kern_unpack.h), into memory that stays in the first cache; a register tile of DOT_MR rows of A
 * times DOT_NV vectors of B's columns then takes it, four ks a step:
 *
 *     A row m:  q q q q | q q q q | ...   four bytes, broadcast
 *     panel:    [k/4]  u u u u  u u u u  ... of 16 columns n, a lane each
 *
 * Per run of 32 ks and 16 columns: 8 integer dot products, then one conversion, one product and one or two fused multiply-adds
 * of floats.  Few rows or many, the bits are the same: integers do not round, and the floats are one chain a lane. */
#ifndef AHA_CPU_KERN_DOT_H
#define AHA_CPU_KERN_DOT_H

#include "kern_unpack.h"

/* ---- activations ---- */
static INLINE ActGroup act_group_v(const float *from, int8_t *q)
{
    ActGroup g = {0, 0, 0, 0, -1};
    v16      a = v_load(from), b = v_load(from + 16);
    w16      sign = w_set(0x7fffffff), u = w_and(w_bits(a), sign), v = w_and(w_bits(b), sign);
    int32_t  bits = w_largest(w_max(u, v)); /* a NaN is larger than any number */
    float    max, part;
    memcpy(&max, &bits, sizeof max);
    if (bits >= 0x7f800000) {
        memset(q, 0, QUANT_GROUP);
        g.d = __builtin_nanf("");
        return g;
    }
    part = max * (1.0f / ACT_ASIDE);
    memcpy(&bits, &part, sizeof bits);
    uint32_t above = w_above(u, bits) | w_above(v, bits) << 16;
    if (above && !(above & (above - 1))) { /* one bit */
        float x[QUANT_GROUP];
        memcpy(x, from, sizeof x);
        g.at = (int16_t)__builtin_ctz(above);
        g.x = x[g.at];
        x[g.at] = 0;
        a = v_load(x);
        b = v_load(x + 16);
        bits = w_largest(w_max(w_and(w_bits(a), sign), w_and(w_bits(b), sign)));
        memcpy(&max, &bits, sizeof max);
    }
    if (max < 0x1p-100f) {
        memset(q, 0, QUANT_GROUP);
        return g;
    }
    g.d = max / 127.0f;
    v16 inverse = v_set(127.0f / max);
    w16 i = w_round(v_mul(a, inverse)), j = w_round(v_mul(b, inverse));
    w_store_bytes(q, i);
    w_store_bytes(q + 16, j);
    g.half = (int16_t)w_sum(i);
    g.sum = g.half + w_sum(j);
    return g;
}

/* sum of q over a run, of which a group has one or two */
static INLINE int32_t run_sum(const ActGroup *g, bool halves, int run)
{
    return !halves ? g->sum : run % 2 ? g->sum - g->half : g->half;
}
/* the column of a run that is kept aside, -1: none */
static INLINE int run_aside(const ActGroup *g, bool halves, int run)
{
    if (!halves || g->at < 0) return g->at;
    return g->at / 16 == run % 2 ? g->at % 16 : -1;
}

KERNEL(act)
{
    const ActArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int h = 0; h < a->H; h++)
            for (int k = 0; k < a->K; k += QUANT_GROUP) {
                int64_t at = (t * a->H + h) * a->K + k;
                a->g[at / QUANT_GROUP] = act_group_v(a->x + t * a->x_row + h * a->x_head + k, a->q + at);
            }
}

/* ---- products ---- */
typedef struct DotForm { /* constants of a compiled tile */
    bool halves, min, wide;
} DotForm;

/* what a run's sum begins with: the lift comes off first, for v = u - lift */
static INLINE w16 run_off(const DotForm f, int lift, const ActGroup *g, int run)
{
    return f.min ? w_zero() : w_set(-lift * run_sum(g, f.halves, run));
}

typedef struct DotTile {
    Panel           p;
    int             groups, lift;
    const int8_t   *q; /* the tile's first row at the panel's first k */
    const ActGroup *g;
    int64_t         q_row; /* g's: / 32 */
    float          *c;
    int64_t         c_row;
    const float    *bias; /* NULL unless this is the last panel */
    int             cols; /* valid */
    bool            first;
} DotTile;

/* ---- a panel's words, kc / 4 of every column, into products ---- */
#ifdef DOT_PAIRED
_Static_assert(DOT_MR == 2 && DOT_NV == 1, "a tile is two rows and sixteen columns");
/* two rows of A and eight ks at once: the words of each two fours of ks lie side by side, a column's after the other's */
static INLINE void panel_ready(uint8_t *u, int kc)
{
    for (int k = 0; k < kc; k += 8) w_pair(u + k * DOT_NR);
}
static INLINE w16 panel_word(const uint8_t *u, int k, int v) { return w_unpair(u + k / 8 * 8 * DOT_NR + 64 * v, k / 4 % 2); }
static INLINE void dot_words(const int mr, const DotForm f, int width, const uint8_t *u, const int8_t *q, int64_t q_row, w16 i[DOT_MR][DOT_NV])
{
    w16pair sum = w_pair_zero();
    (void)f;
    UNROLL
    for (int k = 0; k < width; k += 8) sum = w_dot_pair(sum, u + k * DOT_NR, q + k, q + (mr - 1) * q_row + k);
    UNROLL
    for (int m = 0; m < mr; m++) i[m][0] = w_add(i[m][0], w_pair_row(sum, m));
}
#else
static INLINE void panel_ready(uint8_t *u, int kc) { (void)u, (void)kc; }
static INLINE w16 panel_word(const uint8_t *u, int k, int v) { return w_load(u + k / 4 * 4 * DOT_NR + 64 * v); }
static INLINE void dot_words(const int mr, const DotForm f, int width, const uint8_t *u, const int8_t *q, int64_t q_row, w16 i[DOT_MR][DOT_NV])
{
    UNROLL
    for (int k = 0; k < width; k += 4) {
        w16 b[DOT_NV];
        UNROLL
        for (int v = 0; v < DOT_NV; v++) b[v] = w_load(u + k * DOT_NR + 64 * v);
        UNROLL
        for (int m = 0; m < mr; m++) {
            int32_t word;
            memcpy(&word, q + m * q_row + k, 4);
            w16 x = w_set(word);
            UNROLL
            for (int v = 0; v < DOT_NV; v++) i[m][v] = f.wide ? w_dot_wide(i[m][v], b[v], x) : w_dot(i[m][v], b[v], x);
        }
    }
}
#endif

/* column `at` of a run, as floats, of 16 columns of C */
static INLINE v16 aside_weight(const DotForm f, const Panel *p, int lift, int run, int at, int v)
{
    const int width = f.halves ? 16 : 32;
    w16       word = panel_word(p->u, run * width + at, v);
    v16       u = w_float(w_and(w_shr(word, 8 * (at % 4)), w_set(255)));
    v16       x = v_mul(f.min ? u : v_sub(u, v_set((float)lift)), v_load(p->s + run * DOT_NR + 16 * v));
    return f.min ? v_add(x, v_load(p->m + run * DOT_NR + 16 * v)) : x;
}

static INLINE void dot_run(const int mr, const DotForm f, const DotTile *t, int run, v16 acc[DOT_MR][DOT_NV])
{
    const int       width = f.halves ? 16 : 32;
    const ActGroup *g = t->g + run * width / QUANT_GROUP;
    w16             i[DOT_MR][DOT_NV];
    UNROLL
    for (int m = 0; m < mr; m++) {
        w16 off = run_off(f, t->lift, g + m * (t->q_row / QUANT_GROUP), run);
        UNROLL
        for (int v = 0; v < DOT_NV; v++) i[m][v] = off;
    }
    dot_words(mr, f, width, t->p.u + (int64_t)run * width * DOT_NR, t->q + run * width, t->q_row, i);
    UNROLL
    for (int m = 0; m < mr; m++) {
        const ActGroup *gm = g + m * (t->q_row / QUANT_GROUP);
        UNROLL
        for (int v = 0; v < DOT_NV; v++) {
            v16 x = v_mul(w_float(i[m][v]), v_load(t->p.s + run * DOT_NR + 16 * v));
            if (f.min) x = v_fma(w_float(w_set(run_sum(gm, f.halves, run))), v_load(t->p.m + run * DOT_NR + 16 * v), x);
            acc[m][v] = v_fma(x, v_set(gm->d), acc[m][v]);
        }
        int at = run_aside(gm, f.halves, run);
        if (__builtin_expect(at >= 0, 0)) {
            UNROLL
            for (int v = 0; v < DOT_NV; v++) acc[m][v] = v_fma(aside_weight(f, &t->p, t->lift, run, at, v), v_set(gm->x), acc[m][v]);
        }
    }
}

static INLINE void dot_tile(const int mr, const DotForm f, const DotTile *t)
{
    v16 acc[DOT_MR][DOT_NV];
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < DOT_NV; v++) acc[m][v] = t->first ? v_zero() : v_load_m(t->c + m * t->c_row + 16 * v, m_first(t->cols - 16 * v));
    }
    for (int g = 0; g < t->groups; g++) {
        if (f.halves) {
            dot_run(mr, f, t, 2 * g, acc);
            dot_run(mr, f, t, 2 * g + 1, acc);
        } else {
            dot_run(mr, f, t, g, acc);
        }
    }
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < DOT_NV; v++) {
            m16 in = m_first(t->cols - 16 * v);
            if (t->bias) acc[m][v] = v_add(acc[m][v], v_load_m(t->bias + 16 * v, in));
            v_store_m(t->c + m * t->c_row + 16 * v, in, acc[m][v]);
        }
    }
}

/* X(name, halves, min, wide): the forms that types have */
#define DOT_FORMS(X) X(plain, false, false, false) X(wide, false, false, true) X(min, false, true, false)             \
    X(halves, true, false, false) X(halves_min, true, true, false)
#if DOT_MR == 6
#define DOT_ROWS(X, f) X(1, f) X(2, f) X(3, f) X(4, f) X(5, f) X(6, f)
#else
#define DOT_ROWS(X, f) X(1, f) X(2, f)
#endif

typedef void DotTileFn(int mr, const DotTile *t);
#define ROWS(n, f)                                                                                                    \
    case n: dot_tile(n, f, t); break;
#define X(name, halves, min, wide)                                                                                    \
    static void dot_##name(int mr, const DotTile *t)                                                                  \
    {                                                                                                                 \
        switch (mr) { DOT_ROWS(ROWS, ((DotForm){halves, min, wide})) }                                                \
    }
DOT_FORMS(X)
#undef X
#undef ROWS

static DotTileFn *dot_tile_fn(const QuantForm *f)
{
    if (f->halves) return f->min ? dot_halves_min : dot_halves;
    return f->min ? dot_min : f->lift == 128 ? dot_wide : dot_plain;
}

enum { FEW_MAX = 8 }; /* rows that do without a panel */

/* Asks for bytes that are wanted soon. */
static INLINE void dot_prefetch(const uint8_t *next, const uint8_t *end, int64_t bytes)
{
    if (next + bytes > end) bytes = end - next;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
}

/* ---- a few rows of A ----
 * Little is gained by a panel then: stores of 64 bytes take two cycles on some processors, so what is unpacked goes into the
 * products of one row, or of DOT_FEW, from its register. */
static INLINE bool any_aside(const ActGroup *g, int n)
{
    int at = -1;
    for (int i = 0; i < n; i++) at &= g[i].at;
    return at != -1;
}

/* the sum of run r into a row's acc */
static INLINE v16 few_run(const DotForm f, const ActGroup *g, int r, w16 sum, const float *s, const float *m, v16 acc)
{
    v16 x = v_mul(w_float(sum), v_load(s + 16 * r));
    if (f.min) x = v_fma(w_float(w_set(run_sum(g, f.halves, r))), v_load(m + 16 * r), x);
    return v_fma(x, v_set(g->d), acc);
}

/* All of a block's runs, of which some have a column of the row kept aside: its weights are unpacked once more. */
static __attribute__((noinline)) v16 few_aside(Dtype type, StripeRows from, int k0, const w16 *sum, const float *s, const float *m, const ActGroup *g, v16 acc)
{
    const QuantForm     *q = quant_form(type);
    const DotForm        f = {q->halves, q->min, q->lift == 128};
    const int            block = dtype_info(type)->block, width = f.halves ? 16 : 32;
    _Alignas(64) uint8_t u[GEMM_KC * DOT_NR];
    _Alignas(64) float   all_s[GEMM_KC / 16 * DOT_NR], all_m[GEMM_KC / 16 * DOT_NR];
    const Panel          whole = {.u = u, .s = all_s, .m = all_m, .step = DOT_NR};
    unpack_stripe(&whole, type, from, k0, block);
    panel_ready(u, block);
    for (int r = 0; r < block / width; r++) {
        const ActGroup *gr = g + r * width / QUANT_GROUP;
        int             at = run_aside(gr, f.halves, r);
        acc = few_run(f, gr, r, sum[r], s, m, acc);
        if (at >= 0) acc = v_fma(aside_weight(f, &whole, q->lift, r, at, 0), v_set(gr->x), acc);
    }
    return acc;
}

/* Several rows at once are worth it where a block's sums are few and its weights come cheaply. */
static INLINE bool few_pay(Dtype t, bool halves) { return !halves && !has_grid(t) && t != DT_TQ1_0; }

/* Several rows ask for what lies ahead: a small block into the first cache, a large one, whose lines would hold up the loads there, into
 * the second.  One row goes without: a stripe is one stream, which hardware foresees. */
static INLINE void few_ask(const uint8_t *at, int words, int block)
{
    UNROLL
    for (int w = 0; w < words; w++) {
        if (block == QUANT_GROUP) __builtin_prefetch(at + 4096 + 64 * w, 0, 3);
        else __builtin_prefetch(at + 8192 + 64 * w, 0, 2);
    }
}

/* acc[row] + the products of some blocks of a stripe with rows of A, from column 0 of q and g on: a function for each type, and two where
 * several rows pay */
typedef void FewFn(StripeRows from, int64_t blocks, const int8_t *const *q, const ActGroup *const *g, v16 *acc);
#define X(name, type, block, halves, min, lift)                                                                       \
    static INLINE void few_##name(const int rows, StripeRows from, int64_t blocks, const int8_t *const *q, const ActGroup *const *g, v16 *acc) \
    {                                                                                                                 \
        enum { WIDTH = (halves) ? 16 : 32, RUNS = (block) / WIDTH, GROUPS = (block) / QUANT_GROUP };                  \
        const bool          turns = GRID_TURNS && has_grid(type);                                                     \
        _Alignas(64) int8_t turned[DOT_FEW][block];                                                                   \
        const int8_t       *turned_q[DOT_FEW];                                                                        \
        _Alignas(64) float  s[16 * RUNS], m[(min) ? 16 * RUNS : 1] = {0};                                             \
        const DotForm       f = {halves, min, (lift) == 128};                                                         \
        for (int64_t i = 0; i < blocks; i++) {                                                                        \
            const Stripe at = stripe_block(stripe_form(type), from, i);                                               \
            w16          sum[RUNS][DOT_FEW];                                                                          \
            Panel        p = {NULL, s, m, 16, sum, q, rows, (int)i * (block), WIDTH, f.wide};                         \
            UNROLL                                                                                                    \
            for (int r = 0; r < RUNS; r++) {                                                                          \
                UNROLL                                                                                                \
                for (int n = 0; n < rows; n++) sum[r][n] = run_off(f, lift, g[n] + i * GROUPS + r * WIDTH / QUANT_GROUP, r); \
            }                                                                                                         \
            if (rows > 1) few_ask(at.word, stripe_form(type).words, block);                                           \
            UNROLL                                                                                                    \
            for (int n = 0; turns && n < rows; n++) {                                                                 \
                UNROLL                                                                                                \
                for (int k = 0; k < (block); k += 64) grid_turn(q[n] + i * (block) + k, turned[n] + k);               \
                turned_q[n] = turned[n];                                                                              \
            }                                                                                                         \
            if (turns) p.q = turned_q, p.at = 0;                                                                      \
            unpack_##name(&p, at);                                                                                    \
            UNROLL                                                                                                    \
            for (int n = 0; n < rows; n++) {                                                                          \
                const ActGroup *gn = g[n] + i * GROUPS;                                                               \
                if (__builtin_expect(any_aside(gn, GROUPS), 0)) {                                                     \
                    w16 of_row[RUNS];                                                                                 \
                    UNROLL /* an index that is no constant would put sum into memory */                               \
                    for (int r = 0; r < RUNS; r++) of_row[r] = sum[r][n];                                             \
                    acc[n] = few_aside(type, from, (int)i * (block), of_row, s, m, gn, acc[n]);                       \
                    continue;                                                                                         \
                }                                                                                                     \
                UNROLL                                                                                                \
                for (int r = 0; r < RUNS; r++) acc[n] = few_run(f, gn + r * WIDTH / QUANT_GROUP, r, sum[r][n], s, m, acc[n]); \
            }                                                                                                         \
        }                                                                                                             \
    }                                                                                                                 \
    static void one_##name(StripeRows from, int64_t blocks, const int8_t *const *q, const ActGroup *const *g, v16 *acc) \
    {                                                                                                                 \
        const int8_t   *q1[1] = {q[0]};                                                                               \
        const ActGroup *g1[1] = {g[0]};                                                                               \
        v16             sum[1] = {acc[0]};                                                                            \
        few_##name(1, from, blocks, q1, g1, sum);                                                                     \
        acc[0] = sum[0];                                                                                              \
    }                                                                                                                 \
    static void several_##name(StripeRows from, int64_t blocks, const int8_t *const *q, const ActGroup *const *g, v16 *acc) \
    {                                                                                                                 \
        if (few_pay(type, halves)) few_##name(DOT_FEW, from, blocks, q, g, acc);                                      \
    }
QUANT_FORMS(X)
#undef X

static FewFn *few_fn(Dtype t, bool one)
{
    switch (t) {
#define X(name, type, block, halves, min, lift)                                                                       \
    case type: return one ? one_##name : several_##name;
        QUANT_FORMS(X)
#undef X
    default: return NULL;
    }
}
static int few_max(const DotArgs *a) { return few_pay(a->b_type, quant_form(a->b_type)->halves) ? FEW_MAX : 1; }

/* Sixteen rows as a stripe, where they are one already; else columns [k0, k0 + kc) alone, GEMM_KC at most, turned into `room`. */
static StripeRows stripe_of(const DotArgs *a, const uint8_t *rows, int k0, int kc, uint8_t *room)
{
    const StripeForm f = stripe_form(a->b_type);
    const DtypeInfo *d = dtype_info(a->b_type);
    if (a->striped) return (StripeRows){rows, a->K / d->block};
    StripeRows     to = {room, kc / d->block};
    const uint8_t *b = rows + (int64_t)(k0 / d->block) * d->block_bytes, *ahead = rows + 16 * (a->b_row + (int64_t)(k0 / d->block) * d->block_bytes);
    for (int i = 0; i < to.blocks; i++, b += d->block_bytes, ahead += 16 * d->block_bytes) {
        Stripe s = stripe_block(f, to, i);
        turn(a->b_type, f, b, a->b_row, room + (s.word - room), room + (s.odd - room), ahead);
    }
    return to;
}
/* rows that lie further apart are beyond what a vector of offsets holds */
static bool rows_near(const DotArgs *a) { return a->striped || a->b_row < 1 << 27; }

/* Asks for what the next columns of C take of columns [k0, k0 + kc): of a stripe just that, of rows their share of the bytes. */
static INLINE void ask_for_next(const DotArgs *a, const uint8_t *next, const uint8_t *end, int k0, int kc)
{
    const DtypeInfo *d = dtype_info(a->b_type);
    const int64_t    bytes = (int64_t)(kc / d->block) * d->block_bytes;
    if (!a->striped) {
        dot_prefetch(next + (int64_t)(k0 / GEMM_KC) * DOT_NR * (GEMM_KC / d->block) * d->block_bytes, end, DOT_NR * bytes);
        return;
    }
    for (int v = 0; v < DOT_NR; v += STRIPE_ROWS)
        dot_prefetch(next + v * a->b_row + (int64_t)(k0 / d->block) * d->block_bytes * STRIPE_ROWS, end, STRIPE_ROWS * bytes);
}

/* rows [m0, m1) and columns [n0, n1) of a head's C, of columns [k0, k1) of A and B what they add */
static void dot_part(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1, int k0, int k1, uint8_t *scratch)
{
    const QuantForm *f = quant_form(a->b_type);
    const DtypeInfo *d = dtype_info(a->b_type);
    DotTileFn       *tile = dot_tile_fn(f);
    float           *s = (float *)(void *)(scratch + GEMM_KC * DOT_NR), *m_at = s + GEMM_KC / 16 * DOT_NR;
    uint8_t         *room = (uint8_t *)(m_at + GEMM_KC / 16 * DOT_NR);
    const uint8_t   *b = a->b + head * a->b_head, *end = b + n1 * a->b_row;
    DotTile          t = {.p = {.u = scratch, .s = s, .m = m_at}, .lift = f->lift, .q_row = (int64_t)a->H * a->K, .c_row = a->c_row};
    for (int64_t n = n0; n < n1; n += DOT_NR) {
        t.cols = (int)(n1 - n < DOT_NR ? n1 - n : DOT_NR);
        for (int k = k0; k < k1; k += GEMM_KC) {
            int kc = k1 - k < GEMM_KC ? k1 - k : GEMM_KC;
            for (int v = 0; v < t.cols; v += 16) {
                Panel          part = {.u = t.p.u + 4 * v, .s = t.p.s + v, .m = t.p.m + v, .step = DOT_NR};
                const uint8_t *rows = b + (n + v) * a->b_row;
                if (t.cols - v < 16 || !rows_near(a))
                    unpack_plain(&part, f, d, rows, a->b_row, t.cols - v < 16 ? t.cols - v : 16, k, kc);
                else
                    unpack_stripe(&part, a->b_type, stripe_of(a, rows, k, kc, room), a->striped ? k : 0, kc);
            }
            panel_ready(t.p.u, kc);
            ask_for_next(a, b + (n + DOT_NR) * a->b_row, end, k, kc);
            t.groups = kc / QUANT_GROUP;
            t.first = k == 0;
            t.bias = a->bias && k + kc == a->K ? a->bias + n : NULL;
            for (int64_t m = m0; m < m1; m += DOT_MR) {
                int64_t at = (m * a->H + head) * a->K + k;
                t.q = a->q + at;
                t.g = a->g + at / QUANT_GROUP;
                t.c = a->c + m * a->c_row + head * a->c_head + n;
                tile((int)(m1 - m < DOT_MR ? m1 - m : DOT_MR), &t);
            }
        }
    }
}

/* The same of all columns, so many at once that A's stay in the second cache for all of C's (an ActGroup has half a byte for each of q's). */
enum { DOT_A_BYTES = 384 << 10 };
static void dot_block(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1, uint8_t *scratch)
{
    int part = (int)(DOT_A_BYTES * 2 / 3 / (m1 - m0)) / GEMM_KC * GEMM_KC;
    if (part < GEMM_KC) part = GEMM_KC;
    for (int k = 0; k < a->K; k += part) dot_part(a, head, m0, m1, n0, n1, k, a->K - k < part ? a->K : k + part, scratch);
}

/* rows [m0, m1), FEW_MAX at most, and columns [n0, n1) of a head's C */
static void dot_few(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1, uint8_t *scratch)
{
    const int       block = dtype_info(a->b_type)->block, part = a->striped ? a->K : GEMM_KC, rows = (int)(m1 - m0);
    const int8_t   *q[FEW_MAX + DOT_FEW];
    const ActGroup *g[FEW_MAX + DOT_FEW];
    const uint8_t  *b = a->b + head * a->b_head;
    float          *c = a->c + m0 * a->c_row + head * a->c_head;
    for (; n0 + 16 <= n1 && rows_near(a); n0 += 16) {
        v16 sum[FEW_MAX + DOT_FEW];
        for (int m = 0; m < FEW_MAX + DOT_FEW; m++) sum[m] = v_zero();
        for (int k = 0; k < a->K; k += part) {
            int        kc = a->K - k < part ? a->K - k : part;
            StripeRows s = stripe_of(a, b + n0 * a->b_row, k, kc, scratch);
            for (int m = 0; m < rows + DOT_FEW; m++) { /* rows beyond the last are it again, and thrown away */
                int64_t at = ((m0 + (m < rows ? m : rows - 1)) * a->H + head) * a->K + k;
                q[m] = a->q + at;
                g[m] = a->g + at / QUANT_GROUP;
            }
            for (int m = 0; m < rows;) {
                bool one = m + 1 == rows;
                few_fn(a->b_type, one)(s, kc / block, q + m, g + m, sum + m);
                m += one ? 1 : DOT_FEW;
            }
        }
        for (int m = 0; m < rows; m++) v_store(c + m * a->c_row + n0, a->bias ? v_add(sum[m], v_load(a->bias + n0)) : sum[m]);
    }
    if (n0 < n1) dot_block(a, head, m0, m1, n0, n1, scratch);
}

KERNEL(dot)
{
    const DotArgs *a = args;
    int64_t        rows = (a->M + DOT_TILE_M - 1) / DOT_TILE_M, cols = (a->N + DOT_TILE_N - 1) / DOT_TILE_N;
    while (i0 < i1) { /* the items that lie in one row of tiles go together */
        int64_t row = i0 / cols, stop = (row + 1) * cols < i1 ? (row + 1) * cols : i1;
        int64_t m0 = row % rows * DOT_TILE_M, n0 = (i0 - row * cols) * DOT_TILE_N, n1 = (stop - row * cols) * DOT_TILE_N;
        if (a->M <= few_max(a))
            dot_few(a, row / rows, 0, a->M, n0, n1 < a->N ? n1 : a->N, align64(scratch));
        else
            dot_block(a, row / rows, m0, m0 + DOT_TILE_M < a->M ? m0 + DOT_TILE_M : a->M, n0, n1 < a->N ? n1 : a->N, align64(scratch));
        i0 = stop;
    }
}

#endif
