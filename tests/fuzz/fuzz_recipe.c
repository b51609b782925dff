/* Recipes: what is accepted stays within its bounds, and a shape that passes can be written as a config and read again. */
#include <string.h>

#include "learn/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Recipe    r;
    aha_error e = {0};
    if (recipe_parse(&r, (const char *)data, size, "fuzz", &e)) {
        must(e.code && e.text[0] && !r.text);
        return 0;
    }
    must(r.n_stage >= 1 && r.n_stage <= RECIPE_STAGES_MAX && r.context >= 64 && r.slot_tokens >= 64);
    for (int i = 0; i < r.n_stage; i++) {
        const Stage *s = &r.stage[i];
        const Task  *task[TASKS_MAX];
        must(s->name[0] && s->name[0] != '.' && !strpbrk(s->name, "/\"\\") && !strpbrk(s->file, "/\"\\"));
        must(stage_tasks(s, task) <= TASKS_MAX && s->minibatches >= 1 && s->samples >= 1 && s->optim.lr >= 0);
    }
    if (!recipe_check_model(&r, "fuzz", &e)) must(!r.model.n_expert || r.model.n_dense_first <= r.model.n_layer);
    recipe_free(&r);
    return 0;
}
