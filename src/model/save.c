/* Saving a model as a Hugging Face folder. */
#include "model.h"

#include <stdio.h>

typedef struct Saving {
    TensorInfo *t;
    int         n;
    uint8_t    *data; /* converted */
    Dtype       type;
} Saving;

/* the router's bias stays f32, as published */
static Dtype saved_type(const Weight *w, Dtype type)
{
    return strstr(w->name, "e_score_correction_bias") ? DT_F32 : type;
}

static void save_row(const Weight *w, int row, Dtype to, uint8_t *dst)
{
    size_t       size = (size_t)dtype_info(w->dtype)->block_bytes, at = (size_t)row * (size_t)w->cols;
    const float *scale = w->scale ? w->scale + (size_t)(row / F8_BLOCK) * (size_t)f8_blocks(w->cols) : NULL;
    for (int i = 0; i < w->cols; i++) {
        float v;
        if (w->dtype == DT_F32) v = (float)((const real *)w->data)[at + (size_t)i];
        else dtype_row_to_f32(w->dtype, (const uint8_t *)w->data + at * size, scale, i, 1, &v);
        dtype_from_f32(to, &v, dst + (size_t)i * (size_t)dtype_info(to)->block_bytes, 1);
    }
}

static void save_weight(Saving *s, const Weight *w)
{
    TensorInfo *t = &s->t[s->n++];
    size_t      n = (size_t)w->rows * (size_t)w->cols;
    memset(t, 0, sizeof *t);
    t->name = w->name;
    t->dtype = saved_type(w, s->type);
    t->n_dims = w->rows == 1 && (strstr(w->name, "norm") || strstr(w->name, "bias")) ? 1 : 2;
    t->dim[0] = t->n_dims == 1 ? w->cols : w->rows;
    t->dim[1] = t->n_dims == 1 ? 0 : w->cols;
    t->data = s->data;
    t->bytes = n * (size_t)dtype_info(t->dtype)->block_bytes;
    for (int r = 0; r < w->rows; r++) save_row(w, r, t->dtype, s->data + (size_t)r * (t->bytes / (size_t)w->rows));
    s->data += (t->bytes + 7) & ~(size_t)7;
}

static int save_weights(const Model *m, const char *dir, Dtype type, aha_error *e)
{
    Saving   s = {NULL, 0, NULL, type};
    size_t   bytes = 0;
    uint8_t *data;
    char     path[4096];
    int      rc = path_join(path, sizeof path, dir, "model.safetensors", e);
    if (rc) return rc;
    for (int i = 0; i < m->n_weight; i++) bytes += ((size_t)m->weight[i]->rows * (size_t)m->weight[i]->cols * 4 + 7) & ~(size_t)7;
    s.t = mem_zalloc((size_t)m->n_weight, sizeof *s.t);
    data = s.data = mem_alloc(bytes);
    if (!s.t || !data) {
        mem_free(s.t);
        mem_free(data);
        return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes to save %s", bytes, path);
    }
    for (int i = 0; i < m->n_weight; i++) save_weight(&s, m->weight[i]);
    rc = safetensors_write(path, s.t, s.n, (const char *const[]){"format", "pt", NULL}, e);
    mem_free(s.t);
    mem_free(data);
    return rc;
}

int model_save(const Model *m, const char *dir, Dtype type, aha_error *e)
{
    char   path[4096], *json = NULL;
    Config cfg = m->cfg;
    int    rc;
    cfg.fp8 = false; /* the weights are written decoded */
    if (m->gguf) return error_set(e, AHA_ERR_UNSUPPORTED, "%s: a model from a GGUF file cannot be saved as a Hugging Face folder", dir);
    rc = dir_make(dir, e);
    if (rc == 0) rc = path_join(path, sizeof path, dir, "config.json", e);
    if (rc == 0) rc = config_write(&cfg, type, &json, e);
    if (rc == 0) rc = file_write_atomic(path, json, strlen(json), e);
    mem_free(json);
    return rc ? rc : save_weights(m, dir, type, e);
}
