/* The published vocabularies, where the data is at hand (AHA_DATA): Qwen's and Llama's ranks become a tokenizer.json as
 * Hugging Face's converter writes it, and the ids are compared with published vectors of R1, the distills and Qwen. */
#include "reallib.h"

static void qwen_vectors(void **state)
{
    const char *folder = data_folder();
    Tokenizer  *t = real_qwen(folder, R1_DISTILL_QWEN);
    (void)state;
    if (!t) skip();
    assert_int_equal(check_vectors(t, folder, "ggml-vocab-deepseek-r1-qwen", 0), 46);
    assert_int_equal(check_vectors(t, folder, "ggml-vocab-qwen2", 0), 46);
    check_sample(t, "r1-distill-qwen");
    Tokenizer *again = through_json(t);
    assert_int_equal(check_vectors(again, folder, "ggml-vocab-deepseek-r1-qwen", 0), 46);
    check_sample(again, "r1-distill-qwen");
    tokenizer_free(again);
    tokenizer_free(t);
}

static void distill_vectors(void **state)
{
    const char *folder = data_folder();
    Tokenizer  *distill = real_qwen(folder, R1_DISTILL_QWEN), *eight = real_qwen(folder, R1_0528_QWEN3);
    char        path[600];
    aha_error   e = {0};
    int         checked = 0;
    (void)state;
    if (!distill || !eight) skip();
    snprintf(path, sizeof path, "%s/vectors/distill-and-8b.vectors.json", folder);
    json_t *list = load_list(path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *want = json_object_get(row, "ids");
        const char   *s = json_string_value(json_object_get(row, "text"));
        const char   *name = json_string_value(json_object_get(row, "tokenizer")), *kind = json_string_value(json_object_get(row, "kind"));
        Tokenizer    *t = strstr(name, "0528") ? eight : distill;
        Ids           ids = {0};
        if (strstr(kind, "double BOS")) ids_push(&ids, tokenizer_id(t, "<｜begin▁of▁sentence｜>"), &e);
        ASSERT_OK(tokenizer_encode(t, s, strlen(s), TOK_SPECIAL, &ids, &e), e);
        check_ids(&ids, want, name);
        ids_free(&ids);
        checked++;
    }
    assert_true(checked >= 3);

    /* and as a chat */
    static const char TEXT[] = "Describe the Swift programming language.";
    ChatMessage       m = {.role = ROLE_USER, .text = TEXT, .n = sizeof TEXT - 1};
    Ids               ids = {0};
    bool              open;
    ASSERT_OK(chat_render(distill, CHAT_R1_DISTILL, &m, 1, true, &ids, &open, &e), e);
    check_ids(&ids, json_object_get(json_array_get(list, 0), "ids"), "distill");
    assert_true(open);
    ids.n = 0;
    ASSERT_OK(chat_render(eight, CHAT_R1_0528, &m, 1, true, &ids, &open, &e), e);
    check_ids(&ids, json_object_get(json_array_get(list, 2), "ids"), "0528");
    assert_false(open);
    ids_free(&ids);
    json_decref(list);
    tokenizer_free(distill);
    tokenizer_free(eight);
}

static void r1_vectors(void **state)
{
    const char *folder = data_folder();
    char        path[600];
    aha_error   e = {0};
    size_t      n = 0;
    Tokenizer  *t;
    (void)state;
    char *file = folder ? gunzip(folder, "tokenizer/deepseek-r1-tokenizer.derived.json.gz", &n) : NULL;
    if (!file) skip();
    ASSERT_OK(tokenizer_parse(&t, file, n, "r1", &e), e);
    mem_free(file);
    snprintf(path, sizeof path, "%s/vectors/deepseek-v3-r1.vectors.json", folder);
    json_t *list = load_list(path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        const char   *s = json_string_value(json_object_get(row, "text"));
        Ids           ids = {0};
        Buf           back = {0};
        ASSERT_OK(tokenizer_encode(t, s, strlen(s), TOK_SPECIAL, &ids, &e), e);
        check_ids(&ids, json_object_get(row, "ids"), s);
        assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
        assert_string_equal(back.data, s);
        ids_free(&ids);
        buf_free(&back);
    }
    check_sample(t, "r1");
    check_long(t, "r1");
    Tokenizer *again = through_json(t);
    check_sample(again, "r1");
    assert_true(tokenizer_vocab(again) == 128815 && tokenizer_id(again, "</think>") == 128799);
    tokenizer_free(again);
    assert_int_equal(tokenizer_vocab(t), 128815);
    assert_int_equal(tokenizer_id(t, "<｜User｜>"), 128803);
    assert_int_equal(tokenizer_id(t, "</think>"), 128799);
    json_decref(list);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(r1_vectors), cmocka_unit_test(qwen_vectors), cmocka_unit_test(distill_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
