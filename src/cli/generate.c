/* From a conversation to a reply that is shown as it comes. */
#include "generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- asking ---- */
void gen_seed(GenArgs *g)
{
    if (!g->has_seed) g->seed = os_random_u64();
    g->has_seed = true;
}

static bool force_think(const GenArgs *g) { return g->think && !strcmp(g->think, "force"); }

static Stops *stops_of(const GenArgs *g, aha_error *e)
{
    TextRef ref[OPTION_LIST_MAX];
    Stops  *p = NULL;
    for (int i = 0; i < g->stop.n; i++) ref[i] = (TextRef){g->stop.item[i], strlen(g->stop.item[i])};
    if (g->stop.n) stops_new(&p, ref, g->stop.n, e);
    return p;
}

/* ID:VALUE */
static bool read_bias(const char *s, aha_logit_bias *out)
{
    char *end;
    long  id = strtol(s, &end, 10);
    if (end == s || *end != ':' || id < 0 || id > INT32_MAX || strchr(" \t\n+-", *s)) return false;
    s = end + 1;
    *out = (aha_logit_bias){(int32_t)id, (float)number_read(s, &end)};
    return end != s && !*end && fabsf(out->bias) <= 100;
}

int gen_check(const GenArgs *g)
{
    aha_error      e = {0};
    aha_logit_bias bias;
    char           quoted[64];
    int            budget;
    Stops         *stops = stops_of(g, &e);
    stops_free(stops);
    if (e.code) return fail_usage("--stop: %s", e.text);
    for (int i = 0; i < g->bias.n; i++)
        if (!read_bias(g->bias.item[i], &bias))
            return fail_usage("--bias is '%s', expected a token's id and -100 to 100, as 17:-2.5",
                              error_quote(quoted, sizeof quoted, g->bias.item[i], strlen(g->bias.item[i])));
    if (g->think && !force_think(g) && think_budget(g->think, 1, &budget, &e)) return fail_usage("--think: %s; or force", e.text);
    return CLI_DONE;
}

int gen_prompt(const ModelSet *s, const GenArgs *g, const ChatMessage *m, int n, Ids *out, bool *think_open, aha_error *e)
{
    ChatOptions o = {.add_generation = true};
    int         budget = -1, rc;
    if (g->think && !force_think(g)) think_budget(g->think, 1 << 20, &budget, NULL);
    if (force_think(g)) o.think = CHAT_THINK_FORCED;
    if (budget == 0) o.think = CHAT_THINK_OFF;
    rc = chat_render_with(s->words.tok, s->words.form, m, n, &o, out, think_open, e);
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

int gen_request(const ModelSet *s, const ModelArgs *a, const GenArgs *g, const Ids *prompt, bool think_open, uint64_t stream,
                aha_logit_bias bias[OPTION_LIST_MAX], SeqRequest *out, aha_error *e)
{
    int     budget = -1, rc = 0;
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
                        .stop = s->words.stop, .n_stop = s->words.n_stop, .want_logp = g->logprobs >= 0,
                        .n_top = g->logprobs > 0 ? g->logprobs : 0, .repeat_min = g->stop_repeats ? AHA_REPEAT_DEFAULT : 0,
                        .think = &s->words.think, .think_open = think_open,
                        .adjust = {bias, g->bias.n, (float)g->repetition, (float)g->presence, (float)g->frequency}};
    for (int i = 0; i < g->bias.n; i++) read_bias(g->bias.item[i], &bias[i]);
    if (g->think && !force_think(g)) rc = think_budget(g->think, out->max_new, &budget, e);
    out->think_budget = budget;
    return rc;
}

/* ---- showing ---- */
void answer_init(Answer *a, const Tokenizer *t, bool think_open, bool show, const GenArgs *g)
{
    int think_display = g->think_display;
    memset(a, 0, sizeof *a);
    reply_init(&a->reply, t, think_open);
    a->stops = stops_of(g, NULL);
    a->out_of_memory = g->stop.n && !a->stops;
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

/* What came, past the stop texts if it is answer; `last`: nothing follows in this stretch of it. */
static void pass_stops(Answer *a, ReplyPart part, bool last)
{
    Buf all = a->now;
    if (!a->stops || part != REPLY_ANSWER) return;
    buf_reset(&a->passed);
    stops_push(a->stops, a->now.data, a->now.n, &a->passed);
    if (last) stops_end(a->stops, &a->passed);
    a->now = a->passed;
    a->passed = all;
}

static void take(Answer *a, ReplyPart part, bool last)
{
    pass_stops(a, part, last);
    if (a->now.failed) a->out_of_memory = true;
    if (a->out_of_memory || !a->now.n) return;
    buf_add(&a->part[part], a->now.data, a->now.n);
    if (a->part[part].failed) a->out_of_memory = true;
    if (a->fd[part] < 0) return;
    if (a->state != (int)part) turn_to(a, (int)part);
    put(a->fd[part], a->now.data, a->now.n);
    out_flush();
}

static bool stopped(const Answer *a) { return a->stops && stops_hit(a->stops) >= 0; }

bool answer_push(Answer *a, int32_t id)
{
    ReplyPart part;
    if (stopped(a)) return false;
    buf_reset(&a->now);
    reply_push(&a->reply, id, &part, &a->now);
    take(a, part, part == REPLY_ANSWER && a->reply.part == REPLY_THINKING);
    return !stopped(a);
}

void answer_end(Answer *a)
{
    ReplyPart part;
    buf_reset(&a->now);
    if (!stopped(a)) {
        reply_end(&a->reply, &part, &a->now);
        take(a, part, true);
    }
    turn_to(a, -1);
    out_flush();
}

void answer_free(Answer *a)
{
    reply_free(&a->reply);
    buf_free(&a->part[0]);
    buf_free(&a->part[1]);
    buf_free(&a->now);
    buf_free(&a->passed);
    buf_free(&a->logprobs);
    stops_free(a->stops);
}

/* ---- what is known of it in the end ---- */
static void add_logp(Buf *b, const Tokenizer *t, int32_t id, double logp)
{
    size_t      n;
    const char *s = tokenizer_bytes(t, id, &n);
    buf_fmt(b, "{\"id\":%d,\"token\":", id);
    buf_json(b, s, n);
    if (isfinite(logp)) buf_fmt(b, ",\"logprob\":%.7g", logp);
    else buf_str(b, ",\"logprob\":null");
}

static void add_logprobs(Answer *a, const Seq *s, int n_tokens)
{
    const Tokenizer *t = a->reply.tok;
    Buf             *b = &a->logprobs;
    int              n;
    const int32_t   *id = seq_tokens(s, &n);
    buf_str(b, "[");
    for (int i = 0; i < n_tokens; i++) {
        const aha_token_logp *top = seq_top(s, i);
        if (i) buf_str(b, ",");
        add_logp(b, t, i < n ? id[i] : seq_stop_token(s), (double)seq_logp(s)[i]);
        if (seq_forced(s, i)) buf_str(b, ",\"forced\":true");
        for (int k = 0; top && k < seq_n_top(s) && top[k].token >= 0; k++) {
            buf_str(b, k ? "," : ",\"top\":[");
            add_logp(b, t, top[k].token, (double)top[k].logp);
            buf_str(b, k + 1 == seq_n_top(s) || top[k + 1].token < 0 ? "}]" : "}");
        }
        buf_str(b, "}");
    }
    buf_str(b, "]");
    if (b->failed) a->out_of_memory = true;
}

void answer_take(Answer *a, const Seq *s)
{
    seq_tokens(s, &a->n_new);
    a->n_new += seq_stop_token(s) >= 0;
    a->n_think = seq_n_think(s);
    a->finish = stopped(a) && seq_finish(s) == SEQ_FINISH_CANCELLED ? SEQ_FINISH_STOP : seq_finish(s);
    a->repeat_period = seq_repeats(s, &a->repeat_tokens);
    if (seq_logp(s)) add_logprobs(a, s, a->n_new);
}

/* ---- generating ---- */
const char *finish_name(SeqFinish f)
{
    static const char *const NAME[] = {[SEQ_FINISH_NONE] = "none", [SEQ_FINISH_STOP] = "stop", [SEQ_FINISH_LENGTH] = "length",
                                       [SEQ_FINISH_CANCELLED] = "cancelled", [SEQ_FINISH_ERROR] = "error", [SEQ_FINISH_REPEAT] = "repeat"};
    return NAME[f];
}

typedef struct Listener {
    Engine  *engine;
    Answer  *answer;
    Progress bar;
} Listener;

static void on_token(void *user, Seq *s, int32_t token, float logp)
{
    Listener *l = user;
    (void)logp;
    progress_end(&l->bar);
    if (!answer_push(l->answer, token)) engine_cancel(l->engine, s);
}

int gen_reply(ModelSet *s, const SeqRequest *request, Answer *answer, aha_error *e)
{
    Listener   l = {.engine = s->engine, .answer = answer};
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
    answer_take(answer, seq);
    seq_free(seq);
    if (rc == 0 && answer->out_of_memory) rc = error_set(e, AHA_ERR_NOMEM, "no memory for the reply's text");
    if (rc == 0 && answer->finish == SEQ_FINISH_ERROR) rc = error_set(e, AHA_ERR_INTERNAL, "the model gave no number: its weights are broken");
    return rc;
}

void gen_explain(const Answer *a, const GenArgs *g)
{
    SeqFinish f = a->finish;
    bool      nothing = a->part[REPLY_ANSWER].n == 0;
    char      name[80];
    for (int i = 0; i < a->reply.n_call; i++)
        say("the model calls the function \"%s\", which nobody answers here (aha run --json shows the call)",
            error_quote(name, sizeof name, a->reply.call[i].name, strlen(a->reply.call[i].name)));
    if (f == SEQ_FINISH_LENGTH)
        say("cut short after %d tokens (%s)%s", a->n_new, g->max_tokens ? "--max-tokens" : "the context is full, see --ctx",
            !nothing ? "" : g->think ? ", before an answer" : ", before an answer; --think medium leaves room for one");
    else if (f == SEQ_FINISH_REPEAT)
        say("stopped after %d tokens: the last %d said the same %d again and again%s (--no-stop-repeats lets it)", a->n_new, a->repeat_tokens,
            a->repeat_period, nothing ? ", before an answer" : "");
    else if (f == SEQ_FINISH_STOP && nothing && !a->reply.n_call)
        say("the model ended its thinking without an answer");
}
