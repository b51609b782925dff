/* plan: what a model needs, what this machine has, and how fast the one can be on the other. */
#ifndef AHA_CLI_PLAN_H
#define AHA_CLI_PLAN_H

#include "model_open.h"

/* ---- the family, known by name (plan_presets.c) ---- */
typedef struct Preset {
    const char *name, *title;
    const char *config; /* config.json; NULL: the built-in model's */
    bool        draft_copies;
} Preset;
const Preset *preset_table(int *n);
int           preset_find(const Preset **out, const char *name, aha_error *e); /* an unknown one: the nearest is named */
int           preset_config(Config *c, const Preset *p, aha_error *e);

/* ---- the machine ---- bytes, bytes a second; 0: not known */
typedef struct PlanMachine {
    int    threads;
    double ram, disk_free, ram_speed, disk_speed; /* disk_free below 0: not known */
    double load; /* processes that wanted a core before something was measured; 0: nothing was */
    bool   disk_failed;
    aha_error disk_error;
} PlanMachine;

typedef enum PlanWhere { WHERE_MEMORY, WHERE_DISK, WHERE_NO_MEMORY, WHERE_NO_DISK } PlanWhere;
const char *where_name(PlanWhere w);

/* A type at a length of context. */
typedef struct PlanCell {
    int          ctx;
    EngineMemory engine;
    double       total;         /* memory to hold everything */
    double       ram_read, disk_read; /* bytes for a token, with the context full */
    double       expert_hits;   /* share of the routed experts found in memory; 1: all are */
    double       best, worst;   /* tokens a second: reading memory and disk at the same time, one after the other; 0: not known */
    PlanWhere    where;
} PlanCell;

enum { PLAN_CTX_MAX = 6, PLAN_TYPES_MAX = 32 };
typedef struct PlanRow {
    char          type[24];
    bool          there;         /* the file is on the disk already */
    ModelFileSize file;
    double        mapped, own;   /* weights: used in the file's mapping, in memory of the model's own */
    double        fixed, routed; /* bytes of weights that a token reads: always the same, chosen experts */
    double        experts;       /* bytes of all routed experts */
    double        kv_token;      /* bytes a position, without the draft layer */
    int           n_cell;
    PlanCell      cell[PLAN_CTX_MAX];
} PlanRow;

typedef struct PlanArgs {
    ModelArgs   model;
    const char *preset, *type, *disk_dir;
    double      ram_gb, disk_gb, ram_speed_gb, disk_speed_gb; /* below 0: this machine's */
    int         seqs;
    bool        quick, json;
} PlanArgs;

typedef struct Plan {
    const char *name, *title;
    Config      cfg;
    int64_t     params, active;
    double      fixed_params, routed_params; /* of what a token reads */
    PlanMachine machine;
    int         n_ctx, ctx[PLAN_CTX_MAX], n_row;
    PlanRow     row[PLAN_TYPES_MAX];
} Plan;

extern const char *const PLAN_TYPES[]; /* NULL-terminated */
enum { PLAN_SYSTEM_BYTES = 1000000000 }; /* left to the system and to other programs */

/* Bytes at hand and speeds, measured unless they are given. */
int plan_machine(PlanMachine *m, const PlanArgs *a, aha_error *e);
/* Every type of a preset; a model as it is, and in every type that aha convert would write it in. */
int plan_preset(Plan *p, const PlanArgs *a, const Preset *preset, aha_error *e);
int plan_model(Plan *p, const PlanArgs *a, const ModelSet *s, aha_error *e);
void plan_show(const Plan *p, const PlanArgs *a);      /* plan_show.c */
void plan_show_json(const Plan *p, const PlanArgs *a);

#endif
