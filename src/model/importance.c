/* Sums of squares of what a model's matrices are multiplied with, and their file.
 *
 * The error of y = W x that rounding W leaves is, where the columns' errors are independent, the sum over columns of
 * error^2 x^2: so the mean of x^2 is the weight of a column in the search for scales and levels. */
#include "bind.h"

#include <math.h>
#include <stdio.h>

typedef struct Entry {
    char     name[128];
    int      mats, cols;
    double  *sum2;  /* [mats, cols] */
    int64_t *count; /* [mats] */
} Entry;

typedef struct Place { /* of what is multiplied with a weight; entry -1: nowhere */
    int entry, mat;
} Place;

struct ImportanceSums {
    Observer     observer; /* first: the address is the observer's too */
    const Model *m;
    Entry       *entry;
    int          n, cap;
    Place       *place, *turned; /* [n_weight] by id: of x W^T and of x W */
};

static Entry *add_entry(ImportanceSums *s, const BindItem *b, aha_error *e)
{
    Entry *x;
    if (s->n == s->cap) {
        int cap = s->cap ? 2 * s->cap : 256;
        x = mem_realloc(s->entry, (size_t)cap * sizeof *x);
        if (x) s->entry = x;
        if (x) s->cap = cap;
    }
    if (s->n < s->cap) {
        x = &s->entry[s->n];
        *x = (Entry){.mats = b->stack ? b->stack : 1, .cols = b->cols};
        snprintf(x->name, sizeof x->name, "%s", b->stored);
        x->sum2 = mem_zalloc((size_t)x->mats * (size_t)x->cols, sizeof *x->sum2);
        x->count = mem_zalloc((size_t)x->mats, sizeof *x->count);
        s->n++;
        if (x->sum2 && x->count) return x;
    }
    error_set(e, AHA_ERR_NOMEM, "cannot get memory for the importance of %s", b->stored);
    return NULL;
}

/* Where products with a weight are counted.  A whole kv_b is written as k_b and v_b: turned products are of the keys. */
static int add_item(void *user, const BindItem *b, aha_error *e)
{
    ImportanceSums *s = user;
    const Weight   *w = b->w;
    int             layer;
    bool            keys = false;
    if (b->flags & BIND_VECTOR || strstr(b->name, ".mlp.gate.weight")) return 0; /* routers stay F32 */
    if (b->part <= 0 && !add_entry(s, b, e)) return AHA_ERR_NOMEM;
    int at = s->n - 1; /* a further expert: its three tensors were added together */
    while (strcmp(s->entry[at].name, b->stored) != 0) at--;
    if (b->flags & BIND_PER_HEAD && !s->m->split_kv_b && sscanf(b->name, "model.layers.%d.", &layer) == 1) {
        keys = w == &s->m->layer[layer].k_b;
        w = &s->m->layer[layer].kv_b;
    }
    (keys ? s->turned : s->place)[w->id] = (Place){at, b->part > 0 ? b->part : 0};
    return 0;
}

static void see(Observer *o, const Weight *w, int part, bool turned, const real *x, int x_row, int n)
{
    ImportanceSums *s = (ImportanceSums *)(void *)o;
    Place           p = w->id < 0 ? (Place){-1, 0} : turned ? s->turned[w->id] : s->place[w->id];
    if (p.entry < 0) return;
    Entry  *t = &s->entry[p.entry];
    int     mat = p.mat + part;
    double *sum2 = t->sum2 + (size_t)mat * (size_t)t->cols;
    for (int i = 0; i < n; i++, x += x_row)
        for (int k = 0; k < t->cols; k++) sum2[k] += (double)x[k] * (double)x[k];
    t->count[mat] += n;
}

int importance_sums_new(ImportanceSums **out, const Model *m, aha_error *e)
{
    ImportanceSums *s = mem_zalloc(1, sizeof *s);
    Model           copy = *m; /* under GGUF's names; the walk hands out places to write to, nothing here writes */
    int             rc = 0;
    *out = NULL;
    if (!s) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for importance");
    s->m = m;
    s->observer.see = see;
    s->place = mem_alloc((size_t)m->n_weight * sizeof *s->place + 1);
    s->turned = mem_alloc((size_t)m->n_weight * sizeof *s->turned + 1);
    if (!s->place || !s->turned) rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for importance");
    for (int i = 0; i < m->n_weight && !rc; i++) s->place[i] = s->turned[i] = (Place){-1, 0};
    copy.gguf = copy.split_kv_b = true;
    if (!rc) rc = bind_walk(&copy, add_item, s, e);
    if (rc) importance_sums_free(s);
    else *out = s;
    return rc;
}

void importance_sums_free(ImportanceSums *s)
{
    if (!s) return;
    for (int i = 0; i < s->n; i++) {
        mem_free(s->entry[i].sum2);
        mem_free(s->entry[i].count);
    }
    mem_free(s->entry);
    mem_free(s->place);
    mem_free(s->turned);
    mem_free(s);
}

Observer *importance_observer(ImportanceSums *s) { return &s->observer; }

static int seen(const Entry *x)
{
    int n = 0;
    for (int i = 0; i < x->mats; i++) n += x->count[i] > 0;
    return n;
}

ImportanceSeen importance_seen(const ImportanceSums *s)
{
    ImportanceSeen r = {0};
    for (int i = 0; i < s->n; i++) {
        int n = seen(&s->entry[i]);
        r.matrices += n;
        r.unseen += n ? s->entry[i].mats - n : 0; /* an embedding alone and a draft layer are no part of this */
    }
    return r;
}

/* ---- the file ---- */
typedef struct Body {
    const Entry **entry; /* tensors 2 i and 2 i + 1 are its sums and counts */
    TensorInfo   *t;
    int           n;
} Body;

static int write_one(void *user, int i, const File *f, aha_error *e)
{
    const Body  *b = user;
    const Entry *x = b->entry[i / 2];
    size_t       n = (size_t)x->mats * (size_t)(i % 2 ? 1 : x->cols);
    float       *v = mem_alloc(n * sizeof *v);
    int          rc = v ? 0 : error_set(e, AHA_ERR_NOMEM, "cannot get memory for the importance of %s", x->name);
    for (size_t k = 0; k < n && !rc; k++) {
        v[k] = i % 2 ? (float)x->count[k] : (float)x->sum2[k];
        if (!isfinite(v[k])) rc = error_set(e, AHA_ERR_FORMAT, "%s: the sum of squares of column %zu is no number: the weights are broken", x->name, k % (size_t)x->cols);
    }
    if (!rc) rc = file_write(f, v, n * sizeof *v, e);
    mem_free(v);
    return rc;
}

static int list_tensors(const ImportanceSums *s, Body *b, Buf *names, aha_error *e)
{
    b->entry = mem_zalloc((size_t)s->n + 1, sizeof *b->entry);
    b->t = mem_zalloc(2 * (size_t)s->n + 1, sizeof *b->t);
    if (!b->entry || !b->t) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d tensors", 2 * s->n);
    for (int i = 0; i < s->n; i++) {
        const Entry *x = &s->entry[i];
        if (!seen(x)) continue;
        b->entry[b->n] = x;
        for (int k = 0; k < 2; k++) {
            TensorInfo *t = &b->t[2 * b->n + k];
            *t = (TensorInfo){.dtype = DT_F32, .n_dims = 2, .dim = {x->mats, k ? 1 : x->cols}};
            t->bytes = (size_t)(t->dim[0] * t->dim[1]) * 4;
            buf_fmt(names, "%s%s", x->name, k ? ".counts" : ".in_sum2");
            buf_add(names, "", 1);
        }
        b->n++;
    }
    if (names->failed) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d names", 2 * s->n);
    for (int i = 0, at = 0; i < 2 * b->n; i++, at += (int)strlen(names->data + at) + 1) b->t[i].name = names->data + at;
    return b->n ? 0 : error_set(e, AHA_ERR_ARG, "no product was seen: no text went through the model");
}

int importance_write(const ImportanceSums *s, const char *path, const char *text, int pieces, int piece_tokens, aha_error *e)
{
    Body     b = {0};
    Buf      names = {0};
    GgufMeta m = {0};
    int      rc = list_tensors(s, &b, &names, e);
    gguf_put_str(&m, "general.type", "imatrix", 7);
    gguf_put_array(&m, "imatrix.datasets", GGUF_STRING, 1);
    gguf_add_str(&m, text, strlen(text));
    gguf_put_int(&m, "imatrix.chunk_count", pieces);
    gguf_put_int(&m, "imatrix.chunk_size", piece_tokens);
    if (!rc) rc = gguf_write(path, &m, b.t, 2 * b.n, write_one, &b, e);
    gguf_meta_free(&m);
    buf_free(&names);
    mem_free(b.entry);
    mem_free(b.t);
    return rc;
}
