/* checkpoint: the whole state of a run, so that kill and resume changes no bit.
 *
 * DIR/latest.json (the manifest, moved last) names DIR/step-N.safetensors: "model.NAME" for every weight in f32,
 * "optim.0", "optim.1" (flat moments), "ref.NAME" of the reference model if there is one. */
#ifndef AHA_LEARN_CHECKPOINT_H
#define AHA_LEARN_CHECKPOINT_H

#include "trainer.h"

typedef struct RunState {
    int      stage;        /* index of the stage under way */
    int64_t  step;         /* updates (rounds for grpo) done in it */
    int64_t  item;         /* samples of its data used */
    int64_t  tokens;       /* done in it */
    int64_t  checked;      /* the step of its last held-out check, -1: there was none */
    double   elapsed_s;    /* spent in it */
    int64_t  metrics_bytes; /* of metrics.jsonl that belong to this state */
    uint64_t recipe_hash;  /* another recipe's checkpoint is refused */
    bool     has_model;    /* false: between stages, nothing but the numbers above */
} RunState;

/* ref may be NULL.  The old or the new checkpoint survives a kill at any moment; older ones are removed. */
int checkpoint_save(const char *dir, const RunState *s, const Trainer *t, const Model *ref, aha_error *e);
/* The manifest; *found false when there is none. */
int checkpoint_peek(const char *dir, RunState *s, bool *found, aha_error *e);
/* Restores weights and optimiser (and ref when not NULL); refuses a file whose bytes are not those that were written. */
int checkpoint_load(const char *dir, Trainer *t, Model *ref, aha_error *e);
/* Only the weights, as one safetensors file, for the start of later stages. */
int weights_save_f32(const Model *m, const char *path, aha_error *e);
int weights_load_f32(Model *m, const char *path, aha_error *e);

#endif
