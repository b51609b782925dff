/* The chat page: its files, as they were linked into the program, and the rules under which browsers may show them.
 *
 * What a model says is hostile text.  The page sanitises it; these headers see to it that nothing which slips through runs or
 * reaches another machine: scripts and styles from here alone and never inline, no requests elsewhere, no frames, and text
 * becomes elements through DOMPurify's policy only (Trusted Types, where a browser has them; aha-worker names one script, web/code.js). */
#include <string.h>

#include "inner.h"

static const char POLICY[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify aha-worker";

static const ServeFile *file_find(const Server *s, const char *path)
{
    if (!strcmp(path, "/")) path = "/index.html";
    for (int i = 0; i < s->o.n_file; i++)
        if (!strcmp(s->o.file[i].path, path)) return &s->o.file[i];
    return NULL;
}

bool page_has(const Server *s, const char *path) { return file_find(s, path) != NULL; }

/* "gzip, br" and "br;q=1, gzip;q=0.5", but not "gzip;q=0" */
static bool takes_gzip(const char *accepted)
{
    for (const char *p = accepted ? strstr(accepted, "gzip") : NULL; p; p = strstr(p + 4, "gzip")) {
        const char *q = p + 4 + strspn(p + 4, " \t");
        if (*q != ';') return *q == ',' || !*q;
        q += strspn(q, "; \tq=");
        return strspn(q, "0.") != strcspn(q, ", \t"); /* not nothing but zeros */
    }
    return false;
}

static void file_answer(Exchange *x, const ServeFile *f)
{
    const bool  gzip = f->gzip && takes_gzip(exchange_asked(x, "Accept-Encoding"));
    const char *known = exchange_asked(x, "If-None-Match");
    char        tag[64];
    size_t      n = 0;
    tag[n++] = '"';
    for (const char *p = f->tag; *p && n < sizeof tag - 5; p++) tag[n++] = *p;
    memcpy(tag + n, gzip ? "-gz\"" : "\"", gzip ? 5 : 2);
    if (known && strstr(known, tag)) exchange_static(x, 304, NULL, "", 0);
    else exchange_static(x, 200, f->type, gzip ? f->gzip : f->data, gzip ? f->n_gzip : f->n_bytes);
    if (gzip) exchange_head(x, "Content-Encoding", "gzip");
    if (f->gzip) exchange_head(x, "Vary", "Accept-Encoding");
    exchange_head(x, "ETag", tag);
}

int page_now(Exchange *x, Refusal *r)
{
    static const char PLAIN[] = "aha serves a model here: POST /v1/chat/completions, GET /v1/models, /health, /metrics\n\n"
                                "The chat page is not in this program: when it was built, the libraries of the page were not there.\n"
                                "`tools/install-deps` installs them; `make` then puts the page in.\n";
    const ServeFile  *f = file_find(exchange_server(x), exchange_path(x));
    (void)r;
    if (f) file_answer(x, f);
    else exchange_static(x, 200, "text/plain; charset=utf-8", PLAIN, sizeof PLAIN - 1);
    exchange_head(x, "Cache-Control", "no-cache"); /* asked for again with the tag: a new program has a new page */
    exchange_head(x, "Content-Security-Policy", POLICY);
    exchange_head(x, "Referrer-Policy", "no-referrer");
    exchange_head(x, "Cross-Origin-Opener-Policy", "same-origin");
    exchange_head(x, "Cross-Origin-Resource-Policy", "same-origin");
    return 0;
}
