/* run: what the stages of one recipe share.  Inside this folder only. */
#ifndef AHA_LEARN_RUN_H
#define AHA_LEARN_RUN_H

#include "../cpu/cpu.h"
#include "checkpoint.h"
#include "evaluate.h"
#include "learn.h"
#include "rollout.h"
#include "task.h"

typedef struct Run {
    const LearnOptions *o;
    Recipe         recipe;
    uint64_t       seed;
    char           dir[1024], checkpoint_dir[1100];
    const Kernels *k;
    Pool          *pool;
    char          *tokenizer_json;
    Tokenizer     *tok;
    ChatTemplate   tpl;
    File           metrics;
    RunState       state;
    uint64_t       started_ns, saved_ns, shown_ns;
    double         elapsed_before; /* of this stage, before this process took it up */
} Run;

/* One line of metrics.jsonl: the fields that every line has, then `fields` (without braces). */
int  run_log(Run *r, const Stage *s, const char *kind, int64_t step, const Buf *fields, aha_error *e);
/* "key":value for such fields, null for what is no finite number: JSON has no word for it, and a bad step is logged too. */
void log_num(Buf *fields, const char *key, int digits, double v);
void run_progress(Run *r, const Stage *s, int64_t done, int64_t total, bool force, const char *fmt, ...) PRINTF_LIKE(6, 7);
bool run_stopping(const Run *r);
double run_elapsed(const Run *r); /* seconds of this stage */

/* A stage that trains: the model, its trainer and an engine over the same weights. */
typedef struct Training {
    Run         *run;
    const Stage *st;
    Model       *m;
    Trainer      t;
    Engine      *engine;
    Model       *ref; /* grpo with a KL term: the reference, and a trainer is not needed for it */
} Training;
int  training_begin(Training *t, Run *r, const Stage *s, int seqs_max, aha_error *e);
/* Between updates: the held-out check that is due (every eval_every updates, before the first one too when `first`), then a
 * checkpoint when it is time; AHA_ERR_CANCELLED (with a checkpoint) when asked to stop. */
int  training_tick(Training *t, bool first, aha_error *e);
/* Asked to stop within an update that has changed nothing yet: a checkpoint, then AHA_ERR_CANCELLED. */
int  training_stop(Training *t, aha_error *e);
/* Writes the stage's model folder and its f32 weights; the state moves to the next stage. */
int  training_end(Training *t, aha_error *e);
/* The same of a model that no trainer holds. */
int  stage_write(Run *r, const Stage *s, const Model *m, aha_error *e);
void training_free(Training *t);
/* The rate's factor: warm-up by steps, then 1, then linear to lr_min over the last `decay` share of progress in [0,1]. */
double lr_factor(const Stage *s, int64_t step, double progress);

/* One of a stage's tasks, by the shares that it has at this progress in [0,1] and a number u in [0,1). */
const Task *stage_pick_task(const Stage *s, double progress, double u);

/* advantage[i] = (reward[i] - mean) / std of a group of n, undivided unless divide_std; all 0, and true, where nothing tells the
 * rewards apart (stage_grpo.c). */
bool group_advantages(const float *reward, int n, bool divide_std, float *advantage);

int stage_lm(Run *r, const Stage *s, aha_error *e);     /* pretrain and sft: stage_lm.c */
int stage_grpo(Run *r, const Stage *s, aha_error *e);   /* stage_grpo.c */
int stage_sample(Run *r, const Stage *s, aha_error *e); /* stage_eval.c */
int stage_eval(Run *r, const Stage *s, aha_error *e);   /* stage_eval.c */
int stage_grow(Run *r, const Stage *s, aha_error *e);   /* stage_grow.c */
/* The stage's folder of the run: DIR/NAME. */
int stage_dir(const Run *r, const Stage *s, char *out, size_t cap, aha_error *e);

#endif
