/* Reads what a run left: metrics.jsonl, line by line, and recipe.ini.
 *
 * The run may still be going on: the last line may be cut, any stage may be missing.  A line that cannot be read is
 * counted and skipped; a run that was resumed may repeat steps, and the later line is the one that counts. */
#include <stdio.h>
#include <string.h>

#include "report.h"

enum { METRICS_BYTES_MAX = 1 << 30, RECIPE_SHOWN_MAX = 1 << 20, REPEATS_MAX = 64 };

enum { IN_TRAIN = 1, IN_EVAL = 2 };
static const struct Field {
    const char *name;
    Metric      m;
    unsigned    in;
} FIELD[] = {
    {"tokens", M_TOKENS, IN_TRAIN},         {"s", M_SECONDS, IN_TRAIN | IN_EVAL},
    {"loss", M_LOSS, IN_TRAIN},             {"draft_loss", M_DRAFT_LOSS, IN_TRAIN},
    {"lr", M_LR, IN_TRAIN},                 {"grad_norm", M_GRAD_NORM, IN_TRAIN},
    {"load_max", M_LOAD_MAX, IN_TRAIN},     {"reward", M_REWARD, IN_TRAIN},
    {"correct", M_CORRECT, IN_TRAIN},       {"entropy", M_ENTROPY, IN_TRAIN},
    {"clip", M_CLIP, IN_TRAIN},             {"kl", M_KL, IN_TRAIN},
    {"dropped", M_DROPPED, IN_TRAIN},       {"format", M_FORMAT, IN_TRAIN},
    {"well_formed", M_FORMAT, IN_EVAL},     {"thinking", M_THINKING, IN_TRAIN | IN_EVAL},
    {"gives_up", M_GIVES_UP, IN_TRAIN | IN_EVAL}, {"no_thinking", M_NO_THINKING, IN_TRAIN | IN_EVAL},
    {"checks", M_CHECKS, IN_TRAIN | IN_EVAL},     {"waits", M_WAITS, IN_TRAIN | IN_EVAL},
    {"backward", M_BACKWARD, IN_TRAIN | IN_EVAL}, {"wrong_equations", M_WRONG_EQUATIONS, IN_TRAIN | IN_EVAL},
    {"truncated", M_TRUNCATED, IN_TRAIN | IN_EVAL}, {"n", M_N, IN_EVAL},
    {"samples", M_SAMPLES, IN_EVAL},        {"temperature", M_TEMPERATURE, IN_EVAL},
    {"pass1", M_PASS1, IN_EVAL},            {"lo", M_LO, IN_EVAL},
    {"hi", M_HI, IN_EVAL},                  {"maj", M_MAJ, IN_EVAL},
    {"false_right", M_FALSE_RIGHT, IN_EVAL},
};

static int nomem(aha_error *e)
{
    return error_set(e, AHA_ERR_NOMEM, "report: cannot get memory for the metrics");
}

/* Room for one more element; *items moves. */
static bool grow(void **items, int n, int *cap, size_t bytes)
{
    if (n < *cap) return true;
    int    more = *cap ? *cap + *cap / 2 : 32;
    size_t size;
    if (more <= n || !size_mul((size_t)more, bytes, &size)) return false;
    void *p = mem_realloc(*items, size);
    if (!p) return false;
    *items = p;
    *cap = more;
    return true;
}

static void copy_text(char *dst, size_t cap, const char *s)
{
    snprintf(dst, cap, "%s", s ? s : "");
}

static const char *str_of(const Json *j, const char *key)
{
    const char *s = NULL;
    return json_get_str(j, "", key, false, &s, NULL) ? NULL : s;
}

/* NAN when it is absent, of another type or not finite */
static double num_of(const Json *j, const char *key)
{
    double v = NAN;
    if (json_field(j, key)) (void)json_get_num(j, "", key, false, -1e308, 1e308, &v, NULL);
    return v;
}

static void numbers_of(double v[M_COUNT], const Json *j, unsigned in)
{
    for (int i = 0; i < M_COUNT; i++) v[i] = NAN;
    v[M_STEP] = num_of(j, "step");
    for (size_t i = 0; i < ARRAY_LEN(FIELD); i++)
        if (FIELD[i].in & in) v[FIELD[i].m] = num_of(j, FIELD[i].name);
}

static void keep_max(double *have, double v)
{
    if (!(*have >= v)) *have = isnan(v) ? *have : v;
}

static void keep_last(double *have, double v)
{
    if (!isnan(v)) *have = v;
}

/* ---- stages ---- */
static Track *track_of(Report *r, const char *full)
{
    char name[REPORT_NAME_MAX];
    copy_text(name, sizeof name, full);
    for (int i = 0; i < r->n_track; i++)
        if (strcmp(r->track[i].name, name) == 0) return &r->track[i];
    if (r->n_track == REPORT_STAGES_MAX) {
        r->dropped++;
        return NULL;
    }
    Track *t = &r->track[r->n_track++];
    *t = (Track){.kind = STAGE_COUNT, .step = NAN, .tokens = NAN, .seconds = NAN};
    copy_text(t->name, sizeof t->name, name);
    return t;
}

static void tracks_of_recipe(Report *r)
{
    for (int i = 0; i < r->recipe.n_stage; i++) {
        Track *t = track_of(r, r->recipe.stage[i].name);
        if (!t) continue;
        t->plan = &r->recipe.stage[i];
        t->kind = t->plan->kind;
    }
}

static int add_point(Track *t, const Json *j, StageKind kind, aha_error *e)
{
    if (!grow((void **)&t->point, t->n_point, &t->point_cap, sizeof(Point))) return nomem(e);
    Point *p = &t->point[t->n_point];
    bool   skipped = false;
    numbers_of(p->v, j, IN_TRAIN);
    (void)json_get_bool(j, "", "skipped", false, &skipped, NULL);
    p->v[M_SKIPPED] = skipped;
    /* a resumed run repeats what came after its checkpoint */
    while (t->n_point && t->point[t->n_point - 1].v[M_STEP] >= p->v[M_STEP]) t->n_point--;
    t->point[t->n_point] = *p;
    t->n_point++;
    t->done = false;
    if (t->kind == STAGE_COUNT) t->kind = kind;
    keep_max(&t->tokens, p->v[M_TOKENS]);
    return 0;
}

static bool same_measure(const Measure *a, const Measure *b)
{
    return strcmp(a->task, b->task) == 0 && strcmp(a->variant, b->variant) == 0 && a->v[M_TEMPERATURE] == b->v[M_TEMPERATURE] &&
           a->v[M_N] == b->v[M_N] && a->v[M_SAMPLES] == b->v[M_SAMPLES];
}

static int add_measure(Track *t, const Json *j, aha_error *e)
{
    Measure     m;
    const Json *pow = json_field(j, "pass_k");
    numbers_of(m.v, j, IN_EVAL);
    for (int i = 0; i < REPORT_POW_MAX; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", 1 << i);
        m.v[M_PASS_POW + i] = pow ? num_of(pow, key) : NAN;
    }
    copy_text(m.task, sizeof m.task, str_of(j, "task"));
    copy_text(m.variant, sizeof m.variant, str_of(j, "variant"));
    while (t->n_measure && t->measure[t->n_measure - 1].v[M_STEP] > m.v[M_STEP]) t->n_measure--;
    for (int i = t->n_measure - 1; i >= 0 && i >= t->n_measure - REPEATS_MAX; i--) {
        if (t->measure[i].v[M_STEP] != m.v[M_STEP]) break;
        if (!same_measure(&t->measure[i], &m)) continue;
        t->measure[i] = m;
        return 0;
    }
    if (!grow((void **)&t->measure, t->n_measure, &t->measure_cap, sizeof(Measure))) return nomem(e);
    t->measure[t->n_measure++] = m;
    return 0;
}

/* ---- traces ---- */
static void traces_free(TraceSet *s)
{
    for (int i = 0; i < s->n; i++) {
        mem_free(s->t[i].prompt);
        mem_free(s->t[i].thinking);
        mem_free(s->t[i].answer);
    }
    s->n = 0;
}

/* A copy of at most REPORT_TRACE_MAX bytes that ends between two characters. */
static char *copy_trace(const char *s)
{
    size_t n = s ? strlen(s) : 0;
    bool   cut = n > REPORT_TRACE_MAX;
    if (cut) {
        n = REPORT_TRACE_MAX;
        while (n && ((unsigned char)s[n] & 0xC0) == 0x80) n--;
    }
    char *copy = mem_alloc(n + 64);
    if (!copy) return NULL;
    if (n) memcpy(copy, s, n);
    copy[n] = 0;
    if (cut) snprintf(copy + n, 64, "\n[the rest is left out of this page]");
    return copy;
}

static int add_trace(Track *t, const Json *j, aha_error *e)
{
    const char *prompt = str_of(j, "prompt");
    double      step = num_of(j, "step");
    if (!prompt) return 0;
    if (t->first.n && step < t->first.step) traces_free(&t->first);
    if (t->first.n == 0 || step == t->first.step) traces_free(&t->last);
    else if (t->last.n && step != t->last.step) traces_free(&t->last);
    TraceSet *set = t->first.n == 0 || step == t->first.step ? &t->first : &t->last;
    set->stage = t->name;
    set->step = step;
    if (set->n == REPORT_SAMPLES_MAX) return 0;

    Trace *x = &set->t[set->n++];
    *x = (Trace){.prompt = copy_trace(prompt), .thinking = copy_trace(str_of(j, "thinking")), .answer = copy_trace(str_of(j, "answer"))};
    copy_text(x->task, sizeof x->task, str_of(j, "task"));
    (void)json_get_bool(j, "", "correct", false, &x->correct, NULL);
    x->reward = num_of(j, "reward");
    if (!x->prompt || !x->thinking || !x->answer) return nomem(e);
    for (int i = 0; i + 1 < set->n; i++) { /* repeated by a resumed run */
        const Trace *y = &set->t[i];
        if (strcmp(x->prompt, y->prompt) != 0 || strcmp(x->thinking, y->thinking) != 0 || strcmp(x->answer, y->answer) != 0) continue;
        mem_free(x->prompt);
        mem_free(x->thinking);
        mem_free(x->answer);
        set->n--;
        break;
    }
    return 0;
}

/* ---- lines ---- */
static void add_run(Report *r, const Json *j)
{
    const char *isa = str_of(j, "isa"), *name = str_of(j, "name"), *date = str_of(j, "date");
    if (r->n_run++ == 0 && date) copy_text(r->date, sizeof r->date, date);
    if (isa) copy_text(r->isa, sizeof r->isa, isa);
    if (name) copy_text(r->name, sizeof r->name, name);
    keep_last(&r->seed, num_of(j, "seed"));
    keep_last(&r->parameters, num_of(j, "parameters"));
    keep_last(&r->active, num_of(j, "active"));
    keep_last(&r->threads, num_of(j, "threads"));
}

static int add_object(Report *r, const Json *j, aha_error *e)
{
    static const StageKind TRAINING[] = {STAGE_PRETRAIN, STAGE_SFT, STAGE_GRPO};
    const char *stage = str_of(j, "stage"), *kind = str_of(j, "kind");
    double      step = num_of(j, "step");
    if (!stage || !kind || !(fabs(step) <= 1e15)) {
        r->bad++;
        return 0;
    }
    if (strcmp(kind, "run") == 0) {
        add_run(r, j);
        return 0;
    }
    Track *t = track_of(r, stage);
    if (!t) return 0;
    t->seen = true;
    if (strcmp(kind, "sample") != 0) keep_max(&t->step, step);
    keep_max(&t->seconds, num_of(j, "s"));
    for (size_t i = 0; i < ARRAY_LEN(TRAINING); i++)
        if (strcmp(kind, stage_kind_name(TRAINING[i])) == 0) return add_point(t, j, TRAINING[i], e);
    if (strcmp(kind, "eval") == 0) return add_measure(t, j, e);
    if (strcmp(kind, "sample") == 0) return add_trace(t, j, e);
    if (strcmp(kind, "done") == 0) {
        t->done = true;
        keep_max(&t->tokens, num_of(j, "tokens"));
    }
    return 0;
}

static bool blank(const char *s, size_t n)
{
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r')) n--;
    return n == 0;
}

static int read_metrics(Report *r, const char *text, size_t n, aha_error *e)
{
    int rc = 0;
    for (size_t at = 0; at < n && !rc;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t      len = end ? (size_t)(end - (text + at)) : n - at;
        if (!blank(text + at, len)) {
            Json *j = NULL;
            r->lines++;
            rc = json_parse(&j, text + at, len, "metrics.jsonl", e);
            if (rc == 0) {
                rc = add_object(r, j, e);
            } else if (rc != AHA_ERR_NOMEM) {
                if (end) r->bad++;
                else r->cut = true;
                rc = 0;
            }
            json_free(j);
        }
        at += len + 1;
    }
    return rc;
}

/* The recipe is shown as it stands, also when it cannot be understood. */
static int read_recipe(Report *r, const char *path, aha_error *e)
{
    int rc = file_exists(path) ? file_read_all(path, RECIPE_SHOWN_MAX, &r->recipe_text, &r->recipe_n, &r->recipe_error) : 0;
    if (rc == 0 && r->recipe_text) {
        rc = recipe_parse(&r->recipe, r->recipe_text, r->recipe_n, "recipe.ini", &r->recipe_error);
        r->has_recipe = rc == 0;
    }
    if (rc == AHA_ERR_NOMEM || rc == AHA_ERR_IO) {
        if (e) *e = r->recipe_error;
        return rc;
    }
    return 0;
}

int report_read(Report *r, const char *dir, aha_error *e)
{
    char   path[4096];
    char  *text = NULL;
    size_t n = 0;
    r->seed = r->parameters = r->active = r->threads = NAN;
    int rc = path_join(path, sizeof path, dir, "recipe.ini", e);
    if (!rc) rc = read_recipe(r, path, e);
    if (!rc) rc = path_join(path, sizeof path, dir, "metrics.jsonl", e);
    if (!rc) rc = file_read_all(path, METRICS_BYTES_MAX, &text, &n, e);
    if (!rc && r->has_recipe) tracks_of_recipe(r);
    if (!rc) rc = read_metrics(r, text, n, e);
    mem_free(text);
    if (rc) return rc;
    if (e) *e = (aha_error){0}; /* what was said about skipped lines */
    for (int i = 0; i < r->n_track; i++)
        if (r->track[i].kind == STAGE_COUNT && r->track[i].n_measure) r->track[i].kind = STAGE_EVAL;
    return 0;
}

void report_free(Report *r)
{
    for (int i = 0; i < r->n_track; i++) {
        Track *t = &r->track[i];
        mem_free(t->point);
        mem_free(t->measure);
        traces_free(&t->first);
        traces_free(&t->last);
    }
    if (r->has_recipe) recipe_free(&r->recipe);
    mem_free(r->recipe_text);
}
