"""Input that is wrong, and what is left after it: an answer that names the cause, a daemon that is
ready for more, a store in which nothing lies about."""

import json
import resource
import socket
import time

import numpy
import onnx
import pytest
from conftest import Daemon
from onnx import TensorProto, helper, numpy_helper
from test_api_items import BAD_MODELS, MLP, assert_problem, model, multipart, npz, put
from test_api_jobs import BAD_SPECS, PRUNE
from test_http_raw import H, dial


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("bad"))
    assert put(daemon, "mlp", MLP).status == 201
    yield daemon
    daemon.finish()


def assert_sound(daemon, blobs=None):
    """Ready for more, and nothing in the store that no row names."""
    assert daemon.get("/readyz").status == 200
    usage = daemon.get("/v1/storage").json()
    assert usage["reclaimable_bytes"] == 0, usage
    assert blobs is None or usage["blobs"] == blobs, usage


# ── Models ──────────────────────────────────────────────────────────────────────────────────────

def wrong_types():
    weight = numpy_helper.from_array(numpy.zeros((4, 4), numpy.int64), "w")
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], "mixed")], initializers=[weight])


def text_weights():
    weight = helper.make_tensor("w", TensorProto.STRING, [4], [b"a"] * 4)
    return model([helper.make_node("Relu", ["w"], ["y"], "loud")], initializers=[weight])


def node_loop_of_one():
    return model([helper.make_node("Add", ["x", "y"], ["y"], "ouroboros")])


def negative_dimension():
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-4, 4])
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], initializers=[weight])


def shape_that_does_not_fit():
    weight = numpy_helper.from_array(numpy.zeros((5, 3), numpy.float32), "w")
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], "narrow")], initializers=[weight])


WRONG_TYPES = {
    "float times integer": (wrong_types(), "mixed"),
    "texts as weights": (text_weights(), "loud"),
    "a node that feeds itself": (node_loop_of_one(), "ouroboros"),
    "a negative dimension": (negative_dimension(), "w"),
    "shapes that do not fit": (shape_that_does_not_fit(), "narrow"),
}


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_what_is_wrong_in_a_model_is_named(shared, kind):
    bad, word = WRONG_TYPES[kind]
    answer = put(shared, "bad", bad.SerializeToString())
    if answer.status == 201:  # types and shapes are looked at by who needs them
        job = shared.wait(shared.submit({"model": "bad", "pipeline": [{"pass": "optimize"}]}))
        assert job["state"] == "failed" and job["error"]["code"] == "invalid", job
        assert word in job["error"]["detail"], job["error"]
        assert shared.request("DELETE", f"/v1/jobs/{job['id']}").status == 204
        assert shared.request("DELETE", "/v1/models/bad").status == 204
    else:
        assert_problem(answer, 400, answer.json()["code"], word)
    assert shared.get("/v1/models/bad").status == 404
    assert shared.get("/readyz").status == 200


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_after_a_bad_model_all_is_as_before(shared, kind):
    before = shared.get("/v1/storage").json()
    assert put(shared, "bad", BAD_MODELS[kind][0]).status in (400, 413, 422)
    assert shared.get("/readyz").status == 200
    after = shared.get("/v1/storage").json()
    assert [after[k] for k in ("blobs", "reclaimable_bytes")] == \
        [before[k] for k in ("blobs", "reclaimable_bytes")]


def test_a_model_cut_anywhere_is_refused_or_whole(shared):
    """Every prefix of a small model: none crashes, and what is taken really is a model."""
    whole = model([helper.make_node("Relu", ["x"], ["y"])]).SerializeToString()
    for n in range(1, len(whole)):
        answer = put(shared, "cut", whole[:n])
        assert answer.status in (201, 200, 400, 422), (n, answer.body)
        if answer.status < 300:
            onnx.checker.check_model(onnx.load_from_string(whole[:n]))
            assert shared.request("DELETE", "/v1/models/cut").status == 204
    assert shared.get("/readyz").status == 200


def test_values_too_large_to_compute_fail_the_job_and_not_the_daemon(start_daemon):
    """158 bytes of model that ask for a tensor of 16 TiB when they run."""
    daemon = start_daemon("--job_max_memory", "256MiB")
    shape = numpy_helper.from_array(numpy.array([1 << 21, 1 << 21], numpy.int64), "shape")
    bomb = model([helper.make_node("ConstantOfShape", ["shape"], ["big"], "bomb"),
                  helper.make_node("ReduceMean", ["big"], ["mean"]),
                  helper.make_node("Add", ["x", "mean"], ["y"])], initializers=[shape])
    answer = put(daemon, "bomb", bomb.SerializeToString())
    if answer.status >= 300:
        assert_problem(answer, answer.status, answer.json()["code"], "bomb")
        assert_sound(daemon, blobs=0)
        return
    job = daemon.wait(daemon.submit({"model": "bomb", "pipeline": [{"pass": "optimize"}]}))
    if job["state"] == "succeeded":  # made, with the reason why nothing was measured
        assert job["steps"][-1]["metrics"]["latency_ms_b1"] is None, job
        assert job["steps"][-1]["unmeasured"]["latency_ms_b1"], job
    else:
        assert job["state"] == "failed", job
        assert job["error"]["code"] in ("over_limit", "out_of_memory") and job["error"]["detail"], job
    assert_sound(daemon)


# ── An operator that cannot run ─────────────────────────────────────────────────────────────────

def with_unknown_operator():
    generator = numpy.random.default_rng(1)
    weights = [numpy_helper.from_array(generator.normal(size=(64, 64)).astype(numpy.float32), name)
               for name in ("w1", "w2")]
    made = model([helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
                  helper.make_node("FancyNorm", ["a"], ["b"], "fancy", domain="org.example"),
                  helper.make_node("MatMul", ["b", "w2"], ["y"], "second")],
                 shape=(1, 64), initializers=weights)
    made.opset_import.append(helper.make_opsetid("org.example", 1))
    return made.SerializeToString()


def test_an_unknown_operator_stops_only_what_must_run_the_graph(shared):
    data = npz(x=numpy.zeros((20, 64), numpy.float32), labels=numpy.zeros(20, numpy.int64))
    assert put(shared, "fancy", with_unknown_operator()).status == 201
    assert put(shared, "flat", data, "datasets").status == 201

    job = shared.wait(shared.submit({
        "model": "fancy", "data": {"evaluate": "flat"},
        "pipeline": [{"pass": "prune_unstructured", "amount": 0.5}, {"pass": "quantize_dynamic"}]}))
    assert job["state"] == "succeeded", job
    for step in job["steps"]:
        for metric in ("accuracy", "latency_ms_b1"):
            assert step["metrics"][metric] is None, step
            assert "FancyNorm" in step["unmeasured"][metric], step
        assert step["metrics"]["size_bytes"] == step["bytes"]
    pruned = onnx.load_from_string(shared.get(f"/v1/jobs/{job['id']}/artifacts/1/content").body)
    for weight in pruned.graph.initializer:
        assert (numpy_helper.to_array(weight) == 0).sum() == 64 * 64 // 2
    small = onnx.load_from_string(shared.get(f"/v1/jobs/{job['id']}/artifacts/content").body)
    assert {n.op_type for n in small.graph.node} >= {"FancyNorm", "MatMulInteger"}
    assert job["steps"][2]["bytes"] < job["steps"][0]["bytes"] / 2

    job = shared.wait(shared.submit({"model": "fancy", "pipeline": [{"pass": "quantize_static"}],
                                     "data": {"calibrate": "flat"}}))
    assert job["state"] == "failed", job
    assert job["error"]["code"] == "unsupported"
    assert job["error"]["pass"] == "quantize_static" and job["error"]["step"] == 1
    assert "fancy" in job["error"]["detail"] and "FancyNorm" in job["error"]["detail"], job["error"]
    assert [step["pass"] for step in job["steps"]] == ["original"]
    assert shared.get("/readyz").status == 200


# ── Datasets and specs ──────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("arrays, words", [
    ({"images": numpy.zeros((10, 5, 5), numpy.uint8)}, ("images", "input", "5", "784")),
    ({"input": numpy.zeros((10, 783), numpy.float32)}, ("input", "783", "784")),
    ({"a": numpy.zeros((10, 784), numpy.float32), "b": numpy.zeros((10, 784), numpy.float32)},
     ("input",)),
])
def test_a_dataset_that_does_not_fit_names_the_input_and_the_shapes(shared, arrays, words):
    body = npz(labels=numpy.zeros(10, numpy.int64), **arrays)
    assert put(shared, "misfit", body, "datasets").status == 201
    job = shared.wait(shared.submit({**PRUNE, "data": {"evaluate": "misfit"}}))
    assert job["state"] == "failed" and job["error"]["code"] == "invalid", job
    assert job["error"]["detail"].startswith("data.evaluate: "), job["error"]
    for word in words:
        assert word in job["error"]["detail"], job["error"]
    assert job["steps"] == []
    assert shared.request("DELETE", f"/v1/jobs/{job['id']}").status == 204
    assert shared.get("/readyz").status == 200


def test_labels_beyond_the_outputs_do_not_crash(shared):
    body = npz(input=numpy.zeros((10, 784), numpy.float32), labels=numpy.full(10, 77, numpy.int64))
    assert put(shared, "beyond", body, "datasets").status == 201
    job = shared.wait(shared.submit({**PRUNE, "data": {"evaluate": "beyond"}}))
    if job["state"] == "failed":
        assert "label" in job["error"]["detail"], job["error"]
    else:
        assert job["steps"][0]["metrics"]["accuracy"] in (0, None), job["steps"][0]
    assert shared.get("/readyz").status == 200


def test_bad_specs_leave_no_job(shared):
    before = shared.get("/v1/jobs").json()
    for spec, code, _ in BAD_SPECS.values():
        assert_problem(shared.request("POST", "/v1/jobs", spec), 400, code)
    deep = b'{"model":' + b"[" * 100000 + b"]" * 100000 + b"}"
    assert_problem(shared.request("POST", "/v1/jobs", deep), 400, "malformed", "body")
    assert_problem(shared.request("POST", "/v1/jobs", b'{"model":"\xff"}'), 400, "malformed", "body")
    assert_problem(shared.request("POST", "/v1/jobs", {**PRUNE, "model": 7}), 400, "invalid", "model")
    many = {**PRUNE, "pipeline": PRUNE["pipeline"] * 10000}
    assert_problem(shared.request("POST", "/v1/jobs", many), 400, "invalid", "pipeline")
    huge = {**PRUNE, "name": "n" * (2 << 20)}
    assert_problem(shared.request("POST", "/v1/jobs", huge), 413, "over_limit")
    assert shared.get("/v1/jobs").json() == before
    assert shared.get("/readyz").status == 200


# ── Bodies cut half way ─────────────────────────────────────────────────────────────────────────

FORM = multipart(images=b"\0\0\x08\x03" + bytes(500000), labels=b"")
CUT = {
    "a model": (b"PUT /v1/models/cut", b"", MLP[:700000], len(MLP)),
    "a dataset": (b"PUT /v1/datasets/cut", b"", npz(x=numpy.zeros(100000))[:400000], 800000),
    "a form": (b"PUT /v1/datasets/cut", b"Content-Type: multipart/form-data; boundary=XX\r\n",
               FORM["body"][:300000], len(FORM["body"])),
    "a job": (b"POST /v1/jobs", b"", json.dumps(PRUNE).encode()[:20], 200),
    "chunks": (b"PUT /v1/models/cut", b"", b"AAE60\r\n" + MLP[:600000], None),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_body_cut_half_way_leaves_nothing(start_daemon, kind):
    daemon = start_daemon()
    line, headers, body, length = CUT[kind]
    framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    with dial(daemon) as s:
        s.sendall(line + b" HTTP/1.1\r\n" + H + headers + framing + b"\r\n" + body)
        time.sleep(0.2)
        s.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
    deadline = time.monotonic() + 5
    while not any("cut by client" in line for line in daemon.lines):
        assert time.monotonic() < deadline, daemon.lines
        time.sleep(0.05)
    for path in ("models", "datasets", "jobs"):
        assert daemon.get(f"/v1/{path}").json()["items"] == []
    assert_sound(daemon, blobs=0)


# ── A full disk ─────────────────────────────────────────────────────────────────────────────────

def limit_files(daemon, size):
    """No file of the daemon may grow beyond size; None = as large as it likes. To SQLite and to us
    it is a full disk, and it can be taken back."""
    soft = resource.RLIM_INFINITY if size is None else size
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))


def test_a_full_disk_refuses_an_upload_and_keeps_nothing_of_it(daemon):
    limit_files(daemon, 600000)
    assert_problem(put(daemon, "mlp", MLP), 507, "storage_full", "no space left")
    data = npz(x=numpy.random.default_rng(1).normal(size=(1000, 200)))
    assert_problem(put(daemon, "data", data, "datasets"), 507, "storage_full", "no space left")
    assert daemon.get("/v1/models/mlp").status == 404
    assert_sound(daemon, blobs=0)
    limit_files(daemon, None)
    assert put(daemon, "mlp", MLP).status == 201
    assert daemon.get("/v1/models/mlp/content").body == MLP
    assert_sound(daemon, blobs=1)


def test_a_job_that_meets_a_full_disk_fails_and_can_be_retried(daemon):
    put(daemon, "mlp", MLP)
    limit_files(daemon, (daemon.state / "artifacts.db").stat().st_size + 100000)
    job = daemon.submit(PRUNE)
    view = daemon.wait(job)
    assert view["state"] == "failed", view
    assert view["error"]["code"] == "storage_full"
    assert (view["error"]["step"], view["error"]["pass"]) == (1, "prune_unstructured")
    assert [step["pass"] for step in view["steps"]] == ["original"]
    assert_sound(daemon, blobs=1)
    limit_files(daemon, None)
    assert daemon.request("POST", f"/v1/jobs/{job}/retry").status == 202
    view = daemon.wait(job)
    assert view["state"] == "succeeded" and view["error"] is None, view
    assert_sound(daemon, blobs=2)


def test_a_disk_without_any_room_is_told_and_outlived(daemon):
    put(daemon, "mlp", MLP)
    job = daemon.submit({**PRUNE, "evaluate": {"latency": {"batch": [1], "seconds": 1}}})
    while daemon.get(f"/v1/jobs/{job}").json()["state"] == "queued":
        time.sleep(0.01)
    limit_files(daemon, 1)
    assert_problem(daemon.request("POST", "/v1/jobs", PRUNE), 507, "storage_full")
    ready = daemon.get("/readyz")
    assert_problem(ready, 503, "unavailable", "no space left")
    assert daemon.get("/livez").status == 200
    assert daemon.get("/v1/models/mlp").status == 200  # reading goes on
    deadline = time.monotonic() + 30
    while not any("cannot store that it failed" in line for line in daemon.lines):
        assert time.monotonic() < deadline, daemon.lines
        time.sleep(0.1)
    assert daemon.get(f"/v1/jobs/{job}").json()["state"] == "running"  # nothing else is durable
    limit_files(daemon, None)
    view = daemon.wait(job, 20)
    assert view["state"] == "failed" and view["error"]["code"] == "storage_full", view
    assert_sound(daemon)
    assert daemon.wait(daemon.submit(PRUNE))["state"] == "succeeded"


# ── Calibration ─────────────────────────────────────────────────────────────────────────────────

def dense(weight):
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], "fc")], shape=("N", len(weight)),
                 initializers=[numpy_helper.from_array(weight, "w")]).SerializeToString()


def samples(kind, n=40):
    x = numpy.random.default_rng(4).normal(size=(n, 16)).astype(numpy.float32)
    if kind in ("nan", "inf", "-inf"):
        x[23, 5] = float(kind)
    elif kind == "constant":
        x[:] = 0.5
    elif kind == "zeros":
        x[:] = 0
    elif kind == "outlier":
        x[7, 3] = 3e4
    elif kind == "overflow":
        x[31] = 3e38
    return x


def calibrate(daemon, weight, x, **more):
    """A job that quantizes x @ weight statically, and its model where it has one."""
    assert put(daemon, "dense", dense(weight)).status in (200, 201)
    answer = put(daemon, "some", npz(x=x), "datasets")
    assert answer.status in (200, 201), answer.body
    job = daemon.wait(daemon.submit({
        "model": "dense", "data": {"calibrate": "some"}, "evaluate": {"latency": False},
        "pipeline": [{"pass": "quantize_static", "samples": 40, **more}]}))
    if job["state"] != "succeeded":
        return job, None
    return job, daemon.get(f"/v1/jobs/{job['id']}/artifacts/content").body


WEIGHT = numpy.random.default_rng(3).normal(size=(16, 8)).astype(numpy.float32)


@pytest.mark.parametrize("kind, words", [
    ("nan", ("data.calibrate", "'x'", "sample 23")),
    ("inf", ("data.calibrate", "'x'", "sample 23")),
    ("-inf", ("data.calibrate", "'x'", "sample 23")),
])
def test_a_sample_that_is_not_finite_is_named(shared, kind, words):
    job, _ = calibrate(shared, WEIGHT, samples(kind))
    assert job["state"] == "failed" and job["error"]["code"] == "invalid", job
    assert job["error"]["pass"] == "quantize_static"
    for word in words:
        assert word in job["error"]["detail"], job["error"]
    assert [step["pass"] for step in job["steps"]] == ["original"]
    assert shared.get("/readyz").status == 200


def test_a_value_that_becomes_infinite_is_named(shared):
    two = model([helper.make_node("MatMul", ["x", "w"], ["h"], "fc"),
                 helper.make_node("MatMul", ["h", "v"], ["y"], "fc2")], shape=("N", 16),
                initializers=[numpy_helper.from_array(numpy.full((16, 8), 2, numpy.float32), "w"),
                              numpy_helper.from_array(numpy.ones((8, 8), numpy.float32), "v")])
    assert put(shared, "two", two.SerializeToString()).status in (200, 201)
    assert put(shared, "some", npz(x=samples("overflow")), "datasets").status in (200, 201)
    job = shared.wait(shared.submit({"model": "two", "data": {"calibrate": "some"},
                                     "pipeline": [{"pass": "quantize_static"}]}))
    assert job["state"] == "failed" and job["error"]["code"] == "invalid", job
    assert "'h'" in job["error"]["detail"] and "sample 31" in job["error"]["detail"], job["error"]


def test_samples_of_another_width_are_refused_by_name(shared):
    job, _ = calibrate(shared, WEIGHT, numpy.zeros((10, 15), numpy.float32))
    assert job["state"] == "failed" and job["error"]["code"] == "invalid", job
    for word in ("data.calibrate", "x", "15", "16"):
        assert word in job["error"]["detail"], job["error"]


def test_a_dataset_without_samples_is_refused_when_it_comes(shared):
    before = shared.get("/v1/storage").json()["blobs"]
    answer = put(shared, "empty", npz(x=numpy.zeros((0, 16), numpy.float32)), "datasets")
    assert_problem(answer, 400, "invalid", "x: has no elements")
    assert shared.get("/v1/datasets/empty").status == 404
    assert shared.get("/v1/storage").json()["blobs"] == before


def sqnr(real, got):
    return 10 * numpy.log10((real ** 2).sum() / max(((real - got) ** 2).sum(), 1e-30))


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("kind", ["normal", "constant", "zeros", "outlier", "no weights"])
def test_what_is_odd_but_sound_gives_a_model_that_works(shared, kind, calibration):
    onnxruntime = pytest.importorskip("onnxruntime")
    weight = numpy.zeros_like(WEIGHT) if kind == "no weights" else WEIGHT
    x = samples(kind)
    job, small = calibrate(shared, weight, x, calibration=calibration)
    assert small is not None, job
    session = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])
    real, got = x @ weight, session.run(None, {"x": x})[0]
    assert numpy.isfinite(got).all()
    if kind in ("zeros", "no weights"):
        assert (got == 0).all()
    elif kind == "outlier" and calibration in ("minmax", "mse"):
        assert sqnr(real, got) > 30  # of the outlier, which is nearly all of the signal
    elif kind != "outlier":
        assert sqnr(real, got) > 30


# ── Cancelling ──────────────────────────────────────────────────────────────────────────────────

def wide_convolutions(n=6):
    """Half a billion multiplications a sample and layer: calibrating takes long."""
    nodes, weights, name = [], [], "x"
    for i in range(n):
        weight = numpy.random.default_rng(i).normal(size=(128, 128, 3, 3)).astype(numpy.float32) / 34
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [name, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [name := f"r{i}" if i < n - 1 else "y"]))
    return model(nodes, shape=("N", 128, 56, 56), initializers=weights).SerializeToString()


def test_a_cancelled_calibration_stops_soon_and_leaves_nothing(daemon):
    assert put(daemon, "wide", wide_convolutions()).status == 201
    images = numpy.random.default_rng(0).integers(0, 255, (96, 128, 56, 56), numpy.uint8)
    assert put(daemon, "images", npz(x=images), "datasets").status == 201
    blobs = daemon.get("/v1/storage").json()["blobs"]
    job = daemon.submit({"model": "wide", "data": {"calibrate": "images"},
                         "evaluate": {"latency": False}, "pipeline": [{"pass": "quantize_static"}]})
    deadline = time.monotonic() + 120
    while (daemon.get(f"/v1/jobs/{job}").json()["progress"] or {}).get("pass") != "quantize_static":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    began = time.monotonic()
    assert daemon.request("POST", f"/v1/jobs/{job}/cancel").status == 202
    view = daemon.wait(job, 20)
    assert view["state"] == "cancelled", view
    assert time.monotonic() - began < 5
    assert [step["pass"] for step in view["steps"]] in ([], ["original"])
    assert daemon.request("DELETE", f"/v1/jobs/{job}").status == 204
    assert_sound(daemon, blobs)
