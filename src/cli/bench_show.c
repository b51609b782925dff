/* What aha bench found, for people and for programs. */
#include <stdio.h>
#include <string.h>

#include "bench.h"

static const char *row_name(char dst[96], const BenchRow *r)
{
    int n = snprintf(dst, 96, "%s %d", r->generate ? "generate" : "prompt", r->tokens);
    if (r->batch > 1) n += snprintf(dst + n, (size_t)(96 - n), " x %d", r->batch);
    if (r->depth) snprintf(dst + n, (size_t)(96 - n), " at %d", r->depth);
    return dst;
}

static void show_share(const Series *s)
{
    if (s->n)
        out_fmt(" %9.0f%%", 100 * series_median(s));
    else
        out_fmt(" %10s", "");
}

static void show_rows(const BenchRun *b)
{
    char what[96];
    out_fmt("  %-24s %10s %10s %10s %10s %10s%s\n", "tokens/s", "median", "slowest", "fastest", "memory", "arithmetic", b->a->peer ? "       peer      ratio" : "");
    for (int i = 0; i < b->n_row; i++) {
        const BenchRow *r = &b->row[i];
        out_fmt("  %-24s %10.1f %10.1f %10.1f", row_name(what, r), series_median(&r->speed), series_min(&r->speed), series_max(&r->speed));
        show_share(&r->memory);
        show_share(&r->arithmetic);
        if (r->peer.n) out_fmt(" %10.1f %9.2fx", series_median(&r->peer), series_median(&r->speed) / series_median(&r->peer));
        out_str("\n");
    }
}

/* ---- attention ---- what a row takes longer than the same without what lies before it */
static const BenchRow *without_depth(const BenchRun *b, const BenchRow *r)
{
    for (int i = 0; i < b->n_row && r->depth; i++)
        if (b->row[i].depth == 0 && b->row[i].generate == r->generate && b->row[i].tokens == r->tokens && b->row[i].batch == r->batch) return &b->row[i];
    return NULL;
}

/* Bytes of keys and values (generating) or operations (prompts) a second in that time; 0: there is nothing to compare with. */
static double attention_speed(const BenchRun *b, const BenchRow *r)
{
    const BenchRow *zero = without_depth(b, r);
    double          longer = zero ? 1 / series_median(&r->speed) - 1 / series_median(&zero->speed) : 0; /* seconds a token */
    if (longer <= 0) return 0;
    return (r->generate ? b->reads.kv_position : bench_attention_ops(&b->s->cfg)) * r->depth / longer;
}

static double attention_limit(const BenchRun *b, const BenchRow *r) { return series_median(r->generate ? &b->memory : &b->fma); }

static void show_attention(const BenchRun *b)
{
    char what[96], bytes[32];
    for (int i = 0; i < b->n_row; i++) {
        const BenchRow *r = &b->row[i];
        double          v = attention_speed(b, r), limit = attention_limit(b, r);
        if (v <= 0 || limit <= 0) continue;
        if (r->generate)
            out_fmt("  attention, %s: reads %s/s, %.0f%% of the memory's speed\n", row_name(what, r), bytes_words(bytes, v), 100 * v / limit);
        else
            out_fmt("  attention, %s: %.1f GFLOP/s, %.0f%% of the f32 multiply-adds\n", row_name(what, r), v / 1e9, 100 * v / limit);
    }
}

/* ---- for people ---- */
static void show_limit(const char *name, const char *unit, const Series *s)
{
    out_fmt("  %-24s %10.1f %10.1f %10.1f  %s\n", name, series_median(s) / 1e9, series_min(s) / 1e9, series_max(s) / 1e9, unit);
}

static void show_limits(const BenchRun *b)
{
    char name[64];
    out_fmt("\n  %-24s %10s %10s %10s\n", "this machine meanwhile", "median", "slowest", "fastest");
    show_limit("reads memory", "GB/s", &b->memory);
    snprintf(name, sizeof name, "%.30s%s", b->dot8_name, bench_on_bytes(b) ? " (arithmetic)" : "");
    show_limit(name, "GOP/s", &b->dot8);
    show_limit(bench_on_bytes(b) ? "f32 multiply-adds" : "f32 (arithmetic)", "GFLOP/s", &b->fma);
}

static void show_noise(const BenchRun *b)
{
    if (b->stolen < 0)
        out_str("\n  stolen time is not known here\n");
    else
        out_fmt("\n  stolen by the host: at most %.1f%% of a repetition; %d discarded\n", 100 * b->stolen, b->discarded);
    if (b->noisy) out_fmt("  %d had to be taken with more than %.0f%%: measure again when it is quiet\n", b->noisy, 100 * BENCH_STOLEN_MAX);
    if (b->load > 0.5 * os_cpus_usable()) out_fmt("  the machine was busy before (load %.1f): the speeds may be too low\n", b->load);
}

void bench_show(const BenchRun *b)
{
    char             all[32], active[32], bytes[32];
    const ModelSet  *s = b->s;
    const BenchArgs *a = b->a;
    out_fmt("%s: %s parameters (%s used for a token), %s of weights, most in %s\n", s->path, count_words(all, (double)s->params),
            count_words(active, (double)s->params_active), bytes_words(bytes, (double)weights_bytes(s->m->file)), dtype_info(b->reads.dtype)->name);
    out_fmt("%s, %d thread%s, keys and values in %s, %d repetition%s\n", s->k->isa, pool_threads(s->pool), pool_threads(s->pool) == 1 ? "" : "s",
            a->model.kv, a->repeat, a->repeat == 1 ? "" : "s");
    if (a->peer) {
        out_fmt("peer: %s (", a->peer);
        out_text(b->peer_build, strlen(b->peer_build));
        out_fmt(")%s%s\n", a->peer_args ? " " : "", a->peer_args ? a->peer_args : "");
    }
    out_str("\n");
    show_rows(b);
    show_attention(b);
    show_limits(b);
    show_noise(b);
}

/* ---- for programs ---- */
static void add_series(Buf *j, const char *name, const Series *s)
{
    if (!s->n) {
        buf_fmt(j, ",\"%s\":null", name);
        return;
    }
    buf_fmt(j, ",\"%s\":{\"median\":%.6g,\"min\":%.6g,\"max\":%.6g,\"n\":%d}", name, series_median(s), series_min(s), series_max(s), s->n);
}

static void add_row(Buf *j, const BenchRun *b, const BenchRow *r)
{
    double attention = attention_speed(b, r), limit = attention_limit(b, r);
    buf_fmt(j, "{\"what\":\"%s\",\"tokens\":%d,\"batch\":%d,\"depth\":%d", r->generate ? "generate" : "prompt", r->tokens, r->batch, r->depth);
    add_series(j, "speed", &r->speed);
    buf_str(j, ",\"samples\":["); /* sorted */
    for (int i = 0; i < r->speed.n; i++) buf_fmt(j, "%s%.6g", i ? "," : "", r->speed.v[i]);
    buf_str(j, "]");
    add_series(j, "memory_share", &r->memory);
    add_series(j, "arithmetic_share", &r->arithmetic);
    if (attention > 0)
        buf_fmt(j, ",\"attention_per_s\":%.6g,\"attention_share\":%.4f", attention, limit > 0 ? attention / limit : 0);
    else
        buf_str(j, ",\"attention_per_s\":null,\"attention_share\":null");
    add_series(j, "peer", &r->peer);
    if (r->peer.n)
        buf_fmt(j, ",\"ratio\":%.4f}", series_median(&r->speed) / series_median(&r->peer));
    else
        buf_str(j, ",\"ratio\":null}");
}

void bench_show_json(const BenchRun *b)
{
    Buf               j = {0};
    const ModelSet   *s = b->s;
    const BenchArgs  *a = b->a;
    const ModelReads *n = &b->reads;
    char              cpu[96];
    buf_fmt(&j, "{\"version\":\"%s\",\"model\":", aha_version());
    buf_json(&j, s->path, strlen(s->path));
    buf_str(&j, ",\"cpu\":");
    cpu_model_name(cpu);
    buf_json(&j, cpu, strlen(cpu));
    buf_fmt(&j, ",\"parameters\":%lld,\"parameters_active\":%lld,\"weights_bytes\":%zu,\"type\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"kv\":\"%s\","
                "\"repetitions\":%d,\"unit\":\"tokens/s\"",
            (long long)s->params, (long long)s->params_active, weights_bytes(s->m->file), dtype_info(n->dtype)->name, s->k->isa,
            pool_threads(s->pool), a->model.kv, a->repeat);
    buf_fmt(&j, ",\"token_reads_bytes\":%.0f,\"position_reads_bytes\":%.0f,\"arithmetic\":\"%s\"", n->fixed + n->routed, n->kv_position,
            bench_on_bytes(b) ? b->dot8_name : "f32");
    add_series(&j, "memory_bytes_per_s", &b->memory);
    add_series(&j, "dot8_op_per_s", &b->dot8);
    add_series(&j, "fma_flop_per_s", &b->fma);
    buf_str(&j, ",\"rows\":[");
    for (int i = 0; i < b->n_row; i++) {
        buf_str(&j, i ? "," : "");
        add_row(&j, b, &b->row[i]);
    }
    buf_str(&j, "],\"peer\":");
    if (a->peer) {
        buf_json(&j, a->peer, strlen(a->peer));
        buf_str(&j, ",\"peer_build\":");
        buf_json(&j, b->peer_build, strlen(b->peer_build));
        buf_str(&j, ",\"peer_args\":");
        buf_json(&j, a->peer_args ? a->peer_args : "", strlen(a->peer_args ? a->peer_args : ""));
    } else {
        buf_str(&j, "null");
    }
    buf_fmt(&j, b->stolen < 0 ? ",\"stolen\":null" : ",\"stolen\":%.4f", b->stolen);
    buf_fmt(&j, ",\"discarded\":%d,\"noisy\":%d,\"load\":%.2f}\n", b->discarded, b->noisy, b->load);
    out_buf(&j);
    buf_free(&j);
}
