"""The README's curl session, as written."""

import re
import subprocess

import onnx

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
    onnx.checker.check_model(onnx.load(tmp_path / "small.onnx"))
    assert (tmp_path / "small.onnx").stat().st_size < (ROOT / "examples/models/mlp.onnx").stat().st_size / 3


def test_the_demo_and_the_readme_name_routes_that_exist(daemon):
    paths = daemon.get("/openapi.json").json()["paths"]
    known = [re.sub(r"\{\w+\}", "[^/]+", path) for path in paths]
    for name in ("README.md", "demo"):
        text = (ROOT / name).read_text()
        for path in re.findall(r"\$SHRINKD_SERVER(/v1[^\s\"'?]+)", text):
            path = re.sub(r"\$(\{[^}]*\}|\w+)", "x", path)
            assert any(re.fullmatch(route, path) for route in known), f"{name}: {path}"
