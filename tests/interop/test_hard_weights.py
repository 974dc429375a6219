"""Weights that quantizers stumble over: the result is sound in ONNX Runtime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

K, N = 64, 32
RNG = np.random.default_rng(11)
X = RNG.standard_normal((8, K)).astype(np.float32)


def normal():
    return RNG.standard_normal((K, N)).astype(np.float32)


def zero_column():
    w = normal()
    w[:, 3] = 0
    return w


def outlier():
    w = normal()
    w[5, 7] = 1e6
    return w


def huge():
    w = normal()
    w[5, 7] = 3e38
    return w


WEIGHTS = {
    "zeros": lambda: np.zeros((K, N), np.float32),
    "zero_column": zero_column,
    "constant": lambda: np.full((K, N), 0.75, np.float32),
    "negative": lambda: np.full((K, N), -1e-3, np.float32),
    "outlier": outlier,
    "huge": huge,
    "tiny": lambda: normal() * np.float32(1e-30),
    "denormal": lambda: normal() * np.float32(1e-40),
}
PASSES = {
    "columns": ("quantize_dynamic",),
    "tensor": ("quantize_dynamic", "per_channel=false"),
    "uint8": ("quantize_dynamic", "weight_type=uint8"),
    "static": ("quantize_static", "calibration=minmax"),
    "static_tensor": ("quantize_static", "calibration=minmax", "per_channel=false"),
    "bits8": ("quantize_weights", "bits=8"),
    "bits4": ("quantize_weights", "bits=4", "symmetric=true"),
    "float16": ("convert",),
    "bfloat16": ("convert", "type=bfloat16"),
}


def bound(how, x, w):
    """What rounding may cost each output: of the weights, and of the inputs where they are integers."""
    relative = {"float16": 2**-11, "bfloat16": 2**-8}.get(how)
    sums = np.abs(x) @ np.abs(w)
    if relative is not None:
        return (relative + 1e-5) * sums
    steps = {"bits4": 7, "static": 64, "static_tensor": 64}.get(how, 127)  # a pair may not saturate
    cost = np.abs(w).max() / steps * np.abs(x).sum(1, keepdims=True) + 1e-5 * sums
    if PASSES[how][0] in ("quantize_dynamic", "quantize_static"):
        cost = cost + 0.6 * (x.max() - x.min()) / 255 * np.abs(w).sum(0)
    return cost


def save(path, w, products=1):
    names = ["x", "h", "y"] if products == 2 else ["x", "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [a, "w"], [b], a + b) for a, b in zip(names, names[1:])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", w.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", w.shape[1]])],
        [numpy_helper.from_array(w, "w")],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path)


def calibrate(how, folder, x):
    if PASSES[how][0] != "quantize_static":
        return []
    np.savez(folder / "x.npz", x=x)
    return ["--calibrate", folder / "x.npz"]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("how", PASSES)
def test_the_result_is_finite_and_near(shrink, tmp_path, weights, how):
    w = WEIGHTS[weights]()
    path, small = tmp_path / "m.onnx", tmp_path / "q.onnx"
    save(path, w)
    x = X * np.float32(1e-3)
    done = shrink.call("run", path, *PASSES[how], *calibrate(how, tmp_path, x), "-o", small)
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(onnx.load(small), full_check=True)
    y = shrink.session(small).run(None, {"x": x})[0].astype(np.float64)
    real = x.astype(np.float64) @ w.astype(np.float64)
    assert np.isfinite(y).all()
    assert (np.abs(y - real) <= bound(how, x.astype(np.float64), w.astype(np.float64)) + 1e-38).all()


@pytest.mark.parametrize("how", PASSES)
def test_a_tied_weight_takes_its_bytes_once(shrink, tmp_path, how):
    w = RNG.standard_normal((128, 128)).astype(np.float32)
    sizes = []
    for products in (1, 2):
        path, small = tmp_path / "m.onnx", tmp_path / "q.onnx"
        save(path, w, products)
        data = calibrate(how, tmp_path, RNG.standard_normal((8, 128)).astype(np.float32))
        done = shrink.call("run", path, *PASSES[how], *data, "-o", small)
        assert done.returncode == 0, done.stderr
        sizes.append(small.stat().st_size)
    assert sizes[1] - sizes[0] < 1500  # nodes, no weights
