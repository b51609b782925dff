#include "stripe.h"

#include <string.h>

#include "tensor.h"

static void block_to(const StripeForm *f, const uint8_t *from, int r, uint8_t *word, uint8_t *odd)
{
    for (int w = 0; w < f->words; w++) memcpy(word + (w * STRIPE_ROWS + r) * 4, from + f->lead + 4 * w, 4);
    memcpy(odd + r * f->odd, from + (f->lead ? 0 : 4 * f->words), (size_t)f->odd);
}

void stripe_matrix(Dtype t, const uint8_t *from, int64_t rows, int64_t blocks, uint8_t *to)
{
    const StripeForm f = stripe_form(t);
    const int64_t    bytes = dtype_info(t)->block_bytes, row = blocks * bytes, whole = rows / STRIPE_ROWS * STRIPE_ROWS;
    for (int64_t n = 0; n < whole; n += STRIPE_ROWS) {
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

void weight_settle(Weight *w, void *to)
{
    if (dtype_is_blocked(w->dtype)) stripe_matrix(w->dtype, w->data, w->rows, w->cols / dtype_info(w->dtype)->block, to);
    else memcpy(to, w->data, weight_bytes(w));
    atomic_store_explicit(&w->settled, to, memory_order_release);
}
