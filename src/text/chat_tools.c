/* Tools as system text: R1's templates render none, so servers describe them there.  The wording is DeepSeek's "function"
 * form: how a call is written, then each function's JSON in a fenced block. */
#include <jansson.h>
#include <string.h>

#include "../format/format.h"
#include "inner.h"

enum { TOOLS_BYTES_MAX = 4 << 20, TOOLS_MAX = 1024 };

static const char HEAD[] =
    "## Tools\n\n"
    "You may call the functions described below. To call one or more of them, write in exactly this form:\n"
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>FUNCTION_NAME\n"
    "```json\n"
    "{\"param1\": \"value1\", \"param2\": \"value2\"}\n"
    "```<｜tool▁call▁end｜><｜tool▁calls▁end｜>\n"
    "The arguments must be valid JSON. The results follow your calls; then you go on.\n\n"
    "### Function\n\n"
    "You have the following functions available:\n";

static size_t blank_end(const char *s, size_t n, size_t at)
{
    while (at < n && (s[at] == ' ' || s[at] == '\t' || s[at] == '\n' || s[at] == '\r')) at++;
    return at;
}

/* The end of the string that begins at s[at]; the text is known to be JSON. */
static size_t string_end(const char *s, size_t n, size_t at)
{
    for (at++; at < n && s[at] != '"'; at++) at += s[at] == '\\';
    return at < n ? at + 1 : n;
}

/* The end of the value that begins at s[at]. */
static size_t value_end(const char *s, size_t n, size_t at)
{
    int depth = 0;
    while (at < n) {
        char c = s[at];
        if (c == '"') {
            at = string_end(s, n, at);
        } else if (c == '{' || c == '[') {
            depth++, at++;
        } else if (c == '}' || c == ']') {
            if (!depth) return at;
            depth--, at++;
        } else if (!depth && (c == ',' || blank_end(s, n, at) != at)) {
            return at;
        } else {
            at++;
            continue; /* inside a number or a word */
        }
        if (!depth) return at;
    }
    return n;
}

/* The value of a key of the object s[0..n), which begins with its brace. */
static bool member(const char *s, size_t n, const char *key, const char **value, size_t *len)
{
    for (size_t at = blank_end(s, n, 1); at < n && s[at] == '"';) {
        size_t from = at, end = string_end(s, n, at), v = blank_end(s, n, end);
        v = blank_end(s, n, v + 1); /* behind the colon */
        at = value_end(s, n, v);
        if (end - from == strlen(key) + 2 && !memcmp(s + from + 1, key, strlen(key))) {
            *value = s + v;
            *len = at - v;
            return true;
        }
        at = blank_end(s, n, at);
        at = blank_end(s, n, at + (at < n && s[at] == ','));
    }
    return false;
}

/* White space as Python's json.dumps writes it, everything else as it stands: 0.1 and large integers stay themselves. */
static void put_even(Buf *out, const char *s, size_t n)
{
    for (size_t at = blank_end(s, n, 0); at < n; at = blank_end(s, n, at)) {
        size_t end = s[at] == '"' ? string_end(s, n, at) : at + 1;
        buf_add(out, s + at, end - at);
        if (s[at] == ',' || s[at] == ':') buf_str(out, " ");
        at = end;
    }
}

/* The function of one entry of the list. */
static int tool_function(const Json *tool, size_t i, const char **s, size_t *n, aha_error *e)
{
    char        what[48];
    const Json *f = json_field(tool, "function");
    const char *name = NULL, *type = "function", *inner = NULL;
    size_t      len = 0;
    snprintf(what, sizeof what, "tools[%zu]", i);
    int rc = json_get_str(tool, what, "type", false, &type, e);
    if (!rc && strcmp(type, "function")) rc = error_set(e, AHA_ERR_UNSUPPORTED, "%s: type \"%.40s\", expected \"function\"", what, type);
    if (!rc && f && !member(*s, *n, "function", &inner, &len)) rc = error_set(e, AHA_ERR_FORMAT, "%s: function: a key without escapes is expected", what);
    if (!rc && f) *s = inner, *n = len;
    if (!rc) rc = json_get_str(f ? f : tool, what, "name", true, &name, e);
    if (!rc && !*name) rc = error_set(e, AHA_ERR_FORMAT, "%s: name: empty, expected a function's name", what);
    return rc;
}

static int put_tools(Buf *out, const Json *list, const char *s, size_t n, aha_error *e)
{
    size_t count = json_array_size(list), at = blank_end(s, n, 0) + 1;
    if (!json_is_array(list) || !count || count > TOOLS_MAX)
        return error_set(e, AHA_ERR_FORMAT, "tools: a list of %zu, expected a list of 1..%d functions", count, TOOLS_MAX);
    for (size_t i = 0; i < count; i++) {
        const Json *tool = json_array_get(list, i);
        if (!json_is_object(tool)) return error_set(e, AHA_ERR_FORMAT, "tools[%zu]: no object, expected a function", i);
        at = blank_end(s, n, at);
        size_t      end = value_end(s, n, at), len = end - at;
        const char *f = s + at;
        int         rc = tool_function(tool, i, &f, &len, e);
        if (rc) return rc;
        buf_str(out, "\n```json\n");
        put_even(out, f, len);
        buf_str(out, "\n```\n");
        at = blank_end(s, n, end) + 1;
    }
    return 0;
}

int chat_tools_text(const char *tools, size_t n, Buf *out, aha_error *e)
{
    Json  *list = NULL;
    size_t before = out->n, at;
    if (n > TOOLS_BYTES_MAX) return error_set(e, AHA_ERR_LIMIT, "tools: %zu bytes, expected at most %d", n, TOOLS_BYTES_MAX);
    int rc = json_parse_wide(&list, tools, n, "tools", &at, e);
    if (rc) return rc;
    buf_str(out, HEAD);
    rc = put_tools(out, list, tools, n, e);
    json_free(list);
    if (!rc && out->failed) rc = error_set(e, AHA_ERR_NOMEM, "tools: no memory for their description");
    if (rc) out->n = out->failed ? out->n : before;
    return rc;
}
