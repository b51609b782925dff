/* Products of a few rows of A with block types (kern_dot.h): a stripe's words are unpacked into a register and multiplied there.
 *
 *     word 0 of 16 rows of B | word 1 | ...   unpack   u u u u | ...  x  A's four columns, broadcast   =   a sum for each run and lane
 *
 * Little is gained by a panel then: stores of 64 bytes take two cycles on some processors, so what is unpacked goes into the
 * products of one row, or of DOT_FEW, from its register. */
#ifndef AHA_CPU_KERN_DOT_FEW_H
#define AHA_CPU_KERN_DOT_FEW_H

enum { FEW_MAX = 32 }; /* rows that do without a panel */

static INLINE w16 few_off(const DotForm f, int lift, const ActGroup *g, int run)
{
    return f.min ? w_zero() : w_set_times((f.halves ? g->half : g->sum) + run, -dot_lift(lift));
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
        enum { WIDTH = (halves) ? 16 : 32, BIG = (block) == 256, RUNS = (block) / WIDTH, OF_GROUP = ACT_GROUP / WIDTH };  \
        const bool          turns = GRID_TURNS && has_grid(type);                                                     \
        _Alignas(64) int8_t turned[DOT_FEW][block];                                                                   \
        const int8_t       *turned_q[DOT_FEW];                                                                        \
        _Alignas(64) float  s[16 * RUNS], m[(min) ? 16 * RUNS : 1] = {0}, d[32];                                      \
        const DotForm       f = {halves, min, BIG, (lift) == 128};                                                    \
        v16                 t[DOT_FEW];                                                                               \
        UNROLL                                                                                                        \
        for (int n = 0; n < rows; n++) t[n] = v_zero();                                                               \
        for (int64_t i = 0; i < blocks; i++) {                                                                        \
            const Stripe  at = stripe_block(stripe_form(type), from, i);                                              \
            const int     run0 = BIG ? 0 : (int)(i % OF_GROUP); /* a group has several blocks, or a block two groups */  \
            const int64_t gi = BIG ? 2 * i : i / OF_GROUP;                                                            \
            w16           sum[RUNS][DOT_FEW];                                                                         \
            Panel         p = {NULL, s, m, d, 16, sum, q, rows, (int)i * (block), WIDTH, f.wide};                      \
            UNROLL                                                                                                    \
            for (int r = 0; r < RUNS; r++) {                                                                          \
                UNROLL                                                                                                \
                for (int n = 0; n < rows; n++) sum[r][n] = few_off(f, lift, g[n] + gi + r / OF_GROUP, run0 + r % OF_GROUP); \
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
                UNROLL                                                                                                \
                for (int r = 0; r < RUNS; r++) {                                                                      \
                    const ActGroup *gn = g[n] + gi + r / OF_GROUP;                                                    \
                    t[n] = run_add(f, gn, run0 + r % OF_GROUP, sum[r][n], s + 16 * r, m + ((min) && !BIG ? 16 * r : 0), t[n]); \
                    if (BIG ? (r + 1) % OF_GROUP : run0 + 1 < OF_GROUP && i + 1 < blocks) continue;                   \
                    acc[n] = group_add(f, gn, t[n], m + ((min) && BIG ? r / OF_GROUP * OF_GROUP / 2 * 16 : 0), 16, d, d + 16, acc[n]); \
                    t[n] = v_zero();                                                                                  \
                }                                                                                                     \
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

#endif
