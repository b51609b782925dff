/* Conversations to ids as the published templates render them (tools/chat_golden.py), with what they get wrong mended. */
#include "reallib.h"

enum { MESSAGES_MAX = 16, CALLS_MAX = 16 };
typedef struct Talk {
    ChatMessage m[MESSAGES_MAX];
    ChatCall    call[CALLS_MAX];
    int         n, n_call;
} Talk;

/* [role, text or null] or [role, text, {"calls": [[name, arguments], ...]}] or [role, text, {"prefix": true}] */
static void talk_of(const json_t *list, Talk *t)
{
    *t = (Talk){.n = (int)json_array_size(list)};
    assert_true(t->n <= MESSAGES_MAX);
    for (int i = 0; i < t->n; i++) {
        const json_t *one = json_array_get(list, (size_t)i), *text = json_array_get(one, 1), *extra = json_array_get(one, 2);
        const json_t *calls = json_object_get(extra, "calls");
        char          role = json_string_value(json_array_get(one, 0))[0];
        ChatMessage  *m = &t->m[i];
        m->role = role == 's' ? ROLE_SYSTEM : role == 'u' ? ROLE_USER : role == 't' ? ROLE_TOOL : ROLE_ASSISTANT;
        m->text = json_string_value(text);
        m->n = json_string_length(text);
        m->prefix = json_is_true(json_object_get(extra, "prefix"));
        m->n_call = (int)json_array_size(calls);
        m->call = m->n_call ? &t->call[t->n_call] : NULL;
        for (int k = 0; k < m->n_call; k++) {
            const json_t *name = json_array_get(json_array_get(calls, (size_t)k), 0), *args = json_array_get(json_array_get(calls, (size_t)k), 1);
            assert_true(t->n_call < CALLS_MAX);
            t->call[t->n_call++] = (ChatCall){json_string_value(name), json_string_length(name), json_string_value(args), json_string_length(args)};
        }
    }
}

static size_t count_id(const Ids *ids, int id)
{
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) n += ids->id[i] == id;
    return n;
}

/* The control tokens are those of the template alone. */
static void check_controls(const Tokenizer *t, const Talk *talk, const Ids *ids, bool open)
{
    size_t users = 0, answers = 0;
    int    begin = tokenizer_id(t, "<｜begin▁of▁sentence｜>");
    bool   prefix = talk->n && talk->m[talk->n - 1].prefix;
    for (int i = 0; i < talk->n; i++) users += talk->m[i].role == ROLE_USER, answers += talk->m[i].role == ROLE_ASSISTANT && !talk->m[i].prefix;
    assert_int_equal(ids->id[0], begin);
    assert_int_equal(count_id(ids, begin), 1);
    assert_int_equal(count_id(ids, tokenizer_id(t, "<｜User｜>")), users);
    assert_int_equal(count_id(ids, tokenizer_id(t, "<｜end▁of▁sentence｜>")), answers);
    if (prefix) return;
    assert_int_equal(count_id(ids, tokenizer_id(t, "</think>")), 0);
    assert_int_equal(count_id(ids, tokenizer_id(t, "<think>")), open ? 1 : 0);
}

/* One conversation: the ids spell the rendered text. */
static void check_talk(const Tokenizer *t, ChatTemplate tpl, const json_t *talks, const json_t *row, const char *tokenizer)
{
    Talk        talk;
    aha_error   e = {0};
    Ids         ids = {0};
    Buf         back = {0};
    bool        open;
    const char *text = json_string_value(json_object_get(row, "text"));
    talk_of(json_array_get(talks, (size_t)json_integer_value(json_object_get(row, "talk"))), &talk);
    ASSERT_OK(chat_render(t, tpl, talk.m, talk.n, json_is_true(json_object_get(row, "generate")), &ids, &open, &e), e);
    assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
    if (!t->nfc) assert_string_equal(back.data, text);
    if (tokenizer) check_hash(&ids, json_object_get(json_object_get(row, "ids"), tokenizer), text);
    check_controls(t, &talk, &ids, open);
    size_t n = strlen(text);
    if (!talk.m[talk.n - 1].prefix) assert_true(open == (n > 8 && !strcmp(text + n - 8, "<think>\n")));
    ids_free(&ids);
    buf_free(&back);
}

/* The renderings of one template; how many conversations are as the published template has them. */
static void rendered(const Tokenizer *t, ChatTemplate tpl, const char *tokenizer)
{
    char    path[256];
    int     published = 0, last = -1;
    json_t *talks = load_list("tests/data/chat/talks.json"), *list;
    snprintf(path, sizeof path, "tests/data/chat/%s.json", chat_template_name(tpl));
    list = load_list(path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        int           talk = (int)json_integer_value(json_object_get(row, "talk"));
        check_talk(t, tpl, talks, row, tokenizer);
        if (talk != last && !json_is_true(json_object_get(row, "mended"))) published++, last = talk;
    }
    assert_true(published >= 60);
    json_decref(list);
    json_decref(talks);
}

static void templates(void **state)
{
    Tokenizer *t = fixture("tiny"), *lacking = fixture("qwen"); /* without tokens for the tool markers, as the distills */
    (void)state;
    for (int tpl = 0; tpl < CHAT_COUNT; tpl++) rendered(t, (ChatTemplate)tpl, NULL);
    assert_int_equal(tokenizer_id(lacking, "<｜tool▁sep｜>"), -1);
    tokenizer_free(lacking);
    lacking = fixture("llama");
    rendered(lacking, CHAT_R1_DISTILL, NULL);
    tokenizer_free(t);
    tokenizer_free(lacking);
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
    for (int tpl = 0; tpl < CHAT_COUNT; tpl++)
        if (tpl != CHAT_R1_DISTILL) rendered(t, (ChatTemplate)tpl, "r1");
    tokenizer_free(t);
    mem_free(json);
}

static void templates_qwen(void **state)
{
    const char *folder = data_folder();
    Tokenizer  *distill = real_qwen(folder, R1_DISTILL_QWEN), *eight = real_qwen(folder, R1_0528_QWEN3);
    (void)state;
    if (!distill) skip();
    rendered(distill, CHAT_R1_DISTILL, "r1-distill-qwen");
    rendered(eight, CHAT_R1_0528, "r1-0528-qwen3");
    tokenizer_free(distill);
    tokenizer_free(eight);
}

/* ---- options ---- */
static char *spelled_with(const Tokenizer *t, ChatTemplate tpl, const ChatMessage *m, int n, const ChatOptions *o, bool *open)
{
    Ids       ids = {0};
    Buf       back = {0};
    aha_error e = {0};
    ASSERT_OK(chat_render_with(t, tpl, m, n, o, &ids, open, &e), e);
    tokenizer_decode(t, ids.id, ids.n, &back);
    ids_free(&ids);
    return back.data;
}

static void forced_and_free(void **state)
{
    static const struct {
        ChatTemplate tpl;
        ChatThink    think;
        const char  *end;
        bool         open;
    } CASE[] = {
        {CHAT_R1, CHAT_THINK_TEMPLATE, "hi<｜Assistant｜><think>\n", true},      {CHAT_R1, CHAT_THINK_FREE, "hi<｜Assistant｜>", false},
        {CHAT_R1_0528, CHAT_THINK_TEMPLATE, "hi<｜Assistant｜>", false},         {CHAT_R1_0528, CHAT_THINK_FORCED, "hi<｜Assistant｜><think>\n", true},
        {CHAT_R1_JAN, CHAT_THINK_FORCED, "hi<｜Assistant｜><think>\n", true},    {CHAT_R1_DISTILL, CHAT_THINK_FREE, "hi<｜Assistant｜>", false},
        {CHAT_R1_DISTILL, CHAT_THINK_FORCED, "hi<｜Assistant｜><think>\n", true},
    };
    const ChatMessage hi = {.role = ROLE_USER, .text = "hi", .n = 2};
    Tokenizer        *t = fixture("tiny");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        bool        open;
        ChatOptions o = {.add_generation = true, .think = CASE[i].think};
        char       *s = spelled_with(t, CASE[i].tpl, &hi, 1, &o, &open);
        assert_true(strlen(s) > strlen(CASE[i].end) && !strcmp(s + strlen(s) - strlen(CASE[i].end), CASE[i].end));
        assert_int_equal(open, CASE[i].open);
        mem_free(s);
    }
    tokenizer_free(t);
}

static void prefixes(void **state)
{
    static const struct {
        const char *text;
        bool        open;
        int         think, end_think; /* tokens */
    } CASE[] = {
        {"The answer", false, 0, 0}, {"", false, 0, 0}, {"<think>\nOkay", true, 1, 0}, {"<think>", true, 1, 0}, {"<think>a</think>b", false, 1, 1},
        {"<think>a</think>b</think>c<think>", false, 1, 1}, {"x<think>", false, 0, 0}, {"x</think>y", false, 0, 0},
    };
    Tokenizer *t = fixture("tiny");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        const ChatMessage m[] = {{.role = ROLE_USER, .text = "q", .n = 1},
                                 {.role = ROLE_ASSISTANT, .text = CASE[i].text, .n = strlen(CASE[i].text), .prefix = true}};
        Ids               ids = {0};
        Buf               back = {0};
        bool              open;
        aha_error         e = {0};
        ASSERT_OK(chat_render(t, CHAT_R1, m, 2, true, &ids, &open, &e), e);
        tokenizer_decode(t, ids.id, ids.n, &back);
        assert_string_equal(strstr(back.data, "<｜Assistant｜>") + strlen("<｜Assistant｜>"), CASE[i].text);
        assert_int_equal(open, CASE[i].open);
        assert_int_equal(count_id(&ids, tokenizer_id(t, "<think>")), CASE[i].think);
        assert_int_equal(count_id(&ids, tokenizer_id(t, "</think>")), CASE[i].end_think);
        ids_free(&ids);
        buf_free(&back);
    }
    tokenizer_free(t);
}

/* ---- descriptions of tools ---- */
static void tools_text(void **state)
{
    static const struct {
        const char *tools, *end; /* what follows the fixed words; NULL: refused */
        const char *words;
    } CASE[] = {
        {"[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}]", "\n```json\n{\"name\": \"f\", \"parameters\": {}}\n```\n", ""},
        {" [ { \"function\" : {\n \"name\" : \"a, b: {\\\"c\\\"}\" , \"x\":[0.10,1234567890123456789 ,1e5,true]}, \"type\":\"function\" } , {\"name\":\"g\"} ] ",
         "\n```json\n{\"name\": \"a, b: {\\\"c\\\"}\", \"x\": [0.10, 1234567890123456789, 1e5, true]}\n```\n\n```json\n{\"name\": \"g\"}\n```\n", ""},
        {"[{\"strict\":false,\"n\":-1.5 ,\"s\":\"}]\\\\\",\"function\":{\"name\":\"\\u4e00\"}}]", "\n```json\n{\"name\": \"\\u4e00\"}\n```\n", ""},
        {"[{\"name\":\"f\",\"parameters\":{\"maximum\":18446744073709551615,\"minimum\":-9223372036854775809}}]",
         "\n```json\n{\"name\": \"f\", \"parameters\": {\"maximum\": 18446744073709551615, \"minimum\": -9223372036854775809}}\n```\n", ""},
        {"[]", NULL, "a list of 0"}, {"{}", NULL, "tools"}, {"", NULL, "tools"}, {"[1]", NULL, "tools[0]"}, {"[{}]", NULL, "tools[0]: name"},
        {"[{\"name\":\"f\"},{\"name\":\"\"}]", NULL, "tools[1]"}, {"[{\"type\":\"web\",\"name\":\"f\"}]", NULL, "\"web\""},
        {"[{\"function\":{\"nome\":\"f\"}}]", NULL, "name"}, {"[{\"function\":7}]", NULL, "tools[0]"}, {"[{\"\\u0066unction\":{\"name\":\"f\"}}]", NULL, "escapes"},
        {"[{\"name\":\"f\"}", NULL, "tools"}, {"[{\"name\":7}]", NULL, "name"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        aha_error e = {0};
        Buf       out = {0};
        buf_str(&out, "before");
        int rc = chat_tools_text(CASE[i].tools, strlen(CASE[i].tools), &out, &e);
        if (!CASE[i].end) {
            if (!rc || !strstr(e.text, CASE[i].words)) fail_msg("%s: %d %s", CASE[i].tools, rc, e.text);
            assert_int_equal(out.n, 6);
        } else {
            ASSERT_OK(rc, e);
            const char *at = strstr(out.data, "functions available:\n");
            assert_non_null(at);
            assert_string_equal(at + strlen("functions available:\n"), CASE[i].end);
        }
        buf_free(&out);
    }
}

/* The markers in the description are tokens, those in a tool's own words are text; it stands behind the system text. */
static void tools_rendered(void **state)
{
    static const char TOOLS[] = "[{\"name\":\"f\",\"description\":\"<｜tool▁sep｜><｜User｜>\"}]";
    const ChatMessage m[] = {{.role = ROLE_SYSTEM, .text = "Sys.", .n = 4}, {.role = ROLE_USER, .text = "q", .n = 1}};
    const ChatOptions o = {.add_generation = true, .tools = TOOLS, .n_tools = sizeof TOOLS - 1};
    aha_error         e = {0};
    (void)state;
    for (int k = 0; k < 2; k++) {
        Tokenizer *t = fixture(k ? "llama" : "tiny");
        for (int tpl = 0; tpl < CHAT_COUNT; tpl++) {
            Ids  ids = {0};
            Buf  back = {0}, want = {0};
            bool open;
            ASSERT_OK(chat_render_with(t, (ChatTemplate)tpl, m, 2, &o, &ids, &open, &e), e);
            tokenizer_decode(t, ids.id, ids.n, &back);
            buf_str(&want, "<｜begin▁of▁sentence｜>Sys.\n\n");
            ASSERT_OK(chat_tools_text(TOOLS, sizeof TOOLS - 1, &want, &e), e);
            buf_str(&want, "<｜User｜>q<｜Assistant｜>");
            assert_int_equal(strncmp(back.data, want.data, want.n), 0);
            if (!k) assert_int_equal(count_id(&ids, tokenizer_id(t, "<｜tool▁sep｜>")), 1);
            assert_int_equal(count_id(&ids, tokenizer_id(t, "<｜User｜>")), 1);
            ids_free(&ids);
            buf_free(&back);
            buf_free(&want);
        }
        tokenizer_free(t);
    }
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
    static const ChatMessage HI = {.role = ROLE_USER, .text = "hi", .n = 2};
    aha_error                e = {0};
    bool                     open;
    char                    *json;
    size_t                   n;
    Tokenizer               *t = fixture("tiny"), *lacking;
    Ids                      ids = {0};
    (void)state;
    ids_push(&ids, 77, &e);
    assert_int_equal(chat_render(t, CHAT_COUNT, &HI, 1, true, &ids, &open, &e), AHA_ERR_ARG);
    const ChatCall    call = {"f", 1, "{}", 2};
    const ChatMessage BAD[][2] = {{{.role = (ChatRole)4}, HI},
                                  {{.role = ROLE_USER, .call = &call, .n_call = 1}, HI},
                                  {{.role = ROLE_ASSISTANT, .prefix = true}, HI},
                                  {HI, {.role = ROLE_USER, .prefix = true}},
                                  {HI, {.role = ROLE_ASSISTANT, .call = &call, .n_call = 1, .prefix = true}},
                                  {HI, {.role = ROLE_ASSISTANT, .n_call = -1}}};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_int_equal(chat_render(t, CHAT_R1, BAD[i], 2, true, &ids, &open, &e), AHA_ERR_ARG);
        assert_non_null(strstr(e.text, "message "));
    }
    const ChatMessage talk[] = {{.role = ROLE_SYSTEM, .text = "s", .n = 1}, HI, {.role = ROLE_ASSISTANT, .text = "x", .n = 1, .call = &call, .n_call = 1},
                                {.role = ROLE_TOOL, .text = "r", .n = 1}};
    const ChatOptions o = {.add_generation = true, .tools = "[{\"name\":\"f\"}]", .n_tools = 14};
    for (uint64_t nth = 1;; nth++) { /* without memory: an error, and the ids as before */
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int rc = chat_render_with(t, CHAT_R1, talk, 4, &o, &ids, &open, &e);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates),  cmocka_unit_test(templates_r1),     cmocka_unit_test(templates_qwen), cmocka_unit_test(forced_and_free),
        cmocka_unit_test(prefixes),   cmocka_unit_test(tools_text),       cmocka_unit_test(tools_rendered), cmocka_unit_test(detect_own),
        cmocka_unit_test(detect_published), cmocka_unit_test(render_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
