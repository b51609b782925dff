/* Rows of grids looked up one by one (kern_grid.h), for processors without tables of bytes in registers.
 *
 *     numbers of a block, 16 bits each:  [2][sixteen rows of B][2]   ->   columns as bytes: [four or eight columns' place][sixteen rows]
 *
 * All of a block's at once: a vector that is loaded right behind the stores of its parts would wait for them. */
#ifndef AHA_CPU_KERN_GRID_ROWS_H
#define AHA_CPU_KERN_GRID_ROWS_H

typedef struct Grid { /* of sixteen rows of B, 256 columns */
    _Alignas(64) union {
        uint64_t eight[32][16];
        uint32_t four[64][16];
    };
} Grid;

/* Fields of 1 to 8 `bits`, `step` apart from bit `at` on: a byte each. */
static INLINE w16 w_fields(w16 x, int at, int step, int bits)
{
    w16 all = w_zero(), y = w_shr(x, at);
    UNROLL
    for (int i = 0; i < 4; i++) all = w_or(all, w_and(w_shl(y, i * (8 - step)), w_set((int)(((1u << bits) - 1) << 8 * i))));
    return all;
}
/* bytes 0 and 2 of a, then of b; 1 and 3 */
static INLINE w16 w_even_bytes(w16 a, w16 b)
{
    w16 x = w_and(a, w_set(0x00ff00ff)), y = w_and(b, w_set(0x00ff00ff));
    return w_or(w_and(w_or(x, w_shr(x, 8)), w_set(0xffff)), w_or(w_shl(y, 16), w_shl(w_shr(y, 16), 24)));
}
static INLINE w16 w_odd_bytes(w16 a, w16 b) { return w_even_bytes(w_shr(a, 8), w_shr(b, 8)); }

/* each byte has seven signs; the eighth, a bit of anything there, makes their number even */
static INLINE w16 even_signs(w16 seven)
{
    static const uint8_t ODD[16] = {0, 128, 128, 0, 128, 0, 0, 128, 128, 0, 0, 128, 0, 128, 128, 0};
    w16 x = w_mask(seven, 127);
    return w_or(x, w_xor(w_lookup(ODD, w_mask(x, 15)), w_lookup(ODD, w_mask(w_shr(x, 4), 15))));
}

static INLINE int grid_step(const GridForm f) { return 64 / f.columns; }
static INLINE void grid_row(Grid *grid, const GridForm f, int i, int r, uint32_t number)
{
    if (f.columns == 8) grid->eight[i][r] = ((const uint64_t *)f.row)[number];
    else grid->four[i][r] = ((const uint32_t *)f.row)[number];
}
static INLINE void grid_look_up(Grid *grid, const GridForm f, Stripe s, NumbersFn *numbers, int from)
{
    _Alignas(64) uint8_t  of_8[16][64];
    _Alignas(64) uint16_t of_16[16][2][32];
    UNROLL
    for (int i = 0; i < 64 / f.columns; i++) {
        RowNumbers n = numbers(s, from + i);
        w16        low = w_set(0x00ff00ff), high = w_set(((1 << (f.bits - 8)) - 1) * 0x01000100);
        if (f.bits == 8) {
            w_store(of_8[i], n.low);
        } else {
            w_store(of_16[i][0], w_or(w_and(n.low, low), w_and(w_shl(n.high, 8), high)));
            w_store(of_16[i][1], w_or(w_and(w_shr(n.low, 8), low), w_and(n.high, high)));
        }
    }
    for (int i = 0; i < 64 / f.columns; i++)
        for (int r = 0; r < 16; r++) {
            uint32_t four = quant_u32(of_8[i] + 4 * r);
            UNROLL
            for (int j = 0; j < 4; j++) grid_row(grid, f, 4 * i + j, r, f.bits == 8 ? four >> 8 * j & 255 : of_16[i][j % 2][2 * r + j / 2]);
        }
}
/* columns 4 j to 4 j + 3 of group g */
static INLINE w16 grid_word(const Grid *grid, const GridForm f, int g, int j, w16 signs, bool few)
{
    w16 x[2];
    (void)few;
    if (f.columns == 4) x[j % 2] = w_load(grid->four[8 * g + j]);
    else w_pairs(grid->eight[4 * g + j / 2], x);
    if (!f.delta) return w_flip(x[j % 2], signs, j, 2 * f.lift);
    return w_add_bytes(x[j % 2], w_mul(w_and(w_shr(signs, j / 2 * 8), w_set(1)), w_set((int)0xfefefefe))); /* from 1 to -1 */
}
enum { GRID_TURNS = false };
static INLINE void grid_turn(const int8_t *q, int8_t *to)
{
    (void)q, (void)to;
}

#endif
