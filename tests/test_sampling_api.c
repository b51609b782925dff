/* The sampling side of the public API: penalties, bias, alternatives, thinking budgets, repetition, stop texts. */
#include "enginelib.h"

#include <math.h>
#include <unistd.h>

static char        g_dir[64];
static aha_engine *g_engine;
static int32_t     g_think, g_end;

static const char *const WORDS[] = {"Using", " and", " make", "the", " answer", "wait"};

static void write_file(const char *name, const char *text)
{
    char      path[256];
    aha_error e = {0};
    snprintf(path, sizeof path, "%s/%s", g_dir, name);
    ASSERT_OK(file_write_atomic(path, text, strlen(text), &e), e);
}

static int setup(void **state)
{
    Model          *golden = golden_model("deepseek_v3-mtp", DT_F32, false), *m;
    Config          c = golden->cfg;
    Tokenizer      *t;
    char           *json, *config;
    aha_error       e = {0};
    aha_engine_info info = {.size = sizeof info};
    (void)state;
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-test-sampling-%d", (int)getpid());
    ASSERT_OK(dir_make(g_dir, &e), e);
    ASSERT_OK(tokenizer_build_json(WORDS, ARRAY_LEN(WORDS), &json, &e), e);
    ASSERT_OK(tokenizer_build_config(&config, &e), e);
    ASSERT_OK(tokenizer_parse(&t, json, strlen(json), "made here", &e), e);
    c.vocab = tokenizer_vocab(t);
    c.max_pos = 4096;
    ASSERT_OK(model_init_random(&m, &c, NULL, 3, &e), e);
    ASSERT_OK(model_save(m, g_dir, DT_F32, &e), e);
    write_file("tokenizer.json", json);
    write_file("tokenizer_config.json", config);
    mem_free(json);
    mem_free(config);
    tokenizer_free(t);
    model_free(m);
    model_free(golden);
    ASSERT_OK(aha_engine_open(&g_engine, g_dir, NULL, &e), e);
    aha_engine_get_info(g_engine, &info);
    g_think = info.think;
    g_end = info.end_think;
    assert_true(g_think > 0 && g_end > 0 && g_think != g_end);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    aha_engine_free(g_engine);
    return dir_remove_all(g_dir, NULL);
}

static const int32_t PROMPT[] = {0, 40, 50, 60, 70, 41, 51, 61};
enum { N_PROMPT = sizeof PROMPT / sizeof PROMPT[0] };

static aha_seq_options plain(int max_new)
{
    aha_seq_options o = AHA_SEQ_OPTIONS_INIT;
    o.prompt = PROMPT;
    o.n_prompt = N_PROMPT;
    o.max_new = max_new;
    o.stop = PROMPT; /* none: n_stop is 0 */
    return o;
}

static aha_seq *submitted(const aha_seq_options *o)
{
    aha_error e = {0};
    aha_seq  *s;
    ASSERT_OK(aha_seq_submit(g_engine, o, &s, &e), e);
    return s;
}

static aha_seq_status run(aha_seq *s)
{
    aha_seq_status st = {.size = sizeof st};
    aha_error      e = {0};
    ASSERT_OK(aha_engine_run(g_engine, &e), e);
    aha_seq_poll(s, &st);
    assert_int_equal(st.state, AHA_SEQ_DONE);
    return st;
}

/* ---- alternatives ---- */
typedef struct Heard {
    aha_new_token token[64];
    int           n;
} Heard;
static void heard(void *user, aha_seq *s, const aha_new_token *t)
{
    Heard *h = user;
    assert_non_null(s);
    assert_int_equal(t->index, h->n);
    h->token[h->n++] = *t;
}

static void collect(void *user, int i, const float *logits)
{
    float (*rows)[4096] = user;
    aha_engine_info info = {.size = sizeof info};
    aha_engine_get_info(g_engine, &info);
    memcpy(rows[i], logits, (size_t)info.vocab * sizeof(float));
}

/* The n likeliest by sorting, their log-probabilities in double. */
static void assert_top(const aha_token_logp *top, int n, const float *logits, int vocab)
{
    double sum = 0;
    for (int i = 0; i < vocab; i++) sum += exp((double)logits[i]);
    for (int k = 0; k < n; k++) {
        int before = 0;
        for (int i = 0; i < vocab; i++) before += logits[i] > logits[top[k].token] || (logits[i] == logits[top[k].token] && i < top[k].token);
        assert_int_equal(before, k);
        assert_true(fabs((double)top[k].logp - ((double)logits[top[k].token] - log(sum))) < 1e-5);
    }
}

static void test_alternatives(void **state)
{
    enum { NEW = 20, TOP = 5 };
    static float    rows[N_PROMPT + NEW][4096];
    aha_engine_info info = {.size = sizeof info};
    aha_seq_options o = plain(NEW);
    aha_seq_status  st;
    Heard           h = {.n = 0};
    int32_t         all[N_PROMPT + NEW];
    float           logp[N_PROMPT + NEW];
    aha_error       e = {0};
    aha_seq        *s;
    (void)state;
    aha_engine_get_info(g_engine, &info);
    o.n_top = TOP;
    o.want_prompt_logp = true;
    o.on_new_token = heard;
    o.user = &h;
    s = submitted(&o);
    st = run(s);
    assert_int_equal(st.n_tokens, NEW);
    assert_int_equal(st.n_top, TOP);
    assert_int_equal(h.n, NEW);
    memcpy(all, PROMPT, sizeof PROMPT);
    memcpy(all + N_PROMPT, st.tokens, NEW * sizeof *all);
    ASSERT_OK(aha_engine_score(g_engine, all, N_PROMPT + NEW, logp, collect, rows, &e), e);
    for (int i = 0; i < NEW; i++) {
        assert_memory_equal(&st.logp[i], &logp[N_PROMPT + i - 1], sizeof(float));
        assert_top(st.top + i * TOP, TOP, rows[N_PROMPT + i - 1], info.vocab);
        for (int k = 0; k < TOP; k++)
            if (st.top[i * TOP + k].token == st.tokens[i]) assert_memory_equal(&st.top[i * TOP + k].logp, &st.logp[i], sizeof(float));
        assert_int_equal(h.token[i].token, st.tokens[i]);
        assert_ptr_equal(h.token[i].top, st.top + i * TOP);
        assert_false(h.token[i].forced);
    }
    assert_true(st.prompt_logp[0] == 0);
    assert_int_equal(st.prompt_top[0].token, -1);
    for (int i = 1; i < N_PROMPT; i++) {
        assert_memory_equal(&st.prompt_logp[i], &logp[i - 1], sizeof(float));
        assert_top(st.prompt_top + i * TOP, TOP, rows[i - 1], info.vocab);
    }
    aha_seq_free(s);
}

/* ---- thinking ---- */
static void test_budget(void **state)
{
    static const int BUDGET[] = {0, 1, 7};
    int32_t         *end;
    int              n_end;
    aha_error        e = {0};
    (void)state;
    ASSERT_OK(aha_tokenize(g_engine, "\n</think>\n\n", 11, true, &end, &n_end, &e), e);
    assert_true(n_end > 2 && end[1] == g_end);
    for (size_t b = 0; b < ARRAY_LEN(BUDGET); b++) {
        aha_seq_options o = plain(40), free_of_it = plain(40);
        aha_seq_status  st, other;
        aha_seq        *s, *f;
        int             at = BUDGET[b];
        o.think_open = free_of_it.think_open = true;
        o.think_budget = at;
        o.want_logp = true;
        s = submitted(&o);
        f = submitted(&free_of_it);
        st = run(s);
        other = run(f);
        assert_memory_equal(st.tokens, other.tokens, (size_t)at * sizeof(int32_t)); /* the same until then */
        assert_null(other.forced);
        for (int i = 0; i < 40; i++) assert_int_equal(st.forced[i], i >= at && i < at + n_end);
        assert_memory_equal(st.tokens + at, end, (size_t)n_end * sizeof *end);
        assert_int_equal(st.n_think, at + 2); /* and the newline, and the tag */
        for (int i = 0; i < 40; i++) assert_true(st.logp[i] < 0);
        aha_seq_free(s);
        aha_seq_free(f);
    }
    aha_free(end);
}

/* ---- stop texts ---- */
static void test_stop_texts(void **state)
{
    static const char SAID[] = "END of thinking</think>the answer is EN, END of it";
    const aha_bytes   stop[] = {{"xyz", 3}, {"END", 3}};
    aha_reply_options o = AHA_REPLY_OPTIONS_INIT;
    aha_error         e = {0};
    aha_reply        *r;
    int32_t          *ids;
    int               n;
    Buf               part[2] = {0};
    (void)state;
    o.think_open = true;
    o.stop = stop;
    o.n_stop = 2;
    ASSERT_OK(aha_tokenize(g_engine, SAID, sizeof SAID - 1, true, &ids, &n, &e), e);
    ASSERT_OK(aha_reply_open(&r, g_engine, &o, &e), e);
    for (int i = 0; i <= n; i++) {
        aha_part    p;
        const char *text;
        size_t      len;
        if (i < n) ASSERT_OK(aha_reply_push(r, ids[i], &p, &text, &len, &e), e);
        else ASSERT_OK(aha_reply_end(r, &p, &text, &len, &e), e);
        buf_add(&part[p], text, len);
    }
    assert_string_equal(part[AHA_PART_THINKING].data, "END of thinking");
    assert_string_equal(part[AHA_PART_ANSWER].data, "the answer is EN, ");
    assert_int_equal(aha_reply_stopped(r), 1);
    aha_reply_free(r);
    aha_free(ids);
    buf_free(&part[0]);
    buf_free(&part[1]);
}

/* A plain reply is the text itself; stop texts hold across every token border. */
static void test_plain_reply(void **state)
{
    static const char SAID[] = "\n\n make 12</think> 345\xF0\x9F\x8C\x8A 67 ";
    aha_error         e = {0};
    int32_t          *ids;
    int               n;
    (void)state;
    ASSERT_OK(aha_tokenize(g_engine, SAID, sizeof SAID - 1, false, &ids, &n, &e), e);
    for (int way = 0; way < 3; way++) {
        const aha_bytes   stop[] = {{"45\xF0\x9F\x8C\x8A", 6}, {"!", 1}};
        aha_reply_options o = AHA_REPLY_OPTIONS_INIT;
        aha_reply        *r;
        Buf               all = {0};
        o.plain = way < 2;
        o.stop = way == 1 ? stop : NULL;
        o.n_stop = way == 1 ? 2 : 0;
        ASSERT_OK(aha_reply_open(&r, g_engine, &o, &e), e);
        for (int i = 0; i <= n; i++) {
            aha_part    p;
            const char *text;
            size_t      len;
            if (i < n) ASSERT_OK(aha_reply_push(r, ids[i], &p, &text, &len, &e), e);
            else ASSERT_OK(aha_reply_end(r, &p, &text, &len, &e), e);
            assert_int_equal(p, AHA_PART_ANSWER);
            assert_true(utf8_valid(text, len) && strlen(text) == len);
            buf_add(&all, text, len);
        }
        assert_string_equal(all.data, way == 0 ? SAID : way == 1 ? "\n\n make 12</think> 3" : " make 12</think> 345\xF0\x9F\x8C\x8A 67");
        assert_int_equal(aha_reply_stopped(r), way == 1 ? 0 : -1);
        aha_reply_free(r);
        buf_free(&all);
    }
    aha_free(ids);
}

static void test_chat_with(void **state)
{
    static const char *const END[] = {[AHA_THINK_TEMPLATE] = "<｜Assistant｜><think>\n", [AHA_THINK_FORCED] = "<｜Assistant｜><think>\n",
                                      [AHA_THINK_FREE] = "<｜Assistant｜>", [AHA_THINK_OFF] = "<｜Assistant｜><think>\n\n</think>\n\n"};
    aha_message      m[] = {{.role = "user", .text = "q", .n_bytes = 1}, {.role = "assistant"}, {.role = "tool", .text = "r", .n_bytes = 1}};
    aha_tool_call    call = {.name = "f", .arguments = "{}"};
    aha_chat_options o = AHA_CHAT_OPTIONS_INIT;
    aha_error        e = {0};
    int32_t         *ids;
    int              n;
    char            *text;
    size_t           len;
    bool             open;
    (void)state;
    m[1].calls = &call;
    m[1].n_calls = 1;
    for (int t = AHA_THINK_TEMPLATE; t <= AHA_THINK_OFF; t++)
        for (int tools = 0; tools < 2; tools++) {
            o.think = (aha_think)t;
            ASSERT_OK(aha_chat_with(g_engine, m, tools ? 3 : 1, &o, &ids, &n, &open, &e), e);
            ASSERT_OK(aha_detokenize(g_engine, ids, n, &text, &len, &e), e);
            const char *end = tools ? "<｜tool▁outputs▁end｜>" : END[t]; /* after results it just goes on */
            assert_true(len > strlen(end));
            assert_string_equal(text + len - strlen(end), end);
            assert_int_equal(open, !tools && t <= AHA_THINK_FORCED);
            aha_free(ids);
            aha_free(text);
        }
    o.think = (aha_think)4;
    assert_int_equal(aha_chat_with(g_engine, m, 1, &o, &ids, &n, &open, &e), AHA_ERR_ARG);
    assert_non_null(strstr(e.text, "think is 4"));
    o.size = 2;
    assert_int_equal(aha_chat_with(g_engine, m, 1, &o, &ids, &n, &open, &e), AHA_ERR_ARG);
}

/* ---- several answers ---- */
static void test_answers_share_their_prompt(void **state)
{
    enum { N = 8, LONG = 200 };
    int32_t            prompt[LONG];
    aha_seq_options    o = plain(10);
    aha_sample_options p = AHA_SAMPLE_OPTIONS_INIT;
    aha_seq           *s[N];
    aha_seq_status     st = {.size = sizeof st};
    int                computed = 0;
    (void)state;
    random_tokens(prompt, LONG, 1000, 4);
    o.prompt = prompt;
    o.n_prompt = LONG;
    o.sample = &p;
    p.frequency_penalty = 0.5f;
    for (int i = 0; i < N; i++) {
        p.stream = (uint64_t)i;
        s[i] = submitted(&o);
    }
    run(s[0]);
    for (int i = 0; i < N; i++) {
        aha_seq_poll(s[i], &st);
        computed += st.n_prompt - st.prompt_cached;
        aha_seq_free(s[i]);
    }
    assert_int_equal(computed, LONG + N - 1); /* and the last token of each: its logits are needed */
}

/* ---- callers ---- */
static void refuse(aha_seq_options o, aha_sample_options p, int code, const char *word)
{
    aha_error e = {0};
    aha_seq  *s = (aha_seq *)1;
    o.sample = &p;
    assert_int_equal(aha_seq_submit(g_engine, &o, &s, &e), code);
    assert_null(s);
    if (!strstr(e.text, word)) fail_msg("\"%s\" lacks \"%s\"", e.text, word);
}

static void test_refusals(void **state)
{
    static const float       BAD[] = {NAN, INFINITY, -INFINITY, -3, 1e20f};
    const aha_sample_options fine = AHA_SAMPLE_OPTIONS_INIT;
    aha_sample_options       p = fine;
    aha_seq_options          o = plain(4);
    aha_logit_bias           bias[2] = {{1 << 20, 0}, {3, NAN}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        if (BAD[i] < 0 || !(BAD[i] < 1e30f)) p = fine, p.temperature = BAD[i], refuse(o, p, AHA_ERR_ARG, "temperature");
        p = fine, p.top_p = BAD[i], refuse(o, p, AHA_ERR_ARG, "top_p");
        p = fine, p.min_p = BAD[i], refuse(o, p, AHA_ERR_ARG, "min_p");
        p = fine, p.repetition_penalty = BAD[i], refuse(o, p, AHA_ERR_ARG, "repetition_penalty");
        p = fine, p.presence_penalty = BAD[i], refuse(o, p, AHA_ERR_ARG, "presence_penalty");
        p = fine, p.frequency_penalty = BAD[i], refuse(o, p, AHA_ERR_ARG, "frequency_penalty");
    }
    p = fine, p.temperature = 0, p.top_p = NAN, refuse(o, p, AHA_ERR_ARG, "top_p"); /* where it changes nothing, too */
    p = fine, p.top_k = -1, refuse(o, p, AHA_ERR_ARG, "top_k");
    p = fine, p.repetition_penalty = 0, refuse(o, p, AHA_ERR_ARG, "repetition_penalty");
    p = fine, p.bias = bias, p.n_bias = 1, refuse(o, p, AHA_ERR_ARG, "token 1048576");
    p = fine, p.bias = bias + 1, p.n_bias = 1, refuse(o, p, AHA_ERR_ARG, "bias of token 3");
    p = fine, p.n_bias = 1, refuse(o, p, AHA_ERR_ARG, "n_bias");
    o = plain(4), o.n_top = 21, refuse(o, fine, AHA_ERR_ARG, "n_top");
    o = plain(4), o.think_budget = -2, refuse(o, fine, AHA_ERR_ARG, "think_budget");
    o = plain(4), o.repeat_min = 1, refuse(o, fine, AHA_ERR_ARG, "repeat_min");
    o = plain(4), o.think_budget = 1, o.think_end = PROMPT, o.n_think_end = 2, refuse(o, fine, AHA_ERR_ARG, "think_end");
}

/* A caller compiled against a header that ended before all of this gets what it always got. */
static void test_older_callers(void **state)
{
    struct {
        aha_sample_options p;
        aha_seq_options    o;
    } old, now = {AHA_SAMPLE_OPTIONS_INIT, plain(30)};
    aha_seq_status st, before;
    aha_seq       *s[2];
    (void)state;
    memset(&old, 0x5a, sizeof old); /* what lies beyond is not theirs */
    memcpy(&old.p, &now.p, offsetof(aha_sample_options, repetition_penalty));
    memcpy(&old.o, &now.o, offsetof(aha_seq_options, on_new_token));
    old.p.size = offsetof(aha_sample_options, repetition_penalty);
    old.o.size = offsetof(aha_seq_options, on_new_token);
    old.o.sample = &old.p;
    now.o.sample = &now.p;
    s[0] = submitted(&old.o);
    s[1] = submitted(&now.o);
    before = run(s[0]);
    st = run(s[1]);
    assert_int_equal(before.n_tokens, 30);
    assert_memory_equal(before.tokens, st.tokens, 30 * sizeof(int32_t));
    aha_seq_free(s[0]);
    aha_seq_free(s[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alternatives), cmocka_unit_test(test_budget), cmocka_unit_test(test_stop_texts), cmocka_unit_test(test_plain_reply),
        cmocka_unit_test(test_chat_with), cmocka_unit_test(test_answers_share_their_prompt), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_older_callers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
