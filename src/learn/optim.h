/* Optimisers over a model's weights: AdamW (Loshchilov and Hutter 2019) for vectors, embeddings and the head; Muon
 * (Jordan et al. 2024: momentum, then the nearest orthogonal matrix by Newton-Schulz) for the matrices, when asked for.
 * Every weight is updated by one task in one fixed order: the number of threads changes no bit. */
#ifndef AHA_LEARN_OPTIM_H
#define AHA_LEARN_OPTIM_H

#include "../model/model.h"

typedef struct OptimOptions {
    double lr;           /* AdamW */
    double muon_lr;      /* 0: AdamW for matrices too */
    double beta1, beta2, eps, weight_decay;
    double momentum;     /* Muon's, Nesterov */
    double clip;         /* largest norm of the whole gradient; 0: no clipping */
} OptimOptions;

typedef struct Optim {
    Model       *m;
    OptimOptions o;
    int64_t      step;        /* updates done */
    float       *state[2];    /* flat, laid out like the gradients: first moment or momentum; second moment */
    size_t      *offset;      /* [n_weight] of each weight in a flat buffer, in floats */
    size_t       n;           /* floats in a flat buffer */
    uint8_t     *scratch;     /* [threads, scratch_bytes] for Newton-Schulz */
    size_t       scratch_bytes;
    int          threads;
} Optim;

int  optim_init(Optim *o, Model *m, const OptimOptions *opt, int threads, aha_error *e);
void optim_free(Optim *o);
/* The weight is trained: everything but the router's bias, which the balancing rule moves. */
bool optim_trains(const Weight *w);
/* The Euclidean norm of a flat gradient: a weight's squares are summed in double in order, then the weights'. */
double optim_norm(const Optim *o, const float *grad, Pool *pool);
/* One update with learning rates times lr_scale and the gradient times grad_scale. */
void optim_step(Optim *o, const float *grad, double grad_scale, double lr_scale, const Kernels *k, Pool *pool);

#endif
