/* Stages that only ask: accuracy of a stage's shipped folder, and its verified answers written to a file. */
#include "run.h"

#include <stdio.h>
#include <string.h>

#define STREAM_SAMPLE 0x73616d70u

typedef struct Asking {
    Run    *run;
    Model  *m;
    Engine *engine;
    const Stage *st;
    uint64_t seed;        /* stage sample: no two of a run ask the same problems */
    int     first, right; /* stage sample: answers of the chunks before, and how many of them are right */
} Asking;

/* The model as its folder holds it: what a user gets is what is measured. */
static int asking_open(Asking *a, Run *r, const Stage *s, aha_error *e)
{
    EngineOptions o = {.seqs_max = 512, .batch_max = 1024, .chunk = 1024, .ctx_max = r->recipe.context};
    const Stage  *from = recipe_source(&r->recipe, s);
    char          dir[2048];
    int           rc;
    memset(a, 0, sizeof *a);
    a->run = r;
    a->st = s;
    if (!from) return error_set(e, AHA_ERR_FORMAT, "stage %s has no model to ask: no stage before it trains one", s->name);
    rc = stage_dir(r, from, dir, sizeof dir, e);
    if (rc == 0) rc = model_open(&a->m, dir, NULL, e);
    if (rc == 0) rc = engine_new(&a->engine, a->m, r->k, r->pool, &o, e);
    return rc;
}

static void asking_close(Asking *a)
{
    engine_free(a->engine);
    model_free(a->m);
}

static bool asking_stop(void *user)
{
    return run_stopping(((const Asking *)user)->run);
}

/* The tokens move even while no answer ends; the last line is the one that stays. */
static void asking_progress(void *user, int done, int total, int judged, int right)
{
    const Asking *a = user;
    double        share = judged > 0 ? 100.0 * right / judged : 0, tokens = (double)engine_stats(a->engine).new_tokens;
    if (judged == total)
        run_progress(a->run, a->st, done, total, true, "right %.1f%%", share);
    else if (judged > 0)
        run_progress(a->run, a->st, done, total, false, "right %.1f%%, %.1fk tokens", share, tokens * 1e-3);
    else
        run_progress(a->run, a->st, done, total, false, "%.1fk tokens", tokens * 1e-3);
}

static int log_examples(Run *r, const Stage *s, const Task *task, const EvalResult *res, aha_error *e)
{
    int rc = 0;
    for (int i = 0; i < res->n_example && rc == 0; i++) {
        const EvalExample *x = &res->example[i];
        Buf                b = {0};
        buf_fmt(&b, "\"task\":\"%s\",\"prompt\":", task->name);
        buf_json(&b, x->prompt, strlen(x->prompt));
        buf_str(&b, ",\"thinking\":");
        buf_json(&b, x->thinking, strlen(x->thinking));
        buf_str(&b, ",\"answer\":");
        buf_json(&b, x->answer, strlen(x->answer));
        buf_fmt(&b, ",\"correct\":%s,\"reward\":%.3f", x->correct ? "true" : "false", (double)x->reward);
        rc = run_log(r, s, "sample", 0, &b, e);
        buf_free(&b);
    }
    return rc;
}

static int eval_task(Asking *a, const Task *task, aha_error *e)
{
    const Stage *s = a->st;
    EvalOptions  o = {.task = task, .variant = s->variant, .n = s->n, .samples = s->samples, .temperature = s->temperature, .top_p = s->top_p,
                      .max_new = s->max_new, .seed = a->run->seed, .examples = 4, .progress = asking_progress, .stop = asking_stop, .user = a};
    EvalResult   res;
    Buf          b = {0};
    int          rc = evaluate(&res, a->engine, a->run->tok, a->run->tpl, &o, e);
    if (rc) return rc;
    buf_fmt(&b, "\"task\":\"%s\",", task->name);
    if (s->variant) buf_fmt(&b, "\"variant\":\"%s\",", variant_name(s->variant));
    buf_fmt(&b, "\"temperature\":%g,\"top_p\":%g,", s->temperature, s->top_p);
    eval_result_json(&res, &b);
    rc = run_log(a->run, s, "eval", 0, &b, e);
    if (rc == 0) rc = log_examples(a->run, s, task, &res, e);
    eval_result_free(&res);
    buf_free(&b);
    return rc;
}

int stage_eval(Run *r, const Stage *s, aha_error *e)
{
    Asking a;
    int    rc = asking_open(&a, r, s, e);
    for (int i = 0; i < s->tasks.n && rc == 0; i++) rc = eval_task(&a, s->tasks.task[i], e);
    asking_close(&a);
    return rc;
}

/* ---- verified answers to a file ---- */
static int write_right(const Asking *a, const Problem *p, const Buf *prompt, Rollout *r, Buf *out, int *kept)
{
    Behaviour b;
    if (!r->ended || !r->closed || !problem_judge(p, r->answer.data, r->answer.n).correct) return 0;
    behaviour_read(r->thinking.data ? r->thinking.data : "", r->thinking.n, &b);
    if (a->st->honest_weight > 0 && b.wrong) return 0;
    buf_str(out, "{\"prompt\":");
    buf_json(out, prompt->data, prompt->n);
    buf_str(out, ",\"thinking\":");
    buf_json(out, r->thinking.data, r->thinking.n);
    buf_str(out, ",\"answer\":");
    buf_json(out, r->answer.data, r->answer.n);
    buf_str(out, "}\n");
    (*kept)++;
    return 0;
}

enum { CHUNK = 256 };

static void sample_progress(void *user, int done)
{
    const Asking *a = user;
    run_progress(a->run, a->st, a->first + done, (int64_t)a->st->n * a->st->samples, false, "%d right, %.1fk tokens", a->right,
                 (double)engine_stats(a->engine).new_tokens * 1e-3);
}

static int sample_chunk(Asking *a, int first, int n, Buf *out, int *kept, aha_error *e)
{
    const Stage   *s = a->st;
    Run           *r = a->run;
    RolloutOptions o = {.samples = 1, .max_new = s->max_new, .temperature = s->temperature, .top_p = s->top_p, .seed = a->seed,
                        .stream0 = (uint64_t)first, .stop = asking_stop, .progress = sample_progress, .user = a};
    Policy         policy = {a->engine, r->tok, r->tpl};
    Problem        problem[CHUNK];
    Buf            prompt[CHUNK];
    Rollout        roll[CHUNK];
    const char    *text[CHUNK];
    int            rc = 0;
    a->first = first;
    a->right = *kept;
    memset(prompt, 0, sizeof prompt);
    memset(roll, 0, sizeof roll);
    for (int i = 0; i < n && rc == 0; i++) {
        Rng rng = {a->seed, (uint64_t)(first + i) / (uint64_t)s->samples, 1};
        rc = problem_new(stage_pick_task(s, 0, (double)rng_float(&rng)), SPLIT_TRAIN, s->variant, &rng, &problem[i], &prompt[i], e);
        text[i] = prompt[i].data;
    }
    if (rc == 0) rc = rollout_run(&policy, text, n, &o, roll, e);
    for (int i = 0; i < n && rc == 0; i++) rc = write_right(a, &problem[i], &prompt[i], &roll[i], out, kept);
    for (int i = 0; i < n; i++) {
        rollout_free(&roll[i]);
        buf_free(&prompt[i]);
    }
    run_progress(r, s, first + n, (int64_t)s->n * s->samples, first + n == s->n * s->samples, "%d right", *kept);
    return rc;
}

int stage_sample(Run *r, const Stage *s, aha_error *e)
{
    Asking a;
    Buf    out = {0}, b = {0};
    char   path[2048];
    int    kept = 0, all = s->n * s->samples, rc = asking_open(&a, r, s, e);
    a.seed = r->seed ^ STREAM_SAMPLE;
    for (const Stage *p = r->recipe.stage; p < s; p++) a.seed += (uint64_t)(p->kind == STAGE_SAMPLE) << 32;
    for (int i = 0; i < all && rc == 0; i += CHUNK) rc = sample_chunk(&a, i, all - i < CHUNK ? all - i : CHUNK, &out, &kept, e);
    if (rc == 0) rc = path_join(path, sizeof path, r->dir, s->file, e);
    if (rc == 0 && out.failed) rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for the samples of %s", s->name);
    if (rc == 0) rc = file_write_atomic(path, out.data ? out.data : "", out.n, e);
    buf_fmt(&b, "\"n\":%d,\"right\":%d,\"file\":\"%s\"", all, kept, s->file);
    if (rc == 0) rc = run_log(r, s, "done", 0, &b, e);
    buf_free(&b);
    buf_free(&out);
    asking_close(&a);
    return rc;
}
