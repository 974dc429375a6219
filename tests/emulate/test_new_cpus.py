"""Processors that are newer than most machines of developers, by Bochs: the kernels of AVX-512 and VNNI
run, instructions and all, and pass their checks."""

import os
import pathlib

import pytest

import bochs

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECK = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build")) / "tests/engine/kernels/checkkernels"
HOUR = 3600

# The tables that a processor's instructions allow, strongest first. The float kernels of AVX-512 are the
# same with VNNI and without.
ICE_LAKE = ["avx2 avx512 avx512vnni", "avx2 avx512", "avx2", "none"]
SAPPHIRE_RAPIDS = ["avx2 avx512 avx512vnni", "avx2 avx512", "avx2 avxvnni", "avx2", "none"]

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(os.uname().machine != "x86_64", reason="kernels of x86-64")]


@pytest.mark.parametrize("cpu, tables, checked", [
    ("corei7_icelake_u", ICE_LAKE, "avx2 avx512 avx512vnni"),
    ("sapphire_rapids", SAPPHIRE_RAPIDS, "avx2 avxvnni"),
])
def test_the_kernels_of_a_new_processor_pass_their_checks(cpu, tables, checked, tmp_path):
    if cpu not in bochs.models():
        pytest.skip(f"{bochs.program()} has no {cpu}; SHRINKD_BOCHS names one of 2.8 or later")
    lines = bochs.lines_of(tmp_path, cpu, [CHECK], seconds=2 * HOUR, script=f"""
        checkkernels --tables
        checkkernels --table '{checked}'
        echo "status $?" """)
    plan = next(i for i, line in enumerate(lines) if line.startswith("1.."))
    assert [name for name in lines[:plan] if "emulated" not in name] == tables
    results = lines[plan + 1:-1]
    assert len(results) > 10 and lines[plan] == f"1..{len(results)}"
    assert [line for line in results if not line.startswith("ok ")] == []
    assert lines[-1] == "status 0"
