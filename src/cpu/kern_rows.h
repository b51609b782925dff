/* Kernels that work row by row: norms, rotation, activations, sums over experts.  The formulas stand in ref_rows.c. */
#ifndef AHA_CPU_KERN_ROWS_H
#define AHA_CPU_KERN_ROWS_H

/* the valid lanes of the vector at column i of n, and loads and stores of them */
static INLINE v16 row_load(const float *p, int64_t i, int64_t n)
{
    return n - i >= 16 ? v_load(p + i) : v_load_m(p + i, m_first((int)(n - i)));
}
static INLINE void row_store(float *p, int64_t i, int64_t n, v16 x)
{
    if (n - i >= 16)
        v_store(p + i, x);
    else
        v_store_m(p + i, m_first((int)(n - i)), x);
}

/* sum of x[i]*y[i] (*z[i]) in 16 lanes */
static INLINE float row_dot(const float *x, const float *y, const float *z, int n)
{
    v16 lane = v_zero();
    for (int i = 0; i < n; i += 16) {
        v16 u = row_load(x, i, n);
        if (z) u = v_mul(u, row_load(z, i, n));
        lane = v_fma(u, row_load(y, i, n), lane);
    }
    return v_sum(lane);
}

KERNEL(rmsnorm)
{
    const NormArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int g = 0; g < a->groups; g++) {
            const float *x = a->x + r * a->x_row + (int64_t)g * a->N;
            float       *y = a->y + r * a->y_row + (int64_t)g * a->N;
            float        rstd = 1.0f / r_sqrt(row_dot(x, x, NULL, a->N) / (float)a->N + a->eps);
            for (int i = 0; i < a->N; i += 16)
                row_store(y, i, a->N, v_mul(v_mul(row_load(x, i, a->N), v_set(rstd)), row_load(a->gain, i, a->N)));
            if (a->rstd) a->rstd[r * a->groups + g] = rstd;
        }
}

KERNEL(rmsnorm_back_x)
{
    const NormBackArgs *a = args;
    int                 n = a->N;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int g = 0; g < a->groups; g++) {
            const float *x = a->x + r * a->x_row + (int64_t)g * n, *dy = a->dy + r * a->y_row + (int64_t)g * n;
            float       *dx = a->dx + r * a->x_row + (int64_t)g * n, rstd = a->rstd[r * a->groups + g];
            float        f = row_dot(dy, x, a->gain, n) / (float)n * rstd * rstd;
            for (int i = 0; i < n; i += 16) {
                v16 d = v_sub(v_mul(row_load(a->gain, i, n), row_load(dy, i, n)), v_mul(row_load(x, i, n), v_set(f)));
                row_store(dx, i, n, v_add(row_load(dx, i, n), v_mul(v_set(rstd), d)));
            }
        }
}

/* Columns in strips, so that the sums stay in registers while the rows pass. */
enum { STRIP = 4 };

KERNEL(rmsnorm_back_gain)
{
    const NormBackArgs *a = args;
    (void)scratch;
    for (int64_t c = i0; c < i1; c += 16 * STRIP) {
        v16 sum[STRIP];
        for (int v = 0; v < STRIP; v++) sum[v] = row_load(a->dgain, c + 16 * v, i1);
        for (int64_t r = 0; r < a->rows; r++)
            for (int g = 0; g < a->groups; g++) {
                const float *x = a->x + r * a->x_row + (int64_t)g * a->N, *dy = a->dy + r * a->y_row + (int64_t)g * a->N;
                v16          rstd = v_set(a->rstd[r * a->groups + g]);
                UNROLL
                for (int v = 0; v < STRIP; v++)
                    sum[v] = v_fma(row_load(dy, c + 16 * v, i1), v_mul(row_load(x, c + 16 * v, i1), rstd), sum[v]);
            }
        for (int v = 0; v < STRIP; v++) row_store(a->dgain, c + 16 * v, i1, sum[v]);
    }
}

KERNEL(col_sum)
{
    const ColSumArgs *a = args;
    (void)scratch;
    for (int64_t c = i0; c < i1; c += 16 * STRIP) {
        v16 sum[STRIP];
        for (int v = 0; v < STRIP; v++) sum[v] = row_load(a->y, c + 16 * v, i1);
        for (int64_t r = 0; r < a->rows; r++) {
            UNROLL
            for (int v = 0; v < STRIP; v++) sum[v] = v_add(sum[v], row_load(a->x + r * a->x_row, c + 16 * v, i1));
        }
        for (int v = 0; v < STRIP; v++) row_store(a->y, c + 16 * v, i1, sum[v]);
    }
}

KERNEL(add)
{
    const AddArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int i = 0; i < a->cols; i += 16)
            row_store(a->y + r * a->y_row, i, a->cols,
                      v_fma(v_set(a->scale), row_load(a->b + r * a->b_row, i, a->cols), row_load(a->a + r * a->a_row, i, a->cols)));
}

/* halves: lane i rotates the pair (i, i + R/2) */
static INLINE void rope_halves(const RopeArgs *a, const float *cs, const float *x, float *y)
{
    int half = a->R / 2;
    for (int i = 0; i < half; i += 16) {
        v16 co = row_load(cs, i, half), si = row_load(cs + half, i, half);
        v16 p = row_load(x, i, half), q = row_load(x + half, i, half), u, v;
        if (a->inverse) si = v_neg(si);
        u = v_sub(v_mul(p, co), v_mul(q, si));
        v = v_add(v_mul(q, co), v_mul(p, si));
        if (a->accumulate) {
            u = v_add(row_load(y, i, half), u);
            v = v_add(row_load(y + half, i, half), v);
        }
        row_store(y, i, half, u);
        row_store(y + half, i, half, v);
    }
}

/* pairs side by side: eight in a vector; -x*s is (-s)*x exactly */
static INLINE void rope_pairs(const RopeArgs *a, const float *cs, const float *x, float *y)
{
    static const float EVEN[16] = {-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0};
    int                half = a->R / 2;
    for (int i = 0; i < half; i += 8) {
        v16 co = v_twice(row_load(cs, i, half)), si = v_xor(v_twice(row_load(cs + half, i, half)), v_load(EVEN));
        v16 p = row_load(x, 2 * i, 2 * half), u;
        if (a->inverse) si = v_neg(si);
        u = v_add(v_mul(p, co), v_mul(v_swap(p), si));
        if (a->accumulate) u = v_add(row_load(y, 2 * i, 2 * half), u);
        row_store(y, 2 * i, 2 * half, u);
    }
}

KERNEL(rope)
{
    const RopeArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int h = 0; h < a->n_heads; h++) {
            const float *x = a->x + r * a->x_row + h * a->x_head, *cs = a->cs + r * a->R;
            float       *y = a->y + r * a->y_row + h * a->y_head;
            if (a->interleaved)
                rope_pairs(a, cs, x, y);
            else
                rope_halves(a, cs, x, y);
        }
}

static INLINE v16 v_sigmoid(v16 x) { return v_div(v_set(1.0f), v_add(v_set(1.0f), v_exp(v_neg(x)))); }

KERNEL(swiglu)
{
    const SwigluArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int64_t i = r * a->row, n = i + a->cols; i < n; i += 16) {
            v16 g = row_load(a->gate, i, n);
            row_store(a->y, i, n, v_mul(v_mul(g, v_sigmoid(g)), row_load(a->up, i, n)));
        }
}

KERNEL(swiglu_back)
{
    const SwigluArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int64_t i = r * a->row, n = i + a->cols; i < n; i += 16) {
            v16 g = row_load(a->gate, i, n), s = v_sigmoid(g), silu = v_mul(g, s), dy = row_load(a->dy, i, n);
            v16 slope = v_add(s, v_mul(silu, v_sub(v_set(1.0f), s)));
            row_store(a->dup, i, n, v_add(row_load(a->dup, i, n), v_mul(dy, silu)));
            row_store(a->dgate, i, n, v_add(row_load(a->dgate, i, n), v_mul(v_mul(dy, row_load(a->up, i, n)), slope)));
        }
}

KERNEL(combine)
{
    const CombineArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int i = 0; i < a->cols; i += 16) {
            float *y = a->y + t * a->y_row;
            v16    sum = a->accumulate ? row_load(y, i, a->cols) : v_zero();
            for (int k = 0; k < a->K; k++) {
                v16 x = row_load(a->x + (int64_t)a->slot[t * a->K + k] * a->cols, i, a->cols);
                sum = a->weight ? v_fma(v_set(a->weight[t * a->K + k]), x, sum) : v_add(sum, x);
            }
            row_store(y, i, a->cols, sum);
        }
}

KERNEL(combine_back)
{
    const CombineArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int k = 0; k < a->K; k++) {
            int64_t      s = (int64_t)a->slot[t * a->K + k] * a->cols;
            const float *dy = a->dy + t * a->y_row;
            v16          w = v_set(a->weight[t * a->K + k]);
            for (int i = 0; i < a->cols; i += 16) row_store(a->dx + s, i, a->cols, v_mul(w, row_load(dy, i, a->cols)));
            a->dweight[t * a->K + k] += row_dot(dy, a->x + s, NULL, a->cols);
        }
}

KERNEL(attn_delta)
{
    const AttnArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int h = 0; h < a->H; h++) {
            int64_t o = t * a->out_row + (int64_t)h * a->dv;
            a->delta[t * a->H + h] = row_dot(a->out + o, a->dout + o, NULL, a->dv);
        }
}

/* log(sum exp(x - max)) before the log, in 16 lanes; *ex = sum exp(x - max) * (x - max) */
static INLINE float row_lse(const float *x, int n, float *max, float *ex)
{
    float lanes[16], top = x[0];
    v16   m = v_set(x[0]), sum = v_zero(), esum = v_zero();
    for (int i = 0; i < n; i += 16) m = v_max(v_pick(m_first(n - i), row_load(x, i, n), m), m);
    v_store(lanes, m);
    for (int i = 0; i < 16; i++)
        if (lanes[i] > top) top = lanes[i];
    for (int i = 0; i < n; i += 16) {
        v16 d = v_sub(row_load(x, i, n), v_set(top)), p = v_exp(d);
        if (n - i < 16) {
            d = v_pick(m_first(n - i), d, v_zero());
            p = v_pick(m_first(n - i), p, v_zero());
        }
        sum = v_add(sum, p);
        esum = v_fma(p, d, esum);
    }
    *max = top;
    *ex = v_sum(esum);
    return v_sum(sum);
}

KERNEL(xent)
{
    const XentArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++) {
        const float *x = a->logits + r * a->V;
        float        m, ex, s = row_lse(x, a->V, &m, &ex), ls = r_log(s);
        a->logp[2 * r] = x[a->target[r]] - m - ls;
        a->logp[2 * r + 1] = ls - ex / s;
    }
}

KERNEL(xent_back)
{
    const XentArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++) {
        float *x = a->logits + r * a->V;
        float  m, ex, s = row_lse(x, a->V, &m, &ex), ls = r_log(s), inv = 1.0f / s;
        float  dl = a->dlogp[2 * r], de = a->dlogp[2 * r + 1], entropy = ls - ex * inv;
        for (int i = 0; i < a->V; i += 16) {
            v16 d = v_sub(row_load(x, i, a->V), v_set(m)), p = v_mul(v_exp(d), v_set(inv));
            v16 f = v_add(v_set(dl), v_mul(v_set(de), v_add(v_sub(d, v_set(ls)), v_set(entropy))));
            row_store(x, i, a->V, v_mul(v_neg(p), f));
        }
        x[a->target[r]] += dl;
    }
}

#endif
