/* Conversations to ids as the published templates render them (tools/chat_golden.py); replies into thinking and answer. */
#include "textlib.h"

enum { MESSAGES_MAX = 16 };

static int messages_of(const json_t *row, ChatMessage m[MESSAGES_MAX])
{
    const json_t *list = json_object_get(row, "messages");
    int           n = (int)json_array_size(list);
    assert_true(n <= MESSAGES_MAX);
    for (int i = 0; i < n; i++) {
        const json_t *one = json_array_get(list, (size_t)i), *text = json_array_get(one, 1);
        const char   *role = json_string_value(json_array_get(one, 0));
        m[i].role = role[0] == 's' ? ROLE_SYSTEM : role[0] == 'u' ? ROLE_USER : ROLE_ASSISTANT;
        m[i].text = json_string_value(text);
        m[i].n = json_string_length(text);
    }
    return n;
}

static size_t count_id(const Ids *ids, int id)
{
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) n += ids->id[i] == id;
    return n;
}

/* One conversation: the ids spell the rendered text, and control tokens are those of the template alone. */
static void check_talk(const Tokenizer *t, ChatTemplate tpl, const json_t *row, const char *ids_key)
{
    ChatMessage   m[MESSAGES_MAX];
    aha_error     e = {0};
    Ids           ids = {0};
    Buf           back = {0};
    bool          open, generate = json_is_true(json_object_get(row, "generate"));
    const json_t *want = ids_key ? json_object_get(row, ids_key) : NULL;
    int           n = messages_of(row, m);
    ASSERT_OK(chat_render(t, tpl, m, n, generate, &ids, &open, &e), e);
    assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
    assert_string_equal(back.data, json_string_value(json_object_get(row, "text")));
    if (want) check_ids(&ids, want, back.data);

    size_t users = 0, answers = 0;
    for (int i = 0; i < n; i++) users += m[i].role == ROLE_USER, answers += m[i].role == ROLE_ASSISTANT;
    assert_int_equal(ids.id[0], tokenizer_id(t, "<｜begin▁of▁sentence｜>"));
    assert_int_equal(count_id(&ids, ids.id[0]), 1);
    assert_int_equal(count_id(&ids, tokenizer_id(t, "<｜User｜>")), users);
    assert_int_equal(count_id(&ids, tokenizer_id(t, "<｜end▁of▁sentence｜>")), answers);
    assert_int_equal(count_id(&ids, tokenizer_id(t, "</think>")), 0);
    assert_true(open == (generate && (tpl == CHAT_R1 || tpl == CHAT_R1_DISTILL)));
    assert_int_equal(count_id(&ids, tokenizer_id(t, "<think>")), open ? 1 : 0);
    ids_free(&ids);
    buf_free(&back);
}

static void rendered(const Tokenizer *t, const char *ids_key)
{
    for (int tpl = 0; tpl < CHAT_COUNT; tpl++) {
        char path[256];
        snprintf(path, sizeof path, "tests/data/chat/%s.json", chat_template_name((ChatTemplate)tpl));
        json_t *list = load_list(path);
        assert_true(json_array_size(list) >= 40);
        for (size_t i = 0; i < json_array_size(list); i++) check_talk(t, (ChatTemplate)tpl, json_array_get(list, i), ids_key);
        json_decref(list);
    }
}

static void templates(void **state)
{
    Tokenizer *t = fixture("tiny");
    (void)state;
    rendered(t, NULL);
    tokenizer_free(t);
}

static void templates_r1(void **state)
{
    const char *folder = data_folder();
    aha_error   e = {0};
    size_t      n = 0;
    Tokenizer  *t;
    (void)state;
    char *json = folder ? gunzip(folder, "tokenizer/deepseek-r1-tokenizer.derived.json.gz", &n) : NULL;
    if (!json) skip();
    ASSERT_OK(tokenizer_parse(&t, json, n, "r1", &e), e);
    rendered(t, "ids");
    tokenizer_free(t);
    mem_free(json);
}

/* ---- recognising ---- */
static void detect_own(void **state)
{
    static const struct {
        const char  *text;
        bool         known;
        ChatTemplate t;
    } CASE[] = {
        {"", false, CHAT_R1},
        {"{{ '<|im_start|>' }}", false, CHAT_R1},
        {"<｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> '</think>'", true, CHAT_R1_JAN},
        {"is_first_sp <｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> '</think>'", true, CHAT_V3},
        {"is_first_sp <｜User｜> <｜Assistant｜><think>\\n <｜end▁of▁sentence｜> \"</think>\"", true, CHAT_R1},
        {"<｜User｜> <｜Assistant｜><think>\\n <｜end▁of▁sentence｜> '</think>'", true, CHAT_R1_DISTILL},
        {"is_first_sp is_last_user <｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> '</think>'", true, CHAT_R1_0528},
        {"is_first_sp is_last_user <｜User｜> <｜Assistant｜> '<think></think>' <｜end▁of▁sentence｜>", false, CHAT_R1},
        {"is_last_user <｜User｜> <｜Assistant｜><think> <｜end▁of▁sentence｜> '</think>'", false, CHAT_R1},
    };
    aha_error e = {0};
    char     *config;
    bool      known;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        assert_int_equal(chat_template_detect(CASE[i].text, strlen(CASE[i].text), &known), CASE[i].t);
        assert_int_equal(known, CASE[i].known);
    }
    ASSERT_OK(tokenizer_build_config(&config, &e), e);
    json_t     *j = json_loads(config, 0, NULL);
    const char *jinja = json_string_value(json_object_get(j, "chat_template"));
    assert_non_null(jinja);
    assert_int_equal(chat_template_detect(jinja, strlen(jinja), &known), CHAT_R1);
    assert_true(known && json_is_true(json_object_get(j, "add_bos_token")));
    json_decref(j);
    mem_free(config);
    assert_string_equal(chat_template_name((ChatTemplate)99), "unknown");
}

static void detect_published(void **state)
{
    static const struct {
        const char  *file;
        bool         known;
        ChatTemplate t;
    } CASE[] = {
        {"deepseek-r1-0528.official", true, CHAT_R1_0528},
        {"deepseek-r1-feb2025.official", true, CHAT_R1},
        {"deepseek-r1-v3-noprefill.official", true, CHAT_V3},
        {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B", true, CHAT_R1_DISTILL},
        {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", true, CHAT_R1_DISTILL},
        {"llama-cpp-deepseek-r1", true, CHAT_R1_DISTILL},
        {"deepseek-ai-DeepSeek-V3.1", false, CHAT_R1},
        {"Qwen-Qwen3-0.6B", false, CHAT_R1},
    };
    const char *folder = data_folder();
    (void)state;
    if (!folder) skip();
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        char      path[600], *text;
        size_t    n;
        bool      known;
        aha_error e = {0};
        snprintf(path, sizeof path, "%s/templates/%s.jinja", folder, CASE[i].file);
        ASSERT_OK(file_read_all(path, 1 << 20, &text, &n, &e), e);
        if (chat_template_detect(text, n, &known) != CASE[i].t || known != CASE[i].known) fail_msg("%s", CASE[i].file);
        mem_free(text);
    }
}

static void render_refusals(void **state)
{
    static const ChatMessage HI = {ROLE_USER, "hi", 2};
    aha_error                e = {0};
    bool                     open;
    char                    *json;
    size_t                   n;
    Tokenizer               *t = fixture("tiny"), *lacking;
    Ids                      ids = {0};
    (void)state;
    ids_push(&ids, 77, &e);
    assert_int_equal(chat_render(t, CHAT_COUNT, &HI, 1, true, &ids, &open, &e), AHA_ERR_ARG);
    for (uint64_t nth = 1;; nth++) { /* without memory: an error, and the ids as before */
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int rc = chat_render(t, CHAT_R1, &HI, 1, true, &ids, &open, &e);
        os_fault_arm(0, 0);
        if (!rc) break;
        assert_int_equal(rc, AHA_ERR_NOMEM);
        assert_int_equal(ids.n, 1);
    }
    assert_int_equal(ids.id[0], 77);
    ids.n = 1;
    ASSERT_OK(file_read_all("tests/data/text/tiny.json", 1 << 20, &json, &n, &e), e);
    for (char *s = json; (s = strstr(s, "<｜User｜>"));) s[4] = 'X'; /* <｜Xser｜> */
    ASSERT_OK(tokenizer_parse(&lacking, json, n, "lacking", &e), e);
    assert_int_equal(chat_render(lacking, CHAT_R1, &HI, 1, true, &ids, &open, &e), AHA_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "User")); /* names it */
    assert_int_equal(ids.n, 1);
    tokenizer_free(lacking);
    mem_free(json);
    ids_free(&ids);
    tokenizer_free(t);
}

/* ---- replies ---- */
typedef struct Split {
    Buf part[2];
} Split;

static void split_free(Split *s)
{
    buf_free(&s->part[0]);
    buf_free(&s->part[1]);
}

/* Feeds text (control tokens spelled in it become tokens) and keeps the two parts; true: an end was met. */
static bool split(const Tokenizer *t, const char *text, size_t n, bool open, bool bytewise, Split *s)
{
    Ids       ids = {0};
    aha_error e = {0};
    Reply     r;
    Buf       out = {0};
    bool      ended = false;
    ReplyPart part;
    *s = (Split){0};
    if (bytewise) {
        for (size_t i = 0; i < n; i++) ids_push(&ids, t->bpe.byte_id[(uint8_t)text[i]], &e);
    } else {
        ASSERT_OK(tokenizer_encode(t, text, n, TOK_SPECIAL, &ids, &e), e);
    }
    reply_init(&r, t, open);
    for (size_t i = 0; i < ids.n && !ended; i++) {
        buf_reset(&out);
        ended = !reply_push(&r, ids.id[i], &part, &out);
        assert_true(out.n == 0 || utf8_valid(out.data, out.n));
        buf_add(&s->part[part], out.data, out.n);
    }
    buf_reset(&out);
    reply_end(&r, &part, &out);
    assert_true(out.n == 0 || utf8_valid(out.data, out.n));
    buf_add(&s->part[part], out.data, out.n);
    for (int i = 0; i < 2; i++) buf_str(&s->part[i], "");
    reply_free(&r);
    buf_free(&out);
    ids_free(&ids);
    return ended;
}

static void replies(void **state)
{
    static const struct {
        bool        open;
        const char *text, *thinking, *answer;
        bool        ended;
    } CASE[] = {
        {false, "plain answer", "", "plain answer", false},
        {false, "", "", "", false},
        {true, "", "", "", false},
        {true, "thinking only", "thinking only", "", false},
        {true, "hm\n</think>\n\nIt is 26.<｜end▁of▁sentence｜>more", "hm", "It is 26.", true},
        {false, "<think>\nhm\n\nso\n</think>\n\nYes\n\n- a\n- b\n<｜end▁of▁sentence｜>", "hm\n\nso", "Yes\n\n- a\n- b", true},
        {false, "<think>\n\n</think>\n\nquick", "", "quick", false},
        {true, "\n<think>\nhm</think>x", "hm", "x", false},
        {false, "x</think>y", "", "xy", false},
        {true, "a</think>b</think>c", "a", "bc", false},
        {false, "<think>a</think>b<think>c</think>d", "a\n\nc", "b\n\nd", false},
        {false, "<think>a</think>\n<think>\n</think>d", "a", "d", false},
        {false, "  indented\n  too  \n\n", "", "  indented\n  too", false},
        {true, "\r\n a \t\n</think>\n", " a", "", false},
        {false, "<｜Assistant｜>a<｜tool▁calls▁begin｜>b<｜▁pad▁｜>c<｜begin▁of▁sentence｜>d", "", "abcd", false},
        {false, "a<｜User｜>b", "", "a", true},
        {false, "一二 😀 é", "", "一二 😀 é", false},
        {true, "\xe4\xb8</think>\xb8z", "\xef\xbf\xbd", "\xef\xbf\xbdz", false},
        {false, "a\xff\xc3\xc3\xa9\xf0\x9f\x98", "", "a\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd", false},
        {false, "< think> </ think> <|User|>", "", "< think> </ think> <|User|>", false},
    };
    Tokenizer *t = fixture("tiny");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        Split s;
        assert_int_equal(split(t, CASE[i].text, strlen(CASE[i].text), CASE[i].open, false, &s), CASE[i].ended);
        assert_string_equal(s.part[REPLY_THINKING].data, CASE[i].thinking);
        assert_string_equal(s.part[REPLY_ANSWER].data, CASE[i].answer);
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
        cmocka_unit_test(templates),       cmocka_unit_test(templates_r1), cmocka_unit_test(detect_own),
        cmocka_unit_test(detect_published), cmocka_unit_test(render_refusals), cmocka_unit_test(replies),
        cmocka_unit_test(random_replies),  cmocka_unit_test(utf8_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
