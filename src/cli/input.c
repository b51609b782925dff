/* What people hand to the commands: texts, files, lists of ids. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int input_stdin(Buf *out, size_t max_bytes, aha_error *e)
{
    char   chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        if (out->n + n > max_bytes)
            return error_set(e, AHA_ERR_LIMIT, "standard input holds more than %zu bytes, the most that is read", max_bytes);
        buf_add(out, chunk, n);
        if (out->failed) return error_set(e, AHA_ERR_NOMEM, "no memory for %zu bytes of standard input", out->n + n);
    }
    if (ferror(stdin)) return error_set(e, AHA_ERR_IO, "cannot read standard input: %s", strerror(errno));
    if (!out->data) buf_str(out, "");
    return 0;
}

int input_text(const char *arg, Buf *out, const char **file, aha_error *e)
{
    char  *text;
    size_t n;
    int    rc;
    if (file) *file = NULL;
    if (!strcmp(arg, "-")) return input_stdin(out, INPUT_TEXT_MAX, e);
    if (arg[0] != '@') {
        buf_str(out, arg);
        return out->failed ? error_set(e, AHA_ERR_NOMEM, "no memory for an argument of %zu bytes", strlen(arg)) : 0;
    }
    if (!strcmp(arg, "@-")) return input_stdin(out, INPUT_TEXT_MAX, e);
    rc = file_read_all(arg + 1, INPUT_TEXT_MAX, &text, &n, e);
    if (rc) return rc;
    if (file) *file = arg + 1;
    mem_free(out->data);
    *out = (Buf){.data = text, .n = n, .cap = n + 1};
    return 0;
}

/* ---- lists of ids ---- */
static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static size_t skip_blanks(const char *s, size_t n, size_t i)
{
    while (i < n && is_blank(s[i])) i++;
    return i;
}

static int bad_list(const char *s, size_t n, size_t i, const char *what, aha_error *e)
{
    char q[48];
    if (i >= n) return error_set(e, AHA_ERR_FORMAT, "%s: ends early; a list of ids is expected, as 0,5,9", what);
    error_quote(q, sizeof q, s + i, n - i < 24 ? n - i : 24);
    return error_set(e, AHA_ERR_FORMAT, "%s: '%s' at byte %zu; a list of ids is expected, as 0,5,9", what, q, i);
}

typedef struct IdList {
    int32_t *id;
    int      n, cap;
} IdList;

static int list_push(IdList *l, int64_t v, const char *what, aha_error *e)
{
    if (l->n == l->cap) {
        int      cap = l->cap ? l->cap * 2 : 64;
        int32_t *p = cap > 1 << 28 ? NULL : mem_realloc(l->id, (size_t)cap * sizeof *p);
        if (!p) return error_set(e, AHA_ERR_NOMEM, "%s: no memory for %d ids", what, cap);
        l->id = p;
        l->cap = cap;
    }
    l->id[l->n++] = (int32_t)v;
    return 0;
}

static int read_list(IdList *l, const char *s, size_t n, const char *what, aha_error *e)
{
    size_t i = skip_blanks(s, n, 0);
    bool   bracket = i < n && s[i] == '[';
    bool   comma = false;
    int    rc = 0;
    i = skip_blanks(s, n, i + bracket);
    while (i < n && s[i] != ']') {
        int64_t v = 0;
        size_t  from = i;
        for (; i < n && s[i] >= '0' && s[i] <= '9' && v <= INT32_MAX; i++) v = v * 10 + (s[i] - '0');
        if (i == from || v > INT32_MAX) return bad_list(s, n, from, what, e);
        if (i < n && !is_blank(s[i]) && s[i] != ',' && s[i] != ']') return bad_list(s, n, i, what, e);
        if ((rc = list_push(l, v, what, e)) != 0) return rc;
        i = skip_blanks(s, n, i);
        comma = i < n && s[i] == ',';
        i = skip_blanks(s, n, i + comma);
    }
    if (comma && (bracket || i < n)) return bad_list(s, n, i, what, e);
    if (bracket && i >= n) return bad_list(s, n, i, what, e);
    if (!bracket && i < n) return bad_list(s, n, i, what, e);
    i = skip_blanks(s, n, i + bracket);
    return i < n ? bad_list(s, n, i, what, e) : 0;
}

int input_ids(const char *s, size_t n, const char *what, int32_t **id, int *count, aha_error *e)
{
    IdList l = {0};
    int    rc = read_list(&l, s, n, what, e);
    *id = NULL;
    *count = 0;
    if (rc) {
        mem_free(l.id);
        return rc;
    }
    *id = l.id;
    *count = l.n;
    return 0;
}
