/* Slots, the tree of gradients, the update. */
#include "trainer.h"

#include <string.h>

enum { SKIPS_MAX = 5, TREE_LEVELS = 16 };
#define NORM_JUMP 1000.0 /* times the running mean: a gradient this large is a fault, not a lesson; below it clipping is enough */

/* ---- one slot: samples packed behind each other ---- */
typedef struct Slot {
    int32_t *token, *pos, *seq;           /* [rows] */
    uint8_t *loss;                        /* [rows] BATCH_LOSS or 0 */
    int32_t *target, *tag, *at;           /* [trained] what such a row predicts, of which sample and place */
    float   *coef;                        /* [trained] */
    uint8_t *d_loss;                      /* draft: the same of the rows with a next token, and what they predict */
    int32_t *d_target;
    float   *d_coef;
    int32_t *n_row, *n_token, *n_pos, *n_seq; /* draft: rows with a next token, that token, position, sequence */
    int      n, trained, drafted, nexts;
} Slot;

static size_t slot_bytes(int rows)
{
    return 16 * ((size_t)rows * sizeof(int32_t) + 64);
}

static void slot_place(Slot *s, uint8_t *mem, int rows)
{
    int32_t **part[] = {&s->token, &s->pos, &s->seq, &s->target, &s->tag, &s->at, &s->d_target, &s->n_row, &s->n_token, &s->n_pos, &s->n_seq};
    size_t    step = ((size_t)rows * sizeof(int32_t) + 63) & ~(size_t)63;
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < ARRAY_LEN(part); i++) *part[i] = (int32_t *)(void *)(mem + i * step);
    s->coef = (float *)(void *)(mem + ARRAY_LEN(part) * step);
    s->d_coef = (float *)(void *)(mem + (ARRAY_LEN(part) + 1) * step);
    s->loss = mem + (ARRAY_LEN(part) + 2) * step;
    s->d_loss = mem + (ARRAY_LEN(part) + 3) * step;
}

static void slot_add(Slot *s, const Sample *x, int index)
{
    for (int i = 0; i < x->n; i++) {
        int r = s->n++;
        s->token[r] = x->tok[i];
        s->pos[r] = i;
        s->seq[r] = index;
        s->loss[r] = i + 1 < x->n && x->coef[i + 1] != 0 ? BATCH_LOSS : 0;
        if (s->loss[r]) {
            s->target[s->trained] = x->tok[i + 1];
            s->coef[s->trained] = x->coef[i + 1];
            s->tag[s->trained] = index;
            s->at[s->trained++] = i + 1;
        }
        if (i + 1 >= x->n) continue;
        s->d_loss[s->nexts] = i + 2 < x->n && x->coef[i + 2] != 0 ? BATCH_LOSS : 0;
        if (s->d_loss[s->nexts]) {
            s->d_target[s->drafted] = x->tok[i + 2];
            s->d_coef[s->drafted++] = x->coef[i + 2];
        }
        s->n_row[s->nexts] = r;
        s->n_token[s->nexts] = x->tok[i + 1];
        s->n_pos[s->nexts] = i;
        s->n_seq[s->nexts++] = index;
    }
}

typedef struct SlotOut {
    Tensor logp, draft; /* [trained, 2], [drafted, 2] */
} SlotOut;

/* The forward of a slot; with a dry context, what it needs.  batch [2] is filled and must live until the backward. */
static SlotOut slot_forward(Ctx *c, const Model *m, const Slot *s, bool draft, Batch *batch)
{
    SlotOut out = {0};
    Tensor  normed, d;
    batch[0] = (Batch){.n = s->n, .token = s->token, .pos = s->pos, .seq = s->seq, .out = s->loss, .flags = s->loss};
    batch[1] = (Batch){.n = s->nexts, .token = s->n_token, .pos = s->n_pos, .seq = s->n_seq, .out = s->d_loss, .flags = s->d_loss};
    normed = model_final_norm(c, m, model_hidden(c, m, &batch[0], NULL));
    out.logp = logprob(c, model_wanted(c, &batch[0], normed), &m->head, s->target);
    if (!draft || s->drafted == 0) return out;
    batch[1].hidden = gather(c, normed, s->n_row, s->nexts).data;
    d = model_draft(c, m, &batch[1], NULL);
    out.draft = logprob(c, model_wanted(c, &batch[1], d), &m->head, s->d_target);
    return out;
}

/* ---- set-up ---- */
static int size_context(Trainer *t, int rows, aha_error *e)
{
    uint8_t *mem = mem_zalloc(1, slot_bytes(rows));
    Slot     s;
    Batch    batch[2];
    Ctx      dry;
    Tape     tape = {.keep = t->o.keep_tape};
    int      rc;
    if (!mem) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a slot of %d rows", rows);
    slot_place(&s, mem, rows);
    for (int i = 0; i < rows; i++) s.pos[i] = i;
    for (int i = 0; i < rows; i++) s.n_pos[i] = i;
    memset(s.loss, BATCH_LOSS, (size_t)rows);
    memset(s.d_loss, BATCH_LOSS, (size_t)rows);
    s.n = s.trained = s.nexts = s.drafted = rows;
    ctx_init_dry(&dry, t->k, pool_threads(t->pool));
    dry.tape = &tape;
    slot_forward(&dry, t->m, &s, t->m->cfg.n_mtp > 0, batch);
    mem_free(mem);
    if (ctx_failed(&dry)) return error_set(e, dry.err.code, "%s", dry.err.text);
    /* many short sequences need a few more spans and items than one long one */
    rc = ctx_init(&t->ctx, t->k, t->pool, dry.arena.peak + dry.arena.peak / 16 + ((size_t)rows << 10), dry.scratch_peak, e);
    if (rc == 0) rc = tape_init(&t->tape, t->ctx.arena.cap, t->wgrad, t->m->n_weight, t->o.keep_tape, e);
    return rc;
}

int trainer_init(Trainer *t, Model *m, const Kernels *k, Pool *pool, const TrainerOptions *o, aha_error *e)
{
    int layers = m->cfg.n_layer + m->cfg.n_mtp, E = m->cfg.n_expert > 0 ? m->cfg.n_expert : 1, rc;
    memset(t, 0, sizeof *t);
    t->m = m;
    t->k = k;
    t->pool = pool;
    t->o = *o;
    if (t->o.slot_tokens <= 0) t->o.slot_tokens = 1024;
    if (t->o.sample_max > t->o.slot_tokens) t->o.slot_tokens = t->o.sample_max;
    if ((rc = optim_init(&t->optim, m, &o->optim, pool_threads(pool), e)) != 0) return rc;
    t->leaf = mem_pages(t->optim.n * sizeof(float));
    t->wgrad = mem_zalloc((size_t)m->n_weight, sizeof *t->wgrad);
    t->routes = (RouteStats){mem_zalloc((size_t)layers * (size_t)E, sizeof(int64_t)), E};
    if (!t->leaf || !t->wgrad || !t->routes.load) {
        trainer_free(t);
        return error_set(e, AHA_ERR_NOMEM, "cannot get memory for gradients of %zu weights", t->optim.n);
    }
    for (int i = 0; i < m->n_weight; i++)
        if (optim_trains(m->weight[i])) t->wgrad[i] = t->leaf + t->optim.offset[i];
    if ((rc = size_context(t, t->o.slot_tokens, e)) != 0) trainer_free(t);
    return rc;
}

void trainer_free(Trainer *t)
{
    size_t bytes = t->optim.n * sizeof(float);
    if (t->leaf) mem_pages_free(t->leaf, bytes);
    for (int i = 0; i < TREE_LEVELS; i++)
        if (t->level[i]) mem_pages_free(t->level[i], bytes);
    mem_free(t->wgrad);
    mem_free(t->routes.load);
    tape_free(&t->tape);
    ctx_free(&t->ctx);
    optim_free(&t->optim);
    memset(t, 0, sizeof *t);
}

/* ---- the tree ---- */
typedef struct SumRun {
    float       *to;
    const float *a, *b;
    size_t       n;
} SumRun;
enum { SUM_GRAIN = 1 << 16 };

static void sum_task(void *arg, int task, int worker)
{
    const SumRun *r = arg;
    size_t        i0 = (size_t)task * SUM_GRAIN, i1 = i0 + SUM_GRAIN < r->n ? i0 + SUM_GRAIN : r->n;
    (void)worker;
    for (size_t i = i0; i < i1; i++) r->to[i] = r->a[i] + r->b[i];
}

static void add_flat(const Trainer *t, float *to, const float *a, const float *b)
{
    SumRun r = {to, a, b, t->optim.n};
    pool_run(t->pool, (int)((r.n + SUM_GRAIN - 1) / SUM_GRAIN), sum_task, &r);
}

/* The leaf joins the tree like a one joins a binary counter: equal levels are added, older plus newer. */
static int tree_push(Trainer *t, aha_error *e)
{
    int b = 0;
    for (; (t->n_slots >> b) & 1; b++) add_flat(t, t->leaf, t->level[b], t->leaf);
    if (b >= TREE_LEVELS) return error_set(e, AHA_ERR_LIMIT, "more than %d slots in one step", 1 << TREE_LEVELS);
    if (!t->level[b] && !(t->level[b] = mem_pages(t->optim.n * sizeof(float))))
        return error_set(e, AHA_ERR_NOMEM, "cannot get %zu bytes for gradients", t->optim.n * sizeof(float));
    float *swap = t->level[b];
    t->level[b] = t->leaf;
    t->leaf = swap;
    t->n_slots++;
    for (int i = 0; i < t->m->n_weight; i++)
        if (t->wgrad[i]) t->wgrad[i] = t->leaf + t->optim.offset[i];
    return 0;
}

/* All levels into the leaf, from the newest: what a tree padded with zeros gives. */
static void tree_sum(Trainer *t)
{
    bool first = true;
    for (int b = 0; b < TREE_LEVELS; b++) {
        if (!((t->n_slots >> b) & 1)) continue;
        if (first)
            memcpy(t->leaf, t->level[b], t->optim.n * sizeof(float));
        else
            add_flat(t, t->leaf, t->level[b], t->leaf);
        first = false;
    }
}

/* ---- a step ---- */
static void seed(Trainer *t, const Slot *s, const SlotOut *out, const Objective *obj, const Sample *sample, float *const *logp)
{
    float *g = tape_grad(&t->ctx, out->logp.data);
    for (int i = 0; i < s->trained; i++) {
        float lp = out->logp.data[2 * i], ent = out->logp.data[2 * i + 1];
        if (logp) logp[s->tag[i]][s->at[i]] = lp;
        if (obj && obj->seed)
            obj->seed(obj->user, sample[s->tag[i]].tag, s->at[i], s->coef[i], lp, ent, &g[2 * i], &g[2 * i + 1]);
        else
            g[2 * i] = -s->coef[i];
        t->now.loss -= (double)s->coef[i] * (double)lp;
        t->now.entropy += (double)ent;
    }
    t->now.rows += s->trained;
    t->now.tokens += s->n;
    if (!out->draft.data) return;
    g = tape_grad(&t->ctx, out->draft.data);
    for (int i = 0; i < s->drafted; i++) {
        g[2 * i] = -s->d_coef[i] * (float)obj->draft_weight;
        t->now.draft_loss -= (double)s->d_coef[i] * (double)out->draft.data[2 * i];
    }
}

static int run_slot(Trainer *t, const Slot *s, const Sample *sample, const Objective *obj, float *const *logp, aha_error *e)
{
    Ctx    *c = &t->ctx;
    Batch   batch[2];
    SlotOut out;
    if (s->trained == 0) return 0;
    memset(t->leaf, 0, t->optim.n * sizeof(float));
    t->tape.wgrad = t->wgrad;
    ctx_reset(c);
    c->tape = &t->tape;
    c->stats = t->m->cfg.n_expert > 0 ? &t->routes : NULL;
    out = slot_forward(c, t->m, s, obj && obj->draft_weight > 0 && t->m->cfg.n_mtp > 0, batch);
    tape_zero(c);
    if (!ctx_failed(c)) seed(t, s, &out, obj, sample, logp);
    tape_backward(c);
    if (ctx_failed(c)) return error_set(e, c->err.code, "%s", c->err.text);
    return tree_push(t, e);
}

/* Samples go into slots in their order; a slot is full when the next sample would not fit. */
static int for_slots(Trainer *t, const Sample *s, int n, int (*fn)(Trainer *, const Slot *, void *, aha_error *), void *user, aha_error *e)
{
    int      rows = t->o.slot_tokens, rc = 0;
    uint8_t *mem = mem_alloc(slot_bytes(rows));
    Slot     slot;
    if (!mem) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a slot of %d rows", rows);
    slot_place(&slot, mem, rows);
    for (int i = 0; i < n && rc == 0; i++) {
        if (s[i].n > rows)
            rc = error_set(e, AHA_ERR_ARG, "a sample of %d tokens, at most %d were announced", s[i].n, rows);
        else if (slot.n + s[i].n > rows) {
            rc = fn(t, &slot, user, e);
            slot_place(&slot, mem, rows);
        }
        if (rc == 0) slot_add(&slot, &s[i], i);
    }
    if (rc == 0 && slot.n) rc = fn(t, &slot, user, e);
    mem_free(mem);
    return rc;
}

typedef struct AccumulateRun {
    const Sample    *s;
    const Objective *obj;
    float *const    *logp;
    const Model     *m;
} AccumulateRun;

static int accumulate_slot(Trainer *t, const Slot *s, void *user, aha_error *e)
{
    const AccumulateRun *r = user;
    return run_slot(t, s, r->s, r->obj, r->logp, e);
}

int trainer_accumulate(Trainer *t, const Sample *s, int n, const Objective *obj, float *const *logp, aha_error *e)
{
    AccumulateRun r = {s, obj, logp, t->m};
    return for_slots(t, s, n, accumulate_slot, &r, e);
}

static int logp_slot(Trainer *t, const Slot *s, void *user, aha_error *e)
{
    const AccumulateRun *r = user;
    Ctx                 *c = &t->ctx;
    Batch                batch[2];
    SlotOut              out;
    if (s->trained == 0) return 0;
    ctx_reset(c);
    c->tape = NULL;
    c->stats = NULL;
    out = slot_forward(c, r->m, s, false, batch);
    if (ctx_failed(c)) return error_set(e, c->err.code, "%s", c->err.text);
    for (int i = 0; i < s->trained; i++) r->logp[s->tag[i]][s->at[i]] = out.logp.data[2 * i];
    return 0;
}

int trainer_logp(Trainer *t, const Model *m, const Sample *s, int n, float *const *logp, aha_error *e)
{
    AccumulateRun r = {s, NULL, logp, m};
    return for_slots(t, s, n, logp_slot, &r, e);
}

/* DeepSeek-V3 report, section 2.1.2: the bias of an expert above the mean load goes down by the rate, below it up.
 * load_max: the busiest expert's share of an even one. */
static void balance(Trainer *t)
{
    int E = t->routes.E;
    for (int l = 0; l < t->m->cfg.n_layer + t->m->cfg.n_mtp; l++) {
        int64_t *load = t->routes.load + (int64_t)l * E, sum = 0;
        float   *bias = (float *)(uintptr_t)t->m->layer[l].route_bias.data;
        for (int i = 0; i < E; i++) sum += load[i];
        for (int i = 0; i < E && sum; i++) {
            double share = (double)load[i] * E / (double)sum;
            if (share > t->now.load_max) t->now.load_max = share;
            if (bias && t->o.balance_rate > 0) bias[i] += (float)(share > 1 ? -t->o.balance_rate : share < 1 ? t->o.balance_rate : 0);
        }
        memset(load, 0, (size_t)E * sizeof *load);
    }
}

int trainer_update(Trainer *t, double lr_scale, StepStats *stats, aha_error *e)
{
    const OptimOptions *o = &t->o.optim;
    double              norm, scale = 1;
    if (t->n_slots > 0) {
        tree_sum(t);
        norm = optim_norm(&t->optim, t->leaf, t->pool);
        t->now.grad_norm = norm;
        t->now.skipped = !isfinite(norm) || (t->norm_mean > 0 && norm > NORM_JUMP * t->norm_mean);
        if (t->now.skipped) {
            t->skips++;
        } else {
            t->skips = 0;
            t->norm_mean = t->norm_mean > 0 ? 0.95 * t->norm_mean + 0.05 * norm : norm;
            if (o->clip > 0 && norm > o->clip) scale = o->clip / norm;
            optim_step(&t->optim, t->leaf, scale, lr_scale, t->k, t->pool);
            balance(t);
        }
    }
    if (stats) *stats = t->now;
    memset(&t->now, 0, sizeof t->now);
    memset(t->routes.load, 0, (size_t)(t->m->cfg.n_layer + t->m->cfg.n_mtp) * (size_t)t->routes.E * sizeof(int64_t));
    t->n_slots = 0;
    if (t->skips >= SKIPS_MAX)
        return error_set(e, AHA_ERR_STATE, "%d steps in a row had a gradient that is not finite or over %g times its mean (%g): stopping", t->skips,
                         NORM_JUMP, t->norm_mean);
    return 0;
}
