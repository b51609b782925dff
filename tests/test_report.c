/* report.html: right numbers from a whole run, from a cut one and from nothing; hostile text and numbers stay text and
 * drawings; long runs make small pages; a failure leaves the old page. */
#include "reportlib.h"

/* ---- a run ---- */
static const char RECIPE[] = "name = lap\ntitle = Countdown on a laptop\nseed = 7\n[model]\nd_model = 128\nn_layer = 4\nn_head = 4\nkv_lora = 48\n"
                             "n_expert = 8\nn_expert_used = 2\nn_shared = 1\n"
                             "[pretrain base]\ntasks = countdown3\ntokens = 600k\n[grpo rl]\ntasks = countdown3\nsteps = 40\n"
                             "[eval test-base]\nfrom = base\ntasks = countdown3\n[eval test-rl]\nfrom = rl\ntasks = countdown3\n";

static void line_eval(Buf *b, const char *stage, int step, int n, double T, double p, double p4)
{
    buf_fmt(b,
            "{\"stage\":\"%s\",\"kind\":\"eval\",\"step\":%d,\"task\":\"countdown3\",\"variant\":\"\",\"n\":%d,\"samples\":4,\"temperature\":%.1f,"
            "\"pass1\":%.4f,\"lo\":%.4f,\"hi\":%.4f,\"pass_k\":{\"1\":%.4f,\"2\":%.4f,\"4\":%.4f},\"maj\":0.5,\"well_formed\":0.99,\"truncated\":0.01,"
            "\"thinking\":95,\"gives_up\":0.01,\"no_thinking\":0,\"checks\":0.3,\"waits\":0.05,\"backward\":0.5,\"wrong_equations\":0.04,"
            "\"false_right\":0.02,\"s\":40}\n",
            stage, step, n, T, p, p - 0.02, p + 0.02, p, (p + p4) / 2, p4);
}

static void line_grpo(Buf *b, int step, double reward)
{
    buf_fmt(b,
            "{\"stage\":\"rl\",\"kind\":\"grpo\",\"step\":%d,\"reward\":%.3f,\"correct\":0.55,\"format\":0.99,\"thinking\":92.1,\"gives_up\":0.03,"
            "\"no_thinking\":0.0,\"checks\":0.2,\"waits\":0.03,\"backward\":0.4,\"wrong_equations\":0.05,\"truncated\":0.02,\"entropy\":0.4,"
            "\"clip\":0.001,\"kl\":0.0,\"grad_norm\":0.3,\"dropped\":5,\"load_max\":1.2,\"tokens\":%d,\"s\":%d.0}\n",
            step, reward, 1000 * step, 4 * step);
}

static void line_sample(Buf *b, int step, const char *prompt, const char *thinking, const char *answer, bool right)
{
    buf_fmt(b, "{\"stage\":\"rl\",\"kind\":\"sample\",\"step\":%d,\"task\":\"countdown3\",\"prompt\":", step);
    buf_json(b, prompt, strlen(prompt));
    buf_str(b, ",\"thinking\":");
    buf_json(b, thinking, strlen(thinking));
    buf_str(b, ",\"answer\":");
    buf_json(b, answer, strlen(answer));
    buf_fmt(b, ",\"correct\":%s,\"reward\":1.1}\n", right ? "true" : "false");
}

static void whole_run(Buf *b)
{
    buf_str(b, "{\"kind\":\"run\",\"stage\":\"\",\"step\":0,\"name\":\"lap\",\"seed\":7,\"parameters\":1500000,\"active\":800000,\"threads\":2,"
               "\"isa\":\"avx512\",\"date\":\"2026-11-22\",\"seconds_before\":0.0,\"of_later_builds\":0}\n");
    for (int i = 1; i <= 200; i++)
        buf_fmt(b,
                "{\"stage\":\"base\",\"kind\":\"pretrain\",\"step\":%d,\"tokens\":%d,\"loss\":%.3f,\"draft_loss\":%.3f,\"lr\":0.9,\"grad_norm\":0.5,"
                "\"load_max\":1.3,\"skipped\":%s,\"s\":%.1f}\n",
                i, i * 3072, 1 + 6.0 / i, 1.5 + 7.0 / i, i == 50 ? "true" : "false", i * 0.5);
    buf_str(b, "{\"stage\":\"base\",\"kind\":\"done\",\"step\":200,\"tokens\":614400,\"s\":100}\n");
    line_eval(b, "rl", 0, 256, 0.6, 0.35, 0.70);
    line_sample(b, 0, "Using 8, 13 and 2, make 29.", "I give up.", "13 + 8", false);
    for (int i = 1; i <= 40; i++) {
        line_grpo(b, i, 0.4 + 0.01 * i);
        if (i % 10) continue;
        line_eval(b, "rl", i, 256, 0.6, 0.35 + 0.01 * i, 0.90);
        line_sample(b, i, "Using 8, 13 and 2, make 29.", "8 * 2 = 16, 16 + 13 = 29: yes.", "(8 * 2) + 13", true);
    }
    buf_str(b, "{\"stage\":\"rl\",\"kind\":\"done\",\"step\":40,\"tokens\":40000,\"s\":160}\n");
    line_eval(b, "test-base", 0, 1024, 1.0, 0.301, 0.71);
    line_eval(b, "test-base", 0, 1024, 0.6, 0.361, 0.72);
    line_eval(b, "test-rl", 0, 1024, 0.6, 0.842, 0.95);
}

static void use_whole_run(void)
{
    Buf b = {0};
    whole_run(&b);
    put_buf("metrics.jsonl", &b);
    put("recipe.ini", RECIPE, strlen(RECIPE));
}

/* ---- the tests ---- */
static void whole(void **state)
{
    (void)state;
    use_whole_run();
    char *t = write_page();
    check_page(t);
    static const char *const SEEN[] = {
        "<title>Countdown on a laptop</title>", "finished", "<span>36.1%</span>", "<b>84.2%</b>", "34.1% to 38.1% before, 82.2% to 86.2% after",
        "1.5M, 800k active", "T = 0.6", "1,024 problems", "72.0% \xE2\x86\x92 <b>95.0%</b>", "pass@4</dt>", "Wrong equations", "Gives up",
        "8 * 2 = 16, 16 + 13 = 29: yes.", "I give up.", "aha learn lap.ini --seed 7", "tokens = 600k", "1 update was skipped", "draft",
        "pass@k: what can be found", "KL to the reference", "prefers-color-scheme:dark", "MLA attention, width 128, 4 layers, 4 heads",
    };
    for (size_t i = 0; i < ARRAY_LEN(SEEN); i++) has(t, SEEN[i]);
    lacks(t, "intervals overlap");
    lacks(t, "could not be read");
    mem_free(t);
}

static void picks(void **state)
{
    (void)state;
    aha_error e = {0};
    Buf       b = {0};
    use_whole_run();
    Report *r = mem_zalloc(1, sizeof *r);
    ASSERT_OK(report_read(r, g_dir, &e), e);
    report_pick(r);
    assert_int_equal(r->n_track, 4);
    assert_int_equal(r->rl, 1);
    assert_int_equal(report_source(r, 1), 0);
    assert_int_equal(report_model(r, 3), 1); /* test-rl measures rl */
    assert_non_null(r->before);
    assert_non_null(r->after);
    assert_int_equal(r->before->model, 1); /* as base left it */
    assert_float_equal(r->before->best->v[M_PASS1], 0.361, 1e-9);
    assert_float_equal(r->after->best->v[M_PASS1], 0.842, 1e-9);
    assert_int_equal(r->group[r->main].n, 3); /* base, before rl, rl */
    assert_true(report_repeats(r, &r->group[r->main], &r->group[r->main].row[1]));
    const TraceSet *before, *after;
    report_traces_pick(r, &before, &after);
    assert_non_null(before);
    assert_non_null(after);
    assert_float_equal(before->step, 0, 0);
    assert_float_equal(after->step, 40, 0);
    report_free(r);

    /* a run that was killed and resumed at step 20 repeats what came after: the later lines count, nothing twice */
    memset(r, 0, sizeof *r);
    whole_run(&b);
    for (int i = 21; i <= 40; i++) line_grpo(&b, i, 0.9);
    line_eval(&b, "rl", 30, 256, 0.6, 0.5, 0.9);
    line_eval(&b, "rl", 40, 256, 0.6, 0.7, 0.9);
    line_sample(&b, 40, "Using 8, 13 and 2, make 29.", "8 * 2 = 16, 16 + 13 = 29: yes.", "(8 * 2) + 13", true);
    put_buf("metrics.jsonl", &b);
    ASSERT_OK(report_read(r, g_dir, &e), e);
    assert_int_equal(r->track[1].n_point, 40);
    assert_float_equal(r->track[1].point[39].v[M_REWARD], 0.9, 1e-9);
    assert_float_equal(r->track[1].point[19].v[M_REWARD], 0.6, 1e-9);
    assert_int_equal(r->track[1].n_measure, 5);
    assert_float_equal(r->track[1].measure[4].v[M_PASS1], 0.7, 1e-9);
    assert_int_equal(r->track[1].last.n, 1);
    report_free(r);
    mem_free(r);
}

/* pass@k may be measured apart, at another temperature than the headline. */
static void tries(void **state)
{
    (void)state;
    Buf b = {0};
    for (int after = 0; after < 2; after++) {
        line_eval(&b, after ? "test-rl" : "test-base", 0, 1000, 0.6, after ? 0.8 : 0.4, after ? 0.9 : 0.8);
        buf_fmt(&b,
                "{\"stage\":\"%s\",\"kind\":\"eval\",\"step\":0,\"task\":\"countdown3\",\"n\":100,\"samples\":64,\"temperature\":1,\"pass1\":0.3,"
                "\"lo\":0.2,\"hi\":0.4,\"pass_k\":{\"1\":0.3,\"2\":0.4,\"4\":0.5,\"8\":0.6,\"16\":0.7,\"32\":0.8,\"64\":0.%d}}\n",
                after ? "test-rl" : "test-base", after ? 93 : 91);
    }
    line_grpo(&b, 1, 0.5);
    put_buf("metrics.jsonl", &b);
    put("recipe.ini", RECIPE, strlen(RECIPE));
    char *t = write_page();
    check_page(t);
    has(t, "<span>40.0%</span>");
    has(t, "<b>80.0%</b>");
    has(t, "pass@64 at T = 1</dt><dd>91.0% \xE2\x86\x92 <b>93.0%</b>");
    has(t, "pass@k: countdown3 at temperature 1");
    mem_free(t);
}

static void overlap(void **state)
{
    (void)state;
    Buf b = {0};
    line_eval(&b, "rl", 0, 256, 0.6, 0.35, 0.7);
    line_grpo(&b, 1, 0.4);
    line_eval(&b, "rl", 1, 256, 0.6, 0.36, 0.7);
    put_buf("metrics.jsonl", &b);
    put("recipe.ini", RECIPE, strlen(RECIPE));
    char *t = write_page();
    check_page(t);
    has(t, "intervals overlap");
    has(t, "not finished when this page was written");
    has(t, "step 1 of 40");
    mem_free(t);
}

/* Wherever the writing stopped, the page is whole. */
static void cut(void **state)
{
    (void)state;
    Buf b = {0};
    whole_run(&b);
    put("recipe.ini", RECIPE, strlen(RECIPE));
    uint32_t at = 12345;
    for (size_t k = 0; k < 60; k++) {
        at = at * 1664525u + 1013904223u;
        size_t n = k < 30 ? b.n - k * 13 : at % b.n;
        put("metrics.jsonl", b.data, n);
        char *t = write_page();
        if (k % 20 == 0) check_page(t);
        lacks(t, "could not be read");
        if (n && b.data[n - 1] != '\n' && b.data[n - 1] != '}') has(t, "last line is cut");
        mem_free(t);
    }
    buf_free(&b);
}

static void little(void **state)
{
    (void)state;
    static const char *const TEXT[] = {
        "", "\n\n", "{", "[]\n", "7\n", "{\"kind\":\"run\",\"stage\":\"\",\"step\":0}\n", "{\"stage\":\"x\",\"kind\":\"done\",\"step\":0}\n",
        "{\"stage\":\"x\",\"kind\":\"eval\",\"step\":0}\n", "{\"stage\":\"x\",\"kind\":\"eval\",\"step\":0,\"pass1\":0.5}\n",
        "{\"stage\":\"x\",\"kind\":\"sample\",\"step\":3,\"prompt\":\"p\"}\n", "{\"stage\":\"x\",\"kind\":\"sft\",\"step\":1,\"loss\":2}\n",
        "{\"stage\":\"x\",\"kind\":\"grpo\",\"step\":1,\"reward\":2}\n", "{\"stage\":\"x\",\"kind\":\"pretrain\",\"step\":1}\n",
        "{\"stage\":\"x\",\"kind\":\"new\",\"step\":1}\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(TEXT); i++) {
        put("metrics.jsonl", TEXT[i], strlen(TEXT[i]));
        char *t = write_page();
        check_page(t);
        has(t, "no recipe.ini");
        mem_free(t);
    }
    /* a recipe that cannot be understood is shown, with the reason */
    put("recipe.ini", "nme = <b>\n", 10);
    char *t = write_page();
    check_page(t);
    has(t, "nme = &lt;b&gt;");
    has(t, "could not be understood");
    mem_free(t);
}

static void absent(void **state)
{
    (void)state;
    aha_error e = {0};
    assert_int_equal(report_write(g_dir, &e), AHA_ERR_IO);
    assert_non_null(strstr(e.text, "metrics.jsonl"));
    assert_int_equal(report_write("/nowhere/at/all", &e), AHA_ERR_IO);
}

/* 100,000 lines: seconds, and a page that a phone can show. */
static void many(void **state)
{
    (void)state;
    Buf b = {0};
    for (int i = 1; i <= 70000; i++)
        buf_fmt(&b, "{\"stage\":\"base\",\"kind\":\"pretrain\",\"step\":%d,\"tokens\":%d,\"loss\":%d.%d,\"draft_loss\":2,\"lr\":0.9,\"grad_norm\":0.%d,\"load_max\":1.3}\n",
                i, 3072 * i, 1 + i % 3, i % 7, 1 + i % 9);
    for (int i = 1; i <= 20000; i++) line_grpo(&b, i, 0.1 * (i % 10));
    for (int i = 1; i <= 6000; i++) line_eval(&b, "rl", i, 256, 0.6, 0.5, 0.7);
    for (int i = 1; i <= 2000; i++) line_sample(&b, i / 50, "p", i % 2 ? "a" : "b", "c", true);
    for (int i = 1; i <= 2000; i++) buf_fmt(&b, "{\"stage\":\"s%d\",\"kind\":\"eval\",\"step\":0,\"task\":\"t%d\",\"pass1\":0.5}\n", i, i);
    put_buf("metrics.jsonl", &b);
    double   start = time_cpu_s();
    char    *t = write_page();
    double   s = time_cpu_s() - start;
    if (s > 40) fail_msg("%.1f s", s); /* about 1.5 s; 4 s with sanitizers; a quadratic loop takes minutes */
    assert_true(strlen(t) < 600000);
    has(t, "Only the first 64 stages");
    check_page(t);
    mem_free(t);
}

/* Every call of the system fails once: an error, no leak, the old page or the new one. */
static void faults(void **state)
{
    (void)state;
    Buf       b = {0};
    aha_error e = {0};
    whole_run(&b);
    b.n = b.n < 9000 ? b.n : 9000;
    line_eval(&b, "rl", 0, 256, 0.6, 0.35, 0.70);
    line_grpo(&b, 1, 0.5);
    line_eval(&b, "rl", 1, 256, 0.6, 0.45, 0.80);
    line_sample(&b, 0, "p", "q", "r", false);
    line_sample(&b, 1, "p", "q", "r", true);
    put_buf("metrics.jsonl", &b);
    put("recipe.ini", RECIPE, strlen(RECIPE));
    static const unsigned KIND[] = {OS_FAULT_ALLOC, OS_FAULT_OPEN, OS_FAULT_READ, OS_FAULT_WRITE, OS_FAULT_SYNC, OS_FAULT_RENAME};
    for (size_t k = 0; k < ARRAY_LEN(KIND); k++) {
        os_fault_arm(KIND[k], 0);
        int rc = report_write(g_dir, &e);
        uint64_t calls = os_fault_seen();
        os_fault_arm(0, 0);
        ASSERT_OK(rc, e);
        char *whole_page = page();
        for (uint64_t n = 1; n <= calls; n++) {
            put("report.html", "old", 3);
            e = (aha_error){0};
            os_fault_arm(KIND[k], n);
            rc = report_write(g_dir, &e);
            os_fault_arm(0, 0);
            assert_int_not_equal(rc, 0);
            assert_int_equal(e.code, rc);
            assert_true(e.text[0] != 0);
            assert_int_equal(rc, KIND[k] == OS_FAULT_ALLOC ? AHA_ERR_NOMEM : AHA_ERR_IO);
            char *now = page();
            assert_true(strcmp(now, "old") == 0 || strcmp(now, whole_page) == 0);
            mem_free(now);
        }
        mem_free(whole_page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole, setup, teardown),
        cmocka_unit_test_setup_teardown(picks, setup, teardown),
        cmocka_unit_test_setup_teardown(tries, setup, teardown),
        cmocka_unit_test_setup_teardown(overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(cut, setup, teardown),
        cmocka_unit_test_setup_teardown(little, setup, teardown),
        cmocka_unit_test_setup_teardown(absent, setup, teardown),
        cmocka_unit_test_setup_teardown(many, setup, teardown),
        cmocka_unit_test_setup_teardown(faults, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
