"""Layers that read sequences, through the public door: trained, told and asked as others."""

from __future__ import annotations

import numpy as np
import pytest
from onnxruntime import InferenceSession
from safetensors.numpy import load

from tests.app.api.callers import csv, refusal
from tests.app.api.test_sequences import ADAM, WINDOW, predicted, sales, season, shapes, window

WHOLE = {"order": "step", "group": "who"}
STACK = {
    "layers": [
        {"type": "gru", "units": 4, "bidirectional": True, "return_sequences": True},
        {"type": "dropout", "rate": 0.1},
        {"type": "lstm", "units": 3, "pooling": "mean", "truncation": 50},
    ]
}
RUN = {
    "network": STACK,
    "optimizer": ADAM,
    "training": {"epochs": 20, "batch_size": 8},
    "validation": {"fraction": 0.25},
}


def walk(numbers):
    return {"sequence": [[float(x)] for x in numbers]}


@pytest.fixture(scope="module")
def job(library):
    """A job that learnt to tell series of 3 to 7 steps apart."""
    found = library.trained(library.dataset(shapes()), "way", sequence=WHOLE, **RUN)
    assert found["status"] == "succeeded", found
    return found


def test_it_learns_series_of_any_length_and_answers_each_as_if_alone(library, job):
    assert job["metrics"]["accuracy"] == 1.0
    walks = [walk([0]), walk(range(7)), walk([0, -1, -2, -3]), walk([0, 1, 2])]
    found = predicted(library.predict(job["model"], walks))
    assert [one["label"] for one in found[1:]] == ["up", "down", "up"]
    for sent, answer in zip(walks, found, strict=True):
        assert predicted(library.predict(job["model"], [sent])) == [answer]


def test_what_is_shown_of_it_trains_the_same_network_again(library, job):
    spec = dict(job["spec"])
    again = library.trained(spec.pop("dataset"), spec.pop("target"), **spec)
    assert again["metrics"] == job["metrics"]
    weights, same = (
        load(library.get(f"/v1/models/{each['model']}/weights").data) for each in (job, again)
    )
    assert weights.keys() == same.keys()
    for name, tensor in weights.items():
        np.testing.assert_array_equal(tensor, same[name])
    shapes = {name: t.shape for name, t in weights.items() if name.startswith("layers.0.reverse_")}
    assert shapes == {
        "layers.0.reverse_weight": (3, 4, 1),
        "layers.0.reverse_recurrent": (3, 4, 4),
        "layers.0.reverse_bias": (3, 4),
        "layers.0.reverse_recurrent_bias": (4,),
    }


def test_its_weights_as_onnx_tell_the_same_of_series_of_any_length(library, job):
    file = library.get(f"/v1/models/{job['model']}/weights?format=onnx").data
    walks = [[0, 1, 2], [0, -1, -2, -3], range(7)]
    x, lengths = np.full((3, 7), np.nan), np.array([len(numbers) for numbers in walks])
    for row, numbers in zip(x, walks, strict=True):
        row[: len(numbers)] = numbers
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"x": x, "lengths": lengths})
    expected = predicted(library.predict(job["model"], [walk(numbers) for numbers in walks]))
    assert labels.tolist() == [one["label"] for one in expected]
    of_each = [list(one["probabilities"].values()) for one in expected]
    np.testing.assert_allclose(probabilities, of_each, atol=1e-5)


WORDS = {-1: "down", 0: "level", 1: "up"}


def steps(series=40, seed=0):
    """Series that mostly rise, or mostly fall, of which the steps are told in words."""
    rng = np.random.default_rng(seed)
    lines = ["who,step,move,pace,way"]
    for n in range(series):
        slope = 1 if n % 2 else -1
        for step in range(int(rng.integers(3, 8))):
            move = WORDS[int(rng.choice([slope, slope, 0]))]
            lines.append(f"w{n},{step},{move},{rng.normal():.3f},{'up' if n % 2 else 'down'}")
    return csv(*lines)


def test_words_of_a_step_are_read_as_vectors(library):
    layers = [{"type": "embedding", "dimensions": 2}, {"type": "gru", "units": 6}]
    run = {**RUN, "network": {"layers": layers}}
    job = library.trained(library.dataset(steps()), "way", sequence=WHOLE, **run)
    assert job["status"] == "succeeded", job
    assert job["spec"]["columns"]["move"]["encode"] == "embedding"
    assert job["metrics"]["accuracy"] > 0.8
    walks = [["down", "down"], ["up", "level", "up"], ["level", None, "never seen"]]
    sent = [{"sequence": [{"move": word, "pace": 0.5} for word in walk]} for walk in walks]
    answers = predicted(library.predict(job["model"], sent))
    assert [one["label"] for one in answers[:2]] == ["down", "up"]
    weights = library.get(f"/v1/models/{job['model']}/weights")
    assert load(weights.data)["layers.0.vectors_0"].shape == (1 + len(WORDS), 2)
    file = library.get(f"/v1/models/{job['model']}/weights?format=onnx").data
    move, pace = np.full((3, 7), "", dtype=object), np.full((3, 7), 0.5)
    for row, walk in zip(move, walks, strict=True):
        row[: len(walk)] = [word or "" for word in walk]
    lengths = np.array([len(walk) for walk in walks])
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    _, probabilities = session.run(None, {"move": move, "pace": pace, "lengths": lengths})
    of_each = [list(one["probabilities"].values()) for one in answers]
    np.testing.assert_allclose(probabilities, of_each, atol=1e-5)


def test_it_forecasts_windows(library):
    network = {"layers": [{"type": "rnn", "units": 16}]}
    run = {"network": network, "optimizer": ADAM, "training": {"epochs": 40}}
    job = library.trained(library.dataset(sales()), "sold", sequence=WINDOW, **run)
    [found] = predicted(library.predict(job["model"], [window(100)]))
    np.testing.assert_allclose(found["value"], [season(n) for n in (112, 113, 114)], atol=8)


def test_folds_of_series_are_read(library):
    network = {"layers": [{"type": "lstm", "units": 3}]}
    run = {"network": network, "training": {"epochs": 1}, "validation": {"folds": 3}}
    job = library.trained(library.dataset(shapes(12)), "way", sequence=WHOLE, **run)
    assert job["status"] == "succeeded", job


@pytest.mark.parametrize(
    ("layers", "place", "reason"),
    [
        ([{"type": "gru", "units": 0}], "0/units", "expected at least 1, got 0"),
        ([{"type": "gru", "units": 2, "truncation": 0}], "0/truncation", "at least 1, got 0"),
        ([{"type": "lstm", "units": 2, "pooling": "sum"}], "0/pooling", "one of last, mean, max"),
        ([{"type": "rnn", "units": 2, "activation": "gelu"}], "0/activation", "one of tanh, relu"),
        (
            [{"type": "rnn", "units": 2, "pooling": "max", "return_sequences": True}],
            "0/pooling",
            "every step is answered; leave one of the two out",
        ),
        (
            [{"type": "lstm", "units": 2}, {"type": "gru", "units": 2}],
            "1",
            "behind recurrent layers with `return_sequences`",
        ),
        (
            [{"type": "residual", "layers": [{"type": "gru", "units": 2}]}],
            "0/layers/0/type",
            "unknown 'gru'",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_refused_where_it_stands(library, layers, place, reason):
    body = {"dataset": library.dataset(shapes(4)), "target": "way", "sequence": WHOLE}
    answer = library.post("/v1/jobs", json={**body, "network": {"layers": layers}})
    assert reason in refusal(answer, f"/network/layers/{place}")


def test_single_rows_are_no_sequence(library):
    dataset = library.dataset(csv("x,y", "1,a", "2,b", "3,a"))
    body = {"dataset": dataset, "target": "y", "network": {"layers": [{"type": "gru", "units": 2}]}}
    found = refusal(library.post("/v1/jobs", json=body), "/network/layers/0")
    assert found == (
        "it reads sequences, but single rows come in; say in `sequence` how they follow on each "
        "other"
    )
