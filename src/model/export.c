/* Writing a model as GGUF or as a Hugging Face folder, from either. */
#include "export.h"

#include <math.h>
#include <stdio.h>

enum { NAME_MAX_BYTES = 256 };
static const int64_t FOLDER_FILE_BYTES = 5000000000; /* as transformers cuts them */

/* ---- files ---- */
/* The first tensor behind `first` that goes into the next file. */
static int file_end(const Export *x, int first, int64_t most)
{
    int    i = first;
    size_t bytes = 0;
    for (; i < x->n && (i == first || most == 0 || bytes + x->t[i].bytes <= (uint64_t)most); i++) bytes += x->t[i].bytes;
    return i;
}

static int file_count(const Export *x, int64_t most)
{
    int n = 0;
    for (int i = 0; i < x->n; i = file_end(x, i, most)) n++;
    return n;
}

static int add_gguf_files(const Export *x, const char *path, const GgufMeta *meta, Output *o, aha_error *e)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char        name[NAME_MAX_BYTES];
    int         files = file_count(x, x->o->split), stem = (int)strlen(base) - 5, rc = 0;
    if (!x->o->split) return output_add_gguf(o, base, meta, x->t, x->n, e);
    if (stem > NAME_MAX_BYTES - 32 || files > 99999) return error_set(e, AHA_ERR_LIMIT, "'%.200s' in %d files: expected a shorter name, or larger files", base, files);
    for (int i = 0, k = 0, end; i < x->n && !rc; i = end, k++) {
        GgufMeta m = {0};
        end = file_end(x, i, x->o->split);
        if (k == 0) buf_add(&m.kv, meta->kv.data, meta->kv.n);
        if (k == 0) m.n = meta->n;
        m.kv.failed |= meta->kv.failed;
        gguf_put_split(&m, k, files, x->n);
        snprintf(name, sizeof name, "%.*s-%05d-of-%05d.gguf", stem, base, k + 1, files);
        rc = output_add_gguf(o, name, &m, x->t + i, end - i, e);
        gguf_meta_free(&m);
    }
    return rc;
}

static int add_index(const Buf *map, size_t bytes, Output *o, aha_error *e)
{
    Buf b = {0};
    buf_fmt(&b, "{\n  \"metadata\": {\"total_size\": %zu},\n  \"weight_map\": {", bytes);
    buf_add(&b, map->data, map->n);
    buf_str(&b, "\n  }\n}\n");
    int rc = b.failed || map->failed ? error_set(e, AHA_ERR_NOMEM, "cannot get memory for the index") : output_add_text(o, "model.safetensors.index.json", b.data, b.n, e);
    buf_free(&b);
    return rc;
}

static int add_folder_files(const Export *x, Output *o, aha_error *e)
{
    static const char *const META[] = {"format", "pt", NULL};
    int64_t                  most = x->o->split ? x->o->split : FOLDER_FILE_BYTES;
    char                     name[NAME_MAX_BYTES];
    Buf                      map = {0};
    size_t                   bytes = 0;
    int                      files = file_count(x, most), rc = 0;
    if (files <= 1) return output_add_safetensors(o, "model.safetensors", META, x->t, x->n, e);
    for (int i = 0, k = 1, end; i < x->n && !rc; i = end, k++) {
        end = file_end(x, i, most);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", k, files);
        rc = output_add_safetensors(o, name, META, x->t + i, end - i, e);
        for (int t = i; t < end; t++) {
            buf_fmt(&map, "%s\n    \"%s\": \"%s\"", t ? "," : "", x->t[t].name, name);
            bytes += x->t[t].bytes;
        }
    }
    if (!rc) rc = add_index(&map, bytes, o, e);
    buf_free(&map);
    return rc;
}

static int run(Export *x, const Model *m, Output *o, aha_error *e)
{
    OutputCalls calls = {export_write, export_whole, NULL, x};
    calls.note = x->o->on_note;
    int rc = export_rows_begin(x, e);
    uint64_t stamps[2] = {m->file ? weights_stamp(m->file) : 0, x->o->importance ? importance_stamp(x->o->importance) : 0};
    return rc ? rc : output_write(o, hash64(stamps, sizeof stamps, 0), x->o->replace, &calls, e);
}

/* ---- GGUF ---- */
int model_export_gguf(const Model *m, const char *path, GgufMeta *meta, const ExportOptions *o, aha_error *e)
{
    Model   copy;
    Export  x;
    Output *out = NULL;
    int     rc = strlen(path) > 5 && !strcmp(path + strlen(path) - 5, ".gguf") ? 0 : error_set(e, AHA_ERR_ARG, "'%.300s': expected a name that ends in .gguf", path);
    if (rc) return rc;
    rc = export_list_gguf(&x, &copy, m, o, e);
    if (!rc && !m->gguf) rc = config_to_gguf(&copy.cfg, true, meta, path, e);
    if (!rc) rc = output_new(&out, path, false, e);
    if (!rc) rc = add_gguf_files(&x, path, meta, out, e);
    if (!rc) rc = run(&x, m, out, e);
    output_free(out);
    export_free(&x);
    return rc;
}

/* ---- a folder ---- */
/* The shortest decimal number that is the same f32: 1e-06 and not 9.99999997e-07, as GGUF keeps it */
static double as_decimal(double v)
{
    for (int digits = 1; digits <= 9 && v > 1e-12 && v < 1e12; digits++) {
        double power = pow(10, digits - 1 - (int)floor(log10(v))), d = power >= 1 ? round(v * power) / power : v;
        if ((float)d == (float)v) return d;
    }
    return v;
}

static int folder_config(const Model *m, Config *c, aha_error *e)
{
    *c = m->cfg;
    c->fp8 = false; /* the weights are written decoded */
    if (!m->gguf) return 0;
    c->rms_eps = as_decimal(c->rms_eps);
    if (c->arch != ARCH_LLAMA) return 0;
    c->rope.interleaved = false; /* the rows go back into halves */
    bool factors = weights_find(m->file, "rope_freqs.weight") != NULL;
    if (factors && c->rope.kind == ROPE_NONE && rope_fit_llama3(&c->rope, m->rope_cols, m->inv_freq)) return 0;
    return factors ? error_set(e, AHA_ERR_UNSUPPORTED, "rope_freqs.weight: these factors are not Llama 3's scaling, which is what config.json can say") : 0;
}

static int add_texts(const Model *m, const ExportText *text, int n, Dtype type, Output *o, aha_error *e)
{
    Config c;
    char  *json = NULL;
    int    rc = folder_config(m, &c, e);
    if (!rc) rc = config_write(&c, type, &json, e);
    if (!rc) rc = output_add_text(o, "config.json", json, strlen(json), e);
    for (int i = 0; i < n && !rc; i++) rc = output_add_text(o, text[i].name, text[i].text, text[i].n, e);
    mem_free(json);
    return rc;
}

int model_export_folder(const Model *m, const char *dir, const ExportText *text, int n, const ExportOptions *o, aha_error *e)
{
    Model   copy = *m;
    Export  x = {.m = &copy, .o = o};
    Output *out = NULL;
    copy.gguf = copy.split_kv_b = false;
    int rc = dtype_is_blocked(o->mix.other) ? error_set(e, AHA_ERR_ARG, "a Hugging Face folder of %s, expected f32, f16 or bf16", dtype_info(o->mix.other)->name) : 0;
    if (!rc) rc = export_list(&x, m, e);
    if (!rc) rc = output_new(&out, dir, true, e);
    if (!rc) rc = add_texts(m, text, n, o->mix.other, out, e);
    if (!rc) rc = add_folder_files(&x, out, e);
    if (!rc) rc = run(&x, m, out, e);
    output_free(out);
    export_free(&x);
    return rc;
}
