/* The table of a model's weights: its names in both namings, place in the structs, shape.  Loading, saving and random
 * initialisation all walk it, so a name is spelled once. */
#ifndef AHA_MODEL_BIND_H
#define AHA_MODEL_BIND_H

#include "model.h"

enum { BIND_RESIDUAL_OUT = 1, BIND_EMBED = 2, BIND_VECTOR = 4, BIND_PER_HEAD = 8 }; /* PER_HEAD: stored as [H, ...] */
typedef struct BindItem {
    Weight  *w;
    char     name[128];   /* Hugging Face's */
    char     stored[128]; /* the tensor's in the file, by the model's naming */
    int      rows, cols;
    int      stack, part; /* stored as [stack, ...] of which this is matrix `part`, or, part -1, all one below the other; stack 0: [rows, cols] */
    unsigned flags;
} BindItem;
/* Calls fn for every weight that the model's config has, in the order of their ids; stops at the first nonzero result. */
typedef int BindFn(void *user, const BindItem *item, aha_error *e);
int bind_walk(Model *m, BindFn *fn, void *user, aha_error *e);
/* Allocates the layers and expert arrays of m->cfg; everything zero. */
int bind_allocate(Model *m, aha_error *e);
/* inv_freq, scales, the resident expert store, kv_shape: everything that follows from the config. */
int bind_finish(Model *m, const ModelOptions *o, aha_error *e);

/* ---- types (mix.c) ---- */
/* Routers choose among 256 experts by small differences: files keep them whole. */
bool  bind_is_router(const BindItem *b);
/* In a GGUF file of that mix. */
Dtype weight_mix_type(const WeightMix *mix, const BindItem *b);

/* ---- what loading and counting share (load.c) ---- */
/* A weight can be used where it lies in the file; otherwise it gets memory of the model's own. */
bool bind_in_place(const TensorInfo *t, bool decode);
/* Adds rows x cols elements to the model's own memory; false on overflow. */
bool bind_own(size_t *own, size_t rows, size_t cols, size_t size);
/* Names the weight and gives it the next id; m->weight has room. */
int bind_add(Model *m, const BindItem *b, aha_error *e);

#endif
