/* aha bench: how fast prompts are read and answers written, as a share of what the machine can do, beside another program.
 *
 * Repetition by repetition, every row in turn and then the peer, so that a machine whose speed changes changes it for all.  The limits
 * are read before and after each row: a share compares with what the machine could do in that very moment. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const Help HELP = {
    "bench", "[-m DIR] [OPTIONS]",
    "Measures tokens per second: reading prompts of random tokens that nobody read before, and generating, each at every batch and "
    "depth given. Shown are the median, the slowest and the fastest; and shares of what this machine can do at that time: of the "
    "memory's speed, when a token reads all weights it needs and all keys and values before it, and of the processor's "
    "multiplications (of bytes for types in blocks, else in f32). What lies before a depth is made up, not computed: the speed is the same. "
    "Repetitions of which the host of a virtual machine took more than 3% are made again.",
    "  aha bench -m MODEL\n"
    "  aha bench -m MODEL -p 2048 -n 128 --batch 1,4,16 --depth 0,8192\n"
    "  aha bench -m MODEL.gguf --peer llama.cpp/build/bin/llama-bench\n"
    "  aha bench --cpu ref --json\n"};

/* ---- series ---- */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void series_sort(Series *s)
{
    if (s->n) qsort(s->v, (size_t)s->n, sizeof *s->v, by_value);
}

double series_median(const Series *s) { return !s->n ? 0 : s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2; }
double series_min(const Series *s) { return s->n ? s->v[0] : 0; }
double series_max(const Series *s) { return s->n ? s->v[s->n - 1] : 0; }

/* ---- what the machine could do ---- */
enum { LIMITS_NS = 200 * 1000 * 1000 };
bool bench_on_bytes(const BenchRun *b) { return dtype_is_blocked(b->reads.dtype); }

double bench_attention_ops(const Config *c)
{
    int per_head = c->kv_lora ? 2 * c->kv_lora + c->rope_dim : 2 * c->head_dim; /* scores and values; MLA's on the latent */
    return 2.0 * per_head * c->n_head * c->n_layer;
}

/* Read again unless that was just now: a small model's rows take less time than that. */
static Limits limits(BenchRun *b)
{
    Limits l = b->last;
    if (b->last_ns && time_now_ns() - b->last_ns < LIMITS_NS) return l;
    b->last = l = meter_read(b->meter);
    b->last_ns = time_now_ns();
    if (b->memory.n == b->limits_max) return l;
    b->memory.v[b->memory.n++] = l.memory;
    b->fma.v[b->fma.n++] = l.fma;
    b->dot8.v[b->dot8.n++] = l.dot8;
    b->dot8_name = l.dot8_name;
    return l;
}

/* Bytes that a step reads when each of `batch` sequences generates a token: of the experts those that anybody chose, on average. */
static double step_bytes(const BenchRun *b, const BenchRow *r)
{
    const ModelReads *n = &b->reads;
    double            chosen = n->experts > 0 ? n->experts * (1 - pow(1 - n->routed / n->experts, r->batch)) : 0;
    return n->fixed + chosen + r->batch * n->kv_position * (r->depth + 1 + r->tokens / 2.0);
}

/* Operations a token takes in products with weights: the head's in a prompt only once. */
static double token_ops(const BenchRun *b, const BenchRow *r)
{
    const ModelReads *n = &b->reads;
    return 2 * (n->fixed_params + n->routed_params - (r->generate ? 0 : n->head_params * (1 - 1.0 / r->tokens)));
}

/* ---- a row, once ---- */
typedef struct Once {
    double speed, stolen;
    Limits before, after;
} Once;

static int run_row(BenchRun *b, const BenchRow *r, int tokens, uint64_t run, Once *o, aha_error *e)
{
    Bench      m = {.n_prompt = r->generate ? 1 : tokens, .n_new = r->generate ? tokens + 1 : 1, .n_seqs = r->batch, .depth = r->depth, .run = run};
    StolenTime from = stolen_time();
    int        rc = engine_bench(b->s->engine, b->s->m, &m, e);
    if (rc) return rc;
    o->stolen = stolen_share(from, stolen_time());
    o->speed = r->generate ? (double)m.new_tokens / m.new_s : (double)m.prompt_tokens / m.prompt_s;
    return 0;
}

/* Until the host leaves one alone; of those it disturbed, the least. */
static int measure_row(BenchRun *b, BenchRow *r, uint64_t *run, Limits *last, aha_error *e)
{
    Once best = {.stolen = 2};
    for (int i = 0; i < BENCH_TRIES && best.stolen > BENCH_STOLEN_MAX; i++) {
        Once o = {.before = *last};
        int  rc = run_row(b, r, r->tokens, ++*run, &o, e);
        if (rc) return rc;
        o.after = *last = limits(b);
        b->discarded += i > 0;
        if (o.stolen < best.stolen) best = o;
    }
    b->noisy += best.stolen > BENCH_STOLEN_MAX;
    if (best.stolen > b->stolen) b->stolen = best.stolen;
    double memory = (best.before.memory + best.after.memory) / 2;
    double ops = bench_on_bytes(b) ? (best.before.dot8 + best.after.dot8) / 2 : (best.before.fma + best.after.fma) / 2;
    r->speed.v[r->speed.n++] = best.speed;
    if (r->generate && memory > 0) r->memory.v[r->memory.n++] = best.speed / r->batch * step_bytes(b, r) / memory;
    if (ops > 0) r->arithmetic.v[r->arithmetic.n++] = best.speed * token_ops(b, r) / ops;
    return 0;
}

static int measure_peer(BenchRun *b, double *at, aha_error *e)
{
    double stolen = 2;
    for (int i = 0; i < BENCH_PEER_TRIES && stolen > BENCH_STOLEN_MAX; i++) {
        StolenTime from = stolen_time();
        int        rc = bench_peer(b, at, b->peer_build, sizeof b->peer_build, e);
        if (rc) return rc;
        stolen = stolen_share(from, stolen_time());
        b->discarded += i > 0;
    }
    b->noisy += stolen > BENCH_STOLEN_MAX;
    for (int i = 0; i < b->n_row; i++)
        if (at[i] > 0) b->row[i].peer.v[b->row[i].peer.n++] = at[i];
    return 0;
}

/* ---- all of them ---- */
/* The first token sets weights going to where products read them fastest; what is measured is what comes after that. */
static int wait_settled(const Model *m, aha_error *e)
{
    Waker *w = model_settled(m) ? NULL : waker_new(e);
    if (!w) return model_settled(m) ? 0 : AHA_ERR_NOMEM;
    while (!model_settled(m)) (void)waker_wait(w, 10);
    waker_free(w);
    return 0;
}

enum { WARM_PROMPT = 128, WARM_NEW = 4 };
static int warm_up(BenchRun *b, uint64_t *run, aha_error *e)
{
    Once o;
    int  rc = 0;
    for (int i = 0; i < b->n_row && rc == 0; i++) {
        int most = b->row[i].generate ? WARM_NEW : WARM_PROMPT;
        rc = run_row(b, &b->row[i], b->row[i].tokens < most ? b->row[i].tokens : most, ++*run, &o, e);
    }
    return rc ? rc : wait_settled(b->s->m, e);
}

static int measure(BenchRun *b, double *peer, aha_error *e)
{
    Progress bar;
    uint64_t run = 0;
    int      rc, done = 0, all = b->a->repeat * b->n_row;
    b->load = machine_load();
    b->stolen = -1;
    progress_start(&bar, "bench");
    rc = warm_up(b, &run, e);
    for (int k = 0; k < b->a->repeat && rc == 0; k++) {
        Limits last = limits(b);
        for (int i = 0; i < b->n_row && rc == 0; i++) {
            rc = measure_row(b, &b->row[i], &run, &last, e);
            progress_show(&bar, ++done, all, -1, NULL);
        }
        if (rc == 0 && b->a->peer) rc = measure_peer(b, peer, e);
    }
    progress_end(&bar);
    for (int i = 0; i < b->n_row; i++) {
        Series *s[] = {&b->row[i].speed, &b->row[i].memory, &b->row[i].arithmetic, &b->row[i].peer};
        for (size_t k = 0; k < ARRAY_LEN(s); k++) series_sort(s[k]);
    }
    series_sort(&b->memory);
    series_sort(&b->fma);
    series_sort(&b->dot8);
    return rc;
}

/* ---- rows ---- */
static int add_rows(const OptionInts *tokens, bool generate, int batch, int depth, BenchRow *row)
{
    int n = 0;
    for (int i = 0; i < tokens->n; i++)
        if (tokens->v[i] > 0) row[n++] = (BenchRow){.generate = generate, .tokens = tokens->v[i], .batch = batch, .depth = depth};
    return n;
}

static double *cut(double **from, int n)
{
    double *p = *from;
    *from += n;
    return p;
}

/* Rows with room for their numbers; *numbers is the block to free, which ends with one for each row. */
static int make_rows(BenchRun *b, double **numbers, aha_error *e)
{
    const BenchArgs *a = b->a;
    int              most = (a->prompt.n + a->n.n) * a->batch.n * a->depth.n, repeat = a->repeat;
    double          *at;
    b->row = mem_zalloc((size_t)most, sizeof *b->row);
    if (!b->row) return error_set(e, AHA_ERR_NOMEM, "no memory for %d rows", most);
    for (int d = 0; d < a->depth.n; d++)
        for (int s = 0; s < a->batch.n; s++) {
            b->n_row += add_rows(&a->prompt, false, a->batch.v[s], a->depth.v[d], b->row + b->n_row);
            b->n_row += add_rows(&a->n, true, a->batch.v[s], a->depth.v[d], b->row + b->n_row);
        }
    if (!b->n_row) return error_set(e, AHA_ERR_ARG, "-p 0 and -n 0: nothing is left to measure");
    b->limits_max = repeat * (1 + b->n_row * BENCH_TRIES);
    at = *numbers = mem_zalloc((size_t)(4 * b->n_row * repeat + 3 * b->limits_max + b->n_row), sizeof *at);
    if (!at) return error_set(e, AHA_ERR_NOMEM, "no memory for %d rows", b->n_row);
    for (int i = 0; i < b->n_row; i++) {
        b->row[i].speed.v = cut(&at, repeat);
        b->row[i].memory.v = cut(&at, repeat);
        b->row[i].arithmetic.v = cut(&at, repeat);
        b->row[i].peer.v = cut(&at, repeat);
    }
    b->memory.v = cut(&at, b->limits_max);
    b->fma.v = cut(&at, b->limits_max);
    b->dot8.v = cut(&at, b->limits_max);
    return 0;
}

static int largest(const OptionInts *l)
{
    int most = 0;
    for (int i = 0; i < l->n; i++)
        if (l->v[i] > most) most = l->v[i];
    return most;
}

static int open_engine(BenchRun *b, BenchArgs *a, aha_error *e)
{
    int     prompt = largest(&a->prompt), n = largest(&a->n), depth = largest(&a->depth);
    int64_t needed = (int64_t)depth + (prompt + 1 > n + 2 ? prompt + 1 : n + 2); /* a prompt gives a token; what is generated follows one */
    for (int i = 0; i < a->depth.n; i++)
        if (a->depth.v[i] % KV_PAGE) return error_set(e, AHA_ERR_ARG, "--depth is %d, expected multiples of %d", a->depth.v[i], KV_PAGE);
    if (!a->model.ctx) a->model.ctx = needed < 16 ? 16 : needed;
    if (needed > a->model.ctx)
        return error_set(e, AHA_ERR_ARG, "-p, -n and --depth need %lld positions, --ctx is %lld", (long long)needed, (long long)a->model.ctx);
    if (needed > b->s->cfg.max_pos)
        return error_set(e, AHA_ERR_ARG, "-p, -n and --depth need %lld positions, this model has %d", (long long)needed, b->s->cfg.max_pos);
    if (a->peer && !weights_is_gguf(b->s->m->file)) return error_set(e, AHA_ERR_ARG, "--peer: llama-bench reads GGUF files only, and '%.300s' is none", b->s->path);
    return model_set_engine(b->s, &a->model, largest(&a->batch), 0, e);
}

static int bench(BenchRun *b, BenchArgs *a, aha_error *e)
{
    double *numbers = NULL;
    int     rc = make_rows(b, &numbers, e);
    if (rc == 0) rc = open_engine(b, a, e);
    if (rc == 0) {
        model_reads(&b->reads, b->s->m);
        b->meter = meter_new(b->s->pool, b->s->k);
        rc = b->meter ? measure(b, numbers + 4 * b->n_row * a->repeat + 3 * b->limits_max, e) : error_set(e, AHA_ERR_NOMEM, "no memory");
    }
    if (rc == 0) (a->json ? bench_show_json : bench_show)(b);
    meter_free(b->meter);
    mem_free(numbers);
    mem_free(b->row);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    BenchArgs a = {.model = MODEL_ARGS_INIT, .prompt = {{512}, 1}, .n = {{64}, 1}, .batch = {{1}, 1}, .depth = {{0}, 1}, .repeat = 5};
    ModelSet  s;
    aha_error e = {0};
    const Option options[] = {
        OPT_GROUP("What is measured"),
        OPT_MODEL(&a.model),
        OPT_INTS('p', "prompt", &a.prompt, 0, 1 << 20, "N,...", "tokens of a prompt; 0: none"),
        OPT_INTS('n', "tokens", &a.n, 0, 1 << 20, "N,...", "tokens generated; 0: none"),
        OPT_INTS(0, "batch", &a.batch, 1, 1024, "B,...", "sequences at once"),
        OPT_INTS(0, "depth", &a.depth, 0, 1 << 20, "N,...", "positions before them, multiples of 32"),
        OPT_INT('r', "repeat", &a.repeat, 1, BENCH_REPEAT_MAX, "N", "repetitions, after a short one that warms up"),
        OPT_STRING(0, "peer", &a.peer, "PATH", "a llama-bench that is run in turn on the same GGUF file, with as many threads and the same "
                   "lengths (a batch of one): its speeds and the ratios are shown"),
        OPT_STRING(0, "peer-args", &a.peer_args, "WORDS", "more options for it, as '-fa 1 -ctk q8_0 -ctv q8_0'"),
        OPT_FLAG(0, "json", &a.json, "one JSON object"),
        OPT_ENGINE(&a.model),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (model_set_open(&s, &a.model, MODEL_WEIGHTS, &e)) return fail(&e);
    builtin_introduce(&s);
    BenchRun b = {.a = &a, .s = &s};
    status = bench(&b, &a, &e) ? fail(&e) : CLI_DONE;
    model_set_free(&s);
    return status;
}
