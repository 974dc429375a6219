"""Weights that quantize_dynamic stores as integers and computes with in float: Gather, GRU, RNN."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(21)
V, C = 300, 48


def save(path, nodes, constants, inputs, opset=17, rank=None):
    types = {"ids": TensorProto.INT64}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None if rank is None else [None] * rank)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def quantize(shrink, path, *words):
    small = path.with_name("small.onnx")
    done = shrink.call("run", path, "quantize_dynamic", *words, "-o", small)
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(onnx.load(small), full_check=True)
    return small, done.stdout


def ops(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def ours(shrink, path, x):
    """Our engine's output for the rows of x as one batch."""
    data, out = path.with_name("x.npy"), path.with_name("out.f32")
    np.save(data, x)
    done = shrink.call("predict", path, "--data", data, "--batch", len(x), "-o", out)
    assert done.returncode == 0, done.stderr
    return np.fromfile(out, np.float32)


def sqnr(real, y):
    return 10 * np.log10(np.square(real).sum() / np.square(real - y).sum())


def table():
    """As of embeddings: a few columns are far larger than the rest."""
    t = RNG.standard_normal((V, C)).astype(np.float32) / 30
    t[:, 3] *= 40
    return t


FORMS = [((), np.int8, 30), (("per_channel=false",), np.int8, 15), (("weight_type=uint8",), np.uint8, 30)]


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("words, dtype, least", FORMS, ids=str)
@pytest.mark.parametrize("shape", [(), (2, 3)], ids=str)
def test_rows_of_a_table_come_from_integers(shrink, tmp_path, opset, words, dtype, least, shape):
    t = table()
    path = save(tmp_path / "m.onnx", [helper.make_node("Gather", ["t", "ids"], ["y"])], {"t": t},
                {"ids": shape}, opset, len(shape) + 1)
    small, _ = quantize(shrink, path, *words)
    assert ops(small) == ["Gather", "DequantizeLinear"]
    stored = {i.name: numpy_helper.to_array(i) for i in onnx.load(small).graph.initializer}
    assert stored["t_quantized"].dtype == dtype
    assert path.stat().st_size / small.stat().st_size > 3.4
    ids = RNG.integers(-V, V, shape)
    y = shrink.session(small).run(None, {"ids": ids})[0]
    zero = stored.get("t_zero_point", np.zeros(1, dtype)).astype(np.float32)
    real = (stored["t_quantized"].astype(np.float32) - zero) * stored["t_scale"]
    assert (y == real[ids]).all()
    assert sqnr(t, real) > least
    if shape:
        assert (ours(shrink, small, ids).reshape(y.shape) == y).all()


@pytest.mark.parametrize("transposed", [1, 0])
@pytest.mark.parametrize("first", ["Gather", "Gemm"])
@pytest.mark.parametrize("words, dtype, least", FORMS, ids=str)
def test_a_table_that_a_product_reads_is_stored_once(shrink, tmp_path, transposed, first, words, dtype, least):
    t = RNG.standard_normal((V, C) if transposed else (C, C)).astype(np.float32)
    gather = helper.make_node("Gather", ["t", "ids"], ["rows"])
    gemm = helper.make_node("Gemm", ["x", "t"], ["z"], transB=transposed)
    nodes = [gather, gemm] if first == "Gather" else [gemm, gather]
    nodes += [helper.make_node("Concat", ["rows", "z"], ["y"], axis=1)]
    path = save(tmp_path / "m.onnx", nodes, {"t": t}, {"ids": ("N",), "x": ("N", C)}, rank=2)
    small, _ = quantize(shrink, path, *words)
    stored = [numpy_helper.to_array(i) for i in onnx.load(small).graph.initializer]
    assert [i.size for i in stored if i.dtype == dtype and i.size > V] == [t.size]
    assert sum(i.nbytes for i in stored) < t.nbytes / 4 + 4 * V
    feed = {"ids": RNG.integers(0, len(t), 9), "x": RNG.standard_normal((9, C)).astype(np.float32)}
    real = np.concatenate([t[feed["ids"]], feed["x"] @ (t.T if transposed else t)], 1)
    assert sqnr(real, shrink.session(small).run(None, feed)[0]) > 27


@pytest.mark.parametrize("op, gates", [("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(
    "words, opset", [((), 11), ((), 14), (("per_channel=false",), 14), (("weight_type=uint8",), 14)], ids=str)
def test_recurrent_weights_are_integers_in_the_file(shrink, tmp_path, op, gates, direction, words, opset):
    d, h, i, s = 1 + (direction != "forward"), 40, 24, 7
    shapes = {"w": (d, gates * h, i), "r": (d, gates * h, h), "b": (d, 2 * gates * h)}
    constants = {k: (RNG.standard_normal(v) / 5).astype(np.float32) for k, v in shapes.items()}
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(op, ["steps", "w", "r", "b"], ["out"], "cell", hidden_size=h, direction=direction),
        helper.make_node("Transpose", ["out"], ["y"], perm=[2, 0, 1, 3]),
    ]
    path = save(tmp_path / "m.onnx", nodes, constants, {"x": ("N", s, i)}, opset, 4)
    small, told = quantize(shrink, path, *words)
    assert "computed with in float" in told
    assert ops(small).count("DequantizeLinear") == 2 and op in ops(small)
    before = sum(constants[k].nbytes for k in "wr")
    after = sum(numpy_helper.to_array(t).nbytes for t in onnx.load(small).graph.initializer
                if t.name[:2] in ("w_", "r_"))
    assert before / after > 3.2
    x = RNG.standard_normal((5, s, i)).astype(np.float32)
    theirs = shrink.session(small).run(None, {"x": x})[0]
    assert np.abs(ours(shrink, small, x).reshape(theirs.shape) - theirs).max() < 1e-5
    assert sqnr(shrink.session(path).run(None, {"x": x})[0], theirs) > 30


def test_a_table_that_is_read_in_float_too_stays(shrink, tmp_path):
    nodes = [
        helper.make_node("Gather", ["t", "ids"], ["rows"], "embed"),
        helper.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
        helper.make_node("Add", ["rows", "s"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"t": table()}, {"ids": ("N",)}, rank=2)
    small, told = quantize(shrink, path)
    assert "skipped\tembed\tGather: its weights stay in float too" in told
    assert ops(small) == ["Gather", "ReduceSum", "Add"]


def test_an_opset_that_cannot_be_raised_leaves_one_scale(shrink, tmp_path):
    nodes = [
        helper.make_node("Gather", ["t", "ids"], ["rows"]),
        helper.make_node("Imaginary", ["rows"], ["y"], domain=""),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"t": table()}, {"ids": ("N",)}, 11)
    small = tmp_path / "small.onnx"
    done = shrink.call("run", path, "quantize_dynamic", "-o", small)
    assert done.returncode == 0, done.stderr
    assert "a scale for each tensor" in done.stdout
    model = onnx.load(small)
    assert model.opset_import[0].version == 11
    scale = next(i for i in model.graph.initializer if i.name == "t_scale")
    assert not scale.dims
