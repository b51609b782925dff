/* Cutting text into the pieces that byte-pair encoding works on.
 *
 * A tokenizer.json names regular expressions.  They are programs from outside, so none is ever compiled: each pattern of
 * the known families is recognised by its exact text, and our own spelling of it is compiled instead.  Ours writes \s out
 * as Unicode's White_Space, because PCRE2's includes U+180E and the engine behind Hugging Face's tokenizers does not, and
 * adds the characters that this engine knows and PCRE2 10.42 does not (unicode_new.h): an emoji of 2022 is a symbol.
 *
 * Several stages (DeepSeek has three) refine each other: a stage sees every piece of the stage before as a text of its
 * own, so that (?!\S) holds at the end of the piece. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "inner.h"
#include "unicode_new.h"

#define WS "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define L "\\p{L}" NEW_L
#define M "\\p{M}" NEW_M
#define N "\\p{N}" NEW_N
#define P "\\p{P}" NEW_P
#define S "\\p{S}" NEW_S
#define SPACES "[" WS "]*[\\r\\n]+|[" WS "]+(?![^" WS "])|[" WS "]+"
#define ASCII_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"

#define DEEPSEEK_CJK "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
#define DEEPSEEK_WORDS(newlines) \
    (ASCII_WORD "[^" newlines "\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[" newlines "]*|\\s*[" newlines "]+|\\s+(?!\\S)|\\s+")
#define LLAMA_WORDS(numbers) \
    (CONTRACTION "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
#define OUR_LLAMA_WORDS(numbers) (CONTRACTION "[^\\r\\n" L N "]?[" L "]+|" numbers "| ?[^" WS L N "]+[\\r\\n]*|" SPACES)

const char PRETOK_GPT2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char *const PRETOK_DEEPSEEK[3] = {"\\p{N}{1,3}", DEEPSEEK_CJK, DEEPSEEK_WORDS("\r\n")};

static const struct Known {
    const char *theirs; /* with CR and LF written as \r and \n */
    const char *ours;
} KNOWN[] = {
    /* DeepSeek V3, R1: three stages */
    {"\\p{N}{1,3}", "[" N "]{1,3}"},
    {DEEPSEEK_CJK, DEEPSEEK_CJK},
    {DEEPSEEK_WORDS("\\r\\n"), ASCII_WORD "[^\\r\\n" L P S "]?[" L M "]+| ?[" P S "]+[\\r\\n]*|" SPACES},
    /* Qwen 2, 2.5, 3 */
    {LLAMA_WORDS("\\p{N}"), OUR_LLAMA_WORDS("[" N "]")},
    /* Llama 3 */
    {LLAMA_WORDS("\\p{N}{1,3}"), OUR_LLAMA_WORDS("[" N "]{1,3}")},
    {PRETOK_GPT2, "'s|'t|'re|'ve|'m|'ll|'d| ?[" L "]+| ?[" N "]+| ?[^" WS L N "]+|[" WS "]+(?![^" WS "])|[" WS "]+"},
};
#undef L
#undef M
#undef N
#undef P
#undef S

/* Published files hold CR and LF either as characters or as \r and \n. */
static bool pattern_is(const char *known, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\r' || s[i] == '\n') {
            if (known[0] != '\\' || known[1] != (s[i] == '\r' ? 'r' : 'n')) return false;
            known += 2;
        } else if (!s[i] || *known++ != s[i]) {
            return false;
        }
    }
    return !*known;
}

static void *pcre_alloc(size_t n, void *user)
{
    (void)user;
    return mem_alloc(n);
}

static void pcre_release(void *p, void *user)
{
    (void)user;
    mem_free(p);
}

static int pretok_prepare(Pretok *p, aha_error *e)
{
    if (!p->mem) p->mem = pcre2_general_context_create(pcre_alloc, pcre_release, NULL);
    if (p->mem && !p->limits) {
        p->limits = pcre2_match_context_create(p->mem);
        if (p->limits) {
            /* the default of 10^7 steps is less than a long run of blanks needs; every known pattern is linear */
            pcre2_set_match_limit(p->limits, UINT32_MAX);
            pcre2_set_heap_limit(p->limits, UINT32_MAX);
        }
    }
    return p->limits ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory for the pre-tokeniser");
}

int pretok_add(Pretok *p, const char *pattern, size_t n, const char *what, aha_error *e)
{
    const char *ours = NULL;
    for (size_t i = 0; i < ARRAY_LEN(KNOWN) && !ours; i++)
        if (pattern_is(KNOWN[i].theirs, pattern, n)) ours = KNOWN[i].ours;
    if (!ours) {
        char quoted[160];
        return error_set(e, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: pattern \"%s\", expected one of DeepSeek-V3/R1, Qwen2/3 or Llama-3",
                         what, error_quote(quoted, sizeof quoted, pattern, n));
    }
    if (p->n == PRETOK_STAGES_MAX)
        return error_set(e, AHA_ERR_UNSUPPORTED, "%s: pre_tokenizer: more than %d patterns", what, PRETOK_STAGES_MAX);
    int rc = pretok_prepare(p, e);
    if (rc) return rc;
    pcre2_compile_context *cc = pcre2_compile_context_create(p->mem);
    if (!cc) return error_set(e, AHA_ERR_NOMEM, "%s: no memory for the pre-tokeniser", what);
    int         code = 0;
    PCRE2_SIZE  at = 0;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)ours, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!re && code == PCRE2_ERROR_HEAP_FAILED) return error_set(e, AHA_ERR_NOMEM, "%s: no memory for the pre-tokeniser", what);
    if (!re) return error_set(e, AHA_ERR_INTERNAL, "a pattern of the pre-tokeniser does not compile: error %d at %zu", code, at);
    p->jit[p->n] = pcre2_jit_compile(re, PCRE2_JIT_COMPLETE) == 0; /* without it the same pieces, more slowly */
    p->re[p->n++] = re;
    return 0;
}

void pretok_free(Pretok *p)
{
    for (int i = 0; i < p->n; i++) pcre2_code_free(p->re[i]);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->mem);
    *p = (Pretok){0};
}

pcre2_match_data *pretok_scratch(const Pretok *p)
{
    return pcre2_match_data_create(1, p->mem);
}

void pretok_scratch_free(pcre2_match_data *m)
{
    pcre2_match_data_free(m);
}

typedef struct Split {
    const Pretok     *p;
    pcre2_match_data *m;
    PieceFn           fn;
    void             *user;
    aha_error        *e;
} Split;

/* The next match at or after `from`: 1 and its place, 0 none, or an error. */
static int next_match(const Split *s, int stage, const char *text, size_t n, size_t from, size_t *start, size_t *end)
{
    int rc = PCRE2_ERROR_JIT_BADOPTION;
    if (s->p->jit[stage]) rc = pcre2_jit_match(s->p->re[stage], (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, s->m, s->p->limits);
    if (rc == PCRE2_ERROR_JIT_BADOPTION || rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(s->p->re[stage], (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->m, s->p->limits);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc == PCRE2_ERROR_NOMEMORY) return error_set(s->e, AHA_ERR_NOMEM, "no memory to cut the text into words");
    if (rc < 0) return error_set(s->e, AHA_ERR_INTERNAL, "the pre-tokeniser failed with PCRE2's error %d", rc);
    const PCRE2_SIZE *o = pcre2_get_ovector_pointer(s->m);
    if (o[1] <= o[0] || o[0] < from) return error_set(s->e, AHA_ERR_INTERNAL, "the pre-tokeniser matched nothing");
    *start = o[0];
    *end = o[1];
    return 1;
}

static int split_stage(const Split *s, int stage, const char *text, size_t n)
{
    if (!n) return 0;
    if (stage == s->p->n) return s->fn(s->user, text, n);
    size_t at = 0;
    while (at < n) {
        size_t start = 0, end = 0;
        int    rc = next_match(s, stage, text, n, at, &start, &end);
        if (rc < 0) return rc;
        if (!rc) return split_stage(s, stage + 1, text + at, n - at);
        if ((rc = split_stage(s, stage + 1, text + at, start - at))) return rc; /* what lies between matches */
        if ((rc = split_stage(s, stage + 1, text + start, end - start))) return rc;
        at = end;
    }
    return 0;
}

int pretok_split(const Pretok *p, pcre2_match_data *m, const char *s, size_t n, PieceFn fn, void *user, aha_error *e)
{
    Split split = {p, m, fn, user, e};
    return split_stage(&split, 0, s, n);
}
