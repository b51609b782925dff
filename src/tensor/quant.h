/* The block types of GGUF as integers, scales and minima: what every decoder and every product starts from.  Blocks lie in a
 * mapped file: bytes, not aligned, little-endian. */
#ifndef AHA_TENSOR_QUANT_H
#define AHA_TENSOR_QUANT_H

#include "dtype.h"

/* The columns [32 g, 32 g + 32) of a block: column i is s[i/16] * v[i], rounded once, and, in types with minima, m[i/16] is
 * then taken away.  Where one scale stands for all 32, both halves hold it. */
typedef struct QuantGroup {
    int8_t v[QUANT_GROUP];
    float  s[2], m[2];
} QuantGroup;

/* 0 <= g < block / 32.  Any bytes are valid: what comes out of a file with hostile scales may be infinite or no number, never
 * more than that.  m is left alone in types without minima. */
typedef void QuantGroupFn(const uint8_t *block, int g, QuantGroup *out);
typedef struct QuantForm {
    QuantGroupFn *group;
    bool          halves;  /* a scale for every 16 columns, not 32 */
    bool          min;
    int           lift;  /* v + lift lies in 0..127 (0..255 where lift is 128): what products with 8 bits store */
} QuantForm;
const QuantForm *quant_form(Dtype t); /* NULL: no block type */

QuantGroupFn quant_iq1_s, quant_iq1_m, quant_iq2_xxs, quant_iq2_xs, quant_iq2_s, quant_iq3_xxs, quant_iq3_s; /* quant_iq.c */

static inline void quant_scale(QuantGroup *o, float s) { o->s[0] = o->s[1] = s; }
static inline void quant_min(QuantGroup *o, float m) { o->m[0] = o->m[1] = m; }

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
