/* The block types of GGUF whose values are looked up: four or eight columns at a time are a row of a fixed grid
 * (quant_grids.h), with signs, times a scale.  The comment over each decoder gives the block's bytes in order. */
#include <pthread.h>

#include "quant.h"
#include "quant_grids.h"

/* seven signs; the eighth makes their number even */
static uint8_t even_signs(uint32_t seven)
{
    return (uint8_t)(seven | (uint32_t)__builtin_parity(seven) << 7);
}

/* by a bit: without a branch, for half of them would be guessed wrong */
static int8_t signed_by(int v, uint8_t signs, int i)
{
    int s = signs >> i & 1;
    return (int8_t)((v ^ -s) + s);
}

/* v[0..8) = row * sign.  A row of the 2-bit grids is 8 digits of 2 bits, 0 1 2 for 8, 25, 43. */
static void eight(uint16_t row, uint8_t signs, int8_t *v)
{
    static const int8_t VALUE[4] = {8, 25, 43, 0};
    for (int i = 0; i < 8; i++) v[i] = signed_by(VALUE[row >> 2 * i & 3], signs, i);
}

/* d, then per group of 32: four row numbers, a word of four times 7 signs and 4 bits of scale */
void quant_iq2_xxs(const uint8_t *b, int g, QuantGroup *o)
{
    const uint8_t *q = b + 2 + 8 * g;
    uint32_t       word = quant_u32(q + 4);
    quant_scale(o, quant_f16(b) * 0.25f, 0.5f + (float)(word >> 28));
    for (int j = 0; j < 4; j++) eight(GRID_IQ2_XXS[q[j]], even_signs(word >> 7 * j & 127), o->v + 8 * j);
}

/* d, u16 qs[32]: 9 bits of row, 7 of signs; scales[8]: a nibble per 16 columns */
void quant_iq2_xs(const uint8_t *b, int g, QuantGroup *o)
{
    o->d = quant_f16(b) * 0.25f;
    for (int j = 0; j < 4; j++) {
        uint32_t q = quant_u16(b + 2 + 8 * g + 2 * j);
        o->s[j / 2] = 0.5f + (float)(b[66 + g] >> 4 * (j / 2) & 15);
        eight(GRID_IQ2_XS[q & 511], even_signs(q >> 9), o->v + 8 * j);
    }
}

/* d, qs[32], signs[32], qh[8]: two high bits for each of four; scales[8] */
void quant_iq2_s(const uint8_t *b, int g, QuantGroup *o)
{
    o->d = quant_f16(b) * 0.25f;
    for (int j = 0; j < 4; j++) {
        o->s[j / 2] = 0.5f + (float)(b[74 + g] >> 4 * (j / 2) & 15);
        eight(GRID_IQ2_S[b[2 + 4 * g + j] | (b[66 + g] >> 2 * j & 3) << 8], b[34 + 4 * g + j], o->v + 8 * j);
    }
}

/* v[0..8) from two rows of a 3-bit grid: 4 digits of 4 bits each */
static void four_and_four(const int8_t value[8], uint16_t row0, uint16_t row1, uint8_t signs, int8_t *v)
{
    for (int i = 0; i < 8; i++) v[i] = signed_by(value[(i < 4 ? row0 >> 4 * i : row1 >> 4 * (i - 4)) & 7], signs, i);
}

/* d, qs[64], then per group a word of four times 7 signs and 4 bits of scale */
void quant_iq3_xxs(const uint8_t *b, int g, QuantGroup *o)
{
    static const int8_t VALUE[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const uint8_t      *q = b + 2 + 8 * g;
    uint32_t            word = quant_u32(b + 66 + 4 * g);
    quant_scale(o, quant_f16(b) * 0.5f, 0.5f + (float)(word >> 28));
    for (int j = 0; j < 4; j++)
        four_and_four(VALUE, GRID_IQ3_XXS[q[2 * j]], GRID_IQ3_XXS[q[2 * j + 1]], even_signs(word >> 7 * j & 127), o->v + 8 * j);
}

/* d, qs[64], qh[8]: the ninth bit of each of eight; signs[32], scales[4]: a nibble per group */
void quant_iq3_s(const uint8_t *b, int g, QuantGroup *o)
{
    static const int8_t VALUE[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const uint8_t      *q = b + 2 + 8 * g;
    quant_scale(o, quant_f16(b), (float)(1 + 2 * (b[106 + g / 2] >> 4 * (g % 2) & 15)));
    for (int j = 0; j < 4; j++) {
        int row0 = q[2 * j] | (b[66 + g] >> 2 * j & 1) << 8, row1 = q[2 * j + 1] | (b[66 + g] >> (2 * j + 1) & 1) << 8;
        four_and_four(VALUE, GRID_IQ3_S[row0], GRID_IQ3_S[row1], b[74 + 4 * g + j], o->v + 8 * j);
    }
}

/* v[0..8) = 8 row + delta, for row + delta / 8.  A row of the 1-bit grid is 8 ternary digits in 2 bits each, 0 1 2 for
 * -1, 0, 1; delta is 1 or -1. */
static void eight_shifted(uint16_t row, int delta, int8_t *v)
{
    for (int i = 0; i < 8; i++) v[i] = (int8_t)(8 * ((row >> 2 * i & 3) - 1) + delta);
}

/* d, qs[32], u16 qh[8]: four times 3 high bits, 3 bits of scale, the sign of delta */
void quant_iq1_s(const uint8_t *b, int g, QuantGroup *o)
{
    uint32_t high = quant_u16(b + 34 + 2 * g);
    quant_scale(o, quant_f16(b) * 0.125f, (float)(2 * (high >> 12 & 7) + 1));
    for (int j = 0; j < 4; j++) eight_shifted(GRID_IQ1[b[2 + 4 * g + j] | (high >> 3 * j & 7) << 8], high & 0x8000 ? -1 : 1, o->v + 8 * j);
}

/* qs[32], qh[16]: a nibble of 3 high bits and delta's sign per eight columns; u16 scales[4]: four times 3 bits, one per 16
 * columns, and a quarter of the f16 d in the top nibble of each */
void quant_iq1_m(const uint8_t *b, int g, QuantGroup *o)
{
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) d |= (uint32_t)(quant_u16(b + 48 + 2 * i) >> 12) << 4 * i;
    o->d = f16_to_f32((uint16_t)d) * 0.125f;
    for (int j = 0; j < 4; j++) {
        int k = 2 * g + j / 2, nibble = b[32 + 2 * g + j / 2] >> 4 * (j % 2);
        o->s[j / 2] = (float)(2 * (quant_u16(b + 48 + 2 * (k / 4)) >> 3 * (k % 4) & 7) + 1);
        eight_shifted(GRID_IQ1[b[4 * g + j] | (nibble & 7) << 8], nibble & 8 ? -1 : 1, o->v + 8 * j);
    }
}

/* ---- grids as products take them ---- */
#define X(name, bits, columns, type, lift, value)                                                                            \
    type    QUANT_ROW_##name[1 << (bits)];                                                                            \
    uint8_t QUANT_HALF_##name[2 << (bits)], QUANT_NUMBER_##name[64];
QUANT_GRIDS(X)
#undef X
uint8_t QUANT_EVEN_SIGNS[128];

/* digits of `bits` bits, each as a byte */
static uint64_t bytes_of(uint16_t row, int bits, const uint8_t number[64])
{
    uint64_t all = 0;
    for (int i = 0; i < 16 / bits; i++) all |= (uint64_t)number[row >> bits * i & ((1 << bits) - 1)] << 8 * i;
    return all;
}

/* of digits, then of digits with a sign; of IQ1 8 digit + delta */
static const int8_t IQ2_VALUE[8] = {8, 25, 43, 0, -8, -25, -43, 0}, IQ1_VALUE[8] = {-7, 1, 9, 0, -9, -1, 7, 0};
static const int8_t IQ3_XXS_VALUE[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
static const int8_t IQ3_S_VALUE[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};

static void fill(void)
{
#define X(name, bits, columns, type, lift, value)                                                                            \
    for (int i = 0; i < 64; i++) QUANT_NUMBER_##name[i] = (uint8_t)(value##_VALUE[i % (int)sizeof value##_VALUE] + (lift)); \
    for (int i = 0; i < 1 << (bits); i++) {                                                                           \
        QUANT_ROW_##name[i] = (type)bytes_of(GRID_##name[i], 16 / (columns), QUANT_NUMBER_##name);                    \
        QUANT_HALF_##name[i] = (uint8_t)GRID_##name[i];                                                               \
        QUANT_HALF_##name[(1 << (bits)) + i] = (uint8_t)(GRID_##name[i] >> 8);                                        \
    }
    QUANT_GRIDS(X)
#undef X
    for (int i = 0; i < 128; i++) QUANT_EVEN_SIGNS[i] = even_signs((uint32_t)i);
}

void quant_rows_fill(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, fill);
}
