/* Bytes as the body of a request: the first chooses the route.  Either it is refused with a 4xx, or its answer, made of tokens that
 * the body's own bytes choose, is valid JSON, at once and as a stream. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/inner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Server s;

static void close_engine(void) { aha_engine_free(s.g); }

static Server *server(void)
{
    static bool tried;
    if (!tried) {
        aha_options o = AHA_OPTIONS_INIT;
        o.threads = 1;
        o.seqs = 1;
        o.cache_bytes = 1 << 20;
        if (aha_engine_open(&s.g, "models/aha-tiny", &o, NULL)) s.g = NULL; /* a copy without its weights: nothing to try */
        s.o = (ServeOptions){.model = "m,aha-tiny", .queue = 4};
        snprintf(s.model, sizeof s.model, "m");
        s.info.size = sizeof s.info;
        atexit(close_engine);
        if (s.g) aha_engine_get_info(s.g, &s.info);
    }
    tried = true;
    return s.g ? &s : NULL;
}

static void check_json(const char *text, size_t n)
{
    json_t *j = json_loadb(text, n, 0, NULL);
    if (!j) abort();
    json_decref(j);
}

static void check_events(const Buf *out)
{
    const char *p = out->data, *end = p + out->n;
    while (p < end) {
        const char *stop = memmem(p, (size_t)(end - p), "\n\n", 2);
        if (!stop || memcmp(p, "data: ", 6)) abort();
        if (memcmp(p + 6, "[DONE]", 6)) check_json(p + 6, (size_t)(stop - p - 6));
        p = stop + 2;
    }
}

/* A few tokens to each choice, as the engine would give them. */
static void answer(Task *t, const uint8_t *data, size_t size, Buf *out)
{
    const Dialect *d = t->route->dialect;
    static const aha_token_logp top[AHA_TOP_MAX] = {{5, -0.5f}, {-1, 0}};
    if (t->ask.stream) d->begin(t, out);
    for (int i = 0; i < t->n_choice && i < 4; i++) {
        Choice *c = &t->choice[i];
        c->finish = (aha_finish)(AHA_FINISH_STOP + (data[0] & 1));
        for (size_t k = 0; k < size && k < 200 && !atomic_load(&c->enough); k++) {
            Token token = {(int32_t)((data[k] * 7 + k) % (size_t)t->s->info.vocab), -1.5f};
            choice_take(c, &token, top, 1);
            if (t->ask.stream) d->part(t, c, out);
        }
        choice_end(c);
        if (!t->ask.stream) continue;
        d->part(t, c, out);
        d->end(t, c, out);
    }
    if (t->ask.stream) d->finish(t, out);
    else d->whole(t, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const Route ROUTE[] = {{.path = "/v1/chat/completions", .parse = chat_parse, .dialect = &dialect_chat},
                                  {.path = "/v1/completions", .parse = text_parse, .dialect = &dialect_text},
                                  {.path = "/tokenize", .parse = tokenize_parse},
                                  {.path = "/detokenize", .parse = detokenize_parse}};
    if (!server() || size < 2) return 0;
    Task *t = task_new(&s, &ROUTE[data[0] % ARRAY_LEN(ROUTE)], NULL, "req-0123456789abcdef01234567");
    Buf   out = {0};
    if (!t) abort();
    buf_add(&t->body, data + 1, size - 1);
    task_read(t);
    if (t->refusal.status) {
        if (t->refusal.status < 400 || t->refusal.status > 499) abort();
        refusal_json(&t->refusal, &out);
        check_json(out.data, out.n);
    } else if (t->ask.n_prompt) {
        answer(t, data, size, &out);
        if (t->ask.stream) check_events(&out);
        else check_json(out.data, out.n);
    } else {
        check_json(t->whole.data, t->whole.n);
    }
    if (out.failed) abort();
    buf_free(&out);
    task_free(t);
    return 0;
}
