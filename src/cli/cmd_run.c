/* aha run: one answer to one prompt; with @FILE one each to its lines, computed together. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "generate.h"

enum { SEQS_DEFAULT = 16 };

typedef struct RunArgs {
    ModelArgs   model;
    GenArgs     gen;
    const char *prompt, *system;
    int         batch;
    bool        json;
} RunArgs;

static const Help HELP = {
    "run", "[-m DIR] [-p PROMPT|-|@FILE] [OPTIONS]   or   aha run [OPTIONS] PROMPT",
    "Asks a model once. The answer goes to standard output; the thinking is shown dimmed on a terminal and left out of a pipe. "
    "PROMPT - reads the prompt from standard input. @FILE asks each line of FILE on its own, several at once, and writes one JSON "
    "object a line, in the order of the file; what a line gets does not depend on the others.",
    "  aha run \"Using 8, 13 and 2, make 29.\"\n"
    "  aha run -m DeepSeek-R1-Distill-Qwen-1.5B -p \"Why is the sky blue?\" --seed 7\n"
    "  cat essay.txt | aha run -m MODEL -p - > answer.txt\n"
    "  aha run -p @questions.txt --max-tokens 500 > answers.jsonl\n"
    "  aha run --json -p \"Make 24 from 4, 6 and 1.\" | jq -r .answer\n"};

/* ---- one ---- */
static int messages(const RunArgs *a, const char *text, size_t n, ChatMessage out[2])
{
    int k = 0;
    if (a->system) out[k++] = (ChatMessage){.role = ROLE_SYSTEM, .text = a->system, .n = strlen(a->system)};
    out[k++] = (ChatMessage){.role = ROLE_USER, .text = text, .n = n};
    return k;
}

/* What the model asks for, only where it does. */
static void add_calls_json(Buf *b, const Reply *r)
{
    for (int i = 0; i < r->n_call; i++) {
        buf_str(b, i ? ",{\"name\":" : ",\"tool_calls\":[{\"name\":");
        buf_json(b, r->call[i].name, strlen(r->call[i].name));
        buf_str(b, ",\"arguments\":");
        buf_json(b, r->call[i].args, r->call[i].n_args);
        buf_fmt(b, ",\"complete\":%s}", r->call[i].complete ? "true" : "false");
    }
    if (r->n_call) buf_str(b, "]");
}

static void add_reply_json(Buf *b, const Answer *a, size_t n_prompt)
{
    const Buf *t = &a->part[REPLY_THINKING], *w = &a->part[REPLY_ANSWER];
    buf_str(b, "{\"thinking\":");
    buf_json(b, t->n ? t->data : "", t->n);
    buf_str(b, ",\"answer\":");
    buf_json(b, w->n ? w->data : "", w->n);
    add_calls_json(b, &a->reply);
    buf_fmt(b, ",\"finish_reason\":\"%s\",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%d,\"thinking_tokens\":%d,\"total_tokens\":%zu}",
            finish_name(a->finish), n_prompt, a->n_new, a->n_think, n_prompt + (size_t)a->n_new);
    if (a->logprobs.n) buf_fmt(b, ",\"logprobs\":%s", a->logprobs.data);
    buf_str(b, "}\n");
}

static int run_prompt(ModelSet *s, const RunArgs *a, const Buf *text, const Ids *prompt, bool think_open, aha_error *e)
{
    SeqRequest     r;
    aha_logit_bias bias[OPTION_LIST_MAX];
    Answer         answer;
    Buf            json = {0};
    int            rc = gen_request(s, &a->model, &a->gen, prompt, think_open, 0, bias, &r, e);
    uint64_t       start = time_now_ns();
    if (rc) return rc;
    answer_init(&answer, s->words.tok, think_open, !a->json, &a->gen);
    interrupt_watch(true);
    rc = gen_reply(s, &r, &answer, e);
    if (rc == 0) {
        if (a->json) {
            add_reply_json(&json, &answer, prompt->n);
            out_buf(&json);
            buf_free(&json);
        } else {
            gen_explain(&answer, &a->gen);
            builtin_verdict(s, text->data, text->n, answer.part[REPLY_ANSWER].data, answer.part[REPLY_ANSWER].n);
        }
        log_msg(LOG_INFO, "%zu tokens of prompt, %d of reply in %.2f s; seed %llu", prompt->n, answer.n_new,
                (double)(time_now_ns() - start) / 1e9, (unsigned long long)a->gen.seed);
    }
    answer_free(&answer);
    return rc;
}

static int run_one(ModelSet *s, RunArgs *a, aha_error *e)
{
    ChatMessage m[2];
    Buf         text = {0}, plain = {0};
    Ids         prompt = {0};
    bool        think_open;
    int         rc = input_text(a->prompt, &text, NULL, e);
    if (rc == 0) {
        const Buf *ask = builtin_hear(s, text.data, text.n, false, &plain) ? &plain : &text;
        rc = gen_prompt(s, &a->gen, m, messages(a, ask->data, ask->n, m), &prompt, &think_open, e);
    }
    if (rc == 0) rc = model_set_engine(s, &a->model, 1, (int)prompt.n + a->gen.max_tokens, e);
    if (rc == 0) rc = run_prompt(s, a, &text, &prompt, think_open, e);
    ids_free(&prompt);
    buf_free(&plain);
    buf_free(&text);
    return rc;
}

/* ---- many: a window over the lines, so that memory does not grow with the file ---- */
typedef struct Line {
    const char *text;
    size_t      n;
    Seq        *seq; /* NULL: not under way, or refused */
    Engine     *engine;
    Answer      answer;
    size_t      n_prompt;
    aha_error   error;
} Line;

typedef struct Lines {
    ModelSet *s;
    RunArgs  *a;
    Line     *line;
    int       n, submitted, written, failed;
    Progress  bar;
} Lines;

static Line *lines_split(const Buf *text, int *n, aha_error *e)
{
    Line  *line;
    size_t count = 0, i = 0;
    for (const char *p = text->data, *end = p + text->n; p < end; count++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        p = nl ? nl + 1 : end;
    }
    if (count > INT32_MAX / 2 || !(line = mem_zalloc(count + 1, sizeof *line))) {
        error_set(e, AHA_ERR_NOMEM, "no memory for %zu prompts", count);
        return NULL;
    }
    for (const char *p = text->data, *end = p + text->n; p < end; i++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        line[i].text = p;
        line[i].n = (size_t)(stop - p);
        if (line[i].n && line[i].text[line[i].n - 1] == '\r') line[i].n--;
        p = nl ? nl + 1 : end;
    }
    *n = (int)count;
    return line;
}

static void on_line_token(void *user, Seq *s, int32_t token, float logp)
{
    Line *l = user;
    (void)logp;
    if (!answer_push(&l->answer, token)) engine_cancel(l->engine, s);
}

/* A prompt that cannot be asked leaves its error in its line, and the others go on. */
static void submit(Lines *b, int i)
{
    Line       *l = &b->line[i];
    ChatMessage m[2];
    Ids         prompt = {0};
    Buf         plain = {0};
    SeqRequest  r;
    bool        think_open;
    aha_logit_bias bias[OPTION_LIST_MAX];
    bool        other = l->n && builtin_hear(b->s, l->text, l->n, i > 0, &plain);
    int         rc = gen_prompt(b->s, &b->a->gen, m, messages(b->a, other ? plain.data : l->text, other ? plain.n : l->n, m), &prompt, &think_open,
                                &l->error);
    l->n_prompt = prompt.n;
    if (rc == 0) rc = gen_request(b->s, &b->a->model, &b->a->gen, &prompt, think_open, (uint64_t)i, bias, &r, &l->error);
    if (rc == 0) {
        l->engine = b->s->engine;
        answer_init(&l->answer, b->s->words.tok, think_open, false, &b->a->gen);
        r.on_token = on_line_token;
        r.user = l;
        rc = engine_submit(b->s->engine, &r, &l->seq, &l->error);
    }
    buf_free(&plain);
    ids_free(&prompt);
}

static void write_line(Lines *b, Line *l)
{
    Buf json = {0};
    if (!l->seq || seq_finish(l->seq) == SEQ_FINISH_ERROR) {
        buf_str(&json, "{\"error\":");
        if (!l->error.text[0]) error_set(&l->error, AHA_ERR_INTERNAL, "the model gave no number");
        buf_json(&json, l->error.text, strlen(l->error.text));
        buf_str(&json, "}\n");
        b->failed++;
    } else {
        answer_end(&l->answer);
        answer_take(&l->answer, l->seq);
        add_reply_json(&json, &l->answer, l->n_prompt);
        if (l->answer.out_of_memory) json.failed = true;
    }
    answer_free(&l->answer);
    memset(&l->answer, 0, sizeof l->answer);
    out_buf(&json);
    buf_free(&json);
    seq_free(l->seq);
    l->seq = NULL;
}

/* Some wait for one before them that takes longer. */
static int lines_done(const Lines *b)
{
    int n = b->written;
    for (int i = b->written; i < b->submitted; i++) n += !b->line[i].seq || seq_state(b->line[i].seq) == SEQ_DONE;
    return n;
}

static int run_window(Lines *b, aha_error *e)
{
    char words[64];
    int  rc = 1, done, window = 4 * b->a->batch;
    interrupt_watch(true);
    progress_start(&b->bar, "%d prompts", b->n);
    while (b->written < b->n && !interrupted() && !out_failed()) {
        while (b->submitted < b->n && b->submitted - b->written < window) submit(b, b->submitted++);
        rc = engine_step(b->s->engine, e);
        if (rc < 0) return rc;
        for (; b->written < b->submitted; b->written++) {
            Line *l = &b->line[b->written];
            if (l->seq && seq_state(l->seq) != SEQ_DONE) break;
            write_line(b, l);
            out_flush();
        }
        done = lines_done(b);
        snprintf(words, sizeof words, "%d of %d, %lld tokens", done, b->n, (long long)engine_stats(b->s->engine).new_tokens);
        progress_show(&b->bar, done, b->n, -1, words);
    }
    return 0;
}

static int run_lines(ModelSet *s, RunArgs *a, aha_error *e)
{
    Lines b = {.s = s, .a = a};
    Buf   text = {0};
    int   rc = input_text(a->prompt, &text, NULL, e);
    if (rc == 0 && !(b.line = lines_split(&text, &b.n, e))) rc = AHA_ERR_NOMEM;
    if (rc == 0) rc = model_set_engine(s, &a->model, a->batch, 0, e);
    if (rc == 0) rc = run_window(&b, e);
    progress_end(&b.bar);
    for (int i = 0; b.line && i < b.n; i++) {
        seq_free(b.line[i].seq);
        answer_free(&b.line[i].answer);
    }
    if (rc == 0 && b.failed) {
        for (int i = 0; i < b.n; i++)
            if (b.line[i].error.text[0]) {
                rc = error_set(e, AHA_ERR_LIMIT, "%d of %d prompts failed; line %d: %s", b.failed, b.n, i + 1, b.line[i].error.text);
                break;
            }
    }
    mem_free(b.line);
    buf_free(&text);
    return rc;
}

/* ---- the command ---- */
static int check_args(RunArgs *a, const char *rest)
{
    if (a->prompt && rest) return fail_usage("the prompt was given twice, by -p and as '%.40s'", rest);
    if (rest) a->prompt = rest;
    if (a->gen.logprobs >= 0 && !a->json && (!a->prompt || a->prompt[0] != '@')) return fail_usage("--logprobs go into JSON: --json is expected too");
    if (a->prompt) return CLI_DONE;
    if (term_is(STDIN_FILENO)) return fail_usage("a prompt is expected: -p PROMPT (aha chat holds a conversation)");
    a->prompt = "-";
    return CLI_DONE;
}

int cmd_run(int argc, char **argv)
{
    RunArgs     a = {.model = MODEL_ARGS_INIT, .gen = GEN_ARGS_INIT, .batch = SEQS_DEFAULT};
    ModelSet    s;
    aha_error   e = {0};
    const char *rest = NULL;
    int         rc;
    const Option options[] = {
        OPT_GROUP("The question"),
        OPT_MODEL(&a.model),
        OPT_STRING('p', "prompt", &a.prompt, "PROMPT|-|@FILE", "what to ask; without it standard input, unless that is a terminal"),
        OPT_STRING('s', "system", &a.system, "TEXT", "a system text before it"),
        OPT_INT(0, "batch", &a.batch, 1, 4096, "N", "with @FILE: prompts computed at once"),
        OPT_FLAG(0, "json", &a.json, "one object: thinking, answer, finish_reason, usage"),
        OPT_INT(0, "logprobs", &a.gen.logprobs, 0, AHA_TOP_MAX, "N", "with --json or @FILE: the log-probability of each token, before temperature "
                "and penalties, and the N likeliest beside it"),
        OPT_GENERATE(&a.gen),
        OPT_ENGINE(&a.model),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, &rest, 1, NULL);
    if (status == OPTIONS_GO_ON) status = check_args(&a, rest);
    else return status;
    if (status == CLI_DONE) status = gen_check(&a.gen);
    if (status) return status;
    gen_seed(&a.gen);
    rc = model_set_open(&s, &a.model, MODEL_WEIGHTS | MODEL_NEEDS_TEXT, &e);
    if (rc) return fail(&e);
    builtin_introduce(&s);
    rc = a.prompt[0] == '@' ? run_lines(&s, &a, &e) : run_one(&s, &a, &e);
    if (rc) status = fail(&e);
    model_set_free(&s);
    return status;
}
