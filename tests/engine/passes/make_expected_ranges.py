#!/usr/bin/env python3
"""Writes expected_ranges.h: calibration ranges computed with numpy, for test_histogram.c.

The samples are made by exact float32 arithmetic, so that C has the same ones. Percentiles come from
the sorted samples, mean squared errors from the samples themselves, and the entropy threshold from
the textbook definition on a histogram of 2048 bins of |x|, with 128 levels a side or 256 on one.
"""

import pathlib

import numpy as np

N = 10007
BINS, LEVELS = 2048, 128
MOST_CUT = 0.1
EPSILON = 1e-4


def uniform(factor):
    i = np.arange(N, dtype=np.int64)
    return ((i * factor % N) - 5003).astype(np.float32) / np.float32(5003)


def samples(case):
    u = uniform(7919)
    cube = u * u * u
    bell = ((u + uniform(3571)) + uniform(613)) + uniform(29)
    if case == "positive":
        return np.maximum(cube, np.float32(0)) * np.float32(7)
    if case == "tails":
        return cube * cube * cube * np.float32(20)
    if case == "outlier":
        bell[17] = np.float32(50)
    if case == "relu":
        return np.maximum(bell * cube, np.float32(0))
    return bell


def entropy(x):
    a = np.abs(x[x != 0].astype(np.float64))
    limit = 2.0 ** np.frexp(np.abs(x).max())[1]
    counts = np.histogram(a, bins=BINS, range=(0, limit))[0].astype(np.float64)
    levels = LEVELS if x.min() < 0 < x.max() else 2 * LEVELS
    best, least = BINS, np.inf
    for bins in range(np.flatnonzero(counts)[-1] + 1, levels - 1, -1):
        if counts[bins:].sum() > MOST_CUT * counts.sum():
            break
        p = counts[:bins].copy()
        p[-1] += counts[bins:].sum()
        q = np.zeros(bins)
        edges = np.arange(levels + 1) * bins // levels
        for a0, a1 in zip(edges, edges[1:]):
            filled = p[a0:a1] > 0
            if filled.any():
                q[a0:a1][filled] = counts[a0:a1].sum() / filled.sum()
        p /= p.sum()
        q /= q.sum()
        some = p > 0
        q[some] = (1 - EPSILON) * q[some] + EPSILON / some.sum()
        kl = (p[some] * np.log(p[some] / q[some])).sum()
        if kl < least:
            best, least = bins, kl
    t = best * limit / BINS
    return max(-t, float(x.min())), min(t, float(x.max()))


def percentile(x, p):
    cut = (100 - p) / 2
    low, high = np.percentile(x.astype(np.float64), [cut, 100 - cut])
    return min(low, 0.0), max(high, 0.0)


def mse(x, levels=255):
    x = x.astype(np.float64)
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    errors = []
    for i in range(100, 0, -1):
        step = (high - low) * i / 100 / levels
        zero = np.rint(-low * i / 100 / step)
        q = np.clip(np.rint(x / step) + zero, 0, levels) - zero
        errors.append((np.mean((x - q * step) ** 2), i))
    i = min(errors, key=lambda e: e[0])[1]
    return low * i / 100, high * i / 100


def main():
    lines = ["/* Made by make_expected_ranges.py; do not edit. */"]
    for case in ("bell", "positive", "tails", "outlier", "relu"):
        x = samples(case)
        rows = [entropy(x), percentile(x, 99.9), mse(x)]
        cells = ", ".join("{%r, %r}" % (float(a), float(b)) for a, b in rows)
        lines.append('{"%s", {%s}},' % (case, cells))
    path = pathlib.Path(__file__).with_name("expected_ranges.h")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
