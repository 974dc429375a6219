"""Writes operator cases for tests/engine/ops/run_cases.c: node_cases.py FOLDER

Two sources, neither of them ours: ONNX's own node cases (the newest form of every operator), and
models in older or rarer forms whose results are those of ONNX Runtime.

For each case NAME.onnx is the model and NAME.bin its tensors (little-endian): int32 inputs, int32
outputs, float64 relative tolerance, then each tensor as int32 dtype, int32 rank, int64 dims, bytes
padded to a multiple of 8. cases.txt lists the names, with a reason behind a tab where the tensors
cannot be written.
"""
import struct
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Inputs that decide shapes or modes must be known when a plan is made: they become initializers.
PARAMETERS = {
    "AffineGrid": [1], "BlackmanWindow": [0], "CenterCropPad": [1], "Col2Im": [1, 2],
    "Compress": [1], "ConstantOfShape": [0], "DFT": [1, 2], "Dropout": [1, 2], "Expand": [1],
    "HammingWindow": [0], "HannWindow": [0], "Loop": [0, 1], "MaxUnpool": [2], "MelWeightMatrix": [0, 1, 2, 3, 4],
    "NonMaxSuppression": [0, 1, 2, 3, 4], "NonZero": [0], "OneHot": [1], "Pad": [1, 3],
    "Range": [0, 1, 2], "Reshape": [1], "Resize": [1, 2, 3], "STFT": [1, 3], "Slice": [1, 2, 3, 4],
    "Split": [1], "Squeeze": [1], "Tile": [1], "TopK": [1], "Unique": [0], "Unsqueeze": [1],
    "Upsample": [1],
}
LARGEST_DTYPE = TensorProto.INT2
SIGNED_PARTS = {TensorProto.INT4: np.int8, TensorProto.INT2: np.int8}  # of a byte each in memory


def parameters_of(model):
    names = {"shape", "size"}  # of CenterCropPad and AffineGrid written out
    if any(node.op_type in ("Range", "Loop") for node in model.graph.node):  # arithmetic leads there
        names.update(i.name for i in model.graph.input if not i.type.tensor_type.shape.dim)
    for node in model.graph.node:
        slots = [1] if node.op_type.startswith("Reduce") else PARAMETERS.get(node.op_type, [])
        names.update(node.input[i] for i in slots if i < len(node.input) and node.input[i])
    return names


class Unwritable(Exception):
    pass


def as_tensor(value):
    """(dtype, dims, bytes) of a value of a case."""
    if isinstance(value, TensorProto):
        dtype, value = value.data_type, numpy_helper.to_array(value)
    elif isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        if value.dtype.kind in "OUS":
            raise Unwritable("strings")
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
    else:
        raise Unwritable("sequences and optionals")
    if dtype > LARGEST_DTYPE or dtype in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        raise Unwritable(TensorProto.DataType.Name(dtype).lower())
    if dtype == TensorProto.STRING:
        raise Unwritable("strings")
    value = value.astype(SIGNED_PARTS.get(dtype, value.dtype), order="C")
    return dtype, value.shape, value.tobytes()


def pack(tensors):
    out = b""
    for dtype, dims, data in tensors:
        out += struct.pack(f"<ii{len(dims)}q", dtype, len(dims), *dims) + data
        out += bytes(-len(data) % 8)
    return out


# Outputs that ONNX gives in decimals of a few digits; all others must agree to 1e-4.
ROUNDED = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad", "test_gridsample_bicubic",
    "test_roialign_aligned_false", "test_roialign_aligned_true",
}


def write(folder, name, model, inputs, outputs):
    """Returns the line for cases.txt."""
    try:
        given = [as_tensor(v) for v in inputs]
        expected = [as_tensor(v) for v in outputs]
    except Unwritable as e:
        return f"{name}\t{e}"
    fixed = parameters_of(model)
    runtime = []
    keep = []
    for info, value, tensor in zip(list(model.graph.input), inputs, given):
        if info.name in fixed:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
        else:
            keep.append(info)
            runtime.append(tensor)
    del model.graph.input[:]
    model.graph.input.extend(keep)
    model.ir_version = min(model.ir_version, 10)  # operators are the matter here, not the file
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    head = struct.pack("<iid", len(runtime), len(expected), 1e-3 if name in ROUNDED else 1e-4)
    (folder / f"{name}.bin").write_bytes(head + pack(runtime) + pack(expected))
    return name


def onnx_cases(folder):
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        inputs, outputs = case.data_sets[0]
        yield write(folder, case.name, case.model, inputs, outputs)


# ── Older and rarer forms, judged by ONNX Runtime ───────────────────────────────────────────────

RNG = np.random.default_rng(7)


def f32(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values):
    return np.array(values, dtype=np.int64)


class Form:
    """One node, its domain in front of its name; `fixed` inputs are initializers, None is an omitted input."""

    def __init__(self, name, op, opset, inputs, outputs=1, fixed=(), **attributes):
        self.name, self.op, self.opset, self.inputs = name, op, opset, inputs
        self.outputs, self.fixed, self.attributes = outputs, fixed, attributes


def pool_and_conv_forms():
    for op, extra in (("MaxPool", {}), ("AveragePool", {"count_include_pad": 1}),
                      ("AveragePool", {"count_include_pad": 0})):
        tag = f"{op}_{extra.get('count_include_pad', '')}".lower()
        yield Form(f"{tag}_10_ceil", op, 10, [f32(2, 3, 11, 8)], kernel_shape=[3, 2],
                   strides=[2, 3], pads=[1, 0, 1, 1], ceil_mode=1, **extra)
        yield Form(f"{tag}_7_1d", op, 7, [f32(2, 3, 17)], kernel_shape=[4], strides=[3],
                   pads=[2, 1], **extra)
        yield Form(f"{tag}_11_same_lower", op, 11, [f32(1, 2, 7, 9)], kernel_shape=[3, 4],
                   strides=[2, 2], auto_pad="SAME_LOWER", **extra)
        yield Form(f"{tag}_11_3d", op, 11, [f32(1, 2, 6, 5, 7)], kernel_shape=[2, 3, 2],
                   strides=[1, 2, 2], pads=[1, 1, 0, 0, 1, 1], **extra)
    yield Form("maxpool_11_dilations", "MaxPool", 11, [f32(1, 2, 12, 12)], kernel_shape=[3, 3],
               dilations=[2, 3])
    for fixed in ((), (1, 2)):
        tag = "constant" if fixed else "runtime"
        yield Form(f"conv_{tag}_1d", "Conv", 11, [f32(2, 4, 13), f32(6, 2, 3), f32(6)],
                   fixed=fixed, group=2, strides=[2], pads=[1, 2])
        yield Form(f"conv_{tag}_dilated", "Conv", 11, [f32(2, 3, 12, 11), f32(5, 3, 3, 2), f32(5)],
                   fixed=fixed, dilations=[2, 3], pads=[2, 1, 0, 3], strides=[2, 1])
        yield Form(f"conv_{tag}_depthwise", "Conv", 7, [f32(1, 6, 9, 9), f32(6, 1, 3, 3)],
                   fixed=fixed[:1], group=6, auto_pad="SAME_UPPER", strides=[2, 2])
        yield Form(f"conv_{tag}_same_lower", "Conv", 11, [f32(1, 3, 7, 8), f32(4, 3, 4, 2)],
                   fixed=fixed[:1], auto_pad="SAME_LOWER")
        yield Form(f"conv_{tag}_3d", "Conv", 11, [f32(1, 4, 6, 7, 5), f32(6, 2, 2, 3, 3), f32(6)],
                   fixed=fixed, group=2, strides=[2, 1, 1], pads=[1, 0, 1, 0, 1, 1])


def product_forms():
    for fixed in ((), (1,)):
        tag = "constant" if fixed else "runtime"
        for a, b in (((5,), (5,)), ((5,), (5, 3)), ((4, 5), (5,)), ((2, 1, 4, 5), (3, 5, 6)),
                     ((3, 4, 5), (5, 6)), ((5,), (2, 3, 5, 4)), ((2, 3, 4, 5), (2, 1, 5, 2)),
                     ((1, 64), (64, 33)), ((4, 5), (1, 5, 6))):
            name = "_x_".join("".join(map(str, s)) for s in (a, b))
            yield Form(f"matmul_{tag}_{name}", "MatMul", 9, [f32(*a), f32(*b)], fixed=fixed)
    for fixed in ((), (1, 2)):
        tag = "constant" if fixed else "runtime"
        for c in ((3,), (1, 3), (4, 1), (4, 3), (), (1, 1)):
            for scale in ({}, {"beta": 0.5}, {"alpha": 0.7, "beta": 1.5}):
                name = "".join(map(str, c)) or "scalar"
                yield Form(f"gemm_{tag}_c{name}_{len(scale)}", "Gemm", 9,
                           [f32(5, 4), f32(3, 5), f32(*c)], fixed=fixed, transA=1, transB=1, **scale)
        yield Form(f"gemm_{tag}_no_c", "Gemm", 11, [f32(4, 5), f32(5, 3)], fixed=fixed[:1], alpha=2.0)


def lstm_forms():
    for direction in ("forward", "reverse", "bidirectional"):
        d = 2 if direction == "bidirectional" else 1
        for fixed in ((), (1, 2, 3)):
            tag = "constant" if fixed else "runtime"
            h, i, s, n = 5, 4, 7, 3
            weights = [f32(s, n, i), f32(d, 4 * h, i), f32(d, 4 * h, h), f32(d, 8 * h)]
            yield Form(f"lstm_{direction}_{tag}", "LSTM", 7, weights, 3, fixed, hidden_size=h,
                       direction=direction)
            state = [np.array([7, 0, 4], np.int32), f32(d, n, h), f32(d, n, h), f32(d, 3 * h)]
            yield Form(f"lstm_{direction}_{tag}_all", "LSTM", 7, weights + state, 3, fixed,
                       hidden_size=h, direction=direction, clip=0.8)
            yield Form(f"lstm_{direction}_{tag}_lengths", "LSTM", 7, weights + state[:1], 3, fixed,
                       hidden_size=h, direction=direction)
            yield Form(f"lstm_{direction}_{tag}_state", "LSTM", 7, weights + [None] + state[1:3], 3,
                       fixed, hidden_size=h, direction=direction)
    h = 16
    yield Form("lstm_many_rows", "LSTM", 14, [f32(30, 70, 12), f32(1, 4 * h, 12), f32(1, 4 * h, h)],
               3, (1, 2), hidden_size=h)
    yield Form("lstm_input_forget", "LSTM", 7, [f32(5, 2, 3), f32(1, 8, 3), f32(1, 8, 2)], 3,
               hidden_size=2, input_forget=1)


def gru_and_rnn_forms():
    for direction in ("forward", "reverse", "bidirectional"):
        d = 2 if direction == "bidirectional" else 1
        for fixed in ((), (1, 2, 3)):
            for op, gates, names in (("GRU", 3, ["HardSigmoid", "Softsign"]), ("RNN", 1, ["Relu"])):
                tag = f"{op.lower()}_{direction}_{'constant' if fixed else 'runtime'}"
                h, i, s, n = 5, 4, 7, 3
                weights = [f32(s, n, i), f32(d, gates * h, i), f32(d, gates * h, h), f32(d, 2 * gates * h)]
                state = [np.array([7, 2, 4], np.int32), f32(d, n, h)]
                for reset in (0, 1) if op == "GRU" else (None,):
                    more = {} if reset is None else {"linear_before_reset": reset}
                    name = tag + (f"_reset{reset}" if more else "")
                    yield Form(name, op, 7, weights, 2, fixed, hidden_size=h, direction=direction, **more)
                    yield Form(name + "_no_bias", op, 14, weights[:3], 2, fixed[:2], hidden_size=h,
                               direction=direction, **more)
                    yield Form(name + "_state", op, 7, weights + state, 2, fixed, hidden_size=h,
                               direction=direction, clip=0.9, **more)
                    yield Form(name + "_activations", op, 7, weights, 2, fixed, hidden_size=h,
                               direction=direction, activations=names * d, **more)
    for name in ("Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "Softplus", "Softsign",
                 "ThresholdedRelu"):
        parameters = {"activation_alpha": [0.6], "activation_beta": [0.3]}
        if name in ("Elu", "LeakyRelu", "ThresholdedRelu"):
            del parameters["activation_beta"]
        if name.startswith("Soft"):
            parameters = {}
        yield Form(f"rnn_{name.lower()}", "RNN", 7, [f32(4, 2, 3), f32(1, 5, 3), f32(1, 5, 5)], 2, (1, 2),
                   hidden_size=5, activations=[name], **parameters)


def u8(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def s8(*shape):
    return RNG.integers(-128, 128, shape, dtype=np.int8)


def s7(*shape):
    """int8 weights for uint8 data: without VNNI, ONNX Runtime adds two of their products in int16,
    which saturates from 129 * 255 on."""
    return RNG.integers(-64, 65, shape, dtype=np.int8)


def quant_lstm_forms():
    h, i, s, n = 12, 7, 9, 3
    for direction in ("forward", "reverse", "bidirectional"):
        d = 2 if direction == "bidirectional" else 1
        for make, per_channel, fixed in (
            (s7, True, True), (s7, False, True), (s7, True, False),
            (lambda *shape: u8(*shape) // 2, True, True), (lambda *shape: u8(*shape) // 2, False, False),
        ):
            # Rows and steps of different ranges: which of them share a scale is what is tested.
            x = f32(s, n, i) * np.exp(f32(s, n, 1))
            w, r = make(d, i, 4 * h), make(d, h, 4 * h)
            shape = (d, 4 * h) if per_channel else (d,)
            zero = np.full(shape, 0 if w.dtype == np.int8 else 64, w.dtype)
            if not per_channel:  # ONNX Runtime wants those of columns to be alike, and 0 in int8
                zero = make(*shape) // 8
            scales = [np.abs(f32(*shape)) / 100 + np.float32(0.001) for _ in range(2)]
            params = [scales[0], zero, scales[1], zero]
            state = [np.array([9, 0, 4], np.int32), f32(d, n, h), f32(d, n, h), f32(d, 3 * h)]
            bias = f32(d, 8 * h)
            tag = f"{w.dtype}_{'columns' if per_channel else 'tensor'}_{'constant' if fixed else 'runtime'}"
            for name, middle in (
                ("plain", [None] * 5), ("bias", [bias] + [None] * 4), ("state", [bias, None] + state[1:]),
                ("lengths", [bias, np.array([9, 6, 4], np.int32)] + state[1:3] + [None]),
                ("empty", [bias] + state),
            ):
                yield Form(f"quant_lstm_{direction}_{tag}_{name}", "com.microsoft.DynamicQuantizeLSTM", 1,
                           [x, w, r] + middle + params, 3, (1, 2, 8, 9, 10, 11) if fixed else (),
                           hidden_size=h, direction=direction)
    x, w, r = f32(30, 70, 12), s7(1, 12, 64), s7(1, 16, 64)
    scale, zero = np.full(1, 0.005, np.float32), np.zeros(1, np.int8)
    for name, more in (("many_rows", {}), ("clip", {"clip": 0.3}), ("input_forget", {"input_forget": 1})):
        yield Form(f"quant_lstm_{name}", "com.microsoft.DynamicQuantizeLSTM", 1,
                   [x, w, r] + [None] * 5 + [scale, zero, scale, zero], 3, (1, 2, 8, 9, 10, 11),
                   hidden_size=16, **more)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


def quantize_forms():
    x = f32(3, 4, 5)
    x.flat[:4] = [0.5, 1.5, 2.5, -0.5]  # ties
    for dtype in (np.uint8, np.int8, np.uint16, np.int16):
        opset = 21 if dtype in (np.uint16, np.int16) else 13
        zero = int(np.iinfo(dtype).max // 2)
        for scale, name in ((1, "ties"), (0.0123, "fine")):
            yield Form(f"quantize_{opset}_{dtype.__name__}_{name}", "QuantizeLinear", opset,
                       [x * (1 if scale == 1 else 3), scalar(scale), scalar(zero, dtype)])
        q = RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (3, 4, 5)).astype(dtype)
        yield Form(f"dequantize_{opset}_{dtype.__name__}", "DequantizeLinear", opset,
                   [q, scalar(0.0123), scalar(zero, dtype)])
        for axis, n in ((0, 3), (1, 4), (-1, 5)):
            scales, zeros = np.abs(f32(n)) + 0.01, np.arange(n).astype(dtype)
            yield Form(f"quantize_{opset}_{dtype.__name__}_axis{axis}", "QuantizeLinear", opset,
                       [x, scales, zeros], axis=axis)
            yield Form(f"dequantize_{opset}_{dtype.__name__}_axis{axis}", "DequantizeLinear",
                       opset, [q, scales, zeros], axis=axis)
        for op, given in (("Quantize", x), ("Dequantize", q)):
            yield Form(f"ms_{op.lower()}_{dtype.__name__}", f"com.microsoft.{op}Linear", 1,
                       [given, scalar(0.0123), scalar(zero, dtype)])
            yield Form(f"ms_{op.lower()}_{dtype.__name__}_axis", f"com.microsoft.{op}Linear", 1,
                       [given, np.abs(f32(4)) + 0.01, np.arange(4).astype(dtype)], axis=1)
            for axis, shape in ((1, (3, 2, 5)), (2, (3, 4, 2))):
                yield Form(f"{op.lower()}_21_{dtype.__name__}_blocks{axis}", op + "Linear", 21,
                           [given, np.abs(f32(*shape)) + 0.01, np.ones(shape, dtype)], axis=axis,
                           block_size=3)
        half = np.float16
        yield Form(f"dequantize_21_{dtype.__name__}_half", "DequantizeLinear", 21,
                   [q, scalar(0.0123, half), scalar(zero, dtype)])
    for dtype in (ml_dtypes.int4, ml_dtypes.uint4):
        q = RNG.integers(-8, 8, (4, 6)).astype(np.int8).astype(dtype)
        scales, zeros = np.abs(f32(2, 6)) + 0.01, np.ones((2, 6), dtype)
        yield Form(f"dequantize_21_{np.dtype(dtype)}_blocks", "DequantizeLinear", 21,
                   [q, scales, zeros], fixed=(0, 1, 2), axis=0, block_size=2)
        yield Form(f"dequantize_21_{np.dtype(dtype)}_axis", "DequantizeLinear", 21,
                   [q, scales[0], zeros[0]], fixed=(0, 1, 2), axis=1)
    yield Form("quantize_10_no_zero", "QuantizeLinear", 10, [x, scalar(0.02)])
    yield Form("dequantize_10_int32", "DequantizeLinear", 10,
               [RNG.integers(-2**31, 2**31, (3, 4)).astype(np.int32), scalar(1e-4)])
    for name, values in (("zeros", np.zeros((2, 3))), ("mixed", f32(5, 7)), ("one", [[3.0]]),
                         ("positive", np.abs(f32(40))), ("negative", -np.abs(f32(40)))):
        yield Form(f"dynamic_quantize_{name}", "DynamicQuantizeLinear", 11,
                   [np.array(values, np.float32)], 3)


def integer_forms():
    for tag, fixed in (("constant", True), ("runtime", False)):
        for a in (u8, s8):
            for b in (u8, s7) if a is u8 else (s8,):  # ONNX Runtime has no int8 x uint8
                kinds = f"{tag}_{a.__name__}{b.__name__}"
                for sa, sb in (((4, 7), (7, 5)), ((2, 3, 7), (7, 20)), ((2, 1, 3, 7), (3, 7, 5))):
                    za, zb = a(1)[0], b(1)[0]
                    yield Form(f"matmulinteger_{kinds}_{len(sa)}{len(sb)}", "MatMulInteger", 10,
                               [a(*sa), b(*sb), np.array(za), np.array(zb)],
                               fixed=(1, 3) if fixed else ())
                    yield Form(f"qlinearmatmul_{kinds}_{len(sa)}{len(sb)}", "QLinearMatMul", 10,
                               [a(*sa), scalar(0.03), np.array(za), b(*sb), scalar(0.02),
                                np.array(zb), scalar(0.4), np.array(a(1)[0])],
                               fixed=(3, 4, 5, 6, 7) if fixed else ())
                yield Form(f"matmulinteger_{kinds}_columns", "MatMulInteger", 10,
                           [a(3, 7), b(7, 5), np.array(a(1)[0]), b(5)],
                           fixed=(1, 3) if fixed else ())
                yield Form(f"qgemm_{kinds}_float", "com.microsoft.QGemm", 1,
                           [a(4, 7), scalar(0.03), np.array(a(1)[0]), b(5, 7), scalar(0.02),
                            np.array(b(1)[0]), RNG.integers(-900, 900, 5).astype(np.int32)],
                           fixed=(3, 4, 5, 6) if fixed else (), transB=1)
        yield Form(f"qgemm_{tag}_columns", "com.microsoft.QGemm", 1,
                   [u8(7, 4), scalar(0.03), np.array(u8(1)[0]), s7(7, 5), np.abs(f32(5)) + 0.01,
                    np.zeros(5, np.int8), RNG.integers(-900, 900, 5).astype(np.int32), scalar(2.0),
                    np.array(u8(1)[0])], fixed=(3, 4, 5, 6, 7, 8) if fixed else (), transA=1)
        for x, w in ((u8, u8), (u8, s7), (s8, s8)):
            kinds = f"{tag}_{x.__name__}{w.__name__}"
            for name, sx, sw, attributes in (
                    ("plain", (2, 3, 9, 8), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
                    ("strided", (1, 4, 11, 9), (6, 4, 3, 2), {"strides": [2, 3], "pads": [0, 1, 2, 1]}),
                    ("grouped", (1, 6, 7, 7), (9, 2, 3, 3), {"group": 3, "dilations": [2, 1]}),
                    ("depthwise", (2, 20, 6, 6), (20, 1, 3, 3), {"group": 20, "pads": [1, 1, 1, 1]}),
                    ("1d", (2, 3, 17), (4, 3, 5), {"pads": [2, 1]})):
                oc = sw[0]
                zw = np.array(w(1)[0]) if w is u8 else np.array(0, np.int8)
                yield Form(f"qlinearconv_{kinds}_{name}", "QLinearConv", 10,
                           [x(*sx), scalar(0.02), np.array(x(1)[0]), w(*sw),
                            np.abs(f32(oc)) * 0.01 + 0.003, np.repeat(zw, oc), scalar(0.3),
                            np.array(x(1)[0]), RNG.integers(-2000, 2000, oc).astype(np.int32)],
                           fixed=tuple(range(3, 9)) if fixed else (), **attributes)
                if (x, w) == (u8, u8):
                    yield Form(f"convinteger_{kinds}_{name}", "ConvInteger", 10,
                               [x(*sx), w(*sw), np.array(x(1)[0]), zw],
                               fixed=(1, 3) if fixed else (), **attributes)
    for kind in (u8, s8):
        for sa, sb in (((3, 40), (3, 40)), ((3, 4, 5), (4, 1)), ((1, 5), (3, 1))):
            yield Form(f"qlinearadd_{kind.__name__}_{len(sa)}{len(sb)}",
                       "com.microsoft.QLinearAdd", 1,
                       [kind(*sa), scalar(2.0**-5), np.array(kind(1)[0]), kind(*sb),
                        scalar(2.0**-6), np.array(kind(1)[0]), scalar(2.0**-4),
                        np.array(kind(1)[0] // 2 * 2)])
            # exact in any order, with many ties: ONNX Runtime rounds them with the zero point
            # added, we as QuantizeLinear does, which is the same when that is even


def microsoft_forms():
    """Operators of com.microsoft that ONNX Runtime's quantization and fusion write."""
    def ms(name, op, inputs, outputs=1, fixed=(), **attributes):
        form = Form(name, "com.microsoft." + op, 1, inputs, outputs, fixed)
        form.attributes = attributes  # one of them may be called opset
        return form

    for kind in (u8, s8):
        tag = kind.__name__
        zero = lambda: np.array(kind(1)[0] // 2 * 2)
        grid = lambda scale: [scalar(scale), zero()]
        for sa, sb in (((3, 40), (3, 40)), ((3, 4, 5), (4, 1)), ((1, 5), (3, 1))):
            yield ms(f"qlinearmul_{tag}_{len(sa)}{len(sb)}", "QLinearMul",
                     [kind(*sa), *grid(2.0**-5), kind(*sb), *grid(2.0**-6), *grid(2.0**-5)])
        yield ms(f"qlinearsigmoid_{tag}", "QLinearSigmoid",
                 [kind(3, 90), *grid(0.07), scalar(1 / 256), np.array(-128 if kind is s8 else 0, kind(1).dtype)])
        yield ms(f"qlinearleakyrelu_{tag}", "QLinearLeakyRelu",
                 [kind(3, 90), *grid(0.07), *grid(0.05)], alpha=0.15)
        yield ms(f"qlinearsoftmax_{tag}", "QLinearSoftmax",
                 [kind(3, 4, 20), *grid(0.05), scalar(1 / 256), np.array(-128 if kind is s8 else 0, kind(1).dtype)],
                 axis=-1, opset=13)
        yield ms(f"qlinearsoftmax_{tag}_12", "QLinearSoftmax",
                 [kind(3, 4, 20), *grid(0.05), scalar(1 / 256), np.array(-128 if kind is s8 else 0, kind(1).dtype)],
                 axis=1, opset=12)
        same = grid(0.05)
        yield ms(f"qlinearconcat_{tag}", "QLinearConcat",
                 [*same, kind(2, 3, 4), *same, kind(2, 5, 4), *grid(0.03), kind(2, 1, 4), *grid(0.08)], axis=1)
        for last in (0, 1):
            x = kind(2, 7, 9, 5) if last else kind(2, 5, 7, 9)
            yield ms(f"qlinearglobalaveragepool_{tag}_{last}", "QLinearGlobalAveragePool",
                     [x, *grid(0.05), *grid(0.03)], channels_last=last)
            for pads in (0, 1):
                yield ms(f"qlinearaveragepool_{tag}_{last}_{pads}", "QLinearAveragePool",
                         [x, *grid(0.05), *grid(0.031)], channels_last=last, kernel_shape=[3, 2],
                         strides=[2, 1], pads=[1, 0, 1, 1], count_include_pad=pads)
        for make in (s7, u8) if kind is u8 else (s8,):
            w = make(7, 5)
            for fixed in ((1, 3), ()):
                kinds = f"{tag}{make.__name__}_{len(fixed)}"
                yield ms(f"matmulintegertofloat_{kinds}", "MatMulIntegerToFloat",
                         [kind(2, 3, 7), w, scalar(0.03), np.abs(f32(5)) + 0.01, zero(), np.zeros(5, w.dtype), f32(5)],
                         fixed=fixed)
                yield ms(f"matmulintegertofloat_{kinds}_plain", "MatMulIntegerToFloat",
                         [kind(3, 7), w, scalar(0.03), scalar(0.01)], fixed=fixed)
    for make in (s7, lambda *shape: u8(*shape) // 2):
        w = make(7, 5)
        for fixed in ((1, 2, 3), ()):
            tag = f"{w.dtype}_{len(fixed)}"
            yield ms(f"dynamicquantizematmul_{tag}", "DynamicQuantizeMatMul",
                     [f32(2, 3, 7), w, np.abs(f32(5)) + 0.01, np.full(5, 3, w.dtype), f32(5)], fixed=fixed)
            yield ms(f"dynamicquantizematmul_{tag}_plain", "DynamicQuantizeMatMul",
                     [f32(3, 7), w, scalar(0.02)], fixed=fixed)
    for bits in (4, 8):
        for block, k in ((16, 40), (32, 64), (64, 70), (128, 300), (256, 256)):
            n, blocks, parts = 70, -(-k // block), 8 // bits
            b = u8(n, blocks, block // parts)
            scales = np.abs(f32(n, blocks)) / 50
            for name, zeros in (("none", None), ("packed", u8(n, -(-blocks // parts))),
                                ("float", None if bits == 8 else np.abs(f32(n, blocks)) * 8)):
                for bias in (None, f32(n)):
                    if name == "float" and zeros is None:
                        continue
                    rest = [zeros] if bias is None else [zeros, None, bias]
                    yield ms(f"matmulnbits_{bits}_{block}_{name}_{len(rest)}", "MatMulNBits",
                             [f32(3, k), b, scales.reshape(-1), *rest], fixed=(1, 2, 3), N=n, K=k, bits=bits,
                             block_size=block)
    for bits, x in ((4, u8(30, 2, 16)), (8, u8(30, 2, 32))):
        for zeros in (None, u8(30, 2, 1) if bits == 4 else u8(30, 2, 2)):
            rest = [] if zeros is None else [zeros]
            yield ms(f"gatherblockquantized_{bits}_{len(rest)}", "GatherBlockQuantized",
                     [x, i64(3, -1, 7).reshape(3, 1), np.abs(f32(30, 2, 2)), *rest], fixed=(0, 2, 3),
                     gather_axis=0, quantize_axis=2, block_size=16, bits=bits)
    x = RNG.integers(-8, 8, (20, 48)).astype(np.int8).astype(ml_dtypes.int4)
    yield ms("gatherblockquantized_int4", "GatherBlockQuantized",
             [x, i64(3, 0, 7), np.abs(f32(20, 3))], fixed=(0, 2), gather_axis=0, quantize_axis=1, block_size=16)
    yield ms("matmulnbits_runtime", "MatMulNBits", [f32(2, 3, 64), u8(70, 2, 16), np.abs(f32(140))],
             N=70, K=64, bits=4, block_size=32)
    for a, b, more in (((3, 4), (4, 5), {}), ((4, 3), (4, 5), {"transA": 1}), ((2, 3, 4), (2, 5, 4), {"transB": 1}),
                       ((2, 4, 3), (2, 5, 4), {"transA": 1, "transB": 1}), ((2, 4, 3), (4, 5), {"transA": 1}),
                       ((2, 3, 4), (5, 4), {"transB": 1})):
        yield ms(f"fusedmatmul_{len(a)}{len(b)}_{'_'.join(more)}", "FusedMatMul", [f32(*a), f32(*b)], alpha=0.3, **more)
    yield ms("gelu", "Gelu", [f32(3, 50)])
    yield ms("quickgelu", "QuickGelu", [f32(3, 50)], alpha=1.5)
    yield ms("biasgelu", "BiasGelu", [f32(3, 4, 5), f32(5)])
    yield ms("fastgelu", "FastGelu", [f32(3, 50)])
    yield ms("fastgelu_bias", "FastGelu", [f32(3, 50), f32(50)])
    yield ms("skiplayernorm", "SkipLayerNormalization", [f32(2, 3, 8), f32(2, 3, 8), f32(8), f32(8), f32(8)],
             epsilon=1e-5)
    yield ms("skiplayernorm_broadcast", "SkipLayerNormalization", [f32(2, 3, 8), f32(3, 8), f32(8)])
    yield Form("skiplayernorm_sum", "com.microsoft.SkipLayerNormalization", 1,
               [f32(2, 3, 8), f32(2, 3, 8), f32(8)], [0, 3])


def old_forms():
    x = f32(3, 4, 5)
    yield Form("softmax_11_axis1", "Softmax", 11, [x])
    yield Form("softmax_11_axis2", "Softmax", 11, [x], axis=2)
    yield Form("softmax_11_axis0", "Softmax", 11, [x], axis=0)
    yield Form("logsoftmax_11_axis1", "LogSoftmax", 11, [x])
    yield Form("softmax_13_axis1", "Softmax", 13, [x], axis=1)
    yield Form("clip_6", "Clip", 6, [x], min=-0.5, max=0.25)
    yield Form("clip_11_no_min", "Clip", 11, [x, None, np.array(0.1, np.float32)])
    yield Form("squeeze_11", "Squeeze", 11, [f32(1, 3, 1, 2)], axes=[0, -2])
    yield Form("squeeze_11_all", "Squeeze", 11, [f32(1, 3, 1, 2)])
    yield Form("unsqueeze_11", "Unsqueeze", 11, [x], axes=[0, -1])
    yield Form("split_11", "Split", 11, [f32(6, 4)], 3, axis=0, split=[1, 2, 3])
    yield Form("split_11_equal", "Split", 11, [f32(6, 4)], 3)
    yield Form("slice_9", "Slice", 9, [x], starts=[1, -3], ends=[9, -1], axes=[0, 2])
    yield Form("slice_10_back", "Slice", 10, [x, i64(-1, 3), i64(-9, 0), i64(2, 1), i64(-2, -1)],
               fixed=(1, 2, 3, 4))
    yield Form("pad_10", "Pad", 10, [x], pads=[0, 1, 2, 0, 1, 0], value=1.5)
    yield Form("pad_10_reflect", "Pad", 10, [x], pads=[0, 2, 2, 0, 1, 3], mode="reflect")
    yield Form("pad_13_cut", "Pad", 13, [x, i64(0, -1, 2, 0, 1, -2)], fixed=(1,))
    for op in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare"):
        yield Form(f"reduce{op.lower()}_11", "Reduce" + op, 11, [x], axes=[0, -1], keepdims=0)
        yield Form(f"reduce{op.lower()}_11_all", "Reduce" + op, 11, [x])
    yield Form("reducesum_13_int64", "ReduceSum", 13, [RNG.integers(-9, 9, (3, 4)), i64(1)],
               fixed=(1,))
    yield Form("dropout_7", "Dropout", 7, [x], ratio=0.3)
    for opset in (7, 9, 14):
        yield Form(f"batchnorm_{opset}", "BatchNormalization", opset,
                   [f32(2, 4, 3, 3), f32(4), f32(4), f32(4), np.abs(f32(4)) + 0.1],
                   fixed=(1, 2, 3, 4), epsilon=1e-3)
    yield Form("transpose_5d", "Transpose", 9, [f32(2, 3, 4, 2, 3)], perm=[3, 0, 4, 2, 1])
    yield Form("concat_4", "Concat", 9, [f32(2, 3, 4), f32(2, 1, 4), f32(2, 2, 4)], axis=1)
    yield Form("gather_9_axis1", "Gather", 9, [x, RNG.integers(-4, 4, (2, 3))], axis=1)
    yield Form("cast_9_to_int32", "Cast", 9, [f32(20) * 50], to=TensorProto.INT32)
    yield Form("cast_9_to_uint8", "Cast", 9, [np.abs(f32(20)) * 50], to=TensorProto.UINT8)
    yield Form("add_7_both_ways", "Add", 7, [f32(3, 1, 5), f32(4, 1)])
    yield Form("pow_12_int", "Pow", 12, [x, np.array([2], np.int64)])
    yield Form("max_8_three", "Max", 8, [f32(3, 1), f32(1, 4), f32(2, 3, 4)])
    yield Form("mul_7_scalar", "Mul", 7, [x, np.array(2.5, np.float32)])
    yield Form("where_9_broadcast", "Where", 9, [RNG.random((4, 1)) > 0.5, f32(3, 1, 5), f32(1, 5)])
    yield Form("flatten_9_axis2", "Flatten", 9, [f32(2, 3, 4, 5)], axis=2)
    yield Form("reshape_5_zero", "Reshape", 5, [f32(2, 3, 4), i64(0, -1)], fixed=(1,))
    yield Form("layernorm_17_axis1", "LayerNormalization", 17, [x, f32(4, 5), f32(4, 5)], 3, axis=1)
    yield Form("expand_8", "Expand", 8, [f32(3, 1), i64(2, 1, 4)], fixed=(1,))
    yield Form("tile_6", "Tile", 6, [f32(2, 3), i64(2, 3)], fixed=(1,))
    yield Form("argmax_11", "ArgMax", 11, [x], axis=-1, keepdims=0)
    yield Form("prelu_9", "PRelu", 9, [x, f32(4, 1)])
    yield Form("div_7_int", "Div", 7, [RNG.integers(-90, 90, (3, 4)), np.array([-7], np.int64)])


def conv_transpose_forms():
    for fixed in ((), (1, 2)):
        tag = f"convtranspose_{'constant' if fixed else 'runtime'}"
        x, w, b = f32(2, 4, 7, 6), f32(4, 3, 3, 2), f32(6)
        yield Form(tag + "_groups", "ConvTranspose", 11, [x, w, b], fixed=fixed, group=2, strides=[2, 3],
                   pads=[1, 0, 2, 1], output_padding=[1, 2])
        yield Form(tag + "_dilated", "ConvTranspose", 11, [x, w], fixed=fixed[:1], dilations=[2, 3], pads=[2, 1, 0, 3])
        yield Form(tag + "_same_upper", "ConvTranspose", 11, [x, w], fixed=fixed[:1], auto_pad="SAME_UPPER",
                   strides=[2, 2])
        yield Form(tag + "_1d", "ConvTranspose", 11, [f32(2, 3, 9), f32(3, 5, 4), f32(5)], fixed=fixed, strides=[3],
                   pads=[1, 1])
        yield Form(tag + "_3d", "ConvTranspose", 11, [f32(1, 4, 3, 4, 5), f32(4, 2, 2, 3, 2), f32(4)], fixed=fixed,
                   group=2, strides=[2, 1, 2], pads=[0, 1, 1, 1, 0, 0])
        yield Form(tag + "_blocks", "ConvTranspose", 11, [f32(1, 24, 70, 65) / 50, f32(24, 16, 4, 4), f32(16) / 50],
                   fixed=fixed, strides=[2, 2], pads=[1, 1, 1, 1])


def resize_forms():
    x = f32(1, 3, 9, 11) / 8
    for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for sizes in ((13, 20), (4, 5), (18, 22)):
            name = f"{coordinates}_{sizes[0]}x{sizes[1]}"
            to = i64(1, 3, *sizes)
            for mode in ("linear", "cubic"):
                yield Form(f"resize_{mode}_{name}", "Resize", 13, [x, None, None, to], fixed=(3,), mode=mode,
                           coordinate_transformation_mode=coordinates)
            for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
                yield Form(f"resize_nearest_{rounding}_{name}", "Resize", 13, [x, None, None, to], fixed=(3,),
                           nearest_mode=rounding, coordinate_transformation_mode=coordinates)
    scales = np.array([1, 1, 2.5, 1.7], np.float32)
    for mode in ("nearest", "linear"):
        yield Form(f"resize_10_{mode}", "Resize", 10, [x, scales], fixed=(1,), mode=mode)
        yield Form(f"upsample_9_{mode}", "Upsample", 9, [x, scales], fixed=(1,), mode=mode)
        yield Form(f"upsample_7_{mode}", "Upsample", 7, [x], mode=mode, scales=[1.0, 1.0, 2.0, 3.0])
    yield Form("resize_excludes_outside", "Resize", 11, [x, f32(0), scales], fixed=(1, 2), mode="cubic",
               exclude_outside=1, cubic_coeff_a=-0.5)
    roi = np.array([0, 0, 0.1, 0.3, 1, 1, 0.8, 1.2], np.float32)
    yield Form("resize_crop", "Resize", 13, [x, roi, None, i64(1, 3, 5, 6)], fixed=(1, 3), mode="linear",
               coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.5)


def indexed_forms():
    x = f32(4, 5, 6)
    rows = np.array([[3, -1], [0, 2], [1, 1]], np.int64)
    yield Form("topk_smallest", "TopK", 11, [x, i64(3)], 2, (1,), axis=1, largest=0)
    yield Form("topk_int64", "TopK", 11, [RNG.integers(-2**62, 2**62, (3, 9)), i64(4)], 2, (1,))
    yield Form("topk_ties", "TopK", 11, [np.ones((2, 7), np.float32), i64(3)], 2, (1,))
    yield Form("gathernd", "GatherND", 12, [x, rows])
    yield Form("gathernd_batch", "GatherND", 12, [x, rows[:, :1].repeat(2, 0)[:4]], batch_dims=1)
    yield Form("gatherelements", "GatherElements", 11, [x, RNG.integers(-5, 5, (4, 3, 6))], axis=1)
    yield Form("scatternd", "ScatterND", 11, [x, rows, f32(3, 6)])
    for reduction in ("none", "add", "mul", "max", "min"):
        yield Form(f"scatterelements_{reduction}", "ScatterElements", 18,
                   [x, RNG.permutation(5)[None, :, None].repeat(2, 0)[:, :4], f32(2, 4, 1)], axis=1,
                   reduction=reduction)
    for equation, shapes in (("bhid,bhjd->bhij", ((2, 3, 4, 5), (2, 3, 6, 5))), ("...ij,...jk", ((3, 4, 5), (1, 5, 2))),
                             ("ii->i", ((4, 4),)), ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5))), ("abc->ca", ((2, 3, 4),)),
                             ("i,j", ((3,), (4,))), ("ij->", ((3, 4),))):
        name = "".join(c if c.isalnum() else "_" for c in equation)
        yield Form(f"einsum_{name}", "Einsum", 12, [f32(*s) for s in shapes], equation=equation)
    yield Form("cumsum", "CumSum", 14, [x, np.array(-2, np.int32)], exclusive=1, reverse=1)
    yield Form("trilu", "Trilu", 14, [x, np.array(-1, np.int64)], fixed=(1,), upper=0)
    yield Form("lp_pool", "LpPool", 11, [f32(1, 2, 9, 8)], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], p=3)
    grid = np.clip(f32(2, 5, 4, 2), -1.3, 1.3)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (0, 1):
                yield Form(f"gridsample_{mode}_{padding}_{align}", "GridSample", 16, [f32(2, 3, 6, 7) / 8, grid], mode=mode,
                           padding_mode=padding, align_corners=align)
    boxes = np.array([[0.5, 1, 5, 6], [2, 0, 9, 7.5]], np.float32)
    for mode in ("avg", "max"):
        yield Form(f"roialign_{mode}", "RoiAlign", 16, [f32(2, 3, 8, 9), boxes, i64(1, 0)], mode=mode, output_height=3,
                   output_width=2, spatial_scale=0.8, coordinate_transformation_mode="output_half_pixel")


def wide_and_half_forms():
    for dtype in (np.float16, np.float64):
        x, y = f32(3, 4).astype(dtype), f32(4).astype(dtype)
        for op in ("Add", "Sub", "Mul", "Div", "Max"):
            yield Form(f"{op.lower()}_{dtype.__name__}", op, 13, [x, y])
        for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Sqrt", "Erf", "ReduceMean", "Softmax"):
            if dtype is np.float16 or op not in ("Softmax", "Erf"):
                yield Form(f"{op.lower()}_{dtype.__name__}", op, 13, [np.abs(x)])
    yield Form("matmul_float16", "MatMul", 13, [f32(5, 6).astype(np.float16), f32(6, 7).astype(np.float16)], fixed=(1,))
    yield Form("conv_float16", "Conv", 11, [f32(1, 3, 8, 8).astype(np.float16), f32(4, 3, 3, 3).astype(np.float16)],
               fixed=(1,), pads=[1, 1, 1, 1])


def runtime_cases(folder):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # DynamicQuantizeLSTM gives the rows of each thread a scale
    for source in (pool_and_conv_forms, product_forms, lstm_forms, quant_lstm_forms,
                   quantize_forms, integer_forms, microsoft_forms, old_forms, gru_and_rnn_forms,
                   conv_transpose_forms, resize_forms, indexed_forms, wide_and_half_forms):
        for form in source():
            names = [f"x{i}" if v is not None else "" for i, v in enumerate(form.inputs)]
            if isinstance(form.outputs, list):  # the slots that are given
                outs = [f"y{i}" if i in form.outputs else "" for i in range(max(form.outputs) + 1)]
            else:
                outs = [f"y{i}" for i in range(form.outputs)]
            domain, _, op = form.op.rpartition(".")
            node = helper.make_node(op, names, outs, domain=domain, **form.attributes)
            free = [i for i, v in enumerate(form.inputs) if v is not None and i not in form.fixed]
            graph = helper.make_graph(
                [node], form.name,
                [helper.make_tensor_value_info(
                    names[i], helper.np_dtype_to_tensor_dtype(form.inputs[i].dtype),
                    form.inputs[i].shape) for i in free],
                [helper.make_empty_tensor_value_info(o) for o in outs if o],
                [numpy_helper.from_array(form.inputs[i], names[i]) for i in form.fixed
                 if i < len(form.inputs) and form.inputs[i] is not None])
            opsets = [helper.make_opsetid("", 17 if domain else form.opset)]
            if domain:
                opsets.append(helper.make_opsetid(domain, form.opset))
            model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
            session = ort.InferenceSession(model.SerializeToString(), options)
            results = session.run(None, {names[i]: form.inputs[i] for i in free})
            yield write(folder, "ort_" + form.name, model, [form.inputs[i] for i in free], results)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # numpy's, of cases that overflow on purpose
    lines = list(onnx_cases(folder)) + list(runtime_cases(folder))
    (folder / "cases.txt").write_text("".join(line + "\n" for line in sorted(lines)))


if __name__ == "__main__":
    main()
