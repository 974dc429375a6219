/* What holds for every pass of the table: the same job gives the same bytes, and one that is
 * cancelled stops at once and leaves nothing behind. */
#include "tiny.h"

#include <stdatomic.h>

#include "core/rng.h"

enum { SAMPLES = 96, FEATURES = 6, HIDDEN = 16, CLASSES = 3 };

static const struct {
    const char *pass, *arguments;
} cases[] = {
    {"optimize", ""},
    {"quantize_dynamic", ""},
    {"quantize_dynamic", "weight_type=uint8 per_channel=false"},
    {"quantize_static", "samples=40 calibration=entropy"},
    {"quantize_static", "samples=41 calibration=percentile percentile=95"},
    {"quantize_static", "samples=96 calibration=mse activation_type=int8 per_channel=false"},
    {"quantize_aware", "samples=40 epochs=2 batch_size=16"},
    {"quantize_weights", "bits=8"},
    {"quantize_weights", "bits=4 block_size=32 symmetric=true"},
    {"convert", "min_elements=1"},
    {"convert", "min_elements=1 type=bfloat16"},
    {"prune_unstructured", "amount=0.4"},
    {"prune_unstructured", "amount=0.6 scope=global"},
    {"prune_structured", "amount=0.5"},
    {"compact", ""},
    {"distill", "student.shrink=0.5 epochs=2 batch_size=16"},
    {"finetune", "epochs=2 batch_size=16"},
};

static struct shr_dataset *data;
static struct shr_model *model;

static double uniform(struct shr_rng *rng)
{
    return (double)(shr_rng_next(rng) % 20001) / 1e4 - 1;
}

static struct shr_value *random_constant(const char *name, int64_t rows, int64_t cols,
                                         struct shr_rng *rng)
{
    double values[HIDDEN * FEATURES + HIDDEN];
    assert_true(rows * cols <= (int64_t)SHR_COUNT_OF(values));
    for (int64_t i = 0; i < rows * cols; i++) {
        values[i] = i / cols == 2 && rows == HIDDEN ? 0 : uniform(rng); /* a unit that is dead */
    }
    return tiny_constant(model, name, SHR_DTYPE_F32, cols == 1 ? 1 : 2, (int64_t[]){rows, cols},
                         values);
}

/* x (batch, 6) -> Gemm -> Relu -> Gemm -> y (batch, 3) */
static void make_model(struct shr_rng *rng)
{
    model = tiny_model(13);
    struct shr_value *in[3] = {tiny_input(model, "x", 2, (int64_t[]){-1, FEATURES}),
                               random_constant("w", HIDDEN, FEATURES, rng),
                               random_constant("b", HIDDEN, 1, rng)};
    struct shr_node *n = tiny_node(model, "Gemm", "fc1", in, 3, "g");
    assert_int_equal(shr_node_set_int(&model->graph, n, "transB", 1, NULL), 0);
    in[0] = tiny_node(model, "Relu", "relu", n->out, 1, "h")->out[0];
    in[1] = random_constant("v", CLASSES, HIDDEN, rng);
    in[2] = random_constant("c", CLASSES, 1, rng);
    n = tiny_node(model, "Gemm", "fc2", in, 3, "y");
    assert_int_equal(shr_node_set_int(&model->graph, n, "transB", 1, NULL), 0);
    n->out[0]->type = (struct shr_type){.rank = 2, .dim = {-1, CLASSES}};
    tiny_output(model, n);
}

static void make_data(struct shr_rng *rng)
{
    float x[SAMPLES][FEATURES];
    int64_t labels[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        labels[i] = i % CLASSES;
        for (int k = 0; k < FEATURES; k++) {
            x[i][k] = (float)(uniform(rng) + (k % CLASSES == i % CLASSES ? 1 : 0));
        }
    }
    const struct shr_view arrays[] = {{.name = "x",
                                       .dtype = SHR_DTYPE_F32,
                                       .rank = 2,
                                       .dim = {SAMPLES, FEATURES},
                                       .data = x,
                                       .bytes = sizeof x},
                                      {.name = "labels",
                                       .dtype = SHR_DTYPE_I64,
                                       .rank = 1,
                                       .dim = {SAMPLES},
                                       .data = labels,
                                       .bytes = sizeof labels}};
    struct shr_buf file = {0};
    assert_int_equal(shr_arrays_save(arrays, 2, &file, NULL), 0);
    const struct shr_bytes part = {file.data, file.len};
    assert_int_equal(
        shr_dataset_load(SHR_DATASET_NPZ, &part, 1, &(struct shr_dataset_opts){0}, &data, NULL), 0);
    shr_buf_finish(&file);
}

static int set_up(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 5);
    make_model(&rng);
    make_data(&rng);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shr_dataset_free(data);
    shr_model_free(model);
    return 0;
}

static int run(size_t i, const struct shr_ctx *ctx, struct shr_buf *ret_bytes, struct shr_err *err)
{
    struct shr_args args = {0};
    struct shr_report report = {0};
    char text[128], *rest = NULL;
    assert_int_equal(shr_args_init(&args, shr_pass_find(cases[i].pass), NULL), 0);
    snprintf(text, sizeof text, "%s", cases[i].arguments);
    for (char *item = strtok_r(text, " ", &rest); item != NULL; item = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(item, '=');
        *value++ = 0;
        if (shr_args_parse(&args, item, value, err) != 0) {
            fail_msg("%s: %s", cases[i].pass, err->msg);
        }
    }
    struct shr_pass_call call = {.model = model,
                                 .args = &args,
                                 .calibrate = data,
                                 .train = data,
                                 .ctx = ctx,
                                 .report = &report};
    int code = shr_pass_run(args.pass, &call, err);
    assert_true((code == 0) == (call.ret_model != NULL));
    if (code == 0) {
        assert_int_equal(shr_model_save(call.ret_model, ret_bytes, NULL), 0);
    }
    shr_model_free(call.ret_model);
    shr_report_finish(&report);
    shr_args_finish(&args);
    return code;
}

static void every_pass_has_a_case(void **state)
{
    (void)state;
    for (size_t p = 0; p < shr_pass_count(); p++) {
        bool found = false;
        for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
            found = found || strcmp(cases[i].pass, shr_pass_at(p)->name) == 0;
        }
        if (!found) {
            fail_msg("%s has no case here", shr_pass_at(p)->name);
        }
    }
}

static void the_same_job_gives_the_same_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_buf bytes[2] = {{0}, {0}};
        for (int k = 0; k < 2; k++) {
            const struct shr_ctx ctx = {.seed = 11, .threads = 2};
            struct shr_err err = {0};
            if (run(i, &ctx, &bytes[k], &err) != 0) {
                fail_msg("%s", err.msg);
            }
        }
        if (bytes[0].len != bytes[1].len ||
            memcmp(bytes[0].data, bytes[1].data, bytes[0].len) != 0) {
            fail_msg("%s %s: not the same twice", cases[i].pass, cases[i].arguments);
        }
        shr_buf_finish(&bytes[0]);
        shr_buf_finish(&bytes[1]);
    }
}

struct listener {
    atomic_bool cancel;
    size_t heard, stop_at;
};

static void listen(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct listener *l = user;
    (void)stage;
    (void)done;
    (void)total;
    atomic_store(&l->cancel, ++l->heard >= l->stop_at);
}

/* Cancelled at its nth news, a pass tells no other news and ends; until it ends by itself. */
static void a_cancelled_pass_stops_before_it_tells_anything_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        int code = SHR_ERR_CANCELLED;
        for (size_t stop_at = 1; code == SHR_ERR_CANCELLED; stop_at++) {
            struct listener l = {.stop_at = stop_at};
            const struct shr_ctx ctx = {
                .seed = 11, .cancel = &l.cancel, .progress = listen, .user = &l};
            struct shr_buf bytes = {0};
            struct shr_err err = {0};
            code = run(i, &ctx, &bytes, &err);
            assert_true(code == 0 || code == SHR_ERR_CANCELLED);
            if (l.heard > stop_at) {
                fail_msg("%s: cancelled at news %d of %d", cases[i].pass, (int)stop_at,
                         (int)l.heard);
            }
            assert_int_equal(bytes.len == 0, code != 0);
            shr_buf_finish(&bytes);
        }
        assert_int_equal(shr_graph_check(&model->graph, NULL), 0);
    }
}

static void a_job_cancelled_before_it_begins_does_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct listener l = {.cancel = true};
        const struct shr_ctx ctx = {.cancel = &l.cancel, .progress = listen, .user = &l};
        struct shr_buf bytes = {0};
        struct shr_err err = {0};
        assert_int_equal(run(i, &ctx, &bytes, &err), SHR_ERR_CANCELLED);
        assert_int_equal(l.heard, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pass_has_a_case),
        cmocka_unit_test(the_same_job_gives_the_same_bytes),
        cmocka_unit_test(a_cancelled_pass_stops_before_it_tells_anything_more),
        cmocka_unit_test(a_job_cancelled_before_it_begins_does_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
