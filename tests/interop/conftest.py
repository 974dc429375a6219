"""The engine on a command line, ONNX Runtime next to it, and the test images of Fashion-MNIST."""

import gzip
import os
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))
TORCH = os.environ.get("SHRINKD_TORCH", "/usr/bin/python3")
MODELS = ROOT / "examples" / "models"
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
TRAIN = FASHION / "train-images-idx3-ubyte.gz"
TEST = FASHION / "t10k-images-idx3-ubyte.gz"
BATCH = 100  # of both engines: dynamic quantization takes its range from a whole batch


def read_idx(path):
    data = gzip.decompress(path.read_bytes())
    dims = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(dims)).reshape(dims)


class Shrink:
    """Runs passes and models through our engine, and models through ONNX Runtime."""

    def __init__(self, folder):
        self.folder = folder
        self.images = read_idx(TEST).astype(np.float32) / 255
        self.labels = read_idx(FASHION / "t10k-labels-idx1-ubyte.gz")

    def call(self, *words):
        return subprocess.run(
            [BUILD / "tests" / "shrink", *map(str, words)], capture_output=True, text=True
        )

    def run(self, model, name, *arguments):
        """The path of the model that a pass makes, checked as every emitted model must be."""
        out = self.folder / ("-".join([model.stem, name, *arguments]).replace("*", "") + ".onnx")
        if not out.exists():
            data = ["--calibrate", TRAIN] if name == "quantize_static" else []
            done = self.call("run", model, name, *arguments, *data, "-o", out, "--seed", 1)
            assert done.returncode == 0, done.stderr
            onnx.checker.check_model(onnx.load(out), full_check=True)
        return out

    def ours(self, model):
        out = self.folder / "ours.f32"
        done = self.call("predict", model, "--data", TEST, "--batch", BATCH, "-o", out)
        assert done.returncode == 0, done.stderr
        return np.fromfile(out, np.float32).reshape(-1, int(done.stdout))

    def session(self, model, optimized=None):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def theirs(self, model):
        session = self.session(model)
        one = session.get_inputs()[0]
        x = self.images.reshape([d if isinstance(d, int) else -1 for d in one.shape])
        parts = [session.run(None, {one.name: x[i : i + BATCH]})[0] for i in range(0, len(x), BATCH)]
        return np.concatenate(parts)

    def fused(self, model):
        """The operators that ONNX Runtime runs for the model, and how many of each."""
        path = self.folder / "optimized.onnx"
        self.session(model, path)
        ops = [node.op_type for node in onnx.load(path).graph.node]
        return {op: ops.count(op) for op in ops}

    def accuracy(self, logits):
        return float(np.mean(logits.argmax(1) == self.labels))


@pytest.fixture(scope="session")
def shrink(tmp_path_factory):
    return Shrink(tmp_path_factory.mktemp("models"))
