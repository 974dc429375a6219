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


def apart(net):
    """Parameters that begin alike would be exported as one."""
    for name, value in net.state_dict().items():
        if "norm" in name or "running" in name or (name.endswith("weight") and value.dim() == 1):
            nn.init.uniform_(value, 0.9, 1.1) if name.endswith(("weight", "var")) else nn.init.normal_(value, 0, 0.1)
    return net


def cnn():  # without kinks: a value near one may fall on either side of it
    return apart(nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Conv2d(32, 32, 3, stride=2, groups=32), nn.Hardswish(),
        nn.Conv2d(32, 24, 1, bias=False), nn.BatchNorm2d(24), nn.Tanh(),
        nn.Flatten(), nn.Linear(24 * 9, CLASSES),
    )), (1, 28, 28)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 32, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(64, 24, batch_first=True)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x):
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-1, -2) / (width // self.heads) ** 0.5
        mixed = (F.softmax(scores, -1) @ parts[2]).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, words=20, tokens=12, width=32):
        super().__init__()
        self.words = words
        self.embedding = nn.Embedding(words, width)
        self.places = nn.Parameter(0.1 * torch.randn(tokens, width))
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        words = (4 * x + self.words / 2).clamp(0, self.words - 1).long()
        return self.head(self.norm(self.blocks(self.embedding(words) + self.places)).mean(1))


NETWORKS = {
    "mlp": mlp,
    "smooth": smooth,
    "cnn": cnn,
    "recurrent": lambda: (Recurrent(), (9, 28)),
    "transformer": lambda: (apart(Transformer()), (12,)),
}


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
            training=torch.onnx.TrainingMode.PRESERVE,
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
