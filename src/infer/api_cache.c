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

/* All but the model's fingerprint, which takes reading weights. */
static int stamp_of(aha_engine *g, KvStamp *out, aha_error *e)
{
    if (g->engine->stepping) return error_set(e, AHA_ERR_STATE, "the key cache cannot be saved or loaded from a callback");
    *out = (KvStamp){g->fingerprint, g->model->cfg.model_type, g->kernels->isa, g->kv_type, g->model->act_q8, g->engine->o.draft};
    return 0;
}

static void fingerprint(bool *stamped, KvStamp *stamp, const Model *m)
{
    if (!*stamped) stamp->model = model_fingerprint(m);
    *stamped = true; /* weights never change */
}

static void keep_fingerprint(aha_engine *g, bool stamped, const KvStamp *stamp)
{
    if (!stamped) return;
    g->fingerprint = stamp->model;
    g->stamped = true;
}

struct aha_cache_snapshot {
    aha_engine *g;
    KvSnapshot *pages;
    KvStamp     stamp;
    bool        stamped; /* stamp.model is known */
};

int aha_engine_cache_snapshot(aha_engine *g, int64_t bytes_max, aha_cache_snapshot **out, aha_error *e)
{
    aha_cache_snapshot *s = *out = NULL;
    KvStamp             stamp;
    int                 rc = stamp_of(g, &stamp, e);
    if (rc == 0 && bytes_max < 0) rc = error_set(e, AHA_ERR_ARG, "bytes_max is %lld, expected 0 or more", (long long)bytes_max);
    if (rc == 0 && !(s = mem_zalloc(1, sizeof *s))) rc = error_set(e, AHA_ERR_NOMEM, "no memory for a snapshot of the key cache");
    if (rc == 0) *s = (aha_cache_snapshot){.g = g, .stamp = stamp, .stamped = g->stamped};
    if (rc == 0) rc = kvdisk_snapshot(&s->pages, g->engine->kv, bytes_max, e);
    if (rc) mem_free(s);
    else *out = s;
    return rc;
}

int aha_cache_snapshot_write(aha_cache_snapshot *s, const char *path, aha_error *e)
{
    int n = 0;
    fingerprint(&s->stamped, &s->stamp, s->g->model);
    int rc = kvdisk_write(s->pages, path, &s->stamp, &n, e);
    return rc ? rc : n;
}

void aha_cache_snapshot_free(aha_cache_snapshot *s)
{
    if (!s) return;
    keep_fingerprint(s->g, s->stamped, &s->stamp);
    kvdisk_snapshot_free(s->pages);
    mem_free(s);
}

int aha_engine_cache_save(aha_engine *g, const char *path, int64_t bytes_max, aha_error *e)
{
    aha_cache_snapshot *s;
    int                 rc = aha_engine_cache_snapshot(g, bytes_max, &s, e);
    if (rc == 0) rc = aha_cache_snapshot_write(s, path, e);
    aha_cache_snapshot_free(s);
    return rc;
}

int aha_engine_cache_load(aha_engine *g, const char *path, aha_error *e)
{
    KvStamp stamp;
    int     n = 0, rc = stamp_of(g, &stamp, e);
    bool    stamped = g->stamped;
    if (rc) return rc;
    fingerprint(&stamped, &stamp, g->model);
    keep_fingerprint(g, stamped, &stamp);
    rc = kvdisk_load(g->engine->kv, path, &stamp, g->model->cfg.vocab, &n, e);
    return rc ? rc : n;
}
