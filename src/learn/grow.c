/* Growing a model.  Every index of a weight's rows and columns comes from one of the narrow weight's, or is new:
 *
 *   residual D, query latent Q  every channel k times: RMSNorm does not see it.  What writes them is copied; what reads them gives
 *                               each copy a random share of the old weight, so that the copies part in training.
 *   key-value latent C          new channels are 0 and what reads them is random.  The mean of squares is over more channels now:
 *                               the old ones are scaled by s = sqrt(C'/C) and the norm's gain by 1/s, exact with its epsilon too.
 *   heads H, values V', units F new ones are random, and what reads them (o, down) is 0 there.
 *   key rows N, R               new query rows are 0, new key rows random.  Pair j of k R columns turns as pair k j of R did.  The
 *                               softmax's scale is of N + R: the query rows make up for it.
 *
 * On one side of everything new stand random numbers, so the zeros on its other side have gradients. */
#include "grow.h"

#include <math.h>
#include <string.h>

/* ---- widths ---- */
typedef struct Width {
    const char *name;
    size_t      from, at; /* in Widths, in Config */
    bool        copies;   /* must be a multiple */
} Width;
#define WIDTH(f, copies) {#f, offsetof(Widths, f), offsetof(Config, f), copies}
static const Width WIDTH[] = {WIDTH(d_model, true), WIDTH(d_ff, false), WIDTH(d_expert, false), WIDTH(n_head, false), WIDTH(nope, false),
                              WIDTH(rope_dim, true), WIDTH(v_dim, false), WIDTH(q_lora, true), WIDTH(kv_lora, false)};

int config_widen(Config *c, const Widths *w, aha_error *e)
{
    bool rope_moves = w->rope_dim && w->rope_dim != c->rope_dim;
    if (c->arch != ARCH_DEEPSEEK_V3) return error_set(e, AHA_ERR_ARG, "only models of the deepseek_v3 family grow");
    if (c->tied_embeddings) return error_set(e, AHA_ERR_ARG, "a model whose embedding is its head cannot grow: one is copied, the other shared out");
    if (rope_moves && (c->rope.kind != ROPE_NONE || !c->rope.interleaved))
        return error_set(e, AHA_ERR_ARG, "rope_dim cannot grow where frequencies are scaled or pairs lie in halves");
    for (size_t i = 0; i < ARRAY_LEN(WIDTH); i++) {
        int  want;
        int *have = (int *)(void *)((char *)c + WIDTH[i].at);
        memcpy(&want, (const char *)w + WIDTH[i].from, sizeof want);
        if (!want) continue;
        if (want < *have || (WIDTH[i].copies && (*have == 0 || want % *have != 0)))
            return error_set(e, AHA_ERR_ARG, "%s cannot grow from %d to %d, expected %s", WIDTH[i].name, *have, want,
                             WIDTH[i].copies && *have ? "a whole multiple" : "at least as much, of what is there");
        *have = want;
    }
    c->n_kv_head = c->n_head;
    return 0;
}

/* ---- where an index comes from ---- */
enum { FRESH = -1, ZERO = -2 }; /* new: random, or 0 */
typedef enum How { SAME, RESIDUAL, QUERY, LATENT, LATENT_ROPE, HEADS_Q, HEADS_KV, HEADS_O, UNITS, UNITS_OUT } How;

typedef struct Rule {
    const char *name; /* the end of a weight's */
    How         rows, cols;
    bool        reads; /* its columns are shared out among copies */
} Rule;
static const Rule RULES[] = {
    {"embed_tokens.weight", SAME, RESIDUAL, false},
    {"lm_head.weight", SAME, RESIDUAL, true},
    {"q_a_layernorm.weight", SAME, QUERY, false}, /* before the residual's norms, whose names end alike */
    {"kv_a_layernorm.weight", SAME, LATENT, false},
    {"norm.weight", SAME, RESIDUAL, false},
    {"eh_proj.weight", RESIDUAL, RESIDUAL, true},
    {"q_a_proj.weight", QUERY, RESIDUAL, true},
    {"q_b_proj.weight", HEADS_Q, QUERY, true},
    {"q_proj.weight", HEADS_Q, RESIDUAL, true},
    {"kv_a_proj_with_mqa.weight", LATENT_ROPE, RESIDUAL, true},
    {"kv_b_proj.weight", HEADS_KV, LATENT, false},
    {"o_proj.weight", RESIDUAL, HEADS_O, false},
    {"gate_proj.weight", UNITS, RESIDUAL, true},
    {"up_proj.weight", UNITS, RESIDUAL, true},
    {"down_proj.weight", RESIDUAL, UNITS_OUT, false},
    {"mlp.gate.weight", SAME, RESIDUAL, true},
    {"e_score_correction_bias", SAME, SAME, false},
};

static const Rule *rule_of(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(RULES); i++) {
        size_t k = strlen(RULES[i].name);
        if (n >= k && strcmp(name + n - k, RULES[i].name) == 0) return &RULES[i];
    }
    return NULL;
}

/* of blocks of `to` channels, each `from` channels to / from times over */
static int copied(int i, int from, int to)
{
    return i / to * from + i % to % from;
}

/* a rotated column, or -1 */
static int rope_from(const Config *a, const Config *b, int i)
{
    int k = b->rope_dim / a->rope_dim, pair = i / 2;
    if (k == 1) return i;
    return pair % k == 0 ? pair / k * 2 + i % 2 : -1;
}

/* index i of a head's two parts, of which the wide model has n2 + m2 in each of more heads; part0, part1: what is new in them */
static int head_from(int heads, int n, int m, int n2, int m2, int i, int part0, int part1)
{
    int h = i / (n2 + m2), k = i % (n2 + m2);
    if (h >= heads) return FRESH;
    if (k < n2) return k < n ? h * (n + m) + k : part0;
    return k - n2 < m ? h * (n + m) + n + k - n2 : part1;
}

static int query_from(const Config *a, const Config *b, int i)
{
    int size = b->nope + b->rope_dim, h = i / size, k = i % size, r;
    if (h >= a->n_head || k < b->nope) return head_from(a->n_head, a->nope, a->rope_dim, b->nope, b->rope_dim, i, ZERO, ZERO);
    r = rope_from(a, b, k - b->nope);
    return r < 0 ? ZERO : h * (a->nope + a->rope_dim) + a->nope + r;
}

static int latent_rope_from(const Config *a, const Config *b, int i)
{
    int r;
    if (i < b->kv_lora) return i < a->kv_lora ? i : ZERO;
    r = rope_from(a, b, i - b->kv_lora);
    return r < 0 ? FRESH : a->kv_lora + r;
}

/* n: indices of the narrow weight */
static int index_from(How how, const Config *a, const Config *b, int n, int i)
{
    switch (how) {
    case RESIDUAL: return copied(i, a->d_model, b->d_model);
    case QUERY: return copied(i, a->q_lora, b->q_lora);
    case LATENT_ROPE: return latent_rope_from(a, b, i);
    case HEADS_Q: return query_from(a, b, i);
    case HEADS_KV: return head_from(a->n_head, a->nope, a->v_dim, b->nope, b->v_dim, i, FRESH, FRESH);
    case HEADS_O: i = head_from(a->n_head, 0, a->v_dim, 0, b->v_dim, i, ZERO, ZERO); return i < 0 ? ZERO : i;
    case UNITS_OUT: return i < n ? i : ZERO;
    default: return i < n ? i : FRESH;
    }
}

/* ---- one weight ---- */
typedef struct Growth {
    const Model *from, *to;
    int         *row, *col;   /* where each index comes from */
    float       *share, *sum; /* of the wide columns; of the narrow ones */
} Growth;

/* What an old row or gain is multiplied with (the top of this file). */
static double factor(const Growth *g, const Rule *r, int row)
{
    double s = sqrt((double)g->to->cfg.kv_lora / g->from->cfg.kv_lora);
    if (r->rows == HEADS_Q) return g->from->attn_scale / g->to->attn_scale;
    if (r->rows == LATENT_ROPE) return row < g->to->cfg.kv_lora ? s : 1;
    return r->rows == SAME && r->cols == LATENT ? 1 / s : 1;
}

/* Random shares of a row: those of the copies of one column sum to 1. */
static void draw_shares(Growth *g, Rng *rng, int narrow, int wide)
{
    memset(g->sum, 0, (size_t)narrow * sizeof *g->sum);
    for (int c = 0; c < wide; c++) g->sum[g->col[c]] += g->share[c] = 0.05f + rng_float(rng);
    for (int c = 0; c < wide; c++) g->share[c] /= g->sum[g->col[c]];
}

static void grow_weight(Growth *g, const Weight *a, const Weight *b, const Rule *rule, uint64_t seed)
{
    const Config *f = &g->from->cfg, *t = &g->to->cfg;
    const real   *old = a->data;
    real         *new = (real *)(uintptr_t)b->data;
    Rng           rng = {seed, (uint64_t)b->id, 0};
    for (int i = 0; i < b->rows; i++) g->row[i] = index_from(rule->rows, f, t, a->rows, i);
    for (int i = 0; i < b->cols; i++) g->col[i] = index_from(rule->cols, f, t, a->cols, i);
    for (int i = 0; i < b->rows; i++, new += b->cols) {
        double by = factor(g, rule, i);
        if (rule->reads) draw_shares(g, &rng, a->cols, b->cols);
        for (int c = 0; c < b->cols; c++) {
            if (g->row[i] == ZERO || g->col[c] == ZERO) new[c] = 0;
            else if (g->row[i] >= 0 && g->col[c] >= 0)
                new[c] = (real)(by * (double)old[(size_t)g->row[i] * (size_t)a->cols + (size_t)g->col[c]] * (rule->reads ? (double)g->share[c] : 1));
        }
    }
}

/* ---- the model ---- */
static int grow_weights(Growth *g, uint64_t seed, aha_error *e)
{
    if (g->from->n_weight != g->to->n_weight) return error_set(e, AHA_ERR_INTERNAL, "a grown model has other weights than it grew from");
    for (int i = 0; i < g->to->n_weight; i++) {
        const Weight *a = g->from->weight[i], *b = g->to->weight[i];
        const Rule   *r = rule_of(b->name);
        if (!r || strcmp(a->name, b->name) != 0 || a->dtype != DT_F32) return error_set(e, AHA_ERR_INTERNAL, "%s cannot grow", a->name);
        grow_weight(g, a, b, r, seed);
    }
    return 0;
}

int model_grow(Model **out, const Model *m, const Widths *w, uint64_t seed, aha_error *e)
{
    Growth g = {.from = m};
    Config c = m->cfg;
    Model *to = NULL;
    size_t most = 0;
    int    rc = config_widen(&c, w, e);
    *out = NULL;
    if (rc == 0) rc = model_init_random(&to, &c, NULL, seed, e);
    if (rc) return rc;
    for (int i = 0; i < to->n_weight; i++) {
        size_t n = (size_t)(to->weight[i]->rows > to->weight[i]->cols ? to->weight[i]->rows : to->weight[i]->cols);
        if (n > most) most = n;
    }
    g.to = to;
    g.row = mem_zalloc(most, sizeof *g.row);
    g.col = mem_zalloc(most, sizeof *g.col);
    g.share = mem_zalloc(most, sizeof *g.share);
    g.sum = mem_zalloc(most, sizeof *g.sum);
    rc = g.row && g.col && g.share && g.sum ? grow_weights(&g, seed, e) : error_set(e, AHA_ERR_NOMEM, "cannot get memory to grow a model");
    mem_free(g.row);
    mem_free(g.col);
    mem_free(g.share);
    mem_free(g.sum);
    if (rc) model_free(to);
    else *out = to;
    return rc;
}
