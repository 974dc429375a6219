"""Training, judged by PyTorch: the same weights and batches give the same losses and gradients."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT, TORCH

sys.path.insert(0, str(ROOT / "tests" / "harness"))
from training import Trainer

STEPS = 10
CLOSE = 1e-4
PLAIN = {"rates": [0.1] * STEPS}
RECIPES = {
    "labels": PLAIN,
    "momentum": {**PLAIN, "momentum": 0.9, "weight_decay": 1e-3},
    "nesterov": {**PLAIN, "momentum": 0.9, "nesterov": True, "smoothing": 0.1},
    "clipped": {**PLAIN, "clip_norm": 0.5},
    "distilled": {**PLAIN, "momentum": 0.9, "temperature": 4.0, "alpha": 0.7},
    "squares": {**PLAIN, "alpha": 0.5, "squares": True},
    "binary": {**PLAIN, "binary": True},
    "adam": {"rates": [1e-3] * STEPS, "optimizer": "adam", "weight_decay": 1e-2},
    "adamw": {"rates": [1e-3 * (i + 1) for i in range(STEPS)], "optimizer": "adamw", "weight_decay": 0.1},
}


# Parameters and recipes. Where a step meets the kink of a Relu, rounding decides on which side: the
# recipes are compared on a network without kinks, and the networks by the two that matter most.
NETWORKS = {
    "smooth": (6, list(RECIPES)),
    "mlp": (6, ["labels", "distilled"]),
    "cnn": (12, ["labels", "distilled", "adam"]),
    "recurrent": (14, ["labels", "adam"]),
    "transformer": (30, ["labels", "adam"]),
}


@pytest.fixture(scope="module")
def torch_steps(tmp_path_factory):
    """The model of a network, and what PyTorch did with it by a recipe."""
    folder, done = tmp_path_factory.mktemp("torch"), set()

    def get(network, recipe):
        if network not in done:
            recipes = json.dumps({r: RECIPES[r] for r in NETWORKS[network][1]})
            script = pathlib.Path(__file__).with_name("torch_steps.py")
            subprocess.run([TORCH, script, network, recipes, folder], check=True)
            done.add(network)
        return (folder / f"{network}.onnx").read_bytes(), np.load(folder / f"{network}-{recipe}.npz")

    return get


def trainer_of(model, recipe):
    alpha = recipe.get("alpha", 0.0)
    names = ("momentum", "weight_decay", "clip_norm", "temperature", "smoothing", "nesterov", "binary", "squares")
    options = {k: recipe[k] for k in names if k in recipe}
    return Trainer(model, recipe.get("optimizer", "sgd"), soft=alpha, hard=1 - alpha, **options)


def assert_close(ours, theirs, what):
    span = max(1e-3, float(np.abs(theirs).max()))
    error = float(np.abs(ours.ravel() - theirs.ravel()).max()) / span
    assert error <= CLOSE, f"{what} differs by {error:.2g} of its largest element"


@pytest.mark.parametrize("network, recipe", [(n, r) for n, (_, rs) in NETWORKS.items() for r in rs])
def test_ten_steps_equal_those_of_pytorch(torch_steps, network, recipe):
    model, theirs = torch_steps(network, recipe)
    recipe = RECIPES[recipe]
    ours = trainer_of(model, recipe)
    names = [k[: -len(" 0")] for k in theirs.files if k.endswith(" 0") and k != "loss 0"]
    assert len(names) == NETWORKS[network][0]
    for step in range(STEPS):
        loss, hits = ours.run([theirs["x"][step]], theirs["labels"][step], theirs["teacher"][step])
        assert loss == pytest.approx(float(theirs[f"loss {step}"]), rel=CLOSE)
        assert 0 <= hits <= len(theirs["labels"][step])
        for name in names:
            assert_close(ours.array(name, gradient=True), theirs[f"{name} {step}"], f"step {step}: {name}")
        ours.update(recipe["rates"][step])
    for name in names:
        assert_close(ours.array(name), theirs[name], f"{name} after {STEPS} steps")
    for name in theirs.files:
        if name.endswith(("running_mean", "running_var")):
            assert_close(ours.array(name), theirs[name], f"{name} after {STEPS} steps")
