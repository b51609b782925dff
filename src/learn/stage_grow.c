/* A stage that grows a model: nothing is trained in it. */
#include "run.h"

#include <stdio.h>
#include <string.h>

#define STREAM_GROW 0x67726f77u

/* A folder's model may be a run's beginning when it is of the recipe's shape and words. */
static int check_folder(const Run *r, const Model *m, const char *path, aha_error *e)
{
    Config want = r->recipe.model;
    char  *text[3] = {0}, file[2048];
    size_t n = 0;
    int    rc;
    want.vocab = tokenizer_vocab(r->tok);
    rc = config_write(&want, r->recipe.save_type, &text[0], e);
    if (rc == 0) rc = config_write(&m->cfg, r->recipe.save_type, &text[1], e);
    if (rc == 0 && strcmp(text[0], text[1]) != 0) rc = error_set(e, AHA_ERR_FORMAT, "%s: its config.json is not the recipe's [model]", path);
    if (rc == 0) rc = path_join(file, sizeof file, path, "tokenizer.json", e);
    if (rc == 0) rc = file_read_all(file, (size_t)1 << 24, &text[2], &n, e);
    if (rc == 0 && (n != strlen(r->tokenizer_json) || memcmp(text[2], r->tokenizer_json, n) != 0))
        rc = error_set(e, AHA_ERR_FORMAT, "%s: not the words of the recipe's tasks", file);
    for (int i = 0; i < 3; i++) mem_free(text[i]);
    return rc;
}

static int open_source(Model **m, const Run *r, const Stage *s, aha_error *e)
{
    const Stage *from = recipe_source(&r->recipe, s);
    char         path[2048];
    Config       c;
    int          rc;
    if (s->from_model[0]) {
        rc = model_open(m, s->from_model, &(ModelOptions){.trainable = true}, e);
        return rc ? rc : check_folder(r, *m, s->from_model, e);
    }
    c = stage_model(&r->recipe, from);
    c.vocab = tokenizer_vocab(r->tok);
    rc = model_init_random(m, &c, NULL, r->seed, e);
    snprintf(path, sizeof path, "%s/%s.safetensors", r->checkpoint_dir, from->name);
    return rc ? rc : weights_load_f32(*m, path, e);
}

int stage_grow(Run *r, const Stage *s, aha_error *e)
{
    Model *from = NULL, *m = NULL;
    int    rc = open_source(&from, r, s, e);
    if (rc == 0) rc = model_grow(&m, from, &s->grow, r->seed ^ STREAM_GROW, e);
    if (rc == 0) rc = stage_write(r, s, m, e);
    model_free(from);
    model_free(m);
    return rc;
}
