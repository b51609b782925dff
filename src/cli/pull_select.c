/* Which files of a repository are wanted: safetensors, or GGUF of one type, with the small files beside them. */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "pull.h"

enum { TYPES_MAX = 256 };

static bool ends(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcasecmp(s + n - k, tail);
}

static bool on_top(const char *path) { return !strchr(path, '/'); }

/* what a model needs besides its weights */
static bool is_companion(const char *path)
{
    static const char *const NAME[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"};
    for (size_t i = 0; i < ARRAY_LEN(NAME); i++)
        if (!strcmp(path, NAME[i])) return true;
    return false;
}

/* ---- by a pattern ---- */
static int select_pattern(const Selection *s, HubList *l, aha_error *e)
{
    char        one[256], q[120];
    int         hits = 0;
    for (const char *p = s->pattern; *p;) {
        size_t n = strcspn(p, ",");
        if (n && n < sizeof one) {
            memcpy(one, p, n);
            one[n] = 0;
            for (int i = 0; i < l->n; i++)
                if (!fnmatch(one, l->file[i].path, 0)) l->file[i].wanted = true, hits++;
        }
        p += n + (p[n] == ',');
    }
    if (hits) return 0;
    const char *names[TYPES_MAX], *near;
    int         n = 0;
    for (; n < l->n && n < TYPES_MAX; n++) names[n] = l->file[n].path;
    near = name_nearest(s->pattern, names, n);
    return error_set(e, AHA_ERR_ARG, "no file of %s fits --file '%s'%s%.200s%s", l->title, error_quote(q, sizeof q, s->pattern, strlen(s->pattern)),
                     near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* ---- GGUF ---- */
typedef struct TypeRow {
    char        type[HUB_TYPE_CAP];
    const char *first; /* a path of it */
    int64_t     bytes;
    int         files, models;
} TypeRow;

static bool same_model(const HubFile *a, const HubFile *b)
{
    GgufName x, y;
    return gguf_name(a->path, &x) && gguf_name(b->path, &y) && x.stem == y.stem && x.parts == y.parts && !memcmp(a->path, b->path, x.stem);
}

/* Paths are sorted, so the parts of one model stand together. */
static int type_rows(const HubList *l, TypeRow *row)
{
    int n = 0;
    for (int i = 0; i < l->n; i++) {
        GgufName g;
        int      k = 0;
        if (!gguf_name(l->file[i].path, &g)) continue;
        while (k < n && strcasecmp(row[k].type, g.type) != 0) k++;
        if (k == TYPES_MAX) continue;
        if (k == n) {
            row[n++] = (TypeRow){.first = l->file[i].path};
            memcpy(row[k].type, g.type, sizeof g.type);
        }
        row[k].bytes += l->file[i].size;
        row[k].files++;
        row[k].models += i == 0 || !same_model(&l->file[i - 1], &l->file[i]);
    }
    return n;
}

void select_show_types(const HubList *l)
{
    static TypeRow row[TYPES_MAX];
    char           size[32];
    int            n = type_rows(l, row);
    say("%s holds GGUF files of these types:", l->title);
    for (int i = 0; i < n; i++)
        say_plain("  %-16s %10s%s%d file%s%s", row[i].type, bytes_words(size, (double)row[i].bytes), "  ", row[i].files, row[i].files == 1 ? "" : "s",
                  row[i].models > 1 ? ", several models: --file 'PATTERN'" : "");
    say_plain("One of them behind a colon chooses, such as: aha pull %s:%s", l->repo, n ? row[0].type : "Q4_K_M");
}

void select_json_types(const HubList *l, Buf *b)
{
    static TypeRow row[TYPES_MAX];
    int            n = type_rows(l, row);
    buf_str(b, "{\"types\":[");
    for (int i = 0; i < n; i++)
        buf_fmt(b, "%s{\"type\":\"%s\",\"bytes\":%lld,\"files\":%d}", i ? "," : "", row[i].type, (long long)row[i].bytes, row[i].files);
    buf_str(b, "]}\n");
}

static int no_such_type(const Selection *s, const HubList *l, aha_error *e)
{
    static TypeRow row[TYPES_MAX];
    const char    *names[TYPES_MAX], *near;
    char           have[300];
    int            n = type_rows(l, row), at = 0;
    have[0] = 0;
    for (int i = 0; i < n; i++) {
        names[i] = row[i].type;
        if ((size_t)at < sizeof have) at += snprintf(have + at, sizeof have - (size_t)at, "%s%s", i ? ", " : "", row[i].type);
    }
    near = name_nearest(s->type, names, n);
    for (int i = 0; i < n; i++)
        if (strcasestr(row[i].type, s->type)) near = row[i].type; /* UD-Q2_K_XL for Q2_K_XL */
    if (!n) return error_set(e, AHA_ERR_ARG, "%s holds no GGUF files, so no type %s; without a type its safetensors are pulled", l->title, s->type);
    return error_set(e, AHA_ERR_ARG, "%s has no type %s%s%s%s; it has %s", l->title, s->type, near ? "; did you mean " : "", near ? near : "", near ? "?" : "", have);
}

static int select_type(Selection *s, HubList *l, aha_error *e)
{
    GgufName g, first = {0};
    int      parts = 0, missing = 0;
    for (int i = 0; i < l->n; i++) {
        HubFile *f = &l->file[i];
        if (!gguf_name(f->path, &g) || strcasecmp(g.type, s->type) != 0) continue;
        if (s->gguf >= 0 && !same_model(&l->file[s->gguf], f))
            return error_set(e, AHA_ERR_ARG, "%s has more than one model of type %s, '%.150s' and '%.150s': --file 'PATTERN' chooses", l->title, s->type,
                             l->file[s->gguf].path, f->path);
        if (s->gguf < 0) s->gguf = i, first = g;
        if (g.part != ++parts && !missing) missing = parts; /* paths are sorted */
        f->wanted = true;
    }
    if (s->gguf < 0) return no_such_type(s, l, e);
    if (!missing && parts != first.parts) missing = parts + 1;
    if (missing)
        return error_set(e, AHA_ERR_FORMAT, "%s: '%.200s' is split into %d files, but number %d is not there", l->title, l->file[s->gguf].path, first.parts, missing);
    return 0;
}

/* ---- safetensors ---- */
/* Weights lie on top; what is in folders belongs to other programs.  Where a repository has its weights twice, those that its
 * index names start with "model". */
static int select_safetensors(Selection *s, HubList *l, aha_error *e)
{
    bool model = false, gguf = false, weights = false;
    for (int i = 0; i < l->n; i++) {
        GgufName    g;
        const char *p = l->file[i].path;
        gguf = gguf || gguf_name(p, &g);
        if (!on_top(p) || !ends(p, ".safetensors")) continue;
        weights = true;
        model = model || !strncmp(p, "model", 5);
    }
    if (!weights && gguf) {
        s->choose = true;
        return 0;
    }
    if (!weights)
        return error_set(e, AHA_ERR_UNSUPPORTED, "%s holds neither safetensors nor GGUF files (%d files in all); --file 'PATTERN' pulls others", l->title, l->n);
    for (int i = 0; i < l->n; i++) {
        const char *p = l->file[i].path;
        if (!on_top(p) || (model && strncmp(p, "model", 5) != 0)) continue;
        if (ends(p, ".safetensors") || ends(p, ".safetensors.index.json")) l->file[i].wanted = true;
    }
    return 0;
}

int select_files(Selection *s, HubList *l, aha_error *e)
{
    int rc;
    s->gguf = -1;
    rc = s->pattern ? select_pattern(s, l, e) : s->type[0] ? select_type(s, l, e) : select_safetensors(s, l, e);
    for (int i = 0; i < l->n && rc == 0; i++) {
        HubFile *f = &l->file[i];
        if (!s->pattern && !s->choose && is_companion(f->path)) f->wanted = true;
        if (!f->wanted) continue;
        s->files++;
        if (__builtin_add_overflow(s->bytes, f->size, &s->bytes) || s->bytes > HUB_SIZE_MAX)
            rc = error_set(e, AHA_ERR_LIMIT, "the files of %s together are over %lld bytes", l->title, (long long)HUB_SIZE_MAX);
    }
    return rc;
}
