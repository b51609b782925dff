/* passages: the texts on which a model's predictions are measured. */
#ifndef AHA_CLI_PASSAGES_H
#define AHA_CLI_PASSAGES_H

#include "../judge/judge.h"
#include "model_open.h"

typedef struct TextArgs { /* a file, or a task whose corpus is the text */
    const char *file; /* "-": standard input */
    const char *task;
    int         ctx, samples;
    int64_t     tokens_max; /* of the text; 0: all */
    uint64_t    seed;
    bool        has_seed;
} TextArgs;
#define TEXT_ARGS_INIT {.ctx = 512, .samples = 64, .seed = 1}
#define OPT_TEXT(a)                                                                                                      \
    OPT_GROUP("The text"),                                                                                             \
    OPT_INT(0, "ctx", &(a)->ctx, 4, 1 << 20, "N", "tokens of a window of FILE; the second half of each is predicted"),       \
    OPT_SIZE(0, "n-tokens", &(a)->tokens_max, 0, (int64_t)1 << 40, "N", "of FILE at most; 0: all of it"),                    \
    OPT_STRING(0, "task", &(a)->task, "TASK", "instead of a FILE: samples of this task's corpus, all but the prompts predicted"),   \
    OPT_INT('n', "n", &(a)->samples, 1, 1000000, "N", "such samples"),                                                      \
    OPT_SEED("seed", &(a)->seed, &(a)->has_seed, "of the samples; without it 1")

typedef struct Passages {
    Passage *p;
    int      n;
    int      ctx;   /* tokens of a window; 0: samples */
    Ids      ids;   /* what the passages point into */
    char     words[160]; /* what they are, for people */
} Passages;
int  passages_read(Passages *out, const TextArgs *a, const ModelSet *s, aha_error *e);
void passages_free(Passages *p);
/* wrong usage of FILE and --task, said: the status; else -1 */
int  passages_usage(const TextArgs *a, const char *example);

/* Where the measuring is: a bar, and whether somebody interrupts. */
bool passages_progress(void *user, int64_t done, int64_t total, const TextScore *now); /* user: a Progress */

#endif
