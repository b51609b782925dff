/* aha learn: a recipe, from random weights to a report; a bar for each stage. */
#include "../learn/learn.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model_open.h"
#include "options.h"

enum { PATH_CAP = 1024 };

typedef struct LearnArgs {
    const char *out, *until, *cpu;
    int         threads;
    bool        fresh, paper, keys, verbose, has_seed;
    uint64_t    seed;
} LearnArgs;

static const Help HELP = {
    "learn", "RECIPE [OPTIONS]",
    "Trains by a recipe: a readable file that names the stages, their data, seeds and budgets. RECIPE is the file, with or without "
    "its .ini, or the name of one in recipes/. The run's folder gets a Hugging Face model per stage, metrics.jsonl and report.html. "
    "A run that was stopped (Ctrl-C) or killed goes on where it was when the same command is given again, to the same bits.",
    "  aha learn laptop\n"
    "  aha learn laptop --out runs/second --seed 2\n"
    "  aha learn laptop --until base\n"
    "  aha learn laptop --paper --out runs/paper\n"
    "  aha learn --keys            every key of a recipe\n"};

/* ---- the recipe's file ---- */
static bool recipe_at(const char *format, const char *name, char path[PATH_CAP])
{
    int n = snprintf(path, PATH_CAP, format, name);
    return n > 0 && n < PATH_CAP && file_exists(path);
}

/* false, after saying which there are, when there is none of that name. */
static bool recipe_find(const char *name, char path[PATH_CAP])
{
    char **names;
    int    n;
    Buf    b = {0};
    if (recipe_at("%s", name, path) || recipe_at("%s.ini", name, path)) return true;
    if (!strchr(name, '/') && (recipe_at("recipes/%s.ini", name, path) || recipe_at("recipes/%s", name, path))) return true;
    if (dir_list("recipes", &names, &n, NULL) == 0) {
        for (int i = 0; i < n; i++) {
            size_t len = strlen(names[i]);
            if (len > 4 && !strcmp(names[i] + len - 4, ".ini")) buf_fmt(&b, "%s%.*s", b.n ? ", " : "", (int)len - 4, names[i]);
        }
        mem_free(names);
    }
    say("there is no recipe '%.200s'%s%s", name, b.n ? "; recipes/ holds: " : "", b.n ? b.data : "");
    buf_free(&b);
    return false;
}

static int check_until(const Recipe *r, const char *until)
{
    const char *names[RECIPE_STAGES_MAX], *near;
    for (int i = 0; i < r->n_stage; i++) {
        if (!strcmp(until, r->stage[i].name)) return CLI_DONE;
        names[i] = r->stage[i].name;
    }
    near = name_nearest(until, names, r->n_stage);
    return fail_usage("--until: the recipe has no stage '%.60s'%s%s%s", until, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int show_keys(void)
{
    int              n;
    const RecipeKey *k = recipe_keys(&n);
    const char      *section = "";
    for (int i = 0; i < n; i++) {
        if (strcmp(section, k[i].section) != 0) {
            section = k[i].section;
            out_fmt("%s[%s]\n", i ? "\n" : "", *section ? section : "recipe");
        }
        out_fmt("  %-16s %s\n", k[i].name, k[i].help);
    }
    return CLI_DONE;
}

/* ---- progress ---- */
typedef struct Stages {
    Progress bar;
    char     name[48], line[160];
    double   elapsed_s;
} Stages;

static void stage_done(Stages *s)
{
    char time[32];
    if (!s->name[0]) return;
    progress_end(&s->bar);
    say("%s: %s  %s", s->name, time_words(time, s->elapsed_s), s->line);
    s->name[0] = 0;
}

static void on_progress(void *user, const LearnProgress *p)
{
    Stages *s = user;
    if (strcmp(s->name, p->stage) != 0) {
        stage_done(s);
        snprintf(s->name, sizeof s->name, "%s", p->stage);
        progress_start(&s->bar, "%s (%s)", p->stage, stage_kind_name(p->kind));
    }
    snprintf(s->line, sizeof s->line, "%s", p->line);
    s->elapsed_s = p->elapsed_s;
    progress_show(&s->bar, p->done, p->total, p->left_s, p->line);
}

static bool on_stop(void *user)
{
    static bool said;
    (void)user;
    if (interrupted() && !said) say("stopping; a checkpoint is written (once more Ctrl-C: at once, back to the last one)");
    said = interrupted() != 0;
    return said;
}

/* ---- the run ---- */
static bool resumes(const char *dir)
{
    char path[PATH_CAP];
    return path_join(path, sizeof path, dir, "checkpoint/latest.json", NULL) == 0 && file_exists(path);
}

static void show_results(const Recipe *r, const char *dir)
{
    char path[PATH_CAP], config[PATH_CAP + 16];
    if (path_join(path, sizeof path, dir, "report.html", NULL) == 0 && file_exists(path)) out_fmt("report: %s\n", path);
    for (int i = 0; i < r->n_stage; i++) {
        if (path_join(path, sizeof path, dir, r->stage[i].name, NULL)) continue;
        snprintf(config, sizeof config, "%s/config.json", path);
        if (file_exists(config)) out_fmt("model:  %s   (aha run -m %s)\n", path, path);
    }
}

/* The command that goes on: with what was asked for, but not --fresh. */
static void say_go_on(const LearnArgs *a, const char *recipe, const char *dir)
{
    char seed[40] = "";
    if (a->has_seed) snprintf(seed, sizeof seed, " --seed %llu", (unsigned long long)a->seed);
    say("to go on: aha learn %s --out %s%s%s%s%s", recipe, dir, seed, a->paper ? " --paper" : "", a->until ? " --until " : "",
        a->until ? a->until : "");
}

static void say_begin(const Recipe *r, const char *dir)
{
    Buf b = {0};
    for (int i = 0; i < r->n_stage; i++) buf_fmt(&b, "%s%s", i ? ", " : "", r->stage[i].name);
    if (r->title[0]) say("%s", r->title);
    say("stages: %s; into %s", b.n ? b.data : "none", dir);
    buf_free(&b);
}

static int learn(const LearnArgs *a, const Recipe *r, const char *recipe, const char *dir)
{
    Stages       s = {.name = ""};
    aha_error    e = {0};
    LearnOptions o = {.recipe = recipe, .out = dir, .until = a->until, .cpu = a->cpu ? a->cpu : knob_get("AHA_CPU"),
                      .threads = a->threads, .fresh = a->fresh, .paper = a->paper, .seed = a->seed, .has_seed = a->has_seed,
                      .progress = on_progress, .stop = on_stop, .user = &s};
    int          rc;
    interrupt_watch(true);
    if (!a->fresh && resumes(dir))
        say("going on with the run in %s (--fresh begins anew)", dir);
    else
        say_begin(r, dir);
    rc = learn_run(&o, &e);
    progress_end(&s.bar);
    if (rc == AHA_ERR_CANCELLED) {
        say("%s", e.text);
        say_go_on(a, recipe, dir);
        return CLI_FAILED;
    }
    if (rc) return fail(&e);
    stage_done(&s);
    show_results(r, dir);
    return CLI_DONE;
}

int cmd_learn(int argc, char **argv)
{
    LearnArgs   a = {0};
    Recipe      r;
    aha_error   e = {0};
    const char *name = NULL;
    char        recipe[PATH_CAP], dir[PATH_CAP];
    const Option options[] = {
        OPT_STRING('o', "out", &a.out, "DIR", "the run's folder; without it runs/NAME by the recipe's name"),
        OPT_STRING(0, "until", &a.until, "STAGE", "stop after this stage"),
        OPT_FLAG(0, "fresh", &a.fresh, "begin anew, even where an earlier run could go on"),
        OPT_FLAG(0, "paper", &a.paper, "reinforcement learning exactly as in the paper, whatever the recipe says"),
        OPT_SEED("seed", &a.seed, &a.has_seed, "instead of the recipe's"),
        OPT_FLAG(0, "keys", &a.keys, "list every key that a recipe can have"),
        OPT_INT(0, "threads", &a.threads, 0, 1024, "N", "threads to compute with; 0: all that this process may use. The result is the same"),
        OPT_CPU(&a),
        OPT_FLAG('v', "verbose", &a.verbose, "say more on standard error"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, &name, 1, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (a.verbose) cli_verbose();
    if (a.keys) return show_keys();
    if (!name) return fail_usage("a recipe is expected, as in: aha learn laptop");
    if (!recipe_find(name, recipe)) return CLI_FAILED;
    if (recipe_read(&r, recipe, &e)) return fail(&e);
    snprintf(dir, sizeof dir, a.out ? "%s" : "runs/%s", a.out ? a.out : r.name);
    status = a.until ? check_until(&r, a.until) : CLI_DONE;
    if (status == CLI_DONE) status = learn(&a, &r, recipe, dir);
    recipe_free(&r);
    return status;
}
