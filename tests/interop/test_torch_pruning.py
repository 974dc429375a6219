"""Structured pruning next to Torch-Pruning, where it is installed (./check --full)."""

import subprocess
import sys

import pytest

from conftest import BUILD, ROOT, TORCH

FIND = "import importlib.util as u; assert u.find_spec('torch_pruning') and u.find_spec('torchvision')"


@pytest.mark.skipif(subprocess.run([TORCH, "-c", FIND], capture_output=True).returncode != 0,
                    reason="torch-pruning is not installed")
def test_layers_parameters_and_macs_are_those_of_torch_pruning():
    script = ROOT / "tests" / "interop" / "compare_torch_pruning.py"
    done = subprocess.run([TORCH, script, "--shrink", BUILD / "tests" / "shrink"],
                          capture_output=True, text=True)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = [line.split("|") for line in done.stdout.splitlines()[2:]]
    assert len(rows) == 5
    for row in rows:
        same, _, all_ = row[-2].split()
        assert same == all_, row
