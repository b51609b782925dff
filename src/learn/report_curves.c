/* The curves: held-out accuracy, reinforcement learning, pretraining.  One measure a chart, one colour a stage. */
#include <string.h>

#include "report.h"

static const double K_OF_POW[REPORT_POW_MAX] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};

static bool comparable_to(const Measure *m, const Measure *like)
{
    return strcmp(m->task, like->task) == 0 && strcmp(m->variant, like->variant) == 0 &&
           (m->v[M_TEMPERATURE] == like->v[M_TEMPERATURE] || (isnan(m->v[M_TEMPERATURE]) && isnan(like->v[M_TEMPERATURE])));
}

/* Copies of a stage's measurements that belong to the quoted group, on as many problems as the last of them; mem_free. */
static Measure *held_out(Buf *b, const Report *r, const Track *t, int *n)
{
    *n = 0;
    if (r->main < 0 || t->n_measure == 0) return NULL;
    const Measure *like = r->group[r->main].like, *last = NULL;
    Measure       *out = mem_zalloc((size_t)t->n_measure, sizeof *out);
    if (!out) {
        b->failed = true;
        return NULL;
    }
    for (int i = 0; i < t->n_measure; i++)
        if (comparable_to(&t->measure[i], like)) last = &t->measure[i];
    for (int i = 0; i < t->n_measure; i++)
        if (comparable_to(&t->measure[i], like) && (t->measure[i].v[M_N] == last->v[M_N] || isnan(last->v[M_N]))) out[(*n)++] = t->measure[i];
    return out;
}

static Series points_of(const Track *t, Metric x, Metric y, int color)
{
    static const double NONE[1];
    const double *at = t->n_point ? t->point[0].v : NULL;
    return (Series){.label = t->name, .x = at ? at + x : NONE, .y = at ? at + y : NONE, .stride = sizeof(Point) / sizeof(double),
                    .n = t->n_point, .color = color, .line = true, .smooth = true};
}

static Series measures_of(const char *label, const Measure *m, int n, Metric y, int color)
{
    static const double NONE[1];
    return (Series){.label = label, .x = m ? m[0].v + M_STEP : NONE, .y = m ? m[0].v + y : NONE,
                    .stride = sizeof(Measure) / sizeof(double), .n = m ? n : 0, .color = color, .dots = true};
}

static Chart chart_of(Metric m, const char *x_name)
{
    const MetricWords *w = metric_words(m);
    return (Chart){.title = w->name, .unit = w->unit, .caption = w->sentence, .x_name = x_name, .y = w->axis, .floor = w->floor};
}

/* Loss and gradients span decades in some runs and nothing in others. */
static void log_if_wide(Chart *c)
{
    double lo = INFINITY, hi = 0;
    for (int k = 0; k < c->n; k++)
        for (int i = 0; i < c->s[k].n; i++) {
            double y = series_y(&c->s[k], i);
            if (!(y > 0) || !isfinite(y) || c->s[k].ticks) continue;
            lo = y < lo ? y : lo;
            hi = y > hi ? y : hi;
        }
    if (c->y == AXIS_LOG && !(hi > 4 * lo)) c->y = AXIS_NUMBER;
}

/* Draws it, or says in words that there is nothing but zeros. */
static void draw(Buf *b, Chart *c)
{
    bool zeros = !chart_empty(c);
    for (int k = 0; k < c->n && zeros; k++)
        for (int i = 0; i < c->s[k].n && zeros; i++) {
            double y = series_y(&c->s[k], i);
            if (isfinite(y) && y != 0) zeros = false;
        }
    log_if_wide(c);
    if (zeros) buf_fmt(b, "<figure class=\"chart none\"><h3>%s</h3><p class=sum><b>0</b> throughout</p><figcaption>%s</figcaption></figure>\n",
                       c->title, c->caption);
    else chart_figure(b, c);
}

/* ---- held-out accuracy ---- */
/* The largest k that every one of the measurements has. */
static int pow_shared(const Measure *m, int n)
{
    for (int p = REPORT_POW_MAX - 1; p > 0; p--) {
        int have = 0;
        for (int i = 0; i < n; i++) have += isfinite(m[i].v[M_PASS_POW + p]);
        if (n && have == n) return p;
    }
    return 0;
}

static void line_with_dots(Chart *c, Series s, bool dashed)
{
    if (c->n == CHART_SERIES_MAX) return;
    s.line = true;
    s.dots = !dashed;
    s.dashed = dashed;
    c->s[c->n++] = s;
}

/* What every drawn stage of reinforcement learning measured on held-out problems. */
typedef struct Held {
    int      stage[CHART_COLORS], n[CHART_COLORS], count;
    Measure *m[CHART_COLORS];
} Held;

static void held_fill(Buf *b, const Report *r, Held *h)
{
    for (int i = 0; i < r->n_track && h->count < CHART_COLORS; i++) {
        const Track *t = &r->track[i];
        if (t->kind != STAGE_GRPO || (t->n_point == 0 && t->n_measure == 0)) continue;
        h->stage[h->count] = i;
        h->m[h->count] = held_out(b, r, t, &h->n[h->count]);
        h->count++;
    }
}

static void held_free(Held *h)
{
    for (int i = 0; i < h->count; i++) mem_free(h->m[i]);
}

static void chart_accuracy(Buf *b, const Report *r, const Held *h)
{
    Chart c = {.title = "Held-out accuracy while learning", .x_name = "step", .unit = "", .y = AXIS_SHARE, .large = true};
    char  pass_k[5 + NUM_MAX] = "pass@";
    Buf   words = {0};
    int   p = REPORT_POW_MAX, stages = 0, only = 0;
    for (int i = 0; i < h->count; i++) {
        if (!h->n[i]) continue;
        Series s = measures_of(r->track[h->stage[i]].name, h->m[i], h->n[i], M_PASS1, report_color(r, h->stage[i]));
        s.lo = h->m[i][0].v + M_LO;
        s.hi = h->m[i][0].v + M_HI;
        line_with_dots(&c, s, false);
        int q = pow_shared(h->m[i], h->n[i]);
        p = q < p ? q : p;
        only = i;
        stages++;
    }
    if (!stages) return;
    num_fixed(pass_k + 5, K_OF_POW[p], 0);
    if (stages == 1) { /* room for more */
        c.s[0].label = "pass@1";
        if (p) line_with_dots(&c, measures_of(pass_k, h->m[only], h->n[only], (Metric)(M_PASS_POW + p), 3), false);
        bool vote = h->m[only][0].v[M_SAMPLES] > 1;
        if (vote) line_with_dots(&c, measures_of("majority", h->m[only], h->n[only], M_MAJ, 2), true);
        buf_str(&words, "pass@1: one sampled answer is right; the band is its 95% interval.");
        if (p) buf_fmt(&words, " %s: one of %s is.", pass_k, pass_k + 5);
        if (vote) buf_str(&words, " Majority: the most frequent one is.");
    } else {
        for (int i = 0; i < h->count && p; i++) {
            Series s = measures_of(pass_k, h->m[i], h->n[i], (Metric)(M_PASS_POW + p), report_color(r, h->stage[i]));
            s.quiet = true;
            line_with_dots(&c, s, true);
        }
        buf_str(&words, "pass@1: one sampled answer is right, with its 95% interval as a band.");
        if (p) buf_fmt(&words, " Dashed: %s, one of %s answers is.", pass_k, pass_k + 5);
    }
    c.caption = words.data ? words.data : "";
    chart_figure(b, &c);
    if (words.failed) b->failed = true;
    buf_free(&words);
}

static void chart_pass_k(Buf *b, const Report *r)
{
    Chart c = {.title = "pass@k: what can be found in k tries", .x_name = "k, answers per problem", .unit = "", .x = AXIS_POW2, .y = AXIS_SHARE,
               .large = true,
               .caption = "At the left one answer counts, at the right any of k. Where only the left end rises, the model has become surer of what it "
                          "could find before; where the right end rises too, problems came within reach that were not."};
    char         name[CHART_COLORS][REPORT_NAME_MAX + 8];
    const Group *g = r->k_group < 0 ? NULL : &r->group[r->k_group];
    int          most = 2;
    if (!g) return;
    for (int i = 0; i < g->n; i++) most = report_pow_max(g->row[i].wide) > most ? report_pow_max(g->row[i].wide) : most;
    for (int i = 0; i < g->n && c.n < CHART_COLORS; i++) {
        const Row *row = &g->row[i];
        int        p = report_pow_max(row->wide);
        if (p < most - 1 || report_repeats(r, g, row)) continue;
        const char *prefix = row->model % 2 ? "" : "before ";
        size_t      at = strlen(prefix);
        memcpy(name[c.n], prefix, at);
        memcpy(name[c.n] + at, r->track[row->model / 2].name, REPORT_NAME_MAX);
        c.s[c.n] = (Series){.label = name[c.n], .x = K_OF_POW, .y = row->wide->v + M_PASS_POW, .stride = 1, .n = p + 1,
                            .color = row->model % 2 ? report_color(r, row->model / 2) : 5, .line = true, .dots = true};
        if (report_is_before(r, row)) c.s[c.n].color = 0;
        c.n++;
    }
    chart_figure(b, &c);
}

static void group_words(Buf *b, const Measure *like)
{
    html_str(b, like->task[0] ? like->task : "the task");
    if (like->variant[0]) {
        buf_str(b, ", variant ");
        html_str(b, like->variant);
    }
    if (isfinite(like->v[M_TEMPERATURE])) buf_fmt(b, " at temperature %s", num_auto(NUM_TMP, like->v[M_TEMPERATURE]));
}

void page_curves_heldout(Buf *b, const Report *r)
{
    if (r->main < 0) return;
    const Measure *like = r->group[r->main].like;
    Held           h = {.count = 0};
    held_fill(b, r, &h);
    buf_str(b, "<section id=accuracy><h2>Held-out accuracy</h2><p class=lead>Problems of ");
    group_words(b, like);
    if (r->k_group >= 0 && r->k_group != r->main) {
        buf_str(b, "; pass@k: ");
        group_words(b, r->group[r->k_group].like);
    }
    buf_str(b, ". No training stage ever saw them: they are set apart by a hash of the problem.</p><div class=\"charts two\">\n");
    chart_accuracy(b, r, &h);
    chart_pass_k(b, r);
    buf_str(b, "</div></section>\n");
    held_free(&h);
}

/* ---- reinforcement learning ---- */
static const Metric RL_LEARNING[] = {M_REWARD, M_CORRECT, M_FORMAT};
static const Metric RL_BEHAVIOUR[] = {M_THINKING, M_GIVES_UP, M_NO_THINKING, M_CHECKS, M_WAITS, M_BACKWARD, M_WRONG_EQUATIONS, M_TRUNCATED};
static const Metric RL_HEALTH[] = {M_ENTROPY, M_CLIP, M_KL, M_GRAD_NORM, M_LOAD_MAX, M_DROPPED};

static void rl_charts(Buf *b, const Report *r, const char *title, const Metric *metric, size_t n_metric, const Held *h)
{
    buf_fmt(b, "<h3 class=group>%s</h3><div class=charts>\n", title);
    for (size_t k = 0; k < n_metric; k++) {
        Chart c = chart_of(metric[k], "step");
        bool  both = metric[k] >= M_FORMAT && metric[k] <= M_TRUNCATED;
        for (int i = 0; i < h->count; i++) {
            int    color = report_color(r, h->stage[i]);
            Series s = measures_of("held out", h->m[i], h->n[i], metric[k], color);
            c.s[c.n++] = points_of(&r->track[h->stage[i]], M_STEP, metric[k], color);
            s.quiet = true;
            if (both) c.s[c.n++] = s;
        }
        draw(b, &c);
    }
    buf_str(b, "</div>\n");
}

static void rl_lead(Buf *b, const Report *r, const Held *h)
{
    int  stages = 0;
    bool many = false, rings = false;
    for (int i = 0; i < r->n_track; i++) stages += r->track[i].kind == STAGE_GRPO && (r->track[i].n_point || r->track[i].n_measure);
    for (int i = 0; i < h->count; i++) {
        many = many || r->track[h->stage[i]].n_point >= CHART_SMOOTH_FROM;
        rings = rings || h->n[i];
    }
    buf_str(b, "<p class=lead>Lines: the answers sampled for training, round by round");
    if (many) buf_str(b, " (thin: each round; firm: a running mean)");
    buf_str(b, ". ");
    if (rings) buf_str(b, "Rings: held-out problems at the evaluation\xE2\x80\x99s temperature. ");
    buf_str(b, "Numbers above a chart: the mean of the first five and of the last five rounds; of rings and short runs, the first and the last.");
    if (stages > h->count) buf_fmt(b, " %d more stages are not drawn.", stages - h->count);
    buf_str(b, "</p>");
}

void page_curves_rl(Buf *b, const Report *r)
{
    Held h = {.count = 0};
    bool any = false;
    held_fill(b, r, &h);
    for (int i = 0; i < h.count; i++) any = any || r->track[h.stage[i]].n_point;
    if (any) {
        buf_str(b, "<section id=rl><h2>Reinforcement learning, step by step</h2>");
        rl_lead(b, r, &h);
        rl_charts(b, r, "What is rewarded", RL_LEARNING, ARRAY_LEN(RL_LEARNING), &h);
        rl_charts(b, r, "What the model does with its thinking", RL_BEHAVIOUR, ARRAY_LEN(RL_BEHAVIOUR), &h);
        rl_charts(b, r, "Is the optimisation healthy?", RL_HEALTH, ARRAY_LEN(RL_HEALTH), &h);
        buf_str(b, "</section>\n");
    }
    held_free(&h);
}

/* ---- pretraining and fine-tuning ---- */
static void supervised_charts(Buf *b, const Report *r, const Track *t)
{
    static const Metric REST[] = {M_GRAD_NORM, M_LOAD_MAX};
    bool        tokens = isfinite(t->tokens);
    Metric      x = tokens ? M_TOKENS : M_STEP;
    const char *x_name = tokens ? "tokens" : "step";
    int         n_held = 0;

    Chart c = chart_of(M_LOSS, x_name);
    c.s[c.n++] = points_of(t, x, M_LOSS, 0);
    c.s[c.n++] = points_of(t, x, M_DRAFT_LOSS, 2);
    c.s[0].label = "loss";
    c.s[1].label = "draft";
    Chart alone = {.n = 1, .s = {c.s[1]}};
    if (chart_empty(&alone)) c.n = 1;
    else c.caption = "How surprised the model is by the next token, on average; draft: by the token after the next, for the draft layer. Lower is better.";
    draw(b, &c);
    for (size_t k = 0; k < ARRAY_LEN(REST); k++) {
        c = chart_of(REST[k], x_name);
        c.s[c.n++] = points_of(t, x, REST[k], 0);
        if (REST[k] == M_GRAD_NORM) {
            c.s[c.n] = points_of(t, x, M_SKIPPED, 1);
            c.s[c.n].quiet = c.s[c.n].ticks = true;
            c.n++;
        }
        draw(b, &c);
    }
    Measure *held = held_out(b, r, t, &n_held);
    c = chart_of(M_PASS1, "step");
    Series s = measures_of("pass@1", held, n_held, M_PASS1, 0);
    s.lo = held ? held[0].v + M_LO : NULL;
    s.hi = held ? held[0].v + M_HI : NULL;
    line_with_dots(&c, s, false);
    if (n_held > 1) chart_figure(b, &c);
    mem_free(held);
}

void page_curves_pretrain(Buf *b, const Report *r)
{
    bool any = false;
    for (int i = 0; i < r->n_track; i++) {
        const Track *t = &r->track[i];
        int          skipped = 0;
        if ((t->kind != STAGE_PRETRAIN && t->kind != STAGE_SFT) || t->n_point == 0) continue;
        if (!any) buf_str(b, "<section id=pretraining><h2>Pretraining and fine-tuning</h2>");
        any = true;
        for (int k = 0; k < t->n_point; k++) skipped += t->point[k].v[M_SKIPPED] > 0;
        buf_str(b, "<h3 class=group>");
        html_str(b, t->name);
        buf_fmt(b, " <small>%s</small></h3>", report_kind_words(t->kind));
        if (skipped)
            buf_fmt(b, "<p class=lead>%s update%s skipped because the gradient was not usable; marks at the foot of its chart show where.</p>",
                    num_count(NUM_TMP, skipped), skipped == 1 ? " was" : "s were");
        buf_str(b, "<div class=charts>\n");
        supervised_charts(b, r, t);
        buf_str(b, "</div>\n");
    }
    if (any) buf_str(b, "</section>\n");
}
