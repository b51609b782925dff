/* aha score: log-probabilities of given tokens (teacher forcing), and the logits themselves. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model_open.h"

typedef struct ScoreArgs {
    ModelArgs   model;
    const char *tokens, *logits;
} ScoreArgs;

static const Help HELP = {
    "score", "[-m DIR] --tokens 0,5,9|@FILE [--logits FILE]",
    "What the model thinks of given tokens: one JSON object with \"tokens\" and, as many, \"logprobs\": the natural logarithm of each "
    "token's probability after those before it (null for the first), and their \"sum\". Ids are separated by commas or blanks, or a "
    "JSON array; @- reads them from standard input.",
    "  aha score -m MODEL --tokens 0,5,9\n"
    "  echo \"Make 29 from 2, 8, 13.\" | aha tokenize | aha score --tokens @-\n"
    "  aha score -m MODEL --tokens @ids.txt --logits logits.f32     raw little-endian f32 [T, V]\n"};

/* ---- logits to a file: beside it first, so that a file of that name is always whole ---- */
typedef struct Sink {
    File       file;
    char       part[4096];
    bool       beside, open;
    int        vocab;
    Progress   bar;
    int        n;
    int        rc;
    aha_error *e;
} Sink;

static int sink_open(Sink *k, const char *path, aha_error *e)
{
    int n;
    k->beside = strncmp(path, "/dev/", 5) != 0 && !path_is_special(path, NULL); /* a FIFO is written to, not replaced */
    n = snprintf(k->part, sizeof k->part, "%s%s", path, k->beside ? ".part" : "");
    if (n < 0 || n >= (int)sizeof k->part) return error_set(e, AHA_ERR_LIMIT, "--logits: a name of %d bytes", n);
    n = file_create(&k->file, k->part, e);
    k->open = n == 0;
    return n;
}

static int sink_close(Sink *k, const char *path, int rc, aha_error *e)
{
    if (!k->open) return rc;
    file_close(&k->file);
    if (!k->beside) return rc;
    if (rc == 0) return file_rename(k->part, path, e);
    file_remove(k->part, NULL);
    return rc;
}

static void on_row(void *user, int i, const real *logits)
{
    Sink *k = user;
    _Static_assert(sizeof(real) == sizeof(float) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are written as they lie");
    if (k->open && k->rc == 0) k->rc = file_write(&k->file, logits, (size_t)k->vocab * sizeof *logits, k->e);
    progress_show(&k->bar, i + 1, k->n, -1, NULL);
}

static void show(const int32_t *id, int n, const float *logp)
{
    Buf    b = {0};
    double sum = 0;
    buf_str(&b, "{\"tokens\":[");
    for (int i = 0; i < n; i++) buf_fmt(&b, "%s%d", i ? "," : "", id[i]);
    buf_str(&b, "],\"logprobs\":[null");
    for (int i = 0; i + 1 < n; i++) {
        sum += (double)logp[i];
        if (isfinite(logp[i]))
            buf_fmt(&b, ",%.9g", (double)logp[i]);
        else
            buf_str(&b, ",null");
    }
    if (isfinite(sum))
        buf_fmt(&b, "],\"sum\":%.9g}\n", sum);
    else
        buf_str(&b, "],\"sum\":null}\n");
    out_buf(&b);
    buf_free(&b);
}

static int score(ScoreArgs *a, ModelSet *s, const int32_t *id, int n, aha_error *e)
{
    Sink   k = {.file = {.fd = -1}, .vocab = s->cfg.vocab, .n = n, .e = e};
    float *logp = mem_zalloc((size_t)n, sizeof *logp);
    int    rc = logp ? model_set_engine(s, &a->model, 1, n, e) : error_set(e, AHA_ERR_NOMEM, "no memory for %d tokens", n);
    if (rc == 0 && a->logits) rc = sink_open(&k, a->logits, e);
    progress_start(&k.bar, "scoring");
    if (rc == 0) rc = engine_score(s->engine, id, n, logp, on_row, &k, e);
    progress_end(&k.bar);
    if (rc == 0) rc = k.rc;
    rc = sink_close(&k, a->logits, rc, e);
    if (rc == 0) show(id, n, logp);
    mem_free(logp);
    return rc;
}

int cmd_score(int argc, char **argv)
{
    ScoreArgs a = {.model = MODEL_ARGS_INIT};
    ModelSet  s;
    aha_error e = {0};
    Buf       text = {0};
    int32_t  *id = NULL;
    int       n = 0, rc;
    const Option options[] = {
        OPT_GROUP("The tokens"),
        OPT_MODEL(&a.model),
        OPT_STRING(0, "tokens", &a.tokens, "IDS|@FILE", "token ids, as 0,5,9; @FILE reads them from a file, @- from standard input"),
        OPT_STRING(0, "logits", &a.logits, "FILE", "write the logits of every position: raw little-endian f32 [T, V]"),
        OPT_ENGINE(&a.model),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (!a.tokens) return fail_usage("--tokens is expected, as in: --tokens 0,5,9");
    rc = input_text(a.tokens, &text, NULL, &e);
    if (rc == 0 && (rc = input_ids(text.data, text.n, "--tokens", &id, &n, &e)) == 0 && n < 1)
        rc = error_set(&e, AHA_ERR_FORMAT, "--tokens: no id is given");
    if (rc == AHA_ERR_FORMAT && a.tokens[0] != '@') rc = e.code = AHA_ERR_ARG; /* not of a file: wrong usage */
    buf_free(&text);
    if (rc == 0) rc = model_set_open(&s, &a.model, MODEL_WEIGHTS, &e);
    if (rc) {
        mem_free(id);
        return fail(&e);
    }
    rc = score(&a, &s, id, n, &e);
    status = rc ? fail(&e) : CLI_DONE;
    mem_free(id);
    model_set_free(&s);
    return status;
}
