"""Structured pruning, judged by ONNX Runtime and PyTorch: on the examples and on random graphs."""

import json
import re
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import MODELS, TORCH, TRAIN, read_idx
from test_awkward import MODELS as AWKWARD, Case

# ── Random graphs ───────────────────────────────────────────────────────────────────────────────


class Net:
    """Builds a graph node by node; its weights are random and so differ from each other."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.count = [], [], 0

    def weight(self, *shape, low=None):
        fan = max(1, int(np.prod(shape[1:])))
        w = self.rng.normal(size=shape) / np.sqrt(fan) if low is None else self.rng.uniform(low, 2, shape)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(w.astype(np.float32), name))
        return name

    def node(self, op, *inputs, **attributes):
        self.count += 1
        name = f"{op.lower()}{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [name + "_out"], name, **attributes))
        return name + "_out"

    def act(self, x):
        return self.node(self.rng.choice(["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu"]), x)

    def conv(self, x, c, out, side=3, group=1):
        inputs = [x, self.weight(out, c // group, side, side)]
        if self.rng.random() < 0.5:
            inputs.append(self.weight(out))
        x = self.node("Conv", *inputs, group=group, pads=[side // 2] * 4)
        if len(inputs) == 2:
            x = self.node("BatchNormalization", x, self.weight(out, low=0.5), self.weight(out),
                          self.weight(out), self.weight(out, low=0.5))
        return x

    def block(self, x, c):
        kind = self.rng.integers(9)
        if kind == 0:  # residual
            y = self.conv(self.act(self.conv(x, c, 6)), 6, c)
            return self.act(self.node("Add", x, y)), c
        if kind == 1:  # two branches, sometimes added to what is as wide as both
            y = self.node("Concat", self.act(self.conv(x, c, 5)), self.conv(x, c, 8, 1), axis=1)
            return (self.node("Add", self.conv(x, c, 13), y) if self.rng.random() < 0.5 else y), 13
        if kind == 2:  # depthwise, with one or two filters a channel
            m = int(self.rng.integers(1, 3))
            return self.act(self.conv(self.act(self.conv(x, c, 9)), 9, 9 * m, group=9)), 9 * m
        if kind == 3:  # squeeze and excite
            y = self.act(self.conv(self.node("GlobalAveragePool", x), c, 4, 1))
            return self.node("Mul", x, self.node("Sigmoid", self.conv(y, 4, c, 1))), c
        if kind == 4:  # halves that go their own ways and meet again
            y = self.act(self.conv(x, c, 12))
            a, b = self.split(y)
            return self.node("Concat", self.conv(a, 6, 6), self.node("Mul", a, b), b, axis=1), 18
        if kind == 5:  # few wide groups, or many narrow ones
            group = int(self.rng.choice([2, 6]))
            return self.act(self.conv(self.act(self.conv(x, c, 12)), 12, 18, group=group)), 18
        if kind == 6:  # a shuffle of channels between groups
            y = self.conv(self.act(self.conv(x, c, 12)), 12, 12, group=3)
            y = self.node("Reshape", y, self.ints(0, 3, 4, -1))
            y = self.node("Reshape", self.node("Transpose", y, perm=[0, 2, 1, 3]),
                          self.ints(0, 12, self.side, self.side))
            return self.node("Add", self.conv(y, 12, 12), self.conv(x, c, 12, 1)), 12
        if kind == 7:  # slices and picked channels
            y = self.act(self.conv(x, c, 10))
            a = self.node("Slice", y, self.ints(2), self.ints(8), self.ints(1))
            b = self.node("Gather", y, self.ints(9, 0, 4, 1, 5, 3), axis=1)
            return self.node("Add", a, b), 6
        return self.node("Dropout", self.act(self.conv(x, c, 11))), 11

    def ints(self, *values):
        name = f"i{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def split(self, x):
        self.count += 1
        name = f"split{self.count}"
        self.nodes.append(helper.make_node("Split", [x], [name + "_a", name + "_b"], name, axis=1))
        return name + "_a", name + "_b"

    def head(self, x, c, side):
        kind = self.rng.integers(3)
        if kind == 0:
            x, side = self.node("GlobalAveragePool", x), 1
        n = c * side * side
        if kind == 2:
            name = f"shape{n}"
            shape = [-1, n] if self.rng.random() < 0.5 else [0, -1]
            self.weights.append(numpy_helper.from_array(np.array(shape, np.int64), name))
            x = self.node("Reshape", x, name)
        else:
            x = self.node("Flatten", x)
        x = self.act(self.node("Gemm", x, self.weight(n, 20), self.weight(1, 20), alpha=0.5))
        x = self.act(self.node("Add", self.weight(12), self.node("MatMul", x, self.weight(20, 12))))
        return self.node("Gemm", x, self.weight(5, 12), self.weight(5), transB=1)

    def save(self, path):
        x, c, side = self.act(self.conv("x", 3, 10)), 10, 8
        self.side = side
        for i in range(4):
            x, c = self.block(x, c)
            if i == 1:
                x, side = self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 4
                self.side = side
        y = self.head(x, c, side)
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", 5])], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)


# ── The original with masks ─────────────────────────────────────────────────────────────────────


def weights(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def kept(before, after):
    """Indices of the slices of before (along axis 0) that those of after are parts of."""
    before, after = (w.reshape(len(w), -1) for w in (before, after))
    holders = {}  # of a value: the slices that it is in
    for i, b in enumerate(before):
        for value in b.tolist():
            holders.setdefault(value, set()).add(i)
    found = [set.intersection(*(holders[value] for value in a.tolist())) for a in after]
    assert all(len(f) == 1 for f in found)
    return [f.pop() for f in found]


def inputs_axis(node, w):
    """The axis of the inputs in the weights of a node that mixes channels, else None."""
    if node.op_type == "Conv":
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        return 1 if group == 1 else None
    if node.op_type == "Gemm":
        return 1 if any(a.name == "transB" and a.i for a in node.attribute) else 0
    return 0 if node.op_type == "MatMul" else None


def masked(before, after):
    """The original, each consumer reading zeros where the pruned model reads nothing, and how many
    of these zeros there are: found by comparing weights, without knowing what a group is."""
    old, new = weights(before), weights(after)
    model = onnx.ModelProto()
    model.CopyFrom(before)
    del model.graph.node[:], model.graph.value_info[:]
    zeros = 0
    for node in before.graph.node:
        w = old.get(node.input[1]) if len(node.input) > 1 else None
        axis = None if w is None else inputs_axis(node, w)
        if axis is not None and new[node.input[1]].shape[axis] < w.shape[axis]:
            mask = np.zeros(w.shape[axis], np.float32)
            mask[kept(np.moveaxis(w, axis, 0), np.moveaxis(new[node.input[1]], axis, 0))] = 1
            zeros += int((mask == 0).sum())
            mask = mask.reshape(-1, *[1] * (w.ndim - 2))
            name = node.output[0] + "_mask"
            model.graph.initializer.append(numpy_helper.from_array(mask, name))
            model.graph.node.append(helper.make_node("Mul", [node.input[0], name], [name + "ed"]))
            node.input[0] = name + "ed"
        model.graph.node.append(node)
    return model, zeros


def parameters(model):
    return sum(w.size for w in weights(model).values() if w.dtype == np.float32)


def removed_by_report(text):
    return sum(float(f.split("=")[1]) for f in text.split() if f.startswith("parameters_removed="))


def check(shrink, path, x, *arguments):
    out = shrink.folder / "structured.onnx"
    done = shrink.call("run", path, "prune_structured", *arguments, "-o", out, "--seed", 3)
    assert done.returncode == 0, done.stderr
    before, after = onnx.load(path), onnx.load(out)
    onnx.checker.check_model(after, full_check=True)
    assert parameters(before) - parameters(after) == removed_by_report(done.stdout) > 0
    reference, zeros = masked(before, after)
    assert zeros > 0
    name = before.graph.input[0].name
    y = shrink.session(reference.SerializeToString()).run(None, {name: x})[0]
    z = shrink.session(out).run(None, {name: x})[0]
    error = np.abs(y - z).max()
    assert error <= 1e-4 * max(1, np.abs(y).max())
    original = shrink.session(path).run(None, {name: x})[0]
    assert error < np.abs(original - z).max() / 4  # the masks matter
    return done.stdout


ARGUMENTS = [(), ("norm=1", "amount=0.5"), ("scope=global",), ("norm=random", "amount=0.4"),
             ("norm=inf", "round_to=2", "amount=0.6")]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_an_example_without_channels_is_the_one_with_masks(shrink, name, arguments):
    x = shrink.images[:64].reshape(64, *{"mlp": [784], "cnn": [1, 28, 28]}[name])
    report = check(shrink, MODELS / f"{name}.onnx", x, *arguments)
    assert report.count("skipped") == 1  # the layer of the logits


def check_zeros(shrink, path, x, *arguments):
    """Removal gives what zeros give, and these differ from the original by nothing else."""
    out, zero = shrink.folder / "structured.onnx", shrink.folder / "zeroed.onnx"
    done = shrink.call("run", path, "prune_structured", *arguments, "-o", out, "--seed", 3)
    assert done.returncode == 0, done.stderr
    also = shrink.call("run", path, "prune_structured", *arguments, "remove=false", "-o", zero,
                       "--seed", 3)
    assert also.returncode == 0, also.stderr
    before, after, masks = onnx.load(path), onnx.load(out), weights(onnx.load(zero))
    onnx.checker.check_model(after, full_check=True)
    assert parameters(before) - parameters(after) == removed_by_report(done.stdout) > 0
    old = weights(before)
    assert all((w[w != old[n]] == 0).all() for n, w in masks.items())
    y, z = (shrink.session(m).run(None, {"x": x})[0] for m in (zero, out))
    assert np.abs(y - z).max() <= 1e-4 * max(1, np.abs(y).max())
    return done.stdout


@pytest.mark.parametrize("block", range(10))
def test_random_graphs_without_channels_are_those_with_zeros(shrink, block):
    for seed in range(20 * block, 20 * block + 20):
        path = shrink.folder / f"random{block}.onnx"
        Net(seed).save(path)
        x = np.random.default_rng(seed).normal(size=(4, 3, 8, 8)).astype(np.float32)
        amount = f"amount={np.random.default_rng(seed).uniform(0.15, 0.7):.3f}"
        report = check_zeros(shrink, path, x, *ARGUMENTS[seed % len(ARGUMENTS)], amount)
        assert not [line for line in report.splitlines()
                    if line.startswith("skipped") and "output of the model" not in line
                    and "takes none" not in line], (seed, report)


@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_model_loses_channels_or_the_report_says_why_not(shrink, name):
    case, out, zero = Case(shrink, name), shrink.folder / "structured.onnx", shrink.folder / "zero.onnx"
    done = shrink.call("run", case.path, "prune_structured", "-o", out)
    assert done.returncode == 0, done.stderr
    assert shrink.call("run", case.path, "prune_structured", "remove=false", "-o", zero).returncode == 0
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert "done" in done.stdout or "skipped" in done.stdout or "no channels" in done.stdout
    before, masks = weights(onnx.load(case.path)), weights(onnx.load(zero))
    # vectors that layers share become one each, named after the first
    old = {n: before[n] if n in before else before[n.rpartition("_")[0]] for n in masks}
    same = {n: (w == old[n]) | (w != w) for n, w in masks.items()}
    assert all((w[~same[n]] == 0).all() for n, w in masks.items())
    for y, z in zip(case.theirs(zero), case.theirs(out)):
        np.testing.assert_allclose(z, y, rtol=1e-4, atol=1e-4)


def test_zeroing_instead_keeps_shapes_and_zeroes_rows_and_columns(shrink):
    before = weights(onnx.load(MODELS / "mlp.onnx"))
    after = weights(onnx.load(shrink.run(MODELS / "mlp.onnx", "prune_structured", "remove=false")))
    columns = np.ones(784, bool)  # that the layer reads
    for name, gone in (("fc1", 90), ("fc2", 30), ("fc3", 0)):
        w, b, old = after[name + ".weight"], after[name + ".bias"], before[name + ".weight"]
        rows = (w != 0).any(1)
        assert (~rows).sum() == gone and (b[~rows] == 0).all()
        assert (w == old * rows[:, None] * columns).all()
        columns = rows


# One process for all cases: importing torch takes longer than pruning.
PRUNE = """
import json, sys, numpy, torch
from torch.nn.utils import prune
masks, w = {}, numpy.load(sys.argv[1])
for key, name, dim, n, amount in json.load(sys.stdin):
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.from_numpy(w[name]))
    prune.ln_structured(module, "w", amount, n=float(n), dim=dim)
    mask = numpy.moveaxis(module.w_mask.numpy(), dim, 0)
    masks[key] = mask.reshape(len(mask), -1).any(1)
numpy.savez(sys.argv[2], **masks)
"""
# Layers whose rows (that read the input) or columns go, and no others of theirs.
LAYERS = {"mlp": ("fc1.weight", "fc2.weight"), "cnn": ("conv1.weight", "conv2.weight")}
TORCH_CASES = [(model, dim, n, amount) for model in LAYERS for dim in (0, 1)
               for n in ("1", "2", "inf", "3") for amount in (0.3, 0.5, 3)]


@pytest.fixture(scope="session")
def torch_rows(shrink):
    path, out = shrink.folder / "layers.npz", shrink.folder / "rows.npz"
    np.savez(path, **{name: weights(onnx.load(MODELS / f"{model}.onnx"))[name]
                      for model, names in LAYERS.items() for name in names})
    cases = [[str(case), LAYERS[case[0]][case[1]], *case[1:]] for case in TORCH_CASES]
    done = subprocess.run([TORCH, "-c", PRUNE, path, out], input=json.dumps(cases),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(out)


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_the_channels_that_stay_are_those_of_torch(shrink, torch_rows, case):
    model, dim, n, amount = case
    norm = ("norm=n", f"power={n}") if n == "3" else (f"norm={n}",)
    out = shrink.folder / "torch.onnx"
    only = "nodes.include=*fc1*,*conv1*"  # what makes the rows, and the columns behind them
    done = shrink.call("run", MODELS / f"{model}.onnx", "prune_structured", *norm, f"amount={amount}",
                       f"dim={dim}", only, "-o", out)
    assert done.returncode == 0, done.stderr
    before, after = (np.moveaxis(weights(onnx.load(m))[LAYERS[model][dim]], dim, 0)
                     for m in (MODELS / f"{model}.onnx", out))
    assert kept(before, after) == list(np.flatnonzero(torch_rows[str(case)]))


@pytest.mark.parametrize("norm", ["2", "activations", "batchnorm"])
def test_refitting_without_labels_recovers_what_pruning_lost(shrink, norm):
    path, scores = MODELS / "cnn.onnx", {}
    for refit in ("false", "true"):
        out = shrink.folder / f"refit-{norm}-{refit}.onnx"
        done = shrink.call("run", path, "prune_structured", f"norm={norm}", f"refit={refit}",
                           "round_to=8", "--calibrate", TRAIN, "-o", out, "--seed", 1)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("refitted") == (5 if refit == "true" else 0)
        scores[refit] = shrink.accuracy(shrink.theirs(out))
    lost = shrink.accuracy(shrink.theirs(path)) - scores["true"]
    assert lost <= (0.04 if norm == "batchnorm" else 0.02)
    assert scores["true"] > scores["false"] + 0.02


def test_all_of_30_percent_go_for_two_points_of_accuracy(shrink):
    path, out = MODELS / "cnn.onnx", shrink.folder / "refit-all.onnx"
    done = shrink.call("run", path, "prune_structured", "norm=activations", "refit=true",
                       "samples=8000", "--calibrate", TRAIN, "-o", out)
    assert done.returncode == 0, done.stderr
    lost = shrink.accuracy(shrink.theirs(path)) - shrink.accuracy(shrink.theirs(out))
    assert lost <= 0.02


def test_a_refitted_layer_is_the_least_squares_fit(shrink):
    """Of the second layer of the MLP: its outputs from the neurons that stay, as numpy fits them."""
    out = shrink.folder / "fit.onnx"
    arguments = ("refit=true", "samples=2000", "nodes.include=*fc1*", "--calibrate", TRAIN)
    done = shrink.call("run", MODELS / "mlp.onnx", "prune_structured", *arguments, "-o", out)
    assert done.returncode == 0, done.stderr
    old, new = weights(onnx.load(MODELS / "mlp.onnx")), weights(onnx.load(out))
    x = read_idx(TRAIN)[:4000].reshape(-1, 784).astype(np.float32) / 255
    h = np.maximum(x @ old["fc1.weight"].T + old["fc1.bias"], 0)
    k = np.maximum(x @ new["fc1.weight"].T + new["fc1.bias"], 0)
    y = h @ old["fc2.weight"].T + old["fc2.bias"]
    ones = np.ones((len(k), 1), np.float32)
    best = np.linalg.lstsq(np.hstack([k, ones]), y, rcond=None)[0]
    ideal = np.square(np.hstack([k, ones]) @ best - y).mean()
    ours = np.square(k @ new["fc2.weight"].T + new["fc2.bias"] - y).mean()
    stay = kept(old["fc1.weight"], new["fc1.weight"])
    plain = np.square(k @ old["fc2.weight"][:, stay].T + old["fc2.bias"] - y).mean()
    assert ideal <= ours < 1.3 * ideal < plain / 3


# A masked export: what torch.nn.utils.prune leaves in the file when its masks are made permanent.
MASK = """
import sys, numpy, torch
from torch.nn.utils import prune
held = dict(numpy.load(sys.argv[1]))
for name, w in held.items():
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.from_numpy(w))
    prune.ln_structured(module, "w", 0.3, n=2, dim=0)
    prune.remove(module, "w")
    held[name] = module.w.detach().numpy()
numpy.savez(sys.argv[2], **held)
"""


@pytest.mark.parametrize("name, last", [("mlp", "fc3.weight"), ("cnn", "fc2.weight")])
def test_compact_shrinks_a_torch_masked_export_and_keeps_its_function(shrink, name, last):
    model = onnx.load(MODELS / f"{name}.onnx")
    paths = [shrink.folder / f"compact-{name}{end}" for end in (".npz", "-masked.npz", ".onnx", "-out.onnx")]
    np.savez(paths[0], **{n: w for n, w in weights(model).items() if w.ndim > 1 and n != last})
    subprocess.run([TORCH, "-c", MASK, *paths[:2]], check=True)
    held = np.load(paths[1])
    for tensor in model.graph.initializer:
        if tensor.name in held:
            tensor.CopyFrom(numpy_helper.from_array(held[tensor.name], tensor.name))
    onnx.save(model, paths[2])
    done = shrink.call("run", paths[2], "compact", "-o", paths[3])
    assert done.returncode == 0, done.stderr
    after = onnx.load(paths[3])
    onnx.checker.check_model(after, full_check=True)
    assert parameters(model) - parameters(after) == removed_by_report(done.stdout) > 0
    assert paths[3].stat().st_size < 0.8 * paths[2].stat().st_size
    x = shrink.images[:256].reshape(256, *{"mlp": [784], "cnn": [1, 28, 28]}[name])
    y, z = (shrink.session(m).run(None, {model.graph.input[0].name: x})[0] for m in paths[2:])
    assert np.abs(y - z).max() <= 1e-5 * np.abs(y).max()


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_compact_after_zeroing_is_removal(shrink, name):
    zero = shrink.run(MODELS / f"{name}.onnx", "prune_structured", "remove=false")
    cut = shrink.run(MODELS / f"{name}.onnx", "prune_structured")
    a, b = weights(onnx.load(cut)), weights(onnx.load(shrink.run(zero, "compact")))
    assert {n: w.shape for n, w in a.items()} == {n: w.shape for n, w in b.items()}


# ── Recurrence ──────────────────────────────────────────────────────────────────────────────────


def recurrent(path, op, direction, state):
    """Two stacked recurrences; the second is read by its outputs, or by its last state."""
    rng, weights_, nodes = np.random.default_rng(1), [], []
    gates, dirs = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1

    def add(name, *shape):
        w = rng.normal(size=shape).astype(np.float32) / 3
        weights_.append(numpy_helper.from_array(w, name))
        return name

    def ints(name, *values):
        weights_.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    x, width = "x", 5
    for i, hidden in enumerate((8, 6)):
        inputs = [x, add(f"w{i}", dirs, gates * hidden, width), add(f"r{i}", dirs, gates * hidden, hidden),
                  add(f"b{i}", dirs, 2 * gates * hidden)]
        nodes.append(helper.make_node(op, inputs, [f"y{i}", f"h{i}"], f"{op.lower()}{i}",
                                      hidden_size=hidden, direction=direction))
        nodes.append(helper.make_node("Transpose", [f"y{i}"], [f"t{i}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"t{i}", ints(f"s{i}", 0, 0, dirs * hidden)], [f"x{i}"]))
        x, width = f"x{i}", dirs * hidden
    if state:
        nodes.append(helper.make_node("Transpose", ["h1"], ["ht"], perm=[1, 0, 2]))
        nodes.append(helper.make_node("Reshape", ["ht", ints("sh", -1, width)], ["last"]))
    nodes.append(helper.make_node("MatMul", ["last" if state else x, add("head", width, 3)], ["y"], "head"))
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights_)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


@pytest.mark.parametrize("state", [False, True], ids=["outputs", "state"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_hidden_units_go_with_all_their_gates(shrink, op, direction, state):
    path = shrink.folder / "recurrent.onnx"
    recurrent(path, op, direction, state)
    x = np.random.default_rng(2).normal(size=(4, 3, 5)).astype(np.float32)
    report = check_zeros(shrink, path, x, "amount=0.5")
    assert report.count("removed 4 of 8 channels") == report.count("removed 3 of 6 channels") == 1
    sizes = [a.i for node in onnx.load(shrink.folder / "structured.onnx").graph.node
             for a in node.attribute if a.name == "hidden_size"]
    assert sizes == [4, 3]


# ── Sensitivity and targets ─────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def some_images(shrink):
    path = shrink.folder / "some.npz"
    np.savez(path, images=shrink.images[:200].reshape(200, 784))
    return path


def agreement(shrink, model, path):
    x = shrink.images[:200].reshape(200, 784)
    a, b = (shrink.session(m).run(None, {shrink.session(m).get_inputs()[0].name: x})[0].argmax(1)
            for m in (model, path))
    return float((a == b).mean())


def test_sensitivity_is_the_agreement_of_models_with_one_group_pruned(shrink, some_images):
    path = MODELS / "mlp.onnx"
    done = shrink.call("run", path, "prune_structured", "sensitivity=true", "--calibrate", some_images,
                       "-o", shrink.folder / "sensitivity.onnx")
    assert done.returncode == 0, done.stderr
    rows = {line.split("\t")[1]: line for line in done.stdout.splitlines() if "agreement" in line}
    assert len(rows) == 2
    for layer, row in rows.items():
        told = dict(f.split("=") for f in row.split("\t")[3:])
        for percent in (30, 80):
            alone = shrink.folder / "alone.onnx"
            done = shrink.call("run", path, "prune_structured", f"amount={percent / 100}",
                               f"nodes.include={layer}", "-o", alone)
            assert done.returncode == 0, done.stderr
            assert abs(float(told[f"agreement_{percent}"]) - agreement(shrink, path, alone)) < 0.006


@pytest.mark.parametrize("target", ["size_ratio=0.4", "macs_ratio=0.3", "max_accuracy_drop=0.05"])
def test_a_target_is_met(shrink, some_images, target):
    path, out = MODELS / "mlp.onnx", shrink.folder / "target.onnx"
    done = shrink.call("run", path, "prune_structured", f"target.{target}", "--calibrate", some_images,
                       "-o", out)
    assert done.returncode == 0, done.stderr
    kind, bound = target.split("=")
    small, large = (sum(w.size for w in weights(onnx.load(m)).values() if w.ndim == 2)
                    for m in (out, path))  # of a perceptron these are its MACs
    if kind == "size_ratio":
        assert out.stat().st_size <= float(bound) * path.stat().st_size * 1.01
    elif kind == "macs_ratio":
        assert 0.15 * large < small <= float(bound) * large
    else:
        assert small < 0.9 * large and agreement(shrink, path, out) >= 1 - float(bound) - 0.006


def test_with_labels_a_target_is_met_in_accuracy(shrink):
    path, data, out = MODELS / "mlp.onnx", shrink.folder / "labelled.npz", shrink.folder / "drop.onnx"
    labels = shrink.labels[:500]
    np.savez(data, images=shrink.images[:500].reshape(500, 784), labels=labels)
    done = shrink.call("run", path, "prune_structured", "target.max_accuracy_drop=0.02",
                       "samples=500", "--calibrate", data, "-o", out)
    assert done.returncode == 0, done.stderr
    told = re.search(r"accuracy on data.calibrate (0[.][0-9]+)", done.stdout)

    def right(model):
        one = shrink.session(model)
        x = shrink.images[:500].reshape(500, 784)
        return float((one.run(None, {one.get_inputs()[0].name: x})[0].argmax(1) == labels).mean())

    assert abs(float(told[1]) - right(out)) < 0.0025
    assert right(out) >= right(path) - 0.0225
    assert sum(w.size for w in weights(onnx.load(out)).values()) < 0.8 * 266610


def test_a_target_out_of_reach_is_told(shrink, some_images):
    done = shrink.call("run", MODELS / "mlp.onnx", "prune_structured", "target.size_ratio=0.001",
                       "--calibrate", some_images, "-o", shrink.folder / "none.onnx")
    assert done.returncode == 1
    assert "target: it cannot be reached; the least is a size_ratio of 0.0" in done.stderr
