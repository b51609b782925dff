/* report.html from hostile files: text stays text, whatever it spells; numbers stay drawings, whatever their size. */
#include "reportlib.h"

static void hostile(void **state)
{
    (void)state;
    static const char *const EVIL[] = {
        "<script>alert(1)</script>", "</style><script>alert(1)</script>", "</pre></section><img src=x onerror=alert(1)>", "\" onload=\"alert(1)",
        "' onclick='x", "<!--", "]]>", "&lt;b&gt;&amp;", "</title><svg/onload=alert(1)>", "javascript:alert(1)", "a\x01\x7f\x1b[31mb", "\xE2\x80\xAEright to left",
        "<a href=//evil.example>", "$(rm -rf x)", "%s%n%d",
    };
    Buf b = {0}, ini = {0};
    for (size_t i = 0; i < ARRAY_LEN(EVIL); i++) {
        char name[256];
        Buf  q = {0};
        snprintf(name, sizeof name, "%s", EVIL[i]);
        buf_json(&q, name, strlen(name));
        buf_fmt(&b, "{\"stage\":%s,\"kind\":\"grpo\",\"step\":1,\"reward\":1,\"thinking\":5,\"s\":1}\n", q.data);
        buf_fmt(&b, "{\"stage\":%s,\"kind\":\"grpo\",\"step\":2,\"reward\":1,\"thinking\":5,\"s\":1}\n", q.data);
        for (int k = 0; k < 3; k++)
            buf_fmt(&b, "{\"stage\":%s,\"kind\":\"eval\",\"step\":%d,\"task\":%s,\"variant\":%s,\"n\":9,\"samples\":4,\"temperature\":1,\"pass1\":0.5,\"lo\":0.4,"
                        "\"hi\":0.6,\"pass_k\":{\"1\":0.5,\"2\":0.6,\"4\":0.7}}\n", q.data, k, k ? "\"t\"" : q.data, k ? "\"\"" : q.data);
        for (int k = 0; k < 3; k += 2)
            buf_fmt(&b, "{\"stage\":%s,\"kind\":\"sample\",\"step\":%d,\"task\":%s,\"prompt\":%s,\"thinking\":%s,\"answer\":%s,\"correct\":true}\n", q.data, k,
                    q.data, q.data, q.data, q.data);
        buf_fmt(&b, "{\"kind\":\"run\",\"stage\":\"\",\"step\":0,\"name\":%s,\"isa\":%s,\"date\":%s}\n", q.data, q.data, q.data);
        buf_fmt(&ini, "# %s\n", EVIL[i]);
        buf_free(&q);
    }
    /* lines that are no JSON: raw bytes, a NUL, half a character */
    buf_add(&b, "\xff\xfe\x00<script>\n", 12);
    buf_str(&b, "{\"stage\":\"\xC3\",\"kind\":\"grpo\",\"step\":1}\n{\"stage\":\"a\",\"kind\":\"grpo\"}\n{\"stage\":\"\\ud800\",\"kind\":\"x\",\"step\":1}\n");
    put_buf("metrics.jsonl", &b);
    buf_str(&ini, "name = $(touch x)\ntitle = </h1><script>\"'&\n\xff\xC3\x80 [\n");
    buf_add(&ini, "\0<script>", 9);
    put_buf("recipe.ini", &ini);
    char *t = write_page();
    check_page(t);
    lacks(t, "<img");
    lacks(t, "aha learn $(");
    lacks(t, "\xE2\x80\xAE");
    has(t, "&lt;script&gt;alert(1)&lt;/script&gt;");
    has(t, "<b>4</b> could not be read");
    mem_free(t);

    /* as much of it in a recipe that is understood: a title may be anything */
    static const char OWN[] = "name = x\ntitle = </title></h1><script>\"'&\n[model]\nd_model = 32\nn_layer = 1\nn_head = 2\nnope = 8\n"
                              "rope_dim = 4\nv_dim = 8\nkv_lora = 16\nd_ff = 48\n[pretrain b]\ntasks = countdown3\ntokens = 1\n";
    put("recipe.ini", OWN, strlen(OWN));
    t = write_page();
    check_page(t);
    lacks(t, "aha learn $(");
    has(t, "<title>&lt;/title&gt;&lt;/h1&gt;&lt;script&gt;&quot;&#39;&amp;</title>");
    mem_free(t);
}

static void numbers_in_lines(void **state)
{
    (void)state;
    static const char *const VALUE[] = {"1e308", "-1e308", "0", "-0.0", "1e-320", "null", "\"x\"", "true", "[]", "123456789012345678", "0.5", "-3",
                                        "1e999", "NaN", "Infinity"};
    static const char *const KEY[] = {"loss", "draft_loss", "grad_norm", "load_max", "tokens", "s"};
    Buf b = {0};
    for (size_t k = 0; k < 12; k++) {
        for (size_t v = 0; v < ARRAY_LEN(VALUE); v++) {
            buf_fmt(&b, "{\"stage\":\"base\",\"kind\":\"pretrain\",\"step\":%d", (int)(k * ARRAY_LEN(VALUE) + v));
            for (size_t i = 0; i < ARRAY_LEN(KEY); i++) buf_fmt(&b, ",\"%s\":%s", KEY[i], VALUE[(v + i * k) % ARRAY_LEN(VALUE)]);
            buf_str(&b, "}\n");
            buf_fmt(&b, "{\"stage\":\"rl\",\"kind\":\"grpo\",\"step\":%d,\"reward\":%s,\"thinking\":%s,\"gives_up\":%s,\"checks\":%s}\n",
                    (int)(k * ARRAY_LEN(VALUE) + v), VALUE[v], VALUE[(v + k) % ARRAY_LEN(VALUE)], VALUE[v], VALUE[(v + 1) % ARRAY_LEN(VALUE)]);
            buf_fmt(&b, "{\"stage\":\"rl\",\"kind\":\"eval\",\"step\":%d,\"task\":\"t\",\"n\":%s,\"samples\":%s,\"temperature\":0.6,\"pass1\":%s,\"lo\":%s,"
                        "\"hi\":%s,\"pass_k\":{\"1\":%s,\"4\":%s,\"8\":%s},\"maj\":%s,\"thinking\":%s}\n",
                    (int)(k * ARRAY_LEN(VALUE) + v), VALUE[v], VALUE[(v + k) % ARRAY_LEN(VALUE)], VALUE[(v + 2 * k) % ARRAY_LEN(VALUE)], VALUE[v], VALUE[v],
                    VALUE[v], VALUE[(v + k) % ARRAY_LEN(VALUE)], VALUE[v], VALUE[v], VALUE[v]);
        }
        buf_fmt(&b, "{\"stage\":\"base\",\"kind\":\"pretrain\",\"step\":%s,\"loss\":1}\n", VALUE[k]);
        buf_fmt(&b, "{\"kind\":\"run\",\"stage\":\"\",\"step\":0,\"seed\":%s,\"parameters\":%s,\"active\":%s,\"threads\":%s}\n", VALUE[k], VALUE[k], VALUE[k], VALUE[k]);
    }
    put_buf("metrics.jsonl", &b);
    char *t = write_page();
    check_page(t);
    lacks(t, "inf ");
    has(t, "outside the drawing");
    mem_free(t);

    /* each alone, so that it makes the scale */
    for (size_t v = 0; v < ARRAY_LEN(VALUE); v++) {
        for (int twice = 1; twice <= 3; twice++) {
            for (int i = 0; i < twice; i++) {
                buf_fmt(&b, "{\"stage\":\"base\",\"kind\":\"pretrain\",\"step\":%d,\"loss\":%s,\"grad_norm\":%s,\"load_max\":%s}\n", i, VALUE[v], VALUE[v], VALUE[v]);
                buf_fmt(&b, "{\"stage\":\"rl\",\"kind\":\"grpo\",\"step\":%d,\"reward\":%s,\"gives_up\":%s}\n", i, VALUE[v], VALUE[v]);
            }
            put_buf("metrics.jsonl", &b);
            t = write_page();
            check_page(t);
            mem_free(t);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hostile, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_in_lines, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
