/* generate: what `run` and `chat` share: from a conversation to a reply that is shown as it comes. */
#ifndef AHA_CLI_GENERATE_H
#define AHA_CLI_GENERATE_H

#include "model_open.h"

typedef struct GenArgs {
    int      max_tokens; /* 0: as many as the context holds */
    double   temperature, top_p, min_p;
    int      top_k;
    uint64_t seed;
    bool     has_seed;
    int      think_display; /* -1: on a terminal; 0: never; 1: always */
} GenArgs;
#define GEN_ARGS_INIT {0, 0.6, 0.95, 0, 0, 0, false, -1}
#define OPT_GENERATE(g)                                                                                                \
    OPT_GROUP("The answer"),                                                                                           \
    OPT_INT('n', "max-tokens", &(g)->max_tokens, 1, 1 << 30, "N", "tokens of thinking and answer at most; without it as many as the "  \
            "context holds"),                                                                                          \
    OPT_FLOAT('t', "temperature", &(g)->temperature, 0, 100, "T", "0: always the likeliest token"),                    \
    OPT_FLOAT(0, "top-p", &(g)->top_p, 1e-6, 1, "P", "choose among the likeliest tokens that together have probability P"),  \
    OPT_INT(0, "top-k", &(g)->top_k, 0, 1 << 30, "K", "choose among the K likeliest tokens; 0: off"),                  \
    OPT_FLOAT(0, "min-p", &(g)->min_p, 0, 1, "P", "leave out tokens less likely than P times the likeliest; 0: off"), \
    OPT_SEED("seed", &(g)->seed, &(g)->has_seed, "the same seed gives the same answer; without it one is drawn"),     \
    OPT_SWITCH("think-display", &(g)->think_display, "show the thinking: without this, dimmed on a terminal and not in a pipe")

/* A prompt with what is allowed to follow: checks the lengths, with words for a person. */
int gen_request(const ModelSet *s, const ModelArgs *a, const GenArgs *g, const Ids *prompt, uint64_t stream, SeqRequest *out, aha_error *e);
/* The conversation as ids; *think_open: the form has opened the thinking. */
int gen_prompt(const ModelSet *s, const ChatMessage *m, int n, Ids *out, bool *think_open, aha_error *e);
void gen_seed(GenArgs *g); /* draws one if none was given */

/* A reply taken apart, token by token; with `show`, on the screen at once. */
typedef struct Answer {
    Reply       reply;
    Buf         part[2]; /* by ReplyPart */
    Buf         now;
    int         fd[2];   /* where each part is shown; -1: nowhere */
    bool        marks;   /* <think> </think> around the thinking: nothing else would tell it apart */
    bool        begun[2];
    int         state;   /* the part that is on the screen, -1: none */
    bool        out_of_memory;
} Answer;
void answer_init(Answer *a, const Tokenizer *t, bool think_open, bool show, int think_display);
void answer_push(Answer *a, int32_t id);
void answer_end(Answer *a);   /* what is held back; ends the line */
void answer_free(Answer *a);

const char *finish_name(SeqFinish f); /* "stop", "length", ... */
/* Generates one reply with `answer` showing it; Ctrl-C ends it early (SEQ_FINISH_CANCELLED).  *tokens: how many. */
int gen_reply(ModelSet *s, const SeqRequest *r, Answer *answer, SeqFinish *finish, int *tokens, aha_error *e);
/* After a reply that was cut short: why, on standard error. */
void gen_explain(const Answer *a, SeqFinish f, int tokens, const GenArgs *g);

#endif
