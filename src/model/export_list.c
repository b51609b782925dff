/* Which tensors a written file has: a walk over the table of names, under the target's naming. */
#include "export.h"

#include <stdio.h>

static Dtype type_of(const Export *x, const BindItem *b)
{
    if (x->gguf) return weight_mix_type(&x->o->mix, b);
    return strstr(b->name, "e_score_correction_bias") ? DT_F32 : x->o->mix.other; /* as published */
}

/* ---- which rows ---- */
static void classify(const Export *x, const BindItem *b, Source *s)
{
    const Model  *m = x->m;
    const Config *c = &m->cfg;
    bool          from_gguf = m->file && weights_is_gguf(m->file), mla = c->arch == ARCH_DEEPSEEK_V3;
    bool          q = strstr(b->name, "q_proj.weight") || strstr(b->name, "q_b_proj");
    int           layer = 0;
    sscanf(b->name, "model.layers.%d.", &layer);
    if (from_gguf == x->gguf) {
        s->kind = PLAIN;
    } else if (x->gguf && b->flags & BIND_PER_HEAD) {
        s->kind = b->w == &m->layer[layer].k_b ? KEYS : VALUES;
        s->w = &m->layer[layer].kv_b;
    } else if (!x->gguf && strstr(b->name, "kv_b_proj") && !b->w->data) {
        s->kind = JOINED;
        s->w = &m->layer[layer].k_b;
        s->v = &m->layer[layer].v_b;
    } else if (x->gguf && mla && !c->rope.interleaved && (q || strstr(b->name, "kv_a_proj"))) {
        s->kind = PAIRS; /* there are no DeepSeek's files with halves to come from: GGUF cannot say so */
        s->head = q ? c->nope + c->rope_dim : b->rows;
        s->turned = c->rope_dim;
    } else if (c->arch == ARCH_LLAMA && (q || strstr(b->name, "k_proj.weight"))) {
        s->kind = x->gguf ? PAIRS : HALVES;
        s->head = s->turned = c->head_dim;
    }
}

int64_t export_rows(const Source *s, const TensorInfo *t)
{
    return s->kind == BYTES ? 1 : t->n_dims == 3 ? t->dim[0] * t->dim[1] : t->n_dims == 2 ? t->dim[0] : 1;
}

int64_t export_numbers(const Source *s, const TensorInfo *t) { return export_rows(s, t) * s->cols; }

static int add_tensor(Export *x, const Source *s, const TensorInfo *t, aha_error *e)
{
    if (x->n == x->cap) {
        int         cap = x->cap ? 2 * x->cap : 256;
        TensorInfo *nt = mem_realloc(x->t, (size_t)cap * sizeof *nt);
        if (nt) x->t = nt;
        Source *ns = nt ? mem_realloc(x->s, (size_t)cap * sizeof *ns) : NULL;
        if (!ns) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d tensors", cap);
        x->s = ns;
        x->cap = cap;
    }
    x->s[x->n] = *s;
    x->t[x->n] = *t;
    x->total += export_numbers(s, t);
    if (s->cols > x->cols_max) x->cols_max = s->cols;
    x->n++;
    return 0;
}

static int add_item(void *user, const BindItem *b, aha_error *e)
{
    Export    *x = user;
    Source     s = {.w = b->w, .rows = b->rows, .cols = b->cols};
    TensorInfo t = {.dtype = type_of(x, b), .n_dims = 1, .dim = {b->cols}};
    if (b->stack && b->part > 0) return 0; /* it lies in the tensor of the first */
    snprintf(s.name, sizeof s.name, "%s", b->stored);
    classify(x, b, &s);
    if (s.kind == KEYS || s.kind == VALUES) s.rows = b->rows / b->stack; /* as they are, all heads are one matrix */
    if (!(b->flags & BIND_VECTOR)) {
        int rows = b->flags & BIND_PER_HEAD ? b->rows / b->stack : b->rows;
        t.n_dims = b->stack ? 3 : 2;
        memcpy(t.dim, b->stack ? (int64_t[]){b->stack, rows, s.cols, 0} : (int64_t[]){rows, s.cols, 0, 0}, sizeof t.dim);
    }
    if (!dtype_bytes(t.dtype, export_rows(&s, &t), s.cols, &t.bytes))
        return error_set(e, AHA_ERR_LIMIT, "%s does not fit into an address", b->stored);
    return add_tensor(x, &s, &t, e);
}

static int add_factors(Export *x, aha_error *e)
{
    Source     s = {.name = "rope_freqs.weight", .kind = FACTORS, .rows = 1, .cols = x->m->rope_cols / 2};
    TensorInfo t = {.dtype = DT_F32, .n_dims = 1, .dim = {s.cols}, .bytes = (size_t)s.cols * 4};
    return x->m->cfg.rope.kind == ROPE_LLAMA3 ? add_tensor(x, &s, &t, e) : 0;
}

/* From one GGUF file to another: what the walk did not come by is kept as it is (a draft layer that is not read, rope_freqs.weight). */
static int add_others(Export *x, const Model *m, aha_error *e)
{
    int   n = weights_count(m->file), rc;
    bool *used = mem_zalloc((size_t)n + 1, sizeof *used);
    if (!used) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d tensors", n);
    rc = model_mark_used(m, used, e);
    for (int i = 0; i < n && !rc; i++) {
        const TensorInfo *t = weights_at(m->file, i);
        Source            s = {.stored = t, .kind = BYTES, .rows = 1, .cols = 1};
        if (used[i] && strcmp(t->name, "rope_freqs.weight") != 0) continue;
        if (strlen(t->name) >= sizeof s.name) rc = error_set(e, AHA_ERR_LIMIT, "%.200s: a name of %zu bytes, expected at most %zu", t->name, strlen(t->name), sizeof s.name - 1);
        snprintf(s.name, sizeof s.name, "%s", t->name);
        if (!rc) rc = add_tensor(x, &s, t, e);
    }
    mem_free(used);
    return rc;
}

int export_list(Export *x, const Model *m, aha_error *e)
{
    Model copy = *x->m; /* the walk hands out places to write to; nothing here writes */
    bool  from_gguf = m->file && weights_is_gguf(m->file);
    int   rc = bind_walk(&copy, add_item, x, e);
    for (int i = 0; i < x->n; i++) { /* the copy's own weights are the model's */
        if (x->s[i].w == &copy.embed) x->s[i].w = &m->embed;
        if (x->s[i].w == &copy.norm) x->s[i].w = &m->norm;
        if (x->s[i].w == &copy.head) x->s[i].w = &m->head;
    }
    if (!rc && x->gguf) rc = from_gguf ? add_others(x, m, e) : add_factors(x, e);
    for (int i = 0; i < x->n; i++) x->t[i].name = x->s[i].name;
    return rc;
}

int export_list_gguf(Export *x, Model *copy, const Model *m, const ExportOptions *o, aha_error *e)
{
    *copy = *m;
    *x = (Export){.m = copy, .o = o, .gguf = true};
    if (!m->gguf) {
        copy->gguf = copy->split_kv_b = true;
        if (!o->draft) copy->cfg.n_mtp = 0;
    }
    return export_list(x, m, e);
}

void export_free(Export *x)
{
    mem_free(x->row);
    mem_free(x->weight);
    mem_free(x->out);
    mem_free(x->t);
    mem_free(x->s);
}
