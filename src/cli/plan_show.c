/* A plan for people and for programs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "plan.h"

static void show_machine(const Plan *p)
{
    const PlanMachine *m = &p->machine;
    char               ram[32], speed[32], disk[32];
    out_fmt("machine      %d thread%s; memory %s", m->threads, m->threads == 1 ? "" : "s", bytes_words(ram, m->ram));
    if (m->ram_speed > 0) out_fmt(" read at %s/s", bytes_words(speed, m->ram_speed));
    if (m->disk_free >= 0) out_fmt("; disk %s free", bytes_words(disk, m->disk_free));
    else out_str("; disk not known");
    if (m->disk_speed > 0) out_fmt(" read at %s/s", bytes_words(speed, m->disk_speed));
    out_str("\n");
    if (m->load > 0.5 * os_cpus_usable()) out_fmt("note         the machine was busy (load %.1f): the speeds are too low\n", m->load);
    if (m->disk_failed) out_fmt("note         the disk was not measured: %s\n", m->disk_error.text);
}

static void show_heads(const Plan *p, const char *type, const char *weights, const char *token)
{
    out_fmt("  %-10s %9s %9s ", type, weights, token);
    for (int i = 0; i < p->n_ctx; i++) out_fmt(" %10d", p->ctx[i]);
    out_str("\n");
}

/* The largest that any type needs: scratch memory differs a little. */
static void show_engine(const Plan *p, const PlanArgs *a)
{
    char b[32];
    out_fmt("\nmemory beside the weights, by positions of %s, %s keys and values\n", a->seqs == 1 ? "the conversation" : "each conversation", a->model.kv);
    show_heads(p, "", "", "");
    for (int what = 0; what < 2; what++) {
        out_fmt("  %-30s ", what ? "activations, batches" : "keys and values");
        for (int i = 0; i < p->n_ctx; i++) {
            double most = 0;
            for (int r = 0; r < p->n_row; r++) {
                const EngineMemory *g = &p->row[r].cell[i].engine;
                double              v = what ? (double)g->activations + (double)g->scratch + (double)g->batch : (double)g->kv;
                if (v > most) most = v;
            }
            out_fmt(" %10s", bytes_words(b, most));
        }
        out_str("\n");
    }
}

static const char *cell_words(const PlanCell *c, char dst[32])
{
    static const char *const MARK[] = {"", " d", " -", " x"};
    if (c->where == WHERE_NO_MEMORY || c->best <= 0) snprintf(dst, 32, "%s", c->where == WHERE_MEMORY ? "fits" : MARK[c->where] + 1);
    else snprintf(dst, 32, c->best < 0.1 ? "%.3f%s" : c->best < 10 ? "%.2f%s" : "%.0f%s", c->best, MARK[c->where]);
    return dst;
}

static void show_rows(const Plan *p)
{
    char weights[32], read[32], cell[32];
    bool seen[4] = {false};
    out_str("\ntokens a second at best, with so many positions filled\n");
    show_heads(p, "type", "weights", "a token");
    for (int i = 0; i < p->n_row; i++) {
        const PlanRow *r = &p->row[i];
        out_fmt("  %-10s %9s %9s ", r->type, bytes_words(weights, (double)r->file.bytes), bytes_words(read, r->fixed + r->routed));
        for (int k = 0; k < r->n_cell; k++) {
            out_fmt(" %10s", cell_words(&r->cell[k], cell));
            seen[r->cell[k].where] = true;
        }
        out_str("\n");
    }
    out_str("\n");
    if (seen[WHERE_DISK]) out_str("  d  the weights do not fit into memory: what is missing is read from the disk for each token\n");
    if (seen[WHERE_NO_MEMORY]) out_str("  -  keys, values and activations alone do not fit into memory\n");
    if (seen[WHERE_NO_DISK]) out_str("  x  the disk has no room for the weights; the figure is what it would be\n");
}

void plan_show(const Plan *p, const PlanArgs *a)
{
    char        all[32], active[32], kv[32];
    const char *bold = term_style(STDOUT_FILENO, STYLE_BOLD), *off = term_style(STDOUT_FILENO, STYLE_OFF);
    const PlanRow *last = &p->row[p->n_row - 1];
    out_fmt("%s", bold);
    out_text(*p->title ? p->title : p->name, strlen(*p->title ? p->title : p->name));
    out_fmt("%s: %s, %s parameters", off, p->cfg.model_type, count_words(all, (double)p->params));
    if (p->active != p->params) out_fmt(" (%s used for a token)", count_words(active, (double)p->active));
    out_fmt(", %s of keys and values a position\n", bytes_words(kv, last->kv_token));
    show_machine(p);
    show_engine(p, a);
    show_rows(p);
}

/* ---- for programs ---- */
static void json_speed(Buf *b, const char *name, double v)
{
    if (v > 0) buf_fmt(b, ",\"%s\":%.6g", name, v);
    else buf_fmt(b, ",\"%s\":null", name);
}

static void json_cell(Buf *b, const PlanCell *c)
{
    buf_fmt(b, "{\"context\":%d,\"where\":\"%s\",\"memory_bytes\":%.0f,\"kv_bytes\":%zu,\"activation_bytes\":%zu,\"scratch_bytes\":%zu,\"batch_bytes\":%zu",
            c->ctx, where_name(c->where), c->total, c->engine.kv, c->engine.activations, c->engine.scratch, c->engine.batch);
    buf_fmt(b, ",\"memory_read_bytes_per_token\":%.0f,\"disk_read_bytes_per_token\":%.0f,\"experts_in_memory\":%.6f", c->ram_read, c->disk_read, c->expert_hits);
    json_speed(b, "tokens_per_s_best", c->best);
    json_speed(b, "tokens_per_s_no_overlap", c->worst);
    buf_str(b, "}");
}

static void json_row(Buf *b, const PlanRow *r)
{
    buf_fmt(b, "{\"type\":\"%s\",\"tensors\":%lld,\"numbers\":%lld,\"file_bytes\":%llu,\"mapped_bytes\":%.0f,\"own_bytes\":%.0f", r->type,
            (long long)r->file.tensors, (long long)r->file.numbers, (unsigned long long)r->file.bytes, r->mapped, r->own);
    buf_fmt(b, ",\"fixed_bytes_per_token\":%.0f,\"routed_bytes_per_token\":%.0f,\"expert_bytes\":%.0f,\"kv_bytes_per_position\":%.0f,\"contexts\":[", r->fixed,
            r->routed, r->experts, r->kv_token);
    for (int i = 0; i < r->n_cell; i++) {
        if (i) buf_str(b, ",");
        json_cell(b, &r->cell[i]);
    }
    buf_str(b, "]}");
}

void plan_show_json(const Plan *p, const PlanArgs *a)
{
    Buf b = {0};
    buf_str(&b, "{\"model\":");
    buf_json(&b, p->name, strlen(p->name));
    buf_fmt(&b, ",\"arch\":\"%s\",\"parameters\":%lld,\"parameters_active\":%lld,\"fixed_parameters_per_token\":%.0f,\"routed_parameters_per_token\":%.0f",
            p->cfg.model_type, (long long)p->params, (long long)p->active, p->fixed_params, p->routed_params);
    buf_fmt(&b, ",\"kv_type\":\"%s\",\"sequences\":%d,\"machine\":{\"threads\":%d,\"memory_bytes\":%.0f,\"system_bytes\":%d", a->model.kv, a->seqs, p->machine.threads,
            p->machine.ram, PLAN_SYSTEM_BYTES);
    if (p->machine.disk_free >= 0) buf_fmt(&b, ",\"disk_free_bytes\":%.0f", p->machine.disk_free);
    else buf_str(&b, ",\"disk_free_bytes\":null");
    json_speed(&b, "memory_read_bytes_per_s", p->machine.ram_speed);
    json_speed(&b, "disk_read_bytes_per_s", p->machine.disk_speed);
    buf_str(&b, "},\"types\":[");
    for (int i = 0; i < p->n_row; i++) {
        if (i) buf_str(&b, ",");
        json_row(&b, &p->row[i]);
    }
    buf_str(&b, "]}\n");
    out_buf(&b);
    buf_free(&b);
}
