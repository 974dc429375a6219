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
    assert sizes[0] > sizes[1] and sizes[2] > sizes[3], sizes
