/* Which measurement stands for which model.  The rules are few and stated on the page:
 *   - only measurements of one task, variant and temperature are compared (a Group);
 *   - a model is what a training stage left; a stage of its own that measures it counts before a check during training,
 *     then the one on more problems, then the later one. */
#include <string.h>

#include "report.h"

bool report_trains(const Track *t)
{
    return stage_leaves_model(t->kind);
}

const char *report_kind_words(StageKind k)
{
    switch (k) {
    case STAGE_PRETRAIN: return "pretraining";
    case STAGE_SFT: return "supervised fine-tuning";
    case STAGE_GRPO: return "reinforcement learning (GRPO)";
    case STAGE_GROW: return "grown: wider, the same function";
    case STAGE_SAMPLE: return "writes its own verified answers";
    case STAGE_EVAL: return "measurement";
    default: return "unknown kind";
    }
}

/* The stage before it, or the one that the recipe names: always an earlier one. */
static int came_from(const Report *r, int i)
{
    const Stage *plan = r->track[i].plan;
    if (plan && plan->from[0])
        for (int j = 0; j < i; j++)
            if (strcmp(r->track[j].name, plan->from) == 0) return j;
    return i - 1;
}

int report_model(const Report *r, int i)
{
    while (i >= 0 && !report_trains(&r->track[i])) i = came_from(r, i);
    return i;
}

int report_source(const Report *r, int i)
{
    return report_model(r, came_from(r, i));
}

int report_pow_max(const Measure *m)
{
    for (int i = REPORT_POW_MAX - 1; i >= 0; i--)
        if (isfinite(m->v[M_PASS_POW + i])) return i;
    return -1;
}

static bool comparable(const Measure *a, const Measure *b)
{
    return strcmp(a->task, b->task) == 0 && strcmp(a->variant, b->variant) == 0 &&
           (a->v[M_TEMPERATURE] == b->v[M_TEMPERATURE] || (isnan(a->v[M_TEMPERATURE]) && isnan(b->v[M_TEMPERATURE])));
}

static Group *group_of(Report *r, const Measure *m)
{
    for (int i = 0; i < r->n_group; i++)
        if (comparable(r->group[i].like, m)) return &r->group[i];
    if (r->n_group == REPORT_GROUPS_MAX) return NULL;
    r->group[r->n_group] = (Group){.like = m};
    return &r->group[r->n_group++];
}

static bool more(double a, double b)
{
    return isfinite(a) && !(a <= b);
}

/* m, measured at t, against what stands for the model so far; measurements come in the order of the stages */
static bool better(const Row *have, const Track *t, const Measure *m)
{
    bool own = !report_trains(t), had = !report_trains(have->at);
    if (own != had) return own;
    return !more(have->best->v[M_N], m->v[M_N]);
}

static Row *row_find(Group *g, int model)
{
    for (int i = 0; i < g->n; i++)
        if (g->row[i].model == model) return &g->row[i];
    return NULL;
}

static void row_add(Report *r, int model, const Track *t, const Measure *m)
{
    Group *g = group_of(r, m);
    if (!g || !isfinite(m->v[M_PASS1])) return;
    Row *row = row_find(g, model);
    if (!row && g->n < (int)ARRAY_LEN(g->row)) {
        row = &g->row[g->n++];
        *row = (Row){model, t, m, m};
        return;
    }
    if (!row) return;
    if (better(row, t, m)) {
        row->best = m;
        row->at = t;
    }
    if (report_pow_max(m) >= report_pow_max(row->wide)) row->wide = m;
}

static void rows_of_track(Report *r, int i)
{
    const Track *t = &r->track[i];
    int          model = report_model(r, i);
    double       start = t->n_point ? t->point[0].v[M_STEP] : 1;
    if (start > 1) start = 1;
    for (int k = 0; k < t->n_measure; k++) {
        const Measure *m = &t->measure[k];
        if (report_trains(t) && m->v[M_STEP] < start) {
            row_add(r, 2 * i, t, m);
            continue;
        }
        /* while a stage trains, only its latest model counts */
        if (report_trains(t) && m->v[M_STEP] < t->measure[t->n_measure - 1].v[M_STEP]) continue;
        row_add(r, model < 0 ? 2 * i : 2 * model + 1, t, m);
    }
}

static void rows_sort(Group *g)
{
    for (int i = 1; i < g->n; i++) {
        Row x = g->row[i];
        int k = i;
        for (; k > 0 && g->row[k - 1].model > x.model; k--) g->row[k] = g->row[k - 1];
        g->row[k] = x;
    }
}

/* What stage i started from: as its source left it, or as stage i found it; rather the one on as many problems as `like`. */
static const Row *row_before(const Report *r, Group *g, int i, const Measure *like)
{
    int        source = report_source(r, i);
    const Row *left = source < 0 ? NULL : row_find(g, 2 * source + 1), *found = row_find(g, 2 * i);
    if (left && found && like && left->best->v[M_N] != like->v[M_N] && found->best->v[M_N] == like->v[M_N]) return found;
    return left ? left : found;
}

int report_color(const Report *r, int i)
{
    int other = 0;
    if (i == r->rl) return 1;
    if (r->rl >= 0 && i == report_source(r, r->rl)) return 0;
    for (int k = 0; k < i; k++) other += report_trains(&r->track[k]) && k != r->rl && (r->rl < 0 || k != report_source(r, r->rl));
    return r->rl < 0 && other == 0 ? 0 : 2 + other % (CHART_COLORS - 2);
}

/* Points for how good a headline a group makes: before and after, the plain task, many problems, many answers. */
static double group_worth(const Report *r, Group *g, int rl)
{
    const Row *after = rl < 0 ? NULL : row_find(g, 2 * rl + 1), *before = rl < 0 ? NULL : row_before(r, g, rl, after ? after->best : NULL);
    if (g->n == 0) return -1;
    const Row *row = after ? after : before ? before : &g->row[g->n - 1];
    double     n = row->best->v[M_N];
    return 1 + (after ? 8 : 0) + (before ? 4 : 0) + (g->like->variant[0] ? 0 : 2) + (n > 0 ? 1 - 1 / (1 + n) : 0) +
           1e-5 * (1 + report_pow_max(row->wide));
}

/* The first reinforcement learning that left something and is no control with random rewards. */
static int rl_stage(const Report *r)
{
    int best = -1, worth = -1;
    for (int i = 0; i < r->n_track; i++) {
        const Track *t = &r->track[i];
        int          w = (t->plan && t->plan->random_reward ? 0 : 2) + t->seen;
        if (t->kind != STAGE_GRPO || w <= worth) continue;
        best = i;
        worth = w;
    }
    return best;
}

/* The group in which most is known about many tries: before and after first, then the largest k, then the quoted group. */
static void k_group_pick(Report *r)
{
    double best = 0;
    for (int i = 0; i < r->n_group; i++) {
        Group     *g = &r->group[i];
        const Row *after = r->rl < 0 ? NULL : row_find(g, 2 * r->rl + 1), *before = r->rl < 0 ? NULL : row_before(r, g, r->rl, after ? after->best : NULL);
        int        most = 0, both = 0;
        for (int k = 0; k < g->n; k++) most = report_pow_max(g->row[k].wide) > most ? report_pow_max(g->row[k].wide) : most;
        if (before && after) both = report_pow_max(before->wide) < report_pow_max(after->wide) ? report_pow_max(before->wide) : report_pow_max(after->wide);
        double w = (g->like->variant[0] ? 0 : 1000) + (both >= 2 ? 100 + both : 0) + most + (i == r->main ? 0.5 : 0);
        if (most < 2 || w <= best) continue;
        best = w;
        r->k_group = i;
        r->k_before = before;
        r->k_after = after;
    }
}

void report_pick(Report *r)
{
    r->rl = r->main = r->k_group = -1;
    for (int i = 0; i < r->n_track; i++) rows_of_track(r, i);
    for (int i = 0; i < r->n_group; i++) rows_sort(&r->group[i]);
    r->rl = rl_stage(r);
    double best = 0;
    for (int i = 0; i < r->n_group; i++) {
        double w = group_worth(r, &r->group[i], r->rl);
        if (w <= best) continue;
        best = w;
        r->main = i;
    }
    k_group_pick(r);
    if (r->main < 0 || r->rl < 0) return;
    Group *g = &r->group[r->main];
    r->after = row_find(g, 2 * r->rl + 1);
    r->before = row_before(r, g, r->rl, r->after ? r->after->best : NULL);
}

bool report_repeats(const Report *r, const Group *g, const Row *row)
{
    int source = row->model % 2 ? -1 : report_source(r, row->model / 2);
    for (int i = 0; i < g->n && source >= 0 && !report_is_before(r, row); i++)
        if (g->row[i].model == 2 * source + 1) return true;
    return false;
}

bool report_is_before(const Report *r, const Row *row)
{
    return row == r->before || row == r->k_before;
}

/* ---- texts ---- */
static const TraceSet *set_latest(const Track *t)
{
    return t->last.n ? &t->last : t->first.n ? &t->first : NULL;
}

static int shared_prompts(const TraceSet *a, const TraceSet *b)
{
    int n = 0;
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < b->n; j++)
            if (strcmp(a->t[i].prompt, b->t[j].prompt) == 0) {
                n++;
                break;
            }
    return n;
}

/* The sets that show a model (as Row.model); out holds at most 2 * REPORT_STAGES_MAX. */
static int sets_of(const Report *r, int model, const TraceSet **out)
{
    int n = 0;
    for (int i = 0; i < r->n_track; i++) {
        const Track *t = &r->track[i];
        int          left = report_model(r, i);
        bool         fresh = report_trains(t) && t->first.n && t->first.step < 1;
        if (fresh && model == 2 * i) out[n++] = &t->first;
        if (left >= 0 && model == 2 * left + 1 && set_latest(t) && !(fresh && t->last.n == 0)) out[n++] = set_latest(t);
    }
    return n;
}

void report_traces_pick(const Report *r, const TraceSet **before, const TraceSet **after)
{
    const TraceSet *b[4 * REPORT_STAGES_MAX], *a[2 * REPORT_STAGES_MAX];
    int             nb = 0, na = 0, best = -1;
    *before = *after = NULL;
    if (r->rl >= 0) {
        int source = report_source(r, r->rl);
        na = sets_of(r, 2 * r->rl + 1, a);
        nb = sets_of(r, 2 * r->rl, b);
        if (source >= 0) nb += sets_of(r, 2 * source + 1, b + nb);
    }
    for (int i = 0; i < na; i++)
        for (int j = 0; j < nb; j++) {
            int s = shared_prompts(a[i], b[j]);
            if (s < best || (s == best && a[i] == *after)) continue;
            best = s;
            *after = a[i];
            *before = b[j];
        }
    if (*after) return;
    if (na) *after = a[na - 1];
    else if (nb) *before = b[0];
    /* no reinforcement learning yet: whatever came last */
    for (int i = r->n_track - 1; i >= 0 && !*after && !*before; i--) *before = set_latest(&r->track[i]);
}
