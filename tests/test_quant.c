/* The decoders of GGUF's block types and of scaled F8 against values made by the gguf package (tools/quant_golden.py), and
 * a row cut anywhere against the whole. */
#include <math.h>

#include "format/format.h"
#include "quantlib.h"
#include "testlib.h"

static WeightFile *golden(void)
{
    WeightFile *w;
    aha_error   e = {0};
    ASSERT_OK(weights_open(&w, "tests/data/quant/blocks.safetensors", &e), e);
    return w;
}

static const TensorInfo *find(const WeightFile *w, const char *type, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", type, what);
    const TensorInfo *t = weights_find(w, name);
    if (!t) fail_msg("no %s", name);
    return t;
}

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return isnan(f) ? 0x7fc00000u : u;
}

/* the same bits, or both NaN */
static void equals_package(void **state)
{
    WeightFile *w = golden();
    (void)state;
    for (int k = 0; k < QUANT_TYPES; k++) {
        const DtypeInfo  *d = dtype_info(QUANT_SCALES[k].type);
        const TensorInfo *b = find(w, d->name, "blocks"), *v = find(w, d->name, "values");
        int64_t           n = b->dim[0];
        assert_true(b->dim[1] == d->block_bytes && v->dim[0] == n && v->dim[1] == d->block);
        float *y = mem_alloc((size_t)(n * d->block) * sizeof *y);
        dtype_to_f32(QUANT_SCALES[k].type, b->data, y, (size_t)(n * d->block));
        for (int64_t i = 0; i < n * d->block; i++) {
            float want;
            memcpy(&want, (const uint8_t *)v->data + 4 * i, 4);
            if (bits(want) != bits(y[i]))
                fail_msg("%s: block %lld, column %lld: %.9g, expected %.9g", d->name, (long long)(i / d->block), (long long)(i % d->block),
                         (double)y[i], (double)want);
        }
        mem_free(y);
    }
    weights_close(w);
}

static uint64_t splitmix(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* 2048 random blocks, by their checksum: every row of every grid is among them */
static void equals_package_on_many(void **state)
{
    enum { MANY = 2048 };
    WeightFile *w = golden();
    (void)state;
    for (int k = 0; k < QUANT_TYPES; k++) {
        const DtypeInfo *d = dtype_info(QUANT_SCALES[k].type);
        uint64_t         sum = 0, want, at = 0;
        uint8_t          block[256];
        memcpy(&want, find(w, d->name, "sum")->data, 8);
        for (uint64_t i = 0; i < MANY; i++) {
            float y[256];
            for (int j = 0; j < d->block_bytes; j++, at++) block[j] = (uint8_t)(splitmix(at / 8) >> 8 * (at % 8));
            dtype_to_f32(QUANT_SCALES[k].type, block, y, (size_t)d->block);
            for (uint64_t j = 0; j < (uint64_t)d->block; j++) sum += bits(y[j]) * (2 * (i * (uint64_t)d->block + j) + 1);
        }
        if (sum != want) fail_msg("%s: the checksum of %d blocks differs", d->name, MANY);
    }
    weights_close(w);
}

static void cut_rows(void **state)
{
    Rng r = {1, 2, 0};
    (void)state;
    for (int k = 0; k < QUANT_TYPES; k++) {
        Dtype   t = QUANT_SCALES[k].type;
        int     block = dtype_info(t)->block, cols = 3 * 256, n_block = cols / block;
        uint8_t row[24 * 64 + 3 * 256], *p = row + 1; /* not aligned */
        float   whole[3 * 256], part[3 * 256 + 1];
        quant_random(&r, k, p, (size_t)n_block);
        dtype_row_to_f32(t, p, NULL, 0, cols, whole);
        for (int i = 0; i < 400; i++) {
            int from = (int)rng_below(&r, (uint32_t)cols), n = (int)rng_below(&r, (uint32_t)(cols - from + 1));
            part[n] = 12345;
            dtype_row_to_f32(t, p, NULL, from, n, part);
            assert_memory_equal(part, whole + from, (size_t)n * sizeof *part);
            assert_true(part[n] == 12345);
        }
        double size = 0;
        for (int i = 0; i < cols; i++) {
            assert_true(isfinite(whole[i]));
            size = fmax(size, fabs((double)whole[i]));
        }
        assert_true(size > 1e-3 && size < 100);
    }
}

static void f8_equals_pytorch(void **state)
{
    WeightFile       *w = golden();
    const TensorInfo *t = find(w, "F8_E4M3", "values");
    (void)state;
    for (uint32_t i = 0; i < 256; i++) {
        float want;
        memcpy(&want, (const uint8_t *)t->data + 4 * i, 4);
        assert_int_equal(bits(want), bits(f8_e4m3_to_f32((uint8_t)i)));
    }
    weights_close(w);
}

static void scaled_f8(void **state)
{
    uint8_t row[300];
    float   scale[3] = {0.5f, 3, 1e-3f}, y[300];
    (void)state;
    for (int i = 0; i < 300; i++) row[i] = (uint8_t)(i * 7 % 120);
    dtype_row_to_f32(DT_F8_E4M3, row, scale, 100, 200, y);
    for (int i = 0; i < 200; i++) assert_true(y[i] == f8_e4m3_to_f32(row[100 + i]) * scale[(100 + i) / 128]);
    dtype_row_to_f32(DT_F8_E4M3, row, NULL, 3, 5, y);
    for (int i = 0; i < 5; i++) assert_true(y[i] == f8_e4m3_to_f32(row[3 + i]));
    assert_true(f8_blocks(1) == 1 && f8_blocks(128) == 1 && f8_blocks(129) == 2 && f8_blocks(576) == 5 && f8_blocks(INT32_MAX) == 1 << 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_package), cmocka_unit_test(equals_package_on_many), cmocka_unit_test(cut_rows), cmocka_unit_test(f8_equals_pytorch),
                                       cmocka_unit_test(scaled_f8)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
