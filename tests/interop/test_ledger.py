"""The size ledger, judged by what ONNX's own reader finds in the files."""

import onnx
import pytest

from conftest import MODELS

PASSES = {
    "dynamic": ("quantize_dynamic",),
    "uint8": ("quantize_dynamic", "weight_type=uint8"),
    "weights": ("quantize_weights", "bits=4"),
    "static": ("quantize_static", "samples=16"),
    "half": ("convert",),
    "narrow": ("prune_structured",),
}


def sides(shrink, before, after):
    done = shrink.call("ledger", before, after)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    names = ("file", "parameters", "quantization", "constants", "graph", "shared", "saved")
    two = [dict(zip(names, map(int, line[1:]))) for line in lines[:2]]
    rows = {line[0]: (line[1], int(line[2]), line[3], *map(int, line[4:])) for line in lines[2:]}
    return two, rows


def element_bytes(path):
    graph = onnx.load(path).graph
    tensors = list(graph.initializer)
    for one in graph.sparse_initializer:
        tensors += [one.values, one.indices]
    for node in graph.node:
        tensors += [a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value"]
    assert not any(len(t.float_data) + len(t.int32_data) + len(t.int64_data) for t in tensors)
    return sum(len(t.raw_data) for t in tensors)


def test_sparse_tensors_count_with_their_indices(shrink, tmp_path):
    before, after = MODELS / "mlp.onnx", tmp_path / "sparse.onnx"
    words = ("prune_unstructured", "amount=0.9", "store=sparse", "-o", after)
    assert shrink.call("run", before, *words).returncode == 0
    two, rows = sides(shrink, before, after)
    # a sparse tensor that was read counts with its message: name, dims and tags
    assert 0 <= two[1]["parameters"] + two[1]["constants"] - element_bytes(after) < 3 * 64
    assert two[1]["file"] == after.stat().st_size
    assert rows["fc1.weight"][1] > 4 * rows["fc1.weight"][3]


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
@pytest.mark.parametrize("kind", PASSES)
def test_its_parts_are_the_bytes_of_the_file(shrink, name, kind):
    before = MODELS / f"{name}.onnx"
    after = shrink.run(before, *PASSES[kind])
    two, rows = sides(shrink, before, after)
    for side, path in zip(two, (before, after)):
        tensors = side["parameters"] + side["quantization"] + side["constants"]
        assert side["file"] == path.stat().st_size == tensors + side["graph"]
        assert tensors == element_bytes(path)
    for was, old, now, new, scales, readers in rows.values():
        assert (was, old) != (now, new) or scales
    weights = {t.name: len(t.raw_data) for t in onnx.load(before).graph.initializer}
    for row, (was, old, *_) in rows.items():
        if was != "none":
            assert weights[row] == old
    changed = sum(row[3] - row[1] for row in rows.values())
    assert changed == two[1]["parameters"] - two[0]["parameters"]
    if kind in ("dynamic", "uint8", "weights"):
        assert sum(row[4] for row in rows.values()) == two[1]["quantization"] > 0
