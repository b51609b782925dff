/* The table of data types and the exact scalar conversions between them. */
#include "dtype.h"

static const DtypeInfo TABLE[DT_COUNT] = {
    [DT_F32] = {"F32", 1, 4, true},         [DT_F16] = {"F16", 1, 2, true}, [DT_BF16] = {"BF16", 1, 2, true},
    [DT_F8_E4M3] = {"F8_E4M3", 1, 1, true}, [DT_I32] = {"I32", 1, 4, false}, [DT_I64] = {"I64", 1, 8, false},
    [DT_U8] = {"U8", 1, 1, false},          [DT_I8] = {"I8", 1, 1, false},  [DT_BOOL] = {"BOOL", 1, 1, false},
    [DT_F64] = {"F64", 1, 8, false},
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
    uint32_t sign = (uint32_t)(b & 0x80u) << 24, exp = (b >> 3) & 0xfu, man = b & 7u;
    if ((b & 0x7fu) == 0x7fu) return bits_f32(sign | 0x7fc00000u);
    if (exp) return bits_f32(sign | (exp + 120) << 23 | man << 20);
    float f = (float)man * 0x1p-9f;
    return sign ? -f : f;
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

/* Sources lie inside a mapped file and need not be aligned. */
static uint16_t load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

void dtype_to_f32(Dtype t, const void *src, float *dst, size_t n)
{
    const uint8_t *s = src;
    switch (t) {
    case DT_F32:
        if (n) memcpy(dst, src, n * 4);
        break;
    case DT_F16:
        for (size_t i = 0; i < n; i++) dst[i] = f16_to_f32(load16(s + 2 * i));
        break;
    case DT_BF16:
        for (size_t i = 0; i < n; i++) dst[i] = bf16_to_f32(load16(s + 2 * i));
        break;
    case DT_F8_E4M3:
        for (size_t i = 0; i < n; i++) dst[i] = f8_e4m3_to_f32(s[i]);
        break;
    default: /* no weight type: loud, not plausible */
        for (size_t i = 0; i < n; i++) dst[i] = bits_f32(0x7fc00000u);
        break;
    }
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
