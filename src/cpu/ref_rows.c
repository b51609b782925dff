/* Kernels that work row by row: norms, rotation, activations, losses. */
#include "ref.h"

/* sum of x[i]*y[i] (*z[i]) in 16 lanes */
static real dot3(const real *x, const real *y, const real *z, int n)
{
    real lane[16] = {0};
    for (int i = 0; i < n; i++) lane[i & 15] = r_fma(z ? x[i] * z[i] : x[i], y[i], lane[i & 15]);
    return ref_lanes_sum(lane);
}

REF(rmsnorm)
{
    const NormArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int g = 0; g < a->groups; g++) {
            const real *x = a->x + r * a->x_row + (int64_t)g * a->N;
            real       *y = a->y + r * a->y_row + (int64_t)g * a->N;
            real        rstd = (real)1 / r_sqrt(dot3(x, x, NULL, a->N) / (real)a->N + a->eps);
            for (int i = 0; i < a->N; i++) y[i] = x[i] * rstd * a->gain[i];
            if (a->rstd) a->rstd[r * a->groups + g] = rstd;
        }
}

REF(rmsnorm_back_x)
{
    const NormBackArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int g = 0; g < a->groups; g++) {
            int64_t     xo = r * a->x_row + (int64_t)g * a->N;
            const real *x = a->x + xo, *dy = a->dy + r * a->y_row + (int64_t)g * a->N;
            real        rstd = a->rstd[r * a->groups + g];
            real        f = dot3(dy, x, a->gain, a->N) / (real)a->N * rstd * rstd;
            for (int i = 0; i < a->N; i++) a->dx[xo + i] += rstd * (a->gain[i] * dy[i] - x[i] * f);
        }
}

REF(rmsnorm_back_gain)
{
    const NormBackArgs *a = args;
    (void)scratch;
    for (int64_t r = 0; r < a->rows; r++)
        for (int g = 0; g < a->groups; g++) {
            real rstd = a->rstd[r * a->groups + g];
            for (int64_t i = i0; i < i1; i++) {
                real x = a->x[r * a->x_row + (int64_t)g * a->N + i], dy = a->dy[r * a->y_row + (int64_t)g * a->N + i];
                a->dgain[i] = r_fma(dy, x * rstd, a->dgain[i]);
            }
        }
}

REF(rope)
{
    const RopeArgs *a = args;
    int             half = a->R / 2;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int h = 0; h < a->n_heads; h++) {
            const real *x = a->x + r * a->x_row + h * a->x_head, *cs = a->cs + r * a->R;
            real       *y = a->y + r * a->y_row + h * a->y_head;
            for (int i = 0; i < half; i++) {
                int  p = a->interleaved ? 2 * i : i, q = a->interleaved ? 2 * i + 1 : i + half;
                real co = cs[i], si = a->inverse ? -cs[half + i] : cs[half + i];
                real u = x[p] * co - x[q] * si, v = x[q] * co + x[p] * si;
                y[p] = a->accumulate ? y[p] + u : u;
                y[q] = a->accumulate ? y[q] + v : v;
            }
        }
}

REF(swiglu)
{
    const SwigluArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int64_t i = r * a->row; i < r * a->row + a->cols; i++)
            a->y[i] = a->gate[i] * r_sigmoid(a->gate[i]) * a->up[i];
}

REF(swiglu_back)
{
    const SwigluArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int64_t i = r * a->row; i < r * a->row + a->cols; i++) {
            real s = r_sigmoid(a->gate[i]), silu = a->gate[i] * s;
            a->dup[i] += a->dy[i] * silu;
            a->dgate[i] += a->dy[i] * a->up[i] * (s + silu * ((real)1 - s));
        }
}

REF(combine)
{
    const CombineArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int i = 0; i < a->cols; i++) {
            real sum = a->accumulate ? a->y[t * a->y_row + i] : 0;
            for (int k = 0; k < a->K; k++) {
                real x = a->x[(int64_t)a->slot[t * a->K + k] * a->cols + i];
                sum = a->weight ? r_fma(a->weight[t * a->K + k], x, sum) : sum + x;
            }
            a->y[t * a->y_row + i] = sum;
        }
}

/* dx[slot] = weight * dy; dweight += dy . x */
REF(combine_back)
{
    const CombineArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int k = 0; k < a->K; k++) {
            int64_t     s = (int64_t)a->slot[t * a->K + k] * a->cols;
            const real *dy = a->dy + t * a->y_row;
            for (int i = 0; i < a->cols; i++) a->dx[s + i] = a->weight[t * a->K + k] * dy[i];
            a->dweight[t * a->K + k] += dot3(dy, a->x + s, NULL, a->cols);
        }
}

/* Returns max and log(sum exp(x - max)) of a row, and, when asked, sum exp(x - max) * (x - max). */
static real row_lse(const real *x, int V, real *max, real *ex)
{
    real lane[16] = {0}, elane[16] = {0}, m = x[0];
    for (int i = 1; i < V; i++)
        if (x[i] > m) m = x[i];
    for (int i = 0; i < V; i++) {
        real d = x[i] - m, p = r_exp(d);
        lane[i & 15] += p;
        elane[i & 15] = r_fma(p, d, elane[i & 15]);
    }
    *max = m;
    *ex = ref_lanes_sum(elane);
    return ref_lanes_sum(lane);
}

/* log p = x_t - m - log s;  entropy = log s - (sum p' (x-m)) / s, p' unnormalised */
REF(xent)
{
    const XentArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++) {
        const real *x = a->logits + r * a->V;
        real        m, ex, s = row_lse(x, a->V, &m, &ex), ls = r_log(s);
        a->logp[2 * r] = x[a->target[r]] - m - ls;
        a->logp[2 * r + 1] = ls - ex / s;
    }
}

REF(xent_back)
{
    const XentArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++) {
        real *x = a->logits + r * a->V;
        real  m, ex, s = row_lse(x, a->V, &m, &ex), ls = r_log(s), inv = (real)1 / s;
        real  dl = a->dlogp[2 * r], de = a->dlogp[2 * r + 1], entropy = ls - ex * inv;
        for (int i = 0; i < a->V; i++) {
            real d = x[i] - m, p = r_exp(d) * inv;
            x[i] = -p * (dl + de * (d - ls + entropy));
        }
        x[a->target[r]] += dl;
    }
}
