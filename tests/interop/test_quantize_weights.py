"""Weights of 4 and 8 bits in blocks: what the pass emits, judged by ONNX Runtime."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import MODELS

IN_BLOCKS = ("MatMulNBits", "GatherBlockQuantized")
RNG = np.random.default_rng(5)


def ops(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def dequantized(model, node):
    """(rows, K) as the operator's definition has it."""
    data = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    attrs = {one.name: one.i for one in node.attribute}
    gather = node.op_type == "GatherBlockQuantized"
    q = data[node.input[0 if gather else 1]]
    scale = data[node.input[2]]
    rows, blocks = scale.shape
    per_byte = 8 // attrs["bits"]

    def unpacked(x, n):
        x = x.reshape(rows, -1)
        parts = [x >> (i * attrs["bits"]) & (2 ** attrs["bits"] - 1) for i in range(per_byte)]
        return np.stack(parts, -1).reshape(rows, -1)[:, :n].astype(np.float32)

    zero = np.full((rows, blocks), 2 ** (attrs["bits"] - 1), np.float32)
    if len(node.input) > 3 and node.input[3]:
        zero = unpacked(data[node.input[3]], blocks)
    q = unpacked(q, blocks * attrs["block_size"]).reshape(rows, blocks, -1)
    w = ((q - zero[..., None]) * scale[..., None]).reshape(rows, -1)
    return w[:, : attrs.get("K", w.shape[1])]


@pytest.mark.parametrize("bits,points", [(4, 0.015), (8, 0.002)])
@pytest.mark.parametrize("symmetric", ["false", "true"])
def test_the_mlp_keeps_its_accuracy(shrink, bits, points, symmetric):
    model = MODELS / "mlp.onnx"
    small = shrink.run(model, "quantize_weights", f"bits={bits}", f"symmetric={symmetric}")
    ours, theirs = shrink.ours(small), shrink.theirs(small)
    assert np.abs(ours - theirs).max() < 1e-3
    assert shrink.accuracy(theirs) > shrink.accuracy(shrink.theirs(model)) - points
    assert ops(small).count("MatMulNBits") == 3
    assert model.stat().st_size / small.stat().st_size > {4: 5.5, 8: 3.3}[bits]


@pytest.mark.parametrize("name", ["cnn", "lstm"])
def test_products_of_other_models_too(shrink, name):
    model = MODELS / f"{name}.onnx"
    small = shrink.run(model, "quantize_weights", "block_size=16")
    assert np.abs(shrink.ours(small) - shrink.theirs(small)).max() < 1e-3
    assert abs(shrink.accuracy(shrink.theirs(small)) - shrink.accuracy(shrink.theirs(model))) < 0.015


FORMS = list(itertools.product((4, 8), (16, 32, 64, 128, 256), (False, True), (False, True)))


@pytest.mark.parametrize("bits,block,symmetric,search", FORMS)
def test_blocks_mean_what_the_operator_says(shrink, tmp_path, bits, block, symmetric, search):
    k, n = 300, 7
    w = RNG.standard_normal((k, n)).astype(np.float32) * RNG.uniform(0.1, 3, (1, n)).astype(np.float32)
    w[:block, 2] = 0
    w[:block, 3] = np.abs(w[:block, 3])
    w[:block, 4] = -1.5
    path = tmp_path / "m.onnx"
    save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, {"x": ("N", k)})
    small = tmp_path / "q.onnx"
    words = [f"bits={bits}", f"block_size={block}", f"symmetric={str(symmetric).lower()}",
             f"search={str(search).lower()}"]
    done = shrink.call("run", path, "quantize_weights", *words, "-o", small)
    assert done.returncode == 0, done.stderr
    model = onnx.load(small)
    real = dequantized(model, model.graph.node[0]).T
    parts = np.pad(w, ((0, -k % block), (0, 0))).reshape(-1, block, n)
    low, high = np.minimum(parts.min(1), 0), np.maximum(parts.max(1), 0)
    step = (high - low) / (2**bits - 1)
    if symmetric:  # the larger end has 2^(bits - 1) steps
        step = np.maximum(-low, high) / 2 ** (bits - 1)
    if not search:  # half a step; at an end half a step more, since the zero point is an integer
        assert (np.abs(real - w) <= 1.001 * np.repeat(step, block, axis=0)[:k] + 1e-6).all()
        assert np.median(np.abs(real - w) / np.maximum(np.repeat(step, block, axis=0)[:k], 1e-6)) < 0.3
    assert np.abs(real[:block, 2]).max() == 0
    assert np.abs(real[:block, 4] + 1.5).max() < 1e-5
    x = RNG.standard_normal((5, k)).astype(np.float32)
    y = shrink.session(small).run(None, {"x": x})[0]
    assert np.abs(y - x @ real).max() < 1e-3


def test_the_search_is_closer(shrink, tmp_path):
    w = RNG.standard_t(4, (512, 64)).astype(np.float32)
    path = tmp_path / "m.onnx"
    save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, {"x": ("N", 512)})
    errors = []
    for search in ("false", "true"):
        small = tmp_path / f"{search}.onnx"
        done = shrink.call("run", path, "quantize_weights", "block_size=128",
                           f"search={search}", "-o", small)
        assert done.returncode == 0, done.stderr
        model = onnx.load(small)
        errors.append(np.square(dequantized(model, model.graph.node[0]).T - w).sum())
    assert errors[1] < 0.95 * errors[0]


def save(path, nodes, constants, inputs, types=None, rank=2):
    types = types or {}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), s)
         for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def same(shrink, path, small, feed, limit):
    """Ours and theirs of the small model agree, and are near the original."""
    before = shrink.session(path).run(None, feed)[0]
    theirs = shrink.session(small).run(None, feed)[0]
    assert np.abs(theirs - before).max() < limit * np.ptp(before)
    return theirs


@pytest.mark.parametrize("attributes", [
    {}, {"transB": 1}, {"transA": 1}, {"alpha": 0.5, "beta": 2.0, "transB": 1}, {"beta": 0.0},
])
@pytest.mark.parametrize("bias", [None, (48,), (1, 48), ()])
def test_gemm_in_all_its_forms(shrink, tmp_path, attributes, bias):
    k, n = 96, 48
    w = RNG.standard_normal((n, k) if attributes.get("transB") else (k, n)).astype(np.float32)
    constants = {"w": w}
    if bias is not None:
        constants["b"] = RNG.standard_normal(bias).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"][: 2 + (bias is not None)], ["y"], **attributes)
    path, small = tmp_path / "m.onnx", tmp_path / "q.onnx"
    x = (k, 5) if attributes.get("transA") else (5, k)
    save(path, [node], constants, {"x": x})
    done = shrink.call("run", path, "quantize_weights", "bits=8", "-o", small)
    assert done.returncode == 0, done.stderr
    assert "MatMulNBits" in ops(small)
    same(shrink, path, small, {"x": RNG.standard_normal(x).astype(np.float32)}, 0.01)


def test_tied_embeddings_are_stored_once(shrink, tmp_path):
    table = RNG.standard_normal((500, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("Gemm", ["x", "table"], ["y"], transB=1),
    ]
    path, small = tmp_path / "m.onnx", tmp_path / "q.onnx"
    save(path, nodes, {"table": table}, {"ids": ("N",)}, {"ids": TensorProto.INT64})
    done = shrink.call("run", path, "quantize_weights", "bits=8", "-o", small)
    assert done.returncode == 0, done.stderr
    assert {one for one in ops(small) if one in IN_BLOCKS} == set(IN_BLOCKS)
    assert small.stat().st_size < 500 * 64 * 1.25 + 2000
    same(shrink, path, small, {"ids": np.arange(0, 500, 7)}, 0.02)


def test_what_has_no_form_stays_and_says_why(shrink, tmp_path):
    nan = RNG.standard_normal((64, 64)).astype(np.float32)
    nan[3, 5] = np.nan
    constants = {
        "nan": nan, "odd": RNG.standard_normal((40, 33)).astype(np.float32),
        "narrow": RNG.standard_normal((4, 64)).astype(np.float32),
        "good": RNG.standard_normal((64, 64)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["odd", "ids"], ["a"], name="odd_rows"),
        helper.make_node("ReduceSum", ["a"], ["s"]),
        helper.make_node("MatMul", ["x", "narrow"], ["h"], name="narrow_rows"),
        helper.make_node("MatMul", ["h", "good"], ["g"], name="good_one"),
        helper.make_node("MatMul", ["g", "nan"], ["n"], name="with_nan"),
        helper.make_node("Add", ["n", "s"], ["y"]),
    ]
    path, small = tmp_path / "m.onnx", tmp_path / "q.onnx"
    save(path, nodes, constants, {"x": (5, 4), "ids": (3,)}, {"ids": TensorProto.INT64})
    done = shrink.call("run", path, "quantize_weights", "-o", small)
    assert done.returncode == 0, done.stderr
    for name, why in (("odd_rows", "not whole blocks"), ("narrow_rows", "would not be smaller"),
                      ("with_nan", "not finite")):
        line = next(line for line in done.stdout.splitlines() if name in line)
        assert why in line
    assert ops(small).count("MatMulNBits") == 1


def test_an_output_that_a_subgraph_reads_keeps_its_name(shrink, tmp_path):
    w = RNG.standard_normal((64, 64)).astype(np.float32)
    part = [helper.make_node("Neg", ["h"], ["r"])]
    other = [helper.make_node("Abs", ["h"], ["r2"])]
    out = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 64]) for n in ("r", "r2")]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("If", ["c"], ["y"],
                         then_branch=helper.make_graph(part, "t", [], out[:1]),
                         else_branch=helper.make_graph(other, "e", [], out[1:])),
    ]
    path, small = tmp_path / "m.onnx", tmp_path / "q.onnx"
    save(path, nodes, {"w": w}, {"x": ("N", 64), "c": ()}, {"c": TensorProto.BOOL})
    done = shrink.call("run", path, "quantize_weights", "bits=8", "-o", small)
    assert done.returncode == 0, done.stderr
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    same(shrink, path, small, {"x": x, "c": np.array(True)}, 0.01)
