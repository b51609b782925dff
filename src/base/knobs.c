/* Knobs: the only place that reads the environment. */
#include "base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KNOB_PREFIX "AHA_"

/* Types: int (a whole number >= 0), path, url, name, secret (never shown).  Those that do not
 * start with AHA_ are shared with other programs. */
static const Knob g_knobs[] = {
    {"AHA_CPU", "name", "", "newest instruction set to use, one of those that aha doctor lists; empty: the best the processor has"},
    {"AHA_THREADS", "int", "0", "worker threads; 0: as many as the affinity mask and the cgroup allow"},
    {"AHA_SPIN_US", "int", "50", "microseconds that an idle worker spins before it sleeps"},
    {"AHA_SETTLE", "int", "1", "1: behind the first token weights are copied to where products read them fastest, if there is room; 0: never"},
    {"AHA_DATA", "path", "", "folder of optional reference data for the tests; empty: such tests are skipped"},
    {"AHA_MODEL", "path", "", "model used when no -m is given; empty: the built-in aha-tiny"},
    {"AHA_DB", "path", "", "keys and usage of aha serve; empty: $XDG_STATE_HOME/aha/aha.db"},
    {"HF_ENDPOINT", "url", "https://huggingface.co", "aha pull: the hub, or a mirror of it"},
    {"HF_TOKEN", "secret", "", "aha pull: access token for private and gated models; empty: the file $HF_HOME/token"},
    {"HF_HOME", "path", "", "aha pull: where other tools keep models and token; empty: ~/.cache/huggingface"},
    {"HF_HUB_CACHE", "path", "", "aha pull: where models are kept; empty: $HF_HOME/hub"},
    {"HF_HUB_OFFLINE", "name", "", "aha pull: 1, on, yes or true: answer from the cache, without a network"},
    {"SSL_CERT_FILE", "path", "", "aha pull: certificates to trust, as OpenSSL reads them; empty: the system's"},
};
enum { KNOB_COUNT = ARRAY_LEN(g_knobs) };

const Knob *knob_table(int *n)
{
    *n = KNOB_COUNT;
    return g_knobs;
}

static const Knob *knob_find(const char *name)
{
    for (int i = 0; i < KNOB_COUNT; i++)
        if (!strcmp(g_knobs[i].name, name)) return &g_knobs[i];
    return NULL;
}

const char *knob_get(const char *name)
{
    const Knob *k = knob_find(name);
    if (!k) return NULL;
    const char *v = getenv(name);
    return v && *v ? v : k->def;
}

static bool int_parse(const char *s, int64_t *out)
{
    if (*s < '0' || *s > '9') return false; /* strtoll would take blanks and signs */
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno || *end) return false;
    *out = v;
    return true;
}

int64_t knob_int(const char *name)
{
    const Knob *k = knob_find(name);
    int64_t v = 0;
    if (k && !int_parse(knob_get(name), &v)) int_parse(k->def, &v); /* knob_check has said so already */
    return v;
}

static int entry_check(const char *entry, aha_error *e)
{
    const char *eq = strchr(entry, '=');
    size_t n = eq ? (size_t)(eq - entry) : strlen(entry);
    char name[64], quoted[128];
    bool fits = n < sizeof name;
    if (fits) {
        memcpy(name, entry, n);
        name[n] = 0;
    }
    const Knob *k = fits ? knob_find(name) : NULL;
    if (!k) {
        const char *names[KNOB_COUNT];
        for (int i = 0; i < KNOB_COUNT; i++) names[i] = g_knobs[i].name;
        const char *near = fits ? name_nearest(name, names, KNOB_COUNT) : NULL;
        error_quote(quoted, sizeof quoted, entry, n);
        return error_set(e, AHA_ERR_ARG, "environment: no knob is named %s%s%s%s", quoted, near ? "; did you mean " : "",
                         near ? near : "", near ? "?" : "");
    }
    int64_t v;
    const char *value = eq ? eq + 1 : "";
    if (!strcmp(k->type, "int") && *value && !int_parse(value, &v)) {
        error_quote(quoted, sizeof quoted, value, strlen(value));
        return error_set(e, AHA_ERR_ARG, "environment: %s is '%s', a whole number >= 0 is expected", k->name, quoted);
    }
    return 0;
}

int knob_check(aha_error *e)
{
    for (char **p = environ; p && *p; p++) {
        if (strncmp(*p, KNOB_PREFIX, sizeof KNOB_PREFIX - 1)) continue;
        int rc = entry_check(*p, e);
        if (rc) return rc;
    }
    return 0;
}

/* ---- the nearest name ---- */
enum { NAME_MAX_LEN = 63 };

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

/* Edit distance with swaps of neighbours (optimal string alignment), letters without case. */
static int distance(const char *a, int na, const char *b, int nb)
{
    int row[3][NAME_MAX_LEN + 1]; /* rows i-2, i-1, i of the table, in turn */
    for (int j = 0; j <= nb; j++) row[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
        cur[0] = i;
        for (int j = 1; j <= nb; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);
            int d = up[j - 1] + !same;
            if (up[j] + 1 < d) d = up[j] + 1;
            if (cur[j - 1] + 1 < d) d = cur[j - 1] + 1;
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]) &&
                up2[j - 2] + 1 < d)
                d = up2[j - 2] + 1;
            cur[j] = d;
        }
    }
    return row[na % 3][nb];
}

const char *name_nearest(const char *s, const char *const *names, int n)
{
    size_t len = strlen(s);
    if (len == 0 || len > NAME_MAX_LEN) return NULL;
    int best = (int)(len + 2) / 3 + 1; /* farther than a third of the letters is another word */
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        size_t k = strlen(names[i]);
        if (k > NAME_MAX_LEN) continue;
        int d = distance(s, (int)len, names[i], (int)k);
        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}
