/* The pieces of text that the tasks write, found by running them: what the small models' vocabulary holds. */
#include "task_parts.h"

#include <string.h>

enum { PIECES_MAX = 1024, PIECE_BYTES = 32, RUNS = 600 };

typedef struct Pieces {
    char (*piece)[PIECE_BYTES];
    int  n;
    bool full; /* which pieces there is no room for would depend on the order */
} Pieces;

static bool is_sign(char c)
{
    return c > ' ' && !is_letter(c) && !is_digit(c) && (unsigned char)c < 127;
}

/* The length of the piece at s by DeepSeek's pattern for ASCII: a sign with letters; a blank with letters; a blank with
 * signs and the newlines behind them; digits and white space by themselves. */
static size_t piece_length(const char *s, size_t n)
{
    size_t i = 0;
    if (n > 1 && is_sign(s[0]) && is_letter(s[1])) i = 1;
    else if (s[0] == ' ' && n > 1 && is_letter(s[1])) i = 1;
    if (i < n && is_letter(s[i])) {
        while (i < n && is_letter(s[i])) i++;
        return i;
    }
    i = s[0] == ' ' && n > 1 && is_sign(s[1]) ? 1 : 0;
    if (is_sign(s[i])) {
        while (i < n && is_sign(s[i]) && !(i + 1 < n && is_letter(s[i + 1]) && i > 0)) i++;
        while (i < n && s[i] == '\n') i++;
        return i;
    }
    return 1;
}

/* Single bytes are tokens already; digits are made apart. */
static void add_pieces(Pieces *p, const char *s, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        int k = 0;
        len = piece_length(s + i, n - i);
        if (len < 2 || len >= PIECE_BYTES) continue;
        while (k < p->n && (strlen(p->piece[k]) != len || memcmp(p->piece[k], s + i, len) != 0)) k++;
        if (k < p->n) continue;
        if (p->n == PIECES_MAX) {
            p->full = true;
            return;
        }
        memcpy(p->piece[p->n], s + i, len);
        p->piece[p->n++][len] = 0;
    }
}

static void run_task(Pieces *p, const Task *t, Buf b[3])
{
    for (uint64_t i = 0; i < RUNS; i++) {
        Rng     rng = {0, i, 0};
        Problem q;
        for (int k = 0; k < 3; k++) buf_reset(&b[k]);
        t->generate(t, SPLIT_TRAIN, VARIANT_NONE, &rng, &q);
        t->word(&q, &rng, i % 4 == 0 ? VARIANT_WORDING : VARIANT_NONE, &b[0]); /* held-out wordings too: their words are known, their order is not */
        if (t->demo) t->demo(&q, &rng, &b[1], &b[2]);
        for (int k = 0; k < 3; k++) add_pieces(p, b[k].data ? b[k].data : "", b[k].n);
    }
}

static void sort(Pieces *p)
{
    for (int i = 1; i < p->n; i++)
        for (int j = i; j > 0 && strcmp(p->piece[j - 1], p->piece[j]) > 0; j--) {
            char t[PIECE_BYTES];
            memcpy(t, p->piece[j], PIECE_BYTES);
            memcpy(p->piece[j], p->piece[j - 1], PIECE_BYTES);
            memcpy(p->piece[j - 1], t, PIECE_BYTES);
        }
}

int task_words(const Task *const *task, int n_task, const char ***words, int *n, aha_error *e)
{
    Buf    b[3] = {{0}};
    Pieces p = {mem_zalloc(PIECES_MAX, PIECE_BYTES), 0, false};
    bool   failed;
    *words = NULL;
    if (!p.piece) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for the vocabulary");
    for (int t = 0; t < n_task; t++) run_task(&p, task[t], b);
    failed = b[0].failed || b[1].failed || b[2].failed;
    for (int k = 0; k < 3; k++) buf_free(&b[k]);
    if (p.full) {
        mem_free(p.piece);
        return error_set(e, AHA_ERR_LIMIT, "the tasks write more than %d different words", PIECES_MAX);
    }
    sort(&p);
    *words = failed ? NULL : mem_alloc((size_t)p.n * (sizeof **words + PIECE_BYTES) + 1);
    if (*words) {
        char *text = (char *)(*words + p.n);
        memcpy(text, p.piece, (size_t)p.n * PIECE_BYTES);
        for (int i = 0; i < p.n; i++) (*words)[i] = text + (size_t)i * PIECE_BYTES;
        *n = p.n;
    }
    mem_free(p.piece);
    return *words ? 0 : error_set(e, AHA_ERR_NOMEM, "cannot get memory for the vocabulary");
}
