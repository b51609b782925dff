/* aha convert: what stands beside the weights (convert_words.c). */
#ifndef AHA_CLI_CONVERT_H
#define AHA_CLI_CONVERT_H

#include "model_open.h"

/* What --type takes: names of WeightMix that there are encoders for; NULL-terminated (cmd_convert.c) */
extern const char *const CONVERT_TYPES[];

/* A folder's words and name as GGUF's metadata */
int convert_words_to_gguf(ModelSet *s, GgufMeta *m, aha_error *e);
/* All that a GGUF file says, for another one */
void convert_keep_metadata(const ModelSet *s, GgufMeta *m);
/* The files that a folder has beside config.json and weights: a folder's own, or made of a GGUF file's metadata. */
enum { CONVERT_FILES_MAX = 8 };
typedef struct ConvertFiles {
    ExportText text[CONVERT_FILES_MAX];
    char      *owned[CONVERT_FILES_MAX];
    int        n;
} ConvertFiles;
int  convert_words_to_files(const ModelSet *s, ConvertFiles *f, aha_error *e);
void convert_files_free(ConvertFiles *f);

#endif
