"""Models and datasets over HTTP: in, out by range, versions, and every kind of bad input."""

import hashlib
import io
import struct

import numpy
import onnx
import pytest
from conftest import FASHION, MODELS
from onnx import TensorProto, helper

MLP = (MODELS / "mlp.onnx").read_bytes()


def model(nodes, inputs=("x",), outputs=("y",), shape=(1, 4), initializers=()):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def assert_problem(answer, status, code, *words):
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    for word in words:
        assert word in problem["detail"], problem
    return problem


def put(daemon, name, body, kind="models", query="", **headers):
    return daemon.request("PUT", f"/v1/{kind}/{name}{query}", body, headers)


def multipart(**fields):
    body = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
        % (name.encode(), data) for name, data in fields.items()) + b"--XX--\r\n"
    return {"body": body, "Content-Type": "multipart/form-data; boundary=XX"}


def npz(**arrays):
    file = io.BytesIO()
    numpy.savez(file, **arrays)
    return file.getvalue()


# ── Models ──────────────────────────────────────────────────────────────────────────────────────

def test_a_model_goes_in_once_and_comes_out_the_same(daemon):
    first = put(daemon, "mlp", MLP)
    assert first.status == 201
    assert first.json()["parameters"] == 266610
    assert first.json()["sha256"] == hashlib.sha256(MLP).hexdigest()
    again = put(daemon, "mlp", MLP)
    assert again.status == 200 and again.json() == first.json()
    assert daemon.get("/v1/models/mlp").json() == first.json()
    assert daemon.get("/v1/models/mlp/versions/1").json() == first.json()
    assert [item["name"] for item in daemon.get("/v1/models").json()["items"]] == ["mlp"]

    content = daemon.get("/v1/models/mlp/content")
    assert content.body == MLP
    assert content.headers["ETag"] == f'"sha256:{first.json()["sha256"]}"'
    assert content.headers["Content-Disposition"] == 'attachment; filename="mlp-v1.onnx"'
    assert daemon.get(f"/v1/blobs/sha256:{first.json()['sha256']}").body == MLP


def test_content_is_served_by_range(daemon):
    put(daemon, "mlp", MLP)
    path = "/v1/models/mlp/content"
    for text, expected in [("bytes=0-9", MLP[:10]), ("bytes=1000000-", MLP[1000000:]),
                           ("bytes=-5", MLP[-5:]), ("bytes=300000-800000", MLP[300000:800001])]:
        part = daemon.get(path, headers={"Range": text})
        assert part.status == 206 and part.body == expected
    tag = part.headers["ETag"]
    assert part.headers["Content-Range"] == f"bytes 300000-800000/{len(MLP)}"
    assert daemon.get(path, headers={"Range": "bytes=0-1", "If-Range": tag}).status == 206
    assert daemon.get(path, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status == 200
    assert daemon.get(path, headers={"Range": "bytes=0-1,4-5"}).status == 200
    past = daemon.get(path, headers={"Range": f"bytes={len(MLP)}-"})
    assert_problem(past, 416, "range_not_satisfiable")
    assert past.headers["Content-Range"] == f"bytes */{len(MLP)}"
    same = daemon.get(path, headers={"If-None-Match": tag})
    assert same.status == 304 and same.body == b""
    head = daemon.request("HEAD", path)
    assert head.status == 200 and head.headers["Content-Length"] == str(len(MLP)) and head.body == b""


def test_other_bytes_make_a_new_version_and_each_can_be_deleted(daemon):
    put(daemon, "m", MLP)
    other = onnx.load_from_string(MLP)
    other.doc_string = "another"
    second = put(daemon, "m", other.SerializeToString())
    assert second.status == 201 and second.json()["version"] == 2
    assert daemon.get("/v1/models/m").json()["version"] == 2
    assert daemon.get("/v1/models/m/versions/1/content").body == MLP
    assert daemon.request("DELETE", "/v1/models/m/versions/2").status == 204
    assert daemon.get("/v1/models/m").json()["version"] == 1
    assert daemon.request("DELETE", "/v1/models/m").status == 204
    assert_problem(daemon.get("/v1/models/m"), 404, "not_found")
    assert_problem(daemon.request("DELETE", "/v1/models/m"), 404, "not_found")


@pytest.mark.parametrize("name", ["UPPER", "a%2Fb", "-a", ".a", "a%20b", "a" * 129, "%C3%A9"])
def test_bad_names_are_refused_before_the_body(daemon, name):
    assert_problem(put(daemon, name, MLP), 400, "invalid", "name")
    assert_problem(put(daemon, name, b"PK\3\4....", "datasets"), 400, "invalid", "name")


def cyclic():
    return model([helper.make_node("Relu", ["b"], ["a"], "first"),
                  helper.make_node("Relu", ["a"], ["b"], "second"),
                  helper.make_node("Add", ["a", "x"], ["y"], "third")])


def wrong_size():
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.0] * 16)
    weight.dims[0] = 5
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], initializers=[weight])


def huge():
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 40])
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], initializers=[weight])


BAD_MODELS = {
    "empty": (b"", ()),
    "truncated": (MLP[:len(MLP) // 2], ()),
    "text": (b"this is not a model\n" * 100, ()),
    "a png": (b"\x89PNG\r\n\x1a\n" + bytes(1000), ()),
    "cyclic": (cyclic().SerializeToString(), ("cycle",)),
    "an undefined input": (model([helper.make_node("Relu", ["nowhere"], ["y"])]).SerializeToString(),
                           ("nowhere",)),
    "a tensor that is too short": (wrong_size().SerializeToString(), ("w",)),
    "huge dimensions": (huge().SerializeToString(), ("w",)),
    "two nodes that make one value": (model([helper.make_node("Relu", ["x"], ["y"]),
                                            helper.make_node("Abs", ["x"], ["y"])]).SerializeToString(),
                                      ("y",)),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_bad_models_are_named_and_leave_nothing(daemon, kind):
    body, words = BAD_MODELS[kind]
    answer = put(daemon, "bad", body)
    assert answer.status in (400, 413, 422), answer.body
    assert_problem(answer, answer.status, answer.json()["code"], *words)
    assert len(answer.json()["detail"]) > 10
    assert daemon.get("/v1/models/bad").status == 404
    assert daemon.get("/v1/storage").json()["blobs"] == 0
    assert put(daemon, "good", MLP).status == 201


def test_an_unknown_operator_is_stored_and_told(daemon):
    unknown = model([helper.make_node("FancyNorm", ["x"], ["y"], domain="org.example")])
    unknown.opset_import.append(helper.make_opsetid("org.example", 1))
    answer = put(daemon, "fancy", unknown.SerializeToString())
    assert answer.status == 201, answer.body
    assert any("FancyNorm" in op for op in answer.json()["unrunnable_ops"])


def test_queries_and_bodies_where_none_belong(daemon):
    assert_problem(put(daemon, "m", MLP, query="?scale=2"), 400, "invalid", "scale")
    assert_problem(daemon.get("/v1/models?page=2"), 400, "invalid", "page")
    assert_problem(daemon.get("/v1/models?limit=many"), 400, "invalid", "limit")
    assert_problem(daemon.get("/v1/models?limit=100000"), 400, "invalid", "limit")
    assert_problem(put(daemon, "m", **multipart(model=MLP)), 415, "unsupported_media_type")
    assert_problem(put(daemon, "m", MLP, **{"Content-Encoding": "gzip"}), 415,
                   "unsupported_media_type")


def test_a_model_over_the_limit(start_daemon):
    daemon = start_daemon("--max_upload_bytes", "1000")
    assert_problem(put(daemon, "m", MLP), 413, "over_limit", "1000")
    chunked = daemon.request("PUT", "/v1/models/m", iter([MLP[:600], MLP[600:1200]]))
    assert_problem(chunked, 413, "over_limit", "1000")
    assert daemon.get("/v1/storage").json()["blobs"] == 0


# ── Datasets ────────────────────────────────────────────────────────────────────────────────────

def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = numpy.arange(20 * 4 * 4, dtype=numpy.uint8).reshape(20, 4, 4)
LABELS = (numpy.arange(20) % 4).astype(numpy.uint8)


def test_fashion_mnist_by_form(daemon):
    form = multipart(images=(FASHION / "t10k-images-idx3-ubyte.gz").read_bytes(),
                     labels=(FASHION / "t10k-labels-idx1-ubyte.gz").read_bytes())
    answer = put(daemon, "fashion", kind="datasets", query="?scale=0.00392156862745098", **form)
    assert answer.status == 201, answer.body
    summary = answer.json()
    assert (summary["samples"], summary["classes"]) == (10000, 10)
    assert summary["label_histogram"] == [1000] * 10
    assert daemon.get("/v1/datasets/fashion").json() == summary


def test_datasets_of_each_format(daemon):
    for name, body in {"npz": npz(images=IMAGES, labels=LABELS.astype(numpy.int64)),
                       "form": multipart(images=idx(IMAGES), labels=idx(LABELS)),
                       "turned": multipart(labels=idx(LABELS), images=idx(IMAGES))}.items():
        answer = put(daemon, name, kind="datasets", **(body if isinstance(body, dict) else {"body": body}))
        assert answer.status == 201, answer.body
        assert answer.json()["samples"] == 20 and answer.json()["label_histogram"] == [5] * 4
    file = io.BytesIO()
    numpy.save(file, IMAGES)
    answer = put(daemon, "npy", file.getvalue(), "datasets")
    assert answer.status == 201 and answer.json()["has_labels"] is False


BAD_DATASETS = {
    "empty": {"body": b""},
    "text": {"body": b"not a dataset at all"},
    "a cut npz": {"body": npz(images=IMAGES, labels=LABELS)[:300]},
    "a cut idx": multipart(images=idx(IMAGES)[:-1], labels=idx(LABELS)),
    "labels that are too few": multipart(images=idx(IMAGES), labels=idx(LABELS[:-1])),
    "labels alone": multipart(labels=idx(LABELS)),
    "a field of another name": multipart(pictures=idx(IMAGES)),
    "images twice": {"body": multipart(images=idx(IMAGES))["body"][:-8] +
                     multipart(images=idx(IMAGES))["body"],
                     "Content-Type": "multipart/form-data; boundary=XX"},
    "an object array": {"body": npz(x=numpy.array([{"a": 1}], dtype=object))},
    "arrays of different lengths": {"body": npz(a=IMAGES, b=IMAGES[:3], labels=LABELS)},
    "a form without an end": {"body": multipart(images=idx(IMAGES))["body"][:-30],
                              "Content-Type": "multipart/form-data; boundary=XX"},
    "a form without a boundary": {"body": b"x", "Content-Type": "multipart/form-data"},
}


@pytest.mark.parametrize("kind", BAD_DATASETS)
def test_bad_datasets_are_named_and_leave_nothing(daemon, kind):
    answer = put(daemon, "bad", kind="datasets", **BAD_DATASETS[kind])
    assert answer.status in (400, 422), answer.body
    assert_problem(answer, answer.status, answer.json()["code"])
    assert daemon.get("/v1/datasets/bad").status == 404
    assert daemon.get("/v1/storage").json()["blobs"] == 0


def test_bad_options_are_named(daemon):
    body = npz(images=IMAGES)
    for query, word in [("?scale=much", "scale"), ("?mean=1,x", "mean"), ("?std=0", "std"),
                        ("?layout=nhw", "layout"), ("?colour=red", "colour"),
                        ("?scale=1&scale=2", "scale"), ("?scale=nan", "scale")]:
        assert_problem(put(daemon, "d", body, "datasets", query), 400, "invalid", word)
