/* JSON: jansson behind bounds.
 *
 * jansson builds a tree that can be eighty times the text (a list of `{},`), recurses into it, and lets the last of two
 * equal keys win.  So: a scan without memory bounds the nesting and the numbers first, the parser gets a budget, and
 * duplicates are errors. */
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "inner.h"

enum { BUDGET_BASE = 16 << 20, BUDGET_PER_BYTE = 48, JSON_BYTES_MAX = 256 << 20 };

/* The parse of this thread.  Outside one there is no budget.
 *
 * jansson (2.14) answers every refused allocation by giving up, except one: the growth of its lexer's buffer.  There the
 * byte to append is lost without a word, and when it is a string's closing quote, the lexer looks for it behind the
 * buffer's end and writes what it passes behind another's.  So that growth is never refused:
 *
 *   - The first allocation that must be refused is served from the reserve, where it fits; every later one is NULL.
 *   - With it the input ends: what jansson holds of the text is overwritten by a byte that no UTF-8 has, which stops its
 *     stream for good.  Only the character it has taken already, of at most 4 bytes, is still read.
 *   - A growth always fits.  The buffer starts with 16 bytes and doubles when it holds all but one, and what it holds was
 *     read from the text: a text of n bytes asks for 2n at most.
 *   - No growth comes later.  After a growth the buffer has 16 free bytes for the 4 that may follow; any other allocation
 *     comes when a token is complete, and the next one starts with the buffer empty. */
static _Thread_local struct {
    bool        on, spent, failed; /* over the budget; refused by the system */
    size_t      left;
    void       *reserve;           /* lent at most once: freed by json_parse, not by jansson */
    size_t      reserve_bytes;
    const char *text;              /* [text_left]: what jansson has not got yet */
    size_t      text_left;
    void       *held;              /* [held_bytes]: jansson's copy of what it has got last */
    size_t      held_bytes;
} t_parse;

static bool parse_refused(void)
{
    return t_parse.spent || t_parse.failed;
}

static void *refuse(size_t bytes, bool *why)
{
    bool first = !parse_refused();
    *why = true;
    if (!first) return NULL;
    if (t_parse.held) memset(t_parse.held, 0xFF, t_parse.held_bytes);
    return bytes <= t_parse.reserve_bytes ? t_parse.reserve : NULL;
}

/* Counts every allocation and no release: an upper bound of what is live, without a header on each block. */
static void *budget_alloc(size_t bytes)
{
    if (!t_parse.on) return mem_alloc(bytes);
    if (parse_refused()) return NULL;
    size_t cost = bytes + 16; /* the allocator's own overhead */
    if (cost < bytes || cost > t_parse.left) return refuse(bytes, &t_parse.spent);
    t_parse.left -= cost;
    void *p = mem_alloc(bytes);
    return p ? p : refuse(bytes, &t_parse.failed);
}

static void budget_free(void *p)
{
    if (p != t_parse.reserve) mem_free(p);
}

static void budget_install(void)
{
    json_set_alloc_funcs(budget_alloc, budget_free);
}

/* The next piece of the text, or its end once something was refused. */
static size_t give_text(void *dst, size_t cap, void *unused)
{
    size_t n = parse_refused() ? 0 : t_parse.text_left < cap ? t_parse.text_left : cap;
    (void)unused;
    if (n) {
        memcpy(dst, t_parse.text, n);
        t_parse.text += n;
        t_parse.text_left -= n;
    }
    t_parse.held = dst;
    t_parse.held_bytes = n;
    return n;
}

/* The tree, or NULL; none after a refusal, for it may lie in the reserve and lack bytes. */
static Json *parse_bounded(const char *text, size_t n, void *reserve, size_t reserve_bytes, json_error_t *err)
{
    t_parse.on = true;
    t_parse.spent = t_parse.failed = false;
    t_parse.left = BUDGET_BASE + BUDGET_PER_BYTE * n;
    t_parse.reserve = reserve;
    t_parse.reserve_bytes = reserve_bytes;
    t_parse.text = text;
    t_parse.text_left = n;
    t_parse.held = NULL;
    t_parse.held_bytes = 0;
    Json *j = json_load_callback(give_text, NULL, JSON_REJECT_DUPLICATES, err);
    if (parse_refused()) {
        json_decref(j);
        j = NULL;
    }
    t_parse.on = false;
    t_parse.held = t_parse.reserve = NULL;
    t_parse.text = NULL;
    return j;
}

/* Nesting, lengths of numbers and NUL bytes (jansson drops one that follows a number), in one pass and constant memory;
 * everything else is the parser's to judge. */
static int bounds_check(const char *text, size_t n, const char *what, aha_error *e)
{
    int    depth = 0;
    size_t digits = 0;
    bool   quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (!c) return error_set(e, AHA_ERR_FORMAT, "%s: byte %zu: got a NUL byte, expected JSON", what, i);
        if (quoted) {
            if (c == '\\' && i + 1 < n && text[i + 1]) i++;
            else if (c == '"') quoted = false;
            continue;
        }
        digits = (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E' ? digits + 1 : 0;
        if (digits > JSON_NUMBER_MAX)
            return error_set(e, AHA_ERR_FORMAT, "%s: byte %zu: a number of over %d characters, expected fewer", what, i, JSON_NUMBER_MAX);
        if (c == '"') quoted = true;
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') depth--;
        if (depth > JSON_DEPTH_MAX)
            return error_set(e, AHA_ERR_FORMAT, "%s: byte %zu: nested more than %d deep", what, i, JSON_DEPTH_MAX);
    }
    return 0;
}

int json_parse(Json **out, const char *text, size_t n, const char *what, aha_error *e)
{
    size_t at;
    return json_parse_where(out, text, n, what, &at, e);
}

int json_parse_where(Json **out, const char *text, size_t n, const char *what, size_t *at, aha_error *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *out = NULL;
    *at = 0;
    if (n > JSON_BYTES_MAX)
        return error_set(e, AHA_ERR_LIMIT, "%s: %zu bytes of JSON, expected at most %d", what, n, JSON_BYTES_MAX);
    int rc = bounds_check(text, n, what, e);
    if (rc) return rc;
    if (pthread_once(&once, budget_install)) return error_set(e, AHA_ERR_INTERNAL, "%s: no parser", what);

    size_t       reserve_bytes = 2 * n + 64;
    void        *reserve = mem_alloc(reserve_bytes);
    json_error_t err = {0};
    if (!reserve) return format_nomem(what, e);
    *out = parse_bounded(text, n, reserve, reserve_bytes, &err);
    mem_free(reserve);
    if (*out) return 0;
    if (t_parse.spent)
        return error_set(e, AHA_ERR_LIMIT, "%s: the JSON needs more memory than %d bytes for each of its own", what, BUDGET_PER_BYTE);
    if (t_parse.failed || json_error_code(&err) == json_error_out_of_memory) return format_nomem(what, e);
    *at = err.position > 0 ? (size_t)err.position : 0;
    char words[192];
    error_quote(words, sizeof words, err.text, strlen(err.text));
    return error_set(e, AHA_ERR_FORMAT, "%s: line %d column %d: %s, expected JSON", what, err.line, err.column, words);
}

/* ---- integers that do not fit ---- */
/* The next one at or behind *at: *at is where it begins, *end the byte behind it.  Digits with a point or an exponent are none. */
static bool next_large(const char *text, size_t n, size_t *at, size_t *end)
{
    bool quoted = false;
    for (size_t i = *at; i < n; i++) {
        if (quoted && text[i] == '\\') i++;
        else if (text[i] == '"') quoted = !quoted;
        if (quoted || i >= n || text[i] < '0' || text[i] > '9') continue;
        bool   minus = i > 0 && text[i - 1] == '-';
        size_t from = i;
        while (i < n && text[i] >= '0' && text[i] <= '9') i++;
        size_t digits = i - from;
        bool   real = i < n && (text[i] == '.' || text[i] == 'e' || text[i] == 'E');
        if (real) { /* over the rest of the number */
            while (i < n && strchr("0123456789.eE+-", text[i]) && text[i]) i++;
        } else if (digits > 19 || (digits == 19 && memcmp(text + from, minus ? "9223372036854775808" : "9223372036854775807", 19) > 0)) {
            *at = from;
            *end = i;
            return true;
        }
        i--;
    }
    return false;
}

int json_parse_wide(Json **out, const char *text, size_t n, const char *what, size_t *at, aha_error *e)
{
    size_t from = 0, large = 0, end = 0, done = 0;
    Buf    b = {0};
    *out = NULL;
    *at = 0;
    if (n > JSON_BYTES_MAX || !next_large(text, n, &large, &end)) return json_parse_where(out, text, n, what, at, e);
    do {
        buf_add(&b, text + from, end - from);
        buf_str(&b, "e0");
        large = from = end;
    } while (next_large(text, n, &large, &end));
    buf_add(&b, text + from, n - from);
    int rc = b.failed ? format_nomem(what, e) : json_parse_where(out, b.data, b.n, what, at, e);
    for (large = 0; next_large(text, n, &large, &end) && end + done < *at; large = end) done += 2; /* where it is in the text that was given */
    *at -= done < *at ? done : *at;
    buf_free(&b);
    return rc;
}

bool json_member(const char *text, size_t n, const char *key, const char **value, size_t *len)
{
    Scan s;
    Buf  name = {0};
    int  count = 0;
    bool found = false;
    scan_init(&s, "", text, n, NULL);
    if (scan_expect(&s, '{')) return false;
    while (!found && scan_key(&s, &count, &name) == 1) {
        found = !name.failed && name.n == strlen(key) && !memcmp(name.data ? name.data : "", key, name.n);
        scan_space(&s);
        *value = (const char *)s.p;
        if (scan_skip(&s)) found = false, count = INT32_MAX;
        *len = (size_t)((const char *)s.p - *value);
        if (count == INT32_MAX) break;
    }
    buf_free(&name);
    return found;
}

bool json_member_at(const char *text, size_t n, size_t at, Buf *key)
{
    Scan s;
    int  count = 0;
    scan_init(&s, "", text, n, NULL);
    if (scan_expect(&s, '{')) return false;
    while (scan_key(&s, &count, key) == 1) /* text that no value can be ends the search: it is what was meant */
        if (scan_skip(&s) || (size_t)((const char *)s.p - text) >= at) return !key->failed;
    return false;
}

int json_read(Json **out, const char *path, size_t max_bytes, aha_error *e)
{
    char  *text = NULL;
    size_t n = 0;
    *out = NULL;
    int rc = file_read_all(path, max_bytes, &text, &n, e);
    if (!rc) rc = json_parse(out, text, n, path, e);
    mem_free(text);
    return rc;
}

void json_free(Json *j)
{
    json_decref(j);
}

const Json *json_field(const Json *obj, const char *key)
{
    const Json *v = json_is_object(obj) ? json_object_get(obj, key) : NULL;
    return json_is_null(v) ? NULL : v;
}

const char *json_describe(const Json *v, char *dst, size_t cap)
{
    static const char *const KIND[] = {"an object", "a list", "a string", "an integer", "a number", "true", "false", "null"};
    if (!v) return "nothing";
    if (json_is_string(v)) {
        char   quoted[48];
        size_t n = json_string_length(v);
        error_quote(quoted, sizeof quoted, json_string_value(v), n);
        snprintf(dst, cap, "\"%s\"", quoted);
    } else if (json_is_integer(v)) {
        snprintf(dst, cap, "%lld", (long long)json_integer_value(v));
    } else if (json_is_real(v)) {
        snprintf(dst, cap, "%.9g", json_real_value(v));
    } else {
        snprintf(dst, cap, "%s", KIND[json_typeof(v)]);
    }
    return dst;
}

/* The field, or NULL when it is absent or null; an error when it must not be, or when obj is no object. */
static int field_get(const Json *obj, const char *what, const char *key, bool required, const char *want, const Json **v, aha_error *e)
{
    if (obj && !json_is_object(obj)) return error_set(e, AHA_ERR_FORMAT, "%s: got no object, expected one with the field %s", what, key);
    *v = json_field(obj, key);
    if (!*v && required) return error_set(e, AHA_ERR_FORMAT, "%s: %s: absent, expected %s", what, key, want);
    return 0;
}

static int field_wrong(const Json *v, const char *what, const char *key, const char *want, aha_error *e)
{
    char got[64];
    return error_set(e, AHA_ERR_FORMAT, "%s: %s: got %s, expected %s", what, key, json_describe(v, got, sizeof got), want);
}

int json_get_int(const Json *obj, const char *what, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, aha_error *e)
{
    char        want[80];
    const Json *v = NULL;
    snprintf(want, sizeof want, "an integer of %lld..%lld", (long long)lo, (long long)hi);
    int rc = field_get(obj, what, key, required, want, &v, e);
    if (rc || !v) return rc;
    int64_t i = json_integer_value(v);
    if (!json_is_integer(v) || i < lo || i > hi) return field_wrong(v, what, key, want, e);
    *out = i;
    return 0;
}

int json_get_num(const Json *obj, const char *what, const char *key, bool required, double lo, double hi, double *out, aha_error *e)
{
    char        want[80];
    const Json *v = NULL;
    snprintf(want, sizeof want, "a number of %g..%g", lo, hi);
    int rc = field_get(obj, what, key, required, want, &v, e);
    if (rc || !v) return rc;
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= lo && d <= hi)) return field_wrong(v, what, key, want, e);
    *out = d;
    return 0;
}

int json_get_bool(const Json *obj, const char *what, const char *key, bool required, bool *out, aha_error *e)
{
    const Json *v = NULL;
    int         rc = field_get(obj, what, key, required, "true or false", &v, e);
    if (rc || !v) return rc;
    if (!json_is_boolean(v)) return field_wrong(v, what, key, "true or false", e);
    *out = json_is_true(v);
    return 0;
}

int json_get_str(const Json *obj, const char *what, const char *key, bool required, const char **out, aha_error *e)
{
    const Json *v = NULL;
    int         rc = field_get(obj, what, key, required, "a string", &v, e);
    if (rc || !v) return rc;
    if (!json_is_string(v)) return field_wrong(v, what, key, "a string", e);
    *out = json_string_value(v);
    return 0;
}
