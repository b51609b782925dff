/* The tasks that there are, and what holds for all of them. */
#include "task.h"

#include <string.h>

static const Task *const TASKS[] = {&task_countdown3, &task_countdown3_short, &task_countdown4, &task_countdown5, &task_equation, &task_wordproblem, &task_direct};

_Static_assert(ARRAY_LEN(TASKS) <= TASKS_MAX, "lists of tasks have room for TASKS_MAX");

const Task *const *task_all(int *n)
{
    *n = (int)ARRAY_LEN(TASKS);
    return TASKS;
}

const Task *task_find(const char *name, aha_error *e)
{
    const char *names[ARRAY_LEN(TASKS)], *near;
    for (size_t i = 0; i < ARRAY_LEN(TASKS); i++) {
        if (strcmp(TASKS[i]->name, name) == 0) return TASKS[i];
        names[i] = TASKS[i]->name;
    }
    if (strcmp(name, "countdown") == 0) return &task_countdown3;
    near = name_nearest(name, names, (int)ARRAY_LEN(TASKS));
    error_set(e, AHA_ERR_ARG, "unknown task \"%.60s\"%s%s%s", name, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}

Split problem_split(const Problem *p)
{
    return p->task->key(p) % 10 == 0 ? SPLIT_HELD_OUT : SPLIT_TRAIN;
}

bool task_parse(const char *text, size_t n, Problem *p)
{
    for (size_t i = 0; i < ARRAY_LEN(TASKS); i++)
        if (TASKS[i]->parse(TASKS[i], text, n, p)) return true;
    return false;
}

static const char *const VARIANT[VARIANT_COUNT] = {NULL, "free", "wording", "large"};

const char *variant_name(Variant v)
{
    return v > VARIANT_NONE && v < VARIANT_COUNT ? VARIANT[v] : NULL;
}

int variant_find(const char *name, Variant *out, aha_error *e)
{
    *out = VARIANT_NONE;
    if (!name) return 0;
    for (int i = VARIANT_NONE + 1; i < VARIANT_COUNT; i++)
        if (strcmp(VARIANT[i], name) == 0) *out = (Variant)i;
    if (*out) return 0;
    return error_set(e, AHA_ERR_ARG, "unknown variant \"%.60s\"; there are: free (as people type), wording (wordings that no training shows) and large (numbers beyond "
                                     "training's)", name);
}

int problem_new(const Task *t, Split split, Variant v, Rng *rng, Problem *p, Buf *prompt, aha_error *e)
{
    t->generate(t, split, v, rng, p);
    t->word(p, rng, v, prompt);
    return prompt->failed ? error_set(e, AHA_ERR_NOMEM, "cannot get memory for a problem") : 0;
}

Verdict problem_judge(const Problem *p, const char *answer, size_t n)
{
    return p->task->judge(p, answer, n);
}

int corpus_sample(const Task *t, Variant v, Rng *rng, Buf *prompt, Buf *thinking, Buf *answer, aha_error *e)
{
    Problem p;
    int     rc = t->demo ? problem_new(t, SPLIT_TRAIN, v, rng, &p, prompt, e) : error_set(e, AHA_ERR_ARG, "%s has no corpus: it is only asked", t->name);
    if (rc) return rc;
    t->demo(&p, rng, thinking, answer);
    return thinking->failed || answer->failed ? error_set(e, AHA_ERR_NOMEM, "cannot get memory for a sample") : 0;
}
