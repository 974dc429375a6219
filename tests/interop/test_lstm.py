"""Dynamically quantized LSTMs, judged by ONNX Runtime.

ONNX Runtime gives H one scale a step for the rows that a thread computes, so its sessions have one
thread (conftest). Without VNNI it adds two products of uint8 and int8 in int16, which saturates:
integers here are of 7 bits, as those of reduce_range=auto need not be but are as safe.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import FASHION, MODELS, TEST

RNG = np.random.default_rng(11)
SHAPES = [(1, 1, 1, 1), (6, 3, 5, 7), (9, 1, 28, 64), (4, 33, 17, 20)]  # steps, rows, inputs, units
SEQUENCE = {"forward": 1, "reverse": 1, "bidirectional": 2}


def save(path, nodes, constants, width, opset=14):
    """X (N, S, I) -> the nodes, which make Y (S, D, N, H), Y_h and Y_c -> all of them, (N, S + 2, D, H)."""
    axis = numpy_helper.from_array(np.array([1]), "axis")
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        *nodes,
        helper.make_node("Transpose", ["y"], ["y_rows"], perm=[2, 0, 1, 3]),
        helper.make_node("Transpose", ["y_h"], ["h_rows"], perm=[1, 0, 2]),
        helper.make_node("Unsqueeze", ["h_rows", "axis"], ["h_step"]),
        helper.make_node("Transpose", ["y_c"], ["c_rows"], perm=[1, 0, 2]),
        helper.make_node("Unsqueeze", ["c_rows", "axis"], ["c_step"]),
        helper.make_node("Concat", ["y_rows", "h_step", "c_step"], ["out"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *width])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", None, None, None])],
        [axis, *(numpy_helper.from_array(v, k) for k, v in constants.items())],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def both(shrink, model, x):
    """Outputs of the whole of x as one batch: ours and ONNX Runtime's."""
    data, out = shrink.folder / "x.npy", shrink.folder / "out.f32"
    np.save(data, x)
    done = shrink.call("predict", model, "--data", data, "--batch", len(x), "-o", out)
    assert done.returncode == 0, done.stderr
    theirs = shrink.session(model).run(None, {"x": x})[0]
    return np.fromfile(out, np.float32).reshape(theirs.shape), theirs


def assert_agree(ours, theirs):
    """A state that is rounded the other way may move what follows by a step; most must be equal."""
    span = theirs.max() - theirs.min()
    error = np.abs(ours - theirs)
    assert error.max() <= 1e-3 * span
    assert np.median(error) <= 1e-6 * span


def samples(n, s, i):
    """Rows and steps of different ranges."""
    spread = np.exp(RNG.standard_normal((n, 1, 1)) + RNG.standard_normal((1, s, 1)))
    return (RNG.standard_normal((n, s, i)) * spread).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("direction", list(SEQUENCE))
@pytest.mark.parametrize("columns", [False, True], ids=["tensor", "columns"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=["int8", "uint8"])
def test_dynamic_quantize_lstm_agrees(shrink, shape, direction, columns, dtype):
    s, n, i, h = shape
    d = SEQUENCE[direction]
    low, high = (-64, 65) if dtype == np.int8 else (0, 128)
    params = (d, 4 * h) if columns else (d,)
    # ONNX Runtime wants the zero points of columns to be alike, and 0 in int8
    zero = RNG.integers(-9, 9, d) if not columns else np.zeros(params)
    constants = {
        "w": RNG.integers(low, high, (d, i, 4 * h)).astype(dtype),
        "r": RNG.integers(low, high, (d, h, 4 * h)).astype(dtype),
        "b": (RNG.standard_normal((d, 8 * h)) / 5).astype(np.float32),
        "ws": RNG.uniform(0.002, 0.01, params).astype(np.float32),
        "rs": RNG.uniform(0.002, 0.01, params).astype(np.float32),
        "z": (zero + (64 if dtype == np.uint8 else 0)).astype(dtype),
    }
    inputs = ["steps", "w", "r", "b", "", "", "", "", "ws", "z", "rs", "z"]
    node = helper.make_node(
        "DynamicQuantizeLSTM", inputs, ["y", "y_h", "y_c"], domain="com.microsoft",
        hidden_size=h, direction=direction,
    )
    model = save(shrink.folder / "operator.onnx", [node], constants, (s, i))
    assert_agree(*both(shrink, model, samples(n, s, i)))


PASS_CASES = [
    ("forward", ()),
    ("reverse", ("per_channel=false",)),
    ("bidirectional", ()),
    ("bidirectional", ("weight_type=uint8",)),
    ("bidirectional", ("per_channel=false", "reduce_range=true")),
]


def float_lstm(direction, s, i, h, **attributes):
    d = SEQUENCE[direction]
    shapes = {"w": (d, 4 * h, i), "r": (d, 4 * h, h), "b": (d, 8 * h), "p": (d, 3 * h)}
    constants = {k: (RNG.standard_normal(v) / 4).astype(np.float32) for k, v in shapes.items()}
    node = helper.make_node(
        "LSTM", ["steps", "w", "r", "b", "", "", "", "p"], ["y", "y_h", "y_c"], "cell",
        hidden_size=h, direction=direction, **attributes,
    )
    return node, constants


@pytest.mark.parametrize("coupled", [0, 1])
@pytest.mark.parametrize("case", PASS_CASES, ids=str)
def test_quantize_dynamic_of_an_lstm_loads_and_agrees(shrink, tmp_path, case, coupled):
    direction, arguments = case
    s, n, i, h = 12, 6, 10, 24
    more = {"input_forget": 1} if coupled else {}
    node, constants = float_lstm(direction, s, i, h, **more)
    model = save(tmp_path / "float.onnx", [node], constants, (s, i))
    small = tmp_path / "small.onnx"
    done = shrink.call("run", model, "quantize_dynamic", *arguments, "-o", small)
    assert done.returncode == 0, done.stderr
    assert [x.op_type for x in onnx.load(small).graph.node].count("DynamicQuantizeLSTM") == 1
    x = RNG.standard_normal((n, s, i)).astype(np.float32)
    ours, theirs = both(shrink, small, x)
    assert_agree(ours, theirs)
    real = shrink.session(model).run(None, {"x": x})[0]
    assert 10 * np.log10(np.sum(real**2) / np.sum((real - ours) ** 2)) > 25  # dB


@pytest.mark.parametrize(
    "attributes, why",
    [
        ({"clip": 3.0}, "its sums are clipped"),
        ({"activations": ["Sigmoid", "Relu", "Tanh"]}, "its activations are not Sigmoid, Tanh, Tanh"),
    ],
    ids=["clip", "activations"],
)
def test_quantize_dynamic_leaves_what_has_no_form(shrink, tmp_path, attributes, why):
    node, constants = float_lstm("forward", 5, 4, 3, **attributes)
    model = save(tmp_path / "float.onnx", [node], constants, (5, 4))
    small = tmp_path / "small.onnx"
    done = shrink.call("run", model, "quantize_dynamic", "-o", small)
    assert done.returncode == 0, done.stderr
    assert f"skipped\tcell\tLSTM: {why}" in done.stdout
    assert "LSTM" in [x.op_type for x in onnx.load(small).graph.node]
    x = samples(2, 5, 4)
    assert (shrink.session(small).run(None, {"x": x})[0] == shrink.session(model).run(None, {"x": x})[0]).all()


def tensors(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_the_example_is_small_accurate_and_agrees(shrink):
    model = MODELS / "lstm.onnx"
    small = shrink.run(model, "quantize_dynamic")
    assert shrink.fused(small)["DynamicQuantizeLSTM"] == 1
    before, after = tensors(model), tensors(small)
    cell = next(n for n in onnx.load(small).graph.node if n.op_type == "DynamicQuantizeLSTM")
    bytes_after = sum(after[cell.input[i]].nbytes for i in (1, 2, 8, 9, 10, 11))
    bytes_before = sum(w.nbytes for w in before.values() if w.ndim == 3)
    assert bytes_before / bytes_after > 3
    real, ours, theirs = shrink.theirs(model), shrink.ours(small), shrink.theirs(small)
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) >= 0.99
    for logits in (ours, theirs):
        assert shrink.accuracy(logits) >= shrink.accuracy(real) - 0.003


def test_the_example_keeps_its_parameters_and_macs(shrink):
    model = MODELS / "lstm.onnx"
    small = shrink.run(model, "quantize_dynamic")
    data = f"{TEST},{FASHION / 't10k-labels-idx1-ubyte.gz'}"
    figures = []
    for candidate in (model, small):
        done = shrink.call("eval", model, candidate, "--data", data, "--count", 10)
        assert done.returncode == 0, done.stderr
        figures.append(dict(line.split("\t")[:2] for line in done.stdout.splitlines()))
    assert figures[0]["parameters"] == figures[1]["parameters"] == "24714"
    assert figures[0]["macs"] == figures[1]["macs"]
