"""Models in several files, and models with functions: as ONNX Runtime runs them, or refused in words."""

import subprocess

import numpy as np
import onnx
import pytest
from conftest import BUILD
from onnx import TensorProto, helper, numpy_helper

CTL = BUILD / "clients" / "cli" / "shrinkctl"
F = TensorProto.FLOAT
rng = np.random.default_rng(3)
W = rng.normal(size=(4, 5)).astype(np.float32)
X = rng.normal(size=(3, 4)).astype(np.float32)


def run(path, folder):
    np.save(folder / "x.npy", X)
    done = subprocess.run([CTL, "run", path, "--input", folder / "x.npy", "--output",
                           folder / "y.npz"], capture_output=True, text=True)
    return np.load(folder / "y.npz")["y"] if done.returncode == 0 else done.stderr


def value(name, shape):
    return helper.make_tensor_value_info(name, F, shape)


# ── External data ───────────────────────────────────────────────────────────────────────────────

def outside(folder, **entries):
    """y = x · w with w in another file."""
    w = TensorProto(name="w", dims=W.shape, data_type=F, data_location=TensorProto.EXTERNAL)
    for key, text in entries.items():
        w.external_data.add(key=key, value=str(text))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
                              [value("x", ["N", 4])], [value("y", ["N", 5])], [w])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "m.onnx").write_bytes(made.SerializeToString())
    (folder / "model" / "w.bin").write_bytes(b"head" + W.tobytes() + b"tail")
    return folder / "model" / "m.onnx"


def test_weights_come_from_other_files(tmp_path):
    path = outside(tmp_path, location="w.bin", offset=4, length=W.nbytes)
    np.testing.assert_allclose(run(path, tmp_path), X @ W, atol=1e-5)


def test_what_onnx_writes_is_read(shrink, tmp_path):
    then = helper.make_graph([helper.make_node("MatMul", ["x", "v"], ["t"])], "t", [],
                             [value("t", None)], [numpy_helper.from_array(W * 2, "v")])
    other = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["e"])], "e", [],
                              [value("e", None)])
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
         helper.make_node("Less", ["s", "zero"], ["c"]),
         helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        "g", [value("x", ["N", 4])], [value("y", ["N", 5])],
        [numpy_helper.from_array(W, "w"), numpy_helper.from_array(np.float32(0), "zero")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="all.bin",
              size_threshold=0, convert_attribute=True)
    theirs = shrink.session(str(tmp_path / "m.onnx")).run(None, {"x": X})[0]
    np.testing.assert_allclose(run(tmp_path / "m.onnx", tmp_path), theirs, atol=1e-5)


@pytest.mark.parametrize("entries, told", [
    ({"location": "../w.bin"}, "is not below the model's folder"),
    ({"location": "a/../../w.bin"}, "is not below the model's folder"),
    ({"location": "/etc/passwd"}, "is not below the model's folder"),
    ({"location": "a\\w.bin"}, "is not below the model's folder"),
    ({"location": ""}, "is not below the model's folder"),
    ({"offset": "0"}, "is not below the model's folder"),
    ({"location": "none.bin"}, "No such file"),
    ({"location": "link.bin"}, "leads out of the model's folder"),
    ({"location": "folder"}, "is no file"),
    ({"location": "w.bin", "offset": "9999", "length": W.nbytes}, "has 88 bytes, not 80 from byte 9999"),
    ({"location": "w.bin", "offset": "9", "length": W.nbytes}, "has 88 bytes, not 80 from byte 9 on"),
    ({"location": "w.bin", "offset": "-4"}, "its external offset is '-4'"),
    ({"location": "w.bin", "length": "99999999999999999999"}, "its external length is"),
    ({"location": "w.bin", "offset": "4", "length": "76"}, "has 76 bytes of data"),
    ({"location": "w.bin"}, "has 88 bytes of data"),
])
def test_external_data_stays_in_its_place(tmp_path, entries, told):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = outside(tmp_path, **entries)
    (path.parent / "link.bin").symlink_to(tmp_path / "w.bin")
    (path.parent / "folder").mkdir()
    said = run(path, tmp_path)
    assert isinstance(said, str) and told in said, said


# ── Functions ───────────────────────────────────────────────────────────────────────────────────

def functional(functions, nodes, domain="local"):
    graph = helper.make_graph(nodes, "g", [value("x", ["N", 4])], [value("y", None)],
                              [numpy_helper.from_array(W, "w")])
    return helper.make_model(
        graph, functions=functions, ir_version=8,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)])


def function(name, ins, outs, nodes, attributes=(), **more):
    return helper.make_function("local", name, ins, outs, nodes,
                                [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
                                list(attributes), **more)


def refer(node, name, to, kind):
    attribute = node.attribute.add(name=name, type=kind)
    attribute.ref_attr_name = to
    return node


def agrees(shrink, folder, made):
    onnx.save(made, folder / "m.onnx")
    theirs = shrink.session(made.SerializeToString()).run(None, {"x": X})[0]
    ours = run(folder / "m.onnx", folder)
    assert not isinstance(ours, str), ours
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    done = shrink.call("run", folder / "m.onnx", "optimize", "-o", folder / "o.onnx")
    assert done.returncode == 0, done.stderr
    after = shrink.session(str(folder / "o.onnx")).run(None, {"x": X})[0]
    np.testing.assert_allclose(after, theirs, atol=1e-5)


def test_functions_are_replaced_by_what_they_do(shrink, tmp_path):
    leak = refer(helper.make_node("LeakyRelu", ["h"], ["out"]), "alpha", "slope",
                 onnx.AttributeProto.FLOAT)
    layer = function("Layer", ["a", "b"], ["out"], [helper.make_node("MatMul", ["a", "b"], ["h"]), leak],
                     ["slope"])
    twice = function("Twice", ["in"], ["out"], [
        helper.make_node("Add", ["in", "in"], ["h"]),  # h: another than the layer's
        helper.make_node("Abs", ["h"], ["out"])])
    outer = function("Outer", ["p", "q"], ["r"], [
        helper.make_node("Layer", ["p", "q"], ["h"], domain="local", slope=0.25),
        helper.make_node("Twice", ["h"], ["r"], domain="local")])
    agrees(shrink, tmp_path, functional([layer, twice, outer], [
        helper.make_node("Outer", ["x", "w"], ["h"], domain="local"),
        helper.make_node("Layer", ["x", "w"], ["i"], domain="local", slope=0.5),
        helper.make_node("Sub", ["h", "i"], ["y"])]))


def test_functions_have_defaults_and_optional_inputs(shrink, tmp_path):
    clip = function("Bound", ["a", "low", "high"], ["out"],
                    [helper.make_node("Clip", ["a", "low", "high"], ["c"]),
                     refer(helper.make_node("Elu", ["c"], ["out"]), "alpha", "alpha",
                           onnx.AttributeProto.FLOAT)],
                    attribute_protos=[helper.make_attribute("alpha", 0.7)])
    agrees(shrink, tmp_path, functional([clip], [
        helper.make_node("Bound", ["x"], ["i"], domain="local"),
        helper.make_node("Bound", ["x", "", ""], ["j"], domain="local", alpha=2.0),
        helper.make_node("Add", ["i", "j"], ["y"])]))


def test_functions_work_around_and_inside_of_branches(shrink, tmp_path):
    then = helper.make_graph([helper.make_node("Twice", ["a"], ["t"], domain="local")], "t", [],
                             [value("t", None)])
    other = helper.make_graph([helper.make_node("Neg", ["a"], ["t"])], "e", [], [value("t", None)])
    twice = function("Twice", ["in"], ["out"], [helper.make_node("Add", ["in", "in"], ["out"])])
    choose = function("Choose", ["a"], ["out"], [
        helper.make_node("ReduceSum", ["a"], ["s"], keepdims=0),
        helper.make_node("Constant", [], ["z"], value_float=0.0),
        helper.make_node("Less", ["s", "z"], ["c"]),
        helper.make_node("If", ["c"], ["out"], then_branch=then, else_branch=other)])
    agrees(shrink, tmp_path, functional([twice, choose], [
        helper.make_node("Choose", ["x"], ["h"], domain="local"),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Choose", ["m"], ["y"], domain="local")]))


def test_functions_that_never_end_are_refused(tmp_path):
    again = function("Again", ["a"], ["b"], [helper.make_node("Again", ["a"], ["b"], domain="local")])
    onnx.save(functional([again], [helper.make_node("Again", ["x"], ["y"], domain="local")]),
              tmp_path / "m.onnx")
    said = run(tmp_path / "m.onnx", tmp_path)
    assert isinstance(said, str) and "call each other deeper than 16" in said
    old = helper.make_function("local", "Old", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                               [helper.make_opsetid("", 11)])
    onnx.save(functional([old], [helper.make_node("Old", ["x"], ["y"], domain="local")]),
              tmp_path / "m.onnx")
    said = run(tmp_path / "m.onnx", tmp_path)
    assert isinstance(said, str) and "is of opset 11, the model of 17" in said


# ── Datasets ────────────────────────────────────────────────────────────────────────────────────

def test_a_dataset_binds_the_dims_that_a_model_leaves_open(shrink, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
         helper.make_node("ReduceMean", ["r"], ["y"], axes=[1], keepdims=0)],
        "g", [value("x", ["N", "T", 4])], [value("y", ["N", 5])], [numpy_helper.from_array(W, "w")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "m.onnx")
    x = rng.normal(size=(20, 6, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    done = shrink.call("run", tmp_path / "m.onnx", "quantize_static", "-o", tmp_path / "q.onnx",
                       "--calibrate", tmp_path / "d.npz")
    assert done.returncode == 0, done.stderr
    done = shrink.call("predict", tmp_path / "q.onnx", "--data", tmp_path / "d.npz", "--batch", 7,
                       "-o", tmp_path / "y.f32")
    assert done.returncode == 0, done.stderr
    ours = np.fromfile(tmp_path / "y.f32", np.float32).reshape(20, 5)
    theirs = shrink.session(str(tmp_path / "m.onnx")).run(None, {"x": x})[0]
    assert np.abs(ours - theirs).max() < 0.05 * np.ptp(theirs)
