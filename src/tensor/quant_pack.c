/* The block types that are written: the shape of each, and how what was found lies in the block's bytes.  quant.c has the
 * layouts; every packer is the inverse of the decoder of its name there. */
#include "quant_encode.h"

#include <math.h>

static void put_u16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }

static void q8_0(const QuantBlock *b, uint8_t *y)
{
    put_u16(y, b->d);
    for (int i = 0; i < 32; i++) y[2 + i] = (uint8_t)b->q[i];
}

static void q4_0(const QuantBlock *b, uint8_t *y)
{
    put_u16(y, b->d);
    for (int i = 0; i < 16; i++) y[2 + i] = (uint8_t)((b->q[i] + 8) | (b->q[16 + i] + 8) << 4);
}

/* two bits of each column of a half's four groups in a byte */
static void put_pairs(const int8_t *q, int add, uint8_t *y)
{
    for (int i = 0; i < 256; i++) y[32 * (i / 128) + i % 32] |= (uint8_t)(((q[i] + add) & 3) << 2 * (i % 128 / 32));
}

static void q2_k(const QuantBlock *b, uint8_t *y)
{
    for (int k = 0; k < 16; k++) y[k] = (uint8_t)(b->scale[k] | b->min[k] << 4);
    put_pairs(b->q, 0, y + 16);
    put_u16(y + 80, b->d);
    put_u16(y + 82, b->dmin);
}

static void q3_k(const QuantBlock *b, uint8_t *y)
{
    for (int i = 0; i < 256; i++) y[i % 32] |= (uint8_t)((b->q[i] >= 0) << i / 32);
    put_pairs(b->q, 4, y + 32);
    for (int k = 0; k < 16; k++) {
        int s = b->scale[k] + 32;
        y[96 + k % 8] |= (uint8_t)((s & 15) << 4 * (k / 8));
        y[104 + k % 4] |= (uint8_t)((s >> 4) << 2 * (k / 4));
    }
    put_u16(y + 108, b->d);
}

static void put_scale_min(const QuantBlock *b, uint8_t *s)
{
    for (int g = 0; g < 4; g++) {
        int hs = b->scale[g + 4], hm = b->min[g + 4];
        s[g] = (uint8_t)(b->scale[g] | (hs >> 4) << 6);
        s[g + 4] = (uint8_t)(b->min[g] | (hm >> 4) << 6);
        s[g + 8] = (uint8_t)((hs & 15) | (hm & 15) << 4);
    }
}

static void put_nibbles(const int8_t *q, uint8_t *y)
{
    for (int i = 0; i < 256; i++) y[32 * (i / 64) + i % 32] |= (uint8_t)((q[i] & 15) << 4 * (i / 32 % 2));
}

static void q4_k(const QuantBlock *b, uint8_t *y)
{
    put_u16(y, b->d);
    put_u16(y + 2, b->dmin);
    put_scale_min(b, y + 4);
    put_nibbles(b->q, y + 16);
}

static void q5_k(const QuantBlock *b, uint8_t *y)
{
    put_u16(y, b->d);
    put_u16(y + 2, b->dmin);
    put_scale_min(b, y + 4);
    for (int i = 0; i < 256; i++) y[16 + i % 32] |= (uint8_t)((b->q[i] >> 4) << i / 32);
    put_nibbles(b->q, y + 48);
}

static void q6_k(const QuantBlock *b, uint8_t *y)
{
    for (int i = 0; i < 256; i++) {
        int v = b->q[i] + 32, g = i / 32;
        y[64 * (g / 4) + 32 * (g % 2) + i % 32] |= (uint8_t)((v & 15) << 4 * (g % 4 / 2));
        y[128 + 32 * (g / 4) + i % 32] |= (uint8_t)((v >> 4) << 2 * (g % 4));
    }
    for (int k = 0; k < 16; k++) y[192 + k] = (uint8_t)b->scale[k];
    put_u16(y + 208, b->d);
}

static int iq4_index(int8_t value)
{
    int i = 0;
    while (i < 15 && QUANT_IQ4_VALUE[i] != value) i++;
    return i;
}

static void iq4_xs(const QuantBlock *b, uint8_t *y)
{
    uint32_t high = 0;
    put_u16(y, b->d);
    for (int g = 0; g < 8; g++) {
        uint32_t s = (uint32_t)(b->scale[g] + 32);
        y[4 + g / 2] |= (uint8_t)((s & 15) << 4 * (g % 2));
        high |= (s >> 4) << 2 * g;
        for (int i = 0; i < 16; i++)
            y[8 + 16 * g + i] = (uint8_t)(iq4_index(b->q[32 * g + i]) | iq4_index(b->q[32 * g + 16 + i]) << 4);
    }
    put_u16(y + 2, (uint16_t)high);
}

typedef struct Writer {
    QuantShape shape; /* subs 0: not written */
    void (*pack)(const QuantBlock *b, uint8_t *y);
} Writer;

static const Writer *writer_of(Dtype t)
{
    static const Writer TABLE[DT_COUNT] = {
        [DT_Q8_0] = {{1, 32, 1, 1, -127, 127, NULL, false}, q8_0},
        [DT_Q4_0] = {{1, 32, 1, 1, -8, 7, NULL, false}, q4_0},
        [DT_Q2_K] = {{16, 16, 0, 15, 0, 3, NULL, true}, q2_k},
        [DT_Q3_K] = {{16, 16, -32, 31, -4, 3, NULL, false}, q3_k},
        [DT_Q4_K] = {{8, 32, 0, 63, 0, 15, NULL, true}, q4_k},
        [DT_Q5_K] = {{8, 32, 0, 63, 0, 31, NULL, true}, q5_k},
        [DT_Q6_K] = {{16, 16, -128, 127, -32, 31, NULL, false}, q6_k},
        [DT_IQ4_XS] = {{8, 32, -32, 31, -127, 113, QUANT_IQ4_VALUE, false}, iq4_xs},
    };
    return (unsigned)t < DT_COUNT && TABLE[t].pack ? &TABLE[t] : NULL;
}

bool dtype_encodes(Dtype t) { return t == DT_F32 || t == DT_F16 || t == DT_BF16 || writer_of(t); }

void dtype_row_from_f32(Dtype t, const float *src, const float *weight, void *dst, int64_t n)
{
    const Writer *w = writer_of(t);
    uint8_t      *y = dst;
    QuantBlock    b;
    if (!w) {
        dtype_from_f32(t, src, dst, (size_t)n);
        return;
    }
    int block = dtype_info(t)->block, bytes = dtype_info(t)->block_bytes;
    for (int64_t i = 0; i < n; i += block, y += bytes) {
        quant_search(&w->shape, src + i, weight ? weight + i : NULL, &b);
        memset(y, 0, (size_t)bytes);
        w->pack(&b, y);
    }
}

int64_t dtype_row_unfit(Dtype t, const float *src, int64_t n)
{
    float most = t == DT_F32 || t == DT_BF16 ? INFINITY : 65504.0f; /* what f16 holds: scales of blocks are f16 */
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(src[i]) || fabsf(src[i]) > most) return i;
    return -1;
}
