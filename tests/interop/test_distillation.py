"""The reference recipe of distillation: a teacher of 1,078,200 parameters and a student of 101,770,
T = 4, alpha = 0.7, on Fashion-MNIST; PyTorch trains the same student from the same teacher.

On a part of the images, one seed and few epochs, unless TRAIN_FULL is set: then all of them, five
seeds and ten epochs, and the means must be within 0.2 points."""

import os
import pathlib
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import FASHION, TORCH, TRAIN, read_idx

FULL = "TRAIN_FULL" in os.environ
ROWS, EPOCHS, SEEDS, WITHIN = (60000, 10, range(1, 6), 0.002) if FULL else (6000, 8, range(1, 2), 0.03)
LAYERS = [784, 1000, 290, 10]
CNN = pathlib.Path(__file__).parents[2] / "examples" / "models" / "cnn.onnx"


def fresh_teacher(path):
    rng = np.random.default_rng(1)
    nodes, weights, last = [], [], "x"
    for i, (fan, width) in enumerate(zip(LAYERS, LAYERS[1:])):
        end = "logits" if width == 10 else f"h{i}"
        for name, shape in [(f"fc{i}.weight", (width, fan)), (f"fc{i}.bias", (width,))]:
            w = rng.uniform(-1, 1, shape) / np.sqrt(fan)
            weights.append(numpy_helper.from_array(w.astype(np.float32), name))
        nodes.append(helper.make_node("Gemm", [last, f"fc{i}.weight", f"fc{i}.bias"], [end], f"fc{i}", transB=1))
        last = end
        if width != 10:
            nodes.append(helper.make_node("Relu", [end], [f"r{i}"], f"relu{i}"))
            last = f"r{i}"
    graph = helper.make_graph(
        nodes, "teacher", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 784])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])], weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def recipe(shrink, tmp_path_factory):
    """The trained teacher, the images to train on, and what PyTorch needs."""
    folder = tmp_path_factory.mktemp("recipe")
    images = read_idx(TRAIN)[:ROWS].reshape(-1, 784)
    labels = read_idx(FASHION / "train-labels-idx1-ubyte.gz")[:ROWS].astype(np.int64)
    np.savez(folder / "train.npz", x=images, labels=labels)
    np.save(folder / "x.npy", images)
    fresh, teacher = fresh_teacher(folder / "fresh.onnx"), folder / "teacher.onnx"
    train(shrink, fresh, "finetune", folder / "train.npz", teacher, 1, [f"epochs={EPOCHS}", "learning_rate=0.001"])
    done = shrink.call("predict", teacher, "--data", folder / "x.npy", "--batch", 100, "-o", folder / "said.f32")
    assert done.returncode == 0, done.stderr
    np.savez(
        folder / "torch.npz", x=images.astype(np.float32) / 255, y=labels,
        teacher=np.fromfile(folder / "said.f32", np.float32).reshape(-1, 10),
        test_x=shrink.images.reshape(-1, 784), test_y=shrink.labels.astype(np.int64),
    )
    return folder


def train(shrink, model, name, data, out, seed, arguments):
    done = shrink.call("run", model, name, *arguments, "validate=0", "--data", data, "-o", out, "--seed", seed)
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(onnx.load(out), full_check=True)
    return done.stdout


def ours(shrink, folder, seed, alpha, *more):
    out = folder / f"student-{seed}-{alpha}.onnx"
    text = train(shrink, folder / "teacher.onnx", "distill", folder / "train.npz", out, seed,
                 ["student.mlp=128", f"epochs={EPOCHS}", f"alpha={alpha}", *(more or ["temperature=4"])])
    assert "parameters_before=1078200" in text and "parameters_after=101770" in text
    assert "ratio=10.594" in text
    return shrink.accuracy(shrink.theirs(out))


def test_a_student_is_as_good_as_pytorchs(shrink, recipe):
    distilled = [ours(shrink, recipe, seed, 0.7) for seed in SEEDS]
    script = pathlib.Path(__file__).with_name("torch_distill.py")
    done = subprocess.run([TORCH, script, recipe / "torch.npz", str(EPOCHS), *map(str, SEEDS)],
                          check=True, capture_output=True, text=True)
    theirs = [float(line) for line in done.stdout.split()]
    print(f"ours {np.mean(distilled):.4f}, PyTorch {np.mean(theirs):.4f}")
    assert np.mean(distilled) >= np.mean(theirs) - WITHIN
    assert np.mean(distilled) > 0.75


def test_a_student_of_a_teacher_beats_one_of_labels_alone(shrink, recipe):
    settings = ["temperature=4", "learning_rate=0.01"]
    distilled, labels = ([ours(shrink, recipe, seed, alpha, *settings) for seed in SEEDS] for alpha in (0.7, 0.0))
    print(f"distilled {np.mean(distilled):.4f}, labels alone {np.mean(labels):.4f}")
    assert np.mean(distilled) >= np.mean(labels) + (0.003 if FULL else -WITHIN)


def test_a_student_of_labels_alone_learns_too(shrink, recipe):
    labels = [ours(shrink, recipe, seed, 0.0) for seed in SEEDS]
    print(f"labels alone {np.mean(labels):.4f}")
    assert np.mean(labels) > 0.75


def test_half_the_channels_of_the_cnn_cost_half_a_point(shrink, tmp_path):
    """Pruned, then taught by the original; on few images it only gets better."""
    rows, epochs = (60000, 8) if FULL else (3000, 1)
    np.savez(
        tmp_path / "train.npz", x=read_idx(TRAIN)[:rows].reshape(-1, 1, 28, 28),
        labels=read_idx(FASHION / "train-labels-idx1-ubyte.gz")[:rows].astype(np.int64))
    original, pruned, taught = CNN, tmp_path / "pruned.onnx", tmp_path / "taught.onnx"
    done = shrink.call("run", original, "prune_structured", "amount=0.5", "norm=activations", "refit=true",
                       "round_to=4", "--calibrate", TRAIN, "-o", pruned, "--seed", 1)
    assert done.returncode == 0, done.stderr
    train(shrink, original, "distill", tmp_path / "train.npz", taught, 1,
          [f"student.model={pruned}", "student.init=keep", f"epochs={epochs}", "learning_rate=0.004",
           "alpha=0.7", "temperature=4", "augment.flip=true"])
    before, after = (shrink.accuracy(shrink.theirs(path)) for path in (pruned, taught))
    print(f"pruned {before:.4f}, taught {after:.4f}")
    assert after >= (shrink.accuracy(shrink.theirs(original)) - 0.005 if FULL else before + 0.01)
