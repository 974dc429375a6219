"""quantize_static format=qoperator: which operators it writes, and that ONNX Runtime's CPU loads them
and computes what our engine computes, which is what the QDQ form of the same model gives."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

N = 64
rng = np.random.default_rng(5)


class Net:
    def __init__(self, shape):
        self.nodes, self.weights, self.shape = [], [], shape

    def constant(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, *inputs, n_out=1, **attributes):
        out = [f"{op.lower()}{len(self.nodes)}_{i}" for i in range(n_out)]
        self.nodes.append(helper.make_node(op, inputs, out, f"n{len(self.nodes)}", **attributes))
        return out[0] if n_out == 1 else out

    def conv(self, x, c_in, c_out, k, **attributes):
        w = rng.standard_normal((c_out, c_in // attributes.get("group", 1), k, k)) / k
        b = rng.standard_normal(c_out) / 4
        return self.node("Conv", x, self.constant(w.astype(np.float32)),
                         self.constant(b.astype(np.float32)), **attributes)

    def gemm(self, x, k, n):
        w = self.constant((rng.standard_normal((n, k)) / 4).astype(np.float32))
        return self.node("Gemm", x, w, self.constant(rng.standard_normal(n).astype(np.float32)),
                         transB=1)

    def save(self, path, y):
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", 1, ["N", *self.shape])],
            [helper.make_tensor_value_info(y, 1, None)], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)


def images():
    """Every operator of images that has an integer form."""
    net = Net((3, 12, 12))
    x = net.node("Clip", net.conv("x", 3, 8, 3, pads=[1] * 4), net.constant(np.float32(0)),
                 net.constant(np.float32(2)))
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    a, b = net.conv(x, 8, 8, 3, pads=[1] * 4, group=8), net.node("Relu", net.conv(x, 8, 8, 1))
    x = net.node("Concat", a, b, axis=1)
    a, b = net.node("Split", x, n_out=2, axis=1)
    x = net.node("Mul", net.conv(a, 8, 8, 1), net.conv(b, 8, 8, 1))
    x = net.node("Relu", net.node("Add", x, net.conv(a, 8, 8, 1)))
    x = net.conv(net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), 8, 12, 2)
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    x = net.gemm(net.node("Relu", net.gemm(x, 12, 16)), 16, 5)
    return net, x, {"QLinearConv": 7, "QLinearConcat": 1, "QLinearMul": 1, "QLinearAdd": 1,
                    "QLinearAveragePool": 1, "QLinearGlobalAveragePool": 1, "QGemm": 2, "MaxPool": 1,
                    "Split": 1, "Flatten": 1, "QuantizeLinear": 1}


def matrices():
    """MatMul with an integer output and one whose output is used in float, and what moves between."""
    net = Net((6, 8))

    def product(x, k, n):
        w = net.constant((rng.standard_normal((k, n)) / 3).astype(np.float32))
        return net.node("MatMul", x, w)

    x = net.node("Transpose", product("x", 8, 10), perm=[0, 2, 1])
    x = net.node("Slice", product(x, 6, 6), *map(net.constant, np.array([[1], [9], [1]])))
    x = net.node("Tanh", product(net.node("Reshape", x, net.constant(np.array([-1, 48]))), 48, 7))
    return net, x, {"QLinearMatMul": 2, "MatMul": 1, "Transpose": 1, "Slice": 1, "Reshape": 1,
                    "Tanh": 1, "QuantizeLinear": 1, "DequantizeLinear": 2}


def outputs(shrink, folder, path, x):
    done = shrink.call("predict", path, "--data", folder / "x.npy", "--batch", N, "-o",
                       folder / "y.f32")
    assert done.returncode == 0, done.stderr
    theirs = shrink.session(path).run(None, {"x": x})[0]
    return np.fromfile(folder / "y.f32", np.float32).reshape(theirs.shape), theirs


@pytest.mark.parametrize("arguments", [(), ("activation_type=int8",), ("per_channel=false",)],
                         ids=["default", "int8", "per-tensor"])
@pytest.mark.parametrize("make", [images, matrices])
def test_integers_are_those_of_the_qdq_form(shrink, tmp_path, make, arguments):
    net, last, expected = make()
    net.save(tmp_path / "m.onnx", last)
    x = rng.standard_normal((N, *net.shape)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    made = {}
    for form in "qdq", "qoperator":
        made[form] = tmp_path / f"{form}.onnx"
        done = shrink.call("run", tmp_path / "m.onnx", "quantize_static", "calibration=minmax",
                           f"format={form}", *arguments, "--calibrate", tmp_path / "x.npy", "-o",
                           made[form], "--seed", 1)
        assert done.returncode == 0, done.stderr
    model = onnx.load(made["qoperator"])
    ops = [node.op_type for node in model.graph.node]
    assert {op: ops.count(op) for op in ops} == expected
    ours, theirs = outputs(shrink, tmp_path, made["qoperator"], x)
    ours_qdq, _ = outputs(shrink, tmp_path, made["qdq"], x)
    assert np.array_equal(ours, ours_qdq)
    span = theirs.max() - theirs.min()
    assert np.abs(ours - theirs).max() <= 2e-2 * span
    assert np.median(np.abs(ours - theirs)) <= 1e-5 * span


def test_an_activation_that_its_range_does_not_imply_stays(shrink, tmp_path):
    """A Clip at 1 in front of a range to 2 cuts what the integers could hold."""
    net = Net((4,))
    x = net.node("Clip", net.gemm("x", 4, 8), net.constant(np.float32(0)),
                 net.constant(np.float32(1)))
    clipped = x
    net.save(tmp_path / "m.onnx", net.gemm(x, 8, 3))
    x = rng.standard_normal((N, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    made = tmp_path / "q.onnx"
    done = shrink.call("run", tmp_path / "m.onnx", "quantize_static", "format=qoperator",
                       f"ranges={clipped}=0:2", "--calibrate", tmp_path / "x.npy", "-o", made)
    assert done.returncode == 0, done.stderr
    ops = [node.op_type for node in onnx.load(made).graph.node]
    assert ops == ["QuantizeLinear", "QGemm", "Clip", "QuantizeLinear", "QGemm"]
    ours, theirs = outputs(shrink, tmp_path, made, x)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
