/* Reads a recipe: sections in brackets, "key = value" lines, # comments.  One table holds every key. */
#include "recipe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECIPE_BYTES_MAX = 1 << 20, SHARE_MAX = 1000000 };

typedef enum ValueType { V_INT, V_COUNT /* 6M, 30k */, V_NUM, V_BOOL, V_STR, V_TASKS, V_VARIANT } ValueType;

typedef struct Key {
    const char *section; /* "" before the first section, "model", "stage" */
    const char *name;
    ValueType   type;
    size_t      offset, size; /* in Recipe or Stage; size in bytes of the field */
    double      lo, hi;
    const char *help;
} Key;

#define R(f) offsetof(Recipe, f), sizeof(((Recipe *)0)->f)
#define M(f) offsetof(Recipe, model.f), sizeof(((Recipe *)0)->model.f)
#define S(f) offsetof(Stage, f), sizeof(((Stage *)0)->f)

static const Key KEYS[] = {
    {"", "name", V_STR, R(name), 0, 0, "of the run: its folder is runs/NAME"},
    {"", "title", V_STR, R(title), 0, 0, "a line for the report"},
    {"", "seed", V_INT, R(seed), 0, 1e15, "of weights, data and sampling (1)"},
    {"", "slot_tokens", V_COUNT, R(slot_tokens), 64, 1e6, "rows whose gradient is computed at once (1024)"},
    {"", "context", V_COUNT, R(context), 64, 1e6, "longest sequence, in tokens (512)"},
    {"", "keep_tape", V_BOOL, R(keep_tape), 0, 0, "keep all activations; false: compute them again, less memory (true)"},
    {"", "checkpoint_s", V_NUM, R(checkpoint_s), 1, 1e6, "seconds between checkpoints (60)"},
    {"model", "d_model", V_INT, M(d_model), 1, 65536, "width D"},
    {"model", "n_layer", V_INT, M(n_layer), 1, 1024, "layers"},
    {"model", "n_head", V_INT, M(n_head), 1, 1024, "heads H"},
    {"model", "d_ff", V_INT, M(d_ff), 1, 1 << 20, "feed-forward width F of dense layers"},
    {"model", "q_lora", V_INT, M(q_lora), 0, 65536, "query latent Q; 0: none"},
    {"model", "kv_lora", V_INT, M(kv_lora), 1, 65536, "key-value latent C"},
    {"model", "nope", V_INT, M(nope), 1, 65536, "head size without rotation N"},
    {"model", "rope_dim", V_INT, M(rope_dim), 2, 65536, "rotated head size R"},
    {"model", "v_dim", V_INT, M(v_dim), 1, 65536, "head size of values"},
    {"model", "n_expert", V_INT, M(n_expert), 0, 65536, "routed experts E; 0: dense"},
    {"model", "n_expert_used", V_INT, M(n_expert_used), 0, 65536, "experts per token K"},
    {"model", "n_shared", V_INT, M(n_shared), 0, 1024, "shared experts"},
    {"model", "d_expert", V_INT, M(d_expert), 0, 1 << 20, "width of an expert"},
    {"model", "n_dense_first", V_INT, M(n_dense_first), 0, 1024, "first layers that are dense"},
    {"model", "n_group", V_INT, M(n_group), 1, 1024, "groups of experts (1)"},
    {"model", "topk_group", V_INT, M(topk_group), 1, 1024, "groups chosen (1)"},
    {"model", "n_mtp", V_INT, M(n_mtp), 0, 1, "draft layers: predict the token after the next (0)"},
    {"model", "max_pos", V_COUNT, M(max_pos), 1, 1e7, "positions that the config names (4096)"},
    {"model", "rope_theta", V_NUM, M(rope.theta), 1, 1e12, "base of the rotation's frequencies (10000)"},
    {"model", "route_scale", V_NUM, M(route_scale), 0, 1e3, "factor on the experts' weights (2.5)"},
    {"stage", "from", V_STR, S(from), 0, 0, "the stage whose model it starts from (the one before)"},
    {"stage", "from_model", V_STR, S(from_model), 0, 0, "grow: a model folder of the recipe's shape and words to start from"},
    {"stage", "d_model", V_INT, S(grow.d_model), 1, 65536, "grow: width D, a multiple of the one before; 0, or left out: as before"},
    {"stage", "d_ff", V_INT, S(grow.d_ff), 1, 1 << 20, "grow: feed-forward width F of dense layers"},
    {"stage", "d_expert", V_INT, S(grow.d_expert), 1, 1 << 20, "grow: width of an expert"},
    {"stage", "n_head", V_INT, S(grow.n_head), 1, 1024, "grow: heads H"},
    {"stage", "nope", V_INT, S(grow.nope), 1, 65536, "grow: head size without rotation N"},
    {"stage", "rope_dim", V_INT, S(grow.rope_dim), 2, 65536, "grow: rotated head size R, a multiple"},
    {"stage", "v_dim", V_INT, S(grow.v_dim), 1, 65536, "grow: head size of values"},
    {"stage", "q_lora", V_INT, S(grow.q_lora), 1, 65536, "grow: query latent Q, a multiple"},
    {"stage", "kv_lora", V_INT, S(grow.kv_lora), 1, 65536, "grow: key-value latent C"},
    {"stage", "tasks", V_TASKS, S(tasks), 0, 0, "tasks and their shares: countdown3:3 equation:1"},
    {"stage", "tasks_end", V_TASKS, S(tasks_end), 0, 0, "pretrain, grpo: the shares move to these, linearly until the stage's end"},
    {"stage", "variant", V_VARIANT, S(variant), 0, 0, "free: worded as people type; eval only: wording or large, unlike all that training shows"},
    {"stage", "tokens", V_COUNT, S(tokens), 1, 1e12, "budget of a pretrain stage"},
    {"stage", "batch_tokens", V_COUNT, S(batch_tokens), 1, 1e8, "tokens of an update (3072)"},
    {"stage", "steps", V_INT, S(steps), 0, 1e8, "grpo: rounds of rollouts and updates"},
    {"stage", "warmup", V_INT, S(warmup), 0, 1e8, "updates in which the learning rate rises (20)"},
    {"stage", "decay", V_NUM, S(decay), 0, 1, "share of the stage, at its end, in which the rate falls (0.3)"},
    {"stage", "lr_min", V_NUM, S(lr_min), 0, 1, "what it falls to, of the top rate (0.05)"},
    {"stage", "lr", V_NUM, S(optim.lr), 0, 10, "AdamW's learning rate"},
    {"stage", "muon_lr", V_NUM, S(optim.muon_lr), 0, 10, "Muon's, for the matrices; 0: AdamW for them too (0)"},
    {"stage", "beta1", V_NUM, S(optim.beta1), 0, 1, "AdamW (0.9)"},
    {"stage", "beta2", V_NUM, S(optim.beta2), 0, 1, "AdamW (0.95)"},
    {"stage", "momentum", V_NUM, S(optim.momentum), 0, 1, "Muon (0.95)"},
    {"stage", "weight_decay", V_NUM, S(optim.weight_decay), 0, 10, "of matrices (0)"},
    {"stage", "clip", V_NUM, S(optim.clip), 0, 1e9, "largest norm of the gradient; 0: any (1)"},
    {"stage", "balance_rate", V_NUM, S(balance_rate), 0, 1, "of the router's bias, per update (0.001; grpo 0)"},
    {"stage", "draft_weight", V_NUM, S(draft_weight), 0, 10, "of the draft layer's loss (0.1; grpo 0)"},
    {"stage", "prompt_weight", V_NUM, S(prompt_weight), 0, 1, "of a prompt's tokens in the loss, a reply's being 1 (pretrain 1; sft 0)"},
    {"stage", "file", V_STR, S(file), 0, 0, "JSONL of samples, in the run's folder: read by sft, written by sample"},
    {"stage", "epochs", V_NUM, S(epochs), 0, 1e6, "sft: passes over the file (1)"},
    {"stage", "questions", V_INT, S(questions), 1, 65536, "grpo: problems of a round (24)"},
    {"stage", "group", V_INT, S(group), 1, 4096, "grpo: answers per problem (12)"},
    {"stage", "minibatches", V_INT, S(minibatches), 1, 1024, "grpo: updates of a round (2)"},
    {"stage", "max_new", V_INT, S(max_new), 1, 1e6, "longest reply, in tokens (320)"},
    {"stage", "temperature", V_NUM, S(temperature), 0, 100, "of sampling (grpo 1, eval 0.6)"},
    {"stage", "top_p", V_NUM, S(top_p), 0, 1, "of sampling (1)"},
    {"stage", "eps_low", V_NUM, S(eps_low), 0, 1e6, "clip range below 1 (0.2)"},
    {"stage", "eps_high", V_NUM, S(eps_high), 0, 1e6, "clip range above 1 (0.2)"},
    {"stage", "beta", V_NUM, S(beta), 0, 1e6, "weight of the KL term against the reference model (0)"},
    {"stage", "ref_every", V_INT, S(ref_every), 0, 1e9, "rounds after which the reference is refreshed; 0: never (0)"},
    {"stage", "divide_std", V_BOOL, S(divide_std), 0, 0, "advantage divided by the group's deviation (true)"},
    {"stage", "token_mean", V_BOOL, S(token_mean), 0, 0, "every token counts alike; false: every answer (true)"},
    {"stage", "drop_equal", V_BOOL, S(drop_equal), 0, 0, "groups with equal rewards are left out (true)"},
    {"stage", "random_reward", V_BOOL, S(random_reward), 0, 0, "a control: rewards by coin, which must not help (false)"},
    {"stage", "format_weight", V_NUM, S(format_weight), 0, 100, "reward of a well-formed reply (0.1)"},
    {"stage", "honest_weight", V_NUM, S(honest_weight), 0, 100, "penalty times the share of wrong equations; sample: above 0, answers with any are left out (0)"},
    {"stage", "overlong", V_INT, S(overlong), 0, 1e6, "soft penalty over the last so many tokens; 0: none (64)"},
    {"stage", "n", V_INT, S(n), 1, 1e8, "problems of eval and sample (1000)"},
    {"stage", "samples", V_INT, S(samples), 1, 1024, "answers per problem of eval and sample (1)"},
    {"stage", "eval_every", V_INT, S(eval_every), 0, 1e8, "updates between held-out checks; 0: none (0)"},
    {"stage", "eval_n", V_INT, S(eval_n), 1, 1e8, "problems of such a check (256)"},
    {"stage", "eval_samples", V_INT, S(eval_samples), 1, 1024, "answers per problem of such a check: pass@k up to it (1)"},
};

const RecipeKey *recipe_keys(int *n)
{
    static RecipeKey out[ARRAY_LEN(KEYS)];
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) out[i] = (RecipeKey){KEYS[i].section, KEYS[i].name, KEYS[i].help};
    *n = (int)ARRAY_LEN(KEYS);
    return out;
}

static const char *const STAGE_KIND[STAGE_COUNT] = {"pretrain", "sft", "grpo", "grow", "sample", "eval"};
const char *stage_kind_name(StageKind k)
{
    return k >= 0 && k < STAGE_COUNT ? STAGE_KIND[k] : "?";
}

static void recipe_defaults(Recipe *r)
{
    Config *c = &r->model;
    memset(r, 0, sizeof *r);
    r->seed = 1;
    r->slot_tokens = 1024;
    r->context = 512;
    r->keep_tape = true;
    r->checkpoint_s = 60;
    r->save_type = DT_BF16;
    c->arch = ARCH_DEEPSEEK_V3;
    c->rms_eps = 1e-6;
    c->rope = (Rope){.kind = ROPE_NONE, .theta = 10000, .factor = 1, .cos_sin_factor = 1, .interleaved = true};
    c->max_pos = 4096;
    c->head_dim = 1;
    c->n_group = c->topk_group = 1;
    c->scoring = SCORING_SIGMOID;
    c->route = ROUTE_NOAUX;
    c->norm_topk = true;
    c->route_scale = 2.5;
    c->bos = 0;
    c->eos[0] = c->n_eos = 1;
    snprintf(c->model_type, sizeof c->model_type, "deepseek_v3");
}

static Stage stage_defaults(StageKind kind)
{
    bool rl = kind == STAGE_GRPO;
    return (Stage){.kind = kind, .batch_tokens = 3072, .warmup = rl ? 5 : 20, .decay = rl ? 0 : 0.3, .lr_min = 0.05,
                   .optim = {.lr = rl ? 4e-4 : 3e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .momentum = 0.95, .clip = 1},
                   .balance_rate = rl ? 0 : 0.001, .draft_weight = rl ? 0 : 0.1, .prompt_weight = kind == STAGE_PRETRAIN ? 1 : 0, .epochs = 1, .questions = 24, .group = 12,
                   .minibatches = 2, .max_new = 320, .n = 1000, .samples = 1, .temperature = rl || kind == STAGE_SAMPLE ? 1 : 0.6,
                   .top_p = 1, .eps_low = 0.2, .eps_high = 0.2, .divide_std = true, .token_mean = true, .drop_equal = true,
                   .format_weight = 0.1, .overlong = 64, .eval_n = 256, .eval_samples = 1};
}

/* ---- values ---- */
typedef struct Line {
    const char *what;
    int         number;
    char       *key, *value;
} Line;

static int bad(const Line *l, aha_error *e, const char *expected)
{
    char q[80];
    return error_set(e, AHA_ERR_FORMAT, "%s:%d: %s = %s, expected %s", l->what, l->number, l->key,
                     error_quote(q, sizeof q, l->value, strlen(l->value)), expected);
}

static bool parse_number(const char *s, bool suffix, double *out)
{
    char  *end;
    double v = number_read(s, &end);
    if (end == s) return false;
    if (suffix && (*end == 'k' || *end == 'M' || *end == 'G')) {
        v *= *end == 'k' ? 1e3 : *end == 'M' ? 1e6 : 1e9;
        end++;
    }
    *out = v;
    return *end == 0 && v == v;
}

static int set_tasks(TaskMix *m, const Line *l, aha_error *e)
{
    char *save = NULL;
    m->n = 0;
    for (char *w = strtok_r(l->value, " \t,", &save); w; w = strtok_r(NULL, " \t,", &save), m->n++) {
        char *colon = strchr(w, ':');
        if (m->n == STAGE_TASKS_MAX) return bad(l, e, "at most 8 tasks");
        m->share[m->n] = 1;
        if (colon && (!parse_number(colon + 1, false, &m->share[m->n]) || m->share[m->n] <= 0 || m->share[m->n] > SHARE_MAX))
            return bad(l, e, "NAME:SHARE with a share above 0, at most a million");
        if (colon) *colon = 0;
        m->task[m->n] = task_find(w, e);
        if (!m->task[m->n]) return error_prefix(e, AHA_ERR_FORMAT, "%s:%d", l->what, l->number);
    }
    return m->n ? 0 : bad(l, e, "at least one task");
}

static int set_variant(Variant *v, const Line *l, aha_error *e)
{
    int rc = variant_find(l->value, v, e);
    return rc ? error_prefix(e, AHA_ERR_FORMAT, "%s:%d", l->what, l->number) : 0;
}

static int set_value(void *base, const Key *k, const Line *l, aha_error *e)
{
    char   range[96];
    void  *at = (char *)base + k->offset;
    double v = 0;
    bool   b;
    switch (k->type) {
    case V_TASKS: return set_tasks(at, l, e);
    case V_VARIANT: return set_variant(at, l, e);
    case V_STR:
        if (strlen(l->value) >= k->size) return bad(l, e, "a shorter text");
        memcpy(at, l->value, strlen(l->value) + 1);
        return 0;
    case V_BOOL:
        if (strcmp(l->value, "true") != 0 && strcmp(l->value, "false") != 0) return bad(l, e, "true or false");
        b = l->value[0] == 't';
        memcpy(at, &b, sizeof b);
        return 0;
    default: break;
    }
    snprintf(range, sizeof range, "a%s number from %g to %g", k->type == V_NUM ? "" : " whole", k->lo, k->hi);
    if (!parse_number(l->value, k->type == V_COUNT, &v) || v < k->lo || v > k->hi || (k->type != V_NUM && v != (double)(int64_t)v))
        return bad(l, e, range);
    if (k->type == V_NUM) {
        memcpy(at, &v, sizeof v);
    } else if (k->size == sizeof(int64_t)) {
        int64_t i = (int64_t)v;
        memcpy(at, &i, sizeof i);
    } else {
        int i = (int)v;
        memcpy(at, &i, sizeof i);
    }
    return 0;
}

static int unknown(const Line *l, const char *section, aha_error *e)
{
    const char *names[ARRAY_LEN(KEYS)], *near;
    char        q[80];
    int         n = 0;
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        if (strcmp(KEYS[i].section, section) == 0) names[n++] = KEYS[i].name;
    near = name_nearest(l->key, names, n);
    return error_set(e, AHA_ERR_FORMAT, "%s:%d: unknown key %s%s%s%s", l->what, l->number,
                     error_quote(q, sizeof q, l->key, strlen(l->key)), near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static char *trim(char *s)
{
    char *end = s + strlen(s);
    while (*s == ' ' || *s == '\t') s++;
    while (end > s && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) *--end = 0;
    return s;
}

/* The names of runs, stages and files become paths and text of reports: letters, digits and . _ - and no dot in front. */
static bool name_is_simple(const char *s)
{
    static const char ALLOWED[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return *s && *s != '.' && s[strspn(s, ALLOWED)] == 0;
}

/* "[model]" or "[KIND NAME]" */
static int open_section(Recipe *r, const Line *l, char *inner, const char **section, aha_error *e)
{
    char *space = strchr(inner, ' '), *name = space ? trim(space + 1) : NULL;
    if (strcmp(inner, "model") == 0) {
        *section = "model";
        return 0;
    }
    if (space) *space = 0;
    for (int k = 0; k < STAGE_COUNT; k++) {
        if (strcmp(inner, STAGE_KIND[k]) != 0) continue;
        if (!name || strlen(name) >= sizeof r->stage[0].name || !name_is_simple(name))
            return error_set(e, AHA_ERR_FORMAT, "%s:%d: expected [%s NAME] with a short name of letters, digits and . _ -", l->what, l->number,
                             inner);
        if (strcmp(name, "checkpoint") == 0)
            return error_set(e, AHA_ERR_FORMAT, "%s:%d: a stage named checkpoint: the run keeps its own state in a folder of that name", l->what,
                             l->number);
        for (int i = 0; i < r->n_stage; i++)
            if (strcmp(r->stage[i].name, name) == 0)
                return error_set(e, AHA_ERR_FORMAT, "%s:%d: a second stage named %s", l->what, l->number, name);
        if (r->n_stage == RECIPE_STAGES_MAX)
            return error_set(e, AHA_ERR_LIMIT, "%s:%d: more than %d stages", l->what, l->number, RECIPE_STAGES_MAX);
        r->stage[r->n_stage] = stage_defaults((StageKind)k);
        snprintf(r->stage[r->n_stage++].name, sizeof r->stage[0].name, "%s", name);
        *section = "stage";
        return 0;
    }
    return error_set(e, AHA_ERR_FORMAT, "%s:%d: unknown section [%s]: expected model, pretrain, sft, grpo, grow, sample or eval", l->what,
                     l->number, inner);
}

static int parse_line(Recipe *r, Line *l, char *s, const char **section, aha_error *e)
{
    char *hash = strchr(s, '#'), *eq, *close;
    if (hash) *hash = 0;
    s = trim(s);
    if (!*s) return 0;
    if (*s == '[') {
        close = strchr(s, ']');
        if (!close || close[1]) return error_set(e, AHA_ERR_FORMAT, "%s:%d: expected [SECTION]", l->what, l->number);
        *close = 0;
        return open_section(r, l, s + 1, section, e);
    }
    eq = strchr(s, '=');
    if (!eq) return error_set(e, AHA_ERR_FORMAT, "%s:%d: expected KEY = VALUE", l->what, l->number);
    *eq = 0;
    l->key = trim(s);
    l->value = trim(eq + 1);
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        if (strcmp(KEYS[i].section, *section) == 0 && strcmp(KEYS[i].name, l->key) == 0)
            return set_value(strcmp(*section, "stage") == 0 ? (void *)&r->stage[r->n_stage - 1] : (void *)r, &KEYS[i], l, e);
    return unknown(l, *section, e);
}

static int add_tasks(const TaskMix *m, const Task *out[TASKS_MAX], int n)
{
    for (int i = 0; i < m->n; i++) {
        int k = 0;
        while (k < n && out[k] != m->task[i]) k++;
        if (k == n) out[n++] = m->task[i];
    }
    return n;
}

int stage_tasks(const Stage *s, const Task *out[TASKS_MAX])
{
    return add_tasks(&s->tasks_end, out, add_tasks(&s->tasks, out, 0));
}

int recipe_tasks(const Recipe *r, const Task *out[TASKS_MAX])
{
    int                n = 0, all;
    const Task *const *task = task_all(&all);
    for (int i = 0; i < r->n_stage; i++) n = add_tasks(&r->stage[i].tasks_end, out, add_tasks(&r->stage[i].tasks, out, n));
    for (int i = 0; n == 0 && i < all; i++) out[i] = task[i];
    return n ? n : all;
}

/* A stage's tasks: named where they are needed, with a corpus where they are learned from. */
static int check_tasks(const Stage *s, const char *what, aha_error *e)
{
    const Task *task[TASKS_MAX];
    int         n = stage_tasks(s, task);
    if (s->kind != STAGE_SFT && s->kind != STAGE_GROW && s->tasks.n == 0) return error_set(e, AHA_ERR_FORMAT, "%s: stage %s names no tasks", what, s->name);
    if (s->tasks_end.n && s->kind != STAGE_PRETRAIN && s->kind != STAGE_GRPO)
        return error_set(e, AHA_ERR_FORMAT, "%s: stage %s has tasks_end, which only pretrain and grpo stages move to", what, s->name);
    if (s->variant > VARIANT_FREE && s->kind != STAGE_EVAL)
        return error_set(e, AHA_ERR_FORMAT, "%s: stage %s has variant %s, which is for eval stages only: no training may show it", what, s->name,
                         variant_name(s->variant));
    for (int i = 0; i < n && s->kind != STAGE_EVAL; i++)
        if (!task[i]->demo)
            return error_set(e, AHA_ERR_FORMAT, "%s: stage %s trains on %s, which is for eval stages only: it has no corpus", what, s->name, task[i]->name);
    return 0;
}

/* Whether a stage has replies of its own written. */
static bool asks(const Stage *s)
{
    return s->kind == STAGE_GRPO || s->kind == STAGE_SAMPLE || s->kind == STAGE_EVAL || s->eval_every > 0;
}

/* A stage that grows has something to grow from; no other stage has widths. */
static int check_grow(const Recipe *r, const Stage *s, const char *what, aha_error *e)
{
    static const Widths none;
    bool                asks = s->from_model[0] || memcmp(&s->grow, &none, sizeof none) != 0;
    if (s->kind != STAGE_GROW && asks) return error_set(e, AHA_ERR_FORMAT, "%s: stage %s has from_model or widths, which are for grow stages", what, s->name);
    if (s->kind != STAGE_GROW || s->from_model[0]) return 0;
    const Stage *from = recipe_source(r, s);
    if (!from || !stage_leaves_model(from->kind))
        return error_set(e, AHA_ERR_FORMAT, "%s: stage %s has no model to grow: from = a stage that trains one, or from_model = a folder", what, s->name);
    return 0;
}

/* What single keys cannot say. */
static int check(const Recipe *r, const char *what, aha_error *e)
{
    if (!name_is_simple(r->name))
        return error_set(e, AHA_ERR_FORMAT, "%s: expected name = a name of letters, digits and . _ -", what);
    if (r->n_stage == 0) return error_set(e, AHA_ERR_FORMAT, "%s: no stages", what);
    for (int i = 0; i < r->n_stage; i++) {
        const Stage *s = &r->stage[i];
        bool         found = !s->from[0];
        for (int j = 0; j < i; j++) found = found || strcmp(s->from, r->stage[j].name) == 0;
        if (!found) return error_set(e, AHA_ERR_FORMAT, "%s: stage %s comes from %s, which is no stage before it", what, s->name, s->from);
        if (check_tasks(s, what, e) || check_grow(r, s, what, e)) return AHA_ERR_FORMAT;
        if (s->kind == STAGE_PRETRAIN && s->tokens == 0)
            return error_set(e, AHA_ERR_FORMAT, "%s: stage %s has no budget: tokens = ...", what, s->name);
        if ((s->kind == STAGE_SFT || s->kind == STAGE_SAMPLE) && !s->file[0])
            return error_set(e, AHA_ERR_FORMAT, "%s: stage %s names no file", what, s->name);
        if (s->file[0] && !name_is_simple(s->file)) /* it is written to, and a recipe may come from anywhere */
            return error_set(e, AHA_ERR_FORMAT, "%s: stage %s: file leads out of the run's folder, expected a name of letters, digits and . _ -",
                             what, s->name);
        if (asks(s) && s->max_new >= r->context) /* found here, and not behind hours of training */
            return error_set(e, AHA_ERR_FORMAT, "%s: stage %s: max_new is %d, expected less than the context of %d", what, s->name, s->max_new,
                             r->context);
        if (s->kind == STAGE_GRPO && s->minibatches > s->questions)
            return error_set(e, AHA_ERR_FORMAT, "%s: stage %s has %d minibatches for %d questions", what, s->name, s->minibatches, s->questions);
    }
    return 0;
}

int recipe_parse(Recipe *r, const char *text, size_t n, const char *what, aha_error *e)
{
    const char *section = "";
    Line        l = {what, 0, NULL, NULL};
    char       *copy, *s;
    int         rc = 0;
    recipe_defaults(r);
    if (n > RECIPE_BYTES_MAX || memchr(text, 0, n)) return error_set(e, AHA_ERR_FORMAT, "%s: not a text of at most 1 MiB", what);
    r->text = mem_alloc(n + 1);
    copy = mem_alloc(n + 1);
    if (!r->text || !copy) {
        mem_free(copy);
        recipe_free(r);
        return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %s", what);
    }
    memcpy(r->text, text, n);
    memcpy(copy, text, n);
    r->text[n] = copy[n] = 0;
    s = copy;
    while (s && rc == 0) {
        char *next = strchr(s, '\n');
        if (next) *next++ = 0;
        l.number++;
        rc = parse_line(r, &l, s, &section, e);
        s = next;
    }
    mem_free(copy);
    r->model.n_kv_head = r->model.n_head; /* published MLA configs say so, though keys are shared */
    if (rc == 0) rc = check(r, what, e);
    if (rc) recipe_free(r);
    return rc;
}

int recipe_read(Recipe *r, const char *path, aha_error *e)
{
    char   with[4096], *text;
    size_t n;
    int    rc;
    memset(r, 0, sizeof *r);
    snprintf(with, sizeof with, "%s%s", path, file_exists(path) && !dir_exists(path) ? "" : ".ini");
    if ((rc = file_read_all(with, RECIPE_BYTES_MAX, &text, &n, e)) != 0) return rc;
    rc = recipe_parse(r, text, n, with, e);
    mem_free(text);
    if (rc == 0 && (rc = recipe_check_model(r, with, e)) != 0) recipe_free(r);
    return rc;
}

void recipe_free(Recipe *r)
{
    mem_free(r->text);
    r->text = NULL;
}
