/* evaluate: a model's answers to a task's problems, judged by rule.  Used by `aha eval`, by recipes and by training. */
#ifndef AHA_LEARN_EVALUATE_H
#define AHA_LEARN_EVALUATE_H

#include "../infer/infer.h"
#include "../judge/judge.h"
#include "../text/text.h"
#include "task.h"

typedef struct EvalOptions {
    const Task *task;
    Variant     variant;
    int         n;         /* problems */
    int         samples;   /* answers per problem */
    double      temperature, top_p;
    int         max_new;   /* tokens of thinking and answer */
    const ThinkTags *think; /* NULL: no budget */
    int         think_budget; /* tokens of thinking, then it is closed */
    uint64_t    seed;      /* of problems and answers */
    bool        train_split; /* problems of the training split instead of the held-out one */
    int         examples;  /* how many answers to keep with their text */
    /* Answers: done, and of these judged (by the hundred), and of those right.  After every step of the engine; NULL: none */
    void (*progress)(void *user, int done, int total, int judged, int right);
    bool (*stop)(void *user);
    void *user;
} EvalOptions;

typedef struct EvalExample {
    char *prompt, *thinking, *answer;
    bool  correct;
    float reward;
} EvalExample;

enum { EVAL_K_MAX = 8 }; /* k = 1, 2, 4 ... 128, as far as samples reach */
typedef struct EvalResult {
    int      n, samples;
    Interval pass1;
    int      n_k, k[EVAL_K_MAX];
    double   pass_k[EVAL_K_MAX];
    double   maj;            /* right when the most frequent answer is, over the samples */
    double   well_formed, truncated;
    double   thinking;       /* mean tokens before </think> */
    double   gives_up, no_thinking, checks, waits, backward; /* shares of answers */
    double   wrong_equations; /* share of written equations that are wrong */
    double   false_right;    /* share of right answers whose thinking holds a wrong equation */
    double   seconds;
    int64_t  tokens;
    EvalExample *example;
    int      n_example;
} EvalResult;

int  evaluate(EvalResult *out, Engine *engine, const Tokenizer *tok, ChatTemplate tpl, const EvalOptions *o, aha_error *e);
void eval_result_free(EvalResult *r);
/* The result as one JSON object's fields, without the braces: "n":..,"pass1":.. */
void eval_result_json(const EvalResult *r, Buf *out);

#endif
