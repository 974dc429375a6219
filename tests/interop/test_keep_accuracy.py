"""Layers that stay in float for accuracy: what our engine promises holds in ONNX Runtime too."""

import re

import numpy as np
import onnx
import pytest
from conftest import MODELS
from onnx import numpy_helper

SAMPLES = 400


@pytest.fixture(scope="module")
def data(shrink):
    path = shrink.folder / "keep.npz"
    np.savez(path, images=shrink.images[:SAMPLES].reshape(-1, 784), labels=shrink.labels[:SAMPLES])
    return path


@pytest.fixture(scope="module")
def hurt(shrink):
    """The example perceptron with the inputs of its second layer scaled: eight that are almost
    never alive get weights so large that the others of each output round to zero."""
    model = onnx.load(MODELS / "mlp.onnx")
    weights = {w.name: w for w in model.graph.initializer}
    first, second = (numpy_helper.to_array(weights[f"fc{i}.weight"]).copy() for i in (1, 2))
    bias = numpy_helper.to_array(weights["fc1.bias"]).copy()
    images = shrink.images.reshape(-1, 784)
    alive = (images @ first.T + bias > 0).mean(0)
    dead = np.argsort(alive)[:8]
    first[dead], bias[dead] = 0, 0
    second[:, dead] = 200 * np.abs(second).max()
    for name, value in (("fc1.weight", first), ("fc1.bias", bias), ("fc2.weight", second)):
        weights[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    path = shrink.folder / "hurt.onnx"
    onnx.save(model, path)
    return path


def outputs(shrink, path):
    session = shrink.session(path)
    x = shrink.images[:SAMPLES].reshape(SAMPLES, 784)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def right(shrink, path):
    return float((outputs(shrink, path).argmax(1) == shrink.labels[:SAMPLES]).mean())


def quantize(shrink, model, data, name, *arguments):
    out = shrink.folder / name
    done = shrink.call("run", model, "quantize_static", *arguments, "--calibrate", data, "-o", out)
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(onnx.load(out), full_check=True)
    return out, done.stdout


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_a_drop_in_accuracy_is_met_in_onnx_runtime(shrink, data, hurt, form):
    full = right(shrink, hurt)
    plain, _ = quantize(shrink, hurt, data, "all.onnx", f"format={form}")
    assert right(shrink, plain) < full - 0.1
    kept, report = quantize(shrink, hurt, data, "kept.onnx", f"format={form}", "max_accuracy_drop=0.01")
    assert right(shrink, kept) >= full - 0.01 - 1 / SAMPLES
    assert re.search(r"max_accuracy_drop 0.01 is met with 1 of 3 layers in float", report), report
    assert "/fc2/Gemm\tGemm stays in float: max_accuracy_drop is not met otherwise" in report
    assert kept.stat().st_size < 0.95 * hurt.stat().st_size


def test_sensitivity_is_what_onnx_runtime_makes_of_one_quantized_layer(shrink, data, hurt):
    _, report = quantize(shrink, hurt, data, "told.onnx", "sensitivity=true",
                         f"sensitivity_samples={SAMPLES}")
    rows = {line.split("\t")[1]: dict(f.split("=") for f in line.split("\t")[3:])
            for line in report.splitlines() if "quantized alone" in line}
    assert len(rows) == 3
    wanted = outputs(shrink, hurt)
    for layer, told in rows.items():
        alone, _ = quantize(shrink, hurt, data, "alone.onnx", f"nodes.include={layer}")
        got = outputs(shrink, alone)
        sqnr = 10 * np.log10((wanted.astype(np.float64) ** 2).sum()
                             / ((wanted - got).astype(np.float64) ** 2).sum())
        assert abs(float(told["alone_sqnr_db"]) - sqnr) < 0.2
        assert abs(float(told["alone_accuracy"]) - right(shrink, alone)) <= 1 / SAMPLES + 1e-9
    assert min(rows, key=lambda layer: float(rows[layer]["alone_sqnr_db"])) == "/fc2/Gemm"
