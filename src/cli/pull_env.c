/* The environment that aha pull shares with the hub's other tools: HF_* by way of the knobs, and the home folder. */
#include "pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int home_of(char *dst, size_t cap, aha_error *e)
{
    const char *home = getenv("HOME");
    if (!home || home[0] != '/') return error_set(e, AHA_ERR_ARG, "HOME names no folder, so there is no place for the cache; HF_HOME or --to DIR names one");
    if ((size_t)snprintf(dst, cap, "%s", home) >= cap) return error_set(e, AHA_ERR_LIMIT, "HOME is longer than %zu bytes", cap - 1);
    return 0;
}

/* "~/x" as others read it; a relative path stays one */
static int expand(char *dst, size_t cap, const char *path, aha_error *e)
{
    char home[PULL_PATH_CAP];
    int  rc;
    if (path[0] != '~' || (path[1] && path[1] != '/')) return path_join(dst, cap, path[0] == '/' ? "/" : ".", path + (path[0] == '/'), e);
    if ((rc = home_of(home, sizeof home, e)) != 0) return rc;
    return path_join(dst, cap, home, path[1] ? path + 2 : "", e);
}

static int read_folders(HubEnv *v, char hf_home[PULL_PATH_CAP], aha_error *e)
{
    const char *set = knob_get("HF_HOME"), *cache = knob_get("HF_HUB_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
    char        home[PULL_PATH_CAP];
    int         rc = 0;
    hf_home[0] = 0;
    if (*set) {
        rc = expand(hf_home, PULL_PATH_CAP, set, e);
    } else if (xdg && *xdg) {
        rc = path_join(hf_home, PULL_PATH_CAP, xdg, "huggingface", e);
    } else if ((rc = home_of(home, sizeof home, *cache ? NULL : e)) == 0) {
        rc = path_join(hf_home, PULL_PATH_CAP, home, ".cache/huggingface", e);
    }
    if (*cache) return expand(v->cache, sizeof v->cache, cache, e); /* then no home is needed */
    return rc ? rc : path_join(v->cache, sizeof v->cache, hf_home, "hub", e);
}

/* A token is sent in a header line: nothing may be in it that ends the line. */
static int token_take(HubEnv *v, const char *s, size_t n, const char *from, aha_error *e)
{
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    while (n && strchr(" \t\r\n", s[0])) s++, n--;
    if (n >= sizeof v->token) return error_set(e, AHA_ERR_ARG, "%s: a token of %zu bytes, at most %zu expected", from, n, sizeof v->token - 1);
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~') return error_set(e, AHA_ERR_ARG, "%s: the token's byte %zu is no letter, digit or sign, as tokens are made of", from, i);
    memcpy(v->token, s, n);
    v->token[n] = 0;
    return 0;
}

static int read_token(HubEnv *v, const char *hf_home, aha_error *e)
{
    const char *set = knob_get("HF_TOKEN");
    char        path[PULL_PATH_CAP], *text;
    size_t      n;
    int         rc;
    if (*set) return token_take(v, set, strlen(set), "HF_TOKEN", e);
    if (!hf_home[0] || path_join(path, sizeof path, hf_home, "token", NULL) || !file_exists(path)) return 0;
    if ((rc = file_read_all(path, 4096, &text, &n, e)) != 0) return rc;
    rc = token_take(v, text, n, path, e);
    mem_free(text);
    return rc;
}

static int read_endpoint(HubEnv *v, aha_error *e)
{
    const char *set = knob_get("HF_ENDPOINT");
    char        q[160], *scheme = NULL, *user = NULL, *extra = NULL;
    size_t      n = strlen(set);
    CURLU      *u = curl_url();
    bool        ok = u && n < sizeof v->endpoint && !curl_url_set(u, CURLUPART_URL, set, 0) && !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    ok = ok && (!strcasecmp(scheme, "https") || !strcasecmp(scheme, "http"));
    ok = ok && curl_url_get(u, CURLUPART_USER, &user, 0) && curl_url_get(u, CURLUPART_QUERY, &extra, 0) && !strchr(set, '#');
    if (ok) {
        memcpy(v->endpoint, set, n + 1);
        while (n && v->endpoint[n - 1] == '/') v->endpoint[--n] = 0;
        if (v->token[0] && !strcasecmp(scheme, "http") && !strstr(set, "//127.") && !strstr(set, "//localhost"))
            say("HF_ENDPOINT is http, not https: the token travels where others can read it");
    }
    curl_free(scheme);
    curl_free(user);
    curl_free(extra);
    curl_url_cleanup(u);
    if (ok) return 0;
    return error_set(e, AHA_ERR_ARG, "HF_ENDPOINT is '%s'; an address is expected, such as https://huggingface.co", error_quote(q, sizeof q, set, strlen(set)));
}

/* as huggingface_hub takes it */
static bool says_yes(const char *s)
{
    static const char *const YES[] = {"1", "on", "yes", "true"};
    for (size_t i = 0; i < ARRAY_LEN(YES); i++)
        if (!strcasecmp(s, YES[i])) return true;
    return false;
}

int hub_env_read(HubEnv *v, aha_error *e)
{
    char hf_home[PULL_PATH_CAP];
    int  rc;
    memset(v, 0, sizeof *v);
    v->certificates = knob_get("SSL_CERT_FILE");
    v->offline = says_yes(knob_get("HF_HUB_OFFLINE"));
    rc = read_folders(v, hf_home, e);
    if (rc == 0) rc = read_token(v, hf_home, e);
    if (rc == 0) rc = read_endpoint(v, e);
    return rc;
}
