#!/usr/bin/env python3
"""Writes valid/ and invalid/: array files as NumPy makes them, and broken ones made by hand.

The files are committed; run this again only to add one. Arrays hold small counted values, so that
the tests can say what they expect.
"""
import gzip
import io
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
VALID = HERE / "valid"
INVALID = HERE / "invalid"
IMAGES = np.arange(3 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 2, 2, 3)
LABELS = np.array([2, 0, 1])


def npy(array, version=None):
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(out, np.asanyarray(array), version=version)
    return out.getvalue()


def npy_with(header, data=b"", version=1):
    text = header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def archive(members, method=zipfile.ZIP_STORED, force_zip64=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            with z.open(info, "w", force_zip64=force_zip64) as f:
                f.write(data)
    return out.getvalue()


def idx(code, array):
    dims = b"".join(struct.pack(">I", d) for d in array.shape)
    return bytes([0, 0, code, array.ndim]) + dims + array.tobytes()


def valid():
    for code in "f2 f4 f8 u1 i1 u2 i2 u4 i4 u8 i8 b1".split():
        array = np.arange(6).reshape(3, 2) % (2 if code == "b1" else 100)
        (VALID / f"{code}.npy").write_bytes(npy(array.astype(f"<{code}")))
    (VALID / "big_endian.npy").write_bytes(npy(np.arange(6).reshape(3, 2).astype(">i4")))
    (VALID / "version2.npy").write_bytes(npy(np.arange(6, dtype="<f4").reshape(3, 2), (2, 0)))
    (VALID / "version3.npy").write_bytes(npy(np.arange(6, dtype="<f4").reshape(3, 2), (3, 0)))
    (VALID / "keys_in_another_order.npy").write_bytes(
        npy_with('{"shape":(3,2),"fortran_order":False,"descr":"<f4"}',
                 np.arange(6, dtype="<f4").tobytes()))
    members = [("images.npy", npy(IMAGES)), ("labels.npy", npy(LABELS))]
    (VALID / "stored.npz").write_bytes(archive(members))
    (VALID / "deflated.npz").write_bytes(archive(members, zipfile.ZIP_DEFLATED))
    (VALID / "zip64.npz").write_bytes(archive(members, force_zip64=True))
    (VALID / "commented.npz").write_bytes(archive(members)[:-2] + b"\x05\0hello")
    (VALID / "y.npz").write_bytes(archive([("y.npy", npy(LABELS.astype("u1"))),
                                           ("a/b:0.npy", npy(IMAGES))]))
    types = [(0x08, ">u1"), (0x09, ">i1"), (0x0b, ">i2"), (0x0c, ">i4"), (0x0d, ">f4"),
             (0x0e, ">f8")]
    for code, dtype in types:
        name = f"{dtype[1:]}.idx"
        (VALID / name).write_bytes(idx(code, np.arange(6).reshape(3, 2).astype(dtype)))
    whole = idx(0x08, np.arange(6).reshape(3, 2).astype("u1"))
    (VALID / "members.idx.gz").write_bytes(
        gzip.compress(whole[:7], mtime=0) + gzip.compress(whole[7:], mtime=0))
    (VALID / "labels.idx").write_bytes(idx(0x08, LABELS.astype("u1")))


def invalid():
    def write(name, data):
        (INVALID / name).write_bytes(data)

    good = npy(np.arange(6, dtype="<f4").reshape(3, 2))
    write("empty.npy", b"")
    write("magic.npy", b"\x93NUMPX\1\0" + good[8:])
    write("version9.npy", b"\x93NUMPY\x09\0" + good[8:])
    write("cut_header.npy", good[:40])
    write("cut_data.npy", good[:-5])
    write("longer.npy", good + b"xyz")
    write("long_header.npy", b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 20) + b" " * 100)
    write("fortran.npy", npy(np.asfortranarray(np.arange(6, dtype="<f4").reshape(3, 2))))
    write("objects.npy", npy_with("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"c"))
    write("complex.npy", npy(np.zeros((3, 2), "<c8")))
    write("structured.npy", npy(np.zeros(3, dtype=[("a", "<f4"), ("b", "<i4")])))
    write("scalar.npy", npy(np.float32(3)))
    write("no_samples.npy", npy(np.zeros((0, 4), "<f4")))
    shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s)}"
    write("overflow.npy", npy_with(shape % "461168601842738790, 461168601842738790"))
    write("huge.npy", npy_with(shape % "1000000000, 1000"))
    write("rank9.npy", npy_with(shape % "1,1,1,1,1,1,1,1,1", b"\0" * 4))
    write("negative.npy", npy_with(shape % "-3, 2", b"\0" * 24))
    write("no_shape.npy", npy_with("{'descr': '<f4', 'fortran_order': False}"))
    write("unknown_key.npy", npy_with("{'descr': '<f4', 'x': 1}"))
    write("code.npy", npy_with("{'descr': __import__('os').system('true')}"))

    images, labels = ("images.npy", npy(IMAGES)), ("labels.npy", npy(LABELS))
    stored = archive([images, labels])
    deflated = archive([images, labels], zipfile.ZIP_DEFLATED)
    write("not_zip.npz", b"hello")
    write("cut.npz", stored[:-30])
    write("pickle.npz", archive([("images.pkl", b"x")]))
    write("empty.npz", archive([]))
    write("only_labels.npz", archive([labels]))
    write("two.npz", archive([images, ("labels.npy", npy(np.zeros(2, int)))]))
    write("lengths.npz", archive([images, ("mask.npy", npy(np.zeros((2, 1), "u1")))]))
    write("float_labels.npz", archive([images, ("labels.npy", npy(np.zeros(3)))]))
    write("one_hot.npz", archive([images, ("labels.npy", npy(np.eye(3, dtype=int)))]))
    write("negative_label.npz", archive([images, ("labels.npy", npy(np.array([0, -1, 2])))]))
    write("large_label.npz",
          archive([images, ("labels.npy", npy(np.array([0, 1, 2**63 + 1], "u8")))]))
    write("bzip2.npz", archive([images], zipfile.ZIP_BZIP2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write("twice.npz", archive([images, images]))
    at = stored.index(IMAGES.tobytes())
    write("crc.npz", stored[:at] + b"\x07" + stored[at + 1:])
    write("encrypted.npz", stored.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"))
    write("renamed.npz", stored.replace(b"images.npy", b"imagez.npy", 1))
    write("offset.npz", stored[:-6] + struct.pack("<I", 1 << 30) + stored[-2:])
    write("damaged.npz", deflated[:40] + b"\xff" + deflated[41:])

    whole = idx(0x08, IMAGES)
    write("magic.idx", b"\1" + whole[1:])
    write("type.idx", whole[:2] + b"\x0a" + whole[3:])
    write("rank0.idx", whole[:3] + b"\0")
    write("cut_dims.idx", whole[:10])
    write("cut.idx", whole[:-1])
    write("longer.idx", whole + b"\0\0")
    packed = gzip.compress(whole, mtime=0)
    write("cut.idx.gz", packed[:-12])
    write("cut_trailer.idx.gz", packed[:-4])
    write("checksum.idx.gz", packed[:-8] + b"\0\0\0\0" + packed[-4:])
    write("longer.idx.gz", packed + b"trailing")
    write("more.idx.gz", gzip.compress(whole + b"\0", mtime=0))
    write("bomb.idx.gz", gzip.compress(whole[:4] + b"\0\1\0\0" * 2 + b"\0\0\1\0" * 2, mtime=0))
    write("huge.idx", whole[:4] + b"\xff\xff\xff\xff" * 4)


def main():
    for folder in VALID, INVALID:
        folder.mkdir(exist_ok=True)
    valid()
    invalid()


if __name__ == "__main__":
    main()
