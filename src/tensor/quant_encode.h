/* The encoders of GGUF's block types: quant_encode.c searches, quant_pack.c lays out. */
#ifndef AHA_TENSOR_QUANT_ENCODE_H
#define AHA_TENSOR_QUANT_ENCODE_H

#include "quant.h"

enum { QUANT_BLOCK_MAX = 256, QUANT_SUBS_MAX = 16 };

/* How a type spells numbers: a block of subs x width columns. */
typedef struct QuantShape {
    int           subs, width;
    int           scale_lo, scale_hi; /* of a sub-block's integer scale; subs 1: it has none */
    int           lo, hi;             /* levels */
    const int8_t *value;              /* sixteen levels in ascending order instead of lo..hi; NULL: none */
    bool          min;                /* x = d scale q - dmin min q, with integer minima of the scales' range */
} QuantShape;

typedef struct QuantBlock { /* what was found */
    uint16_t d, dmin; /* f16 */
    int      scale[QUANT_SUBS_MAX], min[QUANT_SUBS_MAX];
    int8_t   q[QUANT_BLOCK_MAX]; /* levels */
} QuantBlock;

/* Minimises the sum of w (x - decoded)^2, by search; w NULL: all ones.  Deterministic. */
void quant_search(const QuantShape *s, const float *x, const float *w, QuantBlock *out);
/* plain: without the processor's own vectors, the same bits, for tests */
void quant_search_by(bool plain, const QuantShape *s, const float *x, const float *w, QuantBlock *out);

#endif
