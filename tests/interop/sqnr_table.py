#!/usr/bin/env python3
"""Quantized models of ours next to those of ONNX Runtime's own tool: one table.

    tests/interop/sqnr_table.py [--models NAME,…] [--samples 64] [--json FILE]

For each model, dynamic and static output of our passes is loaded in ONNX Runtime and in our engine.
"agree" compares the two stage by stage (stages.py): the largest difference in steps between integers that
come from the same ones. The SQNR in dB compares outputs with those of the float model, for samples that
nobody calibrated with, in two ways: "8 bit" with weights of 8 bits and Q and DQ computed in float, as
CPUs with VNNI do it, and "here" as the int8 kernels of ONNX Runtime do it on this machine (where ours
leaves bits of weights out so that no sum of products saturates). ONNX Runtime's `quantize_static`
sees the same samples, per channel, with each of its calibrations. The best of each side counts. The exit
code is 1 when a model does not load, stages disagree, or our SQNR is lower."""

import argparse
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / part) for part in ("interop", "harness", "zoo")]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnxruntime.quantization import (  # noqa: E402
    CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: E402

import stages  # noqa: E402
import store  # noqa: E402
from conftest import TRAIN, read_idx  # noqa: E402

BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))
SMALL = ("mlp", "cnn", "lstm", "silero_vad")
BIG = ("minilm", "mobilenet_v2", "resnet18", "resnet50", "vit_b_16")
METHODS = ("MinMax", "Entropy", "Percentile")
CALIBRATIONS = ("entropy", "mse")  # our default, and what looks at distances
HELD_OUT = 16  # samples that nobody calibrates with


def fashion(shape):
    def samples(rng, count):
        chosen = rng.choice(60000, count, replace=False)
        return {"input": (read_idx(TRAIN)[chosen].astype(np.float32) / 255).reshape(-1, *shape)}

    return samples


def images(rng, count):
    return {"image": rng.standard_normal((count, 3, 224, 224), dtype=np.float32)}


def sentences(rng, count, tokens=32):
    lengths = rng.integers(4, tokens + 1, (count, 1))
    mask = (np.arange(tokens) < lengths).astype(np.int64)
    words = rng.integers(1000, 30522, (count, tokens)) * mask
    return {"input_ids": words, "attention_mask": mask}


def speech(rng, count):
    """Frames of tones that swell and fade, in noise, and states as they come about."""
    at = np.arange(576) / 16000
    pitch, phase = rng.uniform(80, 1000, (2, count, 1))
    swell = rng.uniform(0, 0.6, (count, 1))
    tone = np.sin(2 * np.pi * pitch * at + phase) * swell
    noise = 0.02 * rng.standard_normal((count, 576))
    return {"input": (tone + noise).astype(np.float32),
            "state": (0.3 * rng.standard_normal((count, 2, 1, 128))).astype(np.float32)}


def example(name):
    return lambda: ROOT / "examples" / "models" / f"{name}.onnx"


def zoo(name):
    return lambda: store.exported(name)


def silero():
    return store.packages() / "silero_vad" / "data" / "silero_vad_openvino_16k.onnx"


MODELS = {
    "mlp": (example("mlp"), fashion((784,))),
    "cnn": (example("cnn"), fashion((1, 28, 28))),
    "lstm": (example("lstm"), fashion((28, 28))),
    "silero_vad": (silero, speech),
    "minilm": (zoo("minilm"), sentences),
    **{name: (zoo(name), images) for name in ("mobilenet_v2", "resnet18", "resnet50", "vit_b_16")},
}


def rows(path, samples):
    """One feed a sample; an input whose first dim is no batch takes its sample as it is."""
    ranks = {one.name: len(one.type.tensor_type.shape.dim)
             for one in onnx.load(path, load_external_data=False).graph.input}
    count = len(next(iter(samples.values())))
    return [{name: x[i] if x.ndim > ranks[name] else x[i:i + 1] for name, x in samples.items()}
            for i in range(count)]


class Reader(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def theirs(path, target, feeds, method):
    quantize_static(
        path, target, Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        calibrate_method=getattr(CalibrationMethod, method),
    )
    return target


def ours(path, target, name, *arguments):
    done = subprocess.run(
        [BUILD / "tests" / "shrink", "run", path, name, *map(str, arguments), "-o", target,
         "--seed", "1"], capture_output=True, text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return target


def outputs(path, feeds, exact=False):
    """The first output for each feed; it is what the model is for."""
    one = stages.session(path, exact)
    name = one.get_outputs()[0].name
    return np.stack([one.run([name], feed)[0] for feed in feeds])


def sqnr(real, quantized):
    noise = float(np.sum((real.astype(np.float64) - quantized) ** 2))
    return float("inf") if noise == 0 else 10 * np.log10(float(np.sum(real.astype(np.float64) ** 2)) / noise)


class Model:
    def __init__(self, name, samples, folder):
        make, draw = MODELS[name]
        self.name, self.folder, self.path = name, folder, make()
        rng = np.random.default_rng(1)
        seen, unseen = draw(rng, samples), draw(rng, HELD_OUT)
        self.data = folder / "seen.npz"
        np.savez(self.data, **seen)
        self.seen, self.unseen = rows(self.path, seen), rows(self.path, unseen)
        self.real = outputs(self.path, self.unseen)

    def judge(self, path, exact):
        return round(float(sqnr(self.real, outputs(path, self.unseen, exact))), 2)

    def ours(self, *words):
        path = self.folder / ("-".join(words) + ".onnx")
        if words[0] == "quantize_static":
            words = (*words, "--calibrate", self.data)
        return ours(self.path, path, *words)

    def static(self, calibration):
        words = ("quantize_static", f"calibration={calibration}")
        path = self.ours(*words)
        return path, {"8 bit": self.judge(self.ours(*words, "reduce_range=false"), True),
                      "here": self.judge(path, False)}

    def theirs(self):
        """Every calibration that their tool has, and what it says where it fails."""
        ready, results = self.folder / "prepared.onnx", {}
        quant_pre_process(self.path, ready, skip_symbolic_shape=True)
        for method in METHODS:
            try:
                made = theirs(ready, self.folder / f"their_{method}.onnx", self.seen, method)
                results[method.lower()] = {"8 bit": self.judge(made, True),
                                           "here": self.judge(made, False)}
            except Exception as reason:  # whatever the tool raises: it is what we compare with
                results[method.lower()] = {"error": f"{type(reason).__name__}: {reason}"[:200]}
        return results


def best(results, kind):
    return max((one[kind] for one in results.values() if kind in one), default=None)


def row_of(name, samples):
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = Model(name, samples, pathlib.Path(folder))
        row = {"model": name, "samples": samples, "static": {}}
        dynamic = model.ours("quantize_dynamic")
        row["dynamic"] = {"here": model.judge(dynamic, False)}
        row["dynamic agree"] = stages.compare(dynamic, model.unseen[0])
        for calibration in CALIBRATIONS:
            path, row["static"][calibration] = model.static(calibration)
            if calibration == CALIBRATIONS[0]:
                row["static agree"] = stages.compare(path, model.unseen[0])
        row["ort"] = model.theirs()
    row["seconds"] = round(time.monotonic() - began, 1)
    return row


def verdicts(row):
    """What is wrong with a row; empty when nothing is."""
    wrong = [f"{form}: {one}" for form in ("dynamic", "static")
             for one in row[f"{form} agree"]["wrong"]]
    for kind in ("8 bit", "here"):
        ours, theirs = best(row["static"], kind), best(row["ort"], kind)
        if theirs is not None and ours < theirs:
            wrong.append(f"{kind}: {ours} dB are below {theirs} dB")
    return wrong


HEAD = ("model", "dynamic", "agree", "static: 8 bit", "here", "default", "agree",
        "ORT: 8 bit", "here", "its best", "verdict")


def agreement(found):
    return f"{found['stages']} stages, {found['steps']} step" if not found["wrong"] else "no"


def cells(row):
    static, ort = row["static"], row["ort"]
    chosen = [name for name, one in ort.items() if one.get("8 bit") == best(ort, "8 bit")]
    return (row["model"], str(row["dynamic"]["here"]), agreement(row["dynamic agree"]),
            str(best(static, "8 bit")), str(best(static, "here")),
            str(static[CALIBRATIONS[0]]["here"]), agreement(row["static agree"]),
            str(best(ort, "8 bit")), str(best(ort, "here")),
            ", ".join(chosen) if best(ort, "8 bit") is not None else "none works",
            "; ".join(verdicts(row))[:60] or "ok")


def show(table):
    lines = [HEAD, *map(cells, table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join((*SMALL, *BIG)))
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the tools log to the root logger
    table = []
    for name in options.models.split(","):
        table.append(row_of(name, options.samples))
        print(f"{name}: {table[-1]['seconds']} s", file=sys.stderr)
        if options.json is not None:
            options.json.write_text(json.dumps(table, indent=1))
    show(table)
    return 1 if any(map(verdicts, table)) else 0


if __name__ == "__main__":
    sys.exit(main())
