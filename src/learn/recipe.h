/* recipe: a readable file that names stages, data, seeds and budgets (docs/recipe.md describes every key). */
#ifndef AHA_LEARN_RECIPE_H
#define AHA_LEARN_RECIPE_H

#include "../format/format.h"
#include "grow.h"
#include "task.h"
#include "trainer.h"

enum { RECIPE_STAGES_MAX = 32, STAGE_TASKS_MAX = 8 };

typedef enum StageKind {
    STAGE_PRETRAIN, /* generated corpus, loss on every token */
    STAGE_SFT,      /* a JSONL file of samples, loss on the reply */
    STAGE_GRPO,     /* reinforcement learning with rule-checked rewards */
    STAGE_GROW,     /* a wider model that computes the same function */
    STAGE_SAMPLE,   /* writes the model's own verified answers to a JSONL file: for filtered SFT and distillation */
    STAGE_EVAL,     /* accuracy on held-out problems */
    STAGE_COUNT
} StageKind;

typedef struct TaskMix { /* "countdown3:2 equation:1": tasks and their shares */
    const Task *task[STAGE_TASKS_MAX];
    double      share[STAGE_TASKS_MAX];
    int         n;
} TaskMix;

typedef struct Stage {
    char      name[48];
    StageKind kind;
    char      from[48]; /* the stage whose model it starts from; empty: the one before */
    char      from_model[256]; /* grow: a folder of the recipe's shape and words instead */
    Widths    grow;
    TaskMix   tasks, tasks_end; /* pretrain, grpo: shares move from the first to the second; n 0: they stay */
    Variant   variant;  /* FREE anywhere; eval: any */
    /* training */
    int64_t tokens;       /* pretrain: budget */
    int64_t batch_tokens; /* pretrain, sft: per update */
    int     steps;        /* grpo: updates of the policy's data */
    int     warmup;       /* steps */
    double  decay;        /* share of the stage at the end in which the learning rate falls linearly to lr_min */
    double  lr_min;       /* of the top rate */
    OptimOptions optim;
    double  balance_rate, draft_weight;
    double  prompt_weight; /* of a prompt's tokens in the loss, a reply's being 1 */
    /* sft, sample */
    char    file[256];    /* JSONL, relative to the run's folder */
    double  epochs;
    /* grpo, sample, eval */
    int     questions, group, minibatches, max_new, n, samples;
    double  temperature, top_p;
    double  eps_low, eps_high, beta;   /* clip range; KL weight */
    bool    divide_std, token_mean, drop_equal, random_reward;
    double  format_weight, honest_weight; /* of a well-formed reply; subtracted for each share of wrong equations */
    int     overlong;     /* the soft penalty covers the last so many tokens; 0: none */
    int     ref_every;    /* steps after which the reference model is refreshed; 0: never */
    int     eval_every, eval_n, eval_samples; /* held-out accuracy while training: every so many steps, on so many problems,
                                                 so many answers each */
} Stage;

typedef struct Recipe {
    char     name[64], title[160];
    uint64_t seed;
    Config   model;
    int      slot_tokens, context;
    bool     keep_tape;
    double   checkpoint_s; /* seconds between checkpoints */
    Dtype    save_type;    /* of the models written after each stage */
    Stage    stage[RECIPE_STAGES_MAX];
    int      n_stage;
    char    *text; /* the file itself, kept beside the results */
} Recipe;

/* path: the file, or without its ".ini".  Unknown keys and sections are errors that name the line and the nearest key. */
int  recipe_read(Recipe *r, const char *path, aha_error *e);
int  recipe_parse(Recipe *r, const char *text, size_t n, const char *what, aha_error *e);
/* Whether a model of that shape can be made, saved and opened again; recipe_read asks it of every recipe that trains. */
int  recipe_check_model(const Recipe *r, const char *what, aha_error *e);
/* Whether such a stage leaves a model: those that train, and grow. */
bool stage_leaves_model(StageKind k);
/* The stage that s starts from, or NULL: random weights, or a folder. */
const Stage *recipe_source(const Recipe *r, const Stage *s);
/* The shape of the model that a stage leaves or asks, of a recipe that was checked; vocab is the tokenizer's to say.  s NULL: [model]. */
Config stage_model(const Recipe *r, const Stage *s);
/* Of the last stage that leaves one. */
Config recipe_last_model(const Recipe *r);
void recipe_free(Recipe *r);
/* The tasks that a stage names, each once; how many. */
int  stage_tasks(const Stage *s, const Task *out[TASKS_MAX]);
/* Those of all stages: whose words the tokenizer gets.  All that there are, when no stage names one. */
int  recipe_tasks(const Recipe *r, const Task *out[TASKS_MAX]);
/* Every key with its kind, default and help, for docs and `aha learn --help`. */
typedef struct RecipeKey {
    const char *section, *name, *help;
} RecipeKey;
const RecipeKey *recipe_keys(int *n);
const char *stage_kind_name(StageKind k);

#endif
