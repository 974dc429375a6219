/* Recurrent layers in training against finite differences, and that their training forms give what
 * the operators give. */
#include <math.h>
#include <string.h>

#include "gradcheck.h"

enum { SEQ = 4, N = 3, IN = 5, H = 6 };

static const char *const DIRECTIONS[] = {"forward", "reverse", "bidirectional"};

#define P(name, ...) build_random(m, name, SHR_DTYPE_F32, DIMS(__VA_ARGS__), -0.7, 0.7, rng)

/* A layer whose every input is a parameter and every output one of the model. */
static struct shr_model *layer(bool lstm, int direction, bool states, struct shr_rng *rng)
{
    struct shr_model *m = build_model();
    const int64_t d = direction == 2 ? 2 : 1, columns = (lstm ? 4 : 3) * H;
    struct shr_value *x = P("px", SEQ, N, IN), *w = P("pw", d, columns, IN);
    struct shr_value *r = P("pr", d, columns, H), *b = P("pb", d, 2 * columns);
    struct shr_value *h0 = states ? P("ph", d, N, H) : NULL;
    struct shr_value *c0 = states && lstm ? P("pc", d, N, H) : NULL;
    struct shr_value *in[] = {x, w, r, b, NULL, h0, c0}, *out[3];
    struct shr_err err = {0};
    struct shr_node *node;
    const size_t n_out = lstm ? 3 : 2;
    for (size_t i = 0; i < n_out; i++) {
        assert_int_equal(shr_graph_fresh_value(&m->graph, "y", &out[i], &err), 0);
    }
    assert_int_equal(shr_graph_add_node(&m->graph, NULL, "", lstm ? "LSTM" : "GRU", "", in,
                                        c0 != NULL   ? 7
                                        : h0 != NULL ? 6
                                                     : 4,
                                        out, n_out, &node, &err),
                     0);
    build_int(m, "hidden_size", H);
    build_text(m, "direction", DIRECTIONS[direction]);
    if (!lstm) {
        build_int(m, "linear_before_reset", 1);
    }
    for (size_t i = 0; i < n_out; i++) {
        build_output(m, out[i]);
    }
    return m;
}

static void layers_of_every_direction(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 31);
    for (int direction = 0; direction < 3; direction++) {
        for (int form = 0; form < 4; form++) {
            gradcheck_training(layer(form % 2 == 0, direction, form < 2, &rng));
        }
    }
}

/* Adds the training form of the operator that was added last; its output is one of the model. */
static void add_training_form(struct shr_model *m, const char *op)
{
    struct shr_err err = {0};
    const struct shr_node *node = build_last(m);
    struct shr_value *in[6], *out[5];
    struct shr_node *form;
    for (size_t i = 0; i < 6; i++) {
        in[i] = shr_node_in(node, i < 4 ? i : i + 1);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(shr_graph_fresh_value(&m->graph, "form", &out[i], &err), 0);
    }
    assert_int_equal(
        shr_graph_add_node(&m->graph, NULL, SHR_TRAIN_DOMAIN, op, "", in, 6, out, 5, &form, &err),
        0);
    build_output(m, out[0]);
}

/* The same values from the operator and from its training form, and the same bits of it by a team.
 */
static void training_forms_are_the_operator(void **state)
{
    enum { MANY = 21 };
    struct shr_rng ours, *rng = &ours;
    struct shr_err err = {0};
    (void)state;
    for (int lstm = 0; lstm < 2; lstm++) {
        const int64_t columns = (lstm ? 4 : 3) * H;
        struct shr_plan *plans[2];
        shr_rng_init(rng, 32);
        struct shr_model *m = build_model();
        assert_int_equal(shr_model_import(m, SHR_TRAIN_DOMAIN, 1, &err), 0);
        struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(SEQ, MANY, IN));
        struct shr_value *w = P("w", 2, columns, IN), *r = P("r", 2, columns, H);
        build_output(
            m, build_node(m, lstm ? "LSTM" : "GRU", "y", x, w, r, P("b", 2, 2 * columns), NULL));
        build_int(m, "hidden_size", H);
        build_text(m, "direction", "bidirectional");
        if (!lstm) {
            build_int(m, "linear_before_reset", 1);
        }
        add_training_form(m, lstm ? "LSTMTrain" : "GRUTrain");
        for (int threads = 1; threads <= 2; threads++) {
            shr_rng_init(rng, 33);
            plans[threads - 1] = build_plan(m, &(struct shr_plan_opts){.threads = threads});
            build_fill(shr_plan_input(plans[threads - 1], 0), -2, 2, rng);
            build_run(plans[threads - 1]);
        }
        const struct shr_tensor *op = shr_plan_output(plans[0], 0);
        const struct shr_tensor *form = shr_plan_output(plans[0], 1);
        for (int64_t i = 0; i < shr_tensor_count(op); i++) {
            assert_true(fabs(shr_tensor_get(op, i) - shr_tensor_get(form, i)) < 1e-6);
        }
        assert_memory_equal(form->data, shr_plan_output(plans[1], 1)->data, shr_tensor_bytes(form));
        shr_plan_free(plans[0]);
        shr_plan_free(plans[1]);
        shr_model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_of_every_direction),
        cmocka_unit_test(training_forms_are_the_operator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
