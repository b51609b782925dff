/* What the files of report.html share with each other and with nobody else.
 *
 *   report_read.c   metrics.jsonl and recipe.ini  -> Report
 *   report_pick.c   which measurement stands for which model, before and after reinforcement learning
 *   report_text.c   hostile text and any number   -> HTML
 *   report_svg.c    one chart                     -> SVG
 *   report_page.c, report_curves.c, report_table.c, report_traces.c: the sections of the page
 *
 * Everything in a Report except the page's own sentences comes from files: it is escaped where it is written. */
#ifndef AHA_LEARN_REPORT_H
#define AHA_LEARN_REPORT_H

#include <math.h>

#include "learn.h"

enum {
    REPORT_NAME_MAX = 48,
    REPORT_STAGES_MAX = 64,
    REPORT_GROUPS_MAX = 32,
    REPORT_SAMPLES_MAX = 12,  /* kept of one step */
    REPORT_TRACE_MAX = 6000,  /* bytes kept of one text */
    REPORT_POW_MAX = 11       /* pass@k for k = 1, 2, 4 ... 1024 */
};

/* ---- what was measured ---- numbers that a line lacks are NAN */
typedef enum Metric {
    M_STEP, M_TOKENS, M_SECONDS,
    /* training */
    M_LOSS, M_DRAFT_LOSS, M_LR, M_GRAD_NORM, M_LOAD_MAX, M_SKIPPED,
    M_REWARD, M_CORRECT, M_ENTROPY, M_CLIP, M_KL, M_DROPPED,
    /* training and evaluation */
    M_FORMAT, M_THINKING, M_GIVES_UP, M_NO_THINKING, M_CHECKS, M_WAITS, M_BACKWARD, M_WRONG_EQUATIONS, M_TRUNCATED,
    /* evaluation */
    M_N, M_SAMPLES, M_TEMPERATURE, M_PASS1, M_LO, M_HI, M_MAJ, M_FALSE_RIGHT,
    M_PASS_POW, /* [REPORT_POW_MAX]: pass@2^i */
    M_COUNT = M_PASS_POW + REPORT_POW_MAX
} Metric;

typedef struct Point {
    double v[M_COUNT];
} Point;

typedef struct Measure { /* an evaluation */
    double v[M_COUNT];
    char   task[REPORT_NAME_MAX], variant[REPORT_NAME_MAX];
} Measure;

typedef struct Trace { /* a problem and an answer, as text */
    char  *prompt, *thinking, *answer;
    char   task[REPORT_NAME_MAX];
    bool   correct;
    double reward;
} Trace;

typedef struct TraceSet { /* of one step */
    const char *stage;
    double      step;
    int         n;
    Trace       t[REPORT_SAMPLES_MAX];
} TraceSet;

typedef struct Track { /* what one stage left in metrics.jsonl */
    char         name[REPORT_NAME_MAX];
    const Stage *plan; /* in the recipe; NULL: not there */
    StageKind    kind; /* STAGE_COUNT: not known */
    Point       *point;
    Measure     *measure;
    int          n_point, point_cap, n_measure, measure_cap;
    TraceSet     first, last; /* last.n is 0 while there is one step only */
    bool         seen, done;
    double       step, tokens, seconds; /* the largest seen; NAN: none */
} Track;

typedef struct Row { /* a model and the measurements that stand for it */
    int            model; /* 2 i + 1: as stage i left it; 2 i: as stage i found it */
    const Track   *at;    /* where `best` was measured */
    const Measure *best;  /* the one to quote */
    const Measure *wide;  /* the one with pass@k for the largest k */
} Row;

typedef struct Group { /* measurements that may be compared: one task, variant and temperature */
    const Measure *like;
    Row row[2 * REPORT_STAGES_MAX];
    int n;
} Group;

typedef struct Report {
    Recipe  recipe;
    bool    has_recipe; /* it was there and it could be read */
    char   *recipe_text;
    size_t  recipe_n;
    aha_error recipe_error;      /* why not */
    Track   track[REPORT_STAGES_MAX];
    int     n_track;
    /* of the "run" lines */
    char    name[64], isa[32], date[40];
    double  seed, parameters, active, threads;
    int     n_run;
    int64_t lines, bad, dropped; /* dropped: stages over the bound */
    bool    cut;                 /* the last line is not whole */
    /* report_pick */
    Group   group[REPORT_GROUPS_MAX];
    int     n_group, main;       /* main: the group to quote, -1: none */
    int     rl;                  /* the stage to quote, -1: none */
    const Row *before, *after;   /* of group main around stage rl; NULL: not measured */
    int     k_group;             /* the group to show pass@k from, perhaps at another temperature; -1: none */
    const Row *k_before, *k_after;
} Report;

int  report_read(Report *r, const char *dir, aha_error *e); /* into a zeroed Report; report_free it whatever comes back */
void report_free(Report *r);

void report_pick(Report *r);
/* The stage whose training made the model that stage i starts from, -1: none (random weights). */
int  report_source(const Report *r, int i);
/* The stage whose training made the model that stage i measures or leaves. */
int  report_model(const Report *r, int i);
bool report_trains(const Track *t);
int  report_color(const Report *r, int i); /* of stage i, the same all over the page */
const char *report_kind_words(StageKind k);
/* A model as a stage found it, which already has a row as the stage before left it. */
bool report_repeats(const Report *r, const Group *g, const Row *row);
bool report_is_before(const Report *r, const Row *row); /* the starting point of stage rl */
/* Texts of before and after, from the two steps that share most prompts.  Either may come back NULL. */
void report_traces_pick(const Report *r, const TraceSet **before, const TraceSet **after);
/* The largest k of a measurement as a power of two, -1: none. */
int  report_pow_max(const Measure *m);

/* ---- text (report_text.c) ---- no function of the C library that a locale changes */
void html_text(Buf *b, const char *s, size_t n); /* escaped; invalid UTF-8 and control characters become U+FFFD */
void html_str(Buf *b, const char *s);
void html_short(Buf *b, const char *s, int chars); /* at most so many characters, then an ellipsis */
enum { NUM_MAX = 40 };
#define NUM_TMP ((char[NUM_MAX]){0}) /* lives until the end of the block */
const char *num_fixed(char dst[NUM_MAX], double v, int decimals);
const char *num_auto(char dst[NUM_MAX], double v);    /* three digits that count */
const char *num_count(char dst[NUM_MAX], double v);   /* 1,234,567 */
const char *num_si(char dst[NUM_MAX], double v);      /* 1.23M */
const char *num_share(char dst[NUM_MAX], double v);   /* 0.367 -> 36.7% */
const char *num_time(char dst[NUM_MAX], double s);    /* 4 min 0 s */

/* ---- charts (report_svg.c) ---- */
enum { CHART_SERIES_MAX = 12, CHART_COLORS = 6, CHART_SMOOTH_FROM = 40 /* points */ };
typedef struct Series {
    const char   *label;           /* may come from a file */
    const double *x, *y, *lo, *hi; /* lo, hi: a band, or NULL */
    size_t        stride;          /* in doubles, of all four */
    int           n;
    int           color;           /* 0 .. CHART_COLORS - 1 */
    bool          line, dots, ticks; /* ticks: marks at the foot wherever y is above 0 */
    bool          smooth;          /* many points: thin, with a running mean over them */
    bool          dashed, quiet;   /* quiet: no label, no part in the summary */
} Series;
typedef enum AxisKind { AXIS_NUMBER, AXIS_SHARE, AXIS_LOG, AXIS_POW2 } AxisKind;
typedef struct Chart {
    const char *title, *x_name, *unit, *caption; /* unit: after the numbers of the summary, "" for none */
    AxisKind    x, y;
    double      floor; /* a linear y axis starts here, or lower */
    bool        large;
    int         n;
    Series      s[CHART_SERIES_MAX];
} Chart;
void chart_figure(Buf *b, const Chart *c); /* nothing when there is nothing to draw */
bool chart_empty(const Chart *c);
static inline double series_x(const Series *s, int i)
{
    return s->x[(size_t)i * s->stride];
}
static inline double series_y(const Series *s, int i)
{
    return s->y[(size_t)i * s->stride];
}

enum { TICKS_MAX = 12 };
typedef struct Axis { /* report_axis.c */
    AxisKind kind;
    double   lo, hi; /* logarithms on a log axis */
    double   tick[TICKS_MAX];
    int      n_tick, decimals;
} Axis;
bool   series_usable(const Chart *c, const Series *s, int i); /* has a place on both axes */
bool   chart_axes(Buf *b, const Chart *c, Axis *x, Axis *y);  /* false: nothing to draw; no memory: b fails */
double axis_value(const Axis *a, double v);                   /* NAN: no place on it */
double axis_place(const Axis *a, double v, double from, double to); /* at the edge when it is outside */
const char *axis_text(char dst[NUM_MAX], const Axis *a, double v);

/* ---- sections ---- */
typedef struct MetricWords {
    Metric      m;
    const char *name, *unit, *sentence; /* what it is, for somebody who meets it for the first time */
    AxisKind    axis;
    double      floor; /* of a chart's axis */
} MetricWords;
const MetricWords *metric_words(Metric m); /* report_words.c; NULL: it has none */

void page_write(Buf *b, const Report *r);          /* report_page.c: the whole page */
void page_head(Buf *b, const char *title);         /* report_style.c: everything up to <main> */
void page_title(Buf *b, const Report *r);          /* report_summary.c: head, title, how far it is */
void page_summary(Buf *b, const Report *r);        /* headline, facts, stages */
void page_table(Buf *b, const Report *r);          /* report_table.c: every model measured */
void page_words(Buf *b);                           /* and what its columns mean */
void page_curves_heldout(Buf *b, const Report *r); /* report_curves.c: accuracy while training, pass@k */
void page_curves_rl(Buf *b, const Report *r);
void page_curves_pretrain(Buf *b, const Report *r);
void page_traces(Buf *b, const Report *r);         /* report_traces.c */
void page_model(Buf *b, const Report *r, int model); /* "rl", "base", "before rl" for Row.model */

#endif
