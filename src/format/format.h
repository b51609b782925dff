/* format: the border for model files.  safetensors, GGUF, config.json, JSON: everything is checked here, once, with a message
 * that names the file or field, the value got and the value expected.  Behind this border nothing is checked again. */
#ifndef AHA_FORMAT_H
#define AHA_FORMAT_H

#include "../base/base.h"
#include "../tensor/dtype.h"

/* ---- JSON (json.c): jansson behind bounds ----
 * Bytes are capped before parsing, nesting at 64, duplicate keys rejected, memory bounded; NaN and lone surrogates are
 * errors.  The accessors name the path of the field in their messages.  Opaque here: `struct json_t` is jansson's. */
struct json_t;
typedef struct json_t Json;
int   json_parse(Json **out, const char *text, size_t n, const char *what, aha_error *e); /* what: the file's name, for messages */
int   json_read(Json **out, const char *path, size_t max_bytes, aha_error *e);
/* The same; of text that is no JSON *at is the byte (or near it) where that shows. */
int   json_parse_where(Json **out, const char *text, size_t n, const char *what, size_t *at, aha_error *e);
/* The same, where integers that do not fit into 64 bits are numbers (as 1e19 is), not an error: what others' schemas and calls
 * hold is passed on as it is written, and its size is nobody's business here. */
int   json_parse_wide(Json **out, const char *text, size_t n, const char *what, size_t *at, aha_error *e);
/* The text of a member of the object that `text` is, as it stands there; false: no such member, or no object. */
bool  json_member(const char *text, size_t n, const char *key, const char **value, size_t *len);
/* Which member of the object the byte `at` belongs to, for a message about text that need not be JSON; false: none. */
bool  json_member_at(const char *text, size_t n, size_t at, Buf *key);
void  json_free(Json *j);
const Json *json_field(const Json *obj, const char *key); /* NULL when absent or null, or obj is no object */
/* Each: absent (or null) leaves *out alone when `required` is false; a wrong type or range is AHA_ERR_FORMAT. */
int json_get_int(const Json *obj, const char *what, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, aha_error *e);
int json_get_num(const Json *obj, const char *what, const char *key, bool required, double lo, double hi, double *out, aha_error *e);
int json_get_bool(const Json *obj, const char *what, const char *key, bool required, bool *out, aha_error *e);
int json_get_str(const Json *obj, const char *what, const char *key, bool required, const char **out, aha_error *e); /* owned by obj */

/* ---- weights in files (weights.c, safetensors.c, gguf*.c) ---- */
enum { TENSOR_DIMS_MAX = 4 };
typedef struct TensorInfo {
    const char *name; /* owned by the file */
    Dtype       dtype;
    int         n_dims;
    int64_t     dim[TENSOR_DIMS_MAX]; /* outermost first; a scalar has n_dims 0 */
    const void *data;                 /* inside the mapping, unaligned perhaps; NULL when only the header was read */
    size_t      bytes;
    int         shard; /* which file of the folder */
} TensorInfo;

/* An opened set of tensors: a folder (model.safetensors, or model.safetensors.index.json with its shards), one
 * .safetensors file, or one GGUF file (of a split one: the first; the others lie beside it).  What a file is, its first
 * bytes say.  Mapped read-only, found by hash.  Immutable after opening: any number of threads may read. */
typedef struct WeightFile WeightFile;
int  weights_open(WeightFile **out, const char *path, aha_error *e);
int  weights_open_memory(WeightFile **out, const char *what, const void *data, size_t n, aha_error *e); /* borrows data */
void weights_close(WeightFile *w);
int  weights_count(const WeightFile *w);
const TensorInfo *weights_at(const WeightFile *w, int i);
const TensorInfo *weights_find(const WeightFile *w, const char *name);
const char *weights_metadata(const WeightFile *w, const char *key); /* of __metadata__; NULL when absent */
size_t weights_bytes(const WeightFile *w);
uint64_t weights_stamp(const WeightFile *w); /* of its files' sizes and times: another number when one was written meanwhile; from memory 0 */
/* From now on the data will be read, not only the headers and a tensor here and there: the system may read ahead. */
void weights_expect_all(const WeightFile *w);
bool weights_is_gguf(const WeightFile *w);
/* These bytes will not be read again soon: what was read of a file of hundreds of gigabytes need not stay in memory.  Whole pages of mapped
 * files only; nothing else is touched. */
void weights_done_with(const WeightFile *w, const void *data, size_t n);

/* ---- GGUF's metadata (gguf_kv.c) ---- typed values by key; a split file has those of its first shard */
typedef enum GgufType { /* as numbered in files */
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64,
    GGUF_TYPE_COUNT
} GgufType;
typedef struct GgufValue {
    GgufType       type;  /* of the value, or of the elements of an array; never GGUF_ARRAY */
    bool           array;
    int64_t        n;     /* elements; 1 when it is no array */
    const uint8_t *data;  /* where the first begins: inside the mapping, unaligned, little-endian */
    size_t         bytes; /* of all; lengths of strings included */
} GgufValue;
int              gguf_kv_count(const WeightFile *w); /* 0 when w is no GGUF file */
const char      *gguf_kv_key(const WeightFile *w, int i);
const GgufValue *gguf_kv_at(const WeightFile *w, int i);
const GgufValue *gguf_kv_find(const WeightFile *w, const char *key); /* NULL when absent */
/* Each: absent leaves *out alone when `required` is false; a wrong type or range is AHA_ERR_FORMAT.  what: the file's name.
 * An integer is of any width and sign, a number of either width, a string owned by the file and not NUL-terminated. */
int gguf_get_int(const WeightFile *w, const char *what, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, aha_error *e);
int gguf_get_num(const WeightFile *w, const char *what, const char *key, bool required, double lo, double hi, double *out, aha_error *e);
int gguf_get_bool(const WeightFile *w, const char *what, const char *key, bool required, bool *out, aha_error *e);
int gguf_get_str(const WeightFile *w, const char *what, const char *key, bool required, const char **out, size_t *n, aha_error *e);
/* Element i, 0 <= i < v->n, of integers and bools (U64 above 2^63 - 1: that), or of F32 and F64. */
int64_t gguf_int(const GgufValue *v, int64_t i);
double  gguf_num(const GgufValue *v, int64_t i);
/* Walks the strings of a value of type GGUF_STRING, in order: for (s = gguf_strings(v); gguf_next(&s, &text, &n);).  text is
 * owned by the file, not NUL-terminated, any bytes. */
typedef struct GgufStrings {
    const uint8_t *p;
    int64_t        left;
} GgufStrings;
GgufStrings gguf_strings(const GgufValue *v);
bool        gguf_next(GgufStrings *s, const char **text, size_t *n);

/* Writes one safetensors file as file_write_atomic does (streaming; tmp, fsync, rename).  metadata: pairs key, value,
 * ..., NULL; or NULL.  Data of each tensor is read once.  Header padded to 8 bytes as Hugging Face does. */
int safetensors_write(const char *path, const TensorInfo *t, int n, const char *const *metadata, aha_error *e);
/* The same without the data in memory: fn writes tensor i's t[i].bytes to the file; t[i].data is not looked at. */
typedef int TensorWriteFn(void *user, int i, const File *f, aha_error *e);
int safetensors_write_by(const char *path, const TensorInfo *t, int n, const char *const *metadata, TensorWriteFn *fn, void *user, aha_error *e);

/* ---- GGUF's metadata to write (gguf_write.c) ---- version 3, alignment 32.  It is collected first; running out of memory
 * sticks in kv.failed and whoever writes it says so.  Integers are written as U32, numbers as F32: what readers ask for. */
typedef struct GgufMeta {
    Buf      kv;
    uint64_t n;
} GgufMeta;
void gguf_put_int(GgufMeta *m, const char *key, int64_t v); /* 0 <= v < 2^32 */
void gguf_put_num(GgufMeta *m, const char *key, double v);
void gguf_put_bool(GgufMeta *m, const char *key, bool v);
void gguf_put_str(GgufMeta *m, const char *key, const char *s, size_t n);
/* An array of n elements of GGUF_STRING or GGUF_I32, which are added one by one behind it */
void gguf_put_array(GgufMeta *m, const char *key, GgufType type, uint64_t n);
void gguf_add_str(GgufMeta *m, const char *s, size_t n);
void gguf_add_i32(GgufMeta *m, int32_t v);
/* Which file of how many, and the tensors of all, as gguf-split marks them */
void gguf_put_split(GgufMeta *m, int no, int count, int tensors);
/* All that w says, but what is of its types, alignment and split */
void gguf_put_all(GgufMeta *m, const WeightFile *w);
void gguf_meta_free(GgufMeta *m);

/* Writes one file as safetensors_write_by does, the tensors in the order given. */
int  gguf_write(const char *path, const GgufMeta *meta, const TensorInfo *t, int n, TensorWriteFn *fn, void *user, aha_error *e);

/* ---- files that take hours to write (output.c, journal.c) ----
 * One or several model files, written as one: all are there in the end, or none.  They grow in the folder TARGET.partial, tensor by tensor,
 * beside a journal.  A run that was cut short, by a signal, a crash or a full disk, goes on behind the last whole tensor when the same is
 * asked for again: the program's version, the files' heads (types, shapes, metadata), the texts and the source's stamp are what the journal
 * says, else it begins anew.  The bytes are those of a run that was not cut short. */
typedef struct Output Output;
/* target: a folder (not there, or empty) that the files will be in; or a file, in whose folder they will be. */
int  output_new(Output **out, const char *target, bool folder, aha_error *e);
/* One more file of n tensors, which are numbered on; name: a plain one.  What t, meta and metadata point to is used now only. */
int  output_add_gguf(Output *o, const char *name, const GgufMeta *meta, const TensorInfo *t, int n, aha_error *e);
int  output_add_safetensors(Output *o, const char *name, const char *const *metadata, const TensorInfo *t, int n, aha_error *e);
int  output_add_text(Output *o, const char *name, const char *text, size_t n, aha_error *e); /* copied */
typedef struct OutputCalls {
    /* Writes tensor i's bytes by output_put; called in the order of the bytes, which is each file's own. */
    int (*write)(void *user, int i, Output *o, aha_error *e);
    void (*whole)(void *user, int i);             /* instead, before, for each that an earlier run wrote; NULL: not wanted */
    void (*note)(void *user, const char *line);   /* that it goes on, or why it begins anew; NULL: not wanted */
    void *user;
} OutputCalls;
int  output_put(Output *o, const void *data, size_t n, aha_error *e);
/* stamp: of the source.  replace: files of these names in the target's folder are.  AHA_ERR_IO, _NOMEM, _CANCELLED: what is whole stays for the
 * next run; after another error nothing does.  Where the disk has no room, that is said before anything is written. */
int  output_write(Output *o, uint64_t stamp, bool replace, const OutputCalls *calls, aha_error *e);
void output_free(Output *o);

/* ---- config.json (config.c) ---- */
typedef enum Arch { ARCH_LLAMA, ARCH_QWEN2, ARCH_QWEN3, ARCH_DEEPSEEK_V3 } Arch;
typedef enum RopeKind { ROPE_NONE, ROPE_YARN, ROPE_LLAMA3, ROPE_LINEAR } RopeKind;
typedef enum Scoring { SCORING_SOFTMAX, SCORING_SIGMOID } Scoring;
/* how the groups and experts are chosen: GREEDY top-k of the scores; GROUP_MAX: V2's group_limited_greedy, a group's
 * score is its best expert's; NOAUX: V3's noaux_tc, bias added for choosing, a group's score is the sum of its two best */
typedef enum RouteKind { ROUTE_GREEDY, ROUTE_GROUP_MAX, ROUTE_NOAUX } RouteKind;

typedef struct Rope {
    RopeKind kind;
    double   theta, factor;
    int      original_len;              /* yarn, llama3: the length trained with */
    double   beta_fast, beta_slow;      /* yarn */
    double   mscale, mscale_all_dim;    /* yarn, deepseek */
    double   low_freq_factor, high_freq_factor; /* llama3 */
    /* The factor put on cos and sin, already resolved.  yarn: "attention_factor" if the config has it; else, with a
     * key "attn_factor" a (R1-0528-Qwen3-8B), a * (0.1 ln factor + 1), which nets 1.0 for that model as its authors
     * meant; else mscale/mscale_all_dim's quotient (deepseek), else 0.1 ln factor + 1. */
    double   cos_sin_factor;
    bool     interleaved;               /* pairs (2i, 2i+1) as DeepSeek; false: halves (i, i+n/2) as Qwen, Llama */
} Rope;

typedef struct Config {
    Arch arch;
    char model_type[32];     /* as in the file */
    int  n_layer;            /* L, without the MTP layers */
    int  d_model;            /* D */
    int  n_head, n_kv_head;  /* H, G */
    int  head_dim;           /* dense families: N */
    int  d_ff;               /* F of dense layers */
    int  vocab;              /* V, rows of the embedding */
    int  max_pos;
    double rms_eps;
    Rope rope;
    bool qkv_bias, qk_norm, tied_embeddings;
    /* MLA */
    int  q_lora;             /* Q, 0: no query latent */
    int  kv_lora;            /* C */
    int  nope, rope_dim, v_dim; /* N, R, V' */
    /* MoE; n_expert 0: none, every layer is dense */
    int  n_expert, n_expert_used, n_shared, d_expert; /* E, K, shared, F of an expert */
    int  n_dense_first;      /* the first so many layers are dense */
    int  n_group, topk_group;
    Scoring   scoring;
    RouteKind route;
    bool      norm_topk;
    double    route_scale;
    int  n_mtp;              /* next-token prediction layers after the last */
    bool fp8;                /* quantization_config: fp8, 128x128 */
    int  bos, eos[8], n_eos; /* -1 / 0 when absent */
} Config;

/* Reads and checks config.json's text.  Derived sizes are all within int and their products within int64. */
int config_parse(Config *c, const char *text, size_t n, const char *what, aha_error *e);
int config_read(Config *c, const char *path, aha_error *e);
/* The same from a GGUF file's metadata and tensors (config_gguf.c).  A key that files in use lack has a default, which is
 * logged; what is needed and absent, or out of bounds, is refused as in config.json. */
int config_from_gguf(Config *c, const WeightFile *w, const char *what, aha_error *e);
/* The other way (config_to_gguf.c): general.architecture, the keys of the architecture, beginning and end of a sentence.
 * split_kv_b: for files with k_b and v_b.  AHA_ERR_UNSUPPORTED: GGUF has no key for what the config says. */
int config_to_gguf(const Config *c, bool split_kv_b, GgufMeta *m, const char *what, aha_error *e);
const char *gguf_arch_name(Arch a);
/* Writes it so that transformers loads it (published key names); *out is mem_free'd by the caller. */
int config_write(const Config *c, Dtype dtype, char **out, aha_error *e);

#endif
