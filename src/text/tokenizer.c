/* The tokenizer: added tokens, normalisation, pieces, ids; and back. */
#include <stdlib.h>
#include <string.h>

#include "inner.h"

/* ---- ids ---- */
int ids_push(Ids *v, int32_t id, aha_error *e)
{
    if (v->n == v->cap) {
        size_t   cap = v->cap ? v->cap * 2 : 64, bytes;
        int32_t *p = size_mul(cap, sizeof *p, &bytes) ? mem_realloc(v->id, bytes) : NULL;
        if (!p) return error_set(e, AHA_ERR_NOMEM, "no memory for %zu token ids", cap);
        v->id = p;
        v->cap = cap;
    }
    v->id[v->n++] = id;
    return 0;
}

void ids_free(Ids *v)
{
    mem_free(v->id);
    *v = (Ids){0};
}

/* ---- building ---- */
static int bytes_compare(const char *a, size_t na, const char *b, size_t nb)
{
    int c = memcmp(a, b, na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static const char *token_at(const Tokenizer *t, int32_t id, size_t *n)
{
    *n = t->off[id + 1] - t->off[id];
    return t->blob + t->off[id];
}

static int token_compare(const Tokenizer *t, int32_t a, int32_t b)
{
    size_t      na, nb;
    const char *sa = token_at(t, a, &na), *sb = token_at(t, b, &nb);
    return bytes_compare(sa, na, sb, nb);
}

/* Heap sort: the order is total, and qsort cannot be told about t. */
static void sift(const Tokenizer *t, int32_t *v, int i, int n)
{
    for (int c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && token_compare(t, v[c], v[c + 1]) < 0) c++;
        if (token_compare(t, v[i], v[c]) >= 0) return;
        int32_t x = v[i];
        v[i] = v[c];
        v[c] = x;
    }
}

static void sort_tokens(const Tokenizer *t, int32_t *v, int n)
{
    for (int i = n / 2 - 1; i >= 0; i--) sift(t, v, i, n);
    for (int i = n - 1; i > 0; i--) {
        int32_t x = v[0];
        v[0] = v[i];
        v[i] = x;
        sift(t, v, 0, i);
    }
}

/* ---- added tokens ---- */
/* The first of the set's entries lo..hi, equal in their first d bytes, whose byte d is at least c (an ended one is less). */
static int first_at_least(const Tokenizer *t, const AddedSet *a, int lo, int hi, size_t d, int c)
{
    while (lo < hi) {
        int         mid = lo + (hi - lo) / 2;
        size_t      n;
        const char *s = token_at(t, a->id[mid], &n);
        int         byte = d < n ? (uint8_t)s[d] : -1;
        if (byte < c) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

/* The longest token of the set that text starts with: its id and *len, or -1. */
static int32_t added_match(const Tokenizer *t, const AddedSet *a, const char *text, size_t n, size_t *len)
{
    uint8_t c = n ? (uint8_t)text[0] : 0;
    int32_t best = -1;
    if (!n || !(a->first[c / 32] >> c % 32 & 1)) return -1;
    int lo = 0, hi = a->n;
    for (size_t d = 0; d < n && lo < hi; d++) {
        lo = first_at_least(t, a, lo, hi, d, (uint8_t)text[d]);
        hi = first_at_least(t, a, lo, hi, d, (uint8_t)text[d] + 1);
        size_t have;
        if (lo < hi && (token_at(t, a->id[lo], &have), have == d + 1)) { /* the shortest comes first */
            best = a->id[lo];
            *len = have;
        }
    }
    return best;
}

static int32_t added_id(const Tokenizer *t, const char *s, size_t n)
{
    for (int i = 0; i < ADDED_SETS; i++) {
        size_t  len = 0;
        int32_t id = added_match(t, &t->added[i], s, n, &len);
        if (id >= 0 && len == n) return id;
    }
    return -1;
}

int tokenizer_id(const Tokenizer *t, const char *token)
{
    return added_id(t, token, strlen(token));
}

static int build_added(Tokenizer *t, int which, aha_error *e)
{
    AddedSet *a = &t->added[which];
    int       want = SPEC_ADDED | (which == ADDED_NORMALIZED ? SPEC_NORMALIZED : 0), n = 0;
    for (int id = 0; id < t->vocab; id++) n += (t->flags[id] & (SPEC_ADDED | SPEC_NORMALIZED)) == want;
    a->id = mem_zalloc((size_t)n + 1, sizeof *a->id);
    if (!a->id) return error_set(e, AHA_ERR_NOMEM, "no memory for %d added tokens", n);
    for (int id = 0; id < t->vocab; id++) {
        if ((t->flags[id] & (SPEC_ADDED | SPEC_NORMALIZED)) != want) continue;
        a->id[a->n++] = id;
        uint8_t c = (uint8_t)t->blob[t->off[id]];
        a->first[c / 32] |= 1u << c % 32;
    }
    sort_tokens(t, a->id, a->n);
    return 0;
}

/* Every token's bytes, one after the other.  A spelling that is not byte-level stands for itself, as an added token does. */
static int build_blob(Tokenizer *t, const TokSpec *spec, aha_error *e)
{
    size_t total = 1, v = (size_t)t->vocab;
    for (int i = 0; i < t->vocab; i++)
        if (!size_add(total, spec[i].n, &total) || total > UINT32_MAX) return error_set(e, AHA_ERR_LIMIT, "over 4 GiB of tokens");
    t->blob = mem_alloc(total);
    t->off = mem_zalloc(v + 1, sizeof *t->off);
    t->flags = mem_zalloc(v, 1);
    if (!t->blob || !t->off || !t->flags) return error_set(e, AHA_ERR_NOMEM, "no memory for %d tokens", t->vocab);
    uint32_t at = 0;
    for (int i = 0; i < t->vocab; i++) {
        const TokSpec *s = &spec[i];
        t->off[i] = at;
        t->flags[i] = s->flags;
        int64_t n = s->flags & SPEC_ADDED ? -1 : bytemap_decode(t->blob + at, s->s, s->n);
        if (n < 0) {
            memcpy(t->blob + at, s->s, s->n);
            n = s->n;
            if (!(s->flags & SPEC_ADDED)) t->flags[i] &= (uint8_t)~SPEC_VOCAB; /* no text becomes it */
        }
        at += (uint32_t)n;
    }
    t->off[v] = at;
    return 0;
}

/* An added token is also a word of the vocabulary when its spelling is its byte-level spelling. */
static bool spelled_alike(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)s[i] < 33 || (uint8_t)s[i] > 126) return false;
    return true;
}

/* DeepSeek-LLM's vocabulary has the bytes that no UTF-8 holds (C0, C1, F5 and up) as added tokens, spelled by their letters.  Other bytes
 * need a token of their own: an added one gives the letter back, so that characters would fall apart. */
static int32_t byte_token(const Tokenizer *t, uint8_t byte)
{
    char    letter[4], c = (char)byte;
    int32_t id = bpe_find(&t->bpe, &c, 1);
    if (id >= 0 || !(byte == 0xc0 || byte == 0xc1 || byte >= 0xf5)) return id;
    return added_id(t, letter, (size_t)utf8_put(letter, bytemap_char(byte)));
}

int tok_build(Tokenizer *t, const TokSpec *spec, int vocab, size_t n_merges, const TokSource *from, aha_error *e)
{
    char quoted[80];
    t->vocab = vocab;
    int rc = build_blob(t, spec, e);
    if (!rc) rc = bpe_init(&t->bpe, (size_t)vocab, n_merges, e);
    for (int i = 0; i < ADDED_SETS && !rc; i++) rc = build_added(t, i, e);
    if (rc) return error_prefix(e, rc, "%s", from->what);
    t->bpe.blob = t->blob;
    t->bpe.off = t->off;
    for (int id = 0; id < vocab; id++) {
        size_t      n;
        const char *s = token_at(t, id, &n);
        if ((t->flags[id] & SPEC_ADDED) && added_id(t, s, n) != id)
            return error_set(e, AHA_ERR_FORMAT, "%s: %s[\"%s\"]: has the ids %d and %d, expected one", from->what, from->added,
                             error_quote(quoted, sizeof quoted, s, n), id, added_id(t, s, n));
        if (!(t->flags[id] & SPEC_VOCAB) || ((t->flags[id] & SPEC_ADDED) && !spelled_alike(s, n))) continue;
        if (!bpe_add_token(&t->bpe, id))
            return error_set(e, AHA_ERR_FORMAT, "%s: %s: id %d and id %d have the same bytes, expected one token", from->what, from->tokens, id,
                             bpe_find(&t->bpe, s, n));
    }
    for (int c = 0; c < 256; c++) {
        t->bpe.byte_id[c] = byte_token(t, (uint8_t)c);
        if (t->bpe.byte_id[c] < 0)
            return error_set(e, AHA_ERR_FORMAT, "%s: %s: no token for the byte 0x%02x, expected all 256", from->what, from->tokens, (unsigned)c);
    }
    return 0;
}

int tok_add_merge(Tokenizer *t, const char *left, size_t nl, const char *right, size_t nr, uint32_t rank, const TokSource *from, aha_error *e)
{
    char    bytes[2 * TOK_BYTES_MAX], quoted[80];
    int64_t a = nl > TOK_BYTES_MAX ? -1 : bytemap_decode(bytes, left, nl);
    int32_t l = a > 0 ? bpe_find(&t->bpe, bytes, (size_t)a) : -1;
    if (l < 0)
        return error_set(e, AHA_ERR_FORMAT, "%s: %s[%u]: \"%s\", expected a token of %s", from->what, from->merges, rank,
                         error_quote(quoted, sizeof quoted, left, nl), from->tokens);
    int64_t b = nr > TOK_BYTES_MAX ? -1 : bytemap_decode(bytes + a, right, nr);
    int32_t r = b > 0 ? bpe_find(&t->bpe, bytes + a, (size_t)b) : -1;
    if (r < 0)
        return error_set(e, AHA_ERR_FORMAT, "%s: %s[%u]: \"%s\", expected a token of %s", from->what, from->merges, rank,
                         error_quote(quoted, sizeof quoted, right, nr), from->tokens);
    int32_t both = bpe_find(&t->bpe, bytes, (size_t)(a + b));
    if (both < 0)
        return error_set(e, AHA_ERR_FORMAT, "%s: %s[%u]: joins to \"%s\", expected a token of %s", from->what, from->merges, rank,
                         error_quote(quoted, sizeof quoted, bytes, (size_t)(a + b)), from->tokens);
    bpe_add_merge(&t->bpe, l, r, rank, both);
    return 0;
}

void tokenizer_free(Tokenizer *t)
{
    if (!t) return;
    for (int i = 0; i < ADDED_SETS; i++) mem_free(t->added[i].id);
    pretok_free(&t->pre);
    bpe_free(&t->bpe);
    mem_free(t->flags);
    mem_free(t->off);
    mem_free(t->blob);
    mem_free(t);
}

/* ---- asking ---- */
int tokenizer_vocab(const Tokenizer *t)
{
    return t->vocab;
}

const char *tokenizer_bytes(const Tokenizer *t, int32_t id, size_t *n)
{
    if (id >= 0 && id < t->vocab) return token_at(t, id, n);
    *n = 0;
    return "";
}

bool tokenizer_is_added(const Tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab && (t->flags[id] & SPEC_ADDED);
}

bool tokenizer_is_control(const Tokenizer *t, int32_t id)
{
    if (!tokenizer_is_added(t, id)) return false;
    size_t      n;
    const char *s = token_at(t, id, &n);
    return (t->flags[id] & SPEC_SPECIAL) || (n > 2 && s[0] == '<' && s[n - 1] == '>');
}

int tokenizer_decode(const Tokenizer *t, const int32_t *id, size_t n, Buf *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t      len;
        const char *s = tokenizer_bytes(t, id[i], &len);
        buf_add(out, s, len);
    }
    return out->failed ? AHA_ERR_NOMEM : 0;
}

/* ---- text to ids ---- */
typedef struct Encoder {
    const Tokenizer                *t;
    Ids                            *out;
    BpeScratch                      bpe;
    struct pcre2_real_match_data_8 *match;
    unsigned                        flags;
    aha_error                      *e;
} Encoder;

static int encode_piece(void *user, const char *s, size_t n)
{
    Encoder *x = user;
    return bpe_encode(&x->t->bpe, &x->bpe, s, n, x->out, x->e);
}

static int encode_plain(Encoder *x, const char *s, size_t n)
{
    return pretok_split(&x->t->pre, x->match, s, n, encode_piece, x, x->e);
}

static int encode_normalise(Encoder *x, const char *s, size_t n);

/* Added tokens of one set become their ids; what lies between goes on: to normalisation, then to the next set, to pieces. */
static int encode_added(Encoder *x, int which, const char *s, size_t n)
{
    int (*next)(Encoder *, const char *, size_t) = which == ADDED_RAW ? encode_normalise : encode_plain;
    size_t from = 0;
    for (size_t i = 0; (x->flags & TOK_SPECIAL) && i < n;) {
        size_t  len;
        int32_t id = added_match(x->t, &x->t->added[which], s + i, n - i, &len);
        if (id < 0) {
            i++;
            continue;
        }
        int rc = i > from ? next(x, s + from, i - from) : 0;
        if (!rc) rc = ids_push(x->out, id, x->e);
        if (rc) return rc;
        from = i += len;
    }
    return n > from ? next(x, s + from, n - from) : 0;
}

static int encode_normalise(Encoder *x, const char *s, size_t n)
{
    char  *composed = NULL;
    size_t m = n;
    int    rc = x->t->nfc ? nfc_normalise(s, n, &composed, &m, x->e) : 0;
    if (!rc) rc = encode_added(x, ADDED_NORMALIZED, composed ? composed : s, m);
    mem_free(composed);
    return rc;
}

/* Bytes that are not UTF-8 become their own tokens; the text before and after each is encoded as a text of its own. */
static int encode_valid_runs(Encoder *x, const char *s, size_t n)
{
    size_t from = 0;
    int    rc = 0;
    for (size_t i = 0; i < n && !rc;) {
        uint32_t cp;
        int      len = (s[i] & 0x80) ? utf8_next((const uint8_t *)s + i, n - i, &cp) : 1;
        if (len > 0) {
            i += (size_t)len;
            continue;
        }
        if (i > from) rc = encode_added(x, ADDED_RAW, s + from, i - from);
        if (!rc) rc = ids_push(x->out, x->t->bpe.byte_id[(uint8_t)s[i]], x->e);
        from = ++i;
    }
    return rc || from == n ? rc : encode_added(x, ADDED_RAW, s + from, n - from);
}

int tokenizer_encode(const Tokenizer *t, const char *text, size_t n, unsigned flags, Ids *out, aha_error *e)
{
    if (n > INT32_MAX) return error_set(e, AHA_ERR_LIMIT, "a text of %zu bytes, expected at most %d", n, INT32_MAX);
    Encoder x = {.t = t, .out = out, .flags = flags, .e = e};
    size_t  before = out->n;
    x.match = pretok_scratch(&t->pre);
    int rc = x.match ? encode_valid_runs(&x, text, n) : error_set(e, AHA_ERR_NOMEM, "no memory to tokenise");
    pretok_scratch_free(x.match);
    bpe_scratch_free(&x.bpe);
    if (rc) out->n = before;
    return rc;
}
