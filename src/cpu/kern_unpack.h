/* Block types unpacked for products (kern_dot.h): a stripe of 16 rows of B at a time (tensor/stripe.h), each row a lane.
 *
 *     a panel, GEMM_KC columns k of DOT_NR rows n:
 *       u   [k/4][n] four bytes, v + lift (tensor/quant.h)
 *       s   [run][n] floats: the scale of 16 or 32 columns
 *       m   [run][n] floats: the minimum, negated; in blocks of 256 [run/2][n] pairs of integers, the minima of two runs
 *       d   [2][n] floats, of blocks of 256 alone, one to a panel: the factor of scales; that of minima, negated
 *
 * Word w of every row is one vector: low bits, high bits and scales fall out of it by shifts that are the same in every lane.  Of
 * Q4_K, 4,096 weights in 2,304 bytes, that is 36 loads, 96 shifts and masks and some 30 operations for the scales.
 * Rows as a file has them are turned first (turn): 16 loads, 8 shuffles and 4 stores for four words. */
#ifndef AHA_CPU_KERN_UNPACK_H
#define AHA_CPU_KERN_UNPACK_H

#include "../tensor/quant.h"
#include "../tensor/stripe.h"

enum { DOT_NR = 16 * DOT_NV };

/* Where what is unpacked goes: into a panel (or the part of one that sixteen rows fill: then the pointers are at their lanes), or,
 * for a few rows of A, straight into their products, a sum for every run and row: then s, m and d alone are kept, a vector each. */
typedef struct Panel {
    uint8_t             *u;
    float               *s, *m, *d;
    int                  step;  /* floats from a run to the next */
    w16                (*sum)[DOT_FEW]; /* [run]; NULL: into u */
    const int8_t *const *q;     /* [rows] A's */
    int                  rows;
    int                  at;    /* the first column in q */
    int                  width; /* of a run */
    bool                 wide;
} Panel;

static INLINE w16 word(Stripe s, int place) { return w_load(s.word + 64 * place); }
static INLINE v16 odd_half(Stripe s) { return v_load_t(DT_F16, s.odd, 0); }

static INLINE void put(const Panel *p, int k4, w16 x)
{
    if (p->sum) {
        w16 *sum = p->sum[4 * k4 / p->width];
        UNROLL
        for (int m = 0; m < p->rows; m++) {
            int32_t four;
            memcpy(&four, p->q[m] + p->at + 4 * k4, 4);
            sum[m] = p->wide ? w_dot_wide(sum[m], x, w_set(four)) : w_dot(sum[m], x, w_set(four));
        }
    } else {
        w_store(p->u + (int64_t)k4 * DOT_NR * 4, x);
    }
}
static INLINE void put_scale(const Panel *p, int run, v16 s) { v_store(p->s + run * p->step, s); }
static INLINE void put_min(const Panel *p, int run, v16 m) { v_store(p->m + run * p->step, m); }
static INLINE void put_min_pair(const Panel *p, int i, w16 m) { w_store(p->m + i * p->step, m); } /* of runs 2 i and 2 i + 1 */
static INLINE void put_factor(const Panel *p, v16 d) { v_store(p->d, d); }
static INLINE void put_factors(const Panel *p, w16 halves) /* f16: of scales, of minima */
{
    v_store(p->d, w_half(halves));
    v_store(p->d + p->step, v_neg(w_half(w_shr(halves, 16))));
}

static INLINE w16 w_mask(w16 x, int byte) { return w_and(x, w_set(byte * 0x01010101)); }
#define PLACES(a, b, c, d) {a, b, c, d, 4 + (a), 4 + (b), 4 + (c), 4 + (d), 8 + (a), 8 + (b), 8 + (c), 8 + (d), 12 + (a), 12 + (b), 12 + (c), 12 + (d)}
/* byte i of each word as a float */
static INLINE v16 byte_float(w16 x, int i)
{
    static const uint8_t FROM[4][16] = {PLACES(0, 240, 240, 240), PLACES(1, 240, 240, 240), PLACES(2, 240, 240, 240), PLACES(3, 240, 240, 240)};
    return w_float(w_shuffle(x, FROM[i]));
}
/* byte i of each word, which has a sign, as 2^24 times as large a float */
enum { TOP = 1 << 24 };
static INLINE v16 top_float(w16 x, int i)
{
    static const uint8_t FROM[4][16] = {PLACES(240, 240, 240, 0), PLACES(240, 240, 240, 1), PLACES(240, 240, 240, 2), PLACES(240, 240, 240, 3)};
    return w_float(w_shuffle(x, FROM[i]));
}
/* bytes 2 i and 2 i + 1 of each word as a pair of 16 bits each */
static INLINE w16 byte_pair(w16 x, int i)
{
    static const uint8_t FROM[2][16] = {PLACES(0, 240, 1, 240), PLACES(2, 240, 3, 240)};
    return w_shuffle(x, FROM[i]);
}
/* the low 4 bits of each word into its bytes */
static INLINE w16 w_spread1(w16 x)
{
    x = w_and(w_or(x, w_shl(x, 14)), w_set(0x00030003));
    return w_and(w_or(x, w_shl(x, 7)), w_set(0x01010101));
}

/* ---- blocks of 32 ---- */

/* words of low, then high nibbles, from w on */
static INLINE void put_nibbles(const Panel *p, Stripe s, int w)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        w16 q = word(s, w + j);
        put(p, j, w_mask(q, 15));
        put(p, 4 + j, w_mask(w_shr(q, 4), 15));
    }
}
/* the same as numbers of a table */
static INLINE void put_looked_up(const Panel *p, Stripe s, int w, const int8_t value[16], int lift)
{
    uint8_t table[16];
    for (int i = 0; i < 16; i++) table[i] = (uint8_t)(value[i] + lift);
    UNROLL
    for (int j = 0; j < 4; j++) {
        w16 q = word(s, w + j);
        put(p, j, w_lookup(table, w_mask(q, 15)));
        put(p, 4 + j, w_lookup(table, w_mask(w_shr(q, 4), 15)));
    }
}
/* the same with a fifth bit, of column i in bit i of a word in front of them */
static INLINE void put_fives(const Panel *p, Stripe s, int w)
{
    w16 high = word(s, w - 1);
    UNROLL
    for (int j = 0; j < 4; j++) {
        w16 q = word(s, w + j), low = w_and(w_shr(high, 4 * j), w_set(15)), top = w_and(w_shr(high, 16 + 4 * j), w_set(15));
        put(p, j, w_or(w_mask(q, 15), w_shl(w_spread1(low), 4)));
        put(p, 4 + j, w_or(w_mask(w_shr(q, 4), 15), w_shl(w_spread1(top), 4)));
    }
}

static INLINE void unpack_q4_0(const Panel *p, Stripe s)
{
    put_scale(p, 0, odd_half(s));
    put_nibbles(p, s, 0);
}
static INLINE void put_scale_and_min(const Panel *p, Stripe s) /* m is added */
{
    w16 x = word(s, 0);
    put_scale(p, 0, w_half(x));
    put_min(p, 0, w_half(w_shr(x, 16)));
}
static INLINE void unpack_q4_1(const Panel *p, Stripe s)
{
    put_scale_and_min(p, s);
    put_nibbles(p, s, 1);
}
static INLINE void unpack_q5_0(const Panel *p, Stripe s)
{
    put_scale(p, 0, odd_half(s));
    put_fives(p, s, 1);
}
static INLINE void unpack_q5_1(const Panel *p, Stripe s)
{
    put_scale_and_min(p, s);
    put_fives(p, s, 2);
}
static INLINE void unpack_q8_0(const Panel *p, Stripe s)
{
    put_scale(p, 0, odd_half(s));
    UNROLL
    for (int j = 0; j < 8; j++) put(p, j, w_xor(word(s, j), w_set((int)0x80808080)));
}
static INLINE void unpack_iq4_nl(const Panel *p, Stripe s)
{
    put_scale(p, 0, odd_half(s));
    put_looked_up(p, s, 0, QUANT_IQ4_VALUE, 128);
}
static INLINE void unpack_mxfp4(const Panel *p, Stripe s)
{
    float scale[16];
    for (int r = 0; r < 16; r++) { /* 2^(e - 128); the lowest two are below the normal numbers */
        uint32_t e = s.odd[r], bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
        memcpy(&scale[r], &bits, 4);
    }
    put_scale(p, 0, v_load(scale));
    put_looked_up(p, s, 0, QUANT_MXFP4_VALUE, 16);
}

/* ---- blocks of 256, scales packed ---- */

/* d, dmin and 12 bytes of scales, as quant.c's scale_min has them: a word each */
static INLINE void put_scales_mins(const Panel *p, Stripe s)
{
    w16 w1 = word(s, 1), w2 = word(s, 2), w3 = word(s, 3);
    w16 six = w_set(0x3f3f3f3f), low = w_set(0x0f0f0f0f), top = w_set(0x30303030);
    w16 scale[2] = {w_and(w1, six), w_or(w_and(w3, low), w_and(w_shr(w1, 2), top))};
    w16 min[2] = {w_and(w2, six), w_or(w_and(w_shr(w3, 4), low), w_and(w_shr(w2, 2), top))};
    put_factors(p, word(s, 0));
    UNROLL
    for (int g = 0; g < 8; g++) put_scale(p, g, byte_float(scale[g / 4], g % 4));
    UNROLL
    for (int i = 0; i < 4; i++) put_min_pair(p, i, byte_pair(min[i / 2], i % 2));
}
static INLINE void unpack_q4_k(const Panel *p, Stripe s)
{
    put_scales_mins(p, s);
    UNROLL
    for (int i = 0; i < 32; i++) { /* eight words are a pair of groups */
        w16 q = word(s, 4 + i);
        int k4 = i / 8 * 16 + i % 8;
        put(p, k4, w_mask(q, 15));
        put(p, k4 + 8, w_mask(w_shr(q, 4), 15));
    }
}
/* word w as a file counts them */
#define WORD(type, w) word(s, stripe_place(type, w))
static INLINE void unpack_q5_k(const Panel *p, Stripe s)
{
    put_scales_mins(p, s);
    UNROLL
    for (int g = 0; g < 8; g += 2) { /* a word of high bits serves all groups */
        UNROLL
        for (int j = 0; j < 8; j++) {
            w16 h = WORD(DT_Q5_K, 4 + j), q = WORD(DT_Q5_K, 12 + 4 * g + j);
            w16 first = g < 4 ? w_shl(h, 4 - g) : w_shr(h, g - 4), second = g + 1 < 4 ? w_shl(h, 3 - g) : w_shr(h, g - 3);
            put(p, 8 * g + j, w_or(w_mask(q, 15), w_mask(first, 16)));
            put(p, 8 * g + j + 8, w_or(w_mask(w_shr(q, 4), 15), w_mask(second, 16)));
        }
    }
}
static INLINE void unpack_q6_k(const Panel *p, Stripe s)
{
    put_factor(p, v_mul(odd_half(s), v_set(1.0f / TOP)));
    UNROLL
    for (int i = 0; i < 16; i++) put_scale(p, i, top_float(WORD(DT_Q6_K, 48 + i / 4), i % 4));
    UNROLL
    for (int i = 0; i < 16; i++) { /* four columns of four groups of 32, of half i / 8 */
        w16 low = WORD(DT_Q6_K, i / 8 * 16 + i % 8), low2 = WORD(DT_Q6_K, i / 8 * 16 + 8 + i % 8), high = WORD(DT_Q6_K, 32 + i);
        int k4 = i / 8 * 32 + i % 8;
        put(p, k4, w_or(w_mask(low, 15), w_shl(w_mask(high, 3), 4)));
        put(p, k4 + 8, w_or(w_mask(low2, 15), w_shl(w_mask(high, 12), 2)));
        put(p, k4 + 16, w_or(w_mask(w_shr(low, 4), 15), w_mask(high, 48)));
        put(p, k4 + 24, w_or(w_mask(w_shr(low2, 4), 15), w_mask(w_shr(high, 2), 48)));
    }
}
static INLINE void unpack_q2_k(const Panel *p, Stripe s)
{
    put_factors(p, WORD(DT_Q2_K, 20));
    UNROLL
    for (int j = 0; j < 4; j++) {
        w16 both = WORD(DT_Q2_K, j), scale = w_mask(both, 15), min = w_mask(w_shr(both, 4), 15);
        UNROLL
        for (int i = 0; i < 4; i++) put_scale(p, 4 * j + i, byte_float(scale, i));
        UNROLL
        for (int i = 0; i < 2; i++) put_min_pair(p, 2 * j + i, byte_pair(min, i));
    }
    UNROLL
    for (int i = 0; i < 16; i++) {
        w16 q = WORD(DT_Q2_K, 4 + i);
        UNROLL
        for (int g = 0; g < 4; g++) put(p, i / 8 * 32 + 8 * g + i % 8, w_mask(w_shr(q, 2 * g), 3));
    }
}
static INLINE void unpack_q3_k(const Panel *p, Stripe s)
{
    put_factor(p, v_mul(odd_half(s), v_set(1.0f / TOP)));
    UNROLL
    for (int j = 0; j < 4; j++) { /* four scales: nibbles of the same word, pairs of bits j of the third */
        w16 low = w_mask(w_shr(WORD(DT_Q3_K, 24 + j % 2), 4 * (j / 2)), 15), top = w_mask(w_shr(WORD(DT_Q3_K, 26), 2 * j), 3);
        w16 six = w_sub_bytes(w_or(low, w_shl(top, 4)), w_set(0x20202020));
        UNROLL
        for (int i = 0; i < 4; i++) put_scale(p, 4 * j + i, top_float(six, i));
    }
    UNROLL
    for (int i = 0; i < 16; i++) {
        w16 q = WORD(DT_Q3_K, 8 + i), h = WORD(DT_Q3_K, i % 8);
        UNROLL
        for (int g = 0; g < 4; g++) { /* bit 4 (i / 8) + g of hmask is worth 4 */
            int bit = 4 * (i / 8) + g;
            w16 four = w_mask(bit < 2 ? w_shl(h, 2 - bit) : w_shr(h, bit - 2), 4);
            put(p, i / 8 * 32 + 8 * g + i % 8, w_or(w_mask(w_shr(q, 2 * g), 3), four));
        }
    }
}
#undef WORD
/* the part of a panel that begins at group g, where every group is one run */
static INLINE Panel group_of(const Panel *p, int g)
{
    Panel part = *p;
    part.s += g * p->step;
    part.m += g * p->step;
    if (p->sum) {
        part.sum += g;
        part.at += g * QUANT_GROUP;
    } else {
        part.u += (int64_t)g * 8 * DOT_NR * 4;
    }
    return part;
}
static INLINE void unpack_iq4_xs(const Panel *p, Stripe s)
{
    w16 first = word(s, 0), low = word(s, 1), pairs = w_shr(first, 16);
    put_factor(p, w_half(first));
    UNROLL
    for (int g = 0; g < 8; g++) {
        Panel part = group_of(p, g);
        w16   six = w_or(w_and(w_shr(low, 4 * g), w_set(15)), w_shl(w_and(w_shr(pairs, 2 * g), w_set(3)), 4));
        put_scale(&part, 0, v_sub(w_float(six), v_set(32)));
        put_looked_up(&part, s, 2 + 4 * g, QUANT_IQ4_VALUE, 128);
    }
}

/* ---- base 3 ---- */

/* byte of base-3 digits times 3: the next digit is on top */
static INLINE w16 times_three(w16 x) { return w_add_bytes(x, w_add_bytes(x, x)); }
static INLINE w16 top_digit(w16 x) /* x * 3 / 256 of every byte */
{
    w16 mask = w_set(0x00ff00ff), even = w_and(x, mask), odd = w_and(w_shr(x, 8), mask);
    even = w_and(w_shr(w_add(even, w_shl(even, 1)), 8), mask);
    odd = w_and(w_add(odd, w_shl(odd, 1)), w_set((int)0xff00ff00));
    return w_or(even, odd);
}
static INLINE void unpack_tq1_0(const Panel *p, Stripe s)
{
    put_factor(p, odd_half(s));
    UNROLL
    for (int g = 0; g < 8; g++) put_scale(p, g, v_set(1));
    UNROLL
    for (int w = 0; w < 13; w++) { /* eight words of five digits, four of five, one of four */
        w16 q = word(s, w);
        UNROLL
        for (int n = 0; n < 5; n++) {
            if (w == 12 && n == 4) continue;
            put(p, w < 8 ? 8 * n + w : w < 12 ? 40 + 4 * n + w - 8 : 60 + n, top_digit(q));
            q = times_three(q);
        }
    }
}

#include "kern_grid.h"

/* ---- rows as a file has them ---- */

/* A block of sixteen rows that begin at b, `row` < 2^27 bytes apart, to its place in a stripe.  The rows after them lie in one piece of memory, of
 * which as many bytes are asked for, from `ahead` on: a few lines at a time, for many at once would hold up the loads. */
static INLINE void turn(Dtype t, const StripeForm f, const uint8_t *b, int64_t row, uint8_t *word, uint8_t *odd, const uint8_t *ahead)
{
    for (int i = 0; i < f.words; i += 4) {
        int w = i + 4 <= f.words ? i : f.words - 4; /* the last four may have been there before */
        w16 x[4];
        w_rows(b + f.lead + 4 * w, row, x);
        UNROLL
        for (int j = 0; j < 4; j++) w_store(word + 64 * stripe_place(t, w + j), x[j]);
        UNROLL
        for (int j = 0; j < 4; j++) __builtin_prefetch(ahead + 64 * (i + j), 0, 2);
    }
    if (f.odd == 2) w_store_halves(odd, f.lead ? w_word(b, row) : w_shr(w_word(b + 4 * f.words - 2, row), 16));
    for (int r = 0; f.odd == 1 && r < STRIPE_ROWS; r++) odd[r] = b[r * row];
}

/* Any type, rows [0, n) and columns [k0, k0 + kc) of B, a group of one row at a time: for ragged ends. */
static void unpack_plain(const Panel *p, const QuantForm *f, const DtypeInfo *d, const uint8_t *b, int64_t row, int n, int k0, int kc)
{
    int groups = d->block / QUANT_GROUP, runs = f->halves ? 2 : 1;
    for (int r = 0; r < n; r++)
        for (int k = 0; k < kc; k += QUANT_GROUP) {
            QuantGroup w;
            int        g = (k0 + k) / QUANT_GROUP;
            f->group(b + r * row + (int64_t)(g / groups) * d->block_bytes, g % groups, &w);
            for (int i = 0; i < QUANT_GROUP; i++) p->u[((k + i) / 4 * DOT_NR + r) * 4 + i % 4] = (uint8_t)(w.v[i] + f->lift);
            for (int h = 0; h < runs; h++) {
                int     run = k / QUANT_GROUP * runs + h;
                int16_t m = f->min && f->big ? (int16_t)w.m[h] : 0;
                p->s[run * DOT_NR + r] = w.s[h];
                if (f->min && f->big) memcpy((char *)(p->m + run / 2 * DOT_NR + r) + 2 * (run % 2), &m, sizeof m);
                else if (f->min) p->m[run * DOT_NR + r] = -w.m[h];
            }
            if (f->big) p->d[r] = w.d;
            if (f->big && f->min) p->d[DOT_NR + r] = -w.e;
        }
}

/* columns [k0, k0 + kc) of sixteen rows into a panel */
static __attribute__((noinline)) void unpack_stripe(const Panel *p, Dtype t, StripeRows rows, int k0, int kc)
{
    switch (t) {
#define X(name, type, block, halves, min, lift)                                                                       \
    case type:                                                                                                        \
        for (int k = 0; k < kc; k += block) {                                                                         \
            Panel part = group_of(p, k / QUANT_GROUP); /* blocks of 32 are one run, blocks of 256 fill the panel */   \
            part.sum = NULL; /* as the compiler is to know */                                                         \
            unpack_##name(&part, stripe_block(stripe_form(type), rows, (k0 + k) / block));                            \
        }                                                                                                             \
        break;
        QUANT_FORMS(X)
#undef X
    default: break;
    }
}

#endif
