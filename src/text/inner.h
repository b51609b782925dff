/* What the files of this room share with each other and with nobody else. */
#ifndef AHA_TEXT_INNER_H
#define AHA_TEXT_INNER_H

#include "text.h"

enum {
    TOK_JSON_BYTES_MAX = 32 << 20, /* of a tokenizer.json; the largest of the known families has 11 MB, and parsing may take 48 times as much */
    TOK_VOCAB_MAX = 1 << 20,       /* tokens */
    TOK_MERGES_MAX = 1 << 22,
    TOK_BYTES_MAX = 4096,          /* of one token; the longest in the known families has 256 */
    PRETOK_STAGES_MAX = 6
};

/* ---- the 256 letters of byte-level BPE (bytemap.c) ----
 * GPT-2's map from bytes to printable characters, in which tokenizer.json spells its tokens. */
uint32_t bytemap_char(uint8_t byte);   /* the code point that stands for a byte */
int      bytemap_byte(uint32_t cp);    /* the byte that a code point stands for, -1: none */
int      bytemap_order(int i);         /* the i-th byte in GPT-2's order of base tokens, i in 0..255 */
/* Spelled token to bytes: writes at most n bytes to dst; their number, or -1 when some character stands for no byte. */
int64_t  bytemap_decode(char *dst, const char *s, size_t n);

/* ---- byte-pair encoding (bpe.c) ---- */
typedef struct BpeMerge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: empty slot */
    uint32_t rank;
    int32_t  id; /* what the pair becomes */
} BpeMerge;
typedef struct Bpe {
    int32_t         byte_id[256];
    const char     *blob; /* borrowed: bytes of token i are blob[off[i] .. off[i+1]) */
    const uint32_t *off;
    int32_t        *slot; /* [n_slot] token ids by their bytes, -1: empty; a power of two */
    size_t          n_slot;
    BpeMerge       *merge; /* [n_merge] by pair; a power of two */
    size_t          n_merge;
    uint64_t        seed;          /* of the hashes, so that no file can be built to collide */
    bool            ignore_merges; /* a piece that is a token is taken whole */
} Bpe;
typedef struct BpeScratch { /* one per call of tokenizer_encode; grows to the longest piece */
    struct BpeSym  *sym;
    struct BpeHeap *heap;
    size_t          cap;
} BpeScratch;
int     bpe_init(Bpe *b, size_t n_tokens, size_t n_merges, aha_error *e); /* blob and off are set by the caller */
void    bpe_free(Bpe *b);
bool    bpe_add_token(Bpe *b, int32_t id); /* false: another token has these bytes */
int32_t bpe_find(const Bpe *b, const char *s, size_t n); /* -1 absent */
/* The later of two merges of one pair wins, as in Hugging Face's tokenizers. */
void    bpe_add_merge(Bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id);
int     bpe_encode(const Bpe *b, BpeScratch *s, const char *piece, size_t n, Ids *out, aha_error *e);
void    bpe_scratch_free(BpeScratch *s);

/* ---- cutting text into pieces (pretok.c) ---- */
typedef struct Pretok {
    struct pcre2_real_general_context_8 *mem;
    struct pcre2_real_match_context_8   *limits;
    struct pcre2_real_code_8            *re[PRETOK_STAGES_MAX];
    bool                                 jit[PRETOK_STAGES_MAX];
    const char                          *theirs[PRETOK_STAGES_MAX]; /* the patterns as published */
    int                                  n;
} Pretok;
typedef int (*PieceFn)(void *user, const char *s, size_t n);
extern const char *const PRETOK_DEEPSEEK[3]; /* DeepSeek-V3's patterns, letter by letter as in its tokenizer.json */
extern const char PRETOK_GPT2[]; /* the pattern that ByteLevel with use_regex stands for */
/* Adds a stage: cuts out the matches of a pattern, known by its exact text; unknown: AHA_ERR_UNSUPPORTED naming it. */
int  pretok_add(Pretok *p, const char *pattern, size_t n, const char *what, aha_error *e);
/* Adds the stages of a family by the name that GGUF files give it; unknown: AHA_ERR_UNSUPPORTED naming it. */
int  pretok_add_family(Pretok *p, const char *name, const char *what, aha_error *e);
const char *pretok_family(const Pretok *p); /* the name of these stages in GGUF files, or NULL */
void pretok_free(Pretok *p);
/* Scratch that a caller reuses over several pretok_split; NULL when there is no memory. */
struct pcre2_real_match_data_8 *pretok_scratch(const Pretok *p);
void pretok_scratch_free(struct pcre2_real_match_data_8 *m);
/* Calls fn with the pieces of s[0..n), valid UTF-8, in order; stops at the first error that fn returns. */
int  pretok_split(const Pretok *p, struct pcre2_real_match_data_8 *m, const char *s, size_t n, PieceFn fn, void *user, aha_error *e);

/* ---- normalisation (nfc.c) ---- valid UTF-8 to NFC, in linear time.  *out NULL: s is NFC already; else mem_free it */
int nfc_normalise(const char *s, size_t n, char **out, size_t *out_n, aha_error *e);

/* ---- how R1 writes calls of tools (reply.c) ---- tokens of the 671B models, plain text in the distills */
typedef enum ToolMarker {
    TOOL_CALLS_BEGIN,
    TOOL_CALLS_END,
    TOOL_CALL_BEGIN,
    TOOL_CALL_END,
    TOOL_OUTPUTS_BEGIN,
    TOOL_OUTPUTS_END,
    TOOL_OUTPUT_BEGIN,
    TOOL_OUTPUT_END,
    TOOL_SEP,
    TOOL_MARKERS
} ToolMarker;
extern const char *const TOOL_MARKER[TOOL_MARKERS];

/* ---- the tokenizer's inside (tokenizer.c); built by load.c ---- */
enum { SPEC_SET = 1, SPEC_VOCAB = 2, SPEC_ADDED = 4, SPEC_SPECIAL = 8, SPEC_NORMALIZED = 16 };
typedef struct TokSpec { /* one token as a file gives it */
    const char *s;       /* as spelled: byte-level letters, or plain text for an added token */
    uint32_t    n;
    uint8_t     flags;
} TokSpec;
typedef struct AddedSet { /* ids in ascending order of their bytes */
    int32_t *id;
    int      n;
    uint32_t first[8]; /* bit c: some token starts with the byte c */
} AddedSet;
enum { ADDED_RAW, ADDED_NORMALIZED, ADDED_SETS }; /* found before, and after, normalisation */
struct Tokenizer {
    char     *blob;
    uint32_t *off;   /* [vocab + 1] */
    uint8_t  *flags; /* [vocab] SPEC_* */
    int       vocab;
    Bpe       bpe;
    Pretok    pre;
    bool      nfc;
    AddedSet  added[ADDED_SETS];
};
/* ---- writing them (hf_words.c) ---- a token as spelled in a vocabulary: an added one is its text, any other one letter a byte */
void tok_spell(const Tokenizer *t, int32_t id, Buf *out);
BpeMerge *tok_merges(const Tokenizer *t, size_t *n); /* by rank; mem_free it; NULL: no memory */
void tok_put_split(Buf *o, const char *pattern);     /* a stage of a pre_tokenizer's list, with a comma behind it */

typedef struct TokSource { /* what messages call the places that tokens come from */
    const char *what;      /* the file */
    const char *tokens, *added, *merges; /* its fields */
} TokSource;
/* Fills t from specs[0..vocab), all set; n_merges is a bound for the merges to come. */
int tok_build(Tokenizer *t, const TokSpec *spec, int vocab, size_t n_merges, const TokSource *from, aha_error *e);
/* The merge of two tokens given as spelled. */
int tok_add_merge(Tokenizer *t, const char *left, size_t nl, const char *right, size_t nr, uint32_t rank, const TokSource *from, aha_error *e);

#endif
