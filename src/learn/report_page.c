/* The whole page, and the sections that are mostly prose: how to read it, the recipe, how to repeat it. */
#include <stdio.h>
#include <string.h>

#include "report.h"

/* What these numbers can and cannot show.  Fixed text: true of every run of this program. */
static void reading(Buf *b)
{
    buf_str(b,
            "<section id=reading><h2>How to read this, and what it does not show</h2><ul>\n"
            "<li><b>Reinforcement learning selects.</b> A base model whose corpus holds trials, checks and give-ups already does all of these now and then; "
            "rewards make some of them more frequent and others rare. What is there at the first point of a curve was planted by the corpus: "
            "where it rises, it was selected, not discovered.</li>\n"
            "<li><b>pass@k tells surer from abler.</b> When pass@1 rises and pass@k for a large k does not, the model finds in one try what it could find in many; "
            "it has not learned to solve new problems.</li>\n"
            "<li><b>A right answer is not an honest thought.</b> Rules check the answer, and the way to it only where the recipe says so (<code>honest_weight</code>). "
            "Watch the share of wrong equations, and of right answers by false steps.</li>\n"
            "<li><b>One run is one draw.</b> Intervals cover the choice of problems, not the choice of seed. Believe a small difference after three seeds.</li>\n"
            "<li><b>Compare at equal cost.</b> Fine-tuning on the base model\xE2\x80\x99s own right answers is the fair rival of reinforcement learning; "
            "random rewards must not help. A recipe that has these stages shows them in the table above.</li>\n</ul></section>\n");
}

/* Safe to paste into a shell. */
static bool plain(const char *s)
{
    if (!*s || *s == '-' || *s == '.') return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("._-", *s))) return false;
    return true;
}

static void repeat(Buf *b, const Report *r)
{
    const char *name = r->has_recipe && plain(r->recipe.name) ? r->recipe.name : "recipe";
    double      seed = isfinite(r->seed) ? r->seed : r->has_recipe ? (double)r->recipe.seed : NAN;
    buf_fmt(b, "<section id=repeat><h2>How to repeat it</h2><ol><li>Save the recipe below as <code>%s.ini</code>.</li><li>Run</li></ol><pre class=box>aha learn %s.ini",
            name, name);
    if (seed >= 0 && seed < 1e15) buf_fmt(b, " --seed %s", num_fixed(NUM_TMP, seed, 0));
    buf_str(b, "</pre><p class=lead>The same program on the same instruction set");
    if (r->isa[0]) {
        buf_str(b, " (here: ");
        html_str(b, r->isa);
        buf_str(b, ")");
    }
    buf_str(b, " gives the same weights bit for bit, with any number of threads and however often it is stopped and resumed. "
               "Another instruction set rounds differently: other bits, the same picture. "
               "Every number of this page stands in <code>metrics.jsonl</code> beside it, one JSON object a line.</p></section>\n");
}

static void recipe_text(Buf *b, const Report *r)
{
    buf_str(b, "<section id=recipe><h2>The recipe</h2>");
    if (r->recipe_error.code) {
        buf_str(b, "<p class=warn>It could not be understood: ");
        html_str(b, r->recipe_error.text);
        buf_str(b, "</p>");
    }
    if (r->recipe_text) {
        buf_str(b, "<pre class=box tabindex=0>");
        html_text(b, r->recipe_text, r->recipe_n);
        buf_str(b, "</pre>");
    } else if (!r->recipe_error.code) {
        buf_str(b, "<p class=lead>There is no recipe.ini in the run\xE2\x80\x99s folder.</p>");
    }
    buf_str(b, "</section>\n");
}

static void footer(Buf *b, const Report *r)
{
    buf_fmt(b, "<footer>Made by aha from %s line%s of metrics.jsonl", num_count(NUM_TMP, (double)r->lines), r->lines == 1 ? "" : "s");
    if (r->bad) buf_fmt(b, "; <b>%s</b> could not be read and %s left out", num_count(NUM_TMP, (double)r->bad), r->bad == 1 ? "is" : "are");
    if (r->cut) buf_str(b, "; the last line is cut, as while a run is writing it");
    buf_str(b, ". This page runs no script and fetches nothing.</footer>\n");
}

/* Links to the sections that are there: no text of a file can look like one, it is escaped. */
static void contents(Buf *b, const Buf *body)
{
    static const char *const PART[][2] = {{"stages", "Stages"}, {"models", "Models"}, {"accuracy", "Held-out accuracy"}, {"traces", "Before and after"},
                                          {"rl", "Reinforcement learning"}, {"pretraining", "Pretraining"}, {"reading", "How to read this"},
                                          {"repeat", "Repeat it"}, {"recipe", "Recipe"}};
    buf_str(b, "<nav>");
    for (size_t i = 0; i < ARRAY_LEN(PART); i++) {
        char mark[48];
        snprintf(mark, sizeof mark, "<section id=%s>", PART[i][0]);
        if (body->data && strstr(body->data, mark)) buf_fmt(b, "<a href=\"#%s\">%s</a> ", PART[i][0], PART[i][1]);
    }
    buf_str(b, "</nav>\n");
}

void page_write(Buf *b, const Report *r)
{
    Buf body = {0};
    page_summary(&body, r);
    page_table(&body, r);
    page_curves_heldout(&body, r);
    page_traces(&body, r);
    page_curves_rl(&body, r);
    page_curves_pretrain(&body, r);
    reading(&body);
    repeat(&body, r);
    recipe_text(&body, r);
    footer(&body, r);
    page_title(b, r);
    contents(b, &body);
    buf_add(b, body.data, body.n);
    buf_str(b, "</main>\n</body>\n</html>\n");
    if (body.failed) b->failed = true;
    buf_free(&body);
}
