#include "stripe.h"

#include <string.h>

#include "tensor.h"

/* sixteen rows of n blocks that are one number of `size` bytes */
static inline void turn(const int size, const uint8_t *from, int64_t row, int64_t n, uint8_t *to)
{
    for (int64_t k = 0; k < n; k++)
        for (int r = 0; r < STRIPE_ROWS; r++, to += size) memcpy(to, from + r * row + k * size, (size_t)size);
}

static void turn_blocks(Dtype t, const uint8_t *from, int64_t row, int64_t blocks, uint8_t *to)
{
    const StripeForm f = stripe_form(t);
    for (int64_t k = 0; k < blocks; k++) {
        const Stripe s = stripe_block(f, (StripeRows){to, blocks}, k);
        uint8_t     *word = to + (s.word - to), *odd = to + (s.odd - to);
        for (int r = 0; r < STRIPE_ROWS; r++) {
            const uint8_t *b = from + r * row + k * dtype_info(t)->block_bytes;
            for (int w = 0; w < f.words; w++) memcpy(word + (stripe_place(t, w) * STRIPE_ROWS + r) * 4, b + f.lead + 4 * w, 4);
            memcpy(odd + r * f.odd, b + (f.lead ? 0 : 4 * f.words), (size_t)f.odd);
        }
    }
}

void stripe_matrix(Dtype t, const uint8_t *from, int64_t rows, int64_t blocks, uint8_t *to)
{
    const StripeForm f = stripe_form(t);
    const int        bytes = 4 * f.words + f.odd;
    const int64_t    row = blocks * bytes, whole = rows / STRIPE_ROWS * STRIPE_ROWS;
    for (int64_t n = 0; n < whole; n += STRIPE_ROWS) {
        if (bytes == 2) turn(2, from + n * row, row, blocks, to + n * row);
        else if (bytes == 4) turn(4, from + n * row, row, blocks, to + n * row);
        else turn_blocks(t, from + n * row, row, blocks, to + n * row);
    }
    memcpy(to + whole * row, from + whole * row, (size_t)((rows - whole) * row));
}

void stripe_row(Dtype t, Stripe s, int r, uint8_t *to)
{
    const StripeForm f = stripe_form(t);
    for (int w = 0; w < f.words; w++) memcpy(to + f.lead + 4 * w, s.word + (stripe_place(t, w) * STRIPE_ROWS + r) * 4, 4);
    memcpy(to + (f.lead ? 0 : 4 * f.words), s.odd + r * f.odd, (size_t)f.odd);
}

/* Products with stripes of F8 do not look for codes that are no numbers. */
static bool has_stripes(const Weight *w)
{
    size_t n = weight_bytes(w);
    if (w->dtype == DT_F32) return sizeof(real) == sizeof(float);
    if (w->dtype != DT_F8_E4M3) return dtype_info(w->dtype)->weight;
    return w->cols % stripe_cols(DT_F8_E4M3) == 0 && !memchr(w->data, 0x7f, n) && !memchr(w->data, 0xff, n);
}

bool weight_settle(Weight *w, void *to)
{
    if (!has_stripes(w)) return false;
    stripe_matrix(w->dtype, w->data, w->rows, w->cols / stripe_cols(w->dtype), to);
    atomic_store_explicit(&w->settled, to, memory_order_release);
    return true;
}
