/* One chart as inline SVG.  Lines are thin, labels stand at the lines' ends, ticks are round numbers; what does not fit
 * the scale is said in words, never dropped in silence.  A series of any length becomes a path of bounded size. */
#include <stdio.h>
#include <string.h>

#include "report.h"

enum { DOTS_MAX = 160, SMOOTH_POINTS = 120, LABEL_CHARS = 14, LABEL_STEP = 13 };

typedef struct Plot {
    Buf         *b;
    const Chart *c;
    double       w, h, left, right, top, bottom; /* of the drawing; of the frame inside it */
    Axis         x, y;
} Plot;

static double px(const Plot *p, double x)
{
    return axis_place(&p->x, x, p->left, p->right);
}

static double py(const Plot *p, double y)
{
    return axis_place(&p->y, y, p->bottom, p->top);
}

static void at(Plot *p, const char *before, double x, double y)
{
    char a[NUM_MAX], b[NUM_MAX];
    buf_fmt(p->b, "%s%s %s", before, num_fixed(a, x, 1), num_fixed(b, y, 1));
}

static const char *pos(char dst[NUM_MAX], double v)
{
    return num_fixed(dst, v, 1);
}

static void draw_frame(Plot *p)
{
    Buf *b = p->b;
    for (int i = 0; i < p->y.n_tick; i++) {
        char   t[NUM_MAX], y[NUM_MAX], z[NUM_MAX], l[NUM_MAX], r[NUM_MAX];
        double v = py(p, p->y.tick[i]);
        buf_fmt(b, "<path class=grid d=\"M%s %sH%s\"/>", pos(l, p->left), pos(y, v), pos(r, p->right));
        buf_fmt(b, "<text class=tick x=%s y=%s text-anchor=end>%s</text>", pos(l, p->left - 5), pos(z, v + 3.7),
                axis_text(t, &p->y, p->y.tick[i]));
    }
    buf_str(b, "<path class=axis d=\"");
    at(p, "M", p->left, p->bottom);
    at(p, "L", p->right, p->bottom);
    buf_str(b, "\"/>");
    for (int i = 0; i < p->x.n_tick; i++) {
        char   t[NUM_MAX], x[NUM_MAX], y[NUM_MAX];
        double v = px(p, p->x.tick[i]);
        buf_fmt(b, "<path class=axis d=\"M%s %sv4\"/>", pos(x, v), pos(y, p->bottom));
        buf_fmt(b, "<text class=tick x=%s y=%s text-anchor=middle>%s</text>", pos(x, v), pos(y, p->bottom + 15),
                axis_text(t, &p->x, p->x.tick[i]));
    }
    char x[NUM_MAX], y[NUM_MAX];
    buf_fmt(b, "<text class=name x=%s y=%s text-anchor=end>%s</text>", pos(x, p->right), pos(y, p->bottom + 29), p->c->x_name);
}

static void draw_band(Plot *p, const Series *s)
{
    if (!s->lo || !s->hi || s->n < 2 || s->n > 2000) return;
    int drawn = 0;
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < s->n; i++) {
            int           k = half ? s->n - 1 - i : i;
            const double *edge = half ? s->lo : s->hi;
            double        v = edge[(size_t)k * s->stride];
            if (!series_usable(p->c, s, k) || !isfinite(axis_value(&p->y, v))) continue;
            if (!drawn) buf_fmt(p->b, "<path class=\"band k%d\" d=\"", s->color);
            at(p, drawn++ ? "L" : "M", px(p, series_x(s, k)), py(p, v));
        }
    if (drawn) buf_str(p->b, "Z\"/>");
}

/* Every point while they are few; else, for each column of the drawing, the lowest and the highest in their order. */
static void draw_raw(Plot *p, const Series *s)
{
    int  i = 0, columns = (int)(p->right - p->left);
    bool all = s->n <= 2 * columns, pen = false;
    while (i < s->n) {
        if (!series_usable(p->c, s, i)) {
            pen = false;
            i++;
            continue;
        }
        int column = (int)px(p, series_x(s, i)), lo = i, hi = i, j = i + 1;
        for (; !all && j < s->n && series_usable(p->c, s, j) && (int)px(p, series_x(s, j)) == column; j++) {
            if (series_y(s, j) < series_y(s, lo)) lo = j;
            if (series_y(s, j) > series_y(s, hi)) hi = j;
        }
        int first = lo < hi ? lo : hi, last = lo < hi ? hi : lo;
        at(p, pen ? "L" : "M", px(p, series_x(s, first)), py(p, series_y(s, first)));
        if (!pen) buf_str(p->b, "h0"); /* a point alone is a dot */
        if (last != first) at(p, "L", px(p, series_x(s, last)), py(p, series_y(s, last)));
        pen = true;
        i = j;
    }
}

static int window_of(int n)
{
    return n / 20 < 5 ? 5 : n / 20;
}

/* The mean of the drawable points around i, each within the frame. */
static double mean_near(const Plot *p, const Series *s, int i)
{
    int    half = window_of(s->n) / 2, n = 0;
    double sum = 0, lo = p->y.lo, hi = p->y.hi;
    for (int j = i - half < 0 ? 0 : i - half; j <= i + half && j < s->n; j++) {
        if (!series_usable(p->c, s, j)) continue;
        double y = axis_value(&p->y, series_y(s, j));
        sum += y < lo ? lo : y > hi ? hi : y;
        n++;
    }
    if (!n) return NAN;
    return p->y.kind == AXIS_LOG ? pow(10, sum / n) : sum / n;
}

static void draw_smooth(Plot *p, const Series *s)
{
    bool pen = false;
    int  m = s->n < SMOOTH_POINTS ? s->n : SMOOTH_POINTS;
    for (int k = 0; k < m; k++) {
        int    i = (int)((int64_t)k * (s->n - 1) / (m - 1));
        double y = mean_near(p, s, i);
        if (!isfinite(y) || !isfinite(axis_value(&p->x, series_x(s, i)))) continue;
        at(p, pen ? "L" : "M", px(p, series_x(s, i)), py(p, y));
        pen = true;
    }
}

static void draw_dots(Plot *p, const Series *s)
{
    for (int i = 0; i < s->n; i++) {
        char x[NUM_MAX], y[NUM_MAX], t[NUM_MAX], v[NUM_MAX];
        if (!series_usable(p->c, s, i)) continue;
        buf_fmt(p->b, "<circle class=\"dot k%d\" cx=%s cy=%s r=2.6><title>", s->color, pos(x, px(p, series_x(s, i))), pos(y, py(p, series_y(s, i))));
        html_str(p->b, s->label);
        buf_fmt(p->b, ", %s %s: %s</title></circle>", p->c->x_name, num_count(t, series_x(s, i)),
                p->c->y == AXIS_SHARE ? num_share(v, series_y(s, i)) : num_auto(v, series_y(s, i)));
    }
}

static void draw_ticks(Plot *p, const Series *s)
{
    int column = -1; /* one mark in each */
    for (int i = 0; i < s->n; i++) {
        char x[NUM_MAX], y[NUM_MAX];
        if (!(series_y(s, i) > 0) || !isfinite(axis_value(&p->x, series_x(s, i))) || (int)px(p, series_x(s, i)) == column) continue;
        column = (int)px(p, series_x(s, i));
        buf_fmt(p->b, "<path class=\"mark k%d\" d=\"M%s %sv-7\"/>", s->color, pos(x, px(p, series_x(s, i))), pos(y, p->bottom));
    }
}

static void draw_series(Plot *p, const Series *s)
{
    bool smooth = s->smooth && s->n >= CHART_SMOOTH_FROM;
    if (s->ticks) {
        draw_ticks(p, s);
        return;
    }
    if (s->line) {
        buf_fmt(p->b, "<path class=\"line k%d%s%s\" d=\"", s->color, smooth ? " thin" : "", s->dashed ? " dash" : "");
        draw_raw(p, s);
        buf_str(p->b, "\"/>");
    }
    if (s->line && smooth) {
        buf_fmt(p->b, "<path class=\"line k%d%s\" d=\"", s->color, s->dashed ? " dash" : "");
        draw_smooth(p, s);
        buf_str(p->b, "\"/>");
    }
    if (s->dots && s->n <= DOTS_MAX) draw_dots(p, s);
}

/* ---- labels at the lines' ends ---- */
typedef struct Label {
    double        x, y, value;
    const Series *s;
} Label;

/* Beside the last value, as drawn; false: there is none. */
static bool label_of(const Plot *p, const Series *s, Label *l)
{
    for (int i = s->n - 1; i >= 0; i--) {
        if (!series_usable(p->c, s, i)) continue;
        double v = s->smooth && s->n >= CHART_SMOOTH_FROM ? mean_near(p, s, i) : series_y(s, i);
        *l = (Label){px(p, series_x(s, i)) + 6, py(p, v), v, s};
        return true;
    }
    return false;
}

static int named(const Chart *c)
{
    int n = 0;
    for (int k = 0; k < c->n; k++) n += !c->s[k].quiet;
    return n;
}

static const char *value_text(char dst[NUM_MAX], const Chart *c, double v)
{
    return c->y == AXIS_SHARE ? num_share(dst, v) : num_auto(dst, v);
}

/* Labels from the top down, at least a line apart and inside the frame. */
static void spread(Label *l, int n, double top, double bottom)
{
    for (int i = 1; i < n; i++) {
        Label x = l[i];
        int   k = i;
        for (; k > 0 && l[k - 1].y > x.y; k--) l[k] = l[k - 1];
        l[k] = x;
    }
    for (int i = 1; i < n; i++)
        if (l[i].y < l[i - 1].y + LABEL_STEP) l[i].y = l[i - 1].y + LABEL_STEP;
    for (int i = n - 1; i >= 0; i--) {
        double most = i == n - 1 ? bottom : l[i + 1].y - LABEL_STEP;
        if (l[i].y > most) l[i].y = most < top ? top : most;
    }
}

static void draw_labels(Plot *p)
{
    Label l[CHART_SERIES_MAX];
    int   n = 0;
    for (int k = 0; k < p->c->n; k++) {
        if (!p->c->s[k].quiet && label_of(p, &p->c->s[k], &l[n])) n++;
    }
    spread(l, n, p->top, p->bottom);
    for (int i = 0; i < n; i++) {
        char x[NUM_MAX], y[NUM_MAX], v[NUM_MAX]; /* a label inside the frame has a halo, so that lines may cross it */
        buf_fmt(p->b, "<text class=\"end k%d\" x=%s y=%s>", l[i].s->color, pos(x, l[i].x), pos(y, l[i].y + 3.7));
        if (named(p->c) > 1) html_short(p->b, l[i].s->label, LABEL_CHARS);
        else buf_str(p->b, value_text(v, p->c, l[i].value));
        buf_str(p->b, "</text>");
    }
}

/* ---- the figure ---- */
/* Means of the first and the last five points (of measurements and short series: the first and the last); false: none. */
static bool ends_of(const Chart *c, const Series *s, double *first, double *last)
{
    double sum[2] = {0, 0};
    int    n[2] = {0, 0}, all = 0;
    for (int i = 0; i < s->n; i++) all += series_usable(c, s, i);
    int want = all >= 10 && s->smooth ? 5 : 1;
    for (int i = 0; i < s->n && n[0] < want; i++) {
        if (!series_usable(c, s, i)) continue;
        sum[0] += series_y(s, i);
        n[0]++;
    }
    for (int i = s->n - 1; i >= 0 && n[1] < want; i--) {
        if (!series_usable(c, s, i)) continue;
        sum[1] += series_y(s, i);
        n[1]++;
    }
    if (all) {
        *first = sum[0] / n[0];
        *last = sum[1] / n[1];
    }
    return all > 0;
}

/* "loss 7.31 -> 1.21 nats per token": the key of the lines and what is seen, in one. */
static void figure_summary(Buf *b, const Chart *c)
{
    buf_str(b, "<p class=sum>");
    for (int k = 0; k < c->n; k++) {
        const Series *s = &c->s[k];
        double        first, last;
        char          x[NUM_MAX], y[NUM_MAX];
        if (s->quiet || s->ticks || !ends_of(c, s, &first, &last)) continue;
        buf_str(b, "<span>");
        if (named(c) > 1) {
            buf_fmt(b, "<i class=\"key k%d%s\"></i>", s->color, s->dashed ? " dash" : "");
            html_str(b, s->label);
            buf_str(b, " ");
        }
        value_text(x, c, first);
        value_text(y, c, last);
        if (strcmp(x, y) == 0) buf_fmt(b, "<b>%s</b>", y);
        else buf_fmt(b, "%s \xE2\x86\x92 <b>%s</b>", x, y);
        buf_fmt(b, "%s%s</span> ", *c->unit ? " " : "", c->unit);
    }
    buf_str(b, "</p>");
}

static void figure_note(Buf *b, const Plot *p)
{
    int    out = 0;
    double far = 0;
    double slack = 1e-9 * (p->y.hi - p->y.lo);
    for (int k = 0; k < p->c->n; k++)
        for (int i = 0; i < p->c->s[k].n && !p->c->s[k].ticks; i++) {
            const Series *s = &p->c->s[k];
            double        v = axis_value(&p->y, series_y(s, i));
            if (!series_usable(p->c, s, i) || (v >= p->y.lo - slack && v <= p->y.hi + slack)) continue;
            if (out++ == 0 || fabs(series_y(s, i)) > fabs(far)) far = series_y(s, i);
        }
    if (!out) return;
    buf_fmt(b, " <em>%d value%s outside the drawing, as far as %s.</em>", out, out == 1 ? " lies" : "s lie", num_auto(NUM_TMP, far));
}

/* Characters, not bytes. */
static int chars_of(const char *s)
{
    int n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void plot_frame(Plot *p)
{
    const Chart *c = p->c;
    int          left = 2, right = 6;
    for (int i = 0; i < p->y.n_tick; i++) {
        char t[NUM_MAX];
        int  n = chars_of(axis_text(t, &p->y, p->y.tick[i]));
        left = n > left ? n : left;
    }
    for (int k = 0; k < c->n && named(c) > 1; k++) {
        int n = c->s[k].quiet ? 0 : chars_of(c->s[k].label);
        n = n > LABEL_CHARS ? LABEL_CHARS : n;
        right = n > right ? n : right;
    }
    double wide = c->large ? 9.4 : 7.2; /* of a character, at most */
    p->w = c->large ? 500 : 320;
    p->h = c->large ? 280 : 190;
    p->left = 10 + wide * left;
    p->right = p->w - 8 - wide * right;
    p->top = 8;
    p->bottom = p->h - 34;
}

void chart_figure(Buf *b, const Chart *c)
{
    Plot p = {.b = b, .c = c};
    if (chart_empty(c) || !chart_axes(b, c, &p.x, &p.y)) return;
    plot_frame(&p);
    buf_fmt(b, "<figure class=\"chart%s\"><h3>%s</h3>", c->large ? " large" : "", c->title);
    figure_summary(b, c);
    buf_fmt(b, "<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"%s\">", (int)p.w, (int)p.h, c->title);
    draw_frame(&p);
    for (int k = 0; k < c->n; k++) draw_band(&p, &c->s[k]);
    for (int k = 0; k < c->n; k++) draw_series(&p, &c->s[k]);
    draw_labels(&p);
    buf_fmt(b, "</svg><figcaption>%s", c->caption);
    figure_note(b, &p);
    buf_str(b, "</figcaption></figure>\n");
}
