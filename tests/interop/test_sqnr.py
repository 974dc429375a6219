"""What quantization costs, next to ONNX Runtime's own tool: sqnr_table.py on the small models, and with
TRAIN_FULL on all of them; and whether its comparison of stages can tell an engine that is wrong."""

import os

import numpy as np
import onnx
import pytest

import sqnr_table
import stages

FULL = "TRAIN_FULL" in os.environ
NAMES = (*sqnr_table.SMALL, *(sqnr_table.BIG if FULL else ()))


@pytest.mark.parametrize("name", NAMES)
def test_no_calibration_of_onnx_runtime_does_better(name):
    row = sqnr_table.row_of(name, 64 if name in sqnr_table.SMALL else 16)
    assert sqnr_table.best(row["ort"], "here") is not None, row["ort"]
    assert not sqnr_table.verdicts(row)
    assert row["dynamic agree"]["stages"] and row["static agree"]["equal"]


def test_a_wrong_integer_is_seen(tmp_path, monkeypatch):
    path = sqnr_table.ours(sqnr_table.MODELS["mlp"][0](), tmp_path / "small.onnx",
                           "quantize_dynamic")
    feed = {"input": np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 784)}
    assert not stages.compare(path, feed)["wrong"]
    real = stages.run_ours

    def one_off(graph, inputs):
        return [x + x.dtype.type(1) for x in real(graph, inputs)]

    monkeypatch.setattr(stages, "run_ours", one_off)
    wrong = stages.compare(path, feed)["wrong"]
    products = sum(n.op_type == "MatMulInteger" for n in onnx.load(path).graph.node)
    assert products == 3 and len(wrong) >= products
