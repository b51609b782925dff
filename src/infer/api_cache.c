/* The public API of the key cache: what it did, and its pages in a file. */
#include "api.h"

void aha_engine_get_stats(const aha_engine *g, aha_engine_stats *stats)
{
    const Engine    *n = g->engine;
    EngineStats      s = engine_stats(n);
    KvCount          c = kvcache_count(n->kv);
    aha_engine_stats st = {.size = stats->size, .steps = s.steps, .rows = s.rows, .prompt_tokens = s.prompt_tokens,
                           .cached_tokens = s.cached_tokens, .new_tokens = s.new_tokens, .preempted = s.preempted, .drafted = s.drafted,
                           .accepted = s.accepted, .seqs_active = n->n_active, .page_tokens = KV_PAGE,
                           .page_bytes = (int64_t)g->model->kv_shape.page_bytes, .pages = c.total, .pages_empty = c.empty,
                           .pages_held = c.held, .pages_findable = c.findable};
    for (const Seq *q = n->waiting; q; q = q->next) st.seqs_waiting++;
    for (const Group *p = n->groups; p; p = p->next) st.groups++;
    if (stats->size >= sizeof(size_t)) memcpy(stats, &st, stats->size < sizeof st ? stats->size : sizeof st);
}

static int stamp_of(aha_engine *g, KvStamp *out, aha_error *e)
{
    if (g->engine->stepping) return error_set(e, AHA_ERR_STATE, "the key cache cannot be saved or loaded from a callback");
    if (!g->stamped) g->fingerprint = model_fingerprint(g->model);
    g->stamped = true; /* weights never change */
    *out = (KvStamp){g->fingerprint, g->model->cfg.model_type, g->kernels->isa, g->kv_type, g->model->act_q8, g->engine->o.draft};
    return 0;
}

int aha_engine_cache_save(aha_engine *g, const char *path, int64_t bytes_max, aha_error *e)
{
    KvStamp stamp;
    int     n = 0, rc = stamp_of(g, &stamp, e);
    if (rc == 0 && bytes_max < 0) rc = error_set(e, AHA_ERR_ARG, "bytes_max is %lld, expected 0 or more", (long long)bytes_max);
    if (rc == 0) rc = kvdisk_save(g->engine->kv, path, &stamp, bytes_max, &n, e);
    return rc ? rc : n;
}

int aha_engine_cache_load(aha_engine *g, const char *path, aha_error *e)
{
    KvStamp stamp;
    int     n = 0, rc = stamp_of(g, &stamp, e);
    if (rc == 0) rc = kvdisk_load(g->engine->kv, path, &stamp, g->model->cfg.vocab, &n, e);
    return rc ? rc : n;
}
