/* The other program: llama.cpp's llama-bench over the same file, as many threads, the same lengths. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"

enum { ARGS_MAX = 64, OUTPUT_MAX = 4 << 20, LIST_CAP = 256, EXTRA_CAP = 1024 };

static void list_of(char dst[LIST_CAP], const OptionInts *l)
{
    size_t at = 0;
    snprintf(dst, LIST_CAP, "0");
    for (int i = 0; i < l->n && at < LIST_CAP; i++) at += (size_t)snprintf(dst + at, LIST_CAP - at, "%s%d", i ? "," : "", l->v[i]);
}

/* Its own words for what is measured; `extra` is cut at its blanks. */
static int arguments(const BenchRun *b, const char **argv, char *lists, char *extra, aha_error *e)
{
    const BenchArgs *a = b->a;
    char *prompt = lists, *n = lists + LIST_CAP, *depth = lists + 2 * LIST_CAP, *threads = lists + 3 * LIST_CAP;
    int   k = 0;
    list_of(prompt, &a->prompt);
    list_of(n, &a->n);
    list_of(depth, &a->depth);
    snprintf(threads, LIST_CAP, "%d", pool_threads(b->s->pool));
    const char *first[] = {a->peer, "-m", b->s->path, "-t", threads, "-p", prompt, "-n", n, "-d", depth, "-r", "1", "-o", "json"};
    for (size_t i = 0; i < ARRAY_LEN(first); i++) argv[k++] = first[i];
    if (a->peer_args && strlen(a->peer_args) >= EXTRA_CAP) return error_set(e, AHA_ERR_ARG, "--peer-args is longer than %d", EXTRA_CAP - 1);
    snprintf(extra, EXTRA_CAP, "%s", a->peer_args ? a->peer_args : "");
    for (char *p = extra + strspn(extra, " "); *p; p += strspn(p, " ")) {
        if (k == ARGS_MAX - 1) return error_set(e, AHA_ERR_ARG, "--peer-args has more than %d words", ARGS_MAX - 1 - (int)ARRAY_LEN(first));
        argv[k++] = p;
        p += strcspn(p, " ");
        if (*p) *p++ = 0;
    }
    argv[k] = NULL;
    return 0;
}

/* One result of its list into the row that it belongs to. */
static int take(const BenchRun *b, const Json *j, double *at, char *build, size_t build_cap, aha_error *e)
{
    int64_t     prompt = 0, n = 0, depth = 0;
    double      speed = 0;
    const char *what = "the peer's output", *commit = "", *type = "";
    int         rc = json_get_int(j, what, "n_prompt", true, 0, INT32_MAX, &prompt, e);
    if (rc == 0) rc = json_get_int(j, what, "n_gen", true, 0, INT32_MAX, &n, e);
    if (rc == 0) rc = json_get_int(j, what, "n_depth", false, 0, INT32_MAX, &depth, e);
    if (rc == 0) rc = json_get_num(j, what, "avg_ts", true, 0, 1e12, &speed, e);
    if (rc == 0) rc = json_get_str(j, what, "build_commit", false, &commit, e);
    if (rc == 0) rc = json_get_str(j, what, "model_type", false, &type, e);
    if (rc) return rc;
    snprintf(build, build_cap, "build %s, %s", commit, type);
    for (int i = 0; i < b->n_row; i++) {
        const BenchRow *r = &b->row[i];
        if (r->batch == 1 && r->depth == depth && r->tokens == (r->generate ? n : prompt) && (r->generate ? prompt : n) == 0) at[i] = speed;
    }
    return 0;
}

int bench_peer(const BenchRun *b, double *at, char *build, size_t build_cap, aha_error *e)
{
    const char *argv[ARGS_MAX];
    char        lists[4 * LIST_CAP], extra[EXTRA_CAP];
    Buf         out = {0};
    Json       *j = NULL;
    int         status, rc = arguments(b, argv, lists, extra, e);
    for (int i = 0; i < b->n_row; i++) at[i] = 0;
    if (rc == 0) rc = process_output(argv, !b->a->model.verbose, OUTPUT_MAX, &out, &status, e);
    if (rc == 0 && status)
        rc = error_set(e, AHA_ERR_IO, "'%.300s' ended with status %d; -v shows what it says", b->a->peer, status);
    if (rc == 0) rc = json_parse(&j, out.data ? out.data : "", out.n, "the peer's output", e);
    if (rc == 0 && !json_is_array(j)) rc = error_set(e, AHA_ERR_FORMAT, "the peer's output is no list of results, as llama-bench -o json prints it");
    for (size_t i = 0; rc == 0 && i < json_array_size(j); i++) rc = take(b, json_array_get(j, i), at, build, build_cap, e);
    for (int i = 0; rc == 0 && i < b->n_row; i++)
        if (b->row[i].batch == 1 && at[i] <= 0)
            rc = error_set(e, AHA_ERR_FORMAT, "the peer's output has no %s of %d at depth %d", b->row[i].generate ? "generation" : "prompt",
                           b->row[i].tokens, b->row[i].depth);
    json_free(j);
    buf_free(&out);
    return rc;
}
