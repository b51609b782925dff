/* task: what a model is taught and judged on.  A task is a plug-in: it generates problems, words them, recognises typed
 * ones, judges answers by rule, and writes the searches of a base corpus.  Adding one is a file and a line in task.c.
 *
 * The split: a problem's key is a hash of what makes it the same problem (for Countdown the sorted numbers and the target),
 * and one key in ten is held out.  No held-out problem, in any order or wording, occurs in training. */
#ifndef AHA_LEARN_TASK_H
#define AHA_LEARN_TASK_H

#include "../base/base.h"

enum { PROBLEM_NUMBERS_MAX = 6, TASKS_MAX = 16 };

typedef enum Split { SPLIT_TRAIN, SPLIT_HELD_OUT } Split;

/* FREE may be trained on; the others are unlike all that training shows, and only for evaluation. */
typedef enum Variant {
    VARIANT_NONE,
    VARIANT_FREE,    /* ordinary problems in the many wordings in which people type, words outside the vocabulary too */
    VARIANT_WORDING, /* ordinary problems in wordings that never occur in training */
    VARIANT_LARGE,   /* a number beyond the range of training's, so that no split is needed to keep them apart */
    VARIANT_COUNT
} Variant;

typedef struct Task Task;
typedef struct Problem {
    const Task *task;
    int         kind;                        /* the task's own: which form of equation, which story; else 0 */
    int         n;                           /* numbers */
    int         number[PROBLEM_NUMBERS_MAX]; /* in the order of the prompt */
    int         target;                      /* what is to be made, or the right answer */
} Problem;

typedef struct Verdict {
    float       reward;  /* 1 right, 0 not */
    bool        correct;
    bool        well_formed; /* an answer of the kind asked for, right or not */
    const char *reason;  /* why not, for a person; static */
} Verdict;

/* What a thinking text shows. */
typedef struct Behaviour {
    int  equations, wrong; /* written equations, and those that are false */
    int  checks, waits;    /* "Check", "Wait" */
    int  backward;         /* "Need": steps from the target backwards */
    bool gives_up, no_thinking;
} Behaviour;

struct Task {
    const char *name, *help;
    /* a problem of that split, of the numbers that the variant asks for; *p filled */
    void     (*generate)(const Task *t, Split split, Variant v, Rng *rng, Problem *p);
    uint64_t (*key)(const Problem *p);
    void     (*word)(const Problem *p, Rng *rng, Variant variant, Buf *prompt);
    Verdict  (*judge)(const Problem *p, const char *answer, size_t n);
    /* a sample of the base corpus: a search that may fail.  NULL: a task to be asked only, never trained on */
    void     (*demo)(const Problem *p, Rng *rng, Buf *thinking, Buf *answer);
    /* a freely typed question of this task; false: it is none */
    bool     (*parse)(const Task *t, const char *text, size_t n, Problem *p);
    int        option[4]; /* the plug-in's own numbers: how many, how large */
};

const Task *task_find(const char *name, aha_error *e); /* NULL: says the nearest name */
const Task *const *task_all(int *n);
/* Recognises a freely typed question: the task that it belongs to is p->task.  false: it is of no task. */
bool task_parse(const char *text, size_t n, Problem *p);
Split problem_split(const Problem *p);
/* By name; NULL is VARIANT_NONE.  An unknown one: AHA_ERR_ARG, and the text names those that there are. */
int  variant_find(const char *name, Variant *out, aha_error *e);
const char *variant_name(Variant v); /* NULL for VARIANT_NONE */

int     problem_new(const Task *t, Split split, Variant v, Rng *rng, Problem *p, Buf *prompt, aha_error *e);
Verdict problem_judge(const Problem *p, const char *answer, size_t n);
/* AHA_ERR_ARG for a task that has no corpus. */
int     corpus_sample(const Task *t, Variant v, Rng *rng, Buf *prompt, Buf *thinking, Buf *answer, aha_error *e);
/* Every piece of text (words with their leading blank, runs of signs) that these tasks write, as DeepSeek's pre-tokeniser cuts
 * it, sorted; the same on every call, whatever the order of the tasks.  One block: mem_free(*words) (words.c). */
int     task_words(const Task *const *task, int n_task, const char ***words, int *n, aha_error *e);

/* The value of an arithmetic expression over whole numbers, + - * / and parentheses, exactly, as num/den; the numbers used
 * in their order.  false: malformed, too deep, too large, or a division by zero (expr.c). */
enum { EXPR_NUMBERS_MAX = 32 };
typedef struct ExprValue {
    int64_t num, den;
    int     n;
    int64_t used[EXPR_NUMBERS_MAX];
} ExprValue;
bool expr_eval(const char *s, size_t n, ExprValue *out);

void behaviour_read(const char *thinking, size_t n, Behaviour *out); /* behaviour.c */

extern const Task task_countdown3, task_countdown3_short, task_countdown4, task_countdown5, task_equation, task_wordproblem, task_direct;

#endif
