/* A file cut into windows, or samples of a task's corpus: what a model's predictions are measured on. */
#include "passages.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../learn/learn.h"

int passages_usage(const TextArgs *a, const char *example)
{
    aha_error e = {0};
    if (!a->file == !a->task) return fail_usage("%s, as in: %s", a->file ? "either FILE or --task is expected, not both" : "a FILE of text, or --task, is expected", example);
    if (a->task && !task_find(a->task, &e)) return fail_usage("--task: %s", e.text);
    return -1;
}

/* The token that begins every text of the model; -1: it has none. */
static int32_t begin_token(const Tokenizer *t)
{
    static const char *const NAME[] = {"<｜begin▁of▁sentence｜>", "<|begin_of_text|>"};
    for (size_t i = 0; i < ARRAY_LEN(NAME); i++)
        if (tokenizer_id(t, NAME[i]) >= 0) return tokenizer_id(t, NAME[i]);
    return -1;
}

static int text_ids(Passages *out, const TextArgs *a, const ModelSet *s, aha_error *e)
{
    Buf     text = {0};
    char   *data = NULL;
    size_t  n = 0;
    int32_t begin = begin_token(s->words.tok);
    int     rc = strcmp(a->file, "-") ? file_read_all(a->file, (size_t)1 << 30, &data, &n, e) : input_stdin(&text, (size_t)1 << 30, e);
    if (!rc && begin >= 0) rc = ids_push(&out->ids, begin, e);
    if (!rc) rc = tokenizer_encode(s->words.tok, data ? data : text.data, data ? n : text.n, 0, &out->ids, e);
    mem_free(data);
    buf_free(&text);
    if (!rc && a->tokens_max && (int64_t)out->ids.n > a->tokens_max) out->ids.n = (size_t)a->tokens_max;
    if (!rc && out->ids.n < 2) rc = error_set(e, AHA_ERR_FORMAT, "%s: %zu tokens, expected at least 2", a->file, out->ids.n);
    if (!rc && out->ids.n > INT32_MAX) rc = error_set(e, AHA_ERR_LIMIT, "%s: %zu tokens, expected less than 2^31", a->file, out->ids.n);
    return rc;
}

/* Windows as other programs cut them: each begins with the token that begins a text, in the place of one of its own, and its second
 * half is predicted, so that every prediction sees half a window.  What is no whole window at the end is left out; a text
 * below one window is predicted whole. */
static int cut_text(Passages *out, const TextArgs *a, const ModelSet *s, aha_error *e)
{
    int     rc = text_ids(out, a, s, e), n = (int)out->ids.n, ctx = a->ctx < s->cfg.max_pos ? a->ctx : s->cfg.max_pos;
    int32_t begin = begin_token(s->words.tok);
    if (rc) return rc;
    out->n = n / ctx ? n / ctx : 1;
    out->ctx = n < ctx ? n : ctx;
    out->p = mem_zalloc((size_t)out->n, sizeof *out->p);
    if (!out->p) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d windows", out->n);
    for (int i = 0; i < out->n; i++) {
        int32_t *token = out->ids.id + (size_t)i * (size_t)out->ctx;
        if (begin >= 0) token[0] = begin;
        out->p[i] = (Passage){token, out->ctx, n < ctx ? 1 : out->ctx / 2 + 1};
    }
    snprintf(out->words, sizeof out->words, "%.60s, %d window%s of %d tokens", a->file, out->n, out->n == 1 ? "" : "s", out->ctx);
    return 0;
}

static int take_samples(Passages *out, const TextArgs *a, const ModelSet *s, aha_error *e)
{
    const Task *t = task_find(a->task, e);
    int32_t     think = tokenizer_id(s->words.tok, "<think>");
    int         n = a->samples, rc;
    int        *end = mem_zalloc((size_t)n, sizeof *end);
    out->p = mem_zalloc((size_t)n, sizeof *out->p);
    rc = end && out->p ? corpus_text(s->words.tok, s->words.form, t, a->seed, n, &out->ids, end, e)
                       : error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d samples", n);
    for (int i = 0; i < n && !rc; i++) {
        int start = i ? end[i - 1] : 0, len = end[i] - start, at = 0;
        while (at < len && out->ids.id[start + at] != think) at++;
        out->p[i] = (Passage){out->ids.id + start, len, at + 1 < len ? at + 1 : 1};
    }
    out->n = n;
    snprintf(out->words, sizeof out->words, "%d samples of %s's corpus, seed %llu", n, t->name, (unsigned long long)a->seed);
    mem_free(end);
    return rc;
}

int passages_read(Passages *out, const TextArgs *a, const ModelSet *s, aha_error *e)
{
    memset(out, 0, sizeof *out);
    return a->task ? take_samples(out, a, s, e) : cut_text(out, a, s, e);
}

void passages_free(Passages *p)
{
    mem_free(p->p);
    ids_free(&p->ids);
    memset(p, 0, sizeof *p);
}

bool passages_progress(void *user, int64_t done, int64_t total, const TextScore *now)
{
    char line[64];
    snprintf(line, sizeof line, "perplexity %.4f", exp(now->nll.mean));
    progress_show(user, done, total, -1, line);
    return interrupted() != 0;
}
