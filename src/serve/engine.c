/* The engine's thread: the only one that touches sequences.
 *
 * Between two steps it takes new tasks and cancels those that nobody waits for, so a slot is free within one step of that.
 * What a step gave is put into the tasks under their locks; the I/O thread is woken once a step. */
#include <string.h>

#include "inner.h"

typedef struct Driver {
    Server *s;
    Task   *active; /* by next_active */
    bool    news;
} Driver;

/* Puts t among those that the I/O thread looks at.  The task's lock is held. */
static void mark(Task *t)
{
    Server *s = t->s;
    if (t->dirty) return;
    t->dirty = true;
    pthread_mutex_lock(&s->dirty_lock);
    t->next_dirty = s->dirty;
    s->dirty = t;
    pthread_mutex_unlock(&s->dirty_lock);
}

static bool token_room(Choice *c)
{
    size_t n_top = c->task->ask.logprobs > 0 ? (size_t)c->task->ask.logprobs : 0;
    if (c->n_token < c->cap_token) return true;
    size_t cap = c->cap_token ? 2 * (size_t)c->cap_token : 64;
    Token *p = mem_realloc(c->token, cap * sizeof *p);
    if (!p) return false;
    c->token = p;
    if (n_top) {
        aha_token_logp *top = mem_realloc(c->top, cap * n_top * sizeof *top);
        if (!top) return false;
        c->top = top;
    }
    c->cap_token = (int)cap;
    return true;
}

static void on_new_token(void *user, aha_seq *seq, const aha_new_token *k)
{
    Choice *c = user;
    Task   *t = c->task;
    size_t  n_top = t->ask.logprobs > 0 ? (size_t)t->ask.logprobs : 0;
    if (t->ask.nothing_new) return;
    pthread_mutex_lock(&t->lock);
    bool ok = token_room(c);
    if (ok) {
        if (n_top && k->top) memcpy(c->top + (size_t)c->n_token * n_top, k->top, n_top * sizeof *k->top);
        c->token[c->n_token++] = (Token){k->token, k->logp};
    } else {
        error_set(&t->error, AHA_ERR_NOMEM, "no memory for the answer");
    }
    mark(t);
    pthread_mutex_unlock(&t->lock);
    if (!ok) aha_seq_cancel(seq);
}

/* The prompt's log-probabilities, for an echo. */
static void keep_prompt(Choice *c, const aha_seq_status *st)
{
    size_t n = (size_t)c->prompt->n, n_top = c->task->ask.logprobs > 0 ? (size_t)c->task->ask.logprobs : 0;
    if (!st->prompt_logp || st->prompt_done < c->prompt->n) return;
    c->prompt_logp = mem_alloc(n * sizeof *c->prompt_logp);
    c->prompt_top = n_top && st->prompt_top ? mem_alloc(n * n_top * sizeof *c->prompt_top) : NULL;
    if (c->prompt_logp) memcpy(c->prompt_logp, st->prompt_logp, n * sizeof *c->prompt_logp);
    if (c->prompt_top) memcpy(c->prompt_top, st->prompt_top, n * n_top * sizeof *c->prompt_top);
    if (!c->prompt_logp || (n_top && !c->prompt_top)) error_set(&c->task->error, AHA_ERR_NOMEM, "no memory for log-probabilities");
}

/* The sequence is freed here, or later with its task. */
static void on_done(void *user, aha_seq *seq)
{
    Choice        *c = user;
    Task          *t = c->task;
    aha_seq_status st = {.size = sizeof st};
    aha_seq_poll(seq, &st);
    pthread_mutex_lock(&t->lock);
    c->done = true;
    c->finish = st.finish;
    c->stopped = st.stop_token >= 0;
    if (t->ask.echo) keep_prompt(c, &st);
    c->n_cached = st.prompt_cached;
    if (st.finish == AHA_FINISH_ERROR && !t->error.code) error_set(&t->error, AHA_ERR_INTERNAL, "the model gave no number: its weights are broken");
    mark(t);
    pthread_mutex_unlock(&t->lock);
    t->n_running--;
    atomic_fetch_sub(&t->s->n_seqs, 1);
}

/* Nothing of the task is running any more: it goes back. */
static void let_go(Driver *d, Task *t)
{
    for (int i = 0; i < t->n_choice; i++) {
        aha_seq_free(t->choice[i].seq);
        t->choice[i].seq = NULL;
    }
    pthread_mutex_lock(&t->lock);
    t->finished = true;
    mark(t);
    pthread_mutex_unlock(&t->lock); /* the I/O thread may free it as soon as it gets to it: see tasks_news */
    d->news = true;
}

static void submit(Driver *d, Task *t)
{
    for (int i = 0; i < t->n_choice && !t->error.code; i++) {
        Choice            *c = &t->choice[i];
        aha_sample_options sample = t->ask.sample;
        aha_seq_options    o = AHA_SEQ_OPTIONS_INIT;
        aha_error          e = {0};
        sample.stream = (uint64_t)i;
        sample.bias = t->ask.bias;
        o.prompt = c->prompt->id;
        o.n_prompt = c->prompt->n;
        o.max_new = t->ask.max_new;
        o.sample = &sample;
        o.want_logp = t->ask.logprobs >= 0;
        o.n_top = t->ask.logprobs > 0 ? t->ask.logprobs : 0;
        o.want_prompt_logp = t->ask.echo && t->ask.logprobs >= 0;
        o.think_open = c->prompt->think_open;
        o.think_budget = t->ask.think_budget;
        if (t->ask.then) {
            o.think_end = t->ask.then;
            o.n_think_end = t->ask.n_close;
            o.then = t->ask.then + t->ask.n_close;
            o.n_then = t->ask.n_then - t->ask.n_close;
        }
        o.repeat_min = t->ask.repeat_min;
        o.group = t->group;
        o.on_new_token = on_new_token;
        o.on_done = on_done;
        o.user = c;
        if (aha_seq_submit(d->s->g, &o, &c->seq, &e)) {
            pthread_mutex_lock(&t->lock);
            t->error = e;
            pthread_mutex_unlock(&t->lock);
            atomic_store(&t->cancelled, true);
            break;
        }
        t->n_running++;
        atomic_fetch_add(&d->s->n_seqs, 1);
    }
    t->next_active = d->active;
    d->active = t;
}

/* Ends what was cancelled, gives back what has ended. */
static void sweep(Driver *d)
{
    for (Task **at = &d->active, *t; (t = *at);) {
        bool all = atomic_load(&t->cancelled);
        for (int i = 0; t->n_running && i < t->n_choice; i++) {
            Choice *c = &t->choice[i];
            if (c->seq && !c->done && (all || atomic_load(&c->enough))) aha_seq_cancel(c->seq);
        }
        if (t->n_running) {
            at = &t->next_active;
        } else {
            *at = t->next_active;
            let_go(d, t);
        }
    }
}

static void cancel_all(Driver *d, int code, const char *words)
{
    for (Task *t = d->active; t; t = t->next_active) {
        pthread_mutex_lock(&t->lock);
        if (!t->error.code) error_set(&t->error, code, "%s", words);
        pthread_mutex_unlock(&t->lock);
        atomic_store(&t->cancelled, true);
    }
}

static void step(Driver *d)
{
    aha_error e = {0};
    int       rc = aha_engine_step(d->s->g, &e);
    if (rc < 0) log_msg(LOG_ERROR, "a step of the engine failed: %s", e.text);
    if (os_shrunk()) cancel_all(d, AHA_ERR_IO, SHRUNK_WORDS);
    atomic_fetch_add(&d->s->steps, 1);
    atomic_store(&d->s->step_ns, time_now_ns());
    d->news = true;
}

void engine_publish(Server *s)
{
    aha_engine_stats st = {.size = sizeof st};
    aha_engine_get_stats(s->g, &st);
    pthread_mutex_lock(&s->stats_lock);
    s->stats = st;
    pthread_mutex_unlock(&s->stats_lock);
}

void engine_main(void *server)
{
    Driver  d = {.s = server};
    Server *s = server;
    for (;;) {
        while (!d.active && !queue_wait_any(&s->inbox, cache_file_wait(s))) cache_file_begin(s);
        cache_file_tend(s);
        pthread_mutex_lock(&s->inbox.lock);
        bool stop = s->inbox.stop;
        pthread_mutex_unlock(&s->inbox.lock);
        for (Task *t = queue_take_all(&s->inbox), *next; t; t = next) {
            next = t->next;
            submit(&d, t);
        }
        if (stop) cancel_all(&d, AHA_ERR_CANCELLED, "the server ends");
        sweep(&d);
        if (d.active) step(&d);
        sweep(&d);
        if (d.news) engine_publish(s);
        if (d.news) event_signal(s->event);
        d.news = false;
        if (stop && !d.active) return;
    }
}

void engine_send(Server *s, Task *t)
{
    queue_put(&s->inbox, t);
}
