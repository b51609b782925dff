/* embed: y[t] = table[token[t]]; dtable[token[t]] += dy[t]. */
#include "tensor.h"

typedef struct EmbedNode {
    TapeNode       head;
    const Weight  *table;
    const int32_t *token;
    Tensor         y;
} EmbedNode;

static void embed_back(Ctx *c, const TapeNode *node)
{
    const EmbedNode *n = (const EmbedNode *)node;
    real            *dw = tape_wgrad(c, n->table);
    EmbedBackArgs    a = {n->token, n->y.rows, n->y.cols, tape_grad(c, n->y.data), dw};
    if (dw) ctx_run(c, c->k->embed_back, &a, n->y.cols, 64, 0);
}

Tensor embed(Ctx *c, const Weight *table, const int32_t *token, int n)
{
    Tensor    y = tensor_new(c, n, table->cols);
    int32_t  *keep = tape_on(c) ? ctx_alloc(c, (size_t)n, sizeof *keep) : NULL;
    EmbedArgs a = {table->data, table->dtype, token, n, table->cols, y.data, table->scale};
    ctx_run(c, c->k->embed, &a, n, 32, 0);
    if (tape_on(c)) {
        EmbedNode *e = tape_push(c, sizeof *e, embed_back);
        if (keep && !ctx_dry(c)) memcpy(keep, token, (size_t)n * sizeof *keep);
        e->table = table;
        e->token = keep;
        e->y = y;
    }
    return y;
}
