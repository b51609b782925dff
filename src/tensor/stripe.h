/* Stripes: sixteen rows of a weight side by side, as products take them.
 *
 *     a file:   row 0      | block | block | ...           a stripe:  odd parts of the first blocks | of the second
 *               row 1      | block | block | ...                      word 0 of the sixteen rows' first blocks | word 1 | ...
 *               ...                                                   word 0 of their second blocks            | ...
 *               row 15     | block | block | ...                      odd parts of the third | of the fourth   ...
 *
 * A word is four bytes, so sixteen are a vector, a lane a row, and a product reads a stripe from one end to the other: a block's words
 * stand in the order in which they are unpacked (stripe_place).  Of a block whose bytes are no multiple of four the odd ones lead or
 * close it (they are its scale); those of two blocks, or of four, fill a line of 64 bytes in front of their words.  What is left of
 * blocks at the end of a row has them behind.  A stripe has the bytes of its rows, no more, and lies where they lay; the rows behind a
 * matrix's last whole sixteen stay as they are.
 *
 * Float types are taken for blocks of one column, F8 of four: column 0 of the sixteen rows, column 1, ...; F8: columns 0 to 3. */
#ifndef AHA_TENSOR_STRIPE_H
#define AHA_TENSOR_STRIPE_H

#include "dtype.h"

enum { STRIPE_ROWS = 16 };
typedef struct StripeForm {
    int words; /* of a block */
    int odd;   /* bytes: 0, 1 or 2 */
    int lead;  /* of them in front: all or none */
} StripeForm;

static inline StripeForm stripe_form(Dtype t)
{
    switch (t) {
    case DT_F32: return (StripeForm){1, 0, 0};
    case DT_F16: return (StripeForm){0, 2, 0};
    case DT_BF16: return (StripeForm){0, 2, 0};
    case DT_F8_E4M3: return (StripeForm){1, 0, 0};
    case DT_Q4_0: return (StripeForm){4, 2, 2};
    case DT_Q4_1: return (StripeForm){5, 0, 0};
    case DT_Q5_0: return (StripeForm){5, 2, 2};
    case DT_Q5_1: return (StripeForm){6, 0, 0};
    case DT_Q8_0: return (StripeForm){8, 2, 2};
    case DT_IQ4_NL: return (StripeForm){4, 2, 2};
    case DT_MXFP4: return (StripeForm){4, 1, 1};
    case DT_Q2_K: return (StripeForm){21, 0, 0};
    case DT_Q3_K: return (StripeForm){27, 2, 0};
    case DT_Q4_K: return (StripeForm){36, 0, 0};
    case DT_Q5_K: return (StripeForm){44, 0, 0};
    case DT_Q6_K: return (StripeForm){52, 2, 0};
    case DT_IQ4_XS: return (StripeForm){34, 0, 0};
    case DT_IQ1_S: return (StripeForm){12, 2, 2};
    case DT_IQ1_M: return (StripeForm){14, 0, 0};
    case DT_IQ2_XXS: return (StripeForm){16, 2, 2};
    case DT_IQ2_XS: return (StripeForm){18, 2, 2};
    case DT_IQ2_S: return (StripeForm){20, 2, 2};
    case DT_IQ3_XXS: return (StripeForm){24, 2, 2};
    case DT_IQ3_S: return (StripeForm){27, 2, 2};
    case DT_TQ1_0: return (StripeForm){13, 2, 0};
    default: return (StripeForm){0, 0, 0};
    }
}

/* columns of a block; of float types the compiler is to know them */
static inline int stripe_cols(Dtype t)
{
    if (t == DT_F8_E4M3) return 4;
    return t == DT_F32 || t == DT_F16 || t == DT_BF16 ? 1 : dtype_info(t)->block;
}

/* The place in its stripe of word w of a block, counted from the first that is not odd. */
static inline int stripe_place(Dtype t, int w)
{
    switch (t) {
    case DT_Q2_K: return w == 20 ? 0 : w + 1; /* d and dmin, scales, low bits */
    case DT_Q3_K: /* scales; the words of hmask among the first low bits */
        return w < 8 ? 3 + 2 * w : w < 16 ? 4 + 2 * (w - 8) : w < 24 ? w + 3 : w - 24;
    case DT_Q5_K: /* d, dmin, scales; the high bits among the first low ones */
        return w < 4 ? w : w < 12 ? 4 + 2 * (w - 4) : w < 20 ? 5 + 2 * (w - 12) : w;
    case DT_Q6_K: /* scales; low bits of two groups, high bits of four */
        return w < 32 ? 4 + 3 * (w / 16 * 8 + w % 8) + w % 16 / 8 : w < 48 ? 6 + 3 * (w - 32) : w - 48;
    default: return w;
    }
}

/* Sixteen rows, and one block of each of them. */
typedef struct StripeRows {
    const uint8_t *at;
    int64_t        blocks;
} StripeRows;
typedef struct Stripe {
    const uint8_t *word, *odd;
} Stripe;

/* Block i of rows. */
static inline Stripe stripe_block(const StripeForm f, StripeRows rows, int64_t i)
{
    const int64_t words = f.words * 4 * STRIPE_ROWS, odd = f.odd * STRIPE_ROWS;
    if (f.odd == 0) return (Stripe){rows.at + i * words, rows.at};
    const int64_t  line = 64 / odd, whole = rows.blocks / line, group = 64 + line * words;
    const uint8_t *at = rows.at + i / line * group;
    if (i / line < whole) return (Stripe){at + 64 + i % line * words, at + i % line * odd};
    return (Stripe){at + i % line * words, at + rows.blocks % line * words + i % line * odd};
}

/* to [rows, blocks of type t] = the matrix at `from` with its whole sixteens as stripes; they do not overlap. */
void stripe_matrix(Dtype t, const uint8_t *from, int64_t rows, int64_t blocks, uint8_t *to);
/* A block's row r (0 to 15), as a file has it. */
void stripe_row(Dtype t, Stripe s, int r, uint8_t *to);

#endif
