"""Our engine in this process, through the library that tests/harness/runner.c becomes."""

import ctypes
import os
import pathlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))

MAX_RANK = 8
DTYPES = {  # values of ONNX TensorProto.DataType
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
    9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}
CODES = {np.dtype(v): k for k, v in DTYPES.items()}


class EngineError(Exception):
    pass


class _Type(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32), ("dim", ctypes.c_int64 * MAX_RANK),
    ]


def _library():
    lib = ctypes.CDLL(str(BUILD / "tests" / "librunner.so"))
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    types = ctypes.POINTER(_Type)
    signatures = {
        "runner_load": (pointer, [pointer, size, text]),
        "runner_plan": (
            ctypes.c_int,
            [pointer, types, size] + [ctypes.c_int, ctypes.c_uint, ctypes.c_int, ctypes.c_int, text],
        ),
        "runner_tensor": (pointer, [pointer, ctypes.c_int, size, types]),
        "runner_count": (size, [pointer, ctypes.c_int]),
        "runner_input_name": (text, [pointer, size]),
        "runner_run": (ctypes.c_int, [pointer, text]),
        "runner_time": (
            ctypes.c_int,
            [pointer, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_double), text],
        ),
        "runner_print": (size, [pointer, ctypes.c_char_p, size]),
        "runner_free": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(lib, name).restype = result
        getattr(lib, name).argtypes = arguments
    return lib


class Model:
    """A loaded model. Plans are made for the shapes of the inputs that run() and plan() are given."""

    lib = None

    def __init__(self, model):
        """model: a path, or the bytes of one."""
        Model.lib = Model.lib or _library()
        self.message = ctypes.create_string_buffer(512)
        data = model if isinstance(model, bytes) else pathlib.Path(model).read_bytes()
        self.runner = self.lib.runner_load(data, len(data), self.message)
        if not self.runner:
            self.fail()
        self.planned = None

    def __del__(self):
        if getattr(self, "runner", None):
            self.lib.runner_free(self.runner)

    def fail(self):
        raise EngineError(self.message.value.decode())

    def check(self, code):
        if code != 0:
            self.fail()

    def plan(self, feed, threads=1, fuse=True, cpu_mask=0, last=False):
        """feed: a dict of inputs, in the model's order. No plan can be made after the last one."""
        arrays = list(feed.values())
        types = (_Type * max(1, len(arrays)))()
        for one, array in zip(types, arrays):
            one.dtype, one.rank = CODES[array.dtype], array.ndim
            one.dim[: array.ndim] = array.shape
        self.check(
            self.lib.runner_plan(
                self.runner, types, len(arrays), threads, cpu_mask, not fuse, last, self.message
            )
        )
        self.inputs = [self.tensor(False, i) for i in range(self.lib.runner_count(self.runner, 0))]
        names = [
            self.lib.runner_input_name(self.runner, i).decode() for i in range(len(self.inputs))
        ]
        assert names == list(feed), (names, list(feed))
        self.fill(feed)

    def fill(self, feed):
        for to, array in zip(self.inputs, feed.values()):
            to[...] = array

    def tensor(self, output, i):
        """A view of the plan's own memory."""
        kind = _Type()
        data = self.lib.runner_tensor(self.runner, output, i, ctypes.byref(kind))
        shape, dtype = tuple(kind.dim[: kind.rank]), np.dtype(DTYPES[kind.dtype])
        count = int(np.prod(shape, dtype=np.int64))
        if count == 0:
            return np.empty(shape, dtype)
        raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(data)
        return np.frombuffer(raw, dtype).reshape(shape)

    def run(self):
        """The outputs for what the inputs hold, as copies."""
        self.check(self.lib.runner_run(self.runner, self.message))
        count = self.lib.runner_count(self.runner, 1)
        return [self.tensor(True, i).copy() for i in range(count)]

    def time(self, runs, cpu=False):
        """Seconds that so many runs take; with cpu those that this thread works in them."""
        seconds = ctypes.c_double()
        self.check(
            self.lib.runner_time(self.runner, runs, cpu, ctypes.byref(seconds), self.message)
        )
        return seconds.value

    def steps(self):
        """The plan as text: one line a step."""
        size = self.lib.runner_print(self.runner, None, 0) + 1
        text = ctypes.create_string_buffer(size)
        self.lib.runner_print(self.runner, text, size)
        return text.value.decode()
