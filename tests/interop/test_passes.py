"""What the passes emit, judged by onnx.checker, ONNX Runtime and PyTorch on 10,000 test images."""

import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import MODELS, TORCH


def agreement(a, b):
    return float(np.mean(a.argmax(1) == b.argmax(1)))


def size(path):
    return path.stat().st_size


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
def test_optimize_keeps_the_function(shrink, name):
    model = MODELS / f"{name}.onnx"
    small = shrink.run(model, "optimize")
    before, after, theirs = shrink.ours(model), shrink.ours(small), shrink.theirs(small)
    assert np.abs(before - after).max() < 1e-3
    assert agreement(after, theirs) >= 0.999
    ops = [node.op_type for node in onnx.load(small).graph.node]
    assert "BatchNormalization" not in ops
    assert size(small) <= size(model)


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
def test_quantize_dynamic_agrees_and_is_fused(shrink, name):
    model = MODELS / f"{name}.onnx"
    small = shrink.run(model, "quantize_dynamic")
    ours, theirs = shrink.ours(small), shrink.theirs(small)
    assert agreement(ours, theirs) >= 0.99
    assert shrink.accuracy(ours) >= shrink.accuracy(shrink.ours(model)) - 0.003
    assert shrink.accuracy(theirs) >= shrink.accuracy(shrink.theirs(model)) - 0.003
    ops = shrink.fused(small)
    assert "MatMulInteger" not in ops
    assert ops["DynamicQuantizeMatMul"] == {"mlp": 3, "cnn": 2, "lstm": 1}[name]


def test_weights_of_four_bits_lose_little_of_the_mlp(shrink):
    model = MODELS / "mlp.onnx"
    small = shrink.run(model, "quantize_weights", "bits=4")
    for run in (shrink.ours, shrink.theirs):
        assert shrink.accuracy(run(small)) >= shrink.accuracy(run(model)) - 0.015


def test_quantize_dynamic_is_small(shrink):
    model = MODELS / "mlp.onnx"
    assert size(model) / size(shrink.run(model, "quantize_dynamic")) >= 3.3


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_quantize_static_is_small_accurate_and_agrees(shrink, name, calibration):
    model = MODELS / f"{name}.onnx"
    small = shrink.run(model, "quantize_static", f"calibration={calibration}")
    ours, theirs = shrink.ours(small), shrink.theirs(small)
    assert agreement(ours, theirs) >= 0.99
    assert shrink.accuracy(ours) >= shrink.accuracy(shrink.ours(model)) - 0.003
    assert shrink.accuracy(theirs) >= shrink.accuracy(shrink.theirs(model)) - 0.003
    assert size(model) / size(small) >= {"mlp": 3.8, "cnn": 3.5}[name]


@pytest.mark.parametrize("calibration", ["percentile", "entropy"])
def test_less_memory_makes_batches_smaller_and_changes_nothing(shrink, calibration):
    made = [shrink.run(MODELS / "cnn.onnx", "quantize_static", f"calibration={calibration}", "samples=33",
                       f"max_memory={memory}").read_bytes() for memory in ("0", "8MiB", "4MiB")]
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_quantize_static_is_all_integers_in_onnx_runtime(shrink, name):
    ops = shrink.fused(shrink.run(MODELS / f"{name}.onnx", "quantize_static"))
    assert ops["QuantizeLinear"] == 1
    assert "DequantizeLinear" not in ops and "Gemm" not in ops and "Conv" not in ops
    assert ops["QGemm"] == {"mlp": 3, "cnn": 2}[name]
    if name == "cnn":
        assert ops["QLinearConv"] == 5 and ops["QLinearAdd"] == 1 and "Relu" not in ops


@pytest.mark.parametrize(
    "arguments",
    [
        ("activation_type=int8",),
        ("per_channel=false",),
        ("reduce_range=true",),
        ("bias_correction=false", "samples=64"),
        ("nodes.op_types=Gemm",),
        ("pre_optimize=false",),
    ],
)
def test_quantize_static_options_load_and_agree(shrink, arguments):
    small = shrink.run(MODELS / "cnn.onnx", "quantize_static", "calibration=minmax", *arguments)
    ours, theirs = shrink.ours(small), shrink.theirs(small)
    assert agreement(ours, theirs) >= 0.99
    assert shrink.accuracy(theirs) > 0.92


def test_given_ranges_are_what_onnx_runtime_computes_with(shrink):
    first = onnx.load(MODELS / "cnn.onnx").graph.input[0].name
    plain = shrink.run(MODELS / "cnn.onnx", "quantize_static", "calibration=minmax")
    small = shrink.run(
        MODELS / "cnn.onnx", "quantize_static", "calibration=minmax", f"ranges={first}=0:0.5")
    assert weights(small)[f"{first}_s"] == np.float32(0.5 / 255)
    ours, theirs = shrink.ours(small), shrink.theirs(small)
    assert agreement(ours, theirs) >= 0.99
    assert np.abs(theirs - shrink.theirs(plain)).max() > 0.5  # what is bright is cut


def test_quantize_static_reaches_the_tail_of_the_lstm(shrink):
    small = shrink.run(MODELS / "lstm.onnx", "quantize_static")
    assert agreement(shrink.ours(small), shrink.theirs(small)) >= 0.99


def weights(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def is_prunable(w):
    return w.dtype == np.float32 and w.ndim >= 2 and not (w.ndim == 2 and len(w) == 1)


# One process for all cases: importing torch takes longer than pruning.
PRUNE = """
import json, sys, numpy, torch
from torch.nn.utils import prune
masks = {}
for case in json.load(sys.stdin):
    key, path, scope, amount, times = case
    modules = {}
    for name, w in dict(numpy.load(path)).items():
        modules[name] = torch.nn.Module()
        modules[name].w = torch.nn.Parameter(torch.from_numpy(w))
    for _ in range(times):
        if scope == "global":
            pairs = [(m, "w") for m in modules.values()]
            prune.global_unstructured(pairs, prune.L1Unstructured, amount=amount)
        else:
            for m in modules.values():
                prune.l1_unstructured(m, "w", amount)
    for name, m in modules.items():
        masks[key + " " + name] = m.w_mask.numpy() != 0
numpy.savez(sys.argv[1], **masks)
"""

PRUNE_CASES = [
    (name, scope, amount, times)
    for name in ("mlp", "cnn", "lstm")
    for scope, amount in (("layer", 0.5), ("layer", 50), ("global", 0.3), ("global", 777))
    for times in (1, 2)
]


@pytest.fixture(scope="session")
def torch_masks(shrink):
    cases = []
    for name, *rest in PRUNE_CASES:
        path = shrink.folder / f"{name}.npz"
        if not path.exists():
            model = weights(MODELS / f"{name}.onnx")
            np.savez(path, **{n: w for n, w in model.items() if is_prunable(w)})
        cases.append([str((name, *rest)), str(path), *rest])
    out = shrink.folder / "masks.npz"
    done = subprocess.run(
        [TORCH, "-c", PRUNE, out], input=json.dumps(cases), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(out)


@pytest.mark.parametrize("case", PRUNE_CASES, ids=str)
def test_prune_gives_the_mask_of_torch(shrink, torch_masks, case):
    name, scope, amount, times = case
    model = small = MODELS / f"{name}.onnx"
    for _ in range(times):
        small = shrink.run(small, "prune_unstructured", f"scope={scope}", f"amount={amount}")
    before, after = weights(model), weights(small)
    ties = 0
    for n, w in before.items():
        if not is_prunable(w):
            assert (w == after[n]).all()
            continue
        ours = after[n] != 0
        assert (after[n][ours] == w[ours]).all()
        wrong = ours != torch_masks[f"{case} {n}"]
        ties += wrong.sum()
        if scope == "layer":  # where they differ, all magnitudes are the one of the threshold
            assert len(np.unique(np.abs(w[wrong]))) <= 1
    assert ties <= 4


def test_prune_leaves_half_of_the_mlp(shrink):
    after = weights(shrink.run(MODELS / "mlp.onnx", "prune_unstructured"))
    kept = sum(np.count_nonzero(w) for w in after.values() if w.ndim == 2)
    assert kept == 133100


@pytest.mark.parametrize("first", ["quantize_static", "quantize_dynamic"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_prune_of_a_quantized_model_loads_and_agrees(shrink, name, first):
    quantized = shrink.run(MODELS / f"{name}.onnx", first)
    small = shrink.run(quantized, "prune_unstructured")
    before, after = weights(quantized), weights(small)
    integers = [n for n, w in after.items() if w.dtype == np.int8 and w.ndim >= 2]
    assert integers
    for n in integers:  # half of what rounding has left; zero points are 0
        left = np.count_nonzero(before[n])
        assert np.count_nonzero(after[n]) == left - round(left * 0.5)
    assert agreement(shrink.ours(small), shrink.theirs(small)) >= 0.99


def test_pruned_blocks_of_outputs_run_in_a_sparse_kernel_to_the_same_result(shrink):
    path = shrink.run(MODELS / "mlp.onnx", "prune_unstructured", "block=8", "amount=0.8")
    for name, w in weights(path).items():
        if w.ndim == 2:  # (outputs, inputs)
            whole = w[:len(w) // 8 * 8].reshape(-1, 8, w.shape[1])
            zero = (whole == 0).all(axis=1)
            assert (zero == (whole == 0).any(axis=1)).all(), name
            assert 0.7 < zero.mean() < 0.9, name
    assert np.allclose(shrink.ours(path), shrink.theirs(path), atol=1e-4)


def test_prune_pattern_leaves_two_of_four(shrink):
    after = weights(shrink.run(MODELS / "mlp.onnx", "prune_unstructured", "pattern=2:4"))
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        groups = (after[name] != 0).reshape(after[name].shape[0], -1, 4)  # (N, K): along K
        assert groups.sum(2).max() == 2


@pytest.mark.parametrize("store", ["sparse", "sparse_int64"])
def test_a_sparse_file_is_smaller_and_means_the_same(shrink, store):
    dense = shrink.run(MODELS / "mlp.onnx", "prune_unstructured", "amount=0.8")
    words = ["run", MODELS / "mlp.onnx", "prune_unstructured", "amount=0.8", f"store={store}"]
    sparse = shrink.folder / f"{store}.onnx"
    done = shrink.call(*words, "-o", sparse)
    assert done.returncode == 0, done.stderr
    assert sparse.stat().st_size < {"sparse": 0.42, "sparse_int64": 0.63}[store] * dense.stat().st_size
    if store == "sparse_int64":  # the checker knows no other indices
        onnx.checker.check_model(onnx.load(sparse))
    assert (shrink.theirs(sparse) == shrink.theirs(dense)).all()
    assert (shrink.ours(sparse) == shrink.ours(dense)).all()


def test_half_of_the_weights_is_smaller_sparse(shrink):
    """Where int16 indices do; 32-bit ones beside 32-bit weights break even."""
    dense = shrink.run(MODELS / "mlp.onnx", "prune_unstructured", "amount=0.5")
    sparse = shrink.folder / "half.onnx"
    done = shrink.call("run", MODELS / "mlp.onnx", "prune_unstructured", "amount=0.5",
                       "store=sparse", "-o", sparse)
    assert done.returncode == 0, done.stderr
    assert sparse.stat().st_size < dense.stat().st_size
    assert (shrink.theirs(sparse) == shrink.theirs(dense)).all()


def test_errors_name_the_field(shrink):
    done = shrink.call("run", MODELS / "mlp.onnx", "prune_unstructured", "amount=1.7", "-o", "/dev/null")
    assert done.returncode == 1
    assert "amount: 1.7 is not in [0, 1]" in done.stderr
