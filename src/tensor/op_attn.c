/* attn: causal attention of grouped queries over pages of keys, one definition for a cache and for packed batches.
 *   s_ij = scale q_i . k_j (j <= i),  p = softmax_j s,  o_i = sum_j p_ij v_j        (order of summation: kernels.h)
 *   with delta_i = o_i . do_i:  ds_ij = p_ij (do_i . v_j - delta_i) scale,
 *   dq_i += sum_j ds_ij k_j,  dk_j += sum_i ds_ij q_i,  dv_j += sum_i p_ij do_i
 * A packed sequence's page p is its rows [32p, 32p+32): the same blocks as in the cache, hence the same bits. */
#include "tensor.h"

bool kv_layout(Kv *kv)
{
    size_t row = (size_t)kv->key_cols + (size_t)kv->val_cols, bytes;
    if (!size_mul(row, (size_t)KV_PAGE * sizeof(real), &bytes)) return false; /* no type takes more */
    kv->part_bytes = kv_bytes(kv->type, row / (size_t)kv->heads * (size_t)KV_PAGE);
    return size_mul(kv->part_bytes * (size_t)kv->heads, (size_t)kv->n_layer, &kv->page_bytes);
}

/* About 256 KiB of a head lie side by side, or up to twice as much, whatever leaves the fewest pages over.  Longer runs are read no
 * faster (32,768 positions of an 8B in Q8_0, one thread: 16.2 GB/s from pages of their own, 18.8 from runs of 64 KiB, 19.8 from 512 KiB,
 * 20.3 from a single one), and the first page of a run takes memory, in huge pages, for all of it. */
size_t kv_room(Kv *kv, int n_pages)
{
    enum { RUN_BYTES = 256 << 10 };
    int    least = kv->part_bytes && kv->part_bytes < RUN_BYTES ? (int)(RUN_BYTES / kv->part_bytes) : 1, left = INT32_MAX;
    size_t bytes;
    kv->n_pages = n_pages;
    kv->run = n_pages > 2 * least ? least : n_pages > 1 ? n_pages : 1;
    for (int run = least; n_pages > 2 * least && run <= 2 * least && left > 0; run++) {
        int over = (run - n_pages % run) % run;
        if (over < left) left = over, kv->run = run;
    }
    if (!size_mul((size_t)(((int64_t)n_pages + kv->run - 1) / kv->run * kv->run), kv->page_bytes, &bytes)) return SIZE_MAX;
    return bytes;
}

typedef struct Spans {
    KeySpan *span;
    int      n;
    int     *item; /* [n_item][3] */
    int      n_item;
    int     *page_item; /* backward: [n_page_item][3] */
    int      n_page_item;
} Spans;

static int span_len(const Batch *b, int r0)
{
    int n = 1;
    while (r0 + n < b->n && b->seq[r0 + n] == b->seq[r0]) n++;
    return n;
}
static int pages_of(int len) { return (len + KV_PAGE - 1) / KV_PAGE; }

/* next: of a Kv without a table, the page that nobody has yet */
static void fill_pages(KeySpan *s, const Batch *b, const Kv *kv, int layer, int32_t *next, Tensor k, Tensor v, bool v_in_k)
{
    int pages = pages_of(s->pos0 + s->n);
    for (int p = 0; p < pages; p++) {
        if (kv) {
            int32_t        id = kv->table ? kv->table[b->seq[s->row0]][p] : (*next)++;
            const uint8_t *at = kv_part(kv, id, layer);
            s->key[p] = at;
            s->val[p] = v_in_k ? at : at + kv_bytes(kv->type, (size_t)KV_PAGE * (size_t)(kv->key_cols / kv->heads));
        } else {
            s->key[p] = tensor_row(k, s->row0 + p * KV_PAGE);
            s->val[p] = v_in_k ? s->key[p] : tensor_row(v, s->row0 + p * KV_PAGE);
        }
    }
}

/* Heads of an item.  The backward's sums want all that share a key head; a forward alone cuts them into groups of at most
 * 32, so that one decoding row of MLA (128 heads, one key head) is work for four threads.  No bit depends on it. */
static int tile_heads(const Ctx *c, AttnShape s)
{
    int per = s.H / s.G, heads = per;
    for (int cut = 1; !tape_on(c) && heads > 32 && cut <= per; cut++)
        if (per % cut == 0) heads = per / cut;
    return heads;
}
/* query rows of an item: about 64 (row, head) pairs.  Depends on the shape alone: the backward sums by tiles. */
static int tile_rows(int heads)
{
    return heads >= 64 ? 1 : 64 / heads;
}

static bool make_spans(Ctx *c, AttnShape s, Tensor k, Tensor v, const Batch *b, const Kv *kv, bool cached, int layer, Spans *out)
{
    int          heads = tile_heads(c, s), tile = tile_rows(heads), groups = s.H / heads, items = 0, pages = 0, page_items = 0, i = 0, pi = 0;
    int32_t      next = 0;
    const void **ptr;
    memset(out, 0, sizeof *out);
    for (int r = 0; r < b->n; r += span_len(b, r)) {
        int n = span_len(b, r);
        out->n++;
        pages += 2 * pages_of(b->pos[r] + n);
        items += groups * ((n + tile - 1) / tile);
        page_items += s.G * pages_of(n);
        if (!cached && b->pos[r] != 0)
            ctx_fail(c, AHA_ERR_INTERNAL, "attn: a packed sequence starts at position %d, expected 0", b->pos[r]);
    }
    out->span = ctx_alloc(c, (size_t)out->n, sizeof *out->span);
    out->item = ctx_alloc(c, 3 * (size_t)items, sizeof *out->item);
    out->page_item = ctx_alloc(c, tape_on(c) ? 3 * (size_t)page_items : 0, sizeof *out->page_item);
    ptr = ctx_alloc(c, (size_t)pages, sizeof *ptr);
    out->n_item = items;
    out->n_page_item = page_items;
    if (ctx_failed(c) || ctx_dry(c)) return !ctx_failed(c);
    for (int r = 0, sp = 0; r < b->n; r += out->span[sp].n, sp++) {
        KeySpan *t = &out->span[sp];
        *t = (KeySpan){r, span_len(b, r), b->pos[r], ptr, NULL};
        t->val = ptr + pages_of(t->pos0 + t->n);
        ptr = t->val + pages_of(t->pos0 + t->n);
        fill_pages(t, b, kv, layer, &next, k, v, s.v_in_k);
        for (int g = 0; g < groups; g++)
            for (int q = 0; q < t->n; q += tile, i++) memcpy(out->item + 3 * i, (int[]){sp, q, g}, 3 * sizeof(int));
        for (int g = 0; tape_on(c) && g < s.G; g++)
            for (int p = 0; p < pages_of(t->n); p++, pi++) memcpy(out->page_item + 3 * pi, (int[]){sp, p, g}, 3 * sizeof(int));
    }
    return true;
}

/* Rows of x into the pages of their sequences. */
static void store_rows(Ctx *c, Tensor x, int head, const Batch *b, const Spans *s, const Kv *kv, bool keys)
{
    void      **dst = ctx_alloc(c, (size_t)b->n, sizeof *dst);
    KvStoreArgs a = {x.data, x.stride, x.cols, head, kv->type, keys, kv_head_step(kv), dst, b->pos};
    if (ctx_failed(c) || ctx_dry(c)) return;
    for (const KeySpan *t = s->span; t < s->span + s->n; t++)
        for (int r = 0; r < t->n; r++) dst[t->row0 + r] = (void *)(uintptr_t)(keys ? t->key : t->val)[(t->pos0 + r) / KV_PAGE];
    ctx_run(c, c->k->kv_store, &a, b->n, 32, 0);
}

static void round_rows(Ctx *c, Tensor x)
{
    RoundArgs a = {x.data, x.stride, x.cols, c->kv_type};
    if (c->kv_type != DT_F32) ctx_run(c, c->k->round, &a, x.rows, 32, 0);
}

/* Keys of eight bits are multiplied as the numbers that they are kept as, so a packed batch has pages of them too: a cache of one
 * layer in the arena, without a table: its sequences' pages follow each other. */
static Kv packed_pages(Ctx *c, AttnShape s, const Batch *b)
{
    Kv  kv = {.type = DT_Q8_0, .n_layer = 1, .key_cols = s.G * s.dk, .val_cols = s.v_in_k ? 0 : s.G * s.dv, .heads = s.G};
    int n = 0;
    if (tape_on(c)) ctx_fail(c, AHA_ERR_INTERNAL, "attn: keys of eight bits have no gradient");
    if (!kv_layout(&kv)) ctx_fail(c, AHA_ERR_LIMIT, "attn: a page of keys does not fit into an address");
    for (int r = 0; r < b->n; r += span_len(b, r)) n += pages_of(span_len(b, r));
    kv.base = ctx_alloc(c, 1, kv_room(&kv, n));
    return kv;
}

typedef struct AttnNode {
    TapeNode head;
    AttnArgs args;
    Spans    spans;
    Tensor   q, k, v, y;
} AttnNode;

static void attn_back(Ctx *c, const TapeNode *node)
{
    const AttnNode *n = (const AttnNode *)node;
    AttnArgs        a = n->args;
    size_t          scratch = attn_scratch(a.tile, a.heads, a.dk, a.dv);
    a.dout = tape_grad(c, n->y.data);
    a.dq = tape_grad(c, n->q.data);
    a.dk_out = tape_grad(c, n->k.data);
    a.dv_out = tape_grad(c, n->v.data);
    a.item = NULL;
    ctx_run(c, c->k->attn_delta, &a, n->q.rows, 16, 0);
    a.item = n->spans.item;
    ctx_run(c, c->k->attn_back_q, &a, n->spans.n_item, 1, scratch);
    a.item = n->spans.page_item;
    ctx_run(c, c->k->attn_back_kv, &a, n->spans.n_page_item, 1, scratch);
}

static void check_shapes(Ctx *c, AttnShape s, Tensor q, Tensor k, Tensor v, const Batch *b, const Kv *kv)
{
    if (q.cols != s.H * s.dk || k.cols != s.G * s.dk || (!s.v_in_k && v.cols != s.G * s.dv) || (s.v_in_k && s.G != 1) ||
        s.H % s.G != 0 || q.rows != b->n)
        ctx_fail(c, AHA_ERR_INTERNAL, "attn: q %d, k %d, v %d columns with H %d G %d dk %d dv %d", q.cols, k.cols, v.cols, s.H,
                 s.G, s.dk, s.dv);
    if (kv && tape_on(c)) ctx_fail(c, AHA_ERR_INTERNAL, "attn: the key cache cannot be written under a tape");
    if (kv && (kv->key_cols != k.cols || kv->val_cols != (s.v_in_k ? 0 : v.cols) || kv->heads != s.G))
        ctx_fail(c, AHA_ERR_INTERNAL, "attn: a cache of %d + %d columns, %d heads, for %d + %d, %d", kv->key_cols, kv->val_cols, kv->heads, k.cols,
                 v.cols, s.G);
}

Tensor attn(Ctx *c, AttnShape s, Tensor q, Tensor k, Tensor v, const Batch *b, Kv *kv, int layer)
{
    Tensor   y = tensor_new(c, q.rows, s.H * s.dv);
    bool     cached = kv != NULL;
    Kv       packed;
    Spans    sp;
    AttnArgs a;
    check_shapes(c, s, q, k, v, b, kv);
    if (s.v_in_k) v = k;
    if (!cached && c->kv_type == DT_Q8_0) {
        packed = packed_pages(c, s, b);
        kv = &packed, layer = 0;
    }
    if (!make_spans(c, s, k, v, b, kv, cached, layer, &sp)) return y;
    if (kv) {
        store_rows(c, k, s.dk, b, &sp, kv, true);
        if (!s.v_in_k) store_rows(c, v, s.dv, b, &sp, kv, false);
    } else {
        round_rows(c, k);
        if (!s.v_in_k) round_rows(c, v);
    }
    a = (AttnArgs){.q = q.data, .q_row = q.stride, .q_head = s.dk, .H = s.H, .G = s.G, .dk = s.dk, .dv = s.dv,
                   .scale = (real)s.scale, .span = sp.span, .n_span = sp.n, .type = kv ? kv->type : DT_F32,
                   .paged = kv != NULL, .v_in_k = s.v_in_k, .head_step = kv ? kv_head_step(kv) : 0, .key_row = k.stride, .val_row = v.stride,
                   .out = y.data, .out_row = y.stride, .heads = tile_heads(c, s), .item = sp.item};
    a.tile = tile_rows(a.heads);
    if (tape_on(c)) {
        a.lse = ctx_alloc(c, (size_t)q.rows * (size_t)s.H, sizeof(real));
        a.delta = ctx_alloc(c, (size_t)q.rows * (size_t)s.H, sizeof(real));
    }
    ctx_run(c, c->k->attn, &a, sp.n_item, 1, attn_scratch(tile_rows(s.H / s.G), s.H / s.G, s.dk, s.dv)); /* as much as a backward will want */
    if (tape_on(c)) {
        AttnNode *n = tape_push(c, sizeof *n, attn_back);
        n->args = a;
        n->spans = sp;
        n->q = q;
        n->k = k;
        n->v = v;
        n->y = y;
    }
    return y;
}
