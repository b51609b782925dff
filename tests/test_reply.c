/* Replies into thinking, answer and tool calls, however the tokens are cut; bytes into whole characters. */
#include "textlib.h"

#define BEGIN "<｜tool▁calls▁begin｜>"
#define END "<｜tool▁calls▁end｜>"
#define CALL(name, args) "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" name "\n```json\n" args "\n```<｜tool▁call▁end｜>"

typedef struct Split {
    Buf part[2];
    Buf calls; /* each name|arguments|, then + complete, ! complete but not valid, ? unfinished */
} Split;

static void split_free(Split *s)
{
    buf_free(&s->part[0]);
    buf_free(&s->part[1]);
    buf_free(&s->calls);
}

/* Feeds ids up to an end, and keeps what comes out; true: an end was met. */
static bool split_ids(const Tokenizer *t, const Ids *ids, bool open, Split *s)
{
    Reply     r;
    Buf       out = {0};
    bool      ended = false;
    ReplyPart part;
    *s = (Split){0};
    reply_init(&r, t, open);
    for (size_t i = 0; i < ids->n && !ended; i++) {
        buf_reset(&out);
        ended = !reply_push(&r, ids->id[i], &part, &out);
        assert_true(out.n == 0 || utf8_valid(out.data, out.n));
        buf_add(&s->part[part], out.data, out.n);
    }
    buf_reset(&out);
    reply_end(&r, &part, &out);
    assert_true(out.n == 0 || utf8_valid(out.data, out.n));
    buf_add(&s->part[part], out.data, out.n);
    for (int i = 0; i < 2; i++) buf_str(&s->part[i], "");
    buf_str(&s->calls, "");
    for (int i = 0; i < r.n_call; i++) {
        const ReplyCall *c = &r.call[i];
        assert_true(strlen(c->args) == c->n_args && utf8_valid(c->name, strlen(c->name)) && utf8_valid(c->args, c->n_args));
        assert_true(c->complete || !c->valid);
        buf_fmt(&s->calls, "%s|%s|%s", c->name, c->args, c->valid ? "+" : c->complete ? "!" : "?");
    }
    assert_false(out.failed);
    reply_free(&r);
    buf_free(&out);
    return ended;
}

/* Feeds text (control tokens spelled in it become tokens). */
static bool split(const Tokenizer *t, const char *text, size_t n, bool open, bool bytewise, Split *s)
{
    Ids       ids = {0};
    aha_error e = {0};
    if (bytewise) {
        for (size_t i = 0; i < n; i++) ids_push(&ids, t->bpe.byte_id[(uint8_t)text[i]], &e);
    } else {
        ASSERT_OK(tokenizer_encode(t, text, n, TOK_SPECIAL, &ids, &e), e);
    }
    bool ended = split_ids(t, &ids, open, s);
    ids_free(&ids);
    return ended;
}

static const struct {
    bool        open;
    const char *text, *thinking, *answer;
    bool        ended;
    const char *calls; /* each name|arguments|, then + complete, ! complete but not valid, ? unfinished */
} CASE[] = {
    {false, "Let me look.\n" BEGIN CALL("f", "{\"a\": 1}") END "<｜end▁of▁sentence｜>", "", "Let me look.", true, "f|{\"a\": 1}|+"},
    {true, "hm</think>\n\n" BEGIN CALL("f", "{}") "\n" CALL("g h", "{\"x\": [1,\n2]}") END, "hm", "", false, "f|{}|+g h|{\"x\": [1,\n2]}|+"},
    {false, BEGIN CALL("f", "{}") END "and so", "", "and so", false, "f|{}|+"},
    {false, "a " BEGIN CALL("f", "{}") END "\n\nb" BEGIN CALL("g", "{}") END, "", "a\n\nb", false, "f|{}|+g|{}|+"},
    {false, BEGIN "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": ", "", "", false, "f|{\"a\":|?"},
    {false, BEGIN "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get", "", "", false, "get||?"},
    {false, BEGIN "<｜tool▁call▁begin｜>function", "", "", false, "||?"},
    {false, BEGIN, "", "", false, ""},
    {false, BEGIN "\n" END, "", "", false, ""},
    {false, BEGIN CALL("f", "{}") "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{\"b\"<｜end▁of▁sentence｜>", "", "", true, "f|{}|+g|{\"b\"|?"},
    {false, BEGIN CALL("f", "{\"id\": 18446744073709551615}") END, "", "", false, "f|{\"id\": 18446744073709551615}|+"},
    {false, BEGIN CALL("f", "no json"), "", "", false, "f|no json|!"},
    {false, BEGIN CALL("", "{}") END, "", "", false, "|{}|!"},
    {false, BEGIN CALL("f", "[1]"), "", "", false, "f|[1]|!"},
    {false, BEGIN CALL("f", "{\"code\": \"```\\n\"}") END, "", "", false, "f|{\"code\": \"```\\n\"}|+"},
    {false, BEGIN "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>" END, "", "", false, "f|{\"a\": 1}|+"},
    {false, BEGIN "function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜>" END "x", "", "x", false, "f|{}|+"},
    {false, BEGIN "<｜tool▁call▁begin｜>f\n```json\n{}\n```<｜tool▁call▁end｜>" END, "", "", false, "f|{}|+"},
    {false, CALL("f", "{}") "x", "", "", false, "f|{}|+x||?"},
    {false, BEGIN "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n{}" END "x", "", "x", false, "f|{}|?"},
    {false, "<｜tool▁sep｜>a" END "<｜tool▁call▁end｜>b<｜tool▁outputs▁end｜>", "", "ab", false, ""},
    {true, "I write " BEGIN CALL("f", "{}") END " soon</think>no", "I write functionf\n```json\n{}\n``` soon", "no", false, ""},
    {false, BEGIN CALL("f", "{}") END "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>made up<｜tool▁output▁end｜><｜tool▁outputs▁end｜>So.", "", "So.", false,
     "f|{}|+"},
    {false, "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>made up", "", "", false, ""},
    {false, BEGIN "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n{\"a\"</think>x", "", "x", false, "f|{\"a\"|?"},
    {false, BEGIN "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"\xe4\xb8<｜tool▁call▁end｜>", "", "", false, "f|{\"a\": \"\xef\xbf\xbd|!"},
    {false, "plain answer", "", "plain answer", false, ""},
    {false, "", "", "", false, ""},
    {true, "", "", "", false, ""},
    {true, "thinking only", "thinking only", "", false, ""},
    {true, "hm\n</think>\n\nIt is 26.<｜end▁of▁sentence｜>more", "hm", "It is 26.", true, ""},
    {false, "<think>\nhm\n\nso\n</think>\n\nYes\n\n- a\n- b\n<｜end▁of▁sentence｜>", "hm\n\nso", "Yes\n\n- a\n- b", true, ""},
    {false, "<think>\n\n</think>\n\nquick", "", "quick", false, ""},
    {true, "\n<think>\nhm</think>x", "hm", "x", false, ""},
    {false, "x</think>y", "", "xy", false, ""},
    {true, "a</think>b</think>c", "a", "bc", false, ""},
    {false, "<think>a</think>b<think>c</think>d", "a\n\nc", "b\n\nd", false, ""},
    {false, "<think>a</think>\n<think>\n</think>d", "a", "d", false, ""},
    {false, "  indented\n  too  \n\n", "", "  indented\n  too", false, ""},
    {true, "\r\n a \t\n</think>\n", " a", "", false, ""},
    {false, "<｜Assistant｜>a<｜▁pad▁｜>c<｜begin▁of▁sentence｜>d", "", "acd", false, ""},
    {false, "a<｜User｜>b", "", "a", true, ""},
    {false, "一二 😀 é", "", "一二 😀 é", false, ""},
    {true, "\xe4\xb8</think>\xb8z", "\xef\xbf\xbd", "\xef\xbf\xbdz", false, ""},
    {false, "a\xff\xc3\xc3\xa9\xf0\x9f\x98", "", "a\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd", false, ""},
    {false, "< think> </ think> <|User|>", "", "< think> </ think> <|User|>", false, ""},
};

static void replies(void **state)
{
    Tokenizer *t = fixture("tiny");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        Split s;
        assert_int_equal(split(t, CASE[i].text, strlen(CASE[i].text), CASE[i].open, false, &s), CASE[i].ended);
        assert_string_equal(s.part[REPLY_THINKING].data, CASE[i].thinking);
        assert_string_equal(s.part[REPLY_ANSWER].data, CASE[i].answer);
        assert_string_equal(s.calls.data, CASE[i].calls);
        split_free(&s);
    }
    /* spelled in bytes, a control token is text */
    Split s;
    split(t, "a</think>b<｜User｜>", strlen("a</think>b<｜User｜>"), true, true, &s);
    assert_string_equal(s.part[REPLY_THINKING].data, "a</think>b<｜User｜>");
    split_free(&s);
    Reply     r;
    Buf       out = {0};
    ReplyPart part;
    reply_init(&r, t, false);
    assert_false(reply_push(&r, -1, &part, &out));
    assert_true(reply_push(&r, 1 << 30, &part, &out));
    assert_int_equal(out.n, 0);
    reply_free(&r);
    tokenizer_free(t);
}

/* Any tokens in any order: valid UTF-8, no control token, nothing lost but white space. */
static void random_replies(void **state)
{
    Tokenizer *t = fixture("tiny");
    Rng        rng = {.seed = 3};
    int        vocab = tokenizer_vocab(t);
    (void)state;
    for (int round = 0; round < 3000; round++) {
        Reply     r;
        ReplyPart part;
        Buf       all = {0}, out = {0};
        reply_init(&r, t, round & 1);
        for (int i = 0; i < 40; i++) {
            uint32_t k = rng_below(&rng, 4);
            int32_t  id = (int32_t)(k == 0 ? rng_below(&rng, (uint32_t)vocab) : k == 1 ? (uint32_t)vocab - 13 + rng_below(&rng, 2) : 3 + rng_below(&rng, 256));
            buf_reset(&out);
            bool more = reply_push(&r, id, &part, &out);
            assert_true(!out.n || utf8_valid(out.data, out.n));
            buf_add(&all, out.data, out.n);
            if (!more) break;
        }
        buf_reset(&out);
        reply_end(&r, &part, &out);
        buf_add(&all, out.data, out.n);
        buf_str(&all, "");
        assert_true(utf8_valid(all.data, all.n));
        assert_null(strstr(all.data, "｜"));
        assert_null(strstr(all.data, "think>"));
        reply_free(&r);
        buf_free(&all);
        buf_free(&out);
    }
    tokenizer_free(t);
}

/* ---- every cut ---- */
enum { PIECE_MAX = 36 };
static const char THINKING[] = "So <｜tool▁calls▁begin｜> is é一😀 <｜tool▁sep｜> how.";
static const char ANSWER[] = "Look: a < b <｜tool▁ <｜<<｜é\n\n";
static const char CALLS[] = BEGIN CALL("f", "{\"a\": \"<｜tool▁\"}") "\n" CALL("gé", "{\"b\": \"一😀\"}") END "\n\nDone <";

static void put_token(Buf *b, int *n, json_t *seen, const char *s, size_t len)
{
    char   spelled[4 * PIECE_MAX];
    size_t k = 0;
    for (size_t i = 0; i < len; i++) k += (size_t)utf8_put(spelled + k, bytemap_char((uint8_t)s[i]));
    if (json_object_getn(seen, spelled, k)) return;
    json_object_setn_new(seen, spelled, k, json_true());
    buf_str(b, *n ? "," : "");
    buf_json(b, spelled, k);
    buf_fmt(b, ":%d", (*n)++);
}

/* A tokenizer in which every short piece of the texts is a token; the tool markers are tokens too, or are not. */
static Tokenizer *piece_tokenizer(bool markers)
{
    static const char *const TEXT[] = {THINKING, ANSWER, CALLS};
    static const char *const CONTROL[] = {"<think>", "</think>", "<｜end▁of▁sentence｜>", "<｜User｜>"};
    Buf        b = {0};
    int        n = 0;
    json_t    *seen = json_object();
    aha_error  e = {0};
    Tokenizer *t;
    buf_str(&b, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (int c = 0; c < 256; c++) put_token(&b, &n, seen, &(char){(char)c}, 1);
    for (size_t k = 0; k < ARRAY_LEN(TEXT); k++)
        for (size_t i = 0; TEXT[k][i]; i++)
            for (size_t len = 2; len <= PIECE_MAX && i + len <= strlen(TEXT[k]); len++) put_token(&b, &n, seen, TEXT[k] + i, len);
    buf_str(&b, "}},\"added_tokens\":[");
    for (size_t k = 0; k < ARRAY_LEN(CONTROL) + (markers ? TOOL_MARKERS : 0); k++) {
        const char *s = k < ARRAY_LEN(CONTROL) ? CONTROL[k] : TOOL_MARKER[k - ARRAY_LEN(CONTROL)];
        buf_fmt(&b, "%s{\"id\":%d,\"content\":\"%s\"}", k ? "," : "", n + (int)k, s);
    }
    buf_str(&b, "]}");
    ASSERT_OK(tokenizer_parse(&t, b.data, b.n, "pieces", &e), e);
    json_decref(seen);
    buf_free(&b);
    return t;
}

/* The text as tokens of size(i) bytes, i the place; where the markers are tokens, they are not cut. */
static void push_cut(const Tokenizer *t, Ids *ids, const char *s, size_t n, size_t first, size_t size, Rng *rng)
{
    bool markers = tokenizer_id(t, TOOL_MARKER[TOOL_SEP]) >= 0;
    for (size_t i = 0, len; i < n; i += len) {
        len = rng ? 1 + rng_below(rng, PIECE_MAX) : i ? size : first;
        if (len > n - i) len = n - i;
        int32_t id = -1;
        for (int k = 0; markers && k < TOOL_MARKERS; k++) {
            const char *at = memmem(s + i, n - i, TOOL_MARKER[k], strlen(TOOL_MARKER[k]));
            if (at == s + i) id = tokenizer_id(t, TOOL_MARKER[k]), len = strlen(TOOL_MARKER[k]);
            else if (at && id < 0 && (size_t)(at - s) - i < len) len = (size_t)(at - s) - i;
        }
        ids_push(ids, id >= 0 ? id : bpe_find(&t->bpe, s + i, len), NULL);
        assert_true(ids->id[ids->n - 1] >= 0);
    }
}

static void check_cut(const Tokenizer *t, size_t first, size_t size, Rng *rng)
{
    bool  spelled = tokenizer_id(t, TOOL_MARKER[TOOL_SEP]) < 0;
    Ids   ids = {0};
    Split s;
    ids_push(&ids, tokenizer_id(t, "<think>"), NULL);
    push_cut(t, &ids, THINKING, strlen(THINKING), first, size, rng);
    ids_push(&ids, tokenizer_id(t, "</think>"), NULL);
    push_cut(t, &ids, ANSWER, strlen(ANSWER), first, size, rng);
    push_cut(t, &ids, CALLS, strlen(CALLS), first, size, rng);
    ids_push(&ids, tokenizer_id(t, "<｜end▁of▁sentence｜>"), NULL);
    assert_true(split_ids(t, &ids, false, &s));
    assert_string_equal(s.part[REPLY_THINKING].data, spelled ? THINKING : "So  is é一😀  how."); /* marker tokens are never shown */
    assert_string_equal(s.part[REPLY_ANSWER].data, "Look: a < b <｜tool▁ <｜<<｜é\n\nDone <");
    assert_string_equal(s.calls.data, "f|{\"a\": \"<｜tool▁\"}|+gé|{\"b\": \"一😀\"}|+");
    split_free(&s);
    ids_free(&ids);
}

static void every_cut(void **state)
{
    (void)state;
    for (int markers = 0; markers < 2; markers++) {
        Tokenizer *t = piece_tokenizer(markers);
        Rng        rng = {.seed = 5};
        for (size_t size = 1; size <= PIECE_MAX; size++)
            for (size_t first = 1; first <= PIECE_MAX; first++) check_cut(t, first, size, NULL);
        for (int round = 0; round < 5000; round++) check_cut(t, 0, 0, &rng);
        tokenizer_free(t);
    }
}

/* A spelled reply that ends anywhere: no part holds a piece of a call, no marker leaks, the same bytes at any cut. */
static void every_end(void **state)
{
    Tokenizer *t = piece_tokenizer(false);
    (void)state;
    for (size_t n = 0; n <= strlen(CALLS); n++) {
        Split one = {0}, other = {0};
        for (int k = 0; k < 2; k++) {
            Ids ids = {0};
            ids_push(&ids, t->bpe.byte_id['A'], NULL);
            push_cut(t, &ids, CALLS, n, 1, k ? 1 : 7, NULL);
            split_ids(t, &ids, false, k ? &one : &other);
            ids_free(&ids);
        }
        assert_string_equal(one.part[REPLY_ANSWER].data, other.part[REPLY_ANSWER].data);
        assert_string_equal(one.calls.data, other.calls.data);
        assert_int_equal(one.part[REPLY_THINKING].n, 0);
        if (n >= strlen(BEGIN) && n <= strlen(CALLS) - strlen("\n\nDone <")) assert_string_equal(one.part[REPLY_ANSWER].data, "A");
        split_free(&one);
        split_free(&other);
    }
    tokenizer_free(t);
}

/* Markers and letters in any order, spelled: no whole marker is shown, nothing is lost outside calls and results. */
static void random_spelled(void **state)
{
    Tokenizer *t = fixture("llama");
    Rng        rng = {.seed = 11};
    (void)state;
    for (int round = 0; round < 3000; round++) {
        Buf   text = {0};
        Split whole, bytes;
        for (int i = 0; i < 14; i++) {
            uint32_t k = rng_below(&rng, 14);
            buf_str(&text, k < TOOL_MARKERS ? TOOL_MARKER[k] : k == 9 ? "{}" : k == 10 ? "\n" : k == 11 ? "<｜tool▁" : k == 12 ? "é" : "x");
        }
        split(t, text.data, text.n, false, false, &whole);
        split(t, text.data, text.n, false, true, &bytes);
        assert_string_equal(whole.part[REPLY_ANSWER].data, bytes.part[REPLY_ANSWER].data);
        assert_string_equal(whole.calls.data, bytes.calls.data);
        for (int k = 0; k < TOOL_MARKERS; k++) assert_null(strstr(whole.part[REPLY_ANSWER].data, TOOL_MARKER[k]));
        split_free(&whole);
        split_free(&bytes);
        buf_free(&text);
    }
    tokenizer_free(t);
}

static void no_memory(void **state)
{
    static const char TEXT[] = "<think>a</think>b " BEGIN CALL("f", "{\"a\": 1}") END "c";
    Tokenizer        *t = fixture("tiny");
    Ids               ids = {0};
    aha_error         e = {0};
    bool              failed = true;
    (void)state;
    ASSERT_OK(tokenizer_encode(t, TEXT, sizeof TEXT - 1, TOK_SPECIAL, &ids, &e), e);
    for (uint64_t nth = 1; failed; nth++) {
        Reply     r;
        Buf       out = {0};
        ReplyPart part;
        os_fault_arm(OS_FAULT_ALLOC, nth);
        reply_init(&r, t, false);
        for (size_t i = 0; i < ids.n; i++) reply_push(&r, ids.id[i], &part, &out);
        reply_end(&r, &part, &out);
        os_fault_arm(0, 0);
        failed = out.failed;
        assert_true(failed || (r.n_call == 1 && r.call[0].valid));
        reply_free(&r);
        buf_free(&out);
    }
    ids_free(&ids);
    tokenizer_free(t);
}

/* Every byte, alone and after the start of a character, and every cut of a text: the stream is always valid. */
static void utf8_stream(void **state)
{
    static const char TEXT[] = "aé一😀";
    (void)state;
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 257; b++) {
            Utf8Stream s = {0};
            Buf        out = {0};
            char       two[2] = {(char)a, (char)b};
            utf8_stream_push(&s, two, b < 256 ? 2 : 1, &out);
            utf8_stream_end(&s, &out);
            assert_true(out.n > 0 && utf8_valid(out.data, out.n));
            assert_int_equal(s.n_held, 0);
            buf_free(&out);
        }
    }
    for (size_t cut = 0; cut < sizeof TEXT; cut++) {
        Utf8Stream s = {0};
        Buf        out = {0};
        utf8_stream_push(&s, TEXT, cut, &out);
        assert_true(!out.n || (utf8_valid(out.data, out.n) && !memcmp(out.data, TEXT, out.n)));
        utf8_stream_push(&s, TEXT + cut, sizeof TEXT - 1 - cut, &out);
        utf8_stream_end(&s, &out);
        assert_string_equal(out.data, TEXT);
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies),        cmocka_unit_test(random_replies), cmocka_unit_test(every_cut), cmocka_unit_test(every_end),
        cmocka_unit_test(random_spelled), cmocka_unit_test(no_memory),      cmocka_unit_test(utf8_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
