/* The products behind linear, for other ops of this folder (experts, the chunked head).  Rows are x_row, y_row apart. */
#ifndef AHA_TENSOR_LINEAR_H
#define AHA_TENSOR_LINEAR_H

#include "tensor.h"

/* Activations as products take them: x, and where it is known already the same in 8 bits (ActArgs), packed. */
typedef struct Act {
    const real *x;
    int64_t     x_row;
    int8_t     *q; /* NULL: not yet */
    ActGroup   *g;
    int         q_row, g_row; /* of q, of g: from a row to the next */
} Act;
/* Memory of the arena for H heads of K columns of T rows in 8 bits, or none, when no product wants them so.  filled later */
Act  act_new(Ctx *c, const real *x, int64_t x_row, int T, int H, int K);
/* whether products with w want them */
bool act_wanted(const Ctx *c, const Weight *w);
/* Fills rows [t0, t0 + T) of a, whose heads of x are x_head columns apart. */
void act_fill(Ctx *c, const Act *a, int64_t x_head, int t0, int T, int H, int K);
/* rows from t0 on */
Act  act_rows(const Act *a, int t0);

/* Products with weights that want a in 8 bits: put together, they run as one. */
enum { DOTS_MAX = 32 };
DotArgs dot_args(const Act *a, int T, const Weight *w, const real *bias, real *y, int y_row);
void    dot_run_all(Ctx *c, const DotArgs *a, int n); /* n at most DOTS_MAX */

/* y [T, w.rows] = x [T, w.cols] W^T + bias */
void linear_rows(Ctx *c, const Act *x, int T, const Weight *w, const real *bias, real *y, int y_row);
/* Tells the context's observer, where there is one, what w is about to be multiplied with. */
static inline void linear_watch(const Ctx *c, const Weight *w, int part, bool turned, const real *x, int x_row, int n)
{
    if (c->observer && !ctx_failed(c) && !ctx_dry(c) && !c->recomputing) c->observer->see(c->observer, w, part, turned, x, x_row, n);
}
/* dx += dy W */
void linear_grad_x(Ctx *c, const real *dy, int dy_row, int T, const Weight *w, real *dx, int dx_row);
/* dw [rows, cols] += dy^T x */
void linear_grad_w(Ctx *c, const real *dy, int dy_row, const real *x, int x_row, int T, int rows, int cols, real *dw);

#endif
