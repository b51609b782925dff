/* What an item of attention covers: pairs (row, head) of a tile of query rows and some heads of one key head, heads fastest. */
#ifndef AHA_CPU_KERN_PAIRS_H
#define AHA_CPU_KERN_PAIRS_H

#include "kern_tile.h"

typedef struct Pairs {
    const KeySpan *span;
    int            row, pos; /* of the first pair: in the batch, in the sequence */
    int            rows, per, g, n; /* per: heads of a row, the g-th such group */
    int            kg;              /* key head */
} Pairs;

static Pairs pairs_of(const AttnArgs *a, const KeySpan *s, int r0, int r1, int g)
{
    int per = a->heads, rows = min_int(r1, s->n) - r0;
    return (Pairs){s, s->row0 + r0, s->pos0 + r0, rows, per, g, rows * per, g * per / (a->H / a->G)};
}
/* where pair x starts in a matrix of rows and heads, of element (row 0, head 0) at base */
static INLINE int64_t pair_at(const Pairs *p, int x, int64_t row, int64_t head)
{
    return (p->row + x / p->per) * row + (int64_t)(p->g * p->per + x % p->per) * head;
}
/* how many of a page's keys (positions j0 and up, `keys` of them) pair x sees */
static INLINE int pair_sees(const Pairs *p, int x, int j0, int keys)
{
    return max_int(0, min_int(keys, p->pos + x / p->per + 1 - j0));
}
#endif
