"""Several passes in one job, and the same job twice."""

from conftest import MODELS

PIPELINE = [{"pass": "prune_structured"}, {"pass": "prune_unstructured", "criterion": "random"},
            {"pass": "quantize_static"}]


def run(daemon):
    job = daemon.submit({"model": "mlp", "pipeline": PIPELINE, "seed": 7,
                         "data": {"calibrate": "small", "evaluate": "small"},
                         "evaluate": {"latency": {"batch": [1]}}})
    view = daemon.wait(job)
    assert view["state"] == "succeeded", view
    return view["steps"]


def test_passes_run_in_order_and_the_same_job_gives_the_same_bytes(daemon, fashion):
    assert daemon.put_model("mlp", MODELS / "mlp.onnx").status == 201
    assert daemon.put_dataset("small", fashion / "small.npz").status == 201
    first, again = run(daemon), run(daemon)
    assert [step["pass"] for step in first] == ["original"] + [step["pass"] for step in PIPELINE]
    assert [step["sha256"] for step in first] == [step["sha256"] for step in again]
    sizes = [step["bytes"] for step in first]
    report = daemon.get(f"/v1/jobs/{daemon.get('/v1/jobs').json()['items'][0]['id']}/report").json()
    for before, step in zip(report["steps"], report["steps"][1:]):
        old, new = step["ledger"]["before"], step["ledger"]["after"]
        assert (old["file"], new["file"]) == (before["bytes"], step["bytes"])
        for side in old, new:
            assert side["file"] == sum(side[k] for k in ("parameters", "quantization", "constants", "graph"))
    rows = {row["name"]: row for row in report["steps"][3]["ledger"]["tensors"]}
    assert (rows["fc1.weight"]["was"], rows["fc1.weight"]["is"]) == ("float32", "int8")
    assert rows["fc1.weight"]["before"] == 4 * rows["fc1.weight"]["after"]
    assert sizes[0] > sizes[1] and sizes[2] > sizes[3], sizes


STUDENT = [{"pass": "distill", "student": {"mlp": [24]}, "epochs": 8, "batch_size": 16, "validate": 0.2,
            "learning_rate": 0.005},
           {"pass": "finetune", "labels": False, "epochs": 1},
           {"pass": "quantize_static", "calibration": "minmax"},
           {"pass": "prune_unstructured"}]


def test_a_student_is_distilled_quantized_and_pruned_in_one_job(daemon, fashion):
    assert daemon.put_model("teacher", MODELS / "mlp.onnx").status == 201
    assert daemon.put_dataset("few", fashion / "small.npz").status == 201
    job = {"model": "teacher", "pipeline": STUDENT, "seed": 3, "evaluate": {"latency": {"batch": [1]}},
           "data": {"train": "few", "calibrate": "few", "evaluate": "few"}}
    job = daemon.submit(job)
    view = daemon.wait(job)
    assert view["state"] == "succeeded", view
    steps = daemon.get(f"/v1/jobs/{job}/report").json()["steps"]
    assert [step["pass"] for step in steps] == ["original"] + [step["pass"] for step in STUDENT]
    parameters = 784 * 24 + 24 + 24 * 10 + 10
    metrics = [step["metrics"] for step in steps]
    assert [m["parameters"] for m in metrics] == [266610] + 4 * [parameters]
    assert metrics[1]["accuracy"] > 0.5 and metrics[3]["accuracy"] > 0.5
    subjects = {note["subject"] for note in steps[1]["notes"]}
    assert {"epoch 1", "epoch 8"} <= subjects


def test_an_uploaded_model_is_the_student(daemon, fashion):
    assert daemon.put_model("big", MODELS / "mlp.onnx").status == 201
    assert daemon.put_model("small", MODELS / "lstm.onnx").status == 201
    assert daemon.put_dataset("images", fashion / "small.npz").status == 201
    distill = {"pass": "distill", "student": {"model": "small", "init": "keep"}, "epochs": 3000, "batch_size": 16}
    spec = {"model": "big", "pipeline": [{**distill, "epochs": 2}], "evaluate": {"latency": {"batch": [1]}},
            "data": {"train": "images", "evaluate": "images"}}
    view = daemon.wait(daemon.submit(spec))
    assert view["state"] == "succeeded", view
    small = daemon.get("/v1/models/small").json()
    assert view["ids"]["pipeline[0].student.model"] == small["id"]
    assert view["pipeline"][0]["student"] == {"model": "small", "init": "keep", "mlp": [], "shrink": 0.0}
    assert view["steps"][1]["metrics"]["parameters"] == small["parameters"]
    assert view["steps"][1]["metrics"]["accuracy"] > 0.7

    missing = {**distill, "student": {"model": "nobody"}}
    answer = daemon.request("POST", "/v1/jobs", {**spec, "pipeline": [PIPELINE[0], missing]})
    assert answer.status == 404 and answer.json()["detail"].startswith("pipeline[1].student.model: "), answer.body

    job = daemon.submit({**spec, "pipeline": [distill]})
    kept = daemon.request("DELETE", "/v1/models/small")
    assert kept.status == 409 and job in kept.json()["detail"], kept.body
    daemon.request("POST", f"/v1/jobs/{job}/cancel")
    assert daemon.wait(job)["state"] == "cancelled"
    assert daemon.request("DELETE", "/v1/models/small").status == 204


GRADUAL = [{"pass": "prune_unstructured", "amount": 0.5},
           {"pass": "finetune", "epochs": 1, "learning_rate": 1e-4},
           {"pass": "prune_unstructured", "amount": 0.5},
           {"pass": "finetune", "epochs": 4, "learning_rate": 1e-3}]


def test_pruning_in_steps_with_training_between_acts_on_what_remains(daemon, fashion):
    assert daemon.put_model("steps", MODELS / "mlp.onnx").status == 201
    assert daemon.put_dataset("some", fashion / "small.npz").status == 201
    job = daemon.submit({"model": "steps", "pipeline": GRADUAL, "seed": 3, "evaluate": {"latency": {"batch": [1]}},
                         "data": {"train": "some", "evaluate": "some"}})
    view = daemon.wait(job)
    assert view["state"] == "succeeded", view
    steps = daemon.get(f"/v1/jobs/{job}/report").json()["steps"]
    nonzero = [step["metrics"]["nonzero_parameters"] for step in steps]
    biases, weights = 410, 266200
    assert nonzero == [266610] + 2 * [biases + weights // 2] + 2 * [biases + weights // 4], nonzero
    accuracy = [step["metrics"]["accuracy"] for step in steps]
    assert accuracy[4] >= accuracy[0] - 0.04 and accuracy[4] >= accuracy[3] + 0.02, accuracy


def test_a_job_that_trains_needs_a_dataset_to_train_on(daemon):
    answer = daemon.request("POST", "/v1/jobs", {"model": "teacher", "pipeline": STUDENT})
    assert answer.status == 400
    assert answer.json()["detail"] == "data.train: is missing, and pipeline[0] (distill) needs it"
