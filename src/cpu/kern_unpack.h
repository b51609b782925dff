/* Block types unpacked for products (kern_dot.h): 16 rows of B at a time, each row a lane.
 *
 *     a panel, GEMM_KC columns k of DOT_NR rows n:          a file has        k ------->
 *       u   [k/4][n] four bytes, v + lift (tensor/quant.h)        row n     | block | block | ...
 *       s   [run][n] floats: the scale of 16 or 32 columns        row n + 1 | block | block | ...
 *       m   [run][n] floats: the minimum, negated
 *
 * Sixteen bytes of sixteen rows are read and turned (w_rows: 16 loads, 8 shuffles for 256 bytes), so that word j of every row is
 * one vector; low bits, high bits and scales then fall out by shifts that are the same in every lane.  Of Q4_K, 4,096 weights in
 * 2,304 bytes, that is 144 loads, 72 shuffles, 96 shifts and masks, 64 stores and some 60 operations for the scales. */
#ifndef AHA_CPU_KERN_UNPACK_H
#define AHA_CPU_KERN_UNPACK_H

#include "../tensor/quant.h"

enum { DOT_NR = 16 * DOT_NV };

/* Where what is unpacked goes: into a panel (or the part of one that sixteen rows fill: then the pointers are at their lanes), or,
 * for a single row of A, straight into its products, a sum for every run: then s and m alone are kept, a vector a run. */
typedef struct Panel {
    uint8_t      *u;
    float        *s, *m;
    int           step;  /* floats from a run to the next */
    w16          *sum;   /* NULL: into u */
    const int8_t *q;     /* A's row */
    int           width; /* of a run */
    bool          wide;
    const uint8_t *block, *ahead; /* where sixteen rows' blocks begin, and bytes that are asked for as these are read */
} Panel;

/* Sixteen bytes of sixteen rows.  The rows after them lie in one piece of memory, of which 256 bytes are asked for: a few lines at
 * a time, for many at once would hold up the loads. */
static INLINE void take(const Panel *p, const uint8_t *b, int64_t row, w16 out[4])
{
    w_rows(b, row, out);
    if (!p->sum) return;
    UNROLL
    for (int i = 0; i < 4; i++) __builtin_prefetch(p->ahead + 16 * (b - p->block) + 64 * i, 0, 2);
}

static INLINE void put(const Panel *p, int k4, w16 x)
{
    if (p->sum) {
        int32_t word;
        memcpy(&word, p->q + 4 * k4, 4);
        w16 *sum = &p->sum[4 * k4 / p->width];
        *sum = p->wide ? w_dot_wide(*sum, x, w_set(word)) : w_dot(*sum, x, w_set(word));
    } else {
        w_store(p->u + (int64_t)k4 * DOT_NR * 4, x);
    }
}
static INLINE void put_scale(const Panel *p, int run, v16 s) { v_store(p->s + run * p->step, s); }
static INLINE void put_min(const Panel *p, int run, v16 m) { v_store(p->m + run * p->step, v_neg(m)); }

static INLINE w16 w_mask(w16 x, int byte) { return w_and(x, w_set(byte * 0x01010101)); }
static INLINE v16 w_small(w16 x, int shift, int bits) { return w_float(w_and(w_shr(x, shift), w_set((1 << bits) - 1))); }
/* the low 4 bits of each word into its bytes */
static INLINE w16 w_spread1(w16 x)
{
    x = w_and(w_or(x, w_shl(x, 14)), w_set(0x00030003));
    return w_and(w_or(x, w_shl(x, 7)), w_set(0x01010101));
}

/* ---- blocks of 32 ---- */

/* 16 bytes of low, then high nibbles */
static INLINE void put_nibbles(const Panel *p, const uint8_t *qs, int64_t row)
{
    w16 q[4];
    take(p, qs, row, q);
    UNROLL
    for (int j = 0; j < 4; j++) {
        put(p, j, w_mask(q[j], 15));
        put(p, 4 + j, w_mask(w_shr(q[j], 4), 15));
    }
}
/* the same as numbers of a table */
static INLINE void put_looked_up(const Panel *p, const uint8_t *qs, int64_t row, const int8_t value[16], int lift)
{
    uint8_t table[16];
    w16     q[4];
    for (int i = 0; i < 16; i++) table[i] = (uint8_t)(value[i] + lift);
    take(p, qs, row, q);
    UNROLL
    for (int j = 0; j < 4; j++) {
        put(p, j, w_lookup(table, w_mask(q[j], 15)));
        put(p, 4 + j, w_lookup(table, w_mask(w_shr(q[j], 4), 15)));
    }
}
/* the same with a fifth bit, of column i in bit i of a word */
static INLINE void put_fives(const Panel *p, const uint8_t *qs, w16 high, int64_t row)
{
    w16 q[4];
    take(p, qs, row, q);
    UNROLL
    for (int j = 0; j < 4; j++) {
        w16 low = w_and(w_shr(high, 4 * j), w_set(15)), top = w_and(w_shr(high, 16 + 4 * j), w_set(15));
        put(p, j, w_or(w_mask(q[j], 15), w_shl(w_spread1(low), 4)));
        put(p, 4 + j, w_or(w_mask(w_shr(q[j], 4), 15), w_shl(w_spread1(top), 4)));
    }
}

static INLINE void unpack_q4_0(const Panel *p, const uint8_t *b, int64_t row)
{
    put_scale(p, 0, w_half(w_word(b, row)));
    put_nibbles(p, b + 2, row);
}
static INLINE void put_scale_and_min(const Panel *p, const uint8_t *b, int64_t row) /* m is added: not negated */
{
    w16 x = w_word(b, row);
    put_scale(p, 0, w_half(x));
    v_store(p->m, w_half(w_shr(x, 16)));
}
static INLINE void unpack_q4_1(const Panel *p, const uint8_t *b, int64_t row)
{
    put_scale_and_min(p, b, row);
    put_nibbles(p, b + 4, row);
}
static INLINE void unpack_q5_0(const Panel *p, const uint8_t *b, int64_t row)
{
    put_scale(p, 0, w_half(w_word(b, row)));
    put_fives(p, b + 6, w_word(b + 2, row), row);
}
static INLINE void unpack_q5_1(const Panel *p, const uint8_t *b, int64_t row)
{
    put_scale_and_min(p, b, row);
    put_fives(p, b + 8, w_word(b + 4, row), row);
}
static INLINE void unpack_q8_0(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 q[4];
    put_scale(p, 0, w_half(w_word(b, row)));
    UNROLL
    for (int h = 0; h < 2; h++) {
        take(p, b + 2 + 16 * h, row, q);
        UNROLL
        for (int j = 0; j < 4; j++) put(p, 4 * h + j, w_xor(q[j], w_set((int)0x80808080)));
    }
}
static INLINE void unpack_iq4_nl(const Panel *p, const uint8_t *b, int64_t row)
{
    put_scale(p, 0, w_half(w_word(b, row)));
    put_looked_up(p, b + 2, row, QUANT_IQ4_VALUE, 128);
}
static INLINE void unpack_mxfp4(const Panel *p, const uint8_t *b, int64_t row)
{
    float   s[16];
    for (int r = 0; r < 16; r++) { /* 2^(e - 128); the lowest two are below the normal numbers */
        uint32_t e = b[r * row], bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
        memcpy(&s[r], &bits, 4);
    }
    put_scale(p, 0, v_load(s));
    put_looked_up(p, b + 1, row, QUANT_MXFP4_VALUE, 16);
}

/* ---- blocks of 256, scales packed ---- */

/* d, dmin and 12 bytes of scales, as quant.c's scale_min has them: one register each */
static INLINE void put_scales_mins(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 w[4];
    take(p, b, row, w);
    v16 d = w_half(w[0]), dmin = w_half(w_shr(w[0], 16));
    w16 six = w_set(0x3f3f3f3f), low = w_set(0x0f0f0f0f), top = w_set(0x30303030);
    w16 scale[2] = {w_and(w[1], six), w_or(w_and(w[3], low), w_and(w_shr(w[1], 2), top))};
    w16 min[2] = {w_and(w[2], six), w_or(w_and(w_shr(w[3], 4), low), w_and(w_shr(w[2], 2), top))};
    UNROLL
    for (int g = 0; g < 8; g++) {
        put_scale(p, g, v_mul(d, w_small(scale[g / 4], 8 * (g % 4), 8)));
        put_min(p, g, v_mul(dmin, w_small(min[g / 4], 8 * (g % 4), 8)));
    }
}
static INLINE void unpack_q4_k(const Panel *p, const uint8_t *b, int64_t row)
{
    put_scales_mins(p, b, row);
    UNROLL
    for (int c = 0; c < 8; c++) { /* 16 bytes: half of a pair of groups */
        w16 q[4];
        take(p, b + 16 + 16 * c, row, q);
        UNROLL
        for (int j = 0; j < 4; j++) {
            int k4 = 16 * (c / 2) + 4 * (c % 2) + j;
            put(p, k4, w_mask(q[j], 15));
            put(p, k4 + 8, w_mask(w_shr(q[j], 4), 15));
        }
    }
}
static INLINE void unpack_q5_k(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 high[8];
    put_scales_mins(p, b, row);
    take(p, b + 16, row, high);
    take(p, b + 32, row, high + 4);
    UNROLL
    for (int c = 0; c < 8; c++) {
        w16 q[4];
        take(p, b + 48 + 16 * c, row, q);
        UNROLL
        for (int j = 0; j < 4; j++) {
            int g = c / 2 * 2, k4 = 8 * g + 4 * (c % 2) + j;
            w16 h = high[4 * (c % 2) + j];
            w16 first = g < 4 ? w_shl(h, 4 - g) : w_shr(h, g - 4), second = g + 1 < 4 ? w_shl(h, 3 - g) : w_shr(h, g - 3);
            put(p, k4, w_or(w_mask(q[j], 15), w_mask(first, 16)));
            put(p, k4 + 8, w_or(w_mask(w_shr(q[j], 4), 15), w_mask(second, 16)));
        }
    }
}
static INLINE void unpack_q6_k(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 sc[4];
    v16 d = w_half(w_shr(w_word(b + 206, row), 16));
    take(p, b + 192, row, sc);
    UNROLL
    for (int i = 0; i < 16; i++) { /* signed bytes */
        w16 x = w_and(w_shr(sc[i / 4], 8 * (i % 4)), w_set(255));
        put_scale(p, i, v_mul(d, v_sub(w_float(w_xor(x, w_set(128))), v_set(128))));
    }
    UNROLL
    for (int c = 0; c < 4; c++) { /* 16 columns of four groups: half h, part of 16 bytes i */
        int h = c / 2, i = c % 2;
        w16 low[4], low2[4], high[4];
        take(p, b + 64 * h + 16 * i, row, low);
        take(p, b + 64 * h + 32 + 16 * i, row, low2);
        take(p, b + 128 + 32 * h + 16 * i, row, high);
        UNROLL
        for (int j = 0; j < 4; j++) {
            int k4 = 32 * h + 4 * i + j;
            put(p, k4, w_or(w_mask(low[j], 15), w_shl(w_mask(high[j], 3), 4)));
            put(p, k4 + 8, w_or(w_mask(low2[j], 15), w_shl(w_mask(high[j], 12), 2)));
            put(p, k4 + 16, w_or(w_mask(w_shr(low[j], 4), 15), w_mask(high[j], 48)));
            put(p, k4 + 24, w_or(w_mask(w_shr(low2[j], 4), 15), w_mask(w_shr(high[j], 2), 48)));
        }
    }
}
static INLINE void unpack_q2_k(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 sc[4], dd = w_word(b + 80, row);
    v16 d = w_half(dd), dmin = w_half(w_shr(dd, 16));
    take(p, b, row, sc);
    UNROLL
    for (int i = 0; i < 16; i++) {
        put_scale(p, i, v_mul(d, w_small(sc[i / 4], 8 * (i % 4), 4)));
        put_min(p, i, v_mul(dmin, w_small(sc[i / 4], 8 * (i % 4) + 4, 4)));
    }
    UNROLL
    for (int c = 0; c < 4; c++) {
        w16 q[4];
        take(p, b + 16 + 16 * c, row, q);
        UNROLL
        for (int j = 0; j < 4; j++) {
            UNROLL
            for (int g = 0; g < 4; g++) put(p, 32 * (c / 2) + 8 * g + 4 * (c % 2) + j, w_mask(w_shr(q[j], 2 * g), 3));
        }
    }
}
static INLINE void unpack_q3_k(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 sc[4], high[8];
    take(p, b + 94, row, sc); /* two bytes of qs, 12 of scales, d */
    v16 d = w_half(w_shr(sc[3], 16));
    w16 s0 = w_or(w_shr(sc[0], 16), w_shl(sc[1], 16)), s1 = w_or(w_shr(sc[1], 16), w_shl(sc[2], 16));
    w16 pairs = w_or(w_shr(sc[2], 16), w_shl(sc[3], 16));
    UNROLL
    for (int i = 0; i < 16; i++) { /* scale i: nibble i / 8 of byte i % 8, pair i / 4 of byte i % 4 */
        w16 low = w_and(w_shr(i % 8 < 4 ? s0 : s1, 8 * (i % 4) + 4 * (i / 8)), w_set(15));
        w16 top = w_and(w_shr(pairs, 8 * (i % 4) + 2 * (i / 4)), w_set(3));
        put_scale(p, i, v_mul(d, v_sub(w_float(w_or(low, w_shl(top, 4))), v_set(32))));
    }
    take(p, b, row, high);
    take(p, b + 16, row, high + 4);
    UNROLL
    for (int c = 0; c < 4; c++) {
        w16 q[4];
        take(p, b + 32 + 16 * c, row, q);
        UNROLL
        for (int j = 0; j < 4; j++) {
            UNROLL
            for (int g = 0; g < 4; g++) { /* bit 4 (c / 2) + g of hmask is worth 4 */
                int bit = 4 * (c / 2) + g;
                w16 h = high[4 * (c % 2) + j], four = w_mask(bit < 2 ? w_shl(h, 2 - bit) : w_shr(h, bit - 2), 4);
                put(p, 32 * (c / 2) + 8 * g + 4 * (c % 2) + j, w_or(w_mask(w_shr(q[j], 2 * g), 3), four));
            }
        }
    }
}
/* the part of a panel that begins at group g, where every group is one run */
static INLINE Panel group_of(const Panel *p, int g)
{
    Panel part = *p;
    part.s += g * p->step;
    part.m += g * p->step;
    if (p->sum) {
        part.sum += g;
        part.q += g * QUANT_GROUP;
    } else {
        part.u += (int64_t)g * 8 * DOT_NR * 4;
    }
    return part;
}
static INLINE void unpack_iq4_xs(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 first = w_word(b, row), low = w_word(b + 4, row);
    v16 d = w_half(first);
    w16 pairs = w_shr(first, 16);
    UNROLL
    for (int g = 0; g < 8; g++) {
        Panel part = group_of(p, g);
        w16   six = w_or(w_and(w_shr(low, 4 * g), w_set(15)), w_shl(w_and(w_shr(pairs, 2 * g), w_set(3)), 4));
        put_scale(&part, 0, v_mul(d, v_sub(w_float(six), v_set(32))));
        put_looked_up(&part, b + 8 + 16 * g, row, QUANT_IQ4_VALUE, 128);
    }
}

/* ---- blocks of 256 with grids ----
 * The numbers of a grid's rows are looked up one by one, for no vector instruction is faster; what the tables give, a byte a column,
 * is turned as above.  Signs are 32 bits a group and flip a byte around the lift. */
typedef struct GridRows { /* of sixteen rows of B, 256 columns */
    _Alignas(64) uint8_t at[16][256];
} GridRows;

static INLINE void put_grid(const Panel *p, const GridRows *grid, int g, w16 signs, int lift)
{
    w16 x[8];
    w_rows(grid->at[0] + 32 * g, 256, x);
    w_rows(grid->at[0] + 32 * g + 16, 256, x + 4);
    UNROLL
    for (int j = 0; j < 8; j++) put(p, 8 * g + j, w_flip(x[j], signs, j, 2 * lift));
}
static INLINE void grid_eight(GridRows *grid, int r, int i, uint64_t row) { memcpy(grid->at[r] + 8 * i, &row, 8); }
static INLINE void grid_four(GridRows *grid, int r, int i, uint32_t row) { memcpy(grid->at[r] + 4 * i, &row, 4); }
/* asks for the rows ahead, as `take` does: a block's share of them for each of `parts` */
static INLINE void ask_ahead(const Panel *p, int bytes, int part, int parts)
{
    if (!p->sum) return;
    for (int i = 16 * bytes * part / parts & ~63; i < 16 * bytes * (part + 1) / parts; i += 64) __builtin_prefetch(p->ahead + i, 0, 2);
}

/* each byte has seven signs; the eighth makes their number even */
static INLINE w16 even_signs(w16 seven)
{
    static const uint8_t ODD[16] = {0, 128, 128, 0, 128, 0, 0, 128, 128, 0, 0, 128, 0, 128, 128, 0};
    return w_or(seven, w_xor(w_lookup(ODD, w_mask(seven, 15)), w_lookup(ODD, w_mask(w_shr(seven, 4), 15))));
}
static INLINE w16 four_sevens(w16 word) /* four times seven bits into bytes */
{
    w16 a = w_or(w_and(word, w_set(127)), w_and(w_shl(word, 1), w_set(127 << 8)));
    return w_or(a, w_or(w_and(w_shl(word, 2), w_set(127 << 16)), w_and(w_shl(word, 3), w_set(127 << 24))));
}
/* d * (1/2 + n) * by, rounded as quant_iq.c does */
static INLINE v16 half_scale(v16 d, w16 n, float by) { return v_mul(v_mul(d, v_add(v_set(0.5f), w_float(n))), v_set(by)); }

static INLINE void unpack_iq2_xxs(const Panel *p, const uint8_t *b, int64_t row)
{
    GridRows grid;
    v16      d = w_half(w_word(b, row));
    for (int r = 0; r < 16; r++) {
        const uint8_t *q = b + r * row + 2;
        ask_ahead(p, 66, r, 16);
        for (int g = 0; g < 8; g++) {
            uint32_t four = quant_u32(q + 8 * g);
            UNROLL
            for (int j = 0; j < 4; j++) grid_eight(&grid, r, 4 * g + j, QUANT_ROW_IQ2_XXS[four >> 8 * j & 255]);
        }
    }
    UNROLL
    for (int g = 0; g < 8; g++) {
        w16 word = w_word(b + 6 + 8 * g, row);
        put_scale(p, g, half_scale(d, w_shr(word, 28), 0.25f));
        put_grid(p, &grid, g, even_signs(four_sevens(word)), 64);
    }
}
static INLINE void put_nibble_scales(const Panel *p, const uint8_t *b, int64_t row, v16 d) /* IQ2: eight bytes, a nibble a run */
{
    w16 sc[2] = {w_word(b, row), w_word(b + 4, row)};
    UNROLL
    for (int i = 0; i < 16; i++) put_scale(p, i, half_scale(d, w_and(w_shr(sc[i / 8], 4 * (i % 8)), w_set(15)), 0.25f));
}
static INLINE void unpack_iq2_xs(const Panel *p, const uint8_t *b, int64_t row)
{
    GridRows grid;
    _Alignas(64) uint32_t seven[8][16];
    put_nibble_scales(p, b + 66, row, w_half(w_word(b, row)));
    for (int r = 0; r < 16; r++) {
        const uint8_t *q = b + r * row + 2;
        ask_ahead(p, 74, r, 16);
        for (int g = 0; g < 8; g++) {
            uint32_t s = 0;
            UNROLL
            for (int j = 0; j < 4; j++) {
                uint32_t x = quant_u16(q + 8 * g + 2 * j);
                grid_eight(&grid, r, 4 * g + j, QUANT_ROW_IQ2_XS[x & 511]);
                s |= x >> 9 << 8 * j;
            }
            seven[g][r] = s;
        }
    }
    UNROLL
    for (int g = 0; g < 8; g++) put_grid(p, &grid, g, even_signs(w_load(seven[g])), 64);
}
static INLINE void unpack_iq2_s(const Panel *p, const uint8_t *b, int64_t row)
{
    GridRows grid;
    put_nibble_scales(p, b + 74, row, w_half(w_word(b, row)));
    for (int r = 0; r < 16; r++) {
        const uint8_t *o = b + r * row;
        ask_ahead(p, 82, r, 16);
        for (int g = 0; g < 8; g++) {
            uint32_t four = quant_u32(o + 2 + 4 * g), high = o[66 + g];
            UNROLL
            for (int j = 0; j < 4; j++) grid_eight(&grid, r, 4 * g + j, QUANT_ROW_IQ2_S[(four >> 8 * j & 255) | (high >> 2 * j & 3) << 8]);
        }
    }
    UNROLL
    for (int g = 0; g < 8; g++) put_grid(p, &grid, g, w_word(b + 34 + 4 * g, row), 64);
}
static INLINE void unpack_iq3_xxs(const Panel *p, const uint8_t *b, int64_t row)
{
    GridRows grid;
    v16      d = w_half(w_word(b, row));
    for (int r = 0; r < 16; r++) {
        ask_ahead(p, 98, r, 16);
        for (int g = 0; g < 16; g++) {
            uint32_t four = quant_u32(b + r * row + 2 + 4 * g);
            UNROLL
            for (int j = 0; j < 4; j++) grid_four(&grid, r, 4 * g + j, QUANT_ROW_IQ3_XXS[four >> 8 * j & 255]);
        }
    }
    UNROLL
    for (int g = 0; g < 8; g++) {
        w16 word = w_word(b + 66 + 4 * g, row);
        put_scale(p, g, half_scale(d, w_shr(word, 28), 0.5f));
        put_grid(p, &grid, g, even_signs(four_sevens(word)), 64);
    }
}
static INLINE void unpack_iq3_s(const Panel *p, const uint8_t *b, int64_t row)
{
    GridRows grid;
    v16      d = w_half(w_word(b, row));
    w16      sc = w_word(b + 106, row);
    for (int r = 0; r < 16; r++) {
        const uint8_t *o = b + r * row;
        ask_ahead(p, 110, r, 16);
        for (int g = 0; g < 16; g++) {
            uint32_t four = quant_u32(o + 2 + 4 * g), high = o[66 + g / 2] >> 4 * (g % 2);
            UNROLL
            for (int j = 0; j < 4; j++) grid_four(&grid, r, 4 * g + j, QUANT_ROW_IQ3_S[(four >> 8 * j & 255) | (high >> j & 1) << 8]);
        }
    }
    UNROLL
    for (int g = 0; g < 8; g++) {
        put_scale(p, g, v_mul(d, w_float(w_or(w_shl(w_and(w_shr(sc, 4 * g), w_set(15)), 1), w_set(1)))));
        put_grid(p, &grid, g, w_word(b + 74 + 4 * g, row), 16);
    }
}
/* 8 columns each: 8 digit + delta, which is 1 or -1 */
static INLINE void put_ternary(const Panel *p, const GridRows *grid, int g, const w16 delta[4])
{
    w16 x[8];
    w_rows(grid->at[0] + 32 * g, 256, x);
    w_rows(grid->at[0] + 32 * g + 16, 256, x + 4);
    UNROLL
    for (int j = 0; j < 8; j++) put(p, 8 * g + j, w_add_bytes(x[j], delta[j / 2]));
}
/* bit 0 of each word: 1 or -1 in every byte */
static INLINE w16 delta_bytes(w16 sign) { return w_sub_bytes(w_set(0x01010101), w_mul(w_and(sign, w_set(1)), w_set(0x02020202))); }

static INLINE void unpack_iq1_s(const Panel *p, const uint8_t *b, int64_t row)
{
    GridRows grid;
    v16      d = w_half(w_word(b, row));
    for (int r = 0; r < 16; r++) {
        const uint8_t *o = b + r * row;
        ask_ahead(p, 50, r, 16);
        for (int g = 0; g < 8; g++) {
            uint32_t four = quant_u32(o + 2 + 4 * g), high = quant_u16(o + 34 + 2 * g);
            UNROLL
            for (int j = 0; j < 4; j++) grid_eight(&grid, r, 4 * g + j, QUANT_ROW_IQ1[(four >> 8 * j & 255) | (high >> 3 * j & 7) << 8]);
        }
    }
    UNROLL
    for (int g = 0; g < 8; g += 2) {
        w16 both = w_word(b + 34 + 2 * g, row);
        UNROLL
        for (int h = 0; h < 2; h++) {
            w16 high = w_shr(both, 16 * h), delta = delta_bytes(w_shr(high, 15));
            w16 odd = w_or(w_shl(w_and(w_shr(high, 12), w_set(7)), 1), w_set(1));
            put_scale(p, g + h, v_mul(v_mul(d, w_float(odd)), v_set(0.125f)));
            put_ternary(p, &grid, g + h, (const w16[4]){delta, delta, delta, delta});
        }
    }
}
static INLINE void unpack_iq1_m(const Panel *p, const uint8_t *b, int64_t row)
{
    GridRows grid;
    w16      sc[2] = {w_word(b + 48, row), w_word(b + 52, row)};
    w16      top = w_or(w_and(w_shr(sc[0], 12), w_set(0x000f)), w_and(w_shr(sc[0], 24), w_set(0x00f0)));
    v16      d = w_half(w_or(top, w_or(w_and(w_shr(sc[1], 4), w_set(0x0f00)), w_and(w_shr(sc[1], 16), w_set(0xf000)))));
    for (int r = 0; r < 16; r++) {
        const uint8_t *o = b + r * row;
        ask_ahead(p, 56, r, 16);
        for (int g = 0; g < 8; g++) {
            uint32_t four = quant_u32(o + 4 * g), high = quant_u16(o + 32 + 2 * g);
            UNROLL
            for (int j = 0; j < 4; j++) grid_eight(&grid, r, 4 * g + j, QUANT_ROW_IQ1[(four >> 8 * j & 255) | (high >> 4 * j & 7) << 8]);
        }
    }
    UNROLL
    for (int i = 0; i < 16; i++) { /* 3 bits of u16 i / 4 */
        w16 odd = w_or(w_shl(w_and(w_shr(sc[i / 8], 16 * (i / 4 % 2) + 3 * (i % 4)), w_set(7)), 1), w_set(1));
        put_scale(p, i, v_mul(v_mul(d, w_float(odd)), v_set(0.125f)));
    }
    UNROLL
    for (int g = 0; g < 8; g++) { /* a nibble per eight columns has the sign on top */
        w16 nibbles = w_shr(w_word(b + 32 + 4 * (g / 2), row), 16 * (g % 2)), delta[4];
        UNROLL
        for (int j = 0; j < 4; j++) delta[j] = delta_bytes(w_shr(nibbles, 4 * j + 3));
        put_ternary(p, &grid, g, delta);
    }
}

/* byte of base-3 digits times 3: the next digit is on top */
static INLINE w16 times_three(w16 x) { return w_add_bytes(x, w_add_bytes(x, x)); }
static INLINE w16 top_digit(w16 x) /* x * 3 / 256 of every byte */
{
    w16 mask = w_set(0x00ff00ff), even = w_and(x, mask), odd = w_and(w_shr(x, 8), mask);
    even = w_and(w_shr(w_add(even, w_shl(even, 1)), 8), mask);
    odd = w_and(w_add(odd, w_shl(odd, 1)), w_set((int)0xff00ff00));
    return w_or(even, odd);
}
static INLINE void unpack_tq1_0(const Panel *p, const uint8_t *b, int64_t row)
{
    w16 q[13]; /* the last is four bytes, then two of d */
    v16 d = w_half(w_shr(w_word(b + 50, row), 16));
    for (int i = 0; i < 3; i++) take(p, b + 16 * i, row, q + 4 * i);
    q[12] = w_word(b + 48, row);
    for (int g = 0; g < 8; g++) put_scale(p, g, d);
    UNROLL
    for (int n = 0; n < 5; n++) {
        UNROLL
        for (int w = 0; w < 13; w++) {
            if (w == 12 && n == 4) continue;
            put(p, w < 8 ? 8 * n + w : w < 12 ? 40 + 4 * n + w - 8 : 60 + n, top_digit(q[w]));
            q[w] = times_three(q[w]);
        }
    }
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
                p->s[(k / QUANT_GROUP * runs + h) * DOT_NR + r] = w.s[h];
                if (f->min) p->m[(k / QUANT_GROUP * runs + h) * DOT_NR + r] = -w.m[h];
            }
        }
}

/* Sixteen rows into a panel: columns [k0, k0 + kc) of rows that begin at b. */
static void unpack_rows(const Panel *p, Dtype t, const uint8_t *b, int64_t row, int k0, int kc)
{
    switch (t) {
#define X(name, type, block, halves, min, lift)                                                                       \
    case type:                                                                                                        \
        for (int k = 0; k < kc; k += block) {                                                                         \
            Panel part = group_of(p, k / QUANT_GROUP); /* blocks of 32 are one run, blocks of 256 fill the panel */   \
            unpack_##name(&part, b + (int64_t)((k0 + k) / block) * dtype_info(type)->block_bytes, row);               \
        }                                                                                                             \
        break;
        QUANT_FORMS(X)
#undef X
    default: break;
    }
}

#endif
