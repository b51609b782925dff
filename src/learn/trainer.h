/* trainer: one model that learns.  Samples are packed into slots of a fixed size; each slot's gradient is computed on its
 * own and the slots are added in a fixed binary tree, so that threads, and later processes, change no bit. */
#ifndef AHA_LEARN_TRAINER_H
#define AHA_LEARN_TRAINER_H

#include "optim.h"

/* One sequence to learn from.  Row i (0..n-2) predicts tok[i+1]; coef[i+1] is its weight in the loss, 0: not trained on. */
typedef struct Sample {
    const int32_t *tok;
    const float   *coef; /* [n], coef[0] unused */
    int            n;
    int            tag;  /* the caller's number, handed to the objective */
} Sample;

/* d(loss)/d(logp) and d(loss)/d(entropy) of the prediction of tok[at] of sample `tag`.  NULL objective: cross entropy,
 * dlogp = -coef. */
typedef struct Objective {
    void (*seed)(void *user, int tag, int at, float coef, float logp, float entropy, float *dlogp, float *dentropy);
    void  *user;
    double draft_weight; /* of the draft layer's cross entropy, relative to coef; 0: the draft layer is not run */
} Objective;

typedef struct TrainerOptions {
    OptimOptions optim;
    int    slot_tokens;   /* rows of a slot, at most, unless one sample is longer; 0: 1024 */
    int    sample_max;    /* longest sample */
    bool   keep_tape;     /* false: layers are run again in the backward (same bits, less memory) */
    double balance_rate;  /* of the router's bias; 0: off */
} TrainerOptions;

typedef struct StepStats {
    double  loss, draft_loss; /* sums of coef * -logp */
    double  entropy;          /* sum over trained rows */
    int64_t rows, tokens;     /* trained rows; all rows */
    double  grad_norm, load_max; /* load_max: the busiest expert's share times E, worst layer */
    bool    skipped;          /* the update was not done: not finite, or far too large */
} StepStats;

typedef struct Trainer {
    Model         *m;
    const Kernels *k;
    Pool          *pool;
    TrainerOptions o;
    Optim          optim;
    Ctx            ctx;
    Tape           tape;
    float         *leaf, *level[16]; /* flat gradients: of one slot; of 1, 2, 4... slots */
    int            n_slots;          /* accumulated so far */
    float        **wgrad;            /* [n_weight] into leaf */
    RouteStats     routes;
    int            skips;            /* in a row */
    double         norm_mean;        /* running mean of the gradient's norm */
    StepStats      now;              /* since the last update */
} Trainer;

int  trainer_init(Trainer *t, Model *m, const Kernels *k, Pool *pool, const TrainerOptions *o, aha_error *e);
void trainer_free(Trainer *t);
/* Adds the samples' gradients to what is accumulated.  logp (may be NULL) [n][...]: logp[i][j] receives the
 * log-probability of tok[j] of sample i where coef[j] != 0. */
int  trainer_accumulate(Trainer *t, const Sample *s, int n, const Objective *obj, float *const *logp, aha_error *e);
/* Forward only: the log-probabilities, with the same bits. */
int  trainer_logp(Trainer *t, const Model *m, const Sample *s, int n, float *const *logp, aha_error *e);
/* Clips, updates, balances the router, clears.  A gradient that is not finite or 1,000 times its running mean is not used
 * (stats->skipped); AHA_ERR_STATE after five of those in a row. */
int  trainer_update(Trainer *t, double lr_scale, StepStats *stats, aha_error *e);

#endif
