/* Conversations to ids.  The templates of R1's family differ in three features; none is read from a file and executed.
 *
 *   beginning-of-sentence, system text, then for each turn
 *     user:       <|User|> text                  assistant: <|Assistant|> text end-of-sentence
 *   and for the next reply <|Assistant|>, with <think> and a newline where the template opens the thinking.
 *   R1-0528 writes <|Assistant|> right after each user text instead, and then none before the assistant's. */
#include <string.h>

#include "text.h"

typedef struct ChatForm {
    const char *name;
    bool        joins_system; /* several system texts are joined by an empty line; else the last wins */
    bool        opens_think;
    bool        after_user; /* <|Assistant|> belongs to the user's turn */
} ChatForm;
static const ChatForm FORM[CHAT_COUNT] = {
    [CHAT_R1_JAN] = {"r1-jan", false, false, false},
    [CHAT_R1] = {"r1", true, true, false},
    [CHAT_R1_0528] = {"r1-0528", true, false, true},
    [CHAT_V3] = {"v3", true, false, false},
    [CHAT_R1_DISTILL] = {"r1-distill", false, true, false},
};

const char *chat_template_name(ChatTemplate t)
{
    return (unsigned)t < CHAT_COUNT ? FORM[t].name : "unknown";
}

static bool has(const char *s, size_t n, const char *word)
{
    return n && memmem(s, n, word, strlen(word)) != NULL;
}

ChatTemplate chat_template_detect(const char *jinja, size_t n, bool *known)
{
    *known = has(jinja, n, "<｜User｜>") && has(jinja, n, "<｜Assistant｜>") && has(jinja, n, "<｜end▁of▁sentence｜>") &&
             has(jinja, n, "</think>") && !has(jinja, n, "<think></think>"); /* V3.1 closes an empty thinking itself */
    if (!*known) return CHAT_R1;
    ChatForm f = {.joins_system = has(jinja, n, "is_first_sp"),
                  .opens_think = has(jinja, n, "<｜Assistant｜><think>"),
                  .after_user = has(jinja, n, "is_last_user")};
    for (int t = 0; t < CHAT_COUNT; t++) {
        bool same = f.opens_think == FORM[t].opens_think && f.after_user == FORM[t].after_user && f.joins_system == FORM[t].joins_system;
        if (same) return (ChatTemplate)t;
    }
    *known = false;
    return CHAT_R1;
}

typedef struct Render {
    const Tokenizer *t;
    Ids             *out;
    int              rc; /* sticky */
    aha_error       *e;
} Render;

static void put_control(Render *r, const char *token)
{
    if (r->rc) return;
    int id = tokenizer_id(r->t, token);
    if (id < 0) r->rc = error_set(r->e, AHA_ERR_UNSUPPORTED, "the tokenizer has no token %s, which the chat template needs", token);
    else r->rc = ids_push(r->out, id, r->e);
}

static void put_text(Render *r, const char *s, size_t n)
{
    if (!r->rc) r->rc = tokenizer_encode(r->t, s, n, 0, r->out, r->e);
}

/* The system texts as one: they are tokenised together, since no control token lies between them. */
static void put_system(Render *r, const ChatForm *f, const ChatMessage *m, int n)
{
    Buf  all = {0};
    bool first = true;
    for (int i = 0; i < n; i++) {
        if (m[i].role != ROLE_SYSTEM) continue;
        if (!f->joins_system) buf_reset(&all);
        else if (!first) buf_str(&all, "\n\n");
        if (m[i].n) buf_add(&all, m[i].text, m[i].n);
        first = false;
    }
    if (all.failed && !r->rc) r->rc = error_set(r->e, AHA_ERR_NOMEM, "no memory for the system text");
    if (all.n) put_text(r, all.data, all.n);
    buf_free(&all);
}

/* What follows the last </think>; all of it without one. */
static void put_without_thinking(Render *r, const char *s, size_t n)
{
    static const char END[] = "</think>";
    const size_t      len = sizeof END - 1;
    for (const char *at; n && (at = memmem(s, n, END, len));) {
        n -= (size_t)(at - s) + len;
        s = at + len;
    }
    put_text(r, s, n);
}

int chat_render(const Tokenizer *t, ChatTemplate tpl, const ChatMessage *m, int n, bool add_generation, Ids *out, bool *think_open,
                aha_error *e)
{
    if ((unsigned)tpl >= CHAT_COUNT) return error_set(e, AHA_ERR_ARG, "chat template %d, expected 0..%d", (int)tpl, CHAT_COUNT - 1);
    const ChatForm *f = &FORM[tpl];
    Render          r = {.t = t, .out = out, .e = e};
    size_t          before = out->n;
    bool            assistant_due = true; /* <|Assistant|> was not written yet for the turn to come */
    put_control(&r, "<｜begin▁of▁sentence｜>");
    put_system(&r, f, m, n);
    for (int i = 0; i < n; i++) {
        if (m[i].role == ROLE_USER) {
            put_control(&r, "<｜User｜>");
            put_text(&r, m[i].text, m[i].n);
            if (f->after_user) put_control(&r, "<｜Assistant｜>");
            assistant_due = !f->after_user;
        } else if (m[i].role == ROLE_ASSISTANT) {
            if (!f->after_user) put_control(&r, "<｜Assistant｜>");
            put_without_thinking(&r, m[i].text, m[i].n);
            put_control(&r, "<｜end▁of▁sentence｜>");
            assistant_due = true;
        }
    }
    if (add_generation && assistant_due) put_control(&r, "<｜Assistant｜>");
    *think_open = add_generation && f->opens_think;
    if (*think_open) {
        put_control(&r, "<think>");
        put_text(&r, "\n", 1);
    }
    if (r.rc) out->n = before;
    return r.rc;
}
