/* A budget for thinking.  What is kept follows from the tokens alone, so a sequence that is computed again, batched with others
 * or guessed ahead comes to the same end.
 *
 * A thinking that has used its budget is closed for the model: the tokens of `end` follow whatever it would have said, through
 * the same steps as its own, and then it goes on by itself, from a context that it might have written.  So do the tokens of `then`
 * behind the first thinking, whoever closed it: they begin an answer that must begin so. */
#include <string.h>

#include "inner.h"

static int add_text(ThinkTags *t, const Tokenizer *tok, const char *text, int vocab, aha_error *e)
{
    Ids v = {0};
    int rc = tokenizer_encode(tok, text, strlen(text), 0, &v, e);
    for (size_t i = 0; i < v.n && rc == 0; i++) {
        if (t->n_end < THINK_END_MAX && v.id[i] < vocab) t->end[t->n_end++] = v.id[i];
        else rc = error_set(e, AHA_ERR_FORMAT, "the tokenizer makes %zu tokens of a newline, or one that the model lacks", v.n);
    }
    ids_free(&v);
    return rc;
}

int think_tags(ThinkTags *t, const Tokenizer *tok, int vocab, aha_error *e)
{
    int rc;
    *t = (ThinkTags){.open = -1, .close = -1};
    if (!tok) return 0;
    t->open = tokenizer_id(tok, "<think>");
    t->close = tokenizer_id(tok, "</think>");
    if (t->open >= vocab) t->open = -1;
    if (t->close >= vocab) t->close = -1;
    if (t->close < 0) return 0;
    rc = add_text(t, tok, "\n", vocab, e);
    if (rc == 0) t->end[t->n_end++] = t->close;
    if (rc == 0) rc = add_text(t, tok, "\n\n", vocab, e);
    return rc;
}

/* A number of tokens as text. */
static bool is_number(const char *s, int *out)
{
    int64_t v = 0;
    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9') return false;
        v = 10 * v + (*s - '0');
        if (v > INT32_MAX) v = INT32_MAX;
    }
    *out = (int)v;
    return true;
}

int think_budget(const char *effort, int max_new, int *budget, aha_error *e)
{
    static const struct {
        const char *name;
        int         tenths; /* of max_new; -1: no budget */
    } EFFORT[] = {{"off", 0}, {"none", 0}, {"minimal", 1}, {"low", 2}, {"medium", 5}, {"high", 8}, {"max", -1}, {"xhigh", -1}};
    char quoted[64];
    if (max_new < 1) return error_set(e, AHA_ERR_ARG, "max_new is %d, expected at least 1", max_new);
    if (effort && is_number(effort, budget)) return 0;
    for (size_t i = 0; effort && i < ARRAY_LEN(EFFORT); i++)
        if (strcmp(effort, EFFORT[i].name) == 0) {
            *budget = EFFORT[i].tenths < 0 ? -1 : (int)((int64_t)max_new * EFFORT[i].tenths / 10);
            return 0;
        }
    return error_set(e, AHA_ERR_ARG, "the effort is \"%s\", expected off, none, minimal, low, medium, high, max, xhigh or a number",
                     effort ? error_quote(quoted, sizeof quoted, effort, strlen(effort)) : "(none)");
}

static void mind_budget(Think *t)
{
    if (t->open && t->at < 0 && t->budget >= 0 && t->used >= t->budget) t->at = 0;
}

void think_begin(Think *t)
{
    t->at = t->then_at = -1;
    mind_budget(t);
}

void think_take(Think *t, int32_t token)
{
    bool tag = token == t->tags.open || token == t->tags.close, was = t->open;
    if (!t->on) return;
    if (tag) t->open = token == t->tags.open;
    t->used += was && !tag;
    t->all += was || t->open;
    if (t->at >= 0) t->at = t->at + 1 == t->n_end ? -1 : t->at + 1;
    else if (t->then_at >= 0 && t->then_at < t->n_then) t->then_at++;
    if (was && !t->open && t->then_at < 0) t->then_at = 0;
    mind_budget(t);
}

static Think think_after(const Think *t, const Ahead *ahead)
{
    Think after = *t;
    for (int i = 0; i < ahead->n; i++) think_take(&after, ahead->token[i]);
    return after;
}

bool think_unled(const Think *t, const Ahead *ahead)
{
    const Think after = think_after(t, ahead);
    return after.on && after.open && after.n_then && after.then_at < 0;
}

int32_t think_forced(const Think *t, const Ahead *ahead)
{
    const Think after = think_after(t, ahead);
    if (!after.on) return -1;
    if (after.at >= 0) return after.end[after.at];
    return after.then_at >= 0 && after.then_at < after.n_then ? after.then[after.then_at] : -1;
}
