/* Sentences with slots: the same table words a problem and recognises a typed one. */
#include "task_parts.h"

#include <string.h>

enum { NUMBER_MAX = 100000 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

void slots_set(Slots *s, char slot, const char *word)
{
    s->word[slot - 'A'] = word;
    s->word_n[slot - 'A'] = strlen(word);
}

void pattern_write(const char *pattern, const Slots *s, Buf *out)
{
    for (; *pattern; pattern++) {
        if (*pattern != '%') {
            buf_add(out, pattern, 1);
            continue;
        }
        pattern++;
        if (*pattern >= 'a')
            buf_fmt(out, "%d", s->number[*pattern - 'a']);
        else
            buf_add(out, s->word[*pattern - 'A'], s->word_n[*pattern - 'A']);
    }
}

bool text_token(const char **s, size_t *n, TextToken *out)
{
    const char *c = *s, *end = c + *n;
    while (c < end && *c && strchr(" \t\r\n.,:;?!", *c)) c++;
    *out = (TextToken){.s = c};
    if (c == end) return false;
    if (is_letter(*c)) {
        while (c < end && is_letter(*c)) c++;
        out->kind = 'w';
    } else if (is_digit(*c)) {
        for (; c < end && is_digit(*c); c++)
            if (out->value >= 0) out->value = out->value < NUMBER_MAX / 10 ? out->value * 10 + (*c - '0') : -1;
        out->kind = '0';
    } else {
        out->kind = *c++;
    }
    out->n = (size_t)(c - out->s);
    *n = (size_t)(end - c);
    *s = c;
    return true;
}

static bool same_word(const char *a, size_t na, const char *b, size_t nb)
{
    if (na != nb) return false;
    for (size_t i = 0; i < na; i++)
        if (lower(a[i]) != lower(b[i])) return false;
    return true;
}

/* A slot that occurs twice holds the same both times. */
static bool fill_slot(Slots *s, bool seen[2 * PATTERN_SLOTS], char slot, const TextToken *t)
{
    bool number = slot >= 'a';
    int  k = slot - (number ? 'a' : 'A'), at = k + (number ? PATTERN_SLOTS : 0);
    bool again = seen[at];
    if (t->kind != (number ? '0' : 'w') || (number && t->value < 0)) return false;
    seen[at] = true;
    if (again) return number ? s->number[k] == t->value : same_word(s->word[k], s->word_n[k], t->s, t->n);
    if (number) {
        s->number[k] = t->value;
    } else {
        s->word[k] = t->s;
        s->word_n[k] = t->n;
    }
    return true;
}

size_t pattern_match(const char *pattern, const char *text, size_t n, Slots *s)
{
    const char *at = text;
    size_t      left = n, np = strlen(pattern);
    bool        seen[2 * PATTERN_SLOTS] = {false};
    TextToken   want, got;
    memset(s, 0, sizeof *s);
    while (text_token(&pattern, &np, &want)) {
        if (!text_token(&at, &left, &got)) return 0;
        if (want.kind == '%') {
            if (!fill_slot(s, seen, *pattern, &got)) return 0;
            pattern++;
            np--;
        } else if (want.kind != got.kind || !same_word(want.s, want.n, got.s, got.n)) {
            return 0;
        }
    }
    return n - left;
}

bool pattern_is(const char *pattern, const char *text, size_t n, Slots *s)
{
    size_t      used = pattern_match(pattern, text, n, s), left = n - used;
    const char *rest = text + used;
    TextToken   t;
    return used > 0 && !text_token(&rest, &left, &t);
}

const char *pattern_pick(const char *const *pattern, int n, int held_out, Rng *rng, bool of_held_out)
{
    return pattern[of_held_out ? n - held_out + (int)rng_below(rng, (uint32_t)held_out) : (int)rng_below(rng, (uint32_t)(n - held_out))];
}

bool word_in(const char *words, const char *text, size_t n)
{
    for (const char *w = words; *w; w += strcspn(w, " "), w += *w == ' ')
        if (same_word(w, strcspn(w, " "), text, n)) return true;
    return false;
}
