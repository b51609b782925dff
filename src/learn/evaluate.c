/* Problems out, answers in, judged by rule. */
#include "evaluate.h"

#include "rollout.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK_ANSWERS = 512 }; /* answers under way at once */
#define STREAM_EVAL_PROBLEM 0x6576616cu
#define STREAM_EVAL_ROLLOUT 0x65726f6cu

typedef struct Eval {
    const EvalOptions *o;
    Policy             policy;
    EvalResult        *res;
    Problem           *problem; /* of the chunk */
    Buf               *prompt;
    Rollout           *roll;
    double            *share;   /* [n] right answers of each problem, as a share */
    int               *right;   /* [n] */
    int64_t            equations, wrong, false_right, all_right, majority;
    int                done;
} Eval;

static int eval_alloc(Eval *v, int chunk, aha_error *e)
{
    size_t n = (size_t)v->o->n, c = (size_t)chunk;
    v->problem = mem_zalloc(c, sizeof *v->problem);
    v->prompt = mem_zalloc(c, sizeof *v->prompt);
    v->roll = mem_zalloc(c * (size_t)v->o->samples, sizeof *v->roll);
    v->share = mem_zalloc(n, sizeof *v->share);
    v->right = mem_zalloc(n, sizeof *v->right);
    v->res->example = mem_zalloc((size_t)v->o->examples + 1, sizeof *v->res->example);
    if (v->problem && v->prompt && v->roll && v->share && v->right && v->res->example) return 0;
    return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d problems", v->o->n);
}

static void eval_free(Eval *v, int chunk)
{
    for (int i = 0; v->prompt && i < chunk; i++) buf_free(&v->prompt[i]);
    mem_free(v->problem);
    mem_free(v->prompt);
    mem_free(v->roll);
    mem_free(v->share);
    mem_free(v->right);
}

static void keep_example(Eval *v, const Buf *prompt, const Rollout *r, bool correct, float reward)
{
    EvalExample *x = &v->res->example[v->res->n_example];
    x->prompt = mem_strdup(prompt->data);
    x->thinking = mem_strdup(r->thinking.data);
    x->answer = mem_strdup(r->answer.data);
    x->correct = correct;
    x->reward = reward;
    v->res->n_example++;
}

/* Adds one answer to the sums; says whether it is right. */
static bool count_answer(Eval *v, const Problem *p, const Buf *prompt, const Rollout *r, int sample)
{
    EvalResult *s = v->res;
    Verdict     d = problem_judge(p, r->answer.data, r->answer.n);
    Behaviour   b;
    bool        form = r->ended && r->closed, ok = form && d.correct;
    behaviour_read(r->thinking.data, r->thinking.n, &b);
    s->well_formed += form && d.well_formed;
    s->truncated += !r->ended;
    s->thinking += r->think_tokens;
    s->tokens += r->n_new;
    s->gives_up += b.gives_up;
    s->no_thinking += b.no_thinking;
    s->checks += b.checks > 0;
    s->waits += b.waits > 0;
    s->backward += b.backward > 0;
    v->equations += b.equations;
    v->wrong += b.wrong;
    v->all_right += ok;
    v->false_right += ok && b.wrong > 0;
    if (sample == 0 && s->n_example < v->o->examples) keep_example(v, prompt, r, ok, d.reward);
    return ok;
}

/* Is the most frequent answer text (the first of equals) a right one? */
static bool majority_right(const Eval *v, const Problem *p, const Rollout *r)
{
    int best = -1, votes = 0;
    for (int i = 0; i < v->o->samples; i++) {
        int same = 0;
        if (!r[i].ended || !r[i].closed || !r[i].answer.n) continue;
        for (int j = 0; j < v->o->samples; j++) same += r[j].ended && strcmp(r[i].answer.data, r[j].answer.data) == 0;
        if (same > votes) {
            votes = same;
            best = i;
        }
    }
    return best >= 0 && problem_judge(p, r[best].answer.data, r[best].answer.n).correct;
}

static bool eval_stop(void *user)
{
    const Eval *v = user;
    return v->o->stop && v->o->stop(v->o->user);
}

static void eval_progress(void *user, int done)
{
    const Eval *v = user;
    if (v->o->progress) v->o->progress(v->o->user, v->done + done, v->o->n * v->o->samples, v->done, (int)v->all_right);
}

static int eval_chunk(Eval *v, int first, int n, aha_error *e)
{
    const EvalOptions *o = v->o;
    const char        *text[CHUNK_ANSWERS] = {0};
    RolloutOptions     ro = {.samples = o->samples, .max_new = o->max_new, .temperature = o->temperature, .top_p = o->top_p,
                             .think = o->think, .think_budget = o->think_budget, .seed = o->seed ^ STREAM_EVAL_ROLLOUT, .stream0 = (uint64_t)first * (uint64_t)o->samples,
                             .stop = eval_stop, .progress = eval_progress, .user = v};
    int                rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        Rng rng = {o->seed ^ STREAM_EVAL_PROBLEM, (uint64_t)(first + i), 0};
        buf_reset(&v->prompt[i]);
        rc = problem_new(o->task, o->train_split ? SPLIT_TRAIN : SPLIT_HELD_OUT, o->variant, &rng, &v->problem[i], &v->prompt[i], e);
        text[i] = v->prompt[i].data;
    }
    if (rc == 0) rc = rollout_run(&v->policy, text, n, &ro, v->roll, e);
    for (int i = 0; i < n && rc == 0; i++) {
        Rollout *r = &v->roll[i * o->samples];
        for (int k = 0; k < o->samples; k++) v->right[first + i] += count_answer(v, &v->problem[i], &v->prompt[i], &r[k], k);
        v->share[first + i] = (double)v->right[first + i] / o->samples;
        v->majority += majority_right(v, &v->problem[i], r);
        v->done += o->samples;
    }
    for (int i = 0; i < n * o->samples; i++) rollout_free(&v->roll[i]);
    if (rc == 0) eval_progress(v, 0);
    return rc;
}

static void finish(Eval *v, uint64_t t0)
{
    EvalResult *s = v->res;
    double      all = (double)v->done > 0 ? (double)v->done : 1;
    s->n = v->o->n;
    s->samples = v->o->samples;
    s->pass1 = v->o->samples == 1 ? interval_wilson((double)v->all_right, (double)v->o->n) : interval_mean(v->share, v->o->n);
    for (int k = 1; k <= v->o->samples && s->n_k < EVAL_K_MAX; k *= 2) {
        double sum = 0;
        for (int i = 0; i < v->o->n; i++) sum += pass_at_k(v->o->samples, v->right[i], k);
        s->k[s->n_k] = k;
        s->pass_k[s->n_k++] = sum / v->o->n;
    }
    s->maj = (double)v->majority / v->o->n;
    s->well_formed /= all;
    s->truncated /= all;
    s->thinking /= all;
    s->gives_up /= all;
    s->no_thinking /= all;
    s->checks /= all;
    s->waits /= all;
    s->backward /= all;
    s->wrong_equations = v->equations ? (double)v->wrong / (double)v->equations : 0;
    s->false_right = v->all_right ? (double)v->false_right / (double)v->all_right : 0;
    s->seconds = (double)(time_now_ns() - t0) * 1e-9;
}

int evaluate(EvalResult *out, Engine *engine, const Tokenizer *tok, ChatTemplate tpl, const EvalOptions *o, aha_error *e)
{
    Eval     v = {.o = o, .policy = {engine, tok, tpl}, .res = out};
    uint64_t t0 = time_now_ns();
    int      chunk, rc;
    memset(out, 0, sizeof *out);
    if (o->n < 1 || o->samples < 1 || o->samples > CHUNK_ANSWERS)
        return error_set(e, AHA_ERR_ARG, "%d problems with %d answers each: expected at least 1, at most %d answers", o->n, o->samples, CHUNK_ANSWERS);
    chunk = CHUNK_ANSWERS / o->samples;
    rc = eval_alloc(&v, chunk, e);
    for (int i = 0; i < o->n && rc == 0; i += chunk) rc = eval_chunk(&v, i, o->n - i < chunk ? o->n - i : chunk, e);
    if (rc == 0) finish(&v, t0);
    eval_free(&v, chunk);
    if (rc) eval_result_free(out);
    return rc;
}

void eval_result_free(EvalResult *r)
{
    for (int i = 0; i < r->n_example; i++) {
        mem_free(r->example[i].prompt);
        mem_free(r->example[i].thinking);
        mem_free(r->example[i].answer);
    }
    mem_free(r->example);
    r->example = NULL;
    r->n_example = 0;
}

void eval_result_json(const EvalResult *r, Buf *out)
{
    buf_fmt(out, "\"n\":%d,\"samples\":%d,\"pass1\":%.5f,\"lo\":%.5f,\"hi\":%.5f,\"pass_k\":{", r->n, r->samples, r->pass1.p, r->pass1.lo, r->pass1.hi);
    for (int i = 0; i < r->n_k; i++) buf_fmt(out, "%s\"%d\":%.5f", i ? "," : "", r->k[i], r->pass_k[i]);
    buf_fmt(out, "},\"maj\":%.5f,\"well_formed\":%.5f,\"truncated\":%.5f,\"thinking\":%.2f,\"gives_up\":%.5f,\"no_thinking\":%.5f,"
                 "\"checks\":%.5f,\"waits\":%.5f,\"backward\":%.5f,\"wrong_equations\":%.5f,\"false_right\":%.5f,\"new_tokens\":%lld",
            r->maj, r->well_formed, r->truncated, r->thinking, r->gives_up, r->no_thinking, r->checks, r->waits, r->backward,
            r->wrong_equations, r->false_right, (long long)r->tokens);
}
