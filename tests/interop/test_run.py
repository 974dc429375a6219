"""shrinkctl run and ops: a model on the command line, and the operators it may have."""

import json
import subprocess

import numpy as np
import onnx
import onnx.defs
import pytest
from conftest import BUILD, MODELS

CTL = BUILD / "clients" / "cli" / "shrinkctl"


def ctl(*words):
    return subprocess.run([CTL, *map(str, words)], capture_output=True, text=True)


def ok(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("model", ["mlp", "cnn", "lstm"])
def test_run_saves_the_outputs_of_onnx_runtime(shrink, tmp_path, model):
    path = MODELS / f"{model}.onnx"
    session = shrink.session(path)
    one = session.get_inputs()[0]
    x = shrink.images[:7].reshape([d if isinstance(d, int) else -1 for d in one.shape])
    np.savez(tmp_path / "x.npz", **{one.name: x})
    ok(ctl("run", path, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz"))
    theirs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {one.name: x})))
    ours = np.load(tmp_path / "y.npz")
    assert set(ours.files) == set(theirs)
    for name, y in theirs.items():
        assert ours[name].dtype == y.dtype
        np.testing.assert_allclose(ours[name], y, atol=1e-4 * np.ptp(y), rtol=0)


def test_run_tells_what_came_out(shrink, tmp_path):
    x = shrink.images[:1].reshape(1, 784)
    np.save(tmp_path / "whatever.npy", x)  # the only array is the only input
    path = MODELS / "mlp.onnx"
    told = json.loads(ok(ctl("run", path, "--input", tmp_path / "whatever.npy", "--json")))
    logits = shrink.session(path).run(None, {shrink.session(path).get_inputs()[0].name: x})[0]
    (output,) = told["outputs"]
    assert output["shape"] == [1, 10] and output["dtype"] == "float32"
    assert output["top"] == np.argsort(-logits[0])[:5].tolist()
    assert output["max"] == pytest.approx(float(logits.max()), abs=1e-4)
    text = ok(ctl("run", path, "--input", tmp_path / "whatever.npy"))
    assert text.splitlines()[0].split() == ["OUTPUT", "TYPE", "SHAPE", "MIN", "MAX", "MEAN"]
    assert f"first row: {output['top'][0]} (" in text


def test_time_and_profile_make_up_the_inputs(tmp_path):
    words = ("run", MODELS / "cnn.onnx", "--batch", 2, "--time", "--profile", "--seconds", 0)
    told = json.loads(ok(ctl(*words, "--json")))
    assert told["outputs"][0]["shape"] == [2, 10]
    assert 0 < told["time"]["p10_ms"] <= told["time"]["median_ms"] <= told["time"]["p90_ms"]
    assert sum(step["share"] for step in told["profile"]) == pytest.approx(1)
    kernels = {step["operator"]: step["kernel"] for step in told["profile"]}
    assert kernels["Conv"] in ("direct", "winograd 2x2", "winograd 4x4", "reference")
    text = ok(ctl(*words))
    assert "ms a run" in text and "steps," in text
    alike = [json.loads(ok(ctl(*words, "--json", "--seed", seed)))["outputs"] for seed in (1, 1, 2)]
    assert alike[0] == alike[1] != alike[2]


@pytest.mark.parametrize("words, told", [
    (["--batch", "two"], "--batch: 'two' is no whole number"),
    (["--dim", "N"], "--dim: 'N' is not name=value"),
    (["--dim", "other=3", "--time"], "no input has an open dimension of this name"),
    (["--const", "other=3", "--time"], "the model has no input other"),
    (["--cpu-mask", "mmx", "--time"], "'mmx' is not among avx2"),
    ([], "0 of 1 inputs are given"),
    (["--input", "missing.npz"], "No such file"),
    (["--threads", "0", "--time"], "not in [1, 1024]"),
])
def test_wrong_words_are_told(words, told):
    done = ctl("run", MODELS / "mlp.onnx", *words)
    assert done.returncode in (2, 6) and told in done.stderr, done.stderr


def test_a_cpu_mask_changes_kernels_and_not_results():
    words = ("run", MODELS / "mlp.onnx", "--time", "--seconds", 0, "--json")
    all_of_it = json.loads(ok(ctl(*words)))["outputs"][0]
    masked = json.loads(ok(ctl(*words, "--cpu-mask", "all")))["outputs"][0]
    assert masked["top"] == all_of_it["top"]
    assert masked["max"] == pytest.approx(all_of_it["max"], abs=1e-4)


def test_ops_and_the_missing_ones_are_all_of_onnx():
    told = json.loads(ok(ctl("ops", "--json")))
    known = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    rows = {op["name"] for op in told["operators"] if op["domain"] == "ai.onnx"}
    missing = [op["name"] for op in told["missing"]]
    assert missing == sorted(set(missing))
    assert not rows & set(missing)
    assert rows | set(missing) == known
    assert all(op["reason"] for op in told["missing"])
    assert json.loads(ok(ctl("ops", "--missing", "--json"))) == {"missing": told["missing"]}
    text = ok(ctl("ops"))
    assert all(name in text for name in rows)
    assert all(name in ok(ctl("ops", "--missing")) for name in missing)
