"""Structured pruning of the zoo's networks: channels that are gone are channels that are zero.

`remove=false` sets to zero what makes and reads the units that `remove=true` takes out. That it does
no more is seen in the weights; ONNX Runtime then runs both, and their outputs are equal. Where units
go that a normalization is over, it is over those that stay: the masked model says so in other nodes."""

import os
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import engine
import store
from zoo_models import MODELS

FULL = os.environ.get("ZOO_FULL")
SHRINK = store.ROOT / os.environ.get("SHRINKD_BUILD", "build") / "tests" / "shrink"
LIMIT = 1e-4
# what can go is what no output shows: all hidden units of these are outputs
NOTHING = ("lstm", "gru", "rnn", "gru_bidirectional_stack", "lstm_bidirectional_stack",
           "rnn_relu_stack")
SMALL = ("activations", "bert_like", "conv3d", "crnn", "dcgan_generator", "detr_like", "gpt_like",
         "llama_like", "mlp_mixer", "mlp", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x1_0",
         "squeezenet1_1", "style_transfer", "transformer_decoder", "transformer_encoder", "unet",
         "wavenet_like", "yolo_like")
NAMES = [name for name in MODELS if name not in NOTHING and (FULL or name in SMALL)]


@pytest.fixture(scope="session")
def exports():
    store.export([(name, "script", 17) for name in NAMES])


def run(*words):
    done = subprocess.run([SHRINK, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(model):
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            held[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return held


def parameters(model):
    return sum(w.size for w in weights(model).values() if w.dtype == np.float32 and w.size > 1)


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def shapes(model, names, feed):
    made = {name for node in model.graph.node for name in node.output}
    names = [name for name in dict.fromkeys(names) if name in made]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = session(probe.SerializeToString()).run(names, feed) if names else []
    known = {name: value.shape for name, value in zip(names, found)}
    return known | {name: w.shape for name, w in weights(model).items()} | {
        name: value.shape for name, value in feed.items()}


def macs(model, feed):
    nodes = [n for n in model.graph.node
             if n.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm")]
    known = shapes(model, [name for n in nodes for name in (*n.input, n.output[0])], feed)
    total = 0
    for node in nodes:
        first = known[node.input[0]]
        if node.op_type == "ConvTranspose":
            total += int(np.prod(first)) * int(np.prod(known[node.input[1]][1:]))
            continue
        if node.op_type == "Conv":
            each = int(np.prod(known[node.input[1]][1:]))
        else:
            flipped = any(a.name == "transA" and a.i for a in node.attribute)
            each = first[0] if flipped else first[-1]
        total += each * int(np.prod(known[node.output[0]]))
    return total


def constant(graph, name, value):
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return name


def masked_norm(graph, node, gamma, share):
    """LayerNormalization over the channels whose gamma is not zero; these are `share` of all."""
    x, scale, bias = node.input
    y, eps = node.output[0], next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    mask = constant(graph, y + "_m", gamma != 0)
    c, e = constant(graph, y + "_c", 1 / share), constant(graph, y + "_e", eps)

    def mean(of, to):
        return [helper.make_node("ReduceMean", [of], [to + "0"], axes=[-1]),
                helper.make_node("Mul", [to + "0", c], [to])]

    return [
        helper.make_node("Mul", [x, mask], [y + "_x"]),
        *mean(y + "_x", y + "_mean"),
        helper.make_node("Sub", [y + "_x", y + "_mean"], [y + "_d0"]),
        helper.make_node("Mul", [y + "_d0", mask], [y + "_d"]),
        helper.make_node("Mul", [y + "_d", y + "_d"], [y + "_s"]),
        *mean(y + "_s", y + "_var"),
        helper.make_node("Add", [y + "_var", e], [y + "_v"]),
        helper.make_node("Sqrt", [y + "_v"], [y + "_r"]),
        helper.make_node("Div", [y + "_d", y + "_r"], [y + "_n"]),
        helper.make_node("Mul", [y + "_n", scale], [y + "_g"]),
        helper.make_node("Add", [y + "_g", bias], [y]),
    ]


def is_mean(node):
    return node.op_type == "LayerNormalization" or (
        node.op_type == "ReduceMean" and any(a.ints == [-1] for a in node.attribute))


def over_what_stays(masked, cut, feed):
    """The masked model with means that are over the channels of the cut one."""
    means = [n.input[0] for n in masked.graph.node if is_mean(n)]
    means = [name for name in means if name in {o for n in cut.graph.node for o in n.output}]
    all_, stay = shapes(masked, means, feed), shapes(cut, means, feed)
    held, model = weights(masked), onnx.ModelProto()
    model.CopyFrom(masked)
    del model.graph.node[:]
    for node in masked.graph.node:
        x = node.input[0] if node.input else None
        share = stay[x][-1] / all_[x][-1] if is_mean(node) and x in means else 1
        if share < 1 and node.op_type == "LayerNormalization":
            model.graph.node.extend(masked_norm(model.graph, node, held[node.input[1]], share))
        elif share < 1:
            y = node.output[0]
            node.output[0] = y + "_all"
            factor = constant(model.graph, y + "_share", 1 / share)
            model.graph.node.extend([node, helper.make_node("Mul", [y + "_all", factor], [y])])
        else:
            model.graph.node.append(node)
    return model


def origin(old, name):
    """What a weight was; of a vector that layers shared, each may have its own, named after it."""
    return old[name] if name in old else old[name.rpartition("_")[0]]


def only_zeros(before, masked):
    """Does the masked model differ from the original in nothing but zeros? How many there are."""
    count, old = 0, weights(before)
    for name, w in weights(masked).items():
        differs = w != origin(old, name)
        assert (w[differs] == 0).all(), name
        count += int(differs.sum())
    ops = [[n.op_type for n in m.graph.node if n.op_type != "Identity"] for m in (before, masked)]
    assert ops[0] == ops[1]
    return count


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_units_is_the_one_with_zeros(exports, tmp_path, name):
    path = store.exported(name)
    small, zero = tmp_path / "small.onnx", tmp_path / "zero.onnx"
    report = run("run", path, "prune_structured", "-o", small)
    run("run", path, "prune_structured", "remove=false", "-o", zero)
    before, cut, masked = onnx.load(path), onnx.load(small), onnx.load(zero)
    assert only_zeros(before, masked) > 0
    feed = store.feeds(name, 3, tokens=store.fixed_steps(path, MODELS[name]) or 11, seed=5)[0]
    assert parameters(cut) < 0.9 * parameters(before), report
    assert macs(cut, feed) < 0.9 * macs(before, feed), report
    reference = over_what_stays(masked, cut, feed).SerializeToString()
    theirs, ours = session(reference).run(None, feed), session(str(small)).run(None, feed)
    original = session(str(path)).run(None, feed)
    for y, z, was in zip(theirs, ours, original):
        assert z.shape == y.shape == was.shape
        span = float(np.abs(y).max()) or 1.0
        assert np.abs(y - z).max() <= LIMIT * max(span, 1e-3), report


QUANTIZED = [(name, form) for name in (("mlp", "bert_like", "mobilenet_v2", "resnet18") if FULL
                                       else ("mlp", "bert_like"))
             for form in ("dynamic", "dynamic_columns", "dynamic_u8", "qdq_s8s8", "qdq_u8s8",
                          "qdq_u8s8_reduced", "qdq_u8u8_tensor", "qop_u8s8", "qop_u8s8_reduced")]
# ONNX Runtime's products of these saturate on processors without VNNI, and so depend on the width.
SATURATE = ("dynamic", "dynamic_columns", "qdq_s8s8", "qdq_u8s8", "qop_u8s8")


@pytest.mark.parametrize("name, form", QUANTIZED)
def test_a_quantized_network_without_units_is_the_one_with_zero_points(tmp_path, name, form):
    source = store.exported(name)
    path = store.quantize(source, form, store.feeds(name, 4, count=4))
    small, zero = tmp_path / "small.onnx", tmp_path / "zero.onnx"
    report = run("run", path, "prune_structured", "-o", small)
    run("run", path, "prune_structured", "remove=false", "-o", zero)
    before, cut, masked = weights(onnx.load(path)), weights(onnx.load(small)), weights(onnx.load(zero))
    total = sum(w.size for w in before.values())
    assert sum(w.size for w in cut.values()) < 0.9 * total, report
    for key, w in masked.items():
        differs = w != origin(before, key)
        if w.dtype == np.float32:
            assert (w[differs] == 0).all(), key
        elif differs.any():  # one zero point, or one a channel
            assert len(np.unique(w[differs])) <= max(w.shape), key
    feed = store.feeds(name, 3, tokens=11, seed=5)[0]
    results = [[session(str(model)).run(None, feed) for model in (zero, small)]]
    for model in (zero, small):
        ours = engine.Model(model)
        ours.plan(feed, fuse=True)
        results.append(ours.run())
    results = [results[1:], *([] if form in SATURATE else results[:1])]
    for theirs, ours in results:
        for y, z in zip(theirs, ours):
            assert np.abs(y - z).max() <= LIMIT * np.abs(y).max(), report
