"""Models of old opsets become opset 13 and compute the same, judged by ONNX Runtime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(11)
F, I = TensorProto.FLOAT, TensorProto.INT64


def node(op, inputs, outputs="y", **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def case(opset, nodes, inputs, constants=None, outputs=("y",), name=None):
    constants = constants or {}
    nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else nodes
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, F, list(x.shape)) for n, x in inputs.items()]
        + [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
           for n, v in constants.items()],
        [onnx.ValueInfoProto(name=n) for n in outputs],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    label = name or f"{nodes[0].op_type}-{opset}-" + "-".join(
        f"{a.name}{helper.get_attribute_value(a)}".replace(" ", "") for a in nodes[0].attribute)
    return pytest.param(model, inputs, id=label)


X = values(3, 4, 5, 6)
CASES = [
    case(7, node("BatchNormalization", "x s b m v", spatial=1), {"x": X},
         {"s": values(4), "b": values(4), "m": values(4), "v": np.abs(values(4)) + 1}),
    *(case(o, node("Slice", "x", starts=[1, -3], ends=[3, 5], axes=[1, 2]), {"x": X})
      for o in (7, 9)),
    case(7, node("Slice", "x", starts=[1, 0], ends=[2, 3]), {"x": X}),
    *(case(o, node("TopK", "x", "y i", k=3, axis=2), {"x": X}, outputs=("y", "i")) for o in (7, 9)),
    *(case(o, node("Dropout", "x", ratio=0.3), {"x": X}) for o in (7, 10, 11)),
    *(case(o, node("Clip", "x", **limits), {"x": X})
      for o in (7, 10) for limits in ({"min": -0.5}, {"max": 0.25}, {"min": -1.0, "max": 1.0}, {})),
    *(case(o, node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 3, 1], mode=mode, **fill), {"x": X})
      for o in (7, 10) for mode, fill in
      (("constant", {}), ("constant", {"value": 1.5}), ("reflect", {}), ("edge", {}))),
    case(9, node("Scatter", "x i u", axis=1), {"x": values(3, 5)},
         {"i": np.array([[1, 3]]), "u": values(1, 2)}),
    case(7, node("Upsample", "x", mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]), {"x": X}),
    case(8, node("Upsample", "x", mode="linear", scales=[1.0, 1.0, 2.0, 1.5]), {"x": X}),
    *(case(9, node("Upsample", "x s", mode=mode), {"x": X},
           {"s": np.array([1, 1, 2.5, 2], np.float32)}, name=f"Upsample-9-{mode}")
      for mode in ("nearest", "linear")),
    *(case(10, node("Resize", "x s", mode=mode), {"x": X},
           {"s": np.array([1, 1, *scales], np.float32)}, name=f"Resize-10-{mode}-{scales}")
      for mode in ("nearest", "linear") for scales in ((2, 3), (0.5, 0.6), (1, 0.7), (2.5, 1))),
    case(10, node("Resize", "x s", mode="linear"), {"x": X},
         {"s": np.array([1, 1, 2, 0.5], np.float32)}, name="Resize-10-linear-mixed"),
    case(11, node("Resize", "x r s", mode="nearest", nearest_mode="floor",
                  coordinate_transformation_mode="tf_half_pixel_for_nn"), {"x": X},
         {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2.5, 0.7], np.float32)},
         name="Resize-11-tf_half_pixel_for_nn"),
    *(case(o, node(op, "x", **axis), {"x": X})
      for op in ("Softmax", "LogSoftmax", "Hardmax") for o, axis in
      ((7, {}), (9, {"axis": 1}), (11, {"axis": 2}), (12, {"axis": 3}), (12, {"axis": -1}),
       (12, {"axis": -2}), (12, {"axis": 0}))),
    case(12, node("Softmax", "x"), {"x": values(5, 7)}, name="Softmax-12-matrix"),
    *(case(o, node("Squeeze", "x", axes=[0, 2]), {"x": values(1, 3, 1, 4)}) for o in (7, 12)),
    case(11, node("Squeeze", "x"), {"x": values(1, 3, 1, 4)}),
    *(case(o, node("Unsqueeze", "x", axes=[0, 2]), {"x": values(3, 4)}) for o in (7, 12)),
    *(case(o, node("ReduceSum", "x", axes=[1, 3], keepdims=keep), {"x": X})
      for o in (7, 12) for keep in (0, 1)),
    case(12, node("ReduceSum", "x"), {"x": X}),
    *(case(o, node("Split", "x", "y z", axis=2, split=[2, 3]), {"x": X}, outputs=("y", "z"))
      for o in (7, 12)),
    case(11, node("Split", "x", "y z", axis=1), {"x": X}, outputs=("y", "z")),
    *(case(o, node(op, "x", **attributes), {"x": X}) for o in (7, 9, 11, 12) for op, attributes in (
        ("ReduceMean", {"axes": [1], "keepdims": 0}), ("Flatten", {"axis": 2}), ("Elu", {}),
        ("ArgMax", {"axis": 2}), ("DepthToSpace", {"blocksize": 2}),
        ("AveragePool", {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 1]}), ("Transpose", {}),
        ("LRN", {"size": 3}), ("Cast", {"to": I}))),
    *(case(o, node(op, "x z"), {"x": X, "z": np.abs(values(4, 1, 6)) + 0.1}) for o in (7, 9, 11)
      for op in ("Add", "Div", "Greater", "Less", "Mul", "PRelu")),
    *(case(o, node(op, "x z w"), {"x": X, "z": X + 1, "w": -X}) for o in (8, 11)
      for op in ("Max", "Min", "Mean", "Sum")),
    *(case(o, node("Gemm", "x w b", transB=1, alpha=0.5, beta=2.0), {"x": values(5, 7)},
           {"w": values(3, 7), "b": values(3)}, name=f"Gemm-{o}") for o in (7, 9, 11)),
    *(case(o, node("Conv", "x w", pads=[1, 1, 1, 1], group=2), {"x": X}, {"w": values(4, 2, 3, 3)},
           name=f"Conv-{o}") for o in (7, 11)),
    *(case(o, node("LSTM", "x w r b", "y h", hidden_size=3), {"x": values(5, 2, 4)},
           {"w": values(1, 12, 4), "r": values(1, 12, 3), "b": values(1, 24)},
           outputs=("y", "h"), name=f"LSTM-{o}") for o in (7, 12)),
    *(case(o, node("Gather", "x i", axis=1), {"x": X}, {"i": np.array([2, 0])}, name=f"Gather-{o}")
      for o in (7, 11)),
    case(7, [node("Softmax", "x", "a"), node("Clip", "a", "b", min=0.1),
             node("Softmax", "b", "c", axis=2), node("Add", "c a", "d"),
             node("Unsqueeze", "d", "y", axes=[4])], {"x": X}, name="several-7"),
]


def raised(shrink, tmp_path, model, words=("optimize", "raise_opset=true", "fuse=false")):
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(model, path)
    done = shrink.call("run", path, *words, "-o", out)
    return path, out, done


@pytest.mark.parametrize("model,feed", CASES)
def test_a_model_of_an_old_opset_computes_the_same_in_13(shrink, tmp_path, model, feed):
    path, out, done = raised(shrink, tmp_path, model)
    assert done.returncode == 0, done.stderr
    made = onnx.load(out)
    assert [(one.domain, one.version) for one in made.opset_import] == [("", 13)]
    onnx.checker.check_model(made, full_check=True)
    before = shrink.session(path).run(None, feed)
    after = shrink.session(out).run(None, feed)
    for a, b in zip(before, after):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6)


def model_of(*arguments, **options):
    return case(*arguments, **options).values[0]


REFUSED = [
    (model_of(7, node("BatchNormalization", "x s b m v", spatial=0), {"x": values(2, 3)},
              {n: np.ones(3, np.float32) for n in "sbmv"}), "statistics for every place"),
    (model_of(7, node("Dropout", "x", "y m"), {"x": X}, outputs=("y", "m")), "its mask had the type"),
    (model_of(10, node("Resize", "x s"), {"x": X}, {"s": np.array([1, 1, 2, 0.5], np.float32)}),
     "another where an axis grows"),
    (model_of(9, node("Crop", "x", border=[1, 1, 1, 1]), {"x": X}), "the operator is not known"),
    (model_of(11, node("If", "c", then_branch=helper.make_graph(
        [node("Abs", "x", "t")], "t", [], [helper.make_tensor_value_info("t", F, None)]),
        else_branch=helper.make_graph(
            [node("Neg", "x", "e")], "e", [], [helper.make_tensor_value_info("e", F, None)])),
        {"x": X}, {"c": np.array(True)}), "the graphs inside of it"),
]


@pytest.mark.parametrize("model,why", REFUSED, ids=[why for _, why in REFUSED])
def test_what_has_no_form_there_is_refused_by_name(shrink, tmp_path, model, why):
    _, out, done = raised(shrink, tmp_path, model)
    assert done.returncode != 0 and why in done.stderr and "cannot become 13" in done.stderr
    assert model.graph.node[0].op_type in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("opset", [13, 17])
def test_a_newer_model_keeps_its_opset(shrink, tmp_path, opset):
    model = model_of(opset, node("Softmax", "x"), {"x": X})
    _, out, done = raised(shrink, tmp_path, model)
    assert done.returncode == 0, done.stderr
    assert onnx.load(out).opset_import[0].version == opset


FASHION = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"


def perceptron(opset, last="Softmax", extra=(), constants=None):
    """(model, feed); `last` reads h, `extra` makes y of its result."""
    bound = node("Clip", "g", "a", min=0.0, max=6.0) if opset < 11 else node("Relu", "g", "a")
    nodes = [node("Reshape", "x s", "f"), node("Gemm", "f w b", "g", transB=1), bound,
             node("MatMul", "a v", "h"), node(last, "h", "k" if extra else "y"), *extra]
    model, feed = case(opset, nodes, {"x": np.abs(values(100, 28, 28)) % 1}, {
        "s": np.array([-1, 784]), "w": values(32, 784) / 28, "b": values(32),
        "v": values(32, 10) / 6, **(constants or {})}).values
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", F, ["N", 10]))
    return model, feed


def distance(shrink, path, out, feed):
    before, after = (shrink.session(one).run(None, feed)[0] for one in (path, out))
    return np.abs(before - after).max()


@pytest.mark.parametrize("words", [["quantize_dynamic"], ["quantize_static", "--calibrate", FASHION]],
                         ids=["dynamic", "static"])
@pytest.mark.parametrize("opset", range(7, 13))
def test_old_models_are_quantized(shrink, tmp_path, opset, words):
    model, feed = perceptron(opset)
    path, out, done = raised(shrink, tmp_path, model, words)
    assert done.returncode == 0, done.stderr
    made = onnx.load(out)
    is_static = words[0] == "quantize_static"
    assert made.opset_import[0].version == (13 if is_static or opset < 11 else opset)
    onnx.checker.check_model(made, full_check=True)
    assert distance(shrink, path, out, feed) < 0.05
    assert {"QuantizeLinear", "DynamicQuantizeLinear"} & {one.op_type for one in made.graph.node}


def test_what_cannot_be_raised_gets_scales_per_tensor(shrink, tmp_path):
    branches = {
        name: helper.make_graph([node(op, "k", f"{name}_y")], name, [],
                                [helper.make_tensor_value_info(f"{name}_y", F, None)])
        for name, op in (("then_branch", "Identity"), ("else_branch", "Neg"))
    }
    model, feed = perceptron(11, extra=[node("If", "yes", **branches)],
                             constants={"yes": np.array(True)})
    path, out, done = raised(shrink, tmp_path, model, ["quantize_static", "--calibrate", FASHION])
    assert done.returncode == 0, done.stderr
    assert "per tensor, since opset 11 cannot become 13: If" in done.stdout
    made = onnx.load(out)
    assert made.opset_import[0].version == 11
    onnx.checker.check_model(made, full_check=True)
    assert distance(shrink, path, out, feed) < 0.1
