/* The table of data types, the exact scalar conversions between them, and rows of any type as f32. */
#include "quant.h"

static const DtypeInfo TABLE[DT_COUNT] = {
    [DT_F32] = {"F32", 1, 4, true},         [DT_F16] = {"F16", 1, 2, true}, [DT_BF16] = {"BF16", 1, 2, true},
    [DT_F8_E4M3] = {"F8_E4M3", 1, 1, true}, [DT_I32] = {"I32", 1, 4, false}, [DT_I64] = {"I64", 1, 8, false},
    [DT_U8] = {"U8", 1, 1, false},          [DT_I8] = {"I8", 1, 1, false},  [DT_BOOL] = {"BOOL", 1, 1, false},
    [DT_F64] = {"F64", 1, 8, false},
    [DT_Q4_0] = {"Q4_0", 32, 18, true},     [DT_Q4_1] = {"Q4_1", 32, 20, true},       [DT_Q5_0] = {"Q5_0", 32, 22, true},
    [DT_Q5_1] = {"Q5_1", 32, 24, true},     [DT_Q8_0] = {"Q8_0", 32, 34, true},       [DT_Q2_K] = {"Q2_K", 256, 84, true},
    [DT_Q3_K] = {"Q3_K", 256, 110, true},   [DT_Q4_K] = {"Q4_K", 256, 144, true},     [DT_Q5_K] = {"Q5_K", 256, 176, true},
    [DT_Q6_K] = {"Q6_K", 256, 210, true},   [DT_IQ1_S] = {"IQ1_S", 256, 50, true},    [DT_IQ1_M] = {"IQ1_M", 256, 56, true},
    [DT_IQ2_XXS] = {"IQ2_XXS", 256, 66, true}, [DT_IQ2_XS] = {"IQ2_XS", 256, 74, true}, [DT_IQ2_S] = {"IQ2_S", 256, 82, true},
    [DT_IQ3_XXS] = {"IQ3_XXS", 256, 98, true}, [DT_IQ3_S] = {"IQ3_S", 256, 110, true}, [DT_IQ4_NL] = {"IQ4_NL", 32, 18, true},
    [DT_IQ4_XS] = {"IQ4_XS", 256, 136, true}, [DT_TQ1_0] = {"TQ1_0", 256, 54, true},  [DT_MXFP4] = {"MXFP4", 32, 17, true},
};

const DtypeInfo *dtype_info(Dtype t)
{
    return (unsigned)t < DT_COUNT ? &TABLE[t] : NULL;
}

bool dtype_from_name(const char *name, size_t n, Dtype *out)
{
    for (int i = 0; i < DT_COUNT; i++) {
        if (strlen(TABLE[i].name) != n || memcmp(TABLE[i].name, name, n) != 0) continue;
        *out = (Dtype)i;
        return true;
    }
    return false;
}

bool dtype_bytes(Dtype t, int64_t rows, int64_t cols, size_t *out)
{
    const DtypeInfo *d = dtype_info(t);
    size_t           per_row, all;
    if (!d || rows < 0 || cols < 0 || cols % d->block != 0) return false;
    if (__builtin_mul_overflow((uint64_t)(cols / d->block), (uint64_t)d->block_bytes, &per_row)) return false;
    if (__builtin_mul_overflow((uint64_t)rows, per_row, &all)) return false;
    *out = all;
    return true;
}

static float bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* A NaN comes back quiet with its payload, as the processors' own conversion instructions do it. */
float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 0x1fu, man = h & 0x3ffu;
    if (exp == 0x1f) return bits_f32(sign | 0x7f800000u | man << 13 | (man ? 0x400000u : 0));
    if (exp) return bits_f32(sign | (exp + 112) << 23 | man << 13);
    float f = (float)man * 0x1p-24f; /* zero and subnormals: exact in f32 */
    return sign ? -f : f;
}

uint16_t f32_to_f16(float f)
{
    uint32_t u = f32_bits(f), a = u & 0x7fffffffu;
    uint32_t sign = (u >> 16) & 0x8000u, h;
    if (a > 0x7f800000u) {
        h = 0x7e00u | ((a >> 13) & 0x3ffu);
    } else if (a >= 0x477ff000u) { /* 65520 and above round to infinity */
        h = 0x7c00u;
    } else if (a >= 0x38800000u) { /* normal: 2^-14 and above; the rounding carry may move the exponent */
        a -= 112u << 23;
        h = (a + 0xfffu + ((a >> 13) & 1u)) >> 13;
    } else if (a <= 0x33000000u) { /* at most half of the smallest subnormal: a tie goes to even, to zero */
        h = 0;
    } else {
        uint32_t man = (a & 0x7fffffu) | 0x800000u, shift = 126u - (a >> 23); /* 14..24 */
        uint32_t half = 1u << (shift - 1), q = man >> shift, rest = man & ((1u << shift) - 1);
        h = q + (rest > half || (rest == half && (q & 1u)));
    }
    return (uint16_t)(sign | h);
}

float f8_e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80u) << 24, a = b & 0x7fu;
    uint32_t small = f32_bits((float)a * 0x1p-9f), normal = (a << 20) + (120u << 23), u = a < 8 ? small : normal; /* small: exponent 0 */
    return bits_f32(sign | (a == 0x7fu ? 0x7fc00000u : u));
}

uint8_t f32_to_f8_e4m3(float f)
{
    uint32_t u = f32_bits(f), a = u & 0x7fffffffu, sign = (u >> 24) & 0x80u, b;
    if (a > 0x43e80000u) { /* over 464, the tie between 448 and the missing 480 */
        b = 0x7f;
    } else if (a >= 0x3c800000u) { /* normal: 2^-6 and above */
        a -= 120u << 23;
        b = (a + 0x7ffffu + ((a >> 20) & 1u)) >> 20;
    } else if (a <= 0x3a800000u) { /* at most 2^-10, half of the smallest subnormal */
        b = 0;
    } else {
        uint32_t man = (a & 0x7fffffu) | 0x800000u, shift = 141u - (a >> 23); /* 21..24 */
        uint32_t half = 1u << (shift - 1), q = man >> shift, rest = man & ((1u << shift) - 1);
        b = q + (rest > half || (rest == half && (q & 1u)));
    }
    return (uint8_t)(sign | b);
}

void dtype_to_f32(Dtype t, const void *src, float *dst, size_t n)
{
    const uint8_t *s = src;
    switch (t) {
    case DT_F32:
        if (n) memcpy(dst, src, n * 4);
        break;
    case DT_F16:
        for (size_t i = 0; i < n; i++) dst[i] = f16_to_f32(quant_u16(s + 2 * i));
        break;
    case DT_BF16:
        for (size_t i = 0; i < n; i++) dst[i] = bf16_to_f32(quant_u16(s + 2 * i));
        break;
    case DT_F8_E4M3:
        for (size_t i = 0; i < n; i++) dst[i] = f8_e4m3_to_f32(s[i]);
        break;
    default:
        if (dtype_is_blocked(t)) dtype_row_to_f32(t, src, NULL, 0, (int64_t)n, dst);
        for (size_t i = 0; !dtype_is_blocked(t) && i < n; i++) dst[i] = bits_f32(0x7fc00000u); /* no weight type: loud, not plausible */
        break;
    }
}

static void f8_row(const uint8_t *row, const float *scale, int64_t col0, int64_t n, float *dst)
{
    dtype_to_f32(DT_F8_E4M3, row + col0, dst, (size_t)n);
    for (int64_t i = 0; scale && i < n; i++) dst[i] *= scale[(col0 + i) / F8_BLOCK];
}

static void group_to_f32(const QuantForm *f, const uint8_t *block, int g, float *y)
{
    QuantGroup q;
    f->group(block, g, &q);
    for (int i = 0; i < QUANT_GROUP; i++) y[i] = q.d * q.s[i / 16] * (float)q.v[i];
    for (int i = 0; f->min && i < QUANT_GROUP; i++) y[i] -= q.e * q.m[i / 16];
}

/* A group of 32 columns is the smallest part that every block type decodes on its own; one that is cut goes through a copy. */
static void blocked_row(Dtype t, const uint8_t *row, int64_t col0, int64_t n, float *dst)
{
    const DtypeInfo *d = &TABLE[t];
    const QuantForm *form = quant_form(t);
    int              groups = d->block / QUANT_GROUP;
    for (int64_t g = col0 / QUANT_GROUP; n > 0; g++) {
        const uint8_t *block = row + g / groups * d->block_bytes;
        int            from = (int)(col0 % QUANT_GROUP), take = n < QUANT_GROUP - from ? (int)n : QUANT_GROUP - from;
        float          part[QUANT_GROUP];
        group_to_f32(form, block, (int)(g % groups), take == QUANT_GROUP ? dst : part);
        if (take < QUANT_GROUP) memcpy(dst, part + from, (size_t)take * sizeof *dst);
        dst += take;
        col0 += take;
        n -= take;
    }
}

void dtype_row_to_f32(Dtype t, const void *row, const float *scale, int64_t col0, int64_t n, float *dst)
{
    if (t == DT_F8_E4M3) f8_row(row, scale, col0, n, dst);
    else if (dtype_is_blocked(t)) blocked_row(t, row, col0, n, dst);
    else dtype_to_f32(t, (const uint8_t *)row + (size_t)col0 * (size_t)TABLE[t].block_bytes, dst, (size_t)n);
}

void dtype_from_f32(Dtype t, const float *src, void *dst, size_t n)
{
    uint8_t *d = dst;
    switch (t) {
    case DT_F32:
        if (n) memcpy(dst, src, n * 4);
        break;
    case DT_F16:
    case DT_BF16:
        for (size_t i = 0; i < n; i++) {
            uint16_t h = t == DT_F16 ? f32_to_f16(src[i]) : f32_to_bf16(src[i]);
            memcpy(d + 2 * i, &h, 2);
        }
        break;
    case DT_F8_E4M3:
        for (size_t i = 0; i < n; i++) d[i] = f32_to_f8_e4m3(src[i]);
        break;
    default: break;
    }
}
