/* distill and finetune on two clouds of points: what they reach, keep, refuse and repeat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "../exec/build.h"
#include "base/mem.h"
#include "data/dataset.h"
#include "passes/pass.h"
#include "train/fit.h"

enum { SAMPLES = 300, FEATURES = 6, CLASSES = 3 };

struct world {
    float x[SAMPLES][FEATURES];
    int64_t labels[SAMPLES];
    struct shr_dataset *data, *unlabelled;
    struct shr_model *teacher; /* untrained: what it says is arbitrary, but the same every time */
};

static struct world world;

static struct shr_dataset *load_as(size_t n_arrays, bool images)
{
    const struct shr_view arrays[] = {
        {.name = "x",
         .dtype = SHR_DTYPE_F32,
         .rank = images ? 3 : 2,
         .dim = {SAMPLES, images ? 2 : FEATURES, FEATURES / 2},
         .data = world.x,
         .bytes = sizeof world.x},
        {.name = "labels",
         .dtype = SHR_DTYPE_I64,
         .rank = 1,
         .dim = {SAMPLES},
         .data = world.labels,
         .bytes = sizeof world.labels},
    };
    struct shr_err err = {0};
    struct shr_buf file = {0};
    struct shr_dataset *data = NULL;
    assert_int_equal(shr_arrays_save(arrays, n_arrays, &file, &err), 0);
    const struct shr_bytes part = {file.data, file.len};
    int rc =
        shr_dataset_load(SHR_DATASET_NPZ, &part, 1, &(struct shr_dataset_opts){0}, &data, &err);
    if (rc != 0) {
        fail_msg("%s", err.msg);
    }
    shr_buf_finish(&file);
    return data;
}

static struct shr_dataset *load(size_t n_arrays)
{
    return load_as(n_arrays, false);
}

static struct shr_model *network(int64_t hidden, uint64_t seed)
{
    struct shr_rng rng;
    shr_rng_init(&rng, seed);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, FEATURES));
    struct shr_value *w = build_random(m, "w", SHR_DTYPE_F32, DIMS(hidden, FEATURES), -1, 1, &rng);
    struct shr_value *b = build_random(m, "b", SHR_DTYPE_F32, DIMS(hidden), -1, 1, &rng);
    struct shr_value *v = build_random(m, "v", SHR_DTYPE_F32, DIMS(CLASSES, hidden), -1, 1, &rng);
    struct shr_value *h = build_node(m, "Gemm", "h", x, w, b, NULL);
    build_int(m, "transB", 1);
    build_last(m)->name = "first";
    struct shr_value *y = build_node(m, "Gemm", "y", build_node(m, "Relu", "r", h, NULL), v, NULL);
    build_int(m, "transB", 1);
    y->type = (struct shr_type){.dtype = SHR_DTYPE_F32, .rank = 2, .dim = {-1, CLASSES}};
    build_output(m, y);
    shr_model_resolve(m);
    return m;
}

static int set_up(void **state)
{
    struct shr_rng rng;
    shr_rng_init(&rng, 3);
    for (int i = 0; i < SAMPLES; i++) {
        world.labels[i] = i % CLASSES;
        for (int k = 0; k < FEATURES; k++) {
            const double centre = k % CLASSES == i % CLASSES ? 1.5 : -0.5;
            world.x[i][k] = (float)(centre + 0.5 * shr_rng_normal(&rng));
        }
    }
    world.data = load(2);
    world.unlabelled = load(1);
    world.teacher = network(24, 9);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shr_dataset_free(world.data);
    shr_dataset_free(world.unlabelled);
    shr_model_free(world.teacher);
    return 0;
}

struct job {
    const char *pass;
    const char *const *arguments; /* name, value, …, NULL */
    const struct shr_model *model, *original, *other;
    const struct shr_dataset *data;
    struct shr_ctx ctx;
    struct shr_report report; /* finished by whoever looks at it */
    struct shr_err err;
};

#define ARGUMENTS(...)                                                                             \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

static int run(struct job *j, struct shr_model **ret)
{
    const struct shr_pass *pass = shr_pass_find(j->pass);
    struct shr_args args;
    assert_int_equal(shr_args_init(&args, pass, &j->err), 0);
    for (const char *const *a = j->arguments; *a != NULL; a += 2) {
        assert_int_equal(shr_args_parse(&args, a[0], a[1], &j->err), 0);
    }
    struct shr_pass_call call = {
        .model = j->model != NULL ? j->model : world.teacher,
        .original = j->original,
        .other = j->other,
        .args = &args,
        .train = j->data != NULL ? j->data : world.data,
        .ctx = &j->ctx,
        .report = &j->report,
    };
    int rc = shr_pass_run(pass, &call, &j->err);
    *ret = call.ret_model;
    shr_args_finish(&args);
    return rc;
}

static struct shr_tensor ones(int64_t rows, int64_t columns)
{
    struct shr_tensor t;
    struct shr_err err = {0};
    const int64_t dim[] = {rows, columns};
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 2, dim, &t, &err), 0);
    for (int64_t i = 0; i < rows * columns; i++) {
        ((float *)t.data)[i] = 1;
    }
    return t;
}

static struct shr_model *must(struct job *j)
{
    struct shr_model *m = NULL;
    if (run(j, &m) != 0) {
        fail_msg("%s", j->err.msg);
    }
    return m;
}

static void must_fail(struct job j, int code, const char *message)
{
    struct shr_model *m = NULL;
    assert_int_equal(run(&j, &m), code);
    assert_null(m);
    assert_string_equal(j.err.msg, message);
    shr_report_finish(&j.report);
}

/* A figure of the last note that has it. */
static double figure(const struct job *j, const char *name)
{
    double found = -1;
    for (const struct shr_note *n = j->report.first; n != NULL; n = n->next) {
        for (size_t i = 0; i < n->n_figures; i++) {
            found = strcmp(n->figures[i].name, name) == 0 ? n->figures[i].value : found;
        }
    }
    return found;
}

static void assert_same_weights(const struct shr_model *a, const struct shr_model *b, bool same)
{
    bool equal = true;
    SHR_EACH_VALUE (v, &a->graph) {
        if (shr_value_is_constant(v)) {
            const struct shr_value *w = shr_graph_find(&b->graph, v->name);
            assert_non_null(w);
            equal = equal &&
                    memcmp(v->constant.data, w->constant.data, shr_tensor_bytes(&v->constant)) == 0;
        }
    }
    assert_int_equal(equal, same);
}

static double agreement(const struct shr_model *a, const struct shr_model *b)
{
    struct shr_err err = {0};
    float *x, *y;
    int64_t width;
    int same = 0;
    assert_int_equal(shr_model_predict(a, world.data, 0, SAMPLES, 32, NULL, &x, &width, &err), 0);
    assert_int_equal(shr_model_predict(b, world.data, 0, SAMPLES, 32, NULL, &y, &width, &err), 0);
    assert_int_equal(width, CLASSES);
    for (int i = 0; i < SAMPLES; i++) {
        int p = 0, q = 0;
        for (int k = 1; k < CLASSES; k++) {
            p = x[i * CLASSES + k] > x[i * CLASSES + p] ? k : p;
            q = y[i * CLASSES + k] > y[i * CLASSES + q] ? k : q;
        }
        same += p == q;
    }
    shr_mem_free(x);
    shr_mem_free(y);
    return same / (double)SAMPLES;
}

/* ── What it reaches ────────────────────────────────────────────────────────────────────────── */

static void a_student_learns_what_the_teacher_says(void **state)
{
    (void)state;
    struct job j = {"distill",
                    ARGUMENTS("student.mlp", "16", "alpha", "1", "epochs", "60", "batch_size", "32",
                              "learning_rate", "0.01", "validate", "0.2"),
                    .data = world.unlabelled};
    struct shr_model *student = must(&j);
    assert_true(agreement(student, world.teacher) > 0.95);
    assert_int_equal((int)figure(&j, "parameters_before"), 24 * 6 + 24 + 3 * 24);
    assert_int_equal((int)figure(&j, "parameters_after"), 16 * 6 + 16 + 3 * 16 + 3);
    assert_int_equal(shr_model_opset(student, "shrinkd.train"), 0);
    shr_model_free(student);
    shr_report_finish(&j.report);
}

static void a_teacher_may_be_narrowed(void **state)
{
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        struct job j = {"distill", ARGUMENTS("student.shrink", "0.5", "epochs", "40", "batch_size",
                                             "32", "learning_rate", "0.01", "alpha", "1",
                                             "student.init", keep ? "keep" : "fresh")};
        struct shr_model *student = must(&j);
        assert_int_equal(shr_graph_find(&student->graph, "w")->constant.dim[0], 12);
        assert_true(agreement(student, world.teacher) > 0.9);
        shr_model_free(student);
        shr_report_finish(&j.report);
    }
}

static void a_student_may_be_any_model(void **state)
{
    (void)state;
    struct shr_model *given = network(12, 4);
    for (int keep = 0; keep < 2; keep++) {
        for (int epochs = 1; epochs <= 40; epochs += 39) {
            const bool long_ = epochs > 1;
            struct job j = {"distill",
                            ARGUMENTS("student.model", "given", "epochs", long_ ? "40" : "1",
                                      "batch_size", "32", "learning_rate", long_ ? "0.01" : "0",
                                      "alpha", "1", "student.init", keep ? "keep" : "fresh"),
                            .other = given};
            struct shr_model *student = must(&j);
            if (long_) {
                assert_true(agreement(student, world.teacher) > 0.9);
            } else { /* nothing was learned: the weights are those that it began with */
                assert_same_weights(student, given, keep);
            }
            shr_model_free(student);
            shr_report_finish(&j.report);
        }
    }
    shr_model_free(given);
}

static void labels_are_learned(void **state)
{
    (void)state;
    static const char *const OPTIMIZERS[][2] = {
        {"sgd", "0.05"}, {"adam", "0.01"}, {"adamw", "0.01"}};
    for (size_t i = 0; i < 3; i++) {
        struct job j = {"finetune", ARGUMENTS("epochs", "30", "batch_size", "32", "optimizer",
                                              OPTIMIZERS[i][0], "learning_rate", OPTIMIZERS[i][1],
                                              "schedule", "step", "warmup", "1")};
        shr_model_free(must(&j));
        assert_true(figure(&j, "validation_accuracy") > 0.95);
        shr_report_finish(&j.report);
    }
}

static void hinted_values_become_alike(void **state)
{
    (void)state;
    struct job j = {"distill",
                    ARGUMENTS("student.shrink", "0.5", "hints", "y:y", "hint_weight", "10", "alpha",
                              "0", "epochs", "60", "batch_size", "32", "learning_rate", "0.01")};
    struct shr_model *student = must(&j); /* the labels alone say otherwise */
    assert_true(agreement(student, world.teacher) > 0.9);
    shr_model_free(student);
    shr_report_finish(&j.report);
}

/* ── What it repeats and keeps ──────────────────────────────────────────────────────────────── */

static void the_same_seed_gives_the_same_bits(void **state)
{
    (void)state;
    for (int threads = 1; threads < 3; threads++) {
        struct shr_model *m[3];
        for (int i = 0; i < 3; i++) {
            struct job j = {"distill", ARGUMENTS("student.mlp", "16,8", "epochs", "2"),
                            .ctx = {.seed = i == 2 ? 8 : 7, .threads = threads}};
            m[i] = must(&j);
            shr_report_finish(&j.report);
        }
        assert_same_weights(m[0], m[1], true);
        assert_same_weights(m[0], m[2], false);
        for (int i = 0; i < 3; i++) {
            shr_model_free(m[i]);
        }
    }
}

static void a_teacher_that_does_not_fit_is_asked_again(void **state)
{
    (void)state;
    struct shr_model *m[2];
    for (int i = 0; i < 2; i++) {
        struct job j = {"distill", ARGUMENTS("student.mlp", "8", "epochs", "2", "max_memory",
                                             i == 0 ? "0" : "100")};
        m[i] = must(&j);
        assert_int_equal(j.report.last->kind, i == 0 ? SHR_NOTE_DONE : SHR_NOTE_WARNING);
        shr_report_finish(&j.report);
    }
    assert_same_weights(m[0], m[1], true);
    shr_model_free(m[0]);
    shr_model_free(m[1]);
}

/* The samples as images of 2 x 3 pixels. */
static void augmented_images_are_seen_by_teacher_and_student(void **state)
{
    (void)state;
    struct shr_dataset *images = load_as(2, true);
    struct shr_model *m[4];
    for (int i = 0; i < 4; i++) {
        struct job j = {"finetune",
                        ARGUMENTS("labels", i < 2 ? "false" : "true", "epochs", "2", "augment.flip",
                                  i == 3 ? "false" : "true", "augment.shift", i == 3 ? "0" : "1"),
                        .data = images, .ctx = {.seed = 5}};
        m[i] = must(&j);
        if (i < 2) { /* it is its own teacher, and says the same of the same image */
            assert_true(figure(&j, "loss") < 1e-5);
        }
        shr_report_finish(&j.report);
    }
    assert_same_weights(m[0], m[1], true);
    assert_same_weights(m[2], m[3], false);
    for (int i = 0; i < 4; i++) {
        shr_model_free(m[i]);
    }
    shr_dataset_free(images);
    must_fail((struct job){"finetune", ARGUMENTS("epochs", "1", "augment.flip", "true")},
              SHR_ERR_INVALID,
              "finetune: augment: no array is of images, (N, H, W) or (N, C, H, W), for a float32 "
              "input");
}

static void labels_and_the_original_are_learned_from_together(void **state)
{
    (void)state;
    struct shr_model *weak = network(8, 4);
    struct job j = {"finetune",
                    ARGUMENTS("alpha", "0.8", "temperature", "2", "epochs", "40", "batch_size",
                              "32", "learning_rate", "0.01"),
                    .model = weak, .original = world.teacher};
    struct shr_model *m = must(&j);
    const double with = agreement(m, world.teacher);
    shr_model_free(m);
    shr_report_finish(&j.report);
    j.arguments = ARGUMENTS("epochs", "40", "batch_size", "32", "learning_rate", "0.01");
    m = must(&j);
    assert_true(with > agreement(m, world.teacher) + 0.1);
    shr_model_free(m);
    shr_report_finish(&j.report);
    shr_model_free(weak);
}

static void assert_alike(const struct shr_model *a, const struct shr_model *b)
{
    SHR_EACH_VALUE (v, &a->graph) {
        const struct shr_value *w = shr_graph_find(&b->graph, v->name);
        for (int64_t i = 0; shr_value_is_constant(v) && i < shr_tensor_count(&v->constant); i++) {
            assert_float_equal(shr_tensor_get(&v->constant, i), shr_tensor_get(&w->constant, i),
                               1e-5);
        }
    }
}

static void a_batch_that_does_not_fit_is_computed_in_parts(void **state)
{
    (void)state;
    static const size_t LIMIT[] = {0, 16384, 16384};
    struct shr_model *m[3];
    for (int i = 0; i < 3; i++) {
        struct job j = {"finetune",
                        ARGUMENTS("epochs", "2", "batch_size", "62", "optimizer", "sgd"),
                        .ctx = {.seed = 3, .max_memory = LIMIT[i]}};
        m[i] = must(&j);
        const double part = figure(&j, "samples_at_once");
        assert_true(LIMIT[i] == 0 ? part == -1 : part >= 1 && part < 62);
        assert_int_equal(j.report.last->kind, i == 0 ? SHR_NOTE_DONE : SHR_NOTE_WARNING);
        shr_report_finish(&j.report);
    }
    assert_same_weights(m[0], world.teacher, false);
    assert_alike(m[0], m[1]);
    assert_same_weights(m[0], m[1], false); /* sums in another order */
    assert_same_weights(m[1], m[2], true);
    for (int i = 0; i < 3; i++) {
        shr_model_free(m[i]);
    }
}

static void too_little_memory_for_a_sample_is_an_error_that_says_how_much(void **state)
{
    (void)state;
    struct job j = {"finetune", ARGUMENTS("epochs", "2"), .ctx = {.max_memory = 100}};
    struct shr_model *m = NULL;
    assert_int_equal(run(&j, &m), SHR_ERR_LIMIT);
    assert_non_null(
        strstr(j.err.msg, "training with one sample at a time: running the model takes "));
    assert_non_null(strstr(j.err.msg, "more than the limit of 100"));
    shr_report_finish(&j.report);
}

static void zero_weights_stay_zero(void **state)
{
    (void)state;
    struct shr_err err = {0};
    struct shr_model *pruned = network(24, 9);
    struct shr_value *w = shr_graph_find(&pruned->graph, "w");
    assert_int_equal(shr_tensor_own(&w->constant, &err), 0);
    for (int i = 0; i < 24 * FEATURES; i += 2) {
        ((float *)w->constant.data)[i] = 0.0f;
    }
    for (int keep = 0; keep < 2; keep++) {
        struct job j = {"finetune",
                        ARGUMENTS("epochs", "2", "optimizer", keep ? "sgd" : "adamw",
                                  "weight_decay", "0.1", "keep_zeros", keep ? "true" : "false"),
                        .model = pruned};
        struct shr_model *m = must(&j);
        const float *x = shr_graph_find(&m->graph, "w")->constant.data;
        int zeros = 0;
        for (int i = 0; i < 24 * FEATURES; i += 2) {
            zeros += x[i] == 0.0f;
        }
        assert_int_equal(zeros == 24 * FEATURES / 2, keep);
        shr_model_free(m);
        shr_report_finish(&j.report);
    }
    shr_model_free(pruned);
}

static void without_labels_it_learns_from_the_original(void **state)
{
    (void)state;
    struct shr_model *other = network(24, 50);
    const double before = agreement(other, world.teacher);
    struct job j = {
        "finetune",
        ARGUMENTS("labels", "false", "epochs", "40", "batch_size", "32", "learning_rate", "0.01"),
        .model = other, .original = world.teacher, .data = world.unlabelled};
    struct shr_model *m = must(&j);
    assert_true(before < 0.8);
    assert_true(agreement(m, world.teacher) > 0.95);
    shr_model_free(m);
    shr_model_free(other);
    shr_report_finish(&j.report);
}

static void training_stops_when_nothing_gets_better(void **state)
{
    (void)state;
    struct job j = {"finetune", ARGUMENTS("epochs", "50", "patience", "2", "learning_rate", "0")};
    struct shr_model *m = must(&j);
    assert_string_equal(j.report.last->text,
                        "trained for 3 of 50 epochs on 270 samples; kept epoch 1, the best on the "
                        "samples held back");
    assert_same_weights(m, world.teacher, true);
    shr_model_free(m);
    shr_report_finish(&j.report);
}

/* ── What it goes on from ───────────────────────────────────────────────────────────────────── */

struct keeper { /* keeps the last checkpoint, and cancels after some */
    struct shr_buf last;
    int left;
    atomic_bool cancel;
    int figures;
};

static int keep_checkpoint(void *user, const void *bytes, size_t n, struct shr_err *err)
{
    (void)err;
    struct keeper *k = user;
    shr_buf_finish(&k->last);
    shr_buf_append(&k->last, bytes, n);
    k->left--;
    atomic_store(&k->cancel, k->left == 0);
    return 0;
}

static void count_figure(void *user, const char *series, uint64_t at, double value)
{
    (void)at;
    assert_true(series[0] != 0 && value == value);
    ((struct keeper *)user)->figures++;
}

static int fit(struct keeper *k, const struct shr_buf *resume, struct shr_model **ret,
               struct shr_fit_result *result)
{
    const struct shr_fit_opts opts = {
        .data = world.data,
        .loss = {.hard_weight = 1, .temperature = 1},
        .optim = {.kind = SHR_OPTIM_ADAM, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f},
        .epochs = 4,
        .batch = 64,
        .lr = 0.01,
        .validate = 0.2,
    };
    const struct shr_ctx ctx = {
        .seed = 5,
        .cancel = &k->cancel,
        .checkpoint = keep_checkpoint,
        .checkpoint_seconds = 1e-12,
        .figure = count_figure,
        .resume = resume == NULL ? NULL : resume->data,
        .n_resume = resume == NULL ? 0 : resume->len,
        .user = k,
    };
    struct shr_err err = {0};
    return shr_fit(world.teacher, &opts, &ctx, ret, result, &err);
}

static void a_killed_training_goes_on_to_the_same_weights(void **state)
{
    (void)state;
    struct keeper whole = {.left = -1};
    struct shr_model *want, *got = NULL;
    struct shr_fit_result result, r;
    assert_int_equal(fit(&whole, NULL, &want, &result), 0);
    assert_int_equal(result.steps, 16);
    assert_int_equal(whole.figures, 2 * 16 + 4 * 4);
    for (int after = 1; after <= 16; after++) { /* within epochs and at their ends */
        struct keeper cut = {.left = after}, rest = {.left = -1};
        const int rc = fit(&cut, NULL, &got, &r);
        assert_int_equal(rc, SHR_ERR_CANCELLED);
        assert_int_equal(fit(&rest, &cut.last, &got, &r), 0);
        assert_true(r.resumed);
        assert_int_equal(r.resumed_step, after);
        assert_int_equal(r.best, result.best);
        assert_true(r.epochs[3].loss == result.epochs[3].loss);
        assert_same_weights(want, got, true);
        shr_model_free(got);
        shr_fit_result_finish(&r);
        shr_buf_finish(&cut.last);
        shr_buf_finish(&rest.last);
    }
    shr_model_free(want);
    shr_fit_result_finish(&result);
    shr_buf_finish(&whole.last);
}

static void a_checkpoint_that_does_not_fit_is_ignored(void **state)
{
    (void)state;
    struct keeper first = {.left = -1};
    struct shr_model *m;
    struct shr_fit_result r;
    assert_int_equal(fit(&first, NULL, &m, &r), 0);
    shr_model_free(m);
    shr_fit_result_finish(&r);
    for (size_t cut = 0; cut < 3; cut++) { /* short, of another training, nonsense */
        struct keeper k = {.left = -1};
        struct shr_buf bytes = {0};
        shr_buf_append(&bytes, first.last.data, first.last.len - (cut == 0 ? 1 : 0));
        if (cut > 0) {
            ((unsigned char *)bytes.data)[cut == 1 ? 8 : 0] ^= 1;
        }
        assert_int_equal(fit(&k, &bytes, &m, &r), 0);
        assert_false(r.resumed);
        shr_model_free(m);
        shr_fit_result_finish(&r);
        shr_buf_finish(&bytes);
        shr_buf_finish(&k.last);
    }
    shr_buf_finish(&first.last);
}

/* ── What it refuses ────────────────────────────────────────────────────────────────────────── */

static void labels_out_of_range_are_named(void **state)
{
    (void)state;
    world.labels[17] = 3;
    struct shr_dataset *bad = load(2);
    world.labels[17] = 17 % CLASSES;
    must_fail((struct job){"finetune", ARGUMENTS("epochs", "1"), .data = bad}, SHR_ERR_INVALID,
              "finetune: label 3 of sample 17 is not in [0, 3), the classes of the model");
    shr_dataset_free(bad);
}

static void labels_must_be_there(void **state)
{
    (void)state;
    must_fail((struct job){"distill", ARGUMENTS("student.mlp", "4"), .data = world.unlabelled},
              SHR_ERR_INVALID,
              "distill: alpha: 0.7 needs labels, and data.train has none; without labels it must "
              "be 1");
    must_fail((struct job){"finetune", ARGUMENTS("epochs", "1"), .data = world.unlabelled},
              SHR_ERR_INVALID,
              "finetune: labels: data.train has none; with labels false the model learns from what "
              "the original says");
}

static void a_loss_that_is_no_number_stops(void **state)
{
    (void)state;
    struct job j = {"finetune", ARGUMENTS("epochs", "3", "optimizer", "sgd", "learning_rate",
                                          "1000", "schedule", "constant", "weight_decay", "1000")};
    struct shr_model *m = NULL;
    assert_int_equal(run(&j, &m), SHR_ERR_INVALID);
    assert_non_null(strstr(j.err.msg, "finetune: training stopped in step "));
    assert_non_null(strstr(j.err.msg, "the first tensor that is not finite is "));
    shr_report_finish(&j.report);
}

static void a_student_must_be_described(void **state)
{
    (void)state;
    const char *why = "distill: student: one of model, mlp and shrink says what the student is";
    must_fail((struct job){"distill", ARGUMENTS("epochs", "1")}, SHR_ERR_INVALID, why);
    must_fail((struct job){"distill", ARGUMENTS("student.mlp", "8", "student.shrink", "0.5")},
              SHR_ERR_INVALID, why);
    must_fail((struct job){"distill", ARGUMENTS("student.mlp", "8,-2")}, SHR_ERR_INVALID,
              "distill: student.mlp: \"-2\" is not a width in [1, 1048576]");
}

static void a_student_must_say_what_the_teacher_says(void **state)
{
    (void)state;
    struct shr_model *given = network(12, 4);
    struct shr_value *y = given->graph.outputs[0];
    y->type.dim[1] = 5;
    must_fail((struct job){"distill", ARGUMENTS("student.model", "five"), .other = given},
              SHR_ERR_INVALID,
              "distill: student.model: its output y is float32 of [?, 5], and the teacher's y is "
              "float32 of [?, 3]");
    y->type.dim[1] = -1; /* not declared: seen when it is run */
    shr_value_set_constant(shr_graph_find(&given->graph, "v"), ones(4, 12));
    must_fail((struct job){"distill", ARGUMENTS("student.model", "four", "student.init", "keep"),
                           .other = given},
              SHR_ERR_INVALID,
              "distill: the output of the student has 4 elements a sample, of the teacher 3");
    must_fail((struct job){"distill", ARGUMENTS("student.model", "absent")}, SHR_ERR_INVALID,
              "distill: student.model: model absent is not at hand");
    shr_model_free(given);
}

static void hints_must_match(void **state)
{
    (void)state;
    must_fail((struct job){"distill", ARGUMENTS("student.mlp", "8", "hints", "fc1.relu:r")},
              SHR_ERR_INVALID,
              "distill: fc1.relu of the student has 8 elements a sample, of the teacher 24");
    must_fail((struct job){"distill", ARGUMENTS("student.mlp", "8", "hints", "fc1.relu:q")},
              SHR_ERR_INVALID, "distill: hints: the teacher has no value q");
    must_fail((struct job){"distill", ARGUMENTS("student.mlp", "8", "hints", "fc1.relu")},
              SHR_ERR_INVALID, "distill: hints: \"fc1.relu\" is not student:teacher");
    must_fail((struct job){"distill", ARGUMENTS("student.mlp", "8", "hints", "nothing:r")},
              SHR_ERR_NOT_FOUND, "distill: the model has no float32 value nothing to learn from");
}

static void a_cancelled_training_ends(void **state)
{
    (void)state;
    const atomic_bool cancel = true;
    struct job j = {"finetune", ARGUMENTS("epochs", "1"), .ctx = {.cancel = &cancel}};
    struct shr_model *m = NULL;
    assert_int_equal(run(&j, &m), SHR_ERR_CANCELLED);
    shr_report_finish(&j.report);
}

#ifdef SHR_CHAOS
static void any_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t n = 1, done = 0; !done; n++) {
        struct job j = {"distill",
                        ARGUMENTS("student.mlp", "4", "epochs", "1", "batch_size", "200")};
        struct shr_model *m = NULL;
        struct shr_args args;
        assert_int_equal(shr_args_init(&args, shr_pass_find(j.pass), &j.err), 0);
        for (const char *const *a = j.arguments; *a != NULL; a += 2) {
            assert_int_equal(shr_args_parse(&args, a[0], a[1], &j.err), 0);
        }
        struct shr_pass_call call = {.model = world.teacher,
                                     .args = &args,
                                     .train = world.data,
                                     .ctx = &j.ctx,
                                     .report = &j.report};
        shr_mem_chaos(n);
        int rc = shr_pass_run(args.pass, &call, &j.err);
        const bool failed = shr_mem_chaos_hit();
        shr_mem_chaos(0);
        done = !failed;
        m = call.ret_model;
        if (rc != SHR_OK && !(failed && rc == SHR_ERR_NOMEM)) {
            fail_msg("allocation %d: %s", (int)n, j.err.msg);
        }
        shr_model_free(m);
        shr_args_finish(&args);
        shr_report_finish(&j.report);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_student_learns_what_the_teacher_says),
        cmocka_unit_test(a_teacher_may_be_narrowed),
        cmocka_unit_test(a_student_may_be_any_model),
        cmocka_unit_test(labels_are_learned),
        cmocka_unit_test(hinted_values_become_alike),
        cmocka_unit_test(the_same_seed_gives_the_same_bits),
        cmocka_unit_test(a_teacher_that_does_not_fit_is_asked_again),
        cmocka_unit_test(augmented_images_are_seen_by_teacher_and_student),
        cmocka_unit_test(labels_and_the_original_are_learned_from_together),
        cmocka_unit_test(a_batch_that_does_not_fit_is_computed_in_parts),
        cmocka_unit_test(too_little_memory_for_a_sample_is_an_error_that_says_how_much),
        cmocka_unit_test(zero_weights_stay_zero),
        cmocka_unit_test(without_labels_it_learns_from_the_original),
        cmocka_unit_test(training_stops_when_nothing_gets_better),
        cmocka_unit_test(a_killed_training_goes_on_to_the_same_weights),
        cmocka_unit_test(a_checkpoint_that_does_not_fit_is_ignored),
        cmocka_unit_test(labels_out_of_range_are_named),
        cmocka_unit_test(labels_must_be_there),
        cmocka_unit_test(a_loss_that_is_no_number_stops),
        cmocka_unit_test(a_student_must_be_described),
        cmocka_unit_test(a_student_must_say_what_the_teacher_says),
        cmocka_unit_test(hints_must_match),
        cmocka_unit_test(a_cancelled_training_ends),
#ifdef SHR_CHAOS
        cmocka_unit_test(any_allocation_may_fail),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
