"""Weights stored in 16 bits: what the pass emits, judged by ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import MODELS

STORED = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
@pytest.mark.parametrize("kind", STORED)
def test_examples_halve_and_keep_their_accuracy(shrink, name, kind):
    model = MODELS / f"{name}.onnx"
    small = shrink.run(model, "convert", f"type={kind}")
    ours, theirs, whole = shrink.ours(small), shrink.theirs(small), shrink.theirs(model)
    assert np.abs(ours - theirs).max() < 1e-3
    assert abs(shrink.accuracy(theirs) - shrink.accuracy(whole)) < 0.002
    noise = np.square(theirs - whole).sum() / np.square(whole).sum()
    assert noise < {"float16": 1e-6, "bfloat16": 1e-4}[kind]
    assert model.stat().st_size / small.stat().st_size > {"mlp": 1.95, "cnn": 1.9, "lstm": 1.8}[name]
    kinds = [one.data_type for one in onnx.load(small).graph.initializer]
    assert kinds.count(STORED[kind]) >= 3


def test_stored_values_are_those_of_numpy(shrink):
    whole = {one.name: one for one in onnx.load(MODELS / "mlp.onnx").graph.initializer}
    small = onnx.load(shrink.run(MODELS / "mlp.onnx", "convert"))
    halves = [one for one in small.graph.initializer if one.data_type == TensorProto.FLOAT16]
    assert halves
    for one in halves:
        before = numpy_helper.to_array(whole[one.name.removesuffix("_float16")])
        assert np.array_equal(numpy_helper.to_array(one), before.astype(np.float16))


@pytest.mark.parametrize("kind", STORED)
def test_it_loads_without_the_optimizer(shrink, kind):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name in ("mlp", "cnn", "lstm"):
        small = shrink.run(MODELS / f"{name}.onnx", "convert", f"type={kind}")
        onnxruntime.InferenceSession(small, options, providers=["CPUExecutionProvider"])


def test_a_model_of_an_old_opset_is_raised_for_bfloat16(shrink, tmp_path):
    w = np.random.default_rng(3).standard_normal((32, 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32])],
        [numpy_helper.from_array(w, "w")],
    )
    path, small = tmp_path / "m.onnx", tmp_path / "s.onnx"
    onnx.save(helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 9)]), path)
    x = np.ones((2, 32), np.float32)
    for kind, opset in (("float16", 9), ("bfloat16", 13)):
        done = shrink.call("run", path, "convert", f"type={kind}", "-o", small)
        assert done.returncode == 0, done.stderr
        model = onnx.load(small)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version == opset
        y = shrink.session(small).run(None, {"x": x})[0]
        assert np.abs(y - x @ w).max() < 0.1
