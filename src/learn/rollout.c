/* Prompts to replies, and samples to ids. */
#include "rollout.h"

#include <string.h>

void rollout_free(Rollout *r)
{
    mem_free(r->id);
    mem_free(r->logp);
    buf_free(&r->thinking);
    buf_free(&r->answer);
    memset(r, 0, sizeof *r);
}

/* ---- ids of a sample ---- */
static int prompt_ids(const Tokenizer *tok, ChatTemplate tpl, const char *prompt, Ids *out, aha_error *e)
{
    ChatMessage m = {.role = ROLE_USER, .text = prompt, .n = strlen(prompt)};
    bool        open;
    int         rc = chat_render(tok, tpl, &m, 1, true, out, &open, e);
    if (rc == 0 && !open) { /* a template that leaves <think> to the model: training opens it as the model should */
        rc = ids_push(out, tokenizer_id(tok, "<think>"), e);
        if (rc == 0) rc = tokenizer_encode(tok, "\n", 1, 0, out, e);
    }
    return rc;
}

int sample_ids(const Tokenizer *tok, ChatTemplate tpl, const char *prompt, const char *thinking, const char *answer, Ids *out,
               int *n_prompt, aha_error *e)
{
    int rc;
    out->n = 0;
    rc = prompt_ids(tok, tpl, prompt, out, e);
    *n_prompt = (int)out->n;
    if (rc == 0) rc = tokenizer_encode(tok, thinking, strlen(thinking), 0, out, e);
    if (rc == 0) rc = tokenizer_encode(tok, "\n", 1, 0, out, e);
    if (rc == 0) rc = ids_push(out, tokenizer_id(tok, "</think>"), e);
    if (rc == 0) rc = tokenizer_encode(tok, "\n\n", 2, 0, out, e);
    if (rc == 0) rc = tokenizer_encode(tok, answer, strlen(answer), 0, out, e);
    if (rc == 0) rc = ids_push(out, tokenizer_id(tok, "<｜end▁of▁sentence｜>"), e);
    return rc;
}

/* ---- replies ---- */
static void trim_into(Buf *to, const Buf *from)
{
    size_t a = 0, b = from->n;
    while (a < b && strchr(" \n\t\r", from->data[a])) a++;
    while (b > a && strchr(" \n\t\r", from->data[b - 1])) b--;
    if (b > a) buf_add(to, from->data + a, b - a);
}

static int split_reply(const Policy *p, Rollout *r, aha_error *e)
{
    int32_t end_think = tokenizer_id(p->tok, "</think>");
    int     closes = 0, at = r->n_new, n = r->n_new - (r->ended ? 1 : 0);
    Buf     text = {0};
    for (int i = r->n_new - 1; i >= 0; i--)
        if (r->id[r->n_prompt + i] == end_think) {
            closes++;
            at = i;
        }
    r->closed = closes == 1;
    r->think_tokens = at < n ? at : n;
    tokenizer_decode(p->tok, r->id + r->n_prompt, (size_t)r->think_tokens, &text);
    trim_into(&r->thinking, &text);
    buf_reset(&text);
    if (at + 1 < n) tokenizer_decode(p->tok, r->id + r->n_prompt + at + 1, (size_t)(n - at - 1), &text);
    trim_into(&r->answer, &text);
    buf_str(&r->thinking, "");
    buf_str(&r->answer, "");
    if (text.failed || r->thinking.failed || r->answer.failed) {
        buf_free(&text);
        return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a reply of %d tokens", r->n_new);
    }
    buf_free(&text);
    return 0;
}

static int collect(const Policy *p, const Seq *s, const Ids *prompt, Rollout *r, bool want_logp, aha_error *e)
{
    int            n, stop = seq_stop_token(s);
    const int32_t *tok = seq_tokens(s, &n);
    r->ended = stop >= 0;
    r->n_prompt = (int)prompt->n;
    r->n_new = n + (r->ended ? 1 : 0);
    r->id = mem_alloc(((size_t)r->n_prompt + (size_t)r->n_new) * sizeof *r->id);
    r->logp = mem_zalloc((size_t)r->n_prompt + (size_t)r->n_new, sizeof *r->logp);
    if (!r->id || !r->logp) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for a reply of %d tokens", r->n_new);
    memcpy(r->id, prompt->id, prompt->n * sizeof *r->id);
    memcpy(r->id + prompt->n, tok, (size_t)n * sizeof *r->id);
    if (r->ended) r->id[r->n_prompt + n] = stop;
    if (want_logp) memcpy(r->logp + prompt->n, seq_logp(s), (size_t)r->n_new * sizeof *r->logp);
    return split_reply(p, r, e);
}

static int submit_all(const Policy *p, const Ids *prompt, int n, const RolloutOptions *o, Seq **seq, aha_error *e)
{
    int32_t eos = tokenizer_id(p->tok, "<｜end▁of▁sentence｜>");
    for (int i = 0; i < n * o->samples; i++) {
        const Ids *ids = &prompt[i / o->samples];
        SeqRequest r = {.prompt = ids->id, .n_prompt = (int)ids->n, .max_new = o->max_new, .stop = &eos, .n_stop = 1,
                        .want_logp = o->want_logp, .think = o->think, .think_open = true, .think_budget = o->think_budget,
                        .sample = {(float)o->temperature, (float)o->top_p, 0, 0, o->seed, o->stream0 + (uint64_t)i}};
        int        rc = engine_submit(p->engine, &r, &seq[i], e);
        if (rc) return rc;
    }
    return 0;
}

static int drive(const Policy *p, const RolloutOptions *o, int all, aha_error *e)
{
    int left;
    do {
        if (o->stop && o->stop(o->user)) return error_set(e, AHA_ERR_CANCELLED, "stopped");
        left = engine_step(p->engine, e);
        if (left >= 0 && o->progress) o->progress(o->user, all - left);
    } while (left > 0);
    return left;
}

int rollout_run(const Policy *p, const char *const *prompt, int n, const RolloutOptions *o, Rollout *out, aha_error *e)
{
    int   all = n * o->samples, rc = 0;
    Ids  *ids = mem_zalloc((size_t)n, sizeof *ids);
    Seq **seq = mem_zalloc((size_t)all, sizeof *seq);
    memset(out, 0, (size_t)all * sizeof *out);
    if (!ids || !seq) rc = error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d rollouts", all);
    for (int i = 0; i < n && rc == 0; i++) rc = prompt_ids(p->tok, p->tpl, prompt[i], &ids[i], e);
    if (rc == 0) rc = submit_all(p, ids, n, o, seq, e);
    if (rc == 0) rc = drive(p, o, all, e);
    for (int i = 0; i < all && rc == 0; i++) rc = collect(p, seq[i], &ids[i / o->samples], &out[i], o->want_logp, e);
    for (int i = 0; seq && i < all; i++) {
        if (seq[i] && seq_state(seq[i]) != SEQ_DONE) engine_cancel(p->engine, seq[i]);
        seq_free(seq[i]);
    }
    for (int i = 0; ids && i < n; i++) ids_free(&ids[i]);
    mem_free(ids);
    mem_free(seq);
    return rc;
}
