"""Graphs inside of nodes: If, Loop and Scan as ONNX Runtime runs them, and what passes make of them."""

import subprocess

import numpy as np
import onnx
import pytest
from conftest import BUILD
from onnx import TensorProto, helper, numpy_helper

CTL = BUILD / "clients" / "cli" / "shrinkctl"
F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
rng = np.random.default_rng(5)


def node(op, ins, outs, **attributes):
    return helper.make_node(op, ins, outs, name=f"{op}_{outs[0]}", **attributes)


def info(name, dtype=F, shape=None):
    return helper.make_tensor_value_info(name, dtype, shape)


def const(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def graph(nodes, ins, outs, constants=()):
    return helper.make_graph(nodes, "g", ins, outs, list(constants))


def model(nodes, ins, outs, constants=(), opset=16):
    return helper.make_model(graph(nodes, ins, outs, constants),
                             opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


class Both:
    def __init__(self, shrink, folder):
        self.shrink, self.folder = shrink, folder

    def ours(self, made, feeds, *options):
        onnx.save(made, self.folder / "m.onnx")
        np.savez(self.folder / "in.npz", **feeds)
        done = subprocess.run(
            [CTL, "run", self.folder / "m.onnx", "--input", self.folder / "in.npz", "--output",
             self.folder / "out.npz", *options], capture_output=True, text=True)
        return np.load(self.folder / "out.npz") if done.returncode == 0 else done.stderr

    def check(self, made, feeds, *options):
        theirs = self.shrink.session(made.SerializeToString()).run(None, feeds)
        for more in ((), ("--no-fuse",)):
            ours = self.ours(made, feeds, *options, *more)
            assert not isinstance(ours, str), ours
            for y, out in zip(theirs, made.graph.output):
                assert ours[out.name].dtype == y.dtype and ours[out.name].shape == y.shape
                np.testing.assert_allclose(ours[out.name], y, rtol=1e-5, atol=1e-5)


@pytest.fixture
def both(shrink, tmp_path):
    return Both(shrink, tmp_path)


def x(*shape):
    return rng.normal(size=shape).astype(np.float32)


# ── If ──────────────────────────────────────────────────────────────────────────────────────────

THEN = graph([node("MatMul", ["a", "w"], ["t"]), node("Relu", ["t"], ["p"])], [], [info("p")])
ELSE = graph([node("Mul", ["a", "two"], ["q"])], [], [info("q")], [const("two", [2])])


def branching(then=THEN, other=ELSE, constants=(), ins=()):
    return model([node("Neg", ["x"], ["a"]),
                  node("If", ["c"], ["y"], then_branch=then, else_branch=other),
                  node("Add", ["y", "a"], ["z"])],
                 [info("x", F, [2, 3]), *ins], [info("z", F, None)],
                 [const("w", x(3, 3)), *constants])


@pytest.mark.parametrize("c", [False, True])
def test_a_condition_decides_while_running(both, c):
    made = branching(ins=[info("c", B, [])])
    both.check(made, {"x": x(2, 3), "c": np.array(c)})


@pytest.mark.parametrize("c", [False, True])
def test_a_known_condition_leaves_no_branch(both, c):
    feeds = {"x": x(2, 3)}
    both.check(branching(constants=[const("c", c, bool)]), feeds)
    made = branching(ins=[info("c", B, [])])
    ours = both.ours(made, feeds, "--const", f"c={int(c)}")
    z = both.shrink.session(made.SerializeToString()).run(None, {**feeds, "c": np.array(c)})[0]
    np.testing.assert_allclose(ours["z"], z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("c", [False, True])
def test_a_branch_may_give_outer_values_constants_and_shadows(both, c):
    given = graph([node("Identity", ["a"], ["t"])], [], [info("t")])
    # `t` is defined here and in the other branch
    fixed = graph([node("Identity", ["k"], ["t"])], [], [info("t")], [const("k", np.ones((2, 3)))])
    both.check(branching(given, fixed, ins=[info("c", B, [])]), {"x": x(2, 3), "c": np.array(c)})


@pytest.mark.parametrize("c, d", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_branches_nest_and_read_through(both, c, d):
    inner_then = graph([node("Mul", ["x", "s"], ["i1"])], [], [info("i1")])
    inner_else = graph([node("Add", ["a", "s"], ["i2"])], [], [info("i2")])
    outer = graph([node("Sub", ["a", "x"], ["s"]),
                   node("If", ["d"], ["o"], then_branch=inner_then, else_branch=inner_else)],
                  [], [info("o")])
    made = branching(outer, ELSE, ins=[info("c", B, []), info("d", B, [])])
    both.check(made, {"x": x(2, 3), "c": np.array(bool(c)), "d": np.array(bool(d))})


def test_branches_of_other_shapes_are_refused_when_data_decides(both):
    flat = graph([node("Reshape", ["a", "all"], ["f"])], [], [info("f")], [const("all", [-1], np.int64)])
    made = branching(flat, ELSE, ins=[info("c", B, [])])
    told = both.ours(made, {"x": x(2, 3), "c": np.array(True)})
    assert isinstance(told, str) and "value y of If" in told and "depends on data" in told


def test_a_condition_on_a_shape_is_decided(both):
    squeeze = graph([node("Squeeze", ["x", "one"], ["s"])], [], [info("s")], [const("one", [1], np.int64)])
    same = graph([node("Identity", ["x"], ["i"])], [], [info("i")])
    made = model([node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "k"], ["d"]),
                  node("Equal", ["d", "k"], ["c"]),
                  node("If", ["c"], ["y"], then_branch=squeeze, else_branch=same)],
                 [info("x", F, ["N", "M"])], [info("y", F, None)], [const("k", 1, np.int64)])
    both.check(made, {"x": x(2, 1)})
    both.check(made, {"x": x(2, 4)})


# ── Loop ────────────────────────────────────────────────────────────────────────────────────────

def looping(body_nodes, states, rows, most=5, cond=True, body_constants=(), ins=(), row=None):
    """states: (outer, inside, after)."""
    body = graph(body_nodes, [info("i", I, []), info("go", B, []), *[info(s[1]) for s in states]],
                 [info("on", B, []), *[info(s[2]) for s in states], *[info(r, F, row) for r in rows]],
                 body_constants)
    constants = [const("w", x(3, 3) * 0.5)]
    if most is not None:
        constants.append(const("M", most, np.int64))
    if cond is not None:
        constants.append(const("go0", cond, bool))
    outs = [f"{s[0]}_end" for s in states] + [f"{r}_all" for r in rows]
    return model([node("Loop", ["M" if most is not None else "", "go0" if cond is not None else "",
                                *[s[0] for s in states]], outs, body=body)],
                 [info("x", F, [2, 3]), *ins], [info(o, F, None) for o in outs], constants)


STEP = [node("Identity", ["go"], ["on"]), node("MatMul", ["s", "w"], ["t"]),
        node("Tanh", ["t"], ["u"]), node("Cast", ["i"], ["n"], to=F), node("Add", ["u", "n"], ["r"])]


@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_loop_carries_states_and_keeps_rows(both, most):
    both.check(looping(STEP, [("x", "s", "u")], ["r"], most, row=[2, 3]), {"x": x(2, 3)})


def test_a_loop_without_condition_or_with_a_false_one(both):
    both.check(looping(STEP, [("x", "s", "u")], ["r"], 4, None), {"x": x(2, 3)})
    both.check(looping(STEP, [("x", "s", "u")], ["r"], 4, False, row=[2, 3]), {"x": x(2, 3)})


def test_a_loop_ends_by_its_condition(both):
    body = [node("Add", ["s", "s"], ["u"]), node("ReduceMax", ["u"], ["m"], keepdims=0),
            node("Less", ["m", "limit"], ["on"])]
    for most in (None, 100, 3):
        made = looping(body, [("x", "s", "u")], [], most, True if most else None,
                       [const("limit", 50)])
        both.check(made, {"x": np.abs(x(2, 3)) + 0.1})


def test_rows_of_a_loop_that_data_ends_are_refused(both):
    body = [node("Add", ["s", "s"], ["u"]), node("ReduceMax", ["u"], ["m"], keepdims=0),
            node("Less", ["m", "limit"], ["on"]), node("Identity", ["u"], ["r"])]
    told = both.ours(looping(body, [("x", "s", "u")], ["r"], 9, True, [const("limit", 50)]),
                     {"x": x(2, 3)})
    assert isinstance(told, str) and "depends on data" in told


def test_states_may_change_places(both):
    swap = [node("Identity", ["go"], ["on"]), node("Add", ["b", "one"], ["c"])]
    made = looping(swap, [("x", "a", "c"), ("y", "b", "a")], [], 5, True, [const("one", 1)],
                   [info("y", F, [2, 3])])
    both.check(made, {"x": x(2, 3), "y": x(2, 3)})


def test_a_state_that_grows_is_unrolled(both):
    grow = [node("Identity", ["go"], ["on"]), node("Concat", ["s", "x"], ["u"], axis=0)]
    both.check(looping(grow, [("x", "s", "u")], [], 6), {"x": x(2, 3)})


def test_shapes_that_follow_the_iteration_are_unrolled(both):
    part = [node("Identity", ["go"], ["on"]), node("Add", ["i", "one"], ["end"]),
            node("Unsqueeze", ["i", "zero"], ["from"]), node("Unsqueeze", ["end", "zero"], ["to"]),
            node("Slice", ["w", "from", "to"], ["row"]), node("Add", ["s", "row"], ["u"]),
            node("Identity", ["row"], ["r"])]
    both.check(looping(part, [("x", "s", "u")], ["r"], 3, True,
                       [const("one", 1, np.int64), const("zero", [0], np.int64)]), {"x": x(2, 3)})


def test_a_loop_that_grows_for_too_long_is_refused(both):
    grow = [node("Identity", ["go"], ["on"]), node("Concat", ["s", "x"], ["u"], axis=0)]
    told = both.ours(looping(grow, [("x", "s", "u")], [], 100000), {"x": x(2, 3)})
    assert isinstance(told, str) and "states must keep their shapes" in told


def test_a_branch_inside_of_a_loop_is_taken_by_turns(both):
    even = graph([node("MatMul", ["s", "w"], ["e"])], [], [info("e")])
    odd = graph([node("Neg", ["s"], ["o"])], [], [info("o")])
    body = [node("Identity", ["go"], ["on"]), node("Mod", ["i", "two"], ["m"]),
            node("Cast", ["m"], ["c"], to=B),
            node("If", ["c"], ["u"], then_branch=odd, else_branch=even)]
    both.check(looping(body, [("x", "s", "u")], [], 7, True, [const("two", 2, np.int64)]),
               {"x": x(2, 3)})


# ── Scan ────────────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("axis, back, out_axis, out_back", [
    (0, 0, 0, 0), (1, 0, 0, 1), (0, 1, 1, 0), (-1, 1, -1, 1)])
def test_a_scan_walks_along_an_axis(both, axis, back, out_axis, out_back):
    body = graph([node("MatMul", ["s", "w"], ["h"]), node("Add", ["h", "slice"], ["u"]),
                  node("Tanh", ["u"], ["r"])],
                 [info("s", F, [2, 3]), info("slice", F, [2, 3])],
                 [info("u", F, [2, 3]), info("r", F, [2, 3])])
    made = model([node("Scan", ["s0", "q"], ["end", "rows"], body=body, num_scan_inputs=1,
                       scan_input_axes=[axis], scan_input_directions=[back],
                       scan_output_axes=[out_axis], scan_output_directions=[out_back])],
                 [info("s0", F, [2, 3]), info("q", F, ["a", "b", "c"])],
                 [info("end", F, [2, 3]), info("rows", F, None)], [const("w", x(3, 3))])
    shape = [2, 3]
    shape.insert(axis if axis >= 0 else 2, 4)
    both.check(made, {"s0": x(2, 3), "q": x(*shape)})


# ── Passes ──────────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("words", [
    ["optimize"], ["quantize_dynamic"], ["quantize_weights"], ["prune_unstructured", "amount=0.5"],
    ["prune_structured", "amount=0.34"]])
def test_passes_leave_what_a_branch_reads(shrink, tmp_path, words):
    """The branch reads a weight, a value between and an output of layers around it."""
    then = graph([node("MatMul", ["h", "w2"], ["p"])], [], [info("p")])
    other = graph([node("Mul", ["h", "scale"], ["q0"]), node("Add", ["q0", "late"], ["q"])], [],
                  [info("q")])
    made = model([node("MatMul", ["x", "w1"], ["m"]), node("Relu", ["m"], ["h"]),
                  node("MatMul", ["h", "w2"], ["late"]), node("Exp", ["scale0"], ["scale"]),
                  node("If", ["c"], ["y"], then_branch=then, else_branch=other),
                  node("MatMul", ["y", "w3"], ["z"])],
                 [info("x", F, ["N", 6]), info("c", B, [])], [info("z", F, ["N", 4])],
                 [const("w1", x(6, 6)), const("w2", x(6, 6)), const("w3", x(6, 4)),
                  const("scale0", x(6))], opset=13)
    onnx.save(made, tmp_path / "m.onnx")
    done = shrink.call("run", tmp_path / "m.onnx", *words, "-o", tmp_path / "out.onnx")
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)
    data = x(5, 6)
    for c in (False, True):
        feeds = {"x": data, "c": np.array(c)}
        before = shrink.session(tmp_path / "m.onnx").run(None, feeds)[0]
        after = shrink.session(tmp_path / "out.onnx").run(None, feeds)[0]
        assert after.shape == before.shape
        if words[0] in ("optimize", "quantize_dynamic"):
            bound = 1e-5 if words[0] == "optimize" else 0.05
            assert np.abs(after - before).max() <= bound * np.ptp(before)
        np.savez(tmp_path / "in.npz", **feeds)
        ran = subprocess.run([CTL, "run", tmp_path / "out.onnx", "--input", tmp_path / "in.npz",
                              "--output", tmp_path / "ours.npz"], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        np.testing.assert_allclose(np.load(tmp_path / "ours.npz")["z"], after, rtol=1e-4, atol=1e-4)


def test_what_bodies_multiply_is_not_claimed(shrink, tmp_path):
    onnx.save(branching(ins=[info("c", B, [])]), tmp_path / "m.onnx")
    done = shrink.call("eval", tmp_path / "m.onnx", tmp_path / "m.onnx")
    assert done.returncode == 0, done.stderr
    (macs,) = [line for line in done.stdout.splitlines() if line.startswith("macs\t")]
    assert "graphs inside of If_y" in macs
