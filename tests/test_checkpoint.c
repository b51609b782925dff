/* What a checkpoint's manifest may say: whatever else lies there is refused with the file and the field. */
#include <unistd.h>

#include "learn/checkpoint.h"
#include "testlib.h"

static char g_dir[64];

static int peek(const char *manifest, size_t n, RunState *s, aha_error *e)
{
    char path[128];
    bool found;
    int  rc;
    snprintf(path, sizeof path, "%s/latest.json", g_dir);
    ASSERT_OK(file_write_atomic(path, manifest, n, e), *e);
    rc = checkpoint_peek(g_dir, s, &found, e);
    assert_true(rc || found);
    return rc;
}

#define HEX "\"0123456789abcdef\""
#define MANIFEST(file, hash, numbers, bits)                                                                                      \
    "{\"format\":\"aha-checkpoint-1\",\"file\":" file ",\"hash\":" hash ",\"recipe\":" HEX ",\"stage\":1," numbers                 \
    ",\"metrics_bytes\":5,\"has_model\":true,\"optim_step\":3,\"skips\":0,\"elapsed_bits\":" bits ",\"norm_mean_bits\":" HEX "}"
#define NUMBERS "\"step\":2,\"item\":7,\"tokens\":9"
static const char GOOD[] = MANIFEST("\"step-1-2.safetensors\"", HEX, NUMBERS ",\"checked\":-1", HEX);

static void good(void **state)
{
    RunState  s;
    aha_error e = {0};
    (void)state;
    ASSERT_OK(peek(GOOD, sizeof GOOD - 1, &s, &e), e);
    assert_true(s.stage == 1 && s.step == 2 && s.item == 7 && s.tokens == 9 && s.checked == -1 && s.metrics_bytes == 5 && s.has_model);
    static const char OLDER[] = MANIFEST("\"a\"", HEX, NUMBERS, HEX); /* without the field: written behind the check of its step */
    ASSERT_OK(peek(OLDER, sizeof OLDER - 1, &s, &e), e);
    assert_int_equal(s.checked, 2);
}

static void refused(void **state)
{
    static const struct {
        const char *text, *words;
    } CASE[] = {
        {"", "latest.json"},
        {"[]", "latest.json"},
        {"{}", "format: absent"},
        {"{\"format\":\"aha-checkpoint-2\"}", "format is not aha-checkpoint-1"},
        {"{\"format\":\"aha-checkpoint-1\"}", "file: absent"},
        {MANIFEST("\"a\"", "\"0123456789abcdef0\"", NUMBERS, HEX), "hash is no 16-digit"},
        {MANIFEST("7", HEX, NUMBERS, HEX), "file"},
        {MANIFEST("\"../x\"", HEX, NUMBERS, HEX), "no plain file name"},
        {MANIFEST("\"/etc/passwd\"", HEX, NUMBERS, HEX), "no plain file name"},
        {MANIFEST("\"..\"", HEX, NUMBERS, HEX), "no plain file name"},
        {MANIFEST("\"a\"", "\"0123\"", NUMBERS, HEX), "hash is no 16-digit hexadecimal number"},
        {MANIFEST("\"a\"", "\"\"", NUMBERS, HEX), "hash is no 16-digit"},
        {MANIFEST("\"a\"", "\"0123456789ABCDEF\"", NUMBERS, HEX), "hash is no 16-digit"},
        {MANIFEST("\"a\"", "\"0123456789abcdeg\"", NUMBERS, HEX), "hash is no 16-digit"},
        {MANIFEST("\"a\"", HEX, NUMBERS, "\"x\""), "elapsed_bits"},
        {MANIFEST("\"a\"", HEX, "\"step\":-1,\"item\":7,\"tokens\":9", HEX), "step: got -1"},
        {MANIFEST("\"a\"", HEX, "\"step\":1e300,\"item\":7,\"tokens\":9", HEX), "step"},
        {MANIFEST("\"a\"", HEX, "\"step\":9223372036854775807,\"item\":7,\"tokens\":9", HEX), "step"},
        {MANIFEST("\"a\"", HEX, NUMBERS ",\"checked\":-2", HEX), "checked: got -2"},
        {MANIFEST("\"a\"", HEX, NUMBERS ",\"step\":2", HEX), "step"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        RunState  s;
        aha_error e = {0};
        if (peek(CASE[i].text, strlen(CASE[i].text), &s, &e) == 0 || !strstr(e.text, CASE[i].words))
            fail_msg("%s\n  gave: %s\n  not: %s", CASE[i].text, e.text, CASE[i].words);
    }
    for (size_t n = 0; n + 1 < sizeof GOOD; n++) { /* cut anywhere */
        RunState  s;
        aha_error e = {0};
        if (peek(GOOD, n, &s, &e) == 0) fail_msg("accepted after %zu bytes", n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(refused)};
    snprintf(g_dir, sizeof g_dir, "/tmp/aha-manifest-XXXXXX");
    if (!mkdtemp(g_dir)) return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    dir_remove_all(g_dir, NULL);
    return rc;
}
