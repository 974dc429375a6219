/* Small nets and samples for them, for the tests of quantization. */
#ifndef TESTS_PASSES_TINY_NETS_H
#define TESTS_PASSES_TINY_NETS_H

#include "tiny.h"

static const double tiny_ramp[64] = {1, -2, 3, 0.5,  -1, 2, 0.25, -3, 1, 2, -1, 4, 2, -0.5, 1, 1,
                                     2, 1,  4, -0.5, 1,  3, 0.75, -1, 2, 1, -2, 3, 1, -1.5, 2, 4};

/* 16 samples of (width) as an npy file: multiples of 1/4 from -2 to 2. */
static inline struct shr_dataset *tiny_samples(int channels, int side)
{
    static unsigned char file[128 + 4 * 4096];
    char head[119];
    int n = 16 * channels * side * side;
    char shape[64];
    snprintf(shape, sizeof shape, side == 1 ? "(16, %d)" : "(16, %d, %d, %d)", channels, side,
             side);
    snprintf(head, sizeof head, "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
    memset(file, ' ', 128);
    memcpy(file, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(file + 10, head, strlen(head));
    file[127] = '\n';
    for (int i = 0; i < n; i++) {
        float x = (float)(i * 37 % 17) / 4 - 2;
        memcpy(file + 128 + 4 * i, &x, 4);
    }
    struct shr_dataset *data = NULL;
    struct shr_err err = {0};
    struct shr_bytes part = {file, 128 + 4 * (size_t)n};
    if (shr_dataset_load(SHR_DATASET_NPY, &part, 1, NULL, &data, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    return data;
}

/* x (batch, 4) -> Gemm w (3, 4), b -> Relu -> Gemm w2 (2, 3), b2 -> y */
static inline struct shr_model *tiny_mlp(void)
{
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[3] = {
        tiny_input(m, "x", 2, (int64_t[]){-1, 4}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){3, 4}, tiny_ramp),
        tiny_constant(m, "b", SHR_DTYPE_F32, 1, (int64_t[]){3}, (double[]){1, -1, 0.5})};
    struct shr_node *n = tiny_node(m, "Gemm", "fc1", in, 3, "g");
    assert_int_equal(shr_node_set_int(&m->graph, n, "transB", 1, NULL), 0);
    in[0] = shr_node_out(tiny_node(m, "Relu", "relu", n->out, 1, "h"), 0);
    in[1] = tiny_constant(m, "w2", SHR_DTYPE_F32, 2, (int64_t[]){2, 3}, tiny_ramp + 9);
    in[2] = tiny_constant(m, "b2", SHR_DTYPE_F32, 1, (int64_t[]){2}, (double[]){0.25, -0.5});
    n = tiny_node(m, "Gemm", "fc2", in, 3, "y");
    assert_int_equal(shr_node_set_int(&m->graph, n, "transB", 1, NULL), 0);
    tiny_output(m, n);
    return m;
}

/* x -> Conv -> BatchNormalization -> Relu -> MaxPool -> Conv -> Add (the pool's output) -> y */
static inline struct shr_model *tiny_cnn(void)
{
    struct shr_model *m = tiny_model(13);
    const int64_t two = 2, *dim = &two;
    struct shr_value *in[5] = {
        tiny_input(m, "x", 4, (int64_t[]){-1, 1, 6, 6}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 4, (int64_t[]){2, 1, 3, 3}, tiny_ramp)};
    struct shr_node *n = tiny_node(m, "Conv", "conv1", in, 2, "c");
    in[0] = n->out[0];
    in[1] = tiny_constant(m, "gamma", SHR_DTYPE_F32, 1, dim, tiny_ramp);
    in[2] = tiny_constant(m, "beta", SHR_DTYPE_F32, 1, dim, tiny_ramp + 2);
    in[3] = tiny_constant(m, "mean", SHR_DTYPE_F32, 1, dim, tiny_ramp + 4);
    in[4] = tiny_constant(m, "var", SHR_DTYPE_F32, 1, dim, (double[]){1, 2});
    n = tiny_node(m, "BatchNormalization", "bn", in, 5, "n");
    n = tiny_node(m, "Relu", "relu", n->out, 1, "r");
    n = tiny_node(m, "MaxPool", "pool", n->out, 1, "p");
    assert_int_equal(shr_node_set_ints(&m->graph, n, "kernel_shape", (int64_t[]){2, 2}, 2, NULL),
                     0);
    struct shr_value *p = in[0] = n->out[0];
    in[1] = tiny_constant(m, "w2", SHR_DTYPE_F32, 4, (int64_t[]){2, 2, 1, 1}, tiny_ramp + 6);
    n = tiny_node(m, "Conv", "conv2", in, 2, "d");
    n = tiny_node(m, "Add", "add", (struct shr_value *[]){p, n->out[0]}, 2, "a");
    n = tiny_node(m, "Relu", "relu2", n->out, 1, "s");
    in[0] = n->out[0];
    in[1] = tiny_constant(m, "w3", SHR_DTYPE_F32, 4, (int64_t[]){2, 2, 1, 1}, tiny_ramp + 11);
    tiny_output(m, tiny_node(m, "Conv", "conv3", in, 2, "y"));
    return m;
}

/* x (3, batch, 2) -> bidirectional LSTM of 1 unit, w (2, 4, 2), r (2, 4, 1), b -> y */
static inline struct shr_model *tiny_lstm(void)
{
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[4] = {
        tiny_input(m, "x", 3, (int64_t[]){3, -1, 2}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 3, (int64_t[]){2, 4, 2}, tiny_ramp),
        tiny_constant(m, "r", SHR_DTYPE_F32, 3, (int64_t[]){2, 4, 1}, tiny_ramp + 5),
        tiny_constant(m, "b", SHR_DTYPE_F32, 2, (int64_t[]){2, 8}, tiny_ramp + 3)};
    struct shr_node *n = tiny_node(m, "LSTM", "cell", in, 4, "y");
    assert_int_equal(shr_node_set_text(&m->graph, n, "direction", "bidirectional", NULL), 0);
    assert_int_equal(shr_node_set_int(&m->graph, n, "hidden_size", 1, NULL), 0);
    tiny_output(m, n);
    return m;
}

#endif
