/* onnx/ledger: what is counted, what is counted once, and that the parts make the file. */
#include "tiny_nets.h"

static struct shr_ledger ledger_of(const struct shr_model *before, const struct shr_model *after)
{
    struct shr_ledger ledger = {0};
    size_t bytes[2] = {0};
    assert_int_equal(shr_model_size(before, &bytes[0], NULL), 0);
    assert_int_equal(shr_model_size(after, &bytes[1], NULL), 0);
    assert_int_equal(shr_ledger_make(before, bytes[0], after, bytes[1], &ledger, NULL), 0);
    const struct shr_ledger_side *s[] = {&ledger.before, &ledger.after};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(s[i]->parameters + s[i]->quantization + s[i]->constants + s[i]->graph,
                         (int64_t)bytes[i]);
        assert_true(s[i]->graph > 0);
    }
    return ledger;
}

static const struct shr_ledger_row *row(const struct shr_ledger *ledger, const char *name)
{
    for (size_t i = 0; i < ledger->n; i++) {
        if (strcmp(ledger->rows[i].name, name) == 0) {
            return &ledger->rows[i];
        }
    }
    return NULL;
}

/* Two products with one weight (4, 4), the second of the first. */
static struct shr_model *tied(const char *middle)
{
    double w[16];
    for (int i = 0; i < 16; i++) {
        w[i] = (i % 5) - 2;
    }
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *in[] = {x, tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, w)};
    in[0] = tiny_node(m, "MatMul", "first", in, 2, middle)->out[0];
    tiny_output(m, tiny_node(m, "MatMul", "second", in, 2, "y"));
    return m;
}

static void a_shared_weight_is_counted_once(void **state)
{
    (void)state;
    struct shr_model *m = tied("h");
    struct shr_model *r = tiny_run(m, "quantize_dynamic", "weight_type=uint8", NULL, NULL);
    assert_non_null(r);
    struct shr_ledger ledger = ledger_of(m, r);
    assert_int_equal(ledger.before.parameters, 64);
    assert_int_equal(ledger.before.shared, 1);
    assert_int_equal(ledger.before.shared_saved, 64);
    assert_int_equal(ledger.after.parameters, 16);
    assert_int_equal(ledger.after.quantization, 4 * (4 + 1)); /* scales and zero points */
    assert_int_equal(ledger.after.shared, 1);
    assert_int_equal(ledger.n, 1);
    const struct shr_ledger_row *w = row(&ledger, "w");
    assert_non_null(w);
    assert_int_equal(w->was, SHR_DTYPE_F32);
    assert_int_equal(w->is, SHR_DTYPE_U8);
    assert_int_equal(w->before, 64);
    assert_int_equal(w->after, 16);
    assert_int_equal(w->quantization, 20);
    assert_int_equal(w->readers, 2);
    shr_ledger_finish(&ledger);
    shr_model_free(r);
    shr_model_free(m);
}

/* The value w_h is no weight, so its scale is none of w's, though it is called so. */
static void the_scale_of_a_value_is_not_that_of_a_weight_with_a_shorter_name(void **state)
{
    (void)state;
    struct shr_model *m = tied("w_h"), *r = NULL;
    assert_int_equal(shr_model_clone(m, &r, NULL), 0);
    struct shr_node *second = r->graph.last_node;
    struct shr_value *in[] = {
        shr_node_in(second, 0),
        tiny_constant(r, "w_h_scale", SHR_DTYPE_F32, 0, NULL, (double[]){0.5}),
        tiny_constant(r, "w_h_zero", SHR_DTYPE_U8, 0, NULL, (double[]){3})};
    struct shr_node *q = NULL;
    struct shr_value *out = NULL;
    assert_int_equal(shr_graph_add_value(&r->graph, "w_h_q", &out, NULL), 0);
    assert_int_equal(
        shr_graph_add_node(&r->graph, second, "", "QuantizeLinear", "q", in, 3, &out, 1, &q, NULL),
        0);
    struct shr_ledger ledger = ledger_of(m, r);
    assert_int_equal(ledger.after.quantization, 5);
    assert_int_equal(ledger.n, 0);
    shr_ledger_finish(&ledger);
    shr_model_free(r);
    shr_model_free(m);
}

static void sparse_and_packed_tensors_count_what_the_file_holds(void **state)
{
    (void)state;
    double w[256] = {0};
    w[7] = 1;
    struct shr_model *m = tiny_model(21);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 16});
    struct shr_value *in[] = {x, tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){16, 16}, w)};
    tiny_output(m, tiny_node(m, "MatMul", "product", in, 2, "y"));
    struct shr_model *r = NULL;
    assert_int_equal(shr_model_clone(m, &r, NULL), 0);
    shr_graph_find(&r->graph, "w")->store = SHR_STORE_SPARSE;
    struct shr_ledger ledger = ledger_of(m, r);
    assert_int_equal(ledger.before.parameters, 1024);
    assert_int_equal(ledger.after.parameters, 4 + 2); /* one element and its place */
    shr_ledger_finish(&ledger);
    shr_model_free(r);

    struct shr_tensor packed = {0};
    assert_int_equal(shr_tensor_new(SHR_DTYPE_I4, 1, (int64_t[]){5}, &packed, NULL), 0);
    assert_int_equal(shr_model_clone(m, &r, NULL), 0);
    struct shr_value *extra = NULL;
    assert_int_equal(shr_graph_add_constant(&r->graph, "extra", packed, &extra, NULL), 0);
    ledger = ledger_of(m, r);
    assert_int_equal(ledger.after.constants, 3);
    shr_ledger_finish(&ledger);
    shr_model_free(r);
    shr_model_free(m);
}

static void a_model_has_the_size_it_is_saved_in(void **state)
{
    (void)state;
    struct shr_model *m = tied("h");
    struct shr_buf bytes = {0};
    size_t n = 0;
    assert_int_equal(shr_model_save(m, &bytes, NULL), 0);
    assert_int_equal(shr_model_size(m, &n, NULL), 0);
    assert_int_equal(n, bytes.len);
    shr_buf_finish(&bytes);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shared_weight_is_counted_once),
        cmocka_unit_test(the_scale_of_a_value_is_not_that_of_a_weight_with_a_shorter_name),
        cmocka_unit_test(sparse_and_packed_tensors_count_what_the_file_holds),
        cmocka_unit_test(a_model_has_the_size_it_is_saved_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
