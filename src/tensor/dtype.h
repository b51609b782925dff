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
    DT_COUNT
} Dtype;

typedef struct DtypeInfo {
    const char *name;        /* as safetensors spells it: "F32", "BF16", "F8_E4M3" */
    int         block;       /* elements per block, along a row */
    int         block_bytes; /* bytes per block */
    bool        weight;      /* linear, embed and moe can compute with it */
} DtypeInfo;

const DtypeInfo *dtype_info(Dtype t); /* NULL for a number that is no type */
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
 * Other types give NaN, and nothing is written back. */
void dtype_to_f32(Dtype t, const void *src, float *dst, size_t n);
void dtype_from_f32(Dtype t, const float *src, void *dst, size_t n);

#endif
