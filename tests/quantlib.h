/* Blocks of every coded type for tests: random bytes under scales of an ordinary size. */
#ifndef AHA_QUANTLIB_H
#define AHA_QUANTLIB_H

#include "base/base.h"
#include "tensor/dtype.h"

/* where a block's f16 scales lie; IQ1_M scatters its one and MXFP4 has an exponent */
static const struct {
    Dtype type;
    int   at[2]; /* -1: none */
} QUANT_SCALES[] = {
    {DT_Q4_0, {0, -1}},    {DT_Q4_1, {0, 2}},     {DT_Q5_0, {0, -1}},    {DT_Q5_1, {0, 2}},    {DT_Q8_0, {0, -1}},   {DT_Q2_K, {80, 82}},
    {DT_Q3_K, {108, -1}},  {DT_Q4_K, {0, 2}},     {DT_Q5_K, {0, 2}},     {DT_Q6_K, {208, -1}}, {DT_IQ1_S, {0, -1}},  {DT_IQ1_M, {-1, -1}},
    {DT_IQ2_XXS, {0, -1}}, {DT_IQ2_XS, {0, -1}},  {DT_IQ2_S, {0, -1}},   {DT_IQ3_XXS, {0, -1}}, {DT_IQ3_S, {0, -1}}, {DT_IQ4_NL, {0, -1}},
    {DT_IQ4_XS, {0, -1}},  {DT_TQ1_0, {52, -1}},  {DT_MXFP4, {-1, -1}},
};
enum { QUANT_TYPES = sizeof(QUANT_SCALES) / sizeof(QUANT_SCALES[0]) };

/* n blocks of QUANT_SCALES[k].type whose values are a few hundredths to a few units */
static void quant_random(Rng *r, int k, uint8_t *block, size_t n)
{
    Dtype  t = QUANT_SCALES[k].type;
    size_t size = (size_t)dtype_info(t)->block_bytes;
    for (; n > 0; n--, block += size) {
        for (size_t i = 0; i < size; i++) block[i] = (uint8_t)rng_u32(r);
        for (int i = 0; i < 2; i++) {
            uint16_t h = f32_to_f16((rng_float(r) - 0.5f) * 0.01f);
            if (QUANT_SCALES[k].at[i] >= 0) memcpy(block + QUANT_SCALES[k].at[i], &h, 2);
        }
        if (t == DT_MXFP4) block[0] = (uint8_t)(120 + rng_below(r, 4));
        if (t == DT_IQ1_M) block[55] = (uint8_t)((block[55] & 0x0f) | 0x20);
    }
}

#endif
