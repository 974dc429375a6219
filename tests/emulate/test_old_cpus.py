"""Processors that are not here, by qemu's user mode: the right kernels are chosen, they give what they
must, and nothing else needs more than any x86-64 has. qemu 7.2 knows AVX2, not AVX-512."""

import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))
CHECK = BUILD / "tests/engine/kernels/checkkernels"
SHRINKCTL = BUILD / "clients/cli/shrinkctl"
MODELS = ROOT / "examples/models"

# Processor, and the tables that its instructions allow, strongest first.
TABLES = {
    "Nehalem": ["none"],      # SSE4.2
    "SandyBridge": ["none"],  # AVX, which no kernel is content with
    "Haswell": ["avx2", "none"],
}

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="kernels of x86-64")


def on(cpu, *command):
    qemu = shutil.which("qemu-x86_64")
    assert qemu, "the package qemu-user is missing"
    return subprocess.run([qemu, "-cpu", cpu, *map(str, command)], text=True, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("cpu", TABLES)
def test_a_processor_gets_the_kernels_it_can_run(cpu):
    result = on(cpu, CHECK, "--tables")
    assert result.returncode == 0, result.stderr
    assert [name for name in result.stdout.splitlines() if "emulated" not in name] == TABLES[cpu]


@pytest.mark.parametrize("cpu, table", [
    ("Nehalem", "none"),
    pytest.param("Haswell", "avx2", marks=pytest.mark.slow),
])
def test_the_kernels_of_an_old_processor_pass_their_checks(cpu, table):
    result = on(cpu, CHECK, "--table", table)
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-1000:]
    assert len(lines) > 10 and lines[0] == f"1..{len(lines) - 1}"


def outputs(command, model, x, folder):
    np.savez(folder / "x.npz", **x)
    arguments = [SHRINKCTL, "run", model, "--input", folder / "x.npz", "--output", folder / "y.npz"]
    result = command(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return dict(np.load(folder / "y.npz"))


def here(*command):
    return subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)


@pytest.mark.parametrize("cpu", TABLES)
@pytest.mark.parametrize("model", ["mlp", "cnn", "lstm"])
def test_a_model_gives_the_same_on_every_processor(cpu, model, tmp_path):
    import onnx
    value = onnx.load(MODELS / f"{model}.onnx").graph.input[0]
    dims = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
    x = {value.name: np.random.default_rng(1).random(dims, np.float32)}
    want = outputs(here, MODELS / f"{model}.onnx", x, tmp_path)
    got = outputs(lambda *command: on(cpu, *command), MODELS / f"{model}.onnx", x, tmp_path)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=0, atol=1e-4 * np.ptp(want[name]))


def test_only_kernels_are_compiled_for_more_than_any_x86_64():
    """A static function in a header can be compiled into a kernel's object alone, but an object beside
    the kernels must do with SSE2."""
    objects = [path for path in BUILD.rglob("*.o")
               if not re.search(r"kernels-|/tests/", path.as_posix())]
    assert len(objects) > 50
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", *map(str, objects)], text=True,
                          stdout=subprocess.PIPE, check=True).stdout
    where, found = None, set()
    for line in text.splitlines():
        if ":     file format" in line:
            where = line.split(":")[0]
        elif re.search(r"\t(v[a-z0-9]+ .*%[xyz]mm|(andn|bextr|bzhi|pdep|pext|shlx|shrx|sarx|rorx|mulx) )",
                       line):
            found.add(f"{where}: {line.strip()}")
    assert not found, sorted(found)[:5]
