#include "stripe.h"

#include <string.h>

#include "tensor.h"

static void block_to(const StripeForm *f, const uint8_t *from, int r, uint8_t *word, uint8_t *odd)
{
    for (int w = 0; w < f->words; w++) memcpy(word + (w * STRIPE_ROWS + r) * 4, from + f->lead + 4 * w, 4);
    memcpy(odd + r * f->odd, from + (f->lead ? 0 : 4 * f->words), (size_t)f->odd);
}

/* sixteen rows of n blocks that are one number of `size` bytes */
static inline void turn(const int size, const uint8_t *from, int64_t row, int64_t n, uint8_t *to)
{
    for (int64_t k = 0; k < n; k++)
        for (int r = 0; r < STRIPE_ROWS; r++, to += size) memcpy(to, from + r * row + k * size, (size_t)size);
}

void stripe_matrix(Dtype t, const uint8_t *from, int64_t rows, int64_t blocks, uint8_t *to)
{
    const StripeForm f = stripe_form(t);
    const int64_t    bytes = 4 * f.words + f.odd, row = blocks * bytes, whole = rows / STRIPE_ROWS * STRIPE_ROWS;
    for (int64_t n = 0; n < whole; n += STRIPE_ROWS) {
        if (bytes == 2 || bytes == 4) {
            if (bytes == 2) turn(2, from + n * row, row, blocks, to + n * row);
            else turn(4, from + n * row, row, blocks, to + n * row);
            continue;
        }
        uint8_t *word = to + n * row, *odd = word + blocks * f.words * 4 * STRIPE_ROWS;
        for (int64_t k = 0; k < blocks; k++, word += f.words * 4 * STRIPE_ROWS, odd += f.odd * STRIPE_ROWS)
            for (int r = 0; r < STRIPE_ROWS; r++) block_to(&f, from + (n + r) * row + k * bytes, r, word, odd);
    }
    memcpy(to + whole * row, from + whole * row, (size_t)((rows - whole) * row));
}

void stripe_block(Dtype t, Stripe s, int r, uint8_t *to)
{
    const StripeForm f = stripe_form(t);
    for (int w = 0; w < f.words; w++) memcpy(to + f.lead + 4 * w, s.word + (w * STRIPE_ROWS + r) * 4, 4);
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

void weight_settle(Weight *w, void *to)
{
    if (!has_stripes(w)) return;
    stripe_matrix(w->dtype, w->data, w->rows, w->cols / stripe_cols(w->dtype), to);
    atomic_store_explicit(&w->settled, to, memory_order_release);
}
