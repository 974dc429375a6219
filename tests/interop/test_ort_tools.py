"""Models that onnxruntime.quantization makes, in every form it has, through our engine.

Where the operators' definition fixes the integers they must be the same: weights of 7 bits, since
without VNNI ONNX Runtime adds two products of uint8 and int8 in int16, which saturates. Models of
full range, where it would, are judged by ONNX's own evaluator instead.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from conftest import MODELS

onnxruntime.set_default_logger_severity(3)
U8, S8 = QuantType.QUInt8, QuantType.QInt8
QDQ, QOP = QuantFormat.QDQ, QuantFormat.QOperator
N = 200  # images


class Reader(CalibrationDataReader):
    def __init__(self, name, x):
        self.feeds = iter([{name: part} for part in np.split(x, 4)])

    def get_next(self):
        return next(self.feeds, None)


def images_of(shrink, source):
    shape = shrink.session(source).get_inputs()[0].shape
    return shrink.images[:N].reshape([d if isinstance(d, int) else -1 for d in shape])


def prepared(shrink, name):
    """The model as ONNX Runtime's guide wants it before quantizing."""
    path = shrink.folder / f"prepared-{name}.onnx"
    if not path.exists():
        quant_pre_process(MODELS / f"{name}.onnx", path, skip_symbolic_shape=True)
    return path


def make_static(shrink, name, **options):
    path = shrink.folder / ("-".join([name, *map(str, options.values())]) + ".onnx")
    source = prepared(shrink, name)
    first = shrink.session(source).get_inputs()[0].name
    quantize_static(source, path, Reader(first, images_of(shrink, source)), **options)
    return path


def both(shrink, path, judge=None):
    """Outputs for N images as one batch: ours and the judge's (ONNX Runtime's)."""
    x = images_of(shrink, path)
    np.save(shrink.folder / "x.npy", x)
    out = shrink.folder / "out.f32"
    done = shrink.call("predict", path, "--data", shrink.folder / "x.npy", "--batch", N, "-o", out)
    assert done.returncode == 0, done.stderr
    if judge is None:
        session = shrink.session(path)
        theirs = session.run(None, {session.get_inputs()[0].name: x})[0]
    else:
        theirs = judge.run(None, {judge.input_names[0]: x})[0]
    return np.fromfile(out, np.float32).reshape(theirs.shape), theirs


def evaluator(path):
    """ONNX's own; it has these operators from opset 19 on, where they mean the same."""
    model = onnx.load(path)
    model.opset_import[0].version = 21
    return ReferenceEvaluator(model)


def step_of(path):
    """The scale of the quantized output."""
    model = onnx.load(path)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    (last,) = [n for n in model.graph.node if model.graph.output[0].name in n.output]
    assert last.op_type == "DequantizeLinear"
    return float(constants[last.input[1]])


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("form", [QDQ, QOP])
@pytest.mark.parametrize(  # ONNX Runtime has no zero points a channel
    "activation, weight, per_channel",
    [(U8, S8, False), (U8, S8, True), (S8, S8, False), (S8, S8, True), (U8, U8, False)],
)
def test_static_models_give_the_same_integers(shrink, name, form, per_channel, activation, weight):
    path = make_static(
        shrink, name, quant_format=form, per_channel=per_channel, reduce_range=True,
        activation_type=activation, weight_type=weight,
    )
    ours, theirs = both(shrink, path)
    steps = np.rint((ours - theirs) / step_of(path))
    assert np.abs(steps).max() <= 1
    assert np.mean(steps != 0) <= 0.01


@pytest.mark.parametrize("form", [QDQ, QOP])
def test_full_range_is_not_saturated_on_the_way(shrink, form):
    path = make_static(
        shrink, "mlp", quant_format=form, per_channel=False, reduce_range=False,
        activation_type=U8, weight_type=S8,
    )
    if form == QOP:  # whose com.microsoft.QGemm the evaluator does not know
        ours, _ = both(shrink, path)
        judge = make_static(
            shrink, "mlp", quant_format=QDQ, per_channel=False, reduce_range=False,
            activation_type=U8, weight_type=S8,
        )
        ours_qdq, theirs = both(shrink, judge, evaluator(judge))
        assert np.array_equal(ours, ours_qdq)
    else:
        ours, theirs = both(shrink, path, evaluator(path))
    steps = np.rint((ours - theirs) / step_of(path))
    assert np.abs(steps).max() <= 1


@pytest.mark.parametrize("name", ["mlp", "lstm"])
@pytest.mark.parametrize("weight, per_channel", [(S8, False), (S8, True), (U8, False)])
def test_dynamic_models_agree(shrink, name, per_channel, weight):
    path = shrink.folder / f"{name}-dynamic-{per_channel}-{weight}.onnx"
    quantize_dynamic(
        prepared(shrink, name), path, weight_type=weight, per_channel=per_channel, reduce_range=True
    )
    ours, theirs = both(shrink, path)
    span = theirs.max() - theirs.min()
    assert np.abs(ours - theirs).max() <= (1e-2 if name == "lstm" else 1e-3) * span
    assert np.median(np.abs(ours - theirs)) <= 1e-5 * span


@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("symmetric", [False, True])
def test_weights_of_4_bits_agree(shrink, block, symmetric):
    rng = np.random.default_rng(3)
    helper = onnx.helper
    sizes = [784, 96, 40, 10]
    nodes, weights, x = [], [], "x"
    for i, (k, n) in enumerate(zip(sizes, sizes[1:])):
        w = (rng.standard_normal((k, n)) / np.sqrt(k)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(w, f"w{i}"))
        nodes += [helper.make_node("MatMul", [x, f"w{i}"], [f"h{i}"]),
                  helper.make_node("Relu", [f"h{i}"], [f"r{i}"])]
        x = f"r{i}"
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 784])],
        [helper.make_tensor_value_info(x, 1, ["N", 10])], weights)
    quantizer = MatMulNBitsQuantizer(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        block_size=block, is_symmetric=symmetric)
    quantizer.process()
    path = shrink.folder / f"nbits-{block}-{symmetric}.onnx"
    quantizer.model.save_model_to_file(str(path))
    assert sum(n.op_type == "MatMulNBits" for n in onnx.load(path).graph.node) == 3
    ours, theirs = both(shrink, path)
    assert np.abs(ours - theirs).max() <= 1e-5 * (theirs.max() - theirs.min())
