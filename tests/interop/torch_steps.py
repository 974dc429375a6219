"""Ten steps of training by PyTorch, written down: run by the Python that has it.

torch_steps.py NETWORK RECIPES FOLDER writes NETWORK.onnx, the network before its first step, and
for every recipe an npz: the batches, and the loss and every gradient of each step, and the weights
after the last.
"""

import json
import sys
import warnings

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

STEPS, ROWS, CLASSES = 10, 32, 10


def mlp(act=nn.ReLU):
    return nn.Sequential(nn.Linear(784, 64), act(), nn.Linear(64, 32), act(), nn.Linear(32, CLASSES)), (784,)


def smooth():
    return mlp(nn.Tanh)


NETWORKS = {"mlp": mlp, "smooth": smooth}


def loss_of(recipe, logits, labels, teacher):
    """alpha * T^2 * KL + (1 - alpha) * CE, or what the recipe says instead."""
    t, alpha = recipe.get("temperature", 1.0), recipe.get("alpha", 0.0)
    loss = 0
    if alpha > 0 and recipe.get("squares"):
        loss = alpha * F.mse_loss(logits, teacher)
    elif alpha > 0:
        soft = F.kl_div(F.log_softmax(logits / t, -1), F.softmax(teacher / t, -1), reduction="batchmean")
        loss = alpha * t * t * soft
    if alpha < 1 and recipe.get("binary"):
        targets = F.one_hot(labels, CLASSES).float()
        loss = loss + (1 - alpha) * F.binary_cross_entropy_with_logits(logits, targets)
    elif alpha < 1:
        smoothing = recipe.get("smoothing", 0.0)
        loss = loss + (1 - alpha) * F.cross_entropy(logits, labels, label_smoothing=smoothing)
    return loss


def optimizer_of(recipe, parameters):
    kind, decay = recipe.get("optimizer", "sgd"), recipe.get("weight_decay", 0.0)
    if kind == "sgd":
        return torch.optim.SGD(
            parameters, lr=0.0, momentum=recipe.get("momentum", 0.0),
            nesterov=recipe.get("nesterov", False), weight_decay=decay,
        )
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](parameters, lr=0.0, weight_decay=decay)


def export(net, shape, path):
    net.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, torch.randn(2, *shape), path, input_names=["x"], output_names=["logits"],
            dynamic_axes={"x": {0: "N"}, "logits": {0: "N"}}, opset_version=13, do_constant_folding=False,
            **({"dynamo": False} if torch.__version__ >= "2.5" else {}),
        )
    net.train()


def run(network, recipe):
    net, shape = network
    x = torch.randn(STEPS, ROWS, *shape)
    labels = torch.randint(0, CLASSES, (STEPS, ROWS))
    teacher = 3 * torch.randn(STEPS, ROWS, CLASSES)
    optimizer = optimizer_of(recipe, net.parameters())
    found = {"x": x.numpy(), "labels": labels.numpy(), "teacher": teacher.numpy()}
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = recipe["rates"][step]
        optimizer.zero_grad()
        loss = loss_of(recipe, net(x[step]), labels[step], teacher[step])
        loss.backward()
        found[f"loss {step}"] = np.float32(loss.item())
        for name, parameter in net.named_parameters():
            found[f"{name} {step}"] = parameter.grad.numpy().copy()
        if recipe.get("clip_norm"):
            torch.nn.utils.clip_grad_norm_(net.parameters(), recipe["clip_norm"])
        optimizer.step()
    for name, value in net.state_dict().items():
        found[name] = value.numpy()
    return found


def main(network, recipes, folder):
    torch.set_num_threads(1)
    for name, recipe in json.loads(recipes).items():
        torch.manual_seed(7)
        net, shape = NETWORKS[network]()
        export(net, shape, f"{folder}/{network}.onnx")
        np.savez(f"{folder}/{network}-{name}.npz", **run((net, shape), recipe))


main(*sys.argv[1:])
