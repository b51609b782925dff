/* Which path does what. */
#include <string.h>

#include "inner.h"

static const Route ROUTES[] = {
    {"POST", "/v1/chat/completions", ROUTE_GENERATES, NULL, chat_parse, &dialect_chat},
    {"POST", "/chat/completions", ROUTE_GENERATES, NULL, chat_parse, &dialect_chat},
    {"POST", "/v1/completions", ROUTE_GENERATES, NULL, text_parse, &dialect_text},
    {"POST", "/completions", ROUTE_GENERATES, NULL, text_parse, &dialect_text},
    {"POST", "/tokenize", 0, NULL, tokenize_parse, NULL},
    {"POST", "/v1/tokenize", 0, NULL, tokenize_parse, NULL},
    {"POST", "/detokenize", 0, NULL, detokenize_parse, NULL},
    {"POST", "/v1/detokenize", 0, NULL, detokenize_parse, NULL},
    {"GET", "/v1/models", 0, models_now, NULL, NULL},
    {"GET", "/v1/models/*", 0, models_now, NULL, NULL},
    {"GET", "/models", 0, models_now, NULL, NULL},
    {"GET", "/health", ROUTE_OPEN, health_now, NULL, NULL},
    {"GET", "/metrics", 0, metrics_now, NULL, NULL},
    {"GET", "/", ROUTE_OPEN, page_now, NULL, NULL},
    {"GET", "/*", ROUTE_OPEN | ROUTE_FILES, page_now, NULL, NULL},
};

static bool path_is(const Route *r, const char *path)
{
    size_t n = strlen(r->path);
    if (r->path[n - 1] == '*') return !strncmp(r->path, path, n - 1) && path[n - 1];
    return !strcmp(r->path, path);
}

const Route *route_find(const Server *s, const char *method, const char *path, bool *other_method)
{
    *other_method = false;
    if (!strcmp(method, "HEAD")) method = "GET";
    for (size_t i = 0; i < ARRAY_LEN(ROUTES); i++) {
        const Route *r = &ROUTES[i];
        if (!path_is(r, path) || ((r->kind & ROUTE_FILES) && !page_has(s, path))) continue;
        if (!strcmp(r->method, method)) return r;
        *other_method = true;
    }
    return NULL;
}
