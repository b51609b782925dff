/* A vocabulary out of GGUF's arrays gives the ids of the tokenizer.json that it was made of; hostile arrays are refused
 * with a message that names the field; and the published vocabulary of DeepSeek-LLM, where the data is at hand. */
#include "gguflib.h"
#include "infer/infer.h"
#include "textlib.h"

typedef struct Arrays { /* a vocabulary that the test may change */
    GgufVocab v;
    TextRef  *token, *merge;
    int32_t  *type;
    char     *text; /* joined merges */
    json_t   *root;
} Arrays;

static TextRef ref(const char *s)
{
    return (TextRef){s, strlen(s)};
}

static TextRef json_ref(const json_t *s)
{
    return (TextRef){json_string_value(s), json_string_length(s)};
}

/* What a converter makes of a tokenizer.json: types by added_tokens, merges joined by a blank. */
static void arrays_of(Arrays *a, const char *name, const char *pre)
{
    char path[256];
    snprintf(path, sizeof path, "tests/data/text/%s.json", name);
    *a = (Arrays){.root = json_load_file(path, 0, NULL)};
    const json_t *model = json_object_get(a->root, "model"), *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    const json_t *added = json_object_get(a->root, "added_tokens");
    size_t        n = json_object_size(vocab) + json_array_size(added), k = json_array_size(merges);
    const char   *key;
    json_t       *v;
    size_t        i;
    uint64_t      top = 0;
    Buf           joined = {0};
    a->token = mem_zalloc(n + 1, sizeof *a->token);
    a->type = mem_zalloc(n + 1, sizeof *a->type);
    a->merge = mem_zalloc(k, sizeof *a->merge);
    json_object_foreach((json_t *)vocab, key, v)
    {
        uint64_t id = (uint64_t)json_integer_value(v);
        a->token[id] = ref(key);
        a->type[id] = 1;
        if (id >= top) top = id + 1;
    }
    json_array_foreach((json_t *)added, i, v)
    {
        uint64_t id = (uint64_t)json_integer_value(json_object_get(v, "id"));
        a->token[id] = json_ref(json_object_get(v, "content"));
        a->type[id] = json_is_true(json_object_get(v, "special")) ? 3 : 4;
        if (id >= top) top = id + 1;
    }
    a->token[top] = ref("[PAD999]");
    a->type[top++] = 5;
    for (i = 0; i < 2 * k; i++) { /* first to make room, then to point into it */
        const json_t *one = json_array_get(merges, i % k);
        size_t        at = joined.n;
        if (i == k) {
            a->text = joined.data;
            joined = (Buf){0};
            at = 0;
        }
        if (json_is_string(one)) buf_str(&joined, json_string_value(one));
        else buf_fmt(&joined, "%s %s", json_string_value(json_array_get(one, 0)), json_string_value(json_array_get(one, 1)));
        if (i >= k) a->merge[i - k] = (TextRef){a->text + at, joined.n - at};
    }
    buf_free(&joined);
    a->v = (GgufVocab){.model = ref("gpt2"), .pre = ref(pre), .token = a->token, .n = top, .type = a->type, .n_type = top, .merge = a->merge,
                       .n_merge = k, .bos = 0, .eos = 1, .pad = -1, .add_bos = true};
}

static void arrays_free(Arrays *a)
{
    mem_free(a->token);
    mem_free(a->type);
    mem_free(a->merge);
    mem_free(a->text);
    json_decref(a->root);
}

/* ---- the same ids ---- */
static void same_ids(const char *name, const char *pre)
{
    Arrays     a;
    Tokenizer *t, *again;
    aha_error  e = {0};
    char       path[256];
    Ids        ids = {0};
    size_t     n;
    arrays_of(&a, name, pre);
    ASSERT_OK(tokenizer_from_gguf(&t, &a.v, "x.gguf", &e), e);
    assert_int_equal(tokenizer_vocab(t), a.v.n);
    tokenizer_bytes(t, (int32_t)a.v.n - 1, &n);
    assert_int_equal(n, 0); /* unused: no text */
    assert_false(tokenizer_is_added(t, (int32_t)a.v.n - 1));
    assert_true(tokenizer_id(t, "<think>") >= 0 && tokenizer_id(t, "[PAD999]") < 0);
    again = through_json(t);
    assert_int_equal(tokenizer_vocab(again), a.v.n - 1); /* without the unused one behind the last */
    for (int32_t id = 0; id < (int32_t)a.v.n - 1; id++)
        assert_true(tokenizer_is_added(again, id) == tokenizer_is_added(t, id) && tokenizer_is_control(again, id) == tokenizer_is_control(t, id));
    snprintf(path, sizeof path, "tests/data/text/%s.ids.json", name);
    json_t *list = load_list(path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *special = json_array_get(row, 2);
        for (unsigned flags = 0; flags < 2; flags++) {
            TextRef s = json_ref(json_array_get(row, 0));
            /* GGUF does not keep that this fixture finds <think> after normalising; the published files find it before */
            if (flags && strstr(s.s, "think>\xcc\xb8")) continue;
            ids.n = 0;
            ASSERT_OK(tokenizer_encode(t, s.s, (size_t)s.n, flags, &ids, &e), e);
            check_ids(&ids, flags && json_is_array(special) ? special : json_array_get(row, 1), s.s);
            ids.n = 0;
            ASSERT_OK(tokenizer_encode(again, s.s, (size_t)s.n, flags, &ids, &e), e);
            check_ids(&ids, flags && json_is_array(special) ? special : json_array_get(row, 1), s.s);
        }
    }
    json_decref(list);
    ids_free(&ids);
    tokenizer_free(again);
    tokenizer_free(t);
    arrays_free(&a);
}

/* ids that no token has, between plain tokens and added ones, keep the others in their places */
static void holes(void **state)
{
    Arrays     a;
    Tokenizer *t, *again;
    aha_error  e = {0};
    size_t     n, k;
    (void)state;
    arrays_of(&a, "tiny", "deepseek-v3");
    int32_t last = (int32_t)a.v.n - 1, think;
    a.token[last - 1] = ref("[PAD1]");
    a.type[last - 1] = 5;
    a.token[last] = ref("<last>");
    a.type[last] = 4;
    ASSERT_OK(tokenizer_from_gguf(&t, &a.v, "x.gguf", &e), e);
    again = through_json(t);
    think = tokenizer_id(t, "<think>");
    assert_true(think > 0 && tokenizer_id(again, "<think>") == think && tokenizer_id(again, "<last>") == last && tokenizer_vocab(again) == last + 1);
    for (int32_t id = 0; id < last - 1; id++) {
        const char *x = tokenizer_bytes(t, id, &n), *y = tokenizer_bytes(again, id, &k);
        assert_true(n == k && !memcmp(x, y, n));
    }
    tokenizer_free(again);
    tokenizer_free(t);
    arrays_free(&a);
}

static void families(void **state)
{
    (void)state;
    same_ids("tiny", "deepseek-v3");
    same_ids("qwen", "qwen2");
    same_ids("qwen", "deepseek-r1-qwen");
    same_ids("llama", "llama-bpe");
}

/* ---- hostile ---- */
typedef struct Change {
    const char *field; /* "token", "type", "merge", or a field's name */
    int64_t     at;    /* the entry, or the number */
    const char *text;  /* its new text, or NULL */
    int64_t     n;     /* its new length when not -1, or the new type */
    int         rc;
    const char *words;
} Change;

static void apply(Arrays *a, const Change *c)
{
    TextRef r = {c->text, c->n >= 0 ? (uint64_t)c->n : c->text ? strlen(c->text) : 0};
    if (!strcmp(c->field, "token")) a->token[c->at] = r;
    else if (!strcmp(c->field, "merge")) a->merge[c->at] = r;
    else if (!strcmp(c->field, "type")) a->type[c->at] = (int32_t)c->n;
    else if (!strcmp(c->field, "added")) {
        uint64_t i = 0;
        while (i < a->v.n && (a->token[i].n != r.n || memcmp(a->token[i].s, r.s, (size_t)r.n))) i++;
        assert_true(i < a->v.n);
        a->type[i] = 4;
    } else if (!strcmp(c->field, "model")) a->v.model = r;
    else if (!strcmp(c->field, "pre")) a->v.pre = r;
    else if (!strcmp(c->field, "n")) a->v.n = (uint64_t)c->at;
    else if (!strcmp(c->field, "n_type")) a->v.n_type = (uint64_t)c->at;
    else if (!strcmp(c->field, "n_merge")) a->v.n_merge = (uint64_t)c->at;
    else if (!strcmp(c->field, "no types")) a->v.type = NULL;
    else if (!strcmp(c->field, "no merges")) a->v.merge = NULL;
    else if (!strcmp(c->field, "bos")) a->v.bos = c->at;
    else if (!strcmp(c->field, "eos")) a->v.eos = c->at;
    else if (!strcmp(c->field, "pad")) a->v.pad = c->at;
    else fail_msg("the test's own \"%s\"", c->field);
}

static void hostile(void **state)
{
    static const Change CHANGE[] = {
        {"model", 0, NULL, -1, AHA_ERR_FORMAT, "tokenizer.ggml.model"},
        {"model", 0, "llama", -1, AHA_ERR_UNSUPPORTED, "\"llama\""},
        {"model", 0, "gpt2", INT64_MAX, AHA_ERR_FORMAT, "tokenizer.ggml.model"},
        {"pre", 0, NULL, -1, AHA_ERR_FORMAT, "tokenizer.ggml.pre"},
        {"pre", 0, "qwen35", -1, AHA_ERR_UNSUPPORTED, "\"qwen35\""},
        {"pre", 0, "qwen2\0", 6, AHA_ERR_FORMAT, "tokenizer.ggml.pre"},
        {"n", 0, NULL, -1, AHA_ERR_FORMAT, "tokenizer.ggml.tokens: 0"},
        {"n", INT64_MAX, NULL, -1, AHA_ERR_LIMIT, "9223372036854775807"},
        {"n", -1, NULL, -1, AHA_ERR_LIMIT, "18446744073709551615"},
        {"n_type", 12, NULL, -1, AHA_ERR_FORMAT, "token_type: 12"},
        {"no types", 0, NULL, -1, AHA_ERR_FORMAT, "token_type"},
        {"n_merge", 0, NULL, -1, AHA_ERR_FORMAT, "merges"},
        {"n_merge", INT64_MAX, NULL, -1, AHA_ERR_LIMIT, "merges"},
        {"no merges", 0, NULL, -1, AHA_ERR_FORMAT, "merges"},
        {"bos", 1 << 20, NULL, -1, AHA_ERR_FORMAT, "bos_token_id: 1048576"},
        {"eos", -2, NULL, -1, AHA_ERR_FORMAT, "eos_token_id: -2"},
        {"pad", (int64_t)1 << 32, NULL, -1, AHA_ERR_FORMAT, "padding_token_id: 4294967296"},
        {"eos", -1, NULL, -1, 0, ""},
        {"token", 300, "", -1, AHA_ERR_FORMAT, "tokens[300]: 0 bytes"},
        {"token", 300, NULL, -1, AHA_ERR_FORMAT, "tokens[300]"},
        {"token", 300, "x", (int64_t)1 << 31, AHA_ERR_FORMAT, "tokens[300]: 2147483648 bytes"},
        {"token", 300, "\xff", -1, AHA_ERR_FORMAT, "tokens[300]"},
        {"token", 40, "A", -1, AHA_ERR_FORMAT, "same bytes"},          /* "A" stands elsewhere */
        {"token", 40, "\xef\xbd\x9c", -1, AHA_ERR_FORMAT, "byte 0x"},  /* no letter of a byte: its byte is missing now */
        {"token", 0, "<think>", -1, AHA_ERR_FORMAT, "<think>"},        /* one text, two ids */
        {"type", 300, NULL, 6, AHA_ERR_FORMAT, "token_type[300]: 6"},
        {"type", 300, NULL, 0, AHA_ERR_FORMAT, "token_type[300]: 0"},
        {"type", 300, NULL, -1, AHA_ERR_FORMAT, "token_type[300]: -1"},
        {"type", 300, NULL, INT32_MAX, AHA_ERR_FORMAT, "token_type[300]: 2147483647"},
        {"type", 40, NULL, 5, AHA_ERR_FORMAT, "byte 0x"},
        {"added", 0, "\xc4\xa3", -1, AHA_ERR_FORMAT, "byte 0x81"}, /* as an added token it is a letter, and half characters would come out */
        {"added", 0, "\xc3\xb5", -1, 0, ""},                     /* no UTF-8 holds 0xf5 */
        {"merge", 0, "Ġa", -1, AHA_ERR_FORMAT, "merges[0]"},
        {"merge", 0, "", -1, AHA_ERR_FORMAT, "merges[0]"},
        {"merge", 0, NULL, -1, AHA_ERR_FORMAT, "merges[0]"},
        {"merge", 0, " ", -1, AHA_ERR_FORMAT, "merges[0]"},
        {"merge", 0, "1 ", -1, AHA_ERR_FORMAT, "merges[0]"},
        {"merge", 0, "1 0 0", -1, AHA_ERR_FORMAT, "merges[0]"},
        {"merge", 0, "1 0", INT64_MAX, AHA_ERR_FORMAT, "merges[0]"},
        {"merge", 0, "A \xc3\xbf", -1, AHA_ERR_FORMAT, "merges[0]: joins"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CHANGE); i++) {
        Arrays     a;
        Tokenizer *t;
        aha_error  e = {0};
        arrays_of(&a, "tiny", "deepseek-v3");
        apply(&a, &CHANGE[i]);
        int rc = tokenizer_from_gguf(&t, &a.v, "x.gguf", &e);
        if (rc != CHANGE[i].rc || (rc && (!strstr(e.text, CHANGE[i].words) || strncmp(e.text, "x.gguf: ", 8))))
            fail_msg("%s %lld: %d %s", CHANGE[i].field, (long long)CHANGE[i].at, rc, e.text);
        assert_true((rc == 0) == (t != NULL));
        tokenizer_free(t);
        arrays_free(&a);
    }
}

/* "<0x-1>" and "<0xZZ>": bytes of another kind of vocabulary.  As tokens of their own they are refused; as words, text. */
static void byte_tokens(void **state)
{
    static const char *const TEXT[] = {"<0x-1>", "<0xZZ>", "<0x41>"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXT); i++) {
        Arrays     a;
        Tokenizer *t;
        aha_error  e = {0};
        arrays_of(&a, "tiny", "deepseek-v3");
        a.token[a.v.n - 1] = ref(TEXT[i]);
        a.type[a.v.n - 1] = 6;
        assert_int_equal(tokenizer_from_gguf(&t, &a.v, "x.gguf", &e), AHA_ERR_FORMAT);
        assert_non_null(strstr(e.text, TEXT[i]));
        a.type[a.v.n - 1] = 1;
        ASSERT_OK(tokenizer_from_gguf(&t, &a.v, "x.gguf", &e), e);
        size_t n;
        tokenizer_bytes(t, (int32_t)a.v.n - 1, &n);
        assert_int_equal(n, 6);
        tokenizer_free(t);
        arrays_free(&a);
    }
}

static void no_memory(void **state)
{
    Arrays     a;
    Tokenizer *t;
    aha_error  e = {0};
    (void)state;
    arrays_of(&a, "tiny", "deepseek-v3");
    for (uint64_t nth = 1;; nth++) {
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int rc = tokenizer_from_gguf(&t, &a.v, "x.gguf", &e);
        os_fault_arm(0, 0);
        if (!rc) break;
        assert_int_equal(rc, AHA_ERR_NOMEM);
        assert_null(t);
    }
    tokenizer_free(t);
    arrays_free(&a);
}

/* ---- the published vocabulary ---- */
typedef struct Reader { /* just enough of GGUF: keys and values of a file that is known to be sound */
    const char *at;
} Reader;

static uint64_t read_number(Reader *r, size_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, r->at, bytes);
    r->at += bytes;
    return v;
}

static TextRef read_text(Reader *r)
{
    uint64_t n = read_number(r, 8);
    r->at += n;
    return (TextRef){r->at - n, n};
}

static bool is(TextRef s, const char *word)
{
    return s.n == strlen(word) && !memcmp(s.s, word, (size_t)s.n);
}

static void read_value(Reader *r, Arrays *a, TextRef key)
{
    static const uint8_t BYTES[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t             type = read_number(r, 4);
    if (type == 8) {
        TextRef v = read_text(r);
        if (is(key, "tokenizer.ggml.model")) a->v.model = v;
        if (is(key, "tokenizer.ggml.pre")) a->v.pre = v;
    } else if (type == 9) {
        uint64_t kind = read_number(r, 4), n = read_number(r, 8);
        TextRef *list = kind == 8 ? mem_zalloc(n, sizeof *list) : NULL;
        for (uint64_t i = 0; i < n && list; i++) list[i] = read_text(r);
        if (is(key, "tokenizer.ggml.tokens")) a->v.token = a->token = list, a->v.n = n;
        if (is(key, "tokenizer.ggml.merges")) a->v.merge = a->merge = list, a->v.n_merge = n;
        if (is(key, "tokenizer.ggml.token_type")) {
            a->v.type = a->type = mem_zalloc(n, sizeof *a->type);
            a->v.n_type = n;
            memcpy(a->type, r->at, n * sizeof *a->type);
        }
        if (!list) r->at += n * BYTES[kind];
    } else {
        uint64_t v = read_number(r, BYTES[type]);
        if (is(key, "tokenizer.ggml.bos_token_id")) a->v.bos = (int64_t)v;
        if (is(key, "tokenizer.ggml.eos_token_id")) a->v.eos = (int64_t)v;
        if (is(key, "tokenizer.ggml.padding_token_id")) a->v.pad = (int64_t)v;
    }
}

static void deepseek_llm(void **state)
{
    const char *folder = data_folder();
    char        path[600];
    Arrays      a = {.v = {.bos = -1, .eos = -1, .pad = -1}};
    Tokenizer  *t;
    aha_error   e = {0};
    size_t      n;
    (void)state;
    if (!folder) skip();
    snprintf(path, sizeof path, "%s/vectors/ggml-vocab-deepseek-llm.gguf", folder);
    ASSERT_OK(file_read_all(path, 1 << 28, &a.text, &n, &e), e);
    Reader r = {a.text + 16};
    for (uint64_t left = read_number(&r, 8); left; left--) {
        TextRef key = read_text(&r);
        read_value(&r, &a, key);
    }
    ASSERT_OK(tokenizer_from_gguf(&t, &a.v, path, &e), e);
    /* its added tokens hold letters such as u with two dots, which are found in any text */
    assert_int_equal(check_vectors(t, folder, "ggml-vocab-deepseek-llm", TOK_SPECIAL), 46);
    Tokenizer *again = through_json(t);
    assert_int_equal(check_vectors(again, folder, "ggml-vocab-deepseek-llm", TOK_SPECIAL), 46);
    tokenizer_free(again);
    tokenizer_free(t);
    mem_free(a.token);
    mem_free(a.type);
    mem_free(a.merge);
    mem_free(a.text);
}

/* ---- out of a file ---- */
static void put_strings(Gguf *g, const char *key, const TextRef *s, uint64_t n)
{
    put_key_type(g, key, GGUF_ARRAY);
    put_u32(&g->kv, GGUF_STRING);
    put_u64(&g->kv, n);
    for (uint64_t i = 0; i < n; i++) {
        put_u64(&g->kv, s[i].n);
        buf_add(&g->kv, s[i].s, s[i].n);
    }
}

/* a file with that vocabulary; wrong: the key whose value gets another type, or NULL */
static uint8_t *vocab_file(const Arrays *a, const char *wrong, size_t *n)
{
    static const char *const STRINGS[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    Gguf                     g;
    gguf_start(&g);
    put_shape(&g, "deepseek2", 32, 1);
    put_kv_str(&g, "tokenizer.ggml.model", "gpt2");
    put_kv_str(&g, "tokenizer.ggml.pre", "deepseek-v3");
    for (int i = 0; i < 2; i++)
        if (wrong && !strcmp(wrong, STRINGS[i])) put_kv_u32(&g, wrong, 7);
        else put_strings(&g, STRINGS[i], i ? a->merge : a->token, i ? a->v.n_merge : a->v.n);
    put_key_type(&g, "tokenizer.ggml.token_type", GGUF_ARRAY);
    put_u32(&g.kv, wrong && !strcmp(wrong, "tokenizer.ggml.token_type") ? GGUF_F32 : GGUF_I32);
    put_u64(&g.kv, a->v.n);
    buf_add(&g.kv, a->type, (size_t)a->v.n * sizeof *a->type);
    put_kv_u32(&g, "tokenizer.ggml.bos_token_id", 0);
    put_kv_u32(&g, "tokenizer.ggml.eos_token_id", 1);
    put_kv_bool(&g, "tokenizer.ggml.add_bos_token", true);
    put_kv_str(&g, "tokenizer.chat_template", "{{ '<\xEF\xBD\x9C" "Assistant\xEF\xBD\x9C><think>\\n' }}");
    return gguf_finish(&g, n, NULL);
}

static void files_have_words(void **state)
{
    static const char *const WRONG[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"};
    Arrays      a;
    Tokenizer  *t;
    Words       w;
    WeightFile *file;
    aha_error   e = {0};
    Ids         x = {0}, y = {0};
    size_t      n;
    static const char TEXT[] = "Using 8, 13 and 2, make 29. \xE4\xBD\xA0\xE5\xA5\xBD <think>";
    (void)state;
    arrays_of(&a, "tiny", "deepseek-v3");
    Config   cfg = {.arch = ARCH_DEEPSEEK_V3, .vocab = (int)a.v.n, .eos = {1}, .n_eos = 1};
    uint8_t *bytes = vocab_file(&a, NULL, &n);
    ASSERT_OK(weights_open_memory(&file, "x.gguf", bytes, n, &e), e);
    ASSERT_OK(words_from_gguf(&w, file, "x.gguf", &cfg, &e), e);
    ASSERT_OK(tokenizer_from_gguf(&t, &a.v, "x.gguf", &e), e);
    ASSERT_OK(tokenizer_encode(w.tok, TEXT, sizeof TEXT - 1, TOK_SPECIAL, &x, &e), e);
    ASSERT_OK(tokenizer_encode(t, TEXT, sizeof TEXT - 1, TOK_SPECIAL, &y, &e), e);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.id, y.id, x.n * sizeof *x.id);
    assert_true(w.n_stop >= 1 && w.stop[0] == 1);
    ids_free(&x);
    ids_free(&y);
    words_free(&w);
    tokenizer_free(t);
    weights_close(file);
    free(bytes);
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        bytes = vocab_file(&a, WRONG[i], &n);
        ASSERT_OK(weights_open_memory(&file, "x.gguf", bytes, n, &e), e);
        assert_int_equal(words_from_gguf(&w, file, "x.gguf", &cfg, &e), AHA_ERR_FORMAT);
        if (!strstr(e.text, WRONG[i])) fail_msg("%s", e.text);
        weights_close(file);
        free(bytes);
    }
    arrays_free(&a);
}

/* 64 KiB of one thing and another behind it, with and without PCRE2's compiler: the same ids, in linear time.  DeepSeek-LLM's
 * patterns look for blanks at the end of a piece, which blanks before a digit are not. */
static void long_runs(void **state)
{
    static const char *const NAME[] = {"deepseek-v3", "qwen2", "llama-bpe", "deepseek-llm"};
    static const char *const UNIT[] = {"Z", " ", "\n", "\xcc\x81\xcc\xa3", "1", "\xe4\xb8\x80", " a", "!", "\t \n", "\xe3\x80\x80", "\r", "'s"};
    static const char *const END[] = {"", "1", "x", "\xcc\x81"};
    enum { SIZE = 1 << 16 };
    char *s = malloc(SIZE + 16);
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(NAME); k++) {
        char        path[128];
        WeightFile *file;
        Words       w;
        Config      c = {.arch = ARCH_DEEPSEEK_V3, .vocab = 300};
        aha_error   e = {0};
        snprintf(path, sizeof path, "tests/fuzz/corpus/vocab/%s", NAME[k]);
        ASSERT_OK(weights_open(&file, path, &e), e);
        ASSERT_OK(words_from_gguf(&w, file, path, &c, &e), e);
        assert_non_null(w.tok);
        for (size_t u = 0; u < ARRAY_LEN(UNIT) * ARRAY_LEN(END); u++) {
            const char *unit = UNIT[u / ARRAY_LEN(END)], *end = END[u % ARRAY_LEN(END)];
            size_t      len = strlen(unit), n = 0;
            Ids         ids[2] = {0};
            for (; n < SIZE; n += len) memcpy(s + n, unit, len);
            memcpy(s + n, end, strlen(end));
            n += strlen(end);
            for (int plain = 0; plain < 2; plain++) {
                for (int i = 0; i < w.tok->pre.n; i++) w.tok->pre.jit[i] = !plain;
                double t0 = time_cpu_s();
                ASSERT_OK(tokenizer_encode(w.tok, s, n, 0, &ids[plain], &e), e);
                double took = time_cpu_s() - t0;
                if (took > 3) fail_msg("%s: %zu bytes of \"%s\" and \"%s\" took %.2f s", NAME[k], n, unit, end, took); /* quadratic: 20 s */
            }
            assert_int_equal(ids[0].n, ids[1].n);
            assert_memory_equal(ids[0].id, ids[1].id, ids[0].n * sizeof *ids[0].id);
            ids_free(&ids[0]);
            ids_free(&ids[1]);
        }
        words_free(&w);
        weights_close(file);
    }
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(families), cmocka_unit_test(holes), cmocka_unit_test(hostile), cmocka_unit_test(byte_tokens), cmocka_unit_test(no_memory),
                                       cmocka_unit_test(deepseek_llm), cmocka_unit_test(files_have_words), cmocka_unit_test(long_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
