/* model.safetensors.index.json: which shard holds which tensor.  Read as a stream: R1's has 91,991 names. */
#include <string.h>

#include "inner.h"

static int index_entry(Index *ix, Scan *s, const Buf *name, const Buf *file)
{
    char   shown[96];
    int    i, k, rc;
    size_t n = file->n, suffix = sizeof ".safetensors" - 1;
    if (!file_name_is_plain(file->data, n) || n <= suffix || memcmp(file->data + n - suffix, ".safetensors", suffix) != 0)
        return error_set(s->e, AHA_ERR_FORMAT, "%s: shard: got \"%s\", expected the plain name of a .safetensors file", s->what,
                         error_quote(shown, sizeof shown, file->data, n));
    rc = names_add(&ix->names, name->data, name->n, &i);
    if (!rc)
        return error_set(s->e, AHA_ERR_FORMAT, "%s: tensor \"%s\": is there twice, expected once", s->what,
                         error_quote(shown, sizeof shown, name->data, name->n));
    void *list = ix->shard;
    bool  ok = rc > 0 && grow(&list, &ix->cap, i, sizeof *ix->shard) && names_add(&ix->shards, file->data, n, &k) >= 0;
    ix->shard = list;
    if (!ok) return format_nomem(s->what, s->e);
    if (k >= SHARDS_MAX) return error_set(s->e, AHA_ERR_LIMIT, "%s: more than %d shards", s->what, SHARDS_MAX);
    ix->shard[i] = k;
    return 0;
}

static int index_map(Index *ix, Scan *s, Buf *name, Buf *file)
{
    int n = 0, rc = scan_expect(s, '{');
    if (rc) return rc;
    while ((rc = scan_key(s, &n, name)) > 0) {
        rc = scan_string(s, file);
        if (!rc) rc = index_entry(ix, s, name, file);
        if (rc) return rc;
    }
    return rc;
}

int index_parse(Index *ix, Scan *s)
{
    Buf  name = {0}, file = {0};
    bool found = false;
    int  n = 0, rc = scan_expect(s, '{');
    while (!rc && (rc = scan_key(s, &n, &name)) > 0) {
        bool map = strcmp(name.data, "weight_map") == 0;
        if (map && found) rc = scan_fail(s, "weight_map once");
        else rc = map ? index_map(ix, s, &name, &file) : scan_skip(s);
        found |= map;
    }
    if (!rc) rc = scan_end(s);
    if (!rc && !ix->names.count) rc = error_set(s->e, AHA_ERR_FORMAT, "%s: weight_map: absent or empty, expected tensor names and their shards", s->what);
    buf_free(&name);
    buf_free(&file);
    return rc;
}

int index_read(Index *ix, const char *path, aha_error *e)
{
    char  *text = NULL;
    size_t n = 0;
    Scan   s;
    int    rc = file_read_all(path, HEADER_BYTES_MAX, &text, &n, e);
    if (rc) return rc;
    scan_init(&s, path, text, n, e);
    rc = index_parse(ix, &s);
    mem_free(text);
    return rc;
}

void index_free(Index *ix)
{
    names_free(&ix->names);
    names_free(&ix->shards);
    mem_free(ix->shard);
    memset(ix, 0, sizeof *ix);
}
