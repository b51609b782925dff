/* Files that are written over several runs: what output.c and journal.c share. */
#ifndef AHA_FORMAT_OUTPUT_H
#define AHA_FORMAT_OUTPUT_H

#include "inner.h"

enum { OUTPUT_PATH_MAX = 4096, OUTPUT_PIECE = 4 << 20 }; /* a tensor's bytes are hashed and written by pieces of so many */

typedef struct OutFile {
    char     name[256];
    Buf      head;
    uint64_t bytes;
    int      end; /* the first part that is not its own */
} OutFile;

typedef struct OutPart { /* a tensor, in the order of the bytes */
    int      tensor, file;
    uint64_t at, bytes, pad; /* zeros behind it */
} OutPart;

typedef struct OutText {
    char  name[256];
    char *text;
    size_t n;
} OutText;

/* The journal: a line that says of what, then "t NUMBER HASH" for each part that is whole, "s NUMBER" when so many are surely on the disk, and
 * "w" when all is. */
typedef struct Journal {
    File    f;
    int64_t at;            /* where the next line goes */
    int     whole, synced; /* parts */
    bool    complete;
} Journal;

struct Output {
    char     target[OUTPUT_PATH_MAX], partial[OUTPUT_PATH_MAX], place[OUTPUT_PATH_MAX]; /* place: the folder that the files will be in */
    bool     folder, made; /* made: the partial folder is of this run */
    OutFile *file;
    int      n_file, file_cap;
    OutPart *part;
    int      n_part, part_cap;
    OutText *text;
    int      n_text, text_cap;
    /* a run */
    const OutputCalls *calls;
    Journal  journal;
    File     data;
    int      open;     /* whose data; -1: none */
    uint8_t *piece;
    size_t   filled;
    uint64_t left, at, hash; /* of the part in hand: bytes to come, where they go, hash so far */
    uint64_t unsynced;
};

/* path = the name in the folder where the files grow */
int output_partial(const Output *o, const char *name, char path[OUTPUT_PATH_MAX], aha_error *e);
/* Opens the journal and finds out what is whole; what is not of it is removed. */
int  journal_open(Output *o, uint64_t stamp, aha_error *e);
int  journal_whole(Output *o, uint64_t hash, aha_error *e);
int  journal_synced(Output *o, aha_error *e);
int  journal_complete(Output *o, aha_error *e);
uint64_t journal_hash(uint64_t hash, const void *piece, size_t n);
extern const char JOURNAL[];

#endif
