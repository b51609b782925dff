/* Weights of files, copied behind the first token to where products read them fastest.  The files stay mapped, for what else reads them. */
#include "settle.h"

struct Settler {
    atomic_bool begun, go, stop, settling;
    const Model *m;
    Thread     *thread;
    _Atomic(Waker *) waker; /* an engine of another thread may say go before it is there */
    uint8_t    *memory;
    size_t      bytes;
};

int settler_new(Model *m, aha_error *e)
{
    m->settler = mem_zalloc(1, sizeof *m->settler);
    if (!m->settler) return error_set(e, AHA_ERR_NOMEM, "no memory for a settler");
    m->settler->m = m;
    return 0;
}

void settler_free(Settler *s)
{
    if (!s) return;
    atomic_store(&s->stop, true);
    atomic_store(&s->go, true);
    if (s->waker) waker_wake(s->waker);
    thread_join(s->thread);
    waker_free(s->waker);
    mem_pages_free(s->memory, s->bytes);
    mem_free(s);
}

/* the i-th weight that products stream from a file; NULL: it stays where it is */
static Weight *streamed(const Model *m, int i)
{
    Weight        *w = m->weight[i];
    const uint8_t *data = w->data, *owned = m->owned;
    if (w == &m->embed) { /* read here and there; a tied head is another weight at the same place */
        if (!m->cfg.tied_embeddings) return NULL;
        w = (Weight *)(uintptr_t)&m->head;
    }
    if (owned && data >= owned && data < owned + m->owned_bytes) return NULL;
    return dtype_is_blocked(w->dtype) && !m->act_q8 ? NULL : w; /* else it is decoded where it lies */
}

static void settle_one(Settler *s, Weight *w, uint8_t *to)
{
    if (weight_settle(w, to)) weights_done_with(s->m->file, w->data, weight_bytes(w));
}

static size_t room_of(const Weight *w) { return w ? (weight_bytes(w) + 63) & ~(size_t)63 : 0; }

static void settle(void *arg)
{
    Settler *s = arg;
    size_t   at = 0;
    while (!atomic_load(&s->go)) (void)waker_wait(s->waker, 3600 * 1000);
    for (int i = 0; i < s->m->n_weight && !atomic_load(&s->stop); i++) {
        Weight *w = streamed(s->m, i);
        if (w) settle_one(s, w, s->memory + at);
        at += room_of(w);
    }
    atomic_store(&s->settling, false);
}

void model_settle(const Model *m, size_t least)
{
    Settler  *s = m->settler;
    aha_error e;
    if (!s || !m->file || m->mapped_bytes < least || !knob_int("AHA_SETTLE") || atomic_exchange(&s->begun, true)) return;
    for (int i = 0; i < m->n_weight; i++) s->bytes += room_of(streamed(m, i));
    if (s->bytes == 0 || s->bytes + s->bytes / 8 > os_memory_available()) return;
    s->memory = mem_pages(s->bytes);
    s->waker = waker_new(&e);
    atomic_store(&s->settling, true);
    if (!s->memory || !s->waker || thread_start(&s->thread, settle, s, &e)) atomic_store(&s->settling, false); /* weights stay where they are */
}

void model_settle_go(const Model *m)
{
    if (!m->settler) return;
    atomic_store(&m->settler->go, true);
    if (m->settler->waker) waker_wake(m->settler->waker);
}

bool model_settled(const Model *m) { return !m->settler || !atomic_load(&m->settler->settling); }
