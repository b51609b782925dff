/* The block types of GGUF whose values are computed: a scale (and a minimum) times small integers.
 *
 * The comment over each decoder gives the block's bytes in order: f16 d, the scale of all; qs, the low bits; qh, the high
 * ones; packed sub-scales.  The products are rounded one by one in the order in which the formats' own tools do it, so the
 * values are theirs to the last bit. */
#include "quant_encode.h"

/* d, qs[16]: 16 low nibbles, then 16 high ones */
void quant_q4_0(const uint8_t *b, int g, QuantGroup *o)
{
    (void)g;
    quant_scale(o, 1, quant_f16(b));
    for (int i = 0; i < 16; i++) {
        o->v[i] = (int8_t)((b[2 + i] & 15) - 8);
        o->v[16 + i] = (int8_t)((b[2 + i] >> 4) - 8);
    }
}

/* d, m, qs[16]; m is added, so its negative is taken away */
void quant_q4_1(const uint8_t *b, int g, QuantGroup *o)
{
    (void)g;
    quant_scale(o, 1, quant_f16(b));
    quant_min(o, 1, -quant_f16(b + 2));
    for (int i = 0; i < 16; i++) {
        o->v[i] = b[4 + i] & 15;
        o->v[16 + i] = (int8_t)(b[4 + i] >> 4);
    }
}

/* the fifth bits lie in a 32-bit word, one per column */
static int five(int nibble, uint32_t high, int i) { return nibble | (int)(high >> i & 1) << 4; }

/* d, qh[4], qs[16] */
void quant_q5_0(const uint8_t *b, int g, QuantGroup *o)
{
    uint32_t high = quant_u32(b + 2);
    (void)g;
    quant_scale(o, 1, quant_f16(b));
    for (int i = 0; i < 16; i++) {
        o->v[i] = (int8_t)(five(b[6 + i] & 15, high, i) - 16);
        o->v[16 + i] = (int8_t)(five(b[6 + i] >> 4, high, 16 + i) - 16);
    }
}

/* d, m, qh[4], qs[16] */
void quant_q5_1(const uint8_t *b, int g, QuantGroup *o)
{
    uint32_t high = quant_u32(b + 4);
    (void)g;
    quant_scale(o, 1, quant_f16(b));
    quant_min(o, 1, -quant_f16(b + 2));
    for (int i = 0; i < 16; i++) {
        o->v[i] = (int8_t)five(b[8 + i] & 15, high, i);
        o->v[16 + i] = (int8_t)five(b[8 + i] >> 4, high, 16 + i);
    }
}

/* d, int8 qs[32] */
void quant_q8_0(const uint8_t *b, int g, QuantGroup *o)
{
    (void)g;
    quant_scale(o, 1, quant_f16(b));
    memcpy(o->v, b + 2, 32);
}

/* ---- 256 columns: two halves of 128; a byte holds the same column of the half's four groups ---- */

/* scales[16]: scale and minimum of 16 columns in a nibble each; qs[64], d, dmin */
void quant_q2_k(const uint8_t *b, int g, QuantGroup *o)
{
    const uint8_t *q = b + 16 + 32 * (g / 4);
    o->d = quant_f16(b + 80);
    o->e = quant_f16(b + 82);
    for (int h = 0; h < 2; h++) {
        o->s[h] = b[2 * g + h] & 15;
        o->m[h] = (float)(b[2 * g + h] >> 4);
    }
    for (int i = 0; i < 32; i++) o->v[i] = q[i] >> 2 * (g % 4) & 3;
}

/* hmask[32], qs[64], scales[12]: sixteen of 6 bits, the low nibbles in 8 bytes, the high pairs in 4; d */
void quant_q3_k(const uint8_t *b, int g, QuantGroup *o)
{
    const uint8_t *q = b + 32 + 32 * (g / 4), *s = b + 96;
    o->d = quant_f16(b + 108);
    for (int h = 0; h < 2; h++) {
        int k = 2 * g + h, low = k < 8 ? s[k] & 15 : s[k - 8] >> 4;
        o->s[h] = (float)((low | (s[8 + k % 4] >> 2 * (k / 4) & 3) << 4) - 32);
    }
    for (int i = 0; i < 32; i++) o->v[i] = (int8_t)((q[i] >> 2 * (g % 4) & 3) - 4 + (b[i] >> g & 1) * 4);
}

/* d, dmin and eight scales and minima of 6 bits in 12 bytes s: the first four whole in s[0..4) and s[4..8), whose top bits
 * complete the nibbles of the last four in s[8..12). */
static void scale_min(const uint8_t *b, int g, QuantGroup *o)
{
    const uint8_t *s = b + 4;
    int            sc = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    int            m = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
    quant_scale(o, quant_f16(b), (float)sc);
    quant_min(o, quant_f16(b + 2), (float)m);
}

/* d, dmin, scales[12], qs[128]: groups in pairs, low and high nibble */
void quant_q4_k(const uint8_t *b, int g, QuantGroup *o)
{
    const uint8_t *q = b + 16 + 32 * (g / 2);
    scale_min(b, g, o);
    for (int i = 0; i < 32; i++) o->v[i] = q[i] >> 4 * (g % 2) & 15;
}

/* d, dmin, scales[12], qh[32]: bit g is of group g; qs[128] */
void quant_q5_k(const uint8_t *b, int g, QuantGroup *o)
{
    const uint8_t *q = b + 48 + 32 * (g / 2);
    scale_min(b, g, o);
    for (int i = 0; i < 32; i++) o->v[i] = (int8_t)((q[i] >> 4 * (g % 2) & 15) | (b[16 + i] >> g & 1) << 4);
}

/* ql[128], qh[64], int8 scales[16], d */
void quant_q6_k(const uint8_t *b, int g, QuantGroup *o)
{
    const uint8_t *low = b + 64 * (g / 4) + 32 * (g % 2), *high = b + 128 + 32 * (g / 4);
    o->d = quant_f16(b + 208);
    for (int h = 0; h < 2; h++) o->s[h] = (int8_t)b[192 + 2 * g + h];
    for (int i = 0; i < 32; i++) o->v[i] = (int8_t)(((low[i] >> 4 * (g % 4 / 2) & 15) | (high[i] >> 2 * (g % 4) & 3) << 4) - 32);
}

/* ---- tables of sixteen values ---- */

const int8_t QUANT_IQ4_VALUE[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t QUANT_MXFP4_VALUE[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void nibbles(const int8_t value[16], const uint8_t *q, QuantGroup *o)
{
    for (int i = 0; i < 16; i++) {
        o->v[i] = value[q[i] & 15];
        o->v[16 + i] = value[q[i] >> 4];
    }
}

/* d, qs[16] */
void quant_iq4_nl(const uint8_t *b, int g, QuantGroup *o)
{
    (void)g;
    quant_scale(o, 1, quant_f16(b));
    nibbles(QUANT_IQ4_VALUE, b + 2, o);
}

/* d, u16 of eight high pairs, four bytes of eight low nibbles: scales of 6 bits; qs[128] */
void quant_iq4_xs(const uint8_t *b, int g, QuantGroup *o)
{
    int scale = (b[4 + g / 2] >> 4 * (g % 2) & 15) | (quant_u16(b + 2) >> 2 * g & 3) << 4;
    quant_scale(o, quant_f16(b), (float)(scale - 32));
    nibbles(QUANT_IQ4_VALUE, b + 8 + 16 * g, o);
}

/* e, qs[16]: FP4 E2M1, doubled, times 2^(e - 128) (OCP Microscaling Formats 1.0) */
void quant_mxfp4(const uint8_t *b, int g, QuantGroup *o)
{
    uint32_t bits = b[0] < 2 ? 0x00200000u << b[0] : (uint32_t)(b[0] - 1) << 23;
    float    d;
    (void)g;
    memcpy(&d, &bits, 4);
    quant_scale(o, 1, d);
    nibbles(QUANT_MXFP4_VALUE, b + 1, o);
}

/* qs[48], qh[4], d: a byte holds five ternary digits (qh: four) as a fraction of 256; digit n of byte j stands for column
 * 32 n + j of the first 160, 16 n + j of the next 80, 4 n + j of the last 16 */
void quant_tq1_0(const uint8_t *b, int g, QuantGroup *o)
{
    static const uint8_t POWER[] = {1, 3, 9, 27, 81};
    quant_scale(o, quant_f16(b + 52), 1);
    for (int i = 0; i < 32; i++) {
        int     c = 32 * g + i, wide = c < 160 ? 32 : c < 240 ? 16 : 4, in = c < 160 ? c : c < 240 ? c - 160 : c - 240;
        uint8_t byte = b[(c < 160 ? 0 : c < 240 ? 32 : 48) + in % wide], digit = (uint8_t)(byte * POWER[in / wide]);
        o->v[i] = (int8_t)((digit * 3 >> 8) - 1);
    }
}

const QuantForm *quant_form(Dtype t)
{
    static const QuantForm TABLE[DT_COUNT] = {
#define X(name, type, block, halves, min, lift) [type] = {quant_##name, halves, min, (block) == 256, lift},
        QUANT_FORMS(X)
#undef X
    };
    return (unsigned)t < DT_COUNT && TABLE[t].group ? &TABLE[t] : NULL;
}
