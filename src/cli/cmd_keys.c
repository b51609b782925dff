/* aha keys: who may use a server, and how much. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "database.h"

typedef struct KeysArgs {
    const char *db, *rate, *expires, *tokens;
    int         concurrent;
    bool        json;
} KeysArgs;

static const Help HELP = {
    "keys", "add NAME | list | revoke NAME|PREFIX  [OPTIONS]",
    "Makes, shows and revokes the keys by which clients of aha serve are known. As soon as there is one, every request needs one; a server "
    "that runs takes changes up within two seconds. A key is shown once, when it is made: the database keeps a hash of it. It is sent as "
    "'Authorization: Bearer KEY', or put into a client where it asks for an OpenAI key.",
    "  aha keys add alice\n"
    "  aha keys add bob --rate 60/min --concurrent 4 --tokens-per-day 1000000 --expires 2026-12-31\n"
    "  aha keys list\n"
    "  aha keys revoke bob\n"
    "  KEY=$(aha keys add ci) && curl -H \"Authorization: Bearer $KEY\" http://127.0.0.1:8080/v1/models\n"};

/* ---- values ---- */
static bool whole(const char *s, int64_t max, const char *end, int64_t *v)
{
    char *stop;
    if (*s < '0' || *s > '9' || strlen(s) > 18) return false;
    *v = strtoll(s, &stop, 10);
    return *v >= 1 && *v <= max && (!*stop || !strcmp(stop, end));
}

static int spec_read(const KeysArgs *a, KeySpec *s)
{
    char      q[64];
    int64_t   v = 0, from;
    aha_error e = {0};
    if (a->rate && !whole(a->rate, 1000000, "/min", &v)) return fail_usage("--rate is '%s', expected requests a minute, as 60/min", error_quote(q, sizeof q, a->rate, strlen(a->rate)));
    s->limits.per_minute = (int)v;
    v = 0;
    if (a->tokens && !whole(a->tokens, INT64_C(1000000000000000), "", &v))
        return fail_usage("--tokens-per-day is '%s', expected a whole number from 1 to 10^15", error_quote(q, sizeof q, a->tokens, strlen(a->tokens)));
    s->limits.tokens_per_day = v;
    s->limits.concurrent = a->concurrent;
    if (a->expires && date_parse(a->expires, &from, &s->expires, &e)) return fail_usage("--expires: %s", e.text);
    if (a->expires && (double)s->expires <= time_unix()) return fail_usage("--expires: %s is over", error_quote(q, sizeof q, a->expires, strlen(a->expires)));
    return 0;
}

/* ---- add ---- */
static int key_add(const KeysArgs *a, const char *db, const char *name)
{
    KeySpec   s = {.name = name};
    char      key[KEY_TEXT_CAP], date[24];
    aha_error e = {0};
    Buf       b = {0};
    int       status = spec_read(a, &s);
    if (status) return status;
    if (keys_add(db, &s, key, &e)) return fail(&e);
    if (a->json) {
        buf_str(&b, "{\"name\":");
        buf_json(&b, name, strlen(name));
        buf_fmt(&b, ",\"key\":\"%s\",\"prefix\":\"%.*s\"}\n", key, KEY_PREFIX_LEN, key);
    } else {
        buf_fmt(&b, "%s\n", key);
    }
    out_buf(&b);
    buf_free(&b);
    if (s.expires) say("works until %s (UTC)", until_words(date, s.expires));
    if (term_is(STDOUT_FILENO)) say("this is the only time that it is shown; %s keeps its hash", db);
    return CLI_DONE;
}

/* ---- list ---- */
static const char *state_of(const KeyInfo *k)
{
    if (k->revoked) return "revoked";
    return k->expires && time_unix() >= (double)k->expires ? "expired" : "works";
}

static void json_time(Buf *b, const char *name, int64_t s)
{
    char date[24];
    if (s)
        buf_fmt(b, ",\"%s\":\"%s\"", name, date_words(date, s, false));
    else
        buf_fmt(b, ",\"%s\":null", name);
}

static void json_limit(Buf *b, const char *name, int64_t v)
{
    if (v)
        buf_fmt(b, ",\"%s\":%lld", name, (long long)v);
    else
        buf_fmt(b, ",\"%s\":null", name);
}

static void list_json(const KeyInfo *k, int n)
{
    Buf b = {0};
    buf_str(&b, "[");
    for (int i = 0; i < n; i++) {
        buf_fmt(&b, "%s{\"name\":\"%s\",\"prefix\":\"%s\",\"state\":\"%s\"", i ? ",\n " : "", k[i].name, k[i].prefix, state_of(&k[i]));
        json_time(&b, "created", k[i].created);
        json_time(&b, "expires", k[i].expires);
        json_time(&b, "revoked", k[i].revoked);
        json_limit(&b, "requests_per_minute", k[i].limits.per_minute);
        json_limit(&b, "concurrent", k[i].limits.concurrent);
        json_limit(&b, "tokens_per_day", k[i].limits.tokens_per_day);
        buf_str(&b, "}");
    }
    buf_str(&b, "]\n");
    out_buf(&b);
    buf_free(&b);
}

static const char *limit_words(char dst[32], int64_t v)
{
    if (v)
        snprintf(dst, 32, "%lld", (long long)v);
    else
        snprintf(dst, 32, "-");
    return dst;
}

static void list_text(const KeyInfo *k, int n)
{
    char a[32], b[32], c[32], made[24], end[24];
    int  width = 4;
    for (int i = 0; i < n; i++)
        if ((int)strlen(k[i].name) > width) width = (int)strlen(k[i].name);
    out_fmt("%-*s  %-10s  %-7s  %-10s  %-20s  %7s  %10s  %13s\n", width, "name", "prefix", "state", "made", "until", "req/min", "concurrent", "tokens/day");
    for (int i = 0; i < n; i++)
        out_fmt("%-*s  %-10s  %-7s  %-10s  %-20s  %7s  %10s  %13s\n", width, k[i].name, k[i].prefix, state_of(&k[i]), date_words(made, k[i].created, true),
                k[i].expires ? until_words(end, k[i].expires) : "-", limit_words(a, k[i].limits.per_minute), limit_words(b, k[i].limits.concurrent),
                limit_words(c, k[i].limits.tokens_per_day));
}

static int key_list(const KeysArgs *a, const char *db)
{
    KeyInfo  *k;
    int       n;
    aha_error e = {0};
    if (keys_list(db, &k, &n, &e)) return fail(&e);
    if (a->json)
        list_json(k, n);
    else if (n)
        list_text(k, n);
    else
        say("no keys in %s", db);
    mem_free(k);
    return CLI_DONE;
}

/* ---- revoke ---- */
static int key_revoke(const KeysArgs *a, const char *db, const char *what)
{
    KeyInfo   k;
    aha_error e = {0};
    if (keys_revoke(db, what, &k, &e)) return fail(&e);
    if (a->json)
        out_fmt("{\"name\":\"%s\",\"prefix\":\"%s\"}\n", k.name, k.prefix);
    else
        out_fmt("%s (%s) is revoked\n", k.name, k.prefix);
    return CLI_DONE;
}

int cmd_keys(int argc, char **argv)
{
    static const char *const VERBS[] = {"add", "list", "revoke"};
    KeysArgs     a = {0};
    const char  *rest[2] = {NULL, NULL}, *near;
    char         db[DATABASE_PATH_CAP], q[64];
    aha_error    e = {0};
    int          n = 0;
    const Option options[] = {
        OPT_GROUP("Limits of a key that is made; without one there is no limit"),
        OPT_STRING(0, "rate", &a.rate, "N/min", "requests a minute"),
        OPT_INT(0, "concurrent", &a.concurrent, 1, 1000000, "N", "requests at the same time"),
        OPT_STRING(0, "tokens-per-day", &a.tokens, "N", "tokens of prompts and answers in a day (UTC); the request that passes it is finished"),
        OPT_STRING(0, "expires", &a.expires, "DATE", "the last day on which it works, as 2026-12-31 (UTC), or the moment, as 2026-12-31T18:00:00Z"),
        OPT_GROUP("Everywhere"),
        OPT_DATABASE(&a.db),
        OPT_FLAG(0, "json", &a.json, "the result as JSON"),
        OPT_END};
    int status = options_parse(&HELP, options, argc, argv, rest, 2, &n);
    if (status != OPTIONS_GO_ON) return status;
    if (n < 1) return fail_usage("one of add, list, revoke is expected");
    bool adds = !strcmp(rest[0], "add"), lists = !strcmp(rest[0], "list"), revokes = !strcmp(rest[0], "revoke");
    if (!adds && !lists && !revokes) {
        near = name_nearest(rest[0], VERBS, (int)ARRAY_LEN(VERBS));
        return fail_usage("'%s' is none of add, list, revoke%s%s%s", error_quote(q, sizeof q, rest[0], strlen(rest[0])), near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    if (!adds && (a.rate || a.concurrent || a.tokens || a.expires)) return fail_usage("limits are given when a key is made: aha keys add NAME --rate ...");
    if (!lists && n < 2) return fail_usage(adds ? "a name for the key is expected" : "the name of a key, or its prefix, is expected");
    if (lists && n > 1) return fail_usage("unexpected argument '%s'", error_quote(q, sizeof q, rest[1], strlen(rest[1])));
    if (database_path(a.db, db, sizeof db, &e)) return fail_usage("%s", e.text);
    return adds ? key_add(&a, db, rest[1]) : lists ? key_list(&a, db) : key_revoke(&a, db, rest[1]);
}
