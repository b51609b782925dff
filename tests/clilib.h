/* What the tests of the program share: running it, and a small random model with a tokenizer. */
#ifndef AHA_CLILIB_H
#define AHA_CLILIB_H

#include <jansson.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model/model.h"
#include "testlib.h"
#include "text/text.h"

static char g_dir[256], g_model[300]; /* the test's own folder, and the model in it */

/* the program under test; CLI_BIN names another build of it */
static inline const char *program(void)
{
    const char *p = getenv("CLI_BIN");
    return p && *p ? p : "./aha";
}

typedef struct Ran {
    int    status; /* of the shell: 128 + signal when one ended it */
    char  *out, *err;
    size_t n_out;
} Ran;

static inline char *slurp(const char *name, size_t *n)
{
    char      path[512], *text;
    aha_error e = {0};
    snprintf(path, sizeof path, "%s/%s", g_dir, name);
    ASSERT_OK(file_read_all(path, 64 << 20, &text, n, &e), e);
    return text;
}

static inline void spill(const char *name, const void *data, size_t n)
{
    char      path[512];
    aha_error e = {0};
    snprintf(path, sizeof path, "%s/%s", g_dir, name);
    ASSERT_OK(file_write_atomic(path, data, n, &e), e);
}

/* `aha ARGS` with this on its standard input.  $M in ARGS is the model, $D the folder. */
static inline Ran ran_with(const char *input, size_t n, const char *args)
{
    static Ran last;
    char       command[4096];
    size_t     n_err;
    int        st;
    mem_free(last.out);
    mem_free(last.err);
    spill("in", input, n);
    snprintf(command, sizeof command, "D='%s' M='%s'; (%s %s) <$D/in >$D/out 2>$D/err", g_dir, g_model, program(), args);
    st = system(command);
    last.status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
    last.out = slurp("out", &last.n_out);
    last.err = slurp("err", &n_err);
    return last;
}
static inline Ran ran(const char *args) { return ran_with("", 0, args); }

#define ASSERT_RAN(r, code)                                                                                            \
    do {                                                                                                              \
        if ((r).status != (code)) fail_msg("status %d, expected %d\n%s\n%s", (r).status, (code), (r).out, (r).err);      \
    } while (0)
#define ASSERT_HAS(text, word)                                                                                         \
    do {                                                                                                              \
        if (!strstr((text), (word))) fail_msg("'%s' is not in:\n%s", (word), (text));                                  \
    } while (0)

static inline json_t *parsed(const char *text)
{
    json_error_t err;
    json_t      *j = json_loads(text, JSON_REJECT_DUPLICATES, &err);
    if (!j) fail_msg("no JSON: %s\n%s", err.text, text);
    return j;
}

static inline const char *text_of(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    if (!s) fail_msg("no text \"%s\"", key);
    return s;
}

static inline void write_in(const char *dir, const char *name, const char *text)
{
    char      path[512];
    aha_error e = {0};
    ASSERT_OK(path_join(path, sizeof path, dir, name, &e), e);
    ASSERT_OK(file_write_atomic(path, text, strlen(text), &e), e);
}

static inline void make_model(const char *dir)
{
    static const char *const WORDS[] = {" make", "Make", "Using", " and", " from", " Check"};
    char      *json, *config;
    aha_error  e = {0};
    Tokenizer *t;
    Model     *m;
    Config     c = {.arch = ARCH_DEEPSEEK_V3, .model_type = "deepseek_v3", .n_layer = 2, .d_model = 64, .n_head = 2, .n_kv_head = 2, .d_ff = 96,
                    .max_pos = 4096, .rms_eps = 1e-6, .q_lora = 32, .kv_lora = 16, .nope = 16, .rope_dim = 8, .v_dim = 16, .n_expert = 4,
                    .n_expert_used = 2, .n_shared = 1, .d_expert = 32, .n_dense_first = 1, .n_group = 1, .topk_group = 1,
                    .scoring = SCORING_SIGMOID, .route = ROUTE_NOAUX, .norm_topk = true, .route_scale = 1, .n_mtp = 1, .bos = 0, .eos = {1},
                    .n_eos = 1, .rope = {.theta = 10000, .factor = 1, .cos_sin_factor = 1, .interleaved = true}};
    ASSERT_OK(tokenizer_build_json(WORDS, (int)ARRAY_LEN(WORDS), &json, &e), e);
    ASSERT_OK(tokenizer_build_config(&config, &e), e);
    ASSERT_OK(tokenizer_parse(&t, json, strlen(json), "test", &e), e);
    c.vocab = tokenizer_vocab(t);
    ASSERT_OK(dir_make(dir, &e), e);
    ASSERT_OK(model_init_random(&m, &c, NULL, 1, &e), e);
    ASSERT_OK(model_save(m, dir, DT_BF16, &e), e);
    write_in(dir, "tokenizer.json", json);
    write_in(dir, "tokenizer_config.json", config);
    model_free(m);
    tokenizer_free(t);
    mem_free(json);
    mem_free(config);
}

static inline int cli_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    (void)state;
    unsetenv("AHA_MODEL");
    snprintf(g_dir, sizeof g_dir, "%s/aha-test-cli-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(g_dir)) return -1;
    snprintf(g_model, sizeof g_model, "%s/model", g_dir);
    make_model(g_model);
    return 0;
}

static inline int cli_teardown(void **state)
{
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/run", g_dir);
    dir_remove_all(path, NULL);
    return dir_remove_all(g_dir, NULL);
}

#endif
