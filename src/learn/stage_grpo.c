/* GRPO (DeepSeekMath, arXiv 2402.03300 section 4.1; R1, arXiv 2501.12948 eq. 1-3) with later refinements as options.
 *
 * A round: `questions` problems, `group` replies each from the current policy; rewards by rule; advantage of a reply
 * A = (r - mean) / std of its group.  Then `minibatches` updates, each on its share of the questions, of
 *   - sum coef min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) + beta KL,   rho = exp(logp - logp_old) per token,
 *   KL = exp(ref - logp) - (ref - logp) - 1.
 * coef: 1 / all tokens of the minibatch (token mean, DAPO), or 1 / (replies * tokens of the reply) (the paper).
 * logp_old comes from the sampler; it equals the trainer's own to the bit, so the first minibatch starts at rho = 1. */
#include "run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define STREAM_PROBLEM 0x70726f62u
#define STREAM_ROLLOUT 0x726f6c6cu
#define STREAM_COIN 0x636f696eu

typedef struct Graded { /* one rollout with what it earned */
    float     reward, advantage;
    Verdict   verdict;
    Behaviour behaviour;
    float    *coef, *ref; /* [n_prompt + n_new] */
} Graded;

typedef struct Round {
    Training *t;
    int       n;        /* questions * group */
    Problem  *problem;  /* [questions] */
    Buf      *prompt;   /* [questions] */
    Rollout  *roll;     /* [n] */
    Graded   *graded;   /* [n] */
    Sample   *sample;   /* [n] of a minibatch */
    int       n_sample;
    float    *reward, *advantage; /* [group] */
    /* sums over a round's updates */
    double    clipped, kl, entropy;
    int64_t   rows;
    int       dropped, skipped; /* groups without a lesson; updates not done */
} Round;

static int round_init(Round *d, Training *t, aha_error *e)
{
    const Stage *s = t->st;
    memset(d, 0, sizeof *d);
    d->t = t;
    d->n = s->questions * s->group;
    d->problem = mem_zalloc((size_t)s->questions, sizeof *d->problem);
    d->prompt = mem_zalloc((size_t)s->questions, sizeof *d->prompt);
    d->roll = mem_zalloc((size_t)d->n, sizeof *d->roll);
    d->graded = mem_zalloc((size_t)d->n, sizeof *d->graded);
    d->sample = mem_zalloc((size_t)d->n, sizeof *d->sample);
    d->reward = mem_zalloc((size_t)s->group, sizeof *d->reward);
    d->advantage = mem_zalloc((size_t)s->group, sizeof *d->advantage);
    if (d->problem && d->prompt && d->roll && d->graded && d->sample && d->reward && d->advantage) return 0;
    return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d replies", d->n);
}

static void round_clear(Round *d)
{
    for (int i = 0; d->roll && i < d->n; i++) rollout_free(&d->roll[i]);
    for (int i = 0; d->graded && i < d->n; i++) {
        mem_free(d->graded[i].coef);
        mem_free(d->graded[i].ref);
    }
    if (d->graded) memset(d->graded, 0, (size_t)d->n * sizeof *d->graded);
    d->clipped = d->kl = d->entropy = 0;
    d->rows = 0;
    d->dropped = d->skipped = 0;
}

static void round_free(Round *d)
{
    round_clear(d);
    for (int i = 0; d->prompt && i < d->t->st->questions; i++) buf_free(&d->prompt[i]);
    mem_free(d->problem);
    mem_free(d->prompt);
    mem_free(d->roll);
    mem_free(d->graded);
    mem_free(d->sample);
    mem_free(d->reward);
    mem_free(d->advantage);
}

/* ---- rollouts and rewards ---- */
static bool grpo_stop(void *user)
{
    return run_stopping(user);
}

static int sample_round(Round *d, int64_t step, aha_error *e)
{
    Run           *r = d->t->run;
    const Stage   *s = d->t->st;
    RolloutOptions o = {.samples = s->group, .max_new = s->max_new, .temperature = s->temperature, .top_p = s->top_p,
                        .seed = r->seed ^ STREAM_ROLLOUT, .stream0 = (uint64_t)step * (uint64_t)d->n, .want_logp = true,
                        .stop = grpo_stop, .user = r};
    const char   **text = mem_zalloc((size_t)s->questions, sizeof *text);
    Policy         p = {d->t->engine, r->tok, r->tpl};
    int            rc = text ? 0 : error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d prompts", s->questions);
    for (int i = 0; i < s->questions && rc == 0; i++) {
        Rng rng = {r->seed ^ STREAM_PROBLEM, (uint64_t)step * (uint64_t)s->questions + (uint64_t)i, 0};
        buf_reset(&d->prompt[i]);
        rc = problem_new(stage_pick_task(s, (double)step / s->steps, (double)rng_float(&rng)), SPLIT_TRAIN, s->variant, &rng, &d->problem[i], &d->prompt[i], e);
        text[i] = d->prompt[i].data;
    }
    engine_weights_changed(d->t->engine);
    if (rc == 0) rc = rollout_run(&p, text, s->questions, &o, d->roll, e);
    mem_free(text);
    return rc;
}

/* 0 up to max_new - overlong tokens, then falling to -1 at max_new (DAPO's soft overlong punishment) */
static double overlong(const Stage *s, int n_new)
{
    int from = s->max_new - s->overlong;
    return s->overlong > 0 && n_new > from ? -(double)(n_new - from) / s->overlong : 0;
}

bool group_advantages(const float *reward, int n, bool divide_std, float *advantage)
{
    double mean = 0, var = 0, std;
    for (int k = 0; k < n; k++) mean += (double)reward[k] / n;
    for (int k = 0; k < n; k++) var += pow((double)reward[k] - mean, 2) / n;
    std = sqrt(var);
    for (int k = 0; k < n; k++) advantage[k] = std < 1e-6 ? 0 : (float)(((double)reward[k] - mean) / (divide_std ? std + 1e-6 : 1));
    return std < 1e-6;
}

static void grade(Round *d, int64_t step)
{
    const Stage *s = d->t->st;
    for (int i = 0; i < d->n; i++) {
        Graded  *g = &d->graded[i];
        Rollout *r = &d->roll[i];
        bool     form = r->ended && r->closed;
        double   wrong;
        g->verdict = problem_judge(&d->problem[i / s->group], r->answer.data, r->answer.n);
        if (!form) g->verdict.correct = g->verdict.well_formed = false;
        behaviour_read(r->thinking.data, r->thinking.n, &g->behaviour);
        wrong = g->behaviour.equations > 0 ? (double)g->behaviour.wrong / g->behaviour.equations : 0;
        g->reward = (float)((g->verdict.correct ? 1 : 0) + (g->verdict.well_formed ? s->format_weight : 0) + overlong(s, r->n_new) - s->honest_weight * wrong);
        if (s->random_reward) g->reward = rng_uniform(d->t->run->seed ^ STREAM_COIN, (uint64_t)step, (uint64_t)i) < 0.5f ? 1 : 0;
    }
    for (int q = 0; q < s->questions; q++) {
        Graded *g = &d->graded[q * s->group];
        for (int k = 0; k < s->group; k++) d->reward[k] = g[k].reward;
        d->dropped += group_advantages(d->reward, s->group, s->divide_std, d->advantage);
        for (int k = 0; k < s->group; k++) g[k].advantage = d->advantage[k];
    }
}

/* ---- the objective ---- */
static void policy_loss(void *user, int tag, int at, float coef, float logp, float entropy, float *dlogp, float *dentropy)
{
    Round       *d = user;
    const Stage *s = d->t->st;
    const Graded *g = &d->graded[tag];
    double       rho = exp((double)logp - (double)d->roll[tag].logp[at]), A = (double)g->advantage, grad;
    bool         clipped = (A > 0 && rho > 1 + s->eps_high) || (A < 0 && rho < 1 - s->eps_low);
    grad = clipped ? 0 : -A * rho;
    if (g->ref) {
        double u = (double)g->ref[at] - (double)logp;
        grad += s->beta * (1 - exp(u));
        d->kl += exp(u) - u - 1;
    }
    d->clipped += clipped;
    d->entropy += (double)entropy;
    d->rows++;
    *dlogp = (float)(grad * (double)coef);
    *dentropy = 0;
}

/* Samples of the questions [q0, q1); groups without a lesson are left out. */
static int minibatch(Round *d, int q0, int q1, aha_error *e)
{
    const Stage *s = d->t->st;
    int64_t      tokens = 0;
    d->n_sample = 0;
    for (int i = q0 * s->group; i < q1 * s->group; i++) {
        Rollout *r = &d->roll[i];
        size_t   n = (size_t)r->n_prompt + (size_t)r->n_new;
        if (s->drop_equal && d->graded[i].advantage == 0 && !d->graded[i].ref) continue;
        d->graded[i].coef = mem_zalloc(n, sizeof(float));
        if (!d->graded[i].coef) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %zu tokens", n);
        d->sample[d->n_sample++] = (Sample){r->id, d->graded[i].coef, (int)n, i};
        tokens += r->n_new;
    }
    for (int k = 0; k < d->n_sample; k++) {
        int      i = d->sample[k].tag;
        Rollout *r = &d->roll[i];
        float    c = s->token_mean ? 1 / (float)tokens : 1 / ((float)((q1 - q0) * s->group) * (float)r->n_new);
        for (int j = 0; j < r->n_new; j++) d->graded[i].coef[r->n_prompt + j] = c;
    }
    return 0;
}

/* The reference model's log-probabilities of every generated token. */
static int reference(Round *d, aha_error *e)
{
    float **logp = mem_zalloc((size_t)d->n, sizeof *logp);
    int     rc = 0, n = 0;
    if (!logp) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d replies", d->n);
    for (int i = 0; i < d->n && rc == 0; i++) {
        size_t len = (size_t)d->roll[i].n_prompt + (size_t)d->roll[i].n_new;
        float *coef = d->graded[i].coef = mem_zalloc(len, sizeof(float));
        logp[i] = d->graded[i].ref = mem_zalloc(len, sizeof(float));
        if (!coef || !logp[i]) {
            rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for %zu tokens", len);
            break;
        }
        for (int j = 0; j < d->roll[i].n_new; j++) coef[d->roll[i].n_prompt + j] = 1;
        d->sample[n++] = (Sample){d->roll[i].id, coef, (int)len, i};
    }
    if (rc == 0) rc = trainer_logp(&d->t->t, d->t->ref, d->sample, n, logp, e);
    for (int i = 0; i < d->n; i++) {
        mem_free(d->graded[i].coef);
        d->graded[i].coef = NULL;
    }
    mem_free(logp);
    return rc;
}

static int learn_round(Round *d, int64_t step, StepStats *last, aha_error *e)
{
    const Stage *s = d->t->st;
    Objective    obj = {.seed = policy_loss, .user = d};
    int          rc = d->t->ref ? reference(d, e) : 0;
    memset(last, 0, sizeof *last);
    for (int m = 0; m < s->minibatches && rc == 0; m++) {
        StepStats st;
        rc = minibatch(d, m * s->questions / s->minibatches, (m + 1) * s->questions / s->minibatches, e);
        if (rc == 0 && d->n_sample == 0) continue;
        if (rc == 0) rc = trainer_accumulate(&d->t->t, d->sample, d->n_sample, &obj, NULL, e);
        if (rc) break;
        rc = trainer_update(&d->t->t, lr_factor(s, step * s->minibatches + m, (double)step / s->steps), &st, e);
        d->skipped += st.skipped;
        if (m == 0 || (isfinite(last->grad_norm) && !(st.grad_norm <= last->grad_norm))) *last = st; /* the largest; no number before any */
    }
    return rc;
}

/* ---- the log ---- */
typedef struct Means {
    double reward, correct, form, thinking, gives_up, no_thinking, checks, waits, backward, wrong, truncated, equations;
} Means;

static Means round_means(const Round *d)
{
    Means m = {0};
    for (int i = 0; i < d->n; i++) {
        const Graded    *g = &d->graded[i];
        const Behaviour *b = &g->behaviour;
        m.reward += (double)g->reward / d->n;
        m.correct += (double)g->verdict.correct / d->n;
        m.form += (double)g->verdict.well_formed / d->n;
        m.thinking += (double)d->roll[i].think_tokens / d->n;
        m.truncated += (double)!d->roll[i].ended / d->n;
        m.gives_up += (double)b->gives_up / d->n;
        m.no_thinking += (double)b->no_thinking / d->n;
        m.checks += (double)(b->checks > 0) / d->n;
        m.waits += (double)(b->waits > 0) / d->n;
        m.backward += (double)(b->backward > 0) / d->n;
        m.wrong += b->wrong;
        m.equations += b->equations;
    }
    return m;
}

static int log_round(Round *d, const StepStats *st, aha_error *e)
{
    Run    *r = d->t->run;
    Means   m = round_means(d);
    double  rows = d->rows > 0 ? (double)d->rows : 1;
    Buf     b = {0};
    int     rc;
    log_num(&b, "reward", 4, m.reward);
    log_num(&b, "correct", 4, m.correct);
    log_num(&b, "format", 4, m.form);
    log_num(&b, "thinking", 2, m.thinking);
    log_num(&b, "gives_up", 4, m.gives_up);
    log_num(&b, "no_thinking", 4, m.no_thinking);
    log_num(&b, "checks", 4, m.checks);
    log_num(&b, "waits", 4, m.waits);
    log_num(&b, "backward", 4, m.backward);
    log_num(&b, "wrong_equations", 5, m.equations > 0 ? m.wrong / m.equations : 0);
    log_num(&b, "truncated", 4, m.truncated);
    log_num(&b, "entropy", 5, d->entropy / rows);
    log_num(&b, "clip", 5, d->clipped / rows);
    log_num(&b, "kl", 6, d->kl / rows);
    log_num(&b, "grad_norm", 5, st->grad_norm);
    buf_fmt(&b, ",\"dropped\":%d", d->dropped);
    log_num(&b, "load_max", 3, st->load_max);
    buf_fmt(&b, ",\"skipped\":%s,\"tokens\":%lld", d->skipped ? "true" : "false", (long long)r->state.tokens);
    rc = run_log(r, d->t->st, "grpo", r->state.step, &b, e);
    buf_free(&b);
    run_progress(r, d->t->st, r->state.step, d->t->st->steps, true, "right %.0f%%, %.0f tokens of thinking", 100 * m.correct, m.thinking);
    return rc;
}

static int log_sample(Round *d, aha_error *e)
{
    const Stage *s = d->t->st;
    int          i = (int)(d->t->run->state.step % s->questions) * s->group;
    Buf          b = {0};
    int          rc;
    buf_str(&b, "\"task\":\"");
    buf_str(&b, d->problem[i / s->group].task->name);
    buf_str(&b, "\",\"prompt\":");
    buf_json(&b, d->prompt[i / s->group].data, d->prompt[i / s->group].n);
    buf_str(&b, ",\"thinking\":");
    buf_json(&b, d->roll[i].thinking.data, d->roll[i].thinking.n);
    buf_str(&b, ",\"answer\":");
    buf_json(&b, d->roll[i].answer.data, d->roll[i].answer.n);
    buf_fmt(&b, ",\"correct\":%s,\"reward\":%.3f", d->graded[i].verdict.correct ? "true" : "false", (double)d->graded[i].reward);
    rc = run_log(d->t->run, s, "sample", d->t->run->state.step, &b, e);
    buf_free(&b);
    return rc;
}

static int grpo_step(Round *d, aha_error *e)
{
    Run        *r = d->t->run;
    StepStats   st;
    int64_t     step = r->state.step;
    const Stage *s = d->t->st;
    int         rc = sample_round(d, step, e);
    if (rc) return rc;
    grade(d, step);
    rc = learn_round(d, step, &st, e);
    if (rc && !d->skipped) return rc;
    r->state.step++;
    for (int i = 0; i < d->n; i++) r->state.tokens += d->roll[i].n_new;
    if (rc) { /* too many steps could not be taken: the last of them is logged like those before */
        log_round(d, &st, NULL);
        return rc;
    }
    if (d->t->ref && s->ref_every && r->state.step % s->ref_every == 0)
        for (int i = 0; i < d->t->m->n_weight; i++) {
            const Weight *w = d->t->m->weight[i];
            memcpy((void *)(uintptr_t)d->t->ref->weight[i]->data, w->data, (size_t)w->rows * (size_t)w->cols * sizeof(real));
        }
    rc = log_round(d, &st, e);
    if (rc == 0 && r->state.step % 5 == 0) rc = log_sample(d, e);
    return rc;
}

int stage_grpo(Run *r, const Stage *s, aha_error *e)
{
    Training t;
    Round    d = {0};
    int      rc = training_begin(&t, r, s, s->questions * s->group, e);
    if (rc == 0) rc = round_init(&d, &t, e);
    while (rc == 0 && (rc = training_tick(&t, true, e)) == 0 && r->state.step < s->steps) {
        rc = grpo_step(&d, e);
        round_clear(&d);
        if (rc == AHA_ERR_CANCELLED) rc = training_stop(&t, e); /* while replies were written: the model is as it was */
    }
    if (rc == 0) rc = training_end(&t, e);
    round_free(&d);
    training_free(&t);
    return rc;
}
