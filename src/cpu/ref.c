/* The reference table, and the kernels that copy or round: nothing is summed here. */
#include "ref.h"

#include <float.h>

void kernels_init_ref(Kernels *k)
{
#define X(name, isa) k->name = name##_ref;
    KERNEL_TABLE(X)
#undef X
}

static void embed_coded(const EmbedArgs *a, int64_t row, real *out)
{
    const DtypeInfo *info = dtype_info(a->type);
    const uint8_t   *p = (const uint8_t *)a->table + row * (a->D / info->block) * info->block_bytes;
    const float     *scale = a->scale ? a->scale + row / F8_BLOCK * f8_blocks(a->D) : NULL;
    float            part[256];
    for (int d = 0; d < a->D; d += 256) {
        int n = a->D - d < 256 ? a->D - d : 256;
        dtype_row_to_f32(a->type, p, scale, d, n, part);
        for (int i = 0; i < n; i++) out[d + i] = (real)part[i];
    }
}

REF(embed)
{
    const EmbedArgs *a = args;
    (void)scratch;
    if (dtype_is_coded(a->type)) {
        for (int64_t t = i0; t < i1; t++) embed_coded(a, a->token[t], a->out + t * a->D);
        return;
    }
    for (int64_t t = i0; t < i1; t++)
        for (int d = 0; d < a->D; d++)
            a->out[t * a->D + d] = ref_load(a->type, a->table, (int64_t)a->token[t] * a->D + d);
}

REF(embed_back)
{
    const EmbedBackArgs *a = args;
    (void)scratch;
    for (int64_t t = 0; t < a->n; t++)
        for (int64_t d = i0; d < i1; d++) a->dtable[(int64_t)a->token[t] * a->D + d] += a->dout[t * a->D + d];
}

REF(add)
{
    const AddArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int i = 0; i < a->cols; i++)
            a->y[r * a->y_row + i] = r_fma(a->scale, a->b[r * a->b_row + i], a->a[r * a->a_row + i]);
}

REF(col_sum)
{
    const ColSumArgs *a = args;
    (void)scratch;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t i = i0; i < i1; i++) a->y[i] += a->x[r * a->x_row + i];
}

REF(gather)
{
    const GatherArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        memcpy(a->y + r * a->cols, a->x + a->row[r] * a->x_row, (size_t)a->cols * sizeof(real));
}

static void store(Dtype t, void *dst, int64_t i, real v)
{
    switch (t) {
    case DT_F16: ((uint16_t *)dst)[i] = f32_to_f16((float)v); break;
    case DT_BF16: ((uint16_t *)dst)[i] = f32_to_bf16((float)v); break;
    default: ((real *)dst)[i] = v;
    }
}

/* 32 columns as a block of Q8_0 (kernels.h) */
static void store_q8(uint8_t *dst, const real *x)
{
    float    max = 0, d;
    bool     number = true;
    uint16_t half;
    for (int i = 0; i < KV_Q8_COLS; i++) {
        float v = (float)x[i], size = v < 0 ? -v : v;
        number &= size <= FLT_MAX;
        if (size > max) max = size;
    }
    half = f32_to_f16(max / 127);
    d = f16_to_f32(half);
    if (!number || d > FLT_MAX) half = 0x7e00;
    memcpy(dst, &half, sizeof half);
    for (int i = 0; i < KV_Q8_COLS; i++) {
        float q = half == 0x7e00 || d == 0 ? 0 : (float)x[i] / d;
        q = q > 127 ? 127 : q < -127 ? -127 : q;
        dst[2 + i] = (uint8_t)(int8_t)(q + (q < 0 ? -0.5f : 0.5f));
    }
}

/* 32 columns of position j into their block of a page */
static void page_q8(uint8_t *block, const real *x, int j, bool keys)
{
    uint8_t one[KV_Q8_BYTES];
    store_q8(one, x);
    memcpy(block + 2 * j, one, 2);
    for (int d = 0; d < KV_Q8_COLS; d++) block[keys ? kv_key_at(DT_Q8_0, j, d) : kv_val_at(DT_Q8_0, 0, j, d)] = one[2 + d];
}

REF(kv_store)
{
    const KvStoreArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int c = 0; c < a->cols; c += a->head) {
            const real *x = &a->x[r * a->x_row + c];
            uint8_t    *at = (uint8_t *)a->dst[r] + (size_t)(c / a->head) * a->head_step;
            int         j = a->pos[r] % KV_PAGE;
            if (a->to == DT_Q8_0)
                for (int d = 0; d < a->head; d += KV_Q8_COLS) page_q8(at + d / KV_Q8_COLS * KV_Q8_BLOCK, x + d, j, a->keys);
            else
                for (int d = 0; d < a->head; d++) store(a->to, at, a->keys ? kv_key_at(a->to, j, d) : kv_val_at(a->to, a->head, j, d), x[d]);
        }
}

static void round_q8(real *x, int cols)
{
    for (int i = 0; i < cols; i += KV_Q8_COLS) {
        uint8_t block[KV_Q8_BYTES];
        store_q8(block, x + i);
        for (int j = 0; j < KV_Q8_COLS; j++) x[i + j] = (real)ref_load_q8(block, j);
    }
}

REF(round)
{
    const RoundArgs *a = args;
    (void)scratch;
    if (a->type == DT_F32) return;
    if (a->type == DT_Q8_0) {
        for (int64_t r = i0; r < i1; r++) round_q8(&a->x[r * a->x_row], a->cols);
        return;
    }
    for (int64_t r = i0; r < i1; r++)
        for (int i = 0; i < a->cols; i++) {
            real *x = &a->x[r * a->x_row + i], h; /* h: room for any type */
            store(a->type, &h, 0, *x);
            *x = ref_load(a->type, &h, 0);
        }
}
