/* Logits of a GGUF file by llama.cpp, for tools/llama_logits.py, which compiles this against a build of it.
 *
 *   llama_logits FILE.gguf ARCHITECTURE VOCAB SUMS [BETA_FAST BETA_SLOW] < ids > logits
 *                                                                   ids: i32, logits: f32 [T, VOCAB], both little-endian
 *
 * One batch, keys and values in f32, no flash attention.  A file without a tokenizer is told that it has none.  SUMS: a file for
 * the sums of squares of what each matrix is multiplied with, as text lines NAME MATRIX COLUMN SUM; "-": none.  BETA_FAST, BETA_SLOW: YaRN's, in place of those that llama.cpp
 * takes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml.h"
#include "llama.h"

enum { TOKENS_MAX = 4096, MATRICES_MAX = 4096 };

typedef struct Matrix {
    char    name[GGML_MAX_NAME];
    int64_t cols, mats;
    double *sum2;
} Matrix;
static Matrix g_matrix[MATRICES_MAX];
static int    g_n;

static Matrix *matrix_of(const struct ggml_tensor *w)
{
    for (int i = 0; i < g_n; i++)
        if (!strcmp(g_matrix[i].name, w->name)) return &g_matrix[i];
    if (g_n == MATRICES_MAX) return NULL;
    Matrix *m = &g_matrix[g_n++];
    snprintf(m->name, sizeof m->name, "%s", w->name);
    m->cols = w->ne[0];
    m->mats = w->ne[2];
    m->sum2 = calloc((size_t)(m->cols * m->mats), sizeof *m->sum2);
    return m;
}

static void add_row(Matrix *m, int64_t mat, const struct ggml_tensor *x, int64_t i1, int64_t i2)
{
    const float *row = (const float *)(const void *)((const char *)x->data + i1 * (int64_t)x->nb[1] + i2 * (int64_t)x->nb[2]);
    for (int64_t k = 0; k < m->cols && m->sum2; k++) m->sum2[mat * m->cols + k] += (double)row[k] * (double)row[k];
}

static bool on_tensor(struct ggml_tensor *t, bool ask, void *user)
{
    const struct ggml_tensor *w = t->src[0], *x = t->src[1], *ids = t->src[2];
    bool                      one = !strcmp(ggml_op_name(t->op), "MUL_MAT"), chosen = !strcmp(ggml_op_name(t->op), "MUL_MAT_ID");
    (void)user;
    if (!(one || chosen) || !w || x->type != GGML_TYPE_F32 || (strncmp(w->name, "blk.", 4) != 0 && strcmp(w->name, "output.weight") != 0)) return !ask;
    if (ask) return true;
    Matrix *m = matrix_of(w);
    if (!m) return true;
    if (one) {
        for (int64_t i2 = 0; i2 < x->ne[2]; i2++)
            for (int64_t i1 = 0; i1 < x->ne[1]; i1++) add_row(m, i2 % m->mats, x, i1, i2);
        return true;
    }
    for (int64_t row = 0; row < ids->ne[1]; row++)
        for (int64_t k = 0; k < ids->ne[0]; k++) {
            int32_t e;
            memcpy(&e, (const char *)ids->data + row * (int64_t)ids->nb[1] + k * (int64_t)ids->nb[0], sizeof e);
            add_row(m, e, x, k % x->ne[1], row);
        }
    return true;
}

static void write_sums(const char *path)
{
    FILE *f = fopen(path, "w");
    for (int i = 0; f && i < g_n; i++)
        for (int64_t k = 0; k < g_matrix[i].mats * g_matrix[i].cols; k++)
            fprintf(f, "%s %" PRId64 " %" PRId64 " %.9g\n", g_matrix[i].name, k / g_matrix[i].cols, k % g_matrix[i].cols, g_matrix[i].sum2[k]);
    if (f) fclose(f);
}

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level >= GGML_LOG_LEVEL_WARN) fputs(text, stderr);
}

static struct llama_model *load(const char *path, const char *arch, int vocab)
{
    struct llama_model_kv_override o[3] = {{.tag = LLAMA_KV_OVERRIDE_TYPE_STR, .key = "tokenizer.ggml.model"}, {.tag = LLAMA_KV_OVERRIDE_TYPE_INT}};
    struct llama_model_params      p = llama_model_default_params();
    snprintf(o[0].val_str, sizeof o[0].val_str, "no_vocab");
    snprintf(o[1].key, sizeof o[1].key, "%s.vocab_size", arch);
    o[1].val_i64 = vocab;
    p.kv_overrides = o;
    return llama_model_load_from_file(path, p);
}

static int run(struct llama_model *m, int vocab, const int32_t *id, int n, bool sums, const float *beta)
{
    struct llama_context_params c = llama_context_default_params();
    struct llama_batch          b = llama_batch_init(n, 0, 1);
    c.n_ctx = c.n_batch = c.n_ubatch = (uint32_t)n;
    c.n_threads = c.n_threads_batch = 1;
    c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    c.type_k = c.type_v = GGML_TYPE_F32;
    c.cb_eval = sums ? on_tensor : NULL;
    if (beta) {
        c.yarn_beta_fast = beta[0];
        c.yarn_beta_slow = beta[1];
    }
    struct llama_context *x = llama_init_from_model(m, c);
    for (int i = 0; i < n; i++) {
        b.token[i] = id[i];
        b.pos[i] = i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = 0;
        b.logits[i] = 1;
    }
    b.n_tokens = n;
    if (!x || llama_decode(x, b) != 0) return 1;
    for (int i = 0; i < n; i++)
        if (fwrite(llama_get_logits_ith(x, i), sizeof(float), (size_t)vocab, stdout) != (size_t)vocab) return 1;
    return 0;
}

int main(int argc, char **argv)
{
    static int32_t id[TOKENS_MAX];
    float          beta[2] = {0};
    if (argc != 5 && argc != 7) return 2;
    for (int i = 5; i < argc; i++) beta[i - 5] = (float)atof(argv[i]);
    int n = (int)fread(id, sizeof *id, TOKENS_MAX, stdin), vocab = atoi(argv[3]);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *m = load(argv[1], argv[2], vocab);
    if (!m || n < 1 || run(m, vocab, id, n, strcmp(argv[4], "-") != 0, argc == 7 ? beta : NULL)) return 1;
    if (strcmp(argv[4], "-") != 0) write_sums(argv[4]);
    return 0;
}
