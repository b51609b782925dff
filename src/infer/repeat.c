/* Endless repetition: a model that has begun to say the same again and again seldom stops by itself.
 *
 * What is looked for is exact: the last tokens being one period, repeated.  The smallest period of the last L tokens is L minus
 * the longest border of that stretch, which the prefix function of Knuth, Morris and Pratt gives for all L at once, over the tokens
 * read backwards.  It is computed anew every REPEAT_EVERY tokens over a window that does not grow, so a token costs a bounded
 * number of comparisons, about a hundred, and the answer depends on the tokens alone. */
#include "inner.h"

int repeat_period(const int32_t *token, int n, int min)
{
    int            border[AHA_REPEAT_MAX], len = min > REPEAT_TIMES * REPEAT_PERIOD_MAX ? min : REPEAT_TIMES * REPEAT_PERIOD_MAX;
    const int32_t *last = token + n - 1;
    if (n < min) return 0;
    if (len > n) len = n;
    border[0] = 0;
    for (int i = 1; i < len; i++) {
        int k = border[i - 1], period;
        while (k > 0 && last[-k] != last[-i]) k = border[k - 1];
        border[i] = k += last[-k] == last[-i];
        period = i + 1 - k;
        if (i + 1 >= min && period <= REPEAT_PERIOD_MAX && i + 1 >= REPEAT_TIMES * period) return period;
    }
    return 0;
}

int repeat_length(const int32_t *token, int n, int period)
{
    int i = n - 1;
    while (i >= period && token[i] == token[i - period]) i--;
    return n - 1 - i + period;
}
