/* aha doctor: this machine, as far as models are concerned. */
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "options.h"

enum { ISA_MAX = 8, DISK_BYTES = 256 << 20 };

typedef struct DoctorArgs {
    const char *dir;
    bool        json, quick;
} DoctorArgs;

typedef struct Doctor {
    char           cpu[96];
    const Kernels *k[ISA_MAX];
    int            n_isa, cpus, cpus_all, threads, n_gpu;
    uint64_t       memory, available;
    Limits         limits;
    double         gemm; /* a second; 0: not measured */
    DiskSpeed      disk;
    aha_error      disk_error;
    const char    *dir;
    Buf            gpu;
    double         stolen, load; /* before the measurement */
} Doctor;

static const Help HELP = {
    "doctor", "[OPTIONS]",
    "Shows what this machine is and does: instruction sets, cores, memory and how fast it is read, the disk, a GPU if there is one, "
    "libraries and knobs. Reading memory bounds how fast a model in memory answers, reading the disk how fast one that does not fit. "
    "It takes some seconds and a nameless file of 256 MB in the folder.",
    "  aha doctor\n"
    "  aha doctor --disk /mnt/models\n"
    "  aha doctor --quick --json\n"};

static int examine(Doctor *d, const DoctorArgs *a, aha_error *e)
{
    Progress   bar;
    Pool      *pool = pool_new(0, e);
    StolenTime before = stolen_time();
    if (!pool) return e->code;
    d->dir = a->dir;
    cpu_model_name(d->cpu);
    d->n_isa = cpu_kernels_all(d->k, ISA_MAX);
    d->cpus = os_cpus_usable();
    d->cpus_all = cpu_count();
    d->threads = pool_threads(pool);
    d->memory = os_memory_total();
    d->available = memory_available();
    d->n_gpu = gpu_list(&d->gpu);
    d->stolen = -1;
    d->load = machine_load();
    if (!a->quick) {
        const Kernels *best = d->k[d->n_isa - 1];
        progress_start(&bar, "measuring");
        d->limits = machine_limits(pool, best);
        d->gemm = measure_gemm(pool, best);
        progress_show(&bar, 1, 2, -1, "the disk");
        if (measure_disk(&d->disk, a->dir, DISK_BYTES, &d->disk_error)) d->disk.read = 0;
        progress_end(&bar);
        d->stolen = stolen_share(before, stolen_time());
    }
    pool_free(pool);
    return 0;
}

/* ---- for people ---- */
static void show_speeds(const Doctor *d)
{
    char a[32];
    out_fmt("  memory         %s read a second\n", bytes_words(a, d->limits.memory));
    out_fmt("  arithmetic     %.0f GFLOP/s at most (f32 multiply-adds); the program's matrix product reaches %.0f%% of that\n", d->limits.fma / 1e9,
            d->limits.fma > 0 ? 100 * d->gemm / d->limits.fma : 0.0);
    out_fmt("                 %.0f GOP/s at most on bytes (%s)\n", d->limits.dot8 / 1e9, d->limits.dot8_name);
    if (d->disk.read > 0)
        out_fmt("  disk           %s read a second in %s%s\n", bytes_words(a, d->disk.read), d->dir,
                d->disk.direct ? "" : " (the system's cache could not be passed: perhaps that was measured)");
    else
        out_fmt("  disk           not measured: %s\n", d->disk_error.text);
    if (d->limits.memory > 0)
        out_fmt("  so             8 GB of weights in memory are read %.1f times a second: that many tokens at best\n", d->limits.memory / 8e9);
    if (d->load > 0.5 * d->cpus) out_fmt("  note           the machine was busy (load %.1f): the speeds are too low\n", d->load);
    if (d->stolen > 0.02) out_fmt("  note           the host took %.0f%% of the time meanwhile: measure again\n", 100 * d->stolen);
}

/* A secret's value leaves the environment for nobody's bug report. */
static const char *knob_shown(const Knob *k)
{
    const char *value = knob_get(k->name);
    return !strcmp(k->type, "secret") && *value ? "***" : value;
}

static void show_text(const Doctor *d)
{
    char           a[32], b[32];
    int            n;
    const Library *l;
    const Knob    *knob;
    out_fmt("processor        %s\n  cores          %d usable of %d\n  instructions  ", d->cpu, d->cpus, d->cpus_all);
    for (int i = 0; i < d->n_isa; i++) out_fmt(" %s", d->k[i]->isa);
    out_fmt("  (the last is used)\nmemory           %s", bytes_words(a, (double)d->memory));
    if (d->available) out_fmt(", %s of it free", bytes_words(b, (double)d->available));
    out_str("\n");
    if (d->limits.fma > 0) {
        out_str("speed\n");
        show_speeds(d);
    }
    out_fmt("GPU              %s\n", d->n_gpu ? "" : "none that a driver shows");
    if (d->n_gpu) {
        out_text(d->gpu.data, d->gpu.n);
        out_str("  this build computes on the processor\n");
    }
    out_str("libraries\n");
    l = library_table(&n);
    for (int i = 0; i < n; i++) out_fmt("  %-14s %s\n", l[i].name, l[i].version());
    out_str("knobs\n");
    knob = knob_table(&n);
    for (int i = 0; i < n; i++) {
        const char *set = getenv(knob[i].name), *value = knob_shown(&knob[i]);
        out_fmt("  %-14s %s%s\n", knob[i].name, *value ? value : "-", set && *set ? "  (set)" : "");
    }
}

/* ---- for programs ---- */
static void json_number(Buf *b, const char *name, double v)
{
    if (v > 0)
        buf_fmt(b, ",\"%s\":%.6g", name, v);
    else
        buf_fmt(b, ",\"%s\":null", name);
}

static void show_json(const Doctor *d)
{
    Buf            b = {0};
    int            n;
    const Library *l;
    const Knob    *knob;
    buf_fmt(&b, "{\"version\":\"%s\",\"cpu\":", aha_version());
    buf_json(&b, d->cpu, strlen(d->cpu));
    buf_fmt(&b, ",\"cores\":%d,\"cores_all\":%d,\"threads\":%d,\"isa\":[", d->cpus, d->cpus_all, d->threads);
    for (int i = 0; i < d->n_isa; i++) buf_fmt(&b, "%s\"%s\"", i ? "," : "", d->k[i]->isa);
    buf_fmt(&b, "],\"memory_bytes\":%llu,\"memory_available_bytes\":%llu", (unsigned long long)d->memory, (unsigned long long)d->available);
    json_number(&b, "memory_read_bytes_per_s", d->limits.memory);
    json_number(&b, "fma_flop_per_s", d->limits.fma);
    json_number(&b, "dot8_op_per_s", d->limits.dot8);
    json_number(&b, "gemm_flop_per_s", d->gemm);
    json_number(&b, "disk_read_bytes_per_s", d->disk.read);
    buf_fmt(&b, ",\"disk_direct\":%s", d->disk.direct ? "true" : "false");
    if (d->stolen >= 0) buf_fmt(&b, ",\"stolen\":%.4f", d->stolen);
    json_number(&b, "load", d->load);
    buf_str(&b, ",\"gpus\":[");
    for (const char *p = d->gpu.n ? d->gpu.data : ""; *p;) {
        size_t len = strcspn(p, "\n");
        if (p != d->gpu.data) buf_str(&b, ",");
        buf_json(&b, p, len);
        p += len + (p[len] == '\n');
    }
    buf_str(&b, "],\"libraries\":{");
    l = library_table(&n);
    for (int i = 0; i < n; i++) buf_fmt(&b, "%s\"%s\":\"%s\"", i ? "," : "", l[i].name, l[i].version());
    buf_str(&b, "},\"knobs\":{");
    knob = knob_table(&n);
    for (int i = 0; i < n; i++) {
        buf_fmt(&b, "%s\"%s\":", i ? "," : "", knob[i].name);
        buf_json(&b, knob_shown(&knob[i]), strlen(knob_shown(&knob[i])));
    }
    buf_str(&b, "}}\n");
    out_buf(&b);
    buf_free(&b);
}

int cmd_doctor(int argc, char **argv)
{
    DoctorArgs a = {.dir = "."};
    Doctor     d = {.threads = 0};
    aha_error  e = {0};
    const Option options[] = {
        OPT_STRING(0, "disk", &a.dir, "DIR", "where the disk is measured"),
        OPT_FLAG(0, "quick", &a.quick, "measure nothing"),
        OPT_FLAG(0, "json", &a.json, "one JSON object; speeds in bytes and floating-point operations a second"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (examine(&d, &a, &e)) return fail(&e);
    if (a.json)
        show_json(&d);
    else
        show_text(&d);
    buf_free(&d.gpu);
    return CLI_DONE;
}
