/* rollout: prompts in, replies out, through the engine: the same forward pass, batched, on the paged cache. */
#ifndef AHA_LEARN_ROLLOUT_H
#define AHA_LEARN_ROLLOUT_H

#include "../infer/infer.h"
#include "../text/text.h"

typedef struct Policy { /* borrowed */
    Engine          *engine;
    const Tokenizer *tok;
    ChatTemplate     tpl;
} Policy;

typedef struct Rollout {
    int32_t *id;   /* [n_prompt + n_new], the end token included when it ended by itself */
    float   *logp; /* as many; of generated tokens */
    int      n_prompt, n_new;
    bool     ended;          /* by the end of sentence, not by the cap */
    bool     closed;         /* </think> occurs exactly once */
    int      think_tokens;   /* before </think>, or all when it never came */
    Buf      thinking, answer; /* decoded, outer blanks and newlines cut off */
} Rollout;
void rollout_free(Rollout *r);

typedef struct RolloutOptions {
    int      samples; /* per prompt */
    int      max_new;
    double   temperature, top_p;
    const ThinkTags *think; /* NULL: no budget */
    int      think_budget; /* tokens of thinking, then it is closed */
    uint64_t seed, stream0; /* sample s of prompt p uses stream0 + p*samples + s */
    bool     want_logp;
    bool   (*stop)(void *user);
    void   (*progress)(void *user, int done); /* after every step: replies finished so far; NULL: none */
    void    *user;
} RolloutOptions;
/* out [n*samples], prompt-major; freed by the caller one by one, also after an error. */
int rollout_run(const Policy *p, const char *const *prompt, int n, const RolloutOptions *o, Rollout *out, aha_error *e);

/* A sample of a corpus as ids: prompt by the chat template with <think> open, thinking, </think>, answer, end.
 * *n_prompt: how many of them are the prompt. */
int sample_ids(const Tokenizer *tok, ChatTemplate tpl, const char *prompt, const char *thinking, const char *answer, Ids *out,
               int *n_prompt, aha_error *e);

#endif
