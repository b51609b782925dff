/* Rows of grids looked up in registers (kern_grid.h), 64 at a time.
 *
 * A row's digits are 16 bits: two tables of bytes, of 256 to 2,048 entries, of which one instruction looks 64 numbers up in 128:
 *
 *     numbers, a lane a row of B     n0 n1 n2 n3
 *     halves of eights, woven        n0's n0's n1's n1's | n2's n2's n3's n3's      16 columns, four in a byte
 *     halves of fours                n0's n1's n2's n3's | n0's n1's n2's n3's      16 columns, two and two in a byte
 *
 * For put() in the order of columns a byte's digits are spread over the lane by a shift of bits, signs over them by another.  Beside few rows
 * of A that would be most of the work, so there the row is turned and not the weights: a word has columns c, 4 + c, 8 + c and 12 + c of
 * sixteen, which are one shift of all lanes away.  Digits and signs together are the number of an entry of the last table, of v + lift: 5
 * operations for 64 weights, the sum's included.
 *
 * Numbers of more than 8 bits go through every 128 entries, each byte by the ones that are its own: 4, 8 or 16 operations a half. */
#ifndef AHA_CPU_KERN_GRID_HALVES_H
#define AHA_CPU_KERN_GRID_HALVES_H

typedef struct Grid {
    w16 half[16][2]; /* of 32 columns of eights, or 16 of fours */
} Grid;

/* bytes 0 and 2 of a, then of b; 1 and 3 */
static INLINE w16 w_even_bytes(w16 a, w16 b) { return w_upper_from(w_fields(b, -32, 16, 8), w_fields(a, 0, 16, 8)); }
static INLINE w16 w_odd_bytes(w16 a, w16 b) { return w_upper_from(w_fields(b, -24, 16, 8), w_fields(a, 8, 16, 8)); }

/* each byte has seven signs; the eighth, a bit of anything there, makes their number even */
static INLINE w16 even_signs(w16 seven) { return w_look128(w_table128(QUANT_EVEN_SIGNS), seven); }

enum { GRID_AT_ONCE = 4 }; /* tables that are read for several numbers need not be read so often */
static INLINE int grid_step(const GridForm f) { return f.bits > 8 ? GRID_AT_ONCE : f.columns == 4 ? 2 : 1; }
static INLINE void grid_look_up(Grid *grid, const GridForm f, Stripe s, NumbersFn *numbers, int from)
{
    const int count = grid_step(f);
    w16       above[GRID_AT_ONCE], half[GRID_AT_ONCE][2];
    UNROLL
    for (int i = 0; i < count; i++) {
        RowNumbers n = numbers(s, from + i);
        half[i][0] = half[i][1] = n.low;
        if (f.bits > 8) above[i] = w_above_7(n.low, n.high, f.bits - 7);
    }
    if (f.bits == 8) {
        UNROLL
        for (int i = 0; i < count; i++) {
            b64 top = w_tops(half[i][0]);
            UNROLL
            for (int h = 0; h < 2; h++) {
                half[i][h] = w_look128_in(w_table128(f.half + 256 * h), half[i][h], ~top);
                half[i][h] = w_look128_in(w_table128(f.half + 256 * h + 128), half[i][h], top);
            }
        }
    } else {
        for (int e = 0; e < 1 << (f.bits - 7); e++) { /* not unrolled: GCC would put all tables on the stack */
            w16x2 table[2] = {w_table128(f.half + 128 * e), w_table128(f.half + (1 << f.bits) + 128 * e)};
            UNROLL
            for (int i = 0; i < count; i++) {
                b64 in = w_bytes_are(above[i], e);
                UNROLL
                for (int h = 0; h < 2; h++) half[i][h] = w_look128_in(table[h], half[i][h], in);
            }
        }
    }
    UNROLL
    for (int i = 0; i < count; i++) {
        UNROLL
        for (int h = 0; h < 2; h++) grid->half[from + i][h] = f.columns == 8 ? w_weave(half[i][0], half[i][1], h) : half[i][h];
    }
}

/* Words of columns 4 j to 4 j + 3 of group g, or, for few rows, of those that are j % 4 beyond a multiple of four in the same sixteen: in the
 * low bits of each byte a digit, above it anything. */
static INLINE w16 grid_digits(const Grid *grid, const GridForm f, int g, int j, bool few)
{
    const w16 *two = grid->half[2 * g + j / 4], eights = grid->half[g][j / 4];
    if (f.columns == 8) return few ? w_shr(eights, 2 * (j % 4)) : w_fields(eights, 8 * (j % 4), 2, 2);
    if (few) return w_shr(two[j % 4 / 2], 4 * (j % 2));
    return w_upper_from(w_fields(two[1], 8 * (j % 4) - 8, 4, 4), w_fields(two[0], 8 * (j % 4), 4, 4));
}
static INLINE w16 grid_word(const Grid *grid, const GridForm f, int g, int j, w16 signs, bool few)
{
    const int bits = f.columns == 8 ? 2 : 3;
    if (!few) signs = w_fields(signs, 4 * j - bits, 1, 8);
    else signs = w_shift(w_fields(signs, 16 * (j / 4), 4, 4), f.delta ? 0 : bits - j % 4);
    return w_look64(f.number, w_below(grid_digits(grid, f, g, j, few), bits, signs));
}
/* 64 columns of a row of A in that order */
enum { GRID_TURNS = true };
static INLINE void grid_turn(const int8_t *q, int8_t *to)
{
#define FOUR(i) 0x0c080400 + (i) * 0x01010101 /* bytes i, 4 + i, 8 + i, 12 + i */
    static const uint32_t FOURS[16] = {FOUR(0),  FOUR(1),  FOUR(2),  FOUR(3),  FOUR(16), FOUR(17), FOUR(18), FOUR(19),
                                       FOUR(32), FOUR(33), FOUR(34), FOUR(35), FOUR(48), FOUR(49), FOUR(50), FOUR(51)};
#undef FOUR
    w_store(to, w_look64(q, w_load(FOURS)));
    __asm__("" : "+m"(*(char(*)[64])to)); /* words are to be broadcast from memory, not taken out of the register */
}

#endif
