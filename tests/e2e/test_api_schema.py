"""openapi.json against the daemon: real answers fit its schemas, every route is described."""

import jsonschema
import pytest
from conftest import FASHION
from test_api_items import IMAGES, MLP, idx, multipart, npz, put


@pytest.fixture
def document(daemon):
    return daemon.get("/openapi.json").json()


def check(document, answer, path, method="get"):
    """The answer's status is described or is the default problem, and its body fits."""
    responses = document["paths"][path][method]["responses"]
    response = responses.get(str(answer.status))
    if response is None:
        assert answer.status >= 400 or answer.status in (200, 206), answer.status
        response = document["components"]["responses"]["Problem"] if answer.status >= 400 else \
            next(iter(responses.values()))
    kind = answer.headers["Content-Type"].split(";")[0]
    schema = {**response["content"][kind]["schema"], "components": document["components"]}
    jsonschema.validate(answer.json(), schema, cls=jsonschema.Draft202012Validator)


def test_schemas_are_schemas(document):
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_answers_fit(daemon, document):
    model = put(daemon, "mlp", MLP)
    check(document, model, "/v1/models/{name}", "put")
    dataset = put(daemon, "d", kind="datasets",
                  **multipart(images=(FASHION / "t10k-images-idx3-ubyte.gz").read_bytes(),
                              labels=(FASHION / "t10k-labels-idx1-ubyte.gz").read_bytes()))
    check(document, dataset, "/v1/datasets/{name}", "put")
    spec = {"model": "mlp", "data": {"evaluate": "d"}, "assert": ["sparsity > 0.4"],
            "pipeline": [{"pass": "prune_unstructured"}],
            "evaluate": {"latency": {"batch": [1], "seconds": 0.1}}}
    request = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    with_parts = {**request["schema"], "components": document["components"]}
    jsonschema.validate(spec, with_parts, cls=jsonschema.Draft202012Validator)
    check(document, daemon.request("POST", "/v1/plan", spec), "/v1/plan", "post")
    job = daemon.request("POST", "/v1/jobs", spec)
    check(document, job, "/v1/jobs", "post")
    done = daemon.wait(job.json()["id"])
    assert done["state"] == "succeeded", done
    job = job.json()["id"]
    for path, real in {
            "/livez": "", "/readyz": "", "/v1": "", "/v1/storage": "", "/v1/passes": "",
            "/v1/models": "", "/v1/datasets": "", "/v1/jobs": "", "/v1/models/{name}": "/v1/models/mlp",
            "/v1/datasets/{name}": "/v1/datasets/d", "/v1/jobs/{id}": f"/v1/jobs/{job}",
            "/v1/jobs/{id}/report": f"/v1/jobs/{job}/report",
            "/v1/jobs/{id}/artifacts": f"/v1/jobs/{job}/artifacts",
            "/v1/compare": f"/v1/compare?ids={job}"}.items():
        answer = daemon.get(real or path)
        assert answer.status == 200
        check(document, answer, path)
    check(document, daemon.get("/v1/jobs/absent"), "/v1/jobs/{id}")


def test_specs_that_the_schema_refuses_are_refused(daemon, document):
    put(daemon, "mlp", MLP)
    schema = {"$ref": "#/components/schemas/JobRequest", "components": document["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    for spec in ({"model": "mlp", "pipeline": [{"pass": "prune_unstructured", "amount": "x"}]},
                 {"model": "mlp", "pipeline": [{"pass": "nothing"}]},
                 {"model": "mlp", "pipeline": [{"pass": "optimize", "fuse": 3}]},
                 {"model": "mlp", "pipeline": []}, {"pipeline": [{"pass": "optimize"}]}):
        assert list(validator.iter_errors(spec))
        assert daemon.request("POST", "/v1/jobs", spec).status == 400


def test_every_described_get_is_served(daemon, document):
    put(daemon, "mlp", MLP)
    put(daemon, "d", npz(images=IMAGES), "datasets")
    assert idx(IMAGES)[:4] == b"\0\0\x08\x03"
    for path, operations in document["paths"].items():
        if "get" not in operations or path == "/v1/events":
            continue
        real = path.format(name="mlp", version=1, id="job_x", step=0, digest="sha256:" + "0" * 64,
                           file="app.js")
        answer = daemon.get(real)
        assert answer.status in (200, 400, 404) and answer.headers["X-Request-Id"], path
        if answer.status == 404:
            assert "no such path" not in answer.json()["detail"], path
