/* aha usage: what was used, by key and day. */
#include <stdio.h>
#include <string.h>

#include "database.h"

typedef struct UsageArgs {
    const char *db, *key, *since;
    bool        json;
} UsageArgs;

static const Help HELP = {
    "usage", "[--key NAME] [--since DATE] [--json]",
    "Sums up what clients of aha serve used, by day (UTC) and key: requests, tokens of prompts (and how many of those were found in the cache), "
    "tokens of answers (and how many of those were thinking). '-' stands for requests without a key. A server that runs writes within two seconds.",
    "  aha usage\n"
    "  aha usage --key alice --since 2026-11-01\n"
    "  aha usage --json | jq .total.completion_tokens\n"};

static void add_up(KeyUsage *sum, const KeyUsage *u)
{
    int64_t       *to[] = {&sum->requests, &sum->prompt, &sum->cached, &sum->completion, &sum->reasoning};
    const int64_t *from[] = {&u->requests, &u->prompt, &u->cached, &u->completion, &u->reasoning};
    for (int i = 0; i < (int)ARRAY_LEN(to); i++)
        if (__builtin_add_overflow(*to[i], *from[i], to[i])) *to[i] = INT64_MAX;
}

static void json_counts(Buf *b, const KeyUsage *u)
{
    buf_fmt(b, "\"requests\":%lld,\"prompt_tokens\":%lld,\"cached_tokens\":%lld,\"completion_tokens\":%lld,\"reasoning_tokens\":%lld}", (long long)u->requests,
            (long long)u->prompt, (long long)u->cached, (long long)u->completion, (long long)u->reasoning);
}

static void show_json(const KeyDay *d, int n, const KeyUsage *sum)
{
    Buf  b = {0};
    char date[24];
    buf_str(&b, "{\"days\":[");
    for (int i = 0; i < n; i++) {
        buf_fmt(&b, "%s{\"day\":\"%s\",\"key\":", i ? ",\n " : "", date_words(date, d[i].day * 86400, true));
        if (!strcmp(d[i].name, "-"))
            buf_str(&b, "null,");
        else
            buf_fmt(&b, "\"%s\",", d[i].name);
        json_counts(&b, &d[i].u);
    }
    buf_str(&b, "],\n\"total\":{");
    json_counts(&b, sum);
    buf_str(&b, "}\n");
    out_buf(&b);
    buf_free(&b);
}

static void show_row(int width, const char *day, const char *name, const KeyUsage *u)
{
    out_fmt("%-10s  %-*s  %10lld  %14lld  %14lld  %14lld  %14lld\n", day, width, name, (long long)u->requests, (long long)u->prompt, (long long)u->cached,
            (long long)u->completion, (long long)u->reasoning);
}

static void show_text(const KeyDay *d, int n, const KeyUsage *sum)
{
    char date[24];
    int  width = 5;
    for (int i = 0; i < n; i++)
        if ((int)strlen(d[i].name) > width) width = (int)strlen(d[i].name);
    out_fmt("%-10s  %-*s  %10s  %14s  %14s  %14s  %14s\n", "day", width, "key", "requests", "prompt", "of it cached", "answer", "of it thinking");
    for (int i = 0; i < n; i++) show_row(width, date_words(date, d[i].day * 86400, true), d[i].name, &d[i].u);
    show_row(width, "", "total", sum);
}

int cmd_usage(int argc, char **argv)
{
    UsageArgs    a = {0};
    char         db[DATABASE_PATH_CAP];
    int64_t      from = 0, until;
    KeyDay      *d;
    KeyUsage     sum = {0};
    int          n;
    aha_error    e = {0};
    const Option options[] = {
        OPT_STRING(0, "key", &a.key, "NAME", "of this key alone"),
        OPT_STRING(0, "since", &a.since, "DATE", "from this day on, as 2026-11-01"),
        OPT_DATABASE(&a.db),
        OPT_FLAG(0, "json", &a.json, "the result as JSON"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, NULL, 0, NULL);
    if (status != OPTIONS_GO_ON) return status;
    if (a.since && date_parse(a.since, &from, &until, &e)) return fail_usage("--since: %s", e.text);
    if (database_path(a.db, db, sizeof db, &e)) return fail_usage("%s", e.text);
    if (keys_usage(db, a.key, from / 86400, &d, &n, &e)) return fail(&e);
    for (int i = 0; i < n; i++) add_up(&sum, &d[i].u);
    if (a.json)
        show_json(d, n, &sum);
    else if (n)
        show_text(d, n, &sum);
    else
        say("nothing is written in %s%s%s", db, a.key ? " for " : "", a.key ? a.key : "");
    mem_free(d);
    return CLI_DONE;
}
