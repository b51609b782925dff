/* The public API from outside: a model folder with a tokenizer, made here; the same from memory; text, chats, replies,
 * sequences, options of older and newer callers, every failure on the way in, the header alone in C and C++. */
#include "enginelib.h"

#include <stdlib.h>
#include <unistd.h>

static char g_dir[64];

static void write_file(const char *name, const char *text)
{
    char      path[256];
    aha_error e = {0};
    snprintf(path, sizeof path, "%s/%s", g_dir, name);
    ASSERT_OK(file_write_atomic(path, text, strlen(text), &e), e);
}

static const char *const WORDS[] = {"Using", " and", " make", "the", " answer", "wait"};

/* R1's structure, random weights, a tokenizer of its own */
static int make_folder(void **state)
{
    Model     *golden = golden_model("deepseek_v3-mtp", DT_F32, false), *m;
    Config     c = golden->cfg;
    Tokenizer *t;
    char      *json, *config;
    aha_error  e = {0};
    (void)state;
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-test-api-%d", (int)getpid());
    ASSERT_OK(dir_make(g_dir, &e), e);
    ASSERT_OK(tokenizer_build_json(WORDS, ARRAY_LEN(WORDS), &json, &e), e);
    ASSERT_OK(tokenizer_build_config(&config, &e), e);
    ASSERT_OK(tokenizer_parse(&t, json, strlen(json), "made here", &e), e);
    c.vocab = tokenizer_vocab(t);
    c.eos[0] = tokenizer_id(t, "<｜end▁of▁sentence｜>");
    c.n_eos = 1;
    ASSERT_OK(model_init_random(&m, &c, NULL, 3, &e), e);
    ASSERT_OK(model_save(m, g_dir, DT_F32, &e), e);
    write_file("tokenizer.json", json);
    write_file("tokenizer_config.json", config);
    write_file("generation_config.json", "{\"eos_token_id\": [1, 7, -4, 99999999, \"x\"]}");
    mem_free(json);
    mem_free(config);
    tokenizer_free(t);
    model_free(m);
    model_free(golden);
    return 0;
}
static int remove_folder(void **state)
{
    (void)state;
    return dir_remove_all(g_dir, NULL);
}

static aha_engine *open_here(const aha_options *o)
{
    aha_error   e = {0};
    aha_engine *g;
    ASSERT_OK(aha_engine_open(&g, g_dir, o, &e), e);
    return g;
}

static void test_info(void **state)
{
    aha_options     o = AHA_OPTIONS_INIT;
    aha_engine_info i = {.size = sizeof i};
    struct {
        size_t      size;
        const char *arch;
        char        beyond[sizeof(aha_engine_info)];
    } old = {.size = offsetof(aha_engine_info, isa)};
    aha_engine *g;
    (void)state;
    o.threads = 2;
    o.kv_type = "bf16";
    o.cpu = "ref";
    o.ctx = 100;
    o.draft = true;
    g = open_here(&o);
    aha_engine_get_info(g, &i);
    assert_string_equal(i.arch, "deepseek_v3");
    assert_string_equal(i.isa, "ref");
    assert_string_equal(i.kv_type, "bf16");
    assert_true(i.has_text && i.chat_known && i.drafts);
    assert_int_equal(i.ctx, 100);
    assert_int_equal(i.context, 128);
    assert_int_equal(i.threads, 2);
    assert_true(i.parameters > i.parameters_active && i.parameters_active > 80000);
    assert_true(i.weights_bytes > 4 * i.parameters);
    assert_int_equal(i.n_stop, 3); /* 1, 7, and the start of a user's turn */
    assert_int_equal(i.stop[1], 7);
    memset(old.beyond, 0x55, sizeof old.beyond);
    aha_engine_get_info(g, (aha_engine_info *)(void *)&old);
    assert_string_equal(old.arch, "deepseek_v3");
    for (size_t b = 0; b < sizeof old.beyond; b++) assert_int_equal(old.beyond[b], 0x55);
    aha_engine_free(g);
    aha_engine_free(NULL);
}

/* ---- sequences ---- */
typedef struct Heard {
    int32_t token[64];
    int     n, done;
} Heard;
static void heard_token(void *user, aha_seq *s, int32_t token, float logp)
{
    Heard *h = user;
    assert_non_null(s);
    assert_true(logp < 0);
    h->token[h->n++] = token;
}
static void heard_done(void *user, aha_seq *s)
{
    Heard *h = user;
    h->done++;
    aha_seq_free(s);
}

static aha_seq *submit_prompt(aha_engine *g, aha_seq_options *o, const int32_t *ids, int n)
{
    aha_error e = {0};
    aha_seq  *s;
    o->prompt = ids;
    o->n_prompt = n;
    ASSERT_OK(aha_seq_submit(g, o, &s, &e), e);
    return s;
}

static void test_sequences(void **state)
{
    static const int32_t PROMPT[] = {0, 40, 50, 60, 70};
    aha_engine         *g = open_here(NULL);
    aha_seq_options     o = AHA_SEQ_OPTIONS_INIT;
    aha_sample_options  sample = AHA_SAMPLE_OPTIONS_INIT;
    aha_seq_status      st = {.size = sizeof st};
    Heard               h = {0};
    aha_error           e = {0};
    aha_seq            *s;
    sample.seed = 11;
    (void)state;
    o.sample = &sample;
    o.max_new = 30;
    o.stop = PROMPT; /* none: n_stop is 0 */
    o.want_logp = true;
    s = submit_prompt(g, &o, PROMPT, 5);
    aha_seq_poll(s, &st);
    assert_int_equal(st.state, AHA_SEQ_WAITING);
    assert_int_equal(st.n_prompt, 5);
    assert_int_equal(st.prompt_done, 0);
    o.on_token = heard_token;
    o.on_done = heard_done;
    o.user = &h;
    submit_prompt(g, &o, PROMPT, 5);
    assert_int_equal(aha_engine_step(g, &e), 2);
    aha_seq_poll(s, &st);
    assert_int_equal(st.state, AHA_SEQ_GENERATING);
    assert_int_equal(st.prompt_done, 5);
    assert_int_equal(st.n_tokens, 1);
    ASSERT_OK(aha_engine_run(g, &e), e);
    aha_seq_poll(s, &st);
    assert_int_equal(st.state, AHA_SEQ_DONE);
    assert_int_equal(st.finish, AHA_FINISH_LENGTH);
    assert_int_equal(st.n_tokens, 30);
    assert_int_equal(st.stop_token, -1);
    assert_non_null(st.logp);
    assert_int_equal(h.done, 1);
    assert_int_equal(h.n, 30);
    assert_memory_equal(h.token, st.tokens, 30 * sizeof(int32_t));
    aha_seq_free(s);
    o.max_new = 0; /* to the end of the context */
    o.on_token = NULL;
    o.on_done = NULL;
    s = submit_prompt(g, &o, PROMPT, 5);
    ASSERT_OK(aha_engine_run(g, &e), e);
    aha_seq_poll(s, &st);
    assert_int_equal(st.n_tokens, 128 - 5);
    aha_seq_cancel(s);
    aha_seq_free(s);
    s = submit_prompt(g, &o, PROMPT, 5);
    aha_seq_cancel(s);
    aha_seq_poll(s, &st);
    assert_int_equal(st.finish, AHA_FINISH_CANCELLED);
    aha_engine_free(g); /* the sequence may be freed later */
    aha_seq_free(s);
    aha_seq_free(NULL);
}

static void sum_rows(void *user, int i, const float *logits)
{
    double *sum = user;
    *sum += (double)logits[i];
}

static void test_bytes_are_the_folder(void **state)
{
    static const char *const NAME[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"};
    aha_model_bytes b = {.size = sizeof b};
    aha_bytes      *to[] = {&b.config, &b.weights, &b.tokenizer, &b.tokenizer_config, &b.generation_config};
    char           *data[5];
    static const int32_t IDS[] = {0, 30, 40, 50, 1, 2, 3};
    float           lp[2][6];
    double          sum[2] = {0};
    aha_engine     *g[2];
    aha_error       e = {0};
    (void)state;
    for (int i = 0; i < 5; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", g_dir, NAME[i]);
        ASSERT_OK(file_read_all(path, 1 << 26, &data[i], &to[i]->n_bytes, &e), e);
        to[i]->data = data[i];
    }
    g[0] = open_here(NULL);
    ASSERT_OK(aha_engine_open_bytes(&g[1], &b, NULL, &e), e);
    for (int i = 0; i < 2; i++) {
        aha_engine_info info = {.size = sizeof info};
        aha_engine_get_info(g[i], &info);
        assert_int_equal(info.n_stop, 3);
        assert_true(info.has_text && info.chat_known);
        ASSERT_OK(aha_engine_score(g[i], IDS, 7, lp[i], sum_rows, &sum[i], &e), e);
        aha_engine_free(g[i]);
    }
    assert_memory_equal(lp[0], lp[1], sizeof lp[0]);
    assert_true(sum[0] == sum[1]);
    b.tokenizer = (aha_bytes){0};
    ASSERT_OK(aha_engine_open_bytes(&g[0], &b, NULL, &e), e);
    int32_t *ids;
    int      n;
    assert_int_equal(aha_tokenize(g[0], "x", 1, false, &ids, &n, &e), AHA_ERR_STATE);
    aha_engine_free(g[0]);
    b.weights.n_bytes -= 5;
    assert_int_equal(aha_engine_open_bytes(&g[0], &b, NULL, &e), AHA_ERR_FORMAT);
    assert_null(g[0]);
    b.config.data = NULL;
    assert_int_equal(aha_engine_open_bytes(&g[0], &b, NULL, &e), AHA_ERR_ARG);
    for (int i = 0; i < 5; i++) mem_free(data[i]);
}

/* ---- text ---- */
static void test_text(void **state)
{
    static const char TEXT[] = "Using 8, 13 and 2, make </think> 29. \xF0\x9F\x8C\x8A";
    aha_engine *g = open_here(NULL);
    aha_message m[] = {{.role = "system", .text = "Be brief.", .n_bytes = 9},
                       {.role = "user", .text = "<｜Assistant｜>hi", .n_bytes = 19},
                       {.role = "assistant", .text = "<think>\na\n</think>\n\nb", .n_bytes = 21},
                       {.role = "user", .text = "c", .n_bytes = 1}};
    aha_error   e = {0};
    int32_t    *ids, *plain;
    int         n, n_plain;
    char       *text;
    size_t      len;
    bool        open = false;
    (void)state;
    ASSERT_OK(aha_tokenize(g, TEXT, sizeof TEXT - 1, false, &plain, &n_plain, &e), e);
    ASSERT_OK(aha_tokenize(g, TEXT, sizeof TEXT - 1, true, &ids, &n, &e), e);
    assert_true(n < n_plain); /* </think> is one token there */
    ASSERT_OK(aha_detokenize(g, plain, n_plain, &text, &len, &e), e);
    assert_int_equal(len, sizeof TEXT - 1);
    assert_string_equal(text, TEXT);
    aha_free(text);
    aha_free(ids);
    aha_free(plain);
    ASSERT_OK(aha_tokenize(g, "", 0, false, &ids, &n, &e), e);
    assert_int_equal(n, 0);
    aha_free(ids);
    ASSERT_OK(aha_detokenize(g, NULL, 0, &text, &len, &e), e);
    assert_int_equal(len, 0);
    aha_free(text);
    ASSERT_OK(aha_chat(g, m, 4, &ids, &n, &open, &e), e);
    assert_true(open);
    ASSERT_OK(aha_detokenize(g, ids, n, &text, &len, &e), e);
    assert_string_equal(text, "<｜begin▁of▁sentence｜>Be brief.<｜User｜><｜Assistant｜>hi<｜Assistant｜>\n\nb<｜end▁of▁sentence｜>"
                              "<｜User｜>c<｜Assistant｜><think>\n");
    aha_free(text);
    aha_free(ids);
    m[1].role = "narrator";
    assert_int_equal(aha_chat(g, m, 4, &ids, &n, &open, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "message 1"));
    assert_int_equal(aha_chat(g, m, 0, &ids, &n, &open, &e), AHA_ERR_ARG);
    assert_null(ids);
    aha_engine_free(g);
}

static void test_tools(void **state)
{
    static const char   TOOLS[] = "[{\"name\": \"f\"}]", SAID[] = "x</think>y<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
                                  "{\"a\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n{";
    const aha_tool_call call = {.name = "f", .arguments = "{}"}, *calls;
    aha_message         m[] = {{.role = "user", .text = "q", .n_bytes = 1}, {.role = "assistant", .calls = &call, .n_calls = 1},
                               {.role = "tool", .text = "r", .n_bytes = 1}, {.role = "assistant", .text = "So", .n_bytes = 2, .prefix = true}};
    aha_engine         *g = open_here(NULL);
    aha_error           e = {0};
    aha_reply          *r;
    int32_t            *ids;
    char               *text;
    const char         *part_text;
    aha_part            p;
    int                 n, n_calls;
    size_t              len;
    bool                open = true;
    (void)state;
    ASSERT_OK(aha_chat_tools(g, m, 4, TOOLS, sizeof TOOLS - 1, &ids, &n, &open, &e), e);
    ASSERT_OK(aha_detokenize(g, ids, n, &text, &len, &e), e);
    assert_false(open);
    assert_non_null(strstr(text, "```json\n{\"name\": \"f\"}\n```\n<｜User｜>q<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n"
                                 "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>r"
                                 "<｜tool▁output▁end｜><｜tool▁outputs▁end｜>So"));
    aha_free(text);
    aha_free(ids);
    assert_int_equal(aha_chat_tools(g, m, 4, "[]", 2, &ids, &n, &open, &e), AHA_ERR_FORMAT);
    m[1].n_calls = -1;
    assert_int_equal(aha_chat(g, m, 4, &ids, &n, &open, &e), AHA_ERR_ARG);
    ASSERT_OK(aha_tokenize(g, SAID, sizeof SAID - 1, true, &ids, &n, &e), e);
    ASSERT_OK(aha_reply_new(&r, g, true, &e), e);
    for (int i = 0; i < n; i++) ASSERT_OK(aha_reply_push(r, ids[i], &p, &part_text, &len, &e), e);
    ASSERT_OK(aha_reply_calls(r, &calls, &n_calls, &e), e);
    assert_int_equal(n_calls, 1);
    ASSERT_OK(aha_reply_end(r, &p, &part_text, &len, &e), e);
    ASSERT_OK(aha_reply_calls(r, &calls, &n_calls, &e), e);
    assert_int_equal(n_calls, 2);
    assert_true(calls[0].complete && calls[0].valid && !calls[1].complete && !calls[1].valid);
    assert_string_equal(calls[0].arguments, "{\"a\": 1}");
    assert_string_equal(calls[1].name, "g");
    aha_free(ids);
    aha_reply_free(r);
    aha_engine_free(g);
}

static void test_reply(void **state)
{
    static const char SAID[] = "let me think\n</think>\n\n42 \xF0\x9F\x8C\x8A!";
    aha_engine *g = open_here(NULL);
    aha_error   e = {0};
    aha_reply  *r;
    int32_t    *ids;
    int         n;
    Buf         part[2] = {0};
    (void)state;
    ASSERT_OK(aha_tokenize(g, SAID, sizeof SAID - 1, true, &ids, &n, &e), e);
    ASSERT_OK(aha_reply_new(&r, g, true, &e), e);
    for (int i = 0; i <= n; i++) {
        aha_part    p;
        const char *text;
        size_t      len;
        if (i < n)
            ASSERT_OK(aha_reply_push(r, ids[i], &p, &text, &len, &e), e);
        else
            ASSERT_OK(aha_reply_end(r, &p, &text, &len, &e), e);
        assert_int_equal(strlen(text), len);
        assert_true(utf8_valid(text, len));
        buf_add(&part[p], text, len);
    }
    assert_string_equal(part[AHA_PART_THINKING].data, "let me think");
    assert_string_equal(part[AHA_PART_ANSWER].data, "42 \xF0\x9F\x8C\x8A!");
    buf_free(&part[0]);
    buf_free(&part[1]);
    aha_free(ids);
    aha_reply_free(r);
    aha_reply_free(NULL);
    aha_engine_free(g);
}

/* ---- what is refused, what fails ---- */
static void refuse(aha_options o, int code, const char *word)
{
    aha_error   e = {0};
    aha_engine *g = (aha_engine *)1;
    assert_int_equal(aha_engine_open(&g, g_dir, &o, &e), code);
    assert_null(g);
    if (!strstr(e.text, word)) fail_msg("\"%s\" lacks \"%s\"", e.text, word);
}

static void test_refusals(void **state)
{
    const aha_options  ok = AHA_OPTIONS_INIT;
    aha_options        o = ok;
    aha_error          e = {0};
    aha_engine        *g;
    aha_seq_options    so = AHA_SEQ_OPTIONS_INIT;
    aha_sample_options p = AHA_SAMPLE_OPTIONS_INIT;
    aha_seq           *s;
    int32_t            id = 3;
    (void)state;
    o = ok, o.size = 0, refuse(o, AHA_ERR_ARG, "INIT");
    o = ok, o.kv_type = "q4", refuse(o, AHA_ERR_ARG, "q4");
    o = ok, o.cpu = "avx1024", refuse(o, AHA_ERR_ARG, "avx1024");
    o = ok, o.threads = -1, refuse(o, AHA_ERR_ARG, "threads");
    o = ok, o.ctx = 129, refuse(o, AHA_ERR_ARG, "ctx");
    o = ok, o.cache_bytes = -1, refuse(o, AHA_ERR_ARG, "cache_bytes");
    o = ok, o.cache_bytes = 10, refuse(o, AHA_ERR_ARG, "cache_bytes");
    assert_int_equal(aha_engine_open(&g, "/nonexistent", NULL, &e), AHA_ERR_IO);
    g = open_here(NULL);
    so.prompt = &id;
    so.n_prompt = 1;
    so.sample = &p;
    p.size = 3;
    assert_int_equal(aha_seq_submit(g, &so, &s, &e), AHA_ERR_ARG);
    p.size = sizeof p;
    p.top_p = 0;
    assert_int_equal(aha_seq_submit(g, &so, &s, &e), AHA_ERR_ARG);
    assert_null(s);
    so.sample = NULL;
    id = 1 << 20;
    assert_int_equal(aha_seq_submit(g, &so, &s, &e), AHA_ERR_ARG);
    aha_engine_free(g);
}

static void test_open_faults(void **state)
{
    static const unsigned KINDS[] = {OS_FAULT_ALLOC, OS_FAULT_OPEN, OS_FAULT_READ, OS_FAULT_MAP};
    aha_options           o = AHA_OPTIONS_INIT;
    uint64_t              tried = 0;
    (void)state;
    o.threads = 2;
    for (size_t k = 0; k < ARRAY_LEN(KINDS); k++) {
        uint64_t all;
        os_fault_arm(KINDS[k], 0);
        aha_engine_free(open_here(&o));
        all = os_fault_seen();
        os_fault_arm(0, 0);
        assert_true(all > 0);
        for (uint64_t n = 1; n <= all; n += 1 + all / 400) { /* the tokenizer alone allocates thousands of times */
            aha_error   e = {0};
            aha_engine *g;
            int         rc;
            os_fault_arm(KINDS[k], n);
            rc = aha_engine_open(&g, g_dir, &o, &e);
            os_fault_arm(0, 0);
            tried++;
            if (rc == 0) { /* what failed was not needed */
                aha_engine_free(g);
                continue;
            }
            assert_null(g);
            assert_int_equal(rc, e.code);
            assert_true(strlen(e.text) > 10);
            if (KINDS[k] == OS_FAULT_ALLOC) assert_int_equal(rc, AHA_ERR_NOMEM);
        }
    }
    print_message("%llu failures on the way in\n", (unsigned long long)tried);
}

/* ---- the log and the header ---- */
static void count_lines(void *user, aha_log_level level, const char *line)
{
    if (level == AHA_LOG_WARN && strstr(line, "template")) ++*(int *)user;
}
static void test_log(void **state)
{
    int warned = 0;
    (void)state;
    aha_log_set(count_lines, &warned, AHA_LOG_INFO);
    write_file("chat_template.jinja", "{{ something of its own }}");
    aha_engine_free(open_here(NULL));
    assert_int_equal(warned, 1);
    write_file("chat_template.jinja", "");
    aha_log_set(NULL, NULL, AHA_LOG_ERROR);
    aha_engine_free(open_here(NULL));
    assert_int_equal(warned, 1);
}

static void test_header(void **state)
{
    static const char *const RUN[] = {
        "printf '#include \"aha.h\"\\naha_options o = AHA_OPTIONS_INIT;\\n' | cc -x c -std=c99 -pedantic -Wall -Wextra -Werror "
        "-Iinclude -fsyntax-only -",
        "command -v c++ >/dev/null || exit 0; printf '#include \"aha.h\"\\naha_seq_options o = AHA_SEQ_OPTIONS_INIT;\\n' | "
        "c++ -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(RUN); i++) assert_int_equal(system(RUN[i]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info), cmocka_unit_test(test_sequences), cmocka_unit_test(test_bytes_are_the_folder),
        cmocka_unit_test(test_text), cmocka_unit_test(test_reply), cmocka_unit_test(test_tools), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_open_faults), cmocka_unit_test(test_log), cmocka_unit_test(test_header),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
