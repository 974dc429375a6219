#!/usr/bin/python3
"""Trains and exports the three example models with PyTorch.

    mlp.onnx   784-300-100-10, 266,610 parameters
    cnn.onnx   Conv, BatchNorm, Relu, MaxPool, a residual Add, Gemm
    lstm.onnx  each image read as 28 rows of 28 pixels

They learn Fashion-MNIST from Debian's dataset-fashion-mnist, with pixels as value / 255, and must
reach the accuracies below on its 10,000 test images, else nothing is written. The files are
committed: run this only to change them. Needs python3-torch and python3-onnx; minutes on two cores.
"""

import argparse
import gzip
import pathlib
import struct

import numpy
import torch  # its BLAS and OpenMP threads fight on few cores: see main()
from torch import nn

DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
OPSET = 13


def read_idx(path):
    with gzip.open(path, "rb") as file:
        zero, kind, rank = struct.unpack(">HBB", file.read(4))
        assert zero == 0 and kind == 8, path
        shape = struct.unpack(">" + "I" * rank, file.read(4 * rank))
        return numpy.frombuffer(file.read(), numpy.uint8).reshape(shape)


def load(split):
    images = read_idx(DATA / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(DATA / f"{split}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images.astype(numpy.float32) / 255), torch.from_numpy(labels.astype(numpy.int64))


class Mlp(nn.Module):
    shape = (784,)

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


class Cnn(nn.Module):
    shape = (1, 28, 28)

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv4, self.bn4 = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv5, self.bn5 = nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = torch.relu(self.bn2(self.conv2(x)))
        y = torch.relu(self.bn3(self.conv3(x)))
        x = torch.relu(x + self.bn4(self.conv4(y)))
        x = self.pool(torch.relu(self.bn5(self.conv5(x))))
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


class Lstm(nn.Module):
    shape = (28, 28)

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 64, batch_first=True)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        rows, _ = self.lstm(x)
        return self.fc(rows[:, -1])


MODELS = {  # name: class, epochs, L1 penalty of the weights, accuracy that it must reach
    "mlp": (Mlp, 12, 2e-5, 0.88),  # the penalty is how one trains a network that will be pruned
    "cnn": (Cnn, 6, 0, 0.91),
    "lstm": (Lstm, 8, 0, 0.85),
}


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        hits = sum(int((model(x).argmax(1) == y).sum())
                   for x, y in zip(images.split(500), labels.split(500)))
    return hits / len(labels)


def train(model, epochs, penalty, images, labels):
    batch = 128
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(images))
        for i in range(len(images) // batch):
            rows = order[i * batch:(i + 1) * batch]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            if penalty:
                loss = loss + penalty * sum(w.abs().sum() for name, w in model.named_parameters()
                                            if name.endswith("weight"))
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"  epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(MODELS), help="which models (all)")
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent / "models")
    options = parser.parse_args()
    torch.set_num_threads(1)

    train_images, train_labels = load("train")
    test_images, test_labels = load("t10k")
    options.out.mkdir(exist_ok=True)
    for name in options.names:
        kind, epochs, penalty, wanted = MODELS[name]
        torch.manual_seed(1)
        model = kind()
        count = sum(p.numel() for p in model.parameters())
        print(f"{name}: {count:,} parameters", flush=True)
        train(model, epochs, penalty, train_images.reshape(-1, *kind.shape), train_labels)
        reached = accuracy(model, test_images.reshape(-1, *kind.shape), test_labels)
        print(f"{name}: accuracy {reached:.4f}", flush=True)
        if reached < wanted:
            raise SystemExit(f"{name}: accuracy {reached:.4f} is below {wanted}")
        torch.onnx.export(
            model, torch.zeros(1, *kind.shape), options.out / f"{name}.onnx", opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,  # keeps BatchNormalization nodes
            input_names=["input"], output_names=["logits"],
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


if __name__ == "__main__":
    main()
