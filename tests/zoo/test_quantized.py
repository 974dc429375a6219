"""Models that ONNX Runtime's own tools quantized, against ONNX Runtime.

Integers that saturate are no judge: without VNNI, ONNX Runtime adds two u8s8 products in int16. So QDQ
models are judged by ONNX Runtime with its optimizations off, where they run in float, and other forms
are made with weights of 7 bits where a product of 8 could saturate. A sum on the border between
two integers may be rounded the other way, and what follows it moves by a step: the largest error is
bounded by a few steps of the output's range, the median by far less."""

import numpy as np
import onnxruntime
import pytest

import engine
import store
from test_exported import difference, session
from zoo_models import MODELS

QDQ = ("qdq_u8s8", "qdq_u8s8_reduced", "qdq_u8u8_tensor", "qdq_s8s8")
ALL = ("dynamic_u8", "dynamic_columns", *QDQ, "qop_u8s8_reduced")
CASES = [
    *(("mlp", form) for form in ALL),
    *(("lstm", form) for form in ("dynamic_columns", "qdq_u8s8_reduced")),
    *(("crnn", form) for form in ("dynamic_columns", "qdq_u8s8", "qop_u8s8_reduced")),
    *(("bert_like", form) for form in (*ALL, "nbits")),
    ("squeezenet1_1", "qop_u8s8_reduced"),
    ("shufflenet_v2_x1_0", "qdq_u8s8"),
    ("resnet18", "qdq_u8s8"),
    ("mobilenet_v2", "qop_u8s8_reduced"),
]
MAX, MEDIAN = 0.05, 0.005


@pytest.mark.parametrize("name, form", CASES)
def test_quantized_model_agrees(record, name, form):
    path = store.quantize(store.exported(name), form, store.feeds(name, 1, seed=3, count=4))
    row = record(name, MODELS[name].family, form)
    row.operators, row.nodes = store.describe(path)
    level = onnxruntime.GraphOptimizationLevel
    plain = form in QDQ
    judge = session(
        path, graph_optimization_level=level.ORT_DISABLE_ALL if plain else level.ORT_ENABLE_ALL
    )
    ours = engine.Model(path)
    for batch in (1, 7):
        feed = store.feeds(name, batch, seed=batch)[0]
        theirs = judge.run(None, feed)
        for fuse in (True, False):
            ours.plan(feed, fuse=fuse)
            results = ours.run()
            row.error = max(row.error or 0.0, difference(results, theirs))
            medians = [np.median(np.abs(a - b)) / np.ptp(b) for a, b in zip(results, theirs)]
            assert max(medians) <= MEDIAN
    assert row.error <= MAX
    row.status = "passed"
