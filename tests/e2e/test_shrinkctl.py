"""shrinkctl as people and scripts use it: each command, its words, its exit code."""

import json

import pytest
from conftest import FASHION, MODELS, Daemon
from test_api_items import MLP, put
from test_api_jobs import PRUNE

SUBMIT = ["job", "submit", "--model", "mlp", "--pass", "prune_unstructured amount=0.5"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("ctl"))
    assert put(daemon, "mlp", MLP).status == 201
    yield daemon
    daemon.finish()


@pytest.fixture(scope="module")
def job(shared):
    """The id of a job that has succeeded."""
    result = shared.ctl(*SUBMIT, "--name", "half", "--wait", "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["id"]


def ok(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


# ── Commands ────────────────────────────────────────────────────────────────────────────────────

def test_models_go_in_and_out(shared, tmp_path):
    shown = ok(shared.ctl("model", "put", "m", MODELS / "mlp.onnx"))
    assert "float32[batch, 784]" in shown and "266,610" in shown and "1.07 MB" in shown
    assert ok(shared.ctl("model", "show", "m")) == shown
    assert json.loads(ok(shared.ctl("model", "show", "m", "--json")))["parameters"] == 266610
    assert ok(shared.ctl("model", "list")).splitlines()[0].split()[:2] == ["NAME", "VERSION"]
    assert {m["name"] for m in json.loads(ok(shared.ctl("--json", "model", "list")))} == {"m", "mlp"}
    ok(shared.ctl("model", "get", "m", "-o", tmp_path / "m.onnx"))
    assert (tmp_path / "m.onnx").read_bytes() == MLP
    assert ok(shared.ctl("model", "delete", "m")) == "m deleted\n"
    assert shared.ctl("model", "show", "m").returncode == 1


def test_datasets_from_idx_and_npz(shared, fashion):
    shown = ok(shared.ctl("dataset", "put", "idx", "--images", FASHION / "t10k-images-idx3-ubyte.gz",
                          "--labels", FASHION / "t10k-labels-idx1-ubyte.gz", "--scale", "0.5"))
    assert "uint8[10000, 28, 28]" in shown and "10,000" in shown
    ok(shared.ctl("dataset", "put", "npz", fashion / "small.npz"))
    assert "500" in ok(shared.ctl("dataset", "show", "npz"))
    assert len(json.loads(ok(shared.ctl("dataset", "list", "--json")))) == 2
    for name in ("idx", "npz"):
        ok(shared.ctl("dataset", "delete", name))


def test_a_job_is_shown_listed_reported_compared_and_fetched(shared, job, tmp_path):
    shown = ok(shared.ctl("job", "show", job))
    assert shown.startswith(f"{job} half succeeded\n") and "prune_unstructured" in shown
    listed = ok(shared.ctl("job", "list", "--state", "succeeded", "--model", "mlp"))
    assert job in listed and "half" in listed and "prune_unstructured" in listed
    report = ok(shared.ctl("job", "report", job))
    assert report.startswith("step 0: original\nstep 1: prune_unstructured\n  + ")
    assert "  scales and zero points" in report
    assert json.loads(ok(shared.ctl("job", "report", job, "--json")))["id"] == job

    table = ok(shared.ctl("compare", job)).splitlines()
    assert "original" in table[-2] and "prune_unstructured" in table[-1]
    assert ok(shared.ctl("compare", job, "--format", "markdown")).startswith("| ")
    assert len(json.loads(ok(shared.ctl("compare", job, "--json")))["rows"]) == 2

    for words, step in [([], 1), (["--step", "0"], 0), (["--step", "1"], 1)]:
        target = tmp_path / f"{step}.onnx"
        ok(shared.ctl("job", "fetch", job, *words, "-o", target))
        artifact = shared.get(f"/v1/jobs/{job}/artifacts/{step}/content").body
        assert target.read_bytes() == artifact
    assert (tmp_path / "0.onnx").read_bytes() == MLP


def test_a_job_is_steered(shared):
    long = {**PRUNE, "evaluate": {"latency": {"batch": [1], "seconds": 60}}}
    made = ok(shared.ctl("job", "submit", "-", input=json.dumps(long)))
    name, state = made.split()
    assert name.startswith("job_") and state in ("queued", "running")
    ok(shared.ctl("job", "cancel", name))
    result = shared.ctl("job", "wait", name)
    assert result.returncode == 4 and "cancelled" in result.stdout
    assert ok(shared.ctl("job", "retry", name)).split()[1] in ("queued", "running")
    refused = shared.ctl("job", "delete", name)
    assert refused.returncode == 1 and "cancel it first" in refused.stderr
    ok(shared.ctl("job", "cancel", name))
    assert shared.ctl("job", "wait", name, "--quiet").returncode == 4
    assert ok(shared.ctl("job", "delete", name)) == f"{name} deleted\n"


def test_a_key_makes_a_submission_safe_to_repeat(shared):
    first = ok(shared.ctl(*SUBMIT, "--key", "once")).split()[0]
    assert ok(shared.ctl(*SUBMIT, "--key", "once")).split()[0] == first
    ok(shared.ctl("job", "wait", first))


def test_passes_and_status(shared):
    text = ok(shared.ctl("passes"))
    for name in ("optimize", "quantize_dynamic", "quantize_static", "quantize_weights", "convert",
                 "prune_unstructured"):
        assert f"{name}\n    " in text
    assert "99.99 " in text and "99.98999" not in text
    assert ok(shared.ctl("passes", "optimize")).startswith("optimize\n")
    status = ok(shared.ctl("status"))
    assert status.startswith("shrinkd ") and "queue_max" in status and status.endswith("ready\n")
    assert json.loads(ok(shared.ctl("status", "--json")))["name"] == "shrinkd"


# ── Exit codes ──────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("words", [
    [], ["bogus"], ["model"], ["model", "bogus"], ["--bogus"], ["--server"], ["model", "put", "x"],
    ["model", "list", "extra"], ["model", "get"], ["model", "get", "a", "b"], ["job", "show"],
    ["job", "show", "a", "b"], ["job", "list", "extra"], ["job", "list", "--bogus"], ["job", "submit"],
    ["job", "submit", "a", "b"], ["job", "submit", "--model"], ["job", "fetch"],
    ["job", "fetch", "a", "b"], ["compare"], ["dataset", "put", "x"], ["passes", "bogus"],
    ["job", "submit", "--model", "m", "--pass", "optimize fuse"],
])
def test_2_the_command_line_is_wrong(shared, words):
    result = shared.ctl(*words)
    assert result.returncode == 2 and result.stdout == "" and result.stderr


def test_1_the_server_refuses(shared):
    for words, text in [(["model", "show", "absent"], "model absent does not exist"),
                        (["job", "wait", "job_x"], "job job_x does not exist"),
                        (["job", "fetch", "job_x"], "job job_x does not exist"),
                        (["compare", "job_x"], "job job_x does not exist"),
                        (["model", "put", "x", "/etc/passwd"], "not a valid ONNX file"),
                        (["job", "submit", "--model", "mlp", "--pass", "optimize level=3"],
                         "pipeline[0].level")]:
        result = shared.ctl(*words)
        assert result.returncode == 1 and text in result.stderr, result


def test_3_no_server(shared):
    result = shared.ctl("--server", "http://127.0.0.1:1", "model", "list")
    assert result.returncode == 3 and "127.0.0.1:1" in result.stderr


def test_4_the_job_failed(shared):
    result = shared.ctl("job", "submit", "--model", "mlp", "--pass", "optimize", "--evaluate", "absent")
    assert result.returncode == 1
    import numpy
    from test_api_items import npz
    put(shared, "misfit", npz(x=numpy.zeros((4, 7), numpy.float32)), "datasets")
    result = shared.ctl(*SUBMIT, "--evaluate", "misfit", "--wait")
    assert result.returncode == 4
    assert "\nerror: data.evaluate: " in result.stdout, result.stdout


def test_5_an_assert_does_not_hold(shared):
    result = shared.ctl(*SUBMIT, "--assert", "size_bytes < 10", "--wait")
    assert result.returncode == 5 and "assert size_bytes < 10: DOES NOT HOLD" in result.stdout
    job = result.stdout.split()[0]
    assert shared.ctl("job", "wait", job, "--json").returncode == 5
    line = [line for line in ok(shared.ctl("job", "list")).splitlines() if job in line]
    assert line[0].split()[1:3] == ["succeeded", "fail"]


def test_6_a_local_file(shared, job, tmp_path):
    for words in (["model", "put", "x", "/absent"], ["job", "submit", "/absent.json"],
                  ["--token-file", "/absent", "model", "list"],
                  ["job", "fetch", job, "-o", "/absent/file"]):
        result = shared.ctl(*words)
        assert result.returncode == 6 and "/absent" in result.stderr, result


def test_a_download_that_fails_leaves_the_file_as_it_was(shared, tmp_path):
    target = tmp_path / "precious.onnx"
    target.write_text("precious")
    assert shared.ctl("model", "get", "absent", "-o", target).returncode == 1
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["precious.onnx"]
