/* What the tests of report.html share: a folder, and what every page must be. */
#ifndef AHA_REPORTLIB_H
#define AHA_REPORTLIB_H

#include <unistd.h>

#include "learn/report.h"
#include "testlib.h"

static char g_dir[64];

static inline int setup(void **state)
{
    (void)state;
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-report-XXXXXX");
    return mkdtemp(g_dir) ? 0 : -1;
}

static inline int teardown(void **state)
{
    (void)state;
    return dir_remove_all(g_dir, NULL);
}

static inline void put(const char *name, const char *text, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", g_dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void put_buf(const char *name, Buf *b)
{
    assert_false(b->failed);
    put(name, b->data ? b->data : "", b->n);
    buf_free(b);
}

static inline char *page(void)
{
    static char *text; /* static: gcc takes the freed caller's pointer for a dangling one otherwise */
    char         path[128];
    size_t       n;
    aha_error    e = {0};
    snprintf(path, sizeof path, "%s/report.html", g_dir);
    ASSERT_OK(file_read_all(path, 64 << 20, &text, &n, &e), e);
    assert_int_equal(strlen(text), n);
    return text;
}

static inline char *write_page(void)
{
    aha_error e = {0};
    ASSERT_OK(report_write(g_dir, &e), e);
    assert_int_equal(e.code, 0);
    return page();
}

/* ---- what every page must be ---- */
static inline int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what)) n++;
    return n;
}

/* Only tags that the page itself writes, closed as often as opened; no number that is none; valid UTF-8. */
static inline void check_page(const char *text)
{
    static const char *const PAIRED[] = {"html", "head", "body", "main", "style", "title", "header", "nav", "a", "h1", "h2", "h3", "section", "figure",
                                         "figcaption", "svg", "text", "circle", "div", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "pre", "p",
                                         "b", "i", "em", "small", "span", "article", "details", "summary", "footer", "code", "ol", "ul", "li", "td"};
    static const char *const SINGLE[] = {"!doctype", "meta", "link", "path", "th"};
    int open[ARRAY_LEN(PAIRED)] = {0};
    assert_true(utf8_valid(text, strlen(text)));
    assert_int_equal(count(text, "<script"), 0);
    assert_int_equal(count(text, "http"), 1); /* http-equiv: nothing is fetched */
    assert_int_equal(count(text, "url("), 0);
    assert_int_equal(count(text, "nan"), 0);
    assert_int_equal(count(text, "<section"), count(text, "</section>"));
    for (const char *p = text; (p = strchr(p, '<')) != NULL; p++) {
        bool   end = p[1] == '/', known = false;
        size_t n = strcspn(p + 1 + end, " >/\n");
        for (size_t i = 0; i < ARRAY_LEN(PAIRED); i++)
            if (strlen(PAIRED[i]) == n && strncmp(p + 1 + end, PAIRED[i], n) == 0) {
                /* a drawing's <title> stands inside it and is counted with the page's */
                open[i] += end ? -1 : strncmp(p + strcspn(p, ">") - 1, "/>", 2) == 0 ? 0 : 1;
                assert_true(open[i] >= 0);
                known = true;
            }
        for (size_t i = 0; i < ARRAY_LEN(SINGLE); i++)
            if (strlen(SINGLE[i]) == n && strncmp(p + 1 + end, SINGLE[i], n) == 0) known = true;
        if (!known) fail_msg("tag at: %.60s", p);
    }
    for (size_t i = 0; i < ARRAY_LEN(PAIRED); i++)
        if (open[i]) fail_msg("%d of <%s> left open", open[i], PAIRED[i]);
}

static inline void has(const char *text, const char *what)
{
    if (!strstr(text, what)) fail_msg("not in the page: %s", what);
}

static inline void lacks(const char *text, const char *what)
{
    if (strstr(text, what)) fail_msg("in the page: %.80s", strstr(text, what));
}

#endif
