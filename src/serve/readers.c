/* The readers: bodies become checked requests, away from the I/O thread.  A large one has a reader of its own, so that at most
 * one takes the memory that parsing it may need, and small ones do not wait behind it. */
#include <string.h>

#include "inner.h"

static int body_read(Task *t, Json **body, Refusal *r)
{
    aha_error e = {0};
    Buf       key = {0};
    size_t    at;
    int       rc = json_parse_wide(body, t->body.n ? t->body.data : "", t->body.n, "the body", &at, &e);
    if (!rc) return 0;
    if (e.code == AHA_ERR_NOMEM) return refuse_error(r, &e, NULL);
    bool known = json_member_at(t->body.n ? t->body.data : "", t->body.n, at, &key);
    rc = known ? refuse(r, 400, "invalid_json", key.data ? key.data : "", "%s: %s", key.data ? key.data : "", e.text)
               : refuse(r, 400, "invalid_json", NULL, "%s", e.text);
    buf_free(&key);
    return rc;
}

void task_read(Task *t)
{
    Json *body = NULL;
    if (atomic_load(&t->cancelled)) return;
    if (body_read(t, &body, &t->refusal) == 0 && t->route->parse(t, body, &t->refusal) == 0 && t->ask.n_prompt) choices_make(t, &t->refusal);
    t->ask.n_stop = 0; /* borrowed from the body */
    t->ask.effort = NULL;
    json_free(body);
    buf_free(&t->body);
}

void reader_main(void *arg)
{
    ReaderArg *a = arg;
    for (Task *t; (t = queue_wait(a->q));) {
        task_read(t);
        queue_put(&a->s->prepared, t);
        event_signal(a->s->event);
    }
}
