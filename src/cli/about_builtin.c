/* What the built-in model says of itself, on standard error: it is small, and made for one kind of question. */
#include <string.h>
#include <unistd.h>

#include "../learn/learn.h"
#include "model_open.h"

#define BUILTIN_EXAMPLE "\"Using 8, 13 and 2, make 29.\""

void builtin_introduce(const ModelSet *s)
{
    char all[32];
    if (!s->builtin) return;
    say("the built-in aha-tiny: R1's architecture, %s parameters, trained by this program.", count_words(all, (double)s->params));
    say("It solves number puzzles like " BUILTIN_EXAMPLE " Another model: -m DIR");
}

/* A question of the one task that the built-in model was trained on. */
static bool made_for(const char *text, size_t n, Problem *p)
{
    return task_parse(text, n, p) && p->task == &task_countdown3;
}

bool builtin_hear(const ModelSet *s, const char *text, size_t n, bool quiet, Buf *asked)
{
    static bool said;
    Problem     p;
    size_t      at = asked->n;
    if (!s->builtin) return false;
    if (!made_for(text, n, &p)) {
        if (!said) say("aha-tiny was not made for this question: expect nonsense. Try " BUILTIN_EXAMPLE);
        said = true;
        return false;
    }
    buf_fmt(asked, "Using %d, %d and %d, make %d.", p.number[0], p.number[1], p.number[2], p.target);
    if (asked->failed || (asked->n - at == n && !memcmp(asked->data + at, text, n))) return false;
    if (!quiet) say("asked as: %s", asked->data + at);
    return true;
}

void builtin_verdict(const ModelSet *s, const char *question, size_t n_question, const char *answer, size_t n_answer)
{
    Problem p;
    Verdict v;
    if (!s->builtin || !n_answer || !term_is(STDERR_FILENO) || !made_for(question, n_question, &p)) return;
    v = problem_judge(&p, answer, n_answer);
    say_raw(term_style(STDERR_FILENO, STYLE_DIM));
    if (v.correct)
        say_plain("(checked by rule: right)");
    else
        say_plain("(checked by rule: wrong%s%s)", v.reason ? ", " : "", v.reason ? v.reason : "");
    say_raw(term_style(STDERR_FILENO, STYLE_OFF));
}
