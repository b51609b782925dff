/* aha serve: the model for others, over HTTP. */
#include <signal.h>
#include <string.h>

#include "../serve/serve.h"
#include "database.h"
#include "model_open.h"

typedef struct ServeArgs {
    ModelArgs   model;
    const char *host, *name, *hosts, *origins, *db, *tls_cert, *tls_key, *cache_file;
    int         port, parallel, queue, drain_s, patience_s, cache_idle_s;
    int64_t     cache, cache_file_bytes, body;
    bool        log, no_keys;
    Keys       *keys;
} ServeArgs;

static const Help HELP = {
    "serve", "[-m DIR] [--host ADDRESS] [--port N] [OPTIONS]",
    "Serves a model over HTTP, as OpenAI's and DeepSeek's APIs are spoken: POST /v1/chat/completions, streaming or not, GET /v1/models, "
    "/health and /metrics. Requests are computed together; each has the answer that it would have alone. SIGTERM or Ctrl-C: what is "
    "under way is finished, nothing new is taken. docs/api.md lists every field. Who may ask and how much, aha keys says.",
    "  aha serve                                    # the built-in model at http://127.0.0.1:8080\n"
    "  aha serve -m DeepSeek-R1-Distill-Qwen-1.5B --port 9000 --parallel 16\n"
    "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
    "    -d '{\"model\": \"aha-tiny\", \"messages\": [{\"role\": \"user\", \"content\": \"Using 8, 13 and 2, make 29.\"}]}'\n"};

static void ready(void *user, const char *url)
{
    const ServeArgs *a = user;
    say("serving %s at %s", a->name, url);
}

/* Where nobody named a database and the usual place cannot have one, that is no reason not to serve.  One that is there and cannot be
 * read is: it may hold keys, without which everybody could ask. */
static int open_keys(ServeArgs *a, aha_error *e)
{
    char path[DATABASE_PATH_CAP];
    bool named = a->db || *knob_get("AHA_DB"), there;
    int  rc = database_path(a->db, path, sizeof path, e);
    there = rc == 0 && (file_exists(path) || dir_exists(path));
    if (rc == 0) rc = keys_open(&a->keys, path, NULL, e);
    if (rc && !named && !there && (rc == AHA_ERR_IO || rc == AHA_ERR_ARG)) {
        say("usage is not written, and there are no keys: %s", e->text);
        rc = keys_open(&a->keys, NULL, NULL, e);
    }
    return rc ? rc : keys_address_check(a->host, keys_usable(a->keys), a->no_keys, e);
}

static int serve(ServeArgs *a, aha_error *e)
{
    aha_engine *g = NULL;
    const char *name;
    int         rc = open_keys(a, e);
    if (rc == 0) rc = model_engine_open(&g, &a->model, a->parallel, a->cache, &name, e);
    if (rc) {
        keys_close(a->keys);
        return rc;
    }
    if (!a->name) a->name = name;
    interrupt_watch(true);
    if (a->tls_cert) hangup_watch(); /* says "read the certificate again" then, and not "end" */
    const ServeOptions o = {.host = a->host, .port = a->port, .model = a->name, .hosts = a->hosts, .origins = a->origins, .keys = a->keys, .queue = a->queue,
                            .body_bytes = a->body, .drain_s = a->drain_s, .patience_s = a->patience_s, .log_requests = a->log, .stop = interrupted, .ready = ready,
                            .cache_file = a->cache_file, .cache_file_bytes = a->cache_file_bytes, .cache_file_idle_s = a->cache_idle_s,
                            .tls_cert = a->tls_cert, .tls_key = a->tls_key, .file = serve_page, .n_file = serve_page_files, .reload = hung_up,
                            .user = a};
    if (a->log) cli_verbose();
    rc = serve_run(g, &o, e);
    interrupt_clear();
    keys_close(a->keys);
    aha_engine_free(g);
    return rc;
}

int cmd_serve(int argc, char **argv)
{
    ServeArgs    a = {.model = MODEL_ARGS_INIT, .host = "127.0.0.1", .port = 8080, .parallel = 64, .queue = 256, .drain_s = 30, .patience_s = 15, .body = 4 << 20,
                                  .cache_file_bytes = 1 << 30, .cache_idle_s = 60};
    aha_error    e = {0};
    const Option options[] = {
        OPT_GROUP("The server"),
        OPT_MODEL(&a.model),
        OPT_STRING(0, "host", &a.host, "ADDRESS", "address or name to listen on"),
        OPT_INT(0, "port", &a.port, 0, 65535, "N", "0: any that is free, which is then said"),
        OPT_STRING(0, "name", &a.name, "NAMES", "what requests call the model, several after commas; without it the folder's name"),
        OPT_STRING(0, "allow-host", &a.hosts, "NAMES", "further names under which browsers may reach this server, after commas"),
        OPT_STRING(0, "allow-origin", &a.origins, "ORIGINS", "pages of others that may use it, as https://example.org, after commas"),
        OPT_STRING(0, "tls-cert", &a.tls_cert, "FILE", "speak https with this certificate (PEM, with those that lead to an authority's); new contents are taken up within a minute, or at SIGHUP"),
        OPT_STRING(0, "tls-key", &a.tls_key, "FILE", "its private key (PEM)"),
        OPT_DATABASE(&a.db),
        OPT_FLAG(0, "no-keys", &a.no_keys, "listen on other addresses than this machine's own though there is no key: everybody may ask"),
        OPT_GROUP("How much"),
        OPT_INT(0, "parallel", &a.parallel, 1, 4096, "N", "answers computed at once"),
        OPT_INT(0, "queue", &a.queue, 0, 1 << 16, "N", "requests that may wait besides; more are refused with 503"),
        OPT_SIZE(0, "cache", &a.cache, 0, 1ll << 50, "BYTES", "memory of keys and values; without it as much as N contexts need, at most half of the memory"),
        OPT_STRING(0, "cache-file", &a.cache_file, "FILE", "keep that memory here between runs: read at the start, saved at the end and when nothing is asked for a while. It holds conversations, and is its owner's alone"),
        OPT_SIZE(0, "cache-file-max", &a.cache_file_bytes, 0, 1ll << 50, "BYTES", "of it at most, what was used last; 0: as large as it gets"),
        OPT_INT(0, "cache-file-idle", &a.cache_idle_s, 0, 86400, "SECONDS", "without a request until it is saved, if there is something new; 0: at the end alone"),
        OPT_SIZE(0, "body", &a.body, 1024, 64 << 20, "BYTES", "largest body of a request"),
        OPT_INT(0, "patience", &a.patience_s, 1, 3600, "SECONDS", "for a client that sends slowly, or does not read its answer"),
        OPT_INT(0, "drain", &a.drain_s, 0, 86400, "SECONDS", "at the end, time for what is under way"),
        OPT_FLAG(0, "log", &a.log, "a line for each request on standard error; never what was asked or answered"),
        OPT_ENGINE(&a.model),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (!a.tls_cert != !a.tls_key) return fail_usage("--tls-cert and --tls-key belong together");
    return serve(&a, &e) ? fail(&e) : CLI_DONE;
}
