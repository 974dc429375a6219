"""Networks as PyTorch's exporters write them: our outputs are those of ONNX Runtime.

Batches of 1 and 7, fused and node by node; the error is relative to the output's range. ZOO_FULL makes
all opsets that the exporter knows and all sizes, ZOO_EXPORTERS (script, dynamo) says by which."""

import os

import numpy as np
import onnxruntime
import pytest

import engine
import store
from zoo_models import MODELS

FULL = os.environ.get("ZOO_FULL")
EXPORTERS = os.environ.get("ZOO_EXPORTERS", "script").split(",")
OPSETS = {"script": range(11, 18), "dynamo": range(18, 25)} if FULL else {"script": (11, 17)}
LIMIT = 1e-4


def wanted():
    for model in MODELS.values():
        for exporter in EXPORTERS:
            opsets = list(OPSETS[exporter])
            yield from (
                (model.name, exporter, opset)
                for opset in (opsets if FULL or not model.big else opsets[-1:])
            )


CASES = list(wanted())
# What torch says itself that it cannot write; any other failure to export fails the test.
NO_EXPORT = ("is not supported", "not supported", "Unsupported", "please use a higher opset")


@pytest.fixture(scope="session")
def exports():
    """All models, made in one process of PyTorch, since that takes seconds to start."""
    store.export(CASES)


def session(path, **options):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def difference(ours, theirs):
    """The largest error of all outputs, relative to the range of each."""
    assert len(ours) == len(theirs)
    worst = 0.0
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.isfinite(b).all()
        span = float(np.ptp(b)) or 1.0
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max()) / span)
    return worst


@pytest.mark.parametrize("name, exporter, opset", CASES, ids=lambda v: str(v))
def test_exported_model_agrees(exports, record, name, exporter, opset):
    model = MODELS[name]
    try:
        path = store.exported(name, exporter, opset)
    except store.NoModel as reason:
        assert any(text in str(reason) for text in NO_EXPORT), reason
        pytest.skip(f"torch has no export: {reason}")
    row = record(name, model.family, f"{exporter} {opset}")
    row.operators, row.nodes = store.describe(path)
    judge, ours = session(path), engine.Model(path)
    errors = []
    for batch in (1, 7):
        # a recurrence that the exporter unrolls has as many steps as its example
        tokens = store.fixed_steps(path, model) or 9 + batch
        feed = store.feeds(name, batch, tokens=tokens, seed=batch)[0]
        theirs = judge.run(None, feed)
        for fuse in (True, False):
            ours.plan(feed, fuse=fuse)
            errors.append(difference(ours.run(), theirs))
    row.error = max(errors)
    assert row.error <= LIMIT
    row.status = "passed"
