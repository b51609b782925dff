/* Samples of a task's corpus as ids, for those who measure a model on text and have none. */
#include "learn.h"
#include "rollout.h"

#define STREAM_TEXT 0x74657874u

static int one(const Tokenizer *tok, ChatTemplate tpl, const Task *t, Rng *rng, Buf b[3], Ids *to, aha_error *e)
{
    Ids sample = {0};
    int n_prompt, rc;
    for (int k = 0; k < 3; k++) buf_reset(&b[k]);
    rc = corpus_sample(t, VARIANT_NONE, rng, &b[0], &b[1], &b[2], e);
    if (!rc) rc = sample_ids(tok, tpl, b[0].data, b[1].data ? b[1].data : "", b[2].data ? b[2].data : "", &sample, &n_prompt, e);
    for (size_t i = 0; i < sample.n && !rc; i++) rc = ids_push(to, sample.id[i], e);
    ids_free(&sample);
    return rc;
}

int corpus_text(const Tokenizer *tok, ChatTemplate tpl, const Task *t, uint64_t seed, int n, Ids *ids, int *end, aha_error *e)
{
    Buf b[3] = {{0}};
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        Rng rng = {seed ^ STREAM_TEXT, (uint64_t)i, 0};
        rc = one(tok, tpl, t, &rng, b, ids, e);
        end[i] = (int)ids->n;
    }
    for (int k = 0; k < 3; k++) buf_free(&b[k]);
    return rc;
}
