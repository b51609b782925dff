/* Reads a thinking text: its equations (arithmetic = a number, checked exactly) and the words that mark behaviours. */
#include "task_parts.h"

#include <string.h>

static bool in_expression(char c)
{
    return is_digit(c) || strchr("+-*/() ", c);
}

/* The equation whose = is at s[at]: the longest run of arithmetic before it, a number behind it. */
static bool read_equation(const char *s, size_t n, size_t at, bool *wrong)
{
    size_t    from = at, to = at + 1;
    ExprValue left, right;
    while (from > 0 && s[from - 1] && in_expression(s[from - 1])) from--;
    while (to < n && s[to] == ' ') to++;
    while (to < n && is_digit(s[to])) to++;
    while (!expr_eval(s + from, at - from, &left)) { /* "7 8/2": begin again behind the blank */
        while (from < at && s[from] != ' ') from++;
        if (from++ >= at) return false;
    }
    if (left.n < 2 || !expr_eval(s + at + 1, to - at - 1, &right)) return false;
    *wrong = left.den != 1 || left.num != right.num;
    return true;
}

static int count_word(const char *s, size_t n, const char *word)
{
    size_t len = strlen(word);
    int    count = 0;
    for (size_t i = 0; i + len <= n; i++)
        if (memcmp(s + i, word, len) == 0) count++;
    return count;
}

void behaviour_read(const char *s, size_t n, Behaviour *out)
{
    memset(out, 0, sizeof *out);
    out->no_thinking = n == 0;
    for (size_t i = 0; i < n; i++) {
        bool wrong;
        if (s[i] != '=' || !read_equation(s, n, i, &wrong)) continue;
        out->equations++;
        out->wrong += wrong;
    }
    out->checks = count_word(s, n, "Check");
    out->waits = count_word(s, n, "Wait");
    out->backward = count_word(s, n, "Need");
    out->gives_up = count_word(s, n, "give up") > 0;
}
