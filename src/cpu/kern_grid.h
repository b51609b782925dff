/* Blocks of 256 with grids, unpacked (kern_unpack.h).
 *
 * The numbers of a grid's rows are looked up one by one, for no vector instruction is faster: a row of eight or four columns, a byte
 * each, of every row of B.  Signs are 32 bits a group and flip a byte around the lift. */
#ifndef AHA_CPU_KERN_GRID_H
#define AHA_CPU_KERN_GRID_H

#include "kern_unpack.h"

typedef struct GridRows { /* of sixteen rows of B, 256 columns */
    _Alignas(64) union {
        uint64_t eight[32][16];
        uint32_t four[64][16];
    };
} GridRows;

/* word w of row r of B */
static INLINE uint32_t word_of(Stripe s, int w, int r) { return quant_u32(s.word + 64 * w + 4 * r); }
static INLINE uint32_t half_of(Stripe s, int h, int r) { return quant_u16(s.word + 64 * (h / 2) + 4 * r + 2 * (h % 2)); }
static INLINE uint32_t byte_of(Stripe s, int b, int r) { return s.word[64 * (b / 4) + 4 * r + b % 4]; }

/* columns 8 i to 8 i + 7: two words */
static INLINE void grid_pair(const GridRows *grid, int i, w16 x[2]) { w_pairs(grid->eight[i], x); }
static INLINE void put_eights(const Panel *p, const GridRows *grid, int g, w16 signs, int lift)
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        w16 x[2];
        grid_pair(grid, 4 * g + i, x);
        put(p, 8 * g + 2 * i, w_flip(x[0], signs, 2 * i, 2 * lift));
        put(p, 8 * g + 2 * i + 1, w_flip(x[1], signs, 2 * i + 1, 2 * lift));
    }
}
static INLINE void put_fours(const Panel *p, const GridRows *grid, int g, w16 signs, int lift)
{
    UNROLL
    for (int j = 0; j < 8; j++) put(p, 8 * g + j, w_flip(w_load(grid->four[8 * g + j]), signs, j, 2 * lift));
}

/* each byte has seven signs; the eighth makes their number even */
static INLINE w16 even_signs(w16 seven)
{
    static const uint8_t ODD[16] = {0, 128, 128, 0, 128, 0, 0, 128, 128, 0, 0, 128, 0, 128, 128, 0};
    return w_or(seven, w_xor(w_lookup(ODD, w_mask(seven, 15)), w_lookup(ODD, w_mask(w_shr(seven, 4), 15))));
}
static INLINE w16 four_sevens(w16 x) /* four times seven bits into bytes */
{
    w16 a = w_or(w_and(x, w_set(127)), w_and(w_shl(x, 1), w_set(127 << 8)));
    return w_or(a, w_or(w_and(w_shl(x, 2), w_set(127 << 16)), w_and(w_shl(x, 3), w_set(127 << 24))));
}
/* d * (1/2 + n) * by, rounded as quant_iq.c does */
static INLINE v16 half_scale(v16 d, w16 n, float by) { return v_mul(v_mul(d, v_add(v_set(0.5f), w_float(n))), v_set(by)); }

static INLINE void unpack_iq2_xxs(const Panel *p, Stripe s)
{
    GridRows grid;
    v16      d = odd_half(s);
    for (int g = 0; g < 8; g++)
        for (int r = 0; r < 16; r++) {
            uint32_t four = word_of(s, 2 * g, r);
            UNROLL
            for (int j = 0; j < 4; j++) grid.eight[4 * g + j][r] = QUANT_ROW_IQ2_XXS[four >> 8 * j & 255];
        }
    UNROLL
    for (int g = 0; g < 8; g++) {
        w16 w = word(s, 2 * g + 1);
        put_scale(p, g, half_scale(d, w_shr(w, 28), 0.25f));
        put_eights(p, &grid, g, even_signs(four_sevens(w)), 64);
    }
}
static INLINE void put_nibble_scales(const Panel *p, Stripe s, int w) /* IQ2: eight bytes, a nibble a run */
{
    v16 d = odd_half(s);
    UNROLL
    for (int i = 0; i < 16; i++) put_scale(p, i, half_scale(d, w_and(w_shr(word(s, w + i / 8), 4 * (i % 8)), w_set(15)), 0.25f));
}
static INLINE void unpack_iq2_xs(const Panel *p, Stripe s)
{
    GridRows grid;
    _Alignas(64) uint32_t seven[8][16];
    put_nibble_scales(p, s, 16);
    for (int g = 0; g < 8; g++)
        for (int r = 0; r < 16; r++) {
            uint32_t signs = 0;
            UNROLL
            for (int j = 0; j < 4; j++) {
                uint32_t x = half_of(s, 4 * g + j, r);
                grid.eight[4 * g + j][r] = QUANT_ROW_IQ2_XS[x & 511];
                signs |= x >> 9 << 8 * j;
            }
            seven[g][r] = signs;
        }
    UNROLL
    for (int g = 0; g < 8; g++) put_eights(p, &grid, g, even_signs(w_load(seven[g])), 64);
}
static INLINE void unpack_iq2_s(const Panel *p, Stripe s)
{
    GridRows grid;
    put_nibble_scales(p, s, 18);
    for (int g = 0; g < 8; g++)
        for (int r = 0; r < 16; r++) {
            uint32_t four = word_of(s, g, r), high = byte_of(s, 64 + g, r);
            UNROLL
            for (int j = 0; j < 4; j++) grid.eight[4 * g + j][r] = QUANT_ROW_IQ2_S[(four >> 8 * j & 255) | (high >> 2 * j & 3) << 8];
        }
    UNROLL
    for (int g = 0; g < 8; g++) put_eights(p, &grid, g, word(s, 8 + g), 64);
}
static INLINE void unpack_iq3_xxs(const Panel *p, Stripe s)
{
    GridRows grid;
    v16      d = odd_half(s);
    for (int g = 0; g < 16; g++)
        for (int r = 0; r < 16; r++) {
            uint32_t four = word_of(s, g, r);
            UNROLL
            for (int j = 0; j < 4; j++) grid.four[4 * g + j][r] = QUANT_ROW_IQ3_XXS[four >> 8 * j & 255];
        }
    UNROLL
    for (int g = 0; g < 8; g++) {
        w16 w = word(s, 16 + g);
        put_scale(p, g, half_scale(d, w_shr(w, 28), 0.5f));
        put_fours(p, &grid, g, even_signs(four_sevens(w)), 64);
    }
}
static INLINE void unpack_iq3_s(const Panel *p, Stripe s)
{
    GridRows grid;
    v16      d = odd_half(s);
    w16      sc = word(s, 26);
    for (int g = 0; g < 16; g++)
        for (int r = 0; r < 16; r++) {
            uint32_t four = word_of(s, g, r), high = byte_of(s, 64 + g / 2, r) >> 4 * (g % 2);
            UNROLL
            for (int j = 0; j < 4; j++) grid.four[4 * g + j][r] = QUANT_ROW_IQ3_S[(four >> 8 * j & 255) | (high >> j & 1) << 8];
        }
    UNROLL
    for (int g = 0; g < 8; g++) {
        put_scale(p, g, v_mul(d, w_float(w_or(w_shl(w_and(w_shr(sc, 4 * g), w_set(15)), 1), w_set(1)))));
        put_fours(p, &grid, g, word(s, 18 + g), 16);
    }
}
/* 8 columns each: 8 digit + delta, which is 1 or -1 */
static INLINE void put_ternary(const Panel *p, const GridRows *grid, int g, const w16 delta[4])
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        w16 x[2];
        grid_pair(grid, 4 * g + i, x);
        put(p, 8 * g + 2 * i, w_add_bytes(x[0], delta[i]));
        put(p, 8 * g + 2 * i + 1, w_add_bytes(x[1], delta[i]));
    }
}
/* bit 0 of each word: 1 or -1 in every byte */
static INLINE w16 delta_bytes(w16 sign) { return w_sub_bytes(w_set(0x01010101), w_mul(w_and(sign, w_set(1)), w_set(0x02020202))); }

static INLINE void unpack_iq1_s(const Panel *p, Stripe s)
{
    GridRows grid;
    v16      d = odd_half(s);
    for (int g = 0; g < 8; g++)
        for (int r = 0; r < 16; r++) {
            uint32_t four = word_of(s, g, r), high = half_of(s, 16 + g, r);
            UNROLL
            for (int j = 0; j < 4; j++) grid.eight[4 * g + j][r] = QUANT_ROW_IQ1[(four >> 8 * j & 255) | (high >> 3 * j & 7) << 8];
        }
    UNROLL
    for (int g = 0; g < 8; g++) {
        w16 high = w_shr(word(s, 8 + g / 2), 16 * (g % 2)), delta = delta_bytes(w_shr(high, 15));
        w16 odd = w_or(w_shl(w_and(w_shr(high, 12), w_set(7)), 1), w_set(1));
        put_scale(p, g, v_mul(v_mul(d, w_float(odd)), v_set(0.125f)));
        put_ternary(p, &grid, g, (const w16[4]){delta, delta, delta, delta});
    }
}
static INLINE void unpack_iq1_m(const Panel *p, Stripe s)
{
    GridRows grid;
    w16      sc[2] = {word(s, 12), word(s, 13)};
    w16      top = w_or(w_and(w_shr(sc[0], 12), w_set(0x000f)), w_and(w_shr(sc[0], 24), w_set(0x00f0)));
    v16      d = w_half(w_or(top, w_or(w_and(w_shr(sc[1], 4), w_set(0x0f00)), w_and(w_shr(sc[1], 16), w_set(0xf000)))));
    for (int g = 0; g < 8; g++)
        for (int r = 0; r < 16; r++) {
            uint32_t four = word_of(s, g, r), high = half_of(s, 16 + g, r);
            UNROLL
            for (int j = 0; j < 4; j++) grid.eight[4 * g + j][r] = QUANT_ROW_IQ1[(four >> 8 * j & 255) | (high >> 4 * j & 7) << 8];
        }
    UNROLL
    for (int i = 0; i < 16; i++) { /* 3 bits of u16 i / 4 */
        w16 odd = w_or(w_shl(w_and(w_shr(sc[i / 8], 16 * (i / 4 % 2) + 3 * (i % 4)), w_set(7)), 1), w_set(1));
        put_scale(p, i, v_mul(v_mul(d, w_float(odd)), v_set(0.125f)));
    }
    UNROLL
    for (int g = 0; g < 8; g++) { /* a nibble per eight columns has the sign on top */
        w16 nibbles = w_shr(word(s, 8 + g / 2), 16 * (g % 2)), delta[4];
        UNROLL
        for (int j = 0; j < 4; j++) delta[j] = delta_bytes(w_shr(nibbles, 4 * j + 3));
        put_ternary(p, &grid, g, delta);
    }
}

#endif
