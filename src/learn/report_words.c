/* What is measured, in one sentence each: under the charts and beside the table. */
#include "report.h"

static const MetricWords WORDS[] = {
    {M_LOSS, "Loss", "nats per token", "How surprised the model is by the next token, on average; lower is better.", AXIS_LOG, 0},
    {M_DRAFT_LOSS, "Draft loss", "nats per token", "The same for the draft layer, which predicts the token after the next.", AXIS_LOG, 0},
    {M_GRAD_NORM, "Gradient norm", "", "The length of the gradient before it was clipped: spikes mean a rough batch.", AXIS_LOG, 0},
    {M_LOAD_MAX, "Expert load", "times its fair share",
     "How much work the busiest expert had, in the worst layer: 1 is perfect balance.", AXIS_NUMBER, 1},
    {M_REWARD, "Reward", "", "What the rules paid per training answer, on average: right answers and good form earn, the recipe's penalties cost.",
     AXIS_NUMBER, 0},
    {M_CORRECT, "Right while training", "", "The share of training answers whose result is right, on problems of the training split.", AXIS_SHARE, 0},
    {M_ENTROPY, "Entropy", "nats per token", "How undecided the model is at each token: near zero it has stopped exploring.", AXIS_NUMBER, 0},
    {M_CLIP, "Clip fraction", "", "The share of tokens whose probability had moved so far within a round that their gradient was cut off.",
     AXIS_SHARE, 0},
    {M_KL, "KL to the reference", "nats per token", "How far the model has moved from the reference model.", AXIS_NUMBER, 0},
    {M_DROPPED, "Groups without a signal", "groups", "Groups in which every answer earned the same: nothing can be learned from them.",
     AXIS_NUMBER, 0},
    {M_FORMAT, "Well formed", "", "The share of replies that end, and whose answer is of the kind asked for, right or not.", AXIS_SHARE, 0},
    {M_THINKING, "Thinking length", "tokens", "Mean number of tokens before the thinking ends.", AXIS_NUMBER, 0},
    {M_GIVES_UP, "Gives up", "", "The share of answers whose thinking says \xE2\x80\x9Cgive up\xE2\x80\x9D.", AXIS_SHARE, 0},
    {M_NO_THINKING, "No thinking", "", "The share of answers that follow without any thinking: a guess.", AXIS_SHARE, 0},
    {M_CHECKS, "Checks", "", "The share of answers whose thinking writes \xE2\x80\x9C" "Check\xE2\x80\x9D: the result computed once more before answering.", AXIS_SHARE, 0},
    {M_WAITS, "Waits", "",
     "The share of answers whose thinking interrupts itself with \xE2\x80\x9CWait\xE2\x80\x9D: what the paper calls the aha moment.", AXIS_SHARE, 0},
    {M_BACKWARD, "Works backward", "", "The share of answers whose thinking says \xE2\x80\x9CNeed\xE2\x80\x9D: from the goal back to what would make it.", AXIS_SHARE, 0},
    {M_WRONG_EQUATIONS, "Wrong equations", "",
     "The share of equations written in the thinking that are false. No rule rewards honest steps unless the recipe says so: it can get worse "
     "while accuracy gets better.",
     AXIS_SHARE, 0},
    {M_TRUNCATED, "Truncated", "", "The share of answers that hit the token limit before they ended; they count as wrong.", AXIS_SHARE, 0},
    {M_PASS1, "pass@1", "", "The chance that one sampled answer is right, over held-out problems; with its 95% interval.", AXIS_SHARE, 0},
    {M_PASS_POW, "pass@k", "", "The chance that at least one of k sampled answers is right: what the model can find at all.", AXIS_SHARE, 0},
    {M_MAJ, "maj@k", "", "The share of problems where the most frequent of the k answers is right.", AXIS_SHARE, 0},
    {M_FALSE_RIGHT, "Right by false steps", "", "The share of right answers whose thinking holds a false equation.", AXIS_SHARE, 0},
};

const MetricWords *metric_words(Metric m)
{
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (WORDS[i].m == m) return &WORDS[i];
    return NULL;
}
