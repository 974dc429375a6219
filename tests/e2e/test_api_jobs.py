"""Jobs over HTTP: waiting, events, artifacts, tables, and specs that are wrong."""

import json
import threading
import time

import numpy
import onnx
import pytest
from conftest import MODELS
from test_api_items import MLP, assert_problem, multipart, npz, put

PRUNE = {"model": "mlp", "pipeline": [{"pass": "prune_unstructured", "amount": 0.5}],
         "evaluate": {"latency": False}}


@pytest.fixture
def ready(daemon, fashion):
    """A daemon with the MLP as mlp and 500 images as small."""
    assert put(daemon, "mlp", MLP).status == 201
    assert daemon.put_dataset("small", fashion / "small.npz",
                              "?scale=0.00392156862745098").status == 201
    return daemon


def test_a_job_from_its_spec_to_its_artifact(ready):
    answer = ready.request("POST", "/v1/jobs", {**PRUNE, "data": {"evaluate": "small"}, "name": "p"})
    assert answer.status == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] in ("queued", "running")
    done = ready.get(f"/v1/jobs/{job['id']}?wait=60s").json()
    assert done["state"] == "succeeded", done
    assert [step["pass"] for step in done["steps"]] == ["original", "prune_unstructured"]

    artifacts = ready.get(f"/v1/jobs/{job['id']}/artifacts").json()["items"]
    last = ready.get(f"/v1/jobs/{job['id']}/artifacts/content")
    assert last.body == ready.get(artifacts[-1]["content"]).body
    assert last.headers["ETag"] == f'"sha256:{artifacts[-1]["sha256"]}"'
    pruned = onnx.load_from_string(last.body)
    onnx.checker.check_model(pruned)
    weights = [onnx.numpy_helper.to_array(t) for t in pruned.graph.initializer]
    assert all(numpy.mean(w == 0) == 0.5 for w in weights if w.ndim == 2)
    assert ready.get(artifacts[0]["content"]).body == MLP
    assert_problem(ready.get(f"/v1/jobs/{job['id']}/artifacts/7/content"), 404, "not_found")
    assert_problem(ready.get(f"/v1/jobs/{job['id']}/artifacts/x/content"), 400, "invalid", "step")

    report = ready.get(f"/v1/jobs/{job['id']}/report").json()
    assert report["id"] == job["id"] and report["steps"]
    assert ready.request("DELETE", f"/v1/jobs/{job['id']}").status == 204
    assert_problem(ready.get(f"/v1/jobs/{job['id']}"), 404, "not_found")


def test_the_table_in_each_format(ready):
    ids = [ready.submit({**PRUNE, "name": f"n{i}"}) for i in range(2)]
    for job in ids:
        assert ready.wait(job)["state"] == "succeeded"
    path = f"/v1/compare?ids={','.join(ids)}"
    table = ready.get(path).json()
    assert [row["pass"] for row in table["rows"]] == ["original"] + ["prune_unstructured"] * 2
    assert all(set(row["cells"]) == {c["name"] for c in table["columns"]} for row in table["rows"])
    markdown = ready.get(path, headers={"Accept": "text/markdown"})
    assert markdown.headers["Content-Type"].startswith("text/markdown")
    assert markdown.body.decode().startswith("| ")
    csv = ready.get(f"{path}&format=csv", headers={"Accept": "application/json"})
    assert csv.headers["Content-Type"].startswith("text/csv") and csv.body.count(b"\n") == 4
    assert ready.get(f"{path}&format=text").headers["Content-Type"].startswith("text/plain")
    one = ready.get(f"{path}&metrics=size_bytes").json()
    assert [column["name"] for column in one["columns"]] == ["size_bytes"]
    assert_problem(ready.get("/v1/compare"), 400, "invalid", "ids")
    assert_problem(ready.get(f"{path}&metrics=beauty"), 400, "invalid", "beauty")
    assert_problem(ready.get("/v1/compare?ids=job_00000000000000000000000000"), 404, "not_found")
    assert_problem(ready.get(path, headers={"Accept": "image/png"}), 406, "not_acceptable")


def events(text):
    blocks = [dict(line.split(": ", 1) for line in block.split("\n"))
              for block in text.strip().split("\n\n") if block.startswith("id: ")]
    return [(int(b["id"]), b["event"], json.loads(b["data"])) for b in blocks]


def test_the_events_of_a_job_replay_and_end(ready):
    job = ready.submit(PRUNE)
    live = events(ready.get(f"/v1/jobs/{job}/events").body.decode())  # ends with the job
    assert [data["state"] for _, kind, data in live if kind == "state"] == \
        ["queued", "running", "succeeded"]
    assert all(data["job"] == job for _, _, data in live)
    again = events(ready.get(f"/v1/jobs/{job}/events").body.decode())
    assert again == live
    middle = live[1][0]
    rest = ready.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": str(middle)})
    assert events(rest.body.decode()) == live[2:]
    assert events(ready.get(f"/v1/jobs/{job}/events?after={middle}").body.decode()) == live[2:]
    assert_problem(ready.get(f"/v1/jobs/{job}/events?after=x"), 400, "invalid", "after")
    assert_problem(ready.get("/v1/jobs/job_00000000000000000000000000/events"), 404, "not_found")


def test_a_long_poll_waits_and_returns_at_once_when_the_job_ends(ready):
    slow = {**PRUNE, "data": {"evaluate": "small"},
            "evaluate": {"latency": {"batch": [1], "seconds": 2}}}
    job = ready.submit(slow)
    began = time.monotonic()
    short = ready.get(f"/v1/jobs/{job}?wait=200ms").json()
    assert 0.2 <= time.monotonic() - began < 2 and short["state"] in ("queued", "running")
    done = ready.get(f"/v1/jobs/{job}?wait=60s").json()
    assert done["state"] == "succeeded"
    ended = time.monotonic()
    assert ready.get(f"/v1/jobs/{job}?wait=60s").json()["state"] == "succeeded"
    assert time.monotonic() - ended < 1
    assert_problem(ready.get(f"/v1/jobs/{job}?wait=soon"), 400, "invalid", "wait")


def test_cancel_and_retry(ready):
    long = {**PRUNE, "data": {"evaluate": "small"},
            "evaluate": {"latency": {"batch": [1], "seconds": 60}}}
    running, waiting = ready.submit(long), ready.submit(long)
    assert_problem(ready.request("DELETE", f"/v1/jobs/{waiting}"), 409, "conflict")
    for job in (waiting, running):
        assert ready.request("POST", f"/v1/jobs/{job}/cancel").status == 202
        assert ready.wait(job, 20)["state"] == "cancelled"
    assert ready.request("POST", f"/v1/jobs/{waiting}/retry").status == 202
    assert ready.get(f"/v1/jobs/{waiting}").json()["state"] in ("queued", "running")
    assert ready.request("POST", f"/v1/jobs/{waiting}/cancel").status == 202
    assert ready.wait(waiting, 20)["state"] == "cancelled"
    listed = ready.get("/v1/jobs?state=cancelled&model=mlp").json()["items"]
    assert {job["id"] for job in listed} == {running, waiting}
    assert_problem(ready.request("POST", "/v1/jobs/job_00000000000000000000000000/cancel"), 404,
                   "not_found")


def test_a_key_makes_one_job_of_many_posts(ready):
    answers = []

    def post():
        answers.append(ready.request("POST", "/v1/jobs", PRUNE, {"Idempotency-Key": "k"}))

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status for a in answers) == [200] * 5 + [202]
    assert len({a.json()["id"] for a in answers}) == 1
    other = ready.request("POST", "/v1/jobs", {**PRUNE, "seed": 5}, {"Idempotency-Key": "k"})
    assert_problem(other, 422, "idempotency_key_reused")


def test_a_full_queue_says_when_to_come_back(start_daemon, fashion):
    daemon = start_daemon("--queue_max", "1")
    put(daemon, "mlp", MLP)
    daemon.put_dataset("small", fashion / "small.npz")
    long = {**PRUNE, "data": {"evaluate": "small"},
            "evaluate": {"latency": {"batch": [1], "seconds": 60}}}
    answers = [daemon.request("POST", "/v1/jobs", long) for _ in range(3)]
    refused = [a for a in answers if a.status == 429]
    assert refused and refused[0].headers["Retry-After"]
    assert_problem(refused[0], 429, "busy")
    for a in answers:
        if a.status == 202:
            daemon.request("POST", f"/v1/jobs/{a.json()['id']}/cancel")


BAD_SPECS = {
    "nothing": (b"", "malformed", "body"),
    "no JSON": (b"{model", "malformed", "body"),
    "a list": (b"[]", "invalid", ""),
    "a key twice": (b'{"model":"mlp","model":"mlp","pipeline":[]}', "malformed", "model"),
    "an unknown field": ({**PRUNE, "colour": 1}, "invalid", "colour"),
    "no model": ({"pipeline": PRUNE["pipeline"]}, "invalid", "model"),
    "no pipeline": ({"model": "mlp"}, "invalid", "pipeline"),
    "an empty pipeline": ({"model": "mlp", "pipeline": []}, "invalid", "pipeline"),
    "an unknown pass": ({"model": "mlp", "pipeline": [{"pass": "shrink"}]}, "invalid", "shrink"),
    "an unknown parameter": ({"model": "mlp", "pipeline": [{"pass": "optimize", "level": 3}]},
                             "invalid", "pipeline[0].level"),
    "a parameter out of bounds": ({"model": "mlp", "pipeline": [
        PRUNE["pipeline"][0], {"pass": "prune_unstructured", "amount": 1.7}]},
                                  "invalid", "pipeline[1].amount: 1.7"),
    "a parameter of another type": ({"model": "mlp", "pipeline": [
        {"pass": "prune_unstructured", "amount": "half"}]}, "invalid", "pipeline[0].amount"),
    "a choice that is none": ({"model": "mlp", "pipeline": [
        {"pass": "prune_unstructured", "criterion": "l3"}]}, "invalid", "pipeline[0].criterion"),
    "a seed that is none": ({**PRUNE, "seed": -1}, "invalid", "seed"),
    "an assert that is none": ({**PRUNE, "assert": ["accuracy is fine"]}, "invalid", "assert[0]"),
    "data that a pass needs": ({"model": "mlp", "pipeline": [{"pass": "quantize_static"}]},
                               "invalid", "data.calibrate"),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from conftest import Daemon
    daemon = Daemon(tmp_path_factory.mktemp("specs"))
    put(daemon, "mlp", MLP)
    yield daemon
    daemon.finish()


@pytest.mark.parametrize("kind", BAD_SPECS)
def test_bad_specs_name_the_field(shared, kind):
    spec, code, word = BAD_SPECS[kind]
    assert_problem(shared.request("POST", "/v1/jobs", spec), 400, code, word)
    assert shared.get("/v1/jobs").json()["items"] == []


def test_things_that_are_not_there(shared):
    missing = shared.request("POST", "/v1/jobs", {**PRUNE, "model": "absent"})
    assert_problem(missing, 404, "not_found", "absent")
    missing = shared.request("POST", "/v1/jobs", {**PRUNE, "data": {"evaluate": "absent"}})
    assert_problem(missing, 404, "not_found", "data.evaluate", "absent")
    assert_problem(shared.get("/v1/jobs/job_1"), 404, "not_found")
    assert_problem(shared.get("/v1/jobs?state=asleep"), 400, "invalid", "asleep")
    assert_problem(shared.get("/v2/jobs"), 404, "not_found")
    wrong = shared.request("PATCH", "/v1/jobs/job_1")
    assert_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["Allow"] == "GET, HEAD, DELETE"


def test_a_dataset_that_does_not_fit_fails_the_job_by_name(shared):
    images = numpy.zeros((10, 5, 5), numpy.uint8)
    body = npz(images=images, labels=numpy.zeros(10, numpy.int64))
    assert put(shared, "small5", body, "datasets").status == 201
    answer = shared.request("POST", "/v1/jobs", {**PRUNE, "data": {"evaluate": "small5"}})
    if answer.status != 202:  # told at once is as good
        assert_problem(answer, 400, "invalid", "small5")
        return
    job = shared.wait(answer.json()["id"])
    assert job["state"] == "failed", job
    assert "images" in job["error"]["detail"] or "input" in job["error"]["detail"], job["error"]
    assert shared.request("DELETE", f"/v1/jobs/{job['id']}").status == 204


def test_a_broken_page_cursor_and_pages(shared):
    assert_problem(shared.get("/v1/jobs?cursor=%20"), 400, "invalid", "cursor")
    ids = [shared.submit(PRUNE) for _ in range(5)]
    seen, path = [], "/v1/jobs?limit=2"
    while path:
        page = shared.get(path).json()
        seen += [job["id"] for job in page["items"]]
        path = page["next_cursor"] and f"/v1/jobs?limit=2&cursor={page['next_cursor']}"
    assert seen == ids[::-1]
    for job in ids:
        shared.wait(job)
        assert shared.request("DELETE", f"/v1/jobs/{job}").status == 204


def test_tokens_guard_the_api(start_daemon, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef\n")
    tokens.chmod(0o600)
    daemon = start_daemon("--token_file", str(tokens))
    for path in ("/v1/jobs", "/v1/events", "/metrics", "/v1/models/m"):
        refused = daemon.get(path)
        assert_problem(refused, 401, "unauthorized")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/", "/ui/app.js", "/livez", "/readyz", "/openapi.json"):
        assert daemon.get(path).status == 200
    assert daemon.get("/v1/jobs", headers={"Authorization": "Bearer 0123456789abcdef"}).status == 200
    assert daemon.get("/v1/jobs", headers={"Authorization": "Bearer 0123456789abcdeg"}).status == 401


def test_other_sites_are_refused(shared):
    assert_problem(shared.get("/v1", headers={"Host": "rebound.example"}), 421, "misdirected")
    attack = shared.request("POST", "/v1/jobs", PRUNE, {"Origin": "http://evil.example"})
    assert_problem(attack, 403, "denied", "evil.example")
    policy = shared.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
