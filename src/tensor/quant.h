/* The decoders of GGUF's block types, for dtype.c.  Blocks lie in a mapped file: bytes, not aligned, little-endian. */
#ifndef AHA_TENSOR_QUANT_H
#define AHA_TENSOR_QUANT_H

#include "dtype.h"

/* y[0..32) = the columns [32 g, 32 g + 32) of a block, 0 <= g < block / 32.  Any bytes are valid: what comes out of a file
 * with hostile scales may be infinite or no number, never more than that. */
typedef void QuantGroupFn(const uint8_t *block, int g, float *y);
QuantGroupFn *quant_group_fn(Dtype t); /* NULL: no block type */

QuantGroupFn quant_iq1_s, quant_iq1_m, quant_iq2_xxs, quant_iq2_xs, quant_iq2_s, quant_iq3_xxs, quant_iq3_s; /* quant_iq.c */

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
