"""Layers that read sequences: padding, directions, pooling, and how far a gradient goes back."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from engine import spec
from engine.network import Architecture, Inputs
from engine.wires import Workspace

STEPS, WIDTH = 6, 3
KINDS = [spec.RnnLayer, spec.GruLayer, spec.LstmLayer]
EXACT = {"rtol": 1e-12, "atol": 1e-12}

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def rng():
    return np.random.default_rng(1990)


def network(*layers, steps=STEPS, width=WIDTH, masked=False, outputs=2, dtype=np.float64):
    """A network with drawn weights and biases; the same for any number of steps."""
    inputs = Inputs((width,)).repeated(steps, masked=masked)
    built = Architecture(spec.NetworkSpec(layers=list(layers)), inputs, outputs, "identity").build(
        dtype
    )
    rng = np.random.default_rng(0)
    built.initialize(rng)
    for name, tensor in built.tensors().items():
        if "bias" in name:
            tensor[:] = rng.standard_normal(tensor.shape) / 2
    return built


def rows(x, lengths=None):
    """Rows as a network is fed them, of examples of shape (examples, steps, width)."""
    parts = [x.reshape(len(x), -1), np.ones((len(x), 1))]
    if lengths is not None:
        parts.insert(1, np.arange(x.shape[1]) < np.array(lengths)[:, None])
    return np.concatenate(parts, axis=1).astype(x.dtype)


def input_gradient(net, fed, d_logits):
    """The gradient at the inputs, of shape (steps, width, examples)."""
    bound = net.bind(Workspace(net.numbers.dtype, len(fed), learns=True), to_input=True)
    bound.forward(fed)
    bound.logits.gradient[:] = d_logits
    bound.backward()
    steps, width = net.architecture.inputs.sequence
    return bound.source.gradient[: steps * width].reshape(steps, width, -1)


@pytest.mark.parametrize("both", [False, True])
def test_vectors_of_codes_are_read_as_a_map_of_which_level_is_there(kind, both, rng):
    """An embedding is a linear map of one-hot levels, at every step the same."""
    levels, dimensions, lengths = 4, 2, [STEPS, 1, 3, 0, 5]
    above = kind(units=5, bidirectional=both)
    layers = [spec.EmbeddingLayer(dimensions=dimensions), above]
    inputs = Inputs((WIDTH,), {1: levels}).repeated(STEPS, masked=True)
    embedded = Architecture(spec.NetworkSpec(layers=layers), inputs, 2, "identity").build("float64")
    embedded.initialize(rng)
    embedded.parameters[:] += rng.standard_normal(embedded.parameters.size) / 5
    one_hot = network(above, width=WIDTH - 1 + levels, masked=True)
    own, vectors = embedded.tensors(), embedded.tensors()["layers.0.vectors_1"]
    for name, tensor in one_hot.tensors().items():
        before, place, kept = name.split(".")
        same = own[f"{before}.{int(place) + 1}.{kept}"]
        if name.endswith("weight") and place == "0":
            numbers, of_vectors = same[..., : WIDTH - 1], same[..., WIDTH - 1 :]
            same = np.concatenate([numbers, of_vectors @ vectors.T], axis=-1)
        tensor[:] = same
    numbers = rng.standard_normal((5, STEPS, WIDTH - 1))
    codes = rng.integers(0, levels, (5, STEPS))
    x = np.concatenate([numbers[..., :1], codes[..., None], numbers[..., 1:]], axis=2)
    hot = np.concatenate([numbers, np.eye(levels)[codes]], axis=2)
    found = embedded.predict(rows(x, lengths))
    np.testing.assert_allclose(found, one_hot.predict(rows(hot, lengths)), **EXACT)


POOLING = ["last", "mean", "max"]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("pooling", POOLING)
def test_padding_is_as_if_it_were_not_there(kind, pooling, both, rng):
    below = kind(units=4, bidirectional=both, return_sequences=True)
    layers = [below, kind(units=5, bidirectional=both, pooling=pooling)]
    padded = network(*layers, steps=STEPS + 4, masked=True)
    x = rng.standard_normal((3, STEPS + 4, WIDTH))
    found = padded.predict(rows(x, [STEPS, 1, STEPS + 4]))
    for example, length in enumerate([STEPS, 1, STEPS + 4]):
        alone = network(*layers, steps=length)
        expected = alone.predict(rows(x[example : example + 1, :length]))
        np.testing.assert_allclose(found[example], expected[0], **EXACT)


@pytest.mark.parametrize("pooling", POOLING)
def test_a_sequence_of_no_steps_is_answered_by_the_state_before_the_first(kind, pooling, rng):
    net = network(kind(units=4, bidirectional=True, pooling=pooling), masked=True)
    found = net.predict(rows(rng.standard_normal((2, STEPS, WIDTH)), [0, STEPS]))
    np.testing.assert_array_equal(found[0], net.tensors()["layers.1.bias"])
    d_logits = np.ones((2, 2))
    fed = rows(rng.standard_normal((2, STEPS, WIDTH)), [0, STEPS])
    d_x = input_gradient(net, fed, d_logits)
    assert not d_x[:, :, 0].any()
    assert d_x[:, :, 1].all()


def test_what_reads_from_the_end_is_what_reads_a_sequence_turned_round(kind, rng):
    net = network(kind(units=4, bidirectional=True))
    turned = network(kind(units=4, bidirectional=True))
    own, other = net.tensors(), turned.tensors()
    for name, tensor in own.items():
        if name.startswith("layers.0.reverse_"):
            here = name.replace("reverse_", "")
            other[here][:], other[name][:] = tensor, own[here]
    other["layers.1.weight"][:] = np.roll(own["layers.1.weight"], 4, axis=1)
    x = rng.standard_normal((5, STEPS, WIDTH))
    np.testing.assert_allclose(net.predict(rows(x)), turned.predict(rows(x[:, ::-1])), **EXACT)


def test_steps_that_are_answered_are_0_where_they_are_padding(kind, rng):
    layer = kind(units=4, bidirectional=True, return_sequences=True)
    net = network(layer, masked=True)
    bound = net.bind(Workspace(np.float64, 2))
    bound.forward(rows(rng.standard_normal((2, STEPS, WIDTH)), [2, 5]))
    answered = bound.layers["layers.0"].output.value.reshape(STEPS, 8, 2)
    there = np.arange(STEPS)[:, None] < [2, 5]
    np.testing.assert_array_equal((answered != 0).all(axis=1), there)
    np.testing.assert_array_equal((answered != 0).any(axis=1), there)


def test_a_gradient_goes_back_through_as_many_steps_as_it_may(kind, rng):
    x, d_logits = rng.standard_normal((2, STEPS, WIDTH)), rng.standard_normal((2, 2))
    for masked, lengths in ((False, [STEPS, STEPS]), (True, [4, STEPS])):
        fed = rows(x, lengths if masked else None)
        whole, cut, longer = (
            input_gradient(network(kind(units=4, truncation=k), masked=masked), fed, d_logits)
            for k in (None, 2, STEPS + 1)
        )
        np.testing.assert_array_equal(whole, longer)
        for example, length in enumerate(lengths):
            np.testing.assert_array_equal(
                cut[length - 2 :, :, example], whole[length - 2 :, :, example]
            )
            assert not cut[: length - 2, :, example].any()


def test_a_gradient_goes_back_from_either_end(kind, rng):
    x, d_logits = rng.standard_normal((2, STEPS, WIDTH)), rng.standard_normal((2, 2))
    layer = kind(units=4, bidirectional=True, truncation=1)
    for masked, lengths in ((False, [STEPS, STEPS]), (True, [4, STEPS])):
        fed = rows(x, lengths if masked else None)
        d_x = input_gradient(network(layer, masked=masked), fed, d_logits)
        for example, length in enumerate(lengths):
            reached = d_x[:, :, example].any(axis=1)
            assert np.flatnonzero(reached).tolist() == [0, length - 1]


def test_where_all_steps_are_answered_each_block_of_them_learns_for_itself(kind, rng):
    x, d_logits = rng.standard_normal((2, STEPS, WIDTH)), rng.standard_normal((2, 2))
    layer = kind(units=4, return_sequences=True)
    cut = input_gradient(network(layer.model_copy(update={"truncation": 2})), rows(x), d_logits)
    for first in range(0, STEPS, 2):
        net, block = network(layer), slice(first, first + 2)
        weight = net.tensors()["layers.1.weight"].reshape(2, STEPS, 4)
        weight[:, :first], weight[:, first + 2 :] = 0, 0
        found = input_gradient(net, rows(x), d_logits)
        np.testing.assert_allclose(cut[block], found[block], **EXACT)


def test_a_training_pass_and_a_prediction_agree(kind, rng):
    net = network(kind(units=7, bidirectional=True, pooling="max"), masked=True)
    fed = rows(rng.standard_normal((9, STEPS, WIDTH)), rng.integers(0, STEPS + 1, 9))
    bound = net.bind(Workspace(np.float64, 9, learns=True))
    for _ in range(2):
        bound.forward(fed)
    np.testing.assert_allclose(bound.logits.value.T, net.predict(fed), **EXACT)


def test_first_weights_keep_the_length_of_a_state_and_a_cell_what_it_holds(kind):
    net = Architecture(
        spec.NetworkSpec(layers=[kind(units=5, bidirectional=True)]),
        Inputs((WIDTH,)).repeated(STEPS, masked=False),
        2,
        "identity",
    ).build(np.float64)
    net.initialize(np.random.default_rng(0))
    tensors = net.tensors()
    for prefix in ("layers.0.", "layers.0.reverse_"):
        for recurrent in tensors[f"{prefix}recurrent"]:
            np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(5), atol=1e-12)
        biases = tensors[f"{prefix}bias"].copy()
        if kind is spec.LstmLayer:
            assert (biases[1] == 1).all()
            biases[1] = 0
        assert not biases.any()
    gates = {spec.RnnLayer: 1, spec.GruLayer: 3, spec.LstmLayer: 4}[kind]
    assert tensors["layers.0.weight"].shape == (gates, 5, WIDTH)
    marked = net.with_numbers(net.numbers)
    marked.parameters[:] = net.decayed()
    for name, tensor in marked.tensors().items():
        assert (tensor == (0 if "bias" in name else 1)).all(), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("width", "units"), [(2, 1), (3, 5), (8, 64), (12, 33), (400, 16), (3, 200)]
)
def test_a_sequence_is_answered_to_the_same_bits_alone_and_among_any_others(
    kind, width, units, dtype, rng
):
    net = network(kind(units=units), steps=3, width=width, dtype=dtype)
    fed = rows(rng.standard_normal((300, 3, width)).astype(dtype))
    whole, among = net.predict(fed), np.testing.assert_array_equal
    if "SkylakeX" not in {library.get("architecture") for library in threadpool_info()}:
        among = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    for count in (1, 2, 3, 8, 31, 64, 257):
        for first in (5, len(fed) - count):
            among(net.predict(fed[first : first + count]), whole[first : first + count])
