/* From -m to a model with its words, and an engine over it. */
#include "model_open.h"

#include <stdio.h>
#include <string.h>

enum { CTX_DEFAULT_MAX = 32768, PATH_CAP = 4096 };

const char *const ACT_TYPES[] = {"q8", "f32", NULL};
const char *const KV_TYPES[] = {"f32", "bf16", "f16", "q8_0", NULL};

static const Dtype KV_DTYPE[] = {DT_F32, DT_BF16, DT_F16, DT_Q8_0};

Dtype kv_dtype(const char *name)
{
    for (int i = 0; KV_TYPES[i]; i++)
        if (!strcmp(name, KV_TYPES[i])) return KV_DTYPE[i];
    return DT_F32;
}

/* ---- the built-in one (builtin.S) ---- */
#ifdef AHA_BUILTIN
#define CARRIED(name) extern const char aha_builtin_##name[], aha_builtin_##name##_end[]
CARRIED(config);
CARRIED(weights);
CARRIED(tokenizer);
CARRIED(tokenizer_config);
#define CARRIED_BYTES(name) (size_t)(aha_builtin_##name##_end - aha_builtin_##name)

static bool builtin_present(void) { return true; }

int model_builtin_config(Config *c, aha_error *e)
{
    return config_parse(c, aha_builtin_config, CARRIED_BYTES(config), "built-in config.json", e);
}

static int builtin_open(ModelSet *s, const ModelOptions *o, unsigned wants, aha_error *e)
{
    WordFiles   f = {.tokenizer = aha_builtin_tokenizer, .n_tokenizer = CARRIED_BYTES(tokenizer),
                     .tokenizer_config = aha_builtin_tokenizer_config, .n_tokenizer_config = CARRIED_BYTES(tokenizer_config)};
    WeightFile *file = NULL;
    int         rc = model_builtin_config(&s->cfg, e);
    if (rc == 0) rc = words_parse(&s->words, &f, &s->cfg, e);
    if (rc || !(wants & MODEL_WEIGHTS)) return rc;
    rc = weights_open_memory(&file, "built-in model.safetensors", aha_builtin_weights, CARRIED_BYTES(weights), e);
    if (rc == 0 && (rc = model_bind(&s->m, &s->cfg, file, o, e)) != 0) weights_close(file);
    return rc;
}

static int builtin_engine(aha_engine **out, const aha_options *o, aha_error *e)
{
    const aha_model_bytes m = {.size = sizeof m,
                               .config = {aha_builtin_config, CARRIED_BYTES(config)},
                               .weights = {aha_builtin_weights, CARRIED_BYTES(weights)},
                               .tokenizer = {aha_builtin_tokenizer, CARRIED_BYTES(tokenizer)},
                               .tokenizer_config = {aha_builtin_tokenizer_config, CARRIED_BYTES(tokenizer_config)}};
    return aha_engine_open_bytes(out, &m, o, e);
}
#else
static bool builtin_present(void) { return false; }

static int builtin_engine(aha_engine **out, const aha_options *o, aha_error *e)
{
    (void)out, (void)o;
    return error_set(e, AHA_ERR_UNSUPPORTED, "this program was built without a built-in model");
}

int model_builtin_config(Config *c, aha_error *e)
{
    (void)c;
    return error_set(e, AHA_ERR_UNSUPPORTED, "this program was built without a built-in model");
}

static int builtin_open(ModelSet *s, const ModelOptions *o, unsigned wants, aha_error *e)
{
    (void)s, (void)o, (void)wants;
    return error_set(e, AHA_ERR_ARG, "no -m, and this program was built without a built-in model: -m DIR names a Hugging Face folder");
}
#endif

static const char *model_path(const ModelArgs *a)
{
    const char *knob = knob_get("AHA_MODEL");
    if (a->path) return a->path;
    return knob && *knob ? knob : NULL;
}

bool model_is_builtin(const ModelArgs *a) { return !model_path(a) && builtin_present(); }

/* ---- a folder, or a GGUF file ---- */
static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".gguf") && !dir_exists(path);
}

/* The folders inside that are models, for somebody who named the one above. */
static void list_models(const char *dir, Buf *out)
{
    char **names, path[PATH_CAP], config[PATH_CAP];
    int    n;
    if (dir_list(dir, &names, &n, NULL)) return;
    for (int i = 0; i < n; i++)
        if (!path_join(path, sizeof path, dir, names[i], NULL) && !path_join(config, sizeof config, path, "config.json", NULL) &&
            file_exists(config))
            buf_fmt(out, "%s%s", out->n ? ", " : "", path);
    mem_free(names);
}

/* ORG/NAME is no path here; it may be a repository's name. */
static int not_there(const char *path, aha_error *e)
{
    const char *slash = strchr(path, '/');
    bool        named = slash && !strchr(slash + 1, '/') && slash[1] && !strchr("./~", path[0]);
    return error_set(e, AHA_ERR_IO, "there is no '%.400s'; -m expects a model's folder%s%.250s%s", path, named ? ", and aha pull " : "", named ? path : "",
                     named ? " fetches such a model and says where it is" : "");
}

static int check_folder(const char *path, const char *wanted, aha_error *e)
{
    char config[PATH_CAP];
    Buf  inside = {0};
    int  rc;
    if (path_is_special(path, e)) return AHA_ERR_FORMAT;
    if (!file_exists(path) && !dir_exists(path)) return not_there(path, e);
    if (!dir_exists(path))
        return error_set(e, AHA_ERR_FORMAT, "'%.400s' is a file; -m expects the folder with config.json, safetensors and tokenizer.json, or a .gguf", path);
    if ((rc = path_join(config, sizeof config, path, wanted, e)) != 0 || file_exists(config)) return rc;
    list_models(path, &inside);
    if (inside.n && !inside.failed)
        rc = error_set(e, AHA_ERR_FORMAT, "'%.200s' is no model, but these in it are: %.250s", path, inside.data);
    else
        rc = error_set(e, AHA_ERR_FORMAT, "'%.400s' has no %s: a Hugging Face model's folder is expected", path, wanted);
    buf_free(&inside);
    return rc;
}

static int folder_open(ModelSet *s, const ModelOptions *o, unsigned wants, aha_error *e)
{
    char config[PATH_CAP];
    bool gguf = is_gguf(s->path), weights = gguf || wants & MODEL_WEIGHTS; /* what a GGUF file says costs little to open */
    int  rc = gguf ? 0 : check_folder(s->path, weights ? "config.json" : "tokenizer.json", e);
    if (rc == 0) rc = path_join(config, sizeof config, s->path, "config.json", e);
    if (rc) return rc;
    if (weights) {
        rc = model_open(&s->m, s->path, o, e);
        if (rc == 0) s->cfg = s->m->cfg;
    } else if (file_exists(config)) {
        rc = config_read(&s->cfg, config, e);
    } else { /* a tokenizer alone */
        s->cfg = (Config){.arch = ARCH_DEEPSEEK_V3, .vocab = INT32_MAX, .bos = -1};
    }
    if (rc || !(wants & MODEL_WORDS)) return rc;
    return s->m ? words_of(&s->words, s->path, s->m, e) : words_open(&s->words, s->path, &s->cfg, e);
}

void model_count(const Model *m, int64_t *all, int64_t *active)
{
    const Config *c = &m->cfg;
    *all = *active = 0;
    for (int i = 0; i < m->n_weight; i++) {
        const Weight *w = m->weight[i];
        int64_t       n = (int64_t)w->rows * w->cols;
        int           layer;
        if (sscanf(w->name, "model.layers.%d.", &layer) == 1 && layer >= c->n_layer) continue; /* the draft layer */
        *all += n;
        *active += c->n_expert && strstr(w->name, ".experts.") ? n / c->n_expert * c->n_expert_used : n;
    }
}

static double read_bytes(const Weight *w)
{
    return (double)weight_bytes(w) + (w->scale ? 4.0 * f8_blocks(w->rows) * f8_blocks(w->cols) : 0);
}

void model_reads(ModelReads *r, const Model *m)
{
    const Config *c = &m->cfg;
    double        of_type[DT_COUNT] = {0};
    *r = (ModelReads){.kv_position = (double)(m->kv_shape.part_bytes * (size_t)m->kv_shape.heads) / KV_PAGE * c->n_layer};
    for (int i = 0; i < m->n_weight; i++) {
        const Weight *w = m->weight[i];
        double        bytes = read_bytes(w), n = (double)w->rows * w->cols;
        int           layer;
        if (sscanf(w->name, "model.layers.%d.", &layer) == 1 && layer >= c->n_layer) continue;
        if (c->n_expert && strstr(w->name, ".experts.")) {
            double share = (double)c->n_expert_used / c->n_expert;
            r->experts += bytes;
            r->routed += bytes * share;
            r->routed_params += n * share;
            of_type[w->dtype] += bytes * share;
        } else if (w != &m->embed || c->tied_embeddings) {
            r->fixed += bytes;
            r->fixed_params += n;
            of_type[w->dtype] += bytes;
            if (w == &m->embed || w == &m->head) r->head_params += n;
        }
    }
    for (int t = 0; t < DT_COUNT; t++)
        if (of_type[t] > of_type[r->dtype]) r->dtype = (Dtype)t;
}

int model_set_open(ModelSet *s, const ModelArgs *a, unsigned wants, aha_error *e)
{
    ModelOptions o = {.kv_type = kv_dtype(a->kv), .act_f32 = !strcmp(a->act, "f32")};
    int          rc;
    memset(s, 0, sizeof *s);
    s->path = model_path(a);
    s->builtin = !s->path;
    if (s->builtin) s->path = "aha-tiny";
    if (a->verbose) cli_verbose();
    if (wants & MODEL_NEEDS_TEXT) wants |= MODEL_WORDS;
    rc = s->builtin ? builtin_open(s, &o, wants, e) : folder_open(s, &o, wants, e);
    if (rc == 0 && (wants & MODEL_NEEDS_TEXT) && !s->words.tok)
        rc = error_set(e, AHA_ERR_UNSUPPORTED, is_gguf(s->path) ? "'%.400s' holds no vocabulary (tokenizer.ggml.model), so it cannot read or write text"
                                                               : "'%.400s' has no tokenizer.json, so it cannot read or write text", s->path);
    if (rc == 0 && s->m) model_count(s->m, &s->params, &s->params_active);
    if (rc) model_set_free(s);
    return rc;
}

/* ---- the engine ---- */
static int choose_ctx(const ModelSet *s, const ModelArgs *a, int seqs, int needed, aha_error *e)
{
    char     want[32], half[32];
    uint64_t page = kvcache_bytes(s->m, 1), room = os_memory_total() / 2;
    int64_t  fit = (int64_t)(room / page / (uint64_t)seqs) * KV_PAGE, ctx = a->ctx;
    if (ctx > s->cfg.max_pos)
        return error_set(e, AHA_ERR_ARG, "--ctx is %lld, this model was made for at most %d", (long long)ctx, s->cfg.max_pos);
    if (ctx && (ctx + KV_PAGE - 1) / KV_PAGE * KV_PAGE > fit && seqs == 1)
        return error_set(e, AHA_ERR_LIMIT, "--ctx %lld needs %s of keys and values, half of this machine's memory is %s%s", (long long)ctx,
                         bytes_words(want, (double)ctx / KV_PAGE * (double)page), bytes_words(half, (double)room),
                         s->m->kv_shape.type == DT_F32 ? "; --kv bf16 takes half of that" : "");
    if (ctx) return (int)ctx;
    ctx = needed > CTX_DEFAULT_MAX ? needed : CTX_DEFAULT_MAX;
    if (ctx > s->cfg.max_pos) ctx = s->cfg.max_pos;
    if (ctx > fit) ctx = fit < KV_PAGE ? KV_PAGE : fit;
    return (int)ctx;
}

EngineOptions model_engine_options(const ModelArgs *a, int seqs, int ctx)
{
    EngineOptions o = {.chunk = a->chunk, .seqs_max = seqs, .draft = a->draft, .ctx_max = ctx};
    if (o.chunk > 512 || seqs > 512) o.batch_max = o.chunk > seqs ? o.chunk : seqs;
    return o;
}

int model_set_compute(ModelSet *s, const ModelArgs *a, aha_error *e)
{
    aha_error why = {.code = AHA_ERR_UNSUPPORTED, .text = "no instruction set"};
    s->k = cpu_kernels(a->cpu ? a->cpu : knob_get("AHA_CPU"), &why);
    if (!s->k) return error_set(e, why.code, "%s", why.text);
    s->pool = pool_new(a->threads, e);
    return s->pool ? 0 : AHA_ERR_NOMEM;
}

int model_set_engine(ModelSet *s, const ModelArgs *a, int seqs, int needed, aha_error *e)
{
    EngineOptions o;
    int           ctx = choose_ctx(s, a, seqs, needed, e), rc;
    if (ctx < 0) return ctx;
    if ((rc = model_set_compute(s, a, e)) != 0) return rc;
    s->ctx = ctx;
    o = model_engine_options(a, seqs, ctx);
    if (a->draft && !s->m->cfg.n_mtp) say("--draft: this model has no draft layer");
    return engine_new(&s->engine, s->m, s->k, s->pool, &o, e);
}

int model_engine_open(aha_engine **out, const ModelArgs *a, int seqs, int64_t cache_bytes, const char **name, aha_error *e)
{
    ModelSet    s;
    aha_options o = AHA_OPTIONS_INIT;
    int         rc = model_set_open(&s, a, MODEL_WEIGHTS | MODEL_NEEDS_TEXT, e), ctx = 0;
    if (rc == 0) {
        builtin_introduce(&s);
        if ((ctx = choose_ctx(&s, a, 1, 0, e)) < 0) rc = ctx;
        model_set_free(&s);
    }
    if (rc) return rc;
    o.threads = a->threads;
    o.chunk = a->chunk;
    o.ctx = ctx;
    o.seqs = seqs;
    o.cache_bytes = cache_bytes;
    o.kv_type = a->kv;
    o.activations = a->act;
    o.cpu = a->cpu;
    o.draft = a->draft;
    const char *path = model_path(a), *slash = path ? strrchr(path, '/') : NULL;
    *name = !path ? "aha-tiny" : slash && slash[1] ? slash + 1 : path;
    return path ? aha_engine_open(out, path, &o, e) : builtin_engine(out, &o, e);
}

void model_set_free(ModelSet *s)
{
    engine_free(s->engine);
    words_free(&s->words);
    model_free(s->m);
    pool_free(s->pool);
    memset(s, 0, sizeof *s);
}
