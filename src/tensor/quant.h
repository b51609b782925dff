/* The block types of GGUF as integers, scales and minima: what every decoder and every product starts from.  Blocks lie in a
 * mapped file: bytes, not aligned, little-endian. */
#ifndef AHA_TENSOR_QUANT_H
#define AHA_TENSOR_QUANT_H

#include "dtype.h"

/* The columns [32 g, 32 g + 32) of a block: column i is (d * s[i/16]) * v[i], each product rounded, and, in types with minima,
 * e * m[i/16], rounded, is then taken away.  Where one scale stands for all 32, both halves hold it.  In blocks of 32 d and e are 1; in
 * those of 256 m is an integer of at most 6 bits, s one of at most 8 or, in IQ2 and IQ3_XXS, one and a half. */
typedef struct QuantGroup {
    int8_t v[QUANT_GROUP];
    float  d, e, s[2], m[2];
} QuantGroup;

/* X(name, type, columns of a block, a scale for every 16 columns and not 32?, minima?, lift) */
#define QUANT_FORMS(X)                                                                                                \
    X(q4_0, DT_Q4_0, 32, false, false, 8) X(q4_1, DT_Q4_1, 32, false, true, 0) X(q5_0, DT_Q5_0, 32, false, false, 16) \
    X(q5_1, DT_Q5_1, 32, false, true, 0) X(q8_0, DT_Q8_0, 32, false, false, 128) X(iq4_nl, DT_IQ4_NL, 32, false, false, 128) \
    X(mxfp4, DT_MXFP4, 32, false, false, 16) X(q2_k, DT_Q2_K, 256, true, true, 0) X(q3_k, DT_Q3_K, 256, true, false, 4) \
    X(q4_k, DT_Q4_K, 256, false, true, 0) X(q5_k, DT_Q5_K, 256, false, true, 0) X(q6_k, DT_Q6_K, 256, true, false, 32) \
    X(iq4_xs, DT_IQ4_XS, 256, false, false, 128) X(iq1_s, DT_IQ1_S, 256, false, false, 16)                            \
    X(iq1_m, DT_IQ1_M, 256, true, false, 16) X(iq2_xxs, DT_IQ2_XXS, 256, false, false, 64)                            \
    X(iq2_xs, DT_IQ2_XS, 256, true, false, 64) X(iq2_s, DT_IQ2_S, 256, true, false, 64)                               \
    X(iq3_xxs, DT_IQ3_XXS, 256, false, false, 64) X(iq3_s, DT_IQ3_S, 256, false, false, 16)                           \
    X(tq1_0, DT_TQ1_0, 256, false, false, 1)

/* 0 <= g < block / 32.  Any bytes are valid: what comes out of a file with hostile scales may be infinite or no number, never
 * more than that.  m is left alone in types without minima. */
typedef void QuantGroupFn(const uint8_t *block, int g, QuantGroup *out);
typedef struct QuantForm {
    QuantGroupFn *group;
    bool          halves;  /* a scale for every 16 columns, not 32 */
    bool          min;
    bool          big;     /* blocks of 256: with a factor for all scales (d), and one for all minima (e) */
    int           lift;    /* v + lift lies in 0..127 (0..255 where lift is 128): what products with 8 bits store */
} QuantForm;
const QuantForm *quant_form(Dtype t); /* NULL: no block type */

#define X(name, type, block, halves, min, lift) QuantGroupFn quant_##name;
QUANT_FORMS(X) /* quant.c, quant_iq.c */
#undef X

/* X(name, bits of a row's number, columns of a row, type of a row with a byte a column, lift, digits' values)  Grids as products take
 * them; cpu_kernels_all fills them.
 *   QUANT_ROW     a row with a byte a column, the lowest first: v + lift where no sign is set; of IQ1 where delta is 1
 *   QUANT_HALF    the digits of a row's first columns as a byte, then those of the others: 4 of 2 bits or 2 of 4 bits
 *   QUANT_NUMBER  v + lift of a digit (2 bits, of IQ3 3) and, over it, its sign, of IQ1 delta's.  Bits above change nothing */
#define QUANT_GRIDS(X)                                                                                                \
    X(IQ2_XXS, 8, 8, uint64_t, 64, IQ2) X(IQ2_XS, 9, 8, uint64_t, 64, IQ2) X(IQ2_S, 10, 8, uint64_t, 64, IQ2)         \
    X(IQ1, 11, 8, uint64_t, 16, IQ1) X(IQ3_XXS, 8, 4, uint32_t, 64, IQ3_XXS) X(IQ3_S, 9, 4, uint32_t, 16, IQ3_S)
#define X(name, bits, columns, type, lift, value)                                                                     \
    enum { QUANT_BITS_##name = bits, QUANT_COLUMNS_##name = columns, QUANT_LIFT_##name = lift };                      \
    extern type    QUANT_ROW_##name[1 << (bits)];                                                                     \
    extern uint8_t QUANT_HALF_##name[2 << (bits)], QUANT_NUMBER_##name[64];
QUANT_GRIDS(X)
#undef X
extern uint8_t QUANT_EVEN_SIGNS[128]; /* of seven signs all eight */
void quant_rows_fill(void);

static inline void quant_scale(QuantGroup *o, float d, float s)
{
    o->d = d;
    o->s[0] = o->s[1] = s;
}
static inline void quant_min(QuantGroup *o, float e, float m)
{
    o->e = e;
    o->m[0] = o->m[1] = m;
}

extern const int8_t QUANT_IQ4_VALUE[16], QUANT_MXFP4_VALUE[16]; /* what nibbles stand for */

static inline uint16_t quant_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t quant_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline float quant_f16(const uint8_t *p) { return f16_to_f32(quant_u16(p)); }

#endif
