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

void builtin_caution(const ModelSet *s, const char *text, size_t n)
{
    static bool said;
    Problem     p;
    if (!s->builtin || said || made_for(text, n, &p)) return;
    said = true;
    say("aha-tiny was not made for this question: expect nonsense. Try " BUILTIN_EXAMPLE);
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
