/* Llama 3's scaling of rope's frequencies, found again from its result: GGUF files keep what each frequency is divided by.
 *
 * Between the two wavelengths 1 / f = (1 - s) / F + s with s = (original / wavelength - low) / (high - low): a line over 1 / wavelength, so
 * two frequencies on it give two of the three numbers, and low is 1 in what is published. */
#include <math.h>

#include "model.h"

enum { COLS_MAX = 4096 };

static bool fits(const Rope *r, int R, const double *inv_freq)
{
    double got[COLS_MAX / 2];
    rope_inv_freq(r, R, got);
    for (int i = 0; i < R / 2; i++)
        if (!(fabs(got[i] / inv_freq[i] - 1) < 1e-6)) return false;
    return true;
}

static bool try_scaling(Rope *r, double factor, double high, double original, int R, const double *inv_freq)
{
    Rope try = *r;
    if (!(high > 1 && high < 1e6 && original >= 1 && original <= 1 << 24)) return false;
    try.kind = ROPE_LLAMA3;
    try.factor = factor;
    try.low_freq_factor = 1;
    try.high_freq_factor = high;
    try.original_len = (int)lround(original);
    if (!fits(&try, R, inv_freq)) return false;
    *r = try;
    return true;
}

/* from the first and the last frequency on the line */
static bool solve(Rope *r, double factor, int R, const double *inv_freq)
{
    double at[2] = {0}, s[2] = {0};
    int    n = 0;
    for (int i = 0; i < R / 2; i++) {
        double plain = pow(r->theta, -2.0 * i / R), share = (inv_freq[i] / plain - 1 / factor) / (1 - 1 / factor);
        if (share < 1e-5 || share > 1 - 1e-5) continue;
        at[n > 0] = plain / (2 * acos(-1));
        s[n > 0] = share;
        n++;
    }
    if (n < 2) return false;
    double slope = (s[1] - s[0]) / (at[1] - at[0]), below = slope * at[0] - s[0];
    double high = 1 + 1 / below;
    return try_scaling(r, factor, round(high * 1000) / 1000, slope * (high - 1), R, inv_freq) || try_scaling(r, factor, high, slope * (high - 1), R, inv_freq);
}

bool rope_fit_llama3(Rope *r, int R, const double *inv_freq)
{
    double factor = 1;
    if (R > COLS_MAX) return false;
    for (int i = 0; i < R / 2; i++) {
        double f = pow(r->theta, -2.0 * i / R) / inv_freq[i];
        if (f > factor) factor = f;
    }
    factor = (double)(float)factor;
    for (double high = 4; high >= 2; high -= 2) /* what is published: 4 and 8192 */
        for (int len = 8192, k = 0; k < 18; len = 16 << k++)
            if (try_scaling(r, factor, high, len, R, inv_freq)) return true;
    return solve(r, factor, R, inv_freq);
}
