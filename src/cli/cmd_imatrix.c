/* aha imatrix: what the columns of a model's matrices are multiplied with on a text, for quantising with care. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "passages.h"

typedef struct ImatrixArgs {
    ModelArgs   model;
    TextArgs    text;
    const char *out;
    bool        force;
} ImatrixArgs;

static const Help HELP = {
    "imatrix", "FILE|- -o OUT.gguf [-m MODEL] [OPTIONS]",
    "Runs a text through the model and writes, for every column of every matrix, the sum of the squares of what it was multiplied with; for "
    "experts one by one. aha convert --imatrix then rounds with more care where the numbers are large. The text should be like what the "
    "model will be used for; a hundred thousand tokens are plenty. The file is llama.cpp's, which reads and writes the same. The model "
    "may be a folder or a GGUF file that is not too coarse itself.",
    "  aha imatrix -m DeepSeek-R1-Distill-Qwen-1.5B text.txt -o im.gguf\n"
    "  aha convert DeepSeek-R1-Distill-Qwen-1.5B q4.gguf --type q4_k --imatrix im.gguf\n"
    "  aha imatrix -m models/aha-tiny --task countdown3 --n 256 -o tiny.gguf\n"};

static int collect(const ImatrixArgs *a, const ModelSet *s, aha_error *e)
{
    Passages        p = {0};
    ImportanceSums *sums = NULL;
    TextScore       r;
    Progress        bar;
    TextOptions     o = {.pool = s->pool, .k = s->k, .progress = passages_progress, .user = &bar};
    int             rc = passages_read(&p, &a->text, s, e), longest = 1;
    for (int i = 0; i < p.n; i++)
        if (p.p[i].n > longest) longest = p.p[i].n;
    if (!rc) rc = importance_sums_new(&sums, s->m, e);
    if (!rc) o.observer = importance_observer(sums);
    interrupt_watch(true);
    progress_start(&bar, "collecting");
    if (!rc) rc = text_score(&r, s->m, NULL, p.p, p.n, &o, e);
    progress_end(&bar);
    if (!rc) rc = importance_write(sums, a->out, a->text.task ? a->text.task : a->text.file, p.n, p.ctx ? p.ctx : longest, e);
    if (!rc) {
        ImportanceSeen seen = importance_seen(sums);
        say("%s: %d matrices over %s, perplexity %.4f", a->out, seen.matrices, p.words, exp(r.nll.mean));
        if (seen.unseen) say("%d experts were chosen by no token of this text: their columns will weigh alike", seen.unseen);
    }
    importance_sums_free(sums);
    passages_free(&p);
    return rc;
}

int cmd_imatrix(int argc, char **argv)
{
    ImatrixArgs a = {.model = MODEL_ARGS_INIT, .text = TEXT_ARGS_INIT};
    ModelSet    s;
    aha_error   e = {0};
    const Option options[] = {
        OPT_GROUP("The file"),
        OPT_STRING('o', "out", &a.out, "OUT.gguf", "where to write"),
        OPT_FLAG('f', "force", &a.force, "replace OUT when it is there"),
        OPT_GROUP("The model"),
        OPT_MODEL(&a.model),
        OPT_TEXT(&a.text),
        OPT_GROUP("The machine"),
        OPT_MACHINE(&a.model),
        OPT_FLAG('v', "verbose", &a.model.verbose, "say more on standard error"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, &a.text.file, 1, NULL);
    if (status != OPTIONS_GO_ON) return status;
    status = passages_usage(&a.text, "aha imatrix -m MODEL FILE -o OUT.gguf");
    if (status >= 0) return status;
    if (!a.out) return fail_usage("-o OUT.gguf is expected: where to write");
    if (file_exists(a.out) && !a.force) return fail_usage("OUT '%.300s' is there already; --force replaces it", a.out);
    if (model_set_open(&s, &a.model, MODEL_WEIGHTS | MODEL_NEEDS_TEXT, &e)) return fail(&e);
    builtin_introduce(&s);
    int rc = model_set_compute(&s, &a.model, &e);
    if (!rc) rc = collect(&a, &s, &e);
    model_set_free(&s);
    return rc ? fail(&e) : CLI_DONE;
}
