/* What the tests of src/learn share: a recipe in small, a folder, a trainer with samples. */
#ifndef AHA_LEARNLIB_H
#define AHA_LEARNLIB_H

#include "cpu/cpu.h"
#include "learn/checkpoint.h"
#include "learn/learn.h"
#include "learn/run.h"
#include "testlib.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char RECIPE[] =
    "name = test\nseed = 3\ncontext = 256\nslot_tokens = 300\ncheckpoint_s = 1000\n"
    "[model]\nd_model = 32\nn_layer = 2\nn_dense_first = 1\nn_head = 2\nnope = 8\nrope_dim = 4\nv_dim = 8\nq_lora = 16\n"
    "kv_lora = 16\nd_ff = 48\nn_expert = 4\nn_expert_used = 2\nn_shared = 1\nd_expert = 24\nn_mtp = 1\n"
    "[pretrain base]\ntasks = countdown3\ntasks_end = equation:3 direct\ntokens = 9k\nbatch_tokens = 900\nmuon_lr = 0.02\n"
    "[grpo rl]\ntasks = countdown3\ntasks_end = equation\nsteps = 3\nquestions = 2\ngroup = 4\nminibatches = 2\nmax_new = 40\nbeta = 0.01\ndrop_equal = false\neval_every = 2\neval_n = 3\n"
    "[sample own]\ntasks = countdown3\nfrom = base\nn = 4\nfile = own.jsonl\nmax_new = 40\n"
    "[eval look]\ntasks = countdown3 countdown5\nvariant = large\nn = 6\nsamples = 2\nmax_new = 40\n";

static char g_dir[256];

static inline const char *dir_of(const char *name)
{
    static char path[16][512];
    static int  at;
    at = (at + 1) % 16;
    snprintf(path[at], sizeof path[at], "%s/%s", g_dir, name);
    return path[at];
}

static inline const char *write_recipe(const char *text)
{
    static char path[512];
    aha_error   e = {0};
    snprintf(path, sizeof path, "%s", dir_of("recipe.ini"));
    ASSERT_OK(file_write_atomic(path, text, strlen(text), &e), e);
    return path;
}

static inline int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)state;
    snprintf(g_dir, sizeof g_dir, "%s/aha-learn-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(g_dir) ? 0 : -1;
}
static inline int teardown(void **state)
{
    char cmd[400];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", g_dir);
    return system(cmd);
}

/* ---- the trainer ---- */
typedef struct Fixture {
    Recipe   r;
    Model   *m;
    Pool    *pool;
    Trainer  t;
    int32_t  tok[24][40];
    float    coef[24][40];
    Sample   sample[24];
} Fixture;

static inline void fixture_init(Fixture *f, int threads, int slot_tokens, bool keep)
{
    aha_error e = {0};
    Rng       rng = {5, 0, 0};
    ASSERT_OK(recipe_parse(&f->r, RECIPE, strlen(RECIPE), "recipe", &e), e);
    f->r.model.vocab = 200;
    f->pool = pool_new(threads, &e);
    TrainerOptions o = {.optim = f->r.stage[0].optim, .slot_tokens = slot_tokens, .sample_max = 40, .keep_tape = keep, .balance_rate = 0.01};
    ASSERT_OK(model_init_random(&f->m, &f->r.model, NULL, 1, &e), e);
    ASSERT_OK(trainer_init(&f->t, f->m, cpu_kernels(NULL, &e), f->pool, &o, &e), e);
    for (int i = 0; i < 24; i++) {
        int n = 10 + i;
        for (int j = 0; j < n; j++) {
            f->tok[i][j] = (int32_t)rng_below(&rng, 200);
            f->coef[i][j] = j > 3 ? 0.002f : 0;
        }
        f->sample[i] = (Sample){f->tok[i], f->coef[i], n, i};
    }
}
static inline void fixture_free(Fixture *f)
{
    trainer_free(&f->t);
    model_free(f->m);
    pool_free(f->pool);
    recipe_free(&f->r);
}

#endif
