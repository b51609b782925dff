/* Recipes come from anywhere: what is wrong is named with its line, and nothing is trained that could not be opened again. */
#include "learn/learn.h"
#include "learn/run.h"
#include "testlib.h"

static const struct {
    const char *text, *words;
} BAD[] = {
    {"name = ../x\n[pretrain a]\ntasks = countdown3\ntokens = 1\n", "expected name"},
    {"name = .x\n[pretrain a]\ntasks = countdown3\ntokens = 1\n", "expected name"},
    {"name = a\"b\n[pretrain a]\ntasks = countdown3\ntokens = 1\n", "expected name"},
    {"name = x\n", "no stages"},
    {"name = x\nseeed = 1\n", "did you mean seed?"},
    {"name = x\n[model]\nd_model = 0\n", ":3: d_model"},
    {"name = x\n[model]\nd_model = 1e9\n", ":3: d_model"},
    {"name = x\n[model]\nd_model = nan\n", ":3: d_model"},
    {"name = x\n[model]\nd_model = 12.5\n", ":3: d_model"},
    {"name = x\n[pretrain]\n", "expected [pretrain NAME]"},
    {"name = x\n[pretrain ../a]\n", "expected [pretrain NAME]"},
    {"name = x\n[pretrain a\"b]\n", "expected [pretrain NAME]"},
    {"name = x\n[pretrain a\\b]\n", "expected [pretrain NAME]"},
    {"name = x\n[pretrain checkpoint]\n", "a stage named checkpoint"},
    {"name = x\n[what a]\n", "unknown section [what]"},
    {"name = x\n[pretrain a\n", "expected [SECTION]"},
    {"name = x\n[pretrain a]\ntasks = countdown3\n", "has no budget"},
    {"name = x\n[pretrain a]\ntasks = countdown3:0\ntokens = 5\n", "a share above 0"},
    {"name = x\n[pretrain a]\ntasks = countdown3\ntokens = 5\n[pretrain a]\ntasks = countdown3\ntokens = 5\n", "a second stage named a"},
    {"name = x\n[pretrain a]\ntasks = countdown3\ntokens = 5\nfrom = b\n", "comes from b"},
    {"name = x\njust words\n", "expected KEY = VALUE"},
    {"name = x\n[sft a]\n", "names no file"},
    {"name = x\n[sft a]\nfile = /etc/passwd\n", "leads out of the run's folder"},
    {"name = x\n[sample a]\ntasks = countdown3\nfile = ../../x\n", "leads out of the run's folder"},
    {"name = x\n[grpo a]\ntasks = countdown3\nquestions = 1\nminibatches = 2\n", "2 minibatches for 1 questions"},
    {"name = x\n[eval a]\ntasks = countdwn3\n", "countdown3"},
    {"name = x\n[eval a]\ntasks = countdown3:1e300\n", "a share above 0"},
    {"name = x\n[pretrain a]\ntasks = countdown5\ntokens = 5\n", "it has no corpus"},
    {"name = x\n[pretrain a]\ntasks = countdown3\ntasks_end = countdown5\ntokens = 5\n", "it has no corpus"},
    {"name = x\n[grpo a]\ntasks = countdown5\n", "it has no corpus"},
    {"name = x\n[eval a]\ntasks = countdown3\ntasks_end = equation\n", "has tasks_end"},
    {"name = x\n[eval a]\ntasks = countdown3\nvariant = huge\n", "huge"},
    {"name = x\n[grpo a]\ntasks = countdown3\nvariant = large\n", "has variant large, which is for eval stages only"},
    {"name = x\ncontext = 320\n[eval a]\ntasks = countdown3\nmax_new = 320\n", "max_new is 320, expected less than the context of 320"},
    {"name = x\ncontext = 320\n[pretrain a]\ntasks = countdown3\ntokens = 5\neval_every = 1\nmax_new = 999999\n", "max_new is 999999"},
};

static void refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        Recipe    r;
        aha_error e = {0};
        int       rc = recipe_parse(&r, BAD[i].text, strlen(BAD[i].text), "bad.ini", &e);
        if (rc == 0) fail_msg("accepted: %s", BAD[i].text);
        if (!strstr(e.text, "bad.ini") || !strstr(e.text, BAD[i].words)) fail_msg("%s\n  gave: %s\n  not: %s", BAD[i].text, e.text, BAD[i].words);
        assert_null(r.text);
    }
}

/* ---- shapes ---- */
#define SHAPE                                                                                                              \
    "name = x\n[model]\nd_model = 32\nn_layer = 2\nn_dense_first = 1\nn_head = 2\nnope = 8\nrope_dim = 4\nv_dim = 8\n"   \
    "kv_lora = 16\nd_ff = 48\nn_expert = 4\nn_expert_used = 2\nn_shared = 1\nd_expert = 24\n"

/* A shape that routing could not run, or that no program could open again, is refused before anything is made. */
static void shapes_are_those_of_models(void **state)
{
    static const struct {
        const char *line, *words;
    } CASE[] = {
        {"", NULL},
        {"n_group = 2\ntopk_group = 1", NULL},
        {"n_expert_used = 5", "got 5, expected 1..n_routed_experts, 4"},
        {"n_expert_used = 0", "num_experts_per_tok: got 0"},
        {"n_group = 3", "n_group: got 3, expected a divisor"},
        {"topk_group = 2", "topk_group: got 2"},
        {"n_group = 4\ntopk_group = 1", "at most the 1 experts of 1 groups"},
        {"d_expert = 0", "moe_intermediate_size: got 0"},
        {"rope_dim = 5", "got 5, expected an even number"},
        {"rope_theta = 1", "rope_theta: got 1"},
        {"route_scale = 0", "routed_scaling_factor: got 0"},
        {"n_dense_first = 3", "n_dense_first is 3, expected at most n_layer, 2"},
        {"max_pos = 500", "max_pos is 500, expected at least the context of 512"},
        {"n_expert = 65536\nd_expert = 1000000", "n_routed_experts: got 65536"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        char      text[1024];
        Recipe    r;
        aha_error e = {0};
        snprintf(text, sizeof text, SHAPE "%s\n[pretrain a]\ntasks = countdown3\ntokens = 5\n", CASE[i].line);
        ASSERT_OK(recipe_parse(&r, text, strlen(text), "shape.ini", &e), e);
        int rc = recipe_check_model(&r, "shape.ini", &e);
        if (CASE[i].words ? rc == 0 || !strstr(e.text, CASE[i].words) || strncmp(e.text, "shape.ini: ", 11) != 0 : rc)
            fail_msg("%s gave %d: %s", CASE[i].line, rc, e.text);
        recipe_free(&r);
    }
}

/* ---- the shares of tasks ---- */
static Recipe recipe_of(const char *text)
{
    Recipe    r;
    aha_error e = {0};
    ASSERT_OK(recipe_parse(&r, text, strlen(text), "recipe", &e), e);
    return r;
}

/* The share that a task gets at this progress, by asking for a thousand evenly spread numbers */
static double share_of(const Stage *s, const Task *t, double progress)
{
    int n = 0;
    for (int i = 0; i < 1000; i++) n += stage_pick_task(s, progress, (i + 0.5) / 1000) == t;
    return n / 1000.0;
}

static void shares_move_over_a_stage(void **state)
{
    Recipe       r = recipe_of("name = x\n[pretrain a]\ntasks = countdown3:3 equation:1\ntasks_end = countdown4:9 countdown3:1\ntokens = 5\n"
                               "[pretrain b]\ntasks = countdown3:3 equation:1\ntokens = 5\n[eval c]\ntasks = countdown5\n");
    const Stage *a = &r.stage[0], *b = &r.stage[1];
    const Task  *task[TASKS_MAX];
    (void)state;
    assert_float_equal(share_of(a, &task_countdown3, 0), 0.75, 0.002);
    assert_float_equal(share_of(a, &task_equation, 0), 0.25, 0.002);
    assert_float_equal(share_of(a, &task_countdown4, 0), 0, 0);
    assert_float_equal(share_of(a, &task_countdown3, 0.5), 0.425, 0.002);
    assert_float_equal(share_of(a, &task_equation, 0.5), 0.125, 0.002);
    assert_float_equal(share_of(a, &task_countdown4, 0.5), 0.45, 0.002);
    assert_float_equal(share_of(a, &task_countdown3, 1), 0.1, 0.002);
    assert_float_equal(share_of(a, &task_countdown4, 1.5), 0.9, 0.002); /* the last batch goes beyond the budget */
    for (int i = 0; i <= 10; i++) assert_float_equal(share_of(b, &task_countdown3, i / 10.0), 0.75, 0.002);
    assert_int_equal(stage_tasks(a, task), 3);
    assert_int_equal(recipe_tasks(&r, task), 4);
    recipe_free(&r);
    r = recipe_of("name = x\n[sft a]\nfile = a.jsonl\n");
    assert_true(recipe_tasks(&r, task) >= 6); /* nothing named: the words of all */
    recipe_free(&r);
}

/* The recipes that come with the program can all be run. */
static void shipped_recipes(void **state)
{
    char    **names, path[256];
    int       n;
    aha_error e = {0};
    (void)state;
    ASSERT_OK(dir_list("recipes", &names, &n, &e), e);
    for (int i = 0; i < n; i++) {
        Recipe r;
        if (!strstr(names[i], ".ini")) continue;
        snprintf(path, sizeof path, "recipes/%s", names[i]);
        ASSERT_OK(recipe_read(&r, path, &e), e);
        recipe_free(&r);
    }
    mem_free(names);
}

static void no_memory(void **state)
{
    static const char TEXT[] = SHAPE "[pretrain a]\ntasks = countdown3\ntokens = 5\n";
    (void)state;
    for (uint64_t nth = 1, more = 1; more; nth++) {
        Recipe    r;
        aha_error e = {0};
        os_fault_arm(OS_FAULT_ALLOC, nth);
        int rc = recipe_parse(&r, TEXT, sizeof TEXT - 1, "t", &e);
        if (rc == 0 && (rc = recipe_check_model(&r, "t", &e)) != 0) recipe_free(&r);
        more = os_fault_seen() >= nth;
        os_fault_arm(0, 0);
        assert_int_equal(rc, more ? AHA_ERR_NOMEM : 0);
        if (rc == 0) recipe_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),         cmocka_unit_test(shapes_are_those_of_models), cmocka_unit_test(shares_move_over_a_stage),
        cmocka_unit_test(shipped_recipes), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
