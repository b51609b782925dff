/* The tasks that there are, and what holds for all of them. */
#include "task.h"

#include <string.h>

static const Task *const TASKS[] = {&task_countdown3};

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

int problem_named(const char *task, Split split, Rng *rng, Problem *p, Buf *prompt, aha_error *e)
{
    const Task *t = task_find(task, e);
    if (!t) return AHA_ERR_ARG;
    t->generate(t, split, rng, p);
    t->word(p, rng, false, prompt);
    return prompt->failed ? error_set(e, AHA_ERR_NOMEM, "cannot get memory for a problem") : 0;
}

Verdict problem_judge(const Problem *p, const char *answer, size_t n)
{
    return p->task->judge(p, answer, n);
}

int corpus_sample_named(const char *task, Rng *rng, Buf *prompt, Buf *thinking, Buf *answer, aha_error *e)
{
    Problem p;
    int     rc = problem_named(task, SPLIT_TRAIN, rng, &p, prompt, e);
    if (rc) return rc;
    p.task->demo(&p, rng, thinking, answer);
    return thinking->failed || answer->failed ? error_set(e, AHA_ERR_NOMEM, "cannot get memory for a sample") : 0;
}
