/* The top of the page: what was trained, what came out, how far it is. */
#include <string.h>

#include "report.h"

/* ---- state ---- */
static bool finished(const Track *t)
{
    return t->done || (!report_trains(t) && t->n_measure > 0);
}

/* The stage under way, -1: every one that is planned or seen is finished. */
static int under_way(const Report *r)
{
    for (int i = r->n_track - 1; i >= 0; i--)
        if (r->track[i].seen && !finished(&r->track[i])) return i;
    for (int i = 0; i < r->n_track; i++)
        if (!r->track[i].seen) return i;
    return -1;
}

static void progress_write(Buf *b, const Track *t)
{
    if (t->kind == STAGE_PRETRAIN && isfinite(t->tokens)) {
        buf_fmt(b, "%s", num_si(NUM_TMP, t->tokens));
        if (t->plan && t->plan->tokens > 0) buf_fmt(b, " of %s", num_si(NUM_TMP, (double)t->plan->tokens));
        buf_str(b, " tokens");
    } else if (isfinite(t->step)) {
        buf_fmt(b, "step %s", num_count(NUM_TMP, t->step));
        if (t->kind == STAGE_GRPO && t->plan && t->plan->steps > 0) buf_fmt(b, " of %s", num_count(NUM_TMP, t->plan->steps));
    }
}

static void state_write(Buf *b, const Report *r)
{
    int i = under_way(r);
    if (r->n_track == 0 || (i >= 0 && r->lines == 0)) {
        buf_str(b, "<span class=\"state going\">nothing logged yet</span>");
        return;
    }
    if (i < 0) {
        buf_str(b, "<span class=state>finished</span>");
        return;
    }
    buf_str(b, "<span class=\"state going\">not finished when this page was written: stage <b>");
    html_str(b, r->track[i].name);
    buf_str(b, "</b>");
    if (r->track[i].seen) {
        buf_str(b, ", ");
        progress_write(b, &r->track[i]);
    } else {
        buf_str(b, " is next");
    }
    buf_str(b, "</span>");
}

/* ---- headline ---- */
static void interval_words(Buf *b, const Measure *m)
{
    buf_fmt(b, "%s to %s", num_share(NUM_TMP, m->v[M_LO]), num_share(NUM_TMP, m->v[M_HI]));
}

static void tile(Buf *b, const char *name, const char *before, const char *after)
{
    buf_fmt(b, "<div><dt>%s</dt><dd>", name);
    if (before && strcmp(before, after) != 0) buf_fmt(b, "%s \xE2\x86\x92 ", before);
    buf_fmt(b, "<b>%s</b></dd></div>", after);
}

/* What can be found in many tries, before and after: perhaps measured at another temperature. */
static void tile_pass_k(Buf *b, const Report *r)
{
    const Row *before = r->k_before, *after = r->k_after;
    Buf        name = {0};
    if (!before || !after) return;
    int p = report_pow_max(before->wide), q = report_pow_max(after->wide);
    p = q < p ? q : p;
    if (p < 1) return;
    buf_fmt(&name, "pass@%d", 1 << p);
    if (r->k_group != r->main) buf_fmt(&name, " at T = %s", num_auto(NUM_TMP, after->wide->v[M_TEMPERATURE]));
    if (name.failed) b->failed = true;
    else tile(b, name.data, num_share(NUM_TMP, before->wide->v[M_PASS_POW + p]), num_share(NUM_TMP, after->wide->v[M_PASS_POW + p]));
    buf_free(&name);
}

static void tiles(Buf *b, const Report *r, const Row *before, const Row *after)
{
    static const Metric SHOWN[] = {M_THINKING, M_GIVES_UP, M_CHECKS, M_WAITS, M_WRONG_EQUATIONS, M_TRUNCATED};
    const Row *one = after ? after : before;
    buf_str(b, "<dl class=tiles>");
    tile_pass_k(b, r);
    for (size_t i = 0; i < ARRAY_LEN(SHOWN); i++) {
        const MetricWords *w = metric_words(SHOWN[i]);
        char               x[NUM_MAX], y[NUM_MAX];
        double             u = before && after ? before->best->v[SHOWN[i]] : NAN, v = one->best->v[SHOWN[i]];
        if (isnan(v)) continue;
        if (w->axis == AXIS_SHARE) tile(b, w->name, isnan(u) ? NULL : num_share(x, u), num_share(y, v));
        else tile(b, "Thinking tokens", isnan(u) ? NULL : num_auto(x, u), num_auto(y, v));
    }
    buf_str(b, "</dl>");
}

static void task_phrase(Buf *b, const Measure *m)
{
    buf_str(b, "held-out ");
    if (m->task[0]) {
        buf_str(b, "<b>");
        html_str(b, m->task);
        buf_str(b, "</b> ");
    }
    buf_str(b, "problems are solved by one sampled answer (pass@1");
    if (isfinite(m->v[M_TEMPERATURE])) buf_fmt(b, " at T = %s", num_auto(NUM_TMP, m->v[M_TEMPERATURE]));
    buf_fmt(b, ", %s problems)", num_count(NUM_TMP, m->v[M_N]));
}

static void headline_both(Buf *b, const Report *r)
{
    const Measure *x = r->before->best, *y = r->after->best;
    const Track   *t = &r->track[r->rl];
    buf_fmt(b, "<p class=big><span>%s</span> <i>\xE2\x86\x92</i> <b>%s</b></p><p>of ", num_share(NUM_TMP, x->v[M_PASS1]), num_share(NUM_TMP, y->v[M_PASS1]));
    task_phrase(b, y);
    buf_str(b, " before and after ");
    if (report_trains(r->after->at)) buf_fmt(b, "%s rounds of ", num_count(NUM_TMP, y->v[M_STEP]));
    else if (t->n_point) buf_fmt(b, "%s rounds of ", num_count(NUM_TMP, t->point[t->n_point - 1].v[M_STEP]));
    buf_str(b, "reinforcement learning");
    if (t->plan && t->plan->random_reward) buf_str(b, " with <b>random</b> rewards");
    else buf_str(b, ", in which rules check the answers and no solution is shown");
    buf_str(b, ".</p>");
    if (!isfinite(x->v[M_LO]) || !isfinite(x->v[M_HI]) || !isfinite(y->v[M_LO]) || !isfinite(y->v[M_HI])) return;
    buf_str(b, "<p class=dim>95% intervals: ");
    interval_words(b, x);
    buf_str(b, " before, ");
    interval_words(b, y);
    buf_str(b, " after.</p>");
    if (x->v[M_HI] >= y->v[M_LO] && y->v[M_HI] >= x->v[M_LO])
        buf_str(b, "<p class=warn>The intervals overlap: this run alone does not show a difference.</p>");
}

static void headline(Buf *b, const Report *r)
{
    const Row *one = r->after ? r->after : r->before;
    if (!one && r->main >= 0 && r->group[r->main].n) one = &r->group[r->main].row[r->group[r->main].n - 1];
    buf_str(b, "<section class=\"card headline\">");
    if (r->before && r->after) {
        headline_both(b, r);
        tiles(b, r, r->before, r->after);
    } else if (one) {
        buf_fmt(b, "<p class=big><span>%s</span></p><p>of ", num_share(NUM_TMP, one->best->v[M_PASS1]));
        task_phrase(b, one->best);
        buf_str(b, " by the model <b>");
        page_model(b, r, one->model);
        buf_str(b, "</b>");
        if (isfinite(one->best->v[M_LO]) && isfinite(one->best->v[M_HI])) {
            buf_str(b, "; 95% interval ");
            interval_words(b, one->best);
        }
        buf_str(b, ".</p>");
        tiles(b, r, NULL, one);
    } else {
        buf_str(b, "<p>No held-out accuracy has been measured yet.</p>");
    }
    buf_str(b, "</section>\n");
}

/* ---- facts ---- */
static void fact_shape(Buf *b, const Config *c)
{
    if (c->d_model < 1 || c->n_layer < 1) return;
    buf_fmt(b, "<div class=wide><dt>Shape</dt><dd>%s, width %d, %d layers, %d heads", c->kv_lora ? "MLA attention" : "attention", c->d_model, c->n_layer, c->n_head);
    if (c->n_expert) {
        buf_fmt(b, "; %d experts, %d used", c->n_expert, c->n_expert_used);
        if (c->n_shared) buf_fmt(b, " + %d shared", c->n_shared);
        if (c->n_dense_first == 1) buf_str(b, "; first layer dense");
        else if (c->n_dense_first) buf_fmt(b, "; first %d layers dense", c->n_dense_first);
    }
    if (c->n_mtp) buf_str(b, "; draft layer");
    buf_str(b, "</dd></div>");
}

static void facts(Buf *b, const Report *r)
{
    double tokens = 0, seconds = 0;
    for (int i = 0; i < r->n_track; i++) {
        tokens += isfinite(r->track[i].tokens) ? r->track[i].tokens : 0;
        seconds += isfinite(r->track[i].seconds) ? r->track[i].seconds : 0;
    }
    Config shape = recipe_last_model(&r->recipe);
    buf_str(b, "<dl class=tiles>");
    if (r->has_recipe) fact_shape(b, &shape);
    if (isfinite(r->parameters)) {
        buf_fmt(b, "<div><dt>Parameters</dt><dd>%s", num_si(NUM_TMP, r->parameters));
        if (isfinite(r->active)) buf_fmt(b, ", %s active per token", num_si(NUM_TMP, r->active));
        buf_str(b, "</dd></div>");
    }
    double seed = isfinite(r->seed) ? r->seed : r->has_recipe ? (double)r->recipe.seed : NAN;
    if (isfinite(seed)) buf_fmt(b, "<div><dt>Seed</dt><dd>%s, from %s</dd></div>", num_fixed(NUM_TMP, seed, 0),
                                 r->has_recipe && r->recipe.stage[0].from_model[0] ? "another model" : "random weights");
    if (tokens > 0) buf_fmt(b, "<div><dt>Tokens processed</dt><dd>%s</dd></div>", num_si(NUM_TMP, tokens));
    if (seconds > 0) buf_fmt(b, "<div><dt>Time, all stages</dt><dd>%s</dd></div>", num_time(NUM_TMP, seconds));
    if (r->isa[0] || isfinite(r->threads)) {
        buf_str(b, "<div><dt>Machine</dt><dd>");
        if (isfinite(r->threads)) buf_fmt(b, "%s thread%s ", num_count(NUM_TMP, r->threads), r->threads == 1 ? "" : "s");
        html_str(b, r->isa);
        buf_str(b, "</dd></div>");
    }
    if (r->date[0]) {
        buf_str(b, "<div><dt>Begun</dt><dd>");
        html_str(b, r->date);
        if (r->n_run > 1) buf_fmt(b, ", resumed %d time%s", r->n_run - 1, r->n_run == 2 ? "" : "s");
        buf_str(b, "</dd></div>");
    }
    buf_str(b, "</dl>\n");
}

/* ---- stages ---- */
static void stage_row(Buf *b, const Report *r, int i, double longest)
{
    const Track *t = &r->track[i];
    int          from = report_source(r, i);
    buf_str(b, "<tr><th scope=row><b>");
    html_str(b, t->name);
    buf_fmt(b, "</b></th><td class=left>%s", report_kind_words(t->kind));
    if (t->plan && t->plan->random_reward) buf_str(b, ", random rewards: a control");
    buf_str(b, "</td><td class=left>");
    if (from < 0) buf_str(b, "random weights");
    else html_str(b, r->track[from].name);
    buf_str(b, "</td><td>");
    if (report_trains(t)) progress_write(b, t);
    buf_fmt(b, "</td><td>%s</td><td class=time>%s", num_si(NUM_TMP, t->tokens > 0 ? t->tokens : NAN), num_time(NUM_TMP, t->seconds));
    if (longest > 0 && t->seconds > 0) buf_fmt(b, "<span class=bar style=\"width:%s%%\"></span>", num_fixed(NUM_TMP, 100 * t->seconds / longest, 1));
    buf_fmt(b, "</td><td>%s</td></tr>\n", !t->seen ? "not begun" : finished(t) ? "done" : "under way");
}

static void stages(Buf *b, const Report *r)
{
    double longest = 0;
    if (r->n_track == 0) return;
    for (int i = 0; i < r->n_track; i++)
        if (r->track[i].seconds > longest && isfinite(r->track[i].seconds)) longest = r->track[i].seconds;
    buf_str(b, "<section id=stages><h2>Stages</h2><div class=scroll tabindex=0><table><thead><tr><th scope=col>stage<th scope=col class=left>what it does"
               "<th scope=col class=left>model it starts from<th scope=col>progress<th scope=col>tokens<th scope=col>time<th scope=col>state</tr></thead><tbody>\n");
    for (int i = 0; i < r->n_track; i++) stage_row(b, r, i, longest);
    buf_str(b, "</tbody></table></div>");
    if (r->dropped) buf_fmt(b, "<p class=warn>Only the first %d stages are shown.</p>", REPORT_STAGES_MAX);
    buf_str(b, "</section>\n");
}

void page_title(Buf *b, const Report *r)
{
    const char *title = r->has_recipe && r->recipe.title[0] ? r->recipe.title : r->has_recipe ? r->recipe.name : r->name[0] ? r->name : "A training run";
    page_head(b, title);
    buf_str(b, "<header><h1>");
    html_str(b, title);
    buf_str(b, "</h1>");
    state_write(b, r);
    buf_str(b, "</header>\n");
}

void page_summary(Buf *b, const Report *r)
{
    headline(b, r);
    facts(b, r);
    stages(b, r);
}
