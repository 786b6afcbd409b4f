"""Initializers: how large the first weights are."""

from __future__ import annotations

from math import sqrt
from typing import get_args

import numpy as np
import pytest

from engine import spec
from engine.initializers import HE, INITIALIZERS, initialize
from engine.network import Architecture, Inputs

he_normal, glorot_uniform = INITIALIZERS["he_normal"], INITIALIZERS["glorot_uniform"]

PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def filled(initializer, dtype=np.float64, shape=(300, 200), seed=0):
    weight = np.empty(shape, dtype=dtype)
    initializer(weight, np.random.default_rng(seed))
    return weight


@PRECISIONS
def test_he_normal_has_the_deviation_of_the_paper(dtype):
    weight = filled(he_normal, dtype)
    assert weight.dtype == dtype
    assert weight.std() == pytest.approx(sqrt(2 / 200), rel=0.01)
    assert weight.mean() == pytest.approx(0, abs=5 * sqrt(2 / 200 / weight.size))
    assert np.abs(weight).max() > 3.5 * weight.std()  # a bell has no edges


@PRECISIONS
def test_glorot_uniform_has_the_bounds_of_the_paper(dtype):
    weight, bound = filled(glorot_uniform, dtype), sqrt(6 / (200 + 300))
    assert weight.dtype == dtype
    assert -bound <= weight.min() < -0.999 * bound
    assert 0.999 * bound < weight.max() <= bound
    assert weight.mean() == pytest.approx(0, abs=5 * bound / sqrt(3 * weight.size))
    assert weight.std() == pytest.approx(bound / sqrt(3), rel=0.01)


@pytest.mark.parametrize("activation", get_args(spec.Activation))
def test_the_activation_chooses_the_initializer(activation):
    expected = he_normal if activation in HE else glorot_uniform
    if activation == "selu":
        expected = INITIALIZERS["lecun_normal"]
    weight = filled(lambda weight, rng: initialize(weight, None, activation, rng))
    np.testing.assert_array_equal(weight, filled(expected))


@pytest.mark.parametrize("initializer", [he_normal, glorot_uniform])
def test_the_seed_decides(initializer):
    np.testing.assert_array_equal(filled(initializer, seed=1), filled(initializer, seed=1))
    assert (filled(initializer, seed=1) != filled(initializer, seed=2)).any()


@pytest.mark.parametrize("initializer", [he_normal, glorot_uniform])
def test_a_batch_neither_fades_nor_explodes(initializer, rng):
    x = rng.standard_normal((100, 256))
    for seed in range(20):
        weight = filled(initializer, shape=(256, 256), seed=seed)
        x = np.maximum(x @ weight, 0) if initializer is he_normal else x @ weight
    assert 0.2 < sqrt((x**2).mean()) < 5


def test_the_vector_of_unknown_levels_begins_in_the_middle_of_the_others(rng):
    embedding = spec.NetworkSpec(layers=[spec.EmbeddingLayer(dimensions=4)])
    network = Architecture(embedding, Inputs((2,), {1: 500}), 1, "identity").build("float64")
    network.initialize(rng)
    vectors = network.tensors()["layers.0.vectors_1"]
    assert not vectors[0].any()
    assert vectors[1:].all()
    assert abs(vectors.mean()) < 0.1
