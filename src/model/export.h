/* Writing a model under another naming: what the files export*.c share. */
#ifndef AHA_MODEL_EXPORT_H
#define AHA_MODEL_EXPORT_H

#include "bind.h"

/* How a written row comes from stored ones.  PAIRS: rope's halves become pairs, HALVES: the other way; KEYS, VALUES: of kv_b; JOINED: kv_b of
 * k_b and v_b; FACTORS: what rope's frequencies are divided by; BYTES: a tensor that no model reads, as it is */
typedef enum Kind { PLAIN, PAIRS, HALVES, KEYS, VALUES, JOINED, FACTORS, BYTES } Kind;

typedef struct Source {
    const Weight     *w, *v;  /* w: of the first expert where experts are stacked; JOINED: k_b and v_b */
    const TensorInfo *stored; /* BYTES */
    char              name[128];
    Kind              kind;
    int               rows, cols;   /* of one matrix */
    int               head, turned; /* rows of a head, and how many of its last ones rope turns */
} Source;

enum { ROWS_AT_ONCE = 256 };
typedef struct Export {
    const Model         *m; /* under the target's names */
    const ExportOptions *o;
    bool                 gguf;   /* the target */
    TensorInfo          *t;      /* [n] the target's tensors, */
    Source              *s;      /* [n] and where each is from */
    int                  n, cap;
    int64_t              done, total; /* numbers */
    float               *row;         /* [workers][cols_max] */
    float               *weight;      /* columns' weights of the tensor in hand, [matrices, cols]; NULL: all alike */
    uint8_t             *out;
    int64_t              bad[ROWS_AT_ONCE];
    int                  tensor, cols_max;
    int64_t              from; /* the first row of those in hand */
} Export;

/* Fills x->t and x->s: m's tensors under the target's names (export_list.c).  Freed by export_free. */
int  export_list(Export *x, const Model *m, aha_error *e);
void export_free(Export *x);
int64_t export_rows(const Source *s, const TensorInfo *t); /* of all matrices; BYTES: 1 */
int64_t export_numbers(const Source *s, const TensorInfo *t);
/* The tensors of a GGUF file of m, as o says; copy becomes m under its names, which x keeps. */
int  export_list_gguf(Export *x, Model *copy, const Model *m, const ExportOptions *o, aha_error *e);
/* OutputCalls.write and .whole (export_rows.c) */
int  export_write(void *user, int i, Output *o, aha_error *e);
void export_whole(void *user, int i);
/* Memory for rows; is the importance of this model? */
int  export_rows_begin(Export *x, aha_error *e);

#endif
