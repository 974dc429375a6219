"""POST /v1/plan: the sizes that it tells are those that the job makes."""

import json
import threading
import time

import pytest

from conftest import MODELS

TRAINING = {"epochs": 1, "batch_size": 100}
PIPELINES = {
    "optimize": [{"pass": "optimize"}],
    "dynamic": [{"pass": "quantize_dynamic"}],
    "static": [{"pass": "quantize_static", "samples": 64}],
    "weights": [{"pass": "quantize_weights", "bits": 4}],
    "convert": [{"pass": "convert"}],
    "sparse": [{"pass": "prune_unstructured", "amount": 0.9, "store": "sparse"}],
    "narrow": [{"pass": "prune_structured"}],
    "refit": [{"pass": "prune_structured", "norm": "activations", "refit": True, "samples": 64}],
    "compact": [{"pass": "prune_structured", "remove": False}, {"pass": "compact"}],
    "student": [{"pass": "distill", "student": {"shrink": 0.5}, **TRAINING}, {"pass": "quantize_static"}],
    "learned": [{"pass": "finetune", **TRAINING}, {"pass": "quantize_aware", **TRAINING}],
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, fashion):
    from conftest import Daemon
    daemon = Daemon(tmp_path_factory.mktemp("plan"), "--max-plans", "1")
    for name in ("mlp", "cnn", "lstm"):
        assert daemon.put_model(name, MODELS / f"{name}.onnx").status == 201
    assert daemon.put_dataset("small", fashion / "small.npz").status == 201
    yield daemon
    daemon.finish()


def spec(model, pipeline):
    data = {"calibrate": "small", "train": "small"}
    return {"model": model, "pipeline": pipeline, "data": data, "evaluate": {"metrics": ["parameters"]}}


CASES = [("mlp", name) for name in PIPELINES] + [
    ("cnn", "static"), ("cnn", "narrow"), ("cnn", "sparse"), ("lstm", "dynamic"), ("lstm", "convert")]


@pytest.mark.parametrize("model, name", CASES)
def test_each_step_weighs_what_the_plan_said(shared, model, name):
    job = spec(model, PIPELINES[name])
    answer = shared.request("POST", "/v1/plan", job)
    done = shared.wait(shared.submit(job))
    assert (answer.status, done["state"]) == (200, "succeeded"), (answer.body, done["error"])
    told = answer.json()["steps"]
    assert [step["pass"] for step in told] == [step["pass"] for step in done["steps"]]
    for step, made in zip(told, done["steps"]):
        assert abs(step["bytes"] / made["bytes"] - 1) < 0.01, (step, made["bytes"])
        assert step["parameters"] == made["metrics"]["parameters"]
        assert abs(step["size_ratio"] - step["bytes"] / told[0]["bytes"]) < 1e-9
    assert told[0]["bytes"] == done["steps"][0]["bytes"]
    assert told[-1]["ledger"]["after"]["file"] == told[-1]["bytes"]


def test_what_a_job_may_not_be_a_plan_may_not_be(shared):
    wrong = [
        {"model": "absent", "pipeline": [{"pass": "optimize"}]},
        {"model": "mlp", "pipeline": [{"pass": "prune_unstructured", "amount": 1.7}]},
        {"model": "mlp", "pipeline": [{"pass": "quantize_static"}]},
        {"model": "mlp", "pipeline": [{"pass": "nothing"}]},
    ]
    for one in wrong:
        plan, job = (shared.request("POST", path, one) for path in ("/v1/plan", "/v1/jobs"))
        assert plan.status == job.status >= 400
        assert plan.json()["detail"] == job.json()["detail"]
    empty = shared.request("POST", "/v1/plan", "")
    assert empty.status == 400 and "empty" in empty.json()["detail"]


def test_what_data_decides_is_refused(shared):
    answer = shared.request("POST", "/v1/plan", spec("mlp", [
        {"pass": "optimize"}, {"pass": "prune_structured", "target": {"size_ratio": 0.5}}]))
    assert answer.status == 422
    assert answer.json()["detail"].startswith("pipeline[1]: prune_structured: target: ")


def test_a_plan_leaves_nothing_and_does_not_wait_for_jobs(shared):
    long = shared.submit({"model": "mlp", "pipeline": [{"pass": "optimize"}],
                          "evaluate": {"latency": {"batch": [1], "seconds": 60}}})
    before = shared.get("/v1/jobs").json()["items"]
    blobs = shared.get("/v1/storage").json()["blobs"]
    assert shared.request("POST", "/v1/plan", spec("cnn", PIPELINES["static"]), timeout=60).status == 200
    after = shared.get("/v1/jobs").json()["items"]
    assert [one["id"] for one in before] == [one["id"] for one in after]
    assert shared.get("/v1/storage").json()["blobs"] == blobs
    assert shared.get(f"/v1/jobs/{long}").json()["state"] in ("queued", "running")
    shared.request("POST", f"/v1/jobs/{long}/cancel")
    shared.wait(long)


def test_more_plans_than_may_be_are_refused(shared):
    job = spec("cnn", [{"pass": "prune_unstructured", "amount": 0.01}] * 32)
    answers = []

    def ask():
        answers.append(shared.request("POST", "/v1/plan", job))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {200, 429, 503}
    assert any(answer.status == 200 for answer in answers)
    refused = [answer for answer in answers if answer.status != 200]
    assert all("max_plans" in answer.json()["detail"] for answer in refused)


def test_a_plan_ends_with_the_daemon(start_daemon):
    daemon, answers = start_daemon("--stop-grace-s", "60"), []
    assert daemon.put_model("cnn", MODELS / "cnn.onnx").status == 201
    prune = {"pass": "prune_unstructured", "amount": 0.01, "scope": "global"}
    job = {"model": "cnn", "pipeline": [prune] * 32}
    asking = threading.Thread(target=lambda: answers.append(daemon.request("POST", "/v1/plan", job)))
    asking.start()
    time.sleep(0.2)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 30
    asking.join()
    assert answers[0].status == 503 and "stopping" in answers[0].json()["detail"]


def test_shrinkctl_prints_it(shared, tmp_path):
    told = shared.ctl("plan", "--model", "mlp", "--pass", "quantize_dynamic")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["STEP", "PASS", "SIZE", "RATIO", "PARAMETERS"]
    assert "quantize_dynamic" in lines[2] and "266,610" in lines[2]
    path = tmp_path / "job.json"
    path.write_text(json.dumps(spec("mlp", PIPELINES["static"])))
    whole = shared.ctl("plan", path, "--json")
    assert json.loads(whole.stdout)["steps"][1]["pass"] == "quantize_static"
    assert shared.ctl("plan", "--model", "absent", "--pass", "optimize").returncode == 1
