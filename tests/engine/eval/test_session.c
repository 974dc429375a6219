/* Sessions: inputs by name, open dims bound by arrays, names and batch, constants decided early;
 * and the arrays of files. */
#include "../exec/build.h"

#include <string.h>

#include "base/mem.h"

/* y = a + b with a [N, seq] and b [1, seq] */
static struct shr_model *open_model(void)
{
    struct shr_model *m = build_model();
    struct shr_value *a = build_input(m, "a", SHR_DTYPE_F32, DIMS(-1, -1));
    struct shr_value *b = build_input(m, "b", SHR_DTYPE_F32, DIMS(1, -1));
    a->type.sym[0] = "N";
    a->type.sym[1] = "seq";
    b->type.sym[1] = "seq";
    build_output(m, build_node(m, "Add", "y", a, b, NULL));
    shr_model_resolve(m);
    return m;
}

static void expect(const struct shr_model *m, const struct shr_session_opts *opts, int code,
                   const char *message)
{
    struct shr_session *session = NULL;
    struct shr_err err = {0};
    assert_int_equal(shr_session_new(m, opts, NULL, &session, &err), code);
    assert_string_equal(err.msg, message);
    shr_session_free(session);
}

static void an_array_binds_its_symbols_everywhere(void **state)
{
    (void)state;
    struct shr_model *m = open_model();
    const float a[] = {1, 2, 3, 4, 5, 6};
    const struct shr_view view = {"a", SHR_DTYPE_F32, 2, {2, 3}, a, sizeof a};
    struct shr_session *session;
    struct shr_err err;
    assert_int_equal(shr_session_new(m, &(struct shr_session_opts){.inputs = &view, .n_inputs = 1},
                                     NULL, &session, &err),
                     0);
    assert_int_equal(shr_session_input_count(session), 2);
    struct shr_view b = shr_session_input(session, 1);
    assert_string_equal(b.name, "b");
    assert_int_equal(b.dim[1], 3);
    assert_int_equal(shr_session_run(session, NULL, &err), 0);
    struct shr_view y = shr_session_output(session, 0);
    assert_string_equal(y.name, "y");
    assert_int_equal(y.bytes, sizeof a);
    for (int i = 0; i < 6; i++) {
        assert_true(((const float *)y.data)[i] == a[i] + ((const float *)b.data)[i % 3]);
    }
    assert_int_equal(shr_session_step_count(session), 1);
    assert_string_equal(shr_session_step(session, 0).op, "Add");
    uint64_t ns[1];
    assert_int_equal(shr_session_run_timed(session, NULL, ns, &err), 0);
    shr_session_free(session);
    shr_model_free(m);
}

static void dims_are_given_by_symbol_or_by_place(void **state)
{
    (void)state;
    struct shr_model *m = open_model();
    const struct shr_dim by_name = {"seq", 5}, by_place[] = {{"a:1", 4}, {"b:1", 4}};
    struct shr_session *session;
    struct shr_err err;
    assert_int_equal(
        shr_session_new(m, &(struct shr_session_opts){.batch = 7, .dims = &by_name, .n_dims = 1},
                        NULL, &session, &err),
        0);
    assert_int_equal(shr_session_output(session, 0).dim[0], 7);
    assert_int_equal(shr_session_output(session, 0).dim[1], 5);
    shr_session_free(session);
    assert_int_equal(shr_session_new(m, &(struct shr_session_opts){.dims = by_place, .n_dims = 2},
                                     NULL, &session, &err),
                     0);
    assert_int_equal(shr_session_output(session, 0).dim[0], 1);
    assert_int_equal(shr_session_output(session, 0).dim[1], 4);
    shr_session_free(session);
    shr_model_free(m);
}

static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    struct shr_model *m = open_model();
    const float a[4] = {0};
    const struct shr_view wrong_rank = {"a", SHR_DTYPE_F32, 1, {4}, a, sizeof a},
                          wrong_type = {"b", SHR_DTYPE_I32, 2, {1, 4}, a, sizeof a},
                          wrong_name = {"c", SHR_DTYPE_F32, 1, {4}, a, sizeof a};
    const struct shr_dim unknown = {"width", 3}, negative = {"seq", -3};
    expect(m, &(struct shr_session_opts){0}, SHR_ERR_UNSUPPORTED,
           "input a: dimension 1 (seq) is open and needs a value");
    expect(m, &(struct shr_session_opts){.inputs = &wrong_rank, .n_inputs = 1}, SHR_ERR_INVALID,
           "input a: the model wants float32 [N, seq], the array is float32 [4]");
    expect(m, &(struct shr_session_opts){.inputs = &wrong_type, .n_inputs = 1}, SHR_ERR_INVALID,
           "input b: the model wants float32 [1, seq], the array is int32 [1, 4]");
    expect(m, &(struct shr_session_opts){.inputs = &wrong_name, .n_inputs = 1}, SHR_ERR_NOT_FOUND,
           "the model has no input c");
    expect(m, &(struct shr_session_opts){.dims = &negative, .n_dims = 1}, SHR_ERR_INVALID,
           "dimension seq: -3 is negative");
    struct shr_model *fixed = build_model();
    build_output(fixed, build_node(fixed, "Relu", "y",
                                   build_input(fixed, "x", SHR_DTYPE_F32, DIMS(-1, 3)), NULL));
    shr_model_resolve(fixed);
    expect(fixed, &(struct shr_session_opts){.dims = &unknown, .n_dims = 1}, SHR_ERR_INVALID,
           "dimension width: no input has an open dimension of this name");
    shr_model_free(fixed);
    shr_model_free(m);
}

static void a_constant_is_no_input(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 6));
    struct shr_value *shape = build_input(m, "shape", SHR_DTYPE_I64, DIMS(2));
    build_output(m, build_node(m, "Reshape", "y", x, shape, NULL));
    shr_model_resolve(m);
    const int64_t to[] = {3, -1};
    const struct shr_view view = {"shape", SHR_DTYPE_I64, 1, {2}, to, sizeof to};
    struct shr_session *session;
    struct shr_err err;
    assert_int_equal(
        shr_session_new(m, &(struct shr_session_opts){.batch = 2}, NULL, &session, &err),
        SHR_ERR_UNSUPPORTED);
    assert_int_equal(
        shr_session_new(
            m, &(struct shr_session_opts){.batch = 2, .constants = &view, .n_constants = 1}, NULL,
            &session, &err),
        0);
    assert_int_equal(shr_session_input_count(session), 1);
    assert_int_equal(shr_session_output(session, 0).dim[0], 3);
    assert_int_equal(shr_session_output(session, 0).dim[1], 4);
    shr_session_free(session);
    shr_model_free(m);
}

static void arrays_survive_an_npz(void **state)
{
    (void)state;
    const float f[] = {1.5f, -2, 0};
    const int64_t i[] = {INT64_MIN, 7};
    const unsigned char b[] = {1};
    const struct shr_view views[] = {{"f/x", SHR_DTYPE_F32, 2, {1, 3}, f, sizeof f},
                                     {"i", SHR_DTYPE_I64, 1, {2}, i, sizeof i},
                                     {"scalar", SHR_DTYPE_BOOL, 0, {0}, b, sizeof b},
                                     {"empty", SHR_DTYPE_F32, 1, {0}, NULL, 0}};
    struct shr_buf npz = {0};
    struct shr_err err;
    struct shr_arrays *arrays;
    assert_int_equal(shr_arrays_save(views, SHR_COUNT_OF(views), &npz, &err), 0);
    const struct shr_bytes file = {npz.data, npz.len};
    assert_int_equal(shr_arrays_load(SHR_DATASET_NPZ, "a.npz", &file, 0, &arrays, &err), 0);
    assert_int_equal(shr_arrays_count(arrays), SHR_COUNT_OF(views));
    for (size_t k = 0; k < SHR_COUNT_OF(views); k++) {
        const struct shr_view v = shr_arrays_at(arrays, k);
        assert_string_equal(v.name, views[k].name);
        assert_int_equal(v.dtype, views[k].dtype);
        assert_int_equal(v.rank, views[k].rank);
        assert_int_equal(v.bytes, views[k].bytes);
        assert_memory_equal(v.dim, views[k].dim, (size_t)v.rank * sizeof v.dim[0]);
        if (v.bytes > 0) {
            assert_memory_equal(v.data, views[k].data, v.bytes);
        }
    }
    shr_arrays_free(arrays);
    shr_buf_finish(&npz);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_binds_its_symbols_everywhere),
        cmocka_unit_test(dims_are_given_by_symbol_or_by_place),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(a_constant_is_no_input),
        cmocka_unit_test(arrays_survive_an_npz),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
