/* aha convert: a Hugging Face folder or a GGUF file to either, its matrices in a type of choice. */
#include <stdio.h>
#include <string.h>

#include "convert.h"

typedef struct ConvertArgs {
    const char *type, *imatrix;
    int         threads;
    int64_t     split;
    bool        draft, force, verbose;
} ConvertArgs;

static const Help HELP = {
    "convert", "IN OUT [--type TYPE]",
    "Writes a model, a Hugging Face folder (FP8 and shards too) or a GGUF file (one or split, any type), with its tokenizer and chat template: "
    "where OUT ends in .gguf as a GGUF file, else as a new folder that transformers loads, of safetensors of at most 5 GB in bf16, f16 or f32. "
    "In GGUF norms, biases and routers "
    "stay F32. A matrix whose rows are no whole number of the type's blocks becomes q8_0, or bf16. r1-q2 and r1-q4 are mixtures for "
    "models of experts: experts in q2_k (their down projections q3_k), or q4_k (down q5_k); embedding and head in q4_k and q6_k, or q8_0; "
    "everything else, which every token uses, in q6_k, or q8_0. What is in the type already is kept bit for bit.\n\n"
    "OUT is whole or not there. It grows in OUT.partial: after an interruption, a crash or a full disk the same command goes on there "
    "behind the last whole tensor, if neither the source nor an option has changed.",
    "  aha convert runs/laptop/rl rl.gguf\n"
    "  aha convert DeepSeek-R1-Distill-Qwen-1.5B distill-q4_k.gguf --type q4_k\n"
    "  aha convert DeepSeek-R1 r1-q2.gguf --type r1-q2 --split 40g     r1-q2-00001-of-0000N.gguf\n"
    "  aha imatrix -m DIR text.txt -o im.gguf && aha convert DIR q4.gguf --type q4_k --imatrix im.gguf\n"
    "  aha convert r1-q8_0-00001-of-00015.gguf r1-q4.gguf --type q4_k\n"
    "  aha convert distill-q8_0.gguf DeepSeek-R1-Distill-again\n"};

const char *const CONVERT_TYPES[] = {"bf16", "f32", "f16", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "iq4_xs", "q3_k", "q2_k", "r1-q4", "r1-q2", NULL};

static bool on_progress(void *user, int64_t done, int64_t total)
{
    progress_show(user, done, total, -1, NULL);
    return interrupted() != 0;
}

static void on_note(void *user, const char *line)
{
    (void)user;
    say("%s", line);
}

static int to_gguf(ModelSet *s, const char *out, const ExportOptions *o, aha_error *e)
{
    GgufMeta m = {0};
    int      rc = 0;
    if (s->m->gguf) convert_keep_metadata(s, &m);
    else rc = convert_words_to_gguf(s, &m, e);
    if (!rc) rc = model_export_gguf(s->m, out, &m, o, e);
    gguf_meta_free(&m);
    return rc;
}

static int to_folder(ModelSet *s, const char *out, const ExportOptions *o, aha_error *e)
{
    ConvertFiles f = {0};
    int          rc = convert_words_to_files(s, &f, e);
    if (!rc) rc = model_export_folder(s->m, out, f.text, f.n, o, e);
    convert_files_free(&f);
    return rc;
}

static bool is_gguf(const char *out)
{
    size_t n = strlen(out);
    return n > 5 && !strcmp(out + n - 5, ".gguf");
}

static int convert(const ConvertArgs *a, const char *in, const char *out, aha_error *e)
{
    ModelArgs     model = MODEL_ARGS_INIT;
    ModelSet      s;
    Progress      bar;
    ExportOptions o = {.draft = a->draft, .replace = a->force, .split = a->split, .on_progress = on_progress, .on_note = on_note, .user = &bar};
    model.path = in;
    model.verbose = a->verbose;
    if (!weight_mix_find(&o.mix, a->type)) return error_set(e, AHA_ERR_ARG, "--type %.32s is no type of weights", a->type);
    int rc = model_set_open(&s, &model, MODEL_WEIGHTS | MODEL_WORDS, e);
    if (rc) return rc;
    Importance *im = NULL;
    if (a->imatrix) rc = importance_open(&im, a->imatrix, e);
    o.importance = im;
    o.pool = s.pool = pool_new(a->threads, e);
    if (!o.pool && !rc) rc = AHA_ERR_NOMEM;
    progress_start(&bar, "converting");
    if (!rc) rc = is_gguf(out) ? to_gguf(&s, out, &o, e) : to_folder(&s, out, &o, e);
    progress_end(&bar);
    importance_close(im);
    model_set_free(&s);
    return rc;
}

static int check_out(const char *out, const ConvertArgs *a)
{
    if (is_gguf(out)) {
        if (dir_exists(out)) return fail_usage("OUT '%.300s' is a folder, expected a file to write", out);
        if (file_exists(out) && !a->force && !a->split) return fail_usage("OUT '%.300s' is there already; --force replaces it", out);
        return 0;
    }
    if (file_exists(out) || path_is_special(out, NULL) || strstr(out, ".safetensors"))
        return fail_usage("OUT '%.300s': a name that ends in .gguf is expected, by which it is opened again, or that of a new folder", out);
    if (a->imatrix) return fail_usage("--imatrix is for types of blocks, which are GGUF's, and OUT '%.300s' does not end in .gguf", out);
    if (strcmp(a->type, "bf16") && strcmp(a->type, "f16") && strcmp(a->type, "f32"))
        return fail_usage("--type %s is for GGUF, and OUT '%.300s' does not end in .gguf; a folder is of bf16, f16 or f32", a->type, out);
    return 0;
}

int cmd_convert(int argc, char **argv)
{
    ConvertArgs  a = {.type = "bf16"};
    const char  *rest[2];
    int          n = 0;
    aha_error    e = {0};
    const Option options[] = {
        OPT_GROUP("The file"),
        OPT_CHOICE(0, "type", &a.type, CONVERT_TYPES, "TYPE", "of the matrices; without it bf16"),
        OPT_STRING(0, "imatrix", &a.imatrix, "FILE", "how much each column matters, as aha imatrix wrote it (or llama-imatrix): columns with large "
                   "inputs are kept more exactly"),
        OPT_SIZE(0, "split", &a.split, 1, 1LL << 50, "SIZE", "files of at most SIZE bytes of tensors (40g): OUT's name gets -00001-of-0000N"),
        OPT_FLAG(0, "draft", &a.draft, "from a folder to GGUF: keep the draft layer (MTP), which other programs may not expect"),
        OPT_FLAG('f', "force", &a.force, "replace a file OUT when it is there"),
        OPT_GROUP("The machine"),
        OPT_INT(0, "threads", &a.threads, 0, 1024, "N", "threads to compute with; 0: all that this process may use"),
        OPT_FLAG('v', "verbose", &a.verbose, "say more on standard error"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, rest, 2, &n);
    if (status != OPTIONS_GO_ON) return status;
    if (n != 2) return fail_usage("a model and what to write are expected, as in: aha convert DIR OUT.gguf");
    if ((status = check_out(rest[1], &a)) != 0) return status;
    interrupt_watch(true);
    int rc = convert(&a, rest[0], rest[1], &e);
    return rc ? fail(&e) : CLI_DONE;
}
