/* aha plan: what fits where, and how fast at best. */
#include "plan.h"

static const Help HELP = {
    "plan", "FILE|DIR | --preset NAME [OPTIONS]",
    "Says what a model needs and how fast this machine can run it at best: memory at each length of context, as the dry run that sizes the "
    "engine counts it, and tokens a second by what a token must read and how fast memory and disk are read. Nothing is downloaded. "
    "Presets: r1-671b, r1-zero, r1-0528, 0528-qwen3-8b, distill-qwen-1.5b, -7b, -14b, -32b, distill-llama-8b, -70b, aha-tiny; each in every "
    "type: BF16 and F8_E4M3 as published folders, the others as GGUF files by aha convert's rules, its mixtures r1-q4 and r1-q2 too. FILE or DIR: as it is, "
    "and as the GGUF file that aha convert would write in each of its types. This machine is measured (some seconds, a nameless file of 256 MB); another one is described by numbers.",
    "  aha plan --preset distill-qwen-7b\n"
    "  aha plan --preset r1-671b --type IQ1_S --kv bf16\n"
    "  aha plan --preset r1-671b --ram-gb 768 --ram-bandwidth 460 --disk-gb 2000 --disk-bandwidth 7 --threads 64\n"
    "  aha plan DeepSeek-R1 --type r1-q2\n"
    "  aha plan DeepSeek-R1-Distill-Qwen-1.5B --ctx 32k --json | jq .types[0].contexts\n"};

static int plan(const PlanArgs *args, const char *path, aha_error *e)
{
    PlanArgs      a = *args;
    Plan         *p = mem_zalloc(1, sizeof *p);
    ModelSet      s = {0};
    const Preset *preset = NULL;
    int           rc = p ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory for a plan");
    if (path) a.model.path = path;
    if (rc == 0 && a.preset && a.model.path) rc = error_set(e, AHA_ERR_ARG, "a model and --preset: one of them is expected");
    if (rc == 0 && a.preset) rc = preset_find(&preset, a.preset, e);
    if (rc == 0 && !preset) rc = model_set_open(&s, &a.model, MODEL_WEIGHTS, e);
    if (rc == 0) rc = plan_machine(&p->machine, &a, e);
    if (rc == 0) rc = preset ? plan_preset(p, &a, preset, e) : plan_model(p, &a, &s, e);
    if (rc == 0 && a.json) plan_show_json(p, &a);
    if (rc == 0 && !a.json) plan_show(p, &a);
    model_set_free(&s);
    mem_free(p);
    return rc;
}

int cmd_plan(int argc, char **argv)
{
    PlanArgs     a = {.model = MODEL_ARGS_INIT, .disk_dir = ".", .ram_gb = -1, .disk_gb = -1, .ram_speed_gb = -1, .disk_speed_gb = -1, .seqs = 1};
    aha_error    e = {0};
    const char  *path = NULL;
    const Option options[] = {
        OPT_MODEL(&a.model),
        OPT_STRING(0, "preset", &a.preset, "NAME", "a model of the family by name, nothing downloaded"),
        OPT_CHOICE(0, "type", &a.type, PLAN_TYPES, "TYPE", "only this type of weights; without it every one"),
        OPT_INT(0, "seqs", &a.seqs, 1, 1024, "N", "conversations at once; the speed is that of one"),
        OPT_ENGINE(&a.model),
        OPT_GROUP("Another machine"),
        OPT_FLOAT(0, "ram-gb", &a.ram_gb, 0, 1e6, "GB", "memory, in 10^9 bytes"),
        OPT_FLOAT(0, "ram-bandwidth", &a.ram_speed_gb, 0.001, 1e6, "GB/S", "how fast it is read, in 10^9 bytes a second"),
        OPT_FLOAT(0, "disk-gb", &a.disk_gb, 0, 1e9, "GB", "room on the disk"),
        OPT_FLOAT(0, "disk-bandwidth", &a.disk_speed_gb, 0.001, 1e6, "GB/S", "how fast it is read"),
        OPT_STRING(0, "disk", &a.disk_dir, "DIR", "where this machine's disk is measured"),
        OPT_FLAG(0, "quick", &a.quick, "measure nothing"),
        OPT_FLAG(0, "json", &a.json, "one JSON object; bytes, and bytes a second"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, &path, 1, NULL);
    if (status != OPTIONS_GO_ON) return status;
    return plan(&a, path, &e) ? fail(&e) : CLI_DONE;
}
