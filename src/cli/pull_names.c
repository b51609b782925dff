/* Names: of repositories, revisions, files and GGUF types. */
#include "pull.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { NAME_PART_MAX = 96 };

static bool plain_char(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'; }

/* The hub's own rule for the halves of ORG/NAME: no "--" (it stands for '/' in the cache), no "..", no '-' or '.' at an end. */
static bool repo_half(const char *s, size_t n)
{
    if (n < 1 || n > NAME_PART_MAX || strchr("-.", s[0]) || strchr("-.", s[n - 1])) return false;
    for (size_t i = 0; i < n; i++) {
        if (!plain_char(s[i])) return false;
        if (i && (s[i] == '-' || s[i] == '.') && s[i - 1] == s[i]) return false;
    }
    return true;
}

int repo_parse(const char *arg, char repo[HUB_REPO_CAP], char type[HUB_TYPE_CAP], aha_error *e)
{
    char        q[160];
    const char *colon = strchr(arg, ':'), *slash = strchr(arg, '/');
    size_t      n = colon ? (size_t)(colon - arg) : strlen(arg), n_type = colon ? strlen(colon + 1) : 0;
    size_t      half = slash && slash < arg + n ? (size_t)(slash - arg) : n;
    bool        ok = repo_half(arg, half) && (half == n || repo_half(arg + half + 1, n - half - 1));
    repo[0] = type[0] = 0;
    if (strstr(arg, "://"))
        return error_set(e, AHA_ERR_ARG, "'%s' is an address; a repository's name is expected, such as deepseek-ai/DeepSeek-R1 (HF_ENDPOINT names another hub)",
                         error_quote(q, sizeof q, arg, strlen(arg)));
    if (!ok || n >= HUB_REPO_CAP)
        return error_set(e, AHA_ERR_ARG, "'%s' is no repository's name; ORG/NAME is expected, such as deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
                         error_quote(q, sizeof q, arg, n));
    for (size_t i = 0; i < n_type; i++) ok = ok && plain_char(colon[1 + i]);
    if (colon && (!ok || n_type < 1 || n_type >= HUB_TYPE_CAP))
        return error_set(e, AHA_ERR_ARG, "'%s' is no type; one such as Q4_K_M or UD-Q2_K_XL is expected behind the colon",
                         error_quote(q, sizeof q, colon + 1, n_type));
    memcpy(repo, arg, n);
    repo[n] = 0;
    if (colon) memcpy(type, colon + 1, n_type + 1);
    return 0;
}

bool hex_is(const char *s, size_t digits)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f'))) return false;
    return n == digits;
}

const char *hub_path_fault(const char *s, size_t n)
{
    if (n < 1) return "it is empty";
    if (n > HUB_PATH_MAX) return "it is over 1024 bytes long";
    if (s[0] == '/') return "it is absolute";
    if (!utf8_valid(s, n)) return "it is no UTF-8";
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) return "it holds a control character";
        if (s[i] == '\\') return "it holds a backslash";
    }
    for (size_t i = 0, k; i <= n; i += k + 1) {
        const char *end = memchr(s + i, '/', n - i);
        k = end ? (size_t)(end - (s + i)) : n - i;
        if (!file_name_is_plain(s + i, k)) return "a part of it is empty, '.', '..' or over 255 bytes long";
    }
    return NULL;
}

int revision_check(const char *rev, aha_error *e)
{
    char        q[160];
    size_t      n = strlen(rev);
    const char *fault = n >= HUB_REV_CAP ? "it is too long" : hub_path_fault(rev, n);
    for (size_t i = 0; i < n && !fault; i++)
        if (!plain_char(rev[i]) && !strchr("/+@", rev[i])) fault = "it holds a character that no branch here has";
    if (!fault) return 0;
    return error_set(e, AHA_ERR_ARG, "--revision '%s': %s; a branch, a tag or a commit is expected", error_quote(q, sizeof q, rev, n), fault);
}

void url_escape(Buf *b, const char *s, bool keep_slash)
{
    for (; *s; s++) {
        if (plain_char(*s) || *s == '~' || (*s == '/' && keep_slash))
            buf_add(b, s, 1);
        else
            buf_fmt(b, "%%%02X", (unsigned char)*s);
    }
}

/* ---- GGUF ---- */
/* "q4_k_m", "IQ1_S", "tq1_0", "bf16", "f32", "mxfp4_moe" */
static bool type_like(const char *s, size_t n)
{
    static const char *const WHOLE[] = {"bf16", "f16", "f32", "fp16", "fp32"};
    size_t at = n && (s[0] == 'i' || s[0] == 'I' || s[0] == 't' || s[0] == 'T') ? 1 : 0;
    for (size_t i = 0; i < ARRAY_LEN(WHOLE); i++)
        if (n == strlen(WHOLE[i]) && !strncasecmp(s, WHOLE[i], n)) return true;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_') return false;
    if (n >= 5 && !strncasecmp(s, "mxfp4", 5)) return true;
    return n >= at + 2 && (s[at] == 'q' || s[at] == 'Q') && isdigit((unsigned char)s[at + 1]) && (n == at + 2 || !isdigit((unsigned char)s[at + 2]));
}

/* The type at the end of a name without ".gguf": behind the last '-' or '.', or behind a '_' in that. */
static bool type_at_end(const char *s, size_t n, char type[HUB_TYPE_CAP])
{
    size_t from = n, end = n;
    while (from > 0 && s[from - 1] != '-' && s[from - 1] != '.' && s[from - 1] != '/') from--;
    for (size_t i = from; i < end; i++) {
        if (i > from && s[i - 1] != '_') continue;
        if (!type_like(s + i, end - i)) continue;
        if (i == from && i >= 3 && !strncasecmp(s + i - 3, "UD-", 3)) i -= 3;
        if (end - i >= HUB_TYPE_CAP) return false;
        memcpy(type, s + i, end - i);
        type[end - i] = 0;
        return true;
    }
    return false;
}

/* "-00001-of-00003" at the end of the n bytes */
static bool split_at_end(const char *s, size_t n, GgufName *g)
{
    int         part = 0, parts = 0;
    const char *p = s + n - 15;
    if (n < 16 || p[0] != '-' || memcmp(p + 6, "-of-", 4) != 0) return false;
    for (int i = 0; i < 5; i++) {
        if (!isdigit((unsigned char)p[1 + i]) || !isdigit((unsigned char)p[10 + i])) return false;
        part = 10 * part + (p[1 + i] - '0');
        parts = 10 * parts + (p[10 + i] - '0');
    }
    if (part < 1 || part > parts) return false;
    g->part = part;
    g->parts = parts;
    g->stem = n - 15;
    return true;
}

bool gguf_name(const char *path, GgufName *g)
{
    size_t      n = strlen(path), folder;
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    if (n < 6 || strcasecmp(path + n - 5, ".gguf") != 0) return false;
    if (!strncasecmp(base, "mmproj", 6) || strcasestr(base, "imatrix")) return false; /* pictures; statistics of quantising */
    *g = (GgufName){.part = 1, .parts = 1, .stem = n - 5};
    split_at_end(path, g->stem, g);
    if ((size_t)(base - path) >= g->stem) return false;
    if (type_at_end(base, g->stem - (size_t)(base - path), g->type)) return true;
    folder = base > path ? (size_t)(base - path) - 1 : 0; /* "Q4_K_M/model.gguf" */
    if (folder && type_at_end(path, folder, g->type)) return true;
    memcpy(g->type, "gguf", 5); /* of a type that its name does not tell */
    return true;
}
