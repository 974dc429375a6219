"""The recipe of test_distillation.py by PyTorch: torch_distill.py DATA EPOCHS SEED … prints the
accuracy of a student for each seed. DATA is an npz: x and y to train on, what the teacher says of
x, and test_x and test_y."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

T, ALPHA, BATCH = 4.0, 0.7, 128


def distill(data, epochs, seed):
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    x, y, said = data["x"], data["y"], data["teacher"]
    steps = epochs * ((len(x) + BATCH - 1) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for i in range(0, len(x), BATCH):
            rows = order[i : i + BATCH]
            logits = student(x[rows])
            soft = F.kl_div(F.log_softmax(logits / T, 1), F.softmax(said[rows] / T, 1), reduction="batchmean")
            loss = ALPHA * T * T * soft + (1 - ALPHA) * F.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return (student(data["test_x"]).argmax(1) == data["test_y"]).float().mean().item()


def main(path, epochs, *seeds):
    torch.set_num_threads(1)
    data = {k: torch.from_numpy(v) for k, v in np.load(path).items()}
    for seed in seeds:
        print(distill(data, int(epochs), int(seed)), flush=True)


main(*sys.argv[1:])
