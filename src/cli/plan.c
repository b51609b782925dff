/* What a model needs, by the dry run that sizes the engine, and how fast a machine can be at best.
 *
 * A token reads the fixed weights, the experts chosen for it, and the keys and values of all positions before it.  What is in
 * memory comes at memory's speed, the rest at the disk's.  At best both are read at the same time, at worst in turn:
 *   1/best = max(memory, disk), 1/worst = memory + disk, in seconds. */
#include "plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "convert.h"
#include "machine.h"

enum { DISK_BYTES = 256 << 20 };

/* Of R1 the largest first */
const char *const PLAN_TYPES[] = {"F32",  "F16",  "BF16",   "F8_E4M3", "Q8_0",  "Q6_K",    "Q5_1",  "Q5_K",  "Q5_0",  "Q4_1",    "r1-q4", "Q4_K",  "Q4_0",  "IQ4_NL",
                                  "IQ4_XS", "MXFP4", "Q3_K", "IQ3_S", "IQ3_XXS", "r1-q2", "Q2_K", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "TQ1_0", "IQ1_S", NULL};

const char *where_name(PlanWhere w)
{
    static const char *const NAME[] = {"memory", "disk", "memory too small", "disk too small"};
    return NAME[w];
}

/* ---- the machine ---- */
static void measure_missing(PlanMachine *m, const PlanArgs *a, Pool *pool)
{
    Progress  bar;
    DiskSpeed disk;
    progress_start(&bar, "measuring");
    if (a->ram_speed_gb < 0) m->ram_speed = machine_limits(pool, cpu_kernels(NULL, NULL)).memory;
    if (a->disk_speed_gb < 0) {
        progress_show(&bar, 1, 2, -1, "the disk");
        m->disk_failed = measure_disk(&disk, a->disk_dir, DISK_BYTES, &m->disk_error) != 0;
        m->disk_speed = m->disk_failed ? 0 : disk.read;
    }
    progress_end(&bar);
}

int plan_machine(PlanMachine *m, const PlanArgs *a, aha_error *e)
{
    Pool    *pool = pool_new(0, e);
    uint64_t left = 0;
    if (!pool) return e->code;
    memset(m, 0, sizeof *m);
    m->threads = a->model.threads ? a->model.threads : pool_threads(pool);
    m->ram = a->ram_gb < 0 ? (double)os_memory_total() : a->ram_gb * 1e9;
    m->disk_free = a->disk_gb >= 0 ? a->disk_gb * 1e9 : disk_free(a->disk_dir, &left, NULL) == 0 ? (double)left : -1;
    if (a->ram_speed_gb >= 0) m->ram_speed = a->ram_speed_gb * 1e9;
    if (a->disk_speed_gb >= 0) m->disk_speed = a->disk_speed_gb * 1e9;
    if (!a->quick && (a->ram_speed_gb < 0 || a->disk_speed_gb < 0)) m->load = machine_load();
    if (!a->quick) measure_missing(m, a, pool);
    pool_free(pool);
    return 0;
}

/* ---- a type at a length of context ---- */
static double engine_bytes(const EngineMemory *g)
{
    return (double)g->kv + (double)g->activations + (double)g->scratch + (double)g->batch;
}

/* How much of what a token reads is not in memory. */
static void place(const PlanRow *r, const PlanMachine *m, PlanCell *c)
{
    double room = m->ram - PLAN_SYSTEM_BYTES - r->own - engine_bytes(&c->engine);
    double always = r->mapped - r->experts; /* what is not experts stays in memory before any expert does */
    c->expert_hits = 1;
    c->where = room >= r->mapped ? WHERE_MEMORY : room >= 0 ? WHERE_DISK : WHERE_NO_MEMORY;
    if (c->where == WHERE_DISK) {
        double missing = always > room ? always - room : 0;
        if (r->experts > 0) c->expert_hits = room > always ? fmin((room - always) / r->experts, 1) : 0;
        c->disk_read = fmin(missing, r->fixed) + (1 - c->expert_hits) * r->routed;
    }
    if (c->where != WHERE_NO_MEMORY && !r->there && m->disk_free >= 0 && (double)r->file.bytes > m->disk_free) c->where = WHERE_NO_DISK;
}

static void speeds(const PlanMachine *m, PlanCell *c)
{
    double ram, disk;
    if (c->where == WHERE_NO_MEMORY || m->ram_speed <= 0 || (c->disk_read > 0 && m->disk_speed <= 0)) return;
    ram = c->ram_read / m->ram_speed;
    disk = c->disk_read > 0 ? c->disk_read / m->disk_speed : 0;
    c->best = 1 / fmax(ram, disk);
    c->worst = 1 / (ram + disk);
}

static int fill_row(Plan *p, const PlanArgs *a, const Model *m, PlanRow *r, aha_error *e)
{
    aha_error      why = {.code = AHA_ERR_UNSUPPORTED, .text = "no instruction set"};
    const Kernels *k = cpu_kernels(a->model.cpu ? a->model.cpu : knob_get("AHA_CPU"), &why);
    ModelReads     reads;
    if (!k) return error_set(e, why.code, "%s", why.text);
    r->mapped = (double)m->mapped_bytes;
    r->own = (double)m->owned_bytes;
    model_reads(&reads, m);
    r->fixed = reads.fixed;
    r->routed = reads.routed;
    r->experts = reads.experts;
    r->kv_token = reads.kv_position;
    p->fixed_params = reads.fixed_params;
    p->routed_params = reads.routed_params;
    for (r->n_cell = 0; r->n_cell < p->n_ctx; r->n_cell++) {
        PlanCell     *c = &r->cell[r->n_cell];
        EngineOptions o = model_engine_options(&a->model, a->seqs, p->ctx[r->n_cell]);
        int           rc;
        c->ctx = p->ctx[r->n_cell];
        o.pages = (c->ctx + KV_PAGE - 1) / KV_PAGE * a->seqs;
        if ((rc = engine_plan(&c->engine, m, k, p->machine.threads, &o, e)) != 0) return rc;
        c->total = r->mapped + r->own + engine_bytes(&c->engine);
        c->ram_read = r->fixed + r->routed + r->kv_token * c->ctx;
        place(r, &p->machine, c);
        speeds(&p->machine, c);
    }
    return 0;
}

/* ---- which lengths ---- */
static int choose_lengths(Plan *p, const PlanArgs *a, aha_error *e)
{
    static const int LENGTH[PLAN_CTX_MAX - 1] = {4096, 16384, 32768, 65536, 131072};
    if (a->model.ctx > p->cfg.max_pos)
        return error_set(e, AHA_ERR_ARG, "--ctx is %lld, this model was made for at most %d", (long long)a->model.ctx, p->cfg.max_pos);
    for (int i = 0; !a->model.ctx && i < PLAN_CTX_MAX - 1; i++)
        if (LENGTH[i] < p->cfg.max_pos) p->ctx[p->n_ctx++] = LENGTH[i];
    p->ctx[p->n_ctx++] = a->model.ctx ? (int)a->model.ctx : p->cfg.max_pos;
    return 0;
}

static bool type_wanted(const PlanArgs *a, const char *type) { return !a->type || !strcmp(a->type, type); }

/* One more row: `s` of p's config. */
static int shape_row(Plan *p, const PlanArgs *a, const char *type, ModelShape *s, aha_error *e)
{
    ModelOptions o = {.kv_type = kv_dtype(a->model.kv), .act_f32 = !strcmp(a->model.act, "f32")};
    PlanRow     *r = &p->row[p->n_row];
    Model       *m = NULL;
    int          rc = weight_mix_find(&s->mix, type) ? 0 : error_set(e, AHA_ERR_ARG, "'%s' is no type of weights", type);
    snprintf(r->type, sizeof r->type, "%s", type);
    if (rc == 0) rc = model_shape(&m, &p->cfg, s, &o, &r->file, e);
    if (rc == 0) rc = fill_row(p, a, m, r, e);
    if (rc == 0 && !s->source) model_count(m, &p->params, &p->active);
    if (rc == 0) p->n_row++;
    model_free(m);
    return rc;
}

int plan_preset(Plan *p, const PlanArgs *a, const Preset *preset, aha_error *e)
{
    int rc = preset_config(&p->cfg, preset, e);
    p->name = preset->name;
    p->title = preset->title;
    if (rc == 0) rc = choose_lengths(p, a, e);
    for (int i = 0; rc == 0 && PLAN_TYPES[i]; i++) {
        bool       folder = !strcmp(PLAN_TYPES[i], "BF16") || !strcmp(PLAN_TYPES[i], "F8_E4M3"); /* as published */
        ModelShape s = {.gguf = !folder, .draft_copies = preset->draft_copies};
        if (type_wanted(a, PLAN_TYPES[i])) rc = shape_row(p, a, PLAN_TYPES[i], &s, e);
    }
    return rc;
}

static int as_it_is(Plan *p, const PlanArgs *a, const ModelSet *s, aha_error *e)
{
    PlanRow *r = &p->row[p->n_row++];
    snprintf(r->type, sizeof r->type, "as it is");
    r->there = true;
    r->file.tensors = weights_count(s->m->file);
    r->file.bytes = weights_bytes(s->m->file);
    for (int i = 0; i < weights_count(s->m->file); i++) {
        const TensorInfo *t = weights_at(s->m->file, i);
        int64_t           n = 1;
        for (int d = 0; d < t->n_dims; d++) n *= t->dim[d];
        r->file.numbers += n;
    }
    return fill_row(p, a, s->m, r, e);
}

static bool is_written(const char *type)
{
    for (int i = 0; CONVERT_TYPES[i]; i++)
        if (!strcasecmp(CONVERT_TYPES[i], type)) return true;
    return false;
}

/* GGUF has no word for some configs, and then there is no file of them to plan. */
static bool can_convert(const ModelSet *s, aha_error *why)
{
    GgufMeta meta = {0};
    int      rc = config_to_gguf(&s->cfg, true, &meta, s->path, why);
    gguf_meta_free(&meta);
    return rc == 0;
}

int plan_model(Plan *p, const PlanArgs *a, const ModelSet *s, aha_error *e)
{
    aha_error why = {0};
    int rc = a->type && !is_written(a->type) ? error_set(e, AHA_ERR_ARG, "--type %s: of a model, a type that aha convert writes is expected", a->type) : 0;
    p->name = s->path;
    p->title = "";
    p->cfg = s->cfg;
    p->params = s->params;
    p->active = s->params_active;
    if (rc == 0) rc = choose_lengths(p, a, e);
    if (rc == 0 && !a->type) rc = as_it_is(p, a, s, e);
    if (rc == 0 && !s->m->gguf && !can_convert(s, &why)) return a->type ? error_set(e, why.code, "%s", why.text) : 0;
    for (int i = 0; rc == 0 && PLAN_TYPES[i]; i++) {
        ModelShape shape = {.source = s->m, .gguf = true};
        if (is_written(PLAN_TYPES[i]) && type_wanted(a, PLAN_TYPES[i])) rc = shape_row(p, a, PLAN_TYPES[i], &shape, e);
    }
    return rc;
}
