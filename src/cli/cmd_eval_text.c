/* aha eval perplexity, aha eval kl: how well a model predicts a text, and how far its predictions are from another's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "passages.h"

typedef struct TextEval {
    ModelArgs   model;
    const char *base, *base_act;
    TextArgs    text;
    bool        json;
} TextEval;

static const Help HELP_PERPLEXITY = {
    "eval perplexity", "FILE|- [-m MODEL] [OPTIONS]",
    "How well a text is predicted: perplexity is the exponential of the mean negative log-likelihood of a token. FILE is cut into windows "
    "of --ctx tokens; each begins with the beginning-of-sentence token where the model has one, and its second half is predicted. "
    "Perplexities compare only between models of one tokenizer, on the same text with the same --ctx.",
    "  aha eval perplexity -m MODEL wiki.test.raw\n"
    "  aha eval perplexity -m MODEL.gguf wiki.test.raw --n-tokens 64k\n"
    "  aha eval perplexity --task countdown3      aha-tiny, on its own corpus\n"};

static const Help HELP_KL = {
    "eval kl", "FILE|- -m MODEL --base MODEL [OPTIONS]",
    "How far a model's predictions are from another's, as a quantised one's from the original: the mean over tokens of the divergence "
    "KL(base || model) in nats, its quantiles, how often both find the same token likeliest, and both perplexities. Standard errors count "
    "tokens as independent. FILE is cut as for aha eval perplexity.",
    "  aha eval kl -m distill-q4_k.gguf --base DeepSeek-R1-Distill-Qwen-1.5B wiki.test.raw\n"
    "  aha convert models/aha-tiny tiny-q4_0.gguf --type q4_0\n"
    "  aha eval kl -m tiny-q4_0.gguf --base models/aha-tiny --task countdown3 --n 64\n"
    "  aha eval kl -m tiny-q4_0.gguf --base tiny-q4_0.gguf --base-act f32 --task countdown3\n"};

static double sure(double x) { return isfinite(x) ? x : HUGE_VAL; }

static void show_text(const ModelSet *m, const ModelSet *base, const Passages *p, const TextScore *r, double seconds)
{
    Interval same = interval_wilson((double)r->same_top, (double)r->tokens);
    char     time[32];
    double   ppl = exp(r->nll.mean);
    out_fmt("%s%s%s on %s: %lld tokens predicted\n", m->path, base ? " against " : "", base ? base->path : "", p->words, (long long)r->tokens);
    out_fmt("  perplexity          %.4f +- %.4f\n", ppl, ppl * moments_sem(&r->nll));
    if (base) {
        double first = exp(r->nll_base.mean), ratio = exp(r->more.mean);
        out_fmt("  of the base         %.4f +- %.4f\n  ratio               %.5f +- %.5f\n", first, first * moments_sem(&r->nll_base), ratio, ratio * moments_sem(&r->more));
        out_fmt("  KL divergence       %.6f +- %.6f nats a token\n", r->kl.mean, moments_sem(&r->kl));
        out_fmt("    median            %.6f\n    99%%               %.6f\n    99.9%%             %.6f\n    largest           %.6f\n", r->kl_median,
                r->kl_99, r->kl_999, r->kl_max);
        out_fmt("  same likeliest      %.2f%%   (95%%: %.2f to %.2f)\n", 100 * same.p, 100 * same.lo, 100 * same.hi);
    }
    out_fmt("  %s, %.0f tokens/s\n", time_words(time, seconds), seconds > 0 ? (double)r->tokens / seconds : 0.0);
}

static void put_perplexity(Buf *b, const char *name, const Moments *nll)
{
    double ppl = sure(exp(nll->mean));
    if (isfinite(ppl)) buf_fmt(b, ",\"%s\":%.9g,\"%s_se\":%.6g", name, ppl, name, ppl * moments_sem(nll));
    else buf_fmt(b, ",\"%s\":null,\"%s_se\":null", name, name); /* JSON knows no infinity */
}

static void show_json(const TextEval *a, const ModelSet *m, const ModelSet *base, const Passages *p, const Kernels *k, const TextScore *r)
{
    Buf b = {0};
    buf_str(&b, "{\"model\":");
    buf_json(&b, m->path, strlen(m->path));
    if (base) {
        buf_str(&b, ",\"base\":");
        buf_json(&b, base->path, strlen(base->path));
    }
    buf_str(&b, a->text.task ? ",\"task\":" : ",\"file\":");
    buf_json(&b, a->text.task ? a->text.task : a->text.file, strlen(a->text.task ? a->text.task : a->text.file));
    buf_fmt(&b, ",\"passages\":%d,\"ctx\":%d,\"tokens\":%lld,\"isa\":\"%s\"", p->n, p->ctx, (long long)r->tokens, k->isa);
    put_perplexity(&b, "perplexity", &r->nll);
    if (base) {
        Interval same = interval_wilson((double)r->same_top, (double)r->tokens);
        put_perplexity(&b, "base_perplexity", &r->nll_base);
        put_perplexity(&b, "ratio", &r->more);
        buf_fmt(&b, ",\"kl\":%.9g,\"kl_se\":%.6g,\"kl_median\":%.9g,\"kl_99\":%.9g,\"kl_999\":%.9g,\"kl_max\":%.9g", r->kl.mean, moments_sem(&r->kl),
                r->kl_median, r->kl_99, r->kl_999, r->kl_max);
        buf_fmt(&b, ",\"same_top\":%.6f,\"same_top_lo\":%.6f,\"same_top_hi\":%.6f", same.p, same.lo, same.hi);
    }
    buf_str(&b, "}\n");
    out_buf(&b);
    buf_free(&b);
}

/* Both must cut the text alike, or their predictions are of different things. */
static int same_words(const ModelSet *m, const ModelSet *base, const TextArgs *a, const Passages *p, aha_error *e)
{
    Passages other;
    int      rc;
    if (!base->words.tok || !strcmp(a->file ? a->file : "", "-")) return 0; /* a stream is read once */
    rc = passages_read(&other, a, base, e);
    if (!rc && (other.ids.n != p->ids.n || memcmp(other.ids.id, p->ids.id, p->ids.n * sizeof *p->ids.id) != 0))
        rc = error_set(e, AHA_ERR_ARG, "%.200s and %.200s cut the text into different tokens: their predictions cannot be compared", m->path, base->path);
    passages_free(&other);
    return rc;
}

static int measure(const TextEval *a, const ModelSet *m, const ModelSet *base, aha_error *e)
{
    Passages    p = {0};
    TextScore   r;
    Progress    bar;
    uint64_t    t0;
    TextOptions o = {.pool = m->pool, .k = m->k, .progress = passages_progress, .user = &bar};
    int         rc = passages_read(&p, &a->text, m, e);
    if (!rc && base) rc = same_words(m, base, &a->text, &p, e);
    t0 = time_now_ns();
    progress_start(&bar, base ? "comparing" : "reading");
    interrupt_watch(true);
    if (!rc) rc = text_score(&r, m->m, base ? base->m : NULL, p.p, p.n, &o, e);
    progress_end(&bar);
    if (!rc && a->json) show_json(a, m, base, &p, m->k, &r);
    if (!rc && !a->json) show_text(m, base, &p, &r, (double)(time_now_ns() - t0) * 1e-9);
    passages_free(&p);
    return rc;
}

static int run(TextEval *a, bool kl, aha_error *e)
{
    ModelSet  m, base = {0};
    ModelArgs other = a->model;
    int       rc = model_set_open(&m, &a->model, MODEL_WEIGHTS | MODEL_NEEDS_TEXT, e);
    if (rc) return rc;
    builtin_introduce(&m);
    other.path = a->base;
    other.act = a->base_act;
    if (kl) rc = model_set_open(&base, &other, MODEL_WEIGHTS | MODEL_WORDS, e);
    if (!rc) rc = model_set_compute(&m, &a->model, e);
    if (!rc) rc = measure(a, &m, kl ? &base : NULL, e);
    model_set_free(&base);
    model_set_free(&m);
    return rc;
}

int cmd_eval_text(int argc, char **argv)
{
    TextEval    a = {.model = MODEL_ARGS_INIT, .text = TEXT_ARGS_INIT, .base_act = "q8"};
    bool        kl = !strcmp(argv[0], "kl");
    aha_error   e = {0};
    const Option options[] = {
        OPT_GROUP("The model"),
        OPT_MODEL(&a.model),
        OPT_TEXT(&a.text),
        OPT_FLAG(0, "json", &a.json, "the result as one JSON object"),
        OPT_GROUP("The machine"),
        OPT_ACT("act", &a.model.act),
        OPT_MACHINE(&a.model),
        OPT_FLAG('v', "verbose", &a.model.verbose, "say more on standard error"),
        kl ? (Option)OPT_GROUP("The other") : (Option)OPT_END,
        OPT_STRING(0, "base", &a.base, "DIR", "the model to compare with: a folder or a GGUF file"),
        OPT_ACT("base-act", &a.base_act),
        OPT_END};
    int status = options_parse(kl ? &HELP_KL : &HELP_PERPLEXITY, options, argc, argv, &a.text.file, 1, NULL);
    if (status != OPTIONS_GO_ON) return status;
    status = passages_usage(&a.text, kl ? "aha eval kl -m Q4.gguf --base DIR FILE" : "aha eval perplexity -m MODEL FILE");
    if (status >= 0) return status;
    if (kl && !a.base) return fail_usage("--base is expected: the model to compare with");
    return run(&a, kl, &e) ? fail(&e) : CLI_DONE;
}
