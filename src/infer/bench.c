/* How fast the engine is: prompts of random tokens that nobody read before, then a fixed number of tokens.
 *
 * A depth is made, not computed: keys and values of one page of random tokens, copied to as many pages as it takes and found there
 * as any known beginning of a prompt is.  What attention costs does not depend on the numbers, and a long context would take far
 * longer to compute than to measure at. */
#include "inner.h"

static void random_tokens(int32_t *t, int n, int vocab, uint64_t seed, uint64_t stream)
{
    Rng r = {seed, stream, 0};
    for (int i = 0; i < n; i++) t[i] = (int32_t)rng_below(&r, (uint32_t)vocab);
}

/* ---- depth ---- */
enum { SEED_DEPTH = 1, SEED_PROMPT };

/* A page that was really computed, held for the caller; or negative. */
static int32_t computed_page(Engine *g, int vocab, aha_error *e)
{
    int32_t    token[KV_PAGE + 1];
    SeqRequest r = {.prompt = token, .n_prompt = KV_PAGE + 1, .max_new = 1};
    KvChain    at = kvcache_root(g->kv);
    Seq       *s;
    int        rc;
    random_tokens(token, KV_PAGE + 1, vocab, SEED_DEPTH, UINT64_MAX);
    if ((rc = engine_submit(g, &r, &s, e)) != 0) return rc;
    rc = engine_run(g, e);
    seq_free(s);
    if (rc) return rc;
    rc = kvcache_find(g->kv, &at, token);
    return rc < 0 ? error_set(e, AHA_ERR_LIMIT, "bench: no page of the cache is left") : rc;
}

/* Pages for the tokens, those that are there and copies of `from`; page [n_page] are held.  Returns how many. */
static int fill_pages(Engine *g, const int32_t *token, int n_page, int32_t from, int32_t *page)
{
    KvChain at = kvcache_root(g->kv);
    for (int i = 0; i < n_page; i++, token += KV_PAGE) {
        page[i] = kvcache_find(g->kv, &at, token);
        if (page[i] >= 0) continue;
        if ((page[i] = kvcache_take(g->kv)) < 0) return i;
        kvcache_copy(g->kv, page[i], from);
        page[i] = kvcache_add(g->kv, &at, token, page[i]);
    }
    return n_page;
}

static int make_depth(Engine *g, const Bench *b, int vocab, int32_t *token, aha_error *e)
{
    int      n_page = b->depth / KV_PAGE, held = 0, all = n_page * b->n_seqs;
    int32_t  from = computed_page(g, vocab, e), *page = from < 0 ? NULL : mem_alloc((size_t)all * sizeof *page);
    if (from < 0) return from;
    for (int i = 0; page && i < b->n_seqs; i++) {
        random_tokens(token, b->depth, vocab, SEED_DEPTH, (uint64_t)i);
        held += fill_pages(g, token, n_page, from, page + held);
    }
    for (int i = held; i-- > 0;) kvcache_drop(g->kv, page[i]); /* the last first: it is the first to be given up */
    kvcache_drop(g->kv, from);
    mem_free(page);
    if (!page) return error_set(e, AHA_ERR_NOMEM, "no memory for %d pages", all);
    return held == all ? 0 : error_set(e, AHA_ERR_LIMIT, "bench: %d sequences of %d positions do not fit into the cache", b->n_seqs, b->depth);
}

/* ---- sequences ---- */
static int submit_all(Engine *g, const Bench *b, int vocab, int32_t *token, Seq **seq, aha_error *e)
{
    for (int i = 0; i < b->n_seqs; i++) {
        SeqRequest r = {.prompt = token, .n_prompt = b->depth + b->n_prompt, .max_new = b->n_new, .no_cache = b->depth == 0};
        int        rc;
        random_tokens(token, b->depth, vocab, SEED_DEPTH, (uint64_t)i);
        random_tokens(token + b->depth, b->n_prompt, vocab, SEED_PROMPT + b->run, (uint64_t)i);
        if ((rc = engine_submit(g, &r, &seq[i], e)) != 0) return rc;
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

static int check(const Bench *b, aha_error *e)
{
    if (b->n_prompt < 1 || b->n_new < 1 || b->n_seqs < 1 || b->n_seqs > 1 << 16)
        return error_set(e, AHA_ERR_ARG, "bench of %d sequences of %d and %d tokens, expected at least 1 of each", b->n_seqs, b->n_prompt, b->n_new);
    if (b->depth < 0 || b->depth % KV_PAGE || b->depth > INT32_MAX - b->n_prompt)
        return error_set(e, AHA_ERR_ARG, "bench at a depth of %d, expected a multiple of %d", b->depth, KV_PAGE);
    return 0;
}

int engine_bench(Engine *g, const Model *m, Bench *b, aha_error *e)
{
    Seq    **seq;
    int32_t *token;
    int      rc = check(b, e);
    if (rc) return rc;
    seq = mem_zalloc((size_t)b->n_seqs, sizeof(Seq *));
    token = mem_alloc((size_t)(b->depth + b->n_prompt) * sizeof *token);
    if (!seq || !token) rc = error_set(e, AHA_ERR_NOMEM, "no memory for %d sequences", b->n_seqs);
    if (rc == 0) rc = engine_check_length(g, b->depth + b->n_prompt, b->n_new, e);
    if (rc == 0 && b->depth) rc = make_depth(g, b, m->cfg.vocab, token, e);
    if (rc == 0) rc = submit_all(g, b, m->cfg.vocab, token, seq, e);
    if (rc == 0) rc = run_timed(g, b, seq, e);
    if (rc == 0 && b->prompt_tokens != (int64_t)b->n_seqs * b->n_prompt)
        rc = error_set(e, AHA_ERR_LIMIT, "bench: %d sequences of %d positions do not fit into the cache", b->n_seqs, b->depth + b->n_prompt + b->n_new);
    for (int i = 0; seq && i < b->n_seqs; i++) seq_free(seq[i]);
    mem_free(seq);
    mem_free(token);
    return rc;
}
