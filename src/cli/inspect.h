/* inspect: what is found in a model's files, before anything is said about it. */
#ifndef AHA_CLI_INSPECT_H
#define AHA_CLI_INSPECT_H

#include "model_open.h"

typedef enum Group {
    GROUP_EMBED,
    GROUP_ATTN,
    GROUP_DENSE,
    GROUP_ROUTER,
    GROUP_EXPERTS,
    GROUP_SHARED,
    GROUP_NORM,
    GROUP_HEAD,
    GROUP_DRAFT,
    GROUP_OTHER,
    GROUP_COUNT
} Group;
const char *group_name(Group g);

typedef struct Count {
    int64_t tensors, params;
    double  bytes;
} Count;

enum { PROBLEMS_MAX = 8, TAKEN_MAX = 24 };
typedef struct Inspection {
    const char *path;
    bool        builtin, is_folder;
    Config      cfg;
    bool        has_config, has_words;
    Words       words;
    WeightFile *file;  /* NULL: none could be read */
    Model      *m;     /* NULL: weights and config do not fit, or one is missing */
    int         shards;
    Count       all, group[GROUP_COUNT], dtype[DT_COUNT];
    int64_t     params, active; /* by the model */
    int         unused;
    const char *unused_name;
    bool        scanned;
    int64_t     not_finite;    /* numbers */
    const char *not_finite_name;
    int         all_zero;      /* tensors */
    const char *all_zero_name;
    char        problem[PROBLEMS_MAX][512];
    int         n_problem;
    char        taken[TAKEN_MAX][512]; /* what the files leave open, and what it is taken to be */
    int         n_taken;
} Inspection;

/* path NULL: the built-in model.  Never fails for what is in the files: that becomes a problem.  scan: 1 read every number,
 * 0 do not, -1 when it takes a moment only.  An error is one of the machine. */
int  inspect_read(Inspection *x, const ModelArgs *a, const char *path, int scan, aha_error *e);
void inspect_free(Inspection *x);

#endif
