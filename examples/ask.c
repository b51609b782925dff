/* Asks a model one question and shows thinking and answer as they come.
 *
 *   cc ask.c $(pkg-config --cflags --libs aha) -o ask
 *   ./ask MODEL "Using 8, 13 and 2, make 29." [SEED]
 *
 * MODEL is a Hugging Face folder or a GGUF file. */
#include <aha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Show {
    aha_reply *reply;
    aha_part   part; /* what was shown last */
} Show;

static int failed(const aha_error *e)
{
    fprintf(stderr, "ask: %s\n", e->text);
    return 1;
}

static void show(Show *s, aha_part part, const char *text, size_t n)
{
    if (n && part != s->part) fputs("\n\n", stdout);
    if (n) s->part = part;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
}

/* Called by aha_engine_run for every token.  A character may take several: text comes when it is whole. */
static void on_token(void *user, aha_seq *seq, int32_t token, float logp)
{
    Show       *s = user;
    const char *text;
    size_t      n;
    aha_part    part;
    (void)seq, (void)logp;
    if (aha_reply_push(s->reply, token, &part, &text, &n, NULL) == 0) show(s, part, text, n);
}

static int ask(aha_engine *g, const char *question, uint64_t seed, aha_error *e)
{
    aha_message        m = {.role = "user", .text = question, .n_bytes = strlen(question)};
    aha_sample_options sample = AHA_SAMPLE_OPTIONS_INIT;
    aha_seq_options    o = AHA_SEQ_OPTIONS_INIT;
    aha_seq           *seq = NULL;
    Show               s = {.part = AHA_PART_THINKING};
    int32_t           *ids = NULL;
    bool               thinking = false;
    const char        *text;
    size_t             n;
    aha_part           part;
    int                rc = aha_chat(g, &m, 1, &ids, &o.n_prompt, &thinking, e); /* the model's own form of a conversation */
    sample.seed = seed;
    o.prompt = ids;
    o.sample = &sample;
    o.on_token = on_token;
    o.user = &s;
    if (rc == 0) rc = aha_reply_new(&s.reply, g, thinking, e);
    if (rc == 0) rc = aha_seq_submit(g, &o, &seq, e); /* as many as one likes, then: */
    if (rc == 0) rc = aha_engine_run(g, e);           /* all of them are computed together */
    if (rc == 0 && aha_reply_end(s.reply, &part, &text, &n, e) == 0) show(&s, part, text, n);
    putchar('\n');
    aha_seq_free(seq);
    aha_reply_free(s.reply);
    aha_free(ids);
    return rc;
}

int main(int argc, char **argv)
{
    aha_options o = AHA_OPTIONS_INIT;
    aha_engine *g;
    aha_error   e = {0};
    int         rc;
    if (argc < 3) {
        fprintf(stderr, "usage: ask MODEL QUESTION [SEED]      (aha %s)\n", aha_version());
        return 2;
    }
    if (aha_engine_open(&g, argv[1], &o, &e)) return failed(&e);
    rc = ask(g, argv[2], argc > 3 ? strtoull(argv[3], NULL, 10) : 1, &e) ? failed(&e) : 0;
    aha_engine_free(g);
    return rc;
}
