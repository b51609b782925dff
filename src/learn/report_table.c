/* Every model that was measured, a row each, in groups that may be compared. */
#include <string.h>

#include "report.h"

typedef struct Column {
    Metric      m;
    const char *head;
    bool        share;
} Column;
static const Column COLUMN[] = {
    {M_MAJ, "maj@k", true},           {M_THINKING, "thinking tokens", false}, {M_GIVES_UP, "gives up", true},
    {M_NO_THINKING, "no thinking", true}, {M_CHECKS, "checks", true},         {M_WAITS, "waits", true},
    {M_BACKWARD, "works backward", true}, {M_WRONG_EQUATIONS, "wrong equations", true}, {M_FALSE_RIGHT, "right by false steps", true},
    {M_FORMAT, "well formed", true},  {M_TRUNCATED, "truncated", true},
};

void page_model(Buf *b, const Report *r, int model)
{
    if (model % 2 == 0) buf_str(b, "before ");
    html_str(b, r->track[model / 2].name);
}

/* A dot with its interval on a line from 0 to 100%. */
static void interval_mark(Buf *b, const Measure *m, int color)
{
    double p = m->v[M_PASS1], lo = m->v[M_LO], hi = m->v[M_HI];
    if (!(p >= 0 && p <= 1)) return;
    buf_str(b, "<svg class=mark viewBox=\"0 0 104 12\" aria-hidden=true><path class=axis d=\"M2 6H102M2 3v6M102 3v6\"/>");
    if (lo >= 0 && hi <= 1 && lo <= hi)
        buf_fmt(b, "<path class=\"whisker k%d\" d=\"M%s 6H%s\"/>", color, num_fixed(NUM_TMP, 2 + 100 * lo, 1), num_fixed(NUM_TMP, 2 + 100 * hi, 1));
    buf_fmt(b, "<circle class=\"full k%d\" cx=%s cy=6 r=2.8></circle></svg>", color, num_fixed(NUM_TMP, 2 + 100 * p, 1));
}

static void row_head(Buf *b, const Report *r, const Row *row)
{
    const Track *t = row->at;
    if (row == r->before || row == r->after) buf_fmt(b, "<tr><th scope=row><b class=k%d>", row == r->after);
    else buf_str(b, "<tr><th scope=row><b>");
    page_model(b, r, row->model);
    buf_str(b, "</b><small>");
    if (!report_trains(t)) {
        buf_str(b, "measured in ");
        html_short(b, t->name, 24);
    } else {
        buf_fmt(b, "at step %s", num_count(NUM_TMP, row->best->v[M_STEP]));
    }
    buf_str(b, "</small></th>");
}

static void row_write(Buf *b, const Report *r, const Row *row)
{
    const Measure *m = row->best;
    int            p = report_pow_max(row->wide), color = row == r->before ? 0 : row->model % 2 ? report_color(r, row->model / 2) : 5;
    double         k = m->v[M_SAMPLES];
    row_head(b, r, row);
    buf_fmt(b, "<td class=acc><b>%s</b> ", num_share(NUM_TMP, m->v[M_PASS1]));
    if (isfinite(m->v[M_LO]) && isfinite(m->v[M_HI]))
        buf_fmt(b, "<small>%s to %s</small>", num_share(NUM_TMP, m->v[M_LO]), num_share(NUM_TMP, m->v[M_HI]));
    interval_mark(b, m, color);
    buf_str(b, "</td><td>");
    if (p > 0) buf_fmt(b, "%s<small>k = %d</small>", num_share(NUM_TMP, row->wide->v[M_PASS_POW + p]), 1 << p);
    else buf_str(b, num_fixed(NUM_TMP, NAN, 0));
    for (size_t i = 0; i < ARRAY_LEN(COLUMN); i++) {
        double v = COLUMN[i].m == M_MAJ && k <= 1 ? NAN : m->v[COLUMN[i].m]; /* one answer is no vote */
        buf_fmt(b, "</td><td>%s", COLUMN[i].share ? num_share(NUM_TMP, v) : num_auto(NUM_TMP, v));
        if (COLUMN[i].m == M_MAJ && isfinite(v) && isfinite(k)) buf_fmt(b, "<small>k = %s</small>", num_count(NUM_TMP, k));
    }
    buf_fmt(b, "</td><td>%s", num_count(NUM_TMP, m->v[M_N]));
    if (isfinite(k)) buf_fmt(b, " \xC3\x97 %s", num_count(NUM_TMP, k));
    buf_str(b, "</td></tr>\n");
}

static void group_write(Buf *b, const Report *r, const Group *g)
{
    const Measure *like = g->like;
    if (g->n == 0) return;
    buf_fmt(b, "<tbody><tr class=task><th colspan=%d scope=rowgroup><span>", (int)ARRAY_LEN(COLUMN) + 4);
    html_str(b, like->task[0] ? like->task : "task not named");
    if (like->variant[0]) {
        buf_str(b, ", variant ");
        html_str(b, like->variant);
    }
    if (isfinite(like->v[M_TEMPERATURE])) buf_fmt(b, " \xC2\xB7 T = %s", num_auto(NUM_TMP, like->v[M_TEMPERATURE]));
    buf_str(b, "</span></th></tr>\n");
    for (int i = 0; i < g->n; i++)
        if (!report_repeats(r, g, &g->row[i])) row_write(b, r, &g->row[i]);
    buf_str(b, "</tbody>\n");
}

void page_table(Buf *b, const Report *r)
{
    bool any = false;
    for (int i = 0; i < r->n_group; i++) any = any || r->group[i].n;
    if (!any) return;
    buf_str(b, "<section id=models><h2>Every model measured</h2><p class=lead>A model is what a training stage left behind. Where one was measured more "
               "than once with the same task and temperature T, a measurement of its own counts before a check during training, then the one on more "
               "problems; pass@k comes from the one with the largest k.</p>\n<div class=scroll tabindex=0><table><thead><tr><th scope=col>model"
               "<th scope=col>pass@1, 95% interval<th scope=col>pass@k");
    for (size_t i = 0; i < ARRAY_LEN(COLUMN); i++) buf_fmt(b, "<th scope=col>%s", COLUMN[i].head);
    buf_str(b, "<th scope=col>problems \xC3\x97 answers</tr></thead>\n");
    if (r->main >= 0) group_write(b, r, &r->group[r->main]);
    for (int i = 0; i < r->n_group; i++)
        if (i != r->main) group_write(b, r, &r->group[i]);
    buf_str(b, "</table></div>\n");
    page_words(b);
    buf_str(b, "</section>\n");
}

void page_words(Buf *b)
{
    static const Metric FIRST[] = {M_PASS1, M_PASS_POW};
    buf_str(b, "<details open class=words><summary>What the columns mean</summary><dl>\n");
    for (size_t i = 0; i < ARRAY_LEN(FIRST) + ARRAY_LEN(COLUMN); i++) {
        const MetricWords *w = metric_words(i < ARRAY_LEN(FIRST) ? FIRST[i] : COLUMN[i - ARRAY_LEN(FIRST)].m);
        buf_fmt(b, "<div><dt>%s</dt><dd>%s</dd></div>\n", w->name, w->sentence);
    }
    buf_str(b, "</dl></details>\n");
}
