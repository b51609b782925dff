/* aha convert: a Hugging Face folder to a GGUF file, its matrices in a type of choice. */
#include <stdio.h>
#include <string.h>

#include "model_open.h"

typedef struct ConvertArgs {
    const char *type, *imatrix;
    int         threads;
    bool        draft, force, verbose;
} ConvertArgs;

static const Help HELP = {
    "convert", "DIR OUT.gguf [--type TYPE]",
    "Writes a Hugging Face folder (FP8 and shards too) as one GGUF file with its tokenizer and chat template. Norms, biases and routers "
    "stay F32. A matrix whose rows are no whole number of the type's blocks becomes q8_0, or bf16. r1-q2 and r1-q4 are mixtures for "
    "models of experts: experts in q2_k (their down projections q3_k), or q4_k (down q5_k); embedding and head in q4_k and q6_k, or q8_0; "
    "everything else, which every token uses, in q6_k, or q8_0. The file is whole or not there.",
    "  aha convert runs/laptop/rl rl.gguf\n"
    "  aha convert DeepSeek-R1-Distill-Qwen-1.5B distill-q4_k.gguf --type q4_k\n"
    "  aha convert DeepSeek-R1 r1-q2.gguf --type r1-q2\n"
    "  aha imatrix -m DIR text.txt -o im.gguf && aha convert DIR q4.gguf --type q4_k --imatrix im.gguf\n"};

static const char *const TYPES[] = {"bf16", "f32", "f16", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "iq4_xs", "q3_k", "q2_k", "r1-q4", "r1-q2", NULL};
/* expert, expert_down, embed, head, other; as in TYPES */
static const Dtype PLAIN[] = {DT_BF16, DT_F32, DT_F16, DT_Q8_0, DT_Q6_K, DT_Q5_K, DT_Q4_K, DT_Q4_0, DT_IQ4_XS, DT_Q3_K, DT_Q2_K};

static void choose(const char *type, ExportOptions *o)
{
    size_t i = 0;
    while (TYPES[i] && strcmp(TYPES[i], type)) i++;
    if (i < ARRAY_LEN(PLAIN)) o->expert = o->expert_down = o->embed = o->head = o->other = PLAIN[i];
    else if (!strcmp(type, "r1-q4")) *o = (ExportOptions){DT_Q4_K, DT_Q5_K, DT_Q8_0, DT_Q8_0, DT_Q8_0, .draft = o->draft};
    else *o = (ExportOptions){DT_Q2_K, DT_Q3_K, DT_Q4_K, DT_Q6_K, DT_Q6_K, .draft = o->draft};
}

/* ---- words: what stands beside the weights ---- */
static int put_template(const char *dir, GgufMeta *m, aha_error *e)
{
    char        path[4096];
    char       *text = NULL;
    const char *s = NULL;
    size_t      n;
    Json       *j = NULL;
    int         rc = path_join(path, sizeof path, dir, "chat_template.jinja", e);
    if (!rc && file_exists(path)) {
        rc = file_read_all(path, 1 << 24, &text, &n, e);
        if (!rc) gguf_put_str(m, "tokenizer.chat_template", text, n);
        mem_free(text);
        return rc;
    }
    if (!rc) rc = path_join(path, sizeof path, dir, "tokenizer_config.json", e);
    if (rc || !file_exists(path)) return rc;
    rc = json_read(&j, path, 1 << 24, e);
    if (rc) return rc;
    if (json_get_str(j, path, "chat_template", false, &s, NULL)) say("the chat template is a list of several: left out");
    else if (s) gguf_put_str(m, "tokenizer.chat_template", s, strlen(s));
    json_free(j);
    return 0;
}

static int put_words(ModelSet *s, GgufMeta *m, aha_error *e)
{
    const Tokenizer *t = s->words.tok;
    if (!t) {
        say("%s has no tokenizer.json: the file will hold weights alone", s->path);
        return 0;
    }
    int bos = tokenizer_id(t, "<｜begin▁of▁sentence｜>"), pad = tokenizer_id(t, "<｜▁pad▁｜>");
    if (bos >= 0) s->m->cfg.bos = bos; /* the tokenizer's: config.json of the distilled ones names another */
    if (pad >= 0) gguf_put_int(m, "tokenizer.ggml.padding_token_id", pad);
    gguf_put_bool(m, "tokenizer.ggml.add_bos_token", true);
    gguf_put_bool(m, "tokenizer.ggml.add_eos_token", false);
    int rc = tokenizer_to_gguf(t, s->cfg.vocab, m, s->path, e);
    return rc ? rc : put_template(s->path, m, e);
}

static bool on_progress(void *user, int64_t done, int64_t total)
{
    progress_show(user, done, total, -1, NULL);
    return interrupted() != 0;
}

static void put_name(const char *dir, GgufMeta *m)
{
    size_t n = strlen(dir), from;
    while (n > 1 && dir[n - 1] == '/') n--;
    for (from = n; from > 0 && dir[from - 1] != '/';) from--;
    gguf_put_str(m, "general.name", dir + from, n - from);
    gguf_put_int(m, "general.alignment", 32);
    gguf_put_int(m, "general.quantization_version", 2);
}

static int convert(const ConvertArgs *a, const char *in, const char *out, aha_error *e)
{
    ModelArgs     model = MODEL_ARGS_INIT;
    ModelSet      s;
    GgufMeta      m = {0};
    Progress      bar;
    ExportOptions o = {.draft = a->draft};
    model.path = in;
    model.verbose = a->verbose;
    int rc = model_set_open(&s, &model, MODEL_WEIGHTS | MODEL_WORDS, e);
    if (rc) return rc;
    choose(a->type, &o);
    Importance *im = NULL;
    if (a->imatrix) rc = importance_open(&im, a->imatrix, e);
    o.importance = im;
    o.pool = s.pool = pool_new(a->threads, e);
    if (!o.pool && !rc) rc = AHA_ERR_NOMEM;
    put_name(in, &m);
    if (!rc) rc = put_words(&s, &m, e);
    progress_start(&bar, "converting");
    o.on_progress = on_progress;
    o.user = &bar;
    if (!rc) rc = model_export_gguf(s.m, out, &m, &o, e);
    progress_end(&bar);
    gguf_meta_free(&m);
    importance_close(im);
    model_set_free(&s);
    return rc;
}

int cmd_convert(int argc, char **argv)
{
    ConvertArgs  a = {.type = "bf16"};
    const char  *rest[2];
    int          n = 0;
    aha_error    e = {0};
    const Option options[] = {
        OPT_GROUP("The file"),
        OPT_CHOICE(0, "type", &a.type, TYPES, "TYPE", "of the matrices; without it bf16"),
        OPT_STRING(0, "imatrix", &a.imatrix, "FILE", "how much each column matters, as aha imatrix wrote it (or llama-imatrix): columns with large "
                   "inputs are kept more exactly"),
        OPT_FLAG(0, "draft", &a.draft, "keep the draft layer (MTP), which other programs may not expect"),
        OPT_FLAG('f', "force", &a.force, "replace OUT when it is there"),
        OPT_GROUP("The machine"),
        OPT_INT(0, "threads", &a.threads, 0, 1024, "N", "threads to compute with; 0: all that this process may use"),
        OPT_FLAG('v', "verbose", &a.verbose, "say more on standard error"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, rest, 2, &n);
    if (status != OPTIONS_GO_ON) return status;
    if (n != 2) return fail_usage("a model's folder and the file to write are expected, as in: aha convert DIR OUT.gguf");
    if (dir_exists(rest[1])) return fail_usage("OUT '%.300s' is a folder, expected a file to write", rest[1]);
    if (strlen(rest[1]) < 6 || strcmp(rest[1] + strlen(rest[1]) - 5, ".gguf"))
        return fail_usage("OUT '%.300s': a name that ends in .gguf is expected, by which it is opened again", rest[1]);
    if (file_exists(rest[1]) && !a.force) return fail_usage("OUT '%.300s' is there already; --force replaces it", rest[1]);
    interrupt_watch(true);
    int rc = convert(&a, rest[0], rest[1], &e);
    return rc ? fail(&e) : CLI_DONE;
}
