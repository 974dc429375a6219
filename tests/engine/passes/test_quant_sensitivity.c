/* passes/quant_sensitivity: what layers cost, and which stay in float. */
#include "tiny_nets.h"

#include <math.h>

#include "base/mem.h"
#include "data/dataset.h"

enum { SAMPLES = 16, CLASSES = 4 };

/* x (batch, 4) -> MatMul fc1 -> Relu -> MatMul fc2 -> Relu -> MatMul fc3 -> y. Channel 3 of every
 * layer is dead. Where a layer has an outlier, its weights for that channel are 1000 times the
 * others, which round to 0 when it is quantized. */
static struct shr_model *chain(const bool *outlier)
{
    static const char *const names[3] = {"fc1", "fc2", "fc3"}, *const outs[3] = {"a", "b", "y"};
    struct shr_model *m = tiny_model(13);
    struct shr_value *v = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    for (int layer = 0; layer < 3; layer++) {
        char name[8];
        double w[16]; /* (input, output) */
        for (int i = 0; i < 16; i++) {
            const bool dead = layer < 2 && i % 4 == 3;
            w[i] = dead ? 0 : tiny_ramp[(i * 7 + layer * 5) % 32] + (i / 4 == i % 4 ? 3 : 0);
            w[i] = i / 4 == 3 && outlier[layer] && !dead ? 2000 : w[i];
        }
        snprintf(name, sizeof name, "w%d", layer + 1);
        struct shr_value *in[2] = {v,
                                   tiny_constant(m, name, SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, w)};
        struct shr_node *n = tiny_node(m, "MatMul", names[layer], in, 2, outs[layer]);
        if (layer == 2) {
            tiny_output(m, n);
            return m;
        }
        n = tiny_node(m, "Relu", "", n->out, 1, layer == 0 ? "ha" : "hb");
        v = shr_node_out(n, 0);
    }
    return m;
}

static const struct shr_note *find_note(const struct shr_report *report, const char *subject,
                                        const char *part)
{
    for (const struct shr_note *n = report->first; n != NULL; n = n->next) {
        if (strcmp(n->subject, subject) == 0 && strstr(n->text, part) != NULL) {
            return n;
        }
    }
    fail_msg("no note about '%s' with '%s'", subject, part);
    return NULL;
}

static double figure(const struct shr_note *note, const char *name)
{
    for (size_t i = 0; i < note->n_figures; i++) {
        if (strcmp(note->figures[i].name, name) == 0) {
            return note->figures[i].value;
        }
    }
    fail_msg("'%s' has no figure %s", note->text, name);
    return 0;
}

static size_t largest(const float *y)
{
    size_t best = 0;
    for (size_t i = 1; i < CLASSES; i++) {
        best = y[i] > y[best] ? i : best;
    }
    return best;
}

/* Of all samples, by what the server measures with. */
static void compare(const struct shr_model *a, const struct shr_model *b,
                    const struct shr_dataset *data, double *ret_sqnr_db, double *ret_agreement)
{
    float *x = NULL, *y = NULL;
    int64_t width = 0;
    double signal = 0, noise = 0, same = 0;
    assert_int_equal(shr_model_predict(a, data, 0, SAMPLES, 5, NULL, &x, &width, NULL), 0);
    assert_int_equal(shr_model_predict(b, data, 0, SAMPLES, 5, NULL, &y, &width, NULL), 0);
    assert_int_equal(width, CLASSES);
    for (size_t i = 0; i < SAMPLES * CLASSES; i++) {
        signal += (double)x[i] * (double)x[i];
        noise += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    }
    for (size_t i = 0; i < SAMPLES; i++) {
        same += largest(x + i * CLASSES) == largest(y + i * CLASSES);
    }
    *ret_sqnr_db = 10 * log10(signal / noise);
    *ret_agreement = same / SAMPLES;
    shr_mem_free(x);
    shr_mem_free(y);
}

static size_t count_layers_in_float(const struct shr_model *m)
{
    size_t n = 0;
    SHR_EACH_NODE (node, &m->graph) {
        n += strcmp(node->op_type, "MatMul") == 0 && shr_value_is_constant(shr_node_in(node, 1));
    }
    return n;
}

/* ── Sensitivity ────────────────────────────────────────────────────────────────────────────── */

static void sensitivity_is_that_of_the_model_with_one_layer_quantized(void **state)
{
    (void)state;
    struct shr_model *m = chain((const bool[3]){false, true, false});
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run_static(m, data, "sensitivity=true", &report);
    assert_int_equal(count_layers_in_float(r), 0);
    static const char *const names[3] = {"fc1", "fc2", "fc3"};
    for (int i = 0; i < 3; i++) {
        char filter[64];
        double sqnr_db, agreement;
        snprintf(filter, sizeof filter, "nodes.include=%s", names[i]);
        struct shr_model *alone = tiny_run_static(m, data, filter, NULL);
        compare(m, alone, data, &sqnr_db, &agreement);
        const struct shr_note *note = find_note(&report, names[i], "quantized alone");
        assert_true(fabs(figure(note, "alone_sqnr_db") - sqnr_db) < 1e-6);
        assert_true(figure(note, "alone_agreement") == agreement);
        assert_true(figure(note, "alone_lost") == 1 - agreement);
        assert_true(figure(note, "layer") == i + 1);
        assert_true(i == 1 ? sqnr_db < 10 : sqnr_db > 25);
        shr_model_free(alone);
    }
    shr_report_finish(&report);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void sensitivity_changes_no_byte_of_the_result(void **state)
{
    (void)state;
    struct shr_model *m = tiny_cnn();
    struct shr_dataset *data = tiny_samples(1, 6);
    struct shr_model *a = tiny_run_static(m, data, "calibration=entropy", NULL);
    struct shr_model *b = tiny_run_static(m, data, "calibration=entropy sensitivity=true", NULL);
    struct shr_buf one = {0}, other = {0};
    assert_int_equal(shr_model_save(a, &one, NULL), 0);
    assert_int_equal(shr_model_save(b, &other, NULL), 0);
    assert_int_equal(one.len, other.len);
    assert_memory_equal(one.data, other.data, one.len);
    shr_buf_finish(&one);
    shr_buf_finish(&other);
    shr_model_free(a);
    shr_model_free(b);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void layers_alone_are_judged_on_no_more_samples_than_the_limit(void **state)
{
    (void)state;
    struct shr_model *m = chain((const bool[3]){false});
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report few = {0}, all = {0};
    shr_model_free(tiny_run_static(m, data, "sensitivity=true sensitivity_samples=4", &few));
    shr_model_free(tiny_run_static(m, data, "sensitivity=true", &all));
    double a = figure(find_note(&few, "fc1", "alone"), "alone_sqnr_db");
    double b = figure(find_note(&all, "fc1", "alone"), "alone_sqnr_db");
    double of_four = figure(find_note(&few, "fc1", "alone"), "alone_agreement") * 4;
    assert_true(a != b && of_four == floor(of_four));
    shr_report_finish(&few);
    shr_report_finish(&all);
    shr_dataset_free(data);
    shr_model_free(m);
}

/* ── A goal ─────────────────────────────────────────────────────────────────────────────────── */

static void max_accuracy_drop_leaves_the_layer_that_hurts_in_float(void **state)
{
    (void)state;
    struct shr_dataset *data = tiny_samples(4, 1);
    for (int bad = 1; bad < 3; bad++) {
        bool outlier[3] = {false};
        double sqnr_db, agreement;
        outlier[bad] = true;
        struct shr_model *m = chain(outlier);
        struct shr_report report = {0};
        struct shr_model *r = tiny_run_static(m, data, "max_accuracy_drop=0.05", &report);
        compare(m, r, data, &sqnr_db, &agreement);
        assert_true(agreement >= 0.95);
        assert_int_equal(count_layers_in_float(r), 1);
        const char *name = bad == 1 ? "fc2" : "fc3";
        assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, name, "max_accuracy_drop"));
        const struct shr_note *all = find_note(&report, "", "with 0 of 3 layers in float");
        const struct shr_note *one = find_note(&report, "", "with 1 of 3 layers in float: fc");
        assert_non_null(strstr(one->text, name));
        assert_true(figure(all, "candidate") == 1 && figure(all, "met") == 0);
        assert_true(figure(one, "met") == 1 && figure(one, "accuracy_drop") == 1 - agreement);
        assert_true(fabs(figure(one, "sqnr_db") - sqnr_db) < 1e-6);
        find_note(&report, "", "max_accuracy_drop 0.05 is met with 1 of 3 layers in float");
        shr_report_finish(&report);
        shr_model_free(r);
        shr_model_free(m);
    }
    shr_dataset_free(data);
}

static void no_layer_is_judged_alone_when_all_can_be_quantized(void **state)
{
    (void)state;
    struct shr_model *m = chain((const bool[3]){false});
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run_static(m, data, "max_accuracy_drop=0.5", &report);
    assert_int_equal(count_layers_in_float(r), 0);
    find_note(&report, "", "is met with 0 of 3 layers in float");
    assert_false(tiny_note(&report, SHR_NOTE_DONE, "fc1", "quantized alone"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void accuracy_is_by_labels_where_there_are_some(void **state)
{
    (void)state;
    struct shr_model *m = chain((const bool[3]){false, true, false});
    struct shr_dataset *data = tiny_samples(4, 1);
    float *y = NULL;
    int64_t width = 0;
    assert_int_equal(shr_model_predict(m, data, 0, SAMPLES, 4, NULL, &y, &width, NULL), 0);
    data->labels = shr_mem_new(SAMPLES, sizeof *data->labels);
    for (size_t i = 0; i < SAMPLES; i++) { /* the original is wrong on every fourth */
        data->labels[i] = (int32_t)((largest(y + i * CLASSES) + (i % 4 == 0)) % CLASSES);
    }
    struct shr_report report = {0};
    struct shr_model *r =
        tiny_run_static(m, data, "max_accuracy_drop=0.01 sensitivity=true", &report);
    find_note(&report, "", "judged on 16 samples, of which the original gets 0.7500 right");
    assert_int_equal(count_layers_in_float(r), 1);
    const struct shr_note *note = find_note(&report, "fc2", "quantized alone");
    assert_true(figure(note, "alone_lost") == 0.75 - figure(note, "alone_accuracy"));
    assert_true(figure(find_note(&report, "", "with 1 of 3"), "accuracy") >= 0.74);
    shr_report_finish(&report);
    shr_model_free(r);
    shr_mem_free(y);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void a_goal_out_of_reach_gives_the_best_and_says_what_would_do(void **state)
{
    (void)state;
    struct shr_model *m = chain((const bool[3]){false, true, true});
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    struct shr_model *r =
        tiny_run_static(m, data, "max_accuracy_drop=0.01 nodes.include=fc2,fc3", &report);
    double sqnr_db, agreement;
    compare(m, r, data, &sqnr_db, &agreement);
    const struct shr_note *note = find_note(&report, "", "max_accuracy_drop 0.01 is not met");
    assert_int_equal(note->kind, SHR_NOTE_WARNING);
    assert_true(figure(note, "accuracy_drop") == 1 - agreement && agreement < 0.99);
    double least = 1;
    for (const struct shr_note *n = report.first; n != NULL; n = n->next) {
        if (n->n_figures > 0 && strcmp(n->figures[0].name, "candidate") == 0) {
            assert_true(figure(n, "met") == 0);
            least = fmin(least, figure(n, "accuracy_drop"));
        }
    }
    assert_true(least == 1 - agreement);

    char would[64]; /* that goal is met by that choice */
    snprintf(would, sizeof would, "max_accuracy_drop=%.4f nodes.include=fc2,fc3",
             ceil(least * 1e4) / 1e4);
    assert_non_null(strstr(note->text, "would be met"));
    struct shr_report second = {0};
    shr_model_free(tiny_run_static(m, data, would, &second));
    assert_false(tiny_note(&second, SHR_NOTE_WARNING, "", "is not met"));
    shr_report_finish(&second);
    shr_report_finish(&report);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void filters_are_told_though_layers_are_chosen(void **state)
{
    (void)state;
    struct shr_model *m = chain((const bool[3]){false});
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    shr_model_free(tiny_run_static(m, data, "sensitivity=true nodes.exclude=fc*", &report));
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "fc2", "its name is in nodes.exclude"));
    assert_true(tiny_note(&report, SHR_NOTE_WARNING, "", "nothing was quantized"));
    shr_report_finish(&report);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void outputs_without_classes_have_sensitivity_but_no_goal(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[2] = {
        tiny_input(m, "x", 2, (int64_t[]){-1, 4}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 1}, tiny_ramp)};
    tiny_output(m, tiny_node(m, "MatMul", "fc", in, 2, "y"));
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    struct shr_err err = {0};
    shr_model_free(tiny_run_static(m, data, "sensitivity=true", &report));
    assert_int_equal(find_note(&report, "fc", "quantized alone")->n_figures, 2);
    assert_null(tiny_run_data(m, "quantize_static", "max_accuracy_drop=0.1", data, NULL, &err));
    assert_int_equal(err.code, SHR_ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "quantize_static: max_accuracy_drop needs a first output with "
                                 "classes along its last axis");
    shr_report_finish(&report);
    shr_dataset_free(data);
    shr_model_free(m);
}

/* ── Cancellation ───────────────────────────────────────────────────────────────────────────── */

struct canceller {
    const char *stage;
    atomic_bool cancel;
    size_t told_after;
};

static void on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct canceller *c = user;
    (void)done;
    (void)total;
    c->told_after += atomic_load(&c->cancel);
    if (strcmp(stage, c->stage) == 0) {
        atomic_store(&c->cancel, true);
    }
}

static void the_search_is_cancelled_between_models(void **state)
{
    (void)state;
    struct shr_model *m = chain((const bool[3]){false, true, false});
    struct shr_dataset *data = tiny_samples(4, 1);
    static const char *const stages[] = {"calibrate", "sensitivity", "max_accuracy_drop"};
    for (size_t i = 0; i < SHR_COUNT_OF(stages); i++) {
        struct canceller c = {.stage = stages[i]};
        struct shr_ctx ctx = {.cancel = &c.cancel, .progress = on_progress, .user = &c};
        struct shr_args args = {0};
        struct shr_err err = {0};
        assert_int_equal(shr_args_init(&args, shr_pass_find("quantize_static"), NULL), 0);
        assert_int_equal(shr_args_parse(&args, "max_accuracy_drop", "0.01", NULL), 0);
        struct shr_pass_call call = {.model = m, .args = &args, .calibrate = data, .ctx = &ctx};
        assert_int_equal(shr_pass_run(args.pass, &call, &err), SHR_ERR_CANCELLED);
        assert_null(call.ret_model);
        assert_int_equal(c.told_after, 0);
        shr_args_finish(&args);
    }
    shr_dataset_free(data);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sensitivity_is_that_of_the_model_with_one_layer_quantized),
        cmocka_unit_test(sensitivity_changes_no_byte_of_the_result),
        cmocka_unit_test(layers_alone_are_judged_on_no_more_samples_than_the_limit),
        cmocka_unit_test(max_accuracy_drop_leaves_the_layer_that_hurts_in_float),
        cmocka_unit_test(no_layer_is_judged_alone_when_all_can_be_quantized),
        cmocka_unit_test(accuracy_is_by_labels_where_there_are_some),
        cmocka_unit_test(a_goal_out_of_reach_gives_the_best_and_says_what_would_do),
        cmocka_unit_test(filters_are_told_though_layers_are_chosen),
        cmocka_unit_test(outputs_without_classes_have_sensitivity_but_no_goal),
        cmocka_unit_test(the_search_is_cancelled_between_models),
    };
    return cmocka_run_group_tests_name("engine/passes/quant_sensitivity", tests, NULL, NULL);
}
