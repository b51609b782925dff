/* The journal of files that are written over several runs: which parts an earlier run has left whole.
 *
 * A killed process leaves what it wrote in the system's cache, a machine without power only what was synced.  So parts behind the last "s"
 * are read again and compared with their hash, and the others are not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

const char JOURNAL[] = "journal";
enum { JOURNAL_BYTES_MAX = 64 << 20, LINE_MAX = 160 };
static const char BEGIN[] = "aha convert, version ";

uint64_t journal_hash(uint64_t hash, const void *piece, size_t n) { return hash64(piece, n, hash); }

/* What all bytes but the tensors' follow from */
static uint64_t plan_of(const Output *o)
{
    uint64_t h = (uint64_t)o->n_file;
    for (int i = 0; i < o->n_file; i++) {
        h = hash64(o->file[i].name, strlen(o->file[i].name) + 1, h);
        h = hash64(o->file[i].head.data, o->file[i].head.n, h);
    }
    for (int i = 0; i < o->n_text; i++) {
        h = hash64(o->text[i].name, strlen(o->text[i].name) + 1, h);
        h = hash64(o->text[i].text, o->text[i].n, h);
    }
    return h;
}

static void note(const Output *o, const char *line)
{
    if (o->calls->note) o->calls->note(o->calls->user, line);
}

/* ---- lines ---- */
static int put_line(Output *o, const char *line, aha_error *e)
{
    size_t n = strlen(line);
    int    rc = file_pwrite(&o->journal.f, line, n, o->journal.at, e);
    if (rc) return error_prefix(e, rc, "%s/%s", o->partial, JOURNAL);
    o->journal.at += (int64_t)n;
    return 0;
}

int journal_whole(Output *o, uint64_t hash, aha_error *e)
{
    char line[LINE_MAX];
    snprintf(line, sizeof line, "t %d %016llx\n", o->journal.whole, (unsigned long long)hash);
    int rc = put_line(o, line, e);
    if (!rc) o->journal.whole++;
    return rc;
}

int journal_synced(Output *o, aha_error *e)
{
    char line[LINE_MAX];
    snprintf(line, sizeof line, "s %d\n", o->journal.whole);
    o->journal.synced = o->journal.whole;
    return put_line(o, line, e);
}

int journal_complete(Output *o, aha_error *e)
{
    int rc = put_line(o, "w\n", e);
    return rc ? rc : file_sync(&o->journal.f, e);
}

typedef struct Found { /* part i, as the journal has it */
    uint64_t hash;
    int64_t  end; /* of its line */
} Found;

static bool read_line(Output *o, char *line, int64_t end, Found *found)
{
    Journal           *j = &o->journal;
    unsigned long long h;
    int                number, used = 0;
    if (sscanf(line, "t %d %16llx%n", &number, &h, &used) == 2 && !line[used] && number == j->whole && number < o->n_part) {
        found[j->whole++] = (Found){h, end};
        return true;
    }
    if (sscanf(line, "s %d%n", &number, &used) == 1 && !line[used] && number == j->whole) {
        j->synced = number;
        return true;
    }
    j->complete = !strcmp(line, "w") && j->whole == o->n_part;
    return j->complete;
}

/* What the lines say, as far as they are in order: a torn one and what follows are not counted. */
static void read_lines(Output *o, const char *text, size_t n, Found *found)
{
    Journal *j = &o->journal;
    char     line[LINE_MAX];
    for (const char *end; !j->complete && (end = memchr(text + j->at, '\n', n - (size_t)j->at)) != NULL; j->at = end + 1 - text) {
        size_t len = (size_t)(end - text) - (size_t)j->at;
        if (len >= sizeof line) return;
        memcpy(line, text + j->at, len);
        line[len] = 0;
        if (!read_line(o, line, end + 1 - text, found)) return;
    }
}

/* ---- is it so? ---- */
static bool part_is(const File *f, const OutPart *p, uint8_t *piece, uint64_t want)
{
    uint64_t h = 0, done = 0;
    for (size_t n; done < p->bytes; done += n) {
        n = p->bytes - done < OUTPUT_PIECE ? (size_t)(p->bytes - done) : OUTPUT_PIECE;
        if (file_pread(f, piece, n, (int64_t)(p->at + done), NULL)) return false;
        h = journal_hash(h, piece, n);
    }
    return h == want;
}

/* Parts [first, end) of a file: how many of them, from the first, are there. */
static int parts_there(const Output *o, int file, int first, int end, const Found *found)
{
    char path[OUTPUT_PATH_MAX];
    File f;
    int  k = first;
    if (output_partial(o, o->file[file].name, path, NULL) || file_open(&f, path, NULL)) return 0;
    for (; k < end; k++) {
        const OutPart *p = &o->part[k];
        if ((uint64_t)f.size < p->at + p->bytes + p->pad) break;
        if (k >= o->journal.synced && !part_is(&f, p, o->piece, found[k].hash)) break;
    }
    file_close(&f);
    return k - first;
}

static void check_parts(Output *o, int64_t begin, const Found *found)
{
    Journal *j = &o->journal;
    for (int i = 0, first = 0; i < o->n_file && first < j->whole; first = o->file[i++].end) {
        int end = o->file[i].end < j->whole ? o->file[i].end : j->whole, there = parts_there(o, i, first, end, found);
        if (there == end - first) continue;
        j->whole = first + there;
        if (j->synced > j->whole) j->synced = j->whole;
        j->at = j->whole ? found[j->whole - 1].end : begin;
        return;
    }
}

/* ---- the folder ---- */
/* Everything in it but the journal, and the files that hold whole parts */
static int remove_others(const Output *o, aha_error *e)
{
    char **name, path[OUTPUT_PATH_MAX];
    int    n, rc = dir_list(o->partial, &name, &n, e);
    for (int i = 0; i < n && !rc; i++) {
        bool keep = !strcmp(name[i], JOURNAL);
        for (int k = 0, first = 0; k < o->n_file && first < o->journal.whole && !keep; first = o->file[k++].end) keep = !strcmp(name[i], o->file[k].name);
        rc = keep ? 0 : output_partial(o, name[i], path, e);
        if (!rc && !keep) rc = file_remove(path, e);
    }
    mem_free(name);
    return rc;
}

static int check_folder(Output *o, const char *journal, aha_error *e)
{
    char **name = NULL;
    int    n = 0, rc;
    if (path_is_special(o->partial, e) || file_exists(o->partial))
        return error_set(e, AHA_ERR_IO, "'%.300s' is in the way, expected a folder or nothing: it is where files grow", o->partial);
    if (!dir_exists(o->place)) return error_set(e, AHA_ERR_IO, "there is no folder '%.300s' to write to", o->place);
    o->made = !dir_exists(o->partial);
    if (o->made) return dir_make(o->partial, e);
    rc = dir_list(o->partial, &name, &n, e);
    if (!rc && n && !file_exists(journal))
        rc = error_set(e, AHA_ERR_IO, "'%.300s' is in the way: it holds no journal of an earlier run; move it, or name another place to write to", o->partial);
    mem_free(name);
    return rc;
}

static const char *what_differs(const char *old, const char *line)
{
    size_t version = strlen(BEGIN) + strlen(AHA_VERSION), plan = strlen(", plan 0123456789abcdef");
    if (strncmp(old, line, version)) return "another version of the program wrote it";
    return strncmp(old, line, version + plan) ? "it was asked for with other options, or of a model of other shapes or words" : "the source has changed";
}

static void go_on(Output *o, int64_t begin, const char *text, size_t n, Found *found)
{
    char     words[128];
    Journal *j = &o->journal;
    j->at = begin;
    read_lines(o, text, n, found);
    if (!j->complete) check_parts(o, begin, found);
    snprintf(words, sizeof words, "going on: %d of %d tensors are whole already", j->whole, o->n_part);
    if (j->whole) note(o, words);
}

/* Goes on behind the lines that hold, or begins anew. */
static int take_journal(Output *o, const char *line, const char *text, size_t n, aha_error *e)
{
    char     words[256];
    Journal *j = &o->journal;
    size_t   len = strlen(line), known = sizeof BEGIN - 1;
    Found   *found = mem_alloc(((size_t)o->n_part + 1) * sizeof *found);
    if (!found) return format_nomem(o->partial, e);
    int rc = 0;
    if (memcmp(text, BEGIN, n < known ? n : known)) {
        rc = error_set(e, AHA_ERR_IO, "'%.300s' is in the way: its journal is not of an earlier run; move it, or name another place to write to", o->partial);
    } else if (n >= len && !memcmp(text, line, len)) {
        go_on(o, (int64_t)len, text, n, found);
    } else if (n >= known) {
        snprintf(words, sizeof words, "beginning anew, as what an earlier run left does not fit: %s", what_differs(text, line));
        note(o, words);
    }
    mem_free(found);
    if (rc || j->complete) return rc;
    rc = remove_others(o, e);
    if (!rc) rc = file_truncate(&j->f, j->at, e);
    return rc || j->at ? rc : put_line(o, line, e);
}

int journal_open(Output *o, uint64_t stamp, aha_error *e)
{
    char     path[OUTPUT_PATH_MAX], line[LINE_MAX], *text = NULL;
    size_t   n = 0;
    bool     got = false;
    Journal *j = &o->journal;
    snprintf(line, sizeof line, "%s%s, plan %016llx, source %016llx\n", BEGIN, AHA_VERSION, (unsigned long long)plan_of(o), (unsigned long long)stamp);
    int rc = output_partial(o, JOURNAL, path, e);
    if (!rc) rc = check_folder(o, path, e);
    if (!rc) rc = file_open_rw(&j->f, path, e);
    if (!rc) rc = file_lock(&j->f, path, &got, e);
    o->made = o->made && (got || rc); /* else another run was quicker */
    if (!rc && !got) rc = error_set(e, AHA_ERR_IO, "'%.300s' belongs to another run that is still going on", o->partial);
    if (!rc) rc = file_read_all(path, JOURNAL_BYTES_MAX, &text, &n, e);
    if (!rc) rc = take_journal(o, line, text, n, e);
    mem_free(text);
    return rc;
}
