/* aha chat: a conversation in the terminal. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "generate.h"
#include "line_edit.h"

typedef struct Turn {
    ChatRole role;
    Buf      text;
} Turn;

typedef struct Chat {
    ModelSet  s;
    ModelArgs model;
    GenArgs   gen;
    const char *system;
    Turn     *turn;
    int       n, cap;
    uint64_t  asked; /* questions so far: each draws its own random numbers */
} Chat;

static const Help HELP = {
    "chat", "[-m DIR] [OPTIONS]",
    "A conversation. The thinking is shown dimmed and forgotten afterwards, as R1's authors recommend: the model sees the earlier "
    "questions and answers only. Ctrl-C stops an answer, Ctrl-D ends the conversation. Pasted text of many lines is one message. "
    "Commands: /help, /reset, /system TEXT, /save FILE, /quit. From a pipe each line is a question.",
    "  aha chat\n"
    "  aha chat -m DeepSeek-R1-Distill-Qwen-1.5B --kv bf16\n"
    "  aha chat -m MODEL --system \"Answer in French.\" --temperature 0.7\n"};

/* ---- the conversation ---- */
static int turn_add(Chat *c, ChatRole role, const char *text, size_t n, aha_error *e)
{
    if (c->n == c->cap) {
        int   cap = c->cap ? 2 * c->cap : 16;
        Turn *t = mem_realloc(c->turn, (size_t)cap * sizeof *t);
        if (!t) return error_set(e, AHA_ERR_NOMEM, "no memory for %d messages", cap);
        c->turn = t;
        c->cap = cap;
    }
    c->turn[c->n] = (Turn){.role = role};
    buf_str(&c->turn[c->n].text, "");
    buf_add(&c->turn[c->n].text, text, n);
    if (c->turn[c->n].text.failed) {
        buf_free(&c->turn[c->n].text);
        return error_set(e, AHA_ERR_NOMEM, "no memory for a message of %zu bytes", n);
    }
    c->n++;
    return 0;
}

static void turns_cut(Chat *c, int n)
{
    while (c->n > n) buf_free(&c->turn[--c->n].text);
}

static int reset(Chat *c, aha_error *e)
{
    turns_cut(c, 0);
    return c->system ? turn_add(c, ROLE_SYSTEM, c->system, strlen(c->system), e) : 0;
}

static int set_system(Chat *c, const char *text, aha_error *e)
{
    Turn *first = c->n > 0 && c->turn[0].role == ROLE_SYSTEM ? &c->turn[0] : NULL;
    int   rc;
    if (first) {
        buf_reset(&first->text);
        buf_str(&first->text, text);
        return first->text.failed ? error_set(e, AHA_ERR_NOMEM, "no memory for the system text") : 0;
    }
    if ((rc = turn_add(c, ROLE_SYSTEM, text, strlen(text), e)) != 0) return rc;
    Turn t = c->turn[c->n - 1];
    memmove(c->turn + 1, c->turn, (size_t)(c->n - 1) * sizeof t);
    c->turn[0] = t;
    return 0;
}

static int save(const Chat *c, const char *path, aha_error *e)
{
    static const char *const ROLE[] = {[ROLE_SYSTEM] = "system", [ROLE_USER] = "user", [ROLE_ASSISTANT] = "assistant"};
    Buf                      b = {0};
    int                      rc;
    if (file_exists(path)) return error_set(e, AHA_ERR_ARG, "'%.400s' exists already: choose another name", path);
    buf_str(&b, "[");
    for (int i = 0; i < c->n; i++) {
        buf_fmt(&b, "%s\n  {\"role\": \"%s\", \"content\": ", i ? "," : "", ROLE[c->turn[i].role]);
        buf_json(&b, c->turn[i].text.data, c->turn[i].text.n);
        buf_str(&b, "}");
    }
    buf_str(&b, "\n]\n");
    rc = b.failed ? error_set(e, AHA_ERR_NOMEM, "no memory to save the conversation") : file_write_atomic(path, b.data, b.n, e);
    buf_free(&b);
    return rc;
}

/* ---- a question ---- */
/* What the model is to see.  The built-in one was trained on single questions: earlier ones would only lead it astray. */
static int render(Chat *c, Ids *prompt, bool *think_open, aha_error *e)
{
    ChatMessage *m = mem_zalloc((size_t)c->n, sizeof *m);
    int          rc, n = 0;
    if (!m) return error_set(e, AHA_ERR_NOMEM, "no memory for %d messages", c->n);
    for (int i = 0; i < c->n; i++)
        if (!c->s.builtin || c->turn[i].role == ROLE_SYSTEM || i == c->n - 1)
            m[n++] = (ChatMessage){.role = c->turn[i].role, .text = c->turn[i].text.data, .n = c->turn[i].text.n};
    rc = gen_prompt(&c->s, &c->gen, m, n, prompt, think_open, e);
    mem_free(m);
    return rc;
}

/* Generates and keeps the answer; a question that came to no answer is taken back. */
static int answer_question(Chat *c, const Buf *question, aha_error *e)
{
    Ids        prompt = {0};
    SeqRequest r;
    Answer     a;
    aha_logit_bias bias[OPTION_LIST_MAX];
    Buf       *said = &a.part[REPLY_ANSWER];
    bool       think_open;
    int        before = c->n, rc = turn_add(c, ROLE_USER, question->data, question->n, e);
    memset(&a, 0, sizeof a);
    if (rc == 0) rc = render(c, &prompt, &think_open, e);
    if (rc == 0) rc = gen_request(&c->s, &c->model, &c->gen, &prompt, think_open, c->asked++, bias, &r, e);
    if (rc == 0) {
        answer_init(&a, c->s.words.tok, think_open, true, &c->gen);
        rc = gen_reply(&c->s, &r, &a, e);
    }
    if (rc == 0) {
        gen_explain(&a, &c->gen);
        builtin_verdict(&c->s, question->data, question->n, said->data, said->n);
        if (said->n) rc = turn_add(c, ROLE_ASSISTANT, said->data, said->n, e);
    }
    if (rc || !said->n) {
        turns_cut(c, before);
        if (!rc) say("%sthe question is forgotten", a.finish == SEQ_FINISH_CANCELLED ? "stopped before an answer; " : "");
    }
    answer_free(&a);
    ids_free(&prompt);
    interrupt_clear();
    return rc;
}

/* ---- commands ---- */
static const char *argument(char *line)
{
    char *p = line + strcspn(line, " \t\n"), *end;
    if (*p) *p++ = 0;
    p += strspn(p, " \t\n");
    end = p + strlen(p);
    while (end > p && strchr(" \t\n", end[-1])) *--end = 0;
    return p;
}

static void help(void)
{
    say_plain("  /reset          forget the conversation\n"
              "  /system TEXT    what the model is told before everything; without TEXT shows it\n"
              "  /save FILE      the conversation as JSON (aha tokenize --chat reads it)\n"
              "  /quit           end (Ctrl-D too)\n"
              "  Ctrl-C          stop an answer\n"
              "  Up, Down, Ctrl-R  earlier questions");
}

/* true: the conversation is over */
static bool command(Chat *c, char *line)
{
    static const char *const NAMES[] = {"/help", "/quit", "/exit", "/reset", "/system", "/save"};
    aha_error                e = {0};
    const char              *arg = argument(line), *near;
    if (!strcmp(line, "/quit") || !strcmp(line, "/exit")) return true;
    if (!strcmp(line, "/help")) {
        help();
    } else if (!strcmp(line, "/reset")) {
        if (reset(c, &e) == 0) say("the conversation begins anew");
    } else if (!strcmp(line, "/system") && !*arg) {
        if (c->n && c->turn[0].role == ROLE_SYSTEM)
            say("system: %s", c->turn[0].text.data);
        else
            say("there is no system text");
    } else if (!strcmp(line, "/system")) {
        if (set_system(c, arg, &e) == 0) say("system text set");
    } else if (!strcmp(line, "/save") && !*arg) {
        say("/save needs a file name");
    } else if (!strcmp(line, "/save")) {
        if (save(c, arg, &e) == 0) say("%d message%s saved to %s", c->n, c->n == 1 ? "" : "s", arg);
    } else {
        near = name_nearest(line, NAMES, (int)ARRAY_LEN(NAMES));
        say("there is no command '%.40s'; %s%s%s", line, near ? "did you mean " : "/help lists them", near ? near : "", near ? "?" : "");
    }
    if (e.code) say("%s", e.text);
    return false;
}

/* ---- the loop ---- */
static int line_count(const Buf *b)
{
    int n = 1;
    for (size_t i = 0; i < b->n; i++) n += b->data[i] == '\n';
    return n;
}

static int converse(Chat *c, LineEdit *in)
{
    bool      person = term_is(STDIN_FILENO);
    Buf       text = {0}, plain = {0};
    aha_error e;
    int       status = CLI_DONE;
    for (LineResult r; (r = line_read(in, &text)) != LINE_END && !out_failed();) {
        if (r == LINE_INTERRUPTED) {
            if (!person) die_by(interrupted());
            say("Ctrl-D or /quit ends the conversation");
            continue;
        }
        if (text.failed) {
            say("no memory for this message");
            buf_free(&text);
            continue;
        }
        if (strspn(text.data, " \t\r\n") == text.n) continue;
        if (text.data[0] == '/' && !memchr(text.data, '\n', text.n)) {
            if (command(c, text.data)) break;
            continue;
        }
        log_msg(LOG_INFO, "a question of %zu bytes in %d lines", text.n, line_count(&text));
        if (builtin_hear(&c->s, text.data, text.n, false, &plain)) {
            Buf typed = text;
            text = plain;
            plain = typed;
        }
        buf_reset(&plain);
        e = (aha_error){0};
        if (answer_question(c, &text, &e)) {
            say("%s%s", e.text, e.code == AHA_ERR_LIMIT && c->n > 1 ? " (/reset begins anew)" : "");
            if (!person) status = CLI_FAILED;
        }
        if (person && term_is(STDOUT_FILENO)) out_str("\n");
        out_flush();
    }
    if (person && !text.n) say_raw("\n");
    buf_free(&plain);
    buf_free(&text);
    interrupt_clear();
    return status;
}

static int start(Chat *c, aha_error *e)
{
    LineEdit *in;
    int       status, rc = model_set_open(&c->s, &c->model, MODEL_WEIGHTS | MODEL_NEEDS_TEXT, e);
    if (rc) return fail(e);
    builtin_introduce(&c->s);
    rc = model_set_engine(&c->s, &c->model, 1, 0, e);
    if (rc == 0) rc = reset(c, e);
    if (rc || !(in = line_open("> ", e))) return fail(e);
    if (c->s.builtin) say("It was trained on single questions and remembers none.");
    if (term_is(STDIN_FILENO)) say("ask away; /help lists the commands, Ctrl-D ends");
    interrupt_watch(false);
    status = converse(c, in);
    line_close(in);
    return status;
}

int cmd_chat(int argc, char **argv)
{
    Chat         c = {.model = MODEL_ARGS_INIT, .gen = GEN_ARGS_INIT};
    aha_error    e = {0};
    const Option options[] = {
        OPT_GROUP("The conversation"),
        OPT_MODEL(&c.model),
        OPT_STRING('s', "system", &c.system, "TEXT", "what the model is told before everything"),
        OPT_GENERATE(&c.gen),
        OPT_ENGINE(&c.model),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if ((status = gen_check(&c.gen)) != CLI_DONE) return status;
    gen_seed(&c.gen);
    status = start(&c, &e);
    turns_cut(&c, 0);
    mem_free(c.turn);
    model_set_free(&c.s);
    return status;
}
