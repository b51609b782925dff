/* What the files of this room share with each other and with nobody else. */
#ifndef AHA_FORMAT_INNER_H
#define AHA_FORMAT_INNER_H

#include "format.h"

enum {
    JSON_DEPTH_MAX = 64,          /* nesting of any JSON that is read */
    JSON_NUMBER_MAX = 1024,       /* characters of a number: the longest exact double has about 770 */
    HEADER_BYTES_MAX = 100000000, /* of a safetensors header, as the reference implementation */
    TENSOR_NAME_MAX = 512,
    SHARDS_MAX = 4096,
    METADATA_MAX = 4096 /* pairs per file */
};

/* ---- a streaming JSON reader (scan.c): memory does not grow with the text ----
 * jansson would turn a 100 MB header of `{},` into gigabytes.  Errors name the byte. */
typedef struct Scan {
    const char    *what; /* the file's name, for messages */
    const uint8_t *start, *p, *end;
    aha_error     *e;
} Scan;
void scan_init(Scan *s, const char *what, const void *text, size_t n, aha_error *e);
int  scan_fail(Scan *s, const char *expected); /* AHA_ERR_FORMAT: what stands here and what should */
void scan_space(Scan *s);
int  scan_expect(Scan *s, char c);             /* skips blanks, then wants c */
bool scan_try(Scan *s, char c);                /* skips blanks, then takes c if it is there */
int  scan_string(Scan *s, Buf *out);           /* replaces out; valid UTF-8 without NUL */
int  scan_count(Scan *s, int64_t *out);        /* an integer 0..2^63-1 */
int  scan_skip(Scan *s);                       /* over one value of any kind, at most JSON_DEPTH_MAX deep */
int  scan_end(Scan *s);                        /* nothing but blanks may follow */
/* Walks an object: 1 and the key, its colon read; 0 after the closing brace; or an error.  *n counts keys; start at 0. */
int  scan_key(Scan *s, int *n, Buf *key);

/* ---- a set of names, numbered in the order they came (names.c) ---- */
typedef struct Names {
    char    *text; /* NUL-terminated, one after the other */
    size_t   len, cap;
    size_t  *off; /* where name i starts */
    int      count, off_cap;
    int32_t *slot; /* open addressing; number + 1, 0: empty */
    size_t   n_slot;
    uint64_t seed;
} Names;
/* 1: new, 0: it was there, *index either way; or AHA_ERR_NOMEM */
int         names_add(Names *s, const char *name, size_t n, int *index);
int         names_find(const Names *s, const char *name, size_t n); /* -1 when absent */
const char *names_at(const Names *s, int i);                        /* valid until the next names_add */
size_t      names_len(const Names *s, int i);
void        names_free(Names *s);

/* ---- the index of a folder of shards (index.c) ---- */
typedef struct Index {
    Names    names, shards; /* tensors; files, each a plain name that ends in .safetensors */
    int32_t *shard;         /* [names.count] */
    int      cap;
} Index;
int  index_parse(Index *ix, Scan *s); /* into a zeroed Index; index_free it whatever comes back */
int  index_read(Index *ix, const char *path, aha_error *e);
void index_free(Index *ix);

/* ---- GGUF (gguf.c, gguf_kv.c) ---- */
typedef struct GgufKv { /* key i has value i */
    Names      keys;
    GgufValue *value;
    int        cap;
} GgufKv;
typedef struct GgufSplit { /* which file of how many, and the tensors of all; -1: not said */
    int64_t no, count, tensors;
} GgufSplit;
/* A reader of little-endian fields.  Errors name the file, the field and the byte. */
typedef struct Cursor {
    const char    *what; /* the file's name */
    const uint8_t *start, *p, *end;
    aha_error     *e;
} Cursor;
size_t cursor_left(const Cursor *c);
int    cursor_fail(const Cursor *c, const char *field, const char *expected); /* AHA_ERR_FORMAT: the file ends, or `expected` */
int    cursor_u32(Cursor *c, const char *field, uint32_t *out);
int    cursor_u64(Cursor *c, const char *field, uint64_t *out);
int    cursor_string(Cursor *c, const char *field, const char **out, size_t *n); /* within the file, any bytes */
int    gguf_kv_read(GgufKv *kv, Cursor *c, uint64_t n);                          /* into a zeroed GgufKv; free it whatever comes back */
void   gguf_kv_free(GgufKv *kv);

/* ---- an open set of tensors (weights.c, safetensors.c) ---- */
typedef struct Meta {
    size_t value; /* where the value starts in meta_text */
    int    shard; /* the last shard that held the key */
} Meta;
struct WeightFile {
    Names       names; /* tensor i has name i */
    TensorInfo *t;
    int         n, cap;
    Map        *map; /* [n_map], of shard i; none for a borrowed block */
    int         n_map;
    size_t      bytes;
    Names       meta_keys;
    Meta       *meta;
    int         meta_cap;
    Buf         meta_text;
    bool        gguf;
    GgufKv      kv; /* of the first file */
};
/* Reads the header in data[0..n) and adds its tensors and metadata to w.  Pointers into w->names are not set yet. */
int safetensors_read(WeightFile *w, int shard, const char *what, const uint8_t *data, size_t n, aha_error *e);

/* The same for one GGUF file; *split is what it says about itself.  Metadata is kept of shard 0. */
bool gguf_is(const uint8_t *data, size_t n); /* by the first four bytes */
int  gguf_read(WeightFile *w, int shard, const char *what, const uint8_t *data, size_t n, GgufSplit *split, aha_error *e);

/* What stands before the data of a file of these tensors, checked, into an empty buffer: at[i] is where tensor i begins, *bytes what the whole
 * file has.  Of safetensors the data lie in another order than given. */
int gguf_head(Buf *head, const char *what, const GgufMeta *meta, const TensorInfo *t, int n, uint64_t *at, uint64_t *bytes, aha_error *e);
int safetensors_head(Buf *head, const char *what, const char *const *metadata, const TensorInfo *t, int n, uint64_t *at, uint64_t *bytes, aha_error *e);

/* ggml's number of a type; false: it has none that is computed with */
bool gguf_type_of(Dtype dtype, uint32_t *type);

/* ---- writing (write.c) ---- */
int write_all(const File *f, const void *data, size_t n, aha_error *e);
/* Creates path.tmp, lets body write it, checks that it has so many bytes, syncs and renames it; on failure it is removed. */
typedef int WriteBodyFn(void *user, const File *f, aha_error *e);
int write_beside(const char *path, WriteBodyFn *body, void *user, uint64_t bytes, aha_error *e);

/* order[0..n) = 0..n-1 by where the data begins */
void sort_by_place(const TensorInfo *t, uint32_t *order, size_t n);

/* A value's kind, or the value itself when it is short, for a message; returns dst or a literal (json.c) */
const char *json_describe(const Json *v, char *dst, size_t cap);

/* Bytes of the shape in its dtype; false for a dimension below 1 or a product that overflows */
bool tensor_size(const TensorInfo *t, size_t *bytes);

/* "what: out of memory" */
int format_nomem(const char *what, aha_error *e);
/* Makes room for one more element of `size` bytes after n; false when there is none */
bool grow(void **p, int *cap, int n, size_t size);

#endif
