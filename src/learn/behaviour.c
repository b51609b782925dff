/* Reads a thinking text: its equations (a op b = c, checked exactly) and the words that mark behaviours. */
#include "task.h"

#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* a number of at most 9 digits at *at; moves *at behind it */
static bool read_number(const char *s, size_t n, size_t *at, int64_t *out)
{
    size_t i = *at;
    *out = 0;
    while (i < n && is_digit(s[i]) && i - *at < 9) *out = *out * 10 + (s[i++] - '0');
    if (i == *at || (i < n && is_digit(s[i]))) return false;
    *at = i;
    return true;
}

static void skip_blanks(const char *s, size_t n, size_t *at)
{
    while (*at < n && s[*at] == ' ') ++*at;
}

/* "a op b = c" from a digit that begins a number; false: something else */
static bool read_equation(const char *s, size_t n, size_t at, bool *wrong, size_t *end)
{
    int64_t a, b, c;
    char    op;
    if (!read_number(s, n, &at, &a)) return false;
    skip_blanks(s, n, &at);
    if (at >= n || !strchr("+-*/", s[at])) return false;
    op = s[at++];
    skip_blanks(s, n, &at);
    if (!read_number(s, n, &at, &b)) return false;
    skip_blanks(s, n, &at);
    if (at >= n || s[at] != '=') return false;
    at++;
    skip_blanks(s, n, &at);
    if (!read_number(s, n, &at, &c)) return false;
    *wrong = op == '+' ? a + b != c : op == '-' ? a - b != c : op == '*' ? a * b != c : b == 0 || c * b != a;
    *end = at;
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
        bool   wrong;
        size_t end;
        if (!is_digit(s[i]) || (i > 0 && is_digit(s[i - 1]))) continue;
        if (!read_equation(s, n, i, &wrong, &end)) continue;
        out->equations++;
        out->wrong += wrong;
        i = end - 1;
    }
    out->checks = count_word(s, n, "Check");
    out->waits = count_word(s, n, "Wait");
    out->backward = count_word(s, n, "Need");
    out->trials = count_word(s, n, " no\n") + count_word(s, n, " yes");
    out->gives_up = count_word(s, n, "give up") > 0;
}
