"""Our structured pruning next to Torch-Pruning: one table of parameters, MACs and widths.

    python compare_torch_pruning.py [--ratio 0.25] [--shrink build/tests/shrink] [MODEL …]

needs torch, torchvision, torch-pruning, onnx and onnxruntime. Both prune the same network with
random weights, each group by the same share; both results are counted as ONNX, by one function. The
widths of layers are compared one by one, in the order of the graph. Exit code 1 where parameters or
MACs differ by more than 1 %."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
import torch_pruning
import torchvision
from onnx import numpy_helper, shape_inference

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "densenet121", "vit_b_16")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def export(model, path):
    """As it is: with the normalization that an exporter would fold into the layers before it."""
    with torch.no_grad():
        torch.onnx.export(model.eval(), (torch.zeros(1, 3, 224, 224),), path, opset_version=17,
                          dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
                          do_constant_folding=True)


def count(path):
    """Parameters, MACs and (operator, shape of the weights) of all layers."""
    model = shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    shape = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
             for v in [*model.graph.value_info, *model.graph.input, *model.graph.output]}
    statistics, layers, macs = set(), [], 0
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            statistics.update(node.input[3:5])
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        w = held[node.input[1]].shape if node.input[1] in held else shape[node.input[1]]
        if node.op_type == "Conv":
            each = np.prod(w[1:])
        else:
            each = w[1] if any(a.name == "transB" and a.i for a in node.attribute) else w[-2]
        macs += int(each * np.prod(shape[node.output[0]]))
        if node.input[1] in held:
            layers.append((node.op_type, tuple(w)))
    parameters = sum(w.size for name, w in held.items()
                     if w.dtype == np.float32 and name not in statistics)
    return parameters, macs, layers


def prune_theirs(name, model, ratio):
    x = torch.zeros(1, 3, 224, 224)
    last = model.heads.head if name.startswith("vit") else next(
        m for m in reversed(list(model.modules())) if isinstance(m, torch.nn.Linear))
    own = {}  # parameters that are in no layer, and their axis of channels
    if name.startswith("vit"):
        own = {model.class_token: 2, model.encoder.pos_embedding: 2}
    torch_pruning.pruner.BasePruner(
        model, x, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio, ignored_layers=[last], round_to=12 if own else None,
        unwrapped_parameters=list(own.items())).step()
    if name.startswith("vit"):
        model.hidden_dim = model.conv_proj.out_channels  # that its forward reshapes to


def compare(name, ratio, shrink, folder):
    torch.backends.mha.set_fastpath_enabled(False)  # which has no export
    torch.manual_seed(1)
    model = getattr(torchvision.models, name)(weights=None)
    before, ours, theirs = (folder / f"{name}-{what}.onnx" for what in ("was", "ours", "theirs"))
    export(model, before)
    subprocess.run([shrink, "run", before, "prune_structured", f"amount={ratio}", "-o", ours],
                   check=True, stdout=subprocess.DEVNULL)
    prune_theirs(name, model, ratio)
    export(model, theirs)
    was, a, b = count(before), count(ours), count(theirs)
    same = sum(x == y for x, y in zip(a[2], b[2]))
    return [name, was[0], a[0], b[0], was[1], a[1], b[1], f"{same} of {len(b[2])}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--shrink", type=pathlib.Path, default=ROOT / "build" / "tests" / "shrink")
    options = parser.parse_args()
    print("| model | parameters | ours | Torch-Pruning | differ | MACs | ours | Torch-Pruning | differ "
          "| layers of equal shape |")
    print("|---|" + "---:|" * 9)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            row = compare(name, options.ratio, options.shrink, pathlib.Path(folder))
            differ = [abs(row[i] / row[i + 1] - 1) for i in (2, 5)]
            failed = failed or max(differ) > 0.01
            numbers = [f"{row[i]:,}" for i in range(1, 7)]
            print("| " + " | ".join([name, *numbers[:3], f"{differ[0]:.2%}", *numbers[3:],
                                     f"{differ[1]:.2%}", row[7]]) + " |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
