#!/usr/bin/env python3
"""Exports networks of zoo_models.py as ONNX: export.py FOLDER NAME,EXPORTER,OPSET…

EXPORTER is `script` (TorchScript) or `dynamo`. Each result is FOLDER/NAME-EXPORTER-OPSET.onnx; one that
exists is kept. What cannot be exported gets a file FOLDER/NAME-EXPORTER-OPSET.reason instead."""

import os
import pathlib
import sys
import warnings

from zoo_models import MODELS


def sizes(batch, tokens):
    return {"N": batch, "T": tokens}


def example(model, batch, tokens):
    """Inputs as tensors, in order."""
    import torch

    made = []
    for one in model.inputs:
        shape = [sizes(batch, tokens).get(d, d) for d in one.shape]
        if one.mask:
            x = torch.ones(shape, dtype=torch.int64)
        elif one.high:
            x = torch.randint(0, one.high, shape)
        else:
            x = torch.randn(shape)
        made.append(x)
    return tuple(made)


def ripen(net, model):
    """Gives the weights the sizes of a trained network's."""
    import torch
    from torch import nn

    norms = []
    for name, parameter in net.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.1, 1.0)
        elif parameter.ndim >= 2 and parameter.std() < 1e-3:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        elif name.endswith("weight") and parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the plain average of what it has seen
            module.train()
            norms.append(module)
    if norms:
        with torch.no_grad():
            for _ in range(2):
                net(*example(model, 4, 16))
    return net.eval()


def make(name):
    import torch

    torch.manual_seed(7)
    net = MODELS[name].build().eval()
    return net if getattr(net, "trained", False) else ripen(net, MODELS[name])


def export(net, model, exporter, opset, path):
    import torch

    x = example(model, 2, 16)
    names = [one.name for one in model.inputs]
    axes = {
        one.name: {i: d for i, d in enumerate(one.shape) if isinstance(d, str)}
        for one in model.inputs
    }
    options = {"input_names": names, "output_names": list(model.outputs), "opset_version": opset}
    if exporter == "dynamo":
        dims = {"N": torch.export.Dim("N"), "T": torch.export.Dim("T")}
        shapes = tuple({i: dims[d] for i, d in axes[n].items()} for n in names)
        options.update(dynamo=True, dynamic_shapes=shapes, external_data=False)
    else:
        options["dynamic_axes"] = axes | {one: {0: "N"} for one in model.outputs}
        if "dynamo" in torch.onnx.export.__code__.co_varnames:
            options["dynamo"] = False
    # not under no_grad: torch 1.13 would take a fused kernel for attention, which has no export
    torch.onnx.export(net, x, str(path), **options)


def why(error):
    """The line that says it: torch.export puts the exception that stopped it below a summary."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    stopped = [line for line in lines if line.startswith("<class '")]
    return (stopped or lines)[0]


def main(folder, wanted):
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    last, net = None, None
    for one in wanted:
        name, exporter, opset = one.split(",")
        path = pathlib.Path(folder) / f"{name}-{exporter}-{opset}.onnx"
        reason = path.with_suffix(".reason")
        if path.exists() or reason.exists():
            continue
        if name != last:
            last, net = name, make(name)
        part = path.with_suffix(f".{os.getpid()}")
        try:
            export(net, MODELS[name], exporter, int(opset), part)
            part.rename(path)
        except Exception as error:  # of any kind: the exporter's limits are many
            reason.write_text(f"{type(error).__name__}: {why(error)}\n")
            part.unlink(missing_ok=True)
        print(path.name if path.exists() else f"{reason.name}: {reason.read_text().strip()}",
              flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
