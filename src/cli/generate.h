/* generate: what `run` and `chat` share: from a conversation to a reply that is shown as it comes. */
#ifndef AHA_CLI_GENERATE_H
#define AHA_CLI_GENERATE_H

#include "model_open.h"

typedef struct GenArgs {
    int      max_tokens; /* 0: as many as the context holds */
    const char *think;   /* an effort, a number of tokens, "force"; NULL: as the model likes */
    OptionList  stop, bias; /* bias: ID:VALUE */
    double   repetition, presence, frequency;
    int      stop_repeats;  /* 0: an answer may go round in circles */
    int      logprobs;      /* likeliest tokens beside each; -1: no log-probabilities */
    double   temperature, top_p, min_p;
    int      top_k;
    uint64_t seed;
    bool     has_seed;
    int      think_display; /* -1: on a terminal; 0: never; 1: always */
} GenArgs;
#define GEN_ARGS_INIT                                                                                                  \
    {.repetition = 1, .stop_repeats = 1, .logprobs = -1, .temperature = 0.6, .top_p = 0.95, .think_display = -1}
#define OPT_GENERATE(g)                                                                                                \
    OPT_GROUP("The answer"),                                                                                           \
    OPT_INT('n', "max-tokens", &(g)->max_tokens, 1, 1 << 30, "N", "tokens of thinking and answer at most; without it as many as the "  \
            "context holds"),                                                                                          \
    OPT_STRING(0, "think", &(g)->think, "N|off|low|medium|high|force", "tokens of thinking, then it is closed and the answer must come: a "    \
               "number; low is a fifth of what may come (--max-tokens, or the context), medium half, high four fifths; off: an empty "   \
               "thinking is written for the model; force: it is opened for it. Without this the model does as it was made to"),  \
    OPT_LIST("stop", &(g)->stop, "TEXT", "the answer ends before this text; may be given several times"),              \
    OPT_SWITCH("stop-repeats", &(g)->stop_repeats, "end an answer that repeats itself exactly, four times and over 512 tokens (default on)"), \
    OPT_FLOAT('t', "temperature", &(g)->temperature, 0, 100, "T", "0: always the likeliest token"),                    \
    OPT_FLOAT(0, "top-p", &(g)->top_p, 1e-6, 1, "P", "choose among the likeliest tokens that together have probability P"),  \
    OPT_INT(0, "top-k", &(g)->top_k, 0, 1 << 30, "K", "choose among the K likeliest tokens; 0: off"),                  \
    OPT_FLOAT(0, "min-p", &(g)->min_p, 0, 1, "P", "leave out tokens less likely than P times the likeliest; 0: off"), \
    OPT_FLOAT(0, "repetition-penalty", &(g)->repetition, 0.1, 10, "R", "logits of tokens in prompt or answer are divided by it (multiplied " \
              "below 0); 1: off"),                                                                                     \
    OPT_FLOAT(0, "presence-penalty", &(g)->presence, -2, 2, "P", "taken off the logits of tokens that the answer has"), \
    OPT_FLOAT(0, "frequency-penalty", &(g)->frequency, -2, 2, "P", "the same, as often as it has them"),               \
    OPT_LIST("bias", &(g)->bias, "ID:B", "added to a token's logit, -100 to 100; may be given several times"),         \
    OPT_SEED("seed", &(g)->seed, &(g)->has_seed, "the same seed gives the same answer; without it one is drawn"),     \
    OPT_SWITCH("think-display", &(g)->think_display, "show the thinking: without this, dimmed on a terminal and not in a pipe")

/* What no range says: stop texts, biases, the effort.  CLI_DONE, or CLI_USAGE after it was said. */
int gen_check(const GenArgs *g);
/* A prompt with what is allowed to follow: checks the lengths, with words for a person.  out->adjust.bias is kept in bias. */
int gen_request(const ModelSet *s, const ModelArgs *a, const GenArgs *g, const Ids *prompt, bool think_open, uint64_t stream,
                aha_logit_bias bias[OPTION_LIST_MAX], SeqRequest *out, aha_error *e);
/* The conversation as ids; *think_open: the thinking is open at its end. */
int gen_prompt(const ModelSet *s, const GenArgs *g, const ChatMessage *m, int n, Ids *out, bool *think_open, aha_error *e);
void gen_seed(GenArgs *g); /* draws one if none was given */

/* A reply taken apart, token by token; with `show`, on the screen at once. */
typedef struct Answer {
    Reply       reply;
    Buf         part[2]; /* by ReplyPart */
    Buf         now, passed;
    Stops      *stops;   /* NULL: none */
    int         fd[2];   /* where each part is shown; -1: nowhere */
    bool        marks;   /* <think> </think> around the thinking: nothing else would tell it apart */
    bool        begun[2];
    int         state;   /* the part that is on the screen, -1: none */
    bool        out_of_memory;
    /* once its sequence is done */
    SeqFinish   finish;
    int         n_new, n_think; /* tokens, the one that ended it included; of these thinking */
    int         repeat_period, repeat_tokens;
    Buf         logprobs;       /* JSON, where they are asked for */
} Answer;
void answer_init(Answer *a, const Tokenizer *t, bool think_open, bool show, const GenArgs *g);
bool answer_push(Answer *a, int32_t id); /* false: a stop text was found, the rest is of no use */
void answer_end(Answer *a);   /* what is held back; ends the line */
void answer_take(Answer *a, const Seq *s); /* of a sequence that is done: why it ended, what it used, its log-probabilities */
void answer_free(Answer *a);

const char *finish_name(SeqFinish f); /* "stop", "length", ... */
/* Generates one reply with `answer` showing it and taking the end; Ctrl-C ends it early (SEQ_FINISH_CANCELLED). */
int gen_reply(ModelSet *s, const SeqRequest *r, Answer *answer, aha_error *e);
/* After a reply that was cut short: why, on standard error. */
void gen_explain(const Answer *a, const GenArgs *g);

#endif
