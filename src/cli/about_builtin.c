/* What the built-in model says of itself, on standard error: it is small, and made for one kind of question. */
#include <string.h>
#include <unistd.h>

#include "../learn/learn.h"
#include "model_open.h"

#define BUILTIN_EXAMPLE "\"Using 8, 13 and 2, make 29.\""

void builtin_introduce(const ModelSet *s)
{
    char all[32], active[32];
    if (!s->builtin) return;
    say("using the built-in aha-tiny: R1's architecture with %s parameters (%s used for a token), trained by this program",
        count_words(all, (double)s->params), count_words(active, (double)s->params_active));
    say("it solves number puzzles such as " BUILTIN_EXAMPLE " and knows nothing else; -m DIR takes another model");
}

void builtin_caution(const ModelSet *s, const char *text, size_t n)
{
    static bool said;
    Problem     p;
    if (!s->builtin || said || task_parse(text, n, &p)) return;
    said = true;
    say("this is not a question that aha-tiny was made for: expect nonsense. Ask it, for instance, " BUILTIN_EXAMPLE);
}

void builtin_verdict(const ModelSet *s, const char *question, size_t n_question, const char *answer, size_t n_answer)
{
    Problem p;
    Verdict v;
    if (!s->builtin || !n_answer || !term_is(STDERR_FILENO) || !task_parse(question, n_question, &p)) return;
    v = problem_judge(&p, answer, n_answer);
    if (v.correct)
        say_plain("%s(checked by rule: right)%s", term_style(STDERR_FILENO, STYLE_DIM), term_style(STDERR_FILENO, STYLE_OFF));
    else
        say_plain("%s(checked by rule: wrong%s%s)%s", term_style(STDERR_FILENO, STYLE_DIM), v.reason ? ", " : "", v.reason ? v.reason : "",
                  term_style(STDERR_FILENO, STYLE_OFF));
}
