/* A recipe's run: its folder, its log, the order of its stages, resuming. */
#include "run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- log and progress ---- */
double run_elapsed(const Run *r)
{
    return r->elapsed_before + (double)(time_now_ns() - r->started_ns) * 1e-9;
}

int run_log(Run *r, const Stage *s, const char *kind, int64_t step, const Buf *fields, aha_error *e)
{
    Buf b = {0};
    int rc;
    buf_fmt(&b, "{\"stage\":\"%s\",\"kind\":\"%s\",\"step\":%lld", s ? s->name : "", kind, (long long)step);
    if (fields && fields->n) {
        buf_str(&b, ",");
        buf_add(&b, fields->data, fields->n);
    }
    buf_fmt(&b, ",\"s\":%.2f}\n", run_elapsed(r));
    rc = b.failed ? error_set(e, AHA_ERR_NOMEM, "cannot get memory for a line of metrics") : file_write(&r->metrics, b.data, b.n, e);
    if (rc == 0) r->state.metrics_bytes += (int64_t)b.n;
    buf_free(&b);
    return rc;
}

void log_num(Buf *fields, const char *key, int digits, double v)
{
    buf_fmt(fields, "%s\"%s\":", fields->n ? "," : "", key);
    if (isfinite(v)) buf_fmt(fields, "%.*f", digits, v);
    else buf_str(fields, "null");
}

void run_progress(Run *r, const Stage *s, int64_t done, int64_t total, bool force, const char *fmt, ...)
{
    LearnProgress p = {.stage = s->name, .kind = s->kind, .done = done, .total = total, .elapsed_s = run_elapsed(r), .left_s = -1};
    uint64_t      now = time_now_ns();
    va_list       ap;
    if (!r->o->progress || (!force && now - r->shown_ns < 100000000u)) return;
    r->shown_ns = now;
    if (done > 0 && total > 0) p.left_s = p.elapsed_s * (double)(total - done) / (double)done;
    va_start(ap, fmt);
    vsnprintf(p.line, sizeof p.line, fmt, ap);
    va_end(ap);
    r->o->progress(r->o->user, &p);
}

bool run_stopping(const Run *r)
{
    return r->o->stop && r->o->stop(r->o->user);
}

static double mix_sum(const TaskMix *m)
{
    double all = 0;
    for (int i = 0; i < m->n; i++) all += m->share[i];
    return all;
}

/* Takes the mix's shares times `weight` off *u; the task in whose share that ends, or NULL. */
static const Task *mix_pick(const TaskMix *m, double weight, double *at, double u)
{
    for (int i = 0; i < m->n; i++) {
        *at += m->share[i] * weight;
        if (u < *at) return m->task[i];
    }
    return NULL;
}

const Task *stage_pick_task(const Stage *s, double progress, double u)
{
    const TaskMix *first = &s->tasks, *last = &s->tasks_end;
    double         at = 0, t = last->n ? progress < 1 ? progress : 1 : 0, sum = mix_sum(first), sum_last = last->n ? mix_sum(last) : 1;
    const Task    *task = mix_pick(first, (1 - t) * sum_last, &at, u * sum * sum_last);
    if (!task) task = mix_pick(last, t * sum, &at, u * sum * sum_last);
    return task ? task : first->task[first->n - 1]; /* rounding */
}

int stage_dir(const Run *r, const Stage *s, char *out, size_t cap, aha_error *e)
{
    return path_join(out, cap, r->dir, s->name, e);
}

double lr_factor(const Stage *s, int64_t step, double progress)
{
    double f = s->warmup > 0 && step < s->warmup ? (double)(step + 1) / s->warmup : 1;
    if (s->decay > 0 && progress > 1 - s->decay) f *= s->lr_min + (1 - s->lr_min) * (1 - progress) / s->decay;
    return f;
}

/* ---- training stages ---- */
static int load_start(Training *t, aha_error *e)
{
    Run         *r = t->run;
    const Stage *from = recipe_source(&r->recipe, t->st);
    char         path[2048];
    Config       cfg = stage_model(&r->recipe, t->st);
    int          rc;
    cfg.vocab = tokenizer_vocab(r->tok);
    rc = model_init_random(&t->m, &cfg, NULL, r->seed, e);
    if (rc == 0 && t->st->kind == STAGE_GRPO && t->st->beta > 0) rc = model_init_random(&t->ref, &cfg, NULL, r->seed, e);
    if (rc || !from) return rc;
    snprintf(path, sizeof path, "%s/%s.safetensors", r->checkpoint_dir, from->name);
    rc = weights_load_f32(t->m, path, e);
    if (rc == 0 && t->ref) rc = weights_load_f32(t->ref, path, e);
    return rc;
}

int training_begin(Training *t, Run *r, const Stage *s, int seqs_max, aha_error *e)
{
    TrainerOptions o = {.optim = s->optim, .slot_tokens = r->recipe.slot_tokens, .sample_max = r->recipe.context,
                        .keep_tape = r->recipe.keep_tape, .balance_rate = s->balance_rate};
    EngineOptions  eo = {.seqs_max = seqs_max, .batch_max = seqs_max > 512 ? seqs_max : 512, .ctx_max = r->recipe.context};
    int            rc;
    eo.chunk = eo.batch_max; /* nobody waits for a next token here */
    memset(t, 0, sizeof *t);
    t->run = r;
    t->st = s;
    rc = load_start(t, e);
    if (rc == 0) rc = trainer_init(&t->t, t->m, r->k, r->pool, &o, e);
    if (rc == 0 && r->state.has_model) rc = checkpoint_load(r->checkpoint_dir, &t->t, t->ref, e);
    if (rc == 0) rc = engine_new(&t->engine, t->m, r->k, r->pool, &eo, e);
    r->saved_ns = time_now_ns();
    return rc;
}

static int training_save(Training *t, aha_error *e)
{
    Run *r = t->run;
    int  rc;
    r->state.has_model = true;
    r->state.elapsed_s = run_elapsed(r);
    rc = file_sync(&r->metrics, e);
    if (rc == 0) rc = checkpoint_save(r->checkpoint_dir, &r->state, &t->t, t->ref, e);
    r->saved_ns = time_now_ns();
    return rc;
}

int training_stop(Training *t, aha_error *e)
{
    int rc = training_save(t, e);
    return rc ? rc : error_set(e, AHA_ERR_CANCELLED, "stopped after step %lld of %s; the same command goes on from there",
                               (long long)t->run->state.step, t->st->name);
}

static int write_text(const char *dir, const char *name, const char *text, aha_error *e)
{
    char path[2048];
    int  rc = path_join(path, sizeof path, dir, name, e);
    return rc ? rc : file_write_atomic(path, text, strlen(text), e);
}

/* A folder that any program of the field can open. */
static int write_folder(const Run *r, const Stage *s, const Model *m, aha_error *e)
{
    static const char GENERATION[] = "{\n  \"bos_token_id\": 0,\n  \"eos_token_id\": 1,\n  \"do_sample\": true,\n"
                                     "  \"temperature\": 0.6,\n  \"top_p\": 0.95\n}\n";
    char              dir[2048], *config = NULL;
    int               rc = stage_dir(r, s, dir, sizeof dir, e);
    if (rc == 0) rc = model_save(m, dir, r->recipe.save_type, e);
    if (rc == 0) rc = write_text(dir, "tokenizer.json", r->tokenizer_json, e);
    if (rc == 0) rc = tokenizer_build_config(&config, e);
    if (rc == 0) rc = write_text(dir, "tokenizer_config.json", config, e);
    if (rc == 0) rc = write_text(dir, "generation_config.json", GENERATION, e);
    mem_free(config);
    return rc;
}

int stage_write(Run *r, const Stage *s, const Model *m, aha_error *e)
{
    Buf  b = {0};
    char path[2048];
    int  rc;
    snprintf(path, sizeof path, "%s/%s.safetensors", r->checkpoint_dir, s->name);
    rc = dir_make(r->checkpoint_dir, e);
    if (rc == 0) rc = weights_save_f32(m, path, e);
    if (rc == 0) rc = write_folder(r, s, m, e);
    buf_fmt(&b, "\"tokens\":%lld", (long long)r->state.tokens);
    if (rc == 0) rc = run_log(r, s, "done", r->state.step, &b, e);
    buf_free(&b);
    return rc;
}

int training_end(Training *t, aha_error *e)
{
    return stage_write(t->run, t->st, t->m, e);
}

void training_free(Training *t)
{
    engine_free(t->engine);
    trainer_free(&t->t);
    model_free(t->m);
    model_free(t->ref);
    memset(t, 0, sizeof *t);
}

static bool eval_stop(void *user)
{
    return run_stopping(user);
}

static int eval_task(Training *t, const Task *task, int64_t step, aha_error *e)
{
    Run         *r = t->run;
    const Stage *s = t->st;
    EvalOptions  o = {.task = task, .n = s->eval_n, .samples = s->eval_samples, .temperature = 0.6, .top_p = 0.95,
                      .max_new = s->max_new, .seed = r->seed, .examples = 2, .stop = eval_stop, .user = r};
    EvalResult   res;
    Buf          b = {0};
    int          rc = evaluate(&res, t->engine, r->tok, r->tpl, &o, e);
    if (rc) return rc;
    buf_fmt(&b, "\"task\":\"%s\",\"temperature\":0.6,", task->name);
    eval_result_json(&res, &b);
    rc = run_log(r, s, "eval", step, &b, e);
    eval_result_free(&res);
    buf_free(&b);
    return rc;
}

/* Held-out accuracy of the model as it is, logged as an "eval" line for each of the stage's tasks.  Stopped meanwhile, it is
 * all still to be done. */
static int training_eval(Training *t, aha_error *e)
{
    Run        *r = t->run;
    const Task *task[TASKS_MAX];
    int64_t     before = r->state.metrics_bytes;
    int         n = stage_tasks(t->st, task), rc = 0;
    engine_weights_changed(t->engine);
    for (int i = 0; i < n && rc == 0; i++) rc = eval_task(t, task[i], r->state.step, e);
    if (rc == 0) {
        r->state.checked = r->state.step;
    } else if (rc == AHA_ERR_CANCELLED) {
        r->state.metrics_bytes = before;
        rc = training_stop(t, e);
    }
    return rc;
}

int training_tick(Training *t, bool first, aha_error *e)
{
    Run *r = t->run;
    int  every = t->st->eval_every, rc = 0;
    bool due = every > 0 && r->state.step % every == 0 && r->state.checked < r->state.step && (first || r->state.step > 0);
    if (due) rc = training_eval(t, e);
    if (rc) return rc;
    if (run_stopping(r)) return training_stop(t, e);
    if ((double)(time_now_ns() - r->saved_ns) * 1e-9 >= r->recipe.checkpoint_s) rc = training_save(t, e);
    return rc;
}

/* ---- the run ---- */
static int build_tokenizer(Run *r, aha_error *e)
{
    const Task  *task[TASKS_MAX];
    const char **words = NULL;
    char         path[2048];
    int          n, rc = task_words(task, recipe_tasks(&r->recipe, task), &words, &n, e);
    if (rc == 0) rc = tokenizer_build_json(words, n, &r->tokenizer_json, e);
    if (rc == 0) rc = tokenizer_parse(&r->tok, r->tokenizer_json, strlen(r->tokenizer_json), "the built tokenizer", e);
    if (rc == 0) rc = path_join(path, sizeof path, r->dir, "tokenizer.json", e);
    if (rc == 0) rc = file_write_atomic(path, r->tokenizer_json, strlen(r->tokenizer_json), e);
    r->tpl = CHAT_R1;
    mem_free(words);
    return rc;
}

static uint64_t recipe_hash(const Run *r)
{
    return hash64(r->recipe.text, strlen(r->recipe.text), r->seed * 2 + (r->o->paper ? 1 : 0));
}

/* Takes up a checkpoint when there is one; cuts the log back to what it knew. */
static int resume(Run *r, aha_error *e)
{
    char  path[2048];
    bool  found = false;
    int   rc = 0;
    if (r->o->fresh) rc = dir_remove_all(r->checkpoint_dir, e);
    if (rc == 0) rc = checkpoint_peek(r->checkpoint_dir, &r->state, &found, e);
    if (rc == 0 && found && r->state.recipe_hash != recipe_hash(r))
        return error_set(e, AHA_ERR_STATE, "%s holds a run of another recipe or seed: choose another --out, or --fresh to start over", r->dir);
    if (rc == 0 && !found) r->state = (RunState){.recipe_hash = recipe_hash(r), .checked = -1};
    if (rc == 0) rc = path_join(path, sizeof path, r->dir, "metrics.jsonl", e);
    if (rc == 0) rc = file_append(&r->metrics, path, e);
    if (rc == 0 && r->metrics.size < r->state.metrics_bytes) /* cutting it to that would fill it up with NULs */
        return error_set(e, AHA_ERR_STATE, "%s has %lld bytes, the checkpoint knows of %lld: bring it back, or --fresh to start over", path,
                         (long long)r->metrics.size, (long long)r->state.metrics_bytes);
    if (rc == 0) rc = file_truncate(&r->metrics, r->state.metrics_bytes, e);
    if (rc == 0) rc = path_join(path, sizeof path, r->dir, "recipe.ini", e);
    if (rc == 0) rc = file_write_atomic(path, r->recipe.text, strlen(r->recipe.text), e);
    return rc;
}

static int64_t count_parameters(const Config *c, int64_t *active)
{
    int64_t D = c->d_model, V = c->vocab, L = c->n_layer, attn, moe, used, moe_layers = L - c->n_dense_first;
    attn = c->q_lora ? D * c->q_lora + (int64_t)c->q_lora * c->n_head * (c->nope + c->rope_dim) : D * c->n_head * (c->nope + c->rope_dim);
    attn += D * (c->kv_lora + c->rope_dim) + (int64_t)c->kv_lora * c->n_head * (c->nope + c->v_dim) + (int64_t)c->n_head * c->v_dim * D;
    moe = (int64_t)(c->n_expert + c->n_shared) * 3 * D * c->d_expert;
    used = (int64_t)(c->n_expert_used + c->n_shared) * 3 * D * c->d_expert;
    *active = V * D + L * attn + c->n_dense_first * 3 * D * c->d_ff + moe_layers * used;
    return 2 * V * D + L * attn + c->n_dense_first * 3 * D * c->d_ff + moe_layers * moe;
}

static int log_start(Run *r, aha_error *e)
{
    Buf       b = {0};
    char      date[32] = "";
    Config    c = recipe_last_model(&r->recipe);
    int64_t   active, all;
    time_t    now = (time_t)time_unix();
    struct tm tm;
    int       rc;
    c.vocab = tokenizer_vocab(r->tok);
    all = count_parameters(&c, &active);
    if (gmtime_r(&now, &tm)) strftime(date, sizeof date, "%Y-%m-%d", &tm);
    buf_fmt(&b, "\"name\":\"%s\",\"seed\":%llu,\"parameters\":%lld,\"active\":%lld,\"threads\":%d,\"isa\":\"%s\",\"date\":\"%s\",\"seconds_before\":%.1f",
            r->recipe.name, (unsigned long long)r->seed, (long long)all, (long long)active, pool_threads(r->pool), r->k->isa, date, r->state.elapsed_s);
    rc = r->state.metrics_bytes > 0 ? 0 : run_log(r, NULL, "run", 0, &b, e);
    buf_free(&b);
    return rc;
}

static int run_open(Run *r, const LearnOptions *o, aha_error *e)
{
    int rc = recipe_read(&r->recipe, o->recipe, e);
    r->o = o;
    r->metrics.fd = -1;
    if (rc) return rc;
    r->seed = o->has_seed ? o->seed : r->recipe.seed;
    snprintf(r->dir, sizeof r->dir, "%s%s", o->out ? o->out : "runs/", o->out ? "" : r->recipe.name);
    snprintf(r->checkpoint_dir, sizeof r->checkpoint_dir, "%s/checkpoint", r->dir);
    r->k = cpu_kernels(o->cpu, e);
    if (!r->k) return e ? e->code : AHA_ERR_ARG;
    r->pool = pool_new(o->threads, e);
    if (!r->pool) return e ? e->code : AHA_ERR_NOMEM;
    rc = dir_make(r->dir, e);
    if (rc == 0) rc = resume(r, e);
    if (rc == 0) rc = build_tokenizer(r, e);
    r->started_ns = time_now_ns();
    if (rc == 0) rc = log_start(r, e);
    return rc;
}

/* The paper's own form: token means per answer, advantage by the deviation, KL against the reference, symmetric clip. */
static Stage paper_form(Stage s)
{
    s.token_mean = false;
    s.divide_std = true;
    s.drop_equal = false;
    s.beta = 0.001;
    s.eps_low = s.eps_high = 0.2;
    s.overlong = 0;
    return s;
}

static int run_stage(Run *r, Stage *s, aha_error *e)
{
    if (r->o->paper && s->kind == STAGE_GRPO) *s = paper_form(*s);
    switch (s->kind) {
    case STAGE_PRETRAIN:
    case STAGE_SFT: return stage_lm(r, s, e);
    case STAGE_GRPO: return stage_grpo(r, s, e);
    case STAGE_GROW: return stage_grow(r, s, e);
    case STAGE_SAMPLE: return stage_sample(r, s, e);
    default: return stage_eval(r, s, e);
    }
}

static int run_stages(Run *r, aha_error *e)
{
    int rc = 0;
    for (int i = r->state.stage; i < r->recipe.n_stage && rc == 0; i++) {
        Stage *s = &r->recipe.stage[i];
        r->elapsed_before = r->state.elapsed_s;
        r->started_ns = time_now_ns();
        rc = run_stage(r, s, e);
        if (rc == AHA_ERR_CANCELLED && (s->kind == STAGE_EVAL || s->kind == STAGE_SAMPLE))
            error_set(e, rc, "stopped in %s, which the same command begins anew", s->name);
        if (rc) break;
        r->state = (RunState){.stage = i + 1, .checked = -1, .metrics_bytes = r->state.metrics_bytes, .recipe_hash = r->state.recipe_hash};
        rc = file_sync(&r->metrics, e);
        if (rc == 0) rc = checkpoint_save(r->checkpoint_dir, &r->state, NULL, NULL, e);
        if (rc == 0) rc = report_write(r->dir, e);
        if (r->o->until && strcmp(r->o->until, s->name) == 0) break;
    }
    return rc;
}

int learn_run(const LearnOptions *o, aha_error *e)
{
    Run *r = mem_zalloc(1, sizeof *r);
    int  rc;
    if (!r) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a run");
    rc = run_open(r, o, e);
    if (rc == 0) rc = run_stages(r, e);
    if (rc == AHA_ERR_CANCELLED) report_write(r->dir, NULL);
    file_close(&r->metrics);
    tokenizer_free(r->tok);
    mem_free(r->tokenizer_json);
    pool_free(r->pool);
    recipe_free(&r->recipe);
    mem_free(r);
    return rc;
}
