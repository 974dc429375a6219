"""The benchmark against ONNX Runtime runs and judges outputs; no timing is asserted."""

import json
import subprocess
import sys

from store import ROOT

BENCH = ROOT / "tests" / "bench" / "engine"


def test_bench_engine_prints_and_writes_its_rows(tmp_path):
    done = subprocess.run(
        [sys.executable, BENCH, "mlp", "--rounds", "1", "--slice", "1", "--json", tmp_path / "out"],
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "out").read_text())
    assert {"mlp int8 b1", "mlp int8 b64", "mlp fp32 b1"} <= {row["row"] for row in rows}
    assert all(row["outputs_good"] and row["ratio"] > 0 for row in rows)
    assert all(row["row"] in done.stdout for row in rows)
