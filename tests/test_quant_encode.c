/* The encoders of block types: decoding gives the rows back within each type's error, whatever the rows hold. */
#include <math.h>

#include "base/base.h"
#include "tensor/quant_encode.h"
#include "testlib.h"

enum { COLS = 256 * 64 };
static const struct {
    Dtype  type;
    double rmse; /* on a normal row, relative to it: measured, and a little; the gguf package has Q8_0 at 0.0054, Q4_0 at 0.086 */
} TYPES[] = {{DT_Q8_0, 0.0053}, {DT_Q6_K, 0.018}, {DT_Q5_K, 0.040}, {DT_Q4_K, 0.080}, {DT_IQ4_XS, 0.080}, {DT_Q4_0, 0.085}, {DT_Q3_K, 0.16}, {DT_Q2_K, 0.32}};

static float g_x[COLS], g_w[COLS], g_y[COLS];
static uint8_t g_block[COLS * 2];

static double error_of(Dtype t, const float *weight, bool weighted)
{
    double diff = 0, size = 0;
    dtype_row_from_f32(t, g_x, weight, g_block, COLS);
    dtype_to_f32(t, g_block, g_y, COLS);
    for (int i = 0; i < COLS; i++) {
        double r = (double)g_x[i] - (double)g_y[i], w = weighted ? (double)g_w[i] : 1;
        assert_true(isfinite(r));
        diff += w * r * r;
        size += w * (double)g_x[i] * (double)g_x[i];
    }
    return size > 0 ? sqrt(diff / size) : sqrt(diff);
}

static void fill_normal(float scale)
{
    Rng r = {7, 1, 0};
    for (int i = 0; i < COLS; i++) g_x[i] = rng_normal(&r) * scale;
    for (int i = 0; i < COLS; i++) g_w[i] = expf(2 * rng_normal(&r));
}

static void normal_rows(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(TYPES); k++) {
        fill_normal(0.02f);
        double plain = error_of(TYPES[k].type, NULL, false), cold = error_of(TYPES[k].type, NULL, true), warm = error_of(TYPES[k].type, g_w, true);
        print_message("%-7s error %.5f; where columns weigh differently %.5f, told so %.5f\n", dtype_info(TYPES[k].type)->name, plain, cold, warm);
        assert_true(plain < TYPES[k].rmse);
        assert_true(warm <= cold);
    }
}

/* zero stays zero; one large column among small ones; constants; one sign; up to f16's largest */
static void hard_rows(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(TYPES); k++) {
        Dtype  t = TYPES[k].type;
        double most = 2 * TYPES[k].rmse;
        for (int i = 0; i < COLS; i++) g_x[i] = 0;
        assert_true(error_of(t, NULL, false) == 0);
        for (int i = 0; i < COLS; i++) g_x[i] = i % 256 == 9 ? -65504.0f : 1e-3f;
        assert_true(error_of(t, NULL, false) < most);
        for (int i = 0; i < COLS; i++) g_x[i] = 65504.0f;
        assert_true(error_of(t, NULL, false) < most);
        fill_normal(1);
        for (int i = 0; i < COLS; i++) g_x[i] = fabsf(g_x[i]);
        assert_true(error_of(t, NULL, false) < most);
        for (int i = 0; i < COLS; i++) g_x[i] = -g_x[i];
        assert_true(error_of(t, NULL, false) < most);
        for (int i = 0; i < COLS; i++) g_x[i] = 1e-30f;
        assert_true(error_of(t, NULL, false) <= 1);
    }
}

static void same_bits(void **state)
{
    static uint8_t again[COLS * 2];
    size_t         bytes;
    (void)state;
    fill_normal(3);
    for (size_t k = 0; k < ARRAY_LEN(TYPES); k++) {
        dtype_row_from_f32(TYPES[k].type, g_x, g_w, g_block, COLS);
        for (int i = 0; i < COLS; i += 256) { /* a block does not depend on its neighbours */
            assert_true(dtype_bytes(TYPES[k].type, 1, i, &bytes));
            dtype_row_from_f32(TYPES[k].type, g_x + i, g_w + i, again + bytes, 256);
        }
        assert_true(dtype_bytes(TYPES[k].type, 1, COLS, &bytes));
        assert_memory_equal(again, g_block, bytes);
    }
}

/* The processor's own vectors give the bits of the plain ones. */
static void every_isa(void **state)
{
    static const QuantShape SHAPE[] = {{1, 32, 1, 1, -127, 127, NULL, false}, {16, 16, 0, 15, 0, 3, NULL, true}, {16, 16, -32, 31, -4, 3, NULL, false},
                                       {8, 32, 0, 63, 0, 15, NULL, true}, {8, 32, -32, 31, -127, 113, QUANT_IQ4_VALUE, false}};
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        fill_normal(kind == 1 ? 1e-30f : 1);
        for (int i = 0; i < COLS; i++) g_x[i] *= kind == 2 && i % 256 == 7 ? 65504 : kind == 3 ? g_x[i] : kind == 4 ? g_x[i] * g_x[i] : 1;
        for (int i = 0; kind == 5 && i < COLS; i++) g_x[i] = roundf(2 * g_x[i]);
        for (size_t s = 0; s < ARRAY_LEN(SHAPE); s++)
            for (int i = 0, n = SHAPE[s].subs * SHAPE[s].width; i < COLS; i += n) {
                QuantBlock a, b;
                memset(&a, 0, sizeof a);
                memset(&b, 0, sizeof b);
                const float *w = i % (2 * n) ? g_w + i : NULL;
                quant_search_by(true, &SHAPE[s], g_x + i, w, &a);
                quant_search_by(false, &SHAPE[s], g_x + i, w, &b);
                assert_true(a.d == b.d && (!SHAPE[s].min || a.dmin == b.dmin));
                assert_memory_equal(a.q, b.q, (size_t)n);
                assert_memory_equal(a.scale, b.scale, (size_t)SHAPE[s].subs * sizeof *a.scale);
                assert_memory_equal(a.min, b.min, (size_t)SHAPE[s].subs * sizeof *a.min);
            }
    }
}

static void unfit(void **state)
{
    float x[4] = {1, 65504, 65505, 1};
    (void)state;
    assert_true(dtype_row_unfit(DT_Q4_K, x, 4) == 2 && dtype_row_unfit(DT_BF16, x, 4) == -1 && dtype_row_unfit(DT_Q8_0, x, 2) == -1);
    x[0] = NAN;
    assert_true(dtype_row_unfit(DT_F32, x, 4) == 0);
    x[0] = -INFINITY;
    assert_true(dtype_row_unfit(DT_BF16, x, 4) == 0);
    assert_true(dtype_encodes(DT_IQ4_XS) && dtype_encodes(DT_F16) && !dtype_encodes(DT_IQ1_S) && !dtype_encodes(DT_F8_E4M3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(normal_rows), cmocka_unit_test(hard_rows), cmocka_unit_test(same_bits),
                                       cmocka_unit_test(every_isa), cmocka_unit_test(unfit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
