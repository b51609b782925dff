/* The time of a training step (forward, backward, update) of a recipe's model on random tokens.
 * usage: bench_train [RECIPE] [TOKENS] [STEPS] [plain]      prints one JSON line: medians, to be put beside a peer's in the
 * same run (tools/bench_torch.py runs the two in turn).  plain: without the draft layer and with AdamW alone, which is what
 * the peer computes. */
#include "cpu/cpu.h"
#include "learn/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQ = 120 }; /* tokens of a sequence: what the corpus has */

static int cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int fail(const aha_error *e)
{
    fprintf(stderr, "bench_train: %s\n", e->text);
    return 1;
}

int main(int argc, char **argv)
{
    const char    *path = argc > 1 ? argv[1] : "recipes/laptop";
    int            tokens = argc > 2 ? atoi(argv[2]) : 3000, steps = argc > 3 ? atoi(argv[3]) : 9, n = tokens / SEQ, rc;
    aha_error      e = {0};
    Recipe         r;
    Model         *m;
    Trainer        t;
    const Kernels *k = cpu_kernels(getenv("AHA_CPU"), &e);
    Pool          *pool = pool_new(0, &e);
    Rng            rng = {1, 0, 0};
    Sample        *s = calloc((size_t)n, sizeof *s);
    double        *time_s = calloc((size_t)steps, sizeof *time_s);
    if (!k || !pool || !s || !time_s || n < 1 || steps < 1) return fail(&e);
    if (recipe_read(&r, path, &e)) return fail(&e);
    r.model.vocab = 1500;
    if (argc > 4 && strcmp(argv[4], "plain") == 0) {
        r.model.n_mtp = 0;
        r.stage[0].optim.muon_lr = 0;
    }
    TrainerOptions o = {.optim = r.stage[0].optim, .slot_tokens = r.slot_tokens, .sample_max = r.context, .keep_tape = r.keep_tape};
    if ((rc = model_init_random(&m, &r.model, NULL, 1, &e)) || (rc = trainer_init(&t, m, k, pool, &o, &e))) return fail(&e);
    for (int i = 0; i < n; i++) {
        int32_t *tok = malloc(SEQ * sizeof *tok);
        float   *coef = malloc(SEQ * sizeof *coef);
        if (!tok || !coef) return 1;
        for (int j = 0; j < SEQ; j++) {
            tok[j] = (int32_t)rng_below(&rng, (uint32_t)r.model.vocab);
            coef[j] = 1.0f / (float)(n * (SEQ - 1));
        }
        s[i] = (Sample){tok, coef, SEQ, i};
    }
    for (int i = -2; i < steps; i++) {
        Objective obj = {.draft_weight = r.model.n_mtp ? r.stage[0].draft_weight : 0};
        uint64_t  t0 = time_now_ns();
        if (trainer_accumulate(&t, s, n, &obj, NULL, &e) || trainer_update(&t, 1, NULL, &e)) return fail(&e);
        if (i >= 0) time_s[i] = (double)(time_now_ns() - t0) * 1e-9;
    }
    qsort(time_s, (size_t)steps, sizeof *time_s, cmp);
    printf("{\"program\":\"aha\",\"isa\":\"%s\",\"threads\":%d,\"tokens\":%d,\"parameters\":%zu,\"step_s\":%.4f,\"min_s\":%.4f,\"max_s\":%.4f,"
           "\"tokens_per_s\":%.0f}\n",
           k->isa, pool_threads(pool), n * SEQ, t.optim.n, time_s[steps / 2], time_s[0], time_s[steps - 1], n * SEQ / time_s[steps / 2]);
    return 0;
}
