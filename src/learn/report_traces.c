/* Answers as the model wrote them, before and after, the same problem side by side.  All of it is hostile text. */
#include <string.h>

#include "report.h"

enum { PAIRS_MAX = 6 };

static void trace_write(Buf *b, const Trace *t, const char *when, bool with_prompt)
{
    buf_fmt(b, "<div class=trace><p class=verdict><span>%s</span> ", when);
    buf_str(b, t->correct ? "<b class=right>\xE2\x9C\x93 right</b>" : "<b class=wrong>\xE2\x9C\x97 wrong</b>");
    if (isfinite(t->reward)) buf_fmt(b, " <span class=dim>reward %s</span>", num_auto(NUM_TMP, t->reward));
    buf_str(b, "</p>");
    if (with_prompt) {
        buf_str(b, "<h3>");
        html_str(b, t->prompt);
        buf_str(b, "</h3>");
    }
    buf_str(b, "<pre class=thinking tabindex=0>");
    if (t->thinking[0]) html_str(b, t->thinking);
    else buf_str(b, "(no thinking)");
    buf_str(b, "</pre><pre class=answer>");
    if (t->answer[0]) html_str(b, t->answer);
    else buf_str(b, "(no answer)");
    buf_str(b, "</pre></div>");
}

static const Trace *trace_find(const TraceSet *s, const char *prompt)
{
    for (int i = 0; s && i < s->n; i++)
        if (strcmp(s->t[i].prompt, prompt) == 0) return &s->t[i];
    return NULL;
}

static void pair_write(Buf *b, const Trace *before, const Trace *after)
{
    bool both = before && after, same = both && strcmp(before->prompt, after->prompt) == 0;
    buf_str(b, "<article>");
    if (!both || same) {
        buf_str(b, "<h3>");
        html_str(b, after ? after->prompt : before->prompt);
        buf_str(b, "</h3>");
    }
    buf_fmt(b, "<div class=\"pair%s\">", both ? "" : " single");
    if (before) trace_write(b, before, both ? "before" : "", both && !same);
    if (after) trace_write(b, after, both ? "after" : "", both && !same);
    buf_str(b, "</div></article>\n");
}

static void set_name(Buf *b, const TraceSet *s)
{
    html_str(b, s->stage);
    buf_fmt(b, " at step %s", num_count(NUM_TMP, s->step));
}

void page_traces(Buf *b, const Report *r)
{
    const TraceSet *before, *after;
    int             shown = 0;
    report_traces_pick(r, &before, &after);
    if (!before && !after) return;
    const TraceSet *lead = after ? after : before;
    bool            both = before && after;
    buf_fmt(b, "<section id=traces><h2>%s</h2><p class=lead>The first ones in the log, not chosen. Thinking is dimmed, the answer is firm. ",
            both ? "The same problems, before and after" : "Answers");
    if (both) {
        buf_str(b, "Before: ");
        set_name(b, before);
        buf_str(b, "; after: ");
    }
    set_name(b, lead);
    buf_str(b, ".</p>\n");
    for (int i = 0; i < lead->n && shown < PAIRS_MAX; i++) {
        const Trace *old = both ? trace_find(before, lead->t[i].prompt) : NULL;
        if (both && !old) continue;
        if (lead == after) pair_write(b, old, &lead->t[i]);
        else pair_write(b, &lead->t[i], NULL);
        shown++;
    }
    if (!shown) { /* no problem in common: side by side all the same */
        buf_str(b, "<p class=lead>No problem was kept from both: these are different ones.</p>");
        for (int i = 0; i < lead->n && i < before->n && i < PAIRS_MAX; i++) pair_write(b, &before->t[i], &lead->t[i]);
    }
    buf_str(b, "</section>\n");
}
