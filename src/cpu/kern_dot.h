/* Products with block types, activations in 8 bits (order: tensor/kernels.h).
 *
 * B is unpacked a panel at a time (kern_unpack.h), into memory that stays in the first cache; a register tile of DOT_MR rows of A
 * times DOT_NV vectors of B's columns then takes it, four ks a step:
 *
 *     A row m:  q q q q | q q q q | ...   four bytes, broadcast
 *     panel:    [k/4]  u u u u  u u u u  ... of 16 columns n, a lane each
 *
 * Per run of 32 ks and 16 columns: 8 integer dot products, a conversion and a fused multiply-add of floats; per group of 128 and 16
 * columns two or three of those more, and in blocks of 256 with minima two products of pairs.  Few rows or many, the bits are the
 * same: integers do not round, and the floats are one chain a lane. */
#ifndef AHA_CPU_KERN_DOT_H
#define AHA_CPU_KERN_DOT_H

#include "kern_act.h"
#include "kern_unpack.h"

typedef struct DotForm { /* constants of a compiled tile: of a type's QuantForm, and whether its lift is 128 */
    bool halves, min, big, wide;
} DotForm;
static INLINE int dot_lift(int lift) { return lift == 128 ? WIDE_LIFT : lift; } /* by how much products of u are too large */
static INLINE int run_width(const DotForm f) { return f.halves ? 16 : 32; }
static INLINE int32_t run_sum(const DotForm f, const ActGroup *g, int run) { return f.halves ? g->half[run] : g->sum[run]; }
/* the sums of runs 2 i and 2 i + 1 */
static INLINE w16 run_sums(const DotForm f, const ActGroup *g, int i)
{
    int32_t pair;
    memcpy(&pair, f.halves ? g->half + 2 * i : g->sum + 2 * i, sizeof pair);
    return w_set(pair);
}

/* t plus run of g, whose integer sum is known; at s and m are the run's */
static INLINE v16 run_add(const DotForm f, const ActGroup *g, int run, w16 sum, const float *s, const float *m, v16 t)
{
    t = v_fma(w_float(sum), v_load(s), t);
    return f.min && !f.big ? v_fma(w_float(w_set(run_sum(f, g, run))), v_load(m), t) : t;
}
/* c plus group g, whose runs' sum is t; at m are its first pair of minima, at d and e the factors of blocks of 256 */
static INLINE v16 group_add(const DotForm f, const ActGroup *g, v16 t, const float *m, int step, const float *d, const float *e, v16 c)
{
    if (f.big) t = v_mul(t, v_load(d));
    if (f.big && f.min) {
        const int pairs = ACT_GROUP / 2 / run_width(f);
        w16       minima = w_zero();
        UNROLL
        for (int i = 0; i < pairs; i++) minima = w_dot_pairs(minima, w_load(m + i * step), run_sums(f, g, i));
        t = v_fma(w_float(minima), v_load(e), t);
    }
    return v_fma(t, v_set(g->d), c);
}

typedef struct DotTile {
    Panel           p;
    int             kc;
    const int8_t   *q; /* the tile's first row at the panel's first k */
    const ActGroup *g;
    int64_t         q_row, g_row;
    const int32_t  *off; /* what a run's sum begins with, at the tile's first row: the lift comes off, for v = u - lift */
    int64_t         off_row;
    float          *c;
    int64_t         c_row;
    const float    *bias; /* NULL unless this is the last panel */
    int             cols; /* valid */
    bool            first;
} DotTile;

/* ---- a panel's words, kc / 4 of every column, into products ---- */
#ifdef DOT_PAIRED
_Static_assert(DOT_MR == 2 && DOT_NV == 1, "a tile is two rows and sixteen columns");
/* two rows of A and eight ks at once: the words of each two fours of ks lie side by side, a column's after the other's */
static INLINE void panel_ready(uint8_t *u, int kc)
{
    for (int k = 0; k < kc; k += 8) w_pair(u + k * DOT_NR);
}
static INLINE w16 panel_word(const uint8_t *u, int k, int v) { return w_unpair(u + k / 8 * 8 * DOT_NR + 64 * v, k / 4 % 2); }
static INLINE void dot_words(const int mr, const DotForm f, int width, const uint8_t *u, const int8_t *q, int64_t q_row, w16 i[DOT_MR][DOT_NV])
{
    w16pair sum = w_pair_zero();
    (void)f;
    UNROLL
    for (int k = 0; k < width; k += 8) sum = w_dot_pair(sum, u + k * DOT_NR, q + k, q + (mr - 1) * q_row + k);
    UNROLL
    for (int m = 0; m < mr; m++) i[m][0] = w_add(i[m][0], w_pair_row(sum, m));
}
#else
static INLINE void panel_ready(uint8_t *u, int kc) { (void)u, (void)kc; }
static INLINE w16 panel_word(const uint8_t *u, int k, int v) { return w_load(u + k / 4 * 4 * DOT_NR + 64 * v); }
static INLINE void dot_words(const int mr, const DotForm f, int width, const uint8_t *u, const int8_t *q, int64_t q_row, w16 i[DOT_MR][DOT_NV])
{
    UNROLL
    for (int k = 0; k < width; k += 4) {
        w16 b[DOT_NV];
        UNROLL
        for (int v = 0; v < DOT_NV; v++) b[v] = w_load(u + k * DOT_NR + 64 * v);
        UNROLL
        for (int m = 0; m < mr; m++) {
            int32_t word;
            memcpy(&word, q + m * q_row + k, 4);
            w16 x = w_set(word);
            UNROLL
            for (int v = 0; v < DOT_NV; v++) i[m][v] = f.wide ? w_dot_wide(i[m][v], b[v], x) : w_dot(i[m][v], b[v], x);
        }
    }
}
#endif

/* acc + a run of the panel */
static INLINE void dot_run(const int mr, const DotForm f, const DotTile *t, const ActGroup *g, int run, int of_group, v16 acc[DOT_MR][DOT_NV])
{
    const int width = run_width(f);
    w16       i[DOT_MR][DOT_NV];
    UNROLL
    for (int m = 0; m < mr; m++) {
        w16 off = f.min ? w_zero() : w_set(t->off[m * t->off_row + run]);
        UNROLL
        for (int v = 0; v < DOT_NV; v++) i[m][v] = off;
    }
    dot_words(mr, f, width, t->p.u + (int64_t)run * width * DOT_NR, t->q + run * width, t->q_row, i);
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < DOT_NV; v++)
            acc[m][v] = run_add(f, g + m * t->g_row, of_group, i[m][v], t->p.s + run * DOT_NR + 16 * v, t->p.m + run * DOT_NR + 16 * v, acc[m][v]);
    }
}

/* A group's sums are in registers, C's in memory: both and the integers would be too many. */
static INLINE void dot_tile(const int mr, const DotForm f, const DotTile *t)
{
    const int          runs = ACT_GROUP / run_width(f);
    _Alignas(64) float c[DOT_MR][DOT_NR];
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < DOT_NR; v += 16) v_store(&c[m][v], t->first ? v_zero() : v_load_m(t->c + m * t->c_row + v, m_first(t->cols - v)));
    }
    for (int k = 0; k < t->kc; k += ACT_GROUP) {
        const ActGroup *g = t->g + k / ACT_GROUP;
        const int       first = k / run_width(f), n = f.big ? runs : (t->kc - k < ACT_GROUP ? t->kc - k : ACT_GROUP) / run_width(f);
        v16             acc[DOT_MR][DOT_NV];
        UNROLL
        for (int m = 0; m < mr; m++) {
            UNROLL
            for (int v = 0; v < DOT_NV; v++) acc[m][v] = v_zero();
        }
        for (int run = 0; run < n; run++) dot_run(mr, f, t, g, first + run, run, acc);
        UNROLL
        for (int m = 0; m < mr; m++) {
            const ActGroup *gm = g + m * t->g_row;
            UNROLL
            for (int v = 0; v < DOT_NV; v++)
                v_store(&c[m][16 * v], group_add(f, gm, acc[m][v], t->p.m + first / 2 * DOT_NR + 16 * v, DOT_NR, t->p.d + 16 * v, t->p.d + DOT_NR + 16 * v,
                                                 v_load(&c[m][16 * v])));
        }
    }
    UNROLL
    for (int m = 0; m < mr; m++) {
        UNROLL
        for (int v = 0; v < DOT_NR; v += 16) {
            m16 in = m_first(t->cols - v);
            v16 sum = v_load(&c[m][v]);
            v_store_m(t->c + m * t->c_row + v, in, t->bias ? v_add(sum, v_load_m(t->bias + v, in)) : sum);
        }
    }
}

/* X(name, halves, min, big, wide): the forms that types have */
#define DOT_FORMS(X) X(plain, false, false, false, false) X(wide, false, false, false, true) X(min, false, true, false, false) \
    X(big, false, false, true, false) X(big_wide, false, false, true, true) X(big_min, false, true, true, false)      \
    X(halves, true, false, true, false) X(halves_min, true, true, true, false)
#if DOT_MR == 6
#define DOT_ROWS(X, f) X(1, f) X(2, f) X(3, f) X(4, f) X(5, f) X(6, f)
#else
#define DOT_ROWS(X, f) X(1, f) X(2, f)
#endif

typedef void DotTileFn(int mr, const DotTile *t);
#define ROWS(n, f)                                                                                                    \
    case n: dot_tile(n, f, t); break;
#define X(name, halves, min, big, wide)                                                                               \
    static void dot_##name(int mr, const DotTile *t)                                                                  \
    {                                                                                                                 \
        switch (mr) { DOT_ROWS(ROWS, ((DotForm){halves, min, big, wide})) }                                                \
    }
DOT_FORMS(X)
#undef X
#undef ROWS

static DotTileFn *dot_tile_fn(const QuantForm *f)
{
    bool wide = f->lift == 128;
    if (f->halves) return f->min ? dot_halves_min : dot_halves;
    if (f->big) return f->min ? dot_big_min : wide ? dot_big_wide : dot_big;
    return f->min ? dot_min : wide ? dot_wide : dot_plain;
}

#include "kern_dot_few.h"

/* ---- B's rows, panel by panel ---- */
/* Asks for bytes that are wanted soon. */
static INLINE void dot_prefetch(const uint8_t *next, const uint8_t *end, int64_t bytes)
{
    if (next + bytes > end) bytes = end - next;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
}

/* Sixteen rows as a stripe, where they are one already; else columns [k0, k0 + kc) alone, GEMM_KC at most, turned into `room`. */
static StripeRows stripe_of(const DotArgs *a, const uint8_t *rows, int k0, int kc, uint8_t *room)
{
    const StripeForm f = stripe_form(a->b_type);
    const DtypeInfo *d = dtype_info(a->b_type);
    if (a->striped) return (StripeRows){rows, a->K / d->block};
    StripeRows     to = {room, kc / d->block};
    const uint8_t *b = rows + (int64_t)(k0 / d->block) * d->block_bytes, *ahead = rows + 16 * (a->b_row + (int64_t)(k0 / d->block) * d->block_bytes);
    for (int i = 0; i < to.blocks; i++, b += d->block_bytes, ahead += 16 * d->block_bytes) {
        Stripe s = stripe_block(f, to, i);
        turn(a->b_type, f, b, a->b_row, room + (s.word - room), room + (s.odd - room), ahead);
    }
    return to;
}
/* rows that lie further apart are beyond what a vector of offsets holds */
static bool rows_near(const DotArgs *a) { return a->striped || a->b_row < 1 << 27; }

/* Asks for what the next columns of C take of columns [k0, k0 + kc): of a stripe just that, of rows their share of the bytes. */
static INLINE void ask_for_next(const DotArgs *a, const uint8_t *next, const uint8_t *end, int k0, int kc)
{
    const DtypeInfo *d = dtype_info(a->b_type);
    const int64_t    bytes = (int64_t)(kc / d->block) * d->block_bytes;
    if (!a->striped) {
        dot_prefetch(next + (int64_t)(k0 / GEMM_KC) * DOT_NR * (GEMM_KC / d->block) * d->block_bytes, end, DOT_NR * bytes);
        return;
    }
    for (int v = 0; v < DOT_NR; v += STRIPE_ROWS)
        dot_prefetch(next + v * a->b_row + (int64_t)(k0 / d->block) * d->block_bytes * STRIPE_ROWS, end, STRIPE_ROWS * bytes);
}

/* DotTile's off of rows [m0, m1) and columns [k0, k1); runs to a row */
static int dot_off(const DotArgs *a, const QuantForm *f, int64_t head, int64_t m0, int64_t m1, int k0, int k1, int32_t *to)
{
    const int width = f->halves ? 16 : 32, lift = dot_lift(f->lift);
    for (int64_t m = m0; m < m1 && !f->min; m++)
        for (int k = k0; k < k1; k += ACT_GROUP) {
            const ActGroup *g = a->g + (m * a->H + head) * act_groups(a->K) + k / ACT_GROUP;
            const int16_t  *sum = f->halves ? g->half : g->sum;
            int             n = (k1 - k < ACT_GROUP ? k1 - k : ACT_GROUP) / width;
            for (int i = 0; i < n; i++) *to++ = -lift * sum[i];
        }
    return (k1 - k0) / width;
}

/* The panels' memory, in a kernel's scratch */
typedef struct DotRoom {
    Panel    p;
    int32_t *off;  /* [DOT_A_COLUMNS / 16] */
    uint8_t *turn; /* of 16 rows of B GEMM_KC columns */
} DotRoom;
static DotRoom dot_room(uint8_t *scratch)
{
    enum { RUNS = GEMM_KC / 16 };
    float *s = (float *)(void *)(scratch + GEMM_KC * DOT_NR), *m = s + RUNS * DOT_NR, *d = m + RUNS * DOT_NR, *off = d + 2 * DOT_NR;
    return (DotRoom){{.u = scratch, .s = s, .m = m, .d = d, .step = DOT_NR}, (int32_t *)(void *)off, (uint8_t *)(off + DOT_A_COLUMNS / 16)};
}

/* columns [k, k + kc) of rows [n, n + cols) of B, which begins at b */
static void panel_fill(const DotArgs *a, const uint8_t *b, int64_t n, int cols, int k, int kc, const DotRoom *room)
{
    for (int v = 0; v < cols; v += 16) {
        const Panel   *p = &room->p;
        Panel          part = {.u = p->u + 4 * v, .s = p->s + v, .m = p->m + v, .d = p->d + v, .step = DOT_NR};
        const uint8_t *rows = b + (n + v) * a->b_row;
        if (cols - v < 16 || !rows_near(a))
            unpack_plain(&part, quant_form(a->b_type), dtype_info(a->b_type), rows, a->b_row, cols - v < 16 ? cols - v : 16, k, kc);
        else
            unpack_stripe(&part, a->b_type, stripe_of(a, rows, k, kc, room->turn), a->striped ? k : 0, kc);
    }
    panel_ready(room->p.u, kc);
}

/* rows [m0, m1) and columns [n0, n1) of a head's C, of columns [k0, k1) of A and B what they add, and with the last of them bias, if not NULL */
static void dot_part(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1, int k0, int k1, const float *bias, const DotRoom *room)
{
    const QuantForm *f = quant_form(a->b_type);
    DotTileFn       *tile = dot_tile_fn(f);
    const uint8_t   *b = a->b + head * a->b_head, *end = b + n1 * a->b_row;
    const int        groups = act_groups(a->K), width = f->halves ? 16 : 32;
    DotTile          t = {.p = room->p, .q_row = (int64_t)a->H * a->K, .g_row = (int64_t)a->H * groups, .c_row = a->c_row,
                          .off_row = dot_off(a, f, head, m0, m1, k0, k1, room->off)};
    for (int64_t n = n0; n < n1; n += DOT_NR) {
        t.cols = (int)(n1 - n < DOT_NR ? n1 - n : DOT_NR);
        for (int k = k0; k < k1; k += GEMM_KC) {
            int kc = k1 - k < GEMM_KC ? k1 - k : GEMM_KC;
            panel_fill(a, b, n, t.cols, k, kc, room);
            ask_for_next(a, b + (n + DOT_NR) * a->b_row, end, k, kc);
            t.kc = kc;
            t.first = k == 0;
            t.bias = bias && k + kc == a->K ? bias + n : NULL;
            for (int64_t m = m0; m < m1; m += DOT_MR) {
                int64_t row = m * a->H + head;
                t.q = a->q + row * a->K + k;
                t.g = a->g + row * groups + k / ACT_GROUP;
                t.off = room->off + (m - m0) * t.off_row + (k - k0) / width;
                t.c = a->c + m * a->c_row + head * a->c_head + n;
                tile((int)(m1 - m < DOT_MR ? m1 - m : DOT_MR), &t);
            }
        }
    }
}

/* ---- what is kept aside ---- */
static bool any_aside(const DotArgs *a, int64_t head, int64_t m, int k, int kc)
{
    const ActGroup *g = a->g + (m * a->H + head) * act_groups(a->K) + k / ACT_GROUP;
    int             at = -1;
    for (int i = 0; i < kc; i += ACT_GROUP) at &= g[i / ACT_GROUP].at[0];
    return at >= 0;
}
static bool any_row_aside(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int k, int kc)
{
    for (; m0 < m1; m0++)
        if (any_aside(a, head, m0, k, kc)) return true;
    return false;
}

/* column k of a panel, as floats, of 16 columns of C */
static v16 aside_weight(const QuantForm *f, const Panel *p, int k, int v)
{
    int run = k / (f->halves ? 16 : 32);
    v16 u = w_float(w_and(w_shr(panel_word(p->u, k, v), 8 * (k % 4)), w_set(255))), s = v_load(p->s + run * DOT_NR + 16 * v), m;
    if (f->big) s = v_mul(v_load(p->d + 16 * v), s);
    if (!f->min) return v_mul(v_sub(u, v_set((float)f->lift)), s);
    if (f->big) m = v_mul(v_load(p->d + DOT_NR + 16 * v), w_float(w_and(w_shr(w_load(p->m + run / 2 * DOT_NR + 16 * v), run % 2 * 16), w_set(0xffff))));
    else m = v_load(p->m + run * DOT_NR + 16 * v);
    return v_add(v_mul(u, s), m);
}

/* rows [m0, m1) and columns [n0, n1) of a head's C, without these and bias until now: B is unpacked once more where there are any. */
static __attribute__((noinline)) void dot_aside(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1, const DotRoom *room)
{
    const QuantForm *f = quant_form(a->b_type);
    for (int64_t n = n0; n < n1; n += DOT_NR) {
        const int cols = (int)(n1 - n < DOT_NR ? n1 - n : DOT_NR);
        for (int k = 0; k < a->K; k += GEMM_KC) {
            int kc = a->K - k < GEMM_KC ? a->K - k : GEMM_KC;
            if (!any_row_aside(a, head, m0, m1, k, kc)) continue;
            panel_fill(a, a->b + head * a->b_head, n, cols, k, kc, room);
            for (int64_t m = m0; m < m1; m++)
                for (int i = 0; i < act_groups(kc) * ACT_ASIDE; i++) {
                    const ActGroup *g = a->g + (m * a->H + head) * act_groups(a->K) + k / ACT_GROUP + i / ACT_ASIDE;
                    int             at = g->at[i % ACT_ASIDE];
                    for (int v = 0; v < cols && at >= 0; v += 16) {
                        float *c = a->c + m * a->c_row + head * a->c_head + n + v;
                        m16    in = m_first(cols - v);
                        v16    w = aside_weight(f, &room->p, i / ACT_ASIDE * ACT_GROUP + at, v / 16);
                        v_store_m(c, in, v_fma(w, v_set(g->x[i % ACT_ASIDE]), v_load_m(c, in)));
                    }
                }
        }
        for (int64_t m = m0; m < m1 && a->bias; m++)
            for (int v = 0; v < cols; v += 16) {
                float *c = a->c + m * a->c_row + head * a->c_head + n + v;
                m16    in = m_first(cols - v);
                v_store_m(c, in, v_add(v_load_m(c, in), v_load_m(a->bias + n + v, in)));
            }
    }
}

/* The same of all columns, so many at once that A's stay in the second cache for all of C's. */
static void dot_block(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1, uint8_t *scratch)
{
    const DotRoom room = dot_room(scratch);
    const bool    aside = any_row_aside(a, head, m0, m1, 0, a->K);
    int           part = (int)(DOT_A_COLUMNS / (m1 - m0)) / GEMM_KC * GEMM_KC;
    if (part < GEMM_KC) part = GEMM_KC;
    for (int k = 0; k < a->K; k += part)
        dot_part(a, head, m0, m1, n0, n1, k, a->K - k < part ? a->K : k + part, aside ? NULL : a->bias, &room);
    if (aside) dot_aside(a, head, m0, m1, n0, n1, &room);
}

/* rows [m0, m1), FEW_MAX at most, and columns [n0, n1) of a head's C */
static void dot_few(const DotArgs *a, int64_t head, int64_t m0, int64_t m1, int64_t n0, int64_t n1, uint8_t *scratch)
{
    const int       block = dtype_info(a->b_type)->block, part = a->striped ? a->K : GEMM_KC, rows = (int)(m1 - m0);
    const int64_t   whole = rows_near(a) ? n0 + (n1 - n0) / 16 * 16 : n0;
    const bool      aside = any_row_aside(a, head, m0, m1, 0, a->K);
    const int8_t   *q[FEW_MAX + DOT_FEW];
    const ActGroup *g[FEW_MAX + DOT_FEW];
    const uint8_t  *b = a->b + head * a->b_head;
    float          *c = a->c + m0 * a->c_row + head * a->c_head;
    for (int64_t n = n0; n < whole; n += 16) {
        v16 sum[FEW_MAX + DOT_FEW];
        for (int m = 0; m < FEW_MAX + DOT_FEW; m++) sum[m] = v_zero();
        for (int k = 0; k < a->K; k += part) {
            int        kc = a->K - k < part ? a->K - k : part;
            StripeRows s = stripe_of(a, b + n * a->b_row, k, kc, scratch);
            for (int m = 0; m < rows + DOT_FEW; m++) { /* rows beyond the last are it again, and thrown away */
                int64_t row = (m0 + (m < rows ? m : rows - 1)) * a->H + head;
                q[m] = a->q + row * a->K + k;
                g[m] = a->g + row * act_groups(a->K) + k / ACT_GROUP;
            }
            for (int m = 0; m < rows;) {
                bool one = m + 1 == rows;
                few_fn(a->b_type, one)(s, kc / block, q + m, g + m, sum + m);
                m += one ? 1 : DOT_FEW;
            }
        }
        for (int m = 0; m < rows; m++) v_store(c + m * a->c_row + n, a->bias && !aside ? v_add(sum[m], v_load(a->bias + n)) : sum[m]);
    }
    if (aside) {
        DotRoom room = dot_room(scratch);
        dot_aside(a, head, m0, m1, n0, whole, &room);
    }
    if (whole < n1) dot_block(a, head, m0, m1, whole, n1, scratch);
}

KERNEL(dot)
{
    const DotArgs *a = args;
    int64_t        rows = (a->M + DOT_TILE_M - 1) / DOT_TILE_M, cols = (a->N + DOT_TILE_N - 1) / DOT_TILE_N;
    while (i0 < i1) { /* the items that lie in one row of tiles go together */
        int64_t row = i0 / cols, stop = (row + 1) * cols < i1 ? (row + 1) * cols : i1;
        int64_t m0 = row % rows * DOT_TILE_M, n0 = (i0 - row * cols) * DOT_TILE_N, n1 = (stop - row * cols) * DOT_TILE_N;
        if (a->M <= few_max(a))
            dot_few(a, row / rows, 0, a->M, n0, n1 < a->N ? n1 : a->N, align64(scratch));
        else
            dot_block(a, row / rows, m0, m0 + DOT_TILE_M < a->M ? m0 + DOT_TILE_M : a->M, n0, n1 < a->N ? n1 : a->N, align64(scratch));
        i0 = stop;
    }
}

#endif
