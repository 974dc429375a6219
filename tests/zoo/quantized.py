"""Models quantized by ONNX Runtime's own tools: the forms that people have."""

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def static(activation, weight, form, per_channel=True, reduce_range=False):
    def make(source, target, feeds):
        quantize_static(
            source, target, Reader(feeds), quant_format=form, per_channel=per_channel,
            reduce_range=reduce_range, activation_type=activation, weight_type=weight,
        )

    return make


def dynamic(weight, per_channel=False, reduce_range=False):
    def make(source, target, feeds):
        quantize_dynamic(
            source, target, weight_type=weight, per_channel=per_channel, reduce_range=reduce_range
        )

    return make


def nbits(source, target, feeds):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


U8, S8 = QuantType.QUInt8, QuantType.QInt8
QDQ, QOP = QuantFormat.QDQ, QuantFormat.QOperator
FORMS = {
    "dynamic": dynamic(S8),
    "dynamic_u8": dynamic(U8),
    "dynamic_columns": dynamic(S8, per_channel=True, reduce_range=True),
    "qdq_u8s8": static(U8, S8, QDQ),
    "qdq_u8s8_reduced": static(U8, S8, QDQ, reduce_range=True),
    "qdq_u8u8_tensor": static(U8, U8, QDQ, per_channel=False),
    "qdq_s8s8": static(S8, S8, QDQ),
    "qop_u8s8": static(U8, S8, QOP),
    "qop_u8s8_reduced": static(U8, S8, QOP, reduce_range=True),
    "nbits": nbits,
}


def prepared(source, target):
    """The model as ONNX Runtime's guide wants it before quantizing: shapes inferred, optimized."""
    quant_pre_process(source, target, skip_symbolic_shape=True)
    return target


def quantize(form, source, target, feeds):
    """feeds: a list of dicts of inputs, for the forms that calibrate."""
    FORMS[form](source, target, feeds)
    return target


def feeds_of(model, batch, tokens, seed, count=1):
    """Inputs for a model of zoo_models.py: random, alike for everyone who asks with a seed."""
    rng = np.random.default_rng(seed)
    feeds = []
    for _ in range(count):
        feed = {}
        for one in model.inputs:
            shape = [{"N": batch, "T": tokens}.get(d, d) for d in one.shape]
            if one.mask:
                lengths = rng.integers(1, shape[1] + 1, (shape[0], 1))
                feed[one.name] = (np.arange(shape[1]) < lengths).astype(np.int64)
            elif one.high:
                feed[one.name] = rng.integers(0, one.high, shape)
            else:
                feed[one.name] = rng.standard_normal(shape).astype(np.float32)
        feeds.append(feed)
    return feeds
