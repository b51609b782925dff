/* aha bench: how fast prompts are read and answers written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "model_open.h"

enum { REPEAT_MAX = 1000 };

typedef struct BenchArgs {
    ModelArgs model;
    int       prompt, n, batch, repeat;
    bool      json;
} BenchArgs;

typedef struct Speeds { /* tokens per second, sorted */
    double v[REPEAT_MAX];
    int    n;
} Speeds;

typedef struct Measured {
    const BenchArgs *a;
    ModelSet        *s;
    Speeds           prompt, generate;
    double           stolen, load;
} Measured;

static const Help HELP = {
    "bench", "[-m DIR] [OPTIONS]",
    "Measures tokens per second: reading prompts of random tokens that nobody read before, and then generating after them. Each "
    "repetition does both; shown are the median, the slowest and the fastest. Time that the host of a virtual machine took away is "
    "shown too: with more than a little of it the numbers mean little.",
    "  aha bench -m MODEL\n"
    "  aha bench -m MODEL -p 2048 -n 128 --batch 8\n"
    "  aha bench --cpu ref --json\n"};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const Speeds *s) { return s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2; }

static int repetition(Measured *m, bool counts, aha_error *e)
{
    Bench b = {.n_prompt = m->a->prompt, .n_new = m->a->n + 1, .n_seqs = m->a->batch}; /* the first token belongs to the prompt */
    int   rc = engine_bench(m->s->engine, m->s->m, &b, e);
    if (rc || !counts) return rc;
    m->prompt.v[m->prompt.n++] = (double)b.prompt_tokens / b.prompt_s;
    m->generate.v[m->generate.n++] = (double)b.new_tokens / b.new_s;
    return 0;
}

static int measure(Measured *m, aha_error *e)
{
    Progress  bar;
    StolenTime before = stolen_time();
    int       rc = 0;
    m->load = machine_load();
    progress_start(&bar, "bench");
    for (int i = 0; i <= m->a->repeat && rc == 0; i++) { /* the first one warms up */
        rc = repetition(m, i > 0, e);
        progress_show(&bar, i + 1, m->a->repeat + 1, -1, NULL);
    }
    progress_end(&bar);
    m->stolen = stolen_share(before, stolen_time());
    qsort(m->prompt.v, (size_t)m->prompt.n, sizeof(double), by_value);
    qsort(m->generate.v, (size_t)m->generate.n, sizeof(double), by_value);
    return rc;
}

static void show_text(const Measured *m)
{
    char             all[32], active[32], bytes[32];
    const ModelSet  *s = m->s;
    const BenchArgs *a = m->a;
    out_fmt("%s: %s parameters (%s used for a token), %s of weights\n", s->path, count_words(all, (double)s->params),
            count_words(active, (double)s->params_active), bytes_words(bytes, (double)weights_bytes(s->m->file)));
    out_fmt("%s, %d thread%s, keys and values in %s, batch of %d, %d repetition%s\n\n", s->k->isa, pool_threads(s->pool),
            pool_threads(s->pool) == 1 ? "" : "s", a->model.kv, a->batch, a->repeat, a->repeat == 1 ? "" : "s");
    out_fmt("  %-16s %10s %10s %10s\n", "tokens/s", "median", "slowest", "fastest");
    const Speeds *row[] = {&m->prompt, &m->generate};
    const char   *name[] = {"prompt", "generate"};
    for (int i = 0; i < 2; i++) {
        char what[32];
        snprintf(what, sizeof what, "%s %d", name[i], i ? a->n : a->prompt);
        out_fmt("  %-16s %10.1f %10.1f %10.1f\n", what, median(row[i]), row[i]->v[0], row[i]->v[row[i]->n - 1]);
    }
    if (m->stolen < 0)
        out_str("\n  stolen time is not known here\n");
    else
        out_fmt("\n  stolen by the host: %.1f%%%s\n", 100 * m->stolen, m->stolen > 0.02 ? "  (measure again when it is quiet)" : "");
    if (m->load > 0.5 * os_cpus_usable()) out_fmt("  the machine was busy before (load %.1f): the speeds may be too low\n", m->load);
}

static void add_speeds(Buf *j, const char *name, int tokens, const Speeds *s)
{
    buf_fmt(j, ",\"%s\":{\"tokens\":%d,\"median\":%.6g,\"min\":%.6g,\"max\":%.6g}", name, tokens, median(s), s->v[0], s->v[s->n - 1]);
}

static void show_json(const Measured *m)
{
    Buf              j = {0};
    const ModelSet  *s = m->s;
    const BenchArgs *a = m->a;
    buf_str(&j, "{\"model\":");
    buf_json(&j, s->path, strlen(s->path));
    buf_fmt(&j, ",\"parameters\":%lld,\"parameters_active\":%lld,\"weights_bytes\":%zu,\"isa\":\"%s\",\"threads\":%d,\"kv\":\"%s\",\"batch\":%d,"
                "\"repetitions\":%d,\"unit\":\"tokens/s\"",
            (long long)s->params, (long long)s->params_active, weights_bytes(s->m->file), s->k->isa, pool_threads(s->pool), a->model.kv,
            a->batch, a->repeat);
    add_speeds(&j, "prompt", a->prompt, &m->prompt);
    add_speeds(&j, "generate", a->n, &m->generate);
    if (m->stolen < 0)
        buf_str(&j, ",\"stolen\":null");
    else
        buf_fmt(&j, ",\"stolen\":%.4f", m->stolen);
    buf_fmt(&j, ",\"load\":%.2f}\n", m->load);
    out_buf(&j);
    buf_free(&j);
}

static int bench(Measured *m, BenchArgs *a, aha_error *e)
{
    int64_t needed = (int64_t)a->prompt + a->n + 1;
    int     rc;
    if (!a->model.ctx) a->model.ctx = needed < 16 ? 16 : needed;
    if (needed > a->model.ctx)
        return error_set(e, AHA_ERR_ARG, "-p %d and -n %d need %lld positions, --ctx is %lld", a->prompt, a->n, (long long)needed, (long long)a->model.ctx);
    if (needed > m->s->cfg.max_pos)
        return error_set(e, AHA_ERR_ARG, "-p %d and -n %d need %lld positions, this model has %d", a->prompt, a->n, (long long)needed, m->s->cfg.max_pos);
    rc = model_set_engine(m->s, &a->model, a->batch, 0, e);
    if (rc == 0) rc = measure(m, e);
    if (rc) return rc;
    if (a->json)
        show_json(m);
    else
        show_text(m);
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    BenchArgs a = {.model = MODEL_ARGS_INIT, .prompt = 512, .n = 64, .batch = 1, .repeat = 5};
    ModelSet  s;
    Measured *m;
    aha_error e = {0};
    const Option options[] = {
        OPT_GROUP("What is measured"),
        OPT_MODEL(&a.model),
        OPT_INT('p', "prompt", &a.prompt, 1, 1 << 20, "N", "tokens of each prompt"),
        OPT_INT('n', "tokens", &a.n, 1, 1 << 20, "N", "tokens generated after it"),
        OPT_INT(0, "batch", &a.batch, 1, 1024, "B", "sequences at once"),
        OPT_INT('r', "repeat", &a.repeat, 1, REPEAT_MAX, "N", "repetitions, after one that warms up"),
        OPT_FLAG(0, "json", &a.json, "one JSON object"),
        OPT_ENGINE(&a.model),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (model_set_open(&s, &a.model, MODEL_WEIGHTS, &e)) return fail(&e);
    builtin_introduce(&s);
    m = mem_zalloc(1, sizeof *m);
    if (m) *m = (Measured){.a = &a, .s = &s};
    status = (m ? bench(m, &a, &e) : error_set(&e, AHA_ERR_NOMEM, "no memory")) ? fail(&e) : CLI_DONE;
    mem_free(m);
    model_set_free(&s);
    return status;
}
