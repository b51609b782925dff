/* The public API: a coat over the engine, with copies of option structs whose callers may be older or newer than we are. */
#include <stdio.h>

#include "../cpu/cpu.h"
#include "api.h"

struct aha_seq {
    Seq  *seq;
    void (*on_token)(void *user, aha_seq *s, int32_t token, float logp);
    void (*on_new_token)(void *user, aha_seq *s, const aha_new_token *t);
    void (*on_done)(void *user, aha_seq *s);
    void *user;
};

int api_options(void *dst, size_t n, const void *src, size_t size, const char *what, aha_error *e)
{
    if (size < sizeof(size_t)) return error_set(e, AHA_ERR_ARG, "%s.size is %zu: start from the INIT macro", what, size);
    memcpy(dst, src, size < n ? size : n);
    return 0;
}

static aha_log_fn g_log_fn;
static void      *g_log_user;
static void log_sink(void *user, LogLevel level, const char *line)
{
    (void)user;
    if (g_log_fn) g_log_fn(g_log_user, (aha_log_level)level, line);
}
void aha_log_set(aha_log_fn fn, void *user, aha_log_level min)
{
    log_set(NULL, NULL, LOG_ERROR);
    g_log_fn = fn;
    g_log_user = user;
    log_set(fn ? log_sink : NULL, NULL, (LogLevel)min);
}

/* ---- opening ---- */
static const struct {
    const char *name;
    Dtype       type;
} KV_TYPES[] = {{"f32", DT_F32}, {"bf16", DT_BF16}, {"f16", DT_F16}, {"q8_0", DT_Q8_0}};

static int kv_type_of(aha_engine *g, const char *name, Dtype *out, aha_error *e)
{
    char quoted[64];
    if (!name) name = "f32";
    for (size_t i = 0; i < ARRAY_LEN(KV_TYPES); i++)
        if (strcmp(name, KV_TYPES[i].name) == 0) {
            g->kv_type = KV_TYPES[i].name;
            *out = KV_TYPES[i].type;
            return 0;
        }
    return error_set(e, AHA_ERR_ARG, "kv_type is \"%s\", expected f32, bf16, f16 or q8_0", error_quote(quoted, sizeof quoted, name, strlen(name)));
}

static int activations_of(const char *name, bool *f32, aha_error *e)
{
    char quoted[64];
    *f32 = name && strcmp(name, "f32") == 0;
    if (!name || *f32 || strcmp(name, "q8") == 0) return 0;
    return error_set(e, AHA_ERR_ARG, "activations is \"%s\", expected q8 or f32", error_quote(quoted, sizeof quoted, name, strlen(name)));
}

static void count_parameters(aha_engine *g)
{
    const Config *c = &g->model->cfg;
    for (int i = 0; i < g->model->n_weight; i++) {
        const Weight *w = g->model->weight[i];
        int64_t       n = (int64_t)w->rows * w->cols;
        int           layer;
        if (sscanf(w->name, "model.layers.%d.", &layer) == 1 && layer >= c->n_layer) continue; /* the draft layer */
        g->parameters += n;
        g->active += strstr(w->name, ".experts.") && c->n_expert ? n / c->n_expert * c->n_expert_used : n;
    }
}

/* The engine's own limits from the caller's; the key cache's bytes to pages. */
static int start(aha_engine *g, const aha_options *o, aha_error *e)
{
    EngineOptions eo = {.chunk = o->chunk, .seqs_max = o->seqs, .ctx_max = o->ctx, .draft = o->draft};
    aha_error     why = {AHA_ERR_NOMEM, "no threads"};
    if (o->seqs > 512) eo.batch_max = o->seqs;
    if (o->cache_bytes < 0) return error_set(e, AHA_ERR_ARG, "cache_bytes is %lld, expected 0 or more", (long long)o->cache_bytes);
    if (o->cache_bytes) {
        eo.pages = kvcache_fit(g->model, (uint64_t)o->cache_bytes);
        if (eo.pages < 1)
            return error_set(e, AHA_ERR_ARG, "cache_bytes is %lld, a page of %d positions is %zu and some lists", (long long)o->cache_bytes,
                             KV_PAGE, g->model->kv_shape.page_bytes);
    }
    if (!(g->pool = pool_new(o->threads, &why))) return error_set(e, why.code, "%s", why.text);
    count_parameters(g);
    return engine_new(&g->engine, g->model, g->kernels, g->pool, &eo, e);
}

static int open_folder(aha_engine *g, const char *path, const ModelOptions *mo, aha_error *e)
{
    int rc = model_open(&g->model, path, mo, e);
    return rc ? rc : words_of(&g->words, path, g->model, e);
}

static int open_bytes(aha_engine *g, const aha_model_bytes *b, const ModelOptions *mo, aha_error *e)
{
    WeightFile *file = NULL;
    Config      c;
    WordFiles   f = {.tokenizer = b->tokenizer.data, .n_tokenizer = b->tokenizer.n_bytes,
                     .tokenizer_config = b->tokenizer_config.data, .n_tokenizer_config = b->tokenizer_config.n_bytes,
                     .generation_config = b->generation_config.data, .n_generation_config = b->generation_config.n_bytes};
    int         rc = config_parse(&c, b->config.data, b->config.n_bytes, "config.json", e);
    if (rc == 0) rc = weights_open_memory(&file, "model.safetensors", b->weights.data, b->weights.n_bytes, e);
    if (rc == 0 && (rc = model_bind(&g->model, &c, file, mo, e)) != 0) weights_close(file);
    return rc ? rc : words_parse(&g->words, &f, &g->model->cfg, e);
}

static int open_any(aha_engine **out, const char *path, const aha_model_bytes *bytes, const aha_options *options, aha_error *e)
{
    aha_options  o = AHA_OPTIONS_INIT;
    ModelOptions mo = {0};
    aha_engine  *g;
    int          rc = options ? api_options(&o, sizeof o, options, options->size, "aha_options", e) : 0;
    *out = NULL;
    if (rc) return rc;
    g = mem_zalloc(1, sizeof *g);
    if (!g) return error_set(e, AHA_ERR_NOMEM, "no memory for an engine");
    rc = kv_type_of(g, o.kv_type, &mo.kv_type, e);
    if (rc == 0) rc = activations_of(o.activations, &mo.act_f32, e);
    if (rc == 0) {
        aha_error why = {AHA_ERR_UNSUPPORTED, "no instruction set"};
        g->kernels = cpu_kernels(o.cpu ? o.cpu : knob_get("AHA_CPU"), &why);
        if (!g->kernels) rc = error_set(e, why.code, "%s", why.text);
    }
    if (rc == 0) rc = path ? open_folder(g, path, &mo, e) : open_bytes(g, bytes, &mo, e);
    if (rc == 0) rc = start(g, &o, e);
    if (rc) {
        aha_engine_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int aha_engine_open(aha_engine **out, const char *path, const aha_options *o, aha_error *e)
{
    return open_any(out, path, NULL, o, e);
}

int aha_engine_open_bytes(aha_engine **out, const aha_model_bytes *m, const aha_options *o, aha_error *e)
{
    aha_model_bytes b;
    int             rc;
    memset(&b, 0, sizeof b);
    *out = NULL;
    rc = api_options(&b, sizeof b, m, m->size, "aha_model_bytes", e);
    if (rc == 0 && (!b.config.data || !b.weights.data)) rc = error_set(e, AHA_ERR_ARG, "aha_model_bytes without config or weights");
    return rc ? rc : open_any(out, NULL, &b, o, e);
}

void aha_engine_free(aha_engine *g)
{
    if (!g) return;
    engine_free(g->engine);
    words_free(&g->words);
    model_free(g->model);
    pool_free(g->pool);
    mem_free(g);
}

void aha_engine_get_info(const aha_engine *g, aha_engine_info *info)
{
    const Config   *c = &g->model->cfg;
    const Engine   *n = g->engine;
    aha_engine_info i = {.size = info->size, .arch = c->model_type, .isa = g->kernels->isa, .kv_type = g->kv_type,
                         .chat_template = chat_template_name(g->words.form), .chat_known = g->words.form_known,
                         .has_text = g->words.tok != NULL, .drafts = n->o.draft, .layers = c->n_layer, .width = c->d_model,
                         .vocab = c->vocab, .threads = pool_threads(g->pool), .context = c->max_pos, .ctx = n->o.ctx_max,
                         .seqs = n->o.seqs_max, .parameters = g->parameters, .parameters_active = g->active,
                         .weights_bytes = (int64_t)weights_bytes(g->model->file),
                         .cache_bytes = (int64_t)kvcache_bytes(g->model, n->o.pages), .stop = g->words.stop, .n_stop = g->words.n_stop,
                         .think = g->words.think.open, .end_think = g->words.think.close};
    if (info->size >= sizeof(size_t)) memcpy(info, &i, info->size < sizeof i ? info->size : sizeof i);
}

/* ---- sequences ---- */
static void on_token(void *user, Seq *seq, int32_t token, float logp)
{
    aha_seq      *s = user;
    int           i = seq->n_tokens - seq->n_prompt - 1;
    aha_new_token t = {.size = sizeof t, .token = token, .index = i, .forced = seq->forced && seq->forced[i], .logp = logp,
                       .top = seq_top(seq, i)};
    if (s->on_token) s->on_token(s->user, s, token, logp);
    if (s->on_new_token) s->on_new_token(s->user, s, &t);
}
static void on_done(void *user, Seq *seq)
{
    aha_seq *s = user;
    (void)seq;
    s->on_done(s->user, s); /* may free s */
}

static SeqRequest request_of(const aha_engine *g, const aha_seq_options *o, const aha_sample_options *p, aha_seq *s)
{
    return (SeqRequest){.prompt = o->prompt, .n_prompt = o->n_prompt, .max_new = o->max_new,
                        .sample = {p->temperature, p->top_p, p->top_k, p->min_p, p->seed, p->stream},
                        .adjust = {p->bias, p->n_bias, p->repetition_penalty, p->presence_penalty, p->frequency_penalty},
                        .stop = o->stop, .n_stop = o->n_stop, .want_logp = o->want_logp, .no_cache = o->no_cache, .group = o->group,
                        .want_prompt_logp = o->want_prompt_logp, .n_top = o->n_top, .think = &g->words.think, .think_open = o->think_open,
                        .think_budget = o->think_budget, .think_end = o->think_end, .n_think_end = o->n_think_end,
                        .then = o->then, .n_then = o->n_then,
                        .repeat_min = o->repeat_min, .on_token = o->on_token || o->on_new_token ? on_token : NULL,
                        .on_done = o->on_done ? on_done : NULL, .user = s};
}

int aha_seq_submit(aha_engine *g, const aha_seq_options *options, aha_seq **out, aha_error *e)
{
    aha_seq_options    o = AHA_SEQ_OPTIONS_INIT;
    aha_sample_options sample = AHA_SAMPLE_OPTIONS_INIT;
    SeqRequest         r;
    aha_seq           *s;
    int                rc = api_options(&o, sizeof o, options, options->size, "aha_seq_options", e);
    *out = NULL;
    if (rc == 0 && o.sample) rc = api_options(&sample, sizeof sample, o.sample, o.sample->size, "aha_sample_options", e);
    if (rc) return rc;
    if (!o.stop) {
        o.stop = g->words.stop;
        o.n_stop = g->words.n_stop;
    }
    if (o.max_new == 0 && o.n_prompt > 0 && o.n_prompt < g->engine->o.ctx_max) o.max_new = g->engine->o.ctx_max - o.n_prompt;
    if (!(s = mem_zalloc(1, sizeof *s))) return error_set(e, AHA_ERR_NOMEM, "no memory for a sequence");
    s->on_token = o.on_token;
    s->on_new_token = o.on_new_token;
    s->on_done = o.on_done;
    s->user = o.user;
    r = request_of(g, &o, &sample, s);
    if (sample.repetition_penalty == 0) rc = error_set(e, AHA_ERR_ARG, "repetition_penalty is 0, expected 0.1 to 10; 1 is off");
    if (rc == 0) rc = engine_submit(g->engine, &r, &s->seq, e);
    if (rc) {
        mem_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

int aha_think_budget(const char *effort, int max_new, int *budget, aha_error *e) { return think_budget(effort, max_new, budget, e); }

void aha_seq_poll(const aha_seq *s, aha_seq_status *status)
{
    const Seq     *q = s->seq;
    aha_seq_status st = {.size = status->size, .state = (aha_seq_state)q->state, .finish = (aha_finish)q->finish,
                         .logp = seq_logp(q), .stop_token = q->stop_token, .n_prompt = q->n_prompt,
                         .prompt_done = seq_prompt_done(q), .prompt_cached = q->cached, .n_top = q->n_top, .top = q->top,
                         .prompt_logp = q->prompt_logp, .prompt_top = q->prompt_top, .forced = q->forced, .n_think = seq_n_think(q),
                         .repeat_period = q->repeat_period, .repeat_tokens = q->repeat_tokens};
    st.tokens = seq_tokens(q, &st.n_tokens);
    if (status->size >= sizeof(size_t)) memcpy(status, &st, status->size < sizeof st ? status->size : sizeof st);
}

void aha_seq_cancel(aha_seq *s)
{
    engine_cancel(s->seq->g, s->seq);
}

void aha_seq_free(aha_seq *s)
{
    if (!s) return;
    seq_free(s->seq);
    mem_free(s);
}

int aha_engine_step(aha_engine *g, aha_error *e) { return engine_step(g->engine, e); }
int aha_engine_run(aha_engine *g, aha_error *e) { return engine_run(g->engine, e); }

int aha_engine_score(aha_engine *g, const int32_t *tokens, int n, float *logp, void (*row)(void *user, int i, const float *logits),
                     void *user, aha_error *e)
{
    return engine_score(g->engine, tokens, n, logp, row, user, e);
}
