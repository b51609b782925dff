/* The frequencies of rope under each kind of scaling, and the softmax scale that goes with YaRN.
 * YaRN: Peng et al. 2023 (arXiv 2309.00071) section 3.2 with DeepSeek's mscale; llama3: the Llama 3.1 model card's rule. */
#include "model.h"

/* the dimension whose wavelength makes `rotations` turns over the original length */
static double yarn_dim(double rotations, int R, double theta, int original_len)
{
    return R * log(original_len / (rotations * 2 * 3.14159265358979323846)) / (2 * log(theta));
}

/* ramp from kept (0, fast dimensions) to interpolated (1, slow ones) */
static double yarn_ramp(const Rope *r, int R, int i)
{
    double lo = floor(yarn_dim(r->beta_fast, R, r->theta, r->original_len));
    double hi = ceil(yarn_dim(r->beta_slow, R, r->theta, r->original_len)), ramp;
    if (lo < 0) lo = 0;
    if (hi > R - 1) hi = R - 1;
    if (hi == lo) hi += 0.001; /* as the published code: no division by zero */
    ramp = (i - lo) / (hi - lo);
    return ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
}

static double llama3_freq(const Rope *r, double f)
{
    double len = 2 * 3.14159265358979323846 / f;
    double low = r->original_len / r->low_freq_factor, high = r->original_len / r->high_freq_factor, s;
    if (len > low) return f / r->factor;
    if (len < high) return f;
    s = (r->original_len / len - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1 - s) * f / r->factor + s * f;
}

void rope_inv_freq(const Rope *r, int R, double *inv_freq)
{
    for (int i = 0; i < R / 2; i++) {
        double f = pow(r->theta, -2.0 * i / R), ramp;
        switch (r->kind) {
        case ROPE_YARN:
            ramp = yarn_ramp(r, R, i);
            f = f / r->factor * ramp + f * (1 - ramp);
            break;
        case ROPE_LLAMA3: f = llama3_freq(r, f); break;
        case ROPE_LINEAR: f /= r->factor; break;
        case ROPE_NONE: break;
        }
        inv_freq[i] = f;
    }
}

/* 1/sqrt(head) ; DeepSeek under YaRN: times m^2, m = 0.1 mscale_all_dim ln(factor) + 1, always applied */
double attn_softmax_scale(const Config *c)
{
    double scale, m;
    if (c->arch != ARCH_DEEPSEEK_V3) return 1 / sqrt((double)c->head_dim);
    scale = 1 / sqrt((double)(c->nope + c->rope_dim));
    if (c->rope.kind != ROPE_YARN || c->rope.mscale_all_dim == 0 || c->rope.factor <= 1) return scale;
    m = 0.1 * c->rope.mscale_all_dim * log(c->rope.factor) + 1;
    return scale * m * m;
}
