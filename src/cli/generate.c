/* From a conversation to a reply that is shown as it comes. */
#include "generate.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- asking ---- */
void gen_seed(GenArgs *g)
{
    if (!g->has_seed) g->seed = os_random_u64();
    g->has_seed = true;
}

int gen_prompt(const ModelSet *s, const ChatMessage *m, int n, Ids *out, bool *think_open, aha_error *e)
{
    int rc = chat_render(s->words.tok, s->words.form, m, n, true, out, think_open, e);
    if (rc == 0 && out->n > INT32_MAX) rc = error_set(e, AHA_ERR_LIMIT, "a prompt of %zu tokens", out->n);
    return rc;
}

/* How the context could be larger. */
static const char *ctx_advice(const ModelSet *s, const ModelArgs *a, char dst[96])
{
    if (s->ctx >= s->cfg.max_pos)
        snprintf(dst, 96, "this model was made for no more");
    else
        snprintf(dst, 96, a->ctx ? "--ctx goes up to %d with this model" : "--ctx N sets it, up to %d with this model", s->cfg.max_pos);
    return dst;
}

int gen_request(const ModelSet *s, const ModelArgs *a, const GenArgs *g, const Ids *prompt, uint64_t stream, SeqRequest *out, aha_error *e)
{
    char    advice[96];
    int64_t room = (int64_t)s->ctx - (int64_t)prompt->n;
    if (room < 1)
        return error_set(e, AHA_ERR_LIMIT, "the prompt has %zu tokens, the context holds %d, answer included; %s", prompt->n, s->ctx,
                         ctx_advice(s, a, advice));
    if (g->max_tokens > room)
        return error_set(e, AHA_ERR_LIMIT, "%zu tokens of prompt and %d of answer (--max-tokens) exceed the context of %d; %s", prompt->n,
                         g->max_tokens, s->ctx, ctx_advice(s, a, advice));
    *out = (SeqRequest){.prompt = prompt->id, .n_prompt = (int)prompt->n, .max_new = g->max_tokens ? g->max_tokens : (int)room,
                        .sample = {(float)g->temperature, (float)g->top_p, g->top_k, (float)g->min_p, g->seed, stream},
                        .stop = s->words.stop, .n_stop = s->words.n_stop};
    return 0;
}

/* ---- showing ---- */
void answer_init(Answer *a, const Tokenizer *t, bool think_open, bool show, int think_display)
{
    memset(a, 0, sizeof *a);
    reply_init(&a->reply, t, think_open);
    a->state = -1;
    a->fd[REPLY_ANSWER] = show ? STDOUT_FILENO : -1;
    a->fd[REPLY_THINKING] = -1;
    if (!show || think_display == 0) return;
    if (think_display == 1 || term_is(STDOUT_FILENO))
        a->fd[REPLY_THINKING] = STDOUT_FILENO;
    else if (term_is(STDERR_FILENO)) /* the answer goes into a file: somebody may still watch */
        a->fd[REPLY_THINKING] = STDERR_FILENO;
    a->marks = a->fd[REPLY_THINKING] >= 0 && !term_styled(a->fd[REPLY_THINKING]);
}

static void put(int fd, const char *s, size_t n)
{
    if (fd == STDOUT_FILENO)
        out_text(s, n);
    else
        err_text(s, n);
}

/* The program's own text, escape sequences and all. */
static void put_own(int fd, const char *s)
{
    if (fd == STDOUT_FILENO)
        out_str(s);
    else if (*s)
        say_raw(s);
}

/* Ends what stands on the screen, begins the other part. */
static void turn_to(Answer *a, int part)
{
    int from = a->state >= 0 ? a->fd[a->state] : -1, to = part >= 0 ? a->fd[part] : -1;
    if (part >= 0 && to < 0) return;
    if (a->state == REPLY_THINKING && from >= 0) {
        put_own(from, a->marks ? "\n</think>" : term_style(from, STYLE_OFF));
        put_own(from, part < 0 || from != to ? "\n" : "\n\n");
    } else if (a->state == REPLY_ANSWER && from >= 0) {
        put_own(from, part < 0 || from != to ? "\n" : "\n\n");
    }
    if (part == REPLY_THINKING) put_own(to, a->marks ? "<think>\n" : term_style(to, STYLE_DIM));
    a->state = part;
}

static void take(Answer *a, ReplyPart part)
{
    if (a->now.failed) a->out_of_memory = true;
    if (a->out_of_memory || !a->now.n) return;
    buf_add(&a->part[part], a->now.data, a->now.n);
    if (a->part[part].failed) a->out_of_memory = true;
    if (a->fd[part] < 0) return;
    if (a->state != (int)part) turn_to(a, (int)part);
    put(a->fd[part], a->now.data, a->now.n);
    out_flush();
}

void answer_push(Answer *a, int32_t id)
{
    ReplyPart part;
    buf_reset(&a->now);
    reply_push(&a->reply, id, &part, &a->now);
    take(a, part);
}

void answer_end(Answer *a)
{
    ReplyPart part;
    buf_reset(&a->now);
    reply_end(&a->reply, &part, &a->now);
    take(a, part);
    turn_to(a, -1);
    out_flush();
}

void answer_free(Answer *a)
{
    reply_free(&a->reply);
    buf_free(&a->part[0]);
    buf_free(&a->part[1]);
    buf_free(&a->now);
}

/* ---- generating ---- */
const char *finish_name(SeqFinish f)
{
    static const char *const NAME[] = {[SEQ_FINISH_NONE] = "none", [SEQ_FINISH_STOP] = "stop", [SEQ_FINISH_LENGTH] = "length",
                                       [SEQ_FINISH_CANCELLED] = "cancelled", [SEQ_FINISH_ERROR] = "error", [SEQ_FINISH_REPEAT] = "repeat"};
    return NAME[f];
}

typedef struct Listener {
    Answer  *answer;
    Progress bar;
} Listener;

static void on_token(void *user, Seq *s, int32_t token, float logp)
{
    Listener *l = user;
    (void)s, (void)logp;
    progress_end(&l->bar);
    answer_push(l->answer, token);
}

int gen_reply(ModelSet *s, const SeqRequest *request, Answer *answer, SeqFinish *finish, int *tokens, aha_error *e)
{
    Listener   l = {.answer = answer};
    SeqRequest r = *request;
    Seq       *seq;
    int        rc;
    r.on_token = on_token;
    r.user = &l;
    progress_start(&l.bar, "reading the prompt");
    if ((rc = engine_submit(s->engine, &r, &seq, e)) != 0) return rc;
    do {
        rc = engine_step(s->engine, e);
        if (interrupted() || out_failed() || answer->out_of_memory) engine_cancel(s->engine, seq);
        if (seq_state(seq) == SEQ_PREFILL) progress_show(&l.bar, seq_prompt_done(seq), r.n_prompt, -1, NULL);
    } while (rc > 0);
    progress_end(&l.bar);
    answer_end(answer);
    *finish = seq_finish(seq);
    seq_tokens(seq, tokens);
    *tokens += seq_stop_token(seq) >= 0;
    seq_free(seq);
    if (rc == 0 && answer->out_of_memory) rc = error_set(e, AHA_ERR_NOMEM, "no memory for the reply's text");
    if (rc == 0 && *finish == SEQ_FINISH_ERROR) rc = error_set(e, AHA_ERR_INTERNAL, "the model gave no number: its weights are broken");
    return rc;
}

void gen_explain(const Answer *a, SeqFinish f, int tokens, const GenArgs *g)
{
    bool nothing = a->part[REPLY_ANSWER].n == 0;
    char name[80];
    for (int i = 0; i < a->reply.n_call; i++)
        say("the model calls the function \"%s\", which nobody answers here (aha run --json shows the call)",
            error_quote(name, sizeof name, a->reply.call[i].name, strlen(a->reply.call[i].name)));
    if (f == SEQ_FINISH_LENGTH)
        say("cut short after %d tokens (%s)%s", tokens, g->max_tokens ? "--max-tokens" : "the context is full, see --ctx",
            nothing ? ", before an answer" : "");
    else if (f == SEQ_FINISH_STOP && nothing && !a->reply.n_call)
        say("the model ended its thinking without an answer");
}
