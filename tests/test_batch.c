/* The fields of a batch mean what they say: rows that want logits, hidden states for the draft layer, where a row comes from, and
 * no adapters while there are none. */
#include "enginelib.h"

enum { N = 40 };
typedef struct Made {
    Model  *m;
    Ctx     c;
    int32_t token[N], pos[N], seq[N];
    Batch   b;
} Made;

static void made_init(Made *d)
{
    aha_error e = {0};
    memset(d, 0, sizeof *d);
    d->m = golden_model("deepseek_v3-mtp", DT_F32, false);
    ASSERT_OK(ctx_init(&d->c, cpu_kernels(NULL, &e), NULL, (size_t)64 << 20, (size_t)4 << 20, &e), e);
    random_tokens(d->token, N, d->m->cfg.vocab, 3);
    for (int i = 0; i < N; i++) d->pos[i] = i;
    d->b = (Batch){.n = N, .token = d->token, .pos = d->pos, .seq = d->seq};
}
static void made_free(Made *d)
{
    ctx_free(&d->c);
    model_free(d->m);
}

/* Only the wanted rows, in their order, with the bits that they have among all. */
static void wanted_rows(void **state)
{
    Made    d;
    Tensor  all, some;
    uint8_t out[N] = {0};
    int     n = 0;
    (void)state;
    made_init(&d);
    all = model_final_norm(&d.c, d.m, model_hidden(&d.c, d.m, &d.b, NULL));
    assert_ptr_equal(model_wanted(&d.c, &d.b, all).data, all.data); /* without a word every row */
    d.b.out = out;
    out[0] = out[7] = out[8] = out[N - 1] = 1;
    some = model_final_norm(&d.c, d.m, model_wanted(&d.c, &d.b, model_hidden(&d.c, d.m, &d.b, NULL)));
    assert_int_equal(ctx_failed(&d.c), 0);
    assert_int_equal(some.rows, 4);
    for (int i = 0; i < N; i++)
        if (out[i]) assert_memory_equal(tensor_row(some, n++), tensor_row(all, i), (size_t)all.cols * sizeof(real));
    made_free(&d);
}

static void adapters_are_refused(void **state)
{
    static const int16_t adapter[N] = {0};
    Made                 d;
    (void)state;
    made_init(&d);
    d.b.adapter = adapter;
    model_hidden(&d.c, d.m, &d.b, NULL);
    assert_int_equal(d.c.err.code, AHA_ERR_UNSUPPORTED);
    assert_non_null(strstr(d.c.err.text, "adapters"));
    made_free(&d);
}

static void draft_layers_want_hidden_states(void **state)
{
    Made d;
    (void)state;
    made_init(&d);
    model_draft(&d.c, d.m, &d.b, NULL);
    assert_int_equal(d.c.err.code, AHA_ERR_INTERNAL);
    ctx_reset(&d.c);
    d.b.hidden = model_final_norm(&d.c, d.m, model_hidden(&d.c, d.m, &d.b, NULL)).data;
    d.b.n--; /* the last row knows no next token */
    d.b.token++;
    assert_int_equal(model_draft(&d.c, d.m, &d.b, NULL).rows, N - 1);
    assert_int_equal(ctx_failed(&d.c), 0);
    made_free(&d);
}

/* The engine says of every row whether it was asked or answered, and wants logits of what it samples from alone. */
static void rows_say_where_they_come_from(void **state)
{
    Made       d;
    Engine    *g;
    SeqRequest r;
    Seq       *s[2];
    int        asked = 0, answered = 0, wanted = 0;
    (void)state;
    made_init(&d);
    g = engine_open(d.m, d.c.k, NULL, (EngineOptions){.chunk = 16});
    r = (SeqRequest){.prompt = d.token, .n_prompt = N, .max_new = 6, .no_cache = true};
    s[0] = submit(g, &r);
    r.n_prompt = 1;
    s[1] = submit(g, &r);
    do {
        if (engine_stats(g).steps == 0) continue;
        for (int i = 0; i < g->n_rows; i++) {
            asked += g->flags[i] == BATCH_PROMPT;
            answered += g->flags[i] == BATCH_GENERATED;
            wanted += g->out[i];
        }
    } while (step_guarded(g) > 0);
    for (int i = 0; i < g->n_rows; i++) { /* of the last step */
        answered += g->flags[i] == BATCH_GENERATED;
        wanted += g->out[i];
    }
    assert_int_equal(asked, N + 1);
    assert_int_equal(asked, engine_stats(g).prompt_tokens);
    assert_int_equal(answered, 2 * 5); /* the last token of an answer is never computed */
    assert_int_equal(wanted, 2 * 6);
    for (int i = 0; i < 2; i++) seq_free(s[i]);
    engine_free(g);
    made_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wanted_rows), cmocka_unit_test(adapters_are_refused), cmocka_unit_test(draft_layers_want_hidden_states),
        cmocka_unit_test(rows_say_where_they_come_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
