"""Training by our engine in this process, through the library that tests/harness/trainer.c becomes."""

import ctypes
import os
import pathlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))
OPTIMIZERS = {"sgd": 0, "adam": 1, "adamw": 2}


class _Opts(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int32) for n in ("binary", "squares", "optimizer", "nesterov", "threads")] + [
        (n, ctypes.c_float)
        for n in (
            "soft", "hard", "temperature", "smoothing",
            "momentum", "beta1", "beta2", "epsilon", "weight_decay", "clip_norm",
        )
    ]


def _library():
    lib = ctypes.CDLL(str(BUILD / "tests" / "libtrainer.so"))
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    floats = ctypes.POINTER(ctypes.c_float)
    signatures = {
        "trainer_new": (pointer, [text, size, ctypes.POINTER(_Opts), text]),
        "trainer_rows": (ctypes.c_int, [pointer, ctypes.c_int64, text]),
        "trainer_input": (pointer, [pointer, text]),
        "trainer_run": (ctypes.c_int, [pointer, floats, floats, text]),
        "trainer_update": (None, [pointer, ctypes.c_double]),
        "trainer_weight": (floats, [pointer, text, ctypes.c_int, ctypes.POINTER(size)]),
        "trainer_free": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(lib, name).restype = result
        getattr(lib, name).argtypes = arguments
    return lib


class Trainer:
    lib = None

    def __init__(self, model, optimizer="sgd", **options):
        """model: the bytes of one. options: the fields of _Opts."""
        Trainer.lib = Trainer.lib or _library()
        self.message = ctypes.create_string_buffer(512)
        fields = {"hard": 1.0, "temperature": 1.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
        opts = _Opts(optimizer=OPTIMIZERS[optimizer], **{**fields, **options})
        self.trainer = self.lib.trainer_new(model, len(model), ctypes.byref(opts), self.message)
        if not self.trainer:
            raise RuntimeError(self.message.value.decode())

    def __del__(self):
        if getattr(self, "trainer", None):
            self.lib.trainer_free(self.trainer)

    def check(self, code):
        if code != 0:
            raise RuntimeError(self.message.value.decode())

    def run(self, inputs, labels=None, teacher=None):
        """Forward and backward of a batch: the loss and how many predictions are right."""
        self.check(self.lib.trainer_rows(self.trainer, len(inputs[0]), self.message))
        for name, array, dtype in [
            *((str(i), x, None) for i, x in enumerate(inputs)),
            ("labels", labels, np.int32),
            ("teacher", teacher, np.float32),
        ]:
            to = self.lib.trainer_input(self.trainer, name.encode())
            if to:
                array = np.ascontiguousarray(array, dtype)
                ctypes.memmove(to, array.ctypes.data, array.nbytes)
        loss, hits = ctypes.c_float(), ctypes.c_float()
        self.check(self.lib.trainer_run(self.trainer, ctypes.byref(loss), ctypes.byref(hits), self.message))
        return loss.value, hits.value

    def update(self, rate):
        self.lib.trainer_update(self.trainer, rate)

    def array(self, name, gradient=False):
        """A view of a parameter or running statistic, or of a gradient of the last run; None: not trained."""
        n = ctypes.c_size_t()
        at = self.lib.trainer_weight(self.trainer, name.encode(), int(gradient), ctypes.byref(n))
        return np.ctypeslib.as_array(at, (n.value,)) if at else None
