/* A model of shapes and types alone: what a file of them holds, what memory it takes.  Dry contexts run over it. */
#include "export.h"

#include <stdio.h>

typedef struct Shape {
    Model            *m;
    const ModelShape *s;
    ModelFileSize     size;
    int               n;
} Shape;

/* Ops look at no weight's data on a dry context, but at whether there is one. */
static const uint8_t NOWHERE[64];

static int count_item(void *user, const BindItem *b, aha_error *e)
{
    (void)b, (void)e;
    ++*(int *)user;
    return 0;
}

/* As published folders have them: F8 for the layers' matrices only. */
static Dtype folder_type(Dtype type, const BindItem *b)
{
    if (strstr(b->name, "e_score_correction_bias")) return DT_F32;
    if (type != DT_F8_E4M3) return type;
    if (b->flags & (BIND_VECTOR | BIND_EMBED) || bind_is_router(b)) return DT_BF16;
    return strstr(b->name, "lm_head") || strstr(b->name, "eh_proj") ? DT_BF16 : type;
}

static bool add_bytes(Shape *p, Dtype type, int64_t rows, int64_t cols)
{
    size_t bytes;
    if (!dtype_bytes(type, rows, cols, &bytes)) return false;
    p->size.numbers += rows * cols;
    p->size.bytes += bytes;
    return true;
}

static int shape_item(void *user, const BindItem *b, aha_error *e)
{
    Shape     *p = user;
    TensorInfo t = {.dtype = p->m->gguf ? weight_mix_type(&p->s->mix, b) : folder_type(p->s->mix.other, b), .n_dims = b->flags & BIND_VECTOR ? 1 : 2};
    bool       room = true, f8 = t.dtype == DT_F8_E4M3;
    int        rc = bind_add(p->m, b, e);
    if (rc) return rc;
    if (b->part <= 0 || !b->stack) p->size.tensors += f8 ? 2 : 1;
    room = add_bytes(p, t.dtype, b->rows, b->cols);
    if (f8) { /* the scales stay in the file too, where writers align them */
        size_t bytes = sizeof(float) * (size_t)f8_blocks(b->rows) * (size_t)f8_blocks(b->cols);
        room = room && add_bytes(p, DT_F32, f8_blocks(b->rows), f8_blocks(b->cols));
        p->m->mapped_bytes += bytes;
        b->w->scale = (const float *)(const void *)NOWHERE;
    }
    b->w->data = NOWHERE;
    if (bind_in_place(&t, false)) {
        size_t bytes = 0;
        room = room && dtype_bytes(t.dtype, b->rows, b->cols, &bytes);
        b->w->dtype = t.dtype;
        p->m->mapped_bytes += bytes;
    } else {
        room = room && bind_own(&p->m->owned_bytes, (size_t)b->rows, (size_t)b->cols, sizeof(real));
    }
    return room ? 0 : error_set(e, AHA_ERR_LIMIT, "%s [%d, %d] cannot be counted as %s", b->name, b->rows, b->cols, dtype_info(t.dtype)->name);
}

/* A GGUF file's own list says what is in it: tensors that no model reads, factors of rope's frequencies. */
static int count_gguf(Shape *p, aha_error *e)
{
    ExportOptions o = {.mix = p->s->mix};
    Model         copy;
    Export        x;
    int           rc = export_list_gguf(&x, &copy, p->s->source ? p->s->source : p->m, &o, e);
    p->size = (ModelFileSize){.tensors = x.n};
    for (int i = 0; i < x.n && !rc; i++) {
        int64_t numbers = 1;
        for (int d = 0; d < x.t[i].n_dims; d++) numbers *= x.t[i].dim[d];
        p->size.numbers += numbers;
        p->size.bytes += x.t[i].bytes;
    }
    export_free(&x);
    return rc;
}

int model_shape(Model **out, const Config *cfg, const ModelShape *s, const ModelOptions *o, ModelFileSize *size, aha_error *e)
{
    Model *m = mem_zalloc(1, sizeof *m);
    Shape  p = {.m = m, .s = s};
    int    rc;
    *out = NULL;
    if (!m) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a model");
    m->cfg = *cfg;
    m->gguf = s->gguf;
    m->split_kv_b = s->gguf && (s->source && s->source->gguf ? s->source->split_kv_b : !s->whole_kv_b);
    if (m->gguf && !(s->source && s->source->gguf)) m->cfg.n_mtp = 0; /* converters leave the draft layer out */
    if (m->cfg.n_mtp > 1) m->cfg.n_mtp = 1;
    rc = bind_allocate(m, e);
    if (rc == 0) rc = bind_walk(m, count_item, &p.n, e);
    if (rc == 0 && !(m->weight = mem_zalloc((size_t)p.n, sizeof *m->weight))) rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d weights", p.n);
    if (rc == 0) rc = bind_walk(m, shape_item, &p, e);
    if (rc == 0) rc = bind_finish(m, o, e);
    if (rc == 0 && s->draft_copies && m->cfg.n_mtp) {
        p.size.tensors += 2;
        add_bytes(&p, DT_BF16, 2 * (int64_t)cfg->vocab, cfg->d_model);
    }
    if (rc == 0 && m->gguf) rc = count_gguf(&p, e);
    if (rc) {
        model_free(m);
        return rc;
    }
    if (size) *size = p.size;
    *out = m;
    return 0;
}
