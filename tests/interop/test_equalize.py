"""Equalization and SmoothQuant move factors between nodes: the model computes what it did before.

A filter that excludes all nodes leaves the float model with its factors moved."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sqnr_table
import stages

rng = np.random.default_rng(5)


def model(nodes, shape, constants, opset=17, outputs=("y",)):
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def uneven(*shape, axis=0):
    """Weights whose channels differ by a factor of a thousand."""
    spread = np.ones(len(shape), int)
    spread[axis] = shape[axis]
    return rng.standard_normal(shape) * 10 ** rng.uniform(-1.5, 1.5, spread)


def convolutions():
    """Dense, depthwise and grouped, pooled, and flattened into a matrix."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", group=8, pads=[1] * 4),
        helper.make_node("LeakyRelu", ["c2"], ["r2"], alpha=0.1),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], "grouped", group=4),
        helper.make_node("MaxPool", ["c3"], ["p3"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p3"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["h"], "matrix", transB=1),
        helper.make_node("Relu", ["h"], ["r4"]),
        helper.make_node("Gemm", ["r4", "w5"], ["y"], "last", alpha=0.5),
    ]
    return model(nodes, (3, 8, 8), {
        "w1": uneven(8, 3, 3, 3), "b1": rng.standard_normal(8),
        "w2": uneven(8, 1, 3, 3), "b2": rng.standard_normal(8),
        "w3": uneven(12, 2, 1, 1), "w4": uneven(10, 12 * 16), "b4": rng.standard_normal(10),
        "w5": uneven(10, 5, axis=1),
    }), (3, 8, 8), ["first", "depthwise", "grouped", "matrix"]


def transformer(decomposed):
    """A normalization whose channels differ, read by three products, one behind a Transpose."""
    gamma, beta = 10 ** rng.uniform(-1, 2, 16), rng.standard_normal(16)
    norm = [helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], "norm")]
    if decomposed:
        norm = [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[-1]),
            helper.make_node("Sub", ["x", "mean"], ["d"]),
            helper.make_node("Mul", ["d", "gamma"], ["s"]),
            helper.make_node("Add", ["beta", "s"], ["n"], "norm"),
        ]
    nodes = [
        *norm,
        helper.make_node("MatMul", ["n", "q"], ["nq"], "q"),
        helper.make_node("MatMul", ["n", "k"], ["nk"], "k"),
        helper.make_node("Transpose", ["n"], ["t"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["t", "v"], ["nv"], "v"),
        helper.make_node("Transpose", ["nv"], ["tv"], perm=[1, 0, 2]),
        helper.make_node("Add", ["nq", "nk"], ["sum"]),
        helper.make_node("Mul", ["sum", "tv"], ["y"]),
    ]
    weights = {name: rng.standard_normal((16, 8)) for name in "qkv"}
    return model(nodes, (6, 16), {"gamma": gamma, "beta": beta, **weights},
                 13 if decomposed else 17)


class Case:
    def __init__(self, folder, net, shape):
        self.folder, self.path, self.data = folder, folder / "net.onnx", folder / "x.npz"
        onnx.save(net, self.path)
        self.x = rng.standard_normal((64, *shape)).astype(np.float32)
        np.savez(self.data, x=self.x)
        self.real = self.run(self.path)

    def make(self, *arguments):
        return sqnr_table.ours(self.path, self.folder / "out.onnx", "quantize_static",
                               *arguments, "--calibrate", self.data)

    def run(self, path):
        return stages.session(path).run(None, {"x": self.x})[0]

    def error(self, path):
        return float(np.abs(self.run(path) - self.real).max() / np.abs(self.real).max())

    def sqnr(self, *arguments):
        return sqnr_table.sqnr(self.real, self.run(self.make(*arguments)))


def constants(path):
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def test_equalized_channels_have_one_range_and_the_function_stays(tmp_path):
    net, shape, _ = convolutions()
    case = Case(tmp_path, net, shape)
    path = case.make("equalize=true", "nodes.exclude=*")
    assert case.error(path) < 1e-5
    w = constants(path)
    first = np.abs(w["w1"]).max((1, 2, 3))
    depthwise = np.abs(w["w2"]).max((1, 2, 3))
    grouped = np.abs(w["w3"]).reshape(4, 3, 2).max(1).reshape(8)
    ranges = [(first, depthwise), (depthwise, grouped),
              (np.abs(w["w3"]).max((1, 2, 3)), np.abs(w["w4"]).reshape(10, 12, 16).max((0, 2))),
              (np.abs(w["w4"]).max(1), np.abs(w["w5"]).max(1))]
    for ours, next_ones in ranges:
        assert np.allclose(ours / next_ones, 1, atol=0.05)


def test_equalization_helps_where_scales_are_per_tensor(tmp_path):
    net, shape, _ = convolutions()
    case = Case(tmp_path, net, shape)
    without, equalized = case.sqnr("per_channel=false"), case.sqnr("per_channel=false", "equalize=true")
    assert equalized > without + 6


def test_what_is_between_must_let_factors_through(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], "first"),
        helper.make_node("Clip", ["c", "low", "high"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"], "second"),
    ]
    net = model(nodes, (3, 4, 4), {"w1": uneven(4, 3, 1, 1), "w2": uneven(2, 4, 1, 1),
                                   "low": 0, "high": 6})
    case = Case(tmp_path, net, (3, 4, 4))
    path = case.make("equalize=true", "nodes.exclude=*")
    assert all((w == constants(case.path)[name]).all() for name, w in constants(path).items())


@pytest.mark.parametrize("decomposed", [False, True], ids=["one node", "Mul and Add"])
def test_smoothing_keeps_the_function_and_helps(tmp_path, decomposed):
    case = Case(tmp_path, transformer(decomposed), (6, 16))
    path = case.make("smooth_quant=0.5", "nodes.exclude=*")
    assert case.error(path) < 1e-5
    before, after = constants(case.path), constants(path)
    assert not np.allclose(before["gamma"], after["gamma"])
    factor = before["gamma"] / after["gamma"]
    for name in "qkv":
        assert np.allclose(after[name], before[name] * factor[:, None], rtol=1e-5)
    assert case.sqnr("smooth_quant=0.5") > case.sqnr() + 1


def test_a_normalization_with_other_readers_is_left_alone(tmp_path):
    net = transformer(False)
    net.graph.output.append(helper.make_tensor_value_info("n", TensorProto.FLOAT, None))
    case = Case(tmp_path, net, (6, 16))
    before, after = constants(case.path), constants(case.make("smooth_quant=0.5", "nodes.exclude=*"))
    assert (before["gamma"] == after["gamma"]).all()
