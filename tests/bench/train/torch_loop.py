"""The works of bench.py by PyTorch: torch_loop.py WORK EPOCHS THREADS IMAGES,LABELS prints the
samples per second of each epoch."""

import json
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "examples"))
from make_models import Cnn, Lstm, Mlp

BATCH, T, ALPHA = 128, 4.0, 0.7


def read(path, head, *shape):
    return torch.from_numpy(np.fromfile(path, np.uint8)[head:].reshape(-1, *shape).copy())


def main(work, epochs, threads, files):
    torch.set_num_threads(int(threads))
    images, labels = files.split(",")
    shape = {"cnn": (1, 28, 28), "lstm": (28, 28)}.get(work, (784,))
    x, y = read(images, 16, *shape).float() / 255, read(labels, 8).long()
    teacher = Mlp() if work.startswith("mlp") else None
    if teacher:
        student = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    else:
        student = {"cnn": Cnn, "lstm": Lstm}[work]()
    kept = None
    if work == "mlp":
        with torch.inference_mode():
            kept = torch.cat([teacher(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]).clone()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
    student.train()
    rates = []
    for _ in range(int(epochs)):
        order, began, total = torch.randperm(len(x)), time.perf_counter(), 0.0
        for i in range(0, len(x), BATCH):
            rows = order[i : i + BATCH]
            logits = student(x[rows])
            loss = F.cross_entropy(logits, y[rows])
            if teacher:
                if kept is not None:
                    said = kept[rows]
                else:
                    with torch.no_grad():
                        said = teacher(x[rows])
                soft = F.kl_div(F.log_softmax(logits / T, 1), F.softmax(said / T, 1), reduction="batchmean")
                loss = ALPHA * T * T * soft + (1 - ALPHA) * loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        rates.append(len(x) / (time.perf_counter() - began))
    print(json.dumps(rates))


main(*sys.argv[1:])
