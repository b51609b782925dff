/* aha eval: accuracy on held-out problems whose answers a rule judges, with the interval that goes with it. */
#include <stdio.h>
#include <string.h>

#include "../learn/learn.h"
#include "model_open.h"

enum { PROMPT_ROOM = 512, SEQS_MAX = 256 };

typedef struct EvalArgs {
    ModelArgs   model;
    int         n, samples, max_tokens, examples;
    double      temperature, top_p;
    uint64_t    seed;
    const char *think;
    int         budget; /* -1: none */
    bool        json, train, has_seed;
    Variant     variant;
    const Engine *engine;
    Progress    bar;
    int         done, judged, right; /* answers */
} EvalArgs;

static const Help HELP = {
    "eval", "TASK [-m DIR] [OPTIONS]",
    "Asks problems that were held out of all training and judges the answers by rule. pass@1 comes with its 95% interval over the "
    "problems; with several samples of each problem pass@k and the majority's accuracy too. The same seed gives the same problems "
    "and the same answers.",
    "  aha eval countdown\n"
    "  aha eval countdown -m runs/laptop/rl --n 1000 --temperature 0.6\n"
    "  aha eval countdown -m runs/laptop/base --n 200 --samples 64 --json\n"
    "  aha eval countdown --examples 3     shows three answers\n"
    "  aha eval countdown --variant large\n"
    "  aha eval perplexity FILE            how well a text is predicted; aha eval perplexity --help\n"
    "  aha eval kl -m Q4.gguf --base DIR FILE   what quantising changed; aha eval kl --help\n"};

static void on_progress(void *user, int done, int total, int judged, int right)
{
    EvalArgs *a = user;
    (void)total;
    a->done = done;
    a->judged = judged;
    a->right = right;
}

/* Asked at every step, while answers are judged by the hundred: the tokens so far say how far the ones under way are. */
static bool on_stop(void *user)
{
    EvalArgs *a = user;
    char      line[96], tokens[32];
    int       total = a->n * a->samples;
    count_words(tokens, (double)engine_stats(a->engine).new_tokens);
    if (a->judged)
        snprintf(line, sizeof line, "%d of %d answers, %.1f%% right, %s tokens", a->done, total, 100.0 * a->right / a->judged, tokens);
    else
        snprintf(line, sizeof line, "%d of %d answers, %s tokens", a->done, total, tokens);
    progress_show(&a->bar, a->done, total, -1, line);
    return interrupted() != 0;
}

static void show_examples(const EvalResult *r)
{
    for (int i = 0; i < r->n_example; i++) {
        const EvalExample *x = &r->example[i];
        out_fmt("\n--- %d, %s\n", i + 1, x->correct ? "right" : "wrong");
        out_text(x->prompt, strlen(x->prompt));
        out_str("\n<think>\n");
        out_text(x->thinking, strlen(x->thinking));
        out_str("\n</think>\n\n");
        out_text(x->answer, strlen(x->answer));
        out_str("\n");
    }
}

static void show_text(const EvalArgs *a, const Task *t, const ModelSet *s, const EvalResult *r)
{
    char time[32];
    out_fmt("%s, %s%s%s: %d %s problems, %d answer%s each, temperature %g, top-p %g, at most %d tokens, seed %llu\n", s->path, t->name,
            a->variant ? ", variant " : "", a->variant ? variant_name(a->variant) : "", r->n, a->train ? "training" : "held-out", r->samples, r->samples > 1 ? "s" : "", a->temperature, a->top_p, a->max_tokens,
            (unsigned long long)a->seed);
    out_fmt("  pass@1              %5.1f%%   (95%%: %.1f to %.1f)\n", 100 * r->pass1.p, 100 * r->pass1.lo, 100 * r->pass1.hi);
    for (int i = 0; i < r->n_k; i++)
        if (r->k[i] > 1) out_fmt("  pass@%-4d           %5.1f%%\n", r->k[i], 100 * r->pass_k[i]);
    if (r->samples > 1) out_fmt("  majority            %5.1f%%\n", 100 * r->maj);
    out_fmt("  well formed         %5.1f%%\n  cut short           %5.1f%%\n  thinking            %5.0f tokens\n", 100 * r->well_formed,
            100 * r->truncated, r->thinking);
    out_fmt("  gives up            %5.1f%%\n  answers at once     %5.1f%%\n  checks              %5.1f%%\n", 100 * r->gives_up,
            100 * r->no_thinking, 100 * r->checks);
    out_fmt("  wrong equations     %5.1f%%   of those written\n  right with a slip   %5.1f%%   right answers whose thinking holds a wrong equation\n",
            100 * r->wrong_equations, 100 * r->false_right);
    out_fmt("  %s, %.0f tokens/s\n", time_words(time, r->seconds), r->seconds > 0 ? (double)r->tokens / r->seconds : 0.0);
    show_examples(r);
}

static void show_json(const EvalArgs *a, const Task *t, const ModelSet *s, const EvalResult *r)
{
    Buf b = {0};
    buf_str(&b, "{\"model\":");
    buf_json(&b, s->path, strlen(s->path));
    buf_fmt(&b, ",\"task\":\"%s\",\"split\":\"%s\",\"variant\":", t->name, a->train ? "train" : "held_out");
    if (a->variant)
        buf_fmt(&b, "\"%s\"", variant_name(a->variant));
    else
        buf_str(&b, "null");
    buf_fmt(&b, ",\"seed\":%llu,\"temperature\":%g,\"top_p\":%g,\"max_tokens\":%d,\"isa\":\"%s\",", (unsigned long long)a->seed, a->temperature,
            a->top_p, a->max_tokens, s->k->isa);
    eval_result_json(r, &b);
    if (r->n_example) {
        buf_str(&b, ",\"examples\":[");
        for (int i = 0; i < r->n_example; i++) {
            const EvalExample *x = &r->example[i];
            buf_str(&b, i ? ",{\"prompt\":" : "{\"prompt\":");
            buf_json(&b, x->prompt, strlen(x->prompt));
            buf_str(&b, ",\"thinking\":");
            buf_json(&b, x->thinking, strlen(x->thinking));
            buf_str(&b, ",\"answer\":");
            buf_json(&b, x->answer, strlen(x->answer));
            buf_fmt(&b, ",\"correct\":%s}", x->correct ? "true" : "false");
        }
        buf_str(&b, "]");
    }
    buf_str(&b, "}\n");
    out_buf(&b);
    buf_free(&b);
}

static int eval(EvalArgs *a, const Task *t, ModelSet *s, aha_error *e)
{
    int64_t     answers = (int64_t)a->n * a->samples;
    int         seqs = answers < SEQS_MAX ? (int)answers : SEQS_MAX, rc;
    EvalOptions o = {.task = t, .variant = a->variant, .n = a->n, .samples = a->samples, .temperature = a->temperature,
                     .top_p = a->top_p, .max_new = a->max_tokens, .seed = a->seed, .train_split = a->train, .examples = a->examples,
                     .think = a->budget >= 0 ? &s->words.think : NULL, .think_budget = a->budget, .progress = on_progress, .stop = on_stop,
                     .user = a};
    EvalResult  r = {0};
    if (!a->model.ctx) {
        a->model.ctx = a->max_tokens + PROMPT_ROOM;
        if (a->model.ctx > s->cfg.max_pos) a->model.ctx = s->cfg.max_pos;
    }
    if (o.max_new > a->model.ctx - 16)
        return error_set(e, AHA_ERR_ARG, "--max-tokens is %d, the context holds %lld, the problem included", o.max_new, (long long)a->model.ctx);
    rc = model_set_engine(s, &a->model, seqs, 0, e);
    interrupt_watch(true);
    a->engine = s->engine;
    progress_start(&a->bar, "%s", t->name);
    if (rc == 0) rc = evaluate(&r, s->engine, s->words.tok, s->words.form, &o, e);
    progress_end(&a->bar);
    if (rc == 0) {
        if (a->json)
            show_json(a, t, s, &r);
        else
            show_text(a, t, s, &r);
    }
    eval_result_free(&r);
    return rc;
}

static int wrong_task(const char *name)
{
    aha_error          e = {0};
    int                n;
    const Task *const *all = task_all(&n);
    if (name) task_find(name, &e);
    say("%s; tasks are:", name ? e.text : "a task is expected");
    for (int i = 0; i < n; i++) say_plain("  %-14s %s", all[i]->name, all[i]->help);
    say_plain("  %-14s %s", "perplexity", "how well a text is predicted; stands first, as in: aha eval perplexity FILE");
    say_plain("  %-14s %s", "kl", "how far a model's predictions are from another's; stands first too");
    return CLI_USAGE;
}

int cmd_eval(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "perplexity") || !strcmp(argv[1], "kl"))) return cmd_eval_text(argc - 1, argv + 1);
    EvalArgs    a = {.model = MODEL_ARGS_INIT, .n = 500, .samples = 1, .max_tokens = 1024, .budget = -1, .temperature = 0.6, .top_p = 1, .seed = 1};
    ModelSet    s;
    aha_error   e = {0};
    const char *name = NULL, *variant = NULL;
    const Task *t;
    int         rc;
    const Option options[] = {
        OPT_GROUP("The problems"),
        OPT_MODEL(&a.model),
        OPT_INT('n', "n", &a.n, 1, 1000000, "N", "problems"),
        OPT_INT(0, "samples", &a.samples, 1, 1024, "K", "answers to each"),
        OPT_FLOAT('t', "temperature", &a.temperature, 0, 100, "T", "of sampling; 0: always the likeliest token"),
        OPT_FLOAT(0, "top-p", &a.top_p, 1e-6, 1, "P", "of sampling; 1: off"),
        OPT_INT(0, "max-tokens", &a.max_tokens, 1, 1 << 20, "N", "of thinking and answer; one that is cut short is wrong"),
        OPT_STRING(0, "think", &a.think, "N|low|medium|high|off", "tokens of thinking, then it is closed and the answer must come; low is a "
                   "fifth of --max-tokens, medium half, high four fifths"),
        OPT_SEED("seed", &a.seed, &a.has_seed, "of problems and answers; without it 1"),
        OPT_STRING(0, "variant", &variant, "NAME", "free: worded as people type; wording: in words that no training shows; large: with numbers beyond training's"),
        OPT_FLAG(0, "train-split", &a.train, "problems of the kind that training saw, instead of held-out ones"),
        OPT_INT(0, "examples", &a.examples, 0, 1000, "N", "show so many answers with their thinking"),
        OPT_FLAG(0, "json", &a.json, "the result as one JSON object"),
        OPT_ENGINE(&a.model),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, &name, 1, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (!name || !(t = task_find(name, &e))) return wrong_task(name);
    if (variant_find(variant, &a.variant, &e)) {
        say("--variant: %s", e.text);
        return CLI_USAGE;
    }
    if (a.think && think_budget(a.think, a.max_tokens, &a.budget, &e)) return fail_usage("--think: %s", e.text);
    if (a.examples > a.n) a.examples = a.n;
    if ((rc = model_set_open(&s, &a.model, MODEL_WEIGHTS | MODEL_NEEDS_TEXT, &e)) != 0) return fail(&e);
    builtin_introduce(&s);
    rc = eval(&a, t, &s, &e);
    status = rc ? fail(&e) : CLI_DONE;
    model_set_free(&s);
    return status;
}
