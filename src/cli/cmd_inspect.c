/* aha inspect: what is in a model, and whether it is sound. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inspect.h"

typedef struct InspectArgs {
    ModelArgs model;
    bool      json, tensors;
    int       scan;
} InspectArgs;

static const Help HELP = {
    "inspect", "FILE|DIR [OPTIONS]",
    "Shows what a model's folder or file holds: architecture, parameters, types, tokenizer, chat form. It is sound when every tensor "
    "that config.json or a GGUF file's metadata asks for is there with its shape and every number is finite (numbers are read up to 512 MB, or with --data); "
    "otherwise the exit status is 1.",
    "  aha inspect DeepSeek-R1-Distill-Qwen-1.5B\n"
    "  aha inspect model-00001-of-00002.safetensors --tensors\n"
    "  aha inspect DeepSeek-R1-UD-IQ1_S-00001-of-00003.gguf\n"
    "  aha inspect runs/laptop/rl --json | jq .parameters\n"};

static const char *tensor_shape(const TensorInfo *t, const char *open, const char *join, const char *close, char dst[96])
{
    int n = snprintf(dst, 96, "%s", open);
    for (int d = 0; d < t->n_dims; d++) n += snprintf(dst + n, 96 - (size_t)n, "%s%lld", d ? join : "", (long long)t->dim[d]);
    snprintf(dst + n, 96 - (size_t)n, "%s", close);
    return dst;
}

static const char *grouped(int64_t v, char dst[32]) /* 1,234,567 */
{
    char raw[32];
    int  n = snprintf(raw, sizeof raw, "%lld", (long long)v), k = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0 && raw[i - 1] != '-') dst[k++] = ',';
        dst[k++] = raw[i];
    }
    dst[k] = 0;
    return dst;
}

/* ---- for people ---- */
static void show_config(const Config *c)
{
    static const char *const ROPE[] = {[ROPE_NONE] = "", [ROPE_YARN] = ", YaRN", [ROPE_LLAMA3] = ", Llama 3's scaling", [ROPE_LINEAR] = ", linear"};
    out_fmt("  shape        %d layers, width %d, %d heads, feed-forward %d, vocabulary %d, positions %d\n", c->n_layer, c->d_model, c->n_head,
            c->d_ff, c->vocab, c->max_pos);
    if (c->arch == ARCH_DEEPSEEK_V3) {
        out_fmt("  attention    latent (MLA): keys and values in %d + %d numbers a position; heads of %d + %d, values %d", c->kv_lora, c->rope_dim,
                c->nope, c->rope_dim, c->v_dim);
        out_fmt(c->q_lora ? "; query latent %d\n" : "\n", c->q_lora);
    } else {
        out_fmt("  attention    %d key heads of %d%s%s\n", c->n_kv_head, c->head_dim, c->qkv_bias ? ", biases" : "", c->qk_norm ? ", normed" : "");
    }
    out_fmt("  rope         theta %g%s", c->rope.theta, ROPE[c->rope.kind]);
    if (c->rope.kind != ROPE_NONE) out_fmt(" by %g", c->rope.factor);
    out_str(c->rope.interleaved ? ", pairs interleaved\n" : ", halves\n");
    if (c->n_expert)
        out_fmt("  experts      %d a layer of width %d, %d used, %d shared; %d dense layer%s first\n", c->n_expert, c->d_expert, c->n_expert_used,
                c->n_shared, c->n_dense_first, c->n_dense_first == 1 ? "" : "s");
    if (c->n_mtp) out_fmt("  draft layer  %d (multi-token prediction)\n", c->n_mtp);
    if (c->tied_embeddings) out_str("  head         the embedding (tied)\n");
    if (c->fp8) out_str("  quantised    FP8, blocks of 128 x 128\n");
}

static void show_groups(const Inspection *x)
{
    char n[32], b[32];
    out_fmt("  %-20s %8s %16s %10s\n", "group", "tensors", "parameters", "bytes");
    for (int g = 0; g < GROUP_COUNT; g++)
        if (x->group[g].tensors)
            out_fmt("  %-20s %8lld %16s %10s\n", group_name((Group)g), (long long)x->group[g].tensors, grouped(x->group[g].params, n),
                    bytes_words(b, x->group[g].bytes));
    out_fmt("  %-20s %8lld %16s %10s\n", "all", (long long)x->all.tensors, grouped(x->all.params, n), bytes_words(b, x->all.bytes));
}

static void show_types(const Inspection *x)
{
    char b[32];
    bool first = true;
    for (int t = 0; t < DT_COUNT; t++) {
        if (!x->dtype[t].tensors) continue;
        out_fmt("%s%lld tensors %s (%s)", first ? "  types        " : ", ", (long long)x->dtype[t].tensors, dtype_info((Dtype)t)->name,
                bytes_words(b, x->dtype[t].bytes));
        first = false;
    }
    if (!first) out_fmt(", in %d file%s\n", x->shards, x->shards == 1 ? "" : "s");
}

static int added_count(const Tokenizer *t)
{
    int n = 0;
    for (int32_t i = 0; i < tokenizer_vocab(t); i++) n += tokenizer_is_added(t, i);
    return n;
}

static void show_words(const Inspection *x)
{
    const Tokenizer *t = x->words.tok;
    out_fmt("  tokenizer    %d ids, %d of them added\n", tokenizer_vocab(t), added_count(t));
    if (!x->m) return;
    out_fmt("  chat form    %s%s\n", chat_template_name(x->words.form), x->words.form_known ? "" : " (a guess: the model's own was not recognised)");
    out_str("  ends at     ");
    for (int i = 0; i < x->words.n_stop; i++) {
        size_t      n;
        const char *s = tokenizer_bytes(t, x->words.stop[i], &n);
        out_fmt(" %d ", x->words.stop[i]);
        out_text(s, n);
    }
    out_str("\n");
}

/* A tensor's name is the file's: no terminal may obey it. */
static void show_note(int n, const char *what, const char *first)
{
    if (!n) return;
    out_fmt("  note         %d tensors are %s, the first is ", n, what);
    out_text(first, strlen(first));
    out_str("\n");
}

static void show_verdict(const Inspection *x)
{
    const char *red = term_style(STDOUT_FILENO, STYLE_RED), *green = term_style(STDOUT_FILENO, STYLE_GREEN);
    const char *off = term_style(STDOUT_FILENO, STYLE_OFF);
    for (int i = 0; i < x->n_taken; i++) {
        out_str("  note         ");
        out_text(x->taken[i], strlen(x->taken[i]));
        out_str("\n");
    }
    show_note(x->unused, "not used", x->unused_name);
    show_note(x->all_zero, "all zero", x->all_zero_name);
    for (int i = 0; i < x->n_problem; i++) out_fmt("  %sproblem%s      %s\n", red, off, x->problem[i]);
    if (x->n_problem) return;
    out_fmt("  %ssound%s        ", green, off);
    if (x->m) out_fmt("every tensor that %s asks for is there with its shape", x->m->gguf ? "the metadata" : "config.json");
    else out_str("well-formed");
    if (x->file) out_str(x->scanned ? "; every number is finite" : "; the numbers were not read (--data reads them)");
    out_str("\n");
}

static void show_tensors(const Inspection *x)
{
    char shape[96], b[32];
    for (int i = 0; i < weights_count(x->file); i++) {
        const TensorInfo *t = weights_at(x->file, i);
        out_fmt("%-8s %-16s %10s  ", dtype_info(t->dtype)->name, tensor_shape(t, "", " x ", "", shape), bytes_words(b, (double)t->bytes));
        out_text(t->name, strlen(t->name));
        out_str("\n");
    }
}

static void show_text(const Inspection *x, bool tensors)
{
    char all[32], active[32];
    out_fmt("%s%s", x->path, x->has_config || x->m ? ": " : "");
    if (x->has_config) out_fmt("%s", x->cfg.model_type);
    if (x->m) {
        out_fmt(", %s parameters", count_words(all, (double)x->params));
        if (x->active != x->params) out_fmt(" (%s used for a token)", count_words(active, (double)x->active));
    }
    out_str("\n");
    if (x->has_config) show_config(&x->cfg);
    if (x->file) show_types(x);
    if (x->has_words) show_words(x);
    else if (x->is_folder) out_str("  tokenizer    none\n");
    else if (x->file && gguf_kv_find(x->file, "tokenizer.ggml.tokens"))
        out_fmt("  tokenizer    %lld ids, in the file\n", (long long)gguf_kv_find(x->file, "tokenizer.ggml.tokens")->n);
    show_verdict(x);
    if (x->file) {
        out_str("\n");
        if (tensors)
            show_tensors(x);
        else
            show_groups(x);
    }
}

/* ---- for programs ---- */
static void json_count(Buf *b, const char *name, const Count *c)
{
    buf_json(b, name, strlen(name));
    buf_fmt(b, ":{\"tensors\":%lld,\"parameters\":%lld,\"bytes\":%.0f}", (long long)c->tensors, (long long)c->params, c->bytes);
}

static void json_config(Buf *b, const Config *c)
{
    buf_str(b, ",\"arch\":");
    buf_json(b, c->model_type, strlen(c->model_type));
    buf_fmt(b, ",\"shape\":{\"layers\":%d,\"width\":%d,\"heads\":%d,\"key_heads\":%d,\"head_dim\":%d,\"feed_forward\":%d,\"vocab\":%d,\"positions\":%d",
            c->n_layer, c->d_model, c->n_head, c->n_kv_head, c->head_dim, c->d_ff, c->vocab, c->max_pos);
    if (c->arch == ARCH_DEEPSEEK_V3)
        buf_fmt(b, ",\"kv_latent\":%d,\"q_latent\":%d,\"nope\":%d,\"rope\":%d,\"value\":%d", c->kv_lora, c->q_lora, c->nope, c->rope_dim, c->v_dim);
    if (c->n_expert)
        buf_fmt(b, ",\"experts\":%d,\"experts_used\":%d,\"experts_shared\":%d,\"expert_width\":%d,\"dense_first\":%d", c->n_expert,
                c->n_expert_used, c->n_shared, c->d_expert, c->n_dense_first);
    buf_fmt(b, ",\"draft_layers\":%d,\"tied\":%s,\"fp8\":%s}", c->n_mtp, c->tied_embeddings ? "true" : "false", c->fp8 ? "true" : "false");
}

static void json_words(Buf *b, const Inspection *x)
{
    buf_fmt(b, ",\"tokenizer\":{\"ids\":%d,\"added\":%d}", tokenizer_vocab(x->words.tok), added_count(x->words.tok));
    if (!x->m) return;
    buf_fmt(b, ",\"chat_form\":\"%s\",\"chat_form_recognised\":%s,\"stop\":[", chat_template_name(x->words.form),
            x->words.form_known ? "true" : "false");
    for (int i = 0; i < x->words.n_stop; i++) buf_fmt(b, "%s%d", i ? "," : "", x->words.stop[i]);
    buf_str(b, "]");
}

static void json_weights(Buf *b, const Inspection *x, bool tensors)
{
    const char *comma = "";
    char        shape[96];
    buf_fmt(b, ",\"tensors\":%lld,\"bytes\":%.0f,\"files\":%d,\"types\":{", (long long)x->all.tensors, x->all.bytes, x->shards);
    for (int t = 0; t < DT_COUNT; t++) {
        if (!x->dtype[t].tensors) continue;
        buf_str(b, comma);
        json_count(b, dtype_info((Dtype)t)->name, &x->dtype[t]);
        comma = ",";
    }
    buf_str(b, "},\"groups\":{");
    comma = "";
    for (int g = 0; g < GROUP_COUNT; g++) {
        if (!x->group[g].tensors) continue;
        buf_str(b, comma);
        json_count(b, group_name((Group)g), &x->group[g]);
        comma = ",";
    }
    buf_fmt(b, "},\"unused\":%d,\"all_zero\":%d,\"numbers_read\":%s,\"not_finite\":%lld", x->unused, x->all_zero, x->scanned ? "true" : "false",
            (long long)x->not_finite);
    if (!tensors) return;
    buf_str(b, ",\"tensor_list\":[");
    for (int i = 0; i < weights_count(x->file); i++) {
        const TensorInfo *t = weights_at(x->file, i);
        buf_str(b, i ? ",{\"name\":" : "{\"name\":");
        buf_json(b, t->name, strlen(t->name));
        buf_fmt(b, ",\"type\":\"%s\",\"shape\":%s,\"bytes\":%zu,\"file\":%d}", dtype_info(t->dtype)->name,
                tensor_shape(t, "[", ",", "]", shape), t->bytes, t->shard);
    }
    buf_str(b, "]");
}

static void show_json(const Inspection *x, bool tensors)
{
    Buf b = {0};
    buf_str(&b, "{\"path\":");
    buf_json(&b, x->path, strlen(x->path));
    buf_fmt(&b, ",\"sound\":%s,\"problems\":[", x->n_problem ? "false" : "true");
    for (int i = 0; i < x->n_problem; i++) {
        if (i) buf_str(&b, ",");
        buf_json(&b, x->problem[i], strlen(x->problem[i]));
    }
    buf_str(&b, "],\"taken\":[");
    for (int i = 0; i < x->n_taken; i++) {
        if (i) buf_str(&b, ",");
        buf_json(&b, x->taken[i], strlen(x->taken[i]));
    }
    buf_str(&b, "]");
    if (x->has_config) json_config(&b, &x->cfg);
    if (x->m) buf_fmt(&b, ",\"parameters\":%lld,\"parameters_active\":%lld", (long long)x->params, (long long)x->active);
    if (x->has_words) json_words(&b, x);
    if (x->file) json_weights(&b, x, tensors);
    buf_str(&b, "}\n");
    out_buf(&b);
    buf_free(&b);
}

int cmd_inspect(int argc, char **argv)
{
    InspectArgs a = {.model = MODEL_ARGS_INIT, .scan = -1};
    Inspection  x;
    aha_error   e = {0};
    const char *path = NULL;
    const Option options[] = {
        OPT_MODEL(&a.model),
        OPT_FLAG(0, "tensors", &a.tensors, "list every tensor"),
        OPT_SWITCH("data", &a.scan, "read every number, however many; without this up to 512 MB"),
        OPT_FLAG(0, "json", &a.json, "one JSON object"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, &path, 1, NULL);
    if (status != OPTIONS_GO_ON) return status;
    status = CLI_DONE;
    if (inspect_read(&x, &a.model, path, a.scan, &e)) {
        status = fail(&e);
    } else {
        if (a.json)
            show_json(&x, a.tensors);
        else
            show_text(&x, a.tensors);
        if (x.n_problem) status = CLI_FAILED;
    }
    inspect_free(&x);
    return status;
}
