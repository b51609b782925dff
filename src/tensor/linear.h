/* The products behind linear, for other ops of this folder (experts, the chunked head).  Rows are x_row, y_row apart. */
#ifndef AHA_TENSOR_LINEAR_H
#define AHA_TENSOR_LINEAR_H

#include "tensor.h"

/* y [T, w.rows] = x [T, w.cols] W^T + bias */
void linear_rows(Ctx *c, const real *x, int x_row, int T, const Weight *w, const real *bias, real *y, int y_row);
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
