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
