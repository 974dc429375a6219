"""Training against PyTorch: samples per second and memory of the same work, in turns.

    bench.py [--rounds N] [WORK …]      works: mlp, mlp-recomputed, cnn, lstm

SHRINKD_BUILD is a release build, SHRINKD_TORCH a Python with the PyTorch to compare with. Every
round runs each side once as a process of its own, PyTorch with one thread and with two; the best
setting of each side counts. What is timed is the epochs after the first, without reading data; the
teacher's outputs are computed before, except in mlp-recomputed. Memory is the peak of the process.
"""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))
TORCH = os.environ.get("SHRINKD_TORCH", "/usr/bin/python3")
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
MODELS = ROOT / "examples" / "models"
WORKS = {  # model of the job, pass, arguments, epochs, rows, what the ratio should be
    "mlp": ("mlp", "distill", ["student.mlp=128"], 10, 60000, 2.0),
    "mlp-recomputed": ("mlp", "distill", ["student.mlp=128", "max_memory=1"], 10, 60000, 1.2),
    "cnn": ("cnn", "finetune", [], 2, 3000, 1.1),
    "lstm": ("lstm", "finetune", [], 2, 6000, 1.2),
}
ARGUMENTS = ["validate=0", "optimizer=sgd", "learning_rate=0.05", "schedule=constant", "batch_size=128"]
THREADS = (1, 2)


def idx(rows, folder):
    """The first rows of the images and labels to train on, as idx files."""
    paths = []
    for name, head, size in [("train-images-idx3-ubyte", 16, 784), ("train-labels-idx1-ubyte", 8, 1)]:
        data = gzip.decompress((FASHION / f"{name}.gz").read_bytes())
        path = folder / f"{rows}-{name}"
        path.write_bytes(data[:4] + rows.to_bytes(4, "big") + data[8 : head + rows * size])
        paths.append(str(path))
    return ",".join(paths)


def run(command):
    """Output and peak memory in MiB of a process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.execvp(command[0], command)
    os.close(write)
    text = os.fdopen(read).read()
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return text, usage.ru_maxrss / 1024


def ours(work, threads, folder):
    model, name, arguments, epochs, rows, _ = WORKS[work]
    text, memory = run(
        [str(BUILD / "tests" / "shrink"), "run", str(MODELS / f"{model}.onnx"), name, f"epochs={epochs}",
         *arguments, *ARGUMENTS, "--data", idx(rows, folder), "-o", "/dev/null", "--threads", str(threads)]
    )
    rates = [float(field.split("=")[1]) for field in text.split() if field.startswith("samples_per_s=")]
    return max(rates[1:]), memory


def theirs(work, threads, folder):
    _, _, _, epochs, rows, _ = WORKS[work]
    script = pathlib.Path(__file__).with_name("torch_loop.py")
    text, memory = run([TORCH, str(script), work, str(epochs), str(threads), idx(rows, folder)])
    return max(json.loads(text)[1:]), memory


def measure(work, rounds, folder):
    best = {}
    for _ in range(rounds):
        for threads in THREADS:
            for side in (ours, theirs):
                rate, memory = side(work, threads, folder)
                best.setdefault((side.__name__, threads), []).append((rate, memory))
    found = {}
    for name in ("ours", "theirs"):
        median = {t: statistics.median(r for r, _ in best[name, t]) for t in THREADS}
        threads = max(THREADS, key=median.get)
        found[name] = (median[threads], statistics.median(m for _, m in best[name, threads]), threads)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("works", nargs="*", default=list(WORKS), metavar="WORK")
    options = parser.parse_args()
    print("work             ours/s  threads  PyTorch/s  threads  ratio  wanted  MiB   PyTorch  ratio")
    with tempfile.TemporaryDirectory() as folder:
        for work in options.works:
            found = measure(work, options.rounds, pathlib.Path(folder))
            (a, m, t), (b, n, u) = found["ours"], found["theirs"]
            print(f"{work:15}{a:8.0f}{t:9}{b:11.0f}{u:9}{a / b:7.2f}{WORKS[work][5]:8.1f}{m:5.0f}{n:10.0f}{m / n:7.2f}",
                  flush=True)


main()
