/* grow: a wider model that computes the same function, to train on from (Net2WiderNet, arXiv 1511.05641). */
#ifndef AHA_LEARN_GROW_H
#define AHA_LEARN_GROW_H

#include "../model/model.h"

typedef struct Widths { /* of the wider model; 0: as before */
    int d_model, d_ff, d_expert, n_head, nope, rope_dim, v_dim, q_lora, kv_lora;
} Widths;

/* c gets those widths.  AHA_ERR_ARG: one would shrink; D, Q or R is no whole multiple, as copies of every channel and the pairs' turning
 * need; R's frequencies are scaled or its pairs lie in halves; embedding and head are one; no deepseek_v3. */
int config_widen(Config *c, const Widths *w, aha_error *e);
/* A new model, trainable, with m's function up to rounding; what is new in it comes from the seed.  m: weights in f32. */
int model_grow(Model **out, const Model *m, const Widths *w, uint64_t seed, aha_error *e);

#endif
