/* The shapes of a recipe's models: [model], and what grow stages make of it. */
#include "recipe.h"

#include <string.h>

enum { VOCAB_ANY = 1024 /* the tokenizer's is known later */ };

bool stage_leaves_model(StageKind k)
{
    return k == STAGE_PRETRAIN || k == STAGE_SFT || k == STAGE_GRPO || k == STAGE_GROW;
}

const Stage *recipe_source(const Recipe *r, const Stage *s)
{
    const Stage *prev = NULL;
    if (s->from_model[0]) return NULL;
    for (int i = 0; i < r->n_stage && &r->stage[i] != s; i++) {
        const Stage *p = &r->stage[i];
        if (s->from[0] ? strcmp(p->name, s->from) == 0 : stage_leaves_model(p->kind)) prev = p;
    }
    return prev;
}

Config stage_model(const Recipe *r, const Stage *s)
{
    const Stage *from = s ? recipe_source(r, s) : NULL;
    Config       c = from ? stage_model(r, from) : r->model;
    if (s && s->kind == STAGE_GROW) config_widen(&c, &s->grow, NULL); /* recipe_check_model has asked whether that can be */
    return c;
}

Config recipe_last_model(const Recipe *r)
{
    const Stage *last = NULL;
    for (int i = 0; i < r->n_stage; i++)
        if (stage_leaves_model(r->stage[i].kind)) last = &r->stage[i];
    return stage_model(r, last);
}

/* The border of model files judges: what it would refuse to read is not trained either. */
static int check_shape(const Recipe *r, Config c, const char *what, aha_error *e)
{
    Config again;
    char  *text;
    int    rc;
    if (c.max_pos < r->context) /* said here, and not by the first stage that asks the model */
        return error_set(e, AHA_ERR_FORMAT, "%s: max_pos is %d, expected at least the context of %d", what, c.max_pos, r->context);
    if (c.n_dense_first > c.n_layer)
        return error_set(e, AHA_ERR_FORMAT, "%s: n_dense_first is %d, expected at most n_layer, %d", what, c.n_dense_first, c.n_layer);
    c.vocab = VOCAB_ANY;
    if ((rc = config_write(&c, r->save_type, &text, e)) != 0) return rc;
    rc = config_parse(&again, text, strlen(text), "[model] as config.json", e);
    mem_free(text);
    return rc ? error_prefix(e, rc, "%s", what) : 0;
}

static int check_grown(const Recipe *r, const Stage *s, const char *what, aha_error *e)
{
    const Stage *from = recipe_source(r, s);
    Config       c = from ? stage_model(r, from) : r->model;
    aha_error    why = {0};
    if (config_widen(&c, &s->grow, &why)) return error_set(e, AHA_ERR_FORMAT, "%s: stage %s: %s", what, s->name, why.text);
    return check_shape(r, c, what, e);
}

int recipe_check_model(const Recipe *r, const char *what, aha_error *e)
{
    bool trains = false;
    int  rc = 0;
    for (int i = 0; i < r->n_stage; i++) trains = trains || stage_leaves_model(r->stage[i].kind);
    if (trains) rc = check_shape(r, r->model, what, e);
    for (int i = 0; i < r->n_stage && rc == 0; i++)
        if (r->stage[i].kind == STAGE_GROW) rc = check_grown(r, &r->stage[i], what, e);
    return rc;
}
