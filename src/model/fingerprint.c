/* What tells a model from any other: everything of it that a key or value in the cache depends on. */
#include "model.h"

enum { SAMPLE_BYTES = 4096, SAMPLES = 8192 };
#define WHOLE_BYTES_MAX ((uint64_t)256 << 20) /* hashed within a tenth of a second */

static uint64_t hash_config(const Model *m)
{
    const Config *c = &m->cfg;
    const Rope   *r = &c->rope;
    int32_t  i[] = {(int32_t)c->arch, c->n_layer, c->d_model, c->n_head, c->n_kv_head, c->head_dim, c->d_ff, c->vocab, r->interleaved, c->qkv_bias,
                    c->qk_norm, c->tied_embeddings, c->q_lora, c->kv_lora, c->nope, c->rope_dim, c->v_dim, c->n_expert, c->n_expert_used,
                    c->n_shared, c->d_expert, c->n_dense_first, c->n_group, c->topk_group, (int32_t)c->scoring, (int32_t)c->route, c->norm_topk, c->n_mtp};
    double   d[] = {c->rms_eps, c->route_scale, r->cos_sin_factor, m->attn_scale};
    uint64_t h = hash64(i, sizeof i, 0);
    h = hash64(d, sizeof d, h);
    return hash64(m->inv_freq, (size_t)(m->rope_cols / 2) * sizeof *m->inv_freq, h);
}

uint64_t model_fingerprint(const Model *m)
{
    uint64_t h = hash_config(m), all = 0, step, next = 0, at = 0;
    for (int i = 0; i < m->n_weight; i++) all += weight_bytes(m->weight[i]);
    step = all <= WHOLE_BYTES_MAX ? 0 : all / SAMPLES;
    for (int i = 0; i < m->n_weight; i++) {
        const Weight *w = m->weight[i];
        size_t        n = weight_bytes(w);
        int32_t       shape[] = {(int32_t)w->dtype, w->rows, w->cols};
        h = hash64(w->name, strlen(w->name), h);
        h = hash64(shape, sizeof shape, h);
        if (w->scale) h = hash64(w->scale, (size_t)f8_blocks(w->rows) * (size_t)f8_blocks(w->cols) * sizeof *w->scale, h);
        if (!step) h = hash64(w->data, n, h);
        for (; step && next < at + n; next += step) {
            size_t off = (size_t)(next - at), left = n - off;
            h = hash64((const char *)w->data + off, left < SAMPLE_BYTES ? left : SAMPLE_BYTES, h);
        }
        at += n;
    }
    return m->file ? h + weights_stamp(m->file) : h;
}
