"""kill -9 at any time: what was acknowledged is there afterwards, and jobs go on."""

import threading
import time

from conftest import MODELS


def test_acknowledged_uploads_survive_kill_9(start_daemon):
    daemon = start_daemon()
    model = (MODELS / "lstm.onnx").read_bytes()
    acknowledged = []

    def upload():
        for number in range(200):
            try:
                answer = daemon.request("PUT", f"/v1/models/m{number}", model, timeout=10)
            except OSError:
                return
            if answer.status == 201:
                acknowledged.append(f"m{number}")

    for round_ in range(3):
        writer = threading.Thread(target=upload)
        writer.start()
        time.sleep(0.15 + 0.1 * round_)
        daemon.kill()
        writer.join()
        daemon.start()
        assert acknowledged, "nothing was acknowledged before the kill"
        for name in acknowledged:
            answer = daemon.get(f"/v1/models/{name}/content")
            assert answer.status == 200 and answer.body == model, name


def test_a_running_job_is_run_again_after_kill_9(start_daemon, fashion):
    daemon = start_daemon()
    assert daemon.put_model("mlp", MODELS / "mlp.onnx").status == 201
    assert daemon.put_dataset("all", fashion / "all.npz").status == 201
    job = daemon.submit({
        "model": "mlp", "pipeline": [{"pass": "prune_unstructured"}, {"pass": "quantize_dynamic"}],
        "data": {"evaluate": "all"}})
    deadline = time.monotonic() + 30
    while daemon.get(f"/v1/jobs/{job}").json()["state"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    daemon.kill()
    daemon.start()
    view = daemon.wait(job)
    assert view["state"] == "succeeded", view
    assert view["attempt"] == 2
    assert [step["pass"] for step in view["steps"]] == ["original", "prune_unstructured", "quantize_dynamic"]


def told(step):
    """What training reports of its epochs, and the steps that it went on from."""
    epochs = [note["figures"] for note in step["notes"] if note["subject"].startswith("epoch ")]
    resumed = [note["figures"]["resumed_step"] for note in step["notes"] if "resumed_step" in note["figures"]]
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")
    return [[figures[name] for name in names] for figures in epochs], resumed


def test_training_goes_on_from_its_checkpoint_after_kill_9_to_the_same_weights(start_daemon, fashion):
    daemon = start_daemon("--checkpoint-s", "1", "--log-level", "debug")
    assert daemon.put_model("mlp", MODELS / "mlp.onnx").status == 201
    assert daemon.put_dataset("all", fashion / "all.npz").status == 201
    train = {"batch_size": 32, "validate": 0.1, "optimizer": "adam", "learning_rate": 1e-4}
    spec = {"model": "mlp", "seed": 11, "data": {"train": "all"}, "pipeline": [
        {"pass": "finetune", "epochs": 1, **train},
        {"pass": "distill", "student": {"mlp": [256, 64]}, "epochs": 8, **train}]}

    def said(text):
        return any(text in line for line in daemon.lines)

    job = daemon.submit(spec)
    deadline = time.monotonic() + 120
    while not said("step 2: checkpoint of"):
        assert time.monotonic() < deadline and daemon.get(f"/v1/jobs/{job}").json()["state"] in ("queued", "running")
        time.sleep(0.01)
    daemon.kill()
    daemon.start()
    view = daemon.wait(job)
    assert view["state"] == "succeeded" and view["attempt"] == 2, view
    assert said("step 2: has a checkpoint of")
    steps = daemon.get(f"/v1/jobs/{job}/report").json()["steps"]
    epochs, (resumed,) = told(steps[2])
    assert 0 < resumed < 8 * -(-9000 // 32)
    assert steps[2]["curves"]["loss"][0][0] == resumed + 1, "the next step is the one after the checkpoint"

    whole = daemon.submit(spec)
    assert daemon.wait(whole)["state"] == "succeeded"
    expected = daemon.get(f"/v1/jobs/{whole}/report").json()["steps"]
    assert told(expected[2]) == (epochs, [])
    assert [step["sha256"] for step in steps] == [step["sha256"] for step in expected]


def test_sigterm_gives_the_running_job_back_and_exits_with_0(start_daemon, fashion):
    daemon = start_daemon()
    daemon.put_model("mlp", MODELS / "mlp.onnx")
    daemon.put_dataset("all", fashion / "all.npz")
    job = daemon.submit({
        "model": "mlp", "pipeline": [{"pass": "quantize_static", "samples": 5000}],
        "data": {"calibrate": "all", "evaluate": "all"}})
    while daemon.get(f"/v1/jobs/{job}").json()["state"] == "queued":
        time.sleep(0.01)
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.wait(job)["state"] == "succeeded"
