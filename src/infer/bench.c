/* How fast the engine is: random prompts, without the cache, then a fixed number of tokens. */
#include "infer.h"

static int32_t *random_prompt(int n, int vocab, uint64_t stream, aha_error *e)
{
    Rng      r = {1, stream, 0};
    int32_t *t = mem_alloc((size_t)n * sizeof *t);
    if (!t) {
        error_set(e, AHA_ERR_NOMEM, "no memory for a prompt of %d tokens", n);
        return NULL;
    }
    for (int i = 0; i < n; i++) t[i] = (int32_t)rng_below(&r, (uint32_t)vocab);
    return t;
}

static int submit_all(Engine *g, const Bench *b, int vocab, Seq **seq, aha_error *e)
{
    for (int i = 0; i < b->n_seqs; i++) {
        SeqRequest r = {.prompt = random_prompt(b->n_prompt, vocab, (uint64_t)i, e), .n_prompt = b->n_prompt, .max_new = b->n_new,
                        .no_cache = true};
        int        rc = r.prompt ? engine_submit(g, &r, &seq[i], e) : AHA_ERR_NOMEM;
        mem_free((void *)(uintptr_t)r.prompt);
        if (rc) return rc;
    }
    return 0;
}

static double seconds_since(uint64_t t) { return (double)(time_now_ns() - t) * 1e-9; }

/* Until every sequence has its first token, and from there to the end. */
static int run_timed(Engine *g, Bench *b, Seq *const *seq, aha_error *e)
{
    uint64_t    start = time_now_ns();
    EngineStats before = engine_stats(g), middle, after;
    int         left = 1, n = 0;
    for (int first = 0; left > 0 && first < b->n_seqs;) {
        if ((left = engine_step(g, e)) < 0) return left;
        while (first < b->n_seqs && (seq_tokens(seq[first], &n), n > 0)) first++;
    }
    b->prompt_s = seconds_since(start);
    middle = engine_stats(g);
    start = time_now_ns();
    while (left > 0)
        if ((left = engine_step(g, e)) < 0) return left;
    after = engine_stats(g);
    b->new_s = seconds_since(start);
    b->prompt_tokens = middle.prompt_tokens - before.prompt_tokens;
    b->new_tokens = after.new_tokens - middle.new_tokens;
    b->steps = after.steps - middle.steps;
    return 0;
}

int engine_bench(Engine *g, const Model *m, Bench *b, aha_error *e)
{
    Seq **seq;
    int   rc;
    if (b->n_prompt < 1 || b->n_new < 1 || b->n_seqs < 1 || b->n_seqs > 1 << 16)
        return error_set(e, AHA_ERR_ARG, "bench of %d sequences of %d and %d tokens, expected at least 1 of each", b->n_seqs, b->n_prompt,
                         b->n_new);
    if (!(seq = mem_zalloc((size_t)b->n_seqs, sizeof(Seq *)))) return error_set(e, AHA_ERR_NOMEM, "no memory for %d sequences", b->n_seqs);
    rc = submit_all(g, b, m->cfg.vocab, seq, e);
    if (rc == 0) rc = run_timed(g, b, seq, e);
    for (int i = 0; i < b->n_seqs; i++) seq_free(seq[i]);
    mem_free(seq);
    return rc;
}
