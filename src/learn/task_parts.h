/* task_parts: what the tasks' plug-ins share.  Inside this folder only. */
#ifndef AHA_LEARN_TASK_PARTS_H
#define AHA_LEARN_TASK_PARTS_H

#include "task.h"

static inline bool is_letter(char c)
{
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}
static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static inline int between(Rng *rng, int low, int high) /* both may come */
{
    return low + (int)rng_below(rng, (uint32_t)(high - low + 1));
}

/* ---- arithmetic of the corpus: steps.c ---- */
enum { SLIPS = 20 }; /* of a thousand written equations: wrong ones, which the text then believes */

/* a op b where it is a whole number that is not negative; -1: not allowed.  a - b may be negative. */
int arith_apply(char op, int a, int b);
/* Writes "a op b=c", a slip with another c; returns the c that was written. */
int arith_write(Buf *out, Rng *rng, int a, char op, int b);

/* Steps to an answer.  A step is LEFT OP RIGHT: a-d are the problem's numbers, x the answer, p and q what the first and the
 * second step made: {"a*b", "p+c"}.  NULL ends them. */
enum { STEPS_MAX = 3 };
typedef const char *const *Steps;
/* Their value; -1: one of them gives no whole number from 1 to a million. */
int  steps_value(Steps step, const Problem *p, int x);
/* Writes "8*5=40, 40+2=42" with slips; returns the last number written; -1: a step cannot be done, the text ends with it: "16/3". */
int  steps_write(Steps step, const Problem *p, int x, Rng *rng, Buf *out);
/* A demo of a problem that is worked out: an answer at once, or the steps, sometimes misread, sometimes with a check. `check`,
 * with x for the answer, must come to `expect`; -1: to the answer itself. */
void steps_demo(Steps solve, Steps check, int expect, const Problem *p, Rng *rng, Buf *thinking, Buf *answer);

/* An answer that is one number, alone or behind a letter and "=". */
Verdict judge_number(const Problem *p, const char *answer, size_t n);
uint64_t key_of_kind(const Problem *p); /* by the kind and the numbers in their order */

/* ---- sentences with slots, written and recognised: pattern.c ---- */
enum { PATTERN_SLOTS = 26 };
typedef struct Slots {
    int         number[PATTERN_SLOTS]; /* %a-%z */
    const char *word[PATTERN_SLOTS];   /* %A-%Z: any text when written, one word when recognised */
    size_t      word_n[PATTERN_SLOTS];
} Slots;
void slots_set(Slots *s, char slot, const char *word); /* the word is borrowed */
void pattern_write(const char *pattern, const Slots *s, Buf *out);
/* Does the text begin with this sentence?  Upper and lower case, blanks, and the marks . , : ; ? ! make no difference.
 * Returns the bytes read; 0: no. */
size_t pattern_match(const char *pattern, const char *text, size_t n, Slots *s);
/* The whole text. */
bool   pattern_is(const char *pattern, const char *text, size_t n, Slots *s);
/* One of the n sentences: of the last `held_out` ones, which no training shows, or of the others. */
const char *pattern_pick(const char *const *pattern, int n, int held_out, Rng *rng, bool of_held_out);
/* Is text[0..n) one of these words, which are lower-case and separated by blanks? */
bool   word_in(const char *words, const char *text, size_t n);
/* Cuts the first token off: a word, a number, or a sign; *n is what is left. false: none is left. */
typedef struct TextToken {
    const char *s;
    size_t      n;
    char        kind; /* 'w' a word, '0' a number, else the sign itself */
    int         value; /* of a number; -1: too long a number */
} TextToken;
bool   text_token(const char **s, size_t *n, TextToken *out);

/* ---- Countdown's corpus: countdown_search.c ---- */
void countdown_demo3(const Problem *p, Rng *rng, Buf *thinking, Buf *answer);
void countdown_demo3_short(const Problem *p, Rng *rng, Buf *thinking, Buf *answer);
void countdown_demo4(const Problem *p, Rng *rng, Buf *thinking, Buf *answer);

#endif
