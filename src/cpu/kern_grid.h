/* Blocks of 256 with grids, unpacked (kern_unpack.h): a row of eight or four columns is looked up by its number, signs flip single
 * columns around the lift.
 *
 *     of IQ2_XXS, 32 columns of sixteen rows of B:    word 2 g       four row numbers of 8 bits, a byte each
 *                                                     word 2 g + 1   four times seven signs, 4 bits of scale
 *     numbers, a byte each -> digits (kern_grid_halves.h) or columns as bytes (kern_grid_rows.h) -> words of four columns for put()
 *
 * Types differ in where a block has the numbers, signs and scales; the rest is put_grid. */
#ifndef AHA_CPU_KERN_GRID_H
#define AHA_CPU_KERN_GRID_H

#include "kern_unpack.h"

/* The numbers of four rows of the grid, for each row of B: bits 0 to 7 are a byte of low; a byte of high has those above, and above
 * them anything. */
typedef struct RowNumbers {
    w16 low, high;
} RowNumbers;
/* the i-th such four; 0 <= i < 8 where a row has eight columns, < 16 where it has four */
typedef RowNumbers NumbersFn(Stripe s, int i);
/* Group g's signs: column c's is bit c; of IQ1 delta's for column c. */
typedef w16 SignsFn(Stripe s, int g);

typedef struct GridForm { /* constants of a type */
    int             bits, columns; /* of a row's number; of a row */
    int             lift;
    bool            delta; /* 1 or -1, for eight columns at once, and no signs */
    const void     *row;   /* quant.h's QUANT_ROW, QUANT_HALF and QUANT_NUMBER */
    const uint8_t  *half, *number;
} GridForm;
#define GRID_FORM(name, delta)                                                                                        \
    ((GridForm){QUANT_BITS_##name, QUANT_COLUMNS_##name, QUANT_LIFT_##name, delta, QUANT_ROW_##name, QUANT_HALF_##name, QUANT_NUMBER_##name})

static INLINE bool has_grid(Dtype t)
{
    return t == DT_IQ2_XXS || t == DT_IQ2_XS || t == DT_IQ2_S || t == DT_IQ3_XXS || t == DT_IQ3_S || t == DT_IQ1_S || t == DT_IQ1_M;
}

#ifdef W_FIELDS
#include "kern_grid_halves.h"
#else
#include "kern_grid_rows.h"
#endif

static INLINE void put_grid(const Panel *p, Stripe s, const GridForm f, NumbersFn *numbers, SignsFn *signs)
{
    const int fours = f.columns == 4 ? 2 : 1; /* for a group */
    Grid      grid;
    UNROLL
    for (int g = 0; g < 8; g++) {
        if (g * fours % grid_step(f) == 0) grid_look_up(&grid, f, s, numbers, g * fours);
        w16 of_group = signs(s, g);
        UNROLL
        for (int j = 0; j < 8; j++) put(p, 8 * g + j, grid_word(&grid, f, g, j, of_group, p->sum != NULL));
    }
}

/* 1/2 + n */
static INLINE v16 half_scale(w16 n) { return v_add(v_set(0.5f), w_float(n)); }
/* 2 n + 1, n in the low `bits` of each word */
static INLINE v16 odd_scale(w16 n, int bits) { return w_float(w_or(w_shl(w_and(n, w_set((1 << bits) - 1)), 1), w_set(1))); }
static INLINE void put_factor_times(const Panel *p, Stripe s, float by) { put_factor(p, v_mul(odd_half(s), v_set(by))); }
/* a word of four times seven signs, under a scale */
static INLINE w16 four_sevens(w16 x) { return even_signs(w_fields(x, 0, 7, 7)); }

/* ---- IQ2 ---- */
static INLINE RowNumbers numbers_iq2_xxs(Stripe s, int i) { return (RowNumbers){word(s, 2 * i), w_zero()}; }
static INLINE w16 signs_iq2_xxs(Stripe s, int g) { return four_sevens(word(s, 2 * g + 1)); }
static INLINE void unpack_iq2_xxs(const Panel *p, Stripe s)
{
    put_factor_times(p, s, 0.25f);
    UNROLL
    for (int g = 0; g < 8; g++) put_scale(p, g, half_scale(w_shr(word(s, 2 * g + 1), 28)));
    put_grid(p, s, GRID_FORM(IQ2_XXS, false), numbers_iq2_xxs, signs_iq2_xxs);
}

static INLINE void put_nibble_scales(const Panel *p, Stripe s, int w) /* eight bytes, a nibble a run */
{
    put_factor_times(p, s, 0.25f);
    UNROLL
    for (int i = 0; i < 16; i++) put_scale(p, i, half_scale(w_and(w_shr(word(s, w + i / 8), 4 * (i % 8)), w_set(15))));
}
/* 16 bits a number: 9 and 7 signs */
static INLINE RowNumbers numbers_iq2_xs(Stripe s, int i)
{
    w16 a = word(s, 2 * i), b = word(s, 2 * i + 1);
    return (RowNumbers){w_even_bytes(a, b), w_odd_bytes(a, b)};
}
static INLINE w16 signs_iq2_xs(Stripe s, int g) { return even_signs(w_shr(w_odd_bytes(word(s, 2 * g), word(s, 2 * g + 1)), 1)); }
static INLINE void unpack_iq2_xs(const Panel *p, Stripe s)
{
    put_nibble_scales(p, s, 16);
    put_grid(p, s, GRID_FORM(IQ2_XS, false), numbers_iq2_xs, signs_iq2_xs);
}

static INLINE RowNumbers numbers_iq2_s(Stripe s, int i) { return (RowNumbers){word(s, i), w_fields(word(s, 16 + i / 4), 8 * (i % 4), 2, 2)}; }
static INLINE w16 signs_iq2_s(Stripe s, int g) { return word(s, 8 + g); }
static INLINE void unpack_iq2_s(const Panel *p, Stripe s)
{
    put_nibble_scales(p, s, 18);
    put_grid(p, s, GRID_FORM(IQ2_S, false), numbers_iq2_s, signs_iq2_s);
}

/* ---- IQ3 ---- */
static INLINE RowNumbers numbers_iq3_xxs(Stripe s, int i) { return (RowNumbers){word(s, i), w_zero()}; }
static INLINE w16 signs_iq3_xxs(Stripe s, int g) { return four_sevens(word(s, 16 + g)); }
static INLINE void unpack_iq3_xxs(const Panel *p, Stripe s)
{
    put_factor_times(p, s, 0.5f);
    UNROLL
    for (int g = 0; g < 8; g++) put_scale(p, g, half_scale(w_shr(word(s, 16 + g), 28)));
    put_grid(p, s, GRID_FORM(IQ3_XXS, false), numbers_iq3_xxs, signs_iq3_xxs);
}

static INLINE RowNumbers numbers_iq3_s(Stripe s, int i) { return (RowNumbers){word(s, i), w_fields(word(s, 16 + i / 8), 4 * (i % 8), 1, 1)}; }
static INLINE w16 signs_iq3_s(Stripe s, int g) { return word(s, 18 + g); }
static INLINE void unpack_iq3_s(const Panel *p, Stripe s)
{
    put_factor(p, odd_half(s));
    UNROLL
    for (int g = 0; g < 8; g++) put_scale(p, g, odd_scale(w_shr(word(s, 26), 4 * g), 4));
    put_grid(p, s, GRID_FORM(IQ3_S, false), numbers_iq3_s, signs_iq3_s);
}

/* ---- IQ1: 8 digit + delta, which is 1 or -1 ---- */

/* Sixteen bits of group g: three high bits of numbers every `step`; in IQ1_S delta's sign is on top, in IQ1_M over each three. */
static INLINE w16 numbers_high(Stripe s, int g) { return w_shr(word(s, 8 + g / 2), 16 * (g % 2)); }

static INLINE RowNumbers numbers_iq1_s(Stripe s, int i) { return (RowNumbers){word(s, i), w_fields(word(s, 8 + i / 2), 16 * (i % 2), 3, 3)}; }
static INLINE w16 signs_iq1_s(Stripe s, int g) { return w_mul(w_and(w_shr(numbers_high(s, g), 15), w_set(1)), w_set(-1)); }
static INLINE void unpack_iq1_s(const Panel *p, Stripe s)
{
    put_factor_times(p, s, 0.125f);
    UNROLL
    for (int g = 0; g < 8; g++) put_scale(p, g, odd_scale(w_shr(numbers_high(s, g), 12), 3));
    put_grid(p, s, GRID_FORM(IQ1, true), numbers_iq1_s, signs_iq1_s);
}

static INLINE RowNumbers numbers_iq1_m(Stripe s, int i) { return (RowNumbers){word(s, i), w_fields(word(s, 8 + i / 2), 16 * (i % 2), 4, 3)}; }
static INLINE w16 signs_iq1_m(Stripe s, int g)
{
    return w_sub_bytes(w_zero(), w_mask(w_fields(word(s, 8 + g / 2), 16 * (g % 2) + 3, 4, 1), 1));
}
static INLINE void unpack_iq1_m(const Panel *p, Stripe s)
{
    w16 sc[2] = {word(s, 12), word(s, 13)};
    w16 top = w_or(w_and(w_shr(sc[0], 12), w_set(0x000f)), w_and(w_shr(sc[0], 24), w_set(0x00f0)));
    put_factor(p, v_mul(v_set(0.125f), w_half(w_or(top, w_or(w_and(w_shr(sc[1], 4), w_set(0x0f00)), w_and(w_shr(sc[1], 16), w_set(0xf000)))))));
    UNROLL
    for (int i = 0; i < 16; i++) /* 3 bits of u16 i / 4 */
        put_scale(p, i, odd_scale(w_shr(sc[i / 8], 16 * (i / 4 % 2) + 3 * (i % 4)), 3));
    put_grid(p, s, GRID_FORM(IQ1, true), numbers_iq1_m, signs_iq1_m);
}

#endif
