"""The README's curl session, as written."""

import re
import subprocess

from conftest import ROOT


def test_the_curl_session_of_the_readme_works(daemon, tmp_path):
    block = re.search(r"```sh\n(# a model and a dataset.*?)```", (ROOT / "README.md").read_text(), re.S)
    script = block.group(1).replace("-o small.onnx", f"-o {tmp_path}/small.onnx")
    result = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"SHRINKD_SERVER": daemon.url, "PATH": "/usr/bin:/bin"}, timeout=300)
    assert result.returncode == 0, result.stdout
    assert '"state":"succeeded"' in result.stdout and '"verdict":"pass"' in result.stdout, result.stdout
    assert re.search(r"^\| .*original.*\n\| .*quantize_static", result.stdout, re.M), result.stdout
    assert (tmp_path / "small.onnx").stat().st_size < (ROOT / "examples/models/mlp.onnx").stat().st_size / 3
