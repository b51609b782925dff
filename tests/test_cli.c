/* The program as people call it: statuses, messages, results, and what hostile input gets. */
#include <sys/stat.h>

#include "clilib.h"

#include "cpu/cpu.h"
#include "infer/infer.h"

static const char *const COMMANDS[] = {"run", "chat", "learn", "eval", "score", "tokenize", "imatrix", "inspect", "bench", "doctor"};

static void helps(void **state)
{
    (void)state;
    ASSERT_RAN(ran("--help"), 0);
    Ran r = ran("--version");
    ASSERT_RAN(r, 0);
    assert_string_equal(r.out, "aha " AHA_VERSION "\n");
    ASSERT_HAS(ran("--licenses").out, "MIT");
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
        char args[64];
        snprintf(args, sizeof args, "%s --help", COMMANDS[i]);
        r = ran(args);
        ASSERT_RAN(r, 0);
        ASSERT_HAS(r.out, "Usage: aha ");
        ASSERT_HAS(r.out, "Examples\n");
        ASSERT_HAS(r.out, "--help");
        assert_string_equal(r.err, "");
        snprintf(args, sizeof args, "help %s", COMMANDS[i]);
        r = ran(args); /* the earlier output went with it */
        ASSERT_RAN(r, 0);
        for (const char *line = r.out; *line; line += strcspn(line, "\n"), line += *line == '\n')
            if (strcspn(line, "\n") > 110) fail_msg("a long line in %s --help: %.60s", COMMANDS[i], line);
    }
}

typedef struct Case {
    const char *args;
    int         status;
    const char *word; /* in standard error */
} Case;

static void run_cases(const Case *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        Ran r = ran(c[i].args);
        if (r.status != c[i].status || !strstr(r.err, c[i].word) || r.n_out)
            fail_msg("aha %s\nstatus %d, expected %d; '%s' expected in:\n%s%s", c[i].args, r.status, c[i].status, c[i].word, r.err, r.out);
    }
}

static void wrong_usage(void **state)
{
    static const Case CASES[] = {
        {"", 2, "a command is expected"},
        {"rnu", 2, "did you mean run?"},
        {"--versoin", 2, "did you mean --version?"},
        {"qqqqqqqq", 2, "there is no command 'qqqqqqqq'"},
        {"help rnu", 2, "did you mean run?"},
        {"run -m $M --temprature 1 hi", 2, "did you mean --temperature?"},
        {"run -m $M --temprature=1 hi", 2, "did you mean --temperature?"},
        {"run -m $M -Z hi", 2, "unknown option -Z"},
        {"run -m $M hi there", 2, "unexpected argument 'there'"},
        {"run -m $M -p a b", 2, "given twice"},
        {"run -m $M -p", 2, "needs a value"},
        {"run -m --json hi", 2, "--model: needs a value"},
        {"run -m $M --json=1 hi", 2, "takes no value"},
        {"run -m $M --ctx 0 hi", 2, "--ctx is '0', expected 16 to"},
        {"run -m $M --ctx -1 hi", 2, "--ctx is '-1'"},
        {"run -m $M --ctx 1e9 hi", 2, "a whole number"},
        {"run -m $M --ctx 1000000000 hi", 2, "at most 4096"},
        {"run -m $M --ctx 99999999999999999999 hi", 2, "--ctx is"},
        {"run -m $M --ctx 8388608g hi", 2, "--ctx is"},
        {"run -m $M --threads 100000 hi", 2, "expected 0 to 1024"},
        {"run -m $M --threads ' 1' hi", 2, "a whole number"},
        {"run -m $M --temperature nan hi", 2, "a number"},
        {"run -m $M --temperature -1 hi", 2, "expected 0 to 100"},
        {"run -m $M --top-p 0 hi", 2, "--top-p is '0'"},
        {"run -m $M --seed -1 hi", 2, "18446744073709551615"},
        {"run -m $M --cpu reff hi", 2, "did you mean ref?"},
        {"run -m $M --kv f8 hi", 2, "expected f32, bf16, f16 or q8_0"},
        {"run -m $M -n 0 hi", 2, "--max-tokens is '0'"},
        {"score -m $M", 2, "--tokens is expected"},
        {"score -m $M --tokens ''", 2, "no id is given"},
        {"score -m $M --tokens 0,99999", 2, "position 1 is token 99999"},
        {"score -m $M --tokens 0,x", 2, "'x' at byte 2"},
        {"score -m $M --tokens '[0,5'", 2, "ends early"},
        {"score -m $M --tokens '[0,]'", 2, "a list of ids"},
        {"eval contdown -m $M", 2, "countdown3"},
        {"eval", 2, "a task is expected"},
        {"eval countdown -m $M --variant huge", 2, "there are: free"},
        {"learn", 2, "a recipe is expected"},
        {"tokenize -m $M --decode --chat", 2, "--decode"},
        {"bench -m $M -p 4096", 2, "this model has 4096"},
    };
    (void)state;
    run_cases(CASES, ARRAY_LEN(CASES));
}

static void failures(void **state)
{
    static const Case CASES[] = {
        {"run -m /nonexistent hi", 1, "there is no '/nonexistent'"},
        {"run -m $M/model.safetensors hi", 1, "is a file"},
        {"run -m $D hi", 1, "is no model, but these in it are"},
        {"run -m tests hi", 1, "has no config.json"},
        {"run -m tests/golden/llama hi", 1, "has no tokenizer.json"},
        {"run -m $M -p @/nonexistent", 1, "/nonexistent"},
        {"run -m $M -p @$D", 1, "is a folder"},
        {"run -m $M -n 99999 hi", 1, "exceed the context of 4096"},
        {"run -m $M --ctx 64 -n 60 hello", 1, "--ctx goes up to 4096"},
        {"score -m $M --tokens @-", 1, "no id is given"},
        {"score -m $M --tokens @$M/config.json", 1, "a list of ids"},
        {"run -m /dev/null hi", 1, "'/dev/null' is a character device"},
        {"inspect /dev/zero", 1, "'/dev/zero' is a character device"},
        {"score -m $M --tokens 0,5,", 0, ""},
        {"score -m $M --tokens @/nonexistent", 1, "/nonexistent"},
        {"score -m $M --tokens 0,5 --logits /nonexistent/x", 1, "/nonexistent/x"},
        {"score -m $M --tokens 0,5 --logits /dev/full", 1, "No space left"},
        {"learn /nonexistent", 1, "there is no recipe"},
        {"inspect /nonexistent", 1, "there is no '/nonexistent'"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (CASES[i].status) run_cases(&CASES[i], 1);
}

static void knobs(void **state)
{
    (void)state;
    setenv("AHA_THREAD", "2", 1);
    Ran r = ran("doctor --quick");
    unsetenv("AHA_THREAD");
    ASSERT_RAN(r, 2);
    ASSERT_HAS(r.err, "did you mean AHA_THREADS?");
    setenv("AHA_MODEL", g_model, 1);
    r = ran("run --json -n 2 hi");
    unsetenv("AHA_MODEL");
    ASSERT_RAN(r, 0);
}

/* ---- run ---- */
static void run_json(void **state)
{
    (void)state;
    Ran     r = ran("run -m $M --json -n 12 --seed 5 'Make 29 from 2, 8, 13.'");
    json_t *j, *u;
    ASSERT_RAN(r, 0);
    j = parsed(r.out);
    assert_int_equal(json_object_size(j), 4);
    text_of(j, "thinking");
    text_of(j, "answer");
    assert_string_equal(text_of(j, "finish_reason"), "length");
    u = json_object_get(j, "usage");
    assert_int_equal(json_integer_value(json_object_get(u, "completion_tokens")), 12);
    assert_int_equal(json_integer_value(json_object_get(u, "total_tokens")), 12 + json_integer_value(json_object_get(u, "prompt_tokens")));
    json_decref(j);
}

/* The same seed gives the same bytes, however the work is cut. */
static void run_same(void **state)
{
    static const char *const HOW[] = {"", "--threads 1", "--threads 3 --chunk 1", "--chunk 7", "--draft", "--ctx 256"};
    char                    *first = NULL;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(HOW); i++) {
        char args[256];
        snprintf(args, sizeof args, "run -m $M --json -n 40 --seed 5 %s 'Make 29 from 2, 8, 13.'", HOW[i]);
        Ran r = ran(args);
        ASSERT_RAN(r, 0);
        if (first) assert_string_equal(first, r.out);
        else first = mem_strdup(r.out);
    }
    Ran other = ran("run -m $M --json -n 40 --seed 6 'Make 29 from 2, 8, 13.'");
    assert_string_not_equal(first, other.out);
    mem_free(first);
}

/* Thinking stays out of a pipe unless it is asked for. */
static void run_display(void **state)
{
    (void)state;
    Ran r = ran("run -m $M -n 12 --seed 5 hi");
    ASSERT_RAN(r, 0);
    assert_string_equal(r.out, "");
    ASSERT_HAS(r.err, "cut short after 12 tokens");
    r = ran("run -m $M -n 12 --seed 5 --think-display hi");
    ASSERT_HAS(r.out, "<think>\n");
    ASSERT_HAS(r.out, "\n</think>\n");
    assert_null(strchr(r.out, 27));
    r = ran("run -m $M -n 12 --seed 5 --no-think-display hi");
    assert_string_equal(r.out, "");
}

static void run_lines(void **state)
{
    static const char LINES[] = "Make 29 from 2, 8, 13.\r\n\nhello\n\xff\xfe\n";
    char             *first, *nl;
    int               n = 0;
    (void)state;
    spill("lines", LINES, sizeof LINES - 1);
    Ran r = ran("run -m $M -n 12 --seed 5 -p @$D/lines");
    ASSERT_RAN(r, 0);
    for (const char *p = r.out; *p; p = strchr(p, '\n') + 1, n++) {
        char *one = mem_strdup(p);
        *strchr(one, '\n') = 0;
        json_decref(parsed(one));
        mem_free(one);
    }
    assert_int_equal(n, 4);
    first = mem_strdup(r.out);
    r = ran("run -m $M -n 12 --seed 5 -p @$D/lines --batch 1 --threads 1");
    assert_string_equal(first, r.out);
    r = ran("run -m $M -n 12 --seed 5 --json 'Make 29 from 2, 8, 13.'"); /* the first line alone */
    nl = strchr(first, '\n');
    nl[1] = 0;
    assert_string_equal(first, r.out);
    mem_free(first);
}

/* A line that cannot be asked leaves its error in its place. */
static void run_line_too_long(void **state)
{
    Buf b = {0};
    (void)state;
    buf_str(&b, "hello\n");
    for (int i = 0; i < 20000; i++) buf_str(&b, "x");
    buf_str(&b, "\nhello");
    spill("lines", b.data, b.n);
    buf_free(&b);
    Ran r = ran("run -m $M -n 5 --seed 5 -p @$D/lines");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "1 of 3 prompts failed; line 2");
    const char *second = strchr(r.out, '\n') + 1, *third = strchr(second, '\n') + 1;
    assert_int_equal(strncmp(second, "{\"error\":", 9), 0);
    assert_int_equal(strncmp(third, "{\"thinking\":", 12), 0);
}

static void run_hostile(void **state)
{
    static const char NUL[] = "a\0b\xff\xfe c";
    Buf               big = {0};
    (void)state;
    Ran r = ran_with(NUL, sizeof NUL - 1, "run -m $M -n 3 --json -p -");
    ASSERT_RAN(r, 0);
    json_decref(parsed(r.out));
    r = ran_with("", 0, "run -m $M -n 3 --json");
    ASSERT_RAN(r, 0);
    for (int i = 0; i < 1 << 20; i++) buf_str(&big, "a");
    r = ran_with(big.data, big.n, "run -m $M -n 3 -p -");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "the context holds 4096");
    r = ran_with(big.data, big.n, "tokenize -m $M");
    ASSERT_RAN(r, 0);
    buf_free(&big);
}

/* With no -m: the built-in model says what it is; without one the program says that. */
static void builtin(void **state)
{
    (void)state;
    Ran r = ran("run --json -n 5 --seed 1 'Using 8, 13 and 2, make 29.'");
    if (r.status == 2) {
        ASSERT_HAS(r.err, "without a built-in model");
        skip();
    }
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.err, "the built-in aha-tiny");
    assert_null(strstr(r.err, "expect nonsense"));
    r = ran("run --json -n 5 --seed 1 'Who was Ada Lovelace?'");
    ASSERT_HAS(r.err, "expect nonsense");
    ASSERT_HAS(ran("run --json -n 5 --seed 1 'Solve 3*x+4=19.'").err, "expect nonsense"); /* a task, but none that it learned */
    ASSERT_HAS(ran("run --json -n 5 --seed 1 'Using 8, 13, 2 and 5, make 34.'").err, "expect nonsense");
    r = ran("inspect");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.out, "aha-tiny (built in)");
    ASSERT_RAN(ran_with("hello", 5, "tokenize"), 0);
}

/* ---- standard output that is closed, full, or left ---- */
static void output_gone(void **state)
{
    (void)state;
    Ran r = ran("run -m $M -n 3 --json hi >&-");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "cannot write to standard output");
    r = ran("run -m $M -n 3 --json hi >/dev/full");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "No space left");
    r = ran("run -m $M -n 3 --json hi 2>&-");
    ASSERT_RAN(r, 0);
    r = ran("run -m $M -n 3 --json <&-");
    ASSERT_RAN(r, 1);
    r = ran("inspect -m $M --tensors --json 2>$D/quiet | head -c 1"); /* a reader that leaves */
    size_t n;
    char  *quiet = slurp("quiet", &n);
    assert_string_equal(quiet, "");
    mem_free(quiet);
}

/* ---- score ---- */
static void score_golden(void **state)
{
    static const int32_t ID[] = {0, 5, 9, 63, 1};
    (void)state;
    Ran        r = ran("score -m tests/golden/deepseek_v3 --tokens 0,5,9,63,1 --logits $D/logits");
    aha_error  e = {0};
    Model     *m;
    Engine    *g;
    const Kernels *k = cpu_kernels(knob_get("AHA_CPU"), &e);
    Pool      *pool = pool_new(1, &e);
    float      logp[4];
    json_t    *j;
    size_t     n;
    char      *raw;
    ASSERT_RAN(r, 0);
    j = parsed(r.out);
    ASSERT_OK(model_open(&m, "tests/golden/deepseek_v3", NULL, &e), e);
    ASSERT_OK(engine_new(&g, m, k, pool, NULL, &e), e);
    ASSERT_OK(engine_score(g, ID, 5, logp, NULL, NULL, &e), e);
    const json_t *lp = json_object_get(j, "logprobs");
    assert_int_equal(json_array_size(lp), 5);
    assert_true(json_is_null(json_array_get(lp, 0)));
    for (size_t i = 1; i < 5; i++) assert_true((float)json_number_value(json_array_get(lp, i)) == logp[i - 1]);
    raw = slurp("logits", &n);
    assert_int_equal(n, 5 * (size_t)m->cfg.vocab * sizeof(float));
    mem_free(raw);
    json_decref(j);
    engine_free(g);
    pool_free(pool);
    model_free(m);
}

static void score_forms(void **state)
{
    (void)state;
    char *first = mem_strdup(ran("score -m tests/golden/llama --tokens 0,5,9").out);
    assert_string_equal(first, ran("score -m tests/golden/llama --tokens '[0, 5, 9]'").out);
    assert_string_equal(first, ran("score -m tests/golden/llama --tokens '0 5 9'").out);
    assert_string_equal(first, ran_with("[0,5,9]\n", 8, "score -m tests/golden/llama --tokens @-").out);
    spill("ids", "0,5,9", 5);
    assert_string_equal(first, ran("score -m tests/golden/llama --tokens @$D/ids --chunk 1 --threads 1").out);
    mem_free(first);
}

/* Logits go into a FIFO that somebody reads; one that nobody reads is left as it is. */
static void score_fifo(void **state)
{
    struct stat st;
    char        path[600], args[900], *whole, *through;
    size_t      n, m;
    (void)state;
    snprintf(path, sizeof path, "%s/fifo", g_dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    Ran r = ran("score -m tests/golden/llama --tokens 0,5,9 --logits $D/fifo");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "fifo");
    assert_true(stat(path, &st) == 0 && S_ISFIFO(st.st_mode));
    r = ran("score -m tests/golden/llama --tokens 0,5,9 --logits $D/whole");
    ASSERT_RAN(r, 0);
    whole = slurp("whole", &n);
    /* the shell holds both ends, so there is a reader */
    snprintf(args, sizeof args, "--version >/dev/null; exec 3<>$D/fifo; %s score -m tests/golden/llama --tokens 0,5,9 --logits $D/fifo && "
                                "head -c %zu <&3 >$D/through", program(), n);
    r = ran(args);
    ASSERT_RAN(r, 0);
    through = slurp("through", &m);
    assert_true(n == m && memcmp(whole, through, n) == 0);
    assert_true(stat(path, &st) == 0 && S_ISFIFO(st.st_mode));
    mem_free(whole);
    mem_free(through);
    unlink(path);
}

/* ---- tokenize ---- */
static void tokenize(void **state)
{
    static const char TEXT[] = "Make 29 from 2,\n8\0\xff\xe4\xbd\xa0 <think>";
    (void)state;
    Ran r = ran_with(TEXT, sizeof TEXT - 1, "tokenize -m $M");
    ASSERT_RAN(r, 0);
    char *ids = mem_strdup(r.out);
    r = ran_with(ids, strlen(ids), "tokenize -m $M --decode");
    ASSERT_RAN(r, 0);
    assert_int_equal(r.n_out, sizeof TEXT - 1);
    assert_memory_equal(r.out, TEXT, sizeof TEXT - 1);
    mem_free(ids);
    r = ran_with("[99999]", 7, "tokenize -m $M --decode");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "id 99999 at place 0");
}

static void tokenize_chat(void **state)
{
    static const char GOOD[] = "[{\"role\":\"user\",\"content\":\"<think>hi\"}]";
    static const struct {
        const char *json, *word;
    } BAD[] = {{"[{\"role\":\"user\",\"content\":\"\",\"tool_calls\":[{\"name\":\"f\",\"arguments\":\"{}\"}]}]", "message 0"},
               {"[{\"role\":\"assistant\",\"tool_calls\":[{\"name\":\"f\"}]}]", "arguments"},
               {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "a list is expected"},
               {"[]", "a JSON array of messages"}, {"{}", "a JSON array of messages"}, {"[1]", "message 0: an object"}, {"[", "standard input"},
               {"[{\"role\":\"x\",\"content\":\"\"}]", "role \"x\""}, {"[{\"role\":\"user\"}]", "content"},
               {"[{\"role\":\"user\",\"content\":3}]", "content"}};
    (void)state;
    Ran r = ran_with(GOOD, sizeof GOOD - 1, "tokenize -m $M --chat --pieces");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.out, "<｜Assistant｜>");
    const char *think = strstr(r.out, "\"<think>\"");
    assert_non_null(think); /* the template's own; the user's is text */
    assert_null(strstr(think + 1, "\"<think>\""));
    char *with = mem_strdup(ran_with(GOOD, sizeof GOOD - 1, "tokenize -m $M --chat").out);
    r = ran_with(GOOD, sizeof GOOD - 1, "tokenize -m $M --chat --no-generation");
    assert_true(strlen(r.out) < strlen(with));
    mem_free(with);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        r = ran_with(BAD[i].json, strlen(BAD[i].json), "tokenize -m $M --chat");
        ASSERT_RAN(r, 1);
        ASSERT_HAS(r.err, BAD[i].word);
    }
}

/* ---- inspect ---- */
static void inspect(void **state)
{
    (void)state;
    Ran r = ran("inspect $M");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.out, "deepseek_v3");
    ASSERT_HAS(r.out, "every number is finite");
    r = ran("inspect $M --json --tensors");
    json_t *j = parsed(r.out);
    assert_true(json_is_true(json_object_get(j, "sound")));
    assert_true(json_is_true(json_object_get(j, "chat_form_recognised")));
    assert_int_equal(json_array_size(json_object_get(j, "tensor_list")), json_integer_value(json_object_get(j, "tensors")));
    json_decref(j);
    r = ran("inspect $M/model.safetensors");
    ASSERT_RAN(r, 0);
    r = ran("inspect $M/tokenizer.json");
    ASSERT_RAN(r, 0);
    r = ran("inspect $M/config.json");
    ASSERT_RAN(r, 0);
    r = ran("inspect tests/golden/deepseek_v3-fp8 --json");
    j = parsed(r.out);
    assert_int_equal(json_integer_value(json_object_get(j, "tensors")), 69);
    assert_true(json_is_true(json_object_get(j, "sound")));
    assert_int_equal(json_integer_value(json_object_get(j, "unused")), 0); /* scales are used */
    json_decref(j);
    r = ran("inspect tests/gguf/llama.gguf");
    ASSERT_HAS(r.out, "  note         llama.attention.key_length is absent: taken to be 6\n");
    ASSERT_RAN(r, 0);
    r = ran("inspect tests/gguf/llama.gguf --json");
    ASSERT_HAS(r.out, "\"taken\":[\"llama.attention.key_length is absent: taken to be 6\"]");
    ASSERT_RAN(r, 0);
}

static void gguf(void **state)
{
    char  *bytes;
    size_t n;
    (void)state;
    Ran r = ran("inspect tests/gguf/deepseek_v3.gguf --json --tensors");
    ASSERT_RAN(r, 0);
    json_t *j = parsed(r.out);
    assert_true(json_is_true(json_object_get(j, "sound")));
    assert_int_equal(json_integer_value(json_object_get(j, "unused")), 0);
    assert_int_equal(json_integer_value(json_object_get(j, "tensors")), 52);
    assert_string_equal(json_string_value(json_object_get(j, "arch")), "deepseek_v3");
    json_decref(j);
    r = ran("inspect tests/gguf/qwen2-00001-of-00003.gguf");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.out, "in 3 files");
    ASSERT_HAS(r.out, "every tensor that the metadata asks for");
    r = ran("inspect tests/gguf/qwen2-00002-of-00003.gguf");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.out, "expected the first");
    char *folder = mem_strdup(ran("score -m tests/golden/deepseek_v3 --tokens 1,2,3").out);
    r = ran("score -m tests/gguf/deepseek_v3.gguf --tokens 1,2,3");
    ASSERT_RAN(r, 0);
    assert_string_equal(r.out, folder);
    mem_free(folder);
    r = ran("run -m tests/gguf/llama.gguf hi");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "tokenizer");
    aha_error e = {0};
    ASSERT_OK(file_read_all("tests/gguf/llama.gguf", 1 << 20, &bytes, &n, &e), e);
    spill("cut.gguf", bytes, n - 100);
    r = ran("inspect $D/cut.gguf");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.out, "expected a place within");
    mem_free(bytes);
}

static void inspect_broken(void **state)
{
    char   dir[600], *bytes;
    size_t n;
    (void)state;
    snprintf(dir, sizeof dir, "%s/broken", g_dir);
    make_model(dir);
    bytes = slurp("broken/model.safetensors", &n);
    spill("broken/model.safetensors", bytes, n - 100); /* cut off */
    Ran r = ran("inspect $D/broken");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.out, "problem");
    memset(bytes + n - 64, 0xff, 64); /* not a number */
    spill("broken/model.safetensors", bytes, n);
    r = ran("inspect $D/broken");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.out, "no numbers");
    mem_free(bytes);
    dir_remove_all(dir, NULL);
}

/* ---- the rest ---- */
static void machine(void **state)
{
    (void)state;
    Ran     r = ran("doctor --quick --json");
    json_t *j;
    ASSERT_RAN(r, 0);
    j = parsed(r.out);
    assert_string_equal(json_string_value(json_array_get(json_object_get(j, "isa"), 0)), "ref");
    json_decref(j);
    ASSERT_RAN(ran("doctor --quick"), 0);
}

static void eval(void **state)
{
    (void)state;
    Ran     r = ran("eval countdown -m $M --n 6 --samples 2 --max-tokens 30 --json");
    json_t *j;
    ASSERT_RAN(r, 0);
    j = parsed(r.out);
    assert_string_equal(text_of(j, "task"), "countdown3");
    assert_int_equal(json_integer_value(json_object_get(j, "n")), 6);
    json_decref(j);
    char *first = mem_strdup(r.out);
    assert_string_equal(first, ran("eval countdown3 -m $M --n 6 --samples 2 --max-tokens 30 --json --threads 1").out);
    mem_free(first);
    r = ran("eval countdown5 -m $M --variant large --n 2 --max-tokens 4 --json");
    ASSERT_RAN(r, 0);
    j = parsed(r.out);
    assert_string_equal(text_of(j, "task"), "countdown5");
    assert_string_equal(text_of(j, "variant"), "large");
    json_decref(j);
    ASSERT_HAS(ran("eval equation -m $M --variant wording --n 2 --max-tokens 4").out, "equation, variant wording");
    r = ran("eval countdown -m $M --n 2 --max-tokens 10 --examples 1");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.out, "pass@1");
    ASSERT_HAS(r.out, "<think>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(helps), cmocka_unit_test(wrong_usage), cmocka_unit_test(failures), cmocka_unit_test(knobs), cmocka_unit_test(run_json),
        cmocka_unit_test(run_same), cmocka_unit_test(run_display), cmocka_unit_test(run_lines), cmocka_unit_test(run_line_too_long),
        cmocka_unit_test(run_hostile), cmocka_unit_test(builtin), cmocka_unit_test(output_gone), cmocka_unit_test(score_golden), cmocka_unit_test(score_forms), cmocka_unit_test(score_fifo),
        cmocka_unit_test(tokenize), cmocka_unit_test(tokenize_chat), cmocka_unit_test(inspect), cmocka_unit_test(gguf), cmocka_unit_test(inspect_broken),
        cmocka_unit_test(machine), cmocka_unit_test(eval),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
