/* Data types of weights, cache rows and files, as data: one table instead of a switch in every room. */
#ifndef AHA_TENSOR_DTYPE_H
#define AHA_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum Dtype {
    DT_F32,
    DT_F16,
    DT_BF16,
    DT_F8_E4M3, /* with 128x128 scales beside it */
    DT_I32,
    DT_I64,
    DT_U8,
    DT_I8,
    DT_BOOL,
    DT_F64,
    /* GGUF's block types (quant.c, quant_iq.c): 32 or 256 weights of a row share scales */
    DT_Q4_0,
    DT_Q4_1,
    DT_Q5_0,
    DT_Q5_1,
    DT_Q8_0,
    DT_Q2_K,
    DT_Q3_K,
    DT_Q4_K,
    DT_Q5_K,
    DT_Q6_K,
    DT_IQ1_S,
    DT_IQ1_M,
    DT_IQ2_XXS,
    DT_IQ2_XS,
    DT_IQ2_S,
    DT_IQ3_XXS,
    DT_IQ3_S,
    DT_IQ4_NL,
    DT_IQ4_XS,
    DT_TQ1_0,
    DT_MXFP4,
    DT_COUNT
} Dtype;

typedef struct DtypeInfo {
    const char *name;        /* as safetensors spells it: "F32", "BF16", "F8_E4M3"; block types: as GGUF's tools do */
    int         block;       /* elements per block, along a row */
    int         block_bytes; /* bytes per block */
    bool        weight;      /* linear, embed and moe can compute with it */
} DtypeInfo;

const DtypeInfo *dtype_info(Dtype t); /* NULL for a number that is no type */
/* What a kernel decodes before it multiplies: F8 with its scales and the block types.  Frozen: such weights have no gradient. */
static inline bool dtype_is_coded(Dtype t) { return t == DT_F8_E4M3 || (t >= DT_Q4_0 && t < DT_COUNT); }
/* Stored in blocks along a row, so an element has no address of its own. */
static inline bool dtype_is_blocked(Dtype t) { return t >= DT_Q4_0 && t < DT_COUNT; }
/* false when the name is unknown */
bool dtype_from_name(const char *name, size_t n, Dtype *out);
/* bytes of rows x cols; false on overflow or when cols is no whole number of blocks */
bool dtype_bytes(Dtype t, int64_t rows, int64_t cols, size_t *out);

/* Scalar conversions; to 16 bits rounds to nearest even, NaN stays NaN. */
static inline float bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float    f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
float    f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
float    f8_e4m3_to_f32(uint8_t b); /* 0x7f and 0xff are NaN; there is no infinity */
uint8_t  f32_to_f8_e4m3(float f);   /* nearest even; over 464 is NaN (a quantiser scales below 448 first) */
/* n elements of a weight type t to f32 and back; F8 without its scale; src and dst need no alignment except as float.
 * Of a block type n is a number of whole blocks.  Other types give NaN, and nothing is written back (nor in blocks). */
void dtype_to_f32(Dtype t, const void *src, float *dst, size_t n);
void dtype_from_f32(Dtype t, const float *src, void *dst, size_t n);

/* F8 weights have one f32 factor per block of 128 x 128; the last row and column of blocks may be partial. */
enum { F8_BLOCK = 128, QUANT_GROUP = 32 };
static inline int f8_blocks(int n) { return n / F8_BLOCK + (n % F8_BLOCK != 0); }
/* Columns [col0, col0 + n) of a row that begins at `row`, of any weight type; any col0 and n within the row.
 * scale: F8's factors of this row, one per 128 columns; NULL: none.  Each value is rounded once per operation, in the order
 * in which the format defines it, so it does not depend on how a row is cut. */
void dtype_row_to_f32(Dtype t, const void *row, const float *scale, int64_t col0, int64_t n, float *dst);

/* The other way (quant_pack.c): n columns, of a block type whole blocks, by a search for the least weighted squared error;
 * weight: of each column, at least 0; NULL: all alike.  Deterministic.  Types that are written: dtype_encodes. */
void dtype_row_from_f32(Dtype t, const float *src, const float *weight, void *dst, int64_t n);
bool dtype_encodes(Dtype t);
/* The first of n columns that the type cannot hold: no number, infinite, or beyond f16's 65504 where that is the limit; -1: none. */
int64_t dtype_row_unfit(Dtype t, const float *src, int64_t n);

#endif
