/* The conversions between data types, every code of the narrow ones, against formulas in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "tensor/dtype.h"

/* A floating-point code of any width, as IEEE 754 defines it: sign, exponent, mantissa. */
static double decode(uint32_t code, int exp_bits, int man_bits, bool infinities)
{
    int    bias = (1 << (exp_bits - 1)) - 1, exp = (int)(code >> man_bits) & ((1 << exp_bits) - 1);
    int    man = (int)code & ((1 << man_bits) - 1), all_exp = (1 << exp_bits) - 1;
    double sign = code >> (exp_bits + man_bits) & 1 ? -1 : 1;
    if (infinities && exp == all_exp) return man ? NAN : sign * INFINITY;
    if (!infinities && exp == all_exp && man == (1 << man_bits) - 1) return NAN;
    if (exp == 0) return sign * ldexp(man, 1 - bias - man_bits);
    return sign * ldexp(man + (1 << man_bits), exp - bias - man_bits);
}

static void same(double want, float got)
{
    if (isnan(want)) assert_true(isnan(got));
    else assert_true(want == (double)got && !signbit(want) == !signbit(got));
}

static void f16_decodes(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) same(decode(h, 5, 10, true), f16_to_f32((uint16_t)h));
}

static void bf16_decodes(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) same(decode(h, 8, 7, true), bf16_to_f32((uint16_t)h));
}

static void f8_decodes(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 256; b++) same(decode(b, 4, 3, false), f8_e4m3_to_f32((uint8_t)b));
    assert_true(f8_e4m3_to_f32(0x7e) == 448.0f);
}

/* Between neighbouring codes: below the midpoint goes down, above it up, the midpoint itself to the even code. */
static void rounds(uint32_t (*encode)(float), double (*value)(uint32_t), uint32_t codes, uint32_t sign)
{
    for (uint32_t c = 0; c + 1 < codes; c++) {
        double lo = value(c), hi = value(c + 1), mid = lo / 2 + hi / 2;
        assert_int_equal(encode((float)lo), c);
        assert_int_equal(encode(-(float)lo), c | sign);
        assert_int_equal(encode(nextafterf((float)mid, 0)), c);
        assert_int_equal(encode(nextafterf((float)mid, INFINITY)), c + 1);
        assert_int_equal(encode((float)mid), c & 1 ? c + 1 : c);
    }
}

static uint32_t enc16(float f) { return f32_to_f16(f); }
static uint32_t encb(float f) { return f32_to_bf16(f); }
static uint32_t enc8(float f) { return f32_to_f8_e4m3(f); }
/* the code after the largest finite one stands for the first value that rounds out of range */
static double val16(uint32_t c) { return c == 0x7c00 ? 65536.0 : decode(c, 5, 10, true); }
static double val8(uint32_t c) { return c == 0x7f ? 480.0 : decode(c, 4, 3, false); }
static double valb(uint32_t c) { return decode(c, 8, 7, true); }

static void to_narrow_rounds_to_even(void **state)
{
    (void)state;
    rounds(enc16, val16, 0x7c00, 0x8000); /* up to the last finite code */
    rounds(encb, valb, 0x7f80, 0x8000);
    rounds(enc8, val8, 0x7f, 0x80);
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(f32_to_bf16(3.4e38f), 0x7f80);
    assert_int_equal(f32_to_f8_e4m3(464.0f), 0x7e);
    assert_int_equal(f32_to_f8_e4m3(464.001f), 0x7f);
    assert_int_equal(f32_to_f8_e4m3(-INFINITY), 0xff);
    assert_int_equal(f32_to_f16(0x1p-149f), 0);
}

static void nan_stays_nan(void **state)
{
    (void)state;
    for (uint32_t man = 1; man < 0x800000; man += man < 64 ? 1 : 4099) {
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint32_t u = sign << 31 | 0x7f800000u | man;
            float    f;
            memcpy(&f, &u, 4);
            assert_true(isnan(f16_to_f32(f32_to_f16(f))));
            assert_true(isnan(bf16_to_f32(f32_to_bf16(f))));
            assert_true(isnan(f8_e4m3_to_f32(f32_to_f8_e4m3(f))));
        }
    }
}

static void arrays_convert_unaligned(void **state)
{
    static const Dtype TYPE[] = {DT_F32, DT_F16, DT_BF16, DT_F8_E4M3};
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(TYPE); k++) {
        uint8_t raw[4 * 37 + 1];
        float   in[37], out[37];
        for (int i = 0; i < 37; i++) in[i] = (float)(i - 18) * 0.25f;
        dtype_from_f32(TYPE[k], in, TYPE[k] == DT_F32 ? raw : raw + 1, 37);
        dtype_to_f32(TYPE[k], TYPE[k] == DT_F32 ? raw : raw + 1, out, 37);
        for (int i = 0; i < 37; i++) assert_true(fabsf(in[i] - out[i]) <= (TYPE[k] == DT_F8_E4M3 ? 0.25f : 0));
        dtype_to_f32(TYPE[k], NULL, NULL, 0);
    }
}

static void table(void **state)
{
    Dtype  t;
    size_t n;
    (void)state;
    for (int i = 0; i < DT_COUNT; i++) {
        const DtypeInfo *d = dtype_info((Dtype)i);
        assert_non_null(d->name);
        assert_true(dtype_from_name(d->name, strlen(d->name), &t) && (int)t == i);
        assert_false(dtype_from_name(d->name, strlen(d->name) - 1, &t) && (int)t == i);
        assert_true(dtype_bytes((Dtype)i, 3, 5 * d->block, &n) && n == 15u * (size_t)d->block_bytes);
        assert_true(d->block == 1 || !dtype_bytes((Dtype)i, 3, 5 * d->block + 1, &n));
        assert_true(dtype_is_blocked((Dtype)i) == (d->block > 1) && dtype_is_coded((Dtype)i) == (d->block > 1 || i == DT_F8_E4M3));
    }
    assert_null(dtype_info(DT_COUNT));
    assert_false(dtype_from_name("f32", 3, &t));
    assert_false(dtype_from_name("", 0, &t));
    assert_false(dtype_bytes(DT_F32, -1, 1, &n));
    assert_false(dtype_bytes(DT_F32, 1, -1, &n));
    assert_false(dtype_bytes(DT_F32, INT64_MAX, 2, &n));
    assert_false(dtype_bytes(DT_F64, 1, INT64_MAX / 2, &n));
    assert_true(dtype_bytes(DT_I8, 1, INT64_MAX, &n) && n == INT64_MAX);
    assert_true(dtype_bytes(DT_F32, 0, 7, &n) && n == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_decodes),    cmocka_unit_test(bf16_decodes), cmocka_unit_test(f8_decodes), cmocka_unit_test(to_narrow_rounds_to_even),
        cmocka_unit_test(nan_stays_nan),  cmocka_unit_test(arrays_convert_unaligned), cmocka_unit_test(table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
