"""quantize_static compat=ort and compat=pytorch: scales and zero points are those that
onnxruntime.quantization and the observers of torch.ao.quantization choose, bit for bit.

Samples and weights are small multiples of powers of two, so that float sums are exact in any order
and what is seen is the same in all three engines."""

import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static,
)

from conftest import TORCH

N = 32


def make(folder):
    """Conv, Relu, MaxPool, a second branch, Concat, AveragePool, Conv, Relu, Gemm."""
    rng = np.random.default_rng(11)
    weights = {
        "w1": rng.integers(-16, 17, (4, 2, 3, 3)) / 16, "b1": rng.integers(-16, 17, 4) / 16,
        "w2": rng.integers(-8, 9, (4, 4, 1, 1)) / 16, "b2": rng.integers(-16, 17, 4) / 16,
        "w3": rng.integers(-8, 9, (6, 8, 2, 2)) / 16, "b3": np.array([1e4, 0, 0.5, -1, 2, 3]),
        "w4": rng.integers(-8, 9, (6, 5)) / 16, "b4": rng.integers(-16, 17, 5) / 16,
    }
    weights["w3"][0] = 0
    weights["w3"][0, 0, 0, 0] = 2.0**-40  # whose scale the bias would overflow
    weights = {name: w.astype(np.float32) for name, w in weights.items()}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], "conv1"), node("Relu", ["c1"], ["r1"], "relu1"),
        node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], ["c2"], "conv2"),
        node("Concat", ["p1", "c2"], ["j"], "join", axis=1),
        node("AveragePool", ["j"], ["p2"], "pool2", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p2", "w3", "b3"], ["c3"], "conv3"), node("Relu", ["c3"], ["r3"], "relu3"),
        node("Flatten", ["r3"], ["f"], "flatten"), node("Gemm", ["f", "w4", "b4"], ["y"], "fc"),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", 1, ["N", 2, 10, 10])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(w, name) for name, w in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "m.onnx")
    x = (rng.integers(-8, 13, (N, 2, 10, 10)) / 4).astype(np.float32)
    np.save(folder / "x.npy", x)
    return weights, x


def params_of(path):
    """Of each quantized tensor, by its name in the float model: scale and zero point."""
    model = onnx.load(path)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {}
    for n in model.graph.node:
        if n.op_type == "QuantizeLinear":
            found[n.input[0]] = constants[n.input[1]], constants[n.input[2]]
        elif n.op_type == "DequantizeLinear" and n.input[0] in constants:
            zero = constants[n.input[2]] if len(n.input) > 2 else np.int32(0)
            found[n.input[0].split("_")[0]] = constants[n.input[1]], zero
    return found


def run(shrink, folder, *arguments):
    done = shrink.call("run", folder / "m.onnx", "quantize_static", "calibration=minmax", *arguments,
                       "--calibrate", folder / "x.npy", "-o", folder / "ours.onnx")
    assert done.returncode == 0, done.stderr
    shrink.session(folder / "ours.onnx")
    return params_of(folder / "ours.onnx")


def same(ours, theirs):
    return all(np.array_equal(np.ravel(a), np.ravel(b)) if np.ndim(a) == np.ndim(b) or
               np.size(a) == np.size(b) else np.all(a == b) for a, b in zip(ours, theirs))


class Reader(CalibrationDataReader):
    def __init__(self, x):
        self.feeds = iter([{"x": part} for part in np.split(x, 4)])

    def get_next(self):
        return next(self.feeds, None)


@pytest.mark.parametrize("activation, per_channel, reduce_range", [
    ("uint8", True, False), ("int8", True, True), ("uint8", False, True), ("int8", False, False)])
def test_scales_are_those_of_onnx_runtime(shrink, tmp_path, activation, per_channel, reduce_range):
    weights, x = make(tmp_path)
    ours = run(shrink, tmp_path, "compat=ort", f"activation_type={activation}",
               f"per_channel={per_channel}".lower(), f"reduce_range={reduce_range}".lower())
    quantize_static(
        tmp_path / "m.onnx", tmp_path / "theirs.onnx", Reader(x), quant_format=QuantFormat.QDQ,
        per_channel=per_channel, reduce_range=reduce_range, weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8 if activation == "uint8" else QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax)
    theirs = params_of(tmp_path / "theirs.onnx")
    assert {"x", "r1", "p1", "c2", "p2", "r3", "f", *weights} <= set(ours)
    assert set(ours) <= set(theirs)
    assert [name for name in ours if not same(ours[name], theirs[name])] == []


OBSERVE = """
import json, sys, numpy, torch
from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver
import torch.nn.functional as f
torch.set_num_threads(1)
folder = sys.argv[1]
w = {k: torch.from_numpy(v) for k, v in numpy.load(folder + "/weights.npz").items()}
modes = [(t, r) for t in ("quint8", "qint8") for r in ("true", "false")]
def new():
    return [MinMaxObserver(dtype=getattr(torch, t), reduce_range=r == "true") for t, r in modes]
seen = {name: new() for name in ("x", "j", "r3")}
seen["r1"] = seen["p1"] = seen["c2"] = seen["p2"] = seen["j"]  # as torch.cat and pools share them
seen["f"] = seen["r3"]
def see(name, value):
    for observer in seen[name]:
        observer(value)
    return value
for part in torch.from_numpy(numpy.load(folder + "/x.npy")).split(8):
    see("x", part)
    r1 = see("r1", f.conv2d(part, w["w1"], w["b1"]).relu())
    p1 = see("p1", f.max_pool2d(r1, 2))
    c2 = see("c2", f.conv2d(p1, w["w2"], w["b2"]))
    p2 = see("p2", f.avg_pool2d(see("j", torch.cat([p1, c2], 1)), 2))
    see("f", see("r3", f.conv2d(p2, w["w3"], w["b3"]).relu()).flatten(1))
for name, axis in (("w1", 0), ("w2", 0), ("w4", 1)):
    seen[name] = [PerChannelMinMaxObserver(axis, torch.qint8, torch.per_channel_symmetric)] * 4
    see(name, w[name])
print(json.dumps([{k: [v.tolist() for v in s[i].calculate_qparams()] for k, s in seen.items()}
                  for i in range(len(modes))]))
"""


def test_scales_are_those_of_pytorch(shrink, tmp_path):
    weights, _ = make(tmp_path)
    np.savez(tmp_path / "weights.npz", **weights)
    done = subprocess.run([TORCH, "-c", OBSERVE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modes = [(t, r) for t in ("uint8", "int8") for r in ("true", "false")]
    for (activation, reduced), theirs in zip(modes, json.loads(done.stdout), strict=True):
        ours = run(shrink, tmp_path, "compat=pytorch", f"activation_type={activation}",
                   f"reduce_range={reduced}")
        assert {"x", "r1", "p1", "c2", "p2", "f", "w1", "w2", "w4"} <= set(ours)
        for name in set(ours) & set(theirs):
            scale, zero = theirs[name]
            assert np.array_equal(np.ravel(ours[name][0]), np.float32(scale)), (name, activation)
            assert np.all(ours[name][1] == np.array(zero)), (name, activation)


def test_what_is_not_reproduced_is_refused(shrink, tmp_path):
    make(tmp_path)
    done = shrink.call("run", tmp_path / "m.onnx", "quantize_static", "compat=ort", "--calibrate",
                       tmp_path / "x.npy", "-o", tmp_path / "no.onnx")
    assert done.returncode != 0
    assert "compat: ort is reproduced with calibration minmax only" in done.stderr
    assert not (tmp_path / "no.onnx").exists()
