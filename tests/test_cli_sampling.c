/* The options of run and chat that rule how an answer is sampled, and what --json says of it. */
#include "clilib.h"

static const json_t *at(const json_t *j, const char *key) { return json_object_get(j, key); }
static long long count(const json_t *j, const char *key) { return json_integer_value(at(at(j, "usage"), key)); }

/* The ids of what was generated, by --logprobs; the caller's. */
static int ids_of(const json_t *j, long long *id, int max)
{
    int n = (int)json_array_size(at(j, "logprobs"));
    assert_in_range(n, 1, max);
    for (int i = 0; i < n; i++) id[i] = json_integer_value(at(json_array_get(at(j, "logprobs"), (size_t)i), "id"));
    return n;
}

static void logprobs(void **state)
{
    (void)state;
    Ran     r = ran("run -m $M --json --seed 3 -n 12 --logprobs 3 hello");
    ASSERT_RAN(r, 0);
    json_t *j = parsed(r.out);
    assert_int_equal(json_array_size(at(j, "logprobs")), count(j, "completion_tokens"));
    for (size_t i = 0; i < json_array_size(at(j, "logprobs")); i++) {
        const json_t *row = json_array_get(at(j, "logprobs"), i), *top = at(row, "top");
        double        last = 0;
        assert_true(json_number_value(at(row, "logprob")) < 0);
        assert_int_equal(json_array_size(top), 3);
        for (size_t k = 0; k < 3; k++) {
            double x = json_number_value(at(json_array_get(top, k), "logprob"));
            assert_true(x <= last);
            last = x;
            if (json_integer_value(at(json_array_get(top, k), "id")) == json_integer_value(at(row, "id")))
                assert_true(x == json_number_value(at(row, "logprob")));
        }
    }
    json_decref(j);
    j = parsed(ran("run -m $M --json --seed 3 -n 12 --logprobs 0 hello").out);
    assert_null(at(json_array_get(at(j, "logprobs"), 0), "top"));
    json_decref(j);
    j = parsed(ran("run -m $M --json --seed 3 -n 12 hello").out);
    assert_null(at(j, "logprobs"));
    json_decref(j);
    r = ran("run -m $M --logprobs 3 hello");
    ASSERT_RAN(r, 2);
    ASSERT_HAS(r.err, "--json");
}

static void thinking(void **state)
{
    static const struct {
        const char *args;
        int         think; /* tokens, tags and the newline before </think> included */
    } CASE[] = {{"--think 5", 7}, {"--think low", 7}, {"--think medium", 14}, {"--think 0", 0}, {"--think off", 0}};
    char      command[160];
    long long close = 1; /* kept from coming by itself: the end of sentence, and </think> once it was seen */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASE); i++) {
        snprintf(command, sizeof command, "run -m $M --json --seed 3 -n 25 --logprobs 0 --bias %lld:-100 %s hello", close, CASE[i].args);
        Ran r = ran(command);
        ASSERT_RAN(r, 0);
        json_t *j = parsed(r.out);
        int     forced = 0;
        if (i == 0) close = json_integer_value(at(json_array_get(at(j, "logprobs"), 6), "id"));
        for (size_t k = 0; k < json_array_size(at(j, "logprobs")); k++)
            forced += json_is_true(at(json_array_get(at(j, "logprobs"), k), "forced"));
        assert_int_equal(count(j, "thinking_tokens"), CASE[i].think);
        assert_int_equal(forced > 0, CASE[i].think > 0);
        if (!CASE[i].think) assert_string_equal(text_of(j, "thinking"), "");
        else assert_true(*text_of(j, "thinking") && *text_of(j, "answer"));
        json_decref(j);
    }
    Ran r = ran("run -m $M --think much hello");
    ASSERT_RAN(r, 2);
    ASSERT_HAS(r.err, "low, medium");
}

static void penalties(void **state)
{
    long long id[400], seen[400];
    (void)state;
    json_t *j = parsed(ran("run -m $M --json -t 0 -n 40 --logprobs 0 --frequency-penalty 2 --presence-penalty 2 hello").out);
    int     n = ids_of(j, id, 400);
    for (int i = 0; i < n; i++) /* a random model's logits lie closer together than the penalties */
        for (int k = 0; k < i; k++) assert_true(id[i] != id[k]);
    json_decref(j);
    j = parsed(ran("run -m $M --json -t 0 -n 5 --logprobs 0 --bias 321:100 --bias 1:-100 hello").out);
    n = ids_of(j, seen, 400);
    assert_int_equal(n, 5);
    for (int i = 0; i < n; i++) assert_int_equal(seen[i], 321);
    json_decref(j);
    ASSERT_RAN(ran("run -m $M -n 5 --bias 321 hello"), 2);
    ASSERT_RAN(ran("run -m $M -n 5 --bias 321:nan hello"), 2);
    ASSERT_RAN(ran("run -m $M -n 5 --bias -1:3 hello"), 2);
    ASSERT_RAN(ran("run -m $M -n 5 --bias 321:1 --bias 321:2 hello"), 2);
    ASSERT_RAN(ran("run -m $M -n 5 --repetition-penalty 0 hello"), 2);
    ASSERT_RAN(ran("run -m $M -n 5 --repetition-penalty 1.3 hello"), 0);
}

static void repeats(void **state)
{
    (void)state;
    Ran     r = ran("run -m $M --json -t 0 -n 1000 --bias 321:100 hello");
    json_t *j = parsed(r.out);
    assert_string_equal(text_of(j, "finish_reason"), "repeat");
    assert_int_equal(count(j, "completion_tokens"), 512);
    json_decref(j);
    j = parsed(ran("run -m $M --json -t 0 -n 1000 --no-stop-repeats --bias 321:100 hello").out);
    assert_string_equal(text_of(j, "finish_reason"), "length");
    json_decref(j);
    r = ran("run -m $M -t 0 -n 1000 --bias 321:100 hello");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.err, "again and again");
    r = ran_with("hello\n", 6, "chat -m $M -t 0 -n 1000 --bias 321:100");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.err, "again and again");
}

/* Ends before the text, alone and in a file of prompts alike; the thinking is left alone. */
static void stop_texts(void **state)
{
    char word[8] = "", command[160];
    (void)state;
    json_t     *j = parsed(ran("run -m $M --json --seed 3 -n 60 --think off hello").out);
    const char *answer = text_of(j, "answer"), *found;
    for (size_t i = 5; answer[i] && !word[0]; i++)
        if (strspn(answer + i, "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")) word[0] = answer[i];
    assert_true(word[0]);
    found = strstr(answer, word);
    for (int way = 0; way < 2; way++) {
        snprintf(command, sizeof command, "run -m $M --json --seed 3 -n 60 --think off --stop NEVER --stop %s %s", word, way ? "-p @$D/in" : "hello");
        Ran r = ran_with("hello\n", 6, command);
        ASSERT_RAN(r, 0);
        json_t *k = parsed(r.out);
        size_t  n = strlen(text_of(k, "answer"));
        assert_memory_equal(text_of(k, "answer"), answer, n);
        assert_true(n <= (size_t)(found - answer)); /* white space before it is not given */
        assert_true(strspn(answer + n, " \n\t\r") + n >= (size_t)(found - answer));
        assert_string_equal(text_of(k, "finish_reason"), "stop");
        assert_true(count(k, "completion_tokens") < count(j, "completion_tokens"));
        json_decref(k);
    }
    json_decref(j);
    ASSERT_RAN(ran("run -m $M --stop '' hello"), 2);
    ASSERT_RAN(ran("run -m $M --stop \"$(printf '\\377')\" hello"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logprobs), cmocka_unit_test(thinking), cmocka_unit_test(penalties),
                                       cmocka_unit_test(repeats), cmocka_unit_test(stop_texts)};
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
