/* Model files that are written as one, over several runs where need be: see format.h. */
#include "output.h"

#include <stdio.h>
#include <string.h>

enum { SYNC_BYTES = 1 << 30 };

/* ---- what is to be written ---- */
static int set_places(Output *o, const char *target, aha_error *e)
{
    size_t n = strlen(target), from;
    while (n > 1 && target[n - 1] == '/') n--;
    for (from = n; from > 0 && target[from - 1] != '/';) from--;
    if (!file_name_is_plain(target + from, n - from)) return error_set(e, AHA_ERR_ARG, "'%.300s' is no name for something new", target);
    if (n + sizeof ".partial" > OUTPUT_PATH_MAX) return error_set(e, AHA_ERR_LIMIT, "the path is longer than %d bytes", OUTPUT_PATH_MAX - 9);
    snprintf(o->target, sizeof o->target, "%.*s", (int)n, target);
    snprintf(o->partial, sizeof o->partial, "%.*s.partial", (int)n, target);
    snprintf(o->place, sizeof o->place, "%.*s", (int)from, target);
    if (!from) snprintf(o->place, sizeof o->place, ".");
    return 0;
}

int output_new(Output **out, const char *target, bool folder, aha_error *e)
{
    Output *o = mem_zalloc(1, sizeof *o);
    *out = NULL;
    if (!o) return format_nomem(target, e);
    o->folder = folder;
    o->open = -1;
    o->data.fd = o->journal.f.fd = -1;
    int rc = set_places(o, target, e);
    if (!rc && !(o->piece = mem_alloc(OUTPUT_PIECE))) rc = format_nomem(target, e);
    if (rc) output_free(o);
    else *out = o;
    return rc;
}

void output_free(Output *o)
{
    if (!o) return;
    for (int i = 0; i < o->n_file; i++) buf_free(&o->file[i].head);
    for (int i = 0; i < o->n_text; i++) mem_free(o->text[i].text);
    mem_free(o->file);
    mem_free(o->part);
    mem_free(o->text);
    mem_free(o->piece);
    mem_free(o);
}

static int check_name(const char *name, aha_error *e)
{
    return file_name_is_plain(name, strlen(name)) && strcmp(name, JOURNAL) ? 0 : error_set(e, AHA_ERR_ARG, "'%.200s' is no plain file name", name);
}

static int new_file(Output *o, const char *name, OutFile **f, aha_error *e)
{
    void *list = o->file;
    int   rc = check_name(name, e);
    if (rc) return rc;
    bool room = grow(&list, &o->file_cap, o->n_file, sizeof *o->file);
    o->file = list;
    if (!room) return format_nomem(name, e);
    *f = &o->file[o->n_file++];
    memset(*f, 0, sizeof **f);
    snprintf((*f)->name, sizeof (*f)->name, "%s", name);
    (*f)->end = o->n_part;
    return 0;
}

/* The tensors of the last file by where they begin */
static int add_parts(Output *o, const TensorInfo *t, int n, const uint64_t *at, aha_error *e)
{
    OutFile *f = &o->file[o->n_file - 1];
    int      first = o->n_part;
    for (int i = 0; i < n; i++) {
        void *list = o->part;
        bool  room = grow(&list, &o->part_cap, o->n_part, sizeof *o->part);
        o->part = list;
        if (!room) return format_nomem(f->name, e);
        o->part[o->n_part++] = (OutPart){first + i, o->n_file - 1, at[i], t[i].bytes, 0};
    }
    for (int i = first + 1; i < o->n_part; i++) { /* nearly in order as they come: two runs at most */
        OutPart p = o->part[i];
        int     k = i;
        for (; k > first && o->part[k - 1].at > p.at; k--) o->part[k] = o->part[k - 1];
        o->part[k] = p;
    }
    for (int i = first; i < o->n_part; i++)
        o->part[i].pad = (i + 1 < o->n_part ? o->part[i + 1].at : f->bytes) - o->part[i].at - o->part[i].bytes;
    f->end = o->n_part;
    return 0;
}

int output_add_gguf(Output *o, const char *name, const GgufMeta *meta, const TensorInfo *t, int n, aha_error *e)
{
    OutFile  *f = NULL;
    uint64_t *at = mem_alloc(((size_t)n + 1) * sizeof *at);
    int       rc = at ? new_file(o, name, &f, e) : format_nomem(name, e);
    if (!rc) rc = gguf_head(&f->head, name, meta, t, n, at, &f->bytes, e);
    if (!rc) rc = add_parts(o, t, n, at, e);
    mem_free(at);
    return rc;
}

int output_add_safetensors(Output *o, const char *name, const char *const *metadata, const TensorInfo *t, int n, aha_error *e)
{
    OutFile  *f = NULL;
    uint64_t *at = mem_alloc(((size_t)n + 1) * sizeof *at);
    int       rc = at ? new_file(o, name, &f, e) : format_nomem(name, e);
    if (!rc) rc = safetensors_head(&f->head, name, metadata, t, n, at, &f->bytes, e);
    if (!rc) rc = add_parts(o, t, n, at, e);
    mem_free(at);
    return rc;
}

int output_add_text(Output *o, const char *name, const char *text, size_t n, aha_error *e)
{
    void *list = o->text;
    int   rc = check_name(name, e);
    if (rc) return rc;
    bool room = grow(&list, &o->text_cap, o->n_text, sizeof *o->text);
    o->text = list;
    char *copy = room ? mem_alloc(n + 1) : NULL;
    if (!copy) return format_nomem(name, e);
    memcpy(copy, text, n);
    OutText *t = &o->text[o->n_text++];
    *t = (OutText){.text = copy, .n = n};
    snprintf(t->name, sizeof t->name, "%s", name);
    return 0;
}

int output_partial(const Output *o, const char *name, char path[OUTPUT_PATH_MAX], aha_error *e)
{
    return path_join(path, OUTPUT_PATH_MAX, o->partial, name, e);
}

/* ---- room on the disk ---- */
static uint64_t bytes_missing(const Output *o)
{
    uint64_t n = 0;
    for (int i = 0, first = 0; i < o->n_file; first = o->file[i++].end) {
        if (o->journal.whole <= first) n += o->file[i].bytes;
        else if (o->journal.whole < o->file[i].end) n += o->file[i].bytes - o->part[o->journal.whole].at;
    }
    for (int i = 0; i < o->n_text; i++) n += o->text[i].n;
    return n;
}

static int check_room(const Output *o, aha_error *e)
{
    uint64_t has = 0, needs = bytes_missing(o);
    int      rc = disk_free(o->partial, &has, e);
    if (rc || has >= needs) return rc;
    return error_set(e, AHA_ERR_IO, "%s needs %llu bytes (%.2f GB) of space%s, %llu (%.2f GB) are free there", o->target, (unsigned long long)needs,
                     (double)needs / 1e9, o->journal.whole ? " more" : "", (unsigned long long)has, (double)has / 1e9);
}

/* ---- the bytes ---- */
static int flush(Output *o, aha_error *e)
{
    int rc = file_pwrite(&o->data, o->piece, o->filled, (int64_t)o->at, e);
    if (rc) return error_prefix(e, rc, "%s/%s", o->partial, o->file[o->open].name);
    o->hash = journal_hash(o->hash, o->piece, o->filled);
    o->at += o->filled;
    o->filled = 0;
    return 0;
}

int output_put(Output *o, const void *data, size_t n, aha_error *e)
{
    const uint8_t *p = data;
    if (n > o->left) return error_set(e, AHA_ERR_INTERNAL, "%s: %zu bytes for a tensor that lacks %llu", o->target, n, (unsigned long long)o->left);
    o->left -= n;
    for (size_t step; n; p += step, n -= step) {
        step = OUTPUT_PIECE - o->filled < n ? OUTPUT_PIECE - o->filled : n;
        memcpy(o->piece + o->filled, p, step);
        o->filled += step;
        int rc = o->filled == OUTPUT_PIECE ? flush(o, e) : 0;
        if (rc) return rc;
    }
    return 0;
}

/* What was written is on the disk, and the journal says so. */
static int sync_data(Output *o, aha_error *e)
{
    if (o->open < 0) return 0;
    int rc = file_sync(&o->data, e);
    if (rc) return error_prefix(e, rc, "%s/%s", o->partial, o->file[o->open].name);
    o->unsynced = 0;
    return journal_synced(o, e);
}

static int open_data(Output *o, int file, aha_error *e)
{
    char     path[OUTPUT_PATH_MAX];
    OutFile *f = &o->file[file];
    int      rc = sync_data(o, e);
    file_close(&o->data);
    o->open = -1;
    if (!rc) rc = output_partial(o, f->name, path, e);
    if (!rc) rc = file_open_rw(&o->data, path, e);
    if (rc) return rc;
    o->open = file;
    rc = file_pwrite(&o->data, f->head.data, f->head.n, 0, e); /* again where the file goes on: the same bytes, if they are not there */
    return rc ? error_prefix(e, rc, "%s", path) : 0;
}

static int write_part(Output *o, const OutPart *p, aha_error *e)
{
    static const uint8_t ZERO[64];
    int                  rc = p->file == o->open ? 0 : open_data(o, p->file, e);
    if (rc) return rc;
    o->at = p->at;
    o->left = p->bytes;
    o->filled = 0;
    o->hash = 0;
    rc = o->calls->write(o->calls->user, p->tensor, o, e);
    if (!rc && o->left) rc = error_set(e, AHA_ERR_INTERNAL, "%s: tensor %d lacks %llu bytes", o->target, p->tensor, (unsigned long long)o->left);
    if (!rc && o->filled) rc = flush(o, e);
    if (!rc && p->pad && (rc = file_pwrite(&o->data, ZERO, p->pad, (int64_t)o->at, e)) != 0) error_prefix(e, rc, "%s", o->partial);
    if (!rc) rc = journal_whole(o, o->hash, e);
    o->unsynced += p->bytes;
    return !rc && o->unsynced >= SYNC_BYTES ? sync_data(o, e) : rc;
}

static int write_texts(const Output *o, aha_error *e)
{
    char path[OUTPUT_PATH_MAX];
    int  rc = 0;
    for (int i = 0; i < o->n_text && !rc; i++) {
        rc = output_partial(o, o->text[i].name, path, e);
        if (!rc) rc = file_write_atomic(path, o->text[i].text, o->text[i].n, e);
    }
    return rc;
}

static int write_all_parts(Output *o, aha_error *e)
{
    int rc = 0;
    for (int i = 0; i < o->journal.whole && o->calls->whole; i++) o->calls->whole(o->calls->user, o->part[i].tensor);
    if (o->journal.complete) return 0;
    if ((rc = check_room(o, e)) != 0) return rc;
    if (o->journal.whole) rc = open_data(o, o->part[o->journal.whole - 1].file, e); /* those before were synced when they were left */
    for (int i = o->journal.whole; i < o->n_part && !rc; i++) rc = write_part(o, &o->part[i], e);
    if (!rc) rc = sync_data(o, e);
    if (!rc) rc = write_texts(o, e);
    if (!rc) rc = dir_sync(o->partial, e);
    return rc ? rc : journal_complete(o, e);
}

/* ---- into their places ---- */
static int move_files(const Output *o, aha_error *e)
{
    char from[OUTPUT_PATH_MAX], to[OUTPUT_PATH_MAX];
    for (int i = o->n_file - 1; i >= 0; i--) { /* the first last: without it a split file cannot be opened */
        int rc = output_partial(o, o->file[i].name, from, e);
        if (!rc) rc = path_join(to, sizeof to, o->place, o->file[i].name, e);
        if (!rc && (file_exists(from) || !file_exists(to))) rc = file_rename(from, to, e); /* an earlier run may have moved it */
        if (rc) return rc;
    }
    return dir_remove_all(o->partial, e);
}

static int move_folder(const Output *o, aha_error *e)
{
    char journal[OUTPUT_PATH_MAX];
    int  rc = file_rename(o->partial, o->target, e);
    if (!rc) rc = path_join(journal, sizeof journal, o->target, JOURNAL, e);
    return rc ? rc : file_remove(journal, e);
}

static int check_target(const Output *o, bool replace, aha_error *e)
{
    char path[OUTPUT_PATH_MAX], **name = NULL;
    int  n = 0, rc = 0;
    if (o->folder && dir_exists(o->target) && (rc = dir_list(o->target, &name, &n, e)) != 0) return rc;
    mem_free(name);
    if (o->folder && (n || file_exists(o->target) || path_is_special(o->target, NULL)))
        return error_set(e, AHA_ERR_ARG, "'%.300s' is there already and not empty, expected the name of a new folder", o->target);
    for (int i = 0; i < o->n_file && !o->folder && !replace && !rc; i++) {
        rc = path_join(path, sizeof path, o->place, o->file[i].name, e);
        if (!rc && file_exists(path) && !o->journal.complete) rc = error_set(e, AHA_ERR_ARG, "'%.300s' is there already; --force replaces it", path);
    }
    return rc;
}

/* What is kept for another run, and what the message says of it */
static int leave(Output *o, int rc, aha_error *e)
{
    char      words[sizeof e->text];
    uint64_t  has = UINT64_MAX, needs = bytes_missing(o);
    bool      again = rc == AHA_ERR_IO || rc == AHA_ERR_NOMEM || rc == AHA_ERR_CANCELLED;
    if (o->journal.whole == 0 || !(again || rc == AHA_ERR_ARG)) {
        dir_remove_all(o->partial, NULL);
        return rc;
    }
    if (!e || !again || !dir_exists(o->partial)) return rc;
    snprintf(words, sizeof words, "%.250s", e->text);
    if (rc == AHA_ERR_IO && !disk_free(o->partial, &has, NULL) && has < needs)
        error_set(e, rc, "%s; %llu bytes (%.2f GB) more are needed, %llu are free", words, (unsigned long long)needs, (double)needs / 1e9, (unsigned long long)has);
    snprintf(words, sizeof words, "%.350s", e->text);
    return error_set(e, rc, "%s; the same command goes on behind tensor %d of %d (%.100s)", words, o->journal.whole, o->n_part, o->partial);
}

int output_write(Output *o, uint64_t stamp, bool replace, const OutputCalls *calls, aha_error *e)
{
    o->calls = calls;
    o->journal = (Journal){.f = {.fd = -1}};
    int rc = journal_open(o, stamp, e), opened = !rc;
    if (!rc) rc = check_target(o, replace, e);
    if (!rc) rc = write_all_parts(o, e);
    if (!rc) rc = o->folder ? move_folder(o, e) : move_files(o, e);
    if (rc && (opened || o->made)) leave(o, rc, e);
    file_close(&o->data);
    file_close(&o->journal.f); /* and with it the lock */
    o->open = -1;
    return rc;
}
