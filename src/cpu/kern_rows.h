/* Kernels that work row by row, over v16: norms, sums, rotation, activations, the combination of experts, losses.  Every
 * operation and its order are the reference's (ref_rows.c), so the bits are too. */
#ifndef AHA_CPU_KERN_ROWS_H
#define AHA_CPU_KERN_ROWS_H

/* the first n of sixteen; the rest 0 */
static INLINE v16 row_load(const float *p, int n) { return n >= 16 ? v_load(p) : v_load_m(p, m_first(n)); }
static INLINE void row_store(float *p, int n, v16 x)
{
    if (n >= 16)
        v_store(p, x);
    else
        v_store_m(p, m_first(n), x);
}
static INLINE v16 v_sigmoid(v16 x) { return v_div(v_set(1), v_add(v_set(1), v_exp(v_neg(x)))); }

/* sum of x[i]*y[i] (*z[i]) in 16 lanes */
static INLINE float row_dot(const float *x, const float *y, const float *z, int n)
{
    v16 lane = v_zero();
    for (int i = 0; i < n; i += 16) {
        v16 a = row_load(x + i, n - i);
        if (z) a = v_mul(a, row_load(z + i, n - i));
        lane = v_fma(a, row_load(y + i, n - i), lane);
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
            float        rstd = 1.0f / sqrtf(row_dot(x, x, NULL, a->N) / (float)a->N + a->eps);
            for (int i = 0; i < a->N; i += 16)
                row_store(y + i, a->N - i, v_mul(v_mul(row_load(x + i, a->N - i), v_set(rstd)), row_load(a->gain + i, a->N - i)));
            if (a->rstd) a->rstd[r * a->groups + g] = rstd;
        }
}

KERNEL(rmsnorm_back_x)
{
    const NormBackArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int g = 0; g < a->groups; g++) {
            int64_t      xo = r * a->x_row + (int64_t)g * a->N;
            const float *x = a->x + xo, *dy = a->dy + r * a->y_row + (int64_t)g * a->N;
            float        rstd = a->rstd[r * a->groups + g];
            float        f = row_dot(dy, x, a->gain, a->N) / (float)a->N * rstd * rstd;
            for (int i = 0; i < a->N; i += 16) {
                int n = a->N - i;
                v16 d = v_sub(v_mul(row_load(a->gain + i, n), row_load(dy + i, n)), v_mul(row_load(x + i, n), v_set(f)));
                row_store(a->dx + xo + i, n, v_add(row_load(a->dx + xo + i, n), v_mul(v_set(rstd), d)));
            }
        }
}

KERNEL(rmsnorm_back_gain)
{
    const NormBackArgs *a = args;
    (void)scratch;
    for (int64_t i = i0; i < i1; i += 16) {
        int n = (int)(i1 - i);
        v16 sum = row_load(a->dgain + i, n);
        for (int64_t r = 0; r < a->rows; r++)
            for (int g = 0; g < a->groups; g++) {
                v16 rstd = v_set(a->rstd[r * a->groups + g]);
                v16 x = row_load(a->x + r * a->x_row + (int64_t)g * a->N + i, n);
                sum = v_fma(row_load(a->dy + r * a->y_row + (int64_t)g * a->N + i, n), v_mul(x, rstd), sum);
            }
        row_store(a->dgain + i, n, sum);
    }
}

KERNEL(add)
{
    const AddArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int i = 0; i < a->cols; i += 16) {
            int n = a->cols - i;
            row_store(a->y + r * a->y_row + i, n,
                      v_fma(v_set(a->scale), row_load(a->b + r * a->b_row + i, n), row_load(a->a + r * a->a_row + i, n)));
        }
}

KERNEL(col_sum)
{
    const ColSumArgs *a = args;
    (void)scratch;
    for (int64_t i = i0; i < i1; i += 16) {
        int n = (int)(i1 - i);
        v16 sum = row_load(a->y + i, n);
        for (int64_t r = 0; r < a->rows; r++) sum = v_add(sum, row_load(a->x + r * a->x_row + i, n));
        row_store(a->y + i, n, sum);
    }
}

/* Halves are whole vectors; neighbouring pairs are left to the compiler: heads are short and rows few. */
static INLINE void rope_pair(const RopeArgs *a, const float *x, float *y, int p, int q, float co, float si)
{
    float u = x[p] * co - x[q] * si, v = x[q] * co + x[p] * si;
    y[p] = a->accumulate ? y[p] + u : u;
    y[q] = a->accumulate ? y[q] + v : v;
}

static INLINE void rope_halves(const RopeArgs *a, const float *x, float *y, const float *cs)
{
    int half = a->R / 2;
    for (int i = 0; i < half; i += 16) {
        int n = half - i;
        v16 co = row_load(cs + i, n), si = row_load(cs + half + i, n), p = row_load(x + i, n), q = row_load(x + half + i, n), u, v;
        if (a->inverse) si = v_neg(si);
        u = v_sub(v_mul(p, co), v_mul(q, si));
        v = v_add(v_mul(q, co), v_mul(p, si));
        row_store(y + i, n, a->accumulate ? v_add(row_load(y + i, n), u) : u);
        row_store(y + half + i, n, a->accumulate ? v_add(row_load(y + half + i, n), v) : v);
    }
}

KERNEL(rope)
{
    const RopeArgs *a = args;
    int             half = a->R / 2;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int h = 0; h < a->n_heads; h++) {
            const float *x = a->x + r * a->x_row + h * a->x_head, *cs = a->cs + r * a->R;
            float       *y = a->y + r * a->y_row + h * a->y_head;
            if (a->interleaved)
                for (int i = 0; i < half; i++) rope_pair(a, x, y, 2 * i, 2 * i + 1, cs[i], a->inverse ? -cs[half + i] : cs[half + i]);
            else
                rope_halves(a, x, y, cs);
        }
}

KERNEL(swiglu)
{
    const SwigluArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int i = 0; i < a->cols; i += 16) {
            int     n = a->cols - i;
            int64_t o = r * a->row + i;
            v16     g = row_load(a->gate + o, n);
            row_store(a->y + o, n, v_mul(v_mul(g, v_sigmoid(g)), row_load(a->up + o, n)));
        }
}

KERNEL(swiglu_back)
{
    const SwigluArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++)
        for (int i = 0; i < a->cols; i += 16) {
            int     n = a->cols - i;
            int64_t o = r * a->row + i;
            v16     g = row_load(a->gate + o, n), dy = row_load(a->dy + o, n), s = v_sigmoid(g), silu = v_mul(g, s), d;
            row_store(a->dup + o, n, v_add(row_load(a->dup + o, n), v_mul(dy, silu)));
            d = v_mul(v_mul(dy, row_load(a->up + o, n)), v_add(s, v_mul(silu, v_sub(v_set(1), s))));
            row_store(a->dgate + o, n, v_add(row_load(a->dgate + o, n), d));
        }
}

KERNEL(combine)
{
    const CombineArgs *a = args;
    (void)scratch;
    for (int64_t t = i0; t < i1; t++)
        for (int i = 0; i < a->cols; i += 16) {
            int    n = a->cols - i;
            float *y = a->y + t * a->y_row + i;
            v16    sum = a->accumulate ? row_load(y, n) : v_zero();
            for (int k = 0; k < a->K; k++) {
                v16 x = row_load(a->x + (int64_t)a->slot[t * a->K + k] * a->cols + i, n);
                sum = a->weight ? v_fma(v_set(a->weight[t * a->K + k]), x, sum) : v_add(sum, x);
            }
            row_store(y, n, sum);
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
            for (int i = 0; i < a->cols; i += 16)
                row_store(a->dx + s + i, a->cols - i, v_mul(w, row_load(dy + i, a->cols - i)));
            a->dweight[t * a->K + k] += row_dot(dy, a->x + s, NULL, a->cols);
        }
}

typedef struct RowLse {
    float max, sum, ex; /* max; sum exp(x - max); sum exp(x - max) (x - max) */
} RowLse;

static INLINE RowLse row_lse(const float *x, int V)
{
    RowLse out = {x[0], 0, 0};
    v16    m = v_set(x[0]), lane = v_zero(), elane = v_zero();
    float  best[16];
    for (int i = 0; i < V; i += 16) m = v_pick(m_first(V - i), v_max(row_load(x + i, V - i), m), m);
    v_store(best, m);
    for (int i = 0; i < 16; i++)
        if (best[i] > out.max) out.max = best[i];
    for (int i = 0; i < V; i += 16) {
        m16 live = m_first(V - i);
        v16 d = v_pick(live, v_sub(row_load(x + i, V - i), v_set(out.max)), v_zero());
        v16 p = v_pick(live, v_exp(d), v_zero());
        lane = v_add(lane, p);
        elane = v_fma(p, d, elane);
    }
    out.sum = v_sum(lane);
    out.ex = v_sum(elane);
    return out;
}

KERNEL(xent)
{
    const XentArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++) {
        const float *x = a->logits + r * a->V;
        RowLse       l = row_lse(x, a->V);
        float        ls = r_log(l.sum);
        a->logp[2 * r] = x[a->target[r]] - l.max - ls;
        a->logp[2 * r + 1] = ls - l.ex / l.sum;
    }
}

KERNEL(xent_back)
{
    const XentArgs *a = args;
    (void)scratch;
    for (int64_t r = i0; r < i1; r++) {
        float *x = a->logits + r * a->V;
        RowLse l = row_lse(x, a->V);
        float  ls = r_log(l.sum), inv = 1.0f / l.sum, dl = a->dlogp[2 * r], de = a->dlogp[2 * r + 1], entropy = ls - l.ex * inv;
        for (int i = 0; i < a->V; i += 16) {
            int n = a->V - i;
            v16 d = v_sub(row_load(x + i, n), v_set(l.max)), p = v_mul(v_exp(d), v_set(inv));
            v16 f = v_add(v_set(dl), v_mul(v_set(de), v_add(v_sub(d, v_set(ls)), v_set(entropy))));
            row_store(x + i, n, v_mul(v_neg(p), f));
        }
        x[a->target[r]] += dl;
    }
}

static void VEC_NAME1(rows_init, VEC_ISA)(Kernels *k)
{
#define ROWS(X) X(rmsnorm) X(rmsnorm_back_x) X(rmsnorm_back_gain) X(add) X(col_sum) X(rope) X(swiglu) X(swiglu_back) \
                X(combine) X(combine_back) X(xent) X(xent_back)
#define ROWS_SET(name) k->name = VEC_NAME1(name, VEC_ISA);
    ROWS(ROWS_SET)
#undef ROWS_SET
#undef ROWS
}

#endif
