/* Reading a model's files to say what is in them. */
#include "inspect.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SCAN_BYTES = 512 << 20, SCAN_CHUNK = 4096 };

const char *group_name(Group g)
{
    static const char *const NAME[GROUP_COUNT] = {"embedding",      "attention", "dense feed-forward", "routers",     "experts",
                                                  "shared experts", "norms",     "head",               "draft layer", "other"};
    return NAME[g];
}

static void problem(Inspection *x, const aha_error *e)
{
    if (x->n_problem < PROBLEMS_MAX) snprintf(x->problem[x->n_problem++], sizeof x->problem[0], "%s", e->text);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* ---- counting ---- */
/* GGUF's names behind "blk.N." */
static Group group_of_block(const Inspection *x, const char *name, int layer)
{
    if (strstr(name, ".nextn.") || (x->has_config && layer >= x->cfg.n_layer)) return GROUP_DRAFT;
    if (strstr(name, "norm")) return strstr(name, ".attn_norm") || strstr(name, ".ffn_norm") ? GROUP_NORM : GROUP_ATTN;
    if (strstr(name, ".attn_")) return GROUP_ATTN;
    if (strstr(name, "_exps.")) return GROUP_EXPERTS;
    if (strstr(name, "_shexp.")) return GROUP_SHARED;
    if (strstr(name, ".ffn_gate_inp") || strstr(name, ".exp_probs_b")) return GROUP_ROUTER;
    return strstr(name, ".ffn_") ? GROUP_DENSE : GROUP_OTHER;
}

static Group group_of(const Inspection *x, const char *name)
{
    int layer;
    if (sscanf(name, "model.layers.%d.", &layer) == 1 && x->has_config && layer >= x->cfg.n_layer) return GROUP_DRAFT;
    if (sscanf(name, "blk.%d.", &layer) == 1) return group_of_block(x, name, layer);
    if (strstr(name, "embed_tokens") || !strcmp(name, "token_embd.weight")) return GROUP_EMBED;
    if (strstr(name, "lm_head") || !strcmp(name, "output.weight")) return GROUP_HEAD;
    if (strstr(name, ".self_attn.")) return GROUP_ATTN;
    if (strstr(name, ".mlp.experts.")) return GROUP_EXPERTS;
    if (strstr(name, ".mlp.shared_expert")) return GROUP_SHARED;
    if (strstr(name, ".mlp.gate.")) return GROUP_ROUTER;
    if (strstr(name, ".mlp.")) return GROUP_DENSE;
    if (strstr(name, "norm")) return GROUP_NORM;
    return GROUP_OTHER;
}

static void count_into(Count *c, int64_t params, size_t bytes)
{
    c->tensors++;
    c->params += params;
    c->bytes += (double)bytes;
}

static void count_tensors(Inspection *x)
{
    for (int i = 0; i < weights_count(x->file); i++) {
        const TensorInfo *t = weights_at(x->file, i);
        int64_t           n = 1;
        for (int d = 0; d < t->n_dims; d++) n *= t->dim[d];
        count_into(&x->all, n, t->bytes);
        count_into(&x->group[group_of(x, t->name)], n, t->bytes);
        count_into(&x->dtype[t->dtype], n, t->bytes);
        if (t->shard + 1 > x->shards) x->shards = t->shard + 1;
    }
}

/* Tensors that nothing in the model reads. */
static int count_unused(Inspection *x, aha_error *e)
{
    int   n = weights_count(x->file);
    bool *used = mem_zalloc((size_t)n + 1, sizeof *used);
    if (!used) return error_set(e, AHA_ERR_NOMEM, "no memory for %d tensors", n);
    int rc = model_mark_used(x->m, used, e);
    for (int i = 0; rc == 0 && i < n; i++) {
        if (used[i] || group_of(x, weights_at(x->file, i)->name) == GROUP_DRAFT) continue; /* which repeats what it shares */
        if (!x->unused++) x->unused_name = weights_at(x->file, i)->name;
    }
    mem_free(used);
    return rc;
}

/* ---- every number ---- */
static void scan_tensor(Inspection *x, const TensorInfo *t)
{
    float   v[SCAN_CHUNK];
    size_t  size = (size_t)dtype_info(t->dtype)->block_bytes, block = (size_t)dtype_info(t->dtype)->block, n = t->bytes / size * block;
    int64_t bad = 0;
    bool    zero = n > 0;
    if (!dtype_info(t->dtype)->weight) return;
    for (size_t i = 0; i < n; i += SCAN_CHUNK) {
        size_t k = n - i < SCAN_CHUNK ? n - i : SCAN_CHUNK;
        dtype_to_f32(t->dtype, (const uint8_t *)t->data + i / block * size, v, k); /* a chunk is whole blocks */
        for (size_t j = 0; j < k; j++) {
            bad += !isfinite(v[j]);
            zero = zero && v[j] == 0;
        }
    }
    if (bad && !x->not_finite) x->not_finite_name = t->name;
    x->not_finite += bad;
    zero = zero && !strstr(t->name, "bias"); /* a bias may well be */
    if (zero && !x->all_zero++) x->all_zero_name = t->name;
}

static void scan_all(Inspection *x)
{
    Progress bar;
    int      n = weights_count(x->file);
    double   done = 0;
    weights_expect_all(x->file);
    progress_start(&bar, "reading every number");
    for (int i = 0; i < n && !interrupted(); i++) {
        scan_tensor(x, weights_at(x->file, i));
        done += (double)weights_at(x->file, i)->bytes;
        progress_show(&bar, (int64_t)done, (int64_t)x->all.bytes, -1, NULL);
    }
    progress_end(&bar);
    x->scanned = true;
}

/* ---- opening, piece by piece ---- */
static void open_model(Inspection *x, const ModelArgs *a)
{
    ModelSet  s;
    aha_error e = {0};
    if (model_set_open(&s, a, MODEL_WEIGHTS | MODEL_WORDS, &e)) {
        problem(x, &e);
        return;
    }
    x->m = s.m;
    x->cfg = s.cfg;
    x->words = s.words;
    x->has_config = true;
    x->has_words = s.words.tok != NULL;
    x->file = s.m->file;
    x->params = s.params;
    x->active = s.params_active;
}

/* What can still be read of a folder whose parts do not fit together. */
static void open_parts(Inspection *x)
{
    char      path[4096];
    aha_error e = {0};
    if (path_join(path, sizeof path, x->path, "config.json", &e) == 0 && file_exists(path)) x->has_config = config_read(&x->cfg, path, &e) == 0;
    if (weights_open(&x->file, x->path, &e)) x->file = NULL;
    if (path_join(path, sizeof path, x->path, "tokenizer.json", &e) == 0 && file_exists(path))
        x->has_words = tokenizer_read(&x->words.tok, path, &e) == 0;
}

static void open_file(Inspection *x)
{
    aha_error e = {0};
    int       rc;
    if (ends_with(x->path, "tokenizer.json")) {
        rc = tokenizer_read(&x->words.tok, x->path, &e);
        x->has_words = rc == 0;
    } else if (ends_with(x->path, ".json")) {
        rc = config_read(&x->cfg, x->path, &e);
        x->has_config = rc == 0;
    } else {
        rc = weights_open(&x->file, x->path, &e);
        if (!rc && weights_is_gguf(x->file)) x->has_config = config_from_gguf(&x->cfg, x->file, x->path, NULL) == 0;
    }
    if (rc && !x->n_problem) problem(x, &e); /* of a GGUF file it was said already */
}

static void judge_numbers(Inspection *x)
{
    aha_error e = {0};
    char      q[120];
    if (!x->not_finite) return;
    error_set(&e, AHA_ERR_FORMAT, "%lld numbers are infinite or no numbers, the first in %s", (long long)x->not_finite,
              error_quote(q, sizeof q, x->not_finite_name, strlen(x->not_finite_name)));
    problem(x, &e);
}

/* What is said while files are opened: warnings to people as ever, the rest is kept. */
static void hear(void *user, LogLevel level, const char *line)
{
    Inspection *x = user;
    size_t      n = strlen(x->path);
    if (level >= LOG_WARN) {
        say("%s", line);
        return;
    }
    if (!strncmp(line, x->path, n) && !strncmp(line + n, ": ", 2)) line += n + 2;
    for (int i = 0; i < x->n_taken; i++) /* a file may be opened twice */
        if (!strncmp(x->taken[i], line, sizeof x->taken[i] - 1)) return;
    if (x->n_taken < TAKEN_MAX) snprintf(x->taken[x->n_taken++], sizeof x->taken[0], "%s", line);
}

int inspect_read(Inspection *x, const ModelArgs *a, const char *path, int scan, aha_error *e)
{
    ModelArgs args = *a;
    memset(x, 0, sizeof *x);
    if (path) args.path = path;
    x->builtin = !args.path && model_is_builtin(a);
    x->path = args.path ? args.path : knob_get("AHA_MODEL");
    if (x->builtin) x->path = "aha-tiny (built in)";
    else if (!x->path || !*x->path) return error_set(e, AHA_ERR_ARG, "a file or a folder is expected");
    if (!x->builtin && path_is_special(x->path, e)) return AHA_ERR_FORMAT;
    if (!x->builtin && !file_exists(x->path) && !dir_exists(x->path)) return error_set(e, AHA_ERR_IO, "there is no '%.400s'", x->path);
    x->is_folder = x->builtin || dir_exists(x->path);
    log_set(hear, x, LOG_INFO);
    if (x->is_folder || ends_with(x->path, ".gguf")) open_model(x, &args);
    if (x->is_folder && !x->m) open_parts(x);
    if (!x->is_folder && !x->m) open_file(x);
    cli_begin(NULL);
    if (x->file) count_tensors(x);
    if (x->m && count_unused(x, e)) return e->code;
    if (x->file && (scan == 1 || (scan < 0 && x->all.bytes <= SCAN_BYTES))) scan_all(x);
    judge_numbers(x);
    return 0;
}

void inspect_free(Inspection *x)
{
    if (!x->m) weights_close(x->file);
    model_free(x->m);
    words_free(&x->words);
    memset(x, 0, sizeof *x);
}
