/* What tests of tasks share: when two problems are the same, told without the key that the split goes by. */
#ifndef AHA_TESTS_TASKLIB_H
#define AHA_TESTS_TASKLIB_H

#include "learn/task.h"
#include "testlib.h"

static inline int order(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

static inline bool is_countdown(const Problem *p)
{
    return strncmp(p->task->name, "countdown", 9) == 0;
}

/* The kind, the numbers and the target as one number; of Countdown the numbers in any order are the same. */
static inline uint64_t identity(const Problem *p)
{
    int      v[PROBLEM_NUMBERS_MAX];
    uint64_t h = (uint64_t)p->target * 32 + (uint64_t)p->kind;
    memcpy(v, p->number, (size_t)p->n * sizeof *v);
    if (is_countdown(p)) qsort(v, (size_t)p->n, sizeof *v, order);
    for (int i = 0; i < p->n; i++) h = h * 1000 + (uint64_t)v[i];
    return h;
}

static inline int order64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

#endif
