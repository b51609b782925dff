/* aha pull: a model from the hub. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "pull.h"

typedef struct PullArgs {
    const char *to, *rev, *pattern;
    int         connections, tries;
    bool        offline, json, verbose;
} PullArgs;

static const Help HELP = {
    "pull", "REPO[:TYPE] [--to DIR] [--revision REV] [--file PATTERN]",
    "Fetches a model from the Hugging Face hub into the cache that other tools share, checks every byte of it, and prints where "
    "it is: a folder, or with TYPE the GGUF file (of a split one the first). Without TYPE it takes the safetensors; of a "
    "repository that has only GGUF files it shows the types to choose from. Whatever interrupts it, the same command goes on "
    "where it was; what is there already is not fetched again. Without a network (--offline, HF_HUB_OFFLINE=1) the cache answers: files "
    "up to 16 MB are compared with their hashes, larger weights with the sizes that their headers tell, and what is not whole is named.\n"
    "Environment: HF_TOKEN for private and gated models, HF_ENDPOINT for a mirror, HF_HOME or HF_HUB_CACHE for the place of the "
    "cache, https_proxy and no_proxy as curl reads them, SSL_CERT_FILE for other certificates than the system's.",
    "  aha run -m $(aha pull deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B) \"Make 29 from 8, 13 and 2.\"\n"
    "  aha pull unsloth/DeepSeek-R1-0528-Qwen3-8B-GGUF:Q4_K_M\n"
    "  aha pull ORG/NAME --to models/name --revision v1.0\n"
    "  aha pull --offline ORG/NAME:Q4_K_M\n"
    "  aha pull ORG/NAME --file '*.json,README.md'\n"};

static bool same_content(const Blob *b, int n, const char *oid)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(b[i].file->oid, oid)) return true;
    return false;
}

/* The files that are wanted, one blob each; in the cache equal contents are one. */
static int make_blobs(const Place *p, const HubEnv *v, const HubList *l, Blob *blob, int *n, aha_error *e)
{
    int rc = 0;
    for (int i = 0; i < l->n && rc == 0; i++) {
        const HubFile *f = &l->file[i];
        if (!f->wanted || (!p->to && same_content(blob, *n, f->oid))) continue;
        rc = place_blob(p, v, f, &blob[*n], e);
        ++*n;
    }
    return rc;
}

/* What is here already, of whole files and of parts; the rest must fit on the disk. */
static int take_stock(const Place *p, Blob *blob, int n, aha_error *e)
{
    int64_t missing = 0;
    int     rc = 0;
    for (int i = 0; i < n && rc >= 0; i++) {
        File f;
        rc = blob_look(&blob[i], e);
        if (rc < 0) break;
        if (rc > 0) {
            blob[i].state = BLOB_DONE;
            continue;
        }
        missing += blob[i].file->size;
        if (!file_open(&f, blob[i].partial_path, NULL)) {
            Partial part = {.f = f, .size = blob[i].file->size};
            missing -= partial_peek(&part, blob[i].file->oid);
            file_close(&f);
        }
    }
    return rc < 0 ? rc : place_room(p, missing, e);
}

static int put_result(const Place *p, const HubList *l, const Selection *s, bool json, aha_error *e)
{
    char path[PULL_PATH_CAP], file[PULL_PATH_CAP];
    Buf  b = {0};
    bool first = true;
    int  rc = 0;
    snprintf(path, sizeof path, "%s", p->folder);
    if (s->gguf >= 0) rc = place_path(p, &l->file[s->gguf], path, e);
    if (json) {
        buf_str(&b, "{\"path\":");
        buf_json(&b, path, strlen(path));
        buf_str(&b, ",\"folder\":");
        buf_json(&b, p->folder, strlen(p->folder));
        buf_fmt(&b, ",\"commit\":\"%s\",\"bytes\":%lld,\"files\":[", l->commit, (long long)s->bytes);
    } else {
        buf_fmt(&b, "%s\n", path);
    }
    for (int i = 0; i < l->n && json && rc == 0; i++) {
        if (!l->file[i].wanted) continue;
        rc = place_path(p, &l->file[i], file, e);
        buf_str(&b, first ? "" : ",");
        buf_json(&b, file, strlen(file));
        first = false;
    }
    if (json) buf_str(&b, "]}\n");
    if (rc == 0) out_buf(&b);
    buf_free(&b);
    return rc;
}

static int fetch(const PullArgs *a, const HubEnv *v, HubList *l, const Selection *s, Place *p, aha_error *e)
{
    Blob *blob = mem_zalloc((size_t)s->files, sizeof *blob);
    char  size[32];
    int   n = 0, rc;
    if (!blob) return error_set(e, AHA_ERR_NOMEM, "no memory for a list of %d files", s->files);
    for (int i = 0; i < s->files; i++) blob[i].part.f.fd = -1;
    rc = make_blobs(p, v, l, blob, &n, e);
    if (rc == 0) rc = take_stock(p, blob, n, e);
    if (rc == 0) {
        int64_t have = 0;
        if (term_is(STDERR_FILENO)) say("%s: %d files, %s", l->repo, s->files, bytes_words(size, (double)s->bytes));
        rc = fetch_all(v, l, blob, n, a->connections, e);
        for (int i = 0; i < n && rc; i++) have += blob_have(&blob[i]);
        if (have) say("%s of it are here and kept: the same command goes on from there", bytes_words(size, (double)have));
    }
    for (int i = 0; i < n; i++) blob_free(&blob[i]);
    mem_free(blob);
    return rc;
}

static int pull(const PullArgs *a, const char *repo, const char *type, aha_error *e)
{
    HubEnv    v;
    HubList   l = {0};
    Selection s = {.type = type, .pattern = a->pattern};
    Place     p;
    int       rc = hub_env_read(&v, e);
    v.tries = a->tries;
    v.offline |= a->offline;
    if (rc == 0 && v.offline && a->to) rc = error_set(e, AHA_ERR_ARG, "--to fetches, and %s: only the cache answers without a network",
                                                      a->offline ? "--offline forbids it" : "HF_HUB_OFFLINE forbids it");
    if (rc == 0) rc = v.offline ? cache_list(&l, &v, repo, a->rev, e) : hub_list(&l, &v, repo, a->rev, e);
    if (rc == 0 && (rc = select_files(&s, &l, e)) != 0 && v.offline) {
        error_prefix(e, rc, "offline");
        rc = e->code = AHA_ERR_IO; /* the same words are right with a network */
    }
    if (rc == 0 && s.choose) {
        Buf b = {0};
        if (a->json) select_json_types(&l, &b);
        if (a->json) out_buf(&b);
        else select_show_types(&l);
        buf_free(&b);
        rc = 1;
    }
    if (rc == 0 && v.offline) {
        rc = place_names(&p, &v, &l, NULL, e);
        if (rc == 0) rc = cache_check(&l, &p, &s, e);
    } else {
        if (rc == 0) rc = place_init(&p, &v, &l, a->to, e);
        if (rc == 0) rc = fetch(a, &v, &l, &s, &p, e);
        if (rc == 0) rc = place_finish(&p, e);
    }
    if (rc == 0) rc = put_result(&p, &l, &s, a->json, e);
    hub_list_free(&l);
    memset(v.token, 0, sizeof v.token);
    return rc;
}

int cmd_pull(int argc, char **argv)
{
    PullArgs     a = {.rev = "main", .connections = 8, .tries = 8};
    aha_error    e = {0};
    const char  *arg = NULL;
    char         repo[HUB_REPO_CAP], type[HUB_TYPE_CAP];
    int          n = 0, rc;
    const Option options[] = {
        OPT_STRING(0, "to", &a.to, "DIR", "into this folder, without the cache"),
        OPT_STRING(0, "revision", &a.rev, "REV", "a branch, a tag or a commit"),
        OPT_STRING(0, "file", &a.pattern, "PATTERN", "these files instead, such as '*.json'; commas between several"),
        OPT_FLAG(0, "offline", &a.offline, "no network: from the cache, or say what it lacks"),
        OPT_INT(0, "connections", &a.connections, 1, PULL_CONNECTIONS_MAX, "N", "pieces fetched at the same time"),
        OPT_INT(0, "tries", &a.tries, 1, 1000, "N", "failures in a row of one piece until it is given up"),
        OPT_FLAG(0, "json", &a.json, "one JSON object: path, folder, commit, bytes, files"),
        OPT_FLAG('v', "verbose", &a.verbose, "say what fails and is tried again"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, &arg, 1, &n);
    if (status != OPTIONS_GO_ON) return status;
    if (n < 1) return fail_usage("a repository is expected, such as deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B");
    if (a.to && !*a.to) return fail_usage("--to needs a folder's name");
    if (repo_parse(arg, repo, type, &e) || revision_check(a.rev, &e)) return fail_usage("%s", e.text);
    if (type[0] && a.pattern) return fail_usage("'%s' and --file both choose files: one of them is enough", type);
    if (a.verbose) cli_verbose();
    interrupt_watch(true);
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) return fail_usage("libcurl cannot start");
    rc = pull(&a, repo, type, &e);
    curl_global_cleanup();
    return rc > 0 ? CLI_USAGE : rc ? fail(&e) : CLI_DONE;
}
