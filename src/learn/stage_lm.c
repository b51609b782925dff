/* Learning from text: pretraining on a generated corpus, SFT on a file of samples. */
#include "run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BATCH_SAMPLES_MAX = 65536, FILE_BYTES_MAX = 1 << 30, LOG_EVERY = 10 };
#define STREAM_CORPUS 0x636f7270u /* streams of random numbers, one per use */
#define STREAM_SHUFFLE 0x73686674u

/* ---- where samples come from ---- */
typedef struct Source {
    Run         *run;
    const Stage *st;
    Ids         *item;        /* sft: every sample's ids */
    int         *n_prompt, n; /* and how many of them are the prompt */
    int64_t      total;       /* sft: samples of all epochs */
    int         *order;       /* sft: of the epoch under way */
    int64_t      order_epoch;
    Buf          prompt, thinking, answer;
} Source;

static int corpus_ids(Source *s, int64_t index, double progress, Ids *out, int *n_prompt, aha_error *e)
{
    uint64_t    stage = (uint64_t)(s->st - s->run->recipe.stage); /* a later stage's corpus goes on, it does not repeat */
    Rng         rng = {s->run->seed ^ STREAM_CORPUS, stage << 48 | (uint64_t)index, 0};
    const Task *task = stage_pick_task(s->st, progress, (double)rng_float(&rng));
    int         rc;
    buf_reset(&s->prompt);
    buf_reset(&s->thinking);
    buf_reset(&s->answer);
    rc = corpus_sample(task, s->st->variant, &rng, &s->prompt, &s->thinking, &s->answer, e);
    if (rc) return rc;
    return sample_ids(s->run->tok, s->run->tpl, s->prompt.data, s->thinking.data ? s->thinking.data : "", s->answer.data ? s->answer.data : "",
                      out, n_prompt, e);
}

/* A new order every epoch, from the seed alone. */
static void shuffle(Source *s, int64_t epoch)
{
    Rng rng = {s->run->seed ^ STREAM_SHUFFLE, (uint64_t)epoch, 0};
    for (int i = 0; i < s->n; i++) s->order[i] = i;
    for (int i = s->n - 1; i > 0; i--) {
        int j = (int)rng_below(&rng, (uint32_t)i + 1), t = s->order[i];
        s->order[i] = s->order[j];
        s->order[j] = t;
    }
    s->order_epoch = epoch;
}

static int file_ids(Source *s, int64_t index, Ids *out, int *n_prompt, aha_error *e)
{
    int64_t epoch = index / s->n;
    int     i, rc = 0;
    if (epoch != s->order_epoch) shuffle(s, epoch);
    i = s->order[index % s->n];
    out->n = 0;
    for (size_t k = 0; k < s->item[i].n && rc == 0; k++) rc = ids_push(out, s->item[i].id[k], e);
    *n_prompt = s->n_prompt[i];
    return rc;
}

static int read_line(Source *s, const char *line, size_t n, const char *what, aha_error *e)
{
    const char *prompt, *thinking = "", *answer;
    Json       *j;
    int         rc = json_parse(&j, line, n, what, e);
    if (rc) return rc;
    rc = json_get_str(j, what, "prompt", true, &prompt, e);
    if (rc == 0) rc = json_get_str(j, what, "thinking", false, &thinking, e);
    if (rc == 0) rc = json_get_str(j, what, "answer", true, &answer, e);
    if (rc == 0) rc = sample_ids(s->run->tok, s->run->tpl, prompt, thinking, answer, &s->item[s->n], &s->n_prompt[s->n], e);
    if (rc == 0 && s->item[s->n].n > (size_t)s->run->recipe.context) s->n--; /* too long for the context: left out */
    if (rc == 0) s->n++;
    json_free(j);
    return rc;
}

/* {"prompt": ..., "thinking": ..., "answer": ...} a line */
static int source_read(Source *s, aha_error *e)
{
    char   path[2048], what[64], *text = NULL;
    size_t n = 0, lines = 1;
    int    rc = path_join(path, sizeof path, s->run->dir, s->st->file, e);
    if (rc == 0) rc = file_read_all(path, FILE_BYTES_MAX, &text, &n, e);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    s->item = mem_zalloc(lines, sizeof *s->item);
    s->n_prompt = mem_zalloc(lines, sizeof *s->n_prompt);
    s->order = mem_zalloc(lines, sizeof *s->order);
    if (!s->item || !s->n_prompt || !s->order) rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for %zu samples", lines);
    for (size_t at = 0, number = 1; at < n && rc == 0; number++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t      len = end ? (size_t)(end - text) - at : n - at;
        snprintf(what, sizeof what, "line %zu", number);
        if (len && (rc = read_line(s, text + at, len, what, e)) != 0) rc = error_prefix(e, rc, "%s", path);
        at += len + 1;
    }
    mem_free(text);
    if (rc == 0 && s->n == 0) rc = error_set(e, AHA_ERR_FORMAT, "%s: no sample that fits into %d tokens", path, s->run->recipe.context);
    s->total = (int64_t)ceil(s->st->epochs * s->n);
    s->order_epoch = -1;
    return rc;
}

static void source_free(Source *s)
{
    for (int i = 0; s->item && i < s->n; i++) ids_free(&s->item[i]);
    mem_free(s->item);
    mem_free(s->n_prompt);
    mem_free(s->order);
    buf_free(&s->prompt);
    buf_free(&s->thinking);
    buf_free(&s->answer);
}

/* ---- batches ---- */
typedef struct LmBatch {
    Sample *sample; /* [cap] */
    Ids    *ids;
    float **coef;
    int     n, cap;
    int64_t tokens;
} LmBatch;

static int batch_init(LmBatch *b, const Run *r, int64_t batch_tokens, aha_error *e)
{
    memset(b, 0, sizeof *b);
    b->cap = (int)(batch_tokens / 4 < BATCH_SAMPLES_MAX ? batch_tokens / 4 + 1 : BATCH_SAMPLES_MAX);
    b->sample = mem_zalloc((size_t)b->cap, sizeof *b->sample);
    b->ids = mem_zalloc((size_t)b->cap, sizeof *b->ids);
    b->coef = mem_zalloc((size_t)b->cap, sizeof *b->coef);
    if (!b->sample || !b->ids || !b->coef) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a batch");
    for (int i = 0; i < b->cap; i++) {
        b->coef[i] = mem_alloc((size_t)r->recipe.context * sizeof(float));
        if (!b->coef[i]) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a batch");
    }
    return 0;
}

static void batch_free(LmBatch *b)
{
    for (int i = 0; i < b->cap; i++) {
        if (b->ids) ids_free(&b->ids[i]);
        if (b->coef) mem_free(b->coef[i]);
    }
    mem_free(b->sample);
    mem_free(b->ids);
    mem_free(b->coef);
}

/* The next samples up to batch_tokens, of the tasks' shares at this progress of the stage.  The weights of all trained
 * tokens sum to 1. */
static int batch_fill(LmBatch *b, Source *s, double progress, aha_error *e)
{
    Run    *r = s->run;
    bool    sft = s->st->kind == STAGE_SFT;
    double  weight = 0;
    b->n = 0;
    b->tokens = 0;
    while (b->n < b->cap && b->tokens < s->st->batch_tokens && (!sft || r->state.item < s->total)) {
        Ids *ids = &b->ids[b->n];
        int  n_prompt = 0, rc = sft ? file_ids(s, r->state.item, ids, &n_prompt, e) : corpus_ids(s, r->state.item, progress, ids, &n_prompt, e);
        if (rc) return rc;
        r->state.item++;
        if (ids->n > (size_t)r->recipe.context) continue; /* the corpus is made to fit; what does not is left out */
        for (int i = 0; i < (int)ids->n; i++) b->coef[b->n][i] = i == 0 ? 0 : i < n_prompt ? (float)s->st->prompt_weight : 1;
        weight += (double)((int)ids->n - n_prompt) + s->st->prompt_weight * (n_prompt - 1);
        b->sample[b->n] = (Sample){ids->id, b->coef[b->n], (int)ids->n, b->n};
        b->tokens += (int64_t)ids->n;
        b->n++;
    }
    for (int i = 0; i < b->n; i++)
        for (int k = 0; k < b->sample[i].n; k++) b->coef[i][k] /= (float)weight;
    return 0;
}

static int log_update(Training *t, const StepStats *st, double rate, aha_error *e)
{
    Run *r = t->run;
    Buf  b = {0};
    int  rc;
    buf_fmt(&b, "\"tokens\":%lld", (long long)r->state.tokens);
    log_num(&b, "loss", 5, st->loss);
    log_num(&b, "draft_loss", 5, st->draft_loss);
    log_num(&b, "lr", 5, rate);
    log_num(&b, "grad_norm", 5, st->grad_norm);
    log_num(&b, "load_max", 3, st->load_max);
    buf_fmt(&b, ",\"skipped\":%s", st->skipped ? "true" : "false");
    rc = run_log(r, t->st, stage_kind_name(t->st->kind), r->state.step, &b, e);
    buf_free(&b);
    return rc;
}

static double lm_progress(const Source *s)
{
    const RunState *st = &s->run->state;
    return s->st->kind == STAGE_SFT ? (double)st->item / (double)s->total : (double)st->tokens / (double)s->st->tokens;
}

static int lm_update(Training *t, Source *s, LmBatch *b, aha_error *e)
{
    Run      *r = t->run;
    Objective obj = {.draft_weight = t->st->draft_weight};
    StepStats st;
    double    progress = lm_progress(s), rate = lr_factor(t->st, r->state.step, progress < 1 ? progress : 1);
    int       rc = batch_fill(b, s, progress, e), update;
    if (rc == 0) rc = trainer_accumulate(&t->t, b->sample, b->n, &obj, NULL, e);
    if (rc) return rc;
    update = trainer_update(&t->t, rate, &st, e); /* the step that ends a run for its gradients is logged like those before it */
    r->state.step++;
    r->state.tokens += b->tokens;
    run_progress(r, t->st, s->st->kind == STAGE_SFT ? r->state.item : r->state.tokens, s->st->kind == STAGE_SFT ? s->total : t->st->tokens,
                 false, "loss %.3f", st.loss);
    if (r->state.step % LOG_EVERY == 0 || st.skipped) rc = log_update(t, &st, rate, update ? NULL : e);
    return update ? update : rc;
}

int stage_lm(Run *r, const Stage *s, aha_error *e)
{
    Training t;
    LmBatch  b = {0};
    Source   src = {.run = r, .st = s};
    int      rc = training_begin(&t, r, s, 64, e);
    if (rc == 0) rc = batch_init(&b, r, s->batch_tokens, e);
    if (rc == 0 && s->kind == STAGE_SFT) rc = source_read(&src, e);
    while (rc == 0 && (rc = training_tick(&t, false, e)) == 0 && lm_progress(&src) < 1) rc = lm_update(&t, &src, &b, e);
    if (rc == 0) rc = training_end(&t, e);
    source_free(&src);
    batch_free(&b);
    training_free(&t);
    return rc;
}
