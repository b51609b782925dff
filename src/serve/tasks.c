/* Tasks as the I/O thread sees them: made, sent round, answered. */
#include <stdio.h>
#include <string.h>

#include "inner.h"

/* ---- making and freeing ---- */
Task *task_new(Server *s, const Route *route, Exchange *x, const char *id)
{
    Task *t = mem_zalloc(1, sizeof *t);
    if (!t) return NULL;
    *t = (Task){.s = s, .route = route, .x = x, .created = (int64_t)time_unix(), .start_ns = time_now_ns()};
    atomic_init(&t->cancelled, false);
    pthread_mutex_init(&t->lock, NULL);
    snprintf(t->id, sizeof t->id, "%s", id);
    s->n_tasks++;
    return t;
}

/* What it used goes to its key's account, also when nobody waited for the end. */
static void settle(Task *t)
{
    Usage    u = usage_of(t);
    KeyUsage k = {.prompt = u.prompt, .cached = u.cached, .completion = u.completion, .reasoning = u.thinking};
    keys_done(t->s->o.keys, &t->grant, t->sent ? &k : NULL);
}

void task_free(Task *t)
{
    Server *s = t->s;
    if (s->o.keys) settle(t);
    s->bodies -= t->body_bytes;
    s->n_tasks--;
    if (t->admitted) s->n_admitted--;
    if (t->sent) s->n_answers -= t->n_choice;
    for (int i = 0; i < t->n_choice; i++) choice_free(&t->choice[i]);
    mem_free(t->choice);
    for (int i = 0; i < t->ask.n_prompt; i++) aha_free(t->ask.prompt[i].id);
    mem_free(t->ask.prompt);
    mem_free(t->ask.bias);
    aha_free(t->ask.then);
    for (int i = 0; t->stop_texts && i < AHA_STOP_MAX; i++) buf_free(&t->stop_texts[i]);
    mem_free(t->stop_texts);
    buf_free(&t->body);
    buf_free(&t->whole);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

void task_abandon(Task *t)
{
    t->x = NULL;
    atomic_store(&t->cancelled, true);
    if (!t->away) task_free(t);
}

/* ---- may it come in? ---- */
/* How long until a place is free: as long as the requests before it take, so many at a time. */
static int retry_after(const Server *s)
{
    double wait = s->service_s * (double)(s->n_admitted - s->info.seqs + 1) / (double)s->info.seqs;
    return wait < 1 ? 1 : wait > 60 ? 60 : (int)(wait + 0.999);
}

bool server_is_full(Server *s, Refusal *r)
{
    if (os_shrunk()) {
        refuse(r, 503, "model_damaged", NULL, "%s", SHRUNK_WORDS);
    } else if (s->draining) {
        refuse(r, 503, "shutting_down", NULL, "this server is shutting down");
        r->retry_after_s = 5;
    } else if (s->n_admitted >= s->info.seqs + s->o.queue) {
        refuse(r, 503, "overloaded", NULL, "%d requests are under way and %d wait, which is as many as this server takes", s->info.seqs, s->o.queue);
        r->retry_after_s = retry_after(s);
        s->m.refused_overload++;
    } else {
        return false;
    }
    return true;
}

/* ---- round ---- */
void task_begin(Task *t)
{
    Server *s = t->s;
    t->away = true;
    queue_put(&s->readers[t->body.n > BODY_SMALL], t);
}

static void fail(Task *t, const Refusal *r)
{
    exchange_refuse(t->x, r);
}

static void start_stream(Task *t)
{
    exchange_stream(t->x);
    t->route->dialect->begin(t, exchange_out(t->x));
    exchange_push(t->x, false);
}

/* Its head was let in before anybody knew how much it asks for.  Now that counts, until it ends: else everything in flight could
 * lead beyond the quota at once. */
static bool over_quota(Task *t)
{
    KeyRefusal why = {0};
    KeyAdmit   a = t->s->o.keys ? keys_reserve(t->s->o.keys, &t->grant, t->ask.reserve, &why) : KEY_ADMITTED;
    return a != KEY_ADMITTED && refuse_key(&t->refusal, a, &why);
}

/* Read and checked: to the engine, or answered. */
static void prepared(Task *t)
{
    Server *s = t->s;
    s->bodies -= t->body_bytes;
    t->body_bytes = 0;
    t->away = false;
    if (!t->x) {
        task_free(t);
        return;
    }
    if (t->refusal.status) {
        fail(t, &t->refusal);
    } else if (!t->ask.n_prompt) {
        exchange_answer(t->x, 200, "application/json", &t->whole);
    } else if (s->n_answers + t->n_choice > s->info.seqs + s->o.queue + CHOICES_MAX) { /* requests are few, but ask for many answers */
        refuse(&t->refusal, 503, "overloaded", NULL, "%d answers are under way or wait, and this request asks for %d", s->n_answers, t->n_choice);
        t->refusal.retry_after_s = retry_after(s);
        s->m.refused_overload++;
        fail(t, &t->refusal);
    } else if (over_quota(t)) {
        fail(t, &t->refusal);
    } else {
        if (t->ask.stream) start_stream(t);
        t->away = t->sent = true;
        s->n_answers += t->n_choice;
        engine_send(s, t);
    }
}

void tasks_prepared(Server *s)
{
    for (Task *t = queue_take_all(&s->prepared), *next; t; t = next) {
        next = t->next;
        prepared(t);
    }
}

/* ---- news from the engine ---- */
/* Copies a choice's new tokens out of the engine's reach. */
static int take_tokens(Choice *c, Token *dst, aha_token_logp *top, int cap, bool *done)
{
    size_t n_top = c->task->ask.logprobs > 0 ? (size_t)c->task->ask.logprobs : 0;
    pthread_mutex_lock(&c->task->lock);
    int n = c->n_token - c->taken;
    if (n > cap) n = cap;
    if (n > 0) memcpy(dst, c->token + c->taken, (size_t)n * sizeof *dst);
    if (n > 0 && n_top) memcpy(top, c->top + (size_t)c->taken * n_top, (size_t)n * n_top * sizeof *top);
    *done = c->done && c->taken + n == c->n_token;
    pthread_mutex_unlock(&c->task->lock);
    return n;
}

static void count_tokens(Task *t, int n)
{
    Metrics *m = &t->s->m;
    uint64_t now = time_now_ns();
    if (!n) return;
    m->new_tokens += n;
    if (!t->first_ns) {
        t->first_ns = now;
        histogram_add(&m->first_token, 1e-9 * (double)(now - t->start_ns));
    } else {
        histogram_add(&m->between_tokens, 1e-9 * (double)(now - t->last_ns) / n);
    }
    t->last_ns = now;
}

static void choice_news(Task *t, Choice *c, bool broken)
{
    Token          token[32];
    aha_token_logp top[32 * AHA_TOP_MAX];
    bool           done = false;
    int            n;
    while (!c->ended) {
        n = take_tokens(c, token, top, ARRAY_LEN(token), &done);
        if (!n && !done) return;
        count_tokens(t, n);
        choice_take(c, token, top, n);
        done |= atomic_load(&c->enough);
        if (done) {
            choice_end(c);
            t->n_ended++;
        }
        if (!t->ask.stream) continue;
        t->route->dialect->part(t, c, exchange_out(t->x));
        if (done && !broken) t->route->dialect->end(t, c, exchange_out(t->x));
    }
}

static bool out_of_memory(const Task *t)
{
    for (int i = 0; i < t->n_choice; i++)
        if (t->choice[i].think.failed || t->choice[i].answer.failed || t->choice[i].logp[0].failed || t->choice[i].logp[1].failed) return true;
    return false;
}

static void count_request(Task *t)
{
    Server *s = t->s;
    double  took = 1e-9 * (double)(time_now_ns() - t->start_ns);
    histogram_add(&s->m.whole, took);
    s->service_s += 0.1 * (took - s->service_s);
    for (int i = 0; i < t->n_choice; i++) {
        if (i % t->ask.n) continue;
        s->m.prompt_tokens += t->choice[i].prompt->n;
        s->m.cached_tokens += t->choice[i].n_cached;
    }
}

/* The engine has let go of it. */
static void finished(Task *t)
{
    Refusal r = {0};
    Buf     whole = {0};
    t->away = false;
    if (!t->x) {
        t->s->m.cancelled++;
        task_free(t);
        return;
    }
    if (out_of_memory(t)) error_set(&t->error, AHA_ERR_NOMEM, "no memory for the answer");
    if (t->error.code) {
        refuse_error(&r, &t->error, NULL);
        if (!t->ask.stream) {
            fail(t, &r);
            return;
        }
        t->route->dialect->broken(t, &r, exchange_out(t->x));
        exchange_push(t->x, true);
        return;
    }
    count_request(t);
    if (t->ask.stream) {
        t->route->dialect->finish(t, exchange_out(t->x));
        exchange_push(t->x, true);
        return;
    }
    t->route->dialect->whole(t, &whole);
    exchange_answer(t->x, 200, "application/json", &whole);
    buf_free(&whole);
}

static void news(Task *t)
{
    pthread_mutex_lock(&t->lock);
    t->dirty = false;
    bool last = t->finished, broken = t->error.code != 0;
    pthread_mutex_unlock(&t->lock);
    if (t->x) {
        for (int i = 0; i < t->n_choice; i++) choice_news(t, &t->choice[i], broken);
        if (t->ask.stream && !last) exchange_push(t->x, false);
    }
    if (last) finished(t);
}

void tasks_news(Server *s)
{
    pthread_mutex_lock(&s->dirty_lock);
    Task *t = s->dirty;
    s->dirty = NULL;
    pthread_mutex_unlock(&s->dirty_lock);
    for (Task *next; t; t = next) {
        next = t->next_dirty; /* read before news(): from there on the engine may mark it again */
        news(t);
    }
}
