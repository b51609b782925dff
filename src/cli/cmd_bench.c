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

typedef struct Bench {
    BenchArgs *a;
    ModelSet  *s;
    int32_t   *ids; /* [batch, prompt] */
    Seq      **seq; /* [batch] */
    Rng        rng;
    uint64_t   first_ns;     /* when the last of the batch got its first token */
    int64_t    first_tokens; /* the engine's count of tokens then */
    int        started;
    Speeds     prompt, generate;
    double     stolen, load;
} Bench;

static const Help HELP = {
    "bench", "[-m DIR] [OPTIONS]",
    "Measures tokens per second: reading prompts of random tokens that nobody read before, and then generating after them. Each "
    "repetition does both; shown are the median, the slowest and the fastest. Time that the host of a virtual machine took away is "
    "shown too: with more than a little of it the numbers mean little.",
    "  aha bench -m MODEL\n"
    "  aha bench -m MODEL -p 2048 -n 128 --batch 8\n"
    "  aha bench --cpu ref --json\n"};

static void on_token(void *user, Seq *s, int32_t token, float logp)
{
    Bench *b = user;
    int    n;
    (void)token, (void)logp;
    seq_tokens(s, &n);
    if (n != 1 || ++b->started < b->a->batch) return;
    b->first_ns = time_now_ns();
    b->first_tokens = engine_stats(b->s->engine).new_tokens;
}

/* One batch of the prompts, max_new tokens after each; the prompts of a repetition are found again in the cache. */
static int run_batch(Bench *b, int max_new, aha_error *e)
{
    int rc = 0;
    b->started = 0;
    for (int i = 0; i < b->a->batch && rc == 0; i++) {
        SeqRequest r = {.prompt = b->ids + (size_t)i * (size_t)b->a->prompt, .n_prompt = b->a->prompt, .max_new = max_new,
                        .sample = {0.6f, 0.95f, 0, 0, b->rng.seed, (uint64_t)i}, .on_token = on_token, .user = b};
        rc = engine_submit(b->s->engine, &r, &b->seq[i], e);
    }
    while (rc >= 0 && !interrupted() && (rc = engine_step(b->s->engine, e)) > 0) {}
    for (int i = 0; i < b->a->batch; i++) {
        if (rc == 0 && !interrupted() && seq_finish(b->seq[i]) == SEQ_FINISH_ERROR)
            rc = error_set(e, AHA_ERR_INTERNAL, "the model gave no number: its weights are broken");
        seq_free(b->seq[i]);
        b->seq[i] = NULL;
    }
    if (interrupted()) return error_set(e, AHA_ERR_CANCELLED, "stopped");
    return rc < 0 ? rc : 0;
}

static int repetition(Bench *b, bool counts, aha_error *e)
{
    uint64_t start;
    double   prompt_s, generate_s;
    int      rc;
    for (int i = 0; i < b->a->batch * b->a->prompt; i++) b->ids[i] = (int32_t)rng_below(&b->rng, (uint32_t)b->s->cfg.vocab);
    start = time_now_ns();
    if ((rc = run_batch(b, 1, e)) != 0) return rc;
    prompt_s = (double)(time_now_ns() - start) / 1e9;
    if ((rc = run_batch(b, b->a->n + 1, e)) != 0) return rc;
    generate_s = (double)(time_now_ns() - b->first_ns) / 1e9;
    if (!counts) return 0;
    b->prompt.v[b->prompt.n++] = (double)b->a->batch * b->a->prompt / prompt_s;
    b->generate.v[b->generate.n++] = (double)(engine_stats(b->s->engine).new_tokens - b->first_tokens) / generate_s;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const Speeds *s) { return s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2; }

static int measure(Bench *b, aha_error *e)
{
    Progress  bar;
    StolenTime before = stolen_time();
    int       rc = 0;
    b->load = machine_load();
    progress_start(&bar, "bench");
    for (int i = 0; i <= b->a->repeat && rc == 0; i++) { /* the first one warms up */
        rc = repetition(b, i > 0, e);
        progress_show(&bar, i + 1, b->a->repeat + 1, -1, NULL);
    }
    progress_end(&bar);
    b->stolen = stolen_share(before, stolen_time());
    qsort(b->prompt.v, (size_t)b->prompt.n, sizeof(double), by_value);
    qsort(b->generate.v, (size_t)b->generate.n, sizeof(double), by_value);
    return rc;
}

static void show_text(const Bench *b)
{
    char             all[32], active[32], bytes[32];
    const ModelSet  *s = b->s;
    const BenchArgs *a = b->a;
    out_fmt("%s: %s parameters (%s used for a token), %s of weights\n", s->path, count_words(all, (double)s->params),
            count_words(active, (double)s->params_active), bytes_words(bytes, (double)weights_bytes(s->m->file)));
    out_fmt("%s, %d thread%s, keys and values in %s, batch of %d, %d repetition%s\n\n", s->k->isa, pool_threads(s->pool),
            pool_threads(s->pool) == 1 ? "" : "s", a->model.kv, a->batch, a->repeat, a->repeat == 1 ? "" : "s");
    out_fmt("  %-16s %10s %10s %10s\n", "tokens/s", "median", "slowest", "fastest");
    const Speeds *row[] = {&b->prompt, &b->generate};
    const char   *name[] = {"prompt", "generate"};
    for (int i = 0; i < 2; i++) {
        char what[32];
        snprintf(what, sizeof what, "%s %d", name[i], i ? a->n : a->prompt);
        out_fmt("  %-16s %10.1f %10.1f %10.1f\n", what, median(row[i]), row[i]->v[0], row[i]->v[row[i]->n - 1]);
    }
    if (b->stolen < 0)
        out_str("\n  stolen time is not known here\n");
    else
        out_fmt("\n  stolen by the host: %.1f%%%s\n", 100 * b->stolen, b->stolen > 0.02 ? "  (measure again when it is quiet)" : "");
    if (b->load > 0.5 * os_cpus_usable()) out_fmt("  the machine was busy before (load %.1f): the speeds may be too low\n", b->load);
}

static void add_speeds(Buf *j, const char *name, int tokens, const Speeds *s)
{
    buf_fmt(j, ",\"%s\":{\"tokens\":%d,\"median\":%.6g,\"min\":%.6g,\"max\":%.6g}", name, tokens, median(s), s->v[0], s->v[s->n - 1]);
}

static void show_json(const Bench *b)
{
    Buf              j = {0};
    const ModelSet  *s = b->s;
    const BenchArgs *a = b->a;
    buf_str(&j, "{\"model\":");
    buf_json(&j, s->path, strlen(s->path));
    buf_fmt(&j, ",\"parameters\":%lld,\"parameters_active\":%lld,\"weights_bytes\":%zu,\"isa\":\"%s\",\"threads\":%d,\"kv\":\"%s\",\"batch\":%d,"
                "\"repetitions\":%d,\"unit\":\"tokens/s\"",
            (long long)s->params, (long long)s->params_active, weights_bytes(s->m->file), s->k->isa, pool_threads(s->pool), a->model.kv,
            a->batch, a->repeat);
    add_speeds(&j, "prompt", a->prompt, &b->prompt);
    add_speeds(&j, "generate", a->n, &b->generate);
    if (b->stolen < 0)
        buf_str(&j, ",\"stolen\":null");
    else
        buf_fmt(&j, ",\"stolen\":%.4f", b->stolen);
    buf_fmt(&j, ",\"load\":%.2f}\n", b->load);
    out_buf(&j);
    buf_free(&j);
}

static int bench(Bench *b, aha_error *e)
{
    BenchArgs *a = b->a;
    size_t     n = (size_t)a->batch * (size_t)a->prompt;
    int64_t    needed = (int64_t)a->prompt + a->n + 1;
    int        rc;
    if (!a->model.ctx) a->model.ctx = needed < 16 ? 16 : needed;
    if (needed > a->model.ctx)
        return error_set(e, AHA_ERR_ARG, "-p %d and -n %d need %lld positions, --ctx is %lld", a->prompt, a->n, (long long)needed, (long long)a->model.ctx);
    if (needed > b->s->cfg.max_pos)
        return error_set(e, AHA_ERR_ARG, "-p %d and -n %d need %lld positions, this model has %d", a->prompt, a->n, (long long)needed, b->s->cfg.max_pos);
    b->rng = (Rng){.seed = 1};
    b->ids = mem_zalloc(n, sizeof *b->ids);
    b->seq = mem_zalloc((size_t)a->batch, sizeof *b->seq);
    if (!b->ids || !b->seq) return error_set(e, AHA_ERR_NOMEM, "no memory for %zu tokens", n);
    rc = model_set_engine(b->s, &a->model, a->batch, 0, e);
    interrupt_watch(true);
    if (rc == 0) rc = measure(b, e);
    if (rc) return rc;
    if (a->json)
        show_json(b);
    else
        show_text(b);
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    BenchArgs a = {.model = MODEL_ARGS_INIT, .prompt = 512, .n = 64, .batch = 1, .repeat = 5};
    ModelSet  s;
    Bench    *b;
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
    b = mem_zalloc(1, sizeof *b);
    if (b) *b = (Bench){.a = &a, .s = &s};
    status = (b ? bench(b, &e) : error_set(&e, AHA_ERR_NOMEM, "no memory")) ? fail(&e) : CLI_DONE;
    if (b) {
        mem_free(b->ids);
        mem_free(b->seq);
    }
    mem_free(b);
    model_set_free(&s);
    return status;
}
