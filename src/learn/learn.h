/* learn: recipes run, checkpointed, resumed and reported.
 *
 * A run's folder:  recipe.ini  metrics.jsonl  report.html  checkpoint/  and, per stage, a Hugging Face folder STAGE/.
 * metrics.jsonl: one object a line, always with "stage", "kind", "step"; see docs/recipe.md for the fields. */
#ifndef AHA_LEARN_LEARN_H
#define AHA_LEARN_LEARN_H

#include "evaluate.h"
#include "recipe.h"
#include "task.h"

typedef struct LearnProgress {
    const char *stage;
    StageKind   kind;
    int64_t     done, total;   /* tokens, steps or problems, by the stage's kind */
    double      elapsed_s, left_s; /* of this stage; left_s < 0: not known yet */
    char        line[160];     /* what is worth seeing now: loss, reward, accuracy */
} LearnProgress;

typedef struct LearnOptions {
    const char *recipe;   /* path */
    const char *out;      /* the run's folder; NULL: runs/NAME */
    const char *until;    /* stop after this stage; NULL: all */
    const char *cpu;      /* ISA mask or NULL */
    int         threads;  /* 0: all */
    bool        fresh;    /* false: resume when the folder holds a checkpoint */
    bool        paper;    /* GRPO in the paper's own form, whatever the recipe says */
    uint64_t    seed;     /* with has_seed: instead of the recipe's */
    bool        has_seed;
    void (*progress)(void *user, const LearnProgress *p); /* about ten times a second at most; NULL: none */
    bool (*stop)(void *user); /* asked between steps: true ends the run with a checkpoint (AHA_ERR_CANCELLED) */
    void *user;
} LearnOptions;
int learn_run(const LearnOptions *o, aha_error *e);

/* n samples of a task's corpus as ids, one behind the other in *ids; end[i] (n of them, the caller's) is where sample i ends.
 * Each as training shows it: prompt by the chat template, thinking, answer.  AHA_ERR_ARG for a task without a corpus. */
int corpus_text(const Tokenizer *tok, ChatTemplate tpl, const Task *t, uint64_t seed, int n, Ids *ids, int *end, aha_error *e);

/* Writes DIR/report.html from DIR/metrics.jsonl and DIR/recipe.ini (report.c). */
int report_write(const char *dir, aha_error *e);

#endif
