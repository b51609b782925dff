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

/* DeepSeek-LLM and V2: cased letters of the scripts that have case, ASCII and full-width punctuation, East Asian letters */
#define LLM_LETTERS \
    "[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}" \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}" \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}" \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}" \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}" \
    "\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}" \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}" \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}" \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}" \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}" \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}" \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}" \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]+"
#define LLM_PUNCT "[!-/:-~！-／：-～‘-‟\u3000-。]+"
#define LLM_ASIAN "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

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
    /* DeepSeek-LLM, V2: five stages, then single digits (its tokens hold no two) */
    {"[\\r\\n]", "[\\r\\n]"},
    {"\\s?" LLM_LETTERS, "[" WS "]?" LLM_LETTERS},
    {"\\s?" LLM_PUNCT, "[" WS "]?" LLM_PUNCT},
    {"\\s+$", "(?<![" WS "])[" WS "]+\\z"}, /* begun inside a run it could only fail, at each of its places: quadratic */
    {LLM_ASIAN, LLM_ASIAN},
    {"\\p{N}+", "[" N "]+"},
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
    const char *ours = NULL, *theirs = NULL;
    for (size_t i = 0; i < ARRAY_LEN(KNOWN) && !ours; i++)
        if (pattern_is(KNOWN[i].theirs, pattern, n)) {
            ours = KNOWN[i].ours;
            theirs = KNOWN[i].theirs;
        }
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
    p->theirs[p->n] = theirs;
    p->re[p->n++] = re;
    return 0;
}

static const struct Family {
    const char *name, *stage[PRETOK_STAGES_MAX];
} FAMILY[] = {
    {"deepseek-v3", {"\\p{N}{1,3}", DEEPSEEK_CJK, DEEPSEEK_WORDS("\r\n")}},
    {"deepseek-r1-qwen", {LLAMA_WORDS("\\p{N}")}},
    {"qwen2", {LLAMA_WORDS("\\p{N}")}},
    {"llama-bpe", {LLAMA_WORDS("\\p{N}{1,3}")}},
    {"deepseek-llm", {"[\r\n]", "\\s?" LLM_LETTERS, "\\s?" LLM_PUNCT, "\\s+$", LLM_ASIAN, "\\p{N}+"}},
};

int pretok_add_family(Pretok *p, const char *name, const char *what, aha_error *e)
{
    for (size_t i = 0; i < ARRAY_LEN(FAMILY); i++) {
        int rc = 0;
        if (strcmp(name, FAMILY[i].name)) continue;
        for (size_t k = 0; k < PRETOK_STAGES_MAX && FAMILY[i].stage[k] && !rc; k++)
            rc = pretok_add(p, FAMILY[i].stage[k], strlen(FAMILY[i].stage[k]), what, e);
        return rc;
    }
    char quoted[80];
    return error_set(e, AHA_ERR_UNSUPPORTED, "%s: tokenizer.ggml.pre: \"%s\", expected deepseek-v3, deepseek-r1-qwen, qwen2, llama-bpe or deepseek-llm",
                     what, error_quote(quoted, sizeof quoted, name, strlen(name)));
}

const char *pretok_family(const Pretok *p)
{
    for (size_t i = 0; i < ARRAY_LEN(FAMILY); i++) {
        int n = 0;
        while (n < PRETOK_STAGES_MAX && FAMILY[i].stage[n] && n < p->n && pattern_is(p->theirs[n], FAMILY[i].stage[n], strlen(FAMILY[i].stage[n]))) n++;
        if (n == p->n && (n == PRETOK_STAGES_MAX || !FAMILY[i].stage[n])) return FAMILY[i].name;
    }
    return NULL;
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
