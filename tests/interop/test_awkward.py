"""Models that are odd but legal, through every pass and some sequences of passes.

Each result must pass onnx.checker, load in ONNX Runtime, compute what the original computes, and
compute the same in our engine. A pass may refuse a model with a reason; which do is listed."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(5)
N = 64  # samples of calibration and comparison
MODELS = {}


def awkward(function):
    MODELS[function.__name__] = function
    return function


def w(*shape, scale=1.0):
    fan = int(np.prod(shape[1:])) or 1
    return (rng.standard_normal(shape) * scale / np.sqrt(fan)).astype(np.float32)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def model(nodes, inputs, outputs, weights=(), opset=17, ir=8, domains=(), weights_are_inputs=False):
    """inputs and outputs: a dict of name to shape; weights: a dict of name to array."""

    def values(shapes):
        return [
            v if isinstance(v, onnx.ValueInfoProto)
            else helper.make_tensor_value_info(n, TensorProto.FLOAT, v)
            for n, v in shapes.items()
        ]

    weights = dict(weights)
    tensors = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    ins = values(inputs)
    if weights_are_inputs:
        ins += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "g", ins, values(outputs), tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


# ── Weights ──────────────────────────────────────────────────────────────────────────────────────


@awkward
def tied_weights():
    return model(
        [
            node("MatMul", "x w", "a"),
            node("Relu", "a", "b"),
            node("MatMul", "b w", "c"),
            node("Gemm", "c w bias", "y", transB=1),
        ],
        {"x": ["N", 16]}, {"y": ["N", 16]}, {"w": w(16, 16), "bias": w(16)},
    )


@awkward
def weight_in_two_layouts():
    return model(
        [
            node("Gemm", "x w", "a", transB=1),
            node("Gemm", "x w", "b"),
            node("Reshape", "w shape", "filters"),
            node("Reshape", "a image", "picture"),
            node("Conv", "picture filters", "c"),
            node("Flatten", "c", "d"),
            node("Concat", "a b d", "y", axis=1),
        ],
        {"x": ["N", 16]}, {"y": ["N", None]},
        {"w": w(16, 16), "shape": np.array([16, 4, 2, 2]), "image": np.array([-1, 4, 2, 2])},
    )


@awkward
def weight_is_output():
    return model(
        [node("MatMul", "x w", "y")], {"x": ["N", 8]}, {"y": ["N", 4], "w": [8, 4]}, {"w": w(8, 4)}
    )


@awkward
def weights_listed_as_inputs():
    return model(
        [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")],
        {"x": ["N", 8]}, {"y": ["N", 4]}, {"w": w(8, 8), "b": w(8), "v": w(8, 4)},
        ir=3, opset=13, weights_are_inputs=True,
    )


@awkward
def weights_in_constant_nodes():
    return model(
        [
            node("Constant", "", "w", value=numpy_helper.from_array(w(8, 8))),
            node("Constant", "", "b", value_floats=[0.5] * 8),
            node("Identity", "w", "same"),
            node("Gemm", "x same b", "h"),
            node("Constant", "", "v", value=numpy_helper.from_array(w(8, 4))),
            node("MatMul", "h v", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 4]},
    )


@awkward
def weights_of_zero():
    return model(
        [node("Gemm", "x w b", "h"), node("MatMul", "x v", "g"), node("Concat", "h g", "y", axis=1)],
        {"x": ["N", 8]}, {"y": ["N", 12]},
        {"w": np.zeros((8, 8), np.float32), "b": np.zeros(8, np.float32), "v": w(8, 4)},
    )


@awkward
def weights_with_zero_channels():
    v = w(6, 4, 3, 3)
    v[2:4] = 0
    return model(
        [node("Conv", "x v b", "y")], {"x": ["N", 4, 6, 6]}, {"y": ["N", 6, 4, 4]},
        {"v": v, "b": w(6, 1).ravel()},
    )


@awkward
def weights_of_no_size():
    return model(
        [
            node("MatMul", "x w", "none"),
            node("MatMul", "x v", "some"),
            node("Concat", "none some", "y", axis=1),
        ],
        {"x": ["N", 8]}, {"y": ["N", 4]}, {"w": np.zeros((8, 0), np.float32), "v": w(8, 4)},
    )


@awkward
def weights_tiny_and_huge():
    return model(
        [node("MatMul", "x w", "a"), node("MatMul", "a v", "y")], {"x": ["N", 8]}, {"y": ["N", 4]},
        {"w": w(8, 8) * np.float32(1e-30), "v": w(8, 4) * np.float32(1e30)},
    )


def with_one(value):
    v = w(8, 8)
    v[3, 3] = value
    return model(
        [node("MatMul", "x v", "a"), node("MatMul", "x u", "b"), node("Concat", "b a", "y", axis=1)],
        {"x": ["N", 8]}, {"y": ["N", 16]}, {"v": v, "u": w(8, 8)},
    )


@awkward
def weights_with_nan():
    return with_one(np.nan)


@awkward
def weights_with_inf():
    return with_one(np.inf)


@awkward
def double_weights():
    return model(
        [
            node("Cast", "x", "d", to=TensorProto.DOUBLE),
            node("MatMul", "d w", "e"),
            node("Cast", "e", "y", to=TensorProto.FLOAT),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8]}, {"w": w(8, 8).astype(np.float64)},
    )


@awkward
def half_weights():
    return model(
        [
            node("Mul", "half two", "twice"),
            node("Cast", "twice", "w", to=TensorProto.FLOAT),
            node("MatMul", "x w", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8]},
        {"half": w(8, 8).astype(np.float16), "two": np.float16([2])},
    )


# ── Gemm and MatMul ──────────────────────────────────────────────────────────────────────────────


@awkward
def gemm_with_alpha_beta():
    return model(
        [
            node("Gemm", "x w b", "h", alpha=0.5, beta=2.0),
            node("Gemm", "h v c", "y", alpha=-1.5, beta=0.25, transB=1),
        ],
        {"x": ["N", 8]}, {"y": ["N", 6]}, {"w": w(8, 8), "b": w(8), "v": w(6, 8), "c": w(1, 6)},
    )


@awkward
def gemm_with_beta_0():
    return model(
        [node("Gemm", "x w b", "h", beta=0.0), node("Relu", "h", "y")],
        {"x": ["N", 8]}, {"y": ["N", 8]}, {"w": w(8, 8), "b": w(8)},
    )


@awkward
def gemm_with_trans_a():
    return model(
        [
            node("Transpose", "x", "t", perm=[1, 0]),
            node("Gemm", "t w b", "h", transA=1),
            node("Gemm", "t v", "g", transA=1, transB=1),
            node("Add", "h g", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 6]}, {"w": w(8, 6), "b": w(6), "v": w(6, 8)},
    )


@awkward
def gemm_with_scalar_and_column_bias():
    return model(
        [
            node("Gemm", "x w s", "a"),
            node("Gemm", "a w t", "b"),
            node("Gemm", "x v", "column"),
            node("Gemm", "b w column", "y", beta=0.5),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8]},
        {"w": w(8, 8), "s": np.float32(0.5), "t": np.float32([[0.25]]), "v": w(8, 1)},
    )


@awkward
def gemm_by_activations():
    return model(
        [
            node("Gemm", "x w", "a"),
            node("Transpose", "x", "t"),
            node("MatMul", "t a", "b"),
            node("MatMul", "x b", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 4]}, {"w": w(8, 4)},
    )


@awkward
def matmul_with_batch():
    return model(
        [
            node("MatMul", "x w", "a"),
            node("Add", "a b", "c"),
            node("Relu", "c", "d"),
            node("MatMul", "d v", "e"),
            node("MatMul", "e u", "y"),
        ],
        {"x": ["N", 3, 5, 8]}, {"y": ["N", 3, 5, 2]},
        {"w": w(8, 8), "b": w(8), "v": w(3, 8, 4), "u": w(1, 1, 4, 2)},
    )


@awkward
def matmul_rank_1():
    return model(
        [
            node("MatMul", "x w", "a"),
            node("Unsqueeze", "a one", "b"),
            node("MatMul", "x m", "c"),
            node("MatMul", "v m", "row"),
            node("Add", "c row", "d"),
            node("Concat", "b d", "y", axis=1),
        ],
        {"x": ["N", 8]}, {"y": ["N", 5]},
        {"w": w(8), "one": np.array([1]), "v": w(8), "m": w(8, 4)},
    )


@awkward
def matmul_by_weight_on_the_left():
    return model(
        [node("MatMul", "w x", "a"), node("MatMul", "x v", "b"), node("Add", "a b", "y")],
        {"x": ["N", 8, 8]}, {"y": ["N", 8, 8]}, {"w": w(8, 8), "v": w(8, 8)},
    )


@awkward
def add_before_and_after_matmul():
    return model(
        [
            node("Add", "b x", "a"),
            node("MatMul", "a w", "m"),
            node("Add", "b m", "n"),
            node("Add", "n column", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8]}, {"w": w(8, 8), "b": w(1, 8), "column": w(1, 1)},
    )


# ── Conv and BatchNormalization ──────────────────────────────────────────────────────────────────


@awkward
def conv_kinds():
    return model(
        [
            node("Conv", "x a", "h", pads=[0, 1, 2, 1], strides=[1, 2]),
            node("Conv", "h b", "i", group=2, dilations=[2, 1], pads=[2, 1, 2, 1]),
            node("Conv", "i depth bias", "j", group=8, auto_pad="SAME_LOWER"),
            node("Relu", "j", "k"),
            node("GlobalAveragePool", "k", "l"),
            node("Flatten", "l", "y"),
        ],
        {"x": ["N", 3, 8, 9]}, {"y": ["N", 8]},
        {"a": w(4, 3, 3, 3), "b": w(8, 2, 3, 3), "depth": w(8, 1, 3, 3), "bias": w(8, 1).ravel()},
    )


@awkward
def conv_of_one_axis():
    return model(
        [
            node("Conv", "x a bias", "h", pads=[2, 0]),
            node("BatchNormalization", "h s o m v", "i"),
            node("Relu", "i", "j"),
            node("MaxPool", "j", "k", kernel_shape=[2], strides=[2]),
            node("Conv", "k b", "y", group=2, dilations=[2]),
        ],
        {"x": ["N", 3, 12]}, {"y": ["N", 4, None]},
        {"a": w(4, 3, 3), "bias": w(4), "b": w(4, 2, 2), **norm(4)},
    )


@awkward
def conv_of_three_axes():
    return model(
        [node("Conv", "x a", "h", pads=[1] * 6), node("Relu", "h", "y")],
        {"x": ["N", 2, 4, 4, 4]}, {"y": ["N", 3, 4, 4, 4]}, {"a": w(3, 2, 3, 3, 3)},
    )


@awkward
def conv_by_activation():
    return model(
        [
            node("Slice", "x zero one zero", "first"),
            node("Reshape", "first shape", "f"),
            node("Conv", "x f", "y"),
        ],
        {"x": ["N", 4, 4, 4]}, {"y": ["N", 2, 4, 4]},
        {"zero": np.array([0]), "one": np.array([1]), "shape": np.array([-1, 4, 1, 1])},
    )


def norm(n):
    return {
        "s": (1 + rng.random(n)).astype(np.float32),
        "o": rng.standard_normal(n).astype(np.float32),
        "m": rng.standard_normal(n).astype(np.float32),
        "v": (0.5 + rng.random(n)).astype(np.float32),
    }


@awkward
def batchnorm_of_shared_conv():
    return model(
        [
            node("Conv", "x a", "h"),
            node("BatchNormalization", "h s o m v", "i"),
            node("Relu", "h", "j"),
            node("Add", "i j", "y"),
        ],
        {"x": ["N", 3, 6, 6]}, {"y": ["N", 4, 4, 4]}, {"a": w(4, 3, 3, 3), **norm(4)},
    )


@awkward
def batchnorm_with_tied_conv():
    return model(
        [
            node("Conv", "x a b", "h"),
            node("BatchNormalization", "h s o m v", "i"),
            node("Conv", "x a b", "j"),
            node("Add", "i j", "k"),
            node("Relu", "k", "y"),
        ],
        {"x": ["N", 3, 6, 6]}, {"y": ["N", 4, 4, 4]},
        {"a": w(4, 3, 3, 3), "b": w(4, 1).ravel(), **norm(4)},
    )


@awkward
def batchnorm_first_and_last():
    return model(
        [
            node("BatchNormalization", "x s o m v", "h"),
            node("Conv", "h a", "i", pads=[1, 1, 1, 1]),
            node("BatchNormalization", "i s o m v", "y", epsilon=0.1),
        ],
        {"x": ["N", 3, 6, 6]}, {"y": ["N", 3, 6, 6]}, {"a": w(3, 3, 3, 3), **norm(3)},
    )


@awkward
def batchnorm_of_output():
    return model(
        [node("Conv", "x a", "h"), node("BatchNormalization", "h s o m v", "y")],
        {"x": ["N", 3, 6, 6]}, {"y": ["N", 4, 4, 4], "h": ["N", 4, 4, 4]},
        {"a": w(4, 3, 3, 3), **norm(4)},
    )


@awkward
def batchnorm_of_gemm():
    return model(
        [
            node("Gemm", "x a b", "h", alpha=0.5, beta=2.0, transB=1),
            node("BatchNormalization", "h s o m v", "i"),
            node("MatMul", "i c", "j"),
            node("BatchNormalization", "j s o m v", "k"),
            node("Add", "k b", "y"),
        ],
        {"x": ["N", 6]}, {"y": ["N", 8]}, {"a": w(8, 6), "b": w(8), "c": w(8, 8), **norm(8)},
    )


# ── Graphs ───────────────────────────────────────────────────────────────────────────────────────


@awkward
def nothing_in_chains():
    return model(
        [
            node("Identity", "x", "a"),
            node("Dropout", "a", "b"),
            node("Identity", "b", "c"),
            node("MatMul", "c w", "d"),
            node("Identity", "d", "e"),
            node("Dropout", "e", "y"),
            node("Identity", "e", "z"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8], "z": ["N", 8]}, {"w": w(8, 8)},
    )


@awkward
def output_that_is_read():
    return model(
        [
            node("MatMul", "x w", "h"),
            node("Add", "h b", "y"),
            node("Relu", "y", "r"),
            node("MatMul", "r w", "z"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8], "h": ["N", 8], "r": ["N", 8], "z": ["N", 8]},
        {"w": w(8, 8), "b": w(8)},
    )


@awkward
def no_nodes():
    return model([], {"x": ["N", 8]}, {"x": ["N", 8]})


@awkward
def outputs_are_constants():
    return model(
        [node("MatMul", "x w", "y"), node("Constant", "", "k", value_float=3.0)],
        {"x": ["N", 8]}, {"y": ["N", 8], "b": [8], "k": []}, {"w": w(8, 8), "b": w(8)},
    )


@awkward
def identity_of_input_and_weight():
    return model(
        [
            node("Identity", "x", "y"),
            node("Identity", "w", "z"),
            node("MatMul", "x w", "q"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8], "z": [8, 8], "q": ["N", 8]}, {"w": w(8, 8)},
    )


@awkward
def many_dynamic_dims():
    return model(
        [
            node("Conv", "x a", "h", pads=[1, 1, 1, 1]),
            node("Relu", "h", "i"),
            node("GlobalAveragePool", "i", "j"),
            node("Shape", "j", "shape"),
            node("Slice", "shape zero one", "n"),
            node("Concat", "n minus", "to", axis=0),
            node("Reshape", "j to", "k"),
            node("Gemm", "k w", "y"),
        ],
        {"x": ["N", 3, "H", "W"]}, {"y": ["N", 4]},
        {
            "a": w(8, 3, 3, 3), "w": w(8, 4), "zero": np.array([0]), "one": np.array([1]),
            "minus": np.array([-1]),
        },
    )


@awkward
def names_that_are_odd():
    long, odd = "n" * 4000, "a/b:c d\"'\\\t%s{}<é☃>;--"
    return model(
        [
            helper.make_node("MatMul", ["x", long], [odd], name=odd),
            helper.make_node("Relu", [odd], [odd + "_quantized"], name=odd + "_quant"),
            helper.make_node("Gemm", [odd + "_quantized", odd + "_scale"], ["y"], name=long),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8]}, {long: w(8, 8), odd + "_scale": w(8, 8)},
    )


@awkward
def names_the_passes_use():
    return model(
        [
            node("MatMul", "x w", "x_quantized"),
            node("MatMul", "x_quantized w_quantized", "x_scale"),
            node("Relu", "x_scale", "x_zero_point"),
            node("Gemm", "x_zero_point w_scale w_zero_point", "x_DequantizeLinear_Output"),
            node("Identity", "x_DequantizeLinear_Output", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8]},
        {"w": w(8, 8), "w_quantized": w(8, 8), "w_scale": w(8, 8), "w_zero_point": w(8)},
    )


def branch(name, *nodes):
    out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), name, [], [out])


@awkward
def branches_that_capture():
    return model(
        [
            node("MatMul", "x w", "h"),
            node("Relu", "h", "r"),
            node("ReduceSum", "r", "sum", keepdims=0),
            node("Greater", "sum zero", "positive"),
            node(
                "If", "positive", "c",
                then_branch=branch("t", node("MatMul", "r w", "t")),
                else_branch=branch("e", node("MatMul", "h w", "e0"), node("Add", "e0 b", "e")),
            ),
            node("MatMul", "c v", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 4]},
        {"w": w(8, 8), "b": w(8), "v": w(8, 4), "zero": np.float32(0)},
    )


@awkward
def branches_that_capture_what_could_be_folded():
    return model(
        [
            node("Conv", "x a", "h"),
            node("BatchNormalization", "h s o m v", "i"),
            node("Identity", "i", "j"),
            node("Transpose", "weight", "turned"),
            node("ReduceSum", "j", "sum", keepdims=0),
            node("Greater", "sum zero", "positive"),
            node(
                "If", "positive", "y",
                then_branch=branch("t", node("MatMul", "i turned", "t")),
                else_branch=branch("e", node("Neg", "j", "e")),
            ),
        ],
        {"x": ["N", 3, 6, 6]}, {"y": ["N", 4, 4, 4]},
        {"a": w(4, 3, 3, 3), "weight": w(4, 4), "zero": np.float32(0), **norm(4)},
    )


@awkward
def loop_that_captures():
    body = helper.make_graph(
        [node("MatMul", "state w", "next"), node("Identity", "go", "again")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    return model(
        [
            node("MatMul", "x w", "h"),
            node("Loop", "times yes h", "l", body=body),
            node("MatMul", "l v", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 4]},
        {"w": w(8, 8), "v": w(8, 4), "times": np.int64(2), "yes": np.array(True)},
    )


@awkward
def foreign_operator():
    return model(
        [
            node("MatMul", "x w", "h"),
            node("Gelu", "h", "g", domain="com.microsoft"),
            node("MatMul", "g v", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 4]}, {"w": w(8, 8), "v": w(8, 4)}, domains=["com.microsoft"],
    )


@awkward
def residual_and_concat():
    return model(
        [
            node("Conv", "x a", "h", pads=[1, 1, 1, 1]),
            node("Clip", "h zero six", "i"),
            node("Conv", "i b", "j", pads=[1, 1, 1, 1]),
            node("Add", "j x", "k"),
            node("Concat", "k i x", "l", axis=1),
            node("AveragePool", "l", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Sigmoid", "m", "n"),
            node("Mul", "n m", "o"),
            node("Flatten", "o", "p"),
            node("Gemm", "p w", "q"),
            node("Softmax", "q", "y"),
        ],
        {"x": ["N", 4, 6, 6]}, {"y": ["N", 5]},
        {
            "a": w(4, 4, 3, 3), "b": w(4, 4, 3, 3), "w": w(108, 5),
            "zero": np.float32(0), "six": np.float32(6),
        },
    )


@awkward
def input_read_by_many():
    return model(
        [
            node("Relu", "x", "r"),
            node("MatMul", "x w", "a"),
            node("MatMul", "r w", "b"),
            node("Sub", "a b", "c"),
            node("Mul", "c x", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 8]}, {"w": w(8, 8)},
    )


@awkward
def attention():
    return model(
        [
            node("MatMul", "x a", "q"),
            node("MatMul", "x b", "k"),
            node("MatMul", "x c", "v"),
            node("Transpose", "k", "t", perm=[0, 2, 1]),
            node("MatMul", "q t", "s"),
            node("Mul", "s root", "scaled"),
            node("Softmax", "scaled", "p", axis=-1),
            node("MatMul", "p v", "o"),
            node("MatMul", "o d", "e"),
            node("Add", "e x", "f"),
            node("LayerNormalization", "f gamma beta", "y"),
        ],
        {"x": ["N", 5, 8]}, {"y": ["N", 5, 8]},
        {
            "a": w(8, 8), "b": w(8, 8), "c": w(8, 8), "d": w(8, 8), "root": np.float32(0.35),
            "gamma": np.ones(8, np.float32), "beta": w(8),
        },
    )


@awkward
def parts_and_places():
    return model(
        [
            node("Conv", "x a", "h"),
            node("Split", "h sizes", "s t", axis=1),
            node("Relu", "s", "u"),
            node("Concat", "t u", "v", axis=1),
            node("MaxPool", "v", "p i", kernel_shape=[2, 2], strides=[2, 2]),
            node("Cast", "i", "places", to=TensorProto.FLOAT),
            node("Mul", "places zero", "none"),
            node("Add", "p none", "sum"),
            node("Transpose", "sum", "o", perm=[0, 2, 3, 1]),
            node("MatMul", "o m", "y"),
        ],
        {"x": ["N", 3, 7, 7]}, {"y": ["N", None, None, 3]},
        {"a": w(4, 3, 2, 2), "sizes": np.array([2, 2]), "zero": np.float32(0), "m": w(4, 3)},
    )


@awkward
def shapes_that_copy_zeros():
    return model(
        [
            node("Reshape", "x a", "h"),
            node("Reshape", "h b", "i"),
            node("MatMul", "i w", "j"),
            node("Reshape", "j c", "k"),
            node("Transpose", "k", "l", perm=[1, 0]),
            node("Transpose", "l", "y", perm=[1, 0]),
        ],
        {"x": ["N", 4, 4]}, {"y": ["N", 16]},
        {"a": np.array([0, 2, 8]), "b": np.array([0, 0, -1]), "w": w(8, 8), "c": np.array([0, -1])},
    )


@awkward
def rows_of_a_table():
    return model(
        [
            node("Cast", "x", "whole", to=TensorProto.INT64),
            node("Abs", "whole", "i"),
            node("Gather", "table i", "e"),
            node("ReduceMean", "e", "m", axes=[1], keepdims=0),
            node("Gemm", "m w", "h"),
            node("Gemm", "h table", "y", transB=1),
        ],
        {"x": ["N", 8]}, {"y": ["N", 10]}, {"table": w(10, 8), "w": w(8, 8)},
    )


@awkward
def biases_that_are_huge():
    return model(
        [
            node("Conv", "x a b", "h"),
            node("Relu", "h", "r"),
            node("Flatten", "r", "f"),
            node("Gemm", "f g c", "y"),
        ],
        {"x": ["N", 2, 4, 4]}, {"y": ["N", 2]},
        {
            "a": w(3, 2, 3, 3) * np.float32(1e-4), "b": np.array([1000, -3, 1e6], np.float32),
            "g": w(12, 2), "c": np.array([1e5, 0], np.float32),
        },
    )


def small_cnn(opset):
    squeeze = [node("Flatten", "k", "l"), node("Gemm", "l w b", "y")]
    return model(
        [
            node("Conv", "x a c", "h", pads=[1, 1, 1, 1]),
            node("BatchNormalization", "h s o m v", "i"),
            node("Relu", "i", "j"),
            node("MaxPool", "j", "k", kernel_shape=[2, 2], strides=[2, 2]),
            *squeeze,
        ],
        {"x": ["N", 3, 6, 6]}, {"y": ["N", 5]},
        {"a": w(4, 3, 3, 3), "c": w(4, 1).ravel(), "w": w(36, 5), "b": w(5), **norm(4)},
        opset=opset, ir=3 if opset < 9 else 7 if opset < 15 else 8, weights_are_inputs=opset < 9,
    )


for opset in (7, 9, 11, 12, 13, 15, 18, 19, 21):
    MODELS[f"cnn_of_opset_{opset}"] = lambda opset=opset: small_cnn(opset)


# ── The passes ───────────────────────────────────────────────────────────────────────────────────


@awkward
def unknown_operator():
    return model(
        [
            node("MatMul", "x w", "h"),
            node("CDist", "h c", "g", domain="com.microsoft", metric="euclidean"),
            node("MatMul", "g v", "y"),
        ],
        {"x": ["N", 8]}, {"y": ["N", 4]}, {"w": w(8, 8), "c": w(8, 8), "v": w(8, 4)},
        domains=["com.microsoft"],
    )


SEQUENCES = [
    "optimize",
    "quantize_dynamic",
    "quantize_dynamic weight_type=uint8 per_channel=false",
    "quantize_static",
    "quantize_static activation_type=int8 per_channel=false",
    "quantize_static pre_optimize=false calibration=minmax",
    "prune_unstructured",
    "optimize > optimize",
    "quantize_dynamic > quantize_dynamic > prune_unstructured",
    "quantize_dynamic > optimize",
    "quantize_weights bits=8",
    "quantize_weights bits=8 block_size=16 > prune_unstructured",
    "quantize_static > quantize_static > prune_unstructured",
    "quantize_static > quantize_dynamic > optimize",
    "prune_unstructured > quantize_dynamic",
    "prune_unstructured > optimize > quantize_static",
]

# A pass may refuse a model, with a reason: (models, pass, words of it).
REFUSALS = [
    (["weights_with_nan", "weights_with_inf"], "prune_unstructured", "tensor 'v': element 27 is"),
    (["unknown_operator"], "quantize_static", "com.microsoft.CDist"),
]

# What our engine does not run: evaluation says so, the passes that need not run the model work.
NOT_RUN = {
    "double_weights": "float64",
    "unknown_operator": "operator com.microsoft.CDist",
}


def refusal(name, step):
    return [words for models, p, words in REFUSALS if name in models and step.split()[0] == p]


def distance(a, b):
    """The length of the difference over the length of b, over what is finite in both."""
    a, b = (np.asarray(v, np.float64).ravel() for v in (a, b))
    assert a.shape == b.shape
    finite = np.isfinite(b)
    assert (np.isfinite(a) == finite).all()
    return np.linalg.norm((a - b)[finite]) / max(np.linalg.norm(b[finite]), 1e-30)


class Case:
    """A model on the disk with its samples, and what ONNX Runtime makes of them."""

    def __init__(self, shrink, name):
        self.shrink, self.name = shrink, name
        self.path = shrink.folder / f"awkward-{name}.onnx"
        self.data = self.path.with_suffix(".npz")
        rng.bit_generator.state = np.random.default_rng(5).bit_generator.state  # in any order
        made = MODELS[name]()
        onnx.checker.check_model(made, full_check=True)
        onnx.save(made, self.path)
        dims = [d.dim_value or 6 for d in made.graph.input[0].type.tensor_type.shape.dim]
        self.x = np.random.default_rng(1).standard_normal([N, *dims[1:]]).astype(np.float32)
        np.savez(self.data, x=self.x)
        self.before = self.theirs(self.path)

    def theirs(self, path):
        return self.shrink.session(str(path)).run(None, {"x": self.x})

    def call(self, *words):
        done = self.shrink.call(*words)
        assert done.returncode in (0, 1), done.stderr
        return done

    def ours(self, path):
        """The first output; None where the engine says why it cannot run the model."""
        out = self.path.with_suffix(".f32")
        done = self.call("predict", path, "--data", self.data, "--batch", N, "-o", out)
        if self.name in NOT_RUN:
            assert done.returncode == 1 and NOT_RUN[self.name] in done.stderr
            return None
        assert done.returncode == 0, done.stderr
        return np.fromfile(out, np.float32)

    def run(self, path, step, n):
        """The path of the result, or None where the pass may refuse the model and did."""
        out = self.path.with_name(f"awkward-{self.name}-{n}.onnx")
        amount = ["amount=0.1"] if step == "prune_unstructured" else []
        words = ["run", path, *step.split(), *amount, "--calibrate", self.data, "-o", out]
        done = self.call(*words, "--seed", 1)
        may_refuse = refusal(self.name, step)
        assert (done.returncode == 1) == (may_refuse != []), done.stderr
        if may_refuse:
            assert may_refuse[0] in done.stderr
            return None
        onnx.checker.check_model(onnx.load(out), full_check=True)
        return out


@pytest.mark.parametrize("name", MODELS)
def test_awkward_models_keep_their_function(shrink, name):
    case = Case(shrink, name)
    quantized, pruned = 0.08, 0.35
    ours = case.ours(case.path)
    assert ours is None or distance(ours, case.before[0]) < 1e-5
    for sequence in SEQUENCES:
        path = case.path
        for n, step in enumerate(sequence.split(" > ")):
            path = case.run(path, step, n)
            if path is None:
                break
        if path is None:
            continue
        after, ours = case.theirs(path), case.ours(path)
        limit = pruned if "prune" in sequence else quantized if "quantize" in sequence else 1e-5
        far = [distance(a, b) for a, b in zip(after, case.before, strict=True)]
        assert max(far) < limit, (sequence, far)
        same = 5e-3 if "quantize" in sequence else 1e-5
        assert ours is None or distance(ours, after[0]) < same, sequence
